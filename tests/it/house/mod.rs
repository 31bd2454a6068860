//! The architecture: which crate and which file may use which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod source;
mod words;

/// The crates and their permitted dependencies. Tests may use the same; those of the root crate may also use the
/// schemas.
const ARROWS: [(&str, &[&str]); 6] = [
    ("qcc", &["qcc-ir", "qcc-frontends", "qcc-passes", "qcc-backends"]),
    ("qcc-frontends", &["qcc-ir", "qcc-formats"]),
    ("qcc-passes", &["qcc-ir"]),
    ("qcc-backends", &["qcc-ir", "qcc-formats"]),
    ("qcc-formats", &[]),
    ("qcc-ir", &[]),
];

/// The content of a manifest: the package's name, and the workspace's crates in each table of dependencies.
fn manifest(path: &Path) -> (String, BTreeMap<String, BTreeSet<String>>) {
    let text = fs::read_to_string(path).unwrap();
    let (mut name, mut section, mut uses) = (String::new(), "", BTreeMap::<String, BTreeSet<String>>::new());
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            continue;
        }
        let key = line.split(['=', '.', ' ']).next().unwrap_or("").trim_matches('"');
        if section == "package" && key == "name" {
            name = line.split('"').nth(1).unwrap().to_owned();
        } else if section.ends_with("dependencies") && section != "workspace.dependencies" && key.starts_with("qcc") {
            uses.entry(section.to_owned()).or_default().insert(key.to_owned());
        }
    }
    (name, uses)
}

fn manifests() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = text.lines().find_map(|l| l.strip_prefix("members = ")).expect("one line of workspace members");
    let members = members.split('"').skip(1).step_by(2);
    std::iter::once(root.join("Cargo.toml")).chain(members.map(|m| root.join(m).join("Cargo.toml"))).collect()
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let mut seen = BTreeSet::new();
    for path in manifests() {
        let (name, uses) = manifest(&path);
        let (_, allowed) =
            ARROWS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name} has no place here"));
        for (section, used) in uses {
            for to in used {
                let test_schemas = name == "qcc" && section == "dev-dependencies" && to == "qcc-formats";
                assert!(allowed.contains(&to.as_str()) || test_schemas, "{name} must not use {to} ([{section}])");
            }
        }
        seen.insert(name);
    }
    assert_eq!(seen, ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect(), "rooms that are gone");
}

#[test]
fn manifests_are_read() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("forbidden.toml");
    let text = r#"
        [package]
        name = "a"
        [dependencies]
        qcc-ir.workspace = true
        [dev-dependencies]
        qcc-passes = { path = "p" }"#;
    fs::write(&path, text).unwrap();
    let (name, uses) = manifest(&path);
    assert_eq!(name, "a");
    assert_eq!(uses["dependencies"], BTreeSet::from(["qcc-ir".to_owned()]));
    assert_eq!(uses["dev-dependencies"], BTreeSet::from(["qcc-passes".to_owned()]));
}

/// There are no circles of files: in each folder of a crate, no part (a file, or a folder with its content) depends on
/// itself through others. The folder's own file (`mod.rs`, `lib.rs`) may use its parts, and they may use what it
/// defines. A name counts as a use of the file that defines the item, whichever modules re-export it; a re-export
/// counts only if the file uses the name in its own code. Methods and test modules are ignored.
#[test]
fn no_file_uses_itself_by_way_of_others() {
    let mut told = Vec::new();
    for manifest in manifests() {
        let folder = manifest.parent().unwrap().join("src");
        let files = source::files(&folder, "rs");
        for file in ["lib.rs", "main.rs"].into_iter().filter(|file| files.contains_key(*file)) {
            let circles = circles::Crate::read(file, &files).circles();
            told.extend(circles.into_iter().map(|(_, circle)| format!("{}: {circle}", folder.display())));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

/// Vendors and runtimes are named only in their own modules: code elsewhere (identifiers and strings) must not name
/// them. Comments may, to state the source of a rule, and tests may. `ir` and `passes` name none at all.
#[test]
fn vendors_and_runtimes_are_named_in_their_rooms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut told = Vec::new();
    for manifest in manifests() {
        let folder = manifest.parent().unwrap().join("src");
        let prefix = folder.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        for (name, text) in source::files(&folder, "rs") {
            // Tests in separate files.
            if name.ends_with("tests.rs") {
                continue;
            }
            let file = format!("{prefix}/{name}");
            let found = words::misplaced(&file, &text, words::ROOMS);
            told.extend((!found.is_empty()).then(|| format!("{file} names {}", found.join(", "))));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

//! The images of a dataset, found by Ultralytics' rules.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use walkdir::WalkDir;

use super::DataError;
use super::text::{read, yaml as parsed};

/// Extensions of images that can be decoded.
pub(super) const PICTURES: &[&str] = &["bmp", "jpeg", "jpg", "png", "webp"];

/// Extensions of images that cannot be decoded here: they are listed, reported and skipped.
const UNDECODED: &[&str] = &["avif", "dng", "gif", "heic", "heif", "jp2", "mpo", "tif", "tiff"];

/// Extensions of files of arrays.
pub(super) const ARRAYS: &[&str] = &["npy", "npz"];

/// What a folder holds.
pub(super) enum Found {
    Pictures(Vec<PathBuf>),
    Arrays(Vec<PathBuf>),
}

/// The pictures of a dataset.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) pictures: Vec<PathBuf>,
    /// The files that list them.
    pub(super) lists: Vec<PathBuf>,
}

impl From<Vec<PathBuf>> for Listing {
    fn from(pictures: Vec<PathBuf>) -> Self {
        Listing { pictures, lists: Vec::new() }
    }
}

fn is_picture(path: &Path) -> bool {
    is_among(path, PICTURES) || is_among(path, UNDECODED)
}

/// True if the file is an image or a file of arrays by its name.
pub(super) fn is_data(path: &Path) -> bool {
    is_picture(path) || is_among(path, ARRAYS)
}

fn is_among(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    extensions.contains(&extension.as_str())
}

/// Sorted by the bytes of the path, the order of Python strings.
pub(super) fn sorted(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    paths
}

/// All images below a folder, recursively.
fn pictures(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    Ok(match folder(path)? {
        Found::Pictures(pictures) => pictures,
        Found::Arrays(_) => Vec::new(),
    })
}

/// All images below a folder, recursively; if there are none, the files of arrays.
pub(super) fn folder(path: &Path) -> Result<Found, DataError> {
    let (mut pictures, mut arrays) = (Vec::new(), Vec::new());
    for entry in WalkDir::new(path).follow_links(true) {
        let entry = entry.map_err(|e| {
            let at = e.path().unwrap_or(path).to_path_buf();
            DataError::Unreadable { path: at, source: e.into() }
        })?;
        if entry.file_type().is_file() && is_picture(entry.path()) {
            pictures.push(entry.into_path());
        } else if entry.file_type().is_file() && is_among(entry.path(), ARRAYS) {
            arrays.push(entry.into_path());
        }
    }
    let only_arrays = pictures.is_empty() && !arrays.is_empty();
    Ok(if only_arrays { Found::Arrays(sorted(arrays)) } else { Found::Pictures(sorted(pictures)) })
}

/// Maximum bytes of a list of images.
const LIST_BYTES: u64 = 1 << 28;

/// One path per line. Lines that start with `./` are relative to the list's folder; so are other relative paths that
/// exist there but not in the current folder.
pub(super) fn list_file(path: &Path) -> Result<Listing, DataError> {
    let text = read(path, LIST_BYTES)?;
    let home = path.parent().unwrap_or(Path::new(""));
    let place = |line: &str| match line.strip_prefix("./") {
        Some(rest) => home.join(rest),
        None if !Path::new(line).exists() && home.join(line).exists() => home.join(line),
        None => PathBuf::from(line),
    };
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|l| !l.is_empty());
    let pictures = sorted(lines.map(place).filter(|p| is_picture(p)).collect());
    Ok(Listing { pictures, lists: vec![path.into()] })
}

/// The keys of a dataset yaml that locate images. Labels, names and `download` are ignored.
#[derive(Debug, Deserialize)]
#[serde(expecting = "expected a mapping with `path`, `train` and `val`")]
struct Yaml {
    path: Option<String>,
    #[serde(alias = "validation")]
    val: Option<Split>,
    train: Option<Split>,
    download: Option<serde_norway::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`train` and `val` are each a path or a list of paths")]
enum Split {
    One(String),
    Many(Vec<String>),
}

/// The images of the split `val`, or of `train` if there is no `val`.
pub(super) fn yaml(path: &Path) -> Result<Listing, DataError> {
    let bad = |reason: String| DataError::Description { path: path.into(), reason };
    let yaml: Yaml = parsed(path, "dataset yaml")?;
    let Some(split) = yaml.val.or(yaml.train) else {
        return Err(bad("it names neither `val` nor `train` pictures".into()));
    };
    let entries = match split {
        Split::One(entry) => vec![entry],
        Split::Many(entries) => entries,
    };
    let home = path.parent().unwrap_or(Path::new(""));
    let roots = roots(home, yaml.path.as_deref());
    let mut all = Listing { lists: vec![path.into()], ..Listing::default() };
    for entry in entries {
        let found = roots.iter().find_map(|root| existing(root, &entry));
        let Some(found) = found else {
            let tried: Vec<String> = roots.iter().map(|r| r.join(&entry).display().to_string()).collect();
            let download = match yaml.download {
                Some(_) => "; it has a `download` key, but qcc downloads nothing",
                None => "",
            };
            return Err(bad(format!("its pictures are not there (tried {}){download}", tried.join(", "))));
        };
        let part = if found.is_dir() { pictures(&found)?.into() } else { list_file(&found)? };
        all.pictures.extend(part.pictures);
        all.lists.extend(part.lists);
    }
    Ok(Listing { pictures: sorted(all.pictures), ..all })
}

/// Candidate root folders of the dataset: `path` as it is, relative to the yaml, or in a folder `datasets` here or one
/// level up.
pub(super) fn roots(home: &Path, path: Option<&str>) -> Vec<PathBuf> {
    let Some(path) = path else { return vec![home.into()] };
    let given = PathBuf::from(path);
    if given.is_absolute() {
        return vec![given];
    }
    let beside = home.join(&given);
    let mut roots = vec![given, beside, Path::new("datasets").join(path), Path::new("../datasets").join(path)];
    roots.dedup();
    roots
}

/// A split's path under a root; if it does not exist and starts with `../`, the path without that prefix.
fn existing(root: &Path, entry: &str) -> Option<PathBuf> {
    let inside = root.join(entry);
    let without = entry.strip_prefix("../").map(|rest| root.join(rest));
    std::iter::once(inside).chain(without).find(|p| p.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, file: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    fn names(root: &Path, pictures: &[PathBuf]) -> Vec<String> {
        pictures.iter().map(|p| p.strip_prefix(root).unwrap_or(p).display().to_string()).collect()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in ["d/val/b.jpg", "d/val/a/z.PNG", "d/val/a-b.jpg", "d/val/note.txt", "d/val/x.svg", "d/train/t.bmp"]
        {
            touch(dir.path(), file);
        }
        dir
    }

    #[test]
    fn folder_is_recursive_and_sorted_as_strings() {
        let dir = tree();
        let got = pictures(&dir.path().join("d/val")).unwrap();
        assert_eq!(names(dir.path(), &got), ["d/val/a-b.jpg", "d/val/a/z.PNG", "d/val/b.jpg"]);
    }

    #[test]
    fn yaml_prefers_val_and_looks_beside_itself() {
        let dir = tree();
        let at = dir.path().join("d.yaml");
        for (text, want) in [
            ("path: d\ntrain: train\nval: val\nnames: {0: a}\n", 3),
            ("path: d\nvalidation: val\n", 3),
            ("path: d\ntrain: train\nval:\n", 1),
            ("train: d/train\n", 1),
            ("path: d\nval: [train, val]\nkpt_shape: [17, 3]\n", 4),
            ("path: d\nval: ../val\n", 3),
        ] {
            std::fs::write(&at, text).unwrap();
            assert_eq!(yaml(&at).unwrap().pictures.len(), want, "{text}");
        }
    }

    #[test]
    fn yaml_never_downloads() {
        let dir = tree();
        let at = dir.path().join("d.yaml");
        std::fs::write(&at, "path: nowhere\nval: images\ndownload: https://example.com/a.zip\n").unwrap();
        let error = yaml(&at).unwrap_err().to_string();
        assert!(error.contains("nowhere/images") && error.contains("qcc downloads nothing"), "{error}");
    }

    #[test]
    fn yaml_without_pictures_is_refused() {
        let dir = tree();
        let at = dir.path().join("d.yaml");
        let deep = ["val: ", &"[{a: ".repeat(1_000_000)].concat();
        for text in ["names: {0: a}\n", "just text", "- a\n- b\n", "val: {a: b}\n", "val: [\n", &deep] {
            std::fs::write(&at, text).unwrap();
            assert!(matches!(yaml(&at), Err(DataError::Description { .. })), "{:.20}", text);
        }
    }

    #[test]
    fn list_lines_are_relative_to_the_list() {
        let dir = tree();
        let at = dir.path().join("list.txt");
        let absolute = dir.path().join("d/train/t.bmp");
        std::fs::write(&at, format!("\u{feff}./d/val/b.jpg\r\nd/val/a-b.jpg\n\n{}\nnotes.md\n", absolute.display()))
            .unwrap();
        let got = list_file(&at).unwrap();
        assert_eq!(got.lists, [at]);
        assert_eq!(names(dir.path(), &got.pictures), ["d/train/t.bmp", "d/val/a-b.jpg", "d/val/b.jpg"]);
    }
}

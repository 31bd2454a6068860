//! Names of classes that the user gives.

use std::collections::BTreeMap;
use std::path::Path;

use qcc_ir::Graph;
use qcc_ir::diagnostic::{Diagnostic, counted};
use qcc_passes::quality::classes;
use serde::Deserialize;

use crate::data::{DataError, text};
use crate::vendor;

/// Maximum bytes of a list of names.
const LIST_BYTES: u64 = 1 << 24;

/// What files may hold.
const HELP: &str = "give a text file with one name on each line, or a .yaml or .json file with `names`";

/// A file of names: the names alone, or among other keys.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected `names`, a list or numbers with names")]
enum File {
    Keyed { names: Names },
    Alone(Names),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Names {
    List(Vec<Name>),
    Numbered(BTreeMap<usize, Name>),
    /// Keys of JSON are strings.
    Written(BTreeMap<String, Name>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(serde_json::Number),
}

/// Replaces the names of the classes of a model by those of a file.
///
/// # Errors
/// If the file cannot be read, or the model has another number of classes.
pub(crate) fn replace(graph: &mut Graph, path: &Path) -> Result<(), Box<Diagnostic>> {
    let names = read(path)?;
    if let Some(classes) = classes(graph, vendor::hints(&graph.metadata)).filter(|&n| n != names.len()) {
        let (file, names) = (path.display(), counted(names.len(), "name"));
        let message = format!("{file} has {names}, the model scores {classes} classes");
        let help = "give one name for each class, in the order of the scores";
        return Err(Box::new(Diagnostic::error("label-count", message).with_help(help)));
    }
    vendor::name_classes(&mut graph.metadata, &names);
    Ok(())
}

/// The names in a file: the lines of a text file, or those that a .yaml or .json file gives.
fn read(path: &Path) -> Result<Vec<String>, Box<Diagnostic>> {
    let refused = |message: String| Box::new(Diagnostic::error("bad-labels", message).with_help(HELP));
    let bad = |why: String| refused(format!("{}: {why}", path.display()));
    let failed = |e: DataError| refused(e.to_string());
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let names = match extension.as_str() {
        "yaml" | "yml" | "json" => match text::yaml(path, "names of classes").map_err(failed)? {
            File::Keyed { names } | File::Alone(names) => names.in_order().map_err(bad)?,
        },
        _ => lines(&text::read(path, LIST_BYTES).map_err(failed)?),
    };
    if names.is_empty() {
        return Err(bad("it has no names".into()));
    }
    match names.iter().position(|name| name.is_empty() || name.contains(char::is_control)) {
        Some(i) => Err(bad(format!("name {i} is empty, or has control characters"))),
        None => Ok(names),
    }
}

/// The lines of a text up to the last that is not empty.
fn lines(text: &str) -> Vec<String> {
    text.trim_end().lines().map(|line| line.trim().to_owned()).collect()
}

impl Names {
    /// The names by the numbers of their classes, which must be 0, 1, 2 ..
    fn in_order(self) -> Result<Vec<String>, String> {
        let numbered: BTreeMap<usize, Name> = match self {
            Names::List(names) => names.into_iter().enumerate().collect(),
            Names::Numbered(names) => names,
            Names::Written(names) => {
                let number = |key: &str| key.parse().map_err(|_| format!("`{key}` is no number of a class"));
                names.into_iter().map(|(key, name)| Ok((number(&key)?, name))).collect::<Result<_, String>>()?
            }
        };
        if let Some((expected, _)) = numbered.keys().enumerate().find(|(i, key)| i != *key) {
            return Err(format!("there is no name of class {expected}"));
        }
        let text = |name| match name {
            Name::Text(text) => text,
            Name::Number(number) => number.to_string(),
        };
        Ok(numbered.into_values().map(text).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &str, text: &str) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|d| d.message.replace(&format!("{}: ", path.display()), ""))
    }

    #[test]
    fn names_are_lines_or_yaml_or_json() {
        let two = Ok(vec!["a cat".to_owned(), "2".to_owned()]);
        assert_eq!(names("l.txt", "\u{feff}a cat\r\n2\n\n"), two);
        for yaml in ["path: d\nnames:\n  0: a cat\n  1: 2\n", "names: [a cat, 2]", "- a cat\n- 2\n", "1: 2\n0: a cat\n"]
        {
            assert_eq!(names("l.yaml", yaml), two, "{yaml}");
        }
        for json in [r#"{"names": {"1": 2, "0": "a cat"}}"#, r#"["a cat", "2"]"#, r#"{"0": "a cat", "1": "2"}"#] {
            assert_eq!(names("l.json", json), two, "{json}");
        }
    }

    #[test]
    fn files_without_names_are_refused() {
        for (file, text, why) in [
            ("l.txt", "\n", "it has no names"),
            ("l.txt", "a\n\nb", "name 1 is empty"),
            ("l.yaml", "names: {0: a, 2: b}", "there is no name of class 1"),
            ("l.json", r#"{"a": "b"}"#, "`a` is no number of a class"),
            ("l.yaml", "names: [[a]]", "no names of classes"),
            ("l.yaml", "names: [\"a\\nb\"]", "name 0 is empty, or has control characters"),
        ] {
            let error = names(file, text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}

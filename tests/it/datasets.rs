//! Datasets in archives and in lines of JSON.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;

use crate::cli::{files, folder, pictures, refusal, succeeds};

const INT8: [&str; 6] = ["small.onnx", "--to", "tflite", "--int8", "--scale", "1/255"];

/// The pictures as an archive with a folder in it.
fn archive(folder: &Path) {
    let mut zip = zip::ZipWriter::new(File::create(folder.join("p.zip")).unwrap());
    for name in files(&folder.join("pictures")) {
        zip.start_file(format!("p/{name}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(folder.join("pictures").join(&name)).unwrap()).unwrap();
    }
    zip.finish().unwrap();
}

/// The lines of a dataset with the pictures.
fn lines(folder: &Path, split: &str) {
    let image =
        |name: &String| format!(r#"{{"type":"image","file":"{name}","url":"https://a.b/c","split":"{split}"}}"#);
    let images: Vec<String> = files(&folder.join("pictures")).iter().map(image).collect();
    let head = r#"{"type":"dataset","task":"detect","path":"pictures","class_names":{"0":"a"}}"#;
    fs::write(folder.join("p.ndjson"), format!("{head}\n{}\n", images.join("\n"))).unwrap();
}

#[test]
fn archives_and_lines_of_json_are_like_folders() {
    let dir = folder();
    pictures(dir.path(), 9);
    archive(dir.path());
    lines(dir.path(), "val");
    let artefact = |data: &[&str]| {
        let said = succeeds(dir.path(), &[&INT8[..], data, &["-o", "x.tflite"]].concat());
        let told: Vec<String> = said.lines().filter(|l| !l.starts_with("time")).map(Into::into).collect();
        (told, fs::read(dir.path().join("x.tflite")).unwrap())
    };
    let expected = artefact(&["--data", "pictures"]);
    assert_eq!(artefact(&["--data", "p.zip"]), expected);
    assert_eq!(artefact(&["--data", "p.ndjson"]), expected);
    let validated = artefact(&["--data", "pictures", "--validate", "pictures"]);
    assert_eq!(artefact(&["--data", "pictures", "--validate", "p.zip"]), validated);
    assert_eq!(artefact(&["--data", "p.ndjson", "--validate", "p.ndjson"]), validated);
}

#[test]
fn pictures_that_are_urls_are_refused() {
    let dir = folder();
    pictures(dir.path(), 1);
    lines(dir.path(), "val");
    fs::remove_dir_all(dir.path().join("pictures")).unwrap();
    fs::write(dir.path().join("a.zip"), "no archive").unwrap();
    let refused = |data: &str| refusal(dir.path(), &[&INT8[..], &["--data", data]].concat());
    insta::assert_snapshot!([refused("p.ndjson"), refused("a.zip")].join("\n"));
    let same = refusal(dir.path(), &[&INT8[..], &["--data", "a.zip", "-o", "a.zip"]].concat());
    assert!(same.contains("a.zip"), "{same}");
}

//! Names of classes in artefacts.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use prost::Message;

use crate::cli::{floats, node, of, refusal, succeeds, text};

/// A folder with a classifier of three classes.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let weights = floats("w", &[32, 3], (0..).map(|i| (i % 7) as f32 - 3.0));
    let nodes = vec![node("Flatten", &["x"], "f"), node("MatMul", &["f", "w"], "m"), node("Softmax", &["m"], "y")];
    fs::write(dir.path().join("net.onnx"), of(nodes, vec![weights]).encode_to_vec()).unwrap();
    fs::write(dir.path().join("names.txt"), "a cat\nit's\nowl\n").unwrap();
    dir
}

/// A file in the archive behind a model.
fn archived(model: &Path, name: &str) -> String {
    let mut archive = zip::ZipArchive::new(File::open(model).unwrap()).unwrap();
    let mut text = String::new();
    archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_format_has_the_names_of_classes() {
    let dir = folder();
    let labels = ["net.onnx", "--labels", "names.txt"];
    succeeds(dir.path(), &[&labels[..], &["--to", "tflite,onnx,openvino", "-o", "all/"]].concat());
    assert_eq!(archived(&dir.path().join("all/net.tflite"), "labels.txt"), "a cat\nit's\nowl\n");
    let onnx = succeeds(dir.path(), &["inspect", "all/net.onnx"]);
    assert!(onnx.contains(r#"metadata names: {0: 'a cat', 1: "it's", 2: 'owl'}"#), "{onnx}");
    let openvino = succeeds(dir.path(), &["inspect", "all/net.xml"]);
    assert!(openvino.contains("metadata model_info/labels: a_cat it's owl"), "{openvino}");
    succeeds(dir.path(), &[&labels[..], &["-o", "net.cc"]].concat());
    let header = text(&fs::read(dir.path().join("net.h")).unwrap());
    assert!(header.contains("kLabelCount = 3") && header.contains("\"it's\""), "{header}");
}

#[test]
fn names_replace_those_of_the_model() {
    let dir = folder();
    succeeds(dir.path(), &["net.onnx", "--labels", "names.txt", "-o", "named.onnx"]);
    fs::write(dir.path().join("data.yaml"), "names: [x, y, z]\n").unwrap();
    succeeds(dir.path(), &["named.onnx", "--labels", "data.yaml", "-o", "again.onnx"]);
    let onnx = succeeds(dir.path(), &["inspect", "again.onnx"]);
    assert!(onnx.contains("metadata names: {0: 'x', 1: 'y', 2: 'z'}") && !onnx.contains("a cat"), "{onnx}");
}

#[test]
fn names_of_other_classes_are_refused() {
    let dir = folder();
    fs::write(dir.path().join("two.txt"), "a\nb\n").unwrap();
    let refused = |labels: &str| refusal(dir.path(), &["net.onnx", "--to", "tflite", "--labels", labels]);
    insta::assert_snapshot!([refused("two.txt"), refused("none.txt")].join("\n"));
    let report = refusal(dir.path(), &["net.onnx", "--to", "tflite", "--labels", "names.txt", "--report", "names.txt"]);
    assert!(report.contains("the file of labels"), "{report}");
}

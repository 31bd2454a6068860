//! Parts of models.

use std::fs;
use std::path::Path;

use prost::Message;

use crate::cli::{floats, model, node, refusal, some, succeeds, value};
use qcc_formats::onnx::{GraphProto, StringStringEntryProto};

/// x `[n,2,4,4]` and z `[n,2,4,4]`; a = Relu x; b = Conv a; c = b + z; y = Tanh c, s = Sigmoid b. Batch 0 means an open one.
fn write(folder: &Path, batch: i64) {
    let weights = (0..).map(|i| (i * 7 % 11) as f32 / 10.0 - 0.5);
    let graph = GraphProto {
        name: Some("net".into()),
        node: vec![
            node("Relu", &["x"], "a"),
            node("Conv", &["a", "w"], "b"),
            node("Add", &["b", "z"], "c"),
            node("Tanh", &["c"], "y"),
            node("Sigmoid", &["b"], "s"),
        ],
        initializer: vec![floats("w", &[2, 2, 1, 1], weights)],
        input: vec![value("x", &[batch, 2, 4, 4]), value("z", &[batch, 2, 4, 4])],
        output: vec![value("y", &[batch, 2, 4, 4]), value("s", &[batch, 2, 4, 4])],
        ..GraphProto::default()
    };
    let mut net = model(graph);
    let entry = |key: &str, value: &str| StringStringEntryProto { key: some(key), value: some(value) };
    net.metadata_props = vec![entry("task", "detect"), entry("imgsz", "[4, 4]")];
    fs::write(folder.join("net.onnx"), net.encode_to_vec()).unwrap();
}

/// The inputs and outputs of a part, as its graph says.
fn ports(folder: &Path, cut: &str) -> String {
    let graph = succeeds(folder, &["opt", "net.onnx", "--cut", cut]);
    let port = |line: &&str| line.contains("= input") || line.starts_with("  output");
    format!("{cut}\n{}\n", graph.lines().filter(port).collect::<Vec<_>>().join("\n"))
}

#[test]
fn parts_begin_and_end_at_values() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1);
    let cuts = ["a..b", "a..", "..c", "b,z..y", "b..y,s", "b..s", "..b,y"];
    insta::assert_snapshot!(cuts.map(|cut| ports(dir.path(), cut)).join("\n"));
}

#[test]
fn a_part_has_the_open_batch_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 0);
    insta::assert_snapshot!(ports(dir.path(), "b..y"));
    let said = succeeds(dir.path(), &["net.onnx", "-o", "part.onnx", "--cut", "b..y", "--shape", "b=2,2,4,4"]);
    assert!(said.contains("b: f32[2,2,4,4]") && said.contains("z: f32[2,2,4,4]"), "{said}");
    let set = ["net.onnx", "-o", "part.onnx", "--cut", "b..y", "--set", "z=0", "--shape", "z=1,2,4,4"];
    let said = succeeds(dir.path(), &set);
    assert!(said.contains("b: f32[1,2,4,4]") && !said.contains("z: "), "{said}");
}

#[test]
fn two_parts_compute_what_the_model_does() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1);
    succeeds(dir.path(), &["net.onnx", "--cut", "..b", "-o", "first.qir"]);
    succeeds(dir.path(), &["net.onnx", "--cut", "b..y", "-o", "second.qir"]);
    let part = |file: &str| succeeds(dir.path(), &["inspect", file]);
    // What the metadata say of the model is not true of a part.
    assert!(part("net.onnx").contains("metadata task: detect") && !part("second.qir").contains("metadata"));
    assert!(part("first.qir").contains("conv") && !part("first.qir").contains("Tanh"));
    assert!(!part("second.qir").contains("conv") && part("second.qir").contains("Tanh"));
    let int8 = ["--to", "tflite", "--int8", "--data", "random", "--cut", "b..y"];
    succeeds(dir.path(), &[&["net.onnx"], &int8[..], &["-o", "cut.tflite"]].concat());
    succeeds(dir.path(), &[&["second.qir"], &int8[..5], &["-o", "whole.tflite"]].concat());
    let [cut, whole] = ["cut.tflite", "whole.tflite"].map(|file| fs::read(dir.path().join(file)).unwrap());
    assert_eq!(cut, whole);
}

#[test]
fn unknown_values_are_refused_with_near_names() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1);
    let refused = |cut: &str| refusal(dir.path(), &["net.onnx", "--to", "tflite", "--cut", cut]);
    insta::assert_snapshot!(["bb..y", "w..y", "a", "..", "y..s"].map(refused).join("\n"));
}

//! Scales of weights: for each output channel or for all.

use std::fs;
use std::path::Path;

use prost::Message;

use crate::cli::{floats, node, of, refusal, succeeds};

/// A convolution and a dense layer.
fn write(folder: &Path) {
    let weights = |name, dims: &[i64]| floats(name, dims, (0..).map(|i| (i * 7 % 11) as f32 / 10.0 - 0.5));
    let nodes = vec![node("Conv", &["x", "k"], "c"), node("Flatten", &["c"], "f"), node("Gemm", &["f", "w"], "y")];
    let constants = vec![weights("k", &[3, 2, 3, 3]), weights("w", &[12, 5])];
    fs::write(folder.join("net.onnx"), of(nodes, constants).encode_to_vec()).unwrap();
}

/// The numbers of scales of the weights in an artefact, by tensor.
fn scales(folder: &Path, options: &[&str]) -> Vec<usize> {
    succeeds(folder, &[&["net.onnx", "--to", "tflite", "-o", "m.tflite"], options].concat());
    let said = succeeds(folder, &["inspect", "m.tflite", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    let of = |tensor: &serde_json::Value| {
        let is_weight =
            tensor["constant"].is_object() && tensor["element"] == "INT8" && tensor["shape"].as_array()?.len() > 1;
        tensor["quantization"]["scales"].as_array().filter(|_| is_weight).map(Vec::len)
    };
    json["graphs"][0]["tensors"].as_array().unwrap().iter().filter_map(of).collect()
}

#[test]
fn dense_layers_may_have_one_scale() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    for precision in [&["--int8", "--data", "random", "--static"][..], &["--w8a32"]] {
        assert_eq!(scales(dir.path(), precision), [3, 5]);
        assert_eq!(scales(dir.path(), &[precision, &["--per-tensor", "dense"]].concat()), [3, 1]);
    }
}

#[test]
fn scales_of_other_weights_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    succeeds(dir.path(), &["net.onnx", "--int8", "--data", "random", "-o", "int8.tflite"]);
    let conv = of(vec![node("Conv", &["x", "k"], "y")], vec![floats("k", &[3, 2, 3, 3], (0..).map(|i| i as f32))]);
    fs::write(dir.path().join("conv.onnx"), conv.encode_to_vec()).unwrap();
    let refused = |model: &str, precision: &str| {
        refusal(dir.path(), &[model, "--to", "tflite", precision, "--per-tensor", "dense"])
    };
    insta::assert_snapshot!(
        [refused("net.onnx", "--fp16"), refused("int8.tflite", "--int8"), refused("conv.onnx", "--int8")].join("\n")
    );
}

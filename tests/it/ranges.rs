//! Ranges that other tools have chosen, and ranges for other tools.

use std::fs;
use std::path::Path;

use crate::cli::{floats, model, node, qcc, refusal, some, succeeds, text, value};
use crate::hostile::npy;
use prost::Message;
use qcc_formats::onnx::GraphProto;
use tempfile::TempDir;

/// A convolution with ReLU, a convolution without, and their pooled results.
fn folder() -> TempDir {
    let weights = |k: usize| (0..).map(move |i: usize| ((i * 37 + k * 11) % 23) as f32 / 23.0 - 0.48);
    let graph = GraphProto {
        name: some("two"),
        node: vec![
            node("Conv", &["x", "w"], "c"),
            node("Relu", &["c"], "r"),
            node("Conv", &["r", "v"], "d"),
            node("Sigmoid", &["d"], "y"),
        ],
        initializer: vec![floats("w", &[4, 3, 3, 3], weights(0)), floats("v", &[4, 4, 1, 1], weights(1))],
        input: vec![value("x", &[1, 3, 8, 8])],
        output: vec![value("y", &[1, 4, 6, 6])],
        ..GraphProto::default()
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), model(graph).encode_to_vec()).unwrap();
    let data: Vec<u8> =
        (0..5 * 192).flat_map(|i: usize| (((i * 104_729) % 1999) as f32 / 999.5 - 1.0).to_le_bytes()).collect();
    fs::write(dir.path().join("x.npy"), npy("<f4", "(5, 3, 8, 8)", &data)).unwrap();
    dir
}

fn encodings(folder: &Path, entries: &[(&str, f64, u32)]) {
    let entry = |(name, scale, zero): &(&str, f64, u32)| {
        format!(r#"{{"name":"{name}","output_dtype":"uint8","y_scale":{scale},"y_zero_point":{zero}}}"#)
    };
    let entries: Vec<String> = entries.iter().map(entry).collect();
    let file = format!(r#"{{"version":"2.0.0","encodings":[{}]}}"#, entries.join(","));
    fs::write(folder.join("r.encodings"), file).unwrap();
}

/// The scales and zero points of the activations of an ONNX model, with the names that it gives them.
fn parameters(folder: &Path, args: &[&str]) -> String {
    let base = ["m.onnx", "--to", "onnx", "--int8", "-q", "-o", "q.onnx"];
    succeeds(folder, &[&base[..], args].concat());
    succeeds(folder, &["inspect", "q.onnx", "--graph"])
}

#[test]
fn given_ranges_are_used() {
    let dir = folder();
    let at = dir.path();
    // The convolution before the ReLU and the result of the sigmoid follow from the others.
    encodings(at, &[("x", 0.0078125, 128), ("r", 0.0625, 0), ("d", 0.125, 128)]);
    let graph = parameters(at, &["--ranges", "r.encodings"]);
    for wanted in [" <0.0078125:128>", " <0.0625:0>"] {
        assert!(graph.contains(wanted), "{wanted}: {graph}");
    }
    // Beside data, other values keep the ranges of the data.
    encodings(at, &[("r", 0.0078125, 0)]);
    let graph = parameters(at, &["--ranges", "r.encodings", "--data", "x.npy"]);
    assert!(graph.contains(" <0.0078125:0>") && !graph.contains(" <0.0078125:128>"), "{graph}");
    let said = succeeds(at, &["m.onnx", "--to", "onnx", "--int8", "--ranges", "r.encodings", "--data", "x.npy"]);
    assert!(
        said.contains("calibrated   on ranges of 1 tensor in r.encodings (encodings of AIMET); 5 samples of x.npy"),
        "{said}"
    );
}

#[test]
fn names_and_gaps_are_told() {
    let dir = folder();
    let at = dir.path();
    encodings(at, &[("x", 0.0078125, 128), ("r", 0.0625, 0), ("old_name", 1.0, 0)]);
    let out = qcc(at, &["m.onnx", "--to", "onnx", "--int8", "--ranges", "r.encodings", "--data", "x.npy"]);
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("r.encodings has ranges of 1 tensor that the model does not have: old_name"), "{said}");
    let int8 = ["m.onnx", "--to", "onnx,openvino", "--int8", "--ranges"];
    let refused = refusal(at, &[&int8[..], &["r.encodings"]].concat());
    assert!(refused.starts_with('1') && refused.contains("error[missing-ranges]"), "{refused}");
    assert!(refused.contains("lacks the ranges of 1 tensor of the model for onnx: d"), "{refused}");
    assert!(refused.contains("for openvino: d") && refused.contains("--data PATH or --stats FILE"), "{refused}");
    encodings(at, &[("old_name", 1.0, 0)]);
    assert!(refusal(at, &[&int8[..], &["r.encodings"]].concat()).contains("names no tensor of the model"));
    assert!(refusal(at, &[&int8[..], &["x.npy"]].concat()).contains("error[bad-ranges]: x.npy: it is no text"));
    assert!(refusal(at, &[&int8[..], &["no.json"]].concat()).contains("error[unreadable-ranges]"));
    let refused = refusal(at, &["m.onnx", "--to", "onnx", "--w8a32", "--ranges", "r.encodings"]);
    assert!(refused.starts_with('2') && refused.contains("--ranges gives ranges of activations"), "{refused}");
    succeeds(at, &["m.onnx", "--to", "onnx", "--int8", "--data", "x.npy", "-q", "-o", "q.onnx"]);
    let refused = refusal(at, &["q.onnx", "--to", "onnx", "--int8", "--ranges", "r.encodings"]);
    assert!(refused.starts_with('2') && refused.contains("leave --ranges out"), "{refused}");
}

#[test]
fn written_ranges_give_the_same_model() {
    let dir = folder();
    let at = dir.path();
    let plain = parameters(at, &["--data", "x.npy", "--validate", "none"]);
    succeeds(at, &["calibrate", "m.onnx", "--data", "x.npy", "-o", "x.qstats", "-q"]);
    for source in [["--data", "x.npy"], ["--stats", "x.qstats"]] {
        let said = succeeds(at, &[&["calibrate", "m.onnx", "-o", "r.json"], &source[..]].concat());
        assert!(said.contains("ranges       r.json, ") && said.contains(" tensors"), "{said}");
        let with = parameters(at, &["--ranges", "r.json", "--data", "x.npy", "--validate", "none"]);
        assert_eq!(with, plain);
    }
    // Integers of these files round the ends of ranges, or make them symmetric.
    for file in ["r.encodings", "r.cache"] {
        succeeds(at, &["calibrate", "m.onnx", "--data", "x.npy", "-o", file, "-q", "--calibrator", "minmax"]);
        succeeds(at, &["m.onnx", "--to", "tflite,onnx,openvino", "--int8", "--ranges", file, "-q", "-o", "out/"]);
    }
    let refused = refusal(at, &["calibrate", "m.onnx", "--data", "x.npy", "-o", "r.txt"]);
    assert!(refused.starts_with('2') && refused.contains(".encodings (encodings of AIMET)"), "{refused}");
    let refused = refusal(at, &["calibrate", "m.onnx", "--stats", "x.qstats", "-o", "y.qstats"]);
    assert!(refused.starts_with('2') && refused.contains("`qcc merge` merges statistics"), "{refused}");
}

/// ONNX Runtime's quantizer takes the ranges of qcc, and qcc those of ONNX Runtime.
#[cfg(feature = "oracles")]
#[test]
fn ranges_move_to_onnx_runtime_and_back() {
    let dir = folder();
    let at = dir.path();
    succeeds(at, &["calibrate", "m.onnx", "--to", "onnx", "--data", "x.npy", "-o", "qcc.json", "-q"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/ranges.py");
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/bin/python");
    let out = std::process::Command::new(python).arg(script).current_dir(at).output().unwrap();
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    let said = text(&out.stdout);
    // What its quantizer wrote with the ranges of qcc has their scales.
    assert!(said.contains("scales of qcc.json: 4 of 4"), "{said}");
    // The ranges that its own calibration found, in a cache.
    let graph = parameters(at, &["--ranges", "ort.json"]);
    for wanted in said.lines().filter_map(|line| line.strip_prefix("scale of x: ")) {
        assert!(graph.contains(&format!(" <{wanted}:")), "{wanted}: {graph}");
    }
    assert!(said.contains("scale of x: "), "{said}");
}

//! Weights that are rounded for the data.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::succeeds;
use crate::hostile::lenet;
use crate::reports::json;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/digits");

/// The artefacts of a run that compares on all digits.
fn artefacts(folder: &Path, precision: &str, data: &[&str]) -> Vec<Value> {
    let run = ["m.onnx", "--to", "onnx,openvino", "--quantize", precision, "-o", "out/", "--report", "r.json"];
    succeeds(folder, &[&run[..], data, &["--validate", DIGITS, "--scale", "1/255"]].concat());
    json(folder.join("r.json"))["artefacts"].as_array().unwrap().clone()
}

/// The figures before and after are those of runs without and with data, and data gain more than 2 dB.
#[test]
fn weights_are_rounded_for_the_data() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    let sqnr = |a: &Value| a["quality"]["outputs"][0]["sqnr"].as_f64().unwrap();
    for precision in ["w4a32", "w8a32"] {
        let nearest = artefacts(dir.path(), precision, &[]);
        let compensated = artefacts(dir.path(), precision, &["--data", DIGITS]);
        assert_eq!((nearest.len(), compensated.len()), (2, 2));
        for (nearest, compensated) in nearest.iter().zip(&compensated) {
            assert_eq!(nearest["quality"]["compensation_gain"], Value::Null);
            let (before, after) = (sqnr(nearest), sqnr(compensated));
            assert!(after > before + 2.0, "{precision} {before} {after}");
            let told = format!("scores {after:.1} dB instead of {before:.1} dB");
            assert_eq!(compensated["quality"]["compensation_gain"], told);
        }
        // Random numbers say nothing about the activations of real inputs.
        for random in artefacts(dir.path(), precision, &["--data", "random"]) {
            assert_eq!(random["quality"]["compensation_gain"], Value::Null);
        }
    }
}

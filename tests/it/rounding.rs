//! Weights that are rounded for the data.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::succeeds;
use crate::hostile::lenet;
use crate::reports::json;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/digits");

/// Targets with kernels for weights alone.
const TARGETS: &[&str] = &["--to", "onnx,openvino"];

/// The SQNR of the output of an artefact.
fn sqnr(artefact: &Value) -> f64 {
    artefact["quality"]["outputs"][0]["sqnr"].as_f64().unwrap()
}

/// The artefacts of a run that compares on all digits.
fn artefacts(folder: &Path, precision: &str, data: &[&str]) -> Vec<Value> {
    let run = ["m.onnx", "--quantize", precision, "-o", "out/", "--report", "r.json"];
    succeeds(folder, &[&run[..], data, &["--validate", DIGITS, "--scale", "1/255"]].concat());
    json(folder.join("r.json"))["artefacts"].as_array().unwrap().clone()
}

/// The figures before and after are those of runs without and with data, and data gain more than 2 dB.
#[test]
fn weights_are_rounded_for_the_data() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    for precision in ["w4a32", "w8a32"] {
        let nearest = artefacts(dir.path(), precision, TARGETS);
        let compensated = artefacts(dir.path(), precision, &[TARGETS, &["--data", DIGITS]].concat());
        assert_eq!((nearest.len(), compensated.len()), (2, 2));
        for (nearest, compensated) in nearest.iter().zip(&compensated) {
            assert_eq!(nearest["quality"]["compensation_gain"], Value::Null);
            let (before, after) = (sqnr(nearest), sqnr(compensated));
            assert!(after > before + 2.0, "{precision} {before} {after}");
            let told = format!("scores {after:.1} dB instead of {before:.1} dB");
            assert_eq!(compensated["quality"]["compensation_gain"], told);
        }
        // Random numbers say nothing about the activations of real inputs.
        for random in artefacts(dir.path(), precision, &[TARGETS, &["--data", "random"]].concat()) {
            assert_eq!(random["quality"]["compensation_gain"], Value::Null);
        }
    }
}

/// With quantized activations too, in convolutions as well: of 8 bits with `--effort high` only, of 16 bits but with
/// `--effort fast`. Nothing is tried with random data.
#[test]
fn quantized_activations_need_a_gain_in_the_layers() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    let run = |precision, more: &[&str]| artefacts(dir.path(), precision, more);
    let gains = |artefacts: &[Value]| -> Vec<bool> {
        artefacts.iter().map(|a| a["quality"]["compensation_gain"].is_string()).collect()
    };
    for precision in ["int8", "w8a16"] {
        let (targets, [without, with]) = match precision {
            "int8" => ("onnx,openvino", ["normal", "high"]),
            _ => ("onnx,tflite", ["fast", "normal"]),
        };
        let of = |effort| run(precision, &["--to", targets, "--data", DIGITS, "--effort", effort]);
        let (plain, gained) = (of(without), of(with));
        assert_eq!(gains(&plain), [false, false]);
        assert_eq!(gains(&gained), [true, true], "{precision}");
        let corrects = |a: &Value| a["quality"]["bias_gain"].is_string();
        assert_eq!(gained.iter().any(corrects), precision == "int8", "{precision}");
        for (nearest, compensated) in plain.iter().zip(&gained) {
            let (before, after) = (sqnr(nearest), sqnr(compensated));
            let gain = |name: &str| compensated["quality"][name].as_str();
            let told = gain("compensation_gain").and_then(|gain| gain.strip_prefix("scores "));
            let rounded = told.and_then(|told| told.strip_suffix(&format!(" dB instead of {before:.1} dB"))).unwrap();
            // Biases are corrected after that.
            match gain("bias_gain") {
                Some(gain) => assert_eq!(gain, format!("scores {after:.1} dB instead of {rounded} dB")),
                None => assert_eq!(rounded, format!("{after:.1}")),
            }
            assert!(precision == "int8" || after > before + 2.0, "{precision} {before} {after}");
        }
        assert_eq!(gains(&run(precision, &["--to", targets, "--data", "random", "--effort", with])), [false, false]);
    }
}

//! What parts in higher precision cost: budgets, and points between all and none.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::{qcc, succeeds, text};
use crate::hostile::lenet;
use crate::reports::json;

const DIGITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/digits");

const INT8: [&str; 9] = ["--to", "tflite,onnx,openvino", "--int8", "--data", DIGITS, "--scale", "1/255", "-o", "out/"];

/// A folder with the classifier of digits.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    dir
}

/// The artefacts of a run.
fn artefacts(folder: &Path, more: &[&str]) -> Vec<Value> {
    succeeds(folder, &[&["m.onnx"], &INT8[..], &["--report", "r.json"], more].concat());
    json(folder.join("r.json"))["artefacts"].as_array().unwrap().clone()
}

fn figure(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::INFINITY)
}

#[test]
fn a_budget_is_kept_and_used() {
    let dir = folder();
    let plain = artefacts(dir.path(), &[]);
    let sqnr = |a: &Value| figure(&a["quality"]["outputs"][0]["sqnr"]);
    let cost = |a: &Value, of: &str| figure(&a["costs"]["after"][of]);
    let (mut gained, mut larger) = (0, 0);
    for (option, of, factor) in [
        ("--budget-latency", "latency_ms", 1.5),
        ("--budget-latency", "latency_ms", 3.0),
        ("--budget-size", "weight_bytes", 2.0),
    ] {
        for (before, after) in plain.iter().zip(&artefacts(dir.path(), &[option, &factor.to_string()])) {
            // Adjacent operators are merged when the file is written, which only makes it cheaper.
            assert!(cost(after, of) <= factor * cost(before, of) * 1.01, "{option} {factor}: {}", after["target"]);
            assert!(sqnr(after) >= sqnr(before), "{option} {factor}: {}", after["target"]);
            gained += u32::from(sqnr(after) > sqnr(before) + 1.0);
            larger += u32::from(cost(after, "weight_bytes") > cost(before, "weight_bytes"));
        }
    }
    assert!(gained >= 5, "{gained}");
    assert!(larger >= 1, "{larger}");
}

/// A model for every runtime of the format stays one if that is enough and not much slower.
#[test]
fn requirements_are_met_without_dynamic_quantization_if_that_is_cheap() {
    let dir = folder();
    let all = |asked: &str| artefacts(dir.path(), &["--min-sqnr", asked]).remove(0)["quality"]["dynamic_nodes"].clone();
    assert_eq!(all("41"), serde_json::json!([]));
    assert_ne!(all("45"), serde_json::json!([]));
}

#[test]
fn a_requirement_beyond_the_budget_is_not_met() {
    let dir = folder();
    let run = [&["m.onnx", "--min-sqnr", "55"], &INT8[..]].concat();
    assert_eq!(qcc(dir.path(), &run).status.code(), Some(0));
    fs::remove_dir_all(dir.path().join("out")).unwrap();
    let tight = qcc(dir.path(), &[&run[..], &["--budget-latency", "1.02"]].concat());
    assert_eq!(tight.status.code(), Some(3), "{}", text(&tight.stderr));
    assert!(!dir.path().join("out").exists());
}

#[test]
fn points_cost_more_and_are_better() {
    let dir = folder();
    for artefact in artefacts(dir.path(), &["--pareto", "4", "--report", "r.html"]) {
        let points = artefact["quality"]["pareto"].as_array().unwrap();
        assert!((1..=4).contains(&points.len()), "{points:?}");
        // A small model may be faster in floating point: then that is the only point.
        assert!(points[0]["parts"] == 0 || artefact["target"] == "openvino", "{points:?}");
        for pair in points.windows(2) {
            assert!(figure(&pair[0]["latency_ms"]) <= figure(&pair[1]["latency_ms"]), "{points:?}");
            let sqnr = |p: &Value| figure(&p["outputs"][0]["sqnr"]);
            assert!(sqnr(&pair[0]) < sqnr(&pair[1]), "{points:?}");
        }
    }
    let page = fs::read_to_string(dir.path().join("r.html")).unwrap();
    assert_eq!(page.matches("<h3>Cost and quality</h3>").count(), 3);
    let said = succeeds(dir.path(), &[&["m.onnx"], &INT8[..], &["--pareto", "3"]].concat());
    assert_eq!(said.lines().filter(|line| line.starts_with("pareto ")).count(), 3, "{said}");
}

#[test]
fn budgets_need_an_int8_model_and_data() {
    let dir = folder();
    for wrong in [
        &["m.onnx", "--to", "onnx", "--pareto", "3"][..],
        &["m.onnx", "--to", "onnx", "--w8a32", "--budget-size", "2"],
        &[&["m.onnx", "--budget-latency", "0.5"], &INT8[..]].concat(),
        &[&["m.onnx", "--budget-latency", "2", "--effort", "fast"], &INT8[..]].concat(),
        &[&["m.onnx", "--pareto", "2", "--validate", "none"], &INT8[..]].concat(),
    ] {
        assert_eq!(qcc(dir.path(), wrong).status.code(), Some(2), "{wrong:?}");
    }
}

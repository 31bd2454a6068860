//! `qcc report`: reports on artefacts that exist.

use std::fs;
use std::path::Path;

use prost::Message;
use qcc_formats::onnx::{AttributeProto, GraphProto, NodeProto};
use serde_json::Value;

use crate::cli::{floats, folder, model, node, pictures, refusal, succeeds, value};
use crate::reports::{check_schema, figures, json};

const DATA: &[&str] = &["--data", "pictures", "--scale", "1/255"];

fn conv(operands: &[&str], result: &str) -> NodeProto {
    let pads = AttributeProto { name: Some("pads".into()), ints: vec![1; 4], r#type: Some(7), ..Default::default() };
    NodeProto { attribute: vec![pads], ..node("Conv", operands, result) }
}

/// Two convolutions with SiLU, and one with ReLU. The results of the first are cubes: N,C,H,W and N,H,W,C have one shape.
fn cubes() -> GraphProto {
    let weights = |seed: usize| (0..).map(move |i: usize| ((i * 37 + seed * 11) % 23) as f32 / 46.0 - 0.24);
    let layer = |x: &str, w: &str, i: usize| {
        let [c, s, m] = ["c", "s", "m"].map(|kind| format!("{kind}{i}"));
        [conv(&[x, w], &c), node("Sigmoid", &[&c], &s), node("Mul", &[&c, &s], &m)]
    };
    GraphProto {
        name: Some("cubes".into()),
        node: [
            &layer("x", "w0", 0)[..],
            &layer("m0", "w1", 1),
            &[conv(&["m1", "w2"], "c2"), node("Relu", &["c2"], "y")],
        ]
        .concat(),
        initializer: vec![
            floats("w0", &[8, 3, 3, 3], weights(0)),
            floats("w1", &[8, 8, 3, 3], weights(1)),
            floats("w2", &[4, 8, 3, 3], weights(2)),
        ],
        input: vec![value("x", &[1, 3, 8, 8])],
        output: vec![value("y", &[1, 4, 8, 8])],
        ..GraphProto::default()
    }
}

/// The same graph with other names of values and nodes.
fn renamed(mut g: GraphProto) -> GraphProto {
    let ends: Vec<String> = g.input.iter().chain(&g.output).filter_map(|v| v.name.clone()).collect();
    let other = |name: &mut String| {
        if !ends.contains(name) {
            *name = format!("other {name}");
        }
    };
    g.initializer.iter_mut().filter_map(|t| t.name.as_mut()).for_each(other);
    for node in &mut g.node {
        node.input.iter_mut().chain(&mut node.output).chain(&mut node.name).for_each(other);
    }
    g
}

fn layers(report: &Value) -> Vec<(String, f64)> {
    let all = report["artefacts"][0]["quality"]["layers"].as_array().unwrap().iter();
    all.map(|l| (l["name"].as_str().unwrap().to_owned(), l["sqnr"].as_f64().unwrap())).collect()
}

/// A report on an artefact has the figures of the run that made it, whatever the format and the order of its axes.
#[test]
fn an_artefact_is_compared_with_its_source() {
    let dir = folder();
    pictures(dir.path(), 4);
    fs::write(dir.path().join("cubes.onnx"), model(cubes()).encode_to_vec()).unwrap();
    for (target, extension) in [("tflite", "tflite"), ("onnx", "onnx"), ("openvino", "xml")] {
        let artefact = &*format!("int8.{extension}");
        let compile = ["cubes.onnx", "--to", target, "--int8", "-o", artefact, "--report", "made.json"];
        succeeds(dir.path(), &[&compile[..], DATA].concat());
        let examine = ["report", artefact, "cubes.onnx", "-o", "seen.json", "-o", "seen.html"];
        succeeds(dir.path(), &[&examine[..], DATA].concat());
        let (made, seen) = (json(dir.path().join("made.json")), json(dir.path().join("seen.json")));
        check_schema(&seen);
        let [made_one, seen_one] = [&made, &seen].map(|report| &report["artefacts"][0]);
        for figure in ["/costs/before", "/quality/outputs/0/name", "/output_bytes"] {
            assert_eq!(made_one.pointer(figure), seen_one.pointer(figure), "{target} {figure}");
        }
        let sqnr = |one: &Value| one["quality"]["outputs"][0]["sqnr"].as_f64().unwrap();
        assert!((sqnr(made_one) - sqnr(seen_one)).abs() < 0.5, "{target}: {} {}", sqnr(made_one), sqnr(seen_one));
        let matched = &seen_one["matching"];
        let by_name = matched["layers_by_name"].as_u64().unwrap();
        assert!(by_name >= 2 && by_name + matched["layers_by_order"].as_u64().unwrap() == 3, "{target}: {matched}");
        let (made, seen) = (layers(&made), layers(&seen));
        assert_eq!(made.len(), seen.len());
        for (made, seen) in made.iter().zip(&seen) {
            assert!(made.0 == seen.0 && (made.1 - seen.1).abs() < 0.5, "{target}: {made:?} {seen:?}");
        }
        // Activations that a format quantizes have a histogram and a range.
        let values = seen_one["quality"]["values"].as_array().unwrap();
        let ranges =
            values.iter().filter(|v| v["quantization"].is_object() && !v["counts"].as_array().unwrap().is_empty());
        assert!(ranges.count() >= 3, "{target}: {values:?}");
        let nodes = seen_one["nodes"].as_array().unwrap();
        assert_eq!(nodes.iter().filter(|n| n["sqnr"].is_number()).count(), 3, "{target}: {nodes:?}");
        let inspected: Value = serde_json::from_str(&succeeds(dir.path(), &["inspect", "--json", artefact])).unwrap();
        let tensors: Vec<&Value> =
            inspected["graphs"][0]["tensors"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
        let results: Vec<&Value> = nodes.iter().flat_map(|n| n["results"].as_array().unwrap()).collect();
        assert!(results.iter().all(|name| tensors.contains(name)), "{target}: {results:?}");
        assert!(target != "tflite" || results.len() >= 3, "{results:?}");
        let page = fs::read_to_string(dir.path().join("seen.html")).unwrap();
        let text = fs::read_to_string(dir.path().join("seen.json")).unwrap();
        let odd: Vec<String> = figures(&page).into_iter().filter(|n| !text.contains(n)).collect();
        assert!(odd.is_empty() && page.contains("Matched with the float model"), "{odd:?}");
    }
}

/// Without common names, layers are matched by order and shape.
#[test]
fn names_are_not_needed() {
    let dir = folder();
    pictures(dir.path(), 4);
    fs::write(dir.path().join("cubes.onnx"), model(cubes()).encode_to_vec()).unwrap();
    fs::write(dir.path().join("renamed.onnx"), model(renamed(cubes())).encode_to_vec()).unwrap();
    succeeds(dir.path(), &[&["cubes.onnx", "--to", "onnx", "--int8", "-o", "int8.onnx"], DATA].concat());
    let mut all = Vec::new();
    for source in ["cubes.onnx", "renamed.onnx"] {
        succeeds(dir.path(), &[&["report", "int8.onnx", source, "-o", "r.json"], DATA].concat());
        all.push(json(dir.path().join("r.json")));
    }
    let matched = &all[1]["artefacts"][0]["matching"];
    assert!(matched["layers_by_order"] == 3 && matched["unmatched"].as_array().unwrap().is_empty(), "{matched}");
    assert_eq!(all[0]["artefacts"][0]["quality"]["outputs"], all[1]["artefacts"][0]["quality"]["outputs"]);
    // The last layer has no other activation function than its quantization.
    assert_eq!(layers(&all[0])[2].1, layers(&all[1])[2].1);
}

/// An artefact alone has a cost, operators and ranges, and no quality.
#[test]
fn an_artefact_alone_has_ranges() {
    let dir = folder();
    pictures(dir.path(), 4);
    succeeds(dir.path(), &[&["small.onnx", "--to", "tflite,onnx,openvino", "--int8", "-o", "out/"], DATA].concat());
    for file in ["small_int8.tflite", "small_int8.onnx", "small_int8.xml", "../small.onnx"] {
        let said = succeeds(dir.path(), &["report", &format!("out/{file}"), "-o", "r.json", "-o", "r.html"]);
        let report = json(dir.path().join("r.json"));
        check_schema(&report);
        let one = &report["artefacts"][0];
        assert!(one["costs"]["before"].is_null() && one["costs"]["after"]["weight_bytes"].as_u64() > Some(0), "{one}");
        assert!(said.contains("memory") && !said.contains("written"), "{said}");
        let operators = report["artefacts"][0]["operators"].as_u64().unwrap();
        let inspected = succeeds(dir.path(), &["inspect", "--json", &format!("out/{file}")]);
        let inspected: Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(operators as usize, inspected["graphs"][0]["operators"].as_array().unwrap().len());
        if !file.starts_with("..") {
            let values = one["quality"]["values"].as_array().unwrap();
            assert!(
                !values.is_empty() && values.iter().all(|v| v["quantization"]["scale"].as_f64() > Some(0.0)),
                "{values:?}"
            );
            assert!(one["quality"]["outputs"].as_array().unwrap().is_empty());
        }
    }
}

#[test]
fn what_cannot_be_reported_on_is_refused() {
    let dir = folder();
    pictures(dir.path(), 4);
    succeeds(dir.path(), &[&["small.onnx", "--to", "onnx", "--int8", "-o", "int8.onnx"], DATA].concat());
    succeeds(dir.path(), &["small.onnx", "--to", "qir", "-o", "small.qir"]);
    let said = |args: &[&str]| refusal(dir.path(), args);
    let graph = said(&["report", "small.qir"]);
    assert!(graph.starts_with("2\n") && graph.contains("small.qir is a source, not an artefact"), "{graph}");
    let quantized = said(&[&["report", "int8.onnx", "int8.onnx"], DATA].concat());
    assert!(quantized.starts_with("2\n") && quantized.contains("the source is quantized itself"), "{quantized}");
    let dataless = said(&["report", "int8.onnx", "small.onnx"]);
    assert!(dataless.starts_with("2\n") && dataless.contains("--data"), "{dataless}");
    fs::write(dir.path().join("cubes.onnx"), model(cubes()).encode_to_vec()).unwrap();
    let other = said(&[&["report", "int8.onnx", "cubes.onnx"], DATA].concat());
    assert!(other.contains("the outputs of the models do not match"), "{other}");
    let before = fs::read(dir.path().join("int8.onnx")).unwrap();
    let replaced = said(&["report", "int8.onnx", "-o", "int8.onnx"]);
    assert!(replaced.contains("int8.onnx") && fs::read(dir.path().join("int8.onnx")).unwrap() == before, "{replaced}");
    assert!(!Path::new(&dir.path().join("r.json")).exists());
}

//! Names in a model may hold anything; printed and written names are escaped and unambiguous.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use qcc_formats::onnx::{ModelProto, StringStringEntryProto};
use qcc_formats::tflite;
#[cfg(feature = "oracles")]
use qcc_ir::{Shape, Tensor};

use crate::cli::{floats, folder, node, of, qcc, refusal, some, text, value};
#[cfg(feature = "oracles")]
use crate::oracle::{self, Run};

/// A forged line, terminal control sequences, a bidirectional override, a string terminator.
const NAME: &str = "a\nerror[fake]: b\r\u{1b}]0;t\u{7}\u{9b}2J\u{202e}\0\u{7f}\"";

fn save(folder: &Path, name: &str, model: &ModelProto) {
    fs::write(folder.join(name), model.encode_to_vec()).unwrap();
}

/// A model in which all names are [`NAME`] with a suffix.
fn odd_model() -> ModelProto {
    let name = |end: &str| format!("{NAME}{end}");
    let mut model = of(
        vec![node("Conv", &[&name("x"), &name("w")], &name("c")), node("Softmax", &[&name("c")], &name("y"))],
        vec![floats(&name("w"), &[3, 2, 3, 3], (0..).map(|i| i as f32 / 9.0))],
    );
    let graph = model.graph.as_mut().unwrap();
    graph.name = Some(name("g"));
    graph.input = vec![value(&name("x"), &[1, 2, 4, 4])];
    graph.output[0].name = Some(name("y"));
    let metadata = [("task", "detect"), ("names", "{0: 'a'}"), ("stride", "32"), (NAME, NAME)];
    let entry = |(key, value)| StringStringEntryProto { key: some(key), value: some(value) };
    model.metadata_props = metadata.map(entry).into();
    model
}

/// Fails if output contains terminal control characters, or a line that a name forges.
fn assert_plain(what: &[&str], said: &str) {
    let odd = said.chars().find(|&c| c != '\n' && qcc::ir::diagnostic::is_order(c));
    assert_eq!(odd, None, "{what:?}: {said:?}");
    assert!(said.lines().all(|l| !l.trim_start().starts_with("error[fake]")), "{what:?}: {said}");
}

#[test]
fn names_give_no_orders() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), "m.onnx", &odd_model());
    let mut refused = odd_model();
    refused.graph.as_mut().unwrap().node[1].op_type = Some(format!("{NAME}Op"));
    save(dir.path(), "r.onnx", &refused);
    let compile = ["m.onnx", "--to", "tflite,onnx,openvino", "-v", "--print-after", "layout", "-o", "."];
    let int8 = ["--int8", "--data", "random", "--report", "r.json"];
    let shape = format!("{}=1", NAME.replace('\0', ""));
    for run in [
        &["r.onnx", "--to", "tflite"][..],
        &compile,
        &[&compile[..], &int8].concat(),
        &["m.onnx", "--to", "tflite", "--shape", &shape],
        &["m.onnx", "--to", "tflite", "-o", "no\u{1b}[2J/m.tflite"],
        &["inspect", "m.onnx"],
        &["inspect", "m.onnx", "--format", "json"],
        &["inspect", "m.tflite"],
        &["inspect", "m.tflite", "--format", "json"],
        &["inspect", "m_int8.onnx"],
        &["inspect", "m.onnx", "--graph"],
        &["diff", "m.onnx", "m_int8.onnx"],
        &["diff", "m.onnx", "m_int8.onnx", "--json"],
        &["compare", "m.onnx", "m_int8.tflite", "--data", "random"],
        &["compare", "m.onnx", "m.tflite", "--data", "random", "--json"],
        &["compare", "r.onnx", "m.tflite", "--data", "random", "--json"],
    ] {
        let out = qcc(dir.path(), run);
        assert_plain(run, &text(&out.stdout));
        assert_plain(run, &text(&out.stderr));
        assert!(out.stdout.len() + out.stderr.len() > 20, "{run:?}");
    }
    let report = fs::read_to_string(dir.path().join("r.json")).unwrap();
    assert_plain(&["r.json"], &report);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["artefacts"][0]["outputs"][0]["name"], format!("{NAME}y"));
    let file = fs::read(dir.path().join("m.onnx")).unwrap();
    for written in ["m.onnx", "m_int8.onnx"] {
        let file = fs::read(dir.path().join(written)).unwrap_or(file.clone());
        assert_plain(
            &[written],
            &qcc::backends::onnx::disassemble(&file.into(), &|name| Err(name.to_owned())).unwrap().to_string(),
        );
    }
}

/// The metadata for Ultralytics' loader have the keys of the model, whatever they are.
#[test]
fn metadata_are_data() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), "m.onnx", &odd_model());
    assert!(qcc(dir.path(), &["m.onnx", "--to", "openvino"]).status.success());
    let yaml = fs::read_to_string(dir.path().join("m_openvino_model/metadata.yaml")).unwrap();
    assert_plain(&["metadata.yaml"], &yaml);
    let read: std::collections::BTreeMap<String, serde_norway::Value> = serde_norway::from_str(&yaml).unwrap();
    assert_eq!(read.keys().map(String::as_str).collect::<Vec<_>>(), [NAME, "names", "stride", "task"]);
    assert_eq!(read[NAME], serde_norway::Value::from(NAME));
}

/// A value may be an output under several names, also if it is a constant or an input.
#[cfg(feature = "oracles")]
#[test]
fn outputs_named_twice() {
    let dir = tempfile::tempdir().unwrap();
    let x = Tensor::from_vec(Shape::known(&[1, 2, 4, 4]), (0..32).map(|i| i as f32 - 16.0).collect());
    let mut runs = Vec::new();
    for outputs in [&["y", "y"][..], &["c", "c"], &["c", "y", "c", "y"], &["x", "y", "x"]] {
        let constant = floats("c", &[1, 2, 4, 4], (0..).map(|i| i as f32));
        let mut model = of(vec![node("Relu", &["x"], "y")], vec![constant]);
        model.graph.as_mut().unwrap().name = some("g");
        model.graph.as_mut().unwrap().output = outputs.iter().map(|o| value(o, &[1, 2, 4, 4])).collect();
        save(dir.path(), "in.onnx", &model);
        assert!(qcc(dir.path(), &["in.onnx", "--to", "onnx", "-o", "out.onnx"]).status.success(), "{outputs:?}");
        for file in ["in.onnx", "out.onnx"] {
            let model = fs::read(dir.path().join(file)).unwrap().into();
            runs.push(Run { model, inputs: vec![x.clone()], optimized: true });
        }
        // The other formats distinguish their outputs without copies.
        for to in ["tflite", "openvino"] {
            assert!(qcc(dir.path(), &["in.onnx", "--to", to]).status.success(), "{outputs:?} {to}");
        }
    }
    for pair in oracle::run("ort.py", "named_twice", &runs).chunks(2) {
        assert!(pair[0].is_ok() && pair[0] == pair[1], "{pair:?}");
    }
}

/// A signature may use one name for an input and an output. In other formats a name denotes one value.
#[test]
fn a_signature_with_one_name_for_two_values() {
    let dir = folder();
    assert!(qcc(dir.path(), &["small.onnx", "--to", "tflite"]).status.success());
    let mut model = tflite::Model::read(&Bytes::from(fs::read(dir.path().join("small.tflite")).unwrap())).unwrap();
    model.signature_defs[0].outputs[0].name = "x".into();
    let mut file = Vec::new();
    model.write(&mut file).unwrap();
    fs::write(dir.path().join("alike.tflite"), file).unwrap();
    for to in ["tflite", "onnx", "openvino"] {
        let out = qcc(dir.path(), &["alike.tflite", "--to", to, "-o", "out"]);
        assert!(out.status.success() && text(&out.stdout).contains("output       x_1: f32[1,6,6,4]"), "{to}");
        let warning =
            "warning[output-name]: output x is called x_1 here: the model gives its name to another value as well\n";
        assert_eq!(text(&out.stderr), warning);
    }
}

/// The time to report many unknown operators is linear in their number.
#[test]
fn many_refusals_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let after = |kind: &str, i: usize| node(kind, &[&format!("v{i}")], &format!("v{}", i + 1));
    let different = (0..40_000).map(|i| after(&format!("Op{i}"), i));
    let same = (40_000..80_000).map(|i| after("Same", i));
    let nodes = [node("Relu", &["x"], "v0")].into_iter().chain(different).chain(same);
    let nodes = nodes.chain([node("Relu", &["v80000"], "y")]).collect();
    save(dir.path(), "m.onnx", &of(nodes, Vec::new()));
    let said = refusal(dir.path(), &["m.onnx", "--to", "tflite"]);
    assert!(said.lines().count() < 200, "{}", said.lines().count());
    assert!(said.contains("error[unsupported-op]: 39951 more of these"), "{said}");
}

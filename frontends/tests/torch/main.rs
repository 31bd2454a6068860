//! Models of `torch.export`: comparison with PyTorch's results, older archives, errors, damaged and hostile files. The
//! models are made by `tests/models/torch/make.py`.

#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use qcc_frontends::{GivenShape, ImportOptions, Imported, Model};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::Executor;
use qcc_ir::ops::{Op, OpKind};
use qcc_ir::{Elem, Graph, Shape, Tensor};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod archives;
mod open;
mod programs;

/// Shape and elements.
type Numbers = (Vec<usize>, Vec<Value>);

/// PyTorch's results.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) inputs: Vec<Numbers>,
    outputs: Vec<Numbers>,
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/torch")
}

pub(crate) fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(format!("{name}.pt2"))).expect("the model is part of the repository")
}

pub(crate) fn cases() -> BTreeMap<String, Case> {
    results("cases.json")
}

/// PyTorch's results in a file.
pub(crate) fn results<T: DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(folder().join(name)).expect("the results are part of the repository");
    // Python writes non-finite numbers, which JSON does not have.
    let text = text.replace("NaN", "\"NaN\"").replace("-Infinity", "\"-inf\"").replace("Infinity", "\"inf\"");
    serde_json::from_str(&text).expect("cases")
}

pub(crate) fn read(bytes: Vec<u8>, shapes: &[(&str, &[usize])]) -> Result<Imported, Vec<Diagnostic>> {
    let given = |dims: &[usize]| -> GivenShape { dims.iter().map(|&n| Some(n)).collect() };
    let shapes = shapes.iter().map(|(name, dims)| (name.to_string(), given(dims))).collect();
    import(bytes, &ImportOptions { shapes, ..ImportOptions::default() })
}

pub(crate) fn import(bytes: Vec<u8>, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    Model::read(Bytes::from(bytes), Path::new("")).and_then(|model| model.import(options))
}

pub(crate) fn graph(bytes: Vec<u8>, shapes: &[(&str, &[usize])]) -> Graph {
    let imported = read(bytes, shapes).unwrap_or_else(|e| panic!("{}", told(&e)));
    imported.graph.verify().expect("a valid graph");
    imported.graph
}

/// Messages with origins, lines and help, as one text.
pub(crate) fn told(all: &[Diagnostic]) -> String {
    let line = |d: &Diagnostic| {
        let origin: Vec<String> = d
            .origin
            .sources()
            .iter()
            .map(|s| format!(" [{} {} {}]", s.path, s.kind, s.line.as_deref().unwrap_or("")))
            .collect();
        format!(
            "{}: {}{}{}\n",
            d.code,
            d.message,
            origin.concat(),
            d.help.iter().map(|h| format!(" ({h})")).collect::<String>()
        )
    };
    all.iter().map(line).collect()
}

pub(crate) fn refused(bytes: Vec<u8>) -> String {
    read(bytes, &[]).map(|_| String::new()).unwrap_or_else(|e| told(&e))
}

pub(crate) fn number(v: &Value) -> f64 {
    match v {
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::String(s) => s.parse().expect("a number"),
        v => v.as_f64().expect("a number"),
    }
}

pub(crate) fn tensor(elem: &Elem, dims: &[usize], values: &[Value]) -> Tensor {
    let values = values.iter().map(number);
    let shape = Shape::known(dims);
    match *elem {
        Elem::F32 => Tensor::from_vec(shape, values.map(|v| v as f32).collect()),
        Elem::I64 => Tensor::from_vec(shape, values.map(|v| v as i64).collect()),
        ref other => panic!("inputs of {other}"),
    }
}

pub(crate) fn run(graph: &Graph, case: &Case) -> Vec<Tensor> {
    let inputs: Vec<Tensor> =
        graph.inputs().zip(&case.inputs).map(|(v, (dims, values))| tensor(&graph.ty(v).elem, dims, values)).collect();
    Executor::new(graph).run(&inputs, &mut |_, _| {}).expect("a run")
}

/// Results agree with PyTorch's: integers exactly, floats to the fifth digit of the largest.
pub(crate) fn agree(name: &str, graph: &Graph, case: &Case) {
    let found = run(graph, case);
    assert_eq!(found.len(), case.outputs.len(), "{name}");
    for (i, (found, (dims, wanted))) in found.iter().zip(&case.outputs).enumerate() {
        assert_eq!(found.ty().shape, Shape::known(dims), "{name}, output {i}");
        let wanted: Vec<f64> = wanted.iter().map(number).collect();
        let largest = wanted.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
        let most = if found.ty().elem.is_float() { 1e-5 * largest + 1e-6 } else { 0.0 };
        for (at, (&f, w)) in found.floats().iter().zip(wanted).enumerate() {
            let f = f64::from(f);
            let same = f == w || (f.is_nan() && w.is_nan()) || (f - w).abs() <= most;
            assert!(same, "{name}, output {i}, element {at}: {f}, PyTorch has {w}");
        }
    }
}

const REFUSED: [&str; 4] = ["overwritten", "sampled", "stateful", "stateful_decomposed"];

fn example_shapes(name: &str) -> Vec<(&'static str, &'static [usize])> {
    match name {
        "dynamic" => vec![("input", &[2, 4, 9, 7])],
        "open_extents" => vec![("inputs_0", &[3, 2, 10])],
        _ => Vec::new(),
    }
}

#[test]
fn results_are_those_of_pytorch() {
    let only = std::env::var("CASE").ok();
    let mut wrong = String::new();
    for (name, case) in cases().iter().filter(|(name, _)| !REFUSED.contains(&name.as_str())) {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let outcome = std::panic::catch_unwind(|| agree(name, &graph(file(name), &example_shapes(name)), case));
        if let Err(e) = outcome {
            let said = e.downcast_ref::<String>().cloned().unwrap_or_default();
            wrong += &format!("## {name}\n{said}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn samples_of_random_results_are_inputs_where_that_is_asked_for() {
    let options = ImportOptions { random_inputs: true, ..ImportOptions::default() };
    let g = import(file("sampled"), &options).expect("it imports").graph;
    let names: Vec<String> = g.inputs().filter_map(|v| g.name(v)).map(ToString::to_string).collect();
    assert!(names.contains(&"rand_like_uniform".to_owned()), "{names:?}");
}

#[test]
fn refusals_name_operator_node_and_line() {
    assert_eq!(
        refused(file("sampled")),
        "unsupported: its result is random [rand_like rand_like make.py:34] (--random input makes the samples an input of \
         the model; or export the model for inference)\n"
    );
    assert!(refused(file("overwritten")).contains("writing in place to complex numbers, through real"));
    for name in ["stateful", "stateful_decomposed"] {
        assert_eq!(
            refused(file(name)),
            "unsupported: buffer total changes from run to run, and results depend on it [total buffer ] (make it an \
             input and an output of the model)\n"
        );
    }
}

#[test]
fn quantized_values_have_quantized_types() {
    let graph = graph(file("quantized"), &[]);
    let count = |kind: OpKind| graph.order().into_iter().filter(|&n| graph.op(n).kind() == kind).count();
    assert_eq!((count(OpKind::Quantize), count(OpKind::Dequantize)), (2, 3));
    let is_quantized =
        |n| matches!(graph.op(n), Op::Const(c) if c.value.ty().elem.qparams().is_some_and(|g| g.scales().len() == 4));
    assert!(graph.order().into_iter().any(is_quantized));
}

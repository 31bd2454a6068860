//! Small files that demand much memory: what exceeds the limits is refused before the work begins, with the amount
//! needed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use prost::Message;
use qcc_formats::onnx::{
    AttributeProto, AttributeType, FunctionProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};

use crate::cli::{files, floats, node, of, some, text};
use crate::hostile::integers;

/// Runs qcc with a limited address space: what is not refused beforehand fails to allocate.
fn with_memory(folder: &Path, kilobytes: u64, args: &[&str]) -> Output {
    let run = format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"");
    let command = ["-c", &run, env!("CARGO_BIN_EXE_qcc")];
    Command::new("sh").args(command).args(args).current_dir(folder).output().unwrap()
}

/// The messages for a refused model.
fn refused(model: &ModelProto, args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), model.encode_to_vec()).unwrap();
    let out = with_memory(dir.path(), 3 << 20, &[&["m.onnx", "--to", "tflite"], args].concat());
    assert_eq!(files(dir.path()), ["m.onnx"]);
    format!("{:?}\n{}", out.status.code(), text(&out.stderr))
}

pub(crate) fn with(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: some(name),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..AttributeProto::default()
    });
    node
}

const INT8: &[&str] = &["--int8", "--data", "random"];

/// Values that are alive at the same time, whatever operators produce them.
#[cfg(unix)]
#[test]
fn evaluations_that_take_too_much() {
    let sum = |x: &str| node("ReduceSum", &[x], "y");
    let mut out = String::new();
    for (name, nodes, constants) in [
        (
            "expanded, then a function",
            vec![node("Expand", &["x", "s"], "a"), node("Sin", &["a"], "b"), sum("b")],
            vec![integers("s", &[4], &[12_000_000, 2, 4, 4])],
        ),
        (
            "tiled, several read at once",
            vec![
                node("Tile", &["x", "s"], "a"),
                node("Sin", &["a"], "b"),
                node("Cos", &["a"], "c"),
                node("Sum", &["a", "b", "c"], "d"),
                sum("d"),
            ],
            vec![integers("s", &[4], &[1, 1, 3000, 2500])],
        ),
        (
            "padded",
            vec![node("Pad", &["x", "s"], "a"), node("Sin", &["a"], "b"), sum("b")],
            vec![integers("s", &[8], &[0, 0, 7000, 7000, 0, 0, 7000, 7000])],
        ),
        (
            "resized",
            vec![node("Resize", &["x", "", "", "s"], "a"), node("Sin", &["a"], "b"), sum("b")],
            vec![integers("s", &[4], &[1, 2, 18_000, 12_000])],
        ),
    ] {
        out += &format!("## {name}\n{}", refused(&of(nodes, constants), INT8));
    }
    // The available memory differs between systems.
    let room = dotted(&out, "there is room for ", " GB");
    insta::assert_snapshot!("evaluations_that_take_too_much", room);
}

/// The text with dots in place of what is between `before` and `after`.
fn dotted(text: &str, before: &str, after: &str) -> String {
    let mut parts = text.split(before);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let rest = part.split_once(after).map_or(part, |(_, rest)| rest);
        format!("{all}{before}..{after}{rest}")
    })
}

/// Two concurrent samples need twice the memory: without it, they are evaluated one after the other.
#[cfg(unix)]
#[test]
fn samples_wait_for_room() {
    let nodes = vec![node("Expand", &["x", "s"], "a"), node("ReduceSum", &["a"], "y")];
    let model = of(nodes, vec![integers("s", &[4], &[800_000, 2, 4, 4])]);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), model.encode_to_vec()).unwrap();
    // Values of 102 MB.
    for (kilobytes, fits) in [(2 << 20, true), (100 << 10, false)] {
        let args = ["m.onnx", "--to", "tflite", "--int8", "--data", "random", "--samples", "6"];
        let out = with_memory(dir.path(), kilobytes, &args);
        assert_eq!(out.status.code(), Some(if fits { 0 } else { 1 }), "{}", text(&out.stderr));
        assert_eq!(text(&out.stderr).contains("error[too-large]"), !fits);
    }
}

/// Large constants that the model defines by a few numbers.
#[cfg(unix)]
#[test]
fn constants_that_take_too_much() {
    let scalar = |name: &str, v: i64| integers(name, &[], &[v]);
    let cast = |x: &str| with(node("Cast", &[x], "f"), "to", 1);
    let mut out = String::new();
    for (name, nodes, constants) in [
        (
            "one-hot",
            vec![
                with(node("Cast", &["x"], "i"), "to", 7),
                node("OneHot", &["i", "d", "v"], "o"),
                node("ReduceSum", &["o"], "y"),
            ],
            vec![scalar("d", 30_000_000), floats("v", &[2], [0.0, 1.0].into_iter())],
        ),
        (
            "range",
            vec![
                node("Range", &["a", "b", "c"], "r"),
                node("ReduceSum", &["r"], "s"),
                cast("s"),
                node("Add", &["x", "f"], "y"),
            ],
            vec![scalar("a", 0), scalar("b", 1 << 30), scalar("c", 1)],
        ),
        (
            "unit matrix",
            vec![
                node("ConstantOfShape", &["s"], "c"),
                with(node("EyeLike", &["c"], "e"), "dtype", 1),
                node("ReduceSum", &["e"], "f"),
                node("Add", &["x", "f"], "y"),
            ],
            vec![integers("s", &[2], &[15_000, 15_000])],
        ),
        (
            "matrix of a resampling",
            vec![
                node("Tile", &["x", "t"], "a"),
                {
                    let mut resize = node("Resize", &["a", "", "", "s"], "b");
                    resize.attribute.push(AttributeProto {
                        name: some("mode"),
                        r#type: Some(AttributeType::String as i32),
                        s: Some("cubic".into()),
                        ..AttributeProto::default()
                    });
                    resize
                },
                node("ReduceSum", &["b"], "y"),
            ],
            vec![integers("t", &[4], &[1, 1, 4000, 1]), integers("s", &[4], &[1, 2, 20_000, 4])],
        ),
    ] {
        out += &format!("## {name}\n{}", refused(&of(nodes, constants), &[]));
    }
    insta::assert_snapshot!("constants_that_take_too_much", out);
}

/// Folded constants: those that exceed the limit are computed at run time.
#[cfg(unix)]
#[test]
fn folded_constants_are_bounded_together() {
    let fan = 400usize;
    let add = (0..fan).map(|i| node("Add", &["w", &format!("c{i}")], &format!("k{i}")));
    let sums = (0..fan).map(|i| with(node("ReduceMax", &[&format!("k{i}")], &format!("r{i}")), "keepdims", 0));
    let names: Vec<String> = std::iter::once("x".to_owned()).chain((0..fan).map(|i| format!("r{i}"))).collect();
    let sum = node("Sum", &names.iter().map(String::as_str).collect::<Vec<_>>(), "y");
    let constants: Vec<TensorProto> = std::iter::once(floats("w", &[1 << 20], (0..).map(|i| i as f32)))
        .chain((0..fan).map(|i| floats(&format!("c{i}"), &[1], std::iter::once(i as f32))))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let model = of(add.chain(sums).chain([sum]).collect(), constants);
    fs::write(dir.path().join("m.onnx"), model.encode_to_vec()).unwrap();
    // All together have 1.7 GB.
    let out = with_memory(dir.path(), 900 << 10, &["m.onnx", "--to", "onnx", "-o", "o.onnx"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(fs::metadata(dir.path().join("o.onnx")).unwrap().len() < 300 << 20);
}

/// Functions that call the next one twice, with a long name.
#[cfg(unix)]
#[test]
fn names_of_functions_that_take_too_much() {
    let deepest = 16;
    let call = |f: usize, x: &str, y: &str| NodeProto {
        domain: some("own"),
        name: Some(format!("{y}{}", if f == 0 { "n".repeat(100_000) } else { String::new() })),
        ..node(&format!("F{f}"), &[x], y)
    };
    let function = |f: usize| FunctionProto {
        name: Some(format!("F{f}")),
        domain: some("own"),
        input: vec!["a".into()],
        output: vec!["c".into()],
        node: match f {
            f if f == deepest => vec![node("Neg", &["a"], "c")],
            f => vec![call(f + 1, "a", "b"), call(f + 1, "b", "c")],
        },
        opset_import: vec![OperatorSetIdProto { domain: some(""), version: Some(17) }],
        ..FunctionProto::default()
    };
    let mut model = of(vec![call(0, "x", "y")], vec![]);
    model.functions = (0..=deepest).map(function).collect();
    model.opset_import.push(OperatorSetIdProto { domain: some("own"), version: Some(1) });
    insta::assert_snapshot!("names_of_functions", refused(&model, &[]).replace(&"n".repeat(100), ""));
}

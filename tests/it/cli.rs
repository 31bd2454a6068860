//! The command line: exit codes, messages, and files on disk.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use prost::Message;
use qcc::backends::{Device, Format};
use qcc_formats::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, TypeValue, ValueInfoProto,
};

use tempfile::TempDir;

use crate::hostile::integers;

/// Runs qcc in a folder.
pub(crate) fn qcc(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qcc")).args(args).current_dir(folder).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code and messages of a failing run.
pub(crate) fn refusal(folder: &Path, args: &[&str]) -> String {
    let out = qcc(folder, args);
    assert_eq!(text(&out.stdout), "", "{args:?}");
    format!("{}\n{}", out.status.code().unwrap(), text(&out.stderr))
}

pub(crate) fn succeeds(folder: &Path, args: &[&str]) -> String {
    let out = qcc(folder, args);
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn some(s: &str) -> Option<String> {
    Some(s.to_owned())
}

pub(crate) fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension {
        value: Some(match d {
            0 => DimensionValue::Param("n".into()),
            d => DimensionValue::Value(d),
        }),
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TypeProtoTensor { elem_type: Some(DataType::Float as i32), shape: Some(shape) };
    ValueInfoProto { name: some(name), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
}

pub(crate) fn node(kind: &str, operands: &[&str], result: &str) -> NodeProto {
    NodeProto {
        input: operands.iter().map(|&o| o.into()).collect(),
        output: vec![result.into()],
        name: Some(format!("/{}", result)),
        op_type: some(kind),
        ..NodeProto::default()
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], values: impl Iterator<Item = f32>) -> TensorProto {
    let float_data: Vec<f32> = values.take(dims.iter().product::<i64>() as usize).collect();
    TensorProto {
        dims: dims.into(),
        data_type: Some(DataType::Float as i32),
        name: some(name),
        float_data,
        ..TensorProto::default()
    }
}

/// A model whose input x `[1,2,4,4]` passes the nodes to output y; `constants` are further operands.
pub(crate) fn of(node: Vec<NodeProto>, constants: Vec<TensorProto>) -> ModelProto {
    let any = TypeProtoTensor { elem_type: Some(DataType::Float as i32), shape: None };
    let y = ValueInfoProto { name: some("y"), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(any)) }) };
    let graph = GraphProto {
        node,
        initializer: constants,
        input: vec![value("x", &[1, 2, 4, 4])],
        output: vec![y],
        ..GraphProto::default()
    };
    model(graph)
}

pub(crate) fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: some(""), version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// x `[batch,3,8,8]`, a 3x3 convolution to 4 channels without padding, relu, y `[batch,4,6,6]`. Batch 0 means an open
/// batch.
fn small(batch: i64) -> ModelProto {
    let weights = (0..).map(|i| ((i * 37 % 23) as f32 - 11.0) / 23.0);
    let graph = GraphProto {
        name: some("small"),
        node: vec![node("Conv", &["x", "w", "b"], "c"), node("Relu", &["c"], "y")],
        initializer: vec![floats("w", &[4, 3, 3, 3], weights), floats("b", &[4], [0.1, -0.2, 0.3, 0.0].into_iter())],
        input: vec![value("x", &[batch, 3, 8, 8])],
        output: vec![value("y", &[batch, 4, 6, 6])],
        ..GraphProto::default()
    };
    model(graph)
}

/// A folder with `small.onnx`.
pub(crate) fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("small.onnx"), small(1).encode_to_vec()).unwrap();
    dir
}

/// Images of 9x9 pixels with varied values, in the folder `pictures`.
pub(crate) fn pictures(folder: &Path, n: u32) {
    let at = folder.join("pictures");
    fs::create_dir(&at).unwrap();
    for i in 0..n {
        let picture = image::RgbImage::from_fn(9, 9, |x, y| {
            image::Rgb([(x * 29 + i * 7) as u8, (y * 31 + i * 11) as u8, (x * y * 13 + i) as u8])
        });
        picture.save(at.join(format!("{i}.png"))).unwrap();
    }
}

const INT8: &[&str] = &["small.onnx", "--to", "tflite", "--int8", "--data", "pictures", "--scale", "1/255"];

#[test]
fn float_model_is_written_under_its_own_name() {
    let dir = folder();
    let said = succeeds(dir.path(), &["small.onnx", "--to", "tflite"]);
    assert!(said.contains("small.tflite") && said.contains("tflite float32"), "{said}");
    assert_eq!(files(dir.path()), ["small.onnx", "small.tflite"]);
    assert_eq!(&fs::read(dir.path().join("small.tflite")).unwrap()[4..8], b"TFL3");
    assert_eq!(succeeds(dir.path(), &["small.onnx", "--to", "litert", "-o", "other.tflite", "-q"]), "");
    assert_eq!(fs::read(dir.path().join("other.tflite")).unwrap(), fs::read(dir.path().join("small.tflite")).unwrap());
}

#[test]
fn half_precision_is_half_the_size() {
    let dir = folder();
    succeeds(dir.path(), &["small.onnx", "--to", "tflite", "--fp16"]);
    let said = succeeds(dir.path(), &["inspect", "small_float16.tflite"]);
    assert!(said.contains("FLOAT16") && said.contains("DEQUANTIZE"), "{said}");
}

#[test]
fn int8_model_is_written_with_a_report() {
    let dir = folder();
    pictures(dir.path(), 6);
    let said = succeeds(dir.path(), &[INT8, &["--report", "r.json"]].concat());
    assert!(said.contains("6 pictures, 8x8 stretched, RGB, 1/255"), "{said}");
    assert_eq!(files(dir.path()), ["pictures", "r.json", "small.onnx", "small_int8.tflite"]);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(report["precision"], "int8");
    let bytes = fs::metadata(dir.path().join("small_int8.tflite")).unwrap().len();
    let artefact = &report["artefacts"][0];
    assert_eq!(artefact["output_bytes"], bytes);
    assert!(artefact["quality"]["outputs"][0]["sqnr"].as_f64().unwrap() > 25.0, "{report:#}");
}

#[test]
fn a_summary_tells_what_was_made() {
    let dir = folder();
    fs::write(dir.path().join("open.onnx"), small(0).encode_to_vec()).unwrap();
    let all = &["open.onnx", "--to", "tflite,onnx,openvino", "--int8", "--data", "random"];
    let said = succeeds(dir.path(), all);
    let (rows, time) = said.split_at(said.find("time ").unwrap());
    assert!(time.contains(" s (import "), "{time}");
    // The last digit of decibels depends on the processor.
    let row = |row: &str| match row.find("SQNR") {
        Some(at) => format!("{}..", &row[..at + 4]),
        None => row.split(" dB ").last().unwrap_or_default().to_owned(),
    };
    insta::assert_snapshot!("summary", rows.lines().map(row).collect::<Vec<_>>().join("\n"));
}

#[test]
fn same_input_gives_the_same_bytes() {
    let dir = folder();
    pictures(dir.path(), 5);
    for args in [
        INT8,
        &["small.onnx", "--to", "tflite"],
        &["small.onnx", "--to", "tflite", "--fp16"],
        &["small.onnx", "--to", "tflite", "--w8a32"],
        &["small.onnx", "--to", "onnx", "--quantize", "w4a32"],
    ] {
        for name in ["a", "b"] {
            succeeds(dir.path(), &[args, &["-o", name]].concat());
        }
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), fs::read(dir.path().join("b")).unwrap(), "{args:?}");
    }
}

#[test]
fn gate_that_is_not_met_writes_nothing() {
    let dir = folder();
    pictures(dir.path(), 2);
    let out = qcc(dir.path(), &[INT8, &["--min-sqnr", "200", "--effort", "fast"]].concat());
    assert_eq!(out.status.code(), Some(3));
    assert!(text(&out.stderr).contains("below --min-sqnr"), "{}", text(&out.stderr));
    assert_eq!(files(dir.path()), ["pictures", "small.onnx"]);
    succeeds(dir.path(), &[INT8, &["--min-sqnr", "20"]].concat());
}

/// What is asked of an output is reached by keeping parts of the model in higher precision.
#[test]
fn what_loses_accuracy_is_kept_in_higher_precision() {
    let dir = folder();
    pictures(dir.path(), 12);
    let sqnr = |file: &str| -> f64 {
        let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join(file)).unwrap()).unwrap();
        // `null` stands for outputs without any difference.
        report["artefacts"][0]["quality"]["outputs"][0]["sqnr"].as_f64().unwrap_or(f64::INFINITY)
    };
    for (to, file, weights) in
        [("tflite", "x.tflite", "x.tflite"), ("onnx", "x.onnx", "x.onnx"), ("openvino", "x.xml", "x.bin")]
    {
        let int8 = ["small.onnx", "--to", to, "--int8", "--data", "pictures", "--scale", "1/255", "-q"];
        succeeds(dir.path(), &[&int8[..], &["-o", "plain/", "--report", "plain.json"]].concat());
        let asked = format!("{:.1}", sqnr("plain.json") + 3.0);
        let gate = ["--min-sqnr", &asked, "--report", "r.json"];
        let fast = qcc(dir.path(), &[&int8[..], &gate, &["--effort", "fast", "-o", "fast/"]].concat());
        assert_eq!(fast.status.code(), Some(3), "{to}");
        assert!(!dir.path().join("fast").exists());
        let said = succeeds(dir.path(), &[&int8[..], &gate, &["--explain", "-o", "a/"]].concat());
        assert!(said.contains("measured: "), "{said}");
        assert!(sqnr("r.json") >= sqnr("plain.json") + 2.9, "{to}");
        let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap();
        let repair = &report["artefacts"][0]["quality"]["repair"];
        assert_eq!(repair["reached"], true, "{to}: {repair}");
        assert!(!repair["choices"].as_array().unwrap().is_empty(), "{to}: {repair}");
        assert!(
            said.lines().any(|l| l.contains("measured") && l.contains(repair["choices"][0]["name"].as_str().unwrap()))
        );
        // The choices do not depend on the number of threads.
        let written = |threads: &str| {
            let mut run = Command::new(env!("CARGO_BIN_EXE_qcc"));
            run.args(int8).args(gate).args(["-o", file]).current_dir(dir.path()).env("RAYON_NUM_THREADS", threads);
            assert!(run.output().unwrap().status.success());
            fs::read(dir.path().join(weights)).unwrap()
        };
        assert_eq!(written("1"), written("3"), "{to}");
    }
}

#[test]
fn a_broken_picture_is_named_and_skipped() {
    let dir = folder();
    pictures(dir.path(), 2);
    fs::write(dir.path().join("pictures/0.png"), "no picture").unwrap();
    let out = qcc(dir.path(), INT8);
    assert!(out.status.success());
    let said = text(&out.stderr);
    assert!(said.contains("warning[bad-picture]: pictures/0.png"), "{said}");
    fs::write(dir.path().join("pictures/1.png"), "").unwrap();
    let said = refusal(dir.path(), INT8);
    assert!(said.starts_with("1\n") && said.contains("none of 2 samples can be read"), "{said}");
}

#[test]
fn refused_data() {
    let dir = folder();
    pictures(dir.path(), 1);
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("d.yaml"), "path: d\nval: images\ndownload: https://example.com/d.zip\n").unwrap();
    fs::write(dir.path().join("d.csv"), "1,2\n").unwrap();
    let say = |data: &str| refusal(dir.path(), &["small.onnx", "--to", "tflite", "--int8", "--data", data]);
    insta::assert_snapshot!("data_missing", say("nowhere"));
    insta::assert_snapshot!("data_empty", say("empty"));
    insta::assert_snapshot!("data_yaml_without_pictures", say("d.yaml"));
    insta::assert_snapshot!("data_of_no_kind", say("d.csv"));
    insta::assert_snapshot!("data_without_preprocess", say("pictures"));
    insta::assert_snapshot!("unmatched_exclude", refusal(dir.path(), &[INT8, &["--exclude", "/nope*"]].concat()));
}

/// Nobody overlooks that ranges come from built-in pictures, whoever asked for them and however quiet the run is.
#[test]
fn synthetic_pictures_are_told() {
    let dir = folder();
    let int8 = ["small.onnx", "--to", "tflite", "--int8", "--scale", "1/255"];
    let made = |more: &[&str]| {
        let out = qcc(dir.path(), &[&int8[..], more].concat());
        assert!(out.status.success(), "{more:?}: {}", text(&out.stderr));
        (text(&out.stdout), text(&out.stderr), fs::read(dir.path().join("small_int8.tflite")).unwrap())
    };
    let (said, told, bytes) = made(&["--report", "r.json"]);
    assert!(said.contains("15 built-in pictures, 8x8 stretched, RGB, 1/255"), "{said}");
    assert!(said.contains("5 built-in pictures") && said.contains("figures of real pictures may be others"), "{said}");
    assert!(told.starts_with("warning[synthetic-data]") && told.contains("--data PATH"), "{told}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    assert_eq!(report["validation"]["synthetic"], true);
    assert_eq!(made(&["-q"]), (String::new(), told.clone(), bytes.clone()));
    assert_eq!(made(&["-q", "--data", "synthetic"]), (String::new(), told, bytes));
    // Figures of built-in pictures are no evidence that a gate could ask for, unless it does by name.
    let said = refusal(dir.path(), &[&int8[..], &["--min-sqnr", "1"]].concat());
    assert!(said.starts_with("2\n") && said.contains("on data"), "{said}");
    let gated =
        qcc(dir.path(), &[&int8[..], &["--data", "synthetic", "--min-sqnr", "900", "--effort", "fast", "-q"]].concat());
    let told = text(&gated.stderr);
    assert!(gated.status.code() == Some(3) && told.contains("warning[synthetic-data]"), "{told}");
    // The artefact tells it to those who get it; one made with data of their own has nothing to tell.
    assert!(succeeds(dir.path(), &["inspect", "small_int8.tflite"]).contains("qcc_calibration: 15 built-in pictures"));
    pictures(dir.path(), 2);
    made(&["--data", "pictures"]);
    assert!(!succeeds(dir.path(), &["inspect", "small_int8.tflite"]).contains("qcc_calibration"));
}

/// Each node of the model has a line for each target, and control characters in names are escaped.
#[test]
fn what_nodes_compute_with_is_explained() {
    let dir = folder();
    pictures(dir.path(), 2);
    let lines = |said: &str| -> String {
        let told = |line: &&str| ["tflite:", "onnx:", "openvino:"].iter().any(|target| line.starts_with(target));
        said.lines().filter(told).map(|line| format!("{line}\n")).collect()
    };
    let say = |args: &[&str]| lines(&succeeds(dir.path(), args));
    let int8 = ["small.onnx", "--int8", "--data", "pictures", "--scale", "1/255", "--to"];
    let all = say(&[&int8[..], &["tflite,onnx", "--exclude", "/y", "--explain"]].concat());
    let one = say(&[&int8[..], &["tflite", "--explain=/*c"]].concat());
    let weights = say(&["small.onnx", "--to", "onnx", "--w8a32", "--explain"]);
    let float = say(&["small.onnx", "--to", "tflite", "--explain"]);
    succeeds(dir.path(), &[&int8[..], &["onnx", "-o", "whole.onnx"]].concat());
    let given = say(&["whole.onnx", "--to", "tflite,openvino", "--explain"]);
    insta::assert_snapshot!("explain", [all, one, weights, float, given].join("\n"));
    // With `-q`, and if nothing is written.
    let quiet = succeeds(dir.path(), &[INT8, &["-q", "--explain=/c"]].concat());
    assert_eq!(quiet, lines(&quiet));
    let gate = qcc(dir.path(), &[INT8, &["--min-sqnr", "200", "--effort", "fast", "--explain"]].concat());
    assert_eq!((gate.status.code(), lines(&text(&gate.stdout)).lines().count()), (Some(3), 2));
    let unmatched = qcc(dir.path(), &[INT8, &["-q", "--explain=nope*"]].concat());
    assert!(unmatched.status.success() && unmatched.stdout.is_empty());
    insta::assert_snapshot!("explain_unmatched", text(&unmatched.stderr));

    let mut odd = small(1);
    odd.graph.as_mut().unwrap().node[0].name = some("a\u{1b}[2Jb\nc");
    fs::write(dir.path().join("odd.onnx"), odd.encode_to_vec()).unwrap();
    let said = succeeds(dir.path(), &["odd.onnx", "--to", "onnx", "--w8a32", "-q", "--explain=a*"]);
    assert_eq!(said.lines().count(), 1, "{said:?}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn refused_models() {
    let dir = folder();
    let whole = small(1).encode_to_vec();
    let say = |name: &str, bytes: &[u8]| {
        fs::write(dir.path().join(name), bytes).unwrap();
        let said = refusal(dir.path(), &[name, "--to", "tflite"]);
        assert!(said.starts_with("1\nerror["), "{said}");
        fs::remove_file(dir.path().join(name)).unwrap();
        said
    };
    say("cut.onnx", &whole[..whole.len() / 2]);
    say("noise.onnx", &(0..1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>());
    insta::assert_snapshot!("model_empty", say("empty.onnx", b""));
    insta::assert_snapshot!("model_text", say("text.onnx", b"hello, this is no model at all"));
    let mut odd = small(1);
    odd.graph.as_mut().unwrap().node[1].op_type = some("Frobnicate");
    insta::assert_snapshot!("model_unknown_operator", say("odd.onnx", &odd.encode_to_vec()));
    let mut open = small(1);
    let graph = open.graph.as_mut().unwrap();
    graph.input[0] = value("x", &[1, 3, 0, 8]);
    graph.node.push(node("Hardmax", &["y"], "z"));
    graph.output = vec![value("z", &[1, 4, 0, 6])];
    insta::assert_snapshot!("model_open_shape", say("open.onnx", &open.encode_to_vec()));
    let mut attribute = small(1);
    attribute.graph.as_mut().unwrap().node[0].attribute.push(AttributeProto {
        name: some("sparkle"),
        r#type: Some(AttributeType::Int as i32),
        i: Some(1),
        ..AttributeProto::default()
    });
    insta::assert_snapshot!("model_unknown_attribute", say("attribute.onnx", &attribute.encode_to_vec()));
    insta::assert_snapshot!("model_missing", refusal(dir.path(), &["none.onnx", "--to", "tflite"]));
    assert_eq!(files(dir.path()), ["small.onnx"]);
}

#[test]
fn any_name_will_do() {
    let dir = folder();
    fs::rename(dir.path().join("small.onnx"), dir.path().join("small.bin")).unwrap();
    succeeds(dir.path(), &["small.bin", "--to", "tflite"]);
    assert_eq!(files(dir.path()), ["small.bin", "small.tflite"]);
}

#[test]
fn unwritable_output_is_one_error() {
    let dir = folder();
    insta::assert_snapshot!(
        "output_folder_missing",
        refusal(dir.path(), &["small.onnx", "--to", "tflite", "-o", "no/such/a.tflite"])
    );
    insta::assert_snapshot!(
        "output_over_the_model",
        refusal(dir.path(), &["small.onnx", "--to", "tflite", "-o", "./small.onnx"])
    );
    assert_eq!(files(dir.path()), ["small.onnx"]);
    assert_eq!(fs::read(dir.path().join("small.onnx")).unwrap(), small(1).encode_to_vec());
}

#[test]
fn an_output_folder_takes_the_models_name() {
    let dir = folder();
    fs::create_dir(dir.path().join("out")).unwrap();
    succeeds(dir.path(), &["small.onnx", "--to", "tflite", "-o", "out"]);
    assert_eq!(files(&dir.path().join("out")), ["small.tflite"]);
}

#[test]
fn an_open_batch_stays_open() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("open.onnx"), small(0).encode_to_vec()).unwrap();
    // A reshape to [1,-1,36] gathers the batch in another axis.
    let mut gathered = small(0);
    let graph = gathered.graph.as_mut().unwrap();
    graph.initializer.push(integers("s", &[3], &[1, -1, 36]));
    graph.node.push(node("Reshape", &["y", "s"], "z"));
    graph.output = vec![value("z", &[1, 0, 36])];
    fs::write(dir.path().join("gathered.onnx"), gathered.encode_to_vec()).unwrap();
    let report = |args: &[&str]| -> serde_json::Value {
        let args = [args, &["--to", "tflite,onnx,openvino", "-o", "all", "--report", "r.json"]].concat();
        let out = qcc(dir.path(), &args);
        assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
        assert!(!text(&out.stderr).contains("open-shape"), "{}", text(&out.stderr));
        serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap()
    };
    let calibrated: &[&str] = &["--int8", "--data", "random"];
    let asked: &[&str] = &["--int8", "--data", "random", "--shape", "x=N,3,8,8"];
    for (model, output) in [("open.onnx", "f32[n,4,6,6]"), ("gathered.onnx", "f32[1,(4*n),36]")] {
        for options in [&[][..], calibrated, asked] {
            let report = report(&[&[model], options].concat());
            for artefact in report["artefacts"].as_array().unwrap() {
                let tflite = artefact["target"] == "tflite";
                let (x, y) = (&artefact["inputs"][0]["type"], &artefact["outputs"][0]["type"]);
                assert_eq!(x, if tflite { "f32[n,8,8,3]" } else { "f32[n,3,8,8]" }, "{artefact}");
                assert_eq!(y, if tflite && model == "open.onnx" { "f32[n,6,6,4]" } else { output }, "{artefact}");
                assert_eq!(artefact["costs"]["extents"], serde_json::json!([{ "name": "n", "extent": 1 }]));
            }
        }
    }
    let said = succeeds(dir.path(), &["open.onnx", "--to", "tflite", "--report", "r.json", "-o", "out.tflite"]);
    assert!(said.contains("memory, latency and energy are those of n = 1"), "{said}");
    let out = qcc(dir.path(), &["compare", "open.onnx", "all/open.tflite", "--data", "random"]);
    assert_eq!((out.status.success(), text(&out.stderr)), (true, String::new()));
    let out = qcc(dir.path(), &["open.onnx", "--to", "tflite", "--shape", "x=2,3,8,8"]);
    assert_eq!((out.status.success(), text(&out.stderr)), (true, String::new()));
    // The graph as text is a source too.
    succeeds(dir.path(), &["open.onnx", "--to", "qir", "-o", "open.qir"]);
    succeeds(dir.path(), &["open.qir", "--to", "onnx", "-o", "again.onnx"]);
    let input = |name: &str| {
        let model = ModelProto::decode(fs::read(dir.path().join(name)).unwrap().as_slice()).unwrap();
        model.graph.unwrap().input[0].clone()
    };
    assert_eq!([input("again.onnx"), input("all/open.onnx")], [value("x", &[0, 3, 8, 8]), value("x", &[0, 3, 8, 8])]);
    let out = qcc(dir.path(), &["open.qir", "--to", "tflite", "--device", "tflm", "-o", "closed.tflite"]);
    assert!(out.status.success() && text(&out.stderr).contains("compiled for [1,3,8,8]"), "{}", text(&out.stderr));
}

/// Where a target has no kernel for open extents, the batch is 1, and the warning names the first node.
#[test]
fn an_open_batch_is_1_where_a_target_needs_a_number() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("open.onnx"), small(0).encode_to_vec()).unwrap();
    let mut picked = small(0);
    let graph = picked.graph.as_mut().unwrap();
    let attribute = |name: &str| AttributeProto { name: some(name), ..AttributeProto::default() };
    let to = |element| AttributeProto { r#type: Some(AttributeType::Int as i32), i: Some(element), ..attribute("to") };
    let axes = AttributeProto { r#type: Some(AttributeType::Ints as i32), ints: vec![0], ..attribute("axes") };
    let with = |attribute, node| NodeProto { attribute: vec![attribute], ..node };
    graph.node.extend([
        with(to(DataType::Int32 as i64), node("Cast", &["y"], "i")),
        with(axes, node("ReduceMean", &["i"], "m")),
        with(to(DataType::Float as i64), node("Cast", &["m"], "z")),
    ]);
    graph.output = vec![value("z", &[1, 4, 6, 6])];
    fs::write(dir.path().join("picked.onnx"), picked.encode_to_vec()).unwrap();
    for (name, args) in [
        ("open_batch_of_a_device", &["open.onnx", "--to", "tflite", "--device", "tflm"][..]),
        ("open_batch_without_a_kernel", &["picked.onnx", "--to", "tflite"]),
    ] {
        let out = qcc(dir.path(), args);
        assert!(out.status.success(), "{}", text(&out.stderr));
        insta::assert_snapshot!(name, text(&out.stderr));
    }
    // Other targets have one.
    let out = qcc(dir.path(), &["picked.onnx", "--to", "onnx", "-o", "out.onnx"]);
    assert_eq!((out.status.success(), text(&out.stderr)), (true, String::new()));
    let out = qcc(dir.path(), &["picked.onnx", "--to", "tflite", "--shape", "x=N,3,8,8"]);
    assert!(!out.status.success() && text(&out.stderr).contains("/m"), "{}", text(&out.stderr));
}

#[test]
fn open_shapes_are_those_of_the_model_compared_with() {
    let dir = folder();
    let mut open = small(0);
    let mut input = value("x", &[0, 3, 1, 1]);
    let Some(TypeValue::Tensor(ty)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { unreachable!() };
    for (axis, name) in [(2, "height"), (3, "width")] {
        ty.shape.as_mut().unwrap().dim[axis].value = Some(DimensionValue::Param(name.into()));
    }
    open.graph.as_mut().unwrap().input[0] = input;
    fs::write(dir.path().join("open.onnx"), open.encode_to_vec()).unwrap();
    succeeds(dir.path(), &["open.onnx", "--to", "tflite", "--shape", "x=2,3,9,7", "-o", "fixed.tflite"]);
    for pair in [["open.onnx", "fixed.tflite"], ["fixed.tflite", "open.onnx"]] {
        let said = succeeds(dir.path(), &["compare", pair[0], pair[1], "--data", "random", "--min-sqnr", "100"]);
        assert!(said.contains("y "), "{said}");
    }
    let said = refusal(dir.path(), &["compare", "open.onnx", "open.onnx", "--data", "random"]);
    assert!(said.starts_with("1\n") && said.contains("--shape x=N,3,N,N"), "{said}");
}

#[test]
fn inspect_shows_what_is_there() {
    let dir = folder();
    insta::assert_snapshot!("inspect_onnx", succeeds(dir.path(), &["inspect", "small.onnx"]));
    insta::assert_snapshot!("inspect_json", succeeds(dir.path(), &["inspect", "small.onnx", "--json"]));
    let json = succeeds(dir.path(), &["inspect", "small.onnx", "--format", "json"]);
    assert_eq!(json, succeeds(dir.path(), &["inspect", "small.onnx", "--json"]));
    insta::assert_snapshot!("inspect_graph", succeeds(dir.path(), &["inspect", "small.onnx", "--graph"]));
    succeeds(dir.path(), &["small.onnx", "--to", "tflite"]);
    let said = succeeds(dir.path(), &["inspect", "small.tflite"]);
    assert!(said.contains("CONV_2D"), "{said}");
    let mut bytes = fs::read(dir.path().join("small.tflite")).unwrap();
    bytes.truncate(bytes.len() / 3);
    fs::write(dir.path().join("cut.tflite"), bytes).unwrap();
    assert!(refusal(dir.path(), &["inspect", "cut.tflite"]).starts_with("1\nerror["));
}

#[test]
fn print_after_shows_the_graph() {
    let dir = folder();
    let said = succeeds(dir.path(), &["small.onnx", "--to", "tflite", "-q", "--print-after", "simplify"]);
    insta::assert_snapshot!("print_after", said);
}

/// The marked sections of README.md and docs/operators.md match qcc's output and behaviour.
#[test]
fn readme_is_true() {
    let dir = folder();
    let listed = |of: &str| {
        let names: Vec<String> = succeeds(dir.path(), &["ops", of]).lines().map(|l| format!("`{l}`")).collect();
        names.join(" ")
    };
    let page = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let holds = |file: &str, name: &str, want: &str| {
        let want = format!("<!-- {name}:begin -->\n{want}\n<!-- {name}:end -->");
        assert!(page(file).contains(&want), "{file} should hold\n{want}");
    };
    holds("README.md", "support", &support(dir.path()));
    for (format, known) in
        [("onnx", "`Conv`"), ("pt2", "`conv2d`"), ("tflite", "`CONV_2D`"), ("openvino", "`Convolution`")]
    {
        let operators = listed(format);
        assert!(operators.contains(known), "{operators}");
        holds("docs/operators.md", format, &operators);
    }
}

/// A table of what each target supports: the exit codes of qcc.
fn support(folder: &Path) -> String {
    let int8 = ["--int8", "--data", "random", "--samples", "1"];
    let with = |more: &[&'static str]| [&int8, more].concat();
    let rows = [
        ("float32", vec![]),
        ("16-bit weights: `--fp16`", vec!["--fp16"]),
        ("16-bit values: `--fp16 --half-values`", vec!["--fp16", "--half-values"]),
        ("8-bit weights and activations: `--int8`", with(&[])),
        ("8-bit inputs and outputs: `--int8 --io int8`", with(&["--io", "int8"])),
        ("8-bit weights, 16-bit activations: `--w8a16`", [&["--w8a16"], &int8[1..]].concat()),
        ("operators on integers: `--int8 --qoperator`", with(&["--qoperator"])),
        ("8-bit weights: `--w8a32`", vec!["--w8a32"]),
        ("4-bit weights in blocks: `--quantize w4a32`", vec!["--quantize", "w4a32"]),
        ("weights in a file of their own: `--external-data`", vec!["--external-data"]),
    ];
    let targets: Vec<&str> = Format::ALL.iter().map(|b| b.target().name).collect();
    let mut table = format!("| | `{}` |\n|{}\n", targets.join("` | `"), "---|".repeat(1 + targets.len()));
    for (name, options) in rows {
        let takes = targets.iter().map(|t| {
            let args = [&["small.onnx", "--to", t, "-o", "out/"], &options[..]].concat();
            match qcc(folder, &args).status.code() {
                Some(0) => "yes",
                Some(2) => "no",
                code => panic!("{args:?}: {code:?}"),
            }
        });
        table += &format!("| {name} | {} |\n", takes.collect::<Vec<_>>().join(" | "));
    }
    let runs_on = Format::ALL.iter().map(|format| {
        let runtime = match format {
            Format::Tflite => "LiteRT",
            Format::Onnx => "ONNX Runtime",
            Format::Openvino => "OpenVINO",
        };
        let devices = Device::ALL.iter().filter(|device| device.format == *format);
        let names = devices.map(|device| format!(", `{}`", device.name)).collect::<String>();
        format!("{runtime}{names}")
    });
    table += &format!("| runs on (`--device NAME`) | {} |\n", runs_on.collect::<Vec<_>>().join(" | "));
    table.trim_end().to_owned()
}

/// What is optional behind an option never takes the model for it.
#[test]
fn operators_of_each_format_are_listed() {
    let dir = folder();
    for (format, operator) in
        [("onnx", "Conv"), ("pt2", "conv2d"), ("tflite", "CONV_2D"), ("openvino", "GroupConvolution")]
    {
        let said = succeeds(dir.path(), &["ops", format]);
        let names: Vec<&str> = said.lines().collect();
        assert!(names.contains(&operator), "{format}: {said}");
        assert!(names.is_sorted() && names.len() > 80, "{format}: {} names", names.len());
    }
}

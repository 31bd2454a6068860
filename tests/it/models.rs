//! Whole models, from ONNX to the results of runtimes.

use std::fs;
use std::path::{Path, PathBuf};
#[cfg(feature = "oracles")]
use std::process::Command;

use bytes::Bytes;
use qcc::{Calibration, Compiler, Data, NoObserver, Observer, Options, Output, Precision};
use qcc_backends::{Format, WriteOptions, onnx, tflite};
use qcc_ir::{Graph, text};
use qcc_passes::PassId;
use qcc_passes::calibrate::Method;

#[cfg(feature = "oracles")]
use crate::oracle;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name)
}

/// The graph in brief form after the last pass of each stage.
#[derive(Default)]
struct Stages(String);

/// The passes whose graphs are shown: simplified, lowered, quantized, with layouts.
const SHOWN: [&str; 4] = ["simplify/simplify", "lower/equal-ranks", "quantize/quantize", "layout/layout"];

impl Observer for Stages {
    fn wants(&self, pass: PassId) -> bool {
        SHOWN.iter().any(|shown| pass.is(shown))
    }

    fn pass(&mut self, pass: PassId, graph: &Graph) {
        self.0 += &format!("after {pass}\n{}\n", text::print_brief(graph));
    }
}

/// The options for a model, with so many random samples if data are needed.
pub(crate) fn options(format: Format, precision: Precision, samples: usize) -> Options {
    let mut options = Options::new([format], precision);
    if precision == Precision::Int8 {
        let mut calibration = Calibration::new(Data::Random);
        calibration.samples = Some(samples);
        (options.calibration, options.method) = (Some(calibration), Some(Method::MinMax));
    }
    options
}

fn compiled(name: &str, options: Options, observer: &mut dyn Observer) -> Bytes {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model");
    Compiler::new(options).compile(&model(name), &Output::File(file.clone()), observer).unwrap();
    fs::read(file).unwrap().into()
}

/// A model after each stage and in the file for LiteRT.
fn stages(name: &str, precision: Precision) -> String {
    let mut stages = Stages::default();
    let file = compiled(name, options(Format::Tflite, precision, 4), &mut stages);
    stages.0 + &tflite::disassemble(&file).unwrap().to_string()
}

/// A model in the file for ONNX Runtime.
fn onnx_file(name: &str, precision: Precision, qoperator: bool) -> String {
    let mut options = options(Format::Onnx, precision, 4);
    options.targets = vec![Format::Onnx.with(WriteOptions { qoperator, ..WriteOptions::PLAIN })];
    let inside = |name: &str| Err(format!("{name} is no part of it"));
    onnx::disassemble(&compiled(name, options, &mut NoObserver), &inside).unwrap().to_string()
}

/// The text with numbers rounded to three digits and without digests, which is independent of the summation order of
/// processors.
pub(crate) fn steady(text: &str) -> String {
    const DIGEST: &str = "sha256:";
    let mut parts = text.split(DIGEST);
    let first = parts.next().unwrap_or_default().to_owned();
    let text = parts.fold(first, |text, part| text + DIGEST + part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit() || c == '#') {
        let (before, from) = rest.split_at(at);
        out += before;
        let starts = out.ends_with(['<', ' ', '[', ',', ':', '-']) || out.ends_with("..");
        let is_number = |(i, c): (usize, char)| match c {
            '.' => !from[i + 1..].starts_with('.'),
            _ => c.is_ascii_digit() || (c == 'e' && i > 0) || (c == '-' && from[..i].ends_with('e')),
        };
        let digest = from.starts_with('#') && starts;
        let end = match digest {
            true => 1 + from[1..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len() - 1),
            false => from.char_indices().find(|&c| !is_number(c)).map_or(from.len(), |(i, _)| i).max(1),
        };
        let word = &from[..end];
        match word.parse::<f64>() {
            _ if digest => out.push('#'),
            Ok(x) if starts && word.contains('.') => out += &format!("{x:.2e}"),
            _ => out += word,
        }
        rest = &from[end..];
    }
    out + rest
}

#[test]
fn lenet_float() {
    insta::assert_snapshot!(stages("mnist_lenet.onnx", Precision::Float32));
}

#[test]
fn lenet_int8() {
    insta::assert_snapshot!(steady(&stages("mnist_lenet.onnx", Precision::Int8)));
}

#[test]
fn lenet_onnx() {
    insta::assert_snapshot!(onnx_file("mnist_lenet.onnx", Precision::Float32, false));
}

#[test]
fn lenet_onnx_int8() {
    insta::assert_snapshot!(steady(&onnx_file("mnist_lenet.onnx", Precision::Int8, false)));
}

#[test]
fn lenet_onnx_int8_operators() {
    insta::assert_snapshot!(steady(&onnx_file("mnist_lenet.onnx", Precision::Int8, true)));
}

/// The bundled model and digits, with the first command of the README.
#[cfg(feature = "oracles")]
#[test]
fn lenet_is_what_it_is_in_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let qcc = |target: &str, output: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qcc"));
        command.arg(model("mnist_lenet.onnx")).args(["--to", target, "-q", "-o"]).arg(folder.path().join(output));
        let out = command.args(more).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let digits = model("digits");
    let int8 = ["--int8", "--data", digits.to_str().unwrap(), "--scale", "1/255"];
    qcc("tflite", "lenet.tflite", &[]);
    qcc("tflite", "lenet_int8.tflite", &int8);
    qcc("onnx", "lenet.onnx", &[]);
    qcc("onnx", "lenet_w8a32.onnx", &["--w8a32"]);
    qcc("onnx", "lenet_int8.onnx", &int8);
    qcc("onnx", "lenet_qoperator.onnx", &[&int8[..], &["--qoperator"]].concat());
    qcc("openvino", "lenet.xml", &[]);
    qcc("openvino", "lenet_int8.xml", &int8);
    oracle::python("truth.py", folder.path());

    let truth = fs::read_to_string(folder.path().join("truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&truth).unwrap();
    let pictures = truth["pictures"].as_u64().unwrap();
    assert!(pictures >= 20, "{truth}");
    let artefacts = [
        ("lenet.tflite", 90.0),
        ("lenet_int8.tflite", 30.0),
        ("lenet.onnx", 90.0),
        ("lenet_w8a32.onnx", 30.0),
        ("lenet_int8.onnx", 30.0),
        ("lenet_qoperator.onnx", 30.0),
        ("lenet.xml", 90.0),
        ("lenet_int8.xml", 30.0),
    ];
    for (artefact, sqnr) in artefacts {
        assert!(truth[artefact]["sqnr"].as_f64().unwrap() >= sqnr, "{artefact}: {truth}");
        assert_eq!(truth[artefact]["same"].as_u64(), Some(pictures), "{artefact}: {truth}");
    }
    // The batch is open in the source. OpenVINO's integer model has a fixed one, which users may reshape.
    for artefact in ["lenet.onnx", "lenet_int8.onnx", "lenet_qoperator.onnx", "lenet.xml", "lenet_int8.xml"] {
        assert_eq!(truth[artefact]["at_once"].as_bool(), Some(true), "{artefact}: {truth}");
    }
}

/// The quality in the report equals the quality measured in runtimes on samples that were not used for calibration, in
/// every precision and for every target.
#[cfg(feature = "oracles")]
#[test]
#[expect(clippy::print_stdout, reason = "people read the table")]
fn printed_quality_is_that_of_the_runtimes() {
    let folder = tempfile::tempdir().unwrap();
    let table = oracle::python("printed.py", folder.path());
    println!("{table}");
    assert!(table.lines().count() > 300, "{table}");
}

/// An artefact with open extents gives what the model gives at every size, in every runtime.
#[cfg(feature = "oracles")]
#[test]
fn open_extents_serve_every_size() {
    oracle::table("open_shapes.py", 315);
}

/// Shapes, positions and axes that are inputs of the model serve every value, in every runtime.
#[cfg(feature = "oracles")]
#[test]
fn values_known_at_run_time_are_passed_on() {
    oracle::table("run_time_values.py", 102);
}

/// Random results are those of the samples that are inputs of the artefact.
#[cfg(feature = "oracles")]
#[test]
fn samples_of_random_results_are_inputs() {
    oracle::table("random_inputs.py", 12);
}

/// Quantized models stay quantized without calibration data, and LiteRT's results equal ONNX Runtime's.
#[cfg(feature = "oracles")]
#[test]
fn models_quantized_by_onnx_runtime_run_in_litert() {
    let folder = tempfile::tempdir().unwrap();
    oracle::python("quantized.py", folder.path());
    let names = ["qdq_i8", "qdq_u8", "qoperator_i8", "qoperator_u8"];
    for name in names {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qcc"));
        command.arg(folder.path().join(name).with_extension("onnx")).args(["--to", "tflite", "--int8", "-q", "-o"]);
        let out = command.arg(folder.path().join(name).with_extension("tflite")).output().unwrap();
        assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
        // Weights have 8 bits, not 32.
        let size = fs::metadata(folder.path().join(name).with_extension("tflite")).unwrap().len();
        assert!(size < 120_000, "{name}: {size} bytes");
    }
    oracle::python("quantized.py", folder.path());
    let truth = fs::read_to_string(folder.path().join("truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&truth).unwrap();
    for name in names {
        assert!(truth[name].as_f64().unwrap() >= 0.999, "{truth}");
    }
}

/// A model that computes in F16 computes in F32 on LiteRT, with F16 weights, and can be quantized for every target.
#[test]
fn halves_become_singles() {
    use prost::Message;
    use qcc_formats::onnx::*;
    let half = i32::from(DataType::Float16);
    let tensor = |name: &str, dims: &[i64]| {
        let numbers = (0..dims.iter().product::<i64>()).map(|i| half::f16::from_f32(i as f32 / 64.0 - 0.5));
        TensorProto {
            name: Some(name.into()),
            dims: dims.to_vec(),
            data_type: Some(half),
            raw_data: Some(numbers.flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>().into()),
            ..TensorProto::default()
        }
    };
    let info = |name: &str, dims: &[i64]| {
        let dim = dims.iter().map(|&d| Dimension { value: Some(DimensionValue::Value(d)) }).collect();
        let tensor = TypeProtoTensor { elem_type: Some(half), shape: Some(TensorShapeProto { dim }) };
        ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
    };
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    };
    let graph = GraphProto {
        name: Some("halves".into()),
        node: vec![node("Conv", &["x", "w", "b"], "c"), node("Sigmoid", &["c"], "y")],
        initializer: vec![tensor("w", &[4, 2, 3, 3]), tensor("b", &[4])],
        input: vec![info("x", &[1, 2, 5, 6])],
        output: vec![info("y", &[1, 4, 3, 4])],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let (source, file) = (folder.path().join("halves.onnx"), folder.path().join("halves.tflite"));
    fs::write(&source, model.encode_to_vec()).unwrap();
    Compiler::new(Options::default()).compile(&source, &Output::File(file.clone()), &mut NoObserver).unwrap();
    insta::assert_snapshot!(tflite::disassemble(&fs::read(file).unwrap().into()).unwrap().to_string());
    let mut options = options(Format::Tflite, Precision::Int8, 4);
    options.targets = Format::ALL.iter().map(|&f| f.into()).collect();
    let report =
        Compiler::new(options).compile(&source, &Output::Folder(folder.path().into()), &mut NoObserver).unwrap();
    for artefact in &report.artefacts {
        let quality = artefact.quality.as_ref().unwrap();
        let shares = quality.integer_share + quality.run_time_share + quality.weights_share;
        assert_eq!(shares, 1.0, "{}", artefact.target);
    }
}

//! TensorRT: what its parser requires of ONNX models, and what ONNX Runtime computes with them.

use std::collections::HashMap;

use prost::Message;
use qcc_backends::onnx::TENSORRT;
use qcc_backends::{Format, WriteOptions};
use qcc_formats::onnx::{DataType, ModelProto, NodeProto, TensorProto};
use qcc_ir::StorageType;

use crate::cli;
#[cfg(feature = "oracles")]
use crate::oracle::{self, Run};
use crate::runtime::Runtime;
#[cfg(feature = "oracles")]
use crate::runtime::{Integer, evaluate, laid_out, outputs, sqnr};

/// ONNX Runtime, with models for the device.
const ORT: Runtime = Runtime {
    name: "ONNX Runtime",
    script: "ort.py",
    format: Format::Onnx,
    form: WriteOptions { device: Some(&TENSORRT), ..WriteOptions::PLAIN },
    storage: StorageType::I8,
    steps: [0, 0],
    dissent: &[],
};

/// Fails where a model breaks a rule of the parser; returns the number of products of integers.
fn quantized_products(model: &[u8]) -> Result<usize, String> {
    let graph = ModelProto::decode(model).unwrap().graph.unwrap();
    let constants: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name(), t)).collect();
    let producers: HashMap<&str, &NodeProto> = graph.node.iter().map(|n| (n.output[0].as_str(), n)).collect();
    let restored = |name: &str| producers.get(name).is_some_and(|n| n.op_type() == "DequantizeLinear");
    let operators = (TENSORRT.operators)();
    let mut products = 0;
    for node in &graph.node {
        let kind = node.op_type();
        if node.domain.is_some() || !operators.contains(&kind) {
            return Err(format!("{kind} is not among the operators of the device"));
        }
        if kind == "QuantizeLinear" || kind == "DequantizeLinear" {
            let (scale, zero) = (constants[node.input[1].as_str()], constants[node.input[2].as_str()]);
            if zero.data_type() != i32::from(DataType::Int8) || zero.raw_data().iter().any(|&b| b != 0) {
                return Err(format!("{kind} has a zero point other than 0, or no signed integers"));
            }
            if !scale.dims.is_empty() && !constants.contains_key(node.input[0].as_str()) {
                return Err(format!("{kind} of an activation has more than one scale"));
            }
        }
        if ["Conv", "ConvTranspose", "Gemm", "MatMul"].contains(&kind) {
            if node.input.len() > 2 && restored(&node.input[2]) {
                return Err(format!("{kind} has a quantized bias"));
            }
            products += usize::from(restored(&node.input[0]) && restored(&node.input[1]));
        }
    }
    Ok(products)
}

/// All zero points are 0, activations have one scale, biases are floats, and nearly all products take integers.
#[test]
fn quantization_is_symmetric() {
    let (mut products, mut wrong) = (0, String::new());
    let cases = ORT.integer_cases();
    for case in &cases {
        match quantized_products(&case.model) {
            Ok(count) => products += count,
            Err(why) => wrong += &format!("{}: {why}\n", case.name),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(products * 10 > cases.len() * 9, "{products} products in {} models", cases.len());
}

/// The least SQNR in dB of results of ONNX Runtime compared with the evaluator's: sums that differ in the last bits may be
/// rounded to neighbouring integers.
#[cfg(feature = "oracles")]
const CLOSE: f64 = 40.0;

#[cfg(feature = "oracles")]
#[test]
fn symmetric_graphs_run_in_onnx_runtime() {
    let cases = ORT.integer_cases();
    let run = |case: &Integer| Run {
        model: case.model.clone(),
        inputs: laid_out(&case.graph, &case.inputs),
        optimized: true,
    };
    let runs: Vec<Run> = cases.iter().map(run).collect();
    for (case, outcome) in cases.iter().zip(oracle::run(ORT.script, "tensorrt_int8", &runs)) {
        let found = outputs(&case.graph, &outcome).unwrap_or_else(|why| panic!("{}: {why}", case.name));
        for (e, f) in evaluate(&case.graph, &case.inputs).unwrap().iter().zip(&found) {
            let ratio = sqnr(&e.floats(), &f.floats());
            assert!(ratio > CLOSE, "{}: {ratio:.1} dB", case.name);
        }
    }
}

/// Two operators that the device lacks; only one of them can become others.
const LACKING: &str = "graph g {
  %x: f32[1,2,8,8] = input
  %i: i32[4] = input
  %p = pool(f:Max,window:[2,2],stride:[1,1],before:[0,0],after:[0,0],dilation:[2,2]) %x from net.pool (MaxPool)
  %a = binary(f:And) %i, %i from net.bits (BitwiseAnd)
  output y = %p
  output z = %a
}
";

/// What the device lacks is refused with the rule.
#[test]
fn what_the_device_lacks_is_refused() {
    let dir = cli::folder();
    std::fs::write(dir.path().join("model.qir"), LACKING).unwrap();
    let to = ["--device", "tensorrt", "-o", "m.onnx"];
    let mut said = String::new();
    let int8 = ["--int8", "--data", "random"];
    for (model, more) in [
        ("model.qir", &[][..]),
        ("small.onnx", &["--w8a32"]),
        ("small.onnx", &["--w8a16", "--data", "random"]),
        ("small.onnx", &[&int8[..], &["--io", "int8"]].concat()),
        ("small.onnx", &[&int8[..], &["--qoperator"]].concat()),
    ] {
        said += &format!("{model} {}\n", more.join(" "));
        said += &cli::refusal(dir.path(), &[&[model], &to[..], more].concat());
        said += "\n";
    }
    // Quantized models of other runtimes have other zero points.
    cli::succeeds(dir.path(), &[&["small.onnx", "--to", "onnx", "-o", "q.onnx"], &int8[..]].concat());
    said += "an int8 model of ONNX Runtime\n";
    said += &cli::refusal(dir.path(), &[&["q.onnx"], &to[..]].concat());
    insta::assert_snapshot!(said);
}

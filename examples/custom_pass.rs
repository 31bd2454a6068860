//! Custom passes, before and after quantization.
//!
//! `cargo run --example custom_pass` compiles a digit classifier for pixels from 0 to 1 into one for pixels from 0 to
//! 255, and lists the nodes that compute in floating point after quantization.
#![expect(clippy::print_stdout, reason = "examples print what they do")]

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};

use qcc::backends::Format;
use qcc::ir::ops::{Binary, BinaryFn, Op};
use qcc::ir::{Graph, Shape, Tensor};
use qcc::passes::{Context, Pass, PassError, Stage};
use qcc::{Calibration, Compiler, Data, NoObserver, Options, Precision};

/// Divides the inputs by 255, so that the model takes 8-bit pixels.
#[derive(Debug)]
struct TakePixels;

impl Pass for TakePixels {
    fn name(&self) -> &'static str {
        "take-pixels"
    }

    fn run(&self, g: &mut Graph, _: &mut Context<'_>) -> Result<(), PassError> {
        for input in g.inputs().collect::<Vec<_>>() {
            let origin = g.origin(input.node).clone();
            let users = g.users(input);
            let scale = Tensor::from_vec(Shape::known(&vec![1; g.ty(input).rank()]), vec![1.0f32 / 255.0]);
            let scale = g.add_const(scale, origin.clone());
            let scaled = g.add1(Binary { f: BinaryFn::Mul }, &[input, scale], origin)?;
            users.into_iter().for_each(|(node, operand)| g.set_operand(node, operand, scaled));
        }
        Ok(())
    }
}

/// Collects the names of nodes that compute in floating point.
#[derive(Debug)]
struct ListFloat(Arc<Mutex<Vec<String>>>);

impl Pass for ListFloat {
    fn name(&self) -> &'static str {
        "list-float"
    }

    fn run(&self, g: &mut Graph, _: &mut Context<'_>) -> Result<(), PassError> {
        let boundary = |op: &Op| matches!(op, Op::Input(_) | Op::Const(_) | Op::Quantize(_) | Op::Dequantize(_));
        let float = |n: &_| !boundary(g.op(*n)) && g.result_types(*n).iter().all(|t| t.elem.qparams().is_none());
        let names = g.order().into_iter().filter(float).map(|n| g.origin(n).to_string());
        if let Ok(mut list) = self.0.lock() {
            list.extend(names);
        }
        Ok(())
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let model =
        qcc::frontends::Model::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/mnist_lenet.onnx"));
    let model = model.map_err(qcc::Failure::from)?;
    let inputs = model.inputs().map_err(qcc::Failure::from)?;
    // A dynamic batch is fixed to 1.
    let extents = inputs[0].shape.iter().flat_map(|s| s.dims()).map(|d| d.known().unwrap_or(1));
    let shape: Vec<usize> = extents.collect();
    let pixels = |seed: usize| (0..shape.iter().product()).map(move |i: usize| ((i * 31 + seed * 97) % 256) as f32);
    let samples = (0..8).map(|seed| vec![Tensor::from_vec(Shape::known(&shape), pixels(seed).collect())]);
    let calibration = Calibration::new(samples.collect::<Data>());

    let mut options = Options::new([Format::Tflite], Precision::Int8);
    options.calibration = Some(calibration);
    let float = Arc::new(Mutex::new(Vec::new()));
    let mut compiler = Compiler::new(options);
    compiler.add_pass(Stage::Simplify, TakePixels);
    compiler.edit({
        let float = Arc::clone(&float);
        move |pipeline| pipeline.insert_after("quantize", ListFloat(Arc::clone(&float)))
    });
    let compiled = compiler.compile_model(&model, &mut NoObserver)?;
    let nodes = compiled.graph(0).order().len();
    let float = float.lock().map_err(|_| "the pass failed")?;
    println!("{nodes} nodes, in floating point: {}", float.join(", "));
    Ok(())
}

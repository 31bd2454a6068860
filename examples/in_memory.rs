//! A graph that is built in code, calibrated with tensors from memory, and written to memory.
//!
//! `cargo run --example in_memory`
#![expect(clippy::print_stdout, reason = "examples print what they do")]

use std::error::Error;

use qcc::backends::{Format, Memory};
use qcc::frontends::Model;
use qcc::ir::ops::{MatMul, Unary, UnaryFn};
use qcc::ir::{Graph, Origin, Shape, Tensor, TensorType};
use qcc::{Calibration, Compiler, Data, NoObserver, Options, Precision};

/// Reproducible pseudo-random numbers from -1 to 1.
fn numbers(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    Tensor::from_vec(Shape::known(shape), (0..shape.iter().product()).map(|_| next()).collect())
}

/// A multilayer perceptron: `tanh(x A) B`.
fn perceptron() -> Result<Graph, Box<dyn Error>> {
    let mut g = Graph::new("perceptron");
    let x = g.add_input("x", TensorType::f32(&[1, 16]));
    let a = g.add_const(numbers(&[16, 32], 1), Origin::none());
    let b = g.add_const(numbers(&[32, 4], 2), Origin::none());
    let product = MatMul { transpose_b: false };
    let hidden = g.add1(product.clone(), &[x, a], Origin::new("hidden", "MatMul"))?;
    let hidden = g.add1(Unary { f: UnaryFn::Tanh }, &[hidden], Origin::new("activation", "Tanh"))?;
    let y = g.add1(product, &[hidden, b], Origin::new("last", "MatMul"))?;
    g.add_output("y", y);
    Ok(g)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let model = Model::from(perceptron()?);
    let samples = (0..64).map(|seed| vec![numbers(&[1, 16], 100 + seed)]);
    let mut options = Options::new([Format::Tflite], Precision::Int8);
    options.calibration = Some(Calibration::new(samples.collect::<Data>()));

    let mut compiled = Compiler::new(options).compile_model(&model, &mut NoObserver)?;
    let mut files = Memory::new("perceptron.tflite");
    compiled.write(0, &mut files)?;
    let report = compiled.finish();

    let file = &files.files["perceptron.tflite"];
    let sqnr = report.worst_sqnr().ok_or("samples were compared")?;
    println!("{} bytes, SQNR {sqnr:.1} dB", file.len());
    assert!(sqnr > 25.0, "8 bits keep more than {sqnr:.1} dB of a perceptron");
    // The artefact can be read back.
    Model::read(file.clone().into(), "".as_ref()).map_err(qcc::Failure::from)?;
    Ok(())
}

//! Progress reports and cancellation.
//!
//! `cargo run --example progress`
#![expect(clippy::print_stdout, reason = "examples print what they do")]

use std::error::Error;
use std::path::Path;

use qcc::backends::Format;
use qcc::frontends::Model;
use qcc::ir::Graph;
use qcc::passes::PassId;
use qcc::{Calibration, Compiler, Data, Failure, Observer, Options, Precision};

/// Prints events, and cancels the compilation after `most` samples.
struct Printer {
    most: usize,
    seen: usize,
}

impl Observer for Printer {
    fn stage(&mut self, name: &'static str) {
        println!("{name} ..");
    }

    fn samples(&mut self, done: usize, all: usize) {
        self.seen = done;
        println!("  {done} of {all} samples");
    }

    fn wants(&self, pass: PassId) -> bool {
        pass.is("quantize/quantize")
    }

    fn pass(&mut self, pass: PassId, graph: &Graph) {
        println!("  {} nodes after {pass}", graph.order().len());
    }

    fn cancelled(&self) -> bool {
        self.seen >= self.most
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/mnist_lenet.onnx");
    let model = Model::open(&path).map_err(Failure::from)?;
    let mut options = Options::new([Format::Tflite], Precision::Int8);
    let mut calibration = Calibration::new(Data::Random);
    calibration.samples = Some(7);
    options.calibration = Some(calibration);
    let compiler = Compiler::new(options);

    compiler.compile_model(&model, &mut Printer { most: usize::MAX, seen: 0 })?;
    match compiler.compile_model(&model, &mut Printer { most: 1, seen: 0 }) {
        Err(Failure::Cancelled) => println!("cancelled"),
        other => return Err(format!("it was not cancelled: {other:?}").into()),
    }
    Ok(())
}

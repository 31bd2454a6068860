//! Whole models, from ONNX to what LiteRT makes of them.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use qcc::{Calibration, Compiler, Data, Options, Precision, Watch};
use qcc_backends::tflite::disassemble;
use qcc_ir::{Graph, text};
use qcc_passes::calibrate::Method;

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models").join(name)
}

/// The graph, in brief, after the last pass of each stage.
#[derive(Default)]
struct Stages(String);

/// The passes whose graphs are shown: simplified, lowered, on grids, laid out.
const SHOWN: [&str; 4] = ["simplify", "equal-ranks", "quantize", "layout"];

impl Watch for Stages {
    fn pass(&mut self, name: &'static str, graph: &Graph) {
        if SHOWN.contains(&name) {
            self.0 += &format!("after {name}\n{}\n", text::print_brief(graph));
        }
    }
}

/// How a model looks after each pass and in the file.
fn stages(name: &str, precision: Precision) -> String {
    let calibration = (precision == Precision::Int8).then(|| Calibration {
        data: Data::Random,
        samples: Some(4),
        preparation: qcc::data::Preparation::default(),
        method: Method::MinMax,
    });
    let options = Options { precision, calibration, ..Options::default() };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.tflite");
    let mut stages = Stages::default();
    Compiler::new(options).compile(&model(name), &file, &mut stages).unwrap();
    let file = Bytes::from(fs::read(file).unwrap());
    stages.0 + &disassemble(&file).unwrap()
}

#[test]
fn lenet_float() {
    insta::assert_snapshot!(stages("mnist_lenet.onnx", Precision::Float32));
}

#[test]
fn lenet_int8() {
    insta::assert_snapshot!(stages("mnist_lenet.onnx", Precision::Int8));
}

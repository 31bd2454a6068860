//! TensorFlow Lite for Microcontrollers.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use qcc_ir::Tensor;

use crate::litert::LITERT;
use crate::oracle::{self, Run};
use crate::runtime::{Outcome, laid_out};

/// Maximum difference of its results from those of LiteRT's reference kernels, in quantization steps or relative to the
/// largest float.
const STEPS: f32 = 1.0;
const PART: f32 = 1.0 / 127.0;

/// The comparison of the two results.
fn judged(reference: &Outcome, micro: &Outcome) -> String {
    match (reference, micro) {
        (Ok(reference), Ok(micro)) => {
            let apart = reference.iter().zip(micro).map(|(a, b)| apart(a, b)).fold(0.0, f32::max);
            if apart <= 1.0 { "as in LiteRT".into() } else { "not as in LiteRT".into() }
        }
        (_, Err(why)) => format!("refused: {why}"),
        (Err(_), Ok(_)) => "runs; LiteRT has no reference kernel".into(),
    }
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    let (x, y) = (a.reals(), b.reals());
    let most = match a.ty().elem.is_integer() {
        true => STEPS,
        false => x.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs())) * PART,
    };
    x.iter()
        .zip(y.iter())
        .map(|(x, y)| (x - y).abs() / most)
        .fold(if x.len() == y.len() { 0.0 } else { f32::INFINITY }, f32::max)
}

#[test]
fn integer_graphs_run_on_microcontrollers() {
    let cases = LITERT.integer_cases();
    let run = |model: &bytes::Bytes, inputs: &[Tensor], optimized| Run {
        model: model.clone(),
        inputs: inputs.to_vec(),
        optimized,
    };
    let runs: Vec<Run> = cases
        .iter()
        .flat_map(|case| [true, false].map(|o| run(&case.model, &laid_out(&case.graph, &case.inputs), o)))
        .collect();
    let outcomes = oracle::run("micro.py", "micro_int8", &runs);
    let mut all = String::new();
    for (case, outcomes) in cases.iter().zip(outcomes.chunks(2)) {
        let how = judged(&outcomes[0], &outcomes[1]);
        _ = writeln!(all, "{}: {how}", case.name);
    }
    assert!(!all.contains("not as"), "{all}");
    insta::assert_snapshot!(all);
}

/// The first command of the README writes a model that runs there, with float and with integer interfaces.
#[test]
fn the_bundled_model_runs_on_microcontrollers() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let runs: Vec<Run> = ["float", "int8"]
        .into_iter()
        .flat_map(|io| {
            let file = folder.path().join(io).with_extension("tflite");
            let mut command = Command::new(env!("CARGO_BIN_EXE_qcc"));
            command.arg(models.join("mnist_lenet.onnx")).args(["--to", "tflite", "--int8", "--scale", "1/255", "-q"]);
            command.arg("--data").arg(models.join("digits")).args(["--io", io, "-o"]).arg(&file);
            let out = command.output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let shape = qcc_ir::Shape::known(&[1, 28, 28, 1]);
            let numbers = (0..28 * 28).map(|i| i * 37 % 101);
            let input = match io {
                "float" => Tensor::from_vec(shape, numbers.map(|n| n as f32 / 100.0).collect::<Vec<f32>>()),
                _ => Tensor::from_vec(shape, numbers.map(|n| n as i8).collect::<Vec<i8>>()),
            };
            let model: bytes::Bytes = std::fs::read(file).unwrap().into();
            [true, false].map(|optimized| Run { model: model.clone(), inputs: vec![input.clone()], optimized })
        })
        .collect();
    for outcomes in oracle::run("micro.py", "micro_bundled", &runs).chunks(2) {
        assert_eq!(judged(&outcomes[0], &outcomes[1]), "as in LiteRT");
    }
}

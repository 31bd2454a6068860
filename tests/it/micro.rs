//! TensorFlow Lite for Microcontrollers.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use qcc_ir::Tensor;
use qcc_ir::testing::inputs_for;

use crate::litert::LITERT;
use crate::oracle::{self, Run};
use crate::runtime::{Outcome, graphs_of, laid_out};

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

/// Layers of many steps run there: operators whose states each run sets anew, and loops.
#[test]
fn recurrent_layers_run_on_microcontrollers() {
    let text = "graph layers { %x: f32[19,2,5] = input
        %w: f32[16,5] = const noise
        %r: f32[16,4] = const noise
        %b: f32[16] = const noise
        %h: f32[2,4] = input
        %c: f32[2,4] = const noise
        %p, %last, %cell = recurrent(cell:Lstm,reverse:true,clip:None) %x, %w, %r, %b, %h, %c
        %v: f32[9,4] = const noise
        %s: f32[9,3] = const noise
        %d: f32[12] = const noise
        %k: f32[2,3] = const noise
        %y, %end = recurrent(cell:Gru(reset_after:true),reverse:false,clip:None) %p, %v, %s, %d, %k
        output y = %y output last = %last output cell = %cell output end = %end\n}\n";
    let mut g = LITERT.lowered(graphs_of(text).remove(0)).unwrap();
    let model = LITERT.written(&mut g).unwrap();
    let inputs = laid_out(&g, &inputs_for(&g, 3));
    let runs = [true, false].map(|optimized| Run { model: model.clone(), inputs: inputs.clone(), optimized });
    let outcomes = oracle::run("micro.py", "micro_recurrent", &runs);
    assert_eq!(judged(&outcomes[0], &outcomes[1]), "as in LiteRT");
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

/// A network with a skip connection, a concatenation and a limit that no kernel applies by itself.
const BRANCHES: &str = "graph branches {
  %x: f32[1,3,16,16] = input
  %w: f32[4,3,1,1] = const [0.3,-0.2,0.1,0.5,0.4,-0.3,0.2,0.1,-0.5,0.3,0.2,0.1]
  %b: f32[4] = const [0.1,0.2,-0.1,0]
  %v: f32[4,4,1,1] = const [0.3,-0.2,0.1,0.5,0.4,-0.3,0.2,0.1,-0.5,0.3,0.2,0.1,0.4,0.2,-0.3,0.1]
  %c = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w, %b from a (Conv)
  %r = clamp(lo:0,hi:inf) %c from b (Relu)
  %d = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %r, %v, %b from c (Conv)
  %s = binary(f:Add) %r, %d from d (Add)
  %k = concat(axis:1) %s, %r from e (Concat)
  %m = clamp(lo:-0.25,hi:inf) %k from f (Clip)
  output y = %m
}
";

/// The bytes that a report tells are those that the runtime plans.
#[test]
fn values_at_the_peak_are_the_runtimes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("branches.qir"), BRANCHES).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let lenet = models.join("mnist_lenet.onnx").display().to_string();
    for model in ["branches.qir", &lenet] {
        for precision in [&[][..], &["--int8", "--static", "--data", "random"]] {
            let args = [&[model, "--to", "tflite", "-o", "m.tflite", "--report", "r.json"], precision].concat();
            crate::cli::succeeds(dir.path(), &args);
            let report: serde_json::Value =
                serde_json::from_slice(&std::fs::read(dir.path().join("r.json")).unwrap()).unwrap();
            let told = report["artefacts"][0]["costs"]["after"]["peak_bytes"].as_u64().unwrap();
            let planned: u64 = oracle::python("arena.py", &dir.path().join("m.tflite")).trim().parse().unwrap();
            assert!(told.abs_diff(planned) * 20 <= planned, "{args:?}: {told} told, {planned} planned");
        }
    }
}

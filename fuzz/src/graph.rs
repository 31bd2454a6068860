//! Graphs: passes must preserve results, and backends must write what passes produce.

use std::ops::ControlFlow::Continue;

use bytes::Bytes;
use qcc_backends::{Attachments, Format, Memory, WriteOptions};
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::eval::{Executor, RunError};
use qcc_ir::testing::{Step, graph_of, inputs_for};
use qcc_ir::text::{parse, print_brief, print_full, weights_of};
use qcc_ir::{Checked, Graph, Tensor};
use qcc_passes::calibrate::{Method, calibrate};
use qcc_passes::quantize::{self, Activations, Options, Weights, quantize};
use qcc_passes::{Context, Numbers, PassError, Pipeline, Settings, SharedGraph, Stage, ignore};

use crate::refused;

/// The maximum memory of an evaluation in bytes.
const MOST: u64 = 1 << 24;

/// Runs the passes of a stage. Refusals are allowed; all other errors are bugs.
fn run(g: &mut Graph, format: Format, stage: Stage, int8: bool, channels_last: bool) -> bool {
    let numbers = if int8 { Numbers::Quantized(quantize::Options::default()) } else { Numbers::Source };
    let mut cx = Context::new(format.target());
    cx.source.channels_last = channels_last;
    let pipeline = Pipeline::new(&Settings { numbers, ..Settings::default() });
    match pipeline.run(stage..=stage, g, &mut cx, &mut ignore) {
        Ok(()) => true,
        Err(PassError::Refused(d)) => {
            refused(&d);
            false
        }
        // Constants that cannot be evaluated, such as a division by 0 or an index out of range.
        Err(PassError::Eval(e)) => {
            assert!(!e.to_string().contains("internal error"), "{e}");
            false
        }
        Err(e) => panic!("{e}\n{}", print_brief(g)),
    }
}

fn written(g: &mut Graph, format: Format, form: WriteOptions, channels_last: bool) -> Option<Bytes> {
    if !run(g, format, Stage::Layout, false, channels_last) {
        return None;
    }
    let mut files = Memory::new("model");
    let written = Checked::new(g, format.target_for(form))
        .and_then(|g| format.with(form).write(g, &Attachments::default(), &mut files));
    match written {
        Ok(_) => files.files.remove("model").map(Bytes::from),
        Err(all) => {
            refused(&all);
            None
        }
    }
}

/// Compiles an imported graph for every target without calibration.
pub(crate) fn compile(source: &Graph, channels_last: bool) {
    source.verify().unwrap_or_else(|e| panic!("{e}\n{}", print_brief(source)));
    print_brief(source);
    let given = quantize::is_quantized(source);
    let mut simple = source.clone();
    if given {
        quantize::spell(&mut simple).unwrap_or_else(|e| panic!("{e}\n{}", print_brief(source)));
    }
    if !run(&mut simple, Format::Onnx, Stage::Simplify, false, false) {
        return;
    }
    for &format in Format::ALL {
        let mut g = simple.clone();
        if !run(&mut g, format, Stage::Lower, false, false) {
            continue;
        }
        if given {
            let mut cx = Context::new(format.target());
            match quantize::import_qdq(&g, &mut cx, &quantize::Interfaces::default(), quantize::Dynamic::Never) {
                Ok(imported) => g = imported.graph,
                Err(PassError::Refused(d)) => {
                    refused(&d);
                    continue;
                }
                Err(PassError::Eval(_)) => continue,
                Err(e) => panic!("{e}\n{}", print_brief(&g)),
            }
        }
        written(&mut g, format, WriteOptions::default(), channels_last);
    }
}

/// The outputs of a graph, if it needs little memory.
fn evaluated(g: &Graph, inputs: &[Tensor]) -> Option<Result<Vec<Tensor>, RunError>> {
    let executor = Executor::new(g);
    executor.peak().is_some_and(|p| p.bytes <= MOST).then(|| executor.run(inputs, &mut |_, _| {}))
}

/// Slightly perturbed inputs.
fn perturbed(inputs: &[Tensor]) -> Vec<Tensor> {
    let one =
        |t: &Tensor| Tensor::of(t.ty().clone(), t.view::<f32>().iter().map(|v| v * (1.0 + 1e-6) + 1e-7).collect());
    inputs.iter().map(one).collect()
}

/// The largest difference of an output, relative to its largest magnitude. `None` if it is meaningless.
fn distance(a: &Tensor, b: &Tensor) -> Option<f32> {
    let (a, b) = (a.floats(), b.floats());
    if a.len() != b.len() || a.iter().chain(b.iter()).any(|v| !v.is_finite()) {
        return None;
    }
    let largest = a.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
    Some(a.iter().zip(b.iter()).map(|(x, y)| (x - y).abs() / largest).fold(0.0, f32::max))
}

/// The outputs of a graph, and their sensitivity to a perturbation of the inputs.
struct Truth {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    moves: Vec<Option<f32>>,
}

impl Truth {
    fn of(g: &Graph, seed: u64) -> Option<Self> {
        let inputs = inputs_for(g, seed);
        let outputs = evaluated(g, &inputs)?.ok()?;
        let beside = evaluated(g, &perturbed(&inputs))?.ok()?;
        let moves = outputs.iter().zip(&beside).map(|(a, b)| distance(a, b)).collect();
        Some(Truth { inputs, outputs, moves })
    }

    /// Fails if the outputs of another graph differ by more than rounding explains.
    fn holds(&self, g: &Graph, what: &str, before: &Graph) {
        let Some(found) = evaluated(g, &self.inputs) else { return };
        let found = found.unwrap_or_else(|e| panic!("{what}: {e}\n{}\n{}", print_brief(before), print_brief(g)));
        assert_eq!(found.len(), self.outputs.len(), "{what}");
        for ((want, have), moves) in self.outputs.iter().zip(&found).zip(&self.moves) {
            let (Some(apart), Some(moves)) = (distance(want, have), *moves) else { continue };
            assert!(
                apart <= 2e-3 + 256.0 * moves,
                "{what}: {apart} (moves {moves})\n{}\n{}",
                print_brief(before),
                print_brief(g)
            );
        }
    }
}

/// A random graph, built from the bytes: simplified, written as ONNX and imported, lowered, quantized, and laid out.
pub(crate) fn graph(data: &[u8]) {
    let [first, seed, rest @ ..] = data else { return };
    let steps: Vec<Step> = rest.as_chunks::<6>().0.iter().take(24).copied().collect();
    let g = graph_of(1 + usize::from(first % 2), &steps);
    g.verify().unwrap_or_else(|e| panic!("{e}\n{}", print_brief(&g)));
    let again = parse(&print_full(&g), &weights_of(&g)).unwrap_or_else(|e| panic!("{e}\n{}", print_full(&g)));
    assert!(again.same(&g), "{}", print_full(&g));

    let Some(truth) = Truth::of(&g, u64::from(*seed)) else { return };
    let mut simple = g.clone();
    if !run(&mut simple, Format::Onnx, Stage::Simplify, false, false) {
        return;
    }
    truth.holds(&simple, "simplified", &g);
    imported(&simple, &truth, &g);
    for (i, &format) in Format::ALL.iter().enumerate() {
        let mut lowered = simple.clone();
        if !run(&mut lowered, format, Stage::Lower, true, false) {
            continue;
        }
        truth.holds(&lowered, format.target().name, &g);
        let mut float = lowered.clone();
        written(&mut float, format, WriteOptions::default(), false);
        if usize::from(first / 2) % Format::ALL.len() == i {
            quantized(&lowered, format, &truth, first / 6);
        }
    }
}

/// A graph that is written as ONNX and imported must give equal results.
fn imported(simple: &Graph, truth: &Truth, before: &Graph) {
    let mut g = simple.clone();
    if !run(&mut g, Format::Onnx, Stage::Lower, false, false) {
        return;
    }
    let Some(file) = written(&mut g, Format::Onnx, WriteOptions::default(), false) else { return };
    let model = Model::read(file, std::path::Path::new("/nowhere")).expect("what was written is read");
    let options = ImportOptions::default();
    match model.import(&options) {
        Ok(imported) => truth.holds(&imported.graph, "imported again", before),
        Err(all) => panic!("{all:?}\n{}", print_brief(&g)),
    }
}

/// A quantized graph must verify, evaluate and be written.
fn quantized(float: &Graph, format: Format, truth: &Truth, mode: u8) {
    let joint = SharedGraph::alone(float);
    let sample = |_| Some(truth.inputs.clone());
    let Ok(ranges) = calibrate(&joint, &[float], Method::MinMax, 1, sample, &mut |_| Continue(())) else { return };
    let options = Options {
        dynamic: qcc_passes::quantize::Dynamic::default(),
        activations: [Activations::Bits8, Activations::Bits16, Activations::Float][usize::from(mode % 3)],
        weights: if mode % 3 == 2 && format.target().takes_blocks(32) {
            Weights::Blocks(32)
        } else {
            Weights::Channels
        },
        dense_per_tensor: mode % 2 == 1,
        interface: match mode / 3 % 3 {
            1 if mode % 3 == 0 => quantize::Interface::Quantized(qcc_ir::StorageType::I8),
            1 if mode % 3 == 1 => quantize::Interface::Quantized(qcc_ir::StorageType::I16),
            _ => quantize::Interface::Float,
        }
        .into(),
        exclude: Vec::new(),
        raised: Vec::new(),
        compensate: true,
        smooth: true,
    };
    let narrow = match quantize(float, format.target(), &ranges[0], &options) {
        Ok(narrow) => narrow.graph,
        Err(PassError::Refused(d)) => return refused(&d),
        Err(e) => panic!("{e}\n{}", print_brief(float)),
    };
    narrow.verify().unwrap_or_else(|e| panic!("{e}\n{}", print_brief(&narrow)));
    let inputs: Vec<Tensor> = narrow
        .inputs()
        .zip(&truth.inputs)
        .map(|(v, t)| narrow.ty(v).elem.qparams().map_or_else(|| t.clone(), |qparams| t.quantized(qparams)))
        .collect();
    if let Some(Err(e)) = evaluated(&narrow, &inputs) {
        panic!("{e}\n{}", print_brief(&narrow));
    }
    let mut narrow = narrow;
    let form = WriteOptions { qoperator: mode / 9 % 2 == 1 && format == Format::Onnx, ..WriteOptions::default() };
    written(&mut narrow, format, form, false);
}

//! Graphs as models for a runtime, compared with the evaluator.

use std::ops::ControlFlow::Continue;
use std::ops::RangeInclusive;

use bytes::Bytes;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use qcc_backends::{Attachments, Device, Format, Memory, WriteOptions};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::{Executor, relayout};
use qcc_ir::ops::{MatMul, Reshape};
use qcc_ir::testing::{graphs, inputs_for, numbers};
use qcc_ir::text::{Weights, parse};
use qcc_ir::{Checked, Elem, Graph, Layout, Origin, Output, Shape, StorageType, Tensor};
use qcc_passes::calibrate::{Method, calibrate};
use qcc_passes::quality::as_inputs;
use qcc_passes::quantize::{self, quantize};
use qcc_passes::{Context, PassError, Pipeline, Settings, SharedGraph, Stage, ignore};

/// Relative and absolute tolerance of floats: kernels differ in summation order and approximations.
pub(crate) const CLOSE: (f32, f32) = (1e-4, 1e-5);

/// The same for sums of quantized values that cancel.
pub(crate) const CANCELLED: (f32, f32) = (1e-4, 1e-4);

/// The same for F16: two steps, since intermediate values may be wider.
const HALF: (f32, f32) = (2.0 / 1024.0, 1e-5);

/// A runtime and its file format.
#[derive(Debug)]
#[cfg_attr(not(feature = "oracles"), expect(dead_code, reason = "some fields are read where it runs"))]
pub(crate) struct Runtime {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its oracle script.
    pub(crate) script: &'static str,
    pub(crate) format: Format,
    pub(crate) form: WriteOptions,
    /// The storage type of inputs and outputs of integer graphs, and the bits of their activations.
    pub(crate) storage: StorageType,
    /// Tolerance in quantization steps of the output between it and the evaluator: with and without optimizations.
    pub(crate) steps: [i64; 2],
    /// Models, or error messages, for which it deviates from the standard, and why.
    pub(crate) dissent: &'static [(&'static str, &'static str)],
}

/// The result of a runtime: outputs with plain element types and physical extents, or the error.
pub(crate) type Outcome = Result<Vec<Tensor>, String>;

impl Runtime {
    /// The same, with models for a device.
    pub(crate) const fn on(self, device: &'static Device) -> Runtime {
        Runtime { form: WriteOptions { device: Some(device), ..WriteOptions::PLAIN }, ..self }
    }

    fn run_stages(&self, stages: RangeInclusive<Stage>, g: &mut Graph) -> Result<(), PassError> {
        let mut cx = Context::new(self.format.target_for(self.form));
        Pipeline::new(&Settings::default()).run(stages, g, &mut cx, &mut ignore)
    }

    /// Simplifies and lowers an imported graph.
    pub(crate) fn lowered(&self, mut g: Graph) -> Result<Graph, PassError> {
        self.run_stages(Stage::Simplify..=Stage::Lower, &mut g)?;
        Ok(g)
    }

    /// Chooses layouts of a lowered graph and writes it. A file of constants is appended to the main file after a zero
    /// byte.
    pub(crate) fn written(&self, g: &mut Graph) -> Result<Bytes, String> {
        self.run_stages(Stage::Layout..=Stage::Layout, g).map_err(|e| e.to_string())?;
        let mut files = Memory::new("model");
        let checked = Checked::new(g, self.format.target_for(self.form)).map_err(message)?;
        self.format.with(self.form).write(checked, &Attachments::default(), &mut files).map_err(message)?;
        let mut model = files.files.remove("model").expect("the main file");
        if let Some(constants) = files.files.remove("model.bin") {
            model.push(0);
            model.extend(constants);
        }
        Ok(model.into())
    }
}

/// The first message.
fn message(diagnostics: Vec<Diagnostic>) -> String {
    diagnostics.into_iter().next().map(|d| d.message).unwrap_or_default()
}

/// Row-major tensors with the element types and in the physical layout of the graph's inputs.
pub(crate) fn laid_out(g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    as_inputs(g, inputs)
}

fn row_major(t: &Tensor) -> Tensor {
    relayout(t, &Layout::row_major(t.ty().rank())).unwrap()
}

/// The runtime's outputs of the compiled graph, row-major.
pub(crate) fn outputs(g: &Graph, outcome: &Outcome) -> Result<Vec<Tensor>, String> {
    let found = outcome.as_ref().map_err(Clone::clone)?;
    if found.len() != g.outputs().len() {
        return Err(format!("{} outputs, expected {}", found.len(), g.outputs().len()));
    }
    let typed = |(o, t): (&Output, &Tensor)| {
        let ty = g.ty(o.value);
        let stored = ty.elem.qparams().map_or_else(|| ty.elem.clone(), |qparams| qparams.storage.elem());
        if t.ty().elem != stored || t.ty().shape != ty.layout.physical(&ty.shape) {
            return Err(format!("{} is {}, expected {ty}", o.name, t.ty()));
        }
        Ok(row_major(&t.retype(ty.clone()).unwrap()))
    };
    g.outputs().iter().zip(found).map(typed).collect()
}

/// The graph's outputs, row-major.
pub(crate) fn evaluate(g: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let results = Executor::new(g).run(&laid_out(g, inputs), &mut |_, _| {}).map_err(|e| e.to_string())?;
    Ok(results.iter().map(row_major).collect())
}

/// Fails if an output differs from the expected one by more than the tolerance.
pub(crate) fn all_close(found: &[Tensor], expected: &[Tensor], close: (f32, f32)) -> Result<(), String> {
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let (rtol, atol) = if e.ty().elem == Elem::F16 { HALF } else { close };
        if let Some(difference) = difference(f, e, rtol, atol) {
            return Err(format!("output {i}: {difference}"));
        }
    }
    Ok(())
}

/// A quantized graph and its artefact.
pub(crate) struct Integer {
    pub(crate) name: String,
    #[cfg_attr(not(feature = "oracles"), expect(dead_code, reason = "it is read where it runs"))]
    pub(crate) float: Graph,
    pub(crate) graph: Graph,
    pub(crate) model: Bytes,
    pub(crate) inputs: Vec<Tensor>,
}

/// The graphs of a file, with `const noise` replaced by pseudo-random constants.
pub(crate) fn graphs_of(text: &str) -> Vec<Graph> {
    let noise = |(seed, line): (usize, &str)| match line.strip_suffix("const noise") {
        Some(head) => {
            let dims = head[head.find('[').unwrap() + 1..head.find(']').unwrap()].split(',');
            let shape: Shape = dims.map(|d| d.parse::<usize>().unwrap()).collect();
            format!("{head}const {:?}\n", numbers(shape, seed as u64).floats())
        }
        None => format!("{line}\n"),
    };
    let graph = |text: &str| -> Graph {
        let text: String = text.trim_start().lines().enumerate().map(noise).collect();
        parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{text}"))
    };
    text.split_inclusive("\n}\n").map(graph).collect()
}

/// Inputs with different ranges: input i spans -i-0.6 to i+1.4.
fn shifted_inputs(g: &Graph, seed: u64) -> Vec<Tensor> {
    let shift = |(i, t): (usize, Tensor)| {
        let values = t.floats().iter().map(|v| v * (i + 1) as f32 + 0.4).collect();
        Tensor::from_vec(t.ty().shape.clone(), values)
    };
    inputs_for(g, seed).into_iter().enumerate().map(shift).collect()
}

/// Appends a contraction to each float output: without one nearby, nothing is worth quantizing.
fn probe_outputs(g: &mut Graph) {
    let outputs: Vec<Output> = g.outputs().iter().filter(|o| g.ty(o.value).elem == Elem::F32).cloned().collect();
    for Output { name, value } in outputs {
        let n = g.ty(value).shape.elements().unwrap();
        let row = g.add1(Reshape { shape: Shape::known(&[1, n]) }, &[value], Origin::none()).unwrap();
        let weight = g.add_const(numbers(Shape::known(&[2, n]), 1), Origin::none());
        let probe = g.add1(MatMul { transpose_b: true }, &[row, weight], Origin::none()).unwrap();
        g.add_output(format!("{name}_probe"), probe);
    }
}

impl Runtime {
    /// The quantized graph as a model, with integer inputs and outputs where the target takes them.
    pub(crate) fn integer(&self, g: Graph) -> Result<Integer, String> {
        let interface = match self.format.target_for(self.form).has_quantized_interface() {
            true => quantize::Interface::Quantized(self.storage),
            false => quantize::Interface::Float,
        };
        self.integer_with(g, interface)
    }

    /// As [`Runtime::integer`], with such inputs and outputs.
    pub(crate) fn integer_with(&self, mut g: Graph, interface: quantize::Interface) -> Result<Integer, String> {
        let name = g.name.clone();
        probe_outputs(&mut g);
        let float = self.lowered(g).map_err(|e| e.to_string())?;
        let joint = SharedGraph::alone(&float);
        let ranges =
            calibrate(&joint, &[&float], Method::Mse, 8, |i| Some(shifted_inputs(&float, i as u64)), &mut |_| {
                Continue(())
            });
        let interface = interface.into();
        let activations = match self.storage {
            StorageType::I16 => quantize::Activations::Bits16,
            _ => quantize::Activations::Bits8,
        };
        let options = quantize::Options { activations, interface, ..quantize::Options::default() };
        let ranges = ranges.map_err(|e| e.to_string())?;
        let quantized =
            quantize(&float, self.format.target_for(self.form), &ranges[0], &options).map_err(|e| e.to_string())?;
        let mut graph = quantized.graph;
        let model = self.written(&mut graph)?;
        let stored = |(v, t): (qcc_ir::ValueId, &Tensor)| match &graph.ty(v).elem {
            Elem::Quantized(qparams) => t.quantized(qparams),
            _ => t.clone(),
        };
        let inputs = graph.inputs().zip(&shifted_inputs(&float, 3)).map(stored).collect();
        Ok(Integer { name, float, graph, model, inputs })
    }

    /// The graphs of the integer cases, as models.
    pub(crate) fn integer_cases(&self) -> Vec<Integer> {
        let graphs = graphs_of(include_str!("../cases/int8.qir"));
        graphs.into_iter().map(|g| self.integer(g).unwrap_or_else(|why| panic!("{why}"))).collect()
    }
}

/// The largest difference of outputs in quantization steps.
pub(crate) fn most_steps(found: &[Tensor], expected: &[Tensor]) -> i64 {
    found.iter().zip(expected).map(|(f, e)| steps(f, e)).max().unwrap_or(0)
}

/// The largest difference of stored integers.
pub(crate) fn steps(a: &Tensor, b: &Tensor) -> i64 {
    match (a.integers(), b.integers()) {
        (Some(a), Some(b)) => a.iter().zip(&b).map(|(a, b)| (a - b).abs()).max().unwrap_or(0),
        _ => i64::from(difference(a, b, CANCELLED.0, CANCELLED.1).is_some()) * i64::MAX,
    }
}

#[cfg(feature = "oracles")]
pub(crate) fn sqnr(truth: &[f32], found: &[f32]) -> f64 {
    let power = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let noise = power(&mut truth.iter().zip(found).map(|(t, f)| t - f));
    if noise == 0.0 { f64::INFINITY } else { 10.0 * libm::log10(power(&mut truth.iter().copied()) / noise) }
}

/// Random graphs, reproducible.
pub(crate) fn random_graphs(count: usize) -> Vec<Graph> {
    let mut runner = TestRunner::deterministic();
    let small = |g: &Graph| {
        g.order().iter().all(|&n| g.results(n).all(|v| g.ty(v).shape.elements().is_some_and(|e| e < 10_000)))
    };
    std::iter::repeat_with(|| graphs().new_tree(&mut runner).unwrap().current()).filter(small).take(count).collect()
}

/// The first element at which two tensors differ by more than `atol + rtol * |expected|`; NaN equals NaN.
pub(crate) fn difference(found: &Tensor, expected: &Tensor, rtol: f32, atol: f32) -> Option<String> {
    if found.dims() != expected.dims() {
        return Some(format!("shape {}, expected {}", found.ty(), expected.ty()));
    }
    let close = |f: f32, e: f32| f == e || (f - e).abs() <= atol + rtol * e.abs() || (f.is_nan() && e.is_nan());
    let (found_reals, expected_reals) = (found.floats(), expected.floats());
    let exact = (found.integers(), expected.integers());
    let wrong = match &exact {
        (Some(f), Some(e)) => f.iter().zip(e).position(|(f, e)| f != e),
        _ => found_reals.iter().zip(expected_reals.iter()).position(|(&f, &e)| !close(f, e)),
    };
    wrong.map(|i| format!("[{i}] is {}, expected {}", found_reals[i], expected_reals[i]))
}

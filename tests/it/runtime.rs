//! What runtimes make of the models that qcc writes, against qcc's evaluator.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow::Continue;
use std::ops::RangeInclusive;

use bytes::Bytes;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use qcc_backends::{Attachments, Form, Format, Memory};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::{Executor, relayout};
use qcc_ir::ops::{MatMul, Op, Reshape};
use qcc_ir::testing::{Case, graphs, inputs_for, numbers, operators};
use qcc_ir::text::{Weights, parse, print_brief};
use qcc_ir::{Checked, Elem, Graph, Layout, Origin, Output, Shape, Store, Tensor};
use qcc_passes::calibrate::{Method, calibrate};
use qcc_passes::quantize::{self, quantize};
use qcc_passes::{Context, Joint, PassError, Pipeline, Settings, Stage, ignore, quality};

use crate::onnx_nodes::{Suite, counted};
use crate::oracle::{self, Outcome, Run};

/// Relative and absolute difference of floats: kernels sum and approximate in their own ways.
pub(crate) const CLOSE: (f32, f32) = (1e-4, 1e-5);

/// The same of sums over grids, whose terms cancel out.
const CANCELLED: (f32, f32) = (1e-4, 1e-4);

/// The same of 16-bit floats: two of their steps, where what is between is kept wider.
const HALF: (f32, f32) = (2.0 / 1024.0, 1e-5);

/// A runtime and how models are written for it.
#[derive(Debug)]
pub(crate) struct Runtime {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its script among the oracles.
    pub(crate) script: &'static str,
    pub(crate) format: Format,
    pub(crate) form: Form,
    /// What integer graphs take and give.
    pub(crate) store: Store,
    /// Steps of an output's grid between it and the evaluator: where it optimizes, and where it does not.
    pub(crate) steps: [i64; 2],
    /// Models, or texts of errors, where it does not do as the standard says, and why.
    pub(crate) dissent: &'static [(&'static str, &'static str)],
}

impl Runtime {
    fn run_stages(&self, stages: RangeInclusive<Stage>, g: &mut Graph) -> Result<(), PassError> {
        let mut cx = Context::new(self.format.target());
        Pipeline::new(&Settings::default()).run(stages, g, &mut cx, &mut ignore)
    }

    /// Simplifies and lowers an imported graph.
    pub(crate) fn lowered(&self, mut g: Graph) -> Result<Graph, PassError> {
        self.run_stages(Stage::Simplify..=Stage::Lower, &mut g)?;
        Ok(g)
    }

    /// Lays out a lowered graph and writes it; a file of constants comes behind the main one and a zero byte.
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

/// The first of the messages.
fn message(diagnostics: Vec<Diagnostic>) -> String {
    diagnostics.into_iter().next().map(|d| d.message).unwrap_or_default()
}

/// Row-major tensors as the graph's inputs lie.
pub(crate) fn laid_out(g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    g.inputs().zip(inputs).map(|(v, t)| relayout(t, &g.ty(v).layout).unwrap()).collect()
}

fn row_major(t: &Tensor) -> Tensor {
    relayout(t, &Layout::row_major(t.ty().rank())).unwrap()
}

/// What a runtime gave as the outputs of the compiled graph, row-major.
pub(crate) fn outputs(g: &Graph, outcome: &Outcome) -> Result<Vec<Tensor>, String> {
    let found = outcome.as_ref().map_err(Clone::clone)?;
    if found.len() != g.outputs().len() {
        return Err(format!("{} outputs, expected {}", found.len(), g.outputs().len()));
    }
    let typed = |(o, t): (&Output, &Tensor)| {
        let ty = g.ty(o.value);
        let stored = ty.elem.grid().map_or_else(|| ty.elem.clone(), |grid| grid.store.elem());
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

/// What else is checked of a model that was written, with its inputs and what they give.
pub(crate) type Again<'a> = &'a dyn Fn(&Bytes, &[Tensor], &[Tensor]) -> Result<(), String>;

impl Runtime {
    /// Runs the models of a suite that qcc imports: which are equal, and which are refused. Each model that was written is
    /// checked `again`.
    pub(crate) fn node_tests(&self, suite: &Suite, folder: &str, again: Again<'_>) -> String {
        let (mut refused, mut wrong) = (String::new(), String::new());
        let (mut cases, mut runs) = (Vec::new(), Vec::new());
        for (name, source, inputs) in suite.imported() {
            let expected = evaluate(&source, &inputs).unwrap();
            let lowered = self.lowered(source).map_err(|e| e.to_string());
            match lowered.and_then(|mut g| Ok((self.written(&mut g)?, g))) {
                Ok((model, g)) => {
                    if let Err(why) = again(&model, &inputs, &expected) {
                        _ = writeln!(wrong, "{name}: {why}");
                    }
                    runs.push(Run { model, inputs: laid_out(&g, &inputs), optimized: true });
                    cases.push((name, g, expected));
                }
                Err(why) => _ = writeln!(refused, "{name}: {why}"),
            }
        }
        let mut equal = String::new();
        for ((name, g, expected), outcome) in cases.iter().zip(oracle::run(self.script, folder, &runs)) {
            let known = self.dissent.iter().find(|(n, _)| n == name);
            _ = match (outputs(g, &outcome).and_then(|found| all_close(&found, expected, CLOSE)), known) {
                (Ok(()), _) => writeln!(equal, "{name}"),
                (Err(_), Some((_, why))) => writeln!(refused, "{name}: {why}"),
                (Err(why), None) => writeln!(wrong, "{name}: {why}"),
            };
        }
        assert!(wrong.is_empty(), "wrong in {}: {}\n{wrong}", self.name, wrong.lines().count());
        counted(suite, ("equal", &equal), &refused)
    }
}

/// Fails where an output is far from the one expected.
pub(crate) fn all_close(found: &[Tensor], expected: &[Tensor], close: (f32, f32)) -> Result<(), String> {
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let (rtol, atol) = if e.ty().elem == Elem::F16 { HALF } else { close };
        if let Some(difference) = oracle::difference(f, e, rtol, atol) {
            return Err(format!("output {i}: {difference}"));
        }
    }
    Ok(())
}

/// Signal to noise ratio in dB of an integer model against the float one.
const LEAST_SQNR: f64 = 20.0;

/// A graph that was quantized, laid out and written.
pub(crate) struct Integer {
    pub(crate) name: String,
    float: Graph,
    pub(crate) graph: Graph,
    pub(crate) model: Bytes,
    pub(crate) inputs: Vec<Tensor>,
}

/// The graphs of a file, with their constants of noise.
pub(crate) fn graphs_of(text: &str) -> Vec<Graph> {
    let noise = |(seed, line): (usize, &str)| match line.strip_suffix("const noise") {
        Some(head) => {
            let dims = head[head.find('[').unwrap() + 1..head.find(']').unwrap()].split(',');
            let shape: Shape = dims.map(|d| d.parse::<usize>().unwrap()).collect();
            format!("{head}const {:?}\n", numbers(shape, seed as u64).reals())
        }
        None => format!("{line}\n"),
    };
    let graph = |text: &str| -> Graph {
        let text: String = text.trim_start().lines().enumerate().map(noise).collect();
        parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{text}"))
    };
    text.split_inclusive("\n}\n").map(graph).collect()
}

/// Inputs on ranges that differ: input i spans -i-0.6 to i+1.4.
fn shifted_inputs(g: &Graph, seed: u64) -> Vec<Tensor> {
    let shift = |(i, t): (usize, Tensor)| {
        let values = t.reals().iter().map(|v| v * (i + 1) as f32 + 0.4).collect();
        Tensor::from_vec(t.ty().shape.clone(), values)
    };
    inputs_for(g, seed).into_iter().enumerate().map(shift).collect()
}

/// Lets a contraction read each real output: without one near, nothing is worth being put on grids.
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
    /// The graph on grids, as a model.
    pub(crate) fn integer(&self, mut g: Graph) -> Result<Integer, String> {
        let name = g.name.clone();
        probe_outputs(&mut g);
        let float = self.lowered(g).map_err(|e| e.to_string())?;
        let joint = Joint::alone(&float);
        let ranges =
            calibrate(&joint, &[&float], Method::Mse, 8, |i| Some(shifted_inputs(&float, i as u64)), &mut |_| {
                Continue(())
            });
        let interface = quantize::Interface::Grid(self.store);
        let options = quantize::Options { interface, ..quantize::Options::default() };
        let ranges = ranges.map_err(|e| e.to_string())?;
        let quantized = quantize(&float, self.format.target(), &ranges[0], &options).map_err(|e| e.to_string())?;
        let mut graph = quantized.graph;
        let model = self.written(&mut graph)?;
        let stored = |(v, t): (qcc_ir::ValueId, &Tensor)| match &graph.ty(v).elem {
            Elem::Grid(grid) => t.quantized(grid),
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

    /// Runs integer graphs: what is to be said of each.
    pub(crate) fn integer_tests(&self, folder: &str, cases: &[Integer]) -> String {
        let run = |case: &Integer, optimized| Run {
            model: case.model.clone(),
            inputs: laid_out(&case.graph, &case.inputs),
            optimized,
        };
        let runs: Vec<Run> = cases.iter().flat_map(|case| [true, false].map(|o| run(case, o))).collect();
        let outcomes = oracle::run(self.script, folder, &runs);
        let (mut right, mut wrong) = (String::new(), String::new());
        for (case, outcomes) in cases.iter().zip(outcomes.chunks(2)) {
            _ = match self.judge(case, [&outcomes[0], &outcomes[1]]) {
                Ok(how) => writeln!(right, "{}: {how}", case.name),
                Err(why) => writeln!(wrong, "{}: {why}", case.name),
            };
        }
        assert!(wrong.is_empty(), "wrong in {}:\n{wrong}", self.name);
        right
    }

    /// Compares what the runtime gave with the evaluator, and that with the float graph: what stays real. How many steps
    /// there are between the two, within the limit, depends on the processor.
    fn judge(&self, case: &Integer, outcomes: [&Outcome; 2]) -> Result<String, String> {
        let expected = evaluate(&case.graph, &case.inputs)?;
        let reals: Vec<Tensor> = case.inputs.iter().map(Tensor::to_real).collect();
        let float = evaluate(&case.float, &reals)?;
        for ((e, f), output) in expected.iter().zip(&float).zip(case.graph.outputs()) {
            let ratio = sqnr(&f.reals(), &e.reals());
            if ratio < LEAST_SQNR {
                return Err(format!("{} has {ratio:.1} dB against the float graph", output.name));
            }
        }
        for ((outcome, most), way) in outcomes.into_iter().zip(self.steps).zip(["optimized", "plain"]) {
            let found = outputs(&case.graph, outcome).map_err(|e| format!("{way}: {e}"))?;
            let steps = most_steps(&found, &expected);
            if steps > most {
                return Err(format!("{way}: {steps} steps"));
            }
        }
        let islands = quality::float_islands(&case.graph);
        let kinds: Vec<&str> = islands.into_iter().map(|n| case.graph.op(n).kind().name()).collect();
        Ok(if kinds.is_empty() { "integer".to_owned() } else { format!("float: {}", kinds.join(" ")) })
    }
}

/// The largest difference of outputs in steps of their grids.
pub(crate) fn most_steps(found: &[Tensor], expected: &[Tensor]) -> i64 {
    found.iter().zip(expected).map(|(f, e)| steps(f, e)).max().unwrap_or(0)
}

/// The largest difference of stored integers.
pub(crate) fn steps(a: &Tensor, b: &Tensor) -> i64 {
    match (a.integers(), b.integers()) {
        (Some(a), Some(b)) => a.iter().zip(&b).map(|(a, b)| (a - b).abs()).max().unwrap_or(0),
        _ => i64::from(oracle::difference(a, b, CANCELLED.0, CANCELLED.1).is_some()) * i64::MAX,
    }
}

pub(crate) fn sqnr(truth: &[f32], found: &[f32]) -> f64 {
    let power = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let noise = power(&mut truth.iter().zip(found).map(|(t, f)| t - f));
    if noise == 0.0 { f64::INFINITY } else { 10.0 * (power(&mut truth.iter().copied()) / noise).log10() }
}

/// The graph with activations as they are where kernels quantize them when the model runs.
fn without_dynamic(g: &Graph) -> Graph {
    let mut g = g.clone();
    for n in g.order() {
        if matches!(g.op(n), Op::DynamicQuantize(_)) {
            let x = g.operands(n)[0];
            g.redirect(n.value(0), x);
        }
    }
    g
}

/// Random graphs, the same each time.
pub(crate) fn random_graphs(count: usize) -> Vec<Graph> {
    let mut runner = TestRunner::deterministic();
    let small = |g: &Graph| {
        g.order().iter().all(|&n| g.results(n).all(|v| g.ty(v).shape.elements().is_some_and(|e| e < 10_000)))
    };
    std::iter::repeat_with(|| graphs().new_tree(&mut runner).unwrap().current()).filter(small).take(count).collect()
}

/// The place of a case among all from which on every such one runs in a runtime.
const SOME: usize = 7;

impl Runtime {
    /// Lowers and lays out graphs of single operators, which must mean the same, and runs some of them. Gives what is
    /// refused, and how often.
    pub(crate) fn operator_tests(&self, folder: &str) -> String {
        let (mut refused, mut wrong) = (BTreeMap::<String, usize>::new(), String::new());
        let (mut cases, mut runs) = (Vec::new(), Vec::new());
        for (i, Case { graph, inputs }) in operators().into_iter().enumerate() {
            let expected = evaluate(&graph, &inputs).unwrap();
            let lowered = self.lowered(graph.clone()).map_err(|e| e.to_string());
            let (g, model) = match lowered.and_then(|mut g| Ok((self.written(&mut g)?, g))) {
                Ok((model, g)) => (g, model),
                Err(why) => {
                    *refused.entry(why).or_default() += 1;
                    continue;
                }
            };
            if let Err(why) = evaluate(&g, &inputs).and_then(|found| all_close(&found, &expected, CLOSE)) {
                _ = writeln!(wrong, "{} lowered: {why}", graph.name);
            } else if i % SOME == 0 {
                runs.push(Run { model, inputs: laid_out(&g, &inputs), optimized: true });
                cases.push((graph, g, expected));
            }
        }
        for ((source, g, expected), outcome) in cases.iter().zip(oracle::run(self.script, folder, &runs)) {
            if let Err(why) = outputs(g, &outcome).and_then(|found| all_close(&found, expected, CLOSE)) {
                _ = writeln!(wrong, "{} on {}: {why}", source.name, print_brief(source).lines().nth(1).unwrap_or(""));
            }
        }
        assert!(wrong.is_empty(), "wrong in {}: {}\n{wrong}", self.name, wrong.lines().count());
        refused.into_iter().map(|(why, count)| format!("{count} {why}\n")).collect()
    }

    /// Runs random float graphs; each model that was written is checked `again`.
    pub(crate) fn random_tests(&self, folder: &str, again: Again<'_>) {
        const COUNT: usize = 300;
        let (mut cases, mut runs) = (Vec::new(), Vec::new());
        for source in random_graphs(COUNT) {
            let inputs = inputs_for(&source, 5);
            let expected = evaluate(&source, &inputs).unwrap();
            let mut g = self.lowered(source.clone()).unwrap();
            if let Ok(model) = self.written(&mut g) {
                again(&model, &inputs, &expected).unwrap_or_else(|why| panic!("{why}\n{}", print_brief(&source)));
                runs.push(Run { model, inputs: laid_out(&g, &inputs), optimized: true });
                cases.push((source, g, expected));
            }
        }
        assert!(cases.len() * 10 >= COUNT * 9, "{} of {COUNT} are refused", COUNT - cases.len());
        for ((source, g, expected), outcome) in cases.iter().zip(oracle::run(self.script, folder, &runs)) {
            let known = |why: &String| self.dissent.iter().any(|(text, _)| why.contains(text));
            let close = outputs(g, &outcome).and_then(|found| all_close(&found, expected, CLOSE));
            if let Some(why) = close.err().filter(|why| !known(why)) {
                panic!("wrong in {}: {why}\n{}", self.name, print_brief(source));
            }
        }
    }
}

impl Runtime {
    /// Runs a graph whose weights alone lie on grids: within `CANCELLED` where the runtime does not optimize, and with at
    /// least `least` dB where it does. `stores` are those of the weights.
    fn weight_tests(&self, folder: &str, text: &str, weights: quantize::Weights, stores: &[Store], least: f64) {
        let float = self.lowered(graphs_of(text).remove(0)).unwrap();
        let options = quantize::Options { activations: false, weights, ..quantize::Options::default() };
        let ranges = qcc_passes::calibrate::Ranges::default();
        let mut g = quantize(&float, self.format.target(), &ranges, &options).unwrap().graph;
        let constants = g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Const(_)));
        let narrow: Vec<Store> =
            constants.filter_map(|n| g.ty(n.value(0)).elem.grid().map(|grid| grid.store)).collect();
        assert_eq!(narrow, stores);
        let model = self.written(&mut g).unwrap();
        let inputs = inputs_for(&g, 3);
        let expected = evaluate(&g, &inputs).unwrap();
        let real = evaluate(&float, &inputs).unwrap();
        let runs =
            [false, true].map(|optimized| Run { model: model.clone(), inputs: laid_out(&g, &inputs), optimized });
        let outcomes = oracle::run(self.script, folder, &runs);
        let [plain, fast] = [0, 1].map(|i| outputs(&g, &outcomes[i]).unwrap());
        // Only optimized products quantize their activations.
        all_close(&plain, &evaluate(&without_dynamic(&g), &inputs).unwrap(), CANCELLED).unwrap();
        for ((f, e), r) in fast.iter().zip(&expected).zip(&real) {
            let ratios = [sqnr(&e.reals(), &f.reals()), sqnr(&r.reals(), &e.reals())];
            assert!(ratios[0] >= least && ratios[1] >= 20.0, "{ratios:?} dB");
        }
    }

    /// Products of activations that are quantized when the model runs, in the dynamic form of the target.
    pub(crate) fn dynamic_tests(&self, folder: &str, weights: quantize::Weights, least: f64) {
        let text = "graph dynamic { %x: f32[3,5,96] = input
            %a: f32[96,64] = const noise
            %b: f32[64] = const noise
            %p = matmul(transpose_b:false) %x, %a, %b
            %q = clamp(lo:0.0,hi:inf) %p
            %c: f32[6,64] = const noise
            %y = matmul(transpose_b:true) %q, %c
            output y = %y output p = %p\n}\n";
        let target = self.format.target_for(Form { dynamic: true, ..Form::PLAIN });
        let float = self.lowered(graphs_of(text).remove(0)).unwrap();
        let options = quantize::Options { activations: false, weights, ..quantize::Options::default() };
        let mut g = quantize(&float, target, &qcc_passes::calibrate::Ranges::default(), &options).unwrap().graph;
        let rounded = g.order().into_iter().filter(|&n| matches!(g.op(n), Op::DynamicQuantize(_))).count();
        assert_eq!(rounded, 2);
        let model = self.written(&mut g).unwrap();
        let inputs = inputs_for(&g, 3);
        let (expected, real) = (evaluate(&g, &inputs).unwrap(), evaluate(&without_dynamic(&g), &inputs).unwrap());
        let run = Run { model, inputs: laid_out(&g, &inputs), optimized: true };
        let found = outputs(&g, &oracle::run(self.script, folder, &[run])[0]).unwrap();
        for ((e, f), r) in expected.iter().zip(&found).zip(&real) {
            let (told, rounding) = (sqnr(&e.reals(), &f.reals()), sqnr(&r.reals(), &f.reals()));
            assert!(told >= least && rounding < 60.0, "{told} dB, {rounding} dB");
        }
    }

    /// Products with 4-bit weights in blocks.
    pub(crate) fn block_tests(&self, folder: &str, least: f64) {
        let text = "graph blocks { %x: f32[3,5,80] = input
            %a: f32[80,48] = const noise
            %b: f32[48] = const noise
            %p = matmul(transpose_b:false) %x, %a, %b
            %c: f32[64,48] = const noise
            %q = matmul(transpose_b:true) %p, %c
            %r = clamp(lo:0.0,hi:inf) %q
            %d: f32[6,64] = const noise
            %e: f32[6] = const noise
            %y = matmul(transpose_b:true) %r, %d, %e
            output y = %y output p = %p\n}\n";
        self.weight_tests(folder, text, quantize::Weights::Blocks(16), &[Store::I4; 3], least);
    }

    /// Tables that numbers are looked up in, and recurrent layers.
    pub(crate) fn stored_tests(&self, folder: &str) {
        let text = "graph stored { %x: f32[3,2,30] = input
            %s: f32[2,30] = const noise
            %t: f32[160,30] = const noise
            %p = arg_reduce(axis:2,largest:true,keep:false) %x
            %e = gather(axis:0) %t, %p
            %z = binary(f:Add) %e, %x
            %w: f32[160,30] = const noise
            %r: f32[160,40] = const noise
            %b: f32[160] = const noise
            %h: f32[2,40] = const noise
            %c: f32[2,40] = const noise
            %y, %last, %cell = recurrent(cell:Lstm,reverse:false,clip:None) %z, %w, %r, %b, %h, %c
            output y = %y output e = %e\n}\n";
        self.weight_tests(folder, text, quantize::Weights::Channels, &[Store::I8; 3], 80.0);
    }
}

//! Models that qcc writes, run in runtimes and compared with qcc's evaluator.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use qcc_backends::WriteOptions;
use qcc_ir::ops::Op;
use qcc_ir::testing::{Case, inputs_for, operators};
use qcc_ir::text::print_brief;
use qcc_ir::{Graph, StorageType, Tensor};
use qcc_passes::quality;
use qcc_passes::quantize::{self, quantize};

use crate::onnx_nodes::{Suite, counted};
use crate::oracle::{self, Run};
use crate::runtime::{
    CANCELLED, CLOSE, Integer, Outcome, Runtime, all_close, evaluate, graphs_of, laid_out, most_steps, outputs,
    random_graphs, sqnr,
};

/// An additional check of an artefact, with its inputs and expected outputs.
pub(crate) type Again<'a> = &'a dyn Fn(&Bytes, &[Tensor], &[Tensor]) -> Result<(), String>;

/// Minimum SQNR in dB of an integer model compared with the float one.
const LEAST_SQNR: f64 = 20.0;

/// Only one of so many cases runs in a runtime.
const SOME: usize = 7;

impl Runtime {
    /// Runs the models of a suite that qcc imports. Returns which are equal, and which are refused. Each artefact is
    /// also checked by `again`.
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

    /// Runs integer graphs and describes each.
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

    /// Compares the runtime's outputs with the evaluator's, and these with the float graph's; returns which operators
    /// stay float. The number of steps between the two, within the tolerance, depends on the processor.
    fn judge(&self, case: &Integer, outcomes: [&Outcome; 2]) -> Result<String, String> {
        let expected = evaluate(&case.graph, &case.inputs)?;
        let reals: Vec<Tensor> = case.inputs.iter().map(Tensor::to_float).collect();
        let float = evaluate(&case.float, &reals)?;
        for ((e, f), output) in expected.iter().zip(&float).zip(case.graph.outputs()) {
            let ratio = sqnr(&f.floats(), &e.floats());
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

    /// Lowers graphs of single operators and chooses their layouts, checks that they compute the same, and runs some of
    /// them. Returns what is refused, and how often.
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

    /// Runs random float graphs; each artefact is also checked by `again`.
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

    /// Runs a graph with weight-only quantization: within `CANCELLED` without the runtime's optimizations, and with an
    /// SQNR of at least `least` dB with them. `storages` are those of the weights.
    fn weight_tests(&self, folder: &str, text: &str, weights: quantize::Weights, storages: &[StorageType], least: f64) {
        let float = self.lowered(graphs_of(text).remove(0)).unwrap();
        let options =
            quantize::Options { activations: quantize::Activations::Float, weights, ..quantize::Options::default() };
        let ranges = qcc_passes::calibrate::CalibrationTable::default();
        let mut g = quantize(&float, self.format.target_for(self.form), &ranges, &options).unwrap().graph;
        let constants = g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Const(_)));
        let narrow: Vec<StorageType> =
            constants.filter_map(|n| g.ty(n.value(0)).elem.qparams().map(|qparams| qparams.storage)).collect();
        assert_eq!(narrow, storages);
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
            let ratios = [sqnr(&e.floats(), &f.floats()), sqnr(&r.floats(), &e.floats())];
            assert!(ratios[0] >= least && ratios[1] >= 20.0, "{ratios:?} dB");
        }
    }

    /// Products with dynamic quantization of activations, for the dynamic variant of the target.
    pub(crate) fn dynamic_tests(&self, folder: &str, weights: quantize::Weights, least: f64) {
        let text = "graph dynamic { %x: f32[3,5,96] = input
            %a: f32[96,64] = const noise
            %b: f32[64] = const noise
            %p = matmul(transpose_b:false) %x, %a, %b
            %q = clamp(lo:0.0,hi:inf) %p
            %c: f32[6,64] = const noise
            %y = matmul(transpose_b:true) %q, %c
            output y = %y output p = %p\n}\n";
        let target = self.format.target_for(WriteOptions { dynamic: true, ..WriteOptions::PLAIN });
        let float = self.lowered(graphs_of(text).remove(0)).unwrap();
        let options =
            quantize::Options { activations: quantize::Activations::Float, weights, ..quantize::Options::default() };
        let mut g =
            quantize(&float, target, &qcc_passes::calibrate::CalibrationTable::default(), &options).unwrap().graph;
        let rounded = g.order().into_iter().filter(|&n| matches!(g.op(n), Op::DynamicQuantize(_))).count();
        assert_eq!(rounded, 2);
        let model = self.written(&mut g).unwrap();
        let inputs = inputs_for(&g, 3);
        let (expected, real) = (evaluate(&g, &inputs).unwrap(), evaluate(&without_dynamic(&g), &inputs).unwrap());
        let run = Run { model, inputs: laid_out(&g, &inputs), optimized: true };
        let found = outputs(&g, &oracle::run(self.script, folder, &[run])[0]).unwrap();
        for ((e, f), r) in expected.iter().zip(&found).zip(&real) {
            let (told, rounding) = (sqnr(&e.floats(), &f.floats()), sqnr(&r.floats(), &f.floats()));
            assert!(told >= least && rounding < 60.0, "{told} dB, {rounding} dB");
        }
    }

    /// Products with blockwise 4-bit weights.
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
        self.weight_tests(folder, text, quantize::Weights::Blocks(16), &[StorageType::I4; 3], least);
    }

    /// Lookup tables and recurrent layers with quantized weights.
    pub(crate) fn stored_tests(&self, folder: &str) {
        let text = "graph stored { %x: f32[18,2,30] = input
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
        self.weight_tests(folder, text, quantize::Weights::Channels, &[StorageType::I8; 3], 80.0);
    }
}

/// The graph without dynamic quantization of activations.
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

//! Quantization of the lowered graphs: calibration, quantization, and comparison with the float graphs.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use qcc_backends::Backend;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::RunError;
use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, StorageType, Tensor};
use qcc_passes::calibrate::CalibrationTable;
use qcc_passes::quality::{self as fidelity, Compiled, Fidelity, Hints};
use qcc_passes::quantize::{Dynamic, Quantized};
use qcc_passes::{Context, Given, PassError, PassId, SharedGraph, SourceFacts, Stage};
use rayon::prelude::*;

use super::pipeline::Variant;
use super::{Compiler, Lowered};
use crate::data::Samples;
use crate::details;
use crate::memory;
use crate::observer::{Clock, Observer};
use crate::options::{Effort, Options};
use crate::outcome::Failure;
use crate::precision::Precision;
use crate::quality::{
    Evidence, ParetoPoint, Quality, Repair, Trial, Validation, advice, check_ranges, not_compared, not_measured, trials,
};
use crate::reader::Reader;

/// The smallest block size of 4-bit weights that can be asked for.
const FINEST_BLOCK: usize = 16;

/// Float graphs of one model, lowered for their targets, and what is needed to quantize them.
pub(super) struct Narrowing<'a> {
    compiler: &'a Compiler,
    pub(super) options: &'a Options,
    pub(super) source: &'a Graph,
    pub(super) facts: SourceFacts,
    pub(super) hints: Hints,
    pub(super) floats: Vec<Graph>,
    backends: Vec<Arc<dyn Backend>>,
    pub(super) targets: Vec<&'a Target>,
    pub(super) joint: SharedGraph,
    /// The calibration table of each graph; empty before calibration.
    pub(super) ranges: Vec<CalibrationTable>,
    /// The samples with the most objects, once a search needs them.
    pub(super) telling: OnceLock<Vec<Vec<Tensor>>>,
}

/// A quantized graph of one of the targets.
pub(super) struct Narrowed {
    /// Index of the target.
    pub(super) place: usize,
    /// Where activations may be quantized dynamically.
    pub(super) dynamic: Dynamic,
    /// Weights compensate each other's rounding errors, where second moments are known.
    pub(super) compensate: bool,
    /// Channels of activations are scaled, where that is expected to gain.
    pub(super) smooth: bool,
    pub(super) quantized: Quantized,
    /// The graphs after passes that are to be shown.
    shown: Vec<(PassId, Graph)>,
    diagnostics: Vec<Diagnostic>,
}

/// A model, the comparison of its values with those of the float model, and what follows for the report.
pub(super) struct Measured {
    pub(super) narrowed: Narrowed,
    pub(super) fidelity: Fidelity,
    pub(super) quality: Quality,
}

impl Measured {
    pub(super) fn new(narrowed: Narrowed, fidelity: Fidelity) -> Self {
        let quality = Quality::of(fidelity.clone(), &narrowed.quantized.graph);
        Measured { narrowed, fidelity, quality }
    }
}

/// What a search for parts to keep in higher precision found.
#[derive(Default)]
pub(super) struct Repaired {
    /// The model with parts in higher precision.
    pub(super) better: Option<(Narrowed, Fidelity, Repair)>,
    /// The models that are asked for.
    pub(super) points: Vec<ParetoPoint>,
}

impl<'a> Narrowing<'a> {
    /// The lowered graphs, before quantization.
    pub(super) fn new(
        compiler: &'a Compiler,
        source: &'a Graph,
        facts: SourceFacts,
        hints: Hints,
        lowered: &[Lowered],
    ) -> Result<Self, Failure> {
        let floats: Vec<Graph> = lowered.iter().map(|l| l.graph.clone()).collect();
        // A shared graph is used for a single target too: its artefact must not depend on the other targets.
        let joint = SharedGraph::new(source, &floats.iter().collect::<Vec<_>>()).map_err(PassError::from)?;
        let options = &compiler.options;
        Ok(Narrowing {
            compiler,
            options,
            source,
            facts,
            hints,
            ranges: vec![CalibrationTable::default(); floats.len()],
            floats,
            backends: lowered.iter().map(|l| Arc::clone(&l.backend)).collect(),
            targets: options.targets.iter().map(|backend| backend.target()).collect(),
            joint,
            telling: OnceLock::new(),
        })
    }

    /// The same with as many evaluations at once as memory allows.
    ///
    /// # Errors
    /// If one evaluation needs too much.
    pub(super) fn limited(mut self) -> Result<Self, Failure> {
        memory::limit_evaluations(&mut self.joint)?;
        Ok(self)
    }

    /// Quantizes the graphs and compares them with the float graphs.
    pub(super) fn run(
        mut self,
        lowered: &mut [Lowered],
        evidence: &Evidence,
        diagnostics: &mut Vec<Diagnostic>,
        clock: &mut Clock,
        observer: &mut dyn Observer,
    ) -> Result<Option<Validation>, Failure> {
        if evidence.calibration.is_some() || evidence.validation.is_some() {
            self = self.limited()?;
        }
        if self.calibrates() && (evidence.calibration.is_some() || self.options.has_ranges()) {
            if self.options.precision.quantizes_activations() && self.facts.given == Given::Nothing {
                check_ranges(self.source, &self.options.exclude)?;
            }
            clock.stage("calibrate", observer);
            self.ranges = self.find_ranges(evidence, diagnostics, observer)?;
        }
        if let Some(samples) = self.compensates(evidence).filter(|_| !self.calibrates()) {
            clock.stage("calibrate", observer);
            self.ranges = self.find_factors(samples, diagnostics, observer)?;
        }
        clock.stage("quantize", observer);
        let asked = Variant { smooth: self.smooths(evidence), ..Variant::asked(self.options) };
        let wanted: Vec<PassId> = self.shown_passes(observer)?;
        let narrow = |place| self.narrow(place, &asked, &wanted);
        let narrowed = (0..lowered.len()).into_par_iter().map(narrow).collect::<Result<Vec<_>, _>>()?;
        let Some(samples) = &evidence.validation else {
            self.report_work(&narrowed, lowered, diagnostics);
            diagnostics.extend(narrowed.iter().filter_map(|n| self.lost_inputs(n)));
            hand_over(narrowed, lowered, diagnostics, observer);
            return Ok(None);
        };
        diagnostics.extend(not_compared(self.source));
        let alternatives = self.alternatives(&narrowed, &wanted)?;
        clock.stage("compare", observer);
        let reader = Reader::new(samples);
        let all: Vec<&Narrowed> =
            narrowed.iter().zip(&alternatives).flat_map(|(n, a)| std::iter::once(n).chain(a.iter())).collect();
        let found = self.compare(&all, &reader).map_err(failed)?;
        let read = found.iter().map(|f| f.samples).max().unwrap_or(0);
        diagnostics.extend(reader.unread(read == 0)?);
        let (mut found, mut written) = (found.into_iter(), Vec::new());
        for (l, of_target) in lowered.iter_mut().zip(narrowed.into_iter().zip(alternatives)) {
            let Some(mut best) = self.best(of_target, &mut found, &wanted, samples)? else { break };
            if self.repairs() {
                best = self.repaired(best, evidence, &wanted)?;
            }
            best = self.with_biases(best, evidence, samples)?;
            let Measured { narrowed: n, fidelity, mut quality } = best;
            if quality.outputs.iter().any(|o| o.is_poor()) {
                diagnostics.push(self.advice(&n, &fidelity, &quality, samples).map_err(failed)?);
            }
            if written.is_empty() {
                diagnostics.extend(not_measured(&quality.outputs, &samples.to_string()));
            }
            let (float, narrow) = (&self.floats[n.place], &n.quantized);
            quality.set_values(details::values(float, &self.ranges[n.place], &narrow.graph, &narrow.values));
            l.quality = Some(quality);
            written.push(n);
        }
        hand_over(written, lowered, diagnostics, observer);
        let data = samples.to_string();
        let synthetic = samples.synthetic().is_some();
        Ok(Some(Validation { data, samples: read, seen_by_calibration: evidence.seen_by_calibration(), synthetic }))
    }

    /// Reports the integer shares of models with quantized activations, which need no samples.
    fn report_work(&self, narrowed: &[Narrowed], lowered: &mut [Lowered], diagnostics: &mut Vec<Diagnostic>) {
        if self.facts.given == Given::Nothing && !self.options.precision.quantizes_activations() {
            return;
        }
        for (l, n) in lowered.iter_mut().zip(narrowed) {
            l.quality = Some(Quality::of(Fidelity::default(), &n.quantized.graph));
        }
        let whole = |l: &Lowered| l.quality.as_ref().is_some_and(|q| q.integer_share == 1.0);
        if self.facts.given == Given::Some && !lowered.iter().all(whole) {
            let message =
                "results of integer layers have no quantization parameters: their consumers compute in floating point";
            let warning = Diagnostic::warning("missing-qparams", message);
            diagnostics.push(
                warning.with_help(
                    "--int8 --data PATH calibrates the missing quantization parameters and keeps the others",
                ),
            );
        }
    }

    /// The model, with parts in higher precision if its outputs are worse than required.
    fn repaired(&self, own: Measured, evidence: &Evidence, shown: &[PassId]) -> Result<Measured, Failure> {
        let asked = !self.options.gate.is_open() || !self.options.budget.is_open();
        let Repaired { better, points } = match self.repair(&own.narrowed, &own.fidelity, evidence, shown) {
            // Without a requirement the model is written as it is.
            Err(failure) if !asked && !matches!(failure, Failure::Cancelled) => Repaired::default(),
            other => other?,
        };
        let mut best = own;
        if let Some((better, fidelity, repair)) = better {
            let Quality { compensation_gain, smoothing_gain, .. } = best.quality;
            best = Measured::new(better, fidelity);
            best.quality = Quality { repair: Some(repair), compensation_gain, smoothing_gain, ..best.quality };
        }
        best.quality.pareto = points;
        Ok(best)
    }

    /// The warning of matrices with 8-bit weights although 4 bits are requested.
    fn wider_weights(&self, quantized: &Graph, target: &Target) -> Option<Diagnostic> {
        let wide = |n: &NodeId| match quantized.op(*n) {
            Op::MatMul(_) => {
                quantized.operand_types(*n)[1].elem.qparams().is_some_and(|g| g.storage != StorageType::I4)
            }
            _ => false,
        };
        let all: Vec<NodeId> = quantized.order().into_iter().filter(wide).collect();
        let first = all.first()?;
        let (block, name) = (self.options.block, target.name);
        let message = match all.len() {
            1 => format!("for {name}, a matrix has 8-bit weights: no kernel takes it in blocks of {block}"),
            n => format!("for {name}, {n} matrices have 8-bit weights: no kernel takes them in blocks of {block}"),
        };
        let warning = Diagnostic::warning("wider-weights", message).at(&quantized.place(*first));
        let finer = block > FINEST_BLOCK && target.takes_blocks(FINEST_BLOCK);
        Some(if finer { warning.with_help(format!("--block {FINEST_BLOCK} divides more rows")) } else { warning })
    }

    /// The warning of weights whose quantization error exceeds the signal for most input channels. It needs no samples.
    fn lost_inputs(&self, narrowed: &Narrowed) -> Option<Diagnostic> {
        let (float, target) = (&self.floats[narrowed.place], self.targets[narrowed.place].name);
        let first = float.place(*narrowed.quantized.lost_inputs.first()?);
        let layers = match narrowed.quantized.lost_inputs.len() {
            1 => "a layer has".to_owned(),
            n => format!("{n} layers have"),
        };
        let message = format!("for {target}, {layers} weights with an SQNR below 3 dB for most input channels");
        let warning = Diagnostic::warning("lost-weights", message).at(&first).with_note(
            "weights of other input channels that share the scale are far larger: the inputs may differ in magnitude",
        );
        Some(warning.with_help("--data PATH measures the effect on the outputs and tries remedies; --exclude NAME keeps a layer in floating point"))
    }

    /// The passes after which graphs are shown.
    fn shown_passes(&self, observer: &dyn Observer) -> Result<Vec<PassId>, Failure> {
        let mut all = Vec::new();
        for backend in &self.backends {
            all.extend(self.compiler.pipeline(&**backend)?.ids().filter(|id| observer.wants(*id)));
        }
        Ok(all)
    }

    /// Quantizes the graph of one target. Graphs after the passes of `shown` are kept.
    pub(super) fn narrow(&self, place: usize, variant: &Variant, shown: &[PassId]) -> Result<Narrowed, Failure> {
        let (float, target) = (&self.floats[place], self.targets[place]);
        let pipeline = self.compiler.pipeline_of(&*self.backends[place], variant)?;
        let mut cx = Context::new(target);
        (cx.source, cx.ranges) = (self.facts, Some(&self.ranges[place]));
        let (mut graph, mut kept) = (float.clone(), Vec::new());
        pipeline.run(Stage::Quantize..=Stage::Quantize, &mut graph, &mut cx, &mut |id, g| {
            if shown.contains(&id) {
                kept.push((id, g.clone()));
            }
            ControlFlow::Continue(())
        })?;
        let known: HashSet<NodeId> = float.order().into_iter().collect();
        cx.values.retain(|(v, _)| known.contains(&v.node));
        if variant.trial.precision == Precision::W4A32 && self.facts.given == Given::Nothing {
            cx.diagnostics.extend(self.wider_weights(&graph, target));
        }
        let Context { values, lost_inputs, decisions, scaled, diagnostics, .. } = cx;
        let quantized = Quantized { graph, values, lost_inputs, decisions, scaled };
        let Variant { dynamic, compensate, smooth, .. } = *variant;
        Ok(Narrowed { place, dynamic, compensate, smooth, quantized, shown: kept, diagnostics })
    }

    pub(super) fn compare(&self, narrowed: &[&Narrowed], reader: &Reader<'_>) -> Result<Vec<Fidelity>, RunError> {
        let compiled = narrowed.iter().map(|n| self.compiled(n));
        let read = |i| reader.read(i);
        let samples = fidelity::Samples { count: reader.samples.len(), read: &read };
        fidelity::compare(&self.joint, self.source, &compiled.collect::<Vec<_>>(), self.hints, &samples)
    }

    /// A quantized graph with its float graph.
    pub(super) fn compiled<'n>(&'n self, narrowed: &'n Narrowed) -> Compiled<'n> {
        Compiled {
            place: narrowed.place,
            float: &self.floats[narrowed.place],
            graph: &narrowed.quantized.graph,
            values: &narrowed.quantized.values,
        }
    }

    /// True if channels of activations may be scaled: where outputs are compared.
    fn smooths(&self, evidence: &Evidence) -> bool {
        let Options { precision, effort, .. } = self.options;
        let compared = evidence.validation.is_some() && *effort != Effort::Fast;
        compared && *precision == Precision::Int8 && self.facts.given == Given::Nothing
    }

    /// True if parts of the model may be kept in higher precision for the quality of its outputs.
    fn repairs(&self) -> bool {
        let Options { precision, effort, .. } = self.options;
        precision.quantizes_activations() && self.facts.given == Given::Nothing && *effort != Effort::Fast
    }

    /// The warning for a target with poor outputs, after trying remedies.
    fn advice(
        &self,
        narrowed: &Narrowed,
        found: &Fidelity,
        quality: &Quality,
        samples: &Samples,
    ) -> Result<Diagnostic, RunError> {
        let precision = self.options.precision;
        let trials = match self.facts.given {
            Given::Nothing => trials(precision, found),
            Given::Weights | Given::Some | Given::All => Vec::new(),
        };
        // A trial that fails is not recommended.
        let Narrowed { place, dynamic, compensate, smooth, .. } = *narrowed;
        let variant = |trial: &Trial| Variant { trial: trial.clone(), dynamic, raised: Vec::new(), compensate, smooth };
        let made =
            trials.into_iter().filter_map(|trial| Some((self.narrow(place, &variant(&trial), &[]).ok()?, trial)));
        let (narrowed, trials): (Vec<Narrowed>, Vec<Trial>) = made.unzip();
        let all: Vec<&Narrowed> = narrowed.iter().collect();
        let found = self.compare(&all, &Reader::new(samples))?.into_iter().zip(&narrowed);
        let qualities = found.map(|(f, n)| Quality::of(f, &n.quantized.graph));
        let tried: Vec<(Trial, Quality)> = trials.into_iter().zip(qualities).collect();
        let data = if samples.synthetic().is_some() { "built-in pictures" } else { "the data" };
        Ok(advice(self.targets[place].name, data, precision, quality, &tried))
    }
}

/// The error for a model that cannot be evaluated.
pub(super) fn failed(e: RunError) -> Failure {
    Diagnostic::error("evaluation", format!("a model fails on a sample: {e}")).into()
}

/// Returns the graphs and their diagnostics.
fn hand_over(
    narrowed: Vec<Narrowed>,
    lowered: &mut [Lowered],
    diagnostics: &mut Vec<Diagnostic>,
    observer: &mut dyn Observer,
) {
    for (l, mut n) in lowered.iter_mut().zip(narrowed) {
        n.shown.iter().for_each(|(id, g)| observer.pass(*id, g));
        (l.graph, l.decisions) = (n.quantized.graph, n.quantized.decisions);
        diagnostics.append(&mut n.diagnostics);
    }
}

/// The first of some names.
pub(super) fn few(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let more = if names.len() > SHOWN { ", .." } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

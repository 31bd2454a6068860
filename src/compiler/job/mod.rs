//! One compilation, stage by stage.

use std::ops::ControlFlow;
use std::sync::Arc;

use qcc_backends::Backend;
use qcc_frontends::{ImportOptions, Imported, Model, RANDOM_INPUT, explain};
use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::ops::Op;
use qcc_ir::{Checked, Elem, Graph, NodeId, OpenExtent};
use qcc_passes::quantize::{dequantize_weights, unmatched};
use qcc_passes::{Context, Given, PassId, Pipeline, Rewrites, SourceFacts, Stage};

use super::calibration::{calibrates, compensates};
use super::narrow::Narrowing;
use super::{Compiled, Compiler, Lowered};
use crate::cost::{Cost, Costs};
use crate::data::{Dataset, Samples};
use crate::digest;
use crate::explain;
use crate::labels;
use crate::observer::{Clock, Observer, flow};
use crate::options::Options;
use crate::outcome::{Artefact, Failure, Output, REPORT_SCHEMA, Report};
use crate::port::Ports;
use crate::precision::Precision;
use crate::quality::{Evidence, Validation, hints, not_compared, verify};
use crate::ranges::StoredRanges;
use crate::sizes::InputSizes;
use crate::statistics::Stored;
use crate::vendor;

mod calibration;
mod data;
mod open;
mod ports;

/// The data of a run.
pub(super) struct Datasets {
    /// The calibration data.
    pub(super) calibration: Option<Dataset>,
    /// The validation data.
    pub(super) validation: Option<Dataset>,
    /// The statistics that replace calibration data.
    pub(super) statistics: Option<Stored>,
    /// Ranges of another tool.
    pub(super) ranges: Option<StoredRanges>,
}

pub(super) struct Job<'a> {
    compiler: &'a Compiler,
    model: &'a Model,
    /// How the model was imported.
    import: ImportOptions,
    /// The model as imported, or after the caller's own passes: the reference of `--verify`.
    reference: Graph,
    source: Graph,
    facts: SourceFacts,
    open: Vec<OpenExtent>,
    rewrites: Rewrites,
    diagnostics: Vec<Diagnostic>,
    clock: Clock,
    observer: &'a mut dyn Observer,
}

impl<'a> Job<'a> {
    /// Imports the model.
    pub(super) fn import(
        compiler: &'a Compiler,
        model: &'a Model,
        clock: Clock,
        observer: &'a mut dyn Observer,
    ) -> Result<Self, Failure> {
        let Options { import, sizes, .. } = &compiler.options;
        let mut options = import.clone();
        if *sizes != InputSizes::default() {
            let shapes = sizes.shapes(&model.inputs()?, model.channels_last());
            options.shapes.extend(shapes?);
        }
        let imported = imported(model, &options, &compiler.options)?;
        Ok(Job::of(compiler, model, (options, imported), clock, observer))
    }

    fn of(
        compiler: &'a Compiler,
        model: &'a Model,
        (import, imported): (ImportOptions, Imported),
        clock: Clock,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let Imported { graph: source, notes, open } = imported;
        let reference = source.clone();
        let given = Given::by(&source);
        let facts = SourceFacts { channels_last: model.channels_last(), given, ..SourceFacts::default() };
        let rewrites = Rewrites::limited(compiler.options.stop_after);
        Job { compiler, model, import, reference, source, facts, open, rewrites, diagnostics: notes, clock, observer }
    }

    /// The model's graph.
    pub(super) fn source(&self) -> &Graph {
        &self.source
    }

    fn options(&self) -> &'a Options {
        &self.compiler.options
    }

    /// Produces the graphs of all targets. If one of them cannot have the open extents of the source, and all of these are
    /// batches, all targets are compiled with a batch of 1, which is opened again where that is possible at the end.
    pub(super) fn run(mut self, datasets: Datasets) -> Result<Compiled, Failure> {
        let is_open = self.source.has_open_inputs();
        match self.run_stages(datasets) {
            Err(Failure::Refused(errors)) if is_open => {
                let options = ImportOptions { fixed: true, ..self.import.clone() };
                let Ok(mut imported) = imported(self.model, &options, self.options()) else {
                    return Err(Failure::Refused(errors.into_iter().map(Self::open_extents).collect()));
                };
                imported.notes.iter_mut().for_each(|note| explain(note, &errors));
                let Job { compiler, model, clock, observer, .. } = self;
                Job::of(compiler, model, (options, imported), clock, observer).run_stages(compiler.datasets()?)
            }
            done => done,
        }
    }

    /// Simplifies the source, and finds what is quantized in it.
    fn prepare(&mut self) -> Result<(), Failure> {
        self.simplify()?;
        self.check_excludes()?;
        ports::check_names(&self.source, &self.options().interface)?;
        ports::check_states(&self.source, &self.options().states)?;
        self.facts.given = Given::by(&self.source);
        if self.facts.given == Given::Weights && self.options().dequantizes_weights() {
            dequantize_weights(&mut self.source);
            self.facts.given = Given::Nothing;
        }
        self.facts.half_weights = has_halves(&self.source);
        self.options().check_ranges(self.facts.given)?;
        self.check_dense()?;
        let unused = match self.options() {
            Options { ranges: Some(_), .. } if self.facts.given.has_activations() => Some("--ranges"),
            Options { statistics: Some(_), .. } if !self.calibrates() => Some("--stats"),
            _ => None,
        };
        if let Some(option) = unused {
            let error = Diagnostic::error("usage", "the model is quantized already: it has ranges of its own");
            return Err(Failure::usage(error.with_help(format!("leave {option} out"))));
        }
        Ok(())
    }

    /// True if quantization parameters or weights depend on the calibration samples.
    fn learns(&self) -> bool {
        self.calibrates() || compensates(self.options().precision, self.facts.given)
    }

    /// True if ranges are calibrated.
    fn calibrates(&self) -> bool {
        calibrates(self.options().precision, self.facts.given)
    }

    /// The warnings and notes so far.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    fn run_stages(&mut self, datasets: Datasets) -> Result<Compiled, Failure> {
        self.prepare()?;
        let evidence = self.evidence(datasets)?;
        let mut lowered = self.lower()?;
        if !self.open.is_empty() {
            self.clock.stage("open batch", self.observer);
            self.choose_open(&mut lowered);
        }
        let validation = self.narrow(&mut lowered, &evidence)?;
        lowered.iter().try_for_each(|l| ports::check_types(&l.graph, &self.options().interface))?;
        let mut report = self.report(&lowered, &evidence, validation);
        let gate = self.options().gate;
        let mut unmet = gate.unmet(report.worst_sqnr(), report.worst_agreement());
        if !gate.is_open() {
            let unknown = not_compared(&self.source);
            unmet.extend(unknown.map(|d| Diagnostic { severity: Severity::Error, code: "gate", ..d }));
        }
        if !unmet.is_empty() {
            count_costs(&mut report, &lowered);
            let (stages, diagnostics) = (std::mem::take(&mut self.clock).stop(), std::mem::take(&mut self.diagnostics));
            return Err(Failure::Gate { report: Box::new(Report { stages, diagnostics, ..report }), unmet });
        }
        self.clock.stage("layout", self.observer);
        self.lay_out(&mut lowered)?;
        count_costs(&mut report, &lowered);
        if self.options().verify {
            self.clock.stage("verify", self.observer);
            self.verify(&lowered, &evidence)?;
        }
        self.report_rewrites();
        let diagnostics = std::mem::take(&mut self.diagnostics);
        Ok(Compiled {
            lowered,
            report: Report { diagnostics, ..report },
            clock: std::mem::take(&mut self.clock),
            details: self.options().has_details(),
            facts: Self::facts(&evidence),
            extents: evidence.extents(&self.source),
            states: self.options().states.clone(),
            open: Vec::new(),
        })
    }

    /// The passes for a backend with these options.
    fn pipeline(&self, backend: &dyn Backend) -> Result<Pipeline, Failure> {
        Ok(self.compiler.pipeline(backend)?)
    }

    /// Runs the passes of a stage on a graph.
    fn run_stage(
        &mut self,
        stage: Stage,
        backend: &dyn Backend,
        g: &mut Graph,
        open: &[OpenExtent],
    ) -> Result<(), Failure> {
        let pipeline = self.pipeline(backend)?;
        let mut cx = Context::new(backend.target());
        (cx.source, cx.open) = (self.facts, open);
        cx.rewrites = std::mem::take(&mut self.rewrites);
        let done = pipeline.run(stage..=stage, g, &mut cx, &mut shown(self.observer));
        self.diagnostics.append(&mut cx.diagnostics);
        self.rewrites = cx.rewrites;
        Ok(done?)
    }

    fn simplify(&mut self) -> Result<(), Failure> {
        self.clock.stage("optimise", self.observer);
        let mut source = std::mem::replace(&mut self.source, Graph::new(""));
        // Simplification is independent of the target.
        self.run_stage(Stage::Simplify, &*self.options().targets[0], &mut source, &[])?;
        if !self.compiler.edits.is_empty() {
            // The caller's passes may change what the model computes: the reference includes them.
            self.reference = source.clone();
        }
        self.source = source;
        Ok(())
    }

    fn lower(&mut self) -> Result<Vec<Lowered>, Failure> {
        let mut lowered = Vec::new();
        // Rewrites are counted for each target.
        let rewrites = self.rewrites.clone();
        for backend in &self.options().targets {
            let mut graph = self.source.clone();
            self.rewrites = rewrites.clone();
            self.run_stage(Stage::Lower, &**backend, &mut graph, &[])?;
            lowered.push(Lowered {
                backend: Arc::clone(backend),
                before: self.options().has_details().then(|| Cost::of(&graph, backend.target())),
                graph,
                quality: None,
                decisions: Vec::new(),
                open: Vec::new(),
                closed: None,
            });
        }
        // Otherwise an error would come after calibration.
        if self.source.is_open() {
            let lacking = |l: &Lowered| Checked::lacks(&l.graph, l.backend.target());
            let lacking: Vec<Diagnostic> = lowered.iter().flat_map(lacking).collect();
            if !lacking.is_empty() {
                return Err(lacking.into());
            }
        }
        Ok(lowered)
    }

    /// Reduces the precision of the graphs if requested, or if the source model is quantized.
    fn narrow(&mut self, lowered: &mut [Lowered], evidence: &Evidence) -> Result<Option<Validation>, Failure> {
        let Options { precision, half_values, .. } = self.options();
        if precision.is_quantized() || *half_values || self.facts.given != Given::Nothing {
            let narrowing = Narrowing::new(self.compiler, &self.source, self.facts, hints(&self.source), lowered)?;
            return narrowing.run(lowered, evidence, &mut self.diagnostics, &mut self.clock, self.observer);
        }
        for l in lowered {
            self.run_stage(Stage::Quantize, &*l.backend, &mut l.graph, &[])?;
        }
        Ok(None)
    }

    fn report(&self, lowered: &[Lowered], evidence: &Evidence, validation: Option<Validation>) -> Report {
        let outputs = self.compiler.outputs(&self.source.name, &Output::Folder("".into()), &self.source);
        let reports = !self.options().reports.is_empty();
        let digest = |samples: Option<&Samples>| {
            digest::of_files(samples.filter(|_| reports)?.files()).map(|digest| digest.to_string())
        };
        let artefact = |(l, output): (&Lowered, _)| {
            let Ports { inputs, outputs, states } = Ports::new(&l.graph, &self.options().states);
            Artefact {
                target: l.backend.target().name,
                output,
                output_bytes: 0,
                inputs,
                outputs,
                states,
                digests: Vec::new(),
                operators: 0,
                matching: None,
                nodes: Vec::new(),
                costs: None,
                quality: l.quality.clone(),
                decisions: explain::by_node(&self.reference, &l.decisions),
            }
        };
        Report {
            schema: REPORT_SCHEMA,
            qcc: env!("CARGO_PKG_VERSION"),
            command: self.options().command.clone(),
            model_digest: None,
            calibration_digest: match evidence.calibration_file().filter(|_| reports) {
                Some(path) => digest::of_file(path).map(|digest| digest.to_string()),
                None => digest(evidence.calibrated()),
            },
            validation_digest: digest(evidence.validation.as_ref().filter(|_| validation.is_some())),
            model: "".into(),
            model_bytes: 0,
            precision: match self.facts.given {
                Given::Nothing => self.options().precision,
                Given::Weights => Precision::W8A32,
                Given::Some | Given::All => Precision::Int8,
            },
            calibration: evidence.describe_calibration(),
            validation,
            artefacts: lowered.iter().zip(outputs).map(artefact).collect(),
            stages: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Chooses layouts, and opens the batches that stay open.
    fn lay_out(&mut self, lowered: &mut [Lowered]) -> Result<(), Failure> {
        for l in &mut *lowered {
            self.run_stage(Stage::Layout, &*l.backend, &mut l.graph, &[])?;
            let closed = (!l.open.is_empty()).then(|| l.graph.clone());
            self.run_stage(Stage::Finish, &*l.backend, &mut l.graph, &l.open)?;
            l.closed = closed.filter(|_| l.graph.is_open());
        }
        let states = &self.options().states;
        lowered.iter().try_for_each(|l| ports::check_state_types(&l.graph, states))?;
        Self::check_open(lowered, states)
    }

    /// Checks that the artefacts compute the same as the model.
    fn verify(&self, lowered: &[Lowered], evidence: &Evidence) -> Result<(), Failure> {
        let imported = &self.reference;
        let given = evidence.validation.as_ref().or(evidence.calibration.as_ref()).cloned();
        let random =
            || Dataset::random(0).limited(1).bind(imported, None).map_err(|e| Failure::from(Diagnostic::from(&e)));
        let samples = given.map_or_else(random, Ok)?;
        let hints = hints(imported);
        for l in lowered {
            let target = l.backend.target();
            let mut model = imported.clone();
            let mut cx = Context::new(target);
            cx.source = self.facts;
            for prepare in vendor::prepare(&*l.backend, self.options().layout.input) {
                prepare.run(&mut model, &mut cx)?;
            }
            let graph = l.with_known_extents();
            verify(&model, graph, target.title(), self.options().precision, hints, &samples)?;
        }
        Ok(())
    }

    fn check_excludes(&self) -> Result<(), Failure> {
        let unmatched = unmatched(&self.source, &self.options().exclude);
        let error = |p: &String| {
            Diagnostic::error("unmatched-exclude", format!("--exclude {p} names no node of the model"))
                .with_help("`qcc inspect` shows the names of nodes; `*` stands for any characters")
        };
        let errors: Vec<Diagnostic> = unmatched.into_iter().map(error).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.into()) }
    }

    /// Fails where scales of dense layers are asked for and the model has none.
    fn check_dense(&self) -> Result<(), Failure> {
        let g = &self.source;
        let dense = |n: NodeId| matches!(g.op(n), Op::MatMul(_)) && g.constant(g.operand(n, 1)).is_some();
        if !self.options().dense_per_tensor || g.order().into_iter().any(dense) {
            return Ok(());
        }
        let error = Diagnostic::error("usage", "--per-tensor dense: the model has no dense layers");
        Err(Failure::usage(error.with_help("leave it out: convolutions have a scale for each output channel")))
    }

    /// Reports that the rewrite limit stopped simplification.
    fn report_rewrites(&mut self) {
        let Some(limit) = self.options().stop_after else { return };
        let Rewrites { count, last, .. } = &self.rewrites;
        let message = format!("{count} rewrites were made, {limit} are allowed");
        let note = Diagnostic::warning("stopped-rewrites", message);
        self.diagnostics.push(match last {
            Some((rule, origin)) => note.with_note(format!("the last is by rule {rule}")).at(origin),
            None => note,
        });
    }
}

/// The model's graph with the names of classes that the options give.
fn imported(model: &Model, import: &ImportOptions, options: &Options) -> Result<Imported, Failure> {
    let mut imported = model.import(import)?;
    if import.random_inputs && imported.notes.iter().all(|note| note.code != RANDOM_INPUT) {
        let unused = Diagnostic::error("usage", "--random: no operator of the model has a random result");
        return Err(Failure::usage(unused.with_help("leave it out")));
    }
    options.labels.iter().try_for_each(|path| labels::replace(&mut imported.graph, path))?;
    Ok(imported)
}

/// Passes graphs to the observer, and its cancellation to the pipeline.
pub(super) fn shown(observer: &mut dyn Observer) -> impl FnMut(PassId, &Graph) -> ControlFlow<()> + '_ {
    |pass, g| {
        if observer.wants(pass) {
            observer.pass(pass, g);
        }
        flow(observer)
    }
}

/// True if weights are float16.
fn has_halves(graph: &Graph) -> bool {
    graph.order().iter().any(|&n| matches!(graph.op(n), Op::Const(c) if c.value.ty().elem == Elem::F16))
}

/// Sets the costs of the artefacts to those of the compiled graphs, with extents that are known, if the costs of the
/// float graphs were counted.
fn count_costs(report: &mut Report, lowered: &[Lowered]) {
    for (artefact, l) in report.artefacts.iter_mut().zip(lowered) {
        let graph = l.with_known_extents();
        let costs = |before| Costs {
            before: Some(before),
            after: Cost::of(graph, l.backend.target()),
            arena_bytes: None,
            extents: Costs::typical(graph),
        };
        artefact.costs = l.before.clone().map(costs);
    }
}

//! One compilation from a model file to an artefact.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use qcc_backends::Backend;
use qcc_frontends::{Imported, Model};
use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::eval::{Peak, RunError};
use qcc_ir::ops::{GridRule, Op};
use qcc_ir::target::OpenBatch;
use qcc_ir::{Elem, Graph, NodeId, OpenExtent, ValueId};
use qcc_passes::calibrate::{Method, Ranges, STATISTICS_BYTES, calibrate};
use qcc_passes::fidelity::{self, Compiled};
use qcc_passes::layout::{self, ImageOrder, layout};
use qcc_passes::lower::lower;
use qcc_passes::open_batch::{open_batch, static_batch};
use qcc_passes::precision::{HalfWeights, half_values};
use qcc_passes::quantize;
use qcc_passes::run_time::as_run;
use qcc_passes::simplify::{simplify, tidy};
use qcc_passes::ultralytics::normalize_boxes;
use qcc_passes::{Context, Joint, Pass, PassError};
use rayon::prelude::*;
use serde::Serialize;

use crate::artefact::{Protected, Publication};
use crate::batch::Pair;
use crate::data::Samples;
use crate::json;
use crate::memory;
use crate::options::{Options, Precision};
use crate::port::Port;
use crate::quality::{self, Quality};
use crate::watch::{Clock, Stage, Watch};

/// Why there is no artefact.
#[derive(Debug)]
pub enum Failure {
    /// The options contradict each other or leave something out.
    Usage(Box<Diagnostic>),
    /// The model or the data are refused, or the artefact cannot be written.
    Refused(Vec<Diagnostic>),
    /// The artefact would be worse than [`Options::min_sqnr`] allows; it is not written.
    Gate(Box<Report>),
}

impl Failure {
    /// A mistake in the options.
    pub fn usage(d: Diagnostic) -> Self {
        Failure::Usage(Box::new(d))
    }
}

impl From<Diagnostic> for Failure {
    fn from(d: Diagnostic) -> Self {
        Failure::Refused(vec![d])
    }
}

impl From<Box<Diagnostic>> for Failure {
    fn from(d: Box<Diagnostic>) -> Self {
        Failure::Refused(vec![*d])
    }
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(all: Vec<Diagnostic>) -> Self {
        Failure::Refused(all)
    }
}

impl From<PassError> for Failure {
    fn from(e: PassError) -> Self {
        Failure::Refused(vec![match e {
            PassError::Refused(d) => *d,
            other => Diagnostic::error("pass", other.to_string()),
        }])
    }
}

/// Where artefacts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The main file of the one artefact.
    File(PathBuf),
    /// A folder, made where there is none; artefacts are named after the model.
    Folder(PathBuf),
}

/// What was written for one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Artefact {
    /// Name of the target.
    pub target: &'static str,
    /// The main file.
    pub output: PathBuf,
    /// Length of all its files in bytes.
    pub output_bytes: u64,
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
    /// Number of operators in it.
    pub operators: usize,
    /// How it compares with the model; after calibration.
    pub quality: Option<Quality>,
}

/// What a compilation did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model file.
    pub model: PathBuf,
    /// Its length in bytes.
    pub model_bytes: u64,
    /// The numbers that artefacts compute with.
    pub precision: Precision,
    /// What ranges were found on.
    pub calibration: Option<String>,
    /// What was written, in the order of the targets.
    pub artefacts: Vec<Artefact>,
    /// How long each stage took, in order.
    pub stages: Vec<Stage>,
    /// What the user should know; no errors.
    #[serde(skip)]
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// The text of the report's file.
    fn json(&self) -> Result<Vec<u8>, Failure> {
        let text = json::pretty(self);
        let text = text.map_err(|e| Diagnostic::error("report", format!("the report cannot be written: {e}")))?;
        Ok(text.into_bytes())
    }

    /// The lowest SQNR of any output of any artefact, in dB.
    pub fn worst_sqnr(&self) -> Option<f64> {
        let qualities = self.artefacts.iter().filter_map(|a| a.quality.as_ref());
        qualities.flat_map(|q| &q.outputs).map(|o| o.sqnr).reduce(f64::min)
    }
}

/// A graph on its way to a target.
struct Lowered {
    backend: Backend,
    graph: Graph,
    quality: Option<Quality>,
    /// The extents of inputs that are opened again at the end.
    open: Vec<OpenExtent>,
    /// What it was before they were opened.
    closed: Option<Graph>,
}

/// Compiles models.
#[derive(Debug)]
pub struct Compiler {
    options: Options,
    passes: Vec<Box<dyn Pass>>,
}

impl Compiler {
    /// A compiler for one kind of artefact.
    pub fn new(options: Options) -> Self {
        Compiler { options, passes: Vec::new() }
    }

    /// Adds a pass of the caller's own. It runs on the simplified float graph, before lowering and calibration.
    pub fn add_pass(&mut self, pass: impl Pass + 'static) {
        self.passes.push(Box::new(pass));
    }

    /// Compiles the model at `model`. Each artefact appears whole or not at all, and none appears before all are made.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn compile(&self, model: &Path, output: &Output, watch: &mut dyn Watch) -> Result<Report, Failure> {
        self.options.check(output)?;
        let mut clock = Clock::default();
        clock.stage("import", watch);
        let file = Model::open(model)?;
        let Imported { graph: mut source, notes, open } = file.import(&self.options.import)?;
        check_float(&source)?;
        let mut protected = Protected::default();
        protected.add("the model", [model.into()]);
        protected.add("a file with weights of the model", file.files());
        let samples = self.samples(&source, &mut protected)?;
        let outputs = self.outputs(model, output, &source);
        let mut publication = self.begin(&outputs, output, &source, protected)?;
        let mut diagnostics = notes;

        clock.stage("optimise", watch);
        // Simplification asks nothing of the target.
        let mut cx = Context { target: self.options.targets[0].target(), diagnostics: Vec::new() };
        run(&simplify(), &mut source, &mut cx, watch)?;
        run(&self.passes, &mut source, &mut cx, watch)?;
        diagnostics.append(&mut cx.diagnostics);
        self.check_excludes(&source)?;
        let given = quantize::is_quantized(&source);
        self.options.check_ranges(given)?;
        let mut lowered = Vec::new();
        for &backend in &self.options.targets {
            let mut graph = source.clone();
            let mut cx = Context { target: backend.target(), diagnostics: Vec::new() };
            run(&self.lowering(backend, file.channels_last()), &mut graph, &mut cx, watch)?;
            diagnostics.append(&mut cx.diagnostics);
            lowered.push(Lowered { backend, graph, quality: None, open: Vec::new(), closed: None });
        }
        if !open.is_empty() {
            clock.stage("open batch", watch);
            self.open(&file, &open, &source, &mut lowered, &mut diagnostics);
        }
        if self.options.precision.is_quantized() || self.options.half_values || given {
            self.narrow(&source, &mut lowered, samples.as_ref(), &mut diagnostics, &mut clock, watch)?;
        }
        let artefact = |(l, output): (&Lowered, &PathBuf)| Artefact {
            target: l.backend.target().name,
            output: output.clone(),
            output_bytes: 0,
            inputs: Port::inputs(&l.graph),
            outputs: Port::outputs(&l.graph),
            operators: 0,
            quality: l.quality.clone(),
        };
        let mut report = Report {
            model: model.into(),
            model_bytes: std::fs::metadata(model).map_or(0, |m| m.len()),
            precision: if given { Precision::Int8 } else { self.options.precision },
            calibration: samples.as_ref().map(Samples::to_string),
            artefacts: lowered.iter().zip(&outputs).map(artefact).collect(),
            stages: Vec::new(),
            diagnostics: Vec::new(),
        };
        if self.options.min_sqnr.is_some_and(|least| report.worst_sqnr().is_none_or(|worst| worst < least)) {
            (report.stages, report.diagnostics) = (clock.stop(), diagnostics);
            publication.write_report(&report.json()?)?;
            publication.publish_report()?;
            return Err(Failure::Gate(Box::new(report)));
        }

        clock.stage("layout", watch);
        self.lay_out(&file, &source, &mut lowered, &mut diagnostics, watch)?;
        clock.stage("write", watch);
        self.write(&lowered, &mut publication, &mut report.artefacts, &mut diagnostics)?;
        (report.stages, report.diagnostics) = (clock.stop(), diagnostics);
        publication.write_report(&report.json()?)?;
        publication.publish()?;
        Ok(report)
    }

    /// Lays out what is to be written, and opens the batches that stay open.
    fn lay_out(
        &self,
        file: &Model,
        source: &Graph,
        lowered: &mut [Lowered],
        diagnostics: &mut Vec<Diagnostic>,
        watch: &mut dyn Watch,
    ) -> Result<(), Failure> {
        for l in lowered {
            let mut cx = Context { target: l.backend.target(), diagnostics: Vec::new() };
            // Kernels for narrow weights take no bias of 16 bits.
            let float = self.options.precision == Precision::Float32 && !quantize::is_quantized(source);
            let halves = float && !cx.target.half_graphs && has_halves(source);
            run(&self.finish(file.channels_last(), halves), &mut l.graph, &mut cx, watch)?;
            diagnostics.append(&mut cx.diagnostics);
            if l.open.is_empty() {
                continue;
            }
            match open_batch(&l.graph, l.backend.target(), &l.open) {
                Ok(opened) => {
                    watch.pass(OPEN_BATCH, &opened);
                    l.closed = Some(std::mem::replace(&mut l.graph, opened));
                }
                Err(note) => diagnostics.push(*note),
            }
        }
        Ok(())
    }

    /// Begins all files, so that what cannot be written is told before the work.
    fn begin(
        &self,
        outputs: &[PathBuf],
        output: &Output,
        source: &Graph,
        protected: Protected,
    ) -> Result<Publication, Failure> {
        let mut publication = Publication::new(protected);
        for (backend, path) in self.options.targets.iter().zip(outputs) {
            if let (Output::Folder(_), Some(folder)) = (output, path.parent()) {
                publication.folder(folder)?;
            }
            publication.artefact(path, &backend.beside(path, self.options.form, &source.metadata))?;
        }
        self.options.report.iter().try_for_each(|path| publication.report(path))?;
        Ok(publication)
    }

    /// Writes the files of all artefacts, none of which has its name yet.
    fn write(
        &self,
        lowered: &[Lowered],
        publication: &mut Publication,
        artefacts: &mut [Artefact],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Result<(), Failure> {
        for (i, (l, artefact)) in lowered.iter().zip(artefacts).enumerate() {
            let mut files = publication.staged(i);
            let mut graph = &l.graph;
            let mut written = l.backend.write(graph, self.options.form, &mut files);
            if let (Err(why), Some(closed)) = (&written, &l.closed) {
                let why = why.first().map_or_else(String::new, |d| d.message.clone());
                diagnostics.push(static_batch(why));
                files.restart()?;
                graph = closed;
                written = l.backend.write(graph, self.options.form, &mut files);
            }
            let summary = written?;
            (artefact.output_bytes, artefact.operators) = (summary.bytes, summary.operators);
            (artefact.inputs, artefact.outputs) = (Port::inputs(graph), Port::outputs(graph));
        }
        Ok(())
    }

    /// Decides whose batches are open at the end: of targets that run such graphs well, where the lowered graph means
    /// for two at once what the source means.
    fn open(
        &self,
        file: &Model,
        open: &[OpenExtent],
        source: &Graph,
        lowered: &mut [Lowered],
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let integers = self.options.precision == Precision::Int8 || quantize::is_quantized(source);
        let mut pair = None;
        for l in &mut *lowered {
            let target = l.backend.target();
            let checked = match target.open_batch {
                OpenBatch::Never => continue,
                OpenBatch::Real if integers => {
                    Err(Box::new(static_batch(format!("integer models for {} have fixed extents", target.name))))
                }
                OpenBatch::Real | OpenBatch::All => pair
                    .get_or_insert_with(|| Pair::import(file, &self.options.import, open, source))
                    .as_ref()
                    .map_err(Clone::clone)
                    .and_then(|pair| pair.check(&l.graph, target, open)),
            };
            match checked {
                Ok(()) => l.open = open.to_vec(),
                Err(note) => diagnostics.push(*note),
            }
        }
        if lowered.iter().all(|l| !l.open.is_empty()) {
            diagnostics.retain(|d| d.code != "open-shape");
        }
    }

    /// The main file of each artefact.
    fn outputs(&self, model: &Path, output: &Output, graph: &Graph) -> Vec<PathBuf> {
        let stem = model.file_stem().unwrap_or_default().to_string_lossy();
        let named = |b: &Backend| b.file_name(&stem, self.options.precision.suffix(), &graph.metadata);
        match output {
            Output::File(path) => vec![path.clone()],
            Output::Folder(folder) => self.options.targets.iter().map(|b| folder.join(named(b))).collect(),
        }
    }

    /// Names of the passes, in the order they first run.
    pub fn pass_names(&self) -> Vec<&'static str> {
        let named = |passes: &[Box<dyn Pass>]| passes.iter().map(|p| p.name()).collect::<Vec<_>>();
        let narrow = match self.options.precision {
            Precision::Float32 => None,
            Precision::Float16 => self.options.half_values.then_some("half-values"),
            Precision::Int8 | Precision::W8A32 | Precision::W4A32 => Some("quantize"),
        };
        let lowering = self.options.targets.iter().flat_map(|&b| named(&self.lowering(b, false))).collect();
        let before = [named(&simplify()), named(&self.passes), lowering].concat();
        let mut names: Vec<&'static str> = Vec::new();
        for name in before
            .into_iter()
            .chain(narrow)
            .chain(["absorb"])
            .chain(named(&self.finish(false, true)))
            .chain([OPEN_BATCH])
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn samples(&self, graph: &Graph, protected: &mut Protected) -> Result<Option<Samples>, Failure> {
        let Some(calibration) = &self.options.calibration else { return Ok(None) };
        let dataset = calibration.data.open(calibration.samples).map_err(|e| Diagnostic::from(&e))?;
        protected.add("a file of the data", dataset.files());
        let preprocess = calibration.preparation.resolve(&graph.metadata);
        Ok(Some(dataset.bind(graph, preprocess).map_err(|e| Diagnostic::from(&e))?))
    }

    fn check_excludes(&self, graph: &Graph) -> Result<(), Failure> {
        let unmatched = quantize::unmatched(graph, &self.options.exclude);
        let error = |p: &String| {
            Diagnostic::error("unmatched-exclude", format!("--exclude {p} names no node of the model"))
                .with_help("`qcc inspect` shows the names of nodes; `*` stands for any characters")
        };
        let errors: Vec<Diagnostic> = unmatched.into_iter().map(error).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors.into()) }
    }

    /// Puts the lowered graphs on grids, their own where they come quantized, or in half precision, and compares them
    /// with what they were.
    fn narrow(
        &self,
        source: &Graph,
        lowered: &mut [Lowered],
        samples: Option<&Samples>,
        diagnostics: &mut Vec<Diagnostic>,
        clock: &mut Clock,
        watch: &mut dyn Watch,
    ) -> Result<(), Failure> {
        let given = quantize::is_quantized(source);
        let activations = !matches!(self.options.precision, Precision::W8A32 | Precision::W4A32) && !given;
        let floats: Vec<Graph> = lowered.iter().map(|l| l.graph.clone()).collect();
        let floats: Vec<&Graph> = floats.iter().collect();
        // Also for one target: what is written for it must not depend on the others.
        let mut joint = Joint::new(source, &floats).map_err(PassError::from)?;
        if samples.is_some() {
            limit_evaluations(&mut joint)?;
        }
        let ranges = match samples {
            Some(samples) if activations => {
                clock.stage("calibrate", watch);
                self.ranges(&joint, &floats, samples, diagnostics, watch)?
            }
            _ => vec![Ranges::default(); floats.len()],
        };
        clock.stage("quantize", watch);
        let options = quantize::Options {
            activations,
            weights: match self.options.precision {
                Precision::W4A32 => quantize::Weights::Blocks(self.options.block),
                _ => quantize::Weights::Channels,
            },
            interface: self.options.interface,
            exclude: self.options.exclude.clone(),
        };
        let (precision, interface) = (self.options.precision, self.options.interface);
        let narrow = |(i, l): (usize, &Lowered)| -> Result<_, PassError> {
            let mut cx = Context { target: l.backend.target(), diagnostics: Vec::new() };
            let float = floats[i];
            let (name, narrow) = match precision {
                _ if given => ("absorb", quantize::absorb(float, &mut cx, interface)?),
                Precision::Float16 => ("half-values", half_values(float, cx.target, &ranges[i], interface)?),
                _ => ("quantize", quantize::quantize(float, cx.target, &ranges[i], &options)?),
            };
            Ok((name, narrow, cx.diagnostics))
        };
        let narrowed = lowered.par_iter().enumerate().map(narrow).collect::<Result<Vec<_>, _>>()?;
        let mut pairs = Vec::new();
        for (l, (name, narrow, said)) in lowered.iter_mut().zip(narrowed) {
            watch.pass(name, &narrow.graph);
            l.graph = narrow.graph;
            pairs.push(narrow.values);
            diagnostics.extend(said);
        }
        if let Some(samples) = samples {
            clock.stage("compare", watch);
            let compared = compare(&joint, &floats, lowered, &pairs, samples, diagnostics);
            compared.map_err(|e| Diagnostic::error("evaluation", format!("a model fails on a sample: {e}")))?;
        }
        Ok(())
    }

    fn ranges(
        &self,
        joint: &Joint,
        graphs: &[&Graph],
        samples: &Samples,
        diagnostics: &mut Vec<Diagnostic>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Ranges>, Failure> {
        if samples.is_random() {
            let d = Diagnostic::warning("random-data", "ranges are found on random numbers: they fit no real input");
            diagnostics.push(d.with_help("give real inputs: --data"));
        }
        // By number, so that what is said does not depend on the order of threads.
        let unread = Mutex::new(BTreeMap::new());
        let read = |i| match samples.get(i) {
            Ok(tensors) => Some(tensors),
            Err(e) => {
                let warning = Diagnostic { severity: Severity::Warning, ..Diagnostic::from(&e) };
                unread.lock().unwrap_or_else(PoisonError::into_inner).insert(i, warning);
                None
            }
        };
        let method = match (&self.options.calibration, self.options.precision) {
            (Some(calibration), Precision::Int8) => calibration.method,
            // No grid asks for a range.
            _ => Method::MinMax,
        };
        let mut done = |done| watch.samples(done, samples.len());
        let ranges = calibrate(joint, graphs, method, samples.len(), read, &mut done)
            .map_err(|e| Diagnostic::error("calibration", format!("the model fails on a sample: {e}")))?;
        let unread = unread.into_inner().unwrap_or_else(PoisonError::into_inner).into_values();
        if ranges.iter().all(|r| r.samples == 0) {
            let error = Diagnostic::error("no-samples", format!("none of {} samples can be read", samples.len()));
            return Err(unread.take(NAMED).fold(error, |error, d| error.with_note(d.message)).into());
        }
        diagnostics.extend(unread);
        Ok(ranges)
    }

    /// Passes between simplification and calibration.
    fn lowering(&self, backend: Backend, channels_last: bool) -> Vec<Box<dyn Pass>> {
        let mut passes = match backend {
            // What was read with channels last has been through this.
            Backend::Tflite if !channels_last => vec![normalize_boxes(self.options.layout.input)],
            Backend::Tflite | Backend::Onnx | Backend::Openvino => Vec::new(),
        };
        passes.extend(lower(self.options.precision.is_quantized()));
        passes.extend(tidy());
        passes
    }

    /// Passes behind quantization. `halves` says that weights which came in 16 bits were widened.
    fn finish(&self, channels_last: bool, halves: bool) -> Vec<Box<dyn Pass>> {
        // Images that were read with channels last stay as they are.
        let as_read = layout::Interface { input: ImageOrder::Nchw, output: ImageOrder::Nchw };
        let mut passes = vec![layout(if channels_last { as_read } else { self.options.layout })];
        passes.extend(tidy());
        // Last: folding would widen the weights again.
        if self.options.precision == Precision::Float16 && !self.options.half_values {
            passes.push(Box::new(HalfWeights { exact: false }));
        } else if halves {
            passes.push(Box::new(HalfWeights { exact: true }));
        }
        passes
    }
}

/// Fails where the graphs are too large to be evaluated, else has as many samples evaluated at a time as there is room
/// for. To compare a graph with what it was takes its outputs besides, and a quarter for values in 8 bits.
fn limit_evaluations(joint: &mut Joint) -> Result<(), Failure> {
    let Some(peak) = joint.peak() else { return Ok(()) };
    let graph = joint.graph();
    let outputs = graph.outputs().iter().filter_map(|o| graph.ty(o.value).bytes()).map(|n| n as u64).sum::<u64>();
    let remembered = joint.values() as u64 * STATISTICS_BYTES;
    let one = Peak { bytes: peak.bytes.saturating_add(peak.bytes / 4 + outputs).saturating_add(remembered), ..peak };
    joint.at_once = memory::evaluations(graph, one, remembered)?.min(rayon::current_num_threads());
    Ok(())
}

/// Measures how narrowed graphs compare with the float ones, and says where that is bad. `pairs` are values of the two.
fn compare(
    joint: &Joint,
    floats: &[&Graph],
    lowered: &mut [Lowered],
    pairs: &[Vec<(ValueId, ValueId)>],
    samples: &Samples,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<(), RunError> {
    let readable = quality::readable(samples, floats.len());
    let graphs: Vec<Graph> = lowered.iter().map(|l| as_run(&l.graph, l.backend.target())).collect();
    let triples = graphs.iter().zip(floats).zip(pairs);
    let compiled: Vec<_> = triples.map(|((graph, float), values)| Compiled { float, graph, values }).collect();
    let found = fidelity::compare(joint, &compiled, &readable)?;
    for ((l, found), float) in lowered.iter_mut().zip(found).zip(floats) {
        let quality = quality::measured(found, &l.graph, l.backend.target());
        diagnostics.extend(quality::warning(&quality, float, l.backend.target()));
        l.quality = Some(quality);
    }
    Ok(())
}

/// True where weights are 16-bit floats.
fn has_halves(graph: &Graph) -> bool {
    graph.order().iter().any(|&n| matches!(graph.op(n), Op::Const(c) if c.value.ty().elem == Elem::F16))
}

/// Fails where a model computes with integers: those have been through a quantization that is not this one.
fn check_float(graph: &Graph) -> Result<(), Failure> {
    let computes = |&n: &NodeId| {
        let ruled = matches!(
            graph.op(n).grid(),
            GridRule::Contract { .. } | GridRule::Own | GridRule::Fixed { .. } | GridRule::Unify
        );
        ruled && graph.operand_types(n).first().is_some_and(|t| t.elem.grid().is_some())
    };
    match graph.order().iter().find(|n| computes(n)) {
        None => Ok(()),
        Some(&n) => {
            let error =
                Diagnostic::error("quantized-model", "the model computes with integers; qcc compiles float models");
            let error =
                error.with_help("give the model that it was made from; inspect and compare take quantized ones");
            Err(error.at(graph.origin(n)).into())
        }
    }
}

/// What `--print-after` calls the last change.
const OPEN_BATCH: &str = "open-batch";

/// Samples named where none can be read.
const NAMED: usize = 3;

fn run(
    passes: &[Box<dyn Pass>],
    graph: &mut Graph,
    cx: &mut Context<'_>,
    watch: &mut dyn Watch,
) -> Result<(), PassError> {
    qcc_passes::run(passes, graph, cx, &mut |name, g| watch.pass(name, g))
}

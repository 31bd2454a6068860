//! The compiler: from models in files or in memory to artefacts in files or in memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qcc_backends::{Backend, Files, State, Summary, unwritten};
use qcc_frontends::{Model, OPEN_SHAPE};
use qcc_ir::Checked;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Graph, Symbols};
use qcc_passes::decisions::Decision;
use qcc_passes::open_batch::static_batch;
use qcc_passes::{Pass, Pipeline, Stage, UnknownPass};

use crate::artefact::{Protected, Publication};
use crate::cost::Cost;
use crate::data::Dataset;
use crate::details;
use crate::digest;
use crate::observer::{Clock, Observer};
use crate::options::{Calibration, Data, Options};
use crate::outcome::{Failure, Output, Report};
use crate::placement::placement;
use crate::port::Ports;
use crate::quality::Quality;
use crate::ranges::{self, StoredRanges};
use crate::reports;
use crate::statistics::{StatisticsFile, Stored};
use crate::vendor;

mod biases;
mod calibration;
mod job;
mod narrow;
mod pipeline;
mod repair;
mod variants;

use job::{Datasets, Job};

/// A modification of a pipeline.
type Edit = dyn Fn(&mut Pipeline) -> Result<(), UnknownPass> + Send + Sync;

/// Compiles models.
///
/// ```
/// use qcc::frontends::Model;
/// use qcc::ir::{Graph, TensorType, ops::{Unary, UnaryFn}};
/// use qcc::{Compiler, NoObserver, Options};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut graph = Graph::new("tanh");
/// let x = graph.add_input("x", TensorType::f32(&[1, 4]));
/// let y = graph.add1(Unary { f: UnaryFn::Tanh }, &[x], qcc::ir::Origin::none())?;
/// graph.add_output("y", y);
/// let mut compiled = Compiler::new(Options::default()).compile_model(&Model::from(graph), &mut NoObserver)?;
/// let mut files = qcc::backends::Memory::new("tanh.tflite");
/// compiled.write(0, &mut files)?;
/// assert_eq!(&files.files["tanh.tflite"][4..8], b"TFL3");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Compiler {
    options: Options,
    edits: Vec<Arc<Edit>>,
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiler").field("options", &self.options).field("edits", &self.edits.len()).finish()
    }
}

/// A graph lowered for a target.
#[derive(Debug)]
struct Lowered {
    backend: Arc<dyn Backend>,
    graph: Graph,
    /// The cost of the float graph, with [`Options::has_details`].
    before: Option<Cost>,
    quality: Option<Quality>,
    /// How its nodes are computed, once it is quantized.
    decisions: Vec<Decision>,
    /// The extents of inputs that are opened at the end.
    open: Vec<qcc_ir::OpenExtent>,
    /// The graph before they were opened.
    closed: Option<Graph>,
}

impl Lowered {
    /// The graph whose extents are all known.
    fn with_known_extents(&self) -> &Graph {
        self.closed.as_ref().unwrap_or(&self.graph)
    }
}

impl Compiler {
    /// A compiler with these options.
    pub fn new(options: Options) -> Self {
        Compiler { options, edits: Vec::new() }
    }

    /// Appends a pass to a stage. With several targets a pass of [`Stage::Simplify`] runs once, others once per target.
    pub fn add_pass(&mut self, stage: Stage, pass: impl Pass + 'static) {
        let pass: Arc<dyn Pass> = Arc::new(pass);
        self.edit(move |pipeline| {
            pipeline.push_shared(stage, Arc::clone(&pass));
            Ok(())
        });
    }

    /// Modifies the pipelines. The modification is applied to each pipeline that is run: those of all targets, and
    /// those of variants that the compiler compares.
    pub fn edit(&mut self, change: impl Fn(&mut Pipeline) -> Result<(), UnknownPass> + Send + Sync + 'static) {
        self.edits.push(Arc::new(change));
    }

    /// The passes for a target, in execution order.
    ///
    /// # Errors
    /// If a modification names an unknown pass.
    pub fn pipeline(&self, backend: &dyn Backend) -> Result<Pipeline, UnknownPass> {
        self.pipeline_of(backend, &pipeline::Variant::asked(&self.options))
    }

    /// The passes for each of [`Options::targets`].
    ///
    /// # Errors
    /// If a modification names an unknown pass.
    pub fn pipelines(&self) -> Result<Vec<Pipeline>, UnknownPass> {
        self.options.targets.iter().map(|backend| self.pipeline(&**backend)).collect()
    }

    /// Compiles the model file at `model`. Artefacts become visible complete, and only when all of them are complete.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn compile(&self, model: &Path, output: &Output, observer: &mut dyn Observer) -> Result<Report, Failure> {
        self.options.check()?;
        self.options.check_output(output)?;
        let mut clock = Clock::default();
        clock.stage("import", observer);
        let file = Model::open(model)?;
        let job = Job::import(self, &file, clock, observer)?;
        let datasets = self.datasets()?;
        let mut protected = datasets.protected(model, &file);
        protected.add("the file of labels", self.options.labels.clone());
        let stem = model_name(model);
        let outputs = self.outputs(&stem, output, job.source());
        // All files are begun before the work, so that unwritable paths are reported early.
        let mut publication = self.begin(&outputs, output, job.source(), protected)?;
        let length = digest::length(model, &file);
        let reports = !self.options.reports.is_empty();
        let digest = reports.then(|| digest::of_file(model)).flatten().map(|digest| digest.to_string());
        let named = |report: &mut Report| {
            report.name_files(model, length, &outputs);
            if let Some(name) = &self.options.model_name {
                report.model.clone_from(name);
            }
            report.model_digest.clone_from(&digest);
        };
        let mut compiled = match job.run(datasets) {
            Err(Failure::Gate { mut report, unmet }) => {
                named(&mut report);
                let unmet = unmet.into_iter().map(|d| d.with_note("nothing was written")).collect();
                self.write_reports(&report, &mut publication)?;
                publication.publish_reports()?;
                return Err(Failure::Gate { report, unmet });
            }
            other => other?,
        };
        named(&mut compiled.report);
        compiled.clock.stage("write", observer);
        for i in 0..outputs.len() {
            compiled.write(i, &mut publication.staged(i))?;
            compiled.report.artefacts[i].digests = publication.digests(i);
        }
        let report = compiled.finish();
        if observer.cancelled() {
            return Err(Failure::Cancelled);
        }
        self.write_reports(&report, &mut publication)?;
        publication.publish()?;
        Ok(report)
    }

    /// Compiles a model without writing anything: [`Compiled::write`] does. [`Options::reports`] are ignored.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn compile_model(&self, model: &Model, observer: &mut dyn Observer) -> Result<Compiled, Failure> {
        self.options.check()?;
        let mut clock = Clock::default();
        clock.stage("import", observer);
        let job = Job::import(self, model, clock, observer)?;
        job.run(self.datasets()?)
    }

    fn write_reports(&self, report: &Report, publication: &mut Publication) -> Result<(), Failure> {
        self.options.reports.iter().try_for_each(|path| publication.write_report(path, &reports::file(report, path)?))
    }

    /// Begins all files before the work, so that unwritable paths are reported early.
    fn begin(
        &self,
        outputs: &[PathBuf],
        output: &Output,
        source: &Graph,
        protected: Protected,
    ) -> Result<Publication, Failure> {
        let mut publication = Publication::new(protected);
        if !self.options.reports.is_empty() {
            publication.compute_digests();
        }
        for (backend, path) in self.options.targets.iter().zip(outputs) {
            if let (Output::Folder(_), Some(folder)) = (output, path.parent()) {
                publication.folder(folder)?;
            }
            let attachments = vendor::attachments(&**backend, &source.metadata);
            publication.artefact(path, &backend.beside(path, &attachments))?;
        }
        self.options.reports.iter().try_for_each(|path| publication.report(path))?;
        Ok(publication)
    }

    /// The main file of each artefact of a model called `stem`.
    fn outputs(&self, stem: &str, output: &Output, graph: &Graph) -> Vec<PathBuf> {
        let named =
            |b: &Arc<dyn Backend>| vendor::file_name(&**b, stem, self.options.precision.suffix(), &graph.metadata);
        match output {
            Output::File(path) => vec![path.clone()],
            Output::Folder(folder) => self.options.targets.iter().map(|b| folder.join(named(b))).collect(),
        }
    }

    /// Evaluates the model at `model`, lowered for [`Options::targets`], on the samples of [`Options::calibration`], and
    /// writes the statistics of its values to `output` (`x.qstats`), or the ranges that follow from them, for other tools
    /// (docs/ranges.md). All samples are used. Memory does not grow with their number. Ranges may also follow from
    /// [`Options::statistics`]. [`merge()`](crate::merge()) merges statistics.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn calibrate(
        &self,
        model: &Path,
        output: &Path,
        observer: &mut dyn Observer,
    ) -> Result<(Calibrated, Vec<Diagnostic>), Failure> {
        self.options.check()?;
        let kind = ranges::Kind::of(output).map_err(|d| Failure::usage(*d))?;
        if kind.is_none() && self.options.statistics.is_some() {
            let error = Diagnostic::error("usage", "statistics follow from data");
            return Err(Failure::usage(error.with_help("`qcc merge` merges statistics; or name a file of ranges")));
        }
        let mut clock = Clock::default();
        clock.stage("import", observer);
        let file = Model::open(model)?;
        let mut job = Job::import(self, &file, clock, observer)?;
        let datasets = self.datasets()?;
        let protected = datasets.protected(model, &file);
        let mut publication = Publication::new(protected);
        publication.artefact(output, &[])?;
        let done = match kind {
            None => {
                let statistics = job.statistics(datasets, &model_name(model))?;
                publication.write_whole(&statistics.to_bytes().map_err(unwritten)?)?;
                Calibrated::Statistics(Box::new(statistics))
            }
            Some(kind) => {
                let ranges = job.ranges(datasets)?;
                publication.write_whole(&kind.to_bytes(&ranges).map_err(unwritten)?)?;
                Calibrated::Ranges(ranges.len())
            }
        };
        Ok((done, job.into_diagnostics()))
    }

    /// The data of the options.
    fn datasets(&self) -> Result<Datasets, Failure> {
        let open = |data: &Data| data.open().map_err(|e| Failure::from(Diagnostic::from(&e)));
        let calibration = self.options.calibration.as_ref();
        let part = |c: &Calibration| {
            let data = open(&c.data)?;
            let data = c.fraction.into_iter().fold(data, Dataset::share);
            Ok::<_, Failure>(c.samples.into_iter().fold(data, Dataset::limited))
        };
        let data = calibration.map(part).transpose()?;
        let validation = self.options.validation.as_ref().map(open).transpose()?;
        let statistics = self.options.statistics.as_deref().map(Stored::read).transpose();
        let statistics = statistics.map_err(|e| Diagnostic::from(&e))?;
        let ranges = self.options.ranges.as_deref().map(StoredRanges::read).transpose()?;
        Ok(Datasets { calibration: data, validation, statistics, ranges })
    }
}

/// What [`Compiler::calibrate`] wrote.
#[derive(Clone, Debug)]
pub enum Calibrated {
    /// Statistics.
    Statistics(Box<StatisticsFile>),
    /// Ranges of so many tensors.
    Ranges(usize),
}

impl Datasets {
    /// The files that no output may replace: those of the model and of the data.
    fn protected(&self, model: &Path, file: &Model) -> Protected {
        let mut protected = Protected::default();
        protected.add("the model", [model.into()]);
        protected.add("a file with weights of the model", file.files());
        let samples = [&self.calibration, &self.validation];
        samples.into_iter().flatten().for_each(|d| protected.add("a file of the data", d.files()));
        protected.add("the file of statistics", self.statistics.iter().map(|s| s.path.clone()));
        protected.add("the file of ranges", self.ranges.iter().map(|r| r.path.clone()));
        protected
    }
}

/// The name of a model by its file.
fn model_name(model: &Path) -> String {
    model.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A compiled model: one graph for each target, ready to be written.
#[derive(Debug)]
pub struct Compiled {
    lowered: Vec<Lowered>,
    report: Report,
    clock: Clock,
    /// [`Options::has_details`]
    details: bool,
    /// Metadata of the artefacts about how they were made.
    facts: Vec<(String, String)>,
    /// The open extents of the first sample.
    extents: Symbols,
    /// [`Options::states`]
    states: Vec<State>,
    /// Targets that were written with open extents.
    open: Vec<&'static str>,
}

impl Compiled {
    /// The report; sizes are filled in when artefacts are written.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The graph for the target at that index of [`Options::targets`], as it is written.
    pub fn graph(&self, target: usize) -> &Graph {
        &self.lowered[target].graph
    }

    /// Writes the artefact for the target at that index of [`Options::targets`].
    ///
    /// # Errors
    /// If the target cannot represent the graph, or the files cannot be written.
    pub fn write(&mut self, target: usize, files: &mut dyn Files) -> Result<Summary, Failure> {
        let (l, artefact) = (&self.lowered[target], &mut self.report.artefacts[target]);
        let mut graph = &l.graph;
        let mut is_closed = l.closed.is_none();
        let (target, mut attachments) = (l.backend.target(), vendor::attachments(&*l.backend, &graph.metadata));
        attachments.facts.clone_from(&self.facts);
        attachments.extents.clone_from(&self.extents);
        attachments.states.clone_from(&self.states);
        let write = |graph, files: &mut dyn Files| {
            Checked::new(graph, target).and_then(|checked| l.backend.write(checked, &attachments, files))
        };
        let mut written = write(graph, files);
        if let (Err(why), Some(closed)) = (&written, &l.closed) {
            let why = why.first().map_or_else(String::new, |d| d.message.clone());
            self.report.diagnostics.push(static_batch(why));
            files.restart().map_err(unwritten)?;
            (graph, is_closed) = (closed, true);
            written = write(graph, files);
        }
        let advised = |errors: Vec<Diagnostic>| match graph.has_open_inputs() {
            true => errors.into_iter().map(Job::open_extents).collect(),
            false => errors,
        };
        let summary = written.map_err(advised)?;
        let target = l.backend.target();
        let placed = l.backend.device().and_then(|device| placement(device, target, graph, &summary));
        self.report.diagnostics.extend(placed);
        (artefact.output_bytes, artefact.operators) = (summary.bytes, summary.operators);
        let Ports { inputs, outputs, states } = Ports::new(graph, &self.states);
        (artefact.inputs, artefact.outputs, artefact.states) = (inputs, outputs, states);
        if let Some(costs) = &mut artefact.costs {
            costs.arena_bytes = summary.arena_bytes;
        }
        if self.details {
            let layers = artefact.quality.iter().flat_map(|q| &q.layers).map(|l| (l.name.as_str(), l.sqnr)).collect();
            artefact.nodes = details::nodes(graph, target, &l.decisions, &layers, &summary.names);
        }
        self.open.extend((!is_closed).then_some(artefact.target));
        Ok(summary)
    }

    /// The report of all that was written.
    pub fn finish(self) -> Report {
        let Compiled { lowered, mut report, clock, open, .. } = self;
        // The importer's notes on fixed extents stay if the extents are fixed in an artefact.
        if open.len() == lowered.len() {
            report.diagnostics.retain(|d| d.code != OPEN_SHAPE);
        } else if !open.is_empty() {
            let note = format!("open extents stay open for {}", open.join(", "));
            report.diagnostics.iter_mut().filter(|d| d.code == OPEN_SHAPE).for_each(|d| d.notes.push(note.clone()));
        }
        report.stages = clock.stop();
        report
    }
}

//! One compilation from a model file to an artefact.

use std::path::{Path, PathBuf};

use qcc_backends::Backend;
use qcc_frontends::{Imported, Model, OPEN_SHAPE};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::target::OpenBatch;
use qcc_ir::{Checked, Elem, Graph, OpenExtent};
use qcc_passes::layout::{self, ImageOrder, layout};
use qcc_passes::lower::lower;
use qcc_passes::open_batch::{open_batch, static_batch};
use qcc_passes::precision::HalfWeights;
use qcc_passes::quantize;
use qcc_passes::simplify::{simplify, tidy};
use qcc_passes::{Context, Pass, PassError};

use crate::artefact::{Protected, Publication};
use crate::batch::Pair;
use crate::data::{Dataset, Samples};
use crate::options::{Data, Options, Precision};
use crate::port::Port;
use crate::quality::{Evidence, Quality, affordable, hints, verify};
use crate::vendor;
use crate::watch::{Clock, Silent, Watch};

mod narrow;
mod report;

use narrow::{Given, Narrowing, calibrates};
pub use report::{Artefact, Failure, Output, Report};

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
        let datasets = self.datasets(&mut protected)?;
        let outputs = self.outputs(model, output, &source);
        let mut publication = self.begin(&outputs, output, &source, protected)?;
        let mut reference = source.clone();
        let mut diagnostics = notes;

        clock.stage("optimise", watch);
        // Simplification asks nothing of the target.
        let mut cx = Context { target: self.options.targets[0].target_for(self.options.form), diagnostics: Vec::new() };
        run(&simplify(), &mut source, &mut cx, watch)?;
        run(&self.passes, &mut source, &mut cx, watch)?;
        if !self.passes.is_empty() {
            // What the caller's passes mean is theirs to say.
            reference = source.clone();
        }
        diagnostics.append(&mut cx.diagnostics);
        self.check_excludes(&source)?;
        let brought = Given::by(&source);
        let given = brought != Given::Nothing;
        self.options.check_ranges(given)?;
        let evidence = self.evidence(&source, datasets, brought)?;
        let mut lowered = Vec::new();
        for &backend in &self.options.targets {
            let mut graph = source.clone();
            let mut cx = Context { target: backend.target_for(self.options.form), diagnostics: Vec::new() };
            run(&self.lowering(backend, file.channels_last()), &mut graph, &mut cx, watch)?;
            diagnostics.append(&mut cx.diagnostics);
            lowered.push(Lowered { backend, graph, quality: None, open: Vec::new(), closed: None });
        }
        if !open.is_empty() {
            clock.stage("open batch", watch);
            self.open(&file, &open, &source, &mut lowered, &mut diagnostics);
        }
        let mut validation = None;
        if self.options.precision.is_quantized() || self.options.half_values || given {
            let narrowing = Narrowing::new(&self.options, &source, hints(&source), &lowered)?;
            validation = narrowing.run(&mut lowered, &evidence, &mut diagnostics, &mut clock, watch)?;
        }
        let artefact = |(l, output): (&Lowered, &PathBuf)| Artefact {
            target: l.backend.target_for(self.options.form).name,
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
            calibration: evidence.calibration.as_ref().filter(|_| evidence.seen.is_some()).map(|s| s.to_string()),
            validation,
            artefacts: lowered.iter().zip(&outputs).map(artefact).collect(),
            stages: Vec::new(),
            diagnostics: Vec::new(),
        };
        let unmet = self.options.gate.unmet(report.worst_sqnr(), report.worst_agreement());
        if !unmet.is_empty() {
            let unmet = unmet.into_iter().map(|d| d.with_note("nothing was written")).collect();
            (report.stages, report.diagnostics) = (clock.stop(), diagnostics);
            publication.write_report(&report.json()?)?;
            publication.publish_report()?;
            return Err(Failure::Gate { report: Box::new(report), unmet });
        }

        clock.stage("layout", watch);
        self.lay_out(&file, &source, &mut lowered, &mut diagnostics, watch)?;
        if self.options.verify {
            clock.stage("verify", watch);
            self.verify(&reference, &lowered, &evidence)?;
        }
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
            let mut cx = Context { target: l.backend.target_for(self.options.form), diagnostics: Vec::new() };
            // Kernels for narrow weights take no bias of 16 bits.
            let float = self.options.precision == Precision::Float32 && !quantize::is_quantized(source);
            let halves = float && !cx.target.half_graphs && has_halves(source);
            run(&self.finish(file.channels_last(), halves), &mut l.graph, &mut cx, watch)?;
            diagnostics.append(&mut cx.diagnostics);
            if l.open.is_empty() {
                continue;
            }
            match open_batch(&l.graph, l.backend.target_for(self.options.form), &l.open) {
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
            let attachments = vendor::attachments(*backend, &source.metadata);
            publication.artefact(path, &backend.beside(path, self.options.form, &attachments))?;
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
        let mut open = Vec::new();
        for (i, (l, artefact)) in lowered.iter().zip(artefacts).enumerate() {
            let mut files = publication.staged(i);
            let mut graph = &l.graph;
            let mut is_closed = l.closed.is_none();
            let (form, attachments) = (self.options.form, vendor::attachments(l.backend, &graph.metadata));
            let target = l.backend.target_for(form);
            let mut written =
                Checked::new(graph, target).and_then(|g| l.backend.write(g, form, &attachments, &mut files));
            if let (Err(why), Some(closed)) = (&written, &l.closed) {
                let why = why.first().map_or_else(String::new, |d| d.message.clone());
                diagnostics.push(static_batch(why));
                files.restart()?;
                (graph, is_closed) = (closed, true);
                written = Checked::new(graph, target).and_then(|g| l.backend.write(g, form, &attachments, &mut files));
            }
            let summary = written?;
            (artefact.output_bytes, artefact.operators) = (summary.bytes, summary.operators);
            (artefact.inputs, artefact.outputs) = (Port::inputs(graph), Port::outputs(graph));
            open.extend((!is_closed).then_some(artefact.target));
        }
        // What the import says of open extents holds where they are not open in the end.
        if open.len() == lowered.len() {
            diagnostics.retain(|d| d.code != OPEN_SHAPE);
        } else if !open.is_empty() {
            let note = format!("open extents stay open for {}", open.join(", "));
            diagnostics.iter_mut().filter(|d| d.code == OPEN_SHAPE).for_each(|d| d.notes.push(note.clone()));
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
            let target = l.backend.target_for(self.options.form);
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
    }

    /// The main file of each artefact.
    fn outputs(&self, model: &Path, output: &Output, graph: &Graph) -> Vec<PathBuf> {
        let stem = model.file_stem().unwrap_or_default().to_string_lossy();
        let named = |b: &Backend| vendor::file_name(*b, &stem, self.options.precision.suffix(), &graph.metadata);
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

    /// The data that ranges are found on, and those that results are compared on.
    fn datasets(&self, protected: &mut Protected) -> Result<[Option<Dataset>; 2], Failure> {
        let mut open = |data: &Data| {
            let dataset = data.open().map_err(|e| Failure::from(Diagnostic::from(&e)))?;
            protected.add("a file of the data", dataset.files());
            Ok::<_, Failure>(dataset)
        };
        let calibration = self.options.calibration.as_ref().map(|c| {
            let dataset = open(&c.data)?;
            Ok::<_, Failure>(match c.samples {
                Some(n) => dataset.limited(n),
                None => dataset,
            })
        });
        let calibration = calibration.transpose()?;
        Ok([calibration, self.options.validation.as_ref().map(open).transpose()?])
    }

    /// The samples of the data for the inputs of the model.
    fn evidence(&self, graph: &Graph, datasets: [Option<Dataset>; 2], given: Given) -> Result<Evidence, Failure> {
        let bind = |dataset: Dataset| -> Result<Samples, Failure> {
            let preprocess = self.options.preparation.resolve(vendor::preprocess(&graph.metadata));
            Ok(dataset.bind(graph, preprocess).map_err(|e| Diagnostic::from(&e))?)
        };
        let [data, validation] = datasets;
        let (data, validation) = (data.map(bind).transpose()?, validation.map(bind).transpose()?);
        self.options.preparation.check(&[&data, &validation])?;
        Ok(Evidence::new(data, validation, calibrates(self.options.precision, given), affordable(graph)))
    }

    /// Checks that what is to be written means what the model means.
    fn verify(&self, imported: &Graph, lowered: &[Lowered], evidence: &Evidence) -> Result<(), Failure> {
        let given = evidence.validation.as_ref().or(evidence.calibration.as_ref()).cloned();
        let random =
            || Dataset::random(0).limited(1).bind(imported, None).map_err(|e| Failure::from(Diagnostic::from(&e)));
        let samples = given.map_or_else(random, Ok)?;
        let hints = hints(imported);
        for l in lowered {
            let mut model = imported.clone();
            let mut cx = Context { target: l.backend.target_for(self.options.form), diagnostics: Vec::new() };
            run(&self.preparation(l.backend, false), &mut model, &mut cx, &mut Silent)?;
            let graph = l.closed.as_ref().unwrap_or(&l.graph);
            verify(&model, graph, cx.target.name, self.options.precision, hints, &samples)?;
        }
        Ok(())
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

    /// Passes between simplification and calibration.
    fn lowering(&self, backend: Backend, channels_last: bool) -> Vec<Box<dyn Pass>> {
        let mut passes = self.preparation(backend, channels_last);
        passes.extend(lower(self.options.precision.is_quantized()));
        passes.extend(tidy());
        passes
    }

    /// Passes that change what a model gives: its consumers ask for it.
    fn preparation(&self, backend: Backend, channels_last: bool) -> Vec<Box<dyn Pass>> {
        // What was read with channels last has been through this.
        if channels_last { Vec::new() } else { vendor::prepare(backend, self.options.layout.input) }
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

/// True where weights are 16-bit floats.
fn has_halves(graph: &Graph) -> bool {
    graph.order().iter().any(|&n| matches!(graph.op(n), Op::Const(c) if c.value.ty().elem == Elem::F16))
}

/// Fails where a model computes with integers: those have been through a quantization that is not this one.
fn check_float(graph: &Graph) -> Result<(), Failure> {
    match quantize::computes_with_integers(graph) {
        None => Ok(()),
        Some(n) => {
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

fn run(
    passes: &[Box<dyn Pass>],
    graph: &mut Graph,
    cx: &mut Context<'_>,
    watch: &mut dyn Watch,
) -> Result<(), PassError> {
    qcc_passes::run(passes, graph, cx, &mut |name, g| watch.pass(name, g))
}

//! One compilation from a model file to an artefact.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use qcc_backends::{Backend, Form};
use qcc_frontends::{ImportOptions, Imported, Model};
use qcc_ir::Graph;
use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_passes::calibrate::{Method, Ranges, calibrate};
use qcc_passes::layout::{self, ImageOrder, layout};
use qcc_passes::lower::lower;
use qcc_passes::precision::HalfWeights;
use qcc_passes::quantize;
use qcc_passes::simplify::{simplify, tidy};
use qcc_passes::ultralytics::normalize_boxes;
use qcc_passes::{Context, Pass, PassError};
use serde::Serialize;

use crate::artefact::Staged;
use crate::data::{Dataset, Preparation, Samples};
use crate::quality::{self, Quality};

/// What numbers the artefact computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    Float32,
    /// Weights in half precision.
    Float16,
    /// 8-bit weights and activations.
    Int8,
    /// 8-bit weights, activations in single precision.
    W8A32,
}

impl Precision {
    /// True where values lie on grids.
    pub fn is_quantized(self) -> bool {
        matches!(self, Precision::Int8 | Precision::W8A32)
    }

    /// What a file name says of it, after the model's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Precision::Float32 => "",
            Precision::Float16 => "_float16",
            Precision::Int8 => "_int8",
            Precision::W8A32 => "_w8a32",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Float32 => "float32",
            Precision::Float16 => "float16",
            Precision::Int8 => "int8",
            Precision::W8A32 => "w8a32",
        })
    }
}

/// Where calibration data come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// A file or folder that [`Dataset::open`] knows.
    Path(PathBuf),
    /// Random numbers.
    Random,
}

/// How calibration is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The data.
    pub data: Data,
    /// Number of samples at most.
    pub samples: Option<usize>,
    /// What pictures are made into, where the model does not say.
    pub preparation: Preparation,
    /// How ranges are chosen.
    pub method: Method,
}

/// What is wanted of a compilation.
#[derive(Clone, Debug)]
pub struct Options {
    /// The format to write.
    pub backend: Backend,
    /// How it is written.
    pub form: Form,
    /// The numbers to compute with.
    pub precision: Precision,
    /// Shapes and values of inputs.
    pub import: ImportOptions,
    /// The data that ranges are found on; [`Precision::Int8`] needs them.
    pub calibration: Option<Calibration>,
    /// What inputs and outputs hold.
    pub interface: quantize::Interface,
    /// Order of the axes of images at the inputs and outputs.
    pub layout: layout::Interface,
    /// Nodes that stay in floating point, by name; `*` stands for any characters.
    pub exclude: Vec<String>,
    /// The signal to quantization noise ratio that every output must reach, in dB.
    pub min_sqnr: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            backend: Backend::Tflite,
            form: Form::default(),
            precision: Precision::Float32,
            import: ImportOptions::default(),
            calibration: None,
            interface: quantize::Interface::Float,
            layout: layout::Interface { input: ImageOrder::Nhwc, output: ImageOrder::Nhwc },
            exclude: Vec::new(),
            min_sqnr: None,
        }
    }
}

/// Who looks on while a model is compiled.
pub trait Watch {
    /// A stage begins.
    fn stage(&mut self, _name: &'static str) {}
    /// `done` samples of `all` are evaluated.
    fn samples(&mut self, _done: usize, _all: usize) {}
    /// A pass has run.
    fn pass(&mut self, _name: &'static str, _graph: &Graph) {}
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Watch for Silent {}

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

/// How long a stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
}

/// What a compilation did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model file.
    pub model: PathBuf,
    /// Its length in bytes.
    pub model_bytes: u64,
    /// The file written.
    pub output: PathBuf,
    /// Its length in bytes.
    pub output_bytes: u64,
    /// Name of the target.
    pub target: &'static str,
    /// The numbers it computes with.
    pub precision: Precision,
    /// Number of operators in it.
    pub operators: usize,
    /// What ranges were found on.
    pub calibration: Option<String>,
    /// How the artefact compares with the model; after calibration.
    pub quality: Option<Quality>,
    /// How long each stage took, in order.
    pub stages: Vec<Stage>,
    /// What the user should know; no errors.
    #[serde(skip)]
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// The lowest SQNR of any output, in dB.
    pub fn worst_sqnr(&self) -> Option<f64> {
        self.quality.as_ref()?.outputs.iter().map(|o| o.sqnr).reduce(f64::min)
    }
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

    /// Compiles the model at `model` into the file `output`, which appears whole or not at all.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn compile(&self, model: &Path, output: &Path, watch: &mut dyn Watch) -> Result<Report, Failure> {
        self.check_options()?;
        if same_file(model, output) {
            let error = Diagnostic::error("usage", "the output would replace the model");
            return Err(Failure::usage(error.with_help("give another file: -o PATH")));
        }
        let mut clock = Clock::default();
        clock.stage("import", watch);
        let Imported { mut graph, notes } = Model::open(model)?.import(&self.options.import)?;
        let samples = self.samples(&graph)?;
        let mut cx = Context { target: self.options.backend.target(), diagnostics: notes };

        clock.stage("optimise", watch);
        run(&simplify(), &mut graph, &mut cx, watch)?;
        run(&self.passes, &mut graph, &mut cx, watch)?;
        run(&self.lowering(), &mut graph, &mut cx, watch)?;
        self.check_excludes(&graph)?;

        let mut quality = None;
        if let Some(quantized) = self.quantize(&graph, samples.as_ref(), &mut cx, &mut clock, watch)? {
            if let Some(samples) = &samples {
                clock.stage("compare", watch);
                quality = Some(quality::measure(&graph, &quantized.graph, &quantized.values, samples).map_err(|d| *d)?);
            }
            graph = quantized.graph;
        }
        let mut report = Report {
            model: model.into(),
            model_bytes: std::fs::metadata(model).map_or(0, |m| m.len()),
            output: output.into(),
            output_bytes: 0,
            target: cx.target.name,
            precision: self.options.precision,
            operators: 0,
            calibration: samples.as_ref().map(Samples::to_string),
            quality,
            stages: Vec::new(),
            diagnostics: Vec::new(),
        };
        if self.options.min_sqnr.is_some_and(|least| report.worst_sqnr().is_none_or(|worst| worst < least)) {
            (report.stages, report.diagnostics) = (clock.stop(), cx.diagnostics);
            return Err(Failure::Gate(Box::new(report)));
        }

        clock.stage("layout", watch);
        run(&self.finish(), &mut graph, &mut cx, watch)?;
        clock.stage("write", watch);
        let mut files = Staged::new(output)?;
        let summary = self.options.backend.write(&graph, self.options.form, &mut files)?;
        files.publish()?;
        report.output_bytes = summary.bytes;
        report.operators = summary.operators;
        (report.stages, report.diagnostics) = (clock.stop(), cx.diagnostics);
        Ok(report)
    }

    /// Names of the passes, in the order they first run.
    pub fn pass_names(&self) -> Vec<&'static str> {
        let named = |passes: &[Box<dyn Pass>]| passes.iter().map(|p| p.name()).collect::<Vec<_>>();
        let quantize = self.options.precision.is_quantized().then_some("quantize");
        let before = [named(&simplify()), named(&self.passes), named(&self.lowering())].concat();
        let mut names: Vec<&'static str> = Vec::new();
        for name in before.into_iter().chain(quantize).chain(named(&self.finish())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn check_options(&self) -> Result<(), Failure> {
        let o = &self.options;
        let usage =
            |message: &str, help: &str| Err(Failure::usage(Diagnostic::error("usage", message).with_help(help)));
        if o.precision == Precision::Int8 && o.calibration.is_none() {
            return usage("int8 needs data to find the ranges of values on", DATA_HELP);
        }
        if o.min_sqnr.is_some() && (o.calibration.is_none() || !o.precision.is_quantized()) {
            return usage("--min-sqnr compares a quantized model with the float one on data", DATA_HELP);
        }
        if o.calibration.is_some() && !o.precision.is_quantized() {
            return usage("data are used by int8 and w8a32 alone", "leave --data out, or ask for --int8");
        }
        if o.interface != quantize::Interface::Float && o.precision != Precision::Int8 {
            return usage("integer inputs and outputs need an integer model", "add --int8, or leave --io out");
        }
        if !o.exclude.is_empty() && !o.precision.is_quantized() {
            return usage(
                "nothing is quantized that nodes could be excluded from",
                "add --int8, or leave --exclude out",
            );
        }
        Ok(())
    }

    fn samples(&self, graph: &Graph) -> Result<Option<Samples>, Failure> {
        let Some(calibration) = &self.options.calibration else { return Ok(None) };
        let dataset = match &calibration.data {
            Data::Path(path) => Dataset::open(path).map_err(|e| Diagnostic::from(&e))?,
            Data::Random => Dataset::random(0),
        };
        let dataset = match calibration.samples {
            Some(n) => dataset.limited(n),
            None => dataset,
        };
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

    /// The graph on grids, where the precision asks for them.
    fn quantize(
        &self,
        graph: &Graph,
        samples: Option<&Samples>,
        cx: &mut Context<'_>,
        clock: &mut Clock,
        watch: &mut dyn Watch,
    ) -> Result<Option<quantize::Quantized>, Failure> {
        let activations = self.options.precision == Precision::Int8;
        let ranges = match samples {
            Some(samples) if activations => {
                clock.stage("calibrate", watch);
                self.ranges(graph, samples, cx, watch)?
            }
            _ => Ranges::default(),
        };
        if !self.options.precision.is_quantized() {
            return Ok(None);
        }
        clock.stage("quantize", watch);
        let options = quantize::Options {
            activations,
            method: self.options.calibration.as_ref().map_or(Method::MinMax, |c| c.method),
            interface: self.options.interface,
            exclude: self.options.exclude.clone(),
        };
        let quantized = quantize::quantize(graph, cx.target, &ranges, &options)?;
        watch.pass("quantize", &quantized.graph);
        Ok(Some(quantized))
    }

    fn ranges(
        &self,
        graph: &Graph,
        samples: &Samples,
        cx: &mut Context<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Ranges, Failure> {
        if samples.is_random() {
            let d = Diagnostic::warning("random-data", "ranges are found on random numbers: they fit no real input");
            cx.diagnostics.push(d.with_help("give real inputs: --data"));
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
        let ranges = calibrate(graph, samples.len(), read, &mut |done| watch.samples(done, samples.len()))
            .map_err(|e| Diagnostic::error("calibration", format!("the model fails on a sample: {e}")))?;
        let unread = unread.into_inner().unwrap_or_else(PoisonError::into_inner).into_values();
        if ranges.samples == 0 {
            let error = Diagnostic::error("no-samples", format!("none of {} samples can be read", samples.len()));
            return Err(unread.take(NAMED).fold(error, |error, d| error.with_note(d.message)).into());
        }
        cx.diagnostics.extend(unread);
        Ok(ranges)
    }

    /// Passes between simplification and calibration.
    fn lowering(&self) -> Vec<Box<dyn Pass>> {
        let mut passes = match self.options.backend {
            Backend::Tflite => vec![normalize_boxes(self.options.layout.input)],
            Backend::Onnx | Backend::Openvino => Vec::new(),
        };
        passes.extend(lower());
        passes.extend(tidy());
        passes
    }

    /// Passes behind quantization.
    fn finish(&self) -> Vec<Box<dyn Pass>> {
        let mut passes = vec![layout(self.options.layout)];
        passes.extend(tidy());
        if self.options.precision == Precision::Float16 {
            // Last: folding would widen the weights again.
            passes.push(Box::new(HalfWeights));
        }
        passes
    }
}

/// Samples named where none can be read.
const NAMED: usize = 3;

/// How data are given, for whoever forgot.
const DATA_HELP: &str = "--data PATH, where PATH is a dataset .yaml, a folder of pictures, a .txt list of pictures, a \
.npy or a .npz file with one array for each input; --data random tries out a model without data";

fn run(
    passes: &[Box<dyn Pass>],
    graph: &mut Graph,
    cx: &mut Context<'_>,
    watch: &mut dyn Watch,
) -> Result<(), PassError> {
    qcc_passes::run(passes, graph, cx, &mut |name, g| watch.pass(name, g))
}

/// Measures stages.
#[derive(Debug, Default)]
struct Clock {
    stages: Vec<Stage>,
    started: Option<(&'static str, Instant)>,
}

impl Clock {
    /// Ends the stage before and begins another.
    fn stage(&mut self, name: &'static str, watch: &mut dyn Watch) {
        self.end();
        self.started = Some((name, Instant::now()));
        watch.stage(name);
    }

    fn end(&mut self) {
        if let Some((name, start)) = self.started.take() {
            self.stages.push(Stage { name, seconds: start.elapsed().as_secs_f64() });
        }
    }

    fn stop(mut self) -> Vec<Stage> {
        self.end();
        self.stages
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_usage_errors() {
        let data = Calibration {
            data: Data::Random,
            samples: None,
            preparation: Preparation::default(),
            method: Method::MinMax,
        };
        let float = Options::default();
        for options in [
            Options { precision: Precision::Int8, ..float.clone() },
            Options { min_sqnr: Some(20.0), ..float.clone() },
            Options { calibration: Some(data), ..float.clone() },
            Options { interface: quantize::Interface::Grid(qcc_ir::Store::I8), ..float.clone() },
            Options { exclude: vec!["*".into()], ..float.clone() },
        ] {
            assert!(matches!(Compiler::new(options).check_options(), Err(Failure::Usage(_))));
        }
        assert!(Compiler::new(float).check_options().is_ok());
    }
}

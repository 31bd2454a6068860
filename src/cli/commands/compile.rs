//! `qcc MODEL --to TARGET`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backends::tflite::TFLM;
use crate::backends::{Backend, Device, Format, Qir, WriteOptions};
use crate::data::{self, Fit, Preparation, Preprocess};
use crate::ir::StorageType;
use crate::ir::diagnostic::Diagnostic;
use crate::passes::calibrate::Method;
use crate::passes::layout::{ImageOrder, Interface};
use crate::passes::quantize::{self, Interfaces};
use crate::passes::{PassId, Pipeline};
use crate::{
    Budget, Calibration, Compiler, Data, Failure, Gate, InputSizes, Observer, Options, Output, Precision, Report,
};

use crate::cli::args::{
    Block, Calibrator, Color, Compile, DataArgs, Effort, InputLayout, Io, PerTensor, Port, Preset, Quantize, Resize,
    To, import_options, open_shapes,
};
use crate::cli::commands::standard_output::{self, Piped};
use crate::cli::interrupt;
use crate::cli::report::{self, Progress};

/// Share of values that `--calibrator percentile` cuts off at either end.
const PERCENTILE: f64 = 1e-4;

/// A compilation that arguments describe.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Compilation {
    /// The model file.
    pub model: PathBuf,
    /// The options.
    pub options: Options,
    /// Where the artefacts are written.
    pub output: Output,
    /// The passes after which the graph is shown.
    pub print_after: Vec<String>,
}

impl Compilation {
    /// What the arguments describe.
    pub(crate) fn of(args: &Compile, data: &DataArgs) -> Result<Self, Failure> {
        Ok(Compilation {
            model: args.model.clone(),
            options: options(args, data)?,
            output: output(args)?,
            print_after: args.print_after.clone(),
        })
    }

    /// Compiles the model and writes the artefacts. Observers are shown the graph after the passes of
    /// [`Compilation::print_after`] if they want it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn run(self, observer: &mut dyn Observer) -> Result<Report, Failure> {
        let (model, output) = (self.model.clone(), self.output.clone());
        self.compiler()?.compile(&model, &output, observer)
    }

    /// The compiler with the options.
    fn compiler(self) -> Result<Compiler, Failure> {
        let compiler = Compiler::new(self.options);
        check_names(&self.print_after, &compiler)?;
        Ok(compiler)
    }
}

/// Compiles a model and prints the summary. `line` is the command line.
pub(crate) fn compile(args: &Compile, data: &DataArgs, line: &[OsString]) -> u8 {
    let (piped, done) = match Piped::of(args) {
        Ok(piped) => (piped, try_compile(args, data, line, piped)),
        Err(failure) => (None, Err(failure)),
    };
    match done {
        Ok(done) => {
            report::tell(&done.diagnostics, &args.model, args.quiet, args.verbose);
            explain(args, &done);
            if !args.quiet {
                let summary = report::summary(&done, args.verbose);
                let say = if piped.is_some() { report::say_beside } else { report::say };
                say(&summary);
            }
            report::DONE
        }
        Err(failure) => {
            if let Failure::Gate { report, .. } = &failure {
                explain(args, report);
            }
            report::failure(&failure, &args.model, args.quiet)
        }
    }
}

/// Prints how nodes are computed, if requested.
fn explain(args: &Compile, done: &Report) {
    let Some(pattern) = &args.explain else { return };
    match report::explanation(done, pattern) {
        Some(text) => report::say(&text),
        None => {
            let message = format!("--explain {pattern} names no node of the model");
            let help = "`qcc inspect` shows the names of nodes; `*` stands for any characters";
            report::show(&[Diagnostic::warning("unmatched-explain", message).with_help(help)], &args.model);
        }
    }
}

fn try_compile(args: &Compile, data: &DataArgs, line: &[OsString], piped: Option<Piped>) -> Result<Report, Failure> {
    interrupt::leave_nothing();
    interrupt::name_lost_files(&[&args.model]);
    let named = piped.map(|piped| piped.without(args));
    let mut compilation = Compilation::of(named.as_ref().unwrap_or(args), data)?;
    compilation.options.command = (!args.report.is_empty()).then(|| command(line));
    let mut progress = Progress::new(&args.print_after, args.quiet);
    match piped {
        Some(piped) => {
            compilation.options.details = true;
            let output = compilation.output.clone();
            piped.run(&compilation.compiler()?, &args.model, &output, &mut progress)
        }
        None => compilation.run(&mut progress),
    }
}

/// Without this check a misspelt pass name would print nothing.
fn check_names(asked: &[String], compiler: &Compiler) -> Result<(), Failure> {
    let mut known: Vec<PassId> = Vec::new();
    for id in compiler.pipelines()?.iter().flat_map(Pipeline::ids) {
        if !known.contains(&id) {
            known.push(id);
        }
    }
    known.sort_by_key(|id| id.stage);
    let known = known.as_slice();
    match asked.iter().find(|asked| !known.iter().any(|id| id.is(asked))) {
        None => Ok(()),
        Some(odd) => {
            let names: Vec<String> = known.iter().map(PassId::to_string).collect();
            let error = Diagnostic::error("unknown-pass", format!("--print-after {odd} names no pass"));
            Err(Failure::usage(error.with_help(format!("passes: {}", names.join(", ")))))
        }
    }
}

/// The backend of a target with its write options.
pub(super) fn backend(to: To, form: WriteOptions) -> Arc<dyn Backend> {
    match to {
        To::Tflite => Format::Tflite.with(form),
        To::Onnx => Format::Onnx.with(form),
        To::Openvino => Format::Openvino.with(form),
        To::Qir => Arc::new(Qir),
    }
}

/// True where the output is named as C++ sources.
fn writes_sources(args: &Compile) -> bool {
    let extension = args.output.as_ref().and_then(|path| path.extension());
    extension.is_some_and(|extension| extension == "cc" || extension == "h")
}

/// The formats: those of `--to`, else that of the device, else that of the output file's extension.
fn formats(args: &Compile) -> Result<Vec<To>, Failure> {
    let by_name = || match args.output.as_ref()?.extension()?.to_str()? {
        "tflite" | "cc" | "h" => Some(To::Tflite),
        "onnx" => Some(To::Onnx),
        "xml" => Some(To::Openvino),
        "qir" => Some(To::Qir),
        _ => None,
    };
    let implied = || args.device.map(|device| to(device.format)).or_else(by_name);
    let formats = if args.to.is_empty() { Vec::from_iter(implied()) } else { args.to.clone() };
    let other = |device: &&Device| formats.iter().any(|&format| format != to(device.format));
    if let Some(device) = args.device.filter(other) {
        let (name, format) = (device.name, device.format.target().name);
        let error = Diagnostic::error("usage", format!("the device {name} runs {format} models"));
        return Err(Failure::usage(error.with_help(format!("--to {format}, or leave --to out"))));
    }
    if formats.is_empty() {
        let error = Diagnostic::error("usage", "the name of the output does not tell the format");
        return Err(Failure::usage(error.with_help("add --to tflite, onnx or openvino")));
    }
    Ok(formats)
}

pub(super) fn to(format: Format) -> To {
    match format {
        Format::Tflite => To::Tflite,
        Format::Onnx => To::Onnx,
        Format::Openvino => To::Openvino,
    }
}

fn options(args: &Compile, data: &DataArgs) -> Result<Options, Failure> {
    let form = WriteOptions {
        qoperator: args.qoperator,
        external_data: args.external_data,
        opset: args.opset,
        dynamic: args.dynamic,
        sources: writes_sources(args),
        device: args.device.or_else(|| writes_sources(args).then_some(&TFLM)),
    };
    let formats = formats(args)?;
    if form.sources && (formats != [To::Tflite] || form.device != Some(&TFLM)) {
        let error = Diagnostic::error("usage", "C++ sources are for TensorFlow Lite for Microcontrollers");
        return Err(Failure::usage(error.with_help("--to tflite --device tflm, or name a file of another kind")));
    }
    if (form.qoperator || form.external_data || form.opset.is_some()) && !formats.contains(&To::Onnx) {
        let error = Diagnostic::error("usage", "--qoperator, --external-data and --opset are options of ONNX")
            .with_help("add --to onnx");
        return Err(Failure::usage(error));
    }
    if let Some(device) = form.device.filter(|device| device.standard_qdq && form.qoperator) {
        let error = Diagnostic::error("usage", format!("{} has no operators on integers", device.name));
        return Err(Failure::usage(error.with_help("leave --qoperator out")));
    }
    if formats.contains(&To::Qir) && precision(args) != Precision::Float32 {
        let error = Diagnostic::error("usage", "a .qir file holds the graph before it is quantized for a target");
        return Err(Failure::usage(error.with_help("leave the precision out, or name a runtime's format")));
    }
    let targets = formats.iter().map(|&to| backend(to, form));
    let mut options = Options::new(targets, precision(args));
    options.half_values = args.half_values;
    options.float_weights = matches!(args.quantize, Some(Quantize::Float32));
    options.block = match args.block {
        Block::Of16 => 16,
        Block::Of32 => 32,
        Block::Of64 => 64,
        Block::Of128 => 128,
    };
    options.import = import_options(open_shapes(&args.shape), &args.set, args.random);
    options.import.cut.clone_from(&args.cut);
    options.sizes = InputSizes { batch: args.batch, image: args.imgsz.map(|size| size.0) };
    options.dense_per_tensor = matches!(args.per_tensor, Some(PerTensor::Dense));
    options.labels.clone_from(&args.labels);
    let fraction = args.fraction;
    options.calibration = calibration(data).map(|given| Calibration { fraction, ..given });
    options.statistics.clone_from(&args.stats);
    options.ranges.clone_from(&args.ranges);
    options.method = args.calibrator.map(method);
    // `none` is not a path.
    let validate = args.validate.as_deref();
    options.compare = validate != Some(Path::new("none"));
    options.validation = validate.filter(|_| options.compare).map(self::data);
    options.preparation = preparation(data);
    options.interface = interfaces(&args.io)?;
    options.layout = Interface { input: image_order(args.input_layout), output: ImageOrder::Nhwc };
    options.states.clone_from(&args.state);
    options.only_static = args.only_static;
    options.exclude = args.exclude.clone();
    options.reports.clone_from(&args.report);
    options.details = !args.quiet;
    options.gate = Gate { min_sqnr: args.min_sqnr, min_agreement: args.min_agreement, max_drop: args.max_drop };
    options.effort = match args.effort {
        Effort::Fast => crate::Effort::Fast,
        Effort::Normal => crate::Effort::Normal,
        Effort::High => crate::Effort::High,
    };
    options.budget = Budget { latency: args.budget_latency, size: args.budget_size };
    options.pareto = args.pareto;
    options.stop_after = args.stop_after;
    options.verify = args.verify;
    Ok(options)
}

/// The element types of inputs and outputs.
fn interfaces(ports: &[Port]) -> Result<Interfaces, Failure> {
    let mut interfaces = Interfaces::default();
    for (i, port) in ports.iter().enumerate() {
        if ports[..i].iter().any(|before| before.name == port.name) {
            let what = port.name.as_deref().unwrap_or("all inputs and outputs");
            let error = Diagnostic::error("usage", format!("--io gives two types for {what}"));
            return Err(Failure::usage(error.with_help("--io int8, or --io NAME=int8,OTHER=float")));
        }
        let interface = match port.io {
            Io::Float => quantize::Interface::Float,
            Io::Half => quantize::Interface::Half,
            Io::Int8 => quantize::Interface::Quantized(StorageType::I8),
            Io::Int16 => quantize::Interface::Quantized(StorageType::I16),
            Io::Uint8 => quantize::Interface::Quantized(StorageType::U8),
        };
        match &port.name {
            Some(name) => interfaces.named.push((name.clone(), interface)),
            None => interfaces.others = interface,
        }
    }
    Ok(interfaces)
}

/// The axis order of image inputs.
pub(super) fn image_order(layout: InputLayout) -> ImageOrder {
    match layout {
        InputLayout::Nchw => ImageOrder::Nchw,
        InputLayout::Nhwc => ImageOrder::Nhwc,
    }
}

fn precision(args: &Compile) -> Precision {
    match args.quantize {
        Some(quantize) => named(quantize),
        None if args.fp16 => Precision::Float16,
        None if args.int8 => Precision::Int8,
        None if args.w8a16 => Precision::W8A16,
        None if args.w8a32 => Precision::W8A32,
        None => Precision::Float32,
    }
}

/// The precision for its name.
pub(super) fn named(quantize: Quantize) -> Precision {
    match quantize {
        Quantize::Float32 => Precision::Float32,
        Quantize::Float16 => Precision::Float16,
        Quantize::Int8 => Precision::Int8,
        Quantize::W8a16 => Precision::W8A16,
        Quantize::W8a32 => Precision::W8A32,
        Quantize::W4a32 => Precision::W4A32,
    }
}

/// The calibration data, if there are any.
pub(super) fn calibration(given: &DataArgs) -> Option<Calibration> {
    let mut calibration = Calibration::new(data(given.data.as_deref()?));
    calibration.samples = given.samples;
    Some(calibration)
}

/// The method of a calibrator.
pub(super) fn method(calibrator: Calibrator) -> Method {
    match calibrator {
        Calibrator::Minmax => Method::MinMax,
        Calibrator::MovingAverage => Method::MovingAverage,
        Calibrator::Percentile => Method::Percentile(PERCENTILE),
        Calibrator::Mse => Method::Mse,
        Calibrator::Entropy => Method::Entropy,
    }
}

/// The data source for an argument; `random` and `synthetic` are not paths.
pub(super) fn data(path: &Path) -> Data {
    match path.to_str() {
        Some("random") => Data::Random,
        Some("synthetic") => Data::Synthetic,
        _ => Data::Path(path.into()),
    }
}

/// The preprocessing options.
pub(super) fn preparation(args: &DataArgs) -> Preparation {
    Preparation {
        preset: args.preprocess.map(|p| match p {
            Preset::Yolo => Preprocess::YOLO,
            Preset::Imagenet => Preprocess::IMAGENET,
            Preset::None => Preprocess::NONE,
        }),
        color: args.color.map(|c| match c {
            Color::Rgb => data::Color::Rgb,
            Color::Bgr => data::Color::Bgr,
        }),
        fit: args.resize.map(|r| match r {
            Resize::Letterbox => Fit::Letterbox { fill: 114 },
            Resize::Stretch => Fit::Stretch,
            Resize::CenterCrop => Fit::CenterCrop { ratio: 1.0 },
        }),
        scale: args.scale,
        mean: args.mean.map(|c| c.0),
        std: args.std.map(|c| c.0),
    }
}

/// The command line, quoted for a shell.
pub(super) fn command(line: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    let word = |arg: &OsString| match arg.to_string_lossy() {
        arg if !arg.is_empty() && arg.chars().all(plain) => arg.into_owned(),
        arg => format!("'{}'", arg.replace('\'', "'\\''")),
    };
    let arguments = line.iter().skip(1).map(word);
    std::iter::once("qcc".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// The output file, or the folder for files that are named after the model.
fn output(args: &Compile) -> Result<Output, Failure> {
    if args.output.iter().chain(&args.report).any(|path| path.as_os_str() == standard_output::NAME) {
        let error = Diagnostic::error("usage", "`-` names no file: only the command line writes to standard output");
        return Err(Failure::usage(error.with_help("name a file; it appears when it is complete")));
    }
    Ok(match &args.output {
        Some(path) if path.is_dir() || args.to.len() > 1 || path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            Output::Folder(path.clone())
        }
        Some(path) => Output::File(path.clone()),
        None => Output::Folder(PathBuf::new()),
    })
}

//! The command line's arguments.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use crate::backends::Device;
use crate::frontends::GivenShape;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, ArgGroup, Parser, Subcommand, ValueEnum};

use crate::cli::report;

/// Compiles trained neural networks to small, quantized artefacts.
#[derive(Debug, Parser)]
#[command(name = "qcc", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) compile: Option<Compile>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Prints a usage error of a command line, or the help that it asks for. Returns the exit code.
pub(crate) fn refuse(error: &clap::Error, line: &[OsString]) -> u8 {
    // An error of printing cannot be reported.
    let _ = error.print();
    if error.use_stderr() && line.iter().any(|arg| arg == "--explain") {
        report::tip("a pattern of nodes stands behind `=`: --explain=PATTERN");
    }
    if error.use_stderr() { report::USAGE } else { report::DONE }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the contents of a file: TFLite, ONNX, OpenVINO IR, a graph as text (.qir), or PyTorch (.pt2)
    Inspect(Inspect),
    /// Shows the differences between two files of one format; the exit code is 1 if there are any
    Diff(Diff),
    /// Compares the outputs of two models on the same data
    Compare(Box<Compare>),
    /// Reports on an artefact of qcc or of another tool: cost, operators, quantization parameters, and with a source how
    /// far its outputs and layers are from that model
    Report(Box<Report>),
    /// Lists the supported operators of a source format, or those of a device
    Ops(Ops),
    /// Lists the passes of a compilation in execution order
    Passes(Passes),
    /// Runs passes on the graph of a model and prints the graph or writes it as a .qir file
    Opt(Opt),
    /// Evaluates a model on a part of the calibration data and writes statistics (.qstats, docs/qstats.md); `qcc merge`
    /// merges those of all parts, `qcc MODEL --int8 --stats FILE` compiles with them. Or writes ranges for other tools
    /// (docs/ranges.md)
    Calibrate(Box<Calibrate>),
    /// Merges statistics of parts of the calibration data
    Merge(Merge),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Calibrate {
    /// The model file (.onnx, .pt2, OpenVINO .xml, or float .tflite)
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The file to write: statistics (`x.qstats`), or ranges of tensors for ONNX Runtime (`x.json`), AIMET
    /// (`x.encodings`) or TensorRT (`x.cache`)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// For ranges: take them from statistics instead of --data
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub(crate) stats: Option<PathBuf>,
    /// For ranges: how they are chosen [default: mse]
    #[arg(long, value_enum)]
    pub(crate) calibrator: Option<Calibrator>,
    /// Targets that the statistics are for [default: that of --device, else all formats]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) to: Vec<To>,
    /// The device that runs the artefact
    #[arg(long, value_name = "NAME", value_parser = device())]
    pub(crate) device: Option<&'static Device>,
    /// Shape of an input with open dimensions (`images=1,3,640,640`); a name leaves one open (`ids=N,64`)
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<Extent>>,
    /// Replace an input by a constant (`sr=16000`)
    #[arg(long, value_name = "NAME=VALUES")]
    pub(crate) set: Vec<Named<f64>>,
    /// Axis order of image inputs of the artefact
    #[arg(long, value_enum, default_value_t = InputLayout::Nhwc)]
    pub(crate) input_layout: InputLayout,
    /// Errors only, and the warning about calibration on synthetic pictures
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Merge {
    /// Files of statistics of the same model
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The file of the merged statistics
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Leave out statistics of data with this name (as --data of `qcc calibrate` named it); `*` matches any characters
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// Errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ops {
    /// The source format, or the device
    #[arg(default_value = "onnx", value_parser = spelling())]
    pub(crate) of: Spelling,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Passes {
    /// The targets
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tflite")]
    pub(crate) to: Vec<To>,
    /// The precision
    #[arg(long, value_enum, default_value = "32")]
    pub(crate) quantize: Quantize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Opt {
    /// The model file (.qir, .onnx, .pt2, .tflite)
    pub(crate) file: PathBuf,
    /// A pass to run, as listed by `qcc passes`, or `STAGE/*` for all passes of a stage; may be repeated. Default: the
    /// passes of stage `simplify`
    #[arg(long, value_name = "PASS")]
    pub(crate) pass: Vec<String>,
    /// The target that the passes are made for
    #[arg(long, value_enum, default_value = "tflite")]
    pub(crate) to: To,
    /// Maximum number of simplification rewrites
    #[arg(long, value_name = "N")]
    pub(crate) stop_after: Option<usize>,
    /// Shape of an input with open dimensions
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
    /// Show why rules did not apply to nodes, instead of the graph
    #[arg(long)]
    pub(crate) explain: bool,
    /// Write the graph to this .qir file instead of printing it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Source formats with named operators.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spelling {
    Onnx,
    Pt2,
    Tflite,
    Openvino,
    Device(&'static Device),
}

impl Spelling {
    const FORMATS: [(&'static str, Spelling); 4] = [
        ("onnx", Spelling::Onnx),
        ("pt2", Spelling::Pt2),
        ("tflite", Spelling::Tflite),
        ("openvino", Spelling::Openvino),
    ];

    fn named(name: &str) -> Option<Self> {
        let format = Spelling::FORMATS.iter().find(|(format, _)| *format == name).map(|(_, spelling)| *spelling);
        format.or_else(|| Device::named(name).map(Spelling::Device))
    }
}

/// Parses the name of a source format or a device.
fn spelling() -> impl TypedValueParser<Value = Spelling> {
    let names = Spelling::FORMATS.iter().map(|(name, _)| *name).chain(Device::ALL.iter().map(|device| device.name));
    PossibleValuesParser::new(names).try_map(|name| Spelling::named(&name).ok_or("no such format or device"))
}

/// Parses the name of a device.
fn device() -> impl TypedValueParser<Value = &'static Device> {
    let names = Device::ALL.iter().map(|device| PossibleValue::new(device.name).help(device.about));
    PossibleValuesParser::new(names).try_map(|name| Device::named(&name).ok_or("no such device"))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The model file
    pub(crate) file: PathBuf,
    /// Print JSON (docs/inspect.md)
    #[arg(long)]
    pub(crate) json: bool,
    /// Same as `--json` if `json`
    #[arg(long, value_enum, default_value_t = Format::Text, hide = true)]
    pub(crate) format: Format,
    /// Show the graph that qcc imports, instead of the file's own operators
    #[arg(long)]
    pub(crate) graph: bool,
    /// Shape of an input with open dimensions; shows the graph
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The old file
    pub(crate) before: PathBuf,
    /// The new file
    pub(crate) after: PathBuf,
    /// Print the differences as JSON (docs/inspect.md)
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("precision").multiple(false))]
pub(crate) struct Compile {
    /// The model file (.onnx, .pt2, OpenVINO .xml, or float .tflite)
    pub(crate) model: PathBuf,

    /// Target formats, separated by commas: `tflite,onnx,openvino` (`litert` is tflite) [default: that of --device, or
    /// of the name that --output gives]
    #[arg(long, alias = "format", value_enum, value_delimiter = ',', required_unless_present_any = ["device", "output"])]
    pub(crate) to: Vec<To>,

    /// The device that runs the artefact (docs/devices.md): the model is lowered to its operators and element types, and
    /// refused with all rules that it breaks; implies its format
    #[arg(long, value_name = "NAME", value_parser = device())]
    pub(crate) device: Option<&'static Device>,

    /// Output file, or folder for it; `x.cc` or `x.h` writes C++ sources for TensorFlow Lite for Microcontrollers, always
    /// both: the model as an array, and a header with its operators, arena size, inputs and outputs [default: the model's name with the precision, in the current folder]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,

    /// Float16 weights
    #[arg(long, alias = "half", group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) fp16: bool,
    /// 8-bit weights and activations, calibrated on --data; image models without data on synthetic pictures
    #[arg(long, group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) int8: bool,
    /// 8-bit weights, float activations (dynamic range quantization)
    #[arg(long, group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) w8a32: bool,
    /// With 8- or 4-bit weights: quantize the activations of matrix products to 8 bits at run time, which is faster
    /// (TFLite's kernels always do)
    #[arg(long, help_heading = "Precision (float32 otherwise)")]
    pub(crate) dynamic: bool,
    /// With --int8: no dynamic quantization of activations, even where it is more accurate; TensorFlow Lite for
    /// Microcontrollers and many accelerators have no kernels for it
    #[arg(long = "static", help_heading = "Precision (float32 otherwise)")]
    pub(crate) only_static: bool,
    /// The precision by Ultralytics' name
    #[arg(long, group = "precision", value_enum, help_heading = "Precision (float32 otherwise)")]
    pub(crate) quantize: Option<Quantize>,
    /// Block size: number of weights that share a scale, with `--quantize w4a32`
    #[arg(long, value_enum, default_value_t = Block::Of32, help_heading = "Precision (float32 otherwise)")]
    pub(crate) block: Block,

    /// Calibrate on statistics of samples that were evaluated earlier (`qcc calibrate`, `qcc merge`), instead of --data
    #[arg(long, value_name = "FILE", help_heading = "Calibration")]
    pub(crate) stats: Option<PathBuf>,
    /// Ranges of another tool (docs/ranges.md): calibration cache of ONNX Runtime (JSON) or TensorRT, encodings of AIMET;
    /// tensors without one need --data or --stats
    #[arg(long, value_name = "FILE", help_heading = "Calibration")]
    pub(crate) ranges: Option<PathBuf>,
    /// How activation ranges are chosen from the calibration data [default: mse]
    #[arg(long, value_enum, help_heading = "Calibration")]
    pub(crate) calibrator: Option<Calibrator>,
    /// Data for comparing the result with the float model; `none`: no comparison, all of --data calibrates [default: a
    /// quarter of --data, held out of calibration, if there are at least 8 samples]
    #[arg(long, value_name = "PATH", help_heading = "Calibration")]
    pub(crate) validate: Option<PathBuf>,

    /// Shape of an input with open dimensions (`images=1,3,640,640`); a name leaves one open (`ids=N,64`)
    #[arg(long, value_name = "NAME=DIMS", help_heading = "Inputs and outputs")]
    pub(crate) shape: Vec<Named<Extent>>,
    /// Replace an input by a constant (`sr=16000`)
    #[arg(long, value_name = "NAME=VALUES", help_heading = "Inputs and outputs")]
    pub(crate) set: Vec<Named<f64>>,
    /// Element type of the inputs and outputs of an int8 or float16 model
    #[arg(long, value_enum, default_value_t = Io::Float, help_heading = "Inputs and outputs")]
    pub(crate) io: Io,
    /// Axis order of image inputs
    #[arg(long, value_enum, default_value_t = InputLayout::Nhwc, help_heading = "Inputs and outputs")]
    pub(crate) input_layout: InputLayout,

    /// Nodes that stay in floating point; `*` matches any characters
    #[arg(long, value_name = "PATTERN", help_heading = "Control")]
    pub(crate) exclude: Vec<String>,
    /// Minimum signal-to-quantization-noise ratio of every output; if not met, nothing is written and the exit code is
    /// 3
    #[arg(long, value_name = "DB", value_parser = number, help_heading = "Control")]
    pub(crate) min_sqnr: Option<f64>,
    /// Minimum agreement with the float model of every output of known kind (boxes, classes, embeddings ..); if not
    /// met, nothing is written and the exit code is 3
    #[arg(long, value_name = "PERCENT", value_parser = number, help_heading = "Control")]
    pub(crate) min_agreement: Option<f64>,
    /// Maximum drop of the agreement with the float model, in percentage points, of every output of known kind; if not met,
    /// nothing is written and the exit code is 3
    #[arg(long, value_name = "PERCENT", value_parser = number, help_heading = "Control")]
    pub(crate) max_drop: Option<f64>,
    /// With --int8 and data: how much is evaluated to find what to keep in higher precision while an output is worse than
    /// --min-sqnr, --min-agreement or --max-drop require, or without these not usable
    #[arg(long, value_enum, default_value_t = Effort::Normal, help_heading = "Control")]
    pub(crate) effort: Effort,
    /// Compare the result with the model on one sample (of --data, else random numbers) in any precision; refuse
    /// differences that the precision does not explain
    #[arg(long, help_heading = "Control")]
    pub(crate) verify: bool,

    /// ONNX with --fp16: float16 activations too, for hardware with float16 arithmetic; with data, values that would
    /// overflow stay in float32
    #[arg(long, help_heading = "Output")]
    pub(crate) half_values: bool,
    /// ONNX: integer operators (`QLinearConv`) instead of QuantizeLinear and DequantizeLinear around float operators
    #[arg(long, help_heading = "Output")]
    pub(crate) qoperator: bool,
    /// ONNX: weights in a separate file [default: only if the model is too large for one file]
    #[arg(long, help_heading = "Output")]
    pub(crate) external_data: bool,
    /// Also write a report: `x.html` to read, `x.json` with all numbers (docs/report.md), `x.overlay.json` for Model
    /// Explorer; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) report: Vec<PathBuf>,
    /// Show for each node how it is computed (integer, dynamic, weights only or float) and why; with `=` and a pattern only
    /// for matching node names: `*` matches any characters
    #[arg(
        long,
        value_name = "PATTERN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "*",
        help_heading = "Output"
    )]
    pub(crate) explain: Option<String>,
    /// Show the graph after a pass (listed by `qcc passes`)
    #[arg(long, value_name = "PASS", help_heading = "Output")]
    pub(crate) print_after: Vec<String>,
    /// Maximum number of simplification rewrites of a graph, to find by bisection the one that changes the result
    #[arg(long, value_name = "N", help_heading = "Control")]
    pub(crate) stop_after: Option<usize>,
    /// Errors only, and the warning about calibration on synthetic pictures
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// More output: notes, all float nodes, each stage
    #[arg(short, long, action = ArgAction::SetTrue, help_heading = "Output")]
    pub(crate) verbose: bool,
}

/// The input data of models.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Dataset .yaml, folder of images, .txt list, .npy, .npz (one array per input), `random`, or `synthetic` (generated
    /// pictures)
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(crate) data: Option<PathBuf>,
    /// Maximum number of samples, spread evenly over the data
    #[arg(long, value_name = "N", value_parser = positive, requires = "data", help_heading = "Data")]
    pub(crate) samples: Option<usize>,
    /// How images are preprocessed [default: read from the metadata of Ultralytics models]
    #[arg(long, value_enum, help_heading = "Data")]
    pub(crate) preprocess: Option<Preset>,
    /// Factor for pixel values, which are 0 to 255 (`1/255`)
    #[arg(long, value_name = "X", value_parser = number, help_heading = "Data")]
    pub(crate) scale: Option<f64>,
    /// Mean, subtracted after scaling: one number, or one per channel
    #[arg(long, value_name = "X[,Y,Z]", allow_hyphen_values = true, help_heading = "Data")]
    pub(crate) mean: Option<Channels>,
    /// Standard deviation, the divisor after that: one number, or one per channel
    #[arg(long, value_name = "X[,Y,Z]", value_parser = divisors, help_heading = "Data")]
    pub(crate) std: Option<Channels>,
    /// Channel order
    #[arg(long, value_enum, help_heading = "Data")]
    pub(crate) color: Option<Color>,
    /// How images are resized to the model's input size
    #[arg(long, value_enum, help_heading = "Data")]
    pub(crate) resize: Option<Resize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// The reference model
    pub(crate) truth: PathBuf,
    /// The model that is compared with it
    pub(crate) other: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Shape of an input with open dimensions in both files (`images=1,3,640,640`)
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
    /// Replace an input by a constant (`sr=16000`)
    #[arg(long, value_name = "NAME=VALUES")]
    pub(crate) set: Vec<Named<f64>>,
    /// Minimum signal-to-noise ratio of every output; if not met, the exit code is 3
    #[arg(long, value_name = "DB", value_parser = number)]
    pub(crate) min_sqnr: Option<f64>,
    /// Minimum agreement of every output of known kind; if not met, the exit code is 3
    #[arg(long, value_name = "PERCENT", value_parser = number)]
    pub(crate) min_agreement: Option<f64>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// The artefact (.tflite, .onnx, OpenVINO .xml)
    pub(crate) artefact: PathBuf,
    /// The float model that it was made from; needs --data
    #[arg(requires = "data")]
    pub(crate) source: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Shape of an input with open dimensions (`images=1,3,640,640`)
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
    /// Replace an input by a constant (`sr=16000`)
    #[arg(long, value_name = "NAME=VALUES")]
    pub(crate) set: Vec<Named<f64>>,
    /// Write the report: `x.html` to read, `x.json` with all numbers (docs/report.md), `x.overlay.json` for Model
    /// Explorer; may be repeated
    #[arg(short, long = "report", value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,
    /// Show all operators in floating point, and all inputs and outputs
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// An extent: a number, or a name for one that stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent(pub(crate) Option<usize>);

impl FromStr for Extent {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let is_name = s.starts_with(|c: char| c.is_ascii_alphabetic() || c == '?');
        let number = || s.parse::<NonZeroUsize>().map(NonZeroUsize::get);
        if is_name { Ok(Extent(None)) } else { number().map(|n| Extent(Some(n))).map_err(|e| e.to_string()) }
    }
}

/// Shapes by input name, some of whose extents may stay open.
pub(crate) fn open_shapes(named: &[Named<Extent>]) -> Vec<(String, GivenShape)> {
    named.iter().map(|s| (s.name.clone(), s.values.iter().map(|extent| extent.0).collect())).collect()
}

/// Shapes by input name, as the importer takes them.
pub(crate) fn shapes(named: &[Named<NonZeroUsize>]) -> Vec<(String, GivenShape)> {
    let extents = |s: &Named<NonZeroUsize>| s.values.iter().map(|n| Some(n.get())).collect();
    named.iter().map(|s| (s.name.clone(), extents(s))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum To {
    #[value(alias = "litert")]
    Tflite,
    Onnx,
    #[value(alias = "ov")]
    Openvino,
    /// The float graph of qcc as text, which is also a source format
    Qir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Quantize {
    #[value(name = "32", alias = "float32")]
    Float32,
    #[value(name = "16", alias = "float16")]
    Float16,
    #[value(name = "8", aliases = ["int8", "w8a8"])]
    Int8,
    // Not implemented; the refusal says so.
    #[value(hide = true)]
    W8a16,
    W8a32,
    /// ONNX and OpenVINO: blockwise 4-bit weights of matrix products; other weights have 8 bits
    W4a32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Block {
    #[value(name = "16")]
    Of16,
    #[value(name = "32")]
    Of32,
    #[value(name = "64")]
    Of64,
    #[value(name = "128")]
    Of128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Calibrator {
    /// Full range of all values
    Minmax,
    /// Mean of the samples' minima and maxima
    MovingAverage,
    /// All values but 0.01 % at either end
    Percentile,
    /// Minimum mean squared error
    Mse,
    /// Minimum KL divergence
    Entropy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Effort {
    /// Nothing is kept in higher precision for the quality of the outputs
    Fast,
    /// One to two seconds for a detector such as YOLO26n
    Normal,
    /// Ten times as long
    High,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Letterbox with padding value 114, scale 1/255
    Yolo,
    /// Resize to 256, center crop 224, scale 1/255, ImageNet mean and std
    Imagenet,
    /// Stretch, no scaling (0 to 255)
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Rgb,
    Bgr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resize {
    /// Scale to fit, pad with 114
    Letterbox,
    /// Scale both sides independently
    Stretch,
    /// Crop the largest centered region
    CenterCrop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Io {
    Float,
    #[value(name = "float16", alias = "half")]
    Half,
    Int8,
    Uint8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputLayout {
    Nchw,
    Nhwc,
}

/// `NAME=X,Y,Z`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named<T> {
    pub(crate) name: String,
    pub(crate) values: Vec<T>,
}

impl<T: FromStr> FromStr for Named<T> {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        // Input names may contain `=`; numbers do not.
        let (name, values) = s.rsplit_once('=').ok_or("expected NAME=NUMBERS")?;
        let value = |v: &str| v.trim().parse().map_err(|_| format!("`{v}` is not a valid number"));
        // An empty list is the shape of a scalar.
        let values = values.split(',').filter(|v| !v.is_empty()).map(value).collect::<Result<_, _>>()?;
        Ok(Named { name: name.into(), values })
    }
}

/// One number for all channels, or three.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Channels(pub(crate) [f64; 3]);

impl FromStr for Channels {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let values: Vec<f64> = s.split(',').map(number).collect::<Result<_, _>>()?;
        match values[..] {
            [all] => Ok(Channels([all; 3])),
            [a, b, c] => Ok(Channels([a, b, c])),
            _ => Err("expected one number or three".into()),
        }
    }
}

/// A finite number, or a fraction of two numbers (`1/255`).
fn number(s: &str) -> Result<f64, String> {
    let parse = |s: &str| s.trim().parse::<f64>().map_err(|_| format!("`{s}` is not a number"));
    let value = match s.split_once('/') {
        Some((a, b)) => parse(a)? / parse(b)?,
        None => parse(s)?,
    };
    if value.is_finite() { Ok(value) } else { Err(format!("`{s}` is not a finite number")) }
}

/// Divisors per channel, all above 0.
fn divisors(s: &str) -> Result<Channels, String> {
    let channels: Channels = s.parse()?;
    if channels.0.iter().all(|c| *c > 0.0) { Ok(channels) } else { Err("expected numbers above 0".into()) }
}

fn positive(s: &str) -> Result<usize, String> {
    s.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn numbers_may_be_fractions() {
        assert_eq!(number("1/255"), Ok(1.0 / 255.0));
        assert_eq!(number("-0.5"), Ok(-0.5));
        assert_eq!(divisors("0.5,1/4,2"), Ok(Channels([0.5, 0.25, 2.0])));
        assert!(divisors("0").is_err() && divisors("1,2").is_err());
        assert!(number("1/0").is_err() && number("x").is_err() && number("inf").is_err());
    }

    #[test]
    fn names_may_hold_an_equals_sign() {
        let named: Named<usize> = "a=b=1,2".parse().unwrap();
        assert_eq!(named, Named { name: "a=b".into(), values: vec![1, 2] });
        assert!("a".parse::<Named<usize>>().is_err());
        assert!("a=1,x".parse::<Named<usize>>().is_err());
    }

    #[test]
    fn a_model_is_compiled_without_naming_a_command() {
        let args = Args::try_parse_from(["qcc", "m.onnx", "--to", "litert", "--quantize", "8", "--data", "d"]).unwrap();
        let compile = args.compile.unwrap();
        assert_eq!((compile.to, compile.quantize), (vec![To::Tflite], Some(Quantize::Int8)));
        let args = Args::try_parse_from(["qcc", "ops"]).unwrap();
        assert!(matches!(args.command, Some(Command::Ops(Ops { of: Spelling::Onnx }))));
        assert!(Args::try_parse_from(["qcc", "m.onnx", "--to", "tflite", "--int8", "--fp16"]).is_err());
    }
}

//! What the command line says.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, ArgGroup, Parser, Subcommand, ValueEnum};

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

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows what is in a file: TFLite, ONNX, OpenVINO IR, a graph as text (.qir), or PyTorch (.pt2)
    Inspect(Inspect),
    /// Shows what changed between two files of one format; the exit code is 1 where something did
    Diff(Diff),
    /// Compares what two models give on the same data
    Compare(Box<Compare>),
    /// Lists the operators that models may use
    Ops(Ops),
    /// Lists the passes of a compilation, in the order in which they run
    Passes(Passes),
    /// Runs passes on the graph of a model, and shows it or writes it as a .qir file
    Opt(Opt),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Ops {
    /// Whose operators
    #[arg(value_enum, default_value = "onnx")]
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
    /// A pass to run, as `qcc passes` lists them, or `STAGE/*` for all of a stage; may be given several times. Without it
    /// those of stage `simplify` run
    #[arg(long, value_name = "PASS")]
    pub(crate) pass: Vec<String>,
    /// The target whose passes they are
    #[arg(long, value_enum, default_value = "tflite")]
    pub(crate) to: To,
    /// Make no more than so many simplifying rewrites
    #[arg(long, value_name = "N")]
    pub(crate) stop_after: Option<usize>,
    /// Shape of an input, where the file leaves it open
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
    /// Show why rules left nodes as they are, in place of the graph
    #[arg(long)]
    pub(crate) explain: bool,
    /// The .qir file to write, in place of showing the graph
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Formats whose operators have names.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Spelling {
    Onnx,
    Pt2,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The model file
    pub(crate) file: PathBuf,
    /// Show it as JSON (docs/inspect.md)
    #[arg(long)]
    pub(crate) json: bool,
    /// As `--json`, where it is `json`
    #[arg(long, value_enum, default_value_t = Format::Text, hide = true)]
    pub(crate) format: Format,
    /// Show the graph that qcc makes of it, in place of the file's own operators
    #[arg(long)]
    pub(crate) graph: bool,
    /// Shape of an input, where the file leaves it open; shows the graph
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// The file as it was
    pub(crate) before: PathBuf,
    /// The file as it is
    pub(crate) after: PathBuf,
    /// Show the changes as JSON (docs/inspect.md)
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

    /// What to compile to, also several: `tflite,onnx,openvino` (`litert` is tflite)
    #[arg(long, alias = "format", value_enum, value_delimiter = ',', required = true)]
    pub(crate) to: Vec<To>,

    /// File to write, or a folder for it; the model's name with the precision in the current folder otherwise
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,

    /// Weights in half precision
    #[arg(long, alias = "half", group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) fp16: bool,
    /// Weights and activations in 8 bits; --data tells the ranges of activations, synthetic pictures where there are none
    #[arg(long, group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) int8: bool,
    /// Weights in 8 bits, activations in floating point (dynamic range)
    #[arg(long, group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) w8a32: bool,
    /// With 8- or 4-bit weights: activations of products are quantized to 8 bits when the model runs, which is faster
    /// (TFLite's kernels always do that)
    #[arg(long, help_heading = "Precision (float32 otherwise)")]
    pub(crate) dynamic: bool,
    /// With --int8: no product quantizes its activations when the model runs, even where that is more accurate; TensorFlow
    /// Lite for Microcontrollers and many accelerators have no kernels for those
    #[arg(long = "static", help_heading = "Precision (float32 otherwise)")]
    pub(crate) only_static: bool,
    /// The precision by Ultralytics' names
    #[arg(long, group = "precision", value_enum, help_heading = "Precision (float32 otherwise)")]
    pub(crate) quantize: Option<Quantize>,
    /// Weights that share a scale, with `--quantize w4a32`
    #[arg(long, value_enum, default_value_t = Block::Of32, help_heading = "Precision (float32 otherwise)")]
    pub(crate) block: Block,

    /// How ranges are chosen [default: mse]
    #[arg(long, value_enum, help_heading = "Calibration")]
    pub(crate) calibrator: Option<Calibrator>,
    /// Data that the result is compared with the float model on; without it, a quarter of --data is kept out of
    /// calibration for that where there are 8 samples or more
    #[arg(long, value_name = "PATH", help_heading = "Calibration")]
    pub(crate) validate: Option<PathBuf>,

    /// Shape of an input, where the file leaves it open (`images=1,3,640,640`)
    #[arg(long, value_name = "NAME=DIMS", help_heading = "Inputs and outputs")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
    /// An input that becomes a constant (`sr=16000`)
    #[arg(long, value_name = "NAME=VALUES", help_heading = "Inputs and outputs")]
    pub(crate) set: Vec<Named<f64>>,
    /// What inputs and outputs of an int8 or float16 model hold
    #[arg(long, value_enum, default_value_t = Io::Float, help_heading = "Inputs and outputs")]
    pub(crate) io: Io,
    /// Order of the axes of image inputs
    #[arg(long, value_enum, default_value_t = InputLayout::Nhwc, help_heading = "Inputs and outputs")]
    pub(crate) input_layout: InputLayout,

    /// Nodes that stay in floating point; `*` stands for any characters
    #[arg(long, value_name = "PATTERN", help_heading = "Control")]
    pub(crate) exclude: Vec<String>,
    /// Least signal to quantization noise ratio of every output; below it nothing is written and the exit code is 3
    #[arg(long, value_name = "DB", value_parser = number, help_heading = "Control")]
    pub(crate) min_sqnr: Option<f64>,
    /// Least agreement with the float model of every output that tells what it is for (boxes, classes, vectors ..);
    /// below it nothing is written and the exit code is 3
    #[arg(long, value_name = "PERCENT", value_parser = number, help_heading = "Control")]
    pub(crate) min_agreement: Option<f64>,
    /// Compare what is to be written with the model on one sample (of --data, else random numbers), in any precision;
    /// refuse a difference that the precision does not explain
    #[arg(long, help_heading = "Control")]
    pub(crate) verify: bool,

    /// ONNX with --fp16: values are 16 bits wide too, for processors that compute with such; data, if given, show which
    /// would overflow
    #[arg(long, help_heading = "Output")]
    pub(crate) half_values: bool,
    /// ONNX: integer operators (`QLinearConv`) in place of QuantizeLinear and DequantizeLinear around real ones
    #[arg(long, help_heading = "Output")]
    pub(crate) qoperator: bool,
    /// ONNX: weights in a file of their own; without it from the size on that one file cannot hold
    #[arg(long, help_heading = "Output")]
    pub(crate) external_data: bool,
    /// Also write a report: `x.html` to read, `x.json` with all numbers (docs/report.md), `x.overlay.json` for Model
    /// Explorer; several times for several of them
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) report: Vec<PathBuf>,
    /// Show what each node computes with (integer, dynamic, weights only or float) and why; of the nodes that match a
    /// pattern, where one is given: `*` stands for any characters
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "*", help_heading = "Output")]
    pub(crate) explain: Option<String>,
    /// Show the graph after a pass (`qcc passes` lists them)
    #[arg(long, value_name = "PASS", help_heading = "Output")]
    pub(crate) print_after: Vec<String>,
    /// Make no more than so many simplifying rewrites of a graph, to find the one that changes something
    #[arg(long, value_name = "N", help_heading = "Control")]
    pub(crate) stop_after: Option<usize>,
    /// Say nothing but errors, and where ranges come from synthetic pictures
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// Say more: notes, all nodes in floating point, each stage
    #[arg(short, long, action = ArgAction::SetTrue, help_heading = "Output")]
    pub(crate) verbose: bool,
}

/// What models are fed with.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Dataset .yaml, folder of pictures, .txt list, .npy, .npz (an array for each input), `random`, or `synthetic` (pictures
    /// that qcc makes itself)
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub(crate) data: Option<PathBuf>,
    /// Samples at most, spread evenly over the data
    #[arg(long, value_name = "N", value_parser = positive, requires = "data", help_heading = "Data")]
    pub(crate) samples: Option<usize>,
    /// How pictures become inputs; Ultralytics' models say so themselves
    #[arg(long, value_enum, help_heading = "Data")]
    pub(crate) preprocess: Option<Preset>,
    /// Factor of picture values, which are 0 to 255 (`1/255`)
    #[arg(long, value_name = "X", value_parser = number, help_heading = "Data")]
    pub(crate) scale: Option<f64>,
    /// Taken off after scaling: one number, or one for each channel
    #[arg(long, value_name = "X[,Y,Z]", allow_hyphen_values = true, help_heading = "Data")]
    pub(crate) mean: Option<Channels>,
    /// Divisor after that: one number, or one for each channel
    #[arg(long, value_name = "X[,Y,Z]", value_parser = divisors, help_heading = "Data")]
    pub(crate) std: Option<Channels>,
    /// Order of the channels
    #[arg(long, value_enum, help_heading = "Data")]
    pub(crate) color: Option<Color>,
    /// How pictures are brought to the model's size
    #[arg(long, value_enum, help_heading = "Data")]
    pub(crate) resize: Option<Resize>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// The model that counts as the truth
    pub(crate) truth: PathBuf,
    /// The model that is compared with it
    pub(crate) other: PathBuf,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Shape of an input, where both files leave it open (`images=1,3,640,640`)
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<Named<NonZeroUsize>>,
    /// An input that becomes a constant (`sr=16000`)
    #[arg(long, value_name = "NAME=VALUES")]
    pub(crate) set: Vec<Named<f64>>,
    /// Least signal to noise ratio of every output; below it the exit code is 3
    #[arg(long, value_name = "DB", value_parser = number)]
    pub(crate) min_sqnr: Option<f64>,
    /// Least agreement of every output that tells what it is for; below it the exit code is 3
    #[arg(long, value_name = "PERCENT", value_parser = number)]
    pub(crate) min_agreement: Option<f64>,
    /// Show the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shapes by the names of inputs, as the importer takes them.
pub(crate) fn shapes(named: &[Named<NonZeroUsize>]) -> Vec<(String, Vec<usize>)> {
    let extents = |s: &Named<NonZeroUsize>| s.values.iter().map(|n| n.get()).collect();
    named.iter().map(|s| (s.name.clone(), extents(s))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum To {
    #[value(alias = "litert")]
    Tflite,
    Onnx,
    #[value(alias = "ov")]
    Openvino,
    /// The float graph as qcc has it: text that is a model again
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
    // Not there yet; the refusal says so.
    #[value(hide = true)]
    W8a16,
    W8a32,
    /// ONNX and OpenVINO: matrices of products in 4 bits, in blocks; other weights in 8 bits
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
    /// All that was seen
    Minmax,
    /// Mean of each sample's least and greatest
    MovingAverage,
    /// All but a ten-thousandth at either end
    Percentile,
    /// Least squared error
    Mse,
    /// Least loss of information
    Entropy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Letterboxed on 114, 0 to 1
    Yolo,
    /// 224 of 256 from the middle, 0 to 1, ImageNet's mean and standard deviation
    Imagenet,
    /// Stretched, 0 to 255
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Rgb,
    Bgr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Resize {
    /// To fit, the rest filled with 114
    Letterbox,
    /// Both sides to the target
    Stretch,
    /// The middle, as large as fits
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
        // Names of values may hold `=`; numbers do not.
        let (name, values) = s.rsplit_once('=').ok_or("expected NAME=NUMBERS")?;
        let value = |v: &str| v.trim().parse().map_err(|_| format!("`{v}` is no number that fits here"));
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

/// A finite number, also as a fraction (`1/255`).
fn number(s: &str) -> Result<f64, String> {
    let parse = |s: &str| s.trim().parse::<f64>().map_err(|_| format!("`{s}` is no number"));
    let value = match s.split_once('/') {
        Some((a, b)) => parse(a)? / parse(b)?,
        None => parse(s)?,
    };
    if value.is_finite() { Ok(value) } else { Err(format!("`{s}` is no finite number")) }
}

/// Channels that may divide.
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

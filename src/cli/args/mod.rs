//! The command line's arguments.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::backends::onnx::OPSETS;
use crate::backends::{Device, State};
use crate::frontends::Cut;
use clap::{ArgAction, ArgGroup, Parser, Subcommand};

mod values;

pub(crate) use values::{
    Block, Calibrator, Channels, Color, Effort, Extent, Format, ImageSize, InputLayout, Io, Named, PerTensor, Port,
    Preset, Quantize, Random, Resize, Shell, Spelling, To, import_options, open_shapes, shapes,
};
use values::{cut, device, divisors, number, positive, share, spelling, state};

/// The version with the commit and the features that the program was compiled with.
const LONG_VERSION: &str = env!("QCC_LONG_VERSION");

const EXAMPLES: &str = "\
Examples:
  qcc yolo26n.onnx --to tflite --int8 --data coco8.yaml
  qcc model.onnx -o model.tflite --int8 --data pictures/ --scale 1/255 --min-agreement 99
  qcc compare model.onnx model.tflite --data pictures/ --scale 1/255";

/// Compiles trained neural networks to small, quantized artefacts.
#[derive(Debug, Parser)]
#[command(
    name = "qcc",
    version,
    long_version = LONG_VERSION,
    max_term_width = 100,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
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
    /// Prints the completions of a shell, or the manual page
    Completions(Completions),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Calibrate {
    /// The model file (.onnx, .pt2, OpenVINO .xml, .tflite or .qir)
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
    /// Operators with random results: `input` takes their samples from inputs of the model
    #[arg(long, value_enum)]
    pub(crate) random: Option<Random>,
    /// Evaluate a part of the model (as in `qcc MODEL`)
    #[arg(long, value_name = "INPUT..OUTPUT", value_parser = cut)]
    pub(crate) cut: Option<Cut>,
    /// Axis order of image inputs of the artefact
    #[arg(long, value_enum, default_value_t = InputLayout::Nhwc)]
    pub(crate) input_layout: InputLayout,
    /// Errors only, and the warning about calibration on built-in pictures
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
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) of: Shell,
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
    /// Take a part of the model (as in `qcc MODEL`)
    #[arg(long, value_name = "INPUT..OUTPUT", value_parser = cut)]
    pub(crate) cut: Option<Cut>,
    /// Show why rules did not apply to nodes, instead of the graph
    #[arg(long)]
    pub(crate) explain: bool,
    /// Write the graph to this .qir file instead of printing it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
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

#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("precision").multiple(false))]
pub(crate) struct Compile {
    /// The model file (.onnx, .pt2, OpenVINO .xml, .tflite or .qir)
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
    /// both: the model as an array, and a header with its operators, arena size, inputs and outputs; `-` is standard output,
    /// for one artefact of one file [default: the model's name with the precision, in the current folder]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,

    /// Float16 weights
    #[arg(long, alias = "half", group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) fp16: bool,
    /// 8-bit weights and activations, calibrated on --data; image models without data on built-in pictures
    #[arg(long, group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) int8: bool,
    /// 8-bit weights, 16-bit activations, calibrated as for --int8: nearly as accurate as with float activations, on
    /// accelerators with 16-bit arithmetic (TFLite and ONNX)
    #[arg(long, group = "precision", help_heading = "Precision (float32 otherwise)")]
    pub(crate) w8a16: bool,
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

    /// Layers whose 8-bit weights have one scale instead of one for each output channel, for old kernels on
    /// microcontrollers; convolutions keep theirs
    #[arg(long, value_enum, help_heading = "Precision (float32 otherwise)")]
    pub(crate) per_tensor: Option<PerTensor>,

    /// Share of the samples of --data that is used, above 0 and at most 1
    #[arg(long, value_name = "X", value_parser = share, requires = "data", help_heading = "Calibration")]
    pub(crate) fraction: Option<f64>,
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

    /// Shape of an input with open dimensions (`images=1,3,640,640`); a name leaves one open (`ids=N,64`). Without it they
    /// stay open where the target allows
    #[arg(long, value_name = "NAME=DIMS", help_heading = "Inputs and outputs")]
    pub(crate) shape: Vec<Named<Extent>>,
    /// Height and width of image inputs with open dimensions: one number for both, or two
    #[arg(long, value_name = "N[,W]", conflicts_with = "shape", help_heading = "Inputs and outputs")]
    pub(crate) imgsz: Option<ImageSize>,
    /// Batch: the first extent of all inputs, where it is open
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "shape", help_heading = "Inputs and outputs")]
    pub(crate) batch: Option<usize>,
    /// Replace an input by a constant (`sr=16000`)
    #[arg(long, value_name = "NAME=VALUES", help_heading = "Inputs and outputs")]
    pub(crate) set: Vec<Named<f64>>,
    /// Operators with random results (RandomNormal, torch.rand): `input` takes their samples from inputs of the artefact,
    /// `NODE_uniform` (from 0 to 1) or `NODE_normal` (standard normal distribution)
    #[arg(long, value_enum, help_heading = "Inputs and outputs")]
    pub(crate) random: Option<Random>,
    /// Compile the part of the model between values: `INPUT..OUTPUT`, several separated by commas; with one side empty
    /// to the outputs of the model, or from its inputs. --shape, --set and --data are about the inputs of the part
    #[arg(long, value_name = "INPUT..OUTPUT", value_parser = cut, help_heading = "Inputs and outputs")]
    pub(crate) cut: Option<Cut>,
    /// Element type of the inputs and outputs of an int8, w8a16 or float16 model: `float`, `float16`, `int8`, `uint8` or
    /// `int16`; for some of them by name (`images=uint8,scores=int8`) [default: float]
    #[arg(long, value_name = "[NAME=]TYPE", value_delimiter = ',', help_heading = "Inputs and outputs")]
    pub(crate) io: Vec<Port>,
    /// A value that the artefact keeps from run to run, instead of an input and an output of one type: zero at first. For
    /// TFLite and OpenVINO
    #[arg(long, value_name = "INPUT=OUTPUT", value_parser = state, help_heading = "Inputs and outputs")]
    pub(crate) state: Vec<State>,
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
    /// --min-sqnr, --min-agreement or --max-drop require, or without these not usable; `high` also rounds weights of small
    /// models by the data
    #[arg(long, value_enum, default_value_t = Effort::Normal, help_heading = "Control")]
    pub(crate) effort: Effort,
    /// Keep parts in higher precision while the latency (by the proxy) stays within this factor of the model that is
    /// quantized throughout: `1.2`
    #[arg(long, value_name = "FACTOR", value_parser = number, help_heading = "Control")]
    pub(crate) budget_latency: Option<f64>,
    /// The same for the bytes of constants
    #[arg(long, value_name = "FACTOR", value_parser = number, help_heading = "Control")]
    pub(crate) budget_size: Option<f64>,
    /// Report at most N models with more and more parts in higher precision: their latency, size and quality
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Control")]
    pub(crate) pareto: Option<usize>,
    /// Compare the result with the model on one sample (of --data, else random numbers) in any precision; refuse
    /// differences that the precision does not explain
    #[arg(long, help_heading = "Control")]
    pub(crate) verify: bool,

    /// Names of the classes, instead of those of the model: a text file with one name on each line, or a .yaml or .json
    /// file with `names`
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) labels: Option<PathBuf>,
    /// ONNX with --fp16: float16 activations too, for hardware with float16 arithmetic; with data, values that would
    /// overflow stay in float32
    #[arg(long, help_heading = "Output")]
    pub(crate) half_values: bool,
    /// ONNX: integer operators (`QLinearConv`) instead of QuantizeLinear and DequantizeLinear around float operators
    #[arg(long, help_heading = "Output")]
    pub(crate) qoperator: bool,
    /// ONNX: the version of the operator set, 13 to 23, for runtimes that know no newer one; refused with the nodes that need
    /// a newer one [default: the lowest from 17 on that has all operators of the model]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(OPSETS), help_heading = "Output")]
    pub(crate) opset: Option<i64>,
    /// ONNX: weights in a separate file [default: only if the model is too large for one file]
    #[arg(long, help_heading = "Output")]
    pub(crate) external_data: bool,
    /// Also write a report: `x.html` to read, `x.json` with all numbers (docs/report.md), `x.overlay.json` for Model
    /// Explorer, `-` for JSON on standard output; may be repeated
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
    /// Errors only, and the warning about calibration on built-in pictures
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub(crate) quiet: bool,
    /// More output: notes, all float nodes, each stage
    #[arg(short, long, action = ArgAction::SetTrue, help_heading = "Output")]
    pub(crate) verbose: bool,
}

/// The input data of models.
#[derive(Debug, clap::Args)]
pub(crate) struct DataArgs {
    /// Dataset .yaml or .ndjson, folder or .zip of images, .txt list, .npy, .npz (one array per input), folder or .zip of
    /// these (samples of several shapes), `random`, or `synthetic` (built-in pictures)
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
    /// Operators with random results: `input` takes their samples from inputs of the model
    #[arg(long, value_enum)]
    pub(crate) random: Option<Random>,
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
    /// Operators with random results: `input` takes their samples from inputs of the model
    #[arg(long, value_enum)]
    pub(crate) random: Option<Random>,
    /// Write the report: `x.html` to read, `x.json` with all numbers (docs/report.md), `x.overlay.json` for Model
    /// Explorer; may be repeated
    #[arg(short, long = "report", value_name = "FILE")]
    pub(crate) output: Vec<PathBuf>,
    /// Show all operators in floating point, and all inputs and outputs
    #[arg(short, long)]
    pub(crate) verbose: bool,
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
    fn a_model_is_compiled_without_naming_a_command() {
        let args = Args::try_parse_from(["qcc", "m.onnx", "--to", "litert", "--quantize", "8", "--data", "d"]).unwrap();
        let compile = args.compile.unwrap();
        assert_eq!((compile.to, compile.quantize), (vec![To::Tflite], Some(Quantize::Int8)));
        let args = Args::try_parse_from(["qcc", "ops"]).unwrap();
        assert!(matches!(args.command, Some(Command::Ops(Ops { of: Spelling::Onnx }))));
        assert!(Args::try_parse_from(["qcc", "m.onnx", "--to", "tflite", "--int8", "--fp16"]).is_err());
    }
}

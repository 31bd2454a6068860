//! The options of a compilation, and which of them may be combined.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use qcc_backends::{Backend, Format, State};
use qcc_frontends::ImportOptions;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::target::Target;
use qcc_ir::{Elem, StorageType, Tensor};
use qcc_passes::Given;
use qcc_passes::calibrate::Method;
use qcc_passes::layout::{self, ImageOrder};
use qcc_passes::quantize;

use crate::data::{DataError, Dataset, Preparation, SampleSource};
use crate::outcome::{Failure, Output};
use crate::precision::Precision;
use crate::quality::Gate;
use crate::reports;
use crate::sizes::InputSizes;

/// Where calibration data come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Data {
    /// A file or folder that [`Dataset::open`] reads.
    Path(PathBuf),
    /// Random numbers.
    Random,
    /// Synthetic pictures: [`Dataset::synthetic`].
    Synthetic,
    /// Arrays in memory, by name: [`Dataset::npy`].
    Arrays(Vec<(String, Bytes)>),
    /// Samples that the caller provides.
    Samples(Arc<dyn SampleSource>),
}

impl From<Vec<Vec<Tensor>>> for Data {
    /// Samples in memory: one row-major tensor for each input of the model.
    fn from(samples: Vec<Vec<Tensor>>) -> Self {
        Data::Samples(Arc::new(samples))
    }
}

impl FromIterator<Vec<Tensor>> for Data {
    fn from_iter<I: IntoIterator<Item = Vec<Tensor>>>(samples: I) -> Self {
        samples.into_iter().collect::<Vec<_>>().into()
    }
}

impl Data {
    /// Opens the data.
    pub(crate) fn open(&self) -> Result<Dataset, DataError> {
        match self {
            Data::Path(path) => Dataset::open(path),
            Data::Random => Ok(Dataset::random(0)),
            Data::Synthetic => Ok(Dataset::synthetic()),
            Data::Arrays(arrays) => Ok(Dataset::npy(arrays.iter().cloned())),
            Data::Samples(source) => Ok(Dataset::samples(Arc::clone(source))),
        }
    }

    /// The data as the user named them.
    pub(crate) fn name(&self) -> String {
        match self {
            Data::Path(path) => path.display().to_string(),
            Data::Random => "random".into(),
            Data::Synthetic => "synthetic".into(),
            Data::Arrays(_) | Data::Samples(_) => "samples in memory".into(),
        }
    }
}

/// Calibration options.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Calibration {
    /// The data.
    pub data: Data,
    /// Maximum number of samples.
    pub samples: Option<usize>,
    /// The share of the samples that is used, above 0 and at most 1, with [`Calibration::samples`] as the maximum.
    pub fraction: Option<f64>,
}

impl Calibration {
    /// Calibration on all of the data.
    pub fn new(data: impl Into<Data>) -> Self {
        Calibration { data: data.into(), samples: None, fraction: None }
    }
}

/// How much is evaluated to reach a quality of the outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Nothing: what is quantized does not depend on the quality.
    Fast,
    /// Some evaluations of the model: one to two seconds for a detector such as YOLO26n. Parts that cost next to nothing are kept
    /// in higher precision without a requirement too.
    #[default]
    Normal,
    /// Ten times as many.
    High,
}

/// Limits of what is kept in higher precision, as factors of the model that is quantized throughout: 1.2 allows a fifth more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// The maximum latency, by the proxy of the target.
    pub latency: Option<f64>,
    /// The maximum bytes of constants.
    pub size: Option<f64>,
}

impl Budget {
    /// True if there is no limit.
    pub fn is_open(&self) -> bool {
        *self == Budget::default()
    }
}

/// Options of a compilation.
///
/// ```
/// use qcc::{Calibration, Data, Options, Precision, backends::Format};
/// let mut options = Options::new([Format::Onnx, Format::Openvino], Precision::Int8);
/// options.calibration = Some(Calibration::new(Data::Path("pictures/".into())));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The formats to write. Calibration runs once for all of them.
    pub targets: Vec<Arc<dyn Backend>>,
    /// The precision of weights and activations.
    pub precision: Precision,
    /// With [`Precision::Float32`]: dequantizes the weights of models with weight-only quantization, which are kept
    /// otherwise.
    pub float_weights: bool,
    /// With [`Precision::Float16`]: activations are float16 too, not the weights alone, on targets that support it.
    pub half_values: bool,
    /// Block size for [`Precision::W4A32`]: number of weights along the reduced axis that share a scale.
    pub block: usize,
    /// With 8-bit weights: those of dense layers have one scale, not one for each output channel, for old kernels.
    pub dense_per_tensor: bool,
    /// Shapes and values of inputs.
    pub import: ImportOptions,
    /// Sizes of inputs that [`ImportOptions::shapes`] does not name.
    pub sizes: InputSizes,
    /// A file with the names of the classes, instead of those of the model: a text file with one name on each line, or a
    /// `.yaml` or `.json` file with `names`.
    pub labels: Option<PathBuf>,
    /// The calibration data, for [`Precision::Int8`] and [`Precision::W8A16`], which use [`Data::Synthetic`] for image
    /// models without data. With 8 or more samples, a quarter is held out and the result is compared with the float
    /// model on these, unless [`Options::validation`] is given.
    pub calibration: Option<Calibration>,
    /// With quantized activations: a file with statistics of samples that were evaluated earlier
    /// ([`Compiler::calibrate`](crate::Compiler::calibrate)). Ranges follow from them; samples are for comparisons only.
    pub statistics: Option<PathBuf>,
    /// With quantized activations: a file of another tool with ranges of activations by the names of tensors
    /// (docs/ranges.md). Ranges of other values need data or statistics.
    pub ranges: Option<PathBuf>,
    /// How ranges of quantized activations are chosen. `None` means [`Method::Mse`] for 8 bits and
    /// [`Method::Widened`] for 16.
    pub method: Option<Method>,
    /// The data on which the result is compared with the float model; all samples are used.
    pub validation: Option<Data>,
    /// Whether the result is compared with the float model if there are data. Otherwise all samples of
    /// [`Options::calibration`] are calibrated on, and nothing that is written depends on a comparison.
    pub compare: bool,
    /// Preprocessing of images; it overrides the model's metadata.
    pub preparation: Preparation,
    /// Element types of inputs and outputs.
    pub interface: quantize::Interfaces,
    /// Axis order of image inputs and outputs.
    pub layout: layout::Interface,
    /// Pairs of an input and an output of one type: the artefact keeps the value of the output from run to run as the value
    /// of the input, and has neither. Before the first run it is zero everywhere; an open extent that no other input has
    /// is 0. For targets whose runtimes keep values ([`Target::keeps_states`](qcc_ir::target::Target::keeps_states)).
    pub states: Vec<State>,
    /// With [`Precision::Int8`]: no dynamic quantization of activations; runtimes for microcontrollers have no kernels
    /// for it.
    pub only_static: bool,
    /// Patterns of names of nodes that stay in floating point; `*` matches any characters.
    pub exclude: Vec<String>,
    /// Paths of the [`Report`](crate::Report): as a page to read (`.html`), as node data for Model Explorer
    /// (`.overlay.json`), or as JSON. They are written together with the artefacts, or alone if their quality fails
    /// [`Options::gate`].
    pub reports: Vec<PathBuf>,
    /// Whether the report counts costs and lists operators ([`Artefact::costs`](crate::Artefact::costs) and
    /// [`Artefact::nodes`](crate::Artefact::nodes)), which takes some per cent of the time of a float conversion.
    /// Report files always have them.
    pub details: bool,
    /// The command line that the report shows.
    pub command: Option<String>,
    /// What the report calls the model file, if not by its path.
    pub model_name: Option<PathBuf>,
    /// Minimum quality of every output compared with the float model.
    pub gate: Gate,
    /// With quantized activations and data: how much is evaluated to reach [`Options::gate`], or without one outputs that
    /// are usable, by keeping parts of the model in higher precision.
    pub effort: Effort,
    /// With [`Precision::Int8`] and data: what keeping parts in higher precision may cost. Without [`Options::gate`] the
    /// outputs are made as good as the budget allows.
    pub budget: Budget,
    /// With [`Precision::Int8`] and data: the maximum number of models with parts in higher precision whose cost and quality
    /// are reported ([`Quality::pareto`](crate::Quality::pareto)).
    pub pareto: Option<usize>,
    /// Maximum number of simplification rewrites of a graph, to find by bisection the one that changes the result.
    pub stop_after: Option<usize>,
    /// Compare what is written with the model on one sample, and write nothing if it differs by more than the precision
    /// explains.
    pub verify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            targets: vec![Format::Tflite.into()],
            precision: Precision::Float32,
            float_weights: false,
            half_values: false,
            block: DEFAULT_BLOCK,
            dense_per_tensor: false,
            import: ImportOptions::default(),
            sizes: InputSizes::default(),
            labels: None,
            calibration: None,
            statistics: None,
            ranges: None,
            method: None,
            validation: None,
            compare: true,
            preparation: Preparation::default(),
            interface: quantize::Interfaces::default(),
            layout: layout::Interface { input: ImageOrder::Nhwc, output: ImageOrder::Nhwc },
            states: Vec::new(),
            only_static: false,
            exclude: Vec::new(),
            reports: Vec::new(),
            details: true,
            command: None,
            model_name: None,
            gate: Gate::default(),
            effort: Effort::default(),
            budget: Budget::default(),
            pareto: None,
            stop_after: None,
            verify: false,
        }
    }
}

impl Options {
    /// Options for targets and a precision, with defaults for the rest.
    pub fn new<B: Into<Arc<dyn Backend>>>(targets: impl IntoIterator<Item = B>, precision: Precision) -> Self {
        Options { targets: targets.into_iter().map(Into::into).collect(), precision, ..Options::default() }
    }

    /// True if ranges are in a file.
    pub(crate) fn has_ranges(&self) -> bool {
        self.statistics.is_some() || self.ranges.is_some()
    }

    /// True if there are samples.
    pub(crate) fn has_samples(&self) -> bool {
        self.calibration.is_some() || self.validation.is_some()
    }

    /// True if the report counts costs and lists operators.
    pub(crate) fn has_details(&self) -> bool {
        self.details || !self.reports.is_empty()
    }

    /// Fails if options contradict each other or a required one is missing.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.targets.is_empty()
            || self
                .targets
                .iter()
                .enumerate()
                .any(|(i, t)| self.targets[..i].iter().any(|before| before.target().name == t.target().name))
        {
            return usage("a target is missing or given twice", "name targets once each: --to tflite,onnx,openvino");
        }
        if self.targets.iter().any(|t| t.is_dynamic()) && !matches!(self.precision, Precision::W8A32 | Precision::W4A32)
        {
            return usage("dynamic quantization of activations needs weight-only quantization", "add --w8a32");
        }
        if self.only_static && self.precision != Precision::Int8 {
            return usage(
                "--static disables dynamic quantization of activations in int8 models",
                "add --int8, or leave --static out",
            );
        }
        let names = self.targets.iter().any(|b| reports::has_names(b.target().name));
        if !names && self.reports.iter().any(|path| reports::Kind::of(path) == reports::Kind::Overlay) {
            return usage(
                "Model Explorer's node data name tensors, which of all formats TFLite alone has",
                "add --to tflite, or give a .html or .json file",
            );
        }
        self.check_devices()?;
        let has_data = self.has_samples();
        let compares = has_data && self.compare;
        if !self.gate.is_open() && !compares {
            return usage(
                "--min-sqnr, --min-agreement and --max-drop compare a quantized model with the float one on data",
                DATA_HELP,
            );
        }
        if !self.precision.quantizes_activations() {
            self.check_no_activations()?;
        }
        let searches = self.precision == Precision::Int8 && compares && self.effort != Effort::Fast;
        if (!self.budget.is_open() || self.pareto.is_some()) && !searches {
            return usage(
                "--budget-latency, --budget-size and --pareto evaluate int8 models on data",
                "give --int8 and --data, and leave --effort fast out",
            );
        }
        if [self.budget.latency, self.budget.size].into_iter().flatten().any(|factor| factor.is_nan() || factor < 1.0) {
            return usage("a budget below 1 is less than the quantized model costs", "1.2 allows a fifth more");
        }
        self.check_wide()?;
        let computes = |b: &Arc<dyn Backend>| self.precision == Precision::Float16 && b.target().half_values;
        if self.half_values && !self.targets.iter().all(computes) {
            return usage("float16 activations need --fp16 and a target that supports them", "--to onnx --fp16");
        }
        if has_data && !self.precision.is_quantized() && !self.half_values && !self.verify {
            return usage(
                "data are used by int8, w8a16, w8a32, w4a32, --half-values and --verify",
                "leave --data out, or ask for --int8",
            );
        }
        if !self.precision.quantizes_activations() || self.has_ranges() {
            self.check_preparation(has_data)?;
        }
        if self.block == 0 || (self.block != DEFAULT_BLOCK && self.precision != Precision::W4A32) {
            return usage("only 4-bit weights are quantized in blocks", "add --quantize w4a32, or leave --block out");
        }
        let takes_blocks = |target: &Target| target.takes_blocks(self.block);
        if let Some(odd) = self.targets.iter().find(|b| self.precision == Precision::W4A32 && !takes_blocks(b.target()))
        {
            let message = format!("{} does not support 4-bit weights in blocks of {}", odd.target().name, self.block);
            return usage(&message, &format!("--to {}, or --quantize w8a32", formats(takes_blocks)));
        }
        if self.dense_per_tensor && !matches!(self.precision, Precision::Int8 | Precision::W8A16 | Precision::W8A32) {
            return usage(
                "--per-tensor chooses the scales of 8-bit weights",
                "add --int8, --w8a16 or --w8a32, or leave it out",
            );
        }
        self.interface.types().try_for_each(|interface| self.check_interface(interface))?;
        let keeps = |target: &Target| target.keeps_states;
        let odd = self.targets.iter().find(|b| !self.states.is_empty() && !keeps(b.target()));
        if let Some(odd) = odd {
            let message = format!("models for {} keep no values from run to run", odd.target().title());
            return usage(
                &message,
                &format!("leave --state out: the value stays an input and an output; or --to {}", formats(keeps)),
            );
        }
        if !self.exclude.is_empty() && !self.precision.is_quantized() {
            return usage("--exclude has no effect without quantization", "add --int8, or leave --exclude out");
        }
        Ok(())
    }

    /// Fails where inputs and outputs cannot have a type in this precision.
    fn check_interface(&self, interface: quantize::Interface) -> Result<(), Failure> {
        let (message, help) = match (interface, self.precision) {
            (quantize::Interface::Float, _) => return Ok(()),
            (quantize::Interface::Half, _) if self.half_values => return Ok(()),
            (quantize::Interface::Half, _) => {
                ("float16 inputs and outputs need float16 activations", "add --half-values")
            }
            (quantize::Interface::Quantized(StorageType::I16), Precision::W8A16) => return Ok(()),
            (quantize::Interface::Quantized(StorageType::I16), _) => {
                ("16-bit inputs and outputs need 16-bit activations", "add --w8a16")
            }
            (quantize::Interface::Quantized(_), Precision::Int8) => return Ok(()),
            (quantize::Interface::Quantized(_), Precision::W8A16) => {
                ("the inputs and outputs of a w8a16 model have 16 bits", "--io int16, or leave --io out")
            }
            (quantize::Interface::Quantized(_), _) => {
                ("integer inputs and outputs need an integer model", "add --int8, or leave --io out")
            }
        };
        usage(message, help)
    }

    /// Fails where an option about quantized activations is given for a precision without them.
    fn check_no_activations(&self) -> Result<(), Failure> {
        let given: [(bool, &str, &str); 4] = [
            (self.ranges.is_some(), "--ranges gives ranges of activations, for int8 and w8a16", "--ranges"),
            (self.statistics.is_some(), "--stats holds ranges of activations, for int8 and w8a16", "--stats"),
            (
                self.effort != Effort::Normal,
                "--effort says how much is evaluated for the accuracy of int8 and w8a16 models",
                "--effort",
            ),
            (self.method.is_some(), "--calibrator chooses the ranges of int8 and w8a16 activations", "--calibrator"),
        ];
        match given.into_iter().find(|(given, ..)| *given) {
            Some((_, message, option)) => usage(message, &format!("add --int8, or leave {option} out")),
            None => Ok(()),
        }
    }

    /// Fails where a target has no kernels for 16-bit activations, and they are requested.
    fn check_wide(&self) -> Result<(), Failure> {
        let lacks = |b: &&Arc<dyn Backend>| !b.target().takes_activations(StorageType::I16);
        let Some(backend) = self.targets.iter().filter(|_| self.precision == Precision::W8A16).find(lacks) else {
            return Ok(());
        };
        let able = formats(|target| target.takes_activations(StorageType::I16));
        let instead = if backend.target().takes_weights() {
            "--w8a32, which has the same weights and is as accurate"
        } else {
            "--int8"
        };
        usage(
            &format!("{} has no kernels for 16-bit activations", backend.target().title()),
            &format!("{instead}; or --to {able}"),
        )
    }

    /// Fails where a device has no kernels for the precision.
    fn check_devices(&self) -> Result<(), Failure> {
        for (backend, device) in self.targets.iter().filter_map(|b| Some((b, b.device()?))) {
            let weights = matches!(self.precision, Precision::W8A32 | Precision::W4A32);
            let what = match () {
                () if self.precision == Precision::Float16 && backend.target().lacks(&Elem::F16) => "16-bit floats",
                () if weights && !backend.target().takes_weights() => "kernels for quantized weights of float layers",
                // Kernels of TensorFlow Lite always do that.
                () if backend.is_dynamic() && device.format != Format::Tflite => {
                    return usage(
                        &format!("models for {} quantize no activations at run time", device.name),
                        "leave --dynamic out",
                    );
                }
                () if self.has_quantized_interface() && !backend.target().has_quantized_interface() => {
                    return usage(
                        &format!("{} takes no integer inputs and outputs", device.name),
                        "leave --io out: they are floats",
                    );
                }
                () => continue,
            };
            return usage(
                &format!("{} has no {what}", device.name),
                "add --int8, or leave the precision out for float32",
            );
        }
        Ok(())
    }

    fn has_quantized_interface(&self) -> bool {
        !self.interface.is_float()
    }

    /// Fails if the artefacts cannot all be written to `output`.
    pub(crate) fn check_output(&self, output: &Output) -> Result<(), Failure> {
        match output {
            Output::File(_) if self.targets.len() > 1 => {
                usage("several targets do not fit into one file", "give a folder: -o FOLDER/")
            }
            _ => Ok(()),
        }
    }

    fn check_preparation(&self, has_data: bool) -> Result<(), Failure> {
        if self.preparation != Preparation::default() && !has_data {
            return usage(
                "preprocessing options have no effect without data",
                "add --data, or leave --preprocess and the like out",
            );
        }
        Ok(())
    }

    /// True if the weights of models with weight-only quantization are dequantized.
    pub(crate) fn dequantizes_weights(&self) -> bool {
        let kept = match self.precision {
            Precision::Float32 => !self.float_weights,
            precision => precision == Precision::W8A32,
        };
        let kernels = self.targets.iter().all(|b| b.device().is_none() || b.target().takes_weights());
        !kept || !kernels || self.half_values || !self.exclude.is_empty()
    }

    /// True where calibration is needed and there are no data.
    pub(crate) fn lacks_data(&self, given: Given) -> bool {
        !given.has_activations()
            && self.precision.quantizes_activations()
            && self.calibration.is_none()
            && !self.has_ranges()
    }

    /// Fails where options contradict the quantization parameters of a quantized source model (`given`).
    pub(crate) fn check_ranges(&self, given: Given) -> Result<(), Failure> {
        if self.dense_per_tensor && given != Given::Nothing {
            return usage(
                "the model is quantized already: its weights have scales of their own",
                "leave --per-tensor out, or give the float model that it was made from",
            );
        }
        let given = given.has_activations();
        if given {
            self.check_preparation(self.has_samples())?;
        }
        if given && !matches!(self.precision, Precision::Float32 | Precision::Int8) {
            let help = "leave the precision out, or give the float model that it was made from";
            return usage("the model is quantized already", help);
        }
        if given && !self.exclude.is_empty() {
            return usage(
                "the model is quantized already: it defines which nodes stay in floating point",
                "leave --exclude out",
            );
        }
        Ok(())
    }
}

/// The names of the formats whose targets have an ability.
fn formats(able: impl Fn(&Target) -> bool) -> String {
    let able = Format::ALL.iter().map(|format| format.target()).filter(|target| able(target));
    able.map(|target| target.name).collect::<Vec<_>>().join(" or ")
}

fn usage(message: &str, help: &str) -> Result<(), Failure> {
    Err(Failure::usage(Diagnostic::error("usage", message).with_help(help)))
}

/// The default block size.
const DEFAULT_BLOCK: usize = 32;

/// Help text on how data are given.
pub const DATA_HELP: &str = "--data PATH, where PATH is a dataset .yaml or .ndjson, a folder or a .zip of pictures, a .txt \
list of pictures, a .npy or a .npz file with one array for each input, or a folder or a .zip of such files; --data random \
tries out a model without data";

/// Message of the error that calibration data are missing.
pub(crate) fn no_data(precision: Precision) -> String {
    format!("{precision} needs calibration data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_usage_errors() {
        let data = Calibration::new(Data::Random);
        let output = Output::File("x".into());
        let float = Options::default();
        for options in [
            Options { gate: Gate { min_sqnr: Some(20.0), ..Gate::default() }, ..float.clone() },
            Options { gate: Gate { min_agreement: Some(90.0), ..Gate::default() }, ..float.clone() },
            Options { calibration: Some(data), ..float.clone() },
            Options { validation: Some(Data::Random), ..float.clone() },
            Options { precision: Precision::W8A32, method: Some(Method::Mse), ..float.clone() },
            Options { precision: Precision::W8A32, ranges: Some("a.json".into()), ..float.clone() },
            Options { precision: Precision::W8A32, statistics: Some("a.qstats".into()), ..float.clone() },
            Options { interface: quantize::Interface::Quantized(StorageType::I8).into(), ..float.clone() },
            Options { interface: quantize::Interface::Quantized(StorageType::I16).into(), ..float.clone() },
            Options {
                precision: Precision::Int8,
                interface: quantize::Interface::Quantized(StorageType::I16).into(),
                ..float.clone()
            },
            Options {
                precision: Precision::W8A16,
                interface: quantize::Interface::Quantized(StorageType::I8).into(),
                ..float.clone()
            },
            Options { precision: Precision::W8A16, targets: vec![Format::Openvino.into()], ..float.clone() },
            Options { exclude: vec!["*".into()], ..float.clone() },
            Options { effort: Effort::High, ..float.clone() },
            Options { block: 64, ..float.clone() },
            Options { dense_per_tensor: true, ..float.clone() },
            Options { dense_per_tensor: true, precision: Precision::W4A32, ..float.clone() },
            Options { precision: Precision::W4A32, block: 16, ..float.clone() },
            Options { targets: Vec::new(), ..float.clone() },
            Options { targets: vec![Format::Tflite.into(); 2], ..float.clone() },
        ] {
            assert!(matches!(options.check(), Err(Failure::Usage(_))));
        }
        assert!(float.check().is_ok());
        let two = Options { targets: vec![Format::Tflite.into(), Format::Onnx.into()], ..float.clone() };
        assert!(matches!(two.check_output(&output), Err(Failure::Usage(_))));
        assert!(float.check_output(&output).is_ok());
        let int8 = Options { precision: Precision::Int8, ..Options::default() };
        assert!(int8.lacks_data(Given::Nothing) && !int8.lacks_data(Given::All) && !float.lacks_data(Given::Nothing));
        let prepared = Preparation { scale: Some(1.0), ..Preparation::default() };
        let prepared = Options { preparation: prepared, ..int8.clone() };
        assert!(prepared.check().is_ok() && prepared.check_ranges(Given::Nothing).is_ok());
        assert!(matches!(prepared.check_ranges(Given::All), Err(Failure::Usage(_))));
        assert!(matches!(Options { precision: Precision::W8A32, ..prepared }.check(), Err(Failure::Usage(_))));
        assert!(int8.check_ranges(Given::All).is_ok());
    }
}

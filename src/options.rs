//! What is wanted of a compilation, and which wishes go together.

use std::path::PathBuf;
use std::sync::Arc;

use qcc_backends::{Backend, Format};
use qcc_frontends::ImportOptions;
use qcc_ir::Tensor;
use qcc_ir::diagnostic::Diagnostic;
use qcc_passes::calibrate::Method;
use qcc_passes::layout::{self, ImageOrder};
use qcc_passes::quantize;

use crate::data::{DataError, Dataset, Preparation, SampleSource};
use crate::outcome::{Failure, Output};
use crate::precision::Precision;
use crate::quality::Gate;
use crate::reports;

/// Where calibration data come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Data {
    /// A file or folder that [`Dataset::open`] knows.
    Path(PathBuf),
    /// Random numbers.
    Random,
    /// Pictures that qcc makes itself: [`Dataset::synthetic`].
    Synthetic,
    /// Samples of the caller's own.
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
            Data::Samples(source) => Ok(Dataset::samples(Arc::clone(source))),
        }
    }
}

/// How calibration is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Calibration {
    /// The data.
    pub data: Data,
    /// Number of samples at most.
    pub samples: Option<usize>,
    /// How ranges are chosen. `None`: [`Method::Mse`]; only [`Precision::Int8`] has a choice.
    pub method: Option<Method>,
}

impl Calibration {
    /// Calibration on all of the data, with the method of the precision.
    pub fn new(data: impl Into<Data>) -> Self {
        Calibration { data: data.into(), samples: None, method: None }
    }
}

/// What is wanted of a compilation.
///
/// ```
/// use qcc::{Calibration, Data, Options, Precision, backends::Format};
/// let mut options = Options::new([Format::Onnx, Format::Openvino], Precision::Int8);
/// options.calibration = Some(Calibration::new(Data::Path("pictures/".into())));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The formats to write. Data are evaluated once for all of them.
    pub targets: Vec<Arc<dyn Backend>>,
    /// The numbers to compute with.
    pub precision: Precision,
    /// [`Precision::Float16`]: values are 16 bits wide too, not the weights alone, on targets that compute with such.
    pub half_values: bool,
    /// Weights that share a scale, of those that are summed up to one number; for [`Precision::W4A32`].
    pub block: usize,
    /// Shapes and values of inputs.
    pub import: ImportOptions,
    /// The data that ranges are found on; [`Precision::Int8`] needs them, and takes [`Data::Synthetic`] for models of images
    /// where there are none. Where there are 8 samples or more, a quarter is kept out, and the result is compared with the
    /// float model on these, unless there is [`Options::validation`].
    pub calibration: Option<Calibration>,
    /// The data that the result is compared with the float model on, all of them.
    pub validation: Option<Data>,
    /// What pictures are made into, where the model does not say.
    pub preparation: Preparation,
    /// What inputs and outputs hold.
    pub interface: quantize::Interface,
    /// Order of the axes of images at the inputs and outputs.
    pub layout: layout::Interface,
    /// [`Precision::Int8`]: no product has real activations that the runtime quantizes; runtimes for microcontrollers have
    /// no kernels for those.
    pub only_static: bool,
    /// Nodes that stay in floating point, by name; `*` stands for any characters.
    pub exclude: Vec<String>,
    /// Where the [`Report`](crate::Report) is written: as a page to read (`.html`), as node data for Model Explorer
    /// (`.overlay.json`), or as JSON. Together with the artefacts, or alone where their quality does not pass
    /// [`Options::gate`].
    pub reports: Vec<PathBuf>,
    /// The command that asks for all this, for the report.
    pub command: Option<String>,
    /// What every output must reach beside those of the float model.
    pub gate: Gate,
    /// Simplifying rewrites of a graph, at most: to find the one that changes something.
    pub stop_after: Option<usize>,
    /// Compare what is written with the model on one sample, and write nothing that differs by more than the precision
    /// explains.
    pub verify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            targets: vec![Format::Tflite.into()],
            precision: Precision::Float32,
            half_values: false,
            block: DEFAULT_BLOCK,
            import: ImportOptions::default(),
            calibration: None,
            validation: None,
            preparation: Preparation::default(),
            interface: quantize::Interface::Float,
            layout: layout::Interface { input: ImageOrder::Nhwc, output: ImageOrder::Nhwc },
            only_static: false,
            exclude: Vec::new(),
            reports: Vec::new(),
            command: None,
            gate: Gate::default(),
            stop_after: None,
            verify: false,
        }
    }
}

impl Options {
    /// Artefacts of one precision, with nothing else asked for.
    pub fn new<B: Into<Arc<dyn Backend>>>(targets: impl IntoIterator<Item = B>, precision: Precision) -> Self {
        Options { targets: targets.into_iter().map(Into::into).collect(), precision, ..Options::default() }
    }

    /// Fails where options contradict each other or leave something out.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.targets.is_empty()
            || self
                .targets
                .iter()
                .enumerate()
                .any(|(i, t)| self.targets[..i].iter().any(|before| before.target().name == t.target().name))
        {
            return usage("each target is written once", "name targets once each: --to tflite,onnx,openvino");
        }
        if self.targets.iter().any(|t| t.is_dynamic()) && !matches!(self.precision, Precision::W8A32 | Precision::W4A32)
        {
            return usage(
                "activations are quantized when the model runs where weights alone are narrow",
                "add --w8a32",
            );
        }
        if self.only_static && self.precision != Precision::Int8 {
            return usage(
                "--static keeps the products of an int8 model from quantizing activations when the model runs",
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
        let has_data = self.calibration.is_some() || self.validation.is_some();
        if !self.gate.is_open() && !has_data {
            return usage(
                "--min-sqnr and --min-agreement compare a quantized model with the float one on data",
                DATA_HELP,
            );
        }
        if self.calibration.as_ref().is_some_and(|c| c.method.is_some()) && self.precision != Precision::Int8 {
            return usage(
                "--calibrator chooses the ranges of int8 activations",
                "add --int8, or leave --calibrator out",
            );
        }
        let computes = |b: &Arc<dyn Backend>| self.precision == Precision::Float16 && b.target().half_values;
        if self.half_values && !self.targets.iter().all(computes) {
            return usage("16-bit values need --fp16 and a target that computes with them", "--to onnx --fp16");
        }
        if has_data && !self.precision.is_quantized() && !self.half_values && !self.verify {
            return usage(
                "data are used by int8, w8a32, w4a32, --half-values and --verify",
                "leave --data out, or ask for --int8",
            );
        }
        if self.precision != Precision::Int8 {
            self.check_preparation(has_data)?;
        }
        if let Some(odd) =
            self.targets.iter().find(|b| self.precision == Precision::W4A32 && !b.target().takes_blocks())
        {
            let able: Vec<&str> =
                Format::ALL.iter().map(|f| f.target()).filter(|t| t.takes_blocks()).map(|t| t.name).collect();
            let message = format!("{} has no 4-bit weights in blocks", odd.target().name);
            return usage(&message, &format!("--to {}, or --quantize w8a32", able.join(" or ")));
        }
        if self.block == 0 || (self.block != DEFAULT_BLOCK && self.precision != Precision::W4A32) {
            return usage("only 4-bit weights lie in blocks", "add --quantize w4a32, or leave --block out");
        }
        if matches!(self.interface, quantize::Interface::Quantized(_)) && self.precision != Precision::Int8 {
            return usage("integer inputs and outputs need an integer model", "add --int8, or leave --io out");
        }
        if self.interface == quantize::Interface::Half && !self.half_values {
            return usage("16-bit inputs and outputs need a model that computes with those", "add --half-values");
        }
        if !self.exclude.is_empty() && !self.precision.is_quantized() {
            return usage(
                "nothing is quantized that nodes could be excluded from",
                "add --int8, or leave --exclude out",
            );
        }
        Ok(())
    }

    /// Fails where the artefacts cannot all go to `output`.
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
                "nothing is read that could be prepared",
                "add --data, or leave --preprocess and the like out",
            );
        }
        Ok(())
    }

    /// True where ranges of values are wanted that no data tell.
    pub(crate) fn lacks_data(&self, given: bool) -> bool {
        !given && self.precision == Precision::Int8 && self.calibration.is_none()
    }

    /// Fails where other ranges of values are wanted than those `given` by a quantized model.
    pub(crate) fn check_ranges(&self, given: bool) -> Result<(), Failure> {
        if given {
            self.check_preparation(self.calibration.is_some() || self.validation.is_some())?;
        }
        if given && !matches!(self.precision, Precision::Float32 | Precision::Int8) {
            let help = "leave the precision out, or give the float model that it was made from";
            return usage("the model is quantized already", help);
        }
        if given && !self.exclude.is_empty() {
            return usage("the model is quantized already: it says itself what stays real", "leave --exclude out");
        }
        Ok(())
    }
}

fn usage(message: &str, help: &str) -> Result<(), Failure> {
    Err(Failure::usage(Diagnostic::error("usage", message).with_help(help)))
}

/// Weights of a block, where nothing else is asked.
const DEFAULT_BLOCK: usize = 32;

/// How data are given, for whoever forgot.
pub const DATA_HELP: &str = "--data PATH, where PATH is a dataset .yaml, a folder of pictures, a .txt list of pictures, a \
.npy or a .npz file with one array for each input; --data random tries out a model without data";

/// That there are no data of the model's own kind.
pub(crate) const NO_DATA: &str = "int8 needs data to find the ranges of values on";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_usage_errors() {
        let data = Calibration { data: Data::Random, samples: None, method: None };
        let output = Output::File("x".into());
        let float = Options::default();
        for options in [
            Options { gate: Gate { min_sqnr: Some(20.0), min_agreement: None }, ..float.clone() },
            Options { gate: Gate { min_sqnr: None, min_agreement: Some(90.0) }, ..float.clone() },
            Options { calibration: Some(data.clone()), ..float.clone() },
            Options { validation: Some(Data::Random), ..float.clone() },
            Options {
                precision: Precision::W8A32,
                calibration: Some(Calibration { method: Some(Method::Mse), ..data }),
                ..float.clone()
            },
            Options { interface: quantize::Interface::Quantized(qcc_ir::StorageType::I8), ..float.clone() },
            Options { exclude: vec!["*".into()], ..float.clone() },
            Options { block: 64, ..float.clone() },
            Options { precision: Precision::W4A32, ..float.clone() },
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
        assert!(int8.lacks_data(false) && !int8.lacks_data(true) && !float.lacks_data(false));
        let prepared = Preparation { scale: Some(1.0), ..Preparation::default() };
        let prepared = Options { preparation: prepared, ..int8.clone() };
        assert!(prepared.check().is_ok() && prepared.check_ranges(false).is_ok());
        assert!(matches!(prepared.check_ranges(true), Err(Failure::Usage(_))));
        assert!(matches!(Options { precision: Precision::W8A32, ..prepared }.check(), Err(Failure::Usage(_))));
        assert!(int8.check_ranges(true).is_ok());
    }
}

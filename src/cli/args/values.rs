//! The kinds of values that arguments take.

use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::backends::{Device, State};
use crate::frontends::{Cut, GivenShape, ImportOptions};
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

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
pub(super) fn spelling() -> impl TypedValueParser<Value = Spelling> {
    let names = Spelling::FORMATS.iter().map(|(name, _)| *name).chain(Device::ALL.iter().map(|device| device.name));
    PossibleValuesParser::new(names).try_map(|name| Spelling::named(&name).ok_or("no such format or device"))
}

/// Parses the name of a device.
pub(super) fn device() -> impl TypedValueParser<Value = &'static Device> {
    let names = Device::ALL.iter().map(|device| PossibleValue::new(device.name).help(device.about));
    PossibleValuesParser::new(names).try_map(|name| Device::named(&name).ok_or("no such device"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
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

/// Options of the importer: shapes, inputs that become constants, and random results.
pub(crate) fn import_options(
    shapes: Vec<(String, GivenShape)>,
    set: &[Named<f64>],
    random: Option<Random>,
) -> ImportOptions {
    let values = set.iter().map(|s| (s.name.clone(), s.values.clone())).collect();
    ImportOptions { shapes, values, random_inputs: random == Some(Random::Input), ..ImportOptions::default() }
}

/// What operators with random results do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Random {
    /// They take samples from inputs of the model.
    Input,
}

/// Parses a state: `INPUT=OUTPUT`.
pub(super) fn state(s: &str) -> Result<State, String> {
    let names = s.split_once('=').filter(|(input, output)| !input.is_empty() && !output.is_empty());
    let (input, output) = names.ok_or("expected INPUT=OUTPUT")?;
    Ok(State { input: input.into(), output: output.into() })
}

/// Parses a part of a model: `INPUT,..OUTPUT,..`.
pub(super) fn cut(s: &str) -> Result<Cut, String> {
    let (inputs, outputs) = s.split_once("..").ok_or("expected INPUT..OUTPUT, NAME.. or ..NAME")?;
    let names = |s: &str| s.split(',').filter(|name| !name.is_empty()).map(Into::into).collect();
    let cut = Cut { inputs: names(inputs), outputs: names(outputs) };
    if cut == Cut::default() { Err("expected the name of a value on one side of ..".into()) } else { Ok(cut) }
}

/// What `qcc completions` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
    /// The manual page, for `man`
    Man,
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
    #[value(name = "32", aliases = ["float32", "fp32"])]
    Float32,
    #[value(name = "16", aliases = ["float16", "fp16", "w16a16"])]
    Float16,
    #[value(name = "8", aliases = ["int8", "w8a8"])]
    Int8,
    /// TFLite and ONNX: 8-bit weights, 16-bit activations
    W8a16,
    W8a32,
    /// Blockwise 4-bit weights of matrix products; other weights have 8 bits
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
pub(crate) enum PerTensor {
    /// Fully connected layers and other products with a constant matrix
    Dense,
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
    Int16,
}

/// `TYPE`, or `NAME=TYPE` for one input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: Option<String>,
    pub(crate) io: Io,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        // Names may contain `=`; types do not.
        let (name, io) = s.rsplit_once('=').map_or((None, s), |(name, io)| (Some(name.to_owned()), io));
        let types = || {
            let names = Io::value_variants().iter().filter_map(ValueEnum::to_possible_value);
            names.map(|value| value.get_name().to_owned()).collect::<Vec<_>>().join(", ")
        };
        let io = Io::from_str(io, false).map_err(|_| format!("`{io}` is none of {}", types()))?;
        Ok(Port { name, io })
    }
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

/// Height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageSize(pub(crate) [usize; 2]);

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let values: Vec<usize> = s.split(',').map(|n| positive(n.trim())).collect::<Result<_, _>>()?;
        match values[..] {
            [both] => Ok(ImageSize([both; 2])),
            [height, width] => Ok(ImageSize([height, width])),
            _ => Err("expected one number, or height and width".into()),
        }
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
pub(super) fn number(s: &str) -> Result<f64, String> {
    let parse = |s: &str| s.trim().parse::<f64>().map_err(|_| format!("`{s}` is not a number"));
    let value = match s.split_once('/') {
        Some((a, b)) => parse(a)? / parse(b)?,
        None => parse(s)?,
    };
    if value.is_finite() { Ok(value) } else { Err(format!("`{s}` is not a finite number")) }
}

/// Divisors per channel, all above 0.
pub(super) fn divisors(s: &str) -> Result<Channels, String> {
    let channels: Channels = s.parse()?;
    if channels.0.iter().all(|c| *c > 0.0) { Ok(channels) } else { Err("expected numbers above 0".into()) }
}

pub(super) fn share(s: &str) -> Result<f64, String> {
    number(s).ok().filter(|x| *x > 0.0 && *x <= 1.0).ok_or_else(|| "expected a number above 0 and at most 1".into())
}

pub(super) fn positive(s: &str) -> Result<usize, String> {
    s.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_fractions() {
        assert_eq!(number("1/255"), Ok(1.0 / 255.0));
        assert_eq!(number("-0.5"), Ok(-0.5));
        assert_eq!(divisors("0.5,1/4,2"), Ok(Channels([0.5, 0.25, 2.0])));
        assert!(divisors("0").is_err() && divisors("1,2").is_err());
        assert!(number("1/0").is_err() && number("x").is_err() && number("inf").is_err());
    }

    #[test]
    fn image_sizes_have_one_number_or_two() {
        assert_eq!("640".parse(), Ok(ImageSize([640, 640])));
        assert_eq!("384, 640".parse(), Ok(ImageSize([384, 640])));
        assert!(["", "0", "1,2,3", "-1"].iter().all(|s| s.parse::<ImageSize>().is_err()));
        assert!(share("1/2") == Ok(0.5) && share("1") == Ok(1.0));
        assert!(["0", "1.5", "-1", "x"].iter().all(|s| share(s).is_err()));
    }

    #[test]
    fn inputs_and_outputs_have_types_by_name() {
        let port = |name: Option<&str>, io| Ok(Port { name: name.map(Into::into), io });
        assert_eq!("int8".parse(), port(None, Io::Int8));
        assert_eq!("a=b=half".parse(), port(Some("a=b"), Io::Half));
        assert_eq!("x=int9".parse::<Port>(), Err("`int9` is none of float, float16, int8, uint8, int16".into()));
    }

    #[test]
    fn names_may_hold_an_equals_sign() {
        let named: Named<usize> = "a=b=1,2".parse().unwrap();
        assert_eq!(named, Named { name: "a=b".into(), values: vec![1, 2] });
        assert!("a".parse::<Named<usize>>().is_err());
        assert!("a=1,x".parse::<Named<usize>>().is_err());
    }
}

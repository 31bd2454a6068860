//! The contents of an artefact in the terms of its format: [`Disassembly`]. Each format fills it, [`std::fmt::Display`]
//! prints it, `serde` writes it as JSON (`docs/inspect.md` describes both), and [`Changes`] are the differences of two
//! of them.
//!
//! ```
//! use qcc_backends::disassembly::Disassembly;
//! use qcc_ir::text::{Weights, parse};
//! let of = |f: &str| {
//!     let text = format!("graph g {{ %x: f32[2] = input %y = unary(f:{f}) %x output y = %y }}");
//!     parse(&text, &Weights::new()).map(|g| Disassembly::of_graph(&g))
//! };
//! let changes = of("Neg")?.diff(&of("Abs")?);
//! assert!(!changes.equal);
//! # Ok::<_, qcc_ir::text::ParseError>(())
//! ```

use bytes::Bytes;
use half::{bf16, f16};
use qcc_ir::diagnostic::Diagnostic;
use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

mod align;
mod diff;
mod graph;
mod text;

pub use diff::{Change, Changes, Subject};
pub(crate) use text::shape;

/// Reads a file in the model's folder by name, or returns the reason of failure.
pub type Beside<'b> = &'b dyn Fn(&str) -> Result<Bytes, String>;

/// Version of the JSON schema. It is incremented when an existing field changes its meaning or is removed, not when one
/// is added.
pub const SCHEMA: u32 = 1;

/// Maximum number of elements of a constant that are shown as numbers.
pub const SHOWN: usize = 8;

/// Why a file cannot be disassembled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The file is not of the expected format.
    Invalid(String),
    /// The bytes of a constant are not available.
    Missing {
        /// The constant.
        constant: String,
        /// The reason.
        why: String,
    },
}

impl Unreadable {
    /// The message to the user.
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Unreadable::Invalid(why) => Diagnostic::invalid_model(why),
            Unreadable::Missing { .. } => Diagnostic::error("missing-data", self.to_string())
                .with_help("keep the files with its data beside the model, under the names that it gives"),
        }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::Invalid(why) => f.write_str(why),
            Unreadable::Missing { constant, why } => write!(f, "constant {constant}: {why}"),
        }
    }
}

impl std::error::Error for Unreadable {}

/// The contents of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Disassembly {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The format: `tflite`, `onnx`, `openvino` or `graph` (the graph of qcc).
    pub format: &'static str,
    /// Properties of the file itself, such as versions, in file order.
    pub header: Vec<Entry>,
    /// Metadata of the model, in file order.
    pub metadata: Vec<Entry>,
    /// The main graph, then its subgraphs and functions.
    pub graphs: Vec<Listing>,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// The value as text.
    pub value: String,
}

/// A graph: tensors, and operators in file order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// The named inputs.
    pub inputs: Vec<Named>,
    /// The named outputs.
    pub outputs: Vec<Named>,
    /// The tensors that the file describes.
    pub tensors: Vec<Tensor>,
    /// The operators.
    pub operators: Vec<Operator>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The id of its tensor.
    pub tensor: String,
}

/// A tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tensor {
    /// The id that operators refer to; unique within the graph.
    pub id: String,
    /// Its name in the file, if that is not the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its element type in the format's notation; empty if the file does not specify it.
    pub element: String,
    /// Its extents; open ones are strings. Absent if the rank is unknown.
    pub shape: Option<Vec<Extent>>,
    /// The memory order of the axes, outermost first, if it is not row-major.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Its quantization parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// The elements, if it is a constant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<Constant>,
}

/// An extent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Extent {
    /// A number.
    Known(u64),
    /// An open extent: its name or `?`.
    Open(String),
}

/// Quantization parameters: `real = scale * (integer - zero point)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quantization {
    /// The axis of per-channel scales.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
    /// Block size: number of indices along the axis that share a scale, if more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// Number of levels of a FakeQuantize.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<u32>,
    /// The scales.
    pub scales: Vec<f32>,
    /// The zero points: one per scale, or one for all. An empty list means 0.
    pub zero_points: Vec<i64>,
}

/// The elements of a constant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Constant {
    /// Length of the stored bytes.
    pub bytes: u64,
    /// Digest of these bytes.
    pub digest: Digest,
    /// The elements in stored order, if there are few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// SHA-256 of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(Sha256::digest(bytes).into())
    }
}

/// Computes the digest of bytes that are written one after the other.
#[derive(Clone, Debug, Default)]
pub struct Digester(Sha256);

impl Digester {
    /// The digest of all bytes so far.
    pub fn finish(&self) -> Digest {
        Digest(self.0.clone().finalize().into())
    }
}

impl std::io::Write for Digester {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An operator with its operands and results.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Operator {
    /// Its name, if the file has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its type: the format's name, with domain or version where the format has them.
    pub kind: String,
    /// Ids of operands; `null` for an omitted one.
    pub inputs: Vec<Option<String>>,
    /// Ids of results; `null` for an unused one.
    pub outputs: Vec<Option<String>>,
    /// Its attributes.
    pub attributes: Vec<Entry>,
}

impl Entry {
    /// An entry.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Entry { name: name.into(), value: value.into() }
    }
}

impl Disassembly {
    /// An empty disassembly of a format.
    pub fn new(format: &'static str) -> Self {
        Disassembly { schema: SCHEMA, format, ..Disassembly::default() }
    }
}

impl Constant {
    /// A constant with the element type in the format's notation.
    pub(crate) fn new(element: &str, bytes: &[u8]) -> Self {
        Constant::known(element, bytes, Digest::of(bytes))
    }

    /// As [`Constant::new`], with a digest that is already known.
    pub(crate) fn known(element: &str, bytes: &[u8], digest: Digest) -> Self {
        Constant { bytes: bytes.len() as u64, digest, values: values(element, bytes) }
    }
}

/// The values of a constant of scales or zero points; `None` for other element types.
pub(crate) fn numbers(element: &str, bytes: &[u8]) -> Option<Vec<f64>> {
    macro_rules! of {
        ($ty:ty, $number:expr) => {{
            const WIDTH: usize = size_of::<$ty>();
            bytes.as_chunks::<WIDTH>().0.iter().map(|chunk| $number(<$ty>::from_le_bytes(*chunk))).collect()
        }};
    }
    Some(match element {
        "float" | "f32" => of!(f32, f64::from),
        "float16" | "f16" => of!(u16, |b| f16::from_bits(b).to_f64()),
        "bfloat16" | "bf16" => of!(u16, |b| bf16::from_bits(b).to_f64()),
        "int8" | "i8" => of!(i8, f64::from),
        "uint8" | "u8" => of!(u8, f64::from),
        "int16" | "i16" => of!(i16, f64::from),
        "uint16" | "u16" => of!(u16, f64::from),
        "int32" | "i32" => of!(i32, f64::from),
        _ => return None,
    })
}

/// The elements as text, if there are few and their width is a multiple of 8 bits.
fn values(element: &str, bytes: &[u8]) -> Option<Vec<String>> {
    let few = |width: usize| bytes.len() <= SHOWN * width && bytes.len().is_multiple_of(width);
    macro_rules! of {
        ($ty:ty, $show:expr) => {{
            const WIDTH: usize = size_of::<$ty>();
            let show = |chunk: &[u8; WIDTH]| $show(<$ty>::from_le_bytes(*chunk));
            few(WIDTH).then(|| bytes.as_chunks::<WIDTH>().0.iter().map(show).collect())
        }};
    }
    let float = |x: f32| format!("{x:?}");
    match element.to_ascii_lowercase().as_str() {
        "float" | "float32" | "f32" => of!(f32, float),
        "double" | "float64" | "f64" => of!(f64, |x: f64| format!("{x:?}")),
        "float16" | "f16" => of!(u16, |b| float(f16::from_bits(b).to_f32())),
        "bfloat16" | "bf16" => of!(u16, |b| float(bf16::from_bits(b).to_f32())),
        "int8" | "i8" => of!(i8, |x: i8| x.to_string()),
        "uint8" | "u8" => of!(u8, |x: u8| x.to_string()),
        "bool" | "boolean" => of!(u8, |x: u8| (x != 0).to_string()),
        "int16" | "i16" => of!(i16, |x: i16| x.to_string()),
        "uint16" | "u16" => of!(u16, |x: u16| x.to_string()),
        "int32" | "i32" => of!(i32, |x: i32| x.to_string()),
        "uint32" | "u32" => of!(u32, |x: u32| x.to_string()),
        "int64" | "i64" => of!(i64, |x: i64| x.to_string()),
        "uint64" | "u64" => of!(u64, |x: u64| x.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

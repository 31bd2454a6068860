//! What is in an artefact, as its format has it: [`Disassembly`]. Each format fills it, [`std::fmt::Display`] prints it,
//! `serde` writes it as JSON (`docs/inspect.md` describes both), and [`Changes`] tells two of them apart.
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

/// Gives the bytes of a file beside the model, by its name, or says why it cannot.
pub type Beside<'b> = &'b dyn Fn(&str) -> Result<Bytes, String>;

/// Version of the JSON form. It grows when what is there changes its meaning or goes, not when something is added.
pub const SCHEMA: u32 = 1;

/// Elements of a constant that are shown as numbers.
pub const SHOWN: usize = 8;

/// Why a file cannot be disassembled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is none of its format.
    Invalid(String),
    /// Bytes of a constant cannot be had.
    Missing {
        /// The constant.
        constant: String,
        /// Why.
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

/// What is in a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Disassembly {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The format: `tflite`, `onnx`, `openvino` or `graph` (the graph of qcc).
    pub format: &'static str,
    /// What the file says about its form, such as versions, in the file's order.
    pub header: Vec<Entry>,
    /// What the file says about the model, in the file's order.
    pub metadata: Vec<Entry>,
    /// The main graph, then those that it uses.
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

/// A graph: tensors, and the operators on them in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// The names that users find inputs by.
    pub inputs: Vec<Named>,
    /// The names that users find outputs by.
    pub outputs: Vec<Named>,
    /// The tensors of which the file says something.
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
    /// What operators call it by; no other tensor of the graph has the same.
    pub id: String,
    /// Its name in the file, where that is not the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its element, as the format spells it; empty where the file does not say.
    pub element: String,
    /// Its extents; a text stands for an open one. Absent where not even the rank is known.
    pub shape: Option<Vec<Extent>>,
    /// The order in which the axes lie in memory, outermost first, where that is not their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// How integers stand for real numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// The elements, where it is a constant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constant: Option<Constant>,
}

/// An extent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Extent {
    /// A number.
    Known(u64),
    /// An open one, by its name or `?`.
    Open(String),
}

/// Quantization: `real = scale * (integer - zero point)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Quantization {
    /// The axis along which scales differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
    /// Indices of the axis that share a scale, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// Number of levels, where a FakeQuantize has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<u32>,
    /// The scales.
    pub scales: Vec<f32>,
    /// The zero points: one for each scale, or one for all. None are 0.
    pub zero_points: Vec<i64>,
}

/// The elements of a constant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Constant {
    /// Length in bytes as they are stored.
    pub bytes: u64,
    /// Digest of these bytes.
    pub digest: Digest,
    /// The elements in stored order, where they are few.
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

/// An operator and what it works on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Operator {
    /// Its name, where the file gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does: the format's name, with domain or version where they belong to it.
    pub kind: String,
    /// Ids of operands; `null` where one is left out.
    pub inputs: Vec<Option<String>>,
    /// Ids of results; `null` where one is not wanted.
    pub outputs: Vec<Option<String>>,
    /// How it does it.
    pub attributes: Vec<Entry>,
}

impl Entry {
    /// An entry.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Entry { name: name.into(), value: value.into() }
    }
}

impl Disassembly {
    /// A file of a format, of which nothing is known yet.
    pub fn new(format: &'static str) -> Self {
        Disassembly { schema: SCHEMA, format, ..Disassembly::default() }
    }
}

impl Constant {
    /// A constant of an element that the format spells so.
    pub(crate) fn new(element: &str, bytes: &[u8]) -> Self {
        Constant::known(element, bytes, Digest::of(bytes))
    }

    /// The same, where the digest is known.
    pub(crate) fn known(element: &str, bytes: &[u8], digest: Digest) -> Self {
        Constant { bytes: bytes.len() as u64, digest, values: values(element, bytes) }
    }
}

/// The numbers of a constant, which are scales or zero points; `None` where the element is none of theirs.
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

/// The elements in bytes, where they are few and whole bytes.
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

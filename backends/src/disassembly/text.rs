//! Text form of a disassembly: one line for each input, output, tensor and operator.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use qcc_ir::diagnostic::printable;

use super::{Constant, Digest, Disassembly, Entry, Extent, Listing, Named, Operator, Quantization, Tensor};

/// Maximum number of scales and zero points that are shown individually.
const MOST_SCALES: usize = 64;

impl Display for Disassembly {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.format)?;
        for Entry { name, value } in &self.header {
            writeln!(f, "{}: {}", printable(name), printable(value))?;
        }
        for Entry { name, value } in &self.metadata {
            writeln!(f, "metadata {}: {}", word(name), printable(value))?;
        }
        self.graphs.iter().try_for_each(|graph| write!(f, "{graph}"))
    }
}

impl Display for Listing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "graph {}", quoted(&self.name))?;
        for (way, all) in [("input", &self.inputs), ("output", &self.outputs)] {
            for Named { name, tensor } in all {
                match name == tensor {
                    true => writeln!(f, "  {way} {}", word(name))?,
                    false => writeln!(f, "  {way} {} = {}", word(name), word(tensor))?,
                }
            }
        }
        self.tensors.iter().try_for_each(|tensor| writeln!(f, "  {tensor}"))?;
        self.operators.iter().try_for_each(|operator| writeln!(f, "  {operator}"))
    }
}

/// `%3 "name": FLOAT32 [1, 2] <0.5:3> = [1, 2] in 8 bytes sha256:..`
impl Display for Tensor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&word(&self.id))?;
        if let Some(name) = &self.name {
            write!(f, " {}", quoted(name))?;
        }
        write!(f, ": {}", self.r#type())?;
        match &self.constant {
            Some(constant) => write!(f, " = {constant}"),
            None => Ok(()),
        }
    }
}

impl Tensor {
    /// Element type, extents, layout and quantization parameters.
    fn r#type(&self) -> String {
        let element = if self.element.is_empty() { "?" } else { &self.element };
        let shape = self.shape.as_deref().map_or("[..]".into(), shape);
        let quantization = self.quantization.as_ref().map_or(String::new(), |q| format!(" {q}"));
        let layout = self.layout.as_ref().map_or(String::new(), |layout| format!(" {layout}"));
        format!("{} {shape}{layout}{quantization}", printable(element))
    }
}

/// Extents.
pub(crate) fn shape(extents: &[Extent]) -> String {
    let extents: Vec<String> = extents.iter().map(ToString::to_string).collect();
    format!("[{}]", extents.join(", "))
}

impl Display for Extent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Known(n) => n.fmt(f),
            Extent::Open(name) => f.write_str(&word(name)),
        }
    }
}

/// `<0.5:3>`, `<axis 0: 0.5, 0.25>`, `<axis 1 by 32: 64 scales 0.01..0.5 sha256:..>`; several zero points follow after
/// a semicolon.
impl Display for Quantization {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("<")?;
        if let Some(levels) = self.levels {
            write!(f, "{levels} levels, ")?;
        }
        let zero = match self.zero_points.as_slice() {
            [] => Some(0),
            [zero] => Some(*zero),
            _ => None,
        };
        if let (None, [scale], Some(zero)) = (self.axis, self.scales.as_slice(), zero) {
            return write!(f, "{scale:?}:{zero}>");
        }
        if let Some(axis) = self.axis {
            write!(f, "axis {axis}")?;
            if let Some(block) = self.block {
                write!(f, " by {block}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&scales(&self.scales))?;
        match zero {
            Some(0) => f.write_str(">"),
            Some(zero) => write!(f, "; {zero}>"),
            None => write!(f, "; {}>", zero_points(&self.zero_points)),
        }
    }
}

/// Scales, or if there are many, their number, range and digest.
pub(super) fn scales(all: &[f32]) -> String {
    if all.len() <= MOST_SCALES {
        return all.iter().map(|s| format!("{s:?}")).collect::<Vec<String>>().join(", ");
    }
    let (lo, hi) = all.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &s| (lo.min(s), hi.max(s)));
    let bytes: Vec<u8> = all.iter().flat_map(|s| s.to_le_bytes()).collect();
    format!("{} scales {lo:?}..{hi:?} {}", all.len(), Digest::of(&bytes))
}

/// As [`scales`], for zero points.
pub(super) fn zero_points(all: &[i64]) -> String {
    if all.len() <= MOST_SCALES {
        return all.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ");
    }
    let bytes: Vec<u8> = all.iter().flat_map(|z| z.to_le_bytes()).collect();
    format!("{} zero points {}", all.len(), Digest::of(&bytes))
}

impl Display for Constant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(values) = &self.values {
            write!(f, "[{}] in ", values.join(", "))?;
        }
        write!(f, "{} bytes {}", self.bytes, self.digest)
    }
}

/// `y, - = CONV_2D.1 x, w, - {stride_w: 1} "name"`
impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", ids(&self.outputs), printable(&self.kind))?;
        if !self.inputs.is_empty() {
            write!(f, " {}", ids(&self.inputs))?;
        }
        if !self.attributes.is_empty() {
            let attributes: Vec<String> = self.attributes.iter().map(attribute).collect();
            write!(f, " {{{}}}", attributes.join(", "))?;
        }
        match &self.name {
            Some(name) => write!(f, " {}", quoted(name)),
            None => Ok(()),
        }
    }
}

/// A name and a value, in quotes if it contains separators.
fn attribute(Entry { name, value }: &Entry) -> String {
    let closed = value.starts_with(['[', '(']) || !value.contains([',', '}']);
    let value = if closed { printable(value) } else { quoted(value).into() };
    format!("{}: {value}", word(name))
}

/// Tensors by id; `-` for an omitted one.
pub(super) fn ids(all: &[Option<String>]) -> String {
    all.iter().map(|id| id.as_deref().map_or(Cow::Borrowed("-"), word)).collect::<Vec<_>>().join(", ")
}

/// A name, in quotes if it is not a single word.
pub(super) fn word(name: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "_./:;-%@+*~!?()[]<>$&^|#\\'".contains(c);
    if !name.is_empty() && name != "-" && name.chars().all(plain) { Cow::Borrowed(name) } else { quoted(name).into() }
}

/// A name in quotes.
fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c => text += &printable(c.encode_utf8(&mut [0; 4])),
        }
    }
    text + "\""
}

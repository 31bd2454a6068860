//! Element types of files and their conversion to those of the graph.

use bytes::Bytes;
use half::{bf16, f16};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Scalar, Tensor, TensorType};

use crate::refusal::Refusal;

/// An element type of a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Bool,
    /// Integers of 2 and 4 bits are packed: the first one is in the lowest bits of the first byte.
    I2,
    U2,
    I4,
    U4,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Stored {
    /// The graph's element type. Integers of less than 8 bits are unpacked to bytes, unsigned integers become the next
    /// larger signed type, `U64` becomes `I64`, `Bf16` and `F64` become `F32`.
    pub(crate) fn elem(self) -> Elem {
        match self {
            Stored::Bool => Elem::Bool,
            Stored::I8 | Stored::I4 | Stored::I2 => Elem::I8,
            Stored::U8 | Stored::U4 | Stored::U2 => Elem::U8,
            Stored::I16 => Elem::I16,
            Stored::I32 | Stored::U16 => Elem::I32,
            Stored::I64 | Stored::U32 | Stored::U64 => Elem::I64,
            Stored::F16 => Elem::F16,
            Stored::F32 | Stored::F64 | Stored::Bf16 => Elem::F32,
        }
    }

    /// Its usual name.
    fn name(self) -> &'static str {
        match self {
            Stored::Bool => "bool",
            Stored::I2 => "int2",
            Stored::U2 => "uint2",
            Stored::I4 => "int4",
            Stored::U4 => "uint4",
            Stored::I8 => "int8",
            Stored::U8 => "uint8",
            Stored::I16 => "int16",
            Stored::U16 => "uint16",
            Stored::I32 => "int32",
            Stored::U32 => "uint32",
            Stored::I64 => "int64",
            Stored::U64 => "uint64",
            Stored::F16 => "float16",
            Stored::Bf16 => "bfloat16",
            Stored::F32 => "float32",
            Stored::F64 => "float64",
        }
    }

    /// A warning if an input or output has another element type in the graph than in the file.
    pub(crate) fn interface(self, port: &str, name: &str) -> Option<Diagnostic> {
        let (file, graph) = (self.name(), self.elem());
        let message = format!("{port} {name} is {file} in the model and {graph} in the artefact");
        (!self.is_exact()).then(|| Diagnostic::warning("element-type", message))
    }

    /// True if the graph has the same element type.
    pub(crate) fn is_exact(self) -> bool {
        !self.is_widened() && !matches!(self, Stored::Bf16 | Stored::F64)
    }

    /// Fails if the graph has another element type: custom operators have those of the file.
    pub(crate) fn exact(self, name: &str) -> Result<(), Refusal> {
        if self.is_exact() {
            return Ok(());
        }
        let (file, graph) = (self.name(), self.elem());
        Err(Refusal::Advised {
            message: format!("the custom operator has {name} as {file}, which would become {graph}"),
            help: "cast it in the model to an element that stays, or export the model without this operator",
        })
    }

    /// Bits per element in the file.
    pub(crate) fn bits(self) -> usize {
        match self {
            Stored::I2 | Stored::U2 => 2,
            Stored::I4 | Stored::U4 => 4,
            Stored::Bool | Stored::I8 | Stored::U8 => 8,
            Stored::I16 | Stored::U16 | Stored::F16 | Stored::Bf16 => 16,
            Stored::I32 | Stored::U32 | Stored::F32 => 32,
            Stored::I64 | Stored::U64 | Stored::F64 => 64,
        }
    }

    /// True for integers that the graph stores in a wider type.
    pub(crate) fn is_widened(self) -> bool {
        use Stored::*;
        matches!(self, I2 | U2 | I4 | U4 | U16 | U32 | U64)
    }

    /// Size of so many elements in the file, in bytes.
    pub(crate) fn bytes(self, count: usize) -> Option<usize> {
        Some(count.checked_mul(self.bits())?.div_ceil(8))
    }

    /// The range of this integer type, if it has at most 32 bits.
    pub(crate) fn integers(self) -> Option<(i64, i64)> {
        let (signed, bits) = match self {
            Stored::I2 | Stored::I4 | Stored::I8 | Stored::I16 | Stored::I32 => (true, self.bits()),
            Stored::U2 | Stored::U4 | Stored::U8 | Stored::U16 | Stored::U32 => (false, self.bits()),
            Stored::Bool | Stored::I64 | Stored::U64 => return None,
            Stored::F16 | Stored::Bf16 | Stored::F32 | Stored::F64 => return None,
        };
        let count = 1i64 << bits;
        Some(if signed { (-count / 2, count / 2 - 1) } else { (0, count - 1) })
    }

    /// The row-major tensor of type `ty` with these bytes. Elements that need no conversion are not copied.
    pub(crate) fn tensor(self, ty: TensorType, raw: Bytes) -> Result<Tensor, Refusal> {
        let count = ty.shape.elements().unwrap_or(usize::MAX);
        if self.bytes(count) != Some(raw.len()) {
            let bits = self.bits();
            return Err(Refusal::Invalid(format!("{} bytes for {count} elements of {bits} bits", raw.len())));
        }
        match self {
            Stored::I2 | Stored::U2 | Stored::I4 | Stored::U4 => {
                let raw = unpacked(&raw, self.bits(), self.elem() == Elem::I8, count).into();
                Tensor::new(ty, raw).ok_or_else(|| Refusal::Invalid("its elements do not fit its type".into()))
            }
            Stored::F64 => collect(ty, words(&raw).map(f64::from_le_bytes).map(double)),
            Stored::Bf16 => collect(ty, words(&raw).map(|b| Ok(bf16::from_bits(u16::from_le_bytes(b)).to_f32()))),
            Stored::U16 => collect(ty, words(&raw).map(|b| Ok(i32::from(u16::from_le_bytes(b))))),
            Stored::U32 => collect(ty, words(&raw).map(|b| Ok(i64::from(u32::from_le_bytes(b))))),
            Stored::U64 => collect(ty, words(&raw).map(u64::from_le_bytes).map(signed)),
            Stored::Bool if raw.iter().any(|&b| b > 1) => Ok(Tensor::from_bools(ty.shape, raw.iter().map(|&b| b != 0))),
            _ => {
                let expected = format!("the size of {ty}");
                Tensor::new(ty, raw).ok_or(Refusal::Invalid(format!("its data does not have {expected}")))
            }
        }
    }
}

/// Records the use of double precision, which the graph converts to F32.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Doubles {
    /// Constants are stored in double precision.
    pub(crate) constants: bool,
    /// Operators compute in double precision.
    pub(crate) computed: bool,
}

impl Doubles {
    /// The diagnostic for the user: results differ if operators compute in double precision.
    pub(crate) fn diagnostic(self) -> Option<Diagnostic> {
        let code = "double-precision";
        match self {
            Doubles { computed: true, .. } => {
                let message = "the model computes in double precision; the artefact computes in single precision";
                Some(Diagnostic::warning(code, message))
            }
            Doubles { constants: true, .. } => {
                Some(Diagnostic::note(code, "constants in double precision are rounded to single precision"))
            }
            Doubles { .. } => None,
        }
    }
}

/// Unpacks elements of `bits` bits to bytes; the first one is in the lowest bits.
fn unpacked(data: &[u8], bits: usize, signed: bool, count: usize) -> Vec<u8> {
    let one = |i: usize| {
        let at = i * bits;
        let high = data[at / 8] << (8 - bits - at % 8);
        if signed { (high.cast_signed() >> (8 - bits)).cast_unsigned() } else { high >> (8 - bits) }
    };
    (0..count).map(one).collect()
}

/// Fails if a weight contains NaN. A single NaN is a value that stands for none.
pub(crate) fn without_nan(tensor: Tensor) -> Result<Tensor, Refusal> {
    // Without a branch per element, the loops run at memory speed.
    let nan = match tensor.ty().elem {
        Elem::F32 => words(tensor.data()).fold(false, |nan, b| nan | f32::from_le_bytes(b).is_nan()),
        Elem::F16 => words(tensor.data()).fold(false, |nan, b| nan | f16::from_le_bytes(b).is_nan()),
        _ => false,
    };
    if nan && tensor.len() > 1 {
        let message = "it contains NaN: the weights are damaged, or the training diverged";
        return Err(Refusal::Advised {
            message: message.into(),
            help: "export the model with weights that are numbers",
        });
    }
    Ok(tensor)
}

fn words<const N: usize>(raw: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    raw.as_chunks::<N>().0.iter().copied()
}

/// A tensor of converted elements.
pub(crate) fn collect<T: Scalar>(
    ty: TensorType,
    values: impl Iterator<Item = Result<T, Refusal>>,
) -> Result<Tensor, Refusal> {
    Ok(Tensor::of(ty, values.collect::<Result<Vec<T>, Refusal>>()?))
}

/// A double converted to F32.
pub(crate) fn double(v: f64) -> Result<f32, Refusal> {
    let single = v as f32;
    if single.is_infinite() && v.is_finite() {
        return Err(Refusal::Unsupported(format!("{v} is too large for single precision")));
    }
    Ok(single)
}

/// An unsigned integer converted to a signed one.
pub(crate) fn signed(v: u64) -> Result<i64, Refusal> {
    i64::try_from(v).map_err(|_| Refusal::Unsupported(format!("{v} is too large for a signed integer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_packed_elements_lies_lowest() {
        assert_eq!(unpacked(&[0xf1, 0x87], 4, true, 3), [1, 0xff, 7]);
        assert_eq!(unpacked(&[0xf1, 0x87], 4, false, 4), [1, 15, 7, 8]);
        assert_eq!(unpacked(&[0b1110_0100], 2, true, 4), [0, 1, 0xfe, 0xff]);
    }
}

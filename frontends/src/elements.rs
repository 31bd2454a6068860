//! How files store elements, and what the graph makes of them.

use bytes::Bytes;
use half::{bf16, f16};
use qcc_ir::{Elem, Scalar, Tensor, TensorType};

use crate::refusal::Refusal;

/// An element as files store it, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Bool,
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
    /// The graph's element. Some become wider: `F64` and `Bf16` become `F32`, unsigned integers the next larger signed
    /// ones (`U64`: `I64`).
    pub(crate) fn elem(self) -> Elem {
        match self {
            Stored::Bool => Elem::Bool,
            Stored::I8 => Elem::I8,
            Stored::U8 => Elem::U8,
            Stored::I16 => Elem::I16,
            Stored::I32 | Stored::U16 => Elem::I32,
            Stored::I64 | Stored::U32 | Stored::U64 => Elem::I64,
            Stored::F16 => Elem::F16,
            Stored::F32 | Stored::F64 | Stored::Bf16 => Elem::F32,
        }
    }

    /// Bytes of one element in the file.
    pub(crate) fn width(self) -> usize {
        match self {
            Stored::Bool | Stored::I8 | Stored::U8 => 1,
            Stored::I16 | Stored::U16 | Stored::F16 | Stored::Bf16 => 2,
            Stored::I32 | Stored::U32 | Stored::F32 => 4,
            Stored::I64 | Stored::U64 | Stored::F64 => 8,
        }
    }

    /// The tensor of type `ty` that these bytes hold, row-major. Elements that need no change stay where they are.
    pub(crate) fn tensor(self, ty: TensorType, raw: Bytes) -> Result<Tensor, Refusal> {
        let count = ty.shape.elements().unwrap_or(usize::MAX);
        if count.checked_mul(self.width()) != Some(raw.len()) {
            return Err(Refusal::Invalid(format!(
                "{} bytes for {count} elements of {} bytes",
                raw.len(),
                self.width()
            )));
        }
        match self {
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

/// Fails where a tensor of weights holds NaN.
pub(crate) fn without_nan(tensor: Tensor) -> Result<Tensor, Refusal> {
    // Without a branch for each element, the loops run at the speed of memory.
    let nan = match tensor.ty().elem {
        Elem::F32 => words(tensor.data()).fold(false, |nan, b| nan | f32::from_le_bytes(b).is_nan()),
        Elem::F16 => words(tensor.data()).fold(false, |nan, b| nan | f16::from_le_bytes(b).is_nan()),
        _ => false,
    };
    if nan {
        return Err(Refusal::Invalid("it contains NaN: the weights are damaged, or the training diverged".into()));
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

/// A double in single precision.
pub(crate) fn double(v: f64) -> Result<f32, Refusal> {
    let single = v as f32;
    if single.is_infinite() && v.is_finite() {
        return Err(Refusal::Unsupported(format!("{v} is too large for single precision")));
    }
    Ok(single)
}

/// An unsigned integer as a signed one.
pub(crate) fn signed(v: u64) -> Result<i64, Refusal> {
    i64::try_from(v).map_err(|_| Refusal::Unsupported(format!("{v} is too large for a signed integer")))
}

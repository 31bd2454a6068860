//! The elements of NumPy arrays.

use qcc_ir::{Elem, Tensor, TensorType};

/// The type of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F2,
    F4,
    F8,
    I1,
    U1,
    I2,
    I4,
    I8,
    Bool,
}

impl Kind {
    pub(super) fn of(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f2" => Kind::F2,
            "<f4" => Kind::F4,
            "<f8" => Kind::F8,
            "|i1" => Kind::I1,
            "|u1" => Kind::U1,
            "<i2" => Kind::I2,
            "<i4" => Kind::I4,
            "<i8" => Kind::I8,
            "|b1" => Kind::Bool,
            _ => return None,
        })
    }

    /// NumPy's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::F2 => "float16",
            Kind::F4 => "float32",
            Kind::F8 => "float64",
            Kind::I1 => "int8",
            Kind::U1 => "uint8",
            Kind::I2 => "int16",
            Kind::I4 => "int32",
            Kind::I8 => "int64",
            Kind::Bool => "bool",
        }
    }

    pub(super) fn size(self) -> usize {
        match self {
            Kind::I1 | Kind::U1 | Kind::Bool => 1,
            Kind::F2 | Kind::I2 => 2,
            Kind::F4 | Kind::I4 => 4,
            Kind::F8 | Kind::I8 => 8,
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Kind::F2 | Kind::F4 | Kind::F8)
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

/// Elements of a floating-point type.
pub(super) fn floats(kind: Kind, bytes: &[u8]) -> Vec<f32> {
    match kind {
        Kind::F2 => elements(bytes).map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
        Kind::F8 => elements(bytes).map(|b| f64::from_le_bytes(b) as f32).collect(),
        _ => elements(bytes).map(f32::from_le_bytes).collect(),
    }
}

/// Elements of an integer type; `None` for floating point.
pub(super) fn integers(kind: Kind, bytes: &[u8]) -> Option<Vec<i64>> {
    Some(match kind {
        Kind::I1 => elements(bytes).map(|b| i64::from(i8::from_le_bytes(b))).collect(),
        Kind::U1 | Kind::Bool => bytes.iter().map(|&b| i64::from(b)).collect(),
        Kind::I2 => elements(bytes).map(|b| i64::from(i16::from_le_bytes(b))).collect(),
        Kind::I4 => elements(bytes).map(|b| i64::from(i32::from_le_bytes(b))).collect(),
        Kind::I8 => elements(bytes).map(i64::from_le_bytes).collect(),
        Kind::F2 | Kind::F4 | Kind::F8 => return None,
    })
}

/// A tensor of integers; `None` if one does not fit the type.
pub(super) fn integer_tensor(ty: &TensorType, values: Vec<i64>) -> Option<Tensor> {
    fn narrow<T: TryFrom<i64>>(values: Vec<i64>) -> Option<Vec<T>> {
        values.into_iter().map(|v| T::try_from(v).ok()).collect()
    }
    let shape = ty.shape.clone();
    Some(match ty.elem {
        Elem::I64 => Tensor::from_vec(shape, values),
        Elem::I32 => Tensor::from_vec(shape, narrow::<i32>(values)?),
        Elem::I16 => Tensor::from_vec(shape, narrow::<i16>(values)?),
        Elem::I8 => Tensor::from_vec(shape, narrow::<i8>(values)?),
        Elem::U8 => Tensor::from_vec(shape, narrow::<u8>(values)?),
        Elem::Bool => Tensor::from_bools(shape, values.into_iter().map(|v| v != 0)),
        Elem::F16 | Elem::F32 | Elem::Quantized(_) => return None,
    })
}

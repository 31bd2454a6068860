//! Constants: element types, and tensors in the file or in external files.

use bytes::Bytes;
use half::{bf16, f16};
use qcc_formats::onnx::{DataLocation, DataType, TensorProto};
use qcc_ir::{Elem, Shape, Tensor, TensorType};

use crate::build::{MOST_ELEMENTS, extents};
use crate::elements::{Stored, collect, double, signed, without_nan};
use crate::mapped::Folder;
use crate::refusal::Refusal;

/// The file's element type.
pub(super) fn stored(data_type: i32) -> Result<Stored, Refusal> {
    Ok(match DataType::try_from(data_type) {
        Ok(DataType::Float) => Stored::F32,
        Ok(DataType::Double) => Stored::F64,
        Ok(DataType::Bfloat16) => Stored::Bf16,
        Ok(DataType::Float16) => Stored::F16,
        Ok(DataType::Int2) => Stored::I2,
        Ok(DataType::Uint2) => Stored::U2,
        Ok(DataType::Int4) => Stored::I4,
        Ok(DataType::Uint4) => Stored::U4,
        Ok(DataType::Int8) => Stored::I8,
        Ok(DataType::Uint8) => Stored::U8,
        Ok(DataType::Int16) => Stored::I16,
        Ok(DataType::Uint16) => Stored::U16,
        Ok(DataType::Int32) => Stored::I32,
        Ok(DataType::Uint32) => Stored::U32,
        Ok(DataType::Int64) => Stored::I64,
        Ok(DataType::Uint64) => Stored::U64,
        Ok(DataType::Bool) => Stored::Bool,
        Ok(DataType::Undefined) => return Err(Refusal::Invalid("a tensor has no element type".into())),
        Ok(other) => return Err(Refusal::Unsupported(format!("elements of type {other} are not supported"))),
        Err(_) => return Err(Refusal::Invalid(format!("{data_type} is no element type"))),
    })
}

/// The graph's element type for one of the file's: see [`Stored::elem`].
pub(super) fn elem(data_type: i32) -> Result<Elem, Refusal> {
    stored(data_type).map(Stored::elem)
}

/// The `size` bytes of an external tensor.
fn data(folder: &Folder, t: &TensorProto, size: usize) -> Result<Bytes, Refusal> {
    let number = |key: &str| match entry(t, key) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| Refusal::Invalid(format!("{key} of its external data is \"{text}\", which is no number"))),
    };
    let location =
        location(t).ok_or_else(|| Refusal::Invalid("its data is in another file, but no location is given".into()))?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(size));
    if length != size {
        return Err(Refusal::Invalid(format!("{length} bytes of external data for {size} bytes of elements")));
    }
    let file = folder.map(location).map_err(Refusal::Data)?;
    match offset.checked_add(size) {
        Some(end) if end <= file.len() => Ok(file.slice(offset..end)),
        _ => Err(Refusal::Invalid(format!(
            "its data ({size} bytes at {offset}) lies beyond the end of {location} ({} bytes)",
            file.len()
        ))),
    }
}

/// An entry of a message's external data.
fn entry<'t>(t: &'t TensorProto, key: &str) -> Option<&'t str> {
    t.external_data.iter().find(|e| e.key() == key).map(|e| e.value())
}

/// The file of an external tensor.
pub(super) fn location(t: &TensorProto) -> Option<&str> {
    entry(t, "location")
}

/// The tensor of a message. Elements that need no conversion are not copied.
pub(super) fn tensor(t: &TensorProto, folder: &Folder) -> Result<Tensor, Refusal> {
    if t.segment.is_some() {
        return Err(Refusal::Unsupported("tensors in segments are not supported".into()));
    }
    let stored = stored(t.data_type())?;
    let ty = TensorType::new(stored.elem(), Shape::known(&extents(&t.dims)?));
    let count = ty.shape.elements().filter(|_| ty.shape.span().is_some_and(|n| n <= MOST_ELEMENTS));
    let count = count.ok_or_else(|| Refusal::Unsupported(format!("a tensor {} is too large", ty.shape)))?;
    let external = t.data_location == Some(DataLocation::External.into());
    let raw = match &t.raw_data {
        _ if external => Some(data(folder, t, stored.bytes(count).unwrap_or(usize::MAX))?),
        // Writers may leave the field empty and use a typed one.
        Some(raw) if !raw.is_empty() || count == 0 => Some(raw.clone()),
        _ => None,
    };
    let tensor = match raw {
        Some(raw) => stored.tensor(ty, raw)?,
        None => from_fields(ty, stored, count, t)?,
    };
    without_nan(tensor)
}

/// The elements of a message of single or double precision, which is not in another file. NaN is among the values.
pub(super) fn doubles(t: &TensorProto) -> Result<Vec<f64>, Refusal> {
    let raw = t.raw_data.as_deref().filter(|raw| !raw.is_empty());
    let elements: Vec<f64> = match (stored(t.data_type())?, raw) {
        (Stored::F32, Some(raw)) => raw.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes).into()).collect(),
        (Stored::F32, None) => t.float_data.iter().map(|&v| v.into()).collect(),
        (Stored::F64, Some(raw)) => raw.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
        (Stored::F64, None) => t.double_data.clone(),
        (other, _) => return Err(Refusal::Invalid(format!("elements of type {}", other.elem()))),
    };
    let expected = Shape::known(&extents(&t.dims)?).elements();
    let found = elements.len();
    if expected == Some(found) { Ok(elements) } else { Err(Refusal::Invalid(format!("{found} numbers of a tensor"))) }
}

/// The typed fields, each of which is used for several types (see `onnx.proto`).
fn from_fields(ty: TensorType, stored: Stored, count: usize, t: &TensorProto) -> Result<Tensor, Refusal> {
    let found = match stored {
        Stored::F32 => t.float_data.len(),
        Stored::F64 => t.double_data.len(),
        Stored::I64 => t.int64_data.len(),
        Stored::U32 | Stored::U64 => t.uint64_data.len(),
        _ => t.int32_data.len(),
    };
    // Packed elements have one byte per number.
    let expected = if stored.bits() < 8 { stored.bytes(count).unwrap_or(usize::MAX) } else { count };
    if found != expected {
        return Err(Refusal::Invalid(format!("{found} numbers for {} ({expected})", ty.shape)));
    }
    fn fit<T: TryFrom<i32>>(v: i32) -> Result<T, Refusal> {
        T::try_from(v).map_err(|_| Refusal::Invalid(format!("{v} does not fit its element type")))
    }
    let ints = t.int32_data.iter().copied();
    match stored {
        Stored::F32 => Ok(Tensor::of(ty, t.float_data.clone())),
        Stored::F64 => collect(ty, t.double_data.iter().copied().map(double)),
        Stored::I64 => Ok(Tensor::of(ty, t.int64_data.clone())),
        Stored::U32 | Stored::U64 => collect(ty, t.uint64_data.iter().copied().map(signed)),
        Stored::I32 => Ok(Tensor::of(ty, t.int32_data.clone())),
        Stored::U16 => collect(ty, ints.map(|v| fit::<u16>(v).map(i32::from))),
        Stored::I16 => collect(ty, ints.map(fit::<i16>)),
        Stored::I2 | Stored::U2 | Stored::I4 | Stored::U4 => {
            stored.tensor(ty, ints.map(fit::<u8>).collect::<Result<Vec<u8>, _>>()?.into())
        }
        Stored::I8 => collect(ty, ints.map(fit::<i8>)),
        Stored::U8 => collect(ty, ints.map(fit::<u8>)),
        Stored::Bool => Ok(Tensor::from_bools(ty.shape, ints.map(|v| v != 0))),
        Stored::F16 => collect(ty, ints.map(|v| fit::<u16>(v).map(f16::from_bits))),
        Stored::Bf16 => collect(ty, ints.map(|v| fit::<u16>(v).map(|b| bf16::from_bits(b).to_f32()))),
    }
}

/// True for the double-precision element type.
pub(super) fn is_double(data_type: i32) -> bool {
    data_type == i32::from(DataType::Double)
}

/// True for unsigned types that the graph stores in wider signed types.
pub(super) fn is_wide_unsigned(data_type: i32) -> bool {
    [DataType::Uint16, DataType::Uint32, DataType::Uint64].map(i32::from).contains(&data_type)
}

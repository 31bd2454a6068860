//! Constants: element types, and tensors from the file or from files beside it.

use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use half::{bf16, f16};
use qcc_formats::onnx::{DataLocation, DataType, TensorProto};
use qcc_ir::{Elem, Scalar, Shape, Tensor, TensorType};
use rustc_hash::FxHashMap;

use super::refusal::Refusal;
use crate::mapped;

/// Extents and element counts above this are refused: no target addresses more, and arithmetic on them cannot overflow.
pub(super) const MOST_ELEMENTS: usize = i32::MAX as usize;

/// The graph's element for one of the file's. Some become wider: DOUBLE and BFLOAT16 become `F32`, unsigned integers
/// the next larger signed ones (UINT64: `I64`).
pub(super) fn elem(data_type: i32) -> Result<Elem, Refusal> {
    Ok(match DataType::try_from(data_type) {
        Ok(DataType::Float | DataType::Double | DataType::Bfloat16) => Elem::F32,
        Ok(DataType::Float16) => Elem::F16,
        Ok(DataType::Int8) => Elem::I8,
        Ok(DataType::Uint8) => Elem::U8,
        Ok(DataType::Int16) => Elem::I16,
        Ok(DataType::Int32 | DataType::Uint16) => Elem::I32,
        Ok(DataType::Int64 | DataType::Uint32 | DataType::Uint64) => Elem::I64,
        Ok(DataType::Bool) => Elem::Bool,
        Ok(DataType::Undefined) => return Err(Refusal::Invalid("a tensor has no element type".into())),
        Ok(other) => return Err(Refusal::Unsupported(format!("elements of type {other:?} are not supported"))),
        Err(_) => return Err(Refusal::Invalid(format!("{data_type} is no element type"))),
    })
}

/// The extents of a tensor.
pub(super) fn extents(dims: &[i64]) -> Result<Vec<usize>, Refusal> {
    if dims.len() > 8 {
        return Err(Refusal::Unsupported(format!("rank {} is not supported; 8 is the most", dims.len())));
    }
    dims.iter().map(|&d| extent(d)).collect()
}

/// One extent, or another number that counts elements.
pub(super) fn extent(n: i64) -> Result<usize, Refusal> {
    let n =
        usize::try_from(n).map_err(|_| Refusal::Invalid(format!("{n} is negative; expected a number of elements")))?;
    if n > MOST_ELEMENTS { Err(Refusal::Unsupported(format!("{n} elements are too many"))) } else { Ok(n) }
}

/// Files that hold tensors of a model: mapped once each, and only from the model's own folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    maps: RefCell<FxHashMap<String, Bytes>>,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() };
        Folder { path, maps: RefCell::default() }
    }

    fn map(&self, location: &str) -> Result<Bytes, Refusal> {
        if let Some(bytes) = self.maps.borrow().get(location) {
            return Ok(bytes.clone());
        }
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        let unreadable = |e| Refusal::Invalid(format!("the file {location} with its data cannot be read: {e}"));
        let outside = || Refusal::Invalid(format!("its data is in {location:?}, outside the folder of the model"));
        if !inside || location.is_empty() {
            return Err(outside());
        }
        let folder = self.path.canonicalize().map_err(unreadable)?;
        let file = folder.join(location).canonicalize().map_err(unreadable)?;
        if !file.starts_with(&folder) {
            return Err(outside());
        }
        let bytes = mapped::map(&file).map_err(unreadable)?;
        self.maps.borrow_mut().insert(location.into(), bytes.clone());
        Ok(bytes)
    }

    /// The `size` bytes of a tensor that lies outside the model.
    fn data(&self, t: &TensorProto, size: usize) -> Result<Bytes, Refusal> {
        let entry = |key: &str| t.external_data.iter().find(|e| e.key() == key).map(|e| e.value());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<usize>()
                .map(Some)
                .map_err(|_| Refusal::Invalid(format!("{key} of its external data is {text:?}, which is no number"))),
        };
        let location = entry("location")
            .ok_or_else(|| Refusal::Invalid("its data is in another file, but no location is given".into()))?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.unwrap_or(size));
        if length != size {
            return Err(Refusal::Invalid(format!("{length} bytes of external data for {size} bytes of elements")));
        }
        let file = self.map(location)?;
        match offset.checked_add(size) {
            Some(end) if end <= file.len() => Ok(file.slice(offset..end)),
            _ => Err(Refusal::Invalid(format!(
                "its data ({size} bytes at {offset}) lies beyond the end of {location} ({} bytes)",
                file.len()
            ))),
        }
    }
}

/// The tensor that a message holds. Elements that need no change stay where they are in the file.
pub(super) fn tensor(t: &TensorProto, folder: &Folder) -> Result<Tensor, Refusal> {
    if t.segment.is_some() {
        return Err(Refusal::Unsupported("tensors in segments are not supported".into()));
    }
    let elem = elem(t.data_type())?;
    let ty = TensorType::new(elem, Shape::known(&extents(&t.dims)?));
    let count = ty.shape.elements().filter(|&n| n <= MOST_ELEMENTS);
    let count = count.ok_or_else(|| Refusal::Unsupported(format!("a tensor {} is too large", ty.shape)))?;
    let wire = DataType::try_from(t.data_type()).unwrap_or(DataType::Undefined);
    let external = t.data_location == Some(DataLocation::External.into());
    let raw = match &t.raw_data {
        _ if external => Some(folder.data(t, count * width(wire))?),
        // A writer may leave the field empty beside a typed one.
        Some(raw) if !raw.is_empty() || count == 0 => Some(raw.clone()),
        _ => None,
    };
    let tensor = match raw {
        Some(raw) => from_bytes(ty, wire, count, raw)?,
        None => from_fields(ty, wire, count, t)?,
    };
    if has_nan(&tensor) {
        return Err(Refusal::Invalid("it contains NaN: the weights are damaged, or the training diverged".into()));
    }
    Ok(tensor)
}

/// Bytes of one element in the file.
fn width(wire: DataType) -> usize {
    match wire {
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        _ => 1,
    }
}

fn wrong_count(found: usize, count: usize, ty: &TensorType) -> Refusal {
    Refusal::Invalid(format!("{found} elements for {} ({count})", ty.shape))
}

fn from_bytes(ty: TensorType, wire: DataType, count: usize, raw: Bytes) -> Result<Tensor, Refusal> {
    if raw.len() != count * width(wire) {
        return Err(Refusal::Invalid(format!("{} bytes for {count} elements of {} bytes", raw.len(), width(wire))));
    }
    match wire {
        DataType::Double => collect(ty, words(&raw).map(f64::from_le_bytes).map(double)),
        DataType::Bfloat16 => collect(ty, words(&raw).map(|b| Ok(bf16::from_bits(u16::from_le_bytes(b)).to_f32()))),
        DataType::Uint16 => collect(ty, words(&raw).map(|b| Ok(i32::from(u16::from_le_bytes(b))))),
        DataType::Uint32 => collect(ty, words(&raw).map(|b| Ok(i64::from(u32::from_le_bytes(b))))),
        DataType::Uint64 => collect(ty, words(&raw).map(u64::from_le_bytes).map(signed)),
        DataType::Bool if raw.iter().any(|&b| b > 1) => Ok(Tensor::from_bools(ty.shape, raw.iter().map(|&b| b != 0))),
        _ => {
            let expected = format!("the size of {ty}");
            Tensor::new(ty, raw).ok_or(Refusal::Invalid(format!("its data does not have {expected}")))
        }
    }
}

/// The typed fields: each holds several types (see `onnx.proto`).
fn from_fields(ty: TensorType, wire: DataType, count: usize, t: &TensorProto) -> Result<Tensor, Refusal> {
    let found = match wire {
        DataType::Float => t.float_data.len(),
        DataType::Double => t.double_data.len(),
        DataType::Int64 => t.int64_data.len(),
        DataType::Uint32 | DataType::Uint64 => t.uint64_data.len(),
        _ => t.int32_data.len(),
    };
    if found != count {
        return Err(wrong_count(found, count, &ty));
    }
    fn fit<T: TryFrom<i32>>(v: i32) -> Result<T, Refusal> {
        T::try_from(v).map_err(|_| Refusal::Invalid(format!("{v} does not fit its element type")))
    }
    let ints = t.int32_data.iter().copied();
    match wire {
        DataType::Float => Ok(Tensor::of(ty, t.float_data.clone())),
        DataType::Double => collect(ty, t.double_data.iter().copied().map(double)),
        DataType::Int64 => Ok(Tensor::of(ty, t.int64_data.clone())),
        DataType::Uint32 | DataType::Uint64 => collect(ty, t.uint64_data.iter().copied().map(signed)),
        DataType::Int32 => Ok(Tensor::of(ty, t.int32_data.clone())),
        DataType::Uint16 => collect(ty, ints.map(|v| fit::<u16>(v).map(i32::from))),
        DataType::Int16 => collect(ty, ints.map(fit::<i16>)),
        DataType::Int8 => collect(ty, ints.map(fit::<i8>)),
        DataType::Uint8 => collect(ty, ints.map(fit::<u8>)),
        DataType::Bool => Ok(Tensor::from_bools(ty.shape, ints.map(|v| v != 0))),
        DataType::Float16 => collect(ty, ints.map(|v| fit::<u16>(v).map(f16::from_bits))),
        DataType::Bfloat16 => collect(ty, ints.map(|v| fit::<u16>(v).map(|b| bf16::from_bits(b).to_f32()))),
        other => Err(Refusal::Unsupported(format!("elements of type {other:?} are not supported"))),
    }
}

fn words<const N: usize>(raw: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    raw.as_chunks::<N>().0.iter().copied()
}

fn collect<T: Scalar>(ty: TensorType, values: impl Iterator<Item = Result<T, Refusal>>) -> Result<Tensor, Refusal> {
    Ok(Tensor::of(ty, values.collect::<Result<Vec<T>, Refusal>>()?))
}

fn double(v: f64) -> Result<f32, Refusal> {
    let single = v as f32;
    if single.is_infinite() && v.is_finite() {
        return Err(Refusal::Unsupported(format!("{v} is too large for single precision")));
    }
    Ok(single)
}

fn signed(v: u64) -> Result<i64, Refusal> {
    i64::try_from(v).map_err(|_| Refusal::Unsupported(format!("{v} is too large for a signed integer")))
}

fn has_nan(t: &Tensor) -> bool {
    // Without a branch for each element, the loops run at the speed of memory.
    match t.ty().elem {
        Elem::F32 => words(t.data()).fold(false, |nan, b| nan | f32::from_le_bytes(b).is_nan()),
        Elem::F16 => words(t.data()).fold(false, |nan, b| nan | f16::from_le_bytes(b).is_nan()),
        _ => false,
    }
}

/// True where the tensor's elements are in double precision.
pub(super) fn is_double(t: &TensorProto) -> bool {
    is_double_type(t.data_type())
}

/// True for the double-precision element type.
pub(super) fn is_double_type(data_type: i32) -> bool {
    data_type == i32::from(DataType::Double)
}

//! Tensors of a file: element types, quantization parameters and bytes.

use bytes::Bytes;
use qcc_formats::tflite::{Details, Model, Quantization, Tensor as Entry, TensorType as Code};
use qcc_ir::{Elem, Layout, QuantParams, Shape, StorageType, Tensor, TensorType};

use crate::build::{MOST_ELEMENTS, extents};
use crate::elements::{Stored, without_nan};
use crate::refusal::Refusal;

/// The stored form of an element type.
pub(super) fn stored(code: Code) -> Result<Stored, Refusal> {
    Ok(match code {
        Code::BOOL => Stored::Bool,
        Code::INT2 => Stored::I2,
        Code::INT4 => Stored::I4,
        Code::UINT4 => Stored::U4,
        Code::INT8 => Stored::I8,
        Code::UINT8 => Stored::U8,
        Code::INT16 => Stored::I16,
        Code::UINT16 => Stored::U16,
        Code::INT32 => Stored::I32,
        Code::UINT32 => Stored::U32,
        Code::INT64 => Stored::I64,
        Code::UINT64 => Stored::U64,
        Code::FLOAT16 => Stored::F16,
        Code::BFLOAT16 => Stored::Bf16,
        Code::FLOAT32 => Stored::F32,
        Code::FLOAT64 => Stored::F64,
        other => return Err(Refusal::Unsupported(format!("elements of type {other} are not supported"))),
    })
}

/// The storage type of quantized integers. 64-bit ones are biases of 16-bit models, which fit into 32 bits.
fn storage(code: Code) -> Option<StorageType> {
    match code {
        Code::INT8 | Code::INT4 | Code::INT2 => Some(StorageType::I8),
        Code::UINT8 | Code::UINT4 => Some(StorageType::U8),
        Code::INT16 => Some(StorageType::I16),
        Code::INT32 | Code::INT64 => Some(StorageType::I32),
        _ => None,
    }
}

/// The graph's element type for one of the file's, without quantization parameters.
pub(super) fn plain(code: Code) -> Result<Elem, Refusal> {
    Ok(stored(code)?.elem())
}

/// The graph's element type for a tensor: quantized if the tensor has integers and scales.
pub(super) fn elem(entry: &Entry) -> Result<Elem, Refusal> {
    let quantization = entry.quantization.as_ref();
    match (quantization, storage(entry.elem)) {
        (Some(q), Some(_)) if q.details != Details::None => {
            Err(Refusal::Unsupported("integers with a scale for each block are not supported".into()))
        }
        (Some(q), Some(storage)) if !q.scale.is_empty() => {
            let ty = TensorType::new(Elem::Quantized(qparams(q, storage, entry.shape.len())?), shape(entry)?);
            ty.validate()?;
            Ok(ty.elem)
        }
        _ => plain(entry.elem),
    }
}

/// `quantized_dimension` of a vector is ignored, as in kernels: there is one axis.
fn qparams(q: &Quantization, storage: StorageType, rank: usize) -> Result<QuantParams, Refusal> {
    if q.zero_point.len() > 1 && q.zero_point.len() != q.scale.len() {
        return Err(Refusal::Invalid(format!("{} zero points for {} scales", q.zero_point.len(), q.scale.len())));
    }
    if let [scale] = *q.scale {
        let zero_point = q.zero_point.first().copied().unwrap_or(0);
        let fits = |_| Refusal::Invalid(format!("a zero point of {zero_point}, which {storage} does not hold"));
        return Ok(QuantParams::per_tensor(storage, scale, i32::try_from(zero_point).map_err(fits)?));
    }
    let Ok(axis) = usize::try_from(q.dimension) else {
        return Err(Refusal::Invalid(format!("scales along axis {}", q.dimension)));
    };
    if q.zero_point.iter().any(|&z| z != 0) {
        return Err(Refusal::Unsupported("zero points other than 0 with several scales are not supported".into()));
    }
    Ok(QuantParams::per_axis(storage, if rank == 1 { 0 } else { axis }, q.scale.as_slice()))
}

/// Quantization parameters with a scale for each block of the last axis.
pub(super) fn qparams_in_blocks(entry: &Entry, block: i32, scales: &Tensor) -> Result<QuantParams, Refusal> {
    let storage = match entry.elem {
        Code::INT4 | Code::INT2 => StorageType::I4,
        Code::INT8 => StorageType::I8,
        other => return Err(Refusal::Unsupported(format!("{other} with a scale for each block"))),
    };
    let (dims, size) = (shape(entry)?, usize::try_from(block).ok().filter(|&n| n > 0));
    let last = dims.dims().last().and_then(|d| d.known());
    let (Some(size), Some(last)) = (size, last) else {
        return Err(Refusal::Invalid(format!("blocks of {block} elements in {dims}")));
    };
    let expected = dims.with(dims.rank() - 1, last.div_ceil(size));
    if !scales.ty().elem.is_float() || scales.ty().shape != expected {
        return Err(Refusal::Invalid(format!("scales {} for blocks of {size} in {dims}", scales.ty())));
    }
    Ok(QuantParams::per_block(storage, dims.rank() - 1, size, scales.to_float().floats().to_vec()))
}

/// The shape, with the file's axis order.
pub(super) fn shape(entry: &Entry) -> Result<Shape, Refusal> {
    let dims: Vec<i64> = entry.shape.iter().map(|&n| n.into()).collect();
    Ok(Shape::known(&extents(&dims)?))
}

/// The bytes of a tensor; `None` if it is not constant.
pub(super) fn bytes<'m>(entry: &Entry, model: &'m Model) -> Result<Option<&'m Bytes>, Refusal> {
    if entry.external_buffer != 0 {
        return Err(Refusal::Unsupported("its data is in another file".into()));
    }
    let buffer = model.buffers.get(entry.buffer as usize);
    let buffer = buffer.ok_or_else(|| Refusal::Invalid(format!("there is no buffer {}", entry.buffer)))?;
    // A tensor without elements is constant even without bytes.
    let nothing = entry.shape.contains(&0) && !entry.is_variable;
    Ok((!buffer.data.is_empty() || nothing).then_some(&buffer.data))
}

/// A dense constant, with the file's axis order.
pub(super) fn tensor(entry: &Entry, data: &Bytes) -> Result<Tensor, Refusal> {
    tensor_of(entry, elem(entry)?, data)
}

/// As [`tensor`], with a given element type.
pub(super) fn tensor_of(entry: &Entry, elem: Elem, data: &Bytes) -> Result<Tensor, Refusal> {
    let ty = TensorType::new(elem, shape(entry)?);
    ty.validate()?;
    let count = ty.shape.elements().filter(|_| ty.shape.span().is_some_and(|n| n <= MOST_ELEMENTS));
    let count = count.ok_or_else(|| Refusal::Unsupported(format!("a tensor {} is too large", ty.shape)))?;
    let size = stored(entry.elem)?.bytes(count).unwrap_or(usize::MAX);
    if data.len() < size {
        return Err(Refusal::Invalid(format!("{} bytes for {} of {}", data.len(), ty.shape, entry.elem)));
    }
    let data = data.slice(..size);
    if let (Code::INT64, Elem::Quantized(_)) = (entry.elem, &ty.elem) {
        let wide = Code::INT64;
        let wide = stored(wide)?.tensor(TensorType::new(Elem::I64, ty.shape.clone()), data)?;
        let narrow = wide.view::<i64>().iter().map(|&v| i32::try_from(v)).collect::<Result<Vec<i32>, _>>();
        let large = |_| Refusal::Unsupported("a bias beyond 32 bits is not supported".into());
        return Ok(Tensor::of(ty, narrow.map_err(large)?));
    }
    without_nan(stored(entry.elem)?.tensor(ty, data)?)
}

/// Transposes a tensor to logical axes: `order[i]` is the logical axis that is axis `i` of the file. The result is
/// row-major.
pub(super) fn reordered(tensor: &Tensor, order: &[usize]) -> Result<Tensor, Refusal> {
    let ty = tensor.ty();
    let rank = || Refusal::Invalid(format!("a weight of type {ty}; expected rank {}", order.len()));
    let layout = Layout::from_order(order).filter(|l| l.rank() == ty.rank()).ok_or_else(rank)?;
    let shape = (0..order.len()).map(|axis| ty.shape.dims()[layout.position(axis)].clone()).collect();
    let elem = match &ty.elem {
        Elem::Quantized(qparams) => Elem::Quantized(on_axes(qparams, order)),
        plain => plain.clone(),
    };
    let named = tensor.retype(TensorType { elem, shape, layout }).ok_or_else(rank)?;
    Ok(qcc_ir::eval::relayout(&named, &Layout::row_major(order.len()))?)
}

fn on_axes(qparams: &QuantParams, order: &[usize]) -> QuantParams {
    match &qparams.map {
        qcc_ir::Affine::PerAxis { axis, scales } => {
            QuantParams::per_axis(qparams.storage, order[*axis], scales.clone())
        }
        // The file has no blockwise parameters here.
        qcc_ir::Affine::PerTensor { .. } | qcc_ir::Affine::PerBlock { .. } => qparams.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_go_with_their_axis() {
        let quantization = Quantization { scale: vec![0.5, 2.0], dimension: 3, ..Quantization::default() };
        let entry =
            Entry { shape: vec![1, 1, 2, 2], elem: Code::INT8, quantization: Some(quantization), ..Entry::default() };
        let filter = tensor(&entry, &Bytes::from_static(&[1, 2, 3, 4, 5])).unwrap();
        assert_eq!(filter.floats()[..], [0.5, 4.0, 1.5, 8.0]);
        let moved = reordered(&filter, &[1, 2, 3, 0]).unwrap();
        assert_eq!(moved.ty().to_string(), "i8<axis 0: 0.5,2.0>[2,1,1,2]");
        assert_eq!(moved.floats()[..], [0.5, 1.5, 4.0, 8.0]);
    }

    #[test]
    fn grids_that_mean_nothing_are_refused() {
        let refused = |scale: &[f32], zero_point: &[i64], dimension| {
            let q = Quantization {
                scale: scale.into(),
                zero_point: zero_point.into(),
                dimension,
                ..Quantization::default()
            };
            let entry = Entry { shape: vec![2, 3], elem: Code::INT8, quantization: Some(q), ..Entry::default() };
            elem(&entry).unwrap_err().to_string()
        };
        assert_eq!(refused(&[0.0], &[0], 0), "a scale of 0.0; scales are positive, finite and normal numbers");
        assert_eq!(refused(&[f32::NAN], &[0], 0), "a scale of NaN; scales are positive, finite and normal numbers");
        assert_eq!(refused(&[-1.0], &[0], 0), "a scale of -1.0; scales are positive, finite and normal numbers");
        assert_eq!(refused(&[1.0], &[128], 0), "a zero point of 128, which i8 does not hold");
        assert_eq!(refused(&[1.0], &[1 << 40], 0), "a zero point of 1099511627776, which i8 does not hold");
        assert_eq!(refused(&[1.0, 1.0], &[0, 0], 1), "2 scales for [2,3], which asks for 3 along axis 1");
        assert_eq!(refused(&[1.0, 1.0], &[0, 0], 2), "scales along axis 2 of [2,3]");
        assert_eq!(refused(&[1.0, 1.0], &[0, 0], -1), "scales along axis -1");
        assert_eq!(refused(&[1.0, 1.0], &[0, 0, 0], 0), "3 zero points for 2 scales");
    }
}

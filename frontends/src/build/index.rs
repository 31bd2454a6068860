//! Parts of tensors, and indices.

use qcc_ir::ops::{Extents, Range, ScatterNd};
use qcc_ir::{Shape, Tensor, ValueId};

use super::Build;
use crate::refusal::Refusal;

/// Masks of more elements than this are not computed at import.
const LARGEST_MASK: usize = 1 << 26;

/// What `start`, `end` and `step` of a slice choose: negative positions count from the end, all are limited to the
/// axis.
pub(crate) fn range(axis: usize, extent: usize, start: i64, end: i64, step: i64) -> Result<Range, Refusal> {
    if step == 0 {
        return Err(Refusal::Invalid("a slice with step 0".into()));
    }
    let (extent, step) = (extent as i128, i128::from(step));
    let from_front = |p: i64| i128::from(p) + if p < 0 { extent } else { 0 };
    let (first, last) = if step > 0 { (0, extent) } else { (-1, extent - 1) };
    let start = from_front(start).clamp(first.max(0), last.max(0));
    let end = from_front(end).clamp(first, last);
    let len = if step > 0 { (end - start + step - 1) / step } else { (start - end - step - 1) / -step };
    let len = if extent == 0 { 0 } else { len.max(0) };
    // A step is taken only between two elements.
    let step = if len > 1 { step } else { 1 };
    let start = if len > 0 { start } else { 0 };
    Ok(Range { axis, start: start as usize, len: len as usize, step: step as isize })
}

/// Refuses known indices that name no element: a device would read or write beyond the tensor. Indices count along
/// `extents` in turn.
pub(crate) fn within(n: &impl Build, indices: ValueId, extents: &[usize]) -> Result<(), Refusal> {
    let known = n.constant(indices).and_then(Tensor::integers).unwrap_or_default();
    for (&index, &extent) in known.iter().zip(extents.iter().cycle()) {
        let end = i64::try_from(extent).unwrap_or(i64::MAX);
        if !(-end..end).contains(&index) {
            return Err(Refusal::Invalid(format!("index {index} lies beyond an axis of extent {extent}")));
        }
    }
    Ok(())
}

/// x with slices at index tuples replaced; known indices are checked.
pub(crate) fn scatter_nd(n: &mut impl Build, operands: [ValueId; 3]) -> Result<ValueId, Refusal> {
    let [x, indices, _] = operands;
    let result = n.add(ScatterNd {}, &operands)?;
    let counted = n.dims(indices).last().copied().unwrap_or(0);
    within(n, indices, &n.dims(x)[..counted])?;
    Ok(result)
}

/// x with single elements replaced: where `updates[i][j]` goes is known, `x[indices[i][j]][j]` for axis 0 of rank 2.
pub(crate) fn scatter_elements(
    n: &mut impl Build,
    x: ValueId,
    axis: usize,
    indices: Vec<i64>,
    updates: ValueId,
) -> Result<ValueId, Refusal> {
    let (data, dims) = (n.dims(x), n.dims(updates));
    let covered = dims.iter().product::<usize>() == indices.len() && dims.len() == data.len();
    if !covered || dims.iter().zip(&data).enumerate().any(|(a, (d, x))| a != axis && d > x) {
        return Err(Refusal::Invalid(format!("updates {} for {}", n.ty(updates), n.ty(x))));
    }
    let mut tuples = Vec::with_capacity(indices.len() * dims.len());
    let mut at: Extents = Extents::from_elem(0, dims.len());
    for index in indices {
        tuples.extend(at.iter().map(|&a| a as i64));
        let end = tuples.len() - dims.len();
        tuples[end + axis] = index;
        for (a, d) in at.iter_mut().zip(&dims).rev() {
            *a += 1;
            if *a < *d {
                break;
            }
            *a = 0;
        }
    }
    let shape = dims.iter().copied().chain([dims.len()]).collect();
    let tuples = n.add_constant(Tensor::from_vec(shape, tuples));
    scatter_nd(n, [x, tuples, updates])
}

/// A `Bool` matrix: true on diagonal `k` and above it (`upper`) or below it.
pub(crate) fn triangle(
    n: &mut impl Build,
    rows: usize,
    columns: usize,
    k: i64,
    upper: bool,
) -> Result<ValueId, Refusal> {
    if rows.saturating_mul(columns) > LARGEST_MASK {
        return Err(Refusal::Unsupported(format!("a mask of {rows} by {columns} is too large")));
    }
    let place = |i: usize| ((i % columns) as i64).saturating_sub((i / columns) as i64);
    let kept = (0..rows * columns).map(|i| if upper { place(i) >= k } else { place(i) <= k });
    Ok(n.add_constant(Tensor::from_bools(Shape::known(&[rows, columns]), kept)))
}

/// The axes of known elements that are not zero, one row for each axis, one column for each element.
pub(crate) fn non_zero(x: &Tensor) -> Tensor {
    let hit: Vec<bool> = match (x.ty().elem.is_float(), x.integers()) {
        (false, Some(integers)) => integers.iter().map(|&v| v != 0).collect(),
        _ => x.reals().iter().map(|&v| v != 0.0).collect(),
    };
    let places: Vec<usize> = (0..hit.len()).filter(|&i| hit[i]).collect();
    let dims = x.dims();
    let mut indices: Vec<i64> = Vec::with_capacity(dims.len() * places.len());
    for axis in 0..dims.len() {
        let inner: usize = dims[axis + 1..].iter().product();
        indices.extend(places.iter().map(|p| (p / inner % dims[axis]) as i64));
    }
    Tensor::from_vec(Shape::known(&[dims.len(), places.len()]), indices)
}

//! Conversion of sparse constants to dense ones.
//!
//! A sparse tensor is a tree with a level for each dimension: those of the tensor, in the order of `traversal_order`,
//! then those of the blocks that divide them. A dense level has all its entries, a compressed (CSR) one those that its
//! indices name. The buffer contains the leaves in order; all other elements are 0.

use bytes::Bytes;
use qcc_formats::tflite::{DimensionMetadata, DimensionType, IndexVector, Sparsity, Tensor as Entry};

use super::types;
use crate::build::{MOST_ELEMENTS, extents};
use crate::refusal::Refusal;

/// One level of the tree.
struct Level {
    /// Entries of the dimension.
    extent: usize,
    /// Stride between entries, in elements of the dense tensor.
    step: usize,
    /// Segments and indices of a compressed level.
    named: Option<(Vec<usize>, Vec<usize>)>,
}

/// Bytes of the dense tensor.
pub(super) fn size(entry: &Entry) -> Result<usize, Refusal> {
    let dims: Vec<i64> = entry.shape.iter().map(|&n| n.into()).collect();
    let elements = extents(&dims)?.into_iter().try_fold(1usize, usize::checked_mul).filter(|&n| n <= MOST_ELEMENTS);
    let bytes = elements.and_then(|n| n.checked_mul(width(entry).ok()?));
    bytes.ok_or_else(|| Refusal::Unsupported(format!("a tensor {:?} is too large", entry.shape)))
}

/// The dense bytes of a sparse tensor. The caller has checked the limit for [`size`].
pub(super) fn dense(entry: &Entry, sparsity: &Sparsity, data: &Bytes) -> Result<Bytes, Refusal> {
    let (size, width) = (size(entry)?, width(entry)?);
    if size == 0 {
        return Ok(Bytes::new());
    }
    let levels = levels(entry, sparsity)?;
    // The leaves are counted before any are written.
    let mut count = 1usize;
    for level in &levels {
        count = match &level.named {
            None => count.saturating_mul(level.extent),
            Some((segments, indices)) if segments.len() == count.saturating_add(1) => indices.len(),
            Some((segments, _)) => {
                let message = format!("{} segments of a sparse dimension; expected {}", segments.len(), count + 1);
                return Err(Refusal::Invalid(message));
            }
        };
    }
    if count.checked_mul(width) != Some(data.len()) {
        return Err(Refusal::Invalid(format!("{} bytes for {count} elements that are not 0", data.len())));
    }
    let mut dense = vec![0; size];
    let mut elements = data.chunks_exact(width);
    write(&levels, 0, 0, &mut |place| {
        if let (Some(element), Some(to)) = (elements.next(), dense.get_mut(place * width..(place + 1) * width)) {
            to.copy_from_slice(element);
        }
    });
    Ok(dense.into())
}

/// Calls `leaf` with the dense position of each leaf below an entry of the previous level, in order.
fn write(levels: &[Level], entry: usize, place: usize, leaf: &mut impl FnMut(usize)) {
    let Some((level, below)) = levels.split_first() else { return leaf(place) };
    match &level.named {
        None => {
            for i in 0..level.extent {
                write(below, entry * level.extent + i, place + i * level.step, leaf);
            }
        }
        Some((segments, indices)) => {
            let (first, end) = (segments[entry], segments[entry + 1]);
            for (at, index) in (first..end).zip(&indices[first..end]) {
                write(below, at, place + index * level.step, leaf);
            }
        }
    }
}

/// Bytes of an element.
fn width(entry: &Entry) -> Result<usize, Refusal> {
    let bits = types::stored(entry.elem)?.bits();
    let whole = bits.is_multiple_of(8).then_some(bits / 8);
    whole.ok_or_else(|| Refusal::Unsupported(format!("sparse tensors of {} are not supported", entry.elem)))
}

/// The levels, after validation of segments, indices and extents.
fn levels(entry: &Entry, sparsity: &Sparsity) -> Result<Vec<Level>, Refusal> {
    let dims: Vec<i64> = entry.shape.iter().map(|&n| n.into()).collect();
    let dims = extents(&dims)?;
    let (rank, blocks) = (dims.len(), sparsity.block_map.len());
    let order = places(&sparsity.traversal_order, rank + blocks, "traversal order")?;
    let divided = places(&sparsity.block_map, rank, "block map")?;
    let (whole, inner) = order.split_at_checked(rank).unwrap_or((&order, &[]));
    if order.len() != rank + blocks || sparsity.dim_metadata.len() != order.len() || inner.iter().any(|&d| d < rank) {
        let (order, metadata) = (&sparsity.traversal_order, sparsity.dim_metadata.len());
        let message = format!("a traversal order {order:?} with {metadata} dimensions for {:?}", entry.shape);
        return Err(Refusal::Invalid(format!("{message} in {blocks} blocked dimensions")));
    }
    // Extents and strides of the tensor's dimensions, counted in blocks, then those within the blocks.
    let mut steps = vec![1; rank];
    (1..rank).rev().for_each(|d| steps[d - 1] = steps[d] * dims[d]);
    let (mut extent, mut step) = (dims.clone(), steps);
    for (block, &dim) in divided.iter().enumerate() {
        let level = order.iter().position(|&d| d == rank + block).unwrap_or(0);
        let metadata = &sparsity.dim_metadata[level];
        let size = usize::try_from(metadata.dense_size).ok().filter(|&n| n > 0 && dims[dim].is_multiple_of(n));
        let Some(size) = size.filter(|_| metadata.format == DimensionType::DENSE) else {
            let (n, all) = (metadata.dense_size, dims[dim]);
            return Err(Refusal::Invalid(format!("blocks of {n}, {}, along an extent of {all}", metadata.format)));
        };
        extent.push(size);
        step.push(step[dim]);
        extent[dim] /= size;
        step[dim] *= size;
    }
    let level = |(&d, metadata): (&usize, _)| level(metadata, extent[d], step[d]);
    whole.iter().chain(inner).zip(&sparsity.dim_metadata).map(level).collect()
}

/// Checks that `numbers` are distinct and below `count`.
fn places(numbers: &[i32], count: usize, what: &str) -> Result<Vec<usize>, Refusal> {
    let mut taken = vec![false; count];
    let place = |&n: &i32| {
        let free = usize::try_from(n).ok().filter(|&n| n < count && !std::mem::replace(&mut taken[n], true));
        free.ok_or_else(|| Refusal::Invalid(format!("{n} in the {what} {numbers:?}; expected {count} places at most")))
    };
    numbers.iter().map(place).collect()
}

fn level(metadata: &DimensionMetadata, extent: usize, step: usize) -> Result<Level, Refusal> {
    match metadata.format {
        DimensionType::DENSE if usize::try_from(metadata.dense_size) == Ok(extent) => {
            Ok(Level { extent, step, named: None })
        }
        DimensionType::DENSE => {
            Err(Refusal::Invalid(format!("a dense dimension of {}; expected {extent}", metadata.dense_size)))
        }
        DimensionType::SPARSE_CSR => {
            let (segments, indices) = (numbers(&metadata.array_segments)?, numbers(&metadata.array_indices)?);
            let whole = segments.first() == Some(&0) && segments.last() == Some(&indices.len());
            if !whole || !segments.is_sorted() {
                let count = indices.len();
                return Err(Refusal::Invalid(format!(
                    "the segments of a sparse dimension do not divide its {count} indices"
                )));
            }
            let rising = |s: &[usize]| indices[s[0]..s[1]].windows(2).all(|i| i[0] < i[1]);
            if !segments.windows(2).all(rising) || indices.iter().any(|&i| i >= extent) {
                return Err(Refusal::Invalid(format!("the indices of a sparse dimension do not rise below {extent}")));
            }
            Ok(Level { extent, step, named: Some((segments, indices)) })
        }
        other => Err(Refusal::Unsupported(format!("sparse dimensions of kind {other} are not supported"))),
    }
}

/// Segments or indices.
fn numbers(vector: &IndexVector) -> Result<Vec<usize>, Refusal> {
    match vector {
        IndexVector::Int32(v) => {
            let number = |&n: &i32| usize::try_from(n);
            let numbers: Result<Vec<usize>, _> = v.iter().map(number).collect();
            numbers.map_err(|_| Refusal::Invalid("a negative number in a sparse dimension".into()))
        }
        IndexVector::Uint16(v) => Ok(v.iter().map(|&n| n.into()).collect()),
        IndexVector::Uint8(v) => Ok(v.iter().map(|&n| n.into()).collect()),
        IndexVector::None => Ok(Vec::new()),
        IndexVector::Other(kind) => {
            Err(Refusal::Unsupported(format!("indices of kind {kind} in a sparse dimension are not supported")))
        }
    }
}

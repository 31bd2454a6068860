//! Operators that move elements.

use qcc_formats::tflite::{
    BuiltinOperator as B, Concatenation, DepthToSpace as DepthToSpaceOptions, MirrorPad, MirrorPadMode, Options,
    OptionsType as T, SpaceToDepth as SpaceToDepthOptions, Squeeze, StridedSlice, TensorType as Stored,
};
use qcc_ir::ops::{
    Concat, DepthToSpace, Op, OpenSlice, Pad, PadMode, Range, Reverse, Slice, SpaceToDepth, Symbolic, Tile, Transpose,
};
use qcc_ir::{Dim, Elem, Expr, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, stored, version};
use crate::extents;

/// The physical permutation from `x` to `y`, whose logical axis `i` is axis `perm[i]` of `x`.
pub(super) fn physical(x: &TensorType, y: &TensorType, perm: &[usize]) -> Vec<usize> {
    y.layout.order().map(|axis| x.layout.position(perm[axis])).collect()
}

/// True if a physical permutation of `x` only moves axes of extent 1.
pub(super) fn moves_nothing(perm: &[usize], x: &TensorType) -> bool {
    let extents = x.layout.physical(&x.shape);
    perm.iter().filter(|&&p| extents.dims()[p] != Dim::Known(1)).is_sorted()
}

/// TRANSPOSE, or RESHAPE if the byte order is unchanged.
pub(super) fn transpose(e: &mut Emitter<'_>, op: &Transpose, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    permute(e, &op.perm, site)
}

/// A change of layout is a physical permutation.
pub(super) fn relayout(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    permute(e, &(0..site.operands[0].rank()).collect::<Vec<usize>>(), site)
}

fn permute(e: &mut Emitter<'_>, perm: &[usize], site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (x, y) = (&site.operands[0], &site.results[0]);
    let perm = physical(x, y, perm);
    if moves_nothing(&perm, x) {
        return e.reshape_into(site.inputs[0], site.outputs[0], y);
    }
    let number = match (x.rank(), stored(&x.elem)) {
        (_, Stored::FLOAT16) => 9,
        (7.., _) => 8,
        (6, _) => 6,
        (5, _) => 4,
        (_, Stored::INT16) => 5,
        (_, Stored::BOOL) => 3,
        (_, Stored::INT8) => 2,
        _ => 1,
    };
    let inputs = [site.inputs[0], e.indices(&perm.iter().map(|&p| p as i32).collect::<Vec<i32>>())];
    e.push_operator(B::TRANSPOSE, number, Options::Other(T::TRANSPOSE), &inputs, &site.outputs);
    Ok(())
}

/// CONCATENATION.
pub(super) fn concat(e: &mut Emitter<'_>, op: &Concat, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let y = &site.results[0];
    let options = Concatenation { axis: y.layout.position(op.axis) as i32, ..Concatenation::default() };
    e.push_operator(B::CONCATENATION, version(y, 1, 2, 3), options, &site.inputs, &site.outputs);
    Ok(())
}

/// SLICE, or STRIDED_SLICE where a step is not 1 or the rest of an axis has an open extent: XNNPACK takes no SLICE of that.
pub(super) fn slice(e: &mut Emitter<'_>, op: &Slice, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let range = |place: usize| {
        let axis = x.layout.order().nth(place);
        op.ranges.iter().find(|r| Some(r.axis) == axis)
    };
    let ranges: Vec<Option<&Range>> = (0..x.rank()).map(range).collect();
    let begin: Vec<i32> = ranges.iter().map(|r| r.map_or(0, |r| r.start as i32)).collect();
    let begin = e.indices(&begin);
    let whole = x.layout.physical(&x.shape);
    let len = |(r, d): (&Option<&Range>, &Dim)| r.map_or_else(|| d.known(), |r| Some(r.len)).map(|n| n as i32);
    let size: Option<Vec<i32>> = ranges.iter().zip(whole.dims()).map(len).collect();
    if let Some(size) = size.filter(|_| op.ranges.iter().all(|r| r.step == 1)) {
        let inputs = [site.inputs[0], begin, e.indices(&size)];
        let number = if x.rank() > 4 { 5 } else { version(x, 1, 2, 4) };
        e.push_operator(B::SLICE, number, Options::Other(T::SLICE), &inputs, &site.outputs);
        return Ok(());
    }
    let end = |r: &Range| r.start as isize + r.step * r.len as isize;
    // An end before the first element has no literal value; the mask is used instead.
    let open = |r: &Option<&Range>| r.is_none_or(|r| end(r) < 0);
    let bit = |(i, r): (usize, &Option<&Range>)| i32::from(open(r)) << i;
    let end_mask = ranges.iter().enumerate().map(bit).sum();
    let ends: Vec<i32> = ranges.iter().map(|r| r.map_or(0, |r| end(r).max(0) as i32)).collect();
    let steps: Vec<i32> = ranges.iter().map(|r| r.map_or(1, |r| r.step as i32)).collect();
    let inputs = [site.inputs[0], begin, e.indices(&ends), e.indices(&steps)];
    let number = match stored(&x.elem) {
        _ if x.rank() > 4 => 4,
        Stored::BOOL => 3,
        Stored::INT8 => 2,
        _ => 1,
    };
    let options = StridedSlice { end_mask, ..StridedSlice::default() };
    e.push_operator(B::STRIDED_SLICE, number, options, &inputs, &site.outputs);
    Ok(())
}

/// RESHAPE. Where its shape is known at run time only, LiteRT's kernel may reuse the memory of the operand, and then does not
/// tell the next operators that the shape has changed. A SLICE of all elements with a computed start tells them.
pub(super) fn reshape(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (x, y) = (&site.operands[0], &site.results[0]);
    if let Some(axis) = x.shape.removed_axis(&y.shape) {
        let axis = x.layout.position(axis);
        let rest = TensorType::new(x.elem.clone(), x.layout.physical(&x.shape).without(axis));
        let squeezed = e.scratch(&rest, site.node);
        let options = Squeeze { squeeze_dims: vec![axis as i32] };
        e.push_operator(B::SQUEEZE, 1, options, &site.inputs, &[squeezed]);
        return e.reshape_into(squeezed, site.outputs[0], y);
    }
    let given = matches!(site.graph.producer(site.values[0]), Op::Input(_) | Op::Const(_));
    if !y.shape.is_computed() || x.shape.is_computed() || given {
        return e.reshape_from(site.inputs[0], Some(&x.shape), site.outputs[0], y);
    }
    let reshaped = e.scratch(y, site.node);
    e.reshape_into(site.inputs[0], reshaped, y)?;
    let wanted = extents::shape(e, &y.shape)?;
    let inputs = [reshaped, e.zeros(wanted, y.rank()), e.indices(&vec![-1; y.rank()])];
    let number = if y.rank() > 4 { 5 } else { version(y, 1, 2, 4) };
    e.push_operator(B::SLICE, number, Options::Other(T::SLICE), &inputs, &site.outputs);
    Ok(())
}

/// SLICE of an axis by open extents.
pub(super) fn open_slice(e: &mut Emitter<'_>, op: &OpenSlice, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let along = |own: &Expr, other: i64| -> Vec<Expr> {
        x.layout.order().map(|axis| if axis == op.axis { own.clone() } else { other.into() }).collect()
    };
    // -1 means the rest of the axis, which may be open.
    let begin = extents::list(e, &along(&op.start, 0))?;
    let inputs = [site.inputs[0], begin, extents::list(e, &along(&op.len, -1))?];
    let number = if x.rank() > 4 { 5 } else { version(x, 1, 2, 4) };
    e.push_operator(B::SLICE, number, Options::Other(T::SLICE), &inputs, &site.outputs);
    Ok(())
}

/// Integers that follow from open extents.
pub(super) fn symbolic(e: &mut Emitter<'_>, op: &Symbolic, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let values = extents::list(e, &op.values)?;
    if site.results[0].elem == Elem::I32 {
        return e.reshape_into(values, site.outputs[0], &site.results[0]);
    }
    let shaped = e.reshape(values, &site.results[0].with_elem(Elem::I32))?;
    let options = qcc_formats::tflite::Cast { from: Stored::INT32, to: Stored::INT64 };
    e.push_operator(B::CAST, 1, options, &[shaped], &site.outputs);
    Ok(())
}

/// PAD (with 0.0), PADV2 or MIRROR_PAD.
pub(super) fn pad(e: &mut Emitter<'_>, op: &Pad, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let pads: Vec<i32> = x.layout.order().flat_map(|a| [op.before[a] as i32, op.after[a] as i32]).collect();
    let shape = qcc_ir::Shape::known(&[x.rank(), 2]);
    let pads = e.constant(&TensorType::new(qcc_ir::Elem::I32, shape), &pads);
    let mut inputs = vec![site.inputs[0], pads];
    let number = match stored(&x.elem) {
        Stored::BOOL => 5,
        _ if x.rank() > 4 => 4,
        _ => version(x, 1, 2, 3),
    };
    let (code, number, options): (_, _, Options) = match op.mode {
        PadMode::Constant(0.0) => (B::PAD, number, Options::Other(T::PAD)),
        PadMode::Constant(value) => {
            inputs.push(e.scalar(x, value)?);
            (B::PADV2, number, Options::Other(T::PADV2))
        }
        PadMode::Reflect => (B::MIRROR_PAD, version(x, 1, 2, 3), MirrorPad { mode: MirrorPadMode::REFLECT }.into()),
        PadMode::Edge => return Err("it repeats the edge".into()),
    };
    e.push_operator(code, number, options, &inputs, &site.outputs);
    Ok(())
}

/// BROADCAST_TO.
pub(super) fn expand(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let y = &site.results[0];
    let shape = y.layout.physical(&y.shape);
    let inputs = [site.inputs[0], extents::shape(e, &shape)?];
    let options = Options::Other(T::BROADCAST_TO);
    e.push_operator(B::BROADCAST_TO, version(y, 2, 3, 3), options, &inputs, &site.outputs);
    Ok(())
}

/// TILE.
pub(super) fn tile(e: &mut Emitter<'_>, op: &Tile, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let repeats: Vec<i32> = x.layout.order().map(|a| op.repeats[a] as i32).collect();
    let inputs = [site.inputs[0], e.indices(&repeats)];
    e.push_operator(B::TILE, version(x, 1, 3, 1), Options::Other(T::TILE), &inputs, &site.outputs);
    Ok(())
}

/// REVERSE_V2, one for each axis: it supports adjacent axes only.
pub(super) fn reverse(e: &mut Emitter<'_>, op: &Reverse, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let number = match stored(&x.elem) {
        Stored::INT8 => 3,
        Stored::BOOL => 2,
        _ => 1,
    };
    let mut from = site.inputs[0];
    for (i, &axis) in op.axes.iter().enumerate() {
        let to = if i + 1 == op.axes.len() { site.outputs[0] } else { e.scratch(x, site.node) };
        let inputs = [from, e.indices(&[x.layout.position(axis) as i32])];
        e.push_operator(B::REVERSE_V2, number, Options::Other(T::REVERSE_V2), &inputs, &[to]);
        from = to;
    }
    if op.axes.is_empty() { Err("it reverses no axis".into()) } else { Ok(()) }
}

/// DEPTH_TO_SPACE.
pub(super) fn depth_to_space(
    e: &mut Emitter<'_>,
    op: &DepthToSpace,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let options = DepthToSpaceOptions { block_size: op.block as i32 };
    let number = version(&site.operands[0], 1, 2, 2);
    e.push_operator(B::DEPTH_TO_SPACE, number, options, &site.inputs, &site.outputs);
    Ok(())
}

/// SPACE_TO_DEPTH.
pub(super) fn space_to_depth(
    e: &mut Emitter<'_>,
    op: &SpaceToDepth,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let options = SpaceToDepthOptions { block_size: op.block as i32 };
    let number = version(&site.operands[0], 1, 2, 2);
    e.push_operator(B::SPACE_TO_DEPTH, number, options, &site.inputs, &site.outputs);
    Ok(())
}

//! Lowering of resampling: one spatial axis becomes two. Coordinate modes that the target does not support become a
//! Gather or a product with the interpolation matrix.

use qcc_ir::ops::{Coordinates, Gather, MatMul, Nearest, Op, Resize, ResizeMode};
use qcc_ir::{Dim, NodeId, Shape, Tensor, ValueId};

use super::build::{Build, Built};
use super::resize_open;
use crate::Skip;

pub(super) fn resize(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::Resize(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, x) = (op.clone(), b.g.operands(node)[0]);
    if op.size.rank() == 1 {
        let x = b.unsqueeze(x, 2)?;
        let size = [Dim::Known(1), op.size.dims()[0].clone()].into_iter().collect();
        let image = Resize { size, scale: vec![1.0, op.scale[0]], ..op };
        let y = b.op(image, &[x])?;
        return b.squeeze(y, 2);
    }
    if op.size.is_open() || b.ty(x).shape.dims()[2..].iter().any(|d| d.known().is_none()) {
        return resize_open::resize(b, &op, x);
    }
    let extents = b.spatial(x)?;
    let sizes = op.sizes().ok_or(Skip::NoMatch)?;
    if let Some(other) = next_spelling(&op, &extents)? {
        return b.op(other, &[x]);
    }
    let mut y = x;
    for axis in 0..sizes.len() {
        y = match op.mode {
            ResizeMode::Nearest(_) => {
                b.room(&[sizes[axis]], size_of::<i32>())?;
                let picks = picks(&op, axis, extents[axis])?;
                let index = b.constant(Tensor::from_vec(Shape::known(&[picks.len()]), picks));
                b.op(Gather { axis: 2 + axis }, &[y, index])?
            }
            ResizeMode::Linear | ResizeMode::Cubic { .. } => interpolate(b, &op, axis, y)?,
        };
    }
    Ok(y)
}

/// The resampling along one axis only.
fn along(op: &Resize, axis: usize) -> Resize {
    Resize { size: Shape::from_iter([op.size.dims()[axis].clone()]), scale: vec![op.scale[axis]], ..op.clone() }
}

/// The source index of each position of the result along one axis.
fn picks(op: &Resize, axis: usize, extent: usize) -> Result<Vec<i32>, Skip> {
    let ramp = Tensor::from_vec(Shape::known(&[1, 1, extent]), (0..extent).map(|i| i as f32).collect());
    let picked = Op::from(along(op, axis)).eval(&[&ramp])?;
    Ok(picked[0].floats().iter().map(|&v| v as i32).collect())
}

/// The nearest-neighbour modes that targets support, in the order in which they are tried.
const SPELLINGS: [(Nearest, Coordinates); 3] = [
    (Nearest::Floor, Coordinates::Asymmetric),
    (Nearest::Floor, Coordinates::HalfPixelForNearest),
    (Nearest::PreferCeil, Coordinates::AlignCorners),
];

/// The next mode that selects the same elements of an image of these spatial extents.
fn next_spelling(op: &Resize, extents: &[usize]) -> Result<Option<Resize>, Skip> {
    let nearest = match op.mode {
        ResizeMode::Nearest(nearest) => nearest,
        // They differ only in results of extent 1.
        ResizeMode::Linear
            if op.coordinates == Coordinates::PytorchHalfPixel
                && op.size.dims().iter().all(|s| *s != Dim::Known(1)) =>
        {
            return Ok(Some(Resize { coordinates: Coordinates::HalfPixel, ..op.clone() }));
        }
        ResizeMode::Linear | ResizeMode::Cubic { .. } => return Ok(None),
    };
    // The selected elements determine the result, so the scale may be the ratio of the extents.
    let sizes = op.sizes().ok_or(Skip::NoMatch)?;
    let scale: Vec<f32> = sizes.iter().zip(extents).map(|(&s, &x)| s as f32 / x as f32).collect();
    let spelled = |mode, coordinates| Resize { mode, coordinates, scale: scale.clone(), size: op.size.clone() };
    let behind = SPELLINGS.iter().position(|&s| s == (nearest, op.coordinates)).map_or(0, |i| i + 1);
    for &(nearest, coordinates) in &SPELLINGS[behind..] {
        let other = spelled(ResizeMode::Nearest(nearest), coordinates);
        let mut same = true;
        for (axis, &extent) in extents.iter().enumerate() {
            same &= picks(op, axis, extent)? == picks(&other, axis, extent)?;
        }
        if same {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// The product with the interpolation matrix along one axis. Its columns are resampled unit vectors.
fn interpolate(b: &mut Build<'_>, op: &Resize, axis: usize, x: ValueId) -> Built {
    let extent = b.spatial(x)?[axis];
    let size = op.size.dims()[axis].known().ok_or(Skip::NoMatch)?;
    b.room(&[extent, extent.max(size)], size_of::<f32>())?;
    let mut unit = vec![0.0f32; extent * extent];
    unit.iter_mut().step_by(extent + 1).for_each(|v| *v = 1.0);
    let unit = Tensor::from_vec(Shape::known(&[extent, 1, extent]), unit);
    let columns = Op::from(along(op, axis)).eval(&[&unit])?.swap_remove(0);
    let matrix = b.floats(columns, x)?;
    let matrix = b.reshape(matrix, Shape::known(&[extent, size]))?;
    // The axis is moved to the end and back.
    let rank = b.ty(x).rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(2 + axis, rank - 1);
    let last = 2 + axis == rank - 1;
    let x = if last { x } else { b.transpose(x, &perm)? };
    let y = b.op(MatMul { transpose_b: false }, &[x, matrix])?;
    if last { Ok(y) } else { b.transpose(y, &perm) }
}

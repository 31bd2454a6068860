//! Sizes of what is resized.

use qcc_ir::ops::{Extents, Resize};
use qcc_ir::{Dim, Expr, Shape, ValueId};

use super::{Build, extent};
use crate::refusal::Refusal;

/// The new extent of each axis, and the scale for its coordinates.
pub(crate) struct Sizes {
    pub(crate) size: Shape,
    pub(crate) scale: Vec<f32>,
}

impl Sizes {
    /// Axes by scales: each extent times its scale, rounded down.
    pub(crate) fn by_scales(n: &impl Build, x: ValueId, axes: &[usize], scales: &[f32]) -> Result<Sizes, Refusal> {
        let mut sizes = Sizes { size: n.shape(x).clone(), scale: vec![1.0; n.rank(x)] };
        if scales.len() != axes.len() || !scales.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(Refusal::Invalid(format!(
                "scales {} for {} axes",
                qcc_ir::diagnostic::list(scales),
                axes.len()
            )));
        }
        for (&axis, &scale) in axes.iter().zip(scales) {
            let size = scaled(&sizes.size.dims()[axis], scale)?;
            sizes.size = sizes.size.with(axis, size.ok_or_else(|| Refusal::Open(n.shape(x).clone()))?);
            sizes.scale[axis] = scale;
        }
        Ok(sizes)
    }

    /// Axes by their new extents.
    pub(crate) fn by_sizes(n: &impl Build, x: ValueId, axes: &[usize], asked: &[Expr]) -> Result<Sizes, Refusal> {
        let mut sizes = Sizes { size: n.shape(x).clone(), scale: vec![1.0; n.rank(x)] };
        let invalid = || {
            let asked = qcc_ir::diagnostic::list(asked);
            Refusal::Invalid(format!("sizes {asked} for {}", n.ty(x)))
        };
        let old = sizes.size.clone();
        if asked.len() != axes.len() || axes.iter().any(|&a| old.dims()[a] == Dim::Known(0)) {
            return Err(invalid());
        }
        for (&axis, size) in axes.iter().zip(asked) {
            let (from, to) = (&old.dims()[axis], Dim::of(size.clone()).ok_or_else(invalid)?);
            to.known().map_or(Ok(0), |to| extent(to as i64))?;
            sizes.scale[axis] = scale_between(from, &to);
            sizes.size = sizes.size.with(axis, to);
        }
        Ok(sizes)
    }
}

/// The extent times a scale, rounded down; `None` if the extent is open and neither the scale nor its inverse is whole.
fn scaled(from: &Dim, scale: f32) -> Result<Option<Dim>, Refusal> {
    let whole = |s: f32| (s.fract() == 0.0 && s < 1e6).then_some(s as i64);
    Ok(match from.known() {
        Some(n) => Some(extent((n as f32 * scale).floor() as i64)?.into()),
        None => match (whole(scale), whole(1.0 / scale)) {
            (Some(by), _) => from.map(|e| e.times(&by.into())),
            (None, Some(by)) => from.map(|e| e.floor_div(by)),
            (None, None) => None,
        },
    })
}

/// The scale of an axis that is resized: 0 where it is the quotient of open extents at run time.
pub(crate) fn scale_between(from: &Dim, to: &Dim) -> f32 {
    let whole = |a: &Dim, b: &Dim| a.expr().exact_div(&b.expr())?.constant().map(|n| n as f32);
    match (from.known(), to.known()) {
        (Some(from), Some(to)) => to as f32 / from as f32,
        _ => whole(to, from).or_else(|| whole(from, to).map(f32::recip)).unwrap_or(0.0),
    }
}

/// Resizes `x`; `size` and `scale` have an entry for each of its axes. The graph's operator resizes the spatial axes
/// only: if a batch or channel axis is resized, axes that are not resized are transposed into its place.
pub(crate) fn resize(n: &mut impl Build, x: ValueId, op: Resize) -> Result<ValueId, Refusal> {
    let shape = n.shape(x).clone();
    let stays = |a: &usize| op.size.dims()[*a] == shape.dims()[*a] && op.scale[*a] == 1.0;
    let (kept, resized): (Extents, Extents) = (0..shape.rank()).partition(stays);
    if resized.is_empty() {
        return Ok(x);
    }
    let part = |axes: &[usize]| Resize {
        size: axes.iter().map(|&a| op.size.dims()[a].clone()).collect(),
        scale: axes.iter().map(|&a| op.scale[a]).collect(),
        ..op
    };
    if resized[0] >= 2 {
        let spatial: Extents = (2..shape.rank()).collect();
        return n.add(part(&spatial), &[x]);
    }
    let along = |axes: &[usize], of: &[usize]| axes.iter().map(|&a| of[a]).collect::<Extents>();
    let (old, size) = (n.dims(x)?, op.sizes().ok_or_else(|| Refusal::Open(op.size.clone()))?);
    let order = [kept.as_slice(), &resized].concat();
    let apart = n.transpose(x, &order)?;
    let outer = |dims: &[usize]| -> [usize; 2] {
        dims.split_first().map_or([1, 1], |(first, rest)| [*first, rest.iter().product()])
    };
    let images = [&outer(&along(&kept, &old))[..], &along(&resized, &old)].concat();
    let images = n.reshape(apart, &images)?;
    let images = n.add(part(&resized), &[images])?;
    let apart = n.reshape(images, &along(&order, &size))?;
    let back: Extents = (0..order.len()).filter_map(|a| order.iter().position(|&o| o == a)).collect();
    n.transpose(apart, &back)
}

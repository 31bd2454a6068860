//! Sampling positions.

use qcc_ir::ops::{Extents, MatMul};
use qcc_ir::{Shape, Tensor, ValueId};

use super::Build;
use crate::refusal::Refusal;

/// The sampling grid of an affine transformation `theta` `[N, axes, axes + 1]` for images of extents `size` `[N, C,
/// spatial..]`: `[N, spatial.., axes]`, innermost axis first. -1 and 1 are the centres of the outermost elements
/// (`align_corners`) or their outer edges.
pub(crate) fn affine_grid(
    n: &mut impl Build,
    theta: ValueId,
    size: &[usize],
    align_corners: bool,
) -> Result<ValueId, Refusal> {
    let spatial = size.get(2..).unwrap_or_default();
    let axes = spatial.len();
    if axes == 0 || size.contains(&0) || n.dims(theta)?.as_slice() != [size[0], axes, axes + 1] {
        return Err(Refusal::Invalid(format!("a matrix {} for an image {size:?}", n.ty(theta))));
    }
    let dims: Extents = size[..1].iter().chain(spatial).copied().chain([axes]).collect();
    let count = spatial.iter().try_fold(1usize, |all, &d| all.checked_mul(d)).unwrap_or(usize::MAX);
    n.room(&[count, axes + 1], size_of::<f32>())?;
    let place = |i: usize, extent: usize| match (align_corners, extent) {
        (true, 1) => 0.0,
        (true, _) => (2 * i) as f32 / (extent - 1) as f32 - 1.0,
        (false, _) => (2 * i + 1) as f32 / extent as f32 - 1.0,
    };
    let mut places = Vec::with_capacity(count * (axes + 1));
    for at in 0..count {
        let mut inner = 1;
        for &extent in spatial.iter().rev() {
            places.push(place(at / inner % extent, extent));
            inner *= extent;
        }
        places.push(1.0);
    }
    let places = n.add_constant(Tensor::from_vec(Shape::known(&[1, count, axes + 1]), places));
    let places = n.cast(places, n.ty(theta).elem.clone())?;
    let moved = n.add(MatMul { transpose_b: true }, &[places, theta])?;
    n.reshape(moved, &dims)
}

//! Resampling of an axis by a constant linear map.

use qcc_ir::ops::{Extents, Gather, MatMul};
use qcc_ir::{Shape, Tensor, ValueId};

use super::Build;
use crate::refusal::Refusal;

/// The interpolation between elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Filter {
    Linear,
    /// Cubic with the coefficient `a`.
    Cubic {
        a: f32,
    },
}

impl Filter {
    /// Half the width of the filter.
    fn radius(self) -> f32 {
        match self {
            Filter::Linear => 1.0,
            Filter::Cubic { .. } => 2.0,
        }
    }

    /// The weight of an element at this distance.
    fn weight(self, distance: f32) -> f32 {
        let d = distance.abs();
        match self {
            Filter::Linear => (1.0 - d).max(0.0),
            Filter::Cubic { a } if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
            Filter::Cubic { a } if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * a,
            Filter::Cubic { .. } => 0.0,
        }
    }
}

/// How elements of an axis are combined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resample {
    pub(crate) filter: Filter,
    /// How much wider the filter is: 1 over the scale where an axis is reduced with antialiasing, else 1.
    pub(crate) stretch: f32,
    /// Leave out weights of elements outside the axis; else they are those of the element at the edge.
    pub(crate) exclude_outside: bool,
}

impl Resample {
    /// The weights of the `extent` elements of an axis at this position, whose sum is 1.
    fn weights(&self, position: f32, extent: usize) -> Vec<f32> {
        let reach = self.filter.radius() * self.stretch;
        let (first, last) = ((position - reach).floor() as i64, (position + reach).ceil() as i64);
        let mut weights = vec![0f32; extent];
        for at in first..=last {
            let edge = at.clamp(0, extent as i64 - 1);
            if edge == at || !self.exclude_outside {
                weights[edge as usize] += self.filter.weight((at as f32 - position) / self.stretch);
            }
        }
        let sum: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
        weights
    }

    /// `x` at these positions of an axis: the product with a matrix along that axis.
    pub(crate) fn apply(
        &self,
        n: &mut impl Build,
        x: ValueId,
        axis: usize,
        positions: &[f32],
    ) -> Result<ValueId, Refusal> {
        let (extent, count) = (n.dims(x)?[axis], positions.len());
        n.room(&[extent, count], size_of::<f32>())?;
        let rows: Vec<Vec<f32>> = positions.iter().map(|&p| self.weights(p, extent)).collect();
        let values = (0..extent * count).map(|i| rows[i % count][i / count]).collect();
        let matrix = n.add_constant(Tensor::from_vec(Shape::known(&[extent, count]), values));
        let matrix = n.cast(matrix, n.ty(x).elem.clone())?;
        let rank = n.rank(x);
        let mut perm: Extents = (0..rank).filter(|&a| a != axis).collect();
        perm.push(axis);
        let rows = n.transpose(x, &perm)?;
        let rows = if rank == 1 { n.reshape(rows, &[1, extent])? } else { rows };
        let y = n.add(MatMul { transpose_b: false }, &[rows, matrix])?;
        let y = if rank == 1 { n.reshape(y, &[count])? } else { y };
        let mut back: Extents = (0..rank - 1).collect();
        back.insert(axis, rank - 1);
        n.transpose(y, &back)
    }
}

/// The elements of an axis at these places, clamped to the axis.
pub(crate) fn picked(n: &mut impl Build, x: ValueId, axis: usize, places: &[f32]) -> Result<ValueId, Refusal> {
    let last = n.dims(x)?[axis].saturating_sub(1) as f32;
    let places = n.table(&[places.len()], |i| places[i].clamp(0.0, last) as i64)?;
    n.add(Gather { axis }, &[x, places])
}

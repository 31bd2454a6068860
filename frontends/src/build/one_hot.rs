//! Indices as positions along an axis of their own.

use qcc_ir::ops::BinaryFn;
use qcc_ir::{Dim, Shape, ValueId};

use super::{Operands, computed, extent, movement};
use crate::refusal::Refusal;

/// Whether the position along a new axis equals the index. The number of positions is operand `depth`.
pub(crate) fn hits<N: Operands>(n: &mut N, index: ValueId, depth: usize, axis: usize) -> Result<ValueId, Refusal> {
    let elem = n.ty(index).elem.clone();
    let column = movement::unsqueezed(n, index, &[axis as i64])?;
    let along = |depth: Dim| Shape::from_iter(vec![Dim::Known(1); column.rank()]).with(axis, depth);
    let places = match n.computed(depth)? {
        Some(depth) => {
            let depth = computed::one_defined(n, depth)?;
            let places = computed::counted(n, depth.clone())?;
            let places = n.reshape_to(places, along(computed::open(depth)?))?;
            n.cast(places, elem)?
        }
        None => {
            let depth = n.integer(depth)?;
            let shape = along(extent(depth)?.into());
            let places = n.table_of(&elem, &shape.extents().unwrap_or_default(), |i| i as f64)?;
            places.ok_or_else(|| Refusal::Invalid(format!("a depth of {depth}")))?
        }
    };
    let column = n.reshape_to(index, column)?;
    n.binary(BinaryFn::Equal, column, places)
}

//! The different elements of a list.

use qcc_ir::ops::{BinaryFn, CumSum, Expand, Extents, Gather, ReduceFn, ScatterFn, ScatterNd, Select};
use qcc_ir::{Dim, Elem, ValueId};

use super::Build;
use super::computed::counted;
use super::index::non_zero;
use crate::refusal::Refusal;

/// The different elements of a list, in the order of their first places or, `sorted`, in ascending order. Beside them, for each
/// the first place, for each element of the list its index among the different ones, and for each different one the number of
/// its places. All integers are `I64`.
pub(crate) fn unique(n: &mut impl Build, x: ValueId, sorted: bool) -> Result<[ValueId; 4], Refusal> {
    let [len] = n.shape(x).dims() else {
        return Err(Refusal::Invalid(format!("{}; expected a list", n.ty(x))));
    };
    let len = len.clone();
    let row = n.reshape_to(x, [Dim::Known(1), len.clone()].into_iter().collect())?;
    let column = n.reshape_to(x, [len.clone(), Dim::Known(1)].into_iter().collect())?;
    let places = counted(n, len.expr())?;
    // For each element the first place that has the same.
    let equal = n.binary(BinaryFn::Equal, column, row)?;
    let beyond = n.add_whole(vec![len.expr()], Extents::new())?;
    let same = n.add(Select {}, &[equal, places, beyond])?;
    let first = n.reduce(ReduceFn::Min, same, &[1], false)?;
    // NaN, which is equal to no element, is found at its own place alone.
    let first = n.binary(BinaryFn::Min, first, places)?;
    let is_first = n.binary(BinaryFn::Equal, first, places)?;
    let ones = n.cast(is_first, Elem::I64)?;
    // For each element the index of its value among the different ones, where it is the first.
    let index = if sorted {
        let less = n.binary(BinaryFn::Less, row, column)?;
        let less = n.cast(less, Elem::I64)?;
        let less = n.binary(BinaryFn::Mul, less, ones)?;
        n.reduce(ReduceFn::Sum, less, &[1], false)?
    } else {
        n.add(CumSum { axis: 0, exclusive: true, reverse: false }, &[ones])?
    };
    let inverse = n.add(Gather { axis: 0 }, &[index, first])?;
    let found = non_zero(n, is_first)?;
    let count = n.shape(found).dims()[1].clone();
    let found = n.reshape_to(found, [count.clone()].into_iter().collect())?;
    let firsts = if sorted {
        let to = n.add(Gather { axis: 0 }, &[index, found])?;
        let to = n.reshape_to(to, [count.clone(), Dim::Known(1)].into_iter().collect())?;
        let zero = n.scalar(0.0, found)?;
        let none = n.add(Expand { shape: [count.clone()].into_iter().collect() }, &[zero])?;
        n.add(ScatterNd { f: ScatterFn::Replace }, &[none, to, found])?
    } else {
        found
    };
    let values = n.add(Gather { axis: 0 }, &[x, firsts])?;
    let order = counted(n, count.expr())?;
    let order = n.reshape_to(order, [count, Dim::Known(1)].into_iter().collect())?;
    let all = n.reshape_to(inverse, [Dim::Known(1), len].into_iter().collect())?;
    let hits = n.binary(BinaryFn::Equal, order, all)?;
    let hits = n.cast(hits, Elem::I64)?;
    let counts = n.reduce(ReduceFn::Sum, hits, &[1], false)?;
    Ok([values, firsts, inverse, counts])
}

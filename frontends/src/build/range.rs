//! Numbers at equal distances.

use qcc_ir::ops::{BinaryFn, CumSum, Expand};
use qcc_ir::{Elem, ValueId};

use super::Build;
use super::computed::{self, shape_of};
use super::symbolic::whole;
use crate::refusal::Refusal;

/// start, start + delta, .. excluding the limit.
pub(crate) fn range(n: &mut impl Build, operands: [ValueId; 3]) -> Result<ValueId, Refusal> {
    if let Some(open) = open_range(n, operands)? {
        return Ok(open);
    }
    for (i, &v) in operands.iter().enumerate() {
        if n.shape(v).elements() != Some(1) {
            return Err(Refusal::Invalid(format!("input {i} is {}; expected a scalar", n.ty(v))));
        }
    }
    let Some(terms) = operands.iter().map(|&v| n.constant(v).cloned()).collect::<Option<Vec<_>>>() else {
        let [start, limit, delta] = operands.map(|v| n.reshape(v, &[]));
        return computed::range(n, [start?, limit?, delta?]);
    };
    let elem = terms[0].ty().elem.clone();
    if elem == Elem::F32 {
        let [start, limit, delta] = [0, 1, 2].map(|i| f64::from(terms[i].floats()[0]));
        let count = ((limit - start) / delta).ceil().max(0.0) as usize;
        let (start, delta) = (start as f32, delta as f32);
        return n.table(&[count], |i| start + i as f32 * delta);
    }
    let term = |i: usize| terms[i].integers().and_then(|v| v.first().copied()).map(i128::from);
    let (Some(start), Some(limit), Some(delta)) = (term(0), term(1), term(2)) else {
        return Err(Refusal::Unsupported(format!("a range of {elem} is not supported")));
    };
    let count = match delta {
        0 => return Err(Refusal::Invalid("a range with steps of 0".into())),
        d if d > 0 => (limit - start + d - 1) / d,
        d => (start - limit - d - 1) / -d,
    };
    // Beyond 2^53 the numbers would not be exact.
    if [start, start + (count - 1).max(0) * delta].iter().any(|v| v.abs() >= 9_000_000_000_000_000) {
        return Err(Refusal::Unsupported("a range of very large numbers".into()));
    }
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let range = n.table_of(&elem, &[count], |i| (start + i as i128 * delta) as f64)?;
    range.ok_or_else(|| Refusal::Invalid(format!("the range leaves {elem}")))
}

/// A range of integers with steps of 1 whose length depends on open extents: the running sum of as many ones.
fn open_range(n: &mut impl Build, operands: [ValueId; 3]) -> Result<Option<ValueId>, Refusal> {
    let [Some(start), Some(limit), Some(delta)] = operands.map(|v| whole(n.graph(), v)) else { return Ok(None) };
    let ([start], [limit], [delta]) = (start.as_slice(), limit.as_slice(), delta.as_slice()) else { return Ok(None) };
    let len = match limit.minus(start) {
        Some(len) if len.constant().is_none() && delta.constant() == Some(1) => shape_of(&[len])?,
        _ => return Ok(None),
    };
    let elem = n.ty(operands[0]).elem.clone();
    let one = n.scalar(1.0, operands[2])?;
    let ones = n.add(Expand { shape: len }, &[one])?;
    let counted = n.add(CumSum { axis: 0, exclusive: true, reverse: false }, &[ones])?;
    let counted = n.cast(counted, elem)?;
    match start.constant() {
        Some(0) => Ok(Some(counted)),
        _ => Ok(Some(n.binary(BinaryFn::Add, counted, operands[0])?)),
    }
}

//! Sequences and optional values, which are resolved at import: the number of elements and the positions are constants.

use qcc_ir::ops::{Concat, Range, Slice};
use qcc_ir::{Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::control::{slice_at, stacked};
use crate::build::{Build, Operands, Values, count_axis, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("ConcatFromSequence", concat),
    ("Optional", |n| one(n.input(0)?)),
    ("OptionalGetElement", |n| one(n.input(0)?)),
    ("OptionalHasElement", |n| {
        let has = n.optional(0).is_some();
        one(n.add_constant(Tensor::from_bools(Shape::scalar(), [has])))
    }),
    ("SequenceAt", |n| {
        let (elements, at) = (n.sequence(0)?, n.integer(1)?);
        one(elements[count_axis(at, elements.len())?])
    }),
    ("SequenceConstruct", |n| {
        let elements = n.all_inputs()?;
        one(n.add_sequence(elements))
    }),
    ("SequenceEmpty", |n| {
        n.optional_int("dtype")?;
        one(n.add_sequence(Values::new()))
    }),
    ("SequenceErase", |n| {
        let mut elements = n.sequence(0)?;
        let at = n.optional_integers(1)?.and_then(|at| at.first().copied()).unwrap_or(-1);
        elements.remove(count_axis(at, elements.len())?);
        one(n.add_sequence(elements))
    }),
    ("SequenceInsert", insert),
    ("SequenceLength", |n| {
        let count = n.sequence(0)?.len();
        one(n.add_constant(Tensor::scalar(i64::try_from(count).unwrap_or(i64::MAX))))
    }),
    ("SequenceMap", map),
    ("SplitToSequence", split),
];

/// Concatenates the elements along an axis, or along a new one.
fn concat(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let elements = n.sequence(0)?;
    let axis = n.optional_int("axis")?.ok_or(Refusal::Attribute { name: "axis".into(), problem: "is missing" })?;
    if n.flag("new_axis", false)? {
        return one(stacked(n, &elements, axis, false)?);
    }
    match *elements {
        [] => Err(Refusal::Invalid("an empty sequence is concatenated".into())),
        [only] => one(only),
        [first, ..] => {
            let axis = n.axis(axis, first)?;
            let all = n.add(Concat { axis }, &elements)?;
            n.hand_on(all, first);
            one(all)
        }
    }
}

/// Inserts an element before a position; at the end by default.
fn insert(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut elements = n.sequence(0)?;
    let element = n.input(1)?;
    let at = match n.optional_integers(2)?.and_then(|at| at.first().copied()) {
        // The position of a new last element is valid, so that negative positions count from one less.
        Some(at) if at < 0 => count_axis(at, elements.len())?,
        Some(at) => count_axis(at, elements.len() + 1)?,
        None => elements.len(),
    };
    elements.insert(at, element);
    one(n.add_sequence(elements))
}

/// Applies a graph to each element; other operands are the same for all.
fn map(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let body = n.graph("body")?;
    let operands = n.all_inputs()?;
    let count = n.sequence(0)?.len();
    let lists: Vec<Option<Values>> = operands.iter().map(|&v| n.elements(v)).collect();
    if lists.iter().flatten().any(|list| list.len() != count) {
        return Err(Refusal::Invalid("sequences of unlike lengths".into()));
    }
    let path = n.origin().path().to_owned();
    let mut results = vec![Values::new(); body.output.len()];
    for i in 0..count {
        let inputs: Values =
            operands.iter().zip(&lists).map(|(&v, list)| list.as_ref().map_or(v, |list| list[i])).collect();
        let mapped = n.inline(body, &inputs, Some(format!("{path}/{i}")))?;
        results.iter_mut().zip(mapped).for_each(|(list, v)| list.push(v));
    }
    Ok(results.into_iter().map(|list| n.add_sequence(list)).collect())
}

/// Parts of an axis: of the given sizes, of one size (the last may be smaller), or of extent 1.
fn split(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.int("axis", 0)?;
    let axis = n.axis(axis, x)?;
    let keep = n.flag("keepdims", true)?;
    let whole = n.shape(x).dims()[axis].known().ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    let parts = match n.optional_constant(1)? {
        None if keep => vec![1; whole],
        None => {
            let parts = (0..whole).map(|at| slice_at(n, x, axis, at)).collect::<Result<_, _>>()?;
            return one(n.add_sequence(parts));
        }
        Some(given) => {
            let sizes = given.integers().unwrap_or_default();
            let sizes = sizes.iter().map(|&size| extent(size)).collect::<Result<Vec<usize>, _>>()?;
            match *sizes {
                [size] if given.ty().rank() == 0 && size > 0 => {
                    (0..whole).step_by(size).map(|start| size.min(whole - start)).collect()
                }
                _ => sizes,
            }
        }
    };
    if parts.iter().sum::<usize>() != whole {
        return Err(Refusal::Invalid(format!("an axis of {whole} cannot be split into {parts:?}")));
    }
    let mut start = 0;
    let mut elements = Values::new();
    for len in parts {
        let part: ValueId = n.add(Slice { ranges: vec![Range { axis, start, len, step: 1 }] }, &[x])?;
        n.hand_on(part, x);
        elements.push(part);
        start += len;
    }
    one(n.add_sequence(elements))
}

//! Operators on quantized integers.
//!
//! In a file, the results of QuantizeLinear are plain integers, and any operator may use them. In the graph they are
//! quantized values. An operator that commutes with dequantization is imported as the float operator between
//! [`Dequantize`] and [`Quantize`]; so is a clamp, with dequantized limits. All other operators compute with plain
//! integers.

use qcc_ir::ops::{Clamp, Dequantize, Op, Quantize};
use qcc_ir::{Elem, Tensor, TensorType, ValueId};
use rustc_hash::FxHashMap;

use super::integers::{Inputs, constant_on, plain_integers, storage};
use super::node::{Import, NodeCx};
use crate::build::{Build, Values};
use crate::elements::Stored;
use crate::refusal::Refusal;

/// The value, or its plain integers if it is quantized.
pub(super) fn plain(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
    if n.ty(x).elem.qparams().is_none() {
        return Ok(x);
    }
    if let Some(&known) = n.integers_of_file().plain.get(&x) {
        return Ok(known);
    }
    let stored = n.stored(x).ok_or_else(|| Refusal::Unsupported(format!("the integers of {}", n.ty(x))))?;
    let integers = plain_integers(n, x, stored)?;
    let all = n.integers_of_file();
    all.plain.insert(x, integers);
    all.qparams.insert(integers, x);
    if all.stored.contains_key(&x) {
        all.stored.insert(integers, stored);
    }
    Ok(integers)
}

/// An integer of the file dequantized with the parameters of `x`, or unchanged if `x` is not quantized.
pub(super) fn number_beside(n: &NodeCx<'_, '_>, x: ValueId, integer: f64) -> Result<f64, Refusal> {
    let Some(qparams) = n.ty(x).elem.qparams() else { return Ok(integer) };
    let (scale, zero) =
        qparams.tensor_map().ok_or_else(|| Refusal::Unsupported(format!("a number beside those of {}", n.ty(x))))?;
    let shift = n.stored(x).and_then(storage).map_or(0, |s| s.1);
    Ok((integer + f64::from(shift) - f64::from(zero)) * f64::from(scale))
}

/// The results of a row that does not accept quantized values, if some of the inputs are quantized.
pub(super) fn results(n: &mut NodeCx<'_, '_>, import: Import) -> Result<Values, Refusal> {
    let inputs = n.input_values().clone();
    if let Some(values) = carried(n, import, &inputs)? {
        return Ok(values);
    }
    let integers: Result<Inputs, Refusal> = inputs.iter().map(|v| v.map(|v| plain(n, v)).transpose()).collect();
    let values = n.with_values(integers?, import).map_err(|e| match e {
        Refusal::Type(why) => Refusal::Unsupported(format!("it works on quantized integers: {why}")),
        other => other,
    })?;
    values.into_iter().map(|v| limited(n, v)).collect()
}

/// The results if the row commutes with dequantization.
fn carried(n: &mut NodeCx<'_, '_>, import: Import, inputs: &Inputs) -> Result<Option<Values>, Refusal> {
    let mut qdq = inputs.iter().flatten().filter(|v| n.ty(**v).elem.qparams().is_some());
    let Some(&first) = qdq.next() else { return Ok(None) };
    let (elem, stored) = (n.ty(first).elem.clone(), n.stored(first));
    let (Some(qparams), Some(stored)) = (elem.qparams().cloned(), stored) else { return Ok(None) };
    if qdq.any(|v| n.ty(*v).elem != elem || n.stored(*v) != Some(stored)) {
        return Ok(None);
    }
    // Constants of the same integers have the same quantization parameters.
    let placed = |n: &mut NodeCx<'_, '_>, v: ValueId| {
        let same = n.constant(v).filter(|_| n.stored(v) == Some(stored));
        match same.and_then(|t| constant_on(t, stored, &qparams)) {
            Some(t) => n.add_constant(t),
            None => v,
        }
    };
    let inputs: Inputs = inputs.iter().map(|v| v.map(|v| placed(n, v))).collect();
    let Ok(values) = n.with_values(inputs.clone(), import) else { return Ok(None) };
    let mut known: FxHashMap<ValueId, ValueId> = FxHashMap::default();
    for &v in inputs.iter().flatten() {
        if n.ty(v).elem.qparams().is_none() {
            continue;
        }
        let real = match n.constant(v).map(Tensor::to_float) {
            Some(real) => n.add_constant(real),
            None => n.add(Dequantize {}, &[v])?,
        };
        known.insert(v, real);
    }
    let mut results = Values::new();
    for v in values {
        let Some(real) = real(n, v, &mut known)? else { return Ok(None) };
        let ty = n.ty(v).clone();
        results.push(match &ty.elem {
            Elem::Quantized(_) if known.get(&v) == Some(&real) && inputs.contains(&Some(v)) => v,
            Elem::Quantized(_) => quantize_with(n, real, ty, stored)?,
            _ => real,
        });
    }
    Ok(Some(results))
}

/// `v`, an expression of the keys of `known`, rebuilt on their dequantized values.
fn real(n: &mut impl Build, v: ValueId, known: &mut FxHashMap<ValueId, ValueId>) -> Result<Option<ValueId>, Refusal> {
    if let Some(&real) = known.get(&v) {
        return Ok(Some(real));
    }
    let (op, operands) = (n.graph().op(v.node).clone(), n.graph().operands(v.node));
    let quantize_with = |v: &ValueId| n.ty(*v).elem.qparams().is_some();
    if !operands.iter().any(quantize_with) && !quantize_with(&v) {
        return Ok(Some(v));
    }
    if !op.carries_integers() {
        return Ok(None);
    }
    let mut reals = Values::new();
    for operand in operands {
        let Some(real) = real(n, operand, known)? else { return Ok(None) };
        reals.push(real);
    }
    let made = n.add_all(op, &reals)?;
    known.extend(n.graph().results(v.node).zip(made));
    Ok(known.get(&v).copied())
}

/// Quantizes floats to the quantized type `ty`, which represents integers of this type of the file.
pub(super) fn quantize_with(
    n: &mut NodeCx<'_, '_>,
    real: ValueId,
    ty: TensorType,
    stored: Stored,
) -> Result<ValueId, Refusal> {
    let qparams = ty.elem.qparams().cloned();
    let y = n.add_typed(Quantize {}, &[real], ty)?;
    if qparams.is_some_and(|g| g.storage.elem() != stored.elem() || stored.bits() < 8) {
        n.integers_of_file().declare(y, stored);
    }
    Ok(y)
}

/// A result of a row on plain integers: quantized like its operand, if it is the same integers or a clamp of them.
fn limited(n: &mut NodeCx<'_, '_>, v: ValueId) -> Result<ValueId, Refusal> {
    if let Some(quantize_with) = n.integers_of_file().qparams_of(v).filter(|&g| n.stored(g) == n.stored(v)) {
        return Ok(quantize_with);
    }
    let &Op::Clamp(Clamp { lo, hi }) = Build::graph(n).producer(v) else { return Ok(v) };
    let x = Build::graph(n).operands(v.node)[0];
    let Some(x) = n.integers_of_file().qparams_of(x) else { return Ok(v) };
    let (Some(stored), ty) = (n.stored(x), n.ty(x).clone()) else { return Ok(v) };
    if ty.elem.qparams().is_none_or(|g| g.tensor_map().is_none()) {
        return Ok(v);
    }
    let limit = |limit: f32| number_beside(n, x, limit.into()).map(|v| v as f32);
    let clamp = Clamp { lo: limit(lo)?, hi: limit(hi)? };
    let real = n.add(Dequantize {}, &[x])?;
    let real = n.add(clamp, &[real])?;
    quantize_with(n, real, ty, stored)
}

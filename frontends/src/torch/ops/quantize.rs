//! Quantized values: what PyTorch's own quantizer (pt2e) writes around operators.

use qcc_ir::ops::{Dequantize, Quantize};
use qcc_ir::{Affine, Elem, Grid, Store, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("quantized_decomposed.dequantize_per_channel", dequantize),
    ("quantized_decomposed.dequantize_per_tensor", dequantize),
    ("quantized_decomposed.quantize_per_channel", quantize),
    ("quantized_decomposed.quantize_per_tensor", quantize),
];

fn store(n: &mut NodeCx<'_, '_>) -> Result<Store, Refusal> {
    let (least, most) = (n.required_int("quant_min")?, n.required_int("quant_max")?);
    let store = match n.dtype("dtype")? {
        Some(Elem::I8) => Store::I8,
        Some(Elem::U8) => Store::U8,
        Some(Elem::I16) => Store::I16,
        Some(Elem::I32) => Store::I32,
        other => return Err(Refusal::Unsupported(format!("a quantized value of type {other:?} is not supported"))),
    };
    let (lo, hi) = store.range();
    // Weights of 8 bits without -128 lie on the same grid; fewer bits saturate elsewhere.
    if most != i64::from(hi) || (least != i64::from(lo) && least != i64::from(lo) + 1) {
        return Err(Refusal::Unsupported(format!("a quantized value from {least} to {most} is not supported")));
    }
    Ok(store)
}

/// The grid that scale and zero point span.
fn grid(n: &mut NodeCx<'_, '_>) -> Result<Grid, Refusal> {
    let store = store(n)?;
    let positive =
        |s: f32| if s.is_normal() && s > 0.0 { Ok(s) } else { Err(Refusal::Invalid(format!("a scale of {s}"))) };
    if !n.has("scales") {
        let (scale, zero) = (n.float("scale", 0.0)?, n.required_int("zero_point")?);
        let zero_point = i32::try_from(zero).map_err(|_| Refusal::Invalid(format!("a zero point of {zero}")))?;
        return Ok(Grid::per_tensor(store, positive(scale as f32)?, zero_point));
    }
    let (scales, zeros) = (n.tensor("scales")?, n.optional("zero_points")?);
    let (axis, x) = (n.required_int("axis")?, n.input()?);
    let axis = n.axis(axis, x)?;
    let open = || Refusal::NotConstant { index: 1, name: "scales".into() };
    let scales =
        n.constant(scales).ok_or_else(open)?.reals().iter().map(|&s| positive(s)).collect::<Result<Vec<f32>, _>>()?;
    if let Some(zeros) = zeros
        && n.integers(zeros, "zero_points")?.iter().any(|&z| z != 0)
    {
        return Err(Refusal::Unsupported("zero points for each channel are not supported".into()));
    }
    if scales.len() != n.dims(x)[axis] {
        return Err(Refusal::Invalid(format!("{} scales for axis {axis} of {}", scales.len(), n.ty(x))));
    }
    Ok(Grid { store, map: Affine::PerAxis { axis, scales: scales.into() } })
}

fn quantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let grid = grid(n)?;
    let x = n.input()?;
    let least = grid.store.range().0.into();
    let whole = n.required_int("quant_min")? == least;
    let y = typed(n, x, grid)?;
    // The store's smallest integer is beyond a range that is narrower by it.
    if !whole && n.constant(y).and_then(Tensor::integers).is_none_or(|q| q.contains(&least)) {
        return Err(Refusal::Unsupported("values quantized to a range narrower than their store".into()));
    }
    one(y)
}

fn typed(n: &mut NodeCx<'_, '_>, x: ValueId, grid: Grid) -> Result<ValueId, Refusal> {
    let ty = n.ty(x).with_elem(Elem::Grid(grid.clone()));
    if let Some(known) = n.constant(x) {
        let known = known.quantized(&grid);
        return Ok(n.add_constant(known));
    }
    n.add_typed(Quantize {}, &[x], ty)
}

/// Integers that the file holds lie on the grid that the node names.
fn dequantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let grid = grid(n)?;
    n.dtype("out_dtype")?;
    let x = n.input()?;
    let x = match n.ty(x).elem.grid() {
        Some(found) if *found == grid => x,
        Some(_) => {
            return Err(Refusal::Unsupported("integers are read on another grid than they were written on".into()));
        }
        None => {
            let ty = n.ty(x).with_elem(Elem::Grid(grid));
            let held = n.constant(x).and_then(|t| t.retype(ty));
            let held =
                held.ok_or_else(|| Refusal::Unsupported("integers that are not constant are dequantized".into()))?;
            n.add_constant(held)
        }
    };
    one(n.add(Dequantize {}, &[x])?)
}

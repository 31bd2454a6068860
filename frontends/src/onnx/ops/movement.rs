//! Operators that move elements without changing them.

use qcc_ir::ops::{
    Concat, DepthToSpace, Expand, Extents, Pad, PadMode, Range, Select, Slice, SpaceToDepth, Tile, broadcast,
};
use qcc_ir::{Shape, ValueId};

use super::super::node::NodeCx;
use super::super::qdq::number_beside;
use super::Row;
use crate::build::index::{range, triangle};
use crate::build::pad::{Beyond, continued};
use crate::build::{Build, Values, count_axes, count_axis, extent, extents, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Concat", concat),
    ("DepthToSpace", depth_to_space),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Pad", pad),
    ("Reshape", reshape),
    ("Slice", slice),
    ("SpaceToDepth", space_to_depth),
    ("Split", split),
    ("Squeeze", squeeze),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Trilu", trilu),
    ("Unsqueeze", unsqueeze),
];

fn reshape(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let asked = n.integers(1)?;
    let zero_is_zero = n.flag("allowzero", false)?;
    let old = n.dims(x);
    let mut dims = Extents::new();
    for (i, &d) in asked.iter().enumerate() {
        dims.push(match d {
            0 if !zero_is_zero => *old.get(i).ok_or_else(|| {
                Refusal::Invalid(format!("shape {asked:?} copies extent {i} of a value of rank {}", old.len()))
            })?,
            -1 => 1,
            d => extent(d)?,
        });
    }
    let open: Vec<usize> = (0..asked.len()).filter(|&i| asked[i] == -1).collect();
    match *open {
        [] => {}
        [open] => {
            let count = |dims: &[usize]| dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            dims[open] = match (count(&old), count(&dims)) {
                (Some(total), Some(known)) if known > 0 && total % known == 0 => total / known,
                _ => return Err(Refusal::Invalid(format!("{} elements do not fill the shape {asked:?}", n.ty(x)))),
            };
        }
        _ => return Err(Refusal::Invalid(format!("shape {asked:?} leaves more than one extent open"))),
    }
    one(n.reshape(x, &dims)?)
}

fn flatten(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    // The axis may equal the rank; then the first extent of the result has all elements.
    let axis = n.int("axis", 1)?;
    let axis = count_axis(axis, n.rank(x) + usize::from(axis >= 0))?;
    let dims = n.dims(x);
    one(n.reshape(x, &[dims[..axis].iter().product(), dims[axis..].iter().product()])?)
}

fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axes = n.attribute_or_input("axes", 13, 1)?;
    let mut dims = n.dims(x);
    let axes = match axes {
        Some(axes) => count_axes(&axes, dims.len())?,
        None => (0..dims.len()).filter(|&a| dims[a] == 1).collect(),
    };
    for &a in axes.iter().rev() {
        if dims.remove(a) != 1 {
            return Err(Refusal::Invalid(format!("axis {a} of {} has not extent 1", n.ty(x))));
        }
    }
    one(n.reshape(x, &dims)?)
}

fn unsqueeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axes = n.attribute_or_input("axes", 13, 1)?.ok_or(Refusal::MissingInput(1))?;
    let mut dims = n.dims(x);
    for &a in &count_axes(&axes, dims.len() + axes.len())? {
        dims.insert(a, 1);
    }
    one(n.reshape(x, &dims)?)
}

fn transpose(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let perm = match n.ints("perm")? {
        Some(perm) => extents(perm)?,
        None => (0..n.rank(x)).rev().collect(),
    };
    one(n.transpose(x, &perm)?)
}

fn concat(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let parts = n.all_inputs()?;
    let axis = n.optional_int("axis")?.ok_or(Refusal::Attribute { name: "axis".into(), problem: "is missing" })?;
    let axis = n.axis(axis, parts[0])?;
    match *parts {
        [only] => one(only),
        _ => one(n.add(Concat { axis }, &parts)?),
    }
}

fn split(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axis = n.int("axis", 0)?;
    let axis = n.axis(axis, x)?;
    let extent = n.dims(x)[axis];
    let sizes = n.attribute_or_input("split", 13, 1)?;
    let parts = n.optional_int("num_outputs")?;
    let sizes = match sizes {
        Some(sizes) => extents_of_parts(&sizes)?,
        None => {
            let count = n.outputs();
            if let Some(parts) = parts.filter(|&p| usize::try_from(p) != Ok(count)) {
                return Err(Refusal::Invalid(format!("num_outputs is {parts} for {count} outputs")));
            }
            if count == 0 {
                return Err(Refusal::Invalid("a split without outputs".into()));
            }
            // Only with `num_outputs` the last part may be smaller.
            if parts.is_none() && !extent.is_multiple_of(count) {
                return Err(Refusal::Invalid(format!("{extent} cannot be split into {count} equal parts")));
            }
            let size = extent.div_ceil(count);
            (0..count).map(|i| size.min(extent.saturating_sub(i * size))).collect()
        }
    };
    if sizes.iter().sum::<usize>() != extent || sizes.len() != n.outputs() {
        return Err(Refusal::Invalid(format!("an axis of {extent} cannot be split into {sizes:?}")));
    }
    let mut start = 0;
    let mut values = Values::new();
    for len in sizes {
        values.push(n.add(Slice { ranges: vec![Range { axis, start, len, step: 1 }] }, &[x])?);
        start += len;
    }
    Ok(values)
}

fn extents_of_parts(sizes: &[i64]) -> Result<Vec<usize>, Refusal> {
    sizes.iter().map(|&s| extent(s)).collect()
}

fn slice(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let missing = |i| move || Refusal::MissingInput(i);
    let starts = n.attribute_or_input("starts", 10, 1)?.ok_or_else(missing(1))?;
    let ends = n.attribute_or_input("ends", 10, 2)?.ok_or_else(missing(2))?;
    let axes = n.attribute_or_input("axes", 10, 3)?;
    let steps = if n.opset() < 10 { None } else { n.optional_integers(4)? };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Refusal::Invalid("starts, ends, axes and steps are not of one length".into()));
    }
    let dims = n.dims(x);
    let mut ranges = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = count_axis(axis, dims.len())?;
        ranges.push(range(axis, dims[axis], starts[i], ends[i], steps[i])?);
    }
    ranges.sort_by_key(|r| r.axis);
    if ranges.iter().all(|r| r.start == 0 && r.step == 1 && r.len == dims[r.axis]) {
        return one(x);
    }
    one(n.add(Slice { ranges }, &[x])?)
}

/// Pads, value and mode; pads and value are attributes before opset 11. Negative pads crop.
fn pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let dims = n.dims(x);
    let pads = n.attribute_or_input("pads", 11, 1)?.ok_or(Refusal::MissingInput(1))?;
    let value = if n.opset() < 11 { n.float("value", 0.0)? } else { pad_value(n, x)? };
    let mode = n.string("mode", "constant")?;
    let axes = if n.opset() < 18 { None } else { n.optional_integers(3)? };
    let axes = axes.unwrap_or_else(|| (0..dims.len() as i64).collect());
    if pads.len() != 2 * axes.len() {
        return Err(Refusal::Invalid(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    count_axes(&axes, dims.len())?;
    let mut before = Extents::from_elem(0, dims.len());
    let mut after = before.clone();
    let mut cuts = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = count_axis(axis, dims.len())?;
        let (front, back) = (pads[i], pads[axes.len() + i]);
        before[axis] = extent(front.max(0))?;
        after[axis] = extent(back.max(0))?;
        let (cut_front, cut_back) = (extent(front.min(0).saturating_neg())?, extent(back.min(0).saturating_neg())?);
        if cut_front + cut_back > 0 {
            let len = dims[axis].checked_sub(cut_front + cut_back).filter(|&len| len > 0);
            let len = len.ok_or_else(|| Refusal::Invalid(format!("pads {pads:?} cut away all of {}", n.ty(x))))?;
            cuts.push(Range { axis, start: cut_front, len, step: 1 });
        }
    }
    cuts.sort_by_key(|c| c.axis);
    let mode = match mode {
        "wrap" if cuts.is_empty() => {
            let wrap = |x, a| continued(n, x, a, [before[a], after[a]], Beyond::Wrapped);
            return one((0..dims.len()).try_fold(x, wrap)?);
        }
        "constant" => PadMode::Constant(value),
        "reflect" if cuts.is_empty() => PadMode::Reflect,
        "edge" if cuts.is_empty() => PadMode::Edge,
        "reflect" | "edge" | "wrap" => {
            return Err(Refusal::Unsupported(format!("negative pads in mode {mode} are not supported")));
        }
        other => return Err(Refusal::Unsupported(format!("padding in mode {other} is not supported"))),
    };
    let inner = if cuts.is_empty() { x } else { n.add(Slice { ranges: cuts }, &[x])? };
    if before.iter().chain(&after).all(|&p| p == 0) {
        return one(inner);
    }
    one(n.add(Pad { before, after, mode }, &[inner])?)
}

/// The padding value of `x`. For a quantized `x`, the integer is dequantized.
fn pad_value(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<f32, Refusal> {
    let value = n.optional_constant(2)?;
    if let Some(value) = value.as_ref().filter(|v| v.ty().elem.qparams().is_some() && v.len() == 1) {
        return Ok(value.reals()[0]);
    }
    let value = match value.as_ref().map(|v| (v.integers(), v.reals())) {
        None => 0.0,
        // Some exporters omit the value as an empty tensor.
        Some((_, reals)) if reals.is_empty() => 0.0,
        Some((Some(integers), _)) if integers.len() == 1 => integers[0] as f64,
        Some((None, reals)) if reals.len() == 1 => reals[0].into(),
        Some(_) => {
            let ty = value.as_ref().map(|v| v.ty().to_string()).unwrap_or_default();
            return Err(Refusal::Invalid(format!("the value to pad with is {ty}")));
        }
    };
    match n.ty(x).elem.qparams() {
        Some(_) => Ok(number_beside(n, x, value)? as f32),
        None => exact_f32(value),
    }
}

fn exact_f32(value: f64) -> Result<f32, Refusal> {
    let single = value as f32;
    if f64::from(single) == value { Ok(single) } else { Err(Refusal::Unsupported(format!("padding with {value}"))) }
}

/// Both shapes broadcast: the result may be larger than the requested shape.
fn expand(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let asked = n.integers(1)?;
    let asked = Shape::known(&extents(&asked)?);
    let shape = broadcast(&n.ty(x).shape, &asked)?;
    if n.ty(x).shape == shape { one(x) } else { one(n.add(Expand { shape }, &[x])?) }
}

fn tile(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let repeats = n.integers(1)?;
    let repeats = Extents::from_vec(extents(&repeats)?);
    if repeats.iter().all(|&r| r == 1) && repeats.len() == n.rank(x) {
        return one(x);
    }
    one(n.add(Tile { repeats }, &[x])?)
}

fn block(n: &mut NodeCx<'_, '_>) -> Result<usize, Refusal> {
    let block = n.int("blocksize", 0)?;
    extent(block).and_then(|b| {
        if (1..1 << 15).contains(&b) {
            Ok(b)
        } else {
            Err(Refusal::Attribute { name: "blocksize".into(), problem: "not a block size" })
        }
    })
}

fn depth_to_space(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let block = block(n)?;
    let channel_first = match n.string("mode", "DCR")? {
        "DCR" => false,
        "CRD" => true,
        _ => return Err(Refusal::Attribute { name: "mode".into(), problem: "not DCR or CRD" }),
    };
    one(n.add(DepthToSpace { block, channel_first }, &[x])?)
}

fn space_to_depth(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let block = block(n)?;
    if n.string("mode", "DCR")? != "DCR" {
        return Err(Refusal::Unsupported("only the mode DCR is supported".into()));
    }
    one(n.add(SpaceToDepth { block }, &[x])?)
}

/// Each matrix with the elements below (`upper`) or above diagonal `k` set to zero.
fn trilu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let upper = n.flag("upper", true)?;
    let k = n.optional_integers(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let dims = n.dims(x);
    let &[.., rows, columns] = dims.as_slice() else {
        return Err(Refusal::Invalid(format!("{} holds no matrices", n.ty(x))));
    };
    let kept = triangle(n, rows, columns, k, upper)?;
    let zero = n.scalar(0.0, x)?;
    one(n.add(Select {}, &[kept, x, zero])?)
}

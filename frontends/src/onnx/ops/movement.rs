//! Operators that move elements without changing them.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Concat, DepthToSpace, Expand, Extents, Pad, PadMode, Range, Select, Slice, SpaceToDepth, Tile};
use qcc_ir::{Dim, Expr, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::super::qdq::number_beside;
use super::Row;
use crate::build::index::triangle;
use crate::build::movement::{self, Cut};
use crate::build::pad::{Beyond, Past, continued, filled, gathered};
use crate::build::{Build, Operands, Values, computed, count_axes, count_axis, extent, extents, one};
use crate::refusal::{ASSUMED_EXTENT, Refusal};

pub(super) const ROWS: &[Row] = &[
    ("CenterCropPad", center_crop_pad),
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
    let zero_is_zero = n.flag("allowzero", false)?;
    if n.opset() < 5 {
        let asked = n.attribute_or_whole("shape", 5, 1)?.ok_or(Refusal::MissingInput(1))?;
        return one(movement::reshaped(n, x, &asked, !zero_is_zero)?);
    }
    one(movement::reshape(n, x, 1, !zero_is_zero)?)
}

fn flatten(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    // The axis may equal the rank; then the first extent of the result has all elements.
    let axis = n.int("axis", 1)?;
    let axis = count_axis(axis, n.rank(x) + usize::from(axis >= 0))?;
    let (outer, inner) = n.shape(x).dims().split_at(axis);
    let sides = Shape::count(outer).zip(Shape::count(inner));
    let (outer, inner) = sides.ok_or_else(|| Refusal::Invalid(format!("{} has too many elements", n.ty(x))))?;
    one(n.reshape_to(x, [outer, inner].into_iter().collect())?)
}

fn squeeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    if let Some(axes) = n.computed(1)?.filter(|_| n.opset() >= 13) {
        return one(computed::squeezed(n, x, axes)?);
    }
    let axes = n.attribute_or_input("axes", 13, 1)?;
    let mut notes = Vec::new();
    let shape = match axes {
        Some(axes) => movement::squeezed(n, x, &axes, |message| notes.push(message))?,
        None => movement::squeezed_all(n, x, |message| notes.push(message)),
    };
    notes.into_iter().for_each(|message| n.note_here(Diagnostic::warning(ASSUMED_EXTENT, message)));
    one(n.reshape_to(x, shape)?)
}

fn unsqueeze(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    if let Some(axes) = n.computed(1)?.filter(|_| n.opset() >= 13) {
        return one(computed::unsqueezed(n, x, axes)?);
    }
    let axes = n.attribute_or_input("axes", 13, 1)?.ok_or(Refusal::MissingInput(1))?;
    let shape = movement::unsqueezed(n, x, &axes)?;
    one(n.reshape_to(x, shape)?)
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
    let axis = n.optional_int("axis")?.or((n.opset() < 4).then_some(1));
    let axis = axis.ok_or(Refusal::Attribute { name: "axis".into(), problem: "is missing" })?;
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
    if n.opset() >= 13 && n.computed(1)?.is_some() {
        let sizes = n.extents(1)?;
        if sizes.len() != n.outputs() {
            return Err(Refusal::Invalid(format!("{} sizes for {} outputs", sizes.len(), n.outputs())));
        }
        return computed::parts(n, x, axis, &sizes);
    }
    let extent = n.shape(x).dims()[axis].known().ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
    let mut sizes = n.attribute_or_input("split", 13, 1)?;
    if n.opset() < 2 && sizes.is_none() {
        sizes = n.optional_integers(1)?;
    }
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
    if n.opset() >= 10 && (n.computed(1)?.is_some() || n.computed(2)?.is_some()) {
        return one(computed_slice(n, x)?);
    }
    let missing = |i| move || Refusal::MissingInput(i);
    let starts = n.attribute_or_whole("starts", 10, 1)?.ok_or_else(missing(1))?;
    let ends = n.attribute_or_whole("ends", 10, 2)?.ok_or_else(missing(2))?;
    let axes = n.attribute_or_input("axes", 10, 3)?;
    let steps = if n.opset() < 10 { None } else { n.optional_integers(4)? };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Refusal::Invalid("starts, ends, axes and steps are not of one length".into()));
    }
    let mut cuts = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = n.axis(axis, x)?;
        cuts.push(Cut { axis, start: starts[i].clone(), end: ends[i].clone(), step: steps[i] });
    }
    one(movement::sliced(n, x, &cuts)?)
}

/// A slice whose starts or ends are known at run time only.
fn computed_slice(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
    let lists = [n.input(1)?, n.input(2)?];
    let [starts, ends] = lists.map(|v| computed::list(n, v));
    let (starts, ends) = (starts?, ends?);
    let count = n.dims(starts)?[0];
    let axes = n.optional_integers(3)?.unwrap_or_else(|| (0..count as i64).collect());
    let steps = n.optional_integers(4)?.unwrap_or_else(|| vec![1; count]);
    if [n.dims(ends)?[0], axes.len(), steps.len()] != [count; 3] {
        return Err(Refusal::Invalid("starts, ends, axes and steps are not of one length".into()));
    }
    count_axes(&axes, n.rank(x))?;
    let mut y = x;
    for (i, (&axis, &step)) in axes.iter().zip(&steps).enumerate() {
        let axis = n.axis(axis, x)?;
        let ends = [computed::position(n, starts, i)?, computed::position(n, ends, i)?];
        y = computed::slice(n, y, axis, ends, step)?;
    }
    Ok(y)
}

/// Pads, value and mode; pads and value are attributes before opset 11. Negative pads crop.
fn pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let dims = n.shape(x).dims().to_vec();
    let pads = if n.opset() < 2 { "paddings" } else { "pads" };
    let pads = n.attribute_or_whole(pads, 11, 1)?.ok_or(Refusal::MissingInput(1))?;
    let computed = n.optional(2).filter(|&v| n.opset() >= 11 && !n.is_known(v));
    let value = match computed {
        Some(_) => 0.0,
        None if n.opset() < 11 => n.float("value", 0.0)?,
        None => pad_value(n, x)?,
    };
    let mode = n.string("mode", "constant")?;
    let axes = if n.opset() < 18 { None } else { n.optional_integers(3)? };
    let axes = axes.unwrap_or_else(|| (0..dims.len() as i64).collect());
    if pads.len() != 2 * axes.len() {
        return Err(Refusal::Invalid(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    count_axes(&axes, dims.len())?;
    if computed.is_some() && (mode != "constant" || n.ty(x).elem.qparams().is_some()) {
        return Err(Refusal::NotConstant { index: 2, name: n.node().input[2].clone() });
    }
    let Some(pads) = pads.iter().map(Expr::constant).collect::<Option<Vec<i64>>>() else {
        let mut by_axis = Vec::new();
        for (i, &axis) in axes.iter().enumerate() {
            by_axis.push((n.axis(axis, x)?, [pads[i].clone(), pads[axes.len() + i].clone()]));
        }
        if let Some(past) = Past::named(mode)? {
            return one(gathered(n, x, &by_axis, past)?);
        }
        let value = computed.map_or_else(|| n.scalar(value.into(), x), Ok)?;
        return one(filled(n, x, &by_axis, value)?);
    };
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
            let [start, behind] = [cut_front, cut_back].map(|n| Dim::Known(n).expr());
            let end = dims[axis].expr().minus(&behind);
            let remains = |end: &Expr| end.minus(&start).is_some_and(|len| len.bounds().1.is_none_or(|most| most > 0));
            let end = end.filter(remains);
            let end = end.ok_or_else(|| Refusal::Invalid(format!("pads {pads:?} cut away all of {}", n.ty(x))))?;
            cuts.push(Cut { axis, start, end, step: 1 });
        }
    }
    // Negative pads cut first: what is padded continues what is left, as in ONNX Runtime.
    let inner = movement::sliced(n, x, &cuts)?;
    let mode = match mode {
        "wrap" => {
            let wrap = |x, a| continued(n, x, a, [before[a], after[a]], Beyond::Wrapped);
            return one((0..dims.len()).try_fold(inner, wrap)?);
        }
        "constant" => PadMode::Constant(value),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        other => return Err(Refusal::Unsupported(format!("padding in mode {other} is not supported"))),
    };
    if before.iter().chain(&after).all(|&p| p == 0) {
        return one(inner);
    }
    match computed {
        Some(value) => one(framed(n, inner, before, after, value)?),
        None => one(n.add(Pad { before, after, mode }, &[inner])?),
    }
}

/// `x` padded with a computed number.
fn framed(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    before: Extents,
    after: Extents,
    value: ValueId,
) -> Result<ValueId, Refusal> {
    let ones = Tensor::from_bools(Shape::scalar(), [true]);
    let ones = n.add_constant(ones);
    let inside = n.add(Expand { shape: n.shape(x).clone() }, &[ones])?;
    let mode = PadMode::Constant(0.0);
    let inside = n.add(Pad { before: before.clone(), after: after.clone(), mode }, &[inside])?;
    let padded = n.add(Pad { before, after, mode }, &[x])?;
    let value = n.reshape(value, &[])?;
    n.add(Select {}, &[inside, padded, value])
}

/// Crops or pads axes to extents, the same on both sides; an odd element more is cropped or padded at the end.
fn center_crop_pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let asked = extents(&n.integers(1)?)?;
    let dims = n.dims(x)?;
    let axes = match n.ints("axes")? {
        Some(axes) => {
            count_axes(axes, dims.len())?;
            axes.iter().map(|&a| count_axis(a, dims.len())).collect::<Result<Extents, _>>()?
        }
        None => (0..dims.len()).collect(),
    };
    if asked.len() != axes.len() {
        return Err(Refusal::Invalid(format!("{} extents for {} axes", asked.len(), axes.len())));
    }
    let (mut before, mut after) = (Extents::from_elem(0, dims.len()), Extents::from_elem(0, dims.len()));
    let mut ranges = Vec::new();
    for (&axis, &to) in axes.iter().zip(&asked) {
        let from = dims[axis];
        if to < from {
            ranges.push(Range { axis, start: (from - to) / 2, len: to, step: 1 });
        } else {
            before[axis] = (to - from) / 2;
            after[axis] = to - from - before[axis];
        }
    }
    ranges.sort_by_key(|r| r.axis);
    let cropped = if ranges.is_empty() { x } else { n.add(Slice { ranges }, &[x])? };
    if before.iter().chain(&after).all(|&p| p == 0) {
        return one(cropped);
    }
    one(n.add(Pad { before, after, mode: PadMode::Constant(0.0) }, &[cropped])?)
}

/// The padding value of `x`. For a quantized `x`, the integer is dequantized.
fn pad_value(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<f32, Refusal> {
    let value = n.optional_constant(2)?;
    if let Some(value) = value.as_ref().filter(|v| v.ty().elem.qparams().is_some() && v.len() == 1) {
        return Ok(value.floats()[0]);
    }
    let value = match value.as_ref().map(|v| (v.integers(), v.floats())) {
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
    let asked = n.shape_at(1)?;
    one(movement::expanded(n, x, &asked)?)
}

fn tile(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    if n.opset() < 6 {
        let (times, axis) = (n.integer(1)?, n.integer(2)?);
        let mut repeats = Extents::from_elem(1, n.rank(x));
        repeats[n.axis(axis, x)?] = extent(times)?;
        return one(n.add(Tile { repeats }, &[x])?);
    }
    let repeats = n.extents(1)?;
    one(computed::tiled(n, x, &repeats)?)
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
    if let Some(y) = open_blocks(n, x) {
        return one(y.to_space(n, block, channel_first)?);
    }
    one(n.add(DepthToSpace { block, channel_first }, &[x])?)
}

fn space_to_depth(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let block = block(n)?;
    if n.string("mode", "DCR")? != "DCR" {
        return Err(Refusal::Unsupported("only the mode DCR is supported".into()));
    }
    if let Some(y) = open_blocks(n, x) {
        return one(y.to_depth(n, block)?);
    }
    one(n.add(SpaceToDepth { block }, &[x])?)
}

/// An image `[N, C, H, W]` with an open number of channels, whose blocks are moved by reshapes.
struct OpenBlocks {
    image: ValueId,
    dims: [Dim; 4],
}

fn open_blocks(n: &NodeCx<'_, '_>, image: ValueId) -> Option<OpenBlocks> {
    let dims = <[Dim; 4]>::try_from(n.shape(image).dims().to_vec()).ok()?;
    dims[1].known().is_none().then_some(OpenBlocks { image, dims })
}

impl OpenBlocks {
    /// An extent divided by a number.
    fn divided(&self, n: &NodeCx<'_, '_>, axis: usize, by: usize) -> Result<Dim, Refusal> {
        let part = self.dims[axis].map(|extent| extent.exact_div(&(by as i64).into()));
        part.ok_or_else(|| Refusal::Open(n.shape(self.image).clone()))
    }

    fn times(&self, n: &NodeCx<'_, '_>, axis: usize, by: usize) -> Result<Dim, Refusal> {
        self.dims[axis].times(&by.into()).ok_or_else(|| Refusal::Open(n.shape(self.image).clone()))
    }

    fn to_space(&self, n: &mut NodeCx<'_, '_>, block: usize, channel_first: bool) -> Result<ValueId, Refusal> {
        let [batch, _, height, width] = self.dims.clone();
        let channels = self.divided(n, 1, block * block)?;
        let [b, c] = [Dim::Known(block), channels.clone()];
        let (split, perm) = match channel_first {
            true => ([batch.clone(), c, b.clone(), b, height, width], [0, 1, 4, 2, 5, 3]),
            false => ([batch.clone(), b.clone(), b, c, height, width], [0, 3, 4, 1, 5, 2]),
        };
        let y = n.reshape_to(self.image, split.into_iter().collect())?;
        let y = n.transpose(y, &perm)?;
        let whole = [batch, channels, self.times(n, 2, block)?, self.times(n, 3, block)?];
        n.reshape_to(y, whole.into_iter().collect())
    }

    fn to_depth(&self, n: &mut NodeCx<'_, '_>, block: usize) -> Result<ValueId, Refusal> {
        let [batch, channels, ..] = self.dims.clone();
        let [height, width] = [self.divided(n, 2, block)?, self.divided(n, 3, block)?];
        let b = Dim::Known(block);
        let split = [batch.clone(), channels, height.clone(), b.clone(), width.clone(), b];
        let y = n.reshape_to(self.image, split.into_iter().collect())?;
        let y = n.transpose(y, &[0, 3, 5, 1, 2, 4])?;
        let whole = [batch, self.times(n, 1, block * block)?, height, width];
        n.reshape_to(y, whole.into_iter().collect())
    }
}

/// Each matrix with the elements below (`upper`) or above diagonal `k` set to zero.
fn trilu(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let upper = n.flag("upper", true)?;
    let k = n.optional_integers(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let dims = n.shape(x).dims().to_vec();
    let [.., rows, columns] = dims.as_slice() else {
        return Err(Refusal::Invalid(format!("{} holds no matrices", n.ty(x))));
    };
    let kept = triangle(n, rows, columns, k, upper)?;
    let zero = n.scalar(0.0, x)?;
    one(n.add(Select {}, &[kept, x, zero])?)
}

//! Convolutions and matrix products.

use qcc_ir::ops::{Conv, ConvTranspose, Extents};
use qcc_ir::{Elem, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::attention::masked;
use crate::build::padding::{Odd, same};
use crate::build::product::matmul;
use crate::build::window::Window;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Convolution", |n| conv(n, false)),
    ("ConvolutionBackpropData", |n| conv_transpose(n, false)),
    ("GroupConvolution", |n| conv(n, true)),
    ("GroupConvolutionBackpropData", |n| conv_transpose(n, true)),
    ("MatMul", |n| {
        let (transpose_a, transpose_b) = (n.flag("transpose_a", false)?, n.flag("transpose_b", false)?);
        let (a, b) = (n.input(0)?, n.input(1)?);
        let (a, b) = (swapped(n, a, transpose_a)?, swapped(n, b, transpose_b)?);
        let elem = n.ty(a).elem.clone();
        if !elem.is_integer() {
            return one(matmul(n, a, b)?);
        }
        // Accumulators beyond 2^24 are rounded to 24 bits.
        let (a, b) = (n.cast(a, Elem::F32)?, n.cast(b, Elem::F32)?);
        let product = matmul(n, a, b)?;
        one(n.cast(product, elem)?)
    }),
    ("ScaledDotProductAttention", attention),
];

/// A matrix with its last two axes transposed.
fn swapped(n: &mut NodeCx<'_, '_>, x: ValueId, swap: bool) -> Result<ValueId, Refusal> {
    let rank = n.rank(x);
    if !swap || rank < 2 {
        return Ok(x);
    }
    let mut perm: Extents = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    n.transpose(x, &perm)
}

/// The window over the spatial axes of `x`, and `x`, which may get padding with the value `fill`.
pub(super) fn window(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    kernel: Extents,
    fill: Option<f32>,
) -> Result<(ValueId, Window), Refusal> {
    let spatial = kernel.len();
    let mut given = |name: &'static str, default: usize| -> Result<Extents, Refusal> {
        let all = n.sizes(name)?;
        match all.len() {
            0 => Ok(Extents::from_elem(default, spatial)),
            len if len == spatial => Ok(all),
            _ => Err(Refusal::Attribute { name: name.into(), problem: "not as many numbers as spatial axes" }),
        }
    };
    let (stride, dilation) = (given("strides", 1)?, given("dilations", 1)?);
    let (before, after) = (given("pads_begin", 0)?, given("pads_end", 0)?);
    let mut window = Window { kernel, stride, dilation, before, after };
    let odd = match n.text("auto_pad") {
        None | Some("explicit" | "notset") => return Ok((x, window)),
        Some("valid") => None,
        Some("same_upper") => Some(Odd::After),
        Some("same_lower") => Some(Odd::Before),
        Some(other) => return Err(Refusal::Unsupported(format!("auto_pad {other} is not supported"))),
    };
    window.before.fill(0);
    window.after.fill(0);
    let x = match odd {
        Some(odd) => same(n, x, &mut window, odd, fill)?,
        None => x,
    };
    Ok((x, window))
}

/// The weight with its group axis merged into the output axis, and the number of groups.
fn weight(n: &mut NodeCx<'_, '_>, grouped: bool) -> Result<(ValueId, usize), Refusal> {
    let w = n.input(1)?;
    let dims = n.dims(w)?;
    match dims.as_slice() {
        &[groups, each, ref rest @ ..] if grouped => {
            let merged = groups.checked_mul(each).ok_or_else(|| Refusal::Invalid(format!("a weight {}", n.ty(w))))?;
            let dims = [&[merged], rest].concat();
            Ok((n.reshape(w, &dims)?, groups))
        }
        _ => Ok((w, 1)),
    }
}

fn conv(n: &mut NodeCx<'_, '_>, grouped: bool) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (w, groups) = weight(n, grouped)?;
    let kernel: Extents = n.dims(w)?.get(2..).unwrap_or_default().into();
    let (x, window) = window(n, x, kernel, Some(0.0))?;
    let Window { stride, dilation, before, after, .. } = window;
    one(n.add(Conv { stride, before, after, dilation, groups }, &[x, w])?)
}

fn conv_transpose(n: &mut NodeCx<'_, '_>, grouped: bool) -> Result<Values, Refusal> {
    if n.inputs() > 2 {
        return Err(Refusal::UnreadInput(2));
    }
    let x = n.input(0)?;
    let (w, groups) = weight(n, grouped)?;
    let kernel: Extents = n.dims(w)?.get(2..).unwrap_or_default().into();
    if n.text("auto_pad").is_some_and(|pad| !matches!(pad, "explicit" | "notset" | "valid")) {
        return Err(Refusal::Unsupported("auto_pad of a transposed convolution is not supported".into()));
    }
    let (x, window) = window(n, x, kernel, None)?;
    let Window { kernel, stride, dilation, before, after } = window;
    let extra = n.sizes("output_padding")?;
    let extra = if extra.is_empty() { Extents::from_elem(0, kernel.len()) } else { extra };
    one(n.add(ConvTranspose { stride, before, after, extra, dilation, groups }, &[x, w])?)
}

/// softmax(Q K^T * scale + mask) V; the default scale is 1 / sqrt of the last extent.
fn attention(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    if n.flag("causal", false)? {
        return Err(Refusal::Unsupported("causal attention is not supported here".into()));
    }
    if n.inputs() > 5 {
        return Err(Refusal::UnreadInput(5));
    }
    let (q, k, v) = (n.input(0)?, n.input(1)?, n.input(2)?);
    let k = swapped(n, k, true)?;
    let scores = matmul(n, q, k)?;
    let scale = match n.optional(4)? {
        Some(scale) => scale,
        None => {
            let last = n.rank(q).checked_sub(1).map_or(Ok(1), |last| n.extent(q, last))?;
            let depth = last.max(1);
            n.scalar(1.0 / (depth as f64).sqrt(), scores)?
        }
    };
    let mut scores = n.binary(qcc_ir::ops::BinaryFn::Mul, scores, scale)?;
    // A scalar mask of 0 means no mask if a scale follows.
    if let Some(mask) = n.optional(3)? {
        scores = masked(n, scores, mask)?;
    }
    let axis = n.rank(scores).saturating_sub(1);
    let shares = n.add(qcc_ir::ops::Softmax { axis, log: false }, &[scores])?;
    one(matmul(n, shares, v)?)
}

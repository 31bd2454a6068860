//! Operators of StableHLO that LiteRT has kernels for.

use qcc_formats::tflite::{BuiltinOperator as B, FurtherOptions, StablehloPad, StablehloReduceWindow};
use qcc_ir::ops::{BinaryFn, Concat, Expand, Gather, OpenSlice, ReduceFn};
use qcc_ir::{Dim, Expr, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::movement::plain;
use crate::build::index::part;
use crate::build::pad::filled;
use crate::build::{Build, Values, extent, movement, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::STABLEHLO_PAD, pad), (B::STABLEHLO_REDUCE_WINDOW, reduce_window)];

/// The lists of an operator, of which each must have so many numbers.
fn lists<const N: usize>(rank: usize, lists: [(&[i64], usize); N]) -> Result<(), Refusal> {
    match lists.iter().find(|(list, each)| list.len() != rank * each) {
        Some((list, _)) => Err(Refusal::Invalid(format!("{} numbers for {rank} axes", list.len()))),
        None => Ok(()),
    }
}

fn pad(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let FurtherOptions::StablehloPad(StablehloPad { edge_padding_low, edge_padding_high, interior_padding }) =
        n.further_options().clone()
    else {
        return Err(Refusal::Invalid("it has the options of another operator".into()));
    };
    let (mut x, value) = (n.input(0)?, n.input(1)?);
    plain(n, x)?;
    let rank = n.rank(x);
    lists(rank, [(&edge_padding_low, 1), (&edge_padding_high, 1), (&interior_padding, 1)])?;
    for (axis, &inner) in interior_padding.iter().enumerate() {
        x = dilated(n, x, axis, extent(inner)?, value)?;
    }
    let edges = (0..rank).map(|axis| (axis, [edge_padding_low[axis].into(), edge_padding_high[axis].into()]));
    let edges: Vec<(usize, [Expr; 2])> = edges.filter(|(_, pads)| *pads != [0.into(), 0.into()]).collect();
    one(filled(n, x, &edges, value)?)
}

/// The elements of an axis, with so many times the value between two of them.
fn dilated(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, inner: usize, value: ValueId) -> Result<ValueId, Refusal> {
    if inner == 0 || n.shape(x).dims()[axis] == Dim::Known(0) {
        return Ok(x);
    }
    let (own, apart) = (n.shape(x).clone(), movement::unsqueezed(n, x, &[axis as i64 + 1])?);
    let too_large = || Refusal::Unsupported(format!("{inner} elements between those of an axis"));
    let value = n.reshape(value, &[])?;
    let between = n.add(Expand { shape: apart.with(axis + 1, inner) }, &[value])?;
    let x = n.reshape_to(x, apart)?;
    let joined = n.add(Concat { axis: axis + 1 }, &[x, between])?;
    let whole = own.dims()[axis].times(&(inner + 1).into()).ok_or_else(too_large)?;
    let joined = n.reshape_to(joined, own.with(axis, whole.clone()))?;
    // None follow the last element.
    let len = whole.expr().plus(&(-(inner as i64)).into()).ok_or_else(too_large)?;
    part(n, joined, OpenSlice { axis, start: 0.into(), len })
}

/// The function of a body, of all elements and of two.
fn function(n: &NodeCx<'_, '_>, body: i32) -> Result<(ReduceFn, BinaryFn), Refusal> {
    let operators = n.operators_of(body)?;
    match operators.as_slice() {
        [B::ADD] => Ok((ReduceFn::Sum, BinaryFn::Add)),
        [B::MUL] => Ok((ReduceFn::Prod, BinaryFn::Mul)),
        [B::MAXIMUM] => Ok((ReduceFn::Max, BinaryFn::Max)),
        [B::MINIMUM] => Ok((ReduceFn::Min, BinaryFn::Min)),
        _ => Err(Refusal::Unsupported("windows reduced by anything but a sum, product, maximum or minimum".into())),
    }
}

fn reduce_window(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let FurtherOptions::StablehloReduceWindow(o) = n.further_options().clone() else {
        return Err(Refusal::Invalid("it has the options of another operator".into()));
    };
    let (mut x, first) = (n.input(0)?, n.input(1)?);
    plain(n, x)?;
    let StablehloReduceWindow { window_dimensions, window_strides, base_dilations, window_dilations, padding, body } =
        o;
    let rank = n.rank(x);
    let each = [&window_dimensions, &window_strides, &base_dilations, &window_dilations].map(|list| (&list[..], 1));
    lists(rank, each)?;
    lists(rank, [(&padding, 2)])?;
    let (reduce, binary) = function(n, body)?;
    for axis in 0..rank {
        let inner = extent(base_dilations[axis])?.saturating_sub(1);
        x = dilated(n, x, axis, inner, first)?;
        let pads = [padding[2 * axis], padding[2 * axis + 1]];
        if pads != [0, 0] {
            x = filled(n, x, &[(axis, pads.map(Into::into))], first)?;
        }
        let [window, stride, dilation] =
            [window_dimensions[axis], window_strides[axis], window_dilations[axis]].map(extent);
        x = windows(n, x, axis, [window?, stride?, dilation?], reduce)?;
    }
    let first = n.reshape(first, &[])?;
    one(n.binary(binary, x, first)?)
}

/// The reduction of each window along an axis.
fn windows(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    axis: usize,
    [window, stride, dilation]: [usize; 3],
    f: ReduceFn,
) -> Result<ValueId, Refusal> {
    if window == 1 && stride == 1 {
        return Ok(x);
    }
    if window == 0 || stride == 0 || dilation == 0 {
        return Err(Refusal::Invalid(format!("a window of {window} by {stride}, dilated by {dilation}")));
    }
    let reach = (window - 1) * dilation + 1;
    let count = n.extent(x, axis)?.checked_sub(reach).map_or(0, |rest| rest / stride + 1);
    let places = n.table(&[count, window], |i| (i / window * stride + i % window * dilation) as i64)?;
    let seen = n.add(Gather { axis }, &[x, places])?;
    n.reduce(f, seen, &[axis + 1], false)
}

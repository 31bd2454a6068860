//! Matchers and builders for rewrite rules. A failed match is [`Skip::NoMatch`], so matchers are chained with `?`.
//!
//! ```
//! use qcc_ir::ops::UnaryFn;
//! use qcc_ir::text::{Weights, parse};
//! use qcc_passes::{Skip, pattern};
//! let g = parse("graph g { %x: f32[2] = input %y = unary(f:Neg) %x output y = %y }", &Weights::new())?;
//! let y = g.outputs()[0].value;
//! assert!(pattern::unary(&g, y, UnaryFn::Neg).is_ok());
//! assert_eq!(pattern::unary(&g, y, UnaryFn::Abs), Err(Skip::NoMatch));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use half::f16;
use qcc_ir::ops::{Binary, BinaryFn, Op, Reduce, ReduceFn, Unary, UnaryFn};
use qcc_ir::{Elem, Graph, NodeId, Origin, Shape, Tensor, ValueId};

use crate::Skip;

/// The result of a matcher.
pub type Match<T> = Result<T, Skip>;

/// Matches if `condition` holds.
///
/// # Errors
/// [`Skip::NoMatch`] if it does not.
pub fn when(condition: bool) -> Match<()> {
    if condition { Ok(()) } else { Err(Skip::NoMatch) }
}

/// Matches if the numbers agree to 5 digits, the precision at which exporters write constants.
///
/// # Errors
/// [`Skip::NoMatch`] if they do not.
pub fn near(a: f32, b: f32) -> Match<()> {
    when((a - b).abs() <= 1e-5 * b.abs())
}

/// Matches `v = f(x)` and returns `x`.
///
/// # Errors
/// [`Skip::NoMatch`] if it does not match.
pub fn unary(g: &Graph, v: ValueId, f: UnaryFn) -> Match<ValueId> {
    when(matches!(g.producer(v), Op::Unary(u) if u.f == f))?;
    Ok(g.operands(v.node)[0])
}

/// Matches `v = f(a, b)` and returns `a` and `b`.
///
/// # Errors
/// [`Skip::NoMatch`] if it does not match.
pub fn binary(g: &Graph, v: ValueId, f: BinaryFn) -> Match<[ValueId; 2]> {
    when(matches!(g.producer(v), Op::Binary(b) if b.f == f))?;
    let operands = g.operands(v.node);
    Ok([operands[0], operands[1]])
}

/// Matches `v = f(x, c)` in floating point, where `c` is constant and `v` has the type of `x`. Returns `x` and `c`. If
/// `f` commutes, either operand may be the constant.
///
/// # Errors
/// [`Skip::NoMatch`] if it does not match.
pub fn by_constant(g: &Graph, v: ValueId, f: BinaryFn) -> Match<(ValueId, ValueId)> {
    let [a, b] = binary(g, v, f)?;
    let (x, c) = if f.commutes() && g.constant(a).is_some() { (b, a) } else { (a, b) };
    when(g.constant(c).is_some() && g.ty(v).elem.is_float() && g.ty(v) == g.ty(x))?;
    Ok((x, c))
}

/// Like [`by_constant`], for a scalar constant.
///
/// # Errors
/// [`Skip::NoMatch`] if it does not match.
pub fn by_scalar(g: &Graph, v: ValueId, f: BinaryFn) -> Match<(ValueId, f32)> {
    let (x, c) = by_constant(g, v, f)?;
    Ok((x, scalar(g, c)?))
}

/// Matches a float constant of one element and returns its value.
///
/// # Errors
/// [`Skip::NoMatch`] if it does not match.
pub fn scalar(g: &Graph, v: ValueId) -> Match<f32> {
    let tensor = g.constant(v).ok_or(Skip::NoMatch)?;
    when(tensor.len() == 1 && tensor.ty().elem.is_float())?;
    Ok(tensor.floats()[0])
}

/// Matches a mean with kept axes and returns its operand and the axes.
///
/// # Errors
/// [`Skip::NoMatch`] if it does not match.
pub fn mean(g: &Graph, v: ValueId) -> Match<(ValueId, &[usize])> {
    match g.producer(v) {
        Op::Reduce(Reduce { f: ReduceFn::Mean, axes, keep: true }) => Ok((g.operands(v.node)[0], axes)),
        _ => Err(Skip::NoMatch),
    }
}

/// True if the value is a constant or a dequantized constant.
pub fn is_known(g: &Graph, v: ValueId) -> bool {
    let behind = matches!(g.producer(v), Op::Dequantize(_)).then(|| g.operands(v.node)[0]);
    g.constant(behind.unwrap_or(v)).is_some()
}

/// Matches if `node` is the only user of `v`.
///
/// # Errors
/// [`Skip::NoMatch`] if it is not.
pub fn only_here(g: &Graph, v: ValueId, node: NodeId) -> Match<()> {
    when(g.only_user(v) == Some(node))
}

/// The extents of a value.
///
/// # Errors
/// [`Skip::NoMatch`] if an extent is not known.
pub fn extents(g: &Graph, v: ValueId) -> Match<Vec<usize>> {
    g.ty(v).shape.extents().map(|e| e.to_vec()).ok_or(Skip::NoMatch)
}

/// Adds a scalar constant with the element type of `like`.
pub fn add_scalar(g: &mut Graph, value: f32, like: ValueId) -> ValueId {
    let tensor = match g.ty(like).elem {
        Elem::F16 => Tensor::scalar(f16::from_f32(value)),
        _ => Tensor::scalar(value),
    };
    g.add_const(tensor, Origin::none())
}

/// Adds `f(a, b)`.
///
/// # Errors
/// If the node cannot be created.
pub fn add_binary(g: &mut Graph, f: BinaryFn, a: ValueId, b: ValueId, origin: &Origin) -> Match<ValueId> {
    Ok(g.add1(Binary { f }, &[a, b], origin.clone())?)
}

/// Adds `f(x)`.
///
/// # Errors
/// If the node cannot be created.
pub fn add_unary(g: &mut Graph, f: UnaryFn, x: ValueId, origin: &Origin) -> Match<ValueId> {
    Ok(g.add1(Unary { f }, &[x], origin.clone())?)
}

/// Reshapes `v` to `dims`. Returns `v` itself if it has that shape.
///
/// # Errors
/// If the node cannot be created.
pub fn reshaped(g: &mut Graph, v: ValueId, dims: &[usize], origin: &Origin) -> Match<ValueId> {
    let shape = Shape::known(dims);
    if g.ty(v).shape == shape {
        return Ok(v);
    }
    Ok(g.add1(qcc_ir::ops::Reshape { shape }, &[v], origin.clone())?)
}

/// Replaces the only result of `node` by the result of `op` on `operands`. The origin of the new node is that of
/// `node`, merged with those of `others`.
///
/// # Errors
/// If the node cannot be created.
pub fn become_op(
    g: &mut Graph,
    node: NodeId,
    op: impl Into<Op>,
    operands: &[ValueId],
    others: &[NodeId],
) -> Result<(), Skip> {
    let origin = others.iter().fold(g.origin(node).clone(), |all, &n| all.and(g.origin(n)));
    let new = g.add1(op, operands, origin)?;
    Ok(g.replace(node.value(0), new)?)
}

//! Arithmetic with constants, powers and roots.

use qcc_ir::ops::{Binary, BinaryFn, Cast, Op, OpKind, Unary, UnaryFn};
use qcc_ir::{Graph, NodeId, ValueId};

use crate::pattern::{
    Match, add_binary, add_scalar, add_unary, binary, by_constant, by_scalar, only_here, scalar, unary, when,
};
use crate::{Rule, Skip};

/// Differences and quotients become sums and products.
pub(super) const NORMAL: &[Rule] = &[
    Rule { name: "subtract-constant", anchor: &[OpKind::Binary], apply: subtract_constant },
    Rule { name: "divide-by-constant", anchor: &[OpKind::Binary], apply: divide_by_constant },
];

pub(super) const MERGE: &[Rule] = &[
    Rule { name: "merge-constants", anchor: &[OpKind::Binary], apply: merge_constants },
    Rule { name: "merge-affine", anchor: &[OpKind::Binary], apply: merge_affine },
];

pub(super) const RECOGNISE: &[Rule] = &[
    Rule { name: "expand-power", anchor: &[OpKind::Binary], apply: expand_power },
    Rule { name: "recognise-reciprocal", anchor: &[OpKind::Binary], apply: recognise_reciprocal },
    Rule { name: "recognise-rsqrt", anchor: &[OpKind::Unary, OpKind::Binary], apply: recognise_rsqrt },
];

/// x - c is x + (-c).
fn subtract_constant(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (x, c) = by_constant(g, at.value(0), BinaryFn::Sub)?;
    let origin = g.origin(at).clone();
    let negated = add_unary(g, UnaryFn::Neg, c, &origin)?;
    let sum = add_binary(g, BinaryFn::Add, x, negated, &origin)?;
    Ok(g.replace(at.value(0), sum)?)
}

/// x / c is x * (1 / c), with one more rounding, which nothing may read that is decided by a last bit.
fn divide_by_constant(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (x, c) = by_constant(g, at.value(0), BinaryFn::Div)?;
    let tensor = g.constant(c).ok_or(Skip::NoMatch)?;
    when(tensor.floats().iter().all(|e| e.is_normal() && e.recip().is_normal()))?;
    // Reciprocals of powers of two are exact.
    let exact = tensor.floats().iter().all(|e| e.to_bits() << 9 == 0);
    when(exact || !is_rounded(g, at.value(0)))?;
    let origin = g.origin(at).clone();
    let one = add_scalar(g, 1.0, c);
    let reciprocal = add_binary(g, BinaryFn::Div, one, c, &origin)?;
    let product = add_binary(g, BinaryFn::Mul, x, reciprocal, &origin)?;
    Ok(g.replace(at.value(0), product)?)
}

/// The most nodes behind a value in which those that round it are looked for.
const MOST_BEHIND: usize = 64;

/// True if a value is rounded to integers or compared, as it is or after functions of its elements: 41 * (1 / 41) is less than
/// 1.
fn is_rounded(g: &Graph, v: ValueId) -> bool {
    let mut behind = vec![v];
    let mut next = 0;
    while let Some(&v) = behind.get(next) {
        next += 1;
        for (user, _) in g.users(v) {
            match g.op(user) {
                Op::Unary(Unary { f: UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round }) => return true,
                Op::Binary(Binary { f: BinaryFn::FloorMod | BinaryFn::Rem }) => return true,
                Op::Binary(Binary { f }) if f.compares() => return true,
                Op::Cast(Cast { to }) if !to.is_float() => return true,
                Op::Unary(_) | Op::Binary(_) | Op::Clamp(_) | Op::Select(_) | Op::Cast(_) => {}
                Op::Reshape(_) | Op::Transpose(_) | Op::Expand(_) | Op::Concat(_) | Op::Slice(_) => {}
                _ => continue,
            }
            if behind.len() == MOST_BEHIND {
                return true;
            }
            if !behind.contains(&user.value(0)) {
                behind.push(user.value(0));
            }
        }
    }
    false
}

/// (x * a) * b is x * (a * b), and likewise for sums.
fn merge_constants(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let v = at.value(0);
    for f in [BinaryFn::Add, BinaryFn::Mul] {
        let Ok((y, b)) = by_constant(g, v, f) else { continue };
        let (x, a) = by_constant(g, y, f)?;
        only_here(g, y, at)?;
        smaller_together(g, a, b)?;
        let origin = g.origin(y.node).and(g.origin(at));
        let both = add_binary(g, f, a, b, &origin)?;
        let merged = add_binary(g, f, x, both, &origin)?;
        return Ok(g.replace(v, merged)?);
    }
    Err(Skip::NoMatch)
}

/// Three multiplications and additions become two: (x * m + a) * n is x * (m * n) + a * n, and (x + a) * m + b is x * m
/// + (a * m + b).
fn merge_affine(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let v = at.value(0);
    if let Ok((sum, n)) = by_constant(g, v, BinaryFn::Mul) {
        let (product, a) = by_constant(g, sum, BinaryFn::Add)?;
        let (x, m) = by_constant(g, product, BinaryFn::Mul)?;
        only_here(g, sum, at)?;
        only_here(g, product, sum.node)?;
        smaller_together(g, m, n)?;
        smaller_together(g, a, n)?;
        let origin = g.origin(product.node).and(g.origin(at));
        let factor = add_binary(g, BinaryFn::Mul, m, n, &origin)?;
        let term = add_binary(g, BinaryFn::Mul, a, n, &origin)?;
        return affine(g, v, x, factor, term);
    }
    let (product, b) = by_constant(g, v, BinaryFn::Add)?;
    let (sum, m) = by_constant(g, product, BinaryFn::Mul)?;
    let (x, a) = by_constant(g, sum, BinaryFn::Add)?;
    only_here(g, product, at)?;
    only_here(g, sum, product.node)?;
    smaller_together(g, a, m)?;
    smaller_together(g, m, b)?;
    smaller_together(g, a, b)?;
    let origin = g.origin(sum.node).and(g.origin(at));
    let scaled = add_binary(g, BinaryFn::Mul, a, m, &origin)?;
    let term = add_binary(g, BinaryFn::Add, scaled, b, &origin)?;
    affine(g, v, x, m, term)
}

fn affine(g: &mut Graph, old: ValueId, x: ValueId, factor: ValueId, term: ValueId) -> Result<(), Skip> {
    let origin = g.origin(old.node).clone();
    let product = add_binary(g, BinaryFn::Mul, x, factor, &origin)?;
    let sum = add_binary(g, BinaryFn::Add, product, term, &origin)?;
    Ok(g.replace(old, sum)?)
}

/// Matches if two constants broadcast to no more elements than the larger of them has.
fn smaller_together(g: &Graph, a: ValueId, b: ValueId) -> Match<()> {
    let (a, b) = (&g.ty(a).shape, &g.ty(b).shape);
    let together = qcc_ir::ops::broadcast(a, b)?;
    when(together.elements() <= a.elements().max(b.elements()))
}

/// Powers with an operator of their own, which also supports integers.
fn expand_power(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (x, exponent) = by_scalar(g, at.value(0), BinaryFn::Pow)?;
    let origin = g.origin(at).clone();
    let new = match exponent {
        2.0 => add_binary(g, BinaryFn::Mul, x, x, &origin)?,
        3.0 => {
            let square = add_binary(g, BinaryFn::Mul, x, x, &origin)?;
            add_binary(g, BinaryFn::Mul, square, x, &origin)?
        }
        0.5 => add_unary(g, UnaryFn::Sqrt, x, &origin)?,
        -0.5 => add_unary(g, UnaryFn::Rsqrt, x, &origin)?,
        -1.0 => add_unary(g, UnaryFn::Reciprocal, x, &origin)?,
        _ => return Err(Skip::NoMatch),
    };
    Ok(g.replace(at.value(0), new)?)
}

/// 1 / x.
fn recognise_reciprocal(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let [one, x] = binary(g, at.value(0), BinaryFn::Div)?;
    when(scalar(g, one)? == 1.0 && g.ty(x) == g.ty(at.value(0)))?;
    let origin = g.origin(at).clone();
    let new = add_unary(g, UnaryFn::Reciprocal, x, &origin)?;
    Ok(g.replace(at.value(0), new)?)
}

/// 1 / sqrt(x), sqrt(1 / x) and y / sqrt(x).
fn recognise_rsqrt(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    use UnaryFn::{Reciprocal, Rsqrt, Sqrt};
    let v = at.value(0);
    let both = |outer, inner| unary(g, v, outer).and_then(|y| Ok((y, unary(g, y, inner)?)));
    let (numerator, root, x) = match both(Reciprocal, Sqrt).or_else(|_| both(Sqrt, Reciprocal)) {
        Ok((root, x)) => (None, root, x),
        Err(_) => {
            let [y, root] = binary(g, v, BinaryFn::Div)?;
            (Some(y), root, unary(g, root, Sqrt)?)
        }
    };
    only_here(g, root, at)?;
    let origin = g.origin(at).and(g.origin(root.node));
    let rsqrt = add_unary(g, Rsqrt, x, &origin)?;
    let new = match numerator {
        Some(y) => add_binary(g, BinaryFn::Mul, y, rsqrt, &origin)?,
        None => rsqrt,
    };
    Ok(g.replace(v, new)?)
}

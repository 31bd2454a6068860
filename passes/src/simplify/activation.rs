//! Recognition of activation functions that exporters write as several operators.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use qcc_ir::ops::{Binary, BinaryFn, Clamp, Op, OpKind, Unary, UnaryFn};
use qcc_ir::{Elem, Graph, NodeId, ValueId};
use smallvec::{SmallVec, smallvec};

use crate::pattern::{Match, become_op, binary, by_scalar, near, scalar, unary, when};
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[
    Rule { name: "recognise-gated-activation", anchor: &[OpKind::Binary], apply: recognise_gated },
    Rule { name: "recognise-hard-sigmoid", anchor: &[OpKind::Binary, OpKind::Clamp], apply: recognise_hard_sigmoid },
    Rule { name: "recognise-leaky-relu", anchor: &[OpKind::Binary], apply: recognise_leaky_relu },
];

/// The maximum number of products that are expanded for one pattern. Activation functions have fewer.
const MOST_PRODUCTS: usize = 16;

/// The factors of the product `v` in any order, with all scalar constants multiplied into one number. A factor that is
/// itself a product is expanded if it has no other user.
fn product(g: &Graph, v: ValueId) -> (SmallVec<[ValueId; 4]>, f32) {
    let (mut factors, mut number) = (SmallVec::new(), 1.0);
    let mut open: SmallVec<[ValueId; 4]> = smallvec![v];
    let mut apart = 0;
    while let Some(f) = open.pop() {
        match (scalar(g, f), binary(g, f, BinaryFn::Mul)) {
            (Ok(c), _) => number *= c,
            (_, Ok(operands)) if apart < MOST_PRODUCTS && (f == v || g.only_user(f).is_some()) => {
                apart += 1;
                open.extend(operands.into_iter().rev());
            }
            _ => factors.push(f),
        }
    }
    (factors, number)
}

/// Matches `v = x * k` and returns `x` and `k`.
fn scaled(g: &Graph, v: ValueId) -> Match<(ValueId, f32)> {
    let (factors, k) = product(g, v);
    when(factors.len() == 1)?;
    Ok((factors[0], k))
}

/// `x * gate(x)` for the gates below.
fn recognise_gated(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (factors, k) = product(g, at.value(0));
    let &[a, b] = factors.as_slice() else { return Err(Skip::NoMatch) };
    let gates = [silu, hard_swish, mish, gelu, gelu_by_tanh];
    let (x, f) = gates
        .iter()
        .find_map(|gate| gate(g, a, b, k).map(|f| (a, f)).or_else(|_| gate(g, b, a, k).map(|f| (b, f))).ok())
        .ok_or(Skip::NoMatch)?;
    let other = if x == a { b } else { a };
    become_op(g, at, Unary { f }, &[x], &[other.node])
}

fn silu(g: &Graph, x: ValueId, gate: ValueId, k: f32) -> Match<UnaryFn> {
    when(k == 1.0 && unary(g, gate, UnaryFn::Sigmoid)? == x)?;
    Ok(UnaryFn::Silu)
}

fn mish(g: &Graph, x: ValueId, gate: ValueId, k: f32) -> Match<UnaryFn> {
    let softplus = unary(g, gate, UnaryFn::Tanh)?;
    when(k == 1.0 && unary(g, softplus, UnaryFn::Softplus)? == x)?;
    Ok(UnaryFn::Mish)
}

fn hard_swish(g: &Graph, x: ValueId, gate: ValueId, k: f32) -> Match<UnaryFn> {
    let ramp = ramp(g, gate, k)?;
    when(ramp.x == x)?;
    near(ramp.alpha, 1.0 / 6.0)?;
    near(ramp.beta, 0.5)?;
    Ok(UnaryFn::HardSwish)
}

/// x / 2 * (1 + erf(x / sqrt 2))
fn gelu(g: &Graph, x: ValueId, gate: ValueId, k: f32) -> Match<UnaryFn> {
    near(k, 0.5)?;
    let erf = plus_one(g, gate)?;
    let (base, divisor) = scaled(g, unary(g, erf, UnaryFn::Erf)?)?;
    when(base == x)?;
    near(divisor, FRAC_1_SQRT_2)?;
    Ok(UnaryFn::Gelu { tanh: false })
}

/// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))
fn gelu_by_tanh(g: &Graph, x: ValueId, gate: ValueId, k: f32) -> Match<UnaryFn> {
    near(k, 0.5)?;
    let tanh = plus_one(g, gate)?;
    let (sum, outer) = scaled(g, unary(g, tanh, UnaryFn::Tanh)?)?;
    near(outer, FRAC_2_SQRT_PI * FRAC_1_SQRT_2)?;
    let [a, b] = binary(g, sum, BinaryFn::Add)?;
    when(a == x || b == x)?;
    let (cube, inner) = product(g, if a == x { b } else { a });
    near(inner, 0.044715)?;
    when(cube.as_slice() == [x; 3])?;
    Ok(UnaryFn::Gelu { tanh: true })
}

/// Matches `v = x + 1` and returns `x`.
fn plus_one(g: &Graph, v: ValueId) -> Match<ValueId> {
    let (x, one) = by_scalar(g, v, BinaryFn::Add)?;
    when(one == 1.0)?;
    Ok(x)
}

/// clamp(alpha * x + beta, 0, 1)
struct Ramp {
    x: ValueId,
    alpha: f32,
    beta: f32,
}

/// Matches if `gate * k` is a ramp: a hard sigmoid, or a clamp of `a * x + b` from 0 to `1 / k`.
fn ramp(g: &Graph, gate: ValueId, k: f32) -> Match<Ramp> {
    let x = *g.operands(gate.node).first().ok_or(Skip::NoMatch)?;
    match *g.producer(gate) {
        Op::Unary(Unary { f: UnaryFn::HardSigmoid { alpha, beta } }) if k == 1.0 => Ok(Ramp { x, alpha, beta }),
        Op::Clamp(Clamp { lo: 0.0, hi }) => {
            near(hi * k, 1.0)?;
            let (product, b) = by_scalar(g, x, BinaryFn::Add)?;
            let (x, a) = by_scalar(g, product, BinaryFn::Mul).unwrap_or((product, 1.0));
            Ok(Ramp { x, alpha: a * k, beta: b * k })
        }
        _ => Err(Skip::NoMatch),
    }
}

/// A ramp of more than an addition and a clamp.
fn recognise_hard_sigmoid(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let (gate, k) = scaled(g, at.value(0))?;
    let ramp = ramp(g, gate, k)?;
    let sum = g.operands(gate.node)[0];
    when(k != 1.0 || by_scalar(g, g.operands(sum.node)[0], BinaryFn::Mul).is_ok())?;
    when(g.ty(ramp.x) == g.ty(at.value(0)) && g.only_user(sum).is_some())?;
    when(gate.node == at || g.only_user(gate).is_some())?;
    let f = UnaryFn::HardSigmoid { alpha: ramp.alpha, beta: ramp.beta };
    become_op(g, at, Unary { f }, &[ramp.x], &[gate.node, sum.node])
}

/// max(x, alpha * x) with one alpha from 0 to 1, or one up to 1 for each index of an axis.
fn recognise_leaky_relu(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    let [a, b] = binary(g, at.value(0), BinaryFn::Max)?;
    let leak = |x: ValueId, y: ValueId| -> Match<(ValueId, f32)> {
        let (base, alpha) = by_scalar(g, y, BinaryFn::Mul)?;
        when(base == x && alpha > 0.0 && alpha < 1.0)?;
        Ok((x, alpha))
    };
    if let Ok((x, alpha)) = leak(a, b).or_else(|_| leak(b, a)) {
        return become_op(g, at, Unary { f: UnaryFn::LeakyRelu { alpha } }, &[x], &[]);
    }
    let slopes = |x: ValueId, y: ValueId| -> Match<[ValueId; 2]> {
        let [c, d] = binary(g, y, BinaryFn::Mul)?;
        let slope = if c == x { d } else { c };
        when((c == x || d == x) && g.ty(x).elem == Elem::F32)?;
        let numbers = g.constant(slope).filter(|s| s.len() > 1).ok_or(Skip::NoMatch)?.floats();
        let along_an_axis = g.ty(slope).shape.dims().iter().filter(|d| d.known() != Some(1)).count() == 1;
        when(along_an_axis && BinaryFn::is_maximum_with(&numbers))?;
        Ok([x, slope])
    };
    let operands = slopes(a, b).or_else(|_| slopes(b, a))?;
    become_op(g, at, Binary { f: BinaryFn::Prelu }, &operands, &[])
}

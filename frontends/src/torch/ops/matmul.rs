//! Matrix products.

use qcc_ir::ValueId;
use qcc_ir::ops::{BinaryFn, Extents, MatMul, ReduceFn};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, matmul, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("addmm", |n| add_product(n, "mat1", "mat2")),
    ("addmv", |n| add_product(n, "mat", "vec")),
    ("baddbmm", |n| add_product(n, "batch1", "batch2")),
    ("bmm", |n| product(n, "mat2")),
    ("dot", |n| product(n, "tensor")),
    ("einsum", einsum),
    ("linear", linear),
    ("matmul", |n| product(n, "other")),
    ("mm", |n| product(n, "mat2")),
    ("mv", |n| product(n, "vec")),
    ("outer", outer),
];

fn product(n: &mut NodeCx<'_, '_>, other: &str) -> Result<Values, Refusal> {
    let (a, b) = (n.tensor("self")?, n.tensor(other)?);
    one(matmul(n, a, b)?)
}

/// x times the transposed weight, plus bias.
fn linear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, weight) = (n.tensor("input")?, n.tensor("weight")?);
    let bias = n.optional("bias")?;
    if n.rank(weight) != 2 || n.rank(x) == 0 {
        return Err(Refusal::Invalid(format!("a weight {} for {}", n.ty(weight), n.ty(x))));
    }
    let vector = n.rank(x) == 1;
    let x = if vector { n.reshape(x, &[1, n.dims(x)[0]])? } else { x };
    let operands: Values = [x, weight].into_iter().chain(bias).collect();
    let y = n.add(MatMul { transpose_b: true }, &operands)?;
    one(if vector { n.reshape(y, &n.dims(y)[1..])? } else { y })
}

/// beta * self + alpha * (a times b)
fn add_product(n: &mut NodeCx<'_, '_>, a: &str, b: &str) -> Result<Values, Refusal> {
    let (c, a, b) = (n.tensor("self")?, n.tensor(a)?, n.tensor(b)?);
    let (alpha, beta) = (n.float("alpha", 1.0)?, n.float("beta", 1.0)?);
    let b = scaled(n, b, alpha)?;
    if beta == 0.0 {
        return one(matmul(n, a, b)?);
    }
    let c = scaled(n, c, beta)?;
    let columns = n.dims(b).last().copied().unwrap_or(0);
    if n.dims(c).as_slice() == [columns] && n.rank(a) >= 2 && n.rank(b) >= 2 {
        return one(n.add(MatMul { transpose_b: false }, &[a, b, c])?);
    }
    let product = matmul(n, a, b)?;
    one(n.binary(BinaryFn::Add, product, c)?)
}

fn scaled(n: &mut NodeCx<'_, '_>, v: ValueId, by: f64) -> Result<ValueId, Refusal> {
    if by == 1.0 {
        return Ok(v);
    }
    let factor = n.scalar(by, v)?;
    n.binary(BinaryFn::Mul, v, factor)
}

fn outer(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.tensor("self")?, n.tensor("vec2")?);
    let a = n.reshape(a, &[n.dims(a).iter().product(), 1])?;
    one(n.binary(BinaryFn::Mul, a, b)?)
}

/// Sums of products over named axes: operands are brought to [shared, own, summed] axes and multiplied as matrices,
/// from the left.
fn einsum(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let equation: String = n.text("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let tensors = n.tensors("tensors")?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_string(), right.to_string()),
        None => {
            // Names that come once, in alphabetical order.
            let mut names: Vec<char> = equation.chars().filter(|c| c.is_alphabetic()).collect();
            names.sort_unstable();
            let once = names.iter().filter(|c| names.iter().filter(|d| d == c).count() == 1).collect();
            (equation.clone(), once)
        }
    };
    let names: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    let plain = |term: &[char]| term.iter().enumerate().all(|(i, c)| c.is_alphabetic() && !term[..i].contains(c));
    let result: Vec<char> = right.chars().collect();
    let fits = names.len() == tensors.len() && names.iter().zip(&tensors).all(|(t, &v)| t.len() == n.rank(v));
    if !fits || !names.iter().all(|t| plain(t)) || !plain(&result) {
        return Err(Refusal::Unsupported(format!("einsum {equation:?} is not supported; write it with matmul")));
    }
    let mut terms = names.into_iter().zip(tensors);
    let mut all = terms.next().ok_or_else(|| Refusal::Invalid("einsum of nothing".into()))?;
    let mut rest: Vec<(Vec<char>, ValueId)> = terms.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let later = |c: &char| result.contains(c) || rest.iter().any(|t| t.0.contains(c));
        all = contract(n, all, next, &later)?;
    }
    let (names, v) = all;
    let summed: Extents = (0..names.len()).filter(|&i| !result.contains(&names[i])).collect();
    let v = n.reduce(ReduceFn::Sum, v, &summed, false)?;
    let names: Vec<char> = names.into_iter().filter(|c| result.contains(c)).collect();
    let perm: Option<Extents> = result.iter().map(|c| names.iter().position(|d| d == c)).collect();
    let perm = perm.ok_or_else(|| Refusal::Invalid(format!("einsum {equation:?} names an axis that is none")))?;
    one(n.transpose(v, &perm)?)
}

/// The product of two terms; axes that nothing needs later are summed.
fn contract(
    n: &mut NodeCx<'_, '_>,
    a: (Vec<char>, ValueId),
    b: (Vec<char>, ValueId),
    later: &dyn Fn(&char) -> bool,
) -> Result<(Vec<char>, ValueId), Refusal> {
    let (a, b) = (only(n, a, |c, other| later(c) || other.contains(c), &b.0)?, b);
    let b = only(n, b, |c, other| later(c) || other.contains(c), &a.0)?;
    let shared: Vec<char> = a.0.iter().copied().filter(|c| b.0.contains(c) && later(c)).collect();
    let summed: Vec<char> = a.0.iter().copied().filter(|c| b.0.contains(c) && !later(c)).collect();
    let own = |t: &[char], o: &[char]| t.iter().copied().filter(|c| !o.contains(c)).collect::<Vec<char>>();
    let (rows, columns) = (own(&a.0, &b.0), own(&b.0, &a.0));
    let (left, left_dims) = arranged(n, &a, [&shared, &rows, &summed])?;
    let (right, right_dims) = arranged(n, &b, [&shared, &columns, &summed])?;
    let product = n.add(MatMul { transpose_b: true }, &[left, right])?;
    let batch = left_dims.0.iter().zip(&right_dims.0).map(|(&l, &r)| l.max(r));
    let dims: Extents = batch.chain(left_dims.1).chain(right_dims.1).collect();
    let product = n.reshape(product, &dims)?;
    Ok((shared.into_iter().chain(rows).chain(columns).collect(), product))
}

/// The term with axes summed that are not kept.
fn only(
    n: &mut NodeCx<'_, '_>,
    term: (Vec<char>, ValueId),
    keep: impl Fn(&char, &[char]) -> bool,
    other: &[char],
) -> Result<(Vec<char>, ValueId), Refusal> {
    let summed: Extents = (0..term.0.len()).filter(|&i| !keep(&term.0[i], other)).collect();
    let v = n.reduce(ReduceFn::Sum, term.1, &summed, false)?;
    Ok((term.0.into_iter().filter(|c| keep(c, other)).collect(), v))
}

/// The term as `[shared.., own, summed]`, and the extents of the first two kinds.
fn arranged(
    n: &mut NodeCx<'_, '_>,
    term: &(Vec<char>, ValueId),
    order: [&[char]; 3],
) -> Result<(ValueId, (Extents, Extents)), Refusal> {
    let dims = n.dims(term.1);
    let place = |c: &char| term.0.iter().position(|d| d == c).unwrap_or(0);
    let perm: Extents = order.iter().copied().flatten().map(place).collect();
    let extents = |names: &[char]| -> Extents { names.iter().map(|c| dims[place(c)]).collect() };
    let [shared, own, summed] = order.map(extents);
    let v = n.transpose(term.1, &perm)?;
    let flat: Extents = shared.iter().copied().chain([own.iter().product(), summed.iter().product()]).collect();
    Ok((n.reshape(v, &flat)?, (shared, own)))
}

//! Probabilities of classes from those of each pair of classes: T.-F. Wu, C.-J. Lin and R. C. Weng, Probability Estimates for
//! Multi-class Classification by Pairwise Coupling, JMLR 5 (2004), algorithm 2, with the limits of ONNX Runtime and LIBSVM.

use qcc_ir::ops::{BinaryFn, Concat, Expand, Gather, Range, ReduceFn, Select, Slice, UnaryFn};
use qcc_ir::{Dim, Elem, Graph, Shape, Tensor, TensorType, ValueId};

use super::super::node::NodeCx;
use crate::build::index::with_diagonal;
use crate::build::{Build, End, control};
use crate::refusal::Refusal;

/// The most iterations.
const MOST: i64 = 100;

/// The error at which the iteration ends, of one class.
const ERROR: f64 = 0.005;

/// The probabilities `[N, C]` from those `[N, P]` of the first class of each pair of classes.
pub(super) fn coupled(
    n: &mut NodeCx<'_, '_>,
    firsts: ValueId,
    pairs: &[[usize; 2]],
    classes: usize,
) -> Result<ValueId, Refusal> {
    let q = quadratic_form(n, firsts, pairs, classes)?;
    let rows = n.shape(firsts).dims()[0].clone();
    let equal = n.add_constant(Tensor::scalar(1.0f32 / classes as f32));
    let start = n.add(Expand { shape: [rows, classes.into()].into_iter().collect() }, &[equal])?;
    let mut body = Graph::new("coupling");
    body.add_input("iteration", TensorType::new(Elem::I64, Shape::scalar()));
    let p = body.add_input("p", n.ty(start).clone());
    let inner = body.add_input("q", n.ty(q).clone());
    let (next, again) = iteration(&mut End(&mut body, n.origin().clone()), p, inner, classes)?;
    body.add_output("again", again);
    body.add_output("p", next);
    let most = n.add_constant(Tensor::scalar(MOST));
    let first = n.add_constant(Tensor::from_bools(Shape::scalar(), [true]));
    n.add(control::repeat(1, None, String::new(), body), &[most, first, start, q])
}

/// The matrix `[N, C, C]` of the form that the probabilities minimize.
fn quadratic_form(
    n: &mut NodeCx<'_, '_>,
    firsts: ValueId,
    pairs: &[[usize; 2]],
    classes: usize,
) -> Result<ValueId, Refusal> {
    let whole = n.scalar(1.0, firsts)?;
    let seconds = n.binary(BinaryFn::Sub, whole, firsts)?;
    let none = n.binary(BinaryFn::Sub, firsts, firsts)?;
    let all = n.add(Concat { axis: 1 }, &[firsts, seconds, none])?;
    // Row i and column j of `own` are the probability of class i in the pair with class j, those of `other` of class j.
    let place = |i: usize, j: usize| {
        let at = |pair: [usize; 2]| pairs.iter().position(|&p| p == pair);
        let place = at([i, j]).or_else(|| at([j, i]).map(|p| pairs.len() + p));
        place.unwrap_or(2 * pairs.len()) as i64
    };
    let shape: Shape = [n.shape(firsts).dims()[0].clone(), classes.into(), classes.into()].into_iter().collect();
    let mut matrix = |place: &dyn Fn(usize, usize) -> i64| {
        let places = n.table(&[classes * classes], |i| place(i / classes, i % classes))?;
        let picked = n.add(Gather { axis: 1 }, &[all, places])?;
        n.reshape_to(picked, shape.clone())
    };
    let (own, other) = (matrix(&place)?, matrix(&|i, j| place(j, i))?);
    let squares = n.binary(BinaryFn::Mul, other, other)?;
    let diagonal = n.reduce(ReduceFn::Sum, squares, &[2], false)?;
    let products = n.binary(BinaryFn::Mul, own, other)?;
    let products = n.unary(UnaryFn::Neg, products)?;
    with_diagonal(n, products, diagonal)
}

/// The next probabilities of the rows that have not ended, and whether there are any.
fn iteration(n: &mut End<'_>, p: ValueId, q: ValueId, classes: usize) -> Result<(ValueId, ValueId), Refusal> {
    let rows = n.shape(p).dims()[0].clone();
    let across = n.reshape_to(p, [rows.clone(), Dim::Known(1), Dim::Known(classes)].into_iter().collect())?;
    let products = n.binary(BinaryFn::Mul, q, across)?;
    let mut qp = n.reduce(ReduceFn::Sum, products, &[2], false)?;
    let products = n.binary(BinaryFn::Mul, p, qp)?;
    let mut pqp = n.reduce(ReduceFn::Sum, products, &[1], true)?;
    let errors = n.binary(BinaryFn::Sub, qp, pqp)?;
    let errors = n.unary(UnaryFn::Abs, errors)?;
    let error = n.reduce(ReduceFn::Max, errors, &[1], true)?;
    let least = n.scalar(ERROR / classes as f64, error)?;
    let goes_on = n.binary(BinaryFn::GreaterEqual, error, least)?;
    let (one, two) = (n.scalar(1.0, p)?, n.scalar(2.0, p)?);
    let mut next = p;
    for class in 0..classes {
        let range = |axis| Slice { ranges: vec![Range { axis, start: class, len: 1, step: 1 }] };
        let line = n.add(range(1), &[q])?;
        let line = n.reshape_to(line, [rows.clone(), Dim::Known(classes)].into_iter().collect())?;
        let (own, own_qp) = (n.add(range(1), &[line])?, n.add(range(1), &[qp])?);
        let change = n.binary(BinaryFn::Sub, pqp, own_qp)?;
        let change = n.binary(BinaryFn::Div, change, own)?;
        let scale = n.binary(BinaryFn::Add, one, change)?;
        let mark = n.add_constant(Tensor::from_vec(
            Shape::known(&[classes]),
            (0..classes).map(|c| if c == class { 1.0f32 } else { 0.0 }).collect(),
        ));
        let moved = n.binary(BinaryFn::Mul, change, mark)?;
        let moved = n.binary(BinaryFn::Add, next, moved)?;
        next = n.binary(BinaryFn::Div, moved, scale)?;
        let part = n.binary(BinaryFn::Mul, change, own)?;
        let twice = n.binary(BinaryFn::Mul, two, own_qp)?;
        let part = n.binary(BinaryFn::Add, part, twice)?;
        let part = n.binary(BinaryFn::Mul, change, part)?;
        let sum = n.binary(BinaryFn::Add, pqp, part)?;
        let sum = n.binary(BinaryFn::Div, sum, scale)?;
        pqp = n.binary(BinaryFn::Div, sum, scale)?;
        let moved = n.binary(BinaryFn::Mul, change, line)?;
        let moved = n.binary(BinaryFn::Add, qp, moved)?;
        qp = n.binary(BinaryFn::Div, moved, scale)?;
    }
    let next = n.add(Select {}, &[goes_on, next, p])?;
    let again = n.reduce(ReduceFn::Any, goes_on, &[0, 1], false)?;
    Ok((next, again))
}

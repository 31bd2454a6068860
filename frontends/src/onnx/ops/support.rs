//! Support vector machines of `ai.onnx.ml` as tensor operators, as ONNX Runtime computes them.

use qcc_ir::ops::{ArgReduce, BinaryFn, Clamp, Concat, MatMul, ReduceFn, Select, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::coupling::coupled;
use super::linear::{constant, features, label_at, labels, missing, transformed};
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("ai.onnx.ml.SVMClassifier", classifier), ("ai.onnx.ml.SVMRegressor", regressor)];

/// The largest degree of a polynomial kernel.
const MOST_DEGREE: f32 = 16.0;

/// The kernel function of each row of `x` `[N, F]` and each of `vectors` `[S, F]`: `[N, S]`.
fn kernels(n: &mut NodeCx<'_, '_>, x: ValueId, count: usize, vectors: Vec<f32>) -> Result<ValueId, Refusal> {
    let kind = n.string("kernel_type", "LINEAR")?;
    let parameters = n.floats("kernel_params")?.unwrap_or_default();
    let [gamma, offset, degree] = [0, 1, 2].map(|i| parameters.get(i).copied().unwrap_or(0.0));
    if count == 0 || !vectors.len().is_multiple_of(count) {
        return Err(Refusal::Invalid(format!("{} numbers of {count} support vectors", vectors.len())));
    }
    let width = vectors.len() / count;
    if kind == "RBF" {
        let vectors = constant(n, &[1, count, width], vectors);
        let rows = n.shape(x).dims()[0].clone();
        let x = n.reshape_to(x, [rows, Dim::Known(1), Dim::Known(width)].into_iter().collect())?;
        let distances = n.binary(BinaryFn::SquaredDifference, x, vectors)?;
        let distances = n.reduce(ReduceFn::Sum, distances, &[2], false)?;
        let factor = n.scalar(f64::from(-gamma), distances)?;
        let exponents = n.binary(BinaryFn::Mul, distances, factor)?;
        return n.unary(UnaryFn::Exp, exponents);
    }
    let vectors = constant(n, &[count, width], vectors);
    let products = n.add(MatMul { transpose_b: true }, &[x, vectors])?;
    if kind == "LINEAR" {
        return Ok(products);
    }
    let (gamma, offset) = (n.scalar(gamma.into(), products)?, n.scalar(offset.into(), products)?);
    let scaled = n.binary(BinaryFn::Mul, products, gamma)?;
    let sums = n.binary(BinaryFn::Add, scaled, offset)?;
    match kind {
        "SIGMOID" => n.unary(UnaryFn::Tanh, sums),
        "POLY" if degree.fract() == 0.0 && (1.0..=MOST_DEGREE).contains(&degree) => {
            (1..degree as usize).try_fold(sums, |power, _| n.binary(BinaryFn::Mul, power, sums))
        }
        "POLY" => Err(Refusal::Unsupported(format!("a kernel of degree {degree} is not supported"))),
        _ => Err(Refusal::Attribute { name: "kernel_type".into(), problem: "not LINEAR, POLY, RBF or SIGMOID" }),
    }
}

fn floats(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Vec<f32>, Refusal> {
    n.floats(name)?.map(<[f32]>::to_vec).filter(|v| !v.is_empty()).ok_or_else(|| missing(name))
}

/// The weighed sum of the kernel functions, or of the features where there are no support vectors.
fn regressor(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = features(n)?;
    let (coefficients, rho) = (floats(n, "coefficients")?, floats(n, "rho")?);
    let (supports, one_class) = (n.int("n_supports", 0)?, n.flag("one_class", false)?);
    let vectors = n.floats("support_vectors")?.unwrap_or_default().to_vec();
    // ONNX Runtime does not apply it.
    n.string("post_transform", "NONE")?;
    let seen = match extent(supports)? {
        0 => {
            n.string("kernel_type", "LINEAR")?;
            n.floats("kernel_params")?;
            x
        }
        count => kernels(n, x, count, vectors)?,
    };
    let (weight, bias) = (constant(n, &[1, coefficients.len()], coefficients), constant(n, &[1], rho[..1].to_vec()));
    let mut y = n.add(MatMul { transpose_b: true }, &[seen, weight, bias])?;
    if one_class {
        let zero = n.scalar(0.0, y)?;
        let inside = n.binary(BinaryFn::Greater, y, zero)?;
        let (yes, no) = (n.scalar(1.0, y)?, n.scalar(-1.0, y)?);
        y = n.add(Select {}, &[inside, yes, no])?;
    }
    one(y)
}

/// Which of two classes: one score for each pair, which is positive for the first one.
struct Pairs {
    pairs: Vec<[usize; 2]>,
    /// The weights of the support vectors for each pair, `[P, S]`.
    weights: Vec<f32>,
}

impl Pairs {
    /// `coefficients` are `[C - 1, S]`: those of a class for each of the other ones.
    fn new(coefficients: &[f32], per_class: &[usize]) -> Result<Pairs, Refusal> {
        let (classes, supports) = (per_class.len(), per_class.iter().sum::<usize>());
        if coefficients.len() != (classes - 1) * supports {
            let found = coefficients.len();
            return Err(Refusal::Invalid(format!("{found} coefficients of {supports} vectors of {classes} classes")));
        }
        let first: Vec<usize> = (0..classes).map(|c| per_class[..c].iter().sum()).collect();
        let pairs: Vec<[usize; 2]> = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| [i, j])).collect();
        let mut weights = vec![0.0; pairs.len() * supports];
        for (row, &[i, j]) in weights.chunks_exact_mut(supports).zip(&pairs) {
            for (class, line) in [(i, j - 1), (j, i)] {
                let own = first[class]..first[class] + per_class[class];
                let from = &coefficients[line * supports..][own.clone()];
                row[own].copy_from_slice(from);
            }
        }
        Ok(Pairs { pairs, weights })
    }

    /// The class with the most positive scores, the first one of several: its index, `[N]`.
    fn winner(&self, n: &mut NodeCx<'_, '_>, scores: ValueId, classes: usize) -> Result<ValueId, Refusal> {
        let zero = n.scalar(0.0, scores)?;
        let positive = n.binary(BinaryFn::Greater, scores, zero)?;
        let side = |n: &mut NodeCx<'_, '_>, side: usize| {
            let classes = self.pairs.iter().map(|pair| pair[side] as i64).collect();
            n.add_constant(Tensor::from_vec(Shape::known(&[self.pairs.len()]), classes))
        };
        let (first, second) = (side(n, 0), side(n, 1));
        let votes = n.add(Select {}, &[positive, first, second])?;
        let votes = n.column(votes)?;
        let all = n.table(&[classes], |class| class as i64)?;
        let votes = n.binary(BinaryFn::Equal, votes, all)?;
        let votes = n.cast(votes, Elem::I32)?;
        let votes = n.reduce(ReduceFn::Sum, votes, &[1], false)?;
        n.add(ArgReduce { axis: 1, largest: true, keep: false }, &[votes])
    }
}

/// The label with the most votes of the pairs, and the scores of the pairs; of two classes both scores.
fn classifier(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = features(n)?;
    let labels = labels(n, "classlabels_ints")?;
    let (coefficients, rho) = (floats(n, "coefficients")?, floats(n, "rho")?);
    let per_class = n.ints("vectors_per_class")?.unwrap_or_default();
    let per_class = per_class.iter().map(|&count| extent(count)).collect::<Result<Vec<_>, _>>()?;
    let vectors = n.floats("support_vectors")?.unwrap_or_default().to_vec();
    let [a, b] = ["prob_a", "prob_b"].map(|name| n.floats(name).map(|v| v.unwrap_or_default().to_vec()));
    let (a, b) = (a?, b?);
    let classes = labels.len();
    if per_class.len() != classes || classes < 2 {
        let found = per_class.len();
        return Err(Refusal::Unsupported(format!("support vectors of {found} classes for {classes} labels")));
    }
    let pairs = Pairs::new(&coefficients, &per_class)?;
    let count = pairs.pairs.len();
    if rho.len() < count {
        return Err(Refusal::Invalid(format!("{} numbers in rho for {count} pairs of classes", rho.len())));
    }
    let supports: usize = per_class.iter().sum();
    let seen = kernels(n, x, supports, vectors)?;
    let (weight, bias) =
        (constant(n, &[count, supports], pairs.weights.clone()), constant(n, &[count], rho[..count].to_vec()));
    let scores = n.add(MatMul { transpose_b: true }, &[seen, weight, bias])?;
    let winner = pairs.winner(n, scores, classes)?;
    let label = label_at(n, winner, labels)?;
    if !a.is_empty() {
        let probabilities = probabilities(n, scores, &pairs, [a, b], classes)?;
        return Ok(Values::from_slice(&[label, transformed(n, probabilities)?]));
    }
    if classes > 2 {
        return Ok(Values::from_slice(&[label, transformed(n, scores)?]));
    }
    if n.string("post_transform", "NONE")? != "NONE" {
        return Err(Refusal::Unsupported("post_transform of the scores of two classes is not supported".into()));
    }
    let opposite = n.unary(UnaryFn::Neg, scores)?;
    Ok(Values::from_slice(&[label, n.add(Concat { axis: 1 }, &[opposite, scores])?]))
}

/// The probabilities of the classes: of each pair by a logistic function of its score, with these factors and offsets.
fn probabilities(
    n: &mut NodeCx<'_, '_>,
    scores: ValueId,
    pairs: &Pairs,
    [factors, offsets]: [Vec<f32>; 2],
    classes: usize,
) -> Result<ValueId, Refusal> {
    const LEAST: f32 = 1e-7;
    let count = pairs.pairs.len();
    if factors.len() < count || offsets.len() < count {
        let (a, b) = (factors.len(), offsets.len());
        return Err(Refusal::Invalid(format!("{a} numbers in prob_a and {b} in prob_b for {count} pairs of classes")));
    }
    let [factors, offsets] = [factors, offsets].map(|v| constant(n, &[count], v[..count].to_vec()));
    let scaled = n.binary(BinaryFn::Mul, scores, factors)?;
    let exponents = n.binary(BinaryFn::Add, scaled, offsets)?;
    let opposite = n.unary(UnaryFn::Neg, exponents)?;
    let firsts = n.unary(UnaryFn::Sigmoid, opposite)?;
    let firsts = n.add(Clamp { lo: LEAST, hi: 1.0 - LEAST }, &[firsts])?;
    coupled(n, firsts, &pairs.pairs, classes)
}

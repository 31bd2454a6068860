//! Vetoes nodes with values that the storage type is too coarse for, because of the functions applied to them.

use qcc_ir::ops::{BinaryFn, LayoutRule, Op, QuantRule, ReduceFn, Unary, UnaryFn};
use qcc_ir::{Graph, NodeId, Shape, StorageType, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Case, Vetoes};
use crate::calibrate::{CalibrationTable, OwnRanges, Range};
use crate::decisions::Reason;

/// The scale, in standard deviations of a value, at which rounding leaves an SQNR of 20 dB.
const STEP: f32 = 0.346;

/// The factor by which scales must be finer: 16 bits are for errors below those that rounding the weights causes, which
/// are at 30 to 50 dB.
fn finer(storage: StorageType) -> f32 {
    if storage == StorageType::I16 { 32.0 } else { 1.0 }
}

/// The factor on that scale for contractions, which are vetoed below 10 dB only.
const STEEP: f32 = 3.0;

/// An error of half this scale changes softmax results by a sixteenth.
const SOFTMAX: f32 = 1.0 / 8.0;

/// Values whose scale leaves less than 20 dB, with 16 bits 50 dB, in a value computed from them: differences of nearly
/// equal numbers, logarithms of small numbers, sines of large angles, and softmax inputs with a mask. After functions
/// that are sensitive to small numbers, the analysis includes the contractions with constant weights that make their
/// operand.
#[derive(Debug, Default)]
pub(in super::super) struct FewSteps {
    /// All of these values.
    values: FxHashSet<ValueId>,
    /// Those for which dynamic quantization is too coarse as well.
    steep: FxHashSet<ValueId>,
}

/// Contractions are vetoed for `steep` values only: dynamic quantization may handle the others.
pub(in super::super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>, few: &FewSteps) -> Vetoes {
    let g = case.g;
    let reads = |n: NodeId, values: &FxHashSet<ValueId>| g.operands(n).iter().any(|v| values.contains(v));
    let vetoed = |n: &NodeId| match g.op(*n).is_contraction() {
        true => reads(*n, &few.steep),
        false => few.result(g, *n) || reads(*n, &few.values),
    };
    case.able(able).filter(vetoed).map(|n| (n, Reason::FewSteps)).collect()
}

impl FewSteps {
    /// Analyses all values. `own` is the range of each value.
    pub(in super::super) fn of(case: &Case<'_>, own: &OwnRanges) -> Self {
        let (g, ranges) = (case.g, case.ranges);
        let typical = g.typical();
        let reach = Reach { g: &typical, ranges, finer: finer(case.storage) };
        let (mut all, mut steep) = (Bearable::default(), Bearable::default());
        let coarse = |v: ValueId, bearable: &Bearable| {
            own.get(&v).is_some_and(|&range| step(range, case.storage) > bearable.of(v))
        };
        // The values of `steep` from which a contraction computes what a function is sensitive to.
        let mut before_contraction: FxHashSet<ValueId> = FxHashSet::default();
        // What only selects among a few is rounded anyway: small numbers need not be exact there.
        let mut selects: FxHashSet<NodeId> = FxHashSet::default();
        for &n in case.order.iter().rev() {
            let result = n.value(0);
            if only_selects(g, n, &selects) {
                selects.insert(n);
            }
            let Some(needed) = reach.needed(result) else { continue };
            let is_contraction = g.op(n).is_contraction();
            // A contraction whose result may have 8 bits adds an error of its own. More precision before it is of no
            // use to the contractions that follow.
            let ends = is_contraction && before_contraction.contains(&result) && !coarse(result, &steep);
            let operands = g.operands(n);
            for (i, &v) in operands.iter().enumerate() {
                if !is_contraction {
                    all.bound(v, reach.behind(n, &operands, i, all.of(result).min(needed), SYSTEMATIC));
                }
                let step = match steep.of(result) {
                    step if reach.is_steep(n, i) && !selects.contains(&n) => step.min(needed * STEEP),
                    _ if ends => f32::INFINITY,
                    step => step,
                };
                if step.is_finite() {
                    steep.bound(v, reach.behind(n, &operands, i, step, 1.0));
                    if is_contraction || before_contraction.contains(&result) {
                        before_contraction.insert(v);
                    }
                }
            }
        }
        let all_coarse = |b: &Bearable| own.keys().copied().filter(|&v| coarse(v, b)).collect::<FxHashSet<_>>();
        let steep = all_coarse(&steep);
        FewSteps { values: &all_coarse(&all) | &steep, steep }
    }

    /// True if a result of a node is one of these values.
    pub(super) fn result(&self, g: &Graph, n: NodeId) -> bool {
        g.results(n).any(|v| self.values.contains(&v))
    }
}

/// The largest scale of each value that the computations after it tolerate.
#[derive(Default)]
struct Bearable(FxHashMap<ValueId, f32>);

impl Bearable {
    fn of(&self, v: ValueId) -> f32 {
        self.0.get(&v).copied().unwrap_or(f32::INFINITY)
    }

    fn bound(&mut self, v: ValueId, step: Option<f32>) {
        if let Some(step) = step {
            self.0.entry(v).and_modify(|s| *s = s.min(step)).or_insert(step);
        }
    }
}

/// True for a node of which all that is computed becomes an integer. `selects` are those of the nodes after it.
fn only_selects(g: &Graph, n: NodeId, selects: &FxHashSet<NodeId>) -> bool {
    let result = n.value(0);
    let is_index =
        |reader: NodeId| selects.contains(&reader) || matches!(g.op(reader), Op::Cast(c) if c.to.is_integer());
    let mut readers = g.readers(result).peekable();
    g.ty(result).elem.is_float()
        && !g.is_output(result)
        && readers.peek().is_some()
        && matches!(g.op(n).layout(), LayoutRule::Follow)
        && readers.all(|(reader, _)| is_index(reader))
}

/// The largest scale that a range may get: 16-bit quantization is symmetric.
fn step(range: Range, storage: StorageType) -> f32 {
    range.span() / if storage == StorageType::I16 { 32767.0 } else { 255.0 }
}

/// True for functions that are more sensitive to errors the smaller the number is, or that are periodic.
fn is_steep(function: &Op) -> bool {
    use UnaryFn::{Cos, Log, Reciprocal, Rsqrt, Sin, Sqrt, Tan};
    matches!(function, Op::Unary(u) if matches!(u.f, Log | Reciprocal | Rsqrt | Sqrt | Sin | Cos | Tan))
}

/// The weight of the mean error of the numbers that are rounded to the same level, after a steep function. Rounding
/// errors cancel in the sums of the contraction that follows; errors with the same sign for all small numbers add up.
const SYSTEMATIC: f64 = 30.0;

/// The weighted sum of squared errors. `levels` are the rounded numbers in ascending order; `errors` has the error
/// and the count of each.
fn weighted_noise(levels: &[f32], errors: &[(f64, f64)], systematic: f64) -> f64 {
    let of_level = |errors: &[(f64, f64)]| {
        let sum = |f: &dyn Fn(f64) -> f64| errors.iter().map(|&(e, n)| f(e) * n).sum::<f64>();
        let (squares, count) = (sum(&|e| e * e), sum(&|_| 1.0));
        // Also the mean of errors that are independent is not zero.
        let (mean, by_chance) = (sum(&|e| e).powi(2) / count, squares / count);
        squares + (systematic - 1.0) * (mean - by_chance).max(0.0)
    };
    let mut left = errors;
    let each = levels.chunk_by(|a, b| a == b).map(|level| {
        let (own, rest) = left.split_at(level.len());
        left = rest;
        of_level(own)
    });
    each.sum()
}

struct Reach<'a> {
    g: &'a Graph,
    ranges: &'a CalibrationTable,
    /// The factor by which scales must be finer than for 8 bits.
    finer: f32,
}

impl Reach<'_> {
    /// The largest scale of a value that leaves a sufficient SQNR. `None` if the value is constant over all samples.
    fn needed(&self, v: ValueId) -> Option<f32> {
        let (_, deviation) = self.ranges.get(v)?.moments();
        (deviation > 0.0).then_some(deviation as f32 * STEP / self.finer)
    }

    /// True if the result is more sensitive to errors of operand `i` the smaller the number is, or is periodic.
    fn is_steep(&self, n: NodeId, i: usize) -> bool {
        match self.g.op(n) {
            op @ Op::Unary(_) => is_steep(op),
            Op::Binary(b) => b.f == BinaryFn::Pow || b.f == BinaryFn::Div && i == 1,
            _ => false,
        }
    }

    /// The largest scale of operand `i` whose errors in the result are at most those of `step`. `None` if errors of the
    /// operand do not propagate like this. `systematic` is the weight of errors of the same sign after a steep function.
    fn behind(&self, n: NodeId, operands: &[ValueId], i: usize, step: f32, systematic: f64) -> Option<f32> {
        let slope = match self.g.op(n) {
            op @ Op::Unary(_) => return self.behind_function(operands[0], op, step, systematic),
            Op::Binary(b) if b.f == BinaryFn::Div && i == 1 => {
                let reciprocal = Op::Unary(Unary { f: UnaryFn::Reciprocal });
                return self.behind_function(operands[1], &reciprocal, step / self.magnitude(operands[0])?, systematic);
            }
            Op::Binary(b) => self.binary(b.f, operands, i)?,
            _ if self.g.op(n).is_contraction() => self.contracted(n, i)?,
            Op::Softmax(s) if !s.log => self.needed(n.value(0))? / SOFTMAX * self.finer,
            // Errors of many numbers partly cancel.
            Op::Reduce(r) if matches!(r.f, ReduceFn::Mean | ReduceFn::Sum) => {
                let elements = |v| self.g.ty(v).shape.elements().map(|e| e.max(1) as f32);
                let summed = elements(operands[0])? / elements(n.value(0))?;
                if r.f == ReduceFn::Mean { summed.sqrt().recip() } else { summed.sqrt() }
            }
            Op::Clamp(_) => 1.0,
            op if i == 0 && op.quant_rule() == QuantRule::SameAsInput || op.quant_rule() == QuantRule::SharedScale => {
                1.0
            }
            _ => return None,
        };
        Some(step / slope)
    }

    /// The factor by which an error of operand `i` is amplified in the result.
    fn binary(&self, f: BinaryFn, operands: &[ValueId], i: usize) -> Option<f32> {
        let other = operands[1 - i];
        match f {
            BinaryFn::Add | BinaryFn::Sub | BinaryFn::Max | BinaryFn::Min => Some(1.0),
            BinaryFn::Mul => self.magnitude(other),
            BinaryFn::Div if i == 0 => self.magnitude(other).map(f32::recip),
            _ => None,
        }
    }

    /// The factor by which an error of operand `i` is amplified by a contraction with a constant weight. Errors of many
    /// numbers partly cancel.
    fn contracted(&self, n: NodeId, i: usize) -> Option<f32> {
        let w = self.g.constant(*self.g.operands(n).get(1usize.checked_sub(i)?)?)?;
        let numbers = match (self.g.op(n).quant_rule(), i) {
            (QuantRule::Contraction { channel }, 0) => w.dims()[channel],
            // The reduction axis of the left operand is the last one.
            _ => w.len() / w.dims().last()?,
        };
        let squares: f32 = w.floats().iter().map(|x| x * x).sum();
        Some((squares / numbers.max(1) as f32).sqrt())
    }

    /// The root mean square of a value.
    fn magnitude(&self, v: ValueId) -> Option<f32> {
        if let Some(c) = self.g.constant(v) {
            let squares: f32 = c.floats().iter().map(|x| x * x).sum();
            return Some((squares / c.len().max(1) as f32).sqrt());
        }
        let (mean, deviation) = self.ranges.get(v)?.moments();
        Some(libm::hypot(mean, deviation) as f32)
    }

    /// The largest scale of a value whose errors after a function are at most those of `bearable`, as they are and, if
    /// the function is steep, with the weight `systematic`.
    fn behind_function(&self, v: ValueId, function: &Op, bearable: f32, systematic: f64) -> Option<f32> {
        let plain = self.tolerated(v, function, bearable, 1.0)?;
        match systematic > 1.0 && is_steep(function) {
            true => Some(plain.min(self.tolerated(v, function, bearable, systematic)?)),
            false => Some(plain),
        }
    }

    /// The largest scale of a value whose weighted errors after a function are at most those of `bearable`, over the
    /// distribution of the value.
    fn tolerated(&self, v: ValueId, function: &Op, bearable: f32, systematic: f64) -> Option<f32> {
        let (seen, range) = (self.ranges.get(v)?, self.ranges.range(v)?);
        let apply = |x: Vec<f32>| -> Option<Vec<f32>> {
            let x = Tensor::from_vec(Shape::known(&[x.len()]), x);
            Some(function.eval(&[&x]).ok()?[0].floats().into_owned())
        };
        let (centres, counts): (Vec<f32>, Vec<u64>) = seen.histogram.bins().unzip();
        let exact = apply(centres.clone())?;
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let behind = |step: f32| {
            let (zero, top) = ((-range.lo / step).round(), (range.span() / step).round());
            let rounded = centres.iter().map(|x| (((x / step).round() + zero).clamp(0.0, top) - zero) * step);
            let levels: Vec<f32> = rounded.collect();
            let errors = apply(levels.clone())?.into_iter().zip(&exact).zip(&counts);
            let errors: Vec<_> = errors.map(|((r, e), n)| (f64::from(r - e), *n as f64)).collect();
            let mean = weighted_noise(&levels, &errors, systematic) / total;
            // Errors that are not finite count as infinite.
            Some(if mean.is_nan() { f32::INFINITY } else { (mean * 12.0).sqrt() as f32 })
        };
        let mut own = step(range, StorageType::U8);
        let mut wide = behind(own)?;
        // Near zero the slope of a function may be much larger than for most numbers.
        while wide > bearable && own > seen.histogram.width() {
            own /= 2.0;
            wide = behind(own)?;
        }
        // A function that is constant over the distribution tolerates any scale.
        Some(if wide > 0.0 { own * bearable / wide } else { f32::INFINITY })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors that cancel within a level have their own weight; errors of the same sign have the larger one.
    #[test]
    fn only_systematic_errors_have_a_larger_weight() {
        let noise = |errors: [f64; 4], count: f64| {
            weighted_noise(&[0.0, 0.0, 1.0, 1.0], &errors.map(|e| (e, count)), SYSTEMATIC) / count
        };
        assert_eq!(noise([-0.5, 0.5, -0.25, 0.25], 1000.0), 0.625);
        let same_sign = noise([0.5, 0.5, -0.25, -0.25], 1000.0);
        assert!((0.99..1.0).contains(&(same_sign / (0.625 * SYSTEMATIC))), "{same_sign}");
        // One error alone does not tell whether it is systematic.
        assert_eq!(weighted_noise(&[0.0, 1.0], &[(0.5, 1.0), (-0.5, 1.0)], SYSTEMATIC), 0.5);
        assert!(weighted_noise(&[0.0], &[(f64::INFINITY, 1.0)], SYSTEMATIC).is_infinite());
    }
}

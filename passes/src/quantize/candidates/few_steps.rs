//! Nodes with values that 8 bits are too coarse for, because of what is computed from them.

use qcc_ir::ops::{BinaryFn, Op, QuantRule, ReduceFn, Unary, UnaryFn};
use qcc_ir::{Graph, NodeId, Shape, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Case, Vetoes};
use crate::calibrate::{CalibrationTable, OwnRanges, Range};
use crate::decisions::Reason;

/// The step, in standard deviations of a value, with which rounding leaves 20 dB of it.
const STEP: f32 = 0.346;

/// How much wider steps may be behind which a contraction would have to be real: those that leave 10 dB.
const STEEP: f32 = 3.0;

/// Half a step of this width changes the results of a softmax by a sixteenth.
const SOFTMAX: f32 = 1.0 / 8.0;

/// Values whose steps on 8 bits are so wide that less than 20 dB are left of a value computed from them: differences of
/// numbers that are nearly alike, logarithms of the smallest, sines of large angles, weights of a softmax beside a mask.
/// Behind a function that small numbers matter to, a contraction with a constant weight is a part of what is computed.
#[derive(Debug, Default)]
pub(in super::super) struct FewSteps {
    /// All of them.
    values: FxHashSet<ValueId>,
    /// Those that a run-time grid is too coarse for as well.
    steep: FxHashSet<ValueId>,
}

/// Contractions put what they read on a grid all the same, where that may be.
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
    /// Those of the values whose own ranges are given.
    pub(in super::super) fn of(case: &Case<'_>, own: &OwnRanges) -> Self {
        let (g, ranges) = (case.g, case.ranges);
        let reach = Reach { g, ranges };
        let (mut all, mut steep) = (Bearable::default(), Bearable::default());
        for &n in case.order.iter().rev() {
            let result = n.value(0);
            let Some(needed) = reach.needed(result) else { continue };
            let operands = g.operands(n);
            for (i, &v) in operands.iter().enumerate() {
                if !g.op(n).is_contraction() {
                    all.bound(v, reach.behind(n, &operands, i, all.of(result).min(needed)));
                }
                let step = match steep.of(result) {
                    step if reach.is_steep(n, i) => step.min(needed * STEEP),
                    step => step,
                };
                if step.is_finite() {
                    steep.bound(v, reach.behind(n, &operands, i, step));
                }
            }
        }
        let coarse = |bearable: &Bearable| {
            own.iter().filter(|&(&v, &range)| step(range) > bearable.of(v)).map(|(&v, _)| v).collect::<FxHashSet<_>>()
        };
        let steep = coarse(&steep);
        FewSteps { values: &coarse(&all) | &steep, steep }
    }

    /// True where a result of a node is one of them.
    pub(super) fn result(&self, g: &Graph, n: NodeId) -> bool {
        g.results(n).any(|v| self.values.contains(&v))
    }
}

/// The widest steps of values that what is computed from them can bear.
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

/// The step of a grid of 8 bits.
fn step(range: Range) -> f32 {
    range.span() / 255.0
}

struct Reach<'a> {
    g: &'a Graph,
    ranges: &'a CalibrationTable,
}

impl Reach<'_> {
    /// The widest step of a value that leaves enough of it; `None` where it never changes.
    fn needed(&self, v: ValueId) -> Option<f32> {
        let (_, deviation) = self.ranges.get(v)?.moments();
        (deviation > 0.0).then_some(deviation as f32 * STEP)
    }

    /// True where an error of operand `i` matters more the smaller the number, or by a phase.
    fn is_steep(&self, n: NodeId, i: usize) -> bool {
        use UnaryFn::{Cos, Log, Reciprocal, Rsqrt, Sin, Sqrt, Tan};
        match self.g.op(n) {
            Op::Unary(u) => matches!(u.f, Log | Reciprocal | Rsqrt | Sqrt | Sin | Cos | Tan),
            Op::Binary(b) => b.f == BinaryFn::Pow || b.f == BinaryFn::Div && i == 1,
            _ => false,
        }
    }

    /// The widest step of operand `i` whose errors are no more in the result than those of `step`; `None` where the result
    /// is a new value.
    fn behind(&self, n: NodeId, operands: &[ValueId], i: usize, step: f32) -> Option<f32> {
        let slope = match self.g.op(n) {
            op @ Op::Unary(_) => return self.behind_function(operands[0], op, step),
            Op::Binary(b) if b.f == BinaryFn::Div && i == 1 => {
                let reciprocal = Op::Unary(Unary { f: UnaryFn::Reciprocal });
                return self.behind_function(operands[1], &reciprocal, step / self.magnitude(operands[0])?);
            }
            Op::Binary(b) => self.binary(b.f, operands, i)?,
            _ if self.g.op(n).is_contraction() => self.contracted(n, i)?,
            Op::Softmax(s) if !s.log => self.needed(n.value(0))? / SOFTMAX,
            // Errors of many numbers cancel out in part.
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

    /// How much wider an error of operand `i` is in the result.
    fn binary(&self, f: BinaryFn, operands: &[ValueId], i: usize) -> Option<f32> {
        let other = operands[1 - i];
        match f {
            BinaryFn::Add | BinaryFn::Sub | BinaryFn::Max | BinaryFn::Min => Some(1.0),
            BinaryFn::Mul => self.magnitude(other),
            BinaryFn::Div if i == 0 => self.magnitude(other).map(f32::recip),
            _ => None,
        }
    }

    /// How much wider an error of operand `i` is in a sum of products with constants. Errors of many numbers cancel out
    /// in part.
    fn contracted(&self, n: NodeId, i: usize) -> Option<f32> {
        let w = self.g.constant(*self.g.operands(n).get(1usize.checked_sub(i)?)?)?;
        let numbers = match (self.g.op(n).quant_rule(), i) {
            (QuantRule::Contraction { channel }, 0) => w.dims()[channel],
            // The sums run along the last axis of what stands on the left.
            _ => w.len() / w.dims().last()?,
        };
        let squares: f32 = w.reals().iter().map(|x| x * x).sum();
        Some((squares / numbers.max(1) as f32).sqrt())
    }

    /// The root of the mean square of a value.
    fn magnitude(&self, v: ValueId) -> Option<f32> {
        if let Some(c) = self.g.constant(v) {
            let squares: f32 = c.reals().iter().map(|x| x * x).sum();
            return Some((squares / c.len().max(1) as f32).sqrt());
        }
        let (mean, deviation) = self.ranges.get(v)?.moments();
        Some(mean.hypot(deviation) as f32)
    }

    /// The widest step of a value whose errors are no more than those of `bearable` behind a function, over all that was
    /// seen of the value.
    fn behind_function(&self, v: ValueId, function: &Op, bearable: f32) -> Option<f32> {
        let (seen, range) = (self.ranges.get(v)?, self.ranges.range(v)?);
        let apply = |x: Vec<f32>| -> Option<Vec<f32>> {
            let x = Tensor::from_vec(Shape::known(&[x.len()]), x);
            Some(function.eval(&[&x]).ok()?[0].reals().into_owned())
        };
        let (centres, counts): (Vec<f32>, Vec<u64>) = seen.histogram.bins().unzip();
        let exact = apply(centres.clone())?;
        let behind = |step: f32| {
            let (zero, top) = ((-range.lo / step).round(), (range.span() / step).round());
            let rounded = centres.iter().map(|x| (((x / step).round() + zero).clamp(0.0, top) - zero) * step);
            let errors = apply(rounded.collect())?.into_iter().zip(&exact).zip(&counts);
            let noise: f64 = errors.map(|((r, e), n)| f64::from(r - e).powi(2) * *n as f64).sum();
            let mean = noise / counts.iter().sum::<u64>().max(1) as f64;
            // What is not finite is infinitely wide.
            Some(if mean.is_nan() { f32::INFINITY } else { (mean * 12.0).sqrt() as f32 })
        };
        let mut own = step(range);
        let mut wide = behind(own)?;
        // Near zero a function may be much steeper than where most numbers are.
        while wide > bearable && own > seen.histogram.width() {
            own /= 2.0;
            wide = behind(own)?;
        }
        // A function that is flat where the numbers are bears any step.
        Some(if wide > 0.0 { own * bearable / wide } else { f32::INFINITY })
    }
}

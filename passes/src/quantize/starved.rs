//! Values that 8 bits are too coarse for, because of what is computed from them.

use qcc_ir::ops::{BinaryFn, GridRule, Op, ReduceFn};
use qcc_ir::{Graph, NodeId, Shape, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::assign::OwnRanges;
use crate::calibrate::{Range, Ranges};

/// The step, in standard deviations of a value, with which rounding leaves 20 dB of it.
const STEP: f32 = 0.346;

/// Half a step of this width changes the results of a softmax by a sixteenth.
const SOFTMAX: f32 = 1.0 / 8.0;

/// Values whose steps on 8 bits are so wide that less than 20 dB are left of a value computed from them, with no
/// contraction between: differences of numbers that are nearly alike, logarithms of the smallest, weights of a softmax
/// beside a mask.
pub(super) fn starved(g: &Graph, order: &[NodeId], ranges: &Ranges, own: &OwnRanges) -> FxHashSet<ValueId> {
    let reach = Reach { g, ranges, own };
    let mut bearable: FxHashMap<ValueId, f32> = FxHashMap::default();
    for &n in order.iter().rev() {
        let operands = g.operands(n);
        if !operands.iter().any(|v| own.contains_key(v)) {
            continue;
        }
        let Some(needed) = reach.needed(n.value(0)) else { continue };
        let step = bearable.get(&n.value(0)).copied().unwrap_or(f32::INFINITY).min(needed);
        for (i, v) in operands.into_iter().enumerate().filter(|(_, v)| own.contains_key(v)) {
            let Some(slope) = reach.slope(n, i) else { continue };
            let step = step / slope;
            bearable.entry(v).and_modify(|s| *s = s.min(step)).or_insert(step);
        }
    }
    let coarse = |v: &ValueId| bearable.get(v).is_some_and(|&bearable| step(own[v]) > bearable);
    own.keys().copied().filter(coarse).collect()
}

/// The step of a grid of 8 bits.
fn step(range: Range) -> f32 {
    range.span() / 255.0
}

struct Reach<'a> {
    g: &'a Graph,
    ranges: &'a Ranges,
    own: &'a OwnRanges,
}

impl Reach<'_> {
    /// The widest step of a value that leaves enough of it; `None` where it never changes.
    fn needed(&self, v: ValueId) -> Option<f32> {
        let (_, deviation) = self.ranges.get(v)?.moments();
        (deviation > 0.0).then_some(deviation as f32 * STEP)
    }

    /// How much wider an error of operand `i` is in the result; `None` where the result is a new value.
    fn slope(&self, n: NodeId, i: usize) -> Option<f32> {
        let operands = self.g.operands(n);
        match self.g.op(n) {
            Op::Unary(_) => self.behind(operands[0], self.g.op(n)),
            Op::Binary(b) => self.binary(b.f, &operands, i),
            Op::Softmax(s) if !s.log => Some(self.needed(n.value(0))? / SOFTMAX),
            // Errors of many numbers cancel out in part.
            Op::Reduce(r) if matches!(r.f, ReduceFn::Mean | ReduceFn::Sum) => {
                let elements = |v| self.g.ty(v).shape.elements().map(|e| e.max(1) as f32);
                let summed = elements(operands[0])? / elements(n.value(0))?;
                Some(if r.f == ReduceFn::Mean { summed.sqrt().recip() } else { summed.sqrt() })
            }
            Op::Clamp(_) => Some(1.0),
            op if i == 0 && op.grid() == GridRule::Carry || op.grid() == GridRule::Unify => Some(1.0),
            _ => None,
        }
    }

    fn binary(&self, f: BinaryFn, operands: &[ValueId], i: usize) -> Option<f32> {
        let other = operands[1 - i];
        match f {
            BinaryFn::Add | BinaryFn::Sub | BinaryFn::Max | BinaryFn::Min => Some(1.0),
            BinaryFn::Mul => self.magnitude(other),
            BinaryFn::Div if i == 0 => self.magnitude(other).map(f32::recip),
            _ => None,
        }
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

    /// How much wider the errors of a grid of 8 bits are behind a function, over all that was seen of its operand.
    fn behind(&self, v: ValueId, function: &Op) -> Option<f32> {
        let (seen, range) = (self.ranges.get(v)?, *self.own.get(&v)?);
        let apply = |x: Vec<f32>| -> Option<Vec<f32>> {
            let x = Tensor::from_vec(Shape::known(&[x.len()]), x);
            Some(function.eval(&[&x]).ok()?[0].reals().into_owned())
        };
        let (step, zero) = (step(range), (-range.lo / step(range)).round());
        let (centres, counts): (Vec<f32>, Vec<u64>) = seen.histogram.bins().unzip();
        let rounded = centres.iter().map(|x| ((x / step).round() + zero).clamp(0.0, 255.0) - zero).map(|q| q * step);
        let (rounded, exact) = (apply(rounded.collect())?, apply(centres)?);
        let errors = rounded.iter().zip(&exact).zip(&counts);
        let noise: f64 = errors.map(|((r, e), n)| f64::from(r - e).powi(2) * *n as f64).sum();
        let mean = noise / counts.iter().sum::<u64>().max(1) as f64;
        // What is not finite is infinitely wide.
        let wide = if mean.is_nan() { f64::INFINITY } else { (mean * 12.0).sqrt() };
        Some(wide as f32 / step)
    }
}

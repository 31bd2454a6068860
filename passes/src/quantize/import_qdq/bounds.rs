//! Bounds of values, from the operators that compute them.

use qcc_ir::ops::{BinaryFn, Op, PadMode, ReduceFn, ResizeMode, UnaryFn};
use qcc_ir::{Elem, Graph, ValueId};
use rustc_hash::FxHashMap;

/// The lower and the upper bound of each value that was requested.
#[derive(Debug, Default)]
pub(super) struct Bounds(FxHashMap<ValueId, (f32, f32)>);

const ANY: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

/// The maximum depth of the search.
const DEEPEST: usize = 64;

impl Bounds {
    /// The bounds of `v`, infinite if they are not known.
    pub(super) fn of(&mut self, g: &Graph, v: ValueId) -> (f32, f32) {
        self.within(g, v, DEEPEST)
    }

    fn within(&mut self, g: &Graph, v: ValueId, depth: usize) -> (f32, f32) {
        if let Some(&known) = self.0.get(&v) {
            return known;
        }
        let Some(depth) = depth.checked_sub(1) else { return ANY };
        let bounds = self.computed(g, v, depth);
        self.0.insert(v, bounds);
        bounds
    }

    fn computed(&mut self, g: &Graph, v: ValueId, depth: usize) -> (f32, f32) {
        if let Some(c) = g.constant(v) {
            let reals = c.floats();
            return reals.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &x| (lo.min(x), hi.max(x)));
        }
        if let Some(qparams) = g.ty(v).elem.qparams() {
            let ends = <[i32; 2]>::from(qparams.storage.range())
                .map(|q| (i64::from(q) - i64::from(qparams.zero_point())) as f32);
            let reals = ends.into_iter().flat_map(|q| qparams.scales().iter().map(move |s| q * s));
            return reals.fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
        }
        let operands = g.operands(v.node);
        let operand = |b: &mut Self, i: usize| b.within(g, operands[i], depth);
        match g.producer(v) {
            Op::Dequantize(_) | Op::Quantize(_) | Op::DynamicQuantize(_) => operand(self, 0),
            Op::Clamp(c) => {
                let (lo, hi) = operand(self, 0);
                (lo.max(c.lo).min(c.hi), hi.min(c.hi).max(c.lo))
            }
            Op::Unary(u) => match u.f {
                UnaryFn::Sigmoid | UnaryFn::HardSigmoid { .. } => (0.0, 1.0),
                UnaryFn::Tanh | UnaryFn::Erf | UnaryFn::Sin | UnaryFn::Cos | UnaryFn::Softsign => (-1.0, 1.0),
                UnaryFn::Exp | UnaryFn::Sqrt | UnaryFn::Abs | UnaryFn::Softplus => (0.0, f32::INFINITY),
                _ => ANY,
            },
            Op::Softmax(s) => {
                if s.log {
                    (f32::NEG_INFINITY, 0.0)
                } else {
                    (0.0, 1.0)
                }
            }
            Op::Binary(b) => {
                let (x, y) = (operand(self, 0), operand(self, 1));
                match b.f {
                    BinaryFn::Add => (x.0 + y.0, x.1 + y.1),
                    BinaryFn::Sub => (x.0 - y.1, x.1 - y.0),
                    BinaryFn::Max => (x.0.max(y.0), x.1.max(y.1)),
                    BinaryFn::Min => (x.0.min(y.0), x.1.min(y.1)),
                    _ => ANY,
                }
            }
            Op::Reduce(r) if matches!(r.f, ReduceFn::Mean | ReduceFn::Max | ReduceFn::Min) => operand(self, 0),
            Op::Pool(_) => operand(self, 0),
            Op::Resize(r) if !matches!(r.mode, ResizeMode::Cubic { .. }) => operand(self, 0),
            Op::Pad(p) => match (operand(self, 0), p.mode) {
                ((lo, hi), PadMode::Constant(x)) => (lo.min(x), hi.max(x)),
                (inside, _) => inside,
            },
            op if op.carries_integers() => {
                let real: Vec<usize> =
                    (0..operands.len()).filter(|&i| g.ty(operands[i]).elem.real() == Elem::F32).collect();
                let all = real.into_iter().map(|i| operand(self, i)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
                all.unwrap_or(ANY)
            }
            _ => ANY,
        }
    }
}

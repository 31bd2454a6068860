//! Sign analysis.

use qcc_ir::ops::{Binary, BinaryFn, Cast, Clamp, Op, Pad, PadMode, ScatterFn, Softmax, Unary, UnaryFn};
use qcc_ir::{Elem, Graph, ValueId};
use rustc_hash::FxHashMap;

/// The maximum depth of the analysis.
const DEEPEST: usize = 32;

/// True if no element can be negative, provided that integers do not overflow.
pub(super) fn is_nonnegative(g: &Graph, v: ValueId) -> bool {
    Signs { g, known: FxHashMap::default() }.nonnegative(v, DEEPEST)
}

struct Signs<'g> {
    g: &'g Graph,
    known: FxHashMap<ValueId, bool>,
}

impl Signs<'_> {
    fn nonnegative(&mut self, v: ValueId, depth: usize) -> bool {
        if let Some(&known) = self.known.get(&v) {
            return known;
        }
        let found = matches!(self.g.ty(v).elem, Elem::Bool | Elem::U8) || (depth > 0 && self.follows(v, depth - 1));
        self.known.insert(v, found);
        found
    }

    fn follows(&mut self, v: ValueId, depth: usize) -> bool {
        let (g, operands) = (self.g, self.g.operands(v.node));
        let mut is = |i: usize| operands.get(i).is_some_and(|&o| self.nonnegative(o, depth));
        match g.producer(v) {
            Op::Const(c) => c.value.ty().elem.qparams().is_none() && c.value.floats().iter().all(|&e| e >= 0.0),
            Op::ArgReduce(_) | Op::NonZero(_) | Op::NonMaxSuppression(_) => true,
            Op::TopK(_) => v.port == 1 || is(0),
            Op::Clamp(Clamp { lo, .. }) => *lo >= 0.0,
            Op::Softmax(Softmax { log, .. }) => !log,
            Op::Unary(Unary { f }) => {
                use UnaryFn::*;
                matches!(f, Sigmoid | Abs | Exp | Sqrt | HardSigmoid { .. })
            }
            Op::Binary(Binary { f }) => {
                use BinaryFn::*;
                match f {
                    Add | Mul | Div | FloorDiv | Min | Pow | Or | Xor => is(0) && is(1),
                    Max => is(0) || is(1),
                    Rem | Prelu => is(0),
                    FloorMod => is(1),
                    _ => false,
                }
            }
            // Truncation may set the sign bit.
            Op::Cast(Cast { to }) => !matches!(to, Elem::I8 | Elem::I16) && is(0),
            Op::Pad(Pad { mode, .. }) => is(0) && !matches!(mode, PadMode::Constant(c) if *c < 0.0),
            Op::Select(_) => is(1) && is(2),
            Op::ScatterNd(s) => s.f == ScatterFn::Max && is(0) || is(0) && is(2),
            Op::Concat(_) => (0..operands.len()).all(is),
            Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Expand(_) | Op::Tile(_) | Op::Reverse(_) => is(0),
            Op::DepthToSpace(_) | Op::SpaceToDepth(_) | Op::Relayout(_) => is(0),
            Op::Gather(_) | Op::GatherElements(_) | Op::GatherNd(_) => is(0),
            Op::Pool(_) | Op::Reduce(_) | Op::CumSum(_) => is(0),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use qcc_ir::text::{Weights, parse};

    use super::*;

    #[test]
    fn signs_are_derived() {
        let text = "graph g { %x: f32[2,3] = input %n: i64[4] = input %b: u8[4] = input
            %k: i64[] = const [8] %m: i64[] = const [-1]
            %top, %places = top_k(k:2,axis:1,largest:true) %x
            %p = reshape[4] %places
            %row = binary(f:Div) %p, %k %turn = binary(f:FloorMod) %n, %k %all = concat(axis:0) %row, %turn
            %wide = cast\"i64\" %b %sum = binary(f:Add) %p, %wide
            %less = binary(f:Add) %p, %m %rest = binary(f:Rem) %n, %k %one = binary(f:FloorMod) %n, %m
            %narrow = cast\"i8\" %p %some = concat(axis:0) %row, %n
            %log = softmax(axis:1,log:true) %x
            output all = %all output sum = %sum output less = %less output rest = %rest output one = %one
            output narrow = %narrow output some = %some output top = %top output log = %log }";
        let g = parse(text, &Weights::new()).unwrap();
        let known: Vec<&str> = g.outputs().iter().filter(|o| is_nonnegative(&g, o.value)).map(|o| &*o.name).collect();
        assert_eq!(known, ["all", "sum"]);
    }

    #[test]
    fn long_and_wide_graphs_terminate() {
        let mut g = Graph::new("chain");
        let mut v = g.add_input("x", qcc_ir::TensorType::f32(&[1, 1]));
        for _ in 0..200 {
            v = g.add1(qcc_ir::ops::Binary { f: BinaryFn::Add }, &[v, v], qcc_ir::Origin::none()).unwrap();
        }
        assert!(!is_nonnegative(&g, v));
    }
}

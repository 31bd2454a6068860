//! Ranges that other tools have chosen.

use std::sync::Arc;

use qcc_ir::eval::opaque;
use qcc_ir::ops::{Clamp, Op, QuantRule};
use qcc_ir::{Elem, Graph, NodeId, ValueId};
use rustc_hash::FxHashMap;

use super::{CalibrationTable, Range, Stats};

impl CalibrationTable {
    /// Replaces the ranges of values. Values that were not calibrated get the statistics of a value in its range, whose
    /// distribution is not known.
    pub fn impose(&mut self, given: &FxHashMap<ValueId, Range>) {
        self.method = None;
        if self.samples == 0 {
            let stats = given.iter().map(|(&v, range)| (v, Stats::within(range.lo, range.hi)));
            self.stats = Arc::new(stats.collect());
            self.places = given.keys().map(|&v| (v, v)).collect();
        }
        let known = given.iter().filter(|(v, _)| self.places.contains_key(v)).map(|(&v, range)| (v, range.with_zero()));
        self.ranges.extend(known);
    }
}

/// The ranges of the values of a graph that `named` knows by name. A value that only a clamp uses has the range behind the
/// clamp: both have the same quantization parameters, and what the clamp cuts off is lost anyway.
pub fn ranges_by_name(g: &Graph, named: &dyn Fn(&str) -> Option<Range>) -> FxHashMap<ValueId, Range> {
    let range = |v: ValueId| {
        let range = g.name(v).and_then(|name| named(name)).or_else(|| named(g.output_name(v)?))?;
        Some(match g.producer(v) {
            // Tools with symmetric ranges do not know that a value has one sign only.
            Op::Clamp(c) => clamped(range, c),
            _ => range,
        })
    };
    let order = g.order();
    let values = order.iter().flat_map(|&n| g.results(n)).filter(|&v| is_float(g, v));
    let mut known: FxHashMap<ValueId, Range> = values.filter_map(|v| Some((v, range(v)?))).collect();
    for &n in order.iter().rev() {
        let Op::Clamp(c) = g.op(n) else { continue };
        let operand = g.operand(n, 0);
        let behind = known.get(&n.value(0)).copied().or_else(|| Some(clamped(*known.get(&operand)?, c)));
        if let Some(range) = behind.filter(|_| is_float(g, operand) && g.only_user(operand) == Some(n)) {
            known.insert(operand, range);
        }
    }
    known
}

/// The range of the clamped numbers of a range.
fn clamped(range: Range, c: &Clamp) -> Range {
    Range { lo: range.lo.max(c.lo).min(c.hi), hi: range.hi.max(c.lo).min(c.hi) }
}

/// The ranges that follow from others: of results that have the quantization parameters of an operand, of clamped
/// values, and of functions with a known range.
pub fn implied_ranges(g: &Graph, mut known: FxHashMap<ValueId, Range>) -> FxHashMap<ValueId, Range> {
    let order = g.order();
    // Ranges pass from operands to results, from results to operands, and again to results of these.
    for &n in &order {
        forwards(g, n, &mut known);
    }
    for &n in order.iter().rev() {
        backwards(g, n, &mut known);
    }
    for &n in &order {
        forwards(g, n, &mut known);
    }
    known
}

/// The values that quantization needs ranges of and that have none, in order.
pub fn without_range(g: &Graph, known: &FxHashMap<ValueId, Range>) -> Vec<ValueId> {
    let opaque = opaque(g);
    let order = g.order();
    let concerned = |n: &NodeId| g.op(*n).quant_rule() != QuantRule::Float && !opaque.contains_key(n);
    let mut missing = Vec::new();
    for n in order.into_iter().filter(concerned) {
        missing.extend(
            g.operands(n).into_iter().chain(g.results(n)).filter(|&v| is_float(g, v) && !known.contains_key(&v)),
        );
    }
    let mut seen = rustc_hash::FxHashSet::default();
    missing.retain(|&v| seen.insert(v));
    missing
}

fn is_float(g: &Graph, v: ValueId) -> bool {
    g.ty(v).elem == Elem::F32 && g.constant(v).is_none()
}

fn forwards(g: &Graph, n: NodeId, known: &mut FxHashMap<ValueId, Range>) {
    let operand = || known.get(g.operands(n).first()?).copied();
    let range = match (g.op(n), g.op(n).quant_rule()) {
        (Op::Clamp(c), _) => operand().map(|range| clamped(range, c)),
        (_, QuantRule::SameAsInput) => operand(),
        (_, QuantRule::Fixed { lo, hi }) => Some(Range { lo, hi }),
        (_, QuantRule::SharedScale) => {
            let all: Option<Vec<Range>> = g.operands(n).iter().map(|v| known.get(v).copied()).collect();
            all.and_then(|all| all.into_iter().reduce(Range::union))
        }
        _ => None,
    };
    for v in g.results(n).filter(|&v| is_float(g, v)) {
        if let Some(range) = range {
            known.entry(v).or_insert(range);
        }
    }
}

fn backwards(g: &Graph, n: NodeId, known: &mut FxHashMap<ValueId, Range>) {
    let rule = g.op(n).quant_rule();
    let Some(&range) = known.get(&n.value(0)) else { return };
    for v in g.operands(n).into_iter().filter(|&v| is_float(g, v)) {
        // What a clamp cuts off is lost if nothing else uses the value.
        let cut = matches!(g.op(n), Op::Clamp(_)) && g.only_user(v) == Some(n);
        if cut || matches!(rule, QuantRule::SameAsInput | QuantRule::SharedScale) && !matches!(g.op(n), Op::Clamp(_)) {
            known.entry(v).or_insert(range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qcc_ir::text::{Weights, parse};

    #[test]
    fn ranges_follow_from_others() -> Result<(), Box<dyn std::error::Error>> {
        let text = "graph g {
            %x: f32[1,4] = input
            %w: f32[4,4] = const [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]
            %c = matmul(transpose_b:false) %x, %w
            %r = clamp(lo:0,hi:6) %c
            %t = transpose(perm:[1,0]) %r
            %s = unary(f:Sigmoid) %t
            %e = unary(f:Exp) %t
            output s = %s
            output e = %e
        }";
        let mut g = parse(text, &Weights::new())?;
        let at = |g: &Graph, i: usize| g.operands(g.outputs()[i].value.node)[0];
        let t = at(&g, 0);
        let r = g.operands(t.node)[0];
        let c = g.operands(r.node)[0];
        g.set_name(t, "t");
        g.set_name(r, "r");
        let known = ranges_by_name(&g, &|name| (name == "t").then_some(Range { lo: 0.0, hi: 2.5 }));
        let cut = ranges_by_name(&g, &|name| (name == "r").then_some(Range { lo: -2.5, hi: 2.5 }));
        assert_eq!((cut.get(&r), cut.get(&c)), (Some(&Range { lo: 0.0, hi: 2.5 }), Some(&Range { lo: 0.0, hi: 2.5 })));
        g.set_name(c, "c");
        let both = |name: &str| Some(Range { lo: if name == "c" { -9.0 } else { 0.0 }, hi: 3.0 });
        assert_eq!(ranges_by_name(&g, &both).get(&c), Some(&Range { lo: 0.0, hi: 3.0 }));
        let before = ranges_by_name(&g, &|name| (name == "c").then_some(Range { lo: -9.0, hi: 9.0 }));
        assert_eq!((before.get(&c), before.get(&r)), (Some(&Range { lo: 0.0, hi: 6.0 }), None));
        let known = implied_ranges(&g, known);
        let of = |v: ValueId| known.get(&v).map(|range| (range.lo, range.hi));
        assert_eq!((of(t), of(r), of(c)), (Some((0.0, 2.5)), Some((0.0, 2.5)), Some((0.0, 2.5))));
        assert_eq!(of(g.outputs()[0].value), Some((0.0, 1.0)));
        let missing = without_range(&g, &known);
        assert_eq!(missing, [g.operands(c.node)[0], g.outputs()[1].value]);
        let mut table = CalibrationTable::default();
        table.impose(&known);
        assert_eq!(table.range(c), Some(Range { lo: 0.0, hi: 2.5 }));
        assert_eq!(table.get(c).map(|s| (s.min, s.max, s.moments())), Some((0.0, 2.5, (0.0, 0.0))));
        assert!(table.get(missing[0]).is_none());
        Ok(())
    }
}

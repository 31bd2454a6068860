//! Peak memory of values, as planned by [`qcc_backends::plan`].

use std::collections::HashMap;

use qcc_backends::plan::{Buffer, MOST_PLANNED, planned};
use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, ValueId};

/// Peak memory of the values of a graph, in bytes. For more than [`MOST_PLANNED`] buffers it is the peak of the bytes that
/// are live at the same time, a lower bound.
pub(super) fn peak(g: &Graph, target: &Target) -> u64 {
    let buffers = buffers(g, target);
    if buffers.len() > MOST_PLANNED { held(&buffers) } else { planned(buffers) }
}

/// The operand whose buffer also holds the result of a node: activation functions that the producer's kernel fuses, and
/// `DynamicQuantize`, which is a part of the next kernel.
pub(super) fn shared(g: &Graph, n: NodeId, target: &Target) -> Option<ValueId> {
    match g.op(n) {
        Op::DynamicQuantize(_) => g.operands(n).first().copied(),
        _ => target.fused(g, n),
    }
}

/// Bytes of a kernel's scratch buffer: quantized transposed convolutions keep a 32-bit accumulator for each element of
/// the result. Graphs inside a node have buffers of their own.
fn scratch(g: &Graph, n: NodeId, target: &Target) -> Option<u64> {
    if !g.op(n).bodies().is_empty() {
        return Some(g.op(n).graphs().map(|body| peak(body, target)).sum());
    }
    let sums = matches!(g.op(n), Op::ConvTranspose(_)) && g.operand_types(n)[0].elem.qparams().is_some();
    let elements = g.ty(n.value(0)).shape.elements()?;
    sums.then_some(elements as u64 * 4)
}

/// The buffers of a graph's values except constants. Inputs are live from the first step, outputs until the last.
fn buffers(g: &Graph, target: &Target) -> Vec<Buffer> {
    let order = g.order();
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut place: HashMap<ValueId, usize> = HashMap::new();
    let hold = |v: ValueId, first: usize, place: &mut HashMap<ValueId, usize>, buffers: &mut Vec<Buffer>| {
        place.insert(v, buffers.len());
        buffers.push(Buffer { bytes: g.ty(v).bytes().unwrap_or(0) as u64, first, last: first });
    };
    g.inputs().for_each(|v| hold(v, 0, &mut place, &mut buffers));
    for (step, &n) in order.iter().enumerate() {
        if matches!(g.op(n), Op::Input(_) | Op::Const(_)) {
            continue;
        }
        for v in g.operands(n) {
            if let Some(&b) = place.get(&v) {
                buffers[b].last = step;
            }
        }
        if let Some(bytes) = scratch(g, n, target) {
            buffers.push(Buffer { bytes, first: step, last: step });
        }
        match shared(g, n, target).and_then(|v| place.get(&v).copied()) {
            Some(b) => _ = place.insert(n.value(0), b),
            None => g.results(n).for_each(|v| hold(v, step, &mut place, &mut buffers)),
        }
    }
    for output in g.outputs() {
        if let Some(&b) = place.get(&output.value) {
            buffers[b].last = order.len();
        }
    }
    buffers
}

/// The maximum of the bytes that are live at the same time.
fn held(buffers: &[Buffer]) -> u64 {
    let end = buffers.iter().map(|b| b.last).max().unwrap_or(0);
    let mut change = vec![(0, 0); end + 2];
    for b in buffers {
        change[b.first].0 += b.bytes;
        change[b.last + 1].1 += b.bytes;
    }
    let mut now = 0;
    let at_each_step = change.into_iter().map(|(taken, freed)| {
        now = now + taken - freed;
        now
    });
    at_each_step.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qcc_backends::Format;
    use qcc_ir::text::{Weights, parse};

    use super::*;

    proptest! {
        #[test]
        fn a_plan_is_no_shorter_than_what_is_held(all in prop::collection::vec((0u64..50, 0usize..30, 0usize..8), 0..40)) {
            let all: Vec<Buffer> =
                all.into_iter().map(|(n, first, steps)| Buffer { bytes: 16 * n, first, last: first + steps }).collect();
            let (plan, least) = (planned(all.clone()), held(&all));
            prop_assert!(plan >= least && plan <= all.iter().map(|b| b.bytes).sum(), "{} {} {:?}", plan, least, all);
        }
    }

    #[test]
    fn values_live_from_their_node_to_their_last_reader() {
        let g = "graph g {
            %x: f32[4] = input
            %a = unary(f:Neg) %x
            %b = unary(f:Neg) %a
            %c = binary(f:Add) %a, %b
            output c = %c
            output a = %a
        }";
        let g = parse(g, &Weights::new()).unwrap();
        let first = g.order().iter().position(|&n| matches!(g.op(n), Op::Unary(_))).unwrap();
        let lives: Vec<(usize, usize)> =
            buffers(&g, Format::Tflite.target()).iter().map(|b| (b.first, b.last)).collect();
        let end = g.order().len();
        assert_eq!(lives, [(0, first), (first, end), (first + 1, first + 2), (first + 2, end)]);
        assert_eq!(peak(&g, Format::Tflite.target()), 3 * 16);
    }
}

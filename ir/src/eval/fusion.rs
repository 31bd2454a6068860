//! Which operators are computed with products: functions of results, and padding of images; which constant matrices are
//! kept as products read them; and which functions of one value are computed together.

use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use crate::graph::{Graph, NodeId, ValueId};
use crate::kernels::gemm::Packed;
use crate::kernels::then::Then;
use crate::ops::{BinaryFn, Op, PadMode, UnaryFn};
use crate::types::{Elem, TensorType};

/// The most bytes of matrices that are kept for products besides the constants.
const MOST_PACKED: usize = 32 << 20;

/// Products that are evaluated together with the operators around them.
#[derive(Debug, Default)]
pub(super) struct Fusion {
    /// How the products are evaluated.
    pub(super) products: FxHashMap<NodeId, Fused>,
    /// The nodes that are evaluated with another one.
    pub(super) inside: FxHashSet<NodeId>,
    /// SiLUs that are evaluated with the sigmoid of the same operand, in either order.
    pub(super) gates: FxHashMap<NodeId, NodeId>,
    /// Bytes of the matrices that are kept.
    pub(super) packed: usize,
}

/// How a product of numbers in `F32` is evaluated.
#[derive(Debug, Default)]
pub(super) struct Fused {
    /// The convolution whose padding includes that of its operand, and what the operand is before.
    pub(super) padded: Option<(Op, ValueId)>,
    /// The function that follows, and the node whose result that is.
    pub(super) then: Option<(Then, NodeId)>,
    /// The second operand, if it is a constant matrix.
    pub(super) packed: Option<Packed>,
}

impl Fusion {
    /// The products in `order`, whose own results and operands are not among the observed values.
    pub(super) fn new(graph: &Graph, order: &[NodeId], observed: &FxHashSet<ValueId>) -> Self {
        let mut fusion = Fusion::default();
        let hidden = |v: ValueId| plain(graph.ty(v)) && !graph.is_output(v) && !observed.contains(&v);
        for &n in order.iter().filter(|&&n| matches!(graph.op(n), Op::Conv(_) | Op::MatMul(_))) {
            if !plain(graph.ty(n.value(0))) || !graph.operand_types(n).into_iter().all(plain) {
                continue;
            }
            let mut fused = Fused { padded: padded(graph, n, hidden), ..Fused::default() };
            fusion.inside.extend(fused.padded.is_some().then(|| graph.operands(n)[0].node));
            if hidden(n.value(0))
                && let Some((then, nodes)) = following(graph, n.value(0), hidden)
            {
                fused.then = nodes.last().map(|&last| (then, last));
                fusion.inside.extend(nodes);
            }
            if let Some(bytes) = matrix(graph, n).filter(|bytes| fusion.packed + bytes <= MOST_PACKED) {
                fused.packed = Some(Packed::default());
                fusion.packed += bytes;
            }
            if fused.padded.is_some() || fused.then.is_some() || fused.packed.is_some() {
                fusion.products.insert(n, fused);
            }
        }
        fusion.pair(graph, order);
        fusion
    }

    /// Finds SiLUs and sigmoids of the same value, both of which compute its exponential.
    fn pair(&mut self, graph: &Graph, order: &[NodeId]) {
        let mut first: FxHashMap<ValueId, NodeId> = FxHashMap::default();
        for &n in order {
            if self.inside.contains(&n)
                || !is_gate(graph.op(n))
                || !plain(graph.ty(n.value(0)))
                || !plain(graph.operand_types(n)[0])
            {
                continue;
            }
            match first.entry(graph.operands(n)[0]) {
                Entry::Vacant(entry) => _ = entry.insert(n),
                Entry::Occupied(entry) if graph.op(*entry.get()) != graph.op(n) => {
                    self.gates.insert(*entry.get(), n);
                    self.inside.insert(n);
                    entry.remove();
                }
                Entry::Occupied(_) => {}
            }
        }
    }

    /// What a node reads, where what it is evaluated with is not read.
    pub(super) fn operands(&self, graph: &Graph, n: NodeId) -> SmallVec<[ValueId; 4]> {
        let mut operands: SmallVec<[ValueId; 4]> = graph.operands(n).iter().copied().collect();
        if let Some((_, before)) = self.products.get(&n).and_then(|fused| fused.padded.as_ref()) {
            operands[0] = *before;
        }
        operands
    }
}

fn is_gate(op: &Op) -> bool {
    matches!(op, Op::Unary(op) if matches!(op.f, UnaryFn::Sigmoid | UnaryFn::Silu))
}

fn plain(ty: &TensorType) -> bool {
    ty.elem == Elem::F32 && ty.layout.is_row_major()
}

/// A convolution with the zeros that are added around its operand.
fn padded(graph: &Graph, n: NodeId, hidden: impl Fn(ValueId) -> bool) -> Option<(Op, ValueId)> {
    let (Op::Conv(conv), image) = (graph.op(n), graph.operands(n)[0]) else { return None };
    let Op::Pad(pad) = graph.op(image.node) else { return None };
    let before = graph.operands(image.node)[0];
    let zeros = matches!(pad.mode, PadMode::Constant(value) if value.to_bits() == 0);
    let alone = hidden(image) && graph.readers(image).len() == 1 && plain(graph.ty(before));
    if !zeros || !alone || pad.before[..2] != [0, 0] || pad.after[..2] != [0, 0] {
        return None;
    }
    let sum = |own: &[usize], more: &[usize]| own.iter().zip(&more[2..]).map(|(a, b)| a + b).collect();
    let mut conv = conv.clone();
    (conv.before, conv.after) = (sum(&conv.before, &pad.before), sum(&conv.after, &pad.after));
    Some((conv.into(), before))
}

/// The bytes of the second operand of a product, if it is a constant matrix.
fn matrix(graph: &Graph, n: NodeId) -> Option<usize> {
    let (Op::MatMul(_), right) = (graph.op(n), graph.operands(n)[1]) else { return None };
    let constant = graph.constant(right)?;
    (constant.ty().rank() == 2).then(|| constant.data().len())
}

/// The function that all users of a value compute, and its nodes: an operator, or one whose result the value is
/// multiplied with. The last one has the result.
fn following(graph: &Graph, v: ValueId, hidden: impl Fn(ValueId) -> bool) -> Option<(Then, Vec<NodeId>)> {
    let row_major = |n: NodeId| graph.ty(n.value(0)) == graph.ty(v);
    if let Some(user) = graph.only_user(v) {
        return Some((Then::of(graph.op(user))?, vec![user])).filter(|_| row_major(user));
    }
    let users = graph.readers(v);
    if users.len() != 2 {
        return None;
    }
    let users: Vec<NodeId> = users.map(|(n, _)| n).collect();
    [[users[0], users[1]], [users[1], users[0]]].into_iter().find_map(|[factor, product]| {
        let Then::Unary(f) = Then::of(graph.op(factor))? else { return None };
        let multiplies = matches!(graph.op(product), Op::Binary(b) if b.f == BinaryFn::Mul);
        let alone = hidden(factor.value(0)) && graph.only_user(factor.value(0)) == Some(product);
        (multiplies && alone && row_major(product)).then(|| (Then::Gate(f), vec![factor, product]))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Executor;
    use super::*;
    use crate::testing::numbers;
    use crate::text::{Weights, parse};
    use crate::types::Shape;

    /// A pointwise convolution, a depthwise one, one with a window and padding before it, and products, the last one with a
    /// constant, each with another function behind it. The first one's result has two users, and that of the fourth is an
    /// output.
    fn graph() -> Graph {
        let numbers: Vec<String> = (0..36).map(|i| format!("{}.25", i * 7 % 11 - 5)).collect();
        let conv = |groups: usize, pad: usize| {
            format!("conv(stride:[1,1],before:[{pad},{pad}],after:[{pad},{pad}],dilation:[1,1],groups:{groups})")
        };
        let (pointwise, depthwise, windowed) = (conv(1, 0), conv(4, 1), conv(1, 0));
        let text = format!(
            "graph g {{ %x: f32[1,3,7,40] = input %w: f32[4,3,1,1] = input %k: f32[4,1,3,3] = input
             %v: f32[5,4,3,3] = input %m: f32[40,6] = input %n: f32[6,6] = const [{}]
             %a = {pointwise} %x, %w %s = unary(f:Sigmoid) %a %b = binary(f:Mul) %a, %s
             %c = {depthwise} %b, %k %d = unary(f:HardSwish) %c
             %p = pad(before:[0,0,1,1],after:[0,0,1,1],mode:Constant(0.0)) %d
             %e = {windowed} %p, %v %f = clamp(lo:-0.5,hi:0.75) %e
             %g = matmul(transpose_b:false) %f, %m %h = unary(f:Tanh) %g
             %i = matmul(transpose_b:false) %h, %n %t = unary(f:Softplus) %i %j = binary(f:Mul) %t, %i
             output g = %g output j = %j }}",
            numbers.join(",")
        );
        parse(&text, &Weights::new()).unwrap()
    }

    #[test]
    fn fused_operators_compute_the_same_bits() {
        let g = graph();
        let shapes = g.inputs().map(|v| Shape::known(&g.ty(v).shape.extents().unwrap()));
        let inputs: Vec<_> = shapes.zip(1..).map(|(shape, seed)| numbers(shape, seed)).collect();
        let run = |executor: &Executor<'_>| {
            let mut seen = Vec::new();
            let outputs = executor.run(&inputs, &mut |v, t| seen.push((v, t.clone()))).unwrap();
            (outputs, seen)
        };
        let (expected, all) = run(&Executor::new(&g));
        let (found, some) = run(&Executor::only(&g, &[]));
        assert_eq!(found, expected);
        // Inputs; b, d, f, g, h and j.
        assert_eq!((all.len(), some.len()), (5 + 13, 5 + 6));
        assert!(some.iter().all(|value| all.contains(value)));
        // A value that is observed is not hidden: the padded image, and the result of the window.
        for observed in [all[5 + 5].0, all[5 + 6].0] {
            let (found, some) = run(&Executor::only(&g, &[observed]));
            assert_eq!(found, expected);
            assert!(some.len() == 5 + 7 && some.iter().any(|(v, _)| *v == observed));
        }
    }

    /// In either order. Another SiLU of the value is computed alone.
    #[test]
    fn gates_of_a_value_compute_the_same_bits() {
        let (silu, sigmoid) = ("%y = unary(f:Silu) %x", "%s = unary(f:Sigmoid) %x");
        for body in [format!("{silu} {sigmoid}"), format!("{sigmoid} {silu}")] {
            let text = format!(
                "graph g {{ %x: f32[3,37] = input {body} %t = unary(f:Silu) %x %z = binary(f:Add) %s, %t
                 output y = %y output z = %z }}"
            );
            let g = parse(&text, &Weights::new()).unwrap();
            let x = numbers(Shape::known(&[3, 37]), 1);
            let run = |executor: &Executor<'_>| {
                let mut seen = Vec::new();
                let outputs = executor.run(std::slice::from_ref(&x), &mut |v, t| seen.push((v, t.clone()))).unwrap();
                seen.sort_by_key(|(v, _)| *v);
                (outputs, seen)
            };
            let together = Executor::only(&g, &[]);
            assert_eq!(together.steps.iter().filter(|step| step.gate.is_some()).count(), 1);
            assert_eq!(run(&together), run(&Executor::new(&g)));
            assert_eq!(together.peak().map(|peak| peak.bytes > 0), Some(true));
        }
    }
}

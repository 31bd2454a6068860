//! Scales of the channels of an activation that may move from what computes it to the products that read it.
//!
//! A product of `x / s` and a weight whose input channels are multiplied by `s` is that of `x` and the weight, for any
//! positive scales `s`. The division is part of a weight, a bias or another constant where the nodes in between commute with
//! it, such as a Relu.

use qcc_ir::error::TypeError;
use qcc_ir::ops::{Binary, BinaryFn, Clamp, Op, QuantRule, UnaryFn};
use qcc_ir::{Dim, Elem, Graph, NodeId, Shape, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::axes::{is_depthwise, output_axis, summed_axis, weight_axis};

/// A float graph with scaled channels. Node ids are those of the float graph, but of nodes whose results are divided by scales.
#[derive(Debug)]
pub struct Scaled {
    /// The graph.
    pub graph: Graph,
    /// The nodes of the float graph that are not in this graph, each with the one that computes the same divided by scales.
    pub replaced: FxHashMap<NodeId, NodeId>,
    /// The results of these nodes of the float graph, each with the quantized value that is divided by scales.
    pub values: Vec<(ValueId, ValueId)>,
}

impl Scaled {
    /// The node that computes what `n` of the float graph computes, perhaps divided by scales.
    pub(crate) fn node(&self, n: NodeId) -> NodeId {
        self.replaced.get(&n).copied().unwrap_or(n)
    }
}

/// An activation whose channels may be scaled.
#[derive(Clone, Debug)]
pub(crate) struct Scalable {
    /// The activation.
    pub(crate) value: ValueId,
    /// The axis of its channels.
    pub(crate) axis: usize,
    /// The number of channels.
    pub(crate) channels: usize,
    /// All products with constant weights that read it.
    pub(crate) products: Vec<NodeId>,
    /// The nodes that compute the scaled activation, from the activation back to the one with the constant that takes the
    /// scales.
    steps: Vec<NodeId>,
    /// Other nodes read what the steps compute.
    shared: bool,
}

impl Scalable {
    /// All of a graph, in order.
    pub(crate) fn all(g: &Graph) -> Vec<Scalable> {
        let mut products: FxHashMap<(ValueId, usize), Vec<NodeId>> = FxHashMap::default();
        let order = g.order();
        for &n in order.iter().filter(|&&n| takes_scales(g, n)) {
            products.entry((g.operand(n, 0), summed_axis(g, n))).or_default().push(n);
        }
        let values = order.iter().flat_map(|&n| g.results(n));
        let axes = values.flat_map(|v| (0..g.ty(v).rank()).map(move |axis| (v, axis)));
        axes.filter_map(|(v, axis)| Scalable::of(g, v, axis, products.remove(&(v, axis))?)).collect()
    }

    fn of(g: &Graph, value: ValueId, axis: usize, products: Vec<NodeId>) -> Option<Self> {
        let channels = g.ty(value).shape.dims()[axis].known().filter(|&n| n > 1)?;
        let readers: FxHashSet<NodeId> = products.iter().copied().collect();
        let none_else = |v: ValueId, by: &dyn Fn(NodeId) -> bool| !g.is_output(v) && g.users(v).iter().all(|u| by(u.0));
        let mut alone = none_else(value, &|n| readers.contains(&n));
        let (mut steps, mut v) = (vec![value.node], value);
        loop {
            let n = v.node;
            match step(g, v, axis)? {
                Step::Takes { cheap } if alone || cheap => break,
                // Another node divides the activation, which stays as it is for its other users.
                Step::Takes { .. } | Step::Ends if v == value && computes_floats(g.op(n)) => {
                    steps.clear();
                    break;
                }
                Step::Takes { .. } | Step::Ends => return None,
                Step::Passes { cheap } if alone || cheap => {
                    v = moved(g, n)?;
                    alone &= none_else(v, &|user| user == n);
                    steps.push(v.node);
                }
                Step::Passes { .. } => return None,
            }
        }
        Some(Scalable { value, axis, channels, products, shared: !alone, steps })
    }

    /// The values that are computed divided by the scales, each of which has the channels along the same axis.
    pub(crate) fn scaled(&self) -> impl Iterator<Item = ValueId> + '_ {
        std::iter::once(self.value).chain(self.steps.iter().skip(1).map(|n| n.value(0)))
    }

    /// All products whose weights take the scales, or their inverse.
    pub(crate) fn contractions<'a>(&'a self, g: &'a Graph) -> impl Iterator<Item = NodeId> + 'a {
        let first = self.steps.last().copied().filter(|&n| g.op(n).is_contraction());
        self.products.iter().copied().chain(first)
    }

    /// True if the graph gets more nodes.
    pub(crate) fn adds_nodes(&self) -> bool {
        self.shared || self.steps.is_empty()
    }

    /// Makes the products read the activation divided by `scales`, one for each channel. What computes the activation itself
    /// remains for its other users. Returns the values that are divided, each with the new one.
    ///
    /// # Errors
    /// If a node cannot be added.
    pub(crate) fn apply(&self, g: &mut Graph, scales: &[f32]) -> Result<Vec<(ValueId, ValueId)>, TypeError> {
        let inverse: Vec<f32> = scales.iter().map(|s| 1.0 / s).collect();
        let origin = g.origin(self.value.node).clone();
        let made = match self.steps.is_empty() {
            true => {
                let rank = g.ty(self.value).rank();
                let factors = g.add_const(along(rank, self.axis, inverse), origin.clone());
                let divided = g.add1(Binary { f: BinaryFn::Mul }, &[self.value, factors], origin)?;
                vec![(self.value, divided)]
            }
            false => self.recomputed(g, &inverse)?,
        };
        let Some(&(_, x)) = made.last() else { return Ok(Vec::new()) };
        for &n in &self.products {
            let (op, weight) = (g.op(n).clone(), g.operand(n, 1));
            let Some(w) = g.constant(weight) else { continue };
            let (w, origin) = (times(w, weight_axis(&op, w), scales), g.origin(weight.node).clone());
            let scaled = g.add_const(w, origin);
            g.set_operand(n, 0, x);
            g.set_operand(n, 1, scaled);
        }
        Ok(made)
    }

    /// Computes the activation again, divided.
    fn recomputed(&self, g: &mut Graph, inverse: &[f32]) -> Result<Vec<(ValueId, ValueId)>, TypeError> {
        let mut made: Vec<(ValueId, ValueId)> = Vec::new();
        for &n in self.steps.iter().rev() {
            let (op, origin, mut operands) = (g.op(n).clone(), g.origin(n).clone(), g.operands(n));
            if let Some(&(old, new)) = made.last() {
                operands.iter_mut().filter(|v| **v == old).for_each(|v| *v = new);
            }
            let rank = g.ty(n.value(0)).rank();
            for i in scaled_operands(g, n, made.is_empty()) {
                let Some(c) = g.constant(operands[i]) else { continue };
                let axis = match (&op, i) {
                    (Op::Binary(_) | Op::LayerNorm(_), _) => None,
                    (_, 1) => Some(output_axis(&op, c)),
                    _ => Some(0),
                };
                let divided = match axis {
                    Some(axis) => times(c, axis, inverse),
                    None => broadcast_times(c, rank, self.axis, inverse),
                };
                let origin = g.origin(operands[i].node).clone();
                operands[i] = g.add_const(divided, origin);
            }
            let new = g.add_typed(op, &operands, g.result_types(n), origin)?;
            made.push((n.value(0), new.value(0)));
        }
        Ok(made)
    }
}

/// True if the result of a node is floating point before quantization, and the node is not an input.
fn computes_floats(op: &Op) -> bool {
    op.quant_rule() == QuantRule::Float && !matches!(op, Op::Input(_))
}

/// What a node does with scales of the channels of its result.
enum Step {
    /// Its constants take them. Computing it once more costs little if it is `cheap`.
    Takes { cheap: bool },
    /// It gives scaled results for scaled operands.
    Passes { cheap: bool },
    /// Neither.
    Ends,
}

fn step(g: &Graph, v: ValueId, axis: usize) -> Option<Step> {
    let (n, rank) = (v.node, g.ty(v).rank());
    if g.ty(v).elem != Elem::F32 || g.constant(v).is_some() {
        return None;
    }
    let constant = |i: usize| g.operands(n).get(i).and_then(|&v| g.constant(v));
    Some(match g.op(n) {
        Op::LayerNorm(l) if l.axis + 1 == rank && axis == l.axis && g.operand_count(n) > 1 => {
            match (1..g.operand_count(n)).all(|i| constant(i).is_some()) {
                true => Step::Takes { cheap: false },
                false => Step::Ends,
            }
        }
        op @ (Op::MatMul(_) | Op::Conv(_)) if axis == summed_axis_of_result(op, rank) => {
            let known = constant(1).is_some_and(|w| w.dims().len() == weight_rank(op, rank));
            match known && (g.operand_count(n) < 3 || constant(2).is_some()) {
                true => Step::Takes { cheap: false },
                false => Step::Ends,
            }
        }
        Op::Binary(b) => {
            let fits = |c: &Tensor| broadcasts(c, rank, axis);
            match (b.f, constant(0), constant(1)) {
                (BinaryFn::Mul, Some(c), None) | (BinaryFn::Mul, None, Some(c)) if fits(c) => {
                    Step::Takes { cheap: true }
                }
                (BinaryFn::Add | BinaryFn::Sub, Some(c), None) | (BinaryFn::Add | BinaryFn::Sub, None, Some(c))
                    if fits(c) =>
                {
                    Step::Passes { cheap: true }
                }
                (BinaryFn::Prelu, None, Some(_)) => Step::Passes { cheap: true },
                _ => Step::Ends,
            }
        }
        Op::Clamp(c) if *c == Clamp::RELU => Step::Passes { cheap: true },
        Op::Unary(u) if matches!(u.f, UnaryFn::LeakyRelu { .. } | UnaryFn::Abs | UnaryFn::Neg) => {
            Step::Passes { cheap: true }
        }
        Op::Pool(_) if axis == 1 => Step::Passes { cheap: false },
        _ => Step::Ends,
    })
}

/// The operand of a node that passes scales on which is not constant, if it has the shape of the result or is an image.
fn moved(g: &Graph, n: NodeId) -> Option<ValueId> {
    let mut all = g.operands(n).into_iter().filter(|&v| g.constant(v).is_none());
    let v = all.next().filter(|_| all.next().is_none())?;
    (matches!(g.op(n), Op::Pool(_)) || g.ty(v).shape == g.ty(n.value(0)).shape).then_some(v)
}

/// The constants of a node that are divided: of the `first` node all of its constants but filters' biases that it lacks, of
/// the others those that are added.
fn scaled_operands(g: &Graph, n: NodeId, first: bool) -> Vec<usize> {
    let constants = || (0..g.operand_count(n)).filter(|&i| g.constant(g.operand(n, i)).is_some());
    match g.op(n) {
        Op::Binary(Binary { f: BinaryFn::Add | BinaryFn::Sub }) => constants().collect(),
        Op::Binary(Binary { f: BinaryFn::Mul }) if first => constants().collect(),
        Op::LayerNorm(_) | Op::MatMul(_) | Op::Conv(_) if first => constants().collect(),
        _ => Vec::new(),
    }
}

/// True for a product whose weight can take scales of the channels of the activation.
fn takes_scales(g: &Graph, n: NodeId) -> bool {
    let Some(w) = g.operands(n).get(1).and_then(|&w| g.constant(w)) else { return false };
    let x = g.operand(n, 0);
    let op = g.op(n);
    let kind = match op {
        Op::MatMul(_) => w.dims().len() == 2,
        Op::Conv(c) => c.groups == 1 || is_depthwise(c, w),
        _ => false,
    };
    kind && g.ty(x).elem == Elem::F32 && w.ty().elem == Elem::F32 && g.constant(x).is_none()
}

fn weight_rank(op: &Op, rank: usize) -> usize {
    if matches!(op, Op::MatMul(_)) { 2 } else { rank }
}

/// The axis of the channels of the result of a product.
fn summed_axis_of_result(op: &Op, rank: usize) -> usize {
    if matches!(op, Op::MatMul(_)) { rank - 1 } else { 1 }
}

/// Factors along an axis of a value of some rank.
fn along(rank: usize, axis: usize, factors: Vec<f32>) -> Tensor {
    let dims: Vec<usize> = (0..rank).map(|i| if i == axis { factors.len() } else { 1 }).collect();
    Tensor::from_vec(Shape::known(&dims), factors)
}

/// The tensor times factors along an axis.
fn times(t: &Tensor, axis: usize, factors: &[f32]) -> Tensor {
    let inner = t.dims()[axis + 1..].iter().product::<usize>().max(1);
    let scaled = t.floats().iter().enumerate().map(|(i, x)| x * factors[i / inner % factors.len()]).collect();
    Tensor::from_vec(t.ty().shape.clone(), scaled)
}

/// True if a constant that broadcasts to a value of some rank has the channels along its axis, or one number for all.
fn broadcasts(c: &Tensor, rank: usize, axis: usize) -> bool {
    let dims = c.ty().shape.dims();
    let place = (axis + dims.len()).checked_sub(rank);
    c.ty().elem == Elem::F32
        && dims.len() <= rank
        && (c.len() == 1 || place.is_some_and(|place| dims[place] != Dim::Known(1)))
}

/// A constant that broadcasts to a value of some rank, times factors along an axis of the value.
fn broadcast_times(c: &Tensor, rank: usize, axis: usize, factors: &[f32]) -> Tensor {
    if c.len() == 1 {
        let x = c.floats()[0];
        return along(rank, axis, factors.iter().map(|f| x * f).collect());
    }
    times(c, axis + c.dims().len() - rank, factors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_same;
    use qcc_ir::text::{Weights, parse};

    fn graph(text: &str) -> Graph {
        parse(&format!("graph g {{ {text} }}"), &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    /// The names of the scalable values, whether nodes are added, and the number of products. Scaling all of them does not
    /// change what the graph computes.
    fn scaled(text: &str) -> Vec<(String, bool, usize)> {
        let g = graph(text);
        let mut scaled = g.clone();
        let all = Scalable::all(&g);
        for scalable in &all {
            let scales: Vec<f32> = (0..scalable.channels).map(|i| 0.3 + 1.7 * i as f32).collect();
            let made = scalable.apply(&mut scaled, &scales).unwrap();
            assert_eq!(made.len(), scalable.scaled().count());
        }
        scaled.sweep();
        scaled.verify().unwrap();
        assert_same(&g, &scaled);
        let name = |s: &Scalable| g.name(s.value).map_or_else(String::new, |name| name.to_string());
        all.iter().map(|s| (name(s), s.adds_nodes(), s.products.len())).collect()
    }

    const CONV: &str = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1)";

    #[test]
    fn filters_take_scales_through_activations_and_pools() {
        let text = format!(
            "%x: f32[1,2,6,6] = input
            %w: f32[3,2,1,1] = const [1,-2,3,0.5,-1.5,2]  %b: f32[3] = const [0.5,-0.25,1]
            %d: f32[3,1,2,2] = const [1,2,3,-4,5,6,-7,8,9,1,2,3]
            %u: f32[2,3,1,1] = const [1,2,3,-4,5,6]  %s: f32[3,1,1] = const [0.1,0.2,0.3]
            %0 = {CONV} %x, %w, %b
            %1 \"relu\" = clamp(lo:0,hi:inf) %0
            %2 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:3) %1, %d
            %3 = binary(f:Prelu) %2, %s
            %4 \"pool\" = pool(f:Max,window:[2,2],stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1]) %3
            %5 = {CONV} %4, %u
            output y = %5"
        );
        assert_eq!(scaled(&text), [("relu".into(), false, 1), ("pool".into(), false, 1)]);
    }

    /// A normalization takes scales where only products read it. Where others read it too, a node is added, or the last
    /// cheap nodes are computed again.
    #[test]
    fn normalizations_take_scales() {
        let text = |norm: &str, end: &str| {
            format!(
                "%x: f32[2,3] = input
                %s: f32[3] = const [2,-1,0.5]  %t: f32[3] = const [1,2,-3]
                %w: f32[3,2] = const [1,2,3,-4,5,6]  %u: f32[2,3] = const [1,-1,2,3,0.5,4]
                {norm}
                %1 \"a\" = matmul(transpose_b:false) %0, %w
                %2 = matmul(transpose_b:true) %0, %u
                {end}"
            )
        };
        let norm = "%0 \"norm\" = layer_norm(axis:1,epsilon:1e-5) %x, %s, %t";
        let affine = "%m = binary(f:Mul) %x, %s  %0 \"norm\" = binary(f:Add) %m, %t";
        let (products, all) = ("output a = %1 output b = %2", "output a = %1 output b = %2 output c = %0");
        assert_eq!(scaled(&text(norm, products)), [("norm".into(), false, 2)]);
        assert_eq!(scaled(&text(norm, all)), [("norm".into(), true, 2)]);
        assert_eq!(scaled(&text(affine, products)), [("norm".into(), false, 2)]);
        assert_eq!(scaled(&text(affine, all)), [("norm".into(), true, 2)]);
    }

    #[test]
    fn functions_that_do_not_commute_with_scales_end_them() {
        for f in ["unary(f:Sigmoid)", "clamp(lo:0,hi:6)", "unary(f:Gelu(tanh:false))"] {
            let text = format!(
                "%x: f32[2,3] = input  %w: f32[3,3] = const [1,2,3,-4,5,6,7,8,9]
                %0 = matmul(transpose_b:false) %x, %w
                %1 = {f} %0
                %2 = matmul(transpose_b:false) %1, %w
                output y = %2"
            );
            assert_eq!(scaled(&text), [], "{f}");
        }
    }
}

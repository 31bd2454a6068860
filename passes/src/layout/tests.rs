//! Layouts of small networks: which values are permuted, and that results do not change.

use qcc_ir::ops::*;
use qcc_ir::{Graph, Layout, Origin, Shape, TensorType, ValueId};

use super::{ImageOrder, Interface, layout};
use crate::lower::lower;
use crate::testing::{apply, assert_same, weight};

const NHWC: Interface = Interface { input: ImageOrder::Nhwc, output: ImageOrder::Nhwc };
const NCHW: Interface = Interface { input: ImageOrder::Nchw, output: ImageOrder::Nchw };

struct Net(Graph);

impl Net {
    fn new(dims: &[usize]) -> (Self, ValueId) {
        let mut g = Graph::new("net");
        let x = g.add_input("x", TensorType::f32(dims));
        (Net(g), x)
    }

    fn op(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> ValueId {
        self.0.add1(op, operands, Origin::none()).unwrap()
    }

    fn conv(&mut self, x: ValueId, channels: usize, window: usize) -> ValueId {
        let inputs = self.0.ty(x).shape.dims()[1].known().unwrap();
        let w = weight(&mut self.0, &[channels, inputs, window, window]);
        self.op(Conv::unit(2), &[x, w])
    }

    fn reshape(&mut self, x: ValueId, dims: &[usize]) -> ValueId {
        self.op(Reshape { shape: Shape::known(dims) }, &[x])
    }

    /// Assigns layouts with both interfaces. Returns the graph with channels-last inputs and outputs, and its number of
    /// permutations.
    fn laid_out(mut self, outputs: &[ValueId]) -> (Graph, usize) {
        for (i, &v) in outputs.iter().enumerate() {
            self.0.add_output(format!("y{i}"), v);
        }
        for interface in [NCHW, NHWC] {
            let mut g = self.0.clone();
            apply(&mut g, lower(false));
            apply(&mut g, vec![layout(interface)]);
            assert_same(&self.0, &g);
            if interface == NHWC {
                let moves = moves(&g);
                return (g, moves);
            }
        }
        unreachable!()
    }
}

/// The number of nodes that permute bytes.
fn moves(g: &Graph) -> usize {
    let moved = |n: qcc_ir::NodeId| {
        let (x, y) = (g.operands(n), g.ty(n.value(0)));
        match g.op(n) {
            Op::Relayout(_) => !g.ty(x[0]).layout.same_bytes(&y.layout, &y.shape),
            Op::Transpose(t) => !t.carry(&g.ty(x[0]).layout).same_bytes(&y.layout, &y.shape),
            _ => false,
        }
    };
    g.order().into_iter().filter(|&n| moved(n)).count()
}

#[test]
fn a_convolutional_body_moves_nothing() {
    let (mut n, x) = Net::new(&[1, 3, 12, 12]);
    let a = n.conv(x, 8, 3);
    let a = n.op(Unary { f: UnaryFn::Silu }, &[a]);
    let b = n.conv(a, 8, 1);
    let scale = weight(&mut n.0, &[8, 1, 1]);
    let b = n.op(Binary { f: BinaryFn::Mul }, &[b, scale]);
    let sum = n.op(Binary { f: BinaryFn::Add }, &[a, b]);
    let both = n.op(Concat { axis: 1 }, &[a, sum]);
    let part = n.op(Slice { ranges: vec![Range { axis: 1, start: 4, len: 8, step: 1 }] }, &[both]);
    let y = n.conv(part, 5, 3);
    let (g, moves) = n.laid_out(&[y]);
    assert_eq!(moves, 0);
    let input = g.inputs().next().unwrap();
    assert_eq!(g.ty(input).layout, Layout::channels_last(4));
    assert_eq!(g.ty(g.outputs()[0].value).layout, Layout::channels_last(4));
}

#[test]
fn pooled_and_flattened_images_need_no_move() {
    let (mut n, x) = Net::new(&[2, 3, 6, 6]);
    let a = n.conv(x, 8, 3);
    let mean = n.op(Reduce { f: ReduceFn::Mean, axes: [2, 3].into_iter().collect(), keep: false }, &[a]);
    let flat = n.reshape(a, &[2, 128]);
    let (w, v) = (weight(&mut n.0, &[8, 5]), weight(&mut n.0, &[128, 5]));
    let y = n.op(MatMul { transpose_b: false }, &[mean, w]);
    let z = n.op(MatMul { transpose_b: false }, &[flat, v]);
    let (_, moves) = n.laid_out(&[y, z]);
    assert_eq!(moves, 0);
}

#[test]
fn transposes_of_the_source_absorb_the_layout() {
    // An image that is N,H,W,C at the input and at the output.
    let (mut n, x) = Net::new(&[1, 9, 9, 3]);
    let image = n.op(Transpose { perm: [0, 3, 1, 2].into_iter().collect() }, &[x]);
    let a = n.conv(image, 4, 3);
    let back = n.op(Transpose { perm: [0, 2, 3, 1].into_iter().collect() }, &[a]);
    let rows = n.reshape(back, &[1, 49, 4]);
    let y = n.op(Softmax { axis: 2, log: false }, &[rows]);
    let (g, moves) = n.laid_out(&[y]);
    assert_eq!(moves, 0);
    assert!(g.ty(g.inputs().next().unwrap()).layout.is_row_major());
}

#[test]
fn head_scales_are_concatenated_before_a_move() {
    let (mut n, x) = Net::new(&[1, 3, 12, 12]);
    let a = n.conv(x, 8, 3);
    let b = n.conv(a, 8, 3);
    let (a, b) = (n.reshape(a, &[1, 8, 100]), n.reshape(b, &[1, 8, 64]));
    let all = n.op(Concat { axis: 2 }, &[a, b]);
    let (_, moves) = n.laid_out(&[all]);
    assert_eq!(moves, 1);
}

#[test]
fn distribution_over_bins_needs_no_move() {
    // The box head of a detector: bins on the channel axis, softmax over them, their mean by a convolution.
    let (mut n, x) = Net::new(&[1, 3, 6, 6]);
    let a = n.conv(x, 16, 3);
    let a = n.reshape(a, &[1, 4, 4, 16]);
    let bins = n.op(Transpose { perm: [0, 2, 1, 3].into_iter().collect() }, &[a]);
    let p = n.op(Softmax { axis: 1, log: false }, &[bins]);
    let y = n.conv(p, 1, 1);
    let y = n.reshape(y, &[1, 4, 16]);
    let (_, moves) = n.laid_out(&[y]);
    assert!(moves <= 1, "{moves}");
}

#[test]
fn arg_max_needs_no_move() {
    let (mut n, x) = Net::new(&[1, 3, 6, 6]);
    let a = n.conv(x, 5, 3);
    let y = n.op(ArgReduce { axis: 1, largest: true, keep: false }, &[a]);
    let (_, moves) = n.laid_out(&[y]);
    assert_eq!(moves, 0);
}

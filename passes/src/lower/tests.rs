//! Each decomposition compared with the operator that it replaces.

use qcc_ir::ops::*;
use qcc_ir::testing::{Case, half_operators, operators};
use qcc_ir::{Elem, Graph, Origin, Shape, Tensor, TensorType, ValueId};

use super::lower;
use crate::check_meaning;
use crate::testing::{BARE, apply, assert_same, weight};

/// An operand of the operator under test.
enum Arg<'a> {
    /// A graph input.
    X(&'a [usize]),
    /// A constant.
    W(&'a [usize]),
    /// Constant indices.
    I(&'a [usize], &'a [i64]),
    /// An `I64` input.
    N(&'a [usize]),
    /// A `Bool` input.
    B(&'a [usize]),
}
use Arg::{B, I, N, W, X};

fn ints(values: &[usize]) -> Extents {
    values.iter().copied().collect()
}

/// Lowers a graph of one operator. The result must be equal and contain native operators only.
fn check(op: impl Into<Op>, args: &[Arg<'_>]) -> Graph {
    let mut g = Graph::new("one");
    let operands: Vec<ValueId> = args
        .iter()
        .enumerate()
        .map(|(i, arg)| match arg {
            X(dims) => g.add_input(format!("x{i}"), TensorType::f32(dims)),
            W(dims) => weight(&mut g, dims),
            I(dims, values) => g.add_const(Tensor::from_vec(Shape::known(dims), values.to_vec()), Origin::none()),
            N(dims) => g.add_input(format!("n{i}"), TensorType::new(Elem::I64, Shape::known(dims))),
            B(dims) => g.add_input(format!("b{i}"), TensorType::new(Elem::Bool, Shape::known(dims))),
        })
        .collect();
    let node = g.add(op, &operands, Origin::new("node", "Op")).unwrap();
    for v in g.results(node) {
        g.add_output(format!("y{}", v.port), v);
    }
    checked(g)
}

fn checked(g: Graph) -> Graph {
    let mut lowered = g.clone();
    apply(&mut lowered, lower(false));
    for node in lowered.order() {
        assert!(BARE.kernel_of(&lowered, node).is_some(), "{}", qcc_ir::text::print_brief(&lowered));
    }
    assert_same(&g, &lowered);
    lowered
}

fn count(g: &Graph, kind: OpKind) -> usize {
    g.order().into_iter().filter(|&n| g.op(n).kind() == kind).count()
}

/// Every operator except Ceil that the bare target does not support has a decomposition with equal results.
/// Rows of boxes that are not found, and of classes that there are not, are 0.
#[test]
fn boxes_of_detectors() {
    for (of_class, classes_per_box, most) in
        [(None, 1, 9), (None, 3, 9), (None, 5, 2), (Some(2), 2, 9), (Some(9), 1, 3)]
    {
        for classes in [4, 3] {
            let (score, overlap, scale) = (0.1, 0.3, [4.0, 2.0, 4.0, 2.0]);
            let op = DetectionPostProcess { most, classes, classes_per_box, of_class, score, overlap, scale };
            check(op, &[X(&[1, 6, 5]), X(&[1, 6, 4]), W(&[6, 4])]);
        }
    }
}

#[test]
fn operators_keep_their_meaning() {
    for Case { graph, inputs } in operators().into_iter().filter(|c| !c.graph.name.contains("Ceil")) {
        let mut lowered = graph.clone();
        apply(&mut lowered, lower(false));
        let error = check_meaning(&graph, &lowered, &inputs).unwrap();
        let half = graph.inputs().any(|v| graph.ty(v).elem == Elem::F16);
        let texts = || [&graph, &lowered].map(qcc_ir::text::print_brief).join("\n");
        assert!(error <= if half { 1e-2 } else { 1e-5 }, "{error} in\n{}", texts());
    }
}

/// The same with 16-bit floats. The graphs stay 16-bit.
#[test]
fn f16_operators_keep_their_meaning() {
    for Case { graph, inputs } in half_operators().into_iter().filter(|c| !c.graph.name.contains("Ceil")) {
        let mut lowered = graph.clone();
        apply(&mut lowered, lower(false));
        let error = check_meaning(&graph, &lowered, &inputs).unwrap();
        let texts = || [&graph, &lowered].map(qcc_ir::text::print_brief).join("\n");
        assert!(error <= 1e-2, "{error} in\n{}", texts());
    }
}

#[test]
fn functions_of_one_number() {
    use UnaryFn::*;
    let functions = [
        Silu,
        Mish,
        HardSwish,
        Softplus,
        Softsign,
        Asinh,
        Atan,
        Cosh,
        Sinh,
        Reciprocal,
        Tan,
        Erf,
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        Elu { alpha: 1.0 },
        Elu { alpha: 0.3 },
        Selu { alpha: 1.67, gamma: 1.05 },
        LeakyRelu { alpha: 0.1 },
        Threshold { alpha: 0.5 },
        Gelu { tanh: false },
        Gelu { tanh: true },
    ];
    for f in functions {
        check(Unary { f }, &[X(&[2, 40])]);
    }
    // Within their domain.
    for (f, limits) in [
        (Acos, Clamp { lo: -1.0, hi: 1.0 }),
        (Asin, Clamp { lo: -1.0, hi: 1.0 }),
        (Acosh, Clamp { lo: 1.0, hi: 2.0 }),
        (Atanh, Clamp { lo: -0.9, hi: 0.9 }),
    ] {
        let mut g = Graph::new("limited");
        let x = g.add_input("x", TensorType::f32(&[2, 40]));
        let x = g.add1(limits, &[x], Origin::none()).unwrap();
        let y = g.add1(Unary { f }, &[x], Origin::none()).unwrap();
        g.add_output("y", y);
        checked(g);
    }
}

#[test]
fn softplus_of_large_numbers() {
    let mut g = Graph::new("far");
    let x = g.add_const(Tensor::from_vec(Shape::known(&[3]), vec![-200.0f32, 0.0, 200.0]), Origin::none());
    let n = g.add_input("n", TensorType::f32(&[3]));
    let zero = g.add1(Binary { f: BinaryFn::Mul }, &[n, x], Origin::none()).unwrap();
    let y = g.add1(Unary { f: UnaryFn::Softplus }, &[zero], Origin::none()).unwrap();
    g.add_output("y", y);
    checked(g);
}

#[test]
fn functions_of_two_numbers() {
    for f in [BinaryFn::SquaredDifference, BinaryFn::Prelu] {
        check(Binary { f }, &[X(&[2, 3, 4]), W(&[3, 1])]);
    }
    check(Binary { f: BinaryFn::Xor }, &[B(&[2, 9]), B(&[9])]);
    let bits = [0, -1, 1, i32::MAX.into(), i32::MIN.into(), 0x1234_5678, -0x1234_5678, 0xffff, -0x1_0000];
    for f in [BinaryFn::And, BinaryFn::Or] {
        check(Binary { f }, &[I(&[9, 1], &bits), I(&[9], &bits)]);
        check(Binary { f }, &[N(&[9]), I(&[9], &bits)]);
    }
    check(Binary { f: BinaryFn::Rem }, &[N(&[2, 3]), I(&[3], &[2, -3, 4])]);
    check(Binary { f: BinaryFn::Rem }, &[X(&[2, 30]), W(&[30])]);
}

#[test]
fn convolutions() {
    let row = Conv { before: ints(&[2]), after: ints(&[1]), ..Conv::unit(1) };
    check(row, &[X(&[1, 4, 9]), W(&[6, 4, 3]), W(&[6])]);
    let image = Conv { before: ints(&[1, 0]), after: ints(&[0, 2]), stride: ints(&[2, 1]), ..Conv::unit(2) };
    check(image, &[X(&[2, 4, 9, 8]), W(&[6, 4, 3, 3])]);
    let volume = Conv { before: ints(&[1, 0, 1]), after: ints(&[0, 2, 1]), stride: ints(&[2, 1, 2]), ..Conv::unit(3) };
    check(volume.clone(), &[X(&[2, 4, 5, 6, 7]), W(&[6, 4, 3, 3, 2]), W(&[6])]);
    check(Conv { groups: 2, ..volume }, &[X(&[1, 4, 5, 6, 7]), X(&[6, 2, 2, 3, 3])]);
    let wide = Conv { dilation: ints(&[2, 1, 1]), groups: 4, ..Conv::unit(3) };
    check(wide, &[X(&[1, 4, 7, 4, 4]), W(&[4, 1, 3, 2, 2])]);
    check(Conv::unit(3), &[X(&[1, 4, 3, 4, 4]), W(&[5, 4, 1, 2, 2])]);
}

#[test]
fn transposed_convolutions() {
    let plain = |spatial: usize| ConvTranspose {
        stride: Extents::from_elem(2, spatial),
        before: Extents::from_elem(1, spatial),
        after: Extents::from_elem(1, spatial),
        extra: Extents::from_elem(1, spatial),
        dilation: Extents::from_elem(1, spatial),
        groups: 1,
    };
    check(plain(1), &[X(&[1, 4, 5]), W(&[4, 3, 3]), W(&[3])]);
    check(plain(2), &[X(&[1, 4, 5, 6]), W(&[4, 3, 3, 3]), W(&[3])]);
    let reaching = ConvTranspose { after: ints(&[0, 1]), stride: ints(&[3, 2]), extra: ints(&[2, 0]), ..plain(2) };
    check(reaching, &[X(&[1, 4, 5, 6]), W(&[4, 3, 3, 3]), W(&[3])]);
    check(ConvTranspose { groups: 2, ..plain(2) }, &[X(&[1, 4, 5, 6]), W(&[4, 3, 3, 3]), W(&[6])]);
    check(ConvTranspose { groups: 4, ..plain(2) }, &[X(&[2, 4, 5, 6]), W(&[4, 1, 4, 4]), W(&[4])]);
    check(ConvTranspose { dilation: ints(&[2, 3]), ..plain(2) }, &[X(&[1, 4, 5, 6]), W(&[4, 3, 3, 2])]);
    let volume = ConvTranspose { stride: ints(&[2, 1, 3]), extra: ints(&[1, 0, 2]), ..plain(3) };
    check(volume.clone(), &[X(&[2, 4, 3, 4, 5]), W(&[4, 3, 2, 3, 2]), W(&[3])]);
    check(ConvTranspose { before: ints(&[1, 0, 2]), groups: 2, ..volume }, &[X(&[1, 4, 3, 4, 5]), W(&[4, 3, 2, 3, 3])]);
    // Pads that exceed the window.
    let cut = ConvTranspose { before: ints(&[3, 4]), after: ints(&[4, 2]), groups: 2, ..plain(2) };
    check(cut, &[X(&[1, 4, 6, 6]), W(&[4, 3, 2, 3])]);
}

#[test]
fn pools() {
    for f in [PoolFn::Max, PoolFn::Average] {
        let row = Pool {
            f,
            window: ints(&[3]),
            stride: ints(&[2]),
            before: ints(&[1]),
            after: ints(&[1]),
            dilation: ints(&[1]),
        };
        check(row, &[X(&[1, 4, 9])]);
        let image = Pool {
            f,
            window: ints(&[3, 2]),
            stride: ints(&[2, 1]),
            before: ints(&[1, 1]),
            after: ints(&[2, 0]),
            dilation: ints(&[1, 1]),
        };
        check(image, &[X(&[2, 3, 8, 7])]);
        let volume = Pool {
            f,
            window: ints(&[2, 3, 2]),
            stride: ints(&[2, 1, 2]),
            before: ints(&[1, 1, 0]),
            after: ints(&[0, 1, 1]),
            dilation: ints(&[1, 1, 1]),
        };
        check(volume.clone(), &[X(&[2, 3, 6, 5, 7])]);
        check(Pool { dilation: ints(&[1, 2, 3]), ..volume }, &[X(&[2, 3, 6, 5, 7])]);
    }
}

#[test]
fn normalisation_and_products() {
    check(LayerNorm { axis: 1, epsilon: 1e-5 }, &[X(&[2, 3, 8]), W(&[3, 8]), W(&[3, 8])]);
    check(LayerNorm { axis: 2, epsilon: 1e-5 }, &[X(&[2, 3, 8])]);
    let biased = check(MatMul { transpose_b: false }, &[X(&[2, 3, 8]), W(&[1, 8, 5]), W(&[5])]);
    let weight = biased.order().into_iter().find(|&n| biased.op(n).kind() == OpKind::MatMul).unwrap();
    assert_eq!(biased.ty(biased.operands(weight)[1]).shape, Shape::known(&[5, 8]));
}

#[test]
fn recurrent_layers() {
    for cell in Cell::ALL {
        let (weight, bias) = (cell.gates() * 3, cell.biases() * 3);
        for (reverse, clip, steps) in [(false, None, 4), (true, Some(0.7), 4), (false, None, 1)] {
            let args = [X(&[steps, 2, 5]), W(&[weight, 5]), W(&[weight, 3]), W(&[bias]), X(&[2, 3]), X(&[2, 3])];
            let lowered = check(Recurrent { cell, reverse, clip }, &args[..4 + cell.states()]);
            assert_eq!(count(&lowered, OpKind::Recurrent), 0);
        }
    }
}

#[test]
fn weights_of_unrolled_layers_are_shared() {
    let gru = Recurrent { cell: Cell::Gru { reset_after: false }, reverse: false, clip: None };
    let lowered = check(gru, &[X(&[9, 1, 5]), W(&[9, 5]), W(&[9, 3]), W(&[9]), W(&[1, 3])]);
    assert_eq!(count(&lowered, OpKind::Const), 6, "{}", qcc_ir::text::print_brief(&lowered));
}

/// The refusals of a graph that the bare target does not support.
fn refusals(mut g: Graph) -> Vec<String> {
    match crate::testing::try_apply(&mut g, lower(false), &BARE) {
        Err(crate::PassError::Refused(all)) => all.into_iter().map(|d| format!("{}: {}", d.code, d.message)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unsupported_operators_are_refused_by_name_and_together() {
    let mut g = Graph::new("long");
    let x = g.add_input("x", TensorType::f32(&[513, 1, 1]));
    let [w, r, b, h] = [[1, 1].as_slice(), &[1, 1], &[1], &[1, 1]].map(|dims| weight(&mut g, dims));
    let rnn = Recurrent { cell: Cell::Rnn { relu: false }, reverse: false, clip: None };
    let y = g.add1(rnn, &[x, w, r, b, h], Origin::new("layer", "RNN")).unwrap();
    let z = g.add1(Unary { f: UnaryFn::Ceil }, &[y], Origin::none()).unwrap();
    g.add_output("y", z);
    let steps = "unsupported-op: bare cannot express RNN: it would be unrolled into 513 steps; the maximum is 512";
    assert_eq!(refusals(g), [steps, "unsupported-op: bare has no operator for unary of f32[513,1,1]"]);
}

#[test]
fn indices() {
    check(ArgReduce { axis: 1, largest: true, keep: true }, &[X(&[2, 7, 3])]);
    check(TopK { k: 3.into(), axis: 1, largest: false }, &[X(&[2, 7])]);
    check(GatherElements { axis: 1 }, &[X(&[2, 4]), I(&[2, 3], &[0, 3, -1, 2, 2, -4])]);
    check(GatherElements { axis: 1 }, &[X(&[2, 4, 5]), N(&[1, 3, 2])]);
    let column = check(GatherElements { axis: 1 }, &[X(&[1, 4, 1]), N(&[1, 3, 1])]);
    assert_eq!(count(&column, OpKind::Gather), 1);
    check(Gather { axis: 1 }, &[X(&[2, 4]), I(&[3], &[-1, 0, -2])]);
    check(GatherNd { batch: 0 }, &[X(&[2, 4]), I(&[2, 2], &[-1, 0, 1, -2])]);
    check(GatherNd { batch: 1 }, &[X(&[2, 4, 3]), I(&[2, 2, 1], &[-1, 0, 1, -2])]);
    check(GatherNd { batch: 2 }, &[X(&[2, 2, 5, 3]), I(&[2, 2, 2], &[0, 1, -5, 2, 4, 0, 3, -1])]);
}

#[test]
fn updates_at_indices() {
    for f in [ScatterFn::Replace, ScatterFn::Mul, ScatterFn::Min, ScatterFn::Max, ScatterFn::Add] {
        let op = ScatterNd { f };
        check(op.clone(), &[X(&[5, 3]), I(&[3, 1], &[4, 0, 4]), X(&[3, 3])]);
        check(op.clone(), &[X(&[2, 3, 2]), I(&[2, 2, 2], &[0, -1, 1, 0, 0, 2, -2, 1]), X(&[2, 2, 2])]);
        check(op.clone(), &[X(&[4]), N(&[3, 1]), X(&[3])]);
        check(op, &[X(&[4, 4, 2]), N(&[2, 2]), X(&[2, 2])]);
    }
    // With zeros as operand, unique updates become sums. Duplicate ones do not.
    let zeros = |index: &[i64]| {
        let mut g = Graph::new("zeros");
        let u = g.add_input("u", TensorType::f32(&[2]));
        let zero = g.add_const(Tensor::scalar(0f32), Origin::none());
        let x = g.add1(Expand { shape: Shape::known(&[9]) }, &[zero], Origin::none()).unwrap();
        let index = g.add_const(Tensor::from_vec(Shape::known(&[2, 1]), index.to_vec()), Origin::none());
        let y = g.add1(ScatterNd { f: ScatterFn::Replace }, &[x, index, u], Origin::none()).unwrap();
        g.add_output("y", y);
        count(&checked(g), OpKind::ScatterNd)
    };
    assert_eq!((zeros(&[3, 5]), zeros(&[3, -6])), (1, 0));
    // A scatter to an integer constant.
    check(ScatterNd { f: ScatterFn::Max }, &[I(&[4], &[1, 2, 3, 4]), I(&[2, 1], &[1, 1]), N(&[2])]);
}

#[test]
fn repeated_index_is_gathered_once() {
    let mut g = Graph::new("topk");
    let x = g.add_input("x", TensorType::f32(&[1, 4, 5]));
    let n = g.add_input("n", TensorType::new(Elem::I64, Shape::known(&[1, 3, 1])));
    let wide = g.add1(Expand { shape: Shape::known(&[1, 3, 5]) }, &[n], Origin::none()).unwrap();
    let y = g.add1(GatherElements { axis: 1 }, &[x, wide], Origin::none()).unwrap();
    g.add_output("y", y);
    let lowered = checked(g);
    assert_eq!((count(&lowered, OpKind::Gather), count(&lowered, OpKind::Expand)), (1, 0));
}

#[test]
fn movement() {
    check(DepthToSpace { block: 2, channel_first: true }, &[X(&[1, 12, 3, 2])]);
    let edge = Pad { before: ints(&[0, 1, 2]), after: ints(&[0, 3, 0]), mode: PadMode::Edge };
    check(edge, &[X(&[1, 3, 4])]);
}

#[test]
fn shuffled_channels_go_into_the_weight() {
    let mut g = Graph::new("shuffle");
    let x = g.add_input("x", TensorType::f32(&[1, 4, 5, 5]));
    let (w, bias) = (weight(&mut g, &[12, 4, 1, 1]), weight(&mut g, &[12]));
    let y = g.add1(Conv::unit(2), &[x, w, bias], Origin::none()).unwrap();
    let y = g.add1(DepthToSpace { block: 2, channel_first: true }, &[y], Origin::none()).unwrap();
    g.add_output("y", y);
    assert_eq!(count(&checked(g), OpKind::Gather), 0);
}

#[test]
fn resampling() {
    let resize = |mode, coordinates, size: &[usize], scale: &[f32]| Resize {
        mode,
        coordinates,
        size: Shape::known(size),
        scale: scale.to_vec(),
    };
    let nearest = ResizeMode::Nearest(Nearest::PreferFloor);
    let double = check(resize(nearest, Coordinates::HalfPixel, &[8, 6], &[2.0, 2.0]), &[X(&[1, 2, 4, 3])]);
    assert_eq!(count(&double, OpKind::Resize), 1);
    check(resize(nearest, Coordinates::HalfPixel, &[7, 5], &[1.75, 1.6666]), &[X(&[1, 2, 4, 3])]);
    check(resize(nearest, Coordinates::Asymmetric, &[10], &[2.0]), &[X(&[1, 2, 5])]);
    check(resize(ResizeMode::Linear, Coordinates::PytorchHalfPixel, &[8, 6], &[2.0, 2.0]), &[X(&[1, 2, 4, 3])]);
    check(resize(ResizeMode::Linear, Coordinates::AlignCorners, &[8, 5], &[2.0, 1.6]), &[X(&[1, 2, 4, 3])]);
    check(resize(ResizeMode::Cubic { a: -0.75 }, Coordinates::HalfPixel, &[8, 6], &[2.0, 2.0]), &[X(&[1, 2, 4, 3])]);
}

#[test]
fn sampling() {
    use SampleMode::*;
    for mode in [Nearest, Linear, Cubic] {
        for outside in [Outside::Zero, Outside::Edge, Outside::Reflect] {
            for align_corners in [true, false] {
                let op = GridSample { mode, outside, align_corners };
                check(op.clone(), &[X(&[2, 3, 4, 5]), X(&[2, 3, 2, 2])]);
                check(op.clone(), &[X(&[1, 2, 1, 3]), W(&[1, 2, 4, 2])]);
                check(op, &[X(&[1, 2, 3, 2, 4]), X(&[1, 2, 3, 1, 3])]);
            }
        }
    }
    // Half way between two elements, inside and outside the image.
    let mut g = Graph::new("halves");
    let x = g.add_input("x", TensorType::f32(&[1, 1, 4]));
    let at: Vec<f32> = (-12..=12).map(|i| i as f32 / 4.0).collect();
    let at = g.add_const(Tensor::from_vec(Shape::known(&[1, at.len(), 1]), at), Origin::none());
    for outside in [Outside::Zero, Outside::Edge, Outside::Reflect] {
        let op = GridSample { mode: Nearest, outside, align_corners: false };
        let y = g.add1(op, &[x, at], Origin::none()).unwrap();
        g.add_output(format!("{outside:?}"), y);
    }
    checked(g);
}

#[test]
fn integers_are_32_bits_wide_inside() {
    let mut g = Graph::new("ids");
    let n = g.add_input("n", TensorType::new(Elem::I64, Shape::known(&[2, 3])));
    let one = g.add_const(Tensor::scalar(1i64), Origin::none());
    let more = g.add1(Binary { f: BinaryFn::Add }, &[n, one], Origin::none()).unwrap();
    let back = g.add1(Cast { to: Elem::F32 }, &[more], Origin::none()).unwrap();
    let again = g.add1(Cast { to: Elem::I64 }, &[back], Origin::none()).unwrap();
    g.add_output("sum", more);
    g.add_output("again", again);
    g.add_output("same", n);
    let lowered = checked(g);
    for node in lowered.order() {
        let at_end = matches!(lowered.op(node), Op::Input(_) | Op::Cast(_));
        assert!(at_end || lowered.ty(node.value(0)).elem != Elem::I64);
    }
    assert!(lowered.outputs().iter().all(|o| lowered.ty(o.value).elem == Elem::I64));
}

#[test]
fn wide_constant_is_refused() {
    let mut g = Graph::new("wide");
    let n = g.add_input("n", TensorType::new(Elem::I64, Shape::known(&[2])));
    let far = g.add_const(Tensor::scalar(1i64 << 40), Origin::none());
    let y = g.add1(Binary { f: BinaryFn::Add }, &[n, far], Origin::none()).unwrap();
    g.add_output("y", y);
    assert_eq!(refusals(g), ["wide-integer: the constant 1099511627776 does not fit 32 bits"]);
}

#[test]
fn row_of_convolutions_stays_an_image() {
    let mut g = Graph::new("row");
    let x = g.add_input("x", TensorType::f32(&[1, 3, 16]));
    let mut v = x;
    for (o, i) in [(4, 3), (4, 4)] {
        let w = weight(&mut g, &[o, i, 3]);
        let (scale, by) = (weight(&mut g, &[o, 1]), Binary { f: BinaryFn::Mul });
        let pads = Conv { before: ints(&[1]), after: ints(&[1]), ..Conv::unit(1) };
        v = g.add1(pads, &[v, w], Origin::none()).unwrap();
        v = g.add1(by, &[v, scale], Origin::none()).unwrap();
        v = g.add1(Clamp::RELU, &[v], Origin::none()).unwrap();
    }
    let both = g.add1(Concat { axis: 2 }, &[v, v], Origin::none()).unwrap();
    g.add_output("y", both);
    let lowered = checked(g);
    assert_eq!(count(&lowered, OpKind::Reshape), 2, "{}", qcc_ir::text::print_brief(&lowered));
}

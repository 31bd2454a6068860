//! Helpers for the tests of passes.

use qcc_ir::eval::{Executor, relayout};
use qcc_ir::ops::*;
use qcc_ir::target::{Kernel, Quantized, Target, Weights};
use qcc_ir::{Elem, Graph, Layout, StorageType, Tensor, TensorType, ValueId};

use crate::{Context, Pass, PassError, Pipeline, Stage, ignore};

/// A target with channels-last images and few native operators.
pub(crate) static BARE: Target = Target {
    name: "bare",
    kernel,
    image_layout: Layout::channels_last,
    index: Elem::I32,
    integers: Elem::I32,
    negative_indices: false,
    activation: StorageType::I8,
    half_graphs: true,
    half_values: true,
    open_batch: false,
    keeps_states: false,
    latency: None,
    device: None,
};

/// All native kernels take quantized activations and weights.
fn kernel(op: &Op, operands: &[&TensorType]) -> Option<Kernel> {
    let weight_order: &[usize] = match op {
        Op::Conv(_) => &[0, 2, 3, 1],
        Op::ConvTranspose(_) => &[1, 2, 3, 0],
        _ => &[],
    };
    let row = Kernel { half: !matches!(op, Op::TopK(_)), weight_order, ..everything(op, operands) };
    native(op, operands).then_some(row)
}

/// A kernel that takes any quantization of weights and activations.
pub(crate) fn everything(op: &Op, operands: &[&TensorType]) -> Kernel {
    let axis = match op.quant_rule() {
        QuantRule::Contraction { channel } => Some(channel),
        _ => Some(1),
    };
    let whole = Granularity::Axes { from: 0, to: operands.first().map_or(0, |x| x.rank()) };
    let weights = Weights { axis, dynamic: Some(whole), ..Weights::ONE_SCALE };
    Kernel::FLOAT.quantized(Quantized { weight_axis: axis, fuses_clamp: true, ..Quantized::ANY }).weights(weights)
}

fn native(op: &Op, operands: &[&TensorType]) -> bool {
    let none = |pads: [&Extents; 2]| pads.iter().all(|p| p.iter().all(|&p| p == 0));
    match op {
        Op::Unary(Unary { f }) => {
            use UnaryFn::*;
            matches!(f, Sigmoid | Tanh | Exp | Log | Abs | Neg | Sqrt | Sin | Cos | Sign | Not | Floor | Round)
        }
        Op::Binary(Binary { f }) => match f {
            BinaryFn::And | BinaryFn::Or => operands[0].elem == Elem::Bool,
            BinaryFn::Xor => operands[0].elem.is_integer(),
            BinaryFn::SquaredDifference | BinaryFn::Prelu | BinaryFn::Rem => false,
            _ => true,
        },
        Op::Conv(c) => c.stride.len() == 2 && none([&c.before, &c.after]),
        Op::ConvTranspose(c) => {
            let plain = c.groups == 1 && c.dilation.iter().all(|&d| d == 1) && c.extra.iter().all(|&e| e == 0);
            plain && c.stride.len() == 2 && none([&c.before, &c.after])
        }
        Op::Pool(p) => p.stride.len() == 2 && none([&p.before, &p.after]) && p.dilation.iter().all(|&d| d == 1),
        Op::MatMul(_) => operands.len() == 2,
        Op::LayerNorm(_)
        | Op::Recurrent(_)
        | Op::GatherElements(_)
        | Op::GridSample(_)
        | Op::RoiAlign(_)
        | Op::DetectionPostProcess(_) => false,
        Op::ScatterNd(ScatterNd { f }) => *f == ScatterFn::Add,
        Op::ArgReduce(a) => !a.keep,
        Op::TopK(t) => t.largest,
        Op::Pad(p) => p.mode != PadMode::Edge,
        Op::DepthToSpace(d) => !d.channel_first,
        Op::Resize(r) => {
            let floor = ResizeMode::Nearest(Nearest::Floor);
            let spellings = [(floor, Coordinates::Asymmetric), (ResizeMode::Linear, Coordinates::HalfPixel)];
            r.size.rank() == 2 && spellings.contains(&(r.mode, r.coordinates))
        }
        _ => true,
    }
}

/// Pseudo-random numbers between -2 and 2.
pub(crate) fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 22) as f32 - 2.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A constant of pseudo-random numbers.
pub(crate) fn weight(g: &mut Graph, dims: &[usize]) -> ValueId {
    let values = noise(dims.iter().product(), dims.len() as u32 + 7);
    g.add_const(Tensor::from_vec(qcc_ir::Shape::known(dims), values), qcc_ir::Origin::none())
}

/// Runs passes for the bare target and verifies the graph after each.
pub(crate) fn apply(g: &mut Graph, passes: Vec<Box<dyn Pass>>) {
    try_apply(g, passes, &BARE).unwrap();
}

/// Runs passes for a target and verifies the graph after each.
pub(crate) fn try_apply(g: &mut Graph, passes: Vec<Box<dyn Pass>>, target: &Target) -> Result<(), PassError> {
    let mut pipeline = Pipeline::empty();
    pipeline.extend(Stage::Lower, passes);
    pipeline.run(.., g, &mut Context::new(target), &mut ignore)
}

/// The outputs in row-major order, for pseudo-random inputs.
pub(crate) fn outputs(g: &Graph) -> Vec<Vec<f32>> {
    let inputs: Vec<Tensor> = g
        .inputs()
        .enumerate()
        .map(|(i, v)| {
            let (ty, count) = (g.ty(v), g.ty(v).shape.elements().unwrap());
            let values = noise(count, i as u32);
            let row = match ty.elem {
                Elem::I64 => {
                    Tensor::from_vec(ty.shape.clone(), values.iter().map(|v| (v.abs() * 2.0) as i64).collect())
                }
                Elem::Bool => Tensor::from_bools(ty.shape.clone(), values.iter().map(|v| *v > 0.0)),
                _ => Tensor::from_vec(ty.shape.clone(), values),
            };
            relayout(&row, &ty.layout).unwrap()
        })
        .collect();
    let results = Executor::new(g).run(&inputs, &mut |_, _| {}).unwrap();
    results.iter().map(|t| relayout(t, &Layout::row_major(t.ty().rank())).unwrap().floats().into_owned()).collect()
}

/// Fails if the outputs of two graphs differ by more than rounding.
pub(crate) fn assert_same(before: &Graph, after: &Graph) {
    let text = || format!("{}\n{}", qcc_ir::text::print_brief(before), qcc_ir::text::print_brief(after));
    for (a, b) in outputs(before).iter().zip(&outputs(after)) {
        assert_eq!(a.len(), b.len(), "{}", text());
        for (x, y) in a.iter().zip(b) {
            assert!((x - y).abs() <= 1e-5 * (1.0 + x.abs()), "{x} and {y} in\n{}", text());
        }
    }
}

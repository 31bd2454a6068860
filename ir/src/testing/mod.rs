//! Random small graphs for property tests.
//!
//! A graph is made from a list of [`Step`]s. Each adds a node if its operator takes the operands that the step picks.
//! Fewer steps make a smaller graph, so failures shrink well.

mod operators;

use half::f16;
use proptest::prelude::*;
use smallvec::smallvec;

use crate::graph::{Graph, Origin, ValueId};
use crate::ops::*;
use crate::types::{Elem, Layout, QuantParams, Shape, StorageType, Tensor, TensorType};

pub use operators::{Case, half_operators, operators};

/// The choices of one step: operator, operands, attributes.
pub type Step = [u8; 6];

/// Float graphs whose evaluation is continuous: small changes of the inputs make small changes of the outputs. One or
/// two inputs; all extents known.
pub fn graphs() -> impl Strategy<Value = Graph> {
    (1usize..3, prop::collection::vec(any::<Step>(), 1..16)).prop_map(|(inputs, steps)| graph_of(inputs, &steps))
}

/// Graphs with everything that a graph can contain: quantized types, layouts, symbols, constants of every element type,
/// unusual names, origins, metadata. They are valid, but it may not be possible to evaluate them.
pub fn dressed_graphs() -> impl Strategy<Value = Graph> {
    let odd = || prop::collection::vec((any::<u8>(), odd_string()), 0..6);
    let constants = prop::collection::vec(constant(), 0..4);
    (graphs(), odd(), odd(), constants, any::<[f32; 2]>()).prop_map(|(mut g, names, origins, constants, clamp)| {
        g.name = names.first().map_or("", |n| &n.1).to_owned();
        g.metadata = origins.iter().map(|(k, v)| (format!("key {k}"), v.clone())).collect();
        dress(&mut g, constants, clamp, &origins);
        let values: Vec<ValueId> = g.order().into_iter().flat_map(|n| g.results(n)).collect();
        for (i, name) in names {
            g.set_name(values[usize::from(i) % values.len()], name);
        }
        g
    })
}

/// Inputs for a graph of known extents: numbers between -1 and 1.
pub fn inputs_for(g: &Graph, seed: u64) -> Vec<Tensor> {
    g.inputs().enumerate().map(|(i, v)| numbers(g.ty(v).shape.clone(), seed.wrapping_add(i as u64))).collect()
}

/// A row-major `F32` tensor of numbers between -1 and 1.
pub fn numbers(shape: Shape, seed: u64) -> Tensor {
    let mut state = seed;
    let count = shape.elements().unwrap_or(0);
    let values = (0..count).map(|_| {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    });
    Tensor::from_vec(shape.clone(), values.collect())
}

/// The graph that `steps` make from a number of inputs.
pub fn graph_of(inputs: usize, steps: &[Step]) -> Graph {
    let mut g = Graph::new("random");
    let mut values: Vec<ValueId> =
        (0..inputs).map(|i| g.add_input(format!("x{i}"), TensorType::f32(&[1, 2, 4, 5]))).collect();
    for (i, step) in steps.iter().enumerate() {
        let origin = Origin::new(format!("layers.{i}"), "Random");
        if let Some(v) = add_step(&mut g, &values, *step, origin) {
            values.push(v);
        }
    }
    let unused: Vec<ValueId> = values.iter().copied().filter(|&v| g.users(v).is_empty()).collect();
    for (i, v) in unused.into_iter().enumerate() {
        g.add_output(format!("y{i}"), v);
    }
    g
}

/// Adds the node of a step; `None` where the operator does not take the operands.
fn add_step(g: &mut Graph, values: &[ValueId], [op, a, b, p, q, r]: Step, origin: Origin) -> Option<ValueId> {
    let pick = |n: u8| values[usize::from(n) % values.len()];
    let (x, y) = (pick(a), pick(b));
    let dims = g.ty(x).shape.extents()?;
    let rank = dims.len();
    let axis = usize::from(p) % rank.max(1);
    let [p, q, r] = [p, q, r].map(usize::from);
    let weights = |g: &mut Graph, dims: &[usize]| g.add_const(numbers(Shape::known(dims), r as u64), Origin::none());
    let add = |g: &mut Graph, op: Op, operands: &[ValueId]| g.add1(op, operands, origin.clone()).ok();
    match op % 25 {
        0 => add(g, unary(q), &[x]),
        1 => add(g, Clamp { lo: -(p as f32) / 64.0, hi: q as f32 / 64.0 }.into(), &[x]),
        2 => add(g, Clamp::RELU.into(), &[x]),
        3 => add(g, binary(q), &[x, y]),
        4 => {
            let c = weights(g, if p % 2 == 0 { &[] } else { &dims[rank.saturating_sub(1)..] });
            add(g, binary(q), if r % 2 == 0 { [x, c] } else { [c, x] }.as_slice())
        }
        5 => {
            let channels: Vec<usize> = (0..rank).map(|i| if i == 1 { dims[1] } else { 1 }).collect();
            let c = weights(g, &channels);
            add(g, Binary { f: if p % 2 == 0 { BinaryFn::Mul } else { BinaryFn::Add } }.into(), &[x, c])
        }
        6 | 7 => {
            let (op, weight) = conv(&dims, [p, q, r])?;
            let (w, bias) = (weights(g, &weight), weights(g, &weight[..1]));
            add(g, op.into(), &[x, w, bias][..2 + r % 2])
        }
        8 => {
            let (n, m) = (dims.last().copied()?, 1 + q % 4);
            let transpose_b = p % 2 == 0;
            let w = weights(g, if transpose_b { [m, n] } else { [n, m] }.as_slice());
            let bias = weights(g, &[m]);
            add(g, MatMul { transpose_b }.into(), &[x, w, bias][..2 + r % 2])
        }
        9 => {
            let ones = |n: usize| Extents::from_elem(n, rank.saturating_sub(2));
            let f = if r % 2 == 0 { PoolFn::Max } else { PoolFn::Average };
            let (window, stride, before, after) = (ones(2), ones(1 + p % 2), ones(q % 2), ones(q / 2 % 2));
            add(g, Pool { f, window, stride, before, after, dilation: ones(1) }.into(), &[x])
        }
        10 => add(g, Softmax { axis, log: q % 4 == 0 }.into(), &[x]),
        11 => {
            let axes: Extents = (0..rank).filter(|a| q >> a & 1 == 1).collect();
            let f = [ReduceFn::Mean, ReduceFn::Max, ReduceFn::Min, ReduceFn::Sum][r % 4];
            add(g, Reduce { f, axes, keep: p % 2 == 0 }.into(), &[x])
        }
        12 => {
            let n: usize = dims.iter().product();
            let by = [1, 2, 4, 5].into_iter().filter(|&d| n.is_multiple_of(d)).nth(q % 4).unwrap_or(1);
            let shape = match r % 4 {
                0 => vec![n],
                1 => vec![by, n / by],
                2 => vec![1, n / by, by],
                _ => vec![1, by, 1, n / by],
            };
            add(g, Reshape { shape: Shape::known(&shape) }.into(), &[x])
        }
        13 => {
            let mut perm: Extents = (0..rank).collect();
            perm.rotate_left(axis);
            if rank > 0 {
                perm.swap(0, q % rank);
            }
            add(g, Transpose { perm }.into(), &[x])
        }
        14 => add(g, Concat { axis }.into(), &[x, y]),
        15 => {
            let extent = dims.get(axis).copied()?;
            let start = q % extent;
            let range = if r % 4 == 0 {
                Range { axis, start, len: start + 1, step: -1 }
            } else {
                Range { axis, start, len: 1 + r % (extent - start), step: 1 }
            };
            add(g, Slice { ranges: vec![range] }.into(), &[x])
        }
        16 => {
            let (mut before, mut after) = (Extents::from_elem(0, rank), Extents::from_elem(0, rank));
            *before.get_mut(axis)? = q % 3;
            after[axis] = r % 3;
            let mode = [PadMode::Constant(0.5), PadMode::Edge, PadMode::Reflect][q / 4 % 3];
            add(g, Pad { before, after, mode }.into(), &[x])
        }
        17 => {
            let extent = dims.get(axis).copied()?;
            let indices: Vec<i64> = [q, r].map(|i| (i % extent) as i64).to_vec();
            let indices = g.add_const(Tensor::from_vec(Shape::known(&[2]), indices), Origin::none());
            add(g, Gather { axis }.into(), &[x, indices])
        }
        18 => {
            let size: Extents = dims.get(2..)?.iter().map(|d| d * (1 + q % 2) + p % 2).collect();
            let scale = size.iter().zip(&dims[2..]).map(|(&s, &d)| s as f32 / d as f32).collect();
            let mode = ResizeMode::Linear;
            add(g, Resize { size: Shape::known(&size), scale, mode, coordinates: Coordinates::HalfPixel }.into(), &[x])
        }
        19 if rank < 8 => {
            let shape: Shape = [1 + q % 2].into_iter().chain(dims.iter().copied()).collect();
            add(g, Expand { shape }.into(), &[x])
        }
        20 => recurrent(g, x, [p, q, r], origin),
        21 => sample(g, [x, y], [p, q, r], origin),
        22 => scatter(g, x, [p, q, r], origin),
        23 => add(g, Reverse { axes: smallvec![axis] }.into(), &[x]),
        _ => {
            let normalised = weights(g, &dims[axis.min(rank)..]);
            add(g, LayerNorm { axis, epsilon: 0.1 }.into(), &[x, normalised, normalised][..1 + q % 3])
        }
    }
}

/// Samples an image at constant positions, or at positions from another value.
fn sample(g: &mut Graph, [x, y]: [ValueId; 2], [p, q, r]: [usize; 3], origin: Origin) -> Option<ValueId> {
    let dims = g.ty(x).shape.extents().filter(|d| (3..=4).contains(&d.len()))?;
    let axes = dims.len() - 2;
    let at = |count: usize| match axes {
        1 => vec![dims[0], count, 1],
        _ => vec![dims[0], 1, count, 2],
    };
    let count = g.ty(y).shape.elements()?;
    let positions = if r % 2 == 0 && count.is_multiple_of(dims[0] * axes) {
        let shape = Shape::known(&at(count / (dims[0] * axes)));
        let flat = g.add1(Reshape { shape }, &[y], origin.clone()).ok()?;
        g.add1(Clamp { lo: -2.0, hi: 2.0 }, &[flat], origin.clone()).ok()?
    } else {
        g.add_const(numbers(Shape::known(&at(1 + q % 5)), r as u64), Origin::none())
    };
    let outside = [Outside::Zero, Outside::Edge, Outside::Reflect][q % 3];
    let mode = if p % 4 == 0 { SampleMode::Cubic } else { SampleMode::Linear };
    g.add1(GridSample { mode, outside, align_corners: p / 4 % 2 == 0 }, &[x, positions], origin).ok()
}

/// Updates slices along an axis, at constant indices, by other slices of the same value.
fn scatter(g: &mut Graph, x: ValueId, [p, q, r]: [usize; 3], origin: Origin) -> Option<ValueId> {
    let dims = g.ty(x).shape.extents().filter(|d| !d.is_empty())?;
    let count = 1 + q % dims[0].min(3);
    let updates = Slice { ranges: vec![Range { axis: 0, start: dims[0] - count, len: count, step: 1 }] };
    let updates = g.add1(updates, &[x], origin.clone()).ok()?;
    let indices = (0..count).map(|i| ((r + i * (p % 3)) % dims[0]) as i64).collect();
    let indices = g.add_const(Tensor::from_vec(Shape::known(&[count, 1]), indices), Origin::none());
    let f = [ScatterFn::Replace, ScatterFn::Add, ScatterFn::Mul, ScatterFn::Min, ScatterFn::Max][p / 3 % 5];
    g.add1(ScatterNd { f }, &[x, indices, updates], origin).ok()
}

/// A recurrent layer over the elements of `x` in a few steps; one of its results.
fn recurrent(g: &mut Graph, x: ValueId, [p, q, r]: [usize; 3], origin: Origin) -> Option<ValueId> {
    let count = g.ty(x).shape.elements()?;
    let steps = [4, 2, 5, 1].into_iter().cycle().skip(p % 4).find(|&s| count.is_multiple_of(s))?;
    let batch = if q % 2 == 0 && (count / steps).is_multiple_of(2) { 2 } else { 1 };
    let (inputs, hidden) = (count / steps / batch, 2);
    let x = g.add1(Reshape { shape: Shape::known(&[steps, batch, inputs]) }, &[x], origin.clone()).ok()?;
    let cells = [Cell::Lstm, Cell::Gru { reset_after: q % 3 == 0 }, Cell::Rnn { relu: q % 3 == 0 }];
    let cell = cells[p / 4 % 3];
    let mut operands = vec![x];
    let rows = cell.gates() * hidden;
    let states = std::iter::repeat_n(vec![batch, hidden], cell.states());
    for dims in [vec![rows, inputs], vec![rows, hidden], vec![cell.biases() * hidden]].into_iter().chain(states) {
        operands.push(g.add_const(numbers(Shape::known(&dims), (r + operands.len()) as u64), Origin::none()));
    }
    let op = Recurrent { cell, reverse: q / 2 % 2 == 0, clip: (q % 5 == 0).then_some(0.5) };
    let node = g.add(op, &operands, origin).ok()?;
    g.results(node).nth(r % (1 + cell.states()))
}

/// A convolution for an operand of extents `dims`, and the extents of its weight.
fn conv(dims: &[usize], [p, q, r]: [usize; 3]) -> Option<(Conv, Vec<usize>)> {
    let spatial = dims.len().checked_sub(2).filter(|&s| (1..=2).contains(&s))?;
    let groups = if p % 3 == 0 { dims[1] } else { 1 };
    let each = |n: usize| Extents::from_elem(n, spatial);
    let op = Conv {
        stride: each(1 + p / 3 % 2),
        before: each(q / 2 % 2),
        after: each(q / 4 % 2),
        dilation: each(1 + q / 8 % 2),
        groups,
    };
    let mut weight = vec![groups * (1 + q % 2), dims[1] / groups];
    weight.resize(2 + spatial, 1 + r % 3);
    Some((op, weight))
}

fn unary(q: usize) -> Op {
    use UnaryFn::*;
    let f = [
        Abs,
        Asinh,
        Atan,
        Neg,
        Sigmoid,
        Tanh,
        Silu,
        Erf,
        Softplus,
        HardSwish,
        Mish,
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        LeakyRelu { alpha: 0.1 },
        Elu { alpha: 1.0 },
        Gelu { tanh: false },
        Gelu { tanh: true },
    ];
    Unary { f: f[q % f.len()] }.into()
}

fn binary(q: usize) -> Op {
    use BinaryFn::*;
    Binary { f: [Add, Sub, Mul, Max, Min, SquaredDifference, Prelu][q % 7] }.into()
}

/// Adds quantized values, layouts, symbols and the constants, all of them outputs.
fn dress(g: &mut Graph, constants: Vec<Tensor>, [lo, hi]: [f32; 2], origins: &[(u8, String)]) {
    let origin = origins.iter().fold(Origin::none(), |all, (i, s)| {
        all.and(&match i % 2 {
            0 => Origin::new(s.as_str(), i.to_string()),
            _ => Origin::at_line(i.to_string(), s.as_str(), s.as_str()),
        })
    });
    for value in constants {
        let v = g.add_const(value, origin.clone());
        g.add_output("constant", v);
    }
    let open = Shape::from_iter([crate::types::Dim::symbol("batch size"), crate::types::Dim::Known(3)]);
    let open = g.add_input("open", TensorType::new(Elem::F32, open));
    let clamped = g.add1(Clamp { lo, hi }, &[open], origin.clone());
    let image = TensorType::f32(&[1, 2, 4, 5]);
    let physical = TensorType { layout: Layout::channels_last(4), ..image.clone() };
    let qparams =
        physical.with_elem(Elem::Quantized(QuantParams::per_tensor(StorageType::I8, lo.abs().clamp(1e-30, 1e30), -14)));
    let x = g.add_input("image", image.clone());
    let chain = clamped.and_then(|c| {
        g.add_output("clamped", c);
        let moved = g.add_typed(Relayout {}, &[x], smallvec![physical], origin.clone())?.value(0);
        let stored = g.add_typed(Quantize {}, &[moved], smallvec![qparams], origin)?.value(0);
        let back = g.add1(Relayout {}, &[stored], Origin::none())?;
        g.add(TopK { k: 2.into(), axis: 3, largest: true }, &[back], Origin::none())
    });
    if let Ok(top) = chain {
        g.add_output("values", top.value(0));
        g.add_output("indices", top.value(1));
    }
}

/// Constants of every element type, short and long, with numbers that are hard to print.
fn constant() -> impl Strategy<Value = Tensor> {
    (0u8..11, prop_oneof![Just(1usize), Just(3), Just(20)], any::<u64>(), 1e-30f32..1e30).prop_map(
        |(elem, n, seed, scale)| {
            let bits: Vec<u64> =
                (0..n as u64).map(|i| seed.rotate_left(7 * i as u32).wrapping_mul(2 * i + 1)).collect();
            let shape = Shape::known(&[n, 1]);
            let bytes: Vec<i8> = bits.iter().map(|&b| b as i8).collect();
            let on = |qparams: QuantParams| TensorType::new(Elem::Quantized(qparams), shape.clone());
            match elem {
                0 => Tensor::from_bools(shape, bits.iter().map(|b| b % 2 == 0)),
                1 => Tensor::from_vec(shape, bytes),
                2 => Tensor::from_vec(shape, bits.iter().map(|&b| b as u8).collect()),
                3 => Tensor::from_vec(shape, bits.iter().map(|&b| b as i16).collect()),
                4 => Tensor::from_vec(shape, bits.iter().map(|&b| b as i32).collect()),
                5 => Tensor::from_vec(shape, bits.iter().map(|&b| b as i64).collect()),
                6 => Tensor::from_vec(shape, bits.iter().map(|&b| f16::from_bits(b as u16)).collect()),
                7 => Tensor::from_vec(shape, bits.iter().map(|&b| f32::from_bits(b as u32)).collect()),
                8 => {
                    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN_POSITIVE];
                    Tensor::from_vec(shape, (0..n).map(|i| special[(i + bits[0] as usize % 6) % 6]).collect())
                }
                9 => Tensor::of(on(QuantParams::per_axis(StorageType::I8, 0, vec![scale; n])), bytes),
                _ => {
                    let scales: Vec<f32> = (1..=n.div_ceil(4)).map(|i| scale * i as f32).collect();
                    let nibbles: Vec<i8> = bytes.iter().map(|b| b >> 4).collect();
                    let zero_points: Vec<i8> = nibbles.iter().step_by(4).copied().collect();
                    let blocks = QuantParams::per_block_with_zero_points(StorageType::I4, 0, 4, scales, zero_points);
                    Tensor::of(on(blocks), nibbles)
                }
            }
        },
    )
}

fn odd_string() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("41".to_owned()),
        Just("output".to_owned()),
        Just("/model.0/conv/Conv_output_0".to_owned()),
        Just("onnx::Conv_12".to_owned()),
        Just("a//b".to_owned()),
        any::<String>(),
    ]
}

//! Graphs of one operator each, with many values of its attributes: for properties of single operators, such as those
//! of lowering.

use crate::graph::{Graph, Origin, ValueId};
use crate::ops::*;
use crate::types::{Elem, Shape, Tensor};

use super::numbers;

/// A graph of one operator, and inputs that it takes.
#[derive(Debug)]
pub struct Case {
    /// The graph; its name describes the case.
    pub graph: Graph,
    /// One tensor for each graph input.
    pub inputs: Vec<Tensor>,
}

/// All cases, which are always the same. All of them can be evaluated.
pub fn operators() -> Vec<Case> {
    cases(false)
}

/// The cases with single-precision operands, converted to 16-bit floats.
pub fn half_operators() -> Vec<Case> {
    cases(true)
}

fn cases(halves: bool) -> Vec<Case> {
    let mut all = Cases { halves, ..Cases::default() };
    for family in [
        resampling,
        sampling,
        boxes,
        pooling,
        convolutions,
        transposed_convolutions,
        pads,
        slices,
        movement,
        reductions,
        orders,
        gathers,
        scatters,
        functions,
        arithmetic,
        casts,
        products,
        normalisation,
        recurrences,
    ] {
        let before = all.cases.len();
        family(&mut all);
        assert!(halves || all.cases.len() > before, "a family without cases");
    }
    all.cases
}

/// An operand.
enum Arg {
    /// Only known at run time.
    Input(Tensor),
    Constant(Tensor),
}
use Arg::{Constant, Input};

#[derive(Default)]
struct Cases {
    cases: Vec<Case>,
    /// Single-precision operands become 16-bit floats; cases without such operands are skipped.
    halves: bool,
}

impl Cases {
    /// Adds a graph of this operator, if it takes these operands.
    fn add(&mut self, op: impl Into<Op>, mut args: Vec<Arg>) {
        let op = op.into();
        if self.halves {
            let tensors = args.iter_mut().map(|(Input(t) | Constant(t))| t);
            let wide: Vec<&mut Tensor> = tensors.filter(|t| t.ty().elem == Elem::F32).collect();
            if wide.is_empty() {
                return;
            }
            wide.into_iter().for_each(|t| *t = cast(t, &Elem::F16));
        }
        let mut graph = Graph::new(format!("{op:?}"));
        let mut inputs = Vec::new();
        let operands: Vec<ValueId> = args
            .into_iter()
            .enumerate()
            .map(|(i, arg)| match arg {
                Input(t) => {
                    let v = graph.add_input(format!("x{i}"), t.ty().clone());
                    inputs.push(t);
                    v
                }
                Constant(t) => graph.add_const(t, Origin::none()),
            })
            .collect();
        let Ok(node) = graph.add(op, &operands, Origin::new("node", "Op")) else { return };
        for v in graph.results(node).collect::<Vec<_>>() {
            graph.add_output(format!("y{}", v.port), v);
        }
        if crate::eval::Executor::new(&graph).run(&inputs, &mut |_, _| {}).is_ok() {
            self.cases.push(Case { graph, inputs });
        }
    }
}

fn known(t: Tensor, constant: bool) -> Arg {
    if constant { Constant(t) } else { Input(t) }
}

/// Floats between -2 and 2.
fn floats(dims: &[usize]) -> Tensor {
    spread(dims, 2.0)
}

fn spread(dims: &[usize], most: f32) -> Tensor {
    let t = numbers(Shape::known(dims), dims.iter().fold(7, |seed, &d| seed * 31 + d as u64));
    Tensor::from_vec(Shape::known(dims), t.floats().iter().map(|v| v * most).collect())
}

/// Integers in `low..high`, of an element type.
fn whole(dims: &[usize], elem: &Elem, [low, high]: [i64; 2]) -> Tensor {
    let noise = numbers(Shape::known(dims), dims.iter().fold(3, |seed, &d| seed * 29 + d as u64));
    let pick = |v: &f32| low + ((v + 1.0) / 2.0 * (high - low) as f32) as i64;
    let wide = Tensor::from_vec(Shape::known(dims), noise.floats().iter().map(pick).collect::<Vec<i64>>());
    cast(&wide, elem)
}

fn cast(t: &Tensor, to: &Elem) -> Tensor {
    let op: Op = Cast { to: to.clone() }.into();
    op.eval(&[t]).map_or_else(|_| t.clone(), |mut t| t.swap_remove(0))
}

/// Numbers of an element type: floats, or integers of either sign.
fn of(dims: &[usize], elem: &Elem) -> Tensor {
    match elem {
        Elem::F32 | Elem::F16 => cast(&floats(dims), elem),
        Elem::Bool => whole(dims, elem, [0, 2]),
        Elem::U8 => whole(dims, elem, [0, 200]),
        _ => whole(dims, elem, [-100, 101]),
    }
}

const ELEMENTS: [Elem; 8] = [Elem::F32, Elem::F16, Elem::I64, Elem::I32, Elem::I16, Elem::I8, Elem::U8, Elem::Bool];

fn list(values: &[usize]) -> Extents {
    values.into()
}

/// The first numbers of a list, one for each spatial axis.
fn first(values: &[usize], spatial: usize) -> Extents {
    values[..spatial].into()
}

fn resampling(all: &mut Cases) {
    use Coordinates::*;
    let nearest = [Nearest::PreferFloor, Nearest::PreferCeil, Nearest::Floor, Nearest::Ceil].map(ResizeMode::Nearest);
    let smooth = [ResizeMode::Linear, ResizeMode::Cubic { a: -0.75 }, ResizeMode::Cubic { a: -0.5 }];
    let images: [&[usize]; 6] = [&[1, 2, 5, 7], &[2, 1, 6, 4], &[1, 3, 1, 9], &[1, 2, 9], &[1, 2, 8], &[1, 2, 3, 4, 5]];
    let factors =
        [[0.5, 0.5, 0.5], [1.5, 1.7, 2.0], [2.0, 2.0, 2.0], [0.25, 0.7, 1.0], [1.0, 3.0, 0.34], [4.0, 1.3, 1.0]];
    for mode in nearest.into_iter().chain(smooth) {
        for coordinates in [HalfPixel, PytorchHalfPixel, Asymmetric, AlignCorners, HalfPixelForNearest] {
            if coordinates == HalfPixelForNearest && !matches!(mode, ResizeMode::Nearest(_)) {
                continue;
            }
            for (image, factors) in images.iter().flat_map(|i| factors.iter().map(move |f| (i, f))) {
                let extents = &image[2..];
                let size: Extents =
                    extents.iter().zip(factors).map(|(&n, f)| ((n as f32 * f).floor() as usize).max(1)).collect();
                let ratio = size.iter().zip(extents).map(|(&s, &n)| s as f32 / n as f32).collect();
                // Runtimes differ where the rounding of the scale decides between two elements.
                let rounds = matches!(mode, ResizeMode::Nearest(Nearest::PreferFloor | Nearest::PreferCeil));
                let halfway = |(&s, &n): (&usize, &usize)| {
                    !n.is_multiple_of(s) && (0..s).any(|i| (2 * i * n).is_multiple_of(s) && 2 * i * n / s % 2 == 1)
                };
                let undecided = rounds && coordinates == Asymmetric && size.iter().zip(extents).any(halfway);
                for scale in [factors[..extents.len()].to_vec(), ratio].into_iter().take(2 - usize::from(undecided)) {
                    all.add(Resize { size: Shape::known(&size), scale, mode, coordinates }, vec![Input(floats(image))]);
                }
            }
        }
    }
}

fn sampling(all: &mut Cases) {
    for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
        for outside in [Outside::Zero, Outside::Edge, Outside::Reflect] {
            for align_corners in [false, true] {
                for (image, at) in [([2, 3, 4, 5], [2, 3, 2, 2]), ([1, 2, 1, 4], [1, 2, 5, 2])] {
                    for constant in [false, true] {
                        let at = known(spread(&at, 1.6), constant);
                        all.add(GridSample { mode, outside, align_corners }, vec![Input(floats(&image)), at]);
                    }
                }
                let at = Input(spread(&[1, 3, 1, 2, 3], 1.6));
                all.add(GridSample { mode, outside, align_corners }, vec![Input(floats(&[1, 2, 3, 2, 4])), at]);
            }
        }
    }
}

/// Boxes within and beyond images, also smaller than one element.
fn boxes(all: &mut Cases) {
    let corners = [[0.5, 1.0, 6.2, 5.4], [-3.0, -2.5, 3.0, 9.0], [2.0, 2.0, 2.5, 2.25], [20.0, 20.0, 24.0, 24.0]];
    let corners = Tensor::from_vec(Shape::known(&[4, 4]), corners.concat());
    for f in [PoolFn::Average, PoolFn::Max] {
        for half_pixel in [false, true] {
            for (samples, images) in [(1, 2), (2, 1), (3, 2)] {
                let op = RoiAlign { f, size: [2, 3].into_iter().collect(), samples, scale: 0.5, half_pixel };
                let of = Tensor::from_vec(Shape::known(&[4]), [0i64, 1, 1, 0].map(|i| i % images as i64).to_vec());
                let x = floats(&[images, 3, 5, 4]);
                all.add(op, vec![Input(x), Input(corners.clone()), Input(of)]);
            }
        }
    }
    let (offsets, scores) = (spread(&[1, 6, 5], 5.0), floats(&[1, 6, 4]));
    let sides = floats(&[6, 4]).floats().iter().map(|v| v.abs()).collect::<Vec<f32>>();
    let anchors = Tensor::from_vec(Shape::known(&[6, 4]), sides);
    // LiteRT leaves the rows of boxes that are not found as they are, unless each class is suppressed on its own.
    for (of_class, classes_per_box, most) in [(None, 1, 2), (None, 2, 2), (Some(2), 1, 9), (Some(6), 1, 3)] {
        for classes in [4, 3] {
            let (score, overlap, scale) = (-9.0, 0.4, [10.0, 10.0, 5.0, 5.0]);
            let op = DetectionPostProcess { most, classes, classes_per_box, of_class, score, overlap, scale };
            all.add(op, vec![Input(offsets.clone()), Input(scores.clone()), Constant(anchors.clone())]);
        }
    }
}

/// Windows, strides, pads before, pads after and dilations, for three axes each.
fn windows() -> impl Iterator<Item = [[usize; 3]; 5]> {
    let windows = [[1, 1, 1], [2, 2, 2], [3, 2, 1], [3, 3, 2]];
    let strides = [[1, 1, 1], [2, 2, 2], [2, 3, 1]];
    let pads = [[[0; 3]; 2], [[1; 3]; 2], [[0, 1, 0], [1, 0, 2]], [[2, 0, 1], [0, 0, 0]], [[3; 3]; 2]];
    let dilations = [[1, 1, 1], [2, 1, 1], [2, 2, 3]];
    windows.into_iter().flat_map(move |w| {
        strides.into_iter().flat_map(move |s| {
            pads.into_iter().flat_map(move |[b, a]| dilations.into_iter().map(move |d| [w, s, b, a, d]))
        })
    })
}

const IMAGES: [&[usize]; 3] = [&[1, 4, 9], &[2, 4, 8, 7], &[1, 4, 5, 6, 7]];

fn pooling(all: &mut Cases) {
    for [window, stride, before, after, dilation] in windows() {
        for (image, f) in IMAGES.iter().flat_map(|i| [(i, PoolFn::Max), (i, PoolFn::Average)]) {
            let n = image.len() - 2;
            let op = Pool {
                f,
                window: first(&window, n),
                stride: first(&stride, n),
                before: first(&before, n),
                after: first(&after, n),
                dilation: first(&dilation, n),
            };
            // A window outside the image has no elements.
            let reach = |i: usize| dilation[i] * (window[i] - 1) + 1;
            if (0..n).all(|i| before[i].max(after[i]) < reach(i)) {
                all.add(op, vec![Input(floats(image))]);
            }
        }
    }
}

fn convolutions(all: &mut Cases) {
    for (i, [window, stride, before, after, dilation]) in windows().enumerate() {
        for (j, image) in IMAGES.iter().enumerate() {
            let n = image.len() - 2;
            let (groups, outputs) = [(1, 6), (2, 6), (4, 4), (4, 8)][(i + j) % 4];
            let op = Conv {
                stride: first(&stride, n),
                before: first(&before, n),
                after: first(&after, n),
                dilation: first(&dilation, n),
                groups,
            };
            let weight: Vec<usize> = [outputs, 4 / groups].iter().chain(&window[..n]).copied().collect();
            let constant = i % 5 != 0;
            let mut args = vec![Input(floats(image)), known(spread(&weight, 0.5), constant)];
            if i % 2 == 0 {
                args.push(known(floats(&[outputs]), constant));
            }
            all.add(op, args);
        }
    }
}

fn transposed_convolutions(all: &mut Cases) {
    let images: [&[usize]; 3] = [&[1, 4, 6], &[2, 4, 4, 5], &[1, 4, 3, 4, 3]];
    for (i, [window, stride, before, after, dilation]) in windows().enumerate() {
        for (j, (image, extra)) in images.iter().flat_map(|i| [(i, 0), (i, 1)]).enumerate() {
            let n = image.len() - 2;
            let (groups, outputs) = [(1, 3), (2, 3), (4, 1), (4, 2)][(i + j / 2) % 4];
            let op = ConvTranspose {
                stride: first(&stride, n),
                before: first(&before, n),
                after: first(&after, n),
                extra: (0..n).map(|a| extra.min(stride[a].max(dilation[a]) - 1)).collect(),
                dilation: first(&dilation, n),
                groups,
            };
            let weight: Vec<usize> = [4, outputs].iter().chain(&window[..n]).copied().collect();
            let mut args = vec![Input(floats(image)), known(spread(&weight, 0.5), i % 5 != 0)];
            if i % 2 == 0 {
                args.push(Constant(floats(&[outputs * groups])));
            }
            all.add(op, args);
        }
    }
}

fn pads(all: &mut Cases) {
    let shapes: [(&[usize], &[usize], &[usize]); 6] = [
        (&[5], &[2], &[1]),
        (&[4, 5], &[0, 1], &[3, 0]),
        (&[2, 3, 4], &[0, 2, 0], &[0, 0, 3]),
        (&[1, 2, 5, 4], &[0, 0, 1, 2], &[0, 0, 2, 0]),
        (&[1, 2, 5, 4], &[0, 1, 1, 0], &[0, 1, 0, 1]),
        (&[1, 2, 3, 2, 3], &[0, 0, 1, 0, 2], &[0, 1, 0, 1, 0]),
    ];
    let fills = [0.0, 3.0, -1.0, f32::NEG_INFINITY].map(PadMode::Constant);
    for mode in fills.into_iter().chain([PadMode::Edge, PadMode::Reflect]) {
        for (shape, before, after) in shapes {
            for elem in &ELEMENTS {
                let fits = match mode {
                    PadMode::Constant(v) => elem.is_float() || v.is_finite() && (v >= 0.0 || *elem != Elem::U8),
                    _ => true,
                };
                if fits {
                    all.add(Pad { before: list(before), after: list(after), mode }, vec![Input(of(shape, elem))]);
                }
            }
        }
    }
}

fn slices(all: &mut Cases) {
    for shape in [&[7][..], &[4, 7], &[2, 3, 7, 4], &[1, 2, 3, 7, 2]] {
        for axis in 0..shape.len() {
            for (start, step) in [(0, 1), (1, 1), (0, 2), (1, 3), (6, -1), (5, -2), (3, -1), (2, -3), (0, -1)] {
                for (i, len) in [1, 2, 3, 7].into_iter().enumerate() {
                    let range = Range { axis, start, len, step };
                    for elem in [&ELEMENTS[0], &ELEMENTS[1 + (i + axis) % 7]] {
                        all.add(Slice { ranges: vec![range] }, vec![Input(of(shape, elem))]);
                    }
                }
            }
        }
    }
    let both = [Range { axis: 0, start: 1, len: 1, step: 1 }, Range { axis: 2, start: 3, len: 2, step: -2 }];
    all.add(Slice { ranges: both.to_vec() }, vec![Input(floats(&[2, 3, 5]))]);
}

fn movement(all: &mut Cases) {
    for elem in &ELEMENTS {
        let x = |dims: &[usize]| vec![Input(of(dims, elem))];
        for shape in [&[24][..], &[2, 12], &[1, 2, 3, 4], &[4, 3, 2, 1], &[2, 1, 3, 2, 2]] {
            all.add(Reshape { shape: Shape::known(shape) }, x(&[2, 3, 4]));
        }
        for perm in [&[0, 2, 3, 1][..], &[3, 2, 1, 0], &[1, 0, 3, 2], &[0, 1, 3, 2], &[2, 3, 0, 1], &[0, 3, 1, 2]] {
            all.add(Transpose { perm: list(perm) }, x(&[2, 3, 4, 5]));
        }
        all.add(Transpose { perm: list(&[4, 0, 2, 1, 3]) }, x(&[2, 3, 2, 1, 3]));
        all.add(Transpose { perm: list(&[5, 1, 0, 2, 4, 3]) }, x(&[2, 3, 2, 1, 3, 2]));
        for axis in 0..3 {
            all.add(Reverse { axes: list(&[axis]) }, x(&[2, 3, 4]));
            let mut other = [2, 3, 4];
            other[axis] = 5;
            let parts = [[2, 3, 4], other, [2, 3, 4]].map(|dims| Input(of(&dims, elem)));
            all.add(Concat { axis }, parts.into_iter().collect());
        }
        all.add(Reverse { axes: list(&[0, 2]) }, x(&[2, 3, 4]));
        for repeats in [[1, 2, 1], [2, 1, 3], [1, 1, 4]] {
            all.add(Tile { repeats: list(&repeats) }, x(&[2, 3, 4]));
        }
        for (from, to) in [(&[3, 1][..], &[2, 3, 4][..]), (&[1], &[3, 4]), (&[2, 1, 4], &[2, 3, 4]), (&[], &[2, 2])] {
            all.add(Expand { shape: Shape::known(to) }, x(from));
        }
        for block in [1, 2, 3] {
            for channel_first in [false, true] {
                all.add(DepthToSpace { block, channel_first }, x(&[2, 2 * block * block, 2, 3]));
            }
            all.add(SpaceToDepth { block }, x(&[2, 2, 2 * block, 3 * block]));
        }
        for (c, a, b) in [(&[3, 4][..], &[3, 4][..], &[3, 4][..]), (&[4], &[2, 1, 4], &[3, 1]), (&[2, 3, 1], &[], &[4])]
        {
            let condition = Input(of(c, &Elem::Bool));
            all.add(Select {}, vec![condition, Input(of(a, elem)), Constant(of(b, elem))]);
        }
    }
}

fn reductions(all: &mut Cases) {
    use ReduceFn::*;
    for elem in &ELEMENTS {
        for f in [Sum, Mean, Max, Min, Prod, All, Any] {
            for (shape, axes) in [
                (&[6][..], &[0][..]),
                (&[3, 5], &[0]),
                (&[3, 5], &[0, 1]),
                (&[2, 3, 4], &[1]),
                (&[2, 3, 4, 5], &[2, 3]),
                (&[2, 3, 4, 5], &[1]),
                (&[2, 3, 4, 5], &[0, 3]),
                (&[1, 2, 3, 2, 3], &[2, 4]),
            ] {
                let x = match elem {
                    Elem::F32 | Elem::F16 => cast(&spread(shape, 1.2), elem),
                    Elem::Bool => whole(shape, elem, [0, 2]),
                    // Products of large numbers would exceed 32 bits.
                    Elem::U8 if f == Prod => whole(shape, elem, [0, 4]),
                    _ => whole(shape, elem, [-3, 4]),
                };
                for keep in [false, true] {
                    all.add(Reduce { f, axes: list(axes), keep }, vec![Input(x.clone())]);
                }
            }
        }
    }
}

fn orders(all: &mut Cases) {
    for elem in &ELEMENTS {
        for shape in [&[6][..], &[3, 5], &[2, 4, 3], &[2, 3, 4, 5]] {
            // Equal ones among them.
            let x = match elem {
                Elem::F32 | Elem::F16 => cast(&whole(shape, &Elem::I64, [-4, 5]), elem),
                _ => whole(shape, elem, if *elem == Elem::U8 { [0, 9] } else { [-4, 5] }),
            };
            for (axis, &extent) in shape.iter().enumerate() {
                for (largest, flag) in [(false, false), (false, true), (true, false), (true, true)] {
                    all.add(ArgReduce { axis, largest, keep: flag }, vec![Input(x.clone())]);
                    let k = if flag { extent } else { 2 };
                    all.add(TopK { k: k.into(), axis, largest }, vec![Input(x.clone())]);
                    all.add(CumSum { axis, exclusive: largest, reverse: flag }, vec![Input(x.clone())]);
                }
            }
        }
    }
}

/// Indices of axes of the given extents, as tuples along the last axis of the result where there are several: from the
/// start, or from either end.
fn indices(dims: &[usize], extents: &[usize], elem: &Elem, negative: bool) -> Tensor {
    let columns = extents.len().max(1);
    let noise = numbers(Shape::known(dims), 11 + columns as u64);
    let index = |(i, v): (usize, &f32)| {
        let extent = extents[i % columns] as i64;
        let place = (((v + 1.0) / 2.0 * extent as f32) as i64).min(extent - 1);
        if negative && (i / columns).is_multiple_of(2) { place - extent } else { place }
    };
    cast(
        &Tensor::from_vec(Shape::known(dims), noise.floats().iter().enumerate().map(index).collect::<Vec<i64>>()),
        elem,
    )
}

fn gathers(all: &mut Cases) {
    for (i, elem) in ELEMENTS.iter().enumerate() {
        for (constant, negative) in [(false, false), (false, true), (true, false), (true, true)] {
            let width = if i % 2 == 0 { Elem::I64 } else { Elem::I32 };
            let at = |dims: &[usize], extents: &[usize]| known(indices(dims, extents, &width, negative), constant);
            for (shape, axis) in [(&[6][..], 0), (&[4, 5], 1), (&[2, 3, 4], 1), (&[2, 3, 4, 5], 1), (&[2, 3, 4, 5], 3)]
            {
                let x = || Input(of(shape, elem));
                for dims in [&[][..], &[1], &[3], &[2, 3]] {
                    all.add(Gather { axis }, vec![x(), at(dims, &shape[axis..][..1])]);
                }
                let mut same = shape.to_vec();
                all.add(GatherElements { axis }, vec![x(), at(&same, &shape[axis..][..1])]);
                same[axis] = 2;
                all.add(GatherElements { axis }, vec![x(), at(&same, &shape[axis..][..1])]);
                same[0] = 1;
                all.add(GatherElements { axis }, vec![x(), at(&same, &shape[axis..][..1])]);
            }
            for (shape, batch, index) in [
                (&[6][..], 0, &[3, 1][..]),
                (&[4, 5], 0, &[3, 2]),
                (&[4, 5], 0, &[2, 2, 1]),
                (&[2, 3, 4], 1, &[2, 3, 1]),
                (&[2, 3, 4], 1, &[2, 2]),
                (&[2, 2, 3, 4], 2, &[2, 2, 3, 2]),
            ] {
                let tuple = index[index.len() - 1];
                all.add(GatherNd { batch }, vec![Input(of(shape, elem)), at(index, &shape[batch..batch + tuple])]);
            }
        }
    }
}

fn scatters(all: &mut Cases) {
    use ScatterFn::*;
    for (i, elem) in ELEMENTS.iter().enumerate() {
        for f in [Replace, Add, Mul, Min, Max] {
            for (constant, negative) in [(false, false), (false, true), (true, false), (true, true)] {
                let width = if i % 2 == 0 { Elem::I64 } else { Elem::I32 };
                for (shape, index) in
                    [(&[6][..], &[3, 1][..]), (&[4, 5], &[3, 1]), (&[4, 5], &[2, 2, 2]), (&[2, 3, 4], &[5, 2])]
                {
                    let (count, tuple) = index.split_at(index.len() - 1);
                    let places = indices(index, &shape[..tuple[0]], &width, negative);
                    let updates: Vec<usize> = count.iter().chain(&shape[tuple[0]..]).copied().collect();
                    let args = vec![Input(of(shape, elem)), known(places, constant), Input(of(&updates, elem))];
                    // The result of several updates of one element depends on their order.
                    if f != Replace || index[0] <= 3 {
                        all.add(ScatterNd { f }, args);
                    }
                }
            }
        }
    }
}

/// True for functions that subtract numbers that may be close to each other: the error of rounding to 16 bits is then
/// not bounded.
fn cancels(f: &UnaryFn) -> bool {
    matches!(f, UnaryFn::HardSigmoid { alpha, beta } if alpha * beta < 0.0)
}

fn functions(all: &mut Cases) {
    use UnaryFn::*;
    let plain = [
        Abs, Asinh, Atan, Ceil, Cos, Cosh, Erf, Exp, Floor, Neg, Reciprocal, Round, Sigmoid, Sign, Silu, Sin, Sinh,
        Softplus, Softsign, Tan, Tanh, HardSwish, Mish,
    ];
    let mut functions: Vec<UnaryFn> = plain.to_vec();
    functions.extend([Gelu { tanh: false }, Gelu { tanh: true }]);
    let factors = [1.0, 0.3, 0.0, -0.5, 2.0];
    functions.extend(factors.map(|alpha| LeakyRelu { alpha }));
    functions.extend(factors.map(|alpha| Elu { alpha }));
    functions.extend(factors.map(|alpha| Threshold { alpha }));
    functions.extend(factors.iter().flat_map(|&a| factors.map(|b| Selu { alpha: a, gamma: b })));
    functions.extend(factors.iter().flat_map(|&a| factors.map(|b| HardSigmoid { alpha: a, beta: b })));
    functions.push(HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 });
    let bounds = [f32::NEG_INFINITY, -1.0, 0.0, 1.0, 6.0, f32::INFINITY];
    for dims in [&[12][..], &[3, 4], &[1, 2, 3, 4]] {
        for most in [1.0, 8.0] {
            let mut x = spread(dims, most).floats().to_vec();
            x[..3].copy_from_slice(&[0.0, 1.0, -0.5]);
            let x = Tensor::from_vec(Shape::known(dims), x);
            functions.iter().for_each(|&f| all.add(Unary { f }, vec![Input(x.clone())]));
            let half = cast(&x, &Elem::F16);
            for &f in functions.iter().filter(|f| !cancels(f)) {
                all.add(Unary { f }, vec![Input(half.clone())]);
            }
            let positive: Vec<f32> = x.floats().iter().map(|v| v.abs() + 0.05).collect();
            for f in [Log, Sqrt, Rsqrt] {
                all.add(Unary { f }, vec![Input(Tensor::from_vec(Shape::known(dims), positive.clone()))]);
            }
        }
        for f in [Acos, Asin, Atanh] {
            all.add(Unary { f }, vec![Input(spread(dims, 0.95))]);
        }
        let above: Vec<f32> = spread(dims, 2.0).floats().iter().map(|v| v.abs() + 1.0).collect();
        all.add(Unary { f: Acosh }, vec![Input(Tensor::from_vec(Shape::known(dims), above))]);
        for elem in &ELEMENTS {
            for f in [Abs, Neg, Sign, Not] {
                all.add(Unary { f }, vec![Input(of(dims, elem))]);
            }
            for (lo, hi) in bounds.iter().flat_map(|&lo| bounds.map(|hi| (lo, hi))) {
                if lo <= hi && lo < f32::INFINITY && hi > f32::NEG_INFINITY && (*elem != Elem::U8 || lo >= 0.0) {
                    all.add(Clamp { lo, hi }, vec![Input(of(dims, elem))]);
                }
            }
        }
    }
}

fn arithmetic(all: &mut Cases) {
    use BinaryFn::*;
    let shapes: [[&[usize]; 2]; 6] = [
        [&[3, 4], &[3, 4]],
        [&[3, 4], &[4]],
        [&[2, 1, 4], &[3, 1]],
        [&[1, 3, 4, 5], &[3, 1, 1]],
        [&[4], &[2, 3, 4]],
        [&[2, 3, 2, 2, 2], &[]],
    ];
    for f in [
        Add,
        Sub,
        Mul,
        Div,
        FloorDiv,
        FloorMod,
        Rem,
        Pow,
        Max,
        Min,
        SquaredDifference,
        Prelu,
        Atan2,
        Equal,
        NotEqual,
        Less,
        LessEqual,
        Greater,
        GreaterEqual,
        And,
        Or,
        Xor,
    ] {
        for elem in &ELEMENTS {
            for (i, [a, b]) in shapes.into_iter().enumerate() {
                let (a, mut b) = (of(a, elem), of(b, elem));
                if matches!(f, Div | FloorDiv | FloorMod | Rem) {
                    b = divisors(&b);
                }
                let a = if f == Pow { powers(&a, &mut b) } else { a };
                all.add(Binary { f }, vec![Input(a), known(b, i % 2 == 1)]);
            }
        }
    }
}

/// Divisors from the numbers of a tensor: none near zero, and not -1, by which the smallest integer cannot be divided.
fn divisors(t: &Tensor) -> Tensor {
    let elem = &t.ty().elem;
    match t.integers() {
        Some(values) => {
            let apart = |v: i64| if (-1..=1).contains(&v) { 3 } else { v % 9 + if v < 0 { -2 } else { 2 } };
            cast(&Tensor::from_vec(t.ty().shape.clone(), values.into_iter().map(apart).collect::<Vec<i64>>()), elem)
        }
        None => {
            let apart = |v: &f32| if v.abs() < 0.2 { 0.7 } else { *v };
            cast(&Tensor::from_vec(t.ty().shape.clone(), t.floats().iter().map(apart).collect()), elem)
        }
    }
}

/// Bases and small exponents whose powers are in the range of the element type.
fn powers(base: &Tensor, exponent: &mut Tensor) -> Tensor {
    let elem = base.ty().elem.clone();
    let small = |t: &Tensor, by: i64| {
        let values = t.integers().unwrap_or_default().into_iter().map(|v| v.rem_euclid(by)).collect::<Vec<i64>>();
        cast(&Tensor::from_vec(t.ty().shape.clone(), values), &elem)
    };
    if elem.is_float() {
        return cast(
            &Tensor::from_vec(base.ty().shape.clone(), base.floats().iter().map(|v| v.abs() + 0.1).collect()),
            &elem,
        );
    }
    *exponent = small(exponent, 3);
    small(base, 5)
}

fn casts(all: &mut Cases) {
    for from in &ELEMENTS {
        for to in &ELEMENTS {
            for most in [3.0, 100.0, 300.0] {
                // Conversion of a float outside the range of the integer type is not defined.
                let lies_outside = from.is_float() && most > 100.0 && matches!(to, Elem::I8 | Elem::U8);
                let x = match from {
                    Elem::F32 | Elem::F16 if *to == Elem::U8 => cast(&spread(&[3, 4], most), from),
                    Elem::F32 | Elem::F16 => cast(&spread(&[3, 4], most), from),
                    _ => whole(&[3, 4], from, [-most as i64, most as i64]),
                };
                let unsigned = from.is_float() && *to == Elem::U8;
                let x = if unsigned {
                    cast(&Tensor::from_vec(Shape::known(&[3, 4]), x.floats().iter().map(|v| v.abs()).collect()), from)
                } else {
                    x
                };
                if !lies_outside {
                    all.add(Cast { to: to.clone() }, vec![Input(x)]);
                }
            }
        }
    }
}

fn products(all: &mut Cases) {
    let shapes: [[&[usize]; 2]; 7] = [
        [&[3, 4], &[4, 5]],
        [&[2, 3, 4], &[4, 5]],
        [&[2, 3, 4], &[2, 4, 5]],
        [&[2, 1, 3, 4], &[3, 4, 2]],
        [&[1, 3, 4], &[2, 4, 5]],
        [&[3, 4], &[1, 1, 4, 5]],
        [&[2, 2, 1, 3, 4], &[2, 1, 4, 2]],
    ];
    for [a, b] in shapes {
        for transpose_b in [false, true] {
            for constant in [false, true] {
                for bias in [false, true] {
                    let mut dims = b.to_vec();
                    let outputs = dims[dims.len() - 1];
                    if transpose_b {
                        let n = dims.len();
                        dims.swap(n - 1, n - 2);
                    }
                    let mut args = vec![Input(floats(a)), known(floats(&dims), constant)];
                    if bias {
                        args.push(Constant(floats(&[outputs])));
                    }
                    all.add(MatMul { transpose_b }, args);
                }
            }
        }
    }
}

fn normalisation(all: &mut Cases) {
    for shape in [&[5][..], &[2, 3], &[2, 3, 4], &[2, 3, 4, 5], &[1, 2, 3, 2, 2]] {
        for axis in 0..shape.len() {
            for log in [false, true] {
                all.add(Softmax { axis, log }, vec![Input(floats(shape))]);
            }
            for (epsilon, affine) in [(1e-5, 0), (0.1, 1), (1e-5, 2)] {
                let parameters = std::iter::repeat_with(|| Constant(floats(&shape[axis..]))).take(affine);
                all.add(LayerNorm { axis, epsilon }, [Input(floats(shape))].into_iter().chain(parameters).collect());
            }
        }
    }
}

fn recurrences(all: &mut Cases) {
    for cell in Cell::ALL {
        for (reverse, clip) in [(false, None), (true, None), (false, Some(0.4)), (true, Some(0.4))] {
            for (steps, batch, constant) in [(4, 2, true), (1, 1, true), (3, 1, false), (17, 2, true), (19, 1, false)] {
                let (rows, bias) = (cell.gates() * 3, cell.biases() * 3);
                let mut args = vec![Input(floats(&[steps, batch, 5]))];
                args.extend([&[rows, 5][..], &[rows, 3], &[bias]].map(|dims| known(spread(dims, 0.8), constant)));
                args.extend((0..cell.states()).map(|_| Input(floats(&[batch, 3]))));
                all.add(Recurrent { cell, reverse, clip }, args);
            }
        }
    }
}

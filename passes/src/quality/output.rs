//! What the outputs of a model represent, and the agreement of two models on them.

use std::collections::BTreeSet;
use std::ops::Range;

use qcc_ir::ops::{BinaryFn, Concat, Op, Softmax, Transpose, Unary, UnaryFn};
use qcc_ir::{Dim, Elem, Graph, NodeId, Tensor, ValueId};
use serde::Serialize;

use super::boxes::{BoxAgreement, Boxes, Outputs};
use super::distance::Distance;
use crate::pattern::is_known;

/// What is known about a model besides its graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The model is a classifier: a vector output has class scores.
    pub classifies: bool,
    /// The model is a detector with this number of classes.
    pub detects: Option<usize>,
}

/// What an output represents.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputKind {
    /// Floats without a known meaning.
    Values,
    /// Class scores along an axis; the class is that of the largest score.
    Scores {
        /// The axis.
        axis: usize,
    },
    /// Independent probabilities, each compared with a threshold.
    Decisions,
    /// Embeddings: vectors along an axis whose direction matters.
    Vectors {
        /// The axis.
        axis: usize,
    },
    /// Integers or truth values.
    Labels,
    /// Integers or floats in an order that depends on computed scores.
    Ranked,
    /// As many entries along an axis as the model finds by computed scores.
    Found {
        /// The axis.
        axis: usize,
    },
    /// Boxes of a detector.
    Boxes(Boxes),
}

/// The agreement of two models on an output in percent, and the measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// What is counted.
    pub measure: &'static str,
    /// 100 if the models agree on all.
    pub percent: f64,
    /// The number of counted items: boxes of the float model, classes, pixels or vectors.
    pub of: usize,
}

/// The measure for boxes.
pub const BOXES_MEASURE: &str = "boxes mAP50-95";

/// The measure for as many entries as are found: those that both models find, of those of both.
const FOUND_MEASURE: &str = "same finds";

/// With fewer boxes, a single one is worth 10 % or more.
const FEW_BOXES: usize = 10;

impl Agreement {
    /// True if so few boxes are counted that one of them decides.
    pub fn is_of_few_boxes(&self) -> bool {
        self.measure == BOXES_MEASURE && self.of < FEW_BOXES
    }

    /// True if a difference of so many percentage points shows: in cosines, and in counts of as many items.
    pub fn shows(&self, points: f64) -> bool {
        self.measure == "cosine" || points * self.of as f64 >= 100.0
    }

    /// True if that is enough for most uses. One or two wrong items may be chance.
    pub fn is_usable(&self) -> bool {
        let wrong = (100.0 - self.percent) / 100.0 * self.of as f64;
        match self.measure {
            "cosine" => self.percent >= 98.0,
            BOXES_MEASURE | FOUND_MEASURE => self.percent >= self.least(),
            _ => self.percent >= 95.0 || wrong < 2.5,
        }
    }

    /// The minimum agreement of a useful model, in percent.
    pub fn least(&self) -> f64 {
        match self.measure {
            // Corresponds to an SQNR of 10 dB.
            "cosine" => 95.0,
            // The measure also counts box precision. With few boxes only lost ones are significant.
            BOXES_MEASURE if self.of < FEW_BOXES => 30.0,
            BOXES_MEASURE => 75.0,
            // A place nearby is as good.
            FOUND_MEASURE => 50.0,
            _ => 90.0,
        }
    }
}

/// Sizes of embeddings are nearly always a multiple of this number, numbers of classes rarely.
const VECTOR: usize = 64;
/// The maximum number of classes of a segmentation map.
const MAP_CLASSES: usize = 256;
/// The minimum number of classes of a sequence of scores.
const VOCABULARY: usize = 1000;
/// The threshold for probabilities.
const DECIDED: f32 = 0.5;
/// Parts of a concatenated output are compared separately if their magnitudes differ by a larger factor.
const UNLIKE: f64 = 8.0;

impl OutputKind {
    /// Determines what output `i` of a float graph represents, from the graph, the hints and the values of the outputs
    /// for one sample.
    pub fn of(g: &Graph, i: usize, outputs: &Outputs<'_>, hints: Hints) -> Self {
        let v = g.outputs()[i].value;
        let Some(value) = outputs[i] else { return OutputKind::Values };
        let dims = value.dims();
        let (found, ranked) = (found_axis(g, v), is_ranked(g, v));
        if (found.is_some() || ranked)
            && let Some(boxes) = Boxes::apart(i, outputs)
        {
            return OutputKind::Boxes(boxes);
        }
        if let Some(axis) = found {
            return OutputKind::Found { axis };
        }
        if !value.ty().elem.real().is_float() {
            return if ranked && dims.last().is_some_and(|&n| n > 1) { OutputKind::Ranked } else { OutputKind::Labels };
        }
        let boxes = match ranked {
            true => Boxes::selected(value),
            false => Boxes::raw(value, &places(g), hints.detects),
        };
        if let Some(boxes) = boxes {
            return OutputKind::Boxes(boxes);
        }
        if ranked {
            return OutputKind::Ranked;
        }
        let rank = dims.len();
        if let Some(axis) = softmax_axis(g, v).filter(|&a| dims[a] > 1) {
            return OutputKind::Scores { axis };
        }
        if is_probability(g, v) {
            return OutputKind::Decisions;
        }
        let last = rank.wrapping_sub(1);
        if (2..=3).contains(&rank) && dims[last] > 1 && is_unit(value) {
            return OutputKind::Vectors { axis: last };
        }
        let others_score = || {
            let mut others = (0..g.outputs().len()).filter(|&o| o != i);
            others.any(|o| softmax_axis(g, g.outputs()[o].value).is_some())
        };
        match *dims.as_slice() {
            [_, n] if n > 1 && hints.classifies => OutputKind::Scores { axis: 1 },
            [_, n] if n > 1 && n.is_multiple_of(VECTOR) => OutputKind::Vectors { axis: 1 },
            [_, n] if n > 1 && is_linear(g, v) && !others_score() => OutputKind::Scores { axis: 1 },
            [_, _, n] if n.is_multiple_of(VECTOR) => OutputKind::Vectors { axis: 2 },
            [_, _, n] if n >= VOCABULARY => OutputKind::Scores { axis: 2 },
            [_, _, _, _] => map_axis(g, &dims).map_or(OutputKind::Values, |axis| OutputKind::Scores { axis }),
            _ => OutputKind::Values,
        }
    }

    fn measure(&self, dims: &[usize]) -> &'static str {
        match self {
            OutputKind::Values => "",
            OutputKind::Scores { .. } if dims.len() > 3 => "pixels of the same class",
            OutputKind::Scores { .. } => "top-1",
            OutputKind::Decisions => "F1 of decisions at 0.5",
            OutputKind::Vectors { .. } => "cosine",
            OutputKind::Labels => "equal labels",
            OutputKind::Ranked => "same entries",
            OutputKind::Found { .. } => FOUND_MEASURE,
            OutputKind::Boxes(_) => BOXES_MEASURE,
        }
    }
}

/// The number of classes whose scores a float graph computes; `None` where it does not tell.
pub fn classes(g: &Graph, hints: Hints) -> Option<usize> {
    let of = |v: ValueId| {
        let dims = g.ty(v).shape.dims();
        let linear = || is_linear(g, v) && g.outputs().len() == 1;
        let axis = softmax_axis(g, v).or_else(|| (dims.len() == 2 && (hints.classifies || linear())).then_some(1))?;
        dims[axis].known().filter(|&n| n > 1 && (hints.classifies || !n.is_multiple_of(VECTOR)))
    };
    let scored: BTreeSet<usize> = g.outputs().iter().filter_map(|o| of(o.value)).collect();
    hints.detects.or_else(|| scored.first().copied().filter(|_| scored.len() == 1))
}

/// The producer of a value, skipping operators that only move elements.
fn behind_moves(g: &Graph, mut v: ValueId) -> ValueId {
    while let Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Cast(_) | Op::Dequantize(_) = g.producer(v) {
        v = g.operands(v.node)[0];
    }
    v
}

/// True if the order of the elements depends on scores that the model computes.
fn is_ranked(g: &Graph, v: ValueId) -> bool {
    let ranks = |n: NodeId| match g.op(n) {
        Op::TopK(op) => op.k != 1.into(),
        Op::DetectionPostProcess(_) => true,
        _ => false,
    };
    let computed = |n: NodeId| is_computed(g, g.operands(n)[0]);
    ancestors(g, v).into_iter().any(|n| ranks(n) && computed(n))
}

/// The axis of `v` with as many entries as an operator finds in what the model computes.
fn found_axis(g: &Graph, v: ValueId) -> Option<usize> {
    let axis = g.ty(v).shape.computed_axis()?;
    let counts = |n: NodeId| g.op(n).defines().iter().any(|symbol| g.op(n).counted(symbol).is_some());
    let finds = |n: NodeId| counts(n) && g.operands(n).into_iter().any(|v| contracts(g, v));
    ancestors(g, v).into_iter().any(finds).then_some(axis)
}

/// True if `v` depends on a contraction of float values.
fn is_computed(g: &Graph, v: ValueId) -> bool {
    g.ty(v).elem.real().is_float() && contracts(g, v)
}

/// True if `v` depends on a contraction.
fn contracts(g: &Graph, v: ValueId) -> bool {
    ancestors(g, v).into_iter().any(|n| g.op(n).is_contraction())
}

fn ancestors(g: &Graph, v: ValueId) -> BTreeSet<NodeId> {
    let (mut seen, mut stack) = (BTreeSet::from([v.node]), vec![v.node]);
    while let Some(n) = stack.pop() {
        stack.extend(g.operands(n).iter().map(|v| v.node).filter(|&n| seen.insert(n)));
    }
    seen
}

/// True if `v` is the result of a layer with constant weights, after moving, shifting, scaling or averaging only.
fn is_linear(g: &Graph, v: ValueId) -> bool {
    let v = behind_moves(g, v);
    let operands = g.operands(v.node);
    let known = |v: &ValueId| is_known(g, *v);
    match g.producer(v) {
        Op::Binary(b) if matches!(b.f, BinaryFn::Add | BinaryFn::Sub | BinaryFn::Mul | BinaryFn::Div) => {
            operands.iter().any(known) && operands.iter().filter(|v| !known(v)).all(|&v| is_linear(g, v))
        }
        Op::Reduce(_) | Op::Pool(_) => is_linear(g, operands[0]),
        _ => g.op(v.node).is_contraction() && known(&operands[1]),
    }
}

/// The axis of `v` along which a preceding softmax sums to 1.
fn softmax_axis(g: &Graph, v: ValueId) -> Option<usize> {
    match g.producer(v) {
        Op::Softmax(Softmax { axis, .. }) => Some(*axis),
        Op::Transpose(Transpose { perm }) => {
            let before = softmax_axis(g, g.operands(v.node)[0])?;
            perm.iter().position(|&a| a == before)
        }
        // The axis is the one with the same extent, if that is unique.
        Op::Reshape(_) => {
            let before = g.operands(v.node)[0];
            let extent = g.ty(before).shape.dims()[softmax_axis(g, before)?].clone();
            let mut same = g.ty(v).shape.dims().iter().enumerate().filter(|(_, d)| **d == extent);
            same.next().filter(|_| same.next().is_none()).map(|(a, _)| a)
        }
        Op::Slice(_) | Op::Cast(_) => softmax_axis(g, g.operands(v.node)[0]),
        _ => None,
    }
}

fn is_probability(g: &Graph, v: ValueId) -> bool {
    let f = |n: ValueId| match g.producer(n) {
        Op::Unary(Unary { f }) => Some(*f),
        _ => None,
    };
    matches!(f(behind_moves(g, v)), Some(UnaryFn::Sigmoid | UnaryFn::HardSigmoid { .. }))
}

/// True if every row has a norm of 1.
fn is_unit(value: &Tensor) -> bool {
    let Some(&n) = value.dims().last() else { return false };
    let length = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    value.floats().chunks_exact(n.max(1)).all(|row| (length(row) - 1.0).abs() < 1e-3)
}

/// The height and the width of the input image of a graph, and whether channels are last.
fn picture(g: &Graph) -> Option<(usize, usize, bool)> {
    g.inputs().find_map(|v| match *g.ty(v).shape.dims() {
        [_, Dim::Known(1 | 3), Dim::Known(h), Dim::Known(w)] => Some((h, w, false)),
        [_, Dim::Known(h), Dim::Known(w), Dim::Known(1 | 3)] => Some((h, w, true)),
        _ => None,
    })
}

/// The numbers of positions of detectors with the usual strides for the input image.
fn places(g: &Graph) -> Vec<usize> {
    const STRIDES: [&[usize]; 4] = [&[8, 16, 32], &[8, 16, 32, 64], &[4, 8, 16, 32], &[16, 32]];
    let Some((h, w, _)) = picture(g) else { return Vec::new() };
    let count = |strides: &&[usize]| strides.iter().map(|s| h.div_ceil(*s) * w.div_ceil(*s)).sum::<usize>();
    STRIDES.iter().map(count).flat_map(|n| [n, n * 3]).filter(|&n| n > 0).collect()
}

/// The class axis of a segmentation map at the resolution of the image, or at a half or a quarter of it.
fn map_axis(g: &Graph, dims: &[usize]) -> Option<usize> {
    let (h, w, last) = picture(g)?;
    let (axis, height, width) = if last { (3, dims[1], dims[2]) } else { (1, dims[2], dims[3]) };
    let classes = dims[axis];
    let fine = [1, 2, 4].into_iter().any(|s| (h.div_ceil(s), w.div_ceil(s)) == (height, width));
    // Three channels are an image.
    let told_apart = classes > 1 && classes != 3 && classes <= MAP_CLASSES && !classes.is_multiple_of(VECTOR);
    (fine && told_apart).then_some(axis)
}

/// A part of an output whose elements have one meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The name of the part.
    pub name: String,
    /// The distance from the expected values.
    pub distance: Distance,
    axis: usize,
    range: Range<usize>,
}

/// The comparison of an output over samples.
#[derive(Clone, Debug)]
pub struct OutputQuality {
    /// The name of the output.
    pub name: String,
    /// What it represents, known after the first sample.
    pub kind: Option<OutputKind>,
    /// The distance from the expected values. It is meaningless for ranked lists.
    pub distance: Distance,
    /// Its parts, if it concatenates values with different meanings.
    pub parts: Vec<Part>,
    dims: Vec<usize>,
    tally: Tally,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    /// The weighted number of items that agree, and of all items.
    agree: f64,
    all: f64,
    boxes: BoxAgreement,
}

impl OutputQuality {
    /// An output without samples.
    pub fn new(name: impl Into<String>) -> Self {
        let (distance, tally) = (Distance::default(), Tally::default());
        OutputQuality { name: name.into(), kind: None, distance, parts: Vec::new(), dims: Vec::new(), tally }
    }

    /// Adds output `i` of a sample, if it is in both. `expected` are the outputs of graph `g`.
    pub fn add(&mut self, g: &Graph, i: usize, hints: Hints, expected: &Outputs<'_>, found: &Outputs<'_>) {
        if expected[i].is_none() || found[i].is_none() {
            return;
        }
        // What a model finds nothing in does not tell what an output represents.
        if self.kind.is_none() || self.dims.contains(&0) {
            self.kind = Some(OutputKind::of(g, i, expected, hints));
            self.dims.clear();
        }
        let Some(kind) = &self.kind else { return };
        let own = |outputs: &Outputs<'_>| match kind {
            OutputKind::Boxes(boxes) => boxes.whole(i, outputs),
            _ => outputs[i].cloned(),
        };
        let (Some(expected), Some(found)) = (own(expected), own(found)) else { return };
        let dims = expected.dims();
        if self.dims.is_empty() {
            self.dims.clone_from(&dims);
            self.parts = parts(g, i, kind, &expected);
        }
        // What is found has neither an order nor a number of its own.
        if !matches!(kind, OutputKind::Found { .. } | OutputKind::Boxes(Boxes::Apart { .. })) {
            let (x, y) = (expected.floats(), found.floats());
            if x.len() != y.len() {
                self.distance.add(Distance::of(&[f32::NAN], &[0.0]));
                return;
            }
            self.distance.add(Distance::of(&x, &y));
            for part in &mut self.parts {
                part.distance.add(Distance::of_part(&x, &y, &dims, part.axis, &part.range));
            }
        }
        self.tally.add(kind, &dims, &expected, &found);
    }

    /// The SQNR in dB, that of the worst part if the output has several. `None` if it is meaningless.
    pub fn sqnr(&self) -> Option<f64> {
        let ranked = match &self.kind {
            Some(OutputKind::Ranked | OutputKind::Found { .. } | OutputKind::Labels) => true,
            Some(OutputKind::Boxes(boxes)) => boxes.is_selected(),
            Some(_) | None => false,
        };
        let parts = self.parts.iter().map(|p| p.distance.sqnr()).reduce(f64::min);
        (!ranked).then(|| parts.unwrap_or_else(|| self.distance.sqnr()))
    }

    /// For boxes: the square of their mean error, if there are any. It changes steadily with errors, which the agreement does
    /// not.
    pub fn box_noise(&self) -> Option<f64> {
        self.tally.boxes.noise()
    }

    /// For boxes: the sum of the scores of all candidates, which tells how much the samples show of objects.
    pub fn box_weight(&self) -> f64 {
        self.tally.boxes.weight()
    }

    /// The agreement, if it is defined for what the output represents.
    pub fn agreement(&self) -> Option<Agreement> {
        let kind = self.kind.as_ref()?;
        let tally = &self.tally;
        let (share, of) = match kind {
            OutputKind::Values => return None,
            OutputKind::Boxes(_) => (tally.boxes.precision()?, tally.boxes.expected),
            _ => ((tally.all > 0.0).then(|| tally.agree / tally.all)?, tally.all as usize),
        };
        Some(Agreement { measure: kind.measure(&self.dims), percent: share * 100.0, of })
    }
}

impl Tally {
    fn add(&mut self, kind: &OutputKind, dims: &[usize], expected: &Tensor, found: &Tensor) {
        let (x, y) = (expected.floats(), found.floats());
        match kind {
            OutputKind::Values => {}
            OutputKind::Found { axis } => self.find(*axis, expected, found),
            OutputKind::Scores { axis } => {
                for (a, b) in lines(dims, *axis, &x).zip(lines(dims, *axis, &y)) {
                    self.count(largest(&a) == largest(&b));
                }
            }
            OutputKind::Decisions => {
                // F1 score: 2 * true positives over the positives of both.
                for (a, b) in x.iter().zip(y.iter()).map(|(a, b)| (*a >= DECIDED, *b >= DECIDED)) {
                    self.agree += if a && b { 2.0 } else { 0.0 };
                    self.all += f64::from(u8::from(a) + u8::from(b));
                }
            }
            OutputKind::Vectors { axis } => {
                for (a, b) in lines(dims, *axis, &x).zip(lines(dims, *axis, &y)) {
                    let cosine = Distance::of(&a, &b).cosine();
                    self.agree += if cosine.is_finite() { cosine } else { 0.0 };
                    self.all += 1.0;
                }
            }
            OutputKind::Labels => x.iter().zip(y.iter()).for_each(|(a, b)| self.count(a == b)),
            OutputKind::Ranked => {
                let row = dims.last().copied().unwrap_or(1).max(1);
                if expected.ty().elem.real() == Elem::F32 {
                    return;
                }
                for (a, b) in x.chunks_exact(row).zip(y.chunks_exact(row)) {
                    let entries: BTreeSet<u32> = b.iter().map(|v| v.to_bits()).collect();
                    a.iter().for_each(|v| self.count(entries.contains(&v.to_bits())));
                }
            }
            OutputKind::Boxes(boxes) => self.boxes.add(boxes, expected, found),
        }
    }

    /// Counts the entries that both found. Floating-point numbers are never exactly the same.
    fn find(&mut self, axis: usize, expected: &Tensor, found: &Tensor) {
        if expected.ty().elem.real() == Elem::F32 {
            return;
        }
        let entries = |t: &Tensor| -> Vec<Vec<u32>> {
            let dims = t.dims();
            let inner = dims[axis + 1..].iter().product::<usize>().max(1);
            let mut entries = vec![Vec::new(); dims[axis]];
            let places = (0..).map(|i| i / inner % dims[axis].max(1));
            t.floats().iter().zip(places).for_each(|(value, place)| entries[place].push(value.to_bits()));
            entries
        };
        let (a, b) = (entries(expected), entries(found));
        let known: BTreeSet<&Vec<u32>> = a.iter().collect();
        self.agree += 2.0 * b.iter().filter(|entry| known.contains(entry)).count() as f64;
        self.all += (a.len() + b.len()) as f64;
    }

    fn count(&mut self, agrees: bool) {
        self.agree += f64::from(u8::from(agrees));
        self.all += 1.0;
    }
}

/// The slices of elements along an axis.
fn lines<'v>(dims: &[usize], axis: usize, values: &'v [f32]) -> impl Iterator<Item = Vec<f32>> + 'v {
    let (extent, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let count = values.len() / extent.max(1);
    (0..count).map(move |k| {
        let first = k / inner.max(1) * extent * inner + k % inner.max(1);
        (0..extent).map(|i| values[first + i * inner]).collect()
    })
}

/// The index of the largest element, the first if there are several.
fn largest(line: &[f32]) -> usize {
    (1..line.len()).fold(0, |best, i| if line[i] > line[best] { i } else { best })
}

/// The parts of an output with several meanings: those of a detector, or the operands of a concatenation with different
/// magnitudes.
fn parts(g: &Graph, i: usize, kind: &OutputKind, value: &Tensor) -> Vec<Part> {
    let dims = value.dims();
    let part = |name: String, axis, range| Part { name, distance: Distance::default(), axis, range };
    if let OutputKind::Boxes(boxes) = kind {
        let numbers = |axis: usize| dims[axis];
        let axis = if let Boxes::Raw { axis, .. } = boxes { *axis } else { 2 };
        let named = boxes.parts(numbers(axis)).into_iter();
        return named.map(|(name, axis, range)| part(name.into(), axis, range)).collect();
    }
    let v = g.outputs()[i].value;
    let Op::Concat(Concat { axis }) = g.producer(v) else { return Vec::new() };
    let extents = g.operands(v.node).into_iter().map(|o| g.ty(o).shape.dims()[*axis].known());
    let Some(extents) = extents.collect::<Option<Vec<usize>>>() else { return Vec::new() };
    if *kind == OutputKind::Ranked || !value.ty().elem.real().is_float() || extents.iter().sum::<usize>() != dims[*axis]
    {
        return Vec::new();
    }
    let (values, mut first) = (value.floats(), 0);
    let zeros = vec![0.0; values.len()];
    let mut found = Vec::new();
    for extent in extents {
        let range = first..first + extent;
        first += extent;
        let energy = Distance::of_part(&values, &zeros, &dims, *axis, &range).signal();
        let count = values.len() / dims[*axis] * extent;
        let magnitude = (energy / count.max(1) as f64).sqrt();
        found.push((part(format!("[{}..{}]", range.start, range.end), *axis, range), magnitude));
    }
    let magnitudes = || found.iter().map(|f| f.1).filter(|m| *m > 0.0);
    let spread = magnitudes().fold(0.0, f64::max) / magnitudes().fold(f64::INFINITY, f64::min);
    if spread > UNLIKE { found.into_iter().map(|f| f.0).collect() } else { Vec::new() }
}

//! Boxes that detectors give, and how well those of two models agree.

use std::ops::Range;

use qcc_ir::Tensor;

/// How a rank-3 output holds boxes.
#[derive(Clone, Debug, PartialEq)]
pub enum Boxes {
    /// Every place of the picture has a box: centre, width and height, then scores of classes.
    Raw {
        /// The axis along which the numbers of one box lie, 1 or 2.
        axis: usize,
        /// The number before the scores that says whether there is anything: every score is multiplied by it.
        objectness: bool,
        /// Where the scores of the classes lie along the axis.
        scores: Range<usize>,
    },
    /// The model selects boxes itself: rows of two corners, a score and a class.
    Selected,
}

/// A box, its score and its class. Corners in the model's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Detection {
    corners: [f32; 4],
    score: f32,
    class: usize,
}

/// Boxes of the expected model with less are no objects.
const OBJECT: f32 = 0.3;
/// Boxes of the other model with less are not looked at.
const CANDIDATE: f32 = 0.05;
/// Boxes of one class that overlap by more are one, in outputs that hold a box for every place.
const SAME: f32 = 0.7;
/// Boxes of a picture that compete, at most.
const MOST: usize = 1000;
/// Numbers of the first sample that are looked at to tell what an output holds.
const CLASSES: usize = 4096;

impl Boxes {
    /// What `output`, one sample of a rank-3 output, holds if it is a detector's. `places` says how many places a picture
    /// of the model's size has; `classes`, where it is known, how many classes there are.
    pub(super) fn raw(output: &Tensor, places: &[usize], classes: Option<usize>) -> Option<Boxes> {
        let &[1, rows, columns] = output.dims().as_slice() else { return None };
        let (axis, numbers) = match (places.contains(&columns), places.contains(&rows)) {
            (true, _) => (1, rows),
            (_, true) => (2, columns),
            _ => return None,
        };
        if !(5..=CLASSES).contains(&numbers) {
            return None;
        }
        let values = output.reals();
        let line = |k: usize| -> Box<dyn Iterator<Item = f32> + '_> {
            match axis {
                1 => Box::new(values[k * columns..(k + 1) * columns].iter().copied()),
                _ => Box::new(values.iter().skip(k).step_by(columns).copied()),
            }
        };
        // Sizes are no negative numbers.
        if [2, 3].into_iter().any(|k| line(k).any(|x| !x.is_finite() || x < 0.0)) {
            return None;
        }
        let is_score = |k: usize| line(k).all(|x| (-1e-4..=1.0001).contains(&x));
        // Detectors that put the boxes first in memory say apart whether there is an object.
        let objectness = axis == 2 && classes.is_none_or(|c| numbers > 4 + c);
        let first = if objectness { 5 } else { 4 };
        let count = classes.unwrap_or_else(|| (first..numbers).take_while(|&k| is_score(k)).count());
        let scores = first..first + count;
        let fits = count > 0 && scores.end <= numbers && (4..scores.end).all(is_score);
        fits.then_some(Boxes::Raw { axis, objectness, scores })
    }

    /// What `output` holds if its rows are selected boxes.
    pub(super) fn selected(output: &Tensor) -> Option<Boxes> {
        let &[1, boxes, numbers] = output.dims().as_slice() else { return None };
        if boxes == 0 || numbers < 6 {
            return None;
        }
        let values = output.reals();
        let row = |r: &[f32]| {
            let corners = r[4] < CANDIDATE || (r[2] >= r[0] && r[3] >= r[1]);
            corners && (-1e-4..=1.0001).contains(&r[4]) && r[5].round() == r[5] && (-1.0..1e5).contains(&r[5])
        };
        values.chunks_exact(numbers).all(row).then_some(Boxes::Selected)
    }

    /// Ranges of an output along one axis whose numbers are of different kinds.
    pub(super) fn parts(&self, numbers: usize) -> Vec<(&'static str, usize, Range<usize>)> {
        match self {
            Boxes::Raw { axis, objectness, scores } => {
                let first = if *objectness { 4 } else { scores.start };
                let all = [("boxes", 0..4), ("scores", first..scores.end), ("coefficients", scores.end..numbers)];
                all.into_iter().filter(|(_, r)| !r.is_empty()).map(|(name, r)| (name, *axis, r)).collect()
            }
            Boxes::Selected => Vec::new(),
        }
    }

    fn detections(&self, output: &Tensor, least: f32) -> Vec<Detection> {
        let (dims, values) = (output.dims(), output.reals());
        match self {
            Boxes::Selected => {
                let detection = |r: &[f32]| Detection {
                    corners: [r[0], r[1], r[2], r[3]],
                    score: r[4],
                    class: r[5].round().max(0.0) as usize,
                };
                values.chunks_exact(dims[2]).filter(|r| r[4] >= least).map(detection).collect()
            }
            Boxes::Raw { axis, objectness, scores } => {
                let (count, stride, step) = if *axis == 1 { (dims[2], 1, dims[2]) } else { (dims[1], dims[2], 1) };
                let at = |i: usize, k: usize| values[i * stride + k * step];
                let detection = |i: usize| {
                    let best = scores.clone().max_by(|&a, &b| at(i, a).total_cmp(&at(i, b)))?;
                    let score = at(i, best) * if *objectness { at(i, 4) } else { 1.0 };
                    let [x, y, w, h] = [0, 1, 2, 3].map(|k| at(i, k));
                    let corners = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
                    (score >= least).then_some(Detection { corners, score, class: best - scores.start })
                };
                separate((0..count).filter_map(detection).collect())
            }
        }
    }
}

/// Leaves the best of the boxes that are one.
fn separate(mut all: Vec<Detection>) -> Vec<Detection> {
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    all.truncate(MOST);
    let mut kept: Vec<Detection> = Vec::new();
    for d in all {
        if kept.iter().all(|k| k.class != d.class || overlap(&k.corners, &d.corners) <= SAME) {
            kept.push(d);
        }
    }
    kept
}

/// Intersection over union.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let area = |c: &[f32; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let both = side(0) * side(1);
    both / (area(a) + area(b) - both + 1e-9)
}

/// Overlaps from which a box counts as found.
fn thresholds() -> [f32; 10] {
    std::array::from_fn(|i| 0.5 + 0.05 * i as f32)
}

/// The boxes of all pictures so far: those that were expected and what was found of them.
#[derive(Clone, Debug, Default)]
pub(super) struct BoxAgreement {
    pub(super) expected: usize,
    /// For each box that was found: its score, and at which of the thresholds it is one of those expected.
    found: Vec<(f32, [bool; 10])>,
}

impl BoxAgreement {
    /// Adds a picture.
    pub(super) fn add(&mut self, boxes: &Boxes, expected: &Tensor, found: &Tensor) {
        let (truth, mut found) = (boxes.detections(expected, OBJECT), boxes.detections(found, CANDIDATE));
        self.expected += truth.len();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut matched = vec![(0.0, [false; 10]); found.len()];
        for (level, threshold) in thresholds().into_iter().enumerate() {
            let mut used = vec![false; truth.len()];
            for (d, entry) in found.iter().zip(&mut matched) {
                let fits = |i: &usize| !used[*i] && truth[*i].class == d.class;
                let near = |i: usize| overlap(&truth[i].corners, &d.corners);
                let best = (0..truth.len()).filter(fits).max_by(|&a, &b| near(a).total_cmp(&near(b)));
                entry.0 = d.score;
                if let Some(i) = best.filter(|&i| near(i) >= threshold) {
                    (used[i], entry.1[level]) = (true, true);
                }
            }
        }
        self.found.extend(matched);
    }

    /// The mean over the thresholds of the average precision, 0 to 1. `None` where no box was expected.
    pub(super) fn precision(&self) -> Option<f64> {
        if self.expected == 0 {
            return None;
        }
        let mut ranked = self.found.clone();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        let at = |level: usize| average_precision(ranked.iter().map(|(_, hits)| hits[level]), self.expected);
        Some((0..10).map(at).sum::<f64>() / 10.0)
    }
}

/// The mean precision at 101 levels of recall, as COCO evaluates detectors.
fn average_precision(hits: impl Iterator<Item = bool>, expected: usize) -> f64 {
    let mut right = 0;
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for (i, hit) in hits.enumerate() {
        right += usize::from(hit);
        curve.push((right as f64 / expected as f64, right as f64 / (i + 1) as f64));
    }
    // Precision at a recall is the best that any higher recall has.
    for i in (1..curve.len()).rev() {
        curve[i - 1].1 = curve[i - 1].1.max(curve[i].1);
    }
    let at = |recall: f64| curve.iter().find(|(r, _)| *r >= recall).map_or(0.0, |(_, p)| *p);
    (0..=100).map(|i| at(f64::from(i) / 100.0)).sum::<f64>() / 101.0
}

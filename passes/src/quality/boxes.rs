//! Detector outputs as boxes, and the agreement of the boxes of two models.

use std::ops::Range;

use qcc_ir::{Shape, Tensor};

/// The outputs of a model for one sample, in the order of the graph; `None` where one cannot be evaluated.
pub type Outputs<'a> = [Option<&'a Tensor>];

/// The format of the boxes of a detector.
#[derive(Clone, Debug, PartialEq)]
pub enum Boxes {
    /// One box for each position of the image: centre, width and height, then class scores.
    Raw {
        /// The axis of the numbers of one box, 1 or 2.
        axis: usize,
        /// True if an objectness score precedes the class scores and is multiplied with each.
        objectness: bool,
        /// The indices of the class scores along the axis.
        scores: Range<usize>,
    },
    /// The model selects boxes itself (NMS): rows of two corners, a score and a class.
    Selected,
    /// As `Selected`, but scores and classes are outputs of their own: their indices.
    Apart {
        /// The output of the scores.
        scores: usize,
        /// The output of the classes.
        classes: usize,
    },
}

/// A box with its score and class. Corners are in the units of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Detection {
    corners: [f32; 4],
    score: f32,
    class: usize,
}

/// Boxes of the reference model with a lower score are not counted as objects.
const OBJECT: f32 = 0.3;
/// Boxes of the other model with a lower score are ignored.
const CANDIDATE: f32 = 0.05;
/// The IoU above which boxes of one class are duplicates, for `Raw` outputs (NMS threshold).
const SAME: f32 = 0.7;
/// The error of a candidate that is not found: one more lost box does not outweigh all others.
const LOST: f32 = 0.25;
/// The maximum number of candidate boxes for each image.
const MOST: usize = 1000;
/// The maximum number of elements of the first sample that are inspected to recognize an output.
const CLASSES: usize = 4096;

impl Boxes {
    /// Recognizes `output`, one sample of a rank-3 output, as boxes. `places` are the possible numbers of positions for
    /// the input size of the model. `classes` is the number of classes, if known.
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
        let values = output.floats();
        let line = |k: usize| -> Box<dyn Iterator<Item = f32> + '_> {
            match axis {
                1 => Box::new(values[k * columns..(k + 1) * columns].iter().copied()),
                _ => Box::new(values.iter().skip(k).step_by(columns).copied()),
            }
        };
        // Widths and heights are not negative.
        if [2, 3].into_iter().any(|k| line(k).any(|x| !x.is_finite() || x < 0.0)) {
            return None;
        }
        let is_score = |k: usize| line(k).all(|x| (-1e-4..=1.0001).contains(&x));
        // Detectors with the boxes on axis 1 have an objectness score.
        let objectness = axis == 2 && classes.is_none_or(|c| numbers > 4 + c);
        let first = if objectness { 5 } else { 4 };
        let count = classes.unwrap_or_else(|| (first..numbers).take_while(|&k| is_score(k)).count());
        let scores = first..first + count;
        let fits = count > 0 && scores.end <= numbers && (4..scores.end).all(is_score);
        fits.then_some(Boxes::Raw { axis, objectness, scores })
    }

    /// Recognizes `output` as selected boxes.
    pub(super) fn selected(output: &Tensor) -> Option<Boxes> {
        let &[1, boxes, numbers] = output.dims().as_slice() else { return None };
        if boxes == 0 || numbers < 6 {
            return None;
        }
        let values = output.floats();
        let row = |r: &[f32]| {
            let corners = r[4] < CANDIDATE || (r[2] >= r[0] && r[3] >= r[1]);
            corners && (-1e-4..=1.0001).contains(&r[4]) && r[5].round() == r[5] && (-1.0..1e5).contains(&r[5])
        };
        values.chunks_exact(numbers).all(row).then_some(Boxes::Selected)
    }

    /// Recognizes output `i` as the corners of selected boxes whose scores and classes are other outputs. Where the values
    /// do not tell these apart, the classes are the first ones.
    pub(super) fn apart(i: usize, outputs: &Outputs<'_>) -> Option<Boxes> {
        let corners = outputs[i]?;
        let (dims, is_float) = (corners.dims(), |t: &Tensor| t.ty().elem.real().is_float());
        let (4, list) = dims.split_last()? else { return None };
        if !is_float(corners) || corners.is_empty() || !(1..=2).contains(&list.len()) {
            return None;
        }
        let lists = || (0..outputs.len()).filter_map(|o| Some((o, outputs[o].filter(|t| t.dims() == list)?)));
        let whole = |v: f32| v.round() == v && (-1.0..1e5).contains(&v);
        let (classes, _) = lists().find(|(_, t)| t.floats().iter().all(|&v| whole(v)))?;
        let is_score = |t: &Tensor| is_float(t) && t.floats().iter().all(|v| (-1e-4..=1.0001).contains(v));
        let (scores, _) = lists().find(|&(o, t)| o != classes && is_score(t))?;
        Some(Boxes::Apart { scores, classes })
    }

    /// The boxes of output `i` in one tensor: rows of corners, a score and a class where these are apart.
    pub(super) fn whole(&self, i: usize, outputs: &Outputs<'_>) -> Option<Tensor> {
        let Boxes::Apart { scores, classes } = self else { return outputs[i].cloned() };
        let (corners, scores, classes) =
            (outputs[i]?.floats(), outputs[*scores]?.floats(), outputs[*classes]?.floats());
        let rows = corners.chunks_exact(4).zip(scores.iter().zip(classes.iter()));
        let rows: Vec<f32> = rows.flat_map(|(at, (score, class))| at.iter().chain([score, class]).copied()).collect();
        Some(Tensor::from_vec(Shape::known(&[1, rows.len() / 6, 6]), rows))
    }

    /// True if the model selects the boxes, so that they have no order and no number of their own.
    pub(super) fn is_selected(&self) -> bool {
        !matches!(self, Boxes::Raw { .. })
    }

    /// The ranges of an output along one axis whose elements have different meanings.
    pub(super) fn parts(&self, numbers: usize) -> Vec<(&'static str, usize, Range<usize>)> {
        match self {
            Boxes::Raw { axis, objectness, scores } => {
                let first = if *objectness { 4 } else { scores.start };
                let all = [("boxes", 0..4), ("scores", first..scores.end), ("coefficients", scores.end..numbers)];
                all.into_iter().filter(|(_, r)| !r.is_empty()).map(|(name, r)| (name, *axis, r)).collect()
            }
            Boxes::Selected | Boxes::Apart { .. } => Vec::new(),
        }
    }

    fn detections(&self, output: &Tensor, least: f32) -> Vec<Detection> {
        let (dims, values) = (output.dims(), output.floats());
        match self {
            Boxes::Selected | Boxes::Apart { .. } => {
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

/// Non-maximum suppression.
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

/// The IoU thresholds of COCO.
fn thresholds() -> [f32; 10] {
    std::array::from_fn(|i| 0.5 + 0.05 * i as f32)
}

/// The expected boxes of all images so far, and the boxes that were found.
#[derive(Clone, Debug, Default)]
pub(super) struct BoxAgreement {
    pub(super) expected: usize,
    /// For each found box: its score, and for each threshold whether it matches an expected box.
    found: Vec<(f32, [bool; 10])>,
    /// The sum of the errors of places and scores of expected candidates, weighted by their scores, and that of the
    /// weights.
    noise: f64,
    weight: f64,
}

impl BoxAgreement {
    /// Adds an image.
    pub(super) fn add(&mut self, boxes: &Boxes, expected: &Tensor, found: &Tensor) {
        let (mut truth, mut found) = (boxes.detections(expected, CANDIDATE), boxes.detections(found, CANDIDATE));
        for t in &truth {
            let same = found.iter().filter(|d| d.class == t.class).map(|d| (overlap(&t.corners, &d.corners), d.score));
            let (near, score) = same.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, 0.0));
            let error = (1.0 - near + (score - t.score).abs()).min(LOST);
            self.noise += f64::from(t.score * error);
            self.weight += f64::from(t.score);
        }
        truth.retain(|t| t.score >= OBJECT);
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

    /// The square of the mean error of places (one minus the overlap) and scores, over all candidates, weighted by score:
    /// a measure that changes steadily with errors, which the average precision does not. `None` without candidates.
    pub(super) fn noise(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| (self.noise / self.weight).powi(2))
    }

    /// The sum of the scores of all candidates.
    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    /// The average precision, averaged over the thresholds, from 0 to 1. `None` if no box was expected.
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

/// The precision averaged over 101 recall levels, as in the COCO evaluation.
fn average_precision(hits: impl Iterator<Item = bool>, expected: usize) -> f64 {
    let mut right = 0;
    let mut curve: Vec<(f64, f64)> = Vec::new();
    for (i, hit) in hits.enumerate() {
        right += usize::from(hit);
        curve.push((right as f64 / expected as f64, right as f64 / (i + 1) as f64));
    }
    // The precision at a recall level is the maximum over all higher levels.
    for i in (1..curve.len()).rev() {
        curve[i - 1].1 = curve[i - 1].1.max(curve[i].1);
    }
    let at = |recall: f64| curve.iter().find(|(r, _)| *r >= recall).map_or(0.0, |(_, p)| *p);
    (0..=100).map(|i| at(f64::from(i) / 100.0)).sum::<f64>() / 101.0
}

#[cfg(test)]
mod tests {
    use qcc_ir::Shape;

    use super::*;

    /// The noise of one box whose left edge is moved, with another score.
    fn noise(moved: f32, score: f32) -> f64 {
        let boxes =
            |left: f32, score: f32| Tensor::from_vec(Shape::known(&[1, 1, 6]), vec![left, 0., 100., 100., score, 2.]);
        let mut agreement = BoxAgreement::default();
        agreement.add(&Boxes::Selected, &boxes(0.0, 0.8), &boxes(moved, score));
        agreement.noise().unwrap()
    }

    #[test]
    fn noise_grows_steadily_with_errors() {
        assert_eq!(noise(0.0, 0.8), 0.0);
        assert!((noise(10.0, 0.8) - 0.01).abs() < 1e-6, "{}", noise(10.0, 0.8));
        assert!((noise(0.0, 0.7) - 0.01).abs() < 1e-6, "{}", noise(0.0, 0.7));
        assert!(noise(1.0, 0.8) < noise(2.0, 0.8) && noise(2.0, 0.8) < noise(60.0, 0.8));
        assert_eq!(noise(60.0, 0.8), noise(80.0, 0.1));
        assert_eq!(BoxAgreement::default().noise(), None);
    }
}

//! Operators on boxes.

use smallvec::smallvec;

use crate::ops::{DetectionPostProcess, NonMaxSuppression, Tensors};
use crate::types::{Shape, Tensor};

/// See [`NonMaxSuppression`].
pub(crate) fn non_max_suppression(op: &NonMaxSuppression, boxes: &Tensor, scores: &Tensor) -> Tensor {
    let (dims, corners, scores) = (scores.dims(), boxes.floats(), scores.floats());
    let (classes, count) = (dims[1], dims[2]);
    let mut rows: Vec<i64> = Vec::new();
    for image in 0..dims[0] {
        let boxes: Vec<Area> = corners[image * count * 4..][..count * 4].chunks_exact(4).map(Area::of).collect();
        for class in 0..classes {
            let scores = &scores[(image * classes + class) * count..][..count];
            let kept = of_class(op.most, op.overlap, op.score, &boxes, scores);
            rows.extend(kept.into_iter().flat_map(|b| [image, class, b].map(|i| i as i64)));
        }
    }
    Tensor::from_vec(Shape::known(&[rows.len() / 3, 3]), rows)
}

/// The indices of the boxes of one class. The limits are those of [`NonMaxSuppression`].
fn of_class(most: usize, overlap: f32, score: Option<f32>, boxes: &[Area], scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| score.is_none_or(|least| scores[i] > least)).collect();
    sort(&mut order, scores);
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if kept.len() == most {
            break;
        }
        if !kept.iter().any(|&k| boxes[i].overlap(&boxes[k]) > overlap) {
            kept.push(i);
        }
    }
    kept
}

/// Sorts indices of scores, the highest first. Of equal ones the first comes first.
fn sort(indices: &mut [usize], scores: &[f32]) {
    indices.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
}

/// See [`DetectionPostProcess`].
pub(crate) fn detection_post_process(op: &DetectionPostProcess, operands: &[&Tensor]) -> Tensors {
    let (offsets, scores, anchors) = (operands[0].floats(), operands[1].floats(), operands[2].floats());
    let (count, of_box, all) = (operands[0].dims()[1], operands[0].dims()[2], operands[1].dims()[2]);
    let corners: Vec<[f32; 4]> =
        (0..count).map(|i| corners(&offsets[i * of_box..][..4], &anchors[i * 4..][..4], op.scale)).collect();
    let boxes: Vec<Area> = corners.iter().map(|corners| Area::of(corners)).collect();
    let of = |i: usize| &scores[i * all..][all - op.classes..all];
    let suppressed = |scores: &[f32]| of_class(op.selected(), op.overlap, Some(op.below()), &boxes, scores);

    // Rows of a box, a class and a score.
    let mut rows: Vec<(usize, usize, f32)> = Vec::new();
    let found = if op.of_class.is_some() {
        for class in 0..op.classes {
            let scores: Vec<f32> = (0..count).map(|i| of(i)[class]).collect();
            rows.extend(suppressed(&scores).into_iter().map(|i| (i, class, scores[i])));
        }
        rows.sort_by(|a, b| b.2.total_cmp(&a.2));
        rows.truncate(op.most);
        rows.len()
    } else {
        let best: Vec<f32> = (0..count).map(|i| of(i).iter().copied().reduce(f32::max).unwrap_or(0.0)).collect();
        let kept = suppressed(&best);
        for &i in &kept {
            let mut classes: Vec<usize> = (0..op.classes).collect();
            sort(&mut classes, of(i));
            rows.extend(classes[..op.named()].iter().map(|&class| (i, class, of(i)[class])));
        }
        kept.len()
    };

    let (each, padded) = (op.named(), op.most * op.classes_per_box);
    let (mut at, mut classes, mut best) = (vec![0.0f32; padded * 4], vec![0.0f32; padded], vec![0.0f32; padded]);
    for (r, &(i, class, score)) in rows.iter().enumerate() {
        let row = if op.of_class.is_some() { r } else { r / each * op.classes_per_box + r % each };
        at[row * 4..][..4].copy_from_slice(&corners[i]);
        (classes[row], best[row]) = (class as f32, score);
    }
    smallvec![
        Tensor::from_vec(Shape::known(&[1, padded, 4]), at),
        Tensor::from_vec(Shape::known(&[1, padded]), classes),
        Tensor::from_vec(Shape::known(&[1, padded]), best),
        Tensor::from_vec(Shape::known(&[1]), vec![found as f32]),
    ]
}

/// The corners of a box: y, x, y, x.
fn corners(offsets: &[f32], anchor: &[f32], scale: [f32; 4]) -> [f32; 4] {
    let part = |i: usize| f64::from(offsets[i]) / f64::from(scale[i]);
    let centre = |axis: usize| (part(axis) * f64::from(anchor[2 + axis]) + f64::from(anchor[axis])) as f32;
    let half = |axis: usize| (0.5 * libm::exp(part(2 + axis)) * f64::from(anchor[2 + axis])) as f32;
    let ([y, x], [h, w]) = ([0, 1].map(centre), [0, 1].map(half));
    [y - h, x - w, y + h, x + w]
}

/// The area of a box: the ends of its sides.
struct Area {
    low: [f32; 2],
    high: [f32; 2],
}

impl Area {
    fn of(corners: &[f32]) -> Self {
        let ends = |f: fn(f32, f32) -> f32| [f(corners[0], corners[2]), f(corners[1], corners[3])];
        Area { low: ends(f32::min), high: ends(f32::max) }
    }

    fn size(&self) -> f32 {
        (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
    }

    /// The intersection over union; 0 for boxes without an area.
    fn overlap(&self, other: &Area) -> f32 {
        let side = |axis: usize| (self.high[axis].min(other.high[axis]) - self.low[axis].max(other.low[axis])).max(0.0);
        let (both, areas) = (side(0) * side(1), [self.size(), other.size()]);
        if areas.iter().any(|&size| size <= 0.0) { 0.0 } else { both / (areas[0] + areas[1] - both) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(most: usize, score: Option<f32>) -> Vec<i64> {
        let op = NonMaxSuppression { most, overlap: 0.5, score, count: "n".into() };
        // The second box is most of the first, its corners in another order; the last one has no area.
        let boxes = [[0., 0., 1., 1.], [1., 1., 0., 0.1], [0., 2., 1., 3.], [0.5, 0.5, 0.5, 0.5]].concat();
        let scores = vec![0.9, 0.95, 0.9, 0.1, 0.2, 0.1, 0.3, 0.3];
        let out = non_max_suppression(
            &op,
            &Tensor::from_vec(Shape::known(&[1, 4, 4]), boxes),
            &Tensor::from_vec(Shape::known(&[1, 2, 4]), scores),
        );
        assert_eq!(out.dims().len(), 2);
        out.integers().unwrap()
    }

    #[test]
    fn boxes_that_overlap_a_better_one_are_left_out() {
        let all = [[0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 1, 2], [0, 1, 3], [0, 1, 0]].concat();
        assert_eq!(found(9, None), all);
        assert_eq!(found(1, None), [[0, 0, 1], [0, 1, 2]].concat());
        assert_eq!(found(9, Some(0.3)), [[0, 0, 1], [0, 0, 2]].concat());
        assert_eq!(found(0, None), []);
    }
}

//! Operators on boxes.

use crate::ops::NonMaxSuppression;
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
            rows.extend(of_class(op, &boxes, scores).into_iter().flat_map(|b| [image, class, b].map(|i| i as i64)));
        }
    }
    Tensor::from_vec(Shape::known(&[rows.len() / 3, 3]), rows)
}

/// The indices of the boxes of one class.
fn of_class(op: &NonMaxSuppression, boxes: &[Area], scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&i| op.score.is_none_or(|least| scores[i] > least)).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if kept.len() == op.most {
            break;
        }
        if !kept.iter().any(|&k| boxes[i].overlap(&boxes[k]) > op.overlap) {
            kept.push(i);
        }
    }
    kept
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

//! Operators on boxes.

use serde::{Deserialize, Serialize};

use super::{Extents, Operator, PoolFn, Types, arity, float, one, refuse, refuse_element, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Elem, TensorType};

/// Non-maximum suppression: for each image and class, the boxes by score, the highest first, without those that overlap
/// one before them. Of equal scores the first box comes first.
///
/// Operands are `F32`: boxes `[images, boxes, 4]`, two opposite corners each as y, x, y, x; and scores
/// `[images, classes, boxes]`. The result is `I64`, `[count, 3]`: the indices of the image, the class and the box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NonMaxSuppression {
    /// The maximum number of boxes of a class.
    pub most: usize,
    /// The intersection over union above which a box overlaps another.
    pub overlap: f32,
    /// Boxes with this score or a lower one are left out.
    pub score: Option<f32>,
    /// The symbol of the number of boxes.
    pub count: String,
}

impl Operator for NonMaxSuppression {
    const NAME: &'static str = "non_max_suppression";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 2, 2)?;
        if let Some(i) = (0..2).find(|&i| operands[i].elem != Elem::F32) {
            return Err(refuse_element(operands, i, "f32"));
        }
        let &[images, boxes, four] = &operands[0].shape.dims() else {
            return Err(refuse(operands, 0, "boxes of rank 3"));
        };
        if four.known() != Some(4) {
            return Err(refuse(operands, 0, "four numbers for each box"));
        }
        let &[of, _, scores] = &operands[1].shape.dims() else {
            return Err(refuse(operands, 1, "scores of rank 3"));
        };
        if of.agreed(images).is_none() || scores.agreed(boxes).is_none() {
            return Err(refuse(operands, 1, format!("scores of {images} images, of {boxes} boxes for each class")));
        }
        let count = Dim::computed(self.count.as_str());
        one(Elem::I64, [count, Dim::Known(3)].into_iter().collect())
    }
}

/// Bilinear samples of boxes of images, pooled: x `[N, C, H, W]`, boxes `[R, 4]` of the same element type, two opposite
/// corners each as x, y, x, y, and the index of the image of each box (`I64` or `I32`, `[R]`) to `[R, C, size..]`.
///
/// A box is divided into `size` bins, and each bin into `samples` along both axes, whose centres are sampled. Samples
/// further than one element outside the image are 0, others outside are those of the nearest edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoiAlign {
    /// The reduction of the samples of a bin. `Max` takes the largest product of an element and its weight, not the
    /// largest sample.
    pub f: PoolFn,
    /// The numbers of bins along y and x.
    pub size: Extents,
    /// The number of samples of a bin along each axis; 0 for as many as it has elements, rounded up.
    pub samples: usize,
    /// The elements of x for one unit of the boxes.
    pub scale: f32,
    /// Element `i` is at `i + 0.5` of the scaled boxes, not at `i`, and boxes may be smaller than one element.
    pub half_pixel: bool,
}

impl Operator for RoiAlign {
    const NAME: &'static str = "roi_align";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 3, 3)?;
        float(operands, 0)?;
        same_elem(operands, 0, 1)?;
        if !matches!(operands[2].elem, Elem::I64 | Elem::I32) {
            return Err(refuse_element(operands, 2, "integers (i64 or i32)"));
        }
        let &[_, channels, height, width] = &operands[0].shape.dims() else {
            return Err(refuse(operands, 0, "images of rank 4"));
        };
        if [height, width].contains(&&Dim::Known(0)) {
            return Err(refuse(operands, 0, "an image with elements"));
        }
        let (&[boxes, four], &[of]) = (&operands[1].shape.dims(), &operands[2].shape.dims()) else {
            return Err(refuse(operands, 1, "a row for each box, and one index of an image for it"));
        };
        if four.known() != Some(4) {
            return Err(refuse(operands, 1, "four numbers for each box"));
        }
        let Some(boxes) = boxes.agreed(of) else {
            return Err(refuse(operands, 2, format!("one index for each of {boxes} boxes")));
        };
        if self.size.len() != 2 || self.size.contains(&0) {
            return Err(TypeError::Attribute(format!("bins {:?}; expected two positive numbers", self.size)));
        }
        let size = self.size.iter().map(|&n| Dim::Known(n));
        one(operands[0].elem.clone(), [boxes, channels.clone()].into_iter().chain(size).collect())
    }
}

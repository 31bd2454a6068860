//! Operators on boxes.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use super::{Extents, Operator, PoolFn, Types, arity, float, one, refuse, refuse_element, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Elem, Shape, TensorType};

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

/// The boxes that a detector finds in an image: offsets from anchors are decoded, and those that overlap better ones are
/// left out.
///
/// Operands are `F32`: offsets `[1, boxes, 4 or more]`, the first four of which are y, x, height and width; scores
/// `[1, boxes, classes]`, before which one for the background may stand; anchors `[boxes, 4]`, the centre and the sides
/// of each as y, x, height, width. A box is at `offset / scale * side + centre`, and its sides are
/// `exp(offset / scale) * side`. The results are `F32`, of `n = most * classes_per_box` rows: boxes `[1, n, 4]`, two
/// opposite corners each as y, x, y, x; their classes and scores `[1, n]`, the highest first; and the number of boxes
/// `[1]`. Rows behind them are 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionPostProcess {
    /// The maximum number of boxes.
    pub most: usize,
    /// The number of classes.
    pub classes: usize,
    /// The number of rows for each box. Boxes that are chosen without regard to their class have the best ones in them.
    pub classes_per_box: usize,
    /// The maximum number of boxes of a class, which overlap boxes of their own class only. `None`: a box has its best
    /// class, and overlaps those of all classes.
    pub of_class: Option<usize>,
    /// Boxes with a lower score are left out.
    pub score: f32,
    /// The intersection over union above which a box overlaps another.
    pub overlap: f32,
    /// The divisors of the offsets: y, x, height, width.
    pub scale: [f32; 4],
}

impl DetectionPostProcess {
    /// The number of rows of the results.
    fn rows(&self) -> Option<usize> {
        self.most.checked_mul(self.classes_per_box)
    }

    /// The maximum number of boxes that a suppression of one class selects.
    pub fn selected(&self) -> usize {
        self.of_class.unwrap_or(self.most)
    }

    /// The limit of scores: those up to it are left out.
    pub fn below(&self) -> f32 {
        self.score.next_down()
    }

    /// The number of classes that a chosen box has.
    pub fn named(&self) -> usize {
        if self.of_class.is_some() { 1 } else { self.classes_per_box.min(self.classes) }
    }
}

impl Operator for DetectionPostProcess {
    const NAME: &'static str = "detection_post_process";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 3, 3)?;
        if let Some(i) = (0..3).find(|&i| operands[i].elem != Elem::F32) {
            return Err(refuse_element(operands, i, "f32"));
        }
        let (&[Dim::Known(1), boxes, Dim::Known(4..)], &[Dim::Known(1), scored, classes]) =
            (&operands[0].shape.dims(), &operands[1].shape.dims())
        else {
            return Err(refuse(operands, 0, "offsets of the boxes of one image, and scores of classes for each"));
        };
        let &[anchors, Dim::Known(4)] = &operands[2].shape.dims() else {
            return Err(refuse(operands, 2, "four numbers for each anchor"));
        };
        if boxes.agreed(scored).and_then(|boxes| boxes.agreed(anchors)).is_none() {
            return Err(refuse(operands, 1, format!("scores and anchors for {boxes} boxes")));
        }
        let background = classes.known().and_then(|all| all.checked_sub(self.classes));
        if self.classes == 0 || !matches!(background, Some(0 | 1)) {
            return Err(refuse(operands, 1, format!("scores of {} classes, or of one more", self.classes)));
        }
        let rows = self.rows().filter(|&rows| rows > 0 && self.of_class != Some(0));
        let Some(rows) = rows else {
            return Err(TypeError::Attribute("a maximum number of boxes of 0".into()));
        };
        let float = |dims: &[usize]| TensorType::new(Elem::F32, Shape::known(dims));
        Ok(smallvec![float(&[1, rows, 4]), float(&[1, rows]), float(&[1, rows]), float(&[1])])
    }
}

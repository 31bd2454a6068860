//! Operators on boxes.

use serde::{Deserialize, Serialize};

use super::{Operator, Types, arity, one, refuse, refuse_element};
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

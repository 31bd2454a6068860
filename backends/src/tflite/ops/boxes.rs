//! Operators on boxes.

use qcc_formats::tflite::{
    Add, BuiltinOperator as B, Cast, Concatenation, DETECTION_POST_PROCESS, DetectionOptions, Mul, Options,
    OptionsType as T, Reducer, Sub,
};
use qcc_ir::ops::{DetectionPostProcess, NonMaxSuppression};
use qcc_ir::{Dim, Elem, Shape, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, stored};
use crate::extents::Arithmetic as _;

/// The largest number of classes of all images: each has operators of its own.
const MOST_CLASSES: usize = 1024;

/// The side of the squares that stand for boxes without an area, and their distance from others.
const FAR: f32 = 1e6;

/// True if the operator can be written: the number of classes is known. The kernel selects a box that overlaps itself
/// by no more than the limit again and again.
pub(in crate::tflite) fn native(op: &NonMaxSuppression, boxes: &TensorType, scores: &TensorType) -> bool {
    let all = known(boxes, scores).and_then(|(images, classes)| images.checked_mul(classes));
    all.is_some_and(|n| (1..=MOST_CLASSES).contains(&n)) && (0.0..1.0).contains(&op.overlap)
}

/// The numbers of images and of classes, where they are known.
fn known(boxes: &TensorType, scores: &TensorType) -> Option<(usize, usize)> {
    let [images, classes, _] = scores.shape.dims() else { return None };
    Some((boxes.shape.dims().first()?.agreed(images)?.known()?, classes.known()?))
}

/// NON_MAX_SUPPRESSION_V4 for each class, whose results are the first of a list, and CONCATENATION.
pub(super) fn non_max_suppression(
    e: &mut Emitter<'_>,
    op: &NonMaxSuppression,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let (boxes, scores, y) = (&site.operands[0], &site.operands[1], &site.results[0]);
    let (images, classes) = known(boxes, scores).ok_or("the number of classes is open")?;
    let count = boxes.shape.dims()[1].agreed(&scores.shape.dims()[2]).ok_or("other boxes than scores")?;
    let mut s = Suppression { e, op, site, count, found: y.shape.dims()[0].clone() };
    let mut rows = Vec::with_capacity(images * classes);
    let far = s.far()?;
    let most = s.most()?;
    for image in 0..images {
        let boxes = s.boxes(image, far)?;
        for class in 0..classes {
            rows.push(s.rows(boxes, most, image, class)?);
        }
    }
    let joined = match rows.as_slice() {
        [one] => *one,
        _ => s.op(B::CONCATENATION, Concatenation::default(), &rows, &y.with_elem(Elem::I32)),
    };
    let options = Cast { from: stored(&Elem::I32), to: stored(&y.elem) };
    s.e.push_operator(B::CAST, 1, options, &[joined], &site.outputs);
    Ok(())
}

/// The options of the custom operator, if it has these attributes. Its kernel takes limits of overlap in `0..=1`, but not 0.
fn options(op: &DetectionPostProcess) -> Option<DetectionOptions> {
    let count = |n: usize| i32::try_from(n).ok();
    let [y_scale, x_scale, h_scale, w_scale] = op.scale;
    (op.overlap > 0.0 && op.overlap <= 1.0).then_some(())?;
    Some(DetectionOptions {
        max_detections: count(op.most)?,
        max_classes_per_detection: count(op.classes_per_box)?,
        detections_per_class: count(op.of_class.unwrap_or(op.most))?,
        use_regular_nms: op.of_class.is_some(),
        nms_score_threshold: op.score,
        nms_iou_threshold: op.overlap,
        num_classes: count(op.classes)?,
        y_scale,
        x_scale,
        h_scale,
        w_scale,
    })
}

/// True if the custom operator has these attributes.
pub(in crate::tflite) fn post_processes(op: &DetectionPostProcess) -> bool {
    options(op).is_some()
}

/// TFLite_Detection_PostProcess. Its kernel leaves rows behind the boxes as they are, where classes are not suppressed apart.
pub(super) fn detection_post_process(
    e: &mut Emitter<'_>,
    op: &DetectionPostProcess,
    site: &NodeContext<'_>,
) -> Result<(), Unsupported> {
    let options = options(op).ok_or("its attributes are not those of the kernel")?;
    let options = options.write().map_err(|error| error.to_string())?;
    e.push_custom(DETECTION_POST_PROCESS, 1, options, &site.inputs, &site.outputs);
    Ok(())
}

/// Writes one node.
struct Suppression<'s, 'e, 'g> {
    e: &'s mut Emitter<'e>,
    op: &'s NonMaxSuppression,
    site: &'s NodeContext<'g>,
    /// The number of boxes of an image.
    count: Dim,
    /// The number of those that are found, for which that of all classes stands.
    found: Dim,
}

impl Suppression<'_, '_, '_> {
    /// An operator with a result of this type.
    fn op(&mut self, op: B, options: impl Into<Options>, inputs: &[i32], ty: &TensorType) -> i32 {
        let result = self.e.scratch(ty, self.site.node);
        self.e.push_operator(op, 1, options, inputs, &[result]);
        result
    }

    /// Numbers for each box of an image.
    fn of_boxes(&self, elem: Elem, columns: usize) -> TensorType {
        TensorType::new(elem, [self.count.clone(), Dim::Known(columns)].into_iter().collect())
    }

    fn slice(&mut self, x: i32, begin: &[usize], size: &[i32], ty: &TensorType) -> i32 {
        let begin: Vec<i32> = begin.iter().map(|&i| i as i32).collect();
        let inputs = [x, self.e.indices(&begin), self.e.indices(size)];
        self.op(B::SLICE, Options::Other(T::SLICE), &inputs, ty)
    }

    /// The boxes of an image, as the kernel wants them: the corner with the lower coordinates first, and with an area, for
    /// which those of `far` stand.
    fn boxes(&mut self, image: usize, far: i32) -> Result<i32, Unsupported> {
        let own: Shape = [Dim::Known(1), self.count.clone(), Dim::Known(4)].into_iter().collect();
        let boxes = self.slice(self.site.inputs[0], &[image, 0, 0], &[1, -1, -1], &TensorType::new(Elem::F32, own));
        let (corners, sides) = (self.of_boxes(Elem::F32, 4), self.of_boxes(Elem::F32, 2));
        let boxes = self.e.reshape(boxes, &corners)?;
        let given = [0, 2].map(|first| self.slice(boxes, &[0, first], &[-1, 2], &sides));
        let [low, high] =
            [B::MINIMUM, B::MAXIMUM].map(|end| self.op(end, Options::Other(T::MAXIMUM_MINIMUM), &given, &sides));
        let joined = Concatenation { axis: 1, ..Concatenation::default() };
        let sorted = self.op(B::CONCATENATION, joined, &[low, high], &corners);
        // The kernel does not see that a box without an area overlaps itself, and would select it again and again. A square
        // that overlaps no other box stands for it.
        let lengths = self.op(B::SUB, Sub::default(), &[high, low], &sides);
        let inputs = [lengths, self.e.indices(&[1])];
        let areas = self.op(B::REDUCE_PROD, Reducer { keep_dims: true }, &inputs, &self.of_boxes(Elem::F32, 1));
        let inputs = [areas, self.scalar(0.0)];
        let empty = self.op(B::LESS_EQUAL, Options::Other(T::LESS_EQUAL), &inputs, &self.of_boxes(Elem::Bool, 1));
        Ok(self.op(B::SELECT_V2, Options::Other(T::SELECT_V2), &[empty, far, sorted], &corners))
    }

    /// A square for each box, none of which overlaps another, far below all coordinates.
    fn far(&mut self) -> Result<i32, Unsupported> {
        let column = self.of_boxes(Elem::F32, 1);
        let places = match self.count.known() {
            Some(count) => {
                let places: Vec<f32> = (0..count).map(|i| i as f32 * -2.0 * FAR).collect();
                self.e.constant(&column, &places)
            }
            None => {
                let count = self.counted()?;
                let float = Cast { from: stored(&Elem::I32), to: stored(&Elem::F32) };
                let scalar = TensorType::new(Elem::F32, Shape::scalar());
                let count = self.op(B::CAST, float, &[count], &scalar);
                let (zero, one, step) = (self.scalar(0.0), self.scalar(1.0), self.scalar(-2.0 * FAR));
                let list = TensorType::new(Elem::F32, [self.count.clone()].into_iter().collect());
                let each = self.op(B::RANGE, Options::Other(T::RANGE), &[zero, count, one], &list);
                let inputs = [each, self.e.indices(&[-1, 1])];
                let each = self.op(B::RESHAPE, Options::Other(T::RESHAPE), &inputs, &column);
                self.op(B::MUL, Mul::default(), &[each, step], &column)
            }
        };
        let row = TensorType::new(Elem::F32, Shape::known(&[1, 4]));
        let inputs = [places, self.e.constant(&row, &[-3.0 * FAR, -3.0 * FAR, -2.0 * FAR, -2.0 * FAR])];
        Ok(self.op(B::ADD, Add::default(), &inputs, &self.of_boxes(Elem::F32, 4)))
    }

    fn scalar(&mut self, value: f32) -> i32 {
        self.e.constant(&TensorType::new(Elem::F32, Shape::scalar()), &[value])
    }

    /// The number of boxes, computed at run time.
    fn counted(&mut self) -> Result<i32, Unsupported> {
        let count = self.e.extent(self.site.values[0], 1);
        self.e.reshape(count, &TensorType::new(Elem::I32, Shape::scalar()))
    }

    /// The largest number of boxes that are found, which is the number of boxes at most.
    fn most(&mut self) -> Result<i32, Unsupported> {
        if let Some(count) = self.count.known() {
            return Ok(self.e.index(self.op.most.min(count)));
        }
        let count = self.counted()?;
        let most = self.e.index(self.op.most.min(i32::MAX as usize));
        let scalar = TensorType::new(Elem::I32, Shape::scalar());
        Ok(self.op(B::MINIMUM, Options::Other(T::MAXIMUM_MINIMUM), &[count, most], &scalar))
    }

    /// The rows of image, class and box for the boxes of a class.
    fn rows(&mut self, boxes: i32, most: i32, image: usize, class: usize) -> Result<i32, Unsupported> {
        let own: Shape = [Dim::Known(1), Dim::Known(1), self.count.clone()].into_iter().collect();
        let scores = self.slice(self.site.inputs[1], &[image, class, 0], &[1, 1, -1], &TensorType::new(Elem::F32, own));
        let list = |elem, of: &Dim| TensorType::new(elem, [of.clone()].into_iter().collect());
        let scores = self.e.reshape(scores, &list(Elem::F32, &self.count))?;
        // The kernel leaves out boxes that overlap by the limit or more.
        let limits = [self.op.overlap.next_up(), self.op.score.unwrap_or(f32::NEG_INFINITY)].map(|l| self.scalar(l));
        let padded = self.e.scratch(&list(Elem::I32, &self.found), self.site.node);
        let number = self.e.scratch(&TensorType::new(Elem::I32, Shape::scalar()), self.site.node);
        let (inputs, options) = ([boxes, scores, most, limits[0], limits[1]], T::NON_MAX_SUPPRESSION_V4);
        self.e.push_operator(B::NON_MAX_SUPPRESSION_V4, 1, Options::Other(options), &inputs, &[padded, number]);
        let size = self.e.reshape(number, &TensorType::new(Elem::I32, Shape::known(&[1])))?;
        let inputs = [padded, self.e.indices(&[0]), size];
        let found = self.op(B::SLICE, Options::Other(T::SLICE), &inputs, &list(Elem::I32, &self.found));
        let columns = |n: usize| TensorType::new(Elem::I32, [self.found.clone(), Dim::Known(n)].into_iter().collect());
        let (one, all) = (columns(1), columns(3));
        let inputs = [found, self.e.indices(&[-1, 1])];
        let column = self.op(B::RESHAPE, Options::Other(T::RESHAPE), &inputs, &one);
        let paddings = TensorType::new(Elem::I32, Shape::known(&[2, 2]));
        let inputs = [column, self.e.constant(&paddings, &[0, 0, 2, 0])];
        let zeros = self.op(B::PAD, Options::Other(T::PAD), &inputs, &all);
        if image == 0 && class == 0 {
            return Ok(zeros);
        }
        let row = TensorType::new(Elem::I32, Shape::known(&[1, 3]));
        let inputs = [zeros, self.e.constant(&row, &[image as i32, class as i32, 0])];
        Ok(self.op(B::ADD, Add::default(), &inputs, &all))
    }
}

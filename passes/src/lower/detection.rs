//! Lowering of the boxes that a detector finds in an image.

use qcc_ir::ops::{
    BinaryFn, DetectionPostProcess, Expand, Extents, Gather, GatherNd, NonMaxSuppression, Op, Pad, PadMode, TopK,
    UnaryFn,
};
use qcc_ir::{Elem, NodeId, Shape, Tensor, ValueId};

use super::build::{Build, Built};
use crate::Skip;

pub(super) fn detection_post_process(b: &mut Build<'_>, node: NodeId) -> Built {
    let Op::DetectionPostProcess(op) = b.g.op(node) else { return Err(Skip::NoMatch) };
    let (op, operands) = (op.clone(), b.g.operands(node));
    let boxes = corners(b, &op, operands[0], operands[2])?;
    let found = match op.of_class {
        Some(_) => in_classes(b, &op, boxes, operands[1])?,
        None => in_all(b, &op, boxes, operands[1])?,
    };
    let at = b.op(Gather { axis: 0 }, &[boxes, found.at])?;
    let at = b.unsqueeze(at, 1)?;
    let each = b.ty(found.classes).shape.dims()[1].clone();
    let at = b.op(Expand { shape: [op.most.into(), each, 4.into()].into_iter().collect() }, &[at])?;
    let classes = b.cast(found.classes, Elem::F32)?;

    let places = b.table(&[op.most, 1], |i| i as i32)?;
    let taken = b.binary(BinaryFn::Less, places, found.number)?;
    let wide = b.unsqueeze(taken, 2)?;
    let at = rows(b, &op, wide, at)?;
    let results = [rows(b, &op, taken, classes)?, rows(b, &op, taken, found.scores)?, b.cast(found.number, Elem::F32)?];
    for (old, new) in b.g.results(node).skip(1).zip(results) {
        b.g.replace(old, new)?;
    }
    Ok(at)
}

/// The boxes that are chosen, padded to the maximum number of boxes.
struct Found {
    /// Their indices: `[most]`.
    at: ValueId,
    /// The classes and scores of each: `[most, named]`.
    classes: ValueId,
    scores: ValueId,
    /// How many there are: `[1]`, in `I32`.
    number: ValueId,
}

/// The corners of the boxes: `[boxes, 4]`.
fn corners(b: &mut Build<'_>, op: &DetectionPostProcess, offsets: ValueId, anchors: ValueId) -> Built {
    let offsets = b.squeeze(offsets, 0)?;
    let offsets = b.slice(offsets, 1, 0, 4)?;
    let scale = b.table(&[4], |i| op.scale[i])?;
    let parts = b.div(offsets, scale)?;
    let [(centre, side), (moved, grown)] = [anchors, parts].map(|x| (b.slice(x, 1, 0, 2), b.slice(x, 1, 2, 2)));
    let (centre, side, moved) = (centre?, side?, moved?);
    let moved = b.mul(moved, side)?;
    let centre = b.add(moved, centre)?;
    let grown = b.unary(UnaryFn::Exp, grown?)?;
    let half = b.scale(side, 0.5)?;
    let half = b.mul(grown, half)?;
    let ends = [b.sub(centre, half)?, b.add(centre, half)?];
    b.concat(1, &ends)
}

/// The scores of the classes, without that of the background: `[boxes, classes]`.
fn of_classes(b: &mut Build<'_>, op: &DetectionPostProcess, scores: ValueId) -> Built {
    let all = b.ty(scores).shape.dims()[2].known().ok_or(Skip::NoMatch)?;
    let scores = b.squeeze(scores, 0)?;
    b.slice(scores, 1, all - op.classes, op.classes)
}

/// The image, class and box of those that do not overlap better ones, as `[count, 3]`, and `count` as `[1]` in `I32`.
/// Scores are `[classes, boxes]`.
fn suppressed(
    b: &mut Build<'_>,
    op: &DetectionPostProcess,
    boxes: ValueId,
    scores: ValueId,
) -> Result<[ValueId; 2], Skip> {
    let operands = [b.unsqueeze(boxes, 0)?, b.unsqueeze(scores, 0)?];
    let (most, score, count) = (op.selected(), Some(op.below()), b.fresh());
    let kept = b.op(NonMaxSuppression { most, overlap: op.overlap, score, count }, &operands)?;
    let count = b.ty(kept).shape.dims()[0].clone();
    Ok([kept, b.counts(&[count], Extents::from_slice(&[1]))?])
}

/// Zeros behind the rows, so that there are at least as many as the maximum number of boxes.
fn padded(b: &mut Build<'_>, op: &DetectionPostProcess, kept: ValueId) -> Built {
    let zeros = b.table(&[op.most, 3], |_| 0i64)?;
    b.concat(0, &[kept, zeros])
}

/// Boxes that are chosen without regard to their class.
fn in_all(b: &mut Build<'_>, op: &DetectionPostProcess, boxes: ValueId, scores: ValueId) -> Result<Found, Skip> {
    let scores = of_classes(b, op, scores)?;
    let best = b.node(TopK { k: op.named().into(), axis: 1, largest: true }, &[scores])?;
    let (scores, classes) = (best.value(0), best.value(1));
    let first = b.slice(scores, 1, 0, 1)?;
    let first = b.transpose(first, &[1, 0])?;
    let [kept, number] = suppressed(b, op, boxes, first)?;
    let kept = padded(b, op, kept)?;
    let at = b.part(kept, 0, &0.into(), &op.most.into())?;
    let at = column(b, at, 2)?;
    let [classes, scores] = [classes, scores].map(|x| b.op(Gather { axis: 0 }, &[x, at]));
    Ok(Found { at, classes: classes?, scores: scores?, number })
}

/// The best of the boxes that are chosen in each class.
fn in_classes(b: &mut Build<'_>, op: &DetectionPostProcess, boxes: ValueId, scores: ValueId) -> Result<Found, Skip> {
    let scores = of_classes(b, op, scores)?;
    let scores = b.transpose(scores, &[1, 0])?;
    let [kept, number] = suppressed(b, op, boxes, scores)?;
    let places = b.slice(kept, 1, 1, 2)?;
    let scores = b.op(GatherNd { batch: 0 }, &[scores, places])?;
    let none = b.table(&[op.most], |_| f32::MIN)?;
    let scores = b.concat(0, &[scores, none])?;
    let best = b.node(TopK { k: op.most.into(), axis: 0, largest: true }, &[scores])?;
    let kept = padded(b, op, kept)?;
    let kept = b.op(Gather { axis: 0 }, &[kept, best.value(1)])?;
    let most = b.constant(Tensor::from_vec(Shape::known(&[1]), vec![op.most as i32]));
    let number = b.binary(BinaryFn::Min, number, most)?;
    let classes = b.slice(kept, 1, 1, 1)?;
    let scores = b.unsqueeze(best.value(0), 1)?;
    Ok(Found { at: column(b, kept, 2)?, classes, scores, number })
}

/// A column of a table, as a list.
fn column(b: &mut Build<'_>, x: ValueId, i: usize) -> Built {
    let column = b.slice(x, 1, i, 1)?;
    b.squeeze(column, 1)
}

/// The rows of boxes `[most, named, ..]` as `[1, rows, ..]`, with zeros where there is none.
fn rows(b: &mut Build<'_>, op: &DetectionPostProcess, taken: ValueId, x: ValueId) -> Built {
    let zero = b.scalar(0.0, x)?;
    let x = b.select(taken, x, zero)?;
    let each = op.named();
    let own: Vec<usize> = b.extents(x)?[2..].to_vec();
    let shape = |rows: usize| Shape::known(&[&[1, rows], own.as_slice()].concat());
    let pad = |b: &mut Build<'_>, x: ValueId, after: usize| {
        let none = Extents::from_elem(0, b.ty(x).rank());
        let mut behind = none.clone();
        behind[1] = after;
        if after == 0 { Ok(x) } else { b.op(Pad { before: none, after: behind, mode: PadMode::Constant(0.0) }, &[x]) }
    };
    // Boxes of one class are the first rows; others have rows for all classes that they may have.
    if op.of_class.is_some() {
        let x = b.reshape(x, shape(op.most))?;
        return pad(b, x, op.most * (op.classes_per_box - 1));
    }
    let x = pad(b, x, op.classes_per_box - each)?;
    b.reshape(x, shape(op.most * op.classes_per_box))
}

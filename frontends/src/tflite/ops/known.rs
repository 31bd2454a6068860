//! Custom operators of a known meaning, by their code and version. Others are carried through
//! (`super::super::custom`).

use qcc_formats::tflite::DETECTION_POST_PROCESS;
use qcc_ir::ops::{
    ArgReduce, BinaryFn, Concat, ConvTranspose, Extents, Gather, GridSample, Outside, ReduceFn, SampleMode, Select,
    UnaryFn,
};
use qcc_ir::{Elem, Tensor, ValueId};
use serde::Deserialize;
use smallvec::smallvec;

use super::super::node::NodeCx;
use super::{Import, positive};
use crate::build::control::{slice_at, stacked};
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

/// The operators: code, version, import function.
pub(super) const ROWS: &[(&str, i32, Import)] = &[
    ("Convolution2DTransposeBias", 1, conv_transpose),
    ("Landmarks2TransformMatrix", 2, landmarks_to_matrix),
    ("MaxPoolingWithArgmax2D", 1, max_pool),
    ("MaxUnpooling2D", 1, max_unpool),
    (DETECTION_POST_PROCESS, 1, super::boxes::detections),
    ("TransformLandmarks", 2, transform_landmarks),
    ("TransformTensorBilinear", 2, transform_image),
];

/// The options as a map of names.
fn named<T: for<'de> Deserialize<'de>>(n: &NodeCx<'_, '_>) -> Result<T, Refusal> {
    flexbuffers::from_slice(n.custom_options()).map_err(|error| Refusal::Invalid(format!("its options: {error}")))
}

/// The options as a C structure: its first fields, which are 32-bit integers.
fn fields<const N: usize>(n: &NodeCx<'_, '_>) -> Result<[i32; N], Refusal> {
    let options = n.custom_options();
    let mut fields = options.chunks_exact(4).map(|field| i32::from_le_bytes([field[0], field[1], field[2], field[3]]));
    let mut next =
        || fields.next().ok_or_else(|| Refusal::Invalid(format!("its options have {} bytes", options.len())));
    let mut found = [0; N];
    for field in &mut found {
        *field = next()?;
    }
    Ok(found)
}

/// The padding of the C structures: 1 is SAME, 2 is VALID.
fn is_same(padding: i32) -> Result<bool, Refusal> {
    match padding {
        1 => Ok(true),
        2 => Ok(false),
        _ => Err(Refusal::Invalid(format!("its padding is {padding}; expected 1 or 2"))),
    }
}

/// A transposed convolution with a bias. Filters are O,H,W,I.
fn conv_transpose(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [padding, stride_w, stride_h] = fields(n)?;
    let (x, w, bias) = (n.image(0)?, n.weight(1, &[1, 2, 3, 0])?, n.input(2)?);
    let stride: Extents = smallvec![positive(stride_h, "a stride")?, positive(stride_w, "a stride")?];
    let window = n.dims(w)?;
    let (mut before, mut after) = (Extents::new(), Extents::new());
    for i in 0..2 {
        let cut = match is_same(padding)? {
            true => window[2 + i].saturating_sub(1 + n.extent(x, 2 + i)?.saturating_sub(1) % stride[i]),
            false => 0,
        };
        before.push(cut / 2);
        after.push(cut - cut / 2);
    }
    let op = ConvTranspose { stride, before, after, extra: smallvec![0, 0], dilation: smallvec![1, 1], groups: 1 };
    let y = n.give(op, &[x, w, bias])?;
    n.give_image(y)
}

/// The window of a pooling operator, whose windows must not overlap and fill the image.
fn blocks(n: &NodeCx<'_, '_>) -> Result<[usize; 2], Refusal> {
    let [_, stride_w, stride_h, width, height, activation] = fields(n)?;
    if activation != 0 || [stride_h, stride_w] != [height, width] {
        let message = format!(
            "windows of {height}x{width} with strides of {stride_h} and {stride_w} and activation {activation}"
        );
        return Err(Refusal::Unsupported(message));
    }
    Ok([positive(height, "a window")?, positive(width, "a window")?])
}

/// The places of a block as a last axis: `[N,C,H,W]` to `[N,C,H/h,W/w,h*w]`.
fn blocked(n: &mut NodeCx<'_, '_>, x: ValueId, [h, w]: [usize; 2]) -> Result<ValueId, Refusal> {
    let &[batch, channels, height, width] = n.dims(x)?.as_slice() else {
        return Err(Refusal::Invalid(format!("{}; expected an image", n.ty(x))));
    };
    if height % h != 0 || width % w != 0 {
        return Err(Refusal::Unsupported(format!("windows of {h}x{w} that do not fill an image of {height}x{width}")));
    }
    let split = n.reshape(x, &[batch, channels, height / h, h, width / w, w])?;
    let moved = n.transpose(split, &[0, 1, 2, 4, 3, 5])?;
    n.reshape(moved, &[batch, channels, height / h, width / w, h * w])
}

/// The largest element of each window, and its place in the window as a number that rounds down to it.
fn max_pool(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (window, x) = (blocks(n)?, n.image(0)?);
    let blocks = blocked(n, x, window)?;
    let largest = n.reduce(ReduceFn::Max, blocks, &[4], false)?;
    let place = n.add(ArgReduce { axis: 4, largest: true, keep: false }, &[blocks])?;
    let place = n.cast(place, Elem::F32)?;
    let tenth = n.scalar(0.1, place)?;
    let place = n.binary(BinaryFn::Add, place, tenth)?;
    let mut results = n.give_image(largest)?;
    results.extend(n.give_image(place)?);
    Ok(results)
}

/// The reverse: each element at its place in a window of zeros.
fn max_unpool(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let ([h, w], x, places) = (blocks(n)?, n.image(0)?, n.image(1)?);
    let &[batch, channels, height, width] = n.dims(x)?.as_slice() else {
        return Err(Refusal::Invalid(format!("{}; expected an image", n.ty(x))));
    };
    let mut last = [x, places];
    for v in &mut last {
        *v = n.reshape(*v, &[batch, channels, height, width, 1])?;
    }
    let [x, places] = last;
    let places = n.unary(UnaryFn::Floor, places)?;
    let all = n.table(&[h * w], |i| i as f32)?;
    let (here, zero) = (n.binary(BinaryFn::Equal, places, all)?, n.scalar(0.0, x)?);
    let blocks = n.add(Select {}, &[here, x, zero])?;
    let split = n.reshape(blocks, &[batch, channels, height, width, h, w])?;
    let moved = n.transpose(split, &[0, 1, 2, 4, 3, 5])?;
    let y = n.reshape(moved, &[batch, channels, height * h, width * w])?;
    n.give_image(y)
}

/// An element of a matrix `[1,4,4]`, of extents 1.
fn element(n: &mut NodeCx<'_, '_>, matrix: ValueId, row: usize, column: usize) -> Result<ValueId, Refusal> {
    if n.dims(matrix)?.as_slice() != [1, 4, 4] {
        return Err(Refusal::Invalid(format!("a matrix {}; expected extents 1,4,4", n.ty(matrix))));
    }
    let place = n.add_constant(Tensor::scalar((4 * row + column) as i64));
    let elements = n.reshape(matrix, &[16])?;
    n.add(Gather { axis: 0 }, &[elements, place])
}

/// A coordinate of positions after the transformation by a row of a matrix.
fn transformed(n: &mut NodeCx<'_, '_>, matrix: ValueId, row: usize, [x, y]: [ValueId; 2]) -> Result<ValueId, Refusal> {
    let (a, b, c) = (element(n, matrix, row, 0)?, element(n, matrix, row, 1)?, element(n, matrix, row, 3)?);
    let sum = dot(n, [x, y], [a, b])?;
    n.binary(BinaryFn::Add, sum, c)
}

/// The coordinates of positions `[1,count,2 or 3]`, each `[1,count]`.
fn coordinates(n: &mut NodeCx<'_, '_>, points: ValueId) -> Result<Values, Refusal> {
    let &[1, _, count @ (2 | 3)] = n.dims(points)?.as_slice() else {
        return Err(Refusal::Invalid(format!("positions {}; expected extents 1,n,2 or 1,n,3", n.ty(points))));
    };
    (0..count).map(|at| slice_at(n, points, 2, at)).collect()
}

/// Positions, transformed; a third coordinate stays.
fn transform_landmarks(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (points, matrix) = (n.input(0)?, n.input(1)?);
    let mut parts = coordinates(n, points)?;
    let position = [parts[0], parts[1]];
    for row in 0..2 {
        parts[row] = transformed(n, matrix, row, position)?;
    }
    one(stacked(n, &parts, 2, false)?)
}

#[derive(Deserialize)]
struct Size {
    output_height: i32,
    output_width: i32,
}

/// An image, transformed: the result has at each pixel what the image has at the position after the transformation, by linear
/// interpolation, and 0 outside the image. Positions count from the edges of the pixels.
fn transform_image(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let size: Size = named(n)?;
    let (height, width) = (positive(size.output_height, "a height")?, positive(size.output_width, "a width")?);
    let (x, matrix) = (n.image(0)?, n.input(1)?);
    let &[1, _, rows, columns] = n.dims(x)?.as_slice() else {
        return Err(Refusal::Unsupported(format!("it transforms {}; a batch of 1 is supported", n.ty(x))));
    };
    let dims = [1, height, width, 1];
    let centre_x = n.table(&dims, |i| (i % width) as f32 + 0.5)?;
    let centre_y = n.table(&dims, |i| (i / width) as f32 + 0.5)?;
    let (mut grid, mut inside) = (Values::new(), None);
    for (row, last) in [(0, columns.saturating_sub(1)), (1, rows.saturating_sub(1))] {
        let at = transformed(n, matrix, row, [centre_x, centre_y])?;
        let half = n.scalar(0.5, at)?;
        let at = n.binary(BinaryFn::Sub, at, half)?;
        // -1 and 1 are the centres of the outermost pixels.
        let (factor, first) = (n.scalar(2.0 / last.max(1) as f64, at)?, n.scalar(1.0, at)?);
        let scaled = n.binary(BinaryFn::Mul, at, factor)?;
        grid.push(n.binary(BinaryFn::Sub, scaled, first)?);
        for (f, limit) in [(BinaryFn::GreaterEqual, 0.0), (BinaryFn::LessEqual, last as f64)] {
            let limit = n.scalar(limit, at)?;
            let holds = n.binary(f, at, limit)?;
            inside = Some(inside.map_or(Ok(holds), |all| n.binary(BinaryFn::And, all, holds))?);
        }
    }
    let grid = n.add(Concat { axis: 3 }, &grid)?;
    let op = GridSample { mode: SampleMode::Linear, outside: Outside::Edge, align_corners: true };
    let mut y = n.add(op, &[x, grid])?;
    if let Some(inside) = inside {
        let (inside, zero) = (n.reshape(inside, &[1, 1, height, width])?, n.scalar(0.0, y)?);
        y = n.add(Select {}, &[inside, y, zero])?;
    }
    n.give_image(y)
}

#[derive(Deserialize)]
struct Frame {
    left_rotation_idx: i64,
    right_rotation_idx: i64,
    target_rotation_radians: f64,
    subset_idxs: Vec<i64>,
    scale_x: f64,
    scale_y: f64,
    output_height: i32,
    output_width: i32,
}

/// The transformation from an image to the frame around some of the positions, turned so that the line between two of them has
/// a given direction.
fn landmarks_to_matrix(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let frame: Frame = named(n)?;
    let size = [positive(frame.output_width, "a width")?, positive(frame.output_height, "a height")?];
    let points = n.input(0)?;
    let [left, right] = [frame.left_rotation_idx, frame.right_rotation_idx].map(|place| at(n, points, &[place]));
    let (left, right) = (left?, right?);
    let (dx, dy) = (n.binary(BinaryFn::Sub, right[0], left[0])?, n.binary(BinaryFn::Sub, right[1], left[1])?);
    let angle = n.binary(BinaryFn::Atan2, dy, dx)?;
    let target = n.scalar(frame.target_rotation_radians, angle)?;
    let angle = n.binary(BinaryFn::Sub, target, angle)?;
    let (cos, sin) = (n.unary(UnaryFn::Cos, angle)?, n.unary(UnaryFn::Sin, angle)?);
    let back = n.unary(UnaryFn::Neg, sin)?;

    // Centre and size of the frame in the turned image.
    let among = at(n, points, &frame.subset_idxs)?;
    let (mut centre, mut scaled) = (Values::new(), Values::new());
    let scales = [frame.scale_x / size[0] as f64, frame.scale_y / size[1] as f64];
    for ([a, b], scale) in [[cos, back], [sin, cos]].into_iter().zip(scales) {
        let turned = dot(n, [a, b], [among[0], among[1]])?;
        let (most, least) =
            (n.reduce(ReduceFn::Max, turned, &[1], true)?, n.reduce(ReduceFn::Min, turned, &[1], true)?);
        let (sum, half) = (n.binary(BinaryFn::Add, most, least)?, n.scalar(0.5, most)?);
        centre.push(n.binary(BinaryFn::Mul, sum, half)?);
        let (width, scale) = (n.binary(BinaryFn::Sub, most, least)?, n.scalar(scale, most)?);
        scaled.push(n.binary(BinaryFn::Mul, width, scale)?);
    }
    let (zero, unit) = (n.scalar(0.0, angle)?, n.scalar(1.0, angle)?);
    let (zero, unit) = (n.reshape(zero, &[1, 1])?, n.reshape(unit, &[1, 1])?);
    let middle = size.map(|extent| n.scalar(-0.5 * extent as f64, angle));
    let [middle_x, middle_y] = middle;
    let middle = [middle_x?, middle_y?];
    let mut elements = Values::new();
    for [a, b] in [[cos, sin], [back, cos]] {
        let row = [n.binary(BinaryFn::Mul, a, scaled[0])?, n.binary(BinaryFn::Mul, b, scaled[1])?];
        let from = dot(n, [a, b], [centre[0], centre[1]])?;
        let shift = dot(n, row, middle)?;
        let shift = n.binary(BinaryFn::Add, from, shift)?;
        elements.extend([row[0], row[1], zero, shift]);
    }
    elements.extend([zero, zero, unit, zero, zero, zero, zero, unit]);
    let matrix = n.add(Concat { axis: 1 }, &elements)?;
    one(n.reshape(matrix, &[1, 4, 4])?)
}

/// The sum of two products.
fn dot(n: &mut NodeCx<'_, '_>, a: [ValueId; 2], b: [ValueId; 2]) -> Result<ValueId, Refusal> {
    let (first, second) = (n.binary(BinaryFn::Mul, a[0], b[0])?, n.binary(BinaryFn::Mul, a[1], b[1])?);
    n.binary(BinaryFn::Add, first, second)
}

/// Some of the positions, as parts for each coordinate.
fn at(n: &mut NodeCx<'_, '_>, points: ValueId, places: &[i64]) -> Result<Values, Refusal> {
    let count = n.extent(points, 1)?;
    if let Some(wrong) = places.iter().find(|&&place| usize::try_from(place).map_or(true, |place| place >= count)) {
        return Err(Refusal::Invalid(format!("it reads position {wrong} of {count}")));
    }
    let indices = n.table(&[places.len()], |i| places[i])?;
    let some = n.add(Gather { axis: 1 }, &[points, indices])?;
    coordinates(n, some)
}

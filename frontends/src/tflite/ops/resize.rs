//! Resampling of images.

use qcc_formats::tflite::{BuiltinOperator as B, ResizeBilinear, ResizeNearestNeighbor};
use qcc_ir::ops::{Coordinates, Extents, Gather, Nearest, Resize, ResizeMode};
use qcc_ir::{Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::RESIZE_BILINEAR, bilinear), (B::RESIZE_NEAREST_NEIGHBOR, nearest)];

/// Maximum height and width.
const LARGEST: i64 = 1 << 20;

/// The spatial extents of the result, input 1.
fn size(n: &mut NodeCx<'_, '_>) -> Result<Extents, Refusal> {
    match *n.integers(1)? {
        [h, w] if (1..=LARGEST).contains(&h) && (1..=LARGEST).contains(&w) => {
            Ok(Extents::from_slice(&[extent(h)?, extent(w)?]))
        }
        ref other => Err(Refusal::Invalid(format!("the extents {other:?}; expected height and width"))),
    }
}

fn scales(image: &[usize], size: &[usize]) -> Result<Vec<f32>, Refusal> {
    if image.contains(&0) {
        return Err(Refusal::Invalid("an image without elements".into()));
    }
    Ok(image.iter().zip(size).map(|(&from, &to)| to as f32 / from as f32).collect())
}

fn bilinear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: ResizeBilinear = n.options()?;
    let (x, size) = (n.image(0)?, size(n)?);
    let coordinates = match (o.align_corners, o.half_pixel_centers) {
        (false, false) => Coordinates::Asymmetric,
        (false, true) => Coordinates::HalfPixel,
        (true, false) => Coordinates::AlignCorners,
        (true, true) => return Err(both()),
    };
    let scale = scales(&n.dims(x)?[2..], &size)?;
    let size = Shape::known(&size);
    let y = n.give(Resize { size, scale, mode: ResizeMode::Linear, coordinates }, &[x])?;
    n.give_image(y)
}

fn both() -> Refusal {
    Refusal::Invalid("align_corners and half_pixel_centers exclude each other".into())
}

/// Where `Resize` would select other elements than the kernel because of rounding, the elements are gathered instead.
fn nearest(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: ResizeNearestNeighbor = n.options()?;
    let size = size(n)?;
    let (coordinates, rounding) = match (o.align_corners, o.half_pixel_centers) {
        (false, false) => (Coordinates::Asymmetric, Nearest::Floor),
        (false, true) => (Coordinates::HalfPixelForNearest, Nearest::Floor),
        (true, false) => (Coordinates::AlignCorners, Nearest::PreferCeil),
        (true, true) => return Err(both()),
    };
    let x = n.image(0)?;
    let image = Extents::from_slice(&n.dims(x)?[2..]);
    let scale = scales(&image, &size)?;
    let picked: Vec<Vec<i32>> = (0..2).map(|i| kernel(&o, image[i], size[i])).collect();
    if (0..2).all(|i| picked[i] == graph(coordinates, image[i], size[i], scale[i])) {
        let size = Shape::known(&size);
        let y = n.give(Resize { size, scale, mode: ResizeMode::Nearest(rounding), coordinates }, &[x])?;
        return n.give_image(y);
    }
    let x = n.input(0)?;
    let rows = pick(n, x, 1, &picked[0])?;
    one(pick(n, rows, 2, &picked[1])?)
}

fn pick(n: &mut NodeCx<'_, '_>, x: ValueId, axis: usize, places: &[i32]) -> Result<ValueId, Refusal> {
    let index = n.add_constant(Tensor::from_vec(Shape::known(&[places.len()]), places.to_vec()));
    n.give(Gather { axis }, &[x, index])
}

/// Indices that the TFLite kernel selects along an axis.
fn kernel(o: &ResizeNearestNeighbor, extent: usize, size: usize) -> Vec<i32> {
    let aligned = o.align_corners && size > 1;
    let (from, to) = if aligned { (extent - 1, size - 1) } else { (extent, size) };
    let step = from as f32 / to as f32;
    let offset = if o.half_pixel_centers { 0.5 } else { 0.0 };
    let place = |at: usize| {
        let x = (at as f32 + offset) * step;
        if o.align_corners { x.round() } else { x.floor() }
    };
    (0..size).map(|at| place(at).clamp(0.0, (extent - 1) as f32) as i32).collect()
}

/// Indices that the graph's `Resize` selects along an axis.
fn graph(coordinates: Coordinates, extent: usize, size: usize, scale: f32) -> Vec<i32> {
    let place = |at: usize| {
        let at = at as f32;
        match coordinates {
            Coordinates::HalfPixelForNearest => ((at + 0.5) / scale).floor(),
            Coordinates::AlignCorners if size == 1 => 0.0,
            Coordinates::AlignCorners => (at * (extent as f32 - 1.0) / (size as f32 - 1.0) + 0.5).floor(),
            _ => (at / scale).floor(),
        }
    };
    (0..size).map(|at| place(at).clamp(0.0, (extent - 1) as f32) as i32).collect()
}

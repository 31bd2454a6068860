//! Resampling of images.

use qcc_formats::tflite::{BuiltinOperator as B, ResizeBilinear, ResizeNearestNeighbor};
use qcc_ir::ops::{BinaryFn, Coordinates, Extents, Gather, Nearest, Resize, ResizeMode, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::computed::counted;
use crate::build::resize::scale_between;
use crate::build::{Build, Operands, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::RESIZE_BILINEAR, bilinear), (B::RESIZE_NEAREST_NEIGHBOR, nearest)];

/// Maximum height and width.
const LARGEST: usize = 1 << 20;

/// The spatial extents of the result, input 1.
fn size(n: &mut NodeCx<'_, '_>) -> Result<Shape, Refusal> {
    let size = n.shape_at(1)?;
    let fits = |d: &Dim| d.known().is_none_or(|d| (1..=LARGEST).contains(&d));
    if size.rank() == 2 && size.dims().iter().all(fits) {
        return Ok(size);
    }
    Err(Refusal::Invalid(format!("the extents {size}; expected height and width")))
}

/// The scale of each axis of `x`, an image.
fn scales(n: &NodeCx<'_, '_>, x: ValueId, size: &Shape) -> Result<Vec<f32>, Refusal> {
    let image = &n.shape(x).dims()[2..];
    if image.contains(&Dim::Known(0)) {
        return Err(Refusal::Invalid("an image without elements".into()));
    }
    Ok(image.iter().zip(size.dims()).map(|(from, to)| scale_between(from, to)).collect())
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
    let scale = scales(n, x, &size)?;
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
    let scale = scales(n, x, &size)?;
    let (image, known) = (n.shape(x).dims()[2..].to_vec(), size.extents());
    let extents = image.iter().map(Dim::known).collect::<Option<Extents>>().zip(known);
    let mode = ResizeMode::Nearest(rounding);
    let Some((image, known)) = extents else {
        // Of whole scales, the kernel selects what the operator does.
        let op = Resize { size, scale, mode, coordinates };
        if coordinates == Coordinates::Asymmetric && op.open_scales(&image).0 {
            let y = n.give(op, &[x])?;
            return n.give_image(y);
        }
        return one(picked_open(n, &o, &op.size)?);
    };
    let picked: Vec<Vec<i32>> = (0..2).map(|i| kernel(&o, image[i], known[i])).collect();
    if (0..2).all(|i| picked[i] == graph(coordinates, image[i], known[i], scale[i])) {
        let y = n.give(Resize { size, scale, mode, coordinates }, &[x])?;
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

/// Input 0 with the rows and columns that the kernel selects for an open size, whose step follows from the extents.
fn picked_open(n: &mut NodeCx<'_, '_>, o: &ResizeNearestNeighbor, size: &Shape) -> Result<ValueId, Refusal> {
    let mut x = n.input(0)?;
    if o.align_corners {
        return Err(Refusal::Open(n.shape(x).clone()));
    }
    for (axis, to) in [1, 2].into_iter().zip(size.dims()) {
        let (from, to) = (n.shape(x).dims()[axis].expr(), to.expr());
        let mut places = counted(n, to.clone())?;
        places = n.cast(places, Elem::F32)?;
        if o.half_pixel_centers {
            let half = n.scalar(0.5, places)?;
            places = n.binary(BinaryFn::Add, places, half)?;
        }
        let (whole, to) = (n.add_whole(vec![from], Extents::new())?, n.add_whole(vec![to], Extents::new())?);
        let (from, to) = (n.cast(whole, Elem::F32)?, n.cast(to, Elem::F32)?);
        let step = n.binary(BinaryFn::Div, from, to)?;
        places = n.binary(BinaryFn::Mul, places, step)?;
        places = n.unary(UnaryFn::Floor, places)?;
        places = n.cast(places, Elem::I64)?;
        let one = n.add_constant(Tensor::scalar(1i64));
        let last = n.binary(BinaryFn::Sub, whole, one)?;
        places = n.binary(BinaryFn::Min, places, last)?;
        x = n.give(Gather { axis }, &[x, places])?;
    }
    Ok(x)
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

//! Resampling of images.

use qcc_formats::tflite::{BuiltinOperator, Options, ResizeBilinear, ResizeNearestNeighbor};
use qcc_ir::ops::{Coordinates, Extents, Nearest, Op, Resize, ResizeMode};
use qcc_ir::{Dim, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, version};
use super::conv::extent;
use crate::extents;

/// A mapping of positions that TFLite supports.
#[derive(Clone, Copy)]
struct Mapping {
    align_corners: bool,
    half_pixel_centers: bool,
}

/// All supported mappings, the default first.
const MAPPINGS: [Mapping; 3] = [
    Mapping { align_corners: false, half_pixel_centers: false },
    Mapping { align_corners: false, half_pixel_centers: true },
    Mapping { align_corners: true, half_pixel_centers: false },
];

/// True if TFLite has a mapping that selects the same elements.
pub(in crate::tflite) fn native(op: &Op, operands: &[&TensorType]) -> bool {
    let Op::Resize(op) = op else { return false };
    operands[0].rank() == 4 && mapping(op, operands[0]).is_some()
}

fn mapping(op: &Resize, x: &TensorType) -> Option<Mapping> {
    let spatial = &x.shape.dims()[2..];
    if op.size.is_open() || spatial.iter().any(|d| d.known().is_none()) {
        return open(op, spatial);
    }
    let op = &Known { sizes: op.sizes()?, scales: op.scales(spatial)?, op };
    let extents = [extent(x, 2)?, extent(x, 3)?];
    let fits = |m: &Mapping| match op.op.mode {
        ResizeMode::Nearest(rounding) => (0..2).all(|i| nearest_fits(op, i, rounding, extents[i], *m)),
        ResizeMode::Linear => (0..2).all(|i| linear_fits(op, i, extents[i], *m)),
        ResizeMode::Cubic { .. } => false,
    };
    MAPPINGS.into_iter().find(fits)
}

/// A resampling whose extents are known.
struct Known<'o> {
    sizes: Extents,
    scales: Vec<f32>,
    op: &'o Resize,
}

/// The mapping for open extents: of whole scales, for which the kernel's steps are those of the operator.
fn open(op: &Resize, spatial: &[Dim]) -> Option<Mapping> {
    let (scaled, quotients) = op.open_scales(spatial);
    let [corner, center, aligned] = MAPPINGS;
    match (op.mode, op.coordinates) {
        (ResizeMode::Nearest(Nearest::Floor), Coordinates::Asymmetric) if scaled => Some(corner),
        (ResizeMode::Linear, Coordinates::Asymmetric) if scaled || quotients => Some(corner),
        (ResizeMode::Linear, Coordinates::HalfPixel) if scaled || quotients => Some(center),
        (ResizeMode::Linear, Coordinates::AlignCorners) => Some(aligned),
        _ => None,
    }
}

/// Compares the selected elements: different mappings may select the same ones.
fn nearest_fits(op: &Known<'_>, i: usize, rounding: Nearest, extent: usize, m: Mapping) -> bool {
    let (last, size) = (extent as f32 - 1.0, op.sizes[i]);
    (0..size).all(|at| {
        let wanted = rounding.round(op.op.coordinates.position(at, op.scales[i], [extent, size]));
        wanted.clamp(0.0, last) == kernel_nearest(at, extent, size, m)
    })
}

/// The index that RESIZE_NEAREST_NEIGHBOR selects.
fn kernel_nearest(at: usize, extent: usize, size: usize, m: Mapping) -> f32 {
    let step = if m.align_corners && size > 1 {
        (extent as f32 - 1.0) / (size as f32 - 1.0)
    } else {
        extent as f32 / size as f32
    };
    let x = (at as f32 + if m.half_pixel_centers { 0.5 } else { 0.0 }) * step;
    (if m.align_corners { x.round() } else { x.floor() }).clamp(0.0, extent as f32 - 1.0)
}

/// RESIZE_BILINEAR derives its step from the extents.
fn linear_fits(op: &Known<'_>, i: usize, extent: usize, m: Mapping) -> bool {
    let size = op.sizes[i];
    let step_fits = || ((extent as f32 * op.scales[i]) - size as f32).abs() < 1e-3;
    match op.op.coordinates {
        _ if size == extent && (op.op.coordinates == Coordinates::AlignCorners || step_fits()) => true,
        Coordinates::HalfPixel => m.half_pixel_centers && step_fits(),
        Coordinates::PytorchHalfPixel => m.half_pixel_centers && step_fits() && size > 1,
        Coordinates::Asymmetric => !m.half_pixel_centers && !m.align_corners && step_fits(),
        Coordinates::AlignCorners => m.align_corners,
        Coordinates::HalfPixelForNearest => false,
    }
}

/// RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR.
pub(super) fn resize(e: &mut Emitter<'_>, op: &Resize, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let m = mapping(op, x).ok_or("TFLite does not support its mapping of positions")?;
    let Mapping { align_corners, half_pixel_centers } = m;
    let inputs = [site.inputs[0], extents::shape(e, &op.size)?];
    let (code, options): (_, Options) = match op.mode {
        ResizeMode::Nearest(_) => (
            BuiltinOperator::RESIZE_NEAREST_NEIGHBOR,
            ResizeNearestNeighbor { align_corners, half_pixel_centers }.into(),
        ),
        ResizeMode::Linear | ResizeMode::Cubic { .. } => {
            (BuiltinOperator::RESIZE_BILINEAR, ResizeBilinear { align_corners, half_pixel_centers }.into())
        }
    };
    let float = if half_pixel_centers || (align_corners && matches!(op.mode, ResizeMode::Nearest(_))) { 3 } else { 1 };
    e.push_operator(code, version(x, float, float.max(2), 4), options, &inputs, &site.outputs);
    Ok(())
}

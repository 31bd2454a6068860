//! Resampling of images.

use qcc_formats::openvino::{Operation, Port};
use qcc_ir::ops::{Coordinates, GridSample, Nearest, Outside, Resize, ResizeMode, SampleMode};
use qcc_ir::{Dim, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, attribute};
use crate::extents;

/// Whether sizes or scales are given. The other follows, and positions are computed with the scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Sizes,
    Scales,
}

fn given(op: &Resize, x: &TensorType) -> Option<Given> {
    let spatial = &x.shape.dims()[2..];
    if op.size.is_open() || spatial.iter().any(|d| d.known().is_none()) {
        let (scaled, quotients) = op.open_scales(spatial);
        return if scaled { Some(Given::Scales) } else { quotients.then_some(Given::Sizes) };
    }
    let extents: Vec<usize> = spatial.iter().filter_map(Dim::known).collect();
    let (sizes, scales) = (op.sizes()?, op.scales(spatial)?);
    let axes = || extents.iter().zip(&sizes).zip(&scales);
    // Aligned corners are computed from the extents alone.
    let aligned = op.coordinates == Coordinates::AlignCorners;
    if aligned || axes().all(|((&extent, &size), &scale)| size as f32 / extent as f32 == scale) {
        Some(Given::Sizes)
    } else if axes().all(|((&extent, &size), &scale)| (extent as f32 * scale) as usize == size) {
        Some(Given::Scales)
    } else {
        None
    }
}

/// True if OpenVINO's interpolation computes the same.
pub(in crate::openvino) fn native(op: &Resize, x: &TensorType) -> bool {
    let axes = op.size.rank();
    let mode = match op.mode {
        ResizeMode::Nearest(rounding) => axes <= 3 && nearest_fits(op, rounding, x),
        ResizeMode::Linear => axes <= 3 && op.coordinates != Coordinates::HalfPixelForNearest,
        ResizeMode::Cubic { .. } => axes == 2 && op.coordinates != Coordinates::HalfPixelForNearest,
    };
    mode && given(op, x).is_some()
}

/// Whether the same elements are selected. With open extents only aligned corners are known to select others: the kernel
/// multiplies by a rounded step, and no exact division is at hand for other positions.
fn nearest_fits(op: &Resize, rounding: Nearest, x: &TensorType) -> bool {
    let spatial = &x.shape.dims()[2..];
    let extents: Option<Vec<usize>> = spatial.iter().map(Dim::known).collect();
    let (Some(extents), Some(sizes), Some(scales)) = (extents, op.sizes(), op.scales(spatial)) else {
        return op.coordinates != Coordinates::AlignCorners;
    };
    extents.iter().zip(&sizes).zip(&scales).all(|((&extent, &size), &scale)| {
        let index = |at: f32| at.clamp(0.0, extent as f32 - 1.0);
        (0..size).all(|i| {
            let at = op.coordinates.position(i, scale, [extent, size]);
            let step = (extent as f32 - 1.0) / (size as f32 - 1.0).max(1.0);
            let kernel = if op.coordinates == Coordinates::AlignCorners { i as f32 * step } else { at };
            index(rounding.round(at)) == index(kernel_round(rounding, kernel))
        })
    })
}

/// The index that Interpolate rounds a position to: half way is no wider than one number.
fn kernel_round(rounding: Nearest, at: f32) -> f32 {
    match rounding {
        Nearest::PreferFloor => (at - 0.5).ceil(),
        Nearest::PreferCeil => (at + 0.5).floor(),
        Nearest::Floor => at.floor(),
        Nearest::Ceil => at.ceil(),
    }
}

/// Interpolate.
pub(super) fn resize(e: &mut Emitter<'_>, op: &Resize, site: &NodeContext) -> Result<Port, Unsupported> {
    let x = &site.operands[0];
    let given = given(op, x).ok_or("its extents do not follow from its scales")?;
    let nearest = match op.mode {
        ResizeMode::Nearest(Nearest::PreferCeil) => "round_prefer_ceil",
        ResizeMode::Nearest(Nearest::Floor) => "floor",
        ResizeMode::Nearest(Nearest::Ceil) => "ceil",
        _ => "round_prefer_floor",
    };
    let (mode, cube) = match op.mode {
        ResizeMode::Nearest(_) => ("nearest", -0.75),
        ResizeMode::Linear => ("linear_onnx", -0.75),
        ResizeMode::Cubic { a } => ("cubic", a),
    };
    let coordinates = match op.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::HalfPixelForNearest => "tf_half_pixel_for_nn",
    };
    let data = [
        attribute("mode", mode),
        attribute("shape_calculation_mode", if given == Given::Sizes { "sizes" } else { "scales" }),
        attribute("coordinate_transformation_mode", coordinates),
        attribute("nearest_mode", nearest),
        attribute("antialias", false),
        attribute("pads_begin", 0),
        attribute("pads_end", 0),
        attribute("cube_coeff", cube),
    ];
    let axes: Vec<usize> = (2..x.rank()).collect();
    let scales = e.numbers(&TensorType::f32(&[op.scale.len()]), &op.scale);
    let inputs = [e.operand(site, 0), extents::shape(e, &op.size)?, scales, e.axes(&axes)];
    Ok(e.op(Operation("Interpolate", 4), &data, &inputs, &site.results[0]))
}

/// GridSample.
pub(super) fn grid_sample(e: &mut Emitter<'_>, op: &GridSample, site: &NodeContext) -> Port {
    let mode = match op.mode {
        SampleMode::Nearest => "nearest",
        SampleMode::Linear => "bilinear",
        SampleMode::Cubic => "bicubic",
    };
    let outside = match op.outside {
        Outside::Zero => "zeros",
        Outside::Edge => "border",
        Outside::Reflect => "reflection",
    };
    let data =
        [attribute("align_corners", op.align_corners), attribute("mode", mode), attribute("padding_mode", outside)];
    let inputs = e.operands(site);
    e.op(Operation("GridSample", 9), &data, &inputs, &site.results[0])
}

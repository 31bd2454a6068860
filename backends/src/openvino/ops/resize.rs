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
        ResizeMode::Nearest(_) => axes <= 3,
        ResizeMode::Linear => axes <= 3 && op.coordinates != Coordinates::HalfPixelForNearest,
        ResizeMode::Cubic { .. } => axes == 2 && op.coordinates != Coordinates::HalfPixelForNearest,
    };
    mode && given(op, x).is_some()
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

//! Resampling of images.

use qcc_ir::ops::{Coordinates, GridSample, Nearest, Outside, Resize, ResizeMode, SampleMode};
use qcc_ir::{Dim, Shape, TensorType};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported};
use crate::extents;

/// Whether sizes or scales are given; the other follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Scales,
    Sizes,
}

/// True if runtimes compute the same extents and positions from sizes or scales, and support the number of interpolated
/// axes.
pub(in crate::onnx) fn native(op: &Resize, x: &TensorType) -> bool {
    let spatial = op.size.rank();
    let kernel = match op.mode {
        ResizeMode::Nearest(_) => true,
        ResizeMode::Linear => spatial <= 3,
        ResizeMode::Cubic { .. } => spatial == 2,
    };
    kernel && given(op, x).is_some()
}

fn given(op: &Resize, x: &TensorType) -> Option<Given> {
    let spatial = &x.shape.dims()[2..];
    if op.size.is_open() || x.shape.dims()[2..].iter().any(|d| d.known().is_none()) {
        let (scaled, quotients) = op.open_scales(spatial);
        return if scaled { Some(Given::Scales) } else { quotients.then_some(Given::Sizes) };
    }
    let extents: Vec<f32> = spatial.iter().filter_map(Dim::known).map(|n| n as f32).collect();
    let (sizes, scales) = (op.sizes()?, op.scales(spatial)?);
    let all = |fits: &dyn Fn(f32, f32, usize) -> bool| {
        extents.iter().zip(&scales).zip(&sizes).all(|((&x, &scale), &size)| fits(x, scale, size))
    };
    // Some runtimes multiply in F32, some in F64.
    let extent = |x: f32, scale: f32| (f64::from(x) * f64::from(scale)).floor();
    if all(&|x, scale, size| (x * scale).floor() == size as f32 && extent(x, scale) == size as f64) {
        Some(Given::Scales)
    } else if all(&|x, scale, size| size as f32 / x == scale) {
        Some(Given::Sizes)
    } else {
        None
    }
}

/// Resize.
pub(super) fn resize(e: &mut Emitter<'_>, op: &Resize, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let coordinates = match op.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::HalfPixelForNearest => "tf_half_pixel_for_nn",
    };
    let call = Call::new("Resize").string("coordinate_transformation_mode", coordinates);
    let call = match op.mode {
        ResizeMode::Nearest(rounding) => call.string("mode", "nearest").string("nearest_mode", nearest(rounding)),
        ResizeMode::Linear => call.string("mode", "linear"),
        ResizeMode::Cubic { a } => call.string("mode", "cubic").float("cubic_coeff_a", a),
    };
    let given = given(op, x).ok_or("its scales give other extents")?;
    let reduces = || op.scales(&x.shape.dims()[2..]).is_none_or(|scales| scales.iter().any(|&scale| scale < 1.0));
    let apart = matches!(op.mode, ResizeMode::Cubic { .. }) && !e.stored.is_empty() && reduces();
    let images = if apart { one_channel(&x.shape).ok_or("its image is too large")? } else { x.shape.clone() };
    let mut image = e.input(site, 0);
    if apart {
        image = e.reshaped(site, &image, &TensorType { shape: images.clone(), ..x.clone() })?;
    }
    let sizes: Shape = images.dims()[..2].iter().chain(op.size.dims()).cloned().collect();
    let mut inputs = vec![image, Name::default()];
    match given {
        Given::Scales => inputs.push(e.list([1.0, 1.0].into_iter().chain(op.scale.iter().copied()))),
        Given::Sizes => inputs.extend([Name::default(), extents::shape(e, &sizes)?]),
    }
    if !apart {
        e.push(call, &inputs, &site.outputs);
        return Ok(());
    }
    let y = &site.results[0];
    let resized = e.scratch(site, &TensorType { shape: sizes.clone(), ..y.clone() });
    e.push(call, &inputs, std::slice::from_ref(&resized));
    e.reshape(&resized, Some(&sizes), &site.outputs[0], &y.shape)
}

/// The shape of images whose channels are images of their own. ONNX Runtime moves channels behind the image between integer
/// convolutions, where it cannot make an image smaller by cubic interpolation; a Reshape stops that.
fn one_channel(shape: &Shape) -> Option<Shape> {
    let images = Shape::count(&shape.dims()[..2])?;
    Some([images, Dim::Known(1)].into_iter().chain(shape.dims()[2..].iter().cloned()).collect())
}

fn nearest(rounding: Nearest) -> &'static str {
    match rounding {
        Nearest::PreferFloor => "round_prefer_floor",
        Nearest::PreferCeil => "round_prefer_ceil",
        Nearest::Floor => "floor",
        Nearest::Ceil => "ceil",
    }
}

/// True if runtimes support the number of axes.
pub(in crate::onnx) fn samples(op: &GridSample, x: &TensorType) -> bool {
    let most = if op.mode == SampleMode::Cubic { 2 } else { 3 };
    (2..=most).contains(&(x.rank() - 2))
}

/// GridSample.
pub(super) fn grid_sample(e: &mut Emitter<'_>, op: &GridSample, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let mode = match op.mode {
        SampleMode::Nearest => "nearest",
        SampleMode::Linear => "linear",
        SampleMode::Cubic => "cubic",
    };
    let outside = match op.outside {
        Outside::Zero => "zeros",
        Outside::Edge => "border",
        Outside::Reflect => "reflection",
    };
    let call = Call::new("GridSample").since(20).string("mode", mode).string("padding_mode", outside);
    e.push_at(call.int("align_corners", op.align_corners), site);
    Ok(())
}

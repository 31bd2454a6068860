//! Resampling of images.

use qcc_ir::ops::{Coordinates, GridSample, Nearest, Outside, Resize, ResizeMode, SampleMode};

use super::super::node::NodeCx;
use super::Row;
use crate::build::resize::{Sizes, resize};
use crate::build::{Build, Operands, Values, count_axis, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("GridSample", grid_sample), ("Interpolate", interpolate)];

fn grid_sample(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = match n.text("mode") {
        None | Some("bilinear") => SampleMode::Linear,
        Some("nearest") => SampleMode::Nearest,
        Some("bicubic") => SampleMode::Cubic,
        Some(_) => return Err(Refusal::unknown_mode("mode")),
    };
    let outside = match n.text("padding_mode") {
        None | Some("zeros") => Outside::Zero,
        Some("border") => Outside::Edge,
        Some("reflection") => Outside::Reflect,
        Some(_) => return Err(Refusal::unknown_mode("padding_mode")),
    };
    let align_corners = n.flag("align_corners", false)?;
    let operands = [n.input(0)?, n.input(1)?];
    one(n.add(GridSample { mode, outside, align_corners }, &operands)?)
}

fn mode(n: &mut NodeCx<'_, '_>) -> Result<ResizeMode, Refusal> {
    let nearest = match n.text("nearest_mode") {
        None | Some("round_prefer_floor") => Some(Nearest::PreferFloor),
        Some("round_prefer_ceil") => Some(Nearest::PreferCeil),
        Some("floor") => Some(Nearest::Floor),
        Some("ceil") => Some(Nearest::Ceil),
        Some(_) => None,
    };
    let a = n.number("cube_coeff")?.unwrap_or(-0.75);
    match n.text("mode") {
        Some("nearest") => nearest.map(ResizeMode::Nearest).ok_or_else(|| Refusal::unknown_mode("nearest_mode")),
        Some("linear" | "linear_onnx") => Ok(ResizeMode::Linear),
        Some("cubic") => Ok(ResizeMode::Cubic { a }),
        Some(other) => Err(Refusal::Unsupported(format!("resizing in mode {other} is not supported"))),
        None => Err(Refusal::unknown_mode("mode")),
    }
}

/// Sizes or scales, one for each of the axes, which are the last input. Before operation set 11 both are given.
fn interpolate(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mode = mode(n)?;
    let coordinates = match n.text("coordinate_transformation_mode") {
        None | Some("half_pixel") => Coordinates::HalfPixel,
        Some("pytorch_half_pixel") => Coordinates::PytorchHalfPixel,
        Some("asymmetric") => Coordinates::Asymmetric,
        Some("align_corners") => Coordinates::AlignCorners,
        Some("tf_half_pixel_for_nn") => Coordinates::HalfPixelForNearest,
        Some(_) => return Err(Refusal::unknown_mode("coordinate_transformation_mode")),
    };
    if n.flag("antialias", false)? {
        return Err(Refusal::Unsupported("resizing with antialias is not supported".into()));
    }
    if [n.list("pads_begin")?, n.list("pads_end")?].concat().iter().any(|&p| p != 0) {
        return Err(Refusal::Unsupported("resizing with padding is not supported".into()));
    }
    let by_sizes = match n.text("shape_calculation_mode") {
        Some("sizes") => true,
        Some("scales") => false,
        _ => return Err(Refusal::unknown_mode("shape_calculation_mode")),
    };
    let x = n.input(0)?;
    let both = n.inputs() > 2 && n.giver(2)?.outputs.first().is_some_and(|t| t.element.name().starts_with('f'));
    let (scales_at, axes_at) = if both { (2, 3) } else { (1, 2) };
    let rank = n.rank(x);
    let axes: Vec<usize> = match n.inputs() > axes_at {
        true => n.integers(axes_at)?.iter().map(|&a| count_axis(a, rank)).collect::<Result<_, _>>()?,
        false => (0..rank).collect(),
    };
    let sizes = match by_sizes {
        true => {
            let asked = n.extents(1)?;
            Sizes::by_sizes(n, x, &axes, &asked)?
        }
        false => {
            let scales = n.input(scales_at)?;
            let scales = n.known(scales, scales_at)?.floats().into_owned();
            Sizes::by_scales(n, x, &axes, &scales)?
        }
    };
    let Sizes { size, scale } = sizes;
    one(resize(n, x, Resize { size, scale, mode, coordinates })?)
}

//! Resampling of images.

use qcc_ir::diagnostic::list;
use qcc_ir::ops::{Coordinates, GridSample, Nearest, Outside, Resize, ResizeMode, SampleMode};
use qcc_ir::{Dim, Shape, ValueId};

use super::super::node::NodeCx;
use super::super::quantity::Quantity;
use super::super::schema::Number;
use super::Row;
use crate::build::computed::shape_of;
use crate::build::resize::{resize, scale_between};
use crate::build::{Build, Values, extent, one, sample};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("_upsample_nearest_exact1d", |n| nearest(n, true)),
    ("_upsample_nearest_exact2d", |n| nearest(n, true)),
    ("_upsample_nearest_exact3d", |n| nearest(n, true)),
    ("_upsample_bicubic2d_aa", |n| smooth(n, ResizeMode::Cubic { a: -0.5 }, true)),
    ("_upsample_bilinear2d_aa", |n| smooth(n, ResizeMode::Linear, true)),
    ("affine_grid_generator", |n| {
        let (theta, size) = (n.tensor("theta")?, n.extents("size")?);
        let align_corners = n.flag("align_corners", false)?;
        one(sample::affine_grid(n, theta, &size, align_corners)?)
    }),
    ("grid_sampler", grid_sample),
    ("grid_sampler_2d", grid_sample),
    ("grid_sampler_3d", grid_sample),
    ("upsample_bicubic2d", |n| smooth(n, ResizeMode::Cubic { a: -0.75 }, false)),
    ("upsample_bilinear2d", |n| smooth(n, ResizeMode::Linear, false)),
    ("upsample_linear1d", |n| smooth(n, ResizeMode::Linear, false)),
    ("upsample_nearest1d", |n| nearest(n, false)),
    ("upsample_nearest2d", |n| nearest(n, false)),
    ("upsample_nearest3d", |n| nearest(n, false)),
    ("upsample_trilinear3d", |n| smooth(n, ResizeMode::Linear, false)),
];

/// The extents and scales of all axes: extents are given, or follow from scales. Coordinates use a given scale.
fn sizes(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<(Shape, Vec<f32>), Refusal> {
    let mut shape = n.shape(x).clone();
    let spatial = shape.rank().saturating_sub(2);
    let asked = n.optional_wholes("output_size")?;
    let factors = factors(n, spatial)?;
    let asked = match (asked, &factors) {
        (Some(asked), _) => shape_of(&asked)?.dims().to_vec(),
        (None, Some(factors)) => {
            let each = shape.dims().iter().skip(2).zip(factors).enumerate();
            each.map(|(i, (dim, factor))| scaled(n, dim, *factor, 2 + i)).collect::<Result<_, _>>()?
        }
        (None, None) => return Err(n.missing("output_size")),
    };
    let is_empty = |dims: &[Dim]| dims.contains(&Dim::Known(0));
    let matches = factors.as_ref().is_none_or(|f| f.len() == spatial && f.iter().all(|f| f.is_finite() && *f > 0.0));
    if asked.len() != spatial || spatial == 0 || !matches || is_empty(&shape.dims()[2..]) || is_empty(&asked) {
        return Err(Refusal::Invalid(format!("extents {} for {}", list(&asked), n.ty(x))));
    }
    let mut scale = vec![1.0; 2];
    for (i, to) in asked.into_iter().enumerate() {
        let factor = factors.as_ref().map(|f| f[i] as f32);
        let from = &shape.dims()[2 + i];
        scale.push(factor.unwrap_or_else(|| scale_between(from, &to)));
        shape = shape.with(2 + i, to);
    }
    Ok((shape, scale))
}

/// The scales that a node gives. The older overload has one argument for each axis.
fn factors(n: &mut NodeCx<'_, '_>, spatial: usize) -> Result<Option<Vec<f64>>, Refusal> {
    // A scale that follows from open extents is that of the extents.
    let sized = n.has("output_size");
    let mut known = |name: &str| match n.optional_floats(name) {
        Err(Refusal::OpenNumber { .. }) if sized => Ok(None),
        other => other,
    };
    let mut factors = known("scale_factors")?;
    let names: &[&str] = match spatial {
        1 => &["scales"],
        2 => &["scales_h", "scales_w"],
        _ => &["scales_d", "scales_h", "scales_w"],
    };
    for name in names {
        if let Some(factor) = known(name)? {
            factors.get_or_insert_default().extend(factor);
        }
    }
    Ok(factors)
}

/// An extent times a scale, rounded down. Of an open one it is an expression, or what the program declares.
fn scaled(n: &NodeCx<'_, '_>, dim: &Dim, factor: f64, axis: usize) -> Result<Dim, Refusal> {
    if let Some(size) = dim.known() {
        return Ok(extent((size as f64 * factor).floor() as i64)?.into());
    }
    let parts = Quantity::Known(Number::Float(factor)).parts();
    let size = parts.and_then(|(by, of)| dim.expr().times(&by)?.floor_div(of)).and_then(Dim::of);
    size.or_else(|| n.declared_extent(0, axis)).ok_or_else(|| Refusal::Open([dim.clone()].into_iter().collect()))
}

/// Positions are rounded down; with `exact` they start at pixel centres.
fn nearest(n: &mut NodeCx<'_, '_>, exact: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (size, scale) = sizes(n, x)?;
    let (coordinates, rounding) = match exact {
        true => (Coordinates::HalfPixel, Nearest::PreferCeil),
        false => (Coordinates::Asymmetric, Nearest::Floor),
    };
    let op = Resize { size, scale, mode: ResizeMode::Nearest(rounding), coordinates };
    one(resize(n, x, op)?)
}

fn smooth(n: &mut NodeCx<'_, '_>, mode: ResizeMode, antialias: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (size, scale) = sizes(n, x)?;
    let corners = n.flag("align_corners", false)?;
    if antialias && scale.iter().any(|&s| s < 1.0) {
        return Err(Refusal::Unsupported("reducing with antialias is not supported".into()));
    }
    let coordinates = if corners { Coordinates::AlignCorners } else { Coordinates::HalfPixel };
    one(resize(n, x, Resize { size, scale, mode, coordinates })?)
}

fn grid_sample(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let operands = [n.tensor("input")?, n.tensor("grid")?];
    let mode = match n.required_int("interpolation_mode")? {
        0 => SampleMode::Linear,
        1 => SampleMode::Nearest,
        2 => SampleMode::Cubic,
        _ => return Err(Refusal::Argument { name: "interpolation_mode".into(), problem: "is no known mode" }),
    };
    let outside = match n.required_int("padding_mode")? {
        0 => Outside::Zero,
        1 => Outside::Edge,
        2 => Outside::Reflect,
        _ => return Err(Refusal::Argument { name: "padding_mode".into(), problem: "is no known mode" }),
    };
    let align_corners = n.flag("align_corners", false)?;
    // PyTorch reflects positions halfway between two elements before rounding, which selects another element.
    if mode == SampleMode::Nearest && outside == Outside::Reflect && !align_corners {
        return Err(Refusal::Unsupported(
            "the nearest element of an image reflected at its outer ends is not supported; use align_corners=True or \
             another padding_mode"
                .into(),
        ));
    }
    one(n.add(GridSample { mode, outside, align_corners }, &operands)?)
}

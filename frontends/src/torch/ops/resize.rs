//! Resampling of images.

use qcc_ir::ops::{Coordinates, GridSample, Nearest, Outside, Resize, ResizeMode, SampleMode};
use qcc_ir::{Shape, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, extent, extents, one, resize, sample};
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
fn sizes(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<(Vec<usize>, Vec<f32>), Refusal> {
    let mut size = n.dims(x)?.to_vec();
    let spatial = size.len().saturating_sub(2);
    let asked = n.optional_ints("output_size")?;
    let mut factors = n.optional_floats("scale_factors")?;
    // The older overload has one argument for each axis.
    let names: &[&str] = match spatial {
        1 => &["scales"],
        2 => &["scales_h", "scales_w"],
        _ => &["scales_d", "scales_h", "scales_w"],
    };
    for name in names {
        if let Some(factor) = n.optional_floats(name)? {
            factors.get_or_insert_default().extend(factor);
        }
    }
    let asked = match (asked, &factors) {
        (Some(asked), _) => extents(&asked)?,
        (None, Some(factors)) => {
            let scaled = size[2..].iter().zip(factors).map(|(&s, f)| extent((s as f64 * f).floor() as i64));
            scaled.collect::<Result<_, _>>()?
        }
        (None, None) => return Err(n.missing("output_size")),
    };
    let matches = factors.as_ref().is_none_or(|f| f.len() == spatial && f.iter().all(|f| f.is_finite() && *f > 0.0));
    if asked.len() != spatial || spatial == 0 || !matches || size[2..].contains(&0) || asked.contains(&0) {
        return Err(Refusal::Invalid(format!("extents {asked:?} for {}", n.ty(x))));
    }
    let mut scale = vec![1.0; 2];
    for i in 0..spatial {
        let factor = factors.as_ref().map(|f| f[i] as f32);
        scale.push(factor.unwrap_or(asked[i] as f32 / size[2 + i] as f32));
        size[2 + i] = asked[i];
    }
    Ok((size, scale))
}

/// Positions are rounded down; with `exact` they start at pixel centres.
fn nearest(n: &mut NodeCx<'_, '_>, exact: bool) -> Result<Values, Refusal> {
    let x = n.input()?;
    let (size, scale) = sizes(n, x)?;
    let (coordinates, rounding) = match exact {
        true => (Coordinates::HalfPixel, Nearest::PreferCeil),
        false => (Coordinates::Asymmetric, Nearest::Floor),
    };
    let op = Resize { size: Shape::known(&size), scale, mode: ResizeMode::Nearest(rounding), coordinates };
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
    one(resize(n, x, Resize { size: Shape::known(&size), scale, mode, coordinates })?)
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

//! Resampling of images.

use qcc_ir::ops::{
    BinaryFn, Coordinates, Extents, GridSample, Nearest, Outside, Resize, ResizeMode, SampleMode, Select,
};
use qcc_ir::{Expr, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::resample::{Filter, Resample, picked};
use crate::build::resample_computed::{Asked, resampled};
use crate::build::resize::{Sizes, resize as resize_axes};
use crate::build::{Build, Operands, Values, count_axes, count_axis, extent, extents, one, sample};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[("AffineGrid", affine_grid), ("GridSample", grid_sample), ("Resize", resize), ("Upsample", upsample)];

fn affine_grid(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (theta, size) = (n.input(0)?, n.integers(1)?);
    let (size, align_corners) = (extents(&size)?, n.flag("align_corners", false)?);
    one(sample::affine_grid(n, theta, &size, align_corners)?)
}

/// Since opset 20 mode names are independent of the number of axes.
fn grid_sample(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let operands = [n.input(0)?, n.input(1)?];
    let mode = match n.string("mode", if n.opset() < 20 { "bilinear" } else { "linear" })? {
        "nearest" => SampleMode::Nearest,
        "bilinear" | "linear" => SampleMode::Linear,
        "bicubic" | "cubic" => SampleMode::Cubic,
        _ => return Err(Refusal::unknown_mode("mode")),
    };
    let outside = match n.string("padding_mode", "zeros")? {
        "zeros" => Outside::Zero,
        "border" => Outside::Edge,
        "reflection" => Outside::Reflect,
        _ => return Err(Refusal::unknown_mode("padding_mode")),
    };
    let align_corners = n.flag("align_corners", false)?;
    one(n.add(GridSample { mode, outside, align_corners }, &operands)?)
}

/// Before Resize had coordinate transformation modes: positions are divided by the scale.
fn upsample(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let scales = if n.opset() < 7 {
        let missing = |name: &str| Refusal::Attribute { name: name.into(), problem: "is missing" };
        let height = n.optional_float("height_scale")?.ok_or_else(|| missing("height_scale"))?;
        vec![1.0, 1.0, height, n.optional_float("width_scale")?.ok_or_else(|| missing("width_scale"))?]
    } else if n.opset() < 9 {
        n.floats("scales")?.ok_or(Refusal::Attribute { name: "scales".into(), problem: "is missing" })?.to_vec()
    } else {
        scales(n, 1)?.ok_or(Refusal::MissingInput(1))?
    };
    plain(n, x, &scales)
}

fn plain(n: &mut NodeCx<'_, '_>, x: ValueId, scales: &[f32]) -> Result<Values, Refusal> {
    let all: Extents = (0..n.rank(x)).collect();
    let sizes = Sizes::by_scales(n, x, &all, scales)?;
    let mode = match n.string("mode", "nearest")? {
        "nearest" => {
            // Positions are rounded so that upsampling repeats and downsampling skips elements.
            let reduces = sizes.scale.iter().any(|&s| s < 1.0);
            if reduces && sizes.scale.iter().any(|&s| s > 1.0) {
                return one(by_axes(n, x, &sizes, |scale| if scale < 1.0 { Nearest::Ceil } else { Nearest::Floor })?);
            }
            ResizeMode::Nearest(if reduces { Nearest::Ceil } else { Nearest::Floor })
        }
        "linear" | "bilinear" => ResizeMode::Linear,
        other => return Err(Refusal::Unsupported(format!("resizing in mode {other} is not supported"))),
    };
    one(add(n, x, sizes, mode, Coordinates::Asymmetric)?)
}

fn resize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    if n.opset() < 11 {
        let scales = scales(n, 1)?.ok_or(Refusal::MissingInput(1))?;
        return plain(n, x, &scales);
    }
    let axes = match n.ints("axes")? {
        Some(axes) => {
            count_axes(axes, n.rank(x))?;
            axes.iter().map(|&a| count_axis(a, n.rank(x))).collect::<Result<Extents, _>>()?
        }
        None => (0..n.rank(x)).collect(),
    };
    let policy = n.string("keep_aspect_ratio_policy", "stretch")?;
    if let Some(scales) = n.optional(2).filter(|&v| !n.is_known(v) && n.shape(v).elements() != Some(0)) {
        return computed(n, x, &axes, Asked::Scales(scales));
    }
    let asked = n.optional_extents(3)?.filter(|s| !s.is_empty());
    if let Some(asked) = asked.as_deref().filter(|asked| policy == "stretch" && beside_image(n, x, &axes, asked)) {
        return computed(n, x, &axes, Asked::Sizes(asked));
    }
    let sizes = match (scales(n, 2)?.filter(|s| !s.is_empty()), asked) {
        (Some(scales), None) => Sizes::by_scales(n, x, &axes, &scales)?,
        (None, Some(asked)) => by_sizes(n, x, &axes, &asked, policy)?,
        _ => return Err(Refusal::Invalid("either scales or sizes must be given".into())),
    };
    let mode = mode(n)?;
    let coordinates = coordinates(n, x, &sizes)?;
    if coordinates == Mapping::Of(Coordinates::HalfPixelForNearest) && !matches!(mode, ResizeMode::Nearest(_)) {
        return Err(Refusal::Unsupported("the coordinates tf_half_pixel_for_nn are for mode nearest alone".into()));
    }
    let (exclude_outside, antialias) = (n.flag("exclude_outside", false)?, n.flag("antialias", false)?);
    let beyond = n.float("extrapolation_value", 0.0)?;
    // The region of interest is used in one mode only.
    let roi = match coordinates {
        Mapping::Region => n.optional_constant(1)?.map(|roi| roi.floats().into_owned()).unwrap_or_default(),
        _ => {
            n.optional(1);
            Vec::new()
        }
    };
    let antialias =
        antialias && !matches!(mode, ResizeMode::Nearest(_)) && sizes.scale.iter().any(|&s| s > 0.0 && s < 1.0);
    let exclude_outside = exclude_outside && (antialias || matches!(mode, ResizeMode::Cubic { .. }));
    // The graph's operator is for floats.
    let integers = !n.ty(x).elem.is_float() && n.ty(x).elem.qparams().is_none();
    match (coordinates, mode) {
        (Mapping::Of(coordinates), _) if !exclude_outside && !antialias && !integers => {
            one(add(n, x, sizes, mode, coordinates)?)
        }
        (_, ResizeMode::Linear | ResizeMode::Cubic { .. }) if integers => Err(Refusal::Advised {
            message: format!("interpolation of {} is not supported", n.ty(x).elem),
            help: "cast its operands to a float, and the result back",
        }),
        _ => {
            one(Explicit { axes, mapping: coordinates, mode, exclude_outside, antialias, roi, beyond }
                .add(n, x, &sizes)?)
        }
    }
}

/// True if an axis before those of an image is resized to or from an open extent.
fn beside_image(n: &NodeCx<'_, '_>, x: ValueId, axes: &[usize], asked: &[Expr]) -> bool {
    let resized = |(&axis, size): (&usize, &Expr)| {
        let extent = n.shape(x).dims()[axis].expr();
        axis < 2 && extent != *size && (extent.constant().is_none() || size.constant().is_none())
    };
    axes.iter().zip(asked).any(resized)
}

/// Resizing by numbers that are known at run time only.
fn computed(n: &mut NodeCx<'_, '_>, x: ValueId, axes: &[usize], asked: Asked<'_>) -> Result<Values, Refusal> {
    let mode = mode(n)?;
    let help = "fix the sizes of the result: --set, or --shape for the inputs that they follow from";
    let refused = |what: &str| Refusal::Advised { message: format!("{what} by computed sizes"), help };
    let mapping = n.string("coordinate_transformation_mode", "half_pixel")?;
    let coordinates =
        plain_coordinates(mapping).ok_or_else(|| refused(&format!("resizing with coordinates {mapping}")))?;
    let antialias = n.flag("antialias", false)?;
    if antialias && mode == ResizeMode::Linear {
        return Err(refused("antialiasing"));
    }
    if n.string("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        return Err(refused("keeping the aspect ratio"));
    }
    if let ResizeMode::Cubic { .. } = mode {
        return Err(refused("cubic interpolation"));
    }
    n.flag("exclude_outside", false)?;
    n.float("extrapolation_value", 0.0)?;
    n.optional(1);
    one(resampled(n, x, axes, asked, mode, coordinates)?)
}

fn plain_coordinates(name: &str) -> Option<Coordinates> {
    Some(match name {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "asymmetric" => Coordinates::Asymmetric,
        "align_corners" => Coordinates::AlignCorners,
        "tf_half_pixel_for_nn" => Coordinates::HalfPixelForNearest,
        _ => return None,
    })
}

fn mode(n: &mut NodeCx<'_, '_>) -> Result<ResizeMode, Refusal> {
    let nearest = match n.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Nearest::PreferFloor,
        "round_prefer_ceil" => Nearest::PreferCeil,
        "floor" => Nearest::Floor,
        "ceil" => Nearest::Ceil,
        _ => return Err(Refusal::unknown_mode("nearest_mode")),
    };
    let a = n.float("cubic_coeff_a", -0.75)?;
    match n.string("mode", "nearest")? {
        "nearest" => Ok(ResizeMode::Nearest(nearest)),
        "linear" => Ok(ResizeMode::Linear),
        "cubic" => Ok(ResizeMode::Cubic { a }),
        other => Err(Refusal::Unsupported(format!("resizing in mode {other} is not supported"))),
    }
}

/// The mapping of positions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mapping {
    /// One of the graph's operator.
    Of(Coordinates),
    /// As `HalfPixel`, about the centre of the image.
    Symmetric,
    /// A region of interest.
    Region,
}

fn coordinates(n: &mut NodeCx<'_, '_>, x: ValueId, sizes: &Sizes) -> Result<Mapping, Refusal> {
    let name = n.string("coordinate_transformation_mode", "half_pixel")?;
    if let Some(plain) = plain_coordinates(name) {
        return Ok(Mapping::Of(plain));
    }
    Ok(Mapping::Of(match name {
        // It differs from half_pixel only if the scale is not the ratio of the extents.
        "half_pixel_symmetric" => {
            let extents = n.dims(x)?;
            let axes = extents.iter().zip(sizes.size.dims()).zip(&sizes.scale);
            let whole = axes.into_iter().all(|((&x, y), &s)| y.known().is_some_and(|y| x as f32 * s == y as f32));
            if !whole {
                return Ok(Mapping::Symmetric);
            }
            Coordinates::HalfPixel
        }
        "tf_crop_and_resize" => return Ok(Mapping::Region),
        other => return Err(Refusal::Unsupported(format!("resizing with coordinates {other} is not supported"))),
    }))
}

/// A resampling that the graph's operator does not have, along each axis by a constant linear map.
struct Explicit {
    axes: Extents,
    mapping: Mapping,
    mode: ResizeMode,
    exclude_outside: bool,
    antialias: bool,
    /// First and last positions of the region of interest for each axis, as fractions.
    roi: Vec<f32>,
    /// The value of positions outside the image in a region of interest.
    beyond: f32,
}

impl Explicit {
    fn add(&self, n: &mut NodeCx<'_, '_>, x: ValueId, sizes: &Sizes) -> Result<ValueId, Refusal> {
        let old = n.dims(x)?;
        let new = sizes.size.extents().ok_or_else(|| Refusal::Open(sizes.size.clone()))?;
        if self.mapping == Mapping::Region && self.roi.len() != 2 * self.axes.len() {
            return Err(Refusal::Invalid(format!(
                "a region of {} numbers for {} axes",
                self.roi.len(),
                self.axes.len()
            )));
        }
        let mut y = x;
        let mut inside: Option<ValueId> = None;
        for (i, &axis) in self.axes.iter().enumerate() {
            let (from, to, scale) = (old[axis], new[axis], sizes.scale[axis]);
            if from == to && scale == 1.0 && self.mapping != Mapping::Region {
                continue;
            }
            let positions: Vec<f32> = (0..to).map(|at| self.position(i, at, [from, to], scale)).collect();
            if self.mapping == Mapping::Region {
                let mut dims = Extents::from_elem(1, old.len());
                dims[axis] = to;
                let within = positions.iter().map(|p| (0.0..=(from - 1) as f32).contains(p));
                let within = n.add_constant(Tensor::from_bools(Shape::known(&dims), within));
                inside = Some(inside.map_or(Ok(within), |all| n.binary(BinaryFn::And, all, within))?);
            }
            let stretch = if self.antialias && scale < 1.0 { 1.0 / scale } else { 1.0 };
            let map = |filter| Resample { filter, stretch, exclude_outside: self.exclude_outside };
            y = match self.mode {
                ResizeMode::Nearest(nearest) => {
                    let places: Vec<f32> = positions.iter().map(|&p| nearest.round(p)).collect();
                    picked(n, y, axis, &places)?
                }
                ResizeMode::Linear => map(Filter::Linear).apply(n, y, axis, &positions)?,
                ResizeMode::Cubic { a } => map(Filter::Cubic { a }).apply(n, y, axis, &positions)?,
            };
        }
        let Some(inside) = inside else { return Ok(y) };
        let beyond = n.scalar(self.beyond.into(), y)?;
        n.add(Select {}, &[inside, y, beyond])
    }

    /// The position of element `at` of the `i`th axis, whose extents are `from` and `to`, as [`Coordinates::position`].
    fn position(&self, i: usize, at: usize, [from, to]: [usize; 2], scale: f32) -> f32 {
        match self.mapping {
            Mapping::Of(coordinates) => coordinates.position(at, scale, [from, to]),
            Mapping::Symmetric => {
                let adjusted = to as f32 / (scale * from as f32);
                from as f32 / 2.0 * (1.0 - adjusted) + Coordinates::HalfPixel.position(at, scale, [from, to])
            }
            Mapping::Region => {
                let (start, end) = (self.roi[i], self.roi[i + self.axes.len()]);
                let last = (from - 1) as f32;
                match to {
                    1 => 0.5 * (start + end) * last,
                    _ => start * last + at as f32 * (end - start) * last / (to - 1) as f32,
                }
            }
        }
    }
}

/// The nearest elements, each axis with a rounding of its own; positions are divided by the scale.
fn by_axes(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    sizes: &Sizes,
    rounding: fn(f32) -> Nearest,
) -> Result<ValueId, Refusal> {
    let new = sizes.size.extents().ok_or_else(|| Refusal::Open(sizes.size.clone()))?;
    (0..new.len()).filter(|&a| sizes.scale[a] != 1.0).try_fold(x, |x, axis| {
        let scale = sizes.scale[axis];
        let round = rounding(scale);
        let places: Vec<f32> = (0..new[axis]).map(|at| round.round(at as f32 / scale)).collect();
        picked(n, x, axis, &places)
    })
}

fn scales(n: &mut NodeCx<'_, '_>, i: usize) -> Result<Option<Vec<f32>>, Refusal> {
    Ok(n.optional_constant(i)?.map(|t| t.floats().into_owned()))
}

/// As [`Sizes::by_sizes`]; a policy other than `stretch` gives all axes one scale.
fn by_sizes(n: &NodeCx<'_, '_>, x: ValueId, axes: &[usize], asked: &[Expr], policy: &str) -> Result<Sizes, Refusal> {
    let mut sizes = Sizes::by_sizes(n, x, axes, asked)?;
    let old = n.shape(x).clone();
    if policy != "stretch" && (old.is_open() || sizes.size.is_open()) {
        return Err(Refusal::Open(old));
    }
    let scales = axes.iter().map(|&a| sizes.scale[a]);
    let common = match policy {
        "stretch" => return Ok(sizes),
        "not_larger" => scales.fold(f32::INFINITY, f32::min),
        "not_smaller" => scales.fold(0.0, f32::max),
        _ => return Err(Refusal::Attribute { name: "keep_aspect_ratio_policy".into(), problem: "not a known policy" }),
    };
    for &axis in axes {
        let from = old.dims()[axis].known().unwrap_or(0);
        sizes.size = sizes.size.with(axis, extent((from as f32 * common).round() as i64)?);
        sizes.scale[axis] = common;
    }
    Ok(sizes)
}

fn add(
    n: &mut NodeCx<'_, '_>,
    x: ValueId,
    sizes: Sizes,
    mode: ResizeMode,
    coordinates: Coordinates,
) -> Result<ValueId, Refusal> {
    let Sizes { size, scale } = sizes;
    resize_axes(n, x, Resize { size, scale, mode, coordinates })
}

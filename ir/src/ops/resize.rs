//! Resampling of images.

use serde::{Deserialize, Serialize};

use super::{Extents, LayoutRule, Operator, QuantRule, Types, arity, float, one, refuse};
use crate::error::TypeError;
use crate::types::{Dim, Shape, TensorType};

/// How a position in the result maps to one in the operand. `scale` is result extent divided by operand extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coordinates {
    /// (i + 0.5) / scale - 0.5
    HalfPixel,
    /// As `HalfPixel`; 0 where the result has extent 1.
    PytorchHalfPixel,
    /// i / scale
    Asymmetric,
    /// i * (operand - 1) / (result - 1); 0 where the result has extent 1.
    AlignCorners,
    /// (i + 0.5) / scale, for `Nearest` only.
    HalfPixelForNearest,
}

impl Coordinates {
    /// The position on an axis of the operand for index `i` of the result. `extent` and `size` are the extents of the axis in
    /// the operand and in the result. It is computed in single precision, as runtimes do: rounding depends on it.
    pub fn position(self, i: usize, scale: f32, [extent, size]: [usize; 2]) -> f32 {
        let at = i as f32;
        match self {
            Coordinates::PytorchHalfPixel | Coordinates::AlignCorners if size == 1 => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (at + 0.5) / scale - 0.5,
            Coordinates::Asymmetric => at / scale,
            Coordinates::AlignCorners => at * (extent as f32 - 1.0) / (size as f32 - 1.0),
            // Runtimes do not change an axis of scale 1.
            Coordinates::HalfPixelForNearest if scale == 1.0 => at,
            Coordinates::HalfPixelForNearest => (at + 0.5) / scale,
        }
    }
}

/// How a position between two elements is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nearest {
    /// Half down.
    PreferFloor,
    /// Half up.
    PreferCeil,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}

impl Nearest {
    /// The index that a position is rounded to, which may be outside the axis.
    pub fn round(self, at: f32) -> f32 {
        let low = at.floor();
        low + f32::from(at - low > self.threshold())
    }

    /// A position is rounded up if it is farther than this above an index. As in ONNX Runtime, a position within a
    /// millionth of half way is half way: most scales are rounded quotients.
    pub fn threshold(self) -> f32 {
        match self {
            Nearest::PreferFloor => 0.5 + 1e-6,
            Nearest::PreferCeil => 0.5 - 1e-6,
            Nearest::Floor => 1.0,
            Nearest::Ceil => 0.0,
        }
    }
}

/// The interpolation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResizeMode {
    /// The nearest element.
    Nearest(Nearest),
    /// Linear along each axis.
    Linear,
    /// Cubic along each axis, with the coefficient `a` (-0.75 or -0.5).
    Cubic {
        /// The coefficient.
        a: f32,
    },
}

/// Resamples x `[N, C, spatial..]` to `[N, C, size..]`. Positions outside the image read the nearest edge element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Spatial extents of the result.
    pub size: Shape,
    /// `scale` of the coordinate mapping for each spatial axis: not always `size` divided by the extent. 0 where it is
    /// that quotient.
    pub scale: Vec<f32>,
    /// The interpolation.
    pub mode: ResizeMode,
    /// The mapping of positions.
    pub coordinates: Coordinates,
}

impl Resize {
    /// The spatial extents of the result, if all are known.
    pub fn sizes(&self) -> Option<Extents> {
        self.size.dims().iter().map(Dim::known).collect()
    }

    /// `scale` of the coordinate mapping of each spatial axis, for an operand of these spatial extents; `None` where it
    /// depends on open extents.
    pub fn scales(&self, extents: &[Dim]) -> Option<Vec<f32>> {
        let scale = |((&scale, size), extent): ((&f32, &Dim), &Dim)| match scale {
            0.0 => Some(size.known()? as f32 / extent.known()? as f32),
            scale => Some(scale),
        };
        self.scale.iter().zip(self.size.dims()).zip(extents).map(scale).collect()
    }

    /// For open extents: whether each size is a whole multiple of the extent by its scale, and whether each scale is the
    /// quotient of size and extent.
    pub fn open_scales(&self, extents: &[Dim]) -> (bool, bool) {
        let mut all = (true, true);
        for ((&scale, size), x) in self.scale.iter().zip(self.size.dims()).zip(extents) {
            let whole = (scale.fract() == 0.0 && scale >= 1.0).then_some(scale as usize);
            all.0 &= whole.is_some_and(|scale| x.times(&Dim::Known(scale)).as_ref() == Some(size));
            all.1 &= scale == 0.0 || (scale == 1.0 && size == x);
        }
        all
    }
}

impl Operator for Resize {
    const NAME: &'static str = "resize";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        float(operands, 0)?;
        let x = operands[0];
        if x.rank() != self.size.rank() + 2 || self.scale.len() != self.size.rank() {
            return Err(refuse(operands, 0, format!("rank {}", self.size.rank() + 2)));
        }
        if let Some(scale) = self.scale.iter().find(|s| !s.is_finite() || **s < 0.0) {
            return Err(TypeError::Attribute(format!("a scale of {scale}; expected a positive number")));
        }
        if x.shape.dims()[2..].contains(&Dim::Known(0)) {
            return Err(refuse(operands, 0, "an image with elements"));
        }
        one(x.elem.clone(), x.shape.dims()[..2].iter().chain(self.size.dims()).cloned().collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Image
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// The interpolation of [`GridSample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SampleMode {
    /// The nearest element; half way between two, the one of even index. Positions are rounded before they are
    /// reflected.
    Nearest,
    /// Linear along each axis.
    Linear,
    /// Cubic along each axis, with the coefficient -0.75.
    Cubic,
}

/// Values outside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outside {
    /// Zeros.
    Zero,
    /// The nearest edge element.
    Edge,
    /// Reflection, repeated: about the centres of the outermost elements with `align_corners`, else about their outer
    /// edges.
    Reflect,
}

/// Samples x `[N, C, spatial..]` at the positions `[N, P.., axes]` of operand 1 to `[N, C, P..]`. A position lists the
/// innermost spatial axis first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridSample {
    /// The interpolation.
    pub mode: SampleMode,
    /// Values outside x.
    pub outside: Outside,
    /// -1 and 1 are the centres of the outermost elements, not their outer edges.
    pub align_corners: bool,
}

impl Operator for GridSample {
    const NAME: &'static str = "grid_sample";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 2, 2)?;
        float(operands, 0)?;
        float(operands, 1)?;
        let (x, at) = (operands[0].shape.dims(), operands[1].shape.dims());
        if x.len() < 3 || x[2..].contains(&Dim::Known(0)) {
            return Err(refuse(operands, 0, "an image"));
        }
        if at.len() != x.len() || at[0] != x[0] || at[at.len() - 1] != Dim::Known(x.len() - 2) {
            return Err(refuse(operands, 1, format!("positions in {}, as many axes of them", operands[0].shape)));
        }
        one(operands[0].elem.clone(), x[..2].iter().chain(&at[1..at.len() - 1]).cloned().collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Image
    }
}

//! Operators that move elements without changing them.

use serde::{Deserialize, Serialize};

use super::{Extents, LayoutRule, Operator, QuantRule, Types, arity, axis_of, one, refuse, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Shape, TensorType};

/// The same elements in row-major order under another shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Reshape {
    /// The new shape.
    pub shape: Shape,
}

impl Operator for Reshape {
    const NAME: &'static str = "reshape";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        if let (Some(a), Some(b)) = (Shape::count(operands[0].shape.dims()), Shape::count(self.shape.dims()))
            && a.agreed(&b).is_none()
        {
            return Err(refuse(operands, 0, format!("{b} elements for {}", self.shape)));
        }
        one(operands[0].elem.clone(), self.shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Carry
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

impl Serialize for Reshape {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.shape.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Reshape {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Reshape { shape: Shape::deserialize(d)? })
    }
}

/// Permutes axes: axis `i` of the result is axis `perm[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transpose {
    /// A permutation of the axes.
    pub perm: Extents,
}

impl Operator for Transpose {
    const NAME: &'static str = "transpose";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let x = operands[0];
        if self.perm.len() != x.rank() || crate::types::Layout::from_order(&self.perm).is_none() {
            return Err(TypeError::Attribute(format!("{:?} is no permutation of {} axes", self.perm, x.rank())));
        }
        one(x.elem.clone(), self.perm.iter().map(|&a| x.shape.dims()[a].clone()).collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Free
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// Concatenates operands along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The axis.
    pub axis: usize,
}

impl Operator for Concat {
    const NAME: &'static str = "concat";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, usize::MAX)?;
        axis_of(operands, 0, self.axis)?;
        let mut shape = operands[0].shape.clone();
        for (i, operand) in operands.iter().enumerate().skip(1) {
            same_elem(operands, 0, i)?;
            let differs = || refuse(operands, i, format!("{} but for axis {}", operands[0].shape, self.axis));
            if operand.rank() != shape.rank() {
                return Err(differs());
            }
            let joined = shape.dims().iter().zip(operand.shape.dims()).enumerate().map(|(axis, (a, b))| {
                let joined = if axis == self.axis { a.plus(b) } else { a.agreed(b) };
                joined.ok_or_else(differs)
            });
            shape = joined.collect::<Result<_, _>>()?;
        }
        one(operands[0].elem.clone(), shape)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SharedScale
    }
}

/// `len` indices of one axis: `start`, `start + step`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The axis.
    pub axis: usize,
    /// First index.
    pub start: usize,
    /// Number of indices.
    pub len: usize,
    /// Distance between indices; may be negative, not 0.
    pub step: isize,
}

/// Part of a tensor: a range of indices of each listed axis, all indices of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Ranges, by ascending axis.
    pub ranges: Vec<Range>,
}

impl Operator for Slice {
    const NAME: &'static str = "slice";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        if !self.ranges.is_sorted_by(|a, b| a.axis < b.axis) {
            return Err(TypeError::Attribute("sliced axes must be ascending and unique".into()));
        }
        let mut shape = operands[0].shape.clone();
        for r in &self.ranges {
            axis_of(operands, 0, r.axis)?;
            // An open extent must be large enough at run time.
            let (extent, open) = (&shape.dims()[r.axis], isize::MAX as usize);
            let last = (r.start as isize).saturating_add(r.step.saturating_mul(r.len as isize - 1));
            let largest = extent.known().unwrap_or(open);
            if r.step == 0 || (r.len > 0 && (r.start >= largest || last < 0 || last >= largest as isize)) {
                return Err(TypeError::Attribute(format!(
                    "{} indices from {} on, {} apart, leave an axis of extent {extent}",
                    r.len, r.start, r.step
                )));
            }
            shape = shape.with(r.axis, r.len);
        }
        one(operands[0].elem.clone(), shape)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// Values of padding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum PadMode {
    /// A number.
    Constant(f32),
    /// The mirror image without the edge itself.
    Reflect,
    /// The edge, repeated.
    Edge,
}

/// Adds elements around a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Elements before each axis.
    pub before: Extents,
    /// Elements after each axis.
    pub after: Extents,
    /// Their values.
    pub mode: PadMode,
}

impl Operator for Pad {
    const NAME: &'static str = "pad";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let x = operands[0];
        if self.before.len() != x.rank() || self.after.len() != x.rank() {
            return Err(TypeError::Attribute(format!("pads must be given for {} axes", x.rank())));
        }
        let mut shape = x.shape.clone();
        for axis in (0..x.rank()).filter(|&a| self.before[a] + self.after[a] > 0) {
            let extent = &shape.dims()[axis];
            let (known, widest) = (extent.known(), self.before[axis].max(self.after[axis]));
            let least = |n: usize| known.is_some_and(|known| known < n);
            if (self.mode == PadMode::Reflect && least(widest + 1)) || (self.mode == PadMode::Edge && least(1)) {
                return Err(TypeError::Attribute(format!("cannot pad an axis of {extent} by {widest} in this mode")));
            }
            let padded = extent.plus(&Dim::Known(self.before[axis].saturating_add(self.after[axis])));
            let padded = padded.ok_or_else(|| TypeError::Attribute(format!("cannot pad an axis of {extent}")))?;
            shape = shape.with(axis, padded);
        }
        one(x.elem.clone(), shape)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// Broadcasts a tensor to the given shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Expand {
    /// The shape of the result.
    pub shape: Shape,
}

impl Operator for Expand {
    const NAME: &'static str = "expand";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let found = super::broadcast(&operands[0].shape, &self.shape)?;
        let fits = |(found, shown): (&Dim, &Dim)| found.known().is_none_or(|n| shown.known().is_none_or(|s| s == n));
        if found.rank() != self.shape.rank() || !found.dims().iter().zip(self.shape.dims()).all(fits) {
            return Err(refuse(operands, 0, format!("a shape that broadcasts to {}", self.shape)));
        }
        one(operands[0].elem.clone(), self.shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

impl Serialize for Expand {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.shape.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Expand {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Expand { shape: Shape::deserialize(d)? })
    }
}

/// Repeats a tensor along its axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Number of copies along each axis.
    pub repeats: Extents,
}

impl Operator for Tile {
    const NAME: &'static str = "tile";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let x = operands[0].shape.dims();
        if self.repeats.len() != x.len() {
            return Err(TypeError::Attribute(format!("repeats must be given for {} axes", x.len())));
        }
        let symbolic = || TypeError::Symbolic { operand: 0, ty: Box::new(operands[0].clone()) };
        let extent = |(x, &r): (&Dim, &usize)| x.times(&Dim::Known(r)).ok_or_else(symbolic);
        one(operands[0].elem.clone(), x.iter().zip(&self.repeats).map(extent).collect::<Result<Shape, _>>()?)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// Reverses the order of elements along the given axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// The axes, ascending.
    pub axes: Extents,
}

impl Operator for Reverse {
    const NAME: &'static str = "reverse";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        for &a in &self.axes {
            axis_of(operands, 0, a)?;
        }
        one(operands[0].elem.clone(), operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// The batch of operand 0, its channels, height and width; all but the channels may be open.
fn image<'t>(operands: &[&'t TensorType]) -> Result<(&'t Dim, usize, [&'t Dim; 2]), TypeError> {
    let symbolic = || TypeError::Symbolic { operand: 0, ty: Box::new(operands[0].clone()) };
    match operands[0].shape.dims() {
        [n, c, h, w] => Ok((n, c.known().ok_or_else(symbolic)?, [h, w])),
        _ => Err(refuse(operands, 0, "rank 4")),
    }
}

/// The extent times or, where it is known to be a multiple, divided by a block size.
fn scaled(operands: &[&TensorType], extent: &Dim, times: usize, by: usize) -> Result<Dim, TypeError> {
    let symbolic = || TypeError::Symbolic { operand: 0, ty: Box::new(operands[0].clone()) };
    let number = |n: usize| i64::try_from(n).ok().map(crate::types::Expr::from);
    extent.map(|e| e.times(&number(times)?)?.floor_div(i64::try_from(by).ok()?)).ok_or_else(symbolic)
}

/// `[N, C*b*b, H, W]` to `[N, C, H*b, W*b]`. Channels are read as `[b, b, C]`, or, `channel_first`, as `[C, b, b]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthToSpace {
    /// Block size b.
    pub block: usize,
    /// The block is inside the channel (ONNX mode CRD, PyTorch pixel_shuffle).
    pub channel_first: bool,
}

impl Operator for DepthToSpace {
    const NAME: &'static str = "depth_to_space";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let area = self.block * self.block;
        let (batch, c, [h, w]) = image(operands)?;
        if area == 0 || !c.is_multiple_of(area) {
            return Err(refuse(operands, 0, format!("rank 4 with channels a multiple of {area}")));
        }
        let [h, w] = [scaled(operands, h, self.block, 1)?, scaled(operands, w, self.block, 1)?];
        one(operands[0].elem.clone(), [batch.clone(), Dim::Known(c / area), h, w].into_iter().collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Image
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// `[N, C, H*b, W*b]` to `[N, b*b*C, H, W]`, channels ordered `[b, b, C]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceToDepth {
    /// Block size b.
    pub block: usize,
}

impl Operator for SpaceToDepth {
    const NAME: &'static str = "space_to_depth";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let b = self.block;
        let (batch, c, [h, w]) = image(operands)?;
        // An open extent must be a multiple at run time.
        let odd = |d: &Dim| d.known().is_some_and(|d| !d.is_multiple_of(b));
        if b == 0 || odd(h) || odd(w) {
            return Err(refuse(operands, 0, format!("rank 4 with height and width multiples of {b}")));
        }
        let [h, w] = [scaled(operands, h, 1, b)?, scaled(operands, w, 1, b)?];
        one(operands[0].elem.clone(), [batch.clone(), Dim::Known(c * b * b), h, w].into_iter().collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Image
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

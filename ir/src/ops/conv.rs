//! Convolutions over one, two or three spatial axes.

use serde::{Deserialize, Serialize};

use super::{Extents, LayoutRule, Operator, QuantRule, Types, arity, extents, float, is_known, one, refuse, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Shape, TensorType};

/// Convolution: x `[N, C, spatial..]`, weight `[O, C/groups, window..]`, bias `[O]` (may be absent) to
/// `[N, O, spatial..]`. Padding is with zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// Step of the window, for each spatial axis.
    pub stride: Extents,
    /// Zeros before each spatial axis.
    pub before: Extents,
    /// Zeros after each spatial axis.
    pub after: Extents,
    /// Distance between the taps of the window.
    pub dilation: Extents,
    /// Number of groups of channels.
    pub groups: usize,
}

impl Conv {
    /// A window that moves by one, without padding, dilation or groups, over `spatial` axes.
    pub fn unit(spatial: usize) -> Self {
        Conv {
            stride: Extents::from_elem(1, spatial),
            before: Extents::from_elem(0, spatial),
            after: Extents::from_elem(0, spatial),
            dilation: Extents::from_elem(1, spatial),
            groups: 1,
        }
    }

    /// At how many of `places` positions along spatial axis `i` of the result this tap reads an element of an image of
    /// that `extent`; at the others it reads padding.
    pub fn reads(&self, i: usize, tap: usize, extent: usize, places: usize) -> usize {
        hits(tap * self.dilation[i], self.stride[i], self.before[i]..self.before[i] + extent, places)
    }

    /// True where each group has one input channel (and there is more than one group).
    pub fn is_depthwise(&self, weight: &Shape) -> bool {
        self.groups > 1 && weight.dims()[1] == Dim::Known(1)
    }

    /// True for a depthwise convolution with one filter for each channel.
    pub fn has_one_filter_per_channel(&self, weight: &Shape) -> bool {
        self.is_depthwise(weight) && weight.dims()[0] == Dim::Known(self.groups)
    }
}

impl Operator for Conv {
    const NAME: &'static str = "conv";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let spatial = spatial_axes(Self::NAME, operands, &self.stride, &self.dilation, &[&self.before, &self.after])?;
        let w = extents(operands, 1)?;
        let channels = &operands[0].shape.dims()[1];
        let wanted = w[1].checked_mul(self.groups);
        is_known(operands, 0, 1, wanted.unwrap_or(0))?;
        if self.groups == 0 || !w[0].is_multiple_of(self.groups) || wanted.map(Dim::Known).as_ref() != Some(channels) {
            return Err(refuse(operands, 1, format!("a weight for {channels} channels in {} groups", self.groups)));
        }
        bias(operands, w[0])?;
        let mut dims = vec![operands[0].shape.dims()[0].clone(), Dim::Known(w[0])];
        for i in 0..spatial {
            let window = [w[2 + i], self.dilation[i], self.stride[i]];
            let extent = windows(&operands[0].shape.dims()[2 + i], [self.before[i], self.after[i]], window);
            dims.push(extent.ok_or_else(|| refuse(operands, 0, "an image at least as large as the window"))?);
        }
        one(operands[0].elem.clone(), dims.into_iter().collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Image
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::Contraction { channel: 0 }
    }
}

/// Transposed convolution (the gradient of [`Conv`] to its input): x `[N, C, spatial..]`,
/// weight `[C, O/groups, window..]`, bias `[O]` (may be absent) to `[N, O, spatial..]`, where each spatial extent is
/// `(x - 1) * stride + dilation * (window - 1) + 1 - before - after + extra`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose {
    /// Distance between input elements in the result.
    pub stride: Extents,
    /// Elements removed from the start of each spatial axis.
    pub before: Extents,
    /// Elements removed from the end of each spatial axis.
    pub after: Extents,
    /// Elements added at the end of each spatial axis (ONNX `output_padding`).
    pub extra: Extents,
    /// Distance between the taps of the window.
    pub dilation: Extents,
    /// Number of groups of channels.
    pub groups: usize,
}

impl Operator for ConvTranspose {
    const NAME: &'static str = "conv_transpose";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let attributes: [&[usize]; 3] = [&self.before, &self.after, &self.extra];
        let spatial = spatial_axes(Self::NAME, operands, &self.stride, &self.dilation, &attributes)?;
        let w = extents(operands, 1)?;
        is_known(operands, 0, 1, w[0])?;
        if self.groups == 0 || !w[0].is_multiple_of(self.groups) || operands[0].shape.dims()[1] != Dim::Known(w[0]) {
            return Err(refuse(operands, 1, "a weight whose first extent is the number of channels"));
        }
        let overflow = || refuse(operands, 1, "a weight whose results can be counted");
        let filters = w[1].checked_mul(self.groups).ok_or_else(overflow)?;
        bias(operands, filters)?;
        let mut dims = vec![operands[0].shape.dims()[0].clone(), Dim::Known(filters)];
        for i in 0..spatial {
            let x = &operands[0].shape.dims()[2 + i];
            let taps = w[2 + i].checked_sub(1).ok_or_else(|| refuse(operands, 1, "a weight with elements"))?;
            let reach = taps.checked_mul(self.dilation[i]);
            let number = |n: usize| i64::try_from(n).ok();
            let beyond = reach.and_then(|r| number(r.checked_add(1)?.checked_add(self.extra[i])?));
            let full = beyond
                .zip(number(self.stride[i]))
                .and_then(|(beyond, stride)| x.expr().minus(&1.into())?.times(&stride.into())?.plus(&beyond.into()));
            let full = full.filter(|_| x.known() != Some(0)).ok_or_else(overflow)?;
            let cut = number(self.before[i].saturating_add(self.after[i])).unwrap_or(i64::MAX);
            let extent = full.minus(&cut.into()).and_then(Dim::of).filter(|e| *e != Dim::Known(0));
            dims.push(extent.ok_or_else(|| TypeError::Attribute("the pads cut away the whole result".into()))?);
        }
        one(operands[0].elem.clone(), dims.into_iter().collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Image
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::Contraction { channel: 1 }
    }
}

/// How many of `start + i * step` for `i` in `0..count` are in `range`.
pub fn hits(start: usize, step: usize, range: std::ops::Range<usize>, count: usize) -> usize {
    let below = |end: usize| end.saturating_sub(start).div_ceil(step).min(count);
    below(range.end) - below(range.start)
}

/// The number of positions of a window of `taps` taps, `dilation` apart, in `extent` at steps of `stride`, or `None`
/// where it does not fit.
pub fn window_steps(extent: usize, window: usize, dilation: usize, stride: usize) -> Option<usize> {
    let reach = dilation.checked_mul(window.checked_sub(1)?)?.checked_add(1)?;
    Some(extent.checked_sub(reach)? / stride + 1)
}

/// The number of positions of a window `[taps, dilation, stride]` in an extent with these pads. An open extent must be as
/// large as the window at run time.
pub(super) fn windows(
    extent: &Dim,
    [before, after]: [usize; 2],
    [window, dilation, stride]: [usize; 3],
) -> Option<Dim> {
    if let Some(extent) = extent.known() {
        let padded = extent.checked_add(before)?.checked_add(after)?;
        return window_steps(padded, window, dilation, stride).map(Dim::Known);
    }
    let reach = dilation.checked_mul(window.checked_sub(1)?)?.checked_add(1)?;
    let pads = i64::try_from(before.checked_add(after)?).ok()?.checked_sub(i64::try_from(reach).ok()?)?;
    extent.map(|e| e.plus(&pads.into())?.floor_div(i64::try_from(stride).ok()?)?.plus(&1.into()))
}

/// The number of spatial axes, when operands and attributes agree on it.
fn spatial_axes(
    op: &'static str,
    operands: &[&TensorType],
    stride: &[usize],
    dilation: &[usize],
    others: &[&[usize]],
) -> Result<usize, TypeError> {
    arity(op, operands, 2, 3)?;
    float(operands, 0)?;
    same_elem(operands, 0, 1)?;
    let spatial = stride.len();
    if operands[0].rank() != spatial + 2 {
        return Err(refuse(operands, 0, format!("rank {}", spatial + 2)));
    }
    if operands[1].rank() != spatial + 2 {
        return Err(refuse(operands, 1, format!("rank {}", spatial + 2)));
    }
    let even = dilation.len() == spatial && others.iter().all(|o| o.len() == spatial);
    if !even || spatial == 0 || stride.contains(&0) || dilation.contains(&0) {
        return Err(TypeError::Attribute(format!(
            "{op}: strides and dilations must be positive, one for each spatial axis"
        )));
    }
    Ok(spatial)
}

fn bias(operands: &[&TensorType], channels: usize) -> Result<(), TypeError> {
    match operands.get(2) {
        Some(b) if b.shape != Shape::known(&[channels]) => Err(refuse(operands, 2, format!("a bias [{channels}]"))),
        Some(_) => same_elem(operands, 0, 2),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn hits_are_counted() {
        for start in 0..6 {
            for step in 1..4 {
                for (from, to) in [(0, 0), (0, 5), (2, 9), (7, 8)] {
                    for count in 0..6 {
                        let want = (0..count).filter(|k| (from..to).contains(&(start + k * step))).count();
                        assert_eq!(hits(start, step, from..to, count), want);
                    }
                }
            }
        }
    }

    #[test]
    fn extents_that_cannot_be_counted_are_refused() {
        let huge = usize::MAX / 2;
        let types = |w: [usize; 3]| [TensorType::f32(&[1, w[0], 5]), TensorType::f32(&w)];
        let plain = ConvTranspose {
            stride: smallvec![1],
            before: smallvec![0],
            after: smallvec![0],
            extra: smallvec![0],
            dilation: smallvec![1],
            groups: 1,
        };
        let infer = |op: &ConvTranspose, w| {
            let types = types(w);
            op.infer(&types.iter().collect::<Vec<_>>()).map(|t| t[0].shape.to_string())
        };
        assert_eq!(infer(&plain, [2, 3, 3]), Ok("[1,3,7]".into()));
        for op in [
            ConvTranspose { stride: smallvec![huge], ..plain.clone() },
            ConvTranspose { dilation: smallvec![usize::MAX], ..plain.clone() },
            ConvTranspose { extra: smallvec![usize::MAX], ..plain.clone() },
            ConvTranspose { before: smallvec![usize::MAX], after: smallvec![usize::MAX], ..plain.clone() },
        ] {
            assert!(infer(&op, [2, 3, 3]).is_err(), "{op:?}");
        }
        assert!(infer(&plain, [2, 3, 0]).is_err());
        let conv = |conv: Conv, w: [usize; 3], channels| {
            let types = [TensorType::f32(&[1, channels, 5]), TensorType::f32(&w)];
            conv.infer(&types.iter().collect::<Vec<_>>()).map(|t| t[0].shape.to_string())
        };
        let plain = Conv::unit(1);
        assert_eq!(conv(plain.clone(), [2, 3, 3], 3), Ok("[1,2,3]".into()));
        for odd in [
            Conv { before: smallvec![usize::MAX], after: smallvec![usize::MAX], ..plain.clone() },
            Conv { dilation: smallvec![usize::MAX], ..plain.clone() },
            Conv { groups: usize::MAX, ..plain.clone() },
        ] {
            assert!(conv(odd, [2, 3, 3], 3).is_err());
        }
        assert!(conv(plain, [2, 3, 0], 3).is_err());
    }
}

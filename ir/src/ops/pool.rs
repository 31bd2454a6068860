//! Pooling over spatial axes.

use serde::{Deserialize, Serialize};

use super::conv::windows;
use super::{Extents, LayoutRule, Operator, QuantRule, Types, arity, float, one, refuse};
use crate::error::TypeError;
use crate::types::TensorType;

/// The reduction of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolFn {
    /// The largest element.
    Max,
    /// The mean of the elements inside the image, without padding (ONNX `count_include_pad = 0`).
    Average,
}

/// Pooling: x `[N, C, spatial..]` to `[N, C, spatial..]`. Padding is not included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The reduction.
    pub f: PoolFn,
    /// Extent of the window.
    pub window: Extents,
    /// Step of the window.
    pub stride: Extents,
    /// Padding before each spatial axis.
    pub before: Extents,
    /// Padding after each spatial axis.
    pub after: Extents,
    /// Distance between the taps of the window.
    pub dilation: Extents,
}

impl Operator for Pool {
    const NAME: &'static str = "pool";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        float(operands, 0)?;
        let (x, spatial) = (operands[0], self.window.len());
        if x.rank() != spatial + 2 {
            return Err(refuse(operands, 0, format!("rank {}", spatial + 2)));
        }
        let even = [&self.stride, &self.before, &self.after, &self.dilation].iter().all(|a| a.len() == spatial);
        if !even || self.stride.contains(&0) || self.dilation.contains(&0) || self.window.contains(&0) {
            return Err(TypeError::Attribute(
                "pool: window, strides and dilations must be positive, one for each spatial axis".into(),
            ));
        }
        let mut dims = x.shape.dims()[..2].to_vec();
        for i in 0..spatial {
            let window = [self.window[i], self.dilation[i], self.stride[i]];
            let steps = windows(&x.shape.dims()[2 + i], [self.before[i], self.after[i]], window);
            dims.push(steps.ok_or_else(|| refuse(operands, 0, "an image at least as large as the window"))?);
        }
        one(x.elem.clone(), dims.into_iter().collect())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Image
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

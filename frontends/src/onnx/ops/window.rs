//! Window attributes, shared by convolution and pooling.

use qcc_ir::ops::Extents;
use qcc_ir::{Dim, ValueId};

use super::super::node::NodeCx;
use crate::build::padding::{Odd, same, same_padding};
use crate::build::window::Window;
use crate::build::{extent, extents};
use crate::refusal::Refusal;

/// The automatic padding mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// Explicit `pads`.
    Explicit,
    /// The number of results is extent / stride, rounded up; odd padding has its extra element at the end.
    SameUpper,
    /// As `SameUpper`, with the extra element at the beginning.
    SameLower,
    /// No padding.
    Valid,
}

impl AutoPad {
    pub(super) fn read(n: &mut NodeCx<'_, '_>) -> Result<AutoPad, Refusal> {
        match n.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => Ok(AutoPad::Explicit),
            "SAME_UPPER" => Ok(AutoPad::SameUpper),
            "SAME_LOWER" => Ok(AutoPad::SameLower),
            "VALID" => Ok(AutoPad::Valid),
            _ => Err(Refusal::unknown_mode("auto_pad")),
        }
    }

    /// The end with the odd element, if the number of results follows from the stride.
    fn odd(self) -> Option<Odd> {
        match self {
            AutoPad::SameUpper => Some(Odd::After),
            AutoPad::SameLower => Some(Odd::Before),
            AutoPad::Explicit | AutoPad::Valid => None,
        }
    }

    /// `total` split into padding before and after.
    pub(super) fn halve(self, total: usize) -> (usize, usize) {
        match self {
            AutoPad::SameUpper => (total / 2, total - total / 2),
            _ => (total - total / 2, total / 2),
        }
    }
}

/// A window whose padding may still be unresolved.
#[derive(Clone, Debug)]
pub(super) struct AutoWindow {
    pub(super) window: Window,
    pub(super) auto: AutoPad,
}

impl AutoWindow {
    /// Reads `strides`, `dilations`, `pads`, `auto_pad` of a window.
    pub(super) fn read(n: &mut NodeCx<'_, '_>, kernel: Extents) -> Result<AutoWindow, Refusal> {
        let spatial = kernel.len();
        let auto = AutoPad::read(n)?;
        let mut positive = |name: &str| -> Result<Extents, Refusal> {
            let values = n.ints(name)?.map(extents).transpose()?;
            let values: Extents = values.map_or_else(|| Extents::from_elem(1, spatial), Extents::from_vec);
            if values.len() != spatial || values.contains(&0) {
                return Err(Refusal::Attribute {
                    name: name.into(),
                    problem: "expected a positive number for each axis",
                });
            }
            Ok(values)
        };
        let (stride, dilation) = (positive("strides")?, positive("dilations")?);
        let pads = n.ints("pads")?.unwrap_or(&[]);
        let pads = pads.iter().map(|&p| extent(p)).collect::<Result<Extents, _>>()?;
        let pads = if pads.is_empty() { Extents::from_elem(0, 2 * spatial) } else { pads };
        if pads.len() != 2 * spatial {
            return Err(Refusal::Attribute { name: "pads".into(), problem: "expected two numbers for each axis" });
        }
        let (before, after) = match auto {
            AutoPad::Explicit => (pads[..spatial].into(), pads[spatial..].into()),
            _ => (Extents::from_elem(0, spatial), Extents::from_elem(0, spatial)),
        };
        Ok(AutoWindow { window: Window { kernel, stride, dilation, before, after }, auto })
    }

    /// Resolves the padding for an image of these extents. For an open extent it is known where it is the same for all.
    pub(super) fn resolve(self, image: &[Dim]) -> Result<Window, Refusal> {
        let AutoWindow { mut window, auto } = self;
        if let Some(odd) = auto.odd() {
            for (i, extent) in image.iter().enumerate() {
                let padding = same_padding(extent, window.reach(i), window.stride[i], odd);
                [window.before[i], window.after[i]] =
                    padding.ok_or_else(|| Refusal::Open(image.iter().cloned().collect()))?;
            }
        }
        Ok(window)
    }

    /// Resolves the padding for the image `x`, which may get a part of it, with the value `fill`.
    pub(super) fn on(
        self,
        n: &mut NodeCx<'_, '_>,
        x: ValueId,
        fill: Option<f32>,
    ) -> Result<(ValueId, Window), Refusal> {
        let AutoWindow { mut window, auto } = self;
        let x = match auto.odd() {
            Some(odd) => same(n, x, &mut window, odd, fill)?,
            None => x,
        };
        Ok((x, window))
    }
}

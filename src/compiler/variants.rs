//! Variants of a quantized model that may be better, and the choice between them by their outputs.

use qcc_passes::quality::{self as fidelity, Fidelity};
use qcc_passes::quantize::{self, Dynamic};
use qcc_passes::{Given, PassId};
use rayon::prelude::*;

use super::narrow::{Measured, Narrowed, Narrowing, failed};
use super::pipeline::Variant;
use crate::data::Samples;
use crate::outcome::Failure;
use crate::precision::Precision;
use crate::quality::{Quality, better_ends, better_rounding, better_scales};
use crate::reader::Reader;

/// Variants of one model.
pub(super) struct Alternatives {
    /// Channels are not scaled; in the model itself they are.
    unscaled: Option<Narrowed>,
    /// Weights are rounded to the nearest; in the model itself they compensate each other's errors.
    nearest: Option<Narrowed>,
    /// The last contractions have float results.
    real: Option<Narrowed>,
}

impl Alternatives {
    /// Those that there are, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Narrowed> {
        self.unscaled.iter().chain(&self.nearest).chain(&self.real)
    }
}

impl Narrowing<'_> {
    /// The variants of each model.
    pub(super) fn alternatives(&self, narrowed: &[Narrowed], shown: &[PassId]) -> Result<Vec<Alternatives>, Failure> {
        let of = |n: &Narrowed| {
            let unscaled = Variant { smooth: false, ..Variant::asked(self.options) };
            let unscaled = n.quantized.scaled.is_some().then(|| self.narrow(n.place, &unscaled, shown)).transpose()?;
            Ok(Alternatives { unscaled, ..self.of_scaled(n, shown)? })
        };
        narrowed.par_iter().map(of).collect()
    }

    /// The variants of a model with the same scales of channels.
    fn of_scaled(&self, n: &Narrowed, shown: &[PassId]) -> Result<Alternatives, Failure> {
        let nearest = Variant { compensate: false, smooth: n.smooth, ..Variant::asked(self.options) };
        let compensated = self.ranges[n.place].has_factors();
        let nearest = compensated.then(|| self.narrow(n.place, &nearest, shown)).transpose()?;
        Ok(Alternatives { unscaled: None, nearest, real: self.with_float_ends(n, true, shown)? })
    }

    /// The same model with float results of the last contractions, where the target has kernels for that.
    fn with_float_ends(
        &self,
        narrowed: &Narrowed,
        compensate: bool,
        shown: &[PassId],
    ) -> Result<Option<Narrowed>, Failure> {
        let (place, asked) = (narrowed.place, Variant::asked(self.options));
        let able = self.options.precision == Precision::Int8
            && self.facts.given == Given::Nothing
            && asked.dynamic != Dynamic::Never
            && quantize::may_be_dynamic(&self.floats[place], self.targets[place]);
        if !able {
            return Ok(None);
        }
        let count = |n: &Narrowed| fidelity::dynamic(&n.quantized.graph).len();
        let real = Variant { dynamic: Dynamic::AtEnds, compensate, smooth: narrowed.smooth, ..asked };
        let real = self.narrow(place, &real, shown)?;
        Ok(Some(real).filter(|real| count(real) != count(narrowed)))
    }

    /// The best of a model and its alternatives. `found` has their comparisons with the float model, in order; further ones
    /// are made on `samples`.
    pub(super) fn best(
        &self,
        (narrowed, alternatives): (Narrowed, Alternatives),
        found: &mut impl Iterator<Item = Fidelity>,
        shown: &[PassId],
        samples: &Samples,
    ) -> Result<Option<Measured>, Failure> {
        let mut next = |narrowed: Narrowed| Some(Measured::new(narrowed, found.next()?));
        let Some(mut best) = next(narrowed) else { return Ok(None) };
        let unscaled = alternatives.unscaled.and_then(&mut next);
        let mut nearest = alternatives.nearest.and_then(&mut next);
        let mut real = alternatives.real.and_then(&mut next);
        if let Some(unscaled) = unscaled {
            match better_scales(&best.quality, &unscaled.quality) {
                Some(gain) => best.quality.smoothing_gain = Some(gain),
                None => {
                    best = unscaled;
                    let others = self.of_scaled(&best.narrowed, shown)?;
                    nearest = self.measured(others.nearest, samples)?;
                    real = self.measured(others.real, samples)?;
                }
            }
        }
        let smoothing_gain = best.quality.smoothing_gain.clone();
        if let Some(nearest) = nearest {
            match better_rounding(&best.quality, &nearest.quality, self.options.precision) {
                Some(gain) => best.quality.compensation_gain = Some(gain),
                None => {
                    best = nearest;
                    real = match real {
                        Some(_) => self.measured(self.with_float_ends(&best.narrowed, false, shown)?, samples)?,
                        None => None,
                    };
                }
            }
        }
        let gain = real.as_ref().and_then(|real| better_ends(&best.quality, &real.quality));
        if let (Some(real), Some(gain)) = (real, gain) {
            let compensation_gain = best.quality.compensation_gain;
            best =
                Measured { quality: Quality { dynamic_gain: Some(gain), compensation_gain, ..real.quality }, ..real };
        }
        best.quality.smoothing_gain = smoothing_gain;
        Ok(Some(best))
    }

    /// A model that is compared with the float model.
    fn measured(&self, narrowed: Option<Narrowed>, samples: &Samples) -> Result<Option<Measured>, Failure> {
        let Some(narrowed) = narrowed else { return Ok(None) };
        let found = self.compare(&[&narrowed], &Reader::new(samples)).map_err(failed)?;
        Ok(found.into_iter().next().map(|fidelity| Measured::new(narrowed, fidelity)))
    }
}

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
use crate::quality::{Quality, better_ends, better_rounding};
use crate::reader::Reader;

/// Variants of one model.
pub(super) struct Alternatives {
    /// Weights are rounded to the nearest; in the model itself they compensate each other's errors.
    nearest: Option<Narrowed>,
    /// The last contractions have float results.
    real: Option<Narrowed>,
}

impl Alternatives {
    /// Those that there are, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Narrowed> {
        self.nearest.iter().chain(&self.real)
    }
}

impl Narrowing<'_> {
    /// The variants of each model.
    pub(super) fn alternatives(&self, narrowed: &[Narrowed], shown: &[PassId]) -> Result<Vec<Alternatives>, Failure> {
        let of = |n: &Narrowed| {
            let nearest = Variant { compensate: false, ..Variant::asked(self.options) };
            let compensated = self.ranges[n.place].has_factors();
            let nearest = compensated.then(|| self.narrow(n.place, &nearest, shown)).transpose()?;
            Ok(Alternatives { nearest, real: self.with_float_ends(n, true, shown)? })
        };
        narrowed.par_iter().map(of).collect()
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
        let real = self.narrow(place, &Variant { dynamic: Dynamic::AtEnds, compensate, ..asked }, shown)?;
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
        let nearest = alternatives.nearest.and_then(&mut next);
        let mut real = alternatives.real.and_then(&mut next);
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
        Ok(Some(best))
    }

    /// A model that is compared with the float model.
    fn measured(&self, narrowed: Option<Narrowed>, samples: &Samples) -> Result<Option<Measured>, Failure> {
        let Some(narrowed) = narrowed else { return Ok(None) };
        let found = self.compare(&[&narrowed], &Reader::new(samples)).map_err(failed)?;
        Ok(found.into_iter().next().map(|fidelity| Measured::new(narrowed, fidelity)))
    }
}

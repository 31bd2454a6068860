//! Biases by measured shifts of means, where the outputs gain by them.

use qcc_ir::Tensor;
use qcc_passes::Given;
use qcc_passes::quantize::with_measured_biases;
use rayon::prelude::*;

use super::narrow::{Measured, Narrowing, failed};
use crate::data::Samples;
use crate::options::Effort;
use crate::outcome::Failure;
use crate::precision::Precision;
use crate::quality::{Evidence, Quality, better_biases, cost_of_run};
use crate::reader::Reader;

/// The multiplications of the float model on the samples that shifts are measured on, for the efforts, and the fewest and the
/// most of these samples.
const NORMAL: u64 = 8_000_000_000;
const HIGH: u64 = 80_000_000_000;
const FEWEST: u64 = 8;
const MOST: u64 = 32;

impl Narrowing<'_> {
    /// The model with biases that are corrected on calibration samples, if its outputs and layers are better for it on those that
    /// are `compared`. Models that take long to evaluate stay as they are.
    pub(super) fn with_biases(
        &self,
        mut best: Measured,
        evidence: &Evidence,
        compared: &Samples,
    ) -> Result<Measured, Failure> {
        let Some(samples) = self.samples_for_biases(evidence) else { return Ok(best) };
        let place = best.narrowed.place;
        let symbols = evidence.extents(self.source);
        let measured = with_measured_biases(&self.floats[place], &best.narrowed.quantized, &symbols, &samples);
        // Samples of other extents are not looked at.
        let Ok(Some(graph)) = measured else { return Ok(best) };
        let plain = std::mem::replace(&mut best.narrowed.quantized.graph, graph);
        let found = self.compare(&[&best.narrowed], &Reader::new(compared)).map_err(failed)?;
        let better = found.into_iter().next().and_then(|fidelity| {
            let quality = Quality::of(fidelity.clone(), &best.narrowed.quantized.graph);
            better_biases(&quality, &best.quality).map(|gain| (fidelity, quality, gain))
        });
        match better {
            Some((fidelity, quality, gain)) => {
                let Quality { outputs, worst, layers, .. } = quality;
                best.quality = Quality { outputs, worst, layers, bias_gain: Some(gain), ..best.quality };
                best.fidelity = fidelity;
            }
            None => best.narrowed.quantized.graph = plain,
        }
        Ok(best)
    }

    /// The samples that shifts are measured on, unless that takes too long.
    fn samples_for_biases(&self, evidence: &Evidence) -> Option<Vec<Vec<Tensor>>> {
        let options = self.options;
        let allowed = match options.effort {
            Effort::Fast => return None,
            Effort::Normal => NORMAL,
            Effort::High => HIGH,
        };
        let wanted = options.precision == Precision::Int8 && self.facts.given == Given::Nothing;
        let real = |samples: &&Samples| wanted && !samples.is_random() && samples.synthetic().is_none();
        let samples = evidence.calibration.as_ref().filter(real)?;
        let count = (allowed / cost_of_run(self.source).max(1)).min(MOST);
        let taken = samples.thinned(usize::try_from(count).ok().filter(|_| count >= FEWEST)?);
        let reader = Reader::new(&taken);
        Some((0..taken.len()).into_par_iter().filter_map(|i| reader.read(i)).collect())
    }
}

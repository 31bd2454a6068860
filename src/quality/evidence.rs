//! Which samples ranges are found on, and which the result is compared on.

use std::fmt;

use qcc_ir::Graph;
use qcc_passes::quality::products;
use serde::Serialize;

use crate::data::Samples;

/// Fewer samples are all needed to find ranges on.
const FEWEST_TO_SPLIT: usize = 8;
/// One sample of so many is kept out of calibration.
const KEPT_OUT: usize = 4;
/// Products (of convolutions and matrix multiplications) of the float model that a comparison may cost.
const PRODUCTS: u64 = 9_000_000_000;
/// A sample costs as many more for each node, at least.
const PRODUCTS_PER_NODE: u64 = 1_000;
/// Whatever a model costs, so many samples are compared, and one of so many that calibration has.
const LEAST: usize = 2;
const LEAST_SHARE: usize = 16;

/// The samples of a compilation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// What ranges are found on.
    pub(crate) calibration: Option<Samples>,
    /// What the result is compared on.
    pub(crate) validation: Option<Samples>,
    /// Whether calibration sees the samples of the comparison; `None` where nothing is calibrated.
    pub(crate) seen: Option<bool>,
}

/// What compiled graphs were compared with the float graph on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// The samples.
    pub data: String,
    /// How many could be read.
    pub samples: usize,
    /// True where ranges were found on these samples too: figures of other samples may be worse. `None` where no ranges
    /// were asked for.
    pub seen_by_calibration: Option<bool>,
    /// True where the samples are pictures that qcc made itself: figures of real ones may be others.
    pub synthetic: bool,
}

impl fmt::Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.data)?;
        match self.seen_by_calibration {
            Some(true) => f.write_str("; calibration saw them too")?,
            Some(false) => f.write_str("; calibration did not see them")?,
            None => {}
        }
        if self.synthetic { f.write_str("; figures of real pictures may be others") } else { Ok(()) }
    }
}

impl Evidence {
    /// Splits the `data`: where there are enough samples some are kept out of calibration. Samples given for the
    /// comparison (`validation`) are all used. `calibrates` says whether ranges are found at all, `most` how many samples
    /// the model allows to compare.
    pub(crate) fn new(data: Option<Samples>, validation: Option<Samples>, calibrates: bool, most: usize) -> Self {
        let unseen = calibrates.then_some(false);
        match (data, validation) {
            (calibration, Some(validation)) => Evidence { calibration, validation: Some(validation), seen: unseen },
            (None, None) => Evidence::default(),
            (Some(data), None) => {
                let most = most.max(data.len() / LEAST_SHARE);
                if calibrates && data.len() >= FEWEST_TO_SPLIT {
                    let (calibration, validation) = data.split((data.len() / KEPT_OUT).min(most));
                    return Evidence { calibration: Some(calibration), validation: Some(validation), seen: unseen };
                }
                let validation = data.thinned(most);
                Evidence { calibration: Some(data), validation: Some(validation), seen: calibrates.then_some(true) }
            }
        }
    }
}

/// How many samples of a model a comparison may cost.
pub(crate) fn affordable(g: &Graph) -> usize {
    let cost = products(g) + g.order().len() as u64 * PRODUCTS_PER_NODE;
    usize::try_from(PRODUCTS / cost.max(1)).unwrap_or(usize::MAX).max(LEAST)
}

#[cfg(test)]
mod tests {
    use qcc_ir::TensorType;

    use super::*;
    use crate::data::Dataset;

    fn evidence(samples: usize, calibrates: bool, most: usize) -> (usize, usize, Option<bool>) {
        let mut g = Graph::new("g");
        g.add_input("x", TensorType::f32(&[1]));
        let data = Dataset::random(0).limited(samples).bind(&g, None).unwrap();
        let e = Evidence::new(Some(data), None, calibrates, most);
        (e.calibration.unwrap().len(), e.validation.unwrap().len(), e.seen)
    }

    #[test]
    fn samples_are_kept_out_where_there_are_enough() {
        assert_eq!(evidence(16, true, 100), (12, 4, Some(false)));
        assert_eq!(evidence(200, true, 1000), (150, 50, Some(false)));
        assert_eq!(evidence(7, true, 100), (7, 7, Some(true)));
        // Where a sample costs much, few are compared.
        assert_eq!(evidence(16, true, 2), (14, 2, Some(false)));
        assert_eq!(evidence(160, true, 2), (150, 10, Some(false)));
        assert_eq!(evidence(7, true, 2), (7, 2, Some(true)));
        // No range is found on these.
        assert_eq!(evidence(16, false, 100), (16, 16, None));
    }
}

//! The split of samples into calibration and validation.

use std::fmt;
use std::path::Path;

use qcc_ir::{Graph, Symbols};
use qcc_passes::quality::products;
use serde::Serialize;

use crate::data::Samples;
use crate::ranges::StoredRanges;
use crate::statistics::Stored;

/// With fewer samples all are used for calibration.
const FEWEST_TO_SPLIT: usize = 8;
/// One of so many samples is held out of calibration.
const KEPT_OUT: usize = 4;
/// Maximum multiplications of the float model (in convolutions and matrix products) for a comparison.
const PRODUCTS: u64 = 9_000_000_000;
/// Minimum cost of a sample per node, in multiplications.
const PRODUCTS_PER_NODE: u64 = 1_000;
/// Minimum number of compared samples whatever the model costs, and minimum share: one of so many calibration samples.
const LEAST: usize = 2;
const LEAST_SHARE: usize = 16;

/// The samples of a compilation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The calibration samples.
    pub(crate) calibration: Option<Samples>,
    /// The samples on which the result is compared with the float model.
    pub(crate) validation: Option<Samples>,
    /// Whether the compared samples are also among the samples of `calibration`; `None` if nothing is calibrated.
    pub(crate) seen: Option<bool>,
    /// Statistics of samples that were evaluated earlier. Ranges follow from these, not from the samples.
    pub(crate) statistics: Option<Stored>,
    /// Ranges of another tool, which replace those of samples and statistics.
    pub(crate) ranges: Option<StoredRanges>,
}

/// The data on which compiled graphs were compared with the float graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// Description of the samples.
    pub data: String,
    /// Number of samples that could be read.
    pub samples: usize,
    /// True if these samples were also used for calibration: the quality on other samples may be worse. `None` if
    /// nothing was calibrated, or on statistics of earlier runs.
    pub seen_by_calibration: Option<bool>,
    /// True if the samples are built-in pictures: figures on photographs may differ.
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
    /// Splits the `data`: with enough samples some are held out of calibration. Samples given as `validation` are all
    /// used. `calibrates` tells whether calibration runs, `most` is the maximum number of samples to compare.
    pub(crate) fn new(data: Option<Samples>, validation: Option<Samples>, calibrates: bool, most: usize) -> Self {
        let unseen = calibrates.then_some(false);
        match (data, validation) {
            (calibration, Some(validation)) => {
                Evidence { calibration, validation: Some(validation), seen: unseen, ..Evidence::default() }
            }
            (None, None) => Evidence::default(),
            (Some(data), None) => {
                let most = most.max(data.len() / LEAST_SHARE);
                if calibrates && data.len() >= FEWEST_TO_SPLIT {
                    let (calibration, validation) = data.split((data.len() / KEPT_OUT).min(most));
                    return Evidence::new(Some(calibration), Some(validation), calibrates, most);
                }
                let validation = data.thinned(most);
                let seen = calibrates.then_some(true);
                Evidence { calibration: Some(data), validation: Some(validation), seen, ..Evidence::default() }
            }
        }
    }

    /// The samples that ranges are calibrated on.
    pub(crate) fn calibrated(&self) -> Option<&Samples> {
        self.calibration.as_ref().filter(|_| self.seen.is_some() && self.statistics.is_none())
    }

    /// The open extents of the graph in the first of the data.
    pub(crate) fn extents(&self, graph: &Graph) -> Symbols {
        let data = self.calibration.as_ref().or(self.validation.as_ref());
        data.map(|data| data.extents(graph)).unwrap_or_default()
    }

    /// The file that ranges come from.
    pub(crate) fn calibration_file(&self) -> Option<&Path> {
        let ranges = self.ranges.as_ref().map(|ranges| ranges.path.as_path());
        ranges.or(self.statistics.as_ref().map(|stored| stored.path.as_path()))
    }

    /// A short description of what ranges come from.
    pub(crate) fn describe_calibration(&self) -> Option<String> {
        let stored = self.statistics.as_ref().map(Stored::describe);
        let all = [
            self.ranges.as_ref().map(StoredRanges::describe),
            stored.or_else(|| self.calibrated().map(Samples::to_string)),
        ];
        let all: Vec<String> = all.into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Whether the compared samples were also used for calibration; `None` if nothing is calibrated, or if that is not
    /// known.
    pub(crate) fn seen_by_calibration(&self) -> Option<bool> {
        self.seen.filter(|_| self.statistics.is_none())
    }
}

/// The cost of evaluating a graph on one sample, in multiplications.
pub(crate) fn cost_of_run(g: &Graph) -> u64 {
    let g = &*g.typical();
    products(g) + g.order().len() as u64 * PRODUCTS_PER_NODE
}

/// The maximum number of samples to compare for a graph of this cost.
pub(crate) fn affordable(g: &Graph) -> usize {
    usize::try_from(PRODUCTS / cost_of_run(g).max(1)).unwrap_or(usize::MAX).max(LEAST)
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
        // If a sample is expensive, few are compared.
        assert_eq!(evidence(16, true, 2), (14, 2, Some(false)));
        assert_eq!(evidence(160, true, 2), (150, 10, Some(false)));
        assert_eq!(evidence(7, true, 2), (7, 2, Some(true)));
        // Nothing is calibrated on these.
        assert_eq!(evidence(16, false, 100), (16, 16, None));
    }
}

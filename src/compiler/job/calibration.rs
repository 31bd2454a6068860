//! What `qcc calibrate` computes: statistics and ranges of a model's values.

use qcc_ir::diagnostic::Diagnostic;

use super::{Datasets, Job};
use crate::compiler::Lowered;
use crate::compiler::narrow::Narrowing;
use crate::options::{DATA_HELP, no_data};
use crate::outcome::Failure;
use crate::quality::{Evidence, hints};
use crate::ranges::NamedRanges;
use crate::statistics::{CalibratedModel, Shard, StatisticsFile};

impl Job<'_> {
    /// Statistics of the values of the lowered graphs on the calibration data, for a model called `name`.
    pub(in crate::compiler) fn statistics(
        &mut self,
        datasets: Datasets,
        name: &str,
    ) -> Result<StatisticsFile, Failure> {
        let (lowered, evidence) = self.uncalibrated(datasets)?;
        let narrowing =
            Narrowing::new(self.compiler, &self.source, self.facts, hints(&self.source), &lowered)?.limited()?;
        let statistics = narrowing.statistics(&evidence, &mut self.diagnostics, self.observer)?;
        let data = self.options().calibration.as_ref().map_or_else(String::new, |c| c.data.name());
        let Some(shard) = evidence.calibration.map(|samples| Shard::new(data, &samples, statistics.samples)) else {
            return Err(Failure::usage(
                Diagnostic::error("usage", no_data(self.options().precision)).with_help(DATA_HELP),
            ));
        };
        let targets = narrowing.targets.iter().map(|target| target.title().to_owned()).collect();
        let model = CalibratedModel::of(name, &self.source, targets);
        Ok(StatisticsFile::new(model, &narrowing.joint, shard, &statistics))
    }

    /// The ranges of the values with names.
    pub(in crate::compiler) fn ranges(&mut self, datasets: Datasets) -> Result<NamedRanges, Failure> {
        let (lowered, evidence) = self.uncalibrated(datasets)?;
        let narrowing =
            Narrowing::new(self.compiler, &self.source, self.facts, hints(&self.source), &lowered)?.limited()?;
        let tables = narrowing.find_ranges(&evidence, &mut self.diagnostics, self.observer)?;
        let mut ranges = NamedRanges::new();
        for (g, table) in narrowing.floats.iter().zip(&tables) {
            for v in g.order().into_iter().flat_map(|n| g.results(n)) {
                let name = g.output_name(v).or(g.name(v));
                if let (Some(name), Some(range)) = (name, table.range(v)) {
                    ranges.entry(name.to_string()).or_insert(range);
                }
            }
        }
        Ok(ranges)
    }

    /// The lowered graphs before calibration, and the data.
    fn uncalibrated(&mut self, datasets: Datasets) -> Result<(Vec<Lowered>, Evidence), Failure> {
        self.prepare()?;
        if !self.calibrates() {
            let error = Diagnostic::error("usage", "the model is quantized already: it needs no calibration");
            return Err(Failure::usage(error.with_help("give the float model that it was made from")));
        }
        let evidence = self.evidence(datasets)?;
        let lowered = self.lower()?;
        self.clock.stage("calibrate", self.observer);
        Ok((lowered, evidence))
    }
}

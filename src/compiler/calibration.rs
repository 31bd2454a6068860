//! What quantization takes from samples: ranges of activations, and the second moments that weights are rounded for.

use qcc_ir::diagnostic::{Diagnostic, counted};
use qcc_ir::eval::RunError;
use qcc_ir::target::Target;
use qcc_ir::{Graph, ValueId};
use qcc_passes::Given;
use qcc_passes::calibrate::{
    CalibrationTable, Factors, Method, Statistics, Wanted, implied_ranges, observe, ranges_by_name, second_moments,
    tables, without_range,
};

use super::narrow::{Narrowing, few};
use crate::data::{SYNTHETIC_DATA, Samples};
use crate::observer::{Observer, flow};
use crate::options::{Effort, Options};
use crate::outcome::Failure;
use crate::precision::Precision;
use crate::quality::{Evidence, cost_of_run};
use crate::ranges::StoredRanges;
use crate::reader::Reader;

/// The factor by which numbers may exceed those seen in calibration before 16 bits clip them. It costs one bit.
const HEADROOM: f64 = 2.0;

/// The cost of evaluating a model on a sample below which weights of int8 models are rounded in several ways.
const CHEAP: u64 = 100_000_000;

impl Narrowing<'_> {
    /// True if calibration is needed.
    pub(super) fn calibrates(&self) -> bool {
        calibrates(self.options.precision, self.facts.given)
    }

    /// The samples by whose second moments weights are rounded, if they are. With quantized activations that must gain at the
    /// outputs, which is only known on samples that are compared. With 8-bit activations, whose errors are larger than
    /// those of weights in most models, it is tried only where it is asked for and takes little time: else a model
    /// would not be that which stored statistics of the same samples give.
    pub(super) fn compensates<'e>(&self, evidence: &'e Evidence) -> Option<&'e Samples> {
        let Options { precision, effort, .. } = self.options;
        let measured = evidence.validation.is_some() && *effort != Effort::Fast;
        let tried = match precision {
            Precision::Int8 => measured && *effort == Effort::High && cost_of_run(self.source) <= CHEAP,
            Precision::W8A16 => measured,
            _ => true,
        };
        let real = |samples: &&Samples| !samples.is_random() && samples.synthetic().is_none();
        evidence.calibration.as_ref().filter(real).filter(|_| tried && compensates(*precision, self.facts.given))
    }

    /// Tables with the second moments of activations, without ranges.
    pub(super) fn find_factors(
        &self,
        samples: &Samples,
        diagnostics: &mut Vec<Diagnostic>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<CalibrationTable>, Failure> {
        let floats: Vec<&Graph> = self.floats.iter().collect();
        let reader = Reader::new(samples);
        let mut done = |done, of| {
            observer.samples(done, of);
            flow(observer)
        };
        let found = second_moments(&self.joint, &floats, samples.len(), |i| reader.read(i), &mut done);
        let (factors, read) = finished(found, observer)?;
        diagnostics.extend(reader.unread(read == Some(0))?);
        let statistics = Statistics { factors, ..Statistics::default() };
        Ok(tables(self.wanted(), &floats, statistics, Method::MinMax))
    }

    /// The calibration tables: from ranges of another tool, statistics, or calibration samples.
    pub(super) fn find_ranges(
        &self,
        evidence: &Evidence,
        diagnostics: &mut Vec<Diagnostic>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<CalibrationTable>, Failure> {
        let mut ranges = self.ranges.clone();
        let measured = evidence.statistics.is_some() || evidence.calibration.is_some();
        if measured {
            let statistics = self.statistics(evidence, diagnostics, observer)?;
            let default = match self.options.precision {
                Precision::Int8 => Method::Mse,
                Precision::W8A16 => Method::Widened(HEADROOM),
                // No quantization parameters depend on a range.
                _ => Method::MinMax,
            };
            let method = self.options.method.unwrap_or(default);
            let floats: Vec<&Graph> = self.floats.iter().collect();
            ranges = tables(self.wanted(), &floats, statistics, method);
            diagnostics.extend(self.constant_inputs(&ranges));
        }
        let Some(stored) = &evidence.ranges else { return Ok(ranges) };
        let mut missing = Vec::new();
        for ((g, table), target) in self.floats.iter().zip(&mut ranges).zip(&self.targets) {
            let mut known = ranges_by_name(g, &|name| stored.of(name));
            if !measured {
                known = implied_ranges(g, known);
                missing.extend(missing_ranges(g, &without_range(g, &known), target, stored));
            }
            table.impose(&known);
        }
        if missing.is_empty() { Ok(ranges) } else { Err(missing.into()) }
    }

    /// The statistics of the values of the merged graph: those that are stored, or those of the calibration samples.
    pub(super) fn statistics(
        &self,
        evidence: &Evidence,
        diagnostics: &mut Vec<Diagnostic>,
        observer: &mut dyn Observer,
    ) -> Result<Statistics, Failure> {
        let rounded_for = self.compensates(evidence);
        let wanted = match rounded_for {
            Some(_) => self.wanted().with_moments(&self.joint, &self.floats.iter().collect::<Vec<_>>()),
            None => self.wanted(),
        };
        match (&evidence.statistics, &evidence.calibration) {
            (Some(stored), _) => {
                diagnostics.extend(stored.file.is_random().then(random_data));
                diagnostics.extend(stored.file.synthetic().map(synthetic_data));
                let targets: Vec<&str> = self.targets.iter().map(|target| target.title()).collect();
                let found = stored.of(self.source, &self.joint, &wanted, &targets);
                let found = found.map_err(|e| Diagnostic::from(&e))?;
                // Second moments are not stored.
                let factors = match rounded_for {
                    Some(samples) => self.observe(&wanted, samples, diagnostics, observer)?.factors,
                    None => Factors::default(),
                };
                Ok(Statistics { factors, ..found })
            }
            (None, Some(samples)) => self.observe(&wanted, samples, diagnostics, observer),
            (None, None) => Ok(Statistics::default()),
        }
    }

    /// The values whose statistics calibration needs.
    fn wanted(&self) -> Wanted {
        Wanted::new(&self.joint, &self.floats.iter().collect::<Vec<_>>())
    }

    /// Statistics of values on samples.
    fn observe(
        &self,
        wanted: &Wanted,
        samples: &Samples,
        diagnostics: &mut Vec<Diagnostic>,
        observer: &mut dyn Observer,
    ) -> Result<Statistics, Failure> {
        diagnostics.extend(samples.is_random().then(random_data));
        diagnostics.extend(samples.synthetic().map(synthetic_data));
        let reader = Reader::new(samples);
        let mut done = |done| {
            observer.samples(done, samples.len());
            flow(observer)
        };
        let found = observe(&self.joint, wanted, samples.len(), |i| reader.read(i), &mut done);
        let statistics = finished(found, observer)?;
        diagnostics.extend(reader.unread(statistics.samples.count == 0)?);
        Ok(statistics)
    }

    /// Warnings of inputs that are constant over all samples.
    fn constant_inputs(&self, ranges: &[CalibrationTable]) -> Vec<Diagnostic> {
        let (Some(float), Some(ranges)) = (self.floats.first(), ranges.first()) else { return Vec::new() };
        let one_number = |v: ValueId| {
            let seen = ranges.get(v).filter(|s| s.min == s.max && float.ty(v).shape.elements() != Some(1))?;
            let name = float.name(v).cloned().unwrap_or_default();
            let message = format!("all numbers of input {name} are {} in all samples", seen.min);
            Some(
                Diagnostic::warning("constant-data", message)
                    .with_help("ranges calibrated on such data do not fit other data: give real samples"),
            )
        };
        float.inputs().filter_map(one_number).collect()
    }
}

/// What was found on samples, unless the model failed on one or the run was cancelled.
fn finished<T>(found: Result<T, RunError>, observer: &dyn Observer) -> Result<T, Failure> {
    let found = found.map_err(|e| Diagnostic::error("calibration", format!("the model fails on a sample: {e}")))?;
    if observer.cancelled() { Err(Failure::Cancelled) } else { Ok(found) }
}

/// The error for values of a graph that need ranges, `missing` in those of another tool.
fn missing_ranges(g: &Graph, missing: &[ValueId], target: &Target, stored: &StoredRanges) -> Option<Diagnostic> {
    let name = |&v: &ValueId| match g.output_name(v).or(g.name(v)) {
        Some(name) => name.to_string(),
        None => format!("the result of {}", g.place(v.node)),
    };
    let names: Vec<String> = missing.iter().map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (file, count) = (stored.path.display(), counted(missing.len(), "tensor"));
    let message = format!("{file} lacks the ranges of {count} of the model for {}: {}", target.title(), few(&names));
    let help = "--data PATH or --stats FILE finds the ranges that are not in the file";
    (!missing.is_empty()).then(|| Diagnostic::error("missing-ranges", message).with_help(help))
}

/// The warning about calibration on random numbers.
fn random_data() -> Diagnostic {
    let message = "the calibration data are random numbers: the ranges do not fit real inputs";
    Diagnostic::warning("random-data", message).with_help("give real inputs: --data")
}

/// The warning about calibration on built-in pictures, which is always shown ([`SYNTHETIC_DATA`]).
fn synthetic_data(pictures: usize) -> Diagnostic {
    let message =
        format!("ranges are found on {pictures} built-in pictures, since there are no data of the model's own kind");
    let warning = Diagnostic::warning(SYNTHETIC_DATA, message);
    let warning = warning.with_note(
        "what real inputs reach beyond these ranges is cut off: models of one kind of picture (faces, text, X-rays) may lose \
         much, and figures on built-in pictures do not show it",
    );
    warning.with_help("give some dozens of typical inputs: --data PATH")
}

/// True if the rounding of weights depends on samples, where there are some.
pub(super) fn compensates(precision: Precision, given: Given) -> bool {
    let narrow = matches!(precision, Precision::Int8 | Precision::W8A16 | Precision::W8A32 | Precision::W4A32);
    narrow && given == Given::Nothing
}

/// True if calibration is needed: the source model does not define all quantization parameters.
pub(super) fn calibrates(precision: Precision, given: Given) -> bool {
    match given {
        Given::Nothing => !matches!(precision, Precision::W8A32 | Precision::W4A32),
        Given::Some => precision == Precision::Int8,
        Given::Weights | Given::All => false,
    }
}

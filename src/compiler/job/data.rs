//! The data of a run, bound to the inputs of the model.

use std::collections::HashSet;

use qcc_ir::Graph;
use qcc_ir::diagnostic::{Diagnostic, counted};

use super::{Datasets, Job};
use crate::compiler::narrow::few;
use crate::data::{DataError, Dataset, Samples};
use crate::options::{DATA_HELP, no_data};
use crate::outcome::Failure;
use crate::precision::Precision;
use crate::quality::{Evidence, affordable};
use crate::ranges::StoredRanges;
use crate::vendor;

impl Job<'_> {
    /// The samples for the inputs of the model.
    pub(super) fn evidence(&mut self, datasets: Datasets) -> Result<Evidence, Failure> {
        let bind = |dataset: Dataset| {
            let preprocess = self.options().preparation.resolve(vendor::preprocess(&self.source.metadata));
            dataset.bind(&self.source, preprocess)
        };
        let bound = |dataset| -> Result<Samples, Failure> { Ok(bind(dataset).map_err(|e| Diagnostic::from(&e))?) };
        let Datasets { calibration, validation, statistics, ranges } = datasets;
        let mut data = calibration.map(bound).transpose()?;
        if self.options().lacks_data(self.facts.given) {
            data = Some(bind(Dataset::synthetic()).map_err(|e| without_data(&e, self.options().precision))?);
        }
        let validation = validation.map(bound).transpose()?;
        self.options().preparation.check(&[&data, &validation])?;
        let evidence = match self.options().compare {
            true => Evidence::new(data, validation, self.learns(), affordable(&self.source)),
            false => {
                let seen = self.learns().then_some(false);
                Evidence { calibration: data, validation: None, seen, ..Evidence::default() }
            }
        };
        if let Some(ranges) = &ranges {
            self.diagnostics.extend(unknown_names(&self.reference, ranges)?);
        }
        Ok(Evidence { statistics, ranges, ..evidence })
    }

    /// Metadata of the artefact about its calibration, if that was on built-in pictures.
    pub(super) fn facts(evidence: &Evidence) -> Vec<(String, String)> {
        let fact = |n: usize| ("calibration".to_owned(), format!("{n} built-in pictures, no real data"));
        let synthetic = match &evidence.statistics {
            Some(stored) => stored.file.synthetic(),
            None => evidence.calibrated().and_then(Samples::synthetic),
        };
        synthetic.map(fact).into_iter().collect()
    }
}

/// The warning about ranges of tensors that the model does not have.
///
/// # Errors
/// If no tensor of the file is in the model.
fn unknown_names(model: &Graph, ranges: &StoredRanges) -> Result<Option<Diagnostic>, Failure> {
    let named = model.order().into_iter().flat_map(|n| model.results(n)).filter_map(|v| model.name(v));
    let known: HashSet<&str> = named.chain(model.outputs().iter().map(|o| &o.name)).map(|name| &**name).collect();
    let (found, unknown): (Vec<&str>, Vec<&str>) = ranges.names().partition(|name| known.contains(name));
    let file = ranges.path.display();
    if found.is_empty() {
        let error = Diagnostic::error("unknown-tensors", format!("{file} names no tensor of the model"));
        return Err(error.with_help("`qcc inspect` shows the names of tensors").into());
    }
    let (count, names) = (counted(unknown.len(), "tensor"), few(&unknown));
    let message = format!("{file} has ranges of {count} that the model does not have: {names}");
    Ok((!unknown.is_empty()).then(|| Diagnostic::warning("unknown-tensors", message)))
}

/// The error for a model that cannot be calibrated without data.
fn without_data(e: &DataError, precision: Precision) -> Failure {
    match e {
        DataError::NoPreprocess => {
            let note =
                "there is no --data: ranges would be found on built-in pictures, which must become inputs as well";
            Diagnostic::from(e).with_note(note).into()
        }
        _ => {
            let note = format!("built-in pictures are for models with one image input only: {e}");
            Failure::usage(Diagnostic::error("usage", no_data(precision)).with_note(note).with_help(DATA_HELP))
        }
    }
}

//! Reading of samples.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use qcc_ir::Tensor;
use qcc_ir::diagnostic::{Diagnostic, Severity};

use crate::data::{DataError, Samples};
use crate::outcome::Failure;

/// Number of samples that are named in a message if none can be read.
const NAMED: usize = 3;

/// Reads samples and collects the errors of those that cannot be read.
pub(crate) struct Reader<'a> {
    pub(crate) samples: &'a Samples,
    /// By sample number, so that messages do not depend on the order of threads.
    errors: Mutex<BTreeMap<usize, DataError>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(samples: &'a Samples) -> Self {
        Reader { samples, errors: Mutex::default() }
    }

    pub(crate) fn read(&self, i: usize) -> Option<Vec<Tensor>> {
        match self.samples.get(i) {
            Ok(tensors) => Some(tensors),
            Err(e) => {
                self.errors.lock().unwrap_or_else(PoisonError::into_inner).insert(i, e);
                None
            }
        }
    }

    /// Warnings for unreadable samples; an error if `all` are unreadable.
    pub(crate) fn unread(self, all: bool) -> Result<Vec<Diagnostic>, Failure> {
        let errors = self.errors.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut told = errors.into_values().map(|e| Diagnostic::from(&e));
        if all {
            let error = Diagnostic::error("no-samples", format!("none of {} samples can be read", self.samples.len()));
            return Err(told.by_ref().take(NAMED).fold(error, |error, d| error.with_note(d.message)).into());
        }
        Ok(told.map(|d| Diagnostic { severity: Severity::Warning, ..d }).collect())
    }
}

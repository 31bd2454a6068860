//! Quality requirements.

use qcc_ir::diagnostic::Diagnostic;

/// Minimum quality of every output, compared with the float model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gate {
    /// The minimum signal-to-quantization-noise ratio, in dB.
    pub min_sqnr: Option<f64>,
    /// The minimum agreement, in percent, of outputs of known kind.
    pub min_agreement: Option<f64>,
}

impl Gate {
    /// True if there are no requirements.
    pub fn is_open(&self) -> bool {
        *self == Gate::default()
    }

    /// The requirements that are not met, given the lowest figures of all outputs. Unknown figures meet no requirement.
    pub fn unmet(&self, worst_sqnr: Option<f64>, worst_agreement: Option<f64>) -> Vec<Diagnostic> {
        let mut unmet = Vec::new();
        if self.min_sqnr.is_some_and(|least| worst_sqnr.is_none_or(|worst| worst < least)) {
            unmet.push(match worst_sqnr {
                Some(worst) => {
                    error(format!("the worst output has an SQNR of {}, below --min-sqnr", told(worst, "dB")))
                }
                None => error("no output has an SQNR for --min-sqnr")
                    .with_help("use --min-agreement where scores decide the order of outputs"),
            });
        }
        if self.min_agreement.is_some_and(|least| worst_agreement.is_none_or(|worst| worst < least)) {
            unmet.push(match worst_agreement {
                Some(worst) => error(format!("the worst output agrees by {}, below --min-agreement", told(worst, "%"))),
                None => error("no output is of known kind, or the samples hold nothing to count")
                    .with_help("use --min-sqnr, or samples with objects"),
            });
        }
        unmet
    }
}

fn error(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error("gate", message)
}

fn told(value: f64, unit: &str) -> String {
    match value {
        f64::INFINITY => "exact".into(),
        f64::NEG_INFINITY => "not finite".into(),
        value => format!("{value:.1} {unit}"),
    }
}

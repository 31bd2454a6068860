//! What a result must reach.

use qcc_ir::diagnostic::Diagnostic;

/// What every output must reach, beside those of the float model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gate {
    /// The least signal to quantization noise ratio, in dB.
    pub min_sqnr: Option<f64>,
    /// The least agreement, in percent, of outputs that tell what they are for.
    pub min_agreement: Option<f64>,
}

impl Gate {
    /// True where nothing is asked.
    pub fn is_open(&self) -> bool {
        *self == Gate::default()
    }

    /// What is not reached, given the lowest figures of all outputs. Figures that are not known reach nothing.
    pub fn unmet(&self, worst_sqnr: Option<f64>, worst_agreement: Option<f64>) -> Vec<Diagnostic> {
        let mut unmet = Vec::new();
        if self.min_sqnr.is_some_and(|least| worst_sqnr.is_none_or(|worst| worst < least)) {
            unmet.push(match worst_sqnr {
                Some(worst) => {
                    error(format!("the worst output has an SQNR of {}, below --min-sqnr", told(worst, "dB")))
                }
                None => error("no output has an SQNR that --min-sqnr could ask for")
                    .with_help("use --min-agreement where scores decide the order of outputs"),
            });
        }
        if self.min_agreement.is_some_and(|least| worst_agreement.is_none_or(|worst| worst < least)) {
            unmet.push(match worst_agreement {
                Some(worst) => error(format!("the worst output agrees by {}, below --min-agreement", told(worst, "%"))),
                None => error("no output tells what it is for, or none was there to agree on")
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

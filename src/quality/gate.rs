//! Quality requirements.

use qcc_ir::diagnostic::Diagnostic;
use qcc_passes::quality::BOXES_MEASURE;

use super::OutputReport;

/// Minimum quality of every output, compared with the float model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gate {
    /// The minimum signal-to-quantization-noise ratio, in dB.
    pub min_sqnr: Option<f64>,
    /// The minimum agreement, in percent, of outputs of known kind.
    pub min_agreement: Option<f64>,
    /// The maximum drop of the agreement of outputs of known kind, in percentage points: 100 is that of the float model.
    pub max_drop: Option<f64>,
}

/// With fewer boxes the agreement that was asked for cannot be measured.
const BOXES: usize = 50;

/// What the boxes of detectors usually lose with 8 bits, in percentage points: 1.3 to 2.4 for YOLO26n in three runtimes.
const USUAL_DROP: f64 = 2.5;

impl Gate {
    /// True if there are no requirements.
    pub fn is_open(&self) -> bool {
        *self == Gate::default()
    }

    /// The minimum agreement in percent.
    fn least_agreement(&self) -> Option<f64> {
        let kept = self.max_drop.map(|drop| 100.0 - drop);
        [self.min_agreement, kept].into_iter().flatten().reduce(f64::max)
    }

    /// True if an output of a quantized model is worse than required; without requirements, if it is not
    /// [usable](OutputReport::is_usable).
    pub(crate) fn misses(&self, output: &OutputReport) -> bool {
        if self.is_open() {
            return !output.is_usable();
        }
        let below = |figure: Option<f64>, least: Option<f64>| figure.zip(least).is_some_and(|(f, least)| f < least);
        let agreement = output.agreement.as_ref().map(|a| a.percent);
        below(output.deviation.sqnr, self.min_sqnr) || below(agreement, self.least_agreement())
    }

    /// The share of its noise that an output may keep where the samples have too few boxes to measure the agreement. The
    /// drop of the agreement is taken to be proportional to the noise.
    pub(crate) fn share_of_noise(&self, output: &OutputReport) -> Option<f64> {
        let few = output.agreement.as_ref().is_some_and(|a| a.measure == BOXES_MEASURE && a.of < BOXES);
        let drop = 100.0 - self.least_agreement().filter(|_| few)?;
        (drop < USUAL_DROP).then_some(drop.max(0.0) / USUAL_DROP)
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
        let agreements = [("--min-agreement", self.min_agreement), ("--max-drop", self.max_drop.map(|d| 100.0 - d))];
        for (option, least) in agreements.into_iter().filter_map(|(option, least)| Some((option, least?))) {
            unmet.extend(match worst_agreement {
                Some(worst) if worst >= least => None,
                Some(worst) if option == "--max-drop" => {
                    Some(error(format!("the worst output drops by {}, above --max-drop", told(100.0 - worst, "%"))))
                }
                Some(worst) => Some(error(format!("the worst output agrees by {}, below {option}", told(worst, "%")))),
                None => Some(
                    error("no output is of known kind, or the samples hold nothing to count")
                        .with_help("use --min-sqnr, or samples with objects"),
                ),
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

#[cfg(test)]
mod tests {
    use super::super::{Agreement, Deviation};
    use super::*;

    fn output(sqnr: f64, agreement: Option<(&'static str, f64, usize)>) -> OutputReport {
        let deviation = Deviation { name: "y".into(), sqnr: Some(sqnr), cosine: 1.0, max_error: 0.0 };
        let agreement = agreement.map(|(measure, percent, of)| Agreement { measure, percent, of });
        OutputReport { deviation, parts: Vec::new(), agreement, uncounted: false }
    }

    #[test]
    fn what_was_asked_counts_else_what_is_usable() {
        let (dull, sharp) = (output(15.0, None), output(25.0, Some(("top-1", 98.0, 100))));
        assert!(Gate::default().misses(&dull) && !Gate::default().misses(&sharp));
        let sqnr = Gate { min_sqnr: Some(12.0), ..Gate::default() };
        assert!(!sqnr.misses(&dull));
        for gate in [Gate { min_agreement: Some(99.0), ..Gate::default() }, Gate { max_drop: Some(1.0), ..sqnr }] {
            assert!(gate.misses(&sharp) && !gate.misses(&dull), "{gate:?}");
        }
        assert_eq!(Gate { max_drop: Some(3.0), ..Gate::default() }.unmet(None, Some(98.0)), []);
        let unmet = Gate { max_drop: Some(1.0), ..Gate::default() }.unmet(None, Some(98.0));
        assert_eq!(unmet[0].message, "the worst output drops by 2.0 %, above --max-drop");
    }

    #[test]
    fn few_boxes_ask_for_less_noise() {
        let gate = Gate { min_agreement: Some(99.0), ..Gate::default() };
        let share = |of, gate: Gate| gate.share_of_noise(&output(15.0, Some((BOXES_MEASURE, 100.0, of))));
        assert_eq!(share(3, gate), Some(0.4));
        assert_eq!(share(60, gate), None);
        assert_eq!(share(3, Gate { min_agreement: Some(95.0), ..gate }), None);
        assert_eq!(gate.share_of_noise(&output(15.0, Some(("top-1", 90.0, 3)))), None);
    }
}

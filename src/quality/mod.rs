//! Quality of a compiled graph compared with its float graph, for the report.

use qcc_ir::Graph;
pub use qcc_passes::quality::Agreement;
use qcc_passes::quality::{self, Distance, Fidelity, Hints, OutputKind, OutputQuality};
use serde::Serialize;

use crate::details::{UnstableValue, ValueReport, unstable};
use crate::vendor;

mod choice;
mod evidence;
mod gate;
mod remedy;
mod repair;
mod search;
mod unknown;
mod verify;

pub(crate) use choice::{agree_as_often, better_biases, better_ends, better_rounding, better_scales};
pub use evidence::Validation;
pub(crate) use evidence::{Evidence, affordable, cost_of_run};
pub use gate::Gate;
pub(crate) use remedy::{Trial, advice, trials};
pub(crate) use repair::Goal;
pub use repair::{Choice, ParetoPoint, Repair};
pub(crate) use search::{Found, Limits, Part, by_gain, search, shares};
pub use unknown::NOT_COMPARED;
pub(crate) use unknown::{check_ranges, not_compared, not_measured};
pub(crate) use verify::verify;

/// What the model's metadata say about its outputs.
pub(crate) fn hints(g: &Graph) -> Hints {
    vendor::hints(&g.metadata)
}

/// Number of worst layers that are reported.
const WORST: usize = 5;

/// The effect of quantization on a graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Number of samples that were compared. With none, there are no figures for outputs and layers.
    pub samples: usize,
    /// Share of the multiplications of convolutions and matrix products that are computed on statically quantized
    /// operands, 0 to 1.
    pub integer_share: f64,
    /// Share of the multiplications with quantized weights and dynamically quantized activations.
    pub run_time_share: f64,
    /// Share of the multiplications in floating point whose weights are quantized (weight-only quantization).
    pub weights_share: f64,
    /// Nodes that compute in floating point.
    pub float_nodes: Vec<String>,
    /// Nodes whose activations are quantized dynamically.
    pub dynamic_nodes: Vec<String>,
    /// The gain of the outputs by dynamic quantization of last contractions; `None` if no dynamic node is one.
    pub dynamic_gain: Option<String>,
    /// The gain of the outputs by weights that compensate each other's rounding errors; `None` if they do not.
    pub compensation_gain: Option<String>,
    /// The gain of the outputs by scaled channels of activations; `None` if none are scaled.
    pub smoothing_gain: Option<String>,
    /// The gain of the outputs by biases that make up for measured shifts of means; `None` if none does.
    pub bias_gain: Option<String>,
    /// Each output.
    pub outputs: Vec<OutputReport>,
    /// The layers with the largest deviation from the float graph, worst first.
    pub worst: Vec<Deviation>,
    /// The deviation of each layer, which includes errors of earlier layers, in the order of the model.
    pub layers: Vec<Deviation>,
    /// What was kept in higher precision for the quality of the outputs; `None` if nothing had to be.
    pub repair: Option<Repair>,
    /// Models with more and more parts in higher precision, none of which is worse and costs more than another, by latency;
    /// empty if not asked for.
    pub pareto: Vec<ParetoPoint>,
    /// Calibration statistics of values, in the order of the model.
    pub values: Vec<ValueReport>,
    /// The quantized values whose ranges differ most between the halves of the samples: more samples may change them.
    pub unstable: Vec<UnstableValue>,
}

/// The deviation of a value from the float graph's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deviation {
    /// Name of the output, the part of it, or the layer in the source model.
    pub name: String,
    /// Signal-to-quantization-noise ratio in dB. Infinite if nothing differs, minus infinite if values are not finite;
    /// JSON has `null` for both, and `max_error` distinguishes them. `None` for lists whose order depends on computed
    /// scores, where an elementwise ratio has no meaning.
    pub sqnr: Option<f64>,
    /// Cosine similarity.
    pub cosine: f64,
    /// The largest absolute difference.
    pub max_error: f32,
}

impl Deviation {
    fn new(name: String, sqnr: Option<f64>, d: &Distance) -> Self {
        Deviation { name, sqnr, cosine: d.cosine(), max_error: d.max_error }
    }

    fn of(name: String, d: &Distance) -> Self {
        Deviation::new(name, Some(d.sqnr()), d)
    }
}

/// The comparison of an output with the float graph's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputReport {
    /// The deviation of the whole output; if it has parts, `sqnr` is that of the worst part.
    #[serde(flatten)]
    pub deviation: Deviation,
    /// The parts of an output that concatenates values of different kinds, such as boxes and scores.
    pub parts: Vec<Deviation>,
    /// The agreement, if the kind of the output is known.
    pub agreement: Option<Agreement>,
    /// True if the kind of the output is known and the samples hold nothing to count, such as objects: the ratio is then
    /// that of numbers near 0.
    #[serde(skip)]
    pub uncounted: bool,
}

impl OutputReport {
    pub(crate) fn of(q: &OutputQuality) -> Self {
        let part = |p: &quality::Part| Deviation::of(p.name.clone(), &p.distance);
        OutputReport {
            deviation: Deviation::new(q.name.clone(), q.sqnr(), &q.distance),
            parts: q.parts.iter().map(part).collect(),
            agreement: q.agreement(),
            uncounted: q.agreement().is_none() && q.kind.as_ref().is_some_and(|kind| *kind != OutputKind::Values),
        }
    }

    /// True if the output is too far from the float model's to be useful.
    pub fn is_poor(&self) -> bool {
        match (&self.agreement, self.deviation.sqnr) {
            (Some(a), _) => a.percent < a.least(),
            (None, Some(sqnr)) => sqnr < LEAST_SQNR,
            (None, None) => false,
        }
    }
}

impl OutputReport {
    /// True if the output is near enough to the float model's for most uses, as far as the samples tell.
    pub fn is_usable(&self) -> bool {
        match (&self.agreement, self.deviation.sqnr) {
            (Some(a), _) => a.is_usable(),
            (None, Some(sqnr)) => sqnr >= USABLE_SQNR || self.uncounted,
            (None, None) => true,
        }
    }

    /// True if the output has too few boxes to estimate its quality.
    pub fn is_unsure(&self) -> bool {
        self.agreement.as_ref().is_some_and(|a| a.is_of_few_boxes())
    }
}

/// The minimum SQNR in dB: at 10 dB the noise has a tenth of the signal's power.
const LEAST_SQNR: f64 = 10.0;

/// The SQNR in dB of a usable output without an agreement measure: the noise has a hundredth of the signal's power.
const USABLE_SQNR: f64 = 20.0;

impl Quality {
    /// The quality of a compiled graph.
    pub(crate) fn of(fidelity: Fidelity, quantized: &Graph) -> Self {
        let Fidelity { outputs, layers, samples, .. } = fidelity;
        let layer = |(name, d): (String, Distance)| Deviation::of(name, &d);
        let layers: Vec<Deviation> = layers.into_iter().map(layer).collect();
        let mut worst = layers.clone();
        worst.sort_by(|a, b| a.sqnr.unwrap_or(f64::INFINITY).total_cmp(&b.sqnr.unwrap_or(f64::INFINITY)));
        worst.truncate(WORST);
        let name = |n| match quantized.origin(n).path() {
            "" => quantized.op(n).kind().name().to_owned(),
            path => format!("{path} ({})", quantized.op(n).kind().name()),
        };
        let work = quality::work(quantized);
        Quality {
            samples,
            integer_share: work.integer_share(),
            weights_share: work.weights_share(),
            run_time_share: work.run_time_share(),
            float_nodes: quality::float_islands(quantized).into_iter().map(name).collect(),
            dynamic_nodes: quality::dynamic(quantized).into_iter().map(name).collect(),
            dynamic_gain: None,
            compensation_gain: None,
            smoothing_gain: None,
            bias_gain: None,
            outputs: outputs.iter().map(OutputReport::of).collect(),
            worst,
            layers,
            repair: None,
            pareto: Vec::new(),
            values: Vec::new(),
            unstable: Vec::new(),
        }
    }

    /// Sets the statistics of values.
    pub(crate) fn set_values(&mut self, values: Vec<ValueReport>) {
        self.unstable = unstable(&values);
        self.values = values;
    }

    /// The lowest SQNR of any output, in dB.
    pub fn worst_sqnr(&self) -> Option<f64> {
        self.outputs.iter().filter_map(|o| o.deviation.sqnr).reduce(f64::min)
    }

    /// The lowest agreement of any output, in percent, and that output.
    pub fn worst_agreement(&self) -> Option<(&OutputReport, &Agreement)> {
        let known = self.outputs.iter().filter_map(|o| Some((o, o.agreement.as_ref()?)));
        known.min_by(|a, b| a.1.percent.total_cmp(&b.1.percent))
    }
}

#[cfg(test)]
mod tests {
    use qcc_passes::quality::BOXES_MEASURE;

    use super::*;

    fn output(sqnr: Option<f64>, agreement: Option<(&'static str, f64)>) -> OutputReport {
        let deviation = Deviation { name: "y".into(), sqnr, cosine: 1.0, max_error: 0.0 };
        let agreement = agreement.map(|(measure, percent)| Agreement { measure, percent, of: 100 });
        OutputReport { deviation, parts: Vec::new(), agreement, uncounted: false }
    }

    #[test]
    fn what_cannot_be_counted_is_usable() {
        let empty = OutputReport { uncounted: true, ..output(Some(-1.0), None) };
        assert!(empty.is_usable() && !output(Some(-1.0), None).is_usable());
        assert!(!output(Some(30.0), Some(("top-1", 90.0))).is_usable());
        assert!(output(Some(3.0), Some(("top-1", 96.0))).is_usable());
        let mut few_wrong = output(Some(30.0), Some(("top-1", 90.0)));
        few_wrong.agreement.as_mut().unwrap().of = 20;
        assert!(few_wrong.is_usable());
    }

    #[test]
    fn what_is_known_of_an_output_decides_whether_it_is_poor() {
        assert!(output(Some(3.0), None).is_poor());
        assert!(output(Some(f64::NEG_INFINITY), None).is_poor());
        assert!(!output(Some(30.0), None).is_poor());
        assert!(!output(None, None).is_poor());
        assert!(!output(Some(3.0), Some(("top-1", 99.0))).is_poor());
        assert!(output(Some(30.0), Some(("top-1", 50.0))).is_poor());
        assert!(output(Some(30.0), Some(("cosine", 90.0))).is_poor());
        let mut boxes = output(Some(3.0), Some((BOXES_MEASURE, 50.0)));
        assert!(boxes.is_poor());
        boxes.agreement.as_mut().unwrap().of = 3;
        assert!(!boxes.is_poor());
        boxes.agreement.as_mut().unwrap().percent = 0.0;
        assert!(boxes.is_poor());
    }
}

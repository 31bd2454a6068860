//! How a compiled graph compares with the float graph it was made from, for the report.

use qcc_ir::Graph;
use qcc_passes::quality::{self, Agreement, BOXES_MEASURE, Distance, Fidelity, Hints, OutputQuality};
use serde::Serialize;

use crate::details::ValueReport;
use crate::vendor;

mod ends;
mod evidence;
mod gate;
mod remedy;
mod verify;

pub(crate) use ends::gain;
pub use evidence::Validation;
pub(crate) use evidence::{Evidence, affordable};
pub use gate::Gate;
pub(crate) use remedy::{Trial, advice, trials};
pub(crate) use verify::verify;

/// What a model says of its outputs.
pub(crate) fn hints(g: &Graph) -> Hints {
    vendor::hints(&g.metadata)
}

/// Layers that are named.
const WORST: usize = 5;

/// What quantization did to a graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Samples it was measured on. On none, there are no figures of outputs and layers.
    pub samples: usize,
    /// Share of the products of convolutions and matrix multiplications summed on stored integers, 0 to 1.
    pub integer_share: f64,
    /// Share of the products whose weights alone are stored as integers, beside activations that the runtime puts on
    /// integers.
    pub run_time_share: f64,
    /// Share of the products of real numbers whose weights are stored as integers.
    pub weights_share: f64,
    /// Nodes that compute in floating point.
    pub float_nodes: Vec<String>,
    /// Products whose real activations the runtime puts on integers.
    pub dynamic_nodes: Vec<String>,
    /// What the outputs gain by those of them that are the last products; `None` where all stand elsewhere.
    pub dynamic_gain: Option<String>,
    /// Each output.
    pub outputs: Vec<OutputReport>,
    /// The layers that differ most from the float graph's, worst first.
    pub worst: Vec<Deviation>,
    /// Each layer, with the errors of those before it, in the order of the model.
    pub layers: Vec<Deviation>,
    /// What calibration saw of values, in the order of the model.
    pub values: Vec<ValueReport>,
}

/// How far a value is from the float graph's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deviation {
    /// The output, the part of it, or the layer in the source model.
    pub name: String,
    /// Signal to quantization noise ratio in dB. Infinite where nothing differs, minus infinite where values are not
    /// finite; JSON has `null` for both, and `max_error` says which it is. `None` for lists in an order that computed
    /// scores decide: it would say nothing.
    pub sqnr: Option<f64>,
    /// Cosine of the angle between the two.
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

/// How well two models agree on what an output is for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgreementReport {
    /// What is counted: `top-1`, `boxes mAP50-95`, ..
    pub measure: &'static str,
    /// 100 where the models agree on all.
    pub percent: f64,
    /// How many were counted: boxes of the float model, classes, pixels, vectors.
    pub of: usize,
}

/// How an output compares with the float graph's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputReport {
    /// The whole; of an output with parts, `sqnr` is that of the worst part.
    #[serde(flatten)]
    pub deviation: Deviation,
    /// The parts of an output that joins numbers of different kinds, such as boxes and scores.
    pub parts: Vec<Deviation>,
    /// Where what the output holds is known.
    pub agreement: Option<AgreementReport>,
}

impl OutputReport {
    pub(crate) fn of(q: &OutputQuality) -> Self {
        let part = |p: &quality::Part| Deviation::of(p.name.clone(), &p.distance);
        let agreement = |Agreement { measure, percent, of }| AgreementReport { measure, percent, of };
        OutputReport {
            deviation: Deviation::new(q.name.clone(), q.sqnr(), &q.distance),
            parts: q.parts.iter().map(part).collect(),
            agreement: q.agreement().map(agreement),
        }
    }

    /// True where the output keeps too little of what the float model gives to be of use.
    pub fn is_poor(&self) -> bool {
        match (&self.agreement, self.deviation.sqnr) {
            (Some(a), _) => a.percent < a.least(),
            (None, Some(sqnr)) => sqnr < LEAST_SQNR,
            (None, None) => false,
        }
    }
}

impl OutputReport {
    /// True where too little could be counted to tell how good the output is.
    pub fn is_unsure(&self) -> bool {
        self.agreement.as_ref().is_some_and(|a| a.measure == BOXES_MEASURE && a.of < FEW_BOXES)
    }
}

/// Boxes of which one alone is worth 10 % or more.
const FEW_BOXES: usize = 10;

/// Noise above a tenth of the signal's power.
const LEAST_SQNR: f64 = 10.0;

impl AgreementReport {
    /// What a useful model has, in percent.
    fn least(&self) -> f64 {
        match self.measure {
            // At an SQNR of 10 dB.
            "cosine" => 95.0,
            // It counts how exact each box is, too. Of a few, only those that are lost tell something.
            BOXES_MEASURE if self.of < FEW_BOXES => 30.0,
            BOXES_MEASURE => 75.0,
            _ => 90.0,
        }
    }
}

impl Quality {
    /// What there is to report of a compiled graph.
    pub(crate) fn of(fidelity: Fidelity, quantized: &Graph) -> Self {
        let Fidelity { outputs, layers, samples } = fidelity;
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
            outputs: outputs.iter().map(OutputReport::of).collect(),
            worst,
            layers,
            values: Vec::new(),
        }
    }

    /// The lowest SQNR of any output, in dB.
    pub fn worst_sqnr(&self) -> Option<f64> {
        self.outputs.iter().filter_map(|o| o.deviation.sqnr).reduce(f64::min)
    }

    /// The lowest agreement of any output, in percent, and the output.
    pub fn worst_agreement(&self) -> Option<(&OutputReport, &AgreementReport)> {
        let known = self.outputs.iter().filter_map(|o| Some((o, o.agreement.as_ref()?)));
        known.min_by(|a, b| a.1.percent.total_cmp(&b.1.percent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(sqnr: Option<f64>, agreement: Option<(&'static str, f64)>) -> OutputReport {
        let deviation = Deviation { name: "y".into(), sqnr, cosine: 1.0, max_error: 0.0 };
        let agreement = agreement.map(|(measure, percent)| AgreementReport { measure, percent, of: 100 });
        OutputReport { deviation, parts: Vec::new(), agreement }
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

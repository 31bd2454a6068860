//! What a quantized model keeps in higher precision for the quality of its outputs.

use qcc_passes::quality::{Fidelity, OutputKind, OutputQuality};
use serde::Serialize;

use super::{Gate, OutputReport};

/// The nodes of a quantized model that are kept in higher precision, since an output was worse than required.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repair {
    /// True if all outputs are as good as required with these choices. Otherwise the outputs are the best that were
    /// found.
    pub reached: bool,
    /// The outputs of the model without these choices.
    pub before: Vec<OutputReport>,
    /// Latency proxy in milliseconds without and with these choices; `None` for targets without a table.
    pub latency_ms: Option<[f64; 2]>,
    /// The number of models that were evaluated.
    pub evaluated: usize,
    /// The choices, in the order of gain per cost.
    pub choices: Vec<Choice>,
}

/// One part of a model that is kept in higher precision: a layer with its activation function, or another operator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The name of the layer.
    pub name: String,
    /// What is not quantized: `activations` or `weights and activations`.
    pub raised: &'static str,
    /// The share of the noise of the outputs that quantizing it adds, 0 to 1. It is measured for groups of parts, each
    /// quantized alone, and divided among the parts of a group by the noise that rounding adds in each.
    pub noise_share: f64,
    /// What it costs by the latency proxy, in milliseconds.
    pub cost_ms: f64,
}

/// A model with some parts in higher precision: what it costs, and how good its outputs are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParetoPoint {
    /// The number of parts in higher precision.
    pub parts: usize,
    /// What is not quantized of them: `activations` or `weights and activations`.
    pub raised: &'static str,
    /// Latency proxy in milliseconds; for targets without a table, one that compares models of this target.
    pub latency_ms: f64,
    /// Bytes of constants.
    pub weight_bytes: u64,
    /// Its outputs.
    pub outputs: Vec<OutputReport>,
}

/// The noise of the outputs of a compiled graph that miss a requirement.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    gate: Gate,
    /// For each output: whether it is repaired, its noise before, and the share of that noise that it may keep.
    outputs: Vec<(bool, f64, Option<f64>)>,
    boxes: bool,
}

impl Goal {
    /// True if an output is worse than required, or too few boxes tell.
    pub(crate) fn is_missed(gate: Gate, found: &Fidelity) -> bool {
        reports(found).iter().any(|o| gate.misses(o) || gate.share_of_noise(o).is_some())
    }

    /// The goal for a compiled graph that has these outputs at first.
    pub(crate) fn of(gate: Gate, found: &Fidelity) -> Self {
        let one = |o: &OutputReport, noise: f64| {
            let share = gate.share_of_noise(o).filter(|_| noise > 0.0);
            (gate.misses(o) || share.is_some(), noise, share)
        };
        let mut outputs: Vec<_> =
            reports(found).iter().zip(noises(found, gate)).map(|(o, noise)| one(o, noise)).collect();
        if !outputs.iter().any(|o| o.0) {
            // On other samples all are as good as required: each counts.
            outputs.iter_mut().for_each(|o| o.0 = true);
        }
        let boxes = found.outputs.iter().any(|o| matches!(o.kind, Some(OutputKind::Boxes(_))));
        Goal { gate, outputs, boxes }
    }

    /// True if an output is boxes, so that the samples of the search are not those that are compared.
    pub(crate) fn is_of_boxes(&self) -> bool {
        self.boxes
    }

    /// True if a compiled graph is as good as required, as far as these samples tell: where they have too few boxes, the
    /// noise counts instead of the agreement.
    pub(crate) fn is_met(&self, found: &Fidelity) -> bool {
        let all = reports(found).into_iter().zip(noises(found, self.gate)).zip(&self.outputs);
        all.into_iter().all(|((o, noise), (_, before, share))| {
            share.map_or_else(|| !self.gate.misses(&o), |share| noise <= before * share)
        })
    }

    /// The share of its noise that the first output with such a requirement may keep.
    pub(crate) fn left(&self) -> Option<f64> {
        self.outputs.iter().filter_map(|(.., share)| *share).reduce(f64::min)
    }

    /// The noise of the repaired outputs, as a share of what it was at first.
    pub(crate) fn noise(&self, found: &Fidelity) -> f64 {
        let repaired = noises(found, self.gate).into_iter().zip(&self.outputs).filter(|(_, (repaired, ..))| *repaired);
        repaired.map(|(noise, (_, before, _))| noise / before.max(f64::MIN_POSITIVE)).sum()
    }
}

fn reports(found: &Fidelity) -> Vec<OutputReport> {
    found.outputs.iter().map(OutputReport::of).collect()
}

/// The noise power of each output relative to its signal. Where a task figure is required, that of boxes, else that of the
/// last contractions: lists in an order of scores have none, and that of scores depends on a few of them.
fn noises(found: &Fidelity, gate: Gate) -> Vec<f64> {
    let ratio =
        |sqnr: f64| if sqnr == f64::NEG_INFINITY { MOST_NOISE } else { libm::pow(10.0, -sqnr / 10.0).min(MOST_NOISE) };
    let ends = || {
        let noises = found.ends.iter().filter_map(|&i| found.layers.get(i)).map(|(_, d)| ratio(d.sqnr()));
        noises.sum::<f64>() / found.ends.len().max(1) as f64
    };
    let by_task = |o: &OutputQuality| gate.min_sqnr.is_none() && o.agreement().is_some() && !found.ends.is_empty();
    let own = |o: &OutputQuality| o.sqnr().filter(|_| !by_task(o));
    let boxes = |o: &OutputQuality| o.box_noise().filter(|_| by_task(o));
    found.outputs.iter().map(|o| boxes(o).unwrap_or_else(|| own(o).map_or_else(ends, ratio))).collect()
}

/// Noise that is not finite, or beyond any use.
const MOST_NOISE: f64 = 1e6;

//! The choice between two quantized models by their outputs.

use std::collections::HashMap;

use qcc_passes::quality::BOXES_MEASURE;

use super::{Deviation, OutputReport, Quality};
use crate::precision::Precision;

/// Minimum gain of agreement in percentage points. The gain must also exceed a few of the counted items: smaller gains
/// may be chance.
const POINTS: f64 = 1.0;
const FEW: f64 = 3.0;

/// Minimum number of boxes of the float model to estimate what a detector's scores, which are small nearly everywhere,
/// lose in integer arithmetic.
const BOXES: usize = 50;

/// Minimum gain in dB of an output without an agreement measure: one bit. It counts if the SQNR without it is below
/// `ENOUGH`.
const BIT: f64 = 6.02;

/// The SQNR in dB above which quantizing the last contractions costs an output little.
const ENOUGH: f64 = 20.0;

/// The gain in dB of the layers of a model with quantized activations that is not due to chance.
const DIFFERENT: f64 = 0.5;

/// The same for scaled channels, which change no other layer.
const BETTER: f64 = 0.1;

/// The number of outputs whose gain is told.
const SHOWN: usize = 3;

/// The figures of both models, if weights that compensate each other's errors are better than weights that are rounded to
/// the nearest: at the outputs and, where activations are quantized, in the layers, without a loss of agreement. Outputs on
/// few samples may differ by chance; the mean of all layers does so less.
pub(crate) fn better_rounding(compensated: &Quality, nearest: &Quality, precision: Precision) -> Option<String> {
    match precision.quantizes_activations() {
        true => better_everywhere(compensated, nearest, DIFFERENT),
        false => better_outputs(compensated, nearest, 0.0),
    }
}

/// The figures of both models, if scaled channels are better, in the same sense.
pub(crate) fn better_scales(scaled: &Quality, unscaled: &Quality) -> Option<String> {
    better_everywhere(scaled, unscaled, BETTER)
}

/// The figures of both models, if measured biases are better: in the layers, and at the outputs by more than chance, where
/// nothing agrees less.
pub(crate) fn better_biases(measured: &Quality, plain: &Quality) -> Option<String> {
    let agrees = missed_items(&measured.outputs, &plain.outputs).all(|(a, b)| a <= b);
    let gains = agrees && mean_gain(&measured.layers, &plain.layers) >= BETTER;
    if gains { better_outputs(measured, plain, -DIFFERENT) } else { None }
}

/// The figures of both models, if the first is better by so many dB in the layers, and at the outputs, without a loss of
/// agreement. Where the layers gain more than by chance, agreement may be lost by chance, and outputs of which the agreement is
/// known may lose as many dB as the layers gain.
fn better_everywhere(better: &Quality, worse: &Quality, in_layers: f64) -> Option<String> {
    let gain = mean_gain(&better.layers, &worse.layers);
    let known = better.outputs.iter().filter(|o| o.agreement.is_some()).count() as f64;
    let (agrees, may_lose) = match gain >= DIFFERENT {
        true => (agree_as_often(&better.outputs, &worse.outputs), gain * known),
        false => (missed_items(&better.outputs, &worse.outputs).all(|(a, b)| a <= b), 0.0),
    };
    if agrees && gain >= in_layers { better_outputs(better, worse, may_lose) } else { None }
}

/// True if no output of the first model agrees less with the float model than that of the second, but for chance: a few items,
/// or the deviation of the difference of two counts.
pub(crate) fn agree_as_often(better: &[OutputReport], worse: &[OutputReport]) -> bool {
    missed_items(better, worse).all(|(a, b)| a - b <= FEW.max((a + b).sqrt()))
}

/// How many of the counted items of each output do not agree with the float model, in both models.
fn missed_items<'a>(
    better: &'a [OutputReport],
    worse: &'a [OutputReport],
) -> impl Iterator<Item = (f64, f64)> + use<'a> {
    let missed = |o: &OutputReport| o.agreement.as_ref().map(|a| (100.0 - a.percent) / 100.0 * a.of as f64);
    better.iter().zip(worse).filter_map(move |(a, b)| missed(a).zip(missed(b)))
}

/// The figures of both models, if the outputs of the first are better, or lose less than so many dB in all.
fn better_outputs(better: &Quality, worse: &Quality, may_lose: f64) -> Option<String> {
    let pairs = || better.outputs.iter().zip(&worse.outputs);
    let total: f64 = pairs().filter_map(|(a, b)| Some(a.deviation.sqnr? - b.deviation.sqnr?)).sum();
    if total.is_nan() || total <= -may_lose {
        return None;
    }
    let name = |o: &OutputReport| o.deviation.name.clone();
    let gained = |(a, b): (&OutputReport, &OutputReport)| {
        Some(format!("{} {:.1} dB instead of {:.1} dB", name(a), a.deviation.sqnr?, b.deviation.sqnr?))
    };
    let gains: Vec<String> = pairs().filter_map(gained).collect();
    let more = if gains.len() > SHOWN { ", .." } else { "" };
    Some(format!("{}{more}", gains[..gains.len().min(SHOWN)].join(", ")))
}

/// The mean gain in dB of the layers that both models have.
fn mean_gain(better: &[Deviation], worse: &[Deviation]) -> f64 {
    let worse: HashMap<&str, f64> = worse.iter().filter_map(|d| Some((&*d.name, d.sqnr?))).collect();
    let gain = |d: &Deviation| Some(d.sqnr? - worse.get(&*d.name)?).filter(|gain| gain.is_finite());
    let gains: Vec<f64> = better.iter().filter_map(gain).collect();
    gains.iter().sum::<f64>() / gains.len().max(1) as f64
}

/// The outputs that gain by float results of the last contractions, with both figures; `None` if none does. They must gain
/// enough to justify dynamic quantization: not every runtime supports it.
pub(crate) fn better_ends(integer: &Quality, real: &Quality) -> Option<String> {
    let pairs = integer.outputs.iter().zip(&real.outputs);
    let gains: Vec<String> = pairs.filter_map(|(integer, real)| gained(integer, real)).collect();
    (!gains.is_empty()).then(|| gains.join(", "))
}

fn gained(integer: &OutputReport, real: &OutputReport) -> Option<String> {
    let name = &integer.deviation.name;
    match (&integer.agreement, &real.agreement, integer.deviation.sqnr, real.deviation.sqnr) {
        (Some(_), Some(r), ..) if r.measure == BOXES_MEASURE && r.of < BOXES => Some(format!(
            "the loss of the boxes of {name} in integer arithmetic is not known: only {} to compare",
            r.of
        )),
        (Some(i), Some(r), ..) => (r.percent - i.percent >= POINTS.max(FEW * 100.0 / r.of.max(1) as f64))
            .then(|| format!("{name} {} {:.2} % instead of {:.2} %", r.measure, r.percent, i.percent)),
        (_, _, Some(i), Some(r)) => {
            (i < ENOUGH && r - i >= BIT).then(|| format!("{name} {r:.1} dB instead of {i:.1} dB"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Agreement;
    use super::*;

    fn output(sqnr: f64, percent: Option<f64>) -> OutputReport {
        let deviation = Deviation { name: "y".into(), sqnr: Some(sqnr), cosine: 1.0, max_error: 0.0 };
        let agreement = percent.map(|percent| Agreement { measure: "top-1", percent, of: 100 });
        OutputReport { deviation, parts: Vec::new(), agreement, uncounted: false }
    }

    #[test]
    fn agreement_may_be_lost_by_chance() {
        let as_often = |a, b| agree_as_often(&[output(20.0, Some(a))], &[output(20.0, Some(b))]);
        assert!(as_often(97.0, 97.0) && as_often(97.0, 99.9) && as_often(80.0, 85.0));
        assert!(!as_often(96.0, 100.0) && !as_often(80.0, 89.0));
        let model = |sqnr, percent, layer| {
            let mut quality = Quality::of(qcc_passes::quality::Fidelity::default(), &qcc_ir::Graph::new("g"));
            let deviation = Deviation { name: "n".into(), sqnr: Some(layer), cosine: 1.0, max_error: 0.0 };
            (quality.outputs, quality.layers) = (vec![output(sqnr, Some(percent))], vec![deviation]);
            quality
        };
        let of = |a, b| better_everywhere(&a, &b, BETTER).is_some();
        assert!(of(model(20.0, 97.0, 25.0), model(21.0, 99.0, 20.0)));
        assert!(!of(model(20.0, 97.0, 20.2), model(21.0, 97.0, 20.0)));
        assert!(!of(model(20.0, 97.0, 20.2), model(19.0, 98.0, 20.0)));
        assert!(!of(model(10.0, 97.0, 25.0), model(21.0, 97.0, 20.0)));
    }

    #[test]
    fn agreement_decides_where_it_is_known() {
        let gains = |a, b| gained(&a, &b);
        assert_eq!(gains(output(20.0, Some(99.0)), output(60.0, Some(99.5))), None);
        let points = gains(output(30.0, Some(95.0)), output(30.0, Some(98.0)));
        assert_eq!(points.as_deref(), Some("y top-1 98.00 % instead of 95.00 %"));
        assert_eq!(gains(output(30.0, None), output(37.0, None)), None);
        assert_eq!(gains(output(15.0, None), output(37.0, None)).as_deref(), Some("y 37.0 dB instead of 15.0 dB"));
        assert_eq!(gains(output(f64::INFINITY, None), output(f64::INFINITY, None)), None);
    }
}

//! The choice between two quantized models by their outputs.

use qcc_passes::quality::BOXES_MEASURE;

use super::{OutputReport, Quality};
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

/// The number of outputs whose gain is told.
const SHOWN: usize = 3;

/// The better of two models, and whether it is the second. With 8-bit activations, the second has float results of the
/// last contractions, which must gain enough to justify dynamic quantization: not every runtime supports it. Else the
/// first has weights that compensate each other's errors, and the second has weights that are rounded to the nearest.
pub(crate) fn chosen(first: Quality, second: Quality, precision: Precision) -> (Quality, bool) {
    if precision == Precision::Int8 {
        return match gain(&first, &second) {
            Some(gain) => (Quality { dynamic_gain: Some(gain), ..second }, true),
            None => (first, false),
        };
    }
    let pairs = || first.outputs.iter().zip(&second.outputs);
    let total: f64 = pairs().filter_map(|(a, b)| Some(a.deviation.sqnr? - b.deviation.sqnr?)).sum();
    if total <= 0.0 {
        return (second, true);
    }
    let name = |o: &OutputReport| o.deviation.name.clone();
    let gained = |(a, b): (&OutputReport, &OutputReport)| {
        Some(format!("{} {:.1} dB instead of {:.1} dB", name(a), a.deviation.sqnr?, b.deviation.sqnr?))
    };
    let gains: Vec<String> = pairs().filter_map(gained).collect();
    let more = if gains.len() > SHOWN { ", .." } else { "" };
    let gain = format!("{}{more}", gains[..gains.len().min(SHOWN)].join(", "));
    (Quality { compensation_gain: Some(gain), ..first }, false)
}

/// The outputs that gain by float results, with both figures; `None` if none does.
fn gain(integer: &Quality, real: &Quality) -> Option<String> {
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
    use super::super::{Agreement, Deviation};
    use super::*;

    fn output(sqnr: f64, percent: Option<f64>) -> OutputReport {
        let deviation = Deviation { name: "y".into(), sqnr: Some(sqnr), cosine: 1.0, max_error: 0.0 };
        let agreement = percent.map(|percent| Agreement { measure: "top-1", percent, of: 100 });
        OutputReport { deviation, parts: Vec::new(), agreement, uncounted: false }
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

//! Details of a report: the values and the operators of an artefact.

use std::collections::HashMap;

use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, QuantParams, ValueId};
use qcc_passes::calibrate::{CalibrationTable, Stats};
use qcc_passes::decisions::Decision;
use serde::Serialize;

use crate::cost::{Step, steps};
use crate::matching::qparams_of;

/// Number of bins of a histogram.
const BARS: usize = 48;

/// Calibration statistics of a value, and its quantization parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueReport {
    /// Its name in the model, or the name of the node that produces it.
    pub name: String,
    /// The minimum; NaN, as all figures of samples, if there were none.
    pub min: f32,
    /// The maximum.
    pub max: f32,
    /// The mean of the samples' minima and the mean of their maxima. They are close to `min` and `max` if samples are
    /// alike.
    pub typical: [f64; 2],
    /// The minimum and the maximum in either half of the samples; `None` if a half is empty. The digest of a sample
    /// decides its half, so that all samples may be in one if there are few.
    pub halves: Option<[[f32; 2]; 2]>,
    /// Histogram with bins of equal width between `min` and `max`; empty if there were no samples.
    pub counts: Vec<u64>,
    /// The quantization parameters; `None` if the value stays in floating point.
    pub quantization: Option<QuantizationReport>,
    /// Share of the numbers that quantization clips, from 0 to 1.
    pub clipped: f64,
}

/// A quantized value whose range depends on few samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnstableValue {
    /// Its name, as in [`ValueReport`].
    pub name: String,
    /// The minimum and the maximum in either half of the samples.
    pub halves: [[f32; 2]; 2],
    /// The larger difference of the minima or the maxima, as a share of the range of all samples: 0 if both halves have
    /// the same range.
    pub difference: f64,
}

/// Number of values that are reported as unstable.
const MOST_UNSTABLE: usize = 8;

/// The quantized values whose ranges differ most between the halves of the samples, largest difference first.
pub(crate) fn unstable(values: &[ValueReport]) -> Vec<UnstableValue> {
    let one = |v: &ValueReport| {
        let halves = v.halves.filter(|_| v.quantization.is_some() && v.max > v.min)?;
        let apart = |end: usize| (f64::from(halves[0][end]) - f64::from(halves[1][end])).abs();
        let difference = apart(0).max(apart(1)) / (f64::from(v.max) - f64::from(v.min));
        (difference > 0.0).then(|| UnstableValue { name: v.name.clone(), halves, difference })
    };
    let mut all: Vec<UnstableValue> = values.iter().filter_map(one).collect();
    all.sort_by(|a, b| b.difference.total_cmp(&a.difference));
    all.truncate(MOST_UNSTABLE);
    all
}

/// Per-tensor quantization parameters and their range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizationReport {
    /// The scale.
    pub scale: f32,
    /// The integer that represents 0.
    pub zero_point: i32,
    /// The number that the smallest integer represents.
    pub low: f32,
    /// The number that the largest integer represents.
    pub high: f32,
}

impl QuantizationReport {
    fn of(qparams: &QuantParams) -> Option<Self> {
        let ((scale, zero_point), (low, high)) = (qparams.tensor_map()?, qparams.limits()?);
        Some(QuantizationReport { scale, zero_point, low, high })
    }
}

/// An operator of an artefact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeReport {
    /// The node of the source model that it implements; empty if there is none.
    pub name: String,
    /// The operator, as the text form of graphs names it.
    pub operator: &'static str,
    /// What it computes with: `integer`, `dynamic`, `weights only`, `float`, `unchanged`, or `conversion` for
    /// `Quantize` and `Dequantize`.
    pub form: String,
    /// The reason, if there was a decision.
    pub reason: Option<String>,
    /// Signal-to-quantization-noise ratio of its result in dB, if it was compared.
    pub sqnr: Option<f64>,
    /// Multiply-accumulate operations of a convolution or matrix multiplication.
    pub products: u64,
    /// Bytes that it reads and writes.
    pub moved_bytes: u64,
    /// Names of its results in the file, if the format has names.
    pub results: Vec<String>,
}

/// Calibration statistics of the values of a float graph, and the quantization parameters of the corresponding
/// quantized values.
pub(crate) fn values(
    float: &Graph,
    ranges: &CalibrationTable,
    quantized: &Graph,
    pairs: &[(ValueId, ValueId)],
) -> Vec<ValueReport> {
    let mut pairs: Vec<(ValueId, ValueId)> = pairs.to_vec();
    let places: HashMap<NodeId, usize> = float.order().into_iter().enumerate().map(|(i, n)| (n, i)).collect();
    pairs.sort_by_key(|(v, _)| places.get(&v.node));
    pairs.dedup_by_key(|(v, _)| *v);
    let report = |(v, q): (ValueId, ValueId)| Some(value(name(float, v), ranges.get(v)?, qparams_of(quantized, q)));
    pairs.into_iter().filter_map(report).collect()
}

fn value(name: String, seen: &Stats, quantization: Option<&QuantParams>) -> ValueReport {
    let quantization = quantization.and_then(QuantizationReport::of);
    let width = (seen.max - seen.min) / BARS as f32;
    let (mut counts, mut all, mut clipped) = (vec![0; BARS], 0, 0);
    for (x, n) in seen.histogram.bins() {
        let place = ((x - seen.min) / width) as usize;
        counts[place.min(BARS - 1)] += n;
        all += n;
        if quantization.as_ref().is_some_and(|g| x < g.low - g.scale || x > g.high + g.scale) {
            clipped += n;
        }
    }
    ValueReport {
        name,
        min: seen.min,
        max: seen.max,
        typical: seen.typical(),
        halves: seen.halves[0].zip(seen.halves[1]).map(|(a, b)| [a, b]),
        counts,
        quantization,
        clipped: clipped as f64 / all.max(1) as f64,
    }
}

/// The quantized values of a graph without samples: their quantization parameters alone.
pub(crate) fn quantized_values(g: &Graph) -> Vec<ValueReport> {
    let named = |v: ValueId| {
        let quantization = QuantizationReport::of(g.ty(v).elem.qparams()?)?;
        let unknown = f32::NAN;
        Some(ValueReport {
            name: name(g, v),
            min: unknown,
            max: unknown,
            typical: [unknown.into(); 2],
            halves: None,
            counts: Vec::new(),
            quantization: Some(quantization),
            clipped: unknown.into(),
        })
    };
    let computed = g.order().into_iter().filter(|n| !matches!(g.op(*n), Op::Const(_)));
    let values: Vec<ValueId> = computed.flat_map(|n| g.results(n)).collect();
    values.into_iter().filter_map(named).collect()
}

/// The name of a value, or that of its producer.
fn name(g: &Graph, v: ValueId) -> String {
    let node = || format!("{} ({})", g.origin(v.node).path(), g.producer(v).kind().name());
    g.output_name(v).or(g.name(v)).map_or_else(node, |n| n.to_string())
}

/// The operators of the graph of an artefact, in order. `layers` is the SQNR of layers by name, `names` are the names
/// of values in the file.
pub(crate) fn nodes(
    g: &Graph,
    target: &Target,
    decisions: &[Decision],
    layers: &HashMap<&str, Option<f64>>,
    names: &[(ValueId, String)],
) -> Vec<NodeReport> {
    let decided: HashMap<(&str, &str), &Decision> =
        decisions.iter().map(|d| ((d.origin.path(), d.operator), d)).collect();
    let names: HashMap<ValueId, &str> = names.iter().map(|(v, name)| (*v, name.as_str())).collect();
    let node = |step: Step| {
        let (path, operator) = (g.origin(step.node).path(), g.op(step.node).kind().name());
        let decision = decided.get(&(path, operator));
        let own = || match g.op(step.node) {
            Op::Quantize(_) | Op::Dequantize(_) => "conversion".to_owned(),
            _ if on_integers(g, step.node) => "integer".to_owned(),
            _ => "float".to_owned(),
        };
        NodeReport {
            name: path.to_owned(),
            operator,
            form: decision.map_or_else(own, |d| d.form.to_string()),
            reason: decision.map(|d| d.reason.to_string()),
            // The SQNR of a layer is measured after its activation function. Of the layer's operators, the one with
            // products reports it.
            sqnr: layers.get(path).filter(|_| step.work.total() > 0).copied().flatten(),
            products: step.work.total(),
            moved_bytes: step.moved_bytes,
            results: step.results.iter().filter_map(|v| names.get(v)).map(|name| (*name).to_owned()).collect(),
        }
    };
    steps(&g.typical(), target).into_iter().map(node).collect()
}

/// True if a node has no float operand and no float result.
fn on_integers(g: &Graph, n: NodeId) -> bool {
    let operands = g.operand_types(n);
    !operands.iter().map(|t| &t.elem).chain(g.result_types(n).iter().map(|t| &t.elem)).any(|e| e.is_float())
}

#[cfg(test)]
mod tests {
    use qcc_ir::StorageType;

    use super::*;

    #[test]
    fn values_that_few_samples_decide_are_unstable() {
        let quantization = QuantParams::per_tensor(StorageType::I8, 8.0 / 255.0, -128);
        let of = |name: &str, samples: &[[f32; 2]], quantization| {
            let mut all = samples.iter().enumerate().map(|(i, s)| Stats::of(s).in_half(i % 2 == 1));
            let mut seen = all.next().unwrap();
            all.for_each(|s| seen.merge(s));
            value(name.into(), &seen, quantization)
        };
        let values = [
            of("calm", &[[0.0, 8.0], [0.0, 7.9]], Some(&quantization)),
            of("alike", &[[0.0, 8.0], [0.0, 8.0]], Some(&quantization)),
            of("float", &[[0.0, 8.0], [0.0, 1.0]], None),
            of("wild", &[[0.0, 8.0], [-2.0, 3.0], [0.0, 6.0]], Some(&quantization)),
            of("single", &[[0.0, 8.0]], Some(&quantization)),
        ];
        let found = unstable(&values);
        assert_eq!(found.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["wild", "calm"]);
        assert_eq!((found[0].halves, found[0].difference), ([[0.0, 8.0], [-2.0, 3.0]], 0.5));
    }

    #[test]
    fn what_lies_beyond_the_range_is_counted() {
        let numbers: Vec<f32> = (0..1000).map(|i| i as f32 * 0.01).collect();
        let quantization = QuantParams::per_tensor(StorageType::I8, 8.0 / 255.0, -128);
        let seen = value("v".into(), &Stats::of(&numbers), Some(&quantization));
        assert_eq!((seen.min, seen.max, seen.typical), (0.0, 9.99, [0.0, f64::from(9.99_f32)]));
        assert_eq!((seen.counts.len(), seen.counts.iter().sum::<u64>()), (BARS, 1000));
        assert!((0.19..0.21).contains(&seen.clipped), "{}", seen.clipped);
        let range = seen.quantization.unwrap();
        assert!(range.low == 0.0 && (range.high - 8.0).abs() < 1e-5, "{range:?}");
        // Float values are not clipped, and all bins of a constant value have width 0.
        assert_eq!(value("v".into(), &Stats::of(&numbers), None).clipped, 0.0);
        assert_eq!(value("v".into(), &Stats::of(&[3.0; 4]), None).counts.iter().sum::<u64>(), 4);
    }
}

//! How a quantized graph compares with the float graph it was made from, for the report.

use std::collections::BTreeSet;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, Tensor, ValueId};
use qcc_passes::fidelity::{self, Distance, Fidelity};
use serde::Serialize;

use crate::data::Samples;

/// Samples that one graph is compared on, or several share.
const SAMPLES: usize = 2;

/// Layers that are named.
const WORST: usize = 5;

/// What quantization did to a graph.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// Samples it was measured on.
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
    /// Each output.
    pub outputs: Vec<Deviation>,
    /// The layers that differ most from the float graph's, worst first.
    pub worst: Vec<Deviation>,
}

/// How far a value is from the float graph's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deviation {
    /// The output, or the layer in the source model.
    pub name: String,
    /// Signal to quantization noise ratio in dB. Infinite where nothing differs, minus infinite where values are not
    /// finite; JSON has `null` for both.
    pub sqnr: f64,
    /// Cosine of the angle between the two.
    pub cosine: f64,
    /// The largest absolute difference.
    pub max_error: f32,
}

impl Deviation {
    pub(crate) fn of((name, d): (String, Distance)) -> Self {
        let sqnr = if d.sqnr().is_nan() { f64::NEG_INFINITY } else { d.sqnr() };
        Deviation { name, sqnr, cosine: d.cosine(), max_error: d.max_error }
    }
}

/// An output that keeps less of what the float graph gives is of little use, in dB.
const USEFUL: f64 = 10.0;

/// What to say of outputs that keep too little of what `float` gives. An output behind a choice of the largest numbers is
/// passed over: choices that differ among near equals change it beyond measure.
pub(crate) fn warning(quality: &Quality, float: &Graph, target: &Target) -> Option<Diagnostic> {
    let poor: Vec<String> = quality
        .outputs
        .iter()
        .zip(float.outputs())
        .filter(|(d, o)| d.sqnr < USEFUL && !chosen(float, o.value))
        .map(|(d, _)| format!("{} at {:.1} dB", d.name, d.sqnr))
        .collect();
    let message = format!("the {} model is far from the float one on the data: {}", target.name, poor.join(", "));
    let help = "give more typical samples, check --preprocess, keep the worst layers in floating point with --exclude, or \
        take --w8a32";
    (!poor.is_empty()).then(|| Diagnostic::warning("low-sqnr", message).with_help(help))
}

/// True where a value depends on a choice of the largest numbers.
fn chosen(g: &Graph, v: ValueId) -> bool {
    let (mut seen, mut stack) = (BTreeSet::new(), vec![v.node]);
    while let Some(n) = stack.pop() {
        if matches!(g.op(n), Op::TopK(_) | Op::ArgReduce(_)) {
            return true;
        }
        stack.extend(g.operands(n).iter().map(|v| v.node).filter(|&n| seen.insert(n)));
    }
    false
}

/// The first samples that can be read, for the comparison of so many graphs.
pub(crate) fn readable(samples: &Samples, graphs: usize) -> Vec<Vec<Tensor>> {
    samples.iter().filter_map(Result::ok).take((SAMPLES / graphs.max(1)).max(1)).collect()
}

/// What there is to report of a compiled graph.
pub(crate) fn measured(Fidelity { outputs, layers, samples }: Fidelity, quantized: &Graph, target: &Target) -> Quality {
    let mut worst: Vec<Deviation> = layers.into_iter().map(Deviation::of).collect();
    worst.sort_by(|a, b| a.sqnr.total_cmp(&b.sqnr));
    worst.truncate(WORST);
    let name = |n| match quantized.origin(n).path() {
        "" => quantized.op(n).kind().name().to_owned(),
        path => format!("{path} ({})", quantized.op(n).kind().name()),
    };
    let work = fidelity::work(quantized, target);
    Quality {
        samples,
        integer_share: work.integer_share(),
        weights_share: work.weights_share(),
        run_time_share: work.run_time_share(),
        float_nodes: fidelity::float_islands(quantized).into_iter().map(name).collect(),
        outputs: outputs.into_iter().map(Deviation::of).collect(),
        worst,
    }
}

#[cfg(test)]
mod tests {
    use qcc_ir::text::{Weights, parse};

    use super::*;

    fn warned(body: &str, sqnr: f64) -> Option<String> {
        let text = format!("graph g {{ %x: f32[1,8] = input {body} output y = %y }}");
        let float = parse(&text, &Weights::new()).unwrap();
        let y = Deviation { name: "y".into(), sqnr, cosine: 0.0, max_error: 0.0 };
        let quality = Quality {
            samples: 1,
            integer_share: 1.0,
            run_time_share: 0.0,
            weights_share: 0.0,
            float_nodes: Vec::new(),
            outputs: vec![y],
            worst: Vec::new(),
        };
        warning(&quality, &float, qcc_backends::Backend::Tflite.target()).map(|d| d.message)
    }

    #[test]
    fn poor_outputs_are_named_unless_they_are_chosen() {
        let said = warned("%y = unary(f:Exp) %x", 3.0).unwrap();
        assert_eq!(said, "the tflite model is far from the float one on the data: y at 3.0 dB");
        assert!(warned("%y = unary(f:Exp) %x", f64::NEG_INFINITY).is_some());
        assert!(warned("%y = unary(f:Exp) %x", 30.0).is_none());
        assert!(warned("%v, %i = top_k(axis:1,k:2,largest:true,sorted:true) %x %y = unary(f:Exp) %v", 3.0).is_none());
    }
}

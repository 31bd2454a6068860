//! How a quantized graph compares with the float graph it was made from, for the report.

use qcc_ir::eval::RunError;
use qcc_ir::target::Target;
use qcc_ir::{Graph, Tensor, ValueId};
use qcc_passes::fidelity::{self, Distance, Fidelity, Truth};
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

/// The first samples that can be read, for the comparison of so many graphs.
pub(crate) fn readable(samples: &Samples, graphs: usize) -> Vec<Vec<Tensor>> {
    samples.iter().filter_map(Result::ok).take((SAMPLES / graphs.max(1)).max(1)).collect()
}

/// Compares what float graph `i` of `truth` became. `values` pairs values of the two.
pub(crate) fn measure(
    truth: &Truth<'_>,
    i: usize,
    float: &Graph,
    quantized: &Graph,
    values: &[(ValueId, ValueId)],
    target: &Target,
) -> Result<Quality, RunError> {
    let Fidelity { outputs, layers, samples } = truth.compare(i, float, quantized, values)?;
    let mut worst: Vec<Deviation> = layers.into_iter().map(Deviation::of).collect();
    worst.sort_by(|a, b| a.sqnr.total_cmp(&b.sqnr));
    worst.truncate(WORST);
    let name = |n| match quantized.origin(n).path() {
        "" => quantized.op(n).kind().name().to_owned(),
        path => format!("{path} ({})", quantized.op(n).kind().name()),
    };
    let work = fidelity::work(quantized, target);
    Ok(Quality {
        samples,
        integer_share: work.integer_share(),
        weights_share: work.weights_share(),
        run_time_share: work.run_time_share(),
        float_nodes: fidelity::float_islands(quantized).into_iter().map(name).collect(),
        outputs: outputs.into_iter().map(Deviation::of).collect(),
        worst,
    })
}

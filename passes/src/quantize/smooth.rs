//! Scales of channels that make activations and weights lose less together.
//!
//! One channel with large numbers widens the range of an activation, and all other channels lose resolution. Each channel is
//! divided by a scale, and the weights that read it are multiplied by that scale: as in cross-layer equalization
//! (Nagel et al., 2019) where a weight or a bias takes the division, and as in SmoothQuant (Xiao et al., 2023) where a
//! normalization does or a node of its own. How far the ranges of an activation and a weight are made alike is chosen for each
//! activation by the error that is expected of the products that read it.

use qcc_ir::error::TypeError;
use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, ValueId};

use crate::axes::{is_depthwise, output_axis, weight_axis};
use crate::calibrate::{CalibrationTable, Range, Spread};
use crate::scaling::Scalable;

/// The shares of the magnitudes of the activation that are moved to the weights. With the rest of the share the magnitudes of
/// weights are moved to the activation.
const SHARES: [f32; 6] = [0.25, 0.4, 0.55, 0.7, 0.85, 1.0];

/// The largest ratio of a scale to the median of all, and the largest ratio of the median to a scale. Channels that are small
/// in calibration may be larger in other samples, which would be clipped.
const MOST: f64 = 256.0;
const MOST_BELOW: f64 = 2.0;

/// The gain in dB of the products that an activation must have, and one that takes a node of its own.
const GAIN: f64 = 0.3;
const GAIN_OF_NODE: f64 = 1.0;

/// A graph with scaled channels, and its calibration table.
pub(super) struct Smoothed {
    pub(super) graph: Graph,
    pub(super) ranges: CalibrationTable,
    /// Values of the graph before, each with the one that is divided by scales.
    pub(super) divided: Vec<(ValueId, ValueId)>,
}

/// The graph `g` with scaled channels where the products that read them lose less for it; `None` if there are none. Only the
/// activations of nodes that are `quantized` are scaled. `one_scale` tells which
/// weights must have one scale for all outputs.
pub(super) fn smoothed(
    g: &Graph,
    ranges: &CalibrationTable,
    quantized: &dyn Fn(NodeId) -> bool,
    one_scale: &dyn Fn(NodeId) -> bool,
) -> Result<Option<Smoothed>, TypeError> {
    let mut all = Vec::new();
    for scalable in Scalable::all(g) {
        if scalable.products.iter().all(|&n| quantized(n)) && !scalable.contractions(g).any(one_scale) {
            all.extend(scales(g, ranges, &scalable).map(|scales| (scalable, scales)));
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    let mut smoothed = Smoothed { graph: g.clone(), ranges: ranges.clone(), divided: Vec::new() };
    let Smoothed { graph, ranges: table, divided } = &mut smoothed;
    for (scalable, scales) in all {
        let inverse = inverse(&scales);
        let pairs = scalable.apply(graph, &scales)?;
        pairs.iter().rev().for_each(|&pair| table.add_scaled(graph, pair, scalable.axis, &inverse));
        divided.extend(pairs);
    }
    // What only products read that now read something else.
    graph.sweep();
    Ok(Some(smoothed))
}

/// The best scales of the channels of an activation, if they gain enough.
fn scales(g: &Graph, ranges: &CalibrationTable, scalable: &Scalable) -> Option<Vec<f32>> {
    let spread = ranges.spread(scalable.value, scalable.axis).filter(|s| s.channels() == scalable.channels)?;
    let weights: Vec<Weight> = scalable.products.iter().filter_map(|&n| Weight::of(g, n)).collect();
    let mut theirs = vec![0.0f32; scalable.channels];
    for weight in &weights {
        theirs.iter_mut().zip(weight.magnitudes()).for_each(|(most, own)| *most = most.max(own));
    }
    let halves = [spread.half(false)?, spread.half(true)?];
    // The noise on each half of the samples, with scales and ranges of the other half.
    let expected = |scales: &dyn Fn(&Spread) -> Vec<f32>| -> Option<f64> {
        let of = |seen: &Spread, unseen: &Spread| {
            let scales = scales(seen);
            let range = ranges.range_of_scaled(seen, &inverse(&scales))?;
            Some(noise(&weights, unseen, &scales, range))
        };
        Some(of(&halves[0], &halves[1])? + of(&halves[1], &halves[0])?)
    };
    let unscaled = expected(&|_| vec![1.0; scalable.channels])?;
    let mut best = (unscaled, None);
    for share in SHARES {
        let noise = expected(&|seen| between(&seen.magnitudes(), &theirs, share))?;
        if noise < best.0 {
            best = (noise, Some(share));
        }
    }
    let least = if scalable.adds_nodes() { GAIN_OF_NODE } else { GAIN };
    let gain = 10.0 * libm::log10(unscaled / best.0.max(f64::MIN_POSITIVE));
    let share = best.1.filter(|_| gain >= least)?;
    Some(between(&spread.magnitudes(), &theirs, share))
}

fn inverse(scales: &[f32]) -> Vec<f32> {
    scales.iter().map(|s| 1.0 / s).collect()
}

/// Scales with a median of 1 that divide magnitudes of activations by their power `share`, and weights by the power of the rest.
/// Channels that are 0 are not scaled.
fn between(own: &[f32], theirs: &[f32], share: f32) -> Vec<f32> {
    let (share, rest) = (f64::from(share), 1.0 - f64::from(share));
    let logs: Vec<Option<f64>> = own
        .iter()
        .zip(theirs)
        .map(|(&x, &w)| {
            let fits = x.is_normal() && w.is_normal();
            fits.then(|| share * libm::log(f64::from(x)) - rest * libm::log(f64::from(w)))
        })
        .collect();
    let mut known: Vec<f64> = logs.iter().flatten().copied().collect();
    known.sort_unstable_by(f64::total_cmp);
    let median = known.get(known.len() / 2).copied().unwrap_or(0.0);
    let scale = |log: f64| libm::exp((log - median).clamp(-libm::log(MOST_BELOW), libm::log(MOST))) as f32;
    logs.into_iter().map(|log| log.map_or(1.0, scale)).collect()
}

/// A weight as a matrix: outputs by inputs, where each input has as many numbers as the window has taps.
struct Weight {
    /// The largest magnitude for each output and input, output by output; only the own input for depthwise convolutions.
    largest: Vec<f32>,
    /// The sums of the squares for each input.
    energy: Vec<f64>,
    inputs: usize,
    taps: usize,
    depthwise: bool,
}

impl Weight {
    fn of(g: &Graph, n: NodeId) -> Option<Self> {
        let (op, w) = (g.op(n), g.constant(g.operand(n, 1))?);
        let depthwise = matches!(op, Op::Conv(c) if is_depthwise(c, w));
        let (input, output) = (weight_axis(op, w), output_axis(op, w));
        let dims = w.dims();
        let (inputs, outputs) = (dims[input], if depthwise { 1 } else { dims[output] });
        let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>().max(1);
        let (by_input, by_output) = (stride(input), stride(output));
        let (mut largest, mut energy) = (vec![0.0f32; inputs * outputs], vec![0.0f64; inputs]);
        for (i, x) in w.floats().iter().enumerate() {
            let (k, o) = (i / by_input % inputs, i / by_output % outputs);
            let most = &mut largest[o * inputs + k];
            *most = most.max(x.abs());
            energy[k] += f64::from(x * x);
        }
        let taps = w.len() / (inputs * outputs).max(1);
        Some(Weight { largest, energy, inputs, taps, depthwise })
    }

    /// The largest magnitude of each input. How large those of a depthwise convolution are does not count: each output has its
    /// own scale.
    fn magnitudes(&self) -> Vec<f32> {
        let mut all = vec![0.0f32; self.inputs];
        if self.depthwise {
            return vec![f32::MIN_POSITIVE; self.inputs];
        }
        for row in self.largest.chunks_exact(self.inputs) {
            all.iter_mut().zip(row).for_each(|(most, x)| *most = most.max(*x));
        }
        all
    }

    /// The error that rounding the activation and the scaled weight causes, as a share of the energy of the products.
    /// `errors` and `squares` are those of the unscaled activation.
    fn noise(&self, scales: &[f32], errors: &[f64], squares: &[f64]) -> f64 {
        let sum = |of: &[f64]| of.iter().zip(&self.energy).map(|(x, w)| x * w).sum::<f64>();
        // A step of the weight is 1/127 of its largest magnitude, and rounding errors are uniform within a step.
        let variance = |largest: f32| f64::from(largest) * f64::from(largest) / (127.0 * 127.0 * 12.0);
        let taps = self.taps as f64;
        let of_weights = match self.depthwise {
            true => self.largest.iter().zip(squares).map(|(&w, x)| variance(w) * x * taps).sum::<f64>(),
            false => {
                let scaled = |row: &[f32]| row.iter().zip(scales).map(|(w, s)| w * s).fold(0.0, f32::max);
                let steps: f64 = self.largest.chunks_exact(self.inputs).map(|row| variance(scaled(row))).sum();
                let squares = squares.iter().zip(scales).map(|(x, &s)| x / (f64::from(s) * f64::from(s)));
                steps * taps * squares.sum::<f64>()
            }
        };
        (sum(errors) + of_weights) / sum(squares).max(f64::MIN_POSITIVE)
    }
}

/// The sum over the weights of the errors of their products, where the activation divided by `scales` has this range.
fn noise(weights: &[Weight], spread: &Spread, scales: &[f32], range: Range) -> f64 {
    const STEPS: f32 = 255.0;
    let step = range.span() / STEPS;
    if step <= 0.0 {
        return f64::INFINITY;
    }
    let error = |i: usize, x: f32| {
        let s = scales[i];
        let scaled = x / s;
        let clipped = scaled.clamp(range.lo, range.hi);
        // The error of rounding is the mean over the numbers of a bin, which are not known apart.
        let error = (scaled - clipped).abs() + if clipped == scaled { step / 12f32.sqrt() } else { 0.0 };
        (error * s) * (error * s)
    };
    let errors = spread.means(error);
    let squares = spread.means(|_, x| x * x);
    weights.iter().map(|weight| weight.noise(scales, &errors, &squares)).sum()
}

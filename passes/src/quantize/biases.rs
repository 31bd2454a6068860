//! Biases that make up for the shifts of means that quantization causes, measured on samples.
//!
//! Layers are corrected in order, each with what the corrected layers before it give: the empirical correction of Nagel et al.
//! (2019, section 4.2) and Finkelstein et al. (2019). A shift that only one half of the samples has is left.

use qcc_ir::error::EvalError;
use qcc_ir::eval::{Executor, RunError, evaluate_node};
use qcc_ir::ops::{Op, Tensors};
use qcc_ir::{Elem, Graph, NodeId, Shape, StorageType, Symbols, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::Quantized;
use crate::quality::as_inputs;

/// The fewest samples that tell a shift.
const FEWEST: usize = 4;

/// The values of a graph on one sample that are still read.
type Values = FxHashMap<ValueId, Tensor>;

/// The graph of `quantized` with biases that give the channels of its contractions the means that they have in the float graph
/// `g`, on samples of the extents `symbols`; `None` if that changes no bias.
///
/// # Errors
/// If a graph cannot be evaluated on a sample.
pub fn with_measured_biases(
    g: &Graph,
    quantized: &Quantized,
    symbols: &Symbols,
    samples: &[Vec<Tensor>],
) -> Result<Option<Graph>, RunError> {
    let twins: FxHashMap<NodeId, ValueId> = quantized.values.iter().map(|(v, twin)| (twin.node, *v)).collect();
    let bound = quantized.graph.bound(symbols);
    let layers: FxHashMap<NodeId, Layer> =
        bound.order().into_iter().filter_map(|n| Some((n, Layer::of(&bound, n, *twins.get(&n)?)?))).collect();
    if layers.is_empty() || samples.len() < FEWEST {
        return Ok(None);
    }
    let exact = samples.par_iter().map(|sample| means_of_floats(g, sample, &layers)).collect::<Result<Vec<_>, _>>()?;
    let inputs = |sample: &Vec<Tensor>| bound.inputs().zip(as_inputs(&bound, sample)).collect::<Values>();
    let mut values: Vec<Values> = samples.par_iter().map(inputs).collect();
    let order = bound.order();
    let last: FxHashMap<ValueId, usize> =
        order.iter().enumerate().flat_map(|(i, &n)| bound.operands(n).into_iter().map(move |v| (v, i))).collect();
    let (mut corrected, mut changed) = (quantized.graph.clone(), false);
    for (i, &n) in order.iter().enumerate() {
        if matches!(bound.op(n), Op::Input(_) | Op::Const(_)) {
            continue;
        }
        let mut results = evaluated(&bound, n, &values, None)?;
        if let Some(layer) = layers.get(&n) {
            let found: Vec<Vec<f64>> = results.iter().map(|r| layer.means(&r[0])).collect();
            let shifts: Option<Vec<Vec<f64>>> =
                exact.iter().zip(&found).map(|(exact, found)| Some(differences(exact.get(&n)?, found))).collect();
            if let Some(bias) = shifts.and_then(|shifts| common(&shifts)).and_then(|shift| layer.moved(&shift)) {
                results = evaluated(&bound, n, &values, Some(&bias))?;
                let v = corrected.add_const(bias, corrected.origin(n).clone());
                corrected.set_operand(n, 2, v);
                changed = true;
            }
        }
        for (of_sample, results) in values.iter_mut().zip(results) {
            of_sample.extend(bound.results(n).zip(results));
            of_sample.retain(|v, _| last.get(v).is_some_and(|&last| last > i));
        }
    }
    corrected.sweep();
    Ok(changed.then_some(corrected))
}

/// The results of a node for each sample, with another third operand if that is given.
fn evaluated(g: &Graph, n: NodeId, values: &[Values], bias: Option<&Tensor>) -> Result<Vec<Tensors>, RunError> {
    let failed = |error| RunError { node: g.origin(n).path().to_owned(), error };
    let one = |values: &Values| {
        let operands = g.operands(n);
        let operand = |(i, v): (usize, &ValueId)| match bias.filter(|_| i == 2) {
            Some(bias) => Some(bias),
            None => g.constant(*v).or_else(|| values.get(v)),
        };
        let operands: Option<Vec<&Tensor>> = operands.iter().enumerate().map(operand).collect();
        let operands = operands.ok_or(EvalError::Unknown("an operand")).map_err(failed)?;
        evaluate_node(g.op(n), &operands, &g.result_types(n)).map_err(failed)
    };
    values.par_iter().map(one).collect()
}

/// A contraction with a constant bias.
struct Layer {
    /// Its result in the float graph.
    value: ValueId,
    bias: Tensor,
    /// The axis of its outputs, and their number.
    axis: usize,
    channels: usize,
    /// The range of its result, beyond which nothing can be made up for.
    range: [f32; 2],
}

impl Layer {
    fn of(g: &Graph, n: NodeId, value: ValueId) -> Option<Self> {
        let bias = g.operands(n).get(2).and_then(|&b| g.constant(b))?.clone();
        let (ty, channels) = (g.ty(n.value(0)), bias.len());
        let axis = match g.op(n) {
            Op::Conv(_) => 1,
            Op::MatMul(_) => ty.rank().checked_sub(1)?,
            _ => return None,
        };
        let range = match &ty.elem {
            Elem::Quantized(qparams) => {
                let ((scale, zero), (lo, hi)) = (qparams.tensor_map()?, qparams.storage.range());
                [lo, hi].map(|end| (end - zero) as f32 * scale)
            }
            _ => [f32::NEG_INFINITY, f32::INFINITY],
        };
        let fits = ty.shape.dims().get(axis)?.known() == Some(channels) && bias.ty().rank() == 1;
        fits.then_some(Layer { value, bias, axis, channels, range })
    }

    /// The mean of each channel of a result within the range.
    fn means(&self, result: &Tensor) -> Vec<f64> {
        let (dims, [lo, hi], mut sums) = (result.dims(), self.range, vec![0.0; self.channels]);
        let run = dims[self.axis + 1..].iter().product::<usize>().max(1);
        for (i, numbers) in result.floats().chunks(run).enumerate() {
            sums[i % self.channels] += numbers.iter().map(|x| f64::from(x.clamp(lo, hi))).sum::<f64>();
        }
        let count = (result.len() / self.channels).max(1) as f64;
        sums.into_iter().map(|sum| sum / count).collect()
    }

    /// The bias with each channel moved by so much; `None` if no number changes.
    fn moved(&self, shift: &[f64]) -> Option<Tensor> {
        let exact: Vec<f32> = self.bias.floats().iter().zip(shift).map(|(b, s)| (f64::from(*b) + s) as f32).collect();
        let moved = Tensor::from_vec(Shape::known(&[self.channels]), exact);
        let stored = match &self.bias.ty().elem {
            Elem::Quantized(qparams) if qparams.storage == StorageType::I32 => moved.quantized(qparams),
            Elem::F32 => moved,
            _ => return None,
        };
        (stored.floats() != self.bias.floats()).then_some(stored)
    }
}

/// The means of the channels of the float results of all layers, by the layers' nodes.
fn means_of_floats(
    g: &Graph,
    sample: &[Tensor],
    layers: &FxHashMap<NodeId, Layer>,
) -> Result<FxHashMap<NodeId, Vec<f64>>, RunError> {
    let wanted: FxHashMap<ValueId, NodeId> = layers.iter().map(|(n, layer)| (layer.value, *n)).collect();
    let mut means = FxHashMap::default();
    let observed: Vec<ValueId> = layers.values().map(|layer| layer.value).collect();
    Executor::only(g, &observed).run(&as_inputs(g, sample), &mut |v, result| {
        if let Some(n) = wanted.get(&v) {
            means.insert(*n, layers[n].means(result));
        }
    })?;
    Ok(means)
}

fn differences(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// The mean shift of each channel over all samples, if that of either half of the samples lowers the shift of the other.
fn common(shifts: &[Vec<f64>]) -> Option<Vec<f64>> {
    let mean = |of: &[Vec<f64>]| -> Vec<f64> {
        let channels = of.first().map_or(0, Vec::len);
        (0..channels).map(|c| of.iter().map(|s| s[c]).sum::<f64>() / of.len() as f64).collect()
    };
    let (first, second) = shifts.split_at(shifts.len() / 2);
    let (a, b) = (mean(first), mean(second));
    let lowers = |by: &[f64], of: &[f64]| by.iter().zip(of).map(|(b, o)| o * o - (o - b) * (o - b)).sum::<f64>() > 0.0;
    (lowers(&a, &b) && lowers(&b, &a)).then(|| mean(shifts))
}

#[cfg(test)]
mod tests {
    use qcc_ir::testing::numbers;

    use super::super::Options;
    use super::super::tests::{graph, quantized_graph};
    use super::*;

    /// The mean error of the output.
    fn shift(g: &Graph, q: &Graph, samples: &[Vec<Tensor>]) -> f64 {
        let run = |g: &Graph, s: &[Tensor]| {
            let outputs = Executor::new(g).run(&as_inputs(g, s), &mut |_, _| {}).unwrap();
            outputs[0].floats().iter().map(|x| f64::from(*x)).sum::<f64>() / outputs[0].len() as f64
        };
        samples.iter().map(|s| run(g, s) - run(q, s)).sum::<f64>() / samples.len() as f64
    }

    /// What rounding shifts is made up for on other samples too; a shift that differs between the halves is not.
    #[test]
    fn common_shifts_are_corrected() {
        let g = graph(
            "%w: f32[3,2,1,1] = const [0.5,-0.26,1,0.12,-0.7,0.33]  %b: f32[3] = const [0.1,0.2,-0.1]
            %u: f32[1,3,1,1] = const [1,-0.9,0.4]  %c: f32[1] = const [0.05]
            %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w, %b from first (Conv)
            %1 = unary(f:Sigmoid) %0 from gate (Sigmoid)
            %2 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %1, %u, %c from last (Conv)
            output y = %2",
        );
        let mut q = quantized_graph(&g, &Options::default());
        // A bias that is wrong by far.
        let last = q.graph.order().into_iter().rfind(|&n| q.graph.op(n).is_contraction()).unwrap();
        let bias = q.graph.constant(q.graph.operand(last, 2)).unwrap().clone();
        let wrong = bias.floats().iter().map(|b| b + 0.3).collect();
        let wrong = Tensor::from_vec(Shape::known(&[1]), wrong);
        let wrong = match &bias.ty().elem {
            Elem::Quantized(qparams) => wrong.quantized(qparams),
            _ => wrong,
        };
        let v = q.graph.add_const(wrong, q.graph.origin(last).clone());
        q.graph.set_operand(last, 2, v);
        let samples = |from: u64| -> Vec<Vec<Tensor>> {
            (from..from + 8).map(|seed| vec![numbers(Shape::known(&[1, 2, 4, 4]), seed)]).collect()
        };
        let corrected = with_measured_biases(&g, &q, &Symbols::default(), &samples(0)).unwrap().unwrap();
        corrected.verify().unwrap();
        let (before, after) = (shift(&g, &q.graph, &samples(20)), shift(&g, &corrected, &samples(20)));
        assert!(before.abs() > 0.1 && after.abs() < 0.1 * before.abs(), "{before} {after}");
        assert!(with_measured_biases(&g, &q, &Symbols::default(), &samples(0)[..3]).unwrap().is_none());
    }

    #[test]
    fn halves_must_agree() {
        let same: Vec<Vec<f64>> = (0..4).map(|i| vec![0.2, 0.1 * f64::from(i)]).collect();
        assert_eq!(common(&same).unwrap()[0], 0.2);
        assert_eq!(common(&[vec![0.2], vec![0.2], vec![-0.1], vec![-0.2]]), None);
    }
}

//! Temporaries of LiteRT's reference kernels, which lie in its arena. Those on the heap (the sums of quantized
//! transposed convolutions) are not counted.

use qcc_formats::tflite::{BuiltinOperator as B, Model, Operator, Options, SubGraph, Tensor, TensorType as Stored};

use super::tensors::{bytes, elements, is_constant, tensor};

/// A temporary of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Temporary {
    pub(super) bytes: u64,
    /// Kept from run to run.
    pub(super) persistent: bool,
}

/// The temporaries of an operator, for the shapes in the file.
pub(super) fn temporaries(model: &Model, graph: &SubGraph, code: B, op: &Operator) -> Vec<Temporary> {
    let operand = |i: usize| op.inputs.get(i).and_then(|&i| tensor(graph, i));
    let (Some(data), results) = (operand(0), op.outputs.first().and_then(|&i| tensor(graph, i)).map_or(0, elements))
    else {
        return Vec::new();
    };
    let weights = operand(1);
    let hybrid = |w: &&Tensor| data.elem == Stored::FLOAT32 && is_small(w.elem);
    match code {
        B::BATCH_MATMUL => weights.map_or_else(Vec::new, |w| batch_matmul(data, w, results, is_constant(model, w))),
        B::FULLY_CONNECTED => weights.filter(hybrid).map_or_else(Vec::new, |w| {
            let units = dim(w, 0);
            let rows = elements(data) / dim(w, 1).max(1);
            [quantized(data, rows), vec![arena(4 * units * rows), kept(4 * units)]].concat()
        }),
        B::CONV_2D => weights.filter(hybrid).map_or_else(Vec::new, |w| convolution(data, w, results, op)),
        B::DEPTHWISE_CONV_2D => weights.filter(hybrid).map_or_else(Vec::new, |_| quantized(data, dim(data, 0))),
        B::TRANSPOSE_CONV => transposed(operand(2), weights),
        B::MEAN | B::SUM => [reduction(data, weights), vec![arena(results * accumulator(data))]].concat(),
        B::REDUCE_MAX | B::REDUCE_MIN | B::REDUCE_ANY | B::REDUCE_ALL | B::REDUCE_PROD => reduction(data, weights),
        B::UNIDIRECTIONAL_SEQUENCE_LSTM => lstm(data, &operand, op),
        B::UNIDIRECTIONAL_SEQUENCE_RNN => weights.filter(hybrid).map_or_else(Vec::new, |w| {
            let (state, units) = (operand(4).map_or(0, elements), dim(w, 0));
            let batch = state / units.max(1);
            [quantized(data, batch), vec![arena(state), arena(4 * state), kept(8 * units)]].concat()
        }),
        _ => Vec::new(),
    }
}

fn arena(bytes: u64) -> Temporary {
    Temporary { bytes, persistent: false }
}

fn kept(bytes: u64) -> Temporary {
    Temporary { bytes, persistent: true }
}

fn dim(t: &Tensor, axis: usize) -> u64 {
    t.shape.get(axis).map_or(0, |&n| u64::try_from(n).unwrap_or(0))
}

/// True for weights whose kernels quantize floating-point activations.
fn is_small(elem: Stored) -> bool {
    matches!(elem, Stored::INT8 | Stored::UINT8 | Stored::INT4 | Stored::INT2)
}

/// Activations that are quantized to 8 bits, with a scale and a zero point for each of `rows`.
fn quantized(data: &Tensor, rows: u64) -> Vec<Temporary> {
    vec![arena(elements(data)), arena(4 * rows), arena(4 * rows)]
}

/// Copies of both operands for their transposes; that of a constant is kept.
fn batch_matmul(left: &Tensor, right: &Tensor, results: u64, constant: bool) -> Vec<Temporary> {
    let copy = Temporary { bytes: bytes(right), persistent: constant };
    let mut all = vec![arena(bytes(left)), copy];
    if left.elem == Stored::FLOAT32 && is_small(right.elem) {
        let depth = left.shape.len();
        let matrices = |t: &Tensor| -> u64 { (0..t.shape.len().saturating_sub(2)).map(|axis| dim(t, axis)).product() };
        // Rows of one matrix are those of the result.
        let (each, rows) = (results / matrices(left).max(1), dim(left, depth.saturating_sub(2)));
        let units = each / rows.max(1);
        all.extend(quantized(left, matrices(left) * rows));
        all.extend([arena(4 * each), kept(4 * matrices(right) * units)]);
    }
    all
}

/// Patches, quantized activations, and sums.
fn convolution(data: &Tensor, weights: &Tensor, results: u64, op: &Operator) -> Vec<Temporary> {
    let (units, depth) = (dim(weights, 0).max(1), dim(weights, 3).max(1));
    let groups = dim(data, 3) / depth;
    let unit = |o: &qcc_formats::tflite::Conv2D| [o.stride_w, o.stride_h, o.dilation_w, o.dilation_h] == [1; 4];
    let pointwise = dim(weights, 1) * dim(weights, 2) == 1 && matches!(&op.options, Options::Conv2D(o) if unit(o));
    let patches = if pointwise { 0 } else { results / units * (elements(weights) / units) };
    let rows = dim(data, 0) * dim(data, 1) * dim(data, 2) * groups;
    [quantized(data, rows), vec![arena(patches), arena(4 * results), kept(4 * units)]].concat()
}

/// Of activations and weights of a transposed convolution.
fn transposed(data: Option<&Tensor>, weights: Option<&Tensor>) -> Vec<Temporary> {
    match (data, weights) {
        (Some(data), Some(w)) if data.elem == Stored::FLOAT32 && w.elem == Stored::INT8 => {
            quantized(data, elements(data) / dim(w, 3).max(1))
        }
        _ => Vec::new(),
    }
}

/// An index and the axes.
fn reduction(data: &Tensor, axes: Option<&Tensor>) -> Vec<Temporary> {
    vec![arena(4 * data.shape.len() as u64), arena(4 * axes.map_or(1, elements))]
}

/// Bytes of the sum of elements.
fn accumulator(data: &Tensor) -> u64 {
    if matches!(data.elem, Stored::INT32 | Stored::INT64) { 8 } else { 4 }
}

/// Gates, and for small weights the quantized states.
fn lstm<'g>(data: &Tensor, operand: &dyn Fn(usize) -> Option<&'g Tensor>, op: &Operator) -> Vec<Temporary> {
    // The weights of the output gate, and the states.
    let (Some(weights), Some(hidden), Some(cell)) = (operand(4), operand(18), operand(19)) else { return Vec::new() };
    let units = dim(weights, 0);
    let batch = elements(cell) / units.max(1);
    let gates = if op.inputs.get(1).is_none_or(|&i| i < 0) { 3 } else { 4 };
    if data.elem != Stored::FLOAT32 {
        let each = |size: u64| arena(size * batch * units);
        return vec![each(2), each(2), each(2), each(2), each(1), each(4)];
    }
    let mut all = vec![arena(4 * batch * ((gates + 1) * units + 16))];
    if is_small(weights.elem) {
        all.extend([arena(elements(data)), arena(elements(hidden)), arena(elements(cell)), arena(4 * units)]);
        // Scales of activations, states and products, zero points of activations and states.
        all.extend([arena(4 * batch); 5]);
        all.extend([arena(4 * units * batch), kept(4 * 2 * gates * units)]);
    }
    all
}

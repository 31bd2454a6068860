//! The tensor arena of TensorFlow Lite for Microcontrollers (`micro_allocator.cc` of github.com/tensorflow/tflite-micro
//! at 90b983c): values and scratch buffers at its head, as the greedy planner places them; structs and the data of
//! kernels at its tail. Sizes are those of 64-bit processors; structs of 32-bit ones are smaller.

use qcc_formats::tflite::{BuiltinOperator as B, Model, Operator, Options, SubGraph, Tensor, TensorType as Stored};

use crate::plan::{ALIGNMENT, Buffer, planned};
use crate::tflite::tensors::{bytes, elements, operators, tensor};

/// Objects of the allocator and the interpreter.
const FIXED: u64 = 528;

/// `sizeof` of `TfLiteEvalTensor`, of `NodeAndRegistration`, of `TfLiteTensor`, and of the quantization parameters of
/// an input or output.
const EVAL_TENSOR: u64 = 24;
const NODE: u64 = 64;
const TENSOR: u64 = 64;
const QUANTIZATION: u64 = 48;

/// `sizeof` of `AllocationInfo`, of the planner's data for a buffer (`GreedyMemoryPlanner::per_buffer_size`), and of
/// requests for scratch buffers: temporary while kernels are prepared and memory is planned.
const ALLOCATION: u64 = 32;
const PLANNED: u64 = 44;
const REQUESTS: u64 = 64;

/// Bytes that suffice for the arena.
pub(super) fn length(model: &Model) -> u64 {
    let Some(graph) = model.subgraphs.first() else { return FIXED };
    let operators = operators(model, graph);
    let ports = || graph.inputs.iter().chain(&graph.outputs).filter_map(|&i| tensor(graph, i));
    let tail = FIXED
        + EVAL_TENSOR * graph.tensors.len() as u64
        + operators.iter().map(|&(code, op)| NODE + persistent(graph, code, op)).sum::<u64>()
        + ports().map(|t| TENSOR + if t.quantization.is_some() { QUANTIZATION } else { 0 }).sum::<u64>();
    let buffers = buffers(graph, &operators);
    let scratches = operators.iter().map(|&(code, op)| scratch(graph, code, op).len()).sum::<usize>();
    let plan = (graph.tensors.len() + scratches) as u64 * ALLOCATION + buffers.len() as u64 * PLANNED;
    let tensors = |op: &Operator| -> u64 {
        op.inputs.iter().chain(&op.outputs).filter_map(|&i| tensor(graph, i)).map(prepared).sum()
    };
    let prepare = operators.iter().map(|(_, op)| tensors(op)).max().unwrap_or(0);
    let temporary = plan.max(prepare) + REQUESTS;
    // The arena may begin at any address.
    (planned(buffers).max(temporary) + tail + ALIGNMENT).next_multiple_of(ALIGNMENT)
}

/// Bytes of a tensor while its kernel is prepared: the tensor, and its quantization parameters with a copy of the zero
/// points.
fn prepared(t: &Tensor) -> u64 {
    let zero_points = t.quantization.as_ref().map_or(0, |q| 32 + 4 * q.scale.len() as u64);
    TENSOR + zero_points.next_multiple_of(ALIGNMENT)
}

/// Bytes of the data that a kernel keeps: its `OpData`, its options, and multipliers per channel. Found by running
/// models of all operators; no operator needs more.
fn persistent(graph: &SubGraph, code: B, op: &Operator) -> u64 {
    let own = match code {
        // A lookup table.
        B::ELU => 280,
        B::BATCH_MATMUL => 136,
        B::CONV_2D | B::DEPTHWISE_CONV_2D | B::TRANSPOSE_CONV | B::FULLY_CONNECTED | B::STRIDED_SLICE => 120,
        B::CONCATENATION => 104,
        B::MEAN => 88,
        B::ADD | B::SQUARED_DIFFERENCE | B::SOFTMAX | B::LOG_SOFTMAX => 80,
        B::SUB | B::GATHER | B::REDUCE_MAX | B::REDUCE_MIN => 72,
        B::SUM | B::AVERAGE_POOL_2D | B::MAX_POOL_2D | B::PAD => 64,
        B::MUL => 56,
        B::DIV | B::PADV2 | B::RSQRT | B::NOT_EQUAL => 48,
        B::ABS | B::DEPTH_TO_SPACE | B::QUANTIZE | B::LESS_EQUAL | B::EQUAL => 40,
        B::RESHAPE | B::SELECT_V2 | B::MIRROR_PAD | B::SQRT | B::PRELU => 32,
        _ => 24,
    };
    let operand = |i: usize| op.inputs.get(i).and_then(|&i| tensor(graph, i));
    let weight = operand(1);
    // Two arrays of 32-bit integers.
    let multipliers = |channels: u64| 2 * (4 * channels).next_multiple_of(ALIGNMENT);
    let channels = |axis: usize| weight.and_then(|w| w.shape.get(axis)).map_or(0, |&n| u64::try_from(n).unwrap_or(0));
    own + match code {
        B::CONV_2D | B::TRANSPOSE_CONV => multipliers(channels(0)),
        B::DEPTHWISE_CONV_2D => multipliers(channels(3)),
        B::FULLY_CONNECTED => {
            weight.and_then(|w| w.quantization.as_ref()).map_or(0, |q| multipliers(q.scale.len() as u64))
        }
        // A transposed operand (`AllocInitTransposeTensorFromTfLiteTensor`).
        B::BATCH_MATMUL => {
            let copy = |t: Option<&Tensor>| t.map_or(0, |t| bytes(t).next_multiple_of(ALIGNMENT) + EVAL_TENSOR + 32);
            match &op.options {
                Options::BatchMatMul(o) => {
                    let left = if o.adj_x { copy(operand(0)) } else { 0 };
                    left + if o.adj_y { 0 } else { copy(weight) }
                }
                _ => copy(operand(0)) + copy(weight),
            }
        }
        _ => 0,
    }
}

/// Bytes of the scratch buffers of a kernel (`RequestScratchBufferInArena`).
fn scratch(graph: &SubGraph, code: B, op: &Operator) -> Vec<u64> {
    let operand = |i: usize| op.inputs.get(i).and_then(|&i| tensor(graph, i));
    let results = op.outputs.first().and_then(|&i| tensor(graph, i)).map_or(0, elements);
    let is_quantized = |i: usize| operand(i).is_some_and(|t| t.elem == Stored::INT8);
    match code {
        B::MEAN | B::SUM | B::REDUCE_MAX | B::REDUCE_MIN | B::REDUCE_ALL => {
            let sums = matches!(code, B::MEAN | B::SUM) && is_quantized(0);
            let axes = 4 * operand(1).map_or(1, elements);
            let rank = 4 * operand(0).map_or(0, |t| t.shape.len() as u64);
            [rank, axes].into_iter().chain(sums.then_some(4 * results)).collect()
        }
        B::TRANSPOSE_CONV if is_quantized(2) => vec![4 * results],
        _ => Vec::new(),
    }
}

/// The buffers of computed tensors, in their order, and the scratch buffers after them. Inputs are live from the start,
/// outputs until the end.
fn buffers(graph: &SubGraph, operators: &[(B, &Operator)]) -> Vec<Buffer> {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; graph.tensors.len()];
    let mut live = |i: i32, step: usize| {
        if let Some(life) = usize::try_from(i).ok().and_then(|i| lives.get_mut(i)) {
            *life = Some(life.map_or((step, step), |(first, _)| (first, step)));
        }
    };
    graph.inputs.iter().for_each(|&i| live(i, 0));
    for (step, (_, op)) in operators.iter().enumerate() {
        op.inputs.iter().chain(&op.outputs).for_each(|&i| live(i, step + 1));
    }
    graph.outputs.iter().for_each(|&i| live(i, operators.len() + 1));
    let computed = graph.tensors.iter().zip(lives).filter(|(t, _)| t.buffer == 0);
    let values = computed.filter_map(|(t, life)| life.map(|(first, last)| Buffer { bytes: bytes(t), first, last }));
    let scratches = operators.iter().enumerate().flat_map(|(step, (code, op))| {
        scratch(graph, *code, op).into_iter().map(move |bytes| Buffer { bytes, first: step + 1, last: step + 1 })
    });
    values.chain(scratches).collect()
}

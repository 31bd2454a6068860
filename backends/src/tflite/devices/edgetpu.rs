//! Coral Edge TPU: operators that break a rule run on the CPU beside it, with LiteRT, as does all that depends on them.
//! The rules are those of coral.ai/docs/edgetpu/models-intro ("Model requirements" and "Supported operations"), read in
//! copies: developer.axis.com/computer-vision/on-device/system-on-chip/artpec-7 ("Supported ops", "Optimization tips",
//! 2025) for operators up to RESIZE_BILINEAR, an older copy (2019, github.com/dgist-datalab/Datalab_Intern) for the
//! others. TRANSPOSE and TRANSPOSE_CONV are in the table according to github.com/google-coral/edgetpu/issues/433 and
//! 684. The compiler (16.0) is not public: it may leave more to the CPU, by the size of tensors.

use qcc_formats::tflite::{Activation, BuiltinOperator as B, Options, Tensor, TensorType as T};
use qcc_ir::TensorType;
use qcc_ir::ops::{Binary, BinaryFn, Op, Unary, UnaryFn};
use qcc_ir::target::{Device as Limits, FusedClamps, Kernel, Quantized};

use super::super::target;
use crate::device::{Split, Takes, known_extents, unless};
use crate::operation::{Operation, Verdict, ensure};
use crate::{Device, Format};

/// The device.
pub static EDGETPU: Device = Device {
    name: "edgetpu",
    about: "Google Coral Edge TPU, with LiteRT on the CPU",
    format: Format::Tflite,
    target: target::target(
        kernel,
        Some(Limits { name: "edgetpu", rule, lacks: &[], quantized_interface: true, keeps_states: false }),
    ),
    operators: || OPERATORS.iter().map(|(_, name)| *name).collect(),
    split: Some(Split { takes: Takes::Written(takes), rest_is_unlimited: true, one_part: true, ..Split::ACCELERATOR }),
    standard_qdq: false,
    most_bytes: None,
};

/// The operators of the table that qcc writes.
const OPERATORS: &[(B, &str)] = &[
    (B::ADD, "ADD"),
    (B::AVERAGE_POOL_2D, "AVERAGE_POOL_2D"),
    (B::CONCATENATION, "CONCATENATION"),
    (B::CONV_2D, "CONV_2D"),
    (B::DEPTHWISE_CONV_2D, "DEPTHWISE_CONV_2D"),
    (B::FULLY_CONNECTED, "FULLY_CONNECTED"),
    (B::LOGISTIC, "LOGISTIC"),
    (B::MAXIMUM, "MAXIMUM"),
    (B::MAX_POOL_2D, "MAX_POOL_2D"),
    (B::MEAN, "MEAN"),
    (B::MINIMUM, "MINIMUM"),
    (B::MUL, "MUL"),
    (B::PAD, "PAD"),
    (B::PRELU, "PRELU"),
    (B::QUANTIZE, "QUANTIZE"),
    (B::REDUCE_MAX, "REDUCE_MAX"),
    (B::REDUCE_MIN, "REDUCE_MIN"),
    (B::RELU, "RELU"),
    (B::RELU6, "RELU6"),
    (B::RELU_N1_TO_1, "RELU_N1_TO_1"),
    (B::RESHAPE, "RESHAPE"),
    (B::RESIZE_BILINEAR, "RESIZE_BILINEAR"),
    (B::RESIZE_NEAREST_NEIGHBOR, "RESIZE_NEAREST_NEIGHBOR"),
    (B::SLICE, "SLICE"),
    (B::SOFTMAX, "SOFTMAX"),
    (B::SPACE_TO_DEPTH, "SPACE_TO_DEPTH"),
    (B::STRIDED_SLICE, "STRIDED_SLICE"),
    (B::SUB, "SUB"),
    (B::TANH, "TANH"),
    (B::TRANSPOSE, "TRANSPOSE"),
    (B::TRANSPOSE_CONV, "TRANSPOSE_CONV"),
];

/// The table of the target with 8-bit activations only, which are quantized wherever there is a kernel. HARD_SWISH, which
/// the accelerator lacks, becomes operators that it has.
fn kernel(op: &Op, x: &[&TensorType]) -> Option<Kernel> {
    if rule(op, x).is_some() {
        return None;
    }
    let kernel = target::kernel(op, x)?;
    let fuses = if matches!(op, Op::Pool(_)) { FusedClamps::None } else { kernel.fuses };
    let quantized = match op {
        // LiteRT's 8-bit kernel is slow, but the accelerator has one.
        Op::Binary(Binary { f: BinaryFn::Prelu }) => Some(Quantized::ANY),
        _ => kernel.quantized.map(|quantized| Quantized { slow: false, ..quantized }),
    };
    Some(Kernel { quantized, wide: None, weights: None, fuses, ..kernel })
}

/// The rule that leaves a row of the target's table out.
fn rule(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    let hard_swish = matches!(op, Op::Unary(Unary { f: UnaryFn::HardSwish }));
    known_extents(op, x).or_else(|| unless(!hard_swish, "it has no HARD_SWISH"))
}

/// Whether the accelerator runs an operator.
fn takes(op: Operation<'_>) -> Verdict {
    ensure(OPERATORS.iter().any(|(code, _)| *code == op.code), "it is not among the supported operators")?;
    ensure(op.data().all(|t| [T::INT8, T::UINT8].contains(&t.elem)), "its tensors are int8 or uint8")?;
    let outer = |t: &Tensor| t.shape.iter().rev().skip(3).all(|&n| n == 1);
    ensure(op.data().all(outer), "only the 3 innermost axes of a tensor are larger than 1")?;
    let batch = |i: usize| op.integers(i).is_some_and(|axes| axes.contains(&0)) && op.operand(0).is_some_and(has_batch);
    match op.code {
        B::CONV_2D | B::DEPTHWISE_CONV_2D => {
            let (x, y) = match &op.op.options {
                Options::Conv2D(o) => (o.dilation_w, o.dilation_h),
                Options::DepthwiseConv2D(o) => (o.dilation_w, o.dilation_h),
                _ => (1, 1),
            };
            ensure(x == y, "both axes have the same dilation")?;
            op.has_constants([1, 2])
        }
        B::TRANSPOSE_CONV => op.has_constants([1, 3]),
        B::FULLY_CONNECTED => {
            op.has_constants([1, 2])?;
            ensure(op.result().is_some_and(is_row), "the result of FULLY_CONNECTED has one axis")
        }
        B::AVERAGE_POOL_2D | B::MAX_POOL_2D => {
            let plain = matches!(&op.op.options, Options::Pool2D(o) if o.activation == Activation::NONE);
            ensure(plain, "it has no fused activation function")
        }
        B::CONCATENATION => op.joins(),
        B::MEAN => {
            ensure(!batch(1), "it does not reduce the batch")?;
            let depth = op.operand(0).map_or(0, |t| t.shape.len() as i32 - 1);
            let along = op.integers(1).is_some_and(|axes| axes.contains(&depth));
            let extent = op.operand(0).and_then(|t| t.shape.last()).copied().unwrap_or(0);
            ensure(!along || extent % 4 == 0, "channels that are reduced are a multiple of 4")
        }
        B::REDUCE_MAX | B::REDUCE_MIN => ensure(!batch(1), "it does not reduce the batch"),
        B::PAD => {
            let pads = op.integers(1).unwrap_or_default();
            let padded = op.operand(0).is_some_and(has_batch) && pads.iter().take(2).any(|&n| n != 0);
            ensure(!padded, "it does not pad the batch")
        }
        B::PRELU => ensure(op.operand(1).is_some_and(is_row), "the slope of PRELU has one axis"),
        B::SOFTMAX => {
            let count = |t: &Tensor| t.shape.iter().map(|&n| i64::from(n)).product::<i64>();
            let row = |t: &Tensor| count(t) == t.shape.last().map_or(1, |&n| i64::from(n)) && count(t) <= 16_000;
            ensure(op.operand(0).is_some_and(row), "the operand of SOFTMAX has one axis of 16,000 elements at most")
        }
        B::STRIDED_SLICE => {
            ensure(op.integers(3).unwrap_or_default().iter().all(|&step| step == 1), "all strides are 1")
        }
        _ => Ok(()),
    }
}

/// True for tensors with one axis besides those of extent 1.
fn is_row(t: &Tensor) -> bool {
    t.shape.iter().rev().skip(1).all(|&n| n == 1)
}

/// True for tensors whose first axis is the batch.
fn has_batch(t: &Tensor) -> bool {
    t.shape.len() == 4
}

impl Operation<'_> {
    /// The weight and the bias, at these places, are constant.
    fn has_constants(&self, places: [usize; 2]) -> Verdict {
        let constant = |i: usize| self.operand(i).is_none() || self.bytes(i).is_some();
        ensure(places.into_iter().all(constant), "weights and biases are constant")
    }

    /// The rule of CONCATENATION.
    fn joins(&self) -> Verdict {
        let constants: Vec<usize> = (0..self.op.inputs.len()).filter(|&i| self.bytes(i).is_some()).collect();
        let zero = |&i: &usize| {
            let zero = self.operand(i).and_then(|t| t.quantization.as_ref()?.zero_point.first().copied()).unwrap_or(0);
            self.bytes(i).is_some_and(|data| data.iter().all(|&b| i64::from(b.cast_signed()) == zero))
        };
        ensure(
            constants.is_empty() || (self.op.inputs.len() == 2 && constants.iter().all(zero)),
            "a constant operand of CONCATENATION is all zeros, and there are only 2",
        )
    }
}

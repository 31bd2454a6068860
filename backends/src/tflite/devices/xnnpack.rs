//! LiteRT on the CPUs of phones and computers, with its XNNPACK delegate: the operators that break a rule run in LiteRT's
//! own kernels. The rules are those of `tflite/delegates/xnnpack/xnnpack_delegate.cc` of github.com/google-ai-edge/LiteRT
//! at f677457 (August 2026); LiteRT 2.3 keeps them.

use qcc_formats::tflite::{BuiltinOperator as B, Options, Tensor, TensorType as T};
use qcc_ir::target::Device as Limits;

use super::super::target;
use crate::device::{Split, Takes};
use crate::operation::{Operation, Verdict, ensure};
use crate::{Device, Format};

/// The device.
pub static XNNPACK: Device = Device {
    name: "xnnpack",
    about: "LiteRT with XNNPACK on CPUs of phones and computers",
    format: Format::Tflite,
    target: target::target(
        target::kernel,
        Some(Limits { name: "xnnpack", rule: |_, _| None, lacks: &[], quantized_interface: true, keeps_states: false }),
    ),
    operators: || BOTH.iter().chain(REAL).map(|(_, name)| *name).collect(),
    split: Some(Split {
        takes: Takes::Written(takes),
        fast: "in XNNPACK",
        slow: "in LiteRT's own kernels",
        rest_is_unlimited: true,
        help: "they are right there too, and slower: change these nodes of the model if their share matters",
        one_part: false,
    }),
    standard_qdq: false,
    most_bytes: None,
};

/// The operators for floats and for integers of 8 bits that qcc writes.
const BOTH: &[(B, &str)] = &[
    (B::ADD, "ADD"),
    (B::BATCH_MATMUL, "BATCH_MATMUL"),
    (B::CONCATENATION, "CONCATENATION"),
    (B::CONV_2D, "CONV_2D"),
    (B::DEPTHWISE_CONV_2D, "DEPTHWISE_CONV_2D"),
    (B::DEPTH_TO_SPACE, "DEPTH_TO_SPACE"),
    (B::DEQUANTIZE, "DEQUANTIZE"),
    (B::ELU, "ELU"),
    (B::FULLY_CONNECTED, "FULLY_CONNECTED"),
    (B::LEAKY_RELU, "LEAKY_RELU"),
    (B::LOGISTIC, "LOGISTIC"),
    (B::MAX_POOL_2D, "MAX_POOL_2D"),
    (B::MEAN, "MEAN"),
    (B::MUL, "MUL"),
    (B::PAD, "PAD"),
    (B::QUANTIZE, "QUANTIZE"),
    (B::REDUCE_MAX, "REDUCE_MAX"),
    (B::REDUCE_MIN, "REDUCE_MIN"),
    (B::RESHAPE, "RESHAPE"),
    (B::RESIZE_BILINEAR, "RESIZE_BILINEAR"),
    (B::SLICE, "SLICE"),
    (B::SPACE_TO_DEPTH, "SPACE_TO_DEPTH"),
    (B::STRIDED_SLICE, "STRIDED_SLICE"),
    (B::SUB, "SUB"),
    (B::SUM, "SUM"),
    (B::TANH, "TANH"),
    (B::TRANSPOSE, "TRANSPOSE"),
    (B::TRANSPOSE_CONV, "TRANSPOSE_CONV"),
];

/// Those for floats only.
const REAL: &[(B, &str)] = &[
    (B::ABS, "ABS"),
    (B::AVERAGE_POOL_2D, "AVERAGE_POOL_2D"),
    (B::CEIL, "CEIL"),
    (B::COS, "COS"),
    (B::DIV, "DIV"),
    (B::EXP, "EXP"),
    (B::FLOOR, "FLOOR"),
    (B::GELU, "GELU"),
    (B::HARD_SWISH, "HARD_SWISH"),
    (B::LOG, "LOG"),
    (B::MAXIMUM, "MAXIMUM"),
    (B::MINIMUM, "MINIMUM"),
    (B::NEG, "NEG"),
    (B::PRELU, "PRELU"),
    (B::RELU, "RELU"),
    (B::RELU6, "RELU6"),
    (B::RELU_N1_TO_1, "RELU_N1_TO_1"),
    (B::ROUND, "ROUND"),
    (B::RSQRT, "RSQRT"),
    (B::SIN, "SIN"),
    (B::SOFTMAX, "SOFTMAX"),
    (B::SQRT, "SQRT"),
    (B::SQUARED_DIFFERENCE, "SQUARED_DIFFERENCE"),
];

/// `XNN_MAX_TENSOR_DIMS`.
const MOST_AXES: usize = 6;

/// Whether XNNPACK runs an operator.
fn takes(op: Operation<'_>) -> Verdict {
    let listed = |list: &[(B, &str)]| list.iter().any(|(code, _)| *code == op.code);
    ensure(listed(BOTH) || listed(REAL), "XNNPACK has no such operator")?;
    ensure(!listed(REAL) || op.data().all(is_real), "XNNPACK has this operator for floats only")?;
    ensure(op.data().all(|t| is_real(t) || is_byte(t)), "XNNPACK takes floats and integers of 8 bits")?;
    let (Some(x), Some(y)) = (op.data().next(), op.result()) else { return Ok(()) };
    ensure(op.data().all(|t| t.shape.len() <= MOST_AXES), "XNNPACK takes 6 axes at most")?;
    let ratio = |t: &Tensor| scale(t).zip(scale(y)).map_or(1.0, |(from, to)| from / to);
    match op.code {
        B::QUANTIZE => {
            let fits = is_real(x) || (x.elem == y.elem && within(ratio(x), 1.0 / 256.0, 128.0));
            ensure(fits, "XNNPACK rescales integers of one type, by 1/256 to 128")
        }
        B::LEAKY_RELU => {
            let alpha = if let Options::LeakyRelu(o) = &op.op.options { o.alpha } else { 0.0 };
            let negative = ratio(x) * alpha;
            let fits =
                is_real(x) || (within(ratio(x), 1.0 / 256.0, 128.0) && within(negative.abs(), 1.0 / 256.0, 128.0));
            ensure(alpha != 0.0 && fits, "XNNPACK rescales by 1/256 to 128")
        }
        B::ADD | B::SUB => {
            let fits = is_real(x) || op.operands().all(|t| within(ratio(t), 1.0 / 1024.0, 256.0));
            ensure(fits, "XNNPACK rescales the operands by 1/1024 to 256")
        }
        B::MUL => {
            let product = op.operands().filter_map(scale).product::<f32>() / scale(y).unwrap_or(1.0);
            ensure(
                is_real(x) || within(product, 1.0 / 65536.0, 256.0),
                "XNNPACK rescales the product by 1/65536 to 256",
            )
        }
        B::SLICE => {
            let stated = op.integers(2).is_some_and(|sizes| !sizes.is_empty() && sizes.iter().all(|&n| n > 0));
            ensure(stated, "XNNPACK takes constant lengths only, which open axes have not")
        }
        B::PRELU => ensure(op.is_constant(1), "the slope is constant"),
        B::CONCATENATION => ensure((2..=5).contains(&op.op.inputs.len()), "XNNPACK joins 2 to 5 operands"),
        B::STRIDED_SLICE => {
            let plain = op.integers(3).is_some_and(|steps| !steps.is_empty() && steps.iter().all(|&s| s == 1));
            ensure(plain, "XNNPACK takes strides of 1 only")
        }
        B::AVERAGE_POOL_2D | B::MAX_POOL_2D => {
            let Options::Pool2D(o) = &op.op.options else { return Ok(()) };
            let fits = o.stride_w <= o.filter_width && o.stride_h <= o.filter_height;
            ensure(fits, "strides of XNNPACK's pooling do not exceed the window")
        }
        B::CONV_2D | B::DEPTHWISE_CONV_2D => {
            ensure(op.op.inputs.len() == 3 && op.is_constant(2), "there is a constant bias")?;
            op.has_weights(x)
        }
        B::FULLY_CONNECTED | B::TRANSPOSE_CONV => op.has_weights(x),
        B::BATCH_MATMUL => {
            let zero = |t: &Tensor| t.quantization.as_ref().is_none_or(|q| q.zero_point.iter().all(|&z| z == 0));
            ensure(op.operand(1).is_none_or(zero), "the zero point of the second operand is 0")
        }
        _ => Ok(()),
    }
}

fn is_real(t: &Tensor) -> bool {
    matches!(t.elem, T::FLOAT32 | T::FLOAT16)
}

/// True for quantized integers of 8 bits.
fn is_byte(t: &Tensor) -> bool {
    matches!(t.elem, T::INT8 | T::UINT8) && scale(t).is_some()
}

fn scale(t: &Tensor) -> Option<f32> {
    t.quantization.as_ref()?.scale.first().copied()
}

fn within(x: f32, least: f32, most: f32) -> bool {
    (least..=most).contains(&x)
}

impl Operation<'_> {
    /// The rules for weights.
    fn has_weights(&self, x: &Tensor) -> Verdict {
        let Some(weight) = self.operand(1) else { return Ok(()) };
        let constant = self.is_constant(1) || (is_real(weight) && self.code == B::FULLY_CONNECTED);
        ensure(constant, "weights are constant")?;
        let mixed = self.code == B::DEPTHWISE_CONV_2D && is_real(x) != is_real(weight);
        ensure(!mixed, "XNNPACK's depthwise convolutions take weights of the type of their operand")
    }

    /// True for a constant operand, and one that is dequantized from a constant.
    fn is_constant(&self, i: usize) -> bool {
        let restored = || {
            let &v = self.op.inputs.get(i)?;
            let producer = self.graph.operators.iter().find(|op| op.outputs.contains(&v))?;
            let source = self.tensor(*producer.inputs.first()?)?;
            self.model.buffers.get(source.buffer as usize).filter(|buffer| !buffer.data.is_empty())
        };
        self.bytes(i).is_some() || restored().is_some()
    }
}

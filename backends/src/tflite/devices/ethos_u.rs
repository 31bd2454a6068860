//! Arm Ethos-U: operators that break a rule run on the CPU beside it, with TensorFlow Lite for Microcontrollers. The
//! rules are those of the compiler Vela 5.2.0 (`vela --supported-ops-report`, SUPPORTED_OPS.md), in its words.

use qcc_formats::tflite::{BuiltinOperator as B, Options, Padding, Tensor, TensorType as T};

use super::tflm;
use crate::Device;
use crate::device::{Split, Takes};
use crate::operation::{Operation, Verdict, ensure};

/// Arm Ethos-U55.
pub static ETHOS_U55: Device = tflm::device(
    "ethos-u55",
    "Arm Ethos-U55, with TensorFlow Lite for Microcontrollers on the CPU",
    Some(Split { takes: Takes::Written(u55), ..Split::ACCELERATOR }),
);

/// Arm Ethos-U65.
pub static ETHOS_U65: Device = tflm::device(
    "ethos-u65",
    "Arm Ethos-U65, with TensorFlow Lite for Microcontrollers on the CPU",
    Some(Split { takes: Takes::Written(u55), ..Split::ACCELERATOR }),
);

/// Arm Ethos-U85.
pub static ETHOS_U85: Device = tflm::device(
    "ethos-u85",
    "Arm Ethos-U85, with TensorFlow Lite for Microcontrollers on the CPU",
    Some(Split { takes: Takes::Written(u85), ..Split::ACCELERATOR }),
);

/// The operators of the Ethos-U55 and the Ethos-U65 that qcc writes.
const BOTH: &[B] = &[
    B::ABS,
    B::ADD,
    B::ARG_MAX,
    B::AVERAGE_POOL_2D,
    B::BATCH_MATMUL,
    B::CONCATENATION,
    B::CONV_2D,
    B::DEPTHWISE_CONV_2D,
    B::ELU,
    B::EXP,
    B::FULLY_CONNECTED,
    B::GELU,
    B::HARD_SWISH,
    B::LEAKY_RELU,
    B::LOG,
    B::LOGISTIC,
    B::MAXIMUM,
    B::MAX_POOL_2D,
    B::MEAN,
    B::MINIMUM,
    B::MIRROR_PAD,
    B::MUL,
    B::NEG,
    B::PAD,
    B::PADV2,
    B::PRELU,
    B::QUANTIZE,
    B::REDUCE_MAX,
    B::REDUCE_MIN,
    B::RELU,
    B::RELU6,
    B::RELU_N1_TO_1,
    B::RESHAPE,
    B::RESIZE_BILINEAR,
    B::RESIZE_NEAREST_NEIGHBOR,
    B::REVERSE_V2,
    B::RSQRT,
    B::SLICE,
    B::SOFTMAX,
    B::SQUARED_DIFFERENCE,
    B::STRIDED_SLICE,
    B::SUB,
    B::SUM,
    B::TANH,
    B::TILE,
    B::TRANSPOSE,
    B::TRANSPOSE_CONV,
];

/// Those that the Ethos-U85 has in addition.
const ONLY_85: &[B] = &[
    B::CAST,
    B::DIV,
    B::EQUAL,
    B::GATHER,
    B::GREATER,
    B::GREATER_EQUAL,
    B::LESS,
    B::LESS_EQUAL,
    B::LOGICAL_AND,
    B::LOGICAL_NOT,
    B::LOGICAL_OR,
    B::NOT_EQUAL,
    B::REDUCE_ALL,
    B::REDUCE_ANY,
    B::SELECT_V2,
];

fn u55(op: Operation<'_>) -> Verdict {
    ensure(BOTH.contains(&op.code), "Unsupported opType")?;
    op.has_types(&[T::INT8, T::UINT8, T::INT16, T::INT32, T::INT64])?;
    let unquantized = [B::MIRROR_PAD, B::PAD, B::PADV2, B::QUANTIZE, B::TRANSPOSE, B::ARG_MAX].contains(&op.code);
    ensure(unquantized || op.is_quantized(), "Input(s), Output and Weight tensors must have quantization parameters")?;
    op.has_one_scale()?;
    let narrow = [B::ARG_MAX, B::FULLY_CONNECTED, B::BATCH_MATMUL, B::MUL, B::ADD, B::SUB, B::SUM, B::RESHAPE, B::NEG];
    let moved = [B::MIRROR_PAD, B::TRANSPOSE];
    let wide = op.data().any(|t| t.elem == T::INT32);
    ensure(!wide || narrow.contains(&op.code) || moved.contains(&op.code), "32-bit feature-maps are not supported")?;
    if op.code == B::BATCH_MATMUL {
        ensure(
            op.data().all(|t| t.elem == T::INT8),
            "IF Matmul or (FC with dynamic weights): IFM precision must be Int8",
        )?;
    }
    if op.code == B::ARG_MAX {
        let depth = op.operand(0).and_then(|t| t.shape.last()).copied().unwrap_or(0);
        ensure(depth <= 127, "IFM depth must be less than or equal to 127")?;
        let axis = op.integers(1).and_then(|axes| axes.first().copied());
        let last = op.operand(0).map(|t| t.shape.len() as i32 - 1);
        ensure(axis == last, "Operation must be performed along the depth axis")?;
    }
    ensure(op.code != B::REVERSE_V2, "Axis attribute is not supported")?;
    op.strides()?;
    op.common()?;
    if matches!(op.code, B::RESIZE_BILINEAR | B::RESIZE_NEAREST_NEIGHBOR) {
        op.scales_images()?;
    }
    if op.code == B::TRANSPOSE_CONV
        && let Options::TransposeConv(o) = &op.op.options
    {
        let one = |axis: usize| {
            op.operand(1).zip(op.operand(2)).is_some_and(|(w, x)| w.shape[axis] == 1 && x.shape[axis] == 1)
        };
        let fits = match (o.stride_w, o.stride_h) {
            (1, 1) | (2, 2) => true,
            (2, 1) => one(1),
            (1, 2) => one(2),
            _ => false,
        };
        ensure(
            fits,
            "Stride values WxH must be: 1x1 OR 2x2 OR 2x1 (if IFM height and kernel height is 1) OR 1x2 (if IFM width and kernel width is 1)",
        )?;
    }
    Ok(())
}

fn u85(op: Operation<'_>) -> Verdict {
    ensure(BOTH.contains(&op.code) || ONLY_85.contains(&op.code), "Unsupported opType")?;
    op.has_types(&[T::BOOL, T::INT8, T::UINT8, T::INT16, T::INT32, T::INT64])?;
    let unquantized = [
        B::MIRROR_PAD,
        B::PAD,
        B::PADV2,
        B::QUANTIZE,
        B::TRANSPOSE,
        B::ARG_MAX,
        B::GATHER,
        B::RESHAPE,
        B::REDUCE_ALL,
        B::REDUCE_ANY,
    ];
    ensure(
        unquantized.contains(&op.code) || op.is_quantized(),
        "Input(s), Output and Weight tensors must have quantization parameters",
    )?;
    op.has_one_scale()?;
    if let (B::GATHER, Options::Gather(o)) = (op.code, &op.op.options) {
        ensure(o.axis == o.batch_dims, "axis must be equal to batch_dims")?;
    }
    op.common()
}

impl Operation<'_> {
    fn has_types(&self, types: &[T]) -> Verdict {
        match self.data().find(|t| !types.contains(&t.elem)) {
            Some(odd) => Err(format!("Operation has tensor with unsupported DataType {} ({})", odd.elem, odd.name)),
            None => Ok(()),
        }
    }

    fn is_quantized(&self) -> bool {
        // Plain integers and booleans count as quantized with scale 1.
        let plain = |t: &Tensor| matches!(t.elem, T::INT32 | T::INT64 | T::BOOL);
        let has = |t: &Tensor| plain(t) || t.quantization.as_ref().is_some_and(|q| !q.scale.is_empty());
        let weight = matches!(self.code, B::CONV_2D | B::DEPTHWISE_CONV_2D | B::FULLY_CONNECTED | B::TRANSPOSE_CONV);
        self.data().all(has) && (!weight || self.operand(1).is_some_and(has))
    }

    fn has_one_scale(&self) -> Verdict {
        let one = |t: &Tensor| t.quantization.as_ref().is_none_or(|q| q.scale.len() <= 1);
        ensure(self.data().all(one), "Per-axis quantization is not supported")
    }

    /// Limits of the strides of windows.
    fn strides(&self) -> Verdict {
        let (w, h, plain) = match &self.op.options {
            Options::Conv2D(o) => {
                let plain = o.dilation_w == 1 && o.dilation_h == 1 && o.padding == Padding::VALID;
                (o.stride_w, o.stride_h, plain)
            }
            Options::DepthwiseConv2D(o) => (o.stride_w, o.stride_h, false),
            Options::Pool2D(o) => (o.stride_w, o.stride_h, o.padding == Padding::VALID),
            _ => return Ok(()),
        };
        ensure(w.max(h) <= 3 || plain, "Stride>3 is only supported IF (dilation = 1 AND padding = VALID)")
    }

    /// Rules of all three devices.
    fn common(&self) -> Verdict {
        match self.code {
            B::CONV_2D | B::DEPTHWISE_CONV_2D | B::FULLY_CONNECTED | B::TRANSPOSE_CONV => self.weighs(),
            B::AVERAGE_POOL_2D | B::MAX_POOL_2D => self.pools(),
            B::MEAN => self.averages(),
            B::MAXIMUM | B::MINIMUM => {
                let scale = |t: &Tensor| t.quantization.as_ref().map(|q| (q.scale.clone(), q.zero_point.clone()));
                let wanted = self.result().map(scale);
                ensure(
                    self.operands().all(|t| Some(scale(t)) == wanted),
                    "Both Input quantization parameters must match OFM quantization parameters",
                )
            }
            B::ELU | B::GELU => {
                ensure(self.data().all(|t| t.elem == T::INT8), "IFM and OFM datatypes must match, and must be Int8")
            }
            B::SOFTMAX => {
                let outer: i64 = self.operand(0).map_or(0, |t| {
                    let n = t.shape.len().saturating_sub(1);
                    t.shape[n.saturating_sub(2)..n].iter().map(|&e| i64::from(e)).product()
                });
                ensure(outer < 65536, "The product of IFM width and height must be less than 65536")
            }
            B::STRIDED_SLICE => {
                let steps = self.integers(3).unwrap_or_default();
                ensure(steps.iter().all(|&s| s > 0), "Stride must be non-negative")
            }
            _ => Ok(()),
        }
    }

    /// Weights are constant, of 8 bits, and their absolute values have a limited sum for each channel.
    fn weighs(&self) -> Verdict {
        let Some(weight) = self.operand(1) else { return Ok(()) };
        ensure(weight.elem == T::INT8 || weight.elem == T::UINT8, "Weight tensors must be 8-bit precision")?;
        let Some(buffer) = self.model.buffers.get(weight.buffer as usize).filter(|b| !b.data.is_empty()) else {
            return ensure(self.code == B::FULLY_CONNECTED, "Weight tensors must be constant");
        };
        let last = weight.shape.last().map_or(1, |&n| n.max(1) as usize);
        let depthwise = self.code == B::DEPTHWISE_CONV_2D;
        let outer = weight.shape.first().map_or(1, |&n| n.max(1) as usize);
        let mut sums = vec![0i64; if depthwise { last } else { outer }];
        let each = (buffer.data.len() / outer).max(1);
        for (i, &byte) in buffer.data.iter().enumerate() {
            let channel = if depthwise { i % last } else { i / each };
            if let Some(sum) = sums.get_mut(channel) {
                *sum += i64::from(byte.cast_signed()).abs();
            }
        }
        ensure(sums.iter().all(|&sum| sum <= 8_323_072), "The sum of absolute weights cannot exceed 8323072")
    }

    fn pools(&self) -> Verdict {
        let Options::Pool2D(o) = &self.op.options else { return Ok(()) };
        let (w, h) = (i64::from(o.filter_width), i64::from(o.filter_height));
        if self.code == B::AVERAGE_POOL_2D && o.padding != Padding::VALID {
            return ensure(w.max(h) <= 8, "Kernel width and height must be less than or equal to 8");
        }
        ensure(
            w * h <= 65536 && h <= 256,
            "Kernel product must be less than or equal to 256*256 and kernel height must be less than or equal to 256",
        )
    }

    fn averages(&self) -> Verdict {
        let (Some(x), Some(axes)) = (self.operand(0), self.integers(1)) else { return Ok(()) };
        ensure([T::INT8, T::UINT8, T::INT16].contains(&x.elem), "IFM precision must be one of: (Int8, UInt8, Int16)")?;
        let extent = |axis: &i32| usize::try_from(*axis).ok().and_then(|a| x.shape.get(a)).map_or(1, |&n| i64::from(n));
        let count: i64 = axes.iter().map(extent).product();
        ensure(count <= 16_777_216, "Amount of reduced elements cannot exceed: 16777216(Int8)")?;
        ensure(axes.iter().map(extent).all(|n| n < 4096), "Reduced axis must be less than 4096")?;
        if x.shape.len() == 4 {
            ensure(x.shape[0] == 1, "Batch must be 1")?;
        }
        let depth = x.shape.len() as i32 - 1;
        let inner = &x.shape[x.shape.len().saturating_sub(3)..];
        ensure(
            !axes.contains(&depth) || inner.len() < 3 || inner.contains(&1),
            "Reduction over depth is only supported if any of h,w,c == 1",
        )
    }

    fn scales_images(&self) -> Verdict {
        let (Some(x), Some(y)) = (self.operand(0), self.result()) else { return Ok(()) };
        let ([_, h, w, _], [_, oh, ow, _]) = (&x.shape[..], &y.shape[..]) else { return Ok(()) };
        if (*h == 1 && *w == 1) || x.shape == y.shape {
            return Ok(());
        }
        let (corners, half) = match &self.op.options {
            Options::ResizeBilinear(o) => (o.align_corners, o.half_pixel_centers),
            Options::ResizeNearestNeighbor(o) => (o.align_corners, false),
            _ => return Ok(()),
        };
        let ratio = |from: i32, to: i32| {
            let (from, to) = if corners { (from - 1, to - 1) } else { (from, to) };
            if from > 0 && to % from == 0 { to / from } else { 0 }
        };
        let (across, down) = (ratio(*w, *ow), ratio(*h, *oh));
        let one = |axis: i32, other: i32| axis == 1 && other > 0;
        ensure(
            across == down || one(*ow, down) || one(*oh, across),
            "IF W Scale-factor != H Scale-factor: OFM W or H must be 1, and scaling in the dim that is must also be 1",
        )?;
        let factor = if *ow == 1 { down } else { across };
        match half {
            true => ensure(factor == 2, "IF half pixel centers: Scale-factor needs to be 2x"),
            false => ensure([2, 4, 8].contains(&factor), "Scale-factor needs to be one of: 2x/4x/8x"),
        }
    }
}

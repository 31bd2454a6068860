//! TensorFlow Lite for Microcontrollers with optimized kernels. The table is that of its reference kernels, which run the
//! operators that have no optimized one. Advice says which operators miss the fastest kernels, and why:
//!
//! - ESP-NN on the ESP32-S3: `src/*/*_esp32s3.c` of github.com/espressif/esp-nn at d45b843 (April 2026), for the operators
//!   of `tensorflow/lite/micro/kernels/esp_nn` in github.com/espressif/esp-tflite-micro.
//! - CMSIS-NN on Arm Cortex-M: `arm_convolve_wrapper_s8.c`, `arm_depthwise_conv_wrapper_s8.c`, `arm_convolve_s8.c` and
//!   README.md of github.com/ARM-software/CMSIS-NN at 99f736a (July 2026), for the operators of
//!   `tensorflow/lite/micro/kernels/cmsis_nn` in github.com/tensorflow/tflite-micro.

use qcc_formats::tflite::{BuiltinOperator as B, Options, TensorType as T};

use super::tflm;
use crate::Device;
use crate::device::{Split, Takes};
use crate::operation::{Operation, Verdict, ensure};

/// ESP32-S3 with ESP-NN.
pub static ESP32S3: Device = tflm::device(
    "esp32s3",
    "ESP32-S3, with TensorFlow Lite for Microcontrollers and ESP-NN",
    Some(Split { takes: Takes::Written(esp32s3), fast: "in the fast kernels of ESP-NN", ..SLOWER }),
);

/// Arm Cortex-M with CMSIS-NN.
pub static CMSIS_NN: Device = tflm::device(
    "cmsis-nn",
    "Arm Cortex-M, with TensorFlow Lite for Microcontrollers and CMSIS-NN",
    Some(Split { takes: Takes::Written(cmsis), fast: "in the fast kernels of CMSIS-NN", ..SLOWER }),
);

/// Fast kernels beside slower ones.
const SLOWER: Split = Split {
    slow: "in slower kernels",
    help: "channels that are a multiple of 16, and --int8, give most layers fast kernels",
    ..Split::ACCELERATOR
};

/// The operators with kernels in both libraries.
const BOTH: &[B] = &[
    B::ADD,
    B::AVERAGE_POOL_2D,
    B::CONV_2D,
    B::DEPTHWISE_CONV_2D,
    B::FULLY_CONNECTED,
    B::MAX_POOL_2D,
    B::MUL,
    B::SOFTMAX,
];

/// Those that CMSIS-NN has in addition.
const ONLY_CMSIS: &[B] = &[B::BATCH_MATMUL, B::MAXIMUM, B::MINIMUM, B::PAD, B::TRANSPOSE, B::TRANSPOSE_CONV];

fn esp32s3(op: Operation<'_>) -> Verdict {
    ensure(BOTH.contains(&op.code), "ESP-NN has no kernel for it")?;
    ensure(op.data().all(|t| t.elem == T::INT8), "ESP-NN takes int8")?;
    let Some(shape) = Window::of(op) else { return Ok(()) };
    match op.code {
        B::CONV_2D => {
            ensure(shape.groups == 1, "convolutions in groups have no vector instructions")?;
            match shape.is_pointwise(&op) {
                true => ensure(shape.channels % 8 == 0, "input channels are a multiple of 8"),
                false => ensure(
                    (shape.width * shape.channels) % 16 == 0,
                    "input channels times the width of the window are a multiple of 16: others are copied at each run",
                ),
            }
        }
        B::DEPTHWISE_CONV_2D if shape.multiplier == 1 => {
            let (step, rule) = match (shape.width, shape.height) {
                (3, 3) => (16, "channels of a 3x3 window are a multiple of 16"),
                _ => (8, "channels are a multiple of 8"),
            };
            ensure(shape.channels % step == 0, rule)
        }
        B::DEPTHWISE_CONV_2D => ensure(shape.multiplier % 8 == 0, "the channel multiplier is 1 or a multiple of 8"),
        B::FULLY_CONNECTED => ensure(shape.channels >= 16, "rows have 16 elements at least"),
        _ => Ok(()),
    }
}

fn cmsis(op: Operation<'_>) -> Verdict {
    ensure(BOTH.contains(&op.code) || ONLY_CMSIS.contains(&op.code), "CMSIS-NN has no kernel for it")?;
    // These have kernels for 16 bits too.
    let wide = BOTH.contains(&op.code) || op.code == B::BATCH_MATMUL;
    ensure(
        op.data().all(|t| t.elem == T::INT8 || (wide && t.elem == T::INT16)),
        if wide { "CMSIS-NN takes int8 and int16" } else { "CMSIS-NN takes int8" },
    )?;
    let Some(shape) = Window::of(op) else { return Ok(()) };
    match op.code {
        B::CONV_2D if !shape.is_pointwise(&op) => ensure(
            (shape.width * shape.height * shape.channels) % 4 == 0,
            "input channels times the size of the window are a multiple of 4",
        ),
        B::DEPTHWISE_CONV_2D => {
            let plain = matches!(&op.op.options, Options::DepthwiseConv2D(o) if o.dilation_w == 1 && o.dilation_h == 1);
            let one = op.operand(0).is_some_and(|x| x.shape.first() == Some(&1));
            ensure(
                shape.multiplier == 1 && plain && one,
                "the channel multiplier, the dilation and the batch of depthwise convolutions are 1",
            )
        }
        _ => Ok(()),
    }
}

/// The window of a convolution, or the rows of a matrix: 1x1.
struct Window {
    width: i32,
    height: i32,
    /// Channels that a window reads.
    channels: i32,
    groups: i32,
    /// Output channels for each input channel of a depthwise convolution.
    multiplier: i32,
}

impl Window {
    fn of(op: Operation<'_>) -> Option<Window> {
        let inputs = *op.operand(0)?.shape.last()?;
        Some(match (op.code, &op.operand(1)?.shape[..]) {
            (B::CONV_2D, &[_, height, width, channels]) if channels > 0 => {
                Window { width, height, channels, groups: inputs / channels, multiplier: 1 }
            }
            (B::DEPTHWISE_CONV_2D, &[_, height, width, outputs]) if inputs > 0 => {
                Window { width, height, channels: inputs, groups: 1, multiplier: outputs / inputs }
            }
            (B::FULLY_CONNECTED, &[_, channels]) => Window { width: 1, height: 1, channels, groups: 1, multiplier: 1 },
            _ => return None,
        })
    }

    /// True for a convolution with a window of one element, and without strides.
    fn is_pointwise(&self, op: &Operation<'_>) -> bool {
        let unit = matches!(&op.op.options, Options::Conv2D(o) if o.stride_w == 1 && o.stride_h == 1);
        (self.width, self.height) == (1, 1) && unit
    }
}

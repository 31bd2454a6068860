//! All devices.

use crate::{Device, onnx, openvino, tflite};

impl Device {
    /// All devices.
    pub const ALL: &'static [&'static Device] = &[
        &tflite::TFLM,
        &tflite::ETHOS_U55,
        &tflite::ETHOS_U65,
        &tflite::ETHOS_U85,
        &tflite::EDGETPU,
        &tflite::XNNPACK,
        &tflite::ESP32S3,
        &tflite::CMSIS_NN,
        &onnx::TENSORRT,
        &onnx::ORT_WEB,
        &onnx::QNN,
        &openvino::NPU,
    ];

    /// The device of that name.
    pub fn named(name: &str) -> Option<&'static Device> {
        Self::ALL.iter().copied().find(|device| device.name == name)
    }
}

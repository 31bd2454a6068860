//! Devices that run TensorFlow Lite models, one in each file.

mod tflm;

pub use tflm::TFLM;

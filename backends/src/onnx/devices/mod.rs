//! Devices that run ONNX models, one in each file.

mod tensorrt;

pub use tensorrt::TENSORRT;

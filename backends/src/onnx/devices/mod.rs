//! Devices that run ONNX models, one in each file.

mod operators;
mod ort_web;
mod qnn;
mod tensorrt;

pub use ort_web::ORT_WEB;
pub use qnn::QNN;
pub use tensorrt::TENSORRT;

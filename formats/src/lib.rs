//! Wire schemas of the model formats qcc reads and writes.

pub mod onnx;
pub mod openvino;
pub mod tflite;

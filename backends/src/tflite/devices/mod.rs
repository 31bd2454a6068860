//! Devices that run TensorFlow Lite models, one in each file.

mod edgetpu;
mod ethos_u;
mod optimized;
mod tflm;
mod xnnpack;

pub use edgetpu::EDGETPU;
pub use ethos_u::{ETHOS_U55, ETHOS_U65, ETHOS_U85};
pub use optimized::{CMSIS_NN, ESP32S3};
pub(super) use tflm::OPERATORS;
pub use tflm::TFLM;
pub use xnnpack::XNNPACK;

//! Tests of the whole compiler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod budgets;
mod cli;
mod diff;
mod examples;
mod files;
mod hostile;
mod house;
mod library;
mod litert;
mod micro;
mod models;
mod names;
mod onnx_nodes;
mod openvino;
mod openvino_models;
mod oracle;
mod ort;
mod runtime;
mod sources;
mod sparse;
mod tflite;
mod tflite_models;
mod validity;

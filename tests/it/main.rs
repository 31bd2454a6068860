//! Tests of the whole compiler. Those that need other programs are behind the feature `oracles`, which `tests/run`
//! enables.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod budgets;
mod cli;
mod corpus;
mod custom;
mod cut;
mod datasets;
mod devices;
mod diff;
mod examine;
mod examples;
mod files;
mod granularity;
mod hostile;
mod house;
mod interfaces;
mod labels;
mod library;
mod litert;
#[cfg(feature = "oracles")]
mod micro;
mod models;
mod names;
mod npu;
#[cfg(feature = "oracles")]
mod onnx_nodes;
mod open_sources;
mod openvino;
mod openvino_models;
mod opset;
#[cfg(feature = "oracles")]
mod oracle;
#[cfg(feature = "oracles")]
mod ort;
mod pages;
mod pareto;
mod processors;
mod programs;
#[cfg(feature = "qnn")]
mod qnn;
mod ranges;
mod reports;
mod rounding;
mod runtime;
#[cfg(feature = "oracles")]
mod sources;
mod sparse;
mod states;
mod statistics;
#[cfg(feature = "oracles")]
mod suites;
mod tensorrt;
mod tflite;
mod tflite_models;
mod tflite_operators;
#[cfg(feature = "oracles")]
mod tflite_sources;
mod usage;
mod validity;
#[cfg(feature = "vela")]
mod vela;
#[cfg(feature = "oracles")]
mod xnnpack;

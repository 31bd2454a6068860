//! LiteRT.

use qcc_backends::{Backend, Form};
use qcc_ir::Store;
use qcc_passes::quantize;

use crate::onnx_nodes::{NODES, SWEEP};
use crate::runtime::Runtime;

pub(crate) const LITERT: Runtime = Runtime {
    name: "LiteRT",
    script: "litert.py",
    backend: Backend::Tflite,
    form: Form::PLAIN,
    store: Store::I8,
    // With XNNPACK, whose arithmetic the evaluator follows, and with the kernels behind it.
    steps: [1, 2],
    dissent: &[],
};

#[test]
fn dynamic_products_run_in_litert() {
    LITERT.dynamic_tests("litert_dynamic", quantize::Weights::Channels, 80.0);
}

#[test]
fn float_node_tests_run_in_litert() {
    insta::assert_snapshot!(LITERT.node_tests(&NODES, "litert_nodes", &|_, _, _| Ok(())));
}

#[test]
fn integer_graphs_run_in_litert() {
    insta::assert_snapshot!(LITERT.integer_tests("litert_int8", &LITERT.integer_cases()));
}

#[test]
fn swept_operators_run_in_litert() {
    insta::assert_snapshot!(LITERT.node_tests(&SWEEP, "litert_sweep", &|_, _, _| Ok(())));
}

#[test]
fn operators_keep_their_meaning_in_litert() {
    insta::assert_snapshot!(LITERT.operator_tests("litert_operators"));
}

#[test]
fn random_float_graphs_run_in_litert() {
    LITERT.random_tests("litert_random", &|_, _, _| Ok(()));
}

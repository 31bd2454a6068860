//! OpenVINO.

use std::fs;
use std::path::Path;

use qcc::{Compiler, NoObserver, Output, Precision};
use qcc_backends::{Format, WriteOptions};
use qcc_ir::StorageType;
#[cfg(feature = "oracles")]
use qcc_passes::quantize;

use crate::models::options;
#[cfg(feature = "oracles")]
use crate::onnx_nodes::{NODES, SWEEP};
use crate::runtime::Runtime;

pub(crate) const OPENVINO: Runtime = Runtime {
    name: "OpenVINO",
    script: "ov.py",
    format: Format::Openvino,
    form: WriteOptions::PLAIN,
    storage: StorageType::U8,
    // With integer kernels, and with float ones between FakeQuantize.
    steps: [1, 1],
    dissent: {
        const MASKED: &str = "OpenVINO takes the largest of numbers that are all -infinity for the smallest finite one";
        const ENDLESS: &str = "OpenVINO has no remainder of an infinite divisor";
        const HALFWAY: &str = "a quotient halfway between two integers";
        const DROPPED: &str = "OpenVINO leaves out a Reshape between a sum and a product, and refuses the product";
        &[
            ("Incompatible MatMul matrix dimension", DROPPED),
            ("test_attention_23_boolmask_fullymasked_row_nan_robustness_expanded", MASKED),
            ("test_attention_23_fullymasked_qk_matmul_output_mode3_zero_expanded", MASKED),
            ("test_attention_24_fullymasked_qk_matmul_output_mode3_zero_expanded", MASKED),
            ("test_attention_24_qk_matmul_output_mode3_softmax_precision_expanded", MASKED),
            ("test_attention_4d_causal_nonpad_negative_offset_structural_empty_expanded", MASKED),
            ("test_attention_4d_causal_padded_kv_bf16_expanded", MASKED),
            ("test_attention_causal_boolmask_nan_robustness_expanded", MASKED),
            ("test_attention_local_window_gqa_rank4_mask_expanded", MASKED),
            ("test_dynamicquantizelinear", HALFWAY),
            ("test_dynamicquantizelinear_expanded", HALFWAY),
            ("test_mod_float_edge_cases_fmod_0_float16", ENDLESS),
            ("test_mod_float_edge_cases_fmod_0_float32", ENDLESS),
            ("test_mod_float_edge_cases_fmod_0_float64", ENDLESS),
        ]
    },
};

#[cfg(feature = "oracles")]
#[test]
fn float_node_tests_run_in_openvino() {
    insta::assert_snapshot!(OPENVINO.node_tests(&NODES, "openvino_nodes", &|_, _, _| Ok(())));
}

#[cfg(feature = "oracles")]
#[test]
fn swept_operators_run_in_openvino() {
    insta::assert_snapshot!(OPENVINO.node_tests(&SWEEP, "openvino_sweep", &|_, _, _| Ok(())));
}

#[cfg(feature = "oracles")]
#[test]
fn operators_keep_their_meaning_in_openvino() {
    insta::assert_snapshot!(OPENVINO.operator_tests("openvino_operators"));
}

#[cfg(feature = "oracles")]
#[test]
fn random_float_graphs_run_in_openvino() {
    OPENVINO.random_tests("openvino_random", &|_, _, _| Ok(()));
}

#[cfg(feature = "oracles")]
#[test]
fn integer_graphs_run_in_openvino() {
    insta::assert_snapshot!(OPENVINO.integer_tests("openvino_int8", &OPENVINO.integer_cases()));
}

/// The bundled classifier as layers.
fn lenet(precision: Precision) -> String {
    let options = options(Format::Openvino, precision, 4);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lenet.xml");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/mnist_lenet.onnx");
    Compiler::new(options).compile(&model, &Output::File(file.clone()), &mut NoObserver).unwrap();
    fs::read_to_string(file).unwrap()
}

#[test]
fn lenet_float() {
    insta::assert_snapshot!(lenet(Precision::Float32));
}

#[test]
fn lenet_half() {
    insta::assert_snapshot!(lenet(Precision::Float16));
}

#[test]
fn lenet_int8() {
    insta::assert_snapshot!(lenet(Precision::Int8));
}

#[cfg(feature = "oracles")]
#[test]
fn dynamic_products_run_in_openvino() {
    OPENVINO.dynamic_tests("openvino_dynamic", quantize::Weights::Channels, 80.0);
    OPENVINO.dynamic_tests("openvino_dynamic_blocks", quantize::Weights::Blocks(32), 80.0);
}

#[cfg(feature = "oracles")]
#[test]
fn tables_and_recurrent_weights_run_in_openvino() {
    OPENVINO.stored_tests("openvino_stored");
}

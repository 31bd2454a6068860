//! ONNX Runtime, and the import of artefacts for it.

use bytes::Bytes;
use qcc_backends::onnx::ORT_WEB;
use qcc_backends::{Format, WriteOptions};
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::{StorageType, Tensor, ValueId};
use qcc_passes::quantize;

use crate::onnx_nodes::{NODES, SWEEP};
use crate::runtime::{CLOSE, Runtime, all_close, evaluate, graphs_of, most_steps};

pub(crate) const ORT: Runtime = Runtime {
    name: "ONNX Runtime",
    script: "ort.py",
    format: Format::Onnx,
    form: WriteOptions::PLAIN,
    storage: StorageType::U8,
    // With its integer operators, and with float ones between QuantizeLinear and DequantizeLinear.
    steps: [1, 2],
    dissent: &[],
};

const QOPERATOR: Runtime = Runtime { form: WriteOptions { qoperator: true, ..WriteOptions::PLAIN }, ..ORT };

/// With 16-bit activations, which it computes in floating point: a difference of a step is one of a later step, too.
const WIDE: Runtime = Runtime { storage: StorageType::I16, steps: [3, 3], ..ORT };

/// The results of the imported artefact. An open extent is declared as 0 there, so extents are given; integer inputs
/// may have another scale there.
fn imported(model: &Bytes, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let all = |d: Vec<Diagnostic>| d.into_iter().map(|d| d.message).collect::<Vec<_>>().join("; ");
    let model = Model::read(model.clone(), "".as_ref()).map_err(all)?;
    let declared = model.inputs().map_err(all)?;
    let shapes =
        declared.into_iter().zip(inputs).map(|(d, t)| (d.name, t.dims().into_iter().map(Some).collect())).collect();
    let options = ImportOptions { shapes, ..ImportOptions::default() };
    let graph = model.import(&options).map_err(all)?.graph;
    let retyped = |(v, t): (ValueId, &Tensor)| t.retype(graph.ty(v).clone()).unwrap_or_else(|| t.clone());
    let inputs: Vec<Tensor> = graph.inputs().zip(inputs).map(retyped).collect();
    evaluate(&graph, &inputs)
}

/// The artefact can be imported and computes the same.
fn returns(model: &Bytes, inputs: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    let again = || all_close(&imported(model, inputs)?, expected, CLOSE);
    again().map_err(|why| format!("imported again: {why}"))
}

#[test]
fn float_node_tests_run_in_onnx_runtime() {
    insta::assert_snapshot!(ORT.node_tests(&NODES, "ort_nodes", &returns));
}

#[test]
fn swept_operators_run_in_onnx_runtime() {
    insta::assert_snapshot!(ORT.node_tests(&SWEEP, "ort_sweep", &returns));
}

#[test]
fn operators_keep_their_meaning_in_onnx_runtime() {
    insta::assert_snapshot!(ORT.operator_tests("ort_operators"));
}

#[test]
fn random_float_graphs_run_in_onnx_runtime() {
    ORT.random_tests("ort_random", &returns);
}

#[test]
fn integer_graphs_run_in_onnx_runtime() {
    let cases = ORT.integer_cases();
    for case in &cases {
        let again = || Ok(most_steps(&imported(&case.model, &case.inputs)?, &evaluate(&case.graph, &case.inputs)?));
        let steps: Result<i64, String> = again();
        assert!(steps.as_ref().is_ok_and(|&steps| steps <= 2), "{} imported again: {steps:?}", case.graph.name);
    }
    insta::assert_snapshot!(ORT.integer_tests("ort_int8", &cases));
}

#[test]
fn integer_graphs_of_16_bits_run_in_onnx_runtime() {
    insta::assert_snapshot!(WIDE.integer_tests("ort_int16", &WIDE.integer_cases()));
}

#[test]
fn integer_operators_run_in_onnx_runtime() {
    insta::assert_snapshot!(QOPERATOR.integer_tests("ort_qoperator", &QOPERATOR.integer_cases()));
}

/// Models for its build for browsers are those for CPUs, but for dilated means.
#[test]
fn models_for_the_web_are_those_for_onnx_runtime() {
    let web = ORT.on(&ORT_WEB);
    for graph in graphs_of(include_str!("../cases/int8.qir")) {
        let (own, plain) = (web.integer(graph.clone()).unwrap(), ORT.integer(graph).unwrap());
        assert!(own.model == plain.model, "{}", own.name);
    }
    let text = "graph g { %x: f32[1,2,9,9] = input
        %y = pool(f:Average,window:[2,2],stride:[1,1],before:[1,1],after:[0,0],dilation:[2,2]) %x
        output y = %y\n}\n";
    let kinds = |runtime: &Runtime| {
        let g = runtime.lowered(graphs_of(text).remove(0)).unwrap();
        g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Pool(op) if op.dilation[0] == 2)).count()
    };
    assert_eq!((kinds(&ORT), kinds(&web)), (1, 0));
}

#[test]
fn weights_in_blocks_run_in_onnx_runtime() {
    ORT.block_tests("ort_blocks", 80.0);
}

#[test]
fn dynamic_products_run_in_onnx_runtime() {
    ORT.dynamic_tests("ort_dynamic", quantize::Weights::Channels, 80.0);
    ORT.dynamic_tests("ort_dynamic_blocks", quantize::Weights::Blocks(16), 80.0);
}

#[test]
fn tables_and_recurrent_weights_run_in_onnx_runtime() {
    ORT.stored_tests("ort_stored");
}

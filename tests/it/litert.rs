//! LiteRT.

use qcc_backends::{Format, WriteOptions};
use qcc_ir::text::{Weights, parse};
use qcc_ir::{Checked, StorageType};
#[cfg(feature = "oracles")]
use qcc_passes::quantize;

#[cfg(feature = "oracles")]
use crate::onnx_nodes::{NODES, SWEEP};
use crate::runtime::Runtime;

pub(crate) const LITERT: Runtime = Runtime {
    name: "LiteRT",
    script: "litert.py",
    format: Format::Tflite,
    form: WriteOptions::PLAIN,
    storage: StorageType::I8,
    // With XNNPACK, whose arithmetic the evaluator follows, and with the built-in kernels.
    steps: [1, 2],
    dissent: &[],
};

/// The same with 16-bit activations, which XNNPACK does not take: within a step, but for the tables of TANH and SOFTMAX.
#[cfg(feature = "oracles")]
const WIDE: Runtime = Runtime { storage: StorageType::I16, steps: [2, 2], ..LITERT };

/// A lowered graph without layouts is refused instead of written to a file that LiteRT refuses.
#[test]
fn graphs_that_are_not_laid_out_are_not_written() {
    let weight: Vec<String> = (0..24).map(|i| i.to_string()).collect();
    let text = format!(
        "graph g {{
          %x: f32[1,2,4,4] = input
          %w: f32[3,2,2,2] = const [{}]
          %y = conv(stride:[2,2],before:[1,1],after:[1,1],dilation:[1,1],groups:1) %x, %w from features.0 (Conv)
          output y = %y
        }}",
        weight.join(",")
    );
    let mut g = LITERT.lowered(parse(&text, &Weights::new()).unwrap()).unwrap();
    let [error] = Checked::new(&g, Format::Tflite.target()).unwrap_err().try_into().unwrap();
    assert_eq!(error.message, "tflite takes conv in another layout: f32[1,3,3,3] is not @0231");
    assert_eq!((error.code, error.origin.path()), ("layout", "features.0"));
    assert_eq!(error.help.as_deref(), Some("lay the graph out for the target before it is written"));
    assert!(LITERT.written(&mut g).is_ok());
    assert!(Checked::new(&g, Format::Tflite.target()).is_ok());
}

#[cfg(feature = "oracles")]
#[test]
fn dynamic_products_run_in_litert() {
    LITERT.dynamic_tests("litert_dynamic", quantize::Weights::Channels, 80.0);
    LITERT.dynamic_tests("litert_dynamic_blocks", quantize::Weights::Blocks(32), 80.0);
}

#[cfg(feature = "oracles")]
#[test]
fn tables_and_recurrent_weights_run_in_litert() {
    LITERT.stored_tests("litert_stored");
}

#[cfg(feature = "oracles")]
#[test]
fn float_node_tests_run_in_litert() {
    insta::assert_snapshot!(LITERT.node_tests(&NODES, "litert_nodes", &|_, _, _| Ok(())));
}

#[cfg(feature = "oracles")]
#[test]
fn integer_graphs_run_in_litert() {
    insta::assert_snapshot!(LITERT.integer_tests("litert_int8", &LITERT.integer_cases()));
}

#[cfg(feature = "oracles")]
#[test]
fn integer_graphs_of_16_bits_run_in_litert() {
    insta::assert_snapshot!(WIDE.integer_tests("litert_int16", &WIDE.integer_cases()));
}

#[cfg(feature = "oracles")]
#[test]
fn swept_operators_run_in_litert() {
    insta::assert_snapshot!(LITERT.node_tests(&SWEEP, "litert_sweep", &|_, _, _| Ok(())));
}

#[cfg(feature = "oracles")]
#[test]
fn operators_keep_their_meaning_in_litert() {
    insta::assert_snapshot!(LITERT.operator_tests("litert_operators"));
}

#[cfg(feature = "oracles")]
#[test]
fn random_float_graphs_run_in_litert() {
    LITERT.random_tests("litert_random", &|_, _, _| Ok(()));
}

//! What is fed with bytes, and what must hold whatever they are.
//!
//! A target never panics, takes little time and memory, and refuses with messages that tell no internal error.

use qcc_ir::diagnostic::Diagnostic;

mod data;
mod graph;
mod model;
pub mod seeds;
mod text;

/// One kind of input.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("onnx", model::onnx),
    ("tflite", model::tflite),
    ("openvino", model::openvino),
    ("pt2", model::pt2),
    ("program", model::program),
    ("pickle", model::pickle),
    ("text", text::text),
    ("literal", text::literal),
    ("yaml", data::yaml),
    ("array", data::array),
    ("picture", data::picture),
    ("graph", graph::graph),
];

/// Fails where a refusal is a fault of qcc's own, or tells nothing.
fn refused(all: &[Diagnostic]) {
    assert!(!all.is_empty(), "a refusal without a reason");
    for d in all {
        let text = format!("{} {:?}", d.message, d.notes);
        assert!(d.code != "internal" && !text.contains("internal error"), "{text}");
    }
}

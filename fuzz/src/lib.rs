//! Fuzz targets and the properties that must hold for any input.
//!
//! A target never panics, needs little time and memory, and refuses inputs with messages that are not internal errors.

use qcc_ir::diagnostic::Diagnostic;

mod data;
mod graph;
mod model;
pub mod seeds;
mod text;

/// A fuzz target.
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

/// Fails if a refusal is an internal error or has no message.
fn refused(all: &[Diagnostic]) {
    assert!(!all.is_empty(), "a refusal without a reason");
    for d in all {
        let text = format!("{} {:?}", d.message, d.notes);
        assert!(d.code != "internal" && !text.contains("internal error"), "{text}");
    }
}

//! The operator table: one row for each operator of the standard domain, and of `com.microsoft` if ONNX Runtime's
//! quantizer or optimizer writes it. The files have the names of the graph's operator families.

use std::sync::LazyLock;

use qcc_formats::onnx::NodeProto;
use qcc_ir::ValueId;
use rustc_hash::FxHashMap;

use super::is_standard;
use super::node::{Import, NodeCx};
use crate::build::Values;
use crate::refusal::Refusal;

mod attention;
mod blocks;
mod boxes;
mod columns;
mod control;
mod conv;
mod coupling;
mod deform;
mod elementwise;
mod ensemble;
mod fused;
mod fused_attention;
mod grouped_attention;
mod index;
mod linear;
mod matmul;
mod movement;
mod norm;
mod pool;
mod quantized;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod rotary;
mod sequence;
mod signal;
mod source;
mod support;
mod trees;
mod unpool;
mod window;

/// An operator name, with its domain unless it is the standard one, and its import function.
type Row = (&'static str, Import);

const FAMILIES: [&[Row]; 30] = [
    attention::ROWS,
    blocks::ROWS,
    boxes::ROWS,
    columns::ROWS,
    control::ROWS,
    conv::ROWS,
    deform::ROWS,
    elementwise::ROWS,
    ensemble::ROWS,
    fused::ROWS,
    fused_attention::ROWS,
    grouped_attention::ROWS,
    index::ROWS,
    linear::ROWS,
    matmul::ROWS,
    movement::ROWS,
    norm::ROWS,
    pool::ROWS,
    quantized::ROWS,
    random::ROWS,
    recurrent::ROWS,
    reduce::ROWS,
    resize::ROWS,
    rotary::ROWS,
    sequence::ROWS,
    signal::ROWS,
    source::ROWS,
    support::ROWS,
    trees::ROWS,
    unpool::ROWS,
];

static TABLE: LazyLock<FxHashMap<&str, Import>> = LazyLock::new(|| FAMILIES.into_iter().flatten().copied().collect());

/// The names of the supported operators, sorted.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<&str> = FAMILIES.into_iter().flatten().map(|row| row.0).collect();
    names.sort_unstable();
    names
}

/// The row of a node's operator.
pub(super) fn find(node: &NodeProto) -> Result<Import, Refusal> {
    let (domain, name) = (node.domain(), node.op_type());
    if !matches!(domain, "" | "ai.onnx") {
        let name = format!("{domain}.{name}");
        let row = TABLE.get(name.as_str()).copied();
        return row.ok_or(Refusal::Operator { name, help: foreign(domain) });
    }
    standard(name)
}

/// True for a custom operator: one of another operator set that no row imports. The internal operator sets of ONNX
/// Runtime's layout optimizer are excluded.
pub(super) fn is_custom(node: &NodeProto) -> bool {
    let inside = matches!(node.domain(), "com.ms.internal.nhwc" | "com.microsoft.nchwc");
    !is_standard(node.domain()) && !inside && node.overload().is_empty() && find(node).is_err()
}

/// True if a row accepts quantized values: it handles them itself, or passes values on.
pub(super) fn takes_quantized(node: &NodeProto) -> bool {
    is_of(&[control::ROWS, quantized::ROWS, sequence::ROWS], node) || is_custom(node)
}

/// True if a row accepts sequences.
pub(super) fn takes_sequences(node: &NodeProto) -> bool {
    is_of(&[control::ROWS, sequence::ROWS], node) || is_standard(node.domain()) && node.op_type() == "Identity"
}

/// True if one of these families has the row of a node.
fn is_of(families: &[&[Row]], node: &NodeProto) -> bool {
    let name = match node.domain() {
        "" | "ai.onnx" => node.op_type().to_owned(),
        domain => format!("{domain}.{}", node.op_type()),
    };
    families.iter().copied().flatten().any(|row| row.0 == name)
}

/// True if an attribute defines the element type of the results.
pub(super) fn names_elements(node: &NodeProto) -> bool {
    matches!(node.op_type(), "Cast" | "CastLike") || takes_quantized(node)
}

/// The row of a standard operator.
fn standard(name: &str) -> Result<Import, Refusal> {
    let unknown = || Refusal::Operator { name: name.into(), help: advice(name) };
    TABLE.get(name).copied().ok_or_else(unknown)
}

impl NodeCx<'_, '_> {
    /// Applies the row of a standard operator to this node.
    fn row(&mut self, op: &str) -> Result<Values, Refusal> {
        standard(op)?(self)
    }

    /// Applies the row of a standard operator to this node's attributes and other inputs.
    fn with_inputs(&mut self, inputs: &[Option<ValueId>], op: &str) -> Result<Values, Refusal> {
        self.with_row(inputs, standard(op)?)
    }
}

/// The help for an unsupported operator of another operator set.
pub(super) fn foreign(domain: &str) -> Option<&'static str> {
    match domain {
        "com.microsoft" | "com.ms.internal.nhwc" | "com.microsoft.nchwc" => {
            Some("it comes from ONNX Runtime's optimizer; give the model as it was exported, before that")
        }
        "ai.onnx.ml" => Some("of classical machine learning, models of numbers are supported; not those of text"),
        _ => None,
    }
}

fn advice(name: &str) -> Option<&'static str> {
    match name {
        "NonMaxSuppression" => Some("export the model without post-processing"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_operator_has_one_row() {
        assert!(super::supported().windows(2).all(|w| w[0] < w[1]));
    }
}

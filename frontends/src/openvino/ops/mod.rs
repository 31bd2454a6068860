//! The operation table: one row for each type of layer. The files have the names of the graph's operator families.

use std::sync::LazyLock;

use qcc_formats::openvino::Node;
use rustc_hash::FxHashMap;

use super::node::NodeCx;
use super::types::{ASSIGN, READ_VALUE};
use crate::build::Values;
use crate::refusal::Refusal;

mod boxes;
mod control;
mod conv;
mod elementwise;
mod index;
mod movement;
mod norm;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod resize;

/// Imports one layer.
pub(super) type Import = fn(&mut NodeCx<'_, '_>) -> Result<Values, Refusal>;

/// A type of layer and its import function.
type Row = (&'static str, Import);

const FAMILIES: [&[Row]; 12] = [
    boxes::ROWS,
    control::ROWS,
    conv::ROWS,
    elementwise::ROWS,
    quantize::ROWS,
    index::ROWS,
    movement::ROWS,
    norm::ROWS,
    pool::ROWS,
    recurrent::ROWS,
    reduce::ROWS,
    resize::ROWS,
];

static TABLE: LazyLock<FxHashMap<&str, Import>> = LazyLock::new(|| FAMILIES.into_iter().flatten().copied().collect());

/// The names of the supported operations, sorted.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<&str> = FAMILIES.into_iter().flatten().map(|row| row.0).collect();
    names.sort_unstable();
    names
}

/// The row of a layer. Operation sets in which an operation differs are distinguished by its attributes.
pub(super) fn find(layer: &Node) -> Result<Import, Refusal> {
    let kind = layer.kind.as_str();
    let standard = layer.opset.starts_with("opset");
    let name = if standard { kind.to_owned() } else { format!("{kind} ({})", layer.opset) };
    let unknown = || Refusal::Operator { name, help: advice(kind) };
    TABLE.get(kind).copied().filter(|_| standard).ok_or_else(unknown)
}

fn advice(kind: &str) -> Option<&'static str> {
    match kind {
        "DetectionOutput" | "PriorBox" | "PriorBoxClustered" | "Proposal" => {
            Some("convert the model without post-processing")
        }
        READ_VALUE | ASSIGN => Some("convert the model without state in loops and branches"),
        _ => Some("write it with other operations, or give the model that it was converted from"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_operation_has_one_row() {
        assert!(super::supported().windows(2).all(|w| w[0] < w[1]));
    }
}

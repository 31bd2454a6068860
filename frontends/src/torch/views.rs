//! Views: writes through one name are visible through all names that share its memory.

use qcc_ir::ValueId;

use super::schema::{Node, TensorMeta};
use super::storage::row_major;
use super::symbols::Symbols;
use crate::refusal::Refusal;

/// A view of another name.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'m> {
    /// The base name.
    pub(super) of: &'m str,
    /// Number of views between it and the base of all.
    pub(super) depth: usize,
    /// The base's value when this view was created.
    pub(super) seen: ValueId,
    pub(super) how: How<'m>,
}

/// Maximum depth of views of views: reading one evaluates all.
pub(super) const DEEPEST: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) enum How<'m> {
    /// All of it, unchanged.
    Same,
    /// This result of the node.
    Part(&'m Node, usize),
    /// The node may have copied it or not.
    Unknown,
}

/// How result `index` of a node is a view of its first operand, whose declared type is given; `None` if it is a copy.
/// `same_type` tells whether the result has the operand's element type.
pub(super) fn how<'m>(node: &'m Node, index: usize, shown: Option<&TensorMeta>, same_type: bool) -> Option<How<'m>> {
    let contiguous = shown.and_then(|meta| {
        let none = Symbols::new();
        let known = |sizes: &[super::schema::Size]| -> Option<Vec<usize>> {
            sizes.iter().map(|s| usize::try_from(s.value(&none)?).ok()).collect()
        };
        Some(row_major(&known(&meta.sizes)?, &known(&meta.strides)?))
    });
    match (node.operator(), contiguous) {
        ("contiguous", Some(true)) => Some(How::Same),
        ("contiguous", Some(false)) => None,
        ("to" | "type_as", _) if !same_type => None,
        ("contiguous" | "to" | "type_as", _) => Some(How::Unknown),
        ("reshape" | "reshape_as" | "flatten" | "ravel", Some(false) | None) => Some(How::Unknown),
        _ => Some(How::Part(node, index)),
    }
}

/// The error for a name that may or may not have been changed through another one.
pub(super) fn unknown(name: &str) -> Refusal {
    Refusal::Unsupported(format!(
        "whether {name} is a copy depends on how PyTorch laid out its operand, and one of them is changed in place; \
         use the out-of-place operator"
    ))
}

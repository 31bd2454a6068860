//! Names that show the memory of another: what is written through one is seen through all.

use qcc_ir::ValueId;

use super::schema::{Node, TensorMeta};
use super::storage::row_major;
use super::symbols::Symbols;
use crate::refusal::Refusal;

/// How a name shows the memory of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'m> {
    /// The other name.
    pub(super) of: &'m str,
    /// How many views lie between it and what shows nothing else.
    pub(super) depth: usize,
    /// The other's value when this one's was made.
    pub(super) seen: ValueId,
    pub(super) how: How<'m>,
}

/// Views of views of views are refused beyond this: reading one goes through all.
pub(super) const DEEPEST: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) enum How<'m> {
    /// All of it, as it is.
    Same,
    /// As this result of the node.
    Part(&'m Node, usize),
    /// The node may have copied it or not.
    Unknown,
}

/// How result `index` of a node shows its first operand, whose declared type is given; none where it is a copy.
/// `same_type` says whether the result has the operand's element.
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

/// The refusal of a name that may or may not have been changed through another.
pub(super) fn unknown(name: &str) -> Refusal {
    Refusal::Unsupported(format!(
        "whether {name} is a copy depends on how PyTorch laid out its operand, and one of them is changed in place; \
         use the operator that is not in place"
    ))
}

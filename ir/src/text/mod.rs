//! The text form of graphs, for people and tools.
//!
//! ```text
//! graph tiny {
//!   meta author = "somebody"
//!   %x: f32[N,3,224,224] = input
//!   %w: i8<axis 0: 0.1,0.2>[2,3,1,1] = const [1,2,3,4,5,6]
//!   %0: f32[2,3,1,1] = dequantize %w
//!   // a comment
//!   %conv: f32[N,2,224,224] = conv(stride:[1,1],..) %x, %0 from features.0 (Conv) at "net.py:41"
//!   output y = %conv
//! }
//! ```
//!
//! - One node on each line: its results with their types, the operator with its attributes in RON, its operands, and
//!   after `from` the source nodes that it implements. Nodes that were made together in place of one operator have that
//!   operator after `for`, with a number that they share. A value is defined before its users.
//! - `%conv` is a value that has a name in the source model, `%0` one without a name. Where names are not unique, a
//!   value has a number followed by its name: `%3 "conv"`. Names that are not a plain word are in quotes: `%"odd
//!   name"`.
//! - A quantized element type has its parameters in angle brackets: `i8<0.5:-3>` (per tensor: scale and zero point),
//!   `i8<axis 0: 0.1,0.2>` (per channel: a scale for each index of an axis), `i4<axis 1 by 32: 0.1,0.2>` (per block: a
//!   scale for each 32 indices).
//! - A type is the element type, the logical shape and, where it is not row-major, the layout: `@0231` has axis 0
//!   outermost and axis 1 innermost. A result without a type gets the inferred one.
//! - A constant is a list of its stored elements in stored order, or the digest of its bytes ([`Weights`] has the
//!   bytes).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::graph::Graph;
use crate::ops::{self, Op, OpKind};

pub mod file;
mod parse;
mod print;

pub use parse::{ParseError, parse};
pub use print::{ids, print_brief, print_full, print_whole};

/// The bytes of constants by their digest.
pub type Weights = BTreeMap<u64, Bytes>;

/// The bytes of every constant of a graph.
pub fn weights_of(g: &Graph) -> Weights {
    let constants = g.order().into_iter().filter_map(|n| g.constant(n.value(0)));
    constants.map(|t| (digest(t.data()), t.data().clone())).collect()
}

/// FNV-1a, 64 bits.
pub fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

macro_rules! attributes {
    ($($op:ident)*) => {
        /// The attributes of an operator in RON.
        fn attributes(op: &Op) -> ron::Result<String> {
            match op { $(Op::$op(op) => ron::to_string(op)),* }
        }

        /// The operator of a kind with the attributes that `text` spells.
        fn operator(kind: OpKind, text: &str) -> ron::error::SpannedResult<Op> {
            match kind { $(OpKind::$op => ron::from_str::<ops::$op>(text).map(Op::from)),* }
        }
    };
}
crate::for_each_op!(attributes);

/// The names and values of an operator's attributes, as in the text form. An attribute without a name is called
/// `value`.
pub fn fields(op: &Op) -> Vec<(String, String)> {
    let text = attributes(op).unwrap_or_default();
    let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else {
        return vec![("value".into(), text)];
    };
    let (mut depth, mut start, mut quoted, mut fields) = (0usize, 0, false, Vec::new());
    let mut chars = inner.char_indices().chain([(inner.len(), ',')]);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => _ = chars.next(),
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                fields.extend(inner[start..at].split_once(':').map(|(name, value)| (name.into(), value.into())));
                start = at + 1;
            }
            _ => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests;

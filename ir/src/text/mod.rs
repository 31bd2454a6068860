//! The text form: graphs that people read and tools parse.
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
//! - One node a line: its results with their types, the operator with its attributes in RON, its operands, and after
//!   `from` the source nodes it stands for; where it was made in place of an operator together with others, that follows
//!   behind `for`, with a number that they share. Operands stand before their users.
//! - `%conv` is a value the source model names, `%0` one without a name. Where names repeat, a value has a number and
//!   its name behind it: `%3 "conv"`. Names that are no plain word stand in quotes: `%"odd name"`.
//! - An element on a grid has its scales in angles: `i8<0.5:-3>` (one scale and the zero point), `i8<axis 0: 0.1,0.2>`
//!   (one for each index of an axis), `i4<axis 1 by 32: 0.1,0.2>` (one for each run of 32 indices).
//! - A type is element, logical shape and, where it is not row-major, layout: `@0231` has axis 0 outermost and axis 1
//!   innermost. A result without a type gets the inferred one.
//! - A constant is a list of its stored elements in stored order, or the digest of its bytes ([`Weights`] holds them).

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::graph::Graph;
use crate::ops::{self, Op, OpKind};

pub mod file;
mod parse;
mod print;

pub use parse::{ParseError, parse};
pub use print::{ids, print_brief, print_full};

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

/// The attributes of an operator, each by its name, as the text form spells them. One that stands for all of them is
/// called `value`.
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

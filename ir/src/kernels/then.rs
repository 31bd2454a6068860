//! Element-wise functions of the results of products, which are applied while these are in the cache.

use super::elementwise::unary_f32;
use super::vector::{clamp, gelu, hard_swish, leaky_relu, replace, sigmoid, silu, tanh};
use crate::ops::{Op, UnaryFn};

/// A function of each element of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    Unary(UnaryFn),
    /// The element times a function of it.
    Gate(UnaryFn),
    Clamp {
        lo: f32,
        hi: f32,
    },
}

impl Then {
    /// The function that an operator with one operand is.
    pub(crate) fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Unary(op) => Some(Then::Unary(op.f)),
            Op::Clamp(op) => Some(Then::Clamp { lo: op.lo, hi: op.hi }),
            _ => None,
        }
    }

    /// Replaces all elements.
    pub(crate) fn apply(self, x: &mut [f32]) {
        match self {
            Then::Clamp { lo, hi } => replace(x, |v| clamp(v, lo, hi)),
            Then::Unary(UnaryFn::Sigmoid) => replace(x, sigmoid),
            Then::Unary(UnaryFn::Silu) => replace(x, silu),
            Then::Unary(UnaryFn::HardSwish) => replace(x, hard_swish),
            Then::Unary(UnaryFn::Gelu { tanh: false }) => replace(x, gelu),
            Then::Unary(UnaryFn::LeakyRelu { alpha }) => replace(x, |v| leaky_relu(v, alpha)),
            Then::Unary(UnaryFn::Tanh) => replace(x, tanh),
            Then::Gate(UnaryFn::Sigmoid) => replace(x, |v| v * sigmoid(v)),
            Then::Unary(f) => x.copy_from_slice(&unary_f32(f, x)),
            Then::Gate(f) => {
                let factors = unary_f32(f, x);
                x.iter_mut().zip(factors).for_each(|(v, factor)| *v *= factor);
            }
        }
    }
}

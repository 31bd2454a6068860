//! The commands.

mod compare;
mod compile;
mod inspect;
mod ops;

pub(crate) use compare::compare;
pub(crate) use compile::compile;
pub(crate) use inspect::{diff, inspect};
pub(crate) use ops::ops;

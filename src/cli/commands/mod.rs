//! The commands.

mod calibrate;
mod compare;
mod compile;
mod completions;
mod inspect;
mod ops;
mod opt;
mod passes;
mod report;
mod standard_output;

pub(crate) use calibrate::{calibrate, merge};
pub(crate) use compare::{compare, settings, unmet};
pub use compile::Compilation;
pub(crate) use compile::compile;
pub(crate) use completions::completions;
pub(crate) use inspect::{contents, diff, inspect};
pub(crate) use ops::ops;
pub(crate) use opt::opt;
pub(crate) use passes::passes;
pub(crate) use report::{report, request};

//! Simplification: the same function by fewer and more telling operators.
//!
//! Rules do no arithmetic on constants. They write it down as nodes between constants, which `fold` then computes with
//! the evaluator, so that a number has one definition.

use crate::{Pass, Rule, Rules};

mod activation;
mod affine;
mod algebra;
mod clamp;
mod common;
mod dynamic;
mod fold;
mod identity;
mod norm;
mod pad;
mod reshape;
mod slice;
mod transpose;

#[cfg(test)]
pub(crate) mod tests;

/// Rules that are sound before and after lowering: none makes an operator that was not there, nor gives one attributes
/// that a target may lack (pads, say).
const TIDY: &[&[Rule]] = &[
    fold::RULES,
    identity::RULES,
    common::RULES,
    reshape::RULES,
    transpose::RULES,
    slice::RULES,
    clamp::MERGE,
    algebra::NORMAL,
    algebra::MERGE,
    affine::RULES,
];

/// The recognition of functions that exporters spell out, and what shows them. It comes before [`TIDY`], which would
/// draw a function's factors into other constants and weights.
const RECOGNISE: &[&[Rule]] = &[
    fold::RULES,
    identity::RULES,
    common::RULES,
    reshape::RULES,
    dynamic::RULES,
    clamp::RECOGNISE,
    clamp::MERGE,
    algebra::RECOGNISE,
    algebra::NORMAL,
    activation::RULES,
    norm::RULES,
];

/// Both.
const ALL: &[&[Rule]] = &[
    fold::RULES,
    identity::RULES,
    common::RULES,
    reshape::RULES,
    transpose::RULES,
    slice::RULES,
    clamp::RECOGNISE,
    clamp::MERGE,
    algebra::RECOGNISE,
    algebra::NORMAL,
    algebra::MERGE,
    activation::RULES,
    norm::RULES,
    affine::RULES,
    pad::RULES,
];

/// Simplifies an imported graph, before it is lowered to a target.
pub(crate) fn simplify() -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Rules::new("recognise", RECOGNISE)),
        Box::new(Rules::new("simplify", ALL)),
        Box::new(common::ShareConstants),
    ]
}

/// Clears up after passes that leave constants to fold and operators that do nothing. It makes no operator that a
/// target may lack.
pub(crate) fn tidy() -> Vec<Box<dyn Pass>> {
    vec![Box::new(Rules::new("tidy", TIDY)), Box::new(common::ShareConstants)]
}

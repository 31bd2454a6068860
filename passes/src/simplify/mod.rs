//! Simplification: the same function with fewer operators of a higher level.
//!
//! Rules do no arithmetic on constants. They add nodes with constant operands, which `fold` evaluates, so that each
//! operator is defined once.

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

/// Rules that are valid before and after lowering: none adds an operator or an attribute that a target may not support,
/// such as padding.
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

/// Rules that recognize functions of several operators, and rules that help them. They run before [`TIDY`], which would
/// fold parts of these functions into other constants and weights.
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

/// Both lists.
const ALL: &[&[Rule]] = &[
    fold::RULES,
    identity::RULES,
    common::RULES,
    reshape::RULES,
    transpose::RULES,
    slice::RULES,
    slice::MERGE,
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

/// Folds constants and removes operators without effect after other passes. It adds no operator that a target may not
/// support.
pub(crate) fn tidy() -> Vec<Box<dyn Pass>> {
    vec![Box::new(Rules::new("tidy", TIDY)), Box::new(common::ShareConstants)]
}

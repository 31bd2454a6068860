//! Passes over the typed graph: simplification, lowering to a target, layout, calibration and quantization.
//!
//! A [`Pass`] transforms a graph. A [`Pipeline`] is the list of all passes, in stages, and verifies the graph after
//! each pass. A [`Rule`] is a local rewrite that starts at one node. [`Rules`] is the pass that applies a list of rules
//! until none applies.

mod activation;
mod axes;
mod bodies;
pub mod calibrate;
mod check;
mod custom;
pub mod decisions;
mod device_interface;
pub mod identity;
pub mod layout;
mod lower;
pub mod open_batch;
mod pass;
pub mod pattern;
mod pipeline;
pub mod precision;
pub mod quality;
pub mod quantize;
mod rewrites;
mod rounding;
mod rules;
mod scaling;
mod sets;
mod shared_graph;
mod simplify;
#[cfg(test)]
mod testing;

pub use check::{CheckError, check_meaning};
pub use pass::{Context, Given, Pass, PassError, SourceFacts};
pub use pipeline::{Numbers, PassId, Pipeline, Settings, Stage, UnknownPass, ignore};
pub use rewrites::{Rewrites, Skip};
pub use rules::{Rewrite, Rule, Rules};
pub use shared_graph::SharedGraph;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

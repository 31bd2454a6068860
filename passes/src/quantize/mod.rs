//! Quantization: real numbers go onto grids.
//!
//! `candidates` finds which nodes may work on integers, and why others may not; `plan` decides which do, `parameters` which grid each value has, `build` writes the graph
//! anew with those types and with `Quantize` and `Dequantize` at the borders. A graph that comes with grids and borders
//! goes another way: `spell` gives all operators real operands between borders, `complete` adds what borders are missing,
//! and `import_qdq` draws what lies between them onto the grids.

use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, StorageType, ValueId};
use rustc_hash::FxHashSet;

use crate::calibrate::CalibrationTable;
use crate::decisions::Decision;
use crate::pass::{Given, PassError};

mod build;
mod candidates;
mod complete;
mod decide;
mod import_qdq;
mod kernels;
mod parameters;
mod passes;
mod plan;
mod qparams;
mod spell;
#[cfg(test)]
mod tests;
mod weights;

pub use candidates::{matches, unmatched};
pub use complete::{complete, lacks_qparams};
pub use import_qdq::{import_qdq, is_quantized};
pub use passes::{CompleteQdq, ImportQdq, Quantize, SpellQdq};
pub use plan::may_be_dynamic;
pub use spell::spell;

/// What the graph's own inputs and outputs hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// Real numbers; `Quantize` and `Dequantize` are part of the graph.
    #[default]
    Float,
    /// 16-bit floats, in a graph that computes with those.
    Half,
    /// Numbers on a grid with this storage.
    Quantized(StorageType),
}

/// What weights become beside real activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// 8 bits, with one scale for each output channel.
    #[default]
    Channels,
    /// Constant matrices of products: 4 bits, with one scale for each run of so many of the indices that are summed up,
    /// where the target takes it. All other weights: as [`Weights::Channels`].
    Blocks(usize),
}

/// Contractions of real activations with weights on a grid, in a graph of integers whose target quantizes such activations
/// when the model runs. Runtimes for microcontrollers and many accelerators have no kernels for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dynamic {
    /// None: what cannot be an integer contraction is one of real numbers.
    Never,
    /// Where a grid would leave too little of what is read or computed.
    Needed,
    /// There, and where a contraction is the last of the model: its results are not rounded.
    #[default]
    AtEnds,
}

/// How to quantize.
#[derive(Clone, Debug)]
pub struct Options {
    /// Put activations on grids too, not the weights alone.
    pub activations: bool,
    /// What weights become beside activations that stay real.
    pub weights: Weights,
    /// What inputs and outputs hold.
    pub interface: Interface,
    /// Beside activations on grids: where contractions may have real activations and a weight on a grid.
    pub dynamic: Dynamic,
    /// Nodes whose name matches one of these patterns stay real; `*` stands for any characters.
    pub exclude: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            activations: true,
            weights: Weights::default(),
            interface: Interface::Float,
            dynamic: Dynamic::default(),
            exclude: Vec::new(),
        }
    }
}

impl Given {
    /// What `g` brings.
    pub fn by(g: &Graph) -> Self {
        match is_quantized(g) {
            false => Given::Nothing,
            true if lacks_qparams(g) => Given::Some,
            true => Given::All,
        }
    }
}

/// A graph on grids and what became of the values of the float graph.
#[derive(Debug)]
pub struct Quantized {
    /// The graph.
    pub graph: Graph,
    /// Each value of the float graph that a node computes, and the value that took its place.
    pub values: Vec<(ValueId, ValueId)>,
    /// Contractions of the float graph, beside activations in floating point, for most of whose inputs the rounded weights are
    /// mostly noise.
    pub lost_inputs: Vec<NodeId>,
    /// What each node of the float graph computes with now, and why.
    pub decisions: Vec<Decision>,
}

/// The graph on grids. `ranges` comes from the same graph; where only weights are quantized it may be empty.
///
/// # Errors
/// Where a node cannot be made, with its name, or a fault of the pass leaves a graph that does not verify.
pub fn quantize(
    g: &Graph,
    target: &Target,
    ranges: &CalibrationTable,
    options: &Options,
) -> Result<Quantized, PassError> {
    let mut plan = plan::plan(g, target, ranges, options, &FxHashSet::default());
    let qparams = parameters_of(g, target, options, &mut plan);
    let mut quantized = build::build(g, target, options, ranges, &plan, &qparams)?;
    quantized.decisions = decide::decisions(g, &plan, &quantized);
    quantized.graph.verify().map_err(|error| PassError::Verify { pass: "quantize", error })?;
    Ok(quantized)
}

/// The grids of what the plan has on integers. Nodes that nothing would be left of there are taken off it.
fn parameters_of(g: &Graph, target: &Target, options: &Options, plan: &mut plan::Plan) -> parameters::Parameters {
    loop {
        let qparams = parameters::assign(g, target, plan);
        let vetoes = candidates::resolution::vetoes(g, plan.integers(), |v| qparams.of(v));
        if vetoes.is_empty() {
            return qparams;
        }
        plan.release(g, target, options.dynamic, &vetoes);
    }
}

//! Post-training quantization of float graphs, and the import of graphs that are already quantized.
//!
//! - Float graphs: `candidates` finds the nodes that may be quantized and why others may not, `plan` decides which are,
//!   `parameters` assigns scales and zero points, and `build` writes the quantized graph with `Quantize` and
//!   `Dequantize` at the boundaries.
//! - Quantized graphs: `spell` rewrites quantized operators as float operators between Q/DQ nodes, `complete` adds
//!   missing `Quantize` and `Dequantize` pairs from calibration, and `import_qdq` fuses Q/DQ pairs into quantized
//!   nodes.

use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, StorageType, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::calibrate::CalibrationTable;
use crate::decisions::Decision;
use crate::pass::PassError;

mod alone;
mod biases;
mod build;
mod candidates;
mod compensate;
mod complete;
mod decide;
mod given;
mod import_qdq;
mod kernels;
mod parameters;
mod passes;
mod plan;
mod qparams;
#[cfg(test)]
mod recurrent_tests;
mod smooth;
mod spell;
#[cfg(test)]
mod tests;
mod units;
mod weights;

pub use crate::scaling::Scaled;
pub use alone::{Rounded, rounded_alone};
pub use biases::with_measured_biases;
pub use candidates::{matches, unmatched};
pub use complete::{complete, lacks_qparams};
pub use given::dequantize_weights;
pub use import_qdq::{import_qdq, is_quantized};
pub use passes::{CompleteQdq, ImportQdq, Quantize, SpellQdq};
pub use plan::may_be_dynamic;
pub use spell::spell;
pub use units::{Unit, units};

/// The element type of a graph input or output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// Floating point: `Quantize` and `Dequantize` are part of the graph.
    #[default]
    Float,
    /// 16-bit floats, for a graph that computes with them.
    Half,
    /// Quantized, with this storage type.
    Quantized(StorageType),
}

/// The element types of graph inputs and outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Those of the inputs and outputs that are not named.
    pub others: Interface,
    /// Those of inputs and outputs by name.
    pub named: Vec<(String, Interface)>,
}

impl From<Interface> for Interfaces {
    fn from(others: Interface) -> Self {
        Interfaces { others, named: Vec::new() }
    }
}

impl Interfaces {
    /// All types that are asked for.
    pub fn types(&self) -> impl Iterator<Item = Interface> {
        self.named.iter().map(|(_, interface)| *interface).chain([self.others])
    }

    /// True if all inputs and outputs are floats.
    pub fn is_float(&self) -> bool {
        self.types().all(|interface| interface == Interface::Float)
    }

    /// The type of the input or output with this name.
    pub fn of(&self, name: &str) -> Interface {
        self.named.iter().find(|(named, _)| named == name).map_or(self.others, |(_, interface)| *interface)
    }
}

/// How activations are quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// They stay in floating point: only weights are quantized.
    Float,
    /// To 8 bits, in the storage type of the target.
    #[default]
    Bits8,
    /// To 16 bits, symmetric.
    Bits16,
}

impl Activations {
    /// The storage type for a target, if they are quantized.
    pub fn storage(self, target: &Target) -> Option<StorageType> {
        match self {
            Activations::Float => None,
            Activations::Bits8 => Some(target.activation),
            Activations::Bits16 => Some(StorageType::I16),
        }
    }
}

/// How weights are quantized where activations are floating point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// 8 bits, per output channel.
    #[default]
    Channels,
    /// Constant matrices of matrix products: 4 bits, with a scale and a zero point for each block of this many elements along the
    /// reduction axis, if the target supports it. All other weights: as [`Weights::Channels`].
    Blocks(usize),
}

/// The precision of a node that is not fully quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Raised {
    /// Floating-point activations, which the kernel may quantize dynamically. A weight is quantized where the target has
    /// a kernel for that.
    Activations,
    /// Floating-point weights and activations.
    Weights,
}

/// When contractions of a quantized graph may use dynamic quantization: a quantized weight and a float activation that
/// the runtime quantizes. Runtimes for microcontrollers and many accelerators do not support it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dynamic {
    /// Never: a contraction that cannot be fully quantized computes in floating point.
    Never,
    /// Where static quantization of the operands or the result would lose too much accuracy.
    Needed,
    /// As `Needed`, and for the last contractions of the model, so that their results are not quantized.
    #[default]
    AtEnds,
}

/// Quantization options.
#[derive(Clone, Debug)]
pub struct Options {
    /// How activations are quantized.
    pub activations: Activations,
    /// How weights are quantized where activations are floating point.
    pub weights: Weights,
    /// 8-bit weights of matrix products have one scale, not one for each output: old kernels take no others.
    pub dense_per_tensor: bool,
    /// The element types of graph inputs and outputs.
    pub interface: Interfaces,
    /// When contractions may use dynamic quantization, if activations are quantized.
    pub dynamic: Dynamic,
    /// Nodes whose name matches one of these patterns stay in floating point. `*` stands for any characters.
    pub exclude: Vec<String>,
    /// Nodes of the graph that are kept in higher precision for the accuracy of the outputs.
    pub raised: Vec<(NodeId, Raised)>,
    /// Round the weights of contractions so that they compensate each other's errors, where the calibration table has the
    /// second moments of the activation.
    pub compensate: bool,
    /// Scale the channels of 8-bit activations where that is expected to lower the error of the products that read them, and
    /// the calibration table has the distributions of channels.
    pub smooth: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            activations: Activations::default(),
            weights: Weights::default(),
            dense_per_tensor: false,
            interface: Interfaces::default(),
            dynamic: Dynamic::default(),
            exclude: Vec::new(),
            raised: Vec::new(),
            compensate: true,
            smooth: false,
        }
    }
}

/// A quantized graph and its mapping from the float graph.
#[derive(Debug)]
pub struct Quantized {
    /// The quantized graph.
    pub graph: Graph,
    /// Each computed value of the float graph, with the value that replaces it.
    pub values: Vec<(ValueId, ValueId)>,
    /// Contractions of the float graph with float activations for which weight rounding loses most of the input
    /// channels.
    pub lost_inputs: Vec<NodeId>,
    /// What each node of the float graph computes with after quantization, and why.
    pub decisions: Vec<Decision>,
    /// The float graph with the scaled channels, if there are some.
    pub scaled: Option<Scaled>,
}

impl Quantized {
    /// The quantized value of each computed value of the float graph, which may be divided by scales.
    pub(crate) fn twins(&self) -> FxHashMap<ValueId, ValueId> {
        let mut twins: FxHashMap<ValueId, ValueId> = self.values.iter().copied().collect();
        let scaled = self.scaled.iter().flat_map(|scaled| &scaled.values);
        for &(v, twin) in scaled {
            twins.entry(v).or_insert(twin);
        }
        twins
    }
}

/// Quantizes a float graph. `ranges` is the calibration table of the same graph; it may be empty if only weights are
/// quantized.
///
/// # Errors
/// If a node cannot be created, with its name, or if a bug of the pass leaves a graph that does not verify.
pub fn quantize(
    g: &Graph,
    target: &Target,
    ranges: &CalibrationTable,
    options: &Options,
) -> Result<Quantized, PassError> {
    let mut plan = plan::plan(g, target, ranges, options, &FxHashSet::default());
    if let Some(smooth::Smoothed { graph, ranges, divided }) = smoothed(g, target, ranges, options, &plan)? {
        return quantize_scaled(g, target, &ranges, options, (graph, &divided));
    }
    let qparams = parameters_of(g, target, options, &mut plan);
    let mut quantized = build::build(g, target, options, ranges, &plan, &qparams)?;
    quantized.decisions = decide::decisions(g, &plan, &quantized);
    quantized.graph.verify().map_err(|error| PassError::Verify { pass: "quantize", error })?;
    Ok(quantized)
}

/// Quantizes the float graph `g` whose channels are scaled in `graph`, with `ranges` of that graph and the values of `g` that are
/// divided there.
fn quantize_scaled(
    g: &Graph,
    target: &Target,
    ranges: &CalibrationTable,
    options: &Options,
    (graph, divided): (Graph, &[(ValueId, ValueId)]),
) -> Result<Quantized, PassError> {
    let known: FxHashSet<NodeId> = g.order().into_iter().collect();
    let left: FxHashSet<NodeId> = graph.order().into_iter().collect();
    let gone = divided.iter().filter(|(old, new)| !left.contains(&old.node) && left.contains(&new.node));
    let replaced: FxHashMap<NodeId, NodeId> = gone.map(|(old, new)| (old.node, new.node)).collect();
    let mut scaled = Scaled { graph, replaced, values: Vec::new() };
    let raised = options.raised.iter().map(|&(n, raised)| (scaled.node(n), raised)).collect();
    let plain = Options { smooth: false, raised, ..options.clone() };
    let mut quantized = quantize(&scaled.graph, target, ranges, &plain)?;
    let twins: FxHashMap<ValueId, ValueId> = quantized.values.iter().copied().collect();
    let of_replaced = |(old, new): &(ValueId, ValueId)| {
        let is_replaced = scaled.replaced.get(&old.node) == Some(&new.node);
        Some((*old, *twins.get(new).filter(|_| is_replaced)?))
    };
    scaled.values = divided.iter().filter_map(of_replaced).collect();
    quantized.values.retain(|(v, _)| known.contains(&v.node));
    quantized.lost_inputs.retain(|n| known.contains(n));
    Ok(Quantized { scaled: Some(scaled), ..quantized })
}

/// The graph with scaled channels, if that is wanted and lowers the error of products.
fn smoothed(
    g: &Graph,
    target: &Target,
    ranges: &CalibrationTable,
    options: &Options,
    plan: &plan::Plan,
) -> Result<Option<smooth::Smoothed>, PassError> {
    if !options.smooth || options.activations != Activations::Bits8 {
        return Ok(None);
    }
    let quantized = |n: NodeId| matches!(plan.mode(n), Some(plan::Mode::Integer | plan::Mode::FloatResult));
    let kernel = |n: NodeId| target.kernel_of(g, n)?.for_storage(plan.storage);
    // Weights of products that are not quantized have no scale.
    let one_scale = |n: NodeId| {
        let matrix = options.dense_per_tensor && matches!(g.op(n), Op::MatMul(_));
        quantized(n) && (matrix || kernel(n).is_none_or(|k| k.weight_axis.is_none()))
    };
    Ok(smooth::smoothed(g, ranges, &quantized, &one_scale)?)
}

/// The quantization parameters of the nodes that the plan quantizes. Nodes whose result is below the resolution of an
/// operand are removed from the plan.
fn parameters_of(g: &Graph, target: &Target, options: &Options, plan: &mut plan::Plan) -> parameters::Parameters {
    loop {
        let qparams = parameters::assign(g, target, plan);
        let vetoes = candidates::resolution::vetoes(g, plan.storage, plan.integers(), |v| qparams.of(v));
        if vetoes.is_empty() {
            return qparams;
        }
        plan.release(g, target, options.dynamic, &vetoes);
    }
}

//! Descriptions of compilation targets. Each backend exports one [`Target`]; passes receive it and never name a
//! backend.

mod kernel;

use smallvec::SmallVec;

pub use kernel::{Blocks, Kernel, Quantized, Weights, ZeroPoint};

use crate::graph::{Graph, NodeId};
use crate::ops::{MatMul, Op};
use crate::types::{Elem, Layout, Shape, StorageType, TensorType};

/// What a backend and its runtime require of a graph, as data.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name on the command line.
    pub name: &'static str,
    /// The table of kernels: the row for this operator on operands of these types (after dequantization). `None` where
    /// the target has no kernel: the operator is decomposed before calibration. A device that runs a subset of a
    /// target's models has its own table, which calls this one and removes rows or fields.
    pub kernel: fn(&Op, &[&TensorType]) -> Option<Kernel>,
    /// Layout of operands and results of image operators (convolution, pooling, resizing) of a given rank.
    pub image_layout: fn(usize) -> Layout,
    /// Element type of indices and of integer arithmetic on them.
    pub index: Elem,
    /// The widest integer type that it computes with; wider ones may be stored.
    pub integers: Elem,
    /// True where kernels count negative indices from the end. Elsewhere lowering adds nodes that do.
    pub negative_indices: bool,
    /// Storage type of quantized activations.
    pub activation: StorageType,
    /// True where the target runs graphs of 16-bit floats. Elsewhere their values are widened to single precision.
    pub half_graphs: bool,
    /// True where graphs can be converted to 16-bit floats, as far as kernels take them. Elsewhere only weights are
    /// stored as 16-bit floats, and the target computes in single precision.
    pub half_values: bool,
    /// The graphs that keep an open batch of the source model.
    pub open_batch: OpenBatch,
}

/// Which graphs a target runs well with an open batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBatch {
    /// True for floating-point graphs.
    pub real: bool,
    /// True for graphs with quantized activations.
    pub quantized: bool,
}

impl Target {
    /// The kernels for a node. Quantized operand types are looked up as `F32`.
    pub fn kernel_of(&self, g: &Graph, node: NodeId) -> Option<Kernel> {
        let types = g.operand_types(node);
        if types.iter().all(|t| t.elem.qparams().is_none()) {
            return (self.kernel)(g.op(node), &types);
        }
        let real: SmallVec<[TensorType; 4]> = types.iter().map(|t| t.real()).collect();
        (self.kernel)(g.op(node), &real.iter().collect::<SmallVec<[&TensorType; 4]>>())
    }

    /// True where matrix products take 4-bit weights quantized per block.
    pub fn takes_blocks(&self) -> bool {
        let matrix = TensorType::new(Elem::F32, Shape::known(&[64, 64]));
        let kernel = (self.kernel)(&MatMul { transpose_b: true }.into(), &[&matrix, &matrix]);
        kernel.and_then(|k| k.weights).is_some_and(|weights| weights.blocks.is_some())
    }

    /// Layout of operand `i` (a weight) of an image operator.
    pub fn weight_layout(&self, g: &Graph, node: NodeId, i: usize) -> Layout {
        let rank = g.ty(g.operand(node, i)).rank();
        let order = self.kernel_of(g, node).filter(|_| i == 1).map_or(&[][..], |kernel| kernel.weight_order);
        Layout::from_order(order).filter(|l| l.rank() == rank).unwrap_or_else(|| Layout::row_major(rank))
    }
}

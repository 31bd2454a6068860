//! Descriptions of compilation targets. Each backend exports one [`Target`]; passes receive it and never name a
//! backend.

mod kernel;
mod latency;

use smallvec::SmallVec;

pub use kernel::{BlockDynamic, BlockGrid, Blocks, FusedClamps, Kernel, Quantized, Weights, ZeroPoint};
pub use latency::{Latency, ProductTime};

use crate::graph::{Graph, NodeId, ValueId};
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
    /// Storage type of activations quantized to 8 bits.
    pub activation: StorageType,
    /// True where the target runs graphs of 16-bit floats. Elsewhere their values are widened to single precision.
    pub half_graphs: bool,
    /// True where graphs can be converted to 16-bit floats, as far as kernels take them. Elsewhere only weights are
    /// stored as 16-bit floats, and the target computes in single precision.
    pub half_values: bool,
    /// True where a graph gets back the open batch of a source model that is imported with a batch of 1.
    pub open_batch: bool,
    /// True where a model can keep values from run to run.
    pub keeps_states: bool,
    /// The times of its kernels, if they were measured.
    pub latency: Option<Latency>,
    /// The device, if the table is that of a device that runs a subset of the target's models.
    pub device: Option<Device>,
}

/// A device that runs a subset of a target's models: what its table of kernels does not say.
#[derive(Clone, Debug)]
pub struct Device {
    /// Name on the command line.
    pub name: &'static str,
    /// The rule of the device that leaves a row out of the target's table, if the target has a kernel.
    pub rule: fn(&Op, &[&TensorType]) -> Option<&'static str>,
    /// Element types that it has no values of, not even inputs and outputs.
    pub lacks: &'static [Elem],
    /// True where inputs and outputs of a graph may be quantized.
    pub quantized_interface: bool,
    /// As [`Target::keeps_states`].
    pub keeps_states: bool,
}

impl Target {
    /// The name for messages: that of the device, if any.
    pub fn title(&self) -> &'static str {
        self.device.as_ref().map_or(self.name, |device| device.name)
    }

    /// True where no value may have that element type, because the device has none.
    pub fn lacks(&self, elem: &Elem) -> bool {
        self.device.as_ref().is_some_and(|device| device.lacks.contains(elem))
    }

    /// True where inputs and outputs of a graph may be quantized.
    pub fn has_quantized_interface(&self) -> bool {
        self.device.as_ref().is_none_or(|device| device.quantized_interface)
    }

    /// Why the device has no kernel for a node that the target has one for.
    pub fn rule(&self, g: &Graph, node: NodeId) -> Option<&'static str> {
        let real: SmallVec<[TensorType; 4]> = g.operand_types(node).iter().map(|t| t.real()).collect();
        (self.device.as_ref()?.rule)(g.op(node), &real.iter().collect::<SmallVec<[&TensorType; 4]>>())
    }

    /// What the user can do about a node without kernels.
    pub fn cure(&self) -> String {
        match &self.device {
            Some(device) => format!(
                "change this part of the model, or leave --device {} out: {} has more operators",
                device.name, self.name
            ),
            None => "change this part of the model, or compile it for another target".into(),
        }
    }

    /// The kernels for a node. Quantized operand types are looked up as `F32`.
    pub fn kernel_of(&self, g: &Graph, node: NodeId) -> Option<Kernel> {
        self.kernel_for(g.op(node), g, node)
    }

    /// The kernels for another operator on the operands of a node.
    pub fn kernel_for(&self, op: &Op, g: &Graph, node: NodeId) -> Option<Kernel> {
        let types = g.operand_types(node);
        if types.iter().all(|t| t.elem.qparams().is_none()) {
            return (self.kernel)(op, &types);
        }
        let real: SmallVec<[TensorType; 4]> = types.iter().map(|t| t.real()).collect();
        (self.kernel)(op, &real.iter().collect::<SmallVec<[&TensorType; 4]>>())
    }

    /// The operand of the clamp `node`, if the kernel that computes it applies the clamp as a fused activation function.
    pub fn fused(&self, g: &Graph, node: NodeId) -> Option<ValueId> {
        let Op::Clamp(clamp) = g.op(node) else { return None };
        let (operand, result) = (*g.operands(node).first()?, node.value(0));
        g.only_user(operand).filter(|_| g.ty(operand) == g.ty(result))?;
        self.kernel_of(g, operand.node)?.fuses.takes(clamp, g.ty(result)).then_some(operand)
    }

    /// The time of a product in the kernel for a node.
    pub fn product_time(&self, g: &Graph, node: NodeId) -> ProductTime {
        let own = self.kernel_of(g, node).and_then(|kernel| kernel.product);
        own.unwrap_or(self.latency.unwrap_or(Latency::ROUGH).product)
    }

    /// True where kernels take quantized weights with float activations.
    pub fn takes_weights(&self) -> bool {
        self.of_matrices().is_some_and(|kernel| kernel.weights.is_some())
    }

    /// True where kernels take activations that are quantized to this storage type.
    pub fn takes_activations(&self, storage: StorageType) -> bool {
        self.of_matrices().is_some_and(|kernel| kernel.for_storage(storage).is_some())
    }

    /// True where matrix products take 4-bit weights quantized in blocks of `size`.
    pub fn takes_blocks(&self, size: usize) -> bool {
        let blocks = self.of_matrices().and_then(|k| k.weights).and_then(|weights| weights.blocks);
        blocks.is_some_and(|blocks| (blocks.fits)(64 * size, size))
    }

    /// The row of a product of matrices.
    fn of_matrices(&self) -> Option<Kernel> {
        let matrix = TensorType::new(Elem::F32, Shape::known(&[64, 64]));
        (self.kernel)(&MatMul { transpose_b: true }.into(), &[&matrix, &matrix])
    }

    /// Layout of operand `i` (a weight) of an image operator.
    pub fn weight_layout(&self, g: &Graph, node: NodeId, i: usize) -> Layout {
        let rank = g.ty(g.operand(node, i)).rank();
        let order = self.kernel_of(g, node).filter(|_| i == 1).map_or(&[][..], |kernel| kernel.weight_order);
        Layout::from_order(order).filter(|l| l.rank() == rank).unwrap_or_else(|| Layout::row_major(rank))
    }
}

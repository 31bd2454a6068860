//! What a backend asks of a graph. Each backend exports one such description; passes receive it and never name a
//! backend.

use crate::ops::{Granularity, Op};
use crate::types::{Elem, Layout, Store, TensorType};

/// A backend's demands, as data.
#[derive(Clone, Debug)]
pub struct Target {
    /// Name on the command line.
    pub name: &'static str,
    /// True where the backend writes this operator, on operands of these (real) types, as it is. What is not native
    /// is decomposed before calibration.
    pub native: fn(&Op, &[&TensorType]) -> bool,
    /// Layout that image operators (convolution, pooling, resizing) take and give, for a rank.
    pub image_layout: fn(usize) -> Layout,
    /// Layout of operand `i` (a weight) of an image operator.
    pub weight_layout: fn(&Op, usize, &TensorType) -> Layout,
    /// Element of indices and of integer arithmetic on them.
    pub index: Elem,
    /// The widest integers that it computes with; wider ones may be stored.
    pub integers: Elem,
    /// True where kernels count negative indices from the end. Elsewhere the graph does.
    pub negative_indices: bool,
    /// True where the target runs graphs of 16-bit floats. Elsewhere their values are widened to single precision.
    pub half_graphs: bool,
    /// True where the operator, on operands of these (single precision) types, works on 16-bit floats. `None` where
    /// the target halves weights alone and computes in single precision.
    pub half: Option<fn(&Op, &[&TensorType]) -> bool>,
    /// The graphs whose batch stays open where the source's is.
    pub open_batch: OpenBatch,
    /// Demands on integer graphs.
    pub grids: GridDemands,
}

/// Which graphs a target runs well with an open batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenBatch {
    /// None.
    Never,
    /// Those that compute with real numbers.
    Real,
    /// All.
    All,
}

/// What integer kernels take.
#[derive(Clone, Debug)]
pub struct GridDemands {
    /// Storage of activations.
    pub activation: Store,
    /// True where the operator, on operands of these (real) types, has an integer kernel.
    pub integer: fn(&Op, &[&TensorType]) -> bool,
    /// True where the operator takes a constant weight on a grid beside real activations.
    pub weights_only: fn(&Op, &[&TensorType]) -> bool,
    /// What shares a scale where this contraction, of real activations with a weight on a grid, quantizes its activations
    /// when the model runs. `None`: it computes with real numbers.
    pub dynamic: fn(&Op, &[&TensorType]) -> Option<Granularity>,
    /// How a constant table on a grid is looked up in.
    pub tables: Tables,
    /// True where the weight of this operator may have one scale for each output channel.
    pub per_channel: fn(&Op, &TensorType) -> bool,
    /// True where kernels, on processors without instructions for it, add two neighbouring products of this contraction in
    /// 16 bits: what is larger they cut off.
    pub pairs: fn(&Op, &TensorType) -> bool,
    /// True where the weight of a product of matrices, beside a real factor, may be 4-bit integers with a scale for each
    /// run of the second number of the indices that are summed up, of which there are the first number. `None` where
    /// the target knows no such weights.
    pub blocks: Option<fn(usize, usize) -> bool>,
    /// What this contraction gives where its factors are integers.
    pub sums: fn(&Op, &[&TensorType]) -> Sums,
    /// Where the zero of this operand of a contraction lies, if it is no constant. The last argument says whether the
    /// weight (operand 1) is one.
    pub zero: fn(&Op, usize, bool) -> Zero,
}

/// How numbers come out of a constant table on a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// As integers, with one scale for all.
    Whole,
    /// As integers, with a scale for each column.
    Columns,
    /// As real numbers, restored by a scale for each row.
    Rows,
}

/// Where a grid has its zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zero {
    /// Wherever the range puts it.
    Anywhere,
    /// Wherever the range puts it: on a grid of its own where another reader has it in the middle.
    Apart,
    /// In the middle.
    Middle,
    /// In the middle, or at the lower end where no number is negative.
    MiddleOrEnd,
}

/// What a contraction of integers gives: its sums of products are 32 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// Numbers on a grid, whatever follows.
    Grid,
    /// Numbers on a grid, or real ones where nothing that follows works on integers.
    Either,
    /// Real numbers, on which the activation behind works before they go onto a grid.
    Real,
}

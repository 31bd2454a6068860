//! Layout assignment: chooses the memory layout of each value, so that image operators get the layout of their target
//! and few bytes are permuted.
//!
//! `solve` chooses, `flatten` adapts the weights of fully connected layers after images, and `materialize` sets the
//! types and adds Relayout nodes. Results and logical shapes do not change.
//!
//! ```
//! use qcc_passes::layout::{ImageOrder, Interface};
//! use qcc_passes::{Pipeline, Settings};
//! let layout = Interface { input: ImageOrder::Nchw, output: ImageOrder::Nhwc };
//! let pipeline = Pipeline::new(&Settings { layout, ..Settings::default() });
//! assert!(pipeline.get("layout/layout").is_ok());
//! ```

use qcc_ir::ops::{LayoutRule, Op};
use qcc_ir::target::Target;
use qcc_ir::{Graph, Layout, NodeId, ValueId, is_pointwise};

use crate::{Context, Pass, PassError};

mod flatten;
mod materialize;
mod solve;

/// The layout of images at graph inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOrder {
    /// Channels-last, if the graph uses or produces the image in that layout.
    Nhwc,
    /// As in the source model.
    Nchw,
}

/// The layout of graph inputs and outputs. Only values of rank 4 are images; all others are row-major.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Inputs.
    pub input: ImageOrder,
    /// Outputs.
    pub output: ImageOrder,
}

/// Assigns layouts to a row-major graph. It does nothing if the target has row-major images.
pub(crate) fn layout(interface: Interface) -> Box<dyn Pass> {
    Box::new(AssignLayouts { interface })
}

#[derive(Debug)]
struct AssignLayouts {
    interface: Interface,
}

impl Pass for AssignLayouts {
    fn name(&self) -> &'static str {
        "layout"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        !cx.target.is_row_major()
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        // Images that are channels-last in the source keep their axes.
        let as_read = Interface { input: ImageOrder::Nchw, output: ImageOrder::Nchw };
        let interface = if cx.source.channels_last { as_read } else { self.interface };
        let flattened = flatten::candidates(g);
        let mut plan = solve::solve(g, cx.target, interface, &flattened);
        if flatten::rewrite(g, cx.target, &plan, &flattened)? {
            plan = solve::solve(g, cx.target, interface, &[]);
        }
        materialize::materialize(g, cx.target, &plan)
    }
}

/// The layout options of a node.
///
/// The *state* of a node is one layout that determines the layouts of all operands and results: that of operand 0 if
/// the operator propagates it, else the common layout.
struct View<'g> {
    g: &'g Graph,
    target: &'g Target,
    node: NodeId,
}

impl View<'_> {
    fn op(&self) -> &Op {
        self.g.op(self.node)
    }

    fn first(&self) -> Option<ValueId> {
        let sources = matches!(self.op(), Op::Input(_) | Op::Const(_));
        (!sources).then(|| self.g.operand(self.node, 0))
    }

    fn result_rank(&self) -> usize {
        self.g.ty(self.node.value(0)).rank()
    }

    /// The state, if there is only one.
    fn fixed(&self) -> Option<Layout> {
        match self.op().layout() {
            LayoutRule::Image if !is_pointwise(self.g, self.node) => {
                Some((self.target.image_layout)(self.result_rank()))
            }
            LayoutRule::RowMajor => Some(Layout::row_major(self.result_rank())),
            _ => None,
        }
    }

    /// The default state.
    fn default(&self) -> Layout {
        match self.op().layout() {
            LayoutRule::Image => (self.target.image_layout)(self.result_rank()),
            LayoutRule::Innermost(axis) => (0..self.result_rank()).filter(|&a| a != axis).chain([axis]).collect(),
            LayoutRule::Carry | LayoutRule::Free => {
                let rank = self.first().map_or(self.result_rank(), |x| self.g.ty(x).rank());
                Layout::row_major(rank)
            }
            LayoutRule::Follow | LayoutRule::RowMajor => Layout::row_major(self.result_rank()),
        }
    }

    /// True if the node supports that state.
    fn admits(&self, state: &Layout) -> bool {
        match self.op().layout() {
            LayoutRule::RowMajor => state.is_row_major(),
            LayoutRule::Carry => self.result_in(0, state).is_some(),
            _ => self.target.admits(self.g, self.node, state),
        }
    }

    /// The layout of an operand.
    fn operand(&self, i: usize, state: &Layout) -> Layout {
        let ty = self.g.ty(self.g.operand(self.node, i));
        match self.op().layout() {
            LayoutRule::Image if i > 0 => self.target.weight_layout(self.g, self.node, i),
            LayoutRule::Carry if i > 0 => Layout::row_major(ty.rank()),
            _ if state.rank() == ty.rank() => state.clone(),
            _ => Layout::row_major(ty.rank()),
        }
    }

    /// The layout of a result, if the node can produce it without moving bytes.
    fn result_in(&self, port: u8, state: &Layout) -> Option<Layout> {
        let result = self.g.ty(self.node.value(port));
        match self.op().layout() {
            LayoutRule::Carry | LayoutRule::Free if self.first().is_some() => {
                let mut x = self.g.ty(self.g.operand(self.node, 0)).clone();
                x.layout = state.clone();
                self.op().carried(&x, &result.shape)
            }
            LayoutRule::RowMajor => Some(Layout::row_major(result.rank())),
            _ => Some(state.clone()),
        }
    }

    /// The layout of a result.
    fn result(&self, port: u8, state: &Layout) -> Layout {
        self.result_in(port, state).unwrap_or_else(|| Layout::row_major(self.g.ty(self.node.value(port)).rank()))
    }

    /// The state in which operand `i` has that layout.
    fn state_by_operand(&self, i: usize, layout: &Layout) -> Option<Layout> {
        let x = self.g.ty(self.g.operand(self.node, i));
        let tells = match self.op().layout() {
            LayoutRule::Follow | LayoutRule::Innermost(_) => {
                x.rank() == self.result_rank() && x.shape.elements() != Some(1)
            }
            _ => i == 0,
        };
        (tells && self.admits(layout)).then(|| layout.clone())
    }

    /// The state in which a result has that layout.
    fn state_by_result(&self, port: u8, layout: &Layout) -> Option<Layout> {
        let state = match self.op() {
            Op::Transpose(op) => op.carry_back(layout),
            Op::Reshape(_) => {
                let x = self.g.ty(self.g.operand(self.node, 0));
                layout.reshaped(&self.g.ty(self.node.value(port)).shape, &x.shape)?
            }
            op if op.layout() == LayoutRule::Carry => return None,
            _ => layout.clone(),
        };
        self.admits(&state).then_some(state)
    }
}

/// True if an operand is not a constant.
fn variable(g: &Graph, v: ValueId) -> bool {
    g.constant(v).is_none()
}

#[cfg(test)]
mod tests;

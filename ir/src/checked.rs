//! Graphs that a target can hold as they are: what backends write.

use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId};
use crate::ops::{Conv, LayoutRule, Op};
use crate::target::Target;
use crate::types::{Dim, Layout};

/// A graph whose types hold, whose operators the target has, and whose values lie as its kernels take them. Only
/// [`Checked::new`] makes one, so whoever has one need not ask again.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'g> {
    graph: &'g Graph,
    target: &'g Target,
}

impl<'g> Checked<'g> {
    /// Checks a graph for a target: one that passes have lowered and laid out for it.
    ///
    /// # Errors
    /// One for each node that the target does not have as it is, all together.
    pub fn new(graph: &'g Graph, target: &'g Target) -> Result<Self, Vec<Diagnostic>> {
        if let Err(e) = graph.verify() {
            let error = Diagnostic::error("ill-typed-graph", format!("the graph is not well typed: {e}"));
            return Err(vec![error.with_help("a pass left it so: Graph::verify says behind which")]);
        }
        let checked = Checked { graph, target };
        let wrong: Vec<Diagnostic> = graph.order().into_iter().filter_map(|n| checked.wrong(n)).collect();
        if wrong.is_empty() { Ok(checked) } else { Err(wrong) }
    }

    /// The graph.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// The target that it was checked for.
    pub fn target(&self) -> &'g Target {
        self.target
    }

    /// What the user is told of a node that the target has no words for: the target, the node, and why.
    pub fn refusal(&self, node: NodeId, why: &str) -> Diagnostic {
        let message = format!("{} cannot express {}: {why}", self.target.name, self.graph.op(node).kind().name());
        Diagnostic::error("unsupported-op", message)
            .at(&self.graph.place(node))
            .with_help("change this part of the model, or compile it for another target")
    }

    fn wrong(&self, node: NodeId) -> Option<Diagnostic> {
        let op = self.graph.op(node);
        let Some(kernel) = self.target.kernel_of(self.graph, node) else {
            if let Op::Custom(custom) = op {
                return Some(self.refusal(node, &custom.refusal()));
            }
            let operands: Vec<String> = self.graph.operand_types(node).iter().map(|t| t.to_string()).collect();
            return Some(self.refusal(node, &format!("no operator does {op} on {}", operands.join(", "))));
        };
        if let Err(why) = kernel.takes(self.graph, node) {
            return Some(self.refusal(node, &why));
        }
        let why = self.laid_out(node).err()?;
        let message = format!("{} takes {} otherwise: {why}", self.target.name, op.kind().name());
        let error = Diagnostic::error("layout", message).at(&self.graph.place(node));
        Some(error.with_help("lay the graph out for the target before it is written"))
    }

    /// Fails where a value of the node lies otherwise than the target's kernels take it. What the rules of operators ask
    /// of each other's layouts, the types say already.
    fn laid_out(&self, node: NodeId) -> Result<(), String> {
        let (g, op) = (self.graph, self.graph.op(node));
        let (operands, results) = (g.operand_types(node), g.result_types(node));
        if self.target.is_row_major() {
            let odd = operands.iter().copied().chain(&results).find(|t| !t.layout.is_row_major());
            return odd.map_or(Ok(()), |odd| Err(format!("{odd} is not row-major")));
        }
        let state = &results[0].layout;
        if !self.target.admits(g, node, state) {
            return Err(match op.layout() {
                LayoutRule::Innermost(axis) => format!("axis {axis} of {} is not innermost", results[0]),
                _ => format!("{} is not {}", results[0], (self.target.image_layout)(state.rank())),
            });
        }
        if op.layout() != LayoutRule::Image {
            return Ok(());
        }
        for (i, ty) in operands.iter().enumerate().skip(1) {
            let wanted = self.target.weight_layout(g, node, i);
            if ty.layout != wanted {
                return Err(format!("operand {i}, {ty}, is not {wanted}"));
            }
        }
        Ok(())
    }
}

impl Target {
    /// True where all values lie in the order of their axes.
    pub fn is_row_major(&self) -> bool {
        (self.image_layout)(4).is_row_major()
    }

    /// True where the results of a node may have that layout, as far as its operator and the target's kernels say.
    pub fn admits(&self, g: &Graph, node: NodeId, layout: &Layout) -> bool {
        let innermost = |axis: usize| layout.order().last() == Some(axis);
        match g.op(node).layout() {
            LayoutRule::Image => {
                let usual = (self.image_layout)(layout.rank());
                *layout == usual || (is_pointwise(g, node) && usual.order().last().is_some_and(innermost))
            }
            LayoutRule::RowMajor => true,
            LayoutRule::Innermost(axis) => innermost(axis),
            LayoutRule::Follow | LayoutRule::Carry | LayoutRule::Free => true,
        }
    }
}

/// True for a convolution that treats each position alike: the order of the positions does not matter.
pub fn is_pointwise(g: &Graph, node: NodeId) -> bool {
    let Op::Conv(Conv { stride, before, after, .. }) = g.op(node) else { return false };
    let weight = &g.ty(g.operand(node, 1)).shape;
    weight.dims()[2..].iter().all(|d| *d == Dim::Known(1))
        && stride.iter().all(|&s| s == 1)
        && before.iter().chain(after).all(|&p| p == 0)
}

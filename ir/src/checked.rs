//! Graphs that have been verified for a target: the input of backends.

use crate::diagnostic::Diagnostic;
use crate::graph::{Graph, NodeId, ValueId};
use crate::ops::{Body, Conv, LayoutRule, Op};
use crate::target::Target;
use crate::types::{Dim, Layout, TensorType};

/// A graph whose types are valid, for whose nodes the target has kernels, and whose values have the layouts that these
/// take. Only [`Checked::new`] makes one, so that code that receives one need not check again.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'g> {
    graph: &'g Graph,
    target: &'g Target,
}

impl<'g> Checked<'g> {
    /// Verifies a graph for a target. The graph must have been lowered and laid out for it.
    ///
    /// # Errors
    /// One diagnostic for each node that the target cannot express.
    pub fn new(graph: &'g Graph, target: &'g Target) -> Result<Self, Vec<Diagnostic>> {
        if let Err(e) = graph.verify() {
            let error = Diagnostic::error("ill-typed-graph", format!("the graph is not well typed: {e}"));
            return Err(vec![error.with_help("a pass made it so: run Graph::verify after each pass to find which")]);
        }
        let checked = Checked { graph, target };
        let wrong: Vec<Diagnostic> = graph.order().into_iter().filter_map(|n| checked.wrong(n)).collect();
        if wrong.is_empty() { Ok(checked) } else { Err(wrong) }
    }

    /// The errors of [`Checked::new`] for nodes that the target has no kernel for: what can be said of a lowered graph
    /// before it is quantized and laid out.
    pub fn lacks(graph: &'g Graph, target: &'g Target) -> Vec<Diagnostic> {
        let checked = Checked { graph, target };
        let nodes = graph.order().into_iter().filter(|&n| target.kernel_of(graph, n).is_none());
        nodes.map(|n| checked.without_kernel(n)).collect()
    }

    /// The graph.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// The target that it was verified for.
    pub fn target(&self) -> &'g Target {
        self.target
    }

    /// The error for a node that the target cannot express: the target, the node, and the reason.
    pub fn refusal(&self, node: NodeId, why: &str) -> Diagnostic {
        let message = format!("{} cannot express {}: {why}", self.target.title(), self.graph.op(node).kind().name());
        Diagnostic::error("unsupported-op", message).at(&self.graph.place(node)).with_help(self.target.cure())
    }

    /// The error for a node without a kernel.
    fn without_kernel(&self, node: NodeId) -> Diagnostic {
        let op = self.graph.op(node);
        if let Op::Custom(custom) = op {
            return self.refusal(node, &custom.refusal());
        }
        if let Some(rule) = self.target.rule(self.graph, node) {
            return self.refusal(node, rule);
        }
        let operands: Vec<String> = self.graph.operand_types(node).iter().map(|t| t.to_string()).collect();
        self.refusal(node, &format!("no operator does {op} on {}", operands.join(", ")))
    }

    fn wrong(&self, node: NodeId) -> Option<Diagnostic> {
        let op = self.graph.op(node);
        let Some(kernel) = self.target.kernel_of(self.graph, node) else { return Some(self.without_kernel(node)) };
        // Writers narrow the indices of these operators.
        let narrowed = matches!(op, Op::ArgReduce(_) | Op::TopK(_));
        let lacking = |t: &&TensorType| !narrowed && self.target.lacks(&t.elem);
        if let Some(odd) = self.graph.result_types(node).iter().find(lacking) {
            return Some(self.refusal(node, &format!("it has no values of {}", odd.elem)));
        }
        if !self.target.has_quantized_interface() && self.is_quantized_interface(node) {
            return Some(self.refusal(node, "its inputs and outputs are not quantized"));
        }
        if let Some(odd) = self.wrong_inside(op) {
            return Some(odd);
        }
        if let Err(why) = kernel.takes(self.graph, node) {
            return Some(self.refusal(node, &why));
        }
        let why = self.laid_out(node).err()?;
        let message = format!("{} takes {} in another layout: {why}", self.target.name, op.kind().name());
        let error = Diagnostic::error("layout", message).at(&self.graph.place(node));
        Some(error.with_help("lay the graph out for the target before it is written"))
    }

    /// The first error in the graphs inside the operator.
    fn wrong_inside(&self, op: &Op) -> Option<Diagnostic> {
        let first = |body: &Body| match body.graph() {
            Ok(graph) => Checked::new(graph, self.target).err()?.into_iter().next(),
            Err(e) => Some(Diagnostic::error("ill-typed-graph", e.to_string())),
        };
        op.bodies().into_iter().find_map(first)
    }

    /// True for a node whose result is a quantized input or output of the graph.
    fn is_quantized_interface(&self, node: NodeId) -> bool {
        let quantized = |v: ValueId| self.graph.ty(v).elem.qparams().is_some();
        let at_interface = |v: ValueId| matches!(self.graph.op(node), Op::Input(_)) || self.graph.is_output(v);
        self.graph.results(node).any(|v| quantized(v) && at_interface(v))
    }

    /// Fails where a value of the node does not have the layout that the target's kernels take. Relations between the
    /// layouts of a node's operands and results (`LayoutRule`) are checked by `Graph::verify`.
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
    /// True where all values are row-major.
    pub fn is_row_major(&self) -> bool {
        (self.image_layout)(4).is_row_major()
    }

    /// True where the operator and the target's kernels allow that layout for the results of a node.
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

/// True for a 1x1 convolution with stride 1 and no padding: it is independent of the order of the spatial axes.
pub fn is_pointwise(g: &Graph, node: NodeId) -> bool {
    let Op::Conv(Conv { stride, before, after, .. }) = g.op(node) else { return false };
    let weight = &g.ty(g.operand(node, 1)).shape;
    weight.dims()[2..].iter().all(|d| *d == Dim::Known(1))
        && stride.iter().all(|&s| s == 1)
        && before.iter().chain(after).all(|&p| p == 0)
}

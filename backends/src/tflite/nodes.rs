//! Conversion of a graph into tables, node by node.

use qcc_formats::tflite::{Activation, Model};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{LayoutRule, Op};
use qcc_ir::{Checked, Layout, NodeId, TensorType, ValueId};
use smallvec::SmallVec;

use super::emit::{ABSENT, Emitter, NodeContext, Unsupported};
use super::ops;
use super::states::States;
use super::target::TARGET;
use crate::{Attachments, Device, ValueNames};

/// The tables of a graph.
pub(super) struct Written {
    pub(super) model: Model,
    /// The names of the graph's values in them.
    pub(super) names: ValueNames,
    /// The node of each operator.
    pub(super) origins: Vec<NodeId>,
}

/// The tables of a graph, or all nodes that cannot be written.
pub(super) fn emit(
    checked: Checked<'_>,
    device: Option<&Device>,
    attachments: &Attachments,
) -> Result<Written, Vec<Diagnostic>> {
    let graph = checked.graph();
    let limited = device.filter(|device| !device.has_all_operators());
    let mut e = Emitter::new(graph, limited.map(|device| (device.operators)()), &attachments.extents);
    let mut refused = Vec::new();
    let mut origins = Vec::new();
    let mut inputs = Vec::new();
    let mut states = States::default();
    for v in graph.inputs() {
        let tensor = e.tensor(v);
        let before = e.operators();
        match graph.name(v).and_then(|name| attachments.state_of_input(name)) {
            Some(state) => {
                let read = states.read(&mut e, state, v, tensor).and_then(|()| e.all_known(before));
                refused.extend(read.err().map(|why| why.diagnostic(checked, v.node)));
            }
            None => inputs.push(tensor),
        }
        origins.resize(e.operators(), v.node);
    }
    if let Err(why) = states.begin(&mut e) {
        refused.extend(graph.inputs().next().map(|v| why.diagnostic(checked, v.node)));
    }
    for node in graph.order() {
        let apart = e.fused.contains(&node) || ops::recurrent::converts_parameter(graph, node);
        if apart || matches!(graph.op(node), Op::Input(_) | Op::Const(_)) {
            continue;
        }
        let before = e.operators();
        if let Err(why) = e.node(node).and_then(|()| e.all_known(before)) {
            refused.push(why.diagnostic(checked, node));
        }
        origins.resize(e.operators(), node);
    }
    if let Some(output) =
        graph.outputs().first().filter(|_| device.is_some() && refused.is_empty() && e.operators() == 0)
    {
        refused.push(
            checked.refusal(output.value.node, "a model needs an operator, and its outputs are constants or inputs"),
        );
    }
    let mut outputs = Vec::new();
    for output in graph.outputs() {
        let tensor = e.tensor(output.value);
        match attachments.state_of_output(&output.name) {
            Some(state) => states.assign(&mut e, state, tensor),
            None => outputs.push((output.name.to_string(), tensor)),
        }
        origins.resize(e.operators(), output.value.node);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let names = e.tensor_names();
    Ok(Written { model: e.finish(inputs, outputs), names, origins })
}

impl Emitter<'_> {
    /// Writes the nodes of the body of a loop, and returns the tensors of its outputs. An error names the node.
    pub(super) fn body(&mut self) -> Result<Vec<i32>, Unsupported> {
        let graph = self.graph;
        for node in graph.order() {
            let apart = self.fused.contains(&node) || ops::recurrent::converts_parameter(graph, node);
            if apart || matches!(graph.op(node), Op::Input(_) | Op::Const(_)) {
                continue;
            }
            let before = self.operators();
            let written = self.node(node).and_then(|()| self.all_known(before));
            written.map_err(|why| format!("its body has {}, and {}", graph.place(node), why.0))?;
        }
        Ok(graph.outputs().iter().map(|o| self.tensor(o.value)).collect())
    }

    fn node(&mut self, node: NodeId) -> Result<(), Unsupported> {
        let graph = self.graph;
        let op = graph.op(node);
        let values = graph.operands(node);
        let types = graph.operand_types(node);
        if ops::is_alias(self, node) {
            return self.alias(node.value(0), values[0]);
        }
        let (last, activation) = self.activation(node);
        let mut site = NodeContext {
            node,
            values: values.clone(),
            operands: types.iter().map(|&t| t.clone()).collect(),
            results: graph.result_types(node),
            inputs: SmallVec::new(),
            outputs: SmallVec::new(),
            activation,
            graph,
        };
        let results: Vec<ValueId> = graph.results(last).collect();
        // RESHAPE does not depend on the layout.
        if op.layout() == LayoutRule::RowMajor && !matches!(op, Op::Reshape(_)) {
            self.row_major(op, site, &values, &results)
        } else {
            site.inputs = values.iter().map(|&v| self.tensor(v)).collect();
            site.outputs = results.iter().map(|&v| self.tensor(v)).collect();
            ops::emit(self, op, &site)
        }
    }

    /// Maps a value to the tensor of another one with the same bytes and shape. Outputs keep a tensor of their own.
    fn alias(&mut self, value: ValueId, source: ValueId) -> Result<(), Unsupported> {
        let tensor = self.tensor(source);
        if self.graph.is_output(value) {
            let own = self.tensor(value);
            return self.reshape_into(tensor, own, self.graph.ty(value));
        }
        self.tensor_of.insert(value, tensor);
        Ok(())
    }

    /// Writes a node whose kernel works on row-major tensors. A type may have another layout with the same bytes; such
    /// tensors are reshaped.
    fn row_major(
        &mut self,
        op: &Op,
        mut site: NodeContext<'_>,
        values: &[ValueId],
        results: &[ValueId],
    ) -> Result<(), Unsupported> {
        for (i, (ty, &v)) in site.operands.iter_mut().zip(values).enumerate() {
            if ops::recurrent::is_parameter(op, i) {
                site.inputs.push(ABSENT);
                continue;
            }
            let tensor = self.tensor(v);
            let row = TensorType { layout: Layout::row_major(ty.rank()), ..ty.clone() };
            site.inputs.push(if ty.layout.is_row_major() { tensor } else { self.reshape(tensor, &row)? });
            *ty = row;
        }
        let mut after = Vec::new();
        for (ty, &v) in site.results.iter_mut().zip(results) {
            let tensor = self.tensor(v);
            if ty.layout.is_row_major() {
                site.outputs.push(tensor);
                continue;
            }
            let row = TensorType { layout: Layout::row_major(ty.rank()), ..ty.clone() };
            let scratch = self.scratch(&row, site.node);
            after.push((scratch, tensor, std::mem::replace(ty, row)));
            site.outputs.push(scratch);
        }
        ops::emit(self, op, &site)?;
        for (scratch, tensor, ty) in after {
            self.reshape_into(scratch, tensor, &ty)?;
        }
        Ok(())
    }

    /// The activation function that can be fused into a node's operator, and the node whose results the operator then
    /// has.
    fn activation(&mut self, node: NodeId) -> (NodeId, Activation) {
        let none = (node, Activation::NONE);
        // BATCH_MATMUL has no activation function.
        if matches!(self.graph.op(node), Op::MatMul(_)) && !ops::matmul::is_fully_connected(self.graph, node) {
            return none;
        }
        let Some(user) = self.graph.only_user(node.value(0)) else { return none };
        let Op::Clamp(clamp) = self.graph.op(user) else { return none };
        if TARGET.fused(self.graph, user).is_none() {
            return none;
        }
        self.fused.insert(user);
        // A clamp that the quantized range implies needs no activation function.
        (user, ops::elementwise::activation(clamp).unwrap_or(Activation::NONE))
    }
}

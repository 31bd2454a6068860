//! The graph: nodes that hold an operator, values between them that hold a complete type.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::error::{EvalError, TooLarge, TypeError};
use crate::ops::{Const, Input, LayoutRule, Op, QuantRule, Types};
use crate::types::{Elem, Shape, Tensor, TensorType};

mod check;
mod composite;
mod cut;
mod extents;
mod ids;
mod net;
mod origin;
mod same;

pub use check::VerifyError;
pub(crate) use check::infer_float;
use check::{check, data_operand};
pub use composite::Composite;
pub use ids::{NodeId, ValueId};
use net::Net;
pub use origin::{Origin, Source};

/// An output of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Its name, kept from the source model.
    pub name: Arc<str>,
    /// The value.
    pub value: ValueId,
}

/// An extent of an input that the source model leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenExtent {
    /// Name of the input.
    pub input: String,
    /// The axis.
    pub axis: usize,
    /// The symbol. Extents with the same symbol are equal.
    pub symbol: Arc<str>,
}

/// Operands of a node, in order.
pub type Operands = SmallVec<[ValueId; 3]>;

/// The value of a key in a model's metadata.
pub fn metadata_entry<'m>(metadata: &'m [(String, String)], key: &str) -> Option<&'m str> {
    metadata.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
}

/// A typed dataflow graph. A node cannot be added without complete types; there are no cycles.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name of the model.
    pub name: String,
    /// Metadata of the source model, in its order.
    pub metadata: Vec<(String, String)>,
    net: Net,
    inputs: Vec<NodeId>,
    outputs: Vec<Output>,
    /// For each value that is an output, the indices of those outputs.
    named: FxHashMap<ValueId, BTreeSet<usize>>,
    /// The node that defines each symbol, see [`Op::defines`].
    definitions: FxHashMap<Arc<str>, NodeId>,
    /// Bytes of the source model's constants, and of the computed constants that are still in the graph.
    given: u64,
    computed: u64,
}

/// Maximum number of nodes that [`Graph::place`] follows to find a named value.
const MOST_STEPS: usize = 64;

/// Limit of the bytes of computed constants, in addition to twice the bytes of the model's own constants.
pub const COMPUTED_BYTES: u64 = 1 << 28;

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: impl Into<Arc<str>>, ty: TensorType) -> ValueId {
        let node = self.net.add(Input {}.into(), Types::from_elem(ty, 1), &[], Origin::none());
        self.inputs.push(node);
        self.set_name(node.value(0), name);
        node.value(0)
    }

    /// Adds a constant of the model. Its type must be valid ([`TensorType::validate`]): code that makes quantization
    /// parameters from numbers of a file checks them before. [`Graph::verify`] checks them again.
    pub fn add_const(&mut self, value: Tensor, origin: Origin) -> ValueId {
        self.given += value.data().len() as u64;
        self.put_const(value, origin)
    }

    /// Adds a computed constant. Code that computes large ones calls [`Graph::room`] before.
    pub fn add_computed(&mut self, value: Tensor, origin: Origin) -> ValueId {
        self.computed += value.data().len() as u64;
        let v = self.put_const(value, origin);
        self.net.set_computed(v.node);
        v
    }

    /// Checks that `bytes` more of computed constants are within the limit. The limit bounds the size that a small
    /// model can grow to, and is proportional to the size of the model's weights.
    ///
    /// # Errors
    /// Where the computed constants of the graph would exceed the limit.
    pub fn room(&self, bytes: u64) -> Result<(), TooLarge> {
        let most = COMPUTED_BYTES.saturating_add(self.given.saturating_mul(2));
        let bytes = self.computed.saturating_add(bytes);
        if bytes <= most { Ok(()) } else { Err(TooLarge { bytes, most }) }
    }

    fn put_const(&mut self, value: Tensor, origin: Origin) -> ValueId {
        let value = value.kept();
        let ty = value.ty().clone();
        debug_assert_eq!(ty.validate(), Ok(()), "a constant {ty}");
        self.net.add(Const { value }.into(), Types::from_elem(ty, 1), &[], origin).value(0)
    }

    /// Makes a value an output of the graph.
    pub fn add_output(&mut self, name: impl Into<Arc<str>>, value: ValueId) {
        self.named.entry(value).or_default().insert(self.outputs.len());
        self.outputs.push(Output { name: name.into(), value });
    }

    /// Removes an input that no node reads.
    pub fn remove_input(&mut self, v: ValueId) {
        if self.readers(v).next().is_none() && !self.is_output(v) {
            self.inputs.retain(|&n| n != v.node);
        }
    }

    /// Makes another value output `i`.
    pub fn set_output(&mut self, i: usize, value: ValueId) {
        let old = std::mem::replace(&mut self.outputs[i].value, value);
        if let Some(places) = self.named.get_mut(&old) {
            places.remove(&i);
            if places.is_empty() {
                self.named.remove(&old);
            }
        }
        self.named.entry(value).or_default().insert(i);
    }

    /// Gives output `i` another name.
    pub fn rename_output(&mut self, i: usize, name: impl Into<Arc<str>>) {
        self.outputs[i].name = name.into();
    }

    /// Adds a node; its result types are inferred. Results have quantization parameters only where these follow from
    /// the operands ([`QuantRule::SameAsInput`], [`QuantRule::SharedScale`]); other quantized results need
    /// [`Graph::add_typed`].
    ///
    /// # Errors
    /// Where the operator does not take such operands.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[ValueId], origin: Origin) -> Result<NodeId, TypeError> {
        let op = op.into();
        let results = self.infer(&op, operands)?;
        Ok(self.put(op, results, operands, origin))
    }

    fn put(&mut self, op: Op, results: Types, operands: &[ValueId], origin: Origin) -> NodeId {
        let symbols: SmallVec<[Arc<str>; 1]> = op.defines().iter().map(|s| s.as_str().into()).collect();
        let node = self.net.add(op, results, operands, origin);
        self.definitions.extend(symbols.into_iter().map(|symbol| (symbol, node)));
        node
    }

    /// Adds a node with one result and returns the result.
    ///
    /// # Errors
    /// Where the operator does not take such operands.
    pub fn add1(&mut self, op: impl Into<Op>, operands: &[ValueId], origin: Origin) -> Result<ValueId, TypeError> {
        Ok(self.add(op, operands, origin)?.value(0))
    }

    /// Adds a node whose results have the given types, which must be valid for the operator.
    ///
    /// # Errors
    /// Where the operator does not take such operands or cannot have such results.
    pub fn add_typed(
        &mut self,
        op: impl Into<Op>,
        operands: &[ValueId],
        results: Types,
        origin: Origin,
    ) -> Result<NodeId, TypeError> {
        let op = op.into();
        check(&op, &self.types_of(operands), &results)?;
        Ok(self.put(op, results, operands, origin))
    }

    fn types_of(&self, values: &[ValueId]) -> SmallVec<[&TensorType; 4]> {
        values.iter().map(|&v| self.ty(v)).collect()
    }

    fn infer(&self, op: &Op, operands: &[ValueId]) -> Result<Types, TypeError> {
        let types = self.types_of(operands);
        let mut results = infer_float(op, &types)?;
        if let Op::Custom(custom) = op {
            results = custom.wanted();
        }
        let Some(first) = types.first() else { return Ok(results) };
        if let (QuantRule::SameAsInput | QuantRule::SharedScale, Some(data)) =
            (op.quant_rule(), data_operand(op, &types))
        {
            for r in results.iter_mut().filter(|r| r.elem == Elem::F32) {
                if let Some(qparams) = op.carried_qparams(data, &r.shape) {
                    r.elem = Elem::Quantized(qparams);
                }
            }
        }
        let follows = match op.layout() {
            LayoutRule::Follow | LayoutRule::Innermost(_) | LayoutRule::Image => true,
            LayoutRule::RowMajor | LayoutRule::Free | LayoutRule::Carry => false,
        };
        if op.layout() == LayoutRule::Carry {
            for r in &mut results {
                r.layout = op.carried(first, &r.shape).unwrap_or_else(|| r.layout.clone());
            }
        }
        if follows {
            for r in &mut results {
                let donor = types.iter().find(|t| t.rank() == r.rank()).unwrap_or(first);
                if donor.rank() == r.rank() {
                    r.layout = donor.layout.clone();
                }
            }
        }
        check(op, &types, &results)?;
        Ok(results)
    }

    /// The operator of a node.
    pub fn op(&self, node: NodeId) -> &Op {
        &self.net.node(node).op
    }

    /// The source nodes of a node.
    pub fn origin(&self, node: NodeId) -> &Origin {
        &self.net.node(node).origin
    }

    /// Names a node for messages: its origin, or its operator and the nearest named value if it has no origin. Nodes of
    /// graphs that were not imported from a model file may have none.
    pub fn place(&self, node: NodeId) -> Origin {
        let origin = self.origin(node);
        if !origin.path().is_empty() {
            return origin.clone();
        }
        let kind = || origin.sources().first().map_or_else(|| self.op(node).kind().name().into(), |s| s.kind.clone());
        let named = |v: ValueId| self.output_name(v).or_else(|| self.name(v)).cloned();
        if let Some(own) = self.results(node).find_map(named) {
            return Origin::new(own, kind());
        }
        // The nearest named value after the node, else before it.
        let forward = |v: &ValueId| self.readers(*v).next().map(|(reader, _)| reader.value(0));
        let back = |v: &ValueId| self.net.node(v.node).operands().first().copied();
        let first = node.value(0);
        let after = std::iter::successors(Some(first), forward).take(MOST_STEPS).find_map(named);
        let before = || std::iter::successors(Some(first), back).take(MOST_STEPS).find_map(named);
        let path = match after {
            Some(name) => format!("before {name}"),
            None => before().map_or_else(String::new, |name| format!("behind {name}")),
        };
        Origin::new(path, kind())
    }

    /// The operator that produces a value.
    pub fn producer(&self, v: ValueId) -> &Op {
        self.op(v.node)
    }

    /// The operator that the node is a part of the decomposition of, if any.
    pub fn composite(&self, node: NodeId) -> Option<&Composite> {
        self.net.node(node).composite.as_ref()
    }

    /// Records the operator that the node is a part of the decomposition of.
    pub fn set_composite(&mut self, node: NodeId, composite: Composite) {
        self.net.set_composite(node, composite);
    }

    /// The operands of a node, in order.
    pub fn operands(&self, node: NodeId) -> Operands {
        self.net.node(node).operands().clone()
    }

    /// Operand `i` of a node.
    pub fn operand(&self, node: NodeId, i: usize) -> ValueId {
        self.net.node(node).operands()[i]
    }

    /// The nodes that must be computed before a node: those of its operands, and those that define the symbols in its
    /// attributes.
    pub fn needs(&self, node: NodeId) -> SmallVec<[NodeId; 4]> {
        let mut needs: SmallVec<[NodeId; 4]> = self.net.node(node).operands().iter().map(|v| v.node).collect();
        if !self.definitions.is_empty() {
            self.op(node).for_each_computed(&mut |symbol| needs.extend(self.definition(symbol)));
        }
        needs
    }

    /// The node that defines a symbol.
    pub fn definition(&self, symbol: &str) -> Option<NodeId> {
        self.definitions.get(symbol).copied()
    }

    /// A name for a symbol that no node of this graph defines yet: the path, or the path with a number.
    pub fn undefined(&self, path: &str) -> String {
        let named = |i: usize| if i == 0 { path.to_owned() } else { format!("{path}_{i}") };
        (0..).map(named).find(|name| self.definition(name).is_none()).unwrap_or_default()
    }

    /// The number of operands of a node.
    pub fn operand_count(&self, node: NodeId) -> usize {
        self.net.node(node).operands().len()
    }

    /// The results of a node.
    pub fn results(&self, node: NodeId) -> impl ExactSizeIterator<Item = ValueId> + use<> {
        (0..self.net.node(node).results.len() as u8).map(move |port| node.value(port))
    }

    /// The type of a value.
    pub fn ty(&self, v: ValueId) -> &TensorType {
        &self.net.value(v).ty
    }

    /// The types of a node's operands.
    pub fn operand_types(&self, node: NodeId) -> SmallVec<[&TensorType; 4]> {
        self.types_of(self.net.node(node).operands())
    }

    /// The types of a node's results.
    pub fn result_types(&self, node: NodeId) -> Types {
        self.net.node(node).results.iter().map(|r| r.ty.clone()).collect()
    }

    /// The name that a value has in the source model.
    pub fn name(&self, v: ValueId) -> Option<&Arc<str>> {
        self.net.value(v).name.as_ref()
    }

    /// Sets the name of a value.
    pub fn set_name(&mut self, v: ValueId, name: impl Into<Arc<str>>) {
        self.net.value_mut(v).name = Some(name.into());
    }

    /// The tensor, where the value is a constant.
    pub fn constant(&self, v: ValueId) -> Option<&Tensor> {
        match self.producer(v) {
            Op::Const(c) => Some(&c.value),
            _ => None,
        }
    }

    /// The extents of the axes that the indices of a node (operand 1) refer to: one for all, or one for each column of
    /// their last axis. `None` where the node has no indices.
    pub fn indexed(&self, node: NodeId) -> Option<Shape> {
        crate::ops::indexed(self.op(node), &self.operand_types(node))
    }

    /// Fails where a node has constant indices that are out of range: runtimes may read or write outside the tensor.
    ///
    /// # Errors
    /// The first constant index that is out of range.
    pub fn indices_within(&self, node: NodeId) -> Result<(), EvalError> {
        let Some(extents) = self.indexed(node).and_then(|axes| axes.extents()) else { return Ok(()) };
        let known = self.constant(self.operand(node, 1));
        known.map_or(Ok(()), |known| crate::kernels::index::within(known, &extents))
    }

    /// Graph inputs, in the order of the source model.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = ValueId> + '_ {
        self.inputs.iter().map(|n| n.value(0))
    }

    /// Graph outputs, in the order of the source model.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The users of a value: nodes and operand positions, in a fixed order. Graph outputs are not included.
    pub fn users(&self, v: ValueId) -> SmallVec<[(NodeId, usize); 2]> {
        self.readers(v).collect()
    }

    /// As [`Graph::users`], as an iterator: a value may have as many users as the graph has nodes.
    pub fn readers(&self, v: ValueId) -> impl ExactSizeIterator<Item = (NodeId, usize)> + '_ {
        self.net.value(v).users()
    }

    /// True where the value is a graph output.
    pub fn is_output(&self, v: ValueId) -> bool {
        self.named.contains_key(&v)
    }

    /// The name of the value's first output.
    pub fn output_name(&self, v: ValueId) -> Option<&Arc<str>> {
        let first = *self.named.get(&v)?.first()?;
        Some(&self.outputs[first].name)
    }

    /// The user of a value, where there is exactly one use and the value is not a graph output.
    pub fn only_user(&self, v: ValueId) -> Option<NodeId> {
        let mut readers = self.readers(v);
        match (readers.next(), readers.next()) {
            (Some((node, _)), None) if !self.is_output(v) => Some(node),
            _ => None,
        }
    }

    /// Replaces `old` by `new`, which must have the same type, at all its users and graph outputs. If `new` has no
    /// name, it gets the name of `old`.
    ///
    /// # Errors
    /// Where the values differ in their types.
    pub fn replace(&mut self, old: ValueId, new: ValueId) -> Result<(), TypeError> {
        if self.ty(old) != self.ty(new) {
            return Err(TypeError::Result {
                result: usize::from(old.port),
                found: Box::new(self.ty(new).clone()),
                expected: self.ty(old).to_string(),
            });
        }
        self.redirect(old, new);
        Ok(())
    }

    /// As [`Graph::replace`], for passes that change types and update the types of the users themselves.
    pub fn redirect(&mut self, old: ValueId, new: ValueId) {
        for (node, operand) in self.users(old) {
            if node != new.node {
                self.set_operand(node, operand, new);
            }
        }
        for i in self.named.get(&old).cloned().unwrap_or_default() {
            self.set_output(i, new);
        }
        if self.name(new).is_none()
            && let Some(name) = self.name(old).cloned()
        {
            self.set_name(new, name);
        }
    }

    /// Replaces operand `i` of a node by another value.
    pub fn set_operand(&mut self, node: NodeId, i: usize, v: ValueId) {
        self.net.set_operand(node, i, v);
    }

    /// Changes the type of a value. Passes that change types (layout, quantization) call it and verify afterwards.
    pub fn set_type(&mut self, v: ValueId, ty: TensorType) {
        self.net.value_mut(v).ty = ty;
    }

    /// All nodes that outputs depend on, operands before users; inputs first. The order depends on the graph alone.
    pub fn order(&self) -> Vec<NodeId> {
        let roots: Vec<NodeId> = self.outputs.iter().map(|o| o.value.node).collect();
        self.walk(self.inputs.clone(), &roots)
    }

    /// As [`Graph::order`], with the nodes that `also` depends on. A node that only `also` needs is placed right after
    /// its operands, so that these need not be kept for it.
    pub fn order_with(&self, also: &[ValueId]) -> Vec<NodeId> {
        let needed = self.order();
        let extra: Vec<NodeId> = also.iter().map(|v| v.node).collect();
        let all = self.walk(needed.clone(), &extra);
        let mut place: FxHashMap<NodeId, (usize, usize)> =
            needed.iter().enumerate().map(|(i, &n)| (n, (i, 0))).collect();
        for (i, &n) in all.iter().enumerate().skip(needed.len()) {
            let ready = self.needs(n).iter().filter_map(|n| place.get(n)).map(|p| p.0).max().unwrap_or(0);
            place.insert(n, (ready, i));
        }
        let mut order = all;
        order.sort_by_key(|n| place.get(n).copied());
        order
    }

    /// `order`, followed by the nodes that `roots` depend on, operands before users.
    fn walk(&self, mut order: Vec<NodeId>, roots: &[NodeId]) -> Vec<NodeId> {
        let mut done = vec![false; self.net.bound()];
        order.iter().for_each(|n| done[n.index()] = true);
        for &root in roots {
            let mut stack = vec![(root, false)];
            while let Some((node, expanded)) = stack.pop() {
                if done[node.index()] {
                    continue;
                }
                if expanded {
                    done[node.index()] = true;
                    order.push(node);
                    continue;
                }
                stack.push((node, true));
                stack.extend(self.needs(node).into_iter().rev().map(|n| (n, false)));
            }
        }
        order
    }

    /// Removes every node that no output depends on, except inputs. Returns the number of removed nodes.
    pub fn sweep(&mut self) -> usize {
        let mut live = vec![false; self.net.bound()];
        self.order().iter().for_each(|n| live[n.index()] = true);
        let removed = self.net.retain(&live);
        self.definitions.retain(|_, node| live[node.index()]);
        self.computed = self.net.computed_bytes();
        removed
    }
}

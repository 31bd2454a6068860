//! Joint evaluation of several graphs that were lowered from one: common values are evaluated once.

use std::fmt::{self, Write};
use std::sync::Arc;

use qcc_ir::error::TypeError;
use qcc_ir::eval::{Executor, Peak};
use qcc_ir::ops::Op;
use qcc_ir::{Affine, Elem, Graph, NodeId, Operands, QuantParams, Tensor, TensorType, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::Xxh3Default;

use crate::identity::Digest128;

/// Several graphs merged into one.
///
/// A pass that rewrites a computation keeps the name of each value whose meaning it preserves. Values with the same
/// name and type are therefore equal up to rounding. Each graph only adds the nodes between such values that differ.
#[derive(Debug)]
pub struct SharedGraph {
    graph: Graph,
    /// For each graph, the value of the merged graph that represents each of its values.
    places: Vec<FxHashMap<ValueId, ValueId>>,
    /// The number of samples that are evaluated in parallel.
    pub at_once: usize,
}

impl SharedGraph {
    /// Merges the graphs of `made`, each lowered from `source` by passes that preserve the meaning of named values.
    ///
    /// # Errors
    /// If a node cannot be added to the merged graph.
    pub fn new(source: &Graph, made: &[&Graph]) -> Result<Self, TypeError> {
        let mut joint =
            SharedGraph { graph: source.clone(), places: Vec::new(), at_once: rayon::current_num_threads() };
        let known = named(source);
        let mut added = FxHashMap::default();
        for graph in made {
            let places = joint.add(graph, Some(&known), &mut added, by_address)?;
            joint.places.push(places);
        }
        Ok(joint)
    }

    /// Merges graphs with the same inputs. The result has the outputs of all of them, in order. Identical computations
    /// are evaluated once.
    pub(crate) fn side_by_side(first: &Graph, others: &[&Graph]) -> Result<Self, TypeError> {
        let mut joint = SharedGraph::alone(first);
        // Comparing constants by content reads all of them, which a single graph does not need.
        if others.is_empty() {
            return Ok(joint);
        }
        let nodes = first.order().into_iter().filter(|n| !matches!(first.op(*n), Op::Input(_)));
        let key = |n: NodeId| (key_of(first, n, first.op(n), by_content), first.operands(n));
        let mut added: FxHashMap<(Digest128, Operands), NodeId> = nodes.map(|n| (key(n), n)).collect();
        for graph in others {
            let places = joint.add(graph, None, &mut added, by_content)?;
            for output in graph.outputs() {
                if let Some(&value) = places.get(&output.value) {
                    joint.graph.add_output(output.name.clone(), value);
                }
            }
            joint.places.push(places);
        }
        Ok(joint)
    }

    /// A single graph.
    pub fn alone(graph: &Graph) -> Self {
        let own = graph.order().into_iter().flat_map(|n| graph.results(n)).map(|v| (v, v)).collect();
        SharedGraph { graph: graph.clone(), places: vec![own], at_once: rayon::current_num_threads() }
    }

    fn add(
        &mut self,
        graph: &Graph,
        known: Option<&FxHashMap<&str, ValueId>>,
        added: &mut FxHashMap<(Digest128, Operands), NodeId>,
        constant: fn(&mut Key, &Tensor),
    ) -> Result<FxHashMap<ValueId, ValueId>, TypeError> {
        let mut places: FxHashMap<ValueId, ValueId> = graph.inputs().zip(self.graph.inputs()).collect();
        // Graphs that are not equal up to rounding compute other integers: each has a name of its own.
        let mut names: FxHashMap<Arc<str>, Arc<str>> = FxHashMap::default();
        for n in graph.order().into_iter().filter(|n| !matches!(graph.op(*n), Op::Input(_))) {
            let twin = |v: ValueId| {
                let twin = *known?.get(graph.name(v)?.as_ref())?;
                (self.graph.ty(twin) == graph.ty(v)).then_some((v, twin))
            };
            if let Some(twins) = graph.results(n).map(twin).collect::<Option<Vec<_>>>() {
                places.extend(twins);
                continue;
            }
            let operands: Operands = graph.operands(n).iter().filter_map(|v| places.get(v).copied()).collect();
            let mut op = graph.op(n).clone();
            if !names.is_empty() {
                op = op.renamed(&names);
            }
            let key = (key_of(graph, n, &op, constant), operands);
            let node = match added.get(&key) {
                Some(&node) => node,
                None => {
                    if known.is_none() {
                        let taken = op.defines().iter().filter_map(|name| Some((name.clone(), self.other_name(name)?)));
                        names.extend(taken.map(|(name, other)| (name.into(), other.into())));
                    }
                    let (mut types, origin) = (graph.result_types(n), graph.origin(n).clone());
                    if !names.is_empty() {
                        op = op.renamed(&names);
                        types.iter_mut().for_each(|ty| ty.shape = ty.shape.renamed(&names));
                    }
                    let node = match op {
                        Op::Const(c) => self.graph.add_const(c.value, origin).node,
                        op => self.graph.add_typed(op, &key.1, types, origin)?,
                    };
                    added.insert(key, node);
                    node
                }
            };
            for (own, name) in graph.op(n).defines().iter().zip(self.graph.op(node).defines()) {
                if own != name {
                    names.insert(own.as_str().into(), name.as_str().into());
                }
            }
            places.extend(graph.results(n).zip(self.graph.results(node)));
        }
        Ok(places)
    }

    /// Another name for a symbol that the merged graph defines already.
    fn other_name(&self, symbol: &str) -> Option<String> {
        self.graph.definition(symbol)?;
        (1..).map(|i| format!("{symbol}#{i}")).find(|name| self.graph.definition(name).is_none())
    }

    /// The merged graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The peak memory of a run in which all values are observed, at typical extents; `None` if an extent is not known.
    pub fn peak(&self) -> Option<Peak> {
        let observed: FxHashSet<ValueId> = self.places.iter().flat_map(FxHashMap::values).copied().collect();
        let mut observed: Vec<ValueId> = observed.into_iter().collect();
        observed.sort_unstable();
        Executor::observing(&self.graph.typical(), &observed).peak()
    }

    /// The number of values.
    pub fn values(&self) -> usize {
        self.places.iter().flat_map(FxHashMap::values).collect::<FxHashSet<_>>().len()
    }

    /// The value of the merged graph that represents value `v` of graph `i`.
    pub(crate) fn place(&self, i: usize, v: ValueId) -> Option<ValueId> {
        self.places[i].get(&v).copied()
    }

    /// An executor that evaluates all graphs at once. Of the values that are not outputs, those of `wanted` are observed.
    pub(crate) fn executor(&self, wanted: &FxHashSet<ValueId>) -> Executor<'_> {
        let mut wanted: Vec<ValueId> = wanted.iter().copied().collect();
        wanted.sort_unstable();
        Executor::only(&self.graph, &wanted)
    }
}

/// The values of a graph that have a unique name.
fn named(graph: &Graph) -> FxHashMap<&str, ValueId> {
    let mut known: FxHashMap<&str, Option<ValueId>> = FxHashMap::default();
    for v in graph.order().into_iter().flat_map(|n| graph.results(n)).filter(|v| graph.constant(*v).is_none()) {
        if let Some(name) = graph.name(v) {
            known.entry(name).and_modify(|v| *v = None).or_insert(Some(v));
        }
    }
    known.into_iter().filter_map(|(name, v)| Some((name, v?))).collect()
}

/// What identifies a node besides its operands: the operator, and the types of its results, since quantization
/// parameters follow from neither operator nor operands.
fn key_of(graph: &Graph, n: NodeId, op: &Op, constant: fn(&mut Key, &Tensor)) -> Digest128 {
    let mut key = Key(Xxh3Default::new());
    match op {
        Op::Const(c) => {
            key.ty(c.value.ty());
            constant(&mut key, &c.value);
        }
        op => key.text(format_args!("{op:?}")),
    }
    for ty in graph.result_types(n).iter().filter(|ty| ty.elem.qparams().is_some()) {
        key.ty(ty);
    }
    Digest128(key.0.digest128())
}

/// Identifies a constant by the address of its data.
fn by_address(key: &mut Key, constant: &Tensor) {
    key.text(format_args!(" {:p} {}", constant.data().as_ptr(), constant.data().len()));
}

/// Identifies a constant by its data.
fn by_content(key: &mut Key, constant: &Tensor) {
    key.text(format_args!(" {} ", constant.data().len()));
    key.0.update(constant.data());
}

/// A digest under construction. Text is not stored, and many scales are not spelled.
struct Key(Xxh3Default);

impl Key {
    fn text(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a digest does not fail.
        let _ = self.write_fmt(text);
    }

    fn ty(&mut self, ty: &TensorType) {
        let Some(QuantParams { storage, map }) = ty.elem.qparams() else { return self.text(format_args!(" {ty}")) };
        self.text(format_args!(" {} {storage}", ty.with_elem(Elem::F32)));
        let (scales, zero_points) = match map {
            Affine::PerTensor { scale, zero_point } => return self.text(format_args!(" {scale:?}:{zero_point}")),
            Affine::PerAxis { axis, scales } => {
                self.text(format_args!(" axis {axis} "));
                (scales, None)
            }
            Affine::PerBlock { axis, size, scales, zero_points } => {
                self.text(format_args!(" axis {axis} by {size}, {} ", zero_points.is_some()));
                (scales, zero_points.as_ref())
            }
        };
        scales.iter().for_each(|scale| self.0.update(&scale.to_le_bytes()));
        zero_points.into_iter().flat_map(|all| all.iter()).for_each(|zero| self.0.update(&zero.to_le_bytes()));
    }
}

impl Write for Key {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qcc_ir::Tensor;
    use qcc_ir::text::{Weights, parse};

    fn graph(body: &str) -> Graph {
        parse(&format!("graph g {{ %x: f32[1,2] = input {body} output y = %y }}"), &Weights::new()).unwrap()
    }

    fn evaluated(joint: &SharedGraph, wanted: &FxHashSet<ValueId>) -> usize {
        let mut seen = 0;
        let x = Tensor::from_vec(qcc_ir::Shape::known(&[1, 2]), vec![1.0, -2.0]);
        joint.executor(wanted).run(&[x], &mut |_, _| seen += 1).unwrap();
        seen
    }

    #[test]
    fn nodes_that_round_differently_are_not_merged() -> Result<(), Box<dyn std::error::Error>> {
        let rounded = |scale: f32| graph(&format!("%q: i8<{scale}:0>[1,2] = quantize %x %y = dequantize %q"));
        let (fine, coarse) = (rounded(0.5), rounded(4.0));
        let joint = SharedGraph::side_by_side(&fine, &[&coarse, &fine])?;
        let x = Tensor::from_vec(qcc_ir::Shape::known(&[1, 2]), vec![1.0, -2.0]);
        let outputs = joint.executor(&FxHashSet::default()).run(&[x], &mut |_, _| {})?;
        let numbers: Vec<Vec<f32>> = outputs.iter().map(|t| t.floats().to_vec()).collect();
        assert_eq!(numbers, [[1.0, -2.0], [0.0, 0.0], [1.0, -2.0]]);
        Ok(())
    }

    #[test]
    fn each_graph_counts_what_it_finds() -> Result<(), Box<dyn std::error::Error>> {
        let found = |of: &str, before: &str| {
            graph(&format!(
                "{before} %t: f32[] = const [-0.5] %c = binary(f:Less) %t, {of} %z = non_zero(count:\"n\") %c
                 %f = cast\"f32\" %z %y = reshape[\"(2*$n)\"] %f"
            ))
        };
        let (fine, coarse) = (found("%x", ""), found("%r", "%q: i8<4:0>[1,2] = quantize %x %r = dequantize %q"));
        let joint = SharedGraph::side_by_side(&fine, &[&coarse, &fine])?;
        let x = Tensor::from_vec(qcc_ir::Shape::known(&[1, 2]), vec![1.0, -2.0]);
        let outputs = joint.executor(&FxHashSet::default()).run(&[x], &mut |_, _| {})?;
        assert_eq!(outputs.iter().map(Tensor::len).collect::<Vec<_>>(), [2, 4, 2]);
        Ok(())
    }

    #[test]
    fn what_graphs_share_is_evaluated_once() -> Result<(), Box<dyn std::error::Error>> {
        let mut source = graph("%s = unary(f:Silu) %x %y = unary(f:Exp) %s");
        let name = |g: &mut Graph| {
            let y = g.outputs()[0].value;
            let s = g.operands(y.node)[0];
            g.set_name(s, "s");
            g.set_name(y, "y");
            s
        };
        name(&mut source);
        let mut lowered = graph("%i = unary(f:Sigmoid) %x %s = binary(f:Mul) %x, %i %y = unary(f:Exp) %s");
        let s = name(&mut lowered);
        let joint = SharedGraph::new(&source, &[&lowered, &lowered])?;
        let sigmoid = lowered.operands(s.node)[1];
        let wanted: FxHashSet<ValueId> = (0..2).filter_map(|i| joint.place(i, sigmoid)).collect();
        assert_eq!(wanted.len(), 1);
        assert_eq!(joint.place(0, s), source.operands(source.outputs()[0].value.node).first().copied());
        // x, silu, exp; and the sigmoid.
        assert_eq!(evaluated(&joint, &FxHashSet::default()), 3);
        assert_eq!(evaluated(&joint, &wanted), 4);
        Ok(())
    }
}

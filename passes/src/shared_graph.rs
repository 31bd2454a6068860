//! Joint evaluation of several graphs that were lowered from one: common values are evaluated once.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use qcc_ir::error::TypeError;
use qcc_ir::eval::{Executor, Peak};
use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId, Operands, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

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
            let places = joint.add(graph, &known, &mut added, identity)?;
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
        let key = |n: NodeId| (key_of(first, n, identity_by_content), first.operands(n));
        let mut added: FxHashMap<(String, Operands), NodeId> = nodes.map(|n| (key(n), n)).collect();
        for graph in others {
            let places = joint.add(graph, &FxHashMap::default(), &mut added, identity_by_content)?;
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
        known: &FxHashMap<&str, ValueId>,
        added: &mut FxHashMap<(String, Operands), NodeId>,
        identity: fn(&Op) -> String,
    ) -> Result<FxHashMap<ValueId, ValueId>, TypeError> {
        let mut places: FxHashMap<ValueId, ValueId> = graph.inputs().zip(self.graph.inputs()).collect();
        for n in graph.order().into_iter().filter(|n| !matches!(graph.op(*n), Op::Input(_))) {
            let twin = |v: ValueId| {
                let twin = *known.get(graph.name(v)?.as_ref())?;
                (self.graph.ty(twin) == graph.ty(v)).then_some((v, twin))
            };
            if let Some(twins) = graph.results(n).map(twin).collect::<Option<Vec<_>>>() {
                places.extend(twins);
                continue;
            }
            let operands: Operands = graph.operands(n).iter().filter_map(|v| places.get(v).copied()).collect();
            let key = (key_of(graph, n, identity), operands);
            let node = match added.get(&key) {
                Some(&node) => node,
                None => {
                    let (op, origin) = (graph.op(n).clone(), graph.origin(n).clone());
                    let node = match op {
                        Op::Const(c) => self.graph.add_const(c.value, origin).node,
                        op => self.graph.add_typed(op, &key.1, graph.result_types(n), origin)?,
                    };
                    added.insert(key, node);
                    node
                }
            };
            places.extend(graph.results(n).zip(self.graph.results(node)));
        }
        Ok(places)
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

    /// An executor that evaluates all graphs at once and keeps the values of `wanted`.
    pub(crate) fn executor(&self, wanted: &FxHashSet<ValueId>) -> Executor<'_> {
        let mut wanted: Vec<ValueId> = wanted.iter().copied().collect();
        wanted.sort_unstable();
        Executor::observing(&self.graph, &wanted)
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

/// A key that identifies a node besides its operands: the operator, and the types of its results, since quantization
/// parameters follow from neither operator nor operands.
fn key_of(graph: &Graph, n: NodeId, identity: fn(&Op) -> String) -> String {
    let mut key = identity(graph.op(n));
    for ty in graph.result_types(n).iter().filter(|ty| ty.elem.qparams().is_some()) {
        let _ = write!(key, " {ty}");
    }
    key
}

/// A key that identifies an operator and its attributes. Constants are identified by the address of their data.
fn identity(op: &Op) -> String {
    match op {
        Op::Const(c) => format!("{} {:p} {}", c.value.ty(), c.value.data().as_ptr(), c.value.data().len()),
        op => format!("{op:?}"),
    }
}

/// Like [`identity`], with constants identified by a hash of their content.
fn identity_by_content(op: &Op) -> String {
    match op {
        Op::Const(c) => {
            let mut hasher = DefaultHasher::new();
            c.value.data().hash(&mut hasher);
            format!("{} {:x} {}", c.value.ty(), hasher.finish(), c.value.data().len())
        }
        op => format!("{op:?}"),
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

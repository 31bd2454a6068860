//! Which values of an artefact correspond to values of its source: by name where names are kept, else by the order and
//! the shape of the results of layers.

use std::collections::{HashMap, HashSet};
use std::fmt;

use qcc_ir::error::TypeError;
use qcc_ir::ops::{Extents, Op, OpKind, Transpose};
use qcc_ir::{Graph, NodeId, Origin, QuantParams, Shape, ValueId};
use qcc_passes::quality::layers;
use serde::Serialize;

/// What corresponds to the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Matched {
    /// Number of values with the same name, operator and extents in both.
    pub values_by_name: usize,
    /// Number of layers (convolutions and matrix products, with their activation function) that are matched by the name
    /// of their result.
    pub layers_by_name: usize,
    /// Number of layers that are matched by the order of layers whose results have one shape.
    pub layers_by_order: usize,
    /// The layers of the source without a counterpart: their errors are not known.
    pub unmatched: Vec<String>,
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matched { values_by_name, layers_by_name, layers_by_order, unmatched } = self;
        write!(
            f,
            "{layers_by_name} layers by name, {layers_by_order} by order and shape, {} not; {values_by_name} values by name",
            unmatched.len()
        )
    }
}

/// The values that a source and an artefact have in common.
#[derive(Debug, Default)]
pub(crate) struct Matching {
    /// Values of the source, each with its counterpart, whose axes may be in another order.
    pub(crate) values: Vec<(ValueId, ValueId)>,
    /// Results of layers of the source, each with its counterpart, which has the same axes.
    pub(crate) results: Vec<(ValueId, ValueId)>,
    /// Layers of the source, each with its counterpart.
    layers: Vec<(NodeId, NodeId)>,
    pub(crate) matched: Matched,
}

impl Matching {
    /// Matches the lowered source with the artefact, which has the same inputs and outputs. Results of layers whose
    /// axes have another order in the artefact become outputs of it, with the axes of the source, after its own.
    pub(crate) fn new(source: &Graph, artefact: &mut Graph) -> Result<Matching, TypeError> {
        let mut pairs = named(source, artefact);
        let mut found = Matching::default();
        found.matched.values_by_name = pairs.len();
        let outputs = source.outputs().iter().zip(artefact.outputs()).map(|(a, b)| (a.value, b.value));
        pairs.extend(source.inputs().zip(artefact.inputs()).chain(outputs));
        let others: HashMap<NodeId, ValueId> = layers(artefact).into_iter().collect();
        let own = layers(source);
        let by_name = |n: NodeId| pairs.get(&n.value(0)).map(|twin| twin.node).filter(|twin| others.contains_key(twin));
        let mut twins: HashMap<NodeId, NodeId> = own.iter().filter_map(|&(n, _)| Some((n, by_name(n)?))).collect();
        found.matched.layers_by_name = twins.len();
        let in_order = in_order(source, artefact, &twins);
        found.matched.layers_by_order = in_order.len();
        twins.extend(in_order);
        for (n, v) in own {
            let Some(&twin) = twins.get(&n) else {
                found.matched.unmatched.push(source.origin(n).path().to_owned());
                continue;
            };
            found.layers.push((n, twin));
            let result = others.get(&twin).copied().unwrap_or(twin.value(0));
            let (activated, activated_twin) = (v != n.value(0), result != twin.value(0));
            match clamped(source, v, artefact, result) {
                Some(clamped) if activated && !activated_twin => {
                    pairs.remove(&n.value(0));
                    pairs.insert(v, clamped);
                }
                _ => {
                    pairs.insert(n.value(0), twin.value(0));
                    if activated && activated_twin {
                        pairs.entry(v).or_insert(result);
                    }
                }
            }
            for v in [n.value(0), v] {
                if let Some(&other) = pairs.get(&v)
                    && let Some(other) = with_axes(&source.ty(v).shape, artefact, twin, other)?
                {
                    found.results.push((v, other));
                }
            }
        }
        found.values = pairs.into_iter().collect();
        found.values.sort_unstable();
        Ok(found)
    }

    /// Figures of layers of the source by name, as figures of the nodes of the artefact by name.
    pub(crate) fn layers<'g, T: Copy>(
        &self,
        source: &Graph,
        artefact: &'g Graph,
        figures: &HashMap<&str, T>,
    ) -> HashMap<&'g str, T> {
        let name =
            |(a, b): &(NodeId, NodeId)| Some((artefact.origin(*b).path(), *figures.get(source.origin(*a).path())?));
        self.layers.iter().filter_map(name).collect()
    }
}

/// What a value is called: the operator that computes it, a name of the value or of a node that it comes from, and the
/// index of the result.
type Key<'g> = (OpKind, &'g str, usize);

/// The values with a unique key, except constants. A layer has the names of its activation function as well: kernels
/// that fuse it have those.
fn keys(g: &Graph) -> HashMap<Key<'_>, ValueId> {
    let computed = g.order().into_iter().filter(|n| !matches!(g.op(*n), Op::Const(_)));
    let own = computed.flat_map(|n| g.results(n).enumerate().map(move |(i, v)| (n, i, v, v)).collect::<Vec<_>>());
    let activated = layers(g).into_iter().filter(|(n, v)| *v != n.value(0)).map(|(n, v)| (n, 0, n.value(0), v));
    let mut known: HashMap<Key<'_>, Option<ValueId>> = HashMap::new();
    for (n, i, v, named) in own.chain(activated) {
        let of_value = g.name(named).into_iter().chain(g.output_name(named)).map(|name| &**name);
        let of_nodes = g.origin(named.node).sources().iter().map(|s| &*s.path);
        for name in of_value.chain(of_nodes).map(plain).filter(|name| !name.is_empty()) {
            let entry = known.entry((g.op(n).kind(), name, i));
            entry.and_modify(|known| *known = known.filter(|k| *k == v)).or_insert(Some(v));
        }
    }
    known.into_iter().filter_map(|(key, v)| Some((key, v?))).collect()
}

/// A name without the ending that quantizers add.
fn plain(name: &str) -> &str {
    ["_quantized", "_quant"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// Values of one name and operator, with the same extents.
fn named(source: &Graph, artefact: &Graph) -> HashMap<ValueId, ValueId> {
    let known = keys(artefact);
    let twin = |(key, v): (Key<'_>, ValueId)| {
        let twin = *known.get(&key)?;
        alike(&artefact.ty(twin).shape, &source.ty(v).shape).then_some((v, twin))
    };
    keys(source).into_iter().filter_map(twin).collect()
}

/// True if the shapes have the same extents, in any order.
fn alike(a: &Shape, b: &Shape) -> bool {
    let sorted = |shape: &Shape| shape.extents().map(|mut extents| (extents.sort_unstable(), extents).1);
    sorted(a) == sorted(b)
}

/// The value `v` of the artefact with the axes of the source, where it has the given shape. If the result of the
/// `layer` is transposed, so is what is computed from it.
fn with_axes(shape: &Shape, artefact: &mut Graph, layer: NodeId, v: ValueId) -> Result<Option<ValueId>, TypeError> {
    let result = quantize_of(artefact, layer.value(0)).unwrap_or(layer.value(0));
    let perm = [layer.value(0), result].into_iter().find_map(|v| transposed(artefact, v));
    match perm {
        Some(perm) if v != layer.value(0) && v != result => {
            let moved: Shape = perm.iter().map(|&axis| shape.dims()[axis].clone()).collect();
            if artefact.ty(v).shape != moved {
                return Ok(None);
            }
            let back: Extents = (0..perm.len()).filter_map(|axis| perm.iter().position(|p| *p == axis)).collect();
            let value = artefact.add1(Transpose { perm: back }, &[v], Origin::none())?;
            artefact.add_output(format!("result {}", artefact.outputs().len()), value);
            Ok(Some(value))
        }
        _ => Ok((artefact.ty(v).shape == *shape).then_some(v)),
    }
}

/// How a value is transposed, if it is by all of its users.
fn transposed(g: &Graph, v: ValueId) -> Option<Extents> {
    let perm = |n: NodeId| match g.op(n) {
        Op::Transpose(t) => Some(t.perm.clone()),
        _ => None,
    };
    let mut users = g.readers(v).map(|(n, _)| perm(n));
    let first = users.next()??;
    users.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

/// The layers that names do not match, by the order of those with one operator and shape, if both graphs have the same
/// number of them.
fn in_order(source: &Graph, artefact: &Graph, twins: &HashMap<NodeId, NodeId>) -> Vec<(NodeId, NodeId)> {
    let taken: HashSet<NodeId> = twins.values().copied().collect();
    let own = classes(source, |n| !twins.contains_key(&n));
    let others = classes(artefact, |n| !taken.contains(&n));
    let alike = own.iter().filter_map(|(class, own)| Some((own, others.get(class).filter(|o| o.len() == own.len())?)));
    alike.flat_map(|(own, others)| own.iter().copied().zip(others.iter().copied())).collect()
}

/// The layers of a graph by operator and shape of the result, in order.
fn classes(g: &Graph, wanted: impl Fn(NodeId) -> bool) -> HashMap<(OpKind, &Shape), Vec<NodeId>> {
    let mut all: HashMap<(OpKind, &Shape), Vec<NodeId>> = HashMap::new();
    for (n, _) in layers(g).into_iter().filter(|(n, _)| wanted(*n)) {
        all.entry((g.op(n).kind(), &g.ty(n.value(0)).shape)).or_default().push(n);
    }
    all
}

/// The quantized result of a layer if its quantization clamps as the activation function of the source does, which the
/// artefact lacks.
fn clamped(source: &Graph, activated: ValueId, artefact: &Graph, result: ValueId) -> Option<ValueId> {
    let Op::Clamp(clamp) = source.producer(activated) else { return None };
    let quantized = std::iter::once(result).chain(quantize_of(artefact, result));
    let clamps = |v: &ValueId| {
        artefact.ty(*v).elem.qparams().is_some_and(|quantization| quantization.keeps_within(clamp.lo, clamp.hi))
    };
    quantized.into_iter().find(clamps)
}

/// The result of the `Quantize` that uses a value.
fn quantize_of(g: &Graph, v: ValueId) -> Option<ValueId> {
    g.readers(v).find(|(n, _)| matches!(g.op(*n), Op::Quantize(_))).map(|(n, _)| n.value(0))
}

/// The quantization parameters of a value, or those of the `Quantize` that uses it.
pub(crate) fn qparams_of(g: &Graph, v: ValueId) -> Option<&QuantParams> {
    g.ty(v).elem.qparams().or_else(|| g.ty(quantize_of(g, v)?).elem.qparams())
}

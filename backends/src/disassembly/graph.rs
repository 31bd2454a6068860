//! Disassembly of qcc's graph.

use bytes::Bytes;
use qcc_ir::ops::Op;
use qcc_ir::{Affine, Dim, Elem, Graph, TensorType, ValueId, text};
use rustc_hash::FxHashMap;

use super::{Constant, Disassembly, Entry, Extent, Listing, Named, Operator, Quantization, Tensor};

impl Disassembly {
    /// The disassembly of a graph.
    pub fn of_graph(graph: &Graph) -> Disassembly {
        let mut all = Disassembly::new("graph");
        all.metadata = graph.metadata.iter().map(|(key, value)| Entry::new(key, value)).collect();
        let ids = text::ids(graph);
        let named = |name: &str, v: ValueId| Named { name: name.into(), tensor: ids[&v].clone() };
        let mut listing = Listing {
            name: graph.name.clone(),
            inputs: graph.inputs().map(|v| named(graph.name(v).map_or("", |n| n), v)).collect(),
            outputs: graph.outputs().iter().map(|o| named(&o.name, o.value)).collect(),
            ..Listing::default()
        };
        let known = |v: ValueId| Some(ids[&v].clone());
        for node in graph.order() {
            let op = graph.op(node);
            listing.tensors.extend(graph.results(node).map(|v| tensor(graph, v, &ids)));
            if matches!(op, Op::Input(_) | Op::Const(_)) {
                continue;
            }
            listing.operators.push(Operator {
                name: Some(graph.origin(node).path().to_owned()).filter(|path| !path.is_empty()),
                kind: op.kind().name().into(),
                inputs: graph.operands(node).iter().map(|&v| known(v)).collect(),
                outputs: graph.results(node).map(known).collect(),
                attributes: text::fields(op).into_iter().map(|(name, value)| Entry::new(name, value)).collect(),
            });
        }
        all.graphs.push(listing);
        all
    }

    /// The disassembly of a `.qir` file.
    pub(crate) fn of_text(file: &Bytes) -> Result<Disassembly, String> {
        text::file::read(file).map(|graph| Disassembly::of_graph(&graph)).map_err(|e| e.to_string())
    }
}

fn tensor(graph: &Graph, v: ValueId, ids: &FxHashMap<ValueId, String>) -> Tensor {
    let (ty, id) = (graph.ty(v), ids[&v].clone());
    let element = match &ty.elem {
        Elem::Quantized(qparams) => qparams.storage.to_string(),
        plain => plain.to_string(),
    };
    Tensor {
        name: graph.name(v).map(ToString::to_string).filter(|name| *name != id),
        constant: graph.constant(v).map(|t| Constant::new(&element, t.data())),
        id,
        element,
        shape: Some(ty.shape.dims().iter().map(extent).collect()),
        layout: (!ty.layout.is_row_major()).then(|| ty.layout.to_string()),
        quantization: quantization(ty),
    }
}

fn extent(dim: &Dim) -> Extent {
    match dim {
        Dim::Known(n) => Extent::Known(*n as u64),
        Dim::Open(expr) => Extent::Open(expr.label()),
    }
}

/// The quantization parameters of a type.
fn quantization(ty: &TensorType) -> Option<Quantization> {
    let qparams = ty.elem.qparams()?;
    let (axis, block) = match qparams.map {
        Affine::PerTensor { .. } => (None, None),
        Affine::PerAxis { axis, .. } => (Some(axis), None),
        Affine::PerBlock { axis, size, .. } => (Some(axis), Some(size)),
    };
    Some(Quantization {
        axis,
        block,
        levels: None,
        scales: qparams.scales().to_vec(),
        zero_points: match qparams.block_zero_points() {
            Some(all) => all.iter().map(|&zero| zero.into()).collect(),
            None => vec![qparams.zero_point().into()],
        },
    })
}

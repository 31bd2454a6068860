//! Conversion of a graph into layers, node by node.

use qcc_formats::openvino::{Info, Layer, Operation, Port};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::{Checked, Dim, Elem, Graph, NodeId, TensorType, ValueId};

use super::emit::{CONST, Emitter, NodeContext, PARAMETER, Unsupported, Written, attribute, element, stored};
use super::ops;
use crate::Attachments;

const RESULT: Operation = Operation("Result", 1);

/// The network of a graph, or all nodes that cannot be written.
pub(super) fn emit(checked: Checked<'_>, attachments: &Attachments) -> Result<Written, Vec<Diagnostic>> {
    let graph = checked.graph();
    let value = |(key, value): &(String, String)| Info::Value(key.clone(), value.clone());
    let group = |(name, entries): &(String, Vec<_>)| Info::Group(name.clone(), entries.iter().map(value).collect());
    let facts = ("qcc".to_owned(), attachments.facts.clone());
    let facts = Some(&facts).filter(|f| !f.1.is_empty());
    let info = attachments.info.iter().chain(facts).map(group).chain(runtime_options(graph)).collect();
    let mut e = Emitter::new(graph, info);
    let mut refused = Vec::new();
    let mut refuse = |node: NodeId, why: Unsupported| refused.push(why.diagnostic(checked, node));
    for v in graph.inputs() {
        e.input(v);
    }
    for node in graph.order() {
        // Constants are written with their consumers.
        let constant = e.literal(node.value(0)).is_some();
        if constant || matches!(graph.op(node), Op::Input(_)) {
            continue;
        }
        if let Err(why) = e.node(node) {
            refuse(node, why);
            e.stand_in(node);
        }
    }
    for output in graph.outputs() {
        e.output(&output.name, output.value).unwrap_or_else(|why| refuse(output.value.node, why));
    }
    if refused.is_empty() { Ok(e.written) } else { Err(refused) }
}

/// Disables the plugin's dynamic quantization if the graph does not request it. By default the plugin applies it to the
/// activations of all products with quantized weights that are not integer products.
fn runtime_options(graph: &Graph) -> Option<Info> {
    let narrow = |v: ValueId| {
        let behind = matches!(graph.producer(v), Op::Dequantize(_)).then(|| graph.operands(v.node)[0]);
        let v = behind.unwrap_or(v);
        graph.constant(v).is_some() && graph.ty(v).elem.qparams().is_some()
    };
    let unasked = |&n: &NodeId| {
        let operands = graph.operands(n);
        matches!(graph.op(n), Op::MatMul(_))
            && !matches!(graph.producer(operands[0]), Op::DynamicQuantize(_))
            && narrow(operands[1])
    };
    let off = || Info::Value("DYNAMIC_QUANTIZATION_GROUP_SIZE".into(), "0".into());
    graph.order().iter().any(unasked).then(|| Info::Group("runtime_options".into(), vec![off()]))
}

impl Emitter<'_> {
    pub(super) fn input(&mut self, v: ValueId) {
        let (graph, ty) = (self.graph, self.graph.ty(v));
        let name = graph.name(v).map(ToString::to_string).unwrap_or_default();
        let stored = TensorType::new(stored(&ty.elem), ty.shape.clone());
        let extent = |d: &Dim| d.known().map_or("?".to_owned(), |n| n.to_string());
        let shape = ty.shape.dims().iter().map(extent).collect::<Vec<String>>().join(",");
        let data = [attribute("shape", shape), attribute("element_type", element(&stored.elem).name())];
        self.scope = name.clone();
        let port = self.op(PARAMETER, &data, &[], &stored);
        self.rename(port, &name);
        self.at(port).names = vec![name];
        let real = match &ty.elem {
            Elem::Quantized(qparams) => ops::quantize::enter(self, qparams, port, ty),
            _ => port,
        };
        self.ports.insert(v, real);
    }

    pub(super) fn node(&mut self, node: NodeId) -> Result<(), Unsupported> {
        let graph = self.graph;
        let op = graph.op(node);
        let types = graph.operand_types(node);
        let site = NodeContext {
            values: graph.operands(node),
            operands: types.iter().map(|&t| t.clone()).collect(),
            results: graph.result_types(node),
        };
        self.scope = match graph.origin(node).path() {
            "" => graph.name(node.value(0)).map_or(op.kind().name().to_owned(), ToString::to_string),
            path => path.to_owned(),
        };
        let first = self.written.net.layers.len();
        let mut ports = ops::emit(self, op, &site)?;
        if ops::quantize::rounds(op) {
            for (port, ty) in ports.iter_mut().zip(&site.results) {
                *port = ops::quantize::place(self, *port, ty)?;
            }
        }
        // The layer that produces the result has the node's name; FakeQuantize layers have none.
        if ports[0].layer >= first && !matches!(op, Op::Quantize(_)) {
            let scope = std::mem::take(&mut self.scope);
            self.rename(ports[0], &scope);
        }
        for (v, port) in graph.results(node).zip(ports) {
            self.ports.insert(v, port);
            if let Some(name) = graph.name(v)
                && self.at(port).names.is_empty()
                && self.tensors.take(name)
            {
                self.at(port).names = vec![name.to_string()];
            }
        }
        Ok(())
    }

    /// Placeholder results of a refused node, so that the nodes that use them are checked as well.
    fn stand_in(&mut self, node: NodeId) {
        let types = self.graph.result_types(node);
        let ports = self.op_many(CONST, &[], &[], &types.iter().collect::<Vec<&TensorType>>());
        self.ports.extend(self.graph.results(node).zip(ports));
    }

    /// Makes a value a result of the model under a name. A tensor has only one name: an input, a constant or a tensor
    /// that already is a result is copied.
    fn output(&mut self, name: &str, v: ValueId) -> Result<(), Unsupported> {
        self.scope = name.to_owned();
        let ty = self.graph.ty(v);
        let mut port = self.port(v);
        if let Elem::Quantized(qparams) = &ty.elem {
            port = ops::quantize::leave(self, qparams, port, ty)?;
        }
        self.result(name, port, ty);
        Ok(())
    }

    /// Adds the layer of a result.
    pub(super) fn result(&mut self, name: &str, mut port: Port, ty: &TensorType) {
        let shared = matches!(self.written.net.layers[port.layer].operation, CONST | PARAMETER);
        if shared || self.results.contains(&port) {
            port = self.convert(port, &ty.with_elem(stored(&ty.elem)));
        }
        self.results.insert(port);
        self.at(port).names = vec![name.to_owned()];
        let name = self.unique(&format!("{name}/sink_port_0"));
        let layer = Layer {
            name,
            operation: RESULT,
            data: Vec::new(),
            decompression: false,
            inputs: vec![port],
            outputs: Vec::new(),
        };
        self.written.net.layers.push(layer);
    }
}

//! Conversion of a graph into layers, node by node.

use qcc_formats::openvino::{Info, Layer, Operation, Port};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::{Checked, Dim, Elem, Graph, NodeId, Shape, TensorType, ValueId};

use super::emit::{CONST, Emitter, NodeContext, PARAMETER, Unsupported, Written, attribute, element, stored};
use super::ops;
use crate::attachments::{Attachments, State, zeros};
use crate::extents::Arithmetic;

const RESULT: Operation = Operation("Result", 1);

const READ_VALUE: Operation = Operation("ReadValue", 6);
const ASSIGN: Operation = Operation("Assign", 6);

/// Layers that the plugin computes in the memory of their operand, or removes.
const VIEWS: [&str; 10] = [
    "Concat",
    "Convert",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "StridedSlice",
    "Transpose",
    "Unsqueeze",
    "VariadicSplit",
];

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
    let state_of = |v: &ValueId| graph.name(*v).and_then(|name| attachments.state_of_input(name));
    let (kept, given): (Vec<ValueId>, Vec<ValueId>) = graph.inputs().partition(|v| state_of(v).is_some());
    given.iter().for_each(|&v| e.input(v));
    for v in kept {
        if let Err(why) = e.state(v, &given) {
            refuse(v.node, why);
            e.stand_in(v.node);
        }
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
        let state = attachments.state_of_output(&output.name);
        let written = e.output(&output.name, output.value, state);
        written.unwrap_or_else(|why| refuse(output.value.node, why));
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

/// The type of an input as it is stored, and its shape in the notation of attributes.
fn described(ty: &TensorType) -> (TensorType, String) {
    let extent = |d: &Dim| d.known().map_or("?".to_owned(), |n| n.to_string());
    let shape = ty.shape.dims().iter().map(extent).collect::<Vec<String>>().join(",");
    (TensorType::new(stored(&ty.elem), ty.shape.clone()), shape)
}

impl Emitter<'_> {
    pub(super) fn input(&mut self, v: ValueId) {
        let (stored, shape) = described(self.graph.ty(v));
        self.scope = self.graph.name(v).map(ToString::to_string).unwrap_or_default();
        let data = [attribute("shape", shape), attribute("element_type", element(&stored.elem).name())];
        let port = self.op(PARAMETER, &data, &[], &stored);
        self.enter(v, port);
    }

    /// Writes an input as a state of the model. Its first value is zero; an extent that no input of `given` has is 0.
    fn state(&mut self, v: ValueId, given: &[ValueId]) -> Result<(), Unsupported> {
        let (graph, ty) = (self.graph, self.graph.ty(v));
        let (stored, shape) = described(ty);
        self.scope = graph.name(v).map(ToString::to_string).unwrap_or_default();
        let dims = ty.shape.dims();
        let places: Vec<Option<(ValueId, usize)>> = dims.iter().map(|d| self.place_of(d, given)).collect();
        let known = |d: &Dim| d.known().unwrap_or(0);
        let first = if places.iter().all(Option::is_none) {
            self.zeros(ty, Shape::known(&dims.iter().map(known).collect::<Vec<usize>>()))?
        } else {
            let zero = self.zeros(ty, Shape::scalar())?;
            let extents = dims.iter().zip(places).map(|(d, place)| match place {
                Some((input, axis)) => self.extent(input, axis),
                None => self.indices(&[known(d) as i64]),
            });
            let extents: Vec<Port> = extents.collect();
            let shape = self.join(&extents, dims.len());
            self.op(Operation("Broadcast", 3), &[attribute("mode", "numpy")], &[zero, shape], &stored)
        };
        let data = [
            attribute("variable_id", &self.scope),
            attribute("variable_type", element(&stored.elem).name()),
            attribute("variable_shape", shape),
        ];
        let port = self.op(READ_VALUE, &data, &[first], &stored);
        self.enter(v, port);
        Ok(())
    }

    /// A constant with zeros everywhere.
    fn zeros(&mut self, ty: &TensorType, shape: Shape) -> Result<Port, Unsupported> {
        let zeros = zeros(&TensorType::new(ty.elem.clone(), shape.clone()))?;
        Ok(self.constant(&TensorType::new(stored(&ty.elem), shape), zeros.data().clone()))
    }

    /// The input among `given` and its axis that have an extent, if it is open.
    fn place_of(&self, d: &Dim, given: &[ValueId]) -> Option<(ValueId, usize)> {
        let axis = |&v: &ValueId| Some((v, self.graph.ty(v).shape.dims().iter().position(|other| other == d)?));
        given.iter().filter(|_| d.known().is_none()).find_map(axis)
    }

    /// Binds an input to the port that gives it.
    fn enter(&mut self, v: ValueId, port: Port) {
        let name = self.scope.clone();
        self.rename(port, &name);
        self.at(port).names = vec![name];
        let ty = self.graph.ty(v);
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
    fn output(&mut self, name: &str, v: ValueId, state: Option<&State>) -> Result<(), Unsupported> {
        self.scope = name.to_owned();
        let ty = self.graph.ty(v);
        let mut port = self.port(v);
        if let Elem::Quantized(qparams) = &ty.elem {
            port = ops::quantize::leave(self, qparams, port, ty)?;
        }
        match state {
            Some(state) => {
                let data = [attribute("variable_id", &state.input)];
                let port = self.apart_from_inputs(port, ty)?;
                self.op(ASSIGN, &data, &[port], &ty.with_elem(stored(&ty.elem)));
            }
            None => self.result(name, port, ty),
        }
        Ok(())
    }

    /// A value with memory of its own where it is an input, or a view of one: the plugin gives a state the memory of what
    /// is assigned to it, and removes operators that change nothing by their kind.
    fn apart_from_inputs(&mut self, port: Port, ty: &TensorType) -> Result<Port, Unsupported> {
        let mut source = port;
        loop {
            let layer = &self.written.net.layers[source.layer];
            match (layer.operation.0, layer.inputs.first()) {
                ("Parameter" | "ReadValue", _) => break,
                (kind, Some(&operand)) if VIEWS.contains(&kind) => source = operand,
                _ => return Ok(port),
            }
        }
        let ty = ty.with_elem(stored(&ty.elem));
        let least = match ty.elem {
            Elem::F32 | Elem::F16 => f32::NEG_INFINITY,
            Elem::U8 => 0.0,
            Elem::I8 => i8::MIN.into(),
            _ => i32::MIN as f32,
        };
        let least = self.scalar_of(&ty.elem, least)?;
        Ok(self.binary("Maximum", port, least, &ty))
    }

    /// Adds the layer of a result.
    pub(super) fn result(&mut self, name: &str, mut port: Port, ty: &TensorType) {
        let shared = matches!(self.written.net.layers[port.layer].operation, CONST | PARAMETER | READ_VALUE);
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

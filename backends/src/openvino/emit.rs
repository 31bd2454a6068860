//! Construction of the network, used by the operator families.

use std::collections::BTreeMap;
use std::fmt::Display;

use bytes::Bytes;
use indexmap::IndexMap;
use indexmap::map::Entry;
use qcc_formats::openvino::{Attribute, Element, Info, Layer, Net, Operation, Port, Tensor as Described};
use qcc_ir::ops::{Cast, Op, Types};
use qcc_ir::{Affine, Dim, Elem, Expr, Graph, QuantParams, Scalar, Shape, StorageType, Tensor, TensorType, ValueId};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use smallvec::SmallVec;

pub(super) use crate::Unsupported;
use crate::extents::{self, Arithmetic};
use crate::names::Names;
use crate::pack::{packed, unsigned};

/// The ports of a node's results.
pub(super) type Ports = SmallVec<[Port; 1]>;

/// A network and the bytes of its constants, with their offsets.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) net: Net,
    pub(super) constants: Vec<(u64, Bytes)>,
}

/// The context of a node while it is written.
pub(super) struct NodeContext {
    pub(super) values: qcc_ir::Operands,
    /// Types of the operands, including quantization parameters.
    pub(super) operands: SmallVec<[TensorType; 4]>,
    pub(super) results: Types,
}

/// The network under construction.
pub(super) struct Emitter<'g> {
    pub(super) graph: &'g Graph,
    /// True if the graph has quantized activations.
    pub(super) quantizes: bool,
    pub(super) written: Written,
    /// Offsets of the bytes that are already in the file of constants, which are hashed once.
    offsets: IndexMap<Bytes, u64, FxBuildHasher>,
    /// Layers of constants, by element type, extents and offset.
    constants: FxHashMap<(Element, Vec<usize>, u64), Port>,
    /// Constants of the graph, by the shape in which they are used and the shape of their integers in the file.
    known: FxHashMap<(ValueId, Shape, Shape), Port>,
    pub(super) ports: FxHashMap<ValueId, Port>,
    /// Integers that follow from open extents.
    extents: FxHashMap<Expr, Port>,
    /// The name prefix of the layers that are being written.
    pub(super) scope: String,
    /// Names of layers.
    names: Names,
    /// Names of tensors.
    pub(super) tensors: Names,
    /// Ports that are results of the model.
    pub(super) results: FxHashSet<Port>,
}

/// An attribute of a layer.
pub(super) fn attribute(name: &'static str, value: impl Display) -> Attribute {
    (name, value.to_string())
}

/// A list in the notation of attributes.
pub(super) fn list(values: &[usize]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<String>>().join(", ")
}

/// A constant in its stored form.
pub(super) struct Literal<'g> {
    /// The bytes.
    pub(super) stored: &'g Tensor,
    /// Stored as `F16`, used as `F32`.
    pub(super) widened: bool,
}

impl<'g> Emitter<'g> {
    pub(super) fn new(graph: &'g Graph, info: Vec<Info>) -> Self {
        // Names of inputs and outputs are reserved: no intermediate value may use them.
        let mut names = Names::default();
        graph.outputs().iter().for_each(|o| names.reserve(&o.name));
        graph.inputs().filter_map(|v| graph.name(v)).for_each(|n| names.reserve(n));
        let net = Net {
            name: if graph.name.is_empty() { "main".into() } else { graph.name.clone() },
            layers: Vec::new(),
            info,
            bodies: BTreeMap::new(),
        };
        Emitter {
            graph,
            quantizes: graph.order().iter().any(|&n| {
                graph.constant(n.value(0)).is_none() && graph.result_types(n).iter().any(|t| t.elem.qparams().is_some())
            }),
            written: Written { net, constants: Vec::new() },
            offsets: IndexMap::default(),
            constants: FxHashMap::default(),
            known: FxHashMap::default(),
            ports: FxHashMap::default(),
            extents: FxHashMap::default(),
            scope: String::new(),
            names: Names::default(),
            tensors: names,
            results: FxHashSet::default(),
        }
    }

    /// Exchanges the file of constants.
    pub(super) fn exchange(&mut self, other: &mut Emitter<'_>) {
        std::mem::swap(&mut self.written.constants, &mut other.written.constants);
        std::mem::swap(&mut self.offsets, &mut other.offsets);
    }

    /// Adds a layer with results of these types.
    pub(super) fn op_many(
        &mut self,
        operation: Operation,
        data: &[Attribute],
        inputs: &[Port],
        types: &[&TensorType],
    ) -> Ports {
        let name = self.unique(&format!("{}/{}", self.scope, operation.0));
        let outputs: Vec<Described> = types.iter().map(|ty| describe(ty)).collect();
        let layer = self.written.net.layers.len();
        let ports = (0..outputs.len()).map(|result| Port { layer, result }).collect();
        let (data, inputs) = (data.to_vec(), inputs.to_vec());
        self.written.net.layers.push(Layer { name, operation, data, decompression: false, inputs, outputs });
        ports
    }

    /// Adds a layer with one result.
    pub(super) fn op(&mut self, operation: Operation, data: &[Attribute], inputs: &[Port], ty: &TensorType) -> Port {
        self.op_many(operation, data, inputs, &[ty])[0]
    }

    /// A binary element-wise operation.
    pub(super) fn binary(&mut self, kind: &'static str, a: Port, b: Port, ty: &TensorType) -> Port {
        self.op(Operation(kind, 1), &[attribute("auto_broadcast", "numpy")], &[a, b], ty)
    }

    /// Convert to another element type.
    pub(super) fn convert(&mut self, x: Port, ty: &TensorType) -> Port {
        let to = element(&ty.elem).name();
        self.op(Operation("Convert", 1), &[attribute("destination_type", to)], &[x], ty)
    }

    pub(super) fn at(&mut self, port: Port) -> &mut Described {
        &mut self.written.net.layers[port.layer].outputs[port.result]
    }

    pub(super) fn rename(&mut self, port: Port, name: &str) {
        self.written.net.layers[port.layer].name = self.unique(name);
    }

    pub(super) fn unique(&mut self, wanted: &str) -> String {
        self.names.unique(wanted).to_string()
    }

    /// Operand `i` of a node.
    pub(super) fn operand(&mut self, site: &NodeContext, i: usize) -> Port {
        self.port(site.values[i])
    }

    /// All operands of a node.
    pub(super) fn operands(&mut self, site: &NodeContext) -> SmallVec<[Port; 4]> {
        site.values.iter().map(|&v| self.port(v)).collect()
    }

    pub(super) fn port(&mut self, v: ValueId) -> Port {
        match self.ports.get(&v) {
            Some(&port) => port,
            None => self.shaped(v, &self.graph.ty(v).shape),
        }
    }

    /// The constant of a value, if it is one.
    pub(super) fn literal(&self, v: ValueId) -> Option<Literal<'g>> {
        let graph = self.graph;
        match graph.producer(v) {
            Op::Const(c) => Some(Literal { stored: &c.value, widened: false }),
            Op::Cast(c) if c.to == Elem::F32 => {
                let stored = graph.constant(graph.operands(v.node)[0]).filter(|t| t.ty().elem == Elem::F16)?;
                Some(Literal { stored, widened: true })
            }
            _ => None,
        }
    }

    /// A value reshaped, with its elements in order. Constants are stored in that shape; those in narrow types are
    /// followed by layers that convert them, in the pattern that the plugin recognizes.
    pub(super) fn shaped(&mut self, v: ValueId, shape: &Shape) -> Port {
        self.stored_as(v, shape, shape)
    }

    /// As [`Emitter::shaped`], for a weight that the plugin must dequantize when it loads the model. If it recognized
    /// the quantized weight, it would dequantize that of a convolution at each inference, or treat it as a matrix
    /// product and fail. A Reshape hides the pattern.
    pub(super) fn widened(&mut self, v: ValueId, shape: &Shape) -> Port {
        let flat = shape.elements().map(|n| Shape::known(&[n]));
        self.stored_as(v, shape, &flat.unwrap_or_else(|| shape.clone()))
    }

    /// A value in a shape; the integers of a quantized constant have the shape `file` in the file.
    fn stored_as(&mut self, v: ValueId, shape: &Shape, file: &Shape) -> Port {
        let Some(literal) = self.literal(v) else {
            let (x, ty) = (self.port(v), self.graph.ty(v));
            return if ty.shape == *shape {
                x
            } else {
                self.reshape(x, &TensorType::new(ty.elem.real(), shape.clone()))
            };
        };
        let key = (v, shape.clone(), file.clone());
        if let Some(&port) = self.known.get(&key) {
            return port;
        }
        let name = match self.graph.name(v) {
            Some(name) => name.to_string(),
            None => format!("{}/constant", self.scope),
        };
        let scope = std::mem::replace(&mut self.scope, name.clone());
        let first = self.written.net.layers.len();
        let port = self.stored(&literal, shape, file);
        if port.layer >= first {
            self.rename(port, &name);
        }
        self.scope = scope;
        self.known.insert(key, port);
        port
    }

    fn stored(&mut self, literal: &Literal<'_>, shape: &Shape, file: &Shape) -> Port {
        let tensor = literal.stored;
        let ty = |elem: Elem| TensorType::new(elem, shape.clone());
        let Elem::Quantized(qparams) = &tensor.ty().elem else {
            let constant = self.constant(&ty(tensor.ty().elem.clone()), tensor.data().clone());
            if !literal.widened {
                return constant;
            }
            let port = self.convert(constant, &ty(Elem::F32));
            self.written.net.layers[port.layer].decompression = true;
            return port;
        };
        if qparams.storage == StorageType::I32 {
            return self.constant(&ty(Elem::F32), tensor.to_float().data().clone());
        }
        if let Affine::PerBlock { axis, size, .. } = &qparams.map {
            return self.blocks(tensor, qparams, [*axis, *size], shape);
        }
        let constant = self.constant(&TensorType::new(qparams.storage.elem(), file.clone()), tensor.data().clone());
        let mut port = self.convert(constant, &TensorType::new(Elem::F32, file.clone()));
        if file != shape {
            port = self.reshape(port, &ty(Elem::F32));
        }
        if qparams.zero_point() != 0 {
            let zero = self.scalar(qparams.zero_point() as f32);
            port = self.binary("Subtract", port, zero, &ty(Elem::F32));
        }
        let scale = self.numbers(&TensorType::f32(&along(qparams, tensor.ty(), shape)), qparams.scales());
        self.binary("Multiply", port, scale, &ty(Elem::F32))
    }

    /// The dequantized values of a blockwise quantized weight. The blocks of `size` indices of `axis` are an axis of
    /// their own until they are multiplied by the scales. With zero points both are unsigned: the plugin has no kernel for
    /// signed ones.
    fn blocks(&mut self, tensor: &Tensor, qparams: &QuantParams, [axis, size]: [usize; 2], shape: &Shape) -> Port {
        let runs = |length: usize| {
            let mut dims = tensor.dims();
            dims.splice(axis..=axis, [dims[axis] / size, length]);
            TensorType::f32(&dims)
        };
        let split = runs(size);
        let numbers = match qparams.block_zero_points() {
            None => {
                let four_bits = qparams.storage == StorageType::I4;
                let element = if four_bits { Element::I4 } else { element(&qparams.storage.elem()) };
                let constant = self.constant_of(element, &split, packed(tensor));
                self.convert(constant, &split)
            }
            Some(zero_points) => {
                let storage = qparams.storage;
                let element = if storage == StorageType::I4 { Element::U4 } else { Element::U8 };
                let constant = self.constant_of(element, &split, unsigned(storage, tensor.data()));
                let numbers = self.convert(constant, &split);
                let zeros = unsigned(storage, bytemuck::cast_slice(zero_points));
                let zeros = self.constant_of(element, &runs(1), zeros);
                let zeros = self.convert(zeros, &runs(1));
                self.binary("Subtract", numbers, zeros, &split)
            }
        };
        let scale = self.numbers(&runs(1), qparams.scales());
        let product = self.binary("Multiply", numbers, scale, &split);
        self.reshape(product, &TensorType::new(Elem::F32, shape.clone()))
    }

    /// A constant of the given bytes.
    pub(super) fn constant(&mut self, ty: &TensorType, bytes: Bytes) -> Port {
        self.constant_of(element(&ty.elem), ty, bytes)
    }

    /// A constant of the given bytes and extents. Equal constants share a layer.
    fn constant_of(&mut self, element: Element, ty: &TensorType, bytes: Bytes) -> Port {
        let dims: Vec<usize> = ty.shape.dims().iter().filter_map(Dim::known).collect();
        let size = bytes.len();
        let offset = self.place(bytes);
        let key = (element, dims, offset);
        if let Some(&known) = self.constants.get(&key) {
            return known;
        }
        let data = [
            attribute("element_type", element.name()),
            attribute("shape", list(&key.1)),
            attribute("offset", offset),
            attribute("size", size),
        ];
        let port = self.op(CONST, &data, &[], ty);
        self.at(port).element = element;
        self.constants.insert(key, port);
        port
    }

    /// The offset of bytes in the file of constants. Equal bytes are stored once.
    fn place(&mut self, bytes: Bytes) -> u64 {
        let entry = match self.offsets.entry(bytes) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(entry) => entry,
        };
        // Large constants are aligned to cache lines, small ones to their length rounded up to a power of two.
        let bytes = entry.key().clone();
        let align = bytes.len().next_power_of_two().min(ALIGNMENT) as u64;
        let end = self.written.constants.last().map_or(0, |(at, bytes)| at + bytes.len() as u64);
        let offset = end.next_multiple_of(align);
        entry.insert(offset);
        self.written.constants.push((offset, bytes));
        offset
    }

    /// A constant without quantization.
    pub(super) fn numbers<T: Scalar>(&mut self, ty: &TensorType, values: &[T]) -> Port {
        self.constant(ty, Bytes::copy_from_slice(bytemuck::cast_slice(values)))
    }

    /// A constant list of 64-bit integers.
    pub(super) fn indices(&mut self, values: &[i64]) -> Port {
        self.numbers(&TensorType::new(Elem::I64, Shape::known(&[values.len()])), values)
    }

    /// A constant list of axes or extents.
    pub(super) fn axes(&mut self, values: &[usize]) -> Port {
        self.indices(&values.iter().map(|&v| v as i64).collect::<Vec<i64>>())
    }

    /// A constant 64-bit integer, as a scalar.
    pub(super) fn index(&mut self, value: usize) -> Port {
        self.numbers(&TensorType::new(Elem::I64, Shape::scalar()), &[value as i64])
    }

    /// A constant `F32` scalar.
    pub(super) fn scalar(&mut self, value: f32) -> Port {
        self.numbers(&TensorType::f32(&[]), &[value])
    }

    /// A constant scalar of an element type.
    pub(super) fn scalar_of(&mut self, elem: &Elem, value: f32) -> Result<Port, Unsupported> {
        let value = Op::from(Cast { to: elem.real() })
            .eval(&[&Tensor::scalar(value)])
            .map_err(|e| e.to_string())?
            .swap_remove(0);
        Ok(self.constant(value.ty(), value.data().clone()))
    }

    /// Reshape to the extents of a type, of which at most one is open. An unchanged first extent is marked as such, so
    /// that users may change the batch size.
    pub(super) fn reshape(&mut self, x: Port, ty: &TensorType) -> Port {
        let dims = ty.shape.dims();
        if dims.is_empty() {
            // The plugin crashes on a Reshape to a scalar.
            let all: Vec<usize> = (0..self.written.net.tensor(x).dims.len()).collect();
            let inputs = [x, self.axes(&all)];
            return self.op(Operation("Squeeze", 1), &[], &inputs, ty);
        }
        let extent = |d: &Dim| d.known().map_or(-1, |n| n as i64);
        let mut shape: Vec<i64> = dims.iter().map(extent).collect();
        let before = self.written.net.tensor(x).dims.first().copied().flatten();
        let stays = before.is_some() && before == dims[0].known() && !shape.contains(&0);
        if stays {
            shape[0] = 0;
        }
        let shape = self.indices(&shape);
        self.op(Operation("Reshape", 1), &[attribute("special_zero", stays)], &[x, shape], ty)
    }

    /// As [`Emitter::reshape`], of a value whose shape is `own`, to a type that may have several open extents.
    pub(super) fn reshape_from(&mut self, x: Port, own: &Shape, ty: &TensorType) -> Result<Port, Unsupported> {
        let open = ty.shape.dims().iter().filter(|d| d.known().is_none()).count();
        if open < 2 && own.has_elements_of(&ty.shape) {
            return Ok(self.reshape(x, ty));
        }
        let copied = extents::target(Some(own), &ty.shape, true);
        let shape = match &copied {
            Some(target) => self.indices(target),
            None => extents::shape(self, &ty.shape)?,
        };
        Ok(self.op(Operation("Reshape", 1), &[attribute("special_zero", copied.is_some())], &[x, shape], ty))
    }
}

/// A list of `count` extents.
fn list_of(count: usize) -> TensorType {
    TensorType::new(Elem::I64, Shape::known(&[count]))
}

impl Arithmetic for Emitter<'_> {
    type Value = Port;

    fn graph(&self) -> &Graph {
        self.graph
    }

    fn numbers(&mut self, values: &[i64]) -> Port {
        self.indices(values)
    }

    fn extent(&mut self, v: ValueId, axis: usize) -> Port {
        let (x, rank) = (self.port(v), self.graph.ty(v).rank());
        let all = self.op(Operation("ShapeOf", 3), &[attribute("output_type", "i64")], &[x], &list_of(rank));
        let inputs = [all, self.axes(&[axis]), self.index(0)];
        self.op(Operation("Gather", 8), &[attribute("batch_dims", 0)], &inputs, &list_of(1))
    }

    fn element(&mut self, v: ValueId, i: usize) -> Port {
        let (mut x, ty) = (self.port(v), self.graph.ty(v));
        if ty.elem != Elem::I64 {
            x = self.convert(x, &ty.with_elem(Elem::I64));
        }
        match ty.shape.dims() {
            [Dim::Known(1)] => x,
            [] => self.reshape(x, &list_of(1)),
            _ => {
                let inputs = [x, self.axes(&[i]), self.index(0)];
                self.op(Operation("Gather", 8), &[attribute("batch_dims", 0)], &inputs, &list_of(1))
            }
        }
    }

    fn sum(&mut self, a: &Port, b: &Port) -> Port {
        self.binary("Add", *a, *b, &list_of(1))
    }

    fn product(&mut self, a: &Port, b: &Port) -> Port {
        self.binary("Multiply", *a, *b, &list_of(1))
    }

    fn quotient(&mut self, a: &Port, b: &Port) -> Port {
        let data = [attribute("auto_broadcast", "numpy"), attribute("m_pythondiv", true)];
        self.op(Operation("Divide", 1), &data, &[*a, *b], &list_of(1))
    }

    fn larger(&mut self, a: &Port, b: &Port) -> Port {
        self.binary("Maximum", *a, *b, &list_of(1))
    }

    fn smaller(&mut self, a: &Port, b: &Port) -> Port {
        self.binary("Minimum", *a, *b, &list_of(1))
    }

    fn join(&mut self, parts: &[Port], count: usize) -> Port {
        self.op(Operation("Concat", 1), &[attribute("axis", 0)], parts, &list_of(count))
    }

    fn known(&mut self) -> &mut FxHashMap<Expr, Port> {
        &mut self.extents
    }
}

pub(super) const CONST: Operation = Operation("Const", 1);
pub(super) const PARAMETER: Operation = Operation("Parameter", 1);

/// Size of a cache line in bytes.
const ALIGNMENT: usize = 64;

/// Shape in which the scales of a quantized type broadcast to a value of type `ty` whose elements have the given shape.
pub(super) fn along(qparams: &QuantParams, ty: &TensorType, shape: &Shape) -> Vec<usize> {
    let Affine::PerAxis { axis, scales } = &qparams.map else { return Vec::new() };
    let inner = |dims: &[Dim]| dims.iter().filter_map(Dim::known).product::<usize>();
    let run = inner(&ty.shape.dims()[axis + 1..]);
    let (dims, steps) = (shape.dims(), run..run * scales.len());
    let extent = |i: usize| dims[i].known().filter(|_| steps.contains(&inner(&dims[i + 1..]))).unwrap_or(1);
    (0..dims.len()).map(extent).collect()
}

/// The element type of a value at the model's inputs and outputs.
pub(super) fn stored(elem: &Elem) -> Elem {
    elem.qparams().map_or_else(|| elem.clone(), |g| g.storage.elem())
}

/// The format's name of an element type; quantized values are represented as floats.
pub(super) fn element(elem: &Elem) -> Element {
    match elem {
        Elem::Bool => Element::Boolean,
        Elem::I8 => Element::I8,
        Elem::U8 => Element::U8,
        Elem::I16 => Element::I16,
        Elem::I32 => Element::I32,
        Elem::I64 => Element::I64,
        Elem::F16 => Element::F16,
        Elem::F32 | Elem::Quantized(_) => Element::F32,
    }
}

fn describe(ty: &TensorType) -> Described {
    let dims = ty.shape.dims().iter().map(Dim::known).collect();
    Described { element: element(&ty.elem), dims, names: Vec::new() }
}

//! Construction of the messages, used by the operator families.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use indexmap::IndexMap;
use indexmap::map::Entry;
use qcc_formats::onnx::{
    AttributeProto, DataType, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, TypeValue, ValueInfoProto,
};
use qcc_ir::ops::{Custom, Op, Types};
use qcc_ir::{
    Affine, Dim, Elem, Expr, Graph, NodeId, Operands, QuantParams, Scalar, Shape, StorageType, Tensor, TensorType,
    ValueId,
};
use rustc_hash::{FxBuildHasher, FxHashMap};
use smallvec::SmallVec;

use super::call::Call;
pub(super) use crate::Unsupported;
use crate::WriteOptions;
use crate::extents::{self, Arithmetic};
use crate::names::Names;
use crate::pack::packed;

/// The name of a tensor; empty for an omitted operand.
pub(super) type Name = Arc<str>;

/// The representation of the operands and results of a node whose values are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Floats, after DequantizeLinear and before QuantizeLinear.
    Float,
    /// The stored integers.
    Stored,
}

/// The context of a node while it is written.
pub(super) struct NodeContext<'g> {
    pub(super) graph: &'g Graph,
    pub(super) node: NodeId,
    pub(super) values: Operands,
    pub(super) numbers: Numbers,
    /// Types of the operands; quantized types if the tensors hold integers, else float types.
    pub(super) operands: SmallVec<[TensorType; 4]>,
    /// Types of the results, likewise.
    pub(super) results: Types,
    /// Tensors of the results.
    pub(super) outputs: SmallVec<[Name; 2]>,
}

impl NodeContext<'_> {
    /// The constant of operand `i`, if it is one.
    pub(super) fn constant(&self, i: usize) -> Option<&Tensor> {
        self.graph.constant(*self.values.get(i)?)
    }
}

/// The messages under construction.
pub(super) struct Emitter<'g> {
    pub(super) graph: &'g Graph,
    pub(super) options: WriteOptions,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    value_info: Vec<ValueInfoProto>,
    /// Tensors of float values, and of the dequantized values of quantized ones.
    pub(super) reals: FxHashMap<ValueId, Name>,
    /// Tensors of the stored integers of quantized values.
    pub(super) stored: FxHashMap<ValueId, Name>,
    /// Initializers by element type, extents and bytes.
    constants: IndexMap<(DataType, Vec<i64>, Bytes), Name, FxBuildHasher>,
    /// Tensors of integers that follow from open extents.
    extents: FxHashMap<Expr, Name>,
    tensor_names: Names,
    node_names: Names,
    /// The source node of the nodes that are being written.
    pub(super) path: String,
    opset: i64,
    /// Operators that the operator set that is asked for does not have: the first node, the operator and its operator set.
    pub(super) newer: Vec<(String, &'static str, i64)>,
    /// Versions of the operator sets other than the standard one.
    domains: BTreeMap<String, i64>,
}

impl<'g> Emitter<'g> {
    /// The number of operators that are written.
    pub(super) fn written(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn new(graph: &'g Graph, options: WriteOptions) -> Self {
        // Names of inputs and outputs are reserved: no intermediate value may use them.
        let mut names = Names::default();
        graph.outputs().iter().for_each(|o| names.reserve(&o.name));
        graph.inputs().filter_map(|v| graph.name(v)).for_each(|n| names.reserve(n));
        let mut e = Emitter {
            graph,
            options,
            nodes: Vec::new(),
            initializers: Vec::new(),
            value_info: Vec::new(),
            reals: FxHashMap::default(),
            stored: FxHashMap::default(),
            constants: IndexMap::default(),
            extents: FxHashMap::default(),
            tensor_names: names,
            node_names: Names::default(),
            path: String::new(),
            opset: options.opset.unwrap_or(Call::USUAL),
            newer: Vec::new(),
            domains: BTreeMap::new(),
        };
        for v in graph.inputs() {
            let name = graph.name(v).cloned().unwrap_or_default();
            e.tensors(graph.ty(v)).insert(v, name);
        }
        e
    }

    /// The map for the tensor of a computed value of that type.
    fn tensors(&mut self, ty: &TensorType) -> &mut FxHashMap<ValueId, Name> {
        if ty.elem.qparams().is_some() { &mut self.stored } else { &mut self.reals }
    }

    /// The constant that holds a value, in its stored type: quantized if a Dequantize of a constant produces the value.
    pub(super) fn kept(&self, v: ValueId) -> Option<&'g Tensor> {
        let graph = self.graph;
        let dequantized = matches!(graph.producer(v), Op::Dequantize(_)).then(|| graph.operands(v.node)[0]);
        graph.constant(dequantized.unwrap_or(v))
    }

    /// The name of a value in the source model.
    pub(super) fn wanted(&self, v: ValueId) -> String {
        let graph = self.graph;
        let name = graph.name(v).map_or(graph.origin(v.node).path(), |n| &**n);
        match graph.producer(v) {
            _ if !name.is_empty() => name.to_owned(),
            Op::Quantize(_) | Op::Dequantize(_) => self.wanted(graph.operands(v.node)[0]),
            op => op.kind().name().to_owned(),
        }
    }

    /// Defines the tensor that a value is computed into: its stored integers if it is quantized.
    pub(super) fn define(&mut self, v: ValueId) -> Name {
        let ty = self.graph.ty(v);
        let name = match self.graph.output_name(v) {
            Some(name) => name.clone(),
            None => {
                let suffix = if ty.elem.qparams().is_some() { "_quantized" } else { "" };
                self.between(&(self.wanted(v) + suffix), ty)
            }
        };
        self.tensors(ty).insert(v, name.clone());
        name
    }

    /// A new tensor with a free name similar to `wanted`.
    pub(super) fn between(&mut self, wanted: &str, ty: &TensorType) -> Name {
        let name = self.tensor_names.unique(wanted);
        self.value_info.push(value_info(&name, ty));
        name
    }

    /// A new tensor for an intermediate value within one node.
    pub(super) fn scratch(&mut self, site: &NodeContext<'_>, ty: &TensorType) -> Name {
        let wanted = self.wanted(site.node.value(0));
        self.between(&wanted, ty)
    }

    /// The float tensor of a value: dequantized if it is quantized.
    pub(super) fn real(&mut self, v: ValueId) -> Name {
        if let Some(name) = self.reals.get(&v) {
            return name.clone();
        }
        let (graph, wanted) = (self.graph, self.wanted(v));
        let name = match (self.kept(v), graph.ty(v).elem.qparams()) {
            (Some(constant), _) => self.place(&wanted, constant, Numbers::Float),
            (None, Some(qparams)) => {
                let stored = self.stored(v);
                let name = self.between(&(wanted + "_dequantized"), &graph.ty(v).real());
                self.dequantize(&stored, &name, qparams);
                name
            }
            // Values are defined before their consumers.
            (None, None) => self.define(v),
        };
        self.reals.insert(v, name.clone());
        name
    }

    /// The tensor of the stored integers of a quantized value.
    pub(super) fn stored(&mut self, v: ValueId) -> Name {
        if let Some(name) = self.stored.get(&v) {
            return name.clone();
        }
        let name = match self.graph.constant(v) {
            Some(constant) => self.place(&self.wanted(v), constant, Numbers::Stored),
            None => self.define(v),
        };
        self.stored.insert(v, name.clone());
        name
    }

    /// Operand `i` in the representation of the node.
    pub(super) fn input(&mut self, site: &NodeContext<'_>, i: usize) -> Name {
        let v = site.values[i];
        match site.operands[i].elem {
            Elem::Quantized(_) => self.stored(v),
            _ => self.real(v),
        }
    }

    /// All operands.
    pub(super) fn inputs(&mut self, site: &NodeContext<'_>) -> SmallVec<[Name; 4]> {
        (0..site.values.len()).map(|i| self.input(site, i)).collect()
    }

    /// A constant as an initializer. Floats of a quantized constant are the result of a DequantizeLinear.
    pub(super) fn place(&mut self, wanted: &str, constant: &Tensor, numbers: Numbers) -> Name {
        let Some(qparams) = constant.ty().elem.qparams() else { return self.initializer(wanted, constant) };
        let stored = self.initializer(&format!("{wanted}_quantized"), constant);
        if numbers == Numbers::Stored {
            return stored;
        }
        let name = self.between(wanted, &constant.ty().real());
        self.dequantize(&stored, &name, qparams);
        name
    }

    /// The dequantized values of a symmetrically quantized constant, computed by Cast and Mul. Runtimes fold these when
    /// they load the model, which they do not for DequantizeLinear, so products with them remain float products.
    pub(super) fn dequantized(&mut self, wanted: &str, constant: &Tensor) -> Name {
        let ty = constant.ty().real();
        let Some(qparams) = constant.ty().elem.qparams() else { return self.initializer(wanted, constant) };
        let mut dims = vec![1; ty.rank()];
        if let Affine::PerAxis { axis, scales } = &qparams.map {
            dims[*axis] = scales.len();
        }
        let scales = Tensor::from_vec(Shape::known(&dims), qparams.scales().to_vec());
        let scale = self.initializer(&format!("{wanted}_scale"), &scales);
        let stored = self.initializer(&format!("{wanted}_quantized"), constant);
        let (wide, real) = (self.between(&format!("{wanted}_wide"), &ty), self.between(wanted, &ty));
        let cast = Call::new("Cast").int("to", i32::from(element(&ty.elem)));
        self.push(cast, &[stored], std::slice::from_ref(&wide));
        self.push(Call::new("Mul"), &[wide, scale], std::slice::from_ref(&real));
        real
    }

    /// The initializer with the stored elements of a constant. Equal constants share an initializer.
    pub(super) fn initializer(&mut self, wanted: &str, constant: &Tensor) -> Name {
        let elem = element(&constant.ty().elem);
        let dims: Vec<i64> = constant.dims().iter().map(|&d| d as i64).collect();
        let entry = match self.constants.entry((elem, dims, packed(constant))) {
            Entry::Occupied(known) => return known.get().clone(),
            Entry::Vacant(entry) => entry,
        };
        let (_, dims, data) = entry.key();
        let name = self.tensor_names.unique(wanted);
        self.initializers.push(TensorProto {
            name: Some(name.to_string()),
            data_type: Some(elem.into()),
            dims: dims.clone(),
            raw_data: Some(data.clone()),
            ..TensorProto::default()
        });
        entry.insert(name.clone());
        name
    }

    /// A constant list of numbers.
    pub(super) fn list<T: Scalar>(&mut self, values: impl IntoIterator<Item = T>) -> Name {
        let values: Vec<T> = values.into_iter().collect();
        self.initializer("const", &Tensor::from_vec(Shape::known(&[values.len()]), values))
    }

    /// A constant number.
    pub(super) fn scalar<T: Scalar>(&mut self, value: T) -> Name {
        self.initializer("const", &Tensor::scalar(value))
    }

    /// A constant scalar of the element type of a tensor: quantized if the tensor is.
    pub(super) fn number(&mut self, elem: &Elem, value: f32) -> Result<Name, Unsupported> {
        let value = Tensor::scalar(value);
        let value = match elem {
            Elem::Quantized(qparams) => value.quantized(qparams),
            plain => {
                let cast = Op::from(qcc_ir::ops::Cast { to: plain.clone() }).eval(&[&value]);
                cast.map_err(|e| e.to_string())?.swap_remove(0)
            }
        };
        Ok(self.initializer("const", &value))
    }

    /// Scale and zero point as constants. Biases have zero point 0, which is omitted.
    pub(super) fn qparams(&mut self, wanted: &str, qparams: &QuantParams) -> [Name; 2] {
        let shape = match &qparams.map {
            Affine::PerTensor { .. } => Shape::scalar(),
            Affine::PerAxis { scales, .. } | Affine::PerBlock { scales, .. } => Shape::known(&[scales.len()]),
        };
        let scales = Tensor::from_vec(shape.clone(), qparams.scales().to_vec());
        let scale = self.initializer(&format!("{wanted}_scale"), &scales);
        let count = qparams.scales().len();
        let zero = match qparams.storage {
            StorageType::I4 | StorageType::I8 => {
                let alike = || vec![qparams.zero_point() as i8; count];
                Tensor::from_vec(shape, qparams.block_zero_points().map_or_else(alike, <[i8]>::to_vec))
            }
            StorageType::U8 => Tensor::from_vec(shape, vec![qparams.zero_point() as u8; count]),
            StorageType::I16 => Tensor::from_vec(shape, vec![qparams.zero_point() as i16; count]),
            StorageType::I32 => return [scale, Name::default()],
        };
        [scale, self.initializer(&format!("{wanted}_zero_point"), &zero)]
    }

    /// QuantizeLinear.
    pub(super) fn quantize(&mut self, real: &Name, stored: &Name, qparams: &QuantParams) {
        let [scale, zero] = self.qparams(real, qparams);
        self.push_qdq("QuantizeLinear", qparams, &[real.clone(), scale, zero], stored);
    }

    /// DequantizeLinear.
    pub(super) fn dequantize(&mut self, stored: &Name, real: &Name, qparams: &QuantParams) {
        let [scale, zero] = self.qparams(real, qparams);
        self.push_qdq("DequantizeLinear", qparams, &[stored.clone(), scale, zero], real);
    }

    /// QuantizeLinear or DequantizeLinear, named after its result: the source's name is reserved for the operator
    /// itself.
    fn push_qdq(&mut self, operator: &'static str, qparams: &QuantParams, inputs: &[Name], output: &Name) {
        let call = Call::new(operator);
        let is_new = matches!(qparams.storage, StorageType::I4 | StorageType::I16);
        let call = if is_new { call.since(21) } else { call };
        let call = match &qparams.map {
            Affine::PerTensor { .. } => call,
            Affine::PerAxis { axis, .. } => call.size("axis", *axis),
            Affine::PerBlock { axis, size, .. } => call.since(21).size("axis", *axis).size("block_size", *size),
        };
        let path = std::mem::replace(&mut self.path, format!("{output}_{operator}"));
        self.push(call, inputs, std::slice::from_ref(output));
        self.path = path;
    }

    /// Adds a node.
    pub(super) fn push(&mut self, call: Call, inputs: &[Name], outputs: &[Name]) {
        match self.options.opset {
            Some(asked) if call.since > asked => {
                let known = |newer: &(String, &str, i64)| (newer.1, newer.2) == (call.operator, call.since);
                if !self.newer.iter().any(known) {
                    self.newer.push((self.path.clone(), call.operator, call.since));
                }
            }
            Some(_) => {}
            None => self.opset = self.opset.max(call.since),
        }
        if call.contrib {
            self.domains.insert(MICROSOFT.into(), MICROSOFT_VERSION);
        }
        let given = inputs.iter().rposition(|i| !i.is_empty()).map_or(0, |last| last + 1);
        let domain = call.contrib.then_some(MICROSOFT);
        self.push_node(call.operator, domain, call.attributes, &inputs[..given], outputs);
    }

    /// Adds a node of another operator set. A model has one version of each operator set.
    pub(super) fn push_custom(
        &mut self,
        op: &Custom,
        attributes: Vec<AttributeProto>,
        inputs: &[Name],
        outputs: &[Name],
    ) -> Result<(), Unsupported> {
        let version = *self.domains.entry(op.domain.clone()).or_insert(op.version);
        if version != op.version {
            let domain = &op.domain;
            return Err(
                format!("it is of version {} of {domain}, and others are of version {version}", op.version).into()
            );
        }
        self.push_node(&op.name, Some(&op.domain), attributes, inputs, outputs);
        Ok(())
    }

    fn push_node(
        &mut self,
        operator: &str,
        domain: Option<&str>,
        attribute: Vec<AttributeProto>,
        inputs: &[Name],
        outputs: &[Name],
    ) {
        let wanted = if self.path.is_empty() { operator } else { &self.path };
        let name = self.node_names.unique(wanted);
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|n| n.to_string()).collect(),
            output: outputs.iter().map(|n| n.to_string()).collect(),
            name: Some(name.to_string()),
            op_type: Some(operator.into()),
            attribute,
            domain: domain.map(Into::into),
            overload: None,
        });
    }

    /// Adds a node with the operands and results of `site`.
    pub(super) fn push_at(&mut self, call: Call, site: &NodeContext<'_>) {
        let inputs = self.inputs(site);
        self.push(call, &inputs, &site.outputs);
    }

    /// A tensor reshaped into a new tensor.
    pub(super) fn reshaped(
        &mut self,
        site: &NodeContext<'_>,
        from: &Name,
        ty: &TensorType,
    ) -> Result<Name, Unsupported> {
        let to = self.scratch(site, ty);
        self.reshape(from, None, &to, &ty.shape)?;
        Ok(to)
    }

    /// Reshape of a tensor; its own shape allows more open extents.
    pub(super) fn reshape(
        &mut self,
        from: &Name,
        own: Option<&Shape>,
        to: &Name,
        shape: &Shape,
    ) -> Result<(), Unsupported> {
        // Without `allowzero`, 0 means the extent of the operand; with it, -1 does not stand beside 0.
        let empty = shape.dims().contains(&Dim::Known(0));
        let call = Call::new("Reshape");
        let call = if empty { call.int("allowzero", 1) } else { call };
        let target = if empty { None } else { extents::target(own, shape, true) };
        let shape = match target {
            Some(target) => self.list(target),
            None => extents::shape(self, shape)?,
        };
        self.push(call, &[from.clone(), shape], std::slice::from_ref(to));
        Ok(())
    }

    /// A name that no value of the model has.
    pub(super) fn free_name(&mut self, wanted: &str) -> Name {
        self.tensor_names.unique(wanted)
    }

    /// Writes the graph of a body: `write` adds its nodes and returns its inputs.
    pub(super) fn nested(
        &mut self,
        body: &Graph,
        write: impl FnOnce(&mut Emitter<'_>) -> Result<Vec<ValueInfoProto>, Unsupported>,
    ) -> Result<GraphProto, Unsupported> {
        let mut inner = Emitter::new(body, self.options);
        // Names, operator sets and what they lack are those of the model.
        inner.exchange(self);
        let input = write(&mut inner);
        inner.exchange(self);
        let Emitter { nodes, initializers, value_info: values, .. } = inner;
        Ok(GraphProto {
            node: nodes,
            name: Some(body.name.clone()),
            initializer: initializers,
            input: input?,
            output: body.outputs().iter().map(|o| value_info(&o.name, body.ty(o.value))).collect(),
            value_info: values,
            ..GraphProto::default()
        })
    }

    fn exchange<'o>(&mut self, outer: &mut Emitter<'o>) {
        std::mem::swap(&mut self.tensor_names, &mut outer.tensor_names);
        std::mem::swap(&mut self.node_names, &mut outer.node_names);
        std::mem::swap(&mut self.path, &mut outer.path);
        std::mem::swap(&mut self.opset, &mut outer.opset);
        std::mem::swap(&mut self.newer, &mut outer.newer);
        std::mem::swap(&mut self.domains, &mut outer.domains);
    }

    pub(super) fn finish(self) -> ModelProto {
        let graph = self.graph;
        let input = |v: ValueId| value_info(graph.name(v).map_or("", |n| n), graph.ty(v));
        let main = GraphProto {
            node: self.nodes,
            name: Some(if graph.name.is_empty() { "main".into() } else { graph.name.clone() }),
            initializer: self.initializers,
            input: graph.inputs().map(input).collect(),
            output: graph.outputs().iter().map(|o| value_info(&o.name, graph.ty(o.value))).collect(),
            value_info: self.value_info,
            ..GraphProto::default()
        };
        let set = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
        let others = self.domains.iter().map(|(domain, version)| set(domain, *version));
        ModelProto {
            ir_version: Some(ir_version(self.opset)),
            opset_import: std::iter::once(set("", self.opset)).chain(others).collect(),
            producer_name: Some("qcc".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(main),
            metadata_props: graph.metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        }
    }
}

/// A key and a value of the metadata.
pub(super) fn entry((key, value): &(String, String)) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.clone()), value: Some(value.clone()) }
}

/// The domain of ONNX Runtime's own operators.
const MICROSOFT: &str = "com.microsoft";
const MICROSOFT_VERSION: i64 = 1;

/// The IR version that was current with an operator set.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        _ => 11,
    }
}

impl Emitter<'_> {
    /// The tensor of a value that extents follow from: an input as it is given, or what a node has computed.
    fn computed_tensor(&mut self, v: ValueId) -> Name {
        match (self.graph.producer(v), self.stored.get(&v)) {
            (Op::Input(_), Some(stored)) => stored.clone(),
            _ => self.real(v),
        }
    }

    /// A node that computes `count` extents.
    fn computed(&mut self, call: Call, inputs: &[Name], count: usize) -> Name {
        let name = self.between("extents", &TensorType::new(Elem::I64, Shape::known(&[count])));
        self.push(call, inputs, std::slice::from_ref(&name));
        name
    }
}

impl Arithmetic for Emitter<'_> {
    type Value = Name;

    fn graph(&self) -> &Graph {
        self.graph
    }

    fn numbers(&mut self, values: &[i64]) -> Name {
        self.list(values.iter().copied())
    }

    fn extent(&mut self, v: ValueId, axis: usize) -> Name {
        let call = Call::new("Shape").size("start", axis).size("end", axis + 1);
        let of = self.computed_tensor(v);
        self.computed(call, &[of], 1)
    }

    fn element(&mut self, v: ValueId, i: usize) -> Name {
        let (mut x, ty) = (self.computed_tensor(v), self.graph.ty(v).clone());
        if ty.elem != Elem::I64 {
            let count = ty.shape.elements().unwrap_or(1);
            x = self.computed(Call::new("Cast").int("to", i32::from(DataType::Int64)), &[x], count);
        }
        match ty.shape.dims() {
            [Dim::Known(1)] => x,
            [] => {
                let shape = self.list([1i64]);
                self.computed(Call::new("Reshape"), &[x, shape], 1)
            }
            _ => {
                let at = self.list([i as i64]);
                self.computed(Call::new("Gather").int("axis", 0), &[x, at], 1)
            }
        }
    }

    fn sum(&mut self, a: &Name, b: &Name) -> Name {
        self.computed(Call::new("Add"), &[a.clone(), b.clone()], 1)
    }

    fn product(&mut self, a: &Name, b: &Name) -> Name {
        self.computed(Call::new("Mul"), &[a.clone(), b.clone()], 1)
    }

    fn quotient(&mut self, a: &Name, b: &Name) -> Name {
        self.computed(Call::new("Div"), &[a.clone(), b.clone()], 1)
    }

    fn larger(&mut self, a: &Name, b: &Name) -> Name {
        self.computed(Call::new("Max"), &[a.clone(), b.clone()], 1)
    }

    fn smaller(&mut self, a: &Name, b: &Name) -> Name {
        self.computed(Call::new("Min"), &[a.clone(), b.clone()], 1)
    }

    fn join(&mut self, parts: &[Name], count: usize) -> Name {
        self.computed(Call::new("Concat").int("axis", 0), parts, count)
    }

    fn known(&mut self) -> &mut FxHashMap<Expr, Name> {
        &mut self.extents
    }
}

/// The format's element type for one of the graph's; for a quantized type, that of its storage type.
pub(super) fn element(elem: &Elem) -> DataType {
    match elem {
        Elem::Bool => DataType::Bool,
        Elem::I8 => DataType::Int8,
        Elem::U8 => DataType::Uint8,
        Elem::I16 => DataType::Int16,
        Elem::I32 => DataType::Int32,
        Elem::I64 => DataType::Int64,
        Elem::F16 => DataType::Float16,
        Elem::F32 => DataType::Float,
        Elem::Quantized(qparams) if qparams.storage == StorageType::I4 => DataType::Int4,
        Elem::Quantized(qparams) => element(&qparams.storage.elem()),
    }
}

/// The declaration of a tensor.
pub(super) fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let dim = |d: &Dim| Dimension {
        value: Some(match d {
            Dim::Known(n) => DimensionValue::Value(*n as i64),
            Dim::Open(expr) => DimensionValue::Param(expr.label()),
        }),
    };
    let tensor = TypeProtoTensor {
        elem_type: Some(element(&ty.elem).into()),
        shape: Some(TensorShapeProto { dim: ty.shape.dims().iter().map(dim).collect() }),
    };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
}

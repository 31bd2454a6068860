//! Construction of the tables, used by the operator families.

mod arithmetic;

use std::cell::OnceCell;

use bytes::Bytes;
use indexmap::IndexSet;
use qcc_formats::tflite::{
    Activation, Blocks, Buffer, BuiltinOperator, Details, Metadata, Model, Operator, OperatorCode, Options,
    Quantization, SignatureDef, SubGraph, Tensor, TensorMap, TensorType as Stored,
};
use qcc_ir::ops::{Op, Types};
use qcc_ir::{
    Affine, Dim, Elem, Expr, Graph, Layout, NodeId, QuantParams, Scalar, Shape, StorageType, Symbols, TensorType,
    ValueId,
};
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::tensors::index_of;
pub(super) use crate::Unsupported;
use crate::extents;
use crate::names::Names;
use crate::pack::packed;
use crate::{Attachments, ValueNames};

/// The index of an optional tensor that is absent.
pub(super) const ABSENT: i32 = -1;

/// The context of a node while it is written: tensors and types of its operands and results.
pub(super) struct NodeContext<'g> {
    pub(super) node: NodeId,
    pub(super) values: qcc_ir::Operands,
    pub(super) operands: SmallVec<[TensorType; 4]>,
    pub(super) results: Types,
    pub(super) inputs: SmallVec<[i32; 4]>,
    pub(super) outputs: SmallVec<[i32; 2]>,
    /// The activation function that is fused into the operator.
    pub(super) activation: Activation,
    pub(super) graph: &'g Graph,
}

/// The tables of the subgraph under construction.
#[derive(Default)]
struct Scope {
    tensors: Vec<Tensor>,
    operators: Vec<Operator>,
    /// Constants that are not values of the graph, by element type, shape and buffer.
    constants: FxHashMap<(Stored, Vec<i32>, u32), i32>,
    /// Integers that follow from open extents.
    extents: FxHashMap<Expr, i32>,
}

/// The tables under construction.
pub(super) struct Emitter<'g> {
    pub(super) graph: &'g Graph,
    scope: Scope,
    /// The subgraphs other than the main one.
    subgraphs: Vec<SubGraph>,
    codes: Vec<OperatorCode>,
    /// The buffers, the empty one first. Equal ones are one.
    buffers: IndexSet<Bytes, FxBuildHasher>,
    pub(super) tensor_of: FxHashMap<ValueId, i32>,
    names: Names,
    /// Nodes that are fused into the operator of another node.
    pub(super) fused: FxHashSet<NodeId>,
    /// The builtin operators of the device, if the file is for one.
    known: Option<Vec<&'static str>>,
    /// The values that shapes state for open extents.
    stated: Symbols,
    converts: OnceCell<bool>,
}

impl<'g> Emitter<'g> {
    /// A graph for a device with the operators `known`, which is known to run at `extents`.
    pub(super) fn new(graph: &'g Graph, known: Option<Vec<&'static str>>, extents: &Symbols) -> Self {
        // Names of inputs and outputs are reserved: no intermediate value may use them.
        let mut names = Names::default();
        graph.outputs().iter().for_each(|o| names.reserve(&o.name));
        graph.inputs().filter_map(|v| graph.name(v)).for_each(|n| names.reserve(n));
        Emitter {
            graph,
            scope: Scope::default(),
            subgraphs: Vec::new(),
            codes: Vec::new(),
            // Buffer 0 means "no data".
            buffers: [Bytes::new()].into_iter().collect(),
            tensor_of: FxHashMap::default(),
            names,
            fused: FxHashSet::default(),
            known,
            stated: graph.typical_extents_beside(extents),
            converts: OnceCell::new(),
        }
    }

    /// True where the runtime has the operator.
    pub(super) fn has(&self, op: BuiltinOperator) -> bool {
        self.known.as_ref().is_none_or(|known| op == BuiltinOperator::CUSTOM || known.contains(&&*op.to_string()))
    }

    /// True if the graph has constants that are converted to floating point when it runs.
    pub(super) fn dequantizes_constants(&self) -> bool {
        let graph = self.graph;
        let converted = |n: NodeId| {
            matches!(graph.op(n), Op::Cast(_) | Op::Dequantize(_)) && graph.constant(graph.operand(n, 0)).is_some()
        };
        *self.converts.get_or_init(|| graph.order().into_iter().any(converted))
    }

    /// The number of operators.
    pub(super) fn operators(&self) -> usize {
        self.scope.operators.len()
    }

    /// Fails if the device cannot run an operator that was added after the first `before`: it lacks the operator, or
    /// planning its memory fails, which takes a tensor without elements for one whose shape is not known yet
    /// (`micro_interpreter_graph.cc`).
    pub(super) fn all_known(&self, before: usize) -> Result<(), Unsupported> {
        if self.known.is_none() {
            return Ok(());
        }
        let empty = |&&i: &&i32| usize::try_from(i).is_ok_and(|i| self.scope.tensors[i].shape.contains(&0));
        for op in &self.scope.operators[before..] {
            let code = self.codes[op.opcode_index as usize].operator();
            if !self.has(code) {
                return Err(format!("it has no {code}").into());
            }
            if op.inputs.iter().chain(&op.outputs).any(|i| empty(&i)) {
                return Err("it has no values without elements".into());
            }
        }
        Ok(())
    }

    /// Index of the tensor of a value.
    pub(super) fn tensor(&mut self, v: ValueId) -> i32 {
        if let Some(&tensor) = self.tensor_of.get(&v) {
            return tensor;
        }
        let graph = self.graph;
        let ty = graph.ty(v);
        let name = match graph.producer(v) {
            Op::Input(_) => graph.name(v),
            _ => graph.output_name(v),
        };
        let name = name.map(|n| n.to_string());
        let name = name.filter(|n| !n.is_empty()).unwrap_or_else(|| {
            let wanted = graph.name(v).map_or(graph.origin(v.node).path(), |n| &**n);
            let kind = graph.producer(v).kind().name();
            self.unique(if wanted.is_empty() { kind } else { wanted })
        });
        let wide = graph.constant(v).filter(|_| self.is_wide_bias(v)).and_then(wide_bias);
        let elem = match &wide {
            Some(_) => Stored::INT64,
            None if self.narrowed(v) => Stored::INT32,
            None => stored(&ty.elem),
        };
        let data = wide.or_else(|| graph.constant(v).map(packed));
        let buffer = data.map_or(0, |data| self.buffer(data));
        let mut tensor = Tensor { elem, buffer, name, ..self.describe(ty) };
        if let Some(QuantParams { map: Affine::PerBlock { axis, size, scales, .. }, .. }) = ty.elem.qparams() {
            tensor.quantization = Some(self.in_blocks(ty, *axis, *size, scales, &tensor.name));
        }
        let tensor = self.push(tensor);
        self.tensor_of.insert(v, tensor);
        tensor
    }

    /// The quantization parameters of a weight in blocks, whose scales are a tensor of float16.
    fn in_blocks(&mut self, ty: &TensorType, axis: usize, size: usize, scales: &[f32], of: &str) -> Quantization {
        let shape = Shape::known(&ty.runs(axis, size).unwrap_or_default());
        let halves: Vec<half::f16> = scales.iter().map(|&scale| half::f16::from_f32(scale)).collect();
        let scales = self.part(&format!("{of}_scale"), &qcc_ir::Tensor::from_vec(shape, halves));
        let blocks = Blocks { scales, zero_points: -1, block_size: size as i32 };
        Quantization { details: Details::Blocks(blocks), ..Quantization::default() }
    }

    /// True for the bias of a product with a 16-bit activation.
    fn is_wide_bias(&self, v: ValueId) -> bool {
        let wide = |(n, i): (NodeId, usize)| i == 2 && self.graph.ty(self.graph.operand(n, 0)).is_wide();
        let bias = self.graph.ty(v).elem.qparams().is_some_and(|qparams| qparams.storage == StorageType::I32);
        bias && self.graph.users(v).into_iter().any(wide)
    }

    /// A bias as a tensor of its own, for the product with an activation of type `x`.
    pub(super) fn bias(&mut self, name: &str, bias: &qcc_ir::Tensor, x: &TensorType) -> i32 {
        let wide = wide_bias(bias).filter(|_| x.is_wide());
        let tensor = self.part(name, bias);
        if let Some(data) = wide {
            let buffer = self.buffer(data);
            let tensor = &mut self.scope.tensors[tensor as usize];
            (tensor.buffer, tensor.elem) = (buffer, Stored::INT64);
        }
        tensor
    }

    /// True for 64-bit indices of the graph whose consumers need only 32 bits, the type that kernels produce.
    pub(super) fn narrowed(&self, v: ValueId) -> bool {
        let narrow = |op: &Op| matches!(op, Op::Cast(c) if c.to == Elem::I32);
        let users = self.graph.users(v);
        let index = match self.graph.producer(v) {
            Op::TopK(_) => v.port == 1,
            Op::ArgReduce(_) => true,
            _ => false,
        };
        index && !self.graph.is_output(v) && !users.is_empty() && users.iter().all(|&(n, _)| narrow(self.graph.op(n)))
    }

    /// A new tensor for an intermediate value within one node.
    pub(super) fn scratch(&mut self, ty: &TensorType, node: NodeId) -> i32 {
        let name = self.node_name(node);
        self.push(Tensor { name, ..self.describe(ty) })
    }

    /// A new name after that of a node.
    fn node_name(&mut self, node: NodeId) -> String {
        let path = self.graph.origin(node).path();
        self.unique(if path.is_empty() { self.graph.op(node).kind().name() } else { path })
    }

    /// A new variable tensor, for a state within one node.
    pub(super) fn variable(&mut self, ty: &TensorType, node: NodeId) -> i32 {
        let tensor = self.scratch(ty, node);
        self.scope.tensors[tensor as usize].is_variable = true;
        tensor
    }

    /// A constant that is a part of one of the graph, as a tensor of its own.
    pub(super) fn part(&mut self, name: &str, constant: &qcc_ir::Tensor) -> i32 {
        let buffer = self.buffer(constant.data().clone());
        let name = self.unique(name);
        self.push(Tensor { buffer, name, ..self.describe(constant.ty()) })
    }

    /// A new tensor with the shape and element type of another one.
    pub(super) fn like(&mut self, tensor: i32, node: NodeId) -> i32 {
        let tensor = self.scope.tensors[tensor as usize].clone();
        self.copied(tensor, node)
    }

    fn copied(&mut self, tensor: Tensor, node: NodeId) -> i32 {
        let name = self.node_name(node);
        self.push(Tensor { buffer: 0, name, ..tensor })
    }

    /// Adds a subgraph whose inputs are like the given tensors. `body` adds its operators and returns its outputs; the
    /// tensors of other subgraphs are not visible there. Returns the index of the subgraph.
    pub(super) fn subgraph(
        &mut self,
        node: NodeId,
        operands: &[i32],
        body: impl FnOnce(&mut Self, &[i32]) -> Result<Vec<i32>, Unsupported>,
    ) -> Result<i32, Unsupported> {
        let outer = std::mem::take(&mut self.scope);
        let like = |&tensor: &i32| self.copied(outer.tensors[tensor as usize].clone(), node);
        let inputs: Vec<i32> = operands.iter().map(like).collect();
        let outputs = body(self, &inputs);
        let Scope { tensors, operators, .. } = std::mem::replace(&mut self.scope, outer);
        let name = self.node_name(node);
        self.subgraphs.push(SubGraph { tensors, inputs, outputs: outputs?, operators, name });
        // The main graph is subgraph 0.
        Ok(self.subgraphs.len() as i32)
    }

    /// Writes the nodes of another graph into the subgraph under construction. Its inputs are the given tensors; returns those
    /// of its outputs.
    pub(super) fn nested(&mut self, body: &Graph, inputs: &[i32]) -> Result<Vec<i32>, Unsupported> {
        let mut inner = Emitter::new(body, self.known.clone(), &self.stated);
        inner.exchange(self);
        inner.tensor_of.extend(body.inputs().zip(inputs.iter().copied()));
        let outputs = inner.body();
        inner.exchange(self);
        outputs
    }

    /// Exchanges the tables of the model.
    fn exchange(&mut self, other: &mut Emitter<'_>) {
        std::mem::swap(&mut self.scope, &mut other.scope);
        std::mem::swap(&mut self.subgraphs, &mut other.subgraphs);
        std::mem::swap(&mut self.codes, &mut other.codes);
        std::mem::swap(&mut self.buffers, &mut other.buffers);
        std::mem::swap(&mut self.names, &mut other.names);
    }

    /// Changes the stored element type of a tensor.
    pub(super) fn store_as(&mut self, tensor: i32, elem: Stored) {
        self.scope.tensors[tensor as usize].elem = elem;
    }

    /// The stored element type of a tensor.
    pub(super) fn elem(&self, tensor: i32) -> Stored {
        self.scope.tensors[tensor as usize].elem
    }

    /// A tensor of a type, without name and data. Open extents are -1 in the signature. The shape has numbers for them,
    /// which all tensors share: LiteRT allocates these until inputs are resized.
    fn describe(&self, ty: &TensorType) -> Tensor {
        let shape = ty.layout.physical(&ty.shape);
        let extents = |open: &dyn Fn(&Dim) -> i32| {
            shape.dims().iter().map(|d| d.known().map_or_else(|| open(d), |n| n as i32)).collect()
        };
        Tensor {
            shape: extents(&|d| d.bind(&self.stated).map_or(1, |n| n.max(1) as i32)),
            shape_signature: if shape.is_open() { extents(&|_| -1) } else { Vec::new() },
            elem: stored(&ty.elem),
            quantization: ty.elem.qparams().map(|qparams| quantization(qparams, &ty.layout)),
            has_rank: true,
            ..Tensor::default()
        }
    }

    fn push(&mut self, tensor: Tensor) -> i32 {
        self.scope.tensors.push(tensor);
        self.scope.tensors.len() as i32 - 1
    }

    fn unique(&mut self, wanted: &str) -> String {
        self.names.unique(wanted).to_string()
    }

    fn buffer(&mut self, data: Bytes) -> u32 {
        self.buffers.insert_full(data).0 as u32
    }

    /// A constant list of indices.
    pub(super) fn indices(&mut self, values: &[i32]) -> i32 {
        self.constant(&TensorType::new(Elem::I32, Shape::known(&[values.len()])), values)
    }

    /// A constant index, as a scalar.
    pub(super) fn index(&mut self, value: usize) -> i32 {
        self.constant(&TensorType::new(Elem::I32, Shape::scalar()), &[value as i32])
    }

    /// A constant of the given type. Equal constants share a tensor, unless they are quantized.
    pub(super) fn constant<T: Scalar>(&mut self, ty: &TensorType, values: &[T]) -> i32 {
        let buffer = self.buffer(Bytes::copy_from_slice(bytemuck::cast_slice(values)));
        let tensor = self.describe(ty);
        let key = (tensor.elem, tensor.shape.clone(), buffer);
        if tensor.quantization.is_none()
            && let Some(&known) = self.scope.constants.get(&key)
        {
            return known;
        }
        let plain = tensor.quantization.is_none();
        let name = self.unique("const");
        let index = self.push(Tensor { buffer, name, ..tensor });
        if plain {
            self.scope.constants.insert(key, index);
        }
        index
    }

    /// A constant scalar that can be combined with an operand of type `ty`.
    pub(super) fn scalar(&mut self, ty: &TensorType, value: f32) -> Result<i32, Unsupported> {
        let scalar = TensorType::new(ty.elem.clone(), Shape::scalar());
        Ok(match &ty.elem {
            Elem::F32 => self.constant(&scalar, &[value]),
            Elem::I32 => self.constant(&scalar, &[value as i32]),
            Elem::I64 => self.constant(&scalar, &[value as i64]),
            Elem::Quantized(qparams) => {
                let q = stored_integer(qparams, value)?;
                match qparams.storage {
                    StorageType::I4 | StorageType::I8 => self.constant(&scalar, &[q as i8]),
                    StorageType::U8 => self.constant(&scalar, &[q as u8]),
                    StorageType::I16 => self.constant(&scalar, &[q as i16]),
                    StorageType::I32 => self.constant(&scalar, &[q]),
                }
            }
            other => return Err(format!("no constant of element {other} is written").into()),
        })
    }

    /// Adds an operator.
    pub(super) fn push_operator(
        &mut self,
        op: BuiltinOperator,
        version: i32,
        options: impl Into<Options>,
        inputs: &[i32],
        outputs: &[i32],
    ) {
        self.push_coded(OperatorCode::builtin(op, version), inputs, outputs, options.into(), Vec::new());
    }

    /// Adds an operator without operands and results before all others.
    pub(super) fn push_first(&mut self, op: BuiltinOperator, options: impl Into<Options>) {
        self.push_operator(op, 1, options, &[], &[]);
        self.scope.operators.rotate_right(1);
    }

    /// A tensor for the handle of a variable.
    pub(super) fn resource(&mut self, node: NodeId) -> i32 {
        let name = self.node_name(node);
        self.push(Tensor { name, elem: Stored::RESOURCE, ..Tensor::default() })
    }

    /// Adds a custom operator.
    pub(super) fn push_custom(&mut self, name: &str, version: i32, options: Vec<u8>, inputs: &[i32], outputs: &[i32]) {
        let code = OperatorCode { custom_code: name.into(), ..OperatorCode::builtin(BuiltinOperator::CUSTOM, version) };
        self.push_coded(code, inputs, outputs, Options::None, options);
    }

    fn push_coded(
        &mut self,
        code: OperatorCode,
        inputs: &[i32],
        outputs: &[i32],
        options: Options,
        custom_options: Vec<u8>,
    ) {
        let opcode_index = index_of(&mut self.codes, code);
        self.scope.operators.push(Operator {
            opcode_index,
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            options,
            custom_options,
            ..Operator::default()
        });
    }

    /// A tensor reshaped into a new tensor.
    pub(super) fn reshape(&mut self, tensor: i32, ty: &TensorType) -> Result<i32, Unsupported> {
        let name = self.scope.tensors[tensor as usize].name.clone();
        let name = self.unique(&name);
        let result = self.push(Tensor { name, ..self.describe(ty) });
        self.reshape_into(tensor, result, ty)?;
        Ok(result)
    }

    /// A tensor reshaped into another one, whose type is `ty`.
    pub(super) fn reshape_into(&mut self, tensor: i32, result: i32, ty: &TensorType) -> Result<(), Unsupported> {
        self.reshape_from(tensor, None, result, ty)
    }

    /// As [`Emitter::reshape_into`], of a tensor whose shape is `own`, which may have other numbers of elements.
    pub(super) fn reshape_from(
        &mut self,
        tensor: i32,
        own: Option<&Shape>,
        result: i32,
        ty: &TensorType,
    ) -> Result<(), Unsupported> {
        let shape = ty.layout.physical(&ty.shape);
        let (wanted, shape) = match extents::target(own, &shape, false) {
            Some(target) => {
                let target: Vec<i32> = target.into_iter().map(|n| n as i32).collect();
                (self.indices(&target), target)
            }
            // The shape is that of the operand alone.
            None => (extents::shape(self, &shape)?, Vec::new()),
        };
        let options = qcc_formats::tflite::Reshape { new_shape: shape };
        self.push_operator(BuiltinOperator::RESHAPE, 1, options, &[tensor, wanted], &[result]);
        Ok(())
    }

    /// The names of the tensors of values, in the order of the file.
    pub(super) fn tensor_names(&self) -> ValueNames {
        let mut tensors: Vec<(i32, ValueId)> = self.tensor_of.iter().map(|(&v, &tensor)| (tensor, v)).collect();
        tensors.sort_unstable();
        tensors.into_iter().map(|(tensor, v)| (v, self.scope.tensors[tensor as usize].name.clone())).collect()
    }

    /// The model with these inputs, and outputs with their names.
    pub(super) fn finish(self, inputs: Vec<i32>, outputs: Vec<(String, i32)>) -> Model {
        let (output_names, outputs): (Vec<String>, Vec<i32>) = outputs.into_iter().unzip();
        let maps = |names: Vec<String>, tensors: &[i32]| {
            let map = |(name, &tensor): (String, &i32)| TensorMap { name, tensor_index: tensor as u32 };
            names.into_iter().zip(tensors).map(map).collect()
        };
        let input_names = inputs.iter().map(|&i| self.scope.tensors[i as usize].name.clone()).collect();
        let signature = SignatureDef {
            inputs: maps(input_names, &inputs),
            outputs: maps(output_names, &outputs),
            signature_key: "serving_default".into(),
            subgraph_index: 0,
        };
        let main = SubGraph {
            tensors: self.scope.tensors,
            inputs,
            outputs,
            operators: self.scope.operators,
            name: if self.graph.name.is_empty() { "main".into() } else { self.graph.name.clone() },
        };
        Model {
            version: Model::VERSION,
            operator_codes: self.codes,
            subgraphs: [main].into_iter().chain(self.subgraphs).collect(),
            description: format!("{} (qcc {})", self.graph.name, env!("CARGO_PKG_VERSION")),
            buffers: self.buffers.into_iter().map(|data| Buffer { data }).collect(),
            metadata: Vec::new(),
            signature_defs: vec![signature],
        }
    }
}

/// Adds metadata: each is a buffer with a name.
pub(super) fn attach(model: &mut Model, attachments: &Attachments) {
    for (key, value) in attachments.named_facts() {
        model.metadata.push(Metadata { name: key, buffer: model.buffers.len() as u32 });
        model.buffers.push(Buffer { data: value.into_bytes().into() });
    }
}

/// A 32-bit bias in 64 bits, which kernels for 16-bit activations take.
fn wide_bias(bias: &qcc_ir::Tensor) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(bytemuck::cast_slice(&bias.integers()?)))
}

fn quantization(qparams: &QuantParams, layout: &Layout) -> Quantization {
    let scale = qparams.scales().to_vec();
    Quantization {
        zero_point: vec![qparams.zero_point().into(); scale.len()],
        scale,
        dimension: match &qparams.map {
            Affine::PerTensor { .. } => 0,
            Affine::PerAxis { axis, .. } | Affine::PerBlock { axis, .. } => layout.position(*axis) as i32,
        },
        ..Quantization::default()
    }
}

/// The schema's number of an element type.
pub(super) fn stored(elem: &Elem) -> Stored {
    match elem {
        Elem::Bool => Stored::BOOL,
        Elem::I8 => Stored::INT8,
        Elem::U8 => Stored::UINT8,
        Elem::I16 => Stored::INT16,
        Elem::I32 => Stored::INT32,
        Elem::I64 => Stored::INT64,
        Elem::F16 => Stored::FLOAT16,
        Elem::F32 => Stored::FLOAT32,
        Elem::Quantized(qparams) if qparams.storage == StorageType::I4 => Stored::INT4,
        Elem::Quantized(qparams) => stored(&qparams.storage.elem()),
    }
}

/// A float quantized to its nearest integer.
fn stored_integer(qparams: &QuantParams, value: f32) -> Result<i32, Unsupported> {
    let (scale, zero) = qparams.tensor_map().ok_or("a constant with per-channel scales")?;
    let (lo, hi) = qparams.storage.range();
    let q = (f64::from(value) / f64::from(scale)).round_ties_even() + f64::from(zero);
    Ok(q.clamp(lo.into(), hi.into()) as i32)
}

/// The version of an operator by the element type of its data: float, 8-bit and 16-bit integer.
pub(super) fn version(ty: &TensorType, float: i32, int8: i32, int16: i32) -> i32 {
    match stored(&ty.elem) {
        Stored::INT8 => int8,
        Stored::INT16 => int16,
        _ => float,
    }
}

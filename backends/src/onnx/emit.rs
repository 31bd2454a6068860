//! The messages as they grow: what families write with.

use std::sync::Arc;

use bytes::Bytes;
use qcc_formats::onnx::{
    DataType, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, TypeValue, ValueInfoProto,
};
use qcc_ir::ops::{Op, Types};
use qcc_ir::{
    Affine, Dim, Elem, Graph, NodeId, Operands, QuantParams, Scalar, Shape, StorageType, Tensor, TensorType, ValueId,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::call::Call;
pub(super) use crate::Unsupported;
use crate::WriteOptions;
use crate::names::Names;
use crate::pack::packed;

/// The name of a tensor; the empty one stands for an operand that is left out.
pub(super) type Name = Arc<str>;

/// What the tensors that a node reads and gives hold, where its values lie on grids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Real numbers, behind DequantizeLinear and before QuantizeLinear.
    Real,
    /// The integers.
    Stored,
}

/// A node as its family writes it.
pub(super) struct NodeContext<'g> {
    pub(super) graph: &'g Graph,
    pub(super) node: NodeId,
    pub(super) values: Operands,
    pub(super) numbers: Numbers,
    /// Types of the operands, with their grids where the tensors hold integers.
    pub(super) operands: SmallVec<[TensorType; 4]>,
    /// Types of the results, likewise.
    pub(super) results: Types,
    /// Tensors of the results.
    pub(super) outputs: SmallVec<[Name; 2]>,
}

impl NodeContext<'_> {
    /// The constant that operand `i` is.
    pub(super) fn constant(&self, i: usize) -> Option<&Tensor> {
        self.graph.constant(*self.values.get(i)?)
    }
}

/// The messages as they grow.
pub(super) struct Emitter<'g> {
    pub(super) graph: &'g Graph,
    pub(super) form: WriteOptions,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    value_info: Vec<ValueInfoProto>,
    /// Tensors of values on no grid, and of the real numbers of those on one.
    pub(super) reals: FxHashMap<ValueId, Name>,
    /// Tensors of the integers of values on grids.
    pub(super) stored: FxHashMap<ValueId, Name>,
    /// Initializers by element, extents and bytes.
    constants: FxHashMap<(DataType, Vec<i64>, Bytes), Name>,
    tensor_names: Names,
    node_names: Names,
    /// Source node of what is emitted.
    pub(super) path: String,
    opset: i64,
    contrib: bool,
}

impl<'g> Emitter<'g> {
    pub(super) fn new(graph: &'g Graph, form: WriteOptions) -> Self {
        // The names that users see are reserved: no value in between takes them.
        let mut names = Names::default();
        graph.outputs().iter().for_each(|o| names.reserve(&o.name));
        graph.inputs().filter_map(|v| graph.name(v)).for_each(|n| names.reserve(n));
        let mut e = Emitter {
            graph,
            form,
            nodes: Vec::new(),
            initializers: Vec::new(),
            value_info: Vec::new(),
            reals: FxHashMap::default(),
            stored: FxHashMap::default(),
            constants: FxHashMap::default(),
            tensor_names: names,
            node_names: Names::default(),
            path: String::new(),
            opset: Call::OLDEST,
            contrib: false,
        };
        for v in graph.inputs() {
            let name = graph.name(v).cloned().unwrap_or_default();
            e.tensors(graph.ty(v)).insert(v, name);
        }
        e
    }

    /// Where the tensor of a computed value of that type is kept.
    fn tensors(&mut self, ty: &TensorType) -> &mut FxHashMap<ValueId, Name> {
        if ty.elem.qparams().is_some() { &mut self.stored } else { &mut self.reals }
    }

    /// The constant whose numbers a value has, as it is kept: on a grid, where they are restored from one.
    pub(super) fn kept(&self, v: ValueId) -> Option<&'g Tensor> {
        let graph = self.graph;
        let restored = matches!(graph.producer(v), Op::Dequantize(_)).then(|| graph.operands(v.node)[0]);
        graph.constant(restored.unwrap_or(v))
    }

    /// The name that the source model has for a value.
    pub(super) fn wanted(&self, v: ValueId) -> String {
        let graph = self.graph;
        let name = graph.name(v).map_or(graph.origin(v.node).path(), |n| &**n);
        match graph.producer(v) {
            _ if !name.is_empty() => name.to_owned(),
            Op::Quantize(_) | Op::Dequantize(_) => self.wanted(graph.operands(v.node)[0]),
            op => op.kind().name().to_owned(),
        }
    }

    /// Names the tensor that a value is computed into: its integers, where it lies on a grid.
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

    /// A new tensor, named as like `wanted` as can be.
    pub(super) fn between(&mut self, wanted: &str, ty: &TensorType) -> Name {
        let name = self.tensor_names.unique(wanted);
        self.value_info.push(value_info(&name, ty));
        name
    }

    /// A new tensor for a value between operators of one node.
    pub(super) fn scratch(&mut self, site: &NodeContext<'_>, ty: &TensorType) -> Name {
        let wanted = self.wanted(site.node.value(0));
        self.between(&wanted, ty)
    }

    /// The tensor with the numbers of a value: those that its integers stand for, where it lies on a grid.
    pub(super) fn real(&mut self, v: ValueId) -> Name {
        if let Some(name) = self.reals.get(&v) {
            return name.clone();
        }
        let (graph, wanted) = (self.graph, self.wanted(v));
        let name = match (self.kept(v), graph.ty(v).elem.qparams()) {
            (Some(constant), _) => self.place(&wanted, constant, Numbers::Real),
            (None, Some(qparams)) => {
                let stored = self.stored(v);
                let name = self.between(&(wanted + "_dequantized"), &graph.ty(v).real());
                self.dequantize(&stored, &name, qparams);
                name
            }
            // Operands are defined before their users.
            (None, None) => self.define(v),
        };
        self.reals.insert(v, name.clone());
        name
    }

    /// The tensor with the integers of a value on a grid.
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

    /// Operand `i` as the node reads it.
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

    /// A constant as an initializer. Real numbers of one on a grid are behind a DequantizeLinear.
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

    /// The real numbers of a constant on a grid with its zero at 0, restored by Cast and Mul: runtimes compute these when
    /// they load the model, which they do not for DequantizeLinear, and products with them stay products of real numbers.
    pub(super) fn restored(&mut self, wanted: &str, constant: &Tensor) -> Name {
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

    /// The initializer with the stored elements of a constant. The same constant is one initializer.
    pub(super) fn initializer(&mut self, wanted: &str, constant: &Tensor) -> Name {
        let elem = element(&constant.ty().elem);
        let dims: Vec<i64> = constant.dims().iter().map(|&d| d as i64).collect();
        let key = (elem, dims, packed(constant));
        if let Some(known) = self.constants.get(&key) {
            return known.clone();
        }
        let name = self.tensor_names.unique(wanted);
        self.initializers.push(TensorProto {
            name: Some(name.to_string()),
            data_type: Some(elem.into()),
            dims: key.1.clone(),
            raw_data: Some(key.2.clone()),
            ..TensorProto::default()
        });
        self.constants.insert(key, name.clone());
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

    /// A constant number of the element of a tensor: its integer, where that holds integers of a grid.
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

    /// Scale and zero point of a grid. The integers of biases have their zero at 0.
    pub(super) fn qparams(&mut self, wanted: &str, qparams: &QuantParams) -> [Name; 2] {
        let shape = match &qparams.map {
            Affine::PerTensor { .. } => Shape::scalar(),
            Affine::PerAxis { scales, .. } | Affine::PerBlock { scales, .. } => Shape::known(&[scales.len()]),
        };
        let scales = Tensor::from_vec(shape.clone(), qparams.scales().to_vec());
        let scale = self.initializer(&format!("{wanted}_scale"), &scales);
        let count = qparams.scales().len();
        let zero = match qparams.storage {
            StorageType::I4 | StorageType::I8 => Tensor::from_vec(shape, vec![qparams.zero_point() as i8; count]),
            StorageType::U8 => Tensor::from_vec(shape, vec![qparams.zero_point() as u8; count]),
            StorageType::I16 => Tensor::from_vec(shape, vec![qparams.zero_point() as i16; count]),
            StorageType::I32 => return [scale, Name::default()],
        };
        [scale, self.initializer(&format!("{wanted}_zero_point"), &zero)]
    }

    /// QuantizeLinear.
    pub(super) fn quantize(&mut self, real: &Name, stored: &Name, qparams: &QuantParams) {
        let [scale, zero] = self.qparams(real, qparams);
        self.border("QuantizeLinear", qparams, &[real.clone(), scale, zero], stored);
    }

    /// DequantizeLinear.
    pub(super) fn dequantize(&mut self, stored: &Name, real: &Name, qparams: &QuantParams) {
        let [scale, zero] = self.qparams(real, qparams);
        self.border("DequantizeLinear", qparams, &[stored.clone(), scale, zero], real);
    }

    /// QuantizeLinear or DequantizeLinear, named after what it gives: the source's name is for the operator between.
    fn border(&mut self, operator: &'static str, qparams: &QuantParams, inputs: &[Name], output: &Name) {
        let call = Call::new(operator).since(if matches!(qparams.storage, StorageType::I4 | StorageType::I16) {
            21
        } else {
            Call::OLDEST
        });
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
        self.opset = self.opset.max(call.since);
        self.contrib |= call.contrib;
        let wanted = if self.path.is_empty() { call.operator } else { &self.path };
        let name = self.node_names.unique(wanted);
        let given = inputs.iter().rposition(|i| !i.is_empty()).map_or(0, |last| last + 1);
        self.nodes.push(NodeProto {
            input: inputs[..given].iter().map(|n| n.to_string()).collect(),
            output: outputs.iter().map(|n| n.to_string()).collect(),
            name: Some(name.to_string()),
            op_type: Some(call.operator.into()),
            attribute: call.attributes,
            domain: call.contrib.then(|| MICROSOFT.into()),
            overload: None,
        });
    }

    /// Adds a node with the operands and results of a site.
    pub(super) fn push_at(&mut self, call: Call, site: &NodeContext<'_>) {
        let inputs = self.inputs(site);
        self.push(call, &inputs, &site.outputs);
    }

    /// A tensor under another shape, in a new tensor.
    pub(super) fn reshaped(
        &mut self,
        site: &NodeContext<'_>,
        from: &Name,
        ty: &TensorType,
    ) -> Result<Name, Unsupported> {
        let to = self.scratch(site, ty);
        self.reshape(from, &to, &ty.shape)?;
        Ok(to)
    }

    /// Reshape. One extent may be open.
    pub(super) fn reshape(&mut self, from: &Name, to: &Name, shape: &Shape) -> Result<(), Unsupported> {
        if shape.dims().iter().filter(|d| d.known().is_none()).count() > 1 {
            return Err(format!("{shape} has more than one open extent; fix them with --shape").into());
        }
        // Elsewhere 0 stands for the extent before.
        let empty = shape.dims().contains(&Dim::Known(0));
        let call = Call::new("Reshape");
        let call = if empty { call.int("allowzero", 1) } else { call };
        let shape = self.list(shape.dims().iter().map(|d| d.known().map_or(-1, |n| n as i64)));
        self.push(call, &[from.clone(), shape], std::slice::from_ref(to));
        Ok(())
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
        let contrib = self.contrib.then(|| set(MICROSOFT, 1));
        ModelProto {
            ir_version: Some(ir_version(self.opset)),
            opset_import: std::iter::once(set("", self.opset)).chain(contrib).collect(),
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

/// The version of the format that came with an operator set.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=18 => 8,
        19..=20 => 9,
        _ => 10,
    }
}

/// The format's element for one of the graph's; for a grid, that of its integers.
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

fn value_info(name: &str, ty: &TensorType) -> ValueInfoProto {
    let dim = |d: &Dim| Dimension {
        value: Some(match d {
            Dim::Known(n) => DimensionValue::Value(*n as i64),
            Dim::Sym(s) => DimensionValue::Param(s.to_string()),
        }),
    };
    let tensor = TypeProtoTensor {
        elem_type: Some(element(&ty.elem).into()),
        shape: Some(TensorShapeProto { dim: ty.shape.dims().iter().map(dim).collect() }),
    };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
}

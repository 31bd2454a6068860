//! One node on its way into the graph: what operator rows read from and write with.

use half::f16;
use qcc_formats::onnx::{GraphProto, NodeProto, TensorProto};
use qcc_ir::error::EvalError;
use qcc_ir::ops::{Binary, BinaryFn, Cast, Extents, Op, Reduce, ReduceFn, Reshape, Tensors, Transpose, Unary, UnaryFn};
use qcc_ir::{Elem, Graph, Origin, Shape, Tensor, TensorType, ValueId};
use smallvec::SmallVec;

use super::attributes::Attributes;
use super::importer::Importer;
use super::refusal::Refusal;
use super::weights;

/// The results of a node, in the order of its outputs.
pub(super) type Values = SmallVec<[ValueId; 1]>;

/// Constants are computed at import up to this many bytes; larger ones only where an operand is as large.
const FOLDED_BYTES: usize = 1 << 16;

/// A node and the importer it belongs to. Inputs and attributes that no row reads are refused by [`NodeCx::finish`].
#[derive(Debug)]
pub(super) struct NodeCx<'a, 'm> {
    importer: &'a mut Importer<'m>,
    node: &'m NodeProto,
    inputs: SmallVec<[Option<ValueId>; 4]>,
    read: SmallVec<[bool; 4]>,
    attributes: Attributes<'m>,
    origin: Origin,
}

impl<'a, 'm> NodeCx<'a, 'm> {
    pub(super) fn new(
        importer: &'a mut Importer<'m>,
        node: &'m NodeProto,
        inputs: SmallVec<[Option<ValueId>; 4]>,
        origin: Origin,
    ) -> Self {
        let read = SmallVec::from_elem(false, inputs.len());
        NodeCx { importer, node, inputs, read, attributes: Attributes::new(&node.attribute), origin }
    }

    /// Fails where an input or an attribute was not read.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match (0..self.inputs.len()).find(|&i| self.inputs[i].is_some() && !self.read[i]) {
            Some(i) => Err(Refusal::UnreadInput(i)),
            None => self.attributes.finish(),
        }
    }

    // The node.

    /// Version of the operator set.
    pub(super) fn opset(&self) -> i64 {
        self.importer.opset
    }

    /// Number of results the node names, the last of them not empty.
    pub(super) fn outputs(&self) -> usize {
        self.node.output.len()
    }

    /// Input `i`, where it is given.
    pub(super) fn optional(&mut self, i: usize) -> Option<ValueId> {
        if let Some(read) = self.read.get_mut(i) {
            *read = true;
        }
        self.inputs.get(i).copied().flatten()
    }

    /// Input `i`.
    pub(super) fn input(&mut self, i: usize) -> Result<ValueId, Refusal> {
        self.optional(i).ok_or(Refusal::MissingInput(i))
    }

    /// All inputs; one at least.
    pub(super) fn all_inputs(&mut self) -> Result<Values, Refusal> {
        (0..self.inputs.len().max(1)).map(|i| self.input(i)).collect()
    }

    /// The constant at input `i`, where it is given.
    pub(super) fn optional_constant(&mut self, i: usize) -> Result<Option<Tensor>, Refusal> {
        let Some(v) = self.optional(i) else { return Ok(None) };
        match self.importer.graph.constant(v) {
            Some(t) => Ok(Some(t.clone())),
            None => Err(Refusal::NotConstant { index: i, name: self.node.input[i].clone() }),
        }
    }

    /// The integers at input `i`, where it is given; they must be known.
    pub(super) fn optional_integers(&mut self, i: usize) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(t) = self.optional_constant(i)? else { return Ok(None) };
        t.integers().map(Some).ok_or_else(|| Refusal::Invalid(format!("input {i} is {}; expected integers", t.ty())))
    }

    /// The integers at input `i`; they must be known.
    pub(super) fn integers(&mut self, i: usize) -> Result<Vec<i64>, Refusal> {
        self.optional_integers(i)?.ok_or(Refusal::MissingInput(i))
    }

    /// The one integer at input `i`; it must be known.
    pub(super) fn integer(&mut self, i: usize) -> Result<i64, Refusal> {
        match self.integers(i)?.as_slice() {
            [n] => Ok(*n),
            other => Err(Refusal::Invalid(format!("input {i} has {} elements; expected one", other.len()))),
        }
    }

    // Attributes.

    /// An integer attribute.
    pub(super) fn optional_int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        self.attributes.int(name)
    }

    /// An integer attribute or its default.
    pub(super) fn int(&mut self, name: &str, default: i64) -> Result<i64, Refusal> {
        Ok(self.attributes.int(name)?.unwrap_or(default))
    }

    /// An attribute that is 0 or 1, or its default.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.attributes.int(name)? {
            None => Ok(default),
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(_) => Err(Refusal::Attribute { name: name.into(), problem: "expected 0 or 1" }),
        }
    }

    /// A float attribute.
    pub(super) fn optional_float(&mut self, name: &str) -> Result<Option<f32>, Refusal> {
        self.attributes.float(name)
    }

    /// A float attribute or its default.
    pub(super) fn float(&mut self, name: &str, default: f32) -> Result<f32, Refusal> {
        Ok(self.attributes.float(name)?.unwrap_or(default))
    }

    /// A text attribute or its default.
    pub(super) fn string(&mut self, name: &str, default: &'m str) -> Result<&'m str, Refusal> {
        Ok(self.attributes.string(name)?.unwrap_or(default))
    }

    /// An attribute of integers.
    pub(super) fn ints(&mut self, name: &str) -> Result<Option<&'m [i64]>, Refusal> {
        self.attributes.ints(name)
    }

    /// An attribute of floats.
    pub(super) fn floats(&mut self, name: &str) -> Result<Option<&'m [f32]>, Refusal> {
        self.attributes.floats(name)
    }

    /// A tensor attribute.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, Refusal> {
        self.attributes.tensor(name)?.map(|t: &TensorProto| self.importer.tensor(t)).transpose()
    }

    /// A graph attribute.
    pub(super) fn graph(&mut self, name: &str) -> Result<&'m GraphProto, Refusal> {
        let missing = || Refusal::Attribute { name: name.into(), problem: "is missing" };
        self.attributes.graph(name)?.ok_or_else(missing)
    }

    /// Integers that are an attribute before opset `since` and input `i` from then on.
    pub(super) fn attribute_or_input(&mut self, name: &str, since: i64, i: usize) -> Result<Option<Vec<i64>>, Refusal> {
        if self.opset() < since { Ok(self.ints(name)?.map(<[i64]>::to_vec)) } else { self.optional_integers(i) }
    }

    /// The element that an attribute of type INT names.
    pub(super) fn elem(&mut self, data_type: i64) -> Result<Elem, Refusal> {
        let data_type = i32::try_from(data_type).unwrap_or(-1);
        if weights::is_double_type(data_type) {
            self.importer.note_double();
        }
        weights::elem(data_type)
    }

    // Values.

    /// The type of a value.
    pub(super) fn ty(&self, v: ValueId) -> &TensorType {
        self.importer.graph.ty(v)
    }

    /// The rank of a value.
    pub(super) fn rank(&self, v: ValueId) -> usize {
        self.ty(v).rank()
    }

    /// The extents of a value: all are known, because inputs' are.
    pub(super) fn dims(&self, v: ValueId) -> Extents {
        self.ty(v).shape.dims().iter().filter_map(|d| d.known()).collect()
    }

    /// The tensor, where the value is a constant.
    pub(super) fn constant(&self, v: ValueId) -> Option<&Tensor> {
        self.importer.graph.constant(v)
    }

    /// The axis of `v` that a number names; negative ones count from the end.
    pub(super) fn axis(&self, axis: i64, v: ValueId) -> Result<usize, Refusal> {
        count_axis(axis, self.rank(v))
    }

    // The graph.

    /// Inlines a graph attribute; gives its outputs.
    pub(super) fn inline(&mut self, graph: &'m GraphProto) -> Result<Values, Refusal> {
        self.importer.inline(graph)
    }

    /// Adds a constant.
    pub(super) fn add_constant(&mut self, tensor: Tensor) -> ValueId {
        self.importer.graph.add_const(tensor, self.origin.clone())
    }

    /// Adds a constant scalar with the element of `like`.
    pub(super) fn scalar(&mut self, value: f64, like: ValueId) -> Result<ValueId, Refusal> {
        let elem = self.ty(like).elem.clone();
        let tensor = numbers(&elem, Shape::scalar(), &[value])
            .ok_or_else(|| Refusal::Unsupported(format!("{value} is no {elem}")))?;
        Ok(self.add_constant(tensor))
    }

    /// Adds an operator with any number of results. Where all operands are constants, so are the results.
    pub(super) fn add_all(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<Values, Refusal> {
        let op = op.into();
        if let Some(tensors) = folded(&self.importer.graph, &op, operands)? {
            return Ok(tensors.into_iter().map(|t| self.add_constant(t)).collect());
        }
        let graph = &mut self.importer.graph;
        let node = graph.add(op, operands, self.origin.clone())?;
        let results: Values = graph.results(node).collect();
        for &r in &results {
            bounded(graph.ty(r))?;
        }
        Ok(results)
    }

    /// Adds an operator with one result.
    pub(super) fn add(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, Refusal> {
        Ok(self.add_all(op, operands)?[0])
    }

    /// Adds a function of one value.
    pub(super) fn unary(&mut self, f: UnaryFn, x: ValueId) -> Result<ValueId, Refusal> {
        self.add(Unary { f }, &[x])
    }

    /// Adds a function of two values.
    pub(super) fn binary(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> Result<ValueId, Refusal> {
        self.add(Binary { f }, &[a, b])
    }

    /// Adds a reduction; over no axes it is the identity.
    pub(super) fn reduce(&mut self, f: ReduceFn, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId, Refusal> {
        if axes.is_empty() { Ok(x) } else { self.add(Reduce { f, axes: axes.into(), keep }, &[x]) }
    }

    /// Adds a reshape, where the shape differs.
    pub(super) fn reshape(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId, Refusal> {
        let shape = Shape::known(dims);
        if self.ty(x).shape == shape { Ok(x) } else { self.add(Reshape { shape }, &[x]) }
    }

    /// Adds a transposition, where it changes the order.
    pub(super) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId, Refusal> {
        let sorted = perm.len() == self.rank(x) && perm.iter().enumerate().all(|(i, &a)| i == a);
        if sorted { Ok(x) } else { self.add(Transpose { perm: perm.into() }, &[x]) }
    }

    /// Adds a cast, where the element differs.
    pub(super) fn cast(&mut self, x: ValueId, to: Elem) -> Result<ValueId, Refusal> {
        if self.ty(x).elem == to { Ok(x) } else { self.add(Cast { to }, &[x]) }
    }

    /// A vector `[C]` as `[1, C, 1, ..]`, to combine it with the channels of `x`.
    pub(super) fn along_channels(&mut self, v: ValueId, x: ValueId) -> Result<ValueId, Refusal> {
        let mut dims = Extents::from_elem(1, self.rank(x).max(2));
        dims[1] = self.dims(v).iter().product();
        self.reshape(v, &dims)
    }
}

/// The results of an operator on constants; none where an operand is not known, or where they are large.
fn folded(graph: &Graph, op: &Op, operands: &[ValueId]) -> Result<Option<Tensors>, Refusal> {
    let tensors: Option<SmallVec<[&Tensor; 4]>> = operands.iter().map(|&v| graph.constant(v)).collect();
    let Some(tensors) = tensors else { return Ok(None) };
    let types: SmallVec<[&TensorType; 4]> = tensors.iter().map(|t| t.ty()).collect();
    let mut bytes = 0;
    for ty in op.infer(&types)? {
        bounded(&ty)?;
        bytes += ty.bytes().unwrap_or(usize::MAX / 4);
    }
    let largest = tensors.iter().map(|t| t.data().len()).max().unwrap_or(0);
    if bytes > largest.max(FOLDED_BYTES) {
        return Ok(None);
    }
    match op.eval(&tensors) {
        Ok(results) => Ok(Some(results)),
        Err(EvalError::Elem { .. } | EvalError::Unknown(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Fails where a value is too large to compute with.
fn bounded(ty: &TensorType) -> Result<(), Refusal> {
    let fits = |n: Option<usize>| n.is_some_and(|n| n <= weights::MOST_ELEMENTS);
    let extents = ty.shape.dims().iter().all(|d| fits(d.known()));
    if !extents || !fits(ty.shape.elements()) || !fits(ty.bytes()) {
        return Err(Refusal::Unsupported(format!("a value of {ty} is too large")));
    }
    if ty.rank() > 8 {
        return Err(Refusal::Unsupported(format!("rank {} is not supported; 8 is the most", ty.rank())));
    }
    Ok(())
}

/// The axis that a number names among `rank`; negative ones count from the end.
pub(super) fn count_axis(axis: i64, rank: usize) -> Result<usize, Refusal> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_front = if axis < 0 { axis + signed } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| Refusal::Invalid(format!("axis {axis} is none of {rank} axes")))
}

/// Axes by number, ascending and unique.
pub(super) fn count_axes(axes: &[i64], rank: usize) -> Result<Extents, Refusal> {
    let mut counted: Extents = axes.iter().map(|&a| count_axis(a, rank)).collect::<Result<_, _>>()?;
    counted.sort_unstable();
    if counted.windows(2).any(|w| w[0] == w[1]) {
        return Err(Refusal::Invalid(format!("axes {axes:?} name an axis twice")));
    }
    Ok(counted)
}

/// A tensor of these numbers, or `None` where one of them is none of the element's.
pub(super) fn numbers(elem: &Elem, shape: Shape, values: &[f64]) -> Option<Tensor> {
    fn integers<T: qcc_ir::Scalar + TryFrom<i64>>(shape: Shape, values: &[f64]) -> Option<Tensor> {
        // A float at or beyond 2^63 would saturate.
        let whole = |v: f64| (v.fract() == 0.0 && v.abs() < 9.2e18).then_some(v as i64);
        let values: Option<Vec<T>> = values.iter().map(|&v| T::try_from(whole(v)?).ok()).collect();
        Some(Tensor::from_vec(shape, values?))
    }
    match elem {
        Elem::F32 => Some(Tensor::from_vec(shape, values.iter().map(|&v| v as f32).collect())),
        Elem::F16 => Some(Tensor::from_vec(shape, values.iter().map(|&v| f16::from_f64(v)).collect())),
        Elem::I8 => integers::<i8>(shape, values),
        Elem::U8 => integers::<u8>(shape, values),
        Elem::I16 => integers::<i16>(shape, values),
        Elem::I32 => integers::<i32>(shape, values),
        Elem::I64 => integers::<i64>(shape, values),
        Elem::Bool => {
            let known = values.iter().all(|&v| v == 0.0 || v == 1.0);
            known.then(|| Tensor::from_bools(shape, values.iter().map(|&v| v != 0.0)))
        }
        Elem::Grid(_) => None,
    }
}

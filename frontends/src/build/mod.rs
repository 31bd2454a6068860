//! Helpers that all frontends use to build nodes: constant folding, and decompositions of operators that the graph does
//! not have.

use half::f16;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::EvalError;
use qcc_ir::ops::{
    Binary, BinaryFn, Cast, Clamp, Extents, Op, Reduce, ReduceFn, Reshape, Symbolic, Tensors, Transpose, Types, Unary,
    UnaryFn,
};
use qcc_ir::{Dim, Elem, Expr, Graph, Origin, Scalar, Shape, Tensor, TensorType, ValueId};
use smallvec::SmallVec;

use crate::refusal::Refusal;
pub(crate) use end::End;
pub(crate) use operands::Operands;
use symbolic::Folded;

pub(crate) mod attempt;
pub(crate) mod attention;
pub(crate) mod bits;
pub(crate) mod blocks;
pub(crate) mod boxes;
pub(crate) mod computed;
pub(crate) mod control;
pub(crate) mod einsum;
mod end;
pub(crate) mod fourier;
pub(crate) mod index;
pub(crate) mod integers;
pub(crate) mod lstm;
pub(crate) mod movement;
pub(crate) mod norm;
pub(crate) mod one_hot;
mod operands;
pub(crate) mod pad;
pub(crate) mod padding;
pub(crate) mod product;
pub(crate) mod random;
pub(crate) mod range;
pub(crate) mod resample;
pub(crate) mod resample_computed;
pub(crate) mod resize;
pub(crate) mod sample;
pub(crate) mod states;
pub(crate) mod symbolic;
pub(crate) mod unique;
pub(crate) mod window;

/// The results of a node, in order.
pub(crate) type Values = SmallVec<[ValueId; 1]>;

/// Extents and element counts above this are refused: no target supports more, and arithmetic on them cannot overflow.
pub(crate) const MOST_ELEMENTS: usize = i32::MAX as usize;

/// Constants up to this size in bytes are folded at import; larger ones only if an operand is as large.
const FOLDED_BYTES: usize = 1 << 16;

/// A source node that is being imported.
pub(crate) trait Build {
    /// The graph.
    fn graph(&self) -> &Graph;

    /// The graph, mutable.
    fn graph_mut(&mut self) -> &mut Graph;

    /// The source node.
    fn origin(&self) -> &Origin;

    /// The type of a value.
    fn ty(&self, v: ValueId) -> &TensorType {
        self.graph().ty(v)
    }

    /// The rank of a value.
    fn rank(&self, v: ValueId) -> usize {
        self.ty(v).rank()
    }

    /// The extents of a value, which must all be known.
    fn dims(&self, v: ValueId) -> Result<Extents, Refusal> {
        let shape = &self.ty(v).shape;
        let known: Option<Extents> = shape.dims().iter().map(Dim::known).collect();
        known.ok_or_else(|| Refusal::Open(shape.clone()))
    }

    /// An extent of a value, which must be known.
    fn extent(&self, v: ValueId, axis: usize) -> Result<usize, Refusal> {
        self.shape(v).dims()[axis].known().ok_or_else(|| Refusal::Open(self.shape(v).clone()))
    }

    /// The shape of a value; extents may be open.
    fn shape(&self, v: ValueId) -> &Shape {
        &self.ty(v).shape
    }

    /// The tensor, if the value is a constant.
    fn constant(&self, v: ValueId) -> Option<&Tensor> {
        self.graph().constant(v)
    }

    /// True if the value is a constant or a dequantized constant.
    fn is_known(&self, v: ValueId) -> bool {
        let graph = self.graph();
        let behind = matches!(graph.producer(v), Op::Dequantize(_)).then(|| graph.operands(v.node)[0]);
        graph.constant(behind.unwrap_or(v)).is_some()
    }

    /// A normalized axis of `v`; negative axes count from the end.
    fn axis(&self, axis: i64, v: ValueId) -> Result<usize, Refusal> {
        count_axis(axis, self.rank(v))
    }

    /// Adds a constant whose size is bounded by the node or its operands. For others see [`Build::table`].
    fn add_constant(&mut self, tensor: Tensor) -> ValueId {
        let origin = self.origin().clone();
        self.graph_mut().add_computed(tensor, origin)
    }

    /// Fails if a constant of these extents with `size` bytes per element is too large.
    fn room(&self, dims: &[usize], size: usize) -> Result<(), Refusal> {
        let bytes = dims.iter().fold(size as u64, |n, &d| n.saturating_mul(d as u64));
        Ok(self.graph().room(bytes)?)
    }

    /// Adds a constant whose extents depend on values of the model, if it is not too large.
    fn table<T: Scalar>(&mut self, dims: &[usize], value: impl Fn(usize) -> T) -> Result<ValueId, Refusal> {
        self.room(dims, size_of::<T>())?;
        let values = (0..dims.iter().product()).map(value).collect();
        Ok(self.add_constant(Tensor::from_vec(Shape::known(dims), values)))
    }

    /// As [`Build::table`], with a run-time element type; `None` if a value is out of its range.
    fn table_of(
        &mut self,
        elem: &Elem,
        dims: &[usize],
        value: impl Fn(usize) -> f64,
    ) -> Result<Option<ValueId>, Refusal> {
        self.room(dims, size_of::<f64>())?;
        let values: Vec<f64> = (0..dims.iter().product()).map(value).collect();
        Ok(numbers(elem, Shape::known(dims), &values).map(|tensor| self.add_constant(tensor)))
    }

    /// Adds a constant scalar with the element type of `like`.
    fn scalar(&mut self, value: f64, like: ValueId) -> Result<ValueId, Refusal> {
        let elem = self.ty(like).elem.clone();
        let tensor = numbers(&elem, Shape::scalar(), &[value])
            .ok_or_else(|| Refusal::Unsupported(format!("{value} is no {elem}")))?;
        Ok(self.add_constant(tensor))
    }

    /// Adds an operator with any number of results. If all operands are constants, it is folded. Constant indices that
    /// are out of range are refused.
    fn add_all(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<Values, Refusal> {
        let op = op.into();
        if let Some(tensors) = folded(self.graph(), &op, operands)? {
            return Ok(tensors.into_iter().map(|t| self.add_constant(t)).collect());
        }
        let origin = self.origin().clone();
        let (op, operands) = match symbolic::folded(self.graph(), &op, operands) {
            Some(Folded::Constant(tensor)) => return one(self.add_constant(tensor)),
            Some(Folded::Open(values)) => (values.into(), &[][..]),
            None => (op, operands),
        };
        let graph = self.graph_mut();
        let node = graph.add(op, operands, origin)?;
        graph.indices_within(node)?;
        let results: Values = graph.results(node).collect();
        for &r in &results {
            bounded(graph.ty(r))?;
        }
        Ok(results)
    }

    /// Adds an operator with one result.
    fn add(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, Refusal> {
        Ok(self.add_all(op, operands)?[0])
    }

    /// Adds an operator whose result has the given type.
    fn add_typed(&mut self, op: impl Into<Op>, operands: &[ValueId], ty: TensorType) -> Result<ValueId, Refusal> {
        bounded(&ty)?;
        let origin = self.origin().clone();
        let graph = self.graph_mut();
        let node = graph.add_typed(op, operands, Types::from_elem(ty, 1), origin)?;
        graph.indices_within(node)?;
        Ok(node.value(0))
    }

    /// Adds a unary function.
    fn unary(&mut self, f: UnaryFn, x: ValueId) -> Result<ValueId, Refusal> {
        self.add(Unary { f }, &[x])
    }

    /// Adds a binary function.
    fn binary(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> Result<ValueId, Refusal> {
        self.add(Binary { f }, &[a, b])
    }

    /// Adds a reduction; without axes it is the identity.
    fn reduce(&mut self, f: ReduceFn, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId, Refusal> {
        if axes.is_empty() { Ok(x) } else { self.add(Reduce { f, axes: axes.into(), keep }, &[x]) }
    }

    /// Adds integers that follow from open extents.
    fn add_whole(&mut self, values: Vec<Expr>, shape: Extents) -> Result<ValueId, Refusal> {
        let constants: Option<Vec<i64>> = values.iter().map(Expr::constant).collect();
        match constants {
            Some(values) => Ok(self.add_constant(Tensor::from_vec(Shape::known(&shape), values))),
            None => self.add(Symbolic { values, shape, narrow: false }, &[]),
        }
    }

    /// Adds a reshape, if the shape differs.
    fn reshape(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId, Refusal> {
        self.reshape_to(x, Shape::known(dims))
    }

    /// As [`Build::reshape`], to extents that may be open.
    fn reshape_to(&mut self, x: ValueId, shape: Shape) -> Result<ValueId, Refusal> {
        if self.ty(x).shape == shape { Ok(x) } else { self.add(Reshape { shape }, &[x]) }
    }

    /// `x` with a first axis of extent 1.
    fn as_row(&mut self, x: ValueId) -> Result<ValueId, Refusal> {
        let shape = std::iter::once(Dim::Known(1)).chain(self.shape(x).dims().iter().cloned()).collect();
        self.reshape_to(x, shape)
    }

    /// `x` with a last axis of extent 1.
    fn column(&mut self, x: ValueId) -> Result<ValueId, Refusal> {
        let shape = self.shape(x).dims().iter().cloned().chain([Dim::Known(1)]).collect();
        self.reshape_to(x, shape)
    }

    /// Adds a transposition, if the permutation is not the identity.
    fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Result<ValueId, Refusal> {
        let sorted = perm.len() == self.rank(x) && perm.iter().enumerate().all(|(i, &a)| i == a);
        if sorted { Ok(x) } else { self.add(Transpose { perm: perm.into() }, &[x]) }
    }

    /// Adds a cast, if the element type differs.
    fn cast(&mut self, x: ValueId, to: Elem) -> Result<ValueId, Refusal> {
        if self.ty(x).elem == to { Ok(x) } else { self.add(Cast { to }, &[x]) }
    }

    /// A vector `[C]` as `[1, C, 1, ..]`, to combine it with the channels of `x`.
    fn along_channels(&mut self, v: ValueId, x: ValueId) -> Result<ValueId, Refusal> {
        let mut dims = Extents::from_elem(1, self.rank(x).max(2));
        dims[1] = self.dims(v)?.iter().product();
        self.reshape(v, &dims)
    }
}

/// The results of an operator on constants; `None` if an operand is not constant, or if the results are large.
fn folded(graph: &Graph, op: &Op, operands: &[ValueId]) -> Result<Option<Tensors>, Refusal> {
    let tensors: Option<SmallVec<[&Tensor; 4]>> = operands.iter().map(|&v| graph.constant(v)).collect();
    // Quantized constants are not folded: the quantization of the result is not part of the operator.
    let plain = |t: &SmallVec<[&Tensor; 4]>| t.iter().all(|t| t.ty().elem.qparams().is_none());
    let Some(tensors) = tensors.filter(plain) else { return Ok(None) };
    let types: SmallVec<[&TensorType; 4]> = tensors.iter().map(|t| t.ty()).collect();
    let mut bytes = 0;
    for ty in op.infer(&types)? {
        bounded(&ty)?;
        bytes += ty.bytes().unwrap_or(usize::MAX / 4);
    }
    let largest = tensors.iter().map(|t| t.data().len()).max().unwrap_or(0);
    if bytes > largest.max(FOLDED_BYTES) || graph.room(bytes as u64).is_err() {
        return Ok(None);
    }
    match op.eval(&tensors) {
        Ok(results) => Ok(Some(results)),
        Err(EvalError::Elem { .. } | EvalError::Unknown(_) | EvalError::Custom(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Fails if a value is too large.
pub(crate) fn bounded(ty: &TensorType) -> Result<(), Refusal> {
    let fits = |n: Option<usize>| n.is_some_and(|n| n <= MOST_ELEMENTS);
    let extents = ty.shape.dims().iter().all(|d| d.known().is_none() || fits(d.known()));
    // Open extents count as 1.
    let known: Shape = ty.shape.dims().iter().map(|d| d.known().unwrap_or(1)).collect();
    let bytes = known.elements().and_then(|n| n.checked_mul(ty.elem.size()));
    if !extents || !fits(known.span()) || !fits(bytes) {
        let help = "give smaller inputs: --shape, or export the model without values of this size";
        return Err(Refusal::Advised { message: format!("a value of {ty} is too large"), help });
    }
    if ty.rank() > 8 {
        return Err(Refusal::Unsupported(format!("rank {} is not supported; 8 is the most", ty.rank())));
    }
    Ok(())
}

/// A normalized axis of `rank` axes; negative axes count from the end.
pub(crate) fn count_axis(axis: i64, rank: usize) -> Result<usize, Refusal> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let from_front = if axis < 0 { axis + signed } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| Refusal::Invalid(format!("axis {axis} is none of {rank} axes")))
}

/// Normalized axes, ascending and unique.
pub(crate) fn count_axes(axes: &[i64], rank: usize) -> Result<Extents, Refusal> {
    let mut counted: Extents = axes.iter().map(|&a| count_axis(a, rank)).collect::<Result<_, _>>()?;
    counted.sort_unstable();
    if counted.windows(2).any(|w| w[0] == w[1]) {
        return Err(Refusal::Invalid(format!("axes {axes:?} name an axis twice")));
    }
    Ok(counted)
}

/// A tensor of these numbers, or `None` if one of them is out of range of the element type. Of a quantized type they are the
/// dequantized numbers.
pub(crate) fn numbers(elem: &Elem, shape: Shape, values: &[f64]) -> Option<Tensor> {
    fn integers<T: Scalar + TryFrom<i64>>(shape: Shape, values: &[f64]) -> Option<Tensor> {
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
        Elem::Quantized(qparams) => {
            let real = Tensor::from_vec(shape, values.iter().map(|&v| v as f32).collect());
            let placed = real.quantized(qparams);
            (placed.floats()[..] == real.floats()[..]).then_some(placed)
        }
    }
}

/// The extents of a tensor, checked.
pub(crate) fn extents(dims: &[i64]) -> Result<Vec<usize>, Refusal> {
    if dims.len() > 8 {
        return Err(Refusal::Unsupported(format!("rank {} is not supported; 8 is the most", dims.len())));
    }
    dims.iter().map(|&d| extent(d)).collect()
}

/// An extent or number of elements, checked.
pub(crate) fn extent(n: i64) -> Result<usize, Refusal> {
    let n =
        usize::try_from(n).map_err(|_| Refusal::Invalid(format!("{n} is negative; expected a number of elements")))?;
    if n > MOST_ELEMENTS { Err(Refusal::Unsupported(format!("{n} elements are too many"))) } else { Ok(n) }
}

/// One result.
pub(crate) fn one(v: ValueId) -> Result<Values, Refusal> {
    Ok(Values::from_elem(v, 1))
}

/// An input that the user set: a constant of that name. A single value fills it.
pub(crate) fn fixed_input(
    graph: &mut Graph,
    name: &str,
    ty: &TensorType,
    values: &[f64],
) -> Result<ValueId, Box<Diagnostic>> {
    let tensor = fixed(ty, values).ok_or_else(|| {
        let message = format!("--set gives {} numbers that do not fit {name}, which is {ty}", values.len());
        Box::new(Diagnostic::error("bad-value", message))
    })?;
    let value = graph.add_const(tensor, Origin::new(name, "Input"));
    graph.set_name(value, name);
    Ok(value)
}

fn fixed(ty: &TensorType, values: &[f64]) -> Option<Tensor> {
    let count = ty.shape.elements()?;
    let values: Vec<f64> = match values {
        [one] => vec![*one; count],
        _ => values.to_vec(),
    };
    if values.len() != count || values.iter().any(|v| v.is_nan()) {
        return None;
    }
    numbers(&ty.elem, ty.shape.clone(), &values)
}

/// log(sum(exp(x - max))) + max over the axes, which avoids overflow.
pub(crate) fn log_sum_exp(n: &mut impl Build, x: ValueId, axes: &[usize], keep: bool) -> Result<ValueId, Refusal> {
    if axes.is_empty() {
        return Ok(x);
    }
    let max = n.reduce(ReduceFn::Max, x, axes, true)?;
    let shifted = n.binary(BinaryFn::Sub, x, max)?;
    let exp = n.unary(UnaryFn::Exp, shifted)?;
    let sum = n.reduce(ReduceFn::Sum, exp, axes, keep)?;
    let log = n.unary(UnaryFn::Log, sum)?;
    let max = n.reshape_to(max, n.shape(log).clone())?;
    n.binary(BinaryFn::Add, log, max)
}

/// x where x >= 0, alpha * (exp(x / alpha) - 1) elsewhere.
pub(crate) fn celu(n: &mut impl Build, x: ValueId, alpha: f64) -> Result<ValueId, Refusal> {
    let elu = UnaryFn::Elu { alpha: 1.0 };
    if alpha == 0.0 {
        return Err(Refusal::Invalid("alpha is 0, by which its operand is divided".into()));
    }
    if alpha == 1.0 {
        return n.unary(elu, x);
    }
    let factor = n.scalar(alpha, x)?;
    if alpha > 0.0 {
        let scaled = n.binary(BinaryFn::Div, x, factor)?;
        let y = n.unary(elu, scaled)?;
        return n.binary(BinaryFn::Mul, y, factor);
    }
    // The exponent is positive where x is negative.
    let above = n.add(Clamp::RELU, &[x])?;
    let below = n.add(Clamp { lo: f32::NEG_INFINITY, hi: 0.0 }, &[x])?;
    let exponent = n.binary(BinaryFn::Div, below, factor)?;
    let power = n.unary(UnaryFn::Exp, exponent)?;
    let one = n.scalar(1.0, x)?;
    let less = n.binary(BinaryFn::Sub, power, one)?;
    let below = n.binary(BinaryFn::Mul, less, factor)?;
    n.binary(BinaryFn::Add, above, below)
}

//! A builder for the nodes that replace another node.

use qcc_ir::error::TypeError;
use qcc_ir::eval::evaluate_node;
use qcc_ir::ops::{
    Binary, BinaryFn, Cast, Clamp, Concat, CumSum, Dequantize, Expand, Extents, Op, OpKind, OpenSlice, Pad, PadMode,
    PoolFn, Range, Reduce, ReduceFn, Reshape, Select, Slice, Symbolic, Transpose, Unary, UnaryFn, window_steps,
};
use qcc_ir::target::{Kernel, Target};
use qcc_ir::{Composite, Dim, Elem, Graph, NodeId, Origin, Scalar, Shape, Tensor, TensorType, ValueId};

use crate::pattern::when;
use crate::{PassError, Skip};

/// Adds nodes with the origin of the node that they replace. Nodes with constant operands are evaluated at once.
pub(crate) struct Build<'g> {
    pub(crate) g: &'g mut Graph,
    origin: Origin,
    /// The operator that the nodes are a decomposition of.
    composite: Option<Composite>,
}

pub(crate) type Built = Result<ValueId, Skip>;

impl<'g> Build<'g> {
    pub(crate) fn at(g: &'g mut Graph, node: NodeId) -> Self {
        let (origin, composite) = (g.origin(node).clone(), g.composite(node).cloned());
        Build { g, origin, composite }
    }

    /// As [`Build::at`], for a decomposition of the node, which becomes their composite. If the node already has a
    /// composite, that one is used.
    pub(crate) fn in_place_of(g: &'g mut Graph, node: NodeId) -> Self {
        let own = || Composite::new(g.op(node).clone());
        let composite = Some(g.composite(node).cloned().unwrap_or_else(own));
        Build { composite, ..Build::at(g, node) }
    }

    fn make(&mut self, op: Op, operands: &[ValueId]) -> Result<NodeId, TypeError> {
        let node = self.g.add(op, operands, self.origin.clone())?;
        if let Some(composite) = &self.composite {
            self.g.set_composite(node, composite.clone());
        }
        Ok(node)
    }

    pub(crate) fn ty(&self, v: ValueId) -> &TensorType {
        self.g.ty(v)
    }

    /// The extents of a value, all of which must be known.
    pub(crate) fn extents(&self, v: ValueId) -> Result<Extents, Skip> {
        let extents = self.ty(v).shape.extents().ok_or(Skip::Open)?;
        Ok(Extents::from_slice(&extents))
    }

    /// The extents of the spatial axes of an image, which must be known; its batch may be open.
    pub(crate) fn spatial(&self, v: ValueId) -> Result<Extents, Skip> {
        let spatial = self.ty(v).shape.dims().get(2..).ok_or(Skip::NoMatch)?;
        spatial.iter().map(Dim::known).collect::<Option<_>>().ok_or(Skip::Open)
    }

    /// Adds a node with one result.
    pub(crate) fn op(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Built {
        let op = op.into();
        let constants: Option<Vec<&Tensor>> = operands.iter().map(|&v| self.g.constant(v)).collect();
        if let Some(constants) = constants.filter(|c| c.iter().all(|t| t.ty().elem.qparams().is_none())) {
            let types: Vec<&TensorType> = constants.iter().map(|t| t.ty()).collect();
            // Results that are too large, or of open extents, are computed at run time.
            let bytes: Option<usize> = op.infer(&types)?.iter().map(TensorType::bytes).sum();
            if bytes.is_some_and(|bytes| self.g.room(bytes as u64).is_ok()) {
                let value = op.eval(&constants)?.swap_remove(0);
                return Ok(self.constant(value));
            }
        }
        if let Some(v) = self.moved_quantized(&op, operands) {
            return Ok(v);
        }
        Ok(self.make(op, operands)?.value(0))
    }

    /// Adds a node with any number of results.
    pub(crate) fn node(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<NodeId, Skip> {
        Ok(self.make(op.into(), operands)?)
    }

    /// Moves or reshapes a dequantized constant before its Dequantize, so that it stays quantized.
    fn moved_quantized(&mut self, op: &Op, operands: &[ValueId]) -> Option<ValueId> {
        let (&[v], Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_)) = (operands, op) else { return None };
        let inner = matches!(self.g.producer(v), Op::Dequantize(_)).then(|| self.g.operands(v.node)[0])?;
        let constant = self.g.constant(inner)?.clone();
        let moved = self.g.add1(op.clone(), &[inner], self.origin.clone()).ok()?;
        let value = evaluate_node(op, &[&constant], &self.g.result_types(moved.node)).ok()?.pop()?;
        let constant = self.constant(value);
        self.g.add1(Dequantize {}, &[constant], self.origin.clone()).ok()
    }

    /// Adds a constant that is small, or as large as its source. For others see [`Build::table`].
    pub(crate) fn constant(&mut self, value: Tensor) -> ValueId {
        self.g.add_computed(value, self.origin.clone())
    }

    /// Fails if a constant of these extents, with `size` bytes for each element, would be too large.
    pub(crate) fn room(&self, dims: &[usize], size: usize) -> Result<(), Skip> {
        let bytes = dims.iter().fold(size as u64, |n, &d| n.saturating_mul(d as u64));
        Ok(self.g.room(bytes)?)
    }

    /// Adds a constant with extents that depend on values. Fails if it would be too large.
    pub(crate) fn table<T: Scalar>(&mut self, dims: &[usize], value: impl Fn(usize) -> T) -> Built {
        self.room(dims, size_of::<T>())?;
        let values = (0..dims.iter().product()).map(value).collect();
        Ok(self.constant(Tensor::from_vec(Shape::known(dims), values)))
    }

    /// Adds a float constant with the element type of `like`.
    pub(crate) fn floats(&mut self, values: Tensor, like: ValueId) -> Built {
        let f = self.constant(values);
        self.cast(f, self.ty(like).elem.real())
    }

    /// Adds a scalar with the element type of `like`.
    pub(crate) fn scalar(&mut self, value: f32, like: ValueId) -> Built {
        self.floats(Tensor::scalar(value), like)
    }

    /// Extents as integers in `I32`, which are computed at run time where they are open.
    pub(crate) fn counts(&mut self, dims: &[Dim], shape: Extents) -> Built {
        match dims.iter().map(|d| Some(d.known()? as i32)).collect::<Option<Vec<i32>>>() {
            Some(known) => Ok(self.constant(Tensor::from_vec(Shape::known(&shape), known))),
            None => {
                let values = dims.iter().map(Dim::expr).collect();
                Ok(self.node(Symbolic { values, shape, narrow: true }, &[])?.value(0))
            }
        }
    }

    /// An extent as a scalar in `I32`.
    pub(crate) fn count(&mut self, extent: &Dim) -> Built {
        self.counts(std::slice::from_ref(extent), Extents::new())
    }

    /// An extent as a scalar in `F32`.
    pub(crate) fn count_as_float(&mut self, extent: &Dim) -> Built {
        let count = self.count(extent)?;
        self.cast(count, Elem::F32)
    }

    /// The integers from 0 to before an extent, in `I32`.
    pub(crate) fn places(&mut self, extent: &Dim) -> Built {
        if let Some(extent) = extent.known() {
            return self.table(&[extent], |i| i as i32);
        }
        let one = self.constant(Tensor::from_vec(Shape::known(&[1]), vec![1i32]));
        let ones = self.op(Expand { shape: [extent.clone()].into_iter().collect() }, &[one])?;
        self.op(CumSum { axis: 0, exclusive: true, reverse: false }, &[ones])
    }

    /// A name for a symbol that a node will define.
    pub(crate) fn fresh(&self) -> String {
        self.g.undefined(self.origin.path())
    }

    pub(crate) fn cast(&mut self, x: ValueId, to: Elem) -> Built {
        if self.ty(x).elem == to { Ok(x) } else { self.op(Cast { to }, &[x]) }
    }

    pub(crate) fn unary(&mut self, f: UnaryFn, x: ValueId) -> Built {
        self.op(Unary { f }, &[x])
    }

    pub(crate) fn binary(&mut self, f: BinaryFn, a: ValueId, b: ValueId) -> Built {
        self.op(Binary { f }, &[a, b])
    }

    pub(crate) fn add(&mut self, a: ValueId, b: ValueId) -> Built {
        self.binary(BinaryFn::Add, a, b)
    }

    pub(crate) fn sub(&mut self, a: ValueId, b: ValueId) -> Built {
        self.binary(BinaryFn::Sub, a, b)
    }

    pub(crate) fn mul(&mut self, a: ValueId, b: ValueId) -> Built {
        self.binary(BinaryFn::Mul, a, b)
    }

    pub(crate) fn div(&mut self, a: ValueId, b: ValueId) -> Built {
        self.binary(BinaryFn::Div, a, b)
    }

    /// `x * by`, or `x` if `by` is 1.
    pub(crate) fn scale(&mut self, x: ValueId, by: f32) -> Built {
        if by == 1.0 {
            return Ok(x);
        }
        let by = self.scalar(by, x)?;
        self.mul(x, by)
    }

    /// `x + by`, or `x` if `by` is 0.
    pub(crate) fn shift(&mut self, x: ValueId, by: f32) -> Built {
        if by == 0.0 {
            return Ok(x);
        }
        let by = self.scalar(by, x)?;
        self.add(x, by)
    }

    pub(crate) fn clamp(&mut self, x: ValueId, lo: f32, hi: f32) -> Built {
        self.op(Clamp { lo, hi }, &[x])
    }

    pub(crate) fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> Built {
        self.op(Select {}, &[condition, a, b])
    }

    pub(crate) fn mean(&mut self, x: ValueId, axes: Extents) -> Built {
        self.op(Reduce { f: ReduceFn::Mean, axes, keep: true }, &[x])
    }

    pub(crate) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> Built {
        self.op(Transpose { perm: perm.into() }, &[x])
    }

    /// Reshapes `x`. Preceding reshapes are skipped.
    pub(crate) fn reshape(&mut self, x: ValueId, shape: Shape) -> Built {
        let mut from = x;
        while matches!(self.g.producer(from), Op::Reshape(_)) {
            from = self.g.operands(from.node)[0];
        }
        if self.ty(from).shape == shape {
            return Ok(from);
        }
        self.op(Reshape { shape }, &[from])
    }

    /// Inserts an axis of extent 1 before `axis`.
    pub(crate) fn unsqueeze(&mut self, x: ValueId, axis: usize) -> Built {
        let mut dims = self.ty(x).shape.dims().to_vec();
        dims.insert(axis, Dim::Known(1));
        self.reshape(x, dims.into_iter().collect())
    }

    /// Removes `axis`, whose extent is 1.
    pub(crate) fn squeeze(&mut self, x: ValueId, axis: usize) -> Built {
        let mut dims = self.ty(x).shape.dims().to_vec();
        dims.remove(axis);
        self.reshape(x, dims.into_iter().collect())
    }

    /// `len` elements of `axis` from `start`.
    pub(crate) fn slice(&mut self, x: ValueId, axis: usize, start: usize, len: usize) -> Built {
        self.every(x, axis, start, len, 1)
    }

    /// `len` elements of `axis` from `start`, which may depend on open extents.
    pub(crate) fn part(&mut self, x: ValueId, axis: usize, start: &Dim, len: &Dim) -> Built {
        match (start.known(), len.known()) {
            (Some(start), Some(len)) => self.slice(x, axis, start, len),
            _ if self.ty(x).shape.dims()[axis] == *len => Ok(x),
            _ => self.op(OpenSlice { axis, start: start.expr(), len: len.expr() }, &[x]),
        }
    }

    /// `len` elements of `axis` from `start`, with stride `step`.
    pub(crate) fn every(&mut self, x: ValueId, axis: usize, start: usize, len: usize, step: usize) -> Built {
        if self.ty(x).shape.dims()[axis] == Dim::Known(len) {
            return Ok(x);
        }
        self.op(Slice { ranges: vec![Range { axis, start, len, step: step as isize }] }, &[x])
    }

    pub(crate) fn concat(&mut self, axis: usize, parts: &[ValueId]) -> Built {
        if let [one] = parts { Ok(*one) } else { self.op(Concat { axis }, parts) }
    }

    /// Pads the spatial axes of `x`, which start at axis 2, with `value`.
    pub(crate) fn pad_spatial(&mut self, x: ValueId, before: &[usize], after: &[usize], value: f32) -> Built {
        if before.iter().chain(after).all(|&p| p == 0) {
            return Ok(x);
        }
        let all = |pads: &[usize]| [0, 0].iter().chain(pads).copied().collect();
        self.op(Pad { before: all(before), after: all(after), mode: PadMode::Constant(value) }, &[x])
    }

    /// Pooling along one axis, by window, stride and dilation: combines one slice for each tap.
    pub(crate) fn pool_along(
        &mut self,
        f: PoolFn,
        x: ValueId,
        axis: usize,
        [window, stride, dilation]: [usize; 3],
    ) -> Built {
        let extent = self.ty(x).shape.dims()[axis].known().ok_or(Skip::Open)?;
        let len = window_steps(extent, window, dilation, stride).ok_or(Skip::NoMatch)?;
        when(window <= MOST_TAPS).map_err(|_| Skip::because("its window has too many taps"))?;
        let mut y = self.every(x, axis, 0, len, stride)?;
        for tap in 1..window {
            let next = self.every(x, axis, tap * dilation, len, stride)?;
            y = match f {
                PoolFn::Max => self.binary(BinaryFn::Max, y, next)?,
                PoolFn::Average => self.add(y, next)?,
            };
        }
        if f == PoolFn::Average { self.scale(y, 1.0 / window as f32) } else { Ok(y) }
    }
}

/// The maximum number of taps of a window that is expanded, with separate nodes for each tap.
pub(super) const MOST_TAPS: usize = 1024;

/// Applies a rewrite to the nodes whose first operand comes from such a kernel of the target.
pub(super) fn rewrite_behind(
    g: &mut Graph,
    target: &Target,
    is_such: fn(&Kernel) -> bool,
    rewrite: fn(&mut Graph, NodeId) -> Result<(), Skip>,
) -> Result<(), PassError> {
    for node in g.order() {
        let x = g.operands(node).first().copied();
        let kernel = x.and_then(|x| target.kernel_of(g, x.node));
        if kernel.is_some_and(|kernel| is_such(&kernel))
            && let Err(skip) = rewrite(g, node)
        {
            skip.reason()?;
        }
    }
    Ok(())
}

/// The producer of a value, if it is of the given kind.
pub(crate) fn made_by(g: &Graph, v: ValueId, kind: OpKind) -> Option<NodeId> {
    (g.producer(v).kind() == kind).then_some(v.node)
}

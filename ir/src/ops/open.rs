//! Operators whose attributes depend on open extents.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{
    Extents, LayoutRule, Op, Operator, QuantRule, Range, Slice, TopK, Types, arity, axis_of, one, refuse,
    refuse_element,
};
use crate::error::TypeError;
use crate::types::{Dim, Elem, Expr, Shape, Symbols, Tensor, TensorType};

/// Integers (`I64` or `I32`) that follow from open extents: shape arithmetic of the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symbolic {
    /// The elements in row-major order.
    pub values: Vec<Expr>,
    /// The extents of the tensor.
    pub shape: Extents,
    /// Elements are `I32`, not `I64`.
    pub narrow: bool,
}

impl Symbolic {
    /// The element type.
    pub fn elem(&self) -> Elem {
        if self.narrow { Elem::I32 } else { Elem::I64 }
    }
}

impl Operator for Symbolic {
    const NAME: &'static str = "symbolic";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 0, 0)?;
        if self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(self.values.len()) {
            return Err(TypeError::Attribute(format!("{} values for {:?}", self.values.len(), self.shape)));
        }
        one(self.elem(), Shape::known(&self.shape))
    }
}

/// The part of an axis from `start` on, of `len` elements, where one of them depends on open extents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSlice {
    /// The axis.
    pub axis: usize,
    /// First index.
    pub start: Expr,
    /// Number of indices.
    pub len: Expr,
}

impl Operator for OpenSlice {
    const NAME: &'static str = "open_slice";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        axis_of(operands, 0, self.axis)?;
        let len = Dim::of(self.len.clone());
        let len = len.ok_or_else(|| refuse(operands, 0, format!("{} elements are no part of an axis", self.len)))?;
        one(operands[0].elem.clone(), operands[0].shape.with(self.axis, len))
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// Integers (`I64` or `I32`) that are computed at run time and that extents and attributes depend on. They must not be
/// negative. The result is the operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Define {
    /// The symbol of each element, in row-major order.
    pub symbols: Vec<String>,
}

impl Operator for Define {
    const NAME: &'static str = "define";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let x = operands[0];
        if !matches!(x.elem, Elem::I64 | Elem::I32) {
            return Err(refuse_element(operands, 0, "integers (i64 or i32)"));
        }
        if x.rank() > 1 || x.shape.elements() != Some(self.symbols.len()) {
            return Err(refuse(operands, 0, format!("a list of {} integers", self.symbols.len())));
        }
        one(x.elem.clone(), x.shape.clone())
    }
}

/// The `I64` indices of the true elements: one row for each axis, one column for each element, in row-major order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NonZero {
    /// The symbol of the number of true elements.
    pub count: String,
}

impl Operator for NonZero {
    const NAME: &'static str = "non_zero";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        if operands[0].elem != Elem::Bool {
            return Err(refuse_element(operands, 0, "bool"));
        }
        let count = Dim::computed(self.count.as_str());
        one(Elem::I64, [Dim::Known(operands[0].rank()), count].into_iter().collect())
    }
}

impl Op {
    /// The symbols that the node defines. Nodes whose attributes contain them depend on it ([`crate::Graph::needs`]).
    pub fn defines(&self) -> &[String] {
        match self {
            Op::Define(op) => &op.symbols,
            Op::NonZero(op) => std::slice::from_ref(&op.count),
            Op::NonMaxSuppression(op) => std::slice::from_ref(&op.count),
            Op::Loop(op) if !op.count.is_empty() => std::slice::from_ref(&op.count),
            Op::If(op) => &op.symbols,
            _ => &[],
        }
    }

    /// The result and its axis whose extent is a symbol that the node defines, if that is so.
    pub fn counted(&self, symbol: &str) -> Option<(u8, usize)> {
        match self {
            Op::NonZero(_) => Some((0, 1)),
            Op::NonMaxSuppression(_) => Some((0, 0)),
            Op::Loop(op) if !op.count.is_empty() => Some((op.carried as u8, 0)),
            Op::If(op) => op.place_of(symbol),
            _ => None,
        }
    }

    /// Adds the values of the symbols that the node defines, which follow from its results.
    ///
    /// # Errors
    /// A value that is negative.
    pub(crate) fn define(&self, results: &[Tensor], symbols: &mut Symbols) -> Result<(), i64> {
        let extent = |(result, axis): (u8, usize)| results[usize::from(result)].dims()[axis] as i64;
        let values = match self {
            Op::Define(_) => results[0].integers().unwrap_or_default(),
            _ => self.defines().iter().filter_map(|symbol| self.counted(symbol).map(extent)).collect(),
        };
        for (name, value) in self.defines().iter().zip(values) {
            symbols.insert(name.as_str().into(), usize::try_from(value).map_err(|_| value)?);
        }
        Ok(())
    }

    /// Calls `found` with each symbol in the attributes that a node defines.
    pub(crate) fn for_each_computed(&self, found: &mut impl FnMut(&Arc<str>)) {
        self.for_each_expr(&mut |e| e.for_each_computed(found));
    }

    /// Calls `found` with each expression in the attributes.
    pub(crate) fn for_each_expr(&self, found: &mut impl FnMut(&Expr)) {
        let mut of_shape = |shape: &Shape| {
            for dim in shape.dims() {
                if let Dim::Open(expr) = dim {
                    found(expr);
                }
            }
        };
        match self {
            Op::Reshape(op) => of_shape(&op.shape),
            Op::Expand(op) => of_shape(&op.shape),
            Op::Resize(op) => of_shape(&op.size),
            Op::TopK(TopK { k: Dim::Open(k), .. }) => found(k),
            Op::OpenSlice(op) => [&op.start, &op.len].into_iter().for_each(found),
            Op::Symbolic(op) => op.values.iter().for_each(found),
            Op::Loop(op) => op.iterations.iter().for_each(found),
            _ => {}
        }
    }

    /// True if an attribute depends on open extents.
    pub fn is_open(&self) -> bool {
        match self {
            Op::Reshape(op) => op.shape.is_open(),
            Op::Expand(op) => op.shape.is_open(),
            Op::Resize(op) => op.size.is_open(),
            Op::TopK(op) => op.k.known().is_none(),
            Op::OpenSlice(_) | Op::Symbolic(_) => true,
            Op::Loop(op) if op.iterations.is_some() => true,
            _ => self.bodies().iter().any(|body| body.is_open()),
        }
    }

    /// The operator for these values of symbols; `None` where it does not depend on them.
    pub fn bind(&self, symbols: &Symbols) -> Option<Op> {
        if symbols.is_empty() || !self.is_open() {
            return None;
        }
        let known = |e: &Expr| e.constant().and_then(|n| usize::try_from(n).ok());
        Some(match self.with_exprs(&|e| e.bind(symbols))? {
            Op::OpenSlice(op) => match (known(&op.start), known(&op.len)) {
                (Some(start), Some(len)) => Slice { ranges: vec![Range { axis: op.axis, start, len, step: 1 }] }.into(),
                _ => op.into(),
            },
            op => op.with_bodies(op.bodies().into_iter().map(|body| body.bound(symbols))),
        })
    }

    /// The operator with other names of integers that nodes compute, those that it defines among them. Names in graphs
    /// inside are their own.
    pub fn renamed(&self, names: &FxHashMap<Arc<str>, Arc<str>>) -> Op {
        let own = |name: &mut String| {
            if let Some(other) = names.get(name.as_str()) {
                *name = other.to_string();
            }
        };
        let mut op = self.with_exprs(&|e| Some(e.renamed(names))).unwrap_or_else(|| self.clone());
        match &mut op {
            Op::Define(op) => op.symbols.iter_mut().for_each(own),
            Op::If(op) => op.symbols.iter_mut().for_each(own),
            Op::NonZero(op) => own(&mut op.count),
            Op::NonMaxSuppression(op) => own(&mut op.count),
            Op::Loop(op) => own(&mut op.count),
            _ => {}
        }
        op
    }

    /// The operator with others in place of the expressions in its attributes; `None` where one has no other.
    fn with_exprs(&self, other: &dyn Fn(&Expr) -> Option<Expr>) -> Option<Op> {
        let mut op = self.clone();
        match &mut op {
            Op::Reshape(op) => op.shape = op.shape.with_exprs(other),
            Op::Expand(op) => op.shape = op.shape.with_exprs(other),
            Op::Resize(op) => op.size = op.size.with_exprs(other),
            Op::TopK(op) => op.k = op.k.map(|e| other(&e))?,
            Op::OpenSlice(op) => (op.start, op.len) = (other(&op.start)?, other(&op.len)?),
            Op::Symbolic(op) => op.values = op.values.iter().map(other).collect::<Option<_>>()?,
            Op::Loop(op) => {
                if let Some(count) = &mut op.iterations {
                    *count = other(count)?;
                }
            }
            _ => {}
        }
        Some(op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Executor;
    use crate::testing::numbers;
    use crate::text::{Weights, parse, print_full};

    const OPEN: &str = "graph g {
        %x: f32[n,4,h,h] = input
        %p = pool(f:Max,window:[2,2],stride:[2,2],before:[0,0],after:[0,0],dilation:[1,1]) %x
        %r = reshape[\"n\",4,\"(floor(h/2)*floor(h/2))\"] %p
        %s = open_slice(axis:2,start:\"h-1\",len:\"floor(h/2)\") %r
        %e = expand[\"n\",4,\"(floor(h/2))\"] %s
        %t: i64[2] = symbolic(values:[\"n\",\"2*h\"],shape:[2],narrow:false)
        %f = cast\"f32\" %t
        %u = resize(size:[\"(2*floor(h/2))\",7],scale:[2.0,0.0],mode:Linear,coordinates:HalfPixel) %p
        output s = %e output t = %f output u = %u
    }";

    #[test]
    fn an_open_graph_computes_what_the_bound_one_does() {
        let g = parse(OPEN, &Weights::new()).unwrap();
        assert!(g.verify().is_ok() && g.is_open());
        for (n, h) in [(1, 6), (2, 7), (3, 10)] {
            let symbols = Symbols::from_iter([("n".into(), n), ("h".into(), h)]);
            let bound = g.bound(&symbols);
            bound.verify().unwrap();
            assert!(
                !bound.is_open()
                    && bound.order().iter().all(|&n| !bound.op(n).is_open() || bound.constant(n.value(0)).is_none())
            );
            let x = numbers(Shape::known(&[n, 4, h, h]), 3);
            let run = |g| Executor::new(g).run(std::slice::from_ref(&x), &mut |_, _| ()).unwrap();
            assert_eq!(run(&g), run(&bound));
            assert_eq!(*run(&g)[1].floats(), [n as f32, 2.0 * h as f32]);
        }
    }

    #[test]
    fn an_open_graph_is_printed_and_parsed() {
        let g = parse(OPEN, &Weights::new()).unwrap();
        let text = print_full(&g);
        assert_eq!(print_full(&parse(&text, &Weights::new()).unwrap()), text);
    }

    /// The rows of `%x` from a computed start on; the places of positive elements, twice; and a list without a user.
    const COMPUTED: &str = "graph g {
        %x: f32[4,3] = input
        %at: i64[2] = input
        %z: f32[] = const [0.0]
        %m = binary(f:Less) %z, %x
        %p = non_zero(count:\"hits\") %m
        %s = open_slice(axis:0,start:\"$start\",len:\"$len\") %x
        %e = expand[2,\"($len)\",3] %s
        %f = reshape[\"(2*$hits)\"] %p
        %d = define(symbols:[\"start\",\"len\"]) %at
        output e = %e output f = %f
    }";

    fn run_computed(g: &crate::Graph, at: [i64; 2]) -> Result<Vec<Tensor>, crate::eval::RunError> {
        let x = Tensor::from_vec(Shape::known(&[4, 3]), (0..12).map(|i| [1.0, -1.0, 0.0][i % 3] * i as f32).collect());
        Executor::new(g).run(&[x, Tensor::from_vec(Shape::known(&[2]), at.to_vec())], &mut |_, _| ())
    }

    #[test]
    fn nodes_define_the_symbols_that_others_use() {
        let g = parse(COMPUTED, &Weights::new()).unwrap();
        g.verify().unwrap();
        assert!(g.is_open() && !g.has_open_inputs());
        let text = print_full(&g);
        assert_eq!(print_full(&parse(&text, &Weights::new()).unwrap()), text);
        for (start, len) in [(0, 4), (1, 2), (4, 0), (3, 1)] {
            let [e, f] = run_computed(&g, [start, len]).unwrap().try_into().unwrap();
            assert_eq!(e.dims().as_slice(), [2, len as usize, 3]);
            assert_eq!(e.floats().first().copied(), (len > 0).then_some(3.0 * start as f32));
            assert_eq!(f.integers().unwrap(), [1, 2, 3, 0, 0, 0]);
        }
        let error = run_computed(&g, [0, -1]).unwrap_err().to_string();
        assert!(error.contains("-1 is negative"), "{error}");
        let error = run_computed(&g, [2, 3]).unwrap_err().to_string();
        assert!(error.contains("leave an axis of extent 4"), "{error}");
    }

    #[test]
    fn definitions_live_as_long_as_their_symbols_are_used() {
        let mut g = parse(COMPUTED, &Weights::new()).unwrap();
        let kinds = |g: &crate::Graph| g.order().iter().filter(|&&n| matches!(g.op(n), Op::Define(_))).count();
        assert_eq!((kinds(&g), g.sweep(), kinds(&g)), (1, 0, 1));
        let f = g.outputs()[1].value;
        g.set_output(0, f);
        assert_eq!((kinds(&g), g.sweep()), (0, 3));
        assert!(g.definition("hits").is_some() && g.definition("len").is_none());
    }

    #[test]
    fn known_symbols_leave_others_open() {
        let text = "graph g { %x: f32[n] = input %at: i64[1] = input %d = define(symbols:[\"k\"]) %at
            %y = open_slice(axis:0,start:\"0\",len:\"n-$k\") %x output y = %y }";
        let g = parse(text, &Weights::new()).unwrap().bound(&Symbols::from_iter([("n".into(), 5)]));
        g.verify().unwrap();
        let y = g.outputs()[0].value;
        assert_eq!(g.ty(y).to_string(), "f32[(-$k+5)]");
    }

    #[test]
    fn extents_that_are_known_to_differ_are_refused() {
        for (body, message) in [
            ("%y = reshape[\"(n+1)\"] %x", "elements"),
            ("%y = reshape[\"n\",2] %x", "elements"),
            ("%y = open_slice(axis:1,start:\"0\",len:\"n\") %x", "rank above 1"),
            ("%y = open_slice(axis:0,start:\"0\",len:\"0-1\") %x", "no part"),
        ] {
            let text = format!("graph g {{ %x: f32[n] = input {body} output y = %y }}");
            let error = parse(&text, &Weights::new()).unwrap_err().to_string();
            assert!(error.contains(message), "{body}: {error}");
        }
    }
}

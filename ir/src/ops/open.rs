//! Operators whose attributes depend on open extents.

use serde::{Deserialize, Serialize};

use super::{
    Expand, Extents, LayoutRule, Op, Operator, QuantRule, Range, Reshape, Resize, Slice, Types, arity, axis_of, one,
    refuse,
};
use crate::error::TypeError;
use crate::types::{Dim, Elem, Expr, Shape, Symbols, TensorType};

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

impl Op {
    /// True if an attribute depends on open extents.
    pub fn is_open(&self) -> bool {
        match self {
            Op::Reshape(op) => op.shape.is_open(),
            Op::Expand(op) => op.shape.is_open(),
            Op::Resize(op) => op.size.is_open(),
            Op::OpenSlice(_) | Op::Symbolic(_) => true,
            _ => false,
        }
    }

    /// The operator for these values of symbols; `None` where it does not depend on them.
    pub fn bind(&self, symbols: &Symbols) -> Option<Op> {
        Some(match self {
            _ if symbols.is_empty() || !self.is_open() => return None,
            Op::Reshape(op) => Reshape { shape: op.shape.bind(symbols) }.into(),
            Op::Expand(op) => Expand { shape: op.shape.bind(symbols) }.into(),
            Op::Resize(op) => Resize { size: op.size.bind(symbols), ..op.clone() }.into(),
            Op::OpenSlice(OpenSlice { axis, start, len }) => {
                let known = |e: &Expr| e.value(symbols).and_then(|n| usize::try_from(n).ok());
                Slice { ranges: vec![Range { axis: *axis, start: known(start)?, len: known(len)?, step: 1 }] }.into()
            }
            Op::Symbolic(op) => {
                let values = op.values.iter().map(|e| e.value(symbols).map(Expr::from)).collect::<Option<_>>()?;
                Symbolic { values, ..op.clone() }.into()
            }
            _ => return None,
        })
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

//! Operators that compute or use indices. Indices are `I64` or `I32`; negative ones count from the end.

use serde::{Deserialize, Serialize};

use super::{LayoutRule, Op, Operator, QuantRule, Types, arity, axis_of, one, refuse, refuse_element, same_elem};
use crate::error::TypeError;
use crate::types::{Dim, Elem, Shape, TensorType};

fn indices(operands: &[&TensorType], i: usize) -> Result<(), TypeError> {
    match operands[i].elem {
        Elem::I64 | Elem::I32 => Ok(()),
        _ => Err(refuse_element(operands, i, "indices (i64 or i32)")),
    }
}

/// The extents of the axes that a node's indices (operand 1) refer to: one for all, or one for each column of their
/// last axis.
pub(crate) fn indexed(op: &Op, operands: &[&TensorType]) -> Option<Shape> {
    let tuple = || operands.get(1)?.shape.dims().last()?.known();
    let (from, to) = match op {
        Op::Gather(op) => (op.axis, op.axis + 1),
        Op::GatherElements(op) => (op.axis, op.axis + 1),
        Op::GatherNd(op) => (op.batch, op.batch + tuple()?),
        Op::ScatterNd(_) => (0, tuple()?),
        _ => return None,
    };
    operands.first()?.shape.dims().get(from..to).map(|dims| dims.iter().cloned().collect())
}

/// Operand 0 indexed along `axis` by operand 1, whose axes replace that axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis.
    pub axis: usize,
}

impl Operator for Gather {
    const NAME: &'static str = "gather";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 2, 2)?;
        axis_of(operands, 0, self.axis)?;
        indices(operands, 1)?;
        let (x, i) = (operands[0].shape.dims(), operands[1].shape.dims());
        let shape = x[..self.axis].iter().chain(i).chain(&x[self.axis + 1..]).cloned().collect();
        one(operands[0].elem.clone(), shape)
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Carry
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// `y[i][j] = x[index[i][j]][j]` for axis 0 of rank 2, and so on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherElements {
    /// The axis.
    pub axis: usize,
}

impl Operator for GatherElements {
    const NAME: &'static str = "gather_elements";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 2, 2)?;
        axis_of(operands, 0, self.axis)?;
        indices(operands, 1)?;
        let (x, i) = (operands[0].shape.dims(), operands[1].shape.dims());
        let within = |a: usize| match (&i[a], &x[a]) {
            (Dim::Known(i), Dim::Known(x)) => i <= x,
            (i, x) => i == x,
        };
        if x.len() != i.len() || (0..x.len()).any(|a| a != self.axis && !within(a)) {
            return Err(refuse(operands, 1, "the rank of the data, and no larger off the axis"));
        }
        one(operands[0].elem.clone(), operands[1].shape.clone())
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// Slices of operand 0 at the index tuples along the last axis of operand 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatherNd {
    /// Leading axes that both operands share.
    pub batch: usize,
}

impl Operator for GatherNd {
    const NAME: &'static str = "gather_nd";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 2, 2)?;
        indices(operands, 1)?;
        let (x, i) = (operands[0].shape.dims(), operands[1].shape.dims());
        let tuple = i.last().and_then(Dim::known).ok_or_else(|| refuse(operands, 1, "rank 1 or more"))?;
        if i.len() <= self.batch || self.batch + tuple > x.len() || x[..self.batch] != i[..self.batch] {
            return Err(refuse(operands, 1, format!("index tuples for {}", operands[0].shape)));
        }
        let shape: Shape = i[..i.len() - 1].iter().chain(&x[self.batch + tuple..]).cloned().collect();
        one(operands[0].elem.clone(), shape)
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// How an element and its update are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScatterFn {
    /// The update; of several, the last.
    Replace,
    /// The sum of the element and all updates.
    Add,
    /// The product of the element and all updates.
    Mul,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// Operand 0 with the slices at the index tuples of operand 1 updated by those of operand 2, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScatterNd {
    /// How elements and updates are combined.
    pub f: ScatterFn,
}

impl Operator for ScatterNd {
    const NAME: &'static str = "scatter_nd";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 3, 3)?;
        indices(operands, 1)?;
        same_elem(operands, 0, 2)?;
        if self.f != ScatterFn::Replace && operands[0].elem == Elem::Bool {
            return Err(refuse_element(operands, 0, "a number"));
        }
        let [x, i, u] = [0, 1, 2].map(|i| operands[i].shape.dims());
        let tuple = i.last().and_then(Dim::known).ok_or_else(|| refuse(operands, 1, "rank 1 or more"))?;
        if tuple > x.len() {
            return Err(refuse(operands, 1, format!("index tuples for {}", operands[0].shape)));
        }
        let slices: Shape = i[..i.len() - 1].iter().chain(&x[tuple..]).cloned().collect();
        let agree = |(a, b): (&Dim, &Dim)| a.agreed(b).is_some();
        if u.len() != slices.rank() || !u.iter().zip(slices.dims()).all(agree) {
            return Err(refuse(operands, 2, "one slice for each index tuple"));
        }
        one(operands[0].elem.clone(), operands[0].shape.clone())
    }
}

/// The `k` largest (or smallest) elements along an axis, in order, and their `I64` indices. Of equal elements the
/// first comes first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// Number of elements.
    pub k: Dim,
    /// The axis.
    pub axis: usize,
    /// The largest, not the smallest.
    pub largest: bool,
}

impl Operator for TopK {
    const NAME: &'static str = "top_k";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        axis_of(operands, 0, self.axis)?;
        let extent = operands[0].shape.dims()[self.axis].known();
        if self.k.known().zip(extent).is_some_and(|(k, extent)| k > extent) {
            return Err(refuse(operands, 0, format!("{} elements or more along axis {}", self.k, self.axis)));
        }
        let shape = operands[0].shape.with(self.axis, self.k.clone());
        let values = TensorType::new(operands[0].elem.clone(), shape.clone());
        Ok(Types::from_iter([values, TensorType::new(Elem::I64, shape)]))
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Innermost(self.axis)
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::SameAsInput
    }
}

/// The `I64` index of the largest (or smallest) element along an axis; of equal elements the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArgReduce {
    /// The axis.
    pub axis: usize,
    /// The largest, not the smallest.
    pub largest: bool,
    /// Keep the axis with extent 1.
    pub keep: bool,
}

impl Operator for ArgReduce {
    const NAME: &'static str = "arg_reduce";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        axis_of(operands, 0, self.axis)?;
        let kept = operands[0].shape.dims().iter().enumerate().filter_map(|(i, d)| match i == self.axis {
            false => Some(d.clone()),
            true => self.keep.then_some(Dim::Known(1)),
        });
        one(Elem::I64, kept.collect())
    }

    fn layout(&self) -> LayoutRule {
        if self.keep { LayoutRule::Follow } else { LayoutRule::Carry }
    }

    fn quant_rule(&self) -> QuantRule {
        QuantRule::OwnRange
    }
}

/// Running sums along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CumSum {
    /// The axis.
    pub axis: usize,
    /// The element itself is not included.
    pub exclusive: bool,
    /// From the end.
    pub reverse: bool,
}

impl Operator for CumSum {
    const NAME: &'static str = "cum_sum";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        axis_of(operands, 0, self.axis)?;
        if operands[0].elem == Elem::Bool {
            return Err(refuse_element(operands, 0, "a number"));
        }
        one(operands[0].elem.clone(), operands[0].shape.clone())
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }
}

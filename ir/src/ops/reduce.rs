//! Reductions over axes.

use serde::{Deserialize, Serialize};

use super::{Extents, LayoutRule, Operator, QuantRule, Types, arity, axis_of, one, refuse_element};
use crate::error::TypeError;
use crate::types::{Dim, Elem, TensorType};

/// A reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the functions' own")]
pub enum ReduceFn {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    /// Of `Bool`.
    All,
    /// Of `Bool`.
    Any,
}

/// Reduces the given axes, which are kept with extent 1 (`keep`) or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reduce {
    /// The reduction.
    pub f: ReduceFn,
    /// Reduced axes, ascending.
    pub axes: Extents,
    /// Keep the reduced axes with extent 1.
    pub keep: bool,
}

impl Operator for Reduce {
    const NAME: &'static str = "reduce";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 1, 1)?;
        let x = operands[0];
        if matches!(self.f, ReduceFn::All | ReduceFn::Any) != (x.elem == Elem::Bool) {
            let truth = matches!(self.f, ReduceFn::All | ReduceFn::Any);
            return Err(refuse_element(operands, 0, if truth { "bool" } else { "a number" }));
        }
        if !self.axes.is_sorted_by(|a, b| a < b) {
            return Err(TypeError::Attribute("reduced axes must be ascending and unique".into()));
        }
        for &a in &self.axes {
            axis_of(operands, 0, a)?;
        }
        let kept = x.shape.dims().iter().enumerate().filter_map(|(i, d)| match self.axes.contains(&i) {
            false => Some(d.clone()),
            true => self.keep.then_some(Dim::Known(1)),
        });
        one(x.elem.clone(), kept.collect())
    }

    fn layout(&self) -> LayoutRule {
        if self.keep { LayoutRule::Follow } else { LayoutRule::Carry }
    }

    fn quant_rule(&self) -> QuantRule {
        match self.f {
            ReduceFn::Max | ReduceFn::Min => QuantRule::SameAsInput,
            ReduceFn::Mean | ReduceFn::Sum => QuantRule::OwnRange,
            ReduceFn::Prod | ReduceFn::All | ReduceFn::Any => QuantRule::Float,
        }
    }
}

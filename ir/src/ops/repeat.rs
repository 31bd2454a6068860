//! Repetition of a graph, as often as is known at run time only.

use serde::{Deserialize, Serialize};

use super::custom::types;
use super::{Operator, Types, arity, refuse};
use crate::error::TypeError;
use crate::types::{Dim, Elem, Expr, Shape, TensorType};

/// Repeats a body. Operands: the most iterations (`I64` scalar), whether there is a first one (`Bool` scalar), the carried
/// values, and others that the body reads. The inputs of the body are the number of the iteration (`I64` scalar), the carried
/// values and those that it reads; its outputs are whether there is another iteration (`Bool` scalar), the new carried
/// values, and rows. Results: the carried values after the last iteration, then for each row those of all iterations along a
/// new first axis. All extents of the body are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loop {
    /// The types of the carried values.
    #[serde(with = "types")]
    pub carried: Vec<TensorType>,
    /// The types of the values that the body reads.
    #[serde(with = "types")]
    pub reads: Vec<TensorType>,
    /// The types of the rows.
    #[serde(with = "types")]
    pub rows: Vec<TensorType>,
    /// The symbol of the number of iterations; empty where there are no rows.
    pub count: String,
    /// The body: a graph in the text form, with all elements of its constants.
    pub body: String,
}

impl Loop {
    /// The types of the body's inputs.
    pub fn takes(&self) -> impl Iterator<Item = TensorType> {
        let number = TensorType::new(Elem::I64, Shape::scalar());
        std::iter::once(number).chain(self.carried.iter().chain(&self.reads).cloned())
    }

    /// The types of the body's outputs.
    pub fn gives(&self) -> impl Iterator<Item = TensorType> {
        let again = TensorType::new(Elem::Bool, Shape::scalar());
        std::iter::once(again).chain(self.carried.iter().chain(&self.rows).cloned())
    }
}

impl Operator for Loop {
    const NAME: &'static str = "loop";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let scalars = [Elem::I64, Elem::Bool].map(|elem| TensorType::new(elem, Shape::scalar()));
        let declared: Vec<&TensorType> = scalars.iter().chain(&self.carried).chain(&self.reads).collect();
        arity(Self::NAME, operands, declared.len(), declared.len())?;
        for (i, (found, declared)) in operands.iter().zip(declared).enumerate() {
            if found.shape != declared.shape || found.elem != declared.elem {
                return Err(refuse(operands, i, declared.to_string()));
            }
        }
        if self.rows.is_empty() != self.count.is_empty() {
            return Err(TypeError::Attribute("the number of iterations has a symbol where there are rows".into()));
        }
        if self.carried.len() + self.rows.len() == 0 {
            return Err(TypeError::Attribute("a loop has a result".into()));
        }
        let count = Dim::Open(Expr::computed(self.count.as_str()).into());
        let stacked = |row: &TensorType| {
            let dims = std::iter::once(count.clone()).chain(row.shape.dims().iter().cloned());
            TensorType::new(row.elem.clone(), dims.collect())
        };
        Ok(self.carried.iter().cloned().chain(self.rows.iter().map(stacked)).collect())
    }
}

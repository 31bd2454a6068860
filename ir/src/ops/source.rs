//! Graph inputs and constants.

use serde::{Deserialize, Serialize};
use smallvec::smallvec;

use super::{LayoutRule, Operator, Types, arity};
use crate::error::TypeError;
use crate::types::{Tensor, TensorType};

/// A graph input. Its type is given when it is added; its name is the name of the value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {}

impl Operator for Input {
    const NAME: &'static str = "input";

    fn infer(&self, _operands: &[&TensorType]) -> Result<Types, TypeError> {
        Err(TypeError::Attribute("the type of an input is declared, not inferred".into()))
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Free
    }
}

/// A value known at compile time.
#[derive(Clone, Debug, PartialEq)]
pub struct Const {
    /// The value.
    pub value: Tensor,
}

impl Operator for Const {
    const NAME: &'static str = "const";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        arity(Self::NAME, operands, 0, 0)?;
        Ok(smallvec![self.value.ty().clone()])
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Free
    }
}

// The text form prints constants separately: the bytes of a constant are not an attribute.
impl Serialize for Const {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Const {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a constant is read with its bytes"))
    }
}

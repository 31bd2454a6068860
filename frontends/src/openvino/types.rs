//! Element types and constants of a file.

use bytes::Bytes;
use qcc_formats::openvino::{Element, Node};
use qcc_ir::{Shape, Tensor, TensorType};

use crate::build::{MOST_ELEMENTS, extents};
use crate::elements::{Stored, without_nan};
use crate::refusal::Refusal;

/// The layers that read and assign variables.
pub(super) const READ_VALUE: &str = "ReadValue";
pub(super) const ASSIGN: &str = "Assign";

/// The attribute with the name of a variable.
pub(super) const VARIABLE: &str = "variable_id";

/// The file's element type.
pub(super) fn stored(element: Element) -> Result<Stored, Refusal> {
    Ok(match element {
        Element::Boolean => Stored::Bool,
        Element::U2 => Stored::U2,
        Element::I4 => Stored::I4,
        Element::U4 => Stored::U4,
        Element::I8 => Stored::I8,
        Element::U8 => Stored::U8,
        Element::I16 => Stored::I16,
        Element::U16 => Stored::U16,
        Element::I32 => Stored::I32,
        Element::U32 => Stored::U32,
        Element::I64 => Stored::I64,
        Element::U64 => Stored::U64,
        Element::F16 => Stored::F16,
        Element::Bf16 => Stored::Bf16,
        Element::F32 => Stored::F32,
        Element::F64 => Stored::F64,
        Element::U1 => return Err(Refusal::Unsupported("elements of type u1 are not supported".into())),
    })
}

/// The tensor of a Const.
pub(super) fn tensor(layer: &Node, weights: &Bytes) -> Result<Tensor, Refusal> {
    let constant = layer.constant().map_err(|e| Refusal::Invalid(e.to_string()))?;
    let constant = constant.ok_or_else(|| Refusal::Invalid(format!("layer {} is no Const", layer.name)))?;
    let stored = stored(constant.element)?;
    let dims: Vec<i64> = constant.dims.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
    let ty = TensorType::new(stored.elem(), Shape::known(&extents(&dims)?));
    if ty.shape.span().is_none_or(|n| n > MOST_ELEMENTS) {
        return Err(Refusal::Unsupported(format!("a tensor {} is too large", ty.shape)));
    }
    let bytes = constant.bytes(weights).ok_or_else(|| {
        let (size, offset) = (constant.size, constant.offset);
        Refusal::Data(format!(
            "its data ({size} bytes at {offset}) lies beyond the end of the file ({})",
            weights.len()
        ))
    })?;
    without_nan(stored.tensor(ty, bytes)?)
}

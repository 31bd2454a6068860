//! Custom operators, written unchanged.

use bytes::Bytes;
use prost::Message;
use qcc_formats::onnx::{AttributeProto, AttributeType};
use qcc_ir::ops::{Attribute, Custom};

use super::super::emit::{Emitter, Name, NodeContext, Unsupported};

/// Writes the node of the source.
pub(super) fn custom(e: &mut Emitter<'_>, op: &Custom, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    if op.domain.is_empty() {
        return Err("it names no operator set".into());
    }
    let attributes = op.attributes.iter().map(attribute).collect::<Result<_, _>>()?;
    let (given, wanted) = (e.inputs(site), &site.outputs);
    // Omitted operands and results have empty names.
    let named = |there: Vec<bool>, names: &[Name]| -> Vec<Name> {
        let mut names = names.iter().cloned();
        there.into_iter().map(|there| if there { names.next() } else { None }.unwrap_or_default()).collect()
    };
    let inputs = named(op.operands.iter().map(Option::is_some).collect(), &given);
    let outputs = named(op.results.iter().map(Option::is_some).collect(), wanted);
    e.push_custom(op, attributes, &inputs, &outputs)
}

fn attribute((name, value): &(String, Attribute)) -> Result<AttributeProto, Unsupported> {
    let text = |text: &String| Bytes::copy_from_slice(text.as_bytes());
    let mut a = AttributeProto::default();
    let ty = match value {
        Attribute::Int(value) => {
            a.i = Some(*value);
            AttributeType::Int
        }
        Attribute::Float(value) => {
            a.f = Some(*value);
            AttributeType::Float
        }
        Attribute::Text(value) => {
            a.s = Some(text(value));
            AttributeType::String
        }
        Attribute::Ints(values) => {
            a.ints.clone_from(values);
            AttributeType::Ints
        }
        Attribute::Floats(values) => {
            a.floats.clone_from(values);
            AttributeType::Floats
        }
        Attribute::Texts(values) => {
            a.strings = values.iter().map(text).collect();
            AttributeType::Strings
        }
        Attribute::Encoded(bytes) => {
            let message = AttributeProto::decode(bytes.as_slice());
            return message.map_err(|e| format!("its attribute {name} is damaged: {e}").into());
        }
    };
    Ok(AttributeProto { name: Some(name.clone()), r#type: Some(ty.into()), ..a })
}

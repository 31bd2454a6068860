//! Attributes of a node, with a record of those that were used.

use bytes::Bytes;
use qcc_formats::onnx::{AttributeProto, AttributeType, GraphProto, TensorProto};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::refusal::Refusal;

/// The attributes of a function call, which attributes in the function refer to.
pub(super) type Referred<'m> = FxHashMap<&'m str, &'m AttributeProto>;

/// The attributes of a node by name. A reference to an attribute of the enclosing function is replaced by it, or
/// omitted if the call omits it.
pub(super) fn resolved<'m>(
    all: &'m [AttributeProto],
    function: Option<&Referred<'m>>,
) -> impl Iterator<Item = (&'m str, &'m AttributeProto)> {
    let value = move |a: &'m AttributeProto| match function {
        Some(referred) if !a.ref_attr_name().is_empty() => referred.get(a.ref_attr_name()).copied(),
        _ => Some(a),
    };
    all.iter().filter_map(move |a| Some((a.name(), value(a)?)))
}

/// Attributes by name. Each has to be used: unused ones are refused.
#[derive(Debug)]
pub(super) struct Attributes<'m> {
    all: SmallVec<[(&'m str, &'m AttributeProto); 8]>,
    read: SmallVec<[bool; 8]>,
}

impl<'m> Attributes<'m> {
    pub(super) fn new(all: &'m [AttributeProto], function: Option<&Referred<'m>>) -> Self {
        let all: SmallVec<_> = resolved(all, function).collect();
        Attributes { read: SmallVec::from_elem(false, all.len()), all }
    }

    fn read(&mut self, name: &str, ty: AttributeType) -> Result<Option<&'m AttributeProto>, Refusal> {
        let Some(at) = self.all.iter().position(|a| a.0 == name) else { return Ok(None) };
        let attribute = self.all[at].1;
        // Before IR version 2 the type field is absent.
        if attribute.r#type() != ty && attribute.r#type() != AttributeType::Undefined {
            return Err(Refusal::Attribute { name: name.into(), problem: "not of its type" });
        }
        if !attribute.ref_attr_name().is_empty() {
            return Err(Refusal::Attribute { name: name.into(), problem: "refers to an attribute of a function" });
        }
        self.read[at] = true;
        Ok(Some(attribute))
    }

    pub(super) fn int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        Ok(self.read(name, AttributeType::Int)?.map(AttributeProto::i))
    }

    pub(super) fn float(&mut self, name: &str) -> Result<Option<f32>, Refusal> {
        Ok(self.read(name, AttributeType::Float)?.map(AttributeProto::f))
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<&'m str>, Refusal> {
        let Some(a) = self.read(name, AttributeType::String)? else { return Ok(None) };
        let bytes: &Bytes = a.s.as_ref().ok_or_else(|| missing_value(name))?;
        text(name, bytes).map(Some)
    }

    pub(super) fn strings(&mut self, name: &str) -> Result<Option<Vec<&'m str>>, Refusal> {
        let Some(a) = self.read(name, AttributeType::Strings)? else { return Ok(None) };
        a.strings.iter().map(|bytes| text(name, bytes)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn ints(&mut self, name: &str) -> Result<Option<&'m [i64]>, Refusal> {
        Ok(self.read(name, AttributeType::Ints)?.map(|a| a.ints.as_slice()))
    }

    pub(super) fn floats(&mut self, name: &str) -> Result<Option<&'m [f32]>, Refusal> {
        Ok(self.read(name, AttributeType::Floats)?.map(|a| a.floats.as_slice()))
    }

    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<&'m TensorProto>, Refusal> {
        let Some(a) = self.read(name, AttributeType::Tensor)? else { return Ok(None) };
        a.t.as_deref().map(Some).ok_or_else(|| missing_value(name))
    }

    pub(super) fn graph(&mut self, name: &str) -> Result<Option<&'m GraphProto>, Refusal> {
        let Some(a) = self.read(name, AttributeType::Graph)? else { return Ok(None) };
        a.g.as_deref().map(Some).ok_or_else(|| missing_value(name))
    }

    /// Fails if an attribute was not used.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        let unread: Vec<&str> = self.all.iter().zip(&self.read).filter(|a| !a.1).map(|a| a.0.0).collect();
        if unread.is_empty() { Ok(()) } else { Err(Refusal::Unread(unread.join(", "))) }
    }
}

fn text<'m>(name: &str, bytes: &'m Bytes) -> Result<&'m str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::Attribute { name: name.into(), problem: "not a text" })
}

fn missing_value(name: &str) -> Refusal {
    Refusal::Attribute { name: name.into(), problem: "has no value" }
}

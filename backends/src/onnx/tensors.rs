//! The tensors of a disassembled graph.

use bytes::Bytes;
use qcc_formats::onnx::{DataType, DimensionValue, TypeValue, ValueInfoProto};
use rustc_hash::FxHashMap;

use crate::disassembly::{Extent, Tensor};

/// The tensors of a graph, collected while reading.
#[derive(Default)]
pub(super) struct Tensors {
    pub(super) all: Vec<Tensor>,
    /// Bytes of constants.
    pub(super) known: FxHashMap<String, Bytes>,
    places: FxHashMap<String, usize>,
}

impl Tensors {
    /// The tensor with a name, created if needed.
    pub(super) fn of(&mut self, name: &str) -> &mut Tensor {
        let next = self.all.len();
        let place = *self.places.entry(name.to_owned()).or_insert(next);
        if place == next {
            self.all.push(Tensor { id: name.into(), ..Tensor::default() });
        }
        &mut self.all[place]
    }

    /// The tensor with a name, if known.
    pub(super) fn get(&self, name: &str) -> Option<&Tensor> {
        self.places.get(name).map(|&place| &self.all[place])
    }

    pub(super) fn describe(&mut self, v: &ValueInfoProto) {
        let tensor = self.of(v.name());
        if tensor.constant.is_some() {
            return;
        }
        let Some(TypeValue::Tensor(ty)) = v.r#type.as_ref().and_then(|t| t.value.as_ref()) else { return };
        tensor.element = element(ty.elem_type());
        let extent = |d: &Option<DimensionValue>| match d {
            Some(DimensionValue::Value(n)) => extent(*n),
            Some(DimensionValue::Param(name)) => Extent::Open(name.clone()),
            None => Extent::Open("?".into()),
        };
        tensor.shape = ty.shape.as_ref().map(|s| s.dim.iter().map(|d| extent(&d.value)).collect());
    }
}

/// The name of an element type.
pub(super) fn element(data_type: i32) -> String {
    DataType::try_from(data_type).map_or_else(|_| data_type.to_string(), |elem| elem.to_string())
}

/// An extent of a tensor; negative numbers mean open.
pub(super) fn extent(n: i64) -> Extent {
    u64::try_from(n).map_or_else(|_| Extent::Open(n.to_string()), Extent::Known)
}

//! Types that models declare for their values.

use std::cell::OnceCell;

use qcc_formats::onnx::{FunctionProto, GraphProto, TypeProtoTensor, ValueInfoProto};
use rustc_hash::FxHashMap;

use super::tensor_type;

/// The declared types of the values of a graph or a function.
#[derive(Debug)]
pub(super) struct Declared<'m> {
    lists: [&'m [ValueInfoProto]; 3],
    /// Types by name; built on first use.
    known: OnceCell<FxHashMap<&'m str, &'m TypeProtoTensor>>,
}

impl<'m> Declared<'m> {
    pub(super) fn by_graph(graph: &'m GraphProto) -> Self {
        Declared { lists: [&graph.input, &graph.value_info, &graph.output], known: OnceCell::new() }
    }

    pub(super) fn by_function(function: &'m FunctionProto) -> Self {
        Declared { lists: [&function.value_info, &[], &[]], known: OnceCell::new() }
    }

    /// The type of a value.
    pub(super) fn find(&self, name: &str) -> Option<&'m TypeProtoTensor> {
        let all = || self.lists.iter().copied().flatten().filter_map(|info| Some((info.name(), tensor_type(info)?)));
        self.known.get_or_init(|| all().collect()).get(name).copied()
    }
}

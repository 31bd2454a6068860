//! Model-local functions.

use qcc_formats::onnx::{FunctionProto, ModelProto, NodeProto};
use rustc_hash::FxHashMap;

use super::attributes::Referred;
use super::is_standard;

/// Maximum total size in bytes of the names of expanded nodes and values: each has the name of its call as a prefix.
pub(super) const MOST_NAMED: usize = 1 << 26;

/// Maximum nesting depth of function calls.
pub(super) const DEEPEST: usize = 64;

/// Domain, name and overload of an operator.
type Key<'m> = (&'m str, &'m str, &'m str);

/// The functions of a model.
#[derive(Clone, Debug, Default)]
pub(super) struct Functions<'m>(FxHashMap<Key<'m>, &'m FunctionProto>);

fn domain(name: &str) -> &str {
    if is_standard(name) { "" } else { name }
}

impl<'m> Functions<'m> {
    pub(super) fn of(model: &'m ModelProto) -> Self {
        let key = |f: &'m FunctionProto| (domain(f.domain()), f.name(), f.overload());
        Functions(model.functions.iter().map(|f| (key(f), f)).collect())
    }

    /// The function that a node calls, if it calls one.
    pub(super) fn find(&self, node: &NodeProto) -> Option<&'m FunctionProto> {
        self.0.get(&(domain(node.domain()), node.op_type(), node.overload())).copied()
    }
}

/// A call that is being imported.
#[derive(Debug)]
pub(super) struct Call<'m> {
    pub(super) function: &'m FunctionProto,
    /// Its attributes.
    pub(super) referred: Referred<'m>,
}

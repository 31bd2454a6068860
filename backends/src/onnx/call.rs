//! Operators with their attributes.

use bytes::Bytes;
use qcc_formats::onnx::{AttributeProto, AttributeType, GraphProto};

use super::OPSETS;

/// An operator with its attributes.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) operator: &'static str,
    /// True for an operator of ONNX Runtime's own domain.
    pub(super) contrib: bool,
    /// The first operator set with this version of the operator.
    pub(super) since: i64,
    pub(super) attributes: Vec<AttributeProto>,
}

/// The operators whose written form is newer than the oldest of [`OPSETS`], by the operator set that it is from: the
/// schema that operator set 17 has.
const NEWER: [(i64, &[&str]); 4] = [
    (14, &["Add", "CumSum", "Div", "GRU", "LSTM", "Mul", "RNN", "Relu", "Reshape", "Sub"]),
    (15, &["Pow", "Shape"]),
    (16, &["GreaterOrEqual", "Identity", "LeakyRelu", "LessOrEqual", "PRelu", "ScatterND", "Where"]),
    (17, &["LayerNormalization"]),
];

impl Call {
    /// The operator set that is written where no other is asked for, if it has all operators.
    pub(super) const USUAL: i64 = 17;

    /// A standard operator without attributes.
    pub(super) fn new(operator: &'static str) -> Self {
        let newer = NEWER.iter().find(|(_, names)| names.contains(&operator));
        let since = newer.map_or(*OPSETS.start(), |(since, _)| *since);
        Call { operator, contrib: false, since, attributes: Vec::new() }
    }

    /// An operator of domain `com.microsoft`.
    pub(super) fn contrib(operator: &'static str) -> Self {
        Call { operator, contrib: true, since: *OPSETS.start(), attributes: Vec::new() }
    }

    /// The same operator as defined since a later operator set.
    pub(super) fn since(self, since: i64) -> Self {
        Call { since, ..self }
    }

    fn with(mut self, name: &str, ty: AttributeType, attribute: AttributeProto) -> Self {
        self.attributes.push(AttributeProto { name: Some(name.into()), r#type: Some(ty.into()), ..attribute });
        self
    }

    /// Adds an INT.
    pub(super) fn int(self, name: &str, value: impl Into<i64>) -> Self {
        self.with(name, AttributeType::Int, AttributeProto { i: Some(value.into()), ..AttributeProto::default() })
    }

    /// Adds an INT that is an axis or an extent.
    pub(super) fn size(self, name: &str, value: usize) -> Self {
        self.int(name, value as i64)
    }

    /// Adds INTS that are axes or extents.
    pub(super) fn sizes(self, name: &str, values: impl IntoIterator<Item = usize>) -> Self {
        let ints = values.into_iter().map(|v| v as i64).collect();
        self.with(name, AttributeType::Ints, AttributeProto { ints, ..AttributeProto::default() })
    }

    /// Adds a FLOAT.
    pub(super) fn float(self, name: &str, value: f32) -> Self {
        self.with(name, AttributeType::Float, AttributeProto { f: Some(value), ..AttributeProto::default() })
    }

    /// Adds a STRING.
    pub(super) fn string(self, name: &str, value: &'static str) -> Self {
        let s = Some(Bytes::from_static(value.as_bytes()));
        self.with(name, AttributeType::String, AttributeProto { s, ..AttributeProto::default() })
    }

    /// Adds a GRAPH.
    pub(super) fn graph(self, name: &str, graph: GraphProto) -> Self {
        self.with(name, AttributeType::Graph, AttributeProto { g: Some(Box::new(graph)), ..AttributeProto::default() })
    }

    /// Adds STRINGS.
    pub(super) fn strings(self, name: &str, values: &[&'static str]) -> Self {
        let strings = values.iter().map(|v| Bytes::from_static(v.as_bytes())).collect();
        self.with(name, AttributeType::Strings, AttributeProto { strings, ..AttributeProto::default() })
    }
}

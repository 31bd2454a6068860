//! Custom operators: operators of other operator sets than the standard one that no row of the table imports. They are
//! kept unchanged.

use bytes::Bytes;
use prost::Message;
use qcc_formats::onnx::{AttributeProto, AttributeType, DataLocation, NAME, TypeProtoTensor};
use qcc_ir::ops::{Attribute, Custom};
use qcc_ir::{Dim, Shape, TensorType};

use super::attributes::resolved;
use super::importer::Importer;
use super::integers::Inputs;
use super::node::NodeCx;
use super::{declared_shape, ops, qdq, weights};
use crate::build::{Build, Values, bounded};
use crate::refusal::Refusal;

/// The version for an operator set that the model does not import.
const UNVERSIONED: i64 = 1;

/// Adds a custom operator. The model declares the types of its results.
pub(super) fn custom(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let node = n.node();
    let (domain, name) = (node.domain().to_owned(), node.op_type().to_owned());
    let attributes = resolved(&node.attribute, n.importer().referred());
    let attributes = attributes.map(|(name, a)| Ok((name.to_owned(), attribute(name, a)?)));
    let attributes: Vec<(String, Attribute)> = attributes.collect::<Result<_, Refusal>>()?;
    let inputs = n.input_values().clone();
    let inputs: Inputs = inputs.iter().map(|v| v.map(|v| qdq::plain(n, v)).transpose()).collect::<Result<_, _>>()?;
    let mut operands = Vec::new();
    for (&v, name) in inputs.iter().zip(&node.input) {
        if let Some(v) = v {
            // What shapes results have for others, the model does not say.
            n.dims(v)?;
            n.importer().has_its_element(v, name)?;
        }
        operands.push(v.map(|v| n.ty(v).clone()));
    }
    let result = |name: &String| match name.as_str() {
        "" => Ok(None),
        name => n.importer().declared(name, &domain).map(Some),
    };
    let results: Vec<Option<TensorType>> = node.output.iter().map(result).collect::<Result<_, _>>()?;
    let version = n.importer().version_of(&domain);
    let wanted: Vec<bool> = results.iter().map(Option::is_some).collect();
    let op = Custom { format: NAME.into(), domain, name, version, attributes, operands, results };
    let given: Values = inputs.iter().flatten().copied().collect();
    let made = n.add_all(op, &given)?;
    // Omitted results have no name, so that the value that stands for them is not used.
    let mut values = made.iter().copied();
    Ok(wanted.into_iter().map(|wanted| if wanted { values.next() } else { None }.unwrap_or(made[0])).collect())
}

impl Importer<'_> {
    /// Fails where a value has another element type in the graph than in the model.
    fn has_its_element(&self, v: qcc_ir::ValueId, name: &str) -> Result<(), Refusal> {
        if let Some(stored) = self.integers.widened(v) {
            return stored.exact(name);
        }
        match self.type_of(name) {
            Some(ty) => weights::stored(ty.elem_type())?.exact(name),
            None if self.doubles.constants || self.doubles.computed => Err(Refusal::Advised {
                message: format!(
                    "the model has double precision, and does not say whether {name} has, which a custom operator takes"
                ),
                help: STORE_TYPES,
            }),
            None => Ok(()),
        }
    }

    fn type_of(&self, name: &str) -> Option<&TypeProtoTensor> {
        self.declared.iter().rev().find_map(|d| d.find(name))
    }

    /// The type that the model declares for a result, with known extents.
    fn declared(&self, name: &str, domain: &str) -> Result<TensorType, Refusal> {
        let ty = self.type_of(name).filter(|ty| ty.shape.is_some()).ok_or_else(|| Refusal::Advised {
            message: format!("it is a custom operator, and the model does not say which type and shape {name} has"),
            help: ops::foreign(domain).unwrap_or(STORE_TYPES),
        })?;
        let stored = weights::stored(ty.elem_type())?;
        stored.exact(name)?;
        let declared = declared_shape(ty)?.unwrap_or_default();
        let extent = |dim: &Dim| match dim {
            Dim::Known(n) => Some(*n),
            open @ Dim::Open(_) => self.extents.get(open.as_symbol()?).copied().flatten(),
        };
        let extents: Option<Vec<usize>> = declared.dims().iter().map(extent).collect();
        let extents = extents.ok_or_else(|| Refusal::Advised {
            message: format!("the shape of {name}, {declared}, does not follow from the inputs"),
            help: "give inputs and results of custom operators the same symbols in the model, or numbers",
        })?;
        let ty = TensorType::new(stored.elem(), Shape::known(&extents));
        bounded(&ty)?;
        Ok(ty)
    }

    fn version_of(&self, domain: &str) -> i64 {
        self.opsets.iter().find(|set| set.domain() == domain).map_or(UNVERSIONED, |set| set.version())
    }
}

const STORE_TYPES: &str = "store types of values in the model (value_info; shape inference writes it where it knows the \
                           operator), or export the model without this operator";

/// The value of an attribute.
fn attribute(name: &str, a: &AttributeProto) -> Result<Attribute, Refusal> {
    let refused = |problem| Refusal::Attribute { name: name.into(), problem };
    if !a.ref_attr_name().is_empty() {
        return Err(refused("refers to an attribute of a function"));
    }
    let text = |bytes: &Bytes| std::str::from_utf8(bytes).map(str::to_owned);
    let encoded = || Attribute::Encoded(AttributeProto { name: Some(name.into()), ..a.clone() }.encode_to_vec());
    Ok(match a.r#type() {
        AttributeType::Int => Attribute::Int(a.i()),
        AttributeType::Float => Attribute::Float(a.f()),
        AttributeType::Ints => Attribute::Ints(a.ints.clone()),
        AttributeType::Floats => Attribute::Floats(a.floats.clone()),
        AttributeType::String => {
            let bytes = a.s.as_ref().ok_or_else(|| refused("has no value"))?;
            text(bytes).map_or_else(|_| encoded(), Attribute::Text)
        }
        AttributeType::Strings => {
            a.strings.iter().map(text).collect::<Result<_, _>>().map_or_else(|_| encoded(), Attribute::Texts)
        }
        AttributeType::Tensor => match &a.t {
            Some(t) if t.data_location == Some(DataLocation::External.into()) => {
                return Err(Refusal::Unsupported(format!("attribute {name}: a tensor in another file")));
            }
            Some(_) => encoded(),
            None => return Err(refused("has no value")),
        },
        // Graphs use names of the outer graph; other attribute types are not decoded completely.
        AttributeType::Graph | AttributeType::Graphs => {
            let message = format!("attribute {name} is a graph, which custom operators are not carried through with");
            return Err(Refusal::Unsupported(message));
        }
        _ => {
            return Err(Refusal::Unsupported(format!(
                "attribute {name} of a custom operator has another type than \
                                                      numbers, texts and one tensor"
            )));
        }
    })
}

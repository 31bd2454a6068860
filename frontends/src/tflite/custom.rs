//! Custom operators, which are kept unchanged.

use qcc_formats::tflite::{NAME, Operator, OperatorCode};
use qcc_ir::TensorType;
use qcc_ir::ops::{Attribute, Custom};

use super::importer::Importer;
use super::node::NodeCx;
use super::types;
use crate::build::{Build, Values, bounded};
use crate::refusal::Refusal;

/// Name of the attribute that holds the options.
const OPTIONS: &str = "custom_options";

/// Adds a custom operator. The file declares the types of its results.
pub(super) fn custom(n: &mut NodeCx<'_, '_>, operator: &Operator, code: &OperatorCode) -> Result<Values, Refusal> {
    if !operator.intermediates.is_empty() || operator.large_custom_options_size > 0 {
        let message = "a custom operator with tensors between or options outside the tables is not supported";
        return Err(Refusal::Unsupported(message.into()));
    }
    let mut operands = Vec::new();
    let mut declared = Vec::new();
    for (i, &tensor) in operator.inputs.iter().enumerate() {
        let Some(v) = n.optional(i)? else {
            declared.push(None);
            continue;
        };
        let ty = n.importer().declared(tensor)?;
        if ty.shape != n.ty(v).shape {
            let name = &n.importer().entry(tensor)?.name;
            return Err(Refusal::Advised {
                message: format!("{name} is {} here and {} in the file: what results then is not known", n.ty(v), ty),
                help: "leave --shape out, or export the model with the extents that are wanted",
            });
        }
        operands.push(v);
        declared.push(Some(ty));
    }
    let results = operator.outputs.iter().map(|&t| n.importer().declared(t).map(Some)).collect::<Result<_, _>>()?;
    let options = (!operator.custom_options.is_empty())
        .then(|| (OPTIONS.into(), Attribute::Encoded(operator.custom_options.clone())));
    n.add_all(
        Custom {
            format: NAME.into(),
            domain: String::new(),
            name: code.custom_code.clone(),
            version: code.version.into(),
            attributes: options.into_iter().collect(),
            operands: declared,
            results,
        },
        &operands,
    )
}

impl Importer<'_> {
    /// The type that the file declares for a tensor of a custom operator.
    fn declared(&self, tensor: i32) -> Result<TensorType, Refusal> {
        let entry = self.entry(tensor)?;
        let name = &entry.name;
        if entry.shape.is_empty() && !entry.has_rank {
            return Err(Refusal::Advised {
                message: format!("the file does not say which shape {name} has"),
                help: "convert the model with the shapes of custom operators, or without this operator",
            });
        }
        types::stored(entry.elem)?.exact(name)?;
        let elem = types::elem(entry)?;
        if elem.qparams().is_some_and(|q| q.storage.size() != 1 || q.tensor_map().is_none()) {
            let message = format!("{name} is {elem}: custom operators are carried through with 8 bits and one scale");
            return Err(Refusal::Unsupported(message));
        }
        let ty = TensorType::new(elem, types::shape(entry)?);
        bounded(&ty)?;
        Ok(ty)
    }
}

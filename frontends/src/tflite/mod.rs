//! TensorFlow Lite models: the main subgraph of a file, float or quantized.
//!
//! Values have the axes of the file (images are N,H,W,C); what works on images stands between transposes. Integers
//! with scales lie on grids.

use bytes::Bytes;
use qcc_formats::tflite::{Model, ReadError, SignatureDef, SubGraph, TensorMap};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Origin, Shape, TensorType};

use crate::refusal::Refusal;
use crate::shapes::{self, ANONYMOUS};
use crate::{DeclaredInput, ImportOptions, Imported, build};
use importer::Importer;

mod importer;
mod metadata;
mod node;
mod ops;
mod types;

/// A decoded file.
#[derive(Debug)]
pub(crate) struct File {
    model: Model,
    metadata: Vec<(String, String)>,
}

impl File {
    pub(crate) fn read(bytes: &Bytes) -> Result<File, Vec<Diagnostic>> {
        let damaged = |e: ReadError| vec![Diagnostic::error("bad-model", e.to_string())];
        let model = Model::read(bytes).map_err(damaged)?;
        if model.version != Model::VERSION {
            let message = format!("TFLite version {} is not supported; {} is", model.version, Model::VERSION);
            return Err(vec![Diagnostic::error("unsupported", message)]);
        }
        if model.subgraphs.is_empty() {
            return Err(vec![Diagnostic::error("bad-model", "the model has no graph")]);
        }
        Ok(File { model, metadata: metadata::read(bytes) })
    }

    fn main(&self) -> Result<&SubGraph, Vec<Diagnostic>> {
        self.model.subgraphs.first().ok_or_else(|| vec![Diagnostic::error("bad-model", "the model has no graph")])
    }

    pub(crate) fn metadata(&self) -> Vec<(String, String)> {
        self.metadata.clone()
    }

    /// Names of inputs or outputs: those of the signature where it has them, else those of the tensors.
    fn names(&self, tensors: &[i32], kind: &str, maps: fn(&SignatureDef) -> &[TensorMap]) -> Vec<String> {
        let signature = self.model.signature_defs.iter().find(|s| s.subgraph_index == 0);
        let maps = signature.map_or(&[][..], maps);
        let name = |(i, &tensor): (usize, &i32)| {
            // A tensor may be given under several names.
            let before = tensors[..i].iter().filter(|&&t| t == tensor).count();
            let map = maps.iter().filter(|m| i32::try_from(m.tensor_index) == Ok(tensor)).nth(before);
            let entry = usize::try_from(tensor).ok().and_then(|t| self.model.subgraphs.first()?.tensors.get(t));
            let name = map.map(|m| &m.name).or(entry.map(|e| &e.name)).filter(|n| !n.is_empty());
            name.cloned().unwrap_or_else(|| format!("{kind}_{i}"))
        };
        tensors.iter().enumerate().map(name).collect()
    }

    pub(crate) fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        let main = self.main()?;
        let names = self.names(&main.inputs, "input", |s| &s.inputs);
        let (mut inputs, mut errors) = (Vec::<DeclaredInput>::new(), Vec::new());
        for (i, (&tensor, name)) in main.inputs.iter().zip(names).enumerate() {
            let twice = main.inputs[..i].contains(&tensor) || inputs.iter().any(|i| i.name == name);
            if twice {
                errors.push(Diagnostic::error("bad-model", format!("two inputs have the name {name}")));
            }
            match declared(main, tensor, &name) {
                Ok(input) => inputs.push(input),
                Err(e) => errors.extend(e.diagnostic(&Origin::new(name.as_str(), "Input"))),
            }
        }
        if errors.is_empty() { Ok(inputs) } else { Err(errors) }
    }

    pub(crate) fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        let (main, inputs) = (self.main()?, self.inputs()?);
        let mut notes = Vec::new();
        let shapes = shapes::settle(&inputs, options, &mut notes)?;
        let mut importer = Importer::new(&self.model, main);
        importer.graph.metadata = self.metadata();
        for name in options.values.iter().map(|v| &v.0).filter(|n| inputs.iter().all(|i| i.name != **n)) {
            importer.errors.push(shapes::unknown_input(name, "--set", &inputs));
        }
        for ((input, shape), &tensor) in inputs.iter().zip(shapes).zip(&main.inputs) {
            let ty = TensorType::new(input.elem.clone(), shape);
            match options.values.iter().find(|v| v.0 == input.name) {
                Some((_, values)) => importer.set_input(tensor, &input.name, &ty, values),
                None => importer.add_input(tensor, &input.name, ty),
            }
        }
        importer.run(&self.names(&main.outputs, "output", |s| &s.outputs), notes)
    }
}

/// An input, with its open extents.
fn declared(main: &SubGraph, tensor: i32, name: &str) -> Result<DeclaredInput, Refusal> {
    let entry = importer::entry(main, tensor)?;
    let signature = if entry.shape_signature.is_empty() { &entry.shape } else { &entry.shape_signature };
    if signature.len() > 8 {
        return Err(Refusal::Unsupported(format!("input {name} has rank {}; 8 is the most", signature.len())));
    }
    let dim = |&n: &i32| match n {
        -1 => Ok(Dim::Sym(ANONYMOUS.into())),
        n => build::extent(n.into()).map(Dim::Known),
    };
    let shape = signature.iter().map(dim).collect::<Result<Shape, Refusal>>()?;
    Ok(DeclaredInput { name: name.into(), elem: types::elem(entry)?, shape: Some(shape) })
}

//! TensorFlow Lite models: the main subgraph of a file, float or quantized.
//!
//! Values have the axes of the file (images are N,H,W,C); operators on images are placed between transposes. Integers
//! with scales become quantized values.

use bytes::Bytes;
use qcc_formats::tflite::{Model, ReadError, SignatureDef, SubGraph, TensorMap};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Origin, Shape, TensorType};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::refusal::Refusal;
use crate::shapes::{self, ANONYMOUS, ExtentNames};
use crate::{DeclaredInput, ImportOptions, Imported, ModelFile, build};
use importer::Importer;
use variables::State;

mod body;
mod counted;
mod custom;
mod importer;
mod metadata;
mod node;
mod ops;
mod run;
mod sparse;
mod types;
mod variables;

pub use metadata::python_string;
pub use ops::supported;

/// A decoded file.
#[derive(Debug)]
pub(crate) struct File {
    model: Model,
    metadata: Vec<(String, String)>,
}

impl File {
    pub(crate) fn read(bytes: &Bytes) -> Result<File, Vec<Diagnostic>> {
        let damaged = |e: ReadError| vec![Diagnostic::invalid_model(e.to_string())];
        let model = Model::read(bytes).map_err(damaged)?;
        if model.version != Model::VERSION {
            let message = format!("TFLite version {} is not supported; {} is", model.version, Model::VERSION);
            return Err(vec![Diagnostic::error("unsupported", message)]);
        }
        if model.subgraphs.is_empty() {
            return Err(vec![Diagnostic::invalid_model("the model has no graph")]);
        }
        Ok(File { model, metadata: metadata::read(bytes) })
    }

    fn main(&self) -> Result<&SubGraph, Vec<Diagnostic>> {
        self.model.subgraphs.first().ok_or_else(|| vec![Diagnostic::invalid_model("the model has no graph")])
    }

    /// What the main subgraph keeps from run to run.
    fn states(&self, main: &SubGraph, taken: &[String]) -> Result<Vec<State>, Vec<Diagnostic>> {
        let refused = |e: Refusal| e.diagnostic(&Origin::new("", "CALL_ONCE")).into_iter().collect::<Vec<_>>();
        variables::states(&self.model, main, taken).map_err(refused)
    }

    /// Names of inputs or outputs: those of the signature if it has any, else those of the tensors.
    fn names(&self, tensors: &[i32], kind: &str, maps: fn(&SignatureDef) -> &[TensorMap]) -> Vec<String> {
        let signature = self.model.signature_defs.iter().find(|s| s.subgraph_index == 0);
        // A tensor may have several names; they are used in order.
        let mut given: FxHashMap<i64, Vec<&String>> = FxHashMap::default();
        for map in signature.map_or(&[][..], maps).iter().rev() {
            given.entry(map.tensor_index.into()).or_default().push(&map.name);
        }
        let name = |(i, &tensor): (usize, &i32)| {
            let map = given.get_mut(&i64::from(tensor)).and_then(Vec::pop);
            let entry = usize::try_from(tensor).ok().and_then(|t| self.model.subgraphs.first()?.tensors.get(t));
            let name = map.or(entry.map(|e| &e.name)).filter(|n| !n.is_empty());
            name.cloned().unwrap_or_else(|| format!("{kind}_{i}"))
        };
        tensors.iter().enumerate().map(name).collect()
    }
}

impl ModelFile for File {
    fn metadata(&self) -> Vec<(String, String)> {
        self.metadata.clone()
    }

    fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        let main = self.main()?;
        let names = self.names(&main.inputs, "input", |s| &s.inputs);
        let states = self.states(main, &names)?;
        let given = main.inputs.iter().zip(names).map(|(&tensor, name)| (tensor, tensor, name));
        let all = given.chain(states.into_iter().map(|state| (state.tensor, state.typed, state.name)));
        let (mut inputs, mut errors) = (Vec::<DeclaredInput>::new(), Vec::new());
        let (mut tensors, mut taken) = (FxHashSet::default(), FxHashSet::default());
        for (tensor, typed, name) in all {
            // `|` does not short-circuit: both sets are updated.
            if !tensors.insert(tensor) | !taken.insert(name.clone()) {
                errors.push(Diagnostic::invalid_model(format!("two inputs have the name {name}")));
            }
            match declared(main, typed, &name) {
                Ok(input) => inputs.push(input),
                Err(e) => errors.extend(e.diagnostic(&Origin::new(name.as_str(), "Input"))),
            }
        }
        if errors.is_empty() { Ok(inputs) } else { Err(errors) }
    }

    fn channels_last(&self) -> bool {
        true
    }

    fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        let (main, inputs) = (self.main()?, self.inputs()?);
        let mut notes = Vec::new();
        let settled = shapes::settle(&inputs, options, &mut notes);
        let at = |shapes, notes| self.import_at(main, &inputs, shapes, options, notes);
        shapes::import((&inputs, options, ExtentNames::Absent), settled, notes, Vec::new, at)
    }
}

impl File {
    /// Imports the model with these shapes of its inputs.
    fn import_at(
        &self,
        main: &SubGraph,
        inputs: &[DeclaredInput],
        shapes: Vec<Shape>,
        options: &ImportOptions,
        mut notes: Vec<Diagnostic>,
    ) -> Result<Imported, Vec<Diagnostic>> {
        let mut importer = Importer::new(&self.model, main, variables::handles(&self.model, main));
        importer.graph.metadata = self.metadata();
        importer.random_inputs = options.random_inputs;
        let (values, unknown) = shapes::values(inputs, options);
        importer.errors.extend(unknown);
        let states = self.states(main, &self.names(&main.inputs, "input", |s| &s.inputs))?;
        let all = main.inputs.iter().chain(states.iter().map(|state| &state.tensor));
        for ((input, shape), &tensor) in inputs.iter().zip(shapes).zip(all) {
            let ty = TensorType::new(input.elem.clone(), shape);
            if !values.contains_key(input.name.as_str()) {
                notes.extend(importer.interface("input", tensor, &input.name));
            }
            match values.get(input.name.as_str()) {
                Some(values) => importer.set_input(tensor, &input.name, &ty, values),
                None => importer.add_input(tensor, &input.name, ty),
            }
        }
        let carried: Vec<_> = states.into_iter().filter(|s| !values.contains_key(s.name.as_str())).collect();
        importer.run(&self.names(&main.outputs, "output", |s| &s.outputs), &carried, notes)
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
        -1 => Ok(Dim::symbol(ANONYMOUS)),
        n => build::extent(n.into()).map(Dim::Known),
    };
    let shape = signature.iter().map(dim).collect::<Result<Shape, Refusal>>()?;
    Ok(DeclaredInput { name: name.into(), elem: types::elem(entry)?, shape: Some(shape) })
}

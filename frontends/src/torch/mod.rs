//! PyTorch models as written by `torch.export.save` (`.pt2`), in all three archive layouts.

use bytes::Bytes;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Origin, Shape, TensorType};
use rustc_hash::FxHashSet;

use crate::refusal::Refusal;
use crate::shapes::{self, ExtentNames};
use crate::{DeclaredInput, ImportOptions, Imported, ModelFile};
use archive::Archive;
use importer::Importer;
use schema::{Argument, InputSpec, Program, TensorMeta};
use weights::Weights;

mod archive;
mod body;
pub(crate) mod checkpoint;
mod decompose;
mod importer;
mod inputs;
mod node;
mod ops;
mod pickle;
mod quantity;
mod run;
mod schedule;
mod schema;
mod storage;
mod symbols;
mod views;
mod weights;

pub use ops::supported;

/// The supported major version of the schema.
const MAJOR: i64 = 8;

/// A file with its decoded program.
#[derive(Debug)]
pub(crate) struct File {
    program: Program,
    weights: Weights,
    name: String,
    metadata: Vec<(String, String)>,
}

impl File {
    pub(crate) fn read(bytes: Bytes) -> Result<File, Vec<Diagnostic>> {
        File::load(bytes).map_err(|refusal| refusal.diagnostic(&Origin::none()).into_iter().collect())
    }

    fn load(bytes: Bytes) -> Result<File, Refusal> {
        let archive = Archive::open(bytes)?;
        let layout = Layout::of(&archive)?;
        let json = archive.read(&layout.program)?;
        let program = Program::parse(&json).map_err(|e| Refusal::Invalid(format!("{}: {e}", layout.program)))?;
        let version = program.schema_version;
        if version.major != MAJOR {
            let found = format!("{}.{}", version.major, version.minor);
            return Err(Refusal::Unsupported(format!(
                "schema version {found} of torch.export is not supported; export with PyTorch 2.5 or later"
            )));
        }
        let mut weights = Weights::default();
        layout.read_weights(&archive, &mut weights)?;
        let mut metadata = layout.metadata(&archive)?;
        metadata.extend(root(&program).map(|class| (crate::MODULE.into(), class.into())));
        Ok(File { program, weights, metadata, name: layout.model })
    }

    fn user_inputs(&self) -> impl Iterator<Item = (&str, Result<&TensorMeta, Refusal>)> {
        let module = &self.program.graph_module;
        module.signature.input_specs.iter().filter_map(|spec| match spec {
            InputSpec::UserInput { arg: Argument::Tensor(name) } => {
                let missing = || Refusal::Invalid(format!("input {name} has no type"));
                Some((name.as_str(), module.graph.tensor_values.get(name).ok_or_else(missing)))
            }
            // None, or a number that the exporter made part of the program.
            InputSpec::UserInput {
                arg: Argument::None | Argument::Number(schema::Term::Known(_)) | Argument::Text(_),
            } => None,
            InputSpec::UserInput { arg } => {
                let message = format!("an input that is {arg} instead of a tensor is not supported");
                Some(("", Err(Refusal::Unsupported(message))))
            }
            _ => None,
        })
    }

    /// Imports the program with these shapes of its inputs.
    fn import_at(
        &self,
        inputs: &[DeclaredInput],
        shapes: Vec<Shape>,
        options: &ImportOptions,
        mut notes: Vec<Diagnostic>,
    ) -> Result<Imported, Vec<Diagnostic>> {
        let symbols = inputs::symbols(inputs, &shapes);
        notes.extend(inputs::check_ranges(&symbols, &self.program.range_constraints)?);
        let mut importer = Importer::new(&self.name, &self.weights, &self.program, symbols, notes);
        importer.graph.metadata = self.metadata();
        importer.random_inputs = options.random_inputs;
        let (values, unknown) = shapes::values(inputs, options);
        importer.errors.extend(unknown);
        for ((input, shape), (name, meta)) in inputs.iter().zip(shapes).zip(self.user_inputs()) {
            // An input that the user set is not an input of the artefact.
            let stored = meta.ok().and_then(|m| weights::stored(m.dtype).ok());
            let stored = stored.filter(|_| !values.contains_key(input.name.as_str()));
            importer.notes.extend(stored.and_then(|s| s.interface("input", &input.name)));
            let ty = TensorType::new(input.elem.clone(), shape);
            match values.get(input.name.as_str()) {
                Some(values) => importer.set_input(name, ty, values),
                None => importer.add_input(name, ty),
            }
        }
        importer.run()
    }
}

impl ModelFile for File {
    fn metadata(&self) -> Vec<(String, String)> {
        self.metadata.clone()
    }

    /// The user inputs in order, as declared by the file.
    fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        let declared = self.user_inputs().map(|(name, meta)| inputs::declared(name, meta?));
        let mut errors = Vec::new();
        let mut inputs = Vec::new();
        let mut names = FxHashSet::default();
        for input in declared {
            match input {
                Ok(input) if !names.insert(input.name.clone()) => {
                    errors.push(Diagnostic::invalid_model(format!("two inputs have the name {}", input.name)));
                }
                Ok(input) => inputs.push(input),
                Err(e) => errors.extend(e.diagnostic(&Origin::none())),
            }
        }
        if errors.is_empty() { Ok(inputs) } else { Err(errors) }
    }

    fn import(&self, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
        let inputs = self.inputs()?;
        let mut notes = Vec::new();
        let sizes = self.user_inputs().map(|(_, meta)| meta.map_or(&[][..], |meta| &meta.sizes));
        let known = inputs::exemplary(&inputs, sizes, options, &self.program.range_constraints, &mut notes);
        let settled = shapes::settle(&known, options, &mut notes);
        let at = |shapes, notes| self.import_at(&inputs, shapes, options, notes);
        shapes::import((&inputs, options, ExtentNames::Given), settled, notes, Vec::new, at)
    }
}

/// The locations of the parts of an archive.
#[derive(Debug)]
struct Layout {
    /// Name of the model.
    model: String,
    /// The entry with the program.
    program: String,
    weights: Place,
    constants: Place,
    /// Prefix of entries that the user added.
    extra: String,
}

#[derive(Debug)]
enum Place {
    /// A pickled dictionary of tensors.
    Pickle(String),
    /// A folder of storages, and the configuration that lists them.
    Folder {
        folder: String,
        config: String,
    },
    None,
}

impl Layout {
    fn of(archive: &Archive) -> Result<Layout, Refusal> {
        let flat = "serialized_exported_program.json";
        if archive.has(flat) {
            let pickle = |name: &str| if archive.has(name) { Place::Pickle(name.into()) } else { Place::None };
            return Ok(Layout {
                model: "model".into(),
                program: flat.into(),
                weights: pickle("serialized_state_dict.pt"),
                constants: pickle("serialized_constants.pt"),
                extra: "extra_files/".into(),
            });
        }
        let mut programs: Vec<String> = archive
            .names()
            .filter(|n| n.ends_with(".json") && n.rsplit('/').nth(1) == Some("models") && n.split('/').count() <= 3)
            .collect();
        programs.sort_unstable();
        let [program] = programs.as_slice() else {
            let compiled = archive.names().any(|n| n.contains("data/aotinductor/"));
            if let Some(refusal) = checkpoint::archived(archive).filter(|_| programs.is_empty() && !compiled) {
                return Err(refusal);
            }
            return Err(Refusal::Unsupported(match programs.len() {
                0 if compiled => "this package holds compiled code (AOTInductor); give the exported program, that torch.export.save writes".into(),
                0 => "this archive holds no model that qcc reads: ONNX, or what torch.export.save writes".into(),
                n => format!("the archive holds {n} models; expected one"),
            }));
        };
        let stem = program.rsplit('/').next().and_then(|n| n.strip_suffix(".json")).unwrap_or("model").to_string();
        let root = &program[..program.len() - "models/.json".len() - stem.len()];
        let order = format!("{root}byteorder");
        if archive.has(&order) && archive.read(&order)?.as_ref() != b"little" {
            return Err(Refusal::Unsupported("weights in big-endian order are not supported".into()));
        }
        let place = |kind: &str| {
            let folder = format!("{root}data/{kind}");
            let (pickle, config) = (format!("{folder}/{stem}.pt"), format!("{folder}/{stem}_{kind}_config.json"));
            match (archive.has(&config), archive.has(&pickle)) {
                (true, _) => Place::Folder { folder, config },
                (false, true) => Place::Pickle(pickle),
                (false, false) => Place::None,
            }
        };
        let name = root.trim_end_matches('/');
        Ok(Layout {
            model: if name.is_empty() || name == "archive" { stem.clone() } else { name.into() },
            weights: place("weights"),
            constants: place("constants"),
            extra: format!("{root}extra/"),
            program: program.clone(),
        })
    }

    fn read_weights(&self, archive: &Archive, weights: &mut Weights) -> Result<(), Refusal> {
        for place in [&self.weights, &self.constants] {
            match place {
                Place::Pickle(name) => weights.read_pickle(archive, name)?,
                Place::Folder { folder, config } => weights.read_config(archive, folder, config)?,
                Place::None => {}
            }
        }
        Ok(())
    }

    /// Metadata of the model: additional text files. A file that holds a JSON object contributes its entries.
    fn metadata(&self, archive: &Archive) -> Result<Vec<(String, String)>, Refusal> {
        let mut metadata = Vec::new();
        let mut names: Vec<String> =
            archive.names().filter(|n| n.starts_with(&self.extra) && !n.ends_with('/')).collect();
        names.sort_unstable();
        for name in names {
            let bytes = archive.read(&name)?;
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            match serde_json::from_str(text) {
                Ok(serde_json::Value::Object(entries)) => {
                    metadata.extend(entries.into_iter().map(|(key, value)| match value {
                        serde_json::Value::String(text) => (key, text),
                        other => (key, other.to_string()),
                    }));
                }
                _ => metadata.push((name[self.extra.len()..].into(), text.into())),
            }
        }
        Ok(metadata)
    }
}

/// The class of the exported module, according to its nodes.
fn root(program: &Program) -> Option<&str> {
    let (_, class) = program.graph_module.graph.nodes.iter().find_map(|node| node.modules().next())?;
    Some(class).filter(|class| !class.is_empty())
}

//! PyTorch models as written by `torch.export.save` (`.pt2`), in all three archive layouts.

use bytes::Bytes;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Origin, Shape, TensorType};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::refusal::Refusal;
use crate::shapes::{self, ANONYMOUS};
use crate::{DeclaredInput, ImportOptions, Imported, ModelFile};
use archive::Archive;
use importer::Importer;
use schema::{Argument, InputSpec, Program, Size, TensorMeta};
use symbols::Symbols;
use weights::Weights;

mod archive;
pub(crate) mod checkpoint;
mod decompose;
mod importer;
mod node;
mod ops;
mod pickle;
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

    /// The values of the symbols of the inputs' shapes: the number given by `--shape`, 1 for a batch, otherwise the
    /// value of the example input of the export.
    fn symbols(&self, options: &ImportOptions, notes: &mut Vec<Diagnostic>) -> Result<Symbols, Vec<Diagnostic>> {
        let mut symbols = Symbols::new();
        let given: FxHashMap<&str, &[Option<usize>]> =
            options.shapes.iter().map(|(n, d)| (n.as_str(), d.as_slice())).collect();
        let inputs: Vec<(&str, &TensorMeta)> =
            self.user_inputs().filter_map(|(name, meta)| Some((name, meta.ok()?))).collect();
        for (name, meta) in &inputs {
            let Some(dims) = given.get(name) else { continue };
            for (size, extent) in meta.sizes.iter().zip(*dims) {
                if let (Some(symbol), Some(Ok(extent))) = (size.symbol(), extent.map(i64::try_from)) {
                    symbols.entry(symbol).or_insert(extent);
                }
            }
        }
        let leading = inputs.iter().filter_map(|(_, meta)| meta.sizes.first()?.symbol());
        for symbol in leading.collect::<Vec<_>>() {
            symbols.entry(symbol).or_insert(1);
        }
        for (name, meta) in &inputs {
            for (axis, size) in meta.sizes.iter().enumerate() {
                let (Some(symbol), Size::Expr { hint, .. }) = (size.symbol(), size) else { continue };
                let least = self.program.range_constraints.get(&symbol).and_then(|r| r.min_val);
                let Some(example) = hint.or(least).filter(|_| !symbols.contains_key(&symbol)) else { continue };
                let message = format!(
                    "extent {axis} of input {name} ({symbol}) is open; compiled for {example}, as in the example it was exported with"
                );
                let known = |s: &Size| s.value(&Symbols::new()).map_or("N".into(), |n| n.to_string());
                let extents: Vec<String> = meta.sizes.iter().map(known).collect();
                let help = format!("give others: --shape {name}={} with numbers for N", extents.join(","));
                notes.push(Diagnostic::warning("example-shape", message).with_help(help));
                symbols.insert(symbol, example);
            }
        }
        let outside = symbols.iter().filter_map(|(symbol, &n)| {
            let range = self.program.range_constraints.get(symbol)?;
            // The exporter specializes 0 and 1, so a minimum of 2 also permits a batch of one.
            let least = range.min_val.filter(|&least| least > 2).unwrap_or(0);
            let most = range.max_val.unwrap_or(i64::MAX);
            let message = format!("{symbol} is {n}; the model was exported for {least} to {most}");
            (n < least || n > most).then(|| Diagnostic::error("bad-shape", message))
        });
        let outside: Vec<Diagnostic> = outside.collect();
        if outside.is_empty() { Ok(symbols) } else { Err(outside) }
    }
}

impl ModelFile for File {
    fn metadata(&self) -> Vec<(String, String)> {
        self.metadata.clone()
    }

    /// The user inputs in order, as declared by the file.
    fn inputs(&self) -> Result<Vec<DeclaredInput>, Vec<Diagnostic>> {
        let declared = self.user_inputs().map(|(name, meta)| declared(name, meta?));
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
        let symbols = self.symbols(options, &mut notes)?;
        let known: Vec<DeclaredInput> =
            inputs.iter().zip(self.user_inputs()).map(|(i, m)| resolved(i, m.1.ok(), &symbols)).collect();
        let shapes = shapes::settle(&known, options, &mut notes)?;
        let mut importer = Importer::new(&self.name, &self.weights, &self.program, symbols, notes);
        importer.graph.metadata = self.metadata();
        let (values, unknown) = shapes::values(&inputs, options);
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
        Ok(Imported { open: shapes::open(&inputs, options), ..importer.run()? })
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

fn declared(name: &str, meta: &TensorMeta) -> Result<DeclaredInput, Refusal> {
    let none = Symbols::new();
    let dims = meta.sizes.iter().map(|size| match size.value(&none) {
        Some(n) => Ok(Dim::Known(crate::build::extent(n)?)),
        None => Ok(Dim::symbol(match size.shown().as_str() {
            "?" => ANONYMOUS,
            shown => shown,
        })),
    });
    let shape: Shape = dims.collect::<Result<_, Refusal>>()?;
    if shape.rank() > 8 {
        return Err(Refusal::Unsupported(format!("input {name} has rank {}; 8 is the most", shape.rank())));
    }
    Ok(DeclaredInput { name: name.into(), elem: weights::stored(meta.dtype)?.elem(), shape: Some(shape) })
}

/// The input with the extents of the symbols. A leading symbol stays open: the rule for batches resolves it.
fn resolved(input: &DeclaredInput, meta: Option<&TensorMeta>, symbols: &Symbols) -> DeclaredInput {
    let mut input = input.clone();
    let (Some(shape), Some(meta)) = (&mut input.shape, meta) else { return input };
    for (axis, size) in meta.sizes.iter().enumerate() {
        let plain = axis == 0 && size.symbol().is_some();
        if let Some(n) = size.value(symbols).filter(|_| !plain).and_then(|n| usize::try_from(n).ok()) {
            *shape = shape.with(axis, n);
        }
    }
    input
}

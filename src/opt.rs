//! Passes by name on the graph of any model, without compiling it.
//!
//! ```
//! use qcc::backends::Format;
//! use qcc::opt::{OptOptions, optimise};
//! let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/mnist_lenet.onnx");
//! let done = optimise(model.as_ref(), &OptOptions::new(Format::Onnx, vec!["simplify/simplify".into()]), None)?;
//! assert_eq!(done.graph.outputs().len(), 1);
//! # Ok::<_, qcc::Failure>(())
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qcc_backends::{Backend, Files, unwritten};
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::text::file;
use qcc_passes::{Context, Given, Pipeline, Rewrites, SourceFacts, Stage, ignore};

use crate::artefact::{Protected, Publication};
use crate::compiler::Compiler;
use crate::options::Options;
use crate::outcome::Failure;
use crate::precision::Precision;

/// Options of [`optimise`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OptOptions {
    /// Shapes and values of inputs.
    pub import: ImportOptions,
    /// The target that the passes are made for.
    pub backend: Arc<dyn Backend>,
    /// Names of passes (`NAME` or `STAGE/NAME`; `STAGE/*` for all of a stage), in execution order. If empty, the passes
    /// of [`Stage::Simplify`] run.
    pub passes: Vec<String>,
    /// Maximum number of simplification rewrites.
    pub stop_after: Option<usize>,
}

impl OptOptions {
    /// Options with these passes and defaults for the rest.
    pub fn new(backend: impl Into<Arc<dyn Backend>>, passes: Vec<String>) -> Self {
        OptOptions { import: ImportOptions::default(), backend: backend.into(), passes, stop_after: None }
    }
}

/// The result of [`optimise`].
#[derive(Clone, Debug)]
pub struct Optimised {
    /// The graph.
    pub graph: Graph,
    /// Why rules did not apply to nodes that match their patterns: node name, rule, reason.
    pub reasons: Vec<(String, &'static str, String)>,
    /// Warnings and notes for the user.
    pub diagnostics: Vec<Diagnostic>,
}

/// Runs passes on the graph of the model at `model`, and writes it to the `.qir` file `output` if given.
///
/// # Errors
/// If the model cannot be read, a name matches no pass or several, a pass refuses the graph, or the file cannot be
/// written.
pub fn optimise(model: &Path, options: &OptOptions, output: Option<&Path>) -> Result<Optimised, Failure> {
    let file = Model::open(model)?;
    let imported = file.import(&options.import)?;
    let mut protected = Protected::default();
    protected.add("the model", [PathBuf::from(model)]);
    protected.add("a file with weights of the model", file.files());
    let mut publication = Publication::new(protected);
    output.iter().try_for_each(|path| publication.artefact(path, &[]))?;

    let known =
        Compiler::new(Options::new([Arc::clone(&options.backend)], Precision::Float32)).pipeline(&*options.backend)?;
    let mut pipeline = Pipeline::empty();
    for name in options.passes.iter().flat_map(|name| passes_of(name, &known)) {
        // The order is that of the names, whatever their stages are.
        pipeline.push_shared(Stage::Simplify, known.get(&name)?.1);
    }
    let pipeline = if options.passes.is_empty() { &known } else { &pipeline };
    let mut graph = imported.graph;
    let mut cx = Context::new(options.backend.target());
    cx.source = SourceFacts { channels_last: file.channels_last(), given: Given::by(&graph), ..SourceFacts::default() };
    cx.rewrites = Rewrites::limited(options.stop_after);
    cx.diagnostics = imported.notes;
    pipeline.run(..=Stage::Simplify, &mut graph, &mut cx, &mut ignore)?;

    if output.is_some() {
        let mut files = publication.staged(0);
        let name = files.main().to_owned();
        file::write(&graph, files.create(&name).map_err(unwritten)?).map_err(unwritten)?;
        publication.publish()?;
    }
    let of = |n| cx.rewrites.reasons(n).iter().map(move |(rule, why)| (n, *rule, why.to_string()));
    let reasons = graph.order().into_iter().flat_map(of);
    let reasons = reasons.map(|(n, rule, why)| (graph.origin(n).to_string(), rule, why)).collect();
    Ok(Optimised { reasons, diagnostics: cx.diagnostics, graph })
}

/// The names of the passes that `asked` stands for: all of a stage for `STAGE/*`, else that name alone.
fn passes_of(asked: &str, known: &Pipeline) -> Vec<String> {
    let stage = asked.strip_suffix("/*").and_then(|name| Stage::ALL.into_iter().find(|stage| stage.name() == name));
    match stage {
        Some(stage) => known.ids().filter(|id| id.stage == stage).map(|id| id.to_string()).collect(),
        None => vec![asked.to_owned()],
    }
}

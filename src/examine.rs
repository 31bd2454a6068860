//! Reports on artefacts that exist, also on those that another tool wrote.
//!
//! ```
//! use qcc::examine::{Request, examine};
//! let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/mnist_lenet.onnx");
//! let report = examine(&Request { artefact: model.into(), ..Request::default() }).unwrap();
//! assert_eq!(report.artefacts[0].target, "onnx");
//! ```

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qcc_backends::{Backend, Format, Kind, Memory};
use qcc_frontends::{ImportOptions, Model, OPEN_SHAPE, map};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::TypeError;
use qcc_ir::eval::RunError;
use qcc_ir::ops::{Op, Transpose};
use qcc_ir::{Graph, Origin, TensorType, ValueId};
use qcc_passes::calibrate::{CalibrationTable, Method, calibrate};
use qcc_passes::quality::{self as fidelity, Compiled, Fidelity};
use qcc_passes::{Context, Given, PassError, Pipeline, SharedGraph, SourceFacts, Stage, ignore};

use crate::artefact::{Protected, Publication};
use crate::compare::Settings;
use crate::compare::interface::Wire;
use crate::compare::models::{self, Failed, Models};
use crate::compiler::Compiler;
use crate::cost::Cost;
use crate::data::Samples;
use crate::details;
use crate::digest::{self, FileDigest};
use crate::inspect::inspect;
use crate::matching::Matching;
use crate::memory;
use crate::observer::NoObserver;
use crate::options::Options;
use crate::outcome::{Failure, Report};
use crate::precision::Precision;
use crate::quality::{Quality, Validation, not_compared};
use crate::reader::Reader;
use crate::reports;

/// What is reported on.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The artefact, in a format that qcc writes.
    pub artefact: PathBuf,
    /// Shapes and values of its inputs.
    pub import: ImportOptions,
    /// The float model that it was made from, and the data to compare them on.
    pub source: Option<(PathBuf, Settings)>,
    /// The report files, as [`Options::reports`].
    pub reports: Vec<PathBuf>,
    /// The command line that the report shows.
    pub command: Option<String>,
}

/// Reports on an artefact: its cost, its operators and its quantization parameters. With a source also how far its
/// outputs and layers are from those of the source, and how its quantization ranges fit the values.
///
/// # Errors
/// If a model is refused, the data do not match it, the interfaces do not match, or a report cannot be written.
pub fn examine(request: &Request) -> Result<Report, Failed> {
    let about = |model: &Path| {
        let model = model.to_path_buf();
        move |failure: Failure| Failed { model, failure }
    };
    let artefact = &request.artefact;
    let backend = format_of(artefact).map_err(about(artefact))?;
    let mut publication = begin(request).map_err(about(artefact))?;
    let mut report = alone(request, &backend)?;
    if let Some((source, settings)) = &request.source {
        against(&mut report, artefact, source, settings, &*backend)?;
    }
    let mut write =
        || request.reports.iter().try_for_each(|path| publication.write_report(path, &reports::file(&report, path)?));
    write().map_err(about(artefact))?;
    publication.publish_reports().map_err(about(artefact))?;
    Ok(report)
}

/// The backend of the format of a file.
fn format_of(path: &Path) -> Result<Arc<dyn Backend>, Failure> {
    let unread = |e| Diagnostic::error("unreadable-file", format!("cannot read {}: {e}", path.display()));
    let format = Kind::of(&map(path).map_err(unread)?).and_then(Format::of);
    let Some(format) = format else {
        let error = Diagnostic::error("usage", format!("{} is a source, not an artefact", path.display()));
        let help = "give a file in a format that qcc writes; `--report` of a compilation reports on what it writes";
        return Err(Failure::usage(error.with_help(help)));
    };
    Ok(format.into())
}

/// Begins the report files, which must not replace a model.
fn begin(request: &Request) -> Result<Publication, Failure> {
    let mut protected = Protected::default();
    for model in std::iter::once(&request.artefact).chain(request.source.iter().map(|(source, _)| source)) {
        protected.add("a model", [model.clone()]);
        protected.add("a file with weights of a model", Model::open(model).map(|m| m.files()).unwrap_or_default());
    }
    let mut publication = Publication::new(protected);
    request.reports.iter().try_for_each(|path| publication.report(path))?;
    Ok(publication)
}

/// The report on an artefact without its source.
fn alone(request: &Request, backend: &Arc<dyn Backend>) -> Result<Report, Failed> {
    let path = &request.artefact;
    let failed = |failure| Failed { model: path.clone(), failure };
    let model = models::open(path)?;
    let import = match &request.source {
        None => request.import.clone(),
        Some((source, _)) => {
            let declared = [models::declared(path, &model)?, models::declared(source, &models::open(source)?)?];
            models::for_one(&request.import, &declared[0], &declared[1])
        }
    };
    let options =
        Options { import, command: request.command.clone(), ..Options::new([Arc::clone(backend)], Precision::Float32) };
    let mut compiled = Compiler::new(options).compile_model(&model, &mut NoObserver).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    compiled.write(0, &mut Memory::new(name)).map_err(failed)?;
    let values = details::quantized_values(compiled.graph(0));
    let mut report = compiled.finish();
    // Nothing is written, and extents are only known for the report.
    report.diagnostics.retain(|d| d.code != OPEN_SHAPE);
    let files = std::iter::once(path.clone()).chain(model.files());
    let contents = inspect(path).map_err(failed)?.graphs.into_iter().next().unwrap_or_default();
    let operators = contents.operators.len();
    // In formats whose operators have no names, nodes are called after their results.
    let named = reports::has_names(backend.target().name);
    let tensors = contents.tensors.iter().filter(|_| named).filter_map(|t| t.name.as_deref());
    let tensors: HashSet<&str> = tensors.collect();
    let arena_bytes = map(path).ok().and_then(|file| backend.arena_bytes(&file));
    for artefact in &mut report.artefacts {
        (artefact.output, artefact.operators) = (path.clone(), operators);
        artefact.output_bytes = digest::length(path, &model);
        let digest = |file: PathBuf| Some(FileDigest { digest: digest::of_file(&file)?.to_string(), file });
        artefact.digests = files.clone().filter_map(digest).collect();
        for node in &mut artefact.nodes {
            node.results = Some(node.name.clone()).filter(|name| tensors.contains(name.as_str())).into_iter().collect();
        }
        if let Some(costs) = &mut artefact.costs {
            (costs.before, costs.arena_bytes) = (None, arena_bytes);
        }
        if let Some(quality) = &mut artefact.quality {
            quality.set_values(values.clone());
        }
    }
    (report.model, report.model_bytes) = (path.clone(), digest::length(path, &model));
    report.model_digest = digest::of_file(path).map(|d| d.to_string());
    Ok(report)
}

/// Completes the report with a comparison with the source.
fn against(
    report: &mut Report,
    artefact: &Path,
    source: &Path,
    settings: &Settings,
    backend: &dyn Backend,
) -> Result<(), Failed> {
    let models = Models::open(source, artefact, settings)?;
    let of_source = |failure| Failed { model: source.into(), failure };
    let of_artefact = |failure| Failed { model: artefact.into(), failure };
    let pair = Pair::new(&models, backend).map_err(of_source)?;
    let (fidelity, table, unread) = pair.measure(&models).map_err(of_artefact)?;
    report.diagnostics.extend([models.diagnostics.clone(), unread].concat());
    report.diagnostics.extend(not_compared(&models.truth).or_else(|| not_compared(&models.other)));
    let data = models.samples.to_string();
    let synthetic = models.samples.synthetic().is_some();
    report.validation = Some(Validation { data, samples: fidelity.samples, seen_by_calibration: None, synthetic });
    (report.model, report.model_bytes) = (source.into(), models.truth_bytes);
    report.model_digest = digest::of_file(source).map(|d| d.to_string());
    report.validation_digest = digest::of_files(models.samples.files()).map(|d| d.to_string());
    let Some(told) = report.artefacts.first_mut() else { return Ok(()) };
    if let Some(costs) = &mut told.costs {
        costs.before = Some(Cost::of(&pair.float, backend.target()));
    }
    let compared = Quality::of(fidelity, &pair.artefact);
    let by_name: HashMap<&str, Option<f64>> = compared.layers.iter().map(|l| (l.name.as_str(), l.sqnr)).collect();
    let sqnr: HashMap<&str, Option<f64>> = pair.matching.layers(&pair.float, &pair.artefact, &by_name);
    for node in told.nodes.iter_mut().filter(|n| n.products > 0) {
        node.sqnr = sqnr.get(node.name.as_str()).copied().flatten();
    }
    let values = details::values(&pair.float, &table, &pair.artefact, &pair.matching.values);
    let mut quality = match told.quality.take() {
        // Operators are those of the artefact without the nodes that give it the interface of the source.
        Some(alone) => Quality {
            samples: compared.samples,
            outputs: compared.outputs,
            worst: compared.worst,
            layers: compared.layers,
            ..alone
        },
        None => compared,
    };
    quality.set_values(values);
    for output in &mut quality.outputs {
        let at = models.truth.outputs().iter().position(|o| *o.name == *output.deviation.name);
        if let Some(wire) = at.and_then(|at| models.outputs.get(at)) {
            output.deviation.name = models.other.outputs()[wire.at].name.to_string();
        }
    }
    told.quality = Some(quality);
    told.matching = Some(pair.matching.matched);
    Ok(())
}

/// A source and an artefact as graphs of the same inputs and outputs, and the values that they have in common.
struct Pair {
    /// The simplified source.
    source: Graph,
    /// The source, lowered for the format of the artefact.
    float: Graph,
    /// The artefact, with the inputs and outputs of the source.
    artefact: Graph,
    matching: Matching,
    joint: SharedGraph,
}

impl Pair {
    fn new(models: &Models, backend: &dyn Backend) -> Result<Pair, Failure> {
        let mut source = models.truth.clone();
        run(&mut source, backend, Stage::Simplify, Stage::Simplify)?;
        if Given::by(&source) != Given::Nothing {
            let error = Diagnostic::error("usage", "the source is quantized itself");
            return Err(Failure::usage(error.with_help("give the float model that the artefact was made from")));
        }
        let mut float = source.clone();
        run(&mut float, backend, Stage::Lower, Stage::Lower)?;
        let mut artefact = with_interface(&models.other, &models.truth, &models.inputs, &models.outputs)
            .map_err(|e| Failure::from(PassError::from(e)))?;
        run(&mut artefact, backend, Stage::Simplify, Stage::Quantize)?;
        let matching = Matching::new(&float, &mut artefact).map_err(PassError::from)?;
        let mut joint = SharedGraph::new(&source, &[&float]).map_err(PassError::from)?;
        memory::limit_evaluations(&mut joint)?;
        Ok(Pair { source, float, artefact, matching, joint })
    }

    /// The comparison, the statistics of the values of the source, and warnings for samples that cannot be read.
    fn measure(&self, models: &Models) -> Result<(Fidelity, CalibrationTable, Vec<Diagnostic>), Failure> {
        let failed = |e: RunError| Diagnostic::error("evaluation", format!("a model fails on a sample: {e}"));
        let samples: &Samples = &models.samples;
        let reader = Reader::new(samples);
        let read = |i| reader.read(i);
        let compiled =
            [Compiled { place: 0, float: &self.float, graph: &self.artefact, values: &self.matching.results }];
        let all = fidelity::Samples { count: samples.len(), read: &read };
        let found = fidelity::compare(&self.joint, &self.source, &compiled, models.hints, &all).map_err(failed)?;
        let fidelity = found.into_iter().next().unwrap_or_default();
        let mut seen = |_| ControlFlow::Continue(());
        let tables = calibrate(&self.joint, &[&self.float], Method::MinMax, samples.len(), read, &mut seen);
        let table = tables.map_err(failed)?.into_iter().next().unwrap_or_default();
        let unread = reader.unread(fidelity.samples == 0)?;
        Ok((fidelity, table, unread))
    }
}

/// Runs the passes of some stages that keep the meaning of a model.
fn run(g: &mut Graph, backend: &dyn Backend, first: Stage, last: Stage) -> Result<(), Failure> {
    let pipeline = Pipeline::new(&qcc_passes::Settings::default());
    for stage in Stage::ALL.into_iter().filter(|s| (first..=last).contains(s)) {
        let mut cx = Context::new(backend.target());
        cx.source = SourceFacts { given: Given::by(g), ..SourceFacts::default() };
        pipeline.run(stage..=stage, g, &mut cx, &mut ignore)?;
    }
    Ok(())
}

/// The graph `g` with the inputs and outputs of `like`: their order, their axes, and their names.
fn with_interface(g: &Graph, like: &Graph, inputs: &[Wire], outputs: &[Wire]) -> Result<Graph, TypeError> {
    let mut made = Graph::new(g.name.as_str());
    made.metadata.clone_from(&g.metadata);
    let mut places: HashMap<ValueId, ValueId> = HashMap::new();
    let own: HashMap<usize, (ValueId, &Wire)> = g.inputs().zip(inputs).map(|(v, wire)| (wire.at, (v, wire))).collect();
    let mut given = Vec::new();
    for (at, like_v) in like.inputs().enumerate() {
        let Some(&(v, wire)) = own.get(&at) else { continue };
        let ty = TensorType::new(g.ty(v).elem.clone(), like.ty(like_v).shape.clone());
        given.push((v, wire, made.add_input(like.name(like_v).cloned().unwrap_or_default(), ty)));
    }
    for (v, wire, input) in given {
        places.insert(v, moved(&mut made, input, wire)?);
    }
    for n in g.order() {
        let operands: Vec<ValueId> = g.operands(n).iter().filter_map(|v| places.get(v).copied()).collect();
        let node = match g.op(n).clone() {
            Op::Input(_) => continue,
            Op::Const(c) => made.add_const(c.value, g.origin(n).clone()).node,
            op => made.add_typed(op, &operands, g.result_types(n), g.origin(n).clone())?,
        };
        for (v, copy) in g.results(n).zip(made.results(node)) {
            places.insert(v, copy);
            if let Some(name) = g.name(v) {
                made.set_name(copy, name.clone());
            }
        }
    }
    for (output, wire) in like.outputs().iter().zip(outputs) {
        let Some(&found) = places.get(&g.outputs()[wire.at].value) else { continue };
        let value = moved(&mut made, found, wire)?;
        made.add_output(output.name.clone(), value);
    }
    Ok(made)
}

/// A value with the axes of its counterpart.
fn moved(g: &mut Graph, v: ValueId, wire: &Wire) -> Result<ValueId, TypeError> {
    match &wire.perm {
        Some(perm) => g.add1(Transpose { perm: perm.clone() }, &[v], Origin::none()),
        None => Ok(v),
    }
}

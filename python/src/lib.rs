//! The module `qcc._qcc`: what the Python package takes from the compiler. `qcc/_qcc.pyi` describes it for Python.

use std::path::PathBuf;

use pyo3::prelude::*;
use qcc::compare::Failed;
use qcc::frontends::Model;
use qcc::ir::Dim;
use qcc::ir::diagnostic::Diagnostic;
use qcc::{Data, Failure, cli, json};

mod errors;
mod outcome;
mod watch;

use errors::{Message, failed, messages};
use outcome::Outcome;
use watch::Watch;

/// Arrays in .npy files, by name.
type Arrays = Vec<(String, PathBuf)>;

/// An option: name, aliases, the name of the value, whether it may be given several times, help.
type Described = (String, Vec<String>, Option<String>, bool, String);

/// A comparison: JSON, the table as text, warnings, and the exception for requirements that are not met.
type Compared = (String, String, Vec<Message>, Option<Py<PyAny>>);

/// Runs a command line, and returns the exit code.
#[pyfunction]
fn main(py: Python<'_>, line: Vec<String>) -> u8 {
    py.detach(|| cli::run(line))
}

/// The options of a command.
#[pyfunction]
fn options(command: Option<&str>) -> Vec<Described> {
    let all = cli::options(command).unwrap_or_default();
    all.into_iter().map(|o| (o.name, o.aliases, o.value, o.repeats, o.help)).collect()
}

/// The inputs of a model: names, and extents as numbers or names, if the rank is known. `name` is what messages call
/// the model.
#[pyfunction]
fn inputs(py: Python<'_>, model: PathBuf, name: PathBuf) -> PyResult<Vec<(String, Option<Vec<String>>)>> {
    let declared = py.detach(|| Model::open(&model).and_then(|m| m.inputs()).map_err(Failure::from));
    let declared = declared.map_err(|failure| failed(py, &failure, &name))?;
    let shape = |dims: &[Dim]| dims.iter().map(ToString::to_string).collect();
    Ok(declared.into_iter().map(|input| (input.name, input.shape.map(|s| shape(s.dims())))).collect())
}

/// Compiles a model. `name` is what messages call it; `data` and `validate` replace those of the command line.
#[pyfunction]
#[pyo3(signature = (line, name, data, validate, command, observer))]
fn compile(
    py: Python<'_>,
    line: Vec<String>,
    name: Option<PathBuf>,
    data: Option<Arrays>,
    validate: Option<Arrays>,
    command: Option<String>,
    observer: Option<Py<PyAny>>,
) -> PyResult<Outcome> {
    let compilation = cli::compilation(line).and_then(|mut compilation| {
        let options = &mut compilation.options;
        if let (Some(arrays), Some(calibration)) = (data, &mut options.calibration) {
            calibration.data = mapped(arrays)?;
        }
        if let Some(arrays) = validate {
            options.validation = Some(mapped(arrays)?);
        }
        options.model_name.clone_from(&name);
        options.command = command.filter(|_| !options.reports.is_empty());
        Ok(compilation)
    });
    let compilation = compilation.map_err(|failure| failed(py, &failure, "".as_ref()))?;
    let model = name.unwrap_or_else(|| compilation.model.clone());
    let mut watch = Watch::new(observer, compilation.print_after.clone());
    let done = py.detach(|| compilation.run(&mut watch));
    watch.raised()?;
    match done {
        Ok(report) => Ok(Outcome { report }),
        Err(failure) => Err(failed(py, &failure, &model)),
    }
}

/// Compares two models. `names` are what messages call them.
#[pyfunction]
#[pyo3(signature = (line, names, data, observer))]
fn compare(
    py: Python<'_>,
    line: Vec<String>,
    names: [PathBuf; 2],
    data: Option<Arrays>,
    observer: Option<Py<PyAny>>,
) -> PyResult<Compared> {
    let compared = cli::comparison(line).and_then(|mut compared| {
        if let Some(arrays) = data {
            compared.settings.data = mapped(arrays)?;
        }
        Ok(compared)
    });
    let compared = compared.map_err(|failure| failed(py, &failure, "".as_ref()))?;
    let mut watch = Watch::new(observer, Vec::new());
    let done = py.detach(|| qcc::compare::compare(&compared.truth, &compared.other, &compared.settings, &mut watch));
    watch.raised()?;
    let name = |model: &PathBuf| &names[usize::from(*model == compared.other)];
    let mut done = done.map_err(|Failed { model, failure }| failed(py, &failure, name(&model)))?;
    let unmet = compared.unmet(&done);
    let unmet = (!unmet.is_empty()).then(|| errors::gate(py, &unmet, &names[1]).map(|e| e.into_value(py).into()));
    [done.truth, done.other] = names.clone();
    let text = cli::comparison_table(&done);
    Ok((shown(py, json::pretty(&done))?, text, messages(&done.diagnostics), unmet.transpose()?))
}

/// Reports on an artefact.
#[pyfunction]
#[pyo3(signature = (line, data, command))]
fn report(py: Python<'_>, line: Vec<String>, data: Option<Arrays>, command: Option<String>) -> PyResult<Outcome> {
    let request = cli::examination(line).and_then(|mut request| {
        if let (Some(arrays), Some((_, settings))) = (data, &mut request.source) {
            settings.data = mapped(arrays)?;
        }
        request.command = command;
        Ok(request)
    });
    let request = request.map_err(|failure| failed(py, &failure, "".as_ref()))?;
    match py.detach(|| qcc::examine::examine(&request)) {
        Ok(report) => Ok(Outcome { report }),
        Err(Failed { model, failure }) => Err(failed(py, &failure, &model)),
    }
}

/// The contents of a model: JSON, and text.
#[pyfunction]
fn inspect(py: Python<'_>, line: Vec<String>, model: PathBuf) -> PyResult<(String, String)> {
    let contents = py.detach(|| cli::inspection(line)).map_err(|failure| failed(py, &failure, &model))?;
    Ok((shown(py, json::pretty(&contents))?, contents.to_string()))
}

/// The differences of two files: JSON, text, and whether there are none.
#[pyfunction]
fn diff(py: Python<'_>, line: Vec<String>, before: PathBuf) -> PyResult<(String, String, bool)> {
    let changes = py.detach(|| cli::differences(line)).map_err(|failure| failed(py, &failure, &before))?;
    Ok((shown(py, json::pretty(&changes))?, changes.to_string(), changes.equal))
}

/// Maps the files into memory.
fn mapped(arrays: Arrays) -> Result<Data, Failure> {
    let map = |(name, path): (String, PathBuf)| match qcc::frontends::map(&path) {
        Ok(bytes) => Ok((name, bytes)),
        Err(e) => Err(Failure::from(Diagnostic::error("unreadable-data", format!("cannot read {name}: {e}")))),
    };
    Ok(Data::Arrays(arrays.into_iter().map(map).collect::<Result<_, _>>()?))
}

fn shown<E: std::fmt::Display>(py: Python<'_>, text: Result<String, E>) -> PyResult<String> {
    let failure = |e: E| Failure::from(Diagnostic::error("report", e.to_string()));
    text.map_err(|e| failed(py, &failure(e), "".as_ref()))
}

#[pymodule]
fn _qcc(m: &Bound<'_, PyModule>) -> PyResult<()> {
    cli::hush_contained_panics();
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<Outcome>()?;
    m.add_function(wrap_pyfunction!(main, m)?)?;
    m.add_function(wrap_pyfunction!(options, m)?)?;
    m.add_function(wrap_pyfunction!(inputs, m)?)?;
    m.add_function(wrap_pyfunction!(compile, m)?)?;
    m.add_function(wrap_pyfunction!(compare, m)?)?;
    m.add_function(wrap_pyfunction!(report, m)?)?;
    m.add_function(wrap_pyfunction!(inspect, m)?)?;
    m.add_function(wrap_pyfunction!(diff, m)?)
}

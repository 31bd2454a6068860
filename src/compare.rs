//! How two models compare: both are evaluated on the same samples.

use std::path::{Path, PathBuf};

use qcc_backends::Backend;
use qcc_frontends::{ImportOptions, Imported, Model};
use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::error::EvalError;
use qcc_ir::eval::{Executor, evaluate_node};
use qcc_ir::ops::{Cast, Extents, Op, Transpose};
use qcc_ir::{Elem, Graph, Shape, Tensor, TensorType, ValueId};
use qcc_passes::Context;
use qcc_passes::fidelity::Distance;
use qcc_passes::layout::ImageOrder;
use qcc_passes::ultralytics::normalize_boxes;
use rayon::prelude::*;
use serde::Serialize;

use crate::compiler::Failure;
use crate::data::{Preparation, Samples};
use crate::options::Data;
use crate::quality::Deviation;

/// What is wanted of a comparison.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Shapes and values of inputs; each counts for the models that have an input of its name.
    pub import: ImportOptions,
    /// What both models are evaluated on.
    pub data: Data,
    /// Number of samples at most.
    pub samples: Option<usize>,
    /// What pictures are made into, where the models do not say.
    pub preparation: Preparation,
}

/// How a model compares with another one, which counts as the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The model that counts as the truth.
    pub truth: PathBuf,
    /// The other one.
    pub other: PathBuf,
    /// What both were evaluated on.
    pub data: String,
    /// Samples that could be read.
    pub samples: usize,
    /// Each output.
    pub outputs: Vec<Match>,
    /// What the user should know; no errors.
    #[serde(skip)]
    pub diagnostics: Vec<Diagnostic>,
}

/// How an output compares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Match {
    /// How far the other model's output is from this one.
    #[serde(flatten)]
    pub deviation: Deviation,
    /// Its name in the other model.
    pub other: String,
    /// Share of rows whose largest element is the same one, 0 to 1; of vectors and matrices of real numbers.
    pub top1: Option<f64>,
}

impl Comparison {
    /// The lowest SQNR of any output, in dB.
    pub fn worst_sqnr(&self) -> Option<f64> {
        self.outputs.iter().map(|o| o.deviation.sqnr).reduce(f64::min)
    }
}

/// Why models cannot be compared, and the model that it is about.
#[derive(Debug)]
pub struct Failed {
    /// The model file.
    pub model: PathBuf,
    /// What is wrong.
    pub failure: Failure,
}

/// Evaluates both models on the data. Inputs and outputs are matched by name, else by their place; where an image is
/// N,C,H,W in one model and N,H,W,C in the other, its axes are moved. Boxes of Ultralytics' detectors, which are pixels
/// in other formats and fractions of the picture in TFLite, are compared as fractions.
///
/// # Errors
/// Where a model is refused, the data do not fit the first one, or the models' interfaces do not fit each other.
pub fn compare(truth: &Path, other: &Path, settings: &Settings) -> Result<Comparison, Failed> {
    let (a, b) = (open(truth)?, open(other)?);
    check_names(truth, [&a, &b], &settings.import)?;
    let order = [a.channels_last(), b.channels_last()];
    let (a, b) = (import(truth, &a, settings)?, import(other, &b, settings)?);
    let mut diagnostics = [a.notes, b.notes].concat();
    let (mut a, mut b) = (a.graph, b.graph);
    match order {
        [false, true] => like_tflite(truth, &mut a)?,
        [true, false] => like_tflite(other, &mut b)?,
        _ => {}
    }
    let about = |model: &Path| {
        let model = model.to_path_buf();
        move |failure: Failure| Failed { model, failure }
    };
    let samples = bind(&a, &b, settings).map_err(about(truth))?;
    let inputs = match_inputs(&a, &b, &mut diagnostics).map_err(about(other))?;
    let outputs = match_outputs(&a, &b, &mut diagnostics).map_err(about(other))?;
    let (runs, unread) = evaluate([&a, &b], &inputs, &outputs, &samples).map_err(about(other))?;
    if runs.is_empty() {
        let error = Diagnostic::error("no-samples", format!("none of {} samples can be read", samples.len()));
        return Err(about(truth)(unread.into_iter().take(3).fold(error, |e, d| e.with_note(d.message)).into()));
    }
    diagnostics.extend(unread);
    let matched = outputs.iter().enumerate().map(|(i, wire)| {
        let mut distance = Distance::default();
        let mut rows: Option<(usize, usize)> = None;
        for run in &runs {
            distance.add(run[i].0);
            if let Some((same, all)) = run[i].1 {
                let sum = rows.get_or_insert((0, 0));
                *sum = (sum.0 + same, sum.1 + all);
            }
        }
        Match {
            deviation: Deviation::of((a.outputs()[i].name.to_string(), distance)),
            other: b.outputs()[wire.at].name.to_string(),
            top1: rows.map(|(same, all)| same as f64 / all.max(1) as f64),
        }
    });
    Ok(Comparison {
        truth: truth.into(),
        other: other.into(),
        data: samples.to_string(),
        samples: runs.len(),
        outputs: matched.collect(),
        diagnostics,
    })
}

fn open(path: &Path) -> Result<Model, Failed> {
    Model::open(path).map_err(|all| Failed { model: path.into(), failure: all.into() })
}

/// Fails where an option names an input that neither model has.
fn check_names(truth: &Path, models: [&Model; 2], import: &ImportOptions) -> Result<(), Failed> {
    let mut names = Vec::new();
    for model in models {
        let inputs = model.inputs().map_err(|all| Failed { model: truth.into(), failure: all.into() })?;
        names.extend(inputs.into_iter().map(|i| i.name));
    }
    let asked = import.shapes.iter().map(|s| &s.0).chain(import.values.iter().map(|v| &v.0));
    match asked.into_iter().find(|name| !names.contains(name)) {
        None => Ok(()),
        Some(odd) => {
            let error = Diagnostic::error("unknown-input", format!("neither model has an input {odd}"));
            Err(Failed { model: truth.into(), failure: Failure::usage(error.with_help(names.join(", "))) })
        }
    }
}

fn import(path: &Path, model: &Model, settings: &Settings) -> Result<Imported, Failed> {
    let failed = |all: Vec<Diagnostic>| Failed { model: path.into(), failure: all.into() };
    let names: Vec<String> = model.inputs().map_err(failed)?.into_iter().map(|i| i.name).collect();
    let mut options = settings.import.clone();
    options.shapes.retain(|s| names.contains(&s.0));
    options.values.retain(|v| names.contains(&v.0));
    model.import(&options).map_err(failed)
}

/// Gives a detector the boxes that its TFLite form has.
fn like_tflite(path: &Path, g: &mut Graph) -> Result<(), Failed> {
    let mut cx = Context { target: Backend::Tflite.target(), diagnostics: Vec::new() };
    let passes = [normalize_boxes(ImageOrder::Nhwc)];
    let done = qcc_passes::run(&passes, g, &mut cx, &mut |_, _| {});
    done.map_err(|e| Failed { model: path.into(), failure: e.into() })
}

/// The data as real inputs of the first model.
fn bind(a: &Graph, b: &Graph, settings: &Settings) -> Result<Samples, Failure> {
    let mut interface = Graph::new(a.name.as_str());
    for v in a.inputs() {
        interface.add_input(name(a, v), a.ty(v).real());
    }
    let dataset = settings.data.open(settings.samples).map_err(|e| Diagnostic::from(&e))?;
    let metadata = if a.metadata.is_empty() { &b.metadata } else { &a.metadata };
    Ok(dataset.bind(&interface, settings.preparation.resolve(metadata)).map_err(|e| Diagnostic::from(&e))?)
}

fn name(g: &Graph, v: ValueId) -> &str {
    g.name(v).map_or("", |n| n)
}

/// The place of a counterpart, and the order that an image's axes go into.
#[derive(Clone, Debug, PartialEq)]
struct Wire {
    at: usize,
    perm: Option<Extents>,
}

/// An input or output: its name and type.
type End<'g> = (&'g str, &'g TensorType);

/// What becomes of an image that goes from one shape to another.
fn order(from: &Shape, to: &Shape) -> Option<Option<Extents>> {
    let rank = from.rank();
    if from == to {
        return Some(None);
    }
    let last: Extents = std::iter::once(0).chain(2..rank).chain((rank > 1).then_some(1)).collect();
    let first: Extents = std::iter::once(0).chain(rank.checked_sub(1)).chain(1..rank.saturating_sub(1)).collect();
    let fits = |perm: &Extents| rank > 2 && perm.iter().map(|&a| from.dims()[a].clone()).collect::<Shape>() == *to;
    [last, first].into_iter().find(fits).map(Some)
}

/// True where nothing tells which axis has the channels, and the axes do matter.
fn ambiguous(shape: &Shape) -> bool {
    let dims = shape.dims();
    dims.len() > 2 && dims[1..].windows(2).all(|w| w[0] == w[1]) && dims[1].known() != Some(1)
}

/// For each of `ends` its counterpart `among` others and what that has to become: by name where all names are there, else
/// by place.
fn counterparts(ends: &[End<'_>], among: &[End<'_>]) -> Option<Vec<Wire>> {
    let by_name: Option<Vec<usize>> = ends.iter().map(|e| among.iter().position(|a| a.0 == e.0)).collect();
    let mut wires: Vec<Wire> = Vec::new();
    for (i, end) in ends.iter().enumerate() {
        let free = |at: &usize| !wires.iter().any(|w| w.at == *at);
        let places = match &by_name {
            Some(places) => vec![places[i]],
            // In its own place, else in the first that fits.
            None => std::iter::once(i).chain(0..among.len()).filter(|&at| at < among.len()).collect(),
        };
        let fit = |at: usize| Some(Wire { at, perm: order(&among[at].1.shape, &end.1.shape)? });
        wires.push(places.into_iter().filter(free).find_map(fit)?);
    }
    Some(wires)
}

fn listed(ends: &[End<'_>]) -> String {
    ends.iter().map(|(name, ty)| format!("{name} {}", ty.real())).collect::<Vec<_>>().join(", ")
}

fn unlike(kind: &str, a: &[End<'_>], b: &[End<'_>]) -> Diagnostic {
    Diagnostic::error("interface-mismatch", format!("the {kind} of the models do not fit each other"))
        .with_note(format!("one has {}", listed(a)))
        .with_note(format!("the other has {}", listed(b)))
        .with_help("give both the same shapes: --shape NAME=DIMS")
}

fn warn_ambiguous(kind: &str, ends: &[End<'_>], wires: &[Wire], diagnostics: &mut Vec<Diagnostic>) {
    for (name, ty) in ends.iter().zip(wires).filter(|(e, w)| w.perm.is_none() && ambiguous(&e.1.shape)).map(|(e, _)| e)
    {
        let message = format!("{kind} {name} is {}: its axes cannot be told apart and are taken as they are", ty.shape);
        diagnostics.push(Diagnostic::warning("ambiguous-axes", message));
    }
}

/// For each input of `b`, where it comes from among those of `a`.
fn match_inputs(a: &Graph, b: &Graph, diagnostics: &mut Vec<Diagnostic>) -> Result<Vec<Wire>, Failure> {
    let ends = |g| -> Vec<End<'_>> { Graph::inputs(g).map(|v| (name(g, v), g.ty(v))).collect() };
    let (from, to) = (ends(a), ends(b));
    let wires = (from.len() == to.len()).then(|| counterparts(&to, &from)).flatten();
    let wires = wires.ok_or_else(|| unlike("inputs", &from, &to))?;
    warn_ambiguous("input", &to, &wires, diagnostics);
    Ok(wires)
}

/// For each output of `a`, its counterpart in `b`.
fn match_outputs(a: &Graph, b: &Graph, diagnostics: &mut Vec<Diagnostic>) -> Result<Vec<Wire>, Failure> {
    let ends = |g: &'_ Graph| g.outputs().iter().map(|o| (o.name.to_string(), o.value)).collect::<Vec<_>>();
    let (from, to) = (ends(a), ends(b));
    let from: Vec<End<'_>> = from.iter().map(|(n, v)| (n.as_str(), a.ty(*v))).collect();
    let to: Vec<End<'_>> = to.iter().map(|(n, v)| (n.as_str(), b.ty(*v))).collect();
    let wires = counterparts(&from, &to).ok_or_else(|| unlike("outputs", &from, &to))?;
    warn_ambiguous("output", &from, &wires, diagnostics);
    Ok(wires)
}

/// Of an output and one sample: the distance, and how many rows agree of how many.
type Found = (Distance, Option<(usize, usize)>);

/// Evaluates both models on each sample. Samples that cannot be read are warnings.
fn evaluate(
    [a, b]: [&Graph; 2],
    inputs: &[Wire],
    outputs: &[Wire],
    samples: &Samples,
) -> Result<(Vec<Vec<Found>>, Vec<Diagnostic>), Failure> {
    let (first, second) = (Executor::new(a), Executor::new(b));
    let failed = |e: &dyn std::fmt::Display| {
        Failure::from(Diagnostic::error("evaluation", format!("a model fails on a sample: {e}")))
    };
    let one = |i: usize| -> Result<Result<Vec<Found>, Box<Diagnostic>>, Failure> {
        let sample = match samples.get(i) {
            Ok(sample) => sample,
            Err(e) => return Ok(Err(Box::new(Diagnostic { severity: Severity::Warning, ..Diagnostic::from(&e) }))),
        };
        let as_is = |i| Wire { at: i, perm: None };
        let own: Vec<Wire> = (0..sample.len()).map(as_is).collect();
        let want =
            first.run(&fed(a, &sample, &own).map_err(|e| failed(&e))?, &mut |_, _| {}).map_err(|e| failed(&e))?;
        let have =
            second.run(&fed(b, &sample, inputs).map_err(|e| failed(&e))?, &mut |_, _| {}).map_err(|e| failed(&e))?;
        let found = want.iter().zip(outputs).map(|(truth, wire)| {
            let other = moved(&have[wire.at], wire.perm.as_ref())?;
            Ok((Distance::of(&truth.reals(), &other.reals()), agreeing(truth, &other)))
        });
        let found: Result<Vec<Found>, EvalError> = found.collect();
        Ok(Ok(found.map_err(|e| failed(&e))?))
    };
    let all = (0..samples.len()).into_par_iter().map(one).collect::<Result<Vec<_>, Failure>>()?;
    let (mut runs, mut unread) = (Vec::new(), Vec::new());
    for result in all {
        match result {
            Ok(run) => runs.push(run),
            Err(warning) => unread.push(*warning),
        }
    }
    Ok((runs, unread))
}

fn moved(t: &Tensor, perm: Option<&Extents>) -> Result<Tensor, EvalError> {
    let Some(perm) = perm else { return Ok(t.clone()) };
    let op = Op::from(Transpose { perm: perm.clone() });
    let mut ty = op.infer(&[&t.ty().real()])?.swap_remove(0);
    ty.elem = t.ty().elem.clone();
    Ok(evaluate_node(&op, &[t], &[ty])?.swap_remove(0))
}

/// A sample as the inputs of a graph, in the elements that it declares.
fn fed(g: &Graph, sample: &[Tensor], wires: &[Wire]) -> Result<Vec<Tensor>, EvalError> {
    let one = |(v, wire): (ValueId, &Wire)| {
        let t = moved(&sample[wire.at], wire.perm.as_ref())?;
        match (&g.ty(v).elem, &t.ty().elem) {
            (to, from) if to == from => Ok(t),
            (Elem::Grid(grid), Elem::F32) => Ok(t.quantized(grid)),
            (to, _) if to.grid().is_none() => {
                let ty = t.ty().with_elem(to.clone());
                Ok(evaluate_node(&Cast { to: to.clone() }.into(), &[&t], &[ty])?.swap_remove(0))
            }
            _ => Ok(t),
        }
    };
    g.inputs().zip(wires).map(one).collect()
}

/// Rows of real numbers whose largest element has the same place, and all rows.
fn agreeing(a: &Tensor, b: &Tensor) -> Option<(usize, usize)> {
    let dims = a.dims();
    let classes = *dims.last()?;
    if dims.len() > 2 || classes < 2 || a.ty().elem.real() != Elem::F32 {
        return None;
    }
    let (x, y) = (a.reals(), b.reals());
    let rows = x.chunks_exact(classes).zip(y.chunks_exact(classes));
    Some((rows.filter(|(x, y)| largest(x) == largest(y)).count(), x.len() / classes))
}

/// The place of the first of the largest elements.
fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(dims: &[usize]) -> TensorType {
        TensorType::f32(dims)
    }

    #[test]
    fn images_are_matched_in_either_order() {
        let (first, last) = (Shape::known(&[1, 3, 4, 5]), Shape::known(&[1, 4, 5, 3]));
        let perm = |p: &[usize]| Some(Some(Extents::from_slice(p)));
        assert_eq!(order(&first, &last), perm(&[0, 2, 3, 1]));
        assert_eq!(order(&last, &first), perm(&[0, 3, 1, 2]));
        assert_eq!(order(&first, &first), Some(None));
        assert_eq!(order(&first, &Shape::known(&[1, 5, 4, 3])), None);
        assert_eq!(order(&Shape::known(&[2, 3]), &Shape::known(&[3, 2])), None);
        assert_eq!(order(&Shape::scalar(), &Shape::known(&[1])), None);
    }

    #[test]
    fn ends_are_paired_by_name_or_place() {
        let (flat, image, last) = (ty(&[1, 10]), ty(&[1, 3, 4, 5]), ty(&[1, 4, 5, 3]));
        let places =
            |a: &[End<'_>], b: &[End<'_>]| counterparts(a, b).map(|w| w.iter().map(|w| w.at).collect::<Vec<_>>());
        assert_eq!(places(&[("x", &flat), ("y", &image)], &[("y", &last), ("x", &flat)]), Some(vec![1, 0]));
        assert_eq!(places(&[("x", &flat), ("y", &flat)], &[("a", &flat), ("b", &flat)]), Some(vec![0, 1]));
        assert_eq!(places(&[("x", &flat), ("y", &image)], &[("a", &last), ("b", &flat)]), Some(vec![1, 0]));
        // A name that is there must fit.
        assert_eq!(places(&[("x", &flat)], &[("x", &image), ("y", &flat)]), None);
        assert_eq!(places(&[("x", &flat), ("y", &flat)], &[("a", &flat)]), None);
    }

    #[test]
    fn rows_agree_on_their_largest_element() {
        let t = |dims: &[usize], values: &[f32]| Tensor::from_vec(Shape::known(dims), values.to_vec());
        let a = t(&[2, 3], &[0.0, 2.0, 1.0, 5.0, 4.0, 5.0]);
        assert_eq!(agreeing(&a, &t(&[2, 3], &[0.0, 9.0, 1.0, 0.0, 0.0, 1.0])), Some((1, 2)));
        assert_eq!(agreeing(&t(&[1], &[1.0]), &t(&[1], &[1.0])), None);
        assert_eq!(agreeing(&t(&[1, 2, 1], &[1.0, 0.0]), &t(&[1, 2, 1], &[1.0, 0.0])), None);
    }
}

//! Values that keep from run to run: variable tensors, and variables that operators read and assign.

use qcc_formats::tflite::{BuiltinOperator as B, Model, Operator, Options, SubGraph, Tensor as Entry, VarHandle};
use rustc_hash::{FxHashMap, FxHashSet};

use super::{importer, types};
use crate::build::states::ZEROS;
use crate::refusal::Refusal;

/// A value that the model keeps from run to run. It becomes a graph input after those of the file; its value for the next
/// run becomes an output.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The variable tensor, or the first handle of the variable.
    pub(super) tensor: i32,
    /// The tensor that has its type.
    pub(super) typed: i32,
    /// Its name, which no input has.
    pub(super) name: String,
    /// What the first run takes.
    pub(super) first: String,
}

/// The values that the main subgraph keeps. A variable tensor that is the result of an operator starts from that value in each
/// run.
///
/// # Errors
/// A subgraph that sets initial values in a way that is not known.
pub(super) fn states(model: &Model, main: &SubGraph, taken: &[String]) -> Result<Vec<State>, Refusal> {
    let mut taken: FxHashSet<String> = taken.iter().cloned().collect();
    let mut unique = |own: &str, tensor: i32| {
        let own = if own.is_empty() { format!("state_{tensor}") } else { own.to_owned() };
        let name = if taken.contains(&own) { format!("{own}_{tensor}") } else { own };
        taken.insert(name.clone());
        name
    };
    let read: FxHashSet<i32> = main.operators.iter().flat_map(|o| &o.inputs).copied().collect();
    let set: FxHashSet<i32> = main.operators.iter().flat_map(|o| &o.outputs).copied().collect();
    let kept = |&t: &i32| {
        let entry = importer::entry(main, t).ok().filter(|e| e.is_variable && read.contains(&t));
        let entry = entry.filter(|_| !set.contains(&t));
        entry.is_some_and(|e| types::bytes(e, model).is_ok_and(|data| data.is_none()))
    };
    let count = i32::try_from(main.tensors.len()).unwrap_or(i32::MAX);
    let tensors = (0..count).filter(kept).map(|tensor| {
        let name = unique(importer::entry(main, tensor).map_or("", |e| &e.name), tensor);
        State { tensor, typed: tensor, name, first: ZEROS.into() }
    });
    let mut states: Vec<State> = tensors.collect();
    let initial = initial(model, main)?;
    let handles = handles(model, main);
    let variables: FxHashMap<i32, &VarHandle> = named(model, main).collect();
    let mut known = FxHashSet::default();
    for operator in main.operators.iter().filter(|o| model.builtin(o) == Some(B::READ_VARIABLE)) {
        let (Some(handle), Some(&typed)) = (operator.inputs.first(), operator.outputs.first()) else { continue };
        let Some(&tensor) = handles.get(handle).filter(|&&tensor| known.insert(tensor)) else { continue };
        let variable = variables.get(&tensor).copied();
        let name = unique(variable.map_or("", |v| &v.shared_name), tensor);
        let first = variable.and_then(|v| initial.get(&(&*v.container, &*v.shared_name)));
        states.push(State { tensor, typed, name, first: first.cloned().unwrap_or_else(|| ZEROS.into()) });
    }
    Ok(states)
}

/// The first handle of its variable for each handle of a subgraph.
pub(super) fn handles(model: &Model, graph: &SubGraph) -> FxHashMap<i32, i32> {
    let mut first: FxHashMap<(&str, &str), i32> = FxHashMap::default();
    named(model, graph)
        .map(|(tensor, v)| (tensor, *first.entry((&v.container, &v.shared_name)).or_insert(tensor)))
        .collect()
}

/// The handles of a subgraph, and their variables.
fn named<'m>(model: &'m Model, graph: &'m SubGraph) -> impl Iterator<Item = (i32, &'m VarHandle)> {
    graph.operators.iter().filter_map(|o| Some((*o.outputs.first()?, variable(model, o)?)))
}

/// The variable whose handle an operator gives.
fn variable<'m>(model: &Model, operator: &'m Operator) -> Option<&'m VarHandle> {
    match &operator.options {
        Options::VarHandle(variable) if model.builtin(operator) == Some(B::VAR_HANDLE) => Some(variable),
        _ => None,
    }
}

/// What the variables have before the first run, by container and name: constants that a subgraph assigns.
fn initial<'m>(model: &'m Model, main: &SubGraph) -> Result<FxHashMap<(&'m str, &'m str), String>, Refusal> {
    let mut all = FxHashMap::default();
    for operator in main.operators.iter().filter(|o| model.builtin(o) == Some(B::CALL_ONCE)) {
        let Options::CallOnce(o) = &operator.options else { return Err(unknown("CALL_ONCE without a subgraph")) };
        let graph = usize::try_from(o.subgraph).ok().and_then(|i| model.subgraphs.get(i));
        let graph = graph.ok_or_else(|| Refusal::Invalid(format!("there is no subgraph {}", o.subgraph)))?;
        let mut known: FxHashMap<i32, &VarHandle> = FxHashMap::default();
        for operator in &graph.operators {
            match (model.builtin(operator), operator.inputs.as_slice(), operator.outputs.as_slice()) {
                (Some(B::VAR_HANDLE), _, &[handle]) => known.extend(variable(model, operator).map(|v| (handle, v))),
                (Some(B::ASSIGN_VARIABLE), &[handle, value], _) => {
                    let v = known.get(&handle).ok_or_else(|| unknown("a variable without a handle"))?;
                    all.insert((&*v.container, &*v.shared_name), value_of(model, importer::entry(graph, value)?)?);
                }
                (other, ..) => {
                    return Err(unknown(&other.map_or_else(|| "no operator".into(), |code| code.to_string())));
                }
            }
        }
    }
    Ok(all)
}

fn unknown(what: &str) -> Refusal {
    Refusal::Unsupported(format!("initial values of variables by {what} are not supported"))
}

/// A constant in words: the number that all of its elements are, or its tensor.
fn value_of(model: &Model, entry: &Entry) -> Result<String, Refusal> {
    let data = types::bytes(entry, model)?.ok_or_else(|| unknown("computed values"))?;
    let numbers = types::tensor(entry, data)?;
    let numbers = numbers.floats();
    Ok(match numbers.first() {
        Some(first) if numbers.iter().any(|x| x != first) => format!("the values of {} in the file", entry.name),
        Some(first) if *first != 0.0 => format!("{first} everywhere"),
        _ => ZEROS.into(),
    })
}

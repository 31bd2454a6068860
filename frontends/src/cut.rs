//! A part of a model between values.

use std::sync::Arc;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Op;
use qcc_ir::{Dim, Graph, Shape, Symbols, ValueId};
use rustc_hash::FxHashMap;

use crate::build::fixed_input;
use crate::{Cut, ImportOptions, Imported, ModelFile};

/// The least similarity of a name with one that the user may mean, from 0 to 1.
const SIMILAR: f64 = 0.7;

/// Maximum number of such names that a message lists.
const MOST_NAMED: usize = 3;

/// Imports the part of a model that [`ImportOptions::cut`] asks for. Shapes and values of the inputs where it begins
/// apply to the part, the others to the model.
pub(crate) fn import(file: &dyn ModelFile, cut: &Cut, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    let declared = file.inputs()?;
    let inside = |name: &String| cut.inputs.contains(name) && declared.iter().all(|input| input.name != *name);
    let (shapes, outer_shapes) = options.shapes.iter().cloned().partition(|(name, _)| inside(name));
    let (values, outer_values) = options.values.iter().cloned().partition(|(name, _)| inside(name));
    let outer = ImportOptions { shapes: outer_shapes, values: outer_values, cut: None, ..options.clone() };
    let imported = file.import(&outer)?;
    let graph = bound(imported.graph, &shapes)?;
    let mut graph = part(graph, cut, &values)?;
    check_extents(&graph)?;
    // Metadata describe the inputs and outputs of the whole model.
    graph.metadata.clear();
    let open = if cut.inputs.iter().any(inside) { Vec::new() } else { imported.open };
    Ok(Imported { graph, open, ..imported })
}

/// The graph with the shapes of inner values.
fn bound(graph: Graph, shapes: &[(String, crate::GivenShape)]) -> Result<Graph, Vec<Diagnostic>> {
    let names = computed(&graph);
    let mut symbols = Symbols::default();
    for (name, given) in shapes {
        let shape = &graph.ty(named(name, &names)?).shape;
        let fits = |(dim, given): (&Dim, &Option<usize>)| match (dim.known(), given) {
            (Some(known), given) => *given == Some(known),
            (None, &Some(n)) => dim.solved(n).is_some_and(|(symbol, value)| {
                let value = *symbols.entry(symbol.clone()).or_insert(value);
                dim.bind(&Symbols::from_iter([(symbol.clone(), value)])) == Some(n)
            }),
            (None, None) => true,
        };
        if shape.rank() != given.len() || !shape.dims().iter().zip(given).all(fits) {
            let message = format!("--shape {name} does not fit {name}, which is {shape}");
            let help = "extents that depend on inputs of the model follow from their shapes: --shape INPUT=1,3,640,640";
            return Err(vec![Diagnostic::error("bad-shape", message).with_help(help)]);
        }
    }
    Ok(if symbols.is_empty() { graph } else { graph.bound(&symbols) })
}

/// The part of the graph.
fn part(mut graph: Graph, cut: &Cut, values: &[(String, Vec<f64>)]) -> Result<Graph, Vec<Diagnostic>> {
    let names = computed(&graph);
    let mut outputs: Vec<(Arc<str>, ValueId)> =
        graph.outputs().iter().map(|output| (output.name.clone(), output.value)).collect();
    if !cut.outputs.is_empty() {
        let output = |name: &String| Ok((name.as_str().into(), named(name, &names)?));
        outputs = cut.outputs.iter().map(output).collect::<Result<_, Vec<Diagnostic>>>()?;
    }
    let mut inputs = Vec::new();
    for name in &cut.inputs {
        let v = named(name, &names)?;
        match values.iter().find(|(set, _)| set == name) {
            Some((_, values)) => {
                let ty = graph.ty(v).clone();
                let constant = fixed_input(&mut graph, name, &ty, values).map_err(|e| vec![*e])?;
                graph.redirect(v, constant);
            }
            None => inputs.push((Arc::from(name.as_str()), v)),
        }
    }
    let part = graph.part(&inputs, &outputs);
    let has = |name: &Arc<str>| part.inputs().any(|input| part.name(input) == Some(name));
    if let Some((name, _)) = inputs.iter().find(|(name, _)| !has(name)) {
        let message = format!("--cut: no output of the part depends on {name}");
        return Err(vec![Diagnostic::error("bad-cut", message).with_help("leave it out, or name other outputs")]);
    }
    Ok(part)
}

/// Fails where extents of the part depend on what was cut off.
fn check_extents(graph: &Graph) -> Result<(), Vec<Diagnostic>> {
    let dims = || graph.inputs().flat_map(|v| graph.ty(v).shape.dims());
    let symbols = |dim: &Dim| dim.solved(1).map(|(symbol, _)| (symbol.clone(), 1));
    let mut known: Symbols = dims().filter_map(symbols).collect();
    let values = || graph.order().into_iter().flat_map(|n| graph.results(n).collect::<Vec<_>>());
    for dim in values().flat_map(|v| graph.ty(v).shape.dims()) {
        dim.expr().for_each_computed(&mut |symbol| {
            if graph.definition(symbol).is_some() {
                known.insert(symbol.clone(), 1);
            }
        });
    }
    let open = |dim: &&Dim| dim.known().is_none() && dim.solved(1).is_none_or(|(s, _)| graph.definition(s).is_some());
    let lost = |shape: &Shape| shape.dims().iter().any(|dim| dim.bind(&known).is_none());
    let odd = graph.inputs().find(|v| graph.ty(*v).shape.dims().iter().any(|dim| open(&dim)));
    let Some(v) = odd.or_else(|| values().find(|v| lost(&graph.ty(*v).shape))) else { return Ok(()) };
    let name = graph.name(v).map_or_else(|| graph.place(v.node).to_string(), |name| name.to_string());
    let message = format!("--cut: the extents of {name}, {}, depend on inputs that are cut off", graph.ty(v).shape);
    let help = "give these their shapes: --shape INPUT=1,3,640,640";
    Err(vec![Diagnostic::error("open-cut", message).with_help(help)])
}

/// The inputs, the computed values and the outputs, by name.
fn computed(graph: &Graph) -> FxHashMap<Arc<str>, ValueId> {
    let nodes = graph.order().into_iter().filter(|n| !matches!(graph.op(*n), Op::Const(_)));
    let values = nodes.flat_map(|n| graph.results(n).filter_map(|v| Some((graph.name(v)?.clone(), v))));
    let outputs = graph.outputs().iter().map(|output| (output.name.clone(), output.value));
    values.chain(outputs).collect()
}

/// The value of a name.
fn named(name: &str, names: &FxHashMap<Arc<str>, ValueId>) -> Result<ValueId, Vec<Diagnostic>> {
    names.get(name).copied().ok_or_else(|| {
        let mut near: Vec<(f64, &Arc<str>)> = names.keys().map(|n| (strsim::jaro_winkler(name, n), n)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let near = near.into_iter().take_while(|(alike, _)| *alike >= SIMILAR).take(MOST_NAMED);
        let near: Vec<&str> = near.map(|(_, name)| &**name).collect();
        let error = Diagnostic::error("unknown-value", format!("--cut {name}: the model computes no such value"));
        let error = if near.is_empty() { error } else { error.with_note(format!("near: {}", near.join(", "))) };
        vec![error.with_help("`qcc inspect --graph MODEL` shows the names of all values")]
    })
}

//! The element types that options give inputs and outputs by name.

use qcc_backends::State;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Elem, Graph};
use qcc_passes::quantize::{Interface, Interfaces};

/// The inputs and outputs of a graph, with their element types.
fn ports(g: &Graph) -> impl Iterator<Item = (&str, &Elem)> {
    let inputs = g.inputs().filter_map(|v| Some((&**g.name(v)?, &g.ty(v).elem)));
    inputs.chain(g.outputs().iter().map(|o| (&*o.name, &g.ty(o.value).elem)))
}

/// Fails where a name is that of no input or output.
pub(super) fn check_names(g: &Graph, interface: &Interfaces) -> Result<(), Vec<Diagnostic>> {
    let known: Vec<&str> = ports(g).map(|(name, _)| name).collect();
    let unknown = interface.named.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    let error = |(name, _): &(String, Interface)| {
        Diagnostic::error("unknown-port", format!("--io {name}: the model has no such input or output"))
            .with_help(format!("its inputs and outputs are {}", known.join(", ")))
    };
    let errors: Vec<Diagnostic> = unknown.map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Fails where a named input or output does not have its type in the compiled graph.
pub(super) fn check_types(g: &Graph, interface: &Interfaces) -> Result<(), Vec<Diagnostic>> {
    let is = |elem: &Elem, wanted: Interface| match wanted {
        Interface::Float => *elem == Elem::F32,
        Interface::Half => *elem == Elem::F16,
        Interface::Quantized(storage) => elem.qparams().is_some_and(|qparams| qparams.storage == storage),
    };
    let odd = |(name, wanted): &(String, Interface)| {
        let (_, elem) = ports(g).find(|(port, elem)| port == name && !is(elem, *wanted))?;
        let message = format!("--io {name}: it is {elem} in the compiled model, which cannot be changed");
        Some(Diagnostic::error("integer-interface", message).with_help(format!("leave {name} out of --io")))
    };
    let errors: Vec<Diagnostic> = interface.named.iter().filter_map(odd).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Fails where a state names no input or no output, or one that another state names.
pub(super) fn check_states(g: &Graph, states: &[State]) -> Result<(), Vec<Diagnostic>> {
    let inputs: Vec<&str> = g.inputs().filter_map(|v| Some(&**g.name(v)?)).collect();
    let outputs: Vec<&str> = g.outputs().iter().map(|o| &*o.name).collect();
    let wrong = |(i, state): (usize, &State)| {
        let before = &states[..i];
        let of = |side: &str, name: &str, known: &[&str], twice: bool| {
            let problem = match (known.contains(&name), twice) {
                (true, false) => return None,
                (true, true) => format!("the {side} {name} is in two states"),
                (false, _) => format!("the model has no {side} {name}"),
            };
            let error =
                Diagnostic::error("unknown-port", format!("--state {}={}: {problem}", state.input, state.output));
            Some(error.with_help(format!("its {side}s are {}", known.join(", "))))
        };
        let input = of("input", &state.input, &inputs, before.iter().any(|s| s.input == state.input));
        input.or_else(|| of("output", &state.output, &outputs, before.iter().any(|s| s.output == state.output)))
    };
    let errors: Vec<Diagnostic> = states.iter().enumerate().filter_map(wrong).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Fails where the input and the output of a state have other types in the compiled graph.
pub(super) fn check_state_types(g: &Graph, states: &[State]) -> Result<(), Vec<Diagnostic>> {
    let unlike = |state: &State| {
        let input = g.inputs().find(|&v| g.name(v).is_some_and(|n| **n == *state.input)).map(|v| g.ty(v))?;
        let output = g.outputs().iter().find(|o| *o.name == *state.output).map(|o| g.ty(o.value))?;
        let fits = |(a, b): (&Dim, &Dim)| a == b || a.known().is_none() || b.known().is_none();
        let shapes = (input.shape.dims(), output.shape.dims());
        let same = input.elem == output.elem && input.layout == output.layout && shapes.0.len() == shapes.1.len();
        if same && shapes.0.iter().zip(shapes.1).all(fits) {
            return None;
        }
        let pair = format!("--state {}={}", state.input, state.output);
        let message = format!("{pair}: the input is {input}, the output {output} in the compiled model");
        Some(
            Diagnostic::error("unlike-state", message)
                .with_help("a state has one type: leave out what changes one side"),
        )
    };
    let errors: Vec<Diagnostic> = states.iter().filter_map(unlike).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

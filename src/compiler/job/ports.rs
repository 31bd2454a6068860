//! The element types that options give inputs and outputs by name.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Graph};
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

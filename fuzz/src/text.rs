//! The text form of graphs, and Python literals in metadata.

use qcc_ir::Graph;
use qcc_ir::text::{Weights, parse, print_brief, print_full, weights_of};

use crate::graph::compile;

/// Text that parses must round-trip through the printer, and the graph must compile or be refused.
pub(crate) fn text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let g = match parse(text, &Weights::new()) {
        Ok(g) => g,
        Err(e) => return drop(e.to_string()),
    };
    print_brief(&g);
    let full = print_full(&g);
    let again = parse(&full, &weights_of(&g)).unwrap_or_else(|e| panic!("{e}\n{full}"));
    assert!(again.same(&g), "{full}\n{}", print_full(&again));
    let known = g.inputs().all(|v| g.ty(v).bytes().is_some_and(|n| n <= 1 << 20));
    if known
        && names_differ(&g)
        && g.verify().is_ok()
        && g.order().iter().all(|&n| g.result_types(n).iter().all(row_major_and_real))
    {
        compile(&g, false);
    }
}

/// True if each input and output name stands for one value, as importers guarantee.
fn names_differ(g: &Graph) -> bool {
    let inputs = g.inputs().map(|v| (g.name(v).map_or("", |n| n), v));
    let all = inputs.chain(g.outputs().iter().map(|o| (&*o.name, o.value)));
    let mut known = std::collections::HashMap::new();
    let inputs: std::collections::HashSet<&str> = g.inputs().filter_map(|v| Some(&**g.name(v)?)).collect();
    inputs.len() == g.inputs().len()
        && all.into_iter().all(|(name, v)| !name.is_empty() && *known.entry(name).or_insert(v) == v)
}

/// True for the types that importers produce.
fn row_major_and_real(ty: &qcc_ir::TensorType) -> bool {
    ty.layout.is_row_major() && ty.elem.qparams().is_none() && ty.bytes().is_some_and(|n| n <= 1 << 24)
}

/// A model with the bytes as metadata. Metadata that is written must be read back unchanged.
pub(crate) fn literal(data: &[u8]) {
    use qcc_backends::{Format, Memory, WriteOptions};
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (key, value) = text.split_once('\0').unwrap_or(("names", text));
    let mut g = parse("graph g { %x: f32[1] = input output y = %x }", &Weights::new()).expect("a graph");
    let entries = [("task", "detect"), ("names", "{0: 'a'}"), ("stride", "32"), (key, value)];
    g.metadata = entries.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    for &format in Format::ALL {
        let mut files = Memory::new("model.xml");
        let checked = qcc_ir::Checked::new(&g, format.target()).expect("the target has it");
        let attachments = qcc::vendor::attachments(&*format.with(WriteOptions::default()), &g.metadata);
        format.with(WriteOptions::default()).write(checked, &attachments, &mut files).expect("it is written");
        if let Some(yaml) = files.files.get("metadata.yaml") {
            let yaml = String::from_utf8(yaml.clone()).expect("text");
            assert_eq!(yaml.lines().count(), entries.len(), "{yaml}");
        }
    }
}

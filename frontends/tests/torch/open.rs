//! Programs with open extents.

use std::collections::BTreeMap;

use qcc_frontends::ImportOptions;
use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;
use serde_json::json;

use crate::programs::program;
use crate::{Case, agree, file, graph, import, read, results, told};

fn outputs(graph: &Graph) -> String {
    graph.outputs().iter().map(|o| graph.ty(o.value).shape.to_string()).collect()
}

fn inputs(graph: &Graph) -> String {
    graph.inputs().map(|v| graph.ty(v).shape.to_string()).collect()
}

/// An extent that stays open in a shape of `--shape`.
const N: usize = usize::MAX;

fn with_shape(model: &str, name: &str, dims: &[usize]) -> Result<Graph, String> {
    let given = dims.iter().map(|&n| (n != N).then_some(n)).collect();
    let options = ImportOptions { shapes: vec![(name.into(), given)], ..ImportOptions::default() };
    let imported = import(file(model), &options).map_err(|e| told(&e))?;
    imported.graph.verify().expect("a valid graph");
    Ok(imported.graph)
}

#[test]
fn one_graph_has_the_results_of_all_sizes() {
    for (name, cases) in results::<BTreeMap<String, Vec<Case>>>("open.json") {
        let imported = read(file(&name), &[]).unwrap_or_else(|e| panic!("{}", told(&e)));
        let warnings: Vec<&Diagnostic> = imported.notes.iter().filter(|note| note.code != "open-range").collect();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
        imported.graph.verify().expect("a valid graph");
        for input in imported.graph.inputs() {
            assert!(imported.graph.ty(input).shape.is_open(), "{name}");
        }
        cases.iter().for_each(|case| agree(&name, &imported.graph, case));
        // With shapes of the options, and with those of the example.
        for case in &cases {
            let names = imported.graph.inputs().map(|v| imported.graph.name(v).expect("a name").to_string());
            let shapes: Vec<(String, &[usize])> =
                names.zip(case.inputs.iter().map(|(dims, _)| dims.as_slice())).collect();
            let shapes: Vec<(&str, &[usize])> = shapes.iter().map(|(name, dims)| (name.as_str(), *dims)).collect();
            let pinned = graph(file(&name), &shapes);
            assert!(!pinned.has_open_inputs(), "{name}");
            agree(&name, &pinned, case);
        }
    }
}

#[test]
fn extents_are_symbols_of_the_program_or_expressions_of_them() {
    assert_eq!(inputs(&graph(file("open_image"), &[])), "[s21,3,(4*s39),(4*s94)]");
    assert_eq!(outputs(&graph(file("dynamic"), &[])), "[s31,2]");
    assert_eq!(outputs(&graph(file("open_sorted"), &[])), "[2,s41]");
    let dynamic = graph(file("open_extents"), &[]);
    assert_eq!((inputs(&dynamic), outputs(&dynamic)), ("[s21,2,s65]".into(), "[s65][s21,2,(s65-1)][s65]".into()));
}

#[test]
fn shapes_of_the_options_pin_extents_or_leave_them_open() {
    assert_eq!(outputs(&graph(file("dynamic"), &[("input", &[5, 4, 9, 7])])), "[5,2]");
    assert_eq!(outputs(&with_shape("dynamic", "input", &[N, 4, 9, 7]).expect("a graph")), "[s31,2]");
    assert_eq!(outputs(&graph(file("open_extents"), &[("inputs_0", &[4, 2, 20])])), "[20][4,2,19][20]");
    let half = with_shape("open_extents", "inputs_0", &[N, 2, 20]).expect("a graph");
    assert_eq!(outputs(&half), "[20][s21,2,19][20]");
    let wide = with_shape("open_image", "inputs_0", &[N, 3, 64, N]).expect("a graph");
    assert_eq!(inputs(&wide), "[s21,3,64,(4*s94)]");
    let too_many = with_shape("open_extents", "inputs_0", &[9, 2, 20]).expect_err("a refusal");
    assert!(too_many.contains("s21 is 9; the model was exported for at most 8"), "{too_many}");
    let odd = with_shape("open_image", "inputs_0", &[1, 3, 66, 64]).expect_err("a refusal");
    assert!(odd.starts_with("bad-shape: input inputs_0 is declared [s21,3,(4*s39),(4*s94)]"), "{odd}");
    let wrong = with_shape("open_extents", "inputs_0", &[3, 3, 20]).expect_err("a refusal");
    assert!(wrong.starts_with("bad-shape"), "{wrong}");
}

/// Where numbers are needed, a batch is 1 and other extents are those of the example.
#[test]
fn fixed_extents_are_those_of_the_example() {
    let fixed = ImportOptions { fixed: true, ..ImportOptions::default() };
    let imported = import(file("open_image"), &fixed).unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(inputs(&imported.graph), "[1,3,8,12]");
    let said = told(&imported.notes);
    for open in ["extent 2 of input inputs_0 (4*s39) is open; compiled for 8", "extent 3 of input inputs_0 (4*s94)"] {
        assert!(said.contains(open), "{said}");
    }
    assert_eq!(imported.open.iter().map(|o| (o.axis, &*o.symbol)).collect::<Vec<_>>(), [(0, "s21")]);
}

#[test]
fn programs_that_need_numbers_are_imported_with_those_of_the_example() {
    let imported = read(file("open_gated"), &[]).unwrap_or_else(|e| panic!("{}", told(&e)));
    assert_eq!(inputs(&imported.graph), "[2,6]");
    let [note] = imported.notes.as_slice() else { panic!("{}", told(&imported.notes)) };
    assert_eq!(note.code, "example-shape");
    assert!(note.notes.concat().contains("it needs known extents"), "{note:?}");
    // What the options ask for is not changed.
    let open = with_shape("open_gated", "inputs_0", &[2, N]).expect_err("a refusal");
    assert!(open.starts_with("open-shape: input inputs_0 is [2,N]"), "{open}");
}

#[test]
fn declared_extents_that_differ_are_refused() {
    let changed = program("open_extents", |program| {
        let types = program["graph_module"]["graph"]["tensor_values"].as_object_mut().expect("types");
        types["slice_1"]["sizes"][1] = json!({ "as_int": 7 });
    });
    let said = told(&import(changed, &ImportOptions::default()).map(|_| ()).expect_err("a refusal"));
    assert!(said.contains("the file declares"), "{said}");
}

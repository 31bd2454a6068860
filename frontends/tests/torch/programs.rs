//! Programs that no export wrote: control flow, and programs that mean harm.

use qcc_frontends::Imported;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::Executor;
use qcc_ir::{Shape, Tensor};
use serde_json::{Value, json};

use crate::archives::{changed, entries, stored};
use crate::{file, read, refused, told};

/// The program of a model, changed.
pub(crate) fn program(name: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    stored(&changed(name, "models/model.json", |json| {
        let mut value = serde_json::from_slice(json).expect("a program");
        change(&mut value);
        *json = serde_json::to_vec(&value).expect("a program");
    }))
}

/// A node of a program.
fn node(target: &str, inputs: &[Value], outputs: &[&str]) -> Value {
    // The names of arguments in the operator's schema; those of control flow have none.
    let names: &[&str] = match target {
        "aten.full.default" => &["size", "fill_value"],
        "aten.select.int" => &["self", "dim", "index"],
        "aten.linear.default" => &["input", "weight"],
        "aten.broadcast_tensors.default" => &["tensors"],
        _ if target.starts_with("aten.") => &["self", "other"],
        _ => &[""; 4],
    };
    let inputs = inputs.iter().zip(names);
    let inputs: Vec<Value> = inputs.map(|(arg, name)| json!({ "name": name, "arg": arg, "kind": 1 })).collect();
    let outputs: Vec<Value> = outputs.iter().map(|&name| named(name)).collect();
    json!({ "target": format!("torch.ops.{target}"), "inputs": inputs, "outputs": outputs, "metadata": {} })
}

fn named(name: &str) -> Value {
    json!({ "as_tensor": { "name": name } })
}

fn list(names: &[&str]) -> Value {
    let names: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
    json!({ "as_tensors": names })
}

/// A graph as an argument.
fn nested(inputs: &[&str], nodes: &[Value], outputs: &[&str]) -> Value {
    let all = |names: &[&str]| names.iter().map(|&name| named(name)).collect::<Vec<Value>>();
    json!({ "as_graph": { "name": "nested", "graph": {
        "inputs": all(inputs), "outputs": all(outputs), "nodes": nodes, "tensor_values": {}, "sym_int_values": {},
        "sym_bool_values": {}, "is_single_tensor_return": false,
    } } })
}

/// The graph of a program of these nodes on `inputs_0` `[2, 3]`, whose result is `mul`.
fn of_nodes(nodes: &[Value]) -> Result<Imported, Vec<Diagnostic>> {
    let changed = program("counted", |program| {
        let graph = &mut program["graph_module"]["graph"];
        graph["nodes"] = json!(nodes);
        let mut input = graph["tensor_values"]["inputs_0"].take();
        input["sizes"] = json!([{ "as_int": 2 }, { "as_int": 3 }]);
        let calls = graph["tensor_values"]["b_calls"].take();
        graph["tensor_values"] = json!({ "inputs_0": input, "b_calls": calls });
    });
    read(changed, &[])
}

fn evaluated(nodes: &[Value], x: [f32; 6]) -> Vec<f32> {
    let graph = of_nodes(nodes).unwrap_or_else(|e| panic!("{}", told(&e))).graph;
    let x = Tensor::from_vec(Shape::known(&[2, 3]), x.to_vec());
    let results = Executor::new(&graph).run(&[x], &mut |_, _| {}).expect("a run");
    results[0].floats().to_vec()
}

#[test]
fn branches_are_selected_and_loops_unrolled() {
    let (x, zero) = (|| named("inputs_0"), || json!({ "as_int": 0 }));
    let scaled = |from: &str| node("aten.mul.Tensor", &[named(from), json!({ "as_int": 2 })], &["y"]);
    let raised = node("aten.add.Tensor", &[named("x"), json!({ "as_int": 1 })], &["y"]);
    let branches = [
        node("aten.sum.default", &[x()], &["total"]),
        node("aten.gt.Scalar", &[named("total"), zero()], &["p"]),
        node(
            "higher_order.cond",
            &[
                named("p"),
                nested(&["x"], &[scaled("x")], &["y"]),
                nested(&["x"], &[raised], &["y"]),
                list(&["inputs_0"]),
            ],
            &["mul"],
        ),
    ];
    assert_eq!(evaluated(&branches, [1., 2., 3., 4., 5., 6.]), [2., 4., 6., 8., 10., 12.]);
    assert_eq!(evaluated(&branches, [-1., 0., 0., 0., 0., 0.]), [0., 1., 1., 1., 1., 1.]);
    let steps = [
        node("aten.select.int", &[x(), zero(), zero()], &["first"]),
        node(
            "higher_order.scan",
            &[
                nested(
                    &["s", "x"],
                    &[node("aten.add.Tensor", &[named("s"), named("x")], &["t"]), scaled("t")],
                    &["t", "y"],
                ),
                list(&["first"]),
                list(&["inputs_0"]),
                list(&[]),
            ],
            &["last", "mul"],
        ),
    ];
    assert_eq!(evaluated(&steps, [1., 2., 3., 4., 5., 6.]), [4., 8., 12., 12., 18., 24.]);
    let count = |start: Value, end: Value| {
        let size = json!({ "as_ints": [] });
        [
            node("aten.full.default", &[size, start], &["start"]),
            node(
                "higher_order.while_loop",
                &[
                    nested(&["i", "x"], &[node("aten.lt.Scalar", &[named("i"), end], &["p"])], &["p"]),
                    nested(
                        &["i", "x"],
                        &[node("aten.add.Tensor", &[named("i"), json!({ "as_int": 1 })], &["j"]), scaled("x")],
                        &["j", "y"],
                    ),
                    list(&["start", "inputs_0"]),
                    list(&[]),
                ],
                &["i", "mul"],
            ),
        ]
    };
    let three = count(zero(), json!({ "as_int": 3 }));
    assert_eq!(evaluated(&three, [1., 2., 3., 4., 5., 6.]), [8., 16., 24., 32., 40., 48.]);
    assert_eq!(evaluated(&count(zero(), zero()), [1.; 6]), [1.; 6]);
    let endless = of_nodes(&count(zero(), json!({ "as_int": i64::MAX }))).expect_err("too many iterations");
    assert!(told(&endless).contains("iterations"), "{}", told(&endless));
}

#[test]
fn vectors_are_weights_and_are_broadcast() {
    let number = |n: i64| json!({ "as_int": n });
    let row = node("aten.select.int", &[named("inputs_0"), number(0), number(1)], &["row"]);
    let mut both = node("aten.broadcast_tensors.default", &[list(&["row", "inputs_0"])], &[]);
    both["outputs"] = json!([list(&["rows", "all"])]);
    let product = node("aten.linear.default", &[named("inputs_0"), named("row")], &["mul"]);
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    assert_eq!(evaluated(&[row.clone(), product], x), [32.0, 77.0]);
    let products = node("aten.mul.Tensor", &[named("rows"), named("all")], &["mul"]);
    assert_eq!(evaluated(&[row, both, products], x), [4.0, 10.0, 18.0, 16.0, 25.0, 36.0]);
}

#[test]
fn programs_that_mean_harm_are_refused() {
    let deep = changed("dynamic", "models/model.json", |json| {
        *json = [&b"{\"graph_module\": {\"graph\": {\"inputs\": [{\"as_x\": "[..], &b"[".repeat(1 << 20)].concat();
    });
    let said = refused(stored(&deep));
    assert!(said.contains("recursion limit"), "{said}");
    let version = program("dynamic", |p| p["schema_version"]["major"] = 9.into());
    assert!(refused(version).contains("schema version 9."));
    // A value that depends on itself, two with one name, one that is not produced.
    let own = program("dynamic", |p| {
        p["graph_module"]["graph"]["nodes"][1]["inputs"][0]["arg"]["as_tensor"]["name"] = "flatten".into()
    });
    assert!(refused(own).contains("flatten is read but nothing produces it"));
    let twice = program("dynamic", |p| {
        p["graph_module"]["graph"]["nodes"][1]["outputs"][0]["as_tensor"]["name"] = "conv2d".into()
    });
    assert!(!refused(twice).is_empty());
    let nothing = program("dynamic", |p| p["graph_module"]["graph"]["nodes"] = Value::Array(Vec::new()));
    assert!(refused(nothing).contains("nothing produces it"));
    // Another type than the operators produce, an unknown argument.
    let other = program("dynamic", |p| p["graph_module"]["graph"]["tensor_values"]["linear"]["dtype"] = 5.into());
    assert!(refused(other).contains("the file declares i64"));
    let argument =
        program("dynamic", |p| p["graph_module"]["graph"]["nodes"][0]["inputs"][0]["name"] = "inputs".into());
    assert!(refused(argument).contains("without argument input is not supported"));
    // A long chain of views.
    let chain = program("in_place", |p| {
        let graph = &mut p["graph_module"]["graph"];
        let node = graph["nodes"][1].clone();
        let mut nodes = graph["nodes"].as_array().cloned().unwrap_or_default();
        for i in 0..5000 {
            let mut node = node.clone();
            let of = if i == 0 { "mul".to_string() } else { format!("v{}", i - 1) };
            node["target"] = "torch.ops.aten.alias.default".into();
            node["inputs"] = serde_json::json!([{"name": "self", "arg": {"as_tensor": {"name": of}}, "kind": 1}]);
            node["outputs"] = serde_json::json!([{"as_tensor": {"name": format!("v{i}")}}]);
            nodes.push(node);
        }
        graph["nodes"] = nodes.into();
        p["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"]["as_tensor"]["name"] = "v4999".into();
    });
    let said = refused(chain);
    assert!(said.contains("views of each other"), "{said}");
}

/// Every number inside a value, in order.
fn integers<'v>(value: &'v mut Value, found: &mut Vec<&'v mut Value>) {
    match value {
        Value::Number(_) => found.push(value),
        Value::Array(all) => all.iter_mut().for_each(|v| integers(v, found)),
        Value::Object(all) => all.values_mut().for_each(|v| integers(v, found)),
        _ => {}
    }
}

#[test]
fn no_number_of_a_program_makes_the_import_panic() {
    for name in [
        "pools",
        "resizes",
        "pixels",
        "lines",
        "products",
        "norms",
        "parts",
        "made",
        "in_place",
        "lstm",
        "open_image",
        "open_signal",
    ] {
        let all = entries(&file(name));
        let at = all.iter().position(|e| e.0.ends_with("models/model.json")).expect("a program");
        let program: Value = serde_json::from_slice(&all[at].1).expect("a program");
        let graph = |p: &mut Value, i: usize, n: i64| -> bool {
            let mut found = Vec::new();
            let graph = &mut p["graph_module"]["graph"];
            integers(&mut graph["nodes"], &mut found);
            let Some(number) = found.into_iter().nth(i) else { return false };
            *number = n.into();
            // The operators' results differ from the declared types.
            graph["tensor_values"]
                .as_object_mut()
                .expect("types")
                .retain(|name, _| name.starts_with("inputs_") || name == "input");
            true
        };
        for n in [-1, 0, 7, i64::MAX, i64::MIN, 1 << 31, 1 << 20] {
            for i in (0..).step_by(3) {
                let mut changed = program.clone();
                if !graph(&mut changed, i, n) {
                    break;
                }
                let mut all = all.clone();
                all[at].1 = serde_json::to_vec(&changed).expect("a program");
                refused(stored(&all));
            }
        }
    }
}

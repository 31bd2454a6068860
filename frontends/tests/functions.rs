//! Model-local functions of ONNX.

#![allow(clippy::expect_used, reason = "tests")]

use std::path::Path;

use prost::Message;
use qcc_formats::onnx::*;
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::Graph;
use qcc_ir::text::print_brief;

const OWN: &str = "own";

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let own = op.strip_prefix("own.");
    NodeProto {
        op_type: Some(own.unwrap_or(op).into()),
        domain: own.map(|_| OWN.into()),
        name: Some(format!("the_{}", own.unwrap_or(op))),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute,
        ..Default::default()
    }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Float.into()),
        f: Some(f),
        ..Default::default()
    }
}

fn refers(name: &str, to: &str) -> AttributeProto {
    AttributeProto { ref_attr_name: Some(to.into()), f: None, ..float(name, 0.0) }
}

fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: Some(name.into()),
        domain: Some(OWN.into()),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        node: nodes,
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(13) }],
        ..Default::default()
    }
}

fn info(name: &str) -> ValueInfoProto {
    let dim = vec![Dimension { value: Some(DimensionValue::Value(2)) }];
    let tensor = TypeProtoTensor { elem_type: Some(DataType::Float.into()), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
}

fn imported(nodes: Vec<NodeProto>, functions: Vec<FunctionProto>) -> Result<Graph, String> {
    let graph = GraphProto {
        name: Some("g".into()),
        node: nodes,
        input: vec![info("x")],
        output: vec![info("y")],
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(17) }],
        graph: Some(graph),
        functions,
        ..Default::default()
    };
    let bytes = model.encode_to_vec().into();
    let imported = Model::read(bytes, Path::new(".")).and_then(|m| m.import(&ImportOptions::default()));
    imported.map(|i| i.graph).map_err(|e| e.iter().map(|d| d.message.clone()).collect::<Vec<String>>().join("; "))
}

#[test]
fn nodes_of_functions_stand_where_they_are_called() {
    // Names in a function are local: both functions have an h. The inner one has an older operator set.
    let outer = FunctionProto {
        attribute: vec!["slope".into()],
        attribute_proto: vec![float("least", -0.5), float("most", 3.0)],
        ..function(
            "Outer",
            &["a"],
            &["b", "unused"],
            vec![
                node("LeakyRelu", &["a"], &["h"], vec![refers("alpha", "slope")]),
                node("own.Inner", &["h"], &["b"], vec![refers("lo", "least"), refers("hi", "most")]),
                node("NoSuchOperator", &["a"], &["unused"], vec![]),
            ],
        )
    };
    let inner = FunctionProto {
        attribute: vec!["lo".into(), "hi".into()],
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(10) }],
        ..function(
            "Inner",
            &["h", "not_given"],
            &["y"],
            vec![node("Clip", &["h"], &["y"], vec![refers("min", "lo"), refers("max", "hi")])],
        )
    };
    let nodes = vec![
        node("own.Outer", &["x"], &["h"], vec![float("slope", 0.25)]),
        node("own.Outer", &["h"], &["y"], vec![float("most", 9.0)]),
    ];
    let graph = imported(nodes, vec![inner, outer]).expect("a graph");
    graph.verify().expect("a valid graph");
    let expected = "\
graph g {
  %x: f32[2] = input
  %the_Outer/h: f32[2] = unary(f:LeakyRelu(alpha:0.25)) %x  from the_Outer/the_LeakyRelu (LeakyRelu)
  %the_Outer/the_Inner/y: f32[2] = clamp(lo:-0.5,hi:3.0) %the_Outer/h  from the_Outer/the_Inner/the_Clip (Clip)
  %0 \"the_Outer/h\": f32[2] = unary(f:LeakyRelu(alpha:0.01)) %the_Outer/the_Inner/y  from the_Outer/the_LeakyRelu (LeakyRelu)
  %1 \"the_Outer/the_Inner/y\": f32[2] = clamp(lo:-0.5,hi:9.0) %0  from the_Outer/the_Inner/the_Clip (Clip)
  output y = %1
}
";
    assert_eq!(print_brief(&graph), expected);
}

#[test]
fn inputs_that_a_call_leaves_out_are_left_out_inside() {
    let limited =
        function("Limited", &["v", "lo", "hi"], &["w"], vec![node("Clip", &["v", "lo", "hi"], &["w"], vec![])]);
    let nodes = vec![node("own.Limited", &["x", "", "x"], &["y"], vec![])];
    let text = print_brief(&imported(nodes, vec![limited]).expect("a graph"));
    assert!(text.contains("binary(f:Min) %x, %x") && !text.contains("f:Max"), "{text}");
}

#[test]
fn calls_that_cannot_be_followed_are_refused() {
    let call = |op: &str| vec![node(op, &["x"], &["y"], vec![])];
    let refused = |nodes, functions| imported(nodes, functions).map(|g| print_brief(&g)).expect_err("a refusal");
    let again = function("Again", &["a"], &["b"], vec![node("own.Back", &["a"], &["b"], vec![])]);
    let back = function("Back", &["a"], &["b"], vec![node("own.Again", &["a"], &["b"], vec![])]);
    assert_eq!(refused(call("own.Again"), vec![again, back]), "function Again calls itself");
    // Each calls the next one twice.
    let name = |i: usize| format!("own.F{i}");
    let doubles = |i: usize| {
        let twice = vec![node(&name(i + 1), &["a"], &["m"], vec![]), node(&name(i + 1), &["m"], &["b"], vec![])];
        function(&format!("F{i}"), &["a"], &["b"], twice)
    };
    let end = function("F30", &["a"], &["b"], vec![node("Relu", &["a"], &["b"], vec![])]);
    let functions = (0..30).map(doubles).chain([end]).collect();
    assert!(refused(call("own.F0"), functions).contains("more than"));
    let chain = |i: usize| function(&format!("F{i}"), &["a"], &["b"], vec![node(&name(i + 1), &["a"], &["b"], vec![])]);
    assert!(refused(call("own.F0"), (0..100_000).map(chain).collect()).contains("more than"));
    // Outer names are not visible, and unknown attributes and inputs of a call are refused.
    let spying = function("Spying", &["a"], &["b"], vec![node("Add", &["a", "x"], &["b"], vec![])]);
    assert_eq!(refused(call("own.Spying"), vec![spying]), "x is read but nothing produces it");
    let plain = function("Plain", &["a"], &["b"], vec![node("Relu", &["a"], &["b"], vec![])]);
    let odd = vec![node("own.Plain", &["x"], &["y"], vec![float("odd", 1.0)])];
    assert_eq!(refused(odd, vec![plain.clone()]), "attribute odd is not supported here");
    let more = vec![node("own.Plain", &["x", "x"], &["y"], vec![])];
    assert_eq!(refused(more, vec![plain]), "input 1 is not supported here");
    let outside = vec![node("LeakyRelu", &["x"], &["y"], vec![refers("alpha", "slope")])];
    assert!(refused(outside, vec![]).contains("refers to an attribute of a function"));
}

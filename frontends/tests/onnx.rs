//! The ONNX importer beyond single operators: operator versions, shapes, errors, damaged files.

#![allow(clippy::expect_used, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;
use prost::Message;
use qcc_formats::onnx::*;
use qcc_frontends::{ImportOptions, Imported, Model};
use qcc_ir::diagnostic::{Diagnostic, Severity};
use qcc_ir::ops::{Cell, Clamp, Op, PadMode};
use qcc_ir::{Elem, Graph, Shape, TensorType};

fn info(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension {
        value: Some(if d < 0 { DimensionValue::Param(format!("s{}", -d)) } else { DimensionValue::Value(d) }),
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TypeProtoTensor { elem_type: Some(DataType::Float.into()), shape: Some(shape) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Int64.into()),
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        name: Some(format!("the_{op}")),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute,
        ..Default::default()
    }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(r#type.into()), ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::Int) }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, AttributeType::Float) }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn subgraph(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(Box::new(g)), ..attribute(name, AttributeType::Graph) }
}

/// A model with input x and output y.
fn model(opset: i64, x: &[i64], nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        name: Some("g".into()),
        node: nodes,
        initializer,
        input: vec![info("x", x)],
        output: vec![info("y", &[])],
        ..Default::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn import_with(m: &ModelProto, options: &ImportOptions) -> Result<Imported, Vec<Diagnostic>> {
    Model::read(m.encode_to_vec().into(), Path::new("."))?.import(options)
}

fn import(m: &ModelProto) -> Graph {
    let imported = import_with(m, &ImportOptions::default()).expect("the model imports");
    imported.graph.verify().expect("the graph verifies");
    imported.graph
}

fn refusal(m: &ModelProto) -> Diagnostic {
    let mut errors = import_with(m, &ImportOptions::default()).expect_err("the model is refused");
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

/// The operator that produces y, and the type of y.
fn last(g: &Graph) -> (&Op, &TensorType) {
    let y = g.outputs()[0].value;
    (g.producer(y), g.ty(y))
}

#[test]
fn limits_of_clip_are_attributes_before_opset_11_and_inputs_after() {
    let old = model(10, &[2], vec![node("Clip", &["x"], &["y"], vec![float("min", 0.0), float("max", 6.0)])], vec![]);
    let limits = vec![floats("lo", &[], &[0.0]), floats("hi", &[], &[6.0])];
    let new = model(13, &[2], vec![node("Clip", &["x", "lo", "hi"], &["y"], vec![])], limits);
    assert_eq!(last(&import(&old)).0, &Op::Clamp(Clamp::RELU6));
    assert_eq!(last(&import(&new)).0, &Op::Clamp(Clamp::RELU6));
    let mixed = model(13, &[2], vec![node("Clip", &["x"], &["y"], vec![float("min", 0.0)])], vec![]);
    let refused = refusal(&mixed);
    assert_eq!((refused.code, refused.origin.path()), ("unsupported", "the_Clip"));
    assert!(refused.message.contains("min"), "{}", refused.message);
}

#[test]
fn operands_before_opset_7_are_repeated_from_an_axis_where_the_node_says_so() {
    let add = |attributes| {
        let b = vec![floats("b", &[3], &[1.0, 2.0, 3.0])];
        model(6, &[2, 3, 4], vec![node("Add", &["x", "b"], &["y"], attributes)], b)
    };
    let g = import(&add(vec![int("broadcast", 1), int("axis", 1)]));
    let b = g.operand(g.outputs()[0].value.node, 1);
    assert_eq!(g.ty(b).shape, Shape::known(&[3, 1]));
    assert!(refusal(&add(vec![int("axis", 1)])).message.contains("without broadcast"));
    let beyond = refusal(&add(vec![int("broadcast", 1), int("axis", 3)]));
    assert!(beyond.message.contains("axis 3"), "{}", beyond.message);
    let prelu = vec![node("PRelu", &["x", "b"], &["y"], vec![ints("consumed_inputs", &[0, 0])])];
    let g = import(&model(1, &[2, 3, 4], prelu, vec![floats("b", &[3], &[1.0, 2.0, 3.0])]));
    let slopes = g.operand(g.outputs()[0].value.node, 1);
    assert_eq!(g.ty(slopes).shape, Shape::known(&[3, 1]));
}

#[test]
fn attributes_and_defaults_of_the_first_operator_sets() {
    let text = |name: &str, s: &str| AttributeProto {
        s: Some(s.to_owned().into_bytes().into()),
        ..attribute(name, AttributeType::String)
    };
    let of = |op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, constants| {
        let mut m = model(1, &[1, 2, 3, 4], vec![node(op, inputs, &["y"], attributes)], constants);
        // Before IR version 3 a model has no list of operator sets.
        (m.ir_version, m.opset_import) = (Some(2), vec![]);
        m
    };
    let none = Vec::new;
    for (m, dims) in [
        (of("Reshape", &["x"], vec![ints("shape", &[0, -1])], none()), &[1, 24][..]),
        (of("Concat", &["x", "x"], vec![], none()), &[1, 4, 3, 4]),
        (of("Pad", &["x"], vec![ints("paddings", &[0, 0, 1, 2, 0, 0, 0, 1])], none()), &[1, 2, 4, 7]),
        (of("Tile", &["x", "n", "a"], vec![], vec![integers("n", &[3]), integers("a", &[2])]), &[1, 2, 9, 4]),
        (of("Cast", &["x"], vec![text("to", "INT32")], none()), &[1, 2, 3, 4]),
        (of("Split", &["x", "n"], vec![int("axis", 3)], vec![integers("n", &[4])]), &[1, 2, 3, 4]),
        (of("Dropout", &["x"], vec![int("is_test", 1)], none()), &[1, 2, 3, 4]),
        (of("Upsample", &["x"], vec![float("height_scale", 2.0), float("width_scale", 3.0)], none()), &[1, 2, 6, 12]),
    ] {
        assert_eq!(last(&import(&m)).1.shape, Shape::known(dims));
    }
    let training = refusal(&of("Dropout", &["x"], vec![int("is_test", 0)], none()));
    assert!(training.message.contains("is_test = 0"), "{}", training.message);
}

#[test]
fn samples_of_random_results_are_inputs_where_that_is_asked_for() {
    let nodes = vec![
        node("RandomNormalLike", &["x"], &["noise"], vec![float("mean", 2.0), float("seed", 1.0)]),
        node("Add", &["x", "noise"], &["y"], vec![]),
    ];
    let m = model(13, &[-1, 3], nodes, vec![]);
    let refused = refusal(&m);
    assert_eq!(refused.origin.path(), "the_RandomNormalLike");
    assert!(refused.help.iter().any(|help| help.contains("--random input")), "{refused:?}");
    let options = ImportOptions { random_inputs: true, ..Default::default() };
    let imported = import_with(&m, &options).expect("it imports");
    let names: Vec<_> = imported.graph.inputs().map(|v| imported.graph.name(v).map_or("", |n| n)).collect();
    assert_eq!(names, ["x", "the_RandomNormalLike_normal"]);
    assert!(imported.notes.iter().any(|note| note.message.contains("standard normal distribution: [s1,3]")));
}

/// Images of any size keep the operators that targets have kernels for.
#[test]
fn blocks_of_images_of_any_size_are_moved_by_one_operator() {
    for (name, channels) in [("DepthToSpace", 8), ("SpaceToDepth", 3)] {
        let g = import(&model(
            13,
            &[-1, channels, -2, -3],
            vec![node(name, &["x"], &["y"], vec![int("blocksize", 2)])],
            vec![],
        ));
        let computed: Vec<&Op> =
            g.order().into_iter().map(|n| g.op(n)).filter(|op| !matches!(op, Op::Input(_))).collect();
        assert!(matches!(computed[..], [Op::DepthToSpace(_) | Op::SpaceToDepth(_)]), "{name}: {computed:?}");
    }
}

#[test]
fn labels_that_are_strings_become_indices() {
    let strings = |name: &str| AttributeProto {
        strings: ["no", "yes", "maybe"].map(|label| label.as_bytes().to_vec().into()).to_vec(),
        ..attribute(name, AttributeType::Strings)
    };
    let reals = |name: &str, values: &[f32]| AttributeProto {
        floats: values.to_vec(),
        ..attribute(name, AttributeType::Floats)
    };
    let classical = |node: NodeProto| NodeProto { domain: Some("ai.onnx.ml".into()), ..node };
    let attributes = vec![
        strings("classlabels_strings"),
        reals("coefficients", &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
        reals("intercepts", &[0.0; 3]),
    ];
    let nodes = vec![
        classical(node("LinearClassifier", &["x"], &["label", "scores"], attributes)),
        classical(node("ZipMap", &["scores"], &["y"], vec![strings("classlabels_strings")])),
    ];
    let mut m = model(13, &[-1, 3], nodes, vec![]);
    m.opset_import.push(OperatorSetIdProto { domain: Some("ai.onnx.ml".into()), version: Some(1) });
    let imported = import_with(&m, &ImportOptions::default()).expect("it imports");
    let notes = told(&imported);
    assert_eq!(notes.iter().map(|note| note.code).collect::<Vec<_>>(), ["label-as-index", "map-as-tensor"]);
    assert!(notes.iter().all(|note| note.message.contains("[no, yes, maybe]")), "{notes:?}");
    assert_eq!(imported.graph.ty(imported.graph.outputs()[0].value).to_string(), "f32[s1,3]");
}

#[test]
fn softmax_before_opset_13_is_over_all_later_axes() {
    let softmax = |opset| import(&model(opset, &[2, 3, 4], vec![node("Softmax", &["x"], &["y"], vec![])], vec![]));
    let (old, new) = (softmax(12), softmax(13));
    assert!(matches!(last(&old).0, Op::Reshape(_)), "flattened to [2,12] and back");
    assert!(matches!(last(&new).0, Op::Softmax(s) if s.axis == 2));
}

#[test]
fn axes_and_slices_are_attributes_first_and_inputs_later() {
    let old = [ints("starts", &[1]), ints("ends", &[-1]), ints("axes", &[1])];
    let old = model(9, &[2, 5], vec![node("Slice", &["x"], &["y"], old.to_vec())], vec![]);
    let parts = vec![integers("s", &[-2]), integers("e", &[i64::MIN]), integers("a", &[-1]), integers("t", &[-2])];
    let new = model(13, &[2, 5], vec![node("Slice", &["x", "s", "e", "a", "t"], &["y"], vec![])], parts);
    assert_eq!(last(&import(&old)).1.shape, Shape::known(&[2, 3]));
    assert!(matches!(last(&import(&new)).0, Op::Slice(s) if (s.ranges[0].start, s.ranges[0].len) == (3, 2)));
    let squeeze = model(12, &[1, 3, 1], vec![node("Squeeze", &["x"], &["y"], vec![ints("axes", &[-1])])], vec![]);
    assert_eq!(last(&import(&squeeze)).1.shape, Shape::known(&[1, 3]));
}

#[test]
fn counted_padding_becomes_part_of_the_image() {
    let attributes = [ints("kernel_shape", &[2, 2]), ints("pads", &[1, 1, 0, 0]), int("count_include_pad", 1)];
    let g = import(&model(11, &[1, 1, 4, 4], vec![node("AveragePool", &["x"], &["y"], attributes.to_vec())], vec![]));
    let (op, ty) = last(&g);
    assert!(matches!(op, Op::Pool(p) if p.before.iter().chain(&p.after).all(|&p| p == 0)));
    assert_eq!(ty.shape, Shape::known(&[1, 1, 4, 4]));
    let pad = g.order().into_iter().find_map(|n| if let Op::Pad(p) = g.op(n) { Some(p.clone()) } else { None });
    assert_eq!(pad.map(|p| p.mode), Some(PadMode::Constant(0.0)));
}

#[test]
fn a_window_that_ceil_mode_adds_starts_inside_the_image() {
    let pool = |x: i64, pads: &[i64]| {
        let attributes = [ints("kernel_shape", &[2]), ints("strides", &[2]), ints("pads", pads), int("ceil_mode", 1)];
        let g = import(&model(12, &[1, 1, x], vec![node("MaxPool", &["x"], &["y"], attributes.to_vec())], vec![]));
        last(&g).1.shape.dims()[2].known()
    };
    assert_eq!(pool(5, &[0, 0]), Some(3));
    assert_eq!(pool(4, &[0, 1]), Some(2), "the third window would start in the padding");
}

#[test]
fn batch_normalisation_becomes_a_factor_and_an_offset() {
    let parameters =
        [("s", [2.0, 1.0]), ("b", [0.5, 0.0]), ("m", [1.0, 0.0]), ("v", [3.0, 1.0])].map(|(n, v)| floats(n, &[2], &v));
    let bn = node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"], vec![float("epsilon", 1.0)]);
    let g = import(&model(15, &[1, 2, 2, 2], vec![bn], parameters.to_vec()));
    let y = g.outputs()[0].value;
    let add = g.operands(y.node);
    let offset = g.constant(add[1]).expect("a constant");
    assert_eq!(offset.dims(), [1, 2, 1, 1]);
    assert_eq!(offset.floats()[0], -0.5, "0.5 - 1 * 2 / sqrt(3 + 1)");
}

#[test]
fn shape_arithmetic_is_computed_at_import() {
    let nodes = vec![
        node("Shape", &["x"], &["s"], vec![]),
        node("Gather", &["s", "first"], &["n"], vec![]),
        node("Concat", &["n", "rest"], &["shape"], vec![int("axis", 0)]),
        node("Reshape", &["x", "shape"], &["y"], vec![]),
    ];
    let g = import(&model(13, &[2, 3, 4], nodes, vec![integers("first", &[0]), integers("rest", &[-1])]));
    assert_eq!(last(&g).1.shape, Shape::known(&[2, 12]));
    assert_eq!(g.order().len(), 2, "the input and the reshape");
}

#[test]
fn a_constant_condition_chooses_a_branch() {
    let branch = |op: &str| GraphProto {
        node: vec![node(op, &["x"], &["out"], vec![])],
        output: vec![info("out", &[])],
        ..Default::default()
    };
    let yes = TensorProto {
        name: Some("c".into()),
        data_type: Some(DataType::Bool.into()),
        int32_data: vec![1],
        ..Default::default()
    };
    let branches = vec![subgraph("then_branch", branch("Relu")), subgraph("else_branch", branch("Unheard"))];
    let known = model(13, &[2], vec![node("If", &["c"], &["y"], branches.clone())], vec![yes]);
    assert_eq!(last(&import(&known)).0, &Op::Clamp(Clamp::RELU));
    let mut nodes = vec![node("Greater", &["x", "zero"], &["c"], vec![]), node("If", &["c"], &["y"], branches)];
    let open = model(13, &[1], nodes.clone(), vec![floats("zero", &[], &[0.0])]);
    assert_eq!((refusal(&open).code, refusal(&open).origin.path()), ("unsupported-op", "the_If/else/the_Unheard"));
    nodes.reverse();
    let set = ImportOptions { values: vec![("x".into(), vec![1.0])], ..Default::default() };
    let unsorted = model(13, &[1], nodes, vec![floats("zero", &[], &[0.0])]);
    assert!(import_with(&unsorted, &set).is_ok(), "the condition follows from the input that was set");
}

#[test]
fn branches_may_list_values_that_they_read_as_inputs() {
    let branch = |op: &str| GraphProto {
        node: vec![node(op, &["r"], &["out"], vec![])],
        input: vec![info("r", &[2])],
        output: vec![info("out", &[])],
        ..Default::default()
    };
    let branches = vec![subgraph("then_branch", branch("Neg")), subgraph("else_branch", branch("Exp"))];
    let nodes = vec![
        node("Relu", &["x"], &["r"], vec![]),
        node("ReduceMax", &["x"], &["m"], vec![int("keepdims", 0)]),
        node("Greater", &["m", "zero"], &["c"], vec![]),
        node("If", &["c"], &["y"], branches),
    ];
    let g = import(&model(13, &[2], nodes, vec![floats("zero", &[], &[0.0])]));
    assert!(matches!(last(&g).0, Op::Select(_)), "{}", text(&g));
}

#[test]
fn results_of_training_that_nothing_uses_are_left_out() {
    let results = ["y", "mean", "var", "saved_mean", "saved_var"];
    let nodes = |opset: i64, used: &str| {
        let hint = ints("consumed_inputs", &[0, 0, 0, 1, 1]);
        let nodes = vec![node("BatchNormalization", &["x", "s", "b", "m", "v"], &results, vec![hint])];
        let constants = ["s", "b", "m", "v"].map(|name| floats(name, &[3], &[1.0, 2.0, 3.0])).into();
        let mut m = model(opset, &[4, 3, 2], nodes, constants);
        m.graph.as_mut().unwrap().output = vec![info(used, &[])];
        m
    };
    for opset in [6, 7, 9] {
        assert!(text(&import(&nodes(opset, "y"))).contains("reduce(f:Mean"));
        let refused = refusal(&nodes(opset, "saved_mean"));
        assert!(refused.message.contains("BatchNormalization"), "{}", refused.message);
    }
}

/// `Relu` of x, in a loop that runs x[0] times, up to `most` times if that is given.
fn counted(most: Option<i64>, body: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto {
        node: body,
        input: vec![info("i", &[]), info("go", &[]), info("v", &[1])],
        output: vec![info("more", &[]), info("w", &[1])],
        ..Default::default()
    };
    let most = most.map(|most| integers("most", &[most]));
    let first = if most.is_some() { "most" } else { "" };
    let nodes = vec![
        node("Greater", &["x", "zero"], &["c"], vec![]),
        node("Loop", &[first, "c", "x"], &["y"], vec![subgraph("body", graph)]),
    ];
    model(13, &[1], nodes, [floats("zero", &[], &[0.0])].into_iter().chain(most).collect())
}

#[test]
fn loops_without_a_known_end_stay_loops() {
    let stop = || vec![node("Relu", &["v"], &["w"], vec![]), node("Greater", &["w", "zero"], &["more"], vec![])];
    assert!(Model::read(counted(Some(3), stop()).encode_to_vec().into(), Path::new("")).is_ok());
    import(&counted(Some(3), stop()));
    for most in [None, Some(i64::MAX), Some(1 << 40)] {
        let g = import(&counted(most, stop()));
        assert!(matches!(last(&g).0, Op::Loop(op) if op.carried == 1 && op.rows().is_empty()));
    }
    // A carried value keeps its shape.
    let grows = vec![
        node("Concat", &["v", "v"], &["w"], vec![int("axis", 0)]),
        node("Greater", &["v", "zero"], &["more"], vec![]),
    ];
    let refused = refusal(&counted(None, grows));
    assert_eq!((refused.code, refused.origin.path()), ("unsupported", "the_Loop"));
    assert!(refused.message.contains("f32[1] before an iteration and f32[2] after it"), "{}", refused.message);
    // Iterations without nodes are counted as well.
    let forever = vec![node("Identity", &["v"], &["w"], vec![]), node("Not", &["never"], &["more"], vec![])];
    let mut endless = counted(None, forever);
    let never = TensorProto {
        name: Some("never".into()),
        data_type: Some(DataType::Bool.into()),
        int32_data: vec![0],
        ..Default::default()
    };
    let graph = endless.graph.as_mut().expect("a graph");
    graph.initializer.push(never);
    graph.node.remove(0);
    graph.node[0].input[1] = "".into();
    assert!(refusal(&endless).message.contains("iterations"));
}

#[test]
fn branches_of_unlike_shapes_stay_branches() {
    let branch = |op: &str, more: Vec<AttributeProto>| GraphProto {
        node: vec![node(op, &["x"], &["out"], more)],
        // Some exporters list what branches read.
        input: vec![info("x", &[])],
        output: vec![info("out", &[])],
        ..Default::default()
    };
    let with = |keep: i64, dims: &[i64]| {
        let branches = vec![
            subgraph("then_branch", branch("Relu", vec![])),
            subgraph("else_branch", branch("ReduceMax", vec![int("keepdims", keep)])),
        ];
        let nodes = vec![
            node("ReduceMax", &["x"], &["m"], vec![int("keepdims", 0)]),
            node("Greater", &["m", "zero"], &["c"], vec![]),
            node("If", &["c"], &["y"], branches),
        ];
        model(13, dims, nodes, vec![floats("zero", &[], &[0.0])])
    };
    let nodes = |dims: &[i64]| with(1, dims);
    let imported = import_with(&nodes(&[3, 2]), &ImportOptions::default()).expect("imports");
    let result = imported.graph.ty(imported.graph.outputs()[0].value);
    assert_eq!(result.to_string(), "f32[($the_If),($'the_If.1')]");
    assert!(matches!(last(&imported.graph).0, Op::If(_)) && told(&imported).is_empty());
    // A value has one rank.
    let refused = refusal(&with(0, &[3, 2]));
    assert_eq!((refused.code, refused.origin.path()), ("unsupported", "the_If"));
    assert!(refused.help.is_some_and(|help| help.contains("--set")));
    let imported = import_with(&nodes(&[1]), &ImportOptions::default()).expect("imports");
    assert!(imported.notes.iter().any(|d| d.code == "both-branches"));
    // Where one extent differs, the result is a part of both.
    let imported = import_with(&nodes(&[3]), &ImportOptions::default()).expect("imports");
    let result = imported.graph.ty(imported.graph.outputs()[0].value);
    assert!(result.shape.is_computed() && imported.graph.definition("the_If").is_some(), "{result}");
}

/// The diagnostics of an import, except for the shape of the output, which `model` leaves out.
fn told(imported: &Imported) -> Vec<&Diagnostic> {
    imported.notes.iter().filter(|d| d.code != "output-shape").collect()
}

#[test]
fn open_extents_are_settled_or_refused_by_name() {
    let relu = || vec![node("Relu", &["x"], &["y"], vec![])];
    let fixed = ImportOptions { fixed: true, ..ImportOptions::default() };
    let open = import_with(&model(13, &[-1, 3], relu(), vec![]), &ImportOptions::default()).expect("imports");
    assert_eq!(last(&open.graph).1.shape.to_string(), "[s1,3]");
    assert!(told(&open).is_empty() && open.open.is_empty(), "{:?}", open.notes);
    let batch = import_with(&model(13, &[-1, 3], relu(), vec![]), &fixed).expect("imports");
    assert_eq!(last(&batch.graph).1.shape, Shape::known(&[1, 3]));
    let said = told(&batch)[0];
    assert_eq!((said.code, said.severity), ("open-shape", Severity::Warning));
    assert_eq!(said.message, "input x is declared [s1,3]; compiled for [1,3]");
    assert_eq!(said.help.as_deref(), Some("give another: --shape x=N,3 with a number for N"));
    let image = model(13, &[-1, 3, -2, -3], relu(), vec![]);
    let open = import_with(&image, &ImportOptions::default()).expect("imports");
    assert_eq!(last(&open.graph).1.shape.to_string(), "[s1,3,s2,s3]");
    assert!(told(&open).is_empty() && open.open.is_empty(), "{:?}", open.notes);
    let open = import_with(&image, &fixed).expect_err("s2 has no value").remove(0);
    assert!(open.message.contains("s2") && open.help.is_some_and(|h| h.contains("--shape x=")));
    let given = |name: &str, dims: &[Option<usize>]| ImportOptions {
        shapes: vec![(name.into(), dims.to_vec())],
        ..Default::default()
    };
    let shaped = |dims: &[usize]| given("x", &dims.iter().map(|&d| Some(d)).collect::<Vec<_>>());
    let some = import_with(&image, &given("x", &[None, Some(3), Some(8), None])).expect("imports");
    assert_eq!(last(&some.graph).1.shape.to_string(), "[s1,3,8,s3]");
    assert_eq!(
        import_with(&image, &given("x", &[Some(2), None, Some(8), Some(8)])).expect_err("3 is declared")[0].code,
        "bad-shape"
    );
    let known = import_with(&image, &shaped(&[2, 3, 8, 8])).expect("imports");
    assert!(told(&known).is_empty(), "{:?}", known.notes);
    assert_eq!(import_with(&image, &shaped(&[2, 4, 8, 8])).expect_err("3 is declared")[0].code, "bad-shape");
    let other = given("z", &[Some(1)]);
    assert_eq!(import_with(&model(13, &[1], relu(), vec![]), &other).expect_err("no input z")[0].code, "unknown-input");
}

/// Where a node cannot have open extents, a batch is 1, and the warning names the node.
#[test]
fn a_batch_is_1_where_a_node_needs_a_number() {
    let nodes = vec![node("Split", &["x"], &["y"], vec![])];
    let imported = import_with(&model(11, &[-1, 1, 3], nodes, vec![]), &ImportOptions::default()).expect("imports");
    assert_eq!(last(&imported.graph).1.shape, Shape::known(&[1, 1, 3]));
    let said = told(&imported)[0];
    assert_eq!((said.code, said.severity), ("open-shape", Severity::Warning));
    assert_eq!(said.message, "input x is declared [s1,1,3]; compiled for [1,1,3]");
    let why = "with open extents it cannot be compiled: it needs known extents, and an operand is [s1,1,3] (the_Split)";
    assert_eq!(said.notes, [why]);
    // With a shape that asks for it, that is an error.
    let nodes = vec![node("Split", &["x"], &["y"], vec![])];
    let shapes = vec![("x".into(), vec![None, Some(1), Some(3)])];
    let asked = ImportOptions { shapes, ..Default::default() };
    let errors = import_with(&model(11, &[-1, 1, 3], nodes, vec![]), &asked).expect_err("the batch is open");
    assert_eq!((errors[0].code, errors[0].notes.as_slice()), ("open-shape", [why.to_owned()].as_slice()));
}

/// Without axes the source removes those of extent 1: an open one stays, and a warning tells so.
#[test]
fn open_axes_stay_where_all_of_extent_1_are_removed() {
    let nodes = vec![node("Squeeze", &["x"], &["y"], vec![])];
    let imported = import_with(&model(11, &[-1, 1, 3], nodes, vec![]), &ImportOptions::default()).expect("imports");
    assert_eq!(last(&imported.graph).1.shape.to_string(), "[s1,3]");
    let said = told(&imported)[0];
    assert_eq!((said.code, said.severity), ("assumed-extent", Severity::Warning));
    assert_eq!(said.message, "axis 0 of f32[s1,1,3] stays: where s1 is 1, the source removes it");
}

/// An open extent that a product takes with one value only gets it, and a note tells so. A batch stays open.
#[test]
fn columns_of_a_product_are_as_many_as_the_rows_of_its_weight() {
    let weight = floats("w", &[3, 2], &[1.0; 6]);
    let nodes = vec![node("MatMul", &["x", "w"], &["y"], vec![])];
    let imported = import_with(&model(13, &[-1, -2], nodes, vec![weight]), &ImportOptions::default()).expect("imports");
    let shapes: Vec<_> = imported.graph.inputs().map(|v| imported.graph.ty(v).shape.to_string()).collect();
    assert_eq!((shapes, last(&imported.graph).1.shape.to_string()), (vec!["[s1,3]".to_owned()], "[s1,2]".to_owned()));
    let said = told(&imported)[0];
    assert_eq!((said.code, said.message.as_str()), ("assumed-extent", "extent s2 of input x is taken to be 3"));
}

/// A layer that is no plain LSTM is a loop where its steps are not known, and the extent that its weights need is known.
#[test]
fn an_lstm_with_peepholes_over_open_steps_is_a_loop() {
    let weights = |name, dims: &[i64]| floats(name, dims, &vec![0.5; dims.iter().product::<i64>() as usize]);
    let initializer = vec![weights("w", &[1, 8, 3]), weights("r", &[1, 8, 2]), weights("p", &[1, 6])];
    let inputs = ["x", "w", "r", "", "", "", "", "p"];
    for direction in ["forward", "reverse"] {
        let direction = AttributeProto { s: Some(direction.into()), ..attribute("direction", AttributeType::String) };
        let nodes = vec![node("LSTM", &inputs, &["y"], vec![direction])];
        let m = model(14, &[-1, 1, -2], nodes, initializer.clone());
        let g = import_with(&m, &ImportOptions::default()).expect("imports").graph;
        assert_eq!(last(&g).1.shape.to_string(), "[s1,1,1,2]");
        assert_eq!(g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Loop(_))).count(), 1);
    }
}

/// Some exporters write an end of 10^9 for the rest of an axis.
#[test]
fn a_slice_to_the_end_keeps_an_open_extent() {
    for end in [1_000_000_000, i64::from(i32::MAX), i64::MAX] {
        let constants = vec![integers("from", &[1]), integers("to", &[end]), integers("axis", &[0])];
        let nodes = vec![node("Slice", &["x", "from", "to", "axis"], &["y"], vec![])];
        let imported = import_with(&model(13, &[-1, 3], nodes, constants), &ImportOptions::default()).expect("imports");
        assert_eq!(last(&imported.graph).1.shape.to_string(), "[(s1-1),3]");
    }
}

#[test]
fn all_refusals_are_reported_together() {
    let nodes = vec![
        node("Foo", &["x"], &["a"], vec![]),
        node("Relu", &["a"], &["b"], vec![]),
        node("Bar", &["b", "s"], &["c"], vec![]),
        node("Add", &["c", "bad"], &["y"], vec![]),
    ];
    let m = model(13, &[2], nodes, vec![floats("s", &[], &[1.0]), floats("bad", &[2], &[1.0, f32::NAN])]);
    let errors = import_with(&m, &ImportOptions::default()).expect_err("refused");
    let named: Vec<&str> = errors.iter().map(|e| e.origin.path()).collect();
    assert_eq!(named, ["the_Foo", "the_Bar", "bad"]);
    let added = |name: &str, values: &[f32]| {
        let nodes = vec![node("Add", &["x", name], &["y"], vec![])];
        model(13, &[2], nodes, vec![floats(name, &[values.len() as i64], values)])
    };
    assert_eq!(refusal(&added("bad", &[f32::NAN; 2])).origin.path(), "bad");
    // A value that stands for none.
    import(&added("none", &[f32::NAN]));
}

#[test]
fn broken_graphs_are_refused() {
    let add = |a: &str, y: &str| node("Add", &["x", a], &[y], vec![]);
    let broken = |nodes| refusal(&model(13, &[2], nodes, vec![floats("w", &[3], &[0.0; 3])])).message;
    assert!(broken(vec![add("y", "a"), add("a", "y")]).contains("cycle"));
    assert!(broken(vec![add("x", "y"), add("x", "y")]).contains("two values"));
    assert!(broken(vec![add("z", "y")]).contains('z'));
    assert!(broken(vec![add("w", "y")]).contains("broadcast"));
    assert!(broken(vec![]).contains('y'));
    assert!(refusal(&model(29, &[2], vec![add("x", "y")], vec![])).message.contains("opset 29"));
}

#[test]
fn operands_and_attributes_that_do_not_fit_are_refused() {
    let constants = || {
        let pairs = [("two", &[2, 2][..]), ("zero", &[0, 0]), ("one", &[1]), ("far", &[7])];
        let mut all: Vec<TensorProto> = pairs.iter().map(|(name, values)| integers(name, values)).collect();
        all.push(floats("number", &[], &[1.0]));
        all
    };
    let einsum = |text: &str| {
        let s = Some(text.as_bytes().to_vec().into());
        node("Einsum", &["x"], &["y"], vec![AttributeProto { s, ..attribute("equation", AttributeType::String) }])
    };
    for refused in [
        einsum("ij,jk"),
        einsum("ij"),
        einsum("i.k->"),
        einsum("aij->aa"),
        einsum("...->b"),
        node("Col2Im", &["x", "two", "two"], &["y"], vec![ints("strides", &[1, 0])]),
        node("Col2Im", &["x", "one", "two"], &["y"], vec![]),
        node("Col2Im", &["x", "zero", "zero"], &["y"], vec![]),
        node("GridSample", &["x", "x"], &["y"], vec![]),
        node("GridSample", &["x", "number"], &["y"], vec![]),
        node("AffineGrid", &["x", "two"], &["y"], vec![]),
        node("ScatterElements", &["x", "one", "x"], &["y"], vec![]),
        node("ScatterND", &["x", "far", "x"], &["y"], vec![]),
        node("Attention", &["x", "x", "x"], &["y"], vec![]),
        node("Attention", &["x", "x", "x", "number"], &["y"], vec![int("q_num_heads", 2), int("kv_num_heads", 2)]),
        node("BitShift", &["two", "one"], &["y"], vec![]),
        node("BitwiseNot", &["x"], &["y"], vec![]),
        node("LRN", &["x"], &["y"], vec![int("size", 0)]),
        node("LpPool", &["x"], &["y"], vec![ints("kernel_shape", &[2]), int("p", 0)]),
        node("Hardmax", &["x"], &["y"], vec![int("axis", 3)]),
        node("IsInf", &["two"], &["y"], vec![]),
    ] {
        let named = format!("{refused:?}");
        let errors = import_with(&model(23, &[2, 3, 4], vec![refused], constants()), &ImportOptions::default());
        assert!(errors.is_err(), "{named}");
    }
}

#[test]
fn initializers_among_the_inputs_are_no_graph_inputs() {
    let mut m = model(7, &[2], vec![node("Add", &["x", "w"], &["y"], vec![])], vec![floats("w", &[2], &[1.0, 2.0])]);
    m.ir_version = Some(3);
    m.graph.as_mut().expect("a graph").input.push(info("w", &[2]));
    assert_eq!(import(&m).inputs().len(), 1);
}

#[test]
fn open_extents_that_become_1_are_told_once() {
    let open = |name: &str| ValueInfoProto {
        name: Some(name.into()),
        ..model(13, &[-1, 3], vec![], vec![]).graph.unwrap().input[0].clone()
    };
    let sum = node("Sum", &["x", "a", "b", "c", "d"], &["y"], vec![]);
    let mut many = model(13, &[-1, 3], vec![sum], vec![]);
    many.graph.as_mut().unwrap().input.extend(["a", "b", "c", "d"].map(open));
    let fixed = ImportOptions { fixed: true, ..ImportOptions::default() };
    let imported = import_with(&many, &fixed).expect("imports");
    let notes = told(&imported);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert_eq!(notes[0].message, "open extents of 5 inputs are compiled as 1");
    assert_eq!(notes[0].notes.len(), 5);
    assert_eq!(notes[0].notes[4], "and 1 more inputs");
    // The value of a symbol applies to all inputs with that symbol.
    let given = ImportOptions { shapes: vec![("c".into(), vec![Some(2), Some(3)])], ..Default::default() };
    let imported = import_with(&many, &given).expect("imports");
    assert_eq!((last(&imported.graph).1.shape.clone(), told(&imported).len()), (Shape::known(&[2, 3]), 0));
}

/// Types of inputs and outputs that the graph does not have, and operators in double precision, are reported.
#[test]
fn types_that_are_not_kept_are_told() {
    let typed = |data_type: DataType, nodes: Vec<NodeProto>| {
        let mut m = model(13, &[2], nodes, vec![]);
        let Some(TypeValue::Tensor(t)) = m.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap().value.as_mut()
        else {
            unreachable!()
        };
        t.elem_type = Some(data_type.into());
        let imported = import_with(&m, &ImportOptions::default()).expect("imports");
        let told = told(&imported).into_iter();
        told.map(|d| (d.severity == Severity::Warning, d.code, d.message.clone())).collect::<Vec<_>>()
    };
    let cast = |x: &str, to: DataType, y: &str| node("Cast", &[x], &[y], vec![int("to", i64::from(i32::from(to)))]);
    let single = |x: &str| vec![cast(x, DataType::Float, "y")];
    for (data_type, message) in [
        (DataType::Double, "input x is float64 in the model and f32 in the artefact"),
        (DataType::Bfloat16, "input x is bfloat16 in the model and f32 in the artefact"),
        (DataType::Uint16, "input x is uint16 in the model and i32 in the artefact"),
        (DataType::Uint32, "input x is uint32 in the model and i64 in the artefact"),
    ] {
        assert_eq!(typed(data_type, single("x")), [(true, "element-type", message.to_string())]);
    }
    for data_type in [DataType::Float, DataType::Float16, DataType::Uint8, DataType::Int64] {
        assert_eq!(typed(data_type, single("x")), []);
    }
    let message = "the model computes in double precision; the artefact computes in single precision";
    let through =
        vec![cast("x", DataType::Double, "d"), node("Exp", &["d"], &["e"], vec![]), cast("e", DataType::Float, "y")];
    assert_eq!(typed(DataType::Float, through), [(true, "double-precision", message.to_string())]);
}

#[test]
fn double_constants_become_single_with_a_note() {
    let w = TensorProto {
        name: Some("w".into()),
        dims: vec![1],
        data_type: Some(DataType::Double.into()),
        double_data: vec![0.5],
        ..Default::default()
    };
    let m = model(13, &[1], vec![node("Add", &["x", "w"], &["y"], vec![])], vec![w]);
    let imported = import_with(&m, &ImportOptions::default()).expect("imports");
    assert_eq!(last(&imported.graph).1.elem, Elem::F32);
    let codes: Vec<_> = told(&imported).iter().map(|d| (d.code, d.severity)).collect();
    assert_eq!(codes, [("double-precision", Severity::Note)]);
}

#[test]
fn external_data_is_read_from_the_models_folder_only() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("w.bin"),
        [0u8; 4].iter().chain(&2f32.to_le_bytes()).copied().collect::<Vec<u8>>(),
    )
    .expect("a file");
    let entry = |key: &str, value: &str| StringStringEntryProto { key: Some(key.into()), value: Some(value.into()) };
    let import = |location: &str, offset: &str| {
        let w = TensorProto {
            float_data: vec![],
            data_location: Some(DataLocation::External.into()),
            external_data: vec![entry("location", location), entry("offset", offset), entry("length", "4")],
            ..floats("w", &[1], &[])
        };
        let m = model(13, &[1], vec![node("Add", &["x", "w"], &["y"], vec![])], vec![w]);
        Model::read(m.encode_to_vec().into(), folder.path())?.import(&ImportOptions::default())
    };
    let g = import("w.bin", "4").expect("imports").graph;
    let w = g.operands(g.outputs()[0].value.node)[1];
    assert_eq!(g.constant(w).map(|t| t.floats()[0]), Some(2.0));
    for (location, offset, told) in [
        ("w.bin", "5", "beyond the end"),
        ("../w.bin", "0", "outside"),
        ("/etc/hosts", "0", "outside"),
        ("v.bin", "0", "v.bin"),
    ] {
        let errors = import(location, offset).expect_err("refused");
        assert!(errors[0].message.contains(told) && errors[0].origin.path() == "w", "{errors:?}");
    }
}

fn sample() -> Vec<u8> {
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"], vec![ints("pads", &[1, 1, 1, 1]), int("group", 1)]),
        node("Slice", &["c", "s", "e"], &["d"], vec![]),
        node("Reshape", &["d", "shape"], &["y"], vec![]),
    ];
    let constants = vec![
        floats("w", &[1, 1, 3, 3], &[0.5; 9]),
        integers("s", &[0]),
        integers("e", &[1]),
        integers("shape", &[1, -1]),
    ];
    model(13, &[1, 1, 4, 4], nodes, constants).encode_to_vec()
}

#[test]
fn truncated_files_are_refused() {
    let whole = sample();
    assert!(Model::read(whole.clone().into(), Path::new(".")).is_ok());
    for len in 0..whole.len() {
        let cut = whole[..len].to_vec();
        let imported = Model::read(cut.into(), Path::new(".")).and_then(|m| m.import(&ImportOptions::default()));
        assert!(imported.is_err(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn damaged_files_do_not_panic(at in 0usize..1000, to in any::<u8>(), more in proptest::collection::vec((0usize..1000, any::<u8>()), 0..4)) {
        let mut bytes = sample();
        for (at, to) in more.into_iter().chain([(at, to)]) {
            let at = at % bytes.len();
            bytes[at] = to;
        }
        if let Ok(m) = Model::read(bytes.into(), Path::new(".")) {
            let _ = m.import(&ImportOptions::default());
        }
    }
}

fn texts(name: &str, texts: &[&str]) -> AttributeProto {
    let strings = texts.iter().map(|s| s.as_bytes().to_vec().into()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::Strings) }
}

/// An LSTM of two directions over three steps of two inputs, with 4 * 2 rows of weights for each.
fn lstm(attributes: Vec<AttributeProto>, lens: i64) -> ModelProto {
    let weights = |name, count: i64| floats(name, &[2, 8, count], &vec![0.5; 16 * count as usize]);
    let lens = integers("lens", &[lens]);
    let mut all = vec![
        int("hidden_size", 2),
        AttributeProto { s: Some("bidirectional".into()), ..attribute("direction", AttributeType::String) },
    ];
    all.extend(attributes);
    let layer = node("LSTM", &["x", "w", "r", "", "lens"], &["y"], all);
    model(14, &[3, 1, 2], vec![layer], vec![weights("w", 2), weights("r", 2), lens])
}

#[test]
fn directions_of_recurrent_layers_are_layers_side_by_side() {
    let defaults = texts("activations", &["Sigmoid", "Tanh", "Tanh", "sigmoid", "tanh", "tanh"]);
    let g = import(&lstm(vec![defaults, float("clip", 2.0)], 3));
    assert_eq!(last(&g).1.shape, Shape::known(&[3, 2, 1, 2]));
    let layers = g.order().into_iter().filter_map(|n| match g.op(n) {
        Op::Recurrent(r) => Some((r.cell, r.reverse, r.clip)),
        _ => None,
    });
    let layers: Vec<_> = layers.collect();
    assert_eq!(layers, [(Cell::Lstm, false, Some(2.0)), (Cell::Lstm, true, Some(2.0))]);
}

#[test]
fn unusual_recurrent_layers_are_refused() {
    let functions = texts("activations", &["Sigmoid", "Tanh", "Tan", "Sigmoid", "Tanh", "Tan"]);
    for (m, word) in [
        (lstm(vec![functions], 3), "activation Tan is not supported"),
        (lstm(vec![texts("activations", &["Sigmoid", "Tanh", "Tanh"])], 3), "3 activations for 2 directions"),
        (lstm(vec![float("clip", -1.0)], 3), "clip"),
    ] {
        let refused = refusal(&m);
        assert_eq!(refused.origin.path(), "the_LSTM");
        assert!(refused.message.contains(word), "{}", refused.message);
    }
}

fn bytes(name: &str, dims: &[i64], ty: DataType, values: &[u8]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(ty.into()),
        raw_data: Some(values.to_vec().into()),
        ..Default::default()
    }
}

fn text(g: &Graph) -> String {
    qcc_ir::text::print_brief(g)
}

#[test]
fn quantized_values_have_quantized_types() {
    let nodes = vec![
        node("QuantizeLinear", &["x", "s", "z"], &["q"], vec![]),
        node("MaxPool", &["q"], &["p"], vec![ints("kernel_shape", &[2, 2])]),
        node("DequantizeLinear", &["p", "s", "z"], &["d"], vec![]),
        node("DequantizeLinear", &["w", "ws", "wz"], &["wd"], vec![int("axis", 0)]),
        node("Conv", &["d", "wd"], &["y"], vec![]),
    ];
    // Unsigned 8-bit integers with zero point 128 per channel become signed ones with zero point 0.
    let constants = vec![
        floats("s", &[], &[0.5]),
        bytes("z", &[], DataType::Uint8, &[3]),
        bytes("w", &[2, 1, 1, 1], DataType::Uint8, &[129, 0]),
        floats("ws", &[2], &[1.0, 2.0]),
        bytes("wz", &[2], DataType::Uint8, &[128, 128]),
    ];
    let g = text(&import(&model(13, &[1, 1, 3, 3], nodes, constants)));
    assert!(g.contains("%q: u8<0.5:3>[1,1,3,3] = quantize %x"), "{g}");
    assert!(g.contains("%p: u8<0.5:3>[1,1,2,2] = quantize"), "{g}");
    assert!(g.contains("i8<axis 0: 1.0,2.0>[2,1,1,1] = const [1,-128]"), "{g}");
}

#[test]
fn quantized_operators_are_float_ones_between_dequantize_and_quantize() {
    let mut add = node("QLinearAdd", &["q", "s", "z", "q", "s", "z", "t", "z"], &["a"], vec![]);
    add.domain = Some("com.microsoft".into());
    let nodes = vec![
        node("QuantizeLinear", &["x", "s", "z"], &["q"], vec![]),
        add,
        node("DequantizeLinear", &["a", "t", "z"], &["y"], vec![]),
    ];
    let constants = vec![floats("s", &[], &[0.5]), floats("t", &[], &[0.25]), bytes("z", &[], DataType::Int8, &[253])];
    let g = text(&import(&model(13, &[2], nodes.clone(), constants)));
    assert!(g.contains("= binary(f:Add)") && g.contains("i8<0.25:-3>[2] = quantize"), "{g}");
    // A limit of integers is dequantized: 0 is (0 + 3) * 0.5.
    let mut limited = nodes;
    limited[1] = node("Relu", &["q"], &["a"], vec![]);
    limited[2] = node("DequantizeLinear", &["a", "s", "z"], &["y"], vec![]);
    let constants = vec![floats("s", &[], &[0.5]), bytes("z", &[], DataType::Int8, &[253])];
    let g = text(&import(&model(14, &[2], limited, constants)));
    assert!(g.contains("= clamp(lo:1.5,hi:inf)") && g.contains("%a: i8<0.5:-3>[2] = quantize"), "{g}");
}

#[test]
fn integer_inputs_have_the_parameters_of_their_dequantize() {
    let nodes = vec![node("DequantizeLinear", &["x", "s", "z"], &["y"], vec![])];
    let constants = vec![floats("s", &[], &[0.5]), bytes("z", &[], DataType::Uint8, &[3])];
    let mut m = model(13, &[2], nodes, constants);
    if let Some(TypeValue::Tensor(t)) =
        m.graph.as_mut().and_then(|g| g.input[0].r#type.as_mut()).and_then(|t| t.value.as_mut())
    {
        t.elem_type = Some(DataType::Uint8.into());
    }
    let g = import(&m);
    assert_eq!(text(&g).lines().nth(1).map(str::trim), Some("%x: u8<0.5:3>[2] = input"));
}

#[test]
fn unsigned_16_bit_values_become_signed() {
    let nodes = vec![
        node("QuantizeLinear", &["x", "s", "z"], &["q"], vec![]),
        node("DequantizeLinear", &["q", "s", "z"], &["y"], vec![]),
    ];
    let constants = vec![floats("s", &[], &[0.5]), bytes("z", &[], DataType::Uint16, &[1, 128])];
    let g = text(&import(&model(21, &[2], nodes, constants)));
    assert!(g.contains("i16<0.5:1>[2] = quantize %x") && g.lines().count() < 7, "{g}");
}

#[test]
fn scales_of_blocks_stay_beside_integers() {
    let nodes = vec![
        node("DequantizeLinear", &["w", "s"], &["wd"], vec![int("axis", 0), int("block_size", 2)]),
        node("MatMul", &["x", "wd"], &["y"], vec![]),
    ];
    let constants = vec![bytes("w", &[3, 1], DataType::Int8, &[1, 2, 3]), floats("s", &[2, 1], &[10.0, 100.0])];
    let g = text(&import(&model(21, &[1, 3], nodes, constants)));
    assert!(g.contains("i4<axis 0 by 2: 10.0,100.0>[3,1] = const [1,2,3]"), "{g}");
}

//! Custom operators: what was read is written, and everything else is refused.

use std::path::Path;

use bytes::Bytes;
use prost::Message;
use qcc::backends::{Format, Memory};
use qcc::{Calibration, Compiler, Data, NoObserver, Options, Precision};
use qcc_formats::onnx::*;
use qcc_formats::tflite::{
    BuiltinOperator as B, Model as Tables, Operator, OperatorCode, Quantization, Tensor as Entry, TensorType as Stored,
};
use qcc_frontends::{ImportOptions, Model};

#[cfg(feature = "oracles")]
use crate::oracle::{self, Run};
use crate::tflite_models::{Part, byte, entry, float, floats, model_of, on};

/// What is written of a model; the code and the message of the first error where there is nothing.
fn compiled(file: &Bytes, format: Format, precision: Precision) -> Result<Bytes, String> {
    let mut options = Options::new([format], precision);
    if precision == Precision::Int8 {
        options.calibration = Some(Calibration::new(Data::Random));
    }
    let told = |e: qcc::Failure| e.to_string();
    let model = Model::read(file.clone(), Path::new("")).map_err(|all| all[0].to_string())?;
    let mut compiled = Compiler::new(options).compile_model(&model, &mut NoObserver).map_err(told)?;
    let mut files = Memory::new("a");
    compiled.write(0, &mut files).map_err(told)?;
    Ok(files.files.remove("a").unwrap().into())
}

fn warp() -> OperatorCode {
    OperatorCode { custom_code: "Warp".into(), ..OperatorCode::builtin(B::CUSTOM, 3) }
}

/// The custom operator of a file: its code, its options, and what its operands and results are.
type Written = (OperatorCode, Vec<u8>, Vec<Option<(Stored, Vec<i32>, Option<Quantization>, Bytes)>>);

fn custom_of(file: &Bytes) -> Written {
    let model = Tables::read(file).unwrap();
    let main = &model.subgraphs[0];
    let is_custom = |o: &&Operator| model.operator_codes[o.opcode_index as usize].operator() == B::CUSTOM;
    let op = main.operators.iter().find(is_custom).unwrap();
    let tensor = |&i: &i32| {
        let t = main.tensors.get(usize::try_from(i).ok()?)?;
        // Ranges are no part of the quantization.
        let scales = t.quantization.clone().map(|q| Quantization { min: Vec::new(), max: Vec::new(), ..q });
        Some((t.elem, t.shape.clone(), scales, model.buffers[t.buffer as usize].data.clone()))
    };
    let tensors = op.inputs.iter().chain(&op.outputs).map(tensor).collect();
    (model.operator_codes[op.opcode_index as usize].clone(), op.custom_options.clone(), tensors)
}

#[test]
fn tables_are_written_as_they_were() {
    let options = || Operator { custom_options: vec![7, 0, 255, 3], ..Operator::default() };
    let index = |dims: &[i32]| (entry(Stored::INT64, dims), None);
    let int64 = |values: &[i64]| {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        (entry(Stored::INT64, &[values.len() as i32]), Some(bytes))
    };
    let files = [
        // Images, a constant, an operand that is left out, two results.
        model_of(
            warp(),
            options(),
            vec![Some(float(&[1, 4, 4, 3])), None, Some(floats(&[2], &[1.5, -2.0]))],
            vec![float(&[1, 2, 2, 3]), float(&[4])],
        ),
        // No options, no operands but one, integers that the target otherwise computes with in 32 bits.
        model_of(
            warp(),
            Operator::default(),
            vec![Some(index(&[2])), Some(int64(&[3, -1])), Some((entry(Stored::BOOL, &[2]), None))],
            vec![index(&[3]), (entry(Stored::INT8, &[2]), None)],
        ),
        model_of(warp(), options(), Vec::new(), vec![float(&[3])]),
        // The integers of a model that was compiled for an accelerator.
        model_of(
            warp(),
            options(),
            vec![Some(byte(Stored::UINT8, &[1, 4, 4, 3], 0.5, 128))],
            vec![byte(Stored::UINT8, &[1, 10], 0.25, 3)],
        ),
    ];
    for file in files {
        let expected = custom_of(&file);
        for precision in [Precision::Float32, Precision::Float16, Precision::W8A32, Precision::Int8] {
            if precision == Precision::Int8 && expected.2.iter().flatten().any(|t| t.0 != Stored::FLOAT32) {
                // No real input to make up numbers for.
                continue;
            }
            let is_quantized = expected.2.iter().flatten().any(|t| t.0 == Stored::UINT8);
            if is_quantized && precision != Precision::Float32 {
                let refused = compiled(&file, Format::Tflite, precision).unwrap_err();
                assert!(refused.contains("the model is quantized already"), "{refused}");
                continue;
            }
            let written = compiled(&file, Format::Tflite, precision).unwrap();
            assert_eq!(custom_of(&written), expected, "{precision}");
            // What was written is read again.
            let again = compiled(&written, Format::Tflite, Precision::Float32).unwrap();
            assert_eq!(custom_of(&again), expected, "{precision}");
        }
        for other in [Format::Onnx, Format::Openvino] {
            let why = compiled(&file, other, Precision::Float32).unwrap_err();
            assert!(why.contains("cannot express Warp: it is a custom operator of tflite"), "{why}");
        }
    }
}

/// Those of a known meaning, in the runtimes.
#[cfg(feature = "oracles")]
#[test]
fn operators_of_a_known_meaning_compute_the_same() {
    oracle::table("custom_operators.py", 42);
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let refused = |code: &str, version, options: &[u8], operands: &[&[i32]]| {
        let code = OperatorCode { custom_code: code.into(), ..OperatorCode::builtin(B::CUSTOM, version) };
        let operator = Operator { custom_options: options.to_vec(), ..Operator::default() };
        let operands = operands.iter().map(|dims| Some(float(dims))).collect();
        let file = model_of(code, operator, operands, vec![float(&[1, 4, 4])]);
        compiled(&file, Format::Onnx, Precision::Float32).unwrap_err()
    };
    let why = refused("Landmarks2TransformMatrix", 2, &[7, 0, 255, 3], &[&[1, 9, 3]]);
    assert!(why.contains("its options: "), "{why}");
    let why = refused("MaxPoolingWithArgmax2D", 1, &[1, 0, 0, 0], &[&[1, 4, 4, 1]]);
    assert!(why.contains("its options have 4 bytes"), "{why}");
    let fields = |all: [i32; 6]| all.map(i32::to_le_bytes).concat();
    let why = refused("MaxPoolingWithArgmax2D", 1, &fields([1, 1, 1, 2, 2, 0]), &[&[1, 4, 4, 1]]);
    assert!(why.contains("windows of 2x2 with strides of 1 and 1"), "{why}");
    let why = refused("TransformLandmarks", 2, &[], &[&[1, 9, 4], &[1, 4, 4]]);
    assert!(why.contains("expected extents 1,n,2 or 1,n,3"), "{why}");
    let why = refused("TransformLandmarks", 1, &[], &[&[1, 9, 2], &[1, 4, 4]]);
    assert!(why.contains("it is a custom operator of tflite"), "{why}");
}

#[test]
fn tables_that_do_not_say_enough_are_refused() {
    let refused = |operator: Operator, operands: Vec<Option<Part>>, results: Vec<Part>| {
        let file = model_of(warp(), operator, operands, results);
        compiled(&file, Format::Tflite, Precision::Float32).unwrap_err()
    };
    let x = || vec![Some(float(&[1, 4]))];
    let unranked = (Entry { has_rank: false, ..entry(Stored::FLOAT32, &[]) }, None);
    let why = refused(Operator::default(), x(), vec![unranked]);
    assert!(why.contains("the file does not say which shape t1 has (at t1)"), "{why}");
    let why = refused(Operator::default(), x(), vec![(entry(Stored::FLOAT64, &[2]), None)]);
    assert!(why.contains("t1 as float64, which would become f32"), "{why}");
    let why = refused(Operator::default(), vec![Some((entry(Stored::UINT32, &[2]), None))], vec![float(&[2])]);
    assert!(why.contains("t0 as uint32, which would become i64"), "{why}");
    let per_axis = on(byte(Stored::INT8, &[2], 1.0, 0), &[0.5, 0.25], 0, 0);
    let why = refused(Operator::default(), x(), vec![per_axis]);
    assert!(why.contains("t1 is i8<axis 0: 0.5,0.25>"), "{why}");
    let between = Operator { intermediates: vec![0], ..Operator::default() };
    assert!(refused(between, x(), vec![float(&[2])]).contains("tensors between"));
    let outside = Operator { large_custom_options_size: 4, ..Operator::default() };
    assert!(refused(outside, x(), vec![float(&[2])]).contains("options outside the tables"));
    // Its kernel says what comes of another shape.
    let open = (Entry { shape_signature: vec![-1, 4], ..float(&[1, 4]).0 }, None);
    let file = model_of(warp(), Operator::default(), vec![Some(open)], vec![float(&[1, 2])]);
    compiled(&file, Format::Tflite, Precision::Float32).unwrap();
    let options = ImportOptions { shapes: vec![("t0".into(), vec![Some(3), Some(4)])], ..ImportOptions::default() };
    let why = Model::read(file, Path::new("")).unwrap().import(&options).unwrap_err();
    assert!(why[0].message.contains("t0 is f32[3,4] here and f32[1,4] in the file"), "{}", why[0]);
}

fn value(name: &str, elem: DataType, dims: &[&str]) -> ValueInfoProto {
    let dim = |d: &&str| Dimension {
        value: Some(d.parse().map_or_else(|_| DimensionValue::Param((*d).into()), DimensionValue::Value)),
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = TypeProtoTensor { elem_type: Some(elem.into()), shape: Some(shape) };
    ValueInfoProto { name: Some(name.into()), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(tensor)) }) }
}

fn real(name: &str, dims: &[&str]) -> ValueInfoProto {
    value(name, DataType::Float, dims)
}

fn node(domain: &str, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        name: Some(op.to_lowercase()),
        domain: Some(domain.into()),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute,
        ..NodeProto::default()
    }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(r#type.into()), ..AttributeProto::default() }
}

fn floats_of(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::Float.into()),
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..TensorProto::default()
    }
}

fn onnx(graph: GraphProto, domains: &[(&str, i64)]) -> ModelProto {
    let sets = [("", 17)].into_iter().chain(domains.iter().copied());
    let set =
        |(domain, version): (&str, i64)| OperatorSetIdProto { domain: Some(domain.into()), version: Some(version) };
    ModelProto {
        ir_version: Some(8),
        opset_import: sets.map(set).collect(),
        graph: Some(graph),
        ..ModelProto::default()
    }
}

fn encoded(model: &ModelProto) -> Bytes {
    model.encode_to_vec().into()
}

#[test]
fn nodes_are_written_as_they_were() {
    let attributes = || {
        vec![
            AttributeProto { i: Some(-7), ..attribute("int", AttributeType::Int) },
            AttributeProto { f: Some(0.1), ..attribute("float", AttributeType::Float) },
            AttributeProto { s: Some("say \"hi\"".into()), ..attribute("text", AttributeType::String) },
            AttributeProto { s: Some(vec![0xff, 0].into()), ..attribute("bytes", AttributeType::String) },
            AttributeProto { ints: vec![1, 2], ..attribute("ints", AttributeType::Ints) },
            AttributeProto { floats: vec![0.5], ..attribute("floats", AttributeType::Floats) },
            AttributeProto { strings: vec!["a".into(), "".into()], ..attribute("texts", AttributeType::Strings) },
            AttributeProto {
                t: Some(Box::new(floats_of("t", &[2], &[1.0, 2.0]))),
                ..attribute("tensor", AttributeType::Tensor)
            },
        ]
    };
    let graph = GraphProto {
        name: Some("g".into()),
        node: vec![
            node("", "Relu", &["x"], &["r"], vec![]),
            node("com.example", "Warp", &["r", "", "k"], &["y", "", "n"], attributes()),
            node("org.other", "Bend", &["y"], &["z"], vec![]),
        ],
        initializer: vec![floats_of("k", &[2], &[1.0, 2.0])],
        input: vec![real("x", &["N", "3"])],
        output: vec![real("z", &["N", "4"]), value("n", DataType::Int64, &["2"])],
        value_info: vec![real("y", &["N", "3"])],
        ..GraphProto::default()
    };
    let model = onnx(graph, &[("com.example", 4), ("org.other", 9)]);
    for precision in [Precision::Float32, Precision::Float16, Precision::W8A32, Precision::Int8] {
        let written = compiled(&encoded(&model), Format::Onnx, precision).unwrap();
        let written = ModelProto::decode(written).unwrap();
        let (old, new) = (model.graph.as_ref().unwrap(), written.graph.as_ref().unwrap());
        for (domain, version) in [("com.example", 4), ("org.other", 9)] {
            let set = written.opset_import.iter().find(|set| set.domain() == domain).unwrap();
            assert_eq!(set.version(), version);
            let of = |g: &GraphProto| g.node.iter().find(|n| n.domain() == domain).unwrap().clone();
            let (old, new) = (of(old), of(new));
            assert_eq!(new.attribute, old.attribute);
            assert_eq!((new.op_type(), new.name()), (old.op_type(), old.name()));
            let left_out = |names: &[String]| names.iter().map(String::is_empty).collect::<Vec<_>>();
            assert_eq!(left_out(&new.input), left_out(&old.input));
            assert_eq!(left_out(&new.output), left_out(&old.output));
        }
        assert_eq!(new.output, [real("z", &["1", "4"]), value("n", DataType::Int64, &["2"])], "{precision}");
    }
    let why = compiled(&encoded(&model), Format::Tflite, Precision::Float32).unwrap_err();
    assert!(why.contains("tflite cannot express Warp") && why.contains("tflite cannot express Bend"), "{why}");
}

#[test]
fn nodes_of_unknown_types_are_refused() {
    let graph = || GraphProto {
        name: Some("g".into()),
        node: vec![node("com.example", "Warp", &["x"], &["y"], vec![]), node("", "Relu", &["y"], &["z"], vec![])],
        input: vec![real("x", &["N", "M"])],
        output: vec![real("z", &["N", "4"])],
        value_info: vec![real("y", &["N", "4"])],
        ..GraphProto::default()
    };
    let refused = |change: &dyn Fn(&mut GraphProto), shapes: &[usize]| {
        let mut g = graph();
        change(&mut g);
        let model = Model::read(encoded(&onnx(g, &[("com.example", 1)])), Path::new("")).unwrap();
        let shapes = vec![("x".to_owned(), shapes.iter().map(|&n| Some(n)).collect())];
        let all = model.import(&ImportOptions { shapes, ..ImportOptions::default() });
        all.map_or_else(|all| all[0].to_string(), |imported| imported.graph.outputs()[0].name.to_string())
    };
    assert_eq!(refused(&|_| {}, &[2, 3]), "z");
    let why = refused(&|g| g.value_info.clear(), &[2, 3]);
    assert!(why.contains("does not say which type and shape y has (at warp)") && why.contains("value_info"), "{why}");
    let why = refused(&|g| g.value_info = vec![real("y", &["N", "K"])], &[2, 3]);
    assert!(why.contains("the shape of y, [N,K], does not follow from the inputs"), "{why}");
    let why = refused(&|g| g.value_info = vec![value("y", DataType::Double, &["N", "4"])], &[2, 3]);
    assert!(why.contains("y as float64"), "{why}");
    let why = refused(&|g| g.input = vec![value("x", DataType::Uint16, &["N", "M"])], &[2, 3]);
    assert!(why.contains("x as uint16"), "{why}");
    let why = refused(&|g| g.input = vec![value("x", DataType::Double, &["N", "M"])], &[2, 3]);
    assert!(why.contains("x as float64"), "{why}");
    // What is cast to double precision on the way says so nowhere.
    let to_double = |g: &mut GraphProto| {
        let to = AttributeProto { i: Some(DataType::Double as i64), ..attribute("to", AttributeType::Int) };
        g.node.insert(0, node("", "Cast", &["x"], &["d"], vec![to]));
        g.node[1].input[0] = "d".into();
    };
    let why = refused(&to_double, &[2, 3]);
    assert!(why.contains("the model has double precision, and does not say whether d has"), "{why}");
    let inner = |g: &mut GraphProto| {
        let body = AttributeProto { g: Some(Box::default()), ..attribute("body", AttributeType::Graph) };
        g.node[0].attribute = vec![body];
    };
    let why = refused(&inner, &[2, 3]);
    assert!(why.contains("attribute body is a graph"), "{why}");
    // An operator of the standard that is not known is no custom one.
    let why = refused(&|g| g.node[0].domain = None, &[2, 3]);
    assert!(why.contains("operator Warp is not supported"), "{why}");
}

/// In functions and branches types are those of the graph around the node, and so are operator sets.
#[test]
fn nodes_inside_functions_have_their_own_types() {
    let function = FunctionProto {
        name: Some("Twice".into()),
        domain: Some("local".into()),
        input: vec!["a".into()],
        output: vec!["c".into()],
        node: vec![
            node(
                "com.example",
                "Warp",
                &["a"],
                &["b"],
                vec![AttributeProto { ref_attr_name: Some("gain".into()), ..attribute("gain", AttributeType::Float) }],
            ),
            node("", "Neg", &["b"], &["c"], vec![]),
        ],
        attribute: vec!["gain".into()],
        opset_import: onnx(GraphProto::default(), &[("com.example", 6)]).opset_import,
        value_info: vec![real("b", &["3"])],
        ..FunctionProto::default()
    };
    let gain = AttributeProto { f: Some(0.25), ..attribute("gain", AttributeType::Float) };
    let graph = GraphProto {
        name: Some("g".into()),
        node: vec![node("local", "Twice", &["x"], &["y"], vec![gain])],
        input: vec![real("x", &["2"])],
        output: vec![real("y", &["3"])],
        value_info: vec![real("b", &["7"])],
        ..GraphProto::default()
    };
    let model = ModelProto { functions: vec![function], ..onnx(graph, &[("local", 1), ("com.example", 1)]) };
    let written = compiled(&encoded(&model), Format::Onnx, Precision::Float32).unwrap();
    let written = ModelProto::decode(written).unwrap();
    let graph = written.graph.as_ref().unwrap();
    let warp = graph.node.iter().find(|n| n.op_type() == "Warp").unwrap();
    assert_eq!((warp.attribute[0].name(), warp.attribute[0].f()), ("gain", 0.25));
    assert_eq!(graph.output, [real("y", &["3"])]);
    let set = written.opset_import.iter().find(|set| set.domain() == "com.example").unwrap();
    assert_eq!(set.version(), 6);
}

/// ONNX Runtime has kernels for operators that qcc does not know: they compute what they did.
#[cfg(feature = "oracles")]
#[test]
fn carried_operators_run_in_onnx_runtime() {
    use qcc_ir::testing::numbers;
    use qcc_ir::{Shape, Tensor};

    let crop = vec![
        AttributeProto { s: Some("bilinear".into()), ..attribute("mode", AttributeType::String) },
        AttributeProto { f: Some(0.5), ..attribute("extrapolation_value", AttributeType::Float) },
    ];
    let whole = |name: &str, values: &[i32]| TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Int32.into()),
        raw_data: Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()),
        ..TensorProto::default()
    };
    let weight = |name: &str, dims: [i64; 4], seed: u64| {
        let shape: Shape = dims.iter().map(|&d| d as usize).collect();
        floats_of(name, &dims, &numbers(shape, seed).floats())
    };
    let graph = GraphProto {
        name: Some("g".into()),
        node: vec![
            node("", "Conv", &["x", "w"], &["c"], vec![]),
            node("com.microsoft", "CropAndResize", &["c", "rois", "index", "size"], &["crops"], crop),
            NodeProto { name: Some("second".into()), ..node("", "Conv", &["crops", "v"], &["y"], vec![]) },
        ],
        initializer: vec![
            weight("w", [4, 3, 1, 1], 3),
            weight("v", [2, 4, 1, 1], 5),
            floats_of("rois", &[2, 4], &[0.1, 0.2, 0.8, 0.9, -0.2, 0.0, 1.0, 1.0]),
            whole("index", &[0, 0]),
            whole("size", &[3, 5]),
        ],
        input: vec![real("x", &["1", "3", "6", "6"])],
        output: vec![real("y", &["2", "2", "3", "5"])],
        value_info: vec![real("crops", &["2", "4", "3", "5"])],
        ..GraphProto::default()
    };
    let model = encoded(&onnx(graph, &[("com.microsoft", 1)]));
    let x: Tensor = numbers(Shape::known(&[1, 3, 6, 6]), 1);
    let run = |model: Bytes| Run { model, inputs: vec![x.clone()], optimized: true };
    let precisions = [Precision::Float32, Precision::W8A32];
    let written = precisions.map(|p| compiled(&model, Format::Onnx, p).unwrap());
    let runs: Vec<Run> = [model].into_iter().chain(written).map(run).collect();
    let found = oracle::run("ort.py", "ort_custom", &runs);
    let found: Vec<Vec<Tensor>> = found.into_iter().map(|outcome| outcome.unwrap()).collect();
    let most = |of: usize| {
        let pairs = found[0][0].floats().into_owned().into_iter().zip(found[of][0].floats().into_owned());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let largest = found[0][0].floats().iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(largest > 0.1 && most(1) <= 1e-5 * largest, "{} of {largest}", most(1));
    assert!(most(2) > 0.0 && most(2) <= 0.05 * largest, "{} of {largest}", most(2));
}

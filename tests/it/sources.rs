//! ONNX models with operators that other tools write: qcc's artefacts compute the same as the models in ONNX Runtime.

use std::fs;

use prost::Message;
use qcc_formats::onnx::{
    AttributeProto, AttributeType, DataType, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeValue,
};
use qcc_ir::{Shape, Tensor};

use crate::cli::{floats, node, of, qcc, some, text, value};
use crate::oracle::{self, Run};
use crate::runtime::difference;

fn contrib(kind: &str, operands: &[&str], result: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto { domain: some("com.microsoft"), attribute: attributes, ..node(kind, operands, result) }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: some(name), r#type: Some(kind.into()), ..AttributeProto::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::Int) }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, AttributeType::Float) }
}

fn string(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: Some(s.as_bytes().to_vec().into()), ..attribute(name, AttributeType::String) }
}

fn reals(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.into(), ..attribute(name, AttributeType::Floats) }
}

fn raw(name: &str, data_type: DataType, dims: &[i64], bytes: &[u8]) -> TensorProto {
    TensorProto {
        dims: dims.into(),
        data_type: Some(data_type.into()),
        name: some(name),
        raw_data: Some(bytes.to_vec().into()),
        ..TensorProto::default()
    }
}

/// Pseudo-random numbers from -1 to 1.
fn numbers(seed: u32) -> impl Iterator<Item = f32> {
    (1u32..).map(move |i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 32768.0 - 1.0)
}

/// The rank for an operator: 3 for Skip operators.
fn rank_of(what: &str) -> usize {
    if what.starts_with("Skip") { 3 } else { 4 }
}

/// Fails if a model and its artefact differ in ONNX Runtime by more than `most`.
fn agree(name: &str, models: Vec<(String, ModelProto)>, most: f32) {
    let dir = tempfile::tempdir().unwrap();
    let x = Tensor::from_vec(Shape::known(&[1, 2, 4, 4]), numbers(7).take(32).map(|v| 4.0 * v).collect());
    let mut runs = Vec::new();
    for (what, mut model) in models.clone() {
        model.opset_import = [("", 21), ("com.microsoft", 1)]
            .map(|(d, v)| OperatorSetIdProto { domain: some(d), version: Some(v) })
            .into();
        model.ir_version = Some(10);
        let graph = model.graph.as_mut().unwrap();
        graph.name = some("g");
        graph.output = vec![value("y", &[0; 4][..rank_of(&what)])];
        if let Some(TypeValue::Tensor(t)) = graph.output[0].r#type.as_mut().and_then(|t| t.value.as_mut()) {
            t.shape.as_mut().unwrap().dim.iter_mut().for_each(|d| d.value = None);
        }
        fs::write(dir.path().join("in.onnx"), model.encode_to_vec()).unwrap();
        for to in ["tflite", "openvino", "onnx"] {
            let out = qcc(dir.path(), &["in.onnx", "--to", to, "-o", "out.onnx"]);
            assert!(out.status.success(), "{what} to {to}: {}", text(&out.stderr));
        }
        for file in ["in.onnx", "out.onnx"] {
            let model = fs::read(dir.path().join(file)).unwrap().into();
            runs.push(Run { model, inputs: vec![x.clone()], optimized: false });
        }
    }
    let outcomes = oracle::run("ort.py", name, &runs);
    for ((what, _), pair) in models.iter().zip(outcomes.chunks(2)) {
        let [Ok(source), Ok(artefact)] = pair else { panic!("{what}: {pair:?}") };
        assert_eq!(source.len(), artefact.len(), "{what}");
        for (source, artefact) in source.iter().zip(artefact) {
            assert_eq!(difference(artefact, source, 0.0, most), None, "{what}");
        }
    }
}

#[test]
fn unusual_lstm_layers() {
    let texts = |name: &str, all: &[&str]| AttributeProto {
        strings: all.iter().map(|s| s.as_bytes().to_vec().into()).collect(),
        ..attribute(name, AttributeType::Strings)
    };
    let alphas = reals("activation_alpha", &[0.3, 0.2, 0.9]);
    let cases: Vec<(&str, Vec<AttributeProto>)> = vec![
        ("", vec![]),
        ("P", vec![]),
        ("P", vec![int("input_forget", 1)]),
        ("P", vec![float("clip", 0.5)]),
        ("", vec![string("direction", "reverse"), int("input_forget", 1)]),
        ("", vec![texts("activations", &["Sigmoid", "Relu", "Softsign"])]),
        (
            "P",
            vec![texts("activations", &["HardSigmoid", "LeakyRelu", "Elu"]), alphas, reals("activation_beta", &[0.4])],
        ),
        (
            "",
            vec![
                texts("activations", &["Sigmoid", "Affine", "ScaledTanh"]),
                reals("activation_alpha", &[0.7, 1.2]),
                reals("activation_beta", &[0.1, 0.5]),
            ],
        ),
    ];
    let models = cases.into_iter().enumerate().map(|(i, (peepholes, attributes))| {
        let mut layer = node("LSTM", &["r", "W", "R", "B", "", "", "", peepholes], "y");
        layer.attribute = [attributes, vec![int("hidden_size", 3)]].concat();
        let rows = raw("rows", DataType::Int64, &[3], &[2i64, 4, 4].map(i64::to_le_bytes).concat());
        let constants = vec![
            rows,
            floats("W", &[1, 12, 4], numbers(1)),
            floats("R", &[1, 12, 3], numbers(2)),
            floats("B", &[1, 24], numbers(3)),
            floats("P", &[1, 9], numbers(4)),
        ];
        (format!("LSTM {i}"), of(vec![node("Reshape", &["x", "rows"], "r"), layer], constants))
    });
    agree("lstm", models.collect(), 1e-5);
}

#[test]
fn operators_of_onnx_runtimes_optimizer() {
    let named = |node: NodeProto, constants: Vec<TensorProto>| {
        (
            format!("{} {:?}", node.op_type(), node.attribute.iter().map(|a| a.name()).collect::<Vec<_>>()),
            of(vec![node], constants),
        )
    };
    let row = |name: &str, seed: u32| floats(name, &[4], numbers(seed));
    let skip = floats("s", &[1, 2, 4, 4], numbers(3));
    let kernel = || {
        vec![
            floats("w", &[3, 2, 3, 3], numbers(1)),
            floats("b", &[3], numbers(2)),
            floats("z", &[1, 3, 2, 2], numbers(9)),
        ]
    };
    let mut models = vec![
        named(contrib("FastGelu", &["x"], "y", vec![]), vec![]),
        named(contrib("FastGelu", &["x", "b"], "y", vec![]), vec![row("b", 2)]),
        named(contrib("BiasGelu", &["x", "b"], "y", vec![]), vec![row("b", 2)]),
        named(contrib("Gelu", &["x"], "y", vec![]), vec![]),
        named(contrib("QuickGelu", &["x"], "y", vec![]), vec![]),
        named(contrib("QuickGelu", &["x"], "y", vec![float("alpha", 1.0)]), vec![]),
    ];
    for batch in [["transBatchA", "transBatchB"], ["transA", "transB"], ["transA", "transBatchA"], ["transB", "alpha"]]
    {
        let attributes = batch.map(|a| if a == "alpha" { float(a, 0.25) } else { int(a, 1) }).to_vec();
        let w = match batch[1] {
            "transBatchB" => floats("w", &[4, 2, 4, 3], numbers(5)),
            "transBatchA" => floats("w", &[2, 4, 1, 3], numbers(5)),
            _ => floats("w", &[1, 2, 4, 4], numbers(5)),
        };
        models.push(named(contrib("FusedMatMul", &["x", "w"], "y", attributes), vec![w]));
    }
    let activations: [(&str, &[f32]); 6] = [
        ("Relu", &[]),
        ("Tanh", &[]),
        ("Sigmoid", &[]),
        ("LeakyRelu", &[0.3]),
        ("Clip", &[-0.5, 1.5]),
        ("HardSigmoid", &[0.3, 0.4]),
    ];
    for (activation, parameters) in activations {
        let mut attributes = vec![string("activation", activation)];
        if !parameters.is_empty() {
            attributes.push(reals("activation_params", parameters));
        }
        models.push(named(contrib("FusedConv", &["x", "w", "b"], "y", attributes), kernel()));
    }
    let sum = contrib("FusedConv", &["x", "w", "b", "z"], "y", vec![string("activation", "Relu")]);
    models.push(named(sum, kernel()));
    // These have rank 3.
    let norms = [
        contrib("SkipLayerNormalization", &["r", "s", "g"], "n", vec![float("epsilon", 0.01)]),
        contrib("SkipLayerNormalization", &["r", "s", "g", "o", "b"], "n", vec![]),
        contrib("SkipSimplifiedLayerNormalization", &["r", "s", "g", "b"], "n", vec![float("epsilon", 0.01)]),
    ];
    for mut norm in norms {
        norm.output = ["n", "", "", "t"].map(String::from).to_vec();
        let what = format!("{} of {}", norm.op_type(), norm.input.len());
        let nodes = vec![node("Reshape", &["x", "d"], "r"), norm, node("Add", &["n", "t"], "y")];
        let dims = raw("d", DataType::Int64, &[3], &[2i64, 4, 4].map(i64::to_le_bytes).concat());
        let skip = TensorProto { dims: vec![2, 4, 4], ..skip.clone() };
        models.push((what, of(nodes, vec![dims, skip, row("g", 4), row("o", 6), row("b", 8)])));
    }
    agree("ort_fused", models, 2e-5);
}

/// Quantized integers that are clamped, cast, moved and concatenated; quantization parameters that no target supports;
/// blockwise quantized weights.
#[test]
fn quantized_values() {
    let quantize = |x: &str, q: &str| node("QuantizeLinear", &[x, "s", "z"], q);
    let dequantize = |q: &str, y: &str| node("DequantizeLinear", &[q, "s", "z"], y);
    let cast =
        |x: &str, y: &str, to: DataType| NodeProto { attribute: vec![int("to", to as i64)], ..node("Cast", &[x], y) };
    let along = |kind: &str, operands: &[&str], y: &str| NodeProto {
        attribute: vec![int("axis", 1)],
        ..node(kind, operands, y)
    };
    let mut split = along("Split", &["q"], "a");
    split.output.push("b".into());
    split.attribute.push(int("num_outputs", 2));
    let mut models = Vec::new();
    for (data_type, zero) in [(DataType::Int8, 3u8), (DataType::Uint8, 130)] {
        let scheme = || vec![floats("s", &[], [0.02].into_iter()), raw("z", data_type, &[], &[zero])];
        let between = |nodes: Vec<NodeProto>| {
            let mut all = vec![quantize("x", "q")];
            all.extend(nodes);
            all.push(dequantize("p", "y"));
            all
        };
        let limits = |nodes| {
            let ends = [raw("lo", data_type, &[], &[20]), raw("hi", data_type, &[], &[100])];
            of(between(nodes), scheme().into_iter().chain(ends).collect())
        };
        let what = |of: &str| format!("{of} of {data_type:?}");
        models.push((what("Clip"), limits(vec![node("Clip", &["q", "lo", "hi"], "p")])));
        models.push((what("Max"), limits(vec![node("Max", &["q", "lo"], "p")])));
        models.push((what("Min"), limits(vec![node("Min", &["hi", "q"], "p")])));
        models.push((what("Cast to itself"), of(between(vec![cast("q", "p", data_type)]), scheme())));
        let there_and_back = vec![cast("q", "w", DataType::Int32), cast("w", "p", data_type)];
        models.push((what("Cast"), of(between(there_and_back), scheme())));
        models.push((what("Concat"), of(between(vec![along("Concat", &["q", "q"], "p")]), scheme())));
        let swapped = vec![split.clone(), along("Concat", &["b", "a"], "p")];
        models.push((what("Split"), of(between(swapped), scheme())));
    }
    // 0.0001 * 32767 is less than the maximum of x.
    for (data_type, zero) in [(DataType::Int16, [0u8, 0]), (DataType::Uint16, [0, 128]), (DataType::Uint16, [0, 0])] {
        let scheme = vec![floats("s", &[], [1e-4].into_iter()), raw("z", data_type, &[], &zero)];
        models.push((format!("{data_type:?} {zero:?}"), of(vec![quantize("x", "q"), dequantize("q", "y")], scheme)));
    }
    for (bits, packed) in [(4i64, 8u8), (8, 16)] {
        let bytes: Vec<u8> = (0..6 * packed as usize).map(|i| (i * 53 + 17) as u8).collect();
        let scales = floats("s", &[6], numbers(5).map(|v| v.abs() + 0.01));
        let weight = raw("w", DataType::Uint8, &[6, 1, packed.into()], &bytes);
        let attributes = vec![int("K", 4), int("N", 6), int("bits", bits), int("block_size", 16)];
        let zeros = raw("z", DataType::Uint8, &[6], &[7, 3, 0, 15, 9, 1]);
        let plain = contrib("MatMulNBits", &["x", "w", "s"], "y", attributes.clone());
        models.push((format!("{bits} bits"), of(vec![plain], vec![weight.clone(), scales.clone()])));
        let shifted = contrib("MatMulNBits", &["x", "w", "s", "z"], "y", attributes);
        models.push((format!("{bits} bits and zero points"), of(vec![shifted], vec![weight, scales, zeros])));
    }
    for axis in [0i64, 1] {
        let dims = if axis == 0 { [2, 3] } else { [4, 2] };
        let weight = raw("w", DataType::Int4, &[4, 3], &[0x71, 0x8f, 0x3a, 0xc4, 0x25, 0x96]);
        let scales = floats("s", &dims, numbers(5).map(|v| v.abs() + 0.01));
        let blocks = NodeProto {
            attribute: vec![int("axis", axis), int("block_size", 2)],
            ..node("DequantizeLinear", &["w", "s"], "r")
        };
        let nodes = vec![blocks, node("MatMul", &["x", "r"], "y")];
        models.push((format!("blocks along {axis}"), of(nodes, vec![weight, scales])));
    }
    agree("ort_sources", models, 2e-4);
}

/// A model in which only inputs and weights of convolutions are quantized, and `body` computes `m` of `a` and `b`
/// between two of them. A second convolution computes `b` of `a`, the clamped result of the first.
fn quantized_convolutions_around(body: Vec<NodeProto>, joined: i64) -> ModelProto {
    let weight = |i: usize, dims: &[i64]| {
        let n: i64 = dims.iter().product();
        let bytes: Vec<u8> = numbers(i as u32).take(n as usize).map(|v| (v * 127.0) as i8 as u8).collect();
        raw(&format!("w{i}"), DataType::Int8, dims, &bytes)
    };
    let convolution = |i: usize, x: &str, y: &str| {
        let [q, d, w] = ["q", "d", "e"].map(|name| format!("{name}{i}"));
        let conv = NodeProto {
            attribute: vec![AttributeProto { ints: vec![1; 4], ..attribute("pads", AttributeType::Ints) }],
            ..node("Conv", &[&d, &w], y)
        };
        [
            node("QuantizeLinear", &[x, "s", "z"], &q),
            node("DequantizeLinear", &[&q, "s", "z"], &d),
            node("DequantizeLinear", &[&format!("w{i}"), "t", "z"], &w),
            conv,
        ]
    };
    let mut nodes = convolution(0, "x", "c").to_vec();
    nodes.push(node("Relu", &["c"], "a"));
    nodes.extend(convolution(1, "a", "b"));
    nodes.extend(body);
    nodes.extend(convolution(2, "m", "y"));
    let constants = vec![
        floats("s", &[], [0.04].into_iter()),
        floats("t", &[], [0.006].into_iter()),
        raw("z", DataType::Int8, &[], &[0]),
        weight(0, &[4, 2, 3, 3]),
        weight(1, &[4, 4, 3, 3]),
        weight(2, &[2, joined, 3, 3]),
    ];
    of(nodes, constants)
}

#[test]
fn data_calibrate_what_a_partly_quantized_model_lacks() {
    let along = |kind: &str, operands: &[&str], y: &str| NodeProto {
        attribute: vec![int("axis", 1)],
        ..node(kind, operands, y)
    };
    let models = [
        (vec![node("Add", &["a", "b"], "r"), node("Relu", &["r"], "m")], 4),
        (vec![node("Sigmoid", &["b"], "r"), node("Mul", &["r", "b"], "t1"), node("Add", &["t1", "a"], "m")], 4),
        (vec![along("Concat", &["b", "a"], "m")], 8),
    ];
    let dir = tempfile::tempdir().unwrap();
    // Random data are between 0 and 1, too.
    let x = Tensor::from_vec(Shape::known(&[1, 2, 4, 4]), numbers(7).take(32).map(|v| 0.5 * v + 0.5).collect());
    let mut runs = Vec::new();
    for (body, joined) in models {
        let mut model = quantized_convolutions_around(body, joined);
        let graph = model.graph.as_mut().unwrap();
        graph.name = some("g");
        graph.output = vec![value("y", &[1, 2, 4, 4])];
        fs::write(dir.path().join("in.onnx"), model.encode_to_vec()).unwrap();
        let alone = qcc(dir.path(), &["in.onnx", "--to", "tflite", "-o", "out.tflite"]);
        let (told, warned) = (text(&alone.stdout), text(&alone.stderr));
        assert!(told.contains("\nin float ") && warned.contains("missing-qparams"), "{told}{warned}");
        let with_data = ["--int8", "--data", "random", "--min-sqnr", "20", "--input-layout", "nchw"];
        for to in ["tflite", "onnx"] {
            let out = qcc(dir.path(), &[&["in.onnx", "--to", to, "-o", "out"][..], &with_data].concat());
            let (told, warned) = (text(&out.stdout), text(&out.stderr));
            assert!(out.status.success() && !warned.contains("missing-qparams"), "{warned}");
            let whole = told.contains("\ninteger      100.00 % of multiplications\n") && !told.contains("\nin float ");
            assert!(to == "onnx" || whole, "{told}");
        }
        for file in ["in.onnx", "out"] {
            let model = fs::read(dir.path().join(file)).unwrap().into();
            runs.push(Run { model, inputs: vec![x.clone()], optimized: false });
        }
    }
    let outcomes = oracle::run("ort.py", "missing_grids", &runs);
    for pair in outcomes.chunks(2) {
        let [Ok(source), Ok(artefact)] = pair else { panic!("{pair:?}") };
        let most = source[0].floats().iter().fold(0f32, |most, v| most.max(v.abs()));
        assert_eq!(difference(&artefact[0], &source[0], 0.0, most / 16.0), None);
    }
}

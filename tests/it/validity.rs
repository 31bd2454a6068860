//! Invalid scales and zero points: refused with the name of the node or tensor and a remedy.

use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use qcc::frontends::{ImportOptions, Model};
use qcc_formats::onnx::{
    AttributeProto, AttributeType, DataType, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};
use qcc_formats::tflite::{BuiltinOperator as B, Options, Quantization, Tensor as Entry, TensorType as Stored};

use crate::cli::{floats, node, of, some};
use crate::tflite_models::{Part, bytes, entry, float, one_operator};

/// The errors of importing a model; it must be refused, with names and remedies.
fn refused(model: Bytes) -> String {
    let imported = Model::read(model, Path::new("/nowhere")).and_then(|m| m.import(&ImportOptions::default()));
    let Err(all) = imported else { return "  accepted\n".into() };
    let mut out = String::new();
    for d in all {
        assert!(d.code != "internal" && !d.origin.path().is_empty(), "{d:?}");
        let help = d.help.as_deref().expect("help");
        _ = writeln!(out, "  {}: {}: {}\n    {help}", d.origin.path(), d.code, d.message);
    }
    out
}

fn repeated(name: &str, dims: &[i64], value: f32) -> TensorProto {
    floats(name, dims, std::iter::repeat(value))
}

/// Integers of a narrow element type, in the common field.
fn narrow(name: &str, elem: DataType, dims: &[i64], value: i32) -> TensorProto {
    TensorProto {
        name: some(name),
        dims: dims.into(),
        data_type: Some(elem as i32),
        int32_data: vec![value; dims.iter().product::<i64>() as usize],
        ..TensorProto::default()
    }
}

/// Cases of invalid scales and zero points with these extents, by name.
fn malformed(dims: &[i64]) -> Vec<(&'static str, TensorProto, TensorProto)> {
    use DataType::{Int32, Uint8};
    let scale = |value| repeated("s", dims, value);
    let (good, zero) = (scale(0.5), narrow("z", Uint8, dims, 0));
    vec![
        ("NaN", scale(f32::NAN), zero.clone()),
        ("infinite", scale(f32::INFINITY), zero.clone()),
        ("no scale", scale(0.0), zero.clone()),
        ("negative", scale(-0.5), zero.clone()),
        ("other count", repeated("s", &[5], 0.5), narrow("z", Uint8, &[5], 0)),
        ("other shape", repeated("s", &[1, 3], 0.5), narrow("z", Uint8, &[1, 3], 0)),
        ("integer scales", narrow("s", Int32, dims, 1), zero.clone()),
        ("real zero points", good.clone(), repeated("z", dims, 0.0)),
        ("more zero points", good.clone(), narrow("z", Uint8, &[7], 0)),
        ("zero point beyond its type", good, narrow("z", Uint8, dims, 300)),
    ]
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: some(name),
        i: Some(i),
        r#type: Some(AttributeType::Int as i32),
        ..AttributeProto::default()
    }
}

/// A model of opset 21 with valid scales `gs`, zero points `gz`, and integers `w` and `m`.
fn model(nodes: Vec<NodeProto>, mut constants: Vec<TensorProto>) -> Bytes {
    let u8 = DataType::Uint8;
    constants.extend([
        repeated("gs", &[], 0.5),
        narrow("gz", u8, &[], 1),
        narrow("w", u8, &[2, 2, 1, 1], 3),
        narrow("m", u8, &[4, 2], 3),
        narrow("k", u8, &[1, 2, 4, 4], 3),
    ]);
    let opset_import = vec![OperatorSetIdProto { domain: some(""), version: Some(21) }];
    ModelProto { opset_import, ..of(nodes, constants) }.encode_to_vec().into()
}

#[test]
fn malformed_schemes_of_onnx_are_refused_by_name() {
    let with = |node: NodeProto, attributes: Vec<AttributeProto>| NodeProto { attribute: attributes, ..node };
    let quantized = || node("QuantizeLinear", &["x", "gs", "gz"], "q");
    let back = || node("DequantizeLinear", &["r", "gs", "gz"], "y");
    let add = || node("Add", &["x", "d"], "y");
    // The node with the invalid parameters, their valid extents, and the nodes.
    let places: Vec<(&str, &[i64], Vec<NodeProto>)> = vec![
        ("QuantizeLinear", &[], vec![node("QuantizeLinear", &["x", "s", "z"], "r"), back()]),
        ("QuantizeLinear of channels", &[2], vec![node("QuantizeLinear", &["x", "s", "z"], "r"), back()]),
        ("DequantizeLinear", &[], vec![quantized(), node("DequantizeLinear", &["q", "s", "z"], "y")]),
        ("DequantizeLinear of a weight", &[2], vec![node("DequantizeLinear", &["k", "s", "z"], "d"), add()]),
        (
            "DequantizeLinear in blocks",
            &[1, 2, 4, 2],
            vec![
                with(node("DequantizeLinear", &["k", "s", "z"], "d"), vec![int("axis", 3), int("block_size", 2)]),
                add(),
            ],
        ),
        (
            "QLinearConv, x",
            &[],
            vec![quantized(), node("QLinearConv", &["q", "s", "z", "w", "gs", "gz", "gs", "gz"], "r"), back()],
        ),
        (
            "QLinearConv, w",
            &[2],
            vec![quantized(), node("QLinearConv", &["q", "gs", "gz", "w", "s", "z", "gs", "gz"], "r"), back()],
        ),
        (
            "QLinearConv, y",
            &[],
            vec![quantized(), node("QLinearConv", &["q", "gs", "gz", "w", "gs", "gz", "s", "z"], "r"), back()],
        ),
        (
            "QLinearMatMul, a",
            &[],
            vec![quantized(), node("QLinearMatMul", &["q", "s", "z", "m", "gs", "gz", "gs", "gz"], "r"), back()],
        ),
        (
            "QLinearMatMul, b",
            &[2],
            vec![quantized(), node("QLinearMatMul", &["q", "gs", "gz", "m", "s", "z", "gs", "gz"], "r"), back()],
        ),
        (
            "QLinearMatMul, y",
            &[],
            vec![quantized(), node("QLinearMatMul", &["q", "gs", "gz", "m", "gs", "gz", "s", "z"], "r"), back()],
        ),
    ];
    let mut out = String::new();
    for (place, dims, nodes) in places {
        _ = writeln!(out, "## {place}");
        let good = vec![repeated("s", dims, 0.5), narrow("z", DataType::Uint8, dims, 0)];
        assert_eq!(refused(model(nodes.clone(), good)), "  accepted\n", "{place}");
        for (name, scale, zero) in malformed(dims) {
            let said = refused(model(nodes.clone(), vec![scale, zero]));
            // Numbers are only multiplied by the scales of blocks.
            let fits = place.ends_with("in blocks") && ["no scale", "negative"].contains(&name);
            assert_eq!(said == "  accepted\n", fits, "{place}, {name}");
            _ = write!(out, "{name}\n{said}");
        }
    }
    let cast = with(node("Cast", &["x"], "c"), vec![int("to", DataType::Int64 as i64)]);
    let dynamic =
        NodeProto { output: vec!["r".into(), "s".into(), "z".into()], ..node("DynamicQuantizeLinear", &["c"], "r") };
    let nodes = vec![cast, dynamic, node("DequantizeLinear", &["r", "s", "z"], "y")];
    _ = write!(out, "## DynamicQuantizeLinear\nintegers\n{}", refused(model(nodes, vec![])));
    insta::assert_snapshot!("malformed_onnx_schemes", out);
}

#[test]
fn malformed_schemes_of_tflite_are_refused_by_name() {
    let scheme = |part: Part, scale: &[f32], zero_point: &[i64], dimension| {
        let quantization =
            Quantization { scale: scale.into(), zero_point: zero_point.into(), dimension, ..Quantization::default() };
        (Entry { quantization: Some(quantization), ..part.0 }, part.1)
    };
    let cases: [(&str, &[f32], &[i64], i32); 12] = [
        ("NaN", &[f32::NAN], &[0], 0),
        ("infinite", &[f32::INFINITY], &[0], 0),
        ("no scale", &[0.0], &[0], 0),
        ("negative", &[-0.5], &[0], 0),
        ("one of several is none", &[0.5, 0.0], &[0, 0], 0),
        ("other count", &[0.5, 0.5, 0.5], &[0, 0, 0], 0),
        ("no such axis", &[0.5, 0.5], &[0, 0], 2),
        ("negative axis", &[0.5, 0.5], &[0, 0], -1),
        ("more zero points", &[0.5], &[0, 0, 0], 0),
        ("zero point beyond its type", &[0.5], &[128], 0),
        ("zero point beyond 32 bits", &[0.5], &[1 << 40], 0),
        ("zero points of channels", &[0.5, 0.5], &[0, 1], 0),
    ];
    let mut out = String::new();
    for (name, scale, zero_point, dimension) in cases {
        let constant = scheme(bytes(Stored::INT8, &[2, 2], &[1; 4]), scale, zero_point, dimension);
        let value = || scheme((entry(Stored::INT8, &[2, 2]), None), scale, zero_point, dimension);
        let models = [
            one_operator(B::DEQUANTIZE, 1, Options::None, vec![constant], vec![float(&[2, 2])]),
            one_operator(B::DEQUANTIZE, 1, Options::None, vec![value()], vec![float(&[2, 2])]),
            one_operator(B::QUANTIZE, 1, Options::None, vec![float(&[2, 2])], vec![value()]),
        ];
        for (place, model) in ["constant", "input", "result"].into_iter().zip(models) {
            let said = refused(model);
            assert_ne!(said, "  accepted\n", "{name}, {place}");
            _ = write!(out, "{name}, {place}\n{said}");
        }
    }
    insta::assert_snapshot!("malformed_tflite_schemes", out);
}

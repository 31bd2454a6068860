use bytes::Bytes;
use prost::Message;
use qcc_formats::onnx::{ModelProto, StringStringEntryProto};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::text::{Weights, parse};
use qcc_ir::{Checked, Graph};

use super::{ORT_WEB, TARGET, disassemble, too_large};
use crate::{Attachments, Memory, Summary, WriteOptions};

fn graph(text: &str) -> Graph {
    parse(text, &Weights::new()).unwrap()
}

fn write(g: &Graph, options: WriteOptions, files: &mut Memory) -> Result<Summary, Vec<Diagnostic>> {
    super::write(Checked::new(g, &TARGET)?, options, &Attachments::default(), files)
}

/// The disassembly of a file, without the digests of constants.
fn listing(file: Vec<u8>) -> String {
    let all = disassemble(&Bytes::from(file), &|name| Err(name.to_owned())).unwrap().to_string();
    all.lines().map(|l| l.split(" in ").next().unwrap().to_owned() + "\n").collect()
}

/// The operators of a graph's file as text.
fn nodes(text: &str, options: WriteOptions) -> Vec<String> {
    let mut files = Memory::new("model.onnx");
    let summary = write(&graph(text), options, &mut files).unwrap();
    assert_eq!(summary.bytes, files.files.values().map(|f| f.len() as u64).sum::<u64>());
    let listing = listing(files.files["model.onnx"].clone());
    listing.lines().skip_while(|l| !l.contains(" = ")).map(|l| l.trim().to_owned()).collect()
}

fn operators(text: &str, options: WriteOptions) -> Vec<String> {
    let nodes = nodes(text, options);
    let operator = |line: &String| {
        let call = line.split_once(" = ")?.1;
        line.ends_with('"').then(|| call.split(' ').next().unwrap_or_default().to_owned())
    };
    nodes.iter().filter_map(operator).collect()
}

const QDQ: WriteOptions = WriteOptions::PLAIN;
const QOPERATOR: WriteOptions = WriteOptions { qoperator: true, ..WriteOptions::PLAIN };

const CLAMPED: &str = "graph g {
  %x: u8<0.1:0>[1,1,2,2] = input
  %w: i8<axis 0: 0.5>[1,1,1,1] = const [3]
  %b: i32<axis 0: 0.05>[1] = const [7]
  %c: u8<GRID>[1,1,2,2] = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w, %b
  %y: u8<GRID>[1,1,2,2] = clamp(lo:0.0,hi:6.0) %c
  output y = %y
}
";

#[test]
fn weights_beyond_the_memory_of_a_device_are_refused() {
    let web = WriteOptions { device: Some(&ORT_WEB), ..WriteOptions::PLAIN };
    assert!(too_large(web, 4_000_000_000).is_none() && too_large(QDQ, 1 << 40).is_none());
    let why = too_large(web, 5_000_000_000).unwrap();
    assert_eq!(why.message, "ort-web has memory for 4.3 GB, and the weights alone have 5.0 GB");
}

#[test]
fn limits_of_the_quantized_range_need_no_operator() {
    let implied = CLAMPED.replace("GRID", "0.02:0");
    let dequantized = ["DequantizeLinear"; 3];
    assert_eq!(operators(&implied, QDQ), [&dequantized[..], &["Conv", "QuantizeLinear", "Identity"]].concat());
    assert_eq!(operators(&implied, QOPERATOR), ["QLinearConv", "Identity"]);
    // The range of c includes negative numbers.
    let wider = CLAMPED.replace("GRID", "0.02:5");
    assert_eq!(operators(&wider, QDQ), [&dequantized[..], &["Conv", "QuantizeLinear", "Clip"]].concat());
    assert_eq!(operators(&wider, QOPERATOR), ["QLinearConv", "Clip"]);
    // 0 and 6 quantized: 5 and 255, the maximum.
    let listing = nodes(&wider, QOPERATOR);
    assert!(listing.contains(&"y = Clip c_quantized, c_zero_point, const \"Clip\"".to_owned()), "{listing:?}");
    assert!(listing.contains(&"c_zero_point: uint8 [] = [5]".to_owned()), "{listing:?}");
    assert!(listing.contains(&"const: uint8 [] = [255]".to_owned()), "{listing:?}");
}

#[test]
fn a_product_with_a_bias_is_a_gemm() {
    let product = |shape: &str, result: &str| {
        let text = format!(
            "graph g {{
              %x: f32{shape} = input
              %w: f32[2,3] = const [1,2,3,4,5,6]
              %b: f32[2] = const [1,2]
              %y: f32{result} = matmul(transpose_b:true) %x, %w, %b
              output y = %y
            }}
            "
        );
        operators(&text, QDQ)
    };
    assert_eq!(product("[4,3]", "[4,2]"), ["Gemm"]);
    assert_eq!(product("[5,4,3]", "[5,4,2]"), ["MatMul", "Add"]);
}

#[test]
fn integers_of_more_axes_are_multiplied_as_matrices() {
    let text = "graph g {
      %x: u8<0.1:3>[2,4,3] = input
      %w: i8<axis 0: 0.5,0.25>[2,3] = const [1,2,3,4,5,6]
      %b: i32<axis 0: 0.05,0.025>[2] = const [7,8]
      %y: u8<0.2:9>[2,4,2] = matmul(transpose_b:true) %x, %w, %b
      output y = %y
    }
    ";
    assert_eq!(operators(text, QOPERATOR), ["Reshape", "com.microsoft.QGemm", "Reshape"]);
    let real = operators(text, QDQ);
    let gemm = real.iter().position(|o| o == "Gemm").unwrap();
    assert_eq!(real[gemm + 1..], ["QuantizeLinear", "DequantizeLinear", "Reshape", "QuantizeLinear"]);
}

#[test]
fn weight_only_quantization() {
    let matmul = "graph g {
      %x: f32[2,4,3] = input
      %w: i8<axis 0: 0.5,0.25>[2,3] = const [1,2,3,4,5,6]
      %y: f32[2,4,2] = matmul(transpose_b:true) %x, %w
      output y = %y
    }
    ";
    assert_eq!(operators(matmul, QDQ), ["Cast", "Mul", "MatMul"]);
    let dynamic = matmul
        .replace("%y:", "%r: f32[2,4,3] = dynamic_quantize(granularity:Axes(from:0,to:3)) %x\n%y:")
        .replace("%x, %w", "%r, %w");
    assert_eq!(operators(&dynamic, QDQ), ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"]);
    let conv = "graph g {
      %x: f32[1,1,2,2] = input
      %w: i8<axis 0: 0.5>[1,1,1,1] = const [3]
      %y: f32[1,1,2,2] = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w
      output y = %y
    }
    ";
    assert_eq!(operators(conv, QDQ), ["Cast", "Mul", "Conv"]);
}

/// ONNX Runtime would quantize the weight of a float convolution between integers.
#[test]
fn float_contractions_between_integers_have_per_channel_operands() {
    let text = |middle: &str, read: &str| {
        format!(
            "graph g {{
              %x: u8<0.1:3>[1,2,4,4] = input
              %r = dequantize %x
              {middle}
              %w: f32[2,2,1,1] = const [1,2,3,4]
              %c = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) {read}, %w
              %y: u8<0.2:9>[1,2,4,4] = quantize %c
              output y = %y
            }}
            "
        )
    };
    let scales = |text: &str| {
        let line = nodes(text, QDQ).into_iter().find(|l| l.contains(" = DequantizeLinear")).unwrap();
        line.contains("axis: 1")
    };
    assert!(scales(&text("", "%r")));
    let moved = "%t = transpose(perm:[0,1,3,2]) %r";
    assert!(scales(&text(moved, "%t")));
    let computed = "%t = unary(f:Exp) %r";
    assert!(!scales(&text(computed, "%t")));
}

#[test]
fn a_quantized_hard_sigmoid_is_an_add() {
    let text = "graph g {
      %x: u8<0.1:30>[4] = input
      %y: u8<0.0039:0>[4] = unary(f:HardSigmoid(alpha:0.2,beta:0.5)) %x
      output y = %y
    }
    ";
    assert_eq!(operators(text, QDQ), ["DequantizeLinear", "DequantizeLinear", "Add", "QuantizeLinear"]);
    // The range exceeds 1, where the sum would not be limited.
    let wider = text.replace("0.0039", "0.01");
    assert_eq!(operators(&wider, QDQ), ["DequantizeLinear", "HardSigmoid", "QuantizeLinear"]);
}

#[test]
fn the_operator_set_is_the_least_that_has_all_operators() {
    let set = |f: &str| {
        let text = format!("graph g {{\n  %x: f32[2,3] = input\n  %y = {f} %x\n  output y = %y\n}}\n");
        let mut files = Memory::new("m.onnx");
        write(&graph(&text), QDQ, &mut files).unwrap();
        listing(files.files["m.onnx"].clone())
    };
    let tanh = set("unary(f:Tanh)");
    assert!(tanh.starts_with("onnx\nir_version: 8\nopset ai.onnx: 17\nproducer: qcc"), "{tanh}");
    assert!(set("unary(f:Mish)").contains("\nopset ai.onnx: 18\n"));
    assert!(set("unary(f:Gelu(tanh:true))").starts_with("onnx\nir_version: 9\n"));
}

#[test]
fn names_of_inputs_and_outputs_stay() {
    let text = "graph g {
      %x: f32[2] = input
      %a = unary(f:Tanh) %x
      output y = %a
      output z = %a
      output x2 = %x
    }
    ";
    assert_eq!(nodes(text, QDQ), ["y = Tanh x \"Tanh\"", "z = Identity y \"z\"", "x2 = Identity x \"x2\"",]);
}

#[test]
fn open_extents_keep_their_names() {
    let open = "graph g {
      %x: f32[N,4] = input
      %y: f32[N,2,2] = reshape[\"N\",2,2] %x
      output y = %y
    }
    ";
    let mut files = Memory::new("m.onnx");
    write(&graph(open), QDQ, &mut files).unwrap();
    let listing = listing(files.files["m.onnx"].clone());
    assert!(listing.contains("  output y\n") && listing.contains("  y: float [N, 2, 2]\n"), "{listing}");
    let two = open.replace("[N,4]", "[N,M,4]").replace("[N,2,2]", "[N,M,2,2]").replace("\"N\",", "\"N\",\"M\",");
    let mut files = Memory::new("m.onnx");
    write(&graph(&two), QDQ, &mut files).unwrap();
    let listing = self::listing(files.files["m.onnx"].clone());
    assert!(listing.contains("  y: float [N, M, 2, 2]\n"), "{listing}");
}

#[test]
fn large_weights_lie_outside() {
    let weight: Vec<String> = (0..300).map(|i| i.to_string()).collect();
    let text = format!(
        "graph g {{
          %x: f32[300] = input
          %w: f32[300] = const [{list}]
          %v: f32[300] = const [{list}]
          %c: f32[1] = const [2]
          %a = binary(f:Mul) %x, %w
          %b = binary(f:Mul) %a, %c
          %y = binary(f:Add) %b, %v
          output y = %y
        }}
        ",
        list = weight.join(",")
    )
    .replacen("%v: f32[300] = const [0,", "%v: f32[300] = const [1,", 1);
    let mut files = Memory::new("model.onnx");
    let summary = write(&graph(&text), WriteOptions { external_data: true, ..QDQ }, &mut files).unwrap();
    let data = &files.files["model.onnx.data"];
    assert_eq!((data.len(), summary.constants), (4096 + 1200, 3));
    assert_eq!(data[4096..4100], 1f32.to_le_bytes());
    let model = ModelProto::decode(Bytes::from(files.files["model.onnx"].clone())).unwrap();
    let outside: Vec<&StringStringEntryProto> =
        model.graph.as_ref().unwrap().initializer.iter().flat_map(|t| &t.external_data).collect();
    let said: Vec<(&str, &str)> = outside.iter().map(|e| (e.key(), e.value())).collect();
    let place = |offset| [("location", "model.onnx.data"), ("offset", offset), ("length", "1200")];
    assert!(said.windows(3).any(|w| w == place("4096")), "{said:?}");
}

#[test]
fn all_refusals_come_together() {
    let text = "graph g {
      %x: f32[2] = input
      %a = unary(f:Silu) %x
      %y = unary(f:Rsqrt) %a
      output y = %y
    }
    ";
    let mut files = Memory::new("m.onnx");
    let refused = write(&graph(text), QDQ, &mut files).unwrap_err();
    assert_eq!(refused.len(), 2);
    assert!(files.files.is_empty());
}

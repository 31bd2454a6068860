use bytes::Bytes;
use qcc_formats::tflite::Model;
use qcc_ir::ops::{Clamp, Conv, Extents, MatMul, Pool, PoolFn, Relayout, Unary, UnaryFn};
use qcc_ir::text::{Weights, parse};
use qcc_ir::{Checked, Dim, Elem, Graph, Layout, Origin, Shape, Tensor, TensorType};
use smallvec::smallvec;

use super::{TARGET, disassemble, write};
use crate::Attachments;

fn image(dims: &[usize]) -> TensorType {
    TensorType { layout: Layout::channels_last(dims.len()), ..TensorType::f32(dims) }
}

fn zeros(ty: TensorType) -> Tensor {
    let n = ty.shape.elements().unwrap();
    Tensor::of(ty, vec![0f32; n])
}

fn checked(g: &Graph) -> Checked<'_> {
    Checked::new(g, &TARGET).unwrap()
}

fn text(g: &Graph) -> String {
    let mut out = Vec::new();
    let summary = write(checked(g), None, &Attachments::default(), &mut out).unwrap();
    assert_eq!(summary.bytes, out.len() as u64);
    disassemble(&Bytes::from(out)).unwrap().to_string()
}

/// A convolution without bias, followed by a clamp.
fn convolution(groups: usize, weight: &[usize]) -> Graph {
    let mut g = Graph::new("conv");
    let data = image(&[1, 4, 8, 8]);
    let conv = Conv { before: smallvec![1, 1], after: smallvec![1, 1], groups, ..Conv::unit(2) };
    let ty = TensorType::f32(weight);
    let kernel = (TARGET.kernel)(&conv.clone().into(), &[&data, &ty]).unwrap();
    let layout = kernel.weight_order.iter().copied().collect();
    let x = g.add_input("image", data);
    let w = g.add_const(zeros(TensorType { layout, ..ty }), Origin::new("w", "w"));
    let y = g.add1(conv, &[x, w], Origin::new("/conv", "Conv")).unwrap();
    let y = g.add1(Clamp::RELU6, &[y], Origin::new("/relu", "Relu6")).unwrap();
    g.add_output("out", y);
    g
}

#[test]
fn convolutions_have_a_bias_and_their_activation() {
    let text = text(&convolution(1, &[6, 4, 3, 3]));
    assert!(
        text.contains("%2 = CONV_2D.1 %0, %1, %3 {padding: SAME, stride_w: 1, stride_h: 1, activation: RELU6,"),
        "{text}"
    );
    assert!(text.contains("%1 \"w\": FLOAT32 [6, 3, 3, 4] = 864 bytes"), "{text}");
    assert!(text.contains("%3 \"const\": FLOAT32 [6] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0] in 24 bytes"), "{text}");
}

#[test]
fn depthwise_filters_have_one_row() {
    let text = text(&convolution(4, &[8, 1, 3, 3]));
    assert!(text.contains("FLOAT32 [1, 3, 3, 8]"), "{text}");
    assert!(
        text.contains("DEPTHWISE_CONV_2D.1 %0, %1, %3 {padding: SAME, stride_w: 1, stride_h: 1, depth_multiplier: 2"),
        "{text}"
    );
}

#[test]
fn all_refusals_come_together() {
    let mut g = Graph::new("refused");
    let x = g.add_input("x", TensorType::f32(&[2, 3]));
    let y = g.add1(Unary { f: UnaryFn::Erf }, &[x], Origin::new("/erf", "Erf")).unwrap();
    let z = g.add1(Unary { f: UnaryFn::Tan }, &[y], Origin::new("/tan", "Tan")).unwrap();
    g.add_output("z", z);
    let refused = Checked::new(&g, &TARGET).unwrap_err();
    let paths: Vec<&str> = refused.iter().map(|d| d.origin.path()).collect();
    assert_eq!(paths, ["/erf", "/tan"]);
    assert_eq!(refused[0].message, "tflite cannot express unary: no operator does unary(f:Erf) on f32[2,3]");
}

/// The messages for a graph that ends in `%y`, each with its node.
fn wrong(body: &str) -> String {
    let g = parse(&format!("graph g {{ {body} output y = %y }}"), &Weights::new()).unwrap_or_else(|e| panic!("{e}"));
    let Err(all) = Checked::new(&g, &TARGET) else { return "nothing".into() };
    all.iter().map(|d| format!("{}: {}", d.origin.path(), d.message)).collect::<Vec<_>>().join("; ")
}

/// Layouts that LiteRT would refuse or misinterpret are refused before writing, each with its node.
#[test]
fn graphs_that_are_not_laid_out_are_refused() {
    let conv = |x: &str, w: &str, y: &str| {
        let call = "conv(stride:[2,2],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from c (Conv)";
        wrong(&format!("%x: f32[1,2,4,4]{x} = input %w: f32[3,2,2,2]{w} = input %y: f32[1,3,2,2]{y} = {call}"))
    };
    assert_eq!(conv(" @0231", " @0231", " @0231"), "nothing");
    assert_eq!(conv("", " @0231", ""), "c: tflite takes conv in another layout: f32[1,3,2,2] is not @0231");
    assert_eq!(
        conv(" @0231", "", " @0231"),
        "c: tflite takes conv in another layout: operand 1, f32[3,2,2,2], is not @0231"
    );
    let pool = "pool(f:Max,window:[2,2],stride:[2,2],before:[0,0],after:[0,0],dilation:[1,1]) %x from p (MaxPool)";
    let pool = format!("%x: f32[1,2,4,4] = input %y = {pool}");
    assert_eq!(wrong(&pool), "p: tflite takes pool in another layout: f32[1,2,2,2] is not @0231");
    let softmax = |layout: &str| {
        wrong(&format!("%x: f32[2,3]{layout} = input %y: f32[2,3]{layout} = softmax(axis:0,log:false) %x from s (S)"))
    };
    assert_eq!(softmax(" @10"), "nothing");
    assert_eq!(softmax(""), "s: tflite takes softmax in another layout: axis 0 of f32[2,3] is not innermost");
    // A pointwise filter does not depend on the order of spatial axes.
    let pointwise = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from c (Conv)";
    let pointwise =
        format!("%x: f32[1,2,4,4] @0321 = input %w: f32[3,2,1,1] @0231 = input %y: f32[1,3,4,4] @0321 = {pointwise}");
    assert_eq!(wrong(&pointwise), "nothing");
    let narrow = "%w: i4<0.5:0>[2] = const [1,2] %y: f32[2] = dequantize %w from d (D)";
    assert_eq!(
        wrong(narrow),
        "d: tflite cannot express dequantize: no kernel takes 4-bit weights or weights quantized per block"
    );
}

#[test]
fn ill_typed_graphs_are_refused() {
    let mut g = Graph::new("g");
    let x = g.add_input("x", TensorType::f32(&[2, 3]));
    let y = g.add1(Unary { f: UnaryFn::Exp }, &[x], Origin::new("/exp", "Exp")).unwrap();
    g.add_output("y", y);
    g.set_type(y, TensorType::f32(&[3, 2]));
    let [error] = Checked::new(&g, &TARGET).unwrap_err().try_into().unwrap();
    let why = "the graph is not well typed: unary (/exp): result 0 is f32[3,2]; expected f32[2,3]";
    assert_eq!(error.message, why);
}

#[test]
fn a_graph_is_written_for_the_target_that_it_was_checked_for() {
    use crate::{Format, Memory, WriteOptions};
    let none = Attachments::default();
    let g = convolution(1, &[6, 4, 3, 3]);
    let mut files = Memory::new("m.onnx");
    let refused = Format::Onnx.with(WriteOptions::PLAIN).write(checked(&g), &none, &mut files).unwrap_err();
    assert_eq!(
        refused[0].message,
        "the graph was checked for another target or other write options than those of onnx"
    );
    assert!(files.files.is_empty());
    assert!(Format::Tflite.with(WriteOptions::PLAIN).write(checked(&g), &none, &mut Memory::new("m.tflite")).is_ok());
    // A layout for one target is not valid for another.
    assert!(Checked::new(&g, Format::Onnx.target()).unwrap_err()[0].message.contains("is not row-major"));
}

#[test]
fn a_relayout_that_moves_no_byte_is_a_reshape() {
    for (dims, op) in [([1, 7, 1, 1], "RESHAPE.1"), ([1, 7, 2, 1], "TRANSPOSE.1")] {
        let mut g = Graph::new("relayout");
        let x = g.add_input("x", image(&dims));
        let y = g.add_typed(Relayout {}, &[x], smallvec![TensorType::f32(&dims)], Origin::none()).unwrap();
        g.add_output("y", y.value(0));
        let text = text(&g);
        assert!(text.contains(op), "{text}");
    }
}

#[test]
fn equal_constants_share_a_buffer_and_names_are_unique() {
    let mut g = Graph::new("shared");
    let x = g.add_input("x", TensorType::f32(&[2, 3]));
    let mut y = x;
    for _ in 0..2 {
        let w = g.add_const(zeros(TensorType::f32(&[3, 3])), Origin::new("w", "w"));
        y = g.add1(MatMul { transpose_b: true }, &[y, w], Origin::new("/fc", "MatMul")).unwrap();
    }
    g.add_output("y", y);
    let text = text(&g);
    assert!(text.contains("%1 \"w\": FLOAT32 [3, 3] = 36 bytes"), "{text}");
    assert!(text.contains("%3 \"w_1\": FLOAT32 [3, 3] = 36 bytes"), "{text}");
    let mut out = Vec::new();
    write(checked(&g), None, &Attachments::default(), &mut out).unwrap();
    let tensors = &Model::read(&Bytes::from(out)).unwrap().subgraphs[0].tensors;
    assert_eq!((tensors[1].buffer, tensors[3].buffer), (1, 1));
}

#[test]
fn an_open_batch_is_in_the_signature() {
    let mut g = Graph::new("open");
    let batch = Shape::known(&[1, 3]).with(0, Dim::symbol("batch"));
    let x = g.add_input("x", TensorType::new(Elem::F32, batch));
    let y = g.add1(Unary { f: UnaryFn::Tanh }, &[x], Origin::none()).unwrap();
    g.add_output("y", y);
    assert!(text(&g).contains("%0 \"x\": FLOAT32 [?, 3]"));
}

/// The shapes beside signatures are one set of sizes at which no value is empty: LiteRT allocates them until inputs are
/// resized, and TFLite Micro reads no others.
#[test]
fn shapes_beside_signatures_can_run() {
    let mut g = Graph::new("open");
    let known = image(&[1, 3, 8, 8]);
    let shape =
        ["n", "h", "w"].into_iter().zip([0, 2, 3]).fold(known.shape, |s, (name, i)| s.with(i, Dim::symbol(name)));
    let x = g.add_input("x", TensorType { shape, layout: known.layout, ..TensorType::f32(&[1]) });
    let none: Extents = smallvec![0, 0];
    let (window, before, after, dilation): (Extents, _, _, _) =
        (smallvec![20, 20], none.clone(), none, smallvec![1, 1]);
    let pool = Pool { f: PoolFn::Max, stride: window.clone(), window, before, after, dilation };
    let y = g.add1(pool.clone(), &[x], Origin::none()).unwrap();
    let y = g.add1(pool, &[y], Origin::none()).unwrap();
    g.add_output("y", y);
    let shapes = |extents: &[(&str, usize)]| {
        let extents = extents.iter().map(|&(name, n)| (name.into(), n)).collect();
        let extents = Attachments { extents, ..Attachments::default() };
        let model = super::model(checked(&g), None, &extents).unwrap().model;
        let tensors = model.subgraphs[0].tensors.iter();
        tensors.map(|t| (t.shape.clone(), t.shape_signature.clone())).collect::<Vec<_>>()
    };
    let open = vec![-1, -1, -1, 3];
    let stated = [[1, 448, 448, 3], [1, 22, 22, 3], [1, 1, 1, 3]];
    assert_eq!(shapes(&[]), stated.map(|shape| (shape.to_vec(), open.clone())));
    let stated = [[2, 800, 448, 3], [2, 40, 22, 3], [2, 2, 1, 3]];
    assert_eq!(shapes(&[("n", 2), ("h", 800)]), stated.map(|shape| (shape.to_vec(), open.clone())));
}

#[test]
fn the_same_graph_gives_the_same_bytes() {
    let bytes = || {
        let mut out = Vec::new();
        write(checked(&convolution(1, &[6, 4, 3, 3])), None, &Attachments::default(), &mut out).unwrap();
        out
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn tables_that_fail_on_devices_are_found() {
    use qcc_formats::tflite::{Model, Quantization};
    let quantized = |model: &mut Model, tensor: usize, scales: Vec<f32>, zero: i64| {
        let zero_point = vec![zero; scales.len()];
        model.subgraphs[0].tensors[tensor].quantization =
            Some(Quantization { scale: scales, zero_point, ..Quantization::default() });
    };
    let fault = |change: &dyn Fn(&mut Model)| {
        let mut model =
            super::model(checked(&convolution(1, &[6, 4, 3, 3])), None, &Attachments::default()).unwrap().model;
        change(&mut model);
        super::check::check(&model).into_iter().map(|d| d.message).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(fault(&|_| {}), "");
    assert!(fault(&|m| m.subgraphs[0].operators[0].inputs[2] = -1).contains("no bias"));
    assert!(fault(&|m| m.subgraphs[0].operators[0].inputs[0] = 99).contains("does not exist"));
    assert!(fault(&|m| m.subgraphs[0].tensors[1].shape = vec![1]).contains("the length of its shape"));
    assert!(fault(&|m| quantized(m, 1, vec![0.0], 0)).contains("positive and normal"));
    assert!(fault(&|m| quantized(m, 1, vec![0.1; 5], 0)).contains("as many scales"));
}

/// Quantization that kernels do not support is refused before writing.
#[test]
fn graphs_that_no_kernel_takes_are_refused() {
    let dense = "%x: i8<0.5:3>[2,4] = input %w: i8<WEIGHT>[3,4] = const [1,2,3,4,5,6,7,8,9,10,11,12]
                 %y: i8<RESULT>[2,3] = matmul(transpose_b:true) %x, %w from fc (Gemm)";
    let dense = |weight: &str, result: &str| wrong(&dense.replace("WEIGHT", weight).replace("RESULT", result));
    let cannot = |op: &str, why: &str| format!("{op}: tflite cannot express {why}");
    assert_eq!(dense("axis 0: 0.1,0.2,0.3", "0.5:3"), "nothing");
    assert_eq!(dense("0.1:0", "0.5:3"), "nothing");
    let why = "matmul: no kernel takes a weight that is not symmetric";
    assert_eq!(dense("0.1:1", "0.5:3"), cannot("fc", why));
    let why = "matmul: no kernel takes a weight with scales along axis 1";
    assert_eq!(dense("axis 1: 0.1,0.2,0.3,0.4", "0.5:3"), cannot("fc", why));
    let far = "no kernel rescales its operands to a result scale that is so much smaller";
    assert_eq!(dense("0.1:0", "0.0001:3"), cannot("fc", &format!("matmul: {far}")));
    let alone = |scales: &str| {
        wrong(&format!(
            "%x: f32[2,4] = input %w: i8<{scales}>[3,4] = const [1,2,3,4,5,6,7,8,9,10,11,12]
                        %y: f32[2,3] = matmul(transpose_b:true) %x, %w from fc (Gemm)"
        ))
    };
    assert_eq!(alone("axis 0: 0.1,0.2,0.3"), "nothing");
    assert_eq!(
        alone("axis 1: 0.1,0.2,0.3,0.4"),
        cannot("fc", "matmul: no kernel takes a weight with scales along axis 1")
    );
    let sums = "%x: i8<0.5:3>[2,4] = input %w: i8<0.1:0>[3,4] = const [1,2,3,4,5,6,7,8,9,10,11,12]
                %y: f32[2,3] = matmul(transpose_b:true) %x, %w from fc (Gemm)";
    assert_eq!(wrong(sums), cannot("fc", "matmul: kernels with quantized operands give quantized results"));
    let depthwise = "%x: f32[1,2,4,4] @0231 = input %w: i8<0.1:0>[2,1,1,1] @1230 = const [1,2]
                     %y: f32[1,2,4,4] @0231 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:2) %x, %w from dw (Conv)";
    assert_eq!(wrong(depthwise), cannot("dw", "conv: no kernel takes its weight quantized"));
    let sigmoid = |qparams: &str| {
        wrong(&format!("%x: i8<0.5:3>[4] = input %y: i8<{qparams}>[4] = unary(f:Sigmoid) %x from s (Sigmoid)"))
    };
    assert_eq!(sigmoid("0.00390625:-128"), "nothing");
    assert_eq!(sigmoid("0.5:3"), cannot("s", "unary: its result has scale 0.00390625 and zero point -128"));
    let negated = "%x: i8<0.5:3>[4] = input %y: i8<0.5:3>[4] = unary(f:Neg) %x from n (Neg)";
    assert_eq!(wrong(negated), cannot("n", "unary: no kernel takes it quantized"));
    let sum = |scale: &str| {
        wrong(&format!("%x: i8<0.5:3>[4] = input %y: i8<{scale}:3>[4] = binary(f:Add) %x, %x from a (Add)"))
    };
    assert_eq!(sum("0.5"), "nothing");
    assert_eq!(sum("0.0000005"), cannot("a", &format!("binary: {far}")));
}

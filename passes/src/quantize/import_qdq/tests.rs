//! Imported QDQ graphs as text.

use qcc_ir::eval::Executor;
use qcc_ir::target::{Kernel, Target, Weights as Narrow};
use qcc_ir::testing::inputs_for;
use qcc_ir::text::{Weights, parse, print_brief};
use qcc_ir::{Graph, StorageType, Tensor};

use super::super::{Dynamic, Interface};
use super::{import_qdq, is_quantized};
use crate::Context;
use crate::simplify::tests::{row, target};

/// A graph with an image `%x`, quantized as `%xq` and dequantized as `%xd`. `body` has the outputs.
fn graph(body: &str) -> Graph {
    let text = format!(
        "graph g {{ %x: f32[1,2,4,4] = input
        %xq: u8<0.01:128>[1,2,4,4] = quantize %x  %xd = dequantize %xq
        {body} }}"
    );
    parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The imported graph and the diagnostics. Outputs must differ by at most `most`.
fn shown(g: &Graph, interface: Interface, most: f32) -> String {
    assert!(is_quantized(g));
    let target = target();
    let mut cx = Context::new(&target);
    let imported = import_qdq(g, &mut cx, &interface.into(), Dynamic::Needed).unwrap().graph;
    if interface == Interface::Float {
        for seed in 0..4 {
            let run = |g: &Graph| Executor::new(g).run(&inputs_for(g, seed), &mut |_, _| {}).unwrap();
            for (a, b) in run(g).iter().zip(&run(&imported)) {
                let far = |(a, b): (&f32, &f32)| (a - b).abs() > most;
                assert!(!a.floats().iter().zip(b.floats().iter()).any(far), "{}", print_brief(&imported));
            }
        }
    }
    let told: Vec<String> = cx.diagnostics.into_iter().map(|d| d.message).collect();
    format!("{}{}", print_brief(&imported), told.join("\n"))
}

const CONV: &str = "
    %w: i8<axis 0: 0.01,0.02>[2,2,1,1] = const [50,-25,100,12]  %wd = dequantize %w
    %b: i32<axis 0: 0.0001,0.0002>[2] = const [1000,-1000]  %bd = dequantize %b
    %c = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %xd, %wd, %bd from conv (Conv)
    %r = clamp(lo:0,hi:inf) %c from relu (Relu)";

#[test]
fn a_convolution_keeps_the_integers_of_the_model() {
    let body = format!("{CONV} %q: u8<0.012:0>[1,2,4,4] = quantize %r  %y = dequantize %q  output y = %y");
    insta::assert_snapshot!(shown(&graph(&body), Interface::Float, 0.0121));
}

#[test]
fn inputs_and_outputs_may_be_quantized() {
    let body = format!("{CONV} %q: u8<0.012:10>[1,2,4,4] = quantize %r  %y = dequantize %q  output y = %y");
    insta::assert_snapshot!(shown(&graph(&body), Interface::Quantized(StorageType::U8), 0.0));
}

#[test]
fn operators_that_move_elements_keep_their_quantization_parameters() {
    let body = format!(
        "{CONV} %f = reshape[1,32] %r from flat (Reshape)
        %q: u8<0.012:0>[1,32] = quantize %f  %d = dequantize %q
        %s = slice(ranges:[(axis:1,start:0,len:4,step:1)]) %d from cut (Slice)
        %xf = reshape[1,32] %xd
        %j = concat(axis:1) %s, %xf from join (Concat)
        %jq: u8<0.02:64>[1,36] = quantize %j  %y = dequantize %jq  output y = %y"
    );
    insta::assert_snapshot!(shown(&graph(&body), Interface::Float, 0.0201));
}

#[test]
fn kernels_with_predefined_parameters_are_used_if_fine_enough() {
    let body = "%s = unary(f:Sigmoid) %xd from coarse (Sigmoid)
        %sq: u8<0.00392156862745098:0>[1,2,4,4] = quantize %s  %sd = dequantize %sq
        %t = unary(f:Sigmoid) %xd from fine (Sigmoid)
        %tq: u8<0.001:0>[1,2,4,4] = quantize %t  %td = dequantize %tq
        output s = %sd output t = %td";
    insta::assert_snapshot!(shown(&graph(body), Interface::Float, 0.004));
}

#[test]
fn weights_stay_quantized_and_other_constants_are_dequantized() {
    let body = "%w: i8<0.01:0>[32,2] = const [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,
         33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63,64]
        %v: i8<0.01:3>[2] = const [5,7]  %vd = dequantize %v
        %f = reshape[1,32] %x  %wd = dequantize %w
        %m = matmul(transpose_b:false) %f, %wd from product (MatMul)
        %y = binary(f:Add) %m, %vd from sum (Add)
        output y = %y";
    let g = graph(body);
    // The kernel rounds its activations, which are between -1 and 1, to 8 bits.
    insta::assert_snapshot!(shown(&g, Interface::Float, 0.02));
}

/// Activations that are floats in the model stay floats where nothing else is asked for: the kernel for quantized weights would
/// round them.
#[test]
fn weights_are_dequantized_where_the_kernel_would_round_activations() {
    let graph = |x: &str| {
        graph(&format!(
            "%w: i8<axis 0: 0.5,0.25>[2,32] = const [{}] %f = reshape[1,32] %x
             %d: f32[1,32] = dynamic_quantize(granularity:Groups(1)) %f %wd = dequantize %w
             %y = matmul(transpose_b:true) %{x}, %wd output y = %y",
            (0..64).map(|i| i.to_string()).collect::<Vec<_>>().join(",")
        ))
    };
    let target = target();
    let weight = |x: &str, dynamic| {
        let g = import_qdq(&graph(x), &mut Context::new(&target), &Interface::Float.into(), dynamic).unwrap().graph;
        let product = g.order().into_iter().find(|&n| matches!(g.op(n), qcc_ir::ops::Op::MatMul(_))).unwrap();
        g.operand_types(product)[1].elem.qparams().is_some()
    };
    assert!(weight("f", Dynamic::Needed));
    assert!(!weight("f", Dynamic::Never));
    assert!(weight("d", Dynamic::Never));
}

#[test]
fn unsupported_quantization_is_removed_with_a_warning() {
    let body = "%w: i8<0.01:5>[2,2,1,1] = const [50,-25,100,12]  %wd = dequantize %w
        %c = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %xd, %wd from uneven (Conv)
        %q: i16<0.0001:7>[1,2,4,4] = quantize %c  %y = dequantize %q
        output y = %y";
    insta::assert_snapshot!(shown(&graph(body), Interface::Float, 0.001));
}

/// Quantized outputs keep their integers and storage type.
#[test]
fn integer_outputs_keep_their_storage() {
    let g = graph(&format!("{CONV} %q: u8<0.012:0>[1,2,4,4] = quantize %r  output q = %q"));
    let target = target();
    let mut cx = Context::new(&target);
    let imported = import_qdq(&g, &mut cx, &Interface::Float.into(), Dynamic::Needed).unwrap().graph;
    let run = |g: &Graph| -> Vec<Tensor> { Executor::new(g).run(&inputs_for(g, 1), &mut |_, _| {}).unwrap() };
    let (a, b) = (run(&g), run(&imported));
    assert_eq!(a[0].ty(), b[0].ty());
    let near = |(a, b): (i64, i64)| (a - b).abs() <= 1;
    assert!(a[0].integers().unwrap().into_iter().zip(b[0].integers().unwrap()).all(near));
}

/// The decision for each node, by name.
#[test]
fn decisions_of_a_quantized_model() {
    let why = |target: &Target, g: &Graph, name: &str| {
        let decisions =
            import_qdq(g, &mut Context::new(target), &Interface::Float.into(), Dynamic::Needed).unwrap().decisions;
        let found = decisions.iter().find(|d| d.origin.path() == name);
        found.map_or_else(|| panic!("{name} in {decisions:?}"), |d| format!("{}: {}", d.form, d.reason))
    };
    let tail = "%q: u8<0.012:0>[1,2,4,4] = quantize %r  %y = dequantize %q";
    let full = graph(&format!(
        "{CONV} {tail}  %s = binary(f:Mul) %y, %y from square (Mul)
         %i = arg_reduce(axis:1,largest:true,keep:false) %s  %k: i64[] = const [1]
         %n = binary(f:Add) %i, %k from next (Add)  output z = %s  output j = %n"
    ));
    assert_eq!(why(&target(), &full, "conv"), "integer: quantized in the model");
    assert_eq!(why(&target(), &full, "relu"), "integer: quantized in the model");
    assert_eq!(why(&target(), &full, "square"), "float: the model quantizes its operands and not its result");
    assert_eq!(why(&target(), &full, "next"), "unchanged: it computes no floating-point values");
    let mut poor = target();
    poor.kernel = |op, operands| {
        let kernel = row(op, operands);
        let weights = kernel.weights.map(|w| Narrow { dynamic: None, ..w });
        Some(Kernel { quantized: None, weights, ..kernel })
    };
    assert_eq!(why(&poor, &full, "conv"), "weights only: the target has no kernel for this quantization");
    let real = graph(&format!("{CONV} output r = %r").replace("%xd, ", "%x, "));
    assert!(why(&target(), &real, "conv").ends_with("the model has an operand of it in floating point"));
}

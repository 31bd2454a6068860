//! Each policy: a node that it vetoes, with its reason, and a similar node that it does not veto.

use qcc_ir::ops::Op;
use qcc_ir::target::{Kernel, Target, Weights};
use qcc_ir::{Graph, StorageType};

use super::super::tests::{GATED, between_products, graph, looped, quantized_graph_of};
use super::super::{Activations, Dynamic, Interface, Options, Raised, quantize};
use crate::calibrate::CalibrationTable;
use crate::simplify::tests::{row, target};

const CONV: &str = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1)";

/// What the node with that name computes with, and why.
fn why_on(target: &Target, g: &Graph, options: &Options, name: &str) -> String {
    let decisions = quantized_graph_of(target, g, options).decisions;
    let found = decisions.iter().find(|d| d.origin.path() == name);
    found.map_or_else(|| panic!("{name} in {decisions:?}"), |d| format!("{}: {}", d.form, d.reason))
}

fn why(g: &Graph, name: &str) -> String {
    why_on(&target(), g, &Options::default(), name)
}

/// As [`why`], with quantized inputs and outputs, so that no node is vetoed for its position at an end.
fn why_inside(g: &Graph, name: &str) -> String {
    let options = Options { interface: Interface::Quantized(StorageType::I8).into(), ..Options::default() };
    why_on(&target(), g, &options, name)
}

const INTEGER: &str = "integer: the target has an integer kernel";

#[test]
fn without_floating_point_values() {
    let g = graph(
        "%0 = binary(f:Mul) %x, %x from square (Mul)
         %1 = arg_reduce(axis:1,largest:true,keep:false) %0 from place (ArgMax)
         %c: i64[] = const [1]  %2 = binary(f:Add) %1, %c from next (Add)  output y = %2",
    );
    assert_eq!(why_inside(&g, "next"), "unchanged: it computes no floating-point values");
    assert_eq!(why_inside(&g, "place"), INTEGER);
}

#[test]
fn excluded() {
    let options = Options { exclude: vec!["fir*".into()], ..Options::default() };
    assert_eq!(why_on(&target(), &graph(GATED), &options, "first"), "float: excluded by the user");
    assert_eq!(why(&graph(GATED), "first"), INTEGER);
}

#[test]
fn raised_for_the_accuracy_of_outputs() {
    let g = graph(GATED);
    let named = |name: &str| g.order().into_iter().find(|&n| g.origin(n).path() == name).unwrap();
    let options = |raised| Options { raised: vec![(named("first"), raised)], ..Options::default() };
    let wide = options(Raised::Weights);
    assert_eq!(
        why_on(&target(), &g, &wide, "first"),
        "float: measured: quantized, the outputs would lose too much accuracy"
    );
    let kept = why_on(&target(), &g, &options(Raised::Activations), "first");
    assert!(kept.ends_with("measured: with quantized activations the outputs would lose too much accuracy"), "{kept}");
    assert!(!kept.starts_with("integer"), "{kept}");
    assert_eq!(why_on(&target(), &g, &wide, "last"), why(&g, "last"));
}

#[test]
fn inside_a_recurrence() {
    let reason = |turns: usize| {
        let decisions = quantized_graph_of(&target(), &looped(turns), &Options::default()).decisions;
        decisions.iter().map(|d| format!("{}: {}", d.form, d.reason)).collect::<Vec<_>>()
    };
    let inside = "dynamic: inside a recurrence, where rounding errors would grow with each step".to_owned();
    assert!(reason(16).contains(&inside), "{:?}", reason(16));
    assert!(!reason(14).contains(&inside));
}

#[test]
fn without_a_kernel() {
    let mut poor = target();
    poor.kernel = |op, operands| {
        let kernel = row(op, operands);
        Some(if matches!(op, Op::Unary(_)) { Kernel { quantized: None, ..kernel } } else { kernel })
    };
    let options = Options { interface: Interface::Quantized(StorageType::I8).into(), ..Options::default() };
    assert_eq!(why_on(&poor, &graph(GATED), &options, "gate"), "float: the target has no integer kernel for it");
    assert_eq!(why_inside(&graph(GATED), "gate"), INTEGER);
    let normal = between_products("%n = layer_norm(axis:1,epsilon:1e-5) %m from norm (LayerNorm)");
    assert_eq!(why(&normal, "norm"), "float: the operator has no quantized form");
    let computed = |bias: &str| {
        graph(&format!(
            "%s: f32[2,2,4,4] = concat(axis:0) %x, %x  %b: f32[2] = const [0.1,-0.2]
             %c = {CONV} %x, %s{bias} from conv (Conv)  output y = %c"
        ))
    };
    let reason = "float: its weight is computed at run time, so its bias has no scale";
    assert_eq!(why_inside(&computed(", %b"), "conv"), reason);
    assert_eq!(why_inside(&computed(""), "conv"), INTEGER);
}

#[test]
fn most_of_a_fixed_range_unused() {
    let gate = |shift: &str| {
        graph(&format!(
            "%k: f32[1,1,1,1] = const [{shift}]  %a = binary(f:Add) %x, %k  %s = unary(f:Sigmoid) %a from gate (Sigmoid)
             output y = %s"
        ))
    };
    let reason = "float: its results use less than a quarter of the fixed range of the integer kernel";
    assert_eq!(why_inside(&gate("-5"), "gate"), reason);
    assert_eq!(why_inside(&gate("0.5"), "gate"), INTEGER);
}

#[test]
fn calibrated_values() {
    let masked = |fill: &str| {
        between_products(&format!(
            "%k: f32[] = const [{fill}]  %l: f32[] = const [-1000]  %c = binary(f:Greater) %m, %l
             %n = select %c, %m, %k from mask (Where)"
        ))
    };
    assert_eq!(why(&masked("-inf"), "mask"), "float: some of its values are infinite or not a number");
    assert_eq!(why(&masked("-1"), "mask"), INTEGER);
    let unseen =
        quantize(&graph(GATED), &target(), &CalibrationTable::default(), &Options::default()).unwrap().decisions;
    let first = unseen.iter().find(|d| d.origin.path() == "first").unwrap();
    assert_eq!(first.reason.to_string(), "calibration found no range for its values");
}

#[test]
fn positions() {
    let g = graph(&format!(
        "%w: f32[2,2,1,1] = const [1,0.5,-0.5,1]  %u: f32[2,2,1,1] = const [0.3,0.1,-0.1,0.2]  %h: f32[] = const [0.5]
        %0 = {CONV} %x, %w from image (Conv)
        %1 = {CONV} %x, %u from flow (Conv)
        %2 = binary(f:Mul) %1, %h from scaled (Mul)
        %3 = transpose(perm:[0,2,3,1]) %2 from turned (Transpose)
        %4 = grid_sample(mode:Linear,outside:Edge,align_corners:true) %0, %3 from warp (GridSample)
        %5 = {CONV} %4, %w from last (Conv)  output y = %5"
    ));
    assert_eq!(why_inside(&g, "scaled"), "float: positions or indices are computed from it");
    assert_eq!(why_inside(&g, "image"), INTEGER);
}

#[test]
fn after_the_last_contraction() {
    let g = graph(&format!(
        "%w: f32[2,2,1,1] = const [1,0.5,-0.5,1]  %0 = binary(f:Mul) %x, %x from before (Mul)
         %1 = {CONV} %0, %w  %2 = {CONV} %1, %w  %3 = binary(f:Mul) %2, %2 from behind (Mul)  output y = %3"
    ));
    let reason = "float: it follows the last contraction: its errors would directly affect the output";
    assert_eq!(why(&g, "behind"), reason);
    assert_ne!(why(&g, "before"), reason);
    assert_eq!(why_inside(&g, "behind"), INTEGER);
}

#[test]
fn operands_of_unlike_ranges() {
    let joined = |large: &str| {
        graph(&format!(
            "%w: f32[2,2,1,1] = const [{large},0,0,{large}]  %u: f32[2,2,1,1] = const [0.3,0.1,-0.1,0.2]
            %0 = {CONV} %x, %w  %1 = {CONV} %x, %u  %2 = concat(axis:1) %0, %1 from join (Concat)
            %3 = transpose(perm:[0,2,3,1]) %2 from turned (Transpose)  output y = %3"
        ))
    };
    let reason = "the ranges of its operands differ too much for one scale";
    assert_eq!(why_inside(&joined("300"), "join"), format!("float: {reason}"));
    let handed = "float: it forwards values whose ranges differ too much for one scale";
    assert_eq!(why_inside(&joined("300"), "turned"), handed);
    assert_eq!(why_inside(&joined("1"), "join"), INTEGER);
    assert_eq!(why_inside(&joined("1"), "turned"), INTEGER);
}

#[test]
fn too_few_steps() {
    let small = |least: &str| {
        graph(&format!(
            "%w: f32[2,2,1,1] = const [1,0,0,1]  %0 = binary(f:Mul) %x, %x  %1 = {CONV} %0, %w from product (Conv)
             %k: f32[] = const [{least}]  %2 = binary(f:Add) %1, %k  %3 = unary(f:Log) %2 from log (Log)
             %4 = {CONV} %3, %w  %5 = {CONV} %4, %w  output y = %5"
        ))
    };
    let of_values = "float: quantization is too coarse for what is computed from its values";
    assert_eq!(why_inside(&small("0.0001"), "log"), of_values);
    assert_eq!(why_inside(&small("1"), "log"), INTEGER);
    let of_result = "dynamic: quantization is too coarse for what is computed from its result";
    assert_eq!(why(&small("0.0001"), "product"), of_result);
    assert_eq!(why(&small("1"), "product"), INTEGER);
    // Without a kernel for its quantized weight, it is computed in floating point.
    let poor = |least: &str| why_on(&without_weight_kernels(), &small(least), &Options::default(), "product");
    assert_eq!(poor("0.0001"), "float: quantization is too coarse for what is computed from its result");
    assert_eq!(poor("1"), INTEGER);
}

/// A target without kernels that have a quantized weight and a float result.
fn without_weight_kernels() -> Target {
    let mut poor = target();
    poor.kernel = |op, operands| Some(Kernel { weights: None, ..row(op, operands) });
    poor
}

/// The contraction that makes large angles is computed in floating point, that of small ones is quantized.
#[test]
fn angles() {
    let turned = |rate: &str| {
        between_products(&format!(
            "%k: f32[4,4] = const [{rate},0,0,0,0,{rate},0,0,0,0,{rate},0,0,0,0,{rate}]
             %a = matmul(transpose_b:true) %m, %k from angle (MatMul)
             %s = unary(f:Sin) %a from sine (Sin)  %n = binary(f:Mul) %s, %m"
        ))
    };
    let why = |rate: &str| why_on(&without_weight_kernels(), &turned(rate), &Options::default(), "angle");
    assert_eq!(why("300"), "float: quantization is too coarse for what is computed from its values");
    assert_eq!(why("0.3"), INTEGER);
}

/// A contraction whose result has enough steps ends the analysis.
#[test]
fn precision_ends_at_a_contraction_with_enough_steps() {
    let weights = "[1,0.9,-0.9,1]";
    let layers = |count: usize| {
        let layer = |i: usize| format!("%l{} = {CONV} %l{i}, %u from layer{i} (Conv)\n", i + 1);
        graph(&format!(
            "%w: f32[2,2,1,1] = const [1,0,0,1]  %u: f32[2,2,1,1] = const {weights}
             %l0 = binary(f:Mul) %x, %x
             {}
             %a = binary(f:Mul) %l{count}, %l{count}  %k: f32[] = const [0.0001]  %b = binary(f:Add) %a, %k
             %c = unary(f:Log) %b  %d = {CONV} %c, %w  %e = {CONV} %d, %w  output y = %e",
            (0..count).map(layer).collect::<String>()
        ))
    };
    let options = Options { interface: Interface::Quantized(StorageType::I8).into(), ..Options::default() };
    let g = layers(8);
    let why = |i: usize| why_on(&without_weight_kernels(), &g, &options, &format!("layer{i}"));
    assert!(why(7).starts_with("float"), "{}", why(7));
    assert_eq!(why(0), INTEGER);
}

#[test]
fn last_contractions() {
    let options = |dynamic| Options { dynamic, ..Options::default() };
    let last = |dynamic| why_on(&target(), &graph(GATED), &options(dynamic), "last");
    assert_eq!(last(Dynamic::AtEnds), "dynamic: no contraction follows: its result stays in floating point");
    assert_eq!(last(Dynamic::Needed), INTEGER);
    let mut weight_only = target();
    weight_only.kernel = |op, operands| {
        let kernel = row(op, operands);
        Some(Kernel { weights: kernel.weights.map(|w| Weights { dynamic: None, ..w }), ..kernel })
    };
    let summed = |count: usize| {
        let weight = |n: usize| (0..n).map(|i| format!("{}", i as f32 / n as f32 - 0.4)).collect::<Vec<_>>().join(",");
        graph(&format!(
            "%a: f32[{count},32] = const [{}]  %b: f32[4,{count}] = const [{}]  %c: f32[4,4] = const [{}]
             %r = reshape[1,32] %x  %0 = matmul(transpose_b:true) %r, %a  %1 = matmul(transpose_b:true) %0, %b from sums (MatMul)
             %2 = layer_norm(axis:1,epsilon:1e-5) %1  %3 = matmul(transpose_b:true) %2, %c
             %4 = matmul(transpose_b:true) %3, %c  output y = %4",
            weight(count * 32),
            weight(count * 4),
            weight(16)
        ))
    };
    let few = "weights only: it sums few products, so that conversions would cost more than the integer kernel saves";
    assert_eq!(why_on(&weight_only, &summed(127), &Options::default(), "sums"), few);
    assert_eq!(why_on(&weight_only, &summed(128), &Options::default(), "sums"), INTEGER);
}

#[test]
fn below_the_resolution_of_an_operand() {
    let sum = |scale: &str| {
        between_products(&format!(
            "%k: f32[] = const [0]  %a = binary(f:Mul) %m, %k  %s: f32[] = const [{scale}]  %b = binary(f:Mul) %m, %s
             %n = binary(f:Add) %a, %b from sum (Add)"
        ))
    };
    assert_eq!(why(&sum("0.0001"), "sum"), "float: one step of an operand exceeds the range of its result");
    assert_eq!(why(&sum("0.5"), "sum"), INTEGER);
}

#[test]
fn more_conversions_than_they_are_worth() {
    let norm = "layer_norm(axis:1,epsilon:1e-5)";
    let between =
        between_products(&format!("%a = {norm} %m  %b = binary(f:Add) %a, %a from sum (Add)  %n = {norm} %b"));
    let reason = "float: quantizing it would not save any conversion";
    assert_eq!(why(&between, "sum"), reason);
    assert_eq!(why(&between_products("%n = binary(f:Add) %m, %r from sum (Add)"), "sum"), INTEGER);
}

#[test]
fn weight_only() {
    let options = Options { activations: Activations::Float, ..Options::default() };
    let why = |g: &Graph, name: &str| why_on(&target(), g, &options, name);
    let g = graph(GATED);
    assert_eq!(why(&g, "first"), "dynamic: only weights are quantized in this precision");
    assert_eq!(why(&g, "gate"), "float: it has no weights");
    let mut poor = target();
    poor.kernel = |op, operands| Some(Kernel { weights: None, ..row(op, operands) });
    let reason = "float: the target has no kernel for it with quantized weights";
    assert_eq!(why_on(&poor, &g, &options, "first"), reason);
    let computed =
        graph(&format!("%s: f32[2,2,4,4] = concat(axis:0) %x, %x  %c = {CONV} %x, %s from conv (Conv)  output y = %c"));
    assert_eq!(why(&computed, "conv"), "float: its weight is computed at run time");
    let table = |rows: usize| {
        let values: Vec<String> = (0..rows * 64).map(|i| format!("{}", (i * 37 % 101) as f32 / 50.0 - 1.0)).collect();
        graph(&format!(
            "%t: f32[{rows},64] = const [{}]  %i: i64[3] = const [0,2,1]  %0 = arg_reduce(axis:1,largest:true,keep:false) %x
             %1 = gather(axis:0) %t, %0 from lookup (Gather)  output y = %1",
            values.join(",")
        ))
    };
    assert_eq!(why(&table(63), "lookup"), "float: its table is too small to save anything");
    assert_eq!(why(&table(64), "lookup"), "weights only: only weights are quantized in this precision");
}

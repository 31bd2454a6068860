//! Quantized graphs as text.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use qcc_ir::ops::Op;
use qcc_ir::target::{Kernel, Quantized as Q, Target, ZeroPoint};
use qcc_ir::text::{Weights, parse, print_brief};
use qcc_ir::{Elem, Graph, NodeId, Shape, StorageType, Tensor, ValueId};

use super::{Activations, Interface, Options, Quantized, Raised, Unit, quantize, units, unmatched};
use crate::SharedGraph;
use crate::calibrate::{Method, calibrate};
use crate::quality::{self, Compiled, Hints, compare, work};
use crate::simplify::tests::{row, target};

/// A graph with an image `%x`. `body` has the outputs.
pub(super) fn graph(body: &str) -> Graph {
    let text = format!("graph g {{ %x: f32[1,2,4,4] = input {body} }}");
    parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{body}"))
}

/// Images with values from -1 to 1.
fn samples() -> Vec<Vec<Tensor>> {
    let image = |k: usize| (0..32).map(|i| ((i * 7 + k * 5) % 32) as f32 / 15.5 - 1.0).collect::<Vec<_>>();
    (0..4).map(|k| vec![Tensor::from_vec(Shape::known(&[1, 2, 4, 4]), image(k))]).collect()
}

pub(super) fn quantized_graph(g: &Graph, options: &Options) -> Quantized {
    quantized_graph_of(&target(), g, options)
}

pub(super) fn quantized_graph_of(target: &Target, g: &Graph, options: &Options) -> Quantized {
    let samples = samples();
    let joint = SharedGraph::alone(g);
    let ranges = calibrate(&joint, &[g], Method::MinMax, samples.len(), |i| Some(samples[i].clone()), &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    quantize(g, target, &ranges[0], options).unwrap()
}

/// The quantized graph as text, and the SQNR of each output.
fn shown(g: &Graph, options: &Options) -> String {
    let q = quantized_graph(g, options);
    let (joint, samples) = (SharedGraph::alone(g), samples());
    let compiled = Compiled { place: 0, float: g, graph: &q.graph, values: &q.values };
    let samples = quality::Samples { count: samples.len(), read: &|i| Some(samples[i].clone()) };
    let fidelity = compare(&joint, g, &[compiled], Hints::default(), &samples).unwrap();
    let sqnr: Vec<String> =
        fidelity[0].outputs.iter().map(|o| format!("{} {:.0} dB", o.name, o.distance.sqnr())).collect();
    format!("{}{}", print_brief(&q.graph), sqnr.join(", "))
}

pub(super) const GATED: &str = "
    %w: f32[2,2,1,1] = const [0.5,-0.25,1,0.125]  %b: f32[2] = const [0.1,-0.2]
    %u: f32[1,2,1,1] = const [1,-1]  %c: f32[1] = const [0]
    %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w, %b from first (Conv)
    %1 = unary(f:Sigmoid) %0 from gate (Sigmoid)
    %2 = binary(f:Mul) %0, %1 from product (Mul)
    %3 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %2, %u, %c from last (Conv)
    output y = %3";

#[test]
fn boundaries_are_at_the_ends_and_the_last_contraction_has_a_float_result() {
    insta::assert_snapshot!(shown(&graph(GATED), &Options::default()));
}

#[test]
fn an_integer_interface_leaves_no_float_node() {
    let options = Options { interface: Interface::Quantized(StorageType::U8).into(), ..Options::default() };
    insta::assert_snapshot!(shown(&graph(GATED), &options));
}

/// Weights that share a scale with far larger ones are mostly noise. A layer is reported if most of its inputs have
/// such weights.
#[test]
fn contractions_that_lose_most_inputs_are_reported() {
    let options = Options { activations: Activations::Float, ..Options::default() };
    let lost = |weights: &str| {
        let g = graph(&format!(
            "%w: f32[2,2,1,1] = const {weights}
            %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from layer (Conv)
            output y = %0"
        ));
        quantized_graph(&g, &options).lost_inputs.len()
    };
    assert_eq!(lost("[100,1,-80,1.5]"), 0, "one input of two");
    assert_eq!(lost("[100,0.2,-80,0.1]"), 0, "half of the inputs are not most");
    let most = "
        %w: f32[1,3,1,1] = const [100,0.2,0.1]
        %z: f32[1,1,4,4] = slice(ranges:[(axis:1,start:0,len:1,step:1)]) %x
        %j = concat(axis:1) %x, %z
        %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %j, %w from layer (Conv)
        output y = %0";
    let named = |body: &str| {
        let g = graph(body);
        let lost = quantized_graph(&g, &options).lost_inputs;
        lost.iter().map(|&n| g.origin(n).to_string()).collect::<Vec<_>>()
    };
    assert_eq!(named(most), ["layer"]);
    assert_eq!(named(&most.replace("0.2,0.1", "0,0.1")), Vec::<String>::new(), "an input of zeros loses nothing");
}

/// The index of the largest number is that of the largest quantized value.
#[test]
fn arg_max_is_computed_on_quantized_values() {
    let g = graph(
        "%w: f32[2,2,1,1] = const [1,0.5,-0.5,1]
        %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w
        %1 = arg_reduce(axis:1,largest:true,keep:false) %0
        %2 = cast\"i32\" %1
        output y = %2",
    );
    let options = Options { interface: Interface::Quantized(StorageType::I8).into(), ..Options::default() };
    let q = quantized_graph(&g, &options).graph;
    let arg = q.order().into_iter().find(|&n| matches!(q.op(n), Op::ArgReduce(_))).unwrap();
    assert!(q.ty(q.operand(arg, 0)).elem.qparams().is_some(), "{}", print_brief(&q));
}

#[test]
fn excluded_nodes_stay_float() {
    let options = Options { exclude: vec!["fir*".into()], ..Options::default() };
    let g = graph(GATED);
    insta::assert_snapshot!(shown(&g, &options));
    assert!(unmatched(&g, &options.exclude).is_empty());
    assert_eq!(unmatched(&g, &["nothing".into()]), ["nothing"]);
}

/// A contraction and the activation function after it are one unit.
#[test]
fn units_are_layers_with_their_activation() {
    let g = graph(
        "%w: f32[2,2,1,1] = const [0.5,-0.25,1,0.125]  %u: f32[1,2,1,1] = const [1,-1]
        %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from first (Conv)
        %1 = unary(f:Sigmoid) %0 from gate (Sigmoid)
        %2 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %1, %u from last (Conv)
        output y = %2",
    );
    let options = Options { interface: Interface::Quantized(StorageType::I8).into(), ..Options::default() };
    let joint = SharedGraph::alone(&g);
    let samples = samples();
    let read = |i: usize| Some(samples[i].clone());
    let mut go = |_| ControlFlow::Continue(());
    let ranges = calibrate(&joint, &[&g], Method::MinMax, samples.len(), read, &mut go).unwrap();
    let q = quantize(&g, &target(), &ranges[0], &options).unwrap();
    let units = units(&g, &ranges[0], &q);
    let named = |u: &Unit| u.nodes.iter().map(|&n| g.origin(n).path().to_owned()).collect::<BTreeSet<_>>();
    let names: Vec<_> = units.iter().map(named).collect();
    let all = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names, [all(&["first", "gate"]), all(&["last"])]);
    assert!(units.iter().all(|u| u.noise > 0.0 && u.noise < 1e-2), "{units:?}");
    let raised: Vec<(NodeId, Raised)> = units[0].nodes.iter().map(|&n| (n, Raised::Weights)).collect();
    let better = quantize(&g, &target(), &ranges[0], &Options { raised, ..options }).unwrap();
    assert_eq!(super::units(&g, &ranges[0], &better).len(), 1);
    // With quantized weights alone, these are what is rounded.
    let weights =
        quantize(&g, &target(), &ranges[0], &Options { activations: Activations::Float, ..Options::default() })
            .unwrap();
    let noises: Vec<f64> = super::units(&g, &ranges[0], &weights).iter().map(|u| u.noise).collect();
    assert!(noises.len() <= 2 && noises.iter().all(|&n| n > 0.0 && n < 1e-3), "{noises:?}");
}

/// What a reference keeps gives the same comparison as evaluating the float graph again.
#[test]
fn a_reference_compares_as_the_samples_do() {
    let g = graph(GATED);
    let all: Vec<Quantized> = [StorageType::I8, StorageType::U8]
        .map(|s| quantized_graph(&g, &Options { interface: Interface::Quantized(s).into(), ..Options::default() }))
        .into_iter()
        .chain([quantized_graph(&g, &Options::default())])
        .collect();
    let compiled: Vec<Compiled<'_>> =
        all.iter().map(|q| Compiled { place: 0, float: &g, graph: &q.graph, values: &q.values }).collect();
    let (joint, samples) = (SharedGraph::alone(&g), samples());
    let samples = quality::Samples { count: samples.len(), read: &|i| Some(samples[i].clone()) };
    let whole = compare(&joint, &g, &compiled, Hints::default(), &samples).unwrap();
    let reference = quality::Reference::new(&joint, &g, (0, &g), Hints::default(), &samples).unwrap();
    let kept = reference.compare(&compiled, usize::MAX).unwrap();
    for (a, b) in whole.iter().zip(&kept) {
        assert_eq!((&a.layers, a.outputs[0].distance, a.samples), (&b.layers, b.outputs[0].distance, b.samples));
        assert_eq!(b.ends, [1]);
    }
    assert_eq!(whole.len(), kept.len());
    assert_eq!(reference.compare(&compiled[..1], 2).unwrap()[0].samples, 2);
}

#[test]
fn weight_only() {
    let options = Options { activations: Activations::Float, ..Options::default() };
    let g = graph(GATED);
    let q = quantized_graph(&g, &options);
    let work = work(&q.graph);
    assert_eq!((work.integer, work.float), (0, 0));
    assert!(work.run_time > 0);
}

/// Boxes have values of hundreds and scores are below 1: with a shared scale, all scores would be 0.
#[test]
fn operands_of_unlike_ranges_stay_float_with_an_integer_interface() {
    let g = graph(
        "%w: f32[2,2,1,1] = const [300,0,0,300]  %u: f32[2,2,1,1] = const [0.3,0.1,-0.1,0.2]
        %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from boxes (Conv)
        %1 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %u from scores (Conv)
        %2 = concat(axis:1) %0, %1 from join (Concat)
        output y = %2",
    );
    let options = Options { interface: Interface::Quantized(StorageType::I8).into(), ..Options::default() };
    insta::assert_snapshot!(shown(&g, &options));
}

/// Nodes that compute positions stay in floating point, except the contraction before them.
#[test]
fn positions_stay_float() {
    let g = graph(
        "%w: f32[2,2,1,1] = const [1,0.5,-0.5,1]  %u: f32[2,2,1,1] = const [0.3,0.1,-0.1,0.2]  %h: f32[] = const [0.5]
        %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from image (Conv)
        %1 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %u from flow (Conv)
        %2 = binary(f:Mul) %1, %h from scaled (Mul)
        %3 = transpose(perm:[0,2,3,1]) %2 from turned (Transpose)
        %4 = grid_sample(mode:Linear,outside:Edge,align_corners:true) %0, %3 from warp (GridSample)
        %5 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %4, %w from last (Conv)
        output y = %5",
    );
    insta::assert_snapshot!(shown(&g, &Options::default()));
}

/// If a contraction uses the concatenation, its operands share one scale and nothing is requantized.
#[test]
fn concatenated_operands_share_one_scale() {
    let g = graph(
        "%w: f32[2,2,1,1] = const [1,0,0,1]  %u: f32[2,2,1,1] = const [2,1,-1,2]  %v: f32[1,4,1,1] = const [1,2,3,4]
        %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from a (Conv)
        %1 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %u from b (Conv)
        %2 = concat(axis:1) %0, %1 from join (Concat)
        %3 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %2, %v from last (Conv)
        output y = %3",
    );
    insta::assert_snapshot!(shown(&g, &Options::default()));
}

/// Weight rounding shifts the output mean. The bias compensates the shift.
#[test]
fn biases_compensate_weight_rounding() {
    let g = graph(
        "%0 = clamp(lo:0,hi:inf) %x
        %w: f32[1,2,1,1] = const [1,0.3361]  %b: f32[1] = const [0]
        %1 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %0, %w, %b from only (Conv)
        output y = %1",
    );
    let q = quantized_graph(&g, &Options::default());
    let mean = |g: &Graph| -> f32 {
        let all = samples();
        let executor = qcc_ir::eval::Executor::new(g);
        all.iter().map(|s| executor.run(s, &mut |_, _| {}).unwrap()[0].floats().iter().sum::<f32>()).sum::<f32>() / 64.0
    };
    assert!((mean(&g) - mean(&q.graph)).abs() < 4e-4, "{} {}", mean(&g), mean(&q.graph));
}

/// Two taps that both round up make a smooth image brighter, so one of them is rounded down.
#[test]
fn rounding_errors_of_a_window_are_balanced() {
    let w = Tensor::from_vec(Shape::known(&[1, 1, 1, 4]), vec![1.27, 0.0047, 0.0046, 0.0046]);
    let op = qcc_ir::ops::Conv::unit(2).into();
    let qparams = qcc_ir::QuantParams::per_axis(StorageType::I8, 0, vec![0.01]);
    let sum = |t: &Tensor| t.integers().unwrap().iter().sum::<i64>();
    assert_eq!(w.quantized(&qparams).integers().unwrap(), [127, 0, 0, 0]);
    assert_eq!(super::weights::rounded(&op, &w, &qparams).integers().unwrap(), [127, 1, 0, 0]);
    // Weights that are exactly representable do not change.
    let exact = super::weights::rounded(&op, &w, &qparams);
    assert_eq!(sum(&super::weights::rounded(&op, &exact.to_float(), &qparams)), sum(&exact));
}

/// The rounded weights of a row sum to nearly the same value, even if all are slightly above a step.
#[test]
fn rounding_errors_of_an_output_are_balanced() {
    let rows = [[1.27, 0.004, 0.004, 0.004, 0.004], [0.014, 1.27, 0.014, 0.014, 0.014]];
    for (axis, dims) in [(0, [2, 5]), (1, [5, 2])] {
        let at = |i: usize| if axis == 0 { rows[i / 5][i % 5] } else { rows[i % 2][i / 2] };
        let w = Tensor::from_vec(Shape::known(&dims), (0..10).map(at).collect());
        let qparams = qcc_ir::QuantParams::per_axis(StorageType::I8, axis, vec![0.01; 2]);
        let q = super::weights::rounded_by_output(&w, &w.quantized(&qparams), &qparams, axis).integers().unwrap();
        let sum =
            |row: usize| (0..10).filter(|i| (if axis == 0 { i / 5 } else { i % 2 }) == row).map(|i| q[i]).sum::<i64>();
        assert_eq!([sum(0), sum(1)], [129, 133], "{q:?}");
    }
}

/// The kinds of float nodes that are neither contractions nor reshapes.
fn float_kinds(g: &Graph) -> Vec<&'static str> {
    let islands = quality::float_islands(g).into_iter();
    let works = |n: &NodeId| !g.op(*n).is_contraction() && !matches!(g.op(*n), Op::Reshape(_));
    islands.filter(works).map(|n| g.op(n).kind().name()).collect()
}

/// A graph that applies `body` from the matrix `%m` to the matrix `%n`, with a matrix product before and after it.
pub(super) fn between_products(body: &str) -> Graph {
    let weight = "const [1,-0.5,0.25,0.75,-1,0.5,0.125,-0.25,0.5,1,-0.75,-0.5,0.25,-1,0.5,1]";
    graph(&format!(
        "%w: f32[4,4] = {weight}  %r = reshape[8,4] %x  %m = matmul(transpose_b:true) %r, %w
         {body}  %v: f32[4,4] = {weight}  %y = matmul(transpose_b:true) %n, %v  %z = matmul(transpose_b:true) %y, %w
         output z = %z"
    ))
}

#[test]
fn the_partition_has_the_fewest_boundaries() {
    let real = |body: &str| float_kinds(&quantized_graph(&between_products(body), &Options::default()).graph);
    assert!(real("%a = unary(f:Sigmoid) %m  %n = binary(f:Mul) %m, %a").is_empty());
    assert!(real("%n = binary(f:Add) %m, %r").is_empty());
    // Layer normalization uses float sums, and the nodes after it stay in floating point up to the next product.
    let stream = "%a = binary(f:Add) %m, %r  %l = layer_norm(axis:1,epsilon:1e-5) %a
        %b = matmul(transpose_b:true) %l, %w  %c = binary(f:Add) %b, %a  %n = layer_norm(axis:1,epsilon:1e-5) %c";
    assert_eq!(real(stream), ["binary", "layer_norm", "binary", "layer_norm"]);
    // Nodes that only move elements are quantized.
    let moved = "%a = transpose(perm:[1,0]) %m  %b = reshape[8,4] %a  %n = layer_norm(axis:1,epsilon:1e-5) %b";
    assert_eq!(real(moved), ["layer_norm"]);
}

#[test]
fn values_that_8_bits_are_too_coarse_for_stay_float() {
    let real = |body: &str| float_kinds(&quantized_graph(&between_products(body), &Options::default()).graph);
    assert!(real("%n = softmax(axis:1,log:false) %m").is_empty());
    let masked = "%k: f32[4] = const [0,0,0,-10000]  %a = binary(f:Add) %m, %k  %n = softmax(axis:1,log:false) %a";
    assert_eq!(real(masked), ["binary", "softmax"]);
    let alike = "%k: f32[] = const [100]  %a = binary(f:Add) %m, %k  %b = reduce(f:Mean,axes:[1],keep:true) %a
        %n = binary(f:Sub) %a, %b";
    assert_eq!(real(alike), ["binary", "reduce", "binary"]);
    let steep =
        "%k: f32[] = const [0.0001]  %a = binary(f:Mul) %m, %m  %b = binary(f:Add) %a, %k  %n = unary(f:Log) %b";
    assert_eq!(real(steep), ["binary", "binary", "unary"]);
    let shallow = "%k: f32[] = const [0.1]  %a = binary(f:Mul) %m, %k  %n = unary(f:Tanh) %a";
    assert_eq!(real(shallow), ["binary", "unary"]);
}

#[test]
fn infinite_constants_stay_float() {
    let real = |body: &str| float_kinds(&quantized_graph(&between_products(body), &Options::default()).graph);
    // Even if calibration never selects the constant.
    let masked = |fill: &str| {
        format!(
            "%k: f32[] = const [{fill}]  %l: f32[] = const [-1000]  %c = binary(f:Greater) %m, %l  %n = select %c, %m, %k"
        )
    };
    assert!(!real(&masked("-1")).contains(&"select"));
    assert!(real(&masked("-inf")).contains(&"select"));
}

/// A value that is always 0 has a scale of 1, which exceeds the range of the sum.
#[test]
fn sums_below_the_resolution_of_an_operand_stay_float() {
    let real = |scale: &str| {
        let body = format!(
            "%k: f32[] = const [0]  %a = binary(f:Mul) %m, %k  %s: f32[] = const [{scale}]  %b = binary(f:Mul) %m, %s
             %n = binary(f:Add) %a, %b"
        );
        float_kinds(&quantized_graph(&between_products(&body), &Options::default()).graph)
    };
    assert!(real("0.5").is_empty());
    assert_eq!(real("0.0001"), ["binary"]);
}

/// Two channels that cancel except for a rest that is far below their scale.
#[test]
fn results_below_the_resolution_of_an_operand_stay_float() {
    let conv = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1)";
    let body = |rest: f32| {
        format!(
            "%w: f32[2,2,1,1] = const [1,0,1,0]  %u: f32[2,2,1,1] = const [1,-1,{rest},0]  %v: f32[1,2,1,1] = const [1,1]
             %0 = {conv} %x, %w  %1 = {conv} %0, %u from small (Conv)  %2 = {conv} %1, %v  output y = %2"
        )
    };
    let integer = |rest: f32| {
        let g = quantized_graph(&graph(&body(rest)), &Options::default()).graph;
        let small = g.order().into_iter().find(|&n| g.origin(n).path() == "small" && matches!(g.op(n), Op::Conv(_)));
        g.ty(small.unwrap().value(0)).elem.qparams().is_some()
    };
    assert!(integer(0.5) && !integer(1e-5));
}

/// Also if the result is a float: kernels have a 32-bit bias in both cases.
#[test]
fn a_bias_fits_into_the_accumulator_with_small_weights() {
    let mut target = target();
    target.kernel = |op, operands| {
        let kernel = row(op, operands);
        Some(Kernel { quantized: kernel.quantized.map(|q| Q { gives_float: true, ..q }), ..kernel })
    };
    let g = graph(
        "%w: f32[4,4] = const [1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1]  %r = reshape[8,4] %x  %m = matmul(transpose_b:true) %r, %w
         %v: f32[1,4] = const [1e-12,2e-12,-1e-12,1e-12]  %b: f32[1] = const [1]
         %y = matmul(transpose_b:true) %m, %v, %b from last (Gemm)  output y = %y",
    );
    let g = quantized_graph_of(&target, &g, &Options::default()).graph;
    let last = g.order().into_iter().find(|&n| g.origin(n).path() == "last" && g.op(n).is_contraction()).unwrap();
    let operands = g.operands(last);
    let step = |v: ValueId| g.ty(v).elem.qparams().unwrap().scales()[0];
    assert!(g.ty(operands[2]).elem == Elem::F32);
    assert!(1.0 / (step(operands[0]) * step(operands[1])) < i32::MAX as f32);
}

/// A product of two activations needs symmetric parameters; the convolution beside it does not.
#[test]
fn users_with_different_zero_point_rules_have_separate_parameters() {
    let mut target = target();
    target.kernel = |op, operands| {
        let kernel = row(op, operands);
        let zero = if matches!(op, Op::Conv(_)) { ZeroPoint::AnyPerConsumer } else { ZeroPoint::Symmetric };
        let quantized = kernel.quantized.map(|q| Q { zero_point: zero, zero_points: [zero; 2], ..q });
        Some(Kernel { quantized, ..kernel })
    };
    let conv = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1)";
    let g = graph(&format!(
        "%w: f32[2,2,1,1] = const [1,0.5,-0.5,1]  %0 = {conv} %x, %w  %m = clamp(lo:-0.25,hi:inf) %0
         %p = matmul(transpose_b:false) %m, %m from product (MatMul)  %q = {conv} %m, %w from last (Conv)
         %y = matmul(transpose_b:false) %p, %q  output y = %y"
    ));
    let g = quantized_graph_of(&target, &g, &Options::default()).graph;
    let zero = |name: &str| {
        let n = g.order().into_iter().find(|&n| g.origin(n).path() == name && g.op(n).is_contraction()).unwrap();
        g.ty(g.operands(n)[0]).elem.qparams().unwrap().zero_point()
    };
    assert_eq!(zero("product"), 0);
    assert!(zero("last") < -64, "{}", zero("last"));
}

/// A state of four rows that is multiplied by the same weight in each step.
pub(super) fn looped(turns: usize) -> Graph {
    let weight: Vec<f32> = (0..64).map(|i| ((i * 7) % 11) as f32 / 4.0 - 1.25).collect();
    let mut body = format!("%w: f32[8,8] = const {weight:?}  %h0 = reshape[4,8] %x");
    for i in 0..turns {
        body += &format!(" %p{i} = matmul(transpose_b:true) %h{i}, %w  %h{} = unary(f:Tanh) %p{i}", i + 1);
    }
    graph(&format!("{body} %y = matmul(transpose_b:true) %h{turns}, %w  output y = %y"))
}

#[test]
fn long_recurrences_are_quantized_weight_only() {
    let products = |turns: usize, options: &Options| {
        let g = quantized_graph(&looped(turns), options).graph;
        let operands = g.order().into_iter().filter(|n| matches!(g.op(*n), Op::MatMul(_))).map(|n| g.operands(n));
        let is_quantized = |v: ValueId| g.ty(v).elem.qparams().is_some();
        let kinds: Vec<(bool, bool)> = operands.map(|o| (is_quantized(o[0]), is_quantized(o[1]))).collect();
        kinds
    };
    assert_eq!(products(40, &Options::default()), vec![(false, true); 41]);
    let few = products(3, &Options::default());
    assert!(few[..3].iter().all(|kind| *kind == (true, true)), "{few:?}");
    let whole =
        products(40, &Options { interface: Interface::Quantized(StorageType::U8).into(), ..Options::default() });
    assert_eq!(whole, vec![(true, true); 41]);
}

/// Long matrices are quantized in blocks along the reduction axis, whichever axis that is. Other weights have 8 bits.
#[test]
fn matrices_are_quantized_in_blocks_where_supported() {
    let weight = |rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns).map(|i| ((i * 7) % 11) as f32 / 20.0 - 0.25).collect();
        format!("f32[{rows},{columns}] = const {values:?}")
    };
    let g = graph(&format!(
        "%r = reshape[1,32] %x  %a: {}  %p = matmul(transpose_b:false) %r, %a
        %b: {}  %q = matmul(transpose_b:true) %p, %b  %c: {}  %y = matmul(transpose_b:true) %q, %c  output y = %y",
        weight(32, 20),
        weight(10, 20),
        weight(3, 10),
    ));
    let options =
        Options { activations: Activations::Float, weights: super::Weights::Blocks(16), ..Options::default() };
    let found = quantized_graph(&g, &options).graph;
    let weights = found.order().into_iter().filter(|n| matches!(found.op(*n), Op::MatMul(_)));
    let qparams: Vec<String> = weights
        .map(|n| {
            let qparams = found.ty(found.operands(n)[1]).elem.qparams().unwrap();
            format!("{} {} scales", qparams.to_string().split(": ").next().unwrap(), qparams.scales().len())
        })
        .collect();
    assert_eq!(qparams, ["i4<axis 0 by 16 40 scales", "i4<axis 1 by 16 20 scales", "i8<axis 0 3 scales"]);
}

/// The scale of a bias is computed from that of a constant weight. With a computed weight, everything stays in floating
/// point.
#[test]
fn a_bias_with_a_computed_weight_stays_float() {
    let conv = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1)";
    let g = graph(&format!(
        "%s: f32[2,2,4,4] = concat(axis:0) %x, %x  %b: f32[2] = const [0.1,-0.2]
         %c = {conv} %x, %s, %b  output y = %c"
    ));
    let q = quantized_graph(&g, &Options::default()).graph;
    let conv = q.order().into_iter().find(|&n| q.op(n).is_contraction()).unwrap();
    assert!(q.operand_types(conv).iter().all(|t| t.elem == Elem::F32), "{}", print_brief(&q));
}

/// Channels of very unlike ranges between two filters lose less when they are scaled, and the graph has no more nodes.
#[test]
fn channels_of_unlike_ranges_are_scaled() {
    let g = graph(
        "%w: f32[4,2,1,1] = const [8,-4,0.05,0.02,-0.04,0.06,0.03,0.05]
        %u: f32[2,4,1,1] = const [0.02,1,-2,3,-0.03,2,1,-1]
        %0 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from first (Conv)
        %1 = clamp(lo:0,hi:inf) %0 from relu (Relu)
        %2 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %1, %u from second (Conv)
        %3 = clamp(lo:0,hi:6) %2 from relu6 (Relu6)
        %v: f32[1,2,1,1] = const [1,-1]
        %4 = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %3, %v from last (Conv)
        output y = %4",
    );
    let images = (0..16).map(|k| vec![qcc_ir::testing::numbers(Shape::known(&[1, 2, 4, 4]), k)]);
    let (joint, samples) = (SharedGraph::alone(&g), images.collect::<Vec<_>>());
    let read = |i: usize| Some(samples[i].clone());
    let go_on = &mut |_| ControlFlow::Continue(());
    let ranges = calibrate(&joint, &[&g], Method::Mse, samples.len(), read, go_on).unwrap();
    let sqnr = |smooth: bool| {
        let options = Options { smooth, ..Options::default() };
        let q = quantize(&g, &crate::testing::BARE, &ranges[0], &options).unwrap();
        assert_eq!(q.scaled.is_some(), smooth);
        assert!(q.values.iter().all(|(v, _)| g.order().contains(&v.node)));
        let compiled = Compiled { place: 0, float: &g, graph: &q.graph, values: &q.values };
        let samples = quality::Samples { count: samples.len(), read: &read };
        let fidelity = compare(&joint, &g, &[compiled], Hints::default(), &samples).unwrap();
        (fidelity[0].outputs[0].distance.sqnr(), q.graph.order().len())
    };
    let ((plain, nodes), (scaled, same)) = (sqnr(false), sqnr(true));
    assert!(scaled > plain + 6.0, "{scaled} {plain}");
    assert_eq!(nodes, same);
    // Layers whose results are divided are units, which may be in floating point: then they are divided still.
    let quantized = |raised| {
        let options = Options { smooth: true, raised, ..Options::default() };
        let q = quantize(&g, &crate::testing::BARE, &ranges[0], &options).unwrap();
        let units = units(&g, &ranges[0], &q);
        let names: Vec<String> = units.iter().map(|u| g.origin(u.nodes[0]).path().to_owned()).collect();
        (q, units, names)
    };
    let (q, units, names) = quantized(Vec::new());
    assert_eq!(names, ["first", "second"]);
    assert!(units.iter().all(|u| u.noise < 1e-2), "{units:?}");
    let alone = super::rounded_alone(&g, &q, &units[0].nodes).unwrap();
    alone.graph.verify().unwrap();
    assert!(alone.graph.order().iter().any(|&n| matches!(alone.graph.op(n), Op::Quantize(_))));
    let (q, _, names) = quantized(units[0].nodes.iter().map(|&n| (n, Raised::Weights)).collect());
    assert_eq!(names, ["second"]);
    assert!(q.scaled.is_some());
}

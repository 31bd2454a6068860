//! Graphs and what they become, as text, and the law that every pass keeps the meaning.

use proptest::prelude::*;
use qcc_ir::testing::{graphs, inputs_for};
use qcc_ir::text::{Weights, parse, print_full};
use qcc_ir::{Elem, Graph, Layout, Store, TensorType};

use super::{simplify, tidy};
use crate::testing::try_apply;
use crate::{Pass, check_meaning};
use qcc_ir::ops::{Granularity, Op};
use qcc_ir::target::{GridDemands, OpenBatch, Sums, Tables, Target, Zero};

/// A target that takes everything: passes of this room do not ask it.
pub(crate) fn target() -> Target {
    fn native(_: &Op, _: &[&TensorType]) -> bool {
        true
    }
    fn weight_layout(_: &Op, _: usize, ty: &TensorType) -> Layout {
        Layout::row_major(ty.rank())
    }
    fn per_channel(_: &Op, _: &TensorType) -> bool {
        true
    }
    Target {
        name: "any",
        native,
        image_layout: Layout::row_major,
        weight_layout,
        index: Elem::I64,
        integers: Elem::I64,
        negative_indices: true,
        half_graphs: true,
        half: None,
        open_batch: OpenBatch::Never,
        grids: GridDemands {
            activation: Store::I8,
            integer: native,
            weights_only: native,
            dynamic: |_, operands| Some(Granularity::Axes { from: 0, to: operands[0].rank() }),
            tables: Tables::Columns,
            per_channel,
            pairs: |_, _| false,
            blocks: Some(|extent, size| extent >= size),
            sums: |_, _| Sums::Grid,
            zero: |_, operand, _| if operand == 1 { Zero::Middle } else { Zero::Anywhere },
        },
    }
}

fn after(g: &Graph, passes: Vec<Box<dyn Pass>>) -> Graph {
    let mut g = g.clone();
    try_apply(&mut g, passes, &target()).unwrap();
    g
}

/// A graph with an image `%x`, another `%z` and a matrix `%m`, which gives `%y`.
fn graph(body: &str) -> Graph {
    let inputs = "%x: f32[1,2,4,4] = input %z: f32[1,2,4,4] = input %m: f32[3,4] = input";
    let text = format!("graph g {{ {inputs} {body} output y = %y }}");
    parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{body}"))
}

/// Simplifies `before`, which must then read as `expected` and mean the same; `expected` must be left as it is.
fn becomes(before: &str, expected: &str) {
    let (before, expected) = (graph(before), graph(expected));
    let found = after(&before, simplify());
    assert_eq!(plain(&found), plain(&expected));
    assert_eq!(plain(&after(&expected, simplify())), plain(&expected));
    let error = check_meaning(&before, &found, &inputs_for(&before, 7)).unwrap();
    assert!(error < 1e-5, "differs by {error}\n{}", print_full(&found));
}

fn stays(body: &str) {
    becomes(body, body);
}

/// The text without the names that values bear.
fn plain(g: &Graph) -> String {
    let mut bare = g.clone();
    for v in g.order().into_iter().flat_map(|n| g.results(n)) {
        if !g.inputs().any(|i| i == v) {
            bare.set_name(v, "v");
        }
    }
    print_full(&bare)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn simplification_keeps_the_meaning_and_is_done_once(g in graphs(), seed in any::<u64>()) {
        for passes in [simplify, tidy] {
            let once = after(&g, passes());
            let error = check_meaning(&g, &once, &inputs_for(&g, seed)).unwrap();
            prop_assert!(error < 1e-4, "differs by {error}\n{}\n{}", print_full(&g), print_full(&once));
            prop_assert!(after(&once, passes()).same(&once), "{}\n{}", print_full(&g), print_full(&once));
        }
    }
}

#[test]
fn constants_are_folded() {
    becomes(
        "%a: f32[2] = const [1,2] %b: f32[] = const [3] %c = binary(f:Mul) %a, %b %d = reshape[1,2,1,1] %c
         %y = binary(f:Mul) %x, %d",
        "%c: f32[1,2,1,1] = const [3,6] %y = binary(f:Mul) %x, %c",
    );
    stays("%a: f32[1] = const [1] %b = expand[300,300] %a %y = matmul(transpose_b:false) %b, %b");
}

#[test]
fn what_does_nothing_is_dropped() {
    let nothing = "%y = clamp(lo:-1,hi:1) %a";
    for op in [
        "reshape[1,2,4,4]",
        "expand[1,2,4,4]",
        "tile(repeats:[1,1,1,1])",
        "transpose(perm:[0,1,2,3])",
        "concat(axis:1)",
        "cast\"f32\"",
        "slice(ranges:[(axis:2,start:0,len:4,step:1)])",
        "pad(before:[0,0,0,0],after:[0,0,0,0],mode:Constant(0))",
        "clamp(lo:-inf,hi:inf)",
        "reverse(axes:[])",
        "reduce(f:Mean,axes:[0],keep:true)",
        "depth_to_space(block:1,channel_first:false)",
        "pool(f:Average,window:[1,1],stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1])",
        "resize(size:[4,4],scale:[1,1],mode:Linear,coordinates:HalfPixel)",
    ] {
        becomes(&format!("%a = {op} %x {nothing}"), &nothing.replace("%a", "%x"));
    }
    for (f, n) in [("Add", 0), ("Sub", 0), ("Mul", 1), ("Div", 1), ("Pow", 1)] {
        becomes(&format!("%c: f32[] = const [{n}] %a = binary(f:{f}) %x, %c {nothing}"), &nothing.replace("%a", "%x"));
    }
    stays("%a = slice(ranges:[(axis:2,start:3,len:4,step:-1)]) %x %y = clamp(lo:-1,hi:1) %a");
    stays("%c: f32[3,1,1,1] = const [1,1,1] %y = binary(f:Mul) %x, %c");
}

#[test]
fn what_is_computed_twice_is_computed_once() {
    becomes(
        "%a = unary(f:Exp) %x %b = unary(f:Exp) %x %y = binary(f:Atan2) %a, %b",
        "%a = unary(f:Exp) %x %y = binary(f:Atan2) %a, %a",
    );
    becomes(
        "%c: f32[] = const [3] %d: f32[] = const [3] %a = binary(f:Max) %x, %z %e = binary(f:Rem) %a, %c
         %f = binary(f:Rem) %a, %d %y = binary(f:Atan2) %e, %f",
        "%c: f32[] = const [3] %a = binary(f:Max) %x, %z %e = binary(f:Rem) %a, %c %y = binary(f:Atan2) %e, %e",
    );
}

#[test]
fn reshapes_and_transposes_merge() {
    becomes(
        "%a = reshape[2,16] %x %b = reshape[4,8] %a %y = unary(f:Exp) %b",
        "%b = reshape[4,8] %x %y = unary(f:Exp) %b",
    );
    becomes(
        "%a = reduce(f:Sum,axes:[0],keep:false) %x %y = unary(f:Exp) %a",
        "%a = reshape[2,4,4] %x %y = unary(f:Exp) %a",
    );
    becomes(
        "%a = transpose(perm:[0,2,3,1]) %x %b = transpose(perm:[0,2,1,3]) %a %y = unary(f:Exp) %b",
        "%a = transpose(perm:[0,3,2,1]) %x %y = unary(f:Exp) %a",
    );
    becomes("%a = transpose(perm:[1,0,2,3]) %x %y = unary(f:Exp) %a", "%a = reshape[2,1,4,4] %x %y = unary(f:Exp) %a");
    becomes(
        "%a = transpose(perm:[1,0]) %m %y = matmul(transpose_b:false) %m, %a",
        "%y = matmul(transpose_b:true) %m, %m",
    );
}

#[test]
fn transposes_are_lifted_where_they_cancel() {
    becomes(
        "%c: f32[2] = const [1,2] %s: f32[] = const [0.5] %a = transpose(perm:[0,2,3,1]) %x %b = binary(f:Max) %a, %c
         %d = unary(f:Exp) %b %e = transpose(perm:[0,2,3,1]) %z %f = binary(f:Atan2) %d, %e
         %h = transpose(perm:[0,3,1,2]) %f %y = unary(f:Exp) %h",
        "%c: f32[1,2,1,1] = const [1,2] %b = binary(f:Max) %x, %c %d = unary(f:Exp) %b %f = binary(f:Atan2) %d, %z
         %y = unary(f:Exp) %f",
    );
    becomes(
        "%a = transpose(perm:[0,2,3,1]) %x %b = softmax(axis:3,log:false) %a %p = reduce(f:Mean,axes:[1,2],keep:true) %b
         %h = transpose(perm:[0,3,1,2]) %p %y = unary(f:Exp) %h",
        "%b = softmax(axis:1,log:false) %x %p = reduce(f:Mean,axes:[2,3],keep:true) %b %y = unary(f:Exp) %p",
    );
    stays("%b = unary(f:Exp) %x %y = transpose(perm:[0,2,3,1]) %b");
}

#[test]
fn parts_are_cut_and_joined_once() {
    becomes(
        "%a = slice(ranges:[(axis:3,start:1,len:3,step:1)]) %x
         %b = slice(ranges:[(axis:2,start:0,len:2,step:1),(axis:3,start:0,len:2,step:2)]) %a %y = unary(f:Exp) %b",
        "%b = slice(ranges:[(axis:2,start:0,len:2,step:1),(axis:3,start:1,len:2,step:2)]) %x %y = unary(f:Exp) %b",
    );
    becomes(
        "%a = concat(axis:1) %x, %z %b = slice(ranges:[(axis:1,start:3,len:1,step:1)]) %a %y = unary(f:Exp) %b",
        "%b = slice(ranges:[(axis:1,start:1,len:1,step:1)]) %z %y = unary(f:Exp) %b",
    );
    becomes(
        "%a = slice(ranges:[(axis:1,start:0,len:1,step:1)]) %x %b = slice(ranges:[(axis:1,start:1,len:1,step:1)]) %x
         %c = unary(f:Exp) %b %y = concat(axis:1) %a, %b, %c",
        "%b = slice(ranges:[(axis:1,start:1,len:1,step:1)]) %x %c = unary(f:Exp) %b %y = concat(axis:1) %x, %c",
    );
    becomes("%a = concat(axis:1) %x, %z %y = concat(axis:1) %z, %a", "%y = concat(axis:1) %z, %x, %z");
    becomes(
        "%i: i64[2] = const [-3,3] %a = gather(axis:2) %x, %i %y = unary(f:Exp) %a",
        "%a = slice(ranges:[(axis:2,start:1,len:2,step:2)]) %x %y = unary(f:Exp) %a",
    );
    stays("%i: i64[2] = const [3,1] %a = gather(axis:2) %x, %i %y = unary(f:Exp) %a");
}

#[test]
fn limits_merge() {
    becomes("%a = clamp(lo:0,hi:inf) %x %y = clamp(lo:-1,hi:6) %a", "%y = clamp(lo:0,hi:6) %x");
    becomes(
        "%c: f32[] = const [-0.4] %d: f32[1] = const [0.9] %a = binary(f:Max) %c, %x %y = binary(f:Min) %a, %d",
        "%y = clamp(lo:-0.4,hi:0.9) %x",
    );
    becomes("%a = unary(f:Sigmoid) %x %y = clamp(lo:0,hi:1) %a", "%y = unary(f:Sigmoid) %x");
    stays("%a = clamp(lo:0,hi:inf) %x %b = clamp(lo:0,hi:0.5) %a %y = binary(f:Atan2) %a, %b");
}

#[test]
fn constants_merge() {
    becomes(
        "%c: f32[] = const [8] %d: f32[1,2,1,1] = const [1,2] %e: f32[] = const [4] %a = binary(f:Sub) %x, %e
         %b = binary(f:Div) %a, %c %f = binary(f:Sub) %b, %d %y = binary(f:Mul) %e, %f",
        "%h: f32[] = const [0.5] %t: f32[1,2,1,1] = const [-6,-10] %a = binary(f:Mul) %x, %h %y = binary(f:Add) %a, %t",
    );
    stays("%c: f32[] = const [1e-42] %y = binary(f:Div) %x, %c");
}

#[test]
fn powers_and_roots_are_recognised() {
    for (exponent, body) in [
        ("2", "%y = binary(f:Mul) %x, %x"),
        ("3", "%a = binary(f:Mul) %x, %x %y = binary(f:Mul) %a, %x"),
        ("0.5", "%y = unary(f:Sqrt) %x"),
        ("-1", "%y = unary(f:Reciprocal) %x"),
        ("-0.5", "%y = unary(f:Rsqrt) %x"),
    ] {
        becomes(&format!("%c: f32[] = const [{exponent}] %y = binary(f:Pow) %x, %c"), body);
    }
    becomes("%c: f32[] = const [1] %a = unary(f:Sqrt) %x %y = binary(f:Div) %c, %a", "%y = unary(f:Rsqrt) %x");
    becomes("%a = unary(f:Sqrt) %x %y = binary(f:Div) %z, %a", "%a = unary(f:Rsqrt) %x %y = binary(f:Mul) %z, %a");
}

#[test]
fn activations_are_recognised() {
    let third = "%c3: f32[] = const [3] %c6: f32[] = const [6] %half: f32[] = const [0.5] %one: f32[] = const [1]";
    for (body, f) in [
        ("%a = unary(f:Sigmoid) %x %y = binary(f:Mul) %a, %x", "Silu"),
        ("%a = unary(f:Softplus) %x %b = unary(f:Tanh) %a %y = binary(f:Mul) %x, %b", "Mish"),
        ("%a = unary(f:HardSigmoid(alpha:0.16666667,beta:0.5)) %x %y = binary(f:Mul) %x, %a", "HardSwish"),
        (
            "%a = binary(f:Add) %x, %c3 %b = clamp(lo:0,hi:6) %a %c = binary(f:Mul) %x, %b %y = binary(f:Div) %c, %c6",
            "HardSwish",
        ),
        (
            "%a = binary(f:Add) %x, %c3 %b = clamp(lo:0,hi:6) %a %c = binary(f:Div) %b, %c6 %y = binary(f:Mul) %x, %c",
            "HardSwish",
        ),
        (
            "%a = binary(f:Div) %x, %c6 %b = binary(f:Add) %a, %half %c = clamp(lo:0,hi:1) %b
             %y = binary(f:Mul) %c, %x",
            "HardSwish",
        ),
        (
            "%r: f32[] = const [1.4142135] %a = binary(f:Div) %x, %r %b = unary(f:Erf) %a %c = binary(f:Add) %b, %one
             %d = binary(f:Mul) %x, %c %y = binary(f:Mul) %d, %half",
            "Gelu(tanh:false)",
        ),
        (
            "%r: f32[] = const [0.70710677] %a = binary(f:Mul) %x, %r %b = unary(f:Erf) %a
             %c = binary(f:Add) %b, %one %d = binary(f:Mul) %x, %half %y = binary(f:Mul) %d, %c",
            "Gelu(tanh:false)",
        ),
        (
            "%k: f32[] = const [0.044715] %r: f32[] = const [0.7978846] %p = binary(f:Pow) %x, %c3
             %q = binary(f:Mul) %p, %k %s = binary(f:Add) %x, %q %t = binary(f:Mul) %s, %r %u = unary(f:Tanh) %t
             %v = binary(f:Add) %u, %one %w = binary(f:Mul) %x, %half %y = binary(f:Mul) %w, %v",
            "Gelu(tanh:true)",
        ),
        ("%l: f32[] = const [0.1] %a = binary(f:Mul) %x, %l %y = binary(f:Max) %x, %a", "LeakyRelu(alpha:0.1)"),
    ] {
        becomes(&format!("{third} {body}"), &format!("%y = unary(f:{f}) %x"));
    }
    becomes(
        &format!("{third} %a = binary(f:Add) %x, %c3 %b = clamp(lo:0,hi:6) %a %y = binary(f:Div) %b, %c6"),
        "%y = unary(f:HardSigmoid(alpha:0.16666667,beta:0.5)) %x",
    );
    stays("%a = unary(f:Sigmoid) %x %y = binary(f:Mul) %a, %z");
}

#[test]
fn layer_norm_is_recognised() {
    becomes(
        "%e: f32[] = const [0.00001] %s: f32[4] = const [1,2,3,4] %t: f32[1,1,4] = const [5,6,7,8]
         %two: f32[] = const [2] %mu = reduce(f:Mean,axes:[3],keep:true) %x %d = binary(f:Sub) %x, %mu
         %p = binary(f:Pow) %d, %two %v = reduce(f:Mean,axes:[3],keep:true) %p %w = binary(f:Add) %v, %e
         %r = unary(f:Sqrt) %w %n = binary(f:Div) %d, %r %q = binary(f:Mul) %s, %n %y = binary(f:Add) %q, %t",
        "%s: f32[4] = const [1,2,3,4] %t: f32[4] = const [5,6,7,8] %y = layer_norm(axis:3,epsilon:0.00001) %x, %s, %t",
    );
}

#[test]
fn taps_that_read_padding_alone_are_cut_off() {
    const HEAD: &str = "conv(stride:[4,1],before:[1,4],after:[0,4],dilation:[1,4],groups:1)";
    let weight: Vec<i32> = (0..54).collect();
    let columns: Vec<i32> = weight.iter().copied().filter(|w| w % 3 == 1 && w % 9 > 2).collect();
    becomes(
        &format!("%w: f32[3,2,3,3] = const {weight:?} %y = {HEAD} %x, %w"),
        &format!(
            "%w: f32[3,2,2,1] = const {columns:?}
             %y = conv(stride:[4,1],before:[0,0],after:[0,0],dilation:[1,4],groups:1) %x, %w"
        ),
    );
    // Taps inside the image stay.
    let head = HEAD.replace("stride:[4,1]", "stride:[1,1]").replace("dilation:[1,4]", "dilation:[1,3]");
    stays(&format!("%w: f32[3,2,3,3] = const {weight:?} %y = {head} %x, %w"));
}

#[test]
fn scales_and_offsets_go_into_contractions() {
    const CONV: &str = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1)";
    becomes(
        &format!(
            "%w: f32[3,2,1,1] = const [1,2,3,4,5,6] %s: f32[3,1,1] = const [1,2,3] %t: f32[1,3,1,1] = const [7,8,9]
             %a = {CONV} %x, %w %b = binary(f:Mul) %a, %s %y = binary(f:Add) %b, %t"
        ),
        &format!("%w: f32[3,2,1,1] = const [1,2,6,8,15,18] %t: f32[3] = const [7,8,9] %y = {CONV} %x, %w, %t"),
    );
    becomes(
        &format!(
            "%w: f32[1,2,1,1] = const [1,2] %s: f32[2,1,1] = const [3,5] %t: f32[] = const [2] %b: f32[1] = const [1]
             %a = binary(f:Mul) %x, %s %d = binary(f:Add) %a, %t %y = {CONV} %d, %w, %b"
        ),
        &format!("%w: f32[1,2,1,1] = const [3,10] %b: f32[1] = const [7] %y = {CONV} %x, %w, %b"),
    );
    // Between two, the first takes them.
    becomes(
        &format!(
            "%w: f32[1,2,1,1] = const [1,2] %s: f32[1,1,1,1] = const [3] %t: f32[1,1,1,1] = const [5]
             %v: f32[1,1,1,1] = const [2]
             %a = {CONV} %x, %w %b = binary(f:Mul) %a, %s %d = binary(f:Add) %b, %t %y = {CONV} %d, %v"
        ),
        &format!(
            "%w: f32[1,2,1,1] = const [3,6] %t: f32[1] = const [5] %v: f32[1,1,1,1] = const [2]
             %d = {CONV} %x, %w, %t %y = {CONV} %d, %v"
        ),
    );
    let depthwise = CONV.replace("groups:1", "groups:2");
    becomes(
        &format!(
            "%w: f32[4,1,1,1] = const [1,2,3,4] %s: f32[2,1,1] = const [3,5] %t: f32[4,1,1] = const [1,2,3,4]
             %a = binary(f:Mul) %x, %s %b = {depthwise} %a, %w %y = binary(f:Mul) %b, %t"
        ),
        &format!("%w: f32[4,1,1,1] = const [3,12,45,80] %y = {depthwise} %x, %w"),
    );
    let padded = CONV.replace("before:[0,0]", "before:[1,0]");
    stays(&format!(
        "%w: f32[1,2,1,1] = const [1,2] %t: f32[] = const [2] %d = binary(f:Add) %x, %t %y = {padded} %d, %w"
    ));
    becomes(
        &format!(
            "%w: f32[1,2,1,1] = const [1,2] %s: f32[2,1,1] = const [2,4] %t: f32[] = const [2]
             %a = binary(f:Mul) %x, %s %d = binary(f:Add) %a, %t %y = {padded} %d, %w"
        ),
        &format!(
            "%w: f32[1,2,1,1] = const [2,8] %t: f32[2,1,1] = const [1,0.5] %d = binary(f:Add) %x, %t
             %y = {padded} %d, %w"
        ),
    );
    // The factor 1/2 belongs to the function before the contraction.
    becomes(
        &format!(
            "%w: f32[1,2,1,1] = const [1,2] %r: f32[] = const [1.4142135] %half: f32[] = const [0.5]
             %one: f32[] = const [1] %a = binary(f:Div) %x, %r %b = unary(f:Erf) %a %c = binary(f:Add) %b, %one
             %d = binary(f:Mul) %x, %c %e = binary(f:Mul) %d, %half
             %s: f32[2,1,1] = const [1,3] %f = binary(f:Mul) %e, %s %y = {padded} %f, %w"
        ),
        &format!("%w: f32[1,2,1,1] = const [1,6] %e = unary(f:Gelu(tanh:false)) %x %y = {padded} %e, %w"),
    );
    for groups in [1, 2] {
        let up =
            format!("conv_transpose(stride:[2,2],before:[0,0],after:[0,0],extra:[0,0],dilation:[1,1],groups:{groups})");
        let (weight, scaled) = match groups {
            1 => ("%w: f32[2,2,1,1] = const [1,2,3,4]", "%w: f32[2,2,1,1] = const [1,20,3,40]"),
            _ => ("%w: f32[2,1,1,1] = const [1,2]", "%w: f32[2,1,1,1] = const [1,20]"),
        };
        becomes(
            &format!(
                "{weight} %s: f32[2,1,1] = const [1,10] %t: f32[2,1,1] = const [5,6]
                 %a = {up} %x, %w %b = binary(f:Mul) %a, %s %y = binary(f:Add) %b, %t"
            ),
            &format!("{scaled} %t: f32[2] = const [5,6] %y = {up} %x, %w, %t"),
        );
    }
    for (weight, scaled, transposed) in [
        ("f32[4,2] = const [1,2,3,4,5,6,7,8]", "f32[4,2] = const [1,20,3,40,5,60,7,80]", false),
        ("f32[2,4] = const [1,2,3,4,5,6,7,8]", "f32[2,4] = const [1,2,3,4,50,60,70,80]", true),
    ] {
        let product = format!("matmul(transpose_b:{transposed})");
        becomes(
            &format!(
                "%w: {weight} %s: f32[2] = const [1,10] %t: f32[1,2] = const [3,4]
                 %a = {product} %m, %w %b = binary(f:Mul) %a, %s %y = binary(f:Add) %t, %b"
            ),
            &format!("%w: {scaled} %t: f32[2] = const [3,4] %y = {product} %m, %w, %t"),
        );
    }
}

#[test]
fn padding_goes_into_windows() {
    let conv = "conv(stride:[1,1],before:[B,1],after:[0,0],dilation:[1,1],groups:1)";
    let pool = "pool(f:Max,window:[2,2],stride:[2,2],before:[B,0],after:[B,0],dilation:[1,1])";
    let pad = |n: &str| format!("pad(before:[0,0,1,0],after:[0,0,B,0],mode:Constant({n}))");
    let weight = "%w: f32[1,2,1,1] = const [1,2]";
    let with = |text: &str, b: &str| text.replace('B', b);
    becomes(
        &with(&format!("{weight} %a = {} %x %y = {conv} %a, %w", pad("0")), "0"),
        &with(&format!("{weight} %y = {conv} %x, %w"), "1"),
    );
    becomes(
        &format!("%a = {} %x %y = {} %a", with(&pad("-inf"), "1"), with(pool, "0")),
        &format!("%y = {} %x", with(pool, "1")),
    );
    becomes(
        &format!("%r = clamp(lo:0,hi:inf) %x %a = {} %r %y = {} %a", with(&pad("0"), "1"), with(pool, "0")),
        &format!("%r = clamp(lo:0,hi:inf) %x %y = {} %r", with(pool, "1")),
    );
    stays(&format!("%a = {} %x %y = {} %a", with(&pad("0"), "1"), with(pool, "0")));
}

/// What DynamicQuantizeLinear, MatMulInteger and the scales behind it are imported as.
#[test]
fn products_of_dynamically_quantized_values_are_products_with_a_weight_on_a_grid() {
    let g = graph(
        "%zero: f32[] = const [0] %steps: f32[] = const [255] %tiny: f32[] = const [1e-38]
        %w: i8<1.0:0>[4,2] = const [1,2,3,4,5,6,7,8] %wd = dequantize %w %t: f32[2] = const [0.5,0.25]
        %min = reduce(f:Min,axes:[0,1,2,3],keep:false) %x %max = reduce(f:Max,axes:[0,1,2,3],keep:false) %x
        %lo = binary(f:Min) %min, %zero %hi = binary(f:Max) %max, %zero
        %span = binary(f:Sub) %hi, %lo %s0 = binary(f:Div) %span, %steps %s = binary(f:Max) %s0, %tiny
        %below = binary(f:Div) %lo, %s %z0 = binary(f:Sub) %zero, %below %z1 = clamp(lo:0,hi:255) %z0
        %z2 = unary(f:Round) %z1 %zp = cast\"u8\" %z2 %zf = cast\"f32\" %zp
        %q0 = binary(f:Div) %x, %s %q1 = unary(f:Round) %q0 %q2 = binary(f:Add) %q1, %zf
        %q3 = clamp(lo:0,hi:255) %q2 %q = cast\"u8\" %q3 %qf = cast\"f32\" %q
        %c = binary(f:Sub) %qf, %zf %p = matmul(transpose_b:false) %c, %wd
        %i = cast\"i32\" %p %f = cast\"f32\" %i %st = binary(f:Mul) %s, %t %y = binary(f:Mul) %f, %st",
    );
    let text = print_full(&after(&g, simplify()));
    assert!(text.contains("i8<axis 1: 0.5,0.25>[4,2] = const [1,2,3,4,5,6,7,8]"), "{text}");
    let rounded = "%0: f32[1,2,4,4] = dynamic_quantize(granularity:Axes(from:0,to:4)) %x";
    assert!(text.contains(rounded) && text.contains("= matmul(transpose_b:false) %0, "), "{text}");
    assert!(!text.contains("cast"), "{text}");
}

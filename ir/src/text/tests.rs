use proptest::prelude::*;

use super::*;
use crate::graph::{Origin, Source};
use crate::ops::{Clamp, Conv};
use crate::testing::dressed_graphs;
use crate::types::{Elem, QuantParams, Shape, StorageType, Tensor, TensorType};

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same_graph(g in dressed_graphs()) {
        prop_assert!(g.verify().is_ok());
        let text = print_full(&g);
        let back = parse(&text, &weights_of(&g)).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert!(back.same(&g), "{text}\n---\n{}", print_full(&back));
        prop_assert_eq!(print_full(&back), text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(g in dressed_graphs(), cut in any::<prop::sample::Index>(), odd in any::<String>()) {
        let mut text = print_full(&g);
        let at = (0..=cut.index(text.len() - 1)).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(at);
        prop_assert!(parse(&text, &Weights::new()).is_err());
        let _ = parse(&(text + &odd), &Weights::new());
        let _ = parse(&odd, &Weights::new());
    }
}

#[test]
fn attributes_have_names() {
    let named = |text: &str| {
        let text = format!("graph g {{\n  %x: f32[2,\"N,]\"] = input\n  %y = {text} %x\n  output y = %y\n}}\n");
        let g = parse(&text, &Weights::new()).unwrap();
        let op = g.op(g.outputs()[0].value.node).clone();
        fields(&op).into_iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>()
    };
    assert_eq!(named("unary(f:HardSigmoid(alpha:0.25,beta:0.5))"), ["f = HardSigmoid(alpha:0.25,beta:0.5)"]);
    assert_eq!(named("softmax(axis:1,log:false)"), ["axis = 1", "log = false"]);
    assert_eq!(named("reshape[\"N,]\",2]"), ["value = [\"N,]\",2]"]);
}

fn refused(text: &str) -> String {
    parse(text, &Weights::new()).unwrap_err().to_string()
}

#[test]
fn a_graph_is_printed() {
    let mut g = Graph::new("tiny");
    g.metadata.push(("author".into(), "somebody".into()));
    let x = g.add_input("x", TensorType::f32(&[1, 2, 2, 2]));
    let qparams = QuantParams::per_axis(StorageType::I8, 0, vec![0.5, 1e-7]);
    let weight = TensorType::new(Elem::Quantized(qparams), Shape::known(&[2, 2, 1, 1]));
    let w = g.add_const(Tensor::of(weight, vec![1i8, -2, 3, -4]), Origin::new("features.0.weight", "Initializer"));
    let b = g.add_const(Tensor::from_vec(Shape::known(&[20]), vec![0f32; 20]), Origin::none());
    let source =
        |path: &str, line: Option<&str>| Source { path: path.into(), kind: "Conv".into(), line: line.map(Into::into) };
    let origin = [source("features.0", Some("net.py:41")), source("", None)].into_iter().collect();
    let y = g.add1(Conv::unit(2), &[x, w], origin).unwrap();
    let z = g.add1(Clamp::RELU, &[y], Origin::none()).unwrap();
    g.set_name(z, "41");
    g.add_output("y", z);
    g.add_output("bias", b);
    assert_eq!(
        print_full(&g),
        r#"graph tiny {
  meta author = "somebody"
  %x: f32[1,2,2,2] = input
  %0: i8<axis 0: 0.5,1e-7>[2,2,1,1] = const [1,-2,3,-4]  from features.0.weight (Initializer)
  %1: f32[1,2,2,2] = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %0  from features.0 (Conv) at "net.py:41", "" (Conv)
  %"41": f32[1,2,2,2] = clamp(lo:0.0,hi:inf) %1
  %2: f32[20] = const #f14b84b8290b8965
  output y = %"41"
  output bias = %2
}
"#
    );
}

#[test]
fn types_and_origins_are_optional_in_the_text() {
    let text = "graph g {
        // the input
        %x: f32[N,4] = input
        %c: f32[4] = const [1, -2.5, inf, NaN]
        %0 = binary(f:Add) %x,
                           %c  // both
        output y = %0
    }";
    let g = parse(text, &Weights::new()).unwrap();
    let y = g.outputs()[0].value;
    assert_eq!(g.ty(y).to_string(), "f32[N,4]");
    assert_eq!(g.constant(g.operands(y.node)[1]).unwrap().floats()[1], -2.5);
}

#[test]
fn brief_text_is_truncated() {
    let mut g = Graph::new("g");
    g.metadata.push(("names".into(), "x".repeat(100)));
    let scales: Vec<f32> = (1..=32).map(|i| i as f32 / 64.0).collect();
    let ty =
        TensorType::new(Elem::Quantized(QuantParams::per_axis(StorageType::I8, 0, scales)), Shape::known(&[32, 1]));
    let origin = Origin::new("a", "Conv").and(&Origin::new("b", "Relu")).and(&Origin::new("c", "Mul"));
    let w = g.add_const(Tensor::of(ty, vec![0i8; 32]), origin);
    g.add_output("w", w);
    let text = print_brief(&g);
    assert!(text.contains(": i8<axis 0: 32 scales 0.015625..0.5>[32,1] = const #"), "{text}");
    assert!(text.contains("from a (Conv) +2\n"), "{text}");
    assert!(text.contains(&format!("names = \"{}\"...\n", "x".repeat(60))), "{text}");
}

#[test]
fn long_names_are_printed_once() {
    let long = "x".repeat(1000);
    let text = format!(
        "graph g {{ %0 \"{long}\": f32[1] = input %1 = binary(f:Add) %0, %0 from \"{long}\" (Add) output y = %1 }}"
    );
    let g = parse(&text, &Weights::new()).unwrap();
    assert_eq!(g.name(g.inputs().next().unwrap()).map(|n| n.len()), Some(1000));
    let full = print_full(&g);
    assert_eq!(full.matches(&long).count(), 2, "{full}");
    assert!(parse(&full, &Weights::new()).unwrap().same(&g));
    assert!(print_brief(&g).len() < 500);
}

#[test]
fn errors_have_a_position_and_what_is_expected() {
    for (text, message) in [
        ("", "1:1: expected `graph`, found the end"),
        ("graph g {\n  %x: f33[1] = input", "2:7: expected a type, found `f33`"),
        ("graph g {\n  %x: f32[1] = inputs", "2:16: expected an operator, found `inputs`"),
        ("graph g {\n  output y = %x }", "2:14: no value of that name is defined above"),
        ("graph g {\n  %c: i8[1] = const [300] }", "2:22: expected an i8, found `300`"),
        ("graph g {\n  %c: i4<1.0:0>[1] = const [9] }", "2:30: expected -8 to 7"),
        ("graph g {\n  %c: i4[1] = const [3] }", "2:7: i4 is for quantized types only"),
        (
            "graph g {\n  %c: i4<axis 0 by 2: 1.0>[3] = const [3,3,3] }",
            "2:7: 1 scales for [3], which asks for 2 in blocks of 2 along axis 0",
        ),
        ("graph g {\n  %c: i8[2] = const [3] }", "2:3: the constant does not have the elements of i8[2]"),
        ("graph g {\n  %c: i8[2] = const #12 }", "2:22: there are no weights with the digest 0000000000000012"),
        ("graph g {\n %x: f32[1] = input %x: f32[1] = input", "2:21: this value is defined twice"),
        (
            "graph g {\n %x: f32[1] = input %y = softmax(axis:1,log:false) %x",
            "2:26: operand 0 is f32[1]; expected rank above 1",
        ),
        ("graph g {\n %x: f32[1] = input %y: f32[2] = select %x", "2:34: select takes 3 to 3 operands, found 1"),
        ("graph g {\n %x: f32[2,1] @00 = input", "2:16: expected the 2 axes in some order"),
        (
            "graph g {\n %x: f32[2,1] = input %y = unary(f:Cosine) %x",
            "2:36: unary: Unexpected variant named `Cosine` in enum `UnaryFn`",
        ),
        ("graph \"g\\q\" {", "1:9: unknown escape"),
        ("graph g { } }", "1:13: expected the end, found `}`"),
    ] {
        assert!(refused(text).starts_with(message), "{text}\ngives {}\nnot   {message}", refused(text));
    }
}

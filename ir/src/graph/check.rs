//! The type checker: the one place that decides which types a node may have.

use smallvec::SmallVec;

use super::Graph;
use crate::error::TypeError;
use crate::ops::{Custom, LayoutRule, Op, QuantRule, Types};
use crate::types::{Elem, Layout, QuantParams, TensorType};

/// A node whose types do not fit its operator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{node}: {error}")]
pub struct VerifyError {
    /// Operator and origin of the node.
    pub node: String,
    /// What is wrong.
    pub error: TypeError,
}

impl Graph {
    /// Checks every node's types against its operator.
    ///
    /// # Errors
    /// The first node whose types are invalid, and why.
    pub fn verify(&self) -> Result<(), VerifyError> {
        for node in self.order() {
            check(self.op(node), &self.operand_types(node), &self.result_types(node)).map_err(|error| VerifyError {
                node: format!("{} ({})", self.op(node).kind().name(), self.place(node)),
                error,
            })?;
        }
        Ok(())
    }
}

/// The types of results where all numbers are floats.
pub(crate) fn infer_float(op: &Op, operands: &[&TensorType]) -> Result<Types, TypeError> {
    let real: SmallVec<[TensorType; 4]> =
        operands.iter().map(|t| TensorType::new(t.elem.real(), t.shape.clone())).collect();
    op.infer(&real.iter().collect::<SmallVec<[&TensorType; 4]>>())
}

/// The operand whose quantization parameters the results have: the first one with data.
pub(super) fn data_operand<'t>(op: &Op, operands: &[&'t TensorType]) -> Option<&'t TensorType> {
    let first = usize::from(matches!(op, Op::Select(_)));
    operands.get(first).copied()
}

/// The one place that decides whether a node may have these types.
pub(super) fn check(op: &Op, operands: &[&TensorType], results: &[TensorType]) -> Result<(), TypeError> {
    let wrong = |result: usize, expected: String| TypeError::Result {
        result,
        found: Box::new(results[result].clone()),
        expected,
    };
    results.iter().try_for_each(TensorType::validate)?;
    if matches!(op, Op::Input(_)) {
        return Ok(());
    }
    if let Op::Const(c) = op {
        return if results == [c.value.ty().clone()] { Ok(()) } else { Err(wrong(0, c.value.ty().to_string())) };
    }
    let inferred = infer_float(op, operands)?;
    if inferred.len() != results.len() {
        return Err(TypeError::Attribute(format!("{} results expected, found {}", inferred.len(), results.len())));
    }
    for (i, (want, have)) in inferred.iter().zip(results).enumerate() {
        if want.shape != have.shape || want.elem != have.elem.real() || have.layout.rank() != have.rank() {
            return Err(wrong(i, want.to_string()));
        }
    }
    check_layouts(op, operands, results)?;
    check_quantization(op, operands, results)
}

fn check_layouts(op: &Op, operands: &[&TensorType], results: &[TensorType]) -> Result<(), TypeError> {
    let refuse = |expected: &str| TypeError::Result {
        result: 0,
        found: Box::new(results[0].clone()),
        expected: expected.into(),
    };
    match op.layout() {
        LayoutRule::Free => Ok(()),
        LayoutRule::RowMajor => {
            let row = |t: &TensorType| t.layout.same_bytes(&Layout::row_major(t.rank()), &t.shape);
            let all = operands.iter().all(|t| row(t)) && results.iter().all(row);
            if all { Ok(()) } else { Err(refuse("a row-major layout of all operands and results")) }
        }
        LayoutRule::Image => {
            let same = results.iter().all(|r| r.layout == operands[0].layout);
            if same { Ok(()) } else { Err(refuse("the layout of operand 0")) }
        }
        LayoutRule::Carry => {
            let carried = op.carried(operands[0], &results[0].shape);
            let exact = !matches!(op, Op::Reshape(_));
            let fits = carried.is_some_and(|l| match exact {
                true => l == results[0].layout,
                false => l.same_bytes(&results[0].layout, &results[0].shape),
            });
            let row = operands[1..].iter().all(|t| t.layout.is_row_major());
            if fits && row { Ok(()) } else { Err(refuse("the layout that follows from operand 0")) }
        }
        LayoutRule::Follow | LayoutRule::Innermost(_) => {
            let layout = &results[0].layout;
            let fits = |t: &TensorType| {
                t.shape.elements() == Some(1)
                    || (t.rank() == layout.rank() && t.layout == *layout)
                    || (layout.is_row_major() && t.layout.is_row_major())
            };
            if operands.iter().all(|t| fits(t)) && results.iter().all(fits) {
                Ok(())
            } else {
                Err(refuse("the same layout of all operands and results"))
            }
        }
    }
}

/// Values of custom operators are quantized as the source has them.
fn as_declared(op: &Custom, operands: &[&TensorType], results: &[TensorType]) -> Result<(), TypeError> {
    for (operand, (found, declared)) in operands.iter().zip(op.given()).enumerate() {
        if found.elem != declared.elem {
            let found = Box::new((*found).clone());
            return Err(TypeError::Operand { operand, found, expected: declared.to_string() });
        }
    }
    for (result, (found, declared)) in results.iter().zip(op.wanted()).enumerate() {
        if found.elem != declared.elem {
            return Err(TypeError::Result { result, found: Box::new(found.clone()), expected: declared.to_string() });
        }
    }
    Ok(())
}

fn check_quantization(op: &Op, operands: &[&TensorType], results: &[TensorType]) -> Result<(), TypeError> {
    let refuse = |expected: &str| TypeError::Result {
        result: 0,
        found: Box::new(results[0].clone()),
        expected: expected.into(),
    };
    let reals = || operands.iter().filter(|t| t.elem.real() == Elem::F32);
    let for_weights = |t: &TensorType| t.elem.qparams().is_some_and(QuantParams::is_for_weights);
    let is_weight = |i: usize| match op.quant_rule() {
        QuantRule::Contraction { .. } => i == 1 && operands[0].elem.qparams().is_none(),
        _ => matches!(op, Op::Dequantize(_)),
    };
    let misplaced = |(i, t): (usize, &&TensorType)| for_weights(t) && !is_weight(i);
    if operands.iter().enumerate().any(misplaced) || results.iter().any(for_weights) {
        return Err(refuse(
            "4-bit or per-block quantization only for the weight of a contraction with float activations",
        ));
    }
    match op {
        Op::Custom(op) => return as_declared(op, operands, results),
        Op::Quantize(_) => {
            return if results[0].elem.qparams().is_some() { Ok(()) } else { Err(refuse("a quantized type")) };
        }
        Op::Dequantize(_) => {
            let fits = operands[0].elem.qparams().is_some() && results[0].elem == Elem::F32;
            return if fits { Ok(()) } else { Err(refuse("f32 from a quantized operand")) };
        }
        _ => {}
    }
    let any =
        operands.iter().chain(results.iter().collect::<SmallVec<[_; 2]>>().iter()).any(|t| t.elem.qparams().is_some());
    if !any {
        return Ok(());
    }
    let is_quantized = |t: &TensorType| t.elem.qparams().is_some();
    let fits = match op.quant_rule() {
        QuantRule::Float => false,
        // With quantized activation and weight, the result is quantized with a quantized bias (scale of the
        // accumulator), or float with a float bias. With weight-only quantization, bias and result are float.
        QuantRule::Contraction { .. } => {
            let float_bias = operands.get(2).is_none_or(|b| !is_quantized(b));
            match (is_quantized(operands[0]), is_quantized(operands[1]), is_quantized(&results[0])) {
                (true, true, true) => operands.get(2).is_none_or(|b| is_quantized(b)),
                (_, true, false) => float_bias,
                _ => false,
            }
        }
        QuantRule::OwnRange | QuantRule::Fixed { .. } => {
            reals().all(|t| is_quantized(t)) && results.iter().filter(|r| r.elem.real() == Elem::F32).all(is_quantized)
        }
        QuantRule::SameAsInput | QuantRule::SharedScale => {
            let data = data_operand(op, operands).filter(|t| is_quantized(t));
            let joined =
                |t: &&TensorType| t.elem.real() != Elem::F32 || t.elem.qparams() == data.and_then(|d| d.elem.qparams());
            let carried = |r: &TensorType| match data {
                Some(d) if r.elem.real() == Elem::F32 => {
                    is_quantized(r) && op.carried_qparams(d, &r.shape).as_ref() == r.elem.qparams()
                }
                _ => !is_quantized(r),
            };
            (matches!(op.quant_rule(), QuantRule::SameAsInput) || operands.iter().all(joined))
                && results.iter().all(carried)
        }
    };
    if fits { Ok(()) } else { Err(refuse("the quantization parameters that this operator needs")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::QuantError;
    use crate::graph::Origin;
    use crate::text::{Weights, parse};
    use crate::types::{Shape, StorageType, Tensor};

    /// The checker's message for a graph in the text form with explicit result types, or "nothing".
    fn refused(body: &str) -> String {
        let text = format!("graph g {{\n{body}\noutput y = %y }}");
        match parse(&text, &Weights::new()) {
            Ok(_) => "nothing".into(),
            Err(e) => e.message,
        }
    }

    /// Each body is valid, and refused with the message where the first of the pair is replaced by the second.
    fn refuses(cases: &[(&str, (&str, &str), &str)]) {
        for (body, (right, wrong), message) in cases {
            assert!(body.contains(right), "{body} without {right}");
            assert_eq!(refused(body), "nothing", "{body}");
            assert_eq!(refused(&body.replace(right, wrong)), *message, "{body} with {wrong}");
        }
    }

    const CONV: &str = "conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1)";

    #[test]
    fn results_have_valid_quantization_parameters() {
        let body = "%x: f32[2,3] = input %y: i8<PARAMS>[2,3] = quantize %x";
        for (qparams, message) in [
            ("0.0:0", "a scale of 0.0; scales are positive, finite and normal numbers"),
            ("-1.0:0", "a scale of -1.0; scales are positive, finite and normal numbers"),
            ("inf:0", "a scale of inf; scales are positive, finite and normal numbers"),
            ("1e-45:0", "a scale of 1e-45; scales are positive, finite and normal numbers"),
            ("1.0:128", "a zero point of 128, which i8 does not hold"),
            ("axis 2: 1.0", "scales along axis 2 of [2,3]"),
            ("axis 1: 1.0,1.0", "2 scales for [2,3], which asks for 3 along axis 1"),
            ("axis 1 by 0: 1.0", "blocks of 0 along axis 1 of [2,3]"),
            ("axis 1 by 2: 1.0", "1 scales for [2,3], which asks for 4 in blocks of 2 along axis 1"),
        ] {
            assert_eq!(refused(&body.replace("PARAMS", qparams)), message, "{qparams}");
        }
        assert_eq!(refused(&body.replace("PARAMS", "0.5:-3")), "nothing");
    }

    /// In the text form the type of a constant is that of its tensor, so the graph is built in code.
    #[test]
    fn a_constant_has_the_type_of_its_tensor() {
        let ty = TensorType::f32(&[2]);
        let mut g = Graph::new("g");
        let v = g.add_const(Tensor::from_vec(ty.shape.clone(), vec![1f32, 2.0]), Origin::none());
        g.add_output("y", v);
        assert_eq!(g.verify(), Ok(()));
        let other = TensorType::f32(&[1, 2]);
        g.set_type(v, other.clone());
        let error = TypeError::Result { result: 0, found: Box::new(other), expected: "f32[2]".into() };
        assert_eq!(g.verify().unwrap_err().error, error);
    }

    #[test]
    fn an_input_has_valid_quantization_parameters() {
        let mut g = Graph::new("g");
        let v = g.add_input("x", TensorType::f32(&[2]));
        g.add_output("y", v);
        g.set_type(
            v,
            TensorType::new(Elem::Quantized(QuantParams::per_tensor(StorageType::I8, 0.0, 0)), Shape::known(&[2])),
        );
        assert_eq!(g.verify().unwrap_err().error, TypeError::QuantParams(QuantError::Scale(0.0)));
    }

    /// Each kind of error of type inference.
    #[test]
    fn operands_are_those_of_the_operator() {
        for (body, message) in [
            ("%x: f32[2] = input %y: f32[2] = select %x", "select takes 3 to 3 operands, found 1"),
            (
                "%x: f32[2,3] = input %w: f32[2,3] = input %y: f32[2,3] = matmul(transpose_b:false) %x, %w",
                "operand 1 is f32[2,3]; expected 3 rows to multiply",
            ),
            ("%x: i32[2] = input %y: i32[2] = unary(f:Exp) %x", "operand 0 is i32[2]; expected a float"),
            (
                "%a: f32[2] = input %b: f32[3] = input %y: f32[3] = binary(f:Add) %a, %b",
                "shapes [2] and [3] do not broadcast",
            ),
            (
                "%x: f32[N,3] = input %y: f32[6,3] = concat(axis:0) %x, %x",
                "result 0 is f32[6,3]; expected f32[(2*N),3]",
            ),
            ("%x: f32[2] = input %y: f32[2] = transpose(perm:[1]) %x", "[1] is no permutation of 1 axes"),
        ] {
            assert_eq!(refused(body), message, "{body}");
        }
    }

    #[test]
    fn results_are_as_many_as_inferred_and_have_their_shape_element_and_rank() {
        let sine = "%x: f32[2,3] = input %y: f32[2,3] = unary(f:Sin) %x";
        refuses(&[
            (sine, ("%y: f32[2,3]", "%y: f32[3,2]"), "result 0 is f32[3,2]; expected f32[2,3]"),
            (sine, ("%y: f32[2,3]", "%y: i32[2,3]"), "result 0 is i32[2,3]; expected f32[2,3]"),
            (sine, ("%y: f32[2,3]", "%y: f32[2,3], %z: f32[2,3]"), "1 results expected, found 2"),
        ]);
        // The text form cannot express a layout of another rank.
        let mut g = Graph::new("g");
        let x = g.add_input("x", TensorType::f32(&[2, 3]));
        let ty = TensorType { layout: Layout::row_major(3), ..TensorType::f32(&[2, 3]) };
        let op = crate::ops::Unary { f: crate::ops::UnaryFn::Sin };
        let error = TypeError::Result { result: 0, found: Box::new(ty.clone()), expected: "f32[2,3]".into() };
        assert_eq!(g.add_typed(op, &[x], smallvec::smallvec![ty], Origin::none()), Err(error));
    }

    #[test]
    fn layouts_follow_the_rule_of_the_operator() {
        let row = "%x: f32[2,3] = input %w: f32[3,2] = input %y: f32[2,2] = matmul(transpose_b:false) %x, %w";
        let image =
            format!("%x: f32[1,2,3,3] @0231 = input %w: f32[4,2,1,1] = input %y: f32[1,4,3,3] @0231 = {CONV} %x, %w");
        let carry = "%x: f32[1,2,3,4] @0231 = input %y: f32[1,2,4] @021 = reduce(f:Max,axes:[2],keep:false) %x";
        let flatten = "%x: f32[1,2,3,3] = input %y: f32[1,18] = reshape[1,18] %x";
        let gather = "%x: f32[2,3] = input %i: i64[2,2] = input %y: f32[2,2,3] = gather(axis:0) %x, %i";
        let follow = "%a: f32[2,3] @10 = input %b: f32[2,3] @10 = input %y: f32[2,3] @10 = binary(f:Add) %a, %b";
        let results = "%x: f32[2,3] = input %y: f32[2,1], %i: i64[2,1] = top_k(k:1,axis:1,largest:true) %x";
        let rows =
            |found: &str| format!("result 0 is {found}; expected a row-major layout of all operands and results");
        let carried = |found: &str| format!("result 0 is {found}; expected the layout that follows from operand 0");
        let one = |found: &str| format!("result 0 is {found}; expected the same layout of all operands and results");
        refuses(&[
            (row, ("%y: f32[2,2] =", "%y: f32[2,2] @10 ="), &rows("f32[2,2] @10")),
            (row, ("%x: f32[2,3] =", "%x: f32[2,3] @10 ="), &rows("f32[2,2]")),
            (&image, ("@0231 = conv", "= conv"), "result 0 is f32[1,4,3,3]; expected the layout of operand 0"),
            (&image, ("@0231 = input", "= input"), "result 0 is f32[1,4,3,3] @0231; expected the layout of operand 0"),
            (carry, ("@021 = reduce", "= reduce"), &carried("f32[1,2,4]")),
            (flatten, ("[1,2,3,3] =", "[1,2,3,3] @0231 ="), &carried("f32[1,18]")),
            (gather, ("i64[2,2] =", "i64[2,2] @10 ="), &carried("f32[2,2,3]")),
            (follow, ("%b: f32[2,3] @10", "%b: f32[2,3]"), &one("f32[2,3] @10")),
            (follow, ("%y: f32[2,3] @10", "%y: f32[2,3]"), &one("f32[2,3]")),
            (results, ("%i: i64[2,1] =", "%i: i64[2,1] @10 ="), &one("f32[2,1]")),
        ]);
    }

    #[test]
    fn weight_only_quantization_is_for_weights() {
        let only = |found: &str| {
            format!(
                "result 0 is {found}; expected 4-bit or per-block quantization only for the weight of a contraction \
                 with float activations"
            )
        };
        let real = "%x: f32[2,4] = input %w: i4<axis 0: 0.5,0.5>[2,4] = input \
                    %y: f32[2,2] = matmul(transpose_b:true) %x, %w";
        let integer = "%x: i8<0.1:0>[2,4] = input %w: i8<axis 0: 0.5,0.5>[2,4] = input \
                       %y: i8<0.2:0>[2,2] = matmul(transpose_b:true) %x, %w";
        let moved = "%x: i8<0.5:0>[2,3] = input %y: i8<0.5:0>[3,2] = transpose(perm:[1,0]) %x";
        let quantize = "%x: f32[2,4] = input %y: i8<axis 0: 0.5,0.5>[2,4] = quantize %x";
        let dequantize = "%x: i8<0.5:0>[2] = input %y: f32[2] = dequantize %x";
        assert_eq!(refused(real), "nothing");
        assert_eq!(refused(&dequantize.replace("i8", "i4")), "nothing");
        refuses(&[
            (integer, ("%w: i8", "%w: i4"), &only("i8<0.2:0>[2,2]")),
            (integer, ("i8<axis 0: 0.5,0.5>", "i8<axis 1 by 2: 0.5,0.5,0.5,0.5>"), &only("i8<0.2:0>[2,2]")),
            (moved, ("i8", "i4"), &only("i4<0.5:0>[3,2]")),
            (quantize, ("%y: i8", "%y: i4"), &only("i4<axis 0: 0.5,0.5>[2,4]")),
        ]);
    }

    #[test]
    fn quantize_and_dequantize_have_one_quantized_side() {
        let quantize = "%x: f32[2] = input %y: i8<0.5:0>[2] = quantize %x";
        let dequantize = "%x: i8<0.5:0>[2] = input %y: f32[2] = dequantize %x";
        refuses(&[
            (quantize, ("%y: i8<0.5:0>", "%y: f32"), "result 0 is f32[2]; expected a quantized type"),
            (dequantize, ("%x: i8<0.5:0>", "%x: f32"), "result 0 is f32[2]; expected f32 from a quantized operand"),
            (
                dequantize,
                ("%y: f32", "%y: i8<0.5:0>"),
                "result 0 is i8<0.5:0>[2]; expected f32 from a quantized operand",
            ),
        ]);
    }

    #[test]
    fn quantization_parameters_follow_the_rule_of_the_operator() {
        let asks =
            |found: &str| format!("result 0 is {found}; expected the quantization parameters that this operator needs");
        let float = "%x: f32[2] = input %y: f32[2] = cum_sum(axis:0,exclusive:false,reverse:false) %x";
        let contract = |x: &str, w: &str, b: &str, y: &str| {
            let inputs = format!("%x: {x}[2,4] = input %w: {w}[2,4] = input %b: {b}[2] = input");
            format!("{inputs} %y: {y}[2,2] = matmul(transpose_b:true) %x, %w, %b")
        };
        let integer = contract("i8<0.1:0>", "i8<0.5:0>", "i32<0.05:0>", "i8<0.2:0>");
        let float_result = contract("i8<0.1:0>", "i8<0.5:0>", "f32", "f32");
        let weights = contract("f32", "i8<0.5:0>", "f32", "f32");
        let own = "%a: i8<0.1:0>[2] = input %b: i8<0.2:0>[2] = input %y: i8<0.4:0>[2] = binary(f:Add) %a, %b";
        let fixed = "%x: i8<0.1:0>[2] = input %y: i8<0.00390625:-128>[2] = unary(f:Sigmoid) %x";
        let carry = "%x: i8<0.1:0>[2,3] = input %y: i8<0.1:0>[3,2] = transpose(perm:[1,0]) %x";
        let axis = "%x: i8<axis 0: 0.1,0.2>[2,3] = input %y: i8<axis 1: 0.1,0.2>[3,2] = transpose(perm:[1,0]) %x";
        let unify = "%a: i8<0.1:0>[2] = input %b: i8<0.1:0>[2] = input %y: i8<0.1:0>[4] = concat(axis:0) %a, %b";
        let select = "%c: bool[2] = input %a: i8<0.1:0>[2] = input %b: i8<0.1:0>[2] = input \
                      %y: i8<0.1:0>[2] = select %c, %a, %b";
        refuses(&[
            (float, ("f32", "i8<0.1:0>"), &asks("i8<0.1:0>[2]")),
            (&integer, ("%x: i8<0.1:0>", "%x: f32"), &asks("i8<0.2:0>[2,2]")),
            (&integer, ("%w: i8<0.5:0>", "%w: f32"), &asks("i8<0.2:0>[2,2]")),
            (&integer, ("%b: i32<0.05:0>", "%b: f32"), &asks("i8<0.2:0>[2,2]")),
            (&integer, ("%y: i8<0.2:0>", "%y: f32"), &asks("f32[2,2]")),
            (&float_result, ("%w: i8<0.5:0>", "%w: f32"), &asks("f32[2,2]")),
            (&float_result, ("%b: f32", "%b: i32<0.05:0>"), &asks("f32[2,2]")),
            (&weights, ("%b: f32", "%b: i32<0.05:0>"), &asks("f32[2,2]")),
            (&weights, ("%y: f32", "%y: i8<0.2:0>"), &asks("i8<0.2:0>[2,2]")),
            (own, ("%b: i8<0.2:0>", "%b: f32"), &asks("i8<0.4:0>[2]")),
            (own, ("%y: i8<0.4:0>", "%y: f32"), &asks("f32[2]")),
            (fixed, ("%x: i8<0.1:0>", "%x: f32"), &asks("i8<0.00390625:-128>[2]")),
            (fixed, ("%y: i8<0.00390625:-128>", "%y: f32"), &asks("f32[2]")),
            (carry, ("%y: i8<0.1:0>", "%y: i8<0.2:0>"), &asks("i8<0.2:0>[3,2]")),
            (carry, ("%y: i8<0.1:0>", "%y: f32"), &asks("f32[3,2]")),
            (carry, ("%x: i8<0.1:0>", "%x: f32"), &asks("i8<0.1:0>[3,2]")),
            (axis, ("%y: i8<axis 1: 0.1,0.2>", "%y: i8<0.1:0>"), &asks("i8<0.1:0>[3,2]")),
            (unify, ("%b: i8<0.1:0>", "%b: i8<0.2:0>"), &asks("i8<0.1:0>[4]")),
            (unify, ("%b: i8<0.1:0>", "%b: f32"), &asks("i8<0.1:0>[4]")),
            (unify, ("%y: i8<0.1:0>", "%y: i8<0.2:0>"), &asks("i8<0.2:0>[4]")),
            (select, ("%a: i8<0.1:0>", "%a: f32"), &asks("i8<0.1:0>[2]")),
            (select, ("%b: i8<0.1:0>", "%b: i8<0.2:0>"), &asks("i8<0.1:0>[2]")),
        ]);
    }
}

//! How much quantization a graph has before it is compiled.

use qcc_ir::ops::Op;
use qcc_ir::{Graph, NodeId};

use super::{is_quantized, lacks_qparams};
use crate::pass::Given;

impl Given {
    /// The quantization of `g`.
    pub fn by(g: &Graph) -> Self {
        match is_quantized(g) {
            false => Given::Nothing,
            true if has_weights_alone(g) => Given::Weights,
            true if lacks_qparams(g) => Given::Some,
            true => Given::All,
        }
    }

    /// True if activations have scales and zero points.
    pub fn has_activations(self) -> bool {
        matches!(self, Given::Some | Given::All)
    }
}

/// True if only constants, and results of nodes that move constants, are quantized: there is no `Quantize`, and no
/// quantized input or operand or result of a custom operator.
fn has_weights_alone(g: &Graph) -> bool {
    let puts = |&n: &NodeId| match g.op(n) {
        Op::Quantize(_) => true,
        Op::Input(_) | Op::Custom(_) => {
            let results = g.result_types(n);
            g.operand_types(n).into_iter().chain(&results).any(|t| t.elem.qparams().is_some())
        }
        _ => false,
    };
    !g.order().iter().any(puts)
}

/// Dequantizes the weights of a graph with [`Given::Weights`], and removes dynamic quantization of its activations.
pub fn dequantize_weights(g: &mut Graph) {
    for n in g.order() {
        let first = g.operands(n).first().copied();
        match (g.op(n), first) {
            (Op::Const(c), _) if c.value.ty().elem.qparams().is_some() => {
                let (real, origin) = (c.value.to_float(), g.origin(n).clone());
                let real = g.add_computed(real, origin);
                g.redirect(n.value(0), real);
            }
            (Op::Dequantize(_) | Op::DynamicQuantize(_), Some(x)) => g.redirect(n.value(0), x),
            _ => {
                for (v, ty) in g.results(n).zip(g.result_types(n)) {
                    g.set_type(v, ty.real());
                }
            }
        }
    }
    g.sweep();
}

#[cfg(test)]
mod tests {
    use qcc_ir::testing::numbers;
    use qcc_ir::text::{Weights, parse};

    use super::*;
    use crate::check_meaning;

    fn graph(body: &str) -> Graph {
        parse(&format!("graph g {{ {body} output y = %y }}"), &Weights::new()).unwrap_or_else(|e| panic!("{e}: {body}"))
    }

    /// Weights of contractions, per-channel and per-tensor; the last one is transposed and gathered from.
    const WEIGHTS: [&str; 3] = [
        "%x: f32[2,3] = input %w: i8<axis 0: 0.5,0.25>[2,3] = const [1,2,3,4,5,6] \
         %r: f32[2,3] = dequantize %w %y = matmul(transpose_b:true) %x, %r",
        "%x: f32[2,3] = input %w: i8<axis 0: 0.5,0.25>[2,3] = const [1,2,3,4,5,6] \
         %y: f32[2,2] = matmul(transpose_b:true) %x, %w",
        "%x: i64[2] = input %w: i8<0.5:-3>[2,3] = const [1,2,3,4,5,6] \
         %t: i8<0.5:-3>[3,2] = transpose(perm:[1,0]) %w %g = gather(axis:1) %t, %x %y: f32[3,2] = dequantize %g",
    ];

    #[test]
    fn weights_alone_are_told_from_activations() {
        for body in WEIGHTS {
            assert_eq!(Given::by(&graph(body)), Given::Weights, "{body}");
        }
        let dynamic = "%x: f32[2,3] = input %d = dynamic_quantize(granularity:Groups(3)) %x \
                       %w: i8<0.5:0>[2,3] = const [1,2,3,4,5,6] %y: f32[2,2] = matmul(transpose_b:true) %d, %w";
        assert_eq!(Given::by(&graph(dynamic)), Given::Weights);
        let activations = "%x: f32[2] = input %q: i8<0.5:0>[2] = quantize %x %y: f32[2] = dequantize %q";
        assert_eq!(Given::by(&graph(activations)), Given::All);
        let input = "%x: i8<0.5:0>[2] = input %y: f32[2] = dequantize %x";
        assert_eq!(Given::by(&graph(input)), Given::All);
        assert_eq!(Given::by(&graph("%x: f32[2] = input %y = unary(f:Neg) %x")), Given::Nothing);
    }

    #[test]
    fn restored_weights_mean_the_same() {
        for body in WEIGHTS {
            let (before, mut after) = (graph(body), graph(body));
            dequantize_weights(&mut after);
            after.verify().unwrap();
            assert_eq!(Given::by(&after), Given::Nothing, "{body}");
            let input = |v: qcc_ir::ValueId| match after.ty(v).elem {
                qcc_ir::Elem::I64 => qcc_ir::Tensor::from_vec(after.ty(v).shape.clone(), vec![1i64, 0]),
                _ => numbers(after.ty(v).shape.clone(), 3),
            };
            let inputs: Vec<_> = after.inputs().map(input).collect();
            assert!(check_meaning(&before, &after, &inputs).unwrap() < 1e-6, "{body}");
        }
    }
}

//! The activation function that is applied to a value by all of its users together.

use std::fmt;

use qcc_ir::ops::{BinaryFn, Op, Pool, PoolFn, Unary, UnaryFn};
use qcc_ir::{Composite, Graph, NodeId, Shape, Tensor, ValueId};
use rustc_hash::FxHashSet;

/// An element-wise function that a value goes through before any other node uses it.
#[derive(Clone, Debug)]
pub(crate) struct Activation {
    /// The function.
    function: Op,
    /// The result of the function.
    pub(crate) result: ValueId,
}

impl fmt::Display for Activation {
    /// Writes the function, not the result.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.function)
    }
}

impl Activation {
    /// The activation function of `v`, if its users together compute one, of all its elements or of the greatest in windows.
    pub(crate) fn behind(g: &Graph, v: ValueId) -> Option<Activation> {
        let pooled = g.only_user(v).filter(|&n| matches!(g.op(n), Op::Pool(Pool { f: PoolFn::Max, .. })));
        Activation::next(g, pooled.map_or(v, |n| n.value(0)))
    }

    /// The activation function of `v`.
    fn next(g: &Graph, v: ValueId) -> Option<Activation> {
        if g.is_output(v) {
            return None;
        }
        let users = g.users(v);
        let composite = g.composite(users.first()?.0);
        if let Some(whole) = composite.and_then(|composite| Activation::of(g, v, composite)) {
            return Some(whole);
        }
        let found = |function: Op, node: NodeId| Some(Activation { function, result: node.value(0) });
        match *users.as_slice() {
            [(node, 0)] => match g.op(node) {
                op @ (Op::Unary(_) | Op::Clamp(_)) => found(op.clone(), node),
                // PRelu has a slope for each channel. The root mean square of the slopes gives the same squared error
                // over all channels.
                Op::Binary(b) if b.f == BinaryFn::Prelu => {
                    let slopes = g.constant(g.operands(node)[1])?.floats();
                    let alpha = (slopes.iter().map(|s| s * s).sum::<f32>() / slopes.len().max(1) as f32).sqrt();
                    found(Unary { f: UnaryFn::LeakyRelu { alpha } }.into(), node)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The element-wise function that the nodes of `composite` apply to `v`, if `v` has no other users.
    fn of(g: &Graph, v: ValueId, composite: &Composite) -> Option<Activation> {
        let inside = |n: NodeId| g.composite(n).is_some_and(|c| c.is(composite));
        let mut open = vec![v];
        let (mut seen, mut results) = (FxHashSet::default(), Vec::new());
        if inside(v.node) || !matches!(composite.op(), Op::Unary(_)) {
            return None;
        }
        while let Some(w) = open.pop() {
            let mut leaves = g.is_output(w);
            for (n, _) in g.users(w) {
                match inside(n) {
                    true if seen.insert(n) => open.extend(g.results(n)),
                    true => {}
                    false => leaves = true,
                }
            }
            if leaves {
                results.push(w);
            }
        }
        match *results {
            [result] if result != v && g.ty(result) == g.ty(v) => {
                Some(Activation { function: composite.op().clone(), result })
            }
            _ => None,
        }
    }

    /// Applies the function to each number.
    pub(crate) fn apply(&self, values: Vec<f32>) -> Vec<f32> {
        let x = Tensor::from_vec(Shape::known(&[values.len()]), values);
        match self.function.eval(&[&x]) {
            Ok(results) => results[0].floats().into_owned(),
            Err(_) => x.floats().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use qcc_ir::text::{Weights, parse, print_full};

    use super::*;
    use crate::lower::lower;
    use crate::simplify::tidy;
    use crate::testing::apply;

    fn graph(body: &str) -> Graph {
        let text = format!("graph g {{ %x: f32[1,4] = input %v = unary(f:Exp) %x {body} output y = %y }}");
        parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}: {body}"))
    }

    /// The activation function of the exponential, and whether its result is the output.
    fn behind(g: &Graph) -> Option<(String, bool)> {
        let exp = g.order().into_iter().find(|&n| matches!(g.op(n), Op::Unary(Unary { f: UnaryFn::Exp })))?;
        let activation = Activation::behind(g, exp.value(0))?;
        Some((activation.to_string(), activation.result == g.outputs()[0].value))
    }

    /// Activation functions are found after lowering, and after a round trip through the text form.
    #[test]
    fn lowered_functions_stay_known() {
        for f in [
            "Silu",
            "HardSwish",
            "Mish",
            "Gelu(tanh:true)",
            "Gelu(tanh:false)",
            "HardSigmoid(alpha:0.3,beta:0.5)",
            "Elu(alpha:0.5)",
            "Selu(alpha:1.6,gamma:1.1)",
            "Softplus",
        ] {
            let mut g = graph(&format!("%y = unary(f:{f}) %v"));
            let expected = Some((format!("unary(f:{f})"), true));
            assert_eq!(behind(&g), expected);
            apply(&mut g, lower(true));
            assert!(g.order().len() > 3, "{f} is not lowered");
            assert_eq!(behind(&g), expected, "{}", print_full(&g));
            apply(&mut g, tidy());
            assert_eq!(behind(&g), expected, "{}", print_full(&g));
            let again = parse(&print_full(&g), &Weights::new()).unwrap();
            assert_eq!(behind(&again), expected, "{}", print_full(&g));
        }
    }

    #[test]
    fn other_readers_see_the_value_as_it_is() {
        for body in [
            "%s = unary(f:Silu) %v %n = unary(f:Neg) %v %y = binary(f:Add) %s, %n",
            "%s = unary(f:Silu) %v %t = unary(f:Mish) %v %y = binary(f:Add) %s, %t",
            // Two functions of the same kind are two composites.
            "%s = unary(f:Silu) %v %t = unary(f:Silu) %s %u = binary(f:Mul) %v, %t %y = unary(f:Neg) %u",
        ] {
            let mut g = graph(body);
            apply(&mut g, lower(true));
            assert_eq!(behind(&g), None, "{body}");
        }
    }
}

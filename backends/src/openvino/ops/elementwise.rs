//! Element-wise operators. Operands broadcast as in NumPy.

use qcc_formats::openvino::{Attribute, Operation, Port};
use qcc_ir::ops::{Binary, BinaryFn, Clamp, Unary, UnaryFn};
use qcc_ir::{Dim, Shape, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, attribute};

/// Unary operators.
pub(super) fn unary(e: &mut Emitter<'_>, op: &Unary, site: &NodeContext) -> Result<Port, Unsupported> {
    use UnaryFn::*;
    let plain = |kind, opset| (Operation(kind, opset), Vec::new(), Vec::new());
    let (operation, data, numbers): (Operation, Vec<Attribute>, Vec<f32>) = match op.f {
        Abs => plain("Abs", 1),
        Acos => plain("Acos", 1),
        Acosh => plain("Acosh", 4),
        Asin => plain("Asin", 1),
        Asinh => plain("Asinh", 4),
        Atan => plain("Atan", 1),
        Atanh => plain("Atanh", 4),
        Ceil => plain("Ceiling", 1),
        Cos => plain("Cos", 1),
        Cosh => plain("Cosh", 1),
        Erf => plain("Erf", 1),
        Exp => plain("Exp", 1),
        Floor => plain("Floor", 1),
        Log => plain("Log", 1),
        Neg => plain("Negative", 1),
        Not => plain("LogicalNot", 1),
        Round => (Operation("Round", 5), vec![attribute("mode", "half_to_even")], Vec::new()),
        Sigmoid => plain("Sigmoid", 1),
        Sign => plain("Sign", 1),
        Silu => plain("Swish", 4),
        Sin => plain("Sin", 1),
        Sinh => plain("Sinh", 1),
        Softplus => plain("SoftPlus", 4),
        Softsign => plain("SoftSign", 9),
        Sqrt => plain("Sqrt", 1),
        Tan => plain("Tan", 1),
        Tanh => plain("Tanh", 1),
        HardSwish => plain("HSwish", 4),
        Mish => plain("Mish", 4),
        HardSigmoid { alpha, beta } if (alpha, beta) == (1.0 / 6.0, 0.5) => plain("HSigmoid", 5),
        HardSigmoid { alpha, beta } => (Operation("HardSigmoid", 1), Vec::new(), vec![alpha, beta]),
        Elu { alpha } => (Operation("Elu", 1), vec![attribute("alpha", alpha)], Vec::new()),
        Selu { alpha, gamma } => (Operation("Selu", 1), Vec::new(), vec![alpha, gamma]),
        LeakyRelu { alpha } => {
            let slope = e.numbers(&TensorType::f32(&[1]), &[alpha]);
            let inputs = [e.operand(site, 0), slope];
            return Ok(e.op(Operation("PReLU", 1), &[], &inputs, &site.results[0]));
        }
        Gelu { tanh } => {
            let mode = if tanh { "TANH" } else { "ERF" };
            (Operation("Gelu", 7), vec![attribute("approximation_mode", mode)], Vec::new())
        }
        Reciprocal | Rsqrt | Threshold { .. } => return Err("it has no operation".into()),
    };
    let mut inputs = vec![e.operand(site, 0)];
    for n in numbers {
        inputs.push(e.scalar_of(&site.operands[0].elem, n)?);
    }
    Ok(e.op(operation, &data, &inputs, &site.results[0]))
}

/// The slope of a PReLU as one per channel, if it is constant along the other axes.
pub(in crate::openvino) fn slope(x: &Shape, slope: &Shape) -> Option<Shape> {
    let behind = x.rank().checked_sub(slope.rank())?;
    let wide: Vec<usize> = (0..slope.rank()).filter(|&a| slope.dims()[a] != Dim::Known(1)).collect();
    match wide.as_slice() {
        [] => Some(Shape::known(&[1])),
        [a] if behind + a == 1 && slope.dims()[*a] == x.dims()[1] => {
            Some([slope.dims()[*a].clone()].into_iter().collect())
        }
        _ => None,
    }
}

/// Binary operators.
pub(super) fn binary(e: &mut Emitter<'_>, op: &Binary, site: &NodeContext) -> Result<Port, Unsupported> {
    use BinaryFn::*;
    let bits = site.operands[0].elem.is_integer();
    let kind = match op.f {
        Add => "Add",
        Sub => "Subtract",
        Mul => "Multiply",
        Div | FloorDiv => "Divide",
        FloorMod => "FloorMod",
        Rem => "Mod",
        Pow => "Power",
        Max => "Maximum",
        Min => "Minimum",
        SquaredDifference => "SquaredDifference",
        Equal => "Equal",
        NotEqual => "NotEqual",
        Less => "Less",
        LessEqual => "LessEqual",
        Greater => "Greater",
        GreaterEqual => "GreaterEqual",
        And if bits => "BitwiseAnd",
        Or if bits => "BitwiseOr",
        Xor if bits => "BitwiseXor",
        And => "LogicalAnd",
        Or => "LogicalOr",
        Xor => "LogicalXor",
        Prelu => {
            let along =
                slope(&site.operands[0].shape, &site.operands[1].shape).ok_or("its slope is not per-channel")?;
            let inputs = [e.operand(site, 0), e.shaped(site.values[1], &along)];
            return Ok(e.op(Operation("PReLU", 1), &[], &inputs, &site.results[0]));
        }
        Atan2 => return Err("it has no operation".into()),
    };
    let opset = match op.f {
        And | Or | Xor if bits => 13,
        Xor => 2,
        _ => 1,
    };
    let mut data = vec![attribute("auto_broadcast", "numpy")];
    if matches!(op.f, Div | FloorDiv) {
        data.push(attribute("m_pythondiv", op.f == FloorDiv));
    }
    let mut inputs = e.operands(site);
    for (i, port) in inputs.iter_mut().enumerate() {
        if loses_axes(e, site, i) {
            *port = e.reshape(*port, &site.results[0].with_elem(site.operands[i].elem.clone()));
        }
    }
    Ok(e.op(Operation(kind, opset), &data, &inputs, &site.results[0]))
}

/// True if operand `i` is a computed scalar and the other one a one-element constant of higher rank. If another
/// constant follows, the plugin merges the two constants (LinOpSequenceFusion) and loses the axes.
fn loses_axes(e: &Emitter<'_>, site: &NodeContext, i: usize) -> bool {
    let (own, other, y) = (&site.operands[i], site.values[1 - i], &site.results[0]);
    own.rank() == 0 && y.rank() > 0 && y.shape.elements() == Some(1) && e.literal(other).is_some()
}

/// ReLU, Clamp, or Maximum and Minimum for infinite limits.
pub(super) fn clamp(e: &mut Emitter<'_>, op: &Clamp, site: &NodeContext) -> Result<Port, Unsupported> {
    let y = site.results[0].real();
    let mut x = e.operand(site, 0);
    if *op == Clamp::RELU {
        return Ok(e.op(Operation("ReLU", 1), &[], &[x], &y));
    }
    if op.lo.is_finite() && op.hi.is_finite() && op.lo <= op.hi {
        let data = [attribute("min", op.lo), attribute("max", op.hi)];
        return Ok(e.op(Operation("Clamp", 1), &data, &[x], &y));
    }
    for (limit, kind) in [(op.lo, "Maximum"), (op.hi, "Minimum")] {
        if limit != if kind == "Maximum" { f32::NEG_INFINITY } else { f32::INFINITY } {
            let limit = e.scalar_of(&y.elem, limit)?;
            x = e.binary(kind, x, limit, &y);
        }
    }
    Ok(x)
}

/// Select.
pub(super) fn select(e: &mut Emitter<'_>, site: &NodeContext) -> Port {
    let inputs = e.operands(site);
    e.op(Operation("Select", 1), &[attribute("auto_broadcast", "numpy")], &inputs, &site.results[0])
}

/// Convert.
pub(super) fn cast(e: &mut Emitter<'_>, site: &NodeContext) -> Port {
    let x = e.operand(site, 0);
    e.convert(x, &site.results[0])
}

//! Quantization parameters of tensors, derived from the operators that use them.

use crate::disassembly::{Operator, Quantization, numbers};

use super::tensors::Tensors;

/// A quantized tensor: an operand or the result, with the index of the operand that is its scale. The zero point is the
/// next operand.
enum Scaled {
    Operand(usize, usize),
    Result(usize),
}

/// The quantized tensors of an operator.
fn scaled(kind: &str, operands: usize) -> Vec<Scaled> {
    use Scaled::{Operand, Result};
    let kind = kind.strip_prefix("com.microsoft.").unwrap_or(kind);
    match kind {
        "QuantizeLinear" => vec![Result(1)],
        "DequantizeLinear" => vec![Operand(0, 1)],
        "QGemm" => vec![Operand(0, 1), Operand(3, 4), Result(7)],
        "QLinearConv" | "QLinearMatMul" | "QLinearAdd" | "QLinearMul" => vec![Operand(0, 1), Operand(3, 4), Result(6)],
        "QLinearConcat" => {
            let operands = (2..operands).step_by(3).map(|i| Operand(i, i + 1));
            operands.chain([Result(0)]).collect()
        }
        _ if kind.starts_with("QLinear") => vec![Operand(0, 1), Result(3)],
        _ => Vec::new(),
    }
}

/// Attaches constant scales and zero points to the tensors that they describe.
pub(super) fn annotate(operators: &[Operator], tensors: &mut Tensors) {
    for op in operators {
        for scaled in scaled(&op.kind, op.inputs.len()) {
            let (tensor, scale) = match scaled {
                Scaled::Operand(tensor, scale) => (op.inputs.get(tensor), scale),
                Scaled::Result(scale) => (op.outputs.first(), scale),
            };
            let Some(Some(tensor)) = tensor else { continue };
            let Some(quantization) = quantization(op, scale, tensors) else { continue };
            tensors.of(tensor).quantization = Some(quantization);
        }
    }
}

fn quantization(op: &Operator, scale: usize, tensors: &Tensors) -> Option<Quantization> {
    let constant = |i: usize| {
        let name = op.inputs.get(i)?.as_ref()?;
        numbers(&tensors.get(name)?.element, tensors.known.get(name)?)
    };
    let scales: Vec<f32> = constant(scale)?.into_iter().map(|x| x as f32).collect();
    let attribute = |name: &str| op.attributes.iter().find(|a| a.name == name)?.value.parse::<i64>().ok();
    let block = attribute("block_size").and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let several = scales.len() > 1 || block.is_some();
    let axis = match op.kind.ends_with("quantizeLinear") || op.kind.ends_with("QuantizeLinear") {
        true => attribute("axis").unwrap_or(1),
        // Per-channel weights: filters of a convolution, columns of a matrix.
        false => i64::from(!op.kind.ends_with("Conv")),
    };
    let zero_points: Vec<i64> = constant(scale + 1).unwrap_or_default().into_iter().map(|x| x as i64).collect();
    let same = zero_points.first().filter(|&first| zero_points.iter().all(|z| z == first)).copied();
    Some(Quantization {
        axis: usize::try_from(axis).ok().filter(|_| several),
        block,
        levels: None,
        scales,
        zero_points: same.map_or(zero_points, |zero| vec![zero]),
    })
}

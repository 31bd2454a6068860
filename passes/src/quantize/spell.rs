//! Rewrites quantized operators as float operators between Q/DQ nodes, the form of models with QuantizeLinear.

use qcc_ir::ops::{Dequantize, Op, Quantize, Types};
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::FxHashMap;

use crate::PassError;

/// Makes all operators of `g` compute in floating point: a `Dequantize` is added before each quantized operand, a
/// `Quantize` after each quantized result. Custom operators, and operators that only move integers, are not changed.
///
/// # Errors
/// Where a node cannot be added. Names the node.
pub fn spell(g: &mut Graph) -> Result<(), PassError> {
    let mut real: FxHashMap<ValueId, ValueId> = FxHashMap::default();
    for n in g.order() {
        if stays(g, n) {
            continue;
        }
        for (i, v) in g.operands(n).into_iter().enumerate() {
            if g.ty(v).elem.qparams().is_none() {
                continue;
            }
            let dequantized = match real.get(&v) {
                Some(&known) => known,
                None => g.add1(Dequantize {}, &[v], g.origin(n).clone())?,
            };
            real.insert(v, dequantized);
            g.set_operand(n, i, dequantized);
        }
        if matches!(g.op(n), Op::Quantize(_)) {
            continue;
        }
        let quantized: Vec<ValueId> = g.results(n).filter(|&v| g.ty(v).elem.qparams().is_some()).collect();
        for v in quantized {
            let ty = g.ty(v).clone();
            g.set_type(v, ty.real());
            let placed = g.add_typed(Quantize {}, &[v], Types::from_elem(ty, 1), g.origin(n).clone())?.value(0);
            g.redirect(v, placed);
        }
    }
    Ok(())
}

/// True for sources, `Dequantize`, custom operators, and nodes that move integers without computing with them.
fn stays(g: &Graph, n: NodeId) -> bool {
    match g.op(n) {
        Op::Input(_) | Op::Const(_) | Op::Dequantize(_) | Op::Custom(_) => true,
        Op::Transpose(_) | Op::Reshape(_) | Op::Relayout(_) => g.ty(g.operands(n)[0]).elem == g.ty(n.value(0)).elem,
        _ => false,
    }
}

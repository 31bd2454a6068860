//! Operators on grids, spelt as operators on real numbers between borders, as models with QuantizeLinear have them.

use qcc_ir::ops::{Dequantize, Op, Quantize, Types};
use qcc_ir::{Graph, NodeId, ValueId};
use rustc_hash::FxHashMap;

use crate::PassError;

/// Has all operators of `g` compute with real numbers: what they read from grids goes through `Dequantize` before them,
/// what they give on grids through `Quantize` behind them. What only moves integers stays on its grid.
///
/// # Errors
/// Where a node cannot be made, with its name.
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
            let known = real.get(&v).copied();
            let numbers = match known {
                Some(numbers) => numbers,
                None => g.add1(Dequantize {}, &[v], g.origin(n).clone())?,
            };
            real.insert(v, numbers);
            g.set_operand(n, i, numbers);
        }
        if matches!(g.op(n), Op::Quantize(_)) {
            continue;
        }
        let on_grids: Vec<ValueId> = g.results(n).filter(|&v| g.ty(v).elem.qparams().is_some()).collect();
        for v in on_grids {
            let ty = g.ty(v).clone();
            g.set_type(v, ty.real());
            let placed = g.add_typed(Quantize {}, &[v], Types::from_elem(ty, 1), g.origin(n).clone())?.value(0);
            g.redirect(v, placed);
        }
    }
    Ok(())
}

/// True where a node needs no other types: a Q/DQ boundary, a custom operator, or what moves stored integers as they are.
fn stays(g: &Graph, n: NodeId) -> bool {
    match g.op(n) {
        Op::Input(_) | Op::Const(_) | Op::Dequantize(_) | Op::Custom(_) => true,
        Op::Transpose(_) | Op::Reshape(_) | Op::Relayout(_) => g.ty(g.operands(n)[0]).elem == g.ty(n.value(0)).elem,
        _ => false,
    }
}

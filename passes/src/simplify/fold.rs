//! Constant folding.

use qcc_ir::eval::evaluate_node;
use qcc_ir::ops::{Op, OpKind};
use qcc_ir::{Graph, NodeId, Tensor};

use crate::pattern::when;
use crate::{Rule, Skip};

pub(super) const RULES: &[Rule] = &[Rule { name: "fold-constants", anchor: OpKind::ALL, apply: fold }];

/// A larger result in bytes is not folded if it exceeds the size of its operands.
const LARGE: usize = 1 << 18;

/// Replaces a node with constant operands by its results.
fn fold(g: &mut Graph, at: NodeId) -> Result<(), Skip> {
    // Folding a dequantized weight would lose its quantization.
    when(!matches!(g.op(at), Op::Input(_) | Op::Const(_) | Op::Dequantize(_) | Op::Custom(_)))?;
    when(g.op(at).bodies().is_empty())?;
    // A node that defines symbols stays.
    when(g.op(at).defines().is_empty())?;
    let tensors: Option<Vec<&Tensor>> = g.operands(at).iter().map(|&v| g.constant(v)).collect();
    let tensors = tensors.filter(|t| !t.is_empty()).ok_or(Skip::NoMatch)?;
    let types = g.result_types(at);
    let given: usize = tensors.iter().map(|t| t.data().len()).sum();
    let made: usize = types.iter().filter_map(|t| t.bytes()).sum();
    if made > LARGE && made > 4 * given {
        return Err(Skip::because("the result is much larger than the operands"));
    }
    g.room(made as u64).map_err(|_| Skip::because("constants would take too much memory"))?;
    let values = evaluate_node(g.op(at), &tensors, &types)?;
    let origin = g.origin(at).clone();
    for (old, value) in g.results(at).zip(values) {
        let new = g.add_computed(value, origin.clone());
        g.replace(old, new)?;
    }
    Ok(())
}

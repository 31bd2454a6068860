//! Lowering: what the target cannot say as it is becomes operators that it can.
//!
//! Decompositions mean the same under evaluation. They come before calibration, so that each new value is calibrated.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{OpKind, Types};
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId};

use crate::precision::WidenHalves;
use crate::{Context, MOST_ROUNDS, Pass, PassError, Rules, Skip};

mod build;
mod conv;
mod elementwise;
mod index;
mod matmul;
mod movement;
mod norm;
mod pool;
mod rank;
mod recurrent;
mod resize;
mod sample;
mod scatter;
mod volume;

pub(crate) use build::{Build, Built};

/// The passes that bring a graph into the words of the target. `grids` says that values are to go onto grids.
pub fn lower(grids: bool) -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(WidenHalves { grids }),
        Box::new(index::NarrowIndices),
        Box::new(Decompose),
        Box::new(Rules { name: "settle-ranks", rules: &[index::RULES, matmul::RULES, rank::RULES] }),
        Box::new(rank::EqualRanks),
    ]
}

/// Makes what stands in place of a node. Where it gives a [`Skip`], the node stays and the backend refuses it by name.
type Decomposition = fn(&mut Build<'_>, NodeId) -> Built;

/// How nodes of a kind that is not native decompose.
fn decomposition(kind: OpKind) -> Option<Decomposition> {
    Some(match kind {
        OpKind::Unary => elementwise::unary,
        OpKind::Binary => elementwise::binary,
        OpKind::Conv => conv::conv,
        OpKind::ConvTranspose => conv::conv_transpose,
        OpKind::Pool => pool::pool,
        OpKind::MatMul => matmul::add_bias,
        OpKind::Recurrent => recurrent::unroll,
        OpKind::LayerNorm => norm::layer_norm,
        OpKind::ArgReduce => index::arg_reduce,
        OpKind::TopK => index::top_k,
        OpKind::GatherElements => index::gather_elements,
        OpKind::GatherNd => index::gather_nd,
        OpKind::ScatterNd => scatter::scatter_nd,
        OpKind::DepthToSpace => movement::depth_to_space,
        OpKind::Pad => movement::pad_edge,
        OpKind::Resize => resize::resize,
        OpKind::GridSample => sample::grid_sample,
        _ => return None,
    })
}

/// Decomposes each node that is not native, again and again until nothing changes.
#[derive(Debug)]
struct Decompose;

impl Pass for Decompose {
    fn name(&self) -> &'static str {
        "decompose"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let mut last = "none";
        for _ in 0..MOST_ROUNDS {
            let mut changed = false;
            for node in g.order() {
                if decompose(g, node, cx.target)? {
                    (changed, last) = (true, g.op(node).kind().name());
                }
            }
            if !changed {
                return Ok(());
            }
            g.sweep();
        }
        Err(PassError::Endless { pass: self.name(), rule: last })
    }
}

fn decompose(g: &mut Graph, node: NodeId, target: &Target) -> Result<bool, PassError> {
    let op = g.op(node);
    let Some(decomposition) = decomposition(op.kind()) else { return Ok(false) };
    let types: Types = g.operand_types(node).iter().map(|t| t.real()).collect();
    if (target.native)(op, &types.iter().collect::<Vec<_>>()) {
        return Ok(false);
    }
    match decomposition(&mut Build::at(g, node), node) {
        Ok(value) => {
            g.replace(node.value(0), value)?;
            Ok(true)
        }
        Err(Skip::NoMatch | Skip::Because(_)) => Ok(false),
        Err(Skip::Type(e)) => Err(e.into()),
        Err(Skip::Eval(e)) => Err(e.into()),
        Err(Skip::TooLarge(e)) => {
            let error = Diagnostic::error("too-large", e.to_string()).at(g.origin(node));
            let help = format!(
                "{} needs constants for {}; give smaller inputs: --shape",
                target.name,
                g.op(node).kind().name()
            );
            Err(PassError::Refused(Box::new(error.with_help(help))))
        }
    }
}

#[cfg(test)]
mod tests;

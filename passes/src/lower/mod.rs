//! Lowering: operators that the target does not support are decomposed into operators that it supports.
//!
//! Decompositions preserve results. They run before calibration, so that each new value is calibrated.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::EvalError;
use qcc_ir::ops::{Binary, BinaryFn, Op, OpKind};
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId};

use crate::precision::WidenHalves;
use crate::rules::until_settled;
use crate::{Context, Pass, PassError, Rules, Skip};

mod build;
mod conv;
mod detection;
mod elements;
mod elementwise;
mod index;
mod matmul;
mod movement;
mod norm;
mod pool;
mod pool_first;
mod quotient;
mod rank;
mod recurrent;
mod reduce;
mod resize;
mod resize_open;
mod roi;
mod sample;
mod scatter;
mod sign;
mod volume;

pub(crate) use build::{Build, Built};
use pool_first::PoolFirst;
use quotient::WholeQuotients;

/// The passes that lower a graph to its target. `quantizes` is true if the graph will be quantized.
pub(crate) fn lower(quantizes: bool) -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(WidenHalves { quantizes }),
        Box::new(index::NarrowIndices),
        Box::new(index::IndicesFromFront),
        Box::new(Decompose),
        Box::new(PoolFirst),
        Box::new(WholeQuotients),
        Box::new(Rules::new("settle-ranks", &[index::RULES, matmul::RULES, rank::RULES]).required()),
        Box::new(rank::EqualRanks),
    ]
}

/// Adds the nodes that replace a node. If it returns a [`Skip`], the node is not changed and is refused by name.
type Decomposition = fn(&mut Build<'_>, NodeId) -> Built;

/// The decomposition for nodes of a kind that the target does not support.
fn decomposition(kind: OpKind) -> Option<Decomposition> {
    Some(match kind {
        OpKind::Unary => elementwise::unary,
        OpKind::Binary => elementwise::binary,
        OpKind::Conv => conv::conv,
        OpKind::ConvTranspose => conv::conv_transpose,
        OpKind::Pool => pool::pool,
        OpKind::MatMul => matmul::matmul,
        OpKind::Recurrent => recurrent::unroll,
        OpKind::LayerNorm => norm::layer_norm,
        OpKind::Reduce => reduce::reduce,
        OpKind::Cast => elements::to_bool,
        OpKind::Select => elements::select,
        OpKind::Concat => movement::concat,
        OpKind::Tile => movement::tile,
        OpKind::ArgReduce => index::arg_reduce,
        OpKind::TopK => index::top_k,
        OpKind::GatherElements => index::gather_elements,
        OpKind::GatherNd => index::gather_nd,
        OpKind::ScatterNd => scatter::scatter_nd,
        OpKind::DepthToSpace => movement::depth_to_space,
        OpKind::SpaceToDepth => movement::space_to_depth,
        OpKind::Pad => movement::pad_edge,
        OpKind::Resize => resize::resize,
        OpKind::GridSample => sample::grid_sample,
        OpKind::RoiAlign => roi::roi_align,
        OpKind::DetectionPostProcess => detection::detection_post_process,
        _ => return None,
    })
}

/// Decomposes unsupported nodes until none changes. All nodes that remain unsupported are refused together.
#[derive(Debug)]
struct Decompose;

impl Pass for Decompose {
    fn name(&self) -> &'static str {
        "decompose"
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let mut refused = Vec::new();
        until_settled(self.name(), g, |g| {
            let mut last = None;
            refused.clear();
            for node in g.order() {
                let kind = g.op(node).kind().name();
                match decompose(g, node, cx.target) {
                    Ok(true) => last = Some(kind),
                    Ok(false) => {}
                    Err(skip) => refused.push(refusal(g, node, cx.target, skip)?),
                }
            }
            Ok(last)
        })?;
        if refused.is_empty() { Ok(()) } else { Err(PassError::Refused(refused)) }
    }
}

/// Returns true if the node was replaced, and the reason if it is unsupported and cannot be replaced.
fn decompose(g: &mut Graph, node: NodeId, target: &Target) -> Result<bool, Skip> {
    let op = g.op(node);
    if target.kernel_of(g, node).is_some() {
        return Ok(false);
    }
    if let Op::Custom(op) = op {
        return Err(Skip::because(op.refusal()));
    }
    // Remainders of both kinds are made of each other.
    let other = Op::from(Binary { f: BinaryFn::Rem });
    let floors = matches!(op, Op::Binary(Binary { f: BinaryFn::FloorMod })) && g.operand_types(node)[0].elem.is_float();
    if floors && target.kernel_for(&other, g, node).is_none() {
        return Err(Skip::NoMatch);
    }
    let decomposition = decomposition(op.kind());
    let b = &mut Build::in_place_of(g, node);
    let value = match elements::in_32_bits(b, node) {
        Err(Skip::NoMatch) => decomposition.ok_or(Skip::NoMatch)?(b, node)?,
        other => other?,
    };
    g.replace(node.value(0), value)?;
    Ok(true)
}

/// The refusal of a node whose constant operands are invalid.
fn invalid(g: &Graph, node: NodeId, why: &EvalError) -> Diagnostic {
    Diagnostic::invalid_model(why.to_string()).at(&g.place(node))
}

/// The refusal of a node that the target does not support.
fn refusal(g: &Graph, node: NodeId, target: &Target, why: Skip) -> Result<Diagnostic, PassError> {
    let (name, origin) = (target.title(), &g.place(node));
    // The user knows the operator by its name in the source model.
    let kind = origin.sources().first().map_or(g.op(node).kind().name(), |s| &s.kind);
    match why {
        Skip::TooLarge(e) => {
            let help = format!("{name} needs constants for {kind}; give smaller inputs: --shape");
            return Ok(Diagnostic::error("too-large", e.to_string()).at(origin).with_help(help));
        }
        Skip::Open => {
            let message = format!("{name} cannot express {kind}: its extents are open");
            let help = "give the shapes of the inputs: --shape; or compile it for another target";
            return Ok(Diagnostic::error("open-shape", message).at(origin).with_help(help));
        }
        Skip::Eval(e @ (EvalError::Index { .. } | EvalError::DivisionByZero)) => return Ok(invalid(g, node, &e)),
        _ => {}
    }
    let message = match why.reason()?.or_else(|| target.rule(g, node).map(Into::into)) {
        Some(why) => format!("{name} cannot express {kind}: {why}"),
        None => {
            let types: Vec<String> = g.operand_types(node).iter().map(|t| t.to_string()).collect();
            format!("{name} has no operator for {kind} of {}", types.join(" and "))
        }
    };
    Ok(Diagnostic::error("unsupported-op", message).at(origin).with_help(target.cure()))
}

#[cfg(test)]
mod tests;

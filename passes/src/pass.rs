//! Passes: changes of whole graphs.

use std::fmt::Debug;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::{EvalError, TypeError};
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, OpenExtent, ValueId, VerifyError};

use crate::calibrate::CalibrationTable;
use crate::decisions::Decision;
use crate::rewrites::Rewrites;

/// What a source model brings of its quantization.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Given {
    /// Nothing: it computes in floating point.
    #[default]
    Nothing,
    /// Integer weights, beside activations in floating point.
    Weights,
    /// Scales and zero points, but not for the results of all contractions that work on integers.
    Some,
    /// All scales and zero points.
    All,
}

/// Facts of the source model that passes need behind the stage that would show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    /// Images have their channels last in the file; the graph has the axes of the file.
    pub channels_last: bool,
    /// Weights are 16-bit floats in the file.
    pub half_weights: bool,
    /// What it brings of its quantization.
    pub given: Given,
}

/// What passes know besides the graph, and what they tell besides changing it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context<'a> {
    /// What the backend asks.
    pub target: &'a Target,
    /// What is known of the source model.
    pub source: SourceFacts,
    /// What calibration saw of the graph; from [`Stage::Quantize`](crate::Stage::Quantize) on, where anything was calibrated.
    pub ranges: Option<&'a CalibrationTable>,
    /// Extents of inputs that become symbols again in the end.
    pub open: &'a [OpenExtent],
    /// What the user is to be told.
    pub diagnostics: Vec<Diagnostic>,
    /// Values of the graph as calibration saw it, and the values that took their places when it was quantized.
    pub values: Vec<(ValueId, ValueId)>,
    /// Contractions of the graph as calibration saw it, for most of whose inputs the rounded weights are mostly noise.
    pub lost_inputs: Vec<NodeId>,
    /// What each node computes with since the graph was quantized, and why; in the order of the graph as it was before.
    pub decisions: Vec<Decision>,
    /// What rules did and did not do.
    pub rewrites: Rewrites,
}

impl<'a> Context<'a> {
    /// What is known of a float model that is compiled for the target, before calibration.
    pub fn new(target: &'a Target) -> Self {
        Context {
            target,
            source: SourceFacts::default(),
            ranges: None,
            open: &[],
            diagnostics: Vec::new(),
            values: Vec::new(),
            lost_inputs: Vec::new(),
            decisions: Vec::new(),
            rewrites: Rewrites::default(),
        }
    }
}

/// Why a pass failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// The graph does not verify after the pass: a fault of the pass.
    #[error("internal error: after pass {pass}: {error}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// What does not verify.
        error: VerifyError,
    },
    /// Rules undo each other: a fault of the rules.
    #[error("internal error: pass {pass} finds no end, last with rule {rule}")]
    Endless {
        /// The pass.
        pass: &'static str,
        /// The rule applied last.
        rule: &'static str,
    },
    /// A node could not be made.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant could not be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Things the user can change.
    #[error("{}", .0.first().map_or("refused", |d| &d.message))]
    Refused(Vec<Diagnostic>),
    /// Whoever looks on wants no more.
    #[error("cancelled")]
    Cancelled,
}

/// A change of a whole graph.
pub trait Pass: Debug + Send + Sync {
    /// Name, as `--print-after` takes it.
    fn name(&self) -> &'static str;

    /// True where the pass has something to do, as far as the context says. Elsewhere the graph stays as it is and is not
    /// verified again.
    fn applies(&self, _cx: &Context<'_>) -> bool {
        true
    }

    /// Changes the graph. What is no longer read is swept away behind the pass, and the graph is verified.
    ///
    /// # Errors
    /// Where the graph cannot be what the pass makes of it, with the node's name.
    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError>;
}

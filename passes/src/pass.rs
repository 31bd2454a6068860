//! Passes: transformations of whole graphs.

use std::fmt::Debug;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::{EvalError, TypeError};
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, OpenExtent, ValueId, VerifyError};

use crate::calibrate::CalibrationTable;
use crate::decisions::Decision;
use crate::rewrites::Rewrites;
use crate::scaling::Scaled;

/// How much quantization the source model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Given {
    /// None: the model computes in floating point.
    #[default]
    Nothing,
    /// Integer weights, beside activations in floating point.
    Weights,
    /// Scales and zero points, but not for the results of all integer contractions.
    Some,
    /// All scales and zero points.
    All,
}

/// Facts about the source model that later passes need but cannot read from the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceFacts {
    /// The file stores images channels-last, and the graph keeps the axes of the file.
    pub channels_last: bool,
    /// The file stores weights as 16-bit floats.
    pub half_weights: bool,
    /// How much quantization the model has.
    pub given: Given,
}

/// What a pass reads besides the graph, and what it reports besides changing the graph.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The target that the graph is compiled for.
    pub target: &'a Target,
    /// Facts about the source model.
    pub source: SourceFacts,
    /// The calibration table, from [`Stage::Quantize`](crate::Stage::Quantize) on, if the graph was calibrated.
    pub ranges: Option<&'a CalibrationTable>,
    /// Input extents that become symbols again in the last stage.
    pub open: &'a [OpenExtent],
    /// Diagnostics for the user.
    pub diagnostics: Vec<Diagnostic>,
    /// Values of the calibrated graph, each with the value that replaces it in the quantized graph.
    pub values: Vec<(ValueId, ValueId)>,
    /// Contractions of the calibrated graph for which weight rounding loses most of the input channels.
    pub lost_inputs: Vec<NodeId>,
    /// The graph before quantization with scaled channels, if quantization scaled some.
    pub scaled: Option<Scaled>,
    /// What each node computes with after quantization, and why, in the order of the graph before quantization.
    pub decisions: Vec<Decision>,
    /// Which rewrites were applied, and why others were not.
    pub rewrites: Rewrites,
}

impl<'a> Context<'a> {
    /// The context of a float model that is not calibrated.
    pub fn new(target: &'a Target) -> Self {
        Context {
            target,
            source: SourceFacts::default(),
            ranges: None,
            open: &[],
            diagnostics: Vec::new(),
            values: Vec::new(),
            lost_inputs: Vec::new(),
            scaled: None,
            decisions: Vec::new(),
            rewrites: Rewrites::default(),
        }
    }
}

/// Why a pass failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// The graph does not verify after the pass. This is a bug in the pass.
    #[error("internal error: after pass {pass}: {error}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// The verification error.
        error: VerifyError,
    },
    /// The rules do not reach a fixed point. This is a bug in the rules.
    #[error("internal error: pass {pass} finds no end, last with rule {rule}")]
    Endless {
        /// The pass.
        pass: &'static str,
        /// The rule applied last.
        rule: &'static str,
    },
    /// A node could not be created.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant could not be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The model cannot be compiled as requested. The user can change the model or the options.
    #[error("{}", .0.first().map_or("refused", |d| &d.message))]
    Refused(Vec<Diagnostic>),
    /// The caller cancelled the compilation.
    #[error("cancelled")]
    Cancelled,
}

/// A transformation of a whole graph.
pub trait Pass: Debug + Send + Sync {
    /// The name, as `--print-after` takes it.
    fn name(&self) -> &'static str;

    /// True if the pass may change the graph, as far as the context tells. Otherwise the pipeline skips the pass and
    /// its verification.
    fn applies(&self, _cx: &Context<'_>) -> bool {
        true
    }

    /// Transforms the graph. Afterwards the pipeline removes dead nodes and verifies the graph.
    ///
    /// # Errors
    /// If the transformation is not possible. The error names the node.
    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError>;
}

//! Quantization passes of the pipeline.

use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;

use super::{Activations, Dynamic, Interfaces, Options, Quantized, complete, import_qdq, quantize, spell};
use crate::calibrate::CalibrationTable;
use crate::pass::{Context, Given, Pass, PassError};

/// Quantizes a calibrated float graph. Graphs that are already quantized are not changed.
#[derive(Clone, Debug)]
pub struct Quantize(pub Options);

impl Pass for Quantize {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        cx.source.given == Given::Nothing
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let none = CalibrationTable::default();
        let ranges = match cx.ranges {
            Some(ranges) => ranges,
            None if self.0.activations == Activations::Float => &none,
            None => {
                let error = Diagnostic::error("not-calibrated", "the graph is not calibrated");
                let help = "calibrate the graph, or quantize only weights";
                return Err(PassError::Refused(vec![error.with_help(help)]));
            }
        };
        quantize(g, cx.target, ranges, &self.0)?.take_place(g, cx);
        Ok(())
    }
}

/// Rewrites the quantized operators of the source model as float operators between Q/DQ nodes.
#[derive(Clone, Copy, Debug)]
pub struct SpellQdq;

impl Pass for SpellQdq {
    fn name(&self) -> &'static str {
        "spell-qdq"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        cx.source.given != Given::Nothing
    }

    fn run(&self, g: &mut Graph, _: &mut Context<'_>) -> Result<(), PassError> {
        spell(g)
    }
}

/// Adds missing scales and zero points to a quantized graph, if it was calibrated.
#[derive(Clone, Debug)]
pub struct CompleteQdq(pub Options);

impl Pass for CompleteQdq {
    fn name(&self) -> &'static str {
        "complete-qdq"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        cx.source.given == Given::Some && cx.ranges.is_some_and(|r| r.samples > 0)
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        if let Some(ranges) = cx.ranges {
            *g = complete(g, cx.target, ranges, &self.0)?;
        }
        Ok(())
    }
}

/// Fuses the Q/DQ pairs of a quantized graph into quantized nodes where the target has kernels for them. Float graphs
/// are not changed.
#[derive(Clone, Debug)]
pub struct ImportQdq {
    /// The element types of inputs and outputs that are floats in the graph.
    pub interface: Interfaces,
    /// When products quantize activations at run time that are floats in the source.
    pub dynamic: Dynamic,
}

impl Pass for ImportQdq {
    fn name(&self) -> &'static str {
        "import-qdq"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        cx.source.given != Given::Nothing
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        import_qdq(g, cx, &self.interface, self.dynamic)?.take_place(g, cx);
        Ok(())
    }
}

impl Quantized {
    /// Replaces the graph that the pass runs on by the quantized one.
    pub(crate) fn take_place(self, g: &mut Graph, cx: &mut Context<'_>) {
        *g = self.graph;
        cx.values = self.values;
        cx.lost_inputs = self.lost_inputs;
        cx.scaled = self.scaled;
        cx.decisions = self.decisions;
    }
}

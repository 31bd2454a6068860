//! The passes that the options request.

use qcc_backends::Backend;
use qcc_ir::NodeId;
use qcc_passes::quantize::{self, Activations, Dynamic, Interfaces, Raised};
use qcc_passes::{Numbers, Pipeline, Settings, Stage, UnknownPass};

use super::Compiler;
use crate::options::Options;
use crate::precision::Precision;
use crate::quality::Trial;
use crate::vendor;

/// Settings that the compiler varies to compare alternatives.
#[derive(Clone, Debug)]
pub(super) struct Variant {
    pub(super) trial: Trial,
    pub(super) dynamic: Dynamic,
    /// Nodes of the lowered graph that are kept in higher precision.
    pub(super) raised: Vec<(NodeId, Raised)>,
    /// Weights compensate each other's rounding errors, where second moments are known.
    pub(super) compensate: bool,
    /// Channels of activations are scaled, where that is expected to gain.
    pub(super) smooth: bool,
}

impl Variant {
    /// The settings of the options.
    pub(super) fn asked(options: &Options) -> Self {
        let dynamic = match options.interface.is_float() && !options.only_static {
            // Dynamic quantization has 8 bits.
            true if options.precision != Precision::W8A16 => Dynamic::Needed,
            _ => Dynamic::Never,
        };
        let trial = Trial { precision: options.precision, exclude: Vec::new() };
        Variant { trial, dynamic, raised: Vec::new(), compensate: true, smooth: false }
    }
}

impl Compiler {
    /// The passes of a variant for a target.
    pub(super) fn pipeline_of(&self, backend: &dyn Backend, variant: &Variant) -> Result<Pipeline, UnknownPass> {
        let options = &self.options;
        let Variant { trial, dynamic, raised, compensate, smooth } = variant;
        let interface = match trial.precision == options.precision {
            true => options.interface.clone(),
            false => Interfaces::default(),
        };
        let quantized = |activations, weights| {
            let exclude = [&options.exclude[..], &trial.exclude].concat();
            let raised = raised.clone();
            Numbers::Quantized(quantize::Options {
                activations,
                weights,
                dense_per_tensor: options.dense_per_tensor,
                interface: interface.clone(),
                dynamic: *dynamic,
                exclude,
                raised,
                compensate: *compensate,
                smooth: *smooth,
            })
        };
        let numbers = match trial.precision {
            Precision::Float32 => Numbers::Source,
            Precision::Float16 if options.half_values => Numbers::HalfValues,
            Precision::Float16 => Numbers::HalfWeights,
            Precision::Int8 => quantized(Activations::Bits8, quantize::Weights::Channels),
            Precision::W8A16 => quantized(Activations::Bits16, quantize::Weights::Channels),
            Precision::W8A32 => quantized(Activations::Float, quantize::Weights::Channels),
            Precision::W4A32 => quantized(Activations::Float, quantize::Weights::Blocks(options.block)),
        };
        let mut pipeline = Pipeline::new(&Settings { numbers, interface, layout: options.layout });
        for pass in vendor::prepare(backend, options.layout.input).into_iter().rev() {
            pipeline.push_first(Stage::Lower, pass.into());
        }
        self.edits.iter().try_for_each(|edit| edit(&mut pipeline))?;
        Ok(pipeline)
    }
}

//! What nodes compute with after quantization, and why.

use std::fmt;

use qcc_ir::Origin;

/// What a node computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// Quantized operands: integers with a scale and a zero point.
    Integer,
    /// Quantized weights, and activations that are quantized dynamically, at run time.
    Dynamic,
    /// Quantized weights and floating-point activations.
    Weights,
    /// Floating-point values.
    Float,
    /// The element types of the source, none of which is floating point.
    Unchanged,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Integer => "integer",
            Form::Dynamic => "dynamic",
            Form::Weights => "weights only",
            Form::Float => "float",
            Form::Unchanged => "unchanged",
        })
    }
}

/// Why a node computes with what it does. All but the first four variants say why it is not fully quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The target has an integer kernel for it.
    Kernel,
    /// The target has an integer kernel with floating-point output.
    FloatResult,
    /// The node is quantized in the source model.
    GivenIntegers,
    /// Weight-only quantization was requested.
    WeightsAsked,

    /// None of its operands and results is a floating-point number.
    NotFloat,
    /// The user excluded it.
    Excluded,
    /// The source model keeps the weight of this contraction in floating point and quantizes others.
    GivenFloat,
    /// Measurements of the outputs showed that quantizing its activations loses too much accuracy.
    Accuracy,
    /// As [`Reason::Accuracy`], for its weights and activations.
    AccuracyOfWeights,
    /// It is part of an unrolled recurrence.
    Recurrence,
    /// Its operator has no quantized form.
    NoQuantizedForm,
    /// The target has no integer kernel for it.
    NoKernel,
    /// The integer kernel is slower than the float kernel with conversions around it.
    SlowKernel,
    /// It adds a bias to products with a weight that is computed at run time.
    BiasOfComputedWeight,
    /// Calibration found no range for a value.
    NotCalibrated,
    /// A value is infinite or not a number.
    NotFinite,
    /// Its results use less than a quarter of the fixed range of the kernel.
    WastedRange,
    /// Positions or indices are computed from its result.
    Position,
    /// It is after the last contraction.
    Decoding,
    /// The ranges of its operands differ too much for one shared scale.
    UnlikeOperands,
    /// It forwards a value that stays in floating point because the ranges of its parts differ.
    HandsOnUnlike,
    /// Quantization is too coarse for what is computed from its operands or its result.
    FewSteps,
    /// A contraction whose result needs a finer scale than quantization gives.
    FewStepsOfResult,
    /// The last contraction. Its result is not quantized.
    LastContraction,
    /// No contraction follows, and each of its results sums few products.
    FewProducts,
    /// The scale of an operand exceeds the range of the result.
    BelowResolution,
    /// Quantizing it would not reduce the number of quantize and dequantize operations.
    Conversions,

    /// Only weights are quantized, and the node has none.
    NoWeights,
    /// Its weight is computed at run time.
    ComputedWeight,
    /// Its table has too few elements.
    SmallTable,
    /// Quantizing its table to 8 bits loses too much accuracy.
    CoarseTable,
    /// The target has no kernel with quantized weights for it.
    NoWeightKernel,

    /// The source model quantizes its activations at run time.
    GivenDynamic,
    /// The source model has a floating-point operand for it.
    GivenFloatOperand,
    /// The source model quantizes its operands and not its result.
    GivenFloatResult,
    /// The target has no kernel for the quantization of the source model.
    NoKernelForGiven,
}

impl Reason {
    /// True if a contraction with this reason may still have a quantized weight.
    pub(crate) fn keeps_weights(self) -> bool {
        use Reason::{Accuracy, BelowResolution, FewProducts, FewStepsOfResult, LastContraction, Recurrence};
        matches!(self, Accuracy | BelowResolution | FewProducts | FewStepsOfResult | LastContraction | Recurrence)
    }

    /// True if the user or the source model requires floating point, also for weights.
    pub(crate) fn is_wish(self) -> bool {
        matches!(self, Reason::Excluded | Reason::GivenFloat | Reason::AccuracyOfWeights)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Kernel => "the target has an integer kernel",
            Reason::FloatResult => "integer products with a floating-point result",
            Reason::GivenIntegers => "quantized in the model",
            Reason::WeightsAsked => "only weights are quantized in this precision",
            Reason::NotFloat => "it computes no floating-point values",
            Reason::Excluded => "excluded by the user",
            Reason::GivenFloat => "the model has its weight in floating point",
            Reason::Accuracy => "measured: with quantized activations the outputs would lose too much accuracy",
            Reason::AccuracyOfWeights => "measured: quantized, the outputs would lose too much accuracy",
            Reason::Recurrence => "inside a recurrence, where rounding errors would grow with each step",
            Reason::NoQuantizedForm => "the operator has no quantized form",
            Reason::NoKernel => "the target has no integer kernel for it",
            Reason::SlowKernel => "the target's integer kernel is slower than floating point",
            Reason::BiasOfComputedWeight => "its weight is computed at run time, so its bias has no scale",
            Reason::NotCalibrated => "calibration found no range for its values",
            Reason::NotFinite => "some of its values are infinite or not a number",
            Reason::WastedRange => "its results use less than a quarter of the fixed range of the integer kernel",
            Reason::Position => "positions or indices are computed from it",
            Reason::Decoding => "it follows the last contraction: its errors would directly affect the output",
            Reason::UnlikeOperands => "the ranges of its operands differ too much for one scale",
            Reason::HandsOnUnlike => "it forwards values whose ranges differ too much for one scale",
            Reason::FewSteps => "quantization is too coarse for what is computed from its values",
            Reason::FewStepsOfResult => "quantization is too coarse for what is computed from its result",
            Reason::LastContraction => "no contraction follows: its result stays in floating point",
            Reason::FewProducts => {
                "it sums few products, so that conversions would cost more than the integer kernel saves"
            }
            Reason::BelowResolution => "one step of an operand exceeds the range of its result",
            Reason::Conversions => "quantizing it would not save any conversion",
            Reason::NoWeights => "it has no weights",
            Reason::ComputedWeight => "its weight is computed at run time",
            Reason::SmallTable => "its table is too small to save anything",
            Reason::CoarseTable => "8 bits are too coarse for its table",
            Reason::NoWeightKernel => "the target has no kernel for it with quantized weights",
            Reason::GivenDynamic => "the model quantizes its activations at run time",
            Reason::GivenFloatOperand => "the model has an operand of it in floating point",
            Reason::GivenFloatResult => "the model quantizes its operands and not its result",
            Reason::NoKernelForGiven => "the target has no kernel for this quantization",
        })
    }
}

/// The decision for one node of the graph before quantization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The nodes of the source model that it stands for.
    pub origin: Origin,
    /// Its operator, as the text form writes it.
    pub operator: &'static str,
    /// What it computes with.
    pub form: Form,
    /// The reason.
    pub reason: Reason,
}

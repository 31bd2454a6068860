//! What nodes compute with after quantization, and why.

use std::fmt;

use qcc_ir::Origin;

/// What a node computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// Integers with a scale and a zero point.
    Integer,
    /// Integer weights, and activations that are quantized at run time.
    Dynamic,
    /// Integer weights and floating-point activations.
    Weights,
    /// Floating-point values.
    Float,
    /// The values of the source, none of which is a floating-point number.
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

/// Why a node computes with what it does. All but the first four say why it does not compute on integers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The target has an integer kernel for it.
    Kernel,
    /// The target has an integer kernel that gives floating-point sums, or may.
    RealSums,
    /// The source model has it on integers.
    GivenIntegers,
    /// Quantized weights are all that was asked for.
    WeightsAsked,

    /// None of its operands and results is a floating-point number.
    NoReals,
    /// The user excluded it.
    Excluded,
    /// The source model has its weight in floating point and others quantized.
    GivenReal,
    /// It lies in an unrolled recurrence.
    Recurrence,
    /// Its operator has no quantized form.
    NoQuantizedForm,
    /// The target has no integer kernel for it.
    NoKernel,
    /// It adds a bias to products with a weight that is computed at run time.
    BiasOfComputedWeight,
    /// Calibration saw no range of a value.
    NotCalibrated,
    /// A value is infinite or not a number.
    NotFinite,
    /// Its results use less than a quarter of the fixed range of the kernel.
    WastedRange,
    /// Positions or indices are computed from its result.
    Position,
    /// It follows the last contraction.
    Decoding,
    /// The ranges of its operands differ too much for one scale.
    UnlikeOperands,
    /// It hands on a value that stays in floating point since the ranges of its parts differ.
    HandsOnUnlike,
    /// 8 bits have too few steps for what is computed from its operands or its result.
    FewSteps,
    /// A contraction whose result has too few steps on 8 bits.
    FewStepsOfResult,
    /// The last contraction; its result is not rounded.
    LastContraction,
    /// No contraction follows, and its sums have few products.
    FewProducts,
    /// One step of an operand is more than its whole result.
    BelowResolution,
    /// On integers it would need no fewer conversions than in floating point.
    Conversions,

    /// Only weights are quantized, and it has none.
    NoWeights,
    /// Its weight is computed at run time.
    ComputedWeight,
    /// Its table has too few numbers.
    SmallTable,
    /// Too little would be left of its table on 8 bits.
    CoarseTable,
    /// The target has no kernel for it that takes integer weights.
    NoWeightKernel,

    /// The source model quantizes its activations at run time.
    GivenDynamic,
    /// The source model has an operand of it in floating point.
    GivenRealOperand,
    /// The source model quantizes its operands and not its result.
    GivenRealResult,
    /// The target has no kernel that takes the integers of the source model.
    NoKernelForGiven,
}

impl Reason {
    /// True where a contraction keeps integer weights though it does not compute on integers.
    pub(crate) fn keeps_weights(self) -> bool {
        use Reason::{BelowResolution, FewProducts, FewStepsOfResult, LastContraction, Recurrence};
        matches!(self, BelowResolution | FewProducts | FewStepsOfResult | LastContraction | Recurrence)
    }

    /// True where the user or the source model wants a node in floating point, its weights as well.
    pub(crate) fn is_wish(self) -> bool {
        matches!(self, Reason::Excluded | Reason::GivenReal)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Kernel => "the target has an integer kernel",
            Reason::RealSums => "integer products; their sums stay in floating point",
            Reason::GivenIntegers => "quantized in the model",
            Reason::WeightsAsked => "only weights are quantized in this precision",
            Reason::NoReals => "it computes no floating-point values",
            Reason::Excluded => "excluded by the user",
            Reason::GivenReal => "the model has its weight in floating point",
            Reason::Recurrence => "inside a recurrence, where rounding errors would grow with each step",
            Reason::NoQuantizedForm => "the operator has no quantized form",
            Reason::NoKernel => "the target has no integer kernel for it",
            Reason::BiasOfComputedWeight => "its weight is computed at run time, so its bias has no scale",
            Reason::NotCalibrated => "calibration saw no range of its values",
            Reason::NotFinite => "some of its values are infinite or not a number",
            Reason::WastedRange => "its results use less than a quarter of the fixed range of the integer kernel",
            Reason::Position => "positions or indices are computed from it",
            Reason::Decoding => "it follows the last contraction: its errors would go straight to the output",
            Reason::UnlikeOperands => "the ranges of its operands differ too much for one scale",
            Reason::HandsOnUnlike => "it hands on values whose ranges differ too much for one scale",
            Reason::FewSteps => "8 bits have too few steps for what is computed from its values",
            Reason::FewStepsOfResult => "8 bits have too few steps for what is computed from its result",
            Reason::LastContraction => "no contraction follows: its result stays in floating point",
            Reason::FewProducts => "its sums have so few products that conversions would cost more than integers save",
            Reason::BelowResolution => "one step of an operand is more than its whole result",
            Reason::Conversions => "on integers it would need no fewer conversions than in floating point",
            Reason::NoWeights => "it has no weights",
            Reason::ComputedWeight => "its weight is computed at run time",
            Reason::SmallTable => "its table is too small to save anything",
            Reason::CoarseTable => "8 bits would leave too little of its table",
            Reason::NoWeightKernel => "the target has no kernel for it that takes integer weights",
            Reason::GivenDynamic => "the model quantizes its activations at run time",
            Reason::GivenRealOperand => "the model has an operand of it in floating point",
            Reason::GivenRealResult => "the model quantizes its operands and not its result",
            Reason::NoKernelForGiven => "the target has no kernel that takes these integers",
        })
    }
}

/// What a node of the graph before quantization computes with behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The nodes of the source model that it stands for.
    pub origin: Origin,
    /// Its operator, as the text form spells it.
    pub operator: &'static str,
    /// What it computes with.
    pub form: Form,
    /// Why.
    pub reason: Reason,
}

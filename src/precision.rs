//! Precisions of an artefact.

use std::fmt;

use serde::Serialize;

/// The precision of weights and activations.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    Float32,
    /// Float16 weights.
    Float16,
    /// 8-bit weights and activations.
    Int8,
    /// 8-bit weights, 16-bit activations.
    W8A16,
    /// 8-bit weights, float32 activations.
    W8A32,
    /// 4-bit weights of matrix products with a scale and zero point for each block of [`Options::block`](crate::Options::block)
    /// weights, 8-bit weights elsewhere, float32 activations.
    W4A32,
}

impl Precision {
    /// True if values are quantized.
    pub fn is_quantized(self) -> bool {
        self.quantizes_activations() || matches!(self, Precision::W8A32 | Precision::W4A32)
    }

    /// True if activations are quantized, so that their ranges must be known.
    pub fn quantizes_activations(self) -> bool {
        matches!(self, Precision::Int8 | Precision::W8A16)
    }

    /// The suffix of file names, after the model's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Precision::Float32 => "",
            Precision::Float16 => "_float16",
            Precision::Int8 => "_int8",
            Precision::W8A16 => "_w8a16",
            Precision::W8A32 => "_w8a32",
            Precision::W4A32 => "_w4a32",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Float32 => "float32",
            Precision::Float16 => "float16",
            Precision::Int8 => "int8",
            Precision::W8A16 => "w8a16",
            Precision::W8A32 => "w8a32",
            Precision::W4A32 => "w4a32",
        })
    }
}

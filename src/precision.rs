//! What numbers an artefact computes with.

use std::fmt;

use serde::Serialize;

/// What numbers the artefact computes with.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    Float32,
    /// Weights in half precision.
    Float16,
    /// 8-bit weights and activations.
    Int8,
    /// 8-bit weights, activations in single precision.
    W8A32,
    /// Matrices of products in 4 bits with a scale for each block of [`Options::block`](crate::Options::block) weights, all other weights in 8
    /// bits, activations in single precision.
    W4A32,
}

impl Precision {
    /// True where values lie on grids.
    pub fn is_quantized(self) -> bool {
        matches!(self, Precision::Int8 | Precision::W8A32 | Precision::W4A32)
    }

    /// What a file name says of it, after the model's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Precision::Float32 => "",
            Precision::Float16 => "_float16",
            Precision::Int8 => "_int8",
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
            Precision::W8A32 => "w8a32",
            Precision::W4A32 => "w4a32",
        })
    }
}

//! Errors in quantization parameters.

use super::elem::StorageType;
use super::shape::Shape;

/// Why a type cannot have its quantization parameters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantError {
    /// A scale that is not positive (except for a block), finite and normal.
    #[error("a scale of {0:?}; scales are positive, finite and normal numbers")]
    Scale(f32),
    /// A zero point outside the range of the storage type.
    #[error("a zero point of {zero_point}, which {storage} does not hold")]
    ZeroPoint {
        /// The zero point.
        zero_point: i32,
        /// The storage type.
        storage: StorageType,
    },
    /// Scales along an axis that the shape does not have.
    #[error("scales along axis {axis} of {shape}")]
    Axis {
        /// The axis.
        axis: usize,
        /// The shape.
        shape: Box<Shape>,
    },
    /// More or fewer scales than the shape needs.
    #[error("{found} scales for {shape}, which asks for {expected}{}", blocks(*.axis, *.block))]
    Count {
        /// Number of scales.
        found: usize,
        /// Number that the shape needs.
        expected: usize,
        /// The axis they run along.
        axis: usize,
        /// Indices of a block, where there are blocks.
        block: Option<usize>,
        /// The shape.
        shape: Box<Shape>,
    },
    /// Blocks of size 0, or along an open extent.
    #[error("blocks of {size} along axis {axis} of {shape}")]
    Blocks {
        /// Indices of a block.
        size: usize,
        /// The axis.
        axis: usize,
        /// The shape.
        shape: Box<Shape>,
    },
}

fn blocks(axis: usize, block: Option<usize>) -> String {
    block.map_or_else(String::new, |size| format!(" in blocks of {size}")) + &format!(" along axis {axis}")
}

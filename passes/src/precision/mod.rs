//! Elements other than `F32` for what was trained in `F32`, besides grids.

mod half;

pub use half::HalfWeights;

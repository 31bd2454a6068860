//! Elements other than `F32` for what was trained in `F32`, besides grids.

mod half;
mod values;
mod widen;

pub use half::HalfWeights;
pub use values::{HalfValues, half_values};
pub(crate) use widen::WidenHalves;

//! Conversion of `F32` graphs to 16-bit floats.
//!
//! ```
//! use qcc_passes::{Numbers, Pipeline, Settings};
//! let pipeline = Pipeline::new(&Settings { numbers: Numbers::HalfWeights, ..Settings::default() });
//! assert!(pipeline.get("half-weights").is_ok());
//! ```

mod half;
mod values;
mod widen;

pub use half::HalfWeights;
pub use values::{HalfValues, half_values};
pub(crate) use widen::WidenHalves;

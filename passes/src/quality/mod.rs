//! Accuracy of a compiled graph relative to its float graph, and the share of integer arithmetic.
//!
//! ```
//! use qcc_passes::quality::Distance;
//! let distance = Distance::of(&[1.0, 2.0], &[1.0, 2.2]);
//! assert!((distance.sqnr() - 20.97).abs() < 0.01, "{}", distance.sqnr());
//! assert!((distance.max_error - 0.2).abs() < 1e-6);
//! ```

mod boxes;
mod compare;
mod distance;
mod output;
#[cfg(test)]
mod tests;
mod work;

pub use boxes::{Boxes, Outputs};
pub use compare::{Compiled, Fidelity, Reference, Samples, as_inputs, compare, layers};
pub use distance::Distance;
pub use output::{Agreement, BOXES_MEASURE, Hints, OutputKind, OutputQuality, Part, classes};
pub use work::{Work, dynamic, executed, float_islands, products, work, work_of};

//! Types: element, shape, layout, and the tensors that have them.

mod bounds;
mod elem;
mod error;
mod expr;
mod layout;
mod quantize;
mod shape;
mod tensor;

pub use elem::{Affine, Elem, QuantParams, Scalar, StorageType};
pub use error::QuantError;
pub use expr::{Expr, NoExpr, Part, Symbols};
pub use layout::Layout;
pub(crate) use quantize::nearest;
pub use shape::{Dim, Shape};
pub use tensor::{Runs, Tensor, TensorType};

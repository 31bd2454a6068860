//! A device runs a subset of a format's models.

use std::fmt;

use qcc_ir::target::Target;

use crate::Format;
use crate::operation::Operation;

/// A device, as data.
pub struct Device {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// The format that it runs.
    pub format: Format,
    /// The requirements on a graph: the target of the format with a table from which rows are removed.
    pub target: Target,
    /// The operators that it has, in the spelling of the format.
    pub operators: fn() -> Vec<&'static str>,
    /// Whether its accelerator runs an operator, or the rule for which the CPU does; `None` for devices without one.
    pub(crate) accelerates: Option<fn(Operation<'_>) -> Result<(), String>>,
    /// ONNX: it takes QuantizeLinear and DequantizeLinear of 8 bits with float biases, as the standard defines them: no
    /// integer operators, and no forms that ONNX Runtime alone needs.
    pub standard_qdq: bool,
}

impl Device {
    /// True where an accelerator runs some operators, and a CPU the others.
    pub fn has_accelerator(&self) -> bool {
        self.accelerates.is_some()
    }
}

impl PartialEq for Device {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Device {}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Device").field(&self.name).finish()
    }
}

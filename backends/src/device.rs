//! A device runs a subset of a format's models.

use std::fmt;

use qcc_ir::ops::Op;
use qcc_ir::target::Target;
use qcc_ir::{Graph, NodeId, TensorType};

use crate::Format;
use crate::operation::{Operation, Verdict};

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
    /// The operators that it has, in the spelling of the format: those of the accelerator where the others are not limited
    /// (`Split::rest_is_unlimited`).
    pub operators: fn() -> Vec<&'static str>,
    /// Which operators its accelerator or its faster kernels run; `None` where all are run alike.
    pub(crate) split: Option<Split>,
    /// ONNX: it takes QuantizeLinear and DequantizeLinear of 8 bits with float biases, as the standard defines them: no
    /// integer operators, and no forms that ONNX Runtime alone needs.
    pub standard_qdq: bool,
    /// Bytes of memory for a model, where they are limited.
    pub(crate) most_bytes: Option<u64>,
}

impl Device {
    /// Which operators its accelerator or its faster kernels run; `None` where all are run alike.
    pub fn split(&self) -> Option<Split> {
        self.split
    }

    /// True where all operators of the format run.
    pub(crate) fn has_all_operators(&self) -> bool {
        self.split.is_some_and(|split| split.rest_is_unlimited)
    }
}

/// A division of the operators between an accelerator, or faster kernels, and what runs the others.
#[derive(Clone, Copy)]
pub struct Split {
    /// Whether the accelerator runs an operator, or the rule for which it does not.
    pub(crate) takes: Takes,
    /// The accelerator, for messages: "3 of 5 operators run SLOW, not FAST".
    pub fast: &'static str,
    /// What runs the other operators, likewise.
    pub slow: &'static str,
    /// True where what runs the other operators has all of the format.
    pub(crate) rest_is_unlimited: bool,
    /// What gives it more operators.
    pub help: &'static str,
    /// True where the accelerator runs one part of the model: nothing that depends on an operator that it does not run.
    pub(crate) one_part: bool,
}

impl Split {
    /// An accelerator beside a CPU, without rules.
    pub(crate) const ACCELERATOR: Split = Split {
        takes: Takes::Written(|_| Ok(())),
        fast: "on the accelerator",
        slow: "on the CPU",
        rest_is_unlimited: false,
        help: "change these nodes of the model; --int8 quantizes what can be",
        one_part: false,
    };
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

/// The rules of an accelerator.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// Those of an operator in a TensorFlow Lite model.
    Written(fn(Operation<'_>) -> Verdict),
    /// Those of a node of the graph that is written.
    Node(fn(&Graph, NodeId) -> Verdict),
}

/// The rule of a device whose tensors have known extents, if an operator on such operands breaks it.
pub(crate) fn known_extents(op: &Op, x: &[&TensorType]) -> Option<&'static str> {
    match op {
        Op::Loop(_) => return Some("it has no loops whose number of iterations is known at run time only"),
        Op::If(_) => return Some("it has no branches"),
        _ => {}
    }
    let counted = matches!(op, Op::Define(_) | Op::NonZero(_) | Op::NonMaxSuppression(_));
    let open = counted || op.is_open() || x.iter().any(|t| t.shape.is_open());
    unless(!open, "its tensors have known extents")
}

/// The rule unless it holds.
pub(crate) fn unless(holds: bool, rule: &'static str) -> Option<&'static str> {
    (!holds).then_some(rule)
}

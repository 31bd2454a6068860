//! Reasons to refuse a node or a tensor of a model.

use std::sync::Arc;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::{EvalError, QuantError, TooLarge, TypeError};
use qcc_ir::{Origin, Shape};

/// The code of messages about open extents: that they became 1, or must be known.
pub const OPEN_SHAPE: &str = "open-shape";

/// The code of warnings about an open extent that must have one value, at which the model fails otherwise.
pub(crate) const ASSUMED_EXTENT: &str = "assumed-extent";

/// The code of messages that extents are those of the example that a model was exported with.
pub(crate) const EXAMPLE_SHAPE: &str = "example-shape";

/// Why something cannot be imported.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The operator is not supported.
    #[error("operator {name} is not supported")]
    Operator {
        /// Its name, with its domain.
        name: String,
        /// A remedy.
        help: Option<&'static str>,
    },
    /// A file without a program.
    #[error("this is {what}")]
    NoProgram {
        /// The kind of file.
        what: String,
        /// A remedy.
        help: &'static str,
    },
    /// Unused attributes: their meaning is unknown.
    #[error("attribute {0} is not supported here")]
    Unread(String),
    /// An attribute is missing or has the wrong type.
    #[error("attribute {name}: {problem}")]
    Attribute {
        /// Its name.
        name: String,
        /// The problem.
        problem: &'static str,
    },
    /// An argument is missing or has the wrong type.
    #[error("argument {name} {problem}")]
    Argument {
        /// Its name.
        name: String,
        /// The problem.
        problem: &'static str,
    },
    /// Unused arguments: their meaning is unknown.
    #[error("argument {0} is not supported here")]
    UnreadArgument(String),
    /// An input is missing.
    #[error("input {0} is missing")]
    MissingInput(usize),
    /// An input that the operator does not have.
    #[error("input {0} is not supported here")]
    UnreadInput(usize),
    /// An input must be constant and is not.
    #[error("input {index} ({name}) must be a constant, or follow from constants and shapes")]
    NotConstant {
        /// Position of the input.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A value that no node produces.
    #[error("{0} is read but nothing produces it")]
    Undefined(String),
    /// A result that qcc does not support.
    #[error("output {index} of {op} ({name}) is not supported")]
    Result {
        /// Position of the result.
        index: usize,
        /// The operator.
        op: String,
        /// Name of the result.
        name: String,
    },
    /// Valid in the format, but not supported.
    #[error("{0}")]
    Unsupported(String),
    /// As [`Refusal::Unsupported`], with a specific remedy.
    #[error("{message}")]
    Advised {
        /// What is not supported.
        message: String,
        /// A remedy.
        help: &'static str,
    },
    /// An operator without an argument of the supported overload.
    #[error("operator {name} without argument {argument} is not supported")]
    Overload {
        /// Name of the operator.
        name: String,
        /// The argument.
        argument: String,
    },
    /// External data that are not available.
    #[error("{0}")]
    Data(String),
    /// Invalid in the format.
    #[error("{0}")]
    Invalid(String),
    /// The operands do not match the operator.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A type cannot have its quantization parameters.
    #[error(transparent)]
    QuantParams(#[from] QuantError),
    /// A constant cannot be computed.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// Constants would be too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// Extents that must be known are open.
    #[error("it needs known extents, and an operand is {0}")]
    Open(Shape),
    /// A number that must be known follows from open extents.
    #[error("argument {name} must be known, and is {value}")]
    OpenNumber {
        /// The argument.
        name: String,
        /// What it is.
        value: String,
    },
    /// It depends on a refused value.
    #[error("depends on what was refused")]
    Depends,
}

impl Refusal {
    /// An attribute that names a mode has another value.
    pub(crate) fn unknown_mode(name: &str) -> Refusal {
        Refusal::Attribute { name: name.into(), problem: "not a known mode" }
    }

    /// The error for the user; `None` if the cause has already been reported.
    pub(crate) fn diagnostic(self, origin: &Origin) -> Option<Diagnostic> {
        let code = match &self {
            Refusal::Depends => return None,
            Refusal::Operator { .. } => "unsupported-op",
            Refusal::Unread(_)
            | Refusal::UnreadArgument(_)
            | Refusal::UnreadInput(_)
            | Refusal::Unsupported(_)
            | Refusal::NoProgram { .. }
            | Refusal::Advised { .. }
            | Refusal::Overload { .. }
            | Refusal::Result { .. }
            | Refusal::Eval(EvalError::Elem { .. } | EvalError::Unknown(_) | EvalError::Custom(_)) => "unsupported",
            Refusal::Type(error) | Refusal::Eval(EvalError::Type(error)) => match error {
                TypeError::Element { .. } | TypeError::Symbolic { .. } => "unsupported",
                TypeError::Extent { .. } => OPEN_SHAPE,
                _ => "bad-model",
            },
            Refusal::NotConstant { .. } => "not-constant",
            Refusal::Open(_) | Refusal::OpenNumber { .. } => OPEN_SHAPE,
            Refusal::TooLarge(_) => "too-large",
            Refusal::Data(_) => "missing-data",
            Refusal::Eval(EvalError::Kernel(_)) => "internal",
            Refusal::Attribute { .. }
            | Refusal::Argument { .. }
            | Refusal::MissingInput(_)
            | Refusal::Undefined(_)
            | Refusal::Invalid(_)
            | Refusal::QuantParams(_)
            | Refusal::Eval(_) => "bad-model",
        };
        let help = match &self {
            Refusal::Operator { help: Some(help), .. }
            | Refusal::Advised { help, .. }
            | Refusal::NoProgram { help, .. } => *help,
            Refusal::Operator { .. } => {
                "write it with other operators (qcc ops lists the supported ones), or export the model without it"
            }
            Refusal::NotConstant { .. } => "fold it before export, or give more with --shape or --set",
            _ if code == OPEN_SHAPE => "fix the shapes of inputs: --shape NAME=1,3,640,640",
            Refusal::TooLarge(_) => "give smaller inputs: --shape, or export the model without such constants",
            Refusal::Result { .. } => "export the model without the nodes that use this result",
            Refusal::Data(_) => "keep the files with its data beside the model, under the names that it gives",
            Refusal::QuantParams(_) => "quantize the model again, or give it before it was quantized",
            Refusal::Type(TypeError::Element { .. }) | Refusal::Eval(EvalError::Type(TypeError::Element { .. })) => {
                "cast its operands to a supported element type, and the result back"
            }
            _ => match code {
                "unsupported" => "write this part of the model in another way, or export the model without it",
                "internal" => "this is a fault of qcc: please report it with the model",
                _ => return Some(Diagnostic::invalid_model(self.to_string()).at(origin)),
            },
        };
        Some(
            Diagnostic { extent: self.extent(), ..Diagnostic::error(code, self.to_string()) }
                .at(origin)
                .with_help(help),
        )
    }

    /// The symbol that is refused as an extent, and the value that it must have.
    fn extent(&self) -> Option<(Arc<str>, usize)> {
        let (Refusal::Type(error) | Refusal::Eval(EvalError::Type(error))) = self else { return None };
        error.symbol().map(|(symbol, value)| (symbol.clone(), value))
    }
}

//! TensorFlow Lite: the tables of its FlatBuffers schema, for reading and writing.
//!
//! [`Model`] is a whole file as plain structs. [`Model::read`] takes any bytes and never panics. [`Model::write`]
//! streams buffers without copying them; they follow the tables, 16-byte aligned. Slot numbers are those of
//! `schema.fbs`; fields that LiteRT does not need are not declared.
//!
//! ```
//! use qcc_formats::tflite::Model;
//! assert!(Model::read(&bytes::Bytes::from_static(b"no model")).is_err());
//! ```

mod codes;
mod detection;
mod options;
mod sparsity;
mod table;
mod unions;
mod write;

use bytes::Bytes;

pub use codes::{
    Activation, BuiltinOperator, DimensionType, IndexVectorType, LstmKernel, MirrorPadMode, OptionsType, Padding,
    TensorType,
};
pub use detection::{DETECTION_POST_PROCESS, DetectionOptions};
pub use options::*;
pub use sparsity::*;
pub use table::ReadError;
pub use unions::*;

use table::{Builder, File, Place, Row, Stored, Table, table, union};

/// Name of the format, also as a target and in custom operators.
pub const NAME: &str = "tflite";

/// File identifier, at bytes 4 to 7.
const IDENTIFIER: &str = "TFL3";

table! {
    /// A file.
    Model {
        0 version: u32,
        1 operator_codes: Vec<OperatorCode>,
        2 subgraphs: Vec<SubGraph>,
        3 description: String,
        4 buffers: Vec<Buffer>,
        6 metadata: Vec<Metadata>,
        7 signature_defs: Vec<SignatureDef>,
    }
}

table! {
    /// An operator and its version; operators refer to it by index.
    OperatorCode {
        0 deprecated_builtin_code: i8,
        1 custom_code: String,
        2 version: i32 = 1,
        3 builtin_code: BuiltinOperator,
    }
}

impl OperatorCode {
    /// The code of a built-in operator.
    pub fn builtin(code: BuiltinOperator, version: i32) -> Self {
        OperatorCode {
            deprecated_builtin_code: i8::try_from(code.0).unwrap_or(i8::MAX),
            version,
            builtin_code: code,
            ..OperatorCode::default()
        }
    }

    /// The operator. Old files have it in the 8-bit field only.
    pub fn operator(&self) -> BuiltinOperator {
        self.builtin_code.max(BuiltinOperator(self.deprecated_builtin_code.into()))
    }
}

table! {
    /// Tensors, and operators in execution order.
    SubGraph {
        0 tensors: Vec<Tensor>,
        1 inputs: Vec<i32>,
        2 outputs: Vec<i32>,
        3 operators: Vec<Operator>,
        4 name: String,
    }
}

table! {
    /// A tensor: its shape in physical order, and the index of the buffer with its bytes (0: no buffer).
    Tensor {
        0 shape: Vec<i32>,
        1 elem: TensorType,
        2 buffer: u32,
        3 name: String,
        4 quantization: Option<Quantization>,
        5 is_variable: bool,
        6 sparsity: Option<Sparsity>,
        7 shape_signature: Vec<i32>,
        8 has_rank: bool,
        10 external_buffer: u32,
    }
}

table! {
    /// Quantization parameters: per tensor, or per channel with a scale for each index of `dimension`; other schemes
    /// have `details`.
    Quantization {
        0 min: Vec<f32>,
        1 max: Vec<f32>,
        2 scale: Vec<f32>,
        3 zero_point: Vec<i64>,
        5 details: Details,
        6 dimension: i32,
    }
}

union! {
    /// Quantization schemes other than per-tensor and per-channel.
    Details { Blocks = 2 }
}

table! {
    /// Blockwise quantization along the last axis. Scales and zero points are tensors of the subgraph (-1: no zero
    /// points).
    Blocks {
        0 scales: i32,
        1 zero_points: i32,
        2 block_size: i32,
    }
}

table! {
    /// An operator with its inputs and outputs, by tensor index (-1: an optional input that is absent).
    Operator {
        0 opcode_index: u32,
        1 inputs: Vec<i32>,
        2 outputs: Vec<i32>,
        4 options: Options,
        5 custom_options: Vec<u8>,
        8 intermediates: Vec<i32>,
        10 large_custom_options_size: u64,
        12 further_options: FurtherOptions,
    }
}

table! {
    /// A named buffer.
    Metadata {
        0 name: String,
        1 buffer: u32,
    }
}

table! {
    /// Names of a subgraph's inputs and outputs.
    SignatureDef {
        0 inputs: Vec<TensorMap>,
        1 outputs: Vec<TensorMap>,
        2 signature_key: String,
        4 subgraph_index: u32,
    }
}

table! {
    /// A name for a tensor.
    TensorMap {
        0 name: String,
        1 tensor_index: u32,
    }
}

/// Bytes of a constant: a slice of the file when read, streamed when written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buffer {
    /// The bytes.
    pub data: Bytes,
}

impl Buffer {
    /// A vector inside the FlatBuffer.
    const DATA: u16 = 0;
    /// Offset from the start of the file, for files larger than FlatBuffers can address.
    const OFFSET: u16 = 1;
    const SIZE: u16 = 2;
}

impl Table for Buffer {
    fn store(&self, b: &mut Builder) -> Row {
        if self.data.is_empty() {
            return Row::new();
        }
        // `write` replaces these placeholders once the offsets are known.
        if b.large {
            vec![(Buffer::OFFSET, Stored::Long(u64::MAX)), (Buffer::SIZE, Stored::Long(self.data.len() as u64))]
        } else {
            vec![(Buffer::DATA, Stored::Int(u32::MAX))]
        }
    }

    fn load(t: &Place<'_>) -> Result<Self, ReadError> {
        let data = match t.field(Buffer::OFFSET)? {
            // 0 and 1 are placeholders in the schema.
            Some(at) if t.file.long(at)? > 1 => {
                let size = t.field(Buffer::SIZE)?.map_or(Ok(0), |at| t.file.long(at))?;
                t.file.payload(t.file.long(at)?, size)?
            }
            _ => match t.field(Buffer::DATA)? {
                Some(at) => {
                    let (start, len) = t.file.vector(at, 1)?;
                    t.file.payload(start as u64, len as u64)?
                }
                None => Bytes::new(),
            },
        };
        Ok(Buffer { data })
    }
}

impl Model {
    /// The version of the format.
    pub const VERSION: u32 = 3;
    /// Slot of `buffers`.
    const BUFFERS: u16 = 4;

    /// The code of an operator, if the model has it.
    pub fn code(&self, operator: &Operator) -> Option<&OperatorCode> {
        self.operator_codes.get(usize::try_from(operator.opcode_index).ok()?)
    }

    /// The built-in operator that an operator is, if the model has its code.
    pub fn builtin(&self, operator: &Operator) -> Option<BuiltinOperator> {
        self.code(operator).map(OperatorCode::operator)
    }

    /// Reads a file. Bytes of buffers stay slices of `bytes`; other bytes after the FlatBuffer are ignored.
    ///
    /// # Errors
    /// Where a table, a vector or a string is not within the file.
    pub fn read(bytes: &Bytes) -> Result<Model, ReadError> {
        if bytes.get(4..8) != Some(IDENTIFIER.as_bytes()) {
            return Err(ReadError::Identifier);
        }
        Model::load(&File::new(bytes).root()?)
    }
}

#[cfg(test)]
mod tests;

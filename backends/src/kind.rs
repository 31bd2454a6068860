//! Detection of formats by the first bytes of a file.

use bytes::Bytes;
use qcc_formats::openvino::Network;
use qcc_ir::text;

use crate::disassembly::{Beside, Disassembly, Unreadable};
use crate::{files, onnx, openvino, tflite};

/// A format that can be disassembled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the formats' own")]
pub enum Kind {
    Tflite,
    Onnx,
    Openvino,
    /// The text form of qcc's graph.
    Graph,
}

impl Kind {
    /// The format of a file; `None` for an archive, such as a `.pt2`. Files without a known signature are taken for
    /// ONNX.
    pub fn of(file: &[u8]) -> Option<Kind> {
        if file.starts_with(b"PK") {
            None
        } else if file.get(4..8) == Some(b"TFL3") {
            Some(Kind::Tflite)
        } else if Network::is_one(file) {
            Some(Kind::Openvino)
        } else if text::file::is_graph(file) {
            Some(Kind::Graph)
        } else {
            Some(Kind::Onnx)
        }
    }

    /// The contents of a file called `main`; `beside` reads the files that it refers to.
    ///
    /// # Errors
    /// If the file is not of the format, or the bytes of a constant are not available.
    pub fn disassemble(self, file: &Bytes, main: &str, beside: Beside<'_>) -> Result<Disassembly, Unreadable> {
        match self {
            Kind::Tflite => tflite::disassemble(file).map_err(|e| Unreadable::Invalid(e.to_string())),
            Kind::Onnx => onnx::disassemble(file, beside),
            Kind::Openvino => openvino::disassemble(file, &files::beside(main, openvino::WEIGHTS), beside),
            Kind::Graph => Disassembly::of_text(file).map_err(Unreadable::Invalid),
        }
    }
}

//! Writing of a model. The bytes of its initializers are streamed, not copied.

use std::io::{self, Write};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use super::{GraphProto, ModelProto, TensorProto};

/// Field numbers of the messages that are written in parts.
const GRAPH: u8 = 7;
const INITIALIZER: u8 = 5;
const RAW_DATA: u8 = 9;

impl ModelProto {
    /// Writes the model and gives its length in bytes.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(mut self, out: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        let graph = self.graph.take().unwrap_or_default();
        let head = self.encode_to_vec();
        out.write_all(&head)?;
        let pieces = Pieces::of(graph);
        let begin = header(GRAPH, pieces.len);
        out.write_all(&begin)?;
        out.write_all(&pieces.rest)?;
        for (head, raw) in &pieces.initializers {
            out.write_all(head)?;
            out.write_all(raw)?;
        }
        Ok((head.len() + begin.len() + pieces.len) as u64)
    }
}

/// An encoded graph.
struct Pieces {
    /// All fields but the initializers.
    rest: Vec<u8>,
    /// Each initializer: its encoded fields up to the raw data, and the raw data.
    initializers: Vec<(Vec<u8>, Bytes)>,
    len: usize,
}

impl Pieces {
    fn of(mut graph: GraphProto) -> Self {
        let initializers: Vec<_> = std::mem::take(&mut graph.initializer).into_iter().map(initializer).collect();
        let rest = graph.encode_to_vec();
        let len = rest.len() + initializers.iter().map(|(head, raw)| head.len() + raw.len()).sum::<usize>();
        Pieces { rest, initializers, len }
    }
}

/// An initializer as a field of its graph: the encoded fields, and the raw data that follow them.
fn initializer(mut tensor: TensorProto) -> (Vec<u8>, Bytes) {
    let raw = tensor.raw_data.take();
    let before = raw.as_ref().map(|raw| header(RAW_DATA, raw.len())).unwrap_or_default();
    let raw = raw.unwrap_or_default();
    let mut head = header(INITIALIZER, tensor.encoded_len() + before.len() + raw.len());
    head.extend(tensor.encode_to_vec());
    head.extend(before);
    (head, raw)
}

/// Key and length of a length-delimited field.
fn header(field: u8, len: usize) -> Vec<u8> {
    const WITH_LENGTH: u8 = 2;
    let mut header = Vec::with_capacity(1 + encoded_len_varint(len as u64));
    header.push(field << 3 | WITH_LENGTH);
    encode_varint(len as u64, &mut header);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{NodeProto, OperatorSetIdProto};

    #[test]
    fn written_files_are_read_back() {
        let tensor = |name: &str, raw: Option<Vec<u8>>| TensorProto {
            name: Some(name.into()),
            dims: vec![3],
            raw_data: raw.map(Bytes::from),
            ..TensorProto::default()
        };
        let graph = GraphProto {
            node: vec![NodeProto { op_type: Some("Relu".into()), ..NodeProto::default() }],
            initializer: vec![tensor("a", Some(vec![7; 300])), tensor("b", None), tensor("c", Some(vec![]))],
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { version: Some(17), ..OperatorSetIdProto::default() }],
            graph: Some(graph),
            ..ModelProto::default()
        };
        let mut file = Vec::new();
        assert_eq!(model.clone().write(&mut file).unwrap(), file.len() as u64);
        assert_eq!(ModelProto::decode(Bytes::from(file)).unwrap(), model);
    }
}

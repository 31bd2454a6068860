use super::*;

fn sample() -> Model {
    let relu = Operator {
        opcode_index: 0,
        inputs: vec![0, -1],
        outputs: vec![1],
        options: Conv2D { stride_w: 2, activation: Activation::RELU6, ..Conv2D::default() }.into(),
        custom_options: Vec::new(),
        further_options: FurtherOptions::Composite(Composite {
            name: "odml.norm".into(),
            decomposition: 1,
            composite_attributes: vec![0, 4, 1],
        }),

        ..Operator::default()
    };
    let tensor = |name: &str, buffer| Tensor {
        shape: vec![1, 4],
        elem: TensorType::INT8,
        buffer,
        name: name.into(),
        quantization: Some(Quantization { scale: vec![0.5], zero_point: vec![-3], ..Quantization::default() }),
        shape_signature: vec![-1, 4],
        ..Tensor::default()
    };
    let blocks = Blocks { scales: 3, zero_points: -1, block_size: 32 };
    let quantization = Some(Quantization { details: Details::Blocks(blocks), ..Quantization::default() });
    let in_blocks = Tensor { quantization, ..tensor("v", 2) };
    let compressed = |segments, indices| DimensionMetadata {
        format: DimensionType::SPARSE_CSR,
        array_segments: segments,
        array_indices: indices,
        ..DimensionMetadata::default()
    };
    let sparsity = Sparsity {
        traversal_order: vec![0, 1, 2],
        block_map: vec![1],
        dim_metadata: vec![
            compressed(IndexVector::Int32(vec![0, 1]), IndexVector::Uint8(vec![0])),
            compressed(IndexVector::Uint16(vec![0, 500]), IndexVector::None),
            DimensionMetadata { dense_size: 2, ..DimensionMetadata::default() },
        ],
    };
    Model {
        version: Model::VERSION,
        operator_codes: vec![OperatorCode::builtin(BuiltinOperator::GELU, 2)],
        subgraphs: vec![SubGraph {
            tensors: vec![tensor("x", 0), Tensor { sparsity: Some(sparsity), ..tensor("w", 1) }, in_blocks],
            inputs: vec![0],
            outputs: vec![1],
            operators: vec![relu],
            name: "main".into(),
        }],
        description: "sample".into(),
        buffers: vec![
            Buffer::default(),
            Buffer { data: Bytes::from_static(&[1, 2, 3, 4]) },
            Buffer { data: Bytes::from_static(&[5, 6, 7, 8, 9]) },
        ],
        metadata: vec![Metadata { name: "m".into(), buffer: 1 }],
        signature_defs: vec![SignatureDef {
            inputs: vec![TensorMap { name: "x".into(), tensor_index: 0 }],
            outputs: vec![TensorMap { name: "y".into(), tensor_index: 1 }],
            signature_key: "serving_default".into(),
            subgraph_index: 0,
        }],
    }
}

fn bytes(model: &Model) -> Bytes {
    let mut out = Vec::new();
    let len = model.write(&mut out).unwrap();
    assert_eq!(len, out.len() as u64);
    out.into()
}

#[test]
fn written_files_are_read_back() {
    let model = sample();
    assert_eq!(Model::read(&bytes(&model)), Ok(model));
}

#[test]
fn buffers_are_aligned_and_shared_with_the_file() {
    let file = bytes(&sample());
    for buffer in &Model::read(&file).unwrap().buffers[1..] {
        let offset = buffer.data.as_ptr() as usize - file.as_ptr() as usize;
        assert_eq!(offset % 16, 0);
    }
}

#[test]
fn codes_above_127_are_in_the_wide_field() {
    let code = OperatorCode::builtin(BuiltinOperator::GELU, 1);
    assert_eq!((code.deprecated_builtin_code, code.builtin_code), (127, BuiltinOperator::GELU));
    let old = OperatorCode { deprecated_builtin_code: 14, ..OperatorCode::default() };
    assert_eq!(old.operator(), BuiltinOperator::LOGISTIC);
}

#[test]
fn options_are_shown_by_their_fields() {
    let options = Options::from(Softmax { beta: 0.5 });
    assert_eq!(options.fields(), [("beta", "0.5".to_owned())]);
    assert_eq!(Options::None.fields(), []);
}

#[test]
fn other_bytes_are_refused() {
    assert_eq!(Model::read(&Bytes::from_static(b"")), Err(ReadError::Identifier));
    assert_eq!(Model::read(&Bytes::from_static(b"\x08\0\0\0TFL2....")), Err(ReadError::Identifier));
    assert!(matches!(Model::read(&Bytes::from_static(b"\xff\0\0\0TFL3")), Err(ReadError::Bounds { .. })));
}

#[test]
fn damaged_files_never_panic() {
    let file = bytes(&sample());
    for end in 8..file.len() {
        let _ = Model::read(&file.slice(..end));
    }
    for at in 0..file.len() {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut damaged = file.to_vec();
            damaged[at] = value;
            let _ = Model::read(&damaged.into());
        }
    }
}

#[test]
fn files_that_share_tables_too_often_are_refused() {
    const MANY: u32 = 10_000;
    // A table with one reference, in `slot`, to the vector that follows it, all of whose elements point to the object
    // after the vector.
    let level = |slot: u16| {
        let mut out: Vec<u8> = Vec::new();
        for short in [4 + 2 * (slot + 1), 8].into_iter().chain((0..slot).map(|_| 0)).chain([4]) {
            out.extend(short.to_le_bytes());
        }
        let vtable = out.len() as i32;
        out.extend(vtable.to_le_bytes());
        out.extend(4u32.to_le_bytes());
        out.extend(MANY.to_le_bytes());
        out.extend((0..MANY).rev().flat_map(|i| (4 * (i + 1)).to_le_bytes()));
        (vtable as u32, out)
    };
    let ((root, subgraphs), (subgraph, mut tensors)) = (level(2), level(0));
    // References point to tables, which follow their vtables.
    let mut subgraphs = subgraphs;
    let first = subgraphs.len() - 4 * MANY as usize;
    for (i, at) in (first..subgraphs.len()).step_by(4).enumerate() {
        let to = 4 * (MANY - i as u32) + subgraph;
        subgraphs[at..at + 4].copy_from_slice(&to.to_le_bytes());
    }
    let first = tensors.len() - 4 * MANY as usize;
    for (i, at) in (first..tensors.len()).step_by(4).enumerate() {
        let to = 4 * (MANY - i as u32) + 4;
        tensors[at..at + 4].copy_from_slice(&to.to_le_bytes());
    }
    let empty = [4, 0, 4, 0, 4, 0, 0, 0];
    let file = [&(8 + root).to_le_bytes()[..], b"TFL3", &subgraphs, &tensors, &empty].concat();
    assert_eq!(Model::read(&file.into()), Err(ReadError::Overlap));
}

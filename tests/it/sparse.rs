//! Sparse TFLite constants: forms that LiteRT reads, and invalid ones.

use std::collections::BTreeMap;

use bytes::Bytes;
use qcc_formats::tflite::{
    Add, Buffer, BuiltinOperator as B, DimensionMetadata, DimensionType, FullyConnected, IndexVector, Model as Tables,
    Operator, OperatorCode, Sparsity, TensorType as Stored,
};

use super::tflite_models::{Part, bytes, entry, float, floats, on, one_operator};

/// The storage of a sparse tensor: the traversal order of its dimensions, the blocks that divide dimensions, which
/// dimensions are compressed, and the types of their index vectors.
struct Form<'a> {
    order: &'a [usize],
    blocks: &'a [(usize, usize)],
    compressed: &'a [bool],
    vector: fn(&[usize]) -> IndexVector,
}

fn int32(numbers: &[usize]) -> IndexVector {
    IndexVector::Int32(numbers.iter().map(|&n| n as i32).collect())
}

fn uint16(numbers: &[usize]) -> IndexVector {
    IndexVector::Uint16(numbers.iter().map(|&n| n as u16).collect())
}

fn uint8(numbers: &[usize]) -> IndexVector {
    IndexVector::Uint8(numbers.iter().map(|&n| n as u8).collect())
}

/// A dense constant in sparse form.
fn sparse((mut tensor, data): Part, form: &Form<'_>) -> Part {
    let data = data.unwrap();
    let dims: Vec<usize> = tensor.shape.iter().map(|&n| n as usize).collect();
    let width = data.len() / dims.iter().product::<usize>();
    let block = |d: usize| form.blocks.iter().find(|b| b.0 == d).map_or(1, |b| b.1);
    let extent = |&d: &usize| if d < dims.len() { dims[d] / block(d) } else { form.blocks[d - dims.len()].1 };
    // All elements by their indices along the storage dimensions.
    let mut elements: BTreeMap<Vec<usize>, &[u8]> = BTreeMap::new();
    for (i, element) in data.chunks(width).enumerate() {
        let place = |d: usize| i / dims[d + 1..].iter().product::<usize>() % dims[d];
        let at = |&d: &usize| match d.checked_sub(dims.len()) {
            None => place(d) / block(d),
            Some(b) => place(form.blocks[b].0) % form.blocks[b].1,
        };
        elements.insert(form.order.iter().map(at).collect(), element);
    }
    let holds = |prefix: &[usize]| elements.iter().any(|(at, e)| at.starts_with(prefix) && e.iter().any(|&b| b != 0));
    let mut nodes: Vec<Vec<usize>> = vec![Vec::new()];
    let mut dim_metadata = Vec::new();
    for (d, &compressed) in form.order.iter().zip(form.compressed) {
        let (mut segments, mut indices, mut below) = (vec![0], Vec::new(), Vec::new());
        for node in nodes {
            for i in 0..extent(d) {
                let child = [node.as_slice(), &[i]].concat();
                if !compressed || holds(&child) {
                    indices.push(i);
                    below.push(child);
                }
            }
            segments.push(indices.len());
        }
        nodes = below;
        dim_metadata.push(match compressed {
            true => DimensionMetadata {
                format: DimensionType::SPARSE_CSR,
                array_segments: (form.vector)(&segments),
                array_indices: (form.vector)(&indices),
                ..DimensionMetadata::default()
            },
            false => DimensionMetadata { dense_size: extent(d) as i32, ..DimensionMetadata::default() },
        });
    }
    tensor.sparsity = Some(Sparsity {
        traversal_order: form.order.iter().map(|&d| d as i32).collect(),
        block_map: form.blocks.iter().map(|b| b.0 as i32).collect(),
        dim_metadata,
    });
    (tensor, Some(nodes.iter().flat_map(|n| elements[n].iter().copied()).collect()))
}

/// Numbers of which one in `share` is not 0, and a row of zeros.
fn mostly_zero(dims: &[i32], share: usize) -> Vec<f32> {
    let count = dims.iter().product::<i32>() as usize;
    let row = count / dims[0] as usize;
    let number = |i: usize| if i * 7 % share == 1 && i / row != 1 { libm::sinf(i as f32 * 0.71) } else { 0.0 };
    (0..count).map(number).collect()
}

/// The model with a DENSIFY before each sparse operand, and a DEQUANTIZE after it for F16.
fn densified(model: &Bytes) -> Bytes {
    let mut tables = Tables::read(model).unwrap();
    tables.operator_codes.push(OperatorCode::builtin(B::DENSIFY, 1));
    tables.operator_codes.push(OperatorCode::builtin(B::DEQUANTIZE, 3));
    let main = &mut tables.subgraphs[0];
    for i in 0..main.tensors.len() {
        if main.tensors[i].sparsity.is_none() {
            continue;
        }
        let (mut last, elem) = (i as i32, main.tensors[i].elem);
        let mut then = |opcode_index, elem| {
            let mut dense = main.tensors[i].clone();
            let new = main.tensors.len() as i32;
            (dense.sparsity, dense.buffer, dense.name, dense.elem) = (None, 0, format!("dense{new}"), elem);
            main.tensors.push(dense);
            let (inputs, outputs) = (vec![last], vec![new]);
            main.operators.push(Operator { opcode_index, inputs, outputs, ..Operator::default() });
            last = new;
        };
        then(1, elem);
        if elem == Stored::FLOAT16 {
            then(2, Stored::FLOAT32);
        }
        main.operators[0].inputs.iter_mut().filter(|v| **v == i as i32).for_each(|v| *v = last);
    }
    // The original operator comes last.
    main.operators.sort_by_key(|o| o.opcode_index == 0);
    let mut file = Vec::new();
    tables.write(&mut file).unwrap();
    file.into()
}

fn dense_layer(weight: Part) -> Bytes {
    let (rows, columns) = (weight.0.shape[0], weight.0.shape[1]);
    let bias = floats(&[rows], &vec![0.25; rows as usize]);
    let options = FullyConnected::default();
    one_operator(
        B::FULLY_CONNECTED,
        8,
        options.into(),
        vec![float(&[2, columns]), weight, bias],
        vec![float(&[2, rows])],
    )
}

fn sum(weight: Part) -> Bytes {
    let dims = weight.0.shape.clone();
    one_operator(B::ADD, 1, Add::default().into(), vec![float(&dims), weight], vec![float(&dims)])
}

/// Models that LiteRT runs.
pub(crate) fn models() -> Vec<(&'static str, Bytes)> {
    let weights = |dims: &[i32], share, form: &Form<'_>| sparse(floats(dims, &mostly_zero(dims, share)), form);
    let rows = Form { order: &[0, 1], blocks: &[], compressed: &[false, true], vector: int32 };
    let columns = Form { order: &[1, 0], vector: uint16, ..rows };
    let both = Form { compressed: &[true, true], ..rows };
    let dense = Form { compressed: &[false, false], ..rows };
    let strips = Form { order: &[0, 1, 2], blocks: &[(1, 4)], compressed: &[false, true, false], vector: uint8 };
    let squares = Form {
        order: &[0, 1, 2, 3],
        blocks: &[(0, 2), (1, 2)],
        compressed: &[false, true, false, false],
        vector: uint8,
    };
    let turned = Form { order: &[1, 0, 2, 3], ..squares };
    let deep = Form { order: &[0, 1, 2], blocks: &[], compressed: &[false, true, true], vector: int32 };
    let integers: Vec<i8> = mostly_zero(&[4, 6], 3).iter().map(|v| (v * 100.0) as i8).collect();
    let integers = sparse(on(bytes(Stored::INT8, &[4, 6], &integers), &[0.5], -3, 0), &squares);
    let qparams = |dims: &[i32]| on((entry(Stored::INT8, dims), None), &[0.5], -3, 0);
    let integers =
        one_operator(B::ADD, 2, Add::default().into(), vec![qparams(&[4, 6]), integers], vec![qparams(&[4, 6])]);
    let halves: Vec<u8> = mostly_zero(&[4, 6], 3).iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let halves = sparse((entry(Stored::FLOAT16, &[4, 6]), Some(halves.into())), &columns);
    vec![
        ("sparse rows read by the layer", dense_layer(weights(&[3, 8], 3, &rows))),
        ("sparse strips read by the layer", dense_layer(weights(&[4, 8], 5, &strips))),
        ("densify rows", densified(&dense_layer(weights(&[3, 8], 3, &rows)))),
        ("densify columns", densified(&sum(weights(&[3, 5], 3, &columns)))),
        ("densify both compressed", densified(&sum(weights(&[4, 5], 3, &both)))),
        ("densify nothing compressed", densified(&sum(weights(&[4, 5], 3, &dense)))),
        ("densify strips", densified(&sum(weights(&[4, 8], 5, &strips)))),
        ("densify squares", densified(&sum(weights(&[4, 6], 5, &squares)))),
        ("densify squares, columns first", densified(&sum(weights(&[4, 6], 5, &turned)))),
        ("densify three axes", densified(&sum(weights(&[3, 2, 5], 4, &deep)))),
        ("densify integers", densified(&integers)),
        ("densify halves", densified(&sum(halves))),
    ]
}

#[test]
fn malformed_sparse_constants_are_refused_by_name() {
    let rows = Form { order: &[0, 1], blocks: &[], compressed: &[false, true], vector: int32 };
    let strips = Form { order: &[0, 1, 2], blocks: &[(1, 4)], compressed: &[false, true, false], vector: uint8 };
    let model = |form: &Form<'_>, change: &dyn Fn(&mut Sparsity, &mut Vec<i32>)| {
        let mut tables = Tables::read(&dense_layer(sparse(floats(&[4, 8], &mostly_zero(&[4, 8], 3)), form))).unwrap();
        let tensor = &mut tables.subgraphs[0].tensors[1];
        change(tensor.sparsity.as_mut().unwrap(), &mut tensor.shape);
        let mut file = Vec::new();
        tables.write(&mut file).unwrap();
        Bytes::from(file)
    };
    type Change = Box<dyn Fn(&mut Sparsity, &mut Vec<i32>)>;
    let segments = |n: Vec<i32>| {
        move |s: &mut Sparsity, _: &mut Vec<i32>| s.dim_metadata[1].array_segments = IndexVector::Int32(n.clone())
    };
    let indices = |change: fn(&mut Vec<i32>)| {
        move |s: &mut Sparsity, _: &mut Vec<i32>| {
            let IndexVector::Int32(v) = &mut s.dim_metadata[1].array_indices else { unreachable!() };
            change(v);
        }
    };
    let cases: Vec<(&str, &Form<'_>, Change)> = vec![
        ("a traversal order", &rows, Box::new(|s, _| s.traversal_order.truncate(1))),
        ("0 in the traversal order", &rows, Box::new(|s, _| s.traversal_order[1] = 0)),
        ("-1 in the traversal order", &rows, Box::new(|s, _| s.traversal_order[0] = -1)),
        ("7 in the traversal order", &rows, Box::new(|s, _| s.traversal_order[0] = 7)),
        ("a traversal order", &strips, Box::new(|s, _| s.traversal_order.swap(1, 2))),
        ("a traversal order", &rows, Box::new(|s, _| s.dim_metadata.truncate(1))),
        ("2 in the block map", &strips, Box::new(|s, _| s.block_map[0] = 2)),
        ("blocks of 3", &strips, Box::new(|s, _| s.dim_metadata[2].dense_size = 3)),
        ("blocks of 0", &strips, Box::new(|s, _| s.dim_metadata[2].dense_size = 0)),
        ("a dense dimension of 5", &rows, Box::new(|s, _| s.dim_metadata[0].dense_size = 5)),
        ("a dense dimension of -4", &rows, Box::new(|s, _| s.dim_metadata[0].dense_size = -4)),
        ("sparse dimensions of kind 2", &rows, Box::new(|s, _| s.dim_metadata[1].format = DimensionType(2))),
        ("do not divide", &rows, Box::new(segments(vec![0, 2, 3]))),
        ("do not divide", &rows, Box::new(segments(vec![]))),
        ("do not divide", &rows, Box::new(segments(vec![1 << 30; 5]))),
        ("a negative number", &rows, Box::new(segments(vec![-1; 5]))),
        ("do not rise below 8", &rows, Box::new(indices(|v| v[0] = 8))),
        ("do not rise below 8", &rows, Box::new(indices(|v| v[1] = v[0]))),
        ("a negative number", &rows, Box::new(indices(|v| v[0] = -1))),
        ("do not divide", &rows, Box::new(indices(|v| v.truncate(1)))),
        ("is too large", &rows, Box::new(|_, shape| *shape = vec![i32::MAX, i32::MAX])),
        (
            "computed constants would come to 2147483648 bytes",
            &rows,
            Box::new(|_, shape| *shape = vec![1 << 14, 1 << 15]),
        ),
    ];
    for (why, form, change) in cases {
        let file = model(form, &*change);
        let refused = qcc_frontends::Model::read(file, std::path::Path::new(""))
            .and_then(|m| m.import(&qcc_frontends::ImportOptions::default()))
            .expect_err(why);
        let said: Vec<String> = refused.iter().map(|d| format!("{} at {}", d.message, d.origin.path())).collect();
        assert!(said[0].contains(why) && said[0].ends_with(" at t1"), "{why}: {said:?}");
    }
    // The buffer must match the metadata.
    let mut tables = Tables::read(&model(&rows, &|_, _| {})).unwrap();
    let data = tables.buffers[1].data.clone();
    tables.buffers[1] = Buffer { data: data.slice(..data.len() - 4) };
    let mut file = Vec::new();
    tables.write(&mut file).unwrap();
    let read = qcc_frontends::Model::read(file.into(), std::path::Path::new("")).unwrap();
    let refused = read.import(&qcc_frontends::ImportOptions::default()).unwrap_err();
    assert!(refused[0].message.contains("elements that are not 0"), "{refused:?}");
}

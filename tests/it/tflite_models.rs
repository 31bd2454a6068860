//! Handmade TFLite models of one operator each.

use bytes::Bytes;
use qcc_formats::tflite::{
    Activation, Add, Buffer, BuiltinOperator as B, Concatenation, Conv2D, FullyConnected, Gather, L2Norm, MirrorPad,
    MirrorPadMode, Model as Tables, Operator, OperatorCode, Options, OptionsType, Pack, Padding, Quantization, Reducer,
    Reshape, ResizeNearestNeighbor, Softmax, Split, SplitV, Squeeze, StridedSlice, SubGraph, Tensor as Entry,
    TensorType as Stored, TransposeConv, Unpack,
};
use qcc_ir::Shape;
use qcc_ir::testing::numbers;

/// A tensor of a model: its entry, and its bytes if it is a constant.
pub(crate) type Part = (Entry, Option<Bytes>);

pub(crate) fn entry(elem: Stored, dims: &[i32]) -> Entry {
    Entry { shape: dims.into(), elem, has_rank: true, ..Entry::default() }
}

pub(crate) fn float(dims: &[i32]) -> Part {
    (entry(Stored::FLOAT32, dims), None)
}

pub(crate) fn floats(dims: &[i32], values: &[f32]) -> Part {
    (entry(Stored::FLOAT32, dims), Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()))
}

pub(crate) fn ints(dims: &[i32], values: &[i32]) -> Part {
    (entry(Stored::INT32, dims), Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()))
}

pub(crate) fn on(part: Part, scale: &[f32], zero_point: i64, dimension: i32) -> Part {
    let zero_point = vec![zero_point; scale.len()];
    let quantization = Quantization { scale: scale.into(), zero_point, dimension, ..Quantization::default() };
    (Entry { quantization: Some(quantization), ..part.0 }, part.1)
}

pub(crate) fn byte(elem: Stored, dims: &[i32], scale: f32, zero_point: i64) -> Part {
    on((entry(elem, dims), None), &[scale], zero_point, 0)
}

pub(crate) fn bytes(elem: Stored, dims: &[i32], values: &[i8]) -> Part {
    (entry(elem, dims), Some(values.iter().map(|v| v.cast_unsigned()).collect()))
}

/// A model of one operator.
pub(crate) fn one_operator(code: B, version: i32, options: Options, operands: Vec<Part>, results: Vec<Part>) -> Bytes {
    let mut buffers = vec![Buffer::default()];
    let mut tensors = Vec::new();
    let (mut inputs, count) = (Vec::new(), operands.len() as i32);
    for (i, (entry, data)) in operands.into_iter().chain(results).enumerate() {
        let buffer = data.map_or(0, |data| {
            buffers.push(Buffer { data });
            buffers.len() as u32 - 1
        });
        if buffer == 0 && (i as i32) < count {
            inputs.push(i as i32);
        }
        tensors.push(Entry { buffer, name: format!("t{i}"), ..entry });
    }
    let all = count..tensors.len() as i32;
    let operator =
        Operator { inputs: (0..count).collect(), outputs: all.clone().collect(), options, ..Operator::default() };
    let main = SubGraph { tensors, inputs, outputs: all.collect(), operators: vec![operator], name: "main".into() };
    let tables = Tables {
        version: Tables::VERSION,
        operator_codes: vec![OperatorCode::builtin(code, version)],
        subgraphs: vec![main],
        buffers,
        ..Tables::default()
    };
    let mut file = Vec::new();
    tables.write(&mut file).unwrap();
    file.into()
}

/// Operators that qcc does not write, or writes in another form.
pub(crate) fn foreign() -> Vec<(&'static str, Bytes)> {
    const INT8: Stored = Stored::INT8;
    const UINT8: Stored = Stored::UINT8;
    let other = Options::Other;
    let slice = |begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask| -> Options {
        StridedSlice { begin_mask, end_mask, ellipsis_mask, new_axis_mask, shrink_axis_mask, offset: false }.into()
    };
    let three = |values: [i32; 3]| ints(&[3], &values);
    vec![
        (
            "strided slice with masks",
            one_operator(
                B::STRIDED_SLICE,
                1,
                slice(1, 2, 0, 0, 4),
                vec![float(&[4, 5, 6]), three([2, 1, -1]), three([3, 2, 9]), three([1, 2, 1])],
                vec![float(&[3, 2])],
            ),
        ),
        (
            "strided slice with an ellipsis and a new axis",
            one_operator(
                B::STRIDED_SLICE,
                6,
                slice(0, 0, 1, 2, 0),
                vec![float(&[2, 3, 4]), three([0, 0, 1]), three([0, 0, 3]), three([1, 1, 1])],
                vec![float(&[2, 3, 1, 2])],
            ),
        ),
        (
            "strided slice backwards",
            one_operator(
                B::STRIDED_SLICE,
                1,
                slice(1, 1, 0, 0, 0),
                vec![float(&[5, 2]), ints(&[2], &[0, 0]), ints(&[2], &[0, 2]), ints(&[2], &[-2, 1])],
                vec![float(&[3, 2])],
            ),
        ),
        (
            "pack",
            one_operator(
                B::PACK,
                1,
                Pack { values_count: 2, axis: -2 }.into(),
                vec![float(&[2, 3]), float(&[2, 3])],
                vec![float(&[2, 2, 3])],
            ),
        ),
        (
            "unpack",
            one_operator(
                B::UNPACK,
                1,
                Unpack { num: 2, axis: 1 }.into(),
                vec![float(&[3, 2, 4])],
                vec![float(&[3, 4]), float(&[3, 4])],
            ),
        ),
        (
            "split",
            one_operator(
                B::SPLIT,
                1,
                Split { num_splits: 2 }.into(),
                vec![ints(&[], &[-1]), float(&[2, 6])],
                vec![float(&[2, 3]), float(&[2, 3])],
            ),
        ),
        (
            "split into lengths",
            one_operator(
                B::SPLIT_V,
                1,
                SplitV { num_splits: 3 }.into(),
                vec![float(&[7, 2]), three([2, -1, 1]), ints(&[], &[0])],
                vec![float(&[2, 2]), float(&[4, 2]), float(&[1, 2])],
            ),
        ),
        (
            "space to batch",
            one_operator(
                B::SPACE_TO_BATCH_ND,
                1,
                Options::None,
                vec![float(&[2, 4, 5, 3]), ints(&[2], &[2, 3]), ints(&[2, 2], &[0, 2, 1, 0])],
                vec![float(&[12, 3, 2, 3])],
            ),
        ),
        (
            "batch to space",
            one_operator(
                B::BATCH_TO_SPACE_ND,
                1,
                Options::None,
                vec![float(&[12, 3, 2, 3]), ints(&[2], &[2, 3]), ints(&[2, 2], &[0, 2, 1, 0])],
                vec![float(&[2, 4, 5, 3])],
            ),
        ),
        (
            "symmetric pad",
            one_operator(
                B::MIRROR_PAD,
                1,
                MirrorPad { mode: MirrorPadMode::SYMMETRIC }.into(),
                vec![float(&[2, 3]), ints(&[2, 2], &[1, 0, 1, 1])],
                vec![float(&[3, 5])],
            ),
        ),
        (
            "squeeze",
            one_operator(
                B::SQUEEZE,
                1,
                Squeeze { squeeze_dims: vec![-1] }.into(),
                vec![float(&[1, 3, 1])],
                vec![float(&[1, 3])],
            ),
        ),
        (
            "reshape by option",
            one_operator(
                B::RESHAPE,
                1,
                Reshape { new_shape: vec![3, -1] }.into(),
                vec![float(&[2, 6])],
                vec![float(&[3, 4])],
            ),
        ),
        (
            "gather in batches",
            one_operator(
                B::GATHER,
                5,
                Gather { axis: 1, batch_dims: 1 }.into(),
                vec![float(&[2, 4, 3]), ints(&[2, 2], &[3, 0, 1, 1])],
                vec![float(&[2, 2, 3])],
            ),
        ),
        (
            "length 1",
            one_operator(B::L2_NORMALIZATION, 1, L2Norm::default().into(), vec![float(&[2, 5])], vec![float(&[2, 5])]),
        ),
        (
            "softmax with another base",
            one_operator(B::SOFTMAX, 1, Softmax { beta: 2.5 }.into(), vec![float(&[2, 5])], vec![float(&[2, 5])]),
        ),
        (
            "addition and activation",
            one_operator(
                B::ADD,
                1,
                Add { activation: Activation::RELU_N1_TO_1, ..Add::default() }.into(),
                vec![float(&[2, 1, 3]), float(&[4, 1])],
                vec![float(&[2, 4, 3])],
            ),
        ),
        (
            "nearest elements at odd scales",
            one_operator(
                B::RESIZE_NEAREST_NEIGHBOR,
                3,
                ResizeNearestNeighbor::default().into(),
                vec![float(&[1, 6, 10, 2]), ints(&[2], &[14, 35])],
                vec![float(&[1, 14, 35, 2])],
            ),
        ),
        (
            "transposed convolution with a rest",
            one_operator(
                B::TRANSPOSE_CONV,
                1,
                TransposeConv { padding: Padding::SAME, stride_h: 2, stride_w: 3, ..TransposeConv::default() }.into(),
                vec![
                    ints(&[4], &[1, 5, 8, 2]),
                    floats(&[2, 3, 3, 4], &numbers(Shape::known(&[72]), 3).reals()),
                    float(&[1, 3, 3, 4]),
                ],
                vec![float(&[1, 5, 8, 2])],
            ),
        ),
        (
            "matrix of a flattened image",
            one_operator(
                B::FULLY_CONNECTED,
                1,
                FullyConnected { activation: Activation::RELU, ..FullyConnected::default() }.into(),
                vec![
                    float(&[2, 2, 3]),
                    floats(&[4, 6], &numbers(Shape::known(&[24]), 2).reals()),
                    floats(&[4], &[0.1, -0.2, 0.3, 0.0]),
                ],
                vec![float(&[2, 4])],
            ),
        ),
        (
            "unsigned convolution",
            one_operator(
                B::CONV_2D,
                1,
                Conv2D {
                    padding: Padding::SAME,
                    stride_w: 2,
                    stride_h: 1,
                    activation: Activation::RELU6,
                    ..Conv2D::default()
                }
                .into(),
                vec![
                    byte(UINT8, &[1, 5, 5, 2], 0.02, 120),
                    on(
                        bytes(UINT8, &[3, 3, 3, 2], &(0..54).map(|i| (i * 37 % 251) as u8 as i8).collect::<Vec<_>>()),
                        &[0.01],
                        117,
                        0,
                    ),
                    on(ints(&[3], &[100, -200, 0]), &[0.02 * 0.01], 0, 0),
                ],
                vec![byte(UINT8, &[1, 5, 3, 3], 0.03, 10)],
            ),
        ),
        (
            "bias without scales",
            one_operator(
                B::FULLY_CONNECTED,
                4,
                FullyConnected::default().into(),
                vec![
                    byte(INT8, &[2, 4], 0.05, 3),
                    on(bytes(INT8, &[3, 4], &[1, -2, 3, -4, 50, 6, -70, 8, 9, 10, 11, 127]), &[0.02], 0, 0),
                    ints(&[3], &[100, -200, 0]),
                ],
                vec![byte(INT8, &[2, 3], 0.07, -5)],
            ),
        ),
        (
            "integers of unlike grids side by side",
            one_operator(
                B::CONCATENATION,
                1,
                Concatenation { axis: 1, activation: Activation::NONE }.into(),
                vec![byte(UINT8, &[2, 3], 0.01, 10), byte(UINT8, &[2, 2], 0.02, 128)],
                vec![byte(UINT8, &[2, 5], 0.02, 128)],
            ),
        ),
        (
            "comparison of integers",
            one_operator(
                B::LESS,
                2,
                other(OptionsType::LESS),
                vec![byte(INT8, &[2, 8], 0.01, 10), byte(INT8, &[8], 0.02, -20)],
                vec![(entry(Stored::BOOL, &[2, 8]), None)],
            ),
        ),
        (
            "mean of integers",
            one_operator(
                B::MEAN,
                2,
                Reducer { keep_dims: true }.into(),
                vec![byte(INT8, &[1, 4, 4, 2], 0.02, 5), ints(&[2], &[1, 2])],
                vec![byte(INT8, &[1, 1, 1, 2], 0.01, -3)],
            ),
        ),
        (
            "four-bit weights",
            one_operator(
                B::DEQUANTIZE,
                6,
                other(OptionsType::DEQUANTIZE),
                vec![on(bytes(Stored::INT4, &[2, 3], &[0x21, -0x2d, 0x70]), &[0.5], 0, 0)],
                vec![float(&[2, 3])],
            ),
        ),
    ]
}

pub(crate) fn other_pool() -> Options {
    qcc_formats::tflite::Pool2D {
        padding: Padding::VALID,
        stride_w: 1,
        stride_h: 1,
        filter_width: 2,
        filter_height: 2,
        ..qcc_formats::tflite::Pool2D::default()
    }
    .into()
}

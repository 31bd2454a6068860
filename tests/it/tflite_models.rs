//! Handmade TFLite models of one operator each.

use bytes::Bytes;
use qcc_formats::tflite::{
    Activation, Add, Blocks, Buffer, BuiltinOperator as B, Composite, Concatenation, Conv2D, Details, FullyConnected,
    FurtherOptions, Gather, L2Norm, MirrorPad, MirrorPadMode, Model as Tables, Operator, OperatorCode, Options,
    OptionsType, Pack, Padding, Quantization, Reducer, Reshape, ResizeNearestNeighbor, Softmax, Split, SplitV, Squeeze,
    StridedSlice, SubGraph, Tensor as Entry, TensorType as Stored, TransposeConv, Unpack,
};
#[cfg(feature = "oracles")]
use qcc_formats::tflite::{CallOnce, SequenceLstm, Svdf, VarHandle};
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

pub(crate) fn longs(dims: &[i32], values: &[i64]) -> Part {
    (entry(Stored::INT64, dims), Some(values.iter().flat_map(|v| v.to_le_bytes()).collect()))
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

/// A model of one built-in operator.
pub(crate) fn one_operator(code: B, version: i32, options: Options, operands: Vec<Part>, results: Vec<Part>) -> Bytes {
    let operator = Operator { options, ..Operator::default() };
    let operands = operands.into_iter().map(Some).collect();
    model_of(OperatorCode::builtin(code, version), operator, operands, results)
}

/// A block in place of a part of `[4, 6]`, at these positions or those of an input.
fn replaced(block: [i32; 2], starts: Option<[i32; 2]>) -> Bytes {
    let starts = starts.map_or_else(|| (entry(Stored::INT32, &[2]), None), |starts| ints(&[2], &starts));
    let options = Options::Other(OptionsType::DYNAMIC_UPDATE_SLICE);
    let operands = vec![float(&[4, 6]), float(&block), starts];
    one_operator(B::DYNAMIC_UPDATE_SLICE, 1, options, operands, vec![float(&[4, 6])])
}

/// A model of one operator. Operands without bytes are inputs, unless they are variables; `None` is an operand that is left
/// out.
pub(crate) fn model_of(
    code: OperatorCode,
    operator: Operator,
    operands: Vec<Option<Part>>,
    results: Vec<Part>,
) -> Bytes {
    let (mut buffers, mut tensors, mut inputs) = (vec![Buffer::default()], Vec::<Entry>::new(), Vec::new());
    let mut add = |(entry, data): Part| {
        let is_input = data.is_none() && !entry.is_variable;
        let buffer = data.map_or(0, |data| {
            buffers.push(Buffer { data });
            buffers.len() as u32 - 1
        });
        tensors.push(Entry { buffer, name: format!("t{}", tensors.len()), ..entry });
        (tensors.len() as i32 - 1, is_input)
    };
    let mut given = Vec::new();
    for operand in operands {
        let (tensor, is_input) = operand.map_or((-1, false), &mut add);
        given.push(tensor);
        inputs.extend(is_input.then_some(tensor));
    }
    let outputs: Vec<i32> = results.into_iter().map(|part| add(part).0).collect();
    let operator = Operator { inputs: given, outputs: outputs.clone(), ..operator };
    let main = SubGraph { tensors, inputs, outputs, operators: vec![operator], name: "main".into() };
    file(&Tables {
        version: Tables::VERSION,
        operator_codes: vec![code],
        subgraphs: vec![main],
        buffers,
        ..Tables::default()
    })
}

fn file(tables: &Tables) -> Bytes {
    let mut file = Vec::new();
    tables.write(&mut file).unwrap();
    file.into()
}

/// A model with changes.
pub(crate) fn changed(model: &Bytes, change: impl FnOnce(&mut Tables)) -> Bytes {
    let mut tables = Tables::read(model).unwrap();
    change(&mut tables);
    file(&tables)
}

/// A padding that repeats the image mirrored, edges included.
fn symmetric_pad(image: &[i32], pads: &[i32], padded: &[i32]) -> Bytes {
    one_operator(
        B::MIRROR_PAD,
        1,
        MirrorPad { mode: MirrorPadMode::SYMMETRIC }.into(),
        vec![float(image), ints(&[image.len() as i32, 2], pads)],
        vec![float(padded)],
    )
}

/// A tensor that keeps its value from run to run.
#[cfg(feature = "oracles")]
pub(crate) fn kept(part: Part) -> Part {
    (Entry { is_variable: true, ..part.0 }, part.1)
}

/// An LSTM of so many steps of one batch, 3 inputs and 2 states, without parameters of its input gate where it is `coupled`.
#[cfg(feature = "oracles")]
pub(crate) fn sequence_lstm(steps: i32, cell_clip: f32, coupled: bool, peepholes: bool) -> Bytes {
    let part = |dims: &[i32], seed: u64| floats(dims, &noise(dims, seed));
    let mut operands = vec![float(&[1, steps, 3])];
    operands.extend((0..4).map(|gate| part(&[2, 3], gate + 1)));
    operands.extend((0..4).map(|gate| part(&[2, 2], gate + 11)));
    operands.extend((0..3).map(|gate| part(&[2], gate + 21)));
    operands.extend((0..4).map(|gate| part(&[2], gate + 31)));
    operands.extend([kept(float(&[1, 2])), kept(float(&[1, 2]))]);
    let options = SequenceLstm { activation: Activation::TANH, cell_clip, ..SequenceLstm::default() };
    let result = vec![float(&[1, steps, 2])];
    let model = one_operator(B::UNIDIRECTIONAL_SEQUENCE_LSTM, 1, options.into(), operands, result);
    changed(&model, |tables| {
        let inputs = &mut tables.subgraphs[0].operators[0].inputs;
        // No projection and its bias.
        inputs.splice(16..16, [-1, -1]);
        inputs.extend([-1; 4]);
        let input_gate: &[usize] = if coupled { &[1, 5, 9, 12] } else { &[] };
        input_gate.iter().for_each(|&i| inputs[i] = -1);
        if !peepholes {
            inputs[9..12].fill(-1);
        }
    })
}

/// An SVDF of 2 units of rank 2 that keep 3 numbers of 4 inputs.
#[cfg(feature = "oracles")]
pub(crate) fn svdf() -> Bytes {
    let part = |dims: &[i32], seed: u64| floats(dims, &noise(dims, seed));
    let operands = vec![float(&[1, 4]), part(&[4, 4], 1), part(&[4, 3], 2), part(&[2], 3), kept(float(&[1, 12]))];
    let options = Svdf { rank: 2, activation: Activation::RELU, ..Svdf::default() };
    one_operator(B::SVDF, 1, options.into(), operands, vec![float(&[1, 2])])
}

/// A model that keeps its last two of 3 numbers in a variable, and sums them and the new one. The variable begins as `first`.
#[cfg(feature = "oracles")]
pub(crate) fn streaming(first: [f32; 2]) -> Bytes {
    let handle = || Entry { elem: Stored::RESOURCE, ..entry(Stored::RESOURCE, &[]) };
    let named = |name: &str, entry: Entry| Entry { name: name.into(), ..entry };
    let data = |values: &[u8]| Buffer { data: values.to_vec().into() };
    let int = |values: &[i32]| data(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let buffers = vec![
        Buffer::default(),
        int(&[0, 1]),
        int(&[1, 2]),
        int(&[1]),
        data(&first.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()),
    ];
    let constant = |elem, dims: &[i32], buffer| Entry { buffer, ..entry(elem, dims) };
    let tensors = vec![
        named("x", entry(Stored::FLOAT32, &[1, 1])),
        named("handle", handle()),
        named("last", entry(Stored::FLOAT32, &[1, 2])),
        named("all", entry(Stored::FLOAT32, &[1, 3])),
        named("begin", constant(Stored::INT32, &[2], 1)),
        named("size", constant(Stored::INT32, &[2], 2)),
        named("new", entry(Stored::FLOAT32, &[1, 2])),
        named("axis", constant(Stored::INT32, &[1], 3)),
        named("y", entry(Stored::FLOAT32, &[1])),
    ];
    let codes = [B::CALL_ONCE, B::VAR_HANDLE, B::READ_VARIABLE, B::CONCATENATION, B::SLICE, B::ASSIGN_VARIABLE, B::SUM];
    let operator = |code: B, inputs: &[i32], outputs: &[i32], options: Options| Operator {
        opcode_index: codes.iter().position(|c| *c == code).unwrap() as u32,
        inputs: inputs.into(),
        outputs: outputs.into(),
        options,
        ..Operator::default()
    };
    let variable = || VarHandle { container: String::new(), shared_name: "window".into() }.into();
    let joined = Concatenation { axis: 1, ..Concatenation::default() };
    let operators = vec![
        operator(B::CALL_ONCE, &[], &[], CallOnce { subgraph: 1 }.into()),
        operator(B::VAR_HANDLE, &[], &[1], variable()),
        operator(B::READ_VARIABLE, &[1], &[2], Options::None),
        operator(B::CONCATENATION, &[2, 0], &[3], joined.into()),
        operator(B::SLICE, &[3, 4, 5], &[6], Options::None),
        operator(B::ASSIGN_VARIABLE, &[1, 6], &[], Options::None),
        operator(B::SUM, &[3, 7], &[8], Options::None),
    ];
    let main = SubGraph { tensors, inputs: vec![0], outputs: vec![8], operators, name: "main".into() };
    let initial = SubGraph {
        tensors: vec![named("handle", handle()), named("first", constant(Stored::FLOAT32, &[1, 2], 4))],
        operators: vec![
            operator(B::VAR_HANDLE, &[], &[0], variable()),
            operator(B::ASSIGN_VARIABLE, &[0, 1], &[], Options::None),
        ],
        name: "initial".into(),
        ..SubGraph::default()
    };
    file(&Tables {
        version: Tables::VERSION,
        operator_codes: codes.iter().map(|code| OperatorCode::builtin(*code, 1)).collect(),
        subgraphs: vec![main, initial],
        buffers,
        ..Tables::default()
    })
}

pub(crate) fn noise(dims: &[i32], seed: u64) -> Vec<f32> {
    let dims: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
    numbers(Shape::known(&dims), seed).floats().to_vec()
}

/// A sum that a composite operator stands for.
fn composite() -> Bytes {
    let sum = one_operator(B::ADD, 1, Add::default().into(), vec![float(&[2, 3]), float(&[3])], vec![float(&[2, 3])]);
    changed(&sum, |tables| {
        tables.subgraphs.push(tables.subgraphs[0].clone());
        tables.operator_codes.push(OperatorCode::builtin(B::STABLEHLO_COMPOSITE, 1));
        // A FlexBuffer of the number 0.
        let composite_attributes = vec![0, 4, 1];
        let composite = Composite { name: "odml.sum".into(), decomposition: 1, composite_attributes };
        tables.subgraphs[0].operators[0] = Operator {
            opcode_index: 1,
            options: Options::None,
            further_options: FurtherOptions::Composite(composite),
            ..tables.subgraphs[0].operators[0].clone()
        };
    })
}

/// The transforms of two images, of which the operator takes a part: sizes, real or imaginary parts.
fn spectrum(part: B) -> Bytes {
    let complex = (entry(Stored::COMPLEX64, &[2, 4, 5]), None);
    let operands = vec![float(&[2, 3, 9]), ints(&[2], &[4, 8])];
    let model = one_operator(B::RFFT2D, 1, Options::None, operands, vec![complex]);
    changed(&model, |tables| {
        tables.operator_codes.push(OperatorCode::builtin(part, 1));
        let main = &mut tables.subgraphs[0];
        main.tensors.push(Entry { name: "part".into(), ..entry(Stored::FLOAT32, &[2, 4, 5]) });
        let operator = Operator { opcode_index: 1, inputs: vec![2], outputs: vec![3], ..Operator::default() };
        main.operators.push(operator);
        main.outputs = vec![3];
    })
}

/// A matrix of 4 bits with a scale for each 32 numbers of a row.
fn in_blocks() -> Bytes {
    let weights: Vec<i8> = (0..64).map(|i: i32| (i * 37 % 251) as u8 as i8).collect();
    let scales: Bytes = [0x2c00u16, 0x2e00, 0x3000, 0x2a00].iter().flat_map(|v| v.to_le_bytes()).collect();
    let options = FullyConnected { asymmetric_quantize_inputs: true, ..FullyConnected::default() };
    let operands = vec![float(&[3, 64]), bytes(Stored::INT4, &[2, 64], &weights)];
    let model = one_operator(B::FULLY_CONNECTED, 12, options.into(), operands, vec![float(&[3, 2])]);
    changed(&model, |tables| {
        let main = &mut tables.subgraphs[0];
        tables.buffers.push(Buffer { data: scales });
        let buffer = tables.buffers.len() as u32 - 1;
        main.tensors.push(Entry { buffer, name: "scales".into(), ..entry(Stored::FLOAT16, &[2, 2]) });
        let blocks = Blocks { scales: main.tensors.len() as i32 - 1, zero_points: -1, block_size: 32 };
        let details = Details::Blocks(blocks);
        main.tensors[1].quantization = Some(Quantization { details, ..Quantization::default() });
    })
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
        ("composite operator", composite()),
        ("a block in place of rows", replaced([2, 6], Some([1, 0]))),
        ("a block in place of a part of rows", replaced([2, 3], Some([1, 2]))),
        ("a block that is moved inside", replaced([3, 6], Some([-2, 9]))),
        ("a block at a computed position", replaced([1, 4], None)),
        ("rows at a computed position", replaced([2, 6], None)),
        ("weights in blocks", in_blocks()),
        ("sizes of a spectrum", spectrum(B::COMPLEX_ABS)),
        ("real parts of a spectrum", spectrum(B::REAL)),
        ("imaginary parts of a spectrum", spectrum(B::IMAG)),
        ("a spectrum as real numbers", spectrum(B::CAST)),
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
        ("symmetric pad", symmetric_pad(&[2, 3], &[1, 0, 1, 1], &[3, 5])),
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
                    floats(&[2, 3, 3, 4], &numbers(Shape::known(&[72]), 3).floats()),
                    float(&[1, 3, 3, 4]),
                ],
                vec![float(&[1, 5, 8, 2])],
            ),
        ),
        (
            "transposed convolution to a size at run time",
            one_operator(
                B::TRANSPOSE_CONV,
                1,
                TransposeConv { padding: Padding::VALID, stride_h: 2, stride_w: 2, ..TransposeConv::default() }.into(),
                vec![
                    (entry(Stored::INT32, &[4]), None),
                    floats(&[2, 3, 3, 4], &numbers(Shape::known(&[72]), 3).floats()),
                    float(&[1, 3, 4, 4]),
                ],
                vec![float(&[1, 8, 9, 2])],
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
                    floats(&[4, 6], &numbers(Shape::known(&[24]), 2).floats()),
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
            "16-bit sum",
            one_operator(
                B::ADD,
                2,
                Add { activation: Activation::RELU, pot_scale_int16: false }.into(),
                vec![byte(Stored::INT16, &[2, 8], 0.0001, 0), byte(Stored::INT16, &[8], 0.0003, 0)],
                vec![byte(Stored::INT16, &[2, 8], 0.0002, 0)],
            ),
        ),
        (
            "16-bit matrix with a 64-bit bias",
            one_operator(
                B::FULLY_CONNECTED,
                7,
                FullyConnected::default().into(),
                vec![
                    byte(Stored::INT16, &[2, 4], 0.0005, 0),
                    on(bytes(INT8, &[3, 4], &[1, -2, 3, -4, 50, 6, -70, 8, 9, 10, 11, 127]), &[0.02], 0, 0),
                    on(longs(&[3], &[1000, -2000, 0]), &[0.0005 * 0.02], 0, 0),
                ],
                vec![byte(Stored::INT16, &[2, 3], 0.001, 0)],
            ),
        ),
        (
            "16-bit convolution with a scale for each channel",
            one_operator(
                B::CONV_2D,
                4,
                Conv2D { padding: Padding::VALID, stride_w: 1, stride_h: 1, ..Conv2D::default() }.into(),
                vec![
                    byte(Stored::INT16, &[1, 3, 3, 2], 0.0005, 0),
                    on(
                        bytes(INT8, &[2, 2, 2, 2], &[1, 20, -3, 4, -50, 6, 70, 8, 9, -10, 11, 12, 127, 14, -15, 16]),
                        &[0.02, 0.01],
                        0,
                        0,
                    ),
                    on(longs(&[2], &[1000, -2000]), &[0.0005 * 0.02, 0.0005 * 0.01], 0, 0),
                ],
                vec![byte(Stored::INT16, &[1, 2, 2, 2], 0.002, 0)],
            ),
        ),
        (
            "unsigned sum with a limit",
            one_operator(
                B::ADD,
                1,
                Add { activation: Activation::RELU6, pot_scale_int16: false }.into(),
                vec![byte(UINT8, &[2, 8], 0.02, 10), byte(UINT8, &[2, 8], 0.05, 128)],
                vec![byte(UINT8, &[2, 8], 0.04, 30)],
            ),
        ),
        (
            "unsigned softmax",
            one_operator(
                B::SOFTMAX,
                1,
                Softmax { beta: 1.0 }.into(),
                vec![byte(UINT8, &[2, 8], 0.05, 128)],
                vec![byte(UINT8, &[2, 8], 1.0 / 256.0, 0)],
            ),
        ),
        (
            "unsigned sigmoid",
            one_operator(
                B::LOGISTIC,
                1,
                Options::None,
                vec![byte(UINT8, &[2, 8], 0.05, 128)],
                vec![byte(UINT8, &[2, 8], 1.0 / 256.0, 0)],
            ),
        ),
        (
            "biases whose dimension is that of the filter",
            one_operator(
                B::CONV_2D,
                3,
                Conv2D {
                    padding: Padding::SAME,
                    stride_w: 1,
                    stride_h: 1,
                    activation: Activation::RELU6,
                    ..Conv2D::default()
                }
                .into(),
                vec![
                    byte(INT8, &[1, 3, 3, 2], 0.05, 3),
                    on(bytes(INT8, &[2, 1, 1, 2], &[127, -20, -3, 64]), &[0.02, 0.01], 0, 0),
                    on(ints(&[2], &[100, -200]), &[0.05 * 0.02, 0.05 * 0.01], 0, 0),
                ],
                vec![byte(INT8, &[1, 3, 3, 2], 6.0 / 255.0, -128)],
            ),
        ),
        ("mirrored beyond the edge", symmetric_pad(&[3, 4], &[2, 3, 0, 4], &[8, 8])),
        (
            "weights of four bits",
            one_operator(
                B::FULLY_CONNECTED,
                6,
                FullyConnected::default().into(),
                vec![
                    byte(INT8, &[2, 4], 0.05, 3),
                    on(bytes(Stored::INT4, &[2, 4], &[0x21, -0x2d, 0x70, 0x15]), &[0.1, 0.2], 0, 0),
                    on(ints(&[2], &[100, -200]), &[0.05 * 0.1, 0.05 * 0.2], 0, 0),
                ],
                vec![byte(INT8, &[2, 2], 0.05, -3)],
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

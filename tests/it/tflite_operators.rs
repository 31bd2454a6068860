//! Handmade TFLite models of operators that qcc does not write.

use bytes::Bytes;
use qcc_formats::tflite::{
    Activation, Add, Bucketize, BuiltinOperator as B, Conv3D, FakeQuant, FurtherOptions, LocalResponseNorm,
    Model as Tables, Operator, OperatorCode, Options, Padding, Pool2D, ReverseSequence, StablehloPad,
    StablehloReduceWindow, TensorType as Stored, Unique,
};
#[cfg(feature = "oracles")]
use qcc_formats::tflite::{BidirectionalLstm, BidirectionalRnn, LstmCell, Rnn};

#[cfg(feature = "oracles")]
use crate::tflite_models::kept;
use crate::tflite_models::{Part, changed, entry, float, floats, ints, model_of, noise, one_operator};

/// One operator, version 1.
fn operator(code: B, options: impl Into<Options>, operands: Vec<Part>, results: Vec<Part>) -> Bytes {
    one_operator(code, 1, options.into(), operands, results)
}

fn integers(dims: &[i32]) -> Part {
    (entry(Stored::INT32, dims), None)
}

fn scalar(value: f32) -> Part {
    floats(&[], &[value])
}

/// Boxes of two groups that overlap, their scores, and the limits: the number of boxes, the IoU and the score.
fn boxes() -> Vec<Part> {
    let corners = [
        [0.0, 0.0, 1.0, 1.0],
        [0.0, 0.1, 1.0, 1.1],
        [0.0, 0.4, 1.0, 1.4],
        [5.0, 5.0, 6.0, 6.0],
        [5.0, 6.0, 6.0, 5.05],
        [9.0, 9.0, 9.5, 9.5],
    ];
    let scores = [0.9, 0.95, 0.6, 0.3, 0.5, 0.05];
    let corners = floats(&[6, 4], corners.as_flattened());
    vec![corners, floats(&[6], &scores), ints(&[], &[5]), scalar(0.5), scalar(0.1)]
}

fn volume(stride: [i32; 3], padding: Padding) -> Options {
    let [stride_d, stride_h, stride_w] = stride;
    Conv3D { padding, stride_d, stride_h, stride_w, activation: Activation::RELU, ..Conv3D::default() }.into()
}

fn weights(dims: &[i32], seed: u64) -> Part {
    floats(dims, &noise(dims, seed))
}

/// Rows of segments, reduced.
fn segments(code: B) -> Bytes {
    let operands = vec![float(&[5, 2]), ints(&[5], &[2, -1, 0, 2, 0]), ints(&[], &[4])];
    operator(code, Options::None, operands, vec![float(&[4, 2])])
}

/// An operator of StableHLO, whose options are in the second union.
fn stablehlo(code: B, further_options: FurtherOptions, operands: Vec<Part>, result: Part) -> Bytes {
    let operator = Operator { further_options, ..Operator::default() };
    let operands = operands.into_iter().map(Some).collect();
    model_of(OperatorCode::builtin(code, 1), operator, operands, vec![result])
}

/// Sums of windows of an axis that overlap, whose elements are apart.
fn window_sums() -> Bytes {
    let options = StablehloReduceWindow {
        window_dimensions: vec![1, 3],
        window_strides: vec![1, 2],
        base_dilations: vec![1, 2],
        window_dilations: vec![1, 2],
        padding: vec![0, 0, 2, 1],
        body: 1,
    };
    let operands = vec![float(&[2, 5]), scalar(0.0)];
    let options = FurtherOptions::StablehloReduceWindow(options);
    let model = stablehlo(B::STABLEHLO_REDUCE_WINDOW, options, operands, float(&[2, 4]));
    let sum = one_operator(B::ADD, 1, Add::default().into(), vec![float(&[]), float(&[])], vec![float(&[])]);
    changed(&model, |tables| {
        let mut sum = Tables::read(&sum).unwrap();
        let mut body = sum.subgraphs.swap_remove(0);
        body.operators[0].opcode_index = tables.operator_codes.len() as u32;
        tables.operator_codes.append(&mut sum.operator_codes);
        tables.subgraphs.push(body);
    })
}

pub(crate) fn operators() -> Vec<(&'static str, Bytes)> {
    let none = || Options::None;
    let lengths = || ints(&[3], &[4, 1, 2]);
    let tall = || vec![float(&[2, 4, 3]), float(&[2, 3])];
    let wide = || vec![float(&[2, 3, 4]), float(&[2, 3])];
    let pool = Pool2D {
        padding: Padding::SAME,
        stride_w: 2,
        stride_h: 1,
        filter_width: 3,
        filter_height: 2,
        activation: Activation::RELU6,
    };
    let norm = LocalResponseNorm { radius: 2, bias: 1.5, alpha: 0.3, beta: 0.75 };
    let fake = |num_bits| FakeQuant { min: -0.7, max: 1.1, num_bits, narrow_range: false };
    let mut soft = boxes();
    soft.push(scalar(0.0));
    vec![
        (
            "buckets",
            operator(
                B::BUCKETIZE,
                Bucketize { boundaries: vec![-0.5, 0.0, 0.4] },
                vec![float(&[3, 4])],
                vec![integers(&[3, 4])],
            ),
        ),
        (
            "shift to the right",
            operator(
                B::RIGHT_SHIFT,
                none(),
                vec![ints(&[3, 2], &[100, -100, 7, -1, i32::MAX, i32::MIN]), integers(&[2])],
                vec![integers(&[3, 2])],
            ),
        ),
        (
            "sequences in reverse order",
            operator(
                B::REVERSE_SEQUENCE,
                ReverseSequence { seq_dim: 0, batch_dim: 2 },
                vec![float(&[4, 2, 3]), lengths()],
                vec![float(&[4, 2, 3])],
            ),
        ),
        ("diagonal matrices", operator(B::MATRIX_DIAG, none(), vec![float(&[2, 3])], vec![float(&[2, 3, 3])])),
        ("diagonals of tall matrices", operator(B::MATRIX_SET_DIAG, none(), tall(), vec![float(&[2, 4, 3])])),
        ("diagonals of wide matrices", operator(B::MATRIX_SET_DIAG, none(), wide(), vec![float(&[2, 3, 4])])),
        (
            "sparse to dense",
            operator(
                B::SPARSE_TO_DENSE,
                none(),
                vec![ints(&[3, 2], &[0, 1, 2, 0, 2, 3]), ints(&[2], &[3, 4]), float(&[3]), scalar(-1.0)],
                vec![float(&[3, 4])],
            ),
        ),
        (
            "different elements",
            operator(
                B::UNIQUE,
                Unique::default(),
                vec![ints(&[7], &[3, 5, 3, -1, 5, 5, 9])],
                vec![integers(&[4]), integers(&[7])],
            ),
        ),
        ("boxes", operator(B::NON_MAX_SUPPRESSION_V4, none(), boxes(), vec![integers(&[5]), integers(&[])])),
        (
            "boxes with scores",
            operator(B::NON_MAX_SUPPRESSION_V5, none(), soft, vec![integers(&[5]), float(&[5]), integers(&[])]),
        ),
        (
            "sums of segments",
            operator(B::SEGMENT_SUM, none(), vec![float(&[5, 2]), ints(&[5], &[0, 0, 1, 2, 2])], vec![float(&[3, 2])]),
        ),
        ("sums of segments in any order", segments(B::UNSORTED_SEGMENT_SUM)),
        ("products of segments", segments(B::UNSORTED_SEGMENT_PROD)),
        ("largest of segments", segments(B::UNSORTED_SEGMENT_MAX)),
        ("least of segments", segments(B::UNSORTED_SEGMENT_MIN)),
        (
            "local response normalization",
            operator(B::LOCAL_RESPONSE_NORMALIZATION, norm, vec![float(&[2, 3, 2, 6])], vec![float(&[2, 3, 2, 6])]),
        ),
        ("root of mean squares", operator(B::L2_POOL_2D, pool, vec![float(&[1, 4, 5, 2])], vec![float(&[1, 4, 3, 2])])),
        (
            "convolution of volumes",
            operator(
                B::CONV_3D,
                volume([2, 1, 2], Padding::SAME),
                vec![float(&[1, 4, 3, 5, 2]), weights(&[2, 3, 2, 2, 3], 4), weights(&[3], 5)],
                vec![float(&[1, 2, 3, 3, 3])],
            ),
        ),
        (
            "transposed convolution of volumes",
            operator(
                B::CONV_3D_TRANSPOSE,
                volume([2, 1, 2], Padding::SAME),
                vec![ints(&[5], &[1, 4, 3, 6, 3]), weights(&[2, 3, 3, 3, 2], 6), float(&[1, 2, 3, 3, 2])],
                vec![float(&[1, 4, 3, 6, 3])],
            ),
        ),
        (
            "padding around elements",
            stablehlo(
                B::STABLEHLO_PAD,
                FurtherOptions::StablehloPad(StablehloPad {
                    edge_padding_low: vec![1, -1],
                    edge_padding_high: vec![0, 2],
                    interior_padding: vec![2, 1],
                }),
                vec![float(&[2, 3]), scalar(0.5)],
                float(&[5, 6]),
            ),
        ),
        ("sums of windows", window_sums()),
        ("fake quantization", operator(B::FAKE_QUANT, fake(8), vec![float(&[2, 9])], vec![float(&[2, 9])])),
        ("fake quantization of few bits", operator(B::FAKE_QUANT, fake(4), vec![float(&[2, 9])], vec![float(&[2, 9])])),
    ]
}

/// Recurrent layers of 2 units whose states are zero at first, the shape of the input, and the number of states.
#[cfg(feature = "oracles")]
pub(crate) fn recurrent() -> Vec<(&'static str, Bytes, Vec<usize>, usize)> {
    let state = || kept(float(&[1, 2]));
    let cell = |seed| vec![weights(&[2, 3], seed), weights(&[2, 2], seed + 1), weights(&[2], seed + 2)];
    // The four gates' weights, recurrent weights and biases.
    let gates = |seed: u64| -> Vec<Part> {
        let of = |dims: &'static [i32], first: u64| (0..4).map(move |gate| weights(dims, seed + first + gate));
        of(&[2, 3], 0).chain(of(&[2, 2], 10)).chain(of(&[2], 20)).collect()
    };
    let step = [vec![float(&[1, 3])], cell(1), vec![state()]].concat();
    let both = [vec![float(&[1, 4, 3])], cell(1), vec![state()], cell(11), vec![state()]].concat();
    let merged =
        |merge_outputs| BidirectionalRnn { activation: Activation::TANH, merge_outputs, ..BidirectionalRnn::default() };
    let lstm = LstmCell { activation: Activation::TANH, ..LstmCell::default() };
    let lstm = operator(
        B::LSTM,
        lstm,
        [vec![float(&[1, 3])], gates(1), vec![state(), state()]].concat(),
        vec![float(&[1, 2])],
    );
    // No peepholes, projection or normalization.
    let lstm = changed(&lstm, |tables| {
        let inputs = &mut tables.subgraphs[0].operators[0].inputs;
        inputs.splice(9..9, [-1; 3]);
        inputs.splice(16..16, [-1; 2]);
        inputs.extend([-1; 4]);
    });
    let options = BidirectionalLstm { activation: Activation::TANH, time_major: false, ..BidirectionalLstm::default() };
    let states = vec![state(), state(), state(), state()];
    let operands = [vec![float(&[1, 4, 3])], gates(1), gates(51), states].concat();
    let two = operator(B::BIDIRECTIONAL_SEQUENCE_LSTM, options, operands, vec![float(&[1, 4, 2]), float(&[1, 4, 2])]);
    let two = changed(&two, |tables| {
        let inputs = &mut tables.subgraphs[0].operators[0].inputs;
        for behind in [0, 17] {
            inputs.splice(9 + behind..9 + behind, [-1; 3]);
            inputs.splice(16 + behind..16 + behind, [-1; 2]);
        }
        inputs.extend([-1; 9]);
    });
    // Nor auxiliary inputs.
    let without_auxiliary =
        |model: Bytes| changed(&model, |tables| tables.subgraphs[0].operators[0].inputs.extend([-1; 3]));
    vec![
        (
            "RNN",
            operator(B::RNN, Rnn { activation: Activation::RELU, ..Rnn::default() }, step, vec![float(&[1, 2])]),
            vec![1, 3],
            1,
        ),
        ("LSTM", lstm, vec![1, 3], 2),
        (
            "RNN of two directions",
            without_auxiliary(operator(
                B::BIDIRECTIONAL_SEQUENCE_RNN,
                merged(false),
                both.clone(),
                vec![float(&[1, 4, 2]); 2],
            )),
            vec![1, 4, 3],
            2,
        ),
        (
            "merged RNN of two directions",
            without_auxiliary(operator(B::BIDIRECTIONAL_SEQUENCE_RNN, merged(true), both, vec![float(&[1, 4, 4])])),
            vec![1, 4, 3],
            2,
        ),
        ("LSTM of two directions", two, vec![1, 4, 3], 4),
    ]
}

//! The attributes of operators.

use super::codes::{Activation, LstmKernel, MirrorPadMode, Padding, TensorType};
use super::table::table;

table! {
    /// Of CONV_2D.
    Conv2D {
        0 padding: Padding,
        1 stride_w: i32,
        2 stride_h: i32,
        3 activation: Activation,
        4 dilation_w: i32 = 1,
        5 dilation_h: i32 = 1,
        6 bias: TensorType,
    }
}

table! {
    /// Of DEPTHWISE_CONV_2D.
    DepthwiseConv2D {
        0 padding: Padding,
        1 stride_w: i32,
        2 stride_h: i32,
        3 depth_multiplier: i32,
        4 activation: Activation,
        5 dilation_w: i32 = 1,
        6 dilation_h: i32 = 1,
    }
}

table! {
    /// Of TRANSPOSE_CONV.
    TransposeConv {
        0 padding: Padding,
        1 stride_w: i32,
        2 stride_h: i32,
        3 activation: Activation,
        4 bias: TensorType,
    }
}

table! {
    /// Of MAX_POOL_2D and AVERAGE_POOL_2D.
    Pool2D {
        0 padding: Padding,
        1 stride_w: i32,
        2 stride_h: i32,
        3 filter_width: i32,
        4 filter_height: i32,
        5 activation: Activation,
    }
}

table! {
    /// Of FULLY_CONNECTED.
    FullyConnected {
        0 activation: Activation,
        1 weights_format: i8,
        2 keep_num_dims: bool,
        3 asymmetric_quantize_inputs: bool,
        4 bias: TensorType,
    }
}

table! {
    /// Of BATCH_MATMUL.
    BatchMatMul {
        0 adj_x: bool,
        1 adj_y: bool,
        2 asymmetric_quantize_inputs: bool,
    }
}

table! {
    /// Of SOFTMAX.
    Softmax {
        0 beta: f32,
    }
}

table! {
    /// Of CONCATENATION.
    Concatenation {
        0 axis: i32,
        1 activation: Activation,
    }
}

table! {
    /// Of ADD.
    Add {
        0 activation: Activation,
        1 pot_scale_int16: bool = true,
    }
}

table! {
    /// Of SUB.
    Sub {
        0 activation: Activation,
        1 pot_scale_int16: bool = true,
    }
}

table! {
    /// Of MUL.
    Mul {
        0 activation: Activation,
    }
}

table! {
    /// Of DIV.
    Div {
        0 activation: Activation,
    }
}

table! {
    /// Of RESHAPE.
    Reshape {
        0 new_shape: Vec<i32>,
    }
}

table! {
    /// Of SQUEEZE.
    Squeeze {
        0 squeeze_dims: Vec<i32>,
    }
}

table! {
    /// Of RESIZE_BILINEAR.
    ResizeBilinear {
        2 align_corners: bool,
        3 half_pixel_centers: bool,
    }
}

table! {
    /// Of RESIZE_NEAREST_NEIGHBOR.
    ResizeNearestNeighbor {
        0 align_corners: bool,
        1 half_pixel_centers: bool,
    }
}

table! {
    /// Of SPACE_TO_DEPTH.
    SpaceToDepth {
        0 block_size: i32,
    }
}

table! {
    /// Of DEPTH_TO_SPACE.
    DepthToSpace {
        0 block_size: i32,
    }
}

table! {
    /// Of GATHER.
    Gather {
        0 axis: i32,
        1 batch_dims: i32,
    }
}

table! {
    /// Of MEAN, SUM and the REDUCE operators.
    Reducer {
        0 keep_dims: bool,
    }
}

table! {
    /// Of STRIDED_SLICE.
    StridedSlice {
        0 begin_mask: i32,
        1 end_mask: i32,
        2 ellipsis_mask: i32,
        3 new_axis_mask: i32,
        4 shrink_axis_mask: i32,
        5 offset: bool,
    }
}

table! {
    /// Of SPLIT.
    Split {
        0 num_splits: i32,
    }
}

table! {
    /// Of SPLIT_V.
    SplitV {
        0 num_splits: i32,
    }
}

table! {
    /// Of CAST.
    Cast {
        0 from: TensorType,
        1 to: TensorType,
    }
}

table! {
    /// Of ARG_MAX.
    ArgMax {
        0 output: TensorType,
    }
}

table! {
    /// Of ARG_MIN.
    ArgMin {
        0 output: TensorType,
    }
}

table! {
    /// Of SHAPE.
    ShapeOf {
        0 output: TensorType,
    }
}

table! {
    /// Of LEAKY_RELU.
    LeakyRelu {
        0 alpha: f32,
    }
}

table! {
    /// Of MIRROR_PAD.
    MirrorPad {
        0 mode: MirrorPadMode,
    }
}

table! {
    /// Of CUMSUM.
    CumSum {
        0 exclusive: bool,
        1 reverse: bool,
    }
}

table! {
    /// Of L2_NORMALIZATION.
    L2Norm {
        0 activation: Activation,
    }
}

table! {
    /// Of PACK.
    Pack {
        0 values_count: i32,
        1 axis: i32,
    }
}

table! {
    /// Of UNPACK.
    Unpack {
        0 num: i32,
        1 axis: i32,
    }
}

table! {
    /// Of ONE_HOT.
    OneHot {
        0 axis: i32,
    }
}

table! {
    /// Of GELU.
    Gelu {
        0 approximate: bool,
    }
}

table! {
    /// Options of SVDF.
    Svdf {
        0 rank: i32,
        1 activation: Activation,
        2 asymmetric_quantize_inputs: bool,
    }
}

table! {
    /// Options of UNIDIRECTIONAL_SEQUENCE_LSTM.
    SequenceLstm {
        0 activation: Activation,
        1 cell_clip: f32,
        2 proj_clip: f32,
        3 time_major: bool,
        4 asymmetric_quantize_inputs: bool,
        5 diagonal_recurrent_tensors: bool,
    }
}

table! {
    /// Options of UNIDIRECTIONAL_SEQUENCE_RNN.
    SequenceRnn {
        0 time_major: bool,
        1 activation: Activation,
        2 asymmetric_quantize_inputs: bool,
    }
}

table! {
    /// Of LOCAL_RESPONSE_NORMALIZATION.
    LocalResponseNorm {
        0 radius: i32,
        1 bias: f32,
        2 alpha: f32,
        3 beta: f32,
    }
}

table! {
    /// Of FAKE_QUANT.
    FakeQuant {
        0 min: f32,
        1 max: f32,
        2 num_bits: i32,
        3 narrow_range: bool,
    }
}

table! {
    /// Of REVERSE_SEQUENCE.
    ReverseSequence {
        0 seq_dim: i32,
        1 batch_dim: i32,
    }
}

table! {
    /// Of BUCKETIZE.
    Bucketize {
        0 boundaries: Vec<f32>,
    }
}

table! {
    /// Of UNIQUE.
    Unique {
        0 output: TensorType = TensorType::INT32,
    }
}

table! {
    /// Of CONV_3D and CONV_3D_TRANSPOSE.
    Conv3D {
        0 padding: Padding,
        1 stride_d: i32,
        2 stride_w: i32,
        3 stride_h: i32,
        4 activation: Activation,
        5 dilation_d: i32 = 1,
        6 dilation_w: i32 = 1,
        7 dilation_h: i32 = 1,
    }
}

table! {
    /// Of RNN.
    Rnn {
        0 activation: Activation,
        1 asymmetric_quantize_inputs: bool,
    }
}

table! {
    /// Of LSTM.
    LstmCell {
        0 activation: Activation,
        1 cell_clip: f32,
        2 proj_clip: f32,
        3 kernel_type: LstmKernel,
        4 asymmetric_quantize_inputs: bool,
    }
}

table! {
    /// Of BIDIRECTIONAL_SEQUENCE_LSTM.
    BidirectionalLstm {
        0 activation: Activation,
        1 cell_clip: f32,
        2 proj_clip: f32,
        3 merge_outputs: bool,
        4 time_major: bool = true,
        5 asymmetric_quantize_inputs: bool,
    }
}

table! {
    /// Of BIDIRECTIONAL_SEQUENCE_RNN.
    BidirectionalRnn {
        0 time_major: bool,
        1 activation: Activation,
        2 merge_outputs: bool,
        3 asymmetric_quantize_inputs: bool,
    }
}

table! {
    /// Options of WHILE: the subgraphs of its condition and its body.
    While {
        0 cond: i32,
        1 body: i32,
    }
}

table! {
    /// Options of IF: subgraphs.
    If {
        0 then_branch: i32,
        1 else_branch: i32,
    }
}

table! {
    /// Options of CALL_ONCE: the subgraph that runs before the first run.
    CallOnce {
        0 subgraph: i32,
    }
}

table! {
    /// Options of VAR_HANDLE: which variable it is.
    VarHandle {
        0 container: String,
        1 shared_name: String,
    }
}

table! {
    /// Options of STABLEHLO_COMPOSITE: the name of the composite, and the subgraph of its decomposition.
    Composite {
        0 name: String,
        1 decomposition: i32,
        2 composite_attributes: Vec<u8>,
    }
}

table! {
    /// Options of STABLEHLO_PAD, for each axis; the inner padding is between elements.
    StablehloPad {
        0 edge_padding_low: Vec<i64>,
        1 edge_padding_high: Vec<i64>,
        2 interior_padding: Vec<i64>,
    }
}

table! {
    /// Options of STABLEHLO_REDUCE_WINDOW, for each axis: `padding` has two numbers for each. The body is a subgraph.
    StablehloReduceWindow {
        0 window_dimensions: Vec<i64>,
        1 window_strides: Vec<i64>,
        2 base_dilations: Vec<i64>,
        3 window_dilations: Vec<i64>,
        4 padding: Vec<i64>,
        5 body: i32,
    }
}

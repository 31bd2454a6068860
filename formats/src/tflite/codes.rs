//! The enumerations of the schema, as numbers with names: a file may contain numbers that have no name here.

use super::table::{Builder, Field, Place, ReadError, Row};

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident: $repr:ty { $($code:ident = $value:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $repr);

        #[expect(missing_docs, reason = "the names are the schema's own")]
        impl $name {
            $(pub const $code: $name = $name($value);)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($value => f.write_str(stringify!($code)),)*
                    other => std::fmt::Display::fmt(&other, f),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl Field for $name {
            fn store(&self, b: &mut Builder, slot: u16, row: &mut Row) {
                self.0.store(b, slot, row);
            }

            fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
                Ok(Field::load(t, slot)?.map($name))
            }
        }
    };
}

codes! {
    /// Element type of a tensor.
    TensorType: i8 {
        FLOAT32 = 0, FLOAT16 = 1, INT32 = 2, UINT8 = 3, INT64 = 4, STRING = 5, BOOL = 6, INT16 = 7, COMPLEX64 = 8,
        INT8 = 9, FLOAT64 = 10, COMPLEX128 = 11, UINT64 = 12, RESOURCE = 13, VARIANT = 14, UINT32 = 15, UINT16 = 16,
        INT4 = 17, BFLOAT16 = 18, INT2 = 19, UINT4 = 20,
    }
}

impl TensorType {
    /// Bits of one element, where it has a fixed width.
    pub fn bits(self) -> Option<usize> {
        Some(match self {
            TensorType::INT2 => 2,
            TensorType::INT4 | TensorType::UINT4 => 4,
            TensorType::INT8 | TensorType::UINT8 | TensorType::BOOL => 8,
            TensorType::INT16 | TensorType::UINT16 | TensorType::FLOAT16 | TensorType::BFLOAT16 => 16,
            TensorType::INT32 | TensorType::UINT32 | TensorType::FLOAT32 => 32,
            TensorType::INT64 | TensorType::UINT64 | TensorType::FLOAT64 | TensorType::COMPLEX64 => 64,
            TensorType::COMPLEX128 => 128,
            _ => return None,
        })
    }
}

codes! {
    /// Padding of windowed operators.
    Padding: i8 { SAME = 0, VALID = 1 }
}

codes! {
    /// Activation function that is fused into an operator.
    Activation: i8 { NONE = 0, RELU = 1, RELU_N1_TO_1 = 2, RELU6 = 3, TANH = 4, SIGN_BIT = 5 }
}

codes! {
    /// Which entries of a dimension a sparse tensor stores: all, or those that are listed.
    DimensionType: i8 { DENSE = 0, SPARSE_CSR = 1 }
}

codes! {
    /// How the indices of a sparse dimension are stored.
    IndexVectorType: u8 { NONE = 0, INT32_VECTOR = 1, UINT16_VECTOR = 2, UINT8_VECTOR = 3 }
}

codes! {
    /// The operands that an LSTM has: `BASIC` has one weight for all gates.
    LstmKernel: i8 { FULL = 0, BASIC = 1 }
}

codes! {
    /// Mode of MIRROR_PAD: `REFLECT` does not repeat the edge.
    MirrorPadMode: i8 { REFLECT = 0, SYMMETRIC = 1 }
}

codes! {
    /// Built-in operators.
    BuiltinOperator: i32 {
        ADD = 0, AVERAGE_POOL_2D = 1, CONCATENATION = 2, CONV_2D = 3, DEPTHWISE_CONV_2D = 4, DEPTH_TO_SPACE = 5,
        DEQUANTIZE = 6, EMBEDDING_LOOKUP = 7, FLOOR = 8, FULLY_CONNECTED = 9, HASHTABLE_LOOKUP = 10,
        L2_NORMALIZATION = 11, L2_POOL_2D = 12, LOCAL_RESPONSE_NORMALIZATION = 13, LOGISTIC = 14, LSH_PROJECTION = 15,
        LSTM = 16, MAX_POOL_2D = 17, MUL = 18, RELU = 19, RELU_N1_TO_1 = 20, RELU6 = 21, RESHAPE = 22,
        RESIZE_BILINEAR = 23, RNN = 24, SOFTMAX = 25, SPACE_TO_DEPTH = 26, SVDF = 27, TANH = 28,
        CONCAT_EMBEDDINGS = 29, SKIP_GRAM = 30, CALL = 31, CUSTOM = 32, EMBEDDING_LOOKUP_SPARSE = 33, PAD = 34,
        UNIDIRECTIONAL_SEQUENCE_RNN = 35, GATHER = 36, BATCH_TO_SPACE_ND = 37, SPACE_TO_BATCH_ND = 38, TRANSPOSE = 39,
        MEAN = 40, SUB = 41, DIV = 42, SQUEEZE = 43, UNIDIRECTIONAL_SEQUENCE_LSTM = 44, STRIDED_SLICE = 45,
        BIDIRECTIONAL_SEQUENCE_RNN = 46, EXP = 47, TOPK_V2 = 48, SPLIT = 49, LOG_SOFTMAX = 50, DELEGATE = 51,
        BIDIRECTIONAL_SEQUENCE_LSTM = 52, CAST = 53, PRELU = 54, MAXIMUM = 55, ARG_MAX = 56, MINIMUM = 57, LESS = 58,
        NEG = 59, PADV2 = 60, GREATER = 61, GREATER_EQUAL = 62, LESS_EQUAL = 63, SELECT = 64, SLICE = 65, SIN = 66,
        TRANSPOSE_CONV = 67, SPARSE_TO_DENSE = 68, TILE = 69, EXPAND_DIMS = 70, EQUAL = 71, NOT_EQUAL = 72, LOG = 73,
        SUM = 74, SQRT = 75, RSQRT = 76, SHAPE = 77, POW = 78, ARG_MIN = 79, FAKE_QUANT = 80, REDUCE_PROD = 81,
        REDUCE_MAX = 82, PACK = 83, LOGICAL_OR = 84, ONE_HOT = 85, LOGICAL_AND = 86, LOGICAL_NOT = 87, UNPACK = 88,
        REDUCE_MIN = 89, FLOOR_DIV = 90, REDUCE_ANY = 91, SQUARE = 92, ZEROS_LIKE = 93, FILL = 94, FLOOR_MOD = 95,
        RANGE = 96, RESIZE_NEAREST_NEIGHBOR = 97, LEAKY_RELU = 98, SQUARED_DIFFERENCE = 99, MIRROR_PAD = 100,
        ABS = 101, SPLIT_V = 102, UNIQUE = 103, CEIL = 104, REVERSE_V2 = 105, ADD_N = 106, GATHER_ND = 107, COS = 108,
        WHERE = 109, RANK = 110, ELU = 111, REVERSE_SEQUENCE = 112, MATRIX_DIAG = 113, QUANTIZE = 114,
        MATRIX_SET_DIAG = 115, ROUND = 116, HARD_SWISH = 117, IF = 118, WHILE = 119, NON_MAX_SUPPRESSION_V4 = 120,
        NON_MAX_SUPPRESSION_V5 = 121, SCATTER_ND = 122, SELECT_V2 = 123, DENSIFY = 124, SEGMENT_SUM = 125,
        BATCH_MATMUL = 126, CUMSUM = 128, CALL_ONCE = 129, BROADCAST_TO = 130, RFFT2D = 131, CONV_3D = 132,
        IMAG = 133, REAL = 134, COMPLEX_ABS = 135, REDUCE_ALL = 140, CONV_3D_TRANSPOSE = 141, VAR_HANDLE = 142,
        READ_VARIABLE = 143, ASSIGN_VARIABLE = 144, BROADCAST_ARGS = 145, RANDOM_STANDARD_NORMAL = 146,
        BUCKETIZE = 147, RANDOM_UNIFORM = 148, MULTINOMIAL = 149, GELU = 150, DYNAMIC_UPDATE_SLICE = 151,
        RELU_0_TO_1 = 152, UNSORTED_SEGMENT_PROD = 153, UNSORTED_SEGMENT_MAX = 154, UNSORTED_SEGMENT_SUM = 155,
        ATAN2 = 156, UNSORTED_SEGMENT_MIN = 157, SIGN = 158, BITCAST = 159, BITWISE_XOR = 160, RIGHT_SHIFT = 161,
        STABLEHLO_PAD = 195, STABLEHLO_REDUCE_WINDOW = 198, DILATE = 203,
        REDUCE_WINDOW = 205, STABLEHLO_COMPOSITE = 206,
    }
}

codes! {
    /// Type of an operator's options.
    OptionsType: u8 {
        NONE = 0, CONV_2D = 1, DEPTHWISE_CONV_2D = 2, POOL_2D = 5, SVDF = 6, RNN = 7, FULLY_CONNECTED = 8, SOFTMAX = 9,
        CONCATENATION = 10, ADD = 11, L2_NORM = 12, LOCAL_RESPONSE_NORMALIZATION = 13, LSTM = 14, RESIZE_BILINEAR = 15, RESHAPE = 17, SPACE_TO_DEPTH = 19, MUL = 21, PAD = 22,
        GATHER = 23, TRANSPOSE = 26, REDUCER = 27, SUB = 28, DIV = 29, SQUEEZE = 30, SEQUENCE_RNN = 31, STRIDED_SLICE = 32, EXP = 33,
        TOPK_V2 = 34, SPLIT = 35, LOG_SOFTMAX = 36, CAST = 37, DEQUANTIZE = 38, MAXIMUM_MINIMUM = 39, ARG_MAX = 40,
        LESS = 41, NEG = 42, PADV2 = 43, GREATER = 44, GREATER_EQUAL = 45, LESS_EQUAL = 46, SELECT = 47, SLICE = 48,
        TRANSPOSE_CONV = 49, TILE = 51, EXPAND_DIMS = 52, EQUAL = 53, NOT_EQUAL = 54, SHAPE = 55, POW = 56, ARG_MIN = 57, FAKE_QUANT = 58,
        PACK = 59, LOGICAL_OR = 60, ONE_HOT = 61, LOGICAL_AND = 62, LOGICAL_NOT = 63, UNPACK = 64,
        FLOOR_DIV = 65, SQUARE = 66, FILL = 68, BIDIRECTIONAL_SEQUENCE_LSTM = 69, BIDIRECTIONAL_SEQUENCE_RNN = 70, UNIDIRECTIONAL_SEQUENCE_LSTM = 71, FLOOR_MOD = 72, RANGE = 73, RESIZE_NEAREST_NEIGHBOR = 74, LEAKY_RELU = 75, SQUARED_DIFFERENCE = 76, MIRROR_PAD = 77, ABS = 78,
        SPLIT_V = 79, UNIQUE = 80, REVERSE_V2 = 81, GATHER_ND = 83, COS = 84, WHERE = 85, REVERSE_SEQUENCE = 87, QUANTIZE = 89, HARD_SWISH = 91, IF = 92, WHILE = 93, DEPTH_TO_SPACE = 94, NON_MAX_SUPPRESSION_V4 = 95,
        SCATTER_ND = 97, SELECT_V2 = 98, BATCH_MATMUL = 101, CUMSUM = 102, CALL_ONCE = 103, BROADCAST_TO = 104, CONV_3D = 106, VAR_HANDLE = 111, BUCKETIZE = 115, GELU = 116, DYNAMIC_UPDATE_SLICE = 117, ATAN2 = 122,
        SIGN = 123, BITWISE_XOR = 125,
    }
}

//! The unions of the attributes of operators.

use super::codes::OptionsType;
use super::options::*;
use super::table::{Builder, Field, Place, ReadError, Row, Stored, Table, union};

union! {
    /// The second union of options, for operators that were added when the first union was full.
    FurtherOptions { StablehloPad = 10, StablehloReduceWindow = 13, Composite = 21 }
}

macro_rules! options {
    ($($name:ident = $kind:ident),* $(,)?) => {
        /// The attributes of one operator.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[expect(missing_docs, reason = "each variant is documented on the struct it holds")]
        pub enum Options {
            /// The operator has none.
            #[default]
            None,
            /// Options without fields; when read, also options whose fields are not declared here.
            Other(OptionsType),
            $($name($name)),*
        }

        impl Options {
            /// The type of the options.
            pub fn kind(&self) -> OptionsType {
                match self {
                    Options::None => OptionsType::NONE,
                    Options::Other(kind) => *kind,
                    $(Options::$name(_) => OptionsType::$kind),*
                }
            }
        }

        $(impl From<$name> for Options {
            fn from(options: $name) -> Self {
                Options::$name(options)
            }
        })*

        $(impl TryFrom<Options> for $name {
            /// Options of another operator, or none.
            type Error = Options;

            fn try_from(options: Options) -> Result<Self, Options> {
                match options {
                    Options::$name(options) => Ok(options),
                    other => Err(other),
                }
            }
        })*

        // A union takes two slots: its type, then its table.
        impl Field for Options {
            fn store(&self, b: &mut Builder, slot: u16, row: &mut Row) {
                let table = match self {
                    Options::None => return,
                    Options::Other(_) => b.table(Row::new()),
                    $(Options::$name(o) => { let fields = o.store(b); b.table(fields) }),*
                };
                row.push((slot - 1, Stored::Byte(self.kind().0)));
                row.push((slot, Stored::Offset(table)));
            }

            fn load(t: &Place<'_>, slot: u16) -> Result<Option<Self>, ReadError> {
                let (Some(kind), Some(at)) = (OptionsType::load(t, slot - 1)?, t.field(slot)?) else {
                    return Ok(None);
                };
                Ok(Some(match kind {
                    OptionsType::NONE => Options::None,
                    $(OptionsType::$kind => Options::$name($name::load(&t.file.table(at)?)?),)*
                    other => Options::Other(other),
                }))
            }
        }

        impl Options {
            /// The fields by name, as text.
            pub fn fields(&self) -> Vec<(&'static str, String)> {
                match self {
                    Options::None | Options::Other(_) => Vec::new(),
                    $(Options::$name(o) => o.fields()),*
                }
            }
        }
    };
}

options! {
    Conv2D = CONV_2D,
    DepthwiseConv2D = DEPTHWISE_CONV_2D,
    TransposeConv = TRANSPOSE_CONV,
    Pool2D = POOL_2D,
    FullyConnected = FULLY_CONNECTED,
    BatchMatMul = BATCH_MATMUL,
    Softmax = SOFTMAX,
    Concatenation = CONCATENATION,
    Add = ADD,
    Sub = SUB,
    Mul = MUL,
    Div = DIV,
    Reshape = RESHAPE,
    Squeeze = SQUEEZE,
    ResizeBilinear = RESIZE_BILINEAR,
    ResizeNearestNeighbor = RESIZE_NEAREST_NEIGHBOR,
    Svdf = SVDF,
    SequenceLstm = UNIDIRECTIONAL_SEQUENCE_LSTM,
    SequenceRnn = SEQUENCE_RNN,
    If = IF,
    While = WHILE,
    SpaceToDepth = SPACE_TO_DEPTH,
    DepthToSpace = DEPTH_TO_SPACE,
    Gather = GATHER,
    Reducer = REDUCER,
    StridedSlice = STRIDED_SLICE,
    Split = SPLIT,
    SplitV = SPLIT_V,
    Cast = CAST,
    ArgMax = ARG_MAX,
    ArgMin = ARG_MIN,
    ShapeOf = SHAPE,
    LeakyRelu = LEAKY_RELU,
    MirrorPad = MIRROR_PAD,
    CumSum = CUMSUM,
    CallOnce = CALL_ONCE,
    VarHandle = VAR_HANDLE,
    L2Norm = L2_NORM,
    Pack = PACK,
    Unpack = UNPACK,
    OneHot = ONE_HOT,
    Gelu = GELU,
    LocalResponseNorm = LOCAL_RESPONSE_NORMALIZATION,
    FakeQuant = FAKE_QUANT,
    ReverseSequence = REVERSE_SEQUENCE,
    Bucketize = BUCKETIZE,
    Unique = UNIQUE,
    Conv3D = CONV_3D,
    Rnn = RNN,
    LstmCell = LSTM,
    BidirectionalLstm = BIDIRECTIONAL_SEQUENCE_LSTM,
    BidirectionalRnn = BIDIRECTIONAL_SEQUENCE_RNN,
}

//! Element types and quantization parameters.

use std::fmt;
use std::sync::Arc;

use half::f16;

/// An element type.
#[derive(Clone, Debug, PartialEq)]
pub enum Elem {
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// A floating-point number stored as a quantized integer.
    Quantized(QuantParams),
}

impl Elem {
    /// Bytes of one stored element.
    pub fn size(&self) -> usize {
        match self {
            Elem::Bool | Elem::I8 | Elem::U8 => 1,
            Elem::I16 | Elem::F16 => 2,
            Elem::I32 | Elem::F32 => 4,
            Elem::I64 => 8,
            Elem::Quantized(g) => g.storage.size(),
        }
    }

    /// The quantization parameters, where the element is quantized.
    pub fn qparams(&self) -> Option<&QuantParams> {
        match self {
            Elem::Quantized(g) => Some(g),
            _ => None,
        }
    }

    /// True for `F32` and `F16`.
    pub fn is_float(&self) -> bool {
        matches!(self, Elem::F32 | Elem::F16)
    }

    /// True for the plain integer types (not `Bool`, not quantized).
    pub fn is_integer(&self) -> bool {
        matches!(self, Elem::I8 | Elem::U8 | Elem::I16 | Elem::I32 | Elem::I64)
    }

    /// The element type after dequantization: `F32` for quantized elements, the same for all others.
    pub fn real(&self) -> Elem {
        match self {
            Elem::Quantized(_) => Elem::F32,
            other => other.clone(),
        }
    }
}

/// The integer type that stores quantized elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StorageType {
    /// 4-bit signed. In a [`Tensor`](super::Tensor) each takes one byte; only files pack them.
    I4,
    /// 8-bit signed.
    I8,
    /// 8-bit unsigned.
    U8,
    /// 16-bit signed.
    I16,
    /// 32-bit signed (biases).
    I32,
}

impl StorageType {
    /// All storage types.
    pub const ALL: [StorageType; 5] =
        [StorageType::I4, StorageType::I8, StorageType::U8, StorageType::I16, StorageType::I32];

    /// Bytes of one element of a tensor.
    pub fn size(self) -> usize {
        match self {
            StorageType::I4 | StorageType::I8 | StorageType::U8 => 1,
            StorageType::I16 => 2,
            StorageType::I32 => 4,
        }
    }

    /// Smallest and largest storable integer.
    pub fn range(self) -> (i32, i32) {
        match self {
            StorageType::I4 => (-8, 7),
            StorageType::I8 => (-128, 127),
            StorageType::U8 => (0, 255),
            StorageType::I16 => (-32768, 32767),
            StorageType::I32 => (i32::MIN, i32::MAX),
        }
    }

    /// The plain integer element type with the same bytes.
    pub fn elem(self) -> Elem {
        match self {
            StorageType::I4 | StorageType::I8 => Elem::I8,
            StorageType::U8 => Elem::U8,
            StorageType::I16 => Elem::I16,
            StorageType::I32 => Elem::I32,
        }
    }
}

/// Quantization parameters: the stored integer `q` represents `scale * (q - zero_point)`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    /// The integer type that stores elements.
    pub storage: StorageType,
    /// Scales and zero point.
    pub map: Affine,
}

/// Scales and zero point of an affine quantization. Scales are positive, finite and normal; those of blocks may be
/// negative.
#[derive(Clone, Debug, PartialEq)]
pub enum Affine {
    /// Per-tensor: one scale and zero point for all elements.
    PerTensor {
        /// Difference between the values of neighbouring integers.
        scale: f32,
        /// The integer that represents 0.0.
        zero_point: i32,
    },
    /// Per-channel: one scale for each index of a logical axis; symmetric (all zero points are 0).
    PerAxis {
        /// Logical axis the scales run along.
        axis: usize,
        /// One scale for each index of `axis`.
        scales: Arc<[f32]>,
    },
    /// Per-block: one scale and zero point for each block of `size` consecutive indices of a logical axis, at each index
    /// of the other axes. Only weights of contractions with float activations are quantized so.
    PerBlock {
        /// Logical axis that is divided into blocks.
        axis: usize,
        /// Indices of a block; the last block may be shorter.
        size: usize,
        /// Scales, row-major, of the tensor's shape with the extent of `axis` divided by `size` and rounded up.
        scales: Arc<[f32]>,
        /// The zero points of the blocks, in the order of the scales; `None` if all are 0.
        zero_points: Option<Arc<[i8]>>,
    },
}

impl QuantParams {
    /// Per-tensor parameters.
    pub fn per_tensor(storage: StorageType, scale: f32, zero_point: i32) -> Self {
        QuantParams { storage, map: Affine::PerTensor { scale, zero_point } }
    }

    /// Symmetric per-channel parameters, with one scale for each index of `axis`.
    pub fn per_axis(storage: StorageType, axis: usize, scales: impl Into<Arc<[f32]>>) -> Self {
        QuantParams { storage, map: Affine::PerAxis { axis, scales: scales.into() } }
    }

    /// Symmetric per-block parameters, with one scale for each `size` indices of `axis`; see [`Affine::PerBlock`].
    pub fn per_block(storage: StorageType, axis: usize, size: usize, scales: impl Into<Arc<[f32]>>) -> Self {
        QuantParams { storage, map: Affine::PerBlock { axis, size, scales: scales.into(), zero_points: None } }
    }

    /// Per-block parameters with a scale and a zero point for each `size` indices of `axis`; see [`Affine::PerBlock`].
    pub fn per_block_with_zero_points(
        storage: StorageType,
        axis: usize,
        size: usize,
        scales: impl Into<Arc<[f32]>>,
        zero_points: impl Into<Arc<[i8]>>,
    ) -> Self {
        let zero_points = Some(zero_points.into()).filter(|all| all.iter().any(|&zero| zero != 0));
        QuantParams { storage, map: Affine::PerBlock { axis, size, scales: scales.into(), zero_points } }
    }

    /// True for parameters of weight-only quantization (4-bit or per-block): no kernel computes with their integers.
    pub fn is_for_weights(&self) -> bool {
        self.storage == StorageType::I4 || matches!(self.map, Affine::PerBlock { .. })
    }

    /// The smallest and the largest value that per-tensor parameters can represent.
    pub fn limits(&self) -> Option<(f32, f32)> {
        let (scale, zero) = self.tensor_map()?;
        let (low, high) = self.storage.range();
        Some(((low - zero) as f32 * scale, (high - zero) as f32 * scale))
    }

    /// True where per-tensor parameters represent nothing below `lo` or above `hi`, up to half a step: quantization
    /// then clamps to `lo..=hi`.
    pub fn keeps_within(&self, lo: f32, hi: f32) -> bool {
        let half = self.tensor_map().map_or(0.0, |(scale, _)| scale / 2.0);
        self.limits().is_some_and(|(low, high)| low > lo - half && high < hi + half)
    }

    /// Scale and zero point of per-tensor parameters.
    pub fn tensor_map(&self) -> Option<(f32, i32)> {
        match &self.map {
            Affine::PerTensor { scale, zero_point } => Some((*scale, *zero_point)),
            Affine::PerAxis { .. } | Affine::PerBlock { .. } => None,
        }
    }

    /// All scales: one, one for each index of the axis, or one for each block.
    pub fn scales(&self) -> &[f32] {
        match &self.map {
            Affine::PerTensor { scale, .. } => std::slice::from_ref(scale),
            Affine::PerAxis { scales, .. } | Affine::PerBlock { scales, .. } => scales,
        }
    }

    /// The zero points of blocks, if they are not all 0.
    pub fn block_zero_points(&self) -> Option<&[i8]> {
        match &self.map {
            Affine::PerBlock { zero_points, .. } => zero_points.as_deref(),
            Affine::PerTensor { .. } | Affine::PerAxis { .. } => None,
        }
    }

    /// The integer that represents 0.0, but for [`QuantParams::block_zero_points`].
    pub fn zero_point(&self) -> i32 {
        match &self.map {
            Affine::PerTensor { zero_point, .. } => *zero_point,
            Affine::PerAxis { .. } | Affine::PerBlock { .. } => 0,
        }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Elem::Bool => f.write_str("bool"),
            Elem::I8 => f.write_str("i8"),
            Elem::U8 => f.write_str("u8"),
            Elem::I16 => f.write_str("i16"),
            Elem::I32 => f.write_str("i32"),
            Elem::I64 => f.write_str("i64"),
            Elem::F16 => f.write_str("f16"),
            Elem::F32 => f.write_str("f32"),
            Elem::Quantized(g) => g.fmt(f),
        }
    }
}

impl fmt::Display for StorageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageType::I4 => f.write_str("i4"),
            StorageType::I8 | StorageType::U8 | StorageType::I16 | StorageType::I32 => self.elem().fmt(f),
        }
    }
}

impl fmt::Display for QuantParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.storage)?;
        match &self.map {
            Affine::PerTensor { scale, zero_point } => return write!(f, "<{scale:?}:{zero_point}>"),
            Affine::PerAxis { axis, .. } => write!(f, "<axis {axis}:")?,
            Affine::PerBlock { axis, size, .. } => write!(f, "<axis {axis} by {size}:")?,
        }
        for (i, s) in self.scales().iter().enumerate() {
            write!(f, "{}{s:?}", if i == 0 { " " } else { "," })?;
            if let Some(zero) = self.block_zero_points().and_then(|all| all.get(i)) {
                write!(f, ":{zero}")?;
            }
        }
        f.write_str(">")
    }
}

/// A Rust type that stores one element of a plain [`Elem`].
pub trait Scalar: bytemuck::Pod + Send + Sync + PartialEq + fmt::Debug {
    /// The element this type stores.
    const ELEM: Elem;
}

macro_rules! scalar {
    ($($t:ty => $e:ident),* $(,)?) => { $(impl Scalar for $t { const ELEM: Elem = Elem::$e; })* };
}
scalar!(i8 => I8, u8 => U8, i16 => I16, i32 => I32, i64 => I64, f16 => F16, f32 => F32);

impl Elem {
    /// The plain element type of that name.
    pub fn plain(name: &str) -> Option<Elem> {
        const PLAIN: [Elem; 8] =
            [Elem::Bool, Elem::I8, Elem::U8, Elem::I16, Elem::I32, Elem::I64, Elem::F16, Elem::F32];
        PLAIN.into_iter().find(|e| e.to_string() == name)
    }
}

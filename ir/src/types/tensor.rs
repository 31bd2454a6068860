//! Types and tensors.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::elem::{Affine, Elem, QuantParams, Scalar, StorageType};
use super::error::QuantError;
use super::layout::Layout;
use super::shape::{Dim, Shape};
use crate::mapped;
use crate::vector::{LANES, vectorized};

/// The complete type of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    /// Element type, with quantization parameters.
    pub elem: Elem,
    /// Logical extents.
    pub shape: Shape,
    /// Physical order of the axes.
    pub layout: Layout,
}

impl TensorType {
    /// True for values that are quantized to 16 bits.
    pub fn is_wide(&self) -> bool {
        self.elem.qparams().is_some_and(|qparams| qparams.storage == StorageType::I16)
    }

    /// A row-major type.
    pub fn new(elem: Elem, shape: Shape) -> Self {
        let layout = Layout::row_major(shape.rank());
        TensorType { elem, shape, layout }
    }

    /// A row-major `F32` type of known extents.
    pub fn f32(dims: &[usize]) -> Self {
        TensorType::new(Elem::F32, Shape::known(dims))
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// The same type with another element type.
    pub fn with_elem(&self, elem: Elem) -> Self {
        TensorType { elem, ..self.clone() }
    }

    /// The type after dequantization: quantized elements become `F32`.
    pub fn real(&self) -> Self {
        self.with_elem(self.elem.real())
    }

    /// Extents of a tensor with one element for each block of `size` indices of `axis`, where all are known.
    pub fn runs(&self, axis: usize, size: usize) -> Option<Vec<usize>> {
        let runs = |(a, d): (usize, &Dim)| {
            if a == axis { d.known()?.checked_next_multiple_of(size)?.checked_div(size) } else { d.known() }
        };
        self.shape.dims().iter().enumerate().map(runs).collect()
    }

    /// Checks the quantization parameters: scales must be positive (except those of blocks), finite and normal, and as
    /// many as the shape needs;
    /// the zero point must be in the range of the storage type.
    ///
    /// # Errors
    /// The first of these conditions that does not hold.
    pub fn validate(&self) -> Result<(), QuantError> {
        let Elem::Quantized(qparams) = &self.elem else { return Ok(()) };
        let signed = matches!(qparams.map, Affine::PerBlock { .. });
        if let Some(&scale) = qparams.scales().iter().find(|s| !s.is_normal() || **s < 0.0 && !signed) {
            return Err(QuantError::Scale(scale));
        }
        let (lo, hi) = qparams.storage.range();
        let of_blocks = qparams.block_zero_points().unwrap_or_default();
        let mut zero_points = of_blocks.iter().map(|&zero| i32::from(zero)).chain([qparams.zero_point()]);
        if let Some(zero_point) = zero_points.find(|zero| !(lo..=hi).contains(zero)) {
            return Err(QuantError::ZeroPoint { zero_point, storage: qparams.storage });
        }
        let shape = || Box::new(self.shape.clone());
        let (axis, block) = match qparams.map {
            Affine::PerTensor { .. } => return Ok(()),
            Affine::PerAxis { axis, .. } => (axis, None),
            Affine::PerBlock { axis, size, .. } => (axis, Some(size)),
        };
        let Some(extent) = self.shape.dims().get(axis) else { return Err(QuantError::Axis { axis, shape: shape() }) };
        let expected = match block {
            // An open extent may have any value.
            None => extent.known().unwrap_or(qparams.scales().len()),
            Some(size) => {
                let runs = self.runs(axis, size).ok_or_else(|| QuantError::Blocks { size, axis, shape: shape() })?;
                runs.iter().product()
            }
        };
        // Another number of zero points is told in place of that of the scales.
        let counts = [Some(qparams.scales().len()), qparams.block_zero_points().map(<[i8]>::len)];
        let found = counts.into_iter().flatten().find(|&n| n != expected).unwrap_or(expected);
        if found == expected { Ok(()) } else { Err(QuantError::Count { found, expected, axis, block, shape: shape() }) }
    }

    /// Bytes of a tensor of this type, or `None` where an extent is a symbol.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.elements()?.checked_mul(self.elem.size())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.elem, self.shape)?;
        if self.layout.is_row_major() {
            return Ok(());
        }
        write!(f, " {}", self.layout)
    }
}

/// A constant: a type and its bytes, in physical order, little-endian.
#[derive(Clone)]
pub struct Tensor {
    ty: TensorType,
    data: Bytes,
    /// True if the bytes were computed and are not yet kept ([`mapped::keep`]).
    fresh: bool,
}

/// Keeps a typed vector alive as the owner of its bytes.
struct Owned<T>(Vec<T>);

impl<T: Scalar> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Tensor {
    /// A tensor over existing bytes, or `None` where their number does not fit the type.
    pub fn new(ty: TensorType, data: Bytes) -> Option<Self> {
        (ty.bytes() == Some(data.len())).then_some(Tensor { ty, data, fresh: false })
    }

    /// A row-major tensor of a plain element type.
    ///
    /// # Panics
    /// Where the number of values is not the number of elements of `shape`.
    pub fn from_vec<T: Scalar>(shape: Shape, values: Vec<T>) -> Self {
        Tensor::of(TensorType::new(T::ELEM, shape), values)
    }

    /// A tensor of type `ty` whose stored elements are `values`.
    ///
    /// # Panics
    /// Where the number or size of the values does not fit the type.
    pub fn of<T: Scalar>(ty: TensorType, values: Vec<T>) -> Self {
        assert_eq!(ty.bytes(), Some(std::mem::size_of_val(values.as_slice())), "values do not fit {ty}");
        Tensor { ty, data: Bytes::from_owner(Owned(values)), fresh: true }
    }

    /// A row-major `Bool` tensor.
    pub fn from_bools(shape: Shape, values: impl IntoIterator<Item = bool>) -> Self {
        let bytes: Vec<u8> = values.into_iter().map(u8::from).collect();
        Tensor::of(TensorType::new(Elem::Bool, shape), bytes)
    }

    /// A scalar.
    pub fn scalar<T: Scalar>(value: T) -> Self {
        Tensor::from_vec(Shape::scalar(), vec![value])
    }

    /// The type.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The stored bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The same tensor for long use: computed elements may be moved to a temporary file ([`mapped::keep`]).
    #[must_use]
    pub fn kept(self) -> Self {
        let data = if self.fresh { mapped::keep(self.data) } else { self.data };
        Tensor { data, fresh: false, ..self }
    }

    /// The same tensor with elements at multiples of their size, which may not hold for those of a file.
    #[must_use]
    pub fn aligned(self) -> Self {
        if self.data.as_ptr().align_offset(self.ty.elem.size()) == 0 {
            return self;
        }
        let ty = self.ty.clone();
        match ty.elem.size() {
            2 => Tensor::of(ty, self.view::<i16>().into_owned()),
            4 => Tensor::of(ty, self.view::<i32>().into_owned()),
            _ => Tensor::of(ty, self.view::<i64>().into_owned()),
        }
    }

    /// Extents, all known.
    pub fn dims(&self) -> Vec<usize> {
        self.ty.shape.dims().iter().filter_map(|d| d.known()).collect()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.ty.elem.size()
    }

    /// True where there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The stored elements as `T`; copied only where the bytes are not aligned.
    ///
    /// # Panics
    /// Where the size of `T` is not that of the stored element.
    pub fn view<T: Scalar>(&self) -> Cow<'_, [T]> {
        assert_eq!(self.ty.elem.size(), size_of::<T>(), "{} is not stored as {:?}", self.ty, T::ELEM);
        match bytemuck::try_cast_slice(&self.data) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(self.data.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()),
        }
    }

    /// The same bytes under another type of the same size, or `None` where the sizes differ.
    pub fn retype(&self, ty: TensorType) -> Option<Self> {
        Tensor::new(ty, self.data.clone()).map(|same| Tensor { fresh: self.fresh, ..same })
    }

    /// All integers, of any width, or `None` where the element type is not an integer, `Bool` or quantized.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let elem = match &self.ty.elem {
            Elem::Quantized(g) => g.storage.elem(),
            other => other.clone(),
        };
        Some(match elem {
            Elem::Bool | Elem::U8 => self.data.iter().map(|&b| i64::from(b)).collect(),
            Elem::I8 => self.view::<i8>().iter().map(|&v| i64::from(v)).collect(),
            Elem::I16 => self.view::<i16>().iter().map(|&v| i64::from(v)).collect(),
            Elem::I32 => self.view::<i32>().iter().map(|&v| i64::from(v)).collect(),
            Elem::I64 => self.view::<i64>().into_owned(),
            Elem::F16 | Elem::F32 | Elem::Quantized(_) => return None,
        })
    }

    /// All elements as `f32`, in stored order: floats as they are, quantized elements dequantized, integers converted.
    pub fn floats(&self) -> Cow<'_, [f32]> {
        match &self.ty.elem {
            Elem::F32 => self.view::<f32>(),
            Elem::F16 => Cow::Owned(self.view::<half::f16>().iter().map(|v| v.to_f32()).collect()),
            Elem::Quantized(g) => Cow::Owned(dequantize(self, g)),
            _ => Cow::Owned(self.integers().unwrap_or_default().into_iter().map(|v| v as f32).collect()),
        }
    }
}

/// The quantization parameters of stored elements, in their order.
pub struct Runs<'g> {
    /// The number of consecutive elements that share a scale and a zero point.
    length: usize,
    /// The scales of one period.
    scales: Cow<'g, [f32]>,
    /// The zero point of all elements, unless there are `zero_points`.
    zero_point: i32,
    /// The zero points of one period, as many as scales, or none.
    zero_points: Cow<'g, [i8]>,
}

impl<'g> Runs<'g> {
    /// Those of a tensor of this type with these quantization parameters.
    pub fn new(ty: &TensorType, qparams: &'g QuantParams) -> Self {
        let (scales, zero_point) = (Cow::Borrowed(qparams.scales()), qparams.zero_point());
        let zero_points = Cow::Borrowed(qparams.block_zero_points().unwrap_or_default());
        match &qparams.map {
            Affine::PerTensor { .. } => Runs { length: usize::MAX, scales, zero_point, zero_points },
            Affine::PerAxis { axis, .. } => {
                let place = ty.layout.position(*axis);
                let inner =
                    ty.layout.physical(&ty.shape).dims()[place + 1..].iter().filter_map(|d| d.known()).product();
                Runs { length: inner, scales, zero_point, zero_points }
            }
            Affine::PerBlock { axis, size, .. } => {
                let innermost = ty.layout.is_row_major() && *axis + 1 == ty.rank();
                let whole = ty.shape.dims()[*axis].known().is_some_and(|n| n % size == 0);
                if innermost && whole {
                    return Runs { length: *size, scales, zero_point, zero_points };
                }
                let scales = of_elements(ty, *axis, *size, &scales).into();
                let zero_points = match zero_points.is_empty() {
                    true => zero_points,
                    false => of_elements(ty, *axis, *size, &zero_points).into(),
                };
                Runs { length: 1, scales, zero_point, zero_points }
            }
        }
    }

    /// The number of consecutive elements that share a scale and a zero point, at least 1.
    pub fn length(&self) -> usize {
        self.length.max(1)
    }

    /// The scale and the zero point of run `i`.
    pub fn at(&self, i: usize) -> (f32, i32) {
        let zero = || i32::from(self.zero_points[i % self.zero_points.len()]);
        (self.scales[i % self.scales.len()], if self.zero_points.is_empty() { self.zero_point } else { zero() })
    }
}

/// For each stored element the value of its block, where there is one for each block of `size` indices of `axis`.
fn of_elements<T: Copy>(ty: &TensorType, axis: usize, size: usize, of_blocks: &[T]) -> Vec<T> {
    let extents: Vec<usize> = ty.shape.dims().iter().filter_map(|d| d.known()).collect();
    let step = |a: usize| if a == axis { size } else { 1 };
    // Strides of the blocks along each axis.
    let strides: Vec<usize> = (0..extents.len())
        .map(|a| (a + 1..extents.len()).map(|inner| extents[inner].div_ceil(step(inner))).product())
        .collect();
    let order: Vec<usize> = ty.layout.order().collect();
    let block = |element: usize| {
        let (mut rest, mut place) = (element, 0);
        for &a in order.iter().rev() {
            place += rest % extents[a] / step(a) * strides[a];
            rest /= extents[a];
        }
        of_blocks[place]
    };
    (0..extents.iter().product()).map(block).collect()
}

fn dequantize(t: &Tensor, qparams: &QuantParams) -> Vec<f32> {
    fn each<S: Scalar>(t: &Tensor, qparams: &QuantParams, centred: impl Fn(S, i32) -> f32) -> Vec<f32> {
        let runs = Runs::new(t.ty(), qparams);
        let values = t.view::<S>();
        let mut reals = Vec::with_capacity(values.len());
        vectorized(
            #[inline(always)]
            || {
                for (i, run) in values.chunks(runs.length()).enumerate() {
                    let (scale, zero) = runs.at(i);
                    let (blocks, rest) = run.as_chunks::<LANES>();
                    for block in blocks {
                        let mut to = [0.0; LANES];
                        for lane in 0..LANES {
                            to[lane] = centred(block[lane], zero) * scale;
                        }
                        reals.extend_from_slice(&to);
                    }
                    for &q in rest {
                        reals.push(centred(q, zero) * scale);
                    }
                }
            },
        );
        reals
    }
    match qparams.storage {
        StorageType::I4 | StorageType::I8 => each::<i8>(t, qparams, |q, zero| (i32::from(q) - zero) as f32),
        StorageType::U8 => each::<u8>(t, qparams, |q, zero| (i32::from(q) - zero) as f32),
        StorageType::I16 => each::<i16>(t, qparams, |q, zero| (i32::from(q) - zero) as f32),
        // The difference may exceed 32 bits.
        StorageType::I32 => each::<i32>(t, qparams, |q, zero| (i64::from(q) - i64::from(zero)) as f32),
    }
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.ty == other.ty && self.data == other.data
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {} bytes)", self.ty, self.data.len())
    }
}

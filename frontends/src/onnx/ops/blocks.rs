//! Blockwise quantized weights.

use qcc_ir::error::QuantError;
use qcc_ir::ops::{BinaryFn, Dequantize, DynamicQuantize, Granularity, MatMul};
use qcc_ir::{Elem, QuantParams, Shape, StorageType, Tensor, TensorType, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::blocks::Signed;
use crate::build::{Build, MOST_ELEMENTS, Operands, Values, extent, one};
use crate::elements::Stored;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("com.microsoft.MatMulNBits", matmul_bits)];

/// The `accuracy_level` of products with dynamic 8-bit quantization of activations, in the blocks of the weight.
const EIGHT_BITS: i64 = 4;

/// A blockwise quantized constant.
struct Blocks<'a> {
    dims: Vec<usize>,
    axis: usize,
    size: usize,
    /// Scales, row-major: along the axis one for each block.
    scales: &'a [f32],
}

impl Blocks<'_> {
    /// Number of blocks along the axis.
    fn count(&self) -> usize {
        self.dims[self.axis].div_ceil(self.size)
    }

    /// The index of the scale of element `i`.
    fn place(&self, i: usize) -> usize {
        let inner: usize = self.dims[self.axis + 1..].iter().product();
        let (outer, along) = (i / (inner * self.dims[self.axis]), i / inner % self.dims[self.axis]);
        (outer * self.count() + along / self.size) * inner + i % inner
    }

    /// Quantization parameters for this storage type. A matrix with a single symmetric block along the axis is per-channel
    /// quantized along the other axis.
    fn qparams(&self, storage: StorageType, zero_points: Option<Vec<i8>>) -> QuantParams {
        if let Some(zero_points) = zero_points {
            return QuantParams::per_block_with_zero_points(storage, self.axis, self.size, self.scales, zero_points);
        }
        if self.dims.len() == 2 && self.count() == 1 {
            return QuantParams::per_axis(StorageType::I8, 1 - self.axis, self.scales);
        }
        QuantParams::per_block(storage, self.axis, self.size, self.scales)
    }

    /// The dequantized values of integers minus the zero point of their block. If the differences fit into 8 or 4
    /// bits, or the integers themselves and their zero points, the constant stays quantized.
    fn real(
        &self,
        n: &mut impl Build,
        integers: impl Fn(usize) -> i32,
        zero: &dyn Fn(usize) -> f32,
    ) -> Result<ValueId, Refusal> {
        if let Some(&odd) = self.scales.iter().find(|s| !s.is_finite()) {
            return Err(QuantError::Scale(odd).into());
        }
        n.room(&self.dims, size_of::<f32>())?;
        let (count, shape) = (self.dims.iter().product::<usize>(), Shape::known(&self.dims));
        let place = |i: usize| self.place(i);
        let integer = |i: usize| integers(i) as f32;
        if let Some(signed) = Signed::new(count, self.scales.len(), &integer, &place, zero) {
            let qparams = self.qparams(signed.storage, signed.zero_points);
            let ty = TensorType::new(Elem::Quantized(qparams), shape.clone());
            if ty.validate().is_ok() {
                let stored = n.add_constant(Tensor::of(ty, signed.integers));
                return n.add(Dequantize {}, &[stored]);
            }
        }
        let values = (0..count).map(|i| (integer(i) - zero(place(i))) * self.scales[place(i)]).collect();
        Ok(n.add_constant(Tensor::from_vec(shape, values)))
    }
}

/// Dequantizes constants with a scale and zero point for each `block` indices of `axis`.
pub(super) fn dequantize(n: &mut NodeCx<'_, '_>, axis: usize, block: i64) -> Result<ValueId, Refusal> {
    let missing = Refusal::MissingInput;
    let (x, scale) = (n.optional_constant(0)?.ok_or(missing(0))?, n.optional_constant(1)?.ok_or(missing(1))?);
    let zero = n.optional_constant(2)?;
    if !scale.ty().elem.is_float() {
        return Err(Refusal::Invalid(format!("scales {}; expected floats", scale.ty())));
    }
    let (dims, size) = (x.dims(), extent(block)?.max(1));
    let mut expected = dims.clone();
    expected[axis] = dims[axis].div_ceil(size);
    if scale.dims() != expected || zero.as_ref().is_some_and(|z| z.dims() != expected) {
        let (scale, x) = (scale.ty(), x.ty());
        return Err(Refusal::Invalid(format!("scales {scale} for blocks of {block} along axis {axis} of {x}")));
    }
    if let Some(zero) = zero.as_ref().filter(|z| z.ty().elem != x.ty().elem) {
        return Err(Refusal::Invalid(format!("zero points {} for integers {}", zero.ty(), x.ty())));
    }
    let odd = || Refusal::Invalid(format!("{} is dequantized; expected integers", x.ty()));
    let (integers, scales) = (x.integers().ok_or_else(odd)?, scale.floats());
    let zeros = zero.as_ref().map(Tensor::floats);
    let blocks = Blocks { dims, axis, size, scales: &scales };
    blocks.real(n, |i| integers[i] as i32, &|place| zeros.as_ref().map_or(0.0, |z| z[place]))
}

/// The product of A `[.., K]` with the transpose of a weight `[N, K]`, plus a bias. Each row of the weight is stored in
/// blocks, the last one padded, as integers of 2, 4 or 8 bits with zero points.
fn matmul_bits(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, packed) = (n.input(0)?, n.optional_constant(1)?.ok_or(Refusal::MissingInput(1))?);
    let scale = n.optional_constant(2)?.ok_or(Refusal::MissingInput(2))?;
    let zeros = n.optional_constant(3)?;
    let mut number = |name: &str| match n.optional_int(name)? {
        Some(v) if v > 0 => extent(v),
        _ => Err(Refusal::Attribute { name: name.into(), problem: "expected a positive number" }),
    };
    let (k, rows, size) = (number("K")?, number("N")?, number("block_size")?);
    let stored = match n.int("bits", 4)? {
        2 => Stored::U2,
        4 => Stored::U4,
        8 => Stored::U8,
        _ => return Err(Refusal::Attribute { name: "bits".into(), problem: "not 2, 4 or 8" }),
    };
    if n.flag("weight_prepacked", false)? {
        return Err(Refusal::Unsupported("a weight that is packed for one processor is not supported".into()));
    }
    if size < 16 || !size.is_power_of_two() {
        return Err(Refusal::Attribute { name: "block_size".into(), problem: "not a power of 2 from 16 on" });
    }
    let blocks = Blocks { dims: vec![rows, k], axis: 1, size, scales: &scale.floats() };
    let count = blocks.count();
    let (places, padded) = (rows.saturating_mul(count), rows.saturating_mul(count).saturating_mul(size));
    if padded > MOST_ELEMENTS {
        return Err(Refusal::Unsupported(format!("a weight of {rows} by {k} is too large")));
    }
    if scale.len() != places || packed.ty().elem != Elem::U8 {
        let (scale, packed) = (scale.ty(), packed.ty());
        return Err(Refusal::Invalid(format!("scales {scale} and integers {packed} for {rows} by {count} blocks")));
    }
    in_order(n, k, size)?;
    let integers = stored.tensor(TensorType::new(Elem::U8, Shape::known(&[padded])), packed.data().clone())?;
    let zero = zero_points(stored, zeros.as_ref(), rows, count)?;
    let integers = integers.data();
    let integer = |i: usize| i32::from(integers[i / k * count * size + i % k]);
    let weight = blocks.real(n, integer, &|place| zero[place])?;
    let elem = n.ty(a).elem.clone();
    let weight = n.cast(weight, elem.clone())?;
    let a = match n.int("accuracy_level", 0)? {
        EIGHT_BITS if elem == Elem::F32 => n.add(DynamicQuantize { granularity: Granularity::Groups(size) }, &[a])?,
        _ => a,
    };
    let product = n.add(MatMul { transpose_b: true }, &[a, weight])?;
    match n.optional(5) {
        Some(bias) => one(n.binary(BinaryFn::Add, product, bias)?),
        None => one(product),
    }
}

/// Fails if the columns of a weight are reordered.
fn in_order(n: &mut NodeCx<'_, '_>, k: usize, size: usize) -> Result<(), Refusal> {
    let Some(order) = n.optional_integers(4)? else { return Ok(()) };
    let in_order = order.len() >= k && order.iter().take(k).enumerate().all(|(i, &g)| g == (i / size) as i64);
    if in_order {
        return Ok(());
    }
    let why = "columns that are grouped in another order (g_idx) are not supported";
    Err(Refusal::Unsupported(format!("{why}; quantize without act_order")))
}

/// The zero points of blocks: packed like the integers, with byte-aligned rows, or floats.
fn zero_points(stored: Stored, zeros: Option<&Tensor>, rows: usize, count: usize) -> Result<Vec<f32>, Refusal> {
    let places = rows * count;
    let Some(zeros) = zeros else { return Ok(vec![(1 << (stored.bits() - 1)) as f32; places]) };
    let odd = || Refusal::Invalid(format!("zero points {} for {rows} by {count} blocks", zeros.ty()));
    if zeros.ty().elem.is_float() {
        return if zeros.len() == places { Ok(zeros.floats().into_owned()) } else { Err(odd()) };
    }
    let bytes = stored.bytes(count).ok_or_else(odd)?;
    if zeros.ty().elem != Elem::U8 || zeros.len() != rows * bytes {
        return Err(odd());
    }
    let filled = bytes * 8 / stored.bits();
    let all = stored.tensor(TensorType::new(Elem::U8, Shape::known(&[rows * filled])), zeros.data().clone())?;
    Ok((0..places).map(|i| f32::from(all.data()[i / count * filled + i % count])).collect())
}

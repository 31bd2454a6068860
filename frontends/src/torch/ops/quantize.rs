//! Quantized values: the nodes of PyTorch's quantizer (pt2e), and fake quantization of quantization-aware training.

use qcc_ir::ops::{BinaryFn, Clamp, Dequantize, Extents, Quantize};
use qcc_ir::{Affine, Elem, QuantParams, Shape, StorageType, Tensor, ValueId};

use super::super::node::{NodeCx, Operand};
use super::Row;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("fake_quantize_per_channel_affine", fake_quantize),
    ("fake_quantize_per_tensor_affine", fake_quantize),
    ("quantized_decomposed.dequantize_per_channel", dequantize),
    ("quantized_decomposed.dequantize_per_tensor", dequantize),
    ("quantized_decomposed.quantize_per_channel", quantize),
    ("quantized_decomposed.quantize_per_tensor", quantize),
];

/// Quantization parameters, and the range of integers that is used.
struct Scheme {
    qparams: QuantParams,
    least: i32,
    most: i32,
}

impl Scheme {
    /// Reads the scheme of integers with storage type `storage`, or the narrowest one that contains their range.
    fn read(n: &mut NodeCx<'_, '_>, storage: Option<StorageType>) -> Result<Scheme, Refusal> {
        let (least, most) = (n.required_int("quant_min")?, n.required_int("quant_max")?);
        let within =
            |s: &StorageType| i64::from(s.range().0) <= least && least <= most && most <= i64::from(s.range().1);
        let mut storages =
            storage.map_or_else(|| vec![StorageType::I8, StorageType::U8, StorageType::I16], |s| vec![s]).into_iter();
        let storage = storages.find(within);
        let storage = storage.ok_or_else(|| {
            Refusal::Unsupported(format!("a quantized value from {least} to {most} is not supported"))
        })?;
        let qparams = qparams(n, storage)?;
        Ok(Scheme { qparams, least: least as i32, most: most as i32 })
    }

    /// The limits of the used range that are narrower than those of the storage type.
    fn limits(&self) -> Option<[Option<i32>; 2]> {
        let (lo, hi) = self.qparams.storage.range();
        let narrower = [(self.least > lo).then_some(self.least), (self.most < hi).then_some(self.most)];
        narrower.iter().any(Option::is_some).then_some(narrower)
    }

    /// `x` clamped to the used range, if the storage type has more.
    fn limited(&self, n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
        let Some([least, most]) = self.limits() else { return Ok(x) };
        let end = |q: i32, scale: f32| (q - self.qparams.zero_point()) as f32 * scale;
        let Affine::PerAxis { axis, scales } = &self.qparams.map else {
            let scale = self.qparams.scales()[0];
            let lo = least.map_or(f32::NEG_INFINITY, |q| end(q, scale));
            return n.add(Clamp { lo, hi: most.map_or(f32::INFINITY, |q| end(q, scale)) }, &[x]);
        };
        let mut dims = Extents::from_elem(1, n.rank(x));
        dims[*axis] = scales.len();
        let mut limited = x;
        for (q, f) in [(least, BinaryFn::Max), (most, BinaryFn::Min)] {
            let Some(q) = q else { continue };
            let ends = Tensor::from_vec(Shape::known(&dims), scales.iter().map(|&s| end(q, s)).collect());
            let ends = n.add_constant(ends);
            limited = n.binary(f, limited, ends)?;
        }
        Ok(limited)
    }
}

/// The quantization parameters of scale and zero point.
fn qparams(n: &mut NodeCx<'_, '_>, storage: StorageType) -> Result<QuantParams, Refusal> {
    let x = n.input()?;
    let several = if n.has("scales") { Some("scales") } else { n.has("axis").then_some("scale") };
    let qparams = match several {
        None => {
            let (scale, zero) = (known(n, "scale")?, known(n, "zero_point")?);
            QuantParams::per_tensor(storage, scale as f32, zero as i32)
        }
        Some(name) => {
            let zeros = if name == "scales" { "zero_points" } else { "zero_point" };
            let (scales, zero) = (n.tensor(name)?, n.optional(zeros)?);
            let axis = n.required_int("axis")?;
            let axis = n.axis(axis, x)?;
            let open = || Refusal::NotConstant { index: 1, name: name.into() };
            let scales = n.constant(scales).ok_or_else(open)?.floats().to_vec();
            if let Some(zero) = zero
                && n.integers(zero, zeros)?.iter().any(|&z| z != 0)
            {
                return Err(Refusal::Unsupported("zero points for each channel are not supported".into()));
            }
            QuantParams::per_axis(storage, axis, scales)
        }
    };
    n.ty(x).with_elem(Elem::Quantized(qparams.clone())).validate()?;
    Ok(qparams)
}

/// A number, or the single element of a constant.
fn known(n: &mut NodeCx<'_, '_>, name: &str) -> Result<f64, Refusal> {
    match n.operand(name)? {
        Operand::Number(number) => Ok(number.float()),
        Operand::Tensor(v) | Operand::Open(v) => match n.constant(v).filter(|t| t.len() == 1) {
            Some(t) => Ok(t.floats()[0].into()),
            None => Err(Refusal::NotConstant { index: 1, name: name.into() }),
        },
    }
}

/// The storage type of an argument.
fn named_store(n: &mut NodeCx<'_, '_>) -> Result<StorageType, Refusal> {
    match n.dtype("dtype")? {
        Some(Elem::I8) => Ok(StorageType::I8),
        Some(Elem::U8) => Ok(StorageType::U8),
        Some(Elem::I16) => Ok(StorageType::I16),
        Some(Elem::I32) => Ok(StorageType::I32),
        Some(other) => Err(Refusal::Unsupported(format!("a quantized value of type {other} is not supported"))),
        None => Err(Refusal::Unsupported("a quantized value without a type is not supported".into())),
    }
}

fn quantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let storage = named_store(n)?;
    let scheme = Scheme::read(n, Some(storage))?;
    let x = n.input()?;
    one(quantize_with(n, x, &scheme)?)
}

fn quantize_with(n: &mut NodeCx<'_, '_>, x: ValueId, scheme: &Scheme) -> Result<ValueId, Refusal> {
    let x = n.cast(x, Elem::F32)?;
    let x = scheme.limited(n, x)?;
    if let Some(known) = n.constant(x).map(|t| t.quantized(&scheme.qparams)) {
        return Ok(n.add_constant(known));
    }
    let ty = n.ty(x).with_elem(Elem::Quantized(scheme.qparams.clone()));
    n.add_typed(Quantize {}, &[x], ty)
}

/// Quantize followed by Dequantize.
fn fake_quantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let scheme = Scheme::read(n, None)?;
    let x = n.input()?;
    let elem = n.ty(x).elem.clone();
    let y = quantize_with(n, x, &scheme)?;
    let y = n.add(Dequantize {}, &[y])?;
    one(n.cast(y, elem)?)
}

/// Stored integers of the file get the quantization parameters of the node.
fn dequantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let storage = named_store(n)?;
    let qparams = Scheme::read(n, Some(storage))?.qparams;
    n.dtype("out_dtype")?;
    let x = n.input()?;
    let x = match n.ty(x).elem.qparams() {
        Some(found) if *found == qparams => x,
        Some(_) => {
            return Err(Refusal::Unsupported(
                "integers are dequantized with other parameters than they were quantized with".into(),
            ));
        }
        None => {
            let ty = n.ty(x).with_elem(Elem::Quantized(qparams));
            let held = n.constant(x).and_then(|t| t.retype(ty));
            let held =
                held.ok_or_else(|| Refusal::Unsupported("integers that are not constant are dequantized".into()))?;
            n.add_constant(held)
        }
    };
    one(n.add(Dequantize {}, &[x])?)
}

//! Quantized operators.
//!
//! Constant scales and zero points become quantization parameters, and an operator on quantized values (`QLinear*`,
//! `QGemm`) becomes the float operator between `Dequantize` and `Quantize`. Values that are not quantized are
//! computed in `F32`, as the standard specifies: integers up to 2^24 are exact, larger accumulators are rounded to 24
//! bits.

use qcc_ir::error::QuantError;
use qcc_ir::ops::{BinaryFn, Clamp, Dequantize, Extents, Op, QuantRule, ReduceFn, UnaryFn};
use qcc_ir::{Dim, Elem, QuantParams, Shape, StorageType, Tensor, TensorType, ValueId};

use super::super::node::NodeCx;
use super::super::{integers, qdq};
use super::recurrent::lstm_of;
use super::{Row, blocks};
use crate::build::{self, Build, Operands, Values, one};
use crate::elements::Stored;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("ConvInteger", |n| integer(n, "Conv", 0)),
    ("DequantizeLinear", dequantize_linear),
    ("DynamicQuantizeLinear", dynamic_quantize_linear),
    ("MatMulInteger", |n| {
        let columns = n.input(1)?;
        integer(n, "MatMul", n.rank(columns).saturating_sub(1))
    }),
    ("QLinearConv", qlinear_conv),
    ("QLinearMatMul", qlinear_matmul),
    ("QuantizeLinear", quantize_linear),
    ("com.microsoft.DequantizeLinear", dequantize_linear),
    ("com.microsoft.DynamicQuantizeLSTM", dynamic_quantize_lstm),
    ("com.microsoft.DynamicQuantizeMatMul", dynamic_quantize_matmul),
    ("com.microsoft.MatMulIntegerToFloat", matmul_integer_to_float),
    ("com.microsoft.QGemm", qgemm),
    ("com.microsoft.QLinearAdd", |n| qlinear(n, "Add", 2)),
    ("com.microsoft.QLinearAveragePool", |n| {
        channels_first(n)?;
        qlinear(n, "AveragePool", 1)
    }),
    ("com.microsoft.QLinearConcat", qlinear_concat),
    ("com.microsoft.QLinearGlobalAveragePool", |n| {
        channels_first(n)?;
        qlinear(n, "GlobalAveragePool", 1)
    }),
    ("com.microsoft.QLinearLeakyRelu", |n| qlinear(n, "LeakyRelu", 1)),
    ("com.microsoft.QLinearMul", |n| qlinear(n, "Mul", 2)),
    ("com.microsoft.QLinearReduceMean", |n| {
        // Its axes are an attribute.
        n.set_opset(13);
        qlinear(n, "ReduceMean", 1)
    }),
    ("com.microsoft.QLinearSigmoid", |n| qlinear(n, "Sigmoid", 1)),
    ("com.microsoft.QLinearSoftmax", |n| {
        let opset =
            n.optional_int("opset")?.ok_or(Refusal::Attribute { name: "opset".into(), problem: "is missing" })?;
        n.set_opset(opset);
        qlinear(n, "Softmax", 1)
    }),
    ("com.microsoft.QuantizeLinear", quantize_linear),
];

/// Scale and zero point as values: `real = scale * (q - zero)`.
struct Scheme {
    scale: ValueId,
    /// `None` means 0.
    zero: Option<ValueId>,
    /// The axis of per-channel scales and zero points.
    axis: usize,
}

impl Scheme {
    /// The scheme of inputs `at` (scale) and `at + 1` (zero point) for values of the shape of `x`.
    fn at(n: &mut NodeCx<'_, '_>, at: usize, axis: usize, x: ValueId) -> Result<Scheme, Refusal> {
        let (scale, zero) = (n.input(at)?, n.optional(at + 1));
        Scheme::new(n, scale, zero, axis, x)
    }

    /// The per-tensor scheme of inputs `at` and `at + 1`.
    fn single(n: &mut NodeCx<'_, '_>, at: usize, x: ValueId) -> Result<Scheme, Refusal> {
        let scale = n.input(at)?;
        if n.dims(scale)?.iter().product::<usize>() != 1 {
            return Err(Refusal::Invalid(format!("scales {} for {}; expected one", n.ty(scale), n.ty(x))));
        }
        Scheme::at(n, at, 0, x)
    }

    /// Fails if types are wrong, or if the number of scales or zero points does not match `x`.
    fn new(
        n: &NodeCx<'_, '_>,
        scale: ValueId,
        zero: Option<ValueId>,
        axis: usize,
        x: ValueId,
    ) -> Result<Scheme, Refusal> {
        if !n.ty(scale).elem.is_float() {
            return Err(Refusal::Invalid(format!("scales {}; expected floats", n.ty(scale))));
        }
        if let Some(zero) = zero.filter(|&z| !n.ty(z).elem.is_integer()) {
            return Err(Refusal::Invalid(format!("zero points {}; expected integers", n.ty(zero))));
        }
        let scales = n.constant(scale).map(Tensor::floats);
        if let Some(&odd) = scales.iter().flat_map(|s| s.iter()).find(|s| !s.is_finite() || **s <= 0.0) {
            return Err(QuantError::Scale(odd).into());
        }
        let dims = |v: ValueId| n.shape(v).dims();
        let count = |v: ValueId| n.shape(v).elements();
        let along = |v: ValueId| {
            let (dims, extent) = (dims(v), dims(x).get(axis).and_then(Dim::known));
            let at = if dims.len() == 1 { dims.first() } else { dims.get(axis).filter(|_| dims.len() == n.rank(x)) };
            extent.is_some() && at.and_then(Dim::known) == extent && count(v) == extent
        };
        let fits = |v: ValueId| count(v) == Some(1) || along(v);
        if !fits(scale) {
            let (scale, x) = (n.ty(scale), n.ty(x));
            return Err(Refusal::Invalid(format!(
                "scales {scale} along axis {axis} of {x}: expected one, or one each"
            )));
        }
        if let Some(zero) = zero.filter(|&z| count(z) != count(scale) || !fits(z)) {
            return Err(Refusal::Invalid(format!("zero points {} beside scales {}", n.ty(zero), n.ty(scale))));
        }
        Ok(Scheme { scale, zero, axis })
    }

    /// The zero points, if constant.
    fn zeros(&self, n: &NodeCx<'_, '_>) -> Option<Vec<i64>> {
        match self.zero {
            Some(zero) => n.constant(zero)?.integers(),
            None => Some(vec![0]),
        }
    }

    /// The quantization parameters for integers of this type, if scale and zero point are constant and representable.
    fn qparams(&self, n: &NodeCx<'_, '_>, stored: Stored) -> Option<QuantParams> {
        let (storage, shift) = integers::storage(stored)?;
        let (scales, zeros) = (n.constant(self.scale)?.floats(), self.zeros(n)?);
        if !scales.iter().all(|s| s.is_normal()) {
            return None;
        }
        match (&*scales, zeros.as_slice()) {
            (&[scale], &[zero]) => {
                Some(QuantParams::per_tensor(storage, scale, i32::try_from(zero).ok()?.checked_add(shift)?))
            }
            (many, zeros) if many.len() > 1 && shift == 0 && zeros.iter().all(|&z| z == 0) => {
                Some(QuantParams::per_axis(storage, self.axis, many))
            }
            _ => None,
        }
    }

    /// A quantized constant. If the zero point is not supported for weights but the differences to it fit into 8 bits,
    /// the constant holds the differences.
    fn constant(&self, n: &NodeCx<'_, '_>, t: &Tensor, stored: Stored) -> Option<Tensor> {
        let on_own = || integers::constant_on(t, stored, &self.qparams(n, stored)?);
        let zeros = self.zeros(n)?;
        if zeros.iter().all(|&z| z == 0) || stored.bits() > 8 {
            return on_own();
        }
        let symmetric = Scheme { zero: None, ..*self }.qparams(n, Stored::I8)?;
        let ty = t.ty().with_elem(Elem::Quantized(symmetric));
        let runs: usize = t.dims().iter().skip(self.axis + 1).product::<usize>().max(1);
        let zero = |i: usize| zeros[i / runs % zeros.len()];
        let integers = t.integers()?;
        let centred = integers.iter().enumerate().map(|(i, q)| i8::try_from(q - zero(i)).ok());
        match centred.collect::<Option<Vec<i8>>>() {
            Some(centred) if ty.validate().is_ok() => Some(Tensor::of(ty, centred)),
            _ => on_own(),
        }
    }

    /// Scale and zero point as floats that broadcast with `x`.
    fn factors(&self, n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<(ValueId, Option<ValueId>), Refusal> {
        let mut factor = |v: ValueId| {
            let v = n.cast(v, Elem::F32)?;
            build::integers::along(n, v, self.axis, x)
        };
        let (scale, zero) = (factor(self.scale)?, self.zero.map(&mut factor).transpose()?);
        let known_zero = |z: &ValueId| n.constant(*z).is_some_and(|t| t.floats().iter().all(|&z| z == 0.0));
        Ok((scale, zero.filter(|z| !known_zero(z))))
    }
}

/// `x` as a quantized value: a constant or an input without other consumers, also through operators that move elements.
fn read_on(n: &mut impl Build, x: ValueId, qparams: &QuantParams) -> Result<Option<ValueId>, Refusal> {
    let placed_input = n.ty(x).with_elem(Elem::Quantized(qparams.clone()));
    if placed_input.validate().is_err() {
        return Ok(None);
    }
    if let Some(t) = n.constant(x) {
        return Ok(t.retype(placed_input).map(|t| n.add_constant(t)));
    }
    match n.graph().producer(x).clone() {
        Op::Input(_) if n.graph().users(x).is_empty() => {
            n.graph_mut().set_type(x, placed_input);
            Ok(Some(x))
        }
        op if op.quant_rule() == QuantRule::SameAsInput
            && matches!(op, Op::Gather(_) | Op::Transpose(_) | Op::Reshape(_)) =>
        {
            let mut operands = n.graph().operands(x.node);
            let Some(data) = read_on(n, operands[0], qparams)? else { return Ok(None) };
            operands[0] = data;
            n.add(op, &operands).map(Some)
        }
        _ => Ok(None),
    }
}

/// Dequantizes the integers `x`.
fn dequantize(n: &mut NodeCx<'_, '_>, x: ValueId, scheme: &Scheme) -> Result<ValueId, Refusal> {
    let stored = n.stored(x);
    let elem = |v: ValueId| n.stored(v).map(Stored::elem);
    if let Some(zero) = scheme.zero.filter(|&z| elem(z) != elem(x)) {
        return Err(Refusal::Invalid(format!("zero points {} for integers {}", n.ty(zero), n.ty(x))));
    }
    if let Some(placed_input) = n.constant(x).zip(stored).and_then(|(t, stored)| scheme.constant(n, t, stored)) {
        let placed_input = n.add_constant(placed_input);
        return n.add(Dequantize {}, &[placed_input]);
    }
    let placed_input = match n.ty(x).elem.qparams() {
        Some(_) => Some(x),
        None => n.integers_of_file().qparams_of(x),
    };
    // The quantization parameters refer to the file's own integer type; a widening cast does not change the integers.
    let placed_input = match placed_input {
        Some(v) => {
            let same = n.stored(v).and_then(|stored| scheme.qparams(n, stored));
            (same.as_ref() == n.ty(v).elem.qparams()).then_some(v)
        }
        None => match stored.filter(|s| s.bits() == 8).and_then(|stored| scheme.qparams(n, stored)) {
            Some(qparams) if n.constant(x).is_none() => read_on(n, x, &qparams)?,
            _ => None,
        },
    };
    if let Some(placed_input) = placed_input {
        return n.add(Dequantize {}, &[placed_input]);
    }
    let (scale, zero) = scheme.factors(n, x)?;
    let integers = integers::numbers(n, x, stored)?;
    let steps = zero.map_or(Ok(integers), |zero| n.binary(BinaryFn::Sub, integers, zero))?;
    n.binary(BinaryFn::Mul, steps, scale)
}

/// Quantizes `x`, clamped to the integers of the file's type.
fn quantize(n: &mut NodeCx<'_, '_>, x: ValueId, scheme: &Scheme, to: Stored) -> Result<ValueId, Refusal> {
    let (Some((lo, hi)), 0..=16) = (to.integers(), to.bits()) else {
        return Err(Refusal::Unsupported(format!("quantization to integers of {} bits is not supported", to.bits())));
    };
    let x = n.cast(x, Elem::F32)?;
    let Some(qparams) = scheme.qparams(n, to) else { return quantize_plain(n, x, scheme, to) };
    let ty = n.ty(x).with_elem(Elem::Quantized(qparams.clone()));
    ty.validate()?;
    if let Some(known) = n.constant(x).and_then(|t| known_integers(t, &qparams, to)) {
        let known = n.add_constant(known);
        return Ok(declared(n, known, to));
    }
    // Storage types have 8 bits or more. Narrower integers need a clamp, whose limits are per-channel if there are
    // several scales.
    let limit = |q: i64| (q - i64::from(qparams.zero_point())) as f32 * qparams.scales()[0];
    let x = match (to.bits() < 8, qparams.tensor_map()) {
        (false, _) => x,
        (true, Some(_)) => n.add(Clamp { lo: limit(lo), hi: limit(hi) }, &[x])?,
        (true, None) => return quantize_plain(n, x, scheme, to),
    };
    qdq::quantize_with(n, x, ty, to)
}

/// The plain integers of a quantized constant, in the file's type.
fn known_integers(t: &Tensor, qparams: &QuantParams, to: Stored) -> Option<Tensor> {
    let placed_input = t.quantized(qparams);
    let plain = placed_input.ty().with_elem(to.elem());
    match to {
        Stored::U16 => {
            let integers = placed_input.integers()?.into_iter().map(|q| q as i32 - i32::from(i16::MIN));
            Some(Tensor::of(plain, integers.collect()))
        }
        _ if to.bits() < 8 => {
            let (lo, hi) = to.integers()?;
            let integers: Vec<f64> = placed_input.integers()?.into_iter().map(|q| q.clamp(lo, hi) as f64).collect();
            build::numbers(&to.elem(), plain.shape, &integers)
        }
        _ => placed_input.retype(plain),
    }
}

/// Integers with a recorded type of the file.
fn declared(n: &mut NodeCx<'_, '_>, integers: ValueId, stored: Stored) -> ValueId {
    if stored.is_widened() {
        n.integers_of_file().declare(integers, stored);
    }
    integers
}

/// Quantization in `F32`, if scale or zero point are computed at run time or not representable.
fn quantize_plain(n: &mut NodeCx<'_, '_>, x: ValueId, scheme: &Scheme, to: Stored) -> Result<ValueId, Refusal> {
    let (lo, hi) = to.integers().unwrap_or_default();
    let (scale, zero) = scheme.factors(n, x)?;
    let steps = n.binary(BinaryFn::Div, x, scale)?;
    let steps = n.unary(UnaryFn::Round, steps)?;
    let integers = zero.map_or(Ok(steps), |zero| n.binary(BinaryFn::Add, steps, zero))?;
    let integers = n.add(Clamp { lo: lo as f32, hi: hi as f32 }, &[integers])?;
    let integers = n.cast(integers, to.elem())?;
    Ok(declared(n, integers, to))
}

/// The axis attribute, which is used with per-channel scales.
fn axis(n: &mut NodeCx<'_, '_>, x: ValueId, scale: ValueId) -> Result<usize, Refusal> {
    let axis = n.int("axis", 1)?;
    if n.dims(scale)?.iter().product::<usize>() == 1 { Ok(0) } else { n.axis(axis, x) }
}

fn dequantize_linear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    let block = n.int("block_size", 0)?;
    let out = match n.int("output_dtype", 0)? {
        0 => n.ty(scale).elem.clone(),
        dtype => n.elem(dtype)?,
    };
    let real = if block == 0 {
        let axis = axis(n, x, scale)?;
        let scheme = Scheme::at(n, 1, axis, x)?;
        dequantize(n, x, &scheme)?
    } else {
        let axis = n.int("axis", 1)?;
        let axis = n.axis(axis, x)?;
        blocks::dequantize(n, axis, block)?
    };
    one(n.cast(real, out)?)
}

/// The type is that of the zero point, or an attribute.
fn quantize_linear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    if n.int("block_size", 0)? != 0 {
        return Err(Refusal::Unsupported("quantization in blocks is not supported".into()));
    }
    // Both only affect 8-bit floats and reduced-precision arithmetic.
    n.flag("saturate", true)?;
    n.int("precision", 0)?;
    let dtype = n.int("output_dtype", 0)?;
    let axis = axis(n, x, scale)?;
    let scheme = Scheme::at(n, 1, axis, x)?;
    let to = match (scheme.zero, dtype) {
        (Some(zero), _) => stored_zero(n, zero)?,
        (None, 0) => Stored::U8,
        (None, dtype) => n.stored_as(dtype)?,
    };
    one(quantize(n, x, &scheme, to)?)
}

/// The file's integer type of this zero point.
fn stored_zero(n: &NodeCx<'_, '_>, zero: ValueId) -> Result<Stored, Refusal> {
    n.stored(zero).ok_or_else(|| Refusal::Unsupported(format!("zero points {} are not supported", n.ty(zero))))
}

/// Quantization to unsigned 8 bits over the range of x and 0; the results are integers, scale and zero point.
fn dynamic_quantize_linear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axes: Extents = (0..n.rank(x)).collect();
    let zero = n.scalar(0.0, x)?;
    let (least, most) = (n.reduce(ReduceFn::Min, x, &axes, false)?, n.reduce(ReduceFn::Max, x, &axes, false)?);
    let (least, most) = (n.binary(BinaryFn::Min, least, zero)?, n.binary(BinaryFn::Max, most, zero)?);
    let (span, steps) = (n.binary(BinaryFn::Sub, most, least)?, n.scalar(255.0, x)?);
    let scale = n.binary(BinaryFn::Div, span, steps)?;
    // If all values are 0, the scale must not be 0.
    let finest = n.scalar(f32::MIN_POSITIVE.into(), x)?;
    let scale = n.binary(BinaryFn::Max, scale, finest)?;
    let (below, lo) = (n.binary(BinaryFn::Div, least, scale)?, n.scalar(0.0, x)?);
    let zero_point = n.binary(BinaryFn::Sub, lo, below)?;
    let zero_point = n.add(Clamp { lo: 0.0, hi: 255.0 }, &[zero_point])?;
    let zero_point = n.unary(UnaryFn::Round, zero_point)?;
    let zero_point = n.cast(zero_point, Elem::U8)?;
    let y = quantize(n, x, &Scheme { scale, zero: Some(zero_point), axis: 0 }, Stored::U8)?;
    Ok(Values::from_slice(&[y, scale, zero_point]))
}

/// The integers `x` minus the zero point, a scalar or a vector along `axis`.
fn centred(n: &mut NodeCx<'_, '_>, x: ValueId, zero: Option<ValueId>, axis: usize) -> Result<ValueId, Refusal> {
    let count = zero.map_or(Ok(1), |z| n.dims(z).map(|dims| dims.iter().product()))?;
    let scale = n.add_constant(Tensor::from_vec(Shape::known(&[count]), vec![1f32; count]));
    let scheme = Scheme::new(n, scale, zero, axis, x)?;
    if n.constant(x).is_some() {
        return dequantize(n, x, &scheme);
    }
    let (_, zero) = scheme.factors(n, x)?;
    let stored = n.stored(x);
    let x = integers::numbers(n, x, stored)?;
    zero.map_or(Ok(x), |zero| n.binary(BinaryFn::Sub, x, zero))
}

/// An integer contraction; `channel` is the axis of the weight's zero points.
fn integer(n: &mut NodeCx<'_, '_>, op: &str, channel: usize) -> Result<Values, Refusal> {
    let (x, w, x_zero, w_zero) = (n.input(0)?, n.input(1)?, n.optional(2), n.optional(3));
    let rows = n.rank(x).saturating_sub(2);
    let (x, w) = (centred(n, x, x_zero, rows)?, centred(n, w, w_zero, channel)?);
    let sums = n.with_inputs(&[Some(x), Some(w)], op)?[0];
    one(n.cast(sums, Elem::I32)?)
}

/// Input `at` (integers, per-tensor scale and zero point), dequantized.
fn float_whole(n: &mut NodeCx<'_, '_>, at: usize) -> Result<ValueId, Refusal> {
    let x = n.input(at)?;
    let scheme = Scheme::single(n, at + 1, x)?;
    dequantize(n, x, &scheme)
}

/// Input `at` (integers, scales and zero points along an axis), dequantized.
fn float_input(n: &mut NodeCx<'_, '_>, at: usize, axis: usize) -> Result<ValueId, Refusal> {
    let x = n.input(at)?;
    let scheme = Scheme::at(n, at + 1, axis, x)?;
    dequantize(n, x, &scheme)
}

/// A bias of 32-bit integers, dequantized with the accumulator's scale times `factor`.
fn float_bias(n: &mut NodeCx<'_, '_>, bias: ValueId, scales: [ValueId; 2], factor: f32) -> Result<ValueId, Refusal> {
    let [x, w] = scales.map(|s| n.ty(s).shape.elements());
    let [flat_x, flat_w] = [n.reshape(scales[0], &[x.unwrap_or(1)])?, n.reshape(scales[1], &[w.unwrap_or(1)])?];
    let mut scale = n.binary(BinaryFn::Mul, flat_x, flat_w)?;
    if factor != 1.0 {
        let factor = n.scalar(factor.into(), scale)?;
        scale = n.binary(BinaryFn::Mul, scale, factor)?;
    }
    let axis = n.rank(bias).saturating_sub(1);
    let scheme = Scheme::new(n, scale, None, axis, bias)?;
    dequantize(n, bias, &scheme)
}

/// The result `y` of a float operator, quantized with inputs `at` (scale, zero point); its type is that of the zero
/// point.
fn put(n: &mut NodeCx<'_, '_>, y: ValueId, at: usize) -> Result<Values, Refusal> {
    let scheme = Scheme::single(n, at, y)?;
    let to = scheme.zero.map_or(Ok(Stored::U8), |zero| stored_zero(n, zero))?;
    one(quantize(n, y, &scheme, to)?)
}

/// An operator on `count` quantized inputs, followed by the scheme of the result.
fn qlinear(n: &mut NodeCx<'_, '_>, op: &str, count: usize) -> Result<Values, Refusal> {
    let inputs = (0..count).map(|i| float_whole(n, 3 * i).map(Some)).collect::<Result<Vec<_>, _>>()?;
    let y = n.with_inputs(&inputs, op)?[0];
    put(n, y, 3 * count)
}

/// The scheme of the result comes first.
fn qlinear_concat(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let count = n.inputs().saturating_sub(2) / 3;
    let inputs = (0..count).map(|i| float_whole(n, 2 + 3 * i).map(Some)).collect::<Result<Vec<_>, _>>()?;
    let y = n.with_inputs(&inputs, "Concat")?[0];
    put(n, y, 0)
}

fn channels_first(n: &mut NodeCx<'_, '_>) -> Result<(), Refusal> {
    if n.flag("channels_last", false)? {
        return Err(Refusal::Unsupported("images with channels last come from ONNX Runtime's optimizer".into()));
    }
    Ok(())
}

fn qlinear_conv(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, w) = (float_whole(n, 0)?, float_input(n, 3, 0)?);
    let scales = [n.input(1)?, n.input(4)?];
    let bias = n.optional(8).map(|bias| float_bias(n, bias, scales, 1.0)).transpose()?;
    let y = n.with_inputs(&[Some(x), Some(w), bias], "Conv")?[0];
    put(n, y, 6)
}

/// Scales are along the rows of a and the columns of b.
fn qlinear_matmul(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [rows, columns] = [n.input(0)?, n.input(3)?].map(|v| n.rank(v));
    let (a, b) = (float_input(n, 0, rows.saturating_sub(2))?, float_input(n, 3, columns.saturating_sub(1))?);
    let y = n.with_inputs(&[Some(a), Some(b)], "MatMul")?[0];
    put(n, y, 6)
}

/// Without a scheme for the result, it is a float.
fn qgemm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let column = usize::from(!n.flag("transB", false)?);
    let alpha = n.float("alpha", 1.0)?;
    let (a, b) = (float_whole(n, 0)?, float_input(n, 3, column)?);
    let scales = [n.input(1)?, n.input(4)?];
    let c = n.optional(6).map(|c| float_bias(n, c, scales, alpha)).transpose()?;
    let y = n.with_inputs(&[Some(a), Some(b), c], "Gemm")?[0];
    if n.optional(7).is_none() { one(y) } else { put(n, y, 7) }
}

/// a * b plus a bias, with quantized b. The activation is quantized only for speed: the float product is imported.
fn dynamic_quantize_matmul(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    let scheme = Scheme::at(n, 2, n.rank(b).saturating_sub(1), b)?;
    let b = dequantize(n, b, &scheme)?;
    product(n, a, b, 4)
}

fn matmul_integer_to_float(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    let [rows, columns] = [n.rank(a).saturating_sub(2), n.rank(b).saturating_sub(1)];
    let (a_scale, b_scale) = (n.input(2)?, n.input(3)?);
    let (a_zero, b_zero) = (n.optional(4), n.optional(5));
    let (a_scheme, b_scheme) =
        (Scheme::new(n, a_scale, a_zero, rows, a)?, Scheme::new(n, b_scale, b_zero, columns, b)?);
    let (a, b) = (dequantize(n, a, &a_scheme)?, dequantize(n, b, &b_scheme)?);
    product(n, a, b, 6)
}

/// a * b plus the bias at input `bias`.
fn product(n: &mut NodeCx<'_, '_>, a: ValueId, b: ValueId, bias: usize) -> Result<Values, Refusal> {
    let bias = n.optional(bias);
    let y = n.with_inputs(&[Some(a), Some(b)], "MatMul")?[0];
    one(bias.map_or(Ok(y), |bias| n.binary(BinaryFn::Add, y, bias))?)
}

/// An LSTM with integer weights `[D, I, 4H]` and `[D, H, 4H]`; scales and zero points are `[D]` or `[D, 4H]`.
/// Activations are quantized only for speed: the float layer is imported, with dequantized weights.
fn dynamic_quantize_lstm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    lstm_of(n, |n, directions| {
        let (w, r) = (gates(n, 1, 8, directions)?, gates(n, 2, 10, directions)?);
        Ok(w.into_iter().zip(r).map(<[ValueId; 2]>::from).collect())
    })
}

/// For each direction the weights at input `at` with the scheme at inputs `scheme` and `scheme + 1`, dequantized as
/// `[4H, I]`.
fn gates(n: &mut NodeCx<'_, '_>, at: usize, scheme: usize, directions: usize) -> Result<Vec<ValueId>, Refusal> {
    let constant = |n: &mut NodeCx<'_, '_>, i: usize| n.optional_constant(i)?.ok_or(Refusal::MissingInput(i));
    let (w, scale, zero) = (constant(n, at)?, constant(n, scheme)?, constant(n, scheme + 1)?);
    let &[_, inner, rows] = w.dims().as_slice() else {
        return Err(Refusal::Invalid(format!("weights {} of an LSTM; expected rank 3", w.ty())));
    };
    let fits = |t: &Tensor| t.dims() == [directions] || t.dims() == [directions, rows];
    if w.dims()[0] != directions || !fits(&scale) || !fits(&zero) {
        return Err(Refusal::Invalid(format!("scales {} and zero points {} for {}", scale.ty(), zero.ty(), w.ty())));
    }
    let (integers, scales, zeros) = (w.floats(), scale.floats(), zero.floats());
    let of = |all: &[f32], d: usize, row: usize| if all.len() == directions { all[d] } else { all[d * rows + row] };
    let mut weights = Vec::new();
    for d in 0..directions {
        let place = |k: usize| (d * inner + k % inner) * rows + k / inner;
        let scales: Vec<f32> = (0..rows).map(|row| of(&scales, d, row)).collect();
        let shape = Shape::known(&[rows, inner]);
        // Symmetric weights stay quantized.
        let normal = scales.iter().all(|s| s.is_normal() && *s > 0.0);
        if normal && w.ty().elem == Elem::I8 && zeros.iter().all(|&zero| zero == 0.0) {
            let ty = TensorType::new(Elem::Quantized(QuantParams::per_axis(StorageType::I8, 0, scales)), shape);
            let stored = n.add_constant(Tensor::of(ty, (0..rows * inner).map(|k| integers[place(k)] as i8).collect()));
            weights.push(n.add(Dequantize {}, &[stored])?);
        } else {
            let real = |k: usize| (integers[place(k)] - of(&zeros, d, k / inner)) * scales[k / inner];
            weights.push(n.add_constant(Tensor::from_vec(shape, (0..rows * inner).map(real).collect())));
        }
    }
    Ok(weights)
}

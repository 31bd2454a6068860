//! Quantized operators.
//!
//! Scales and zero points that are known make a grid, and an operator on quantized numbers (`QLinear*`, `QGemm`) is the
//! real one between [`Dequantize`] and [`Quantize`]. What lies on no grid is computed as the standard says, in `F32`:
//! integers up to 2^24 are exact there, sums of products beyond that are rounded to 24 bits.

use qcc_ir::ops::{BinaryFn, Clamp, Dequantize, Extents, GridRule, Op, Quantize, ReduceFn, UnaryFn};
use qcc_ir::{Elem, Grid, Shape, Store, Tensor, TensorType, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::recurrent::lstm_of;
use crate::build::{Build, Values, one};
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

/// How integers stand for real numbers: `scale * (q - zero)`.
struct Scheme {
    scale: ValueId,
    /// Absent: 0.
    zero: Option<ValueId>,
    /// The axis that scales and zero points run along where there are several.
    axis: usize,
}

impl Scheme {
    /// The scheme that inputs `at` (scale) and `at + 1` (zero point) give.
    fn at(n: &mut NodeCx<'_, '_>, at: usize, axis: usize) -> Result<Scheme, Refusal> {
        Ok(Scheme { scale: n.input(at)?, zero: n.optional(at + 1), axis })
    }

    /// The grid of integers that are stored so, where scale and zero point are known and a grid has them.
    fn grid(&self, n: &NodeCx<'_, '_>, store: Store) -> Option<Grid> {
        let scales = n.constant(self.scale)?.reals();
        let zeros = match self.zero {
            Some(zero) => n.constant(zero)?.integers()?,
            None => vec![0],
        };
        if !scales.iter().all(|s| s.is_normal() && *s > 0.0) {
            return None;
        }
        match (&*scales, zeros.as_slice()) {
            (&[scale], &[zero]) => Some(Grid::per_tensor(store, scale, i32::try_from(zero).ok()?)),
            (many, zeros) if many.len() > 1 && zeros.iter().all(|&z| z == 0) => {
                Some(Grid::per_axis(store, self.axis, many))
            }
            _ => None,
        }
    }

    /// A constant on its grid. Unsigned bytes around 128 are signed ones around 0.
    fn constant(&self, n: &NodeCx<'_, '_>, t: &Tensor) -> Option<Tensor> {
        let store = store(&t.ty().elem)?;
        if let Some(grid) = self.grid(n, store) {
            return t.retype(t.ty().with_elem(Elem::Grid(grid)));
        }
        let zeros = n.constant(self.zero?)?.integers()?;
        if store != Store::U8 || zeros.iter().any(|&z| z != 128) {
            return None;
        }
        let grid = Scheme { zero: None, ..*self }.grid(n, Store::I8)?;
        Some(Tensor::of(t.ty().with_elem(Elem::Grid(grid)), t.data().iter().map(|b| b ^ 0x80).collect::<Vec<u8>>()))
    }

    /// Scale and zero point as real numbers that broadcast with `x`.
    fn factors(&self, n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<(ValueId, Option<ValueId>), Refusal> {
        let scale = along(n, self.scale, self.axis, x)?;
        let known_zero =
            |z: &ValueId| n.constant(*z).and_then(Tensor::integers).is_some_and(|t| t.iter().all(|&z| z == 0));
        let zero = self.zero.filter(|z| !known_zero(z));
        Ok((scale, zero.map(|z| along(n, z, self.axis, x)).transpose()?))
    }
}

/// The storage of plain integers on a grid.
fn store(elem: &Elem) -> Option<Store> {
    [Store::I8, Store::U8, Store::I16, Store::I32].into_iter().find(|s| s.elem() == *elem)
}

/// `v`, which has one number or one for each index of `axis` of `x`, as `F32` that broadcasts with `x`.
fn along(n: &mut NodeCx<'_, '_>, v: ValueId, axis: usize, x: ValueId) -> Result<ValueId, Refusal> {
    let count: usize = n.dims(v).iter().product();
    let v = n.cast(v, Elem::F32)?;
    if count == 1 {
        return n.reshape(v, &[]);
    }
    if n.rank(v) != 1 || n.dims(x).get(axis) != Some(&count) {
        return Err(Refusal::Unsupported(format!(
            "scales or zero points {} along axis {axis} of {}",
            n.ty(v),
            n.ty(x)
        )));
    }
    let mut dims = Extents::from_elem(1, n.rank(x));
    dims[axis] = count;
    n.reshape(v, &dims)
}

/// The integers that a value stores, as `F32`.
fn stored(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<ValueId, Refusal> {
    let Some(grid) = n.ty(x).elem.grid().cloned() else { return n.cast(x, Elem::F32) };
    let (scale, zero) =
        grid.tensor_map().ok_or_else(|| Refusal::Unsupported(format!("the integers of {}", n.ty(x))))?;
    let real = n.add(Dequantize {}, &[x])?;
    let (scale, zero) = (n.scalar(scale.into(), real)?, n.scalar(zero.into(), real)?);
    let steps = n.binary(BinaryFn::Div, real, scale)?;
    let steps = n.unary(UnaryFn::Round, steps)?;
    n.binary(BinaryFn::Add, steps, zero)
}

/// The integers `x` read on a grid: a constant or an input that nothing else reads, or what moves such a one about.
fn read_on(n: &mut impl Build, x: ValueId, grid: &Grid) -> Result<Option<ValueId>, Refusal> {
    let on_grid = n.ty(x).with_elem(Elem::Grid(grid.clone()));
    if let Some(t) = n.constant(x) {
        return Ok(t.retype(on_grid).map(|t| n.add_constant(t)));
    }
    match n.graph().producer(x).clone() {
        Op::Input(_) if n.graph().users(x).is_empty() => {
            n.graph_mut().set_type(x, on_grid);
            Ok(Some(x))
        }
        op if op.grid() == GridRule::Carry && matches!(op, Op::Gather(_) | Op::Transpose(_) | Op::Reshape(_)) => {
            let mut operands = n.graph().operands(x.node);
            let Some(data) = read_on(n, operands[0], grid)? else { return Ok(None) };
            operands[0] = data;
            n.add(op, &operands).map(Some)
        }
        _ => Ok(None),
    }
}

/// The real numbers that the integers `x` stand for.
fn dequantize(n: &mut NodeCx<'_, '_>, x: ValueId, scheme: &Scheme) -> Result<ValueId, Refusal> {
    if let Some(on_grid) = n.constant(x).and_then(|t| scheme.constant(n, t)) {
        let on_grid = n.add_constant(on_grid);
        return n.add(Dequantize {}, &[on_grid]);
    }
    if let Some(on_grid) = n.wide(x).filter(|v| wide(scheme.grid(n, Store::I16)).as_ref() == n.ty(*v).elem.grid()) {
        return n.add(Dequantize {}, &[on_grid]);
    }
    let elem = n.ty(x).elem.clone();
    let on_grid = match elem.grid() {
        Some(own) => (scheme.grid(n, own.store).as_ref() == Some(own)).then_some(x),
        None => match store(&elem).filter(|s| s.size() == 1).and_then(|store| scheme.grid(n, store)) {
            Some(grid) if n.constant(x).is_none() => read_on(n, x, &grid)?,
            _ => None,
        },
    };
    if let Some(on_grid) = on_grid {
        return n.add(Dequantize {}, &[on_grid]);
    }
    let (scale, zero) = scheme.factors(n, x)?;
    let integers = stored(n, x)?;
    let steps = zero.map_or(Ok(integers), |zero| n.binary(BinaryFn::Sub, integers, zero))?;
    n.binary(BinaryFn::Mul, steps, scale)
}

/// The grid of unsigned 16-bit integers, which are stored as signed ones.
fn wide(grid: Option<Grid>) -> Option<Grid> {
    let (scale, zero) = grid?.tensor_map()?;
    Some(Grid::per_tensor(Store::I16, scale, zero - 32768))
}

/// The integers nearest to the real numbers `x`, limited to those of `elem`; `I32` stands for unsigned 16-bit ones.
fn quantize(n: &mut NodeCx<'_, '_>, x: ValueId, scheme: &Scheme, elem: &Elem) -> Result<ValueId, Refusal> {
    let x = n.cast(x, Elem::F32)?;
    let put = |n: &mut NodeCx<'_, '_>, grid: Grid| {
        let on_grid = n.ty(x).with_elem(Elem::Grid(grid));
        n.add_typed(Quantize {}, &[x], on_grid)
    };
    let (lo, hi) = match elem {
        Elem::I8 | Elem::U8 | Elem::I16 => {
            let store = store(elem).unwrap_or(Store::I16);
            if let Some(grid) = scheme.grid(n, store) {
                return put(n, grid);
            }
            store.range()
        }
        Elem::I32 => {
            if let Some(grid) = wide(scheme.grid(n, Store::I16)) {
                let on_grid = put(n, grid)?;
                let integers = stored(n, on_grid)?;
                let shift = n.scalar(32768.0, integers)?;
                let integers = n.binary(BinaryFn::Add, integers, shift)?;
                let integers = n.cast(integers, Elem::I32)?;
                n.set_wide(integers, on_grid);
                return Ok(integers);
            }
            (0, 65535)
        }
        other => return Err(Refusal::Unsupported(format!("quantization to {other} is not supported"))),
    };
    let (scale, zero) = scheme.factors(n, x)?;
    let steps = n.binary(BinaryFn::Div, x, scale)?;
    let steps = n.unary(UnaryFn::Round, steps)?;
    let integers = zero.map_or(Ok(steps), |zero| n.binary(BinaryFn::Add, steps, zero))?;
    let integers = n.add(Clamp { lo: lo as f32, hi: hi as f32 }, &[integers])?;
    n.cast(integers, elem.clone())
}

/// The axis attribute, which counts where there are several scales.
fn axis(n: &mut NodeCx<'_, '_>, x: ValueId, scale: ValueId) -> Result<usize, Refusal> {
    let axis = n.int("axis", 1)?;
    if n.dims(scale).iter().product::<usize>() == 1 { Ok(0) } else { n.axis(axis, x) }
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
        let scheme = Scheme::at(n, 1, axis)?;
        dequantize(n, x, &scheme)?
    } else {
        let axis = n.int("axis", 1)?;
        let axis = n.axis(axis, x)?;
        blocked(n, axis, block)?
    };
    one(n.cast(real, out)?)
}

/// Constants with a scale and zero point for each `block` indices of `axis`, as real numbers.
fn blocked(n: &mut NodeCx<'_, '_>, axis: usize, block: i64) -> Result<ValueId, Refusal> {
    let missing = Refusal::MissingInput;
    let (x, scale) = (n.optional_constant(0)?.ok_or(missing(0))?, n.optional_constant(1)?.ok_or(missing(1))?);
    let zero = n.optional_constant(2)?;
    let (dims, block) = (x.dims(), usize::try_from(block).unwrap_or(0).max(1));
    let mut expected = dims.clone();
    expected[axis] = dims[axis].div_ceil(block);
    if scale.dims() != expected || zero.as_ref().is_some_and(|z| z.dims() != expected) {
        return Err(Refusal::Invalid(format!(
            "scales {} for blocks of {block} along axis {axis} of {}",
            scale.ty(),
            x.ty()
        )));
    }
    let inner: usize = dims[axis + 1..].iter().product();
    let place = |i: usize| {
        let (outer, along) = (i / (inner * dims[axis]), i / inner % dims[axis]);
        (outer * expected[axis] + along / block) * inner + i % inner
    };
    let (integers, scales) = (x.reals(), scale.reals());
    let zeros = zero.as_ref().map(Tensor::reals);
    let zero = |at: usize| zeros.as_ref().map_or(0.0, |z| z[at]);
    let real = |(i, q): (usize, &f32)| (q - zero(place(i))) * scales[place(i)];
    let values: Vec<f32> = integers.iter().enumerate().map(real).collect();
    Ok(n.add_constant(Tensor::from_vec(Shape::known(&dims), values)))
}

/// The type is that of the zero point, or an attribute.
fn quantize_linear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, scale) = (n.input(0)?, n.input(1)?);
    if n.int("block_size", 0)? != 0 {
        return Err(Refusal::Unsupported("quantization in blocks is not supported".into()));
    }
    // Both concern the 8-bit floats and narrow arithmetic.
    n.flag("saturate", true)?;
    n.int("precision", 0)?;
    let dtype = n.int("output_dtype", 0)?;
    let axis = axis(n, x, scale)?;
    let scheme = Scheme::at(n, 1, axis)?;
    let elem = match (scheme.zero, dtype) {
        (Some(zero), _) => n.ty(zero).elem.clone(),
        (None, 0) => Elem::U8,
        (None, dtype) => n.elem(dtype)?,
    };
    one(quantize(n, x, &scheme, &elem)?)
}

/// Unsigned bytes that span the values of x and 0, their scale and their zero point.
fn dynamic_quantize_linear(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let axes: Extents = (0..n.rank(x)).collect();
    let zero = n.scalar(0.0, x)?;
    let (least, most) = (n.reduce(ReduceFn::Min, x, &axes, false)?, n.reduce(ReduceFn::Max, x, &axes, false)?);
    let (least, most) = (n.binary(BinaryFn::Min, least, zero)?, n.binary(BinaryFn::Max, most, zero)?);
    let (span, steps) = (n.binary(BinaryFn::Sub, most, least)?, n.scalar(255.0, x)?);
    let scale = n.binary(BinaryFn::Div, span, steps)?;
    // Where all is 0, so are the integers.
    let finest = n.scalar(f32::MIN_POSITIVE.into(), x)?;
    let scale = n.binary(BinaryFn::Max, scale, finest)?;
    let (below, lo) = (n.binary(BinaryFn::Div, least, scale)?, n.scalar(0.0, x)?);
    let zero_point = n.binary(BinaryFn::Sub, lo, below)?;
    let zero_point = n.add(Clamp { lo: 0.0, hi: 255.0 }, &[zero_point])?;
    let zero_point = n.unary(UnaryFn::Round, zero_point)?;
    let zero_point = n.cast(zero_point, Elem::U8)?;
    let y = quantize(n, x, &Scheme { scale, zero: Some(zero_point), axis: 0 }, &Elem::U8)?;
    Ok(Values::from_slice(&[y, scale, zero_point]))
}

/// The integers `x` less the zero point, which may have one for each index of `axis`.
fn centred(n: &mut NodeCx<'_, '_>, x: ValueId, zero: Option<ValueId>, axis: usize) -> Result<ValueId, Refusal> {
    let scheme = Scheme { scale: n.add_constant(Tensor::scalar(1f32)), zero, axis };
    if n.constant(x).is_some() {
        return dequantize(n, x, &scheme);
    }
    let (_, zero) = scheme.factors(n, x)?;
    let x = stored(n, x)?;
    zero.map_or(Ok(x), |zero| n.binary(BinaryFn::Sub, x, zero))
}

/// A contraction of integers; `channel` is the axis of the weight that its zero points run along.
fn integer(n: &mut NodeCx<'_, '_>, op: &str, channel: usize) -> Result<Values, Refusal> {
    let (x, w, x_zero, w_zero) = (n.input(0)?, n.input(1)?, n.optional(2), n.optional(3));
    let rows = n.rank(x).saturating_sub(2);
    let (x, w) = (centred(n, x, x_zero, rows)?, centred(n, w, w_zero, channel)?);
    let sums = n.with_inputs(&[Some(x), Some(w)], op)?[0];
    one(n.cast(sums, Elem::I32)?)
}

/// Input `at` (integers, scale, zero point) as real numbers.
fn real_input(n: &mut NodeCx<'_, '_>, at: usize, axis: usize) -> Result<ValueId, Refusal> {
    let x = n.input(at)?;
    let scheme = Scheme::at(n, at + 1, axis)?;
    dequantize(n, x, &scheme)
}

/// A bias of 32-bit integers, whose scale is that of the products times `factor`.
fn real_bias(n: &mut NodeCx<'_, '_>, bias: ValueId, scales: [ValueId; 2], factor: f32) -> Result<ValueId, Refusal> {
    let [x, w] = scales.map(|s| n.ty(s).shape.elements());
    let [flat_x, flat_w] = [n.reshape(scales[0], &[x.unwrap_or(1)])?, n.reshape(scales[1], &[w.unwrap_or(1)])?];
    let mut scale = n.binary(BinaryFn::Mul, flat_x, flat_w)?;
    if factor != 1.0 {
        let factor = n.scalar(factor.into(), scale)?;
        scale = n.binary(BinaryFn::Mul, scale, factor)?;
    }
    let axis = n.rank(bias).saturating_sub(1);
    dequantize(n, bias, &Scheme { scale, zero: None, axis })
}

/// The result `y` of a real operator on the grid of inputs `at` (scale, zero point); its type is that of the zero
/// point.
fn put(n: &mut NodeCx<'_, '_>, y: ValueId, at: usize) -> Result<Values, Refusal> {
    let scheme = Scheme::at(n, at, 0)?;
    let elem = scheme.zero.map_or(Elem::U8, |zero| n.ty(zero).elem.clone());
    one(quantize(n, y, &scheme, &elem)?)
}

/// An operator on `count` quantized inputs, whose result's scheme comes behind them.
fn qlinear(n: &mut NodeCx<'_, '_>, op: &str, count: usize) -> Result<Values, Refusal> {
    let inputs = (0..count).map(|i| real_input(n, 3 * i, 0).map(Some)).collect::<Result<Vec<_>, _>>()?;
    let y = n.with_inputs(&inputs, op)?[0];
    put(n, y, 3 * count)
}

/// Here the result's scheme comes first.
fn qlinear_concat(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let count = n.inputs().saturating_sub(2) / 3;
    let inputs = (0..count).map(|i| real_input(n, 2 + 3 * i, 0).map(Some)).collect::<Result<Vec<_>, _>>()?;
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
    let (x, w) = (real_input(n, 0, 0)?, real_input(n, 3, 0)?);
    let scales = [n.input(1)?, n.input(4)?];
    let bias = n.optional(8).map(|bias| real_bias(n, bias, scales, 1.0)).transpose()?;
    let y = n.with_inputs(&[Some(x), Some(w), bias], "Conv")?[0];
    put(n, y, 6)
}

/// Scales run along the rows of a and the columns of b.
fn qlinear_matmul(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let [rows, columns] = [n.input(0)?, n.input(3)?].map(|v| n.rank(v));
    let (a, b) = (real_input(n, 0, rows.saturating_sub(2))?, real_input(n, 3, columns.saturating_sub(1))?);
    let y = n.with_inputs(&[Some(a), Some(b)], "MatMul")?[0];
    put(n, y, 6)
}

/// Where no scheme is given for the result, it is real.
fn qgemm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let column = usize::from(!n.flag("transB", false)?);
    let alpha = n.float("alpha", 1.0)?;
    let (a, b) = (real_input(n, 0, 0)?, real_input(n, 3, column)?);
    let scales = [n.input(1)?, n.input(4)?];
    let c = n.optional(6).map(|c| real_bias(n, c, scales, alpha)).transpose()?;
    let y = n.with_inputs(&[Some(a), Some(b), c], "Gemm")?[0];
    if n.optional(7).is_none() { one(y) } else { put(n, y, 7) }
}

/// a * b, with integers b on a scheme of their own, plus a bias. The activation is quantized for speed alone: the
/// product is with the real numbers.
fn dynamic_quantize_matmul(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    let scheme = Scheme::at(n, 2, n.rank(b).saturating_sub(1))?;
    let b = dequantize(n, b, &scheme)?;
    product(n, a, b, 4)
}

fn matmul_integer_to_float(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (a, b) = (n.input(0)?, n.input(1)?);
    let [rows, columns] = [n.rank(a).saturating_sub(2), n.rank(b).saturating_sub(1)];
    let (a_scale, b_scale) = (n.input(2)?, n.input(3)?);
    let (a_zero, b_zero) = (n.optional(4), n.optional(5));
    let a = dequantize(n, a, &Scheme { scale: a_scale, zero: a_zero, axis: rows })?;
    let b = dequantize(n, b, &Scheme { scale: b_scale, zero: b_zero, axis: columns })?;
    product(n, a, b, 6)
}

/// a * b plus the bias at input `bias`.
fn product(n: &mut NodeCx<'_, '_>, a: ValueId, b: ValueId, bias: usize) -> Result<Values, Refusal> {
    let bias = n.optional(bias);
    let y = n.with_inputs(&[Some(a), Some(b)], "MatMul")?[0];
    one(bias.map_or(Ok(y), |bias| n.binary(BinaryFn::Add, y, bias))?)
}

/// An LSTM whose weights `[D, I, 4H]` and `[D, H, 4H]` are integers; scales and zero points are `[D]` or `[D, 4H]`.
/// Activations are quantized for speed alone: the layer works on the real numbers, and so do its weights.
fn dynamic_quantize_lstm(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    lstm_of(n, |n, directions| {
        let (w, r) = (gates(n, 1, 8, directions)?, gates(n, 2, 10, directions)?);
        Ok(w.into_iter().zip(r).map(<[ValueId; 2]>::from).collect())
    })
}

/// For each direction the weights at input `at`, whose scheme is at inputs `scheme` and behind, as real numbers `[4H, I]`.
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
    let (integers, scales, zeros) = (w.reals(), scale.reals(), zero.reals());
    let of = |all: &[f32], d: usize, row: usize| if all.len() == directions { all[d] } else { all[d * rows + row] };
    let mut weights = Vec::new();
    for d in 0..directions {
        let place = |k: usize| (d * inner + k % inner) * rows + k / inner;
        let scales: Vec<f32> = (0..rows).map(|row| of(&scales, d, row)).collect();
        let shape = Shape::known(&[rows, inner]);
        // Symmetric ones stay what they are.
        let normal = scales.iter().all(|s| s.is_normal() && *s > 0.0);
        if normal && w.ty().elem == Elem::I8 && zeros.iter().all(|&zero| zero == 0.0) {
            let ty = TensorType::new(Elem::Grid(Grid::per_axis(Store::I8, 0, scales)), shape);
            let stored = n.add_constant(Tensor::of(ty, (0..rows * inner).map(|k| integers[place(k)] as i8).collect()));
            weights.push(n.add(Dequantize {}, &[stored])?);
        } else {
            let real = |k: usize| (integers[place(k)] - of(&zeros, d, k / inner)) * scales[k / inner];
            weights.push(n.add_constant(Tensor::from_vec(shape, (0..rows * inner).map(real).collect())));
        }
    }
    Ok(weights)
}

//! FakeQuantize, dequantization, and conversions of element types.

use qcc_ir::ops::{BinaryFn, Cast, Dequantize, Quantize, UnaryFn};
use qcc_ir::{Elem, QuantParams, StorageType, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use crate::build::{Build, Values, integers, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("Convert", convert),
    ("ConvertLike", |n| {
        let (x, like) = (n.input(0)?, n.input(1)?);
        let to = n.ty(like).elem.real();
        one(n.cast(x, to)?)
    }),
    ("FakeQuantize", fake_quantize),
];

/// Tolerance of a zero point's distance to an integer: the limits of a range are rounded to F32.
const OFF: f64 = 1e-3;

/// The parameters of a FakeQuantize.
struct Fake {
    levels: u32,
    /// Lower and upper limit of the input range.
    input: [Tensor; 2],
    /// Lower and upper limit of the output range.
    output: [Tensor; 2],
}

impl Fake {
    /// The storage types, signed or unsigned, with this number of levels.
    fn storages(&self) -> &'static [StorageType] {
        match self.levels {
            256 => &[StorageType::U8, StorageType::I8],
            65536 => &[StorageType::I16],
            _ => &[],
        }
    }

    /// The quantization parameters of the input range, if all zero points are integers of the storage type.
    fn qparams(&self, rank: usize) -> Option<QuantParams> {
        let [lo, hi] = self.input.each_ref().map(|t| t.floats().iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
        let dims = self.input[0].dims();
        if lo.len() != hi.len() || self.input[1].dims() != dims || lo.is_empty() {
            return None;
        }
        let steps = f64::from(self.levels - 1);
        let scales: Vec<f64> = lo.iter().zip(&hi).map(|(lo, hi)| (hi - lo) / steps).collect();
        let below: Vec<f64> = lo.iter().zip(&scales).map(|(lo, scale)| -lo / scale).collect();
        let whole = below.iter().all(|z| (z - z.round()).abs() < OFF && (0.0..=steps).contains(&z.round()));
        if !whole || scales.iter().any(|s| !(*s as f32).is_normal() || *s < 0.0) {
            return None;
        }
        // Signed if 0 is in the middle.
        let middle = (f64::from(self.levels) / 2.0).round();
        let centred = below.iter().all(|z| z.round() == middle);
        let storage = *self.storages().iter().find(|s| (s.range().0 < 0) == centred || self.storages().len() == 1)?;
        let scales: Vec<f32> = scales.into_iter().map(|s| s as f32).collect();
        if let &[scale] = scales.as_slice() {
            return Some(QuantParams::per_tensor(storage, scale, below[0].round() as i32 + storage.range().0));
        }
        let behind = rank.checked_sub(dims.len())?;
        let wide: Vec<usize> = (0..dims.len()).filter(|&a| dims[a] != 1).collect();
        match wide.as_slice() {
            &[axis] if centred => Some(QuantParams::per_axis(storage, behind + axis, scales)),
            _ => None,
        }
    }

    /// True if the output range consists of the stored integers themselves.
    fn gives_integers(&self, storage: StorageType) -> bool {
        let (first, last) = storage.range();
        let all = |t: &Tensor, end: i32| t.floats().iter().all(|&x| x == end as f32);
        all(&self.output[0], first) && all(&self.output[1], last)
    }
}

/// Reads a FakeQuantize whose limits `input` returns.
fn fake(
    n: &mut NodeCx<'_, '_>,
    levels: u32,
    input: impl Fn(&mut NodeCx<'_, '_>, usize) -> Result<ValueId, Refusal>,
) -> Result<Fake, Refusal> {
    if levels < 2 {
        return Err(Refusal::Attribute { name: "levels".into(), problem: "less than 2" });
    }
    let mut limit = |i: usize| {
        let v = input(n, i)?;
        n.known(v, i)
    };
    Ok(Fake { levels, input: [limit(1)?, limit(2)?], output: [limit(3)?, limit(4)?] })
}

fn fake_quantize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    n.broadcasts()?;
    let levels = n.required("levels")?;
    let fake = fake(n, levels, |n, i| n.input(i))?;
    let x = n.input(0)?;
    let same = fake.input.iter().zip(&fake.output).all(|(a, b)| a.floats() == b.floats());
    if same
        && n.ty(x).elem == Elem::F32
        && let Some(qparams) = fake.qparams(n.rank(x))
    {
        let ty = n.ty(x).with_elem(Elem::Quantized(qparams));
        if ty.validate().is_ok() {
            let quantized = n.add_typed(Quantize {}, &[x], ty)?;
            return one(n.add(Dequantize {}, &[quantized])?);
        }
    }
    arithmetic(n, x, levels)
}

/// `round((x - lo) / (hi - lo) * steps) / steps * (out_hi - out_lo) + out_lo`, with x clamped to the input range.
fn arithmetic(n: &mut NodeCx<'_, '_>, x: ValueId, levels: u32) -> Result<Values, Refusal> {
    let [lo, hi, out_lo, out_hi] = [n.input(1)?, n.input(2)?, n.input(3)?, n.input(4)?];
    let steps = n.scalar(f64::from(levels - 1), x)?;
    let (span, out_span) = (n.binary(BinaryFn::Sub, hi, lo)?, n.binary(BinaryFn::Sub, out_hi, out_lo)?);
    let limited = n.binary(BinaryFn::Max, x, lo)?;
    let limited = n.binary(BinaryFn::Min, limited, hi)?;
    let above = n.binary(BinaryFn::Sub, limited, lo)?;
    let share = n.binary(BinaryFn::Div, above, span)?;
    let step = n.binary(BinaryFn::Mul, share, steps)?;
    let step = n.unary(UnaryFn::Round, step)?;
    let share = n.binary(BinaryFn::Div, step, steps)?;
    let y = n.binary(BinaryFn::Mul, share, out_span)?;
    one(n.binary(BinaryFn::Add, y, out_lo)?)
}

/// A Convert after a FakeQuantize with integer output is a quantized value.
fn convert(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let to = n.element("destination_type")?;
    let to = to.ok_or(Refusal::Attribute { name: "destination_type".into(), problem: "is missing" })?;
    if let Some(integers) = quantized(n, &to)? {
        return one(integers);
    }
    let x = n.input(0)?;
    let from = n.ty(x).elem.clone();
    match (&from, to) {
        (Elem::Quantized(_), to) => {
            let integers = integers::numbers(n, x, 0)?;
            one(n.cast(integers, to)?)
        }
        (_, to) => one(n.add(Cast { to }, &[x])?),
    }
}

/// The quantized value of a Convert to `to` after a FakeQuantize with integer output.
fn quantized(n: &mut NodeCx<'_, '_>, to: &Elem) -> Result<Option<ValueId>, Refusal> {
    let layer = n.giver(0)?;
    let levels = layer.attribute("levels").and_then(|text| text.parse::<u32>().ok());
    let (Some(levels), "FakeQuantize") = (levels, layer.kind.as_str()) else { return Ok(None) };
    let Ok(fake) = fake(n, levels, |n, i| n.behind(i)) else { return Ok(None) };
    let x = n.behind(0)?;
    let Some(qparams) = fake.qparams(n.rank(x)).map(|g| of_store(g, to)) else { return Ok(None) };
    let Some(qparams) = qparams.filter(|g| fake.gives_integers(g.storage)) else { return Ok(None) };
    let ty = n.ty(x).with_elem(Elem::Quantized(qparams));
    if ty.validate().is_err() || n.ty(x).elem != Elem::F32 {
        return Ok(None);
    }
    n.add_typed(Quantize {}, &[x], ty).map(Some)
}

/// The same parameters for storage type `to`.
fn of_store(qparams: QuantParams, to: &Elem) -> Option<QuantParams> {
    if qparams.storage.elem() == *to {
        return Some(qparams);
    }
    let (scale, zero) = qparams.tensor_map()?;
    let (storage, shift) = match (qparams.storage, to) {
        (StorageType::U8, Elem::I8) => (StorageType::I8, -128),
        (StorageType::I8, Elem::U8) => (StorageType::U8, 128),
        _ => return None,
    };
    Some(QuantParams::per_tensor(storage, scale, zero + shift))
}

/// The dequantized value of a Multiply.
pub(super) fn scaled(n: &mut NodeCx<'_, '_>) -> Result<Option<ValueId>, Refusal> {
    let Some((integers, scheme, dims)) = n.scaled()? else { return Ok(None) };
    let source = n.value(integers.source)?;
    let same = |q: &QuantParams| scheme.qparams(q.storage, &dims).as_ref() == Some(q);
    if n.ty(source).elem.qparams().is_some_and(same) {
        return n.add(Dequantize {}, &[source]).map(Some);
    }
    if let Some(tensor) = n.constant(source).cloned().and_then(|t| scheme.constant(&t, &dims)) {
        let name = n.graph().name(source).cloned();
        let stored = n.add_constant(tensor);
        if let Some(name) = name {
            n.graph_mut().set_name(stored, name);
        }
        let real = n.add(Dequantize {}, &[stored])?;
        return n.reshape(real, &dims).map(Some);
    }
    let mut real = integers::numbers(n, source, 0)?;
    if n.constant(source).is_some() {
        real = n.reshape(real, &dims)?;
    }
    let [zero, scale] = integers.factors();
    for (f, factor) in [(BinaryFn::Sub, zero), (BinaryFn::Mul, scale)] {
        if let Some(factor) = factor {
            let factor = n.value(factor)?;
            let factor = n.cast(factor, Elem::F32)?;
            real = n.binary(f, real, factor)?;
        }
    }
    Ok(Some(real))
}

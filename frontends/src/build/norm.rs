//! Decompositions of normalizations.

use qcc_ir::ops::{BinaryFn, Conv, Extents, LayerNorm, ReduceFn, UnaryFn};
use qcc_ir::{Dim, Shape, ValueId};

use super::{Build, Values, numbers};
use crate::refusal::Refusal;

/// Batch normalization for inference with per-channel `[scale, bias, mean, variance]`: x * a + b with `a = scale /
/// sqrt(variance + epsilon)`, `b = bias - mean * a`; a and b are folded if the parameters are constants.
pub(crate) fn batch_norm(
    n: &mut impl Build,
    x: ValueId,
    parameters: [ValueId; 4],
    epsilon: f64,
) -> Result<ValueId, Refusal> {
    let channels = n.shape(x).dims().get(1);
    for p in parameters {
        if channels != n.shape(p).dims().first() || n.rank(p) != 1 {
            return Err(Refusal::Invalid(format!("parameters {} for {}", n.ty(p), n.ty(x))));
        }
    }
    let [scale, bias, mean, variance] = parameters;
    let (factor, offset) = match affine(n, parameters, epsilon) {
        Some(known) => known,
        None => {
            let epsilon = n.scalar(epsilon, variance)?;
            let variance = n.binary(BinaryFn::Add, variance, epsilon)?;
            let inverse = n.unary(UnaryFn::Rsqrt, variance)?;
            let factor = n.binary(BinaryFn::Mul, scale, inverse)?;
            let shift = n.binary(BinaryFn::Mul, mean, factor)?;
            (factor, n.binary(BinaryFn::Sub, bias, shift)?)
        }
    };
    affine_along_channels(n, x, factor, offset)
}

/// Per-channel mean and variance over the batch, for models that use batch statistics in inference.
pub(crate) fn moments(n: &mut impl Build, x: ValueId) -> Result<(ValueId, ValueId), Refusal> {
    let axes: Extents = (0..n.rank(x)).filter(|&axis| axis != 1).collect();
    let mean = n.reduce(ReduceFn::Mean, x, &axes, true)?;
    let centred = n.binary(BinaryFn::Sub, x, mean)?;
    let square = n.binary(BinaryFn::Mul, centred, centred)?;
    let variance = n.reduce(ReduceFn::Mean, square, &axes, false)?;
    Ok((n.reshape_to(mean, n.shape(variance).clone())?, variance))
}

/// Factor and offset of a batch normalization with constant parameters.
fn affine(n: &mut impl Build, parameters: [ValueId; 4], epsilon: f64) -> Option<(ValueId, ValueId)> {
    let elem = n.ty(parameters[0]).elem.clone();
    let real = |v| n.constant(v).map(|t| t.floats().iter().map(|&r| f64::from(r)).collect::<Vec<f64>>());
    let [scale, bias, mean, variance] = parameters.map(real);
    let factor: Vec<f64> = scale?.iter().zip(&variance?).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let offset: Vec<f64> = bias?.iter().zip(&mean?).zip(&factor).map(|((b, m), f)| b - m * f).collect();
    let shape = Shape::known(&[factor.len()]);
    let (factor, offset) = (numbers(&elem, shape.clone(), &factor)?, numbers(&elem, shape, &offset)?);
    Some((n.add_constant(factor), n.add_constant(offset)))
}

fn affine_along_channels(n: &mut impl Build, x: ValueId, factor: ValueId, offset: ValueId) -> Result<ValueId, Refusal> {
    let (factor, offset) = (n.along_channels(factor, x)?, n.along_channels(offset, x)?);
    let scaled = n.binary(BinaryFn::Mul, x, factor)?;
    n.binary(BinaryFn::Add, scaled, offset)
}

/// Normalizes each channel of each image, then applies scale and bias `[C]`.
pub(crate) fn instance_norm(
    n: &mut impl Build,
    x: ValueId,
    affine: Option<(ValueId, ValueId)>,
    epsilon: f32,
) -> Result<ValueId, Refusal> {
    if n.rank(x) < 3 {
        return Err(Refusal::Invalid(format!("{} has no image for each channel", n.ty(x))));
    }
    let normal = n.add(LayerNorm { axis: 2, epsilon }, &[x])?;
    affined(n, normal, affine)
}

/// Normalizes each group of channels of each image, then applies scale and bias `[C]`, or `[groups]` if `by_group`.
pub(crate) fn group_norm(
    n: &mut impl Build,
    x: ValueId,
    groups: usize,
    affine: Option<(ValueId, ValueId)>,
    by_group: bool,
    epsilon: f32,
) -> Result<ValueId, Refusal> {
    let shape = n.shape(x).clone();
    let channels = shape.dims().get(1).and_then(Dim::known).filter(|c| groups > 0 && c.is_multiple_of(groups));
    let channels = channels.ok_or_else(|| Refusal::Invalid(format!("{groups} groups for {}", n.ty(x))))?;
    let rest = Shape::count(&shape.dims()[2..]).and_then(|rest| rest.times(&Dim::Known(channels / groups)));
    let rest = rest.ok_or_else(|| Refusal::Open(shape.clone()))?;
    let grouped = n.reshape_to(x, [shape.dims()[0].clone(), Dim::Known(groups), rest].into_iter().collect())?;
    let normal = n.add(LayerNorm { axis: 2, epsilon }, &[grouped])?;
    if by_group {
        let y = affined(n, normal, affine)?;
        return n.reshape_to(y, shape);
    }
    let normal = n.reshape_to(normal, shape)?;
    affined(n, normal, affine)
}

fn affined(n: &mut impl Build, x: ValueId, affine: Option<(ValueId, ValueId)>) -> Result<ValueId, Refusal> {
    let Some((scale, bias)) = affine else { return Ok(x) };
    let channels: Shape = n.shape(x).dims().get(1).cloned().into_iter().collect();
    if *n.shape(scale) != channels || *n.shape(bias) != channels {
        return Err(Refusal::Invalid(format!("scale {} and bias {} for {}", n.ty(scale), n.ty(bias), n.ty(x))));
    }
    affine_along_channels(n, x, scale, bias)
}

/// Normalizes over the axes from `axis` on, then applies scale and bias, which broadcast to them.
pub(crate) fn layer_norm(
    n: &mut impl Build,
    x: ValueId,
    axis: usize,
    affine: &[ValueId],
    epsilon: f32,
) -> Result<ValueId, Refusal> {
    let op = LayerNorm { axis, epsilon };
    let normalised = &n.shape(x).dims()[axis..];
    if affine.iter().all(|&p| n.shape(p).dims() == normalised) {
        let operands: Values = std::iter::once(x).chain(affine.iter().copied()).collect();
        return n.add(op, &operands);
    }
    let mut y = n.add(op, &[x])?;
    for (&p, f) in affine.iter().zip([BinaryFn::Mul, BinaryFn::Add]) {
        y = n.binary(f, y, p)?;
    }
    Ok(y)
}

/// x / sqrt(mean(x^2) + epsilon) over the axes from `axis` on, times scale.
pub(crate) fn rms_norm(
    n: &mut impl Build,
    x: ValueId,
    axis: usize,
    scale: Option<ValueId>,
    epsilon: f64,
) -> Result<ValueId, Refusal> {
    let axes: Extents = (axis..n.rank(x)).collect();
    let square = n.binary(BinaryFn::Mul, x, x)?;
    let mean = n.reduce(ReduceFn::Mean, square, &axes, true)?;
    let epsilon = n.scalar(epsilon, x)?;
    let mean = n.binary(BinaryFn::Add, mean, epsilon)?;
    let inverse = n.unary(UnaryFn::Rsqrt, mean)?;
    let normal = n.binary(BinaryFn::Mul, x, inverse)?;
    scale.map_or(Ok(normal), |scale| n.binary(BinaryFn::Mul, normal, scale))
}

/// Maximum number of channels that are normalized together.
const LARGEST_SIZE: usize = 1 << 16;

/// Division of each element of `[N, C, ..]` by `(bias + alpha * sum)^beta`, where the sum is that of the squares of `size`
/// channels around its own, of which `before` are before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalNorm {
    pub(crate) size: usize,
    pub(crate) before: usize,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) bias: f32,
}

impl LocalNorm {
    pub(crate) fn of(&self, n: &mut impl Build, x: ValueId) -> Result<ValueId, Refusal> {
        let size = self.size;
        if !(1..=LARGEST_SIZE).contains(&size) {
            return Err(Refusal::Unsupported(format!("normalization over {size} channels is not supported")));
        }
        let shape = n.shape(x).clone();
        let [batch, channels, rest @ ..] = shape.dims() else {
            return Err(Refusal::Invalid(format!("{} has no channels", n.ty(x))));
        };
        let rest = Shape::count(rest).ok_or_else(|| Refusal::Open(shape.clone()))?;
        let squares = n.binary(BinaryFn::Mul, x, x)?;
        let column = [batch.clone(), 1.into(), channels.clone(), rest].into_iter().collect();
        let column = n.reshape_to(squares, column)?;
        let elem = n.ty(x).elem.clone();
        let mut constant = |dims: &[usize], value: f32| -> Result<ValueId, Refusal> {
            let values = vec![f64::from(value); dims.iter().product()];
            let tensor = numbers(&elem, Shape::known(dims), &values);
            Ok(n.add_constant(tensor.ok_or_else(|| Refusal::Invalid(format!("{elem} has no fractions")))?))
        };
        let (window, bias) = (constant(&[1, 1, size, 1], self.alpha)?, constant(&[1], self.bias)?);
        let pads = |n: usize| Extents::from_iter([n, 0]);
        let sums = Conv { before: pads(self.before), after: pads(size - 1 - self.before), ..Conv::unit(2) };
        let sums = n.add(sums, &[column, window, bias])?;
        let sums = n.reshape_to(sums, shape)?;
        let beta = n.scalar(self.beta.into(), sums)?;
        let divisor = n.binary(BinaryFn::Pow, sums, beta)?;
        n.binary(BinaryFn::Div, x, divisor)
    }
}

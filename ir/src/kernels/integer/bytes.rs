//! Convolutions of 8-bit integers with accumulators of 32 bits, by instructions that add four products of bytes.
//!
//! Activations are unsigned in these instructions, and weights are signed. The zero point is subtracted from sums: it times
//! the sum of the weights. Sums of integers are exact, so that processors without such instructions compute the same
//! results in another way.

use std::cell::Cell;

use smallvec::smallvec;

use super::super::conv::{Geometry, Padded, in_parts};
use super::super::matrix::Place;
use super::rescale::{Rescale, Rounding};
use crate::ops::Tensors;
use crate::types::{Elem, QuantParams, StorageType, Tensor, TensorType};
use crate::vector::vectorized;

/// The longest sums of products of bytes that fit into 32 bits.
const LONGEST: usize = 1 << 16;

/// Columns that are computed at once: two vectors.
const WIDTH: usize = 32;

/// Successive bytes of the reduction axis, the first one in the lowest bits, of each column.
type Quads = [u32; WIDTH];

thread_local! {
    /// A buffer for some columns, so that none is allocated for each part of an image.
    static COLUMNS: Cell<Vec<Quads>> = const { Cell::new(Vec::new()) };
}

/// How sums of four products are computed.
#[derive(Clone, Copy, Debug)]
enum Instructions {
    /// AVX-512 with its extension for neural networks.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// Any: slower than products of floating-point numbers.
    #[cfg(test)]
    Plain,
}

impl Instructions {
    /// Those of this processor, if it has any.
    fn best() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            return Some(Instructions::Vnni);
        }
        None
    }

    /// Calls `emit` with each row of the product of the weights with some columns.
    fn rows(self, weights: &Weights, columns: &[Quads], emit: impl FnMut(usize, &[i32; WIDTH])) {
        match self {
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "there is no safe way to call instructions that only some processors have")]
            // SAFETY: `best`, which alone makes this value, checks that this processor has them.
            Instructions::Vnni => unsafe { vnni::rows(weights, columns, emit) },
            #[cfg(test)]
            Instructions::Plain => plain(weights, columns, emit),
        }
    }
}

/// The weights of a group of filters, packed along the reduction axis and filled up with zeros.
struct Weights {
    quads: Vec<i32>,
    /// The number of packed weights of a filter.
    depth: usize,
    /// The sum of the weights of each filter.
    sums: Vec<i32>,
}

impl Weights {
    /// Of filters with `depth` weights.
    fn new(weights: &[i8], depth: usize) -> Self {
        let packed = |quad: &[i8]| {
            let mut bytes = [0; 4];
            bytes.iter_mut().zip(quad).for_each(|(byte, &weight)| *byte = weight as u8);
            i32::from_le_bytes(bytes)
        };
        let rows = || weights.chunks_exact(depth);
        Weights {
            quads: rows().flat_map(|row| row.chunks(4).map(packed)).collect(),
            depth: depth.div_ceil(4),
            sums: rows().map(|row| row.iter().map(|&w| i32::from(w)).sum()).collect(),
        }
    }

    /// The packed weights of a filter.
    #[inline(always)]
    fn row(&self, filter: usize) -> &[i32] {
        &self.quads[filter * self.depth..][..self.depth]
    }
}

/// A convolution of 8-bit activations, with weights whose zero point is 0; `None` where this processor has no instructions for
/// it, or where the parameters need another arithmetic.
pub(super) fn conv(g: &Geometry, operands: &[&Tensor], result: &TensorType) -> Option<Tensors> {
    conv_on(Instructions::best()?, g, operands, result)
}

fn conv_on(on: Instructions, g: &Geometry, operands: &[&Tensor], result: &TensorType) -> Option<Tensors> {
    let (x, w) = (operands[0].ty().elem.qparams()?, operands[1].ty().elem.qparams()?);
    let (depth, positions) = (g.channels * g.taps(), g.positions());
    let bytes = |storage| matches!(storage, StorageType::I8 | StorageType::U8);
    let plain = w.storage == StorageType::I8 && w.zero_point() == 0 && bytes(x.storage);
    // Filters of a single channel are not products of matrices.
    let depthwise = g.channels == 1 && g.filters == 1;
    if !plain || depthwise || !(1..=LONGEST).contains(&depth) || g.batch * g.groups * g.filters * positions == 0 {
        return None;
    }
    let rounding = Rounding::of(operands, result, Rescale::fixed).filter(|r| bytes(r.qparams.storage))?;
    let (_, zero) = x.tensor_map()?;
    // Signed activations are shifted to unsigned ones.
    let shift = if x.storage == StorageType::I8 { 128 } else { 0 };
    let view = operands[1].view::<i8>();
    let weights: Vec<Weights> = view.chunks_exact(g.filters * depth).map(|own| Weights::new(own, depth)).collect();
    let sums = weights.iter().flat_map(|own| own.sums.iter().map(|&sum| f64::from(sum)));
    let channel = |(i, sum): (usize, f64)| match rounding.of_channel(i) {
        (bias, Rescale::Single(ratio)) => {
            Some(Channel { offset: bias - f64::from(zero + i32::from(shift)) * sum, ratio })
        }
        _ => None,
    };
    let channels: Vec<Channel> = sums.enumerate().map(channel).collect::<Option<_>>()?;
    let mut out = vec![0u8; g.batch * channels.len() * positions];
    let images = operands[0].data().chunks_exact(g.channels * g.pixels());
    for (i, (out, image)) in out.chunks_exact_mut(g.filters * positions).zip(images).enumerate() {
        let group = i % g.groups;
        let (weights, channels) = (&weights[group], &channels[group * g.filters..][..g.filters]);
        in_parts(g, out, image, zero as u8, |mut rows, columns| {
            Part { on, weights, channels, columns, shift }.round(&rounding.qparams, &mut rows);
        });
    }
    let shape = g.shape(channels.len(), g.steps, operands[0].ty().rank());
    let ty = TensorType::new(Elem::Quantized(rounding.qparams), shape);
    Some(smallvec![Tensor::new(ty, out.into())?])
}

/// How the sums of unsigned activations become integers of the result.
struct Channel {
    /// The bias, and what the zero point of the activations adds.
    offset: f64,
    ratio: f32,
}

/// A part of an image, and the weights of a group of filters.
struct Part<'a> {
    on: Instructions,
    weights: &'a Weights,
    channels: &'a [Channel],
    columns: Padded<'a, u8>,
    /// What is added to activations.
    shift: u8,
}

impl Part<'_> {
    /// The rounded results, a row for each filter.
    fn round(&self, qparams: &QuantParams, out: &mut [&mut [u8]]) {
        let saturate = qparams.storage.saturating_narrow(qparams.zero_point());
        let mut quads = COLUMNS.take();
        quads.resize(self.weights.depth, [0; WIDTH]);
        for start in (0..self.columns.width()).step_by(WIDTH) {
            self.pack(start, &mut quads);
            let places = self.columns.positions(start..self.columns.width().min(start + WIDTH));
            self.on.rows(
                self.weights,
                &quads,
                #[inline(always)]
                |filter, sums| {
                    let Channel { offset, ratio } = self.channels[filter];
                    let mut rounded = [0u8; WIDTH];
                    for (to, &sum) in rounded.iter_mut().zip(sums) {
                        *to = saturate((f64::from(sum) + offset) as f32 * ratio) as u8;
                    }
                    match places.as_slice() {
                        // A copy of known length is a single instruction.
                        [Place { from: 0, to, len: WIDTH }] => out[filter][*to..][..WIDTH].copy_from_slice(&rounded),
                        places => places.iter().for_each(|&Place { from, to, len }| {
                            out[filter][to..][..len].copy_from_slice(&rounded[from..][..len]);
                        }),
                    }
                },
            );
        }
        COLUMNS.set(quads);
    }

    /// Packs columns from one on. Rows behind the last one have weights of 0.
    fn pack(&self, start: usize, quads: &mut [Quads]) {
        let (columns, last) = (self.columns, self.columns.rows() - 1);
        let flip = u32::from_le_bytes([self.shift; 4]);
        vectorized(
            #[inline(always)]
            || {
                for (i, quads) in quads.iter_mut().enumerate() {
                    let row = |k: usize| &columns.elements((4 * i + k).min(last), start)[..WIDTH];
                    let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                    for j in 0..WIDTH {
                        let [a, b, c, d] = [a[j], b[j], c[j], d[j]].map(u32::from);
                        // Adding 128 to a byte flips its highest bit.
                        quads[j] = (a | b << 8 | c << 16 | d << 24) ^ flip;
                    }
                }
            },
        );
    }
}

/// The definition of [`Instructions::rows`].
#[cfg(test)]
fn plain(weights: &Weights, columns: &[Quads], mut emit: impl FnMut(usize, &[i32; WIDTH])) {
    for filter in 0..weights.sums.len() {
        let mut sums = [0; WIDTH];
        for (quad, quads) in weights.row(filter).iter().zip(columns) {
            for (sum, x) in sums.iter_mut().zip(quads) {
                let products = x.to_le_bytes().into_iter().zip(quad.to_le_bytes());
                *sum += products.map(|(x, w)| i32::from(x) * i32::from(w as i8)).sum::<i32>();
            }
        }
        emit(filter, &sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::{__m512i, _mm512_dpbusd_epi32, _mm512_set1_epi32, _mm512_setzero_si512};

    use super::{Quads, WIDTH, Weights};

    /// Elements of a vector.
    const LANES: usize = 16;

    /// Calls `emit` with each row of the product of the weights with some columns.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) fn rows(weights: &Weights, columns: &[Quads], mut emit: impl FnMut(usize, &[i32; WIDTH])) {
        let (mut filter, filters) = (0, weights.sums.len());
        while filter < filters {
            filter += match filters - filter {
                8.. => tile::<8>(weights, filter, columns, &mut emit),
                4.. => tile::<4>(weights, filter, columns, &mut emit),
                2.. => tile::<2>(weights, filter, columns, &mut emit),
                _ => tile::<1>(weights, filter, columns, &mut emit),
            };
        }
    }

    /// Some rows. Returns their number.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn tile<const ROWS: usize>(
        weights: &Weights,
        filter: usize,
        columns: &[Quads],
        emit: &mut impl FnMut(usize, &[i32; WIDTH]),
    ) -> usize {
        let mut left: [&[i32]; ROWS] = [&[]; ROWS];
        for (i, left) in left.iter_mut().enumerate() {
            *left = &weights.row(filter + i)[..columns.len()];
        }
        let mut sums = [[_mm512_setzero_si512(); WIDTH / LANES]; ROWS];
        for (k, quads) in columns.iter().enumerate() {
            let right: [__m512i; WIDTH / LANES] = bytemuck::cast(*quads);
            for i in 0..ROWS {
                let weight = _mm512_set1_epi32(left[i][k]);
                for j in 0..WIDTH / LANES {
                    sums[i][j] = _mm512_dpbusd_epi32(sums[i][j], right[j], weight);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            emit(filter + i, &bytemuck::cast(sums));
        }
        ROWS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::contraction::tests::on;
    use super::*;
    use crate::ops::{Conv, Operator};
    use crate::types::Shape;

    fn quantized(storage: StorageType, scale: f32, zero_point: i32) -> QuantParams {
        QuantParams::per_tensor(storage, scale, zero_point)
    }

    proptest! {
        /// All instructions compute what the products of floating-point numbers do.
        #[test]
        fn sums_are_exact(
            (n, c, f, groups) in (1..3usize, 1..9usize, 1..20usize, 1..3usize),
            (h, wide, k) in (3..9usize, 3..70usize, 1..4usize),
            (stride, pad) in (1..4usize, 0..2usize),
            (signed, rounded) in any::<(bool, bool)>(),
            zero in 0..256i32,
        ) {
            let storage = if signed { StorageType::I8 } else { StorageType::U8 };
            let x = quantized(storage, 0.021, zero + storage.range().0);
            let y = quantized(if rounded { StorageType::I8 } else { StorageType::U8 }, 3.0, 100);
            let scales: Vec<f32> = (0..f * groups).map(|i| 0.003 + i as f32 * 0.0011).collect();
            let op = Conv {
                stride: smallvec![stride; 2],
                before: smallvec![pad; 2],
                after: smallvec![pad; 2],
                groups,
                ..Conv::unit(2)
            };
            let x = on(&x, &[n, c * groups, h, wide], 1);
            let w = on(&QuantParams::per_axis(StorageType::I8, 0, scales), &[f * groups, c, k, k], 2);
            let bias = on(&quantized(StorageType::I8, 1.0, 0), &[f * groups], 3);
            let bias = bias.integers().unwrap().into_iter().map(|q| q as i32 * 99).collect();
            let many = TensorType::new(
                Elem::Quantized(quantized(StorageType::I32, 1.0, 0)), Shape::known(&[f * groups]));
            let operands = [&x, &w, &Tensor::of(many, bias)];
            let floats = operands.map(|t| TensorType::f32(&t.dims()));
            let shape = op.infer(&floats.each_ref()).unwrap()[0].shape.clone();
            let result = TensorType::new(Elem::Quantized(y), shape);
            let g = Geometry::of_conv(&op, &x.dims(), &w.dims());
            let expected = super::super::contraction::conv_in_float(&g, &operands, &result).unwrap().unwrap();
            for on in [Some(Instructions::Plain), Instructions::best()].into_iter().flatten() {
                match conv_on(on, &g, &operands, &result) {
                    Some(found) => prop_assert_eq!(&found, &expected, "{:?}", on),
                    None => prop_assert!(c == 1 && f == 1),
                }
            }
        }
    }
}

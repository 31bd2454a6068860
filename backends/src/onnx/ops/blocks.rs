//! Matrix products with blockwise quantized weights.

use qcc_ir::ops::{Granularity, MatMul, Op};
use qcc_ir::{Affine, QuantParams, Shape, StorageType, Tensor};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Numbers, Unsupported};
use crate::pack::nibbles;

/// `accuracy_level`: activations stay in F32, or are quantized dynamically to 8 bits.
const SINGLE: i64 = 1;
const EIGHT_BITS: i64 = 4;

/// The weight of a node in the encoding of `MatMulNBits`.
struct Weight {
    /// K, the reduced extent, and N, the number of outputs.
    k: usize,
    n: usize,
    /// Block size.
    size: usize,
    /// Bits of an integer.
    bits: usize,
    /// Integers `[N, blocks, size]`, shifted to unsigned; 4-bit integers are packed two per byte, the first in the
    /// lower half.
    bytes: Vec<u8>,
    /// Scales `[N, blocks]`.
    scales: Vec<f32>,
    /// Zero points, in the encoding of the integers, `[N, blocks]` with rows of whole bytes.
    zero_points: Option<Vec<u8>>,
}

/// True if the weight is blockwise quantized.
pub(super) fn has_blocks(site: &NodeContext<'_>) -> bool {
    site.graph.ty(site.values[1]).elem.qparams().is_some_and(QuantParams::is_for_weights)
}

/// MatMulNBits, and Add for the bias.
pub(super) fn matmul(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let weight = site.constant(1).ok_or("blockwise quantized weights must be constant")?;
    let Weight { k, n, size, bits, bytes, scales, zero_points } = Weight::new(op, weight)?;
    let level = match site.graph.producer(site.values[0]) {
        Op::DynamicQuantize(d) if d.granularity == Granularity::Groups(size) => EIGHT_BITS,
        Op::DynamicQuantize(_) => {
            return Err("its activations are not quantized in the same blocks as its weight".into());
        }
        _ => SINGLE,
    };
    let blocks = k.div_ceil(size);
    let wanted = e.wanted(site.values[1]);
    let packed = Tensor::from_vec(Shape::known(&[n, blocks, size * bits / 8]), bytes);
    let packed = e.place(&format!("{wanted}_quantized"), &packed, Numbers::Float);
    let scales = Tensor::from_vec(Shape::known(&[n * blocks]), scales);
    let scales = e.place(&format!("{wanted}_scale"), &scales, Numbers::Float);
    let call = Call::contrib("MatMulNBits")
        .size("K", k)
        .size("N", n)
        .size("bits", bits)
        .size("block_size", size)
        .int("accuracy_level", level);
    let zero_points = zero_points.map_or_else(Name::default, |bytes| {
        let zeros = Tensor::from_vec(Shape::known(&[bytes.len()]), bytes);
        e.place(&format!("{wanted}_zero_point"), &zeros, Numbers::Float)
    });
    let inputs = [e.input(site, 0), packed, scales, zero_points];
    if site.values.len() == 2 {
        e.push(call, &inputs, &site.outputs);
        return Ok(());
    }
    let product: Name = e.scratch(site, &site.results[0]);
    e.push(call, &inputs, std::slice::from_ref(&product));
    let bias = e.input(site, 2);
    e.push(Call::new("Add"), &[product, bias], &site.outputs);
    Ok(())
}

impl Weight {
    fn new(op: &MatMul, weight: &Tensor) -> Result<Weight, Unsupported> {
        let (axis, rows) = if op.transpose_b { (1, 0) } else { (0, 1) };
        let (dims, qparams) = (weight.dims(), weight.ty().elem.qparams());
        let Some(QuantParams { storage, map: Affine::PerBlock { axis: along, size, scales, zero_points } }) = qparams
        else {
            return Err("its weight is not a blockwise quantized matrix".into());
        };
        if dims.len() != 2 || *along != axis || size % 2 != 0 {
            return Err("its blocks are not along the reduced axis".into());
        }
        let (bits, shift) = match storage {
            StorageType::I4 => (4, 8i16),
            StorageType::I8 => (8, 128),
            _ => return Err(format!("its blockwise quantized weight has storage type {storage}").into()),
        };
        let (k, n, size) = (dims[axis], dims[rows], *size);
        let blocks = k.div_ceil(size);
        let integers = weight.view::<i8>();
        let (step, next) = if op.transpose_b { (1, k) } else { (n, 1) };
        let at = |output: usize, i: usize| {
            let q = if i < k { i16::from(integers[output * next + i * step]) } else { 0 };
            (q + shift) as u8
        };
        let row = |output: usize| (0..blocks * size).map(move |i| (output, i));
        let bytes = match bits {
            4 => {
                let pairs = (0..n).flat_map(|output| row(output).step_by(2));
                pairs.map(|(output, i)| at(output, i) | (at(output, i + 1) << 4)).collect()
            }
            _ => (0..n).flat_map(row).map(|(output, i)| at(output, i)).collect(),
        };
        // Rows of blocks, in the order of the outputs.
        let place =
            |output: usize, block: usize| if op.transpose_b { output * blocks + block } else { block * n + output };
        let places = (0..n).flat_map(|output| (0..blocks).map(move |block| place(output, block)));
        let scales = places.map(|at| scales[at]).collect();
        let zero_points = zero_points.as_ref().map(|zeros| {
            let row = |output: usize| -> Vec<u8> {
                let shifted = |block| (i16::from(zeros[place(output, block)]) + shift) as u8;
                let all: Vec<u8> = (0..blocks).map(shifted).collect();
                if bits == 4 { nibbles(&all).to_vec() } else { all }
            };
            (0..n).flat_map(row).collect()
        });
        Ok(Weight { k, n, size, bits, bytes, scales, zero_points })
    }
}

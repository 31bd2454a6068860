//! Matrix products.

use qcc_ir::ops::{MatMul, Op, Transpose};
use qcc_ir::{Affine, Dim, Elem, QuantParams, Shape, StorageType, Tensor, TensorType};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Numbers, Unsupported, element};
use super::{blocks, quantize};

/// Gemm, or MatMul and Add. Integer products with a bias are reshaped to matrices: runtimes fuse only Gemm there.
pub(super) fn matmul(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (a, b) = (&site.operands[0], &site.operands[1]);
    let biased = site.values.len() > 2;
    if blocks::has_blocks(site) {
        return blocks::matmul(e, op, site);
    }
    let plain = a.rank() == 2 && (biased || op.transpose_b);
    let integers = |i: usize| site.graph.ty(site.values[i]).elem.qparams().is_some();
    if dynamically_quantized(site) && b.rank() == 2 {
        return dynamic(e, op, site);
    }
    let fused = biased && integers(0) && integers(1) && !e.options.has_standard_qdq();
    if b.rank() == 2 && (plain || is_wide(site) || fused) {
        return gemm(e, op, site);
    }
    if site.numbers == Numbers::Stored {
        return integer_matmul(e, op, site);
    }
    let right = match site.constant(1).filter(|_| integers(1) && !integers(0)) {
        Some(weight) => {
            let weight = if op.transpose_b { turned(weight)? } else { weight.clone() };
            e.dequantized(&e.wanted(site.values[1]), &weight)
        }
        None => columns(e, op, site, site.numbers)?,
    };
    let inputs = [e.input(site, 0), right];
    if !biased {
        e.push(Call::new("MatMul"), &inputs, &site.outputs);
        return Ok(());
    }
    let product = e.scratch(site, &site.results[0]);
    e.push(Call::new("MatMul"), &inputs, std::slice::from_ref(&product));
    let bias = e.input(site, 2);
    e.push(Call::new("Add"), &[product, bias], &site.outputs);
    Ok(())
}

/// True for a product of 16-bit activations with a constant matrix. ONNX Runtime quantizes the activations of a MatMul to
/// 8 bits where its weight is dequantized, and those of a Gemm unless its weight has an output in each row.
fn is_wide(site: &NodeContext<'_>) -> bool {
    site.graph.ty(site.values[0]).is_wide() && site.constant(1).is_some()
}

/// True if the left operand is quantized dynamically.
fn dynamically_quantized(site: &NodeContext<'_>) -> bool {
    matches!(site.graph.producer(site.values[0]), Op::DynamicQuantize(_))
}

/// Dynamic quantization of activations. Fused, this is twice as fast as a DequantizeLinear before MatMul, which
/// runtimes compute for each row.
fn dynamic(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (a, y) = (&site.operands[0], &site.results[0]);
    let qparams = site.graph.ty(site.values[1]).elem.qparams().ok_or("its right operand is not quantized")?;
    let left = e.input(site, 0);
    let right = columns(e, op, site, Numbers::Stored)?;
    let [right_scale, right_zero] = e.qparams(&right, qparams);
    let step = |e: &mut Emitter<'_>, call: Call, inputs: &[Name], ty: &TensorType| {
        let to = e.scratch(site, ty);
        e.push(call, inputs, std::slice::from_ref(&to));
        to
    };
    let scalar = |elem: Elem| TensorType::new(elem, Shape::scalar());
    let stored = e.scratch(site, &a.with_elem(Elem::U8));
    let (scale, zero) = (e.scratch(site, &scalar(Elem::F32)), e.scratch(site, &scalar(Elem::U8)));
    e.push(Call::new("DynamicQuantizeLinear"), &[left], &[stored.clone(), scale.clone(), zero.clone()]);
    let sums = step(e, Call::new("MatMulInteger"), &[stored, right, zero, right_zero], &y.with_elem(Elem::I32));
    let to = i32::from(element(&Elem::F32));
    let sums = step(e, Call::new("Cast").int("to", to), &[sums], y);
    let scales = match qparams.tensor_map() {
        Some(_) => Shape::scalar(),
        None => Shape::known(&[qparams.scales().len()]),
    };
    let scale = step(e, Call::new("Mul"), &[scale, right_scale], &TensorType::new(Elem::F32, scales));
    if site.values.len() == 2 {
        e.push(Call::new("Mul"), &[sums, scale], &site.outputs);
        return Ok(());
    }
    let product = step(e, Call::new("Mul"), &[sums, scale], y);
    let bias = e.input(site, 2);
    e.push(Call::new("Add"), &[product, bias], &site.outputs);
    Ok(())
}

/// QLinearMatMul, or MatMulIntegerToFloat if the result is a float.
fn integer_matmul(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let [a, a_scale, a_zero] = quantize::operand(e, site, 0)?;
    let b = columns(e, op, site, site.numbers)?;
    let b_qparams = site.operands[1].elem.qparams().ok_or("its right operand is not quantized")?;
    let [b_scale, b_zero] = e.qparams(&b, b_qparams);
    if site.results[0].elem.qparams().is_some() {
        let [scale, zero] = quantize::result(e, site)?;
        let inputs = [a, a_scale, a_zero, b, b_scale, b_zero, scale, zero];
        e.push(Call::new("QLinearMatMul"), &inputs, &site.outputs);
    } else {
        let inputs = [a, b, a_scale, b_scale, a_zero, b_zero];
        e.push(Call::contrib("MatMulIntegerToFloat"), &inputs, &site.outputs);
    }
    Ok(())
}

/// The right operand as `[.., K, N]`.
fn columns(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>, numbers: Numbers) -> Result<Name, Unsupported> {
    let v = site.values[1];
    if !op.transpose_b {
        return Ok(if numbers == Numbers::Stored { e.stored(v) } else { e.real(v) });
    }
    if let Some(constant) = site.constant(1) {
        let turned = turned(constant)?;
        let wanted = e.wanted(v);
        return Ok(e.place(&wanted, &turned, numbers));
    }
    let rank = site.operands[1].rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    let mut dims = site.operands[1].shape.dims().to_vec();
    dims.swap(rank - 2, rank - 1);
    let b = e.input(site, 1);
    let turned = e.scratch(site, &TensorType::new(site.operands[1].elem.clone(), dims.into_iter().collect()));
    e.push(Call::new("Transpose").sizes("perm", perm), &[b], std::slice::from_ref(&turned));
    Ok(turned)
}

/// A constant with its last two axes transposed.
fn turned(t: &Tensor) -> Result<Tensor, Unsupported> {
    let rank = t.ty().rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    transposed(t, &perm)
}

/// A transposed constant; its per-channel axis is transposed as well.
fn transposed(t: &Tensor, perm: &[usize]) -> Result<Tensor, Unsupported> {
    let fail = || Unsupported("internal error: a constant cannot be transposed".into());
    let plain = match t.ty().elem.qparams() {
        Some(qparams) => t.retype(t.ty().with_elem(qparams.storage.elem())).ok_or_else(fail)?,
        None => t.clone(),
    };
    let op = Op::from(Transpose { perm: perm.iter().copied().collect() });
    let turned = op.eval(&[&plain]).map_err(|e| e.to_string())?.swap_remove(0);
    let elem = match t.ty().elem.qparams() {
        Some(QuantParams { storage, map: Affine::PerAxis { axis, scales } }) => {
            let place = perm.iter().position(|p| p == axis).ok_or_else(fail)?;
            Elem::Quantized(QuantParams::per_axis(*storage, place, scales.clone()))
        }
        _ => t.ty().elem.clone(),
    };
    turned.retype(turned.ty().with_elem(elem)).ok_or_else(fail)
}

/// Gemm or QGemm. If the left operand has more than two axes, all but the last are merged.
fn gemm(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let a = site.graph.ty(site.values[0]);
    if a.rank() == 2 {
        let left = e.input(site, 0);
        return product(e, op, site, left, &site.outputs[0]);
    }
    let (x, y) = (matrix(a), matrix(&site.results[0]));
    let left = match a.elem.qparams() {
        Some(qparams) => {
            let whole = e.stored(site.values[0]);
            let stored = e.reshaped(site, &whole, &x)?;
            if site.numbers == Numbers::Stored {
                stored
            } else {
                let real = e.scratch(site, &x.real());
                e.dequantize(&stored, &real, qparams);
                real
            }
        }
        None => {
            let whole = e.real(site.values[0]);
            e.reshaped(site, &whole, &x)?
        }
    };
    // The quantized result is reshaped, so that QuantizeLinear directly follows the product.
    let result = site.graph.ty(site.node.value(0));
    let flat = e.scratch(site, &y);
    product(e, op, site, left, &flat)?;
    match result.elem.qparams().filter(|_| site.numbers == Numbers::Float) {
        Some(qparams) => {
            let stored = e.scratch(site, &y.with_elem(result.elem.clone()));
            e.quantize(&flat, &stored, qparams);
            let real = e.scratch(site, &y);
            e.dequantize(&stored, &real, qparams);
            e.reshape(&real, None, &site.outputs[0], &result.shape)
        }
        None => e.reshape(&flat, None, &site.outputs[0], &result.shape),
    }
}

/// The type with all axes but the last merged.
fn matrix(ty: &TensorType) -> TensorType {
    let dims = ty.shape.dims();
    let (last, outer) = (dims[dims.len() - 1].clone(), &dims[..dims.len() - 1]);
    let rows = outer.iter().try_fold(1, |n, d| Some(n * d.known()?));
    let rows = rows.map_or_else(|| Dim::symbol("rows"), Dim::Known);
    TensorType::new(ty.elem.clone(), Shape::from_iter([rows, last]))
}

/// The product of a matrix with the right operand.
fn product(e: &mut Emitter<'_>, op: &MatMul, site: &NodeContext<'_>, a: Name, to: &Name) -> Result<(), Unsupported> {
    let by_rows = op.transpose_b || is_wide(site);
    let call = |call: Call| if by_rows { call.int("transB", 1) } else { call };
    let biased = site.values.len() > 2;
    let integers = |i: usize| site.graph.ty(site.values[i]).elem.qparams().is_some();
    if site.numbers == Numbers::Float {
        // A product without a following QuantizeLinear is fused only with an integer bias.
        let bias = match biased {
            true if integers(0) && integers(1) && !e.options.has_standard_qdq() => stored_bias(e, site)?,
            true => e.input(site, 2),
            false => Name::default(),
        };
        let b = match site.constant(1).filter(|_| integers(1) && !integers(0)) {
            Some(weight) => e.dequantized(&e.wanted(site.values[1]), weight),
            None => match site.constant(1).filter(|_| by_rows != op.transpose_b) {
                Some(weight) => e.place(&e.wanted(site.values[1]), &turned(weight)?, site.numbers),
                None => e.input(site, 1),
            },
        };
        e.push(call(Call::new("Gemm")), &[a, b, bias], std::slice::from_ref(to));
        return Ok(());
    }
    let a_qparams = site.operands[0].elem.qparams().ok_or("its left operand is not quantized")?;
    let [a_scale, a_zero] = e.qparams(&a, a_qparams);
    let [b, b_scale, b_zero] = quantize::operand(e, site, 1)?;
    let bias = if biased { stored_bias(e, site)? } else { Name::default() };
    let mut inputs = vec![a, a_scale, a_zero, b, b_scale, b_zero, bias];
    if site.results[0].elem.qparams().is_some() {
        inputs.extend(quantize::result(e, site)?);
    }
    e.push(call(Call::contrib("QGemm")), &inputs, std::slice::from_ref(to));
    Ok(())
}

/// The bias with the scale of the accumulator. A computed float bias is used as it is.
fn stored_bias(e: &mut Emitter<'_>, site: &NodeContext<'_>) -> Result<Name, Unsupported> {
    let qparams = |i: usize| site.graph.ty(site.values[i]).elem.qparams();
    let bias = match site.constant(2) {
        Some(bias) if qparams(2).is_none() => bias,
        None if qparams(2).is_none() && site.numbers == Numbers::Stored => return Err("its bias is computed".into()),
        _ => return Ok(e.input(site, 2)),
    };
    let (Some((scale, _)), Some(weight)) = (qparams(0).and_then(QuantParams::tensor_map), qparams(1)) else {
        return Err("its operands are not quantized".into());
    };
    let scales: Vec<f32> = weight.scales().iter().map(|s| s * scale).collect();
    let qparams = match weight.tensor_map() {
        Some(_) => QuantParams::per_tensor(StorageType::I32, scales[0], 0),
        None => QuantParams::per_axis(StorageType::I32, 0, scales),
    };
    let fits = |(b, scale): (&f32, &f32)| f64::from(b.abs()) / f64::from(*scale) <= f64::from(i32::MAX);
    if !bias.floats().iter().zip(qparams.scales().iter().cycle()).all(fits) {
        return Err("internal error: its bias does not fit into 32 bits".into());
    }
    let wanted = e.wanted(site.values[2]);
    Ok(e.place(&wanted, &bias.quantized(&qparams), site.numbers))
}

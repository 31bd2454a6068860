//! Reductions and cumulative sums.

use qcc_ir::ops::{ArgReduce, CumSum, Reduce, ReduceFn};
use qcc_ir::{Dim, Elem, TensorType};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Unsupported, element};
use super::quantize;

/// True for the spatial mean of each channel of an image.
pub(in crate::onnx) fn is_global_average(op: &Reduce, x: &TensorType) -> bool {
    op.f == ReduceFn::Mean && x.elem.is_float() && x.rank() > 2 && op.axes.iter().copied().eq(2..x.rank())
}

/// GlobalAveragePool, or one of the Reduce operators.
pub(super) fn reduce(e: &mut Emitter<'_>, op: &Reduce, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    if op.axes.is_empty() {
        e.push_at(Call::new("Identity"), site);
        return Ok(());
    }
    if is_global_average(op, &site.operands[0].real()) {
        return global_average(e, op, site);
    }
    // From these operator sets on, the axes are an operand.
    let call = match op.f {
        ReduceFn::Sum => Call::new("ReduceSum"),
        ReduceFn::Mean => Call::new("ReduceMean").since(18),
        ReduceFn::Max | ReduceFn::Any => Call::new("ReduceMax").since(18),
        ReduceFn::Min | ReduceFn::All => Call::new("ReduceMin").since(18),
        ReduceFn::Prod => Call::new("ReduceProd").since(18),
    };
    let call = call.int("keepdims", op.keep);
    let (x, axes) = (e.input(site, 0), e.list(op.axes.iter().map(|&a| a as i64)));
    if site.operands[0].elem != Elem::Bool {
        e.push(call, &[x, axes], &site.outputs);
        return Ok(());
    }
    // Booleans are reduced as 0 and 1.
    let cast = |to: &Elem| Call::new("Cast").int("to", i32::from(element(to)));
    let [from, to] = [&site.operands[0], &site.results[0]].map(|t| t.with_elem(Elem::I32));
    let (from, to) = (e.scratch(site, &from), e.scratch(site, &to));
    e.push(cast(&Elem::I32), &[x], std::slice::from_ref(&from));
    e.push(call, &[from, axes], std::slice::from_ref(&to));
    e.push(cast(&Elem::Bool), &[to], &site.outputs);
    Ok(())
}

fn global_average(e: &mut Emitter<'_>, op: &Reduce, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let y = site.graph.ty(site.node.value(0));
    let kept = kept(&site.operands[0]);
    let to =
        if op.keep { site.outputs[0].clone() } else { e.scratch(site, &kept.with_elem(site.results[0].elem.clone())) };
    if let Some(qparams) = site.results[0].elem.qparams() {
        let [x, scale, zero] = quantize::operand(e, site, 0)?;
        let [to_scale, to_zero] = e.qparams(&to, qparams);
        let call = Call::contrib("QLinearGlobalAveragePool").int("channels_last", 0);
        e.push(call, &[x, scale, zero, to_scale, to_zero], std::slice::from_ref(&to));
    } else {
        let x = e.input(site, 0);
        e.push(Call::new("GlobalAveragePool"), &[x], std::slice::from_ref(&to));
    }
    if op.keep {
        return Ok(());
    }
    // The quantized result is reshaped, so that QuantizeLinear directly follows the mean.
    let flat: Name = match y.elem.qparams().filter(|_| site.results[0].elem.qparams().is_none()) {
        Some(qparams) => {
            let stored = e.scratch(site, &kept.with_elem(y.elem.clone()));
            e.quantize(&to, &stored, qparams);
            let real = e.scratch(site, &kept);
            e.dequantize(&stored, &real, qparams);
            real
        }
        None => to,
    };
    e.reshape(&flat, None, &site.outputs[0], &y.shape)
}

/// The type with spatial extents of 1.
fn kept(x: &TensorType) -> TensorType {
    let extent = |(i, d): (usize, &Dim)| if i < 2 { d.clone() } else { Dim::Known(1) };
    TensorType::new(x.elem.real(), x.shape.dims().iter().enumerate().map(extent).collect())
}

/// ArgMax or ArgMin.
pub(super) fn arg_reduce(e: &mut Emitter<'_>, op: &ArgReduce, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let call = Call::new(if op.largest { "ArgMax" } else { "ArgMin" });
    e.push_at(call.size("axis", op.axis).int("keepdims", op.keep), site);
    Ok(())
}

/// CumSum.
pub(super) fn cum_sum(e: &mut Emitter<'_>, op: &CumSum, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let inputs = [e.input(site, 0), e.scalar(op.axis as i64)];
    let call = Call::new("CumSum").int("exclusive", op.exclusive).int("reverse", op.reverse);
    e.push(call, &inputs, &site.outputs);
    Ok(())
}

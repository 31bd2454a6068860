//! Recurrent layers.

use qcc_ir::ops::{Cell, Recurrent};
use qcc_ir::{Affine, Dim, Elem, QuantParams, Shape, Tensor, TensorType};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Numbers, Unsupported};

/// LSTM, GRU or RNN in one direction. Weights, bias and states get a leading axis for the direction.
pub(super) fn recurrent(e: &mut Emitter<'_>, op: &Recurrent, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let hidden = site.operands[2].shape.dims()[1].known().ok_or("its hidden extent is open")?;
    let call = match op.cell {
        Cell::Lstm => Call::new("LSTM"),
        Cell::Gru { reset_after } => Call::new("GRU").int("linear_before_reset", reset_after),
        Cell::Rnn { relu: true } => Call::new("RNN").strings("activations", &["Relu"]),
        Cell::Rnn { relu: false } => Call::new("RNN"),
    };
    let call = call.size("hidden_size", hidden).string("direction", if op.reverse { "reverse" } else { "forward" });
    let call = match op.clip {
        Some(clip) => call.float("clip", clip),
        None => call,
    };
    let (x, weight, recurrent) = (e.input(site, 0), directed(e, site, 1)?, directed(e, site, 2)?);
    let mut inputs = vec![x, weight, recurrent, bias(e, op.cell, hidden, site)?, Name::default()];
    for state in 4..site.values.len() {
        inputs.push(directed(e, site, state)?);
    }
    let mut outputs = Vec::new();
    for ty in &site.results {
        // y has the direction axis after the sequence axis.
        let mut dims = ty.shape.dims().to_vec();
        dims.insert(ty.rank() - 2, Dim::Known(1));
        outputs.push(e.scratch(site, &TensorType::new(ty.elem.clone(), dims.into_iter().collect())));
    }
    e.push(call, &inputs, &outputs);
    for ((from, to), ty) in outputs.iter().zip(&site.outputs).zip(&site.results) {
        e.reshape(from, None, to, &ty.shape)?;
    }
    Ok(())
}

/// Operand `i` with a leading axis of extent 1.
fn directed(e: &mut Emitter<'_>, site: &NodeContext<'_>, i: usize) -> Result<Name, Unsupported> {
    let (ty, v) = (&site.operands[i], site.values[i]);
    let shape: Shape = std::iter::once(Dim::Known(1)).chain(ty.shape.dims().iter().cloned()).collect();
    let elem = |elem: &Elem| match elem.qparams().map(|qparams| (qparams.storage, &qparams.map)) {
        Some((storage, Affine::PerAxis { axis, scales })) => {
            Elem::Quantized(QuantParams::per_axis(storage, axis + 1, scales.clone()))
        }
        _ => elem.clone(),
    };
    match e.kept(v).and_then(|t| t.retype(TensorType::new(elem(&t.ty().elem), shape.clone()))) {
        Some(constant) => {
            let wanted = e.wanted(v);
            Ok(e.place(&wanted, &constant, Numbers::Float))
        }
        None => {
            let from = e.input(site, i);
            e.reshaped(site, &from, &TensorType::new(ty.elem.clone(), shape))
        }
    }
}

/// The bias of both products, `[1, 2*G*H]`: that of the recurrent product is 0, except for a candidate with
/// `linear_before_reset`.
fn bias(e: &mut Emitter<'_>, cell: Cell, hidden: usize, site: &NodeContext<'_>) -> Result<Name, Unsupported> {
    let elem = &site.operands[3].elem;
    let (first, whole) = (cell.gates() * hidden, 2 * cell.gates() * hidden);
    let ty = |dims: &[usize]| TensorType::new(elem.clone(), Shape::known(dims));
    let zeros = vec![0u8; (whole - cell.biases() * hidden) * elem.size()];
    let fail = || Unsupported("internal error: its bias has another length".into());
    if let Some(constant) = site.constant(3) {
        let (before, after) = constant.data().split_at(first * elem.size());
        let both = Tensor::new(ty(&[1, whole]), [before, &zeros, after].concat().into()).ok_or_else(fail)?;
        let wanted = e.wanted(site.values[3]);
        return Ok(e.place(&wanted, &both, Numbers::Float));
    }
    let count = zeros.len() / elem.size();
    let zeros = Tensor::new(ty(&[count]), zeros.into()).ok_or_else(fail)?;
    let (given, zeros) = (e.input(site, 3), e.place("zeros", &zeros, Numbers::Float));
    let mut parts = vec![given.clone(), zeros];
    if cell.biases() > cell.gates() {
        let mut part = |start: usize, end: usize| {
            let to = e.scratch(site, &ty(&[end - start]));
            let inputs = [given.clone(), e.list([start as i64]), e.list([end as i64])];
            e.push(Call::new("Slice"), &inputs, std::slice::from_ref(&to));
            to
        };
        let (before, after) = (part(0, first), part(first, cell.biases() * hidden));
        parts[0] = before;
        parts.push(after);
    }
    let both = e.scratch(site, &ty(&[whole]));
    e.push(Call::new("Concat").int("axis", 0), &parts, std::slice::from_ref(&both));
    e.reshaped(site, &both, &ty(&[1, whole]))
}

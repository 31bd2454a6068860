//! Normalisations.

use qcc_ir::ops::{LayerNorm, Softmax};
use qcc_ir::{Elem, Shape, Tensor};

use super::super::call::Call;
use super::super::emit::{Emitter, Name, NodeContext, Numbers, Unsupported};
use super::quantize;

/// Softmax or LogSoftmax.
pub(super) fn softmax(e: &mut Emitter<'_>, op: &Softmax, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    if site.operands[0].elem.qparams().is_some() {
        let call = Call::contrib("QLinearSoftmax").size("axis", op.axis).int("opset", Call::USUAL);
        return quantize::qlinear(e, call, site);
    }
    let call = Call::new(if op.log { "LogSoftmax" } else { "Softmax" });
    e.push_at(call.size("axis", op.axis), site);
    Ok(())
}

/// LayerNormalization; InstanceNormalization for unscaled normalization of images.
pub(super) fn layer_norm(e: &mut Emitter<'_>, op: &LayerNorm, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let extents = |axes: std::ops::Range<usize>| {
        let extents = x.shape.dims()[axes].iter().map(|d| d.known()).collect::<Option<Vec<usize>>>();
        extents.ok_or("its extents are open; fix them with --shape")
    };
    let mut constant = |dims: &[usize], value: f32| -> Result<Name, Unsupported> {
        let shape = Shape::known(dims);
        let values = vec![value; dims.iter().product()];
        let tensor = Tensor::from_vec(shape, values);
        let tensor = match x.elem {
            Elem::F16 => Tensor::of(tensor.ty().with_elem(Elem::F16), half(&tensor)),
            _ => tensor,
        };
        Ok(e.place("const", &tensor, Numbers::Float))
    };
    if site.values.len() == 1
        && op.axis == 2
        && x.rank() > 2
        && let Ok(channels) = extents(1..2)
    {
        let (ones, zeros) = (constant(&channels, 1.0)?, constant(&channels, 0.0)?);
        let inputs = [e.input(site, 0), ones, zeros];
        e.push(Call::new("InstanceNormalization").float("epsilon", op.epsilon), &inputs, &site.outputs);
        return Ok(());
    }
    let scale = if site.values.len() == 1 { Some(constant(&extents(op.axis..x.rank())?, 1.0)?) } else { None };
    let inputs: Vec<Name> = e.inputs(site).into_iter().chain(scale).collect();
    let call = Call::new("LayerNormalization").size("axis", op.axis).float("epsilon", op.epsilon);
    e.push(call, &inputs, &site.outputs);
    Ok(())
}

fn half(t: &Tensor) -> Vec<half::f16> {
    t.floats().iter().map(|&v| half::f16::from_f32(v)).collect()
}

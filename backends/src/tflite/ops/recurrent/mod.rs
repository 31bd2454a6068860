//! Recurrent layers: the operators of one layer do not depend on the number of steps.

use qcc_formats::tflite::{BuiltinOperator as B, Options, OptionsType as T};
use qcc_ir::ops::{Cell, Recurrent};
use qcc_ir::{Dim, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported};

mod loops;
mod parameters;
mod sequence;

use parameters::WEIGHT;
pub(in crate::tflite) use parameters::{converts_parameter, is_parameter};

/// The least number of steps that are not unrolled. XNNPACK runs the products of unrolled layers, which can be
/// quantized too.
const FEWEST_STEPS: usize = 16;

/// The first initial state among the operands.
const STATES: usize = 4;

/// True where the layer is written as it is, and not unrolled. The numbers of its steps and its batch may be open.
pub(in crate::tflite) fn native(x: &[&TensorType]) -> bool {
    let [steps, _, inputs] = x[0].shape.dims() else { return false };
    let weights = x[WEIGHT..STATES].iter().all(|t| !t.shape.is_open());
    let empty = x.iter().any(|t| t.shape.dims().contains(&Dim::Known(0)));
    weights && !empty && inputs.known().is_some() && steps.known().is_none_or(|steps| steps >= FEWEST_STEPS)
}

/// An operator for all steps where there is one for the cell, else a loop; between two REVERSE_V2 if steps run from the
/// last to the first.
///
/// LiteRT dequantizes constants once. It keeps them beside the states of those operators, in memory that it divides anew
/// when inputs are resized: where the extents of states are open, the constants would be lost. A loop has no such states.
pub(super) fn recurrent(e: &mut Emitter<'_>, op: &Recurrent, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (mut x, mut y) = (site.inputs[0], site.outputs[0]);
    if op.reverse {
        x = e.scratch(&site.operands[0], site.node);
        y = e.scratch(&site.results[0], site.node);
        reverse(e, site.inputs[0], x);
    }
    let keeps_states = !site.operands[STATES].shape.is_open() || !e.dequantizes_constants();
    match op.cell {
        Cell::Lstm if op.clip.is_none() && keeps_states => sequence::lstm(e, site, x, y)?,
        Cell::Rnn { relu } if op.clip.is_none() && keeps_states => sequence::rnn(e, site, relu, x, y)?,
        _ => loops::recurrent(e, op, site, x, y)?,
    }
    if op.reverse {
        reverse(e, y, site.outputs[0]);
    }
    Ok(())
}

/// The steps of `x` from the last to the first.
fn reverse(e: &mut Emitter<'_>, x: i32, y: i32) {
    let inputs = [x, e.indices(&[0])];
    e.push_operator(B::REVERSE_V2, 1, Options::Other(T::REVERSE_V2), &inputs, &[y]);
}

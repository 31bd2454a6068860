//! Matrix products.

use qcc_formats::tflite::{BatchMatMul, BuiltinOperator as B, FullyConnected};
use qcc_ir::ops::MatMul;

use super::super::node::NodeCx;
use super::Row;
use crate::build::movement::reshaped;
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[(B::BATCH_MATMUL, batch_matmul), (B::FULLY_CONNECTED, fully_connected)];

/// The weight is `[O, I]`. Without `keep_num_dims` the data are reshaped to `[N, I]`.
fn fully_connected(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: FullyConnected = n.options()?;
    if o.weights_format != 0 {
        return Err(Refusal::Unsupported("shuffled weights are not supported".into()));
    }
    let (mut x, w) = (n.input(0)?, n.input(1)?);
    let (mut dims, &[outputs, inputs]) = (n.shape(x).dims().to_vec(), n.dims(w)?.as_slice()) else {
        return Err(Refusal::Invalid(format!("a weight of type {}; expected a matrix", n.ty(w))));
    };
    let known = n.shape(x).elements();
    if inputs == 0 || known.is_some_and(|elements| !elements.is_multiple_of(inputs)) {
        return Err(Refusal::Invalid(format!("{} cannot be read as rows of {inputs}", n.ty(x))));
    }
    // The operands are matrices even if the result is a vector.
    if !o.keep_num_dims || dims.len() < 2 {
        x = reshaped(n, x, &[(-1).into(), (inputs as i64).into()], false)?;
    }
    let mut operands = Values::from_slice(&[x, w]);
    operands.extend(n.bias(2, x, w)?);
    let y = n.give_active(MatMul { transpose_b: true }, &operands, o.activation)?;
    if !o.keep_num_dims {
        return one(y);
    }
    if let Some(last) = dims.last_mut() {
        *last = outputs.into();
    }
    one(n.reshape_to(y, dims.into_iter().collect())?)
}

fn batch_matmul(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let o: BatchMatMul = n.options()?;
    let (mut a, b) = (n.input(0)?, n.input(1)?);
    let rank = n.rank(a);
    if o.adj_x && rank >= 2 {
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(rank - 2, rank - 1);
        a = n.transpose(a, &perm)?;
    }
    one(n.give(MatMul { transpose_b: o.adj_y }, &[a, b])?)
}

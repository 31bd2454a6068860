//! Pooling.

use qcc_formats::tflite::{BuiltinOperator, Padding, Pool2D};
use qcc_ir::TensorType;
use qcc_ir::ops::{Op, Pool, PoolFn};

use super::super::emit::{Emitter, NodeContext, Unsupported, version};
use super::conv::extent;
use super::window::{Axis, padding};

/// True if TFLite can express the padding of a pooling.
pub(in crate::tflite) fn native(op: &Op, operands: &[&TensorType]) -> bool {
    let (Op::Pool(p), Ok(results)) = (op, op.infer(operands)) else { return false };
    operands[0].rank() == 4 && pool_padding(p, operands[0], &results[0]).is_some()
}

fn pool_padding(p: &Pool, x: &TensorType, y: &TensorType) -> Option<Padding> {
    if p.dilation.iter().any(|&d| d != 1) {
        return None;
    }
    let axis = |i: usize| {
        Some(Axis {
            image: extent(x, 2 + i),
            result: extent(y, 2 + i),
            reach: p.window[i],
            stride: p.stride[i],
            pads: [p.before[i], p.after[i]],
        })
    };
    padding(&[axis(0)?, axis(1)?])
}

/// MAX_POOL_2D and AVERAGE_POOL_2D without counting padding.
pub(super) fn pool(e: &mut Emitter<'_>, op: &Pool, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let x = &site.operands[0];
    let padding = pool_padding(op, x, &site.results[0]).ok_or("its padding is neither SAME nor VALID")?;
    let [stride_h, stride_w, filter_height, filter_width] =
        [op.stride[0], op.stride[1], op.window[0], op.window[1]].map(|n| n as i32);
    let options = Pool2D { padding, stride_w, stride_h, filter_width, filter_height, activation: site.activation };
    let code = match op.f {
        PoolFn::Max => BuiltinOperator::MAX_POOL_2D,
        PoolFn::Average => BuiltinOperator::AVERAGE_POOL_2D,
    };
    e.push_operator(code, version(x, 1, 2, 3), options, &site.inputs, &site.outputs);
    Ok(())
}

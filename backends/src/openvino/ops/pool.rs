//! Pooling.

use qcc_formats::openvino::{Attribute, Operation, Port};
use qcc_ir::ops::{Pool, PoolFn};
use qcc_ir::{Elem, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, attribute, list};

/// Maximum over adjacent windows; `ty` is the type of the result.
pub(super) fn max_pool(e: &mut Emitter<'_>, x: Port, window: &[usize], ty: &TensorType) -> Port {
    let none = vec![0; window.len()];
    e.op(Operation("MaxPool", 1), &windows(window, window, [&none, &none]), &[x], ty)
}

/// Window attributes of both kinds of pooling.
fn windows(window: &[usize], stride: &[usize], [before, after]: [&[usize]; 2]) -> Vec<Attribute> {
    vec![
        attribute("strides", list(stride)),
        attribute("pads_begin", list(before)),
        attribute("pads_end", list(after)),
        attribute("kernel", list(window)),
        attribute("rounding_type", "floor"),
        attribute("auto_pad", "explicit"),
    ]
}

/// MaxPool and AvgPool without counting padding.
pub(super) fn pool(e: &mut Emitter<'_>, op: &Pool, site: &NodeContext) -> Result<Port, Unsupported> {
    let ty = site.results[0].real();
    let x = e.operand(site, 0);
    let mut data = windows(&op.window, &op.stride, [&op.before, &op.after]);
    let dilated = op.dilation.iter().any(|&d| d != 1);
    Ok(match op.f {
        PoolFn::Average if dilated => return Err("its window is dilated".into()),
        PoolFn::Average => {
            data.push(attribute("exclude-pad", true));
            e.op(Operation("AvgPool", 1), &data, &[x], &ty)
        }
        PoolFn::Max if !dilated => e.op(Operation("MaxPool", 1), &data, &[x], &ty),
        // MaxPool-8 has the indices as a second result.
        PoolFn::Max => {
            data.push(attribute("dilations", list(&op.dilation)));
            data.push(attribute("index_element_type", "i64"));
            data.push(attribute("axis", 0));
            let places = TensorType::new(Elem::I64, ty.shape.clone());
            e.op_many(Operation("MaxPool", 8), &data, &[x], &[&ty, &places])[0]
        }
    })
}

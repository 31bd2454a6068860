//! Weights and biases of recurrent layers. Kernels take those of each gate as a tensor of its own.

use qcc_formats::tflite::{BuiltinOperator as B, Options, OptionsType as T};
use qcc_ir::ops::Op;
use qcc_ir::{Affine, Elem, Graph, NodeId, QuantParams, Shape, Tensor, TensorType, ValueId};

use super::super::super::emit::{Emitter, NodeContext, Unsupported};
use super::super::quantize::push_dequantize;

/// Operand indices of the weight, the recurrent weight and the bias.
pub(super) const WEIGHT: usize = 1;
pub(super) const RECURRENT: usize = 2;
pub(super) const BIAS: usize = 3;

/// True for an operand of a recurrent layer of which [`parts`] makes tensors: the operand itself needs none.
pub(in crate::tflite) fn is_parameter(op: &Op, operand: usize) -> bool {
    matches!(op, Op::Recurrent(_)) && matches!(operand, WEIGHT | RECURRENT | BIAS)
}

/// True for the conversion of a constant that is used as a parameter only: [`parts`] converts its parts instead.
pub(in crate::tflite) fn converts_parameter(graph: &Graph, node: NodeId) -> bool {
    if !matches!(graph.op(node), Op::Cast(_) | Op::Dequantize(_)) {
        return false;
    }
    let v = node.value(0);
    let mut users = graph.readers(v).peekable();
    !graph.is_output(v)
        && constant_behind(graph, v).is_some()
        && users.peek().is_some()
        && users.all(|(user, i)| is_parameter(graph.op(user), i))
}

/// The constant that a value is, or is converted from.
fn constant_behind(graph: &Graph, v: ValueId) -> Option<&Tensor> {
    match graph.producer(v) {
        Op::Cast(_) | Op::Dequantize(_) => {
            let stored = graph.constant(graph.operand(v.node, 0))?;
            (stored.ty().elem == Elem::F16 || stored.ty().elem.qparams().is_some()).then_some(stored)
        }
        _ => graph.constant(v),
    }
}

/// True where operand `i` is stored in the file.
pub(super) fn is_stored(site: &NodeContext<'_>, i: usize) -> bool {
    constant_behind(site.graph, site.values[i]).is_some()
}

/// Operand `i` in parts along its first axis, of which `parts` gives first index and extent: of a constant without a
/// copy, dequantized where it is stored so; of a computed value with SLICE.
pub(super) fn parts(
    e: &mut Emitter<'_>,
    site: &NodeContext<'_>,
    i: usize,
    parts: &[(usize, usize)],
) -> Result<Vec<i32>, Unsupported> {
    let graph = site.graph;
    let (v, whole) = (site.values[i], &site.operands[i]);
    let mut dims = whole.shape.extents().ok_or("the extents of its parameters are open")?.to_vec();
    let constant = constant_behind(graph, v);
    let name = graph.name(v).map_or(graph.origin(site.node).path(), |name| name).to_owned();
    let mut part = |&(start, count): &(usize, usize)| {
        dims[0] = count;
        let real = TensorType::f32(&dims);
        let Some(constant) = constant else {
            let (x, y) = (e.tensor(v), e.scratch(&real, site.node));
            let [mut begin, mut size] = [vec![0; dims.len()], vec![-1; dims.len()]];
            (begin[0], size[0]) = (start as i32, count as i32);
            let inputs = [x, e.indices(&begin), e.indices(&size)];
            e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[y]);
            return Ok(y);
        };
        let stored = rows(constant, start, count).ok_or("its parameters have scales along another axis")?;
        let tensor = e.part(&name, &stored);
        if stored.ty().elem == Elem::F32 {
            return Ok(tensor);
        }
        let y = e.scratch(&real, site.node);
        push_dequantize(e, stored.ty(), tensor, y)?;
        Ok(y)
    };
    parts.iter().map(&mut part).collect()
}

/// `count` indices of the first axis of a constant, from `start` on, without a copy.
fn rows(constant: &Tensor, start: usize, count: usize) -> Option<Tensor> {
    let ty = constant.ty();
    let mut dims = constant.dims();
    let bytes = constant.data().len() / dims[0].max(1);
    dims[0] = count;
    let elem = match ty.elem.qparams().map(|qparams| (qparams.storage, &qparams.map)) {
        Some((storage, Affine::PerAxis { axis: 0, scales })) => {
            Elem::Quantized(QuantParams::per_axis(storage, 0, &scales[start..start + count]))
        }
        None | Some((_, Affine::PerTensor { .. })) => ty.elem.clone(),
        Some(_) => return None,
    };
    let data = constant.data().slice(start * bytes..(start + count) * bytes);
    Tensor::new(TensorType::new(elem, Shape::known(&dims)), data)
}

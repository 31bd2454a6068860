//! What runtimes do not forgive, checked on the finished tables: some of it fails when the model is loaded, some runs
//! and gives wrong numbers without a word. Each finding is a fault of qcc's own. What kernels take of values, the table of
//! kernels says, by which a graph is checked before it is written.

use qcc_formats::tflite::{BuiltinOperator as B, Details, Model, Operator, Options, SubGraph, Tensor, TensorType as T};
use qcc_ir::diagnostic::Diagnostic;

use super::tensors;

/// Everything in a model that would fail, or run and be wrong.
pub(super) fn check(model: &Model) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for subgraph in &model.subgraphs {
        for tensor in &subgraph.tensors {
            if let Err(why) = check_tensor(model, subgraph, tensor) {
                wrong.push(internal(&format!("tensor {:?}", tensor.name), &why));
            }
        }
        for op in &subgraph.operators {
            let Some(code) = model.builtin(op) else {
                wrong.push(internal("an operator", "its code does not exist"));
                continue;
            };
            let step = Step { op, code, subgraph };
            if let Err(why) = step.check() {
                let name = step.output().map_or("", |t| &t.name);
                wrong.push(internal(&format!("{code} giving {name:?}"), &why));
            }
        }
    }
    wrong
}

fn internal(what: &str, why: &str) -> Diagnostic {
    Diagnostic::error("internal", format!("internal error: tflite {what}: {why}"))
        .with_note("the model is not written, since it would fail or be wrong on the device")
}

type Check = Result<(), String>;

fn ensure(holds: bool, why: impl Into<String>) -> Check {
    if holds { Ok(()) } else { Err(why.into()) }
}

fn check_tensor(model: &Model, subgraph: &SubGraph, tensor: &Tensor) -> Check {
    let buffer = model.buffers.get(tensor.buffer as usize).ok_or("its buffer does not exist")?;
    let elements: i64 = tensor.shape.iter().map(|&n| i64::from(n)).product();
    ensure(tensor.shape.iter().all(|&n| n >= 0), "a negative extent")?;
    if tensor.elem == T::RESOURCE {
        return ensure(tensor.buffer == 0, "a handle with data");
    }
    let bits = tensor.elem.bits().ok_or("an element without a width")? as i64;
    let wanted = (elements * bits + 7) / 8;
    let constant = tensor.buffer != 0;
    ensure(!constant || buffer.data.len() as i64 == wanted, "its buffer has not the length of its shape")?;
    let Some(q) = &tensor.quantization else { return Ok(()) };
    if let Details::Blocks(blocks) = &q.details {
        let scales = tensors::tensor(subgraph, blocks.scales).ok_or("scales that do not exist")?;
        let count = tensors::elements(scales) as i64;
        ensure(tensor.elem == T::INT4 && scales.elem == T::FLOAT16, "blocks of another type")?;
        return ensure(count * i64::from(blocks.block_size) == elements, "as many scales as blocks are needed");
    }
    ensure(q.scale.iter().all(|s| s.is_normal() && *s > 0.0), "a scale that is not positive and normal")?;
    ensure(q.scale.len() == q.zero_point.len(), "scales and zero points differ in number")?;
    let extent = usize::try_from(q.dimension).ok().and_then(|d| tensor.shape.get(d)).copied();
    let along = extent.is_some_and(|n| n as usize == q.scale.len());
    ensure(q.scale.len() == 1 || along, "as many scales as its axis is long are needed")?;
    ensure(constant || (q.scale.len() == 1 && q.dimension == 0), "a computed value with several scales")
}

/// One operator with its tensors.
struct Step<'m> {
    op: &'m Operator,
    code: B,
    subgraph: &'m SubGraph,
}

impl<'m> Step<'m> {
    fn tensor(&self, index: Option<&i32>) -> Option<&'m Tensor> {
        tensors::tensor(self.subgraph, *index?)
    }

    fn output(&self) -> Option<&'m Tensor> {
        self.tensor(self.op.outputs.first())
    }

    fn check(&self) -> Check {
        let known = |&i: &i32| i == -1 || usize::try_from(i).is_ok_and(|i| i < self.subgraph.tensors.len());
        ensure(self.op.inputs.iter().chain(&self.op.outputs).all(known), "a tensor that does not exist")?;
        let (bias, weight) = match self.code {
            B::CONV_2D | B::DEPTHWISE_CONV_2D => {
                (self.tensor(self.op.inputs.get(2)), self.tensor(self.op.inputs.get(1)))
            }
            B::BATCH_MATMUL => return ensure(!matches!(self.op.options, Options::None), "no options"),
            _ => return Ok(()),
        };
        ensure(bias.is_some(), "no bias")?;
        ensure(weight.is_some_and(|w| w.elem != T::FLOAT16), "a weight in half precision, which is read as garbage")
    }
}

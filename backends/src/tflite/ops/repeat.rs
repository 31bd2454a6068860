//! Loops and branches.

use qcc_formats::tflite::{Add, BuiltinOperator as B, Cast, Concatenation, Options, OptionsType as T, While};
use qcc_ir::ops::{Body, If, Loop};
use qcc_ir::{Dim, Elem, Expr, Layout, Shape, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, stored};
use crate::extents;
use crate::unsupported::graph_of;

/// WHILE. Its values are the number of the iteration, the most iterations, the condition, those that are carried and read,
/// and the rows, which grow by one in each iteration. The first row is none of them: a tensor without elements would have no
/// shape before the loop runs.
pub(super) fn repeat(e: &mut Emitter<'_>, op: &Loop, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let (body, all_rows, reads) = (graph_of(&op.body)?, op.rows(), op.body.takes().len() - 1 - op.carried);
    let (node, carried) = (site.node, op.carried);
    let scalar = |elem| TensorType::new(elem, Shape::scalar());
    let most = e.scratch(&scalar(Elem::I32), node);
    cast(e, site.inputs[0], Elem::I64, most, Elem::I32);
    let mut operands = vec![e.index(0), most];
    operands.extend(&site.inputs[1..]);
    let grown: Vec<TensorType> =
        all_rows.iter().map(|row| stacked(row, Dim::Open(Expr::symbol("rows").into()))).collect();
    for row in &all_rows {
        operands.push(blank(e, &stacked(row, Dim::Known(1)), site)?);
    }
    let cond = e.subgraph(node, &operands, |e, inputs| {
        let (less, again) = (e.scratch(&scalar(Elem::Bool), node), e.scratch(&scalar(Elem::Bool), node));
        e.push_operator(B::LESS, 1, Options::Other(T::LESS), &[inputs[0], inputs[1]], &[less]);
        e.push_operator(B::LOGICAL_AND, 1, Options::Other(T::LOGICAL_AND), &[inputs[2], less], &[again]);
        Ok(vec![again])
    })?;
    let rows = 3 + carried + reads;
    let turn = e.subgraph(node, &operands, |e, inputs| {
        let (one, next) = (e.index(1), e.scratch(&scalar(Elem::I32), node));
        e.push_operator(B::ADD, 1, Add::default(), &[inputs[0], one], &[next]);
        let number = e.scratch(&scalar(Elem::I64), node);
        cast(e, inputs[0], Elem::I32, number, Elem::I64);
        let given: Vec<i32> = std::iter::once(number).chain(inputs[3..rows].iter().copied()).collect();
        let given = e.nested(body, &given)?;
        let mut outputs = vec![next, inputs[1]];
        // What is constant or an input of the body is copied.
        for (tensor, ty) in given.iter().zip(op.body.gives()).take(1 + carried) {
            outputs.push(e.reshape(*tensor, &ty)?);
        }
        outputs.extend(&inputs[3 + carried..rows]);
        for (i, (row, ty)) in all_rows.iter().zip(&grown).enumerate() {
            let last = e.reshape(given[1 + carried + i], &stacked(row, Dim::Known(1)))?;
            let all = e.scratch(ty, node);
            e.push_operator(B::CONCATENATION, 1, Concatenation::default(), &[inputs[rows + i], last], &[all]);
            outputs.push(all);
        }
        Ok(outputs)
    })?;
    let mut results: Vec<i32> = operands[..rows].iter().map(|&operand| e.like(operand, node)).collect();
    results[3..3 + carried].copy_from_slice(&site.outputs[..carried]);
    results.extend(grown.iter().map(|ty| e.scratch(ty, node)));
    e.push_operator(B::WHILE, 1, While { cond, body: turn }, &operands, &results);
    for (i, ty) in grown.iter().enumerate() {
        let (mut begin, size) = (vec![0; ty.rank()], vec![-1; ty.rank()]);
        begin[0] = 1;
        let inputs = [results[rows + i], e.indices(&begin), e.indices(&size)];
        e.push_operator(B::SLICE, 1, Options::Other(T::SLICE), &inputs, &[site.outputs[carried + i]]);
    }
    Ok(())
}

/// A row of zeros.
fn blank(e: &mut Emitter<'_>, ty: &TensorType, site: &NodeContext<'_>) -> Result<i32, Unsupported> {
    if let Some(bytes) = ty.bytes() {
        let zeros = qcc_ir::Tensor::new(ty.clone(), vec![0u8; bytes].into()).ok_or("its rows have no size")?;
        return Ok(e.part("row", &zeros));
    }
    let (shape, zero) = (extents::shape(e, &ty.shape)?, e.scalar(ty, 0.0)?);
    let row = e.scratch(ty, site.node);
    e.push_operator(B::FILL, 1, Options::Other(T::FILL), &[shape, zero], &[row]);
    Ok(row)
}

/// IF. What is constant or an input of a branch is copied.
pub(super) fn choose(e: &mut Emitter<'_>, op: &If, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let node = site.node;
    let branch = |e: &mut Emitter<'_>, body: &Body| {
        e.subgraph(node, &site.inputs[1..], |e, inputs| {
            let given = e.nested(graph_of(body)?, inputs)?;
            given.into_iter().zip(body.gives()).map(|(tensor, ty)| e.reshape(tensor, &ty)).collect()
        })
    };
    let (then_branch, else_branch) = (branch(e, &op.then)?, branch(e, &op.otherwise)?);
    let options = qcc_formats::tflite::If { then_branch, else_branch };
    e.push_operator(B::IF, 1, options, &site.inputs, &site.outputs);
    Ok(())
}

/// The type of rows along a new first axis.
fn stacked(row: &TensorType, count: Dim) -> TensorType {
    let shape: Shape = std::iter::once(count).chain(row.shape.dims().iter().cloned()).collect();
    TensorType { elem: row.elem.clone(), layout: Layout::row_major(shape.rank()), shape }
}

fn cast(e: &mut Emitter<'_>, x: i32, from: Elem, y: i32, to: Elem) {
    let options = Cast { from: stored(&from), to: stored(&to) };
    e.push_operator(B::CAST, 1, options, &[x], &[y]);
}

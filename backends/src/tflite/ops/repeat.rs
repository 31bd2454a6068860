//! Loops.

use qcc_formats::tflite::{Add, BuiltinOperator as B, Cast, Concatenation, Options, OptionsType as T, While};
use qcc_ir::ops::Loop;
use qcc_ir::{Dim, Elem, Expr, Layout, Shape, TensorType};

use super::super::emit::{Emitter, NodeContext, Unsupported, stored};

/// WHILE. Its values are the number of the iteration, the most iterations, the condition, those that are carried and read,
/// and the rows, which grow by one in each iteration. The first row is none of them: a tensor without elements would have no
/// shape before the loop runs.
pub(super) fn repeat(e: &mut Emitter<'_>, op: &Loop, site: &NodeContext<'_>) -> Result<(), Unsupported> {
    let body = op.graph().map_err(|e| e.to_string())?;
    let (node, carried) = (site.node, op.carried.len());
    let scalar = |elem| TensorType::new(elem, Shape::scalar());
    let most = e.scratch(&scalar(Elem::I32), node);
    cast(e, site.inputs[0], Elem::I64, most, Elem::I32);
    let mut operands = vec![e.index(0), most];
    operands.extend(&site.inputs[1..]);
    let grown: Vec<TensorType> =
        op.rows.iter().map(|row| stacked(row, Dim::Open(Expr::symbol("rows").into()))).collect();
    for row in &op.rows {
        let first = stacked(row, Dim::Known(1));
        let bytes = vec![0u8; first.bytes().unwrap_or_default()];
        let blank = qcc_ir::Tensor::new(first, bytes.into()).ok_or("its rows have no size")?;
        operands.push(e.part("row", &blank));
    }
    let cond = e.subgraph(node, &operands, |e, inputs| {
        let (less, again) = (e.scratch(&scalar(Elem::Bool), node), e.scratch(&scalar(Elem::Bool), node));
        e.push_operator(B::LESS, 1, Options::Other(T::LESS), &[inputs[0], inputs[1]], &[less]);
        e.push_operator(B::LOGICAL_AND, 1, Options::Other(T::LOGICAL_AND), &[inputs[2], less], &[again]);
        Ok(vec![again])
    })?;
    let rows = 3 + carried + op.reads.len();
    let turn = e.subgraph(node, &operands, |e, inputs| {
        let (one, next) = (e.index(1), e.scratch(&scalar(Elem::I32), node));
        e.push_operator(B::ADD, 1, Add::default(), &[inputs[0], one], &[next]);
        let number = e.scratch(&scalar(Elem::I64), node);
        cast(e, inputs[0], Elem::I32, number, Elem::I64);
        let given: Vec<i32> = std::iter::once(number).chain(inputs[3..rows].iter().copied()).collect();
        let given = e.nested(&body, &given)?;
        let mut outputs = vec![next, inputs[1]];
        // What is constant or an input of the body is copied.
        for (tensor, ty) in given.iter().zip(op.gives()).take(1 + carried) {
            outputs.push(e.reshape(*tensor, &ty)?);
        }
        outputs.extend(&inputs[3 + carried..rows]);
        for (i, (row, ty)) in op.rows.iter().zip(&grown).enumerate() {
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

/// The type of rows along a new first axis.
fn stacked(row: &TensorType, count: Dim) -> TensorType {
    let shape: Shape = std::iter::once(count).chain(row.shape.dims().iter().cloned()).collect();
    TensorType { elem: row.elem.clone(), layout: Layout::row_major(shape.rank()), shape }
}

fn cast(e: &mut Emitter<'_>, x: i32, from: Elem, y: i32, to: Elem) {
    let options = Cast { from: stored(&from), to: stored(&to) };
    e.push_operator(B::CAST, 1, options, &[x], &[y]);
}

//! The operator table: one row for each operator with all its overloads and its in-place form. Rows use the argument
//! names and defaults of PyTorch's schemas. The files have the names of the graph's operator families.

use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};

use super::importer::Complex;
use super::node::NodeCx;
use super::quantity::Quantity;
use super::schema::{self, Argument, Node};
use crate::build::Values;
use crate::refusal::Refusal;

mod attention;
mod boxes;
pub(super) mod complex;
mod control;
mod conv;
mod elementwise;
mod fourier;
mod index;
mod matmul;
mod movement;
mod norm;
mod parts;
mod pool;
pub(super) mod put;
mod quantize;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod source;
mod symbolic;

/// Imports one node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Import {
    /// A node with tensor results.
    Tensors(fn(&mut NodeCx<'_, '_>) -> Result<Values, Refusal>),
    /// A node with complex results.
    Complex(fn(&mut NodeCx<'_, '_>) -> Result<Complex, Refusal>),
    /// A node whose result is a number.
    Number(fn(&mut NodeCx<'_, '_>) -> Result<Quantity, Refusal>),
}

/// An operator and its import function.
type Row = (&'static str, fn(&mut NodeCx<'_, '_>) -> Result<Values, Refusal>);

const FAMILIES: [&[Row]; 19] = [
    attention::ROWS,
    boxes::ROWS,
    complex::ROWS,
    control::ROWS,
    conv::ROWS,
    elementwise::ROWS,
    fourier::ROWS,
    index::ROWS,
    matmul::ROWS,
    movement::ROWS,
    norm::ROWS,
    parts::ROWS,
    pool::ROWS,
    quantize::ROWS,
    random::ROWS,
    recurrent::ROWS,
    reduce::ROWS,
    resize::ROWS,
    source::ROWS,
];

static TABLE: LazyLock<FxHashMap<&str, Import>> = LazyLock::new(|| {
    let tensors = FAMILIES.into_iter().flatten().map(|&(name, row)| (name, Import::Tensors(row)));
    let complex =
        [complex::MAKERS, fourier::COMPLEX_ROWS].into_iter().flatten().map(|&(name, row)| (name, Import::Complex(row)));
    tensors.chain(complex).chain(symbolic::ROWS.iter().map(|&(name, row)| (name, Import::Number(row)))).collect()
});

static VIEWS: LazyLock<FxHashSet<&str>> = LazyLock::new(|| movement::VIEWS.iter().copied().collect());

/// The names of the supported operators, sorted.
pub fn supported() -> Vec<&'static str> {
    let mut names: Vec<&str> = FAMILIES.into_iter().flatten().map(|row| row.0).collect();
    names.extend([complex::MAKERS, fourier::COMPLEX_ROWS].into_iter().flatten().map(|row| row.0));
    names.extend(symbolic::ROWS.iter().map(|row| row.0));
    names.sort_unstable();
    names
}

fn first(node: &Node) -> Option<&str> {
    match &node.inputs.first()?.arg {
        Argument::Tensor(name) => Some(name),
        _ => None,
    }
}

/// The row of a node with a complex operand, where it is another one than for real operands.
pub(super) fn of_complex(node: &Node) -> Option<Import> {
    let row = complex::COMPLEX_ROWS.iter().find(|row| is_aten(node) && row.0 == node.operator())?;
    Some(Import::Complex(row.1))
}

/// True for a node that applies to real and imaginary parts separately.
pub(super) fn is_partwise(node: &Node) -> bool {
    is_aten(node) && complex::PARTWISE.contains(&node.operator())
}

fn is_aten(node: &Node) -> bool {
    node.target.starts_with("torch.ops.aten.")
}

/// The name whose memory a node writes to.
pub(super) fn writes(node: &Node) -> Option<&str> {
    let name = node.target.strip_prefix("torch.ops.aten.")?.split('.').next()?;
    if schema::in_place(name) { first(node) } else { None }
}

/// The name of which the results of a node may be views.
pub(super) fn shows(node: &Node) -> Option<&str> {
    let view = is_aten(node) && VIEWS.contains(node.operator());
    if view { first(node) } else { writes(node) }
}

/// The row of a node's operator.
pub(super) fn find(node: &Node) -> Result<Import, Refusal> {
    let name = node.operator();
    let unknown =
        || Refusal::Operator { name: node.target.replace("torch.ops.", ""), help: advice(name).or(Some(OTHERS)) };
    TABLE.get(name).copied().ok_or_else(unknown)
}

/// The general remedy for unsupported operators.
const OTHERS: &str =
    "write it with other operators (qcc ops pt2 lists the supported ones), or export the model without it";

fn advice(name: &str) -> Option<&'static str> {
    match name {
        "higher_order.while_loop" | "higher_order.scan" | "higher_order.map_impl" => {
            Some("export the model with the loop unrolled")
        }
        "randint" | "multinomial" | "normal" => Some("the result is random; export the model for inference"),
        _ if name.starts_with("fft_") => Some("only transforms of real signals along one axis are supported"),
        _ if name.contains('.') => Some("operators of other libraries have to be written in PyTorch's own"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_operator_has_one_row() {
        assert!(super::supported().windows(2).all(|w| w[0] < w[1]));
    }
}

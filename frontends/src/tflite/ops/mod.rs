//! The operator table: one row for each built-in operator, and for each custom one of a known meaning. The files are named like
//! the graph's own operator families.

use std::sync::LazyLock;

use qcc_formats::tflite::{BuiltinOperator as B, OperatorCode};
use rustc_hash::FxHashMap;

use super::node::NodeCx;
use crate::build::Values;
use crate::refusal::Refusal;

mod boxes;
mod complex;
mod control;
mod conv;
mod elementwise;
mod index;
mod known;
mod matmul;
mod movement;
mod norm;
mod pool;
mod quantize;
mod random;
mod recurrent;
mod reduce;
mod resize;
mod segment;
mod slice;
mod source;
mod stablehlo;
mod window;

/// Imports one operator.
pub(super) type Import = fn(&mut NodeCx<'_, '_>) -> Result<Values, Refusal>;

/// A built-in operator and its import function.
type Row = (B, Import);

const FAMILIES: [&[Row]; 19] = [
    boxes::ROWS,
    complex::ROWS,
    control::ROWS,
    conv::ROWS,
    elementwise::ROWS,
    quantize::ROWS,
    index::ROWS,
    matmul::ROWS,
    movement::ROWS,
    norm::ROWS,
    pool::ROWS,
    random::ROWS,
    recurrent::ROWS,
    reduce::ROWS,
    resize::ROWS,
    segment::ROWS,
    slice::ROWS,
    source::ROWS,
    stablehlo::ROWS,
];

static TABLE: LazyLock<FxHashMap<B, Import>> = LazyLock::new(|| FAMILIES.into_iter().flatten().copied().collect());

/// The names of the supported operators, sorted.
pub fn supported() -> Vec<String> {
    let builtin = FAMILIES.into_iter().flatten().map(|row| row.0.to_string());
    let mut names: Vec<String> = builtin.chain(known::ROWS.iter().map(|row| row.0.into())).collect();
    names.sort_unstable();
    names
}

/// True for a custom operator.
fn is_custom(code: &OperatorCode) -> bool {
    code.operator() == B::CUSTOM
}

/// The name of an operator in messages.
pub(super) fn name(code: &OperatorCode) -> String {
    if is_custom(code) { code.custom_code.clone() } else { code.operator().to_string() }
}

/// The row of an operator. `None` for a custom operator that is carried through.
pub(super) fn find(code: &OperatorCode) -> Result<Option<Import>, Refusal> {
    if is_custom(code) {
        let is_this = |row: &&(&str, i32, Import)| row.0 == code.custom_code && row.1 == code.version;
        return Ok(known::ROWS.iter().find(is_this).map(|row| row.2));
    }
    let operator = code.operator();
    let unknown = || Refusal::Operator { name: name(code), help: advice(operator) };
    TABLE.get(&operator).copied().map(Some).ok_or_else(unknown)
}

fn advice(operator: B) -> Option<&'static str> {
    match operator {
        B::CALL => Some("export the model with called subgraphs in place"),
        _ => Some("write it with other operators, or give the model as ONNX"),
    }
}

/// A number that must be positive.
fn positive(n: i32, what: &str) -> Result<usize, Refusal> {
    let number = usize::try_from(n).ok().filter(|&n| n > 0);
    number.ok_or_else(|| Refusal::Invalid(format!("{what} is {n}; expected a positive number")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_operator_has_one_row() {
        assert!(super::supported().windows(2).all(|w| w[0] < w[1]));
    }
}

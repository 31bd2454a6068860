//! The inputs of a program: which of their extents are open, and the range of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Expr, Shape};
use rustc_hash::FxHashSet;

use super::schema::{Range, Size, TensorMeta};
use super::symbols::Symbols;
use super::weights;
use crate::refusal::{EXAMPLE_SHAPE, Refusal};
use crate::shapes::{self, ANONYMOUS};
use crate::{DeclaredInput, ImportOptions};

/// The ranges of symbols, by name.
type Ranges = BTreeMap<String, Range>;

/// Extents beyond this are as good as unlimited.
const UNLIMITED: i64 = 1 << 30;

/// The input that a type declares.
pub(super) fn declared(name: &str, meta: &TensorMeta) -> Result<DeclaredInput, Refusal> {
    let dims = meta.sizes.iter().map(|size| match size.open() {
        None => Ok(Dim::symbol(ANONYMOUS)),
        Some(expr) => match expr.constant() {
            Some(n) => Ok(Dim::Known(crate::build::extent(n)?)),
            None => Ok(Dim::Open(Arc::new(expr))),
        },
    });
    let shape: Shape = dims.collect::<Result<_, Refusal>>()?;
    if shape.rank() > 8 {
        return Err(Refusal::Unsupported(format!("input {name} has rank {}; 8 is the most", shape.rank())));
    }
    Ok(DeclaredInput { name: name.into(), elem: weights::stored(meta.dtype)?.elem(), shape: Some(shape) })
}

/// What the symbols of inputs with these shapes are: numbers where extents are known.
pub(super) fn symbols(inputs: &[DeclaredInput], shapes: &[Shape]) -> Symbols {
    let mut symbols = Symbols::new();
    for (input, shape) in inputs.iter().zip(shapes) {
        let declared = input.shape.iter().flat_map(Shape::dims);
        for (declared, dim) in declared.zip(shape.dims()) {
            let Some((name, value)) = declared.solved(dim.known().unwrap_or(1)) else { continue };
            let open = Expr::symbol(name.clone());
            let value = if dim.known().is_some() { Dim::Known(value).expr() } else { open.clone() };
            let known = symbols.entry(name.to_string()).or_insert_with(|| value.clone());
            if *known == open {
                *known = value;
            }
        }
    }
    symbols
}

/// Notes on the ranges of open symbols.
///
/// # Errors
/// Symbols whose value is outside their range.
pub(super) fn check_ranges(symbols: &Symbols, ranges: &Ranges) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let (mut notes, mut errors) = (Vec::new(), Vec::new());
    for (name, value) in symbols {
        let Some(range) = ranges.get(name) else { continue };
        // The exporter specializes 0 and 1, so a minimum of 2 also permits a batch of one.
        let least = range.min_val.filter(|&least| least > 2);
        let most = range.max_val.filter(|&most| most < UNLIMITED);
        let told = match (least, most) {
            (None, None) => continue,
            (Some(least), None) => format!("the model was exported for at least {least}"),
            (None, Some(most)) => format!("the model was exported for at most {most}"),
            (Some(least), Some(most)) => format!("the model was exported for {least} to {most}"),
        };
        match value.constant() {
            None => notes.push(Diagnostic::note("open-range", format!("the open extent {name}: {told}"))),
            Some(n) if least.is_some_and(|least| n < least) || most.is_some_and(|most| n > most) => {
                errors.push(Diagnostic::error("bad-shape", format!("{name} is {n}; {told}")));
            }
            Some(_) => {}
        }
    }
    if errors.is_empty() { Ok(notes) } else { Err(errors) }
}

/// The inputs with the extents that options do not determine as in the example of the export, for imports that need numbers.
/// Leading symbols stay open: the rule for batches resolves them. So do all extents of an input whose shape options give.
pub(super) fn exemplary<'m>(
    inputs: &[DeclaredInput],
    sizes: impl Iterator<Item = &'m [Size]>,
    options: &ImportOptions,
    ranges: &Ranges,
    notes: &mut Vec<Diagnostic>,
) -> Vec<DeclaredInput> {
    let mut symbols = shapes::given(inputs, options);
    let leading = |input: &DeclaredInput| input.shape.as_ref()?.dims().first()?.as_symbol().cloned();
    for symbol in inputs.iter().filter_map(leading) {
        symbols.entry(symbol).or_insert(1);
    }
    let told: FxHashSet<&str> = options.shapes.iter().map(|(name, _)| name.as_str()).collect();
    for (input, sizes) in inputs.iter().zip(sizes).filter(|(input, _)| !told.contains(input.name.as_str())) {
        let dims = input.shape.iter().flat_map(Shape::dims);
        for (axis, (dim, size)) in dims.zip(sizes).enumerate() {
            let Size::Expr { hint, .. } = size else { continue };
            let least = dim.as_symbol().and_then(|s| ranges.get(&**s)?.min_val);
            let example = hint.or(least).and_then(|n| usize::try_from(n).ok());
            let Some((n, (symbol, value))) = example.and_then(|n| Some((n, dim.solved(n)?))) else { continue };
            if symbols.contains_key(symbol) {
                continue;
            }
            symbols.insert(symbol.clone(), value);
            let name = &input.name;
            let message = format!(
                "extent {axis} of input {name} ({}) is open; compiled for {n}, as in the example it was exported with",
                size.shown()
            );
            let help = shapes::example(input).map(|shape| format!("give others: --shape {shape} with numbers for N"));
            notes.push(Diagnostic::warning(EXAMPLE_SHAPE, message).with_help(help.unwrap_or_default()));
        }
    }
    let known = |input: &DeclaredInput| {
        if told.contains(input.name.as_str()) {
            return input.clone();
        }
        let bound = |(axis, dim): (usize, &Dim)| match dim.bind(&symbols) {
            Some(n) if axis > 0 || dim.as_symbol().is_none() => Dim::Known(n),
            _ => dim.clone(),
        };
        let shape = input.shape.as_ref().map(|shape| shape.dims().iter().enumerate().map(bound).collect());
        DeclaredInput { shape, ..input.clone() }
    };
    inputs.iter().map(known).collect()
}

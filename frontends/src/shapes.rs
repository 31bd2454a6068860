//! Shapes of inputs: open extents are resolved by the options or by the rule for batches.

use std::sync::Arc;

use qcc_ir::diagnostic::{Diagnostic, list};
use qcc_ir::{Dim, OpenExtent, Origin, Shape, Symbols, TensorType};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::build::bounded;
use crate::refusal::{ASSUMED_EXTENT, EXAMPLE_SHAPE, OPEN_SHAPE};
use crate::{DeclaredInput, ImportOptions, Imported};

/// The name of an unnamed open extent.
pub(crate) const ANONYMOUS: &str = "?";

/// The shape of each input, with all extents known. An open extent has the value that the options give, for its own
/// input or for another one with the same symbol; an open leading extent without a value is 1.
///
/// # Errors
/// Options that do not fit the inputs, and open extents without a value ([`OPEN_SHAPE`]).
pub(crate) fn settle(
    inputs: &[DeclaredInput],
    options: &ImportOptions,
    notes: &mut Vec<Diagnostic>,
) -> Result<Vec<Shape>, Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let mut given: FxHashMap<&str, &[Option<usize>]> = FxHashMap::default();
    let names: FxHashSet<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    for (name, dims) in &options.shapes {
        if !names.contains(name.as_str()) {
            errors.push(unknown_input(name, "--shape", inputs));
        } else if given.insert(name, dims).is_some() {
            errors.push(Diagnostic::error("bad-shape", format!("the shape of input {name} is given twice")));
        }
    }
    if inputs.iter().any(|i| i.name.is_empty()) {
        errors.push(Diagnostic::invalid_model("an input has no name"));
    }
    let (symbols, batches) = (symbols(inputs, &given), batches(inputs, &given));
    let (mut shapes, mut assumed) = (Vec::new(), Vec::new());
    for input in inputs {
        match settle_one(input, given.get(input.name.as_str()).copied(), &symbols, &batches) {
            Ok((shape, one)) => {
                if let Err(e) = bounded(&TensorType::new(input.elem.clone(), shape.clone())) {
                    errors.extend(e.diagnostic(&Origin::new(input.name.as_str(), "Input")));
                }
                assumed.extend(one.then(|| (input, shape.clone())));
                shapes.push(shape);
            }
            Err(e) => errors.push(*e),
        }
    }
    notes.extend(open_shape(&assumed));
    if errors.is_empty() { Ok(shapes) } else { Err(errors) }
}

/// Whether a format has names for open extents, by which equal ones are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtentNames {
    /// It has: unnamed leading extents are one batch.
    Given,
    /// It has none: of several leading extents nothing says that they are equal.
    Absent,
}

/// The shape of each input with the extents that stay open: those without a value. An unnamed leading extent is the batch
/// of all inputs, unless the format has no names and several inputs have one; any other has a name of its own. `None` if
/// no extent is open, or an input does not say how many axes it has.
///
/// The options must fit the inputs, as [`settle`] says.
fn keep(inputs: &[DeclaredInput], options: &ImportOptions, names: ExtentNames) -> Option<Vec<Shape>> {
    let symbols = given(inputs, options);
    let unnamed = |dim: &Dim| dim.as_symbol().is_some_and(|s| **s == *ANONYMOUS);
    let leading = inputs.iter().filter(|i| i.shape.as_ref().is_some_and(|s| s.dims().first().is_some_and(unnamed)));
    let is_batch = names == ExtentNames::Given || leading.count() == 1;
    let given: FxHashMap<&str, &[Option<usize>]> =
        options.shapes.iter().map(|(name, dims)| (name.as_str(), dims.as_slice())).collect();
    let kept = |input: &DeclaredInput| {
        let given = given.get(input.name.as_str());
        let extent = |(axis, dim): (usize, &Dim)| match given.and_then(|given| given[axis]) {
            Some(n) => n.into(),
            None if unnamed(dim) && axis == 0 && is_batch => Dim::symbol(BATCH),
            None if unnamed(dim) => Dim::symbol(format!("{}_{axis}", input.name)),
            None => dim.map(|e| e.bind(&symbols)).unwrap_or_else(|| dim.clone()),
        };
        Some(input.shape.as_ref()?.dims().iter().enumerate().map(extent).collect())
    };
    let shapes: Vec<Shape> = inputs.iter().map(kept).collect::<Option<_>>()?;
    (shapes.iter().any(Shape::is_open) && follow(&shapes)).then_some(shapes)
}

/// True where each symbol of these shapes follows from an extent.
fn follow(shapes: &[Shape]) -> bool {
    let dims = || shapes.iter().flat_map(Shape::dims);
    let known: Symbols = dims().filter_map(|dim| dim.solved(1)).map(|(symbol, _)| (symbol.clone(), 1)).collect();
    dims().all(|dim| dim.bind(&known).is_some())
}

/// The symbols of inputs to which options give one value.
pub(crate) fn given(inputs: &[DeclaredInput], options: &ImportOptions) -> Symbols {
    let given = options.shapes.iter().map(|(name, dims)| (name.as_str(), dims.as_slice())).collect();
    agreed(&symbols(inputs, &given))
}

/// The symbols that have one value.
fn agreed(symbols: &FxHashMap<&str, Option<usize>>) -> Symbols {
    symbols.iter().filter_map(|(symbol, n)| Some(((*symbol).into(), (*n)?))).collect()
}

/// Imports a model by `at`, which takes the shapes of its inputs, with the extents open that have no value. Where that is not
/// possible, with one batch for all inputs, or with the settled ones, in which a batch without a value is 1, or with that batch
/// and the others open.
/// `unknown` gives errors that do not depend on shapes.
///
/// # Errors
/// Those of the import, and of settled shapes that are missing.
pub(crate) fn import(
    (inputs, options, names): (&[DeclaredInput], &ImportOptions, ExtentNames),
    settled: Result<Vec<Shape>, Vec<Diagnostic>>,
    mut notes: Vec<Diagnostic>,
    unknown: impl Fn() -> Vec<Diagnostic>,
    at: impl Fn(Vec<Shape>, Vec<Diagnostic>) -> Result<Imported, Vec<Diagnostic>>,
) -> Result<Imported, Vec<Diagnostic>> {
    let closed = |shapes, notes| Ok(Imported { open: open(inputs, options), ..at(shapes, notes)? });
    let fits = !options.fixed && settled.as_ref().err().into_iter().flatten().all(|e| e.code == OPEN_SHAPE);
    let Some(mut kept) = (if fits { keep(inputs, options, names) } else { None }) else {
        return match settled {
            Ok(shapes) => closed(shapes, notes),
            Err(errors) => Err(errors.into_iter().chain(unknown()).collect()),
        };
    };
    let mut told: Vec<Diagnostic> = Vec::new();
    let errors = loop {
        let errors = match at(kept.clone(), told.clone()) {
            Ok(imported) => return Ok(imported),
            Err(errors) => errors,
        };
        let Some((shapes, note)) = with_needed(inputs, &kept, &errors) else { break errors };
        kept = shapes;
        told.push(note);
    };
    let with_batch = with_one_batch((inputs, names), &kept);
    if let Some(imported) = with_batch.and_then(|(s, note)| at(s, told.into_iter().chain([note]).collect()).ok()) {
        return Ok(imported);
    }
    match settled {
        Ok(shapes) => {
            notes.iter_mut().for_each(|note| explain(note, &errors));
            closed(shapes, notes)
        }
        Err(refused) => {
            let single = single(&kept).and_then(|shapes| {
                let changed = inputs.iter().zip(&shapes).zip(&kept).filter(|((_, shape), kept)| shape != kept);
                let assumed: Vec<_> = changed.map(|((input, shape), _)| (input, shape.clone())).collect();
                let mut note = open_shape(&assumed);
                note.iter_mut().for_each(|note| explain(note, &errors));
                at(shapes, note.into_iter().collect()).ok()
            });
            single.ok_or_else(|| needs_extents(refused, errors))
        }
    }
}

/// The shapes with the value of an open extent that one of the errors asks for, and the note that tells so: an operator takes
/// it with that value only, as a convolution its channels.
fn with_needed(inputs: &[DeclaredInput], kept: &[Shape], errors: &[Diagnostic]) -> Option<(Vec<Shape>, Diagnostic)> {
    errors.iter().find_map(|e| {
        let (symbol, value) = e.extent.clone()?;
        let bound = Symbols::from_iter([(symbol.clone(), value)]);
        let shapes: Vec<Shape> = kept.iter().map(|shape| shape.bind(&bound)).collect();
        let i = (0..kept.len()).find(|&i| shapes[i] != kept[i])?;
        let message = format!("extent {symbol} of input {} is taken to be {value}", inputs[i].name);
        let note = Diagnostic::note(ASSUMED_EXTENT, message).at(&e.origin).with_note("no other value runs there");
        Some((shapes, note))
    })
}

/// The shapes with one batch for inputs whose first extents have several names, and the note that tells so. `None` where there
/// is one name, or where other extents follow from these.
fn with_one_batch(
    (inputs, names): (&[DeclaredInput], ExtentNames),
    kept: &[Shape],
) -> Option<(Vec<Shape>, Diagnostic)> {
    let first = |shape: &Shape| shape.dims().first()?.as_symbol().cloned();
    let batches: FxHashSet<Arc<str>> = kept.iter().filter_map(first).collect();
    let batch = match names {
        ExtentNames::Given => kept.iter().find_map(first)?,
        ExtentNames::Absent => BATCH.into(),
    };
    if batches.len() < 2 {
        return None;
    }
    let is_batch = |dim: &Dim| dim.as_symbol().is_some_and(|symbol| batches.contains(symbol));
    let renamed = |dim: &Dim| if is_batch(dim) { Dim::symbol(batch.clone()) } else { dim.clone() };
    let shapes: Vec<Shape> = kept.iter().map(|shape| shape.dims().iter().map(renamed).collect()).collect();
    let changed = inputs.iter().zip(kept).filter(|(_, shape)| first(shape).is_some());
    let changed: Vec<&str> = changed.map(|(input, _)| input.name.as_str()).collect();
    let message = format!("the first extents of inputs {} are taken to be one batch", list(&changed));
    follow(&shapes).then(|| (shapes, Diagnostic::warning(ASSUMED_EXTENT, message)))
}

/// The shapes with batches of 1, if that leaves other extents open.
fn single(kept: &[Shape]) -> Option<Vec<Shape>> {
    let leading = kept.iter().filter_map(|shape| shape.dims().first()?.as_symbol());
    let batches: Symbols = leading.map(|symbol| (symbol.clone(), 1)).collect();
    let shapes: Vec<Shape> = kept.iter().map(|shape| shape.bind(&batches)).collect();
    (!batches.is_empty() && shapes.iter().any(Shape::is_open)).then_some(shapes)
}

/// The errors of a model that cannot be imported with open extents: that its inputs need shapes, with what needs them, and
/// all errors that do not depend on extents.
fn needs_extents(mut refused: Vec<Diagnostic>, errors: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let (open, others): (Vec<_>, Vec<_>) = errors.into_iter().partition(|e| e.code != "unsupported-op");
    refused.iter_mut().take(1).for_each(|first| explain(first, &open));
    refused.extend(others);
    refused
}

/// Adds to the message that open extents need a value which of these errors is the reason.
pub fn explain(message: &mut Diagnostic, errors: &[Diagnostic]) {
    if let Some(why) = errors.first().filter(|_| matches!(message.code, OPEN_SHAPE | EXAMPLE_SHAPE)) {
        let place = if why.origin.to_string().is_empty() { String::new() } else { format!(" ({})", why.origin) };
        let help = why.help.as_deref().filter(|_| why.code == "not-constant" || why.code == "unsupported");
        let help = help.map_or_else(String::new, |help| format!("; {help}"));
        message.notes.push(format!("with open extents it cannot be compiled: {}{place}{help}", why.message));
    }
}

/// Maximum number of inputs that a message lists.
const MOST_NAMED: usize = 4;

/// A warning that open extents of these inputs became 1, since no option gives a value.
fn open_shape(assumed: &[(&DeclaredInput, Shape)]) -> Option<Diagnostic> {
    let (first, _) = assumed.first()?;
    let told = |(input, shape): &(&DeclaredInput, Shape)| {
        let declared = input.shape.as_ref().map_or_else(String::new, |s| s.to_string());
        format!("input {} is declared {declared}; compiled for {shape}", input.name)
    };
    let help = format!("give another: --shape {} with a number for N", example(first)?);
    Some(
        match assumed {
            [one] => Diagnostic::warning(OPEN_SHAPE, told(one)),
            all => {
                let message = format!("open extents of {} inputs are compiled as 1", all.len());
                let named = all.iter().take(MOST_NAMED).map(told);
                let more = (all.len() > MOST_NAMED).then(|| format!("and {} more inputs", all.len() - MOST_NAMED));
                named.chain(more).fold(Diagnostic::warning(OPEN_SHAPE, message), Diagnostic::with_note)
            }
        }
        .with_help(help),
    )
}

/// An argument for `--shape` for an input: its name and extents, `N` for open ones. `None` if it has no rank.
pub(crate) fn example(input: &DeclaredInput) -> Option<String> {
    let known = |d: &Dim| d.known().map_or("N".into(), |d| d.to_string());
    let extents: Vec<String> = input.shape.as_ref()?.dims().iter().map(known).collect();
    Some(format!("{}={}", input.name, extents.join(",")))
}

/// The extents of the symbols of inputs; `None` for a symbol with several extents.
pub(crate) fn extents(inputs: &[DeclaredInput], settled: &[Shape]) -> FxHashMap<Arc<str>, Option<usize>> {
    let mut extents: FxHashMap<Arc<str>, Option<usize>> = FxHashMap::default();
    let declared = inputs.iter().flat_map(|i| i.shape.iter().flat_map(Shape::dims));
    let settled = inputs.iter().zip(settled).filter(|(i, _)| i.shape.is_some()).flat_map(|(_, s)| s.dims());
    for (declared, settled) in declared.zip(settled) {
        if let Some(s) = declared.as_symbol()
            && **s != *ANONYMOUS
        {
            let n = settled.known();
            extents.entry(s.clone()).and_modify(|known| *known = known.filter(|_| *known == n)).or_insert(n);
        }
    }
    extents
}

/// The name of an unnamed batch extent.
const BATCH: &str = "batch";

/// The extents that only the rule for batches resolves: open leading ones without a value, and all with the same
/// symbol. Inputs that become constants have none.
pub(crate) fn open(inputs: &[DeclaredInput], options: &ImportOptions) -> Vec<OpenExtent> {
    let told = options.shapes.iter().map(|s| &s.0).chain(options.values.iter().map(|v| &v.0));
    let told: FxHashSet<&String> = told.collect();
    let (fixed, free): (Vec<_>, Vec<_>) = inputs.iter().partition(|i| told.contains(&i.name));
    let symbols = |inputs: &[&'_ DeclaredInput]| -> FxHashSet<Arc<str>> {
        let dims = inputs.iter().filter_map(|i| i.shape.as_ref()).flat_map(Shape::dims);
        dims.filter_map(Dim::as_symbol).cloned().collect()
    };
    let mut fixed = symbols(&fixed);
    fixed.remove(ANONYMOUS);
    let batch = |i: &&DeclaredInput| match i.shape.as_ref()?.dims().first()?.as_symbol() {
        Some(s) if !fixed.contains(s) => Some(s.clone()),
        _ => None,
    };
    let batches: FxHashSet<Arc<str>> = free.iter().filter_map(batch).collect();
    let mut open = Vec::new();
    for input in free {
        for (axis, dim) in input.shape.iter().flat_map(Shape::dims).enumerate() {
            let Some(symbol) = dim.as_symbol() else { continue };
            let anonymous = **symbol == *ANONYMOUS;
            if batches.contains(symbol) && (axis == 0 || !anonymous) {
                let symbol = if anonymous { BATCH.into() } else { symbol.clone() };
                open.push(OpenExtent { input: input.name.clone(), axis, symbol });
            }
        }
    }
    open
}

/// The values that options set for inputs, and errors for unknown names.
pub(crate) fn values<'o>(
    inputs: &[DeclaredInput],
    options: &'o ImportOptions,
) -> (FxHashMap<&'o str, &'o [f64]>, Vec<Diagnostic>) {
    let names: FxHashSet<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    let unknown = options.values.iter().filter(|v| !names.contains(v.0.as_str()));
    let errors = unknown.map(|v| unknown_input(&v.0, "--set", inputs)).collect();
    // If an input is given several times, the first one counts.
    (options.values.iter().rev().map(|(name, values)| (name.as_str(), values.as_slice())).collect(), errors)
}

/// The error for an option with an unknown input.
pub(crate) fn unknown_input(name: &str, option: &str, inputs: &[DeclaredInput]) -> Diagnostic {
    let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    Diagnostic::error("unknown-input", format!("{option} names {name}, which is no input of the model"))
        .with_help(format!("inputs: {}", names.join(", ")))
}

/// The values of symbols, if the given shapes are consistent.
fn symbols<'i>(
    inputs: &'i [DeclaredInput],
    given: &FxHashMap<&str, &[Option<usize>]>,
) -> FxHashMap<&'i str, Option<usize>> {
    let mut symbols: FxHashMap<&str, Option<usize>> = FxHashMap::default();
    for input in inputs {
        let (Some(shape), Some(dims)) = (&input.shape, given.get(input.name.as_str())) else { continue };
        for (declared, given) in shape.dims().iter().zip(*dims) {
            if let Some((s, n)) = given.and_then(|extent| declared.solved(extent))
                && **s != *ANONYMOUS
            {
                symbols.entry(s).and_modify(|e| *e = e.filter(|&e| e == n)).or_insert(Some(n));
            }
        }
    }
    symbols
}

/// The symbols of batches: leading extents of inputs without given shapes.
fn batches<'i>(inputs: &'i [DeclaredInput], given: &FxHashMap<&str, &[Option<usize>]>) -> FxHashSet<&'i str> {
    let free = inputs.iter().filter(|i| !given.contains_key(i.name.as_str()));
    let leading = free.filter_map(|i| i.shape.as_ref()?.dims().first());
    leading.filter_map(|d| Some(&**d.as_symbol()?)).filter(|s| *s != ANONYMOUS).collect()
}

/// The shape of one input, and whether an extent of it is 1 by the rule for batches.
fn settle_one(
    input: &DeclaredInput,
    given: Option<&[Option<usize>]>,
    symbols: &FxHashMap<&str, Option<usize>>,
    batches: &FxHashSet<&str>,
) -> Result<(Shape, bool), Box<Diagnostic>> {
    let name = &input.name;
    let Some(declared) = &input.shape else {
        let message = format!("the model does not say what shape input {name} has");
        let refusal = Diagnostic::error(OPEN_SHAPE, message);
        let refusal = refusal.with_help(format!("give it: --shape {name}=1,3,224,224"));
        return known(given.unwrap_or(&[None])).map(|shape| (shape, false)).ok_or_else(|| Box::new(refusal));
    };
    let values = agreed(symbols);
    if let Some(given) = given {
        // Only open extents stay open.
        let fits = |(declared, given): (&Dim, &Option<usize>)| match (declared, given) {
            (Dim::Known(d), given) => Some(*d) == *given,
            (Dim::Open(_), Some(n)) => declared.bind(&values).is_none_or(|d| d == *n),
            (Dim::Open(_), None) => true,
        };
        let shown = || given.iter().map(|d| d.map_or("N".into(), |d| d.to_string())).collect::<Vec<_>>();
        if declared.rank() != given.len() || !declared.dims().iter().zip(given).all(fits) {
            let message = format!("input {name} is declared {declared}; --shape gives [{}]", shown().join(","));
            return Err(Box::new(Diagnostic::error("bad-shape", message)));
        }
        let Some(shape) = known(given) else {
            let message = format!("input {name} is [{}]: some of its extents are open", shown().join(","));
            let help = format!("give the shape: --shape {} with numbers for N", example(input).unwrap_or_default());
            return Err(Box::new(Diagnostic::error(OPEN_SHAPE, message).with_help(help)));
        };
        return Ok((shape, false));
    }
    let mut assumed = false;
    let mut shape = declared.clone();
    for (axis, dim) in declared.dims().iter().enumerate() {
        let Dim::Open(expr) = dim else { continue };
        let symbol = dim.as_symbol().map(|symbol| &**symbol);
        let told = symbol.is_some_and(|symbol| symbols.contains_key(symbol));
        match dim.bind(&values) {
            Some(extent) => shape = shape.with(axis, extent),
            None if symbol.is_some_and(|symbol| axis == 0 || (!told && batches.contains(symbol))) => {
                (shape, assumed) = (shape.with(axis, 1), true);
            }
            None => {
                let message = format!("input {name} is {declared}: extent {axis} ({}) is open", expr.label());
                let help = format!("give the shape: --shape {} with numbers for N", example(input).unwrap_or_default());
                return Err(Box::new(Diagnostic::error(OPEN_SHAPE, message).with_help(help)));
            }
        }
    }
    Ok((shape, assumed))
}

/// The shape, if no extent of it is open.
fn known(given: &[Option<usize>]) -> Option<Shape> {
    given.iter().map(|d| d.map(Dim::Known)).collect()
}

//! Columns of features of `ai.onnx.ml` as tensor operators.

use qcc_ir::diagnostic::{Diagnostic, list};
use qcc_ir::ops::{ArgReduce, BinaryFn, Concat, Gather, ReduceFn, Select, UnaryFn};
use qcc_ir::{Dim, Elem, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::linear::{constant, features, missing};
use crate::build::{Build, Values, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("ai.onnx.ml.ArrayFeatureExtractor", extractor),
    ("ai.onnx.ml.Binarizer", binarizer),
    ("ai.onnx.ml.FeatureVectorizer", vectorizer),
    ("ai.onnx.ml.Imputer", imputer),
    ("ai.onnx.ml.LabelEncoder", label_encoder),
    ("ai.onnx.ml.Normalizer", normalizer),
    ("ai.onnx.ml.OneHotEncoder", one_hot_encoder),
    ("ai.onnx.ml.Scaler", scaler),
    ("ai.onnx.ml.ZipMap", zip_map),
];

/// (x - offset) * scale
fn scaler(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let mut x = features(n)?;
    for (name, f) in [("offset", BinaryFn::Sub), ("scale", BinaryFn::Mul)] {
        if let Some(values) = n.floats(name)? {
            let values = constant(n, &[values.len()], values.to_vec());
            x = n.binary(f, x, values)?;
        }
    }
    one(x)
}

/// Rows divided by a norm; a norm of 0 counts as 1.
fn normalizer(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = features(n)?;
    let norm = n.string("norm", "MAX")?;
    let (size, square) = (n.unary(UnaryFn::Abs, x)?, n.binary(BinaryFn::Mul, x, x)?);
    let size = match norm {
        // Not of magnitudes.
        "MAX" => n.reduce(ReduceFn::Max, x, &[1], true)?,
        "L1" => n.reduce(ReduceFn::Sum, size, &[1], true)?,
        "L2" => {
            let sum = n.reduce(ReduceFn::Sum, square, &[1], true)?;
            n.unary(UnaryFn::Sqrt, sum)?
        }
        _ => return Err(Refusal::Attribute { name: "norm".into(), problem: "not MAX, L1 or L2" }),
    };
    let (zero, unit) = (n.scalar(0.0, size)?, n.scalar(1.0, size)?);
    let is_zero = n.binary(BinaryFn::Equal, size, zero)?;
    let size = n.add(Select {}, &[is_zero, unit, size])?;
    one(n.binary(BinaryFn::Div, x, size)?)
}

/// Elements along the last axis; a list is a row.
fn extractor(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (mut x, places) = (n.input(0)?, n.input(1)?);
    if n.rank(x) == 1 {
        x = n.as_row(x)?;
    }
    let axis = n.axis(-1, x)?;
    let count = Shape::count(n.shape(places).dims()).ok_or_else(|| Refusal::Open(n.shape(places).clone()))?;
    let places = n.reshape_to(places, [count].into_iter().collect())?;
    one(n.add(Gather { axis }, &[x, places])?)
}

/// 1 where the element is above the threshold, else 0.
fn binarizer(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let threshold = n.float("threshold", 0.0)?;
    let elem = n.ty(x).elem.clone();
    let x = n.cast(x, Elem::F32)?;
    let threshold = n.scalar(threshold.into(), x)?;
    let above = n.binary(BinaryFn::Greater, x, threshold)?;
    one(n.cast(above, elem)?)
}

/// All features beside each other, as floats.
fn vectorizer(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let lengths = n.ints("inputdimensions")?.map(<[i64]>::to_vec);
    let mut parts = Values::new();
    for i in 0..n.inputs() {
        let x = n.input(i)?;
        let x = n.cast(x, Elem::F32)?;
        let rows = n.shape(x).dims().first().cloned().unwrap_or(Dim::Known(1));
        let columns = Shape::count(n.shape(x).dims().get(1..).unwrap_or_default());
        let columns = columns.ok_or_else(|| Refusal::Open(n.shape(x).clone()))?;
        if lengths.as_ref().is_some_and(|lengths| columns.known() != lengths.get(i).map(|&l| l as usize)) {
            return Err(Refusal::Invalid(format!("{} in input {i}; its length is declared otherwise", n.ty(x))));
        }
        let x = n.reshape_to(x, [rows, columns].into_iter().collect())?;
        parts.push(x);
    }
    one(n.add(Concat { axis: 1 }, &parts)?)
}

/// Elements equal to a value (NaN: those that are no numbers) replaced, by one value or by that of the column.
fn imputer(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let floats = n.floats("imputed_value_floats")?.map(<[f32]>::to_vec);
    let ints = n.ints("imputed_value_int64s")?.map(<[i64]>::to_vec);
    let (old, old_int) = (n.float("replaced_value_float", 0.0)?, n.int("replaced_value_int64", 0)?);
    let (hits, new) = match (floats.filter(|f| !f.is_empty()), ints.filter(|i| !i.is_empty())) {
        (Some(new), _) if n.ty(x).elem.is_float() => {
            let hits = equal(n, x, old)?;
            (hits, Tensor::from_vec(Shape::known(&[new.len()]), new))
        }
        (_, Some(new)) if !n.ty(x).elem.is_float() => {
            let old = n.scalar(old_int as f64, x)?;
            (n.binary(BinaryFn::Equal, x, old)?, Tensor::from_vec(Shape::known(&[new.len()]), new))
        }
        _ => return Err(missing("imputed_value_floats")),
    };
    let new = n.add_constant(new);
    let new = n.cast(new, n.ty(x).elem.clone())?;
    one(n.add(Select {}, &[hits, new, x])?)
}

/// Where a number is equal to another one, or both are NaN.
fn equal(n: &mut NodeCx<'_, '_>, x: ValueId, to: f32) -> Result<ValueId, Refusal> {
    if to.is_nan() {
        let known = n.binary(BinaryFn::Equal, x, x)?;
        return n.unary(UnaryFn::Not, known);
    }
    let to = n.scalar(to.into(), x)?;
    n.binary(BinaryFn::Equal, x, to)
}

/// The keys or the values of an encoder of labels: numbers.
fn table(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Tensor, Refusal> {
    let list = |len: usize| Shape::known(&[len]);
    if let Some(floats) = n.floats(&format!("{name}_floats"))? {
        return Ok(Tensor::from_vec(list(floats.len()), floats.to_vec()));
    }
    if let Some(ints) = n.ints(&format!("{name}_int64s"))? {
        return Ok(Tensor::from_vec(list(ints.len()), ints.to_vec()));
    }
    match n.tensor(&format!("{name}_tensor"))? {
        Some(tensor) => Ok(tensor),
        None => Err(Refusal::Unsupported(format!("{name} that are no numbers are not supported"))),
    }
}

/// The value of the key that the element is equal to; a default for other elements.
fn label_encoder(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let (keys, values) = (table(n, "keys")?, table(n, "values")?);
    if keys.len() != values.len() || keys.is_empty() {
        return Err(Refusal::Invalid(format!("{} keys for {} values", keys.len(), values.len())));
    }
    let nan = keys.floats().iter().any(|key| key.is_nan());
    let is_float = values.ty().elem.is_float();
    let default = match n.tensor("default_tensor")? {
        Some(default) => f64::from(default.floats().first().copied().unwrap_or(0.0)),
        None if is_float => f64::from(n.float("default_float", -0.0)?),
        None => n.int("default_int64", -1)? as f64,
    };
    let (keys, values) = (n.add_constant(keys), n.add_constant(values));
    let column = n.column(x)?;
    let column = n.cast(column, n.ty(keys).elem.clone())?;
    let mut hits = n.binary(BinaryFn::Equal, column, keys)?;
    if nan {
        let both =
            [column, keys].map(|v| n.binary(BinaryFn::Equal, v, v).and_then(|known| n.unary(UnaryFn::Not, known)));
        let [a, b] = both;
        let both = n.binary(BinaryFn::And, a?, b?)?;
        hits = n.binary(BinaryFn::Or, hits, both)?;
    }
    let axis = n.rank(hits) - 1;
    let hit = n.reduce(ReduceFn::Any, hits, &[axis], false)?;
    let hits = n.cast(hits, Elem::I32)?;
    let first = n.add(ArgReduce { axis, largest: true, keep: false }, &[hits])?;
    let found = n.add(Gather { axis: 0 }, &[values, first])?;
    let default = n.scalar(default, found)?;
    one(n.add(Select {}, &[hit, found, default])?)
}

/// A new last axis: 1 at the category that the element is, else 0.
fn one_hot_encoder(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let categories = n.ints("cats_int64s")?.map(<[i64]>::to_vec).filter(|c| !c.is_empty());
    let no = || Refusal::Unsupported("categories that are no integers are not supported".into());
    let categories = categories.ok_or_else(no)?;
    // A runtime may refuse elements of no category; here they have none.
    n.flag("zeros", true)?;
    let column = n.column(x)?;
    let column = n.cast(column, Elem::I64)?;
    let categories = n.add_constant(Tensor::from_vec(Shape::known(&[categories.len()]), categories));
    let hits = n.binary(BinaryFn::Equal, column, categories)?;
    one(n.cast(hits, Elem::F32)?)
}

/// The scores of classes by their labels, which stay a tensor: the labels are told.
fn zip_map(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input(0)?;
    let labels = match (n.ints("classlabels_int64s")?, n.strings("classlabels_strings")?) {
        (Some(labels), _) if !labels.is_empty() => list(labels),
        (_, Some(labels)) => list(&labels),
        _ => return Err(missing("classlabels_int64s")),
    };
    let message = format!("the scores stay a tensor, not maps; its columns are those of the labels {labels}");
    n.note_here(Diagnostic::warning("map-as-tensor", message));
    one(x)
}

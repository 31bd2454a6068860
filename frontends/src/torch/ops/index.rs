//! Operators that compute or use indices.

use qcc_ir::ops::{BinaryFn, Concat, CumSum, Extents, Gather, GatherElements, GatherNd, Select, TopK, broadcast};
use qcc_ir::{Elem, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::super::schema::Number;
use super::Row;
use super::parts::parts;
use crate::build::index::{non_zero, scatter_elements, scatter_nd, within};
use crate::build::{Build, Values, extent, one};
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[
    ("_unsafe_index", index),
    ("argsort", |n| {
        let sorted = sort(n)?;
        one(sorted[1])
    }),
    ("bucketize", bucketize),
    ("cumsum", cumsum),
    ("embedding", embedding),
    ("gather", |n| {
        let (x, axis, indices) = along(n)?;
        one(n.add(GatherElements { axis }, &[x, indices])?)
    }),
    ("index", index),
    ("index_put", index_put),
    ("index_select", |n| {
        let (x, axis, indices) = along(n)?;
        one(n.add(Gather { axis }, &[x, indices])?)
    }),
    ("masked_scatter", |_| Err(Refusal::Unsupported("masked_scatter is not supported".into()))),
    ("nonzero", |n| {
        let x = n.input()?;
        let known = n.constant(x).ok_or(Refusal::NotConstant { index: 0, name: "self".into() })?;
        let indices = non_zero(known);
        let indices = n.add_constant(indices);
        one(n.transpose(indices, &[1, 0])?)
    }),
    ("one_hot", one_hot),
    ("scatter", scatter),
    ("select_scatter", |n| put(n)),
    ("slice_scatter", |n| put(n)),
    ("sort", sort),
    ("take_along_dim", |n| {
        let (x, indices) = (n.input()?, n.tensor("indices")?);
        let axis = n.required_int("dim")?;
        let axis = n.axis(axis, x)?;
        within(n, indices, &n.dims(x)[axis..=axis])?;
        one(n.add(GatherElements { axis }, &[x, indices])?)
    }),
    ("topk", |n| {
        let x = n.input()?;
        let (k, axis) = (n.required_int("k")?, n.int("dim", -1)?);
        let (axis, largest) = (n.axis(axis, x)?, n.flag("largest", true)?);
        n.flag("sorted", true)?;
        n.add_all(TopK { k: extent(k)?, axis, largest }, &[x])
    }),
];

/// Most classes of one_hot.
const MOST_CLASSES: i64 = 1 << 24;

/// self, dim and index; known indices are checked.
fn along(n: &mut NodeCx<'_, '_>) -> Result<(ValueId, usize, ValueId), Refusal> {
    let (x, indices) = (n.input()?, n.tensor("index")?);
    let axis = n.required_int("dim")?;
    let axis = n.axis(axis, x)?;
    within(n, indices, &n.dims(x)[axis..=axis])?;
    Ok((x, axis, indices))
}

fn embedding(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (weight, indices) = (n.tensor("weight")?, n.tensor("indices")?);
    within(n, indices, &n.dims(weight)[..1])?;
    one(n.add(Gather { axis: 0 }, &[weight, indices])?)
}

fn cumsum(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let elem = match n.dtype("dtype")? {
        Some(elem) => elem,
        None if n.ty(x).elem.is_float() => n.ty(x).elem.clone(),
        None => Elem::I64,
    };
    let x = n.cast(x, elem)?;
    let axis = n.required_int("dim")?;
    let axis = n.axis(axis, x)?;
    one(n.add(CumSum { axis, exclusive: false, reverse: false }, &[x])?)
}

/// All elements along an axis, in order.
fn sort(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let axis = n.int("dim", -1)?;
    let (axis, largest) = (n.axis(axis, x)?, n.flag("descending", false)?);
    n.flag("stable", false)?;
    n.add_all(TopK { k: n.dims(x)[axis], axis, largest }, &[x])
}

/// The index tuples of advanced indexing: one tensor for each indexed axis, all broadcast to one shape.
struct Indices {
    /// The indexed axes, ascending.
    axes: Extents,
    /// One tensor of integers for each.
    tensors: Values,
    /// What they broadcast to.
    shape: Extents,
}

impl Indices {
    /// Masks that are known become indices.
    fn read(n: &mut NodeCx<'_, '_>, x: ValueId) -> Result<Indices, Refusal> {
        let mut axes = Extents::new();
        let mut tensors = Values::new();
        let mut axis = 0;
        for given in n.optionals("indices")? {
            let Some(v) = given else {
                axis += 1;
                continue;
            };
            if matches!(n.ty(v).elem, Elem::Bool | Elem::U8) {
                let known = n.constant(v).ok_or_else(|| {
                    Refusal::Unsupported(
                        "a mask that is not constant chooses: the shape of the result would depend on values".into(),
                    )
                })?;
                let (places, rank) = (non_zero(known), n.rank(v));
                let integers = places.integers().unwrap_or_default();
                let count = integers.len() / rank.max(1);
                for column in integers.chunks(count.max(1)).take(rank) {
                    axes.push(axis);
                    axis += 1;
                    tensors.push(n.add_constant(Tensor::from_vec(Shape::known(&[count]), column.to_vec())));
                }
                continue;
            }
            axes.push(axis);
            axis += 1;
            let wide = if matches!(n.ty(v).elem, Elem::I32 | Elem::I64) { v } else { n.cast(v, Elem::I64)? };
            tensors.push(wide);
        }
        if axis > n.rank(x) || axes.is_empty() {
            return Err(Refusal::Invalid(format!("{axis} indices for {}", n.ty(x))));
        }
        let mut shape = Shape::scalar();
        for (&v, &axis) in tensors.iter().zip(&axes) {
            shape = broadcast(&shape, &n.ty(v).shape)?;
            within(n, v, &n.dims(x)[axis..=axis])?;
        }
        let shape = shape.extents().unwrap_or_default().into_iter().collect();
        Ok(Indices { axes, tensors, shape })
    }

    fn side_by_side(&self) -> bool {
        self.axes.windows(2).all(|w| w[0] + 1 == w[1])
    }

    /// The order of axes with the indexed ones in front.
    fn in_front(&self, rank: usize) -> Extents {
        self.axes.iter().copied().chain((0..rank).filter(|a| !self.axes.contains(a))).collect()
    }

    /// The tuples along a last axis. Negative indices count from the end.
    fn tuples(&self, n: &mut NodeCx<'_, '_>) -> Result<ValueId, Refusal> {
        let mut dims = self.shape.clone();
        dims.push(1);
        let mut columns = Values::new();
        for &v in &self.tensors {
            let v = n.cast(v, Elem::I64)?;
            let v = n.expand(v, &self.shape)?;
            columns.push(n.reshape(v, &dims)?);
        }
        match *columns {
            [only] => Ok(only),
            _ => n.add(Concat { axis: self.shape.len() }, &columns),
        }
    }
}

/// Advanced indexing: the axes of the indices take the place of the indexed axes, or come first where those do not lie
/// side by side.
fn index(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let indices = Indices::read(n, x)?;
    if let ([axis], [v]) = (indices.axes.as_slice(), indices.tensors.as_slice()) {
        return one(n.add(Gather { axis: *axis }, &[x, *v])?);
    }
    let order = indices.in_front(n.rank(x));
    let x = n.transpose(x, &order)?;
    let tuples = indices.tuples(n)?;
    let y = n.add(GatherNd { batch: 0 }, &[x, tuples])?;
    if !indices.side_by_side() {
        return one(y);
    }
    let (first, count) = (indices.axes[0], indices.shape.len());
    let before = count..count + first;
    let perm: Extents = before.clone().chain(0..count).chain(before.end..n.rank(y)).collect();
    one(n.transpose(y, &perm)?)
}

/// Self with the elements at indices replaced.
fn index_put(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, values) = (n.input()?, n.tensor("values")?);
    if n.flag("accumulate", false)? {
        return Err(Refusal::Unsupported("adding to elements at indices (accumulate) is not supported".into()));
    }
    let values = n.cast(values, n.ty(x).elem.clone())?;
    // A mask and one value: what is chosen need not be known.
    if let [Some(mask)] = n.optionals("indices")?.as_slice()
        && n.ty(*mask).elem == Elem::Bool
        && n.dims(values).iter().product::<usize>() == 1
        && n.rank(*mask) <= n.rank(x)
    {
        let mut dims = n.dims(*mask);
        dims.resize(n.rank(x), 1);
        let mask = n.reshape(*mask, &dims)?;
        let value = n.reshape(values, &[])?;
        return one(n.add(Select {}, &[mask, value, x])?);
    }
    let indices = Indices::read(n, x)?;
    if !indices.side_by_side() || indices.axes[0] != 0 {
        return Err(Refusal::Unsupported("replacing at indices of other axes than the first is not supported".into()));
    }
    let tuples = indices.tuples(n)?;
    let dims: Extents = indices.shape.iter().copied().chain(n.dims(x)[indices.axes.len()..].iter().copied()).collect();
    let values = n.expand(values, &dims)?;
    one(scatter_nd(n, [x, tuples, values])?)
}

fn scatter(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, axis, indices) = along(n)?;
    if n.has("reduce") {
        return Err(Refusal::Unsupported("a scatter with a reduction is not supported".into()));
    }
    let dims = n.dims(indices);
    let known = n.integers(indices, "index")?;
    let elem = n.ty(x).elem.clone();
    let updates = match n.optional("src")? {
        // More of the source than there are indices is not read.
        Some(src) => {
            let ranges =
                dims.iter().enumerate().map(|(axis, &len)| qcc_ir::ops::Range { axis, start: 0, len, step: 1 });
            if n.dims(src) == dims { src } else { n.add(qcc_ir::ops::Slice { ranges: ranges.collect() }, &[src])? }
        }
        None => {
            let value = n.number("value")?.unwrap_or(Number::Int(0));
            let value = n.constant_of(value, &elem)?;
            n.expand(value, &dims)?
        }
    };
    one(scatter_elements(n, x, axis, known, updates)?)
}

/// Self with a part replaced: `slice_scatter`, `select_scatter`.
fn put(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, src) = (n.input()?, n.tensor("src")?);
    let part = *parts(n, x)?.first().ok_or_else(|| Refusal::Invalid("a part that is none".into()))?;
    let src = n.cast(src, n.ty(x).elem.clone())?;
    one(super::super::views::put_range(n, part, x, src)?)
}

/// 1 where the index along the new last axis is the given one.
fn one_hot(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = n.input()?;
    let classes = n.int("num_classes", -1)?;
    if !(0..=MOST_CLASSES).contains(&classes) {
        return Err(Refusal::Unsupported(format!("one_hot with num_classes {classes} is not supported")));
    }
    let places: Vec<i64> = (0..classes).collect();
    let places = n.add_constant(Tensor::from_vec(Shape::known(&[extent(classes)?]), places));
    let dims: Extents = n.dims(x).into_iter().chain([1]).collect();
    let x = n.reshape(x, &dims)?;
    let x = n.cast(x, Elem::I64)?;
    let hits = n.binary(BinaryFn::Equal, x, places)?;
    one(n.cast(hits, Elem::I64)?)
}

/// How many boundaries lie below (`right`: or at) each element.
fn bucketize(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let (x, boundaries) = (n.input()?, n.tensor("boundaries")?);
    let f = if n.flag("right", false)? { BinaryFn::GreaterEqual } else { BinaryFn::Greater };
    let narrow = n.flag("out_int32", false)?;
    let dims: Extents = n.dims(x).into_iter().chain([1]).collect();
    let x = n.reshape(x, &dims)?;
    let above = n.binary(f, x, boundaries)?;
    let above = n.cast(above, if narrow { Elem::I32 } else { Elem::I64 })?;
    one(n.reduce(qcc_ir::ops::ReduceFn::Sum, above, &[dims.len() - 1], false)?)
}

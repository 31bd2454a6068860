//! Logical extents.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::expr::{Expr, Symbols};
use crate::name::Name;

/// The extent of one logical axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// An extent that stays open until run time: a symbol (a batch, a length, a height), or an expression of symbols.
    Open(Arc<Expr>),
}

impl Dim {
    /// An open extent with a name.
    pub fn symbol(name: impl Into<Arc<str>>) -> Self {
        Dim::Open(Arc::new(Expr::symbol(name)))
    }

    /// An extent that a node of the graph computes.
    pub fn computed(name: impl Into<Arc<str>>) -> Self {
        Dim::Open(Arc::new(Expr::computed(name)))
    }

    /// The name of an open extent that is a symbol.
    pub fn as_symbol(&self) -> Option<&Arc<str>> {
        match self {
            Dim::Known(_) => None,
            Dim::Open(expr) => expr.as_symbol(),
        }
    }

    /// The symbol that follows from the extent, if it is an open one with a single symbol, and its value where the extent
    /// is `n`. An `n` that the extent cannot have gives the next smaller value: with it the extent is another one.
    pub fn solved(&self, n: usize) -> Option<(&Arc<str>, usize)> {
        let Dim::Open(expr) = self else { return None };
        let (symbol, by, summand) = expr.linear()?;
        let value = i64::try_from(n).ok()?.checked_sub(summand)?.div_euclid(by);
        Some((symbol, usize::try_from(value).unwrap_or(0)))
    }

    /// The number, when it is one.
    pub fn known(&self) -> Option<usize> {
        match self {
            Dim::Known(n) => Some(*n),
            Dim::Open(_) => None,
        }
    }

    /// The extent as an expression.
    pub fn expr(&self) -> Expr {
        match self {
            // Extents of tensors are far below.
            Dim::Known(n) => Expr::from(i64::try_from(*n).unwrap_or(i64::MAX)),
            Dim::Open(expr) => (**expr).clone(),
        }
    }

    /// The extent that an expression is; `None` for a negative number.
    pub fn of(expr: Expr) -> Option<Dim> {
        match expr.constant() {
            Some(n) => usize::try_from(n).ok().map(Dim::Known),
            None => Some(Dim::Open(Arc::new(expr))),
        }
    }

    /// The sum of two extents, or `None` where it is too large.
    pub fn plus(&self, other: &Dim) -> Option<Dim> {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => a.checked_add(*b).map(Dim::Known),
            _ => self.map(|e| e.plus(&other.expr())),
        }
    }

    /// The product of two extents, or `None` where it is too large.
    pub fn times(&self, other: &Dim) -> Option<Dim> {
        match (self, other) {
            (Dim::Known(a), Dim::Known(b)) => a.checked_mul(*b).map(Dim::Known),
            _ => self.map(|e| e.times(&other.expr())),
        }
    }

    /// The extent that arithmetic on this one gives; `None` where it gives none.
    pub fn map(&self, f: impl FnOnce(Expr) -> Option<Expr>) -> Option<Dim> {
        Dim::of(f(self.expr())?)
    }

    /// The number that it is for these values of symbols.
    pub fn bind(&self, symbols: &Symbols) -> Option<usize> {
        match self {
            Dim::Known(n) => Some(*n),
            Dim::Open(expr) => usize::try_from(expr.value(symbols)?).ok(),
        }
    }

    /// The extent of an axis that two operands share: of two equal ones, or of a known and an open one, which must then
    /// be equal at run time. `None` where they are known to differ.
    pub fn agreed(&self, other: &Dim) -> Option<Dim> {
        match (self, other) {
            (a, b) if a == b => Some(a.clone()),
            (Dim::Known(_), Dim::Known(_)) => None,
            (a, b) => {
                let (a, b) = (a.expr(), b.expr());
                let (low, high) = a.minus(&b).map_or((None, None), |d| d.bounds());
                let differ = low.is_some_and(|low| low > 0) || high.is_some_and(|high| high < 0);
                // A number is simpler than an expression, and one of open extents than one of integers that nodes compute.
                let rank = |e: &Expr| (e.constant().is_none(), e.is_computed(), e.size());
                if differ { None } else { Dim::of(if (rank(&b), &b) < (rank(&a), &a) { b } else { a }) }
            }
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Dim::Known(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => n.fmt(f),
            Dim::Open(expr) => match expr.as_symbol() {
                Some(name) => Name(name).fmt(f),
                None => write!(f, "({expr})"),
            },
        }
    }
}

/// Logical extents, outermost axis first (images N,C,H,W; filters O,I,H,W).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Shape(SmallVec<[Dim; 4]>);

impl Shape {
    /// The shape of a scalar.
    pub fn scalar() -> Self {
        Shape::default()
    }

    /// A shape of known extents.
    pub fn known(dims: &[usize]) -> Self {
        Shape(dims.iter().map(|&d| Dim::Known(d)).collect())
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The extents.
    pub fn dims(&self) -> &[Dim] {
        &self.0
    }

    /// All extents as numbers, or `None` where one is a symbol.
    pub fn extents(&self) -> Option<SmallVec<[usize; 6]>> {
        self.0.iter().map(Dim::known).collect()
    }

    /// Number of elements, or `None` where an extent is a symbol.
    pub fn elements(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, d| n.checked_mul(d.known()?))
    }

    /// As [`Shape::elements`], with extents of 0 counted as 1: an upper bound of the product of any subset of extents.
    pub fn span(&self) -> Option<usize> {
        self.0.iter().try_fold(1usize, |n, d| n.checked_mul(d.known()?.max(1)))
    }

    /// True if an extent is open.
    pub fn is_open(&self) -> bool {
        self.0.iter().any(|d| d.known().is_none())
    }

    /// True if an extent depends on an integer that a node of the graph computes.
    pub fn is_computed(&self) -> bool {
        self.computed_axis().is_some()
    }

    /// The first axis whose extent depends on an integer that a node of the graph computes.
    pub fn computed_axis(&self) -> Option<usize> {
        self.0.iter().position(|dim| matches!(dim, Dim::Open(expr) if expr.is_computed()))
    }

    /// The shape for these values of symbols; extents that they do not determine stay open.
    pub fn bind(&self, symbols: &Symbols) -> Shape {
        self.with_exprs(&|e| e.bind(symbols))
    }

    /// The shape with other names of integers that nodes compute.
    pub fn renamed(&self, names: &FxHashMap<Arc<str>, Arc<str>>) -> Shape {
        self.with_exprs(&|e| Some(e.renamed(names)))
    }

    /// The shape with others in place of the expressions of open extents, where they are extents.
    pub(crate) fn with_exprs(&self, other: &dyn Fn(&Expr) -> Option<Expr>) -> Shape {
        let replaced = |d: &Dim| match d {
            Dim::Known(_) => None,
            Dim::Open(expr) => other(expr).and_then(Dim::of),
        };
        self.0.iter().map(|d| replaced(d).unwrap_or_else(|| d.clone())).collect()
    }

    /// The product of extents, or `None` where it is too large.
    pub fn count(dims: &[Dim]) -> Option<Dim> {
        dims.iter().try_fold(Dim::Known(1), |n, d| n.times(d))
    }

    /// True where both shapes have the same number of elements, whatever open extents are.
    pub fn has_elements_of(&self, other: &Shape) -> bool {
        Shape::count(self.dims()) == Shape::count(other.dims())
    }

    /// The axis of open extent that a reshape to `other` removes. Its extent must be 1 at run time.
    pub fn removed_axis(&self, other: &Shape) -> Option<usize> {
        if self.has_elements_of(other) {
            return None;
        }
        let (all, rest) = (Shape::count(self.dims()), Shape::count(other.dims())?);
        self.dims().iter().position(|d| d.known().is_none() && rest.times(d) == all)
    }

    /// The shape without an axis.
    pub fn without(&self, axis: usize) -> Self {
        let others = self.dims().iter().enumerate().filter(|&(i, _)| i != axis);
        others.map(|(_, d)| d.clone()).collect()
    }

    /// The same shape with the extent of `axis` replaced.
    pub fn with(&self, axis: usize, dim: impl Into<Dim>) -> Self {
        let mut s = self.clone();
        s.0[axis] = dim.into();
        s
    }
}

impl FromIterator<Dim> for Shape {
    fn from_iter<I: IntoIterator<Item = Dim>>(dims: I) -> Self {
        Shape(dims.into_iter().collect())
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Self {
        Shape(dims.into_iter().map(Dim::Known).collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

// In the text form an extent is a number or a string, an expression is in parentheses.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Extent {
    Known(usize),
    Sym(String),
}

impl serde::Serialize for Dim {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let extent = match self {
            Dim::Known(n) => Extent::Known(*n),
            Dim::Open(expr) if expr.as_symbol().is_some() => Extent::Sym(expr.label()),
            open @ Dim::Open(_) => Extent::Sym(open.to_string()),
        };
        extent.serialize(s)
    }
}

impl<'de> serde::Deserialize<'de> for Dim {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match Extent::deserialize(d)? {
            Extent::Known(n) => Dim::Known(n),
            Extent::Sym(s) => match s.strip_prefix('(').and_then(|s| s.strip_suffix(')')?.parse().ok()) {
                Some(expr) => Dim::Open(Arc::new(expr)),
                None => Dim::symbol(s),
            },
        })
    }
}

impl serde::Serialize for Shape {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Vec::<Dim>::deserialize(d)?.into_iter().collect())
    }
}

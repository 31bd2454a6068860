//! Logical extents.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::name::Name;

/// The extent of one logical axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// A named extent that stays open until run time (a batch, usually).
    Sym(Arc<str>),
}

impl Dim {
    /// The number, when it is one.
    pub fn known(&self) -> Option<usize> {
        match self {
            Dim::Known(n) => Some(*n),
            Dim::Sym(_) => None,
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
            Dim::Sym(s) => Name(s).fmt(f),
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

// In the text form an extent is a number or a string.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
enum Extent {
    Known(usize),
    Sym(String),
}

impl serde::Serialize for Shape {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.iter().map(|d| match d {
            Dim::Known(n) => Extent::Known(*n),
            Dim::Sym(s) => Extent::Sym(s.to_string()),
        }))
    }
}

impl<'de> serde::Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let extents = Vec::<Extent>::deserialize(d)?;
        Ok(extents
            .into_iter()
            .map(|e| match e {
                Extent::Known(n) => Dim::Known(n),
                Extent::Sym(s) => Dim::Sym(s.into()),
            })
            .collect())
    }
}

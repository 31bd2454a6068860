//! Memory layout of values.

use std::fmt;

use smallvec::SmallVec;

use super::shape::{Dim, Shape};

/// The physical order of the logical axes, outermost first: `order()[i]` is the logical axis at physical position `i`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    order: SmallVec<[u8; 8]>,
}

impl Layout {
    /// The layout whose physical order is the logical order.
    pub fn row_major(rank: usize) -> Self {
        Layout { order: (0..rank).map(|a| a as u8).collect() }
    }

    /// Axis 1 (channels) is innermost: N,C,H,W is stored as N,H,W,C. Below rank 3 it is row-major.
    pub fn channels_last(rank: usize) -> Self {
        if rank < 3 {
            return Layout::row_major(rank);
        }
        Layout { order: std::iter::once(0).chain(2..rank as u8).chain([1]).collect() }
    }

    /// A layout from an explicit order, or `None` where that is not a permutation of `0..order.len()`.
    pub fn from_order(order: &[usize]) -> Option<Self> {
        let mut seen = SmallVec::<[bool; 8]>::from_elem(false, order.len());
        for &a in order {
            if std::mem::replace(seen.get_mut(a)?, true) {
                return None;
            }
        }
        Some(Layout { order: order.iter().map(|&a| a as u8).collect() })
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.order.len()
    }

    /// Logical axis at each physical position.
    pub fn order(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.order.iter().map(|&a| usize::from(a))
    }

    /// Physical position of a logical axis.
    pub fn position(&self, axis: usize) -> usize {
        self.order().position(|a| a == axis).unwrap_or(axis)
    }

    /// True where logical order and physical order agree.
    pub fn is_row_major(&self) -> bool {
        self.order().enumerate().all(|(i, a)| i == a)
    }

    /// The extents in physical order.
    pub fn physical(&self, shape: &Shape) -> Shape {
        self.order().map(|a| shape.dims()[a].clone()).collect()
    }

    /// True where both layouts store tensors of this shape in the same order: the position of axes of extent 1 does not
    /// matter.
    pub fn same_bytes(&self, other: &Layout, shape: &Shape) -> bool {
        self.wide_axes(shape) == other.wide_axes(shape)
    }

    /// The axes from the outermost to the innermost, without those of extent 1.
    pub fn wide_axes(&self, shape: &Shape) -> SmallVec<[usize; 8]> {
        self.order().filter(|&a| shape.dims()[a] != Dim::Known(1)).collect()
    }
}

/// The caller ensures that each axis occurs once; [`Layout::from_order`] checks it.
impl FromIterator<usize> for Layout {
    fn from_iter<I: IntoIterator<Item = usize>>(order: I) -> Self {
        Layout { order: order.into_iter().map(|a| a as u8).collect() }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("@")?;
        self.order.iter().try_for_each(|&a| write!(f, "{}", char::from_digit(a.into(), 36).unwrap_or('?')))
    }
}

//! Memory layout of tensors in their storages.

use std::fmt;

use bytes::Bytes;
use qcc_ir::diagnostic::list;
use qcc_ir::{Shape, Tensor, TensorType};

use super::schema::{Size, TensorMeta};
use super::symbols::Symbols;
use crate::build::{MOST_ELEMENTS, extents};
use crate::elements::Stored;
use crate::refusal::Refusal;

/// Maximum number of elements of views that repeat elements; others are bounded by their storage.
const MOST_REPEATED: usize = 1 << 24;

/// The memory layout of a tensor in its storage; strides and offset count elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) sizes: Vec<i64>,
    pub(super) strides: Vec<i64>,
    pub(super) offset: i64,
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a view of {} with strides {} from {} on", list(&self.sizes), list(&self.strides), self.offset)
    }
}

impl View {
    /// An empty view.
    pub(super) fn empty() -> Self {
        View { sizes: vec![0], strides: vec![1], offset: 0 }
    }

    /// The view that a type declares, if its extents are known with these symbols.
    pub(super) fn of(meta: &TensorMeta, symbols: &Symbols) -> Option<Self> {
        let all = |sizes: &[Size]| sizes.iter().map(|s| s.value(symbols)).collect::<Option<Vec<i64>>>();
        let offset = meta.storage_offset.as_ref().map_or(Some(0), |o| o.value(symbols))?;
        Some(View { sizes: all(&meta.sizes)?, strides: all(&meta.strides)?, offset })
    }

    /// The view of the parts of complex numbers, which are next to each other.
    pub(super) fn of_parts(mut self) -> Self {
        self.strides.iter_mut().for_each(|stride| *stride = stride.saturating_mul(2));
        self.offset = self.offset.saturating_mul(2);
        self.sizes.push(2);
        self.strides.push(1);
        self
    }

    /// The storage indices of the elements, in row-major order.
    pub(super) fn places(&self) -> Result<Vec<usize>, Refusal> {
        let dims = extents(&self.sizes)?;
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST_ELEMENTS);
        let count = count.ok_or_else(|| Refusal::Unsupported(format!("{self} is too large")))?;
        let place = |n: i64| usize::try_from(n).ok().filter(|&n| n <= MOST_ELEMENTS);
        let steps: Option<Vec<usize>> = self.strides.iter().map(|&s| place(s)).collect();
        let (Some(steps), Some(offset)) = (steps.filter(|s| s.len() == dims.len()), place(self.offset)) else {
            return Err(Refusal::Invalid(self.to_string()));
        };
        let mut at = vec![0usize; dims.len()];
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(offset + at.iter().zip(&steps).map(|(a, s)| a * s).sum::<usize>());
            for (a, d) in at.iter_mut().zip(&dims).rev() {
                *a += 1;
                if *a < *d {
                    break;
                }
                *a = 0;
            }
        }
        Ok(places)
    }

    /// The elements in row-major order; they are not copied if the view is contiguous.
    pub(super) fn of_storage(&self, stored: Stored, bytes: Bytes) -> Result<Tensor, Refusal> {
        let width = stored.bits() / 8;
        let dims = extents(&self.sizes)?;
        let ty = TensorType::new(stored.elem(), Shape::known(&dims));
        let outside = || Refusal::Invalid(format!("{self} of a storage of {} bytes", bytes.len()));
        let count = ty.shape.elements().filter(|_| ty.shape.span().is_some_and(|n| n <= MOST_ELEMENTS));
        let count = count.ok_or_else(|| Refusal::Unsupported(format!("a tensor {} is too large", ty.shape)))?;
        if self.strides.len() != dims.len() || self.strides.iter().any(|&s| s < 0) {
            return Err(outside());
        }
        if count == 0 {
            return stored.tensor(ty, Bytes::new());
        }
        let steps: Vec<usize> = self.strides.iter().map(|&s| usize::try_from(s).unwrap_or(usize::MAX)).collect();
        let offset = usize::try_from(self.offset).map_err(|_| outside())?;
        let reach = dims.iter().zip(&steps).try_fold(offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?));
        let end = reach.and_then(|r| r.checked_add(1)?.checked_mul(width)).filter(|&end| end <= bytes.len());
        let end = end.ok_or_else(outside)?;
        if row_major(&dims, &steps) {
            return stored.tensor(ty, bytes.slice(offset * width..end));
        }
        if count > MOST_REPEATED.max(bytes.len() / width) {
            return Err(Refusal::Unsupported(format!("a view {} that repeats its elements is too large", ty.shape)));
        }
        let mut gathered = Vec::with_capacity(count * width);
        for place in self.places()? {
            gathered.extend_from_slice(&bytes[place * width..(place + 1) * width]);
        }
        stored.tensor(ty, gathered.into())
    }
}

/// True if these strides are row-major; axes of extent 1 are ignored.
pub(super) fn row_major(dims: &[usize], steps: &[usize]) -> bool {
    let mut expected = 1usize;
    dims.iter().zip(steps).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected = expected.saturating_mul(d);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(sizes: &[i64], strides: &[i64], offset: i64) -> View {
        View { sizes: sizes.into(), strides: strides.into(), offset }
    }

    fn bytes() -> Bytes {
        (0..12u8).collect::<Vec<u8>>().into()
    }

    #[test]
    fn views_are_read_through_their_strides() {
        let read = |v: View| v.of_storage(Stored::U8, bytes()).map(|t| t.integers().unwrap());
        assert_eq!(read(view(&[2, 3], &[3, 1], 6)), Ok(vec![6, 7, 8, 9, 10, 11]));
        assert_eq!(read(view(&[3, 2], &[1, 3], 0)), Ok(vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(read(view(&[2, 2], &[0, 1], 4)), Ok(vec![4, 5, 4, 5]));
        assert_eq!(read(view(&[], &[], 11)), Ok(vec![11]));
        assert_eq!(read(view(&[0, 5], &[5, 1], 0)), Ok(vec![]));
    }

    #[test]
    fn views_do_not_leave_their_storage() {
        for v in [
            view(&[13], &[1], 0),
            view(&[2], &[1], 11),
            view(&[2], &[-1], 3),
            view(&[2], &[i64::MAX], 0),
            view(&[2, 2], &[1], 0),
            view(&[1], &[1], -1),
            view(&[1 << 30], &[0], 0),
        ] {
            assert!(v.of_storage(Stored::U8, bytes()).is_err(), "{v:?}");
        }
    }
}

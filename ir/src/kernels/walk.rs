//! Loops over a row-major result while operands are read (or written) with their own strides. Broadcasting,
//! transposition, slicing, repetition and reduction use them.

use smallvec::SmallVec;

use crate::types::Scalar;

/// One axis of a loop: its extent and, for each of `K` operands, the stride in elements.
type Axis<const K: usize> = (usize, [isize; K]);

/// A loop nest over `K` operands. Axes of extent 1 are removed, adjacent axes are merged where strides allow it.
#[derive(Clone, Debug)]
pub(crate) struct Walk<const K: usize> {
    axes: SmallVec<[Axis<K>; 6]>,
    start: [isize; K],
    empty: bool,
}

/// A run of the innermost axis: operand `k` is read at `start[k]`, `start[k] + step[k]`, and so on, `len` times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<const K: usize> {
    pub(crate) len: usize,
    pub(crate) start: [usize; K],
    pub(crate) step: [isize; K],
}

impl<const K: usize> Walk<K> {
    /// A loop over axes, outermost first, that starts at `start`.
    pub(crate) fn new(start: [isize; K], axes: impl IntoIterator<Item = Axis<K>>) -> Self {
        let mut walk = Walk { axes: SmallVec::new(), start, empty: false };
        for (extent, stride) in axes {
            walk.empty |= extent == 0;
            if extent == 1 {
                continue;
            }
            match walk.axes.last_mut() {
                Some((n, s)) if (0..K).all(|k| s[k] == stride[k] * extent as isize) => {
                    *n *= extent;
                    *s = stride;
                }
                _ => walk.axes.push((extent, stride)),
            }
        }
        walk
    }

    /// A loop over `dims` with operands of the given shapes, which are broadcast.
    pub(crate) fn broadcast(dims: &[usize], shapes: [&[usize]; K]) -> Self {
        let strides = shapes.map(|shape| {
            let missing = dims.len() - shape.len();
            let own = strides(shape);
            let at = |i: usize| match i.checked_sub(missing) {
                Some(j) if shape[j] != 1 => own[j],
                _ => 0,
            };
            (0..dims.len()).map(at).collect::<SmallVec<[isize; 6]>>()
        });
        Walk::new([0; K], dims.iter().enumerate().map(|(i, &n)| (n, std::array::from_fn(|k| strides[k][i]))))
    }

    /// Calls `f` with each run of the innermost axis, in row-major order.
    pub(crate) fn runs(&self, mut f: impl FnMut(Run<K>)) {
        if self.empty {
            return;
        }
        let (inner, outer) = match self.axes.split_last() {
            Some((&inner, outer)) => (inner, outer),
            None => ((1, [1; K]), &[][..]),
        };
        let mut at = self.start;
        let mut counter: SmallVec<[usize; 6]> = SmallVec::from_elem(0, outer.len());
        loop {
            f(Run { len: inner.0, start: at.map(|a| a as usize), step: inner.1 });
            let mut axis = outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else { return };
                axis = next;
                let (extent, stride) = outer[axis];
                counter[axis] += 1;
                if counter[axis] < extent {
                    (0..K).for_each(|k| at[k] += stride[k]);
                    break;
                }
                counter[axis] = 0;
                (0..K).for_each(|k| at[k] -= stride[k] * (extent as isize - 1));
            }
        }
    }
}

impl Walk<1> {
    /// The elements of `x` in the order of the loop.
    pub(crate) fn copy<T: Scalar>(&self, x: &[T]) -> Vec<T> {
        if self.empty {
            return Vec::new();
        }
        if let Some(out) = self.copy_blocked(x) {
            return out;
        }
        let mut out = Vec::with_capacity(self.axes.iter().map(|a| a.0).product());
        self.runs(|run| {
            let from = run.start[0];
            match run.step[0] {
                1 => out.extend_from_slice(&x[from..from + run.len]),
                0 => out.resize(out.len() + run.len, x[from]),
                step => out.extend((0..run.len as isize).map(|i| x[(from as isize + i * step) as usize])),
            }
        });
        out
    }

    /// As `copy`, where the contiguous axis of `x` is not the innermost axis of the loop: block by block, so that
    /// source and result stay in cache.
    fn copy_blocked<T: Scalar>(&self, x: &[T]) -> Option<Vec<T>> {
        const BLOCK: usize = 16;
        let (&(width, [column]), outer) = self.axes.split_last()?;
        let row_axis = outer.iter().position(|&(_, [s])| s == 1)?;
        if column < BLOCK as isize {
            return None;
        }
        let height = outer[row_axis].0;
        let extents: SmallVec<[usize; 6]> = self.axes.iter().map(|a| a.0).collect();
        let to = strides(&extents);
        let rest = outer.iter().enumerate().filter(|&(i, _)| i != row_axis).map(|(i, &(n, [s]))| (n, [s, to[i]]));
        let mut out = vec![T::zeroed(); extents.iter().product()];
        let (column, row) = (column as usize, to[row_axis] as usize);
        Walk::new([self.start[0], 0], rest).runs(|run| {
            for i in 0..run.len {
                let [from, into] = [0, 1].map(|k| (run.start[k] as isize + i as isize * run.step[k]) as usize);
                for r0 in (0..height).step_by(BLOCK) {
                    for c0 in (0..width).step_by(BLOCK) {
                        let columns = BLOCK.min(width - c0);
                        for r in r0..height.min(r0 + BLOCK) {
                            let out = &mut out[into + r * row + c0..][..columns];
                            for (c, out) in out.iter_mut().enumerate() {
                                *out = x[from + r + (c0 + c) * column];
                            }
                        }
                    }
                }
            }
        });
        Some(out)
    }
}

/// The strides of a row-major shape, in elements.
pub(crate) fn strides(dims: &[usize]) -> SmallVec<[isize; 6]> {
    let mut strides = SmallVec::from_elem(1, dims.len());
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i] as isize;
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_axes_are_merged() {
        let walk = Walk::broadcast(&[2, 3, 4, 5], [&[2, 3, 4, 5], &[1, 3, 1, 1]]);
        assert_eq!(walk.axes.as_slice(), &[(2, [60, 0]), (3, [20, 1]), (20, [1, 0])]);
        let walk = Walk::broadcast(&[2, 3, 4], [&[2, 3, 4], &[]]);
        assert_eq!(walk.axes.as_slice(), &[(24, [1, 0])]);
    }

    #[test]
    fn copies_follow_the_strides() {
        let x: Vec<i32> = (0..6).collect();
        assert_eq!(Walk::new([0], [(3, [1]), (2, [3])]).copy(&x), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Walk::new([5], [(6, [-1])]).copy(&x), [5, 4, 3, 2, 1, 0]);
        assert_eq!(Walk::new([1], [(2, [0]), (2, [3]), (2, [0])]).copy(&x), [1, 1, 4, 4, 1, 1, 4, 4]);
        assert_eq!(Walk::new([2], []).copy(&x), [2]);
        assert_eq!(Walk::new([0], [(2, [3]), (0, [1])]).copy(&x), [] as [i32; 0]);
    }

    #[test]
    fn blocked_copies_equal_copies_of_runs() {
        let (n, h, w) = (3, 37, 50);
        let x: Vec<i32> = (0..(n * h * w) as i32).collect();
        let walk = Walk::new([0], [(w, [1]), (n, [(h * w) as isize]), (h, [w as isize])]);
        let blocked = walk.copy_blocked(&x).unwrap();
        let expected =
            (0..w).flat_map(|c| (0..n).flat_map(move |b| (0..h).map(move |r| (b * h * w + r * w + c) as i32)));
        assert_eq!(blocked, expected.collect::<Vec<_>>());
    }
}

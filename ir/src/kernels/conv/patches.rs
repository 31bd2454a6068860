//! The images of a convolution as the right-hand side of a matrix product.

use std::ops::Range;

use rten_simd::Isa;
use rten_simd::ops::BitOps;
use smallvec::SmallVec;

use super::super::matrix::{Right, View, copy};
use super::geometry::{Geometry, Piece, Tap};

/// The patches under the window as columns: one row for each channel and tap, one column for each position.
#[derive(Clone, Copy)]
pub(crate) struct Patches<'a> {
    geometry: &'a Geometry,
    taps: &'a [Tap],
    image: &'a [f32],
    /// The first row and the number of rows, and those of the columns.
    rows: [usize; 2],
    cols: [usize; 2],
}

impl<'a> Patches<'a> {
    pub(super) fn new(geometry: &'a Geometry, taps: &'a [Tap], image: &'a [f32]) -> Self {
        let (rows, cols) = (geometry.channels * geometry.taps(), geometry.positions());
        Patches { geometry, taps, image, rows: [0, rows], cols: [0, cols] }
    }
}

impl Right for Patches<'_> {
    fn rows(&self) -> usize {
        self.rows[1]
    }

    fn cols(&self) -> usize {
        self.cols[1]
    }

    fn block(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        let [row, col] = [self.rows[0] + rows.start, self.cols[0] + cols.start];
        Patches { rows: [row, rows.len()], cols: [col, cols.len()], ..self }
    }

    #[inline(always)]
    fn view(&self) -> Option<View<'_>> {
        None
    }

    /// The pieces of a tap are the same in all channels.
    #[inline(always)]
    fn pack<I: Isa>(&self, isa: I, panel: &mut [f32], width: usize, rows: Range<usize>, cols: Range<usize>) {
        let g = self.geometry;
        let (rows, first) = (rows.start + self.rows[0]..rows.end + self.rows[0], self.cols[0]);
        let lines = g.lines(cols.start + first..cols.end + first);
        let (taps, pixels, stride) = (self.taps.len(), g.pixels(), g.stride[2]);
        let mut pieces: SmallVec<[Piece; 16]> = SmallVec::new();
        for row in rows.clone().take(taps) {
            pieces.clear();
            lines.iter().for_each(|line| g.pieces(&self.taps[row % taps], line, |piece| pieces.push(piece)));
            for row in (row..rows.end).step_by(taps) {
                let to = &mut panel[(row - rows.start) * width..][..width];
                let plane = &self.image[row / taps * pixels..][..pixels];
                for &Piece { at, len, from } in &pieces {
                    // Whole vectors, whose rest the next piece overwrites, where there is room.
                    let rounded = len.next_multiple_of(isa.f32().len());
                    match from {
                        Some(from) => {
                            let fits = at + rounded <= width && from + rounded * stride <= pixels;
                            let len = if fits { rounded } else { len };
                            gather(isa, &mut to[at..at + len], &plane[from..], stride);
                        }
                        None => to[at..at + len].fill(0.0),
                    }
                }
            }
        }
    }
}

/// `out[i] = x[i * stride]`
#[inline(always)]
pub(super) fn gather<I: Isa>(isa: I, out: &mut [f32], x: &[f32], stride: usize) {
    match stride {
        1 => copy(isa, out, &x[..out.len()]),
        2 => {
            let pairs = x.as_chunks::<2>().0;
            out.iter_mut().zip(pairs).for_each(|(o, pair)| *o = pair[0]);
            // The last may be followed by nothing.
            if let Some(last) = out.get_mut(pairs.len()) {
                *last = x[2 * pairs.len()];
            }
        }
        _ => out.iter_mut().zip(x.iter().step_by(stride)).for_each(|(o, &v)| *o = v),
    }
}

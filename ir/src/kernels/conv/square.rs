//! Convolutions of a channel with a small square window.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, Simd, SimdOp};

use super::geometry::Geometry;
use super::padded::Padded;

/// Lines of the result that are computed at once, so that lines of the image are read once for several of them.
const LINES: usize = 4;

/// The fewest columns of the result for which lines are computed one by one.
const COLUMNS: usize = 3;

/// A window of a few taps along height and width, whose strides are equal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Square {
    size: usize,
    stride: usize,
}

/// The window of a convolution, if it is one.
pub(super) fn window(g: &Geometry) -> Option<Square> {
    let ([depth, height, width], [_, stride, other]) = (g.window, g.stride);
    let equal = depth == 1 && height == width && stride == other && g.dilation[1..] == [1, 1];
    let wide = g.steps[2] >= COLUMNS;
    (equal && wide && matches!(height, 3 | 5) && matches!(stride, 1 | 2)).then_some(Square { size: height, stride })
}

impl Square {
    /// Sets `out` to `start` plus the products with the taps, in order. What `out` has behind the result may be overwritten.
    pub(super) fn sums(self, image: Padded<'_>, weights: &[f32], start: f32, out: &mut [f32]) {
        match (self.size, self.stride) {
            (3, 1) => Sums::<3, 1>::new(image, weights, start, out).dispatch(),
            (3, _) => Sums::<3, 2>::new(image, weights, start, out).dispatch(),
            (_, 1) => Sums::<5, 1>::new(image, weights, start, out).dispatch(),
            (..) => Sums::<5, 2>::new(image, weights, start, out).dispatch(),
        }
    }
}

/// The sums of a channel, for a window of `SIZE` times `SIZE` taps.
struct Sums<'a, const SIZE: usize, const STRIDE: usize> {
    image: Padded<'a>,
    /// Where the taps of each phase of the height begin in the image.
    taps: [[usize; SIZE]; STRIDE],
    weights: [[f32; SIZE]; SIZE],
    start: f32,
    out: &'a mut [f32],
}

impl<'a, const SIZE: usize, const STRIDE: usize> Sums<'a, SIZE, STRIDE> {
    fn new(image: Padded<'a>, weights: &[f32], start: f32, out: &'a mut [f32]) -> Self {
        let weights = std::array::from_fn(|y| std::array::from_fn(|x| weights[y * SIZE + x]));
        let taps = std::array::from_fn(|y| std::array::from_fn(|x| image.start(y * SIZE + x)));
        Sums { image, taps, weights, start, out }
    }
}

impl<const SIZE: usize, const STRIDE: usize> SimdOp for Sums<'_, SIZE, STRIDE> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let [lines, _] = self.image.extents();
        let mut line = 0;
        while line < lines {
            if lines < LINES {
                self.lines::<I, 1>(isa, line);
                line += 1;
            } else {
                // The last ones overlap those before.
                let first = line.min(lines - LINES);
                self.lines::<I, LINES>(isa, first);
                line = first + LINES;
            }
        }
    }
}

impl<const SIZE: usize, const STRIDE: usize> Sums<'_, SIZE, STRIDE> {
    /// Some lines. The last vectors overlap those before.
    #[inline(always)]
    fn lines<I: Isa, const ROWS: usize>(&mut self, isa: I, line: usize) {
        let ([_, width], lanes) = (self.image.extents(), isa.f32().len());
        let mut column = 0;
        while column < width {
            if width >= 2 * lanes {
                let first = column.min(width - 2 * lanes);
                self.block::<I, ROWS, 2>(isa, line, first);
                column = first + 2 * lanes;
            } else {
                let first = column.min(width.saturating_sub(lanes));
                self.block::<I, ROWS, 1>(isa, line, first);
                column = first + lanes;
            }
        }
    }

    /// Some vectors of some lines.
    #[inline(always)]
    fn block<I: Isa, const ROWS: usize, const WIDE: usize>(&mut self, isa: I, line: usize, column: usize) {
        let ops = isa.f32();
        let mut sums = [[ops.splat(self.start); WIDE]; ROWS];
        // Written out, so that everything that depends on the line is known to the compiler.
        macro_rules! add {
            ($($y:literal)*) => {$(
                if $y < SIZE + STRIDE * (ROWS - 1) {
                    self.add::<I, ROWS, WIDE, $y>(isa, &mut sums, line, column);
                }
            )*};
        }
        add!(0 1 2 3 4 5 6 7 8 9 10);
        let [_, width] = self.image.extents();
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let out = &mut self.out[(line + i) * width + column + j * ops.len()..];
                if out.len() >= ops.len() {
                    ops.store(sum, out);
                } else {
                    let lanes = sum.to_array();
                    out.copy_from_slice(&lanes.as_ref()[..out.len()]);
                }
            }
        }
    }

    /// Adds the products with what line `Y` of the image has, counted from the first one that the first line of the result
    /// needs.
    #[inline(always)]
    fn add<I: Isa, const ROWS: usize, const WIDE: usize, const Y: usize>(
        &self,
        isa: I,
        sums: &mut [[I::F32; WIDE]; ROWS],
        line: usize,
        column: usize,
    ) {
        let ops = isa.f32();
        let line = self.image.line(line + Y / STRIDE);
        for x in 0..SIZE {
            let from = &line[self.taps[Y % STRIDE][x] + column..][..WIDE * ops.len()];
            let mut pixels = [ops.zero(); WIDE];
            for j in 0..WIDE {
                pixels[j] = ops.load(&from[j * ops.len()..]);
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                if STRIDE * i <= Y && Y < STRIDE * i + SIZE {
                    let weight = ops.splat(self.weights[Y - STRIDE * i][x]);
                    for (sum, &pixel) in sums.iter_mut().zip(&pixels) {
                        *sum = ops.add(*sum, ops.mul(weight, pixel));
                    }
                }
            }
        }
    }
}

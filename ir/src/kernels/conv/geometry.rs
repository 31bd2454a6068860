//! Where the window of a convolution is. One or two spatial axes are treated as three with leading extents of 1.

use std::ops::Range;

use smallvec::SmallVec;

use crate::ops::{Conv, ConvTranspose};
use crate::types::Shape;

/// Geometry of a convolution: extents and strides over depth, height and width.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    /// Images.
    pub(crate) batch: usize,
    /// Groups of channels.
    pub(crate) groups: usize,
    /// Channels of each group of the image that the window moves over.
    pub(crate) channels: usize,
    /// Channels of each group of the other tensor.
    pub(crate) filters: usize,
    /// Spatial extents of the image that the window moves over.
    pub(crate) image: [usize; 3],
    /// Number of positions of the window.
    pub(crate) steps: [usize; 3],
    pub(super) window: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) before: [usize; 3],
    pub(super) dilation: [usize; 3],
}

/// `values`, padded in front with `fill` to three.
fn three(values: &[usize], fill: usize) -> [usize; 3] {
    let mut all = [fill; 3];
    for (a, &v) in all[3 - values.len()..].iter_mut().zip(values) {
        *a = v;
    }
    all
}

impl Geometry {
    /// The geometry of a convolution of images `x` with filters `w`.
    pub(crate) fn of_conv(op: &Conv, x: &[usize], w: &[usize]) -> Self {
        let g = Geometry::with(x, w, op.groups, [&op.stride, &op.before, &op.dilation]);
        let after = three(&op.after, 0);
        let steps = std::array::from_fn(|i| {
            (g.image[i] + g.before[i] + after[i] - g.dilation[i] * (g.window[i] - 1) - 1) / g.stride[i] + 1
        });
        Geometry { steps, ..g }
    }

    /// The geometry of a transposed convolution: the window moves over the result, with one position for each element
    /// of the operand.
    pub(crate) fn of_transpose(op: &ConvTranspose, x: &[usize], w: &[usize]) -> Self {
        let g = Geometry::with(x, w, op.groups, [&op.stride, &op.before, &op.dilation]);
        let (after, extra) = (three(&op.after, 0), three(&op.extra, 0));
        let image = std::array::from_fn(|i| {
            (g.steps[i] - 1) * g.stride[i] + g.dilation[i] * (g.window[i] - 1) + 1 + extra[i] - g.before[i] - after[i]
        });
        Geometry { image, ..g }
    }

    /// What both have in common. The extents of `x` are those of the image and the number of steps.
    fn with(x: &[usize], w: &[usize], groups: usize, [stride, before, dilation]: [&[usize]; 3]) -> Self {
        let extents = three(&x[2..], 1);
        Geometry {
            batch: x[0],
            groups,
            channels: w[1],
            filters: w[0] / groups,
            image: extents,
            steps: extents,
            window: three(&w[2..], 1),
            stride: three(stride, 1),
            before: three(before, 0),
            dilation: three(dilation, 1),
        }
    }

    /// Elements of one channel of the image that the window moves over.
    pub(crate) fn pixels(&self) -> usize {
        self.image.iter().product()
    }

    /// Number of positions of the window.
    pub(crate) fn positions(&self) -> usize {
        self.steps.iter().product()
    }

    /// Number of taps of the window.
    pub(crate) fn taps(&self) -> usize {
        self.window.iter().product()
    }

    /// True where the window has one tap and reads each pixel once: the patches are the image itself.
    pub(super) fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.image == self.steps && self.stride == [1; 3] && self.before == [0; 3]
    }

    /// The shape of a result with `channels` and the given spatial extents, of which the last `rank` count.
    pub(crate) fn shape(&self, channels: usize, extents: [usize; 3], rank: usize) -> Shape {
        [self.batch, channels].into_iter().chain(extents[5 - rank..].iter().copied()).collect()
    }

    /// Index of a tap along each axis.
    fn tap(&self, index: usize) -> [usize; 3] {
        let [_, height, width] = self.window;
        [index / (height * width), index / width % height, index % width]
    }

    /// The steps along the width at which a tap is inside the image.
    fn inside(&self, tap: usize) -> Range<usize> {
        let (offset, before, stride) = (tap * self.dilation[2], self.before[2], self.stride[2]);
        let first = before.saturating_sub(offset).div_ceil(stride);
        let end = (self.image[2] + before).saturating_sub(offset).div_ceil(stride);
        first.min(self.steps[2])..end.clamp(first.min(self.steps[2]), self.steps[2])
    }

    /// Where each tap is.
    pub(crate) fn table(&self) -> Vec<Tap> {
        let tap = |index| {
            let tap = self.tap(index);
            let offset = std::array::from_fn(|axis| tap[axis] * self.dilation[axis]);
            Tap { offset, inside: self.inside(tap[2]) }
        };
        (0..self.taps()).map(tap).collect()
    }

    /// The parts of lines that some positions are.
    #[inline(always)]
    pub(super) fn lines(&self, cols: Range<usize>) -> SmallVec<[Line; 8]> {
        let [_, height, width] = self.steps;
        let (mut lines, mut at) = (SmallVec::new(), cols.start);
        let [mut z, mut y, mut step] = [at / width / height, at / width % height, at % width];
        while at < cols.end {
            let len = (width - step).min(cols.end - at);
            lines.push(Line { at: at - cols.start, len, step, corner: [z * self.stride[0], y * self.stride[1]] });
            (at, step, y) = (at + len, 0, y + 1);
            if y == height {
                (z, y) = (z + 1, 0);
            }
        }
        lines
    }

    /// The row of the image under a tap. `corner` is the depth and the height of the first tap in the padded image.
    #[inline(always)]
    pub(super) fn row(&self, tap: &Tap, corner: [usize; 2]) -> Option<usize> {
        // Padding in front wraps around.
        let [z, y] = [0, 1].map(|axis| (corner[axis] + tap.offset[axis]).wrapping_sub(self.before[axis]));
        (z < self.image[0] && y < self.image[1]).then(|| z * self.image[1] + y)
    }

    /// The pixel under a tap at a position of the window, in the plane of a channel; `None` for padding.
    pub(super) fn pixel(&self, tap: &Tap, position: usize) -> Option<usize> {
        let [_, height, width] = self.steps;
        let (z, y, step) = (position / width / height, position / width % height, position % width);
        let row = self.row(tap, [z * self.stride[0], y * self.stride[1]]).filter(|_| tap.inside.contains(&step))?;
        Some(row * self.image[2] + step * self.stride[2] + tap.offset[2] - self.before[2])
    }

    /// The pieces of a line for one tap.
    #[inline(always)]
    pub(super) fn pieces(&self, tap: &Tap, line: &Line, mut add: impl FnMut(Piece)) {
        let &Line { at, len, step, corner } = line;
        let (from, to) = (tap.inside.start.max(step), tap.inside.end.min(step + len));
        let Some(row) = self.row(tap, corner).filter(|_| from < to) else {
            return add(Piece { at, len, from: None });
        };
        let first = row * self.image[2] + from * self.stride[2] + tap.offset[2] - self.before[2];
        if from > step {
            add(Piece { at, len: from - step, from: None });
        }
        add(Piece { at: at + from - step, len: to - from, from: Some(first) });
        if to < step + len {
            add(Piece { at: at + to - step, len: step + len - to, from: None });
        }
    }
}

/// A tap of the window.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Its distance from the first tap.
    pub(super) offset: [usize; 3],
    /// The steps along the width at which it is inside the image.
    pub(super) inside: Range<usize>,
}

/// Consecutive positions in one line.
pub(super) struct Line {
    /// The first column.
    at: usize,
    len: usize,
    /// The first step along the width.
    step: usize,
    /// Depth and height of the first tap, in the padded image.
    corner: [usize; 2],
}

/// Consecutive pixels of one tap.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// The first column.
    pub(super) at: usize,
    pub(super) len: usize,
    /// The first pixel in the plane of a channel; `None` for padding.
    pub(super) from: Option<usize>,
}

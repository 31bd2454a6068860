//! The image of a convolution as the right-hand side of matrix products, without a copy for each tap of the window.
//!
//! A part of the image is copied once, with its padding. Its lines and pixels are sorted by phase, the index modulo the
//! stride. Then what a tap reads at successive positions of the window is contiguous in memory: a row of the matrix. Lines
//! follow each other, so that a row has a few columns between lines that are not positions.

use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

use rten_simd::{Isa, SimdOp};
use smallvec::SmallVec;

use super::super::matrix::{Place, Places, Right, gather, pick};
use super::super::product::READ;
use super::geometry::Geometry;

thread_local! {
    /// Buffers for a part of an image, so that no part allocates and clears one.
    static NUMBERS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An element of images.
pub(crate) trait Pixel: Copy + Default + Send + Sync + 'static {
    /// The buffer of this thread.
    fn buffer() -> &'static LocalKey<Cell<Vec<Self>>>;

    /// `to[i] = from[i * stride]`
    fn gather<I: Isa>(isa: I, to: &mut [Self], from: &[Self], stride: usize);
}

impl Pixel for f32 {
    fn buffer() -> &'static LocalKey<Cell<Vec<Self>>> {
        &NUMBERS
    }

    #[inline(always)]
    fn gather<I: Isa>(isa: I, to: &mut [Self], from: &[Self], stride: usize) {
        gather(isa, to, from, stride);
    }
}

impl Pixel for u8 {
    fn buffer() -> &'static LocalKey<Cell<Vec<Self>>> {
        &BYTES
    }

    #[inline(always)]
    fn gather<I: Isa>(_isa: I, to: &mut [Self], from: &[Self], stride: usize) {
        pick(to, from, stride);
    }
}

/// Elements of a part of the image, so that it stays in the L2 cache.
const PART: usize = 128 * 1024;

/// The least number of positions of a part, if there are as many: with fewer, the weights would be read too often.
const COLUMNS: usize = 480;

/// Columns of a panel of the widest vectors.
const PANEL: usize = 32;

/// How the taps of a window read one axis of the image.
struct Axis {
    /// The phases that taps have.
    phases: SmallVec<[usize; 4]>,
    /// For each tap the index of its phase, and its distance from the first pixel of that phase.
    taps: SmallVec<[(usize, usize); 8]>,
    /// The largest of the distances.
    extra: usize,
}

impl Axis {
    fn new(g: &Geometry, axis: usize) -> Self {
        let (stride, mut phases) = (g.stride[axis], SmallVec::new());
        let mut tap = |tap: usize| {
            let offset = tap * g.dilation[axis];
            let phase = phases.iter().position(|&p| p == offset % stride).unwrap_or_else(|| {
                phases.push(offset % stride);
                phases.len() - 1
            });
            (phase, offset / stride)
        };
        let taps: SmallVec<[(usize, usize); 8]> = (0..g.window[axis]).map(&mut tap).collect();
        Axis { extra: taps.iter().map(|t| t.1).max().unwrap_or(0), phases, taps }
    }
}

/// How the images of a convolution are divided into parts.
pub(super) struct Plan {
    /// With extents of 1 in front, so that lines are long.
    geometry: Geometry,
    height: Axis,
    width: Axis,
    /// The most lines and columns of a part.
    size: [usize; 2],
}

/// Positions of the window: one depth, some lines, and columns of these. Of several lines it has all columns.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    depth: usize,
    lines: Range<usize>,
    columns: Range<usize>,
}

impl Plan {
    /// A plan with at least `parts` parts, if there are as many lines.
    pub(super) fn new(geometry: &Geometry, parts: usize) -> Self {
        let mut g = geometry.clone();
        for _ in 0..2 {
            if [g.image[2], g.steps[2], g.window[2]] == [1; 3] && g.before[2] == 0 {
                let axes = [&mut g.image, &mut g.steps, &mut g.window, &mut g.stride, &mut g.before, &mut g.dilation];
                axes.into_iter().for_each(|axis| axis.rotate_right(1));
            }
        }
        let (height, width) = (Axis::new(&g, 1), Axis::new(&g, 2));
        let planes = g.channels * g.window[0] * height.phases.len() * width.phases.len();
        let columns = (PART / (planes * (1 + height.extra))).saturating_sub(width.extra).max(COLUMNS).min(g.steps[2]);
        let lines = match columns < g.steps[2] {
            true => 1,
            false => (PART / (planes * (columns + width.extra))).saturating_sub(height.extra),
        };
        let most = lines.max(COLUMNS.div_ceil(columns)).min(g.steps[1]);
        // Of as many lines or a few less, those whose panels have the fewest columns that are not positions.
        let panels = |lines: usize| (lines * (columns + width.extra)).div_ceil(PANEL);
        let cost = |&lines: &usize| g.steps[1] / lines * panels(lines) + panels(g.steps[1] % lines);
        let least = if most < g.steps[1] { most - most / 4 } else { most };
        let lines = (least..=most).rev().min_by_key(cost).unwrap_or(most);
        let size = match g.steps[1] {
            1 => [1, columns.min(g.steps[2].div_ceil(parts))],
            all => [lines.min(all.div_ceil(parts)), columns],
        };
        Plan { geometry: g, height, width, size }
    }

    /// The parts, in the order of positions.
    pub(super) fn parts(&self) -> Vec<Positions> {
        let ([depths, height, width], [lines, columns]) = (self.geometry.steps, self.size);
        let ranges = |all: usize, size: usize| (0..all).step_by(size).map(move |i| i..all.min(i + size));
        let part = |depth| {
            let part = move |lines: Range<usize>| {
                ranges(width, columns).map(move |columns| Positions { depth, lines: lines.clone(), columns })
            };
            ranges(height, lines).flat_map(part)
        };
        (0..depths).flat_map(part).collect()
    }

    /// The indices of the positions of a part.
    pub(super) fn range(&self, part: &Positions) -> Range<usize> {
        let [_, height, width] = self.geometry.steps;
        let first = (part.depth * height + part.lines.start) * width + part.columns.start;
        first..first + part.lines.len() * part.columns.len()
    }

    /// A part, for any number of images.
    pub(super) fn area<'p>(&'p self, part: &'p Positions) -> Area<'p> {
        let lines = Lines::new(self, part);
        Area { plan: self, part, rows: self.rows(&lines), lines }
    }

    /// Where each row of the matrix begins.
    fn rows(&self, lines: &Lines) -> Vec<usize> {
        let mut rows = Vec::with_capacity(self.geometry.channels * self.geometry.taps());
        for plane in 0..self.geometry.channels * self.geometry.window[0] {
            for &(phase, line) in &self.height.taps {
                let plane = (plane * self.height.phases.len() + phase) * self.width.phases.len();
                let tap =
                    |&(phase, pixel): &(usize, usize)| (plane + phase) * lines.plane + line * lines.period + pixel;
                rows.extend(self.width.taps.iter().map(tap));
            }
        }
        rows
    }
}

/// A part of images.
pub(super) struct Area<'p> {
    plan: &'p Plan,
    part: &'p Positions,
    lines: Lines,
    /// Where each row of the matrix begins.
    rows: Vec<usize>,
}

impl Area<'_> {
    /// Calls `f` with the matrix of the part of an image: a row for each channel and tap. Around the image there is
    /// `padding`.
    pub(super) fn with<T: Pixel>(&self, image: &[T], padding: T, f: impl FnOnce(Padded<'_, T>)) {
        let mut buffer = self.buffer();
        self.fill(image, &mut buffer, Some(padding));
        f(self.matrix(&buffer));
        T::buffer().set(buffer);
    }

    /// As [`Area::with`], for some images in turn, with zeros around them.
    pub(super) fn each<'i>(&self, images: impl Iterator<Item = &'i [f32]>, mut f: impl FnMut(usize, Padded<'_>)) {
        let mut buffer = self.buffer();
        for (i, image) in images.enumerate() {
            self.fill(image, &mut buffer, (i == 0).then_some(0.0));
            f(i, self.matrix(&buffer));
        }
        f32::buffer().set(buffer);
    }

    /// A buffer for the part of an image. Behind it there is room for the columns that are read at once.
    fn buffer<T: Pixel>(&self) -> Vec<T> {
        let mut buffer = T::buffer().take();
        let size = self.lines.planes * self.lines.plane + self.plan.width.extra + READ;
        if buffer.len() < size {
            buffer.resize(size, T::default());
        }
        buffer
    }

    /// Copies the part of an image. Without `padding`, that of the image before is kept.
    fn fill<T: Pixel>(&self, image: &[T], to: &mut [T], padding: Option<T>) {
        let Area { plan, part, lines, .. } = self;
        Fill { plan, part, lines, image, to, padding }.dispatch();
    }

    fn matrix<'b, T>(&'b self, elements: &'b [T]) -> Padded<'b, T> {
        let (period, kept) = (self.lines.period, self.part.columns.len());
        let columns = (self.part.lines.len() - 1) * period + kept;
        Padded { elements, rows: &self.rows, columns, period, kept }
    }
}

/// The lines of a part in the buffer.
struct Lines {
    /// Planes: of each channel, depth and phase.
    planes: usize,
    /// Elements of a plane.
    plane: usize,
    /// The distance of lines.
    period: usize,
    /// The lines in the image.
    heights: Inside,
    /// The pixels of a line.
    inside: Inside,
}

/// For each phase of an axis, which of some pixels of that phase are in the image, and where the first of these is there.
type Inside = SmallVec<[(Range<usize>, usize); 4]>;

/// Which of `count` pixels of a phase, from position `start` on, are in the image, and where the first of these is there.
fn inside(g: &Geometry, axis: usize, start: usize, phase: usize, count: usize) -> (Range<usize>, usize) {
    let (stride, before) = (g.stride[axis], g.before[axis]);
    let first = start * stride + phase;
    let start = before.saturating_sub(first).div_ceil(stride).min(count);
    let end = (g.image[axis] + before).saturating_sub(first).div_ceil(stride).clamp(start, count);
    (start..end, (first + start * stride).saturating_sub(before))
}

impl Lines {
    fn new(plan: &Plan, part: &Positions) -> Self {
        let (g, width, height) = (&plan.geometry, &plan.width, &plan.height);
        let all = part.columns.len() + width.extra;
        let count = part.lines.len() + height.extra;
        let heights = height.phases.iter().map(|phase| inside(g, 1, part.lines.start, *phase, count)).collect();
        let inside: Inside = width.phases.iter().map(|phase| inside(g, 2, part.columns.start, *phase, all)).collect();
        // The padding behind a line is that in front of the next one.
        let shared = inside.iter().map(|(pixels, _)| pixels.start.min(all - pixels.end)).min().unwrap_or(0);
        let period = all - shared.min(width.extra);
        Lines {
            heights,
            planes: g.channels * g.window[0] * height.phases.len() * width.phases.len(),
            plane: count * period,
            period,
            inside,
        }
    }
}

/// Copies a part of an image.
struct Fill<'a, T> {
    plan: &'a Plan,
    part: &'a Positions,
    lines: &'a Lines,
    image: &'a [T],
    to: &'a mut [T],
    padding: Option<T>,
}

impl<T: Pixel> SimdOp for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Fill { plan, part, lines, image, to, padding } = self;
        let g = &plan.geometry;
        let (below, pixels) = (g.stride[1] * g.image[2], g.image[1] * g.image[2]);
        if let Some(padding) = padding {
            // The last line is padded behind its plane.
            to[lines.planes * lines.plane..][..plan.width.extra].fill(padding);
        }
        let mut planes = to.chunks_exact_mut(lines.plane);
        for channel in image.chunks_exact(g.pixels()).take(g.channels) {
            for tap in 0..g.window[0] {
                // Padding in front wraps around.
                let z = (part.depth * g.stride[0] + tap * g.dilation[0]).wrapping_sub(g.before[0]);
                for (height, y) in &lines.heights {
                    let height = if z < g.image[0] { height.clone() } else { 0..0 };
                    for (width, first) in &lines.inside {
                        let Some(to) = planes.next() else { return };
                        if let Some(padding) = padding {
                            pad(to, lines.period, &height, width, padding);
                        }
                        if width.is_empty() || height.is_empty() {
                            continue;
                        }
                        let mut from = z.wrapping_mul(pixels).wrapping_add(y * g.image[2] + first);
                        if g.stride[1..] == [1, 1] && [width.len(), g.image[2]] == [lines.period; 2] {
                            // Lines follow each other in the image, too.
                            let all = height.start * lines.period..height.end * lines.period;
                            T::gather(isa, &mut to[all], &channel[from..], 1);
                            continue;
                        }
                        for i in height.clone() {
                            let to = &mut to[i * lines.period + width.start..][..width.len()];
                            T::gather(isa, to, &channel[from..], g.stride[2]);
                            from += below;
                        }
                    }
                }
            }
        }
    }
}

/// Sets the padding of a plane: of each line what is outside of `width`, and the lines outside of `height`.
#[inline(always)]
fn pad<T: Copy>(plane: &mut [T], period: usize, height: &Range<usize>, width: &Range<usize>, padding: T) {
    plane[..height.start * period].fill(padding);
    plane[height.end * period..].fill(padding);
    for line in plane[height.start * period..height.end * period].chunks_exact_mut(period) {
        line[..width.start].fill(padding);
        line[width.end..].fill(padding);
    }
}

/// A part of an image as a matrix: a row for each channel and tap, a column for each position and some between lines.
#[derive(Clone, Copy)]
pub(crate) struct Padded<'a, T = f32> {
    elements: &'a [T],
    /// Where each row begins.
    rows: &'a [usize],
    columns: usize,
    /// The distance of lines, and the number of columns of a line that are positions.
    period: usize,
    kept: usize,
}

impl<T> Padded<'_, T> {
    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The number of columns. Some are between lines.
    pub(crate) fn width(&self) -> usize {
        self.columns
    }

    /// The elements of a row from a column on. Behind the last row there is room for a panel.
    #[inline(always)]
    pub(crate) fn elements(&self, row: usize, col: usize) -> &[T] {
        &self.elements[self.rows[row] + col..]
    }

    /// Where columns are among the positions.
    #[inline(always)]
    pub(crate) fn positions(&self, cols: Range<usize>) -> Places {
        let (mut places, mut at) = (Places::new(), cols.start);
        if self.period == self.kept {
            places.push(Place { from: 0, to: at, len: cols.len() });
            return places;
        }
        while at < cols.end {
            let (line, column) = (at / self.period, at % self.period);
            if column < self.kept {
                let len = (self.kept - column).min(cols.end - at);
                places.push(Place { from: at - cols.start, to: line * self.kept + column, len });
            }
            at += self.period - column;
        }
        places
    }
}

impl Padded<'_> {
    /// Some rows.
    pub(super) fn block(self, rows: Range<usize>) -> Self {
        Padded { rows: &self.rows[rows], ..self }
    }

    /// The number of lines, and the number of columns of a line that are positions.
    #[inline(always)]
    pub(super) fn extents(&self) -> [usize; 2] {
        [(self.columns - self.kept) / self.period + 1, self.kept]
    }

    /// Where a row begins.
    pub(super) fn start(&self, row: usize) -> usize {
        self.rows[row]
    }

    /// The elements from the first column of a line on, for a row that begins at 0.
    #[inline(always)]
    pub(super) fn line(&self, line: usize) -> &[f32] {
        &self.elements[line * self.period..]
    }
}

impl Right for Padded<'_> {
    fn cols(&self) -> usize {
        self.width()
    }

    #[inline(always)]
    fn is_direct(&self, _cols: usize, _width: usize) -> bool {
        true
    }

    #[inline(always)]
    fn has_gaps(&self) -> bool {
        self.period != self.kept
    }

    #[inline(always)]
    fn from(&self, row: usize, col: usize) -> &[f32] {
        self.elements(row, col)
    }

    #[inline(always)]
    fn place(&self, col: usize) -> usize {
        col / self.period * self.kept + (col % self.period).min(self.kept)
    }

    #[inline(always)]
    fn places(&self, cols: Range<usize>) -> Places {
        self.positions(cols)
    }
}

//! The images of a convolution as the left-hand side of a matrix product.

use std::borrow::Cow;

use super::geometry::{Geometry, Tap};
use crate::ops::Conv;
use crate::types::Tensor;

/// What is under the window of a convolution without groups at its positions.
#[derive(Debug)]
pub struct Windows<'a> {
    geometry: Geometry,
    taps: Vec<Tap>,
    images: Cow<'a, [f32]>,
}

impl<'a> Windows<'a> {
    /// The windows of images `x` for filters with the extents `filter`: channels, then those of the window.
    pub fn new(op: &Conv, x: &'a Tensor, filter: &[usize]) -> Self {
        let geometry = Geometry::of_conv(op, &x.dims(), &[&[1], filter].concat());
        Windows { taps: geometry.table(), geometry, images: x.view::<f32>() }
    }

    /// The number of positions of the window in all images.
    pub fn positions(&self) -> usize {
        self.geometry.batch * self.geometry.positions()
    }

    /// A row-major matrix with a row for each of some positions, and a column for each element of a filter, in the order of
    /// the weight. Padding is 0.
    pub fn rows(&self, positions: impl Iterator<Item = usize>) -> Vec<f32> {
        let g = &self.geometry;
        let (size, each) = (g.channels * g.pixels(), g.positions());
        let mut rows = Vec::new();
        for position in positions {
            let pixels: Vec<Option<usize>> = self.taps.iter().map(|tap| g.pixel(tap, position % each)).collect();
            let planes = self.images[position / each * size..][..size].chunks_exact(g.pixels());
            rows.extend(planes.flat_map(|plane| pixels.iter().map(|pixel| pixel.map_or(0.0, |at| plane[at]))));
        }
        rows
    }
}

//! From ranges to grids.

use qcc_ir::{Grid, Store};

use crate::calibrate::Range;

/// The smallest scale a grid gets: far below any useful step, far above the numbers that kernels flush to zero.
const FINEST: f32 = 1e-20;

/// The grid that spans a range: 0 lies on it, both ends at most half a step outside it. `symmetric` puts 0 in the
/// middle (zero point 0), as does 16-bit storage.
pub fn grid_of(range: Range, store: Store, symmetric: bool) -> Grid {
    let r = range.with_zero();
    let (qmin, qmax) = store.range();
    if symmetric || matches!(store, Store::I16 | Store::I32) {
        let scale = (r.hi.max(-r.lo) / qmax as f32).max(FINEST);
        return Grid::per_tensor(store, scale, 0);
    }
    if r.span() <= 0.0 {
        return Grid::per_tensor(store, 1.0, qmin);
    }
    let scale = (r.span() / (qmax - qmin) as f32).max(FINEST);
    let zero_point = (qmin as f32 - r.lo / scale).round().clamp(qmin as f32, qmax as f32) as i32;
    Grid::per_tensor(store, scale, zero_point)
}

/// The grid of values known to lie in `[lo, hi)`, spread over the whole store.
pub(super) fn fixed_grid(lo: f32, hi: f32, store: Store) -> Grid {
    let (qmin, qmax) = store.range();
    if store == Store::I16 {
        return Grid::per_tensor(store, hi.max(-lo) / 32768.0, 0);
    }
    let scale = (hi - lo) / (qmax - qmin + 1) as f32;
    Grid::per_tensor(store, scale, qmin - (lo / scale) as i32)
}

/// Symmetric scales of a weight, one for each channel: the largest magnitude lies on the last integer.
pub fn per_channel(magnitudes: impl IntoIterator<Item = f32>) -> Vec<f32> {
    magnitudes
        .into_iter()
        // A channel of zeros has any scale; kernels refuse 0.
        .map(|m| if m > 0.0 { (m / 127.0).max(FINEST) } else { 1.0 / 127.0 })
        .collect()
}

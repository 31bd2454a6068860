//! Integers of blockwise quantized constants.

use qcc_ir::StorageType;

/// Integers and zero points as signed ones.
pub(crate) struct Signed {
    pub(crate) storage: StorageType,
    pub(crate) integers: Vec<i8>,
    /// The zero points of blocks, if they are not all 0.
    pub(crate) zero_points: Option<Vec<i8>>,
}

impl Signed {
    /// `count` integers, with the zero point `zero(block(i))` for integer `i`, of `blocks` blocks. Four bits are preferred
    /// to eight, and differences to zero points to both. `None` if neither fits into 8 bits.
    pub(crate) fn new(
        count: usize,
        blocks: usize,
        integer: &dyn Fn(usize) -> f32,
        block: &dyn Fn(usize) -> usize,
        zero: &dyn Fn(usize) -> f32,
    ) -> Option<Signed> {
        let all = |storage: StorageType, count: usize, of: &dyn Fn(usize) -> f32| -> Option<Vec<i8>> {
            let (lo, hi) = storage.range();
            let fits = |q: f32| (q.fract() == 0.0 && q >= lo as f32 && q <= hi as f32).then_some(q as i8);
            (0..count).map(|i| fits(of(i))).collect()
        };
        // What the unsigned integer 0 is as a signed one.
        [(StorageType::I4, 8.0), (StorageType::I8, 128.0)].into_iter().find_map(|(storage, middle)| {
            if let Some(integers) = all(storage, count, &|i| integer(i) - zero(block(i))) {
                return Some(Signed { storage, integers, zero_points: None });
            }
            [0.0, middle].into_iter().find_map(|shift| {
                let zero_points = Some(all(storage, blocks, &|place| zero(place) - shift)?);
                Some(Signed { storage, integers: all(storage, count, &|i| integer(i) - shift)?, zero_points })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four integers in two blocks, as signed ones.
    fn signed(integers: [i32; 4], zeros: [f32; 2]) -> Option<(StorageType, Vec<i8>, Option<Vec<i8>>)> {
        let found = Signed::new(4, 2, &|i| integers[i] as f32, &|i| i / 2, &|block| zeros[block])?;
        Some((found.storage, found.integers, found.zero_points))
    }

    #[test]
    fn the_fewest_bits_are_found() {
        use StorageType::{I4, I8};
        assert_eq!(signed([0, 15, 3, 8], [8.0; 2]), Some((I4, vec![-8, 7, -5, 0], None)));
        assert_eq!(signed([0, 15, 3, 8], [8.0, 3.0]), Some((I4, vec![-8, 7, 0, 5], None)));
        assert_eq!(signed([0, 15, 3, 8], [8.0, 15.0]), Some((I4, vec![-8, 7, -5, 0], Some(vec![0, 7]))));
        assert_eq!(signed([-8, 7, 3, 0], [1.0, 0.0]), Some((I4, vec![-8, 7, 3, 0], Some(vec![1, 0]))));
        assert_eq!(signed([0, 100, 200, 255], [128.0; 2]), Some((I8, vec![-128, -28, 72, 127], None)));
        assert_eq!(signed([0, 255, 0, 1], [3.0, 0.0]), Some((I8, vec![-128, 127, -128, -127], Some(vec![-125, -128]))));
        assert_eq!(signed([0, 255, 0, 1], [3.5, 0.0]), None);
    }
}

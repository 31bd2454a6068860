//! Error-compensated rounding of numbers that are summed.

use std::collections::BinaryHeap;

/// Chooses which numbers of a sum to round to the second nearest value, so that the rounding errors cancel. The numbers
/// for which this adds the least error come first. `errors` are those of rounding to nearest, as rounded minus exact.
/// `others` are those of rounding to the neighbour on the other side.
pub(crate) fn against_each_other(errors: &[f32], others: &[f32]) -> Vec<usize> {
    let mut sum: f64 = errors.iter().map(|&e| f64::from(e)).sum();
    let alike = |e: f32| f64::from(e) * sum > 0.0;
    // Positive floats have the order of their bits, and `other` has the larger magnitude.
    let gain = |(k, (e, other)): (usize, (&f32, &f32))| {
        let loss = (other.abs() - e.abs()).max(0.0);
        (!loss.to_bits(), std::cmp::Reverse(k))
    };
    let pairs = errors.iter().zip(others).enumerate();
    let mut queue: BinaryHeap<_> = pairs.filter(|(_, (e, _))| alike(**e)).map(gain).collect();
    let mut flipped = Vec::new();
    while let Some((_, std::cmp::Reverse(k))) = queue.pop() {
        let after = sum - f64::from(errors[k]) + f64::from(others[k]);
        if after.abs() < sum.abs() {
            sum = after;
            flipped.push(k);
        }
        if sum.abs() * 2.0 <= f64::from((errors[k] - others[k]).abs()) {
            break;
        }
    }
    flipped
}

/// The indices of one of `outputs` channels among `len` elements: runs of `run` elements, `outputs` runs apart.
pub(crate) fn places(output: usize, outputs: usize, run: usize, len: usize) -> Vec<usize> {
    let firsts = (output * run..len).step_by((outputs * run).max(1));
    firsts.flat_map(|first| first..first + run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// With a scale of 1, the remaining error is at most half a step, and no number moves by more than one step.
        #[test]
        fn errors_cancel_out(errors in prop::collection::vec(-0.5f32..0.5, 1..40)) {
            let others: Vec<f32> = errors.iter().map(|e| e - e.signum()).collect();
            let mut sum: f32 = errors.iter().sum();
            let mut flipped = against_each_other(&errors, &others);
            flipped.iter().for_each(|&k| sum += others[k] - errors[k]);
            prop_assert!(sum.abs() <= 0.5001, "{sum}");
            let count = flipped.len();
            flipped.sort_unstable();
            flipped.dedup();
            prop_assert_eq!(flipped.len(), count);
        }
    }

    #[test]
    fn numbers_near_a_half_come_first() {
        assert_eq!(against_each_other(&[0.1, 0.45, 0.3], &[-0.9, -0.55, -0.7]), [1]);
        assert!(against_each_other(&[0.2, -0.1, 0.0], &[-0.8, 0.9, 1.0]).is_empty());
    }
}

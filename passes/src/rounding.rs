//! Rounding numbers of a sum against each other.

use std::collections::BinaryHeap;

/// Which of the numbers that are summed up are to be rounded the other way, so that their errors cancel out: those whose
/// other error is hardly larger come first. `errors` are those of the nearest numbers, rounded less exact, and `others`
/// those of the nearest numbers on the other side.
pub(crate) fn against_each_other(errors: &[f32], others: &[f32]) -> Vec<usize> {
    let mut sum: f64 = errors.iter().map(|&e| f64::from(e)).sum();
    let alike = |e: f32| f64::from(e) * sum > 0.0;
    // Positive floats are ordered as their bits are, and `other` is the larger one.
    let gain = |(k, (e, other)): (usize, (&f32, &f32))| {
        let loss = (other.abs() - e.abs()).max(0.0);
        (!loss.to_bits(), std::cmp::Reverse(k))
    };
    let pairs = errors.iter().zip(others).enumerate();
    let mut queue: BinaryHeap<_> = pairs.filter(|(_, (e, _))| alike(**e)).map(gain).collect();
    let mut turned = Vec::new();
    while let Some((_, std::cmp::Reverse(k))) = queue.pop() {
        let after = sum - f64::from(errors[k]) + f64::from(others[k]);
        if after.abs() < sum.abs() {
            sum = after;
            turned.push(k);
        }
        if sum.abs() * 2.0 <= f64::from((errors[k] - others[k]).abs()) {
            break;
        }
    }
    turned
}

/// Where the numbers of one of `outputs` lie among `len`: in runs of `run`, `outputs` runs apart.
pub(crate) fn places(output: usize, outputs: usize, run: usize, len: usize) -> Vec<usize> {
    let firsts = (output * run..len).step_by((outputs * run).max(1));
    firsts.flat_map(|first| first..first + run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// On a grid of whole numbers, half a step is left at most, and no number moves by more than one.
        #[test]
        fn errors_cancel_out(errors in prop::collection::vec(-0.5f32..0.5, 1..40)) {
            let others: Vec<f32> = errors.iter().map(|e| e - e.signum()).collect();
            let mut sum: f32 = errors.iter().sum();
            let mut turned = against_each_other(&errors, &others);
            turned.iter().for_each(|&k| sum += others[k] - errors[k]);
            prop_assert!(sum.abs() <= 0.5001, "{sum}");
            let count = turned.len();
            turned.sort_unstable();
            turned.dedup();
            prop_assert_eq!(turned.len(), count);
        }
    }

    #[test]
    fn those_in_the_middle_are_turned_first() {
        assert_eq!(against_each_other(&[0.1, 0.45, 0.3], &[-0.9, -0.55, -0.7]), [1]);
        assert!(against_each_other(&[0.2, -0.1, 0.0], &[-0.8, 0.9, 1.0]).is_empty());
    }
}

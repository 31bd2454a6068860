//! The memory plan of the greedy planner of TensorFlow Lite for Microcontrollers
//! (`tensorflow/lite/micro/memory_planner/greedy_memory_planner.cc`).

use std::cmp::Reverse;

/// Alignment of buffers, in bytes.
pub const ALIGNMENT: u64 = 16;

/// The maximum number of buffers that are planned, since the time grows with its square.
pub const MOST_PLANNED: usize = 4096;

/// The bytes of a value that is live from step `first` to step `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Length.
    pub bytes: u64,
    /// The first step.
    pub first: usize,
    /// The last step.
    pub last: usize,
}

/// The length of the arena: buffers are placed by descending size, each at the first gap between the buffers that are
/// live at the same time. The time grows with the square of their number.
pub fn planned(mut buffers: Vec<Buffer>) -> u64 {
    // Of buffers of equal size the last comes first, as in that planner.
    buffers.reverse();
    buffers.sort_by_key(|b| Reverse(b.bytes));
    // Sorted by offset.
    let mut placed: Vec<(u64, Buffer)> = Vec::with_capacity(buffers.len());
    let mut length = 0;
    for b in buffers {
        let bytes = b.bytes.next_multiple_of(ALIGNMENT);
        let mut begin = 0;
        for (at, other) in &placed {
            if other.first > b.last || other.last < b.first {
                continue;
            }
            if *at >= begin + bytes {
                break;
            }
            begin = begin.max(at + other.bytes.next_multiple_of(ALIGNMENT));
        }
        let place = placed.partition_point(|(at, _)| *at <= begin);
        placed.insert(place, (begin, b));
        length = length.max(begin + bytes);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: u64, first: usize, last: usize) -> Buffer {
        Buffer { bytes, first, last }
    }

    #[test]
    fn buffers_take_the_first_gap() {
        // The example of the header of TFLM's planner: the third buffer takes the place of the first.
        assert_eq!(planned(vec![buffer(64, 0, 1), buffer(32, 1, 2), buffer(64, 2, 3)]), 96);
        // A small buffer overlaps a large one that is not live at the same time.
        assert_eq!(planned(vec![buffer(160, 0, 1), buffer(16, 1, 3), buffer(96, 3, 4)]), 176);
        assert_eq!(planned(vec![buffer(1, 0, 0), buffer(1, 0, 0)]), 17 + 15);
        assert_eq!(planned(Vec::new()), 0);
    }
}

//! A pseudorandom number generator that gives the same numbers on every platform.

/// SplitMix64 (Steele, Lea, Flood 2014), not cryptographically secure.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A generator with the given seed. Consecutive seeds give independent streams.
    pub(super) fn new(seed: u64) -> Self {
        // Seeds that differ by the increment of the state would give the same stream, shifted: the seed is hashed.
        Random(Random(seed).next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// 0 or 1.
    pub(super) fn bit(&mut self) -> f32 {
        (self.next() >> 63) as f32
    }

    /// A number in `[lo, hi)`.
    pub(super) fn between(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.unit()
    }
}

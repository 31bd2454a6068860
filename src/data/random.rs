//! Numbers that look random and are the same everywhere.

/// SplitMix64 (Steele, Lea, Flood 2014): enough for noise, the same everywhere.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Numbers that follow from `seed`. The streams of neighbouring seeds have nothing to do with each other.
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring states give the same numbers, shifted.
        Random(Random(seed).next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(super) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// 0 or 1.
    pub(super) fn bit(&mut self) -> f32 {
        (self.next() >> 63) as f32
    }

    /// From `lo` to below `hi`.
    pub(super) fn between(&mut self, lo: f32, hi: f32) -> f32 {
        lo + (hi - lo) * self.unit()
    }
}

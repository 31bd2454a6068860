//! The energy proxy, and the sources of the proxies.

use qcc_passes::quality::Work;

use super::Cost;

/// Source of the energies.
pub const ENERGY_SOURCE: &str =
    "proxy: M. Horowitz, ISSCC 2014 (45 nm); values in a 1 MB cache, weights once from DRAM";

/// Source of the latencies, which are in the tables of the targets.
pub const LATENCY_SOURCE: &str = "proxy: fitted to one core of an x86 processor with VNNI, benches/cost.py";

/// Energies of operations and of bytes, in picojoules.
pub(super) struct Energies {
    integer_product: f64,
    float_product: f64,
    cache_byte: f64,
    dram_byte: f64,
}

impl Energies {
    /// M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, at 45 nm: a multiplication
    /// takes 0.2 pJ for 8-bit integers and 3.7 pJ for 32-bit floats, an addition 0.1 pJ for 32-bit integers and 0.9 pJ
    /// for floats; reading 64 bits takes 100 pJ from a cache of 1 MB, and at least 1300 pJ from DRAM.
    pub(super) const HOROWITZ: Energies =
        Energies { integer_product: 0.3, float_product: 4.6, cache_byte: 100.0 / 8.0, dram_byte: 1300.0 / 8.0 };

    /// The energy in microjoules.
    pub(super) fn energy(&self, cost: &Cost) -> f64 {
        let Work { integer, run_time, weights, float } = cost.products;
        let products =
            (integer + run_time) as f64 * self.integer_product + (weights + float) as f64 * self.float_product;
        let values = cost.moved_bytes.saturating_sub(cost.weight_bytes);
        let bytes = values as f64 * self.cache_byte + cost.weight_bytes as f64 * self.dram_byte;
        (products + bytes) * 1e-6
    }
}

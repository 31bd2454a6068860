//! The constants of the proxies, and their sources.

use qcc_passes::quality::Work;

use super::Cost;

/// Source of the energies.
pub const ENERGY_SOURCE: &str =
    "proxy: M. Horowitz, ISSCC 2014 (45 nm); values in a 1 MB cache, weights once from DRAM";

/// Source of the latencies.
pub const LATENCY_SOURCE: &str = "proxy: fitted to one core of an x86 processor with VNNI, benches/cost.py";

/// Energies of operations and of bytes, in picojoules.
pub(super) struct Energies {
    integer_product: f64,
    real_product: f64,
    cache_byte: f64,
    dram_byte: f64,
}

impl Energies {
    /// M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, at 45 nm: a multiplication
    /// takes 0.2 pJ for 8-bit integers and 3.7 pJ for 32-bit floats, an addition 0.1 pJ for 32-bit integers and 0.9 pJ
    /// for floats; reading 64 bits takes 100 pJ from a cache of 1 MB, and at least 1300 pJ from DRAM.
    pub(super) const HOROWITZ: Energies =
        Energies { integer_product: 0.3, real_product: 4.6, cache_byte: 100.0 / 8.0, dram_byte: 1300.0 / 8.0 };

    /// The energy in microjoules.
    pub(super) fn energy(&self, cost: &Cost) -> f64 {
        let Work { integer, run_time, weights, real } = cost.products;
        let products = (integer + run_time) as f64 * self.integer_product + (weights + real) as f64 * self.real_product;
        let values = cost.moved_bytes.saturating_sub(cost.weight_bytes);
        let bytes = values as f64 * self.cache_byte + cost.weight_bytes as f64 * self.dram_byte;
        (products + bytes) * 1e-6
    }
}

/// Times of a target's kernels in nanoseconds: for each product, each byte and each operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernels {
    target: &'static str,
    integer: f64,
    real: f64,
    channelwise_integer: f64,
    channelwise_real: f64,
    byte: f64,
    operator: f64,
}

impl Kernels {
    /// Fitted by `benches/cost.py --fit` to the times of 23 models (classifiers, detectors, text, sound; 0.01 to 100
    /// ms) as float32 and int8, on one thread of an x86 processor with AVX-512 VNNI and AMX: LiteRT 2.3, ONNX Runtime
    /// 1.32, OpenVINO 2026.4. Where the fit gives depthwise products no cost, they have the cost of other products.
    const ALL: &[Kernels] = &[
        Kernels {
            target: "tflite",
            integer: 0.0031,
            real: 0.010,
            channelwise_integer: 0.072,
            channelwise_real: 0.012,
            byte: 0.0059,
            operator: 66.0,
        },
        Kernels {
            target: "onnx",
            integer: 0.0047,
            real: 0.011,
            channelwise_integer: 0.051,
            channelwise_real: 0.011,
            byte: 0.0092,
            operator: 620.0,
        },
        Kernels {
            target: "openvino",
            integer: 0.0043,
            real: 0.0076,
            channelwise_integer: 0.0043,
            channelwise_real: 0.0076,
            byte: 0.0001,
            operator: 2350.0,
        },
    ];

    pub(super) fn of(target: &str) -> Option<&'static Kernels> {
        Kernels::ALL.iter().find(|k| k.target == target)
    }

    /// As [`Kernels::of`], with another target's table where there is none.
    pub(super) fn like(target: &str) -> &'static Kernels {
        Kernels::of(target).unwrap_or(&Kernels::ALL[0])
    }

    /// What it costs in milliseconds to compute a node in floating point instead of integers: `products`, more bytes of
    /// values, and a conversion of the operand and of the result. With `dynamic`, the products stay integer.
    pub(super) fn raised(&self, products: u64, depthwise: bool, dynamic: bool, elements: [u64; 2]) -> f64 {
        let product = match (dynamic, depthwise) {
            (true, _) => 0.0,
            (false, true) => (self.channelwise_real - self.channelwise_integer).max(0.0),
            (false, false) => self.real - self.integer,
        };
        let [operands, results] = elements;
        // Each value is read and written with 4 bytes instead of 1, and converted: 5 bytes for each element.
        let bytes = (operands + results) * (3 + 5);
        (products as f64 * product + bytes as f64 * self.byte + 2.0 * self.operator) * 1e-6
    }

    /// The latency in milliseconds.
    pub(super) fn latency(&self, cost: &Cost) -> f64 {
        let on_integers = |p: &Work| (p.integer + p.run_time) as f64;
        let on_reals = |p: &Work| (p.weights + p.real) as f64;
        let dense = (on_integers(&cost.products) - on_integers(&cost.channelwise)) * self.integer
            + (on_reals(&cost.products) - on_reals(&cost.channelwise)) * self.real;
        let channelwise = on_integers(&cost.channelwise) * self.channelwise_integer
            + on_reals(&cost.channelwise) * self.channelwise_real;
        let rest = cost.moved_bytes as f64 * self.byte + cost.operators as f64 * self.operator;
        (dense + channelwise + rest) * 1e-6
    }
}

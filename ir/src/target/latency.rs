//! Times of a target's kernels: a proxy that orders graphs of one target.

/// Times of kernels on the processor that they were fitted to, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The time of a product, if the row of the kernel gives none.
    pub product: ProductTime,
    /// The time for each byte that an operator reads or writes.
    pub byte: f64,
    /// The time for each operator.
    pub operator: f64,
}

/// The time of a multiply-accumulate operation in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProductTime {
    /// Of 8-bit integers.
    pub integer: f64,
    /// Of single precision.
    pub float: f64,
}

impl Latency {
    /// Relative times that hold roughly for kernels of any processor, for targets without times of their own.
    pub const ROUGH: Latency =
        Latency { product: ProductTime { integer: 0.003, float: 0.01 }, byte: 0.006, operator: 100.0 };
}

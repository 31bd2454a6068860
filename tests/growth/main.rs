//! The work of the compiler grows with the model, not with its square.
//!
//! Work is counted as bytes of memory that were asked for: what is done for each pair of nodes asks for memory, and the
//! count is nearly the same on every machine and in every run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod families;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use families::FAMILIES;
use prost::Message;
use qcc::backends::Format;
use qcc::passes::calibrate::Method;
use qcc::{Calibration, Compiler, Data, NoObserver, Options, Output, Precision};

static ASKED: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[expect(unsafe_code, reason = "an allocator that counts")]
// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes asked for while a model is compiled for all targets.
fn asked(folder: &Path, model: &[u8], precision: Precision) -> u64 {
    std::fs::write(folder.join("m.onnx"), model).unwrap();
    let mut options = Options::new(Format::ALL.iter().copied(), precision);
    if precision == Precision::Int8 {
        let mut calibration = Calibration::new(Data::Random);
        calibration.samples = Some(1);
        (options.calibration, options.method) = (Some(calibration), Some(Method::MinMax));
    }
    let before = ASKED.load(Ordering::Relaxed);
    let output = Output::Folder(folder.join("out"));
    Compiler::new(options).compile(&folder.join("m.onnx"), &output, &mut NoObserver).unwrap();
    ASKED.load(Ordering::Relaxed) - before
}

/// Sizes whose work is compared.
const SIZES: [usize; 2] = [500, 2000];

/// Four times the size may ask for so many times the memory: sorting and growing lists ask for more than in proportion,
/// and what is done for each pair asks for sixteen times as much.
const MOST: f64 = 5.0;

/// A size at which a step that does something for each pair of nodes does not end in this test.
const LARGE: usize = 20_000;

// One test, so that nothing else asks for memory meanwhile.
#[test]
fn work_grows_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let mut grown = Vec::new();
    for (name, family) in FAMILIES {
        for precision in [Precision::Float32, Precision::Int8] {
            let [small, large] = SIZES.map(|n| asked(dir.path(), &family(n).encode_to_vec(), precision));
            let growth = large as f64 / small as f64;
            if growth > MOST {
                grown.push(format!("{name}, {precision}: {growth:.2} ({small} and {large} bytes)"));
            }
        }
        asked(dir.path(), &family(LARGE).encode_to_vec(), Precision::Float32);
    }
    assert!(grown.is_empty(), "{grown:#?}");
}

//! Data that the Python oracles write before the tests run.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use qcc_ir::{Elem, Shape, Tensor, TensorType};

/// A file of oracle data. A test without its oracle does not pass.
pub(crate) fn read(name: &str) -> Bytes {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/oracle").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => bytes.into(),
        Err(e) => panic!("{} is missing ({e}): run the tests with tests/run, which writes it", path.display()),
    }
}

/// Offset and length of bytes in a file.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub(crate) struct Span(usize, usize);

impl Span {
    pub(crate) fn of(self, file: &Bytes) -> Bytes {
        file.slice(self.0..self.0 + self.1)
    }
}

/// A tensor in a file.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Stored {
    elem: String,
    dims: Vec<usize>,
    at: Span,
}

impl Stored {
    pub(crate) fn tensor(&self, file: &Bytes) -> Tensor {
        let elem = Elem::plain(&self.elem).expect("oracles write plain elements");
        Tensor::new(TensorType::new(elem, Shape::known(&self.dims)), self.at.of(file)).expect("the bytes of a tensor")
    }
}

/// Where two tensors differ by more than `atol + rtol * |expected|`; NaN equals NaN.
pub(crate) fn difference(found: &Tensor, expected: &Tensor, rtol: f32, atol: f32) -> Option<String> {
    if found.dims() != expected.dims() {
        return Some(format!("shape {}, expected {}", found.ty(), expected.ty()));
    }
    let close = |f: f32, e: f32| f == e || (f - e).abs() <= atol + rtol * e.abs() || (f.is_nan() && e.is_nan());
    let (found_reals, expected_reals) = (found.reals(), expected.reals());
    let exact = (found.integers(), expected.integers());
    let wrong = match &exact {
        (Some(f), Some(e)) => f.iter().zip(e).position(|(f, e)| f != e),
        _ => found_reals.iter().zip(expected_reals.iter()).position(|(&f, &e)| !close(f, e)),
    };
    wrong.map(|i| format!("[{i}] is {}, expected {}", found_reals[i], expected_reals[i]))
}

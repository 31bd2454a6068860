//! Parameters, buffers and constants: where they lie in the archive.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use bytes::Bytes;
use qcc_ir::diagnostic::list;
use qcc_ir::{Shape, Tensor, TensorType};
use serde::Deserialize;

use super::archive::Archive;
use super::pickle;
use super::schema::{Size, TensorMeta};
use super::symbols::Symbols;
use crate::build::{MOST_ELEMENTS, extents};
use crate::elements::{Stored, without_nan};
use crate::refusal::Refusal;

/// Views that repeat elements may have this many; others as many as their storage.
const MOST_REPEATED: usize = 1 << 24;

/// PyTorch's strided layout.
const STRIDED: i64 = 7;

/// Tensors by name. Their bytes are read, and checked, when a tensor is asked for.
#[derive(Debug, Default)]
pub(super) struct Weights {
    tensors: BTreeMap<String, Entry>,
}

/// A tensor as a view of a storage.
#[derive(Debug)]
struct Entry {
    storage: Storage,
    stored: Result<Stored, Refusal>,
    view: View,
}

#[derive(Debug)]
enum Storage {
    /// An entry of the archive, read once.
    Entry(Archive, String, OnceLock<Bytes>),
    /// Bytes that a pickle refers to.
    Bytes(Bytes),
    /// A Python object, which nothing here rebuilds.
    Object,
}

/// How a tensor lies in its storage; strides and offset count elements.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) sizes: Vec<i64>,
    pub(super) strides: Vec<i64>,
    pub(super) offset: i64,
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a view of {} with strides {} from {} on", list(&self.sizes), list(&self.strides), self.offset)
    }
}

/// `weights/<model>_weights_config.json`
#[derive(Deserialize)]
struct Config {
    config: BTreeMap<String, ConfigEntry>,
}

#[derive(Deserialize)]
struct ConfigEntry {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Option<TensorMeta>,
}

impl Weights {
    /// Reads a configuration whose tensors are entries of `folder`.
    pub(super) fn read_config(&mut self, archive: &Archive, folder: &str, config: &str) -> Result<(), Refusal> {
        let json = archive.read(config)?;
        let Config { config } =
            serde_json::from_slice(&json).map_err(|e| Refusal::Invalid(format!("{config}: {e}")))?;
        for (name, entry) in config {
            let meta = entry.tensor_meta.filter(|_| !entry.use_pickle);
            let path = format!("{folder}/{}", entry.path_name);
            let entry = match meta {
                None => Entry { storage: Storage::Object, stored: Ok(Stored::U8), view: View::empty() },
                Some(meta) => Entry {
                    storage: Storage::Entry(archive.clone(), path, OnceLock::new()),
                    stored: stored(meta.dtype).and_then(|s| strided(&meta).map(|()| s)),
                    view: View::of(&meta).ok_or_else(|| Refusal::Invalid(format!("{name} has no known shape")))?,
                },
            };
            self.tensors.insert(name, entry);
        }
        Ok(())
    }

    /// Reads a pickled dictionary of tensors.
    pub(super) fn read_pickle(&mut self, archive: &Archive, name: &str) -> Result<(), Refusal> {
        let inner = Archive::open(archive.read(name)?)?;
        for (name, tensor) in pickle::tensors(&inner)? {
            let pickle::Pickled { storage, stored, view } = tensor;
            self.tensors.insert(name, Entry { storage: Storage::Bytes(storage), stored: Ok(stored), view });
        }
        Ok(())
    }

    /// The tensor of that name, row-major.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, Refusal> {
        let missing = || Refusal::Invalid(format!("the archive does not hold {name}"));
        let Entry { storage, stored, view } = self.tensors.get(name).ok_or_else(missing)?;
        let stored = stored.clone()?;
        let bytes = match storage {
            Storage::Bytes(bytes) => bytes.clone(),
            Storage::Entry(_, _, known) if known.get().is_some() => known.get().cloned().unwrap_or_default(),
            Storage::Entry(archive, path, known) => {
                let bytes = archive.read(path)?;
                known.get_or_init(|| bytes).clone()
            }
            Storage::Object => {
                return Err(Refusal::Unsupported("a tensor subclass or another Python object is not supported".into()));
            }
        };
        without_nan(view.of_storage(stored, bytes)?)
    }

    /// True where the file holds the tensor in double precision.
    pub(super) fn is_double(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|t| t.stored == Ok(Stored::F64))
    }
}

impl View {
    fn empty() -> Self {
        View { sizes: vec![0], strides: vec![1], offset: 0 }
    }

    /// The view that a type declares, where its extents are known.
    pub(super) fn of(meta: &TensorMeta) -> Option<Self> {
        let known = Symbols::new();
        let all = |sizes: &[Size]| sizes.iter().map(|s| s.value(&known)).collect::<Option<Vec<i64>>>();
        let offset = meta.storage_offset.as_ref().map_or(Some(0), |o| o.value(&known))?;
        Some(View { sizes: all(&meta.sizes)?, strides: all(&meta.strides)?, offset })
    }

    /// The places in the storage of the elements, in row-major order.
    pub(super) fn places(&self) -> Result<Vec<usize>, Refusal> {
        let dims = extents(&self.sizes)?;
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST_ELEMENTS);
        let count = count.ok_or_else(|| Refusal::Unsupported(format!("{self} is too large")))?;
        let place = |n: i64| usize::try_from(n).ok().filter(|&n| n <= MOST_ELEMENTS);
        let steps: Option<Vec<usize>> = self.strides.iter().map(|&s| place(s)).collect();
        let (Some(steps), Some(offset)) = (steps.filter(|s| s.len() == dims.len()), place(self.offset)) else {
            return Err(Refusal::Invalid(self.to_string()));
        };
        let mut at = vec![0usize; dims.len()];
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(offset + at.iter().zip(&steps).map(|(a, s)| a * s).sum::<usize>());
            for (a, d) in at.iter_mut().zip(&dims).rev() {
                *a += 1;
                if *a < *d {
                    break;
                }
                *a = 0;
            }
        }
        Ok(places)
    }

    /// The elements in row-major order; they stay where they are where that is how they lie.
    fn of_storage(&self, stored: Stored, bytes: Bytes) -> Result<Tensor, Refusal> {
        let width = stored.bits() / 8;
        let dims = extents(&self.sizes)?;
        let ty = TensorType::new(stored.elem(), Shape::known(&dims));
        let outside = || Refusal::Invalid(format!("{self} of a storage of {} bytes", bytes.len()));
        let count = ty.shape.elements().filter(|_| ty.shape.span().is_some_and(|n| n <= MOST_ELEMENTS));
        let count = count.ok_or_else(|| Refusal::Unsupported(format!("a tensor {} is too large", ty.shape)))?;
        if self.strides.len() != dims.len() || self.strides.iter().any(|&s| s < 0) {
            return Err(outside());
        }
        if count == 0 {
            return stored.tensor(ty, Bytes::new());
        }
        let steps: Vec<usize> = self.strides.iter().map(|&s| usize::try_from(s).unwrap_or(usize::MAX)).collect();
        let offset = usize::try_from(self.offset).map_err(|_| outside())?;
        let reach = dims.iter().zip(&steps).try_fold(offset, |at, (&d, &s)| at.checked_add((d - 1).checked_mul(s)?));
        let end = reach.and_then(|r| r.checked_add(1)?.checked_mul(width)).filter(|&end| end <= bytes.len());
        let end = end.ok_or_else(outside)?;
        if row_major(&dims, &steps) {
            return stored.tensor(ty, bytes.slice(offset * width..end));
        }
        if count > MOST_REPEATED.max(bytes.len() / width) {
            return Err(Refusal::Unsupported(format!("a view {} that repeats its elements is too large", ty.shape)));
        }
        let mut gathered = Vec::with_capacity(count * width);
        for place in self.places()? {
            gathered.extend_from_slice(&bytes[place * width..(place + 1) * width]);
        }
        stored.tensor(ty, gathered.into())
    }
}

/// True where these steps are those of a row-major tensor; an axis of one element is passed over.
pub(super) fn row_major(dims: &[usize], steps: &[usize]) -> bool {
    let mut expected = 1usize;
    dims.iter().zip(steps).rev().all(|(&d, &s)| {
        let fits = d == 1 || s == expected;
        expected = expected.saturating_mul(d);
        fits
    })
}

fn strided(meta: &TensorMeta) -> Result<(), Refusal> {
    match meta.layout {
        None | Some(STRIDED) => Ok(()),
        Some(_) => Err(Refusal::Unsupported("sparse tensors are not supported".into())),
    }
}

/// How the file stores elements of a type (`ScalarType` of the schema, which is not that of PyTorch itself).
pub(super) fn stored(dtype: i64) -> Result<Stored, Refusal> {
    Ok(match dtype {
        1 => Stored::U8,
        2 => Stored::I8,
        3 => Stored::I16,
        4 => Stored::I32,
        5 => Stored::I64,
        6 => Stored::F16,
        7 => Stored::F32,
        8 => Stored::F64,
        12 => Stored::Bool,
        13 => Stored::Bf16,
        28 => Stored::U16,
        9..=11 => return Err(Refusal::Unsupported("complex numbers are not supported".into())),
        29..=32 => return Err(Refusal::Unsupported("8-bit floats are not supported".into())),
        other => return Err(Refusal::Unsupported(format!("elements of type {other} are not supported"))),
    })
}

/// True for complex numbers.
pub(super) fn is_complex(dtype: i64) -> bool {
    (9..=11).contains(&dtype)
}

/// How real numbers are stored, or the parts of complex ones.
pub(super) fn stored_part(dtype: i64) -> Result<Stored, Refusal> {
    match dtype {
        9 => Ok(Stored::F16),
        10 => Ok(Stored::F32),
        11 => Ok(Stored::F64),
        _ => stored(dtype),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(sizes: &[i64], strides: &[i64], offset: i64) -> View {
        View { sizes: sizes.into(), strides: strides.into(), offset }
    }

    fn bytes() -> Bytes {
        (0..12u8).collect::<Vec<u8>>().into()
    }

    #[test]
    fn views_are_read_through_their_strides() {
        let read = |v: View| v.of_storage(Stored::U8, bytes()).map(|t| t.integers().unwrap());
        assert_eq!(read(view(&[2, 3], &[3, 1], 6)), Ok(vec![6, 7, 8, 9, 10, 11]));
        assert_eq!(read(view(&[3, 2], &[1, 3], 0)), Ok(vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(read(view(&[2, 2], &[0, 1], 4)), Ok(vec![4, 5, 4, 5]));
        assert_eq!(read(view(&[], &[], 11)), Ok(vec![11]));
        assert_eq!(read(view(&[0, 5], &[5, 1], 0)), Ok(vec![]));
    }

    #[test]
    fn views_do_not_leave_their_storage() {
        for v in [
            view(&[13], &[1], 0),
            view(&[2], &[1], 11),
            view(&[2], &[-1], 3),
            view(&[2], &[i64::MAX], 0),
            view(&[2, 2], &[1], 0),
            view(&[1], &[1], -1),
            view(&[1 << 30], &[0], 0),
        ] {
            assert!(v.of_storage(Stored::U8, bytes()).is_err(), "{v:?}");
        }
    }
}

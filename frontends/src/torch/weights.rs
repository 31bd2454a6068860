//! Parameters, buffers and constants in the archive.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use qcc_ir::Tensor;
use serde::Deserialize;

use super::archive::Archive;
use super::pickle;
use super::schema::TensorMeta;
use super::storage::View;
use super::symbols::Symbols;
use crate::elements::{Stored, without_nan};
use crate::refusal::Refusal;

/// PyTorch's strided layout.
const STRIDED: i64 = 7;

/// Tensors by name. Their bytes are read and verified on request.
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
    /// The elements are complex numbers, whose parts are a last axis of the view.
    is_complex: bool,
}

#[derive(Debug)]
enum Storage {
    /// An entry of the archive, read once.
    Entry(Archive, String, OnceLock<Bytes>),
    /// Bytes that a pickle refers to.
    Bytes(Bytes),
    /// A Python object, which cannot be rebuilt.
    Object,
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
                None => {
                    Entry { storage: Storage::Object, stored: Ok(Stored::U8), view: View::empty(), is_complex: false }
                }
                Some(meta) => {
                    let view = View::of(&meta, &Symbols::new())
                        .ok_or_else(|| Refusal::Invalid(format!("{name} has no known shape")))?;
                    let is_complex = is_complex(meta.dtype);
                    Entry {
                        storage: Storage::Entry(archive.clone(), path, OnceLock::new()),
                        stored: stored_part(meta.dtype).and_then(|s| strided(&meta).map(|()| s)),
                        view: if is_complex { view.of_parts() } else { view },
                        is_complex,
                    }
                }
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
            self.tensors
                .insert(name, Entry { storage: Storage::Bytes(storage), stored: Ok(stored), view, is_complex: false });
        }
        Ok(())
    }

    /// The tensor of that name, row-major.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, Refusal> {
        let missing = || Refusal::Invalid(format!("the archive does not hold {name}"));
        let Entry { storage, stored, view, .. } = self.tensors.get(name).ok_or_else(missing)?;
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

    /// True if the elements are complex numbers.
    pub(super) fn is_complex(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|t| t.is_complex)
    }

    /// The real and the imaginary parts of complex numbers.
    pub(super) fn parts(&self, name: &str) -> Result<[Tensor; 2], Refusal> {
        let both = self.tensor(name)?;
        let (numbers, dims) = (both.floats(), both.ty().shape.clone());
        let shape = dims.without(dims.rank().saturating_sub(1));
        Ok([0, 1].map(|part| {
            let numbers = numbers.iter().skip(part).step_by(2).copied().collect();
            Tensor::from_vec(shape.clone(), numbers)
        }))
    }

    /// True if the tensor is stored in double precision.
    pub(super) fn is_double(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|t| t.stored == Ok(Stored::F64))
    }
}

fn strided(meta: &TensorMeta) -> Result<(), Refusal> {
    match meta.layout {
        None | Some(STRIDED) => Ok(()),
        Some(_) => Err(Refusal::Unsupported("sparse tensors are not supported".into())),
    }
}

/// The stored element type (`ScalarType` of the schema, which differs from PyTorch's own).
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

/// The stored element type of real values, or of the parts of complex ones.
pub(super) fn stored_part(dtype: i64) -> Result<Stored, Refusal> {
    match dtype {
        9 => Ok(Stored::F16),
        10 => Ok(Stored::F32),
        11 => Ok(Stored::F64),
        _ => stored(dtype),
    }
}

//! The file's types of integers that the graph stores in wider types or as quantized values.

use qcc_ir::{Elem, QuantParams, StorageType, Tensor, TensorType, ValueId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::build::{Build, integers};
use crate::elements::Stored;
use crate::refusal::Refusal;

/// Inputs of a node.
pub(super) type Inputs = SmallVec<[Option<ValueId>; 4]>;

/// Information on integers of the file that is not in the types of the graph.
#[derive(Debug, Default)]
pub(super) struct Integers {
    /// The file's types of values that the graph stores in wider integers, or as quantized values with another storage
    /// type.
    pub(super) stored: FxHashMap<ValueId, Stored>,
    /// The quantized values, by their plain integer values.
    pub(super) qparams: FxHashMap<ValueId, ValueId>,
    /// The plain integer values, by their quantized values.
    pub(super) plain: FxHashMap<ValueId, ValueId>,
    /// Constant 8-bit integers, by the result of their cast to float.
    widened_constants: FxHashMap<ValueId, ValueId>,
}

impl Integers {
    /// Records the file's type of a value.
    pub(super) fn declare(&mut self, v: ValueId, stored: Stored) {
        self.stored.insert(v, stored);
    }

    /// The file's type of a value, if it differs from the graph's.
    pub(super) fn widened(&self, v: ValueId) -> Option<Stored> {
        self.stored.get(&v).copied()
    }

    /// The file's type of a value of type `ty`; `None` if it is not an integer that can be quantized.
    pub(super) fn stored(&self, v: ValueId, ty: &TensorType) -> Option<Stored> {
        if let Some(&stored) = self.stored.get(&v) {
            return Some(stored);
        }
        let elem = ty.elem.qparams().map_or_else(|| ty.elem.clone(), |g| g.storage.elem());
        [Stored::I8, Stored::U8, Stored::I16, Stored::I32].into_iter().find(|s| s.elem() == elem)
    }

    /// The quantized value whose plain integers these are.
    pub(super) fn qparams_of(&self, integers: ValueId) -> Option<ValueId> {
        self.qparams.get(&integers).copied()
    }

    /// Records that floats are the cast of constant integers.
    pub(super) fn widen_constant(&mut self, floats: ValueId, integers: ValueId) {
        self.widened_constants.insert(floats, integers);
    }

    /// The constant integers that were cast to `floats`.
    pub(super) fn constant_behind(&self, floats: ValueId) -> Option<ValueId> {
        self.widened_constants.get(&floats).copied()
    }

    /// Records that `cast` has the same integers as `from` and the type of the file, if all of them are in its range.
    pub(super) fn follow_cast(&mut self, from: ValueId, from_stored: Option<Stored>, cast: ValueId, to: Stored) {
        let is_quantized = self.qparams_of(from);
        let own = is_quantized.and_then(|g| self.stored.get(&g).copied()).or(from_stored);
        if let (Some(is_quantized), Some((lo, hi)), Some((least, most))) =
            (is_quantized, own.and_then(Stored::integers), to.integers())
            && least <= lo
            && hi <= most
        {
            self.qparams.insert(cast, is_quantized);
        }
    }
}

/// The storage type for integers of the file, and the offset that is added to them.
pub(super) fn storage(stored: Stored) -> Option<(StorageType, i32)> {
    Some(match stored {
        Stored::I2 | Stored::I4 | Stored::I8 => (StorageType::I8, 0),
        Stored::U2 | Stored::U4 | Stored::U8 => (StorageType::U8, 0),
        Stored::I16 => (StorageType::I16, 0),
        Stored::U16 => (StorageType::I16, i32::from(i16::MIN)),
        Stored::I32 => (StorageType::I32, 0),
        _ => return None,
    })
}

/// Constant integers of a file as a quantized constant, or `None` if one is out of range.
pub(super) fn constant_on(t: &Tensor, stored: Stored, qparams: &QuantParams) -> Option<Tensor> {
    let (own, shift) = storage(stored)?;
    let ty = t.ty().with_elem(Elem::Quantized(qparams.clone()));
    if own != qparams.storage || ty.validate().is_err() {
        return None;
    }
    if shift == 0 {
        return t.retype(ty);
    }
    let shifted = t.integers()?.into_iter().map(|q| i16::try_from(q + i64::from(shift)));
    Some(Tensor::of(ty, shifted.collect::<Result<Vec<i16>, _>>().ok()?))
}

/// The integers of a value in the file's type, as `F32`.
pub(super) fn numbers(n: &mut impl Build, x: ValueId, stored: Option<Stored>) -> Result<ValueId, Refusal> {
    let shift = stored.and_then(storage).map_or(0, |s| s.1);
    integers::numbers(n, x, shift)
}

/// The plain integers of a quantized value, in the file's type.
pub(super) fn plain_integers(n: &mut impl Build, x: ValueId, stored: Stored) -> Result<ValueId, Refusal> {
    let integers = numbers(n, x, Some(stored))?;
    n.cast(integers, stored.elem())
}

//! Solves the constraints: one set of quantization parameters for each class of values, with the smallest scale that
//! covers the ranges of its members.

use qcc_ir::target::ZeroPoint;
use qcc_ir::{QuantParams, StorageType, ValueId};
use rustc_hash::FxHashMap;

use super::super::qparams::qparams_of;
use super::Parameters;
use super::constraints::Constraints;
use crate::calibrate::{OwnRanges, Range};

/// The constraints of each class, keyed by its representative.
struct Classes {
    ranges: FxHashMap<ValueId, Range>,
    fixed: FxHashMap<ValueId, QuantParams>,
    zero_points: FxHashMap<ValueId, ZeroPoint>,
}

impl Constraints {
    /// The parameters of `values`, in order. `own` is the range of each value.
    pub(super) fn solve(self, values: &[ValueId], own: &OwnRanges, storage: StorageType) -> Parameters {
        let classes = self.by_class(values, own);
        let qparams = |v: ValueId| {
            let known = classes.fixed.get(&self.classes.root(v)).cloned();
            known.or_else(|| {
                let (range, symmetric) = classes.placed(self.classes.root(v))?;
                Some(qparams_of(range, storage, symmetric))
            })
        };
        let separate = self.separate.iter().filter_map(|&(n, v)| {
            let (range, symmetric) = classes.placed(self.classes.root(v))?;
            symmetric.then(|| (n, qparams_of(range, storage, false)))
        });
        Parameters {
            separate: separate.collect(),
            qparams: values.iter().filter_map(|v| Some((*v, qparams(*v)?))).collect(),
            requantized: self.requantized.clone(),
        }
    }

    fn by_class(&self, values: &[ValueId], own: &OwnRanges) -> Classes {
        let mut ranges: FxHashMap<ValueId, Range> = FxHashMap::default();
        for v in values.iter().filter(|v| !self.ignores_range.contains(v)) {
            let range = self.constants.get(v).map_or(own[v], |c| own[v].union(*c));
            let root = self.classes.root(*v);
            let joint = ranges.get(&root).map_or(range, |joint| joint.union(range));
            ranges.insert(root, joint);
        }
        let mut zero_points: FxHashMap<ValueId, ZeroPoint> = FxHashMap::default();
        for (&v, &zero) in &self.zero_points {
            let all = zero_points.entry(self.classes.root(v)).or_insert(zero);
            *all = if zero == ZeroPoint::Symmetric { zero } else { *all };
        }
        let fixed = self.fixed.iter().map(|(v, qparams)| (self.classes.root(*v), qparams.clone())).collect();
        Classes { ranges, fixed, zero_points }
    }
}

impl Classes {
    /// The range of a class and whether it is symmetric. `None` if its parameters are predefined.
    fn placed(&self, root: ValueId) -> Option<(Range, bool)> {
        let range = *self.ranges.get(&root).filter(|_| !self.fixed.contains_key(&root))?;
        let symmetric = match self.zero_points.get(&root) {
            Some(ZeroPoint::Symmetric) => true,
            Some(ZeroPoint::SymmetricOrUnsigned) => range.lo < 0.0,
            Some(ZeroPoint::Any | ZeroPoint::AnyPerConsumer) | None => false,
        };
        Some((range, symmetric))
    }
}

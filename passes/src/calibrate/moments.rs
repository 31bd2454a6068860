//! Gathers the second moments of the activations of matrix products on samples.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use qcc_ir::eval::{RunError, opaque};
use qcc_ir::ops::Op;
use qcc_ir::{Elem, Graph, Tensor, ValueId};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::factor::{Factor, Moments};
use super::observe::in_batches;
use crate::SharedGraph;

/// The most channels of an activation whose second moments are gathered.
const MOST_CHANNELS: usize = 8192;

/// The bytes of second moments that are gathered in one run over the samples.
const AT_ONCE: usize = 1 << 27;

/// What rounding needs of the second moments of activations, by value of the merged graph.
#[derive(Clone, Debug, Default)]
pub struct Factors(pub(super) Arc<FxHashMap<ValueId, Factor>>);

impl Factors {
    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Evaluates a merged graph on samples `0..count` and gathers the second moments of the float activations of the matrix
/// products with constant weights that `graphs` have. Moments that would take too much memory at once are gathered in
/// several runs. `sample` and `seen` are as for [`super::observe()`]; `seen` is called with the samples done in all runs
/// and the number in all runs. The result does not depend on the number of threads. Also returns the number of samples
/// that were not skipped, or `None` if no product needs samples.
///
/// # Errors
/// If the graph cannot be evaluated on a sample.
pub fn second_moments(
    joint: &SharedGraph,
    graphs: &[&Graph],
    count: usize,
    sample: impl Fn(usize) -> Option<Vec<Tensor>> + Sync,
    seen: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(Factors, Option<usize>), RunError> {
    let groups = grouped(joint, graphs);
    let (mut factors, mut read) = (FxHashMap::default(), None);
    for (i, group) in groups.iter().enumerate() {
        let wanted: FxHashSet<ValueId> = group.iter().map(|(v, _)| *v).collect();
        let executor = joint.executor(&wanted);
        let evaluate = |sample: Vec<Tensor>| {
            let mut found = FxHashMap::default();
            executor.run_known(&sample, &mut |v, tensor| {
                if wanted.contains(&v) {
                    found.insert(v, tensor.clone());
                }
            })?;
            Ok(found)
        };
        let mut all: Vec<(ValueId, Moments)> = group.iter().map(|&(v, extent)| (v, Moments::new(extent))).collect();
        let mut own = 0;
        let mut add = |found: Vec<FxHashMap<ValueId, Tensor>>, done| {
            own += found.len();
            all.par_iter_mut().for_each(|(v, moments)| {
                found.iter().filter_map(|sample| sample.get(v)).for_each(|x| moments.add(&x.view::<f32>()));
            });
            seen(i * count + done, groups.len() * count)
        };
        if !in_batches(joint, count, &sample, evaluate, &mut add)? {
            return Ok((Factors::default(), None));
        }
        read = Some(own);
        factors.extend(all.into_iter().filter_map(|(v, moments)| Some((v, moments.factor()?))));
    }
    Ok((Factors(Arc::new(factors)), read))
}

/// The activations of matrix products with constant weights and their numbers of channels, in groups whose moments are
/// in memory at once.
fn grouped(joint: &SharedGraph, graphs: &[&Graph]) -> Vec<Vec<(ValueId, usize)>> {
    let mut all = BTreeMap::new();
    for (i, g) in graphs.iter().enumerate() {
        let opaque = opaque(g);
        for n in g.order().into_iter().filter(|&n| matches!(g.op(n), Op::MatMul(_))) {
            let (x, w) = (g.operands(n)[0], g.operands(n)[1]);
            let extent = g.ty(x).shape.dims().last().and_then(|d| d.known());
            let matrix = g.constant(w).is_some() && g.ty(w).rank() == 2;
            let known = g.constant(x).is_none() && g.ty(x).elem == Elem::F32 && !opaque.contains_key(&x.node);
            let extent = extent.filter(|&n| matrix && known && n <= MOST_CHANNELS);
            all.extend(extent.and_then(|extent| Some((joint.place(i, x)?, extent))));
        }
    }
    let (mut groups, mut bytes) = (Vec::<Vec<_>>::new(), usize::MAX);
    for (v, extent) in all {
        let own = extent * extent * size_of::<f32>();
        if bytes.saturating_add(own) > AT_ONCE {
            (bytes, _) = (0, groups.push(Vec::new()));
        }
        bytes += own;
        if let Some(group) = groups.last_mut() {
            group.push((v, extent));
        }
    }
    groups
}

//! Ensembles of trees of `ai.onnx.ml` as tensor operators.

use qcc_ir::ops::{BinaryFn, Expand, Gather, GatherElements, ReduceFn, Select};
use qcc_ir::{Dim, Shape, Tensor, ValueId};

use super::super::node::NodeCx;
use super::Row;
use super::linear::{First, constant, features, label, labels, larger, transformed, two_classes};
use crate::build::{Build, Values, extent, one};
use crate::elements::double;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] =
    &[("ai.onnx.ml.TreeEnsembleClassifier", tree_classifier), ("ai.onnx.ml.TreeEnsembleRegressor", tree_regressor)];

/// Trees as tables of nodes. Leaves are their own children.
pub(super) struct Trees {
    /// The first node of each tree.
    pub(super) roots: Vec<i64>,
    pub(super) features: Vec<i64>,
    pub(super) thresholds: Vec<f32>,
    /// Nodes whose comparison holds for missing values (NaN).
    pub(super) missing: Vec<bool>,
    /// Next nodes where the comparison holds, and where it does not.
    pub(super) next: [Vec<i64>; 2],
    /// The comparison of each node; leaves have any.
    pub(super) compare: Vec<BinaryFn>,
    /// The longest path from a root.
    pub(super) depth: usize,
    /// The weights of each node for all targets.
    pub(super) weights: Vec<f32>,
    /// Each target has a weight in all leaves of some tree.
    pub(super) complete: bool,
}

impl Trees {
    /// Reads the attributes; those of leaves begin with `leaf` (`class` or `target`), for the targets from `first` on.
    fn read(n: &mut NodeCx<'_, '_>, leaf: &str, first: usize, targets: usize) -> Result<Trees, Refusal> {
        let mut ints = |name: &str| n.ints(name).map(|v| v.unwrap_or_default().to_vec());
        let (trees, ids) = (ints("nodes_treeids")?, ints("nodes_nodeids")?);
        let (yes, no) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
        let features = ints("nodes_featureids")?;
        let places =
            [ints(&format!("{leaf}_treeids"))?, ints(&format!("{leaf}_nodeids"))?, ints(&format!("{leaf}_ids"))?];
        let tracks = ints("nodes_missing_value_tracks_true")?;
        let thresholds = numbers(n, "nodes_values")?;
        numbers(n, "nodes_hitrates")?;
        let leaf_weights = numbers(n, &format!("{leaf}_weights"))?;
        let modes = n.strings("nodes_modes")?.unwrap_or_default();
        let count = ids.len();
        let lists = [trees.len(), yes.len(), no.len(), features.len(), thresholds.len(), modes.len()];
        let invalid = || Refusal::Invalid("lists of tree nodes of unlike lengths, or nodes that do not exist".into());
        if count == 0 || lists.iter().any(|&len| len != count) || places.iter().any(|p| p.len() != leaf_weights.len()) {
            return Err(invalid());
        }
        n.room(&[count, targets], size_of::<f32>())?;
        let index: rustc_hash::FxHashMap<(i64, i64), usize> =
            trees.iter().copied().zip(ids.iter().copied()).enumerate().map(|(i, key)| (key, i)).collect();
        let at = |tree: i64, node: i64| index.get(&(tree, node)).copied().ok_or_else(invalid);
        let compare = |mode: &&str| match *mode {
            "BRANCH_LEQ" | "LEAF" => Ok(BinaryFn::LessEqual),
            "BRANCH_LT" => Ok(BinaryFn::Less),
            "BRANCH_GTE" => Ok(BinaryFn::GreaterEqual),
            "BRANCH_GT" => Ok(BinaryFn::Greater),
            "BRANCH_EQ" => Ok(BinaryFn::Equal),
            "BRANCH_NEQ" => Ok(BinaryFn::NotEqual),
            other => Err(Refusal::Unsupported(format!("comparison {other} is not supported"))),
        };
        let compare = modes.iter().map(compare).collect::<Result<Vec<_>, _>>()?;
        let leaves: Vec<bool> = modes.iter().map(|&mode| mode == "LEAF").collect();
        let mut next = [vec![0i64; count], vec![0i64; count]];
        let mut has_parent = vec![false; count];
        for i in 0..count {
            for (side, child) in [(0, yes[i]), (1, no[i])] {
                let child = if leaves[i] { i } else { at(trees[i], child)? };
                next[side][i] = child as i64;
                has_parent[child] |= child != i;
            }
        }
        let roots: Vec<i64> = (0..count).filter(|&i| !has_parent[i]).map(|i| i as i64).collect();
        let depth = depth(&roots, &next, &leaves).ok_or_else(invalid)?;
        let mut weights = vec![0f32; count * targets];
        let mut weighted = vec![false; count * targets];
        for (i, &weight) in leaf_weights.iter().enumerate() {
            let target = usize::try_from(places[2][i]).ok().and_then(|t| t.checked_sub(first));
            let target = target.filter(|&t| t < targets).ok_or_else(invalid)?;
            let place = at(places[0][i], places[1][i])? * targets + target;
            weights[place] += double(weight)?;
            weighted[place] = true;
        }
        let tracked = |i: usize| tracks.get(i).is_some_and(|&t| t != 0) || compare[i] == BinaryFn::NotEqual;
        let missing: Vec<bool> = (0..count).map(|i| !leaves[i] && tracked(i)).collect();
        let complete = complete(&trees, &leaves, &weighted, targets);
        // Features are rounded to single precision in the same way, which keeps their order.
        let thresholds = thresholds.iter().map(|&value| value as f32).collect();
        Ok(Trees { roots, features, thresholds, missing, next, compare, depth, weights, complete })
    }

    /// The weights of the leaves of `x` `[N, F]` in all trees: `[N, trees, targets]`.
    pub(super) fn leaves(&self, n: &mut NodeCx<'_, '_>, x: ValueId, targets: usize) -> Result<ValueId, Refusal> {
        let (count, trees) = (self.features.len(), self.roots.len());
        let table = |n: &mut NodeCx<'_, '_>, values: &[i64]| {
            n.add_constant(Tensor::from_vec(Shape::known(&[values.len()]), values.to_vec()))
        };
        let (features, yes, no) = (table(n, &self.features), table(n, &self.next[0]), table(n, &self.next[1]));
        let thresholds = constant(n, &[count], self.thresholds.clone());
        let missing = self
            .missing
            .contains(&true)
            .then(|| n.add_constant(Tensor::from_bools(Shape::known(&[count]), self.missing.iter().copied())));
        let roots = n.add_constant(Tensor::from_vec(Shape::known(&[1, trees]), self.roots.clone()));
        let shape = n.shape(x).with(1, Dim::Known(trees));
        let mut at = n.add(Expand { shape }, &[roots])?;
        for _ in 0..self.depth {
            let feature = n.add(Gather { axis: 0 }, &[features, at])?;
            let value = n.add(GatherElements { axis: 1 }, &[x, feature])?;
            let threshold = n.add(Gather { axis: 0 }, &[thresholds, at])?;
            let holds = self.compared(n, at, value, threshold)?;
            // Runtimes differ in comparisons with NaN, but for equality.
            let known = n.binary(BinaryFn::Equal, value, value)?;
            let holds = match missing {
                Some(missing) => {
                    let missing = n.add(Gather { axis: 0 }, &[missing, at])?;
                    n.add(Select {}, &[known, holds, missing])?
                }
                None => n.binary(BinaryFn::And, known, holds)?,
            };
            let (yes, no) = (n.add(Gather { axis: 0 }, &[yes, at])?, n.add(Gather { axis: 0 }, &[no, at])?);
            at = n.add(Select {}, &[holds, yes, no])?;
        }
        let weights = constant(n, &[count, targets], self.weights.clone());
        n.add(Gather { axis: 0 }, &[weights, at])
    }

    /// Whether the comparisons of the nodes `at` hold.
    fn compared(
        &self,
        n: &mut NodeCx<'_, '_>,
        at: ValueId,
        value: ValueId,
        threshold: ValueId,
    ) -> Result<ValueId, Refusal> {
        let mut kinds: Vec<BinaryFn> = Vec::new();
        for (i, &kind) in self.compare.iter().enumerate() {
            if self.next[0][i] != i as i64 && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let mut holds = n.binary(kinds.first().copied().unwrap_or(BinaryFn::LessEqual), value, threshold)?;
        for &kind in kinds.iter().skip(1) {
            let marks = self.compare.iter().map(|&other| other == kind);
            let marks = n.add_constant(Tensor::from_bools(Shape::known(&[self.compare.len()]), marks));
            let marked = n.add(Gather { axis: 0 }, &[marks, at])?;
            let other = n.binary(kind, value, threshold)?;
            holds = n.add(Select {}, &[marked, other, holds])?;
        }
        Ok(holds)
    }
}

/// The numbers of an attribute, in single or double precision.
fn numbers(n: &mut NodeCx<'_, '_>, name: &str) -> Result<Vec<f64>, Refusal> {
    let doubles = n.doubles(&format!("{name}_as_tensor"))?;
    let singles = n.floats(name)?.unwrap_or_default();
    Ok(doubles.unwrap_or_else(|| singles.iter().map(|&v| v.into()).collect()))
}

/// True if each target has a weight in all leaves of some tree; `weighted` is `[nodes, targets]`.
fn complete(trees: &[i64], leaves: &[bool], weighted: &[bool], targets: usize) -> bool {
    (0..targets).all(|target| {
        let lacking = |&i: &usize| leaves[i] && !weighted[i * targets + target];
        let lacking: rustc_hash::FxHashSet<i64> = (0..leaves.len()).filter(lacking).map(|i| trees[i]).collect();
        trees.iter().any(|tree| !lacking.contains(tree))
    })
}

/// The length of the longest path from a root; `None` if a path does not end.
pub(super) fn depth(roots: &[i64], next: &[Vec<i64>; 2], leaves: &[bool]) -> Option<usize> {
    let (mut level, mut depth): (Vec<usize>, usize) = (roots.iter().map(|&r| r as usize).collect(), 0);
    loop {
        let inner = level.iter().filter(|&&i| !leaves[i]);
        let below: Vec<usize> = inner.flat_map(|&i| next.iter().map(move |side| side[i] as usize)).collect();
        if below.is_empty() {
            return Some(depth);
        }
        // In a forest each node is on one level, and there are no more of them than nodes.
        if depth == leaves.len() || below.len() > leaves.len() {
            return None;
        }
        (level, depth) = (below, depth + 1);
    }
}

/// `y` plus the base values. A target to which no leaf contributes has none.
fn base(n: &mut NodeCx<'_, '_>, y: ValueId, targets: usize, complete: bool) -> Result<ValueId, Refusal> {
    let base = numbers(n, "base_values")?;
    if base.is_empty() {
        return Ok(y);
    }
    if !complete {
        let message = "base values of results that not all leaves of a tree contribute to are not supported";
        return Err(Refusal::Unsupported(message.into()));
    }
    if base.len() != targets {
        return Err(Refusal::Invalid(format!("{} base values for {targets} results", base.len())));
    }
    let base = base.into_iter().map(double).collect::<Result<_, _>>()?;
    let base = constant(n, &[targets], base);
    n.binary(BinaryFn::Add, y, base)
}

fn tree_regressor(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = features(n)?;
    let targets = n.int("n_targets", 1)?;
    let targets = extent(targets)?;
    let trees = Trees::read(n, "target", 0, targets)?;
    let leaves = trees.leaves(n, x, targets)?;
    let f = match n.string("aggregate_function", "SUM")? {
        "SUM" => ReduceFn::Sum,
        "AVERAGE" => ReduceFn::Mean,
        other => return Err(Refusal::Unsupported(format!("aggregate_function {other} is not supported"))),
    };
    let y = n.reduce(f, leaves, &[1], false)?;
    let y = base(n, y, targets, trees.complete)?;
    one(transformed(n, y)?)
}

/// The label of two classes is the second where its score is above a bound, that of more classes the one with the
/// largest score among those that the leaves give one, as in ONNX Runtime.
fn tree_classifier(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = features(n)?;
    let labels = labels(n, "classlabels_int64s")?;
    let classes = labels.len();
    let used: std::collections::BTreeSet<i64> = n.ints("class_ids")?.unwrap_or_default().iter().copied().collect();
    let (first, scored) = match used.first() {
        Some(&first @ (0 | 1)) if classes == 2 && used.len() == 1 => (first as usize, 1),
        _ => (0, classes),
    };
    let based = !numbers(n, "base_values")?.is_empty();
    let positive = numbers(n, "class_weights")?.iter().all(|&w| w >= 0.0);
    let trees = Trees::read(n, "class", first, scored)?;
    if classes < 2 || classes == 2 && based && (scored == 2 || first == 1) {
        let message = format!("a classifier of {classes} classes with base values for class 1 is not supported");
        return Err(Refusal::Unsupported(message));
    }
    if classes == 2 && scored == 2 && labels != [0, 1] {
        let message = "a classifier with scores for both of two classes that are not 0 and 1 is not supported: ONNX Runtime \
                       gives 0 and 1 for any labels";
        return Err(Refusal::Unsupported(message.into()));
    }
    if scored > 1 && !trees.complete {
        let message = "a classifier some of whose leaves give no score to a class is not supported";
        return Err(Refusal::Unsupported(message.into()));
    }
    let leaves = trees.leaves(n, x, scored)?;
    let y = n.reduce(ReduceFn::Sum, leaves, &[1], false)?;
    let y = base(n, y, scored, trees.complete)?;
    if scored == 1 {
        let (factor, offset) = if first == 1 { (0.0, 0.0) } else { (-1.0, if positive { 1.0 } else { 0.0 }) };
        let first = First { computed: first, factor, offset, least: if positive { 0.5 } else { 0.0 } };
        return two_classes(n, y, &first, &labels);
    }
    let label = if classes == 2 {
        let second = n.add_constant(Tensor::from_vec(Shape::known(&[1]), vec![1i64]));
        let second = n.add(Gather { axis: 1 }, &[y, second])?;
        larger(n, second, 0.0, &labels)?
    } else {
        label(n, y, labels)?
    };
    Ok(Values::from_iter([label, transformed(n, y)?]))
}

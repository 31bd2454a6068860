//! TreeEnsemble of `ai.onnx.ml`, the successor of the ensembles for classification and regression.

use qcc_ir::ops::{BinaryFn, ReduceFn, Softmax, UnaryFn};

use super::super::node::NodeCx;
use super::Row;
use super::linear::{features, missing};
use super::trees::{Trees, depth};
use crate::build::{Build, Values, extent, one};
use crate::elements::double;
use crate::refusal::Refusal;

pub(super) const ROWS: &[Row] = &[("ai.onnx.ml.TreeEnsemble", tree_ensemble)];

/// The kinds of comparisons, by their numbers.
const COMPARISONS: [BinaryFn; 6] = [
    BinaryFn::LessEqual,
    BinaryFn::Less,
    BinaryFn::GreaterEqual,
    BinaryFn::Greater,
    BinaryFn::Equal,
    BinaryFn::NotEqual,
];

/// The number of the comparison with the elements of a set.
const MEMBER: i64 = 6;

fn tree_ensemble(n: &mut NodeCx<'_, '_>) -> Result<Values, Refusal> {
    let x = features(n)?;
    let targets = extent(n.optional_int("n_targets")?.ok_or_else(|| missing("n_targets"))?)?;
    let trees = read(n, targets)?;
    let leaves = trees.leaves(n, x, targets)?;
    let f = match n.int("aggregate_function", 1)? {
        0 => ReduceFn::Mean,
        1 => ReduceFn::Sum,
        // Leaves without a weight for a target do not take part for it.
        2 if targets == 1 => ReduceFn::Min,
        3 if targets == 1 => ReduceFn::Max,
        other => return Err(Refusal::Unsupported(format!("aggregate_function {other} is not supported"))),
    };
    let y = n.reduce(f, leaves, &[1], false)?;
    one(match n.int("post_transform", 0)? {
        0 => y,
        1 => n.unary(UnaryFn::Sigmoid, y)?,
        2 => n.add(Softmax { axis: 1, log: false }, &[y])?,
        other => return Err(Refusal::Unsupported(format!("post_transform {other} is not supported"))),
    })
}

/// Columns of a table of nodes, as those of [`Trees`].
struct Table {
    features: Vec<i64>,
    thresholds: Vec<f64>,
    compare: Vec<BinaryFn>,
    next: [Vec<i64>; 2],
}

impl Table {
    /// Makes node `i` a comparison with the first element, and adds nodes for the others.
    fn compare_with_set(&mut self, i: usize, set: &[f64]) {
        (self.compare[i], self.thresholds[i]) = (BinaryFn::Equal, set[0]);
        let mut last = i;
        for &element in &set[1..] {
            let new = self.features.len();
            self.features.push(self.features[i]);
            self.thresholds.push(element);
            self.compare.push(BinaryFn::Equal);
            let [yes, no] = [self.next[0][i], self.next[1][last]];
            self.next[0].push(yes);
            self.next[1].push(no);
            self.next[1][last] = new as i64;
            last = new;
        }
    }
}

/// The nodes of the file, the leaves, and nodes for further elements of sets.
fn read(n: &mut NodeCx<'_, '_>, targets: usize) -> Result<Trees, Refusal> {
    let mut ints = |name: &str| n.ints(name).map(|v| v.unwrap_or_default().to_vec());
    let (roots, mut features) = (ints("tree_roots")?, ints("nodes_featureids")?);
    let sides = [("nodes_truenodeids", "nodes_trueleafs"), ("nodes_falsenodeids", "nodes_falseleafs")];
    let sides = sides.map(|(ids, is_leaf)| Ok::<_, Refusal>((ints(ids)?, ints(is_leaf)?)));
    let (leaf_targets, tracks) = (ints("leaf_targetids")?, ints("nodes_missing_value_tracks_true")?);
    let (splits, leaf_weights) = (n.doubles("nodes_splits")?, n.doubles("leaf_weights")?.unwrap_or_default());
    let (splits, members) = (splits.unwrap_or_default(), n.doubles("membership_values")?.unwrap_or_default());
    n.tensor("nodes_hitrates")?;
    let modes = n.tensor("nodes_modes")?.and_then(|t| t.integers().map(|modes| modes.to_vec())).unwrap_or_default();
    let (nodes, leaves) = (splits.len(), leaf_weights.len());
    let count = nodes + leaves;
    let invalid = || Refusal::Invalid("lists of tree nodes of unlike lengths, or nodes that do not exist".into());
    if nodes == 0 || [features.len(), modes.len()] != [nodes; 2] || leaf_targets.len() != leaves {
        return Err(invalid());
    }
    n.room(&[count + members.len(), targets], size_of::<f32>())?;
    let mut next = [Vec::new(), Vec::new()];
    for (next, side) in next.iter_mut().zip(sides) {
        let (ids, is_leaf) = side?;
        if [ids.len(), is_leaf.len()] != [nodes; 2] {
            return Err(invalid());
        }
        for (id, is_leaf) in ids.into_iter().zip(is_leaf) {
            let (first, most) = if is_leaf != 0 { (nodes, leaves) } else { (0, nodes) };
            let id = usize::try_from(id).ok().filter(|&id| id < most).ok_or_else(invalid)?;
            next.push((first + id) as i64);
        }
        next.extend((nodes..count).map(|leaf| leaf as i64));
    }
    if roots.is_empty() || !roots.iter().all(|&root| usize::try_from(root).is_ok_and(|root| root < nodes)) {
        return Err(invalid());
    }
    features.resize(count, 0);
    let thresholds = splits.into_iter().chain(vec![0.0; leaves]).collect();
    let mut table = Table { features, thresholds, compare: vec![BinaryFn::LessEqual; count], next };
    let mut sets = members.split(|v| v.is_nan());
    for (i, &mode) in modes.iter().enumerate() {
        match usize::try_from(mode).ok().and_then(|mode| COMPARISONS.get(mode)) {
            Some(&known) => table.compare[i] = known,
            None => {
                let set = sets.next().filter(|set| mode == MEMBER && !set.is_empty()).ok_or_else(invalid)?;
                table.compare_with_set(i, set);
            }
        }
    }
    let Table { features, thresholds, compare, next } = table;
    let is_leaf: Vec<bool> = (0..features.len()).map(|i| (nodes..count).contains(&i)).collect();
    let depth = depth(&roots, &next, &is_leaf).ok_or_else(invalid)?;
    let mut weights = vec![0f32; features.len() * targets];
    for (leaf, (weight, target)) in leaf_weights.into_iter().zip(leaf_targets).enumerate() {
        let target = usize::try_from(target).ok().filter(|&target| target < targets).ok_or_else(invalid)?;
        weights[(nodes + leaf) * targets + target] = double(weight)?;
    }
    // Features are rounded to single precision in the same way, which keeps their order.
    let thresholds = thresholds.into_iter().map(|value| value as f32).collect();
    let tracked = |i: usize| tracks.get(i).is_some_and(|&t| t != 0) || compare[i] == BinaryFn::NotEqual;
    let missing = (0..features.len()).map(|i| !is_leaf[i] && tracked(i)).collect();
    Ok(Trees { roots, features, thresholds, missing, next, compare, depth, weights, complete: true })
}

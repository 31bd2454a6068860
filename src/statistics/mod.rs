//! Calibration statistics in files: parts of the data are calibrated on any number of machines, and the merged
//! statistics give the ranges of one run over all data, bit for bit. docs/qstats.md describes the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qcc_ir::{Graph, ValueId};
use qcc_passes::SharedGraph;
use qcc_passes::calibrate::{SampleSet, Statistics, Stats, Wanted};
use qcc_passes::identity::{Digest128, digest, digests};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::data::Samples;
use crate::port::Port;

mod error;
mod file;
mod merge;

pub use error::StatisticsError;
pub(crate) use merge::merged;

/// The version of the format (docs/qstats.md).
const VERSION: &str = "3";

/// Calibration statistics of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticsFile {
    /// The version of qcc that made them. Statistics are equal bit for bit within one version.
    pub qcc: String,
    /// The model.
    pub model: CalibratedModel,
    /// The sets of samples, in ascending order of their digests.
    pub shards: Vec<Shard>,
    /// The statistics of each value, by the digest of what it is computed from.
    values: BTreeMap<Digest128, ValueStatistics>,
}

/// The model that statistics belong to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibratedModel {
    /// The file's name without its folder and extension.
    pub name: String,
    /// The digest of the simplified graph: operators, attributes, weights, and the types of inputs.
    pub digest: Digest128,
    /// The inputs with their types: `x: f32[1,3,224,224]`.
    pub inputs: Vec<String>,
    /// The targets that the model was lowered for.
    pub targets: Vec<String>,
}

/// A set of samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// The data, as the user named them.
    pub name: String,
    /// The number of samples that were evaluated, and their digest.
    #[serde(flatten)]
    pub samples: SampleSet,
    /// The kind of the samples.
    pub kind: SampleKind,
    /// How pixels were converted; `None` if the samples are not pixels.
    pub conversion: Option<String>,
}

/// Where samples come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleKind {
    /// They are data of the user.
    Given,
    /// They are that many built-in pictures.
    Synthetic(usize),
    /// They are random numbers.
    Random,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueStatistics {
    /// The name of the value in the model, for readers of the file; empty if it has none.
    name: String,
    stats: Stats,
}

impl Shard {
    /// The samples that statistics were gathered on.
    pub(crate) fn new(name: String, samples: &Samples, set: SampleSet) -> Self {
        let kind = match samples.synthetic() {
            Some(pictures) => SampleKind::Synthetic(pictures),
            None if samples.is_random() => SampleKind::Random,
            None => SampleKind::Given,
        };
        Shard { name, samples: set, kind, conversion: samples.conversion() }
    }
}

impl CalibratedModel {
    /// The model with this simplified graph.
    pub(crate) fn of(name: &str, source: &Graph, targets: Vec<String>) -> Self {
        let inputs = Port::inputs(source).iter().map(Port::to_string).collect();
        CalibratedModel { name: name.into(), digest: digest(source), inputs, targets }
    }
}

impl StatisticsFile {
    /// Statistics of the values of a merged graph.
    pub(crate) fn new(model: CalibratedModel, joint: &SharedGraph, shard: Shard, statistics: &Statistics) -> Self {
        let graph = joint.graph();
        let order: BTreeSet<ValueId> = statistics.values.keys().copied().collect();
        let digests = digests(graph, &order.iter().copied().collect::<Vec<_>>());
        let mut values: BTreeMap<Digest128, ValueStatistics> = BTreeMap::new();
        for v in order {
            let (Some(stats), Some(&digest)) = (statistics.values.get(&v), digests.get(&v)) else { continue };
            match values.get_mut(&digest) {
                // The same computation twice: equal statistics, perhaps of channels along other axes.
                Some(known) => known.stats.complete(stats),
                None => {
                    let name = graph.name(v).map_or_else(String::new, |name| name.to_string());
                    values.insert(digest, ValueStatistics { name, stats: stats.clone() });
                }
            }
        }
        StatisticsFile { qcc: env!("CARGO_PKG_VERSION").into(), model, shards: vec![shard], values }
    }

    /// All samples.
    pub fn samples(&self) -> SampleSet {
        self.shards.iter().fold(SampleSet::default(), |mut all, shard| {
            all.merge(shard.samples);
            all
        })
    }

    /// The number of values.
    pub fn values(&self) -> usize {
        self.values.len()
    }

    /// The number of built-in pictures, if all samples are synthetic.
    pub(crate) fn synthetic(&self) -> Option<usize> {
        let pictures = |shard: &Shard| match shard.kind {
            SampleKind::Synthetic(pictures) => Some(pictures),
            SampleKind::Given | SampleKind::Random => None,
        };
        self.shards.iter().map(pictures).sum()
    }

    /// True if some samples are random numbers.
    pub(crate) fn is_random(&self) -> bool {
        self.shards.iter().any(|shard| shard.kind == SampleKind::Random)
    }

    /// A short description of the samples.
    pub(crate) fn describe(&self, path: &Path) -> String {
        let sets = match self.shards.len() {
            1 => "1 set of data".to_owned(),
            n => format!("{n} sets of data"),
        };
        format!("{} samples of {sets}, statistics of {}", self.samples().count, path.display())
    }
}

/// Statistics that were read from a file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) path: PathBuf,
    pub(crate) file: StatisticsFile,
}

impl Stored {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, StatisticsError> {
        Ok(Stored { path: path.into(), file: StatisticsFile::read(path)? })
    }

    /// A short description of the samples.
    pub(crate) fn describe(&self) -> String {
        self.file.describe(&self.path)
    }

    /// The statistics of the values of graphs that were lowered from `source` for `targets`.
    ///
    /// # Errors
    /// If the statistics are those of another model, of other input types, or lack a value.
    pub(crate) fn of(
        &self,
        source: &Graph,
        joint: &SharedGraph,
        wanted: &Wanted,
        targets: &[&str],
    ) -> Result<Statistics, StatisticsError> {
        let (path, file) = (&self.path, &self.file);
        let own = CalibratedModel::of(&source.name, source, Vec::new());
        if own.inputs != file.model.inputs {
            let (theirs, own) = (file.model.inputs.join(", "), own.inputs.join(", "));
            return Err(StatisticsError::Inputs { path: path.clone(), theirs, own });
        }
        if own.digest != file.model.digest {
            let name = file.model.name.clone();
            return Err(StatisticsError::Model { path: path.clone(), name });
        }
        let all: BTreeSet<ValueId> = (0..targets.len()).flat_map(|i| wanted.values(i)).collect();
        let digests = digests(joint.graph(), &all.into_iter().collect::<Vec<_>>());
        let complete = |v: ValueId| {
            let stats = &file.values.get(digests.get(&v)?)?.stats;
            let extent = |axis: usize| joint.graph().ty(v).shape.dims().get(axis)?.known();
            let has = |axis| stats.along(axis).is_some_and(|c| extent(axis).is_none_or(|n| n == c.largest.len()));
            let spread =
                |axis| stats.distributions(axis).is_some_and(|n| extent(axis).is_none_or(|extent| n == extent));
            let products = wanted.products(v).is_none_or(|extent| stats.products() == Some(extent));
            (products && wanted.axes(v).all(has) && wanted.spreads(v).all(spread)).then_some(stats)
        };
        let mut values = FxHashMap::default();
        for (i, target) in targets.iter().enumerate() {
            let all = wanted.values(i).into_iter().map(|v| (v, complete(v)));
            let (found, missing): (Vec<_>, Vec<_>) = all.partition(|(_, stats)| stats.is_some());
            if let Some((first, _)) = missing.first() {
                return Err(StatisticsError::Values {
                    path: path.clone(),
                    target: (*target).to_owned(),
                    missing: missing.len(),
                    first: joint.graph().place(first.node).to_string(),
                    made_for: file.model.targets.join(", "),
                });
            }
            values.extend(found.into_iter().filter_map(|(v, stats)| Some((v, stats?.clone()))));
        }
        Ok(Statistics { samples: file.samples(), values, ..Statistics::default() })
    }
}

//! Merging of statistics.

use std::collections::BTreeMap;
use std::path::PathBuf;

use qcc_passes::calibrate::Stats;
use qcc_passes::identity::Digest128;
use qcc_passes::quantize::matches;

use super::{StatisticsError, StatisticsFile, Stored};

/// The merged statistics of `files`, except those of data whose names match a pattern of `exclude`. They depend neither on
/// the order of the files nor on what was merged before.
pub(crate) fn merged(files: &[PathBuf], exclude: &[String]) -> Result<StatisticsFile, StatisticsError> {
    let mut all: Option<Stored> = None;
    // The file that each set of samples is from.
    let mut known: BTreeMap<Digest128, PathBuf> = BTreeMap::new();
    let mut matched = vec![false; exclude.len()];
    for path in files {
        let one = Stored::read(path)?;
        if !is_kept(&one, exclude, &mut matched)? {
            continue;
        }
        if let Some(all) = &all {
            fits(all, &one)?;
        }
        for shard in &one.file.shards {
            if let Some(first) = known.insert(shard.samples.digest, path.clone()) {
                return Err(StatisticsError::Twice { first, other: path.clone(), shard: shard.name.clone() });
            }
        }
        match &mut all {
            Some(all) => add(&mut all.file, one.file),
            None => all = Some(one),
        }
    }
    if let Some((unmatched, _)) = exclude.iter().zip(&matched).find(|(_, matched)| !**matched) {
        return Err(StatisticsError::NothingExcluded(unmatched.clone()));
    }
    Ok(all.ok_or(StatisticsError::Empty)?.file)
}

/// Whether a file is merged: not if all of its data are excluded.
fn is_kept(one: &Stored, exclude: &[String], matched: &mut [bool]) -> Result<bool, StatisticsError> {
    let mut excluded = Vec::new();
    for shard in &one.file.shards {
        let mut any = false;
        for (pattern, matched) in exclude.iter().zip(&mut *matched) {
            let hit = matches(pattern, &shard.name);
            (*matched, any) = (*matched || hit, any || hit);
        }
        excluded.push(any);
    }
    match excluded.iter().position(|&e| e) {
        Some(first) if excluded.contains(&false) => {
            let (path, shard) = (one.path.clone(), one.file.shards[first].name.clone());
            Err(StatisticsError::Merged { path, shard })
        }
        first => Ok(first.is_none()),
    }
}

/// Fails if statistics are not of the same values of the same model.
fn fits(all: &Stored, other: &Stored) -> Result<(), StatisticsError> {
    let (own, theirs) = (&all.file, &other.file);
    let parts = |file: &StatisticsFile| -> Vec<(Vec<usize>, Option<usize>)> {
        let of = |stats: &Stats| (stats.channels.iter().map(|c| c.axis).collect(), stats.products());
        file.values.values().map(|v| of(&v.stats)).collect()
    };
    let conversion = |file: &StatisticsFile| file.shards.iter().find_map(|shard| shard.conversion.clone());
    let what = match () {
        () if own.model.inputs != theirs.model.inputs => {
            let inputs = |file: &StatisticsFile| file.model.inputs.join(", ");
            Some(format!("the model has inputs {} in one and {} in the other", inputs(own), inputs(theirs)))
        }
        () if own.model.digest != theirs.model.digest => {
            Some(format!("they are of different models, {} and {}", own.model.name, theirs.model.name))
        }
        () if !own.values.keys().eq(theirs.values.keys()) || parts(own) != parts(theirs) => {
            let targets = |file: &StatisticsFile| file.model.targets.join(", ");
            Some(format!("the model was lowered for {} in one and for {} in the other", targets(own), targets(theirs)))
        }
        () => match (conversion(own), conversion(theirs)) {
            (Some(own), Some(theirs)) if own != theirs => {
                Some(format!("pictures became inputs in different ways: {own}; {theirs}"))
            }
            _ => None,
        },
    };
    match what {
        Some(what) => Err(StatisticsError::Unlike { first: all.path.clone(), other: other.path.clone(), what }),
        None => Ok(()),
    }
}

/// Adds the statistics of other samples.
fn add(all: &mut StatisticsFile, other: StatisticsFile) {
    let model = &mut all.model;
    if other.model.name < model.name {
        model.name = other.model.name;
    }
    model.targets.extend(other.model.targets);
    model.targets.sort_unstable();
    model.targets.dedup();
    for (own, theirs) in all.values.values_mut().zip(other.values.into_values()) {
        own.stats.merge(theirs.stats);
    }
    all.shards.extend(other.shards);
    all.shards.sort_by_key(|shard| shard.samples.digest);
}

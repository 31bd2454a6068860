//! Merging of statistics.

use std::path::{Path, PathBuf};

use qcc_backends::{Files, unwritten};
use qcc_passes::quantize::matches;

use super::{Shard, StatisticsError, StatisticsFile, Stored};
use crate::artefact::{Protected, Publication};
use crate::outcome::Failure;

/// Merges the statistics of `files`, except those of data whose names match a pattern of `exclude`, and writes them to
/// `output`. The result depends neither on the order of the files nor on what was merged before.
///
/// # Errors
/// If a file cannot be read, files do not fit together, samples would count twice, excluded data are merged with others
/// already, or the output cannot be written.
pub fn merge(files: &[PathBuf], exclude: &[String], output: &Path) -> Result<StatisticsFile, Failure> {
    let mut protected = Protected::default();
    protected.add("a file that is merged", files.iter().cloned());
    let mut publication = Publication::new(protected);
    publication.artefact(output, &[])?;
    let mut all: Option<Stored> = None;
    // Which file each set of samples is from.
    let mut known: Vec<(PathBuf, Shard)> = Vec::new();
    let mut matched = vec![false; exclude.len()];
    for path in files {
        let one = Stored::read(path)?;
        if !is_kept(&one, exclude, &mut matched).map_err(Box::new)? {
            continue;
        }
        for shard in &one.file.shards {
            let twin = known.iter().find(|(_, k)| k.samples == shard.samples);
            if let Some((first, _)) = twin {
                let (first, other, shard) = (first.clone(), path.clone(), shard.name.clone());
                return Err(Box::new(StatisticsError::Twice { first, other, shard }).into());
            }
            known.push((path.clone(), shard.clone()));
        }
        match &mut all {
            Some(all) => add(all, one).map_err(Box::new)?,
            None => all = Some(one),
        }
    }
    if let Some((unmatched, _)) = exclude.iter().zip(&matched).find(|(_, matched)| !**matched) {
        return Err(Box::new(StatisticsError::NothingExcluded(unmatched.clone())).into());
    }
    let merged = all.ok_or_else(|| Failure::from(Box::new(StatisticsError::Empty)))?.file;
    write(&merged, publication)?;
    Ok(merged)
}

/// Writes statistics to the only artefact of a publication.
pub(crate) fn write(statistics: &StatisticsFile, mut publication: Publication) -> Result<(), Failure> {
    let bytes = statistics.to_bytes().map_err(unwritten)?;
    let mut files = publication.staged(0);
    let name = files.main().to_owned();
    files.create(&name).and_then(|file| file.write_all(&bytes)).map_err(unwritten)?;
    publication.publish()
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

/// Adds the statistics of other samples.
fn add(all: &mut Stored, other: Stored) -> Result<(), StatisticsError> {
    let (own, theirs) = (&all.file, &other.file);
    let axes = |file: &StatisticsFile| -> Vec<Vec<usize>> {
        file.values.values().map(|v| v.stats.channels.iter().map(|c| c.axis).collect()).collect()
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
        () if !own.values.keys().eq(theirs.values.keys()) || axes(own) != axes(theirs) => {
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
    if let Some(what) = what {
        return Err(StatisticsError::Unlike { first: all.path.clone(), other: other.path, what });
    }
    let model = &mut all.file.model;
    if other.file.model.name < model.name {
        model.name.clone_from(&other.file.model.name);
    }
    model.targets.extend(other.file.model.targets);
    model.targets.sort_unstable();
    model.targets.dedup();
    for (own, theirs) in all.file.values.values_mut().zip(other.file.values.into_values()) {
        own.stats.merge(theirs.stats);
    }
    all.file.shards.extend(other.file.shards);
    all.file.shards.sort_by_key(|shard| shard.samples.digest);
    Ok(())
}

//! Files of arrays, matched with the inputs of a graph.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qcc_ir::{Symbols, Tensor};

use super::DataError;
use super::array::{self, Array, Place};
use super::input::{Input, bound};
use super::preprocess::Preprocess;

/// What an array with as many axes as an input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// Elements of a batch, each a sample.
    Elements,
    /// One sample, if its extents are those of the input. It may lack the batch axis.
    OneSample,
}

/// A file of arrays, one for each input, with the inputs at the extents of its samples.
#[derive(Debug)]
pub(super) struct ArrayFile {
    pub(super) path: PathBuf,
    pub(super) arrays: Vec<Array>,
    pub(super) inputs: Vec<Input>,
    pub(super) samples: usize,
}

impl ArrayFile {
    /// Matches arrays with inputs, whose open extents are those of the arrays, or typical ones.
    pub(super) fn bind(
        path: &Path,
        arrays: Vec<(String, Place)>,
        inputs: &[Input],
        typical: &Symbols,
        holds: Holds,
        preprocess: Option<&Preprocess>,
    ) -> Result<Self, DataError> {
        let mut arrays = match_arrays(path, arrays, inputs)?;
        if holds == Holds::OneSample {
            for (array, input) in arrays.iter_mut().zip(inputs) {
                if input.takes(&[&[1], array.dims()].concat()) {
                    array.add_batch();
                }
            }
        }
        let extents = |(array, input): (&Array, &Input)| match holds {
            Holds::OneSample if input.takes(array.dims()) => input.own_extents(array.dims()),
            _ => input.extents(array.dims()),
        };
        let own = arrays.iter().zip(inputs).flat_map(extents).collect();
        let inputs = bound(inputs, typical, &own)?;
        let samples = array_samples(path, &mut arrays, &inputs)?;
        let file = ArrayFile { path: path.into(), arrays, inputs, samples };
        if file.are_pixels() && preprocess.is_none() {
            return Err(DataError::NoPreprocess);
        }
        Ok(file)
    }

    /// Unpacks the arrays that are compressed.
    pub(super) fn unpacked(mut self) -> Result<Self, DataError> {
        self.arrays.iter_mut().try_for_each(|array| array.unpack(&self.path))?;
        Ok(self)
    }

    /// True if an array holds bytes that are pixels.
    pub(super) fn are_pixels(&self) -> bool {
        self.arrays.iter().zip(&self.inputs).any(|(a, input)| a.is_pixels(&input.ty))
    }

    /// How values are converted, each way once.
    pub(super) fn treatment(&self, preprocess: Option<&Preprocess>) -> String {
        let each = self.arrays.iter().zip(&self.inputs).map(|(array, input)| array.treatment(&input.ty, preprocess));
        let mut told: Vec<String> = Vec::new();
        for treatment in each {
            if !told.contains(&treatment) {
                told.push(treatment);
            }
        }
        told.join("; ")
    }

    /// Reads sample `i`.
    pub(super) fn get(&self, i: usize, preprocess: Option<&Preprocess>) -> Result<Vec<Tensor>, DataError> {
        let pairs = self.arrays.iter().zip(&self.inputs);
        pairs.map(|(a, input)| a.sample(&self.path, i, &input.name, &input.ty, preprocess)).collect()
    }
}

/// Named arrays of a file, one for each input.
type Named = Vec<(String, Place)>;

/// Arrays that are opened when a sample is read. Their samples may differ in the open extents of inputs.
#[derive(Debug)]
pub(super) struct ArrayFiles {
    /// The files, or parts of files that have a list of arrays for each input.
    parts: Vec<(PathBuf, Named)>,
    /// The index of the first sample after each part.
    ends: Vec<usize>,
    /// The number of shapes that samples have.
    shapes: usize,
    inputs: Vec<Input>,
    typical: Symbols,
    /// The first file, without its elements.
    pub(super) first: ArrayFile,
}

impl ArrayFiles {
    /// Files of a folder: each has one sample or several, or a list of arrays for each input.
    pub(super) fn bind(
        paths: Vec<PathBuf>,
        inputs: &[Input],
        typical: &Symbols,
        preprocess: Option<&Preprocess>,
    ) -> Result<Self, DataError> {
        let mut parts = Vec::with_capacity(paths.len());
        for path in paths {
            let arrays = array::entries(&path)?;
            match listed(&arrays, inputs) {
                Some(samples) => parts.extend(samples.into_iter().map(|sample| (path.clone(), sample))),
                None => parts.push((path, arrays)),
            }
        }
        ArrayFiles::of_parts(parts, inputs, typical, preprocess)
    }

    /// Arrays of one file, or in memory, each list of which is for one sample.
    pub(super) fn of_parts(
        parts: Vec<(PathBuf, Named)>,
        inputs: &[Input],
        typical: &Symbols,
        preprocess: Option<&Preprocess>,
    ) -> Result<Self, DataError> {
        let none = || DataError::Inputs("there are no files of arrays".into());
        let (mut ends, mut shapes) = (Vec::with_capacity(parts.len()), BTreeSet::new());
        let (mut first, mut end) = (None, 0);
        for (path, arrays) in &parts {
            let file = ArrayFile::bind(path, arrays.clone(), inputs, typical, Holds::OneSample, preprocess)?;
            end += file.samples;
            ends.push(end);
            shapes.insert(file.inputs.iter().map(Input::dims).collect::<Vec<_>>());
            first.get_or_insert(file);
        }
        let first = first.ok_or_else(none)?;
        let (inputs, typical) = (inputs.to_vec(), typical.clone());
        Ok(ArrayFiles { parts, ends, shapes: shapes.len(), inputs, typical, first })
    }

    /// The number of samples.
    pub(super) fn samples(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The number of files, and how many shapes their samples have.
    pub(super) fn told(&self) -> String {
        let mut paths: Vec<&PathBuf> = self.parts.iter().map(|(path, _)| path).collect();
        paths.dedup();
        let files = match paths.len() {
            1 => "1 file".to_owned(),
            n => format!("{n} files"),
        };
        if self.shapes > 1 { format!("{files} with {} shapes", self.shapes) } else { files }
    }

    /// The part of sample `i`, and its index there.
    fn place(&self, i: usize) -> (&(PathBuf, Named), usize) {
        let part = self.ends.partition_point(|&end| end <= i);
        (&self.parts[part], i - part.checked_sub(1).map_or(0, |before| self.ends[before]))
    }

    /// The file of sample `i`.
    pub(super) fn path(&self, i: usize) -> &Path {
        &self.place(i).0.0
    }

    /// Reads sample `i`.
    pub(super) fn get(&self, i: usize, preprocess: Option<&Preprocess>) -> Result<Vec<Tensor>, DataError> {
        let ((path, arrays), i) = self.place(i);
        let file = ArrayFile::bind(path, arrays.clone(), &self.inputs, &self.typical, Holds::OneSample, preprocess)?;
        file.unpacked()?.get(i, preprocess)
    }
}

/// The arrays of each sample, where a file has a list of them for each input: `x_0`, `x_1` .. for an input `x`, or `arr_0`,
/// `arr_1` .. for the only one, as `numpy.savez(file, *samples)` names them.
pub(super) fn listed(arrays: &[(String, Place)], inputs: &[Input]) -> Option<Vec<Named>> {
    let samples = arrays.len().checked_div(inputs.len()).filter(|n| *n > 1 && n * inputs.len() == arrays.len())?;
    let known: BTreeMap<&str, &Place> = arrays.iter().map(|(name, place)| (name.as_str(), place)).collect();
    let array = |input: &Input, i: usize| {
        let unnamed = (inputs.len() == 1).then(|| format!("arr_{i}"));
        let names = [Some(format!("{}_{i}", input.name)), unnamed];
        let place = names.into_iter().flatten().find_map(|name| known.get(name.as_str()).copied())?;
        Some((input.name.clone(), place.clone()))
    };
    (0..samples).map(|i| inputs.iter().map(|input| array(input, i)).collect()).collect()
}

/// One array per input: by name, by position (`input_0`, `arr_0` ..), or the only array for the only input.
fn match_arrays(path: &Path, arrays: Vec<(String, Place)>, inputs: &[Input]) -> Result<Vec<Array>, DataError> {
    if let ([(name, only)], [_]) = (arrays.as_slice(), inputs) {
        return Ok(vec![Array::open(path, name, only.clone())?]);
    }
    // If two arrays have the same name, the first one is used.
    let mut known: BTreeMap<&str, &Place> = arrays.iter().rev().map(|(name, place)| (name.as_str(), place)).collect();
    let mut missing = Vec::new();
    let mut found = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let names = [input.name.clone(), format!("input_{i}"), format!("arr_{i}")];
        match names.iter().find_map(|n| known.remove_entry(n.as_str())) {
            Some(entry) => found.push(entry),
            None => missing.push(input.name.as_str()),
        }
    }
    if missing.is_empty() {
        return found.into_iter().map(|(name, place)| Array::open(path, name, place.clone())).collect();
    }
    let have: Vec<&str> = arrays.iter().map(|(n, _)| n.as_str()).collect();
    Err(DataError::Inputs(format!(
        "{} has no array for input {}; it has {}",
        path.display(),
        missing.join(", "),
        if have == [""] { "one array without a name".into() } else { have.join(", ") }
    )))
}

/// The number of samples, which must be equal for all arrays.
fn array_samples(path: &Path, arrays: &mut [Array], inputs: &[Input]) -> Result<usize, DataError> {
    let mut samples = None;
    for (array, input) in arrays.iter_mut().zip(inputs) {
        let n = array.fit(&input.dims()).ok_or_else(|| {
            DataError::Inputs(format!(
                "{}: an array of shape {} cannot feed input {}, which is {}",
                path.display(),
                array.shape(),
                input.name,
                input.ty
            ))
        })?;
        if *samples.get_or_insert(n) != n {
            return Err(DataError::Inputs(format!(
                "{}: input {} has {n} samples, the inputs before it {}",
                path.display(),
                input.name,
                samples.unwrap_or(0)
            )));
        }
    }
    match samples {
        Some(n) if n > 0 => Ok(n),
        _ => Err(DataError::Array { path: path.into(), reason: "there are no samples in it".into() }),
    }
}

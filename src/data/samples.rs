//! Data matched with the inputs of a graph: the source of each sample and its conversion.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::fits;
use qcc_ir::{Graph, Symbols, Tensor, ValueId};

use super::array::{Array, Place};
use super::input::{Image, Input, from_floats};
use super::random::Random;
use super::{
    DataError, Dataset, Preparation, Preprocess, RANDOM_SAMPLES, SYNTHETIC_PICTURES, SampleSource, Source, picture,
    synthetic,
};

impl Dataset {
    /// Matches the data with the inputs of a graph. `preprocess` converts image bytes to input values.
    ///
    /// # Errors
    /// If the data cannot feed these inputs, or images come without `preprocess`.
    pub fn bind(self, graph: &Graph, preprocess: Option<Preprocess>) -> Result<Samples, DataError> {
        let mut inputs: Vec<Input> =
            graph.inputs().map(|v| Input::of(graph.name(v).map_or("", |n| n), graph.ty(v))).collect();
        // Open extents are those of the data, or typical ones.
        let typical = graph.typical_extents();
        let settled = |inputs: Vec<Input>, own: &Symbols| {
            let mut symbols = typical.clone();
            symbols.extend(own.iter().map(|(name, n)| (name.clone(), *n)));
            inputs.into_iter().map(|input| input.bound(&symbols)).collect::<Result<Vec<_>, _>>()
        };
        if !matches!(self.source, Source::Pictures(_) | Source::Arrays { .. } | Source::Given(_)) {
            inputs = settled(inputs, &Symbols::default())?;
        }
        let (feed, available) = match self.source {
            Source::Pictures(paths) => {
                let own = match inputs.as_slice() {
                    [input] => picture_size(input, &paths)?,
                    _ => Symbols::default(),
                };
                inputs = settled(inputs, &own)?;
                let (image, preprocess) = prepared(&inputs, preprocess)?;
                let samples = paths.len().div_ceil(image.batch);
                (Feed::Pictures { paths, image, preprocess }, samples)
            }
            Source::Synthetic => {
                let (image, preprocess) = prepared(&inputs, preprocess)?;
                (Feed::Synthetic { image, preprocess }, self.part.most.unwrap_or(SYNTHETIC_PICTURES))
            }
            Source::Arrays { path, arrays } => {
                let mut arrays = match_arrays(&path, arrays, &inputs)?;
                let own = arrays.iter().zip(&inputs).flat_map(|(a, input)| input.extents(a.dims())).collect();
                inputs = settled(inputs, &own)?;
                let samples = array_samples(&path, &mut arrays, &inputs)?;
                let pixels = arrays.iter().zip(&inputs).any(|(a, input)| a.is_pixels(&input.ty));
                if pixels && preprocess.is_none() {
                    return Err(DataError::NoPreprocess);
                }
                arrays.iter_mut().try_for_each(|array| array.unpack(&path))?;
                (Feed::Arrays { path, arrays, preprocess }, samples)
            }
            Source::Given(source) if source.is_empty() => {
                return Err(DataError::Inputs("there are no samples in memory".into()));
            }
            Source::Given(source) => {
                let samples = source.len();
                (Feed::Given(source), samples)
            }
            Source::Random { seed } => (Feed::Random { seed }, self.part.most.unwrap_or(RANDOM_SAMPLES)),
        };
        let len = self.part.of(available);
        let places = (0..len).map(|i| i * available / len).collect();
        Ok(Samples { inputs, feed: Arc::new(feed), places, seen: Arc::default() })
    }
}

/// A multiple that the strides of most networks divide.
const SIZE_STEP: usize = 32;

/// The values of an open height and width: the size of the first picture, rounded up to a multiple of [`SIZE_STEP`].
fn picture_size(input: &Input, paths: &[PathBuf]) -> Result<Symbols, DataError> {
    let (Some([height, width]), Some(path)) = (input.open_size(), paths.first()) else { return Ok(Symbols::default()) };
    let (w, h) = picture::size(path)?;
    Ok([(width, w), (height, h)].into_iter().map(|(name, n)| (name, n.next_multiple_of(SIZE_STEP))).collect())
}

/// The image input and its preprocessing, for a model whose only input is an image.
fn prepared(inputs: &[Input], preprocess: Option<Preprocess>) -> Result<(Image, Preprocess), DataError> {
    let [input] = inputs else {
        return Err(DataError::Inputs(format!("pictures cannot feed a model with {} inputs", inputs.len())));
    };
    Ok((Image::of(input)?, preprocess.ok_or(DataError::NoPreprocess)?))
}

impl Preparation {
    /// Fails if a preprocessing option has no effect on any of the samples.
    ///
    /// # Errors
    /// If scaling is given for data that are used as they are, or colour order and resizing for data that are not
    /// images.
    pub(crate) fn check(&self, samples: &[&Option<Samples>]) -> Result<(), Box<Diagnostic>> {
        let any = |takes: fn(&Samples) -> bool| samples.iter().filter_map(|s| s.as_ref()).any(takes);
        if *self == Preparation::default() || samples.iter().all(|s| s.is_none()) {
            return Ok(());
        }
        if !any(Samples::are_pixels) {
            let message = "preprocessing applies to pictures and arrays of bytes only; these data are used as they are";
            let help = "save the numbers that the model takes, or uint8 pixels; or leave --preprocess, --scale, --mean, --std, --color and --resize out";
            return Err(Box::new(Diagnostic::error("unused-preparation", message).with_help(help)));
        }
        if (self.color.is_some() || self.fit.is_some()) && !any(Samples::are_pictures) {
            let message = "--color and --resize are for pictures: arrays have the colours and the size of the model";
            return Err(Box::new(Diagnostic::error("unused-preparation", message).with_help("leave them out")));
        }
        Ok(())
    }
}

#[derive(Debug)]
enum Feed {
    Pictures { paths: Vec<PathBuf>, image: Image, preprocess: Preprocess },
    Synthetic { image: Image, preprocess: Preprocess },
    Arrays { path: PathBuf, arrays: Vec<Array>, preprocess: Option<Preprocess> },
    Random { seed: u64 },
    Given(Arc<dyn SampleSource>),
}

/// Data matched with the inputs of a graph. Samples are read by index, from any thread.
#[derive(Clone, Debug)]
pub struct Samples {
    inputs: Vec<Input>,
    feed: Arc<Feed>,
    /// The index of each sample in the data.
    places: Vec<usize>,
    seen: Arc<Mutex<Seen>>,
}

/// What reading samples showed.
#[derive(Debug, Default)]
struct Seen {
    /// The minimum and maximum of all values that were read.
    range: Option<(f32, f32)>,
    /// The indices in the data of samples that could not be read.
    unread: BTreeSet<usize>,
}

impl Samples {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The values of open extents in the first sample that can be read, if the data are not random.
    pub(crate) fn extents(&self, graph: &Graph) -> Symbols {
        if self.is_random() || !graph.has_open_inputs() {
            return Symbols::default();
        }
        let first = (0..self.len()).find_map(|i| self.get(i).ok()).unwrap_or_default();
        let named = |(v, tensor): (ValueId, &Tensor)| {
            let dims = graph.ty(v).shape.dims().iter().zip(tensor.dims());
            dims.filter_map(|(d, n)| Some((d.as_symbol()?.clone(), n))).collect::<Vec<_>>()
        };
        graph.inputs().zip(&first).flat_map(named).collect()
    }

    /// The files that these samples are read from.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match &*self.feed {
            Feed::Pictures { paths, .. } => self.places.iter().map(|&place| paths[place].as_path()).collect(),
            Feed::Arrays { path, arrays, .. } if arrays.iter().any(Array::is_in_file) => vec![path],
            Feed::Arrays { .. } => Vec::new(),
            Feed::Synthetic { .. } | Feed::Random { .. } | Feed::Given(_) => Vec::new(),
        }
    }

    /// True if samples are random numbers.
    pub fn is_random(&self) -> bool {
        matches!(*self.feed, Feed::Random { .. })
    }

    /// Number of synthetic pictures; `None` if samples are other data.
    pub fn synthetic(&self) -> Option<usize> {
        match &*self.feed {
            Feed::Synthetic { image, .. } => Some(self.len() * image.batch),
            _ => None,
        }
    }

    /// The samples without `n` of them, and these `n`, spread evenly over all.
    pub fn split(&self, n: usize) -> (Samples, Samples) {
        let n = n.min(self.len());
        let apart: BTreeSet<usize> = (0..n).map(|k| (2 * k + 1) * self.len() / (2 * n)).collect();
        let with = |inside: bool| {
            let chosen = self.places.iter().enumerate().filter(|(i, _)| apart.contains(i) == inside);
            Samples { places: chosen.map(|(_, &place)| place).collect(), seen: Arc::default(), ..self.clone() }
        };
        (with(false), with(true))
    }

    /// At most `n` of the samples, spread evenly over all.
    pub fn thinned(&self, n: usize) -> Samples {
        if self.len() <= n { self.clone() } else { self.split(n).1 }
    }

    /// Reads sample `i`: one row-major tensor for each input of the graph, in order.
    ///
    /// # Errors
    /// If an image of the sample cannot be decoded or a file cannot be read. Other samples may still be readable.
    pub fn get(&self, i: usize) -> Result<Vec<Tensor>, DataError> {
        let tensors = self.read(self.places[i]).inspect_err(|_| {
            self.seen().unread.insert(self.places[i]);
        })?;
        for tensor in tensors.iter().filter(|t| t.ty().elem.is_float()) {
            let of =
                tensor.floats().iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &x| (lo.min(x), hi.max(x)));
            let mut seen = self.seen();
            seen.range = Some(seen.range.map_or(of, |(lo, hi)| (lo.min(of.0), hi.max(of.1))));
        }
        Ok(tensors)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if samples are made from images.
    pub fn are_pictures(&self) -> bool {
        matches!(*self.feed, Feed::Pictures { .. } | Feed::Synthetic { .. })
    }

    /// True if images or bytes are converted by a [`Preprocess`].
    pub fn are_pixels(&self) -> bool {
        match &*self.feed {
            Feed::Pictures { .. } | Feed::Synthetic { .. } => true,
            Feed::Arrays { arrays, .. } => arrays.iter().zip(&self.inputs).any(|(a, input)| a.is_pixels(&input.ty)),
            Feed::Random { .. } | Feed::Given(_) => false,
        }
    }

    /// How pixels become inputs; `None` if the samples are not pixels.
    pub(crate) fn conversion(&self) -> Option<String> {
        match &*self.feed {
            Feed::Pictures { image, preprocess, .. } | Feed::Synthetic { image, preprocess } => {
                Some(preprocess.told(image.channels))
            }
            Feed::Arrays { preprocess, .. } if self.are_pixels() => preprocess.as_ref().map(|p| p.numbers()),
            Feed::Arrays { .. } | Feed::Random { .. } | Feed::Given(_) => None,
        }
    }

    fn read(&self, place: usize) -> Result<Vec<Tensor>, DataError> {
        match &*self.feed {
            Feed::Pictures { paths, image, preprocess } => {
                // The last batch is completed with the first images.
                let batch = (place * image.batch..(place + 1) * image.batch).map(|p| &paths[p % paths.len()]);
                let fit = |pixels| preprocess.fitted(pixels, image);
                let pixels =
                    batch.map(|path| picture::read(path, image.channels, fit)).collect::<Result<Vec<_>, _>>()?;
                Ok(vec![preprocess.tensor(pixels, image, &self.inputs[0].ty)?])
            }
            Feed::Synthetic { image, preprocess } => {
                let batch = place * image.batch..(place + 1) * image.batch;
                let made = batch.map(|k| preprocess.fitted(synthetic::picture(k as u64, image), image));
                let made = made.collect::<Result<Vec<_>, _>>().map_err(DataError::Inputs)?;
                Ok(vec![preprocess.tensor(made, image, &self.inputs[0].ty)?])
            }
            Feed::Arrays { path, arrays, preprocess } => {
                let pairs = arrays.iter().zip(&self.inputs);
                pairs.map(|(a, input)| a.sample(path, place, &input.name, &input.ty, preprocess.as_ref())).collect()
            }
            Feed::Random { seed } => {
                let mut random = Random::new(seed.wrapping_add(place as u64));
                self.inputs.iter().map(|input| noise(&mut random, input)).collect()
            }
            Feed::Given(source) => {
                let failed = |reason| DataError::Sample { number: place, reason };
                let tensors = source.get(place).map_err(failed)?;
                self.check(&tensors).map_err(failed)?;
                Ok(tensors)
            }
        }
    }
}

impl Samples {
    /// Fails if the tensors do not have the types of the inputs.
    fn check(&self, tensors: &[Tensor]) -> Result<(), String> {
        if tensors.len() != self.inputs.len() {
            return Err(format!("{} tensors for {} inputs", tensors.len(), self.inputs.len()));
        }
        match tensors.iter().zip(&self.inputs).find(|(t, input)| !fits(t.ty(), &input.ty)) {
            Some((t, input)) => Err(format!("a tensor of {} for input {}, which is {}", t.ty(), input.name, input.ty)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Samples {
    /// A short description of the data and their conversion.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.seen();
        let len = self.places.iter().filter(|place| !seen.unread.contains(place)).count();
        let of_pictures = |image: &Image, preprocess: &Preprocess, kind: &str| {
            let (count, size) = (len * image.batch, format!("{}x{}", image.width, image.height));
            format!("{count} {kind}, {size} {}", preprocess.told(image.channels))
        };
        match &*self.feed {
            Feed::Pictures { image, preprocess, .. } => f.write_str(&of_pictures(image, preprocess, "pictures"))?,
            Feed::Synthetic { image, preprocess } => {
                f.write_str(&of_pictures(image, preprocess, "synthetic pictures"))?;
            }
            Feed::Arrays { path, arrays, preprocess } => {
                write!(f, "{len} samples of {}", path.display())?;
                let mut told: Vec<String> = Vec::new();
                for (array, input) in arrays.iter().zip(&self.inputs) {
                    let treatment = array.treatment(&input.ty, preprocess.as_ref());
                    if !told.contains(&treatment) {
                        told.push(treatment);
                    }
                }
                write!(f, " ({})", told.join("; "))?;
            }
            Feed::Given(_) => write!(f, "{len} samples in memory")?,
            Feed::Random { seed } => write!(f, "{len} random samples (seed {seed})")?,
        }
        match seen.range {
            Some((lo, hi)) => write!(f, ", values from {lo:.4} to {hi:.4}"),
            None => Ok(()),
        }
    }
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

/// A tensor of random numbers: floats from 0 to 1, integers 0 or 1.
fn noise(random: &mut Random, input: &Input) -> Result<Tensor, DataError> {
    let n = input.ty.shape.elements().unwrap_or(0);
    let is_float = input.ty.elem.is_float();
    let values = (0..n).map(|_| if is_float { random.unit() } else { random.bit() }).collect();
    from_floats(&input.name, &input.ty, values)
}

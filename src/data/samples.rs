//! Data matched with the inputs of a graph: the source of each sample and its conversion.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::fits;
use qcc_ir::vector::summary;
use qcc_ir::{Graph, Symbols, Tensor, ValueId};

use crate::unfinished::Scratch;

use super::array::Array;
use super::files::{ArrayFile, ArrayFiles, Holds, listed};
use super::input::{Image, Input, bound, from_floats};
use super::random::Random;
use super::{DataError, Dataset, Preparation, Preprocess, RANDOM_SAMPLES, SampleSource, Source, built_in, picture};

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
        let (feed, available) = match self.source {
            Source::Pictures(paths) => {
                let own = match inputs.as_slice() {
                    [input] => picture_size(input, &paths)?,
                    _ => Symbols::default(),
                };
                inputs = bound(&inputs, &typical, &own)?;
                let (image, preprocess) = prepared(&inputs, preprocess)?;
                let samples = paths.len().div_ceil(image.batch);
                (Feed::Pictures { paths, image, preprocess }, samples)
            }
            Source::Synthetic => {
                inputs = bound(&inputs, &typical, &Symbols::default())?;
                let (image, preprocess) = prepared(&inputs, preprocess)?;
                (Feed::Synthetic { image, preprocess }, self.part.most.unwrap_or(built_in::PICTURES))
            }
            Source::Arrays { path, arrays } => match listed(&arrays, &inputs) {
                Some(samples) => {
                    let parts = samples.into_iter().map(|sample| (path.clone(), sample)).collect();
                    let files = ArrayFiles::of_parts(parts, &inputs, &typical, preprocess.as_ref())?;
                    of_files(path, files, &mut inputs, preprocess)
                }
                None => {
                    let holds = Holds::Elements;
                    let file =
                        ArrayFile::bind(&path, arrays, &inputs, &typical, holds, preprocess.as_ref())?.unpacked()?;
                    inputs.clone_from(&file.inputs);
                    let samples = file.samples;
                    (Feed::Arrays { file, preprocess }, samples)
                }
            },
            Source::Files { folder, paths } => {
                let files = ArrayFiles::bind(paths, &inputs, &typical, preprocess.as_ref())?;
                of_files(folder, files, &mut inputs, preprocess)
            }
            Source::Given(source) if source.is_empty() => {
                return Err(DataError::Inputs("there are no samples in memory".into()));
            }
            Source::Given(source) => {
                let samples = source.len();
                (Feed::Given(source), samples)
            }
            Source::Random { seed } => {
                inputs = bound(&inputs, &typical, &Symbols::default())?;
                (Feed::Random { seed }, self.part.most.unwrap_or(RANDOM_SAMPLES))
            }
        };
        let len = self.part.of(available);
        let places = (0..len).map(|i| i * available / len).collect();
        Ok(Samples { inputs, feed: Arc::new(feed), places, seen: Arc::default(), _unpacked: self.unpacked })
    }
}

/// The feed of files, whose inputs become those of the first one, and the number of samples.
fn of_files(
    folder: PathBuf,
    files: ArrayFiles,
    inputs: &mut Vec<Input>,
    preprocess: Option<Preprocess>,
) -> (Feed, usize) {
    inputs.clone_from(&files.first.inputs);
    let samples = files.samples();
    (Feed::Files { folder, files, preprocess }, samples)
}

/// A multiple that the strides of most networks divide.
const SIZE_STEP: usize = 32;

/// The values of an open height and width: the size of the first picture, rounded up to a multiple of [`SIZE_STEP`].
fn picture_size(input: &Input, paths: &[PathBuf]) -> Result<Symbols, DataError> {
    let (Some([height, width]), Some(path)) = (input.open_size(), paths.first()) else { return Ok(Symbols::default()) };
    let (w, h) = picture::size(path)?;
    let solved = [(width, w), (height, h)].into_iter().filter_map(|(dim, n)| dim.solved(n.next_multiple_of(SIZE_STEP)));
    Ok(solved.map(|(symbol, n)| (symbol.clone(), n)).collect())
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
    Arrays { file: ArrayFile, preprocess: Option<Preprocess> },
    Files { folder: PathBuf, files: ArrayFiles, preprocess: Option<Preprocess> },
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
    /// The folder of an archive's files, which exists as long as they are read.
    _unpacked: Option<Arc<Scratch>>,
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
        let named = |(v, tensor): (ValueId, &Tensor)| Input::of("", graph.ty(v)).own_extents(&tensor.dims());
        graph.inputs().zip(&first).flat_map(named).collect()
    }

    /// The files that these samples are read from.
    pub(crate) fn files(&self) -> Vec<&Path> {
        match &*self.feed {
            Feed::Pictures { paths, .. } => self.places.iter().map(|&place| paths[place].as_path()).collect(),
            Feed::Arrays { file, .. } if file.arrays.iter().any(Array::is_in_file) => vec![&file.path],
            Feed::Arrays { .. } => Vec::new(),
            Feed::Files { files, .. } if files.first.arrays.iter().any(Array::is_in_file) => {
                let mut paths: Vec<&Path> = self.places.iter().map(|&place| files.path(place)).collect();
                paths.dedup();
                paths
            }
            Feed::Files { .. } => Vec::new(),
            Feed::Synthetic { .. } | Feed::Random { .. } | Feed::Given(_) => Vec::new(),
        }
    }

    /// True if samples are random numbers.
    pub fn is_random(&self) -> bool {
        matches!(*self.feed, Feed::Random { .. })
    }

    /// Number of built-in pictures; `None` if samples are other data.
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
            let (_, lo, hi) = summary(&tensor.floats());
            let of = (lo, hi);
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
            Feed::Arrays { file, .. } | Feed::Files { files: ArrayFiles { first: file, .. }, .. } => file.are_pixels(),
            Feed::Random { .. } | Feed::Given(_) => false,
        }
    }

    /// How pixels become inputs; `None` if the samples are not pixels.
    pub(crate) fn conversion(&self) -> Option<String> {
        match &*self.feed {
            Feed::Pictures { image, preprocess, .. } | Feed::Synthetic { image, preprocess } => {
                Some(preprocess.told(image.channels))
            }
            Feed::Arrays { preprocess, .. } | Feed::Files { preprocess, .. } if self.are_pixels() => {
                preprocess.as_ref().map(|p| p.numbers())
            }
            Feed::Arrays { .. } | Feed::Files { .. } | Feed::Random { .. } | Feed::Given(_) => None,
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
                let made = batch.map(|k| preprocess.fitted(built_in::picture(k, image)?, image));
                let made = made.collect::<Result<Vec<_>, _>>().map_err(DataError::Inputs)?;
                Ok(vec![preprocess.tensor(made, image, &self.inputs[0].ty)?])
            }
            Feed::Arrays { file, preprocess } => file.get(place, preprocess.as_ref()),
            Feed::Files { files, preprocess, .. } => files.get(place, preprocess.as_ref()),
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
                f.write_str(&of_pictures(image, preprocess, "built-in pictures"))?;
            }
            Feed::Arrays { file, preprocess } => {
                write!(f, "{len} samples of {} ({})", file.path.display(), file.treatment(preprocess.as_ref()))?;
            }
            Feed::Files { folder, files, preprocess } => {
                let treatment = files.first.treatment(preprocess.as_ref());
                write!(f, "{len} samples of {} ({}; {treatment})", folder.display(), files.told())?;
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

/// A tensor of random numbers: floats from 0 to 1, integers 0 or 1.
fn noise(random: &mut Random, input: &Input) -> Result<Tensor, DataError> {
    let n = input.ty.shape.elements().unwrap_or(0);
    let is_float = input.ty.elem.is_float();
    let values = (0..n).map(|_| if is_float { random.unit() } else { random.bit() }).collect();
    from_floats(&input.name, &input.ty, values)
}

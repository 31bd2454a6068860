//! Calibration data: pictures and arrays on disk, turned into inputs of a graph one sample at a time.
//!
//! A [`Dataset`] is what lies on disk; [`Dataset::bind`] makes it [`Samples`] of one graph. A sample is read when it
//! is asked for, by any thread, and nothing is kept: memory does not grow with the number of samples.

mod array;
mod listing;
mod picture;
mod preprocess;
mod resize;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Dim, Elem, Graph, Shape, Tensor, TensorType};

use array::{Array, Place};
use listing::Listing;
pub use picture::panic_is_contained;
pub use preprocess::{Color, Fit, Preparation, Preprocess};

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The path is of no kind that holds data.
    #[error("{} is no calibration data", .0.display())]
    Kind(PathBuf),
    /// A dataset yaml that does not say where its pictures are.
    #[error("{}: {reason}", path.display())]
    Yaml {
        /// The yaml file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No pictures where pictures should be.
    #[error("{} holds no pictures", .0.display())]
    Empty(PathBuf),
    /// A picture that cannot be decoded.
    #[error("{}: {reason}", path.display())]
    Picture {
        /// The picture.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An array file that cannot be used.
    #[error("{}: {reason}", path.display())]
    Array {
        /// The .npy or .npz file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model's inputs are not what this data can feed.
    #[error("{0}")]
    Inputs(String),
    /// Nothing says how picture values become model inputs.
    #[error("the model does not say how pictures become its input")]
    NoPreprocess,
}

impl From<&DataError> for Diagnostic {
    fn from(e: &DataError) -> Self {
        let (code, help) = match e {
            DataError::Unreadable { .. } => ("unreadable-data", None),
            DataError::Kind(_) => {
                ("unknown-data", Some("give a dataset .yaml, a folder of pictures, a .txt list, a .npy or a .npz file"))
            }
            DataError::Yaml { .. } => ("bad-dataset", None),
            DataError::Empty(_) => ("empty-dataset", Some("pictures are .jpg, .jpeg, .png, .bmp and .webp files")),
            DataError::Picture { .. } => ("bad-picture", None),
            DataError::Array { .. } => ("bad-array", None),
            DataError::Inputs(_) => (
                "data-mismatch",
                Some(
                    "give a .npz file with one array for each input, named as the input, samples along its first axis",
                ),
            ),
            DataError::NoPreprocess => (
                "no-preprocess",
                Some(
                    "say how the model was trained: --preprocess yolo|imagenet|none, or --scale 1/255 with --mean, --std, --color, --resize",
                ),
            ),
        };
        let d = Diagnostic::error(code, e.to_string());
        match help {
            Some(h) => d.with_help(h),
            None => d,
        }
    }
}

/// Calibration data on disk.
#[derive(Debug)]
pub struct Dataset {
    source: Source,
    /// The files that name the pictures.
    lists: Vec<PathBuf>,
    limit: Option<usize>,
}

#[derive(Debug)]
enum Source {
    Pictures(Vec<PathBuf>),
    Arrays { path: PathBuf, arrays: Vec<(String, Place)> },
    Random { seed: u64 },
}

/// Samples of [`Dataset::random`] where no number is asked for.
const RANDOM_SAMPLES: usize = 8;

impl Dataset {
    /// Opens a dataset yaml (Ultralytics' form), a folder of pictures, a list of pictures (.txt), one picture, a .npy
    /// or a .npz file. Nothing is ever downloaded.
    ///
    /// # Errors
    /// Where the path is none of these, cannot be read, or holds nothing.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let kind = std::fs::metadata(path).map_err(|source| DataError::Unreadable { path: path.into(), source })?;
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let Listing { pictures, lists } = match extension.as_str() {
            _ if kind.is_dir() => listing::folder(path)?.into(),
            _ if !kind.is_file() => return Err(DataError::Kind(path.into())),
            "yaml" | "yml" => listing::yaml(path)?,
            "txt" => listing::list_file(path)?,
            e if listing::PICTURES.contains(&e) => vec![path.to_path_buf()].into(),
            "npy" => return Ok(Dataset::arrays(path, vec![(String::new(), Place::File)])),
            "npz" => return Ok(Dataset::arrays(path, array::entries(path)?)),
            _ => return Err(DataError::Kind(path.into())),
        };
        if pictures.is_empty() {
            return Err(DataError::Empty(path.into()));
        }
        Ok(Dataset { source: Source::Pictures(pictures), lists, limit: None })
    }

    fn arrays(path: &Path, arrays: Vec<(String, Place)>) -> Self {
        Dataset { source: Source::Arrays { path: path.into(), arrays }, lists: Vec::new(), limit: None }
    }

    /// Random numbers, the same for the same seed: floats from 0 to 1, integers 0 or 1. They fit no model; ranges
    /// found on them are wrong for real inputs.
    pub fn random(seed: u64) -> Self {
        Dataset { source: Source::Random { seed }, lists: Vec::new(), limit: None }
    }

    /// The same data with at most `n` samples, spread evenly over the whole.
    pub fn limited(self, n: usize) -> Self {
        Dataset { limit: Some(n), ..self }
    }

    /// All files that the data are read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let own = match &self.source {
            Source::Pictures(pictures) => pictures.clone(),
            Source::Arrays { path, .. } => vec![path.clone()],
            Source::Random { .. } => Vec::new(),
        };
        self.lists.iter().cloned().chain(own).collect()
    }

    /// True where samples are made from pictures.
    pub fn is_pictures(&self) -> bool {
        matches!(self.source, Source::Pictures(_))
    }

    /// Matches the data with the inputs of a graph. `preprocess` says how bytes of pictures become numbers.
    ///
    /// # Errors
    /// Where the data cannot feed these inputs, or pictures come without `preprocess`.
    pub fn bind(self, graph: &Graph, preprocess: Option<Preprocess>) -> Result<Samples, DataError> {
        let inputs = graph.inputs().map(|v| Input::of(graph.name(v).map_or("", |n| n), graph.ty(v)));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let (feed, available) = match self.source {
            Source::Pictures(paths) => {
                let [input] = inputs.as_slice() else {
                    return Err(DataError::Inputs(format!(
                        "pictures cannot feed a model with {} inputs",
                        inputs.len()
                    )));
                };
                let image = Image::of(input)?;
                let preprocess = preprocess.ok_or(DataError::NoPreprocess)?;
                let samples = paths.len().div_ceil(image.batch);
                (Feed::Pictures { paths, image, preprocess }, samples)
            }
            Source::Arrays { path, arrays } => {
                let mut arrays = match_arrays(&path, arrays, &inputs)?;
                let samples = array_samples(&path, &mut arrays, &inputs)?;
                let pixels = arrays.iter().zip(&inputs).any(|(a, input)| a.is_pixels(&input.ty));
                if pixels && preprocess.is_none() {
                    return Err(DataError::NoPreprocess);
                }
                arrays.iter_mut().try_for_each(|array| array.unpack(&path))?;
                (Feed::Arrays { path, arrays, preprocess }, samples)
            }
            Source::Random { seed } => (Feed::Random { seed }, self.limit.unwrap_or(RANDOM_SAMPLES)),
        };
        let len = self.limit.map_or(available, |n| n.min(available));
        let places = (0..len).map(|i| i * available / len).collect();
        Ok(Samples { inputs, feed: Arc::new(feed), places, seen: Arc::default() })
    }
}

/// A graph input: its name and its type, an open leading extent taken as 1.
#[derive(Clone, Debug)]
struct Input {
    name: String,
    ty: TensorType,
}

impl Input {
    fn of(name: &str, ty: &TensorType) -> Result<Self, DataError> {
        let first_open = |(i, d): (usize, &Dim)| match d {
            Dim::Sym(_) if i == 0 => Dim::Known(1),
            d => d.clone(),
        };
        let shape: Shape = ty.shape.dims().iter().enumerate().map(first_open).collect();
        if shape.elements().is_none() {
            return Err(DataError::Inputs(format!("input {name} is {ty}: its extents must be numbers to be fed")));
        }
        Ok(Input { name: name.into(), ty: TensorType::new(ty.elem.clone(), shape) })
    }

    fn dims(&self) -> Vec<usize> {
        self.ty.shape.dims().iter().filter_map(Dim::known).collect()
    }
}

/// What a picture becomes: extents of an input, and whether its channels lie last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels_last: bool,
}

impl Image {
    fn of(input: &Input) -> Result<Self, DataError> {
        let is_channels = |c: usize| c == 1 || c == 3;
        match *input.dims().as_slice() {
            [batch, channels, height, width] if is_channels(channels) && batch > 0 => {
                Ok(Image { batch, channels, height, width, channels_last: false })
            }
            [batch, height, width, channels] if is_channels(channels) && batch > 0 => {
                Ok(Image { batch, channels, height, width, channels_last: true })
            }
            _ => Err(DataError::Inputs(format!(
                "pictures cannot feed input {}, which is {}: neither [N,C,H,W] nor [N,H,W,C] with 1 or 3 channels",
                input.name, input.ty
            ))),
        }
    }
}

#[derive(Debug)]
enum Feed {
    Pictures { paths: Vec<PathBuf>, image: Image, preprocess: Preprocess },
    Arrays { path: PathBuf, arrays: Vec<Array>, preprocess: Option<Preprocess> },
    Random { seed: u64 },
}

/// Data matched with the inputs of a graph. Samples are read by number, from any thread.
#[derive(Clone, Debug)]
pub struct Samples {
    inputs: Vec<Input>,
    feed: Arc<Feed>,
    /// Where each sample lies in the data.
    places: Vec<usize>,
    /// The smallest and the largest number that was read.
    seen: Arc<Mutex<Option<(f32, f32)>>>,
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

    /// True where samples are random numbers.
    pub fn is_random(&self) -> bool {
        matches!(*self.feed, Feed::Random { .. })
    }

    /// The samples without `n` of them, and those, spread evenly over the whole.
    pub fn split(&self, n: usize) -> (Samples, Samples) {
        let n = n.min(self.len());
        let apart: BTreeSet<usize> = (0..n).map(|k| (2 * k + 1) * self.len() / (2 * n)).collect();
        let with = |inside: bool| {
            let chosen = self.places.iter().enumerate().filter(|(i, _)| apart.contains(i) == inside);
            Samples { places: chosen.map(|(_, &place)| place).collect(), seen: Arc::default(), ..self.clone() }
        };
        (with(false), with(true))
    }

    /// At most `n` of the samples, spread evenly over the whole.
    pub fn thinned(&self, n: usize) -> Samples {
        if self.len() <= n { self.clone() } else { self.split(n).1 }
    }

    /// Reads sample `i`: one row-major tensor for each input of the graph, in its order.
    ///
    /// # Errors
    /// Where a picture of the sample cannot be decoded or a file cannot be read. Other samples may still be good.
    pub fn get(&self, i: usize) -> Result<Vec<Tensor>, DataError> {
        let tensors = self.read(self.places[i])?;
        for tensor in tensors.iter().filter(|t| t.ty().elem.is_float()) {
            let of =
                tensor.reals().iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &x| (lo.min(x), hi.max(x)));
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = Some(seen.map_or(of, |(lo, hi)| (lo.min(of.0), hi.max(of.1))));
        }
        Ok(tensors)
    }

    /// True where samples are made from pictures.
    pub fn are_pictures(&self) -> bool {
        matches!(*self.feed, Feed::Pictures { .. })
    }

    /// True where pictures or bytes become numbers by a [`Preprocess`].
    pub fn are_pixels(&self) -> bool {
        match &*self.feed {
            Feed::Pictures { .. } => true,
            Feed::Arrays { arrays, .. } => arrays.iter().zip(&self.inputs).any(|(a, input)| a.is_pixels(&input.ty)),
            Feed::Random { .. } => false,
        }
    }

    fn read(&self, place: usize) -> Result<Vec<Tensor>, DataError> {
        match &*self.feed {
            Feed::Pictures { paths, image, preprocess } => {
                // The last batch is filled up with the first pictures.
                let batch = (place * image.batch..(place + 1) * image.batch).map(|p| &paths[p % paths.len()]);
                let fit = |pixels| preprocess.fitted(pixels, image);
                let pixels =
                    batch.map(|path| picture::read(path, image.channels, fit)).collect::<Result<Vec<_>, _>>()?;
                Ok(vec![preprocess.tensor(pixels, image, &self.inputs[0].ty)?])
            }
            Feed::Arrays { path, arrays, preprocess } => {
                let pairs = arrays.iter().zip(&self.inputs);
                pairs.map(|(a, input)| a.sample(path, place, &input.name, &input.ty, preprocess.as_ref())).collect()
            }
            Feed::Random { seed } => {
                let mut random = Random(seed.wrapping_add(place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                self.inputs.iter().map(|input| random.tensor(input)).collect()
            }
        }
    }
}

impl fmt::Display for Samples {
    /// What is fed and how, in a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.len();
        match &*self.feed {
            Feed::Pictures { image, preprocess, .. } => {
                write!(f, "{} pictures, {}x{} {preprocess}", len * image.batch, image.width, image.height)?;
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
            Feed::Random { seed } => write!(f, "{len} random samples (seed {seed})")?,
        }
        match *self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((lo, hi)) => write!(f, ", values from {lo:.4} to {hi:.4}"),
            None => Ok(()),
        }
    }
}

/// One array for each input: by name, by position (`input_0`, `arr_0` ..), or the only one for the only input.
fn match_arrays(path: &Path, arrays: Vec<(String, Place)>, inputs: &[Input]) -> Result<Vec<Array>, DataError> {
    if let ([(name, only)], [_]) = (arrays.as_slice(), inputs) {
        return Ok(vec![Array::open(path, name, *only)?]);
    }
    // Of two with one name the first counts.
    let mut known: BTreeMap<&str, Place> = arrays.iter().rev().map(|(name, place)| (name.as_str(), *place)).collect();
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
        return found.into_iter().map(|(name, place)| Array::open(path, name, place)).collect();
    }
    let have: Vec<&str> = arrays.iter().map(|(n, _)| n.as_str()).collect();
    Err(DataError::Inputs(format!(
        "{} has no array for input {}; it has {}",
        path.display(),
        missing.join(", "),
        if have == [""] { "one array without a name".into() } else { have.join(", ") }
    )))
}

/// The number of samples, the same in all arrays.
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

/// SplitMix64 (Steele, Lea, Flood 2014): enough for noise, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn tensor(&mut self, input: &Input) -> Result<Tensor, DataError> {
        let shape = input.ty.shape.clone();
        let n = shape.elements().unwrap_or(0);
        let values: Vec<f32> = (0..n)
            .map(|_| match input.ty.elem.is_float() {
                true => (self.next() >> 40) as f32 / (1u32 << 24) as f32,
                false => (self.next() >> 63) as f32,
            })
            .collect();
        from_reals(&input.name, &input.ty, values)
    }
}

/// A tensor of type `ty` that holds `values`, which are whole numbers where `ty` is an integer.
fn from_reals(name: &str, ty: &TensorType, values: Vec<f32>) -> Result<Tensor, DataError> {
    let shape = ty.shape.clone();
    Ok(match ty.elem {
        Elem::F32 => Tensor::from_vec(shape, values),
        Elem::F16 => Tensor::from_vec(shape, values.into_iter().map(half::f16::from_f32).collect()),
        Elem::Bool => Tensor::from_bools(shape, values.into_iter().map(|v| v != 0.0)),
        Elem::I8 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i8).collect()),
        Elem::U8 => Tensor::from_vec(shape, values.into_iter().map(|v| v as u8).collect()),
        Elem::I16 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i16).collect()),
        Elem::I32 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i32).collect()),
        Elem::I64 => Tensor::from_vec(shape, values.into_iter().map(|v| v as i64).collect()),
        Elem::Grid(_) => return Err(DataError::Inputs(format!("input {name} is {ty}: data feeds real inputs only"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(inputs: &[(&str, TensorType)]) -> Graph {
        let mut g = Graph::new("g");
        for (name, ty) in inputs {
            g.add_input(*name, ty.clone());
        }
        g
    }

    /// Grey pictures of one pixel with values 0, 1, 2 ..
    fn pictures(n: u8) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for v in 0..n {
            image::GrayImage::from_raw(1, 1, vec![v]).unwrap().save(dir.path().join(format!("{v}.png"))).unwrap();
        }
        dir
    }

    fn firsts(samples: &Samples) -> Vec<Vec<f32>> {
        (0..samples.len()).map(|i| samples.get(i).unwrap()[0].view::<f32>().into_owned()).collect()
    }

    #[test]
    fn a_limit_spreads_over_all_pictures() {
        let dir = pictures(10);
        let g = graph(&[("x", TensorType::f32(&[1, 1, 1, 1]))]);
        let all = |n| Dataset::open(dir.path()).unwrap().limited(n).bind(&g, Some(Preprocess::NONE)).unwrap();
        assert_eq!(firsts(&all(5)).concat(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(firsts(&all(3)).concat(), [0.0, 3.0, 6.0]);
        assert_eq!(all(99).len(), 10);
    }

    #[test]
    fn a_fixed_batch_is_filled_up() {
        let dir = pictures(3);
        let g = graph(&[("x", TensorType::f32(&[2, 1, 1, 1]))]);
        let samples = Dataset::open(dir.path()).unwrap().bind(&g, Some(Preprocess::NONE)).unwrap();
        assert_eq!(firsts(&samples), [[0.0, 1.0], [2.0, 0.0]]);
    }

    #[test]
    fn an_open_batch_is_one() {
        let dir = pictures(1);
        let open: Shape = [Dim::Sym("n".into()), Dim::Known(3), Dim::Known(2), Dim::Known(2)].into_iter().collect();
        let g = graph(&[("x", TensorType::new(Elem::F32, open))]);
        let samples = Dataset::open(dir.path()).unwrap().bind(&g, Some(Preprocess::YOLO)).unwrap();
        assert_eq!(samples.get(0).unwrap()[0].dims(), [1, 3, 2, 2]);
    }

    #[test]
    fn one_broken_picture_leaves_the_others() {
        let dir = pictures(2);
        std::fs::write(dir.path().join("1.png"), "no picture").unwrap();
        let g = graph(&[("x", TensorType::f32(&[1, 1, 1, 1]))]);
        let samples = Dataset::open(dir.path()).unwrap().bind(&g, Some(Preprocess::NONE)).unwrap();
        assert!(samples.get(0).is_ok());
        assert!(matches!(samples.get(1), Err(DataError::Picture { path, .. }) if path.ends_with("1.png")));
    }

    #[test]
    fn pictures_need_an_image_input_and_a_preprocess() {
        let dir = pictures(1);
        let bind = |g: &Graph, p| Dataset::open(dir.path()).unwrap().bind(g, p).unwrap_err();
        let image = TensorType::f32(&[1, 3, 2, 2]);
        assert!(matches!(bind(&graph(&[("x", image.clone())]), None), DataError::NoPreprocess));
        let two = graph(&[("x", image.clone()), ("y", image)]);
        assert!(matches!(bind(&two, Some(Preprocess::NONE)), DataError::Inputs(_)));
        let flat = graph(&[("x", TensorType::f32(&[1, 4]))]);
        assert!(matches!(bind(&flat, Some(Preprocess::NONE)), DataError::Inputs(_)));
    }

    fn npz(arrays: &[(&str, &str, usize)]) -> (tempfile::TempDir, PathBuf) {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, shape, elements) in arrays {
            let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(b"\x93NUMPY\x01\0").unwrap();
            zip.write_all(&u16::try_from(text.len()).unwrap().to_le_bytes()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
            zip.write_all(&vec![0; elements * 4]).unwrap();
        }
        zip.finish().unwrap();
        (dir, path)
    }

    #[test]
    fn arrays_are_found_by_name_or_position() {
        let g = graph(&[("a", TensorType::f32(&[1, 2])), ("b", TensorType::f32(&[1, 3]))]);
        let bind = |arrays: &[(&str, &str, usize)]| {
            let (_dir, path) = npz(arrays);
            Dataset::open(&path).unwrap().bind(&g, None).map(|s| s.len()).map_err(|e| e.to_string())
        };
        assert_eq!(bind(&[("b", "(4, 3)", 12), ("a", "(4, 2)", 8)]), Ok(4));
        assert_eq!(bind(&[("arr_0", "(4, 2)", 8), ("arr_1", "(4, 3)", 12)]), Ok(4));
        assert_eq!(bind(&[("input_0", "(4, 2)", 8), ("b", "(4, 3)", 12), ("more", "(1,)", 1)]), Ok(4));
        for (arrays, want) in [
            ([("a", "(4, 2)", 8), ("c", "(4, 3)", 12)], "no array for input b; it has a, c"),
            ([("a", "(4, 2)", 8), ("b", "(4, 4)", 16)], "shape [4,4] cannot feed input b"),
            ([("a", "(4, 2)", 8), ("b", "(3, 3)", 9)], "input b has 3 samples, the inputs before it 4"),
            ([("a", "(0, 2)", 0), ("b", "(0, 3)", 0)], "there are no samples"),
        ] {
            let error = bind(&arrays).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn random_is_the_same_for_the_same_seed() {
        let ids = TensorType::new(Elem::I64, Shape::known(&[1, 64]));
        let g = graph(&[("x", TensorType::f32(&[1, 64])), ("ids", ids)]);
        let get = |seed, i| Dataset::random(seed).bind(&g, None).unwrap().get(i).unwrap();
        assert_eq!(get(1, 0), get(1, 0));
        assert_ne!(get(1, 0), get(1, 1));
        assert_ne!(get(1, 0), get(2, 0));
        assert!(get(1, 0)[0].view::<f32>().iter().all(|v| (0.0..1.0).contains(v)));
        assert!(get(1, 0)[1].view::<i64>().iter().all(|v| (0..2).contains(v)));
    }

    #[test]
    fn what_holds_no_data_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Dataset::open(dir.path()), Err(DataError::Empty(_))));
        assert!(matches!(Dataset::open(&dir.path().join("no")), Err(DataError::Unreadable { .. })));
        let odd = dir.path().join("a.csv");
        std::fs::write(&odd, "1,2").unwrap();
        assert!(matches!(Dataset::open(&odd), Err(DataError::Kind(_))));
    }
}

//! Calibration data: images and arrays on disk, converted into inputs of a graph one sample at a time.
//!
//! A [`Dataset`] describes data on disk; [`Dataset::bind`] matches it with the inputs of a graph and returns
//! [`Samples`]. A
//! sample is read when it is requested, from any thread, and is not cached: memory does not grow with the number of
//! samples.
//!
//! ```
//! use qcc::data::Dataset;
//! use qcc::ir::{Graph, TensorType};
//! let mut g = Graph::new("g");
//! g.add_input("x", TensorType::f32(&[1, 4]));
//! let samples = Dataset::random(7).limited(3).bind(&g, None)?;
//! assert_eq!(samples.len(), 3);
//! assert_eq!(samples.get(0)?[0].dims(), [1, 4]);
//! # Ok::<_, qcc::data::DataError>(())
//! ```

mod array;
mod built_in;
mod files;
mod input;
mod listing;
mod ndjson;
mod packed;
mod picture;
mod preprocess;
mod random;
mod resize;
mod samples;
mod synthetic;
pub(crate) mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use qcc_ir::Tensor;
use qcc_ir::diagnostic::Diagnostic;

use crate::unfinished::Scratch;
use array::Place;
use listing::{Found, Listing};
pub use picture::panic_is_contained;
pub use preprocess::{Color, Fit, Preparation, Preprocess};
pub use samples::Samples;

/// Why data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The path has no supported kind of data.
    #[error("{} is no calibration data", .0.display())]
    Kind(PathBuf),
    /// A file in text that does not say what it should, as the description of a dataset that does not locate its images.
    #[error("{}: {reason}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A folder without images and arrays, or a list without images.
    #[error("{} holds no pictures and no arrays", .0.display())]
    Empty(PathBuf),
    /// An image that cannot be decoded.
    #[error("{}: {reason}", path.display())]
    Picture {
        /// The image file.
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
    /// An archive that cannot be unpacked.
    #[error("{}: {reason}", path.display())]
    Archive {
        /// The .zip file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A sample in memory that cannot be used.
    #[error("sample {number}: {reason}")]
    Sample {
        /// Index of the sample.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The data cannot feed the model's inputs.
    #[error("{0}")]
    Inputs(String),
    /// The preprocessing of images is unknown.
    #[error("the model does not say how pictures become its input")]
    NoPreprocess,
}

impl From<&DataError> for Diagnostic {
    fn from(e: &DataError) -> Self {
        let (code, help) = match e {
            DataError::Unreadable { .. } => ("unreadable-data", None),
            DataError::Kind(_) => (
                "unknown-data",
                Some(
                    "give a dataset .yaml or .ndjson, a folder or a .zip of pictures or of .npy or .npz files, a .txt list, a .npy or a .npz file",
                ),
            ),
            DataError::Description { .. } => ("bad-dataset", None),
            DataError::Archive { .. } => ("bad-archive", None),
            DataError::Empty(_) => (
                "empty-dataset",
                Some("pictures are .jpg, .jpeg, .png, .bmp and .webp files, arrays are .npy and .npz files"),
            ),
            DataError::Picture { .. } => ("bad-picture", None),
            DataError::Array { .. } => ("bad-array", None),
            DataError::Sample { .. } => {
                ("bad-sample", Some("give one row-major tensor of the input's type for each input of the model"))
            }
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

/// Samples that the caller provides: tensors in memory, or generated on request.
pub trait SampleSource: fmt::Debug + Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// True where there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `i`: one row-major tensor for each input of the model, in order, with the types of the inputs. It is
    /// called from several threads and more than once for a sample.
    ///
    /// # Errors
    /// The reason if the sample is not available. Other samples are still used.
    fn get(&self, i: usize) -> Result<Vec<Tensor>, String>;
}

impl SampleSource for Vec<Vec<Tensor>> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn get(&self, i: usize) -> Result<Vec<Tensor>, String> {
        self.as_slice().get(i).cloned().ok_or_else(|| format!("there is no sample {i}"))
    }
}

/// Calibration data on disk or in memory.
#[derive(Debug)]
pub struct Dataset {
    source: Source,
    /// The files that list or contain the images or arrays.
    lists: Vec<PathBuf>,
    part: Part,
    /// The folder of an archive's files, which exists as long as they are read.
    unpacked: Option<Arc<Scratch>>,
}

/// The part of the data that is used, spread evenly over all.
#[derive(Clone, Copy, Debug)]
struct Part {
    most: Option<usize>,
    share: f64,
}

impl Part {
    /// The number of samples of `available` ones; at least one if there are any.
    fn of(self, available: usize) -> usize {
        let share = (self.share * available as f64).ceil() as usize;
        self.most.unwrap_or(usize::MAX).min(share.max(1)).min(available)
    }
}

#[derive(Debug)]
enum Source {
    Pictures(Vec<PathBuf>),
    Arrays { path: PathBuf, arrays: Vec<(String, Place)> },
    Files { folder: PathBuf, paths: Vec<PathBuf> },
    Random { seed: u64 },
    Synthetic,
    Given(Arc<dyn SampleSource>),
}

/// Code of the warning about calibration on built-in pictures, which is shown even if only errors are.
pub const SYNTHETIC_DATA: &str = "synthetic-data";

/// What messages call arrays that are not in a file.
const IN_MEMORY: &str = "data in memory";

/// Default number of samples of [`Dataset::random`].
const RANDOM_SAMPLES: usize = 8;

impl Dataset {
    /// Opens a dataset yaml or ndjson (Ultralytics' schemas), a folder of images, a list of images (.txt), one image, a
    /// .npy or a .npz file, a folder of such files, or an archive (.zip) of what a folder may contain. Nothing is
    /// downloaded.
    ///
    /// A file of arrays has samples along the first axis; in a folder, an array that has the axes of its input, or
    /// all but the batch axis, is one sample. Samples of different files may have different extents where those of the input are open.
    ///
    /// # Errors
    /// If the path is none of these, cannot be read, or is empty.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let kind = std::fs::metadata(path).map_err(|source| DataError::Unreadable { path: path.into(), source })?;
        let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        let Listing { pictures, lists } = match extension.as_str() {
            _ if kind.is_dir() => return Dataset::folder(path, path),
            _ if !kind.is_file() => return Err(DataError::Kind(path.into())),
            "zip" => {
                let unpacked = packed::unpack(path)?;
                let data = Dataset::folder(unpacked.path(), path)?;
                return Ok(Dataset { lists: vec![path.into()], unpacked: Some(Arc::new(unpacked)), ..data });
            }
            "yaml" | "yml" => listing::yaml(path)?,
            "ndjson" => ndjson::read(path)?,
            "txt" => listing::list_file(path)?,
            e if listing::PICTURES.contains(&e) => vec![path.to_path_buf()].into(),
            e if listing::ARRAYS.contains(&e) => return Ok(Dataset::arrays(path, array::entries(path)?)),
            _ => return Err(DataError::Kind(path.into())),
        };
        if pictures.is_empty() {
            return Err(DataError::Empty(path.into()));
        }
        Ok(Dataset::of(Source::Pictures(pictures), lists))
    }

    /// The images or arrays in a folder, which messages call `name`.
    fn folder(folder: &Path, name: &Path) -> Result<Self, DataError> {
        Ok(match listing::folder(folder)? {
            Found::Arrays(paths) => Dataset::of(Source::Files { folder: name.into(), paths }, Vec::new()),
            Found::Pictures(pictures) if pictures.is_empty() => return Err(DataError::Empty(name.into())),
            Found::Pictures(pictures) => Dataset::of(Source::Pictures(pictures), Vec::new()),
        })
    }

    /// Arrays in memory, by name: each the content of a .npy file, with samples along its first axis. They are matched
    /// with the inputs of a model as those of a .npz file.
    pub fn npy(arrays: impl IntoIterator<Item = (String, Bytes)>) -> Self {
        let arrays = arrays.into_iter().map(|(name, bytes)| (name, Place::Memory(bytes))).collect();
        Dataset::arrays(Path::new(IN_MEMORY), arrays)
    }

    fn arrays(path: &Path, arrays: Vec<(String, Place)>) -> Self {
        Dataset::of(Source::Arrays { path: path.into(), arrays }, Vec::new())
    }

    /// Random numbers, reproducible by seed: floats from 0 to 1, integers 0 or 1. Ranges that are calibrated on them do
    /// not fit real inputs.
    pub fn random(seed: u64) -> Self {
        Dataset::of(Source::Random { seed }, Vec::new())
    }

    /// Built-in pictures, for calibration without data: "dead leaves", shapes of all sizes that occlude each other, with
    /// shading, blur and noise, and four photographs, the same on every platform. Ranges that are calibrated on them fit
    /// inputs of the model's own kind only roughly. The model must have one input, an image.
    pub fn synthetic() -> Self {
        Dataset::of(Source::Synthetic, Vec::new())
    }

    /// Samples that the caller provides.
    pub fn samples(source: Arc<dyn SampleSource>) -> Self {
        Dataset::of(Source::Given(source), Vec::new())
    }

    /// The same data with at most `n` samples, spread evenly over all.
    pub fn limited(self, n: usize) -> Self {
        Dataset { part: Part { most: Some(n), ..self.part }, ..self }
    }

    /// The same data with a share of the samples, above 0 and at most 1, spread evenly over all; at least one sample.
    pub fn share(self, share: f64) -> Self {
        Dataset { part: Part { share, ..self.part }, ..self }
    }

    /// The data of a source, all of them.
    fn of(source: Source, lists: Vec<PathBuf>) -> Self {
        Dataset { source, lists, part: Part { most: None, share: 1.0 }, unpacked: None }
    }

    /// All files that the data are read from.
    pub fn files(&self) -> Vec<PathBuf> {
        let own = match &self.source {
            Source::Pictures(pictures) => pictures.clone(),
            Source::Arrays { arrays, .. } if arrays.iter().any(|(_, at)| matches!(at, Place::Memory(_))) => Vec::new(),
            Source::Arrays { path, .. } => vec![path.clone()],
            Source::Files { paths, .. } => paths.clone(),
            Source::Random { .. } | Source::Synthetic | Source::Given(_) => Vec::new(),
        };
        self.lists.iter().cloned().chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use qcc_ir::{Dim, Elem, Graph, Shape, TensorType};

    use super::*;

    fn graph(inputs: &[(&str, TensorType)]) -> Graph {
        let mut g = Graph::new("g");
        for (name, ty) in inputs {
            g.add_input(*name, ty.clone());
        }
        g
    }

    /// Grey images of one pixel with values 0, 1, 2 ..
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
        let open: Shape = [Dim::symbol("n"), Dim::Known(3), Dim::Known(2), Dim::Known(2)].into_iter().collect();
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

    /// A .npy file of floats 0, 1, 2 ..
    fn npy(shape: &str, elements: usize) -> Vec<u8> {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = u16::try_from(text.len()).unwrap().to_le_bytes();
        let values = (0..elements).flat_map(|i| (i as f32).to_le_bytes());
        b"\x93NUMPY\x01\0".iter().copied().chain(length).chain(text.bytes()).chain(values).collect()
    }

    /// As `numpy.savez(file, *samples)` names them.
    #[test]
    fn an_archive_may_have_a_list_of_arrays_for_each_input() {
        let open: Shape = [Dim::symbol("n"), Dim::symbol("length")].into_iter().collect();
        let arrays = |names: &[(&str, &str, usize)]| {
            let array = |&(name, shape, n): &(&str, &str, usize)| (name.to_owned(), npy(shape, n).into());
            Dataset::npy(names.iter().map(array).collect::<Vec<_>>())
        };
        let one = graph(&[("x", TensorType::new(Elem::F32, open.clone()))]);
        let dims = |s: &Samples| (0..s.len()).map(|i| s.get(i).unwrap()[0].dims().to_vec()).collect::<Vec<_>>();
        let list = [("arr_0", "(3,)", 3), ("arr_1", "(1, 5)", 5), ("arr_2", "(2,)", 2)];
        let samples = arrays(&list).bind(&one, None).unwrap();
        assert_eq!(dims(&samples), [[1, 3], [1, 5], [1, 2]]);
        assert_eq!(samples.get(1).unwrap()[0].view::<f32>()[..], [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert!(samples.files().is_empty());
        // One array has samples along its first axis.
        assert_eq!(dims(&arrays(&[("arr_0", "(2, 4)", 8)]).bind(&one, None).unwrap()), [[1, 4], [1, 4]]);
        let two = graph(&[("x", TensorType::new(Elem::F32, open.clone())), ("y", TensorType::new(Elem::F32, open))]);
        let pairs = [("y_0", "(3,)", 3), ("x_0", "(3,)", 3), ("x_1", "(6,)", 6), ("y_1", "(6,)", 6)];
        assert_eq!(dims(&arrays(&pairs).bind(&two, None).unwrap()), [[1, 3], [1, 6]]);
        assert_eq!(arrays(&pairs[..2]).bind(&two, None).unwrap_err().to_string().lines().count(), 1);
        // Two arrays without names are those of two inputs.
        assert!(arrays(&list[..2]).bind(&two, None).is_err());
    }

    #[test]
    fn files_of_a_folder_may_have_other_extents() {
        let dir = tempfile::tempdir().unwrap();
        for (name, shape, elements) in
            [("a", "(1, 3)", 3), ("b", "(5,)", 5), ("c/d", "(4, 1, 2)", 8), ("e", "(2, 3)", 6)]
        {
            let path = dir.path().join(name).with_extension("npy");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, npy(shape, elements)).unwrap();
        }
        let open = |dims: [Dim; 2]| graph(&[("x", TensorType::new(Elem::F32, dims.into_iter().collect()))]);
        let g = open([Dim::symbol("n"), Dim::symbol("t")]);
        let samples = Dataset::open(dir.path()).unwrap().bind(&g, None).unwrap();
        let shapes: Vec<Vec<usize>> = (0..samples.len()).map(|i| samples.get(i).unwrap()[0].dims()).collect();
        let pairs = vec![vec![1, 2]; 4];
        assert_eq!(shapes, [vec![vec![1, 3], vec![1, 5]], pairs, vec![vec![2, 3]]].concat());
        assert_eq!(firsts(&samples)[3..5], [[2.0, 3.0], [4.0, 5.0]]);
        assert!(samples.to_string().contains("(4 files with 4 shapes; float32 as it is)"), "{samples}");
        let (most, some) = samples.split(2);
        assert_eq!((most.len(), some.files().len()), (5, 2));
        // Where the extents are known, arrays of others are refused by the name of their file.
        let g = open([Dim::symbol("n"), Dim::Known(3)]);
        let refused = Dataset::open(dir.path()).unwrap().bind(&g, None).unwrap_err().to_string();
        assert!(refused.contains("b.npy: an array of shape [5] cannot feed input x"), "{refused}");
    }

    fn npz(arrays: &[(&str, &str, usize)]) -> (tempfile::TempDir, PathBuf) {
        use std::io::Write;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        for (name, shape, elements) in arrays {
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(&npy(shape, *elements)).unwrap();
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

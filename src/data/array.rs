//! NumPy arrays on disk or in memory, read one sample at a time.
//!
//! Format: numpy.lib.format, versions 1 to 3. An .npz is a ZIP of .npy files. For compressed entries only the header is
//! read at first; those that feed a model are unpacked into temporary files to allow random access.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use qcc_ir::{Shape, Tensor, TensorType};

use elements::{Kind, floats, integer_tensor, integers};
use header::Header;

use super::DataError;
use super::input::from_floats;
use super::preprocess::Preprocess;

mod elements;
mod header;

/// Bytes that an array may always be unpacked to, whatever its compression ratio: constant arrays compress well.
pub(super) const UNPACKED_BYTES: u64 = 1 << 26;

/// Maximum compression ratio of larger arrays. Data of real inputs do not compress better.
pub(super) const LARGEST_RATIO: u64 = 100;

/// The location of an array.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The file itself.
    File,
    /// The archive entry with this index.
    Entry(usize),
    /// The content of a .npy file.
    Memory(Bytes),
}

/// A row-major array in a file or in memory.
#[derive(Debug)]
pub(super) struct Array {
    kind: Kind,
    dims: Vec<usize>,
    data: Data,
    /// The axis order of images in the array, if it differs from the input's.
    lies: Option<Lies>,
}

/// The channel axis of images in an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// Last, for an input with channels first.
    ChannelsLast,
    /// First, for an input with channels last.
    ChannelsFirst,
}

impl Lies {
    /// The extents of an input in the axis order of the array.
    fn of(self, input: &[usize]) -> Option<[usize; 4]> {
        let &[n, a, b, c] = input else { return None };
        Some(match self {
            Lies::ChannelsLast => [n, b, c, a],
            Lies::ChannelsFirst => [n, c, a, b],
        })
    }
}

#[derive(Debug)]
enum Data {
    /// A file and the offset of the first element.
    At(Mutex<File>, u64),
    /// The elements.
    Memory(Bytes),
    /// A compressed entry of the archive, and the length of its header.
    Packed { entry: usize, header: u64 },
}

/// The names of the arrays in a file: those of a .npz file, in file order, or the one of a .npy file, without a name.
pub(super) fn entries(path: &Path) -> Result<Vec<(String, Place)>, DataError> {
    if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz")) {
        return Ok(vec![(String::new(), Place::File)]);
    }
    let archive = archive(path)?;
    let name = |i| Some(archive.name_for_index(i)?.ok()?.strip_suffix(".npy")?.to_owned());
    let arrays: Vec<_> = (0..archive.len()).filter_map(|i| Some((name(i)?, Place::Entry(i)))).collect();
    if arrays.is_empty() { Err(bad(path)("there are no arrays in it".into())) } else { Ok(arrays) }
}

fn archive(path: &Path) -> Result<zip::ZipArchive<BufReader<File>>, DataError> {
    let file = BufReader::new(open(path)?);
    zip::ZipArchive::new(file).map_err(|e| bad(path)(format!("no .npz file: {e}")))
}

fn open(path: &Path) -> Result<File, DataError> {
    File::open(path).map_err(|source| DataError::Unreadable { path: path.into(), source })
}

fn bad(path: &Path) -> impl Fn(String) -> DataError {
    move |reason| DataError::Array { path: path.into(), reason }
}

impl Array {
    /// Opens the array `name` of a file; of a compressed array only the header is read.
    pub(super) fn open(path: &Path, name: &str, place: Place) -> Result<Self, DataError> {
        let named = |reason: String| bad(path)(if name.is_empty() { reason } else { format!("{name}: {reason}") });
        let entry = match place {
            Place::File => return Array::in_file(open(path)?).map_err(named),
            Place::Memory(bytes) => return Array::in_memory(&bytes).map_err(named),
            Place::Entry(entry) => entry,
        };
        let mut archive = archive(path)?;
        let mut file = archive.by_index(entry).map_err(|e| named(e.to_string()))?;
        let (header, length) = Header::read(&mut file).map_err(|e| named(format!("no .npy array: {e}")))?;
        let (kind, dims) = header.parse().map_err(named)?;
        let whole = bytes(kind, &dims).and_then(|n| n.checked_add(length)).is_some_and(|n| n <= file.size());
        if !whole {
            return Err(named(cut(&dims)));
        }
        let stored = file.compression() == zip::CompressionMethod::Stored;
        let data = match file.data_start().filter(|_| stored) {
            Some(start) => Data::At(Mutex::new(open(path)?), start + length),
            None => Data::Packed { entry, header: length },
        };
        Ok(Array { kind, dims, data, lies: None })
    }

    fn in_memory(file: &Bytes) -> Result<Self, String> {
        let mut rest = &file[..];
        let (header, length) = Header::read(&mut rest).map_err(|e| format!("no .npy array: {e}"))?;
        let (kind, dims) = header.parse()?;
        let elements = file.slice(usize::try_from(length).map_or(file.len(), |n| n.min(file.len()))..);
        match bytes(kind, &dims) {
            Some(n) if n <= elements.len() as u64 => Ok(Array { kind, dims, data: Data::Memory(elements), lies: None }),
            _ => Err(cut(&dims)),
        }
    }

    fn in_file(mut file: File) -> Result<Self, String> {
        let (header, length) = Header::read(&mut file).map_err(|e| format!("no .npy array: {e}"))?;
        let (kind, dims) = header.parse()?;
        let whole = file.metadata().map_err(|e| e.to_string())?.len();
        match bytes(kind, &dims).and_then(|n| n.checked_add(length)) {
            Some(n) if n <= whole => Ok(Array { kind, dims, data: Data::At(Mutex::new(file), length), lies: None }),
            _ => Err(cut(&dims)),
        }
    }

    /// Unpacks the elements, if they are compressed.
    pub(super) fn unpack(&mut self, path: &Path) -> Result<(), DataError> {
        let Data::Packed { entry, header } = self.data else { return Ok(()) };
        let mut archive = archive(path)?;
        let mut file = archive.by_index(entry).map_err(|e| bad(path)(e.to_string()))?;
        let (packed, size) = (file.compressed_size(), bytes(self.kind, &self.dims).unwrap_or(u64::MAX));
        if size > packed.saturating_mul(LARGEST_RATIO).max(UNPACKED_BYTES) {
            return Err(bad(path)(format!(
                "{} has {size} bytes packed into {packed}, more than {LARGEST_RATIO} times as many; save it with numpy.savez",
                self.shape()
            )));
        }
        let failed = |e: io::Error| bad(path)(format!("{} cannot be unpacked: {}", self.shape(), e.kind()));
        io::copy(&mut file.by_ref().take(header), &mut io::sink()).map_err(failed)?;
        let mut unpacked = tempfile::tempfile().map_err(failed)?;
        if io::copy(&mut file.take(size), &mut unpacked).map_err(failed)? < size {
            return Err(bad(path)(cut(&self.dims)));
        }
        self.data = Data::At(Mutex::new(unpacked), 0);
        Ok(())
    }

    /// False if the caller provides its content.
    pub(super) fn is_in_file(&self) -> bool {
        !matches!(self.data, Data::Memory(_))
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::known(&self.dims)
    }

    /// The extents of the array.
    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Adds a first axis of extent 1.
    pub(super) fn add_batch(&mut self) {
        self.dims.insert(0, 1);
    }

    /// Number of samples for an input of shape `input`: the first axis of the array enumerates samples. A sample is a
    /// whole input or, if the input has a batch axis, one element of the batch. Images may have another channel axis.
    pub(super) fn fit(&mut self, input: &[usize]) -> Option<usize> {
        let is_channels = |c: usize| matches!(c, 1 | 3);
        let other = match *input {
            [_, c, _, last] if is_channels(c) && !is_channels(last) => Some(Lies::ChannelsLast),
            [_, first, _, c] if is_channels(c) && !is_channels(first) => Some(Lies::ChannelsFirst),
            _ => None,
        };
        self.samples(input).or_else(|| {
            self.lies = other;
            self.samples(&other?.of(input)?)
        })
    }

    /// A short description of the conversion of values.
    pub(super) fn treatment(&self, ty: &TensorType, preprocess: Option<&Preprocess>) -> String {
        let turned = match self.lies {
            None => "",
            Some(Lies::ChannelsLast) => ", [N,H,W,C] transposed to [N,C,H,W]",
            Some(Lies::ChannelsFirst) => ", [N,C,H,W] transposed to [N,H,W,C]",
        };
        match preprocess.filter(|_| self.is_pixels(ty)) {
            Some(p) => format!("{} pixels{}{turned}", self.kind.name(), p.numbers()),
            None => format!("{} as it is{turned}", self.kind.name()),
        }
    }

    /// True if the array holds bytes that are pixels of an input of that type.
    pub(super) fn is_pixels(&self, ty: &TensorType) -> bool {
        ty.elem.is_float() && self.kind == Kind::U1
    }

    fn samples(&self, input: &[usize]) -> Option<usize> {
        let (&first, rest) = self.dims.split_first()?;
        match input.split_first() {
            _ if rest == input => Some(first),
            Some((&batch, each)) if rest == each && batch > 0 => Some(first / batch),
            _ => None,
        }
    }

    /// Sample `i` as an input of type `ty`.
    pub(super) fn sample(
        &self,
        path: &Path,
        i: usize,
        name: &str,
        ty: &TensorType,
        preprocess: Option<&Preprocess>,
    ) -> Result<Tensor, DataError> {
        let n = ty.shape.elements().unwrap_or(0);
        let mut bytes = vec![0; n * self.kind.size()];
        self.read((i * bytes.len()) as u64, &mut bytes)
            .map_err(|source| DataError::Unreadable { path: path.into(), source })?;
        let dims: Vec<usize> = ty.shape.dims().iter().filter_map(|d| d.known()).collect();
        if let Some([batch, a, b, c]) = self.lies.and_then(|lies| lies.of(&dims)) {
            bytes = match self.lies {
                Some(Lies::ChannelsLast) => turned(&bytes, self.kind.size(), batch, a * b, c),
                _ => turned(&bytes, self.kind.size(), batch, a, b * c),
            };
        }
        let bad = |reason: String| DataError::Array { path: path.into(), reason };
        if self.is_pixels(ty) {
            let preprocess = preprocess.ok_or(DataError::NoPreprocess)?;
            return from_floats(name, ty, prepared(&bytes, ty, preprocess));
        }
        if ty.elem.is_float() {
            if !self.kind.is_float() {
                return Err(bad(format!(
                    "input {name} takes floats; save the numbers that the model takes as float32"
                )));
            }
            let values = floats(self.kind, &bytes);
            // Without an early end, so that it is vectorized.
            if !values.iter().fold(true, |all, v| all & v.is_finite()) {
                return Err(bad(format!("sample {i} of input {name} has values that are not finite")));
            }
            return from_floats(name, ty, values);
        }
        let values = integers(self.kind, &bytes).ok_or_else(|| bad(format!("input {name} takes integers")))?;
        integer_tensor(ty, values)
            .ok_or_else(|| bad(format!("sample {i} has values that input {name}, {ty}, cannot hold")))
    }

    /// Reads elements, starting at byte offset `from`.
    fn read(&self, from: u64, bytes: &mut [u8]) -> io::Result<()> {
        let (file, start) = match &self.data {
            Data::At(file, start) => (file, start),
            Data::Memory(elements) => {
                let start = usize::try_from(from).map_or(elements.len(), |n| n.min(elements.len()));
                return (&elements[start..]).read_exact(bytes);
            }
            Data::Packed { .. } => return Err(io::Error::other("it is packed")),
        };
        let mut file = file.lock().map_err(|_| io::Error::other("a reader failed"))?;
        file.seek(SeekFrom::Start(start + from))?;
        file.read_exact(bytes)
    }
}

/// Transposes matrices of `rows` by `columns` elements of `size` bytes.
fn turned(bytes: &[u8], size: usize, matrices: usize, rows: usize, columns: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for matrix in bytes.chunks_exact((bytes.len() / matrices.max(1)).max(1)) {
        for column in 0..columns {
            for row in 0..rows {
                let at = (row * columns + column) * size;
                out.extend_from_slice(&matrix[at..at + size]);
            }
        }
    }
    out
}

/// Size of an array in bytes.
fn bytes(kind: Kind, dims: &[usize]) -> Option<u64> {
    dims.iter().try_fold(kind.size() as u64, |n, &d| n.checked_mul(d as u64))
}

fn cut(dims: &[usize]) -> String {
    format!("it ends before its {} elements", Shape::known(dims))
}

/// Bytes are pixels: they are preprocessed like those of images, by channel.
fn prepared(bytes: &[u8], ty: &TensorType, preprocess: &Preprocess) -> Vec<f32> {
    let dims: Vec<usize> = ty.shape.dims().iter().filter_map(|d| d.known()).collect();
    let (run, channels) = match *dims.as_slice() {
        [_, 3, h, w] => (h * w, 3),
        [_, _, _, 3] => (1, 3),
        _ => (1, 1),
    };
    let tables: Vec<[f32; 256]> = (0..channels).map(|c| preprocess.table(c)).collect();
    bytes.iter().enumerate().map(|(i, &v)| tables[(i / run) % channels][usize::from(v)]).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use qcc_ir::Elem;

    use super::*;

    fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\0".to_vec();
        file.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
        file.extend(text.as_bytes());
        file.extend(data);
        file
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn floats_of(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn sample(a: &Array, i: usize, ty: &TensorType) -> Result<Tensor, DataError> {
        a.sample(Path::new("a.npy"), i, "x", ty, None)
    }

    #[test]
    fn samples_run_along_the_first_axis() {
        let a = Array::in_file(file(&npy("<f4", "False", "(3, 2)", &floats_of(&[0., 1., 2., 3., 4., 5.])))).unwrap();
        assert_eq!(a.samples(&[1, 2]), Some(3));
        assert_eq!(a.samples(&[2]), Some(3));
        assert_eq!(a.samples(&[2, 2]), Some(1));
        assert_eq!(a.samples(&[1, 3]), None);
        assert_eq!(sample(&a, 2, &TensorType::f32(&[1, 2])).unwrap().view::<f32>()[..], [4.0, 5.0]);
        assert_eq!(sample(&a, 1, &TensorType::f32(&[2])).unwrap().view::<f32>()[..], [2.0, 3.0]);
        assert!(sample(&a, 3, &TensorType::f32(&[1, 2])).is_err());
    }

    #[test]
    fn arrays_in_memory_are_read_as_those_in_files() {
        let bytes = npy("<f4", "False", "(3, 2)", &floats_of(&[0., 1., 2., 3., 4., 5.]));
        let open = |bytes: &[u8]| Array::open(Path::new(""), "x", Place::Memory(Bytes::copy_from_slice(bytes)));
        let a = open(&bytes).unwrap();
        assert_eq!(sample(&a, 2, &TensorType::f32(&[1, 2])).unwrap().view::<f32>()[..], [4.0, 5.0]);
        assert!(sample(&a, 3, &TensorType::f32(&[1, 2])).is_err());
        for bad in [&bytes[..bytes.len() - 1], &bytes[..20], b"PK", b""] {
            assert!(matches!(open(bad), Err(DataError::Array { .. })));
        }
    }

    #[test]
    fn images_are_turned_where_their_channels_lie_elsewhere() {
        let bytes = floats_of(&(0..24).map(|v| v as f32).collect::<Vec<_>>());
        let mut a = Array::in_file(file(&npy("<f4", "False", "(1, 2, 4, 3)", &bytes))).unwrap();
        assert_eq!(a.fit(&[1, 3, 2, 4]), Some(1));
        let got = sample(&a, 0, &TensorType::f32(&[1, 3, 2, 4])).unwrap();
        assert_eq!(got.view::<f32>()[..9], [0., 3., 6., 9., 12., 15., 18., 21., 1.]);
        assert_eq!(a.treatment(got.ty(), None), "float32 as it is, [N,H,W,C] transposed to [N,C,H,W]");
        let mut b = Array::in_file(file(&npy("<f4", "False", "(1, 3, 2, 4)", &bytes))).unwrap();
        assert_eq!(b.fit(&[1, 2, 4, 3]), Some(1));
        assert_eq!(sample(&b, 0, &TensorType::f32(&[1, 2, 4, 3])).unwrap().view::<f32>()[..4], [0., 8., 16., 1.]);
        assert_eq!(b.fit(&[1, 2, 5, 3]), None);
    }

    #[test]
    fn integers_must_fit() {
        let bytes: Vec<u8> = [5i64, -7, 1 << 40].iter().flat_map(|v| v.to_le_bytes()).collect();
        let a = Array::in_file(file(&npy("<i8", "False", "(3, 1)", &bytes))).unwrap();
        let ty = TensorType::new(Elem::I32, Shape::known(&[1]));
        assert_eq!(sample(&a, 1, &ty).unwrap().view::<i32>()[..], [-7]);
        assert!(matches!(sample(&a, 2, &ty), Err(DataError::Array { .. })));
        assert!(matches!(sample(&a, 0, &TensorType::f32(&[1])), Err(DataError::Array { .. })));
    }

    #[test]
    fn bytes_for_a_float_input_are_pixels() {
        let a = Array::in_file(file(&npy("|u1", "False", "(1, 3, 1, 2)", &[0, 255, 51, 102, 1, 2]))).unwrap();
        let ty = TensorType::f32(&[1, 3, 1, 2]);
        assert!(matches!(sample(&a, 0, &ty), Err(DataError::NoPreprocess)));
        let p = Preprocess { mean: [0.0, 0.0, 1.0], ..Preprocess::YOLO };
        let got = a.sample(Path::new(""), 0, "x", &ty, Some(&p)).unwrap();
        let want = [0.0, 1.0, 0.2, 0.4, 1.0 / 255.0 - 1.0, 2.0 / 255.0 - 1.0];
        for (g, w) in got.view::<f32>().iter().zip(want) {
            assert!((g - w).abs() < 1e-6, "{g} {w}");
        }
    }

    #[test]
    fn what_cannot_be_fed_is_refused() {
        let four = floats_of(&[0.0; 4]);
        for bytes in [
            npy(">f4", "False", "(4,)", &four),
            npy("<f4", "True", "(2, 2)", &four),
            npy("<f4", "False", "(5,)", &four),
            npy("<f4", "False", "(4294967296, 4294967296, 4)", &four),
            npy("<c8", "False", "(2,)", &four),
            b"\x93NUMPY\x01\0\xff\xff".to_vec(),
            b"PK\x03\x04".to_vec(),
            Vec::new(),
        ] {
            assert!(Array::in_file(file(&bytes)).is_err());
        }
    }

    /// An archive of `.npy` files, compressed or not.
    fn npz(arrays: &[(&str, bool, Vec<u8>)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, packed, bytes) in arrays {
            let method = if *packed { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(format!("{name}.npy"), options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        (dir, path)
    }

    fn all(path: &Path) -> Result<Vec<(String, Array)>, DataError> {
        let open = |(name, place): (String, Place)| {
            let mut array = Array::open(path, &name, place)?;
            array.unpack(path)?;
            Ok((name, array))
        };
        entries(path)?.into_iter().map(open).collect()
    }

    #[test]
    fn npz_entries_are_read_stored_and_packed() {
        let array = |v: f32| npy("<f4", "False", "(2, 1)", &floats_of(&[1.5, v]));
        let (_dir, path) = npz(&[("x", false, array(2.5)), ("y", true, array(3.5))]);
        let arrays = all(&path).unwrap();
        assert_eq!(arrays.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        for ((_, a), want) in arrays.iter().zip([2.5, 3.5]) {
            assert_eq!(sample(a, 1, &TensorType::f32(&[1, 1])).unwrap().view::<f32>()[..], [want]);
        }
    }

    #[test]
    fn of_packed_arrays_the_header_is_read_first() {
        let zeros = |shape: &str, bytes: usize| npy("<f4", "False", shape, &vec![0; bytes]);
        // Reading stops after the elements that the header declares.
        let (_dir, path) = npz(&[("x", true, zeros("(2, 1)", 1 << 26))]);
        let arrays = all(&path).unwrap();
        let Data::At(file, _) = &arrays[0].1.data else { panic!("unpacked") };
        assert_eq!(file.lock().unwrap().metadata().unwrap().len(), 8);
        // Constant arrays compress well.
        let (_dir, path) = npz(&[("x", true, zeros("(16777216, 1)", 1 << 26))]);
        assert!(all(&path).is_ok());
        for (bytes, why) in [
            (zeros("(16777217, 1)", (1 << 26) + 4), "more than 100 times as many"),
            (zeros("(4, 1)", 12), "it ends before its [4,1] elements"),
            (zeros("(4611686018427387904, 4)", 12), "it ends before its [4611686018427387904,4] elements"),
        ] {
            for packed in [true, false] {
                let (_dir, path) = npz(&[("x", packed, bytes.clone())]);
                match all(&path) {
                    Ok(_) => assert!(!packed && why.starts_with("more")),
                    Err(e) => assert!(e.to_string().contains(why), "{e}"),
                }
            }
        }
    }
}

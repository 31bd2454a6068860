//! NumPy arrays on disk, read one sample at a time.
//!
//! Format: numpy.lib.format, versions 1 to 3. An .npz is a ZIP of .npy files; its arrays are copied to temporary files
//! where they are compressed, so that samples can be read from anywhere.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Mutex;

use qcc_ir::{Elem, Shape, Tensor, TensorType};

use super::preprocess::Preprocess;
use super::{DataError, from_reals};

/// Bytes of the header's text at most; real ones are below 200.
const HEADER: usize = 1 << 16;

/// A row-major array in a file.
#[derive(Debug)]
pub(super) struct Array {
    file: Mutex<File>,
    /// Place of the first element in the file.
    start: u64,
    kind: Kind,
    dims: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F2,
    F4,
    F8,
    I1,
    U1,
    I2,
    I4,
    I8,
    Bool,
}

impl Kind {
    fn of(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f2" => Kind::F2,
            "<f4" => Kind::F4,
            "<f8" => Kind::F8,
            "|i1" => Kind::I1,
            "|u1" => Kind::U1,
            "<i2" => Kind::I2,
            "<i4" => Kind::I4,
            "<i8" => Kind::I8,
            "|b1" => Kind::Bool,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Kind::I1 | Kind::U1 | Kind::Bool => 1,
            Kind::F2 | Kind::I2 => 2,
            Kind::F4 | Kind::I4 => 4,
            Kind::F8 | Kind::I8 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Kind::F2 | Kind::F4 | Kind::F8)
    }
}

impl Array {
    /// Opens a .npy file.
    pub(super) fn open_npy(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|source| DataError::Unreadable { path: path.into(), source })?;
        Array::in_file(file, 0).map_err(|reason| DataError::Array { path: path.into(), reason })
    }

    /// Opens every array of a .npz file, in its order.
    pub(super) fn open_npz(path: &Path) -> Result<Vec<(String, Self)>, DataError> {
        let open = || File::open(path).map_err(|source| DataError::Unreadable { path: path.into(), source });
        let bad = |reason: String| DataError::Array { path: path.into(), reason };
        let mut archive = zip::ZipArchive::new(open()?).map_err(|e| bad(format!("no .npz file: {e}")))?;
        let mut arrays = Vec::new();
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).map_err(|e| bad(e.to_string()))?;
            let name = entry.name().map_err(|e| bad(e.to_string()))?.into_owned();
            let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
            let stored = entry.compression() == zip::CompressionMethod::Stored;
            let array = match entry.data_start() {
                Some(start) if stored => Array::in_file(open()?, start),
                _ => spooled(&mut entry).map_err(|e| e.to_string()).and_then(|file| Array::in_file(file, 0)),
            };
            arrays.push((name.clone(), array.map_err(|reason| bad(format!("{name}: {reason}")))?));
        }
        if arrays.is_empty() { Err(bad("there are no arrays in it".into())) } else { Ok(arrays) }
    }

    fn in_file(mut file: File, start: u64) -> Result<Self, String> {
        let (text, start) = header(&mut file, start).map_err(|e| format!("no .npy array: {e}"))?;
        let field = |name: &str| {
            let at = text.find(&format!("'{name}':"))? + name.len() + 3;
            Some(text[at..].trim_start())
        };
        let quoted = |t: &str| t.strip_prefix('\'').and_then(|t| t.split_once('\'')).map(|(d, _)| d.to_owned());
        let descr = field("descr").and_then(quoted).ok_or("an array of records cannot be fed")?;
        let kind = Kind::of(&descr).ok_or_else(|| format!("elements of type {descr} cannot be fed"))?;
        let dims = field("shape")
            .and_then(|t| t.strip_prefix('(')?.split_once(')'))
            .and_then(|(t, _)| t.split(',').map(str::trim).filter(|t| !t.is_empty()).map(|t| t.parse().ok()).collect())
            .ok_or("its header has no shape")?;
        let array = Array { file: Mutex::new(file), start, kind, dims };
        if array.dims.len() > 1 && field("fortran_order").is_none_or(|t| !t.starts_with("False")) {
            return Err("it is stored column by column; save numpy.ascontiguousarray(a)".into());
        }
        let bytes = array.dims.iter().try_fold(kind.size(), |n, &d| n.checked_mul(d));
        match bytes {
            Some(n) if array.has(n).map_err(|e| e.to_string())? => Ok(array),
            _ => Err(format!("it ends before its {} elements", array.shape())),
        }
    }

    fn has(&self, bytes: usize) -> io::Result<bool> {
        let file = self.file.lock().map_err(|_| io::Error::other("a reader failed"))?;
        Ok(file.metadata()?.len() >= self.start.saturating_add(bytes as u64))
    }

    pub(super) fn shape(&self) -> Shape {
        Shape::known(&self.dims)
    }

    /// Number of samples for an input of extents `input`: the first axis runs along samples, and each is either the
    /// whole input or, where the input has a batch axis, a part of a batch.
    pub(super) fn samples(&self, input: &[usize]) -> Option<usize> {
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
        let place = self.start + (i * bytes.len()) as u64;
        self.read(place, &mut bytes).map_err(|source| DataError::Unreadable { path: path.into(), source })?;
        let bad = |reason: String| DataError::Array { path: path.into(), reason };
        if ty.elem.is_float() && self.kind == Kind::U1 {
            let preprocess = preprocess.ok_or(DataError::NoPreprocess)?;
            return from_reals(name, ty, prepared(&bytes, ty, preprocess));
        }
        if ty.elem.is_float() {
            if !self.kind.is_float() {
                return Err(bad(format!(
                    "input {name} takes floats; save the numbers that the model takes as float32"
                )));
            }
            let values = floats(self.kind, &bytes);
            if values.iter().any(|v| !v.is_finite()) {
                return Err(bad(format!("sample {i} of input {name} has values that are not finite")));
            }
            return from_reals(name, ty, values);
        }
        let values = integers(self.kind, &bytes).ok_or_else(|| bad(format!("input {name} takes integers")))?;
        integer_tensor(ty, values)
            .ok_or_else(|| bad(format!("sample {i} has values that input {name}, {ty}, cannot hold")))
    }

    fn read(&self, place: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = self.file.lock().map_err(|_| io::Error::other("a reader failed"))?;
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(bytes)
    }
}

fn spooled(entry: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(entry, &mut file)?;
    Ok(file)
}

/// The text of the header at `start`, and where the elements begin.
fn header(file: &mut File, start: u64) -> io::Result<(String, u64)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    file.seek(SeekFrom::Start(start))?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic)?;
    if magic[..6] != *b"\x93NUMPY" {
        return Err(bad("it does not start as one"));
    }
    let mut length = [0; 4];
    let field = if magic[6] == 1 { 2 } else { 4 };
    file.read_exact(&mut length[..field])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > HEADER {
        return Err(bad("its header is too long"));
    }
    let mut text = vec![0; length];
    file.read_exact(&mut text)?;
    let text = String::from_utf8(text).map_err(|_| bad("its header is no text"))?;
    Ok((text, start + (8 + field + length) as u64))
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(|c| std::array::from_fn(|i| c[i]))
}

fn floats(kind: Kind, bytes: &[u8]) -> Vec<f32> {
    match kind {
        Kind::F2 => elements(bytes).map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
        Kind::F8 => elements(bytes).map(|b| f64::from_le_bytes(b) as f32).collect(),
        _ => elements(bytes).map(f32::from_le_bytes).collect(),
    }
}

fn integers(kind: Kind, bytes: &[u8]) -> Option<Vec<i64>> {
    Some(match kind {
        Kind::I1 => elements(bytes).map(|b| i64::from(i8::from_le_bytes(b))).collect(),
        Kind::U1 | Kind::Bool => bytes.iter().map(|&b| i64::from(b)).collect(),
        Kind::I2 => elements(bytes).map(|b| i64::from(i16::from_le_bytes(b))).collect(),
        Kind::I4 => elements(bytes).map(|b| i64::from(i32::from_le_bytes(b))).collect(),
        Kind::I8 => elements(bytes).map(i64::from_le_bytes).collect(),
        Kind::F2 | Kind::F4 | Kind::F8 => return None,
    })
}

fn integer_tensor(ty: &TensorType, values: Vec<i64>) -> Option<Tensor> {
    fn narrow<T: TryFrom<i64>>(values: Vec<i64>) -> Option<Vec<T>> {
        values.into_iter().map(|v| T::try_from(v).ok()).collect()
    }
    let shape = ty.shape.clone();
    Some(match ty.elem {
        Elem::I64 => Tensor::from_vec(shape, values),
        Elem::I32 => Tensor::from_vec(shape, narrow::<i32>(values)?),
        Elem::I16 => Tensor::from_vec(shape, narrow::<i16>(values)?),
        Elem::I8 => Tensor::from_vec(shape, narrow::<i8>(values)?),
        Elem::U8 => Tensor::from_vec(shape, narrow::<u8>(values)?),
        Elem::Bool => Tensor::from_bools(shape, values.into_iter().map(|v| v != 0)),
        Elem::F16 | Elem::F32 | Elem::Grid(_) => return None,
    })
}

/// Bytes are pixels: they become numbers as those of pictures do, by the channel they lie in.
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
    use super::*;
    use std::io::Write;

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
        let a = Array::in_file(file(&npy("<f4", "False", "(3, 2)", &floats_of(&[0., 1., 2., 3., 4., 5.]))), 0).unwrap();
        assert_eq!(a.samples(&[1, 2]), Some(3));
        assert_eq!(a.samples(&[2]), Some(3));
        assert_eq!(a.samples(&[2, 2]), Some(1));
        assert_eq!(a.samples(&[1, 3]), None);
        assert_eq!(sample(&a, 2, &TensorType::f32(&[1, 2])).unwrap().view::<f32>()[..], [4.0, 5.0]);
        assert_eq!(sample(&a, 1, &TensorType::f32(&[2])).unwrap().view::<f32>()[..], [2.0, 3.0]);
        assert!(sample(&a, 3, &TensorType::f32(&[1, 2])).is_err());
    }

    #[test]
    fn integers_must_fit() {
        let bytes: Vec<u8> = [5i64, -7, 1 << 40].iter().flat_map(|v| v.to_le_bytes()).collect();
        let a = Array::in_file(file(&npy("<i8", "False", "(3, 1)", &bytes)), 0).unwrap();
        let ty = TensorType::new(Elem::I32, Shape::known(&[1]));
        assert_eq!(sample(&a, 1, &ty).unwrap().view::<i32>()[..], [-7]);
        assert!(matches!(sample(&a, 2, &ty), Err(DataError::Array { .. })));
        assert!(matches!(sample(&a, 0, &TensorType::f32(&[1])), Err(DataError::Array { .. })));
    }

    #[test]
    fn bytes_for_a_float_input_are_pixels() {
        let a = Array::in_file(file(&npy("|u1", "False", "(1, 3, 1, 2)", &[0, 255, 51, 102, 1, 2])), 0).unwrap();
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
            assert!(Array::in_file(file(&bytes), 0).is_err());
        }
    }

    #[test]
    fn npz_entries_are_read_stored_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npz");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, method) in [("x.npy", zip::CompressionMethod::Stored), ("y.npy", zip::CompressionMethod::Deflated)] {
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file(name, options).unwrap();
            zip.write_all(&npy("<f4", "False", "(2, 1)", &floats_of(&[1.5, 2.5]))).unwrap();
        }
        zip.finish().unwrap();
        let arrays = Array::open_npz(&path).unwrap();
        assert_eq!(arrays.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["x", "y"]);
        for (_, a) in &arrays {
            assert_eq!(sample(a, 1, &TensorType::f32(&[1, 1])).unwrap().view::<f32>()[..], [2.5]);
        }
    }
}

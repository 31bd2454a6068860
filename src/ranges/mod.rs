//! Ranges of activations in the calibration files of other tools. docs/ranges.md says which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qcc_ir::diagnostic::{Diagnostic, counted};
use qcc_passes::calibrate::Range;

mod aimet;
mod ort;
mod tensorrt;

/// Ranges by the name of the tensor.
pub(crate) type NamedRanges = BTreeMap<String, Range>;

/// A kind of file with ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The calibration cache of ONNX Runtime's quantizer.
    Ort,
    /// The encodings of AIMET.
    Aimet,
    /// The calibration cache of TensorRT.
    TensorRt,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Ort, Kind::Aimet, Kind::TensorRt];

    /// The extension of a file that is written.
    fn extension(self) -> &'static str {
        match self {
            Kind::Ort => "json",
            Kind::Aimet => "encodings",
            Kind::TensorRt => "cache",
        }
    }

    /// What files of the kind are called.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Ort => "calibration cache of ONNX Runtime",
            Kind::Aimet => "encodings of AIMET",
            Kind::TensorRt => "calibration cache of TensorRT",
        }
    }

    /// The kind of a file that is written to `path`; `None` for statistics.
    ///
    /// # Errors
    /// If the name does not tell.
    pub(crate) fn of(path: &Path) -> Result<Option<Self>, Box<Diagnostic>> {
        let extension = path.extension().and_then(|e| e.to_str());
        if extension == Some("qstats") {
            return Ok(None);
        }
        match Kind::ALL.into_iter().find(|kind| extension == Some(kind.extension())) {
            Some(kind) => Ok(Some(kind)),
            None => {
                let message = format!("the name of {} does not tell what to write", path.display());
                let kinds = Kind::ALL.map(|kind| format!(".{} ({})", kind.extension(), kind.title()));
                let help = format!("-o x.qstats writes statistics; ranges: {}", kinds.join(", "));
                Err(Box::new(Diagnostic::error("usage", message).with_help(help)))
            }
        }
    }

    /// The content of a file with these ranges.
    pub(crate) fn to_bytes(self, ranges: &NamedRanges) -> std::io::Result<Vec<u8>> {
        match self {
            Kind::Ort => ort::write(ranges),
            Kind::Aimet => aimet::write(ranges),
            Kind::TensorRt => Ok(tensorrt::write(ranges)),
        }
    }
}

/// Ranges that were read from a file.
#[derive(Clone, Debug)]
pub(crate) struct StoredRanges {
    pub(crate) path: PathBuf,
    kind: Kind,
    ranges: NamedRanges,
}

impl StoredRanges {
    /// Reads a file of any kind; its content tells which.
    pub(crate) fn read(path: &Path) -> Result<Self, Box<Diagnostic>> {
        let failed =
            |code, what: &str| Box::new(Diagnostic::error(code, format!("{}: {what}", path.display())).with_help(HELP));
        let bytes = std::fs::read(path).map_err(|e| failed("unreadable-ranges", &e.kind().to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| failed("bad-ranges", "it is no text"))?;
        let (kind, ranges) = if text.starts_with("TRT-") {
            (Kind::TensorRt, tensorrt::read(&text))
        } else {
            let json: serde_json::Value =
                serde_json::from_str(&text).map_err(|e| failed("bad-ranges", &format!("it is no JSON: {e}")))?;
            match () {
                () if ort::is(&json) => (Kind::Ort, ort::read(&json)),
                () if aimet::is(&json) => (Kind::Aimet, aimet::read(&json)),
                () => return Err(failed("bad-ranges", "it holds no ranges")),
            }
        };
        let ranges = ranges.map_err(|what| failed("bad-ranges", &what))?;
        if let Some((name, _)) = ranges.iter().find(|(_, r)| !(r.span().is_finite() && r.lo <= r.hi)) {
            return Err(failed("bad-ranges", &format!("the range of {name} is not valid")));
        }
        Ok(StoredRanges { path: path.into(), kind, ranges })
    }

    /// The range of a tensor.
    pub(crate) fn of(&self, name: &str) -> Option<Range> {
        self.ranges.get(name).copied()
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.ranges.keys().map(String::as_str)
    }

    /// A short description.
    pub(crate) fn describe(&self) -> String {
        let tensors = counted(self.ranges.len(), "tensor");
        format!("ranges of {tensors} in {} ({})", self.path.display(), self.kind.title())
    }
}

const HELP: &str =
    "give a calibration cache of ONNX Runtime (JSON) or TensorRT, or encodings of AIMET (docs/ranges.md)";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, f32, f32)>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let stored = StoredRanges::read(file.path()).map_err(|e| e.to_string())?;
        Ok(stored.ranges.into_iter().map(|(name, r)| (name, r.lo, r.hi)).collect())
    }

    fn one(lo: f32, hi: f32) -> Result<Vec<(String, f32, f32)>, String> {
        Ok(vec![("x".to_owned(), lo, hi)])
    }

    #[test]
    fn files_come_back() {
        let ranges: NamedRanges = [("a b: c", -1.0, 2.0), ("/x/Relu_output_0", 0.0, 0.1), ("z", 0.0, 0.0)]
            .map(|(name, lo, hi)| (name.to_owned(), Range { lo, hi }))
            .into();
        for kind in Kind::ALL {
            let text = String::from_utf8(kind.to_bytes(&ranges).unwrap()).unwrap();
            for ((name, lo, hi), (own, want)) in read(&text).unwrap().into_iter().zip(&ranges) {
                let step = want.span() / 255.0 + 1e-6;
                let wanted = match kind {
                    Kind::TensorRt => [-want.hi.max(-want.lo), want.hi.max(-want.lo)],
                    _ => [want.lo, want.hi],
                };
                assert_eq!(&name, own);
                assert!((lo - wanted[0]).abs() <= step && (hi - wanted[1]).abs() <= step, "{kind:?} {name} {lo} {hi}");
            }
        }
    }

    #[test]
    fn files_of_all_kinds_are_read() {
        let ort = |lowest: &str| {
            format!(
                "{{\"CLS\":\"TensorsData\",\"data\":{{\"x\":{{\"lowest\":{lowest},\"highest\":1.5,\"CLS\":\"TensorData\"}}}}}}"
            )
        };
        assert_eq!(read(&ort("-2")), one(-2.0, 1.5));
        assert_eq!(read(&ort(r#"{"data":[-2.0],"dtype":"float32","CLS":"numpy.array"}"#)), one(-2.0, 1.5));
        assert_eq!(read(&ort(r#"{"data":-2.0,"dtype":"float32","CLS":"numpy.array"}"#)), one(-2.0, 1.5));
        assert_eq!(read("TRT-8601-EntropyCalibration2\nx: 3c010a14\n"), one(-1.000_244_1, 1.000_244_1));
        let two = |entry: &str| format!(r#"{{"version":"2.0.0","encodings":[{{"name":"x",{entry}}}]}}"#);
        assert_eq!(read(&two(r#""output_dtype":"uint8","y_scale":0.5,"y_zero_point":128"#)), one(-64.0, 63.5));
        assert_eq!(read(&two(r#""output_dtype":"int8","y_scale":0.5"#)), one(-64.0, 63.5));
        assert_eq!(read(&two(r#""output_dtype":"uint16","y_scale":0.5,"y_zero_point":0"#)), one(0.0, 32767.5));
        // Weights have scales of channels, and floats have none.
        assert_eq!(read(&two(r#""output_dtype":"int8","y_scale":[0.5,1],"axis":0"#)), Ok(Vec::new()));
        assert_eq!(read(&two(r#""output_dtype":"float16""#)), Ok(Vec::new()));
        let first = r#"{"version":"1.0.0","activation_encodings":[{"name":"x","enc_type":"PER_TENSOR","dtype":"INT","bw":8,"is_sym":false,"scale":[0.5],"offset":[-128]}],"param_encodings":[]}"#;
        assert_eq!(read(first), one(-64.0, 63.5));
        let old = r#"{"version":"0.6.1","activation_encodings":{"x":[{"bitwidth":8,"dtype":"int","is_symmetric":"False","max":63.5,"min":-64.0,"offset":-128,"scale":0.5}]},"param_encodings":{}}"#;
        assert_eq!(read(old), one(-64.0, 63.5));
    }

    #[test]
    fn other_files_are_refused() {
        for (text, want) in [
            ("", "it is no JSON"),
            ("{}", "it holds no ranges"),
            ("[1]", "it holds no ranges"),
            (r#"{"CLS":"TensorsData","data":{"x":{"lowest":"low","highest":1}}}"#, "the lowest number of x"),
            (r#"{"CLS":"TensorsData","data":{"x":{"lowest":2,"highest":1}}}"#, "the range of x is not valid"),
            (r#"{"CLS":"TensorsData","data":{"x":{"lowest":-1e39,"highest":1}}}"#, "the range of x is not valid"),
            ("TRT-8601-EntropyCalibration2\nx 3c010a14\n", "line 2"),
            ("TRT-8601-EntropyCalibration2\nx: 3c010a1\n", "line 2"),
            (r#"{"version":"2.0.0","encodings":[{"output_dtype":"uint8"}]}"#, "an encoding has no name"),
            (r#"{"version":"2.0.0","encodings":[{"name":"x","output_dtype":"uint8"}]}"#, "the encoding of x"),
            (
                r#"{"version":"2.0.0","encodings":[{"name":"x","output_dtype":"uint99","y_scale":1}]}"#,
                "the encoding of x",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}

//! Calibration data: dataset YAML files, image lists, arrays and images.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use qcc::data::{Dataset, Preprocess, panic_is_contained};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Graph, Shape, TensorType};
use tempfile::TempDir;

use crate::refused;

/// A temporary folder, in memory if possible, with two images in `p`.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let made = || {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder");
        std::fs::create_dir(dir.path().join("p")).expect("a folder");
        for name in ["a.png", "b.png"] {
            image::GrayImage::new(2, 2).save(dir.path().join("p").join(name)).expect("a picture");
        }
        dir
    };
    FOLDER.get_or_init(made).path()
}

fn file(name: &str, data: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, data).expect("a file");
    path
}

/// Reads the data for a model with that input.
fn fed(path: &Path, ty: TensorType) {
    let mut g = Graph::new("g");
    g.add_input("x", ty);
    let samples = Dataset::open(path).and_then(|d| {
        d.files();
        d.limited(4).bind(&g, Some(Preprocess::IMAGENET))
    });
    match samples {
        Ok(samples) => {
            let _ = samples.to_string();
            for sample in (0..samples.len()).filter_map(|i| samples.get(i).ok()).flatten() {
                assert!(sample.ty().shape.elements().is_some());
            }
        }
        Err(e) => refused(&[Diagnostic::from(&e)]),
    }
}

fn floats(dims: &[usize]) -> TensorType {
    TensorType::f32(dims)
}

/// Dataset YAML files. After a zero byte, image lists. Paths that lead outside the folder are skipped, because the
/// result would depend on the machine.
pub(crate) fn yaml(data: &[u8]) {
    let leads_out =
        |w: &[u8]| w == b".." || (w[1] == b'/' && (w[0].is_ascii_whitespace() || b"'\"[{,&*|>-\0".contains(&w[0])));
    if data.starts_with(b"/") || data.windows(2).any(leads_out) {
        return;
    }
    match data {
        [0, list @ ..] => fed(&file("list.txt", list), floats(&[1, 1, 2, 2])),
        yaml => fed(&file("set.yaml", yaml), floats(&[1, 1, 2, 2])),
    }
}

/// Arrays. The first byte selects .npy, .npz, or an .npz archive that contains the rest.
pub(crate) fn array(data: &[u8]) {
    let [kind, rest @ ..] = data else { return };
    let path = match kind % 3 {
        0 => file("a.npy", rest),
        1 => file("a.npz", rest),
        _ => {
            let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            let method = if kind & 4 == 0 { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
            let options = zip::write::SimpleFileOptions::default().compression_method(method);
            zip.start_file("x.npy", options).expect("an entry");
            zip.write_all(rest).expect("its bytes");
            file("a.npz", &zip.finish().expect("an archive").into_inner())
        }
    };
    let elem = match kind / 8 % 4 {
        0 | 1 => Elem::F32,
        2 => Elem::I64,
        _ => Elem::U8,
    };
    fed(&path, TensorType::new(elem, Shape::known(&[1, 3, 2])));
}

/// Images of any format, detected by content.
pub(crate) fn picture(data: &[u8]) {
    let [channels, rest @ ..] = data else { return };
    let dims = if channels % 2 == 0 { [1, 3, 8, 6] } else { [1, 8, 6, 1] };
    fed(&file("p.png", rest), floats(&dims));
    assert!(!panic_is_contained());
}

//! Archives of pictures or arrays.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use zip::ZipArchive;

use super::DataError;
use super::array::{LARGEST_RATIO, UNPACKED_BYTES};
use super::listing::is_data;
use crate::unfinished::Scratch;

/// The folder of metadata that macOS adds to archives: its files have the names of others.
const MAC_FOLDER: &str = "__MACOSX";

/// Unpacks the pictures and arrays of a ZIP archive into a temporary folder.
pub(super) fn unpack(path: &Path) -> Result<Scratch, DataError> {
    let bad = |reason: String| DataError::Archive { path: path.into(), reason };
    let unreadable = |source: io::Error| DataError::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let packed = file.metadata().map_err(unreadable)?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| bad(format!("no archive: {e}")))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let scratch = Scratch::new(&format!("{name}-")).map_err(unreadable)?;
    let mut left = packed.saturating_mul(LARGEST_RATIO).max(UNPACKED_BYTES);
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| bad(e.to_string()))?;
        let Some(inside) = entry.enclosed_name().filter(|name| entry.is_file() && is_data(name)) else { continue };
        if inside.starts_with(MAC_FOLDER) {
            continue;
        }
        let to = scratch.path().join(&inside);
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(unreadable)?;
        let unpacked = File::create(&to).and_then(|mut to| io::copy(&mut entry.by_ref().take(left + 1), &mut to));
        let size = unpacked.map_err(|e| bad(format!("{} cannot be unpacked: {e}", inside.display())))?;
        left = left.checked_sub(size).ok_or_else(|| {
            bad(format!("its content is more than {LARGEST_RATIO} times as large as the archive; give a folder"))
        })?;
    }
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use zip::write::SimpleFileOptions;

    use super::super::Dataset;
    use super::*;

    /// An archive of these files in a folder.
    fn archive(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.zip");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        (dir, path)
    }

    #[test]
    fn an_archive_is_like_a_folder() {
        let (_dir, path) =
            archive(&[("d/b.jpg", b"b"), ("d/a/c.PNG", b"c"), ("d/note.md", b"n"), ("__MACOSX/d/._b.jpg", b"m")]);
        let data = Dataset::open(&path).unwrap();
        let files = data.files();
        assert_eq!(files[0], path);
        let names: Vec<PathBuf> =
            files[1..].iter().map(|f| f.iter().skip(f.iter().count() - 2).collect::<PathBuf>()).collect();
        assert_eq!(names, [Path::new("a/c.PNG").to_path_buf(), Path::new("d/b.jpg").into()]);
        assert_eq!(fs::read(&files[2]).unwrap(), b"b");
        drop(data);
        assert!(!files[1].exists());
    }

    #[test]
    fn archives_without_data_are_refused() {
        let (_dir, path) = archive(&[("note.md", b"n"), ("../a.jpg", b"a")]);
        assert!(matches!(Dataset::open(&path), Err(DataError::Empty(at)) if at == path));
        fs::write(&path, "no archive").unwrap();
        assert!(matches!(Dataset::open(&path), Err(DataError::Archive { .. })));
        let zeros = vec![0; usize::try_from(UNPACKED_BYTES).unwrap() + 1];
        let (_dir, path) = archive(&[("a.npy", &zeros)]);
        let error = Dataset::open(&path).unwrap_err().to_string();
        assert!(error.contains("more than 100 times"), "{error}");
    }
}

//! SHA-256 digests and lengths of the files of a run.

use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use qcc_backends::disassembly::{Digest, Digester};
use qcc_frontends::Model;
use serde::Serialize;

/// A file and its digest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileDigest {
    /// The file.
    pub file: PathBuf,
    /// `sha256:` and the digest in hexadecimal digits.
    pub digest: String,
}

/// The digest of a file, if it can be read.
pub(crate) fn of_file(path: &Path) -> Option<Digest> {
    let mut digester = Digester::default();
    io::copy(&mut File::open(path).ok()?, &mut digester).ok()?;
    Some(digester.finish())
}

/// The digest of a file, or of the lines with the digests of several: `sha256sum FILES | cut -c-64 | sha256sum`. `None`
/// if there are no files, or one cannot be read.
pub(crate) fn of_files<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Option<Digest> {
    let mut all = paths.into_iter().map(of_file).collect::<Option<Vec<Digest>>>()?;
    if all.len() < 2 {
        return all.pop();
    }
    let mut lines = String::new();
    for digest in all {
        let digest = digest.to_string();
        let _ = writeln!(lines, "{}", digest.trim_start_matches("sha256:"));
    }
    Some(Digest::of(lines.as_bytes()))
}

/// The length in bytes of a model: of its file, and of the files with weights that it refers to.
pub(crate) fn length(path: &Path, model: &Model) -> u64 {
    let files = model.files().into_iter().filter(|file| file != path);
    let length = |file: &Path| std::fs::metadata(file).map_or(0, |m| m.len());
    length(path) + files.map(|file| length(&file)).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_have_the_digest_of_their_digests() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = ["a", "b"].iter().map(|name| dir.path().join(name)).collect();
        paths.iter().for_each(|p| std::fs::write(p, p.file_name().unwrap().as_encoded_bytes()).unwrap());
        let of = |n: usize| of_files(paths[..n].iter().map(PathBuf::as_path)).map(|d| d.to_string());
        assert_eq!(of(0), None);
        let a = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
        assert_eq!(of(1).as_deref(), Some(a));
        // printf a > a; printf b > b; sha256sum a b | cut -c-64 | sha256sum
        assert_eq!(of(2).as_deref(), Some("sha256:bf75fafab8e46555836b92f1b04106b795a9ed36bd39b351f103b28819895f33"));
        std::fs::remove_file(&paths[1]).unwrap();
        assert_eq!(of(2), None);
    }
}

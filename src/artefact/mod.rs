//! The files of a run. They become visible together and complete, and never replace a file that the run reads.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use qcc_backends::Files;
use qcc_backends::disassembly::Digester;
use qcc_ir::diagnostic::Diagnostic;

use crate::digest::FileDigest;
use crate::outcome::Failure;
use crate::unfinished::{self, Folders};

mod protected;
mod temporary;

pub(crate) use protected::Protected;
use temporary::Temporary;

/// Size of the write buffer in bytes.
const BUFFER: usize = 1 << 20;

/// The role of a file in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A file of the artefact with this index.
    Artefact(usize),
    Report,
}

/// A file that is not complete yet.
#[derive(Debug)]
struct Pending {
    part: Part,
    /// The path that the user gave.
    path: PathBuf,
    /// The final path: symbolic links are resolved, the folder is canonical.
    destination: PathBuf,
    file: BufWriter<Temporary>,
    /// Computes the digest of what is written, if it is wanted.
    digester: Option<Digester>,
}

/// All files that a run writes. They have temporary names until [`Publication::publish`].
#[derive(Debug)]
pub(crate) struct Publication {
    protected: Protected,
    /// The main file of each artefact.
    artefacts: Vec<PathBuf>,
    /// Dropped before the folders that contain them.
    files: Vec<Pending>,
    folders: Folders,
    /// Whether digests of artefacts are computed.
    digests: bool,
}

impl Publication {
    /// A run that reads the `protected` files and has no output files yet.
    pub(crate) fn new(protected: Protected) -> Self {
        let folders = Folders::default();
        Publication { protected, artefacts: Vec::new(), files: Vec::new(), folders, digests: false }
    }

    /// Computes the digests of artefacts that are begun later.
    pub(crate) fn compute_digests(&mut self) {
        self.digests = true;
    }

    /// The digest of each file of an artefact, if they were computed.
    pub(crate) fn digests(&self, artefact: usize) -> Vec<FileDigest> {
        let files = self.files.iter().filter(|f| f.part == Part::Artefact(artefact));
        let digest =
            |f: &Pending| Some(FileDigest { file: f.path.clone(), digest: f.digester.as_ref()?.finish().to_string() });
        files.filter_map(digest).collect()
    }

    /// Begins an artefact with its main file at `path` and the files named `beside` in the same folder.
    ///
    /// # Errors
    /// If one of them cannot be written or would replace a protected file.
    pub(crate) fn artefact(&mut self, path: &Path, beside: &[String]) -> Result<(), Failure> {
        let part = Part::Artefact(self.artefacts.len());
        self.begin(part, path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for name in beside {
            self.destination(part, &folder.join(name))?;
        }
        self.artefacts.push(path.into());
        Ok(())
    }

    /// Begins a report.
    ///
    /// # Errors
    /// If it cannot be written or would replace a protected file.
    pub(crate) fn report(&mut self, path: &Path) -> Result<(), Failure> {
        self.begin(Part::Report, path)
    }

    /// Creates a folder and its parents. They are removed again if they stay empty.
    pub(crate) fn folder(&mut self, path: &Path) -> Result<(), Failure> {
        let failed = |e: io::Error| {
            let message = format!("cannot make the folder {}: {}", path.display(), e.kind());
            Diagnostic::error("unwritable-output", message)
        };
        Ok(self.folders.make(path).map_err(failed)?)
    }

    fn begin(&mut self, part: Part, path: &Path) -> Result<(), Failure> {
        let destination = self.destination(part, path)?;
        let folder = destination.parent().unwrap_or(Path::new("."));
        let file = Temporary::new(folder).map_err(|e| unwritable(&path.display(), &e.kind()))?;
        let file = BufWriter::with_capacity(BUFFER, file);
        let digester = (self.digests && part != Part::Report).then(Digester::default);
        self.files.push(Pending { part, path: path.into(), destination, file, digester });
        Ok(())
    }

    /// The final path of a file called `path`. Fails if an existing file there must not be replaced.
    fn destination(&self, part: Part, path: &Path) -> Result<PathBuf, Failure> {
        let failed = |why: &dyn fmt::Display| unwritable(&path.display(), why);
        let target = behind_links(path).ok_or_else(|| failed(&"its links lead nowhere"))?;
        let name = target.file_name().ok_or_else(|| failed(&"it names no file"))?;
        let folder = target.parent().filter(|f| *f != Path::new("")).unwrap_or(Path::new("."));
        let missing = || failed(&format!("there is no folder {}", folder.display())).with_help("make the folder first");
        let destination = folder.canonicalize().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => missing(),
            kind => failed(&kind),
        })?;
        let destination = destination.join(name);
        replaceable(&destination).map_err(|why| failed(&why))?;
        let taken = self.files.iter().find(|f| f.destination == destination).map(|f| match f.part {
            Part::Report => "the report".to_owned(),
            Part::Artefact(_) if f.path == path => "an artefact".to_owned(),
            Part::Artefact(_) => format!("an artefact, {}", f.path.display()),
        });
        let Some(role) = self.protected.role(path).or(taken) else { return Ok(destination) };
        let error = Diagnostic::error("usage", format!("{} would replace {role}", path.display()));
        Err(Failure::usage(error.with_help(match part {
            Part::Artefact(_) => "give another place: -o PATH",
            Part::Report => "give another file: --report FILE",
        })))
    }

    /// Where the files of an artefact are written.
    pub(crate) fn staged(&mut self, artefact: usize) -> Staged<'_> {
        let main = self.artefacts.get(artefact).and_then(|path| path.file_name()).unwrap_or_default();
        Staged { main: main.to_string_lossy().into_owned(), publication: self, artefact }
    }

    /// Writes the only artefact, which has one file, and publishes it.
    pub(crate) fn write_whole(mut self, bytes: &[u8]) -> Result<(), Failure> {
        for file in self.files.iter_mut().filter(|f| f.part == Part::Artefact(0)) {
            file.write_all(bytes).map_err(|e| Diagnostic::error("unwritable-output", format!("cannot write {e}")))?;
        }
        self.publish()
    }

    /// Writes a report that was begun.
    pub(crate) fn write_report(&mut self, path: &Path, text: &[u8]) -> Result<(), Failure> {
        match self.files.iter_mut().find(|f| f.part == Part::Report && f.path == path) {
            Some(report) => Ok(report.write_all(text).map_err(|e| unwritable(&report.path.display(), &e.kind()))?),
            None => Ok(()),
        }
    }

    /// Renames only the reports to their final names.
    pub(crate) fn publish_reports(mut self) -> Result<(), Failure> {
        self.files.retain(|f| f.part == Part::Report);
        self.publish()
    }

    /// Gives all files their final names: main files after the files that belong to them, reports last.
    pub(crate) fn publish(mut self) -> Result<(), Failure> {
        let mains = std::mem::take(&mut self.artefacts);
        let last = |f: &Pending| (f.part == Part::Report, mains.contains(&f.path));
        self.files.sort_by_key(last);
        let mut complete = Vec::new();
        for Pending { path, destination, file, .. } in std::mem::take(&mut self.files) {
            let failed = |why: &dyn fmt::Display| unwritable(&path.display(), why);
            replaceable(&destination).map_err(|why| failed(&why))?;
            let file = file.into_inner().map_err(|e| failed(&e.error().kind()))?;
            complete.push((path, destination, file));
        }
        unfinished::publishing(|| {
            for (path, destination, file) in complete {
                file.publish(&destination).map_err(|e| unwritable(&path.display(), &e.kind()))?;
            }
            Ok(())
        })
    }
}

/// The files of one artefact while they are written.
#[derive(Debug)]
pub(crate) struct Staged<'p> {
    publication: &'p mut Publication,
    artefact: usize,
    main: String,
}

impl Files for Staged<'_> {
    fn main(&self) -> &str {
        &self.main
    }

    fn create(&mut self, name: &str) -> io::Result<&mut dyn Write> {
        let part = Part::Artefact(self.artefact);
        let main = &self.publication.artefacts[self.artefact];
        let path = if name == self.main { main.clone() } else { main.with_file_name(name) };
        let known = self.publication.files.iter().position(|f| f.part == part && f.path == path);
        let place = match known {
            Some(place) => place,
            None => {
                self.publication.begin(part, &path).map_err(|e| io::Error::other(said(&e)))?;
                self.publication.files.len() - 1
            }
        };
        Ok(&mut self.publication.files[place])
    }

    fn restart(&mut self) -> io::Result<()> {
        let part = Part::Artefact(self.artefact);
        self.publication.files.retain(|f| f.part != part);
        let path = self.publication.artefacts[self.artefact].clone();
        self.publication.begin(part, &path).map_err(|e| io::Error::other(said(&e)))
    }
}

impl Pending {
    /// The error with the final name of the file.
    fn named(&self, e: &io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{}: {}", self.path.display(), e.kind()))
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes).map_err(|e| self.named(&e))?;
        if let Some(digester) = &mut self.digester {
            digester.write_all(&bytes[..n])?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|e| self.named(&e))
    }
}

fn unwritable(what: &dyn fmt::Display, why: &dyn fmt::Display) -> Diagnostic {
    Diagnostic::error("unwritable-output", format!("cannot write {what}: {why}"))
}

fn said(failure: &Failure) -> String {
    failure.diagnostics().first().map(|d| d.message.clone()).unwrap_or_default()
}

/// Maximum length of a chain of symbolic links (the limit of Linux).
const MOST_LINKS: usize = 40;

/// The path that symbolic links at `path` lead to, whether it exists or not.
fn behind_links(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        let Ok(target) = std::fs::read_link(&path) else { return Some(path) };
        path = path.parent()?.join(target);
    }
    None
}

/// Fails if the file at `path` must not be replaced: a rename would replace a device by a file, and would replace a
/// read-only file.
fn replaceable(path: &Path) -> Result<(), &'static str> {
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => Err("it is not a file"),
        Ok(there) if there.permissions().readonly() => Err("it is read-only"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

//! The contents of model files, and the differences between two of them.
//!
//! ```
//! let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/mnist_lenet.onnx");
//! assert!(qcc::inspect::diff(model.as_ref(), model.as_ref())?.equal);
//! # Ok::<_, qcc::Failure>(())
//! ```

use std::path::Path;

use bytes::Bytes;
use qcc_backends::Kind;
use qcc_backends::disassembly::{Changes, Disassembly, Entry};
use qcc_frontends::{Folder, ImportOptions, Model, map};
use qcc_ir::diagnostic::Diagnostic;

use crate::Failure;

/// The contents of a file in the terms of its format. A `.pt2` file is shown as the graph that is imported from it.
///
/// # Errors
/// If the file cannot be read.
pub fn inspect(path: &Path) -> Result<Disassembly, Failure> {
    let file =
        map(path).map_err(|e| Diagnostic::error("unreadable-file", format!("cannot read {}: {e}", path.display())))?;
    let folder = Folder::new(path.parent().unwrap_or(Path::new("")));
    let main = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(kind) = Kind::of(&file) else {
        return inspect_graph(path, &ImportOptions::default());
    };
    match kind.disassemble(&file, &main, &|location| folder.map(location)) {
        Ok(mut all) => {
            all.metadata.extend(appended(kind, &file, path));
            Ok(all)
        }
        Err(error) if kind == Kind::Graph => Err(error.diagnostic().into()),
        // The importer has more precise messages for files that are not models.
        Err(error) => Err(Model::open(path).err().map_or_else(|| error.diagnostic().into(), Failure::from)),
    }
}

/// The graph that is imported from a model.
///
/// # Errors
/// If the model cannot be read or is refused.
pub fn inspect_graph(path: &Path, options: &ImportOptions) -> Result<Disassembly, Failure> {
    Ok(Disassembly::of_graph(&qcc_frontends::open(path, options)?.graph))
}

/// The differences between two files of one format.
///
/// # Errors
/// If a file cannot be read, or the formats differ.
pub fn diff(before: &Path, after: &Path) -> Result<Changes, Failure> {
    let [a, b] = [inspect(before)?, inspect(after)?];
    if a.format != b.format {
        let message = format!("{} is {}, and {} is {}", before.display(), a.format, after.display(), b.format);
        let help =
            "only files of one format can be compared by their contents; `qcc compare` evaluates models of any formats";
        return Err(Failure::usage(Diagnostic::error("usage", message).with_help(help)));
    }
    Ok(a.diff(&b))
}

/// Metadata that is appended to a TFLite file.
fn appended(kind: Kind, file: &Bytes, path: &Path) -> Vec<Entry> {
    if kind != Kind::Tflite {
        return Vec::new();
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let metadata = Model::read(file.clone(), folder).map(|m| m.metadata()).unwrap_or_default();
    metadata.into_iter().map(|(name, value)| Entry::new(name, value)).collect()
}

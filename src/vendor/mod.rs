//! Vendors of models with metadata that describe preprocessing and outputs. All that qcc knows of a vendor is in one
//! place behind the trait `Vendor`; passes and backends get it as passes, names and bytes.
//!
//! ```
//! let metadata = [("task".to_owned(), "classify".to_owned())];
//! assert!(qcc::vendor::hints(&metadata).classifies);
//! ```

use std::path::PathBuf;

use qcc_backends::{Attachments, Backend};
use qcc_passes::Pass;
use qcc_passes::layout::ImageOrder;
use qcc_passes::quality::Hints;

use crate::data::Preprocess;

mod labels;
mod ultralytics;

/// Metadata of a model: keys and values.
pub type Metadata = [(String, String)];

/// Vendor-specific knowledge. Each function returns nothing for models of other vendors.
pub(crate) trait Vendor: Sync {
    /// The preprocessing of images for the model.
    fn preprocess(&self, metadata: &Metadata) -> Option<Preprocess>;

    /// The kinds of its outputs.
    fn hints(&self, metadata: &Metadata) -> Option<Hints>;

    /// Passes that adapt outputs to what the vendor's tools expect of artefacts of this backend. They check the
    /// metadata of the graph and leave models of other vendors unchanged.
    fn prepare(&self, backend: &dyn Backend, input: ImageOrder) -> Vec<Box<dyn Pass>>;

    /// The path under which the vendor's tools find the main file of a model called `stem`; `suffix` tells the
    /// precision.
    fn file_name(&self, backend: &dyn Backend, stem: &str, suffix: &str, metadata: &Metadata) -> Option<PathBuf>;

    /// Additional files and metadata that the vendor's tools expect.
    fn attachments(&self, backend: &dyn Backend, metadata: &Metadata) -> Option<Attachments>;
}

const VENDORS: &[&dyn Vendor] = &[&ultralytics::Ultralytics];

/// The preprocessing of images for a model, if its metadata describe it.
pub fn preprocess(metadata: &Metadata) -> Option<Preprocess> {
    VENDORS.iter().find_map(|v| v.preprocess(metadata))
}

/// The kinds of a model's outputs, if its metadata describe them.
pub fn hints(metadata: &Metadata) -> Hints {
    VENDORS.iter().find_map(|v| v.hints(metadata)).unwrap_or_default()
}

/// Passes that adapt the outputs of models of known vendors, for a backend.
pub fn prepare(backend: &dyn Backend, input: ImageOrder) -> Vec<Box<dyn Pass>> {
    VENDORS.iter().flat_map(|v| v.prepare(backend, input)).collect()
}

/// Path of the main file of an artefact in a folder, for a model called `stem`; `suffix` tells the precision.
pub fn file_name(backend: &dyn Backend, stem: &str, suffix: &str, metadata: &Metadata) -> PathBuf {
    let own = VENDORS.iter().find_map(|v| v.file_name(backend, stem, suffix, metadata));
    own.unwrap_or_else(|| backend.file_name(stem, suffix))
}

/// Additional files and metadata of an artefact.
pub fn attachments(backend: &dyn Backend, metadata: &Metadata) -> Attachments {
    let own = VENDORS.iter().find_map(|v| v.attachments(backend, metadata));
    own.unwrap_or_else(|| labels::attachments(ultralytics::labels(metadata)))
}

/// Replaces the names of classes in the metadata of a model.
pub(crate) fn name_classes(metadata: &mut Vec<(String, String)>, names: &[String]) {
    let (key, value) = ultralytics::named(names);
    match metadata.iter_mut().find(|(k, _)| *k == key) {
        Some((_, old)) => *old = value,
        None => metadata.push((key, value)),
    }
}

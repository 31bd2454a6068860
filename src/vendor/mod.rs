//! Vendors: whose exports say how their own tools feed a model and read what it gives. All that qcc knows of a vendor is in
//! one place behind the trait `Vendor`; passes and backends get it as passes, names and bytes.
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

mod ultralytics;

/// What a model says about itself: keys and values.
pub type Metadata = [(String, String)];

/// What qcc knows of a vendor. Each function gives nothing for models of others.
pub(crate) trait Vendor: Sync {
    /// How pictures become the inputs of the model.
    fn preprocess(&self, metadata: &Metadata) -> Option<Preprocess>;

    /// What its outputs hold.
    fn hints(&self, metadata: &Metadata) -> Option<Hints>;

    /// Passes that change what a model gives, since the vendor's tools read artefacts of this backend so. They look at
    /// the metadata of the graph and leave models of others as they are.
    fn prepare(&self, backend: &dyn Backend, input: ImageOrder) -> Vec<Box<dyn Pass>>;

    /// Where the vendor's tools find the main file of a model called `stem`; `suffix` tells the precision.
    fn file_name(&self, backend: &dyn Backend, stem: &str, suffix: &str, metadata: &Metadata) -> Option<PathBuf>;

    /// What they look for besides the graph.
    fn attachments(&self, backend: &dyn Backend, metadata: &Metadata) -> Option<Attachments>;
}

const VENDORS: &[&dyn Vendor] = &[&ultralytics::Ultralytics];

/// How pictures become the inputs of a model, where it says so.
pub fn preprocess(metadata: &Metadata) -> Option<Preprocess> {
    VENDORS.iter().find_map(|v| v.preprocess(metadata))
}

/// What a model says of its outputs.
pub fn hints(metadata: &Metadata) -> Hints {
    VENDORS.iter().find_map(|v| v.hints(metadata)).unwrap_or_default()
}

/// Passes that change what models of known vendors give, for a backend.
pub fn prepare(backend: &dyn Backend, input: ImageOrder) -> Vec<Box<dyn Pass>> {
    VENDORS.iter().flat_map(|v| v.prepare(backend, input)).collect()
}

/// Path of the main file of an artefact in a folder, for a model called `stem`; `suffix` tells the precision.
pub fn file_name(backend: &dyn Backend, stem: &str, suffix: &str, metadata: &Metadata) -> PathBuf {
    let own = VENDORS.iter().find_map(|v| v.file_name(backend, stem, suffix, metadata));
    own.unwrap_or_else(|| backend.file_name(stem, suffix))
}

/// What goes with an artefact besides its graph.
pub fn attachments(backend: &dyn Backend, metadata: &Metadata) -> Attachments {
    VENDORS.iter().find_map(|v| v.attachments(backend, metadata)).unwrap_or_default()
}

//! What a model says of its task.

use qcc_ir::{Graph, metadata_entry};
use qcc_passes::quality::Hints;

/// What the metadata that Ultralytics' exports carry say of the outputs: the task, and the names of the classes.
pub(crate) fn hints(g: &Graph) -> Hints {
    let said = |key: &str| metadata_entry(&g.metadata, key);
    let classes = said("names").map(|names| names.matches(": ").count()).filter(|&n| n > 0);
    match said("task") {
        Some("classify") => Hints { classifies: true, detects: None },
        Some("detect" | "segment" | "pose" | "obb") => Hints { classifies: false, detects: classes },
        _ => Hints::default(),
    }
}

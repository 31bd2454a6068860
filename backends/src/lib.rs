//! Writers of target artefacts.

//! Why statistics cannot be used.

use std::path::PathBuf;

use qcc_ir::diagnostic::Diagnostic;

use super::VERSION;

/// Why a file of statistics cannot be used or merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatisticsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is of another kind.
    #[error("{} holds no calibration statistics", .0.display())]
    Kind(PathBuf),
    /// The file has another version of the format.
    #[error("{} is of version {found} of the format; this qcc reads version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// Another version of qcc made the file.
    #[error("{} was made by qcc {made}; this is qcc {}", path.display(), env!("CARGO_PKG_VERSION"))]
    Maker {
        /// The file.
        path: PathBuf,
        /// The version that made it.
        made: String,
    },
    /// The content is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The statistics are those of another model.
    #[error("{} holds statistics of another model, {name}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The name of that model.
        name: String,
    },
    /// The statistics are those of the model with other inputs.
    #[error("{} holds statistics of a model with inputs {theirs}; this one has {own}", path.display())]
    Inputs {
        /// The file.
        path: PathBuf,
        /// The inputs that the statistics belong to.
        theirs: String,
        /// The inputs of the model.
        own: String,
    },
    /// The statistics lack values of the lowered graph.
    #[error("{} lacks statistics of {missing} values of the model as it is lowered for {target}", path.display())]
    Values {
        /// The file.
        path: PathBuf,
        /// The target.
        target: String,
        /// The number of values without statistics.
        missing: usize,
        /// The node of the first of them.
        first: String,
        /// The targets that the statistics were made for.
        made_for: String,
    },
    /// Two files do not fit together.
    #[error("{} and {} do not fit together: {what}", first.display(), other.display())]
    Unlike {
        /// The first file.
        first: PathBuf,
        /// The file that differs from it.
        other: PathBuf,
        /// What differs.
        what: String,
    },
    /// The same samples would count twice.
    #[error("{} and {} hold the same samples: {shard}", first.display(), other.display())]
    Twice {
        /// The first file.
        first: PathBuf,
        /// The other one.
        other: PathBuf,
        /// The name of the data.
        shard: String,
    },
    /// Samples that are to be excluded are merged with others.
    #[error("{}: statistics of {shard} are merged with those of other data and cannot be taken out", path.display())]
    Merged {
        /// The file.
        path: PathBuf,
        /// The name of the data.
        shard: String,
    },
    /// A pattern excludes nothing.
    #[error("--exclude {0} names no data of these files")]
    NothingExcluded(String),
    /// Nothing is left to merge.
    #[error("all data are excluded")]
    Empty,
}

impl From<&StatisticsError> for Diagnostic {
    fn from(e: &StatisticsError) -> Self {
        use StatisticsError as E;
        let again = "calibrate again: qcc calibrate MODEL --data PATH -o FILE";
        let (code, help) = match e {
            E::Unreadable { .. } => ("unreadable-statistics", "give a file that `qcc calibrate` or `qcc merge` wrote"),
            E::Kind(_) => ("bad-statistics", "give a file that `qcc calibrate` or `qcc merge` wrote"),
            E::Version { .. } | E::Maker { .. } => ("statistics-version", again),
            E::Damaged { .. } => ("damaged-statistics", "copy the file again, or calibrate again"),
            E::Model { .. } => ("other-model", "give the model file that was calibrated, and the same --set"),
            E::Inputs { .. } => ("other-model", "give the same --shape and --set as for `qcc calibrate`"),
            E::Values { .. } => (
                "missing-statistics",
                "give `qcc calibrate` the same --to, --device and --input-layout; without --to it covers all formats",
            ),
            E::Unlike { .. } => ("unlike-statistics", "calibrate all data with the same model and options"),
            E::Twice { .. } => ("repeated-samples", "give each set of samples once"),
            E::Merged { .. } => ("merged-samples", "merge the files of the single sets of data, without that one"),
            E::NothingExcluded(_) => {
                ("unmatched-exclude", "name data as `qcc calibrate --data` did; `*` stands for any characters")
            }
            E::Empty => ("no-samples", "leave some --exclude out"),
        };
        let error = Diagnostic::error(code, e.to_string()).with_help(help);
        match e {
            E::Maker { .. } => error.with_note("statistics are equal bit for bit within one version"),
            E::Values { first, made_for, .. } => {
                error.with_note(format!("the first is computed by {first}; the statistics were made for {made_for}"))
            }
            _ => error,
        }
    }
}

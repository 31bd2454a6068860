//! Sets the text that `qcc --version` prints.

use std::env;
use std::io::{self, Write};
use std::process::Command;

fn main() -> io::Result<()> {
    let mut cargo = io::stdout();
    writeln!(cargo, "cargo:rerun-if-changed=build.rs")?;
    let var = |name: &str| env::var(name).unwrap_or_default();
    // Development builds do not depend on the commit: each commit would compile the crate again.
    let commit = match var("PROFILE").as_str() {
        "release" => git(&["rev-parse", "--short=12", "HEAD"]),
        _ => None,
    };
    if commit.is_some()
        && let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
    {
        writeln!(cargo, "cargo:rerun-if-changed={log}")?;
    }
    let (version, target, features) = (var("CARGO_PKG_VERSION"), var("TARGET"), var("CARGO_CFG_TARGET_FEATURE"));
    let commit = commit.map_or_else(String::new, |commit| format!("commit {commit}, "));
    writeln!(cargo, "cargo:rustc-env=QCC_LONG_VERSION={version} ({commit}{target}, CPU features {features})")
}

/// What a command of git prints; none outside of a working copy.
fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok().filter(|done| done.status.success())?;
    Some(String::from_utf8(done.stdout).ok()?.trim().to_owned())
}

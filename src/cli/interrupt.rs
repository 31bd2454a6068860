//! Signals and panics that end the program, and their messages.

use std::path::Path;

use crate::ir::diagnostic::printable;

/// Suppresses the panic message for panics that are caught and reported as errors.
pub fn hush_contained_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !crate::data::panic_is_contained() {
            tell(panic);
        }
    }));
}

/// Installs handlers for SIGINT and SIGTERM: unfinished files are removed, then the program exits with the code that
/// shells use for these signals.
#[cfg(unix)]
pub(crate) fn leave_nothing() {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    // Without handlers the signals end the program by default.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            crate::abandon();
            signal_hook::low_level::exit(128 + signal);
        }
    });
}

/// Installs a handler that ends the program with a message if a mapped file is truncated or its disk fails while it is
/// read.
#[cfg(unix)]
pub(crate) fn name_lost_files(models: &[&Path]) {
    use std::sync::OnceLock;

    use signal_hook::consts::SIGBUS;
    use signal_hook::low_level;

    /// A signal handler must not allocate: the message is made beforehand.
    static MESSAGE: OnceLock<String> = OnceLock::new();
    let names: Vec<String> = models.iter().map(|m| printable(&m.display().to_string()).into_owned()).collect();
    let message = format!(
        "error[unreadable-file]: {}, or a file with its weights, was cut short or cannot be read any more\n  = help: \
         run again when nothing writes to it\n",
        names.join(" or ")
    );
    if MESSAGE.set(message).is_err() {
        return;
    }
    let end = || {
        if let Some(message) = MESSAGE.get() {
            let _ = rustix::io::write(rustix::stdio::stderr(), message.as_bytes());
        }
        low_level::exit(i32::from(crate::cli::report::REFUSED));
    };
    // SAFETY: the handler reads a static, makes one system call that writes, and ends the process. Nothing that it
    // calls takes a lock, allocates or unwinds.
    #[expect(unsafe_code, reason = "there is no safe way to handle a truncated mapped file")]
    let _ = unsafe { low_level::register(SIGBUS, end) };
}

#[cfg(not(unix))]
pub(crate) fn leave_nothing() {}

#[cfg(not(unix))]
pub(crate) fn name_lost_files(_models: &[&Path]) {}

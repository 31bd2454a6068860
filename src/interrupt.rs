//! Signals and panics: what ends the program, and what is said then.

use std::path::Path;

use qcc::ir::diagnostic::printable;

/// Leaves panics untold that are told as errors.
pub(crate) fn hush_contained_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !qcc::data::panic_is_contained() {
            tell(panic);
        }
    }));
}

/// Lets SIGINT and SIGTERM remove unfinished files before they end the program, with the exit code that shells give to
/// such an end.
#[cfg(unix)]
pub(crate) fn leave_nothing() {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    // Where signals cannot be handled they end the program as they always do.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            qcc::abandon();
            signal_hook::low_level::exit(128 + signal);
        }
    });
}

/// Lets the program end with a message where a mapped file is cut short, or its disk fails, while its bytes are read.
#[cfg(unix)]
pub(crate) fn name_lost_files(models: &[&Path]) {
    use std::sync::OnceLock;

    use signal_hook::consts::SIGBUS;
    use signal_hook::low_level;

    /// A handler may not allocate: the message is there beforehand.
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
        low_level::exit(i32::from(crate::report::REFUSED));
    };
    // SAFETY: the handler reads a static, makes one system call that writes, and ends the process: nothing that it
    // calls takes a lock, allocates or unwinds.
    #[expect(unsafe_code, reason = "there is no safe way to survive a mapped file that lost its bytes")]
    let _ = unsafe { low_level::register(SIGBUS, end) };
}

#[cfg(not(unix))]
pub(crate) fn leave_nothing() {}

#[cfg(not(unix))]
pub(crate) fn name_lost_files(_models: &[&Path]) {}

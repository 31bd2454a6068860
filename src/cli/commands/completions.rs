//! `qcc completions`.

use std::io;

use clap::CommandFactory;
use clap_complete::{Shell as Completed, generate};
use clap_mangen::Man;

use crate::cli::args::{Args, Completions, Shell};
use crate::cli::report;

pub(crate) fn completions(args: &Completions) -> u8 {
    match text(args.of) {
        Ok(text) => {
            report::say(&text);
            report::DONE
        }
        Err(error) => report::usage(&error.to_string()),
    }
}

/// The completions of a shell, or the manual page.
fn text(of: Shell) -> io::Result<String> {
    let mut command = Args::command();
    let mut out = Vec::new();
    let shell = match of {
        Shell::Bash => Completed::Bash,
        Shell::Elvish => Completed::Elvish,
        Shell::Fish => Completed::Fish,
        Shell::Powershell => Completed::PowerShell,
        Shell::Zsh => Completed::Zsh,
        Shell::Man => {
            Man::new(command).render(&mut out)?;
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
    };
    generate(shell, &mut command, "qcc", &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

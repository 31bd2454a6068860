//! Diagnostics as text.
//!
//! ```
//! use qcc::ir::diagnostic::Diagnostic;
//! let errors = [Diagnostic::error("odd", "it is odd").with_help("make it even")];
//! assert_eq!(qcc::render::render(&errors, "m.onnx".as_ref(), false), "error[odd]: it is odd\n  = help: make it even\n");
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use qcc_ir::Origin;
use qcc_ir::diagnostic::{Diagnostic, Severity, counted, printable};

/// Maximum number of different messages with one code that are shown; the rest is counted.
const MOST_MESSAGES: usize = 50;

/// Maximum number of places of one message that are shown; the rest is counted.
const MOST_PLACES: usize = 20;

/// Maximum characters of a line that are shown; names may have any length.
const MOST_CHARACTERS: usize = 4000;

/// Renders diagnostics as text: errors first; diagnostics that differ only in their place are merged. `model` is the
/// file shown as the location of nodes. With `color`, severities are coloured for a terminal. Control characters are
/// escaped.
pub fn render(diagnostics: &[Diagnostic], model: &Path, color: bool) -> String {
    let mut groups: Vec<(&Diagnostic, Vec<&Origin>)> = Vec::new();
    let mut known = HashMap::new();
    // Codes stay in the order of their first message.
    let mut codes = HashMap::new();
    for d in diagnostics {
        let next = codes.len();
        codes.entry(d.code).or_insert(next);
        let group = *known.entry((d.code, &d.message, &d.notes, &d.help)).or_insert(groups.len());
        if group == groups.len() {
            groups.push((d, Vec::new()));
        }
        groups[group].1.push(&d.origin);
    }
    groups.sort_by_key(|(d, _)| (d.severity as u8, codes.get(d.code)));
    let mut out = String::new();
    for same in groups.chunk_by(|a, b| (a.0.severity, a.0.code) == (b.0.severity, b.0.code)) {
        for (d, places) in same.iter().take(MOST_MESSAGES) {
            message(&mut out, d, places, model, color);
        }
        if let (Some((d, _)), more @ 1..) = (same.first(), same.len().saturating_sub(MOST_MESSAGES)) {
            let _ = writeln!(out, "{}: {more} more of these", head(d, color));
        }
    }
    out
}

/// One message and its places.
fn message(out: &mut String, d: &Diagnostic, places: &[&Origin], model: &Path, color: bool) {
    let _ = writeln!(out, "{}: {}", head(d, color), line(&d.message));
    for origin in places.iter().take(MOST_PLACES) {
        place(out, model, origin);
    }
    if let more @ 1.. = places.len().saturating_sub(MOST_PLACES) {
        let _ = writeln!(out, "  --> {}", counted(more, "more place"));
    }
    for note in &d.notes {
        let _ = writeln!(out, "  = note: {}", line(note));
    }
    if let Some(help) = &d.help {
        let _ = writeln!(out, "  = help: {}", line(help));
    }
}

/// Text on one line, with control characters escaped.
pub fn line(text: &str) -> Cow<'_, str> {
    let text = printable(text);
    match text.char_indices().nth(MOST_CHARACTERS) {
        None => text,
        Some((cut, _)) => format!("{} .. ({} characters)", &text[..cut], text.chars().count()).into(),
    }
}

fn head(d: &Diagnostic, color: bool) -> String {
    let word = d.severity;
    let paint = match d.severity {
        Severity::Error => "\x1b[1;31m",
        Severity::Warning => "\x1b[1;33m",
        Severity::Note => "\x1b[1;36m",
    };
    if color { format!("{paint}{word}[{}]\x1b[0m", d.code) } else { format!("{word}[{}]", d.code) }
}

fn place(out: &mut String, model: &Path, origin: &Origin) {
    for source in origin.sources() {
        let at = source.line.as_ref().map_or_else(String::new, |line| format!(" at {line}"));
        let place = format!("{}: {} ({}){at}", model.display(), source.path, source.kind);
        let _ = writeln!(out, "  --> {}", line(&place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnostics_are_grouped() {
        let at = |path: &str| Origin::new(path, "Foo");
        let all = [
            Diagnostic::note("open-shape", "input x is [N,3]; compiled for [1,3]"),
            Diagnostic::error("unsupported-op", "there is no operator Foo").at(&at("/a")),
            Diagnostic::error("bad-shape", "odd").with_note("one").with_note("two").with_help("make it even"),
            Diagnostic::error("unsupported-op", "there is no operator Foo").at(&at("/b")),
        ];
        insta::assert_snapshot!(render(&all, Path::new("m.onnx"), false), @r"
        error[unsupported-op]: there is no operator Foo
          --> m.onnx: /a (Foo)
          --> m.onnx: /b (Foo)
        error[bad-shape]: odd
          = note: one
          = note: two
          = help: make it even
        note[open-shape]: input x is [N,3]; compiled for [1,3]
        ");
    }

    #[test]
    fn names_forge_no_lines() {
        let name = "a\nerror[fake]: b\u{1b}[2J\u{202e}";
        let at = Origin::at_line(name, name, name);
        let all = [Diagnostic::error("bad", name).at(&at).with_note(name).with_help(name)];
        insta::assert_snapshot!(render(&all, Path::new("m"), false), @r"
        error[bad]: a\nerror[fake]: b\u{1b}[2J\u{202e}
          --> m: a\nerror[fake]: b\u{1b}[2J\u{202e} (a\nerror[fake]: b\u{1b}[2J\u{202e}) at a\nerror[fake]: b\u{1b}[2J\u{202e}
          = note: a\nerror[fake]: b\u{1b}[2J\u{202e}
          = help: a\nerror[fake]: b\u{1b}[2J\u{202e}
        ");
    }

    #[test]
    fn many_messages_are_counted() {
        let of = |n: usize, make: fn(&'static str, String) -> Diagnostic, text: &'static str| {
            (0..n).map(move |i| make("code", format!("{text} {i}")))
        };
        let places = (0..1000).map(|i| Diagnostic::error("odd", "odd").at(&Origin::new(format!("/{i}"), "Foo")));
        let all: Vec<Diagnostic> = of(MOST_MESSAGES + 1, Diagnostic::warning, "w")
            .chain(places)
            .chain(of(100_000, Diagnostic::error, "e"))
            .chain([Diagnostic::note("long", "x".repeat(1 << 20))])
            .collect();
        let said = render(&all, Path::new("m"), false);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2 * (MOST_MESSAGES + 1) + 1 + MOST_PLACES + 1 + 1);
        for line in ["error[code]: 99950 more of these", "warning[code]: 1 more of these", "  --> 980 more places"] {
            assert!(lines.contains(&line), "{line}\n{said}");
        }
        assert!(lines[lines.len() - 1].ends_with("x .. (1048576 characters)"));
    }
}

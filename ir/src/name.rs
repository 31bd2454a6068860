//! Names in the text form.

use std::fmt;

/// A name in the text form: plain where it is a word that does not start with a digit, else in quotes.
pub(crate) struct Name<'a>(pub(crate) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.0.is_empty() && word_len(self.0) == self.0.len() && !self.0.starts_with(is_digit);
        if plain { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

/// True for ASCII digits.
pub(crate) fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// Length of the word that `text` starts with. A word holds ASCII letters, digits, `_`, `.`, `-`, single slashes and
/// double colons.
pub(crate) fn word_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut n = 0;
    while let Some(&b) = bytes.get(n) {
        n += match (b, bytes.get(n + 1)) {
            (b'/', next) if next != Some(&b'/') => 1,
            (b':', Some(b':')) => 2,
            (b'_' | b'.' | b'-', _) => 1,
            (b, _) if b.is_ascii_alphanumeric() => 1,
            _ => break,
        };
    }
    n
}

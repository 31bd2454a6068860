//! JSON that is safe to print on a terminal.
//!
//! ```
//! assert_eq!(qcc::json::pretty(&["a\u{1b}[2J"]).unwrap(), "[
//!   \"a\\u001b[2J\"
//! ]
//! ");
//! ```

use std::fmt::Write;

use qcc_ir::diagnostic::is_order;
use serde::Serialize;

/// A value as indented JSON. Control characters that terminals and editors interpret are escaped, also those that JSON
/// permits in strings.
///
/// # Errors
/// If the value cannot be serialized as JSON.
pub fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let plain = serde_json::to_string_pretty(value)?;
    let mut json = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        // A newline is the only control character outside of strings.
        if is_order(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(json, "\\u{unit:04x}");
            }
        } else {
            json.push(c);
        }
    }
    json.push('\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back() {
        let text = "a\nb\u{1b}\u{9b}\u{7f}\u{202e}\u{e0041}é🙂\"";
        let json = pretty(&[text]).unwrap();
        assert_eq!(json, "[\n  \"a\\nb\\u001b\\u009b\\u007f\\u202e\\udb40\\udc41é🙂\\\"\"\n]\n");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }
}

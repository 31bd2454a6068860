//! JSON that terminals show as it is.
//!
//! ```
//! assert_eq!(qcc::json::pretty(&["a\u{1b}[2J"]).unwrap(), "[\n  \"a\\u001b[2J\"\n]\n");
//! ```

use std::fmt::Write;

use qcc_ir::diagnostic::is_order;
use serde::Serialize;

/// A value as JSON on several lines. JSON lets most of the characters stand in strings that terminals and editors take for
/// orders; here all are escaped.
///
/// # Errors
/// Where the value has no JSON.
pub fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let plain = serde_json::to_string_pretty(value)?;
    let mut json = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        // Outside of strings there are no others.
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

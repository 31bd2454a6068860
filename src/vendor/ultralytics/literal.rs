//! Python literals, the values of metadata.

use std::fmt::Write;

use qcc_ir::diagnostic::is_order;
use serde_json::{Map, Number, Value};

/// A value in the syntax of Python's `str()`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    None,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Literal>),
    /// In source order; keys are of any kind.
    Dictionary(Vec<(Literal, Literal)>),
}

/// A metadata value of an ONNX model: the Python literal if it is one, else the text itself.
pub(super) fn literal(text: &str) -> Literal {
    let mut parser = Parser { rest: text.trim(), depth: 0 };
    match parser.value() {
        Some(value) if parser.rest.is_empty() => value,
        _ => Literal::Text(text.to_owned()),
    }
}

impl Literal {
    /// As JSON. Keys that are not strings are converted to strings.
    pub(super) fn json(&self) -> Value {
        let key = |k: &Literal| match k {
            Literal::Text(text) => text.clone(),
            other => other.json().to_string(),
        };
        match self {
            Literal::None => Value::Null,
            Literal::Bool(b) => Value::Bool(*b),
            Literal::Integer(n) => Value::Number((*n).into()),
            Literal::Float(x) => Number::from_f64(*x).map_or(Value::Null, Value::Number),
            Literal::Text(text) => Value::String(text.clone()),
            Literal::List(items) => Value::Array(items.iter().map(Literal::json).collect()),
            Literal::Dictionary(entries) => {
                Value::Object(entries.iter().map(|(k, v)| (key(k), v.json())).collect::<Map<String, Value>>())
            }
        }
    }

    /// As YAML 1.1 on one line: like JSON, but keys keep their type and floats have no exponent.
    pub(super) fn yaml(&self) -> String {
        match self {
            Literal::None | Literal::Bool(_) | Literal::Integer(_) => self.json().to_string(),
            Literal::Text(text) => quoted(text),
            Literal::Float(x) if x.fract() == 0.0 => format!("{x:.1}"),
            Literal::Float(x) => x.to_string(),
            Literal::List(items) => {
                let items: Vec<String> = items.iter().map(Literal::yaml).collect();
                format!("[{}]", items.join(", "))
            }
            Literal::Dictionary(entries) => {
                let mut text = String::from("{");
                for (i, (key, value)) in entries.iter().enumerate() {
                    let comma = if i == 0 { "" } else { ", " };
                    _ = write!(text, "{comma}{}: {}", key.yaml(), value.yaml());
                }
                text + "}"
            }
        }
    }
}

/// Text as a quoted YAML 1.1 string, with control characters and line breaks escaped.
fn quoted(text: &str) -> String {
    let mut yaml = String::new();
    for c in Value::from(text).to_string().chars() {
        match u32::from(c) {
            code @ 0x10000.. if is_order(c) => _ = write!(yaml, "\\U{code:08x}"),
            code if is_order(c) || matches!(code, 0xfffe | 0xffff) => _ = write!(yaml, "\\u{code:04x}"),
            _ => yaml.push(c),
        }
    }
    yaml
}

/// A YAML 1.1 key: plain if YAML reads it as a string, else quoted.
pub(super) fn yaml_key(key: &str) -> String {
    const OTHERWISE: [&str; 10] = ["y", "n", "yes", "no", "true", "false", "on", "off", "null", "nan"];
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(word);
    if plain && !OTHERWISE.contains(&key.to_lowercase().as_str()) { key.to_owned() } else { quoted(key) }
}

/// Parses numbers, strings, lists, tuples, dictionaries, `True`, `False`, `None`.
struct Parser<'a> {
    rest: &'a str,
    /// Current nesting depth.
    depth: usize,
}

/// Maximum nesting depth; exporters use three.
const DEEPEST: usize = 32;

impl Parser<'_> {
    fn value(&mut self) -> Option<Literal> {
        self.depth += 1;
        let value = match self.rest.chars().next()? {
            _ if self.depth > DEEPEST => None,
            '[' => self.items(']').map(Literal::List),
            '(' => self.items(')').map(Literal::List),
            '{' => self.dictionary(),
            quote @ ('\'' | '"') => self.string(quote).map(Literal::Text),
            _ => self.word(),
        };
        self.depth -= 1;
        value
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, wanted: char) -> Option<()> {
        self.space();
        self.rest = self.rest.strip_prefix(wanted)?;
        self.space();
        Some(())
    }

    fn items(&mut self, close: char) -> Option<Vec<Literal>> {
        self.rest = &self.rest[1..];
        let mut items = Vec::new();
        loop {
            if self.take(close).is_some() {
                return Some(items);
            }
            items.push(self.value()?);
            if self.take(',').is_none() {
                return self.take(close).map(|()| items);
            }
        }
    }

    fn dictionary(&mut self) -> Option<Literal> {
        self.rest = &self.rest[1..];
        let mut entries = Vec::new();
        loop {
            if self.take('}').is_some() {
                return Some(Literal::Dictionary(entries));
            }
            let key = self.value()?;
            self.take(':')?;
            entries.push((key, self.value()?));
            if self.take(',').is_none() {
                return self.take('}').map(|()| Literal::Dictionary(entries));
            }
        }
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[1 + i + 1..];
                return Some(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let code = |digits: usize, chars: &mut std::str::CharIndices<'_>| {
                let text: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                char::from_u32(u32::from_str_radix(&text, 16).ok()?)
            };
            out.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'x' => code(2, &mut chars)?,
                'u' => code(4, &mut chars)?,
                'U' => code(8, &mut chars)?,
                other @ ('\\' | '\'' | '"') => other,
                _ => return None,
            });
        }
        None
    }

    fn word(&mut self) -> Option<Literal> {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",:]})".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = match word {
            "True" => Literal::Bool(true),
            "False" => Literal::Bool(false),
            "None" => Literal::None,
            _ => match word.parse::<i64>() {
                Ok(integer) => Literal::Integer(integer),
                Err(_) => Literal::Float(word.parse().ok().filter(|x: &f64| x.is_finite())?),
            },
        };
        self.rest = rest;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_literals_become_json() {
        let cases = [
            ("{0: 'person', 1: \"driver's\"}", r#"{"0":"person","1":"driver's"}"#),
            ("[640, 640]", "[640,640]"),
            ("(1, 2.5,)", "[1,2.5]"),
            ("{'nms': False, 'batch': None, 'half': True}", r#"{"nms":false,"batch":null,"half":true}"#),
            ("{}", "{}"),
            ("32", "32"),
            ("-1.5e-3", "-0.0015"),
            ("'caf\\xe9\\n'", "\"café\\n\""),
            // Text that is not a literal.
            ("detect", "\"detect\""),
            ("2026-01-02T03:04:05", "\"2026-01-02T03:04:05\""),
            ("[1, 2", "\"[1, 2\""),
            ("{1: }", "\"{1: }\""),
            ("", "\"\""),
        ];
        for (text, json) in cases {
            assert_eq!(literal(text).json().to_string(), json, "{text}");
        }
    }

    #[test]
    fn python_literals_become_yaml() {
        let cases = [
            ("{0: 'person', 1: \"a \\\"dog\\\"\"}", r#"{0: "person", 1: "a \"dog\""}"#),
            ("{'lr': 1e-05, 'iou': 1.0, 'half': None}", r#"{"lr": 0.00001, "iou": 1.0, "half": null}"#),
            ("[640, -640]", "[640, -640]"),
            ("2026-01-02", "\"2026-01-02\""),
            (
                "['\u{7f}\u{85}\u{2028}\u{feff}\u{ffff}\u{e0041}é🙂']",
                r#"["\u007f\u0085\u2028\ufeff\uffff\U000e0041é🙂"]"#,
            ),
        ];
        for (text, yaml) in cases {
            assert_eq!(literal(text).yaml(), yaml, "{text}");
        }
    }

    #[test]
    fn yaml_keys_are_text() {
        for (key, yaml) in [
            ("imgsz", "imgsz"),
            ("kpt_shape2", "kpt_shape2"),
            ("a\nargs: !!python/object/apply:os.system ['id']", r#""a\nargs: !!python/object/apply:os.system ['id']""#),
            ("a: b", r#""a: b""#),
            ("", r#""""#),
            ("1", r#""1""#),
            ("No", r#""No""#),
            ("- \"x\" #", r#""- \"x\" #""#),
            ("\u{2028}", r#""\u2028""#),
        ] {
            assert_eq!(yaml_key(key), yaml);
        }
    }

    #[test]
    fn deep_literals_are_text() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(matches!(literal(&nested(DEEPEST)), Literal::List(_)));
        assert!(matches!(literal(&nested(DEEPEST + 1)), Literal::Text(_)));
        assert!(matches!(literal(&"{0:(".repeat(1_000_000)), Literal::Text(_)));
    }
}

//! What Ultralytics' exporters say about a model: metadata whose values are Python literals.

use std::fmt::Write;

use qcc_ir::metadata_entry;
use serde_json::{Map, Number, Value};

/// True where the metadata are those of an Ultralytics model.
pub(crate) fn is_ultralytics(metadata: &[(String, String)]) -> bool {
    ["task", "names", "stride"].iter().all(|key| metadata_entry(metadata, key).is_some())
}

/// What Python's `str()` gives of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    None,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Literal>),
    /// In order; keys are of any kind.
    Dictionary(Vec<(Literal, Literal)>),
}

/// A value as ONNX metadata spells it: the Python literal where it is one, else the text itself.
pub(crate) fn literal(text: &str) -> Literal {
    let mut parser = Parser { rest: text.trim() };
    match parser.value() {
        Some(value) if parser.rest.is_empty() => value,
        _ => Literal::Text(text.to_owned()),
    }
}

impl Literal {
    /// As JSON, whose keys are strings: those of other kinds are spelled out.
    pub(crate) fn json(&self) -> Value {
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

    /// As YAML 1.1 on one line: that of JSON, but for keys, which keep their kind, and floats, which have no exponent.
    pub(crate) fn yaml(&self) -> String {
        match self {
            Literal::None | Literal::Bool(_) | Literal::Integer(_) | Literal::Text(_) => self.json().to_string(),
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

/// Reads numbers, strings, lists, tuples, dictionaries, `True`, `False`, `None`.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn value(&mut self) -> Option<Literal> {
        match self.rest.chars().next()? {
            '[' => self.items(']').map(Literal::List),
            '(' => self.items(')').map(Literal::List),
            '{' => self.dictionary(),
            quote @ ('\'' | '"') => self.string(quote).map(Literal::Text),
            _ => self.word(),
        }
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
            // No literals: text.
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
        ];
        for (text, yaml) in cases {
            assert_eq!(literal(text).yaml(), yaml, "{text}");
        }
    }
}

//! What goes with a model besides its graph.

use std::io::{Cursor, Write};

use bytes::Bytes;
use qcc_formats::tflite::OperatorCode;
use serde_json::{Map, Number, Value};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The oldest runtime that has all operators, as the 16 bytes that `min_runtime_version` holds.
pub(super) fn runtime_version(_codes: &[OperatorCode]) -> Option<Bytes> {
    None
}

/// The metadata of an Ultralytics model, as a ZIP archive with one entry `metadata.json`; empty for other models.
/// It is appended to the file at `offset`, where their loader finds it.
pub(super) fn archive(metadata: &[(String, String)], offset: u64) -> std::io::Result<Vec<u8>> {
    let has = |key: &str| metadata.iter().any(|(k, _)| k == key);
    if !(has("task") && has("names") && has("stride")) {
        return Ok(Vec::new());
    }
    let entries: Map<String, Value> = metadata.iter().map(|(k, v)| (k.clone(), value(v))).collect();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let options = options.last_modified_time(zip::DateTime::default());
    zip.start_file("metadata.json", options)?;
    zip.write_all(Value::Object(entries).to_string().as_bytes())?;
    let _ = offset;
    Ok(zip.finish()?.into_inner())
}

/// A value as ONNX metadata spells it: the Python literal where it is one, else the text itself.
fn value(text: &str) -> Value {
    let mut literal = Literal { rest: text.trim() };
    match literal.value() {
        Some(value) if literal.rest.is_empty() => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Python literals: what `str()` gives of numbers, strings, lists, tuples, dictionaries, `True`, `False`, `None`.
struct Literal<'a> {
    rest: &'a str,
}

impl Literal<'_> {
    fn value(&mut self) -> Option<Value> {
        match self.rest.chars().next()? {
            '[' => self.items(']').map(Value::Array),
            '(' => self.items(')').map(Value::Array),
            '{' => self.dictionary(),
            quote @ ('\'' | '"') => self.string(quote).map(Value::String),
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

    fn items(&mut self, close: char) -> Option<Vec<Value>> {
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

    /// JSON keys are strings; those of other kinds are spelled out.
    fn dictionary(&mut self) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut entries = Map::new();
        loop {
            if self.take('}').is_some() {
                return Some(Value::Object(entries));
            }
            let key = match self.value()? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            self.take(':')?;
            entries.insert(key, self.value()?);
            if self.take(',').is_none() {
                return self.take('}').map(|()| Value::Object(entries));
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

    fn word(&mut self) -> Option<Value> {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",:]})".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = match word {
            "True" => Value::Bool(true),
            "False" => Value::Bool(false),
            "None" => Value::Null,
            _ => match word.parse::<i64>() {
                Ok(integer) => Value::Number(integer.into()),
                Err(_) => Value::Number(Number::from_f64(word.parse().ok()?)?),
            },
        };
        self.rest = rest;
        Some(value)
    }
}

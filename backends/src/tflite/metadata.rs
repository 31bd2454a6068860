//! What goes with a model besides its graph.

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use serde_json::{Map, Number, Value};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The metadata of an Ultralytics model, as a ZIP archive with one entry `metadata.json`; empty for other models.
/// It is appended to the file at `offset`, where their loader finds it.
pub(super) fn archive(metadata: &[(String, String)], offset: u64) -> io::Result<Vec<u8>> {
    let has = |key: &str| metadata.iter().any(|(k, _)| k == key);
    if !(has("task") && has("names") && has("stride")) {
        return Ok(Vec::new());
    }
    let entries: Map<String, Value> = metadata.iter().map(|(k, v)| (k.clone(), value(v))).collect();
    let mut zip = ZipWriter::new(Behind { offset, archive: Cursor::new(Vec::new()) });
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let options = options.last_modified_time(zip::DateTime::default());
    zip.start_file("metadata.json", options)?;
    zip.write_all(Value::Object(entries).to_string().as_bytes())?;
    Ok(zip.finish()?.archive.into_inner())
}

/// An archive behind `offset` bytes of something else: the places that it records count from there.
struct Behind {
    offset: u64,
    archive: Cursor<Vec<u8>>,
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.archive.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Behind {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => SeekFrom::Start(at.checked_sub(self.offset).ok_or(io::ErrorKind::InvalidInput)?),
            relative => relative,
        };
        Ok(self.offset + self.archive.seek(to)?)
    }
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
            assert_eq!(value(text).to_string(), json, "{text}");
        }
    }

    #[test]
    fn the_archive_is_found_behind_the_model() {
        let entries = [("task", "detect"), ("names", "{0: 'a'}"), ("stride", "32")];
        let metadata: Vec<(String, String)> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut file = vec![7u8; 1000];
        file.extend(archive(&metadata, 1000).unwrap());
        let mut zip = zip::ZipArchive::new(Cursor::new(file)).unwrap();
        let text = io::read_to_string(zip.by_name("metadata.json").unwrap()).unwrap();
        assert_eq!(text, r#"{"task":"detect","names":{"0":"a"},"stride":32}"#);
        assert_eq!(archive(&metadata[..1], 0).unwrap(), Vec::<u8>::new());
    }
}

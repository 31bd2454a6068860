//! Metadata of a file: exports of Ultralytics append an archive with `metadata.json` to the model.

use std::io::{Cursor, Read};

use bytes::Bytes;
use serde_json::{Map, Value};
use zip::ZipArchive;

/// Maximum size of the metadata, in bytes.
const LARGEST: u64 = 1 << 20;

/// The entries, formatted as in ONNX metadata; none if there is no readable archive.
pub(super) fn read(file: &Bytes) -> Vec<(String, String)> {
    let entries = json(file).and_then(|text| serde_json::from_slice::<Map<String, Value>>(&text).ok());
    entries.unwrap_or_default().into_iter().map(|(key, value)| (key, spelled(value))).collect()
}

fn json(file: &Bytes) -> Option<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(file)).ok()?;
    let mut entry = archive.by_name("metadata.json").ok()?.take(LARGEST);
    let mut text = Vec::new();
    entry.read_to_end(&mut text).ok()?;
    Some(text)
}

/// Strings unchanged, other values as Python literals.
fn spelled(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => literal(&other),
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            // Keys of JSON are strings, even if they were numbers in Python.
            let key = |key: &str| if key.parse::<i64>().is_ok() { key.to_owned() } else { python_string(key) };
            let entry = |(k, value): (&String, &Value)| format!("{}: {}", key(k), literal(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => python_string(text),
        Value::Number(_) => value.to_string(),
    }
}

/// A string as Python quotes it.
pub fn python_string(text: &str) -> String {
    let plain = !text.contains(|c: char| c == '\'' || c == '\\' || c.is_control());
    if plain { format!("'{text}'") } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn entries_are_read_from_the_archive_behind_the_model() {
        let mut file = Cursor::new(vec![0u8; 100]);
        file.set_position(100);
        let mut zip = zip::ZipWriter::new(file);
        zip.start_file("metadata.json", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(br#"{"task": "detect", "names": {"0": "a"}, "imgsz": [8, 8], "args": {"nms": true, "n": 1.5, "by": ["it's", null]}}"#).unwrap();
        let file = Bytes::from(zip.finish().unwrap().into_inner());
        let found = read(&file);
        let found: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let args = r#"{'nms': True, 'n': 1.5, 'by': ["it's", None]}"#;
        assert_eq!(found, [("task", "detect"), ("names", "{0: 'a'}"), ("imgsz", "[8, 8]"), ("args", args)]);
        assert_eq!(read(&file.slice(..120)), []);
    }
}

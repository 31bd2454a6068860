//! What goes with a model besides its layers.

use std::path::PathBuf;

use qcc_formats::openvino::Info;
use qcc_ir::metadata_entry;

use crate::metadata::{Literal, is_ultralytics, literal, yaml_key};

/// Where Ultralytics' loader finds a model: `yolo26n_int8_openvino_model/yolo26n.xml` for the stem `yolo26n` and the suffix
/// `_int8`. `None` for other models.
pub fn folder(metadata: &[(String, String)], stem: &str, suffix: &str) -> Option<PathBuf> {
    is_ultralytics(metadata)
        .then(|| PathBuf::from(format!("{stem}{suffix}_openvino_model")).join(format!("{stem}.xml")))
}

/// The metadata of an Ultralytics model as its loader reads them from `metadata.yaml`.
pub(super) fn yaml(metadata: &[(String, String)]) -> Option<String> {
    let line = |(key, value): &(String, String)| format!("{}: {}\n", yaml_key(key), literal(value).yaml());
    is_ultralytics(metadata).then(|| metadata.iter().map(line).collect())
}

/// The metadata of an Ultralytics model as OpenVINO's Model API reads them: how pictures are prepared, and the labels.
pub(super) fn info(metadata: &[(String, String)]) -> Vec<Info> {
    if !is_ultralytics(metadata) {
        return Vec::new();
    }
    let entry = |key: &str| metadata_entry(metadata, key).map(literal);
    let value = |key: &str, value: &str| Info::Value(key.into(), value.into());
    let mut all = vec![
        value("model_type", "YOLO"),
        value("reverse_input_channels", "True"),
        value("pad_value", "114"),
        value("scale_values", "255.0"),
    ];
    if let Some(Literal::Dictionary(names)) = entry("names") {
        let label = |(_, name): &(Literal, Literal)| match name {
            Literal::Text(name) => name.replace(char::is_whitespace, "_"),
            other => other.yaml(),
        };
        all.push(value("labels", &names.iter().map(label).collect::<Vec<String>>().join(" ")));
    }
    if entry("task") != Some(Literal::Text("classify".into())) {
        all.push(value("resize_type", "fit_to_window_letterbox"));
    }
    vec![Info::Group("model_info".into(), all)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ultralytics_models_are_described_twice() {
        let entries =
            [("task", "detect"), ("names", "{0: 'a cat', 1: 'dog'}"), ("stride", "32"), ("imgsz", "[64, 96]")];
        let metadata: Vec<(String, String)> = entries.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let yaml = yaml(&metadata).unwrap();
        assert_eq!(yaml, "task: \"detect\"\nnames: {0: \"a cat\", 1: \"dog\"}\nstride: 32\nimgsz: [64, 96]\n");
        let Info::Group(_, all) = &info(&metadata)[0] else { panic!("a group") };
        assert!(all.contains(&Info::Value("labels".into(), "a_cat dog".into())));
        let path = folder(&metadata, "net", "_int8").unwrap();
        assert_eq!(path, PathBuf::from("net_int8_openvino_model/net.xml"));
        assert_eq!((folder(&metadata[..1], "net", ""), info(&metadata[..1])), (None, Vec::new()));
    }
}

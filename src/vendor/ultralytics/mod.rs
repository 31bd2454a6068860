//! Ultralytics: metadata whose values are Python literals.

use std::path::{Path, PathBuf};

use qcc_backends::{Attachments, Backend, Format};
use qcc_frontends::{MODULE, python_string};
use qcc_ir::metadata_entry;
use qcc_passes::Pass;
use qcc_passes::layout::ImageOrder;
use qcc_passes::quality::Hints;
use serde_json::{Map, Value};

use super::labels::model_api_labels;
use super::{Metadata, Vendor};
use crate::data::{Fit, Preprocess};

mod boxes;
mod literal;

use literal::{Literal, literal, yaml_key};

#[derive(Debug)]
pub(super) struct Ultralytics;

impl Preprocess {
    /// The preprocessing of Ultralytics' detectors: letterbox with padding value 114, scale 1/255, RGB.
    pub const YOLO: Preprocess =
        Preprocess { fit: Fit::Letterbox { fill: 114 }, scale: 1.0 / 255.0, ..Preprocess::NONE };
}

impl Vendor for Ultralytics {
    /// Exports have metadata for task, stride and image size; PyTorch programs name the class of the module, which
    /// determines the task.
    fn preprocess(&self, metadata: &Metadata) -> Option<Preprocess> {
        let find = |key: &str| metadata_entry(metadata, key);
        let exported = find("imgsz").and(find("stride")).and(find("task"));
        let task = exported.or_else(|| match find(MODULE)?.strip_prefix("ultralytics.nn.tasks.")? {
            "ClassificationModel" => Some("classify"),
            "DetectionModel" | "SegmentationModel" | "PoseModel" | "OBBModel" => Some("detect"),
            _ => None,
        })?;
        Some(match task {
            "classify" => Preprocess { fit: Fit::CenterCrop { ratio: 1.0 }, ..Preprocess::YOLO },
            _ => Preprocess::YOLO,
        })
    }

    /// The task, and the names of the classes.
    fn hints(&self, metadata: &Metadata) -> Option<Hints> {
        let said = |key: &str| metadata_entry(metadata, key);
        let classes = Some(labels(metadata).len()).filter(|&n| n > 0);
        match said("task")? {
            "classify" => Some(Hints { classifies: true, detects: None }),
            "detect" | "segment" | "pose" | "obb" => Some(Hints { classifies: false, detects: classes }),
            _ => None,
        }
    }

    fn prepare(&self, backend: &dyn Backend, input: ImageOrder) -> Vec<Box<dyn Pass>> {
        match backend.format() {
            Some(Format::Tflite) => vec![boxes::normalize_boxes(input)],
            Some(Format::Onnx | Format::Openvino) | None => Vec::new(),
        }
    }

    /// The loader finds OpenVINO models by the name of their folder: `yolo26n_int8_openvino_model/yolo26n.xml` for the
    /// stem `yolo26n` and the suffix `_int8`.
    fn file_name(&self, backend: &dyn Backend, stem: &str, suffix: &str, metadata: &Metadata) -> Option<PathBuf> {
        let foldered = backend.format() == Some(Format::Openvino) && exported(metadata);
        foldered.then(|| Path::new(&format!("{stem}{suffix}_openvino_model")).join(backend.file_name(stem, "")))
    }

    /// The loader reads `metadata.json` from an archive behind TensorFlow Lite models, `metadata.yaml` beside those of
    /// OpenVINO, and ONNX's own metadata. OpenVINO's Model API reads preprocessing and labels.
    fn attachments(&self, backend: &dyn Backend, metadata: &Metadata) -> Option<Attachments> {
        let none = Attachments::default();
        exported(metadata).then(|| match backend.format() {
            Some(Format::Tflite) => Attachments {
                archive: vec![("metadata.json".into(), json(metadata))],
                labels: labels(metadata),
                ..none
            },
            Some(Format::Openvino) => Attachments {
                files: vec![("metadata.yaml".into(), yaml(metadata).into_bytes())],
                info: vec![("model_info".into(), info(metadata))],
                ..none
            },
            Some(Format::Onnx) | None => none,
        })
    }
}

/// True where the metadata are those of an export.
fn exported(metadata: &Metadata) -> bool {
    ["task", "names", "stride"].iter().all(|key| metadata_entry(metadata, key).is_some())
}

/// The key of the names of classes.
const NAMES: &str = "names";

/// The entry with the names of classes, as exports have it.
pub(super) fn named(names: &[String]) -> (String, String) {
    let entry = |(i, name): (usize, &String)| format!("{i}: {}", python_string(name));
    (NAMES.into(), format!("{{{}}}", names.iter().enumerate().map(entry).collect::<Vec<_>>().join(", ")))
}

/// The names of the classes.
pub(super) fn labels(metadata: &Metadata) -> Vec<String> {
    let label = |name: Literal| match name {
        Literal::Text(name) => name,
        other => other.yaml(),
    };
    match metadata_entry(metadata, NAMES).map(literal) {
        Some(Literal::Dictionary(names)) => names.into_iter().map(|(_, name)| label(name)).collect(),
        Some(Literal::List(names)) => names.into_iter().map(label).collect(),
        _ => Vec::new(),
    }
}

fn json(metadata: &Metadata) -> Vec<u8> {
    let entries: Map<String, Value> = metadata.iter().map(|(k, v)| (k.clone(), literal(v).json())).collect();
    Value::Object(entries).to_string().into_bytes()
}

fn yaml(metadata: &Metadata) -> String {
    metadata.iter().map(|(key, value)| format!("{}: {}\n", yaml_key(key), literal(value).yaml())).collect()
}

fn info(metadata: &Metadata) -> Vec<(String, String)> {
    let entry = |key: &str| metadata_entry(metadata, key).map(literal);
    let value = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut all = vec![
        value("model_type", "YOLO"),
        value("reverse_input_channels", "True"),
        value("pad_value", "114"),
        value("scale_values", "255.0"),
    ];
    if matches!(entry(NAMES), Some(Literal::Dictionary(_))) {
        all.push(model_api_labels(&labels(metadata)));
    }
    if entry("task") != Some(Literal::Text("classify".into())) {
        all.push(value("resize_type", "fit_to_window_letterbox"));
    }
    all
}

#[cfg(test)]
mod tests {
    use qcc_backends::WriteOptions;

    use super::*;

    fn metadata(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn exports_are_described_as_each_loader_reads_them() {
        let entries =
            [("task", "detect"), ("names", "{0: 'a cat', 1: 'dog'}"), ("stride", "32"), ("imgsz", "[64, 96]")];
        let export = metadata(&entries);
        let of = |format: Format| Ultralytics.attachments(&*format.with(WriteOptions::PLAIN), &export).unwrap();
        let yaml = "task: \"detect\"\nnames: {0: \"a cat\", 1: \"dog\"}\nstride: 32\nimgsz: [64, 96]\n";
        let openvino = of(Format::Openvino);
        assert_eq!(openvino.files, [("metadata.yaml".to_owned(), yaml.as_bytes().to_vec())]);
        let [(group, info)] = openvino.info.as_slice() else { panic!("one group") };
        assert_eq!(group, "model_info");
        assert!(info.contains(&("labels".into(), "a_cat dog".into())), "{info:?}");
        assert!(info.contains(&("resize_type".into(), "fit_to_window_letterbox".into())), "{info:?}");
        let json = r#"{"task":"detect","names":{"0":"a cat","1":"dog"},"stride":32,"imgsz":[64,96]}"#;
        assert_eq!(of(Format::Tflite).archive, [("metadata.json".to_owned(), json.as_bytes().to_vec())]);
        assert_eq!(of(Format::Onnx), Attachments::default());
        for format in Format::ALL {
            assert_eq!(Ultralytics.attachments(&*format.with(WriteOptions::PLAIN), &export[..1]), None);
        }
    }

    #[test]
    fn openvino_models_have_a_folder() {
        let export = metadata(&[("task", "detect"), ("names", "{}"), ("stride", "32")]);
        let path = |format: Format, metadata: &Metadata| {
            super::super::file_name(&*format.with(WriteOptions::PLAIN), "net", "_int8", metadata)
        };
        assert_eq!(path(Format::Openvino, &export), PathBuf::from("net_int8_openvino_model/net.xml"));
        assert_eq!(path(Format::Openvino, &[]), PathBuf::from("net_int8.xml"));
        assert_eq!(path(Format::Tflite, &export), PathBuf::from("net_int8.tflite"));
    }

    #[test]
    fn metadata_choose_how_pictures_are_prepared() {
        let say = |task: &str| metadata(&[("task", task), ("imgsz", "[640, 640]"), ("stride", "32")]);
        let of = |metadata: &Metadata| Ultralytics.preprocess(metadata);
        assert_eq!(of(&say("detect")), Some(Preprocess::YOLO));
        assert_eq!(of(&say("classify")).map(|p| p.fit), Some(Fit::CenterCrop { ratio: 1.0 }));
        assert_eq!(of(&say("detect")[..2]), None);
        assert_eq!(of(&[]), None);
        let module = |class: &str| metadata(&[(MODULE, class)]);
        assert_eq!(of(&module("ultralytics.nn.tasks.PoseModel")), Some(Preprocess::YOLO));
        assert_eq!(of(&module("ultralytics.nn.tasks.RTDETRDetectionModel")), None);
        assert_eq!(of(&module("torchvision.models.resnet.ResNet")), None);
    }

    #[test]
    fn metadata_tell_what_outputs_hold() {
        let of = |task: &str| Ultralytics.hints(&metadata(&[("task", task), ("names", "{0: 'a', 1: 'b'}")]));
        assert_eq!(of("classify"), Some(Hints { classifies: true, detects: None }));
        assert_eq!(of("pose"), Some(Hints { classifies: false, detects: Some(2) }));
        assert_eq!(of("other"), None);
        assert_eq!(Ultralytics.hints(&[]), None);
    }
}

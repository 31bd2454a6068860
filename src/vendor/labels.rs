//! Names of classes in artefacts of models without a known vendor.

use qcc_backends::Attachments;

/// The names where tools look for them: as a list behind TensorFlow Lite models, and for OpenVINO's Model API.
pub(super) fn attachments(labels: Vec<String>) -> Attachments {
    if labels.is_empty() {
        return Attachments::default();
    }
    let lines: String = labels.iter().map(|label| format!("{label}\n")).collect();
    Attachments {
        archive: vec![("labels.txt".into(), lines.into_bytes())],
        info: vec![("model_info".into(), vec![model_api_labels(&labels)])],
        labels,
        ..Attachments::default()
    }
}

/// The names as OpenVINO's Model API reads them: separated by spaces.
pub(super) fn model_api_labels(labels: &[String]) -> (String, String) {
    let words = labels.iter().map(|label| label.replace(char::is_whitespace, "_"));
    ("labels".into(), words.collect::<Vec<_>>().join(" "))
}

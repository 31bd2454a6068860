//! Names of vendors and runtimes, and the modules that may contain them.

use std::collections::BTreeMap;

use super::source::{Token, tokens};

/// Names in lower case without spaces, and the files and folders whose code may contain them.
pub(super) const ROOMS: &[(&[&str], &[&str])] = &[
    // The vendor's module, and the command line with its help texts. The frontends refuse files without a model before
    // the vendor is known.
    (&["ultralytics", "yolo"], &["src/vendor/", "src/cli/", "src/data/mod.rs", "frontends/src/torch/checkpoint.rs"]),
    // Formats have the names of their runtimes: code that reads, writes and names formats. The root crate names them in
    // options and reports, and where files of a format are compared.
    (
        &["tflite", "litert", "xnnpack", "tensorflow"],
        &[
            "formats/src/lib.rs",
            "formats/src/tflite/",
            "frontends/src/lib.rs",
            "frontends/src/tflite/",
            "backends/src/device.rs",
            "backends/src/devices.rs",
            "backends/src/disassembly/",
            "backends/src/kind.rs",
            "backends/src/lib.rs",
            "backends/src/operation.rs",
            "backends/src/tflite/",
            "src/cli/",
            "src/compare/",
            "src/cost/",
            "src/inspect.rs",
            "src/options.rs",
            "src/reports.rs",
            "src/vendor/",
        ],
    ),
    (
        &["openvino"],
        &[
            "formats/src/lib.rs",
            "formats/src/openvino",
            "frontends/src/lib.rs",
            "frontends/src/openvino/",
            "backends/src/devices.rs",
            "backends/src/disassembly/",
            "backends/src/kind.rs",
            "backends/src/lib.rs",
            "backends/src/openvino/",
            "src/cli/",
            "src/cost/",
            "src/options.rs",
            "src/vendor/",
        ],
    ),
    // Calibration files have the names of the tools that read and write them.
    (&["onnxruntime"], &["frontends/src/onnx/", "backends/src/onnx/", "src/ranges/"]),
    (&["aimet"], &["src/ranges/", "src/cli/"]),
    (&["tensorrt"], &["src/ranges/", "src/cli/", "backends/src/onnx/", "backends/src/devices.rs"]),
];

/// The forbidden names in the code of a file: identifiers and strings, but not comments or test code.
pub(super) fn misplaced<'n>(file: &str, text: &str, rooms: &[(&[&'n str], &[&str])]) -> Vec<&'n str> {
    let foreign: Vec<&str> = rooms
        .iter()
        .filter(|(_, homes)| !homes.iter().any(|home| file.starts_with(home)))
        .flat_map(|(names, _)| names.iter().copied())
        .collect();
    let mut found = BTreeMap::new();
    for token in tokens(text) {
        let (Token::Word(word) | Token::Text(word)) = token else { continue };
        let plain: String = word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        found.extend(foreign.iter().filter(|name| plain.contains(**name)).map(|name| (*name, ())));
    }
    found.into_keys().collect()
}

#[test]
fn names_are_found_in_code_alone() {
    let rooms: &[(&[&str], &[&str])] = &[(&["acme"], &["vendor/"]), (&["fastrun"], &["backend/", "vendor/"])];
    let text = "//! Acme\n/// as Fast Run does /* acme */\nfn acme_boxes() { let m = \"run by Fast Run\"; }";
    assert_eq!(misplaced("passes/a.rs", text, rooms), ["acme", "fastrun"]);
    assert_eq!(misplaced("backend/a.rs", text, rooms), ["acme"]);
    assert_eq!(misplaced("vendor/a.rs", text, rooms), <[&str; 0]>::default());
    let tested = "/// Acme\nfn f() {}\n#[cfg(test)]\nmod tests { const N: &str = \"acme\"; }";
    assert_eq!(misplaced("passes/a.rs", tested, rooms), <[&str; 0]>::default());
}

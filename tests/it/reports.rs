//! Reports: the page, the JSON and its schema, and node data.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use prost::Message;
use serde_json::Value;

use crate::cli::{floats, folder, model, node, pictures, refusal, succeeds, value};
use qcc_formats::onnx::GraphProto;

/// Fails where a value is not what a schema says. Knows the words that `docs/report.schema.json` uses, and no others.
fn check(schema: &Value, root: &Value, value: &Value, place: &str) {
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    for (word, says) in schema.as_object().unwrap() {
        match word.as_str() {
            "$schema" | "title" | "$defs" => {}
            "$ref" => check(root.pointer(says.as_str().unwrap().trim_start_matches('#')).unwrap(), root, value, place),
            "type" => {
                let kinds = says.as_array().cloned().unwrap_or_else(|| vec![says.clone()]);
                assert!(kinds.iter().any(|k| is(k.as_str().unwrap())), "{place}: {value} is no {says}");
            }
            "const" => assert_eq!(value, says, "{place}"),
            "enum" => assert!(says.as_array().unwrap().contains(value), "{place}: {value} is none of {says}"),
            "anyOf" => match value {
                Value::Null => assert!(says[1]["type"] == "null"),
                _ => check(&says[0], root, value, place),
            },
            "minimum" => assert!(value.is_null() || value.as_f64() >= says.as_f64(), "{place}: {value} below {says}"),
            "maximum" => assert!(value.as_f64() <= says.as_f64(), "{place}: {value} beyond {says}"),
            "items" => {
                let items = value.as_array().unwrap().iter().enumerate();
                items.for_each(|(i, item)| check(says, root, item, &format!("{place}[{i}]")));
            }
            "required" => {
                let missing = says.as_array().unwrap().iter().find(|name| value.get(name.as_str().unwrap()).is_none());
                assert_eq!(missing, None, "{place}");
            }
            "properties" => {
                for (name, value) in value.as_object().unwrap() {
                    let own = says.get(name).unwrap_or_else(|| panic!("{place}: {name} is not in the schema"));
                    check(own, root, value, &format!("{place}.{name}"));
                }
            }
            "additionalProperties" => assert_eq!(says, false),
            other => panic!("the schema has a word that this test does not know: {other}"),
        }
    }
}

/// Fails if a report is not what the documented schema says.
pub(crate) fn check_schema(report: &Value) {
    let schema = json(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.schema.json"));
    check(&schema, &schema, report, "report");
}

pub(crate) fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The numbers of a page.
pub(crate) fn figures(page: &str) -> Vec<String> {
    page.split("<data value=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

const ALL: &[&str] = &["small.onnx", "--to", "tflite,onnx,openvino", "--scale", "1/255"];

#[test]
fn page_and_json_have_the_same_figures() {
    let dir = folder();
    pictures(dir.path(), 9);
    let reports = ["--report", "r.json", "--report", "r.html", "--report", "r.overlay.json"];
    let asked = &["--int8", "--data", "pictures", "--min-sqnr", "55"];
    for precision in [&["--int8", "--data", "pictures"][..], asked, &["--int8"], &["--w8a32", "--data", "pictures"]] {
        let args = [ALL, precision, &reports, &["-o", "out/"]].concat();
        succeeds(dir.path(), &args);
        let report = json(dir.path().join("r.json"));
        check_schema(&report);
        assert_eq!(report["command"], format!("qcc {}", args.join(" ")));
        assert_eq!(report["artefacts"][0]["quality"]["repair"].is_object(), precision == &asked[..], "{precision:?}");
        let page = fs::read_to_string(dir.path().join("r.html")).unwrap();
        let shown = figures(&page);
        // As they are spelt: reading them would round.
        let text = fs::read_to_string(dir.path().join("r.json")).unwrap();
        let known: HashSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).collect();
        let odd: Vec<&String> = shown.iter().filter(|n| !known.contains(n.as_str())).collect();
        assert!(odd.is_empty(), "the page has figures that the JSON has not: {odd:?}");
        let shown: Vec<f64> = shown.iter().filter_map(|n| n.parse().ok()).collect();
        let digest = |file: &Path| qcc::backends::disassembly::Digest::of(&fs::read(file).unwrap()).to_string();
        assert_eq!(report["model_digest"], digest(&dir.path().join("small.onnx")));
        for digest in ["validation_digest", "calibration_digest"] {
            assert_eq!(report[digest].is_string(), precision.contains(&"--data"), "{precision:?}");
        }
        for artefact in report["artefacts"].as_array().unwrap() {
            let files = artefact["digests"].as_array().unwrap();
            assert_eq!(files.len(), if artefact["target"] == "openvino" { 2 } else { 1 });
            for file in files {
                assert_eq!(file["digest"], digest(&dir.path().join(file["file"].as_str().unwrap())));
            }
            let (quality, costs) = (&artefact["quality"], &artefact["costs"]);
            let (before, after) = (&costs["before"], &costs["after"]);
            for wanted in [&quality["outputs"][0]["sqnr"], &quality["worst"][0]["sqnr"], &artefact["output_bytes"]]
                .into_iter()
                .chain(
                    ["weight_bytes", "peak_bytes", "latency_ms", "energy_uj"]
                        .iter()
                        .flat_map(|f| [&before[f], &after[f]]),
                )
            {
                // `null` stands for outputs without any difference.
                let Some(wanted) = wanted.as_f64() else { continue };
                assert!(shown.iter().any(|x| (x - wanted).abs() <= 1e-9 * wanted), "the page lacks {wanted}");
            }
        }
        // Ranges of the values in either half of the samples.
        let artefacts = report["artefacts"].as_array().unwrap();
        let unstable = artefacts.iter().any(|a| !a["quality"]["unstable"].as_array().unwrap().is_empty());
        // So much is asked that nothing may stay quantized.
        assert!(precision == &asked[..] || unstable == (precision[0] == "--int8"), "{precision:?}");
        assert_eq!(page.contains("Stability of ranges"), unstable);
        // It is one file, and nothing runs in it.
        for foreign in ["http:", "https:", "<script", "url(", "@import", "<link rel=\"stylesheet"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
    // The same run without reports gives the same artefacts.
    let read = |file: &str| fs::read(dir.path().join("out").join(file)).unwrap();
    let before = read("small_int8.tflite");
    succeeds(dir.path(), &[ALL, &["--int8", "-o", "out/"]].concat());
    assert_eq!(read("small_int8.tflite"), before);
}

#[test]
fn node_data_name_tensors_of_the_file() {
    let dir = folder();
    pictures(dir.path(), 9);
    let int8 = ["small.onnx", "--scale", "1/255", "--int8", "--data", "pictures", "--report", "r.overlay.json"];
    succeeds(dir.path(), &[&int8[..], &["--to", "onnx,tflite"]].concat());
    let overlay = json(dir.path().join("r.overlay.json"));
    let inspected: Value =
        serde_json::from_str(&succeeds(dir.path(), &["inspect", "--json", "small_int8.tflite"])).unwrap();
    let tensors = inspected["graphs"][0]["tensors"].as_array().unwrap();
    let results = overlay["results"].as_object().unwrap();
    assert!(!results.is_empty());
    for (name, result) in results {
        assert!(tensors.iter().any(|t| t["name"] == name.as_str()), "{name}");
        assert!(result["value"].as_f64().unwrap() > 20.0, "{result}");
    }
    let said = refusal(dir.path(), &[&int8[..], &["--to", "onnx"]].concat());
    assert!(said.starts_with("2\n") && said.contains("--to tflite"), "{said}");
}

/// A name is text on the page, whatever it holds.
#[test]
fn names_are_no_markup() {
    let dir = folder();
    let odd = "</title><script>alert(1)</script>\u{202e}&'\"";
    let graph = GraphProto {
        name: crate::cli::some(odd),
        node: vec![node("Conv", &["x", "w"], odd)],
        initializer: vec![floats("w", &[2, 2, 1, 1], (0..).map(|i| i as f32 - 1.5))],
        input: vec![value("x", &[1, 2, 4, 4])],
        output: vec![value(odd, &[1, 2, 4, 4])],
        ..GraphProto::default()
    };
    fs::write(dir.path().join("odd.onnx"), model(graph).encode_to_vec()).unwrap();
    succeeds(dir.path(), &["odd.onnx", "--to", "tflite", "--int8", "--data", "random", "--report", "r.html"]);
    let page = fs::read_to_string(dir.path().join("r.html")).unwrap();
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script") && !page.contains('\u{202e}'), "{page}");
}

//! `qcc inspect` and `qcc diff` on artefacts of qcc.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const TARGETS: [&str; 3] = ["tflite", "onnx", "xml"];

fn qcc(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qcc")).current_dir(dir).args(args).output().unwrap()
}

/// The exit code and the output.
fn said(dir: &Path, args: &[&str]) -> (i32, String) {
    let out = qcc(dir, args);
    let [said, error] = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (out.status.code().unwrap(), said + &error)
}

/// The bundled classifier as artefacts, compiled twice.
fn compiled(options: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/mnist_lenet.onnx");
    for folder in ["a", "b"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for (target, main) in [("tflite", "m.tflite"), ("onnx", "m.onnx"), ("openvino", "m.xml")] {
            let file = format!("{folder}/{main}");
            let args = [&[model.to_str().unwrap(), "--to", target, "-q", "-o", &file][..], options].concat();
            let (code, said) = said(dir.path(), &args);
            assert_eq!(code, 0, "{said}");
        }
    }
    dir
}

#[test]
fn every_precision_is_inspected_and_compiles_to_the_same_twice() {
    for options in [
        &[][..],
        &["--fp16"],
        &["--w8a32"],
        &["--int8", "--data", "random", "--samples", "2"],
        &["--int8", "--data", "random", "--samples", "2", "--io", "int8"],
    ] {
        let dir = compiled(options);
        for target in TARGETS {
            let [a, b] = ["a", "b"].map(|folder| format!("{folder}/m.{target}"));
            assert_eq!(said(dir.path(), &["diff", &a, &b]), (0, "no difference\n".into()), "{options:?} {target}");
            let (code, shown) = said(dir.path(), &["inspect", &a, "--json"]);
            assert_eq!(code, 0, "{shown}");
            let shown: Value = serde_json::from_str(&shown).unwrap();
            let graph = &shown["graphs"][0];
            assert_eq!((&shown["schema"], &graph["inputs"][0]["name"]), (&Value::from(1), &Value::from("image")));
            let tensors = graph["tensors"].as_array().unwrap();
            let constants = tensors.iter().filter(|t| t["constant"]["bytes"].as_u64().is_some_and(|n| n > 1000));
            let digest = |t: &Value| t["constant"]["digest"].as_str().unwrap().strip_prefix("sha256:").map(str::len);
            let digests: Vec<Option<usize>> = constants.map(digest).collect();
            assert!(digests.len() >= 2 && digests.iter().all(|d| *d == Some(64)), "{shown}");
            let quantized = tensors.iter().any(|t| t["quantization"]["scales"][0].as_f64().is_some());
            let expected = options.iter().any(|o| ["--w8a32", "--int8"].contains(o));
            // In ONNX, weight-only quantized weights are dequantized by Cast and Mul.
            assert!(quantized == expected || (target == "onnx" && options == ["--w8a32"]), "{options:?} {target}");
        }
    }
}

/// The byte in the middle of the largest file belongs to a weight.
#[test]
fn a_flipped_weight_byte_is_found() {
    let dir = compiled(&["--int8", "--data", "random", "--samples", "2"]);
    for (target, weights) in [("tflite", "m.tflite"), ("onnx", "m.onnx"), ("xml", "m.bin")] {
        let path = dir.path().join("b").join(weights);
        let mut file = fs::read(&path).unwrap();
        let middle = file.len() / 2;
        file[middle] ^= 0x10;
        fs::write(&path, file).unwrap();
        let [a, b] = ["a", "b"].map(|folder| format!("{folder}/m.{target}"));
        let (code, told) = said(dir.path(), &["diff", &a, &b]);
        assert_eq!(code, 1, "{told}");
        assert!(told.starts_with("~ tensor ") && told.contains(" constant: 76800 bytes sha256:"), "{told}");
        assert!(told.ends_with("\n1 difference\n"), "{told}");
        let (code, told) = said(dir.path(), &["diff", &a, &b, "--json"]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (code, &told["equal"], &told["changes"][0]["field"]),
            (1, &Value::from(false), &Value::from("constant"))
        );
    }
}

#[test]
fn what_cannot_be_told_apart_is_refused() {
    let dir = compiled(&[]);
    for (args, message) in [
        (&["diff", "a/m.onnx", "a/m.xml"][..], "error[usage]: a/m.onnx is onnx, and a/m.xml is openvino"),
        (&["diff", "a/m.onnx", "none.onnx"], "error[unreadable-file]"),
        (&["diff", "a/m.onnx"], "error: the following required arguments"),
    ] {
        let (code, told) = said(dir.path(), args);
        assert!(code == 2 && told.contains(message), "{code} {told}");
    }
    fs::write(dir.path().join("text.onnx"), "no model").unwrap();
    let (code, told) = said(dir.path(), &["diff", "a/m.onnx", "text.onnx"]);
    assert!(code == 2 && told.starts_with("error["), "{told}");
    fs::remove_file(dir.path().join("a/m.bin")).unwrap();
    let (code, told) = said(dir.path(), &["inspect", "a/m.xml"]);
    assert!(code == 1 && told.contains("error[missing-data]") && told.contains("m.bin"), "{told}");
}

#[test]
fn graphs_as_text_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let text = "// A comment.\ngraph g {\n  %x: f32[2,3] = input\n  %y: f32[2,3] = softmax(axis:1,log:false) %x\n  output y = %y\n}\n";
    fs::write(dir.path().join("a.qir"), text).unwrap();
    fs::write(dir.path().join("b.qir"), text.replace("axis:1", "axis:0")).unwrap();
    assert_eq!(said(dir.path(), &["diff", "a.qir", "b.qir"]), (1, "~ operator y axis: 1 -> 0\n1 difference\n".into()));
    let (code, shown) = said(dir.path(), &["inspect", "b.qir"]);
    assert!(code == 0 && shown.contains("y = softmax x {axis: 0, log: false}"), "{shown}");
    fs::write(dir.path().join("c.qir"), text.replace("softmax", "hardmax")).unwrap();
    let (code, shown) = said(dir.path(), &["inspect", "c.qir"]);
    assert!(code == 1 && shown.contains("error[bad-model]") && shown.contains("hardmax"), "{shown}");
}

/// The script of docs/snapshots.md.
#[cfg(unix)]
#[test]
fn the_check_of_the_documentation_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/snapshots.md")).unwrap();
    let script = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("check.sh"), script).unwrap();
    let model = fs::read(root.join("tests/models/mnist_lenet.onnx")).unwrap();
    fs::write(dir.path().join("model.onnx"), &model).unwrap();
    std::os::unix::fs::symlink(root.join("tests/models/digits"), dir.path().join("calibration")).unwrap();
    let qcc = Path::new(env!("CARGO_BIN_EXE_qcc")).parent().unwrap();
    let path = format!("{}:{}", qcc.display(), std::env::var("PATH").unwrap());
    let check = |arguments: &[&str]| {
        let run =
            Command::new("sh").arg("check.sh").args(arguments).env("PATH", &path).current_dir(dir.path()).output();
        let run = run.unwrap();
        (run.status.code().unwrap(), String::from_utf8(run.stdout).unwrap() + &String::from_utf8(run.stderr).unwrap())
    };
    assert_eq!(check(&["bless"]), (0, String::new()));
    assert_eq!(check(&[]), (0, String::new()));
    // The sign of one weight.
    let middle = model.len() / 2;
    let place = (middle..).find(|i| (0x3c..=0x3e).contains(&model[*i])).unwrap();
    let mut other = model;
    other[place] ^= 0x80;
    fs::write(dir.path().join("model.onnx"), other).unwrap();
    let (code, told) = check(&[]);
    assert!(code == 1 && told.contains("+++ build/tflite.txt") && told.contains("+++ build/openvino.txt"), "{told}");
}

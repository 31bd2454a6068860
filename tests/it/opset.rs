//! ONNX models for an operator set that options ask for.

use std::fs;
#[cfg(feature = "oracles")]
use std::path::Path;

use crate::cli::{folder, refusal, succeeds};
#[cfg(feature = "oracles")]
use crate::cli::{qcc, text};

#[test]
fn an_operator_set_is_written_or_what_needs_a_newer_one_is_named() {
    let dir = folder();
    let opset = |options: &[&str]| {
        succeeds(dir.path(), &[&["small.onnx", "--to", "onnx", "-o", "o.onnx"], options].concat());
        let said = succeeds(dir.path(), &["inspect", "o.onnx"]);
        said.lines().filter(|l| l.starts_with("ir_version") || l.starts_with("opset")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(opset(&[]), "ir_version: 8, opset ai.onnx: 17");
    assert_eq!(opset(&["--opset", "14"]), "ir_version: 7, opset ai.onnx: 14");
    assert_eq!(opset(&["--opset", "21"]), "ir_version: 10, opset ai.onnx: 21");
    let model =
        "graph g {\n  %x: f32[2,3] = input\n  %y = unary(f:Mish) %x\n  %z = binary(f:Add) %y, %x\n  output z = %z\n}\n";
    fs::write(dir.path().join("m.qir"), model).unwrap();
    let refused = |opset: &str| refusal(dir.path(), &["m.qir", "--to", "onnx", "--opset", opset]);
    insta::assert_snapshot!([refused("13"), refused("12")].join("\n"));
}

/// ONNX's own checker agrees with each operator set that is written, for the operators of the corpus.
#[cfg(feature = "oracles")]
#[test]
fn operator_sets_have_the_operators_that_are_written_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut counts = [13, 14, 15, 16, 17, 18, 20, 21, 23].map(|opset| (opset, 0));
    for case in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/ops")).unwrap() {
        let path = case.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (source, words) = (fs::read_to_string(&path).unwrap(), ["--to", "onnx", "-q", "--opset"]);
        fs::write(dir.path().join("m.qir"), source.split("\n---\n").next().unwrap()).unwrap();
        for (opset, count) in &mut counts {
            let (number, file) = (opset.to_string(), format!("{stem}_{opset}.onnx"));
            let done = qcc(dir.path(), &[&["m.qir"], &words[..], &[&number, "-o", &file]].concat());
            *count += usize::from(done.status.success());
            let why = text(&done.stderr);
            assert!(done.status.success() || why.contains("error[opset]") || !why.contains("--opset"), "{stem}: {why}");
        }
    }
    assert!(counts.iter().all(|(_, count)| *count > 2) && counts.is_sorted_by_key(|(_, count)| *count), "{counts:?}");
    let said = crate::oracle::python("opset.py", dir.path());
    assert_eq!(said, "", "{said}");
}

//! Values that artefacts keep from run to run.

use std::fs;
use std::path::Path;

use crate::cli::{refusal, succeeds};
#[cfg(feature = "oracles")]
use crate::oracle;

/// A folder with a model that sums its inputs: `next` has the type of `last`, `wide` has not.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = "graph g {
        %x: f32[1,4] = input
        %last: f32[1,4] = input
        %y = binary(f:Add) %x, %last
        %next = unary(f:Tanh) %y
        %wide = concat(axis:1) %x, %x
        output y = %y
        output next = %next
        output wide = %wide
        }";
    fs::write(dir.path().join("m.qir"), model).unwrap();
    let open = model.replace("[1,4]", "[n,4]");
    fs::write(dir.path().join("open.qir"), open).unwrap();
    dir
}

fn refused(dir: &Path, model: &str, target: &str, states: &[&str]) -> String {
    let mut args = vec![model, "--to", target, "-o", "out/"];
    states.iter().for_each(|state| args.extend(["--state", state]));
    let said = refusal(dir, &args);
    assert!(!dir.join("out").exists(), "{said}");
    said
}

#[test]
fn states_that_cannot_be_are_refused() {
    let dir = folder();
    let say = |model, target, states: &[&str]| refused(dir.path(), model, target, states);
    insta::assert_snapshot!("state_of_onnx", say("m.qir", "tflite,onnx", &["last=next"]));
    insta::assert_snapshot!("state_unknown", say("m.qir", "tflite", &["lasts=next"]));
    insta::assert_snapshot!("state_twice", say("m.qir", "tflite", &["last=next", "x=next"]));
    insta::assert_snapshot!("state_unlike", say("m.qir", "openvino", &["last=wide"]));
}

#[test]
fn a_state_of_tflite_has_a_known_shape() {
    let dir = folder();
    let state = |targets: &str| {
        let args = ["open.qir", "--to", targets, "--state", "last=next", "-o", "out/", "--report", "r.json"];
        succeeds(dir.path(), &args);
        let report = fs::read(dir.path().join("r.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&report).unwrap()["artefacts"][0]["states"][0]["type"].clone()
    };
    // A batch that a target needs is 1 for all targets.
    assert_eq!(["openvino", "openvino,tflite"].map(state), ["f32[n,4]", "f32[1,4]"]);
}

#[test]
fn callers_do_not_see_states() {
    let dir = folder();
    let said = succeeds(dir.path(), &["m.qir", "--to", "tflite,openvino", "--state", "last=next", "-o", "out/"]);
    insta::assert_snapshot!(
        "state_summary",
        said.lines().filter(|l| !l.contains("time")).collect::<Vec<_>>().join("\n")
    );
}

#[cfg(feature = "oracles")]
#[test]
fn runtimes_keep_states() {
    oracle::table("states.py", 27);
}

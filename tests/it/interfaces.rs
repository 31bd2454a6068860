//! Element types of inputs and outputs by name.

use std::fs;

use crate::cli::{refusal, succeeds};

/// A folder with a model of two inputs and two outputs, whose images have channels last in all formats.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let weights: Vec<f32> = (0..64).map(|i| ((i * 37 % 23) as f32 - 11.0) / 23.0).collect();
    let model = format!(
        "graph g {{
        %a: f32[1,4,4,2] = input
        %b: f32[1,4,4,2] = input
        %w: f32[2,32] = const {weights:?}
        %s = binary(f:Add) %a, %b
        %r = reshape[1,32] %s
        %y = matmul(transpose_b:true) %r, %w
        %z = unary(f:Tanh) %y
        output y = %y
        output z = %z
        }}"
    );
    fs::write(dir.path().join("m.qir"), model).unwrap();
    dir
}

const INT8: [&str; 4] = ["m.qir", "--int8", "--data", "random"];

#[cfg(feature = "oracles")]
#[test]
fn runtimes_have_the_types_of_each_input_and_output() {
    let dir = folder();
    succeeds(dir.path(), &["m.qir", "-o", "float.tflite"]);
    let io = ["--to", "tflite,onnx,openvino", "--io", "a=uint8,z=int8", "-o", "all/", "--report", "int8.json"];
    succeeds(dir.path(), &[&INT8[..], &io].concat());
    for file in ["tflite", "onnx", "xml", "bin"] {
        let to = dir.path().join(format!("int8.{file}"));
        fs::rename(dir.path().join(format!("all/m_int8.{file}")), to).unwrap();
    }
    insta::assert_snapshot!(crate::oracle::python("io.py", dir.path()));
}

#[test]
fn inputs_and_outputs_have_types_of_their_own() {
    let dir = folder();
    let ports = |io: &[&str]| {
        succeeds(dir.path(), &[&INT8[..], &["--to", "tflite", "--report", "r.json"], io].concat());
        let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap();
        let ports =
            ["inputs", "outputs"].map(|ports| report["artefacts"][0][ports].as_array().unwrap().clone()).concat();
        // Scales depend on the data.
        let kind = |port: &serde_json::Value| port["type"].as_str().unwrap()[..3].to_owned();
        ports.iter().map(|port| format!("{}: {}", port["name"], kind(port))).collect::<Vec<_>>().join("\n")
    };
    let all = ports(&["--io", "int8"]);
    assert_eq!(ports(&["--io", "a=int8,b=int8", "--io", "y=int8,z=int8"]), all);
    assert_eq!(ports(&["--io", "a=float,b=float"]), ports(&[]));
    insta::assert_snapshot!([all, ports(&["--io", "uint8,b=float,y=int8"])].join("\n\n"));
}

#[test]
fn unknown_names_and_types_are_refused() {
    let dir = folder();
    let refused = |io: &str| refusal(dir.path(), &[&INT8[..], &["--to", "tflite", "--io", io]].concat());
    insta::assert_snapshot!(["c=int8", "a=int9", "a=int8,a=uint8", "a=int16"].map(refused).join("\n"));
}

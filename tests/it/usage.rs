//! Command lines: what their mistakes mean, the help, and the names that other tools have for options.

use std::fs;
use std::path::Path;

use prost::Message;
use qcc_formats::onnx::{DimensionValue, TypeValue};

use crate::cli::{folder, node, of, pictures, qcc, refusal, succeeds, text};

/// The commands of the help.
const COMMANDS: [&str; 10] =
    ["inspect", "diff", "compare", "report", "ops", "passes", "opt", "calibrate", "merge", "completions"];

/// The largest number of columns of the help.
const COLUMNS: usize = 100;

#[test]
fn mistakes_are_understood() {
    let dir = folder();
    let lines = [
        "inspec small.onnx",
        "inspec",
        "compile small.onnx --to tflite",
        "export model=small.onnx format=tflite",
        "missing.onnx --to tflite",
        "small.onnx",
        "small.onnx small.tflite",
        "small.onnx small.onnx --to tflite",
        "small.onnx --to tflite --nms",
        "small.onnx --to onnx --opset 9",
        "small.onnx --to tflite --opset 18",
        "--model small.onnx --to tflite",
        "small.onnx --to tflite --imgz 8",
        "small.onnx --to tflite --imgsz 16",
        "small.onnx --to tflite --imgsz 8,8,8",
        "small.onnx --to tflite --batch 2",
        "small.onnx --to tflite --batch 1 --shape x=1,3,8,8",
        "small.onnx --to tflite --int8 --fraction 0.5",
        "small.onnx --to tflite --int8 --data d --fraction 2",
        "small.onnx --to openvino -o -",
        "small.onnx --to tflite,onnx -o -",
        "small.onnx -o -",
        "small.onnx --to tflite -o - --report r.json",
        "small.onnx --to tflite --explain -o -",
        "small.onnx --to tflite --report - --report r.html",
        "--explain /c small.onnx --to onnx",
    ];
    let said = lines.map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        format!("> qcc {line}\n{}", refusal(dir.path(), &words))
    });
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_model_is_no_pattern_of_nodes() {
    let dir = folder();
    let said = succeeds(dir.path(), &["--explain", "small.onnx", "--to", "onnx", "--w8a32", "-q"]);
    assert!(said.starts_with("onnx: "), "{said}");
    let help = succeeds(dir.path(), &["--help"]);
    assert!(help.contains("--explain[=<PATTERN>]"), "{help}");
}

#[test]
fn the_help_is_wrapped_and_has_examples() {
    let dir = folder();
    let pages = [vec!["--help"], vec!["-h"]].into_iter().chain(COMMANDS.map(|command| vec![command, "--help"]));
    for page in pages {
        let help = succeeds(dir.path(), &page);
        assert!(help.lines().all(|line| line.chars().count() <= COLUMNS), "{page:?}: {help}");
    }
    let help = succeeds(dir.path(), &["--help"]);
    assert!(COMMANDS.iter().all(|command| help.contains(&format!("\n  {command} "))), "{help}");
    assert_eq!(help.lines().filter(|line| line.starts_with("  qcc ")).count(), 3, "{help}");
}

#[test]
fn the_version_says_what_it_was_compiled_for() {
    let dir = folder();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(succeeds(dir.path(), &["-V"]), format!("qcc {version}\n"));
    let long = succeeds(dir.path(), &["--version"]);
    assert!(long.starts_with(&format!("qcc {version} (")) && long.contains("CPU features"), "{long}");
}

#[test]
fn completions_know_the_options() {
    let dir = folder();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = succeeds(dir.path(), &["completions", shell]);
        assert!(["min-agreement", "calibrate"].iter().all(|word| script.contains(word)), "{shell}: {script}");
    }
    let page = succeeds(dir.path(), &["completions", "man"]);
    assert!(page.contains(".TH qcc 1") && page.contains("min\\-agreement"), "{page}");
}

/// A model of pictures `[n,3,h,w]` with all extents open.
fn open(folder: &Path) {
    let mut model = of(vec![node("Relu", &["x"], "y")], Vec::new());
    let kind = model.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
    let Some(TypeValue::Tensor(tensor)) = &mut kind.value else { panic!("the input is a tensor") };
    for (dim, name) in tensor.shape.as_mut().unwrap().dim.iter_mut().zip(["n", "", "h", "w"]) {
        let open = DimensionValue::Param(name.into());
        dim.value = Some(if name.is_empty() { DimensionValue::Value(3) } else { open });
    }
    fs::write(folder.join("open.onnx"), model.encode_to_vec()).unwrap();
}

#[test]
fn sizes_need_no_names_of_inputs() {
    let dir = folder();
    open(dir.path());
    let input = |sizes: &[&str]| {
        let said = succeeds(dir.path(), &[&["open.onnx", "--to", "onnx", "-o", "sized.onnx"], sizes].concat());
        said.lines().find(|line| line.starts_with("input")).unwrap().to_owned()
    };
    assert!(input(&["--imgsz", "16,8", "--batch", "2"]).contains("x: f32[2,3,16,8]"));
    assert!(input(&["--imgsz", "16"]).contains(",3,16,16]"));
    assert!(input(&["--batch", "2"]).contains("x: f32[2,3,"));
}

#[test]
fn a_fraction_of_the_data_is_spread_over_all() {
    let dir = folder();
    pictures(dir.path(), 12);
    let int8 = ["small.onnx", "--to", "tflite", "--int8", "--data", "pictures", "--scale", "1/255"];
    let with = |more: &[&str]| succeeds(dir.path(), &[&int8, more].concat());
    let samples = |said: &str| {
        let of = |name: &str| said.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        (of("calibrated"), of("compared"))
    };
    assert_eq!(samples(&with(&["--fraction", "1/3"])), samples(&with(&["--samples", "4"])));
    assert_eq!(samples(&with(&["--fraction", "0.01"])), samples(&with(&["--samples", "1"])));
    assert_eq!(samples(&with(&["--fraction", "1"])), samples(&with(&[])));
}

#[test]
fn precisions_have_the_names_of_other_tools() {
    let dir = folder();
    let written = |name: &str| {
        succeeds(dir.path(), &["small.onnx", "-o", "x.tflite", "--quantize", name]);
        fs::read(dir.path().join("x.tflite")).unwrap()
    };
    assert!(["float16", "fp16", "w16a16"].iter().all(|name| written(name) == written("16")));
    assert!(["float32", "fp32"].iter().all(|name| written(name) == written("32")));
    let unknown = qcc(dir.path(), &["small.onnx", "-o", "x.tflite", "--quantize", "int3"]);
    assert!(text(&unknown.stderr).contains("possible values"), "{}", text(&unknown.stderr));
}

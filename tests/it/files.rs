//! The user's files: input files are never replaced, and failed or interrupted runs leave nothing behind.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use prost::Message;
use qcc_formats::onnx::{DataLocation, ModelProto, StringStringEntryProto};
use tempfile::TempDir;

use crate::cli::{files, floats, folder, node, of, qcc, refusal, some, succeeds, text};

/// `small.onnx`, `outside.onnx` whose weights are in `w.bin` and `v.bin`, and `d.npy` with two samples for both.
fn home() -> TempDir {
    let dir = folder();
    let data: Vec<u8> = (0..2 * 3 * 64).flat_map(|i| ((i % 97) as f32 / 97.0).to_le_bytes()).collect();
    fs::write(dir.path().join("d.npy"), crate::hostile::npy("<f4", "(2, 3, 8, 8)", &data)).unwrap();
    fs::write(dir.path().join("outside.onnx"), outside(dir.path(), &["w.bin", "v.bin"]).encode_to_vec()).unwrap();
    dir
}

/// The small model with its constants in external files of these names. The last one is unused.
fn outside(folder: &Path, names: &[&str]) -> ModelProto {
    let mut model = ModelProto::decode(&*fs::read(folder.join("small.onnx")).unwrap()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.initializer[1] = floats("unread", &[4], (0..).map(|_| 1.0));
    graph.node[0].input.truncate(2);
    for (tensor, name) in graph.initializer.iter_mut().zip(names) {
        let bytes: Vec<u8> = tensor.float_data.drain(..).flat_map(f32::to_le_bytes).collect();
        fs::write(folder.join(name), bytes).unwrap();
        tensor.data_location = Some(DataLocation::External as i32);
        tensor.external_data = vec![StringStringEntryProto { key: some("location"), value: some(name) }];
    }
    model
}

/// Every file of a folder and what is in it.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    files(folder).into_iter().map(|f| (f.clone(), fs::read(folder.join(f)).unwrap_or_default())).collect()
}

#[test]
fn lengths_count_external_data() {
    let dir = home();
    let run = ["outside.onnx", "--to", "openvino", "-o", "out.xml", "--report", "r.json"];
    assert_eq!(qcc(dir.path(), &run).status.code(), Some(0));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    let length =
        |names: &[&str]| -> u64 { names.iter().map(|n| fs::metadata(dir.path().join(n)).unwrap().len()).sum() };
    assert_eq!(report["model_bytes"], length(&["outside.onnx", "w.bin", "v.bin"]));
    assert_eq!(report["artefacts"][0]["output_bytes"], length(&["out.xml", "out.bin"]));
}

/// `-` is standard output: the same bytes as in a file, and the summary elsewhere.
#[test]
fn artefacts_and_reports_are_written_to_standard_output() {
    let dir = folder();
    for to in ["tflite", "onnx", "qir"] {
        let file = format!("x.{to}");
        succeeds(dir.path(), &["small.onnx", "--to", to, "-o", &file, "-q"]);
        let out = qcc(dir.path(), &["small.onnx", "--to", to, "-o", "-"]);
        assert!(out.status.success());
        assert_eq!(out.stdout, fs::read(dir.path().join(&file)).unwrap(), "{to}");
        let said = text(&out.stderr);
        assert!(said.contains("written      -") && said.contains("size"), "{said}");
    }
    let out = qcc(dir.path(), &["small.onnx", "--to", "tflite", "-o", "y.tflite", "--report", "-"]);
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["artefacts"][0]["output"], "y.tflite");
    assert!(!report["artefacts"][0]["nodes"].as_array().unwrap().is_empty());
    assert!(dir.path().join("y.tflite").exists() && !dir.path().join("-").exists());
    // Errors leave standard output empty.
    let out = qcc(dir.path(), &["small.onnx", "--to", "tflite", "-o", "-", "--min-sqnr", "30"]);
    assert!(!out.status.success() && out.stdout.is_empty());
}

#[test]
fn nothing_that_is_read_is_replaced() {
    let dir = home();
    let at = |name: &str| dir.path().join(name);
    crate::cli::pictures(dir.path(), 2);
    fs::write(at("list.txt"), "./pictures/0.png\n").unwrap();
    fs::write(at("set.yaml"), "val: list.txt\n").unwrap();
    let before = (contents(dir.path()), contents(&at("pictures")));
    let int8 = |data: &'static str| vec!["small.onnx", "--to", "tflite", "--int8", "--scale", "1/255", "--data", data];
    let float = |model: &'static str| vec![model, "--to", "tflite"];
    let mut out = String::new();
    for (run, outputs) in [
        (float("small.onnx"), &["small.onnx"][..]),
        // Also files that the model names but does not use.
        (float("outside.onnx"), &["w.bin", "v.bin", "./w.bin"]),
        (int8("d.npy"), &["d.npy"]),
        (int8("pictures"), &["pictures/0.png"]),
        (int8("list.txt"), &["list.txt", "pictures/0.png"]),
        (int8("set.yaml"), &["set.yaml", "list.txt", "pictures/0.png"]),
    ] {
        for output in outputs {
            for option in ["-o", "--report"] {
                let said = refusal(dir.path(), &[&run[..], &[option, output]].concat());
                out += &format!("## {} {option} {output}\n{said}", run.join(" "));
            }
        }
    }
    assert_eq!((contents(dir.path()), contents(&at("pictures"))), before);
    insta::assert_snapshot!("nothing_that_is_read_is_replaced", out);
}

/// Files written beside the main one are also checked before the work begins.
#[test]
fn companions_replace_nothing_that_is_read() {
    for (weights, args) in [
        ("net.onnx.data", &["--to", "onnx", "--external-data", "-o", "net.onnx"][..]),
        ("net.bin", &["--to", "openvino", "-o", "net.xml"]),
        // Named after the model.
        ("in_int8.bin", &["--to", "tflite,openvino"]),
    ] {
        let dir = home();
        fs::write(dir.path().join("in.onnx"), outside(dir.path(), &[weights, "v.bin"]).encode_to_vec()).unwrap();
        let before = contents(dir.path());
        let int8 = ["in.onnx", "--int8", "--data", "d.npy", "--print-after", "quantize"];
        let said = refusal(dir.path(), &[&int8, args].concat());
        assert!(said.contains(&format!("{weights} would replace a file with weights of the model\n")), "{said}");
        assert_eq!(contents(dir.path()), before);
    }
}

#[cfg(unix)]
#[test]
fn links_lead_to_what_is_read() {
    let dir = home();
    let at = |name: &str| dir.path().join(name);
    fs::hard_link(at("d.npy"), at("hard")).unwrap();
    std::os::unix::fs::symlink("d.npy", at("soft")).unwrap();
    std::os::unix::fs::symlink(".", at("around")).unwrap();
    let before = contents(dir.path());
    for name in ["hard", "soft", "around/d.npy", "around/around/hard"] {
        for data in ["d.npy", "hard", "around/d.npy"] {
            // Formats are identified by their extension.
            if data.ends_with("npy") {
                let run = ["small.onnx", "--to", "tflite", "--int8", "--data", data, "-o", name];
                let said = refusal(dir.path(), &run);
                let other = if name == data { String::new() } else { format!(", {data}") };
                assert!(said.contains(&format!("{name} would replace a file of the data{other}\n")), "{said}");
            }
        }
    }
    assert_eq!(contents(dir.path()), before);
    assert!(at("soft").is_symlink());
    // A link to another file remains a link.
    std::os::unix::fs::symlink("made.tflite", at("link.tflite")).unwrap();
    assert!(qcc(dir.path(), &["small.onnx", "--to", "tflite", "-o", "link.tflite"]).status.success());
    assert!(at("link.tflite").is_symlink());
    assert_eq!(&fs::read(at("made.tflite")).unwrap()[4..8], b"TFL3");
}

#[cfg(unix)]
#[test]
fn a_report_that_cannot_be_written_is_told_before_the_work() {
    let dir = home();
    let at = |name: &str| dir.path().join(name);
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    fs::create_dir(at("folder")).unwrap();
    let mut out = String::new();
    for report in ["pipe", "folder", "/dev/null", "no/such/r.json", "small.tflite"] {
        let said = refusal(dir.path(), &["small.onnx", "--to", "tflite", "--report", report]);
        out += &format!("## {report}\n{said}");
        assert_eq!(files(dir.path()), ["d.npy", "folder", "outside.onnx", "pipe", "small.onnx", "v.bin", "w.bin"]);
    }
    insta::assert_snapshot!("a_report_that_cannot_be_written", out);
}

/// If one file cannot be completed, none appears and existing ones do not change.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_changes_nothing() {
    let dir = home();
    for name in ["small.tflite", "small.xml", "small.bin", "r.json"] {
        fs::write(dir.path().join(name), "old").unwrap();
    }
    let before = contents(dir.path());
    let run = "trap '' XFSZ; ulimit -f 1; exec \"$0\" small.onnx --to tflite,openvino --report r.json";
    let out = Command::new("sh").args(["-c", run, env!("CARGO_BIN_EXE_qcc")]).current_dir(dir.path()).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    assert!(said.starts_with("error[unwritable-output]: cannot write small.") && !said.contains(".qcc-"), "{said}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn folders_are_made_before_the_work_and_gone_where_it_fails() {
    let dir = home();
    let int8 = ["small.onnx", "--to", "tflite", "--int8", "--data", "d.npy", "-o", "a/b/"];
    let out = qcc(dir.path(), &[&int8[..], &["--min-sqnr", "300", "--effort", "fast"]].concat());
    assert_eq!(out.status.code(), Some(3));
    assert!(!dir.path().join("a").exists());
    let out = qcc(dir.path(), &[&int8[..], &["--min-sqnr", "300", "--effort", "fast", "--report", "r.json"]].concat());
    assert_eq!(out.status.code(), Some(3));
    assert!(!dir.path().join("a").exists() && dir.path().join("r.json").exists());
    assert!(qcc(dir.path(), &int8).status.success());
    assert_eq!(files(&dir.path().join("a/b")), ["small_int8.tflite"]);
    let said = refusal(dir.path(), &["small.onnx", "--to", "tflite", "-o", "d.npy/x/"]);
    assert!(said.contains("error[unwritable-output]: cannot make the folder d.npy/x"), "{said}");
}

#[cfg(unix)]
#[test]
fn the_mask_for_new_files_is_honoured() {
    use std::os::unix::fs::PermissionsExt;
    let dir = home();
    let run = "umask 027; exec \"$0\" small.onnx --to openvino --report r.json";
    assert!(
        Command::new("sh")
            .args(["-c", run, env!("CARGO_BIN_EXE_qcc")])
            .current_dir(dir.path())
            .status()
            .unwrap()
            .success()
    );
    for name in ["small.xml", "small.bin", "r.json"] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o640, "{name}");
    }
}

/// A run that has begun its files and waits until its output is read.
fn waiting(folder: &Path, model: &str, args: &[&str]) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qcc"))
        .args([&[model, "--to", "openvino", "--print-after", "recognise"], args].concat())
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    child
}

/// A model whose text does not fit into a pipe buffer, with weights in `far.bin`.
fn long(folder: &Path) -> String {
    let nodes = (0..1500).map(|i| node("Add", &[&format!("v{i}"), "w"], &format!("v{}", i + 1)));
    let mut model = of(nodes.chain([node("Relu", &["v1500"], "y")]).collect(), vec![]);
    let graph = model.graph.as_mut().unwrap();
    graph.node[0].input[0] = "x".into();
    let elements = 1 << 20;
    graph.initializer.push(floats("w", &[elements / 32, 2, 4, 4], (0..).map(|i| i as f32)));
    graph.node[0].input[1] = "w".into();
    let tensor = &mut graph.initializer[0];
    let bytes: Vec<u8> = tensor.float_data.drain(..).flat_map(f32::to_le_bytes).collect();
    fs::write(folder.join("far.bin"), bytes).unwrap();
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![StringStringEntryProto { key: some("location"), value: some("far.bin") }];
    fs::write(folder.join("long.onnx"), model.encode_to_vec()).unwrap();
    "long.onnx".into()
}

#[cfg(unix)]
#[test]
fn signals_leave_nothing() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let dir = tempfile::tempdir().unwrap();
        let model = long(dir.path());
        let child = waiting(dir.path(), &model, &["-o", "a/b/", "--report", "r.json"]);
        assert!(dir.path().join("a/b").is_dir());
        assert!(Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap().success());
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(code));
        assert_eq!(files(dir.path()), ["far.bin", "long.onnx"]);
    }
}

/// On Linux the files of a run are unnamed until they are complete: even SIGKILL leaves none.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let model = long(dir.path());
    let mut child = waiting(dir.path(), &model, &["--report", "r.json"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(files(dir.path()), ["far.bin", "long.onnx"]);
}

/// Bytes of a mapped file that is truncated cannot be read.
#[cfg(unix)]
#[test]
fn weights_that_vanish_end_the_run_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let model = long(dir.path());
    let child = waiting(dir.path(), &model, &[]);
    fs::OpenOptions::new().write(true).open(dir.path().join("far.bin")).unwrap().set_len(10).unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{:?}", out.status);
    insta::assert_snapshot!("weights_that_vanish", text(&out.stderr));
    assert_eq!(files(dir.path()), ["far.bin", "long.onnx"]);
}

//! `qcc calibrate`, `qcc merge` and `--stats`: parts of the data give the bytes of one run over all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use prost::Message;
use qcc_formats::onnx::{DataType, GraphProto, ModelProto, TensorProto};
use tempfile::TempDir;

use crate::cli::{floats, model, node, pictures, refusal, some, succeeds, text, value};
use crate::hostile::npy;

/// A convolution with SiLU, a softmax over columns of a product, an instance normalisation: operators that targets lower
/// in different ways, and a value that a convolution and a product use along different axes. A recurrent layer, whose
/// weights are rounded by second moments.
fn mixed(seed: usize) -> ModelProto {
    let weights = |k: usize| (0..).map(move |i: usize| ((i * 37 + (k + seed) * 11) % 23) as f32 / 23.0 - 0.48);
    model(GraphProto {
        name: some("mixed"),
        node: vec![
            node("Conv", &["x", "w"], "c"),
            node("Sigmoid", &["c"], "s"),
            node("Mul", &["c", "s"], "silu"),
            node("InstanceNormalization", &["silu", "scale", "shift"], "n"),
            node("MatMul", &["n", "columns"], "p"),
            node("Softmax", &["p"], "weights"),
            node("Conv", &["n", "v"], "d"),
            node("Mul", &["d", "weights"], "y"),
            node("Reshape", &["n", "sequence"], "steps"),
            node("LSTM", &["steps", "inputs", "states"], "h"),
        ],
        initializer: vec![
            floats("w", &[4, 3, 3, 3], weights(0)),
            floats("scale", &[4], weights(1)),
            floats("shift", &[4], weights(2)),
            floats("columns", &[6, 6], weights(3)),
            floats("v", &[4, 4, 1, 1], weights(4)),
            TensorProto {
                name: some("sequence"),
                dims: vec![3],
                data_type: Some(DataType::Int64 as i32),
                int64_data: vec![-1, 1, 12],
                ..TensorProto::default()
            },
            floats("inputs", &[1, 32, 12], weights(5)),
            floats("states", &[1, 32, 8], weights(6)),
        ],
        input: vec![value("x", &[1, 3, 8, 8])],
        output: vec![value("y", &[1, 4, 6, 6]), value("h", &[12, 1, 1, 8])],
        ..GraphProto::default()
    })
}

/// Samples `from..to` of an endless sequence.
fn samples(from: usize, to: usize) -> Vec<u8> {
    let one = |i: usize| {
        let size = [1e-3, 0.2, 1.0, 5.0][i % 4];
        (0..3 * 64).map(move |k| (((i * 7919 + k * 104_729) % 1999) as f32 / 999.5 - 1.0) * size)
    };
    let data: Vec<u8> = (from..to).flat_map(one).flat_map(f32::to_le_bytes).collect();
    npy("<f4", &format!("({}, 3, 8, 8)", to - from), &data)
}

/// A folder with a model and its data, as a whole and in parts.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(dir.path().join(name), bytes).unwrap();
    write("m.onnx", mixed(0).encode_to_vec());
    write("other.onnx", mixed(1).encode_to_vec());
    for (name, from, to) in [("all", 0, 11), ("a", 0, 5), ("b", 5, 6), ("c", 6, 9), ("d", 9, 11), ("held", 20, 24)] {
        write(&format!("{name}.npy"), samples(from, to));
    }
    dir
}

/// Runs qcc with so many threads.
fn threads(folder: &Path, count: usize, args: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qcc"));
    let out = command.args(args).current_dir(folder).env("RAYON_NUM_THREADS", count.to_string()).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
}

fn calibrate(folder: &Path, part: &str, count: usize) {
    let (data, output) = (format!("{part}.npy"), format!("{part}.qstats"));
    threads(folder, count, &["calibrate", "m.onnx", "--data", &data, "-o", &output, "-q"]);
}

const TARGETS: &[&str] = &["m.onnx", "--to", "tflite,onnx,openvino", "--int8", "-q"];

/// The bytes of the artefacts of all targets.
fn artefacts(folder: &Path, count: usize, args: &[&str]) -> BTreeMap<String, Vec<u8>> {
    threads(folder, count, &[TARGETS, args, &["-o", "out/"]].concat());
    let made = fs::read_dir(folder.join("out")).unwrap().map(|entry| entry.unwrap().path());
    let made: BTreeMap<_, _> =
        made.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(p).unwrap())).collect();
    fs::remove_dir_all(folder.join("out")).unwrap();
    assert_eq!(made.len(), 4, "{:?}", made.keys());
    made
}

#[test]
fn parts_give_the_bytes_of_one_run() {
    let dir = folder();
    let at = dir.path();
    for (part, count) in [("a", 1), ("b", 2), ("c", 3), ("d", 7), ("all", 2)] {
        calibrate(at, part, count);
    }
    let merges: [&[&[&str]]; 4] = [
        &[&["a", "b", "c", "d", "m0"]],
        &[&["d", "b", "c", "a", "m1"]],
        &[&["c", "a", "x"], &["d", "b", "y"], &["y", "x", "m2"]],
        &[&["b", "c", "x1"], &["x1", "d", "x2"], &["a", "x2", "m3"]],
    ];
    for steps in merges {
        for step in steps {
            let files: Vec<String> = step.iter().map(|name| format!("{name}.qstats")).collect();
            let (output, inputs) = files.split_last().unwrap();
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            succeeds(at, &[&["merge", "-q", "-o", output], &inputs[..]].concat());
        }
    }
    let merged = |i: usize| fs::read(at.join(format!("m{i}.qstats"))).unwrap();
    assert!((1..4).all(|i| merged(i) == merged(0)));
    for methods in [&[][..], &["--calibrator", "moving-average"], &["--calibrator", "entropy"]] {
        let plain = artefacts(at, 2, &[&["--data", "all.npy", "--validate", "none"], methods].concat());
        for (file, count) in [("m0", 1), ("m3", 3), ("all", 7)] {
            let stats = format!("{file}.qstats");
            assert!(artefacts(at, count, &[&["--stats", &stats], methods].concat()) == plain, "{file} {methods:?}");
        }
        // Other samples have other ranges.
        assert!(artefacts(at, 1, &[&["--stats", "a.qstats"], methods].concat()) != plain, "{methods:?}");
    }
    let plain = artefacts(at, 3, &["--data", "all.npy", "--validate", "held.npy"]);
    assert!(artefacts(at, 2, &["--stats", "m1.qstats", "--validate", "held.npy"]) == plain);
    assert!(artefacts(at, 1, &["--stats", "m2.qstats", "--data", "all.npy", "--validate", "held.npy"]) == plain);
    // With few samples all are calibrated on and compared.
    let plain = artefacts(at, 1, &["--data", "a.npy"]);
    assert!(artefacts(at, 2, &["--stats", "a.qstats", "--data", "a.npy"]) == plain);
}

#[test]
fn statistics_of_one_target_serve_that_target() {
    let dir = folder();
    let at = dir.path();
    succeeds(at, &["calibrate", "m.onnx", "--to", "onnx", "--data", "a.npy", "-o", "onnx.qstats", "-q"]);
    calibrate(at, "a", 1);
    for stats in ["onnx.qstats", "a.qstats"] {
        succeeds(at, &["m.onnx", "--int8", "-q", "--stats", stats, "-o", &format!("{stats}.onnx")]);
    }
    assert!(fs::read(at.join("onnx.qstats.onnx")).unwrap() == fs::read(at.join("a.qstats.onnx")).unwrap());
    let refused = refusal(at, &["m.onnx", "--to", "tflite", "--int8", "--stats", "onnx.qstats"]);
    assert!(refused.contains("missing-statistics") && refused.contains("lowered for tflite"), "{refused}");
    assert!(refused.contains("were made for onnx"), "{refused}");
    calibrate(at, "c", 1);
    let refused = refusal(at, &["merge", "onnx.qstats", "c.qstats", "-o", "x.qstats"]);
    assert!(refused.contains("lowered for onnx in one and for tflite, onnx, openvino in the other"), "{refused}");
}

#[test]
fn a_summary_tells_the_data() {
    let dir = folder();
    let at = dir.path();
    let said = succeeds(at, &["calibrate", "m.onnx", "--data", "c.npy", "-o", "c.qstats"]);
    assert!(said.contains("data         3 samples of c.npy") && said.contains("x: f32[1,3,8,8]"), "{said}");
    calibrate(at, "a", 1);
    let said = succeeds(at, &["merge", "a.qstats", "c.qstats", "-o", "all.qstats"]);
    assert!(said.contains("5 samples of a.npy") && said.contains("3 samples of c.npy"), "{said}");
    let said = succeeds(at, &["m.onnx", "--to", "onnx", "--int8", "--stats", "all.qstats", "--report", "r.json"]);
    assert!(said.contains("calibrated   on 8 samples of 2 sets of data, statistics of all.qstats"), "{said}");
    assert!(said.contains("compared     not: --validate PATH") && said.contains("% of multiplications"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(at.join("r.json")).unwrap()).unwrap();
    assert!(report["calibration_digest"].as_str().unwrap().starts_with("sha256:"), "{report}");
    assert!(report["validation"].is_null(), "{report}");
}

#[test]
fn synthetic_pictures_are_told_and_recorded() {
    let dir = folder();
    let at = dir.path();
    let data = ["--data", "synthetic", "--samples", "3", "--preprocess", "none"];
    let out = crate::cli::qcc(at, &[&["calibrate", "m.onnx", "-o", "s.qstats", "-q"], &data[..]].concat());
    assert!(out.status.success() && text(&out.stderr).contains("synthetic-data"), "{}", text(&out.stderr));
    let plain = artefacts(at, 1, &[&data[..], &["--validate", "none"]].concat());
    assert!(artefacts(at, 2, &["--stats", "s.qstats"]) == plain);
    let out = crate::cli::qcc(at, &["m.onnx", "--to", "onnx", "--int8", "--stats", "s.qstats", "-q"]);
    assert!(text(&out.stderr).contains("3 built-in pictures"), "{}", text(&out.stderr));
}

#[test]
fn what_does_not_fit_is_refused() {
    let dir = folder();
    let at = dir.path();
    ["a", "b", "c"].iter().for_each(|part| calibrate(at, part, 1));
    succeeds(at, &["merge", "a.qstats", "b.qstats", "-o", "ab.qstats", "-q"]);
    let use_of = |model: &str, stats: &str| refusal(at, &[model, "--to", "onnx", "--int8", "--stats", stats]);
    let merge = |files: &[&str]| refusal(at, &[&["merge", "-o", "x.qstats"], files].concat());
    let refused = use_of("other.onnx", "a.qstats");
    assert!(
        refused.starts_with('1')
            && refused.contains("error[other-model]: a.qstats holds statistics of another model, m"),
        "{refused}"
    );

    // Other inputs.
    let mut wide = mixed(0);
    let graph = wide.graph.as_mut().unwrap();
    graph.input = vec![value("x", &[1, 3, 0, 8])];
    graph.output = vec![value("y", &[1, 4, 0, 6]), value("h", &[0, 1, 1, 8])];
    fs::write(at.join("wide.onnx"), wide.encode_to_vec()).unwrap();
    let shaped =
        ["wide.onnx", "--shape", "x=1,3,8,8", "--to", "onnx", "--int8", "-q", "--stats", "a.qstats", "-o", "w.onnx"];
    succeeds(at, &shaped);
    let refused = use_of("wide.onnx", "a.qstats");
    assert!(
        refused.contains("error[other-model]")
            && refused.contains("inputs x: f32[1,3,8,8]; this one has x: f32[1,3,n,8]"),
        "{refused}"
    );

    // Other files, versions, and damaged ones.
    assert!(use_of("m.onnx", "m.onnx").contains("m.onnx holds no calibration statistics"));
    assert!(use_of("m.onnx", "no.qstats").contains("error[unreadable-statistics]"));
    let whole = fs::read(at.join("a.qstats")).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(at.join("bad.qstats"), bytes).unwrap();
        let refused = use_of("m.onnx", "bad.qstats");
        assert_eq!(merge(&["b.qstats", "bad.qstats"]), refused);
        refused
    };
    let other = [b"qstats 1 ", &whole[9..]].concat();
    assert!(refused(&other).contains("bad.qstats is of version 1 of the format; this qcc reads version 3"));
    for place in [9, 20, 60, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        let refused = refused(&bytes);
        assert!(
            refused.starts_with('1') && refused.contains("bad.qstats is damaged: its checksum is another"),
            "{place}: {refused}"
        );
    }
    assert!(refused(&whole[..whole.len() - 100]).contains("damaged"));
    assert!(refused(b"").contains("bad.qstats holds no calibration statistics"));

    // The same samples twice, under any name and grouping.
    fs::copy(at.join("b.npy"), at.join("copy.npy")).unwrap();
    calibrate(at, "copy", 1);
    for files in [["a.qstats", "a.qstats"], ["ab.qstats", "b.qstats"], ["copy.qstats", "ab.qstats"]] {
        let refused = merge(&files);
        assert!(refused.contains("error[repeated-samples]") && refused.contains("hold the same samples"), "{refused}");
    }

    // Other models, and other conversions of pictures.
    succeeds(at, &["calibrate", "other.onnx", "--data", "c.npy", "-o", "other.qstats", "-q"]);
    assert!(merge(&["a.qstats", "other.qstats"]).contains("they are of different models, m and other"));
    pictures(at, 2);
    for (name, scale) in [("p", "1/255"), ("q", "1/128")] {
        fs::rename(at.join("pictures"), at.join(name)).unwrap();
        let output = format!("{name}.qstats");
        succeeds(at, &["calibrate", "m.onnx", "--data", name, "--scale", scale, "-o", &output, "-q"]);
        fs::rename(at.join(name), at.join("pictures")).unwrap();
    }
    let refused = merge(&["p.qstats", "q.qstats"]);
    assert!(
        refused.contains("error[unlike-statistics]") && refused.contains("1/255; ") && refused.contains("1/128"),
        "{refused}"
    );

    // No file is replaced that is read, and nothing is left behind.
    assert!(refusal(at, &["merge", "a.qstats", "b.qstats", "-o", "b.qstats"]).contains("would replace"));
    let onto = ["m.onnx", "--to", "onnx", "--int8", "--stats", "a.qstats", "-o", "a.qstats"];
    assert!(refusal(at, &onto).contains("would replace the file of statistics"));
    assert!(!at.join("x.qstats").exists());
}

#[test]
fn data_are_excluded_by_name() {
    let dir = folder();
    let at = dir.path();
    ["a", "b", "c"].iter().for_each(|part| calibrate(at, part, 1));
    succeeds(at, &["merge", "a.qstats", "c.qstats", "-o", "ac.qstats", "-q"]);
    succeeds(at, &["merge", "a.qstats", "b.qstats", "c.qstats", "--exclude", "b.*", "-o", "rest.qstats", "-q"]);
    assert!(fs::read(at.join("ac.qstats")).unwrap() == fs::read(at.join("rest.qstats")).unwrap());
    let merge = |rest: &[&str]| refusal(at, &[&["merge", "-o", "x.qstats"], rest].concat());
    let refused = merge(&["ac.qstats", "b.qstats", "--exclude", "c.npy"]);
    assert!(refused.contains("error[merged-samples]: ac.qstats: statistics of c.npy are merged"), "{refused}");
    let refused = merge(&["a.qstats", "b.qstats", "--exclude", "c.npy"]);
    assert!(refused.contains("error[unmatched-exclude]: --exclude c.npy names no data"), "{refused}");
    assert!(merge(&["a.qstats", "--exclude", "*"]).contains("error[no-samples]: all data are excluded"));
}

#[test]
fn options_that_contradict_are_usage_errors() {
    let dir = folder();
    let at = dir.path();
    calibrate(at, "a", 1);
    for (args, want) in [
        (&["calibrate", "m.onnx", "-o", "x.qstats"][..], "a model is calibrated on data"),
        (&["m.onnx", "--to", "onnx", "--w8a32", "--stats", "a.qstats"], "--stats holds ranges of activations"),
        (&["m.onnx", "--to", "onnx", "--int8", "--stats", "a.qstats", "--min-sqnr", "20"], "on data"),
        (&["m.onnx", "--to", "onnx", "--int8", "--stats", "a.qstats", "--scale", "2"], "have no effect without data"),
        (&["m.onnx", "--to", "onnx", "--int8", "--data", "a.npy", "--validate", "none", "--min-sqnr", "9"], "on data"),
    ] {
        let refused = refusal(at, args);
        assert!(refused.starts_with('2') && refused.contains(want), "{args:?}: {refused}");
    }
    // A model with all of its quantization parameters.
    let small = crate::cli::folder();
    let at = small.path();
    fs::write(at.join("a.npy"), samples(0, 5)).unwrap();
    succeeds(at, &["calibrate", "small.onnx", "--data", "a.npy", "-o", "a.qstats", "-q"]);
    succeeds(at, &["small.onnx", "--to", "tflite", "--int8", "--data", "a.npy", "-q", "-o", "q.tflite"]);
    let refused = refusal(at, &["calibrate", "q.tflite", "--data", "a.npy", "-o", "x.qstats"]);
    assert!(refused.starts_with('2') && refused.contains("the model is quantized already"), "{refused}");
    let refused = refusal(at, &["q.tflite", "--to", "onnx", "--int8", "--stats", "a.qstats"]);
    assert!(refused.starts_with('2') && refused.contains("it has ranges of its own"), "{refused}");
}

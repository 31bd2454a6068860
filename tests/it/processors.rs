//! Artefacts have the same bytes on every processor and for any number of threads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const QCC: &str = env!("CARGO_BIN_EXE_qcc");

/// Numbers of threads: none, a pair, and two that do not divide the work evenly.
const THREADS: [&str; 4] = ["1", "2", "3", "7"];

/// Models with their calibration data.
const MODELS: [(&str, &[&str]); 5] = [
    ("mnist_lenet.onnx", &["--data", "digits", "--scale", "1/255", "--samples", "16"]),
    ("torch/vision.pt2", RANDOM),
    ("torch/transformer.pt2", RANDOM),
    ("torch/lstm.pt2", RANDOM),
    ("torch/norms.pt2", RANDOM),
];

const RANDOM: &[&str] = &["--data", "random", "--samples", "7"];

const ALL: &str = "tflite,onnx,openvino";

/// The files that a run writes. `runner` is the command that runs the program.
fn artefacts(
    runner: &[&str],
    threads: &str,
    (model, data): (&str, &[&str]),
    options: &[&str],
) -> BTreeMap<String, Vec<u8>> {
    let (models, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models"), tempfile::tempdir().unwrap());
    let mut words = runner.to_vec();
    words.extend([QCC, model, "-q", "-o", to.path().to_str().unwrap()]);
    words.extend(options);
    let calibrated = !["float16", "float32"].iter().any(|p| options.contains(p));
    words.extend(data.iter().filter(|_| calibrated));
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(models).env("RAYON_NUM_THREADS", threads);
    let out = command.output().unwrap_or_else(|e| panic!("{}: {e}", words[0]));
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    let mut files = BTreeMap::new();
    let mut folders = vec![to.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => _ = files.insert(path.display().to_string(), fs::read(path).unwrap()),
            }
        }
    }
    let within = |path: String| path.strip_prefix(to.path().to_str().unwrap()).unwrap().to_owned();
    let files: BTreeMap<String, Vec<u8>> = files.into_iter().map(|(path, bytes)| (within(path), bytes)).collect();
    assert!(files.len() >= options[1].split(',').count(), "{words:?}: {:?}", files.keys());
    files
}

/// The names of the files that differ.
fn unlike(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

#[test]
fn threads_do_not_change_artefacts() {
    for model in [MODELS[0], MODELS[2]] {
        let of = |threads| artefacts(&[], threads, model, &["--to", ALL, "--int8"]);
        let one = of(THREADS[0]);
        for threads in &THREADS[1..] {
            assert_eq!(unlike(&of(threads), &one), [""; 0], "{} with {threads} threads", model.0);
        }
    }
}

/// The precisions, each with the targets that have it.
#[cfg(feature = "processors")]
const PRECISIONS: [[&str; 4]; 5] = [
    ["--to", ALL, "--quantize", "int8"],
    ["--to", ALL, "--quantize", "float16"],
    ["--to", "onnx,openvino", "--quantize", "w4a32"],
    ["--to", ALL, "--quantize", "w8a32"],
    ["--to", ALL, "--quantize", "float32"],
];

/// Processors without fused multiply-add, with AVX2, and the one that runs the tests, which may have AVX-512; and an
/// interpreter of instructions that shares no code with the emulator.
#[cfg(feature = "processors")]
const EMULATED: [&[&str]; 3] =
    [&["qemu-x86_64", "-cpu", "Nehalem"], &["qemu-x86_64", "-cpu", "Haswell"], &["valgrind", "-q", "--tool=none"]];

#[cfg(feature = "processors")]
#[test]
fn processors_do_not_change_artefacts() {
    let mut runs = 0;
    for model in MODELS {
        for options in PRECISIONS {
            let own = artefacts(&[], THREADS[0], model, &options);
            for threads in &THREADS[1..] {
                let found = artefacts(&[], threads, model, &options);
                assert_eq!(unlike(&found, &own), [""; 0], "{} {options:?} with {threads} threads", model.0);
            }
            for runner in EMULATED {
                runs += 1;
                let threads = THREADS[runs % THREADS.len()];
                let found = artefacts(runner, threads, model, &options);
                assert_eq!(unlike(&found, &own), [""; 0], "{} {options:?} {runner:?} {threads}", model.0);
            }
        }
    }
}

/// Decoders of pictures choose their code by the processor, too.
#[cfg(feature = "processors")]
#[test]
fn processors_decode_pictures_alike() {
    let (pictures, folder) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/digits"), tempfile::tempdir().unwrap());
    for (i, entry) in fs::read_dir(pictures).unwrap().take(8).enumerate() {
        let picture = image::open(entry.unwrap().path()).unwrap();
        let picture = picture.resize_exact(90 + i as u32, 80, image::imageops::FilterType::Triangle).to_rgb8();
        picture.save(folder.path().join(format!("{i}.jpg"))).unwrap();
    }
    let data = ["--data", folder.path().to_str().unwrap(), "--scale", "1/255"];
    let of = |runner| artefacts(runner, THREADS[1], ("mnist_lenet.onnx", &data), &PRECISIONS[0]);
    let own = of(&[]);
    for runner in EMULATED {
        assert_eq!(unlike(&of(runner), &own), [""; 0], "{runner:?}");
    }
}

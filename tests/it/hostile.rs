//! Damaged or hostile input: one clear message, no panic, no files left behind.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use qcc::frontends::{ImportOptions, Model};
use qcc_formats::onnx::{DataLocation, DataType, ModelProto, StringStringEntryProto, TensorProto};

use crate::cli::{files, floats, node, of, qcc, refusal, some, text, value};

/// The bundled model.
pub(crate) fn lenet() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/mnist_lenet.onnx")).unwrap()
}

pub(crate) fn integers(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: some(name),
        dims: dims.into(),
        data_type: Some(DataType::Int64 as i32),
        int64_data: values.into(),
        ..TensorProto::default()
    }
}

/// The messages for a model that is alone in its folder.
fn said(bytes: &[u8], args: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), bytes).unwrap();
    let said = refusal(dir.path(), &[&["m.onnx", "--to", "tflite"], args].concat());
    assert_eq!(files(dir.path()), ["m.onnx"]);
    said
}

/// The messages for several models, under their names.
fn all_said(models: Vec<(&str, ModelProto)>) -> String {
    models.into_iter().map(|(name, m)| format!("## {name}\n{}", said(&m.encode_to_vec(), &[]))).collect()
}

#[test]
fn foreign_files() {
    let digit = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/digits/0_0001.png")).unwrap();
    let mut out = String::new();
    for (name, bytes) in [
        ("picture", &digit[..]),
        ("archive", b"PK\x03\x04 and so on"),
        ("tflite", b"\x1c\0\0\0TFL3 and so on"),
        ("zeros", &[0; 1000]),
    ] {
        out += &format!("## {name}\n{}", said(bytes, &[]));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("m.onnx")).unwrap();
    out += &format!("## folder\n{}", refusal(dir.path(), &["m.onnx", "--to", "tflite"]));
    out += &format!("## inspected folder\n{}", refusal(dir.path(), &["inspect", "m.onnx"]));
    insta::assert_snapshot!("foreign_files", out);
}

#[test]
fn cut_models() {
    let whole = lenet();
    for cut in (0..256).chain((256..whole.len()).step_by(1 << 13)).chain([whole.len() - 1]) {
        let model = Model::read(Bytes::copy_from_slice(&whole[..cut]), Path::new(""));
        assert!(model.and_then(|m| m.import(&ImportOptions::default())).is_err(), "{cut}");
    }
}

#[test]
fn deep_nesting() {
    // GraphProto.node, NodeProto.attribute, AttributeProto.g
    let nested = |field: u8, inner: &[u8]| {
        let mut out = vec![field << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend(inner);
        out
    };
    let mut graph = Vec::new();
    for _ in 0..2000 {
        graph = nested(1, &nested(5, &nested(6, &graph)));
    }
    insta::assert_snapshot!("deep_nesting", said(&nested(7, &graph), &[]));
}

#[test]
fn broken_graphs() {
    let mut two_inputs = of(vec![node("Relu", &["x"], "y")], vec![]);
    let graph = two_inputs.graph.as_mut().unwrap();
    graph.input.push(value("x", &[7]));
    let mut nameless = of(vec![node("Relu", &["x"], "y")], vec![]);
    nameless.graph.as_mut().unwrap().input.push(value("", &[7]));
    let out = all_said(vec![
        ("input without a name", nameless),
        ("cycle", of(vec![node("Relu", &["b"], "a"), node("Add", &["a", "x"], "b"), node("Neg", &["b"], "y")], vec![])),
        ("undefined operand", of(vec![node("Add", &["x", "ghost"], "y")], vec![])),
        ("undefined output", of(vec![node("Relu", &["x"], "z")], vec![])),
        ("value made twice", of(vec![node("Relu", &["x"], "y"), node("Neg", &["x"], "y")], vec![])),
        ("input given twice", two_inputs),
        (
            "unknown operators",
            of(vec![node("Foo", &["x"], "a"), node("Bar", &["a"], "b"), node("Foo", &["b"], "y")], vec![]),
        ),
        ("no operands", of(vec![node("Add", &[], "y")], vec![])),
        ("too many operands", of(vec![node("Relu", &["x", "x"], "y")], vec![])),
        (
            "filter of other channels",
            of(vec![node("Conv", &["x", "w"], "y")], vec![floats("w", &[5, 3, 1, 1], (0..).map(|_| 1.0))]),
        ),
        (
            "matrix of other rows",
            of(vec![node("MatMul", &["x", "w"], "y")], vec![floats("w", &[5, 4], (0..).map(|_| 1.0))]),
        ),
        ("index out of range", of(vec![node("Gather", &["x", "i"], "y")], vec![integers("i", &[2], &[0, 9])])),
    ]);
    insta::assert_snapshot!("broken_graphs", out);
}

#[test]
fn huge_numbers() {
    let nan = [1.0, f32::NAN].into_iter().cycle();
    let claims = |dims: &[i64]| TensorProto { dims: dims.into(), ..floats("w", &[4], (0..).map(|_| 1.0)) };
    let add = || vec![node("Add", &["x", "w"], "y")];
    let expand =
        |dims: &[i64]| of(vec![node("Expand", &["x", "s"], "y")], vec![integers("s", &[dims.len() as i64], dims)]);
    let range = |start: i64, end: i64, step: i64| {
        let scalars = [("a", start), ("b", end), ("c", step)].map(|(name, v)| integers(name, &[], &[v]));
        of(vec![node("Range", &["a", "b", "c"], "r"), node("Reshape", &["x", "r"], "y")], scalars.into())
    };
    let out = all_said(vec![
        ("weights with NaN", of(add(), vec![floats("w", &[4], nan)])),
        ("10 GB of weights that are not there", of(add(), vec![claims(&[50_000, 50_000])])),
        ("2 GB of weights that are not there", of(add(), vec![claims(&[500_000_000])])),
        ("extents whose product overflows", of(add(), vec![claims(&[i64::MAX, i64::MAX])])),
        ("negative extent", of(add(), vec![claims(&[-4])])),
        ("many axes", of(add(), vec![claims(&[1; 40])])),
        ("a value of 10 GB", expand(&[80_000_000, 2, 4, 4])),
        ("a value of 3.6 GB", expand(&[28_125_000, 2, 4, 4])),
        ("a value of 2^100 elements", expand(&[1 << 50, 1 << 50])),
        ("a value without elements whose extents overflow", expand(&[0, 1 << 30, 1 << 30, 2, 4, 4])),
        ("a range without end", range(0, 1 << 60, 1)),
        ("a range that goes nowhere", range(0, 5, 0)),
    ]);
    insta::assert_snapshot!("huge_numbers", out);
}

#[test]
fn many_constants_are_no_burden() {
    let weights = (0..100_000).map(|i| floats(&format!("w{i}"), &[1], (0..).map(|_| 1.0)));
    let bytes = of(vec![node("Relu", &["x"], "y")], weights.collect()).encode_to_vec();
    let model = Model::read(bytes.into(), Path::new("")).unwrap().import(&ImportOptions::default()).unwrap();
    assert_eq!(model.graph.order().len(), 2);
}

#[test]
fn data_beside_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("model");
    fs::create_dir(&home).unwrap();
    fs::write(dir.path().join("secret.bin"), [0; 128]).unwrap();
    fs::write(home.join("w.bin"), [0; 128]).unwrap();
    let mut out = String::new();
    for (location, offset, length) in [
        ("gone.bin", "0", "128"),
        ("../secret.bin", "0", "128"),
        ("/dev/zero", "0", "128"),
        (".", "0", "128"),
        ("", "0", "128"),
        ("w.bin", "1", "128"),
        ("w.bin", "-1", "128"),
        ("w.bin", "18446744073709551615", "128"),
        ("w.bin", "0", "64"),
    ] {
        let entries = [("location", location), ("offset", offset), ("length", length)];
        let external_data =
            entries.map(|(key, value)| StringStringEntryProto { key: some(key), value: some(value) }).into();
        let weights = TensorProto {
            name: some("w"),
            dims: vec![1, 2, 4, 4],
            data_type: Some(DataType::Float as i32),
            data_location: Some(DataLocation::External as i32),
            external_data,
            ..TensorProto::default()
        };
        let bytes = of(vec![node("Add", &["x", "w"], "y")], vec![weights]).encode_to_vec();
        fs::write(home.join("m.onnx"), bytes).unwrap();
        out += &format!("## {location:?} {offset} {length}\n{}", refusal(&home, &["m.onnx", "--to", "tflite"]));
        assert_eq!(files(&home), ["m.onnx", "w.bin"]);
    }
    insta::assert_snapshot!("data_beside_the_model", out);
}

/// The wrong declared shape of an output is ignored, with a warning.
#[test]
fn contradicting_output() {
    let mut model = of(vec![node("Relu", &["x"], "y")], vec![]);
    model.graph.as_mut().unwrap().output = vec![value("y", &[1, 5])];
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), model.encode_to_vec()).unwrap();
    let out = qcc(dir.path(), &["m.onnx", "--to", "tflite"]);
    assert!(out.status.success());
    insta::assert_snapshot!("contradicting_output", text(&out.stderr));
}

/// A PNG file with these chunks.
fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        let checked = [&kind[..], data].concat();
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(&checked);
        png.extend(crc32(&checked).to_be_bytes());
    }
    png
}

/// A well-formed header that declares 60000x60000 pixels.
fn png_bomb() -> Vec<u8> {
    png(&[
        (b"IHDR", &[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60, 8, 2, 0, 0, 0]),
        (b"IDAT", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]),
        (b"IEND", &[]),
    ])
}

/// An image of 2x2 pixels with a truncated palette: its decoder panics.
fn broken_palette(palette: &[u8]) -> Vec<u8> {
    // Two rows without filter, uncompressed.
    let lines = [0, 1, 1, 0, 0, 1];
    let deflated = [&[0x78, 0x01, 1, 6, 0, !6, 0xff][..], &lines, &adler32(&lines).to_be_bytes()].concat();
    png(&[
        (b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 2, 8, 3, 0, 0, 0]),
        (b"PLTE", palette),
        (b"IDAT", &deflated),
        (b"IEND", &[]),
    ])
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &x| ((a + u32::from(x)) % 65521, (a + u32::from(x) + b) % 65521));
    b << 16 | a
}

#[test]
fn pictures_that_their_decoder_panics_on_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    let pictures = dir.path().join("p");
    fs::create_dir(&pictures).unwrap();
    fs::write(pictures.join("whole.png"), broken_palette(&[1, 2, 3, 4, 5, 6])).unwrap();
    for length in [4, 5, 7, 10] {
        fs::write(pictures.join(format!("cut_{length}.png")), broken_palette(&vec![9; length])).unwrap();
    }
    let run = ["m.onnx", "--to", "tflite", "--int8", "--data", "p", "--scale", "1/255"];
    let out = qcc(dir.path(), &run);
    assert_eq!(out.status.code(), Some(0));
    let bad: Vec<String> = text(&out.stderr).lines().filter(|l| l.contains("bad-picture")).map(String::from).collect();
    insta::assert_snapshot!("broken_palettes", bad.join("\n"));
    fs::remove_file(pictures.join("whole.png")).unwrap();
    insta::assert_snapshot!("broken_palettes_alone", refusal(dir.path(), &run));
}

/// CRC-32 of PNG (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &b| (0..8).fold(crc ^ u32::from(b), |crc, _| step(crc)))
}

pub(crate) fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn hostile_data() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    let nan = f32::NAN.to_le_bytes().repeat(28 * 28);
    let deep = ["val: ", &"[".repeat(1000)].concat();
    let mut out = String::new();
    for (name, bytes) in [
        ("bomb.png", png_bomb()),
        ("gone.txt", b"gone.png\nalso_gone.jpg\n".to_vec()),
        ("binary.txt", vec![0xff, 0xfe]),
        ("deep.yaml", deep.into_bytes()),
        ("number.yaml", b"val: 5\n".to_vec()),
        ("other.yaml", b"names: {0: a}\n".to_vec()),
        ("cut.npy", npy("<f4", "(4, 1, 28, 28)", &nan)),
        ("huge.npy", npy("<f4", "(4000000000, 4000000000, 28, 28)", &nan)),
        ("nan.npy", npy("<f4", "(1, 1, 28, 28)", &nan)),
        ("shape.npy", npy("<f4", "(1, 3, 14)", &nan)),
        ("none.npy", npy("<f4", "(0, 1, 28, 28)", &[])),
        ("objects.npy", npy("|O", "(1, 1, 28, 28)", &nan)),
        ("none.npz", Vec::new()),
    ] {
        fs::write(dir.path().join(name), bytes).unwrap();
        let scale: &[&str] = if name == "nan.npy" { &[] } else { &["--scale", "1/255"] };
        let args = [&["m.onnx", "--to", "tflite", "--int8", "--data", name][..], scale].concat();
        out += &format!("## {name}\n{}", refusal(dir.path(), &args));
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    insta::assert_snapshot!("hostile_data", out);
    assert_eq!(files(dir.path()), ["m.onnx"]);
}

#[test]
fn wrong_options() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    let mut out = String::new();
    for args in [
        &["--shape", "image=1,3,28,28"][..],
        &["--shape", "image=1,28"],
        &["--shape", "image=0,1,28,28"],
        &["--shape", "image=99999999,1,28,28"],
        &["--shape", "picture=1,1,28,28"],
        &["--set", "image=nan"],
        &["--set", "image=1,2,3"],
        &["--set", "sr=16000"],
        &["--int8", "--data", "random", "--samples", "0"],
        &["--int8", "--data", "random", "--std", "0"],
        &["--int8", "--data", "random", "--scale", "1/0"],
        &["--report", "m.onnx"],
        &["--report", "m.tflite"],
    ] {
        out +=
            &format!("## {}\n{}", args.join(" "), refusal(dir.path(), &[&["m.onnx", "--to", "tflite"], args].concat()));
        assert_eq!(files(dir.path()), ["m.onnx"], "{args:?}");
    }
    insta::assert_snapshot!("wrong_options", out);
    assert_eq!(fs::read(dir.path().join("m.onnx")).unwrap(), lenet());
}

#[test]
fn outputs_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("m.onnx"), lenet()).unwrap();
    fs::write(at("kept.tflite"), "kept").unwrap();
    let mut permissions = fs::metadata(at("kept.tflite")).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(at("kept.tflite"), permissions).unwrap();
    let mut out = String::new();
    for name in ["kept.tflite", "m.onnx/a.tflite"] {
        out += &format!("## {name}\n{}", refusal(dir.path(), &["m.onnx", "--to", "tflite", "-o", name]));
    }
    insta::assert_snapshot!("outputs_that_cannot_be_written", out);
    assert_eq!(fs::read(at("kept.tflite")).unwrap(), b"kept");
    assert_eq!(files(dir.path()), ["kept.tflite", "m.onnx"]);
}

/// Opening a pipe would block until it has a writer, and renaming a file over one would destroy it.
#[cfg(unix)]
#[test]
fn pipes_are_neither_read_nor_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap().success());
    fs::rename(dir.path().join("pipe"), dir.path().join("pipe.txt")).unwrap();
    let mut out = String::new();
    for args in [
        &["pipe.txt", "--to", "tflite"][..],
        &["inspect", "pipe.txt"],
        &["m.onnx", "--to", "tflite", "--int8", "--data", "pipe.txt", "--scale", "1/255"],
        &["m.onnx", "--to", "tflite", "-o", "pipe.txt"],
    ] {
        out += &format!("## {}\n{}", args.join(" "), refusal(dir.path(), args));
    }
    insta::assert_snapshot!("pipes", out);
    let kind = fs::metadata(dir.path().join("pipe.txt")).unwrap().file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&kind));
}

/// A full disk: no file may grow beyond a few kilobytes.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("m.onnx"), lenet()).unwrap();
    let run = format!("trap '' XFSZ; ulimit -f 8; exec {} m.onnx --to tflite", env!("CARGO_BIN_EXE_qcc"));
    let out = std::process::Command::new("sh").args(["-c", &run]).current_dir(dir.path()).output().unwrap();
    assert_eq!(text(&out.stderr), "error[unwritable-output]: cannot write m.tflite: file too large\n");
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(files(dir.path()), ["m.onnx"]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Damaged bytes are refused or make another model; they never crash the program.
    #[test]
    fn damaged_models_do_no_harm(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        headers in any::<bool>(),
    ) {
        let mut bytes = lenet();
        // Everything except weights is at either end of the file.
        let ends: Vec<usize> = (0..3000).chain(bytes.len() - 1000..bytes.len()).collect();
        for (place, byte) in damage {
            let place = if headers { *place.get(&ends) } else { place.index(bytes.len()) };
            bytes[place] = byte;
        }
        let model = Model::read(bytes.into(), Path::new(""));
        let _ = model.and_then(|m| m.import(&ImportOptions::default()));
    }
}

//! Model files: read, imported, and compiled for every target.

use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use qcc_backends::Kind;
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::diagnostic::Diagnostic;
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use crate::graph::compile;
use crate::refused;

/// ONNX models. Inputs with the magic number of another format are skipped.
pub(crate) fn onnx(data: &[u8]) {
    model(data);
}

/// TFLite models. The file identifier is set to the right value.
pub(crate) fn tflite(data: &[u8]) {
    let mut data = data.to_vec();
    if data.len() < 8 {
        return;
    }
    data[4..8].copy_from_slice(b"TFL3");
    model(&data);
}

/// OpenVINO IR: the XML file. The constants are in 4 KiB of numbers from -1 to 1.
pub(crate) fn openvino(data: &[u8]) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let numbers: Vec<u8> = (0..1024).flat_map(|i| (i as f32 / 512.0 - 1.0).to_le_bytes()).collect();
        std::fs::write(folder.path().join("m.bin"), numbers).expect("a file");
        folder
    });
    let path = folder.path().join("m.xml");
    std::fs::write(&path, data).expect("a file");
    opened(Model::open(&path));
    disassembled(data);
}

/// PyTorch archives.
pub(crate) fn pt2(data: &[u8]) {
    let mut data = data.to_vec();
    if data.len() < 4 {
        return;
    }
    data[..2].copy_from_slice(b"PK");
    model(&data);
}

/// Programs of `torch.export` in a valid archive: the JSON of the program, of its weights and of its constants,
/// separated by zero bytes.
pub(crate) fn program(data: &[u8]) {
    let none = &br#"{"config": {}}"#[..];
    let mut parts = data.split(|b| *b == 0);
    let program = parts.next().unwrap_or_default();
    let configs = [parts.next().unwrap_or(none), parts.next().unwrap_or(none)];
    let storage: Vec<u8> = (0..512).flat_map(|i| (i as f32 / 512.0).to_le_bytes()).collect();
    let names: Vec<String> = ["weights/weight", "constants/tensor"]
        .iter()
        .flat_map(|kind| (0..8).map(move |i| format!("m/data/{kind}_{i}")))
        .collect();
    let mut entries: Vec<(&str, &[u8])> = vec![
        ("m/models/model.json", program),
        ("m/data/weights/model_weights_config.json", configs[0]),
        ("m/data/constants/model_constants_config.json", configs[1]),
    ];
    entries.extend(names.iter().map(|name| (name.as_str(), storage.as_slice())));
    model(&zipped(&entries));
}

/// Pickled weights, in an archive with a program that uses some.
pub(crate) fn pickle(data: &[u8]) {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let all = entries(include_bytes!("../../tests/models/torch/tied.pt2"));
        all.into_iter().find(|(name, _)| name.ends_with("models/model.json")).expect("its program").1
    });
    let storage = [0x3f; 4096];
    let names = ["a/data/0", "a/data/1", "a/data/2"];
    let mut parts: Vec<(&str, &[u8])> = vec![("a/data.pkl", data), ("a/byteorder", b"little")];
    parts.extend(names.map(|name| (name, &storage[..])));
    let weights = zipped(&parts);
    model(&zipped(&[("serialized_exported_program.json", program), ("serialized_state_dict.pt", &weights)]));
}

/// The names and contents of the entries of an archive.
pub(crate) fn entries(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    // An entry may itself contain an archive.
    let config = zip::read::Config { archive_offset: zip::read::ArchiveOffset::Known(0) };
    let mut zip = zip::ZipArchive::with_config(config, Cursor::new(archive)).expect("an archive");
    let count = zip.len();
    let entry = |i: usize| {
        let mut entry = zip.by_index(i).expect("an entry");
        let name = entry.name().expect("a name").into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its bytes");
        (name, bytes)
    };
    (0..count).map(entry).collect()
}

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(*name, options).expect("an entry");
        zip.write_all(bytes).expect("its bytes");
    }
    zip.finish().expect("an archive").into_inner()
}

fn model(data: &[u8]) {
    opened(Model::read(Bytes::copy_from_slice(data), Path::new("/nowhere")));
    disassembled(data);
}

/// A file is disassembled or refused, and a comparison with itself finds no difference.
fn disassembled(data: &[u8]) {
    let Some(kind) = Kind::of(data) else { return };
    let beside = |_: &str| Ok(Bytes::from_static(&[0x3e; 4096]));
    match kind.disassemble(&Bytes::copy_from_slice(data), "m.xml", &beside) {
        Ok(all) => {
            assert!(!all.to_string().is_empty());
            assert!(all.diff(&all).equal, "a file that differs from itself");
        }
        Err(why) => refused(&[why.diagnostic()]),
    }
}

fn opened(read: Result<Model, Vec<Diagnostic>>) {
    let model = match read {
        Ok(model) => model,
        Err(all) => return refused(&all),
    };
    model.metadata();
    model.files();
    match model.import(&ImportOptions::default()) {
        Ok(imported) => compile(&imported.graph, model.channels_last()),
        Err(all) => refused(&all),
    }
}

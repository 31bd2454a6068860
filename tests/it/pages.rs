//! README.md and the pages of docs/: their commands run, their links lead somewhere, and the book contains them all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use qcc_formats::onnx::{DataType, Dimension, DimensionValue, StringStringEntryProto, TypeValue};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::budgets::with;
use crate::cli::{floats, folder, node, of, pictures, some, value};
use crate::hostile::{integers, npy};

/// The length of the texts.
const LENGTH: i64 = 16;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and the pages of docs/.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    pages
}

/// The commands of qcc in the code blocks of a page, without comments.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("\n```").skip(1).step_by(2);
    let shell = blocks.filter(|block| block.starts_with("sh\n") || block.starts_with("console\n"));
    let lines = shell.flat_map(str::lines).map(|line| line.trim_start_matches("$ "));
    let lines = lines.map(|line| line.replace("cargo run --release --", "qcc"));
    lines.filter(|line| line.starts_with("qcc ")).collect()
}

/// A model of texts: `y[n,length,8]` from token ids and a mask, both `[n,length]`.
fn texts(folder: &Path) {
    let table = (0..).map(|i| ((i * 37 % 23) as f32 - 11.0) / 23.0);
    let constants = vec![
        floats("table", &[32, 16], table.clone()),
        floats("w", &[16, 8], table.skip(5)),
        integers("last", &[1], &[2]),
    ];
    let nodes = vec![
        node("Gather", &["table", "input_ids"], "embedded"),
        node("MatMul", &["embedded", "w"], "product"),
        with(node("Cast", &["attention_mask"], "floats"), "to", DataType::Float as i64),
        node("Unsqueeze", &["floats", "last"], "mask"),
        node("Mul", &["product", "mask"], "y"),
    ];
    let mut model = of(nodes, constants);
    let input = |name: &str| {
        let mut input = value(name, &[0, 0]);
        if let Some(TypeValue::Tensor(tensor)) = &mut input.r#type.as_mut().unwrap().value {
            tensor.elem_type = Some(DataType::Int64 as i32);
            let length = Some(DimensionValue::Param("length".into()));
            tensor.shape.as_mut().unwrap().dim[1] = Dimension { value: length };
        }
        input
    };
    model.graph.as_mut().unwrap().input = vec![input("input_ids"), input("attention_mask")];
    fs::write(folder.join("text.onnx"), model.encode_to_vec()).unwrap();
    let samples = 10;
    let ids: Vec<u8> = (0..samples * LENGTH).flat_map(|i| (i * 7 % 32).to_le_bytes()).collect();
    let mask: Vec<u8> = (0..samples * LENGTH).flat_map(|i| i64::from(i % LENGTH < 12).to_le_bytes()).collect();
    let mut archive = ZipWriter::new(File::create(folder.join("texts.npz")).unwrap());
    for (name, data) in [("input_ids", ids), ("attention_mask", mask)] {
        archive.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        archive.write_all(&npy("<i8", &format!("({samples}, {LENGTH})"), &data)).unwrap();
    }
    archive.finish().unwrap();
}

/// Samples of digits in an array: those from `from` to `to`.
fn digits(folder: &Path, name: &str, from: usize, to: usize) {
    let pixel = |sample: usize, i: usize| ((i * (sample + 3) * 31 % 97) as f32 / 97.0).to_le_bytes();
    let data: Vec<u8> = (from..to).flat_map(|sample| (0..28 * 28).flat_map(move |i| pixel(sample, i))).collect();
    fs::write(folder.join(name), npy("<f4", &format!("({}, 1, 28, 28)", to - from), &data)).unwrap();
}

/// A folder with small files that have the names of the pages.
#[cfg(unix)]
fn named_files() -> tempfile::TempDir {
    use std::os::unix::fs::symlink;
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    symlink(root().join("tests"), at("tests")).unwrap();
    symlink(root().join("tests/models/digits"), at("digits")).unwrap();
    fs::copy(root().join("tests/models/mnist_lenet.onnx"), at("model.onnx")).unwrap();
    fs::copy(root().join("tests/models/torch/attention.pt2"), at("model.pt2")).unwrap();
    digits(dir.path(), "samples.npy", 0, 12);
    digits(dir.path(), "part1.npy", 0, 5);
    digits(dir.path(), "part2.npy", 5, 12);
    pictures(dir.path(), 12);
    texts(dir.path());
    let small = fs::read(at("small.onnx")).unwrap();
    fs::write(at("classifier.onnx"), &small).unwrap();
    fs::write(at("detector.onnx"), &small).unwrap();
    let mut yolo = qcc_formats::onnx::ModelProto::decode(small.as_slice()).unwrap();
    let metadata = [("task", "detect"), ("names", "{0: 'a'}"), ("stride", "8"), ("imgsz", "[8, 8]")];
    let entry = |(key, value)| StringStringEntryProto { key: some(key), value: some(value) };
    yolo.metadata_props = metadata.map(entry).into();
    fs::write(at("yolo26n.onnx"), yolo.encode_to_vec()).unwrap();
    fs::write(at("coco8.yaml"), "path: .\ntrain: pictures\nval: pictures\n").unwrap();
    dir
}

#[cfg(unix)]
#[test]
fn commands_of_the_pages_run() {
    let qcc = Path::new(env!("CARGO_BIN_EXE_qcc")).parent().unwrap();
    let path = format!("{}:{}", qcc.display(), std::env::var("PATH").unwrap());
    let mut run = 0;
    for page in pages().iter().filter(|page| !page.ends_with("snapshots.md")) {
        let dir = named_files();
        for command in commands(&fs::read_to_string(page).unwrap()) {
            let done = Command::new("sh").args(["-c", &command]).env("PATH", &path).current_dir(dir.path()).output();
            let done = done.unwrap();
            let told = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}: {command}\n{told}", page.display());
            run += 1;
        }
    }
    assert!(run > 60, "only {run} commands were found");
}

/// The output of the first command of README.md, without times, is what README.md shows.
#[test]
fn readme_shows_the_output_of_its_command() {
    let page = fs::read_to_string(root().join("README.md")).unwrap();
    let command = commands(&page).remove(0);
    let dir = tempfile::tempdir().unwrap();
    let at = root().display();
    let arguments = command.replace("tests/models", &format!("{at}/tests/models"));
    let arguments: Vec<&str> = arguments.split(' ').skip(1).collect();
    let said = crate::cli::succeeds(dir.path(), &arguments);
    let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("time ")).collect();
    let shown = page.split("```text\n").nth(1).unwrap().split("\n```").next().unwrap();
    assert_eq!(shown, said.join("\n"));
}

/// Links between pages lead to files, and the book contains all pages.
#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            let known = link.contains("://") || target.is_empty() || page.parent().unwrap().join(target).exists();
            assert!(known, "{}: {link}", page.display());
        }
    }
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    for page in pages().iter().filter(|page| page.parent().unwrap().ends_with("docs")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "{name} is not in SUMMARY.md");
    }
}

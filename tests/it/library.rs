//! The public API of the library, and the commands on graphs and passes.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use qcc::backends::{Format, Memory};
use qcc::frontends::Model;
use qcc::ir::{Graph, Shape, Tensor};
use qcc::passes::{Context, Pass, PassError, Stage};
use qcc::{Calibration, Compiler, Data, Failure, NoObserver, Options, Precision};

use crate::cli::{folder, refusal, succeeds};

const LENET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/mnist_lenet.onnx");

/// A pass of the caller's own, which counts nodes.
#[derive(Debug)]
struct Count(Arc<AtomicUsize>);

impl Pass for Count {
    fn name(&self) -> &'static str {
        "count"
    }

    fn run(&self, g: &mut Graph, _cx: &mut Context<'_>) -> Result<(), PassError> {
        self.0.store(g.order().len(), Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn library_users_add_passes() {
    let dir = folder();
    let seen = Arc::new(AtomicUsize::new(0));
    let mut compiler = Compiler::new(Options::default());
    compiler.add_pass(Stage::Simplify, Count(seen.clone()));
    let names: Vec<String> = compiler.pipelines().unwrap()[0].ids().map(|id| id.to_string()).collect();
    assert!(names.contains(&"simplify/count".to_owned()), "{names:?}");
    let output = dir.path().join("a.tflite");
    let report =
        compiler.compile(&dir.path().join("small.onnx"), &qcc::Output::File(output.clone()), &mut NoObserver).unwrap();
    assert_eq!(report.artefacts[0].output_bytes, fs::metadata(output).unwrap().len());
    // Input, weight, bias, conv, clamp.
    assert_eq!(seen.load(Ordering::Relaxed), 5);
}

#[test]
fn types_can_be_shared_and_errors_are_errors() {
    fn shared<T: Send + Sync>() {}
    fn error<T: std::error::Error + 'static>() {}
    shared::<Compiler>();
    shared::<Model>();
    shared::<qcc::Compiled>();
    error::<Failure>();
    error::<PassError>();
    error::<qcc::ir::diagnostic::Diagnostic>();
    let failure = Compiler::new(Options::new([Format::Onnx; 2], Precision::Int8));
    let failure = failure.compile(Path::new("no.onnx"), &qcc::Output::Folder("".into()), &mut NoObserver).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "error[usage]: a target is missing or given twice; name targets once each: --to tflite,onnx,openvino"
    );
}

/// The same samples from a file and from memory give the same bytes, written to a file and to memory.
#[test]
fn memory_is_as_good_as_files() {
    let dir = folder();
    let values: Vec<f32> = (0..8 * 784).map(|i| ((i * 37) % 251) as f32 / 251.0).collect();
    let mut npy = b"\x93NUMPY\x01\0".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (8, 1, 28, 28), }\n";
    npy.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    fs::write(dir.path().join("d.npy"), &npy).unwrap();
    let targets = Format::ALL.iter().copied();
    let mut options = Options::new(targets, Precision::Int8);
    options.calibration = Some(Calibration::new(Data::Path(dir.path().join("d.npy"))));
    let output = qcc::Output::Folder(dir.path().join("out"));
    let report = Compiler::new(options.clone()).compile(Path::new(LENET), &output, &mut NoObserver).unwrap();

    let samples = values.chunks(784).map(|v| vec![Tensor::from_vec(Shape::known(&[1, 1, 28, 28]), v.to_vec())]);
    let arrays = Data::Arrays(vec![("image".into(), npy.into())]);
    let model = Model::read(fs::read(LENET).unwrap().into(), Path::new("")).unwrap();
    for (data, described) in
        [(samples.collect::<Data>(), "6 samples in memory"), (arrays, "6 samples of data in memory")]
    {
        options.calibration = Some(Calibration::new(data));
        let mut compiled = Compiler::new(options.clone()).compile_model(&model, &mut NoObserver).unwrap();
        for (i, artefact) in report.artefacts.iter().enumerate() {
            let mut files = Memory::new(artefact.output.file_name().unwrap().to_str().unwrap());
            compiled.write(i, &mut files).unwrap();
            for (name, bytes) in &files.files {
                assert!(*bytes == fs::read(artefact.output.with_file_name(name)).unwrap(), "{name}");
            }
        }
        let in_memory = compiled.finish();
        assert_eq!(in_memory.worst_sqnr(), report.worst_sqnr());
        assert!(in_memory.calibration.unwrap().starts_with(described));
    }

    options.calibration = Some(Calibration::new(vec![vec![Tensor::from_vec(Shape::known(&[1, 2]), vec![0.0; 2])]]));
    let failure = Compiler::new(options).compile_model(&model, &mut NoObserver).unwrap_err();
    let said = qcc::render::render(failure.diagnostics(), Path::new("lenet"), false);
    assert!(said.contains("sample 0: a tensor of f32[1,2] for input"), "{said}");
}

/// What a pass after quantization changes is written and measured.
#[test]
fn passes_run_behind_quantization_for_every_target() {
    let (seen, dir) = (Arc::new(AtomicUsize::new(0)), folder());
    let mut options = Options::new([Format::Tflite, Format::Openvino], Precision::Int8);
    options.calibration = Some(Calibration::new(Data::Random));
    let mut compiler = Compiler::new(options);
    compiler.edit({
        let seen = seen.clone();
        move |pipeline| pipeline.insert_after("quantize", Count(seen.clone()))
    });
    let model = Model::open(&dir.path().join("small.onnx")).unwrap();
    let compiled = compiler.compile_model(&model, &mut NoObserver).unwrap();
    assert!(seen.load(Ordering::Relaxed) > 5);
    assert!(compiled.report().worst_sqnr().unwrap() > 20.0);
    compiler.edit(|pipeline| pipeline.remove("no-such-pass"));
    let failure = compiler.compile_model(&model, &mut NoObserver).unwrap_err();
    assert!(failure.to_string().contains("no-such-pass names no pass"), "{failure}");
}

#[test]
fn graphs_as_text_are_models() {
    let dir = folder();
    let at = dir.path();
    let shown = succeeds(at, &["opt", LENET]);
    succeeds(at, &["opt", LENET, "-o", "lenet.qir"]);
    assert!(!succeeds(at, &["opt", "lenet.qir", "--pass", "lower/tidy", "--to", "onnx"]).is_empty());
    // A simplified graph is not simplified further.
    assert_eq!(succeeds(at, &["opt", "lenet.qir"]), shown);
    succeeds(at, &["lenet.qir", "--to", "onnx", "-q", "-o", "a.onnx"]);
    succeeds(at, &[LENET, "--to", "onnx", "-q", "-o", "b.onnx"]);
    assert!(fs::read(at.join("a.onnx")).unwrap() == fs::read(at.join("b.onnx")).unwrap());
    // The command writes what the pass produces.
    succeeds(at, &[LENET, "--to", "qir", "-q", "-o", "c.qir"]);
    succeeds(at, &["c.qir", "--to", "qir", "-q", "-o", "d.qir"]);
    assert!(fs::read(at.join("c.qir")).unwrap() == fs::read(at.join("d.qir")).unwrap());
    insta::assert_snapshot!("quantized_graph", refusal(at, &[LENET, "--to", "qir", "--w8a32"]));
    let mut damaged = fs::read(at.join("lenet.qir")).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(at.join("damaged.qir"), damaged).unwrap();
    insta::assert_snapshot!("damaged_graph", refusal(at, &["damaged.qir", "--to", "onnx"]));
    insta::assert_snapshot!("no_such_pass", refusal(at, &["opt", LENET, "--pass", "tidier"]));
    insta::assert_snapshot!("replaces_the_model", refusal(at, &["opt", "lenet.qir", "-o", "lenet.qir"]));
}

/// The rewrite limit increases by one at a time, up to the fully simplified graph.
#[test]
fn rewrites_stop_where_they_are_told() {
    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/torch/functions.pt2");
    let dir = folder();
    let at = |n: &str| succeeds(dir.path(), &["opt", MODEL, "--stop-after", n]);
    let mut graphs: Vec<String> = (0..60).map(|n| at(&n.to_string())).collect();
    graphs.dedup();
    assert!(graphs.len() > 2, "{}", graphs.len());
    assert_eq!(graphs.last(), Some(&succeeds(dir.path(), &["opt", MODEL])));
    let out = crate::cli::qcc(dir.path(), &[MODEL, "--to", "tflite", "--stop-after", "1", "-o", "x.tflite"]);
    let said = crate::cli::text(&out.stderr);
    assert!(out.status.success() && said.contains("stopped-rewrites") && said.contains("by rule"), "{said}");
}

/// The shares of products of a report: on integers, and with integer weights in whatever way.
fn shares(report: &qcc::Report) -> (f64, f64) {
    let quality = report.artefacts[0].quality.as_ref();
    quality.map_or((0.0, 0.0), |q| (q.integer_share, q.weights_share + q.run_time_share))
}

/// Weights that alone lie on integers in a model, of whatever format, stay so in the file unless another precision is asked
/// for.
#[test]
fn integer_weights_stay_integers() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = qcc::Output::Folder(folder.path().into());
    let w8a32 = Compiler::new(Options::new(Format::ALL.iter().copied(), Precision::W8A32));
    let written = w8a32.compile(Path::new(LENET), &outputs, &mut NoObserver).unwrap();
    for source in written.artefacts.iter().map(|a| &a.output) {
        let model = Model::open(source).unwrap();
        let compiled = |target: Format, options: &dyn Fn(Options) -> Options| {
            let options = options(Options::new([target], Precision::Float32));
            let mut compiled = Compiler::new(options).compile_model(&model, &mut NoObserver).unwrap();
            let mut files = Memory::new("a");
            compiled.write(0, &mut files).unwrap();
            let length: usize = files.files.values().map(Vec::len).sum();
            (shares(compiled.report()), length, compiled.report().precision)
        };
        for &target in Format::ALL {
            let name = format!("{} to {target:?}", source.display());
            let (kept, length, precision) = compiled(target, &|options| options);
            // TFLite's kernels for integer weights round the activations, too. Where the source has these as floats, the
            // weights are dequantized first.
            let rounds = source.extension().is_some_and(|e| e == "tflite");
            let share = if target == Format::Tflite && !rounds { 0.0 } else { 1.0 };
            assert_eq!((kept, precision), ((0.0, share), Precision::W8A32), "{name}");
            assert!(length < 130_000, "{name}: {length} bytes");
            let asked = |precision| {
                move |options: Options| {
                    let mut options = options;
                    options.precision = precision;
                    options.calibration = (precision == Precision::Int8).then(|| Calibration::new(Data::Random));
                    options
                }
            };
            let (again, _, _) = compiled(target, &asked(Precision::W8A32));
            assert_eq!(again, (0.0, 1.0), "{name}");
            let (halves, length, _) = compiled(target, &asked(Precision::Float16));
            assert_eq!(halves, (0.0, 0.0), "{name}");
            assert!((180_000..230_000).contains(&length), "{name}: {length} bytes");
            let ((integers, _), _, precision) = compiled(target, &asked(Precision::Int8));
            assert!(integers > 0.9 && precision == Precision::Int8, "{name}: {integers}");
            let (floats, length, _) = compiled(target, &|options| {
                let mut options = options;
                options.float_weights = true;
                options
            });
            assert_eq!(floats, (0.0, 0.0), "{name}");
            assert!(length > 350_000, "{name}: {length} bytes");
        }
    }
}

/// A model and the files beside it may all be in memory.
#[test]
fn files_beside_a_model_come_from_memory() {
    let mut options = Options::new([Format::Openvino], Precision::Float32);
    let model = Model::open(Path::new(LENET)).unwrap();
    let written = |options: Options, main: &str| {
        let mut compiled = Compiler::new(options).compile_model(&model, &mut NoObserver).unwrap();
        let mut files = Memory::new(main);
        compiled.write(0, &mut files).unwrap();
        files.files
    };
    let openvino = written(options.clone(), "net.xml");
    options.targets = vec![
        Format::Onnx.with(qcc::backends::WriteOptions { external_data: true, ..qcc::backends::WriteOptions::PLAIN }),
    ];
    for (main, files) in [("net.xml", openvino), ("net.onnx", written(options, "net.onnx"))] {
        let bytes = files[main].clone().into();
        let beside = files.clone();
        let lookup = move |name: &str| beside.get(name).map(|f| f.clone().into()).ok_or_else(|| "not there".to_owned());
        let read = Model::read_with(bytes, main, lookup).unwrap();
        let graph = read.import(&Default::default()).unwrap().graph;
        let x = graph.inputs().next().unwrap();
        assert_eq!(graph.ty(x).shape.dims().len(), 4);
        let missing = Model::read_with(files[main].clone().into(), main, |_| Err("not there".into()));
        let why = missing.and_then(|model| model.import(&Default::default())).unwrap_err();
        assert_eq!(why[0].code, "missing-data");
        let beside = files.keys().find(|name| *name != main).unwrap();
        assert_eq!(why[0].message, format!("there is no file {beside} with its data: not there"));
    }
}

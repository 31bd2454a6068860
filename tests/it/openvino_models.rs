//! OpenVINO IR as a source: artefacts of qcc are imported again and compute the same as in OpenVINO.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
#[cfg(feature = "oracles")]
use std::path::PathBuf;

use bytes::Bytes;
#[cfg(feature = "oracles")]
use qcc::{Compiler, NoObserver, Output, Precision};
#[cfg(feature = "oracles")]
use qcc_backends::Format;
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::eval::Executor;
#[cfg(feature = "oracles")]
use qcc_ir::testing::numbers;
use qcc_ir::testing::{Case, inputs_for, operators};
use qcc_ir::{Elem, Graph, Tensor, TensorType};

#[cfg(feature = "oracles")]
use crate::models::options;
#[cfg(feature = "oracles")]
use crate::onnx_nodes::{NODES, SWEEP};
use crate::openvino::OPENVINO;
#[cfg(feature = "oracles")]
use crate::oracle::{self, Run};
#[cfg(feature = "oracles")]
use crate::runtime::sqnr;
use crate::runtime::{Outcome, all_close, difference, evaluate, laid_out, most_steps, outputs, random_graphs};

/// Relative and absolute tolerance of floats: another summation order.
const CLOSE: (f32, f32) = (1e-5, 1e-6);

/// The same for F16, in which the file also stores operator parameters.
const HALF: (f32, f32) = (1e-2, 1e-3);

/// The graph of a model, given as its XML file, a zero byte, and its constants.
fn read(model: &Bytes) -> Result<Graph, String> {
    let folder = tempfile::tempdir().unwrap();
    let end = model.iter().position(|&b| b == 0).unwrap_or(model.len());
    let path = folder.path().join("m.xml");
    fs::write(&path, &model[..end]).unwrap();
    fs::write(folder.path().join("m.bin"), model.get(end + 1..).unwrap_or_default()).unwrap();
    open(&path)
}

/// The graph of a model with known extents.
fn open(path: &Path) -> Result<Graph, String> {
    let options = ImportOptions { fixed: true, ..ImportOptions::default() };
    let imported = Model::open(path).and_then(|m| m.import(&options));
    let graph =
        imported.map(|i| i.graph).map_err(|all| all.into_iter().map(|d| d.message).collect::<Vec<_>>().join("; "))?;
    graph.verify().map_err(|e| e.to_string())?;
    Ok(graph)
}

/// The outputs of a graph, in OpenVINO's types.
fn run(g: &Graph, inputs: &[Tensor]) -> Outcome {
    let inputs: Vec<Tensor> = g.inputs().zip(inputs).map(|(v, t)| t.retype(g.ty(v).clone()).unwrap()).collect();
    let results = Executor::new(g).run(&inputs, &mut |_, _| {}).map_err(|e| e.to_string())?;
    let stored = |elem: &Elem| elem.qparams().map_or_else(|| elem.clone(), |g| g.storage.elem());
    let plain = |t: Tensor| t.retype(TensorType::new(stored(&t.ty().elem), t.ty().shape.clone())).unwrap();
    Ok(results.into_iter().map(plain).collect())
}

/// Fails unless the artefact of a lowered graph, imported again, computes the same.
fn same(g: &Graph, model: &Bytes, inputs: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    let outcome = read(model).and_then(|back| run(&back, &laid_out(g, inputs)));
    let found = outputs(g, &outcome)?;
    let half = |t: &&Tensor| t.ty().elem == Elem::F16;
    if expected.iter().any(|t| half(&t)) {
        let differences = found.iter().zip(expected).filter_map(|(f, e)| difference(f, e, HALF.0, HALF.1));
        return differences.map(Err).next().unwrap_or(Ok(()));
    }
    all_close(&found, expected, CLOSE)
}

/// All operators that the backend writes can be imported and compute the same.
#[test]
fn operators_are_read_back() {
    let (mut right, mut wrong) = (0, BTreeMap::<String, String>::new());
    for Case { graph, inputs } in operators() {
        let Ok(mut g) = OPENVINO.lowered(graph) else { continue };
        let Ok(model) = OPENVINO.written(&mut g) else { continue };
        let expected = evaluate(&g, &inputs).unwrap();
        match same(&g, &model, &inputs, &expected) {
            Ok(()) => right += 1,
            Err(why) => _ = wrong.insert(why, g.name.clone()),
        }
    }
    assert!(wrong.is_empty(), "wrong when read back: {wrong:#?}");
    assert!(right > 1000, "{right}");
}

#[cfg(feature = "oracles")]
#[test]
fn float_node_tests_are_read_back_from_openvino() {
    let (mut right, mut wrong) = (0, String::new());
    for (name, source, inputs) in NODES.imported().into_iter().chain(SWEEP.imported()) {
        let Ok(mut g) = OPENVINO.lowered(source) else { continue };
        let Ok(model) = OPENVINO.written(&mut g) else { continue };
        let expected = evaluate(&g, &inputs).unwrap();
        match same(&g, &model, &inputs, &expected) {
            Ok(()) => right += 1,
            Err(why) => _ = writeln!(wrong, "{name}: {why}"),
        }
    }
    assert!(wrong.is_empty(), "wrong when read back: {}\n{wrong}", wrong.lines().count());
    assert!(right > 1000, "{right}");
}

#[test]
fn random_float_graphs_are_read_back_from_openvino() {
    let mut right = 0;
    for source in random_graphs(300) {
        let inputs = inputs_for(&source, 5);
        let mut g = OPENVINO.lowered(source).unwrap();
        let Ok(model) = OPENVINO.written(&mut g) else { continue };
        let expected = evaluate(&g, &inputs).unwrap();
        same(&g, &model, &inputs, &expected).unwrap();
        right += 1;
    }
    assert!(right > 250, "{right}");
}

/// Maximum difference in quantization steps between float arithmetic with FakeQuantize and integers: rounding of ties.
const STEP: i64 = 1;

#[test]
fn integer_graphs_are_read_back_from_openvino() {
    let mut wrong = String::new();
    for case in OPENVINO.integer_cases() {
        let expected = evaluate(&case.graph, &case.inputs).unwrap();
        let outcome = read(&case.model).and_then(|g| run(&g, &laid_out(&case.graph, &case.inputs)));
        let found = outputs(&case.graph, &outcome).and_then(|found| {
            let most = most_steps(&found, &expected);
            if most <= STEP { Ok(()) } else { Err(format!("{most} steps")) }
        });
        if let Err(why) = found {
            _ = writeln!(wrong, "{}: {why}", case.name);
        }
    }
    assert!(wrong.is_empty(), "wrong when read back:\n{wrong}");
}

/// The bundled models.
#[cfg(feature = "oracles")]
fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut all: Vec<PathBuf> = fs::read_dir(folder.join("torch")).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == "pt2"));
    all.push(folder.join("mnist_lenet.onnx"));
    all.sort();
    all
}

/// Minimum SQNR in dB of OpenVINO's float arithmetic with FakeQuantize.
#[cfg(feature = "oracles")]
const LEAST_SQNR: f64 = 40.0;

/// In every precision, the imported artefact computes the same as OpenVINO, except for the summation order.
#[cfg(feature = "oracles")]
#[test]
fn models_are_read_as_openvino_runs_them() {
    for precision in [Precision::Float32, Precision::Float16, Precision::W8A32, Precision::W4A32, Precision::Int8] {
        let (mut cases, mut runs) = (Vec::new(), Vec::new());
        for source in models() {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("m.xml");
            let mut options = options(Format::Openvino, precision, 2);
            options.import.fixed = true;
            if Compiler::new(options).compile(&source, &Output::File(file.clone()), &mut NoObserver).is_err() {
                continue;
            }
            let g = open(&file).unwrap_or_else(|why| panic!("{} {precision:?}: {why}", source.display()));
            let input = |(i, v): (usize, qcc_ir::ValueId)| {
                let ty = g.ty(v);
                match ty.elem {
                    Elem::F32 => numbers(ty.shape.clone(), i as u64 + 3),
                    // Indices that are small enough for any table.
                    _ => Tensor::new(ty.clone(), vec![0; ty.bytes().unwrap()].into()).unwrap(),
                }
            };
            let inputs: Vec<Tensor> = g.inputs().enumerate().map(input).collect();
            let constants = fs::read(folder.path().join("m.bin")).unwrap_or_default();
            let model = [fs::read(&file).unwrap(), vec![0], constants].concat().into();
            runs.push(Run { model, inputs, optimized: false });
            cases.push((source, g));
        }
        assert!(cases.len() > 20, "{precision:?}: {}", cases.len());
        let mut wrong = String::new();
        let folder = format!("openvino_models_{precision:?}");
        for (((source, g), case), outcome) in cases.iter().zip(&runs).zip(oracle::run(OPENVINO.script, &folder, &runs))
        {
            let found = run(g, &case.inputs).unwrap();
            let judged = outcome.and_then(|expected| {
                found.iter().zip(&expected).try_for_each(|(f, e)| {
                    // Logarithms of negative numbers are NaN.
                    let numbers = e.floats().iter().zip(&*f.floats()).map(|(&e, &f)| (e, f)).collect::<Vec<_>>();
                    let (truth, own): (Vec<f32>, Vec<f32>) =
                        numbers.into_iter().filter(|(e, f)| !(e.is_nan() && f.is_nan())).unzip();
                    let quantized = precision == Precision::Int8;
                    let alike = if quantized { sqnr(&truth, &own) >= LEAST_SQNR } else { true };
                    let difference = if quantized { None } else { difference(f, e, 1e-3, 1e-4) };
                    match difference {
                        _ if f.ty().shape != e.ty().shape => Err(format!("{}, expected {}", f.ty(), e.ty())),
                        Some(difference) => Err(difference),
                        None if !alike => Err(format!("{} dB", sqnr(&truth, &own))),
                        None => Ok(()),
                    }
                })
            });
            if let Err(why) = judged {
                _ = writeln!(wrong, "{}: {why}", source.display());
            }
        }
        assert!(wrong.is_empty(), "{precision:?}, unlike OpenVINO:\n{wrong}");
    }
}

#[test]
fn what_is_not_read_of_openvino_is_refused_by_name() {
    let text = "graph g {
      %x: f32[1,2,4,4] = input
      %w: f32[1,2,1,1] = const [1,2]
      %c: f32[1,1,4,4] = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w from /c (Conv)
      %y: f32[1,1,4,4] = unary(f:Tanh) %c from /y (Tanh)
      output y = %y
    }
    ";
    let mut g = qcc_ir::text::parse(text, &qcc_ir::text::Weights::new()).unwrap();
    let model = OPENVINO.written(&mut g).unwrap();
    let end = model.iter().position(|&b| b == 0).unwrap();
    let xml = std::str::from_utf8(&model[..end]).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(xml.contains(from), "{from}: {xml}");
        read(&[xml.replacen(from, to, 1).as_bytes(), &model[end..]].concat().into()).unwrap_err()
    };
    for (from, to, message) in [
        ("type=\"Tanh\"", "type=\"Tanhh\"", "operator Tanhh is not supported"),
        (
            "type=\"Tanh\" version=\"opset1\"",
            "type=\"Tanh\" version=\"extension\"",
            "operator Tanh (extension) is not supported",
        ),
        ("auto_pad=\"explicit\"", "auto_pad=\"explicit\" fresh=\"1\"", "attribute fresh=\"1\" is not supported here"),
        ("strides=\"1, 1\"", "strides=\"1, x\"", "attribute strides: not a list of integers"),
        ("strides=\"1, 1\"", "strides=\"2, 2\"", "it declares [1,1,4,4]; the operator gives [1,1,2,2]"),
        ("offset=\"0\"", "offset=\"4\"", "its data (8 bytes at 4) lies beyond the end of the file (8)"),
        (
            "element_type=\"f32\" shape=\"1, 2, 1, 1\"",
            "element_type=\"f31\" shape=\"1, 2, 1, 1\"",
            "layer w has elements of type f31, which are not supported",
        ),
    ] {
        assert_eq!(refused(from, to), message);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.xml");
    fs::write(&path, xml).unwrap();
    assert!(open(&path).unwrap_err().contains("m.bin"));
    assert!(Model::read(Bytes::from(xml.to_owned()), folder.path()).unwrap_err()[0].message.contains("by its path"));
}

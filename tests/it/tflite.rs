//! TFLite files as sources: artefacts of qcc are imported again, and files of other tools compute the same as in
//! LiteRT.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use qcc_formats::tflite::{
    BuiltinOperator as B, Gather, Model as Tables, Options, ResizeNearestNeighbor, StridedSlice, Tensor as Entry,
    TensorType as Stored, Unpack,
};
use qcc_frontends::{ImportOptions, Model};
use qcc_ir::eval::Executor;
use qcc_ir::testing::{inputs_for, numbers};
use qcc_ir::{Elem, Graph, Shape, Tensor, TensorType};

use crate::cli::{qcc, text};
use crate::litert::LITERT;
#[cfg(feature = "oracles")]
use crate::onnx_nodes::NODES;
#[cfg(feature = "oracles")]
use crate::oracle::{self, Run};
use crate::runtime::{Outcome, all_close, evaluate, graphs_of, laid_out, most_steps, outputs, random_graphs};
#[cfg(feature = "oracles")]
use crate::runtime::{difference, steps};
use crate::sparse;
use crate::tflite_models::{byte, entry, float, foreign, ints, one_operator, other_pool};
use crate::tflite_operators::operators;

fn read(file: &Bytes) -> Result<Graph, String> {
    let model = Model::read(file.clone(), Path::new(""));
    let imported = model.and_then(|m| m.import(&ImportOptions::default()));
    imported.map(|i| i.graph).map_err(|all| all.into_iter().map(|d| d.message).collect::<Vec<_>>().join("; "))
}

fn stored(elem: &Elem) -> Elem {
    elem.qparams().map_or_else(|| elem.clone(), |g| g.storage.elem())
}

/// The outputs of a file that is imported and evaluated, in LiteRT's types.
fn read_back(file: &Bytes, inputs: &[Tensor]) -> Outcome {
    let g = read(file)?;
    g.verify().map_err(|e| e.to_string())?;
    let inputs: Vec<Tensor> = g.inputs().zip(inputs).map(|(v, t)| t.retype(g.ty(v).clone()).unwrap()).collect();
    let results = Executor::new(&g).run(&inputs, &mut |_, _| {}).map_err(|e| e.to_string())?;
    let plain = |t: Tensor| t.retype(TensorType::new(stored(&t.ty().elem), t.ty().shape.clone())).unwrap();
    Ok(results.into_iter().map(plain).collect())
}

/// Relative and absolute tolerance of floats: another summation order.
const CLOSE: (f32, f32) = (1e-5, 1e-6);

#[cfg(feature = "oracles")]
#[test]
fn float_node_tests_are_read_back() {
    let (mut right, mut wrong) = (0, String::new());
    for (name, source, inputs) in NODES.imported() {
        let Ok(mut g) = LITERT.lowered(source) else { continue };
        let Ok(model) = LITERT.written(&mut g) else { continue };
        let expected = evaluate(&g, &inputs).unwrap();
        let found = outputs(&g, &read_back(&model, &laid_out(&g, &inputs)));
        match found.and_then(|found| all_close(&found, &expected, CLOSE)) {
            Ok(()) => right += 1,
            Err(why) => _ = writeln!(wrong, "{name}: {why}"),
        }
    }
    assert!(wrong.is_empty(), "wrong when read back: {}\n{wrong}", wrong.lines().count());
    assert!(right > 500, "{right}");
}

/// Graphs that the file expresses by other operators, and their tolerance in quantization steps: a clamp with
/// requantization becomes QUANTIZE, MAXIMUM and MINIMUM.
const WRITTEN_OTHERWISE: [(&str, i64); 1] = [("clamp", 1)];

#[test]
fn integer_graphs_are_read_back_bit_for_bit() {
    let mut wrong = String::new();
    for g in graphs_of(include_str!("../cases/int8.qir")) {
        let case = LITERT.integer(g).unwrap();
        let allowed = WRITTEN_OTHERWISE.iter().find(|(name, _)| *name == case.name).map_or(0, |(_, steps)| *steps);
        let expected = evaluate(&case.graph, &case.inputs).unwrap();
        let outcome = read_back(&case.model, &laid_out(&case.graph, &case.inputs));
        let found = outputs(&case.graph, &outcome).and_then(|found| {
            let most = most_steps(&found, &expected);
            if most <= allowed { Ok(()) } else { Err(format!("{most} steps")) }
        });
        if let Err(why) = found {
            _ = writeln!(wrong, "{}: {why}", case.name);
        }
    }
    assert!(wrong.is_empty(), "wrong when read back:\n{wrong}");
}

#[test]
fn random_float_graphs_are_read_back() {
    let mut right = 0;
    for source in random_graphs(300) {
        let inputs = inputs_for(&source, 5);
        let mut g = LITERT.lowered(source).unwrap();
        let Ok(model) = LITERT.written(&mut g) else { continue };
        let expected = evaluate(&g, &inputs).unwrap();
        let outcome = read_back(&model, &laid_out(&g, &inputs));
        outputs(&g, &outcome).and_then(|found| all_close(&found, &expected, CLOSE)).unwrap();
        right += 1;
    }
    assert!(right > 250, "{right}");
}

#[test]
fn damaged_files_are_refused() {
    let case = LITERT.integer(graphs_of(include_str!("../cases/int8.qir")).swap_remove(0)).unwrap();
    let whole = case.model;
    for end in (0..whole.len()).step_by(7) {
        let _ = read(&whole.slice(..end));
    }
    let mut runner = TestRunner::deterministic();
    let changes = proptest::collection::vec((0..whole.len(), any::<u8>()), 1..4);
    runner
        .run(&changes, |changes| {
            let mut bytes = whole.to_vec();
            for (at, value) in changes {
                bytes[at] = value;
            }
            if let Ok(g) = read(&bytes.into()) {
                g.verify().unwrap();
            }
            Ok(())
        })
        .unwrap();
}

/// Models of other tools, and inputs for them.
pub(crate) fn models_of_others() -> Vec<(&'static str, Bytes, Vec<Tensor>)> {
    let with_inputs = |(name, model): (&'static str, Bytes)| {
        let g = read(&model).unwrap_or_else(|why| panic!("{name}: {why}"));
        let input = |(i, v): (usize, qcc_ir::ValueId)| {
            let ty = g.ty(v);
            let real = numbers(ty.shape.clone(), i as u64 + 7);
            match &ty.elem {
                Elem::Quantized(qparams) => {
                    let t = real.quantized(qparams);
                    t.retype(TensorType::new(qparams.storage.elem(), ty.shape.clone())).unwrap()
                }
                // Integers are the shape of the result.
                Elem::I32 => {
                    let main = &Tables::read(&model).unwrap().subgraphs[0];
                    Tensor::from_vec(ty.shape.clone(), main.tensors[main.outputs[0] as usize].shape.clone())
                }
                _ => real,
            }
        };
        let inputs = g.inputs().enumerate().map(input).collect();
        (name, model, inputs)
    };
    foreign().into_iter().chain(operators()).chain(sparse::models()).map(with_inputs).collect()
}

#[test]
fn models_of_others_are_read_and_evaluated() {
    for (name, model, inputs) in models_of_others() {
        let found = read_back(&model, &inputs).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(found.iter().all(|t| !t.is_empty()), "{name}");
    }
}

/// Tolerance of kernels in quantization steps.
#[cfg(feature = "oracles")]
const STEP: i64 = 1;

#[cfg(feature = "oracles")]
#[test]
fn models_of_others_are_read_as_litert_runs_them() {
    let (mut cases, mut runs) = (Vec::new(), Vec::new());
    for (name, model, inputs) in models_of_others() {
        runs.push(Run { model, inputs, optimized: true });
        cases.push(name);
    }
    let mut wrong = String::new();
    for ((name, run), outcome) in cases.iter().zip(&runs).zip(oracle::run(LITERT.script, "litert_foreign", &runs)) {
        let found = read_back(&run.model, &run.inputs);
        let judged = found.and_then(|found| {
            let expected = outcome.map_err(|e| format!("LiteRT: {e}"))?;
            assert_eq!(found.len(), expected.len());
            found.iter().zip(&expected).try_for_each(|(f, e)| {
                if f.ty() != e.ty() {
                    return Err(format!("{}, expected {}", f.ty(), e.ty()));
                }
                match f.ty().elem {
                    Elem::F32 => difference(f, e, 1e-4, 1e-5).map_or(Ok(()), Err),
                    _ if steps(f, e) <= STEP => Ok(()),
                    _ => Err(format!("{} steps", steps(f, e))),
                }
            })
        });
        if let Err(why) = judged {
            _ = writeln!(wrong, "{name}: {why}");
        }
    }
    assert!(wrong.is_empty(), "unlike LiteRT:\n{wrong}");
}

/// A condition of rank 1 selects slices (SELECT), or broadcasts along the last axis (SELECT_V2).
#[test]
fn select_takes_a_condition_for_each_slice() {
    let shape = Shape::known(&[2, 2]);
    let (x, y) = (Tensor::from_vec(shape.clone(), vec![1f32; 4]), Tensor::from_vec(shape, vec![0f32; 4]));
    let condition = Tensor::from_bools(Shape::known(&[2]), [true, false]);
    let inputs = [condition, x, y];
    for (code, expected) in [(B::SELECT, [1.0, 1.0, 0.0, 0.0]), (B::SELECT_V2, [1.0, 0.0, 1.0, 0.0])] {
        let operands = vec![(entry(Stored::BOOL, &[2]), None), float(&[2, 2]), float(&[2, 2])];
        let model = one_operator(code, 1, Options::None, operands, vec![float(&[2, 2])]);
        assert_eq!(read_back(&model, &inputs).unwrap()[0].floats()[..], expected, "{code}");
    }
}

/// An open extent stays open through the masks of a slice, with one symbol for each input.
#[test]
fn open_extents_are_read() {
    let open_of = |elem, dims: &[i32]| {
        let entry = entry(elem, &dims.iter().map(|d| d.abs()).collect::<Vec<i32>>());
        (Entry { shape_signature: dims.into(), ..entry }, None)
    };
    let open = |dims: &[i32]| open_of(Stored::FLOAT32, dims);
    let options = StridedSlice {
        begin_mask: 0b0010,
        end_mask: 0b0010,
        new_axis_mask: 0b0001,
        shrink_axis_mask: 0b1000,
        ..StridedSlice::default()
    };
    let (begin, end, steps) = (ints(&[4], &[0, 0, -3, -1]), ints(&[4], &[0, 0, -1, 0]), ints(&[4], &[1, 2, 1, 1]));
    let operands = vec![open(&[-1, -1, 5]), begin, end, steps];
    let model = one_operator(B::STRIDED_SLICE, 1, options.into(), operands, vec![float(&[1, 1, 2])]);
    let graph = read(&model).unwrap();
    let shape = |v| graph.ty(v).shape.to_string();
    assert_eq!(shape(graph.inputs().next().unwrap()), "[batch,t0_1,5]");
    assert_eq!(shape(graph.outputs()[0].value), "[1,(floor((batch+1)/2)),2]");
    let sum = one_operator(B::ADD, 1, Options::None, vec![open(&[-1, 5]), open(&[-1, 5])], vec![float(&[1, 5])]);
    let graph = read(&sum).unwrap();
    let inputs: Vec<String> = graph.inputs().map(|v| graph.ty(v).shape.to_string()).collect();
    assert_eq!(inputs, ["[t0_0,5]", "[t1_0,5]"]);
    // Rows of each element of the batch: both inputs need the same one.
    let options = Gather { axis: 1, batch_dims: 1 };
    let operands = vec![open(&[-1, 8, 4]), open_of(Stored::INT32, &[-1, 3])];
    let rows = one_operator(B::GATHER, 5, options.into(), operands, vec![float(&[1, 3, 4])]);
    let graph = read(&rows).unwrap();
    let inputs: Vec<String> = graph.inputs().map(|v| graph.ty(v).shape.to_string()).collect();
    assert_eq!(inputs, ["[batch,8,4]", "[batch,3]"]);
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let call = one_operator(B::CALL, 1, Options::None, vec![float(&[1])], vec![float(&[1])]);
    assert_eq!(read(&call).unwrap_err(), "operator CALL is not supported");
    let dynamic = one_operator(
        B::TRANSPOSE,
        1,
        Options::None,
        vec![float(&[4]), (entry(Stored::INT32, &[1]), None)],
        vec![float(&[4])],
    );
    assert_eq!(read(&dynamic).unwrap_err(), "input 1 (t1) must be a constant, or follow from constants and shapes");
    // Small files that would expand to large graphs are refused early.
    let many = one_operator(
        B::UNPACK,
        1,
        Unpack { num: i32::MAX, axis: 0 }.into(),
        vec![float(&[i32::MAX, 0])],
        vec![float(&[0])],
    );
    assert_eq!(read(&many).unwrap_err(), "2147483647 parts for 1 results");
    let wide = one_operator(
        B::RESIZE_NEAREST_NEIGHBOR,
        1,
        ResizeNearestNeighbor::default().into(),
        vec![float(&[1, 1, 1, 1]), ints(&[2], &[i32::MAX, 1])],
        vec![float(&[1, i32::MAX, 1, 1])],
    );
    assert_eq!(read(&wide).unwrap_err(), "the extents [2147483647,1]; expected height and width");
    let blocks = one_operator(
        B::SPACE_TO_BATCH_ND,
        1,
        Options::None,
        vec![float(&[1, 0, 0, 0, 0, 0]), ints(&[5], &[32767; 5]), ints(&[5, 2], &[0; 10])],
        vec![float(&[1])],
    );
    assert!(read(&blocks).unwrap_err().contains("are too many"));
    let pool = |scale| {
        let options = other_pool();
        one_operator(
            B::MAX_POOL_2D,
            2,
            options,
            vec![byte(Stored::INT8, &[1, 2, 2, 1], 0.5, 0)],
            vec![byte(Stored::INT8, &[1, 1, 1, 1], scale, 0)],
        )
    };
    assert!(read(&pool(0.5)).is_ok());
    assert_eq!(
        read(&pool(0.25)).unwrap_err(),
        "its operand lies on i8<0.5:0> and its result on i8<0.25:0>: the kernels would not rescale"
    );
}

#[test]
fn compiled_models_are_compared_with_their_source() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let (onnx, digits) = (models.join("mnist_lenet.onnx"), models.join("digits"));
    let (onnx, digits) = (onnx.to_str().unwrap(), digits.to_str().unwrap());
    let data = ["--data", digits, "--scale", "1/255"];
    let run = |args: &[&str]| {
        let out = qcc(folder.path(), args);
        (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
    };
    assert_eq!(run(&[onnx, "--to", "tflite", "-q", "-o", "float.tflite"]).0, 0);
    assert_eq!(run(&[&[onnx, "--to", "tflite", "-q", "--int8", "-o", "int8.tflite"][..], &data].concat()).0, 0);

    let against = |other: &str, more: &[&str]| {
        let (code, out, err) = run(&[&["compare", onnx, other, "--json"][..], &data, more].concat());
        let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {err}"));
        (code, json)
    };
    let (code, float) = against("float.tflite", &[]);
    assert_eq!(
        (code, float["samples"].as_u64(), float["outputs"].as_array().unwrap().len()),
        (0, Some(30), 1),
        "{float}"
    );
    // The SQNR is infinite without noise, which is `null` in JSON.
    assert!(float["outputs"][0]["sqnr"].as_f64().unwrap_or(f64::INFINITY) > 100.0, "{float}");
    let (_, int8) = against("int8.tflite", &[]);
    let sqnr = int8["outputs"][0]["sqnr"].as_f64().unwrap();
    assert!((25.0..60.0).contains(&sqnr) && int8["outputs"][0]["agreement"]["percent"] == 100.0, "{int8}");
    assert_eq!(against("int8.tflite", &["--min-sqnr", "70"]).0, 3);
    let (code, shown, _) = run(&[&["compare", "float.tflite", "int8.tflite", "--samples", "5"][..], &data].concat());
    assert!(code == 0 && shown.contains("5 pictures") && shown.contains("100.00 %"), "{shown}");

    let (code, _, said) =
        run(&[&["compare", onnx, "float.tflite", "--samples", "5"][..], &["--data", "random"]].concat());
    assert_eq!((code, said.as_str()), (0, ""));
    // They are sources like any other; one of integers keeps these.
    assert_eq!(run(&["int8.tflite", "--to", "tflite", "-q", "-o", "same.tflite"]).0, 0);
    let (code, same, said) = run(&[&["compare", "int8.tflite", "same.tflite", "--json"][..], &data].concat());
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(same.contains("\"sqnr\": null") || same.contains("exact"), "{same}");
    assert_eq!(run(&["float.tflite", "--to", "tflite", "-q", "-o", "again.tflite"]).0, 0);
    let again = against("again.tflite", &[]).1;
    assert!(again["outputs"][0]["sqnr"].as_f64().unwrap_or(f64::INFINITY) > 100.0, "{again}");
    let shown = |file: &str| run(&["inspect", file, "--json"]).1;
    let input = |file: &str| {
        let shown: serde_json::Value = serde_json::from_str(&shown(file)).unwrap();
        let graph = &shown["graphs"][0];
        let (inputs, tensors) = (graph["inputs"].as_array().unwrap(), graph["tensors"].as_array().unwrap());
        let shape = |id: &serde_json::Value| tensors.iter().find(|t| t["id"] == *id).unwrap()["shape"].clone();
        inputs.iter().map(|input| (input["name"].clone(), shape(&input["tensor"]))).collect::<Vec<_>>()
    };
    // The batch of the source stays open, also that of a TFLite source.
    let batch = vec![("image".into(), serde_json::json!(["?", 28, 28, 1]))];
    assert_eq!(input("float.tflite"), batch);
    assert_eq!(input("again.tflite"), batch);
    fs::write(folder.path().join("cut.tflite"), &fs::read(folder.path().join("float.tflite")).unwrap()[..900]).unwrap();
    let (code, _, said) = run(&[&["compare", onnx, "cut.tflite"][..], &data].concat());
    assert!(code == 1 && said.contains("error[bad-model]"), "{said}");
}

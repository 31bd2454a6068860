//! Quantized TFLite models as sources: what qcc makes of them gives what LiteRT makes of the source.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use qcc_ir::{Elem, Shape, Tensor};

use crate::cli::{qcc, text};
use crate::litert::LITERT;
use crate::openvino::OPENVINO;
use crate::oracle::{self, Run};
use crate::ort::ORT;
use crate::runtime::{Runtime, difference, laid_out, steps};
use crate::tflite::models_of_others;
use crate::tflite_models::{noise, sequence_lstm, streaming, svdf};
use crate::tflite_operators::recurrent;

/// Models of many integer operators one after the other, and the steps that other kernels come to.
const CHAINS: [(&str, i64); 1] = [("grid_sample", 6)];

/// A model, and inputs for it.
struct Source {
    name: String,
    model: Bytes,
    inputs: Vec<Tensor>,
}

/// Those that qcc writes, and those that it does not write so.
fn sources() -> Vec<Source> {
    let own = LITERT.integer_cases().into_iter().map(|case| Source {
        inputs: laid_out(&case.graph, &case.inputs),
        name: case.name,
        model: case.model,
    });
    let others = models_of_others().into_iter();
    own.chain(others.map(|(name, model, inputs)| Source { name: name.into(), model, inputs })).collect()
}

/// What the program makes of a model, where it does not refuse it.
fn compiled(folder: &Path, source: &Source, runtime: &Runtime) -> Result<Bytes, String> {
    fs::write(folder.join("source.tflite"), &source.model).unwrap();
    let target = runtime.format.target().name;
    let said = qcc(folder, &["source.tflite", "--to", target, "-q", "-o", "made"]);
    if !said.status.success() {
        assert_eq!(said.status.code(), Some(1), "{}", text(&said.stderr));
        return Err(text(&said.stderr).lines().next().unwrap_or_default().into());
    }
    let file = |name: &str| fs::read(folder.join(name));
    let mut model = file("made").or_else(|_| file("made.xml")).unwrap();
    if let Ok(constants) = file("made.bin") {
        model.push(0);
        model.extend(constants);
    }
    fs::read_dir(folder).unwrap().for_each(|f| fs::remove_file(f.unwrap().path()).unwrap());
    Ok(model.into())
}

/// Models whose activations LiteRT rounds to 8 bits, which other kernels take as they are, and what comes of that.
const ROUNDED: [(&str, f32); 1] = [("weights in blocks", 0.03)];

/// What differs by more than `most` steps or, in real outputs, by more than `close`; else whether all is equal.
fn judged(found: &[Tensor], expected: &[Tensor], most: i64, close: f32) -> Result<bool, String> {
    if found.len() != expected.len() {
        return Err(format!("{} outputs, expected {}", found.len(), expected.len()));
    }
    let mut equal = true;
    for (f, e) in found.iter().zip(expected) {
        if f.ty() != e.ty() {
            return Err(format!("{}, expected {}", f.ty(), e.ty()));
        }
        equal &= f.data() == e.data();
        match e.ty().elem {
            Elem::F32 => difference(f, e, close, close).map_or(Ok(()), Err)?,
            Elem::Bool if f.data() == e.data() => {}
            _ if steps(f, e) <= most => {}
            _ => return Err(format!("{} steps", steps(f, e))),
        }
    }
    Ok(equal)
}

/// How many models are refused, right and equal in a runtime; fails where one is wrong.
fn held_against_litert(runtime: &Runtime, most: i64) -> [usize; 3] {
    let folder = tempfile::tempdir().unwrap();
    let (mut sources, mut made, mut refused, mut wrong) = (sources(), Vec::new(), 0, String::new());
    sources.retain(|source| match compiled(folder.path(), source, runtime) {
        Ok(model) => {
            made.push(Run { model, inputs: source.inputs.clone(), optimized: true });
            true
        }
        Err(_) => {
            refused += 1;
            false
        }
    });
    let given = |s: &Source| Run { model: s.model.clone(), inputs: s.inputs.clone(), optimized: true };
    let name = |kind: &str| format!("sources_{kind}_{}", runtime.name);
    let expected = oracle::run(LITERT.script, &name("given"), &sources.iter().map(given).collect::<Vec<_>>());
    let found = oracle::run(runtime.script, &name("made"), &made);
    let (mut right, mut equal) = (0, 0);
    for ((source, expected), found) in sources.iter().zip(expected).zip(found) {
        let most = CHAINS.iter().find(|(name, _)| *name == source.name).map_or(most, |(_, steps)| *steps);
        let close = ROUNDED.iter().find(|(name, _)| *name == source.name).map_or(2e-3, |(_, close)| *close);
        let outcome = found.and_then(|found| judged(&found, &expected?, most, close));
        match outcome {
            Ok(same) => {
                right += 1;
                equal += usize::from(same);
            }
            Err(why) => _ = writeln!(wrong, "{}: {why}", source.name),
        }
    }
    assert!(wrong.is_empty(), "unlike the source in {}:\n{wrong}", runtime.name);
    [refused, right, equal]
}

#[test]
fn quantized_models_keep_their_integers_in_litert() {
    let [refused, right, equal] = held_against_litert(&LITERT, 1);
    // Those that are not equal are composed of other operators.
    assert!(refused == 0 && right > 130 && equal > 140, "{refused} {right} {equal}");
}

#[test]
fn quantized_models_run_in_onnx_runtime() {
    let [refused, right, _] = held_against_litert(&ORT, 1);
    assert!(refused == 0 && right > 130, "{refused} {right}");
}

#[test]
fn quantized_models_run_in_openvino() {
    let [refused, right, _] = held_against_litert(&OPENVINO, 1);
    assert!(refused == 0 && right > 130, "{refused} {right}");
}

/// The program's words and the artefact for a model that keeps values from run to run.
fn stateful(model: Bytes, args: &[&str]) -> (String, Bytes) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("source.tflite"), model).unwrap();
    let said = qcc(folder.path(), &[&["source.tflite", "--to", "tflite", "-o", "made"], args].concat());
    assert!(said.status.success(), "{}", text(&said.stderr));
    (text(&said.stderr), fs::read(folder.path().join("made")).unwrap().into())
}

fn in_litert(name: &str, model: &Bytes, inputs: Vec<Tensor>) -> Vec<Tensor> {
    let run = Run { model: model.clone(), inputs, optimized: true };
    oracle::run("litert_once.py", name, &[run]).swap_remove(0).unwrap()
}

fn close(found: &[f32], expected: &[f32]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-5)
}

#[test]
fn the_state_of_an_lstm_goes_from_run_to_run() {
    let x = noise(&[1, 6, 3], 7).into_iter().map(|v| 3.0 * v).collect::<Vec<f32>>();
    let tensor = |dims: &[usize], values: &[f32]| Tensor::from_vec(Shape::known(dims), values.to_vec());
    for (cell_clip, coupled, peepholes) in
        [(0.0, false, false), (0.3, false, false), (0.0, true, false), (0.5, true, true)]
    {
        // Six steps at once are three and three more.
        let whole = sequence_lstm(6, cell_clip, coupled, peepholes);
        let expected = in_litert("state_whole", &whole, vec![tensor(&[1, 6, 3], &x)]);
        let (said, half) = stateful(sequence_lstm(3, cell_clip, coupled, peepholes), &[]);
        assert!(said.contains("warning[state]: t16 keeps its value from run to run"), "{said}");
        let zeros = || tensor(&[1, 2], &[0.0; 2]);
        let first = in_litert("state_first", &half, vec![tensor(&[1, 3, 3], &x[..9]), zeros(), zeros()]);
        let [h, c] = [first[1].clone(), first[2].clone()];
        let second = in_litert("state_second", &half, vec![tensor(&[1, 3, 3], &x[9..]), h, c]);
        let found = [first[0].floats(), second[0].floats()].concat();
        assert!(close(&found, &expected[0].floats()), "{cell_clip} {coupled} {peepholes}: {found:?} {expected:?}");
        // Without a state each run begins anew.
        let args = ["--set", "t16=0", "--set", "t17=0"];
        let (said, alone) = stateful(sequence_lstm(3, cell_clip, coupled, peepholes), &args);
        assert_eq!(said, "");
        let found = in_litert("state_alone", &alone, vec![tensor(&[1, 3, 3], &x[..9])]);
        assert!(found.len() == 1 && close(&found[0].floats(), &expected[0].floats()[..6]), "{found:?}");
    }
}

#[test]
fn recurrent_layers_give_what_litert_gives() {
    for (name, source, dims, states) in recurrent() {
        let of: Vec<i32> = dims.iter().map(|&d| d as i32).collect();
        let x = Tensor::from_vec(Shape::known(&dims), noise(&of, 7));
        let expected = in_litert("layer_source", &source, vec![x.clone()]);
        let (_, made) = stateful(source, &[]);
        let zeros = vec![Tensor::from_vec(Shape::known(&[1, 2]), vec![0.0f32; 2]); states];
        let found = in_litert("layer_made", &made, [vec![x], zeros].concat());
        assert!(found.len() == expected.len() + states, "{name}: {} outputs", found.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!(close(&found.floats(), &expected.floats()), "{name}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn a_variable_goes_from_run_to_run() {
    let x = [0.5f32, -2.0, 3.0, 0.25];
    let tensor = |dims: &[usize], values: &[f32]| Tensor::from_vec(Shape::known(dims), values.to_vec());
    for (first, told) in
        [([0.0; 2], "zeros"), ([1.5; 2], "1.5 everywhere"), ([1.0, 2.0], "the values of first in the file")]
    {
        let (said, model) = stateful(streaming(first), &[]);
        assert!(
            said.contains("window keeps its value from run to run") && said.contains(&format!("takes {told}, each")),
            "{said}"
        );
        // LiteRT gives the first run of the source.
        let source = in_litert("variable_source", &streaming(first), vec![tensor(&[1, 1], &x[..1])]);
        let (mut state, mut last) = (tensor(&[1, 2], &first), first.to_vec());
        for (run, &x) in x.iter().enumerate() {
            last.push(x);
            let expected = [last.iter().sum::<f32>()];
            assert!(run > 0 || close(&source[0].floats(), &expected), "{source:?} {expected:?}");
            last.remove(0);
            let found = in_litert("variable_made", &model, vec![tensor(&[1, 1], &[x]), state]);
            assert!(
                close(&found[0].floats(), &expected) && close(&found[1].floats(), &last),
                "{run}: {found:?} {expected:?}"
            );
            state = found[1].clone();
        }
    }
}

#[test]
fn an_svdf_weighs_what_it_gave_in_the_last_runs() {
    let (said, model) = stateful(svdf(), &[]);
    assert!(said.contains("the next value the output t4_next"), "{said}");
    let source = svdf();
    let (features, times, bias) = (noise(&[4, 4], 1), noise(&[4, 3], 2), noise(&[2], 3));
    let mut state = Tensor::from_vec(Shape::known(&[1, 12]), vec![0.0; 12]);
    let mut given: Vec<Vec<f32>> = vec![vec![0.0; 4]; 2];
    for run in 0..4 {
        let x = noise(&[1, 4], 40 + run);
        given.push((0..4).map(|f| (0..4).map(|i| features[f * 4 + i] * x[i]).sum()).collect());
        let last = &given[given.len() - 3..];
        let weighed = |f: usize| (0..3).map(|t| last[t][f] * times[f * 3 + t]).sum::<f32>();
        let expected: Vec<f32> = (0..2).map(|u| (weighed(2 * u) + weighed(2 * u + 1) + bias[u]).max(0.0)).collect();
        let input = Tensor::from_vec(Shape::known(&[1, 4]), x);
        if run == 0 {
            let of_source = in_litert("svdf_source", &source, vec![input.clone()]);
            assert!(close(&of_source[0].floats(), &expected), "{of_source:?} {expected:?}");
        }
        let found = in_litert("svdf_made", &model, vec![input, state.clone()]);
        assert!(close(&found[0].floats(), &expected), "{run}: {found:?} {expected:?}");
        state = found[1].clone();
    }
}

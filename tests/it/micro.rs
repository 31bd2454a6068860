//! TensorFlow Lite for Microcontrollers.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use qcc_backends::tflite::TFLM;
use qcc_backends::{Format, WriteOptions};
use qcc_ir::testing::inputs_for;
use qcc_ir::{Elem, StorageType, Tensor};

use crate::litert::LITERT;
use crate::onnx_nodes::{NODES, SWEEP};
use crate::oracle::{self, Run};
use crate::runtime::{Integer, Outcome, Runtime, graphs_of, laid_out};

/// TensorFlow Lite for Microcontrollers, with models for the device `tflm`.
pub(crate) const MICRO: Runtime = Runtime {
    name: "tflite-micro",
    script: "micro.py",
    format: Format::Tflite,
    form: WriteOptions { device: Some(&TFLM), ..WriteOptions::PLAIN },
    storage: StorageType::I8,
    // Its kernels, and LiteRT's reference kernels.
    steps: [2, 2],
    dissent: &[
        ("test_attention_23_boolmask_fullymasked_row_nan_robustness_expanded", REDUCES),
        ("test_attention_23_fullymasked_qk_matmul_output_mode3_zero_expanded", REDUCES),
        ("test_attention_24_fullymasked_qk_matmul_output_mode3_zero_expanded", REDUCES),
        ("test_attention_4d_causal_nonpad_negative_offset_structural_empty_expanded", REDUCES),
        ("test_attention_4d_causal_padded_kv_bf16_expanded", REDUCES),
        ("test_attention_causal_boolmask_nan_robustness_expanded", REDUCES),
        ("test_attention_local_window_gqa_rank4_mask_expanded", REDUCES),
    ],
};

const REDUCES: &str = "REDUCE_MAX starts at the lowest finite number, so that no result is negative infinity";

/// Maximum difference of its results from those of LiteRT's reference kernels, in quantization steps or relative to the
/// largest float. A step of an earlier result may be one more of a later one.
const STEPS: f32 = 1.0;
const WIDE_STEPS: f32 = 2.0;
const PART: f32 = 1.0 / 127.0;

/// The comparison of the two results.
fn judged(micro: &Outcome, reference: &Outcome) -> String {
    match (reference, micro) {
        (Ok(reference), Ok(micro)) => {
            let apart = reference.iter().zip(micro).map(|(a, b)| apart(a, b)).fold(0.0, f32::max);
            if apart <= 1.0 { "as in LiteRT".into() } else { "not as in LiteRT".into() }
        }
        (_, Err(why)) => format!("not run: {why}"),
        (Err(why), _) => format!("not run by LiteRT: {why}"),
    }
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    let (x, y) = (a.floats(), b.floats());
    let most = match a.ty().elem.is_integer() {
        true if a.ty().elem == Elem::I16 => WIDE_STEPS,
        true => STEPS,
        false => x.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs())) * PART,
    };
    x.iter()
        .zip(y.iter())
        .map(|(x, y)| (x - y).abs() / most)
        .fold(if x.len() == y.len() { 0.0 } else { f32::INFINITY }, f32::max)
}

/// Every integer case that is compiled for the device runs on it as in LiteRT; the others are refused.
#[test]
fn integer_graphs_run_on_microcontrollers() {
    insta::assert_snapshot!(integer_cases(&MICRO, "micro_int8"));
}

/// The same with 16-bit activations.
#[test]
fn integer_graphs_of_16_bits_run_on_microcontrollers() {
    insta::assert_snapshot!(integer_cases(&Runtime { storage: StorageType::I16, ..MICRO }, "micro_int16"));
}

fn integer_cases(micro: &Runtime, folder: &str) -> String {
    let graphs = graphs_of(include_str!("../cases/int8.qir"));
    let mut cases: Vec<Integer> = Vec::new();
    let mut all = String::new();
    for graph in graphs {
        let name = graph.name.clone();
        match micro.integer(graph) {
            Ok(case) => cases.push(case),
            Err(why) => _ = writeln!(all, "{name}: refused: {why}"),
        }
    }
    let run = |model: &bytes::Bytes, inputs: &[Tensor], optimized| Run {
        model: model.clone(),
        inputs: inputs.to_vec(),
        optimized,
    };
    let runs: Vec<Run> = cases
        .iter()
        .flat_map(|case| [true, false].map(|o| run(&case.model, &laid_out(&case.graph, &case.inputs), o)))
        .collect();
    let outcomes = oracle::run("micro.py", folder, &runs);
    for (case, outcomes) in cases.iter().zip(outcomes.chunks(2)) {
        let how = judged(&outcomes[0], &outcomes[1]);
        _ = writeln!(all, "{}: {how}", case.name);
    }
    assert!(!all.contains(": not "), "{all}");
    all
}

/// Layers of many steps run there: operators whose states each run sets anew, and loops.
#[test]
fn recurrent_layers_run_on_microcontrollers() {
    let text = "graph layers { %x: f32[19,2,5] = input
        %w: f32[16,5] = const noise
        %r: f32[16,4] = const noise
        %b: f32[16] = const noise
        %h: f32[2,4] = input
        %c: f32[2,4] = const noise
        %p, %last, %cell = recurrent(cell:Lstm,reverse:true,clip:None) %x, %w, %r, %b, %h, %c
        %v: f32[9,4] = const noise
        %s: f32[9,3] = const noise
        %d: f32[12] = const noise
        %k: f32[2,3] = const noise
        %y, %end = recurrent(cell:Gru(reset_after:true),reverse:false,clip:None) %p, %v, %s, %d, %k
        output y = %y output last = %last output cell = %cell output end = %end\n}\n";
    let mut g = LITERT.lowered(graphs_of(text).remove(0)).unwrap();
    let model = LITERT.written(&mut g).unwrap();
    let inputs = laid_out(&g, &inputs_for(&g, 3));
    let runs = [true, false].map(|optimized| Run { model: model.clone(), inputs: inputs.clone(), optimized });
    let outcomes = oracle::run("micro.py", "micro_recurrent", &runs);
    assert_eq!(judged(&outcomes[0], &outcomes[1]), "as in LiteRT");
}

#[test]
fn float_node_tests_run_on_microcontrollers() {
    insta::assert_snapshot!(MICRO.node_tests(&NODES, "micro_nodes", &|_, _, _| Ok(())));
}

#[test]
fn swept_operators_run_on_microcontrollers() {
    insta::assert_snapshot!(MICRO.node_tests(&SWEEP, "micro_sweep", &|_, _, _| Ok(())));
}

#[test]
fn operators_keep_their_meaning_on_microcontrollers() {
    insta::assert_snapshot!(MICRO.operator_tests("micro_operators"));
}

/// The bundled model runs there, with float and with integer interfaces.
#[test]
fn the_bundled_model_runs_on_microcontrollers() {
    let folder = tempfile::tempdir().unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let runs: Vec<Run> = ["float", "int8"]
        .into_iter()
        .flat_map(|io| {
            let file = folder.path().join(io).with_extension("tflite");
            let mut command = Command::new(env!("CARGO_BIN_EXE_qcc"));
            command.arg(models.join("mnist_lenet.onnx")).args(["--device", "tflm", "--int8", "--scale", "1/255", "-q"]);
            command.arg("--data").arg(models.join("digits")).args(["--io", io, "-o"]).arg(&file);
            let out = command.output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let shape = qcc_ir::Shape::known(&[1, 28, 28, 1]);
            let numbers = (0..28 * 28).map(|i| i * 37 % 101);
            let input = match io {
                "float" => Tensor::from_vec(shape, numbers.map(|n| n as f32 / 100.0).collect::<Vec<f32>>()),
                _ => Tensor::from_vec(shape, numbers.map(|n| n as i8).collect::<Vec<i8>>()),
            };
            let model: bytes::Bytes = std::fs::read(file).unwrap().into();
            [true, false].map(|optimized| Run { model: model.clone(), inputs: vec![input.clone()], optimized })
        })
        .collect();
    for outcomes in oracle::run("micro.py", "micro_bundled", &runs).chunks(2) {
        assert_eq!(judged(&outcomes[0], &outcomes[1]), "as in LiteRT");
    }
}

/// A network with a skip connection, a concatenation and a limit that no kernel applies by itself.
const BRANCHES: &str = "graph branches {
  %x: f32[1,3,16,16] = input
  %w: f32[4,3,1,1] = const [0.3,-0.2,0.1,0.5,0.4,-0.3,0.2,0.1,-0.5,0.3,0.2,0.1]
  %b: f32[4] = const [0.1,0.2,-0.1,0]
  %v: f32[4,4,1,1] = const [0.3,-0.2,0.1,0.5,0.4,-0.3,0.2,0.1,-0.5,0.3,0.2,0.1,0.4,0.2,-0.3,0.1]
  %c = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w, %b from a (Conv)
  %r = clamp(lo:0,hi:inf) %c from b (Relu)
  %d = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %r, %v, %b from c (Conv)
  %s = binary(f:Add) %r, %d from d (Add)
  %k = concat(axis:1) %s, %r from e (Concat)
  %m = clamp(lo:-0.25,hi:inf) %k from f (Clip)
  output y = %m
}
";

/// The bytes that a report tells are those that the runtimes plan: without temporaries to 5 %, and with the temporaries of
/// kernels that quantize activations, within the growth of the heap.
#[test]
fn values_at_the_peak_are_the_runtimes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("branches.qir"), BRANCHES).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let lenet = models.join("mnist_lenet.onnx").display().to_string();
    let told = |model: &str, precision: &[&str]| {
        crate::cli::succeeds(
            dir.path(),
            &[&[model, "--to", "tflite", "-o", "m.tflite", "--report", "r.json"], precision].concat(),
        );
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.path().join("r.json")).unwrap()).unwrap();
        let costs = &report["artefacts"][0]["costs"];
        let told = (costs["after"]["peak_bytes"].as_u64().unwrap(), costs["arena_bytes"].as_u64().unwrap());
        let printed = oracle::python("arena.py", &dir.path().join("m.tflite"));
        let [micro, arena, grown] = *printed.split_whitespace().map(|n| n.parse().unwrap()).collect::<Vec<u64>>()
        else {
            panic!("{printed}")
        };
        (told, micro, arena, grown)
    };
    for model in ["branches.qir", &lenet] {
        for precision in [&[][..], &["--int8", "--static", "--data", "random"]] {
            let ((peak, litert), micro, arena, _) = told(model, precision);
            assert!(peak.abs_diff(micro) * 20 <= micro, "{model} {precision:?}: {peak} told, {micro} planned");
            assert!(litert.abs_diff(arena) * 20 <= arena, "{model} {precision:?}: {litert} told, {arena} in LiteRT");
        }
    }
    let ((peak, litert), _, _, grown) = told(&lenet, &["--w8a32"]);
    // The kernels allocate a few kB besides.
    let most = litert * 21 / 20 + 8192;
    assert!(litert > 2 * peak, "{litert} told with temporaries, {peak} without");
    assert!(grown == 0 || (litert..=most).contains(&grown), "{litert} told, {grown} allocated");
}

/// A detector's end with the names of its classes.
const CLASSES: &str = r#"graph "two classes" {
  meta task = classify
  meta names = "{0: 'a \"cat\"', 1: 'd\u{e9}but??!'}"
  meta stride = "1"
  %x: f32[1,3,8,8] = input
  %w: f32[2,3,1,1] = const [0.3,-0.2,0.1,0.5,0.4,-0.3]
  %c = conv(stride:[1,1],before:[0,0],after:[0,0],dilation:[1,1],groups:1) %x, %w
  %m = reduce(f:Mean,axes:[2,3],keep:false) %c
  %y = softmax(axis:1,log:false) %m
  output y = %y
}
"#;

/// C++ sources compile without warnings, hold the model, and state an arena that suffices and is no more than 5 % larger
/// than what the runtime uses.
#[test]
fn sources_compile_and_state_an_arena_that_suffices() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("branches.qir"), BRANCHES).unwrap();
    std::fs::write(dir.path().join("classes.qir"), CLASSES).unwrap();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let lenet = models.join("mnist_lenet.onnx").display().to_string();
    for (model, precision) in [
        ("branches.qir", &[][..]),
        ("branches.qir", &["--int8", "--data", "random"]),
        ("classes.qir", &["--int8", "--data", "random", "--io", "int8"]),
        (&lenet, &[]),
        (&lenet, &["--int8", "--data", "random", "--io", "int8"]),
    ] {
        crate::cli::succeeds(dir.path(), &[&[model, "-o", "m.cc"], precision].concat());
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        let first = [read("m.cc"), read("m.h")];
        // Both names give the same two files.
        crate::cli::succeeds(dir.path(), &[&[model, "-o", "m.h"], precision].concat());
        assert!(first == [read("m.cc"), read("m.h")], "{model}");
        let said = oracle::python("sources.py", dir.path());
        let [stated, used] = said.split_whitespace().map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>()[..] else {
            panic!("{said}")
        };
        // While it plans, the runtime has data in the arena that it does not count: more than the values of tiny models.
        let most = used + if used > 8192 { used / 20 } else { 1024 };
        assert!(stated >= used && stated <= most, "{model} {precision:?}: {stated} stated, {used} used");
        crate::cli::succeeds(dir.path(), &[&[model, "--device", "tflm", "-o", "plain.tflite"], precision].concat());
        let plain = read("plain.tflite");
        assert!(plain.starts_with(&read("m.tflite")), "{model}: another model");
        let program = compiled(dir.path());
        assert_eq!(program.lines().next(), Some(&*format!("{} 0", read("m.tflite").len())), "{program}");
        if model == "classes.qir" {
            insta::assert_snapshot!("header", String::from_utf8(read("m.h")).unwrap());
            insta::assert_snapshot!("program", program);
        }
    }
}

/// A program that prints what the sources hold.
const PROGRAM: &str = r#"#include <cstdio>
#include "m.h"
struct Resolver {
  int count = 0;
#define ADD(NAME) int Add##NAME() { ++count; return 0; }
  ADD(Add) ADD(AveragePool2D) ADD(Concatenation) ADD(Conv2D) ADD(Dequantize) ADD(FullyConnected) ADD(MaxPool2D)
  ADD(Maximum) ADD(Mean) ADD(Quantize) ADD(Reshape) ADD(Softmax) ADD(Transpose)
};
int main() {
  using namespace m_model;
  std::printf("%zu %d\n", sizeof kModel, static_cast<int>(reinterpret_cast<std::uintptr_t>(kModel) % 16));
  Resolver resolver;
  bool all = RegisterOperators(resolver);
  std::printf("%d %d %d\n", all, resolver.count, static_cast<int>(kOperatorCount));
  std::printf("%d %d\n", kInput0Rank, kOutput0Rank);
#ifdef LABELS
  for (const char* label : kLabels) std::printf("%s\n", label);
#endif
}
"#;

/// The output of the program, compiled with all warnings as errors.
fn compiled(folder: &Path) -> String {
    std::fs::write(folder.join("main.cc"), PROGRAM).unwrap();
    let header = std::fs::read_to_string(folder.join("m.h")).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-o", "program", "main.cc", "m.cc"]).current_dir(folder);
    if header.contains("kLabels") {
        command.arg("-DLABELS");
    }
    match command.output() {
        Err(e) => panic!("{compiler} does not run ({e}): the test needs a C++ compiler; CXX names another"),
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr)),
    }
    let out = Command::new(folder.join("program")).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

//! Devices, without their runtimes.

use std::collections::BTreeSet;

use qcc_backends::tflite::{CMSIS_NN, EDGETPU, ESP32S3, TFLM};
use qcc_backends::{Attachments, Device, Memory, Summary, WriteOptions};
use qcc_ir::{Checked, Graph};

use crate::cli;
use crate::litert::LITERT;
use crate::runtime::graphs_of;

/// The main file of a graph that is laid out for a device.
pub(crate) fn written(device: &'static Device, graph: &Graph) -> (Summary, Vec<u8>) {
    let mut files = Memory::new("model");
    let backend = device.format.with(WriteOptions { device: Some(device), ..WriteOptions::PLAIN });
    let checked = Checked::new(graph, backend.target()).unwrap();
    let summary = backend.write(checked, &Attachments::default(), &mut files).unwrap();
    (summary, files.files.remove("model").unwrap())
}

/// The differences between the operators that another program leaves to the CPU, in lines `NAME OPERATOR RESULT`, and
/// those that runs name, in lines `NAME RESULT`. Operators are compared by their results: a program may have no name for
/// some, and make two of one with an activation function.
#[cfg(feature = "oracles")]
pub(crate) fn misplaced(said: &str, named: &BTreeSet<String>) -> String {
    use std::fmt::Write as _;

    let result = |line: &str| {
        let (stem, rest) = line.split_once(' ')?;
        Some(format!("{stem} {}", rest.split_once(' ')?.1))
    };
    let left: BTreeSet<String> = said.lines().filter_map(result).collect();
    let mut wrong = String::new();
    left.difference(named).for_each(|line| _ = writeln!(wrong, "not named: {line}"));
    named.difference(&left).for_each(|line| _ = writeln!(wrong, "runs on the accelerator: {line}"));
    wrong
}

/// Each operator of the integer cases that a device leaves to its CPU or to slower kernels because of a rule, not because it
/// lacks the operator. Models for optimized kernels are those for the reference kernels.
#[test]
fn rules_of_devices_are_told() {
    let mut all = BTreeSet::new();
    for device in [&EDGETPU, &ESP32S3, &CMSIS_NN] {
        for graph in graphs_of(include_str!("../cases/int8.qir")) {
            let name = graph.name.clone();
            let Ok(case) = LITERT.on(device).integer(graph.clone()) else { continue };
            let (summary, bytes) = written(device, &case.graph);
            let lacks = |rule: &str| rule.contains("has no kernel") || rule.contains("not among the supported");
            let broken = summary.on_cpu.iter().filter(|op| !lacks(&op.rule));
            let told = broken.map(|op| format!("{} {name} {}: {}\n", device.name, op.operator, op.rule));
            all.extend(told);
            if device != &EDGETPU {
                let reference = LITERT.on(&TFLM).integer(graph).unwrap();
                assert!(written(&TFLM, &reference.graph).1 == bytes, "{name}");
            }
        }
    }
    insta::assert_snapshot!(all.into_iter().collect::<String>());
}

/// A function that the accelerator lacks, between two convolutions.
const PARTS: &str = "graph g {
  %x: f32[1,2,8,8] = input
  %w: f32[2,2,3,3] = const WEIGHTS
  %c = conv(stride:[1,1],before:[1,1],after:[1,1],dilation:[1,1],groups:1) %x, %w from net.first (Conv)
  %s = unary(f:Gelu(tanh:false)) %c from net.gelu (Gelu)
  %d = conv(stride:[1,1],before:[1,1],after:[1,1],dilation:[1,1],groups:1) %s, %w from net.second (Conv)
  output y = %d
}
";

/// Where the accelerator runs one part of the model, all that depends on an operator that it lacks runs on the CPU.
#[test]
fn one_part_of_a_model_runs_on_the_accelerator() {
    let dir = tempfile::tempdir().unwrap();
    let weights: Vec<f32> = (0..36).map(|i| (i * 7 % 11) as f32 / 10.0 - 0.5).collect();
    std::fs::write(dir.path().join("model.qir"), PARTS.replace("WEIGHTS", &format!("{weights:?}"))).unwrap();
    let mut said = String::new();
    for io in ["float", "int8"] {
        let int8 = ["--int8", "--data", "random", "--effort", "fast", "--io", io, "-o", "m.tflite"];
        let out = cli::qcc(dir.path(), &[&["model.qir", "--device", "edgetpu"], &int8[..]].concat());
        let text = cli::text(&out.stderr);
        assert!(out.status.success(), "{text}");
        let placed: Vec<&str> = text.split('\n').skip_while(|line| !line.contains("[placement]")).collect();
        said += &format!("{io}\n{}\n", placed.join("\n"));
    }
    insta::assert_snapshot!(said);
}

/// Models for the Edge TPU run in LiteRT, which runs there what the accelerator does not.
#[cfg(feature = "oracles")]
#[test]
fn models_for_the_edge_tpu_run_in_litert() {
    let runtime = LITERT.on(&EDGETPU);
    insta::assert_snapshot!(runtime.integer_tests("edgetpu_int8", &runtime.integer_cases()));
}

/// Two convolutions.
const CONVOLUTIONS: &str = "graph g {
  %x: f32[1,2,8,8] = input
  %w: f32[2,2,3,3] = const WEIGHTS
  %c = conv(stride:[1,1],before:[1,1],after:[1,1],dilation:[1,1],groups:1) %x, %w from net.conv (Conv)
  %s = conv(stride:[4,4],before:[1,1],after:[1,1],dilation:[1,1],groups:1) %c, %w from net.wide (Conv)
  output y = %s
}
";

/// The run names the operators that the accelerator leaves to the CPU, with the rule and their share of the work.
#[test]
fn operators_on_the_cpu_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let weights: Vec<f32> = (0..36).map(|i| (i * 7 % 11) as f32 / 10.0 - 0.5).collect();
    std::fs::write(dir.path().join("model.qir"), CONVOLUTIONS.replace("WEIGHTS", &format!("{weights:?}"))).unwrap();
    let mut said = String::new();
    for device in ["ethos-u55", "ethos-u85", "edgetpu", "xnnpack", "esp32s3", "cmsis-nn"] {
        for more in [&["--io", "float"][..], &["--io", "int8"], &["--io", "int8", "--exclude", "net.wide"]] {
            let args = [
                "model.qir",
                "--device",
                device,
                "--int8",
                "--data",
                "random",
                "--effort",
                "fast",
                "-v",
                "-o",
                "m.tflite",
            ];
            let out = cli::qcc(dir.path(), &[&args[..], more].concat());
            assert!(out.status.success(), "{}", cli::text(&out.stderr));
            let text = cli::text(&out.stderr);
            let placed: Vec<&str> = text.split('\n').skip_while(|line| !line.contains("[placement]")).collect();
            said += &format!("{device} {}\n{}\n", more.join(" "), placed.join("\n"));
        }
    }
    insta::assert_snapshot!(said);
}

/// Inputs and outputs of types that the device lacks get others, and the run says so.
#[test]
fn types_that_the_device_lacks_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let model = "graph g {
        %x: i64[2,3] = input
        %h: f16[2,3] = input
        %y = binary(f:Add) %x, %x
        %z = unary(f:Abs) %h
        output y = %y
        output z = %z
    }";
    std::fs::write(dir.path().join("model.qir"), model).unwrap();
    let out = cli::qcc(dir.path(), &["model.qir", "--device", "tflm", "--verify", "-v", "-o", "m.tflite"]);
    let said = cli::text(&out.stderr);
    assert!(out.status.success(), "{said}");
    for note in
        ["input x is i32 in place of i64", "input h is f32 in place of f16", "output y is i32", "output z is f32"]
    {
        assert!(said.contains(note), "{note}: {said}");
    }
}

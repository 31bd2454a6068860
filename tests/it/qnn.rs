//! Qualcomm's NPUs: the QNN execution provider leaves exactly those operators to the CPU that the run names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use qcc_backends::onnx::QNN;
use qcc_ir::{Elem, Graph};
use qcc_passes::quantize::Interface;

use crate::devices::{misplaced, written};
use crate::runtime::{Runtime, graphs_of};
use crate::{oracle, ort};

/// ONNX Runtime, with models for the device.
const ORT: Runtime = ort::ORT.on(&QNN);

/// What the compiler says of some small models, for example of a transposed tensor of 120 bytes.
const MEMORY: &str = "QNN_COMMON_ERROR_MEM_ALLOC";

/// Only one of so many floating-point graphs is compiled.
const SOME: usize = 23;

/// Writes the model of a graph that is laid out, and adds what the run names.
fn write(folder: &Path, name: &str, graph: &Graph, named: &mut BTreeSet<String>) {
    let (summary, model) = written(&QNN, graph);
    fs::write(folder.join(format!("{name}.onnx")), model).unwrap();
    named.extend(summary.on_cpu.iter().map(|op| format!("{name} {}", op.result)));
}

/// The lines of what the execution provider leaves to the CPU, compared with what the run names. ONNX Runtime converts
/// inputs and outputs on the CPU, and copies outputs of several names there.
fn compared(folder: &Path, named: &BTreeSet<String>) -> String {
    let said = oracle::python_of(".venv-qnn", "tests/run qnn", "qnn.py", folder);
    let lines = said.lines().filter(|line| !line.contains("LIBNATIVE") && !line.contains(MEMORY));
    let said: String = lines.map(|line| format!("{line}\n")).collect();
    let failed: String = said.lines().filter(|line| line.contains(" fails: ")).collect();
    failed + &misplaced(&said, named)
}

/// An empty folder of that name for models.
fn empty(name: &str) -> PathBuf {
    let folder = oracle::folder().join(name);
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// All operators of quantized graphs run on the NPU.
#[test]
fn qnn_runs_integers() {
    let folder = empty("qnn");
    let (mut named, mut count) = (BTreeSet::new(), 0);
    for graph in graphs_of(include_str!("../cases/int8.qir")) {
        let Ok(case) = ORT.integer_with(graph, Interface::Float) else { continue };
        write(&folder, &case.name, &case.graph, &mut named);
        count += 1;
    }
    assert!(count > 90, "{count}");
    let wrong = compared(&folder, &named);
    assert!(wrong.is_empty(), "{wrong}");
    assert!(named.is_empty(), "{named:?}");
}

/// Floats of 32 bits become floats of 16 bits there.
#[test]
fn qnn_runs_floats() {
    let folder = empty("qnn_float");
    let mut named = BTreeSet::new();
    let wide = |g: &Graph| g.inputs().all(|v| matches!(g.ty(v).elem, Elem::F32 | Elem::I32 | Elem::Bool));
    let graphs = qcc_ir::testing::operators().into_iter().map(|case| case.graph).filter(wide);
    for (i, graph) in graphs.enumerate().filter(|(i, _)| i % SOME == 0) {
        let Ok(mut graph) = ORT.lowered(graph) else { continue };
        // Some values of more axes belong to patterns that the execution provider recognizes.
        let deep = graph.order().into_iter().flat_map(|n| graph.results(n)).any(|v| graph.ty(v).rank() > 5);
        if !deep && ORT.written(&mut graph).is_ok() {
            write(&folder, &format!("{i:05}"), &graph, &mut named);
        }
    }
    let wrong = compared(&folder, &named);
    assert!(wrong.is_empty(), "{wrong}");
}

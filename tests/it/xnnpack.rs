//! XNNPACK: LiteRT leaves exactly those operators to its own kernels that the run names.

use std::collections::BTreeSet;
use std::fs;

use qcc_backends::tflite::XNNPACK;
use qcc_ir::{Graph, StorageType};
use qcc_passes::{Context, Pipeline, Settings, Stage, ignore};

use crate::devices::{misplaced, written};
use crate::litert::LITERT;
use crate::oracle;
use crate::runtime::{Runtime, graphs_of};

#[test]
fn litert_runs_in_xnnpack_what_the_run_says() {
    let folder = oracle::folder().join("xnnpack");
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let runtime = LITERT.on(&XNNPACK);
    let mut named = BTreeSet::new();
    let layout = |g: &mut Graph| {
        let mut cx = Context::new(&XNNPACK.target);
        Pipeline::new(&Settings::default()).run(Stage::Layout..=Stage::Layout, g, &mut cx, &mut ignore)
    };
    let mut write = |kind: &str, name: &str, graph: &Graph| {
        let (summary, bytes) = written(&XNNPACK, graph);
        fs::write(folder.join(format!("{name}.{kind}.tflite")), bytes).unwrap();
        named.extend(summary.on_cpu.iter().map(|op| format!("{name}.{kind} {}", op.result)));
    };
    for graph in graphs_of(include_str!("../cases/int8.qir")) {
        let name = graph.name.clone();
        let mut float = runtime.lowered(graph.clone()).unwrap();
        layout(&mut float).unwrap();
        write("float", &name, &float);
        let case = runtime.integer(graph.clone()).unwrap();
        write("int8", &name, &case.graph);
        let wide = Runtime { storage: StorageType::I16, ..runtime };
        if let Ok(case) = wide.integer(graph) {
            write("int16", &name, &case.graph);
        }
    }
    let said = oracle::python("xnnpack.py", &folder);
    let wrong = misplaced(&said, &named);
    assert!(wrong.is_empty(), "{wrong}");
    insta::assert_snapshot!(named.into_iter().map(|line| line + "\n").collect::<String>());
}

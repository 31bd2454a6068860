//! Arm Ethos-U: Vela, the compiler for it, leaves exactly those operators to the CPU that the run names.

use std::collections::BTreeSet;
use std::fs;

use qcc_backends::Device;
use qcc_backends::tflite::{ETHOS_U55, ETHOS_U65, ETHOS_U85};

use crate::devices::{misplaced, written};
use crate::micro::MICRO;
use crate::oracle;
use crate::runtime::graphs_of;

/// The Ethos-U65 has the rules of the Ethos-U55: only one of so many cases is compiled for it.
const SOME: usize = 8;

#[test]
fn vela_leaves_to_the_cpu_what_the_run_names() {
    let folder = oracle::folder().join("vela");
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let mut named: BTreeSet<String> = BTreeSet::new();
    let devices: [&'static Device; 3] = [&ETHOS_U55, &ETHOS_U65, &ETHOS_U85];
    for device in devices {
        let runtime = MICRO.on(device);
        let graphs = graphs_of(include_str!("../cases/int8.qir"));
        let step = if device == &ETHOS_U65 { SOME } else { 1 };
        for graph in graphs.into_iter().step_by(step) {
            let Ok(case) = runtime.integer(graph) else { continue };
            let stem = format!("{}.{}", case.name, device.name);
            let (summary, model) = written(device, &case.graph);
            fs::write(folder.join(format!("{stem}.tflite")), model).unwrap();
            named.extend(summary.on_cpu.iter().map(|op| format!("{stem} {}", op.result)));
        }
    }
    let said = oracle::python_of(".venv-vela", "tests/run vela", "vela.py", &folder);
    assert!(!said.contains(" fails: "), "{said}");
    let wrong = misplaced(&said, &named);
    assert!(wrong.is_empty(), "{wrong}");
    let all: String = named.iter().map(|line| format!("{line}\n")).collect();
    insta::assert_snapshot!(all);
}

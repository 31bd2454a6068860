//! Devices whose compilers are not run: what is written for them, and what is refused.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use qcc_backends::Device;
use qcc_backends::openvino::NPU;

use crate::devices::written;
use crate::runtime::{Runtime, graphs_of};
use crate::{cli, openvino};

/// OpenVINO, with models for Intel's NPUs.
const OPENVINO: Runtime = openvino::OPENVINO.on(&NPU);

/// The types of the layers of a file.
fn layers(xml: &str) -> BTreeSet<&str> {
    let rest = xml.split("<layer ").skip(1).filter_map(|layer| layer.split_once(" type=\""));
    rest.filter_map(|(_, rest)| Some(rest.split_once('"')?.0)).collect()
}

/// Every operator and every quantized case is written with operators that the device has.
#[test]
fn layers_are_those_of_the_npu() {
    let known: BTreeSet<&str> = (NPU.operators)().into_iter().chain(["Const", "Parameter", "Result"]).collect();
    let operators = qcc_ir::testing::operators().into_iter().map(|case| case.graph).step_by(7);
    let floats = operators.filter_map(|graph| OPENVINO.lowered(graph).ok());
    let cases = graphs_of(include_str!("../cases/int8.qir")).into_iter();
    let integers = cases.filter_map(|graph| Some(OPENVINO.integer(graph).ok()?.graph));
    let (mut count, mut odd) = (0, BTreeSet::new());
    for mut graph in floats.chain(integers) {
        if OPENVINO.written(&mut graph).is_err() {
            continue;
        }
        let xml = String::from_utf8(written(&NPU, &graph).1).unwrap();
        odd.extend(layers(&xml).difference(&known).map(|&layer| layer.to_owned()));
        count += 1;
    }
    assert!(odd.is_empty(), "{odd:?}");
    assert!(count > 1000, "{count}");
}

#[cfg(feature = "oracles")]
#[test]
fn models_for_the_npu_run_on_cpus() {
    insta::assert_snapshot!(OPENVINO.integer_tests("npu_int8", &OPENVINO.integer_cases()));
}

/// Operators that one or the other device lacks, with extents that are not known.
const LACKING: &str = "graph g {
  %x: f32[n,2,8,8] = input
  %i: f32[4,5] = input
  %s = unary(f:Softsign) %x from net.soft (Softsign)
  %e = unary(f:Erf) %i from net.erf (Erf)
  %u = scatter_nd(f:Max) %i, %k, %v from net.scatter (ScatterND)
  output y = %s
  output z = %e
  output w = %u
}
";

/// Open extents, and what the devices lack.
#[test]
fn what_npus_lack_is_told() {
    let dir = cli::folder();
    let model = LACKING.replace("  %s =", "  %k: i64[3,1] = const [3,1,2]\n  %v: f32[3,5] = input\n  %s =");
    std::fs::write(dir.path().join("model.qir"), model).unwrap();
    let mut said = String::new();
    let devices: [&Device; 2] = [&NPU, &qcc_backends::onnx::QNN];
    for device in devices {
        for more in [&[][..], &["--w8a16", "--data", "random"]] {
            let out = cli::qcc(dir.path(), &[&["model.qir", "--device", device.name, "-v", "-o", "m"], more].concat());
            let text = cli::text(&out.stderr);
            let told = text.split("\ntarget ").next().unwrap_or_default();
            _ = writeln!(said, "{} {}: {}\n{told}", device.name, more.join(" "), out.status.success());
        }
    }
    insta::assert_snapshot!(said);
}

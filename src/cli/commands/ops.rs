//! `qcc ops`.

use crate::frontends::{onnx_operators, openvino_operators, tflite_operators, torch_operators};

use crate::cli::args::{Ops, Spelling};
use crate::cli::report;

/// Lists the supported operators of a source format, or those of a device, one per line.
pub(crate) fn ops(args: &Ops) -> u8 {
    let owned = |names: Vec<&str>| names.into_iter().map(String::from).collect();
    let names: Vec<String> = match args.of {
        Spelling::Onnx => owned(onnx_operators()),
        Spelling::Pt2 => owned(torch_operators()),
        Spelling::Tflite => tflite_operators(),
        Spelling::Openvino => owned(openvino_operators()),
        Spelling::Device(device) => owned((device.operators)()),
    };
    report::say(&(names.join("\n") + "\n"));
    report::DONE
}

//! A custom backend that writes a C header with the weights and a list of the operators.
//!
//! `cargo run --example custom_backend`
#![expect(clippy::print_stdout, reason = "examples print what they do")]

use std::error::Error;
use std::fmt::Write;
use std::path::Path;

use qcc::backends::{Attachments, Backend, Files, Format, Memory, Summary};
use qcc::frontends::Model;
use qcc::ir::diagnostic::Diagnostic;
use qcc::ir::ops::{Op, OpKind};
use qcc::ir::target::{Kernel, Target};
use qcc::ir::{Checked, Elem};
use qcc::{Compiler, NoObserver, Options, Precision};

/// Writes C headers for a small interpreter with N,C,H,W images.
#[derive(Debug)]
struct Header {
    target: Target,
}

impl Header {
    fn new() -> Self {
        // Everything else is as for ONNX: row-major, in single precision.
        let mut target = Format::Onnx.target().clone();
        target.name = "header";
        target.kernel = |op, _| {
            let has = matches!(
                op.kind(),
                OpKind::Input
                    | OpKind::Const
                    | OpKind::Conv
                    | OpKind::MatMul
                    | OpKind::Pool
                    | OpKind::Reshape
                    | OpKind::Clamp
                    | OpKind::Binary
            );
            has.then_some(Kernel::FLOAT)
        };
        Header { target }
    }
}

impl Backend for Header {
    fn target(&self) -> &Target {
        &self.target
    }

    fn extension(&self) -> &str {
        "h"
    }

    /// The graph is checked, so it has only the operators above.
    fn write(&self, graph: Checked<'_>, _: &Attachments, files: &mut dyn Files) -> Result<Summary, Vec<Diagnostic>> {
        let (mut text, mut summary) = (String::from("#pragma once\n"), Summary::default());
        let g = graph.graph();
        for node in g.order() {
            if let Op::Const(c) = g.op(node) {
                if c.value.ty().elem != Elem::F32 {
                    let error = Diagnostic::error("header", format!("a constant is {}", c.value.ty()));
                    return Err(vec![error.at(g.origin(node)).with_help("give a float model")]);
                }
                let numbers: Vec<String> = c.value.floats().iter().map(|x| format!("{x:e}f")).collect();
                let (n, name) = (numbers.len(), summary.constants);
                let _ = writeln!(text, "static const float w{name}[{n}] = {{{}}};", numbers.join(","));
                summary.constants += 1;
            } else if !matches!(g.op(node), Op::Input(_)) {
                let _ = writeln!(text, "// {} {}", g.op(node).kind().name(), g.origin(node));
                summary.operators += 1;
            }
        }
        let main = files.main().to_owned();
        let failed = |e: std::io::Error| vec![Diagnostic::error("write", e.to_string())];
        files.create(&main).and_then(|file| file.write_all(text.as_bytes())).map_err(failed)?;
        summary.bytes = text.len() as u64;
        Ok(summary)
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/mnist_lenet.onnx");
    let model = Model::open(&path).map_err(qcc::Failure::from)?;
    let backend: std::sync::Arc<dyn Backend> = std::sync::Arc::new(Header::new());
    let options = Options::new([backend], Precision::Float32);
    let mut compiled = Compiler::new(options).compile_model(&model, &mut NoObserver)?;
    let mut files = Memory::new("lenet.h");
    let summary = compiled.write(0, &mut files)?;
    let text = String::from_utf8_lossy(&files.files["lenet.h"]).into_owned();
    println!("{} operators, {} constants, {} bytes", summary.operators, summary.constants, summary.bytes);
    text.lines().filter(|line| line.starts_with("//")).for_each(|line| println!("{line}"));
    Ok(())
}

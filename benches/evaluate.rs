//! Benchmark of the evaluator on one sample and one thread: `cargo bench --bench evaluate -- MODEL.onnx [RUNS]` prints
//! the least time of a run in milliseconds, and the extents of each input: typical ones where they are open.
//! `benches/compare.py` compares it with ONNX Runtime.
#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

use std::path::Path;
use std::time::Instant;

use qcc_backends::Format;
use qcc_frontends::ImportOptions;
use qcc_ir::eval::Executor;
use qcc_ir::{Elem, Tensor};
use qcc_passes::{Context, Pipeline, Settings, Stage, ignore};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let model = arguments.next().unwrap_or_else(|| "tests/models/mnist_lenet.onnx".into());
    let runs: usize = arguments.next().map_or(Ok(15), |n| n.parse())?;
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;

    let imported = qcc_frontends::open(Path::new(&model), &ImportOptions::default());
    let imported =
        imported.map_err(|all| all.into_iter().next().map_or_else(|| "refused".into(), |d| d.to_string()))?;
    let mut graph = imported.graph.typical().into_owned();
    let mut context = Context::new(Format::Tflite.target());
    Pipeline::new(&Settings::default()).run(..=Stage::Lower, &mut graph, &mut context, &mut ignore)?;

    let input = |ty: &qcc_ir::TensorType| {
        let count = ty.shape.elements().ok_or("inputs must have known shapes")?;
        Ok::<_, &str>(match ty.elem {
            Elem::F32 => Tensor::of(ty.clone(), (0..count).map(|i| (i * 7919 % 256) as f32 / 255.0).collect()),
            // Indices and masks.
            Elem::I64 => Tensor::of(ty.clone(), (0..count).map(|i| (i % 2) as i64).collect()),
            Elem::I32 => Tensor::of(ty.clone(), (0..count).map(|i| (i % 2) as i32).collect()),
            _ => return Err("inputs must be f32, i64 or i32"),
        })
    };
    let sample = graph.inputs().map(|v| input(graph.ty(v))).collect::<Result<Vec<_>, _>>()?;
    let executor = Executor::only(&graph, &[]);
    let mut least = f64::INFINITY;
    for _ in 0..=runs {
        let start = Instant::now();
        executor.run(&sample, &mut |_, _| {})?;
        least = least.min(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{least:.3}");
    for tensor in &sample {
        println!("{}", tensor.dims().iter().map(usize::to_string).collect::<Vec<_>>().join(" "));
    }
    Ok(())
}

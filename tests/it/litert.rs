//! What LiteRT makes of the models that qcc writes, against qcc's evaluator.

use std::fmt::Write;

use bytes::Bytes;
use qcc_backends::Backend;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::{Executor, relayout};
use qcc_ir::{Graph, Layout, Tensor};
use qcc_passes::layout::{ImageOrder, Interface, layout};
use qcc_passes::lower::lower;
use qcc_passes::simplify::{simplify, tidy};
use qcc_passes::{Context, Pass, PassError};

use crate::onnx_nodes;
use crate::oracle::{self, Outcome, Run};

/// Relative and absolute difference of floats: kernels sum and approximate in their own ways.
const CLOSE: (f32, f32) = (1e-4, 1e-5);

/// Models that LiteRT refuses to run, and why.
const REFUSED_BY_LITERT: [(&str, &str); 2] = {
    let negative = "LiteRT takes no negative indices, and these are known when the model runs only";
    [("test_gather_elements_negative_indices", negative), ("test_gather_negative_indices", negative)]
};

fn run_passes(g: &mut Graph, passes: Vec<Box<dyn Pass>>) -> Result<(), PassError> {
    let mut cx = Context { target: Backend::Tflite.target(), diagnostics: Vec::new() };
    qcc_passes::run(&passes, g, &mut cx, &mut |_, _| {})
}

/// Simplifies and lowers an imported graph.
fn lowered(mut g: Graph) -> Result<Graph, PassError> {
    run_passes(&mut g, [simplify(), lower(), tidy()].into_iter().flatten().collect())?;
    Ok(g)
}

/// Lays out a lowered graph and writes it.
fn written(g: &mut Graph) -> Result<Bytes, String> {
    let order = ImageOrder::Nhwc;
    let mut passes = vec![layout(Interface { input: order, output: order })];
    passes.extend(tidy());
    run_passes(g, passes).map_err(|e| e.to_string())?;
    let mut file = Vec::new();
    Backend::Tflite.write(g, &mut file).map_err(message)?;
    Ok(file.into())
}

/// The first of the messages.
fn message(diagnostics: Vec<Diagnostic>) -> String {
    diagnostics.into_iter().next().map(|d| d.message).unwrap_or_default()
}

/// Row-major tensors as the graph's inputs lie.
fn laid_out(g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    g.inputs().zip(inputs).map(|(v, t)| relayout(t, &g.ty(v).layout).unwrap()).collect()
}

fn row_major(t: &Tensor) -> Tensor {
    relayout(t, &Layout::row_major(t.ty().rank())).unwrap()
}

/// What LiteRT gave as the outputs of the compiled graph, row-major.
fn outputs(g: &Graph, outcome: &Outcome) -> Result<Vec<Tensor>, String> {
    let found = outcome.as_ref().map_err(|why| format!("LiteRT: {why}"))?;
    if found.len() != g.outputs().len() {
        return Err(format!("{} outputs, expected {}", found.len(), g.outputs().len()));
    }
    let typed = |(o, t): (&qcc_ir::Output, &Tensor)| {
        let ty = g.ty(o.value);
        let stored = ty.elem.grid().map_or_else(|| ty.elem.clone(), |grid| grid.store.elem());
        if t.ty().elem != stored || t.ty().shape != ty.layout.physical(&ty.shape) {
            return Err(format!("{} is {}, expected {ty}", o.name, t.ty()));
        }
        Ok(row_major(&t.retype(ty.clone()).unwrap()))
    };
    g.outputs().iter().zip(found).map(typed).collect()
}

fn evaluate(g: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
    let results = Executor::new(g).run(&laid_out(g, inputs), &mut |_, _| {}).map_err(|e| e.to_string())?;
    Ok(results.iter().map(row_major).collect())
}

#[test]
fn float_node_tests_run_in_litert() {
    let (mut refused, mut cases, mut runs) = (String::new(), Vec::new(), Vec::new());
    for (name, source, inputs) in onnx_nodes::imported() {
        let expected = evaluate(&source, &inputs).unwrap();
        let compiled = lowered(source).map_err(|e| e.to_string()).and_then(|mut g| Ok((written(&mut g)?, g)));
        match compiled {
            Ok((model, g)) => {
                runs.push(Run { model, inputs: laid_out(&g, &inputs), delegates: true });
                cases.push((name, g, expected));
            }
            Err(why) => _ = writeln!(refused, "{name}: {why}"),
        }
    }
    let (mut equal, mut wrong) = (String::new(), String::new());
    for ((name, g, expected), outcome) in cases.iter().zip(oracle::litert("litert_nodes", &runs)) {
        if let (Some((_, why)), Err(_)) = (REFUSED_BY_LITERT.iter().find(|(n, _)| n == name), &outcome) {
            _ = writeln!(refused, "{name}: {why}");
            continue;
        }
        _ = match outputs(g, &outcome).and_then(|found| all_close(&found, expected)) {
            Ok(()) => writeln!(equal, "{name}"),
            Err(why) => writeln!(wrong, "{name}: {why}"),
        };
    }
    assert!(wrong.is_empty(), "wrong in LiteRT: {}\n{wrong}", wrong.lines().count());
    let count = |list: &str| list.lines().count();
    insta::assert_snapshot!(format!("equal: {}\n{equal}\nrefused: {}\n{refused}", count(&equal), count(&refused)));
}

fn all_close(found: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        if let Some(difference) = oracle::difference(f, e, CLOSE.0, CLOSE.1) {
            return Err(format!("output {i}: {difference}"));
        }
    }
    Ok(())
}

//! Small ONNX models with inputs and expected outputs: each is imported, evaluated and compared, or refused with a reason.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use qcc_frontends::{ImportOptions, Imported, Model};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::Executor;
use qcc_ir::eval::opaque;
use qcc_ir::{Graph, Tensor};

use crate::oracle::{self, Span, Stored};
use crate::runtime::difference;

#[derive(Debug, serde::Deserialize)]
struct Case {
    name: String,
    rtol: f32,
    atol: f32,
    model: Span,
    sets: Vec<DataSet>,
}

/// Models that an oracle script writes.
#[derive(Debug)]
pub(crate) struct Suite {
    /// Name of the script and of its files.
    pub(crate) name: &'static str,
    /// True where a snapshot lists the names of all tests.
    listed: bool,
    /// Tests whose expected results are considered wrong, and why.
    dissent: &'static [(&'static str, &'static str)],
}

/// The node tests of the ONNX standard.
pub(crate) const NODES: Suite = Suite {
    name: "onnx_nodes",
    listed: true,
    dissent: {
        const EXTENT: &str =
            "aligned corners: expects an extent that is not rounded, against the standard's text and ONNX Runtime";
        const NOISE: &str = "expects the rounding errors of another computation where the result is 0";
        &[
            ("test_dft_inverse", NOISE),
            ("test_dft_inverse_opset19", NOISE),
            ("test_resize_downsample_scales_cubic_align_corners", EXTENT),
            ("test_resize_downsample_scales_linear_align_corners", EXTENT),
        ]
    },
};

/// Operators with many combinations of attributes, with ONNX Runtime's results.
pub(crate) const SWEEP: Suite = Suite { name: "sweep", listed: false, dissent: &[] };

/// Inputs and expected outputs in the model's order; absent if qcc has no type for a value.
type DataSet = (Vec<Option<Stored>>, Vec<Option<Stored>>);

impl Suite {
    fn read(&self) -> (Vec<Case>, Bytes) {
        let cases = serde_json::from_slice(&oracle::read(&format!("{}.json", self.name))).expect("a list of cases");
        (cases, oracle::read(&format!("{}.bin", self.name)))
    }

    /// Name, graph and inputs of each test that qcc imports.
    pub(crate) fn imported(&self) -> Vec<(String, Graph, Vec<Tensor>)> {
        let (cases, file) = self.read();
        let import_case = |case: &Case, (inputs, _): &DataSet| {
            let inputs: Option<Vec<Tensor>> =
                inputs.iter().map(|stored| Some(stored.as_ref()?.tensor(&file))).collect();
            let (imported, inputs) = import(case.model.of(&file), inputs?, Computed::Refused).ok()?;
            let inputs = ordered(&imported.graph, &inputs).ok()?;
            Some((case.name.clone(), imported.graph, inputs))
        };
        cases.iter().flat_map(|c| c.sets.iter().filter_map(|set| import_case(c, set)).collect::<Vec<_>>()).collect()
    }

    /// Names of the tests that pass, and of those that are refused with the reason. Fails if a result is wrong.
    fn evaluated(&self) -> (String, String) {
        let (cases, file) = self.read();
        let (mut passed, mut refused, mut failed) = (String::new(), String::new(), String::new());
        for case in &cases {
            for set in &case.sets {
                let dissent = self.dissent.iter().find(|(name, _)| *name == case.name);
                _ = match run(case, set, &file).map_err(|why| dissent.map_or(why, |(_, d)| Why::Refused((*d).into()))) {
                    Ok(()) => writeln!(passed, "{}", case.name),
                    Err(Why::Refused(why)) => writeln!(refused, "{}: {why}", case.name),
                    Err(Why::Failed(why)) => writeln!(failed, "{}: {why}", case.name),
                };
            }
        }
        assert!(failed.is_empty(), "wrong results: {}\n{failed}", failed.lines().count());
        (passed, refused)
    }
}

/// Two lists and their lengths for a snapshot; for a suite that is not `listed`, only lengths and reasons.
pub(crate) fn counted(suite: &Suite, first: (&str, &str), refused: &str) -> String {
    let count = |list: &str| list.lines().count();
    if !suite.listed {
        let mut reasons = BTreeMap::<&str, usize>::new();
        for line in refused.lines() {
            *reasons.entry(line.split_once(": ").map_or(line, |(_, why)| why)).or_default() += 1;
        }
        let reasons: String = reasons.into_iter().map(|(why, count)| format!("{count} {why}\n")).collect();
        return format!("{}: {}\nrefused: {}\n{reasons}", first.0, count(first.1), count(refused));
    }
    format!("{}: {}\n{}\nrefused: {}\n{refused}", first.0, count(first.1), first.1, count(refused))
}

#[test]
fn node_tests_pass_or_are_refused() {
    let (passed, refused) = NODES.evaluated();
    insta::assert_snapshot!(counted(&NODES, ("passed", &passed), &refused));
}

#[test]
fn swept_operators_mean_what_onnx_runtime_computes() {
    let (passed, refused) = SWEEP.evaluated();
    insta::assert_snapshot!(counted(&SWEEP, ("passed", &passed), &refused));
}

enum Why {
    Refused(String),
    Failed(String),
}

fn run(case: &Case, (inputs, outputs): &DataSet, file: &Bytes) -> Result<(), Why> {
    let load = |list: &[Option<Stored>]| -> Option<Vec<Tensor>> {
        list.iter().map(|stored| Some(stored.as_ref()?.tensor(file))).collect()
    };
    let (model, inputs, outputs) = (case.model.of(file), load(inputs), load(outputs));
    let (imported, inputs) = import(model, inputs.unwrap_or_default(), Computed::Allowed).map_err(Why::Refused)?;
    let results = evaluate(&imported.graph, &inputs).map_err(Why::Failed)?;
    let outputs = outputs.ok_or_else(|| Why::Failed("imported, though its results have no type in qcc".into()))?;
    if results.len() != outputs.len() {
        return Err(Why::Failed(format!("{} results, expected {}", results.len(), outputs.len())));
    }
    let differences = results.iter().zip(&outputs).enumerate().filter_map(|(i, (found, expected))| {
        Some(format!("output {i}: {}", difference(found, expected, case.rtol, case.atol)?))
    });
    match differences.reduce(|all, one| all + "; " + &one) {
        Some(differences) => Err(Why::Failed(differences)),
        None => Ok(()),
    }
}

/// Whether extents may be computed at run time.
#[derive(Clone, Copy, PartialEq)]
enum Computed {
    Allowed,
    Refused,
}

/// Imports a model with inputs of the given shapes. The standard's tests pass shapes, axes and other parameters as
/// inputs; if an import or `computed` refuses that, integers become constants, then all inputs but the first.
fn import(model: Bytes, values: Vec<Tensor>, computed: Computed) -> Result<(Imported, Vec<(String, Tensor)>), String> {
    let model = Model::read(model, "".as_ref()).map_err(messages)?;
    let declared = model.inputs().map_err(messages)?;
    let inputs: Vec<(String, Tensor)> = declared.into_iter().map(|d| d.name).zip(values).collect();
    let shapes: Vec<_> =
        inputs.iter().map(|(name, value)| (name.clone(), value.dims().into_iter().map(Some).collect())).collect();
    let constant: [fn(usize, &Tensor) -> bool; 3] = [|_, _| false, |_, value| value.integers().is_some(), |i, _| i > 0];
    let mut refusal = String::new();
    for constant in constant {
        let fixed = inputs.iter().enumerate().filter(|(i, (_, value))| constant(*i, value));
        let values = fixed.map(|(_, (name, value))| (name.clone(), numbers(value))).collect();
        match model.import(&ImportOptions { shapes: shapes.clone(), values, ..ImportOptions::default() }) {
            Ok(imported) if !opaque(&imported.graph).is_empty() => {
                return Err("it has a custom operator, which is carried through".into());
            }
            Ok(imported) if computed == Computed::Refused && imported.graph.is_open() => {
                refusal = "its extents are computed".into();
            }
            Ok(imported) => return Ok((imported, inputs)),
            Err(diagnostics) => refusal = messages(diagnostics),
        }
    }
    Err(refusal)
}

fn numbers(value: &Tensor) -> Vec<f64> {
    match value.integers() {
        Some(integers) => integers.into_iter().map(|v| v as f64).collect(),
        None => value.floats().iter().map(|&v| f64::from(v)).collect(),
    }
}

fn messages(diagnostics: Vec<Diagnostic>) -> String {
    let messages: Vec<&str> = diagnostics.iter().map(|d| d.message.as_str()).collect();
    messages.join("; ").replace('\n', " ")
}

/// The inputs in the graph's order and types.
fn ordered(graph: &Graph, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, String> {
    let given = |v| {
        let name = graph.name(v).ok_or("an input without a name")?;
        let value = &inputs.iter().find(|(n, _)| **n == **name).ok_or_else(|| format!("no value for {name}"))?.1;
        // Values of types that qcc does not have are stored in wider integers.
        let cast = qcc_ir::ops::Op::from(qcc_ir::ops::Cast { to: graph.ty(v).elem.clone() });
        cast.eval(&[value]).map(|mut t| t.swap_remove(0)).map_err(|e| e.to_string())
    };
    graph.inputs().map(given).collect()
}

fn evaluate(graph: &Graph, inputs: &[(String, Tensor)]) -> Result<Vec<Tensor>, String> {
    Executor::new(graph).run(&ordered(graph, inputs)?, &mut |_, _| {}).map_err(|e| e.to_string())
}

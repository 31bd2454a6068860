//! Where the operators of an artefact run, for devices with an accelerator or faster kernels.

use std::collections::{BTreeMap, HashSet};

use qcc_backends::{Device, OnCpu, Summary};
use qcc_ir::Graph;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::target::Target;

use crate::cost;

/// The number of operators that a note lists by name.
const MOST_LISTED: usize = 8;

/// Tells which operators run on the CPU, with the rule that each breaks and their share of the multiply-accumulates;
/// `None` for devices that run all alike.
pub(crate) fn placement(device: &Device, target: &Target, graph: &Graph, summary: &Summary) -> Option<Diagnostic> {
    let split = device.split()?;
    let (all, on_cpu) = (summary.operators, &summary.on_cpu);
    if on_cpu.is_empty() {
        let message = format!("{}: all {all} operators run {}", device.name, split.fast);
        return Some(Diagnostic::note("placement", message));
    }
    let nodes: HashSet<_> = on_cpu.iter().map(|op| op.node).collect();
    let steps = cost::steps(graph, target);
    let work = |on_cpu: bool| -> u64 {
        let counted = steps.iter().filter(|s| !on_cpu || nodes.contains(&s.node));
        counted.map(|s| s.work.total()).sum()
    };
    let share = 100.0 * work(true) as f64 / (work(false) as f64).max(1.0);
    let message = format!(
        "{}: {} of {all} operators run {}, not {}: {share:.1} % of the multiply-accumulates",
        device.name,
        on_cpu.len(),
        split.slow,
        split.fast
    );
    let mut by_rule: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    on_cpu.iter().for_each(|op| by_rule.entry(&op.rule).or_default().push(place(graph, op)));
    let mut warning = Diagnostic::warning("placement", message);
    for (rule, places) in by_rule {
        let mut listed = places[..places.len().min(MOST_LISTED)].join(", ");
        if places.len() > MOST_LISTED {
            listed += &format!(" and {} more", places.len() - MOST_LISTED);
        }
        warning = warning.with_note(format!("{rule}: {listed}"));
    }
    let interface = |op: &OnCpu| ["QUANTIZE", "DEQUANTIZE"].contains(&&*op.operator);
    Some(match on_cpu.iter().any(|op| !interface(op)) {
        true => warning.with_help(split.help),
        false => warning.with_help("--io int8 makes inputs and outputs integers, which need no conversion"),
    })
}

/// The operator, and the node of the source model or else the value that it computes.
fn place(graph: &Graph, op: &OnCpu) -> String {
    let path = graph.place(op.node).path().to_owned();
    format!("{} ({})", op.operator, if path.is_empty() { &op.result } else { &path })
}

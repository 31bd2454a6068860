//! The memory limit of evaluations, checked before they begin.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::eval::Peak;
use qcc_ir::{Graph, Origin};
use qcc_passes::SharedGraph;
use qcc_passes::calibrate::STATISTICS_BYTES;

/// Maximum bytes of values of all concurrent evaluations, if the system has as many.
pub(crate) const EVALUATION_BYTES: u64 = 4 << 30;

/// Bytes that evaluations may use now.
fn room() -> u64 {
    available().map_or(EVALUATION_BYTES, |n| n.min(EVALUATION_BYTES))
}

/// Bytes of memory that are available to this process, if known.
#[cfg(target_os = "linux")]
fn available() -> Option<u64> {
    // In kB and in pages (proc(5)).
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let free =
        text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    let free = free.saturating_mul(1024);
    let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::As).current else { return Some(free) };
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').next()?.parse().ok()?;
    let taken = pages.saturating_mul(rustix::param::page_size() as u64);
    Some(free.min(limit.saturating_sub(taken)))
}

#[cfg(not(target_os = "linux"))]
fn available() -> Option<u64> {
    None
}

/// The number of concurrent evaluations of `graph` with the given `peak` that fit into memory, next to `besides` bytes.
///
/// # Errors
/// If not even one fits.
pub(crate) fn evaluations(graph: &Graph, peak: Peak, besides: u64) -> Result<usize, Box<Diagnostic>> {
    let (needed, room) = (peak.bytes.saturating_add(besides), room());
    if needed > room {
        let origin = peak.node.map_or_else(Origin::none, |n| graph.place(n));
        let message =
            format!("to evaluate the model takes {} for values; there is room for {}", bytes(needed), bytes(room));
        let error = Diagnostic::error("too-large", message).at(&origin);
        let limit = format!("at most {} are used, and no more than the system has", bytes(EVALUATION_BYTES));
        let error = error.with_note(limit).with_help("give smaller inputs: --shape; or compile without data");
        return Err(Box::new(error));
    }
    Ok(usize::try_from(room.saturating_sub(besides) / peak.bytes.max(1)).unwrap_or(usize::MAX).max(1))
}

/// Fails if the graphs are too large to be evaluated at typical extents, else limits the number of concurrent evaluations
/// to what fits into memory. The comparison of a graph with the float graph also holds its outputs, and a quarter for 8-bit values.
pub(crate) fn limit_evaluations(joint: &mut SharedGraph) -> Result<(), Box<Diagnostic>> {
    let Some(peak) = joint.peak() else { return Ok(()) };
    let graph = joint.graph().typical();
    let outputs = graph.outputs().iter().filter_map(|o| graph.ty(o.value).bytes()).map(|n| n as u64).sum::<u64>();
    let remembered = joint.values() as u64 * STATISTICS_BYTES;
    let one = Peak { bytes: peak.bytes.saturating_add(peak.bytes / 4 + outputs).saturating_add(remembered), ..peak };
    let at_once = evaluations(&graph, one, remembered)?.min(rayon::current_num_threads());
    drop(graph);
    joint.at_once = at_once;
    Ok(())
}

fn bytes(n: u64) -> String {
    match n {
        0..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_refused_before_it_begins() {
        let graph = Graph::new("g");
        let peak = |bytes| Peak { bytes, node: None };
        assert_eq!(evaluations(&graph, peak(0), 0).unwrap(), room() as usize);
        let room = evaluations(&graph, peak(1 << 20), 0).unwrap() as u64;
        assert!(room > 0 && room <= EVALUATION_BYTES >> 20);
        for (one, besides) in [(EVALUATION_BYTES + 1, 0), (1, EVALUATION_BYTES), (u64::MAX, u64::MAX)] {
            let error = evaluations(&graph, peak(one), besides).unwrap_err();
            assert!(error.message.contains(" GB for values") && error.help.is_some(), "{error:?}");
        }
    }
}

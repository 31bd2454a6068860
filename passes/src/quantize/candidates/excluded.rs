//! Vetoes nodes that the user or the source model requires in floating point.

use qcc_ir::{Graph, NodeId};
use rustc_hash::FxHashSet;

use super::{Case, Vetoes};
use crate::decisions::Reason;

pub(super) fn vetoes(case: &Case<'_>, able: &FxHashSet<NodeId>) -> Vetoes {
    let named = |n: NodeId| {
        let mut sources = case.g.origin(n).sources().iter();
        sources.any(|s| case.options.exclude.iter().any(|p| matches(p, &s.path)))
    };
    let reason = |n: NodeId| match case.float_in_source.contains(&n) {
        true => Some(Reason::GivenFloat),
        false => named(n).then_some(Reason::Excluded),
    };
    case.able(able).filter_map(|n| Some((n, reason(n)?))).collect()
}

/// The patterns that match no node name.
pub fn unmatched<'p>(g: &Graph, patterns: &'p [String]) -> Vec<&'p String> {
    let order = g.order();
    let hit = |p: &str| order.iter().any(|&n| g.origin(n).sources().iter().any(|s| matches(p, &s.path)));
    patterns.iter().filter(|p| !hit(p)).collect()
}

/// True if `pattern` matches all of `name`. `*` stands for any characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|p| name.strip_prefix(p)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        assert!(matches("/model.23/*", "/model.23/cv2/Conv"));
        assert!(matches("*cv2*Conv", "/model.23/cv2/Conv"));
        assert!(matches("a", "a"));
        assert!(!matches("a", "ab"));
        assert!(!matches("*b", "bc"));
        assert!(!matches("ab*ba", "aba"));
    }
}

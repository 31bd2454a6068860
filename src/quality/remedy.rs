//! Remedies for a quantized model that is far from the float one. They are recommended only if a trial on the model
//! confirms them.

use qcc_ir::diagnostic::Diagnostic;
use qcc_passes::quality::Fidelity;

use super::{OutputReport, Quality};
use crate::precision::Precision;

/// Maximum number of nodes that a trial names, unless a pattern matches them.
const NAMED: usize = 8;
/// The SQNR in dB of the first significant error: the trial keeps layers in floating point up to the first one below
/// it.
const FIRST_ERRORS: f64 = 20.0;

/// A variant of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) precision: Precision,
    /// Nodes that stay in floating point, in addition to those of the options.
    pub(crate) exclude: Vec<String>,
}

impl Trial {
    /// The command-line options of the variant.
    fn command(&self, precision: Precision) -> String {
        let excludes = self.exclude.iter().map(|p| format!("--exclude '{p}'"));
        let other = (self.precision != precision).then(|| format!("--quantize {}", self.precision));
        other.into_iter().chain(excludes).collect::<Vec<_>>().join(" ")
    }
}

/// The variants to try, given the quality of outputs and layers.
pub(crate) fn trials(precision: Precision, fidelity: &Fidelity) -> Vec<Trial> {
    let layers = &fidelity.layers;
    let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
    let mut by_ratio: Vec<usize> = (0..layers.len()).filter(|&i| !names[i].is_empty()).collect();
    by_ratio.sort_by(|&a, &b| layers[a].1.sqnr().total_cmp(&layers[b].1.sqnr()));
    let worst: Vec<&str> = by_ratio.iter().take(super::WORST).map(|&i| names[i]).collect();
    let first_poor = layers.iter().position(|(_, d)| d.sqnr() < FIRST_ERRORS);
    let up_to_errors = first_poor.map_or_else(Vec::new, |last| names[..=last].to_vec());
    let exclusions = [worst, up_to_errors].into_iter().filter_map(|some| patterns(&some, &names));
    let mut all: Vec<Trial> = exclusions.map(|exclude| Trial { precision, exclude }).collect();
    let wider = match precision {
        Precision::Int8 | Precision::W8A16 => Some(Precision::W8A32),
        Precision::W4A32 => Some(Precision::W8A32),
        Precision::Float32 | Precision::Float16 | Precision::W8A32 => None,
    };
    all.extend(wider.map(|precision| Trial { precision, exclude: Vec::new() }));
    all.dedup();
    all
}

/// Patterns that match exactly `some` of `all` layers: their names, or a common prefix that no other name has. `None`
/// if there are too many, or if they are all layers.
fn patterns(some: &[&str], all: &[&str]) -> Option<Vec<String>> {
    let mut named: Vec<&str> = Vec::new();
    some.iter().filter(|n| !n.is_empty()).for_each(|n| {
        if !named.contains(n) {
            named.push(n)
        }
    });
    if named.is_empty() || some.len() == all.len() {
        return None;
    }
    if named.len() > 1 {
        let shared = named.iter().skip(1).fold(named[0].len(), |len, n| common(&named[0][..len], n));
        let prefix = named[0][..shared].rfind(['/', '.']).map(|end| &named[0][..=end]);
        let others = |p: &str| all.iter().any(|n| n.starts_with(p) && !named.contains(n));
        if let Some(prefix) = prefix.filter(|p| p.len() > 1 && !others(p)) {
            return Some(vec![format!("{prefix}*")]);
        }
    }
    (named.len() <= NAMED).then(|| named.into_iter().map(str::to_owned).collect())
}

/// Length of the common prefix of two names, in bytes.
fn common(a: &str, b: &str) -> usize {
    let same = a.char_indices().zip(b.chars()).take_while(|((_, x), y)| x == y);
    same.last().map_or(0, |((i, c), _)| i + c.len_utf8())
}

/// The warning for a model with poor outputs on `data`, with the trials and their results.
pub(crate) fn advice(
    target: &str,
    data: &str,
    precision: Precision,
    quality: &Quality,
    tried: &[(Trial, Quality)],
) -> Diagnostic {
    let poor: Vec<usize> = (0..quality.outputs.len()).filter(|&i| quality.outputs[i].is_poor()).collect();
    let shown = |outputs: &[OutputReport]| poor.iter().map(|&i| figure(&outputs[i])).collect::<Vec<_>>().join(", ");
    let message = format!("the {target} model is far from the float one on {data}: {}", shown(&quality.outputs));
    let mut warning = Diagnostic::warning("low-sqnr", message);
    for (trial, quality) in tried {
        warning = warning.with_note(format!("tried {}: {}", trial.command(precision), shown(&quality.outputs)));
    }
    let cures = |q: &Quality| poor.iter().all(|&i| !q.outputs[i].is_poor());
    let cure = tried.iter().find(|(_, quality)| cures(quality));
    warning.with_help(match cure {
        Some((trial, _)) => format!("{} helps on these samples", trial.command(precision)),
        None => "give more representative samples and check their preprocessing; --fp16 keeps values in floating point"
            .into(),
    })
}

/// An output and its most significant figure.
fn figure(output: &OutputReport) -> String {
    let name = &output.deviation.name;
    let ratio = |sqnr: f64| match sqnr {
        f64::INFINITY => "exact".to_owned(),
        f64::NEG_INFINITY => "not finite".to_owned(),
        sqnr => format!("at {sqnr:.1} dB"),
    };
    match (&output.agreement, output.deviation.sqnr) {
        (Some(a), _) => format!("{name} with {} {:.1} %", a.measure, a.percent),
        (None, Some(sqnr)) => format!("{name} {}", ratio(sqnr)),
        (None, None) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_by_what_they_share() {
        let all = ["/fe/a", "/fe/b", "/net/c", "/net/d"];
        let named = |some: &[&str]| patterns(some, &all);
        assert_eq!(named(&["/fe/a", "/fe/b"]), Some(vec!["/fe/*".to_owned()]));
        assert_eq!(named(&["/fe/a", "/net/c"]), Some(vec!["/fe/a".to_owned(), "/net/c".to_owned()]));
        assert_eq!(named(&["/net/d"]), Some(vec!["/net/d".to_owned()]));
        assert_eq!(named(&all), None);
        let many: Vec<String> = (0..20).map(|i| format!("layer{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(patterns(&many[..10], &many), None);
    }
}

//! Matching of the inputs and outputs of two models.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::Extents;
use qcc_ir::{Dim, Graph, Shape, TensorType, ValueId};

use crate::outcome::Failure;

pub(super) fn name(g: &Graph, v: ValueId) -> &str {
    g.name(v).map_or("", |n| n)
}

/// The index of a counterpart, and the permutation of an image's axes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wire {
    pub(crate) at: usize,
    pub(crate) perm: Option<Extents>,
}

/// An input or output: its name and type.
type End<'g> = (&'g str, &'g TensorType);

/// The permutation of an image's axes from one shape to another: `None` if there is none, `Some(None)` for the
/// identity.
fn order(from: &Shape, to: &Shape) -> Option<Option<Extents>> {
    if from == to {
        return Some(None);
    }
    orders(from.rank()).find(|perm| permuted(from, perm) == *to).map(Some)
}

/// The permutations of an image's axes that move the channels to the end and to the front.
fn orders(rank: usize) -> impl Iterator<Item = Extents> {
    let last = || std::iter::once(0).chain(2..rank).chain(std::iter::once(1)).collect();
    let first = || std::iter::once(0).chain(std::iter::once(rank - 1)).chain(1..rank - 1).collect();
    (rank > 2).then(|| [last(), first()]).into_iter().flatten()
}

fn permuted(shape: &Shape, perm: &Extents) -> Shape {
    perm.iter().map(|&axis| shape.dims()[axis].clone()).collect()
}

/// The extents of an input that is declared `open`, given its counterpart's shape, which may have another axis order. A
/// batch that both leave open is 1. `None` if `open` is fully known, or the shapes do not match.
pub(super) fn filled(open: &Shape, counterpart: &Shape) -> Option<Vec<usize>> {
    let batch = |(axis, dim): (usize, &Dim)| dim.known().or((axis == 0).then_some(1));
    let known: Shape =
        counterpart.dims().iter().enumerate().map(batch).map(|d| d.map(Dim::Known)).collect::<Option<_>>()?;
    let fits = |shape: &Shape| {
        let mut pairs = open.dims().iter().zip(shape.dims());
        open.rank() == shape.rank() && pairs.all(|(open, known)| open.known().is_none() || open == known)
    };
    let turned = orders(known.rank()).map(|perm| permuted(&known, &perm));
    let found = std::iter::once(known.clone()).chain(turned).find(fits)?;
    open.is_open().then(|| found.extents()).flatten().map(|e| e.to_vec())
}

/// True if the channel axis cannot be identified and the axis order matters.
fn ambiguous(shape: &Shape) -> bool {
    let dims = shape.dims();
    dims.len() > 2 && dims[1..].windows(2).all(|w| w[0] == w[1]) && dims[1].known() != Some(1)
}

/// The index of each name among others, if all are present.
pub(super) fn by_name<'n>(
    names: impl Iterator<Item = &'n str>,
    among: impl Iterator<Item = &'n str> + Clone,
) -> Option<Vec<usize>> {
    names.map(|name| among.clone().position(|other| other == name)).collect()
}

/// For each of `ends` its counterpart `among` others and its axis permutation: by name if all names are present, else
/// by position.
fn counterparts(ends: &[End<'_>], among: &[End<'_>]) -> Option<Vec<Wire>> {
    let by_name = by_name(ends.iter().map(|e| e.0), among.iter().map(|a| a.0));
    let mut wires: Vec<Wire> = Vec::new();
    for (i, end) in ends.iter().enumerate() {
        let free = |at: &usize| !wires.iter().any(|w| w.at == *at);
        let places = match &by_name {
            Some(places) => vec![places[i]],
            // The same position is tried first, then the others in order.
            None => std::iter::once(i).chain(0..among.len()).filter(|&at| at < among.len()).collect(),
        };
        let fit = |at: usize| Some(Wire { at, perm: order(&among[at].1.shape, &end.1.shape)? });
        wires.push(places.into_iter().filter(free).find_map(fit)?);
    }
    Some(wires)
}

fn listed(ends: &[End<'_>]) -> String {
    ends.iter().map(|(name, ty)| format!("{name} {}", ty.real())).collect::<Vec<_>>().join(", ")
}

fn unlike(kind: &str, a: &[End<'_>], b: &[End<'_>]) -> Diagnostic {
    Diagnostic::error("interface-mismatch", format!("the {kind} of the models do not match"))
        .with_note(format!("one has {}", listed(a)))
        .with_note(format!("the other has {}", listed(b)))
        .with_help("give both the same shapes: --shape NAME=DIMS")
}

fn warn_ambiguous(kind: &str, ends: &[End<'_>], wires: &[Wire], diagnostics: &mut Vec<Diagnostic>) {
    for (name, ty) in ends.iter().zip(wires).filter(|(e, w)| w.perm.is_none() && ambiguous(&e.1.shape)).map(|(e, _)| e)
    {
        let message =
            format!("{kind} {name} is {}: its channel axis is ambiguous, so its axes are not transposed", ty.shape);
        diagnostics.push(Diagnostic::warning("ambiguous-axes", message));
    }
}

/// For each input of `b`, its counterpart in `a`.
pub(super) fn match_inputs(a: &Graph, b: &Graph, diagnostics: &mut Vec<Diagnostic>) -> Result<Vec<Wire>, Failure> {
    let ends = |g| -> Vec<End<'_>> { Graph::inputs(g).map(|v| (name(g, v), g.ty(v))).collect() };
    let (from, to) = (ends(a), ends(b));
    let wires = (from.len() == to.len()).then(|| counterparts(&to, &from)).flatten();
    let wires = wires.ok_or_else(|| unlike("inputs", &from, &to))?;
    warn_ambiguous("input", &to, &wires, diagnostics);
    Ok(wires)
}

/// For each output of `a`, its counterpart in `b`.
pub(super) fn match_outputs(a: &Graph, b: &Graph, diagnostics: &mut Vec<Diagnostic>) -> Result<Vec<Wire>, Failure> {
    let ends = |g: &'_ Graph| g.outputs().iter().map(|o| (o.name.to_string(), o.value)).collect::<Vec<_>>();
    let (from, to) = (ends(a), ends(b));
    let from: Vec<End<'_>> = from.iter().map(|(n, v)| (n.as_str(), a.ty(*v))).collect();
    let to: Vec<End<'_>> = to.iter().map(|(n, v)| (n.as_str(), b.ty(*v))).collect();
    let wires = counterparts(&from, &to).ok_or_else(|| unlike("outputs", &from, &to))?;
    warn_ambiguous("output", &from, &wires, diagnostics);
    Ok(wires)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(dims: &[usize]) -> TensorType {
        TensorType::f32(dims)
    }

    #[test]
    fn images_are_matched_in_either_order() {
        let (first, last) = (Shape::known(&[1, 3, 4, 5]), Shape::known(&[1, 4, 5, 3]));
        let perm = |p: &[usize]| Some(Some(Extents::from_slice(p)));
        assert_eq!(order(&first, &last), perm(&[0, 2, 3, 1]));
        assert_eq!(order(&last, &first), perm(&[0, 3, 1, 2]));
        assert_eq!(order(&first, &first), Some(None));
        assert_eq!(order(&first, &Shape::known(&[1, 5, 4, 3])), None);
        assert_eq!(order(&Shape::known(&[2, 3]), &Shape::known(&[3, 2])), None);
        assert_eq!(order(&Shape::scalar(), &Shape::known(&[1])), None);
    }

    #[test]
    fn open_extents_are_those_of_the_counterpart() {
        let open = |dims: &[usize]| -> Shape {
            let dim = |&d: &usize| if d == 0 { Dim::symbol("n") } else { Dim::Known(d) };
            dims.iter().map(dim).collect()
        };
        let want = |dims: &[usize]| Some(dims.to_vec());
        assert_eq!(filled(&open(&[0, 3, 0, 0]), &open(&[2, 3, 4, 5])), want(&[2, 3, 4, 5]));
        assert_eq!(filled(&open(&[0, 3, 0, 0]), &open(&[1, 4, 5, 3])), want(&[1, 3, 4, 5]));
        assert_eq!(filled(&open(&[0, 0, 0, 3]), &open(&[0, 3, 4, 5])), want(&[1, 4, 5, 3]));
        assert_eq!(filled(&open(&[0, 0]), &open(&[1, 7])), want(&[1, 7]));
        assert_eq!(filled(&open(&[0, 0]), &open(&[1, 0])), None);
        assert_eq!(filled(&open(&[0, 3, 0, 0]), &open(&[1, 4, 4, 4])), None);
        assert_eq!(filled(&open(&[1, 3]), &open(&[1, 3])), None);
    }

    #[test]
    fn ends_are_paired_by_name_or_place() {
        let (flat, image, last) = (ty(&[1, 10]), ty(&[1, 3, 4, 5]), ty(&[1, 4, 5, 3]));
        let places =
            |a: &[End<'_>], b: &[End<'_>]| counterparts(a, b).map(|w| w.iter().map(|w| w.at).collect::<Vec<_>>());
        assert_eq!(places(&[("x", &flat), ("y", &image)], &[("y", &last), ("x", &flat)]), Some(vec![1, 0]));
        assert_eq!(places(&[("x", &flat), ("y", &flat)], &[("a", &flat), ("b", &flat)]), Some(vec![0, 1]));
        assert_eq!(places(&[("x", &flat), ("y", &image)], &[("a", &last), ("b", &flat)]), Some(vec![1, 0]));
        // A matching name must have a matching shape.
        assert_eq!(places(&[("x", &flat)], &[("x", &image), ("y", &flat)]), None);
        assert_eq!(places(&[("x", &flat), ("y", &flat)], &[("a", &flat)]), None);
    }
}

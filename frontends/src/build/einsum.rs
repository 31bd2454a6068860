//! Einsum.

use qcc_ir::ops::{Extents, ReduceFn};
use qcc_ir::{Dim, Shape, ValueId};

use super::Build;
use super::product::product;
use crate::refusal::Refusal;

/// The axis names of a value, in order, and the value.
type Term = (Vec<char>, ValueId);

/// First code point for the axes of an ellipsis, which have no names.
const UNNAMED: u32 = 0xe000;

/// Evaluates the equation on the tensors: operands are arranged as [batch, own, reduced] axes and multiplied as
/// matrices, from left to right. The axes of an ellipsis broadcast; for an axis that is named twice, the diagonal is
/// taken.
pub(crate) fn einsum(n: &mut impl Build, equation: &str, tensors: &[ValueId]) -> Result<ValueId, Refusal> {
    let refused = |why: &str| Refusal::Unsupported(format!("einsum \"{equation}\": {why}"));
    let spaced: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match spaced.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (spaced.as_str(), None),
    };
    let names: Vec<&str> = left.split(',').collect();
    if names.len() != tensors.len() {
        return Err(refused("as many terms as operands are needed"));
    }
    let ranks = names.iter().zip(tensors).map(|(term, &v)| unnamed(term, n.rank(v)));
    let ranks: Option<Vec<usize>> = ranks.collect();
    let ranks = ranks.ok_or_else(|| refused("a term names more or fewer axes than its operand has"))?;
    let most = ranks.iter().copied().max().unwrap_or(0);
    let odd = || refused("it names axes by other signs than letters");
    let spelled = |term: &str, unnamed| spelled(term, unnamed).ok_or_else(odd);
    let terms = names.iter().zip(ranks).map(|(term, rank)| spelled(term, most - rank..most));
    let terms = terms.collect::<Result<Vec<Vec<char>>, Refusal>>()?;
    let result = match right {
        Some(right) => spelled(right, 0..most)?,
        None => once(&terms.concat(), most),
    };
    if result.iter().enumerate().any(|(i, c)| result[..i].contains(c)) {
        return Err(refused("an axis is named twice in the result"));
    }
    let terms = terms.into_iter().zip(tensors).map(|(names, &v)| diagonals(n, (names, v)));
    let mut rest = terms.collect::<Result<Vec<Term>, Refusal>>()?;
    let mut all = rest.remove(0);
    while !rest.is_empty() {
        let next = rest.remove(0);
        let later = |c: &char| result.contains(c) || rest.iter().any(|t| t.0.contains(c));
        all = contract(n, all, next, &later)?;
    }
    let (names, v) = only(n, all, |c| result.contains(c))?;
    let perm: Option<Extents> = result.iter().map(|c| names.iter().position(|d| d == c)).collect();
    n.transpose(v, &perm.ok_or_else(|| refused("the result names an axis that no term has"))?)
}

/// The number of axes of a term's ellipsis.
fn unnamed(term: &str, rank: usize) -> Option<usize> {
    let named = term.chars().filter(|c| *c != '.').count();
    let rest = rank.checked_sub(named)?;
    (rest == 0 || term.contains("...")).then_some(rest)
}

/// The axis names of a term; those of the ellipsis are code points from [`UNNAMED`] on.
fn spelled(term: &str, unnamed: std::ops::Range<usize>) -> Option<Vec<char>> {
    let (before, after, between) = match term.split_once("...") {
        Some((before, after)) => (before, after, unnamed),
        None => (term, "", 0..0),
    };
    let between = between.map(|i| char::from_u32(UNNAMED + i as u32));
    let letter = |c: char| c.is_alphabetic().then_some(c);
    before.chars().map(letter).chain(between).chain(after.chars().map(letter)).collect()
}

/// The axes of an implicit result: those of the ellipsis, then those that are named once, in alphabetical order.
fn once(all: &[char], unnamed: usize) -> Vec<char> {
    let is_single = |c: &char| c.is_alphabetic() && all.iter().filter(|d| *d == c).count() == 1;
    let mut named: Vec<char> = all.iter().copied().filter(is_single).collect();
    named.sort_unstable();
    (0..unnamed).filter_map(|i| char::from_u32(UNNAMED + i as u32)).chain(named).collect()
}

/// The diagonals along axes that have the same name.
fn diagonals(n: &mut impl Build, (mut names, mut v): Term) -> Result<Term, Refusal> {
    while let Some(second) = (0..names.len()).find(|&i| names[..i].contains(&names[i])) {
        let first = names.iter().position(|c| *c == names[second]).unwrap_or(0);
        let dims = n.dims(v)?;
        if dims[first] != dims[second] {
            return Err(Refusal::Invalid(format!("an axis of {} and {} elements", dims[first], dims[second])));
        }
        v = super::index::diagonal(n, v, [first, second], 0)?;
        let name = names.remove(second);
        names.remove(first);
        names.push(name);
    }
    Ok((names, v))
}

/// The product of two terms. Axes that are not needed later are reduced.
fn contract(n: &mut impl Build, a: Term, b: Term, later: &dyn Fn(&char) -> bool) -> Result<Term, Refusal> {
    let a = only(n, a, |c| later(c) || b.0.contains(c))?;
    let b = only(n, b, |c| later(c) || a.0.contains(c))?;
    let shared: Vec<char> = a.0.iter().copied().filter(|c| b.0.contains(c) && later(c)).collect();
    let summed: Vec<char> = a.0.iter().copied().filter(|c| b.0.contains(c) && !later(c)).collect();
    let own = |t: &[char], o: &[char]| t.iter().copied().filter(|c| !o.contains(c)).collect::<Vec<char>>();
    let (rows, columns) = (own(&a.0, &b.0), own(&b.0, &a.0));
    let left = arranged(n, &a, [&shared, &rows, &summed])?;
    let right = arranged(n, &b, [&shared, &columns, &summed])?;
    let product = product(n, left.value, right.value, true)?;
    let batch = n.shape(product).dims()[..shared.len()].to_vec();
    let dims = batch.into_iter().chain(left.own).chain(right.own).collect();
    let product = n.reshape_to(product, dims)?;
    Ok((shared.into_iter().chain(rows).chain(columns).collect(), product))
}

/// The term with the axes that are not kept reduced.
fn only(n: &mut impl Build, term: Term, keep: impl Fn(&char) -> bool) -> Result<Term, Refusal> {
    let summed: Extents = (0..term.0.len()).filter(|&i| !keep(&term.0[i])).collect();
    let v = n.reduce(ReduceFn::Sum, term.1, &summed, false)?;
    Ok((term.0.into_iter().filter(|c| keep(c)).collect(), v))
}

/// A term as `[batch.., own, reduced]`.
struct Arranged {
    value: ValueId,
    /// The extents of its own axes, which are one.
    own: Vec<Dim>,
}

/// The term with its axes in this order: batch, own, reduced.
fn arranged(n: &mut impl Build, term: &Term, order: [&[char]; 3]) -> Result<Arranged, Refusal> {
    let dims = n.shape(term.1).dims().to_vec();
    let place = |c: &char| term.0.iter().position(|d| d == c).unwrap_or(0);
    let perm: Extents = order.iter().copied().flatten().map(place).collect();
    let extents = |names: &[char]| -> Vec<Dim> { names.iter().map(|c| dims[place(c)].clone()).collect() };
    let [shared, own, summed] = order.map(extents);
    let v = n.transpose(term.1, &perm)?;
    let count = |dims: &[Dim]| Shape::count(dims).ok_or_else(|| Refusal::Open(n.shape(term.1).clone()));
    let [own_count, sums] = [count(&own)?, count(&summed)?];
    let flat = shared.into_iter().chain([own_count, sums]).collect();
    Ok(Arranged { value: n.reshape_to(v, flat)?, own })
}

//! Digests of what values are computed from.

use std::fmt;

use qcc_ir::ops::Op;
use qcc_ir::{Graph, ValueId};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

/// A digest of 128 bits (XXH3), as hexadecimal digits in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest128(pub u128);

impl fmt::Display for Digest128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<Digest128> for String {
    fn from(digest: Digest128) -> String {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest128 {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Digest128)
    }
}

/// The digest of what each value of a graph is computed from: the operator with its attributes, the types of its results,
/// the content of constants, and the same of its operands; for inputs, their place and type. In two graphs, values with
/// the same digest are equal for equal inputs. Names and origins do not count. There is a digest for each value that the
/// outputs or the values of `also` depend on, and for these.
pub fn digests(g: &Graph, also: &[ValueId]) -> FxHashMap<ValueId, Digest128> {
    let mut digests: FxHashMap<ValueId, Digest128> = FxHashMap::default();
    for (place, v) in g.inputs().enumerate() {
        digests.insert(v, of_text(&format!("input {place} {:?}", g.ty(v)), &[]));
    }
    for n in g.order_with(also) {
        let operands: Vec<Digest128> = g.operands(n).iter().filter_map(|v| digests.get(v).copied()).collect();
        let node = match g.op(n) {
            Op::Input(_) => continue,
            Op::Const(c) => {
                let mut hasher = Xxh3Default::new();
                hasher.update(c.value.data());
                of_text("constant", &[Digest128(hasher.digest128())])
            }
            op => of_text(&format!("{op:?}"), &operands),
        };
        for (port, v) in g.results(n).enumerate() {
            digests.insert(v, of_text(&format!("{port} {:?}", g.ty(v)), &[node]));
        }
    }
    digests
}

/// The digest of what the outputs of a graph are computed from, in order, and of the types of its inputs.
pub fn digest(g: &Graph) -> Digest128 {
    let digests = digests(g, &[]);
    let all = g.inputs().chain(g.outputs().iter().map(|o| o.value));
    of_text("graph", &all.filter_map(|v| digests.get(&v).copied()).collect::<Vec<_>>())
}

fn of_text(text: &str, others: &[Digest128]) -> Digest128 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
    others.iter().for_each(|other| hasher.update(&other.0.to_le_bytes()));
    Digest128(hasher.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;
    use qcc_ir::text::{Weights, parse};

    fn graph(body: &str) -> Graph {
        parse(&format!("graph g {{ %x: f32[1,2] = input {body} output y = %y }}"), &Weights::new()).unwrap()
    }

    #[test]
    fn what_changes_a_value_changes_its_digest() {
        let of = |body: &str| digest(&graph(body));
        let base = of("%c: f32[2] = const [1, 2] %y = binary(f:Add) %x, %c");
        for other in [
            "%c: f32[2] = const [1, 3] %y = binary(f:Add) %x, %c",
            "%c: f32[1,2] = const [1, 2] %y = binary(f:Add) %x, %c",
            "%c: f32[2] = const [1, 2] %y = binary(f:Mul) %x, %c",
            "%c: f32[2] = const [1, 2] %y = binary(f:Add) %c, %x",
            "%c: f32[2] = const [1, 2] %z = binary(f:Add) %x, %c %y = unary(f:Neg) %z",
        ] {
            assert_ne!(of(other), base, "{other}");
        }
        let larger =
            "graph g { %x: f32[2,2] = input %c: f32[2] = const [1, 2] %y = binary(f:Add) %x, %c output y = %y }";
        assert_ne!(digest(&parse(larger, &Weights::new()).unwrap()), base);
    }

    #[test]
    fn names_and_values_beside_it_do_not_count() {
        let (mut named, mut other) =
            (graph("%y = unary(f:Exp) %x"), graph("%z = unary(f:Neg) %x %y = unary(f:Exp) %x"));
        let y = named.outputs()[0].value;
        named.set_name(y, "exponential");
        assert_eq!(digests(&named, &[])[&y], digests(&other, &[])[&other.outputs()[0].value]);
        // A value that no output depends on.
        let negated = other
            .add1(
                qcc_ir::ops::Unary { f: qcc_ir::ops::UnaryFn::Neg },
                &[other.outputs()[0].value],
                qcc_ir::Origin::none(),
            )
            .unwrap();
        assert!(!digests(&other, &[]).contains_key(&negated) && digests(&other, &[negated]).contains_key(&negated));
        let text = String::from(digest(&named));
        assert_eq!((text.len(), Digest128::try_from(text)), (32, Ok(digest(&named))));
    }
}

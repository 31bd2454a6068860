//! Control flow that is known at run time only: repetition of a graph, and a choice of two.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use super::nested::Body;
use super::{Op, Operator, Types, arity, refuse};
use crate::error::TypeError;
use crate::types::{Dim, Elem, Expr, Shape, TensorType};

/// Repeats a body. Operands: the most iterations (`I64` scalar), whether there is a first one (`Bool` scalar), the carried
/// values, and others that the body reads. The inputs of the body are the number of the iteration (`I64` scalar), the carried
/// values and those that it reads; its outputs are whether there is another iteration (`Bool` scalar), the new carried
/// values, and rows. Results: the carried values after the last iteration, then for each row those of all iterations along a
/// new first axis. Symbols in the types of operands are symbols of the body as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loop {
    /// How many values are carried.
    pub carried: usize,
    /// The number of iterations where it follows from extents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<Expr>,
    /// The symbol of the number of iterations where there are rows and it does not follow from extents, else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub count: String,
    /// The body.
    pub body: Body,
}

impl Loop {
    /// The types of the rows.
    pub fn rows(&self) -> Vec<TensorType> {
        self.body.gives().into_iter().skip(1).skip(self.carried).collect()
    }
}

impl Operator for Loop {
    const NAME: &'static str = "loop";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let [number, again] = [Elem::I64, Elem::Bool].map(|elem| TensorType::new(elem, Shape::scalar()));
        let (takes, gives) = (self.body.takes(), self.body.gives());
        let carried = |types: &[TensorType]| Some(types.get(1..)?.get(..self.carried)?.to_vec());
        let same = carried(&takes).is_some_and(|before| carried(&gives) == Some(before));
        if takes.first() != Some(&number) || gives.first() != Some(&again) || !same {
            return Err(TypeError::Attribute("the inputs and outputs of the body are not those of a loop".into()));
        }
        if !gives.iter().all(follows_from(&takes)) {
            return Err(TypeError::Attribute("an extent is not the same in all iterations".into()));
        }
        if gives.len() == 1 {
            return Err(TypeError::Attribute("a loop has a result".into()));
        }
        declared(Self::NAME, operands, [&number, &again].into_iter().chain(&takes[1..]))?;
        let has_rows = gives.len() > 1 + self.carried;
        let count = match &self.iterations {
            Some(count) => Dim::of(count.clone()).filter(|_| self.count.is_empty()),
            None => (has_rows != self.count.is_empty()).then(|| Dim::computed(self.count.as_str())),
        };
        let count = count.ok_or_else(|| TypeError::Attribute("rows have a number of iterations".into()))?;
        let stacked = |row: &TensorType| {
            let dims = std::iter::once(count.clone()).chain(row.shape.dims().iter().cloned());
            TensorType::new(row.elem.clone(), dims.collect())
        };
        let (carried, rows) = gives[1..].split_at(self.carried);
        Ok(carried.iter().cloned().chain(rows.iter().map(stacked)).collect())
    }
}

/// Computes one of two graphs. Operands: the condition (`Bool` scalar), and the values that the branches read, which are the
/// inputs of both. Results are the outputs of the branch. Symbols in the types of operands are symbols of the branches as
/// well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct If {
    /// The symbols of the extents of results that the branches do not have in common, in order.
    pub symbols: Vec<String>,
    /// The graph that is computed where the condition holds.
    pub then: Body,
    /// The graph that is computed where it does not.
    pub otherwise: Body,
}

impl If {
    /// A choice of two graphs, with a symbol for each extent that they do not have in common.
    pub fn of(then: Body, otherwise: Body, mut symbol: impl FnMut() -> String) -> If {
        let mut symbols = Vec::new();
        results(&then, &otherwise, &mut || {
            symbols.push(symbol());
            symbols.last().map(|symbol| Dim::computed(symbol.as_str()))
        });
        If { symbols, then, otherwise }
    }

    /// The result and its axis whose extent is this symbol.
    pub(super) fn place_of(&self, symbol: &str) -> Option<(u8, usize)> {
        let mut symbols = self.symbols.iter();
        let found =
            results(&self.then, &self.otherwise, &mut || symbols.next().map(|symbol| Dim::computed(symbol.as_str())))?;
        let axis = |ty: &TensorType| ty.shape.dims().iter().position(|d| *d == Dim::computed(symbol));
        found.iter().enumerate().find_map(|(i, ty)| Some((i as u8, axis(ty)?)))
    }
}

impl Operator for If {
    const NAME: &'static str = "if";

    fn infer(&self, operands: &[&TensorType]) -> Result<Types, TypeError> {
        let condition = TensorType::new(Elem::Bool, Shape::scalar());
        let (takes, others) = (self.then.takes(), self.otherwise.takes());
        if takes != others {
            return Err(TypeError::Attribute("the inputs of the branches differ".into()));
        }
        declared(Self::NAME, operands, std::iter::once(&condition).chain(&takes))?;
        let mut symbols = self.symbols.iter();
        let found =
            results(&self.then, &self.otherwise, &mut || symbols.next().map(|symbol| Dim::computed(symbol.as_str())));
        let found = found.filter(|found| !found.is_empty());
        if symbols.next().is_some() {
            return Err(TypeError::Attribute("a symbol is that of no extent".into()));
        }
        found.ok_or_else(|| TypeError::Attribute("the outputs of the branches differ".into()))
    }
}

/// The types of the outputs of two graphs with the same inputs; `other` gives the extents that they do not have in common.
/// `None` where element types or ranks differ, or `other` has no more extents.
fn results(then: &Body, otherwise: &Body, other: &mut impl FnMut() -> Option<Dim>) -> Option<Types> {
    let known = computed(&then.takes());
    let is_common = |a: &Dim, b: &Dim| a == b && known.is_superset(&computed_in(a));
    let (yes, no) = (then.gives(), otherwise.gives());
    let same = |(a, b): (&TensorType, &TensorType)| a.elem == b.elem && a.rank() == b.rank();
    if yes.len() != no.len() || !yes.iter().zip(&no).all(same) {
        return None;
    }
    let joined = yes.iter().zip(&no).map(|(a, b)| {
        let pairs = a.shape.dims().iter().zip(b.shape.dims());
        let dims: Option<Shape> = pairs.map(|(a, b)| if is_common(a, b) { Some(a.clone()) } else { other() }).collect();
        dims.map(|shape| TensorType::new(a.elem.clone(), shape))
    });
    joined.collect()
}

/// True for types whose extents follow from those of other types.
fn follows_from(types: &[TensorType]) -> impl Fn(&TensorType) -> bool {
    let known = computed(types);
    move |ty| known.is_superset(&computed(std::slice::from_ref(ty)))
}

/// The symbols in types that nodes define.
fn computed(types: &[TensorType]) -> BTreeSet<Arc<str>> {
    types.iter().flat_map(|ty| ty.shape.dims()).flat_map(computed_in).collect()
}

fn computed_in(extent: &Dim) -> BTreeSet<Arc<str>> {
    let mut symbols = BTreeSet::new();
    extent.expr().for_each_computed(&mut |symbol| _ = symbols.insert(symbol.clone()));
    symbols
}

/// Fails unless the operands have the declared types.
fn declared<'t>(
    op: &'static str,
    operands: &[&TensorType],
    declared: impl Iterator<Item = &'t TensorType>,
) -> Result<(), TypeError> {
    let declared: Vec<&TensorType> = declared.collect();
    arity(op, operands, declared.len(), declared.len())?;
    for (i, (found, declared)) in operands.iter().zip(declared).enumerate() {
        if found.shape != declared.shape || found.elem != declared.elem {
            return Err(refuse(operands, i, declared.to_string()));
        }
    }
    Ok(())
}

impl Op {
    /// The graphs inside the operator, as operators know them.
    pub fn bodies(&self) -> SmallVec<[&Body; 2]> {
        match self {
            Op::Loop(op) => smallvec![&op.body],
            Op::If(op) => smallvec![&op.then, &op.otherwise],
            _ => SmallVec::new(),
        }
    }

    /// The operator with other graphs of the same inputs and outputs inside.
    #[must_use]
    pub fn with_bodies(&self, bodies: impl IntoIterator<Item = Body>) -> Op {
        let mut bodies = bodies.into_iter();
        let mut next = |old: &Body| bodies.next().unwrap_or_else(|| old.clone());
        match self {
            Op::Loop(op) => Loop { body: next(&op.body), ..op.clone() }.into(),
            Op::If(op) => {
                If { then: next(&op.then), otherwise: next(&op.otherwise), symbols: op.symbols.clone() }.into()
            }
            _ => self.clone(),
        }
    }

    /// The element types that the operator declares of its operands, if it has graphs inside.
    pub fn declared_elements(&self) -> Option<Vec<Elem>> {
        let elements = |types: Vec<TensorType>| types.into_iter().map(|ty| ty.elem).collect::<Vec<_>>();
        Some(match self {
            Op::Loop(op) => [vec![Elem::I64, Elem::Bool], elements(op.body.takes().split_off(1))].concat(),
            Op::If(op) => [vec![Elem::Bool], elements(op.then.takes())].concat(),
            _ => return None,
        })
    }
}

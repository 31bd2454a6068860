//! Loops whose number of iterations is known at run time only: their bodies stay graphs.

use qcc_ir::ops::Loop;
use qcc_ir::{Elem, Expr, Graph, Origin, Shape, Tensor, TensorType, ValueId};

use super::importer::Importer;
use super::schema;
use crate::build::control;
use crate::build::{Build, End, Values, computed};
use crate::refusal::Refusal;

/// A loop. Its graphs take the carried values, slices, and others, in this order.
pub(super) struct Turns<'m, 't> {
    pub(super) body: &'m schema::Graph,
    /// Whether there is a next iteration, of a loop without slices; one with slices has an iteration for each.
    pub(super) condition: Option<&'m schema::Graph>,
    pub(super) carried: &'t [ValueId],
    /// The values of which each iteration has a slice of the first axis.
    pub(super) sliced: &'t [ValueId],
    pub(super) others: &'t [ValueId],
    /// The number of iterations, where it follows from extents.
    pub(super) count: Option<Expr>,
}

impl<'m> Importer<'m> {
    /// Imports a loop. Returns its operands after the first two as well.
    pub(super) fn turns(&mut self, turns: &Turns<'m, '_>, origin: &Origin) -> Result<(Loop, Values), Refusal> {
        let Turns { body, condition, carried, sliced, others, count } = turns;
        let (mut graph, reads) = self.within(origin.path(), |importer, outer| {
            let number = importer.graph.add_input("iteration", TensorType::new(Elem::I64, Shape::scalar()));
            let mut add = |(i, &v): (usize, &ValueId)| importer.graph.add_input(format!("x{i}"), outer.ty(v).clone());
            let before: Values = carried.iter().enumerate().map(&mut add).collect();
            let whole: Values = sliced.iter().enumerate().map(|(i, v)| add((carried.len() + i, v))).collect();
            let mut reads: Values = (*sliced).into();
            let mut operands = before;
            for v in whole {
                operands.push(control::slice_of_turn(&mut importer.inside(), v, 0, number, false)?);
            }
            let from = operands.len();
            for (i, &v) in others.iter().enumerate() {
                let known = control::known_inside(outer, v, &mut importer.graph);
                operands.push(known.unwrap_or_else(|| {
                    reads.push(v);
                    importer.graph.add_input(format!("x{}", from + i), outer.ty(v).clone())
                }));
            }
            let (results, _) = importer.inline(body, &operands)?;
            let Some((after, _)) = results.split_at_checked(carried.len()) else {
                return Err(Refusal::Invalid(format!("{} results for {} values", results.len(), carried.len())));
            };
            let again = match condition {
                Some(condition) => {
                    let next: Values = after.iter().chain(&operands[carried.len()..]).copied().collect();
                    match *importer.inline(condition, &next)?.0 {
                        [again] => importer.inside().reshape(again, &[])?,
                        _ => return Err(Refusal::Invalid("its condition is not one value".into())),
                    }
                }
                None => importer.inside().add_constant(Tensor::from_bools(Shape::scalar(), [true])),
            };
            importer.graph.add_output("again", again);
            results.iter().enumerate().for_each(|(i, &v)| importer.graph.add_output(format!("y{i}"), v));
            Ok(reads)
        })?;
        control::same_after(&self.graph, carried, &graph)?;
        let mut end = End(&mut self.graph, origin.clone());
        let further = control::carriers(&mut end, &mut [&mut graph])?;
        let symbol = computed::fresh(&end);
        let op = control::repeat(carried.len(), count.clone(), symbol, graph);
        Ok((op, carried.iter().copied().chain(reads).chain(further).collect()))
    }

    /// Imports a graph of its own; `import` sees the graph around it, whose names are out of scope.
    fn within<T>(
        &mut self,
        path: &str,
        import: impl FnOnce(&mut Self, &Graph) -> Result<T, Refusal>,
    ) -> Result<(Graph, T), Refusal> {
        let outer = std::mem::replace(&mut self.graph, Graph::new(path));
        let scopes = std::mem::take(&mut self.scopes);
        let imported = import(self, &outer);
        self.scopes = scopes;
        let mut graph = std::mem::replace(&mut self.graph, outer);
        graph.sweep();
        imported.map(|imported| (graph, imported))
    }

    fn inside(&mut self) -> End<'_> {
        End(&mut self.graph, Origin::none())
    }
}

//! The bodies of loops whose number of iterations is known at run time only.

use qcc_formats::onnx::GraphProto;
use qcc_ir::ops::{Loop, Reshape};
use qcc_ir::{Elem, Graph, Origin, Shape, Tensor, TensorType, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::importer::{Binding, Importer};
use super::schedule::reads_of;
use crate::build::Values;
use crate::build::control::SET;
use crate::refusal::Refusal;

/// Constants of at most so many elements are constants of a body that reads them: shapes and axes among them.
const SMALL: usize = 64;

/// A loop, and the values that its body reads beside those that it carries.
pub(super) struct Repeated {
    pub(super) op: Loop,
    pub(super) reads: Values,
}

impl<'m> Importer<'m> {
    /// Imports the body of a Loop with these carried values. `count` is the symbol for its number of iterations.
    pub(super) fn loop_body(
        &mut self,
        body: &'m GraphProto,
        carried: &[ValueId],
        path: String,
        count: String,
    ) -> Result<Repeated, Refusal> {
        let mut names = Vec::new();
        body.node.iter().for_each(|node| reads_of(node, &mut names));
        names.extend(body.output.iter().map(|o| o.name()));
        let own = body.node.iter().flat_map(|n| n.output.iter().map(String::as_str));
        let own = own.chain(body.initializer.iter().map(|t| t.name()));
        let mut known: FxHashSet<&str> =
            own.chain(body.input.iter().take(2 + carried.len()).map(|i| i.name())).collect();
        let mut read = Vec::new();
        for name in names.into_iter().filter(|name| known.insert(name)) {
            match self.value(name) {
                Ok(v) => read.push((name, v)),
                // The nodes that read it are refused.
                Err(Refusal::Undefined(_)) => {}
                Err(e) => return Err(e),
            }
        }
        carried.iter().chain(read.iter().map(|(_, v)| v)).try_for_each(|&v| self.passes_into(v))?;
        let outer = std::mem::replace(&mut self.graph, Graph::new(path.as_str()));
        let scopes = std::mem::replace(&mut self.scopes, vec![FxHashMap::default()]);
        let integers = std::mem::take(&mut self.integers);
        let number = self.graph.add_input("iteration", TensorType::new(Elem::I64, Shape::scalar()));
        let carry = |(i, &v): (usize, &ValueId)| {
            let name = body.input.get(2 + i).map_or("", |input| input.name());
            self.graph.add_input(name, outer.ty(v).clone())
        };
        let carries: Values = carried.iter().enumerate().map(carry).collect();
        let mut reads = Values::new();
        for (name, v) in read {
            let value = match outer.constant(v).filter(|t| t.len() <= SMALL) {
                Some(constant) => self.graph.add_const(constant.clone(), outer.origin(v.node).clone()),
                None => {
                    reads.push(v);
                    self.graph.add_input(name, outer.ty(v).clone())
                }
            };
            self.bind(name, Binding::Value(value));
        }
        // Where the body runs, the condition holds.
        let running = self.graph.add_const(Tensor::from_bools(Shape::scalar(), [true]), Origin::none());
        let inputs: Values = [number, running].into_iter().chain(carries).collect();
        let outputs = self.inline(body, &inputs, Some(path)).and_then(|outputs| self.leaves(body, &outputs));
        let mut graph = std::mem::replace(&mut self.graph, outer);
        (self.scopes, self.integers) = (scopes, integers);
        outputs?;
        graph.sweep();
        self.same_after(&graph, carried)?;
        Ok(Repeated { op: Loop::of(&graph, carried.len(), count)?, reads })
    }

    /// Fails unless the value may be one of a body.
    fn passes_into(&self, v: ValueId) -> Result<(), Refusal> {
        let ty = self.graph.ty(v);
        if ty.shape.is_open() {
            return Err(Refusal::Open(ty.shape.clone()));
        }
        let is_plain = ty.elem.qparams().is_none() && self.integers.widened(v).is_none();
        if is_plain && !self.sequences.contains_key(&v) {
            return Ok(());
        }
        let message =
            "a loop whose number of iterations is known at run time only has plain tensors alone: no sequences, \
                       quantized values or unsigned integers"
                .into();
        Err(Refusal::Advised { message, help: SET })
    }

    /// Makes values the outputs of the body's graph.
    fn leaves(&mut self, body: &GraphProto, outputs: &[ValueId]) -> Result<(), Refusal> {
        for (i, (&v, output)) in outputs.iter().zip(&body.output).enumerate() {
            self.passes_into(v)?;
            let v = match i {
                0 if self.graph.ty(v).rank() > 0 => {
                    self.graph.add1(Reshape { shape: Shape::scalar() }, &[v], Origin::none())?
                }
                _ => v,
            };
            self.graph.add_output(output.name(), v);
        }
        Ok(())
    }

    /// Fails unless carried values have their types after an iteration.
    fn same_after(&self, graph: &Graph, carried: &[ValueId]) -> Result<(), Refusal> {
        for (&before, after) in carried.iter().zip(&graph.outputs()[1..]) {
            let (old, new) = (self.graph.ty(before), graph.ty(after.value));
            if old != new {
                let message = format!("{} is {old} before an iteration and {new} after it", after.name);
                let help = "export the model with one shape for all iterations; or fix the number of iterations: --set";
                return Err(Refusal::Advised { message, help });
            }
        }
        Ok(())
    }
}

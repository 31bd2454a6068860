//! Conversion of graphs to 16-bit float arithmetic.

use qcc_ir::ops::{Cast, Op};
use qcc_ir::target::Target;
use qcc_ir::{Elem, Graph, NodeId, Operands, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::half::narrowed;
use crate::calibrate::CalibrationTable;
use crate::pass::{Context, Given, Pass, PassError};
use crate::quantize::{Interface, Interfaces, Quantized};

/// The maximum magnitude of a calibrated value that is converted: half of the `F16` range, because other inputs may
/// give larger values.
const LARGEST: f32 = 32_752.0;

/// Converts values to 16-bit floats where the target computes with them.
#[derive(Clone, Debug)]
pub struct HalfValues {
    /// The element types of inputs and outputs.
    pub interface: Interfaces,
}

impl Pass for HalfValues {
    fn name(&self) -> &'static str {
        "half-values"
    }

    fn applies(&self, cx: &Context<'_>) -> bool {
        cx.source.given == Given::Nothing
    }

    fn run(&self, g: &mut Graph, cx: &mut Context<'_>) -> Result<(), PassError> {
        let none = CalibrationTable::default();
        half_values(g, cx.target, cx.ranges.unwrap_or(&none), &self.interface)?.take_place(g, cx);
        Ok(())
    }
}

/// Converts nodes to 16-bit floats where the target supports that. Nodes stay `F32` if they use a constant beyond the
/// range of `F16`, or if their values come close to its limit in `ranges`, which may be empty.
///
/// # Errors
/// If a node cannot be created with 16-bit floats.
pub fn half_values(
    g: &Graph,
    target: &Target,
    ranges: &CalibrationTable,
    interface: &Interfaces,
) -> Result<Quantized, PassError> {
    let mut new = Graph::new(g.name.clone());
    new.metadata = g.metadata.clone();
    let halved = halved(g, target, ranges);
    let mut b = Builder { old: g, new, placed: FxHashMap::default(), values: Vec::new() };
    for n in g.order() {
        match g.op(n) {
            Op::Input(_) => b.input(n, interface),
            // Constants are created for each user.
            Op::Const(_) => {}
            op => {
                let elem = if halved.contains(&n) { Elem::F16 } else { Elem::F32 };
                let operands = g.operands(n).into_iter().map(|v| b.operand(v, &elem));
                let operands = operands.collect::<Result<Operands, _>>()?;
                let made = b.new.add(op.clone(), &operands, g.origin(n).clone())?;
                b.settle(n, made);
            }
        }
    }
    for output in g.outputs() {
        let elem = if interface.of(&output.name) == Interface::Half { Elem::F16 } else { Elem::F32 };
        let v = b.operand(output.value, &elem)?;
        b.new.add_output(output.name.clone(), v);
    }
    b.new.verify().map_err(|error| PassError::Verify { pass: "half-values", error })?;
    Ok(Quantized { graph: b.new, values: b.values, lost_inputs: Vec::new(), decisions: Vec::new(), scaled: None })
}

/// The nodes that compute in 16-bit floats.
fn halved(g: &Graph, target: &Target, ranges: &CalibrationTable) -> FxHashSet<NodeId> {
    let fits = |v: ValueId| match g.constant(v) {
        Some(c) => c.ty().elem != Elem::F32 || narrowed(c, None).is_some(),
        None => ranges.get(v).is_none_or(|s| s.min >= -LARGEST && s.max <= LARGEST),
    };
    let real = |n: &NodeId| {
        let types = g.operand_types(*n);
        let results = g.result_types(*n);
        types.iter().any(|t| t.elem == Elem::F32)
            && results.iter().any(|t| matches!(t.elem, Elem::F32 | Elem::Bool | Elem::I64 | Elem::I32))
            && target.kernel_of(g, *n).is_some_and(|kernel| kernel.half)
    };
    let chosen = |n: &NodeId| !matches!(g.op(*n), Op::Cast(_)) && real(n);
    let sound = |n: &NodeId| g.operands(*n).into_iter().chain(g.results(*n)).all(fits);
    g.order().into_iter().filter(|n| chosen(n) && sound(n)).collect()
}

struct Builder<'a> {
    old: &'a Graph,
    new: Graph,
    /// The new values for an old one. The first is the result of the new node.
    placed: FxHashMap<ValueId, Vec<ValueId>>,
    values: Vec<(ValueId, ValueId)>,
}

impl Builder<'_> {
    fn input(&mut self, n: NodeId, interface: &Interfaces) {
        let v = n.value(0);
        let ty = self.old.ty(v);
        let name = self.old.name(v).cloned().unwrap_or_default();
        let half = interface.of(&name) == Interface::Half && ty.elem == Elem::F32;
        let ty = if half { ty.with_elem(Elem::F16) } else { ty.clone() };
        let input = self.new.add_input(name, ty);
        self.placed.insert(v, vec![input]);
    }

    /// Records the replacement of a node and copies the value names.
    fn settle(&mut self, old: NodeId, made: NodeId) {
        for (from, to) in self.old.results(old).zip(self.new.results(made)) {
            if let Some(name) = self.old.name(from) {
                self.new.set_name(to, name.clone());
            }
            self.placed.insert(from, vec![to]);
            self.values.push((from, to));
        }
    }

    /// The new value for an old one, cast to that element type if it is a float.
    fn operand(&mut self, v: ValueId, elem: &Elem) -> Result<ValueId, PassError> {
        let real = self.old.ty(v).elem == Elem::F32;
        let fits = |new: &Graph, p: &ValueId| !real || new.ty(*p).elem == *elem;
        if let Some(&p) = self.placed.get(&v).and_then(|all| all.iter().find(|p| fits(&self.new, p))) {
            return Ok(p);
        }
        let origin = self.old.origin(v.node).clone();
        let made = match (self.old.constant(v), self.placed.get(&v)) {
            (Some(c), _) => {
                let narrow = (real && *elem == Elem::F16).then(|| narrowed(c, None)).flatten();
                let made = self.new.add_const(narrow.unwrap_or_else(|| c.clone()), origin);
                if let Some(name) = self.old.name(v) {
                    self.new.set_name(made, name.clone());
                }
                made
            }
            (None, Some(all)) => self.new.add1(Cast { to: elem.clone() }, &[all[0]], origin)?,
            (None, None) => {
                return Err(qcc_ir::error::TypeError::Attribute("a value is read before it is made".into()).into());
            }
        };
        self.placed.entry(v).or_default().push(made);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SharedGraph;
    use crate::calibrate::{Method, calibrate};
    use crate::testing::BARE;
    use qcc_ir::text::{Weights, parse, print_brief};
    use qcc_ir::{Shape, Tensor};

    fn graph(body: &str) -> Graph {
        let text = format!("graph g {{ %x: f32[1,2] = input {body} output y = %y }}");
        parse(&text, &Weights::new()).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    fn halves(g: &Graph, x: Option<[f32; 2]>, interface: Interface) -> String {
        let joint = SharedGraph::alone(g);
        let sample = |_| x.map(|x| vec![Tensor::from_vec(Shape::known(&[1, 2]), x.to_vec())]);
        let ranges = calibrate(&joint, &[g], Method::MinMax, 1, sample, &mut |_| std::ops::ControlFlow::Continue(()))
            .unwrap()
            .remove(0);
        print_brief(&half_values(g, &BARE, &ranges, &interface.into()).unwrap().graph)
    }

    const SCALED: &str = "%c: f32[1,2] = const [0.5,100] %a = binary(f:Mul) %x, %c %y = unary(f:Sigmoid) %a";

    #[test]
    fn casts_are_at_inputs_and_outputs() {
        insta::assert_snapshot!(halves(&graph(SCALED), None, Interface::Float));
        insta::assert_snapshot!(halves(&graph(SCALED), None, Interface::Half));
    }

    #[test]
    fn values_that_would_overflow_stay_in_single_precision() {
        insta::assert_snapshot!(halves(&graph(SCALED), Some([1.0, 1000.0]), Interface::Float));
        let masked = graph("%c: f32[1,2] = const [0,-1e9] %a = binary(f:Add) %x, %c %y = softmax(axis:1,log:false) %a");
        insta::assert_snapshot!(halves(&masked, None, Interface::Float));
    }
}

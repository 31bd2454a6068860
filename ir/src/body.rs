//! The bodies of loops as graphs.

use crate::error::TypeError;
use crate::graph::Graph;
use crate::ops::Loop;
use crate::text::{Weights, parse, print_whole};
use crate::types::TensorType;

impl Loop {
    /// A loop of a body that carries so many values, and the symbol for its number of iterations, which is used where the body
    /// has rows.
    ///
    /// # Errors
    /// Where the graph is no such body: an extent is open, or a value has another type after an iteration.
    pub fn of(body: &Graph, carried: usize, count: impl Into<String>) -> Result<Loop, TypeError> {
        let inputs: Vec<TensorType> = body.inputs().map(|v| body.ty(v).clone()).collect();
        let outputs: Vec<TensorType> = body.outputs().iter().map(|o| body.ty(o.value).clone()).collect();
        let part = |types: &[TensorType], from: usize, to: usize| types.get(from..to).unwrap_or_default().to_vec();
        let rows = part(&outputs, 1 + carried, outputs.len());
        let op = Loop {
            carried: part(&inputs, 1, 1 + carried),
            reads: part(&inputs, 1 + carried, inputs.len()),
            count: if rows.is_empty() { String::new() } else { count.into() },
            rows,
            body: print_whole(body),
        };
        op.graph().map(|_| op)
    }

    /// The body.
    ///
    /// # Errors
    /// Where the text is not the graph of a body of these types.
    pub fn graph(&self) -> Result<Graph, TypeError> {
        let invalid = |why: String| TypeError::Attribute(format!("the body of a loop: {why}"));
        let body = parse(&self.body, &Weights::new()).map_err(|e| invalid(e.to_string()))?;
        body.verify().map_err(|e| invalid(e.to_string()))?;
        if body.is_open() {
            return Err(invalid("an extent is not known before it runs".into()));
        }
        let takes = body.inputs().map(|v| body.ty(v).clone()).eq(self.takes());
        let gives = body.outputs().iter().map(|o| body.ty(o.value).clone()).eq(self.gives());
        if takes && gives { Ok(body) } else { Err(invalid("its inputs and outputs are not those of the loop".into())) }
    }

    /// The loop with another body of the same inputs and outputs.
    ///
    /// # Errors
    /// As [`Loop::of`].
    pub fn with(&self, body: &Graph) -> Result<Loop, TypeError> {
        let op = Loop { body: print_whole(body), ..self.clone() };
        op.graph().map(|_| op)
    }
}

#[cfg(test)]
mod tests {
    use crate::eval::Executor;
    use crate::graph::Graph;
    use crate::ops::{Loop, Op};
    use crate::text::{Weights, parse, print_full};
    use crate::types::{Shape, Tensor};

    /// Doubles x and adds w until its sum is at least 10; the rows are the iterations and x before them.
    const BODY: &str = "graph b { %i: i64[] = input %x: f32[2] = input %w: f32[2] = input
        %d = binary(f:Add) %x, %x %y = binary(f:Add) %d, %w
        %s = reduce(f:Sum,axes:[0],keep:false) %y %most: f32[] = const [10.0] %again = binary(f:Less) %s, %most
        output again = %again output y = %y output i = %i output x = %x }";

    fn body(text: &str) -> Graph {
        parse(text, &Weights::new()).unwrap()
    }

    fn looped() -> Graph {
        let op = Loop::of(&body(BODY), 1, "turns").unwrap();
        let mut g = body("graph g { %m: i64[] = input %c: bool[] = input %x: f32[2] = input %w: f32[2] = input }");
        let operands: Vec<_> = g.inputs().collect();
        let node = g.add(op, &operands, crate::Origin::none()).unwrap();
        g.results(node).enumerate().for_each(|(i, v)| g.add_output(format!("y{i}"), v));
        g
    }

    #[test]
    fn a_body_runs_while_its_condition_holds() {
        let g = looped();
        g.verify().unwrap();
        let run = |most: i64, first: bool| {
            let floats = |values: [f32; 2]| Tensor::from_vec(Shape::known(&[2]), values.to_vec());
            let condition = Tensor::from_bools(Shape::scalar(), [first]);
            let inputs = [Tensor::scalar(most), condition, floats([1.0, 0.0]), floats([0.0, 1.0])];
            let outputs = Executor::new(&g).run(&inputs, &mut |_, _| ()).unwrap();
            (outputs[0].floats().to_vec(), outputs[1].integers().unwrap(), outputs[2].dims())
        };
        assert_eq!(run(99, true), (vec![8.0, 7.0], vec![0, 1, 2], vec![3, 2]));
        assert_eq!(run(1, true), (vec![2.0, 1.0], vec![0], vec![1, 2]));
        assert_eq!(run(0, true), (vec![1.0, 0.0], vec![], vec![0, 2]));
        assert_eq!(run(99, false), (vec![1.0, 0.0], vec![], vec![0, 2]));
    }

    #[test]
    fn a_loop_is_printed_and_parsed() {
        let g = looped();
        let text = print_full(&g);
        let read = body(&text);
        assert_eq!(print_full(&read), text);
        assert!(g.order().iter().any(|&n| matches!(g.op(n), Op::Loop(op) if op.graph().is_ok())));
    }

    #[test]
    fn bodies_of_other_types_are_refused() {
        for (text, why) in [
            (BODY.replace("output y = %y", "output y = %s"), "inputs and outputs"),
            (BODY.replace("output again = %again", "output again = %s"), "inputs and outputs"),
            (BODY.replace("f32[2]", "f32[n]"), "not known"),
        ] {
            let error = Loop::of(&body(&text), 1, "turns").unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

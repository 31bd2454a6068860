//! Graphs inside operators as graphs.

use std::any::Any;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::error::TypeError;
use crate::graph::Graph;
use crate::ops::{Body, Nested, Op};
use crate::text::{Weights, parse, print_full, print_whole};
use crate::types::{Symbols, TensorType};

impl Nested for Graph {
    fn takes(&self) -> Vec<TensorType> {
        self.inputs().map(|v| self.ty(v).clone()).collect()
    }

    fn gives(&self) -> Vec<TensorType> {
        self.outputs().iter().map(|o| self.ty(o.value).clone()).collect()
    }

    fn bound(&self, symbols: &Symbols) -> Arc<dyn Nested> {
        Arc::new(Graph::bound(self, symbols))
    }

    fn text(&self, whole: bool) -> String {
        if whole { print_whole(self) } else { print_full(self) }
    }
}

impl From<Graph> for Body {
    fn from(graph: Graph) -> Self {
        Body(Arc::new(graph))
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let graph = parse(&String::deserialize(d)?, &Weights::new()).map_err(D::Error::custom)?;
        graph.verify().map_err(D::Error::custom)?;
        Ok(graph.into())
    }
}

impl Op {
    /// The graphs inside the operator.
    pub fn graphs(&self) -> impl Iterator<Item = &Graph> {
        self.bodies().into_iter().filter_map(|body| body.graph().ok())
    }
}

impl Body {
    /// The graph.
    ///
    /// # Errors
    /// None where the body was made from a graph, as all are.
    pub fn graph(&self) -> Result<&Graph, TypeError> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref().ok_or_else(|| TypeError::Attribute("a body is no graph".into()))
    }
}

#[cfg(test)]
mod tests {
    use crate::Origin;
    use crate::eval::Executor;
    use crate::graph::Graph;
    use crate::ops::{If, Loop, Op};
    use crate::testing::numbers;
    use crate::text::{Weights, parse, print_full, print_whole};
    use crate::types::{Expr, Shape, Symbols, Tensor};

    /// Doubles x and adds w until its sum is at least 10; the rows are the iterations and x before them.
    const BODY: &str = "graph b { %i: i64[] = input %x: f32[2] = input %w: f32[2] = input
        %d = binary(f:Add) %x, %x %y = binary(f:Add) %d, %w
        %s = reduce(f:Sum,axes:[0],keep:false) %y %most: f32[] = const [10.0] %again = binary(f:Less) %s, %most
        output again = %again output y = %y output i = %i output x = %x }";

    /// Adds x to a row of w.
    const OPEN: &str = "graph b { %i: i64[] = input %x: f32[n] = input %w: f32[m,n] = input
        %r = gather(axis:0) %w, %i %y = binary(f:Add) %x, %r %again: bool[] = const [1]
        output again = %again output y = %y output r = %y }";

    /// The elements of x that are positive, or all of them.
    const BRANCHES: [&str; 2] = [
        "graph t { %x: f32[n,2] = input %c: f32[] = const [0.0] %p = binary(f:Greater) %x, %c
            %at = non_zero(count:\"found\") %p %t = transpose(perm:[1,0]) %at %y = gather_nd(batch:0) %x, %t output y = %y output x = %x }",
        "graph e { %x: f32[n,2] = input %y = reshape[\"(2*n)\"] %x %z = binary(f:Add) %x, %x output y = %y output z = %z }",
    ];

    fn graph(text: &str) -> Graph {
        parse(text, &Weights::new()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// A graph with the operator alone, on inputs.
    fn alone(inputs: &str, op: impl Into<Op>) -> Graph {
        let mut g = graph(&format!("graph g {{ {inputs} }}"));
        let operands: Vec<_> = g.inputs().collect();
        let node = g.add(op, &operands, Origin::none()).unwrap_or_else(|e| panic!("{e}"));
        g.results(node).enumerate().for_each(|(i, v)| g.add_output(format!("y{i}"), v));
        g
    }

    fn looped() -> Graph {
        let op = Loop { carried: 1, iterations: None, count: "turns".into(), body: graph(BODY).into() };
        alone("%m: i64[] = input %c: bool[] = input %x: f32[2] = input %w: f32[2] = input", op)
    }

    fn open_loop() -> Graph {
        let op =
            Loop { carried: 1, iterations: Some(Expr::symbol("m")), count: String::new(), body: graph(OPEN).into() };
        alone("%m: i64[] = input %c: bool[] = input %x: f32[n] = input %w: f32[m,n] = input", op)
    }

    fn branches() -> Graph {
        let [then, otherwise] = BRANCHES.map(|text| graph(text).into());
        alone("%c: bool[] = input %x: f32[n,2] = input", If::of(then, otherwise, || "kept".into()))
    }

    fn run(g: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
        g.verify().unwrap();
        Executor::new(g).run(inputs, &mut |_, _| ()).unwrap_or_else(|e| panic!("{e}"))
    }

    fn condition(holds: bool) -> Tensor {
        Tensor::from_bools(Shape::scalar(), [holds])
    }

    #[test]
    fn a_body_runs_while_its_condition_holds() {
        let g = looped();
        let outputs = |most: i64, first: bool| {
            let floats = |values: [f32; 2]| Tensor::from_vec(Shape::known(&[2]), values.to_vec());
            let outputs = run(&g, &[Tensor::scalar(most), condition(first), floats([1.0, 0.0]), floats([0.0, 1.0])]);
            (outputs[0].floats().to_vec(), outputs[1].integers().unwrap(), outputs[2].dims())
        };
        assert_eq!(outputs(99, true), (vec![8.0, 7.0], vec![0, 1, 2], vec![3, 2]));
        assert_eq!(outputs(1, true), (vec![2.0, 1.0], vec![0], vec![1, 2]));
        assert_eq!(outputs(0, true), (vec![1.0, 0.0], vec![], vec![0, 2]));
        assert_eq!(outputs(99, false), (vec![1.0, 0.0], vec![], vec![0, 2]));
    }

    #[test]
    fn bodies_have_open_extents() {
        let g = open_loop();
        assert_eq!(g.ty(g.outputs()[1].value).to_string(), "f32[m,n]");
        for (m, n) in [(3, 2), (1, 4), (0, 2)] {
            let (x, w) = (numbers(Shape::known(&[n]), 1), numbers(Shape::known(&[m, n]), 2));
            let inputs = [Tensor::scalar(m as i64), condition(true), x.clone(), w.clone()];
            let outputs = run(&g, &inputs);
            let mut sum = x.floats().to_vec();
            for row in w.floats().chunks(n) {
                sum.iter_mut().zip(row).for_each(|(sum, w)| *sum += w);
            }
            assert_eq!((outputs[0].floats().to_vec(), outputs[1].dims()), (sum, vec![m, n]));
            let bound = g.bound(&Symbols::from_iter([("m".into(), m), ("n".into(), n)]));
            assert_eq!(run(&bound, &inputs), outputs);
        }
    }

    #[test]
    fn a_branch_is_computed() {
        let g = branches();
        let types: Vec<String> = g.outputs().iter().map(|o| g.ty(o.value).to_string()).collect();
        assert_eq!(types, ["f32[($kept)]", "f32[n,2]"]);
        let x = Tensor::from_vec(Shape::known(&[2, 2]), vec![1.0f32, -2.0, 3.0, 4.0]);
        let [yes, no] = [true, false].map(|holds| run(&g, &[condition(holds), x.clone()]));
        assert_eq!((yes[0].floats().to_vec(), &yes[1]), (vec![1.0, 3.0, 4.0], &x));
        assert_eq!(no[0].floats().to_vec(), [1.0, -2.0, 3.0, 4.0]);
        assert_eq!(no[1].floats().to_vec(), [2.0, -4.0, 6.0, 8.0]);
    }

    #[test]
    fn bodies_are_printed_and_parsed() {
        for g in [looped(), open_loop(), branches()] {
            let text = print_whole(&g);
            let read = graph(&text);
            assert!(read.same(&g), "{text}");
            assert_eq!(print_full(&read), print_full(&g));
        }
    }

    #[test]
    fn bodies_of_other_types_are_refused() {
        for (text, why) in [
            (BODY.replace("output y = %y", "output y = %s"), "inputs and outputs of the body"),
            (BODY.replace("output again = %again", "output again = %s"), "inputs and outputs of the body"),
            (BODY.replace("f32[2]", "f32[3]"), "expected f32[3]"),
        ] {
            let op = Loop { carried: 1, iterations: None, count: "turns".into(), body: graph(&text).into() };
            let mut g = looped();
            let operands: Vec<_> = g.inputs().collect();
            let error = g.add(op, &operands, Origin::none()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let [then, otherwise] =
            [BRANCHES[0].to_owned(), BRANCHES[1].replace("%y = reshape[\"(2*n)\"] %x", "%y = reshape[1,\"(2*n)\"] %x")];
        let beyond = Loop { carried: usize::MAX, iterations: None, count: String::new(), body: graph(BODY).into() };
        assert!(looped().add(beyond, &[], Origin::none()).is_err());
        let [then, otherwise] = [then, otherwise].map(|text| graph(&text).into());
        let mut g = branches();
        let operands: Vec<_> = g.inputs().collect();
        let error =
            g.add(If::of(then, otherwise, || "kept".into()), &operands, Origin::none()).unwrap_err().to_string();
        assert!(error.contains("outputs of the branches differ"), "{error}");
    }
}

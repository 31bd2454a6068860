//! Models of any size that a few rules describe: where a step of the compiler looks at all nodes for each node, its time
//! shows in one of them.

use qcc_formats::onnx::{
    AttributeProto, AttributeType, DataType, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, TypeProtoTensor, TypeValue, ValueInfoProto,
};

/// What is in the model of a family.
#[derive(Default)]
struct Parts {
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    constants: Vec<TensorProto>,
    outputs: Vec<String>,
}

fn some(s: impl Into<String>) -> Option<String> {
    Some(s.into())
}

fn tensor(name: &str, dims: Option<&[i64]>) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension { value: Some(DimensionValue::Value(d)) };
    let shape = dims.map(|dims| TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let ty = TypeProtoTensor { elem_type: Some(DataType::Float as i32), shape };
    ValueInfoProto { name: some(name), r#type: Some(TypeProto { value: Some(TypeValue::Tensor(ty)) }) }
}

fn floats(name: &str, dims: &[i64], first: f32) -> TensorProto {
    let count = dims.iter().product::<i64>();
    TensorProto {
        dims: dims.into(),
        data_type: Some(DataType::Float as i32),
        name: some(name),
        // All but the first are the same: equal beginnings say little.
        float_data: (0..count).map(|i| if i + 1 == count { first } else { 0.5 }).collect(),
        ..TensorProto::default()
    }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: Some(DataType::Int64 as i32),
        name: some(name),
        int64_data: values.into(),
        ..TensorProto::default()
    }
}

fn node<S: AsRef<str>>(kind: &str, operands: &[S], results: &[S]) -> NodeProto {
    let names = |all: &[S]| all.iter().map(|s| s.as_ref().to_owned()).collect();
    NodeProto {
        input: names(operands),
        output: names(results),
        name: Some(String::new()),
        op_type: some(kind),
        ..NodeProto::default()
    }
}

fn axis(mut node: NodeProto, axis: i64) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: some("axis"),
        r#type: Some(AttributeType::Int as i32),
        i: Some(axis),
        ..AttributeProto::default()
    });
    node
}

fn perm(mut node: NodeProto, perm: &[i64]) -> NodeProto {
    node.attribute.push(AttributeProto {
        name: some("perm"),
        r#type: Some(AttributeType::Ints as i32),
        ints: perm.into(),
        ..AttributeProto::default()
    });
    node
}

/// Value `i` of a row; 0 is the input.
fn v(i: usize) -> String {
    if i == 0 { "x".into() } else { format!("v{i}") }
}

fn all(n: usize, name: impl Fn(usize) -> String) -> Vec<String> {
    (0..n).map(name).collect()
}

/// A row of `n` steps, each from one value to the next.
fn row(n: usize, step: impl Fn(&str, &str, usize) -> Vec<NodeProto>) -> Parts {
    let nodes = (0..n).flat_map(|i| step(&v(i), &v(i + 1), i)).collect();
    Parts { nodes, outputs: vec![v(n)], ..Parts::default() }
}

impl Parts {
    fn input(mut self, dims: &[i64]) -> Self {
        self.inputs.push(tensor("x", Some(dims)));
        self
    }

    fn constant(mut self, constant: TensorProto) -> Self {
        self.constants.push(constant);
        self
    }

    fn model(mut self) -> ModelProto {
        if self.inputs.is_empty() {
            self = self.input(&[1, 4]);
        }
        let graph = GraphProto {
            name: some("family"),
            node: self.nodes,
            initializer: self.constants,
            input: self.inputs,
            output: self.outputs.iter().map(|o| tensor(o, None)).collect(),
            ..GraphProto::default()
        };
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { domain: some(""), version: Some(13) }],
            graph: Some(graph),
            ..ModelProto::default()
        }
    }
}

/// A family: its name, and its model of a size.
pub(crate) type Family = (&'static str, fn(usize) -> ModelProto);

/// Shapes of graphs that grow in one direction each.
pub(crate) const FAMILIES: &[Family] = &[
    ("row of one function", |n| row(n, |a, b, _| vec![node("Sin", &[a], &[b])]).model()),
    ("row that folds into one node", |n| row(n, |a, b, _| vec![node("Relu", &[a], &[b])]).model()),
    ("row of additions of one constant", |n| {
        row(n, |a, b, _| vec![node("Add", &[a, "c"], &[b])]).constant(floats("c", &[4], 1.0)).model()
    }),
    ("row of products with the input", |n| row(n, |a, b, _| vec![node("Mul", &[a, "x"], &[b])]).model()),
    ("row of sums of a value with itself", |n| row(n, |a, b, _| vec![node("Add", &[a, a], &[b])]).model()),
    ("row of gated activations", |n| {
        row(n, |a, b, i| {
            let gate = format!("gate{i}");
            vec![node("Sigmoid", &[a], &[&gate]), node("Mul", &[a, &gate], &[b])]
        })
        .model()
    }),
    ("row of residual blocks", |n| {
        row(n, |a, b, i| {
            let (c, r) = (format!("c{i}"), format!("r{i}"));
            vec![node("Conv", &[a, "w"], &[&c]), node("Relu", &[&c], &[&r]), node("Add", &[&r, a], &[b])]
        })
        .input(&[1, 3, 4, 4])
        .constant(floats("w", &[3, 3, 1, 1], 1.0))
        .model()
    }),
    ("row of casts to and fro", |n| {
        let cast = |a: &str, b: &str, to: DataType| {
            let mut cast = axis(node("Cast", &[a], &[b]), to as i64);
            cast.attribute[0].name = some("to");
            cast
        };
        row(n, |a, b, i| {
            let whole = format!("i{i}");
            vec![cast(a, &whole, DataType::Int64), cast(&whole, b, DataType::Float)]
        })
        .model()
    }),
    ("row of reshapes", |n| {
        let to = |i: usize| if i.is_multiple_of(2) { "tall" } else { "flat" };
        let row = row(n, |a, b, i| vec![node("Reshape", &[a, to(i)], &[b])]);
        row.constant(integers("tall", &[2, 2])).constant(integers("flat", &[1, 4])).model()
    }),
    ("row of joins", |n| row(n, |a, b, _| vec![axis(node("Concat", &[a, "x"], &[b]), 0)]).model()),
    ("row of transposes", |n| {
        row(n, |a, b, _| vec![perm(node("Transpose", &[a], &[b]), &[0, 2, 3, 1])]).input(&[1, 2, 3, 4]).model()
    }),
    ("row between transposes", |n| {
        let mut row = row(n, |a, b, _| vec![node("Sin", &[a], &[b])]).input(&[1, 2, 3, 4]);
        row.nodes.insert(0, perm(node("Transpose", &["x"], &["moved"]), &[0, 2, 3, 1]));
        row.nodes[1].input[0] = "moved".into();
        row.nodes.push(perm(node("Transpose", &[v(n)], &["y".to_owned()]), &[0, 3, 1, 2]));
        row.outputs = vec!["y".into()];
        row.model()
    }),
    ("row of which all are outputs", |n| {
        let row = row(n, |a, b, _| vec![node("Sin", &[a], &[b])]);
        Parts { outputs: (1..=n).map(v).collect(), ..row }.model()
    }),
    ("one value named as many outputs", |n| {
        Parts { outputs: vec!["y".into(); n], nodes: vec![node("Sin", &["x"], &["y"])], ..Parts::default() }.model()
    }),
    ("join of one value many times", |n| {
        let join = axis(node("Concat", &vec!["x"; n], &["y"]), 1);
        Parts { nodes: vec![join], outputs: vec!["y".into()], ..Parts::default() }.model()
    }),
    ("sum of many equal values", |n| {
        let mut fan = row(n, |_, b, _| vec![node("Sin", &["x"], &[b])]);
        fan.nodes.push(node("Sum", &all(n, |i| v(i + 1)), &["y".to_owned()]));
        Parts { outputs: vec!["y".into()], ..fan }.model()
    }),
    ("join of many different values", |n| {
        let mut fan = row(n, |_, b, i| vec![node("Mul", &["x", &format!("c{i}")], &[b])]);
        fan.nodes.push(axis(node("Concat", &all(n, |i| v(i + 1)), &["y".to_owned()]), 1));
        fan.constants = (0..n).map(|i| floats(&format!("c{i}"), &[1, 8], i as f32)).collect();
        Parts { outputs: vec!["y".into()], ..fan }.input(&[1, 8]).model()
    }),
    ("parts in another order", |n| {
        let parts = all(n, |i| format!("part{i}"));
        let mut backwards = parts.clone();
        backwards.reverse();
        let nodes = vec![
            axis(node("Split", &["x".to_owned()], &parts), 1),
            axis(node("Concat", &backwards, &["y".to_owned()]), 1),
        ];
        Parts { nodes, outputs: vec!["y".into()], ..Parts::default() }.input(&[1, n as i64]).model()
    }),
    ("many inputs", |n| {
        let inputs = all(n, |i| format!("in{i}"));
        let sum = node("Sum", &inputs, &["y".to_owned()]);
        let inputs = inputs.iter().map(|name| tensor(name, Some(&[1, 4]))).collect();
        Parts { nodes: vec![sum], inputs, outputs: vec!["y".into()], ..Parts::default() }.model()
    }),
    ("many nodes of one name", |n| {
        let mut row = row(n, |a, b, _| vec![node("Sin", &[a], &[b])]);
        row.nodes.iter_mut().for_each(|node| node.name = some("same"));
        row.model()
    }),
];

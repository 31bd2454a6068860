//! The context of a node during import, used by the rows of the operator table.

use qcc_ir::ops::{BinaryFn, Expand, Extents};
use qcc_ir::{Dim, Elem, Expr, Graph, Origin, Shape, Tensor, ValueId};
use smallvec::SmallVec;

use super::body::Turns;
use super::importer::{Binding, Importer};
use super::quantity::Quantity;
use super::schema::{self, Argument, Node, Number};
use super::storage::View;
use crate::build::computed::shape_of;
use crate::build::control;
use crate::build::{Build, Values, extents, numbers};
use crate::refusal::Refusal;

mod arguments;

/// Arguments that do not affect types or values in inference.
const IDLE: [&str; 14] = [
    "copy",
    "cudnn_enable",
    "cudnn_enabled",
    "device",
    "implicit",
    "layout",
    "memory_format",
    "momentum",
    "non_blocking",
    "padding_idx",
    "pin_memory",
    "scale_grad_by_freq",
    "sparse",
    "sparse_grad",
];

/// A tensor, or a number of the program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Tensor(ValueId),
    Number(Number),
    /// A number that follows from open extents, as a scalar.
    Open(ValueId),
}

/// A node and its importer. Unused arguments are refused by [`NodeCx::finish`].
#[derive(Debug)]
pub(super) struct NodeCx<'a, 'm> {
    importer: &'a mut Importer<'m>,
    node: &'m Node,
    read: SmallVec<[bool; 8]>,
    origin: Origin,
}

impl Build for NodeCx<'_, '_> {
    fn graph(&self) -> &Graph {
        &self.importer.graph
    }

    fn graph_mut(&mut self) -> &mut Graph {
        &mut self.importer.graph
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl<'a, 'm> NodeCx<'a, 'm> {
    pub(super) fn new(importer: &'a mut Importer<'m>, node: &'m Node, origin: Origin) -> Self {
        let read = SmallVec::from_elem(false, node.inputs.len());
        NodeCx { importer, node, read, origin }
    }

    /// Fails if an argument was not used.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        let given = self.node.inputs.iter().zip(&self.read);
        let unread = given.filter(|(input, read)| {
            let idle = IDLE.contains(&input.name.as_str()) || matches!(input.arg, Argument::None | Argument::Placement);
            !**read && !idle
        });
        let unread: Vec<&str> = unread.map(|(input, _)| input.name.as_str()).collect();
        if unread.is_empty() { Ok(()) } else { Err(Refusal::UnreadArgument(unread.join(", "))) }
    }

    /// The operator without its overload, as in the table.
    pub(super) fn op(&self) -> &'m str {
        self.node.operator()
    }

    /// The memory layout of an argument's tensor in PyTorch, if its extents are known.
    pub(super) fn declared_view(&self, name: &str) -> Option<View> {
        match self.node.argument(name)? {
            Argument::Tensor(tensor) => View::of(self.importer.declared(tensor)?, &self.importer.symbols),
            _ => None,
        }
    }

    /// Inlines a graph and returns its tensors.
    pub(super) fn inline<O>(&mut self, graph: &'m schema::Graph, operands: &[O]) -> Result<Values, Refusal>
    where
        O: Clone + Into<Binding<'m>>,
    {
        Ok(self.importer.inline(graph, operands)?.0)
    }

    /// Adds a loop of which `first` tells whether there is a first iteration, and returns its results.
    pub(super) fn repeated(&mut self, turns: &Turns<'m, '_>, first: ValueId) -> Result<Values, Refusal> {
        let (op, operands) = self.importer.turns(turns, &self.origin)?;
        let most = match &op.iterations {
            Some(count) => self.add_whole(vec![count.clone()], Extents::new())?,
            None => control::most(self, None)?.0,
        };
        let operands: Values = [most, first].into_iter().chain(operands).collect();
        self.add_all(op, &operands)
    }

    /// Inlines a graph whose results are those of the node, and returns its tensors.
    pub(super) fn inline_as(&mut self, graph: &'m schema::Graph, operands: &[Binding<'m>]) -> Result<Values, Refusal> {
        let (tensors, numbers) = self.importer.inline(graph, operands)?;
        for (name, number) in self.node.number_results().zip(numbers) {
            self.importer.bind_new(name, Binding::Number(number))?;
        }
        Ok(tensors)
    }

    /// The element type that these operands promote to. Tensors with axes take precedence over scalar tensors, and
    /// these over numbers, unless the other one is of a higher kind (integers over booleans, floats over integers).
    pub(super) fn promoted(&self, operands: &[Operand]) -> Elem {
        let mut classes: [Option<Elem>; 3] = [None, None, None];
        for operand in operands {
            let (class, elem) = match operand {
                Operand::Tensor(v) => (usize::from(self.rank(*v) == 0), self.ty(*v).elem.clone()),
                Operand::Number(n) => (2, n.elem()),
                Operand::Open(v) => (2, self.ty(*v).elem.clone()),
            };
            let known = classes[class].take();
            classes[class] = Some(known.map_or(elem.clone(), |known| wider(&known, &elem)));
        }
        let kind = |e: &Elem| if e.is_float() { 2 } else { i32::from(*e != Elem::Bool) };
        let decided = classes.into_iter().flatten().reduce(|high, low| match kind(&low) > kind(&high) {
            true => low,
            false => high,
        });
        decided.unwrap_or(Elem::F32)
    }

    /// The operand as a value of this element type.
    pub(super) fn as_value(&mut self, operand: Operand, elem: &Elem) -> Result<ValueId, Refusal> {
        match operand {
            Operand::Tensor(v) | Operand::Open(v) => self.cast(v, elem.clone()),
            Operand::Number(n) => self.constant_of(n, elem),
        }
    }

    /// Adds a constant scalar of this element type.
    pub(super) fn constant_of(&mut self, n: Number, elem: &Elem) -> Result<ValueId, Refusal> {
        // A number that is cast to an integer is truncated; one that is cast to a boolean becomes 0 or 1.
        let value = match elem {
            Elem::Bool => f64::from(u8::from(n.float() != 0.0)),
            e if e.is_integer() => n.float().trunc(),
            _ => n.float(),
        };
        let tensor = match (elem, n) {
            // Beyond 2^53 a float would not be exact.
            (Elem::I64, Number::Int(i)) => Some(Tensor::scalar(i)),
            _ => numbers(elem, Shape::scalar(), &[value]),
        };
        let tensor = tensor.ok_or_else(|| Refusal::Unsupported(format!("{value} is no {elem}")))?;
        Ok(self.add_constant(tensor))
    }

    /// An open number as a scalar that nodes compute: an `I64` for an integer, an `F32` for a float.
    pub(super) fn open_value(&mut self, x: &Quantity) -> Result<ValueId, Refusal> {
        let scalar = |e: &Expr| vec![e.clone()];
        match x {
            Quantity::Known(number) => self.constant_of(*number, &Elem::F32),
            Quantity::Whole(expr) => self.add_whole(scalar(expr), [].into_iter().collect()),
            Quantity::Ratio(expr, by) => {
                let whole = self.add_whole(scalar(expr), [].into_iter().collect())?;
                let x = self.cast(whole, Elem::F32)?;
                if *by == 1 {
                    return Ok(x);
                }
                let by = self.scalar(*by as f64, x)?;
                self.binary(BinaryFn::Div, x, by)
            }
            Quantity::Value(v) => Ok(*v),
        }
    }

    /// As [`NodeCx::open_value`], an `F32` in any case.
    pub(super) fn float_value(&mut self, x: &Quantity) -> Result<ValueId, Refusal> {
        let v = self.open_value(x)?;
        self.cast(v, Elem::F32)
    }

    /// The extent of an axis, which must be known.
    pub(super) fn known_extent(&self, x: ValueId, axis: usize) -> Result<usize, Refusal> {
        let shape = self.shape(x);
        shape.dims().get(axis).and_then(Dim::known).ok_or_else(|| Refusal::Open(shape.clone()))
    }

    /// A function of `self` and `other`, both converted to the promoted element type.
    pub(super) fn promoted_binary(&mut self, f: BinaryFn, a: Operand, b: Operand) -> Result<ValueId, Refusal> {
        let elem = self.promoted(&[a, b]);
        let (a, b) = (self.as_value(a, &elem)?, self.as_value(b, &elem)?);
        self.binary(f, a, b)
    }

    /// Adds an expansion, if the shape differs.
    pub(super) fn expand(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId, Refusal> {
        self.expand_to(x, Shape::known(dims))
    }

    /// As [`NodeCx::expand`], to extents that may be open.
    pub(super) fn expand_to(&mut self, x: ValueId, shape: Shape) -> Result<ValueId, Refusal> {
        if self.ty(x).shape == shape { Ok(x) } else { self.add(Expand { shape }, &[x]) }
    }

    /// The value with the element type and shape of another.
    pub(super) fn like(&mut self, v: ValueId, other: ValueId) -> Result<ValueId, Refusal> {
        let v = self.cast(v, self.ty(other).elem.clone())?;
        self.expand_to(v, self.shape(other).clone())
    }

    /// The axes of an argument; absent or empty means all.
    pub(super) fn axes(&mut self, name: &str, x: ValueId) -> Result<qcc_ir::ops::Extents, Refusal> {
        let rank = self.rank(x);
        match self.optional_ints(name)?.unwrap_or_default().as_slice() {
            [] => Ok((0..rank).collect()),
            // A scalar counts as a vector of one element.
            [0 | -1] if rank == 0 => Ok(qcc_ir::ops::Extents::new()),
            some => crate::build::count_axes(some, rank),
        }
    }

    /// Extents that an argument gives.
    pub(super) fn extents(&mut self, name: &str) -> Result<Vec<usize>, Refusal> {
        extents(&self.ints(name)?)
    }

    /// The number of the node's results.
    pub(super) fn results(&self) -> usize {
        self.node.results().count()
    }

    /// Extents that an argument gives, which may be open.
    pub(super) fn asked_shape(&mut self, name: &str) -> Result<Shape, Refusal> {
        shape_of(&self.wholes(name)?)
    }

    /// The extent of an axis that the program declares for result `i`, if it is an expression.
    pub(super) fn declared_extent(&self, i: usize, axis: usize) -> Option<Dim> {
        let meta = self.importer.declared(self.node.results().nth(i)?)?;
        meta.sizes.get(axis)?.expr(&self.importer.symbols).and_then(Dim::of)
    }
}

/// The smallest element type that represents the values of both.
fn wider(a: &Elem, b: &Elem) -> Elem {
    let order = |e: &Elem| match e {
        Elem::Bool => 0,
        Elem::U8 => 1,
        Elem::I8 => 2,
        Elem::I16 => 3,
        Elem::I32 => 4,
        Elem::I64 => 5,
        Elem::F16 => 6,
        Elem::F32 | Elem::Quantized(_) => 7,
    };
    match (a, b) {
        (Elem::U8, Elem::I8) | (Elem::I8, Elem::U8) => Elem::I16,
        _ if order(a) >= order(b) => a.clone(),
        _ => b.clone(),
    }
}

impl Number {
    /// As a float.
    pub(super) fn float(self) -> f64 {
        match self {
            Number::Int(i) => i as f64,
            Number::Float(f) => f,
            Number::Bool(b) => u8::from(b).into(),
        }
    }

    /// The integer that it is.
    pub(super) fn int(self) -> Option<i64> {
        match self {
            Number::Int(i) => Some(i),
            Number::Bool(b) => Some(b.into()),
            Number::Float(f) => (f.fract() == 0.0 && f.abs() < 9e15).then_some(f as i64),
        }
    }

    /// The element type of a Python scalar.
    fn elem(self) -> Elem {
        match self {
            Number::Int(_) => Elem::I64,
            Number::Float(_) => Elem::F32,
            Number::Bool(_) => Elem::Bool,
        }
    }
}

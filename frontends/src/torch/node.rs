//! The context of a node during import, used by the rows of the operator table.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{BinaryFn, Expand};
use qcc_ir::{Elem, Graph, Origin, Shape, Tensor, ValueId};
use smallvec::SmallVec;

use super::importer::{Complex, Importer};
use super::schema::{self, Argument, Node, Number, Term};
use super::storage::View;
use super::weights;
use crate::build::{Build, Values, extents, numbers};
use crate::elements::Stored;
use crate::refusal::Refusal;

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
            Argument::Tensor(tensor) => View::of(self.importer.declared(tensor)?),
            _ => None,
        }
    }

    // Arguments.

    fn at(&mut self, i: usize) -> Option<&'m Argument> {
        self.read[i] = true;
        Some(&self.node.inputs[i].arg).filter(|a| !matches!(a, Argument::None))
    }

    fn argument(&mut self, name: &str) -> Option<&'m Argument> {
        let i = self.node.inputs.iter().position(|input| input.name == name)?;
        self.at(i)
    }

    /// True if the argument is given and is not `None`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.node.argument(name).is_some_and(|a| !matches!(a, Argument::None))
    }

    /// A tensor, if given.
    pub(super) fn optional(&mut self, name: &str) -> Result<Option<ValueId>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::Tensor(tensor)) => self.importer.value(tensor).map(Some),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// The error for a missing argument. Exported programs contain all arguments without a default, so the node uses
    /// another overload.
    pub(super) fn missing(&self, name: &str) -> Refusal {
        let operator = self.node.target.trim_start_matches("torch.ops.");
        Refusal::Overload { name: operator.into(), argument: name.into() }
    }

    /// A tensor.
    pub(super) fn tensor(&mut self, name: &str) -> Result<ValueId, Refusal> {
        self.optional(name)?.ok_or_else(|| self.missing(name))
    }

    /// The first tensor, which overloads call `self` or `input`.
    pub(super) fn input(&mut self) -> Result<ValueId, Refusal> {
        let name = if self.has("self") { "self" } else { "input" };
        self.tensor(name)
    }

    /// A complex argument, if it is one.
    pub(super) fn complex(&mut self, name: &str) -> Result<Option<Complex>, Refusal> {
        match self.node.argument(name) {
            Some(Argument::Tensor(tensor)) => {
                let parts = self.importer.complex(tensor);
                if parts.is_some() {
                    self.argument(name);
                }
                Ok(parts)
            }
            _ => Err(self.missing(name)),
        }
    }

    /// A list of tensors, some of which may be absent.
    pub(super) fn optionals(&mut self, name: &str) -> Result<Vec<Option<ValueId>>, Refusal> {
        let Some(Argument::Tensors(tensors)) = self.argument(name) else { return Err(not_of_its_type(name)) };
        tensors.iter().map(|t| t.as_deref().map(|t| self.importer.value(t)).transpose()).collect()
    }

    /// A list of tensors; at least one.
    pub(super) fn tensors(&mut self, name: &str) -> Result<Values, Refusal> {
        let tensors: Option<Values> = self.optionals(name)?.into_iter().collect();
        tensors.filter(|t| !t.is_empty()).ok_or_else(|| self.missing(name))
    }

    fn term(&self, term: &Term) -> Result<Number, Refusal> {
        match term {
            Term::Known(number) => Ok(*number),
            Term::Name(name) => self.importer.number(name),
        }
    }

    /// A number, if given.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<Number>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::Number(term)) => self.term(term).map(Some),
            Some(Argument::Tensor(tensor)) => {
                let v = self.importer.value(tensor)?;
                self.known(v, name).map(Some)
            }
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// A tensor or a number, if given.
    pub(super) fn optional_operand(&mut self, name: &str) -> Result<Option<Operand>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::Tensor(tensor)) => Ok(Some(Operand::Tensor(self.importer.value(tensor)?))),
            Some(Argument::Number(term)) => Ok(Some(Operand::Number(self.term(term)?))),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// A tensor or a number.
    pub(super) fn operand(&mut self, name: &str) -> Result<Operand, Refusal> {
        self.optional_operand(name)?.ok_or_else(|| self.missing(name))
    }

    /// An integer, if given.
    pub(super) fn optional_int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        self.number(name)?.map(|n| n.int().ok_or_else(|| not_of_its_type(name))).transpose()
    }

    /// An integer or its default.
    pub(super) fn int(&mut self, name: &str, default: i64) -> Result<i64, Refusal> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    /// A required integer.
    pub(super) fn required_int(&mut self, name: &str) -> Result<i64, Refusal> {
        self.optional_int(name)?.ok_or_else(|| self.missing(name))
    }

    /// A float or its default.
    pub(super) fn float(&mut self, name: &str, default: f64) -> Result<f64, Refusal> {
        Ok(self.number(name)?.map_or(default, Number::float))
    }

    /// A boolean or its default.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.number(name)? {
            None => Ok(default),
            Some(Number::Bool(b)) => Ok(b),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// Integers, if given; a single integer is a list of one.
    pub(super) fn optional_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let terms = match self.argument(name) {
            None => return Ok(None),
            Some(Argument::Numbers(terms)) => terms.as_slice(),
            Some(Argument::Number(term)) => std::slice::from_ref(term),
            // An empty list has no type.
            Some(Argument::Tensors(none)) if none.is_empty() => &[],
            Some(_) => return Err(not_of_its_type(name)),
        };
        let int = |term| self.term(term)?.int().ok_or_else(|| not_of_its_type(name));
        terms.iter().map(int).collect::<Result<_, _>>().map(Some)
    }

    /// Required integers.
    pub(super) fn ints(&mut self, name: &str) -> Result<Vec<i64>, Refusal> {
        self.optional_ints(name)?.ok_or_else(|| self.missing(name))
    }

    /// Floats, if given.
    pub(super) fn optional_floats(&mut self, name: &str) -> Result<Option<Vec<f64>>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::Numbers(terms)) => {
                terms.iter().map(|t| self.term(t).map(Number::float)).collect::<Result<_, _>>().map(Some)
            }
            Some(Argument::Number(term)) => Ok(Some(vec![self.term(term)?.float()])),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// A string or its default.
    pub(super) fn text(&mut self, name: &str, default: &'m str) -> Result<&'m str, Refusal> {
        match self.argument(name) {
            None => Ok(default),
            Some(Argument::Text(text)) => Ok(text),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// The string, if the argument is one and not a list of numbers.
    pub(super) fn optional_text(&mut self, name: &str) -> Option<&'m str> {
        match self.node.argument(name) {
            Some(Argument::Text(text)) => {
                self.argument(name);
                Some(text)
            }
            _ => None,
        }
    }

    /// An element type, if given.
    pub(super) fn dtype(&mut self, name: &str) -> Result<Option<Elem>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::ScalarType(dtype)) => self.elem(*dtype).map(Some),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    fn elem(&mut self, dtype: i64) -> Result<Elem, Refusal> {
        let stored = weights::stored(dtype)?;
        self.importer.doubles.computed |= stored == Stored::F64;
        Ok(stored.elem())
    }

    /// A graph among the positional arguments.
    pub(super) fn graph_at(&mut self, i: usize) -> Result<&'m schema::Graph, Refusal> {
        match (i < self.read.len()).then(|| self.at(i)).flatten() {
            Some(Argument::Graph(graph)) => Ok(graph),
            _ => Err(Refusal::MissingInput(i)),
        }
    }

    /// The tensor, or the list of tensors, among the positional arguments.
    pub(super) fn tensors_at(&mut self, i: usize) -> Result<Values, Refusal> {
        match (i < self.read.len()).then(|| self.at(i)).flatten() {
            Some(Argument::Tensor(tensor)) => Ok(Values::from_elem(self.importer.value(tensor)?, 1)),
            Some(Argument::Tensors(tensors)) => tensors.iter().flatten().map(|t| self.importer.value(t)).collect(),
            _ => Err(Refusal::MissingInput(i)),
        }
    }

    /// Reports something about this node.
    pub(super) fn note_here(&mut self, note: Diagnostic) {
        let origin = self.origin.clone();
        self.importer.notes.push(note.at(&origin));
    }

    /// A constant number among the positional arguments.
    pub(super) fn number_at(&mut self, i: usize) -> Result<Number, Refusal> {
        match (i < self.read.len()).then(|| self.at(i)).flatten() {
            Some(Argument::Number(term)) => self.term(term),
            Some(Argument::Tensor(tensor)) => {
                let v = self.importer.value(tensor)?;
                self.known(v, &format!("{i}"))
            }
            _ => Err(Refusal::MissingInput(i)),
        }
    }

    /// Marks the positional arguments before index `end` as used.
    pub(super) fn pass_over(&mut self, end: usize) {
        self.read.iter_mut().take(end).for_each(|read| *read = true);
    }

    /// The tensors among the positional arguments from `i` on, including those in lists.
    pub(super) fn tensors_from(&mut self, i: usize) -> Result<Values, Refusal> {
        let mut values = Values::new();
        for i in i..self.node.inputs.len() {
            match self.at(i) {
                Some(Argument::Tensor(tensor)) => values.push(self.importer.value(tensor)?),
                Some(Argument::Tensors(tensors)) => {
                    for tensor in tensors.iter().flatten() {
                        values.push(self.importer.value(tensor)?);
                    }
                }
                _ => return Err(Refusal::Unsupported("an operand that is not a tensor is not supported here".into())),
            }
        }
        Ok(values)
    }

    /// The number in a constant tensor of one element.
    fn known(&self, v: ValueId, name: &str) -> Result<Number, Refusal> {
        let index = self.node.inputs.iter().position(|i| i.name == name).unwrap_or(0);
        let open = || Refusal::NotConstant { index, name: name.into() };
        let tensor = self.constant(v).filter(|t| t.len() == 1).ok_or_else(open)?;
        Ok(match (&tensor.ty().elem, tensor.integers()) {
            (Elem::Bool, Some(b)) => Number::Bool(b[0] != 0),
            (_, Some(i)) => Number::Int(i[0]),
            (_, None) => Number::Float(tensor.floats()[0].into()),
        })
    }

    /// The integers in a constant tensor.
    pub(super) fn integers(&self, v: ValueId, name: &str) -> Result<Vec<i64>, Refusal> {
        let index = self.node.inputs.iter().position(|i| i.name == name).unwrap_or(0);
        let open = || Refusal::NotConstant { index, name: name.into() };
        self.constant(v).and_then(Tensor::integers).ok_or_else(open)
    }

    // The graph.

    /// Inlines a graph and returns its outputs.
    pub(super) fn inline(&mut self, graph: &'m schema::Graph, operands: &[ValueId]) -> Result<Values, Refusal> {
        self.importer.inline(graph, operands)
    }

    /// The element type that these operands promote to. Tensors with axes take precedence over scalar tensors, and
    /// these over numbers, unless the other one is of a higher kind (integers over booleans, floats over integers).
    pub(super) fn promoted(&self, operands: &[Operand]) -> Elem {
        let mut classes: [Option<Elem>; 3] = [None, None, None];
        for operand in operands {
            let (class, elem) = match operand {
                Operand::Tensor(v) => (usize::from(self.rank(*v) == 0), self.ty(*v).elem.clone()),
                Operand::Number(n) => (2, n.elem()),
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
            Operand::Tensor(v) => self.cast(v, elem.clone()),
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

    /// A function of `self` and `other`, both converted to the promoted element type.
    pub(super) fn promoted_binary(&mut self, f: BinaryFn, a: Operand, b: Operand) -> Result<ValueId, Refusal> {
        let elem = self.promoted(&[a, b]);
        let (a, b) = (self.as_value(a, &elem)?, self.as_value(b, &elem)?);
        self.binary(f, a, b)
    }

    /// Adds an expansion, if the shape differs.
    pub(super) fn expand(&mut self, x: ValueId, dims: &[usize]) -> Result<ValueId, Refusal> {
        let shape = Shape::known(dims);
        if self.ty(x).shape == shape { Ok(x) } else { self.add(Expand { shape }, &[x]) }
    }

    /// The value with the element type and shape of another.
    pub(super) fn like(&mut self, v: ValueId, other: ValueId) -> Result<ValueId, Refusal> {
        let v = self.cast(v, self.ty(other).elem.clone())?;
        self.expand(v, &self.dims(other)?)
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

fn not_of_its_type(name: &str) -> Refusal {
    Refusal::Argument { name: name.into(), problem: "is not of its type" }
}

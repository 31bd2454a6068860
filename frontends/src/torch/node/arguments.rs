//! The arguments of a node, by their names in the operator's schema and by their positions.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::{Elem, Expr, Shape, Tensor, ValueId};

use super::super::importer::{Binding, Complex};
use super::super::quantity::Quantity;
use super::super::schema::{self, Argument, Number, Term};
use super::super::weights;
use super::{NodeCx, Operand};
use crate::build::random::{Samples, samples};
use crate::build::symbolic::whole;
use crate::build::{Build, Values};
use crate::elements::Stored;
use crate::refusal::Refusal;

impl<'m> NodeCx<'_, 'm> {
    fn at(&mut self, i: usize) -> Option<&'m Argument> {
        self.read[i] = true;
        Some(&self.node.inputs[i].arg).filter(|a| !matches!(a, Argument::None))
    }

    fn argument(&mut self, name: &str) -> Option<&'m Argument> {
        let i = self.node.inputs.iter().position(|input| input.name == name)?;
        self.at(i)
    }

    /// True if the argument is given and is not `None`.
    pub(in super::super) fn has(&self, name: &str) -> bool {
        self.node.argument(name).is_some_and(|a| !matches!(a, Argument::None))
    }

    /// A tensor, if given.
    pub(in super::super) fn optional(&mut self, name: &str) -> Result<Option<ValueId>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::Tensor(tensor)) => self.importer.value(tensor).map(Some),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// The error for a missing argument. Exported programs contain all arguments without a default, so the node uses
    /// another overload.
    pub(in super::super) fn missing(&self, name: &str) -> Refusal {
        let operator = self.node.target.trim_start_matches("torch.ops.");
        Refusal::Overload { name: operator.into(), argument: name.into() }
    }

    /// A tensor.
    pub(in super::super) fn tensor(&mut self, name: &str) -> Result<ValueId, Refusal> {
        self.optional(name)?.ok_or_else(|| self.missing(name))
    }

    /// The first tensor, which overloads call `self` or `input`.
    pub(in super::super) fn input(&mut self) -> Result<ValueId, Refusal> {
        let name = if self.has("self") { "self" } else { "input" };
        self.tensor(name)
    }

    /// A complex argument, if it is one.
    pub(in super::super) fn complex(&mut self, name: &str) -> Result<Option<Complex>, Refusal> {
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

    /// True where the argument is a tensor.
    pub(in super::super) fn has_tensor(&self, name: &str) -> bool {
        matches!(self.node.argument(name), Some(Argument::Tensor(_)))
    }

    /// A list of tensors, each with an imaginary part where it is complex.
    pub(in super::super) fn complex_list(&mut self, name: &str) -> Result<Vec<(ValueId, Option<ValueId>)>, Refusal> {
        let Some(Argument::Tensors(tensors)) = self.argument(name) else { return Err(not_of_its_type(name)) };
        let all = tensors.iter().map(|t| t.as_deref().ok_or_else(|| self.missing(name)));
        all.collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .map(|t| match self.importer.complex(t) {
                Some([re, im]) => Ok((re, Some(im))),
                None => Ok((self.importer.value(t)?, None)),
            })
            .collect()
    }

    /// A list of tensors, some of which may be absent.
    pub(in super::super) fn optionals(&mut self, name: &str) -> Result<Vec<Option<ValueId>>, Refusal> {
        let Some(Argument::Tensors(tensors)) = self.argument(name) else { return Err(not_of_its_type(name)) };
        tensors.iter().map(|t| t.as_deref().map(|t| self.importer.value(t)).transpose()).collect()
    }

    /// A list of tensors; at least one.
    pub(in super::super) fn tensors(&mut self, name: &str) -> Result<Values, Refusal> {
        let tensors: Option<Values> = self.optionals(name)?.into_iter().collect();
        tensors.filter(|t| !t.is_empty()).ok_or_else(|| self.missing(name))
    }

    fn term(&self, term: &Term) -> Result<Quantity, Refusal> {
        match term {
            Term::Known(number) => Ok(Quantity::Known(*number)),
            Term::Name(name) => self.importer.number(name),
        }
    }

    /// A number, which may follow from open extents, if given.
    pub(in super::super) fn quantity(&mut self, name: &str) -> Result<Option<Quantity>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::Number(term)) => self.term(term).map(Some),
            Some(Argument::Tensor(tensor)) => {
                let v = self.importer.value(tensor)?;
                self.element(v, name).map(Some)
            }
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// A number that is known, if given.
    pub(in super::super) fn number(&mut self, name: &str) -> Result<Option<Number>, Refusal> {
        let found = self.quantity(name)?;
        found.map(|q| q.known().ok_or_else(|| self.open_argument(name, &q))).transpose()
    }

    /// The error for an argument that must be known.
    fn open_argument(&self, name: &str, found: &Quantity) -> Refusal {
        Refusal::OpenNumber { name: name.into(), value: found.shown() }
    }

    /// The error for a positional argument that must be known.
    pub(in super::super) fn open_number(&self, i: usize, found: &Quantity) -> Refusal {
        self.open_argument(self.node.inputs.get(i).map_or("", |input| &input.name), found)
    }

    /// A tensor or a number, if given.
    pub(in super::super) fn optional_operand(&mut self, name: &str) -> Result<Option<Operand>, Refusal> {
        match self.argument(name) {
            None => Ok(None),
            Some(Argument::Tensor(tensor)) => Ok(Some(Operand::Tensor(self.importer.value(tensor)?))),
            Some(Argument::Number(term)) => {
                let number = self.term(term)?;
                match number.known() {
                    Some(known) => Ok(Some(Operand::Number(known))),
                    None => Ok(Some(Operand::Open(self.open_value(&number)?))),
                }
            }
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// A tensor or a number.
    pub(in super::super) fn operand(&mut self, name: &str) -> Result<Operand, Refusal> {
        self.optional_operand(name)?.ok_or_else(|| self.missing(name))
    }

    /// An integer, if given.
    pub(in super::super) fn optional_int(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        self.number(name)?.map(|n| n.int().ok_or_else(|| not_of_its_type(name))).transpose()
    }

    /// An integer or its default.
    pub(in super::super) fn int(&mut self, name: &str, default: i64) -> Result<i64, Refusal> {
        Ok(self.optional_int(name)?.unwrap_or(default))
    }

    /// A required integer.
    pub(in super::super) fn required_int(&mut self, name: &str) -> Result<i64, Refusal> {
        self.optional_int(name)?.ok_or_else(|| self.missing(name))
    }

    /// A float.
    pub(in super::super) fn required_float(&mut self, name: &str) -> Result<f64, Refusal> {
        self.number(name)?.map(Number::float).ok_or_else(|| self.missing(name))
    }

    /// A float or its default.
    pub(in super::super) fn float(&mut self, name: &str, default: f64) -> Result<f64, Refusal> {
        Ok(self.number(name)?.map_or(default, Number::float))
    }

    /// A boolean or its default.
    pub(in super::super) fn flag(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.number(name)? {
            None => Ok(default),
            Some(Number::Bool(b)) => Ok(b),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// An integer, which may follow from open extents, if given.
    pub(in super::super) fn optional_whole(&mut self, name: &str) -> Result<Option<Expr>, Refusal> {
        self.quantity(name)?.map(|q| q.int().ok_or_else(|| not_of_its_type(name))).transpose()
    }

    /// A required integer, which may follow from open extents.
    pub(in super::super) fn whole(&mut self, name: &str) -> Result<Expr, Refusal> {
        self.optional_whole(name)?.ok_or_else(|| self.missing(name))
    }

    /// Integers, which may follow from open extents, if given; a single integer is a list of one.
    pub(in super::super) fn optional_wholes(&mut self, name: &str) -> Result<Option<Vec<Expr>>, Refusal> {
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

    /// Required integers, which may follow from open extents.
    pub(in super::super) fn wholes(&mut self, name: &str) -> Result<Vec<Expr>, Refusal> {
        self.optional_wholes(name)?.ok_or_else(|| self.missing(name))
    }

    /// Integers, if given; a single integer is a list of one.
    pub(in super::super) fn optional_ints(&mut self, name: &str) -> Result<Option<Vec<i64>>, Refusal> {
        let Some(all) = self.optional_wholes(name)? else { return Ok(None) };
        let known = |e: Expr| e.constant().ok_or_else(|| self.open_argument(name, &Quantity::Whole(e)));
        all.into_iter().map(known).collect::<Result<_, _>>().map(Some)
    }

    /// Required integers.
    pub(in super::super) fn ints(&mut self, name: &str) -> Result<Vec<i64>, Refusal> {
        self.optional_ints(name)?.ok_or_else(|| self.missing(name))
    }

    /// Floats, if given.
    pub(in super::super) fn optional_floats(&mut self, name: &str) -> Result<Option<Vec<f64>>, Refusal> {
        let terms = match self.argument(name) {
            None => return Ok(None),
            Some(Argument::Numbers(terms)) => terms.as_slice(),
            Some(Argument::Number(term)) => std::slice::from_ref(term),
            Some(_) => return Err(not_of_its_type(name)),
        };
        let float = |term| {
            let number = self.term(term)?;
            number.known().map(Number::float).ok_or_else(|| self.open_argument(name, &number))
        };
        terms.iter().map(float).collect::<Result<_, _>>().map(Some)
    }

    /// A string or its default.
    pub(in super::super) fn text(&mut self, name: &str, default: &'m str) -> Result<&'m str, Refusal> {
        match self.argument(name) {
            None => Ok(default),
            Some(Argument::Text(text)) => Ok(text),
            Some(_) => Err(not_of_its_type(name)),
        }
    }

    /// The string, if the argument is one and not a list of numbers.
    pub(in super::super) fn optional_text(&mut self, name: &str) -> Option<&'m str> {
        match self.node.argument(name) {
            Some(Argument::Text(text)) => {
                self.argument(name);
                Some(text)
            }
            _ => None,
        }
    }

    /// An element type, if given.
    pub(in super::super) fn dtype(&mut self, name: &str) -> Result<Option<Elem>, Refusal> {
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
    pub(in super::super) fn graph_at(&mut self, i: usize) -> Result<&'m schema::Graph, Refusal> {
        match (i < self.read.len()).then(|| self.at(i)).flatten() {
            Some(Argument::Graph(graph)) => Ok(graph),
            _ => Err(Refusal::MissingInput(i)),
        }
    }

    /// The tensor, or the list of tensors, among the positional arguments.
    pub(in super::super) fn tensors_at(&mut self, i: usize) -> Result<Values, Refusal> {
        match (i < self.read.len()).then(|| self.at(i)).flatten() {
            Some(Argument::Tensor(tensor)) => Ok(Values::from_elem(self.importer.value(tensor)?, 1)),
            Some(Argument::Tensors(tensors)) => tensors.iter().flatten().map(|t| self.importer.value(t)).collect(),
            _ => Err(Refusal::MissingInput(i)),
        }
    }

    /// The samples of a random result, as an input of the model.
    pub(in super::super) fn samples(&mut self, of: Samples, shape: Shape) -> Result<ValueId, Refusal> {
        let wanted = self.importer.random_inputs;
        let (samples, note) = samples(self, wanted, of, shape)?;
        self.note_here(note);
        Ok(samples)
    }

    /// Reports something about this node.
    pub(in super::super) fn note_here(&mut self, note: Diagnostic) {
        let origin = self.origin.clone();
        self.importer.notes.push(note.at(&origin));
    }

    /// A number among the positional arguments, which may follow from open extents.
    pub(in super::super) fn quantity_at(&mut self, i: usize) -> Result<Quantity, Refusal> {
        match (i < self.read.len()).then(|| self.at(i)).flatten() {
            Some(Argument::Number(term)) => self.term(term),
            Some(Argument::Tensor(tensor)) => {
                let v = self.importer.value(tensor)?;
                self.element(v, &format!("{i}"))
            }
            _ => Err(Refusal::MissingInput(i)),
        }
    }

    /// A number among the positional arguments, which is known.
    pub(in super::super) fn number_at(&mut self, i: usize) -> Result<Number, Refusal> {
        let number = self.quantity_at(i)?;
        number.known().ok_or_else(|| self.open_number(i, &number))
    }

    /// Marks the positional arguments before index `end` as used.
    pub(in super::super) fn pass_over(&mut self, end: usize) {
        self.read.iter_mut().take(end).for_each(|read| *read = true);
    }

    /// The operands of a graph: the positional arguments from `i` on, including those in lists.
    pub(in super::super) fn operands_from(&mut self, i: usize) -> Result<Vec<Binding<'m>>, Refusal> {
        let mut operands = Vec::new();
        for i in i..self.node.inputs.len() {
            match self.at(i) {
                Some(Argument::Tensor(tensor)) => operands.push(self.importer.value(tensor)?.into()),
                Some(Argument::Tensors(tensors)) => {
                    for tensor in tensors.iter().flatten() {
                        operands.push(self.importer.value(tensor)?.into());
                    }
                }
                Some(Argument::Number(_)) => operands.push(Binding::Number(self.quantity_at(i)?)),
                _ => return Err(Refusal::Unsupported("an operand that is neither a tensor nor a number".into())),
            }
        }
        Ok(operands)
    }

    /// The number in a tensor of one element, which is constant or follows from open extents.
    fn element(&self, v: ValueId, name: &str) -> Result<Quantity, Refusal> {
        if self.constant(v).is_none()
            && let Some([one]) = whole(Build::graph(self), v).as_deref()
        {
            return Ok(Quantity::whole(one.clone()));
        }
        let index = self.node.inputs.iter().position(|i| i.name == name).unwrap_or(0);
        let open = || Refusal::NotConstant { index, name: name.into() };
        let tensor = self.constant(v).filter(|t| t.len() == 1).ok_or_else(open)?;
        Ok(Quantity::Known(match (&tensor.ty().elem, tensor.integers()) {
            (Elem::Bool, Some(b)) => Number::Bool(b[0] != 0),
            (_, Some(i)) => Number::Int(i[0]),
            (_, None) => Number::Float(tensor.floats()[0].into()),
        }))
    }

    /// The integers in a constant tensor.
    pub(in super::super) fn integers(&self, v: ValueId, name: &str) -> Result<Vec<i64>, Refusal> {
        let index = self.node.inputs.iter().position(|i| i.name == name).unwrap_or(0);
        let open = || Refusal::NotConstant { index, name: name.into() };
        self.constant(v).and_then(Tensor::integers).ok_or_else(open)
    }
}

fn not_of_its_type(name: &str) -> Refusal {
    Refusal::Argument { name: name.into(), problem: "is not of its type" }
}

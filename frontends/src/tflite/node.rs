//! Import of one operator: access to its operands and options, and addition of its nodes.

use qcc_formats::tflite::{Activation, BuiltinOperator, FurtherOptions, Operator, Options, TensorType as Code};
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{
    Clamp, Conv, Dequantize, DynamicQuantize, Granularity, If, Op, QuantRule, Quantize, ScatterFn, ScatterNd, Types,
    Unary, UnaryFn,
};
use qcc_ir::{Elem, Graph, Origin, QuantParams, Shape, StorageType, Tensor, TensorType, ValueId};
use smallvec::{SmallVec, smallvec};

use super::body::{Turn, Turns};
use super::counted::Block;
use super::importer::{Binding, Importer};
use super::types;
use crate::build::attempt::Attempt;
use crate::build::index::block_places;
use crate::build::random::{Samples, samples};
use crate::build::{Build, Operands, Values, bounded, computed};
use crate::refusal::Refusal;

/// Permutation from the file's images to the graph's: N,H,W,C to N,C,H,W.
const TO_GRAPH: [usize; 4] = [0, 3, 1, 2];
/// The inverse permutation.
const TO_FILE: [usize; 4] = [0, 2, 3, 1];

/// An operator and its importer.
///
/// Values have the axes of the file. Operators on images use [`NodeCx::image`] and [`NodeCx::give_image`], which
/// transpose.
#[derive(Debug)]
pub(super) struct NodeCx<'a, 'm> {
    importer: &'a mut Importer<'m>,
    operator: &'m Operator,
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

impl Operands for NodeCx<'_, '_> {
    fn operand(&mut self, i: usize) -> Result<Option<ValueId>, Refusal> {
        self.optional(i)
    }

    fn operand_name(&self, i: usize) -> String {
        let tensor = self.operator.inputs.get(i).and_then(|&tensor| self.importer.entry(tensor).ok());
        tensor.map_or_else(String::new, |tensor| tensor.name.clone())
    }
}

impl<'a, 'm> NodeCx<'a, 'm> {
    pub(super) fn new(importer: &'a mut Importer<'m>, operator: &'m Operator, origin: Origin) -> Self {
        NodeCx { importer, operator, origin }
    }

    /// The model around the operator.
    pub(super) fn importer(&self) -> &Importer<'m> {
        self.importer
    }

    // The operator.

    /// The options; defaults where there are none.
    pub(super) fn options<T: TryFrom<Options, Error = Options> + Default>(&self) -> Result<T, Refusal> {
        match T::try_from(self.operator.options.clone()) {
            Ok(options) => Ok(options),
            Err(Options::None) => Ok(T::default()),
            Err(other) => Err(Refusal::Invalid(format!("it has the options of another operator ({})", other.kind()))),
        }
    }

    /// The options of a custom operator.
    pub(super) fn custom_options(&self) -> &'m [u8] {
        &self.operator.custom_options
    }

    /// The options of the second union.
    pub(super) fn further_options(&self) -> &'m FurtherOptions {
        &self.operator.further_options
    }

    /// The operators of a subgraph, in order.
    pub(super) fn operators_of(&self, subgraph: i32) -> Result<Vec<BuiltinOperator>, Refusal> {
        let operators = self.importer.subgraph(subgraph)?.operators.iter();
        let codes = operators.map(|operator| self.importer.model.builtin(operator)).collect::<Option<_>>();
        codes.ok_or_else(|| Refusal::Invalid("a subgraph has operators that do not exist".into()))
    }

    /// The inputs from one on, which are operands of subgraphs.
    pub(super) fn inputs_from(&mut self, first: usize) -> Result<Values, Refusal> {
        (first..self.inputs()).map(|i| self.input(i)).collect()
    }

    /// Inlines a subgraph.
    pub(super) fn call(&mut self, subgraph: i32, operands: &[ValueId]) -> Result<Values, Refusal> {
        self.importer.call(subgraph, operands)
    }

    /// The condition of a loop. See [`Importer::holds`].
    pub(super) fn holds(&mut self, turn: Turn, values: &[ValueId]) -> Result<ValueId, Refusal> {
        self.importer.holds(turn, values)
    }

    /// A loop that stays one. See [`Importer::turns`].
    pub(super) fn turns(&mut self, turn: Turn, operands: &[ValueId]) -> Result<Turns, Refusal> {
        self.importer.turns(turn, operands, &self.origin)
    }

    /// The value with a block replaced, as result 0.
    pub(super) fn with_block(&mut self, written: Block) -> Result<ValueId, Refusal> {
        let Block { x, block, starts, .. } = written;
        let Some(places) = block_places(self, x, block, starts)? else { return Ok(block) };
        let y = self.give(ScatterNd { f: ScatterFn::Replace }, &[x, places, block])?;
        self.importer.blocks.insert(y, written);
        Ok(y)
    }

    /// The operands of the SLICE that gives input `i`: the value, the beginnings and the lengths.
    pub(super) fn slice_of(&mut self, i: usize) -> Result<Option<[ValueId; 3]>, Refusal> {
        let tensor = self.operator.inputs.get(i).copied().unwrap_or(-1);
        let Some(slice) = self.importer.producer(tensor, BuiltinOperator::SLICE) else { return Ok(None) };
        let &[x, begin, size] = slice.inputs.as_slice() else { return Ok(None) };
        Ok(Some([self.importer.value(x)?, self.importer.value(begin)?, self.importer.value(size)?]))
    }

    /// Branches that stay graphs. See [`Importer::branches`].
    pub(super) fn branches(&mut self, branches: [i32; 2], operands: &[ValueId]) -> Result<(If, Values), Refusal> {
        let mut symbols = computed::all_fresh(self);
        self.importer.branches(branches, operands, &self.origin, move || symbols.next().unwrap_or_default())
    }

    /// Sets the state at input `i` to `v` for the next run, quantized as the state is.
    pub(super) fn keep(&mut self, i: usize, v: ValueId) -> Result<(), Refusal> {
        let state = self.input(i)?;
        self.keep_as(self.operator.inputs[i], state, v)
    }

    /// The variable of the handle at input `i`.
    pub(super) fn variable(&self, i: usize) -> Result<i32, Refusal> {
        self.importer.variable(*self.operator.inputs.get(i).unwrap_or(&-1))
    }

    /// The value that a variable has here. `None` if no operator reads it.
    pub(super) fn read(&mut self, variable: i32) -> Result<Option<ValueId>, Refusal> {
        match self.importer.bindings.get(variable as usize) {
            Some(Binding::Open) => Ok(None),
            _ => self.importer.value(variable).map(Some),
        }
    }

    /// Sets the state of a tensor or variable, which has been `state`, to `v`.
    pub(super) fn keep_as(&mut self, tensor: i32, state: ValueId, v: ValueId) -> Result<(), Refusal> {
        let elem = self.ty(state).elem.clone();
        let next = self.moved(v, &elem)?;
        let (kept, found) = (self.ty(state), self.ty(next));
        let agree = kept.rank() == found.rank()
            && kept.shape.dims().iter().zip(found.shape.dims()).all(|(kept, found)| kept.agreed(found).is_some());
        if kept.elem != found.elem || !agree {
            return Err(Refusal::Invalid(format!("its state is {kept}; the next one {found}")));
        }
        self.importer.keep(tensor, next);
        Ok(())
    }

    /// Reports something about this node.
    pub(super) fn note_here(&mut self, note: Diagnostic) {
        self.importer.notes.push(note.at(&self.origin));
    }

    /// The samples of a random result, as an input of the model.
    pub(super) fn samples(&mut self, of: Samples, shape: Shape) -> Result<ValueId, Refusal> {
        let wanted = self.importer.random_inputs;
        let (samples, note) = samples(self, wanted, of, shape)?;
        self.note_here(note);
        Ok(samples)
    }

    /// Number of inputs.
    pub(super) fn inputs(&self) -> usize {
        self.operator.inputs.len()
    }

    /// Number of results.
    pub(super) fn outputs(&self) -> usize {
        self.operator.outputs.len()
    }

    /// The element type that the file declares for result `i`.
    pub(super) fn declared(&self, i: usize) -> Result<Elem, Refusal> {
        let tensor = self.operator.outputs.get(i).ok_or_else(|| Refusal::Invalid(format!("it has no result {i}")))?;
        types::elem(self.importer.entry(*tensor)?)
    }

    /// True where input `i` is given.
    pub(super) fn has_input(&self, i: usize) -> bool {
        self.operator.inputs.get(i).is_some_and(|&tensor| tensor != -1)
    }

    /// Input `i`, where it is given.
    pub(super) fn optional(&mut self, i: usize) -> Result<Option<ValueId>, Refusal> {
        match self.operator.inputs.get(i) {
            None | Some(-1) => Ok(None),
            Some(_) if self.is_complex(i) => Err(Refusal::Unsupported("it does not take complex numbers here".into())),
            Some(&tensor) => self.importer.value(tensor).map(Some),
        }
    }

    /// True where the elements of input `i` are complex numbers.
    pub(super) fn is_complex(&self, i: usize) -> bool {
        let entry = self.operator.inputs.get(i).and_then(|&tensor| self.importer.entry(tensor).ok());
        entry.is_some_and(|entry| entry.elem == Code::COMPLEX64)
    }

    /// Input `i`, complex numbers: their parts are a last axis.
    pub(super) fn complex(&mut self, i: usize) -> Result<ValueId, Refusal> {
        if !self.is_complex(i) {
            return Err(Refusal::Invalid(format!("input {i} has no complex numbers")));
        }
        self.importer.value(self.operator.inputs[i])
    }

    /// Input `i`.
    pub(super) fn input(&mut self, i: usize) -> Result<ValueId, Refusal> {
        self.optional(i)?.ok_or(Refusal::MissingInput(i))
    }

    /// True where input `i` is a constant that the file stores as a sparse tensor.
    pub(super) fn is_sparse(&self, i: usize) -> bool {
        self.operator.inputs.get(i).is_some_and(|&tensor| self.importer.is_sparse(tensor))
    }

    /// All inputs; at least one is required.
    pub(super) fn all_inputs(&mut self) -> Result<Values, Refusal> {
        (0..self.inputs().max(1)).map(|i| self.input(i)).collect()
    }

    /// The constant at input `i`.
    pub(super) fn known(&mut self, i: usize) -> Result<Tensor, Refusal> {
        self.optional_constant(i)?.ok_or(Refusal::MissingInput(i))
    }

    /// The image `[N,H,W,C]` at input `i`, transposed to `[N,C,H,W]`.
    pub(super) fn image(&mut self, i: usize) -> Result<ValueId, Refusal> {
        let x = self.input(i)?;
        if self.rank(x) != 4 {
            return Err(Refusal::Invalid(format!("input {i} is {}; expected an image of rank 4", self.ty(x))));
        }
        match self.graph().producer(x) {
            Op::Transpose(t) if t.perm[..] == TO_FILE => Ok(self.graph().operands(x.node)[0]),
            _ => self.transpose(x, &TO_GRAPH),
        }
    }

    /// The weight at input `i` with the graph's axes: `order[i]` is the graph's axis that is axis `i` of the file.
    pub(super) fn weight(&mut self, i: usize, order: &[usize]) -> Result<ValueId, Refusal> {
        let v = self.input(i)?;
        if let Some(tensor) = self.constant(v) {
            let tensor = types::reordered(tensor, order)?;
            let (origin, name) = (self.graph().origin(v.node).clone(), self.graph().name(v).cloned());
            let weight = self.graph_mut().add_const(tensor, origin);
            if let Some(name) = name {
                self.graph_mut().set_name(weight, name);
            }
            return Ok(weight);
        }
        if self.ty(v).elem.qparams().is_some_and(|g| g.tensor_map().is_none()) {
            return Err(Refusal::Unsupported("a computed weight with several scales is not supported".into()));
        }
        let place = |axis: usize| order.iter().position(|&a| a == axis).unwrap_or(axis);
        let perm: Vec<usize> = (0..order.len()).map(place).collect();
        self.transpose(v, &perm)
    }

    /// The bias at input `i`, if there is one. With quantized operands its scales may be omitted: they are the products
    /// of the scales of `x` and `weight`.
    pub(super) fn bias(&mut self, i: usize, x: ValueId, weight: ValueId) -> Result<Option<ValueId>, Refusal> {
        let Some(bias) = self.optional(i)? else { return Ok(None) };
        let scale = self.ty(x).elem.qparams().and_then(QuantParams::tensor_map).map(|(scale, _)| scale);
        let (Some(scale), Some(qparams), Some(tensor)) = (scale, self.ty(weight).elem.qparams(), self.constant(bias))
        else {
            return Ok(Some(bias));
        };
        if tensor.ty().elem != Elem::I32 {
            return Ok(Some(bias));
        }
        let qparams = match qparams.tensor_map() {
            Some((w, _)) => QuantParams::per_tensor(StorageType::I32, scale * w, 0),
            None => QuantParams::per_axis(
                StorageType::I32,
                0,
                qparams.scales().iter().map(|w| scale * w).collect::<Vec<f32>>(),
            ),
        };
        let ty = tensor.ty().with_elem(Elem::Quantized(qparams));
        ty.validate()?;
        let tensor = tensor.retype(ty).ok_or_else(|| Refusal::Invalid("a bias of no size".into()))?;
        Ok(Some(self.add_constant(tensor)))
    }

    // The graph.

    fn is_quantized(&self, v: ValueId) -> bool {
        self.ty(v).elem.qparams().is_some()
    }

    /// A value, dequantized.
    pub(super) fn real(&mut self, v: ValueId) -> Result<ValueId, Refusal> {
        if self.is_quantized(v) { self.typed(Dequantize {}, &[v], &Elem::F32) } else { Ok(v) }
    }

    /// A value, requantized or dequantized to `to`.
    pub(super) fn moved(&mut self, v: ValueId, to: &Elem) -> Result<ValueId, Refusal> {
        match (&self.ty(v).elem, to) {
            (from, to) if from == to => Ok(v),
            (Elem::F32 | Elem::Quantized(_), Elem::Quantized(_)) => self.typed(Quantize {}, &[v], to),
            (Elem::Quantized(_), _) => self.real(v),
            _ => Ok(v),
        }
    }

    /// Adds an operator whose `F32` results get the element type `to`.
    fn typed(&mut self, op: impl Into<Op>, operands: &[ValueId], to: &Elem) -> Result<ValueId, Refusal> {
        let op = op.into();
        let real: Vec<TensorType> = operands.iter().map(|&v| self.ty(v).real()).collect();
        let mut results: Types = op.infer(&real.iter().collect::<Vec<&TensorType>>())?;
        for ty in &mut results {
            if ty.elem == Elem::F32 {
                ty.elem = to.clone();
            }
            bounded(ty)?;
        }
        let origin = self.origin().clone();
        Ok(self.graph_mut().add_typed(op, operands, results, origin)?.value(0))
    }

    /// Adds an operator whose result has the element type `to`: as a quantized operator where its quantization rule
    /// allows, else as a float operator between dequantization and quantization.
    pub(super) fn add_as(&mut self, op: impl Into<Op>, operands: &[ValueId], to: &Elem) -> Result<ValueId, Refusal> {
        let op = op.into();
        if to.qparams().is_none() && !operands.iter().any(|&v| self.is_quantized(v)) {
            return self.add(op, operands);
        }
        match op.quant_rule() {
            QuantRule::Contraction { .. } if !self.is_quantized(operands[0]) => {
                let mut operands: Values = operands.iter().copied().collect();
                operands[0] = self.dynamically_quantized(&op, operands[0], operands[1])?;
                self.typed(op, &operands, &Elem::F32)
            }
            QuantRule::Contraction { .. } | QuantRule::OwnRange | QuantRule::Fixed { .. } => {
                self.typed(op, operands, to)
            }
            QuantRule::SameAsInput => {
                let from = &self.ty(operands[0]).elem;
                if from != to {
                    return Err(Refusal::Invalid(format!(
                        "its operand lies on {from} and its result on {to}: the kernels would not rescale"
                    )));
                }
                self.typed(op, operands, to)
            }
            QuantRule::SharedScale => {
                let operands = operands.iter().map(|&v| self.moved(v, to)).collect::<Result<Values, _>>()?;
                self.typed(op, &operands, to)
            }
            QuantRule::Float => {
                let operands = operands.iter().map(|&v| self.real(v)).collect::<Result<Values, _>>()?;
                let y = self.add(op, &operands)?;
                self.moved(y, to)
            }
        }
    }

    /// Dynamic quantization of the float activation of a contraction with a quantized weight, as the kernel does it:
    /// one scale for each row of a matrix, for each pixel of a 1x1 convolution, else for each image of the batch.
    fn dynamically_quantized(&mut self, op: &Op, x: ValueId, weight: ValueId) -> Result<ValueId, Refusal> {
        let (rank, window) = (self.rank(x), &self.ty(weight).shape.dims()[1..]);
        let pixels = |c: &Conv| {
            c.groups == 1 && c.stride.iter().all(|&s| s == 1) && window[1..].iter().all(|d| d.known() == Some(1))
        };
        let (from, to) = match op {
            Op::MatMul(_) => (rank.saturating_sub(1), rank),
            Op::Conv(c) if pixels(c) => (1, 2),
            _ => (1, rank),
        };
        self.add(DynamicQuantize { granularity: Granularity::Axes { from, to } }, &[x])
    }

    /// Adds the operator of result 0, with the element type that the file declares.
    pub(super) fn give(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId, Refusal> {
        let to = self.declared(0)?;
        self.add_as(op, operands, &to)
    }

    /// As [`NodeCx::give`], followed by the operator's fused activation function.
    pub(super) fn give_active(
        &mut self,
        op: impl Into<Op>,
        operands: &[ValueId],
        activation: Activation,
    ) -> Result<ValueId, Refusal> {
        let y = self.give(op, operands)?;
        self.activated(y, activation)
    }

    /// Applies an activation function. The element type stays the same.
    pub(super) fn activated(&mut self, y: ValueId, activation: Activation) -> Result<ValueId, Refusal> {
        let elem = self.ty(y).elem.clone();
        match activation {
            Activation::NONE => Ok(y),
            Activation::TANH if elem.is_float() => self.add(Unary { f: UnaryFn::Tanh }, &[y]),
            other => {
                let no = || Refusal::Unsupported(format!("the activation {other} on {elem} is not supported"));
                self.add_as(limits(other).ok_or_else(no)?, &[y], &elem)
            }
        }
    }

    /// An image `[N,C,H,W]`, transposed to `[N,H,W,C]`.
    pub(super) fn give_image(&mut self, y: ValueId) -> Result<Values, Refusal> {
        Ok(Values::from_elem(self.transpose(y, &TO_FILE)?, 1))
    }
}

/// The activation function as a clamp, where it is one.
pub(super) fn limits(activation: Activation) -> Option<Clamp> {
    match activation {
        Activation::RELU => Some(Clamp::RELU),
        Activation::RELU6 => Some(Clamp::RELU6),
        Activation::RELU_N1_TO_1 => Some(Clamp { lo: -1.0, hi: 1.0 }),
        _ => None,
    }
}

impl Attempt for NodeCx<'_, '_> {
    fn reported(&mut self) -> SmallVec<[&mut Vec<Diagnostic>; 2]> {
        smallvec![&mut self.importer.errors]
    }
}

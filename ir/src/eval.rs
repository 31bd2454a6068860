//! Evaluation of graphs.
//!
//! ```
//! use qcc_ir::eval::Executor;
//! use qcc_ir::text::{Weights, parse};
//! use qcc_ir::{Shape, Tensor};
//! let g = parse("graph g { %x: f32[2] = input %y = unary(f:Neg) %x output y = %y }", &Weights::new())?;
//! let x = Tensor::from_vec(Shape::known(&[2]), vec![1.0f32, -2.0]);
//! let outputs = Executor::new(&g).run(&[x], &mut |value, tensor| assert_eq!(g.ty(value), tensor.ty()))?;
//! assert_eq!(*outputs[0].floats(), [-1.0, 2.0]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::error::{EvalError, TypeError};
use crate::graph::{Graph, NodeId, ValueId, infer_float};
use crate::kernels::elementwise;
use crate::ops::{If, Loop, Op, PadMode, QuantRule, Tensors, Transpose};
use crate::types::{Dim, Elem, Layout, Shape, Symbols, Tensor, TensorType};

mod fusion;

pub use crate::kernels::index::within as indices_within;
use fusion::{Fused, Fusion};

/// A plan for running a graph: the order of its nodes and the lifetime of each value. It can be shared by threads.
#[derive(Debug)]
pub struct Executor<'g> {
    graph: &'g Graph,
    steps: Vec<Step>,
    /// Slot of each graph input that has a user.
    inputs: Vec<Option<usize>>,
    outputs: Vec<Source>,
    slots: usize,
    /// Bytes of constants that were converted for their users.
    prepared: u64,
    /// A custom operator that an output depends on.
    custom: Option<NodeId>,
}

/// Peak memory of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Bytes of values, and of the converted copies that kernels compute with.
    pub bytes: u64,
    /// The node at the peak; `None` where the peak is at the start.
    pub node: Option<NodeId>,
}

/// Where an operand or output comes from.
#[derive(Clone, Debug)]
enum Source {
    Slot(usize),
    /// A constant, row-major; dequantized where its user computes in floating point.
    Known(Tensor),
}

/// One node to evaluate.
#[derive(Debug)]
struct Step {
    node: NodeId,
    /// What is evaluated with the node.
    fused: Option<Fused>,
    /// The other one of a SiLU and a sigmoid, whose results follow.
    gate: Option<NodeId>,
    operands: Vec<Source>,
    /// Slots of the results; `None` for a result without users.
    results: SmallVec<[Option<usize>; 1]>,
    /// Slots that are not read after this step.
    free: Vec<usize>,
}

/// A failed evaluation and the node it failed at.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{node}: {error}")]
pub struct RunError {
    /// Operator and origin of the node.
    pub node: String,
    /// What went wrong.
    pub error: EvalError,
}

impl<'g> Executor<'g> {
    /// Plans a run.
    pub fn new(graph: &'g Graph) -> Self {
        Self::observing(graph, &[])
    }

    /// Plans a run that also computes the values in `also`, so that they are observed even if no output depends on
    /// them.
    pub fn observing(graph: &'g Graph, also: &[ValueId]) -> Self {
        Self::planned(graph, also, |_| Fusion::default())
    }

    /// Plans a run that computes the outputs and the values in `wanted`. Others may not be observed: operators are
    /// evaluated together where that is faster.
    pub fn only(graph: &'g Graph, wanted: &[ValueId]) -> Self {
        let observed = wanted.iter().copied().collect();
        Self::planned(graph, wanted, |order| Fusion::new(graph, order, &observed))
    }

    fn planned(graph: &'g Graph, also: &[ValueId], fusion: impl FnOnce(&[NodeId]) -> Fusion) -> Self {
        keep_freed_memory();
        let mut order = graph.order_with(also);
        let opaque = opaque_of(graph, &order);
        order.retain(|n| !matches!(graph.op(*n), Op::Input(_) | Op::Const(_)) && !opaque.contains_key(n));
        let mut fusion = fusion(&order);
        order.retain(|n| !fusion.inside.contains(n));
        let mut slots: FxHashMap<ValueId, usize> = FxHashMap::default();
        let read = order.iter().flat_map(|&n| fusion.operands(graph, n)).chain(graph.outputs().iter().map(|o| o.value));
        for v in read.filter(|&v| graph.constant(v).is_none()) {
            let next = slots.len();
            slots.entry(v).or_insert(next);
        }
        let mut last: Vec<Option<usize>> = vec![None; slots.len()];
        for (i, &node) in order.iter().enumerate() {
            fusion.operands(graph, node).iter().filter_map(|v| slots.get(v)).for_each(|&slot| last[slot] = Some(i));
        }
        for slot in graph.outputs().iter().filter_map(|o| slots.get(&o.value)) {
            last[*slot] = None;
        }
        let mut prepared = FxHashMap::default();
        let mut steps: Vec<Step> = Vec::with_capacity(order.len());
        for &node in &order {
            let real = computes_in_float(graph.op(node), &graph.operand_types(node), &graph.result_types(node));
            let source = |v: ValueId| match (slots.get(&v), graph.constant(v)) {
                (None, Some(value)) => {
                    Source::Known(prepared.entry((v, real)).or_insert_with(|| ready(value, real)).clone())
                }
                (slot, _) => Source::Slot(slot.copied().unwrap_or(usize::MAX)),
            };
            let operands = fusion.operands(graph, node).into_iter().map(source).collect();
            let fused = fusion.products.remove(&node);
            let gate = fusion.gates.remove(&node);
            let step = Step { node, fused, gate, operands, results: SmallVec::new(), free: Vec::new() };
            let results = step.values(graph).map(|v| slots.get(&v).copied()).collect();
            steps.push(Step { results, ..step });
        }
        for (slot, step) in last.iter().enumerate().filter_map(|(slot, step)| Some((slot, (*step)?))) {
            steps[step].free.push(slot);
        }
        let outputs = graph.outputs().iter().map(|o| match (graph.constant(o.value), slots.get(&o.value)) {
            (Some(value), _) => Source::Known(value.clone()),
            (None, slot) => Source::Slot(slot.copied().unwrap_or(usize::MAX)),
        });
        Executor {
            outputs: outputs.collect(),
            inputs: graph.inputs().map(|v| slots.get(&v).copied()).collect(),
            slots: slots.len(),
            prepared: made_anew(graph, &prepared) + fusion.packed as u64,
            custom: graph.outputs().iter().find_map(|o| opaque.get(&o.value.node).copied()),
            graph,
            steps,
        }
    }

    /// Peak memory of a run, or `None` where an extent is open. Scratch memory of kernels is not included: it is a
    /// block of a fixed size, or a row.
    pub fn peak(&self) -> Option<Peak> {
        let mut sizes = vec![0; self.slots];
        let mut live = self.prepared;
        for (v, slot) in self.graph.inputs().zip(&self.inputs) {
            let bytes = self.graph.ty(v).bytes()? as u64;
            live = live.saturating_add(bytes);
            if let Some(slot) = slot {
                sizes[*slot] = bytes;
            }
        }
        let mut peak = Peak { bytes: live, node: None };
        for step in &self.steps {
            let results: SmallVec<[&TensorType; 2]> = step.values(self.graph).map(|v| self.graph.ty(v)).collect();
            let mut kept = live;
            let mut here = live.saturating_add(copies(self.graph, step.node)?);
            for (ty, slot) in results.iter().zip(&step.results) {
                let bytes = ty.bytes()? as u64;
                here = here.saturating_add(bytes);
                if let Some(slot) = slot {
                    sizes[*slot] = bytes;
                    kept = kept.saturating_add(bytes);
                }
            }
            if here > peak.bytes {
                peak = Peak { bytes: here, node: Some(step.node) };
            }
            live = step.free.iter().fold(kept, |live, &slot| live.saturating_sub(sizes[slot]));
        }
        Some(peak)
    }

    /// The graph that it runs.
    pub fn graph(&self) -> &'g Graph {
        self.graph
    }

    /// Runs once. `inputs` are in the order of the graph's inputs. `observe` is called with each value that is not a
    /// constant when it is produced; a value is freed after its last use. Returns the outputs in the graph's order.
    ///
    /// # Errors
    /// Where an input does not have its declared type, or a node cannot be evaluated. Names the node.
    pub fn run(&self, inputs: &[Tensor], observe: &mut dyn FnMut(ValueId, &Tensor)) -> Result<Vec<Tensor>, RunError> {
        if let Some(custom) = self.custom {
            return Err(unknown(self.graph, custom));
        }
        let missing = || RunError { node: "output".into(), error: EvalError::Unknown("an output") };
        self.run_known(inputs, observe)?.into_iter().map(|output| output.ok_or_else(missing)).collect()
    }

    /// As [`Executor::run`], for graphs with custom operators: values that depend on one are not observed, and outputs
    /// that depend on one are `None`.
    ///
    /// # Errors
    /// Those of [`Executor::run`].
    pub fn run_known(
        &self,
        inputs: &[Tensor],
        observe: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Vec<Option<Tensor>>, RunError> {
        let mut symbols = check_inputs(self.graph, inputs)?;
        let mut values: Vec<Option<Tensor>> = vec![None; self.slots];
        for ((v, slot), value) in self.graph.inputs().zip(&self.inputs).zip(inputs) {
            observe(v, value);
            if let Some(slot) = slot {
                values[*slot] = Some(value.clone());
            }
        }
        for step in &self.steps {
            let results = self.evaluate(step, &values, &symbols);
            let failed = |error| RunError { node: describe(self.graph, step.node), error };
            let results = results.map_err(failed)?;
            let defined = self.graph.op(step.node).define(&results, &mut symbols);
            defined.map_err(|value| failed(EvalError::Kernel(format!("{value} is negative; expected an extent"))))?;
            for ((v, slot), value) in step.values(self.graph).zip(&step.results).zip(results) {
                observe(v, &value);
                if let Some(slot) = slot {
                    values[*slot] = Some(value);
                }
            }
            step.free.iter().for_each(|&slot| values[slot] = None);
        }
        Ok(self.outputs.iter().map(|s| s.value(&values).cloned()).collect())
    }

    fn evaluate(&self, step: &Step, values: &[Option<Tensor>], symbols: &Symbols) -> Result<Tensors, EvalError> {
        let operands: Option<SmallVec<[&Tensor; 4]>> = step.operands.iter().map(|s| s.value(values)).collect();
        let operands = operands.ok_or(EvalError::Unknown("an operand"))?;
        let (op, results) = (self.graph.op(step.node), self.graph.result_types(step.node));
        // Graphs inside are run with symbols of their own.
        let bound = op.bodies().is_empty().then(|| op.bind(symbols)).flatten();
        let padded = step.fused.as_ref().and_then(|fused| fused.padded.as_ref());
        let op = padded.map(|(op, _)| op).or(bound.as_ref()).unwrap_or(op);
        if !symbols.is_empty() && op.bodies().is_empty() {
            // Extents that are not known to differ may do so in a run.
            let types: SmallVec<[&TensorType; 4]> = operands.iter().map(|operand| operand.ty()).collect();
            infer_float(op, &types)?;
        }
        if let Some(Fused { then, packed, .. }) = &step.fused {
            return op.eval_then(&operands, then.map(|(then, _)| then), packed.as_ref());
        }
        if step.gate.is_some() {
            return Ok(elementwise::gates(op, operands[0]));
        }
        evaluate_node(op, &operands, &results)
    }
}

impl Step {
    /// The results.
    fn values(&self, graph: &Graph) -> impl Iterator<Item = ValueId> + use<> {
        let then = self.fused.as_ref().and_then(|fused| fused.then);
        let results = graph.results(then.map_or(self.node, |(_, last)| last));
        results.chain(self.gate.map(|gate| gate.value(0)))
    }
}

/// The nodes that cannot be evaluated: custom operators and the nodes that depend on one. Maps each node to the custom
/// operator.
pub fn opaque(graph: &Graph) -> FxHashMap<NodeId, NodeId> {
    opaque_of(graph, &graph.order())
}

fn opaque_of(graph: &Graph, order: &[NodeId]) -> FxHashMap<NodeId, NodeId> {
    let mut opaque = FxHashMap::default();
    for &n in order {
        let custom = match graph.op(n) {
            Op::Custom(_) => Some(n),
            _ if opaque.is_empty() => None,
            _ => graph.needs(n).iter().find_map(|n| opaque.get(n).copied()),
        };
        opaque.extend(custom.map(|custom| (n, custom)));
    }
    opaque
}

/// The error of evaluating a value that depends on the node `custom`.
pub fn unknown(graph: &Graph, custom: NodeId) -> RunError {
    let Op::Custom(op) = graph.op(custom) else {
        return RunError { node: describe(graph, custom), error: EvalError::Unknown("it") };
    };
    RunError { node: describe(graph, custom), error: EvalError::Custom(op.to_string()) }
}

/// Bytes of prepared constants that do not share memory with those of the graph.
fn made_anew(graph: &Graph, prepared: &FxHashMap<(ValueId, bool), Tensor>) -> u64 {
    let own = |v: ValueId, t: &Tensor| graph.constant(v).is_some_and(|c| c.data().as_ptr() == t.data().as_ptr());
    let made = prepared.iter().filter(|((v, _), t)| !own(*v, t));
    // The order of a hash map does not matter for a sum.
    made.map(|(_, t)| t.data().len() as u64).sum()
}

/// Bytes of the copies that are made to evaluate a node: of elements converted from other types than `F32`, of sort
/// keys, of operands converted to row-major.
fn copies(graph: &Graph, node: NodeId) -> Option<u64> {
    const WIDEST: u64 = size_of::<i64>() as u64;
    let elements = |t: &TensorType| t.shape.elements().map(|n| n as u64);
    let mut bytes = 0u64;
    let ranked = matches!(graph.op(node), Op::TopK(_) | Op::ArgReduce(_));
    for t in graph.operand_types(node) {
        let moved = if t.layout.is_row_major() { 0 } else { t.bytes()? as u64 };
        let widened = if ranked || t.elem != Elem::F32 { elements(t)?.saturating_mul(WIDEST) } else { 0 };
        bytes = bytes.saturating_add(moved).saturating_add(widened);
    }
    for t in graph.result_types(node).iter().filter(|t| t.elem != Elem::F32 || !t.layout.is_row_major()) {
        bytes = bytes.saturating_add(elements(t)?.saturating_mul(WIDEST / 2));
    }
    Some(bytes)
}

/// Makes glibc keep freed activations for the next node instead of returning them to the system and faulting them in
/// again: freeing one block of nearly 32 MiB raises its thresholds to their maximum (mallopt(3), `M_MMAP_THRESHOLD`).
/// The block is never touched, so it costs nothing. If it cannot be allocated, the thresholds stay as they are.
fn keep_freed_memory() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let mut block = Vec::<u8>::new();
        let _ = std::hint::black_box(&mut block).try_reserve_exact((32 << 20) - (64 << 10));
        std::hint::black_box(&mut block);
    });
}

impl Source {
    fn value<'a>(&'a self, values: &'a [Option<Tensor>]) -> Option<&'a Tensor> {
        match self {
            Source::Known(value) => Some(value),
            Source::Slot(slot) => values.get(*slot)?.as_ref(),
        }
    }
}

fn describe(graph: &Graph, node: NodeId) -> String {
    format!("{} ({})", graph.op(node).kind().name(), graph.place(node))
}

/// True where the node dequantizes a quantized constant operand: the weight of a contraction with a float activation or
/// a float result.
fn computes_in_float(op: &Op, operands: &[&TensorType], results: &[TensorType]) -> bool {
    let real = |t: &TensorType| t.elem.qparams().is_none();
    matches!(op.quant_rule(), QuantRule::Contraction { .. }) && (real(operands[0]) || real(&results[0]))
}

/// A constant as its user needs it: row-major, and aligned, so that kernels do not copy it. A constant that cannot be
/// converted is left as it is; its user then fails.
fn ready(value: &Tensor, real: bool) -> Tensor {
    let value = if real { value.to_float() } else { value.clone() };
    relayout(&value, &Layout::row_major(value.ty().rank())).unwrap_or(value).aligned().kept()
}

/// The values of the symbols of the graph's inputs, which must have their declared types.
fn check_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<Symbols, RunError> {
    if inputs.len() != graph.inputs().len() {
        let error =
            TypeError::Arity { op: "graph", min: graph.inputs().len(), max: graph.inputs().len(), found: inputs.len() };
        return Err(RunError { node: graph.name.clone(), error: error.into() });
    }
    let refused = |v: ValueId, input: &Tensor| {
        let name = graph.name(v).map(ToString::to_string).unwrap_or_default();
        let (expected, found) = (Box::new(graph.ty(v).clone()), Box::new(input.ty().clone()));
        RunError { node: "input".into(), error: EvalError::Input { name, expected, found } }
    };
    let mut symbols = Symbols::default();
    for (v, input) in graph.inputs().zip(inputs) {
        let (want, found) = (graph.ty(v), input.ty());
        if !fits(found, want) || found.layout != want.layout {
            return Err(refused(v, input));
        }
        for (dim, extent) in want.shape.dims().iter().zip(input.dims()) {
            if let Some((name, value)) = dim.solved(extent) {
                symbols.entry(Arc::clone(name)).or_insert(value);
            }
        }
    }
    // Each symbol has one value, from which other extents follow.
    for (v, input) in graph.inputs().zip(inputs) {
        let mut dims = graph.ty(v).shape.dims().iter().zip(input.dims());
        if !dims.all(|(dim, extent)| dim.bind(&symbols).is_none_or(|n| n == extent)) {
            return Err(refused(v, input));
        }
    }
    Ok(symbols)
}

/// True where a value of type `found` fits the type `declared`: an open extent matches any extent.
pub fn fits(found: &TensorType, declared: &TensorType) -> bool {
    let extent = |(f, d): (&Dim, &Dim)| d.known().is_none() || f == d;
    found.elem == declared.elem
        && found.rank() == declared.rank()
        && found.shape.dims().iter().zip(declared.shape.dims()).all(extent)
}

/// Evaluates one operator: operands in any layout, float or quantized; results of the given types, whose open extents
/// become those of the results.
///
/// # Errors
/// Where the operator has no result for these operands, or one that is too large.
pub fn evaluate_node(op: &Op, operands: &[&Tensor], results: &[TensorType]) -> Result<Tensors, EvalError> {
    let values = match op {
        Op::Relayout(_) => Tensors::from_elem(operands[0].clone(), 1),
        Op::Loop(op) => repeated(op, operands)?,
        Op::If(op) => chosen(op, operands)?,
        _ => {
            let rows: SmallVec<[Tensor; 4]> =
                operands.iter().map(|t| relayout(t, &Layout::row_major(t.ty().rank()))).collect::<Result<_, _>>()?;
            compute(op, &rows.iter().collect::<SmallVec<[&Tensor; 4]>>(), results)?
        }
    };
    let placed = values.iter().zip(results).enumerate().map(|(i, (value, ty))| {
        if !fits(value.ty(), ty) {
            let found = Box::new(value.ty().clone());
            return Err(TypeError::Result { result: i, found, expected: ty.to_string() }.into());
        }
        relayout(value, &ty.layout)
    });
    placed.collect()
}

/// Loops of more iterations are not evaluated: they may have no end on data that are not those of the model.
const MOST_ITERATIONS: i64 = 1 << 20;

/// Runs the body of a loop while its condition holds.
fn repeated(op: &Loop, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    let (types, body) = (op.rows(), op.body.graph()?);
    let executor = Executor::new(body);
    let number = |t: &Tensor| t.integers().and_then(|values| values.first().copied()).unwrap_or(0);
    let (most, mut again) = (number(operands[0]), number(operands[1]) != 0);
    let (carried, reads) = operands[2..].split_at(op.carried);
    let mut carried: Vec<Tensor> = carried.iter().map(|&t| t.clone()).collect();
    let inputs = |iteration: i64, carried: &[Tensor]| -> Vec<Tensor> {
        let reads = reads.iter().map(|&t| t.clone());
        std::iter::once(Tensor::scalar(iteration)).chain(carried.iter().cloned()).chain(reads).collect()
    };
    let mut rows: Vec<Vec<u8>> = vec![Vec::new(); types.len()];
    let mut iteration = 0i64;
    while again && iteration < most {
        if iteration == MOST_ITERATIONS {
            return Err(EvalError::Kernel(format!("a loop of more than {MOST_ITERATIONS} iterations")));
        }
        let outputs =
            executor.run(&inputs(iteration, &carried), &mut |_, _| ()).map_err(|e| EvalError::Kernel(e.to_string()))?;
        let mut outputs = outputs.into_iter();
        again = outputs.next().is_some_and(|condition| number(&condition) != 0);
        carried = outputs.by_ref().take(op.carried).collect();
        rows.iter_mut().zip(outputs).for_each(|(rows, row)| rows.extend_from_slice(row.data()));
        iteration += 1;
    }
    let inputs = inputs(iteration, &carried);
    let symbols = check_inputs(body, &inputs).map_err(|e| EvalError::Kernel(e.to_string()))?;
    let stacked = types.iter().zip(rows).map(|(row, bytes)| {
        let row_shape = row.shape.bind(&symbols);
        let dims = std::iter::once(Dim::Known(iteration as usize)).chain(row_shape.dims().iter().cloned());
        Tensor::new(TensorType::new(row.elem.clone(), dims.collect()), bytes.into())
    });
    let results: Option<Tensors> = carried.into_iter().map(Some).chain(stacked).collect();
    results.ok_or(EvalError::Unknown("a row of a loop"))
}

/// Computes the branch that the condition selects.
fn chosen(op: &If, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    let holds = operands[0].integers().and_then(|values| values.first().copied()).unwrap_or(0) != 0;
    let branch = if holds { &op.then } else { &op.otherwise };
    let reads: Vec<Tensor> = operands[1..].iter().map(|&t| t.clone()).collect();
    let outputs = Executor::new(branch.graph()?).run(&reads, &mut |_, _| ());
    outputs.map(Tensors::from_vec).map_err(|e| EvalError::Kernel(e.to_string()))
}

/// Evaluates on row-major operands, in integer arithmetic where the operator has it for quantized operands.
fn compute(op: &Op, operands: &[&Tensor], results: &[TensorType]) -> Result<Tensors, EvalError> {
    let elems = || operands.iter().map(|t| &t.ty().elem).chain(results.iter().map(|r| &r.elem));
    if elems().any(|e| e.qparams().is_some()) {
        if let Some(values) = op.eval_quantized(operands, results)? {
            return Ok(values);
        }
        if op.carries_integers() {
            return on_integers(op, operands, results);
        }
    } else if matches!(op, Op::Cast(_)) || !elems().any(|e| *e == Elem::F16) {
        return op.eval(operands);
    }
    in_float(op, operands, results)
}

/// Evaluates on stored integers; results get the quantization parameters of their types.
fn on_integers(op: &Op, operands: &[&Tensor], results: &[TensorType]) -> Result<Tensors, EvalError> {
    let stored: SmallVec<[Tensor; 4]> = operands.iter().map(|t| with_elem(t, stored(&t.ty().elem))).collect();
    let operands_on: SmallVec<[&Tensor; 4]> = stored.iter().collect();
    let values = match (op, operands[0].ty().elem.qparams()) {
        // The padding value is a float: it is quantized as well.
        (Op::Pad(pad), Some(qparams)) => {
            let mut pad = pad.clone();
            if let PadMode::Constant(value) = pad.mode {
                let quantized = Tensor::scalar(value).quantized(qparams).integers().unwrap_or_default();
                pad.mode = PadMode::Constant(quantized.first().map_or(0.0, |&q| q as f32));
            }
            Op::from(pad).eval(&operands_on)?
        }
        _ => op.eval(&operands_on)?,
    };
    Ok(values.iter().zip(results).map(|(v, ty)| with_elem(v, ty.elem.clone())).collect())
}

/// The plain element type with the same bytes.
fn stored(elem: &Elem) -> Elem {
    elem.qparams().map_or_else(|| elem.clone(), |g| g.storage.elem())
}

/// The same bytes with another element type of the same size.
fn with_elem(value: &Tensor, elem: Elem) -> Tensor {
    value.retype(value.ty().with_elem(elem)).unwrap_or_else(|| value.clone())
}

/// Evaluates on dequantized operands in `F32`; results are quantized or rounded to their element type.
fn in_float(op: &Op, operands: &[&Tensor], results: &[TensorType]) -> Result<Tensors, EvalError> {
    let real = |t: &&Tensor| match t.ty().elem.real() {
        Elem::F32 | Elem::F16 => t.to_float(),
        _ => (*t).clone(),
    };
    let reals: SmallVec<[Tensor; 4]> = operands.iter().map(real).collect();
    let values = op.eval(&reals.iter().collect::<SmallVec<[&Tensor; 4]>>())?;
    let rounded = values.into_iter().zip(results).map(|(value, ty)| match &ty.elem {
        Elem::Quantized(qparams) => value.quantized(qparams),
        Elem::F16 if value.ty().elem == Elem::F32 => {
            let halves = value.view::<f32>().iter().map(|&v| half::f16::from_f32(v)).collect();
            Tensor::of(value.ty().with_elem(Elem::F16), halves)
        }
        _ => value,
    });
    Ok(rounded.collect())
}

/// The same value in another layout.
///
/// # Errors
/// Where the layout has another rank.
pub fn relayout(value: &Tensor, layout: &Layout) -> Result<Tensor, EvalError> {
    let ty = value.ty();
    let target = TensorType { layout: layout.clone(), ..ty.clone() };
    let moved = if ty.layout.same_bytes(layout, &ty.shape) {
        value.retype(target)
    } else {
        // With its axes in physical order the value is row-major, and the conversion is a transposition.
        let physical: Shape = ty.layout.physical(&ty.shape);
        let rows = value.retype(TensorType::new(stored(&ty.elem), physical));
        let perm = layout.order().map(|axis| ty.layout.position(axis)).collect();
        let rows = rows.ok_or_else(|| EvalError::Kernel(format!("{ty} cannot be laid out")))?;
        crate::kernels::movement::transpose(&Transpose { perm }, &rows)?.pop().and_then(|t| t.retype(target))
    };
    moved.ok_or_else(|| EvalError::Kernel(format!("{ty} cannot be laid out")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{Weights, parse};

    /// Kilobytes at the peak, and the operator there.
    fn peak(body: &str) -> (u64, Option<&'static str>) {
        let g = parse(&format!("graph g {{ %x: f32[256] = input {body} }}"), &Weights::new()).unwrap();
        let Peak { bytes, node } = Executor::new(&g).peak().unwrap();
        (bytes / 1024, node.map(|n| g.op(n).kind().name()))
    }

    /// Extents that are not known to differ are compared when the graph runs.
    #[test]
    fn operands_of_unlike_extents_are_refused_in_a_run() {
        let weight = ["1"; 40].join(",");
        let text = format!(
            "graph g {{ %x: f32[b,4,n] = input
            %p = pool(f:Max,window:[2],stride:[2],before:[0],after:[0],dilation:[1]) %x
            %r = reshape[b,\"(4*floor(n/2))\"] %p %w: f32[40,1] = const [{weight}]
            %y = matmul(transpose_b:false) %r, %w output y = %y }}"
        );
        let g = parse(&text, &Weights::new()).unwrap();
        let run = |n: usize| {
            let x = Tensor::from_vec(Shape::known(&[1, 4, n]), vec![1.0f32; 4 * n]);
            Executor::new(&g).run(&[x], &mut |_, _| {})
        };
        assert_eq!(*run(21).unwrap()[0].floats(), [40.0]);
        assert!(matches!(run(22).unwrap_err().error, EvalError::Type(TypeError::Operand { .. })));
    }

    #[test]
    fn the_peak_is_where_most_values_are_alive() {
        assert_eq!(peak("output y = %x"), (1, None));
        // One operand and its result.
        assert_eq!(peak("%a = unary(f:Sin) %x %b = unary(f:Sin) %a output y = %b"), (2, Some("unary")));
        // A value that is used again is kept.
        let kept = "%a = unary(f:Sin) %x %b = unary(f:Cos) %a %c = binary(f:Add) %b, %x output y = %c";
        assert_eq!(peak(kept), (3, Some("unary")));
        let wide = "%a = concat(axis:0) %x, %x, %x %b = reduce(f:Sum,axes:[0],keep:true) %a output y = %b";
        assert_eq!(peak(wide), (4, Some("concat")));
        // Outputs are kept to the end.
        let outputs = "%a = unary(f:Sin) %x %b = unary(f:Sin) %a %c = unary(f:Sin) %b output a = %a output c = %c";
        assert_eq!(peak(outputs), (3, Some("unary")));
        // Indices and sort keys take 8 bytes for each element.
        assert_eq!(peak("%a = arg_reduce(axis:0,largest:true,keep:true) %x output y = %a"), (3, Some("arg_reduce")));
        let qparams = "%a: i8<0.1:0>[256] = quantize %x %b: f32[256] = dequantize %a output y = %b";
        assert!(peak(qparams).0 >= 2 && peak(qparams).0 <= 4, "{:?}", peak(qparams));
    }

    #[test]
    fn open_extents_have_no_peak() {
        let g = parse("graph g { %x: f32[N] = input %y = unary(f:Sin) %x output y = %y }", &Weights::new()).unwrap();
        assert_eq!(Executor::new(&g).peak(), None);
    }
}

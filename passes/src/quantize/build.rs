//! Writing the graph anew with grids in its types.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::TypeError;
use qcc_ir::ops::{Cast, Dequantize, DynamicQuantize, Granularity, Op, QuantRule, Quantize, Types};
use qcc_ir::target::{Kernel, Target};
use qcc_ir::{
    Elem, Graph, NodeId, Operands, Origin, Output, QuantParams, Shape, StorageType, Tensor, TensorType, ValueId,
};
use rustc_hash::FxHashMap;

use super::kernels::weights;
use super::parameters::Parameters;
use super::plan::{Mode, Plan};
use super::qparams::{per_channel, qparams_of};
use super::weights::{
    Bounds, bias_qparams, block_qparams, constant_qparams, constant_range, corrected_bias, lost_inputs, magnitudes,
    rounded, rounded_by_output, shares, weight_qparams,
};
use super::{Interface, Options, Quantized, Weights};
use crate::PassError;
use crate::calibrate::{CalibrationTable, Range, summed_axis};
use crate::quality::Distance;

pub(super) fn build(
    g: &Graph,
    target: &Target,
    options: &Options,
    ranges: &CalibrationTable,
    plan: &Plan,
    qparams: &Parameters,
) -> Result<Quantized, PassError> {
    let mut new = Graph::new(g.name.clone());
    new.metadata = g.metadata.clone();
    let mut b = Builder {
        old: g,
        target,
        weights: options.weights,
        ranges,
        qparams,
        new,
        real: FxHashMap::default(),
        placed: FxHashMap::default(),
        dynamic: FxHashMap::default(),
        values: Vec::new(),
        lost_inputs: Vec::new(),
    };
    for n in g.order() {
        match plan.mode(n) {
            _ if matches!(g.op(n), Op::Input(_)) => b.input(n, options.interface)?,
            // Constants are made for each reader, on the grid that reader asks.
            _ if matches!(g.op(n), Op::Const(_)) => {}
            Some(Mode::Integer) => b.integer(n, true)?,
            Some(Mode::Sums) => b.integer(n, false)?,
            Some(Mode::Weights) => b.weights_only(n)?,
            None => b.real_node(n)?,
        }
    }
    for output in g.outputs() {
        let v = b.output(output, options.interface)?;
        b.new.add_output(output.name.clone(), v);
    }
    Ok(Quantized { graph: b.new, values: b.values, lost_inputs: b.lost_inputs, decisions: Vec::new() })
}

/// How much larger than what was seen of a channel others of it may be.
const UNSEEN: f32 = 1.25;

/// What is left of a table of numbers that is put on a grid, in dB.
const LEAST_OF_A_TABLE: f64 = 30.0;

/// The part of a contraction's inputs that may be lost to the rounding of their weights before the user is told.
const MOST_LOST: f64 = 0.5;

struct Builder<'a> {
    old: &'a Graph,
    target: &'a Target,
    weights: Weights,
    ranges: &'a CalibrationTable,
    qparams: &'a Parameters,
    new: Graph,
    /// Old value to the new value that holds its real numbers.
    real: FxHashMap<ValueId, ValueId>,
    /// Old value to the new values that hold it on grids; the first is on its own grid.
    placed: FxHashMap<ValueId, Vec<ValueId>>,
    /// New real values, and those that dynamic quantization makes of them.
    dynamic: FxHashMap<(ValueId, Granularity), ValueId>,
    values: Vec<(ValueId, ValueId)>,
    lost_inputs: Vec<NodeId>,
}

impl Builder<'_> {
    fn origin(&self, v: ValueId) -> Origin {
        self.old.origin(v.node).clone()
    }

    /// Copies the names of the old node's values to the new one's and remembers the new values.
    fn settle(&mut self, old: NodeId, new: NodeId) {
        for (from, to) in self.old.results(old).zip(self.new.results(new)) {
            if let Some(name) = self.old.name(from) {
                self.new.set_name(to, name.clone());
            }
            self.values.push((from, to));
            match self.new.ty(to).elem.qparams() {
                Some(_) => self.placed.entry(from).or_default().insert(0, to),
                None => drop(self.real.insert(from, to)),
            }
        }
    }

    /// The new value with the real numbers of an old one.
    fn real(&mut self, v: ValueId) -> Result<ValueId, PassError> {
        if let Some(&r) = self.real.get(&v) {
            return Ok(r);
        }
        let r = match (self.old.constant(v), self.placed.get(&v)) {
            (Some(c), _) => self.constant(v, c.clone()),
            (None, Some(placed)) => self.new.add1(Dequantize {}, &[placed[0]], self.origin(v))?,
            (None, None) => return Err(TypeError::Attribute("a value is read before it is made".into()).into()),
        };
        self.real.insert(v, r);
        Ok(r)
    }

    /// The new value with an old one on a grid.
    fn quantized_with(&mut self, v: ValueId, qparams: &QuantParams) -> Result<ValueId, PassError> {
        let here = |new: &Graph, p: &ValueId| new.ty(*p).elem.qparams() == Some(qparams);
        if let Some(&p) = self.placed.get(&v).and_then(|all| all.iter().find(|p| here(&self.new, p))) {
            return Ok(p);
        }
        let from = match self.placed.get(&v) {
            Some(all) => all[0],
            None => self.real(v)?,
        };
        let ty = self.new.ty(from).with_elem(Elem::Quantized(qparams.clone()));
        let p = self.new.add_typed(Quantize {}, &[from], Types::from_elem(ty, 1), self.origin(v))?.value(0);
        self.placed.entry(v).or_default().push(p);
        Ok(p)
    }

    /// A constant in place of an old one; it takes over the name.
    fn constant(&mut self, v: ValueId, t: Tensor) -> ValueId {
        let c = self.new.add_const(t, self.origin(v));
        if let Some(name) = self.old.name(v) {
            self.new.set_name(c, name.clone());
        }
        c
    }

    fn input(&mut self, n: NodeId, interface: Interface) -> Result<(), PassError> {
        let v = n.value(0);
        let ty = self.old.ty(v).clone();
        let name = self.old.name(v).cloned().unwrap_or_default();
        let Some(storage) = stored_at(interface, &ty.elem) else {
            self.real.insert(v, self.new.add_input(name, ty));
            return Ok(());
        };
        let qparams = self.at_interface(v, storage, &name)?;
        let new = self.new.add_input(name, ty.with_elem(Elem::Quantized(qparams)));
        match ty.elem {
            Elem::F32 => drop(self.placed.insert(v, vec![new])),
            _ => {
                let single = self.new.add1(Dequantize {}, &[new], self.origin(v))?;
                self.real.insert(v, self.new.add1(Cast { to: ty.elem }, &[single], self.origin(v))?);
            }
        }
        Ok(())
    }

    fn output(&mut self, output: &Output, interface: Interface) -> Result<ValueId, PassError> {
        let v = output.value;
        let elem = &self.old.ty(v).elem;
        let Some(storage) = stored_at(interface, elem) else { return self.real(v) };
        let qparams = self.at_interface(v, storage, &output.name)?;
        if *elem == Elem::F32 {
            return self.quantized_with(v, &qparams);
        }
        let half = self.real(v)?;
        let single = self.new.add1(Cast { to: Elem::F32 }, &[half], self.origin(v))?;
        let ty = self.new.ty(single).with_elem(Elem::Quantized(qparams));
        Ok(self.new.add_typed(Quantize {}, &[single], Types::from_elem(ty, 1), self.origin(v))?.value(0))
    }

    /// The values of single precision that a 16-bit one is cast to or from: calibration sees those.
    fn singles(&self, v: ValueId) -> Vec<ValueId> {
        let casts = |n: NodeId| matches!(self.old.op(n), Op::Cast(_));
        let users = self.old.users(v);
        let to = users.iter().map(|u| u.0).filter(|&n| casts(n)).map(|n| n.value(0));
        let from = self.old.operands(v.node).into_iter().filter(|_| casts(v.node));
        to.chain(from).collect()
    }

    fn finite_range(&self, v: ValueId) -> Option<Range> {
        self.ranges.get(v).filter(|s| s.not_finite == 0).and_then(|_| self.ranges.range(v))
    }

    /// The grid of a value that the graph takes or gives as integers: its own where it is computed with integers, else that
    /// of what calibration saw.
    fn at_interface(&self, v: ValueId, storage: StorageType, name: &str) -> Result<QuantParams, PassError> {
        if let Some(own) = self.qparams.of(v).filter(|_| self.old.ty(v).elem == Elem::F32) {
            return Ok(stored(own, storage));
        }
        let range = match self.old.constant(v) {
            Some(c) => Some(constant_range(c)),
            None => [v].into_iter().chain(self.singles(v)).find_map(|v| self.finite_range(v)),
        };
        let range = range.ok_or_else(|| {
            let message =
                format!("{name} cannot be an integer at the interface: calibration saw no finite range of it");
            let refusal = Diagnostic::error("integer-interface", message);
            PassError::Refused(vec![refusal.with_help("leave --io out, or give data that it is finite on")])
        })?;
        Ok(qparams_of(range, storage, false))
    }

    /// Adds a node in place of an old one.
    fn add(&mut self, n: NodeId, operands: &[ValueId], results: Types) -> Result<(), PassError> {
        let new = self.new.add_typed(self.old.op(n).clone(), operands, results, self.old.origin(n).clone())?;
        self.settle(n, new);
        Ok(())
    }

    fn real_node(&mut self, n: NodeId) -> Result<(), PassError> {
        let operands = self.old.operands(n).into_iter().map(|v| self.real(v)).collect::<Result<Operands, _>>()?;
        self.add(n, &operands, self.old.result_types(n))
    }

    /// The operands of a contraction with a constant weight that reads `x`: the weight on a grid and the bias, where
    /// there is one, on the grid of the sums, or real where `x` or the result is.
    fn contraction(&mut self, n: NodeId, x: ValueId, w: &Tensor, quantized_with: bool) -> Result<Operands, PassError> {
        let (op, old) = (self.old.op(n), self.old.operands(n));
        let step = self.new.ty(x).elem.qparams().map(|g| g.scales()[0]);
        let input = step.filter(|_| quantized_with);
        let bias = old.get(2).and_then(|&b| self.old.constant(b));
        let kernel = self.kernel(n);
        let beside_real = step.is_none();
        let qparams = match self.blocks(n, w).filter(|_| beside_real) {
            Some((axis, size)) => block_qparams(w, axis, size),
            None => {
                let (quantized, weights) = (kernel.quantized, kernel.weights);
                let channel = match beside_real {
                    true => weights.and_then(|k| k.axis),
                    false => quantized.and_then(|k| k.weight_axis),
                };
                let integers = !beside_real || weights.is_some_and(|k| k.dynamic.is_some());
                let limit = quantized.and_then(|k| k.pair_limit).filter(|_| integers);
                let largest = limit.map(|limit| (limit, self.largest(n, x)));
                let pairs = largest.as_ref().map(|(limit, largest)| (*limit, &largest[..]));
                weight_qparams(op, w, Bounds { channel, pairs, sums: step.zip(bias) })
            }
        };
        let mut weight = rounded(op, w, &qparams);
        let corrected = self.corrected(n, w, &weight);
        if let (None, QuantRule::Contraction { channel }) = (&corrected, op.quant_rule()) {
            weight = rounded_by_output(w, &weight, &qparams, channel);
        }
        let bias = corrected.filter(|b| bias.is_some() || b.reals().iter().any(|&x| x != 0.0)).or(bias.cloned());
        let x = if beside_real { self.dynamically_quantized(n, x, weight.ty())? } else { x };
        let mut operands = Operands::from_iter([x]);
        operands.push(self.constant(old[1], weight));
        let placed = |b: Tensor| match input {
            Some(input) => b.quantized(&bias_qparams(input, &qparams)),
            None => b,
        };
        match (bias, old.get(2)) {
            (Some(b), Some(&named)) => operands.push(self.constant(named, placed(b))),
            (Some(b), None) => operands.push(self.new.add_const(placed(b), self.old.origin(n).clone())),
            (None, named) => operands.extend(named.map(|&b| self.real(b)).transpose()?),
        }
        Ok(operands)
    }

    /// `x` as the kernel of contraction `n` reads it beside a weight of that type: rounded, where it quantizes real
    /// activations when the model runs.
    fn dynamically_quantized(&mut self, n: NodeId, x: ValueId, weight: &TensorType) -> Result<ValueId, PassError> {
        let dynamic = self.kernel(n).weights.and_then(|kernel| kernel.dynamic_beside(weight));
        let Some(granularity) = dynamic else { return Ok(x) };
        if let Some(&known) = self.dynamic.get(&(x, granularity)) {
            return Ok(known);
        }
        let rounded = self.new.add1(DynamicQuantize { granularity }, &[x], self.old.origin(n).clone())?;
        self.dynamic.insert((x, granularity), rounded);
        Ok(rounded)
    }

    /// The constant bias of a contraction that makes up for what rounding its weight `w` does to means, where those are
    /// known. Where there is no bias, one is made if operators take it as it is: convolutions, and products of matrices.
    fn corrected(&self, n: NodeId, w: &Tensor, rounded: &Tensor) -> Option<Tensor> {
        let (op, old) = (self.old.op(n), self.old.operands(n));
        let (x, result) = (self.old.ty(old[0]), self.old.ty(n.value(0)));
        let zeros = || {
            let outputs = result.shape.dims().get(1)?.known().filter(|_| x.rank() == w.ty().rank())?;
            Some(Tensor::from_vec(Shape::known(&[outputs]), vec![0.0f32; outputs]))
        };
        let bias = match old.get(2) {
            Some(&b) => self.old.constant(b)?.clone(),
            None => zeros()?,
        };
        let means = self.ranges.get(old[0])?.channel_means(summed_axis(self.old, n))?;
        corrected_bias(op, w, rounded, &bias, &means, &shares(op, w, &x.shape, &result.shape))
    }

    /// The largest integer of each channel of an activation that the contraction `n` reads as `x`.
    fn largest(&self, n: NodeId, x: ValueId) -> Vec<f32> {
        let (v, axis) = (self.old.operands(n)[0], summed_axis(self.old, n));
        let channels = self.old.ty(v).shape.dims()[axis].known().unwrap_or(0);
        let seen = self.ranges.get(v).and_then(|s| s.along(axis));
        match (seen, self.new.ty(x).elem.qparams().and_then(QuantParams::tensor_map)) {
            (Some(seen), Some((scale, zero))) => {
                seen.largest.iter().map(|x| (x * UNSEEN / scale + zero as f32).min(255.0)).collect()
            }
            _ => vec![255.0; channels],
        }
    }

    /// The axis that is cut into blocks and their length, where a weight may have them.
    fn blocks(&self, n: NodeId, w: &Tensor) -> Option<(usize, usize)> {
        let (Weights::Blocks(size), Op::MatMul(op), &[rows, columns]) =
            (self.weights, self.old.op(n), w.dims().as_slice())
        else {
            return None;
        };
        let (axis, extent) = if op.transpose_b { (1, columns) } else { (0, rows) };
        let kernel = self.target.kernel_of(self.old, n)?.weights?.blocks?;
        (kernel.fits)(extent, size).then_some((axis, size))
    }

    /// The target's kernel for an old node.
    fn kernel(&self, n: NodeId) -> Kernel {
        self.target.kernel_of(self.old, n).unwrap_or_default()
    }

    fn weights_only(&mut self, n: NodeId) -> Result<(), PassError> {
        let (op, old) = (self.old.op(n), self.old.operands(n));
        match op {
            Op::Gather(_) => self.table(n),
            _ if self.old.op(n).is_contraction() => {
                let Some(w) = self.old.constant(old[1]) else { return self.real_node(n) };
                let x = self.real(old[0])?;
                let operands = self.contraction(n, x, w, false)?;
                // Few bits lose more, as whoever asks for them expects.
                let rounded = self
                    .new
                    .constant(operands[1])
                    .filter(|w| w.ty().elem.qparams().is_some_and(|g| g.storage == StorageType::I8));
                if rounded.is_some_and(|rounded| lost_inputs(op, w, rounded) > MOST_LOST) {
                    self.lost_inputs.push(n);
                }
                self.add(n, &operands, self.old.result_types(n))
            }
            _ => {
                for &i in weights(op) {
                    self.restored(old[i])?;
                }
                self.real_node(n)
            }
        }
    }

    /// Keeps a constant on a grid, with a scale for each of its rows: its real numbers are restored from there.
    fn restored(&mut self, v: ValueId) -> Result<(), PassError> {
        if let Some(w) = self.old.constant(v).filter(|_| !self.real.contains_key(&v)) {
            let qparams = QuantParams::per_axis(StorageType::I8, 0, per_channel(&magnitudes(w, 0)));
            let stored = self.constant(v, rounded_by_output(w, &w.quantized(&qparams), &qparams, 0));
            let real = self.new.add1(Dequantize {}, &[stored], self.origin(v))?;
            self.real.insert(v, real);
        }
        Ok(())
    }

    /// A lookup in a table on a grid, where that loses little.
    fn table(&mut self, n: NodeId) -> Result<(), PassError> {
        let (op, old) = (self.old.op(n), self.old.operands(n));
        let Some(w) = self.old.constant(old[0]) else { return self.real_node(n) };
        let Some(kernel) = self.kernel(n).weights else { return self.real_node(n) };
        let qparams = weight_qparams(op, w, Bounds { channel: kernel.axis, ..Bounds::default() });
        let stored = w.quantized(&qparams);
        if Distance::of(&w.reals(), &stored.reals()).sqnr() < LEAST_OF_A_TABLE {
            return self.real_node(n);
        }
        if kernel.restored {
            self.restored(old[0])?;
            return self.real_node(n);
        }
        let operands = [self.constant(old[0], stored), self.real(old[1])?];
        let new = self.new.add(op.clone(), &operands, self.old.origin(n).clone())?;
        self.settle(n, new);
        Ok(())
    }

    /// A node whose operands lie on grids, and whose results do where they are to be `quantized_with`.
    fn integer(&mut self, n: NodeId, quantized_with: bool) -> Result<(), PassError> {
        let old = self.old.operands(n);
        let weight = old.get(1).and_then(|&w| self.old.constant(w));
        let operands = match weight.filter(|_| self.old.op(n).is_contraction()) {
            Some(w) => {
                let x = self.operand(n, 0, old[0])?;
                self.contraction(n, x, w, quantized_with)?
            }
            None => old.iter().enumerate().map(|(i, &v)| self.operand(n, i, v)).collect::<Result<Operands, _>>()?,
        };
        let placed = |v: ValueId| match self.qparams.of(v) {
            Some(qparams) if quantized_with && self.old.ty(v).elem == Elem::F32 => {
                self.old.ty(v).with_elem(Elem::Quantized(qparams.clone()))
            }
            _ => self.old.ty(v).clone(),
        };
        let results: Types = self.old.results(n).map(placed).collect();
        self.add(n, &operands, results)
    }

    /// Operand `i` of an integer node, the old value `v`, on the grid that the node asks.
    fn operand(&mut self, n: NodeId, i: usize, v: ValueId) -> Result<ValueId, PassError> {
        if self.old.ty(v).elem != Elem::F32 {
            return self.real(v);
        }
        let joint = self.qparams.of(n.value(0));
        if let Some(t) = self.old.constant(v) {
            let shared = joint
                .filter(|_| matches!(self.old.op(n).quant_rule(), QuantRule::SharedScale | QuantRule::SameAsInput));
            let qparams = shared.cloned().unwrap_or_else(|| constant_qparams(t, self.target.activation));
            return Ok(self.constant(v, t.quantized(&qparams)));
        }
        match self.qparams.of_operand(n, i, v).cloned() {
            Some(qparams) => self.quantized_with(v, &qparams),
            None => self.real(v),
        }
    }
}

/// What stores a value of that element at the interface, where real numbers are integers there.
fn stored_at(interface: Interface, elem: &Elem) -> Option<StorageType> {
    match interface {
        Interface::Quantized(storage) if elem.is_float() => Some(storage),
        _ => None,
    }
}

/// The same grid with another 8-bit storage.
fn stored(qparams: &QuantParams, storage: StorageType) -> QuantParams {
    match qparams.tensor_map() {
        Some((scale, zero)) => {
            let shift = storage.range().0 - qparams.storage.range().0;
            QuantParams::per_tensor(storage, scale, if storage == StorageType::I16 { 0 } else { zero + shift })
        }
        None => qparams.clone(),
    }
}

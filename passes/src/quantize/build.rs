//! Writes the quantized graph.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::error::TypeError;
use qcc_ir::ops::{Cast, Dequantize, DynamicQuantize, Granularity, Op, QuantRule, Quantize, Types};
use qcc_ir::target::{BlockGrid, Kernel, Target};
use qcc_ir::{
    Dim, Elem, Graph, NodeId, Operands, Origin, Output, QuantParams, Shape, StorageType, Tensor, TensorType, ValueId,
};
use rustc_hash::FxHashMap;

use super::compensate::{compensated_blocks, compensated_channels};
use super::kernels::weights;
use super::parameters::Parameters;
use super::plan::{Mode, Plan};
use super::qparams::{per_channel, qparams_of};
use super::weights::{
    Bounds, bias_qparams, block_qparams, constant_qparams, constant_range, corrected_bias, lost_inputs, magnitudes,
    rounded, rounded_by_output, shares, weight_qparams,
};
use super::{Interface, Interfaces, Options, Quantized, Weights};
use crate::PassError;
use crate::axes::summed_axis;
use crate::calibrate::{CalibrationTable, Factor, Range, Reading};
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
        storage: plan.storage,
        weights: options.weights,
        dense_per_tensor: options.dense_per_tensor,
        compensate: options.compensate,
        ranges,
        qparams,
        new,
        float: FxHashMap::default(),
        placed: FxHashMap::default(),
        dynamic: FxHashMap::default(),
        values: Vec::new(),
        lost_inputs: Vec::new(),
    };
    for n in g.order() {
        match plan.mode(n) {
            _ if matches!(g.op(n), Op::Input(_)) => b.input(n, &options.interface)?,
            // Constants are created for each user, with the quantization parameters that it needs.
            _ if matches!(g.op(n), Op::Const(_)) => {}
            Some(Mode::Integer) => b.integer(n, true)?,
            Some(Mode::FloatResult) => b.integer(n, false)?,
            Some(Mode::Weights) => b.weights_only(n)?,
            None => b.float_node(n)?,
        }
    }
    for output in g.outputs() {
        let v = b.output(output, &options.interface)?;
        b.new.add_output(output.name.clone(), v);
    }
    Ok(Quantized { graph: b.new, values: b.values, lost_inputs: b.lost_inputs, decisions: Vec::new(), scaled: None })
}

/// The factor by which activations of a channel may exceed those seen in calibration.
const UNSEEN: f32 = 1.25;

/// The least SQNR of a quantized lookup table in dB. With 16-bit activations its errors would be the largest of the model.
fn least_table_sqnr(storage: StorageType) -> f64 {
    if storage == StorageType::I16 { 40.0 } else { 30.0 }
}

/// The share of lost input channels above which a contraction is reported.
const MOST_LOST: f64 = 0.5;

/// The factor by which the inputs of a recurrent layer must at least be fewer than its units for its input weight to stay
/// float.
const NARROW: usize = 4;

/// True for the input weight of a recurrent layer with few inputs. It is a small part of the layer's weights, and
/// rounding it shifts the sums of all steps in the same direction, so that the state accumulates the error.
fn is_narrow(g: &Graph, n: NodeId, operand: usize) -> bool {
    let columns = |i: usize| g.ty(g.operand(n, i)).shape.dims().last().and_then(Dim::known);
    let (Op::Recurrent(_), 1, Some(inputs), Some(units)) = (g.op(n), operand, columns(1), columns(2)) else {
        return false;
    };
    inputs * NARROW <= units
}

struct Builder<'a> {
    old: &'a Graph,
    target: &'a Target,
    /// Storage type of quantized activations.
    storage: StorageType,
    weights: Weights,
    /// [`Options::dense_per_tensor`]
    dense_per_tensor: bool,
    /// Weights compensate each other's rounding errors, where second moments are known.
    compensate: bool,
    ranges: &'a CalibrationTable,
    qparams: &'a Parameters,
    new: Graph,
    /// The float value for each old value.
    float: FxHashMap<ValueId, ValueId>,
    /// The quantized values for each old value. The first has the parameters of the value itself.
    placed: FxHashMap<ValueId, Vec<ValueId>>,
    /// New float values, and their dynamically quantized values.
    dynamic: FxHashMap<(ValueId, Granularity), ValueId>,
    values: Vec<(ValueId, ValueId)>,
    lost_inputs: Vec<NodeId>,
}

impl Builder<'_> {
    fn origin(&self, v: ValueId) -> Origin {
        self.old.origin(v.node).clone()
    }

    /// Copies the names of the old results to the new ones and records the mapping.
    fn settle(&mut self, old: NodeId, new: NodeId) {
        for (from, to) in self.old.results(old).zip(self.new.results(new)) {
            if let Some(name) = self.old.name(from) {
                self.new.set_name(to, name.clone());
            }
            self.values.push((from, to));
            match self.new.ty(to).elem.qparams() {
                Some(_) => self.placed.entry(from).or_default().insert(0, to),
                None => drop(self.float.insert(from, to)),
            }
        }
    }

    /// The new float value for an old value.
    fn float(&mut self, v: ValueId) -> Result<ValueId, PassError> {
        if let Some(&r) = self.float.get(&v) {
            return Ok(r);
        }
        let r = match (self.old.constant(v), self.placed.get(&v)) {
            (Some(c), _) => self.constant(v, c.clone()),
            (None, Some(placed)) => self.new.add1(Dequantize {}, &[placed[0]], self.origin(v))?,
            (None, None) => return Err(TypeError::Attribute("a value is used before it is defined".into()).into()),
        };
        self.float.insert(v, r);
        Ok(r)
    }

    /// The new quantized value for an old value.
    fn quantized_with(&mut self, v: ValueId, qparams: &QuantParams) -> Result<ValueId, PassError> {
        let here = |new: &Graph, p: &ValueId| new.ty(*p).elem.qparams() == Some(qparams);
        if let Some(&p) = self.placed.get(&v).and_then(|all| all.iter().find(|p| here(&self.new, p))) {
            return Ok(p);
        }
        let from = match self.placed.get(&v) {
            Some(all) => all[0],
            None => self.float(v)?,
        };
        let ty = self.new.ty(from).with_elem(Elem::Quantized(qparams.clone()));
        let p = self.new.add_typed(Quantize {}, &[from], Types::from_elem(ty, 1), self.origin(v))?.value(0);
        self.placed.entry(v).or_default().push(p);
        Ok(p)
    }

    /// A constant that replaces an old one and takes over its name.
    fn constant(&mut self, v: ValueId, t: Tensor) -> ValueId {
        let c = self.new.add_const(t, self.origin(v));
        if let Some(name) = self.old.name(v) {
            self.new.set_name(c, name.clone());
        }
        c
    }

    fn input(&mut self, n: NodeId, interface: &Interfaces) -> Result<(), PassError> {
        let v = n.value(0);
        let ty = self.old.ty(v).clone();
        let name = self.old.name(v).cloned().unwrap_or_default();
        let Some(storage) = stored_at(interface.of(&name), &ty.elem) else {
            self.float.insert(v, self.new.add_input(name, ty));
            return Ok(());
        };
        let qparams = self.at_interface(v, storage, &name)?;
        let new = self.new.add_input(name, ty.with_elem(Elem::Quantized(qparams)));
        match ty.elem {
            Elem::F32 => drop(self.placed.insert(v, vec![new])),
            _ => {
                let single = self.new.add1(Dequantize {}, &[new], self.origin(v))?;
                self.float.insert(v, self.new.add1(Cast { to: ty.elem }, &[single], self.origin(v))?);
            }
        }
        Ok(())
    }

    fn output(&mut self, output: &Output, interface: &Interfaces) -> Result<ValueId, PassError> {
        let v = output.value;
        let elem = &self.old.ty(v).elem;
        let Some(storage) = stored_at(interface.of(&output.name), elem) else { return self.float(v) };
        let qparams = self.at_interface(v, storage, &output.name)?;
        if *elem == Elem::F32 {
            return self.quantized_with(v, &qparams);
        }
        let half = self.float(v)?;
        let single = self.new.add1(Cast { to: Elem::F32 }, &[half], self.origin(v))?;
        let ty = self.new.ty(single).with_elem(Elem::Quantized(qparams));
        Ok(self.new.add_typed(Quantize {}, &[single], Types::from_elem(ty, 1), self.origin(v))?.value(0))
    }

    /// The `F32` values that a 16-bit float value is cast to or from. Calibration measures those.
    fn singles(&self, v: ValueId) -> Vec<ValueId> {
        let casts = |n: NodeId| matches!(self.old.op(n), Op::Cast(_));
        let users = self.old.users(v);
        let to = users.iter().map(|u| u.0).filter(|&n| casts(n)).map(|n| n.value(0));
        let from = self.old.operands(v.node).into_iter().filter(|_| casts(v.node));
        to.chain(from).collect()
    }

    fn finite_range(&self, v: ValueId) -> Option<Range> {
        self.ranges.get(v).filter(|s| s.not_finite == 0 && !s.is_empty()).and_then(|_| self.ranges.range(v))
    }

    /// The quantization parameters of a quantized graph input or output: those of the value if quantized nodes use it,
    /// else parameters from its calibrated range.
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
                format!("{name} cannot be quantized at the interface: calibration found no finite range for it");
            let refusal = Diagnostic::error("integer-interface", message);
            PassError::Refused(vec![
                refusal.with_help("leave --io out, or give calibration data for which it is finite"),
            ])
        })?;
        Ok(qparams_of(range, storage, false))
    }

    /// Adds a node that replaces an old one.
    fn add(&mut self, n: NodeId, operands: &[ValueId], results: Types) -> Result<(), PassError> {
        let new = self.new.add_typed(self.old.op(n).clone(), operands, results, self.old.origin(n).clone())?;
        self.settle(n, new);
        Ok(())
    }

    fn float_node(&mut self, n: NodeId) -> Result<(), PassError> {
        let operands = self.old.operands(n).into_iter().map(|v| self.float(v)).collect::<Result<Operands, _>>()?;
        self.add(n, &operands, self.old.result_types(n))
    }

    /// The operands of a contraction with a constant weight and the activation `x`: the quantized weight, and the bias
    /// if there is one. The bias is quantized with the scale of the accumulator, or stays a float if `x` or the result
    /// is a float.
    fn contraction(&mut self, n: NodeId, x: ValueId, w: &Tensor, quantized_with: bool) -> Result<Operands, PassError> {
        let old = self.old.operands(n);
        let step = self.step(x);
        let input = step.filter(|_| quantized_with);
        let bias = old.get(2).and_then(|&b| self.old.constant(b));
        let (weight, corrected) = self.weight(n, x, w);
        let bias = corrected.filter(|b| bias.is_some() || b.floats().iter().any(|&x| x != 0.0)).or(bias.cloned());
        let x = if step.is_none() { self.dynamically_quantized(n, x, weight.ty())? } else { x };
        let qparams = weight.ty().elem.qparams().cloned();
        let mut operands = Operands::from_iter([x]);
        operands.push(self.constant(old[1], weight));
        let placed = |b: Tensor| match input.zip(qparams) {
            Some((input, qparams)) => b.quantized(&bias_qparams(input, &qparams)),
            None => b,
        };
        match (bias, old.get(2)) {
            (Some(b), Some(&named)) => operands.push(self.constant(named, placed(b))),
            (Some(b), None) => operands.push(self.new.add_const(placed(b), self.old.origin(n).clone())),
            (None, named) => operands.extend(named.map(|&b| self.float(b)).transpose()?),
        }
        Ok(operands)
    }

    /// The scale of a quantized activation.
    fn step(&self, x: ValueId) -> Option<f32> {
        self.new.ty(x).elem.qparams().map(|qparams| qparams.scales()[0])
    }

    /// The quantized weight `w` of contraction `n` with the activation `x`, and the bias that is corrected for its errors,
    /// if the means of the activation are known.
    fn weight(&self, n: NodeId, x: ValueId, w: &Tensor) -> (Tensor, Option<Tensor>) {
        let op = self.old.op(n);
        let factor = self.factor(n, 1);
        if let Some((axis, size, grid)) = self.blocks(n, w).filter(|_| self.step(x).is_none()) {
            let compensated = factor.and_then(|factor| compensated_blocks(w, axis, size, grid, factor));
            let weight = compensated.unwrap_or_else(|| w.quantized(&block_qparams(w, axis, size, grid)));
            let corrected = self.corrected(n, w, &weight);
            return (weight, corrected);
        }
        let qparams = self.scheme(n, x, w);
        if let Some(weight) = factor.and_then(|factor| compensated_channels(op, w, &qparams, factor)) {
            let corrected = self.corrected(n, w, &weight);
            return (weight, corrected);
        }
        let weight = rounded(op, w, &qparams);
        match (self.corrected(n, w, &weight), op.quant_rule()) {
            (None, QuantRule::Contraction { channel }) => (rounded_by_output(w, &weight, &qparams, channel), None),
            (corrected, _) => (weight, corrected),
        }
    }

    /// What rounding operand `i` of node `n`, a weight, needs of its activation, if it is known.
    fn factor(&self, n: NodeId, i: usize) -> Option<&Factor> {
        let read = Reading::all(self.old, n).into_iter().find(|read| read.weight == i && self.compensate)?;
        self.ranges.factor(read.activation, &read.reading)
    }

    /// The quantization parameters of the weight `w` of contraction `n` with the activation `x`, with 8 bits.
    fn scheme(&self, n: NodeId, x: ValueId, w: &Tensor) -> QuantParams {
        let (kernel, step) = (self.kernel(n), self.step(x));
        let (quantized, weights) = (kernel.for_storage(self.storage), kernel.weights);
        let channel = match step {
            None => weights.and_then(|k| k.axis),
            Some(_) => quantized.and_then(|k| k.weight_axis),
        };
        let channel = channel.filter(|_| !(self.dense_per_tensor && matches!(self.old.op(n), Op::MatMul(_))));
        let integers = step.is_some() || weights.is_some_and(|k| k.dynamic.is_some());
        let limit = quantized.and_then(|k| k.pair_limit).filter(|_| integers);
        let largest = limit.map(|limit| (limit, self.largest(n, x)));
        let pairs = largest.as_ref().map(|(limit, largest)| (*limit, &largest[..]));
        let bias = self.old.operands(n).get(2).and_then(|&b| self.old.constant(b));
        weight_qparams(self.old.op(n), w, Bounds { channel, pairs, sums: step.zip(bias) })
    }

    /// The activation `x` for the kernel of contraction `n` with this weight: dynamically quantized if the kernel does
    /// so.
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

    /// The bias that compensates the shift of the output means by the rounding of weight `w`, if the means of the
    /// activation are known. If there is no bias, one is added where the operator supports it: for convolutions and
    /// products of two matrices.
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

    /// The largest quantized value of each channel of the activation `x` of contraction `n`.
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

    /// The blocked axis, the block size, and what the blocks have, if the target supports a blocked weight.
    fn blocks(&self, n: NodeId, w: &Tensor) -> Option<(usize, usize, BlockGrid)> {
        let (Weights::Blocks(size), Op::MatMul(op), &[rows, columns]) =
            (self.weights, self.old.op(n), w.dims().as_slice())
        else {
            return None;
        };
        let (axis, extent) = if op.transpose_b { (1, columns) } else { (0, rows) };
        let kernel = self.target.kernel_of(self.old, n)?.weights?.blocks?;
        (kernel.fits)(extent, size).then_some((axis, size, kernel.grid))
    }

    /// The kernel of the target for an old node.
    fn kernel(&self, n: NodeId) -> Kernel {
        self.target.kernel_of(self.old, n).unwrap_or_default()
    }

    fn weights_only(&mut self, n: NodeId) -> Result<(), PassError> {
        let (op, old) = (self.old.op(n), self.old.operands(n));
        match op {
            Op::Gather(_) => self.table(n),
            _ if self.old.op(n).is_contraction() => {
                let Some(w) = self.old.constant(old[1]) else { return self.float_node(n) };
                let x = self.float(old[0])?;
                let operands = self.contraction(n, x, w, false)?;
                // Loss in 4 bits is expected and not reported.
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
                for &i in weights(op).iter().filter(|&&i| !is_narrow(self.old, n, i)) {
                    self.dequantized(n, i)?;
                }
                self.float_node(n)
            }
        }
    }

    /// Stores operand `i` of node `n` as per-row quantized weight, with a `Dequantize` that the model evaluates at run time.
    fn dequantized(&mut self, n: NodeId, i: usize) -> Result<(), PassError> {
        let v = self.old.operand(n, i);
        if let Some(w) = self.old.constant(v).filter(|_| !self.float.contains_key(&v)) {
            let qparams = QuantParams::per_axis(StorageType::I8, 0, per_channel(&magnitudes(w, 0)));
            let compensated =
                self.factor(n, i).and_then(|factor| compensated_channels(self.old.op(n), w, &qparams, factor));
            let rounded = compensated.unwrap_or_else(|| rounded_by_output(w, &w.quantized(&qparams), &qparams, 0));
            let stored = self.constant(v, rounded);
            let real = self.new.add1(Dequantize {}, &[stored], self.origin(v))?;
            self.float.insert(v, real);
        }
        Ok(())
    }

    /// A lookup in a quantized table, if the loss is small.
    fn table(&mut self, n: NodeId) -> Result<(), PassError> {
        let (op, old) = (self.old.op(n), self.old.operands(n));
        let Some(w) = self.old.constant(old[0]) else { return self.float_node(n) };
        let Some(kernel) = self.kernel(n).weights else { return self.float_node(n) };
        let qparams = weight_qparams(op, w, Bounds { channel: kernel.axis, ..Bounds::default() });
        let stored = w.quantized(&qparams);
        if Distance::of(&w.floats(), &stored.floats()).sqnr() < least_table_sqnr(self.storage) {
            return self.float_node(n);
        }
        if kernel.dequantized {
            self.dequantized(n, 0)?;
            return self.float_node(n);
        }
        let operands = [self.constant(old[0], stored), self.float(old[1])?];
        let new = self.new.add(op.clone(), &operands, self.old.origin(n).clone())?;
        self.settle(n, new);
        Ok(())
    }

    /// A node with quantized operands. Results are quantized if `quantized_with` holds.
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

    /// Operand `i` of a quantized node, the old value `v`, with the quantization parameters that the node needs.
    fn operand(&mut self, n: NodeId, i: usize, v: ValueId) -> Result<ValueId, PassError> {
        if self.old.ty(v).elem != Elem::F32 {
            return self.float(v);
        }
        let joint = self.qparams.of(n.value(0));
        if let Some(t) = self.old.constant(v) {
            let shared = joint
                .filter(|_| matches!(self.old.op(n).quant_rule(), QuantRule::SharedScale | QuantRule::SameAsInput));
            let qparams = shared.cloned().unwrap_or_else(|| constant_qparams(t, self.storage));
            return Ok(self.constant(v, t.quantized(&qparams)));
        }
        match self.qparams.of_operand(n, i, v).cloned() {
            Some(qparams) => self.quantized_with(v, &qparams),
            None => self.float(v),
        }
    }
}

/// The storage type of an element at the interface, if floats are quantized there.
fn stored_at(interface: Interface, elem: &Elem) -> Option<StorageType> {
    match interface {
        Interface::Quantized(storage) if elem.is_float() => Some(storage),
        _ => None,
    }
}

/// The same scale in another storage type. For 8 bits the zero point is shifted; 16 bits are symmetric.
fn stored(qparams: &QuantParams, storage: StorageType) -> QuantParams {
    match qparams.tensor_map() {
        Some((scale, zero)) => {
            let shift = storage.range().0 - qparams.storage.range().0;
            QuantParams::per_tensor(storage, scale, if storage == StorageType::I16 { 0 } else { zero + shift })
        }
        None => qparams.clone(),
    }
}

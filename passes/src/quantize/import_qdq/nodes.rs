//! Import of operators that compute: contractions and functions.

use qcc_ir::ops::{Op, QuantRule};
use qcc_ir::{Affine, Elem, Graph, NodeId, Operands, QuantParams, StorageType, Tensor, ValueId};

use super::super::Dynamic;
use super::super::qparams::fixed_qparams;
use super::super::weights::{bias_qparams, constant_qparams};
use super::{QdqImporter, with_storage};
use crate::PassError;

/// A kernel with predefined output parameters is used if its scale exceeds that of the model by at most this factor, so
/// that results differ by little more than a step.
const COARSER: f32 = 1.25;

impl QdqImporter<'_> {
    /// The `Quantize` that is the only user of `v`, and its parameters.
    fn quantize_after(&self, v: ValueId) -> Option<(NodeId, QuantParams)> {
        let q = self.only_live_user(v).filter(|&q| matches!(self.g.op(q), Op::Quantize(_)))?;
        let qparams = self.g.ty(q.value(0)).elem.qparams()?;
        (qparams.storage == self.target.activation && qparams.tensor_map().is_some()).then(|| (q, qparams.clone()))
    }

    /// The quantized activation that `v` is dequantized from.
    fn activation(&self, v: ValueId) -> Option<(ValueId, QuantParams)> {
        let inner = self.quantized_source(v).filter(|&inner| self.g.constant(inner).is_none())?;
        let qparams = self.g.ty(inner).elem.qparams()?;
        (qparams.storage == self.target.activation && qparams.tensor_map().is_some()).then(|| (inner, qparams.clone()))
    }

    /// The clamp that is the only user of `v`. A clamp may come before or after rounding.
    fn clamp_after(&self, v: ValueId) -> Option<NodeId> {
        self.only_live_user(v).filter(|&c| matches!(self.g.op(c), Op::Clamp(_)) && self.kernel(c).is_some())
    }

    /// Replaces a chain of nodes that ends with a `Quantize` by `new`.
    fn settle(&mut self, chain: &[NodeId], new: ValueId) {
        for n in chain {
            self.became.insert(n.value(0), new);
            self.dead.insert(*n);
        }
        if let Some(q) = chain.last() {
            self.g.redirect(q.value(0), new);
        }
    }

    /// Imports a contraction of a quantized activation with a symmetric constant weight, or of two quantized
    /// activations. If the result or the activation is not quantized, weight-only quantization may remain.
    pub(super) fn contraction(&mut self, n: NodeId) -> Result<(), PassError> {
        let operands = self.g.operands(n);
        if self.in_blocks(n, operands[1]) {
            self.g.set_operand(n, 1, self.g.operands(operands[1].node)[0]);
            return Ok(());
        }
        let weight = self.weight(n, operands[1]);
        let kernel = self.kernel(n);
        let zero = |i: usize, qparams: &QuantParams| {
            kernel.is_none_or(|kernel| kernel.zero_point_of(i, weight.is_some()).admits(qparams))
        };
        let x = self.activation(operands[0]).filter(|(_, qparams)| zero(0, qparams));
        let other = self.activation(operands[1]).filter(|(_, qparams)| weight.is_none() && zero(1, qparams));
        let bias = operands.get(2).map(|&b| self.known(b).cloned());
        let (None | Some(Some(_)), Some((x, x_qparams)), Some(kernel)) = (&bias, x, kernel) else {
            return self.weight_only(n, weight);
        };
        let bias = bias.flatten();
        let w_qparams = match (&weight, &other) {
            (Some(w), _) => w.ty().elem.qparams().cloned(),
            (None, other) => other.as_ref().map(|o| o.1.clone()),
        };
        let Some(w_qparams) = w_qparams else { return Ok(()) };
        let v = n.value(0);
        let limit = self.clamp_after(v);
        let end = self.quantize_after(limit.map_or(v, |c| c.value(0)));
        let rescaled = |to: &QuantParams| kernel.rescales(&x_qparams, &w_qparams, to);
        let on_sums = |b: &Tensor| exact_bias(b, &bias_qparams(x_qparams.scales()[0], &w_qparams));
        let full = end.filter(|(_, to)| kernel.gives_quantized && rescaled(to));
        let full = full.and_then(|end| match &bias {
            Some(b) => on_sums(b).map(|b| (end, Some(b))),
            None => Some((end, None)),
        });
        if full.is_none() && !kernel.gives_float {
            return self.weight_only(n, weight);
        }
        let mut new = Operands::from_iter([x]);
        new.push(match (weight, other) {
            (Some(w), _) => self.g.add_const(w, self.g.origin(operands[1].node).clone()),
            (None, Some((other, _))) => other,
            (None, None) => return Ok(()),
        });
        let Some(((q, to), bias_on_sums)) = full else {
            new.extend(bias.map(|b| self.g.add_const(b.to_float(), self.g.origin(operands[2].node).clone())));
            let (op, types) = (self.g.op(n).clone(), self.g.result_types(n));
            let sums = self.g.add_typed(op, &new, types, self.g.origin(n).clone())?.value(0);
            self.g.replace(v, sums)?;
            self.dead.insert(n);
            self.became.insert(v, sums);
            return Ok(());
        };
        new.extend(bias_on_sums.map(|b| self.g.add_const(b, self.g.origin(operands[2].node).clone())));
        let origin = self.g.origin(n).and(self.g.origin(q));
        let mut result = self.again(n, &new, &to, origin.clone())?;
        if let Some(limit) = limit {
            result = self.again(limit, &[result], &to, self.g.origin(limit).clone())?;
        }
        let chain: Vec<NodeId> = [n].into_iter().chain(limit).chain([q]).collect();
        self.settle(&chain, result);
        Ok(())
    }

    /// True if `w` is a block-wise quantized weight that the target supports with float activations.
    fn in_blocks(&self, n: NodeId, w: ValueId) -> bool {
        let qparams = self
            .quantized_source(w)
            .filter(|&w| self.g.constant(w).is_some())
            .and_then(|w| self.g.ty(w).elem.qparams());
        let (Op::MatMul(op), Some(qparams)) = (self.g.op(n), qparams) else { return false };
        let Affine::PerBlock { axis, size, .. } = qparams.map else { return false };
        let (rank, extent) = (self.g.ty(w).rank(), self.g.ty(w).shape.dims()[axis].known());
        let summed = rank == 2 && axis == usize::from(op.transpose_b);
        let blocks = || self.target.kernel_of(&self.g, n)?.weights?.blocks;
        summed
            && extent
                .zip(blocks())
                .is_some_and(|(extent, blocks)| (blocks.fits)(extent, size) && blocks.grid.admits(qparams))
    }

    /// The constant weight of a contraction in `I8`, if the target supports its parameters: symmetric, per-tensor or
    /// per output channel.
    fn weight(&self, n: NodeId, w: ValueId) -> Option<Tensor> {
        let w = with_storage(self.known(w)?, StorageType::I8)?;
        let kernel = self.target.kernel_of(&self.g, n)?;
        let own = [kernel.quantized.and_then(|k| k.weight_axis), kernel.weights.and_then(|k| k.axis)];
        let fits = match &w.ty().elem.qparams()?.map {
            Affine::PerTensor { zero_point, .. } => *zero_point == 0,
            Affine::PerAxis { axis, .. } => own.contains(&Some(*axis)),
            Affine::PerBlock { .. } => false,
        };
        fits.then_some(w)
    }

    /// Keeps a quantized weight with a float activation. A per-tensor scale becomes per-channel where the target
    /// supports that.
    fn weight_only(&mut self, n: NodeId, weight: Option<Tensor>) -> Result<(), PassError> {
        let kernel = self.target.kernel_of(&self.g, n).and_then(|kernel| kernel.weights);
        let (Some(kernel), Some(w)) = (kernel, weight) else { return Ok(()) };
        // The kernel would quantize activations again that the model quantizes already, or those that it has as floats.
        let x = self.g.operands(n)[0];
        let floats = self.dynamic == Dynamic::Never && !matches!(self.g.producer(x), Op::DynamicQuantize(_));
        if kernel.dynamic_beside(w.ty()).is_some() && (floats || self.is_quantized_in_model(x)) {
            return Ok(());
        }
        let w = match (w.ty().elem.qparams().and_then(QuantParams::tensor_map), kernel.axis) {
            (Some((scale, _)), Some(axis)) => {
                let qparams = QuantParams::per_axis(StorageType::I8, axis, vec![scale; w.dims()[axis]]);
                w.retype(w.ty().with_elem(Elem::Quantized(qparams))).unwrap_or(w)
            }
            _ => w,
        };
        let origin = self.g.origin(self.g.operands(n)[1].node).clone();
        let w = self.g.add_const(w, origin);
        self.g.set_operand(n, 1, w);
        Ok(())
    }

    /// Imports any other operator with one result. Its result has the parameters of the following `Quantize`, or
    /// predefined parameters of the kernel that are fine enough. A clamp in between is kept.
    pub(super) fn function(&mut self, n: NodeId) -> Result<(), PassError> {
        let storage = self.target.activation;
        let limit = self.clamp_after(n.value(0)).filter(|_| !matches!(self.g.op(n), Op::Clamp(_)));
        let end = self.quantize_after(limit.map_or(n.value(0), |c| c.value(0)));
        let Some((q, to)) = end else { return Ok(()) };
        if self.g.results(n).len() != 1 || self.kernel(n).is_none() {
            return Ok(());
        }
        let mut users = self.g.users(q.value(0)).into_iter();
        let only_float_users =
            !self.g.is_output(q.value(0)) && users.all(|(u, _)| matches!(self.g.op(u), Op::Dequantize(_)));
        let operands = self.g.operands(n);
        let first = operands.first().and_then(|&o| self.activation(o)).map(|(_, qparams)| qparams);
        let own = match self.g.op(n).quant_rule() {
            QuantRule::OwnRange => Some(to.clone()),
            QuantRule::Fixed { .. } | QuantRule::SameAsInput if limit.is_some() => None,
            // If all users are float nodes, they need the numbers of the model, not those of predefined parameters.
            QuantRule::Fixed { lo, hi } => {
                Some(fixed_qparams(lo, hi, storage)).filter(|own| !only_float_users || *own == to)
            }
            QuantRule::SameAsInput => first,
            QuantRule::Contraction { .. } | QuantRule::SharedScale | QuantRule::Float => None,
        };
        let Some(own) = own.filter(|own| own.scales()[0] <= COARSER * to.scales()[0]) else { return Ok(()) };
        let placed = |&o: &ValueId| {
            if self.g.ty(o).elem != Elem::F32 {
                return Some(Operand::Value(o));
            }
            match (self.activation(o), self.known(o)) {
                (Some((inner, _)), _) => Some(Operand::Value(inner)),
                (None, Some(c)) => exact_constant(c, storage).map(|c| Operand::Constant(Box::new(c), o)),
                (None, None) => None,
            }
        };
        let placed: Option<Vec<Operand>> = operands.iter().map(placed).collect();
        let Some(placed) = placed.filter(|_| operands.iter().any(|&o| self.activation(o).is_some())) else {
            return Ok(());
        };
        let place = |g: &mut Graph, o: Operand| match o {
            Operand::Value(v) => v,
            Operand::Constant(c, v) => g.add_const(*c, g.origin(v.node).clone()),
        };
        let new: Operands = placed.into_iter().map(|o| place(&mut self.g, o)).collect();
        let origin = self.g.origin(n).and(self.g.origin(q));
        let mut result = self.again(n, &new, &own, origin)?;
        if let Some(limit) = limit {
            result = self.again(limit, &[result], &own, self.g.origin(limit).clone())?;
        }
        // Float users accept any parameters, and without requantization numbers are rounded once.
        if !only_float_users {
            result = self.moved(result, &to)?;
        }
        let chain: Vec<NodeId> = [n].into_iter().chain(limit).chain([q]).collect();
        self.settle(&chain, result);
        Ok(())
    }
}

/// An operand of a quantized node.
enum Operand {
    Value(ValueId),
    /// A constant that replaces an old value.
    Constant(Box<Tensor>, ValueId),
}

/// The constant in 8 bits without loss: with its own parameters, or those computed for a single element.
fn exact_constant(c: &Tensor, storage: StorageType) -> Option<Tensor> {
    if c.ty().elem.qparams().is_some() {
        return with_storage(c, storage).filter(|c| c.ty().elem.qparams().is_some_and(|g| g.tensor_map().is_some()));
    }
    (c.len() == 1 && c.floats()[0].is_finite()).then(|| c.quantized(&constant_qparams(c, storage)))
}

/// The bias with the scale of the accumulator. It keeps its integers if it has that scale already. `None` if it exceeds
/// the 32-bit range.
fn exact_bias(b: &Tensor, sums: &QuantParams) -> Option<Tensor> {
    const MOST: f64 = (1u64 << 30) as f64;
    let same = |own: &QuantParams| {
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b;
        let (a, b) = (own.scales(), sums.scales());
        let pairs = || (0..a.len().max(b.len())).map(|i| (&a[i % a.len()], &b[i % b.len()]));
        own.storage == StorageType::I32 && own.zero_point() == 0 && pairs().all(near)
    };
    if b.ty().elem.qparams().is_some_and(same) {
        return b.retype(b.ty().with_elem(Elem::Quantized(sums.clone())));
    }
    let scales = sums.scales();
    let steps = |(i, v): (usize, &f32)| f64::from(*v) / f64::from(scales[i % scales.len()]);
    let real = b.to_float();
    real.floats().iter().enumerate().map(steps).all(|q| q.abs() < MOST).then(|| real.quantized(sums))
}

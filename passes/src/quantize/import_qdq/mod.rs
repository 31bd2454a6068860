//! Import of quantized (QDQ) graphs: Q/DQ pairs are fused into the nodes between them.
//!
//! A node is quantized if its operands come from `Dequantize`, its result goes to `Quantize`, and the target has a
//! kernel for these parameters. Its quantized values are then those of the model. All other nodes compute in floating
//! point between the Q/DQ pairs, which is correct but slower.

use qcc_ir::eval::evaluate_node;
use qcc_ir::ops::{Clamp, Dequantize, DynamicQuantize, Granularity, Op, QuantRule, Quantize, Types};
use qcc_ir::target::{Quantized as Kernel, Target};
use qcc_ir::{Elem, Graph, NodeId, Origin, QuantParams, StorageType, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::kernels::weights;
use super::{Dynamic, Interface, Interfaces, Quantized};
use crate::{Context, PassError};

mod bounds;
mod decide;
mod nodes;
#[cfg(test)]
mod tests;
mod wide;

/// True if the graph has quantized values.
pub fn is_quantized(g: &Graph) -> bool {
    let is_quantized = |n: NodeId| g.results(n).any(|v| g.ty(v).elem.qparams().is_some());
    g.order().into_iter().any(|n| matches!(g.op(n), Op::DynamicQuantize(_)) || is_quantized(n))
}

/// Quantizes as many nodes of the QDQ graph `g`, which is lowered to the target, as the target's kernels allow. Scales
/// and zero points are those of the graph; nothing is calibrated. `interface` applies to inputs and outputs that are
/// floats in `g`; others keep their type. With [`Dynamic::Never`] products quantize their activations at run time only
/// where the model does; weights for which there are no other kernels are dequantized by nodes of their own.
///
/// # Errors
/// If a node cannot be created, with its name, or if a bug of the pass leaves a graph that does not verify.
pub fn import_qdq(
    g: &Graph,
    cx: &mut Context<'_>,
    interface: &Interfaces,
    dynamic: Dynamic,
) -> Result<Quantized, PassError> {
    let mut a = QdqImporter {
        g: g.clone(),
        target: cx.target,
        dynamic,
        became: FxHashMap::default(),
        wide: FxHashSet::default(),
        dead: FxHashSet::default(),
    };
    cx.diagnostics.extend(a.drop_wide()?);
    a.unify_storage()?;
    a.hoist_clamps()?;
    a.drop_clamps();
    a.hoist_quantizes()?;
    for n in a.g.order() {
        a.import_node(n)?;
    }
    a.release_constants();
    a.settle_dynamic()?;
    a.open(interface)?;
    a.g.sweep();
    a.g.verify().map_err(|error| PassError::Verify { pass: "absorb", error })?;
    let live: FxHashSet<NodeId> = a.g.order().into_iter().collect();
    let computed = g.order().into_iter().filter(|&n| !matches!(g.op(n), Op::Input(_) | Op::Const(_)));
    let now = |v: ValueId| a.became.get(&v).copied().unwrap_or(v);
    let values = computed.flat_map(|n| g.results(n)).map(|v| (v, now(v))).filter(|(_, v)| live.contains(&v.node));
    let values: Vec<(ValueId, ValueId)> = values.collect();
    let decisions = decide::decisions(g, &a.g, |v| a.last_of(v).filter(|v| live.contains(&v.node)));
    Ok(Quantized { values, graph: a.g, lost_inputs: Vec::new(), decisions, scaled: None })
}

/// The maximum number of successive replacements of a value: a clamp is removed, a `Quantize` is moved, a kernel fuses
/// both.
const MOST_REPLACEMENTS: usize = 8;

struct QdqImporter<'a> {
    g: Graph,
    target: &'a Target,
    /// When kernels may quantize activations that are floats.
    dynamic: Dynamic,
    /// Float values and the quantized values that replace them.
    became: FxHashMap<ValueId, ValueId>,
    /// Float values whose quantization was wider than the target supports.
    wide: FxHashSet<ValueId>,
    /// Nodes that were replaced. They are removed at the end, so that node ids stay valid.
    dead: FxHashSet<NodeId>,
}

impl QdqImporter<'_> {
    /// The operand of the `Dequantize` that computes `v`.
    fn quantized_source(&self, v: ValueId) -> Option<ValueId> {
        matches!(self.g.producer(v), Op::Dequantize(_)).then(|| self.g.operands(v.node)[0])
    }

    /// The last replacement of `v`.
    fn last_of(&self, v: ValueId) -> Option<ValueId> {
        std::iter::successors(Some(v), |v| self.became.get(v).copied()).take(MOST_REPLACEMENTS).last()
    }

    /// The constant that `v` is, or is dequantized from.
    fn known(&self, v: ValueId) -> Option<&Tensor> {
        self.g.constant(self.quantized_source(v).unwrap_or(v))
    }

    /// True if no live node and no output uses a result of `n`.
    fn has_no_user(&self, n: NodeId) -> bool {
        let read = |v: ValueId| self.g.is_output(v) || self.g.users(v).iter().any(|u| !self.dead.contains(&u.0));
        !self.g.results(n).any(read)
    }

    /// The only user of `v`.
    fn only_live_user(&self, v: ValueId) -> Option<NodeId> {
        let users = self.g.users(v);
        let mut live = users.iter().map(|u| u.0).filter(|n| !self.dead.contains(n));
        live.next().filter(|_| live.next().is_none() && !self.g.is_output(v))
    }

    /// The kernel of the target for a node with quantized activations.
    fn kernel(&self, n: NodeId) -> Option<Kernel> {
        self.target.kernel_of(&self.g, n)?.quantized
    }

    /// Requantizes the value `v`.
    fn moved(&mut self, v: ValueId, qparams: &QuantParams) -> Result<ValueId, PassError> {
        if self.g.ty(v).elem.qparams() == Some(qparams) {
            return Ok(v);
        }
        let ty = self.g.ty(v).with_elem(Elem::Quantized(qparams.clone()));
        let origin = self.g.origin(v.node).clone();
        Ok(self.g.add_typed(Quantize {}, &[v], Types::from_elem(ty, 1), origin)?.value(0))
    }

    /// Adds the operator of `n` on other operands, with a quantized result.
    fn again(
        &mut self,
        n: NodeId,
        operands: &[ValueId],
        qparams: &QuantParams,
        origin: Origin,
    ) -> Result<ValueId, PassError> {
        let ty = self.g.ty(n.value(0)).with_elem(Elem::Quantized(qparams.clone()));
        Ok(self.g.add_typed(self.g.op(n).clone(), operands, Types::from_elem(ty, 1), origin)?.value(0))
    }

    /// Converts 8-bit values to the storage type of the target, which shifts the zero point. Inputs and outputs keep
    /// their storage type.
    fn unify_storage(&mut self) -> Result<(), PassError> {
        let storage = self.target.activation;
        let kept: Vec<_> = self.g.outputs().iter().map(|o| self.g.ty(o.value).clone()).collect();
        for n in self.g.order() {
            for v in self.g.results(n) {
                let own = self.g.ty(v).elem.qparams();
                let Some(qparams) = own.and_then(|g| with_storage_type(g, storage)).filter(|g| Some(g) != own) else {
                    continue;
                };
                let ty = self.g.ty(v).with_elem(Elem::Quantized(qparams.clone()));
                match self.g.op(n) {
                    Op::Const(c) => {
                        let Some(shifted) = with_storage(&c.value, storage) else { continue };
                        let shifted = self.g.add_const(shifted, self.g.origin(n).clone());
                        self.g.redirect(v, shifted);
                    }
                    Op::Input(_) | Op::Custom(_) => {
                        let inside = self.moved(v, &qparams)?;
                        self.g.redirect(v, inside);
                    }
                    _ => self.g.set_type(v, ty),
                }
            }
        }
        for n in self.g.order() {
            let Op::Custom(custom) = self.g.op(n) else { continue };
            let declared: Vec<_> = custom.operands.iter().flatten().map(|ty| ty.elem.qparams().cloned()).collect();
            for (i, (v, qparams)) in self.g.operands(n).into_iter().zip(declared).enumerate() {
                if let Some(qparams) = qparams {
                    let v = self.moved(v, &qparams)?;
                    self.g.set_operand(n, i, v);
                }
            }
        }
        for (i, ty) in kept.into_iter().enumerate() {
            if let Some(own) = ty.elem.qparams() {
                let v = self.moved(self.g.outputs()[i].value, own)?;
                self.g.set_output(i, v);
            }
        }
        Ok(())
    }

    /// Moves a clamp between two identical quantizations before the first one. Rounding is monotonic, so the result is the
    /// same.
    fn hoist_clamps(&mut self) -> Result<(), PassError> {
        for q in self.g.order() {
            let (Op::Quantize(_), Some(qparams)) = (self.g.op(q), self.g.ty(q.value(0)).elem.qparams()) else {
                continue;
            };
            let Some(storage) = qparams.tensor_map().map(|_| qparams.storage) else { continue };
            let limit = self.g.operands(q)[0];
            let Op::Clamp(clamp) = self.g.producer(limit).clone() else { continue };
            let Some(inner) = self.quantized_source(self.g.operands(limit.node)[0]) else { continue };
            let same = matches!(self.g.producer(inner), Op::Quantize(_)) && self.g.ty(inner) == self.g.ty(q.value(0));
            let real = self.g.operands(inner.node).first().copied().filter(|&x| self.g.ty(x).elem == Elem::F32);
            let (true, Some(real)) = (same && storage != StorageType::I32, real) else { continue };
            let clamped = self.add_clamp(clamp, real, self.g.origin(limit.node).clone())?;
            let dequantized = self.g.operands(limit.node)[0].node;
            self.g.set_operand(q, 0, clamped);
            for n in [limit.node, dequantized, inner.node, real.node] {
                if self.has_no_user(n) {
                    self.dead.insert(n);
                }
            }
        }
        Ok(())
    }

    /// Removes clamps that do not change the result of the following `Quantize`.
    fn drop_clamps(&mut self) {
        for n in self.g.order() {
            let (Op::Quantize(_), Some(qparams)) = (self.g.op(n), self.g.ty(n.value(0)).elem.qparams()) else {
                continue;
            };
            let x = self.g.operands(n)[0];
            let (&Op::Clamp(Clamp { lo, hi }), Some((scale, zero))) = (self.g.producer(x), qparams.tensor_map()) else {
                continue;
            };
            let (qmin, qmax) = qparams.storage.range();
            let place = |limit: f32| (limit / scale).round_ties_even() + zero as f32;
            if self.only_live_user(x) == Some(n) && place(lo) <= qmin as f32 && place(hi) >= qmax as f32 {
                let inner = self.g.operands(x.node)[0];
                self.g.set_operand(n, 0, inner);
                self.dead.insert(x.node);
                self.became.insert(x, n.value(0));
            }
        }
    }

    /// Moves `Quantize` above operators that only move or select elements.
    fn hoist_quantizes(&mut self) -> Result<(), PassError> {
        loop {
            let mut changed = false;
            for q in self.g.order().into_iter().rev() {
                if !self.dead.contains(&q) && matches!(self.g.op(q), Op::Quantize(_)) {
                    changed |= self.hoist(q)?;
                }
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// True if `v` is a quantized value of the model that was only forwarded: it keeps its parameters.
    fn comes_quantized(&self, mut v: ValueId) -> bool {
        while self.g.producer(v).quant_rule() == QuantRule::SameAsInput && self.g.producer(v).carries_integers() {
            v = self.g.operands(v.node)[0];
        }
        self.quantized_source(v).is_some()
    }

    /// True if the model quantizes `v`, even if the target does not support its width.
    fn is_quantized_in_model(&self, mut v: ValueId) -> bool {
        while !self.wide.contains(&v) && self.g.producer(v).carries_integers() {
            v = self.g.operands(v.node)[0];
        }
        self.wide.contains(&v) || self.quantized_source(v).is_some()
    }

    fn hoist(&mut self, q: NodeId) -> Result<bool, PassError> {
        let (v, to) = (self.g.operands(q)[0], q.value(0));
        let (n, Some(qparams)) = (v.node, self.g.ty(to).elem.qparams().cloned()) else { return Ok(false) };
        let one = self.g.results(n).len() == 1 && qparams.tensor_map().is_some();
        let real = self.g.ty(v).elem == Elem::F32;
        let hoisted = one
            && real
            && self.g.op(n).carries_integers()
            && self.only_live_user(v) == Some(q)
            && self.kernel(n).is_some();
        if !hoisted || self.comes_quantized(v) {
            return Ok(false);
        }
        let mut operands = self.g.operands(n);
        for o in operands.iter_mut().filter(|o| self.g.ty(**o).elem == Elem::F32).collect::<Vec<_>>() {
            *o = match (self.quantized_source(*o), self.g.constant(*o)) {
                (Some(inner), _) if self.g.ty(inner).elem.qparams() == Some(&qparams) => inner,
                (_, Some(c)) => {
                    let c = c.quantized(&qparams);
                    self.g.add_const(c, self.g.origin(o.node).clone())
                }
                _ => self.moved(*o, &qparams)?,
            };
        }
        let origin = self.g.origin(n).and(self.g.origin(q));
        let new = self.again(n, &operands, &qparams, origin)?;
        self.g.redirect(to, new);
        self.became.extend([(v, new), (to, new)]);
        self.dead.extend([n, q]);
        Ok(true)
    }

    /// Fuses the Q/DQ pairs around a node whose operands are imported, where possible.
    fn import_node(&mut self, n: NodeId) -> Result<(), PassError> {
        if self.dead.contains(&n) {
            return Ok(());
        }
        match self.g.op(n) {
            Op::Input(_) | Op::Const(_) | Op::Dequantize(_) => Ok(()),
            Op::Quantize(_) => self.fuse_requantize(n),
            op if op.carries_integers() => self.sink_dequantize(n),
            _ if self.g.op(n).is_contraction() => self.contraction(n),
            _ => self.function(n),
        }
    }

    /// Fuses `Dequantize` and `Quantize` into a requantization.
    fn fuse_requantize(&mut self, q: NodeId) -> Result<(), PassError> {
        let Some(inner) = self.quantized_source(self.g.operands(q)[0]) else { return Ok(()) };
        let (from, to) = (self.g.ty(inner), self.g.ty(q.value(0)));
        if from == to {
            self.g.redirect(q.value(0), inner);
            self.became.insert(q.value(0), inner);
            self.dead.insert(q);
        } else if from.elem.size() == to.elem.size() && from.elem.qparams().is_some_and(|g| g.tensor_map().is_some()) {
            self.g.set_operand(q, 0, inner);
        }
        Ok(())
    }

    /// Moves `Dequantize` below an operator that only moves or selects elements.
    fn sink_dequantize(&mut self, n: NodeId) -> Result<(), PassError> {
        let mut operands = self.g.operands(n);
        let mut qparams = None;
        if self.g.results(n).len() != 1 {
            return Ok(());
        }
        for o in operands.iter_mut().filter(|o| self.g.ty(**o).elem == Elem::F32).collect::<Vec<_>>() {
            let Some(inner) = self.quantized_source(*o) else { return Ok(()) };
            let own = self.g.ty(inner).elem.qparams().cloned();
            if qparams.get_or_insert_with(|| own.clone()) != &own {
                return Ok(());
            }
            *o = inner;
        }
        // Constants in an open shape have no value before the run.
        let known: Option<Vec<Tensor>> = match self.g.ty(n.value(0)).shape.is_open() {
            true => None,
            false => operands.iter().map(|&o| self.g.constant(o).cloned()).collect(),
        };
        if qparams.is_none() || (known.is_none() && self.kernel(n).is_none()) {
            return Ok(());
        }
        let (op, origin) = (self.g.op(n).clone(), self.g.origin(n).clone());
        // If the result lacks the axis of per-channel scales, the operator stays in floating point.
        let Ok(mut new) = self.g.add1(op.clone(), &operands, origin.clone()) else { return Ok(()) };
        if let Some(known) = known {
            let value = evaluate_node(&op, &known.iter().collect::<Vec<_>>(), &self.g.result_types(new.node))?;
            new = self.g.add_const(value[0].clone(), origin.clone());
        }
        let real = match self.g.ty(new).elem.qparams() {
            Some(_) => self.g.add1(Dequantize {}, &[new], origin)?,
            // An index.
            None => new,
        };
        self.g.replace(n.value(0), real)?;
        self.became.insert(n.value(0), new);
        self.dead.insert(n);
        Ok(())
    }

    /// Adds the dynamic quantization of the target's kernels to contractions of float activations with quantized
    /// weights. A dynamic quantization of the model that no kernel implements is removed.
    fn settle_dynamic(&mut self) -> Result<(), PassError> {
        let mut known: FxHashMap<(ValueId, Granularity), ValueId> = FxHashMap::default();
        for n in self.g.order() {
            if matches!(self.g.op(n), Op::DynamicQuantize(_)) {
                let x = self.g.operands(n)[0];
                self.g.redirect(n.value(0), x);
                self.became.insert(n.value(0), x);
            }
            let Some(granularity) = self.dynamic(n) else { continue };
            let x = self.g.operands(n)[0];
            let rounded = match known.get(&(x, granularity)) {
                Some(&rounded) => rounded,
                None => self.g.add1(DynamicQuantize { granularity }, &[x], self.g.origin(n).clone())?,
            };
            known.insert((x, granularity), rounded);
            self.g.set_operand(n, 0, rounded);
        }
        Ok(())
    }

    /// The dynamic quantization of the target's kernel for a node.
    fn dynamic(&self, n: NodeId) -> Option<Granularity> {
        let operands = self.g.operand_types(n);
        let narrow =
            self.g.op(n).is_contraction() && operands[0].elem == Elem::F32 && operands[1].elem.qparams().is_some();
        let weights = self.target.kernel_of(&self.g, n).filter(|_| narrow)?.weights?;
        weights.dynamic_beside(operands[1])
    }

    /// Dequantizes constants that no quantized node uses, except weights that are dequantized at run time.
    fn release_constants(&mut self) {
        for n in self.g.order() {
            let kept = |(user, i): &(NodeId, usize)| weights(self.g.op(*user)).contains(i);
            let in_blocks =
                self.g.operand_types(n).first().and_then(|t| t.elem.qparams()).is_some_and(QuantParams::is_for_weights);
            let read = n.value(0);
            let kept = !self.g.is_output(read) && self.g.users(read).iter().all(kept) && !in_blocks;
            if !matches!(self.g.op(n), Op::Dequantize(_)) || kept {
                continue;
            }
            if let Some(c) = self.g.constant(self.g.operands(n)[0]) {
                let real = c.to_float();
                let real = self.g.add_const(real, self.g.origin(n).clone());
                self.g.redirect(n.value(0), real);
            }
        }
    }

    /// Moves `Quantize` and `Dequantize` at inputs and outputs out of the graph.
    fn open(&mut self, interface: &Interfaces) -> Result<(), PassError> {
        let stored = |name: &str| match interface.of(name) {
            Interface::Quantized(storage) => Some(storage),
            Interface::Float | Interface::Half => None,
        };
        for x in self.g.inputs().collect::<Vec<_>>() {
            let Some(storage) = stored(self.g.name(x).map_or("", |name| name)) else { continue };
            let Some(q) = self.only_live_user(x).filter(|&q| matches!(self.g.op(q), Op::Quantize(_))) else { continue };
            let Some(qparams) = self.g.ty(q.value(0)).elem.qparams().and_then(|g| with_storage_type(g, storage)) else {
                continue;
            };
            if self.g.ty(x).elem != Elem::F32 {
                continue;
            }
            self.g.set_type(x, self.g.ty(x).with_elem(Elem::Quantized(qparams)));
            if self.g.ty(x) == self.g.ty(q.value(0)) {
                self.g.redirect(q.value(0), x);
            }
        }
        for i in 0..self.g.outputs().len() {
            let Some(storage) = stored(&self.g.outputs()[i].name) else { continue };
            let Some(inner) = self.quantized_source(self.g.outputs()[i].value) else { continue };
            let Some(qparams) = self.g.ty(inner).elem.qparams().and_then(|g| with_storage_type(g, storage)) else {
                continue;
            };
            let v = self.moved(inner, &qparams)?;
            self.g.set_output(i, v);
        }
        Ok(())
    }
}

/// The same 8-bit quantization in another storage type.
fn with_storage_type(qparams: &QuantParams, storage: StorageType) -> Option<QuantParams> {
    let (scale, zero) = qparams.tensor_map().filter(|_| qparams.storage.size() == 1 && storage.size() == 1)?;
    Some(QuantParams::per_tensor(storage, scale, zero + storage.range().0 - qparams.storage.range().0))
}

/// The same 8-bit values in another storage type.
fn with_storage(t: &Tensor, storage: StorageType) -> Option<Tensor> {
    let own = t.ty().elem.qparams()?;
    if own.storage == storage {
        return Some(t.clone());
    }
    let ty = t.ty().with_elem(Elem::Quantized(with_storage_type(own, storage)?));
    Some(Tensor::of(ty, t.data().iter().map(|b| b ^ 0x80).collect::<Vec<u8>>()))
}

//! Graphs that come quantized: what lies between `Dequantize` and `Quantize` goes onto the grids around it.
//!
//! A node works on integers where its operands come from grids, its result goes onto one, and the target's kernels take
//! just these grids; then its integers are those of the model. All else stays between its borders: right, and slower.

use qcc_ir::eval::evaluate_node;
use qcc_ir::ops::{Clamp, Dequantize, DynamicQuantize, Granularity, Op, QuantRule, Quantize, Types};
use qcc_ir::target::{Quantized as Kernel, Target};
use qcc_ir::{Elem, Graph, NodeId, Origin, QuantParams, StorageType, Tensor, ValueId};
use rustc_hash::{FxHashMap, FxHashSet};

use super::kernels::weights;
use super::{Interface, Quantized};
use crate::{Context, PassError};

mod bounds;
mod decide;
mod nodes;
#[cfg(test)]
mod tests;
mod wide;

/// True where values of the graph lie on grids.
pub fn is_quantized(g: &Graph) -> bool {
    let on_grid = |n: NodeId| g.result_types(n).iter().any(|t| t.elem.qparams().is_some());
    g.order().into_iter().any(|n| matches!(g.op(n), Op::DynamicQuantize(_)) || on_grid(n))
}

/// The quantized graph `g`, lowered to the target, with as many of its nodes on integers as the target's kernels allow.
/// No range is measured: scales and zero points are those of the graph. `interface` counts for inputs and outputs that
/// are real in `g`; others keep what they hold.
///
/// # Errors
/// Where a node cannot be made, with its name, or a fault of the pass leaves a graph that does not verify.
pub fn import_qdq(g: &Graph, cx: &mut Context<'_>, interface: Interface) -> Result<Quantized, PassError> {
    let mut a = QdqImporter {
        g: g.clone(),
        target: cx.target,
        became: FxHashMap::default(),
        wide: FxHashSet::default(),
        dead: FxHashSet::default(),
    };
    cx.diagnostics.extend(a.drop_wide()?);
    a.settle_stores()?;
    a.hoist_limits()?;
    a.drop_limits();
    a.raise_borders()?;
    for n in a.g.order() {
        a.take_in(n)?;
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
    Ok(Quantized { values, graph: a.g, lost_inputs: Vec::new(), decisions })
}

/// Values that take each other's places, at most: a limit goes, a border moves, a kernel takes both in.
const MOST_PLACES: usize = 8;

struct QdqImporter<'a> {
    g: Graph,
    target: &'a Target,
    /// Real values and what holds them on a grid now.
    became: FxHashMap<ValueId, ValueId>,
    /// Real values that were on grids too wide for the target.
    wide: FxHashSet<ValueId>,
    /// Nodes that others have taken the place of. They are swept away at the end, so that ids stay what they are.
    dead: FxHashSet<NodeId>,
}

impl QdqImporter<'_> {
    /// The value on a grid whose real numbers `v` is.
    fn quantized_source(&self, v: ValueId) -> Option<ValueId> {
        matches!(self.g.producer(v), Op::Dequantize(_)).then(|| self.g.operands(v.node)[0])
    }

    /// What took the place of `v` last.
    fn last_of(&self, v: ValueId) -> Option<ValueId> {
        std::iter::successors(Some(v), |v| self.became.get(v).copied()).take(MOST_PLACES).last()
    }

    /// The constant, real or on a grid, that `v` is.
    fn known(&self, v: ValueId) -> Option<&Tensor> {
        self.g.constant(self.quantized_source(v).unwrap_or(v))
    }

    /// True where no node that counts reads a result of `n`, and no output is one.
    fn is_unread(&self, n: NodeId) -> bool {
        let read = |v: ValueId| self.g.is_output(v) || self.g.users(v).iter().any(|u| !self.dead.contains(&u.0));
        !self.g.results(n).any(read)
    }

    /// The one node that reads `v`.
    fn reader(&self, v: ValueId) -> Option<NodeId> {
        let users = self.g.users(v);
        let mut live = users.iter().map(|u| u.0).filter(|n| !self.dead.contains(n));
        live.next().filter(|_| live.next().is_none() && !self.g.is_output(v))
    }

    /// The target's kernel for a node that takes quantized activations.
    fn kernel(&self, n: NodeId) -> Option<Kernel> {
        self.target.kernel_of(&self.g, n)?.quantized
    }

    /// Adds the value `v` on another grid.
    fn moved(&mut self, v: ValueId, qparams: &QuantParams) -> Result<ValueId, PassError> {
        if self.g.ty(v).elem.qparams() == Some(qparams) {
            return Ok(v);
        }
        let ty = self.g.ty(v).with_elem(Elem::Quantized(qparams.clone()));
        let origin = self.g.origin(v.node).clone();
        Ok(self.g.add_typed(Quantize {}, &[v], Types::from_elem(ty, 1), origin)?.value(0))
    }

    /// Adds the operator of `n` on other operands, with its result on a grid.
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

    /// Brings 8-bit values to the target's storage: the same numbers, shifted. Inputs and outputs keep theirs.
    fn settle_stores(&mut self) -> Result<(), PassError> {
        let storage = self.target.activation;
        let kept: Vec<_> = self.g.outputs().iter().map(|o| self.g.ty(o.value).clone()).collect();
        for n in self.g.order() {
            for v in self.g.results(n) {
                let own = self.g.ty(v).elem.qparams();
                let Some(qparams) = own.and_then(|g| on_store(g, storage)).filter(|g| Some(g) != own) else { continue };
                let ty = self.g.ty(v).with_elem(Elem::Quantized(qparams.clone()));
                match self.g.op(n) {
                    Op::Const(c) => {
                        let Some(shifted) = restored(&c.value, storage) else { continue };
                        let shifted = self.g.add_const(shifted, self.g.origin(n).clone());
                        self.g.redirect(v, shifted);
                    }
                    Op::Input(_) => {
                        let inside = self.moved(v, &qparams)?;
                        self.g.redirect(v, inside);
                    }
                    _ => self.g.set_type(v, ty),
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

    /// A limit between two borders to one grid goes before the first: rounding keeps the order, so that numbers may be
    /// limited and then rounded.
    fn hoist_limits(&mut self) -> Result<(), PassError> {
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
            let limited = self.add_limit(clamp, real, self.g.origin(limit.node).clone())?;
            let dequantized = self.g.operands(limit.node)[0].node;
            self.g.set_operand(q, 0, limited);
            for n in [limit.node, dequantized, inner.node, real.node] {
                if self.is_unread(n) {
                    self.dead.insert(n);
                }
            }
        }
        Ok(())
    }

    /// Limits go where the grid behind them ends no further out.
    fn drop_limits(&mut self) {
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
            if self.reader(x) == Some(n) && place(lo) <= qmin as f32 && place(hi) >= qmax as f32 {
                let inner = self.g.operands(x.node)[0];
                self.g.set_operand(n, 0, inner);
                self.dead.insert(x.node);
                self.became.insert(x, n.value(0));
            }
        }
    }

    /// What puts the result of an operator on a grid that only hands numbers on, puts its operands there instead.
    fn raise_borders(&mut self) -> Result<(), PassError> {
        loop {
            let mut changed = false;
            for q in self.g.order().into_iter().rev() {
                if !self.dead.contains(&q) && matches!(self.g.op(q), Op::Quantize(_)) {
                    changed |= self.raise(q)?;
                }
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// True where `v` is what a grid holds, only handed on: it stays on that grid.
    fn comes_quantized(&self, mut v: ValueId) -> bool {
        while self.g.producer(v).quant_rule() == QuantRule::SameAsInput && self.g.producer(v).carries_integers() {
            v = self.g.operands(v.node)[0];
        }
        self.quantized_source(v).is_some()
    }

    /// True where the model has `v` on a grid, be it one too wide for the target.
    fn is_placed(&self, mut v: ValueId) -> bool {
        while !self.wide.contains(&v) && self.g.producer(v).carries_integers() {
            v = self.g.operands(v.node)[0];
        }
        self.wide.contains(&v) || self.quantized_source(v).is_some()
    }

    fn raise(&mut self, q: NodeId) -> Result<bool, PassError> {
        let (v, to) = (self.g.operands(q)[0], q.value(0));
        let (n, Some(qparams)) = (v.node, self.g.ty(to).elem.qparams().cloned()) else { return Ok(false) };
        let one = self.g.results(n).len() == 1 && qparams.tensor_map().is_some();
        let real = self.g.ty(v).elem == Elem::F32;
        let raised =
            one && real && self.g.op(n).carries_integers() && self.reader(v) == Some(q) && self.kernel(n).is_some();
        if !raised || self.comes_quantized(v) {
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

    /// Puts a node whose operands are settled onto grids, where that is possible.
    fn take_in(&mut self, n: NodeId) -> Result<(), PassError> {
        if self.dead.contains(&n) {
            return Ok(());
        }
        match self.g.op(n) {
            Op::Input(_) | Op::Const(_) | Op::Dequantize(_) => Ok(()),
            Op::Quantize(_) => self.join_borders(n),
            op if op.carries_integers() => self.lower_border(n),
            _ if self.g.op(n).is_contraction() => self.contraction(n),
            _ => self.function(n),
        }
    }

    /// From one grid to another there are no real numbers between.
    fn join_borders(&mut self, q: NodeId) -> Result<(), PassError> {
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

    /// What comes from a grid and is only handed on, stays there.
    fn lower_border(&mut self, n: NodeId) -> Result<(), PassError> {
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
        let known: Option<Vec<Tensor>> = operands.iter().map(|&o| self.g.constant(o).cloned()).collect();
        if qparams.is_none() || (known.is_none() && self.kernel(n).is_none()) {
            return Ok(());
        }
        let (op, origin) = (self.g.op(n).clone(), self.g.origin(n).clone());
        // Scales along an axis that is gone in the result: the numbers become real.
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

    /// Gives each contraction of real activations with a weight on a grid the dynamic quantization that the target's kernel
    /// does. That of the model goes where the kernel does none.
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

    /// The dynamic quantization that the target's kernel for a node does.
    fn dynamic(&self, n: NodeId) -> Option<Granularity> {
        let operands = self.g.operand_types(n);
        let narrow =
            self.g.op(n).is_contraction() && operands[0].elem == Elem::F32 && operands[1].elem.qparams().is_some();
        let weights = self.target.kernel_of(&self.g, n).filter(|_| narrow)?.weights?;
        weights.dynamic_beside(operands[1])
    }

    /// Constants whose grid nothing took over become real, but for weights that are restored when the model runs.
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
                let real = c.to_real();
                let real = self.g.add_const(real, self.g.origin(n).clone());
                self.g.redirect(n.value(0), real);
            }
        }
    }

    /// Lets inputs and outputs hold the numbers behind and before their borders.
    fn open(&mut self, interface: Interface) -> Result<(), PassError> {
        let Interface::Quantized(storage) = interface else { return Ok(()) };
        for x in self.g.inputs().collect::<Vec<_>>() {
            let Some(q) = self.reader(x).filter(|&q| matches!(self.g.op(q), Op::Quantize(_))) else { continue };
            let Some(qparams) = self.g.ty(q.value(0)).elem.qparams().and_then(|g| on_store(g, storage)) else {
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
            let Some(inner) = self.quantized_source(self.g.outputs()[i].value) else { continue };
            let Some(qparams) = self.g.ty(inner).elem.qparams().and_then(|g| on_store(g, storage)) else { continue };
            let v = self.moved(inner, &qparams)?;
            self.g.set_output(i, v);
        }
        Ok(())
    }
}

/// The same 8-bit grid in another storage.
fn on_store(qparams: &QuantParams, storage: StorageType) -> Option<QuantParams> {
    let (scale, zero) = qparams.tensor_map().filter(|_| qparams.storage.size() == 1 && storage.size() == 1)?;
    Some(QuantParams::per_tensor(storage, scale, zero + storage.range().0 - qparams.storage.range().0))
}

/// The same numbers on 8 bits in another storage.
fn restored(t: &Tensor, storage: StorageType) -> Option<Tensor> {
    let own = t.ty().elem.qparams()?;
    if own.storage == storage {
        return Some(t.clone());
    }
    let ty = t.ty().with_elem(Elem::Quantized(on_store(own, storage)?));
    Some(Tensor::of(ty, t.data().iter().map(|b| b ^ 0x80).collect::<Vec<u8>>()))
}

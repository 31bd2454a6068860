//! Values whose storage type is wider than the target's activations.

use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Binary, BinaryFn, Cast, Clamp, Dequantize, Op, Unary, UnaryFn};
use qcc_ir::{Affine, Elem, Graph, NodeId, Origin, QuantParams, Shape, StorageType, Tensor, ValueId};

use super::QdqImporter;
use super::bounds::Bounds;
use crate::PassError;

impl QdqImporter<'_> {
    /// Removes quantizations that are wider than the target's activations, so that these values are floats. Where a
    /// quantization clips, a clamp replaces it. Inputs and outputs of the model keep their integers.
    pub(super) fn drop_wide(&mut self) -> Result<Option<Diagnostic>, PassError> {
        let most = self.target.activation.size();
        let mut bounds = Bounds::default();
        let mut dropped = 0usize;
        let kept: Vec<_> = self.g.outputs().iter().map(|o| self.g.ty(o.value).elem.clone()).collect();
        for n in self.g.order() {
            let real = |g: &Graph, v: ValueId| g.ty(v).elem.qparams().is_none();
            let (v, x) = (n.value(0), self.g.operands(n).first().copied());
            let wide = self.g.ty(v).elem.qparams().filter(|qparams| qparams.storage.size() > most).cloned();
            match (self.g.op(n), x, wide) {
                (Op::Input(_), _, Some(qparams)) => self.free_input(v, &qparams)?,
                (Op::Quantize(_), Some(x), Some(qparams)) => {
                    dropped += 1;
                    let x = match real(&self.g, x) {
                        true => x,
                        false => self.g.add1(Dequantize {}, &[x], self.g.origin(n).clone())?,
                    };
                    let clamped = self.clamped(x, &qparams, &mut bounds, n)?;
                    self.wide.insert(clamped);
                    self.g.redirect(v, clamped);
                    self.dead.insert(n);
                }
                (Op::Dequantize(_), Some(x), _) if real(&self.g, x) => {
                    self.g.redirect(v, x);
                    self.dead.insert(n);
                }
                (_, Some(x), Some(_)) if real(&self.g, x) => {
                    for (v, ty) in self.g.results(n).zip(self.g.result_types(n)) {
                        self.g.set_type(v, ty.real());
                    }
                }
                _ => {}
            }
        }
        for (i, elem) in kept.iter().enumerate() {
            let v = self.g.outputs()[i].value;
            if let (Elem::F32, Elem::Quantized(qparams)) = (&self.g.ty(v).elem, elem) {
                let v = if qparams.storage == StorageType::I32 {
                    self.integers(v, qparams)?
                } else {
                    self.moved(v, qparams)?
                };
                self.g.set_output(i, v);
                dropped = dropped.saturating_sub(1);
            }
        }
        let target = self.target.name;
        let note = || {
            let message = format!("{dropped} values are quantized to 16 bits, which {target} kernels do not support");
            Diagnostic::warning("wide-quantization", message)
                .with_note("they are computed in floating point and clamped to the same range: as accurate, but slower")
        };
        Ok((dropped > 0).then(note))
    }

    /// Dequantizes an input of a wide storage type for all its users. Kernels take 32-bit quantized values for biases
    /// only: such an input becomes a plain `I32` input, and the graph applies scale and zero point.
    fn free_input(&mut self, v: ValueId, qparams: &QuantParams) -> Result<(), PassError> {
        let users = self.g.users(v);
        let origin = self.g.origin(v.node).clone();
        let real = match qparams.tensor_map().filter(|_| qparams.storage == StorageType::I32) {
            None => self.g.add1(Dequantize {}, &[v], origin)?,
            Some((scale, zero)) => {
                self.g.set_type(v, self.g.ty(v).with_elem(Elem::I32));
                let mut real = self.g.add1(Cast { to: Elem::F32 }, &[v], origin.clone())?;
                if zero != 0 {
                    real = self.by_number(BinaryFn::Sub, real, zero as f32, &origin)?;
                }
                self.by_number(BinaryFn::Mul, real, scale, &origin)?
            }
        };
        self.wide.insert(real);
        users.into_iter().for_each(|(n, i)| self.g.set_operand(n, i, real));
        Ok(())
    }

    /// `x` quantized to 32 bits, as a plain `I32` value.
    fn integers(&mut self, x: ValueId, qparams: &QuantParams) -> Result<ValueId, PassError> {
        let Some((scale, zero)) = qparams.tensor_map() else { return Ok(x) };
        let origin = self.g.origin(x.node).clone();
        let steps = self.by_number(BinaryFn::Div, x, scale, &origin)?;
        let mut steps = self.g.add1(Unary { f: UnaryFn::Round }, &[steps], origin.clone())?;
        if zero != 0 {
            steps = self.by_number(BinaryFn::Add, steps, zero as f32, &origin)?;
        }
        // The upper bound is the largest `f32` that fits into an `i32`.
        let within = self.add_clamp(Clamp { lo: -2_147_483_648.0, hi: 2_147_483_520.0 }, steps, origin.clone())?;
        Ok(self.g.add1(Cast { to: Elem::I32 }, &[within], origin)?)
    }

    fn by_number(&mut self, f: BinaryFn, x: ValueId, number: f32, origin: &Origin) -> Result<ValueId, PassError> {
        let number = self.g.add_const(Tensor::scalar(number), origin.clone());
        Ok(self.g.add1(Binary { f }, &[x, number], origin.clone())?)
    }

    /// Clamps `x` to the range of the quantization parameters, where its bounds may exceed it. The clamp replaces `n`.
    fn clamped(
        &mut self,
        x: ValueId,
        qparams: &QuantParams,
        bounds: &mut Bounds,
        n: NodeId,
    ) -> Result<ValueId, PassError> {
        let ends = <[i32; 2]>::from(qparams.storage.range()).map(|q| i64::from(q) - i64::from(qparams.zero_point()));
        let origin = self.g.origin(n).clone();
        if qparams.tensor_map().is_none() {
            // `Clamp` has one range for all channels: per-channel ranges need a `Max` and a `Min` with per-channel
            // constants.
            let Affine::PerAxis { axis, .. } = qparams.map else { return Ok(x) };
            let ty = self.g.ty(x);
            let dims: Vec<usize> = (0..ty.rank()).map(|a| if a == axis { qparams.scales().len() } else { 1 }).collect();
            let mut clamped = x;
            for (q, f) in ends.into_iter().zip([BinaryFn::Max, BinaryFn::Min]) {
                let limits = qparams.scales().iter().map(|s| q as f32 * s).collect();
                let limits = self.g.add_const(Tensor::from_vec(Shape::known(&dims), limits), origin.clone());
                clamped = self.g.add1(Binary { f }, &[clamped, limits], origin.clone())?;
            }
            return Ok(clamped);
        }
        let [lo, hi] = ends.map(|q| q as f32 * qparams.scales()[0]);
        let (least, most) = bounds.of(&self.g, x);
        let clamp = Clamp {
            lo: if least >= lo { f32::NEG_INFINITY } else { lo },
            hi: if most <= hi { f32::INFINITY } else { hi },
        };
        if clamp.lo == f32::NEG_INFINITY && clamp.hi == f32::INFINITY {
            return Ok(x);
        }
        self.add_clamp(clamp, x, origin)
    }

    /// Clamps `x`. If `x` is a clamp itself, both are merged.
    pub(super) fn add_clamp(&mut self, outer: Clamp, x: ValueId, origin: Origin) -> Result<ValueId, PassError> {
        let &Op::Clamp(inner) = &self.g.producer(x) else { return Ok(self.g.add1(outer, &[x], origin)?) };
        let limit = |v: f32| v.max(outer.lo).min(outer.hi);
        let both = Clamp { lo: limit(inner.lo), hi: limit(inner.hi) };
        let (x, origin) = (self.g.operands(x.node)[0], self.g.origin(x.node).and(&origin));
        Ok(self.g.add1(both, &[x], origin)?)
    }
}

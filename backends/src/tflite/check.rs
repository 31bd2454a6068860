//! What runtimes do not forgive, checked on the finished tables: some of it fails when the model is loaded, some runs
//! and gives wrong numbers without a word. Each finding is a fault of qcc's own.

use qcc_formats::tflite::{
    BuiltinOperator as B, Model, Operator, OperatorCode, Options, Quantization, SubGraph, Tensor, TensorType as T,
};
use qcc_ir::diagnostic::Diagnostic;

/// Everything in a model that would fail, or run and be wrong.
pub(super) fn check(model: &Model) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for subgraph in &model.subgraphs {
        for tensor in &subgraph.tensors {
            if let Err(why) = check_tensor(model, tensor) {
                wrong.push(internal(&format!("tensor {:?}", tensor.name), &why));
            }
        }
        for op in &subgraph.operators {
            let Some(code) = model.operator_codes.get(op.opcode_index as usize).map(OperatorCode::operator) else {
                wrong.push(internal("an operator", "its code does not exist"));
                continue;
            };
            let step = Step { op, code, subgraph };
            if let Err(why) = step.check() {
                let name = step.output().map_or("", |t| &t.name);
                wrong.push(internal(&format!("{code} giving {name:?}"), &why));
            }
        }
    }
    wrong
}

fn internal(what: &str, why: &str) -> Diagnostic {
    Diagnostic::error("internal", format!("internal error: tflite {what}: {why}"))
        .with_note("the model is not written, since it would fail or be wrong on the device")
}

type Check = Result<(), String>;

fn ensure(holds: bool, why: impl Into<String>) -> Check {
    if holds { Ok(()) } else { Err(why.into()) }
}

fn check_tensor(model: &Model, tensor: &Tensor) -> Check {
    let buffer = model.buffers.get(tensor.buffer as usize).ok_or("its buffer does not exist")?;
    let elements: i64 = tensor.shape.iter().map(|&n| i64::from(n)).product();
    ensure(tensor.shape.iter().all(|&n| n >= 0), "a negative extent")?;
    let bits = tensor.elem.bits().ok_or("an element without a width")? as i64;
    let wanted = (elements * bits + 7) / 8;
    let constant = tensor.buffer != 0;
    ensure(!constant || buffer.data.len() as i64 == wanted, "its buffer has not the length of its shape")?;
    let Some(q) = &tensor.quantization else { return Ok(()) };
    ensure(q.scale.iter().all(|s| s.is_normal() && *s > 0.0), "a scale that is not positive and normal")?;
    ensure(q.scale.len() == q.zero_point.len(), "scales and zero points differ in number")?;
    let extent = usize::try_from(q.dimension).ok().and_then(|d| tensor.shape.get(d)).copied();
    let along = extent.is_some_and(|n| n as usize == q.scale.len());
    ensure(q.scale.len() == 1 || along, "as many scales as its axis is long are needed")?;
    ensure(constant || (q.scale.len() == 1 && q.dimension == 0), "a computed value with several scales")
}

/// The scales of a tensor on a grid.
fn scales(t: &Tensor) -> impl Iterator<Item = f64> {
    t.quantization.iter().flat_map(|q| q.scale.iter().map(|&s| f64::from(s)))
}

/// True for quantized 8- and 16-bit tensors.
fn on_grid(t: &Tensor) -> bool {
    t.quantization.is_some()
}

fn per_channel(t: &Tensor) -> bool {
    t.quantization.as_ref().is_some_and(|q| q.scale.len() > 1)
}

fn symmetric(t: &Tensor) -> bool {
    t.quantization.as_ref().is_none_or(|q| q.zero_point.iter().all(|&z| z == 0))
}

/// One operator with its tensors.
struct Step<'m> {
    op: &'m Operator,
    code: B,
    subgraph: &'m SubGraph,
}

impl<'m> Step<'m> {
    fn tensor(&self, index: Option<&i32>) -> Option<&'m Tensor> {
        self.subgraph.tensors.get(usize::try_from(*index?).ok()?)
    }

    fn input(&self, i: usize) -> Option<&'m Tensor> {
        self.tensor(self.op.inputs.get(i))
    }

    fn output(&self) -> Option<&'m Tensor> {
        self.tensor(self.op.outputs.first())
    }

    fn tensors(&self) -> impl Iterator<Item = &'m Tensor> {
        let all = self.op.inputs.iter().chain(&self.op.outputs);
        all.filter_map(|i| self.subgraph.tensors.get(usize::try_from(*i).ok()?))
    }

    fn check(&self) -> Check {
        let known = |&i: &i32| i == -1 || usize::try_from(i).is_ok_and(|i| i < self.subgraph.tensors.len());
        ensure(self.op.inputs.iter().chain(&self.op.outputs).all(known), "a tensor that does not exist")?;
        match self.code {
            B::CONV_2D | B::DEPTHWISE_CONV_2D => {
                ensure(self.op.inputs.len() == 3 && self.input(2).is_some(), "no bias")?;
                self.contraction(0, 1, Some(2))
            }
            B::FULLY_CONNECTED => self.contraction(0, 1, Some(2)),
            B::TRANSPOSE_CONV => self.contraction(2, 1, Some(3)),
            B::BATCH_MATMUL => self.batch_matmul(),
            B::ADD | B::SUB => self.sum(),
            B::LOGISTIC | B::SOFTMAX => self.fixed(1.0 / 256.0, -128),
            B::AVERAGE_POOL_2D | B::MAX_POOL_2D | B::CONCATENATION | B::RESHAPE | B::TRANSPOSE | B::SLICE => {
                self.one_grid()
            }
            B::STRIDED_SLICE | B::PAD | B::PADV2 | B::MIRROR_PAD | B::GATHER | B::GATHER_ND | B::TILE => {
                self.one_grid()
            }
            B::BROADCAST_TO | B::RESIZE_BILINEAR | B::RESIZE_NEAREST_NEIGHBOR | B::SPACE_TO_DEPTH => self.one_grid(),
            B::DEPTH_TO_SPACE | B::MAXIMUM | B::MINIMUM | B::REDUCE_MAX | B::REDUCE_MIN => self.one_grid(),
            B::SELECT_V2 | B::TOPK_V2 | B::REVERSE_V2 => self.one_grid(),
            B::POW | B::SIN | B::COS | B::FLOOR | B::CEIL | B::ROUND | B::SIGN | B::CUMSUM | B::NEG => self.real(),
            B::ATAN2 | B::FLOOR_DIV | B::FLOOR_MOD | B::CAST | B::LOG_SOFTMAX | B::REDUCE_PROD => self.real(),
            B::QUANTIZE | B::DEQUANTIZE | B::ARG_MAX | B::ARG_MIN => Ok(()),
            _ => self.all_or_none(),
        }
    }

    /// Kernels that read stored integers as they are.
    fn one_grid(&self) -> Check {
        self.all_or_none()?;
        let same = |a: &Quantization, b: &Quantization| a.scale == b.scale && a.zero_point == b.zero_point;
        let mut grids = self.tensors().filter_map(|t| t.quantization.as_ref());
        let Some(first) = grids.next() else { return Ok(()) };
        ensure(grids.all(|g| same(first, g)), "its tensors must have one scale and zero point")
    }

    /// Kernels that would take stored integers for numbers, or do not take them at all.
    fn real(&self) -> Check {
        ensure(!self.tensors().any(on_grid), "it runs on real numbers only")
    }

    /// Data on grids goes in and comes out, or real numbers do. Indices and booleans do not count.
    fn all_or_none(&self) -> Check {
        let mut data = self.tensors().filter(|t| on_grid(t) || t.elem == T::FLOAT32).map(on_grid);
        let first = data.next();
        ensure(data.all(|g| Some(g) == first), "real numbers and quantized ones are mixed")?;
        ensure(!self.tensors().any(per_channel), "a value with several scales")
    }

    /// Kernels that give one grid whatever is written.
    fn fixed(&self, scale: f32, zero_point: i64) -> Check {
        self.all_or_none()?;
        let Some(q) = self.output().filter(|t| t.elem == T::INT8).and_then(|t| t.quantization.as_ref()) else {
            return Ok(());
        };
        ensure(
            q.scale == [scale] && q.zero_point == [zero_point],
            format!("its result has scale {scale} and zero point {zero_point}"),
        )
    }

    /// Sums of products of an image (or vectors) with a constant weight.
    fn contraction(&self, x: usize, w: usize, bias: Option<usize>) -> Check {
        let (x, w) = (self.input(x).ok_or("no data")?, self.input(w).ok_or("no weight")?);
        let y = self.output().ok_or("no result")?;
        let bias = bias.and_then(|b| self.input(b));
        ensure(w.elem != T::FLOAT16, "a weight in half precision, which is read as garbage")?;
        ensure(symmetric(w), "a weight whose zero point is not 0")?;
        ensure(on_grid(x) == on_grid(y), "real numbers and quantized ones are mixed")?;
        if !on_grid(x) {
            return self.real_contraction(w, bias);
        }
        ensure(x.elem == T::INT8 || x.elem == T::UINT8, "16-bit data needs a 64-bit bias")?;
        ensure(on_grid(w), "quantized data with a real weight")?;
        let fits = bias.is_none_or(|b| b.elem == T::INT32 && on_grid(b));
        ensure(fits, "its bias must be 32-bit with scales of its own")?;
        let one = |t: &Tensor| scales(t).next().unwrap_or(1.0);
        // The accelerated kernels refuse the whole model beyond this.
        ensure(scales(w).all(|s| one(x) * s / one(y) < 256.0), "it is rescaled by 256 or more")
    }

    /// Sums and differences.
    fn sum(&self) -> Check {
        self.all_or_none()?;
        let operands = [0, 1].into_iter().filter_map(|i| self.input(i)).flat_map(scales).fold(0.0, f64::max);
        // The kernels end the process beyond this.
        let fits = self.output().into_iter().flat_map(scales).all(|y| operands / y < f64::from(1 << 19));
        ensure(fits, "an operand is rescaled by 524288 or more")
    }

    /// Real data, with a real weight or one that is quantized.
    fn real_contraction(&self, w: &Tensor, bias: Option<&Tensor>) -> Check {
        ensure(bias.is_none_or(|b| b.elem == T::FLOAT32), "real data with a quantized bias")?;
        let per_tensor = on_grid(w) && !per_channel(w);
        let depthwise = self.code == B::DEPTHWISE_CONV_2D;
        let outputs = w.shape.get(if depthwise { 3 } else { 0 });
        // With one output channel, one scale is one for each channel.
        ensure(!(per_tensor && depthwise && outputs != Some(&1)), "real data with one scale for all filters")?;
        ensure(w.buffer != 0 || !on_grid(w), "real data with a quantized weight that is computed")
    }

    fn batch_matmul(&self) -> Check {
        let (a, b) = (self.input(0).ok_or("no left side")?, self.input(1).ok_or("no right side")?);
        let y = self.output().ok_or("no result")?;
        ensure(on_grid(a) == on_grid(y), "real numbers and quantized ones are mixed")?;
        ensure(!on_grid(a) || on_grid(b), "quantized data with a real right side")?;
        ensure(!per_channel(b), "a right side with several scales")?;
        let hybrid = !on_grid(a) && on_grid(b);
        ensure(!hybrid || b.buffer != 0, "real data with a quantized right side that is computed")?;
        ensure(!matches!(self.op.options, Options::None), "no options")
    }
}

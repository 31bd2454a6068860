//! Conversion of a graph into messages, node by node.

use qcc_formats::onnx::ModelProto;
use qcc_ir::diagnostic::Diagnostic;
use qcc_ir::ops::{Op, Unary, UnaryFn};
use qcc_ir::{Checked, Dim, NodeId, Origin, Shape, Tensor, TensorType, ValueId};
use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use super::OPSETS;
use super::call::Call;
use super::emit::{Emitter, NodeContext, Numbers, Unsupported};
use super::ops;
use crate::WriteOptions;

/// The messages of a graph and, for each but the last ones, the node that it is written for; or all nodes that cannot be
/// written.
pub(super) fn emit(checked: Checked<'_>, options: WriteOptions) -> Result<(ModelProto, Vec<NodeId>), Vec<Diagnostic>> {
    let graph = checked.graph();
    let mut e = Emitter::new(graph, options);
    let (mut refused, mut origins) = (Vec::new(), Vec::new());
    for node in graph.order() {
        if matches!(graph.op(node), Op::Input(_) | Op::Const(_)) {
            continue;
        }
        e.path = graph.origin(node).path().to_owned();
        if let Err(why) = e.node(node) {
            refused.push(why.diagnostic(checked, node));
        }
        origins.resize(e.written(), node);
    }
    e.outputs();
    refused.extend(newer(&e, options.opset));
    if refused.is_empty() { Ok((e.finish(), origins)) } else { Err(refused) }
}

/// Errors for the operators that the operator set that is asked for does not have.
fn newer(e: &Emitter<'_>, asked: Option<i64>) -> Vec<Diagnostic> {
    let Some(asked) = asked else { return Vec::new() };
    if !OPSETS.contains(&asked) {
        let message = format!("operator set {asked} is not written: {} to {} are", OPSETS.start(), OPSETS.end());
        return vec![Diagnostic::error("opset", message)];
    }
    let enough = e.newer.iter().map(|(.., since)| *since).max();
    let error = |(path, operator, since): &(String, &'static str, i64)| {
        let error =
            Diagnostic::error("opset", format!("{operator} is written as operator set {since} has it, not {asked}"));
        let help = enough.map_or_else(String::new, |enough| format!("--opset {enough} has all operators of the model"));
        error.at(&Origin::new(path.as_str(), *operator)).with_help(help)
    };
    e.newer.iter().map(error).collect()
}

impl Emitter<'_> {
    pub(super) fn node(&mut self, node: NodeId) -> Result<(), Unsupported> {
        let graph = self.graph;
        let (op, types, results) = (graph.op(node), graph.operand_types(node), graph.result_types(node));
        let numbers = numbers(self.options, op, &types, &results);
        let held = |t: &TensorType| if numbers == Numbers::Stored { t.clone() } else { t.real() };
        let mut site = NodeContext {
            graph,
            node,
            values: graph.operands(node),
            numbers,
            operands: types.iter().map(|t| held(t)).collect(),
            results: results.iter().map(held).collect(),
            outputs: SmallVec::new(),
        };
        if matches!(op, Op::Dequantize(_)) && self.kept(node.value(0)).is_some() {
            // Constants are written with their consumers.
            return Ok(());
        }
        let apart = !self.options.has_standard_qdq() && ops::feeds_float_contraction(graph, node.value(0));
        if let (Op::Dequantize(_), true) = (op, apart) {
            return self.dequantize_apart(node);
        }
        if let Some(source) = ops::alias(graph, node) {
            self.alias(node.value(0), source);
            return Ok(());
        }
        let mut placed = Vec::new();
        for (v, ty) in graph.results(node).zip(&results) {
            let tensor = match ty.elem.qparams() {
                Some(qparams) if site.numbers == Numbers::Float && !matches!(op, Op::Quantize(_)) => {
                    let real = self.between(&self.wanted(v), &ty.real());
                    placed.push((v, real.clone(), qparams));
                    real
                }
                _ => self.define(v),
            };
            site.outputs.push(tensor);
        }
        ops::emit(self, op, &site)?;
        for (v, real, qparams) in placed {
            let stored = self.define(v);
            self.quantize(&real, &stored, qparams);
        }
        Ok(())
    }

    /// Maps a value to the tensors of another value with the same content.
    fn alias(&mut self, v: ValueId, source: ValueId) {
        if self.graph.ty(v).elem.qparams().is_some() {
            let stored = self.stored(source);
            self.stored.insert(v, stored);
            if let Some(real) = self.reals.get(&source).cloned() {
                self.reals.insert(v, real);
            }
        } else if !self.reals.contains_key(&source) && self.graph.is_output(v) {
            // The dequantized tensor has the name of the output.
            let name = self.define(v);
            let stored = self.stored(source);
            if let Some(qparams) = self.graph.ty(source).elem.qparams() {
                self.dequantize(&stored, &name, qparams);
            }
            self.reals.insert(source, name);
        } else {
            let real = self.real(source);
            self.reals.insert(v, real);
        }
    }

    /// The float operand of a contraction that computes in floating point. ONNX Runtime quantizes weight and bias of
    /// convolutions whose operand is a per-tensor DequantizeLinear (WeightBiasQuantization). A per-channel
    /// DequantizeLinear with equal scales prevents this and has the same result.
    fn dequantize_apart(&mut self, node: NodeId) -> Result<(), Unsupported> {
        let (graph, v) = (self.graph, node.value(0));
        let source = graph.operands(node)[0];
        let (stored, real) = (self.stored(source), self.define(v));
        let ty = graph.ty(source);
        let wide = |(axis, d): (usize, &Dim)| d.known().filter(|&n| n > 1).map(|n| (axis, n));
        let axis = ty.shape.dims().iter().enumerate().skip(1).find_map(wide);
        let qparams = ty.elem.qparams().ok_or("its operand is not quantized")?;
        match (axis, qparams.tensor_map()) {
            (Some((axis, extent)), Some((scale, zero))) => {
                let shape = Shape::known(&[extent]);
                let scales = self.initializer("scale", &Tensor::from_vec(shape.clone(), vec![scale; extent]));
                let storage = TensorType::new(qparams.storage.elem(), shape);
                let zeros = self.initializer("zero_point", &qparams.storage.filled(storage, zero));
                let call = Call::new("DequantizeLinear").since(13).size("axis", axis);
                self.push(call, &[stored, scales, zeros], std::slice::from_ref(&real));
            }
            _ => self.dequantize(&stored, &real, qparams),
        }
        Ok(())
    }

    /// Outputs that are inputs, constants or duplicates of other outputs are copied.
    pub(super) fn outputs(&mut self) {
        let graph = self.graph;
        let mut copied = FxHashSet::default();
        for output in graph.outputs() {
            let is_quantized = graph.ty(output.value).elem.qparams().is_some();
            let tensor = if is_quantized { self.stored(output.value) } else { self.real(output.value) };
            // A tensor may be the output under several names.
            if tensor != output.name && copied.insert(&output.name) {
                self.path = output.name.to_string();
                self.push(Call::new("Identity"), &[tensor], std::slice::from_ref(&output.name));
            }
        }
    }
}

/// Decides the representation of a node with quantized values: a float operator between DequantizeLinear and
/// QuantizeLinear, or an integer operator.
fn numbers(options: WriteOptions, op: &Op, operands: &[&TensorType], results: &[TensorType]) -> Numbers {
    let stored = match op {
        Op::Quantize(_) | Op::Dequantize(_) => false,
        Op::Unary(Unary { f: UnaryFn::HardSigmoid { .. } }) => false,
        Op::Custom(_) => true,
        _ if options.has_standard_qdq() => false,
        // The result has the storage type of the table.
        Op::Gather(_) => operands[0].elem.qparams().is_some(),
        // With equal quantization parameters the limits are integers.
        Op::Clamp(_) => operands[0].elem == results[0].elem && !operands[0].is_wide(),
        // Integer operators take 8 bits.
        _ if operands.iter().copied().chain(results).any(TensorType::is_wide) => false,
        _ => {
            let is_quantized = |t: &TensorType| !t.elem.is_float();
            // Integer matrix products may have float results.
            let qparams = match op {
                Op::MatMul(_) => is_quantized(operands[0]) && is_quantized(operands[1]),
                _ => operands.iter().copied().chain(results).all(is_quantized),
            };
            options.qoperator && qparams
        }
    };
    if stored { Numbers::Stored } else { Numbers::Float }
}

//! Evaluation of each operator by its kernel.

use smallvec::smallvec;

use super::gemm::Packed;
use super::then::Then;
use super::{
    boxes, conv, dynamic, elementwise, index, integer, matmul, movement, norm, pool, recurrent, reduce, resize, roi,
    sample,
};
use crate::error::EvalError;
use crate::ops::*;
use crate::types::{Expr, Shape, Tensor, TensorType};

/// The evaluation of an operator.
pub(crate) trait Evaluate: Operator {
    /// Computes results from operands, both row-major and not quantized ([`QuantRule::SameAsInput`] operators receive
    /// stored integers).
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError>;

    /// Integer arithmetic on quantized operands, as in the target's kernels. `Ok(None)` selects the default:
    /// dequantize, `eval`, quantize.
    fn eval_quantized(&self, _operands: &[&Tensor], _results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        Ok(None)
    }
}

macro_rules! evaluate {
    ($($op:ident)*) => {
        impl Op {
            /// Computes results from operands, both row-major and not quantized ([`QuantRule::SameAsInput`] operators
            /// receive stored integers).
            ///
            /// # Errors
            /// Where there is no result for these operands, or one that is too large.
            pub fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
                match self { $(Op::$op(op) => op.eval(operands)),* }
            }

            /// Integer arithmetic on quantized operands, where the operator has it. `Ok(None)` selects the default:
            /// dequantize, [`Op::eval`], quantize.
            ///
            /// # Errors
            /// As [`Op::eval`].
            pub fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
                match self { $(Op::$op(op) => op.eval_quantized(operands, results)),* }
            }
        }
    };
}
crate::for_each_op!(evaluate);

impl Op {
    /// As [`Op::eval`] for an operator with a result in `F32`, and a function of each element of it. With `packed`, the
    /// second operand of a product is a matrix that is the same each time.
    pub(crate) fn eval_then(
        &self,
        operands: &[&Tensor],
        then: Option<Then>,
        packed: Option<&Packed>,
    ) -> Result<Tensors, EvalError> {
        match self {
            Op::Conv(op) => conv::conv(op, operands, then),
            Op::MatMul(op) => matmul::matmul(op, operands, then, packed),
            op => {
                let value = op.eval(operands)?.swap_remove(0);
                let Some(then) = then else { return Ok(smallvec![value]) };
                let mut elements = value.view::<f32>().into_owned();
                then.apply(&mut elements);
                Ok(smallvec![Tensor::of(value.ty().clone(), elements)])
            }
        }
    }
}

impl Evaluate for Input {
    fn eval(&self, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Err(EvalError::Unknown("a graph input"))
    }
}

impl Evaluate for Custom {
    fn eval(&self, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Err(EvalError::Custom(self.to_string()))
    }
}

impl Evaluate for Loop {
    fn eval(&self, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Err(EvalError::Unknown("the body of a loop"))
    }
}

impl Evaluate for If {
    fn eval(&self, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Err(EvalError::Unknown("a branch"))
    }
}

impl Evaluate for Const {
    fn eval(&self, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![self.value.clone()])
    }
}

impl Evaluate for Symbolic {
    fn eval(&self, _operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        let values: Option<Vec<i64>> = self.values.iter().map(Expr::constant).collect();
        let values = values.ok_or(EvalError::Unknown("an open extent"))?;
        elementwise::cast(&self.elem(), &Tensor::from_vec(Shape::known(&self.shape), values))
    }
}

impl Evaluate for Define {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }
}

impl Evaluate for NonZero {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![index::non_zero(operands[0])])
    }
}

impl Evaluate for NonMaxSuppression {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        super::result(self, operands)?;
        Ok(smallvec![boxes::non_max_suppression(self, operands[0], operands[1])])
    }
}

impl Evaluate for RoiAlign {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        roi::roi_align(self, operands)
    }
}

impl Evaluate for DetectionPostProcess {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        let types: Vec<&TensorType> = operands.iter().map(|operand| operand.ty()).collect();
        self.infer(&types)?;
        Ok(boxes::detection_post_process(self, operands))
    }
}

impl Evaluate for OpenSlice {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        let known = |e: &Expr| e.constant().and_then(|n| usize::try_from(n).ok());
        let (Some(start), Some(len)) = (known(&self.start), known(&self.len)) else {
            return Err(EvalError::Unknown("an open extent"));
        };
        Slice { ranges: vec![Range { axis: self.axis, start, len, step: 1 }] }.eval(operands)
    }
}

impl Evaluate for Unary {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        elementwise::unary(self.f, operands[0])
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        let fixed_point = match self.f {
            UnaryFn::LeakyRelu { alpha } => integer::leaky_relu(alpha, operands[0], &results[0]),
            UnaryFn::HardSwish => integer::hard_swish(operands[0], &results[0]),
            UnaryFn::Sqrt => integer::sqrt(operands[0], &results[0]),
            _ => None,
        };
        if let Some(values) = fixed_point {
            return Ok(Some(values));
        }
        let exact = |x: &Tensor| elementwise::unary_exact(self.f, x);
        integer::table(operands[0], &results[0], exact)
    }
}

impl Evaluate for Binary {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        elementwise::binary(self.f, operands[0], operands[1])
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::binary(self.f, operands, results)
    }
}

impl Evaluate for Clamp {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        elementwise::clamp(self.lo, self.hi, operands[0])
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        if let Some(values) = integer::clamp(self, operands[0], &results[0])? {
            return Ok(Some(values));
        }
        integer::table(operands[0], &results[0], |x| self.eval(&[x]))
    }
}

impl Evaluate for Select {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        elementwise::select(operands[0], operands[1], operands[2])
    }
}

impl Evaluate for Cast {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        elementwise::cast(&self.to, operands[0])
    }
}

impl Evaluate for Conv {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        conv::conv(self, operands, None)
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::conv(self, operands, results)
    }
}

impl Evaluate for ConvTranspose {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        conv::conv_transpose(self, operands)
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::conv_transpose(self, operands, results)
    }
}

impl Evaluate for Pool {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        pool::pool(self, operands[0])
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::pool(self, operands[0], results)
    }
}

impl Evaluate for MatMul {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        matmul::matmul(self, operands, None, None)
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::matmul(self, operands, results)
    }
}

impl Evaluate for Recurrent {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        recurrent::recurrent(self, operands)
    }
}

impl Evaluate for Softmax {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        norm::softmax(self, operands[0])
    }
}

impl Evaluate for LayerNorm {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        norm::layer_norm(self, operands)
    }
}

impl Evaluate for Reduce {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        reduce::reduce(self, operands[0])
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::reduce(self, operands[0], results)
    }
}

impl Evaluate for Gather {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        index::gather(self, operands[0], operands[1])
    }
}

impl Evaluate for GatherElements {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        index::gather_elements(self, operands[0], operands[1])
    }
}

impl Evaluate for GatherNd {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        index::gather_nd(self, operands[0], operands[1])
    }
}

impl Evaluate for ScatterNd {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        index::scatter_nd(self, operands[0], operands[1], operands[2])
    }
}

impl Evaluate for TopK {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        index::top_k(self, operands[0])
    }
}

impl Evaluate for ArgReduce {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        index::arg_reduce(self, operands[0])
    }
}

impl Evaluate for CumSum {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        index::cum_sum(self, operands[0])
    }
}

impl Evaluate for Reshape {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::reshape(self, operands[0])
    }
}

impl Evaluate for Transpose {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::transpose(self, operands[0])
    }
}

impl Evaluate for Concat {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::concat(self, operands)
    }
}

impl Evaluate for Slice {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::slice(self, operands[0])
    }
}

impl Evaluate for Pad {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::pad(self, operands[0])
    }
}

impl Evaluate for Expand {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::expand(self, operands[0])
    }
}

impl Evaluate for Tile {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::tile(self, operands[0])
    }
}

impl Evaluate for Reverse {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::reverse(self, operands[0])
    }
}

impl Evaluate for DepthToSpace {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::depth_to_space(self, operands[0])
    }
}

impl Evaluate for SpaceToDepth {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        movement::space_to_depth(self, operands[0])
    }
}

impl Evaluate for Resize {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        resize::resize(self, operands[0])
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::resize(self, operands[0], results)
    }
}

impl Evaluate for GridSample {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        sample::grid_sample(self, operands[0], operands[1])
    }
}

impl Evaluate for Quantize {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }

    fn eval_quantized(&self, operands: &[&Tensor], results: &[TensorType]) -> Result<Option<Tensors>, EvalError> {
        integer::quantize(operands[0], &results[0])
    }
}

impl Evaluate for Dequantize {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }
}

impl Evaluate for DynamicQuantize {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![dynamic::quantize(self.granularity, operands[0])])
    }
}

impl Evaluate for Relayout {
    fn eval(&self, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
        Ok(smallvec![operands[0].clone()])
    }
}

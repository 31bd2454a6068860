//! Matrix products of `F32` with broadcast batches; those of `F16` are computed in `F32`.

use smallvec::smallvec;

use super::all_widened;
use super::gemm::{Packed, gemm_then};
use super::matrix::{Bias, View};
use super::then::Then;
use crate::error::EvalError;
use crate::ops::{MatMul, Tensors};
use crate::types::{Elem, Shape, Tensor};

/// The products that make up one batched product.
#[derive(Debug)]
pub(crate) struct Batches {
    /// Rows, inner extent and columns of each product.
    pub(crate) extents: [usize; 3],
    /// Index of the matrix of a and of b in each product.
    pub(crate) pairs: Vec<(usize, usize)>,
    /// Shape of the result.
    pub(crate) shape: Shape,
}

impl Batches {
    pub(crate) fn of(op: &MatMul, a: &[usize], b: &[usize]) -> Self {
        let (outer_a, outer_b) = (&a[..a.len() - 2], &b[..b.len() - 2]);
        let n = b[if op.transpose_b { b.len() - 2 } else { b.len() - 1 }];
        let extents = [a[a.len() - 2], a[a.len() - 1], n];
        let rank = outer_a.len().max(outer_b.len());
        let extent = |outer: &[usize], axis: usize| (axis + outer.len()).checked_sub(rank).map_or(1, |i| outer[i]);
        let outer: Vec<usize> = (0..rank)
            .map(|i| match (extent(outer_a, i), extent(outer_b, i)) {
                (1, e) => e,
                (e, _) => e,
            })
            .collect();
        let mut pairs = vec![(0, 0)];
        for (axis, &count) in outer.iter().enumerate() {
            let step = |outer: &[usize], at: usize, i: usize| match extent(outer, axis) {
                1 => at,
                e => at * e + i,
            };
            pairs = pairs
                .iter()
                .flat_map(|&(a, b)| (0..count).map(move |i| (a, b, i)))
                .map(|(a, b, i)| (step(outer_a, a, i), step(outer_b, b, i)))
                .collect();
        }
        let shape = outer.iter().copied().chain([extents[0], n]).collect();
        // Where b is a single matrix, all rows of a are one product.
        if outer_b.iter().all(|&e| e == 1) {
            let rows = pairs.len() * extents[0];
            return Batches { extents: [rows, extents[1], n], pairs: vec![(0, 0)], shape };
        }
        Batches { extents, pairs, shape }
    }

    /// Matrix `i` of the first operand.
    pub(crate) fn left<'a>(&self, a: &'a [f32], i: usize) -> View<'a> {
        let [m, k, _] = self.extents;
        View::new(&a[i * m * k..][..m * k], m, k)
    }

    /// Matrix `i` of the second operand, as `[K, N]`.
    pub(crate) fn right<'b>(&self, op: &MatMul, b: &'b [f32], i: usize) -> View<'b> {
        let [_, k, n] = self.extents;
        let data = &b[i * k * n..][..k * n];
        if op.transpose_b { View::new(data, n, k).transposed() } else { View::new(data, k, n) }
    }
}

/// With `packed`, the second operand is a matrix that is the same each time.
pub(crate) fn matmul(
    op: &MatMul,
    operands: &[&Tensor],
    then: Option<Then>,
    packed: Option<&Packed>,
) -> Result<Tensors, EvalError> {
    if operands[0].ty().elem == Elem::F16 {
        return all_widened(operands, |wide| matmul(op, wide, then, packed));
    }
    let (a, b) = (operands[0].view::<f32>(), operands[1].view::<f32>());
    let batches = Batches::of(op, &operands[0].dims(), &operands[1].dims());
    let [m, _, n] = batches.extents;
    let mut out = vec![0.0f32; batches.pairs.len() * m * n];
    let bias = operands.get(2).map(|t| t.view::<f32>());
    for (out, &(i, j)) in out.chunks_exact_mut((m * n).max(1)).zip(&batches.pairs) {
        let bias = bias.as_ref().map_or(Bias::None, |b| Bias::Cols(b));
        let (left, right) = (batches.left(&a, i), batches.right(op, &b, j));
        match packed {
            Some(packed) => packed.gemm_then(out, left, right, bias, then)?,
            None => gemm_then(out, left, right, bias, then)?,
        }
    }
    Ok(smallvec![Tensor::from_vec(batches.shape, out)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dims: &[usize]) -> Tensor {
        Tensor::from_vec(Shape::known(dims), (0..dims.iter().product()).map(|i: usize| i as f32).collect())
    }

    fn product(transpose_b: bool, operands: &[&Tensor]) -> (Vec<usize>, Vec<f32>) {
        let y = matmul(&MatMul { transpose_b }, operands, None, None).unwrap().remove(0);
        (y.dims(), y.view::<f32>().to_vec())
    }

    #[test]
    fn matrices() {
        let (a, b) = (tensor(&[2, 3]), tensor(&[3, 2]));
        assert_eq!(product(false, &[&a, &b]), (vec![2, 2], vec![10.0, 13.0, 28.0, 40.0]));
        let bias = Tensor::from_vec(Shape::known(&[2]), vec![1.0f32, -1.0]);
        assert_eq!(product(true, &[&a, &tensor(&[2, 3]), &bias]), (vec![2, 2], vec![6.0, 13.0, 15.0, 49.0]));
    }

    #[test]
    fn halves_are_computed_in_single_precision() {
        use crate::kernels::elementwise::cast;
        let half = |t: &Tensor| cast(&Elem::F16, t).unwrap().swap_remove(0);
        let (a, b, op) = (tensor(&[2, 3]), tensor(&[3, 2]), MatMul { transpose_b: false });
        let product = |a: &Tensor, b: &Tensor| matmul(&op, &[a, b], None, None).unwrap().swap_remove(0);
        assert_eq!(product(&half(&a), &half(&b)), half(&product(&a, &b)));
    }

    #[test]
    fn batches_broadcast() {
        // Each of the [2,1] matrices of a is multiplied with each of the [3] matrices of b.
        let (a, b) = (tensor(&[2, 1, 1, 2]), tensor(&[3, 2, 1]));
        let want = vec![1.0, 3.0, 5.0, 3.0, 13.0, 23.0];
        assert_eq!(product(false, &[&a, &b]), (vec![2, 3, 1, 1], want));
        let (a, b) = (tensor(&[2, 2, 2]), tensor(&[1, 2, 1]));
        assert_eq!(product(false, &[&a, &b]), (vec![2, 2, 1], vec![1.0, 3.0, 5.0, 7.0]));
        let (a, b) = (tensor(&[1, 2]), tensor(&[2, 2, 1]));
        assert_eq!(product(false, &[&a, &b]), (vec![2, 1, 1], vec![1.0, 3.0]));
    }
}

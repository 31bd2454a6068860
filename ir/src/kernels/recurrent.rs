//! Recurrent layers in `F32`.

use smallvec::SmallVec;

use super::elementwise::cast;
use super::gemm::gemm;
use super::matrix::{Bias, View};
use super::vector::{map, replace, sigmoid, tanh};
use crate::error::EvalError;
use crate::ops::{Cell, Operator, Recurrent, Tensors};
use crate::types::{Tensor, TensorType};

pub(crate) fn recurrent(op: &Recurrent, operands: &[&Tensor]) -> Result<Tensors, EvalError> {
    let types: SmallVec<[&TensorType; 6]> = operands.iter().map(|t| t.ty()).collect();
    let results = op.infer(&types)?;
    let [x, w, r, b, h] = [0, 1, 2, 3, 4].map(|i| operands[i].floats());
    let dims = operands[0].dims();
    let (steps, batch, inputs) = (dims[0], dims[1], dims[2]);
    let hidden = operands[4].dims()[1];
    let rows = op.cell.gates() * hidden;
    // The products of x for all steps are one matrix product.
    let mut fed = vec![0.0; steps * batch * rows];
    let weight = View::new(&w, rows, inputs).transposed();
    gemm(&mut fed, View::new(&x, steps * batch, inputs), weight, Bias::Cols(&b[..rows]))?;

    let layer = Layer { r: View::new(&r, rows, hidden), after: &b[rows..], batch, hidden, clip: op.clip };
    let (mut h, mut c) = (h.into_owned(), operands.get(5).map_or_else(Vec::new, |c| c.floats().into_owned()));
    let mut y = vec![0.0; steps * batch * hidden];
    for i in 0..steps {
        let t = if op.reverse { steps - 1 - i } else { i };
        let fed = &mut fed[t * batch * rows..][..batch * rows];
        match op.cell {
            Cell::Lstm => layer.lstm(fed, &mut h, &mut c)?,
            Cell::Gru { .. } => layer.gru(fed, &mut h)?,
            Cell::Rnn { relu } => layer.rnn(fed, &mut h, relu)?,
        }
        y[t * batch * hidden..][..batch * hidden].copy_from_slice(&h);
    }
    let reals = results.iter().zip([y, h, c]);
    let tensors =
        reals.map(|(ty, values)| Ok(cast(&ty.elem, &Tensor::from_vec(ty.shape.clone(), values))?.swap_remove(0)));
    tensors.collect()
}

/// What is the same at each step. `fed` are the products of x: for each batch, all gates.
struct Layer<'a> {
    /// Recurrent weight, `[gates * hidden, hidden]`.
    r: View<'a>,
    /// Bias of the candidate after the reset gate, or empty.
    after: &'a [f32],
    batch: usize,
    hidden: usize,
    clip: Option<f32>,
}

impl Layer<'_> {
    /// `h R^T` for `count` gates from gate `first` on.
    fn product(&self, h: &[f32], first: usize, count: usize, bias: Bias<'_>) -> Result<Vec<f32>, EvalError> {
        let mut out = vec![0.0; self.batch * count * self.hidden];
        let rows = first * self.hidden..(first + count) * self.hidden;
        let weight = self.r.block(rows, 0..self.hidden).transposed();
        gemm(&mut out, View::new(h, self.batch, self.hidden), weight, bias)?;
        Ok(out)
    }

    /// Adds `product` to `x`, clips the sums and applies `f`.
    fn activate(&self, f: impl Fn(f32) -> f32, x: &mut [f32], product: &[f32]) {
        self.sum(x, product);
        replace(x, f);
    }

    fn sum(&self, x: &mut [f32], product: &[f32]) {
        x.iter_mut().zip(product).for_each(|(x, p)| *x += p);
        if let Some(clip) = self.clip {
            x.iter_mut().for_each(|x| *x = x.clamp(-clip, clip));
        }
    }

    fn lstm(&self, fed: &mut [f32], h: &mut [f32], c: &mut [f32]) -> Result<(), EvalError> {
        let size = self.hidden;
        let product = self.product(h, 0, 4, Bias::None)?;
        for n in 0..self.batch {
            let (fed, product) = (&mut fed[n * 4 * size..][..4 * size], &product[n * 4 * size..]);
            let (h, c) = (&mut h[n * size..][..size], &mut c[n * size..][..size]);
            let (gates, candidate) = fed.split_at_mut(3 * size);
            self.activate(sigmoid, gates, &product[..3 * size]);
            self.activate(tanh, candidate, &product[3 * size..]);
            let (input, output, forget) = (&gates[..size], &gates[size..2 * size], &gates[2 * size..]);
            for k in 0..size {
                c[k] = forget[k] * c[k] + input[k] * candidate[k];
            }
            let c = map(c, tanh);
            h.iter_mut().zip(output.iter().zip(c)).for_each(|(h, (o, c))| *h = o * c);
        }
        Ok(())
    }

    fn gru(&self, fed: &mut [f32], h: &mut [f32]) -> Result<(), EvalError> {
        let size = self.hidden;
        let reset_after = !self.after.is_empty();
        let gates = self.product(h, 0, 2, Bias::None)?;
        // Operand and result of the candidate's product.
        let mut state = h.to_vec();
        for n in 0..self.batch {
            let fed = &mut fed[n * 3 * size..][..2 * size];
            self.activate(sigmoid, fed, &gates[n * 2 * size..]);
            if !reset_after {
                state[n * size..][..size].iter_mut().zip(&fed[size..]).for_each(|(s, r)| *s *= r);
            }
        }
        let bias = if reset_after { Bias::Cols(self.after) } else { Bias::None };
        let mut product = self.product(&state, 2, 1, bias)?;
        for n in 0..self.batch {
            let (gates, candidate) = fed[n * 3 * size..][..3 * size].split_at_mut(2 * size);
            let (update, reset) = gates.split_at(size);
            let product = &mut product[n * size..][..size];
            if reset_after {
                product.iter_mut().zip(reset).for_each(|(p, r)| *p *= r);
            }
            self.activate(tanh, candidate, product);
            let h = &mut h[n * size..][..size];
            for k in 0..size {
                h[k] = (1.0 - update[k]) * candidate[k] + update[k] * h[k];
            }
        }
        Ok(())
    }

    fn rnn(&self, fed: &mut [f32], h: &mut [f32], relu: bool) -> Result<(), EvalError> {
        let product = self.product(h, 0, 1, Bias::None)?;
        if relu {
            self.sum(fed, &product);
            fed.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.0 } else { *v });
        } else {
            self.activate(tanh, fed, &product);
        }
        h.copy_from_slice(fed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Evaluate;
    use crate::types::Shape;

    fn numbers(dims: &[usize], seed: usize) -> Tensor {
        let number = |i: usize| ((i * (7 + seed) + 3 * seed) % 11) as f32 / 8.0 - 0.625;
        Tensor::from_vec(Shape::known(dims), (0..dims.iter().product()).map(number).collect())
    }

    /// Three steps of a layer with three inputs and two units, in a batch of two, compared with ONNX Runtime.
    fn check(op: &Recurrent, expected: &[&[f32]]) {
        let (rows, states) = (op.cell.gates() * 2, op.cell.states());
        let weights = [numbers(&[rows, 3], 1), numbers(&[rows, 2], 2), numbers(&[op.cell.biases() * 2], 3)];
        let states = [6, 5].map(|seed| numbers(&[2, 2], seed)).into_iter().take(states);
        let operands: Vec<Tensor> = [numbers(&[3, 2, 3], 0)].into_iter().chain(weights).chain(states).collect();
        let results = op.eval(&operands.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(results.len(), expected.len());
        for (found, expected) in results.iter().zip(expected) {
            let same = found.floats().iter().zip(*expected).all(|(f, e)| (f - e).abs() < 2e-6);
            assert!(same && found.len() == expected.len(), "{op:?}: {:?} is not {expected:?}", found.floats());
        }
    }

    #[test]
    fn lstm() {
        let op = Recurrent { cell: Cell::Lstm, reverse: false, clip: None };
        check(
            &op,
            &[
                &[
                    -0.240_067, -0.049_535, -0.068_125, 0.100_572, -0.257_507, 0.016_72, -0.220_109, 0.090_092,
                    -0.040_153, -0.160_651, -0.026_762, -0.099_277,
                ],
                &[-0.040_153, -0.160_651, -0.026_762, -0.099_277],
                &[-0.084_434, -0.322_981, -0.053_829, -0.201_942],
            ],
        );
        let op = Recurrent { cell: Cell::Lstm, reverse: true, clip: Some(0.5) };
        check(
            &op,
            &[
                &[
                    -0.195_217, -0.105_57, -0.184_547, -0.032_429, -0.178_149, -0.077_587, -0.089_615, -0.034_813,
                    -0.056_458, -0.133_323, 0.117_977, -0.067_482,
                ],
                &[-0.195_217, -0.105_57, -0.184_547, -0.032_429],
                &[-0.394_926, -0.222_909, -0.305_656, -0.052_146],
            ],
        );
    }

    #[test]
    fn gru() {
        let op = Recurrent { cell: Cell::Gru { reset_after: true }, reverse: false, clip: None };
        check(
            &op,
            &[
                &[
                    0.318_812, 0.275_064, -0.523_107, -0.480_877, -0.026_573, -0.165_81, -0.477_421, -0.568_887,
                    -0.137_355, -0.231_993, -0.442_958, -0.565_046,
                ],
                &[-0.137_355, -0.231_993, -0.442_958, -0.565_046],
            ],
        );
        let op = Recurrent { cell: Cell::Gru { reset_after: false }, reverse: true, clip: None };
        check(
            &op,
            &[
                &[
                    0.146_009, 0.040_302, -0.397_872, -0.453_475, -0.049_888, -0.079_837, -0.402_291, -0.449_581,
                    0.120_053, 0.253_524, -0.501_074, -0.376_814,
                ],
                &[0.146_009, 0.040_302, -0.397_872, -0.453_475],
            ],
        );
        let op = Recurrent { cell: Cell::Gru { reset_after: false }, reverse: false, clip: Some(0.3) };
        check(
            &op,
            &[
                &[
                    0.267_581, 0.373_13, -0.465_971, -0.339_386, 0.031_297, -0.003_842, -0.376_287, -0.318_928,
                    -0.089_937, -0.091_502, -0.315_564, -0.307_176,
                ],
                &[-0.089_937, -0.091_502, -0.315_564, -0.307_176],
            ],
        );
    }

    #[test]
    fn rnn() {
        let op = Recurrent { cell: Cell::Rnn { relu: false }, reverse: false, clip: None };
        check(
            &op,
            &[
                &[
                    0.358_357, -0.274_062, 0.093_476, 0.509_83, 0.260_414, 0.099_078, 0.195_41, -0.311_718, 0.690_176,
                    0.604_238, 0.741_596, 0.739_634,
                ],
                &[0.690_176, 0.604_238, 0.741_596, 0.739_634],
            ],
        );
        let op = Recurrent { cell: Cell::Rnn { relu: true }, reverse: true, clip: None };
        check(
            &op,
            &[
                &[
                    0.435_059, 0.038_574, 0.149_414, 0.020_508, 0.230_469, 0.0, 0.195_312, 0.0, 0.796_875, 0.453_125,
                    0.859_375, 1.296_875,
                ],
                &[0.435_059, 0.038_574, 0.149_414, 0.020_508],
            ],
        );
    }

    #[test]
    fn halves_and_no_steps() {
        let op = Recurrent { cell: Cell::Rnn { relu: false }, reverse: false, clip: None };
        let half = |dims: &[usize]| cast(&crate::types::Elem::F16, &numbers(dims, 1)).unwrap().remove(0);
        for steps in [0, 2] {
            let operands = [half(&[steps, 1, 3]), half(&[2, 3]), half(&[2, 2]), half(&[2]), half(&[1, 2])];
            let results = op.eval(&operands.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(results[0].ty().to_string(), format!("f16[{steps},1,2]"));
            let last = if steps == 0 { operands[4].data().clone() } else { results[0].data().slice(4..) };
            assert_eq!(results[1].data(), &last);
        }
    }
}

//! Quantized weights of recurrent layers.

use std::ops::ControlFlow;

use qcc_ir::eval::Executor;
use qcc_ir::ops::{Cell, Op, Recurrent};
use qcc_ir::target::{Kernel, Target, Weights as KernelWeights};
use qcc_ir::testing::numbers;
use qcc_ir::{Graph, Origin, Shape, Tensor, TensorType, ValueId};

use super::{Activations, Options, quantize};
use crate::SharedGraph;
use crate::calibrate::{CalibrationTable, Method, calibrate};
use crate::quality::Distance;
use crate::testing::BARE;

/// A target whose recurrent layers take quantized weights.
fn target() -> Target {
    let kernel = |op: &Op, x: &[&TensorType]| match op {
        Op::Recurrent(_) => {
            Some(Kernel::FLOAT.weights(KernelWeights { axis: Some(0), dequantized: true, ..KernelWeights::ONE_SCALE }))
        }
        _ => (BARE.kernel)(op, x),
    };
    Target { kernel, ..BARE.clone() }
}

/// A layer with input `[steps,1,inputs]`.
fn layer(cell: Cell, steps: usize, inputs: usize, units: usize) -> Graph {
    let mut g = Graph::new("layer");
    let x = g.add_input("x", TensorType::f32(&[steps, 1, inputs]));
    let (rows, state) = (units * cell.gates(), [1, units]);
    let (w, r, bias) = ([rows, inputs], [rows, units], [units * cell.biases()]);
    let states = std::iter::repeat_n(&state[..], cell.states());
    let parameters = [&w[..], &r, &bias].into_iter().chain(states);
    // Small weights, so that states do not depend on the first ones for long.
    let small = |(seed, dims): (u64, &[usize])| {
        let x: Vec<f32> = numbers(Shape::known(dims), seed).floats().iter().map(|x| x / 4.0).collect();
        g.add_const(Tensor::from_vec(Shape::known(dims), x), Origin::none())
    };
    let parameters: Vec<ValueId> = (1..).zip(parameters).map(small).collect();
    let operands: Vec<ValueId> = [x].into_iter().chain(parameters).collect();
    let y = g.add1(Recurrent { cell, reverse: false, clip: None }, &operands, Origin::none()).unwrap();
    g.add_output("y", y);
    g
}

/// The input weight of few inputs is not quantized.
#[test]
fn input_weights_of_few_inputs_stay_float() {
    let quantized_weights = |inputs: usize| {
        let options = Options { activations: Activations::Float, ..Options::default() };
        let g = layer(Cell::Lstm, 2, inputs, 64);
        let g = quantize(&g, &target(), &CalibrationTable::default(), &options).unwrap().graph;
        let weights = g.order().into_iter().filter(|&n| matches!(g.op(n), Op::Dequantize(_)));
        weights.map(|n| g.ty(n.value(0)).shape.to_string()).collect::<Vec<String>>()
    };
    assert_eq!(quantized_weights(17), ["[256,17]", "[256,64]"]);
    assert_eq!(quantized_weights(16), ["[256,64]"]);
}

const STEPS: usize = 60;
const INPUTS: usize = 24;

/// A sequence of inputs, each of which is nearly a multiple of one number that changes slowly.
fn sample(i: usize) -> Vec<Tensor> {
    let value = |k: usize| {
        let (step, channel) = ((k / INPUTS) as f32, (k % INPUTS) as f32);
        libm::sinf(step * (0.1 + i as f32 / 50.0)) * (1.0 + channel / 24.0) + libm::cosf(channel * step) / 50.0
    };
    vec![Tensor::from_vec(Shape::known(&[STEPS, 1, INPUTS]), (0..STEPS * INPUTS).map(value).collect())]
}

/// Weights that compensate each other's rounding errors for the inputs and the states lose less on other samples.
#[test]
fn weights_compensate_rounding_errors() {
    for cell in [Cell::Lstm, Cell::Gru { reset_after: true }] {
        let g = layer(cell, STEPS, INPUTS, 64);
        let joint = SharedGraph::alone(&g);
        let mut go_on = |_| ControlFlow::Continue(());
        let tables = calibrate(&joint, &[&g], Method::MinMax, 4, |i| Some(sample(i)), &mut go_on).unwrap();
        assert!(tables[0].has_factors());
        let run = |g: &Graph| Executor::new(g).run(&sample(9), &mut |_, _| ()).unwrap()[0].floats().to_vec();
        let sqnr = |compensate: bool| {
            let options = Options { activations: Activations::Float, compensate, ..Options::default() };
            let q = quantize(&g, &target(), &tables[0], &options).unwrap();
            Distance::of(&run(&g), &run(&q.graph)).sqnr()
        };
        let [nearest, compensated] = [false, true].map(sqnr);
        assert!(compensated > nearest + 1.0, "{cell:?}: {compensated:.1} dB instead of {nearest:.1} dB");
    }
}

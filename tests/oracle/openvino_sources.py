"""OpenVINO IR with operations that qcc reads and does not write, and with networks in layers, compiled for every target.

Argument: a folder. The program is $QCC. The artefacts are compared with the model in the runtimes. Prints a line for each
artefact; fails where a result differs."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, openvino
from openvino import opset1, opset13 as ops, opset16

from runtimes import TARGETS, LiteRt, OpenVino, Ort

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
INDICES = np.array([[1, -1, 5], [0, 6, -5]], np.int64)
VALUES = np.array([2.5, -1], np.float32)


def one_hot(axis, **mode):
    indices = opset1.parameter(INDICES.shape, np.int64, name="x")
    operation = opset16.one_hot if mode else opset1.one_hot
    hot = operation(indices, np.int64(5), VALUES[0], VALUES[1], axis, **mode)
    indices.output(0).set_names({"x"})
    hot.output(0).set_names({"y"})
    return openvino.Model([hot], [indices], "m"), [{"x": INDICES}]


def named(node, name):
    node.output(0).set_names({name})
    return node


def parameter(name, shape, element=np.float32):
    return named(ops.parameter(shape, element, name=name), name)


def model(results, inputs):
    return openvino.Model([named(r, f"y{i}") for i, r in enumerate(results)], inputs, "m")


def samples(*shapes):
    """Random samples of inputs of these shapes, by name."""
    random = np.random.default_rng(3)
    return [{name: random.standard_normal(shape).astype(np.float32) for name, shape in sample.items()} for sample in shapes]


def iterated(extent, part, ends, sizes):
    """A loop over slices of axis 1 that sums them, with the sums of all iterations along that axis."""
    start, end = ends
    x, s = parameter("x", [2, extent, 3]), parameter("s", [2, 1, 3])
    piece, sum_in = parameter("piece", [2, part, 3]), parameter("sum", [2, 1, 3])
    of_piece = ops.reduce_sum(piece, np.array([1], np.int64), keep_dims=True)
    sum_out = ops.add(sum_in, of_piece)
    row = ops.add(piece, sum_out)
    results = [ops.result(sum_out), ops.result(row)]
    loop = ops.tensor_iterator()
    loop.set_body(openvino.Model(results, [piece, sum_in], "body"))
    stride = part if start == 0 else -part
    loop.set_sliced_input(piece, x.output(0), start, stride, part, end, 1)
    loop.set_merged_input(sum_in, s.output(0), results[0].output(0))
    last = loop.get_iter_value(results[0].output(0), -1)
    rows = loop.get_concatenated_slices(results[1].output(0), start, stride, part, end, 1)
    return model([ops.relu(last), ops.relu(rows)], [x, s]), samples(*({"x": (2, size, 3), "s": (2, 1, 3)} for size in sizes))


def cells(kind):
    """A loop whose body is one step of a recurrent layer."""
    random = np.random.default_rng(4)
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    w, r, b = (random.standard_normal(shape).astype(np.float32) for shape in ((gates * 3, 2), (gates * 3, 3), (gates * 3,)))
    x, h = parameter("x", [1, -1, 2]), parameter("h", [1, 3])
    piece, h_in, c_in = parameter("piece", [1, 1, 2]), parameter("h_in", [1, 3]), parameter("c_in", [1, 3])
    step = ops.squeeze(piece, np.array([1], np.int64))
    inside, states = [piece, h_in], [h_in]
    if kind == "lstm":
        cell = ops.lstm_cell(step, h_in, c_in, w, r, b, 3)
        inside, states = [piece, h_in, c_in], [h_in, c_in]
    else:
        gru = lambda *operands: ops.gru_cell(*operands, 3)
        cell = (gru if kind == "gru" else lambda *operands: ops.rnn_cell(*operands, 3, ["tanh"], [], []))(step, h_in, w, r, b)
    results = [ops.result(cell.output(i)) for i in range(len(states))]
    row = ops.result(ops.unsqueeze(cell.output(0), np.array([1], np.int64)))
    loop = ops.tensor_iterator()
    loop.set_body(openvino.Model([*results, row], inside, "body"))
    loop.set_sliced_input(piece, x.output(0), 0, 1, 1, -1, 1)
    for state, result in zip(states, results):
        loop.set_merged_input(state, h.output(0), result.output(0))
    rows = loop.get_concatenated_slices(row.output(0), 0, 1, 1, -1, 1)
    last = loop.get_iter_value(results[-1].output(0), -1)
    return model([ops.abs(rows), ops.abs(last)], [x, h]), samples(*({"x": (1, size, 2), "h": (1, 3)} for size in (1, 3, 6)))


def loop(most, first):
    """Doubles x while its sum is below 50, at most so many times; with the number of each iteration and x before it."""
    x = parameter("x", [2])
    x_in, number = parameter("x_in", [2]), parameter("i", [], np.int64)
    x_out = ops.add(x_in, x_in)
    row = ops.unsqueeze(ops.add(x_in, ops.convert(number, "f32")), np.array([0], np.int64))
    again = ops.less(ops.reduce_sum(x_out, np.array([0], np.int64)), np.float32(50))
    results = [ops.result(again), ops.result(x_out), ops.result(row)]
    trips = parameter("most", [], np.int32) if most is None else ops.constant(most, np.int64)
    runs = parameter("first", [], bool) if first is None else ops.constant(first, bool)
    layer = ops.loop(trips, runs)
    layer.set_function(openvino.Model(results, [number, x_in], "body"))
    layer.set_special_body_ports([0, 0])
    layer.set_merged_input(x_in, x.output(0), results[1].output(0))
    last = layer.get_iter_value(results[1].output(0), -1)
    rows = layer.get_concatenated_slices(results[2].output(0), 0, 1, 1, -1, 0)
    inputs = [x] + ([trips] if most is None else []) + ([runs] if first is None else [])
    given = [{"x": np.array(values, np.float32)} for values in ([1, 2], [30, 30], [0.5, 0.25])]
    for sample, trip in zip(given, (3, 5, 2)):
        sample |= ({"most": np.array(trip, np.int32)} if most is None else {}) | ({"first": np.array(True)} if first is None else {})
    return model([ops.abs(last), ops.relu(rows)], inputs), given


def branches(shapes):
    """A choice of two graphs, whose results have the same shape or not."""
    c, x = parameter("c", [1], bool), parameter("x", [-1, 3])
    then, otherwise = parameter("then", [-1, 3]), parameter("else", [-1, 3])
    yes = ops.result(ops.relu(then))
    no = ops.exp(otherwise)
    no = ops.result(no if shapes == "same" else ops.reduce_max(no, np.array([0], np.int64), keep_dims=True))
    layer = ops.if_op(c)
    layer.set_then_body(openvino.Model([yes], [then], "then"))
    layer.set_else_body(openvino.Model([no], [otherwise], "else"))
    layer.set_input(x.output(0), then, otherwise)
    given = samples({"x": (1, 3)}, {"x": (4, 3)}, {"x": (2, 3)})
    for i, sample in enumerate(given):
        sample["c"] = np.array([i == 1])
    return model([ops.abs(layer.set_output(yes, no))], [c, x]), given


def moved(scale, zero):
    """Integers of a FakeQuantize that are moved before they are dequantized, by its parameters or others."""
    x = parameter("x", [2, 3])
    low, high = np.float32(-1.28 * 2), np.float32(1.27 * 2)
    integers = ops.fake_quantize(x, low, high, np.float32(-128), np.float32(127), 256)
    integers = ops.reshape(ops.convert(integers, "i8"), np.array([3, 2], np.int64), False)
    real = ops.subtract(ops.convert(integers, "f32"), np.float32(zero))
    return model([ops.relu(ops.multiply(real, np.float32(scale)))], [x]), samples({"x": (2, 3)})


MODELS = {
    "one_hot": one_hot(-1),
    "one_hot_first": one_hot(0),
    "one_hot_from_end": one_hot(1, negative_indices_mode="normalize"),
    "one_hot_without_negative": one_hot(1, negative_indices_mode="ignore_negative"),
    "iterated": iterated(-1, 1, (0, -1), (1, 4, 6)),
    "iterated_backward": iterated(-1, 1, (-1, 0), (1, 4, 6)),
    "iterated_static": iterated(4, 1, (0, -1), (4,)),
    "iterated_by_two": iterated(6, 2, (-1, 0), (6,)),
    **{f"cells_{kind}": cells(kind) for kind in ("lstm", "gru", "rnn")},
    "loop": loop(None, None),
    "loop_without_limit": loop(-1, True),
    "loop_limited": loop(3, True),
    "branches_same": branches("same"),
    "branches_other": branches("other"),
    "moved": moved(0.02, 0),
    "moved_otherwise": moved(0.03, 4),
}
# Where runtimes compute the same steps in another order.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def alike(wanted, found):
    same = (w.shape == f.shape and np.allclose(w, f, **CLOSE) for w, f in zip(wanted, found, strict=True))
    return all(same)


def main():
    folder, failed = Path(sys.argv[1]), []
    for name, (model, given) in MODELS.items():
        source = folder / f"{name}.xml"
        openvino.save_model(model, source, compress_to_fp16=False)
        for target, suffix in TARGETS.items():
            artefact = folder / f"{name}_made{suffix}"
            subprocess.run([os.environ["QCC"], source, "--to", target, "-q", "-o", artefact], check=True)
            equal = all(alike(OpenVino(source).run(sample), RUNTIMES[target](artefact).run(sample)) for sample in given)
            print(f"{name} for {target}: {'equal' if equal else 'different'}")
            failed += [] if equal else [f"{name} for {target}"]
    assert not failed, failed


if __name__ == "__main__":
    main()

"""Models with open extents, compiled once and run at several sizes.

Argument: a folder, and names of models, else all. The program is $QCC. Each model is compiled for every target in
floating point in both precisions and to 8-bit integers, on samples of all sizes but the last; the artefacts are
compared with the model in the runtimes at all of them. Prints a line for each artefact. Fails where a runtime refuses a
size, a floating-point artefact has less than 80 dB (16 bits: 40 dB), or an 8-bit one less than 20 dB."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes import TARGETS, LiteRt, OpenVino, Ort, sqnr

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
MODELS = {}
CALIBRATED = 256
LEAST = {"f32": 80, "f16": 40, "int8": 20}


class Builder:
    """The nodes and constants of a model, added one by one."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants, self.count = [], [], 0
        self.opset = 17

    def op(self, kind, *inputs, outputs=1, **attributes):
        names = [f"v{self.count}_{i}" for i in range(outputs)]
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"n{self.count}", **attributes))
        self.count += 1
        return names[0] if outputs == 1 else names

    def constant(self, value):
        value = np.asarray(value)
        value = value.astype(np.int64) if value.dtype.kind == "i" else value.astype(np.float32)
        self.constants.append(numpy_helper.from_array(value, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def weight(self, *shape):
        return self.random.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1))

    def extent(self, x, axis):
        return self.op("Gather", self.op("Shape", x), axis, axis=0)

    def shape(self, *extents):
        return self.op("Concat", *(self.op("Unsqueeze", e, [0]) if isinstance(e, str) else [e] for e in extents), axis=0)

    def graph(self, make, **inputs):
        """A nested graph: what `make` adds and returns. It reads the names around it."""
        outer, self.nodes = self.nodes, []
        outputs = make(*inputs)
        outputs = [self.op("Identity", name) for name in ([outputs] if isinstance(outputs, str) else outputs)]
        nodes, self.nodes = self.nodes, outer
        element = {"i": TensorProto.INT64, "f": TensorProto.FLOAT, "b": TensorProto.BOOL}
        inputs = [helper.make_tensor_value_info(n, element[e], shape) for n, (e, shape) in inputs.items()]
        return helper.make_graph(nodes, "nested", inputs, [helper.make_empty_tensor_value_info(n) for n in outputs])

    def model(self, inputs, output):
        element = {"i": TensorProto.INT64, "f": TensorProto.FLOAT}
        inputs = [helper.make_tensor_value_info(n, element[e], shape) for n, (e, shape) in inputs.items()]
        output = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "open", inputs, [output], self.constants)
        imports = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def model(inputs, sizes, never=()):
    """A model with these inputs (element and shape), and the sizes that it runs at: the last is not calibrated on. At
    the sizes of `never` it does not run."""

    def add(make):
        MODELS[make.__name__] = (make, inputs, sizes, never)
        return make

    return add


@model({"ids": ("i", ["b", "s"])}, [{"b": 1, "s": 31}, {"b": 2, "s": 5}, {"b": 3, "s": 12}])
def text(m):
    """Embeddings of tokens and positions, attention whose heads are split by shape arithmetic, the first token."""
    b, s = m.extent("ids", 0), m.extent("ids", 1)
    x = m.op("Add", m.op("Gather", m.weight(40, 16), "ids"), m.op("Gather", m.weight(64, 16), m.op("Range", 0, s, 1)))
    heads = m.shape(b, s, 4, 4)
    q, k, v = (m.op("Transpose", m.op("Reshape", m.op("MatMul", x, m.weight(16, 16)), heads), perm=p)
               for p in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    a = m.op("MatMul", m.op("Softmax", m.op("MatMul", q, k), axis=-1), v)
    y = m.op("Reshape", m.op("Transpose", a, perm=[0, 2, 1, 3]), m.shape(b, s, 16))
    return m.op("MatMul", m.op("Gather", m.op("Add", x, y), np.array(0), axis=1), m.weight(16, 5))


@model({"x": ("f", ["n", 3, "h", "w"])},
       [{"n": 1, "h": 32, "w": 32}, {"n": 2, "h": 48, "w": 20}, {"n": 1, "h": 37, "w": 65}])
def picture(m):
    """Strided convolutions, an upsampling to the size of an earlier feature map, a pooling over the image."""
    conv = lambda x, o, i, k, **a: m.op("Conv", x, m.weight(o, i, k, k), m.weight(o), **a)
    a = m.op("Relu", conv("x", 8, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2]))
    b = m.op("Relu", conv(a, 12, 8, 3, pads=[1, 1, 1, 1], strides=[2, 2]))
    size = m.op("Concat", m.op("Slice", m.op("Shape", b), [0], [2]), m.op("Slice", m.op("Shape", a), [2], [4]), axis=0)
    up = m.op("Resize", b, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")
    y = m.op("MaxPool", conv(m.op("Concat", a, up, axis=1), 16, 20, 1), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return m.op("Gemm", m.op("Flatten", m.op("GlobalAveragePool", y)), m.weight(16, 7), m.weight(7))


@model({"x": ("f", ["b", "n", 8])}, [{"b": 1, "n": 8}, {"b": 3, "n": 20}, {"b": 2, "n": 64}])
def chunks(m):
    """Attention within blocks of an axis, whose extent must be a multiple of theirs."""
    blocks = m.op("Reshape", "x", [0, -1, 4, 8])
    scores = m.op("MatMul", m.op("MatMul", blocks, m.weight(8, 8)), m.op("Transpose", blocks, perm=[0, 1, 3, 2]))
    y = m.op("Reshape", m.op("MatMul", m.op("Softmax", scores, axis=-1), blocks), [0, -1, 8])
    return m.op("MatMul", m.op("Add", "x", y), m.weight(8, 5))


@model({"x": ("f", ["b", "n"])}, [{"b": 1, "n": 400}, {"b": 3, "n": 300}, {"b": 2, "n": 1001}])
def spectrum(m):
    """Spectra of sliding windows, of the whole signal and of one that is padded or cut to a known length."""
    n = m.extent("x", 1)
    pads = m.op("Concat", [0, 0, 0], m.op("Unsqueeze", m.op("Sub", 640, n), [0]), axis=0)
    window = np.hanning(64)

    def power(x):
        parts = m.op("STFT", x, 32, window, 64)
        return m.op("MatMul", m.op("ReduceSumSquare", parts, axes=[-1], keepdims=0), np.abs(m.weight(33, 8)))

    whole = power(m.op("Sub", "x", m.op("Mul", m.op("Pad", "x", [0, 1, 0, -1], mode="edge"), 0.9)))
    cut = power(m.op("Pad", "x", pads))
    return m.op("Log", m.op("Add", m.op("Concat", whole, cut, axis=1), 0.1))


@model({"x": ("f", ["b", "n"])}, [{"b": 1, "n": 24}, {"b": 3, "n": 17}, {"b": 2, "n": 41}])
def frequencies(m):
    """Spectra of the whole signal, and the inverse to a longer one."""
    x = m.op("Unsqueeze", "x", [2])
    half, whole = m.op("DFT", x, axis=1, onesided=1), m.op("DFT", x, axis=1)
    longer = m.op("DFT", m.op("Mul", whole, [1.0, -0.5]), m.op("Add", m.extent("x", 1), 3), axis=1, inverse=1)
    power = m.op("ReduceSumSquare", half, axes=[-1], keepdims=0)
    return m.op("Concat", m.op("Sqrt", power), m.op("ReduceSum", longer, [-1], keepdims=0), axis=1)


@model({"x": ("f", ["b", "n"])}, [{"b": 1, "n": 40}, {"b": 3, "n": 25}, {"b": 2, "n": 101}])
def scattered(m):
    """Elements at computed places replaced by others."""
    rows = m.op("Unsqueeze", m.op("Range", 0, m.extent("x", 0), 1), [1])
    places = m.op("Add", m.op("Mul", rows, 3), np.array([[1, -9]]))
    y = m.op("ScatterElements", "x", places, m.op("GatherElements", "x", m.op("Add", places, 7), axis=1), axis=1)
    return m.op("Mul", y, 2.0)


@model({"x": ("f", [1, "n"])}, [{"n": 400}, {"n": 96}, {"n": 1001}])
def sound(m):
    """Samples padded to whole frames, which are filtered; the last frame and the mean of all."""
    n = m.extent("x", 1)
    whole = m.op("Mul", m.op("Div", m.op("Add", n, 15), 16), 16)
    pads = m.op("Concat", [0, 0, 0], m.op("Unsqueeze", m.op("Sub", whole, n), [0]), axis=0)
    frames = m.op("Reshape", m.op("Pad", "x", pads), [1, -1, 16])
    y = m.op("Relu", m.op("Conv", m.op("Transpose", frames, perm=[0, 2, 1]), m.weight(12, 16, 3), pads=[1, 1]))
    last = m.op("Slice", y, [-1], [2**31 - 1], [2])
    return m.op("Concat", last, m.op("ReduceMean", y, axes=[2]), axis=1)


@model({"x": ("f", ["t", "n", 6])}, [{"t": 9, "n": 1}, {"t": 4, "n": 3}, {"t": 20, "n": 2}, {"t": 16, "n": 1}])
def recurrent(m):
    """Layers over any number of steps in both directions, and their last states."""
    y, h, c = m.op("LSTM", "x", m.weight(2, 32, 6), m.weight(2, 32, 8), m.weight(2, 64), hidden_size=8, outputs=3,
                   direction="bidirectional")
    t, n = m.extent("x", 0), m.extent("x", 1)
    y = m.op("Reshape", m.op("Transpose", y, perm=[0, 2, 1, 3]), m.shape(t, n, 16))
    z, last = m.op("GRU", y, m.weight(2, 24, 16), m.weight(2, 24, 8), m.weight(2, 48), hidden_size=8, outputs=2,
                   direction="bidirectional", linear_before_reset=1)
    z = m.op("Add", m.op("ReduceMean", z, axes=[1]), m.op("Add", m.op("Add", h, m.op("Tanh", c)), last))
    return m.op("MatMul", z, m.weight(8, 3))


@model({"x": ("f", ["t", "i"])}, [{"t": 9, "i": 6}, {"t": 700, "i": 6}, {"t": 2, "i": 6}])
def peepholes(m):
    """Layers that are no plain LSTM over any number of steps, whose weights alone say how many inputs there are."""
    x, parts = m.op("Unsqueeze", "x", [1]), []
    for direction in "forward", "reverse":
        y, h, c = m.op("LSTM", x, m.weight(1, 32, 6), m.weight(1, 32, 8), m.weight(1, 64), "", m.weight(1, 1, 8), m.weight(1, 1, 8),
                       m.weight(1, 24), hidden_size=8, outputs=3, direction=direction)
        parts.append(m.op("Add", m.op("Squeeze", y), m.op("Add", m.op("Squeeze", h, [0]), m.op("Squeeze", c, [0]))))
    return m.op("MatMul", m.op("Concat", *parts, axis=1), m.weight(16, 3))


@model({"x": ("f", ["b", 3, 16, 16])}, [{"b": 1}, {"b": 2}, {"b": 5}, {"b": 40}])
def tokens(m):
    """Patches of pictures of any batch after a class token for each, windows of them that join the batch, the first."""
    b = m.extent("x", 0)
    x = m.op("Conv", "x", m.weight(16, 3, 4, 4), m.weight(16), strides=[4, 4])
    x = m.op("Transpose", m.op("Reshape", x, m.shape(b, 16, 16)), perm=[0, 2, 1])
    windows = m.op("Reshape", x, m.shape(m.op("Mul", b, 4), 4, 16))
    a = m.op("Softmax", m.op("MatMul", windows, m.op("Transpose", windows, perm=[0, 2, 1])), axis=-1)
    x = m.op("Add", x, m.op("Reshape", m.op("MatMul", a, windows), m.shape(b, 16, 16)))
    x = m.op("Concat", m.op("Expand", m.weight(1, 1, 16), m.shape(b, 1, 16)), x, axis=1)
    x = m.op("Add", x, m.op("ReduceMean", x, axes=[1]))
    return m.op("Gemm", m.op("Gather", m.op("Relu", x), np.array(0), axis=1), m.weight(16, 5), m.weight(5))


@model({"x": ("f", ["n", 16]), "y": ("f", ["m", 16])}, [{"n": 3, "m": 9}, {"n": 8, "m": 2}, {"n": 5, "m": 5}, {"n": 1, "m": 7}])
def pair(m):
    """Attention of one sequence to another, without a batch: two leading extents that differ, and positions of both."""
    n, k = m.extent("x", 0), m.extent("y", 0)
    x = m.op("Add", m.op("MatMul", "x", m.weight(16, 16)), m.op("Gather", m.weight(64, 16), m.op("Range", 0, n, 1)))
    y = m.op("Add", m.op("MatMul", "y", m.weight(16, 16)), m.op("Gather", m.weight(64, 16), m.op("Range", 0, k, 1)))
    a = m.op("Softmax", m.op("MatMul", x, m.op("Transpose", y, perm=[1, 0])), axis=-1)
    heads = m.op("Reshape", m.op("MatMul", a, y), m.shape(n, 4, 4))
    return m.op("MatMul", m.op("ReduceMean", heads, axes=[1], keepdims=0), m.weight(4, 3))


@model({"x": ("f", ["b", 21, 6])}, [{"b": 1}, {"b": 2}, {"b": 5}])
def layers(m):
    """Recurrent layers over a known number of steps, more and fewer than TFLite unrolls, and their last states."""
    x = m.op("Transpose", "x", perm=[1, 0, 2])
    y, h, c = m.op("LSTM", x, m.weight(2, 32, 6), m.weight(2, 32, 8), m.weight(2, 64), hidden_size=8, outputs=3,
                   direction="bidirectional")
    y = m.op("Reshape", m.op("Transpose", y, perm=[0, 2, 1, 3]), m.op("Concat", [21, -1, 16], axis=0))
    z, last = m.op("GRU", y, m.weight(1, 24, 16), m.weight(1, 24, 8), m.weight(1, 48), hidden_size=8, outputs=2,
                   linear_before_reset=1)
    few = m.op("Slice", m.op("Squeeze", z, [1]), [16], [21], [0])
    few = m.op("GRU", few, m.weight(1, 24, 8), m.weight(1, 24, 8), m.weight(1, 48), hidden_size=8, outputs=2)[1]
    return m.op("MatMul", m.op("Concat", h, c, last, few, axis=0), m.weight(8, 3))


@model({"x": ("f", ["n", 3, "h", "w"])}, [{"n": 1, "h": 30, "w": 41}, {"n": 2, "h": 17, "w": 24}, {"n": 1, "h": 23, "w": 23}])
def aligned(m):
    """Windows whose padding follows from their strides, and a sum over named axes."""
    conv = lambda x, o, i, k, **a: m.op("Relu", m.op("Conv", x, m.weight(o, i, k, k), m.weight(o), **a))
    x = conv("x", 8, 3, 3, auto_pad="SAME_UPPER", strides=[2, 2])
    x = m.op("Concat", m.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
             conv(x, 8, 8, 5, auto_pad="SAME_LOWER", strides=[2, 2]), axis=1)
    x = m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    x = m.op("Einsum", x, m.weight(6, 16), equation="nchw,oc->nwoh")
    return m.op("ReduceMean", x, axes=[1, 3])


@model({"x": ("f", ["b", "t", 6])}, [{"t": 9, "b": 1}, {"t": 4, "b": 1}, {"t": 20, "b": 1}])
def lengths(m):
    """Sequences that end before the last step, in both directions, from states of a batch of one."""
    t = m.extent("x", 1)
    ends = m.op("Cast", m.op("Unsqueeze", m.op("Sub", t, 2), [0]), to=TensorProto.INT32)
    x = m.op("Transpose", "x", perm=[1, 0, 2])
    y, h = m.op("GRU", x, m.weight(2, 24, 6), m.weight(2, 24, 8), m.weight(2, 48), ends, m.weight(2, 1, 8),
                hidden_size=8, outputs=2, direction="bidirectional")
    return m.op("Add", m.op("ReduceMean", y, axes=[0, 1]), m.op("ReduceMean", h, axes=[0]))


@model({"x": ("f", ["b", 2, 6, 10, 10])}, [{"b": 1}, {"b": 2}, {"b": 5}])
def volumes(m):
    """Images with a depth, pooling and resizing of those of a batch."""
    x = m.op("Relu", m.op("Conv", "x", m.weight(8, 2, 3, 3, 3), m.weight(8), pads=[0, 1, 1, 0, 1, 1]))
    x = m.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = m.op("Reshape", x, [0, 16, 5, 5])
    x = m.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=0)
    return m.op("Resize", x, "", m.constant(np.array([1, 1, 1.6, 1.6])), mode="cubic")


@model({"x": ("f", ["b", "n", 9])}, [{"b": 1, "n": 12}, {"b": 2, "n": 8}, {"b": 5, "n": 3}])
def peaks(m):
    """The values around the largest of each row, by indices that follow from the data."""
    y = m.op("MatMul", "x", m.weight(9, 12))
    around = m.op("Add", m.op("ArgMax", y, axis=-1, keepdims=1), np.array([-1, 0, 1]))
    around = m.op("Clip", around, np.array(0), np.array(11))
    return m.op("Softmax", m.op("GatherElements", y, around, axis=-1), axis=-1)


@model({"x": ("f", ["b", "n", 9])}, [{"b": 1, "n": 12}, {"b": 2, "n": 7}, {"b": 3, "n": 4}, {"b": 1, "n": 5}])
def strides(m):
    """Parts of an axis by steps in both directions, with ends inside and beyond the axis."""
    y = m.op("Relu", m.op("MatMul", "x", m.weight(9, 8)))
    part = lambda start, end, step: m.op("Slice", y, [start], [end], [1], [step])
    far = 2**63 - 1
    parts = [part(0, far, 2), part(1, far, 2), part(-1, -far, -1), part(-2, 0, -3), part(1, 6, 4), part(9, -99, -2)]
    return m.op("Concat", *parts, axis=1)


@model({"x": ("f", ["b", 6, "n"])}, [{"b": 1, "n": 11}, {"b": 2, "n": 8}, {"b": 5, "n": 5}], never=[{"b": 1, "n": 40}])
def removed(m):
    """An axis that is removed where its extent is 1, as exporters write it. Layers behind it take no other extent."""
    y = m.op("Relu", m.op("Conv", "x", m.weight(8, 6, 4), m.weight(8), strides=[8]))
    branch = lambda name, node: helper.make_graph([node], name, [], [helper.make_empty_tensor_value_info(node.output[0])])
    squeezed = branch("squeezed", helper.make_node("Squeeze", [y, m.constant([2])], ["squeezed"], name="squeeze"))
    same = branch("same", helper.make_node("Identity", [y], ["same"], name="identity"))
    y = m.op("If", m.op("Equal", m.extent(y, 2), 1), then_branch=squeezed, else_branch=same)
    return m.op("Gemm", y, m.weight(8, 5), m.weight(5))


@model({"x": ("f", ["n", 8])}, [{"n": 1}, {"n": 5}, {"n": 3}])
def branches(m):
    """Branches with results of unlike extents, one of which has branches inside."""
    weight = m.constant(m.weight(8, 8))

    def few():
        return m.op("Concat", m.op("Relu", "x"), m.op("MatMul", "x", weight), axis=1)

    def many():
        y = m.op("MatMul", "x", weight)
        least = m.op("Less", m.extent(y, 0), 4)
        return m.op("If", least, then_branch=m.graph(lambda: m.op("Concat", y, "x", axis=0)),
                    else_branch=m.graph(lambda: m.op("Tanh", y)))

    y = m.op("If", m.op("Less", m.extent("x", 0), 2), then_branch=m.graph(few), else_branch=m.graph(many))
    return m.op("Mul", y, 2.0)


@model({"s": ("f", ["b", 6]), "x": ("f", ["t", "b", 6])}, [{"b": 1, "t": 4}, {"b": 3, "t": 1}, {"b": 2, "t": 9}])
def scans(m):
    """Recurrence over an open length, in both directions."""
    def step(state, row):
        new = m.op("Tanh", m.op("Add", m.op("MatMul", state, m.weight(6, 6)), row))
        return new, m.op("Mul", new, row)

    def scan(x, name, length_first=True, **attributes):
        body = m.graph(step, **{f"{name}_state": ("f", ["b", 6]), f"{name}_row": ("f", ["b", 6])})
        return m.op("Scan", "s", x, outputs=2, num_scan_inputs=1, body=body, **attributes)

    last, rows = scan("x", "forward")
    _, back = scan("x", "back", scan_input_directions=[1], scan_output_directions=[1])
    _, turned = scan(m.op("Transpose", "x", perm=[1, 0, 2]), "turned", scan_input_axes=[1], scan_output_axes=[1])
    y = m.op("Add", m.op("Add", rows, back), m.op("Transpose", turned, perm=[1, 0, 2]))
    return m.op("Add", y, last)


@model({"x": ("f", ["n", "m"])}, [{"n": 3, "m": 4}, {"n": 1, "m": 2}, {"n": 7, "m": 5}])
def turns(m):
    """A loop over the rows of a matrix, whose body reads one by its number, and the number of rows."""
    def turn(i, running, state):
        row = m.op("Gather", "x", i, axis=0)
        share = m.op("Div", row, m.op("Cast", m.extent("x", 0), to=TensorProto.FLOAT))
        new = m.op("Add", state, share)
        return m.op("Identity", running), new, m.op("Mul", new, row)

    body = m.graph(turn, i=("i", []), running=("b", []), state=("f", ["m"]))
    first = m.op("ReduceMean", "x", axes=[0], keepdims=0)
    last, rows = m.op("Loop", m.extent("x", 0), "", first, outputs=2, body=body)
    return m.op("Add", rows, last)


@model({"x": ("f", ["b", 6, 5])}, [{"b": 1}, {"b": 4}, {"b": 7}])
def rows(m):
    """Sums of rows, to which constants are applied."""
    sums = m.op("ReduceSum", m.op("Relu", m.op("MatMul", "x", m.weight(5, 8))), [2], keepdims=0)
    return m.op("Relu", m.op("Sub", m.weight(6, 1).reshape(6), m.op("Mul", sums, -0.5)))


@model({"x": ("f", ["b", 8, 12, 6])}, [{"b": 1}, {"b": 4}, {"b": 3}])
def dilated(m):
    """Convolutions of every second pixel, for which pixels become images of the batch: by blocks of an image whose channels are
    the batch, and by reshapes of lines."""
    blocks = m.op("SpaceToDepth", m.op("Transpose", "x", perm=[3, 0, 1, 2]), blocksize=2)
    images = m.op("Transpose", blocks, perm=[1, 0, 2, 3])
    y = m.op("Relu", m.op("Conv", images, m.weight(5, 6, 3, 3), pads=[1, 1, 1, 1]))
    y = m.op("DepthToSpace", m.op("Transpose", y, perm=[1, 0, 2, 3]), blocksize=2)
    lines = m.op("Reshape", m.op("Transpose", y, perm=[1, 2, 3, 0]), [-1, 8, 6, 2, 5])
    lines = m.op("Reshape", m.op("Transpose", lines, perm=[3, 0, 1, 2, 4]), [-1, 8, 6, 5])
    y = m.op("Conv", m.op("Transpose", lines, perm=[0, 3, 1, 2]), m.weight(4, 5, 8, 3), pads=[0, 1, 0, 1])
    apart = m.op("Reshape", m.op("Transpose", y, perm=[0, 2, 3, 1]), [2, -1, 6, 4])
    return m.op("Reshape", m.op("Transpose", apart, perm=[1, 2, 0, 3]), [-1, 12, 4])


@model({"images": ("f", ["n", "channels", "h", "w"])},
       [{"n": 1, "channels": 3, "h": 12, "w": 18}, {"n": 2, "channels": 3, "h": 9, "w": 7}, {"n": 3, "channels": 3, "h": 6, "w": 10}],
       never=[{"n": 1, "channels": 4, "h": 12, "w": 18}])
def channels(m):
    """A convolution says how many channels the images have; padding to whole windows follows from quotients of floats."""
    y = m.op("Relu", m.op("Conv", "images", m.weight(8, 3, 3, 3), pads=[1, 1, 1, 1]))
    whole = lambda axis: m.op("Cast", m.op("Mul", m.op("Ceil", m.op("Div", m.op("Cast", m.extent(y, axis), to=1), 4.0)), 4.0), to=7)
    below = lambda axis: m.op("Mod", m.op("Sub", 4, m.op("Mod", m.extent(y, axis), 4)), 4)
    y = m.op("Pad", y, m.shape(0, 0, 0, 0, 0, 0, below(2), below(3)), mode="constant")
    h, w = whole(2), whole(3)
    y = m.op("Reshape", y, m.shape(m.extent(y, 0), 8, m.op("Div", h, 4), 4, m.op("Div", w, 4), 4))
    y = m.op("Transpose", y, perm=[0, 2, 4, 3, 5, 1])
    return m.op("MatMul", m.op("Reshape", y, [-1, 16, 8]), m.weight(8, 5))


@model({"waves": ("f", ["n", "t"]), "mask": ("i", ["n", "t"])},
       [{"n": 1, "t": 40}, {"n": 2, "t": 33}, {"n": 3, "t": 57}])
def frames(m):
    """Frames of a wave, of which only as many count as a sum of the mask divided with truncation says; the last one counts
    twice."""
    y = m.op("Conv", m.op("Unsqueeze", "waves", [1]), m.weight(6, 1, 5), strides=[3])
    y = m.op("Transpose", m.op("Relu", y), perm=[0, 2, 1])
    ones = m.op("Cast", m.op("Greater", m.op("Cast", "mask", to=1), 9.0), to=7)
    count = m.op("Div", m.op("Sub", m.op("ReduceSum", ones, [1], keepdims=0), 1), 3)
    lengths = m.op("Add", m.op("Div", m.op("Sub", count, 1), 2), 1)
    places = m.op("Unsqueeze", m.op("Range", 0, m.extent(y, 1), 1), [0])
    kept = m.op("Cast", m.op("Less", places, m.op("Unsqueeze", lengths, [1])), to=1)
    taken = m.op("Slice", m.op("Slice", kept, [0], [2**40], [1], [2]), [0], m.op("Unsqueeze", m.extent(y, 1), [0]), [1])
    y = m.op("Mul", y, m.op("Unsqueeze", kept, [2]))
    y = m.op("Add", y, m.op("ReduceSum", m.op("Unsqueeze", taken, [2]), [1], keepdims=1))
    return m.op("Add", y, m.op("Unsqueeze", m.op("Gather", y, -1, axis=1), [1]))


@model({"ids": ("i", ["n", "s"]), "past": ("f", ["n", "p", 8])},
       [{"n": 1, "s": 6, "p": 3}, {"n": 2, "s": 4, "p": 9}, {"n": 3, "s": 7, "p": 5}])
def decoder(m):
    """Positions after cached ones, read twice behind reshapes: by a table and by the mask of later places."""
    s, p = m.extent("ids", 1), m.extent("past", 1)
    places = m.op("Add", m.op("Range", 0, s, 1), p)
    rows = m.op("Add", m.op("Unsqueeze", places, [0]), 2)
    x = m.op("Add", m.op("Gather", m.weight(40, 8), "ids"), m.op("Gather", m.weight(64, 8), rows))
    keys = m.op("Concat", "past", x, axis=1)
    later = m.op("Greater", m.op("Range", 0, m.op("Add", s, p), 1), m.op("Reshape", places, [-1, 1]))
    scores = m.op("MatMul", x, m.op("Transpose", keys, perm=[0, 2, 1]))
    scores = m.op("Add", scores, m.op("Mul", m.op("Cast", later, to=1), -1000.0))
    return m.op("MatMul", m.op("Softmax", scores, axis=-1), keys)


@model({"tokens": ("f", ["n", "s", 6])}, [{"n": 1, "s": 16}, {"n": 2, "s": 9}, {"n": 3, "s": 25}])
def square(m):
    """Tokens as an image whose sides are a root of their number, which only the run gives."""
    side = m.op("Cast", m.op("Pow", m.op("Cast", m.extent("tokens", 1), to=1), 0.5), to=7)
    y = m.op("Reshape", "tokens", m.shape(m.extent("tokens", 0), side, side, m.extent("tokens", 2)))
    y = m.op("Conv", m.op("Transpose", y, perm=[0, 3, 1, 2]), m.weight(7, 6, 3, 3), pads=[1, 1, 1, 1])
    return m.op("Relu", y)


@model({"ids": ("i", ["n", "s"]), "seen": ("i", ["n", "s"])}, [{"n": 1, "s": 9}, {"n": 2, "s": 14}, {"n": 3, "s": 5}])
def fused(m):
    """Layers that ONNX Runtime's optimizer merges: embeddings, attention to as many tokens as a mask counts, sums that are
    normalized."""
    ids, seen = (m.op("Cast", v, to=6) for v in ("ids", "seen"))
    seen = m.op("Cast", m.op("Less", seen, m.op("Cast", 30, to=6)), to=6)
    tables = [m.weight(n, 16) for n in (40, 32, 2)]
    norm = [m.weight(16) + 1, m.weight(16)]
    kinds = m.op("Mul", ids, m.op("Cast", 0, to=6))
    x, count, _ = m.op("EmbedLayerNormalization", ids, kinds, *tables, *norm, seen, outputs=3, domain="com.microsoft")
    y = m.op("Attention", x, m.weight(16, 48), m.weight(48), count, num_heads=2, domain="com.microsoft")
    y = m.op("SkipLayerNormalization", x, y, *norm, m.weight(16), domain="com.microsoft")
    z = m.op("Attention", y, m.weight(16, 48), m.weight(48), num_heads=2, unidirectional=1, domain="com.microsoft")
    return m.op("SkipSimplifiedLayerNormalization", z, y, norm[0], domain="com.microsoft")


@model({"q": ("f", ["n", "s", 16]), "past": ("f", ["n", 2, "p", 8])},
       [{"n": 1, "s": 6, "p": 3}, {"n": 2, "s": 4, "p": 9}, {"n": 3, "s": 1, "p": 12}])
def attends(m):
    """The operator Attention, causal behind cached keys, and with a window."""
    m.opset = 23
    k = m.op("MatMul", "q", m.weight(16, 16))
    y = m.op("Attention", "q", k, k, "", "past", "past", outputs=3, is_causal=1, q_num_heads=2, kv_num_heads=2)[0]
    return m.op("Attention", y, k, "q", is_causal=1, q_num_heads=2, kv_num_heads=2, softcap=5.0)


@model({"scores": ("f", ["n", "c"])}, [{"n": 3, "c": 9}, {"n": 2, "c": 4}, {"n": 5, "c": 14}])
def ranked(m):
    """The largest elements of an axis of any extent, at most six, and those of all that are positive."""
    k = m.op("Min", m.extent("scores", 1), 6)
    best, _ = m.op("TopK", "scores", m.op("Unsqueeze", k, [0]), outputs=2, axis=1)
    flat = m.op("Reshape", "scores", [-1])
    found = m.op("Reshape", m.op("NonZero", m.op("Cast", m.op("Greater", flat, -10.0), to=7)), [-1])
    few = m.op("Unsqueeze", m.op("Min", m.extent(found, 0), 7), [0])
    most, _ = m.op("TopK", m.op("Gather", flat, found), few, outputs=2)
    return m.op("Add", best, m.op("ReduceSum", most, [0], keepdims=1))


@model({"image": ("f", ["n", 3, "h", "w"]), "boxes": ("f", ["r", 4])},
       [{"n": 1, "h": 20, "w": 24, "r": 5}, {"n": 2, "h": 33, "w": 17, "r": 9}, {"n": 3, "h": 16, "w": 50, "r": 4}])
def pooled(m):
    """Pooled samples of boxes of all images, which are padded to multiples of 8; the pads follow from extents through
    floating point, are listed from the last axis on and put in order."""
    zero = np.zeros(1, np.int64)
    sides = [m.op("Cast", m.op("Concat", m.op("Unsqueeze", m.extent("image", a), [0]), axis=0), to=1) for a in (2, 3)]
    whole = [m.op("Mul", m.op("Ceil", m.op("Div", m.op("ReduceMax", s, keepdims=0), 8.0)), 8.0) for s in sides]
    pads = [m.op("Sub", m.op("Cast", w, to=7), m.extent("image", a)) for w, a in zip(whole, (2, 3))]
    pads = m.op("Concat", zero, m.op("Unsqueeze", pads[1], [0]), zero, m.op("Unsqueeze", pads[0], [0]), np.zeros(4, np.int64), axis=0)
    pads = m.op("Slice", m.op("Reshape", pads, [-1, 2]), [-1], [-(2**40)], [0], [-1])
    x = m.op("Pad", "image", m.op("Reshape", m.op("Transpose", pads, perm=[1, 0]), [-1]))
    x = m.op("Conv", x, m.weight(8, 3, 3, 3), pads=[1] * 4)
    low, size = (m.op("Slice", "boxes", [a], [a + 2], [1]) for a in (0, 2))
    low = m.op("Add", m.op("Mul", low, 6.0), 12.0)
    corners = m.op("Concat", low, m.op("Add", low, m.op("Mul", m.op("Abs", size), 8.0)), axis=1)
    images = m.op("Mod", m.op("Range", 0, m.extent("boxes", 0), 1), m.extent("image", 0))
    bins = dict(output_height=3, output_width=2)
    mean = m.op("RoiAlign", x, corners, images, sampling_ratio=2, spatial_scale=0.9, **bins)
    most = m.op("RoiAlign", x, corners, images, mode="max", sampling_ratio=1,
                coordinate_transformation_mode="output_half_pixel", **bins)
    return m.op("Add", m.op("Mul", mean, most), mean)


@model({"x": ("f", ["n", 3, "h", "w"])}, [{"n": 1, "h": 9, "w": 14}, {"n": 2, "h": 12, "w": 7}, {"n": 1, "h": 5, "w": 5}])
def resampled(m):
    """Features at half their extents, rounded down, and at three quarters, resized to each other."""
    y = m.op("Relu", m.op("Conv", "x", m.weight(4, 3, 3, 3), pads=[1] * 4))
    shape = m.op("Concat", m.op("Slice", m.op("Shape", y), [0], [2]),
                 m.op("Div", m.op("Slice", m.op("Shape", y), [2], [4]), 2), axis=0)
    whole = m.op("Shape", y)
    small = m.op("Resize", y, "", "", shape, mode="cubic", coordinate_transformation_mode="align_corners")
    near = m.op("Resize", m.op("Conv", small, m.weight(4, 4, 1, 1)), "", "", whole, nearest_mode="floor",
                coordinate_transformation_mode="asymmetric")
    back = m.op("Resize", small, "", "", whole, mode="cubic", coordinate_transformation_mode="pytorch_half_pixel")
    return m.op("Add", m.op("Conv", m.op("Add", near, back), m.weight(5, 4, 3, 3)), 0.5)


@model({"x": ("f", ["n", 3, "h", "w"])}, [{"n": 1, "h": 9, "w": 14}, {"n": 2, "h": 12, "w": 7}, {"n": 1, "h": 10, "w": 9}])
def whole_windows(m):
    """A picture that reflection pads to whole windows, with a part that is empty at all sizes, and every second row."""
    y = m.op("Relu", m.op("Conv", "x", m.weight(4, 3, 3, 3), pads=[1] * 4))
    over = m.op("Mod", m.op("Slice", m.op("Shape", y), [2], [4]), 4)
    missing = m.op("Mod", m.op("Sub", 4, over), 4)
    y = m.op("Pad", y, m.op("Concat", [0] * 6, missing, axis=0), mode="reflect")
    y = m.op("Concat", y, m.op("Slice", y, [-4], [0], [3]), axis=3)
    small = m.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    near = m.op("Resize", small, "", "", m.op("Shape", y), mode="nearest", coordinate_transformation_mode="align_corners")
    parts = [m.op("Slice", y, [0, start], [2**40, end], [2, 3], [2, 1]) for start, end in ((0, 1), (2, 4))]
    mean = m.op("GlobalAveragePool", m.op("Concat", *parts, axis=3))
    return m.op("Add", m.op("Conv", m.op("Concat", y, near, axis=1), m.weight(5, 8, 3, 3)), m.op("Conv", mean, m.weight(5, 4, 1, 1)))


@model({"x": ("f", ["n", "s", 16]), "keys": ("f", ["n", 2, "p", 16]), "values": ("f", ["n", 2, "p", 16])},
       [{"n": 1, "s": 6, "p": 3}, {"n": 2, "s": 1, "p": 9}, {"n": 1, "s": 7, "p": 12}])
def grouped(m):
    """A decoder's attention in a window, with rotated queries and keys and past ones before them."""
    total = m.op("Add", m.extent("x", 1), m.extent("keys", 2))
    lengths = m.op("Expand", m.op("Sub", total, 1), m.op("Unsqueeze", m.extent("x", 0), [0]))
    angles = np.arange(64)[:, None] / 4.0 ** np.arange(8)
    lengths, total = (m.op("Cast", v, to=TensorProto.INT32) for v in (lengths, total))
    y, keys, values = m.op(
        "GroupQueryAttention", m.op("MatMul", "x", m.weight(16, 128)), "", "", "keys", "values", lengths, total, np.cos(angles),
        np.sin(angles), outputs=3, domain="com.microsoft", num_heads=4, kv_num_heads=2, do_rotary=1, local_window_size=5)
    kept = m.op("ReduceSum", m.op("Mul", keys, values), [1, 2, 3], keepdims=0)
    return m.op("Add", m.op("MatMul", y, m.weight(64, 6)), m.op("Reshape", kept, [-1, 1, 1]))


@model({"x": ("f", ["n", "s", 6])}, [{"n": 2, "s": 5}, {"n": 3, "s": 8}, {"n": 1, "s": 11}])
def appended(m):
    """Rows that an iteration for each batch element appends to none: their number of steps follows from the iteration."""
    none = m.op("ConstantOfShape", m.shape(0, m.extent("x", 1), 4))
    weight = m.constant(m.weight(6, 4))

    def turn(i, running, rows):
        own = m.op("Gather", "x", i, axis=0)
        cut = m.op("Unsqueeze", m.op("Mod", i, m.extent("x", 1)), [0])
        parts = m.op("Slice", own, cut, [2**40], [0]), m.op("Slice", own, [0], cut, [0])
        row = m.op("MatMul", m.op("Concat", *parts, axis=0), weight)
        return running, m.op("Concat", rows, m.op("Unsqueeze", row, [0]), axis=0)

    body = m.graph(turn, i=("i", []), running=("b", []), rows=("f", [None, None, 4]))
    return m.op("Relu", m.op("Loop", m.extent("x", 0), "", none, body=body))


def sample(inputs, size, random):
    """A value for each input at a size."""
    def value(element, shape):
        shape = [size.get(d, d) for d in shape]
        return random.integers(0, 40, shape) if element == "i" else random.standard_normal(shape).astype(np.float32)

    return {name: value(*declared) for name, declared in inputs.items()}


def compared(want, found):
    found = found.transpose(0, 3, 1, 2) if want.ndim == 4 and want.shape != found.shape else found
    if want.shape != found.shape:
        raise ValueError(f"a result of {found.shape} where {want.shape} is expected")
    return sqnr(want, found)


def runs(runtime, sample):
    """Whether a runtime runs a sample."""
    try:
        runtime.run(sample)
        return True
    except Exception:
        return False


def main():
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(MODELS)
    failed = []
    for name in names:
        make, inputs, sizes, never = MODELS[name]
        builder = Builder(len(name))
        source = folder / f"{name}.onnx"
        onnx.save(builder.model(inputs, make(builder)), source)
        random = np.random.default_rng(1)
        data = folder / name
        data.mkdir(exist_ok=True)
        for i in range(CALIBRATED):
            np.savez(data / f"{i:03}.npz", **sample(inputs, sizes[i % (len(sizes) - 1)], random))
        samples = [sample(inputs, size, random) for size in sizes]
        truth = Ort(source)
        options_of = {"f32": [], "f16": ["--fp16"], "int8": ["--int8", "--data", str(data)]}
        for precision, options in options_of.items():
            for target in RUNTIMES:
                artefact = folder / f"{name}_{precision}{TARGETS[target]}"
                command = [os.environ["QCC"], str(source), "--to", target, "-q", "-o", str(artefact), *options]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    failed.append(f"{name} {precision} {target}: {done.stderr}")
                    continue
                try:
                    runtime = RUNTIMES[target](artefact)
                    found = [compared(truth.run(s)[0], runtime.run(s)[0]) for s in samples]
                    failed += [f"{name} {precision} {target} runs at {size}" for size in never
                               if runs(RUNTIMES[target](artefact), sample(inputs, size, random))]
                except Exception as e:
                    failed.append(f"{name} {precision} {target}: {e}")
                    continue
                print(f"{name:10} {precision:4} {target:8}", " ".join(f"{db:6.1f}" for db in found), flush=True)
                if min(found) < LEAST[precision]:
                    failed.append(f"{name} {precision} {target}: {found}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()

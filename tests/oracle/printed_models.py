"""Small models for printed.py: what they compute is of no use, but their layers are those of models that are in use."""
import numpy as np, onnx
from onnx import helper, numpy_helper

SAMPLES = 32


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


class Net:
    """A graph as it grows: each operator gives the name of its result."""

    def __init__(self, shape):
        self.shape, self.nodes, self.constants, self.outputs = shape, [], [], {}

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind, *inputs, results=1, **attributes):
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        found = [f"v{len(self.nodes)}_{i}" for i in range(results)]
        self.nodes.append(helper.make_node(kind, names, found, **attributes))
        return found[0]

    def dense(self, x, ins, outs, seed):
        return self.op("Add", self.op("MatMul", x, numbers(seed, ins, outs) / ins**0.5), numbers(seed + 1, outs) / 4)

    def conv(self, x, ins, outs, seed, size=3, group=1, **attributes):
        weight = numbers(seed, outs, ins // group, size, size) / (ins // group * size * size) ** 0.5
        attributes.setdefault("pads", [size // 2] * 4)
        return self.op("Conv", x, weight, numbers(seed + 1, outs) / 4, group=group, **attributes)

    def save(self, path, *outputs):
        """Gives the results their names and writes the model."""
        named = [helper.make_node("Identity", [v], [f"out{i}"]) for i, v in enumerate(outputs)]
        kind = lambda v: onnx.TensorProto.INT64 if any(v in n.output for n in self.nodes if n.op_type == "ArgMax") else 1
        info = [helper.make_tensor_value_info(n.output[0], kind(n.input[0]), None) for n in named]
        x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, self.shape)
        graph = helper.make_graph(self.nodes + named, path.stem, [x], info, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)


def sine():
    """A layer of fixed random weights, and one that makes of it the sine of x."""
    net = Net([1, 1])
    weight, bias = numbers(1, 1, 24), numbers(2, 24) * 2
    hidden = lambda x: np.tanh(x @ weight + bias)
    x = np.linspace(-3, 3, 200, dtype=np.float32)[:, None]
    last = np.linalg.lstsq(hidden(x), np.sin(x), rcond=1e-4)[0].astype(np.float32)
    return net, [net.op("MatMul", net.op("Tanh", net.op("Add", net.op("MatMul", "x", weight), bias)), last)]


def perceptron(seed):
    """Two to four layers of random widths."""
    random = np.random.default_rng(seed)
    widths = random.integers(3, 40, random.integers(3, 6))
    net = Net([1, int(widths[0])])
    x = "x"
    for i, (ins, outs) in enumerate(zip(widths, widths[1:])):
        x = net.dense(x, int(ins), int(outs), 10 * seed + 2 * i)
        if i + 2 < len(widths):
            x = net.op(random.choice(["Relu", "Tanh", "Sigmoid", "Gelu", "LeakyRelu"]), x)
    return net, [x]


def classifier():
    """Depthwise layers, squeeze and excitation, attention over channels, ten classes."""
    net = Net([1, 3, 24, 24])
    x = net.op("HardSwish", net.conv("x", 3, 16, 1, strides=[2, 2]))
    x = net.op("Clip", net.conv(x, 16, 16, 3, group=16), np.float32(0), np.float32(6))
    gate = net.op("Relu", net.conv(net.op("GlobalAveragePool", x), 16, 4, 5, size=1))
    x = net.op("Mul", x, net.op("HardSigmoid", net.conv(gate, 4, 16, 7, size=1)))
    axis = net.constant(np.array([1], np.int64))
    both = net.op("Concat", net.op("ReduceMax", x, axis), net.op("ReduceMean", x, axis), axis=1)
    x = net.op("Mul", x, net.op("Sigmoid", net.conv(both, 2, 1, 9, size=7)))
    x = net.op("Flatten", net.op("GlobalMaxPool", net.conv(x, 16, 24, 11)))
    return net, [net.op("Softmax", net.dense(x, 24, 10, 13))]


def pyramid():
    """Shortcuts, pooling, widening and joining, a map of four classes, and constant places."""
    net = Net([1, 3, 16, 16])
    fine = net.op("Relu", net.conv("x", 3, 12, 1))
    coarse = net.op("Relu", net.conv(net.op("MaxPool", fine, kernel_shape=[2, 2], strides=[2, 2]), 12, 24, 3))
    coarse = net.op("Relu", net.op("Add", coarse, net.conv(coarse, 24, 24, 5)))
    places = net.constant(numbers(11, 64, 4))
    size = np.array([1, 1, 2, 2], np.float32)
    wide = net.op("Resize", coarse, "", size, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    x = net.op("Concat", fine, wide, axis=1)
    return net, [net.conv(net.op("LeakyRelu", net.conv(x, 36, 12, 7)), 12, 4, 9, size=1), places]


def labels():
    """The class of each place."""
    net = Net([1, 3, 16, 16])
    return net, [net.op("ArgMax", net.conv(net.op("Relu", net.conv("x", 3, 12, 1)), 12, 6, 3), axis=1, keepdims=0)]


def transformer():
    """Attention and a feed-forward layer between normalized values."""
    net, width = Net([1, 12, 32]), 32
    ones = lambda: net.op("LayerNormalization", x, np.ones(width, np.float32), np.zeros(width, np.float32), axis=-1)
    x = "x"
    for layer in range(2):
        normal, seed = ones(), 100 * layer + 1
        heads = np.array([1, 12, 4, 8], np.int64)
        q, k, v = [net.op("Reshape", net.dense(normal, width, width, seed + 2 * i), heads) for i in range(3)]
        scores = net.op("MatMul", net.op("Transpose", q, perm=[0, 2, 1, 3]), net.op("Transpose", k, perm=[0, 2, 3, 1]))
        weights = net.op("Softmax", net.op("Div", scores, np.float32(8**0.5)), axis=-1)
        mixed = net.op("Transpose", net.op("MatMul", weights, net.op("Transpose", v, perm=[0, 2, 1, 3])), perm=[0, 2, 1, 3])
        x = net.op("Add", x, net.dense(net.op("Reshape", mixed, np.array([1, 12, width], np.int64)), width, width, seed + 8))
        x = net.op("Add", x, net.dense(net.op("Gelu", net.dense(ones(), width, 64, seed + 10)), 64, width, seed + 12))
    return net, [ones()]


def outliers():
    """Normalized values with a few channels that are far larger than the others, for products and for a sum."""
    net, width = Net([1, 12, 32]), 32
    scale = np.ones(width, np.float32)
    scale[[3, 17]] = 40
    x = "x"
    for seed in (1, 20):
        x = net.op("LayerNormalization", x, scale, numbers(seed, width) / 4, axis=-1)
        weight = numbers(seed + 1, width, 64) / (width**0.5 * scale[:, None])
        hidden = net.op("Gelu", net.op("Add", net.op("MatMul", x, weight), numbers(seed + 2, 64) / 4))
        x = net.op("Add", x, net.dense(hidden, 64, width, seed + 3))
    return net, [net.dense(net.op("LayerNormalization", x, np.ones(width, np.float32), axis=-1), width, 8, 40)]


def recurrent(kind):
    """A recurrent layer between two others."""
    width, gates = 64, {"LSTM": 4, "GRU": 3}[kind]
    net = Net([9, 1, width])
    shapes = [(1, gates * width, width)] * 2 + [(1, gates * width * 2)]
    weights = [numbers(i, *s) / 8 for i, s in enumerate(shapes)]
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    y = net.op(kind, net.op("Tanh", net.dense("x", width, width, 5)), *weights, hidden_size=width, **more)
    last = net.op("Gather", net.op("Squeeze", y, np.array([1], np.int64)), np.array(-1, np.int64), axis=0)
    return net, [net.dense(last, width, 5, 9)]


# Operators between two layers: their name, what else they read, their attributes.
I = lambda *values: np.array(values, np.int64)
BETWEEN = [
    *[(kind, (), {}) for kind in ("Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Sqrt", "Erf", "Softplus", "Mish", "Elu", "Selu")],
    *[(kind, (), {}) for kind in ("HardSwish", "LeakyRelu", "Log", "GlobalAveragePool", "GlobalMaxPool", "Reciprocal")],
    *[(kind, (numbers(3, 1, 8, 1, 1) ** 2 + 0.5,), {}) for kind in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")],
    *[(kind, (I(*axes),), {}) for kind in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceL2") for axes in [(1,), (2,), (2, 3)]],
    ("Softmax", (), {"axis": 1}), ("PRelu", (numbers(4, 8, 1, 1),), {}),
    ("MaxPool", (), {"kernel_shape": [3, 3], "pads": [1] * 4}), ("AveragePool", (), {"kernel_shape": [3, 3], "pads": [1] * 4}),
    ("Transpose", (), {"perm": [0, 2, 1, 3]}), ("Slice", (I(1, 2), I(7, 11), I(1, 2), I(2, 3)), {}),
    ("Pad", (I(0, 0, 1, 1, 0, 0, 1, 1), np.float32(2.5)), {}), ("Pad", (I(0, 1, 1, 1, 0, 2, 1, 1),), {"mode": "reflect"}),
    ("DepthToSpace", (), {"blocksize": 2}), ("SpaceToDepth", (), {"blocksize": 2}), ("Gather", (I(0, 3, 2, 7, -1),), {"axis": 1}),
    ("Resize", ("", "", I(1, 8, 24, 20)), {"mode": "linear"}), ("InstanceNormalization", (numbers(5, 8) ** 2, numbers(6, 8)), {}),
    ("MatMul", (numbers(7, 10, 6),), {}), ("ConvTranspose", (numbers(8, 8, 4, 3, 3) / 5,), {"strides": [2, 2]}),
    ("CumSum", (np.int64(2),), {}), ("LRN", (), {"size": 3}), ("LpNormalization", (), {"axis": 1}),
]  # fmt: skip


def between(kind, inputs, attributes):
    net = Net([1, 8, 12, 10])
    x = net.op("Sigmoid", net.conv("x", 8, 8, 1, size=1))
    x = net.op(kind, x, *inputs, **attributes)
    shapes = onnx.shape_inference.infer_shapes(helper.make_model(
        helper.make_graph(net.nodes, "g", [helper.make_tensor_value_info("x", 1, net.shape)],
                          [helper.make_tensor_value_info(x, 1, None)], net.constants),
        opset_imports=[helper.make_opsetid("", 20)]), data_prop=True)  # fmt: skip
    channels = shapes.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return net, [net.conv(x, channels, 5, 20, size=1)]


def write(folder):
    """Writes the models with samples for calibration and others for comparison."""
    made = {"sine": sine(), "classifier": classifier(), "pyramid": pyramid(), "labels": labels(), "transformer": transformer(), "outliers": outliers()}
    made |= {f"perceptron_{i}": perceptron(i) for i in range(8)}
    made |= {kind.lower(): recurrent(kind) for kind in ("LSTM", "GRU")}
    made |= {f"between_{i:02}_{kind.lower()}": between(kind, *rest) for i, (kind, *rest) in enumerate(BETWEEN)}
    for name, (net, outputs) in made.items():
        net.save(folder / f"{name}.onnx", *outputs)
        for seed, kind in enumerate(("calib", "eval")):
            shape = (SAMPLES, *net.shape)
            uniform = np.random.default_rng(seed).uniform(-3, 3, shape).astype(np.float32)
            np.savez(folder / f"{name}.{kind}.npz", x=uniform if name == "sine" else numbers(seed, *shape))

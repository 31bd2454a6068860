"""Writes ONNX models of one operator each, over the space of its attributes, with what ONNX Runtime gives:
python sweep.py FOLDER [LIMIT]

The files are those of nodes.py, named sweep. Of each family of models LIMIT are drawn, the same ones each time; what
ONNX Runtime refuses is left out.
"""

import itertools
import pathlib
import random
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from nodes import Store, write

LIMIT = 24
FAMILIES = {}
ELEMENTS = {"f32": np.float32, "i8": np.int8, "u8": np.uint8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
            "bool": np.bool_, "f16": np.float16}


class Case:
    """One model: `make` is given the case and what was drawn, and says which node there is."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.inputs, self.constants, self.node, self.elements, self.opset = {}, {}, None, [], 17

    def reals(self, *shape, scale=2.0):
        return (self.random.uniform(-1, 1, shape) * scale).astype(np.float32)

    def integers(self, shape, elem, low=-9, high=10):
        info = np.iinfo(ELEMENTS[elem])
        return self.random.integers(max(low, info.min), min(high, info.max + 1), shape).astype(ELEMENTS[elem])

    def numbers(self, shape, elem, low=-9, high=10):
        if elem == "bool":
            return self.random.integers(0, 2, shape).astype(bool)
        if elem in ("f32", "f16"):
            return self.reals(*shape).astype(ELEMENTS[elem])
        return self.integers(shape, elem, low, high)

    def input(self, value, name=None):
        name = name or f"x{len(self.inputs)}"
        self.inputs[name] = np.asarray(value)
        return name

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def operand(self, value, constant):
        return self.constant(value) if constant else self.input(value)

    def op(self, kind, inputs, outputs=1, elements=None, **attributes):
        """`elements` are those of the results, for operators whose types are not inferred."""
        names = [f"y{i}" for i in range(outputs)]
        attributes = {k: v for k, v in attributes.items() if v is not None}
        self.node = helper.make_node(kind, inputs, names, name="node", **attributes)
        self.elements = [helper.np_dtype_to_tensor_dtype(np.dtype(ELEMENTS[e])) for e in elements or []]

    def model(self):
        typed = lambda name, value: helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        inputs = [typed(name, value) for name, value in self.inputs.items()]
        elements = self.elements or [TensorProto.UNDEFINED] * len(self.node.output)
        outputs = [helper.make_tensor_value_info(*o, None) for o in zip(self.node.output, elements) if o[0]]
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph([self.node], "sweep", inputs, outputs, constants)
        versions = [("", self.opset), *([(self.node.domain, 3)] if self.node.domain == "ai.onnx.ml" else [])]
        versions += [(self.node.domain, 1)] if self.node.domain == "com.microsoft" else []
        opsets = [helper.make_opsetid(*version) for version in versions]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnx.shape_inference.infer_shapes(model)


def family(**axes):
    def add(make):
        FAMILIES[make.__name__] = (make, axes)
        return make
    return add


def drawn(name, axes, limit):
    """`limit` of all combinations, or all of them."""
    count = int(np.prod([len(values) for values in axes.values()]))
    draw = random.Random(name)
    places = sorted(draw.sample(range(count), limit)) if limit < count else range(count)
    for place in places:
        choice, rest = {}, place
        for key, values in axes.items():
            rest, i = divmod(rest, len(values))
            choice[key] = values[i]
        yield place, choice


def reference(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


# Resampling.

@family(
    image=[(1, 2, 5, 7), (1, 2, 6, 4), (2, 3, 30, 3), (1, 2, 1, 9), (1, 2, 9), (1, 2, 8), (1, 2, 3, 4, 5)],
    place=["first", "first", "last"],
    mode=["nearest", "linear", "cubic"],
    coordinates=["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric",
                 "tf_half_pixel_for_nn"],
    nearest=["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"],
    factor=[(0.5, 0.5, 0.5), (1.5, 1.7, 2.0), (2.0, 2.0, 2.0), (0.25, 0.7, 1.0), (1.0, 3.0, 0.34), (1.0, 1.0, 1.0),
            (4.0, 0.5, 1.3)],
    given=["scales", "sizes"],
    axes=[False, True],
    opset=[11, 13, 18, 19],
)
def resize(c, image, place, mode, coordinates, nearest, factor, given, axes, opset):
    axes = axes and opset >= 18
    c.opset = opset
    spatial = len(image) - 2
    order = list(range(len(image))) if place == "first" else [0, *range(2, len(image)), 1]
    shape = [image[i] for i in order]
    scales = [1.0 if i < 2 else factor[i - 2] for i in order]
    kept = [a for a, i in enumerate(order) if i >= 2] if axes else list(range(len(image)))
    sizes = [max(1, int(np.floor(np.float32(shape[a]) * np.float32(scales[a])))) for a in kept]
    if any(np.floor(np.float32(n) * np.float32(s)) < 1 for n, s in zip(shape, scales)):
        return False
    x, roi = c.input(c.reals(*shape)), c.constant(np.zeros(0, np.float32))
    if given == "scales":
        tail = [c.constant(np.array([scales[a] for a in kept], np.float32))]
    else:
        tail = [c.constant(np.zeros(0, np.float32)) if opset < 13 else "", c.constant(np.array(sizes, np.int64))]
    c.op("Resize", [x, roi if opset < 13 else "", *tail], mode=mode, coordinate_transformation_mode=coordinates,
         nearest_mode=nearest, axes=kept if axes else None)


@family(
    image=[(1, 2, 5, 7), (1, 2, 6, 4), (1, 1, 9, 9)],
    mode=["nearest", "linear"],
    factor=[(2.0, 2.0), (3.0, 2.0), (1.5, 2.5), (0.5, 0.5), (1.0, 2.0)],
    opset=[9, 10],
)
def upsample(c, image, mode, factor, opset):
    c.opset = opset
    scales = c.constant(np.array([1, 1, *factor], np.float32))
    c.op("Upsample" if opset == 9 else "Resize", [c.input(c.reals(*image)), scales], mode=mode)


@family(
    image=[(1, 2, 4, 5), (2, 3, 3, 3)],
    mode=["linear", "nearest", "cubic"],
    padding=["zeros", "border", "reflection"],
    align=[0, 1],
    positions=[(2, 3), (1, 5)],
    constant=[False, True],
)
def grid_sample(c, image, mode, padding, align, positions, constant):
    c.opset = 20
    grid = c.reals(image[0], *positions, 2, scale=1.6)
    c.op("GridSample", [c.input(c.reals(*image)), c.operand(grid, constant)], mode=mode, padding_mode=padding,
         align_corners=align)


# Windows.

def windows(spatial):
    return [np.random.default_rng(i) for i in range(spatial)]


@family(
    kind=["MaxPool", "AveragePool", "LpPool"],
    image=[(1, 3, 9), (2, 3, 8, 7), (1, 2, 5, 6, 7)],
    kernel=[(2, 2, 2), (3, 2, 1), (3, 3, 2)],
    stride=[(1, 1, 1), (2, 2, 2), (2, 3, 1)],
    pads=["none", "same", "uneven", "SAME_UPPER", "SAME_LOWER", "VALID"],
    dilation=[(1, 1, 1), (2, 1, 1), (2, 2, 2)],
    ceil=[0, 1],
    inside=[0, 1],
    opset=[10, 11, 19],
)
def pool(c, kind, image, kernel, stride, pads, dilation, ceil, inside, opset):
    if kind == "LpPool" and opset < 18 or kind == "AveragePool" and opset < 19:
        opset = 19
    c.opset = opset
    n = len(image) - 2
    kernel, stride, dilation = list(kernel[:n]), list(stride[:n]), list(dilation[:n])
    explicit = {"none": [0] * 2 * n, "same": [min(1, k - 1) for k in kernel] * 2,
                "uneven": [0] * n + [min(1, k - 1) for k in kernel]}
    c.op(kind, [c.input(c.reals(*image))], kernel_shape=kernel, strides=stride, dilations=dilation, ceil_mode=ceil,
         pads=explicit.get(pads), auto_pad=pads if pads not in explicit else None,
         count_include_pad=inside if kind == "AveragePool" else None, p=(1 + inside) if kind == "LpPool" else None)


@family(
    kind=["GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"],
    image=[(1, 3, 9), (2, 3, 8, 7), (1, 2, 3, 4, 5), (2, 3, 1, 1)],
)
def global_pool(c, kind, image):
    c.op(kind, [c.input(c.reals(*image))])


@family(
    image=[(1, 4, 9), (2, 4, 8, 7), (1, 4, 5, 6, 7)],
    outputs=[4, 6, 8],
    groups=[1, 2, 4],
    kernel=[(1, 1, 1), (3, 2, 1), (3, 3, 2), (2, 3, 3)],
    stride=[(1, 1, 1), (2, 2, 2), (2, 1, 3)],
    pads=["none", "one", "uneven", "wide", "SAME_UPPER", "SAME_LOWER"],
    dilation=[(1, 1, 1), (2, 1, 1), (2, 2, 2)],
    bias=[False, True],
    constant=[True, True, False],
)
def conv(c, image, outputs, groups, kernel, stride, pads, dilation, bias, constant):
    n = len(image) - 2
    if outputs % groups:
        return False
    explicit = {"none": [0] * 2 * n, "one": [1] * 2 * n, "uneven": [1, 0, 2][:n] + [0, 2, 1][:n], "wide": [3] * 2 * n}
    weight = c.operand(c.reals(outputs, image[1] // groups, *kernel[:n], scale=0.5), constant)
    inputs = [c.input(c.reals(*image)), weight] + ([c.operand(c.reals(outputs), constant)] if bias else [])
    c.op("Conv", inputs, group=groups, strides=list(stride[:n]), dilations=list(dilation[:n]),
         pads=explicit.get(pads), auto_pad=pads if pads not in explicit else None)


@family(
    image=[(1, 4, 6), (2, 4, 4, 5), (1, 4, 3, 4, 3)],
    outputs=[4, 8],
    groups=[1, 2, 4],
    kernel=[(1, 1, 1), (3, 2, 1), (2, 3, 3), (4, 4, 2)],
    stride=[(1, 1, 1), (2, 2, 2), (2, 1, 3), (3, 3, 1)],
    pads=["none", "one", "uneven", "SAME_UPPER", "SAME_LOWER", "shape", "wide shape"],
    dilation=[(1, 1, 1), (2, 1, 1), (2, 2, 2)],
    extra=[0, 1],
    bias=[False, True],
)
def conv_transpose(c, image, outputs, groups, kernel, stride, pads, dilation, extra, bias):
    n = len(image) - 2
    explicit = {"none": [0] * 2 * n, "one": [1] * 2 * n, "uneven": [1, 0, 2][:n] + [0, 2, 1][:n]}
    weight = c.constant(c.reals(image[1], outputs // groups, *kernel[:n], scale=0.5))
    inputs = [c.input(c.reals(*image)), weight] + ([c.constant(c.reals(outputs))] if bias else [])
    stride, dilation = list(stride[:n]), list(dilation[:n])
    output = [min(extra, max(s, d) - 1) for s, d in zip(stride, dilation)]
    shape = None
    if "shape" in pads:
        shape = [n * s + ("wide" in pads) for n, s in zip(image[2:], stride)]
    c.op("ConvTranspose", inputs, group=groups, strides=stride, dilations=dilation, output_padding=output,
         output_shape=shape, pads=explicit.get(pads), auto_pad=pads if "SAME" in pads else None)


@family(
    image=[(1, 8, 2, 3), (2, 16, 3, 1), (1, 12, 2, 2)],
    block=[1, 2, 4],
    mode=["DCR", "CRD"],
    kind=["DepthToSpace", "SpaceToDepth"],
)
def blocks(c, image, block, mode, kind):
    if kind == "DepthToSpace":
        if image[1] % (block * block):
            return False
        c.op(kind, [c.input(c.reals(*image))], blocksize=block, mode=mode)
    else:
        n, channels, h, w = image
        c.op(kind, [c.input(c.reals(n, channels, h * block, w * block))], blocksize=block)


# Movement.

@family(
    shape=[(5,), (4, 5), (2, 3, 5, 4), (1, 2, 3, 4, 5)],
    mode=["constant", "edge", "reflect", "wrap"],
    signs=["positive", "negative", "mixed", "front", "back", "all"],
    value=[0.0, -1.5, float("-inf")],
    elem=["f32", "i32", "i64", "u8", "bool"],
    opset=[13, 18, 19],
)
def pad(c, shape, mode, signs, value, elem, opset):
    c.opset = opset
    rank = len(shape)
    wide = range(max(0, rank - 2), rank) if signs != "all" else range(rank)
    before, after = [0] * rank, [0] * rank
    for a in wide:
        most = shape[a] - 1
        before[a], after[a] = {"positive": (1, 2), "negative": (-1, 0), "mixed": (2, -1), "front": (2, 0),
                               "back": (0, 1), "all": (1, 1)}[signs]
        if mode != "constant":
            before[a], after[a] = min(before[a], most), min(after[a], most)
    x = c.input(c.numbers(shape, elem))
    fill = np.array(value if elem == "f32" else abs(value) > 0, ELEMENTS[elem])
    tail = [c.constant(fill)] if mode == "constant" and value != 0 else []
    c.op("Pad", [x, c.constant(np.array(before + after, np.int64)), *tail], mode=mode)


@family(
    shape=[(7,), (4, 5), (2, 3, 6, 5)],
    start=[0, 1, -1, -3, 100, -100],
    end=[3, -1, 100, -100, 0],
    step=[1, 2, 3, -1, -2, -3],
    axis=[0, -1, 1],
    two=[False, True],
    elem=["f32", "i64", "bool"],
)
def slice_(c, shape, start, end, step, axis, two, elem):
    if axis >= len(shape):
        return False
    axes, ints = [axis], lambda *v: c.constant(np.array(v, np.int64))
    if two and len(shape) > 2:
        inputs = [ints(start, 1), ints(end, 3), ints(axis, 2 if axis != 2 else 1), ints(step, 1)]
    else:
        inputs = [ints(start), ints(end), ints(axis), ints(step)]
    value = c.numbers(shape, elem)
    if len(range(*slice(start, end, step).indices(shape[axis]))) == 0:
        return False
    c.op("Slice", [c.input(value), *inputs])


@family(
    kind=["Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Concat", "Split", "Trilu"],
    variant=list(range(8)),
    elem=["f32", "i64", "i32", "u8", "bool"],
)
def movement(c, kind, variant, elem):
    ints = lambda *v: c.constant(np.array(v, np.int64))
    value = lambda *shape: c.input(c.numbers(shape, elem))
    v = variant
    c.opset = 18
    if kind == "Transpose":
        perms = [(0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 3, 2), (0, 1, 2, 3), (2, 3, 0, 1), (0, 3, 1, 2), None, (1, 2, 3, 0)]
        c.op(kind, [value(2, 3, 4, 5)], perm=perms[v])
    elif kind == "Reshape":
        shapes = [(0, -1), (6, 20), (-1,), (2, 1, 12, 5), (0, 0, 20), (1, 2, 3, 4, 5), (5, 4, 3, 2), (2, 60, 1)]
        c.op(kind, [value(2, 3, 4, 5), ints(*shapes[v])])
    elif kind == "Flatten":
        c.op(kind, [value(2, 3, 4, 5)], axis=[0, 1, 2, 3, 4, -1, -2, -4][v])
    elif kind == "Squeeze":
        axes = [(0,), (-1,), (0, 2), (-2, 0), (2, -1), None, (0, 2, 4), (-5,)][v]
        c.op(kind, [value(1, 3, 1, 4, 1)] + ([ints(*axes)] if axes else []))
    elif kind == "Unsqueeze":
        c.op(kind, [value(3, 4), ints(*[(0,), (-1,), (1, 2), (-2, 0), (2,), (0, 3), (-3,), (1,)][v])])
    elif kind == "Expand":
        shapes = [(2, 3, 4), (3, 4), (1, 1), (2, 1, 3, 1), (3, 1), (5, 3, 4), (1, 3, 4), (2, 2, 3, 4)]
        c.op(kind, [value(3, 4 if v % 2 else 1) if v not in (4,) else value(1, 4), ints(*shapes[v])])
    elif kind == "Tile":
        c.op(kind, [value(2, 3, 4), ints(*[(1, 2, 1), (2, 1, 3), (1, 1, 1), (3, 2, 1), (1, 1, 4), (2, 2, 2), (1, 3, 1),
                                           (4, 1, 1)][v])])
    elif kind == "Concat":
        axis = [0, 1, 2, -1, -2, -3, 1, 0][v]
        shapes = [[2, 3, 4] for _ in range(2 + v % 3)]
        for i, shape in enumerate(shapes):
            shape[axis] += i
        c.op(kind, [value(*shape) for shape in shapes], axis=axis)
    elif kind == "Split":
        parts = [(2, 2, 2), (1, 5), (3, 3), (4, 1, 1), None, None, (6,), (1, 1, 1, 3)][v]
        count = len(parts) if parts else 2 + v % 3
        c.op(kind, [value(2, 6, 3)] + ([ints(*parts)] if parts else []), count, axis=1 if v % 2 else -2,
             num_outputs=None if parts else count)
    else:
        k = [0, 1, -1, 2, -2, 5, -5, 0][v]
        c.op(kind, [value(2, 4, 5) if v % 2 else value(4, 3), c.constant(np.array(k, np.int64))], upper=v // 2 % 2)


# Reductions.

@family(
    kind=["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
          "ReduceLogSum", "ReduceLogSumExp"],
    shape=[(6,), (3, 5), (2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 2, 3)],
    axes=[(0,), (-1,), (1,), (0, -1), (1, 2), (-2, -3), None, ()],
    keep=[0, 1],
    elem=["f32", "f32", "i32", "i64"],
    opset=[11, 13, 18],
)
def reduce(c, kind, shape, axes, keep, elem, opset):
    c.opset = opset
    if axes and any(a >= len(shape) or a < -len(shape) for a in axes):
        return False
    value = c.numbers(shape, elem, -3, 4)
    if kind in ("ReduceLogSum",):
        value = np.abs(value) + 1
    x = c.input(value.astype(ELEMENTS[elem]))
    operand = opset >= 18 or kind == "ReduceSum" and opset >= 13
    if axes is None or not operand:
        c.op(kind, [x], keepdims=keep, axes=list(axes) if axes else None)
    else:
        c.op(kind, [x, c.constant(np.array(axes, np.int64))], keepdims=keep,
             noop_with_empty_axes=(keep if not axes else None))


@family(
    kind=["ArgMax", "ArgMin"],
    shape=[(6,), (3, 5), (2, 3, 4), (2, 3, 4, 5)],
    axis=[0, 1, -1, -2],
    keep=[0, 1],
    last=[0, 1],
    elem=["f32", "i32", "i64", "u8", "i8", "f16"],
)
def arg_reduce(c, kind, shape, axis, keep, last, elem):
    if not -len(shape) <= axis < len(shape):
        return False
    c.op(kind, [c.input(c.numbers(shape, elem, -3, 4))], axis=axis, keepdims=keep, select_last_index=last)


@family(
    shape=[(6,), (3, 5), (2, 4, 3), (2, 3, 4, 5)],
    axis=[0, 1, -1, -2],
    largest=[0, 1],
    sorted=[1],
    all=[False, True],
    elem=["f32", "i32", "i64", "i8", "u8", "i16"],
)
def top_k(c, shape, axis, largest, sorted, all, elem):
    c.opset = 24 if elem in ("i8", "u8", "i16") else 17
    if not -len(shape) <= axis < len(shape):
        return False
    k = shape[axis] if all else 2
    c.op("TopK", [c.input(c.numbers(shape, elem, -100, 100)), c.constant(np.array([k], np.int64))], 2, axis=axis,
         largest=largest, sorted=sorted)


@family(
    shape=[(6,), (3, 5), (2, 4, 3)],
    axis=[0, 1, -1],
    exclusive=[0, 1],
    reverse=[0, 1],
    elem=["f32", "i32", "i64"],
)
def cum_sum(c, shape, axis, exclusive, reverse, elem):
    if axis >= len(shape):
        return False
    c.op("CumSum", [c.input(c.numbers(shape, elem)), c.constant(np.array(axis, np.int64))], exclusive=exclusive,
         reverse=reverse)


# Indices.

@family(
    shape=[(6,), (4, 5), (2, 3, 4), (2, 3, 4, 5)],
    index=[(), (2,), (2, 3), (1,)],
    axis=[0, 1, -1],
    signs=["positive", "any"],
    constant=[False, True],
    elem=["f32", "i64", "i32", "u8", "bool"],
    width=["i32", "i64"],
)
def gather(c, shape, index, axis, signs, constant, elem, width):
    if axis >= len(shape):
        return False
    n = shape[axis]
    places = c.integers(index, width, -n if signs == "any" else 0, n)
    c.op("Gather", [c.input(c.numbers(shape, elem)), c.operand(places, constant)], axis=axis)


@family(
    shape=[(6,), (4, 5), (2, 3, 4)],
    axis=[0, 1, -1],
    less=[0, 1],
    signs=["positive", "any"],
    constant=[False, True],
    elem=["f32", "i64", "i32", "u8", "bool"],
    width=["i32", "i64"],
)
def gather_elements(c, shape, axis, less, signs, constant, elem, width):
    if axis >= len(shape):
        return False
    n = shape[axis]
    index = [max(1, d - less) for d in shape]
    places = c.integers(index, width, -n if signs == "any" else 0, n)
    c.op("GatherElements", [c.input(c.numbers(shape, elem)), c.operand(places, constant)], axis=axis)


def tuples(c, dims, count, signs):
    low = [-n if signs == "any" else 0 for n in dims]
    places = [c.random.integers(l, n, count) for l, n in zip(low, dims)]
    return np.stack(places, -1).astype(np.int64)


@family(
    shape=[(6,), (4, 5), (2, 3, 4), (2, 2, 3, 4)],
    depth=[1, 2, 3],
    batch=[0, 1, 2],
    count=[(2,), (2, 3), (1,)],
    signs=["positive", "any"],
    constant=[False, True],
    elem=["f32", "i64", "i32", "u8", "bool"],
)
def gather_nd(c, shape, depth, batch, count, signs, constant, elem):
    if depth + batch > len(shape) or batch >= len(count) + 1 and batch:
        return False
    count = (*shape[:batch], *count)
    places = tuples(c, shape[batch:batch + depth], count, signs)
    c.op("GatherND", [c.input(c.numbers(shape, elem)), c.operand(places, constant)], batch_dims=batch)


@family(
    shape=[(6,), (4, 5), (2, 3, 4)],
    depth=[1, 2],
    count=[2, 3, 9],
    reduction=["none", "add", "mul", "min", "max"],
    signs=["positive", "any"],
    constant=[False, True],
    elem=["f32", "i64", "i32"],
)
def scatter_nd(c, shape, depth, count, reduction, signs, constant, elem):
    c.opset = 18
    if depth > len(shape):
        return False
    places = tuples(c, shape[:depth], (count,), signs)
    if reduction == "none":
        # Which of several updates of one place stays is not said.
        fold = np.ravel_multi_index(tuple(places[..., i] % shape[i] for i in range(depth)), shape[:depth])
        places = places[np.unique(fold, return_index=True)[1]]
    updates = c.numbers((len(places), *shape[depth:]), elem)
    c.op("ScatterND", [c.input(c.numbers(shape, elem)), c.operand(places, constant), c.input(updates)],
         reduction=reduction)


@family(
    shape=[(6,), (4, 5), (2, 3, 4)],
    axis=[0, 1, -1],
    less=[0, 1],
    reduction=["none", "add", "mul", "min", "max"],
    signs=["positive", "any"],
    constant=[False, True],
    elem=["f32", "i64", "i32"],
    width=["i32", "i64"],
)
def scatter_elements(c, shape, axis, less, reduction, signs, constant, elem, width):
    c.opset = 18
    if axis >= len(shape):
        return False
    n = shape[axis]
    index = [max(1, d - less) for d in shape]
    if reduction == "none":
        rows = np.argsort(c.random.random(index), axis)
        places = np.where(c.random.random(index) < 0.5, rows - n, rows) if signs == "any" else rows
        places = places.astype(ELEMENTS[width])
    else:
        places = c.integers(index, width, -n if signs == "any" else 0, n)
    updates = c.numbers(index, elem)
    c.op("ScatterElements", [c.input(c.numbers(shape, elem)), c.operand(places, constant), c.input(updates)], axis=axis,
         reduction=reduction)


@family(
    shape=[(4,), (2, 3), ()],
    depth=[3, 5],
    axis=[-1, 0, 1, -2],
    signs=["positive", "any"],
    constant=[False, True],
    elem=["f32", "i64", "i32"],
    width=["i64", "i32", "f32"],
)
def one_hot(c, shape, depth, axis, signs, constant, elem, width):
    if not -len(shape) - 1 <= axis <= len(shape):
        return False
    places = c.random.integers(-depth - 1 if signs == "any" else 0, depth + 1, shape).astype(ELEMENTS[width])
    values = np.array([-1, 3]).astype(ELEMENTS[elem])
    c.op("OneHot", [c.operand(places, constant), c.constant(np.array(depth, np.int64)), c.constant(values)], axis=axis)


# Functions of elements.

ACTIVATIONS = [
    ("Celu", {"alpha": [1.0, 0.5, -2.0, -0.5, 3.0]}),
    ("Elu", {"alpha": [1.0, 0.3, 0.0, -1.5, 2.0]}),
    ("Selu", {"alpha": [1.67326, 0.0, -1.0, 0.5], "gamma": [1.0507, 0.0, -1.0, 2.0]}),
    ("LeakyRelu", {"alpha": [0.01, 0.0, -0.5, 1.0, 2.0]}),
    ("HardSigmoid", {"alpha": [0.2, 0.0, -0.3, 1 / 6], "beta": [0.5, 0.0, -0.2, 1.5]}),
    ("ThresholdedRelu", {"alpha": [1.0, 0.0, -0.5, -3.0]}),
    ("Shrink", {"lambd": [0.5, 0.0, -0.5, 1.5], "bias": [0.0, 0.3, -0.3]}),
    ("Gelu", {"approximate": ["none", "tanh"]}),
    ("Softplus", {}), ("Softsign", {}), ("Sigmoid", {}), ("Tanh", {}), ("HardSwish", {}), ("Mish", {}), ("Relu", {}),
    ("Erf", {}), ("Exp", {}), ("Abs", {}), ("Neg", {}), ("Sign", {}), ("Floor", {}), ("Ceil", {}), ("Round", {}),
    ("Sin", {}), ("Cos", {}), ("Tan", {}), ("Atan", {}), ("Sinh", {}), ("Cosh", {}), ("Asinh", {}), ("Reciprocal", {}),
]


def activations(c, kind, attributes, value):
    c.opset = 20
    if not kind.startswith("Gelu") and kind not in ("Mish",):
        c.opset = 17
    c.op(kind, [c.input(value)], **attributes)


for kind, space in ACTIVATIONS:
    choices = [dict(zip(space, values)) for values in itertools.product(*space.values())]

    def make(c, attributes, spread, rank, kind=kind):
        value = c.reals(*[(12,), (3, 4), (1, 2, 3, 4)][rank], scale=spread)
        if spread > 1:
            value.flat[:3] = [0.0, -0.0, 1.0]
            value.flat[3:6] = np.round(value.flat[3:6] * 2) / 2
        activations(c, kind, attributes, value)

    make.__name__ = kind.lower()
    family(attributes=choices, spread=[1.0, 4.0, 40.0], rank=[0, 1, 2])(make)


@family(kind=["Acos", "Asin", "Acosh", "Atanh", "Log", "Sqrt"], rank=[1, 3])
def limited(c, kind, rank):
    u = np.abs(c.reals(*(2, 3, 4)[:rank], scale=0.95))
    value = {"Acosh": 1 + u * 3, "Log": u + 0.01, "Sqrt": u}.get(kind, u * 2 - 1)
    c.op(kind, [c.input(value.astype(np.float32))])


@family(
    elem=["f32", "f32", "i32", "i64", "i8", "u8"],
    low=[None, -1, 0, 3, -2],
    high=[None, 1, 0, 6, -1, 100],
    opset=[6, 12],
)
def clip(c, elem, low, high, opset):
    if opset == 6 and elem != "f32" or elem == "u8" and (low or 0) < 0 or elem == "u8" and (high or 0) < 0:
        return False
    c.opset = opset
    x = c.input(c.numbers((3, 5), elem) if elem != "f32" else c.reals(3, 5, scale=8.0))
    if opset == 6:
        c.op("Clip", [x], min=None if low is None else float(low), max=None if high is None else float(high))
        return True
    limit = lambda v: "" if v is None else c.constant(np.array(v, ELEMENTS[elem]))
    c.op("Clip", [x, limit(low), limit(high)])


@family(
    shape=[(2, 3, 4, 5), (2, 3), (3,), (2, 3, 4)],
    slope=["scalar", "one", "channel", "last", "all", "channel3"],
    constant=[False, True],
)
def prelu(c, shape, slope, constant):
    rank = len(shape)
    shapes = {"scalar": (), "one": (1,), "last": shape[-1:], "all": shape,
              "channel": (shape[1],) + (1,) * (rank - 2) if rank > 1 else (3,),
              "channel3": (1, shape[1]) + (1,) * (rank - 2) if rank > 1 else (1,)}
    c.op("PRelu", [c.input(c.reals(*shape)), c.operand(c.reals(*shapes[slope]), constant)])


@family(
    kind=["Add", "Sub", "Mul", "Div", "Mod", "fmod", "Pow", "Max", "Min", "Less", "LessOrEqual", "Greater",
          "GreaterOrEqual", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"],
    shapes=[((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1)), ((2, 3, 4, 5), (3, 1, 1)), ((4,), (2, 3, 4)),
            ((), (3,)), ((1, 2, 3, 2, 2), (2, 1, 2, 1))],
    elem=["f32", "f32", "i32", "i64", "u8", "i8", "i16"],
    constant=[False, True],
    wrap=[False, True],
)
def binary(c, kind, shapes, elem, constant, wrap):
    c.opset = 18
    low, high = (-300, 301) if wrap else (-9, 10)
    a, b = (c.numbers(shape, elem, low, high) for shape in shapes)
    if kind in ("Div", "Mod", "fmod"):
        b = np.where(np.abs(b) < (0.1 if elem == "f32" else 1), ELEMENTS[elem](3), b)
        if elem in ("i8", "i16"):
            b = np.where(b == -1, ELEMENTS[elem](2), b)
    if kind == "Pow":
        a, b = (np.abs(a) + 0.5, b) if elem == "f32" else (a % 5, np.abs(b) % 4)
    a, b = a.astype(ELEMENTS[elem]), b.astype(ELEMENTS[elem])
    if kind == "Mod" and elem == "f32":
        return False
    attributes = {"fmod": 1} if kind == "fmod" else {}
    c.op("Mod" if kind == "fmod" else kind, [c.input(a), c.operand(b, constant)], **attributes)


@family(
    kind=["And", "Or", "Xor", "Equal", "Not", "Where"],
    shapes=[((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1, 4), (3, 1))],
    elem=["f32", "i64", "bool", "u8"],
)
def logical(c, kind, shapes, elem):
    a, b = (c.input(c.numbers(s, "bool")) for s in shapes)
    if kind == "Not":
        c.inputs.popitem()
        c.op(kind, [a])
    elif kind == "Where":
        x, y = c.input(c.numbers(shapes[1], elem)), c.input(c.numbers(shapes[0], elem))
        c.inputs.pop(b)
        c.op(kind, [a, x, y])
    else:
        c.op(kind, [a, b])


@family(kind=["left", "right"], by=[0, 1, 3, 7], elem=["u8"], constant=[False, True])
def shift(c, kind, by, elem, constant):
    by = c.operand(np.full((3,), by, ELEMENTS[elem]), constant)
    c.op("BitShift", [c.input(c.numbers((2, 3), elem, 0, 256)), by], direction=kind.upper())


@family(
    kind=["Max", "Min", "Sum", "Mean"],
    count=[1, 2, 3],
    elem=["f32", "i32", "i64", "u8"],
)
def variadic(c, kind, count, elem):
    shapes = [(2, 3, 4), (4,), (3, 1)]
    c.op(kind, [c.input(c.numbers(shapes[i], elem)) for i in range(count)])


@family(
    source=["f32", "f16", "i8", "u8", "i16", "i32", "i64", "bool"],
    target=["f32", "f16", "i8", "u8", "i16", "i32", "i64", "bool"],
    spread=[3.0, 100.0, 300.0],
)
def cast(c, source, target, spread):
    if source in ("f32", "f16"):
        value = c.reals(3, 5, scale=spread)
        value.flat[:4] = [0.0, 0.5, -0.5, 1.0]
        if target in ("u8",):
            value = np.abs(value)
        if target in ("i8", "u8"):
            value = np.clip(value, -120, 250 if target == "u8" else 120)
        value = value.astype(ELEMENTS[source])
    else:
        value = c.numbers((3, 5), source, -int(spread), int(spread) + 1)
    c.op("Cast", [c.input(value)], to=helper.np_dtype_to_tensor_dtype(np.dtype(ELEMENTS[target])))


# Normalisation and products.

@family(
    shape=[(2, 3, 4, 5), (2, 3), (2, 3, 4)],
    opset=[7, 9, 14, 15],
    epsilon=[1e-5, 0.1],
    constant=[True, False],
)
def batch_norm(c, shape, opset, epsilon, constant):
    c.opset = opset
    n = shape[1]
    parameters = [c.reals(n), c.reals(n), c.reals(n), np.abs(c.reals(n)) + 0.1]
    c.op("BatchNormalization", [c.input(c.reals(*shape)), *[c.operand(p, constant) for p in parameters]],
         epsilon=epsilon)


@family(
    kind=["LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization",
          "LpNormalization", "MeanVarianceNormalization", "LRN"],
    shape=[(2, 4, 6), (2, 4, 3, 5), (1, 4, 2, 3, 2)],
    axis=[1, 2, -1, -2],
    epsilon=[1e-5, 0.1],
    variant=[0, 1],
)
def normalisation(c, kind, shape, axis, epsilon, variant):
    c.opset = {"RMSNormalization": 23, "GroupNormalization": 21}.get(kind, 17)
    x = c.input(c.reals(*shape))
    real = lambda s: c.constant(c.reals(*s))
    if kind in ("LayerNormalization", "RMSNormalization"):
        tail = shape[axis:]
        more = [real(tail)] if variant and kind == "LayerNormalization" else []
        c.op(kind, [x, real(tail), *more], axis=axis, epsilon=epsilon)
    elif kind == "InstanceNormalization":
        c.op(kind, [x, real(shape[1:2]), real(shape[1:2])], epsilon=epsilon)
    elif kind == "GroupNormalization":
        c.op(kind, [x, real(shape[1:2]), real(shape[1:2])], epsilon=epsilon, num_groups=1 + variant)
    elif kind == "LpNormalization":
        c.op(kind, [x], axis=axis, p=1 + variant)
    elif kind == "MeanVarianceNormalization":
        c.op(kind, [x], axes=[0, axis] if variant else [axis])
    else:
        c.op(kind, [x], size=3 if variant else 2, alpha=0.3, beta=0.75 if variant else -0.5, bias=1.5)


@family(
    kind=["Softmax", "LogSoftmax", "Hardmax"],
    shape=[(5,), (2, 3), (2, 3, 4), (2, 3, 4, 5)],
    axis=[0, 1, -1, -2, 2],
    opset=[9, 11, 13],
)
def softmax(c, kind, shape, axis, opset):
    c.opset = opset
    if not -len(shape) <= axis < len(shape) or opset < 11 and axis < 0:
        return False
    c.op(kind, [c.input(c.reals(*shape))], axis=axis)


@family(
    shapes=[((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,)),
            ((4,), (4,)), ((2, 1, 3, 4), (3, 4, 2)), ((1, 3, 4), (2, 4, 5)), ((2, 2, 3, 4), (4,))],
    constant=[False, True],
    swap=[False, True],
)
def matmul(c, shapes, constant, swap):
    a, b = (c.reals(*s) for s in shapes)
    if swap:
        c.op("MatMul", [c.operand(a, constant), c.input(b)])
    else:
        c.op("MatMul", [c.input(a), c.operand(b, constant)])


@family(size=[1, 2, 3, 4], batch=[(), (3,), (2, 1)])
def det(c, size, batch):
    c.op("Det", [c.input(c.reals(*batch, size, size))])


@family(
    transpose=[(0, 0), (1, 0), (0, 1), (1, 1)],
    factors=[(1.0, 1.0), (0.5, 2.0), (-1.0, 0.0), (0.0, 1.0)],
    bias=[None, (5,), (3, 5), (3, 1), (1, 5), ()],
    constant=[False, True],
    opset=[9, 13],
)
def gemm(c, transpose, factors, bias, constant, opset):
    c.opset = opset
    if bias is None and opset < 11:
        return False
    a, b = c.reals(*((4, 3) if transpose[0] else (3, 4))), c.reals(*((5, 4) if transpose[1] else (4, 5)))
    more = [] if bias is None else [c.operand(c.reals(*bias), constant)]
    c.op("Gemm", [c.input(a), c.operand(b, constant), *more], transA=transpose[0], transB=transpose[1],
         alpha=factors[0], beta=factors[1])


@family(
    equation=["ij,jk->ik", "bij,bjk->bik", "bij,bkj->bik", "ij,ij->", "ij->ji", "ii->i", "i,j->ij", "bhid,bhjd->bhij",
              "bij->b", "ij,kj->ki", "...ij,...jk->...ik", "abc,cd->abd", "ij,j->i", "bi,bi->b", "ij->", "abc->cab",
              "ij,jk", "bnd,md->bmn", "ijk,ijl->kl"],
    constant=[False, True],
)
def einsum(c, equation, constant):
    extents = {letter: 2 + i % 3 for i, letter in enumerate("abcdhijklmn")}
    terms = equation.split("->")[0].split(",")
    shapes = [[extents[l] for l in t.replace("...", "ab")] for t in terms]
    values = [c.reals(*s) for s in shapes]
    c.op("Einsum", [c.input(values[0]), *[c.operand(v, constant) for v in values[1:]]], equation=equation)


@family(
    kind=["LSTM", "GRU", "RNN"],
    direction=["forward", "reverse", "bidirectional"],
    bias=[False, True],
    initial=[False, True],
    clip=[None, 0.4],
    after=[0, 1],
    steps=[1, 4],
    batch=[1, 2],
    layout=[0],
)
def recurrent(c, kind, direction, bias, initial, clip, after, steps, batch, layout):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    n, inputs, hidden = 2 if direction == "bidirectional" else 1, 3, 2
    k = lambda *s: c.constant(c.reals(*s, scale=0.8))
    names = [c.input(c.reals(steps, batch, inputs)), k(n, gates * hidden, inputs), k(n, gates * hidden, hidden)]
    names.append(k(n, 2 * gates * hidden) if bias else "")
    if initial:
        names += ["", c.input(c.reals(n, batch, hidden))]
        if kind == "LSTM":
            names.append(c.input(c.reals(n, batch, hidden)))
    extra = {"linear_before_reset": after} if kind == "GRU" else {}
    c.op(kind, names, 3 if kind == "LSTM" else 2, direction=direction, hidden_size=hidden, clip=clip, **extra)


@family(rows=[3, 4], columns=[3, 5], k=[0, 1, -1, -2], elem=["f32", "i64"])
def eye_like(c, rows, columns, k, elem):
    c.op("EyeLike", [c.input(c.numbers((rows, columns), elem))], k=k)


# Operators that are composed of others.

@family(
    image=[(1, 2, 6, 9), (1, 1, 7, 4), (1, 2, 8)],
    mode=["linear", "cubic"],
    factor=[(0.5, 0.4, 1.0), (0.34, 1.5, 1.0), (2.0, 0.7, 1.0)],
    antialias=[0, 1],
    exclude=[0, 1],
    coordinates=["half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric", "pytorch_half_pixel"],
    a=[-0.5, -0.75],
)
def resize_by_maps(c, image, mode, factor, antialias, exclude, coordinates, a):
    c.opset = 18
    scales = np.array([1.0, 1.0, *factor[:len(image) - 2]], np.float32)
    c.op("Resize", [c.input(c.reals(*image)), "", c.constant(scales)], mode=mode, antialias=antialias, cubic_coeff_a=a,
         exclude_outside=exclude, coordinate_transformation_mode=coordinates)


@family(
    mode=["nearest", "linear", "cubic"],
    size=[(3, 3), (5, 8), (1, 2)],
    roi=[(0.0, 1.0), (0.2, 0.7), (-0.3, 1.2), (0.9, 0.1)],
    beyond=[0.0, 3.0],
)
def resize_regions(c, mode, size, roi, beyond):
    regions = np.array([0, 0, roi[0], roi[0], 1, 1, roi[1], roi[1]], np.float32)
    sizes = np.array([1, 2, *size])
    c.op("Resize", [c.input(c.reals(1, 2, 4, 6)), c.constant(regions), "", c.constant(sizes)], mode=mode,
         coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=beyond)


@family(scales=[(0.5, 2.0), (1.5, 0.6)], mode=["nearest"], elem=["f32"], opset=[9, 10])
def upsample_and_reduce(c, scales, mode, elem, opset):
    c.opset = opset
    kind = "Upsample" if opset == 9 else "Resize"
    c.op(kind, [c.input(c.numbers((1, 2, 5, 6), elem)), c.constant(np.array([1, 1, *scales], np.float32))], mode=mode)


@family(
    shape=[(4, 3, 2), (2, 5), (3, 4, 2, 3)],
    swapped=[False, True],
    constant=[False, True],
    elem=["f32", "i64"],
)
def reverse_sequence(c, shape, swapped, constant, elem):
    batch, time = (0, 1) if swapped else (1, 0)
    lens = c.random.integers(1, shape[time] + 1, shape[batch])
    names = [c.input(c.numbers(shape, elem)), c.operand(lens, constant)]
    c.op("ReverseSequence", names, batch_axis=batch, time_axis=time)


@family(
    kind=["LSTM", "GRU", "RNN"],
    direction=["forward", "reverse", "bidirectional"],
    initial=[False, True],
    constant=[False, True],
)
def recurrent_lengths(c, kind, direction, initial, constant):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    n, steps, batch, inputs, hidden = 2 if direction == "bidirectional" else 1, 4, 3, 3, 2
    k = lambda *s: c.constant(c.reals(*s, scale=0.8))
    names = [c.input(c.reals(steps, batch, inputs)), k(n, gates * hidden, inputs), k(n, gates * hidden, hidden), ""]
    names.append(c.operand(np.array([2, 4, 1], np.int32), constant))
    if initial:
        names.append(c.input(c.reals(n, batch, hidden)))
    c.op(kind, names, 2, direction=direction, hidden_size=hidden)


@family(
    shape=[(1, 2, 6, 6), (2, 1, 5, 7), (1, 2, 9), (1, 1, 4, 4, 5)],
    kernel=[2, 3],
    stride=[1, 2],
    pads=[0, 1],
    dilation=[1, 2],
    ceil=[0, 1],
    order=[0, 1],
)
def max_pool_places(c, shape, kernel, stride, pads, dilation, ceil, order):
    axes = len(shape) - 2
    c.op("MaxPool", [c.input(c.reals(*shape))], 2, kernel_shape=[kernel] * axes, strides=[stride] * axes,
         pads=[pads] * 2 * axes, dilations=[dilation] * axes, ceil_mode=ceil, storage_order=order)


@family(shape=[(1, 2, 2, 3), (2, 1, 3), (1, 1, 2, 2, 2)], kernel=[2, 3], stride=[2, 3])
def max_unpool(c, shape, kernel, stride):
    axes = len(shape) - 2
    image = [(n - 1) * stride + kernel for n in shape[2:]]
    total = int(np.prod([*shape[:2], *image]))
    places = c.random.permutation(total)[:int(np.prod(shape))].reshape(shape)
    names = [c.input(c.reals(*shape)), c.input(places)]
    c.op("MaxUnpool", names, kernel_shape=[kernel] * axes, strides=[stride] * axes)


@family(
    shape=[(2, 8, 1), (1, 5, 2), (2, 3, 6, 1), (1, 7, 4, 2)],
    axis=[1, -2],
    inverse=[0, 1],
    onesided=[0, 1],
    length=[None, 4, 11],
    opset=[17, 20],
)
def dft(c, shape, axis, inverse, onesided, length, opset):
    c.opset = opset
    names = [c.input(c.reals(*shape)), "" if length is None else c.constant(np.array(length))]
    if opset == 20:
        c.op("DFT", [*names, c.constant(np.array(axis))], elements=["f32"], inverse=inverse, onesided=onesided)
    else:
        c.op("DFT", names, elements=["f32"], axis=axis, inverse=inverse, onesided=onesided)


@family(
    shape=[(2, 40), (1, 33, 1), (2, 30, 2)],
    step=[4, 7],
    length=[8, 5],
    window=[False, True],
    onesided=[0, 1],
)
def stft(c, shape, step, length, window, onesided):
    names = [c.input(c.reals(*shape)), c.constant(np.array(step)), c.constant(c.reals(length)) if window else ""]
    c.op("STFT", [*names, c.constant(np.array(length))], onesided=onesided)


@family(
    shape=[(1, 2, 5, 6), (2, 4, 4, 4)],
    kernel=[(2, 2), (3, 2), (1, 1)],
    stride=[1, 2],
    pads=[0, 1],
    dilation=[1, 2],
    group=[1, 2],
    shared=[1, 2],
    masked=[False, True],
    bias=[False, True],
)
def deform_conv(c, shape, kernel, stride, pads, dilation, group, shared, masked, bias):
    c.opset = 19
    places = [(n + 2 * pads - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(shape[2:], kernel)]
    if min(places) < 1:
        return False
    taps = kernel[0] * kernel[1]
    names = [c.input(c.reals(*shape)), c.constant(c.reals(4, shape[1] // group, *kernel)),
             c.input(c.reals(shape[0], shared * taps * 2, *places)), c.constant(c.reals(4)) if bias else ""]
    if masked:
        names.append(c.input(c.reals(shape[0], shared * taps, *places)))
    c.op("DeformConv", names, strides=[stride] * 2, pads=[pads] * 4, dilations=[dilation] * 2, group=group,
         offset_group=shared, kernel_shape=kernel)


@family(
    flat=[False, True],
    interleaved=[0, 1],
    part=[0, 4],
    positions=[False, True],
)
def rotary_embedding(c, flat, interleaved, part, positions):
    c.opset = 23
    batch, heads, steps, depth = 2, 3, 4, 8
    pairs = (part or depth) // 2
    x = c.input(c.reals(*((batch, steps, heads * depth) if flat else (batch, heads, steps, depth))))
    rows = (6,) if positions else (batch, steps)
    tables = [c.constant(c.reals(*rows, pairs)), c.constant(c.reals(*rows, pairs))]
    places = [c.input(c.random.integers(0, 6, (batch, steps)))] if positions else []
    c.op("RotaryEmbedding", [x, *tables, *places], interleaved=interleaved, rotary_embedding_dim=part,
         num_heads=heads if flat else 0)


@family(a=[(2, 3), (2, 4, 3)], b=[(3, 5), (2, 3, 1)], elem=["i32", "i64"], constant=[False, True])
def integer_matmul(c, a, b, elem, constant):
    c.op("MatMul", [c.input(c.numbers(a, elem)), c.operand(c.numbers(b, elem), constant)])


@family(direction=["LEFT", "RIGHT"], shape=[(2, 3), (1,), ()], constant=[False, True])
def bit_shift(c, direction, shape, constant):
    amounts = c.random.integers(0, 8, shape).astype(np.uint8)
    c.op("BitShift", [c.input(c.numbers((2, 3), "u8", 0, 256)), c.operand(amounts, constant)], direction=direction)


@family(axis=[None, 0, 1, -1], condition=[(True, False), (False, True, True)], elem=["f32", "i32"])
def compress(c, axis, condition, elem):
    c.op("Compress", [c.input(c.numbers((3, 4), elem)), c.constant(np.array(condition))], axis=axis)


@family(shape=[(10, 7, 9), (12, 3, 4)], asked=[(5, 9), (8, 3), (12, 4)], axes=[(0, 1), (1, 2), (-1, 0)])
def center_crop_pad(c, shape, asked, axes):
    c.opset = 18
    c.op("CenterCropPad", [c.input(c.reals(*shape)), c.constant(np.array(asked))], axes=axes)


@family(shape=[(2, 3), (1, 2, 3)], pads=[1, 2], elem=["f32", "i64"])
def pad_computed(c, shape, pads, elem):
    names = [c.input(c.numbers(shape, elem)), c.constant(np.full(2 * len(shape), pads)), c.input(c.numbers((), elem))]
    c.op("Pad", names)


# Operators of ONNX Runtime and of classical machine learning.

@family(causal=[0, 1], mask=[False, True], scale=[None, 0.3], added=[False, True])
def fused_attention(c, causal, mask, scale, added):
    batch, steps, width = 2, 4, 6
    names = [c.input(c.reals(batch, steps, width))]
    names += [c.constant(c.reals(width, 3 * width)), c.constant(c.reals(3 * width))]
    visible = c.input(np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)) if mask else ""
    names += [visible, "", c.input(c.reals(batch, 3, steps, steps)) if added else ""]
    c.op("Attention", names, domain="com.microsoft", elements=["f32"], num_heads=3, unidirectional=causal, scale=scale)


@family(bias=[False, True], mask=[False, True], added=[False, True], past=[False, True], causal=[0, 1])
def multi_head_attention(c, bias, mask, added, past, causal):
    batch, steps, width, heads = 2, 3, 8, 2
    names = [c.input(c.reals(batch, steps, width)) for _ in range(3)]
    keys = steps + 2 * past
    names.append(c.constant(c.reals(3 * width)) if bias else "")
    visible = c.random.integers(0, 2, (batch, keys)).astype(np.int32) | np.eye(1, keys, dtype=np.int32)
    names.append(c.input(visible) if mask else "")
    names.append(c.input(c.reals(1, heads, steps, keys)) if added else "")
    if past:
        names += [c.input(c.reals(batch, heads, 2, width // heads)) for _ in range(2)]
    c.op("MultiHeadAttention", names, 3 if past else 1, ["f32"] * (3 if past else 1), domain="com.microsoft",
         num_heads=heads, unidirectional=causal)


@family(segments=[False, True], mask=[False, True], outputs=[2, 3])
def embed_layer_normalization(c, segments, mask, outputs):
    batch, steps, width = 2, 3, 8
    words = c.input(c.random.integers(0, 5, (batch, steps)).astype(np.int32))
    names = [words, c.input(c.random.integers(0, 2, (batch, steps)).astype(np.int32)) if segments else ""]
    names += [c.constant(c.reals(5, width)), c.constant(c.reals(4, width))]
    names += [c.constant(c.reals(2, width)) if segments else "", c.constant(c.reals(width)), c.constant(c.reals(width))]
    names.append(c.input(np.array([[1, 1, 0], [1, 1, 1]], np.int32)) if mask else "")
    c.op("EmbedLayerNormalization", names, outputs, ["f32", "i32", "f32"][:outputs], domain="com.microsoft")


@family(interleaved=[0, 1], flat=[False, True], single=[False, True])
def fused_rotary_embedding(c, interleaved, flat, single):
    batch, heads, steps, depth = 2, 2, 3, 4
    x = c.input(c.reals(*((batch, steps, heads * depth) if flat else (batch, heads, steps, depth))))
    places = np.array([2]) if single else c.random.integers(0, 6, (batch, steps))
    tables = [c.constant(c.reals(6, depth // 2)), c.constant(c.reals(6, depth // 2))]
    c.op("RotaryEmbedding", [x, c.input(places), *tables], elements=["f32"], domain="com.microsoft",
         interleaved=interleaved)


@family(kind=["Scaler", "Normalizer", "LinearRegressor", "LinearClassifier"], norm=["MAX", "L1", "L2"],
        transform=["NONE", "SOFTMAX", "LOGISTIC"], labels=[[0, 1, 2], [7, 3, 5]])
def classical(c, kind, norm, transform, labels):
    x = [c.input(c.reals(3, 4))]
    ml = {"domain": "ai.onnx.ml"}
    floats = lambda n: [float(v) for v in c.reals(n)]
    if kind == "Scaler":
        c.op(kind, x, elements=["f32"], offset=floats(4), scale=floats(4), **ml)
    elif kind == "Normalizer":
        c.op(kind, x, elements=["f32"], norm=norm, **ml)
    elif kind == "LinearRegressor":
        c.op(kind, x, elements=["f32"], coefficients=floats(8), intercepts=floats(2), targets=2, **ml)
    else:
        c.op(kind, x, 2, ["i64", "f32"], coefficients=floats(12), intercepts=floats(3), classlabels_ints=labels,
             post_transform=transform, **ml)


def forest(c, trees, mode, leaf_name, results, positive=False):
    """Attributes of random trees of three features. `results` gives the targets that the leaves of a tree contribute to."""
    nodes = {key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    leaves = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}

    def grow(tree, depth):
        place = len(nodes["treeids"])
        node = nodes["treeids"].count(tree)
        leaf = depth == 0 or depth < 3 and c.random.integers(0, 3) == 0
        for key, value in zip(nodes, (tree, node, int(c.random.integers(0, 3)), float(c.reals(1)[0]),
                                      "LEAF" if leaf else mode, 0, 0)):
            nodes[key].append(value)
        if leaf:
            for result in results(tree):
                weight = float(c.reals(1)[0])
                for key, value in zip(leaves, (tree, node, result, abs(weight) if positive else weight)):
                    leaves[key].append(value)
        else:
            nodes["truenodeids"][place] = grow(tree, depth - 1)
            nodes["falsenodeids"][place] = grow(tree, depth - 1)
        return node

    for tree in range(trees):
        grow(tree, 3)
    attributes = {f"nodes_{key}": value for key, value in nodes.items()}
    return attributes | {f"{leaf_name}_{key}": value for key, value in leaves.items()} | {"domain": "ai.onnx.ml"}


@family(mode=["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT"], classes=[False, True], trees=[1, 3],
        transform=["NONE", "SOFTMAX"], missing=[0, 1], combined=["SUM", "AVERAGE"])
def trees(c, mode, classes, trees, transform, missing, combined):
    x = c.reals(6, 3)
    x[0, 0] = np.nan
    attributes = forest(c, trees, mode, "class" if classes else "target", lambda tree: [tree] if trees == 3 else range(3))
    attributes["nodes_missing_value_tracks_true"] = [missing] * len(attributes["nodes_treeids"])
    attributes |= {"base_values": [0.5, 0.1, -0.2], "post_transform": transform}
    if classes:
        c.op("TreeEnsembleClassifier", [c.input(x)], 2, ["i64", "f32"], classlabels_int64s=[4, 2, 9], **attributes)
    else:
        c.op("TreeEnsembleRegressor", [c.input(x)], elements=["f32"], n_targets=3, aggregate_function=combined,
             **attributes)


@family(scored=[[0], [1], [0, 1], None], positive=[False, True], trees=[1, 3], base=[False, True],
        transform=["NONE", "SOFTMAX", "LOGISTIC"])
def two_classes(c, scored, positive, trees, base, transform):
    """Scores of one class or both; `None` stands for a linear classifier with one score."""
    x, result = c.reals(8, 3), {"post_transform": transform}
    if scored is None:
        c.op("LinearClassifier", [c.input(x)], 2, ["i64", "f32"], coefficients=[float(v) for v in c.reals(3)],
             intercepts=[0.2], classlabels_ints=[7, 3], domain="ai.onnx.ml", **result)
        return
    attributes = forest(c, trees, "BRANCH_LEQ", "class", lambda tree: scored, positive)
    if base and scored == [0]:
        result["base_values"] = [0.15]
    labels = [0, 1] if len(scored) == 2 else [7, 3]
    c.op("TreeEnsembleClassifier", [c.input(x)], 2, ["i64", "f32"], classlabels_int64s=labels, **attributes, **result)


@family(kind=["ArrayFeatureExtractor", "Binarizer", "FeatureVectorizer", "Imputer", "OneHotEncoder", "LabelEncoder"],
        elem=["f32", "i64"], value=["f32", "i64"], several=[False, True])
def columns(c, kind, elem, value, several):
    ml, width = {"domain": "ai.onnx.ml"}, 3
    x = c.numbers((4, width), elem, -2, 3)
    numbers = lambda elem, values: [(float if elem == "f32" else int)(v) for v in values]
    named = {"f32": "floats", "i64": "int64s"}
    if kind == "ArrayFeatureExtractor":
        x = x[0] if several else x
        c.op(kind, [c.input(x), c.operand(np.array([2, 0, 2, 1]), value == "f32")], elements=[elem], **ml)
    elif kind == "Binarizer":
        c.op(kind, [c.input(c.reals(4, width))], elements=["f32"], threshold=0.25 if several else None, **ml)
    elif kind == "FeatureVectorizer":
        parts = [c.input(x), c.input(c.numbers((4, 2), elem))][:2 if several else 1]
        c.op(kind, parts, elements=["f32"], inputdimensions=[3, 2][:len(parts)], **ml)
    elif kind == "Imputer":
        missing = np.nan if value == "f32" else -2.0
        x[1, 2], x[3, 0] = (missing, missing) if elem == "f32" else (-2, -2)
        imputed = numbers(elem, [5, -7, 2][:width if several else 1])
        replaced = {"replaced_value_float": missing} if elem == "f32" else {"replaced_value_int64": -2}
        key = "imputed_value_floats" if elem == "f32" else "imputed_value_int64s"
        c.op(kind, [c.input(x)], elements=[elem], **{key: imputed}, **replaced, **ml)
    elif kind == "OneHotEncoder":
        c.op(kind, [c.input(c.integers((4, width) if several else (5,), "i64", 0, 4).astype(ELEMENTS[elem]))],
             elements=["f32"], cats_int64s=[2, 0, 3], zeros=1, **ml)
    else:
        x = c.integers((4, width), "i64", -2, 4).astype(ELEMENTS[elem])
        default = {f"default_{'float' if value == 'f32' else 'int64'}": 9} if several else {}
        default = {k: float(v) if value == "f32" else v for k, v in default.items()}
        c.op(kind, [c.input(x)], elements=[value], **{f"keys_{named[elem]}": numbers(elem, [2, -1, 0])},
             **{f"values_{named[value]}": numbers(value, [7, 4, -3])}, **default, **ml)


@family(kernel=["LINEAR", "POLY", "RBF", "SIGMOID"], kind=["regressor", "one class", 2, 3, 4], transform=["NONE", "SOFTMAX"])
def support_vectors(c, kernel, kind, transform):
    x, width, supports = [c.input(c.reals(6, 3))], 3, 8
    floats = lambda n: [float(v) for v in c.reals(n)]
    given = {"kernel_type": kernel, "kernel_params": [0.4, 0.3, 3.0], "support_vectors": floats(supports * width),
             "domain": "ai.onnx.ml"}
    if isinstance(kind, str):
        c.op("SVMRegressor", x, elements=["f32"], n_supports=supports, coefficients=floats(supports), rho=[0.2],
             one_class=int(kind == "one class"), **given)
        return
    per_class = [3, 5] if kind == 2 else [1, 4, 3] if kind == 3 else [2, 1, 3, 2]
    c.op("SVMClassifier", x, 2, ["i64", "f32"], classlabels_ints=[4, 2, 9, 0][:kind], vectors_per_class=per_class,
         coefficients=floats((kind - 1) * supports), rho=floats(kind * (kind - 1) // 2), post_transform=transform, **given)


@family(elem=["f32", "i64", "i32"], sorted=[0, 1], outputs=[1, 2, 3, 4], axis=[None, 0], shape=[(9,), (3, 4), (1,)])
def unique(c, elem, sorted, outputs, axis, shape):
    if axis is not None and len(shape) > 1:
        return False
    x = c.integers(shape, "i64", -2, 3).astype(ELEMENTS[elem])
    c.op("Unique", [c.input(x)], outputs, [elem, "i64", "i64", "i64"][:outputs], sorted=sorted, axis=axis)


# Control flow.

def body(name, nodes, inputs, outputs, constants=()):
    """A nested graph; inputs and outputs are pairs of name and element type, and the shape where that is needed."""
    typed = lambda value: helper.make_tensor_value_info(*value, *[None] * (3 - len(value)))
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    return helper.make_graph(nodes, name, [typed(i) for i in inputs], [typed(o) for o in outputs], constants)


@family(
    elem=["f32", "i64", "i32", "bool"],
    shape=[(), (3,), (2, 3), (1, 2, 3, 2)],
    holds=[False, True],
    vector=[False, True],
    nested=[False, True],
)
def if_(c, elem, shape, holds, vector, nested):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(ELEMENTS[elem]))
    a, b = c.input(c.numbers(shape, elem)), c.input(c.numbers(shape, elem))
    flag = c.input(np.full((1,) if vector else (), holds, bool))
    # Both branches use the same names.
    op = "And" if elem == "bool" else "Add"
    then = [helper.make_node(op, [a, b], ["t"], name="n"), helper.make_node("Identity", ["t"], ["r"], name="m")]
    other = [helper.make_node("Identity", [b], ["t"], name="n"), helper.make_node("Identity", ["t"], ["r"], name="m")]
    then, other = body("then", then, [], [("r", kind)]), body("else", other, [], [("r", kind)])
    if nested:
        inner = helper.make_node("If", [flag], ["r"], name="inner", then_branch=other, else_branch=then)
        other = body("outer", [inner], [], [("r", kind)])
    c.op("If", [flag], then_branch=then, else_branch=other)


@family(
    trips=[0, 1, 3, None],
    start=[None, False, True, "input"],
    stop=["never", "constant", "data"],
    stacked=[False, True],
    values=[(0.0,), (1.5, 1.0)],
)
def loop(c, trips, start, stop, stacked, values):
    if (trips is None or stacked) and (stop == "data" or start == "input"):
        return False
    if trips is None and stop == "never" or stacked and (trips == 0 or start is False):
        return False
    x = c.input(np.array(values, np.float32))
    flag = "" if start is None else c.operand(np.array(start is not False), start != "input")
    count = "" if trips is None else c.constant(np.array(trips, np.int64))
    nodes = [helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
             helper.make_node("Add", ["v", "f"], ["w"], name="add"),
             helper.make_node("Mul", ["w", "two"], ["u"], name="mul")]
    stops = {"never": helper.make_node("Identity", ["go"], ["more"]),
             "constant": helper.make_node("Less", ["i", "one"], ["more"]),
             "data": helper.make_node("Less", ["least", "five"], ["more"])}
    if stop == "data":
        nodes.append(helper.make_node("ReduceMax", ["u"], ["least"], keepdims=0))
    nodes.append(stops[stop])
    kinds = TensorProto.BOOL, TensorProto.FLOAT
    outputs = [("more", kinds[0]), ("u", kinds[1])] + ([("w", kinds[1])] if stacked else [])
    constants = [("two", np.float32(2)), ("one", np.int64(1)), ("five", np.float32(5))]
    inputs = [("i", TensorProto.INT64, ()), ("go", kinds[0], ()), ("v", kinds[1])]
    graph = body("body", nodes, inputs, outputs, constants)
    c.op("Loop", [count, flag, x], 2 if stacked else 1, body=graph)


@family(
    axis=[0, 1, -1],
    out_axis=[0, 1, -1],
    backward=[0, 1],
    out_backward=[0, 1],
    length=[1, 3],
)
def scan(c, axis, out_axis, backward, out_backward, length):
    shape = [2, 4, 3]
    shape[axis] = length
    one = [n for i, n in enumerate(shape) if i != axis % 3]
    x, state, bias = c.input(c.reals(*shape)), c.input(c.reals(*one)), c.input(c.reals(1))
    nodes = [helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Mul", ["t", bias], ["r"])]
    kind = TensorProto.FLOAT
    graph = body("body", nodes, [("s", kind), ("e", kind)], [("t", kind), ("r", kind)])
    c.op("Scan", [state, x], 2, body=graph, num_scan_inputs=1, scan_input_axes=[axis], scan_output_axes=[out_axis],
         scan_input_directions=[backward], scan_output_directions=[out_backward])


def main(folder, limit):
    folder.mkdir(parents=True, exist_ok=True)

    def cases(store):
        for name, (make, axes) in FAMILIES.items():
            count = 0
            for place, choice in drawn(name, axes, limit):
                case = Case([place, *name.encode()])
                if make(case, **choice) is False:
                    continue
                try:
                    model = case.model()
                    expected = reference(model, case.inputs)
                except Exception:
                    continue
                count += 1
                values = [store.tensor(v) for v in case.inputs.values()]
                if None in values or None in (results := [store.tensor(v) for v in expected]):
                    continue
                yield f"{name}_{place}", model, [[values, results]], {"rtol": 1e-4, "atol": 1e-5}
            assert count, f"ONNX Runtime runs none of {name}"

    write(folder, "sweep", cases)


main(pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else LIMIT)

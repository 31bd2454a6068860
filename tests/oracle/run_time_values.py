"""Models in which an operator takes shapes, positions or axes from graph inputs, compiled once and run with several values.

Argument: a folder, and names of models, else all. The program is $QCC. The artefacts are compared with the model in the
runtimes. Prints a line for each artefact; fails where a result differs."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes import TARGETS, LiteRt, OpenVino, Ort

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
X = np.random.default_rng(5).standard_normal((3, 4, 5)).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def scalar(value):
    return np.array(value, np.int64)


def boxes(count, images=1, classes=1, seed=0):
    """Boxes by two corners in any order, some of them almost equal or without an area, and scores."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 1, (images, count, 2))
    sizes = random.uniform(0, 0.5, (images, count, 2))
    sizes[:, ::7] = 0
    both = np.concatenate([corners, corners + sizes], 2)
    both[:, 1::3] = both[:, (np.arange(1, count, 3) + 1) % count] + 0.01
    both[:, ::5] = both[:, ::5, [2, 3, 0, 1]]
    scores = random.uniform(0, 1, (images, classes, count))
    return both.astype(np.float32), scores.astype(np.float32)


def branch(kind, inputs, **attributes):
    node = helper.make_node(kind, inputs.split(), ["y"], **attributes)
    return helper.make_graph([node], "branch", [], [helper.make_empty_tensor_value_info("y")])


def body(nodes, carried, rows=(), again="Identity running", of=""):
    """The body of a loop. Its inputs are i, running and x, after the prefix `of`; its first output is whether there is another
    iteration."""
    made = [helper.make_node(kind, inputs.split(" "), [result], **attributes) for kind, inputs, result, attributes in nodes]
    kind, *operands = again.split()
    made.append(helper.make_node(kind, [of + name if again.startswith("Identity") else name for name in operands], [of + "again"]))
    info, float32 = helper.make_tensor_value_info, TensorProto.FLOAT
    inputs = [info(of + "i", TensorProto.INT64, []), info(of + "running", TensorProto.BOOL, []), info(of + "x", float32, X.shape)]
    outputs = [helper.make_empty_tensor_value_info(name) for name in (of + "again", carried, *rows)]
    return helper.make_graph(made, "body", inputs, outputs)


TURN = [("MatMul", "x w", "p", {}), ("Tanh", "p", "x1", {})]
ADDED = body([("Add", "x0 inner_x", "x2", {}), ("Identity", "x2", "x3", {})], "x3", of="inner_")
W = (np.random.default_rng(6).standard_normal((5, 5)) * 0.3).astype(np.float32)


# For each model: its nodes, its constants, and the inputs of several runs. Where an operator follows Relu, its memory is not
# that of an input.
MODELS = {
    "non_zero": ([("NonZero", "x", {})], {}, [[X], [X.clip(0)], [X.clip(0.9)]]),
    "rows_of_non_zero": ([("NonZero", "x", {}), ("Transpose", "v0", {}), ("GatherND", "x v1", {}), ("Relu", "v2", {})], {},
                         [[X], [X.clip(0)], [X.clip(0.9)]]),
    "slice": ([("Relu", "x", {}), ("Slice", "v0 s e", {}), ("Mul", "v1 v1", {})], {},
              [[X, i64(0, 1), i64(2, 4)], [X, i64(-2, 0), i64(3, -1)], [X, i64(1, -99), i64(99, 2**31 - 1)]]),
    "slice_end": ([("Slice", "x c e c t", {})], {"c": i64(1), "t": i64(2)}, [[X, i64(4)], [X, i64(2)], [X, i64(-1)]]),
    "slice_backwards": ([("Slice", "x s c a t", {})], {"c": i64(-99), "a": i64(2), "t": i64(-2)},
                        [[X, i64(4)], [X, i64(-2)], [X, i64(99)]]),
    "reshape": ([("Relu", "x", {}), ("Reshape", "v0 s", {}), ("Add", "v1 v1", {})], {},
                [[X, i64(12, 5)], [X, i64(-1, 4)], [X, i64(0, -1)], [X, i64(0, 20)]]),
    "reshape_in_part": ([("Concat", "n c", {"axis": 0}), ("Reshape", "x v0", {}), ("Softmax", "v1", {"axis": -1})],
                        {"c": i64(-1, 5)}, [[i64(3), X], [i64(2), X], [i64(12), X]]),
    "expand": ([("Relu", "x", {}), ("Expand", "v0 s", {})], {},
               [[X, i64(1, 1, 1)], [X, i64(2, 1, 4, 5)[1:]], [X, i64(3, 4, 1)]]),
    "expand_ones": ([("Expand", "x s", {}), ("Neg", "v0", {})], {},
                    [[X[:1, :, :1], i64(2, 4, 3)], [X[:1, :, :1], i64(5, 1, 1)]]),
    "fill": ([("ConstantOfShape", "s", {}), ("Add", "v0 x", {})], {}, [[i64(2, 1, 5), X[0]], [i64(4, 4, 1), X[0]]]),
    "range": ([("Range", "a b d", {})], {},
              [[scalar(0), scalar(7), scalar(2)], [scalar(5), scalar(-6), scalar(-3)], [scalar(0), scalar(7), scalar(0)]]),
    "range_of_floats": ([("Range", "a b d", {})], {},
                        [[np.float32(v) for v in (0, 2.4, 0.5)], [np.float32(v) for v in (1, -3, -0.75)]]),
    "tile": ([("Relu", "x", {}), ("Tile", "v0 r", {})], {}, [[X, i64(1, 2, 1)], [X, i64(3, 1, 2)]]),
    "pad": ([("Relu", "x", {}), ("Pad", "v0 p", {})], {}, [[X, i64(0, 1, 2, 3, 1, 0)], [X, i64(1, 1, 1, 0, 2, 1)]]),
    "split": ([("Split", "x s", {"axis": 1}, 2), ("Concat", "v0_1 v0_0", {"axis": 1})], {}, [[X, i64(1, 3)], [X, i64(3, 1)]]),
    "top_k": ([("TopK", "x k", {"axis": 2}, 2), ("Cast", "v0_1", {"to": 1}), ("Add", "v0_0 v1", {})], {},
              [[X, i64(2)], [X, i64(5)], [X, i64(1)]]),
    "one_hot": ([("OneHot", "i d c", {"axis": 0})], {"c": np.float32([0, 2])},
                [[i64(0, 2, -1), scalar(4)], [i64(1, 2, -3), scalar(3)]]),
    "cum_sum": ([("CumSum", "x a", {"exclusive": 1})], {}, [[X, scalar(0)], [X, scalar(2)], [X, scalar(-2)]]),
    "unsqueeze": ([("Unsqueeze", "x a", {}), ("Sigmoid", "v0", {})], {}, [[X, i64(0, 2)], [X, i64(1, 4)], [X, i64(-1, 0)]]),
    "squeeze": ([("Unsqueeze", "x a", {}), ("Squeeze", "v0 a", {})], {}, [[X, i64(0, 2)], [X, i64(1, 4)], [X, i64(-1, 0)]]),
    "branches": ([("Relu", "x", {}), ("Cast", "i", {"to": TensorProto.BOOL}),
                  ("If", "v1", {"then_branch": branch("Identity", "v0"),
                                "else_branch": branch("Concat", "v0 v0", axis=1)}), ("Neg", "v2", {})], {},
                 [[X, scalar(1)], [X, scalar(0)], [X, scalar(1)]]),
    "boxes": ([("Sigmoid", "s", {}), ("NonMaxSuppression", "b v0 m o t", {}), ("Neg", "v1", {})],
              {"m": i64(9), "o": np.float32([0.4]), "t": np.float32([0.55])},
              [[boxes(30, seed=i)[1] * i, boxes(30, seed=i)[0]] for i in range(4)]),
    "boxes_of_classes": ([("NonMaxSuppression", "b s m o t", {})],
                         {"m": i64(5), "o": np.float32([0.5]), "t": np.float32([0.3])},
                         [boxes(40, 2, 3, seed=i) for i in range(1, 4)]),
    "boxes_by_centre": ([("NonMaxSuppression", "b s m o", {"center_point_box": 1})], {"m": i64(2**40), "o": np.float32([0.3])},
                        [boxes(20, 1, 2, seed=i) for i in range(3)]),
    "boxes_found": ([("NonMaxSuppression", "b s m o t", {}), ("Slice", "v0 c2 c3 c1", {}), ("Squeeze", "v1 c1", {}),
                     ("Squeeze", "b c0", {}), ("Gather", "v3 v2", {"axis": 0}), ("Mul", "v4 v4", {})],
                    {"m": i64(8), "o": np.float32([0.4]), "t": np.float32([0.5]), "c0": i64(0), "c1": i64(1), "c2": i64(2),
                     "c3": i64(3)}, [boxes(30, seed=i) for i in range(3)]),
    "resize": ([("Resize", "x c c s", {"mode": "linear", "axes": [2, 3]})], {"c": np.float32([])},
               [[X[None], i64(8, 10)], [X[None], i64(3, 4)]]),
    "loop": ([("Relu", "x", {}), ("Loop", "m e v0", {"body": body(TURN, "x1")}), ("Neg", "v1", {})], {"w": W},
             [[X, scalar(3)], [X, scalar(0)], [X, scalar(12)]]),
    "while": ([("Loop", "e t x", {"body": body([*TURN, ("ReduceMax", "x1", "s", {"keepdims": 0})], "x1", again="Less k s")})],
              {"w": W, "t": np.array(True), "k": np.float32(0.2)}, [[X], [X * 0.01], [X * 0]]),
    "loop_rows": ([("Loop", "m e x", {"body": body([*TURN, ("Cast", "i", "n", {"to": 1}), ("Add", "x1 n", "r", {})], "x1", ["r"])}, 2),
                   ("ReduceSum", "v0_1", {"keepdims": 0}), ("Add", "v0_0 v1", {})], {"w": W},
                  [[scalar(3), X], [scalar(0), X], [scalar(7), X]]),
    "loop_in_loop": ([("Loop", "m e x", {"body": body([("Identity", "x", "x0", {}), ("Loop", "i  x0", "x1", {"body": ADDED})], "x1")})],
                     {}, [[i64(4), X], [i64(1), X], [i64(0), X]]),
    "resize_all": ([("Resize", "x c c s", {"mode": "nearest"})], {"c": np.float32([])},
                   [[X[None], i64(1, 3, 8, 10)], [X[None], i64(2, 2, 3, 7)], [X[None], i64(1, 6, 4, 5)]]),
    "resize_corners": ([("Relu", "x", {}), ("Resize", "v0 c c s", {
        "mode": "linear", "coordinate_transformation_mode": "align_corners"})], {"c": np.float32([])},
                       [[X, i64(3, 8, 10)], [X, i64(3, 3, 1)], [X, i64(5, 2, 4)]]),
    "resize_scales": ([("Resize", "x c k", {"mode": "linear"})], {"c": np.float32([])},
                      [[X[None], np.float32([1, 1, 1.7, 0.6])], [X[None], np.float32([1, 1, 2, 1.3])]]),
    "resize_nearest": ([("Resize", "x c k", {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"})],
                       {"c": np.float32([])},
                       [[X[None], np.float32([2, 1, 1.7, 0.6])], [X[None], np.float32([1, 2, 3, 0.55])]]),
}
ELEMENTS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


def model(nodes, constants, runs):
    made = []
    for i, (kind, inputs, attributes, *count) in enumerate(nodes):
        names = [f"v{i}_{j}" for j in range(count[0])] if count else [f"v{i}"]
        omitted = {"Resize": "c", "Loop": "e"}.get(kind)
        inputs = ["" if name == omitted else name for name in inputs.split()]
        made.append(helper.make_node(kind, inputs, names, name=f"n{i}", **attributes))
    results = {name for node in made for name in node.output}
    read = list(dict.fromkeys(name for node in made for name in node.input))
    free = [name for name in read if name and name not in results and name not in constants]
    feeds = [dict(zip(free, map(np.asarray, run))) for run in runs]
    inputs = [helper.make_tensor_value_info(n, ELEMENTS[v.dtype], v.shape) for n, v in feeds[0].items()]
    outputs = [helper.make_empty_tensor_value_info(made[-1].output[0])]
    graph = helper.make_graph(made, "values", inputs, outputs, [numpy_helper.from_array(v, n) for n, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), feeds


def difference(want, found):
    """Where results differ, or nothing. TFLite has images with the channels last."""
    found = found.transpose(0, 3, 1, 2) if want.ndim == 4 and want.shape != found.shape else found
    if want.shape != found.shape:
        return f"a result of {found.shape} where {want.shape} is expected"
    return "" if np.allclose(want, found, rtol=1e-4, atol=1e-5) else f"{found} where {want} is expected"


def expected(truth, feed):
    """The result of the model; nothing where it fails (a range by steps of 0), which no artefact may crash on."""
    try:
        return truth.run(feed)[0]
    except Exception:
        return np.zeros(0)


def main():
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(MODELS)
    failed = []
    for name in names:
        made, feeds = model(*MODELS[name])
        source = folder / f"{name}.onnx"
        onnx.save(made, source)
        for target, runtime in RUNTIMES.items():
            artefact = folder / f"{name}_{target}{TARGETS[target]}"
            done = subprocess.run([os.environ["QCC"], source, "--to", target, "-q", "-o", artefact], capture_output=True, text=True)
            try:
                if done.returncode:
                    raise ValueError(done.stderr)
                compiled, truth = runtime(artefact), Ort(source)
                for feed in feeds:
                    if different := difference(expected(truth, feed), compiled.run(feed)[0]):
                        raise ValueError(f"{[str(v) for v in feed.values() if v.ndim < 2]}: {different}")
                print(f"{name:18} {target:8} {len(feeds)} runs")
            except Exception as e:
                failed.append(f"{name} {target}: {e}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()

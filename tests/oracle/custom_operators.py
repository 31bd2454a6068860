"""Custom TFLite operators of a known meaning, as sources.

Argument: a folder. The program is $QCC. Writes models of one operator each, compiles them to every target and compares the
artefacts in the runtimes with what LiteRT makes of the model, or, where LiteRT has no kernel, with the definition below. Prints a
line for each. Fails where a result has less than 100 dB."""
import os, subprocess, sys
from pathlib import Path

import flatbuffers, numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from runtimes import TARGETS, LiteRt, OpenVino, Ort, sqnr, turned

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}
LEAST = 100
LANDMARKS = {
    "left_rotation_idx": 1, "right_rotation_idx": 4, "target_rotation_radians": 0.3, "subset_idxs": [0, 2, 3, 5, 7],
    "scale_x": 1.5, "scale_y": 1.25, "output_height": 5, "output_width": 6,
}  # fmt: skip


def integers(*fields):
    return np.array(fields, np.int32).tobytes()


def model(code, version, options, inputs, results, constants):
    """A model of one operator: inputs and results by name and shape; constants are its last operands."""
    m = schema.ModelT()
    m.version, m.subgraphs, m.buffers = 3, [schema.SubGraphT()], [schema.BufferT()]
    m.operatorCodes = [schema.OperatorCodeT()]
    m.operatorCodes[0].builtinCode = m.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    m.operatorCodes[0].customCode, m.operatorCodes[0].version = code, version
    graph, operator = m.subgraphs[0], schema.OperatorT()
    graph.tensors, graph.operators = [], [operator]

    def tensor(name, shape, data=None):
        t = schema.TensorT()
        t.name, t.shape, t.type = name, list(shape), schema.TensorType.FLOAT32
        if data is not None:
            m.buffers.append(schema.BufferT())
            m.buffers[-1].data, t.buffer = np.frombuffer(data.tobytes(), np.uint8), len(m.buffers) - 1
        graph.tensors.append(t)
        return len(graph.tensors) - 1

    graph.inputs = [tensor(name, shape) for name, shape in inputs.items()]
    operator.inputs = graph.inputs + [tensor(f"c{i}", c.shape, c) for i, c in enumerate(constants)]
    graph.outputs = operator.outputs = [tensor(name, shape) for name, shape in results.items()]
    operator.opcodeIndex = 0
    operator.customOptions = np.frombuffer(options, np.uint8) if options else None
    builder = flatbuffers.Builder(1024)
    builder.Finish(m.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def matrix_of(points):
    """The transformation that LANDMARKS says, of positions [1,n,3]."""
    o, xy = LANDMARKS, points[0, :, :2].astype(np.float64)
    dx, dy = xy[o["right_rotation_idx"]] - xy[o["left_rotation_idx"]]
    angle = o["target_rotation_radians"] - np.arctan2(dy, dx)
    turn = lambda a: np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    among = xy[o["subset_idxs"]] @ turn(angle).T
    low, high = among.min(0), among.max(0)
    size = np.array([o["output_width"], o["output_height"]])
    linear = turn(-angle) @ np.diag((high - low) * [o["scale_x"], o["scale_y"]] / size)
    matrix = np.eye(4)
    matrix[:2, :2] = linear
    matrix[:2, 3] = turn(-angle) @ ((low + high) / 2) - linear @ (size / 2)
    return matrix[None]


def moved(points, matrix):
    xy = points[0, :, :2] @ matrix[0, :2, :2].T + matrix[0, :2, 3]
    return np.concatenate([xy, points[0, :, 2:]], 1)[None]


def image_of(image, matrix, height=5, width=6):
    """What an image [1,h,w,c] has at the transformed pixels; 0 outside."""
    rows, columns = image.shape[1:3]
    found = np.zeros((1, height, width, image.shape[3]))
    for y in range(height):
        for x in range(width):
            at_x, at_y = matrix[0, :2, :2] @ [x + 0.5, y + 0.5] + matrix[0, :2, 3] - 0.5
            if 0 <= at_x <= columns - 1 and 0 <= at_y <= rows - 1:
                x0, y0 = min(int(at_x), columns - 2), min(int(at_y), rows - 2)
                fx, fy = at_x - x0, at_y - y0
                corners = image[0, y0 : y0 + 2, x0 : x0 + 2].astype(np.float64)
                found[0, y, x] = np.einsum("yxc,y,x->c", corners, [1 - fy, fy], [1 - fx, fx])
    return found


def pooled(image):
    """The largest elements of 2x2 windows, and the first place of each, plus a tenth."""
    n, h, w, c = image.shape
    windows = image.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, c, 4)
    return windows.max(4), windows.argmax(4) + 0.1


def unpooled(image, places):
    n, h, w, c = image.shape
    windows = np.where(np.arange(4) == places.astype(int)[..., None], image[..., None], 0)
    return windows.reshape(n, h, w, c, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * h, 2 * w, c)


def transposed(random, size, window, stride, padding, channels=3, outputs=4):
    h, w = size
    weight, bias = random.standard_normal((outputs, *window, channels)), random.standard_normal(outputs)
    lost = [max(0, k - (n - 1) % s - 1) if padding == 1 else 0 for k, n, s in zip(window, size, stride)]
    result = [s * (n - 1) + k - p for s, n, k, p in zip(stride, size, window, lost)]
    constants = [weight.astype(np.float32), bias.astype(np.float32)]
    options = integers(padding, stride[1], stride[0], 0, 0)
    shapes = {"x": (1, h, w, channels)}, {"y": (1, *result, outputs)}
    return ("Convolution2DTransposeBias", 1, options, *shapes, constants), None


def detector(random, most, of_box, classes, background=0, **others):
    """The last step of a detector: 40 boxes near anchors, those that overlap better ones left out."""
    options = {
        "max_detections": most, "max_classes_per_detection": of_box, "num_classes": classes, "nms_score_threshold": 0.2,
        "nms_iou_threshold": 0.3, "y_scale": 10.0, "x_scale": 8.0, "h_scale": 5.0, "w_scale": 4.0,
    } | others  # fmt: skip
    anchors = np.concatenate([random.uniform(0, 1, (40, 2)), random.uniform(0.2, 0.5, (40, 2))], 1)
    inputs, rows = {"offsets": (1, 40, 4), "scores": (1, 40, classes + background)}, most * of_box
    results = {"boxes": (1, rows, 4), "classes": (1, rows), "best": (1, rows), "number": (1,)}
    made = "TFLite_Detection_PostProcess", 1, flexbuffers.Dumps(options), inputs, results, [anchors.astype(np.float32)]
    return made, None


def with_meaning(made, results):
    """Results without the rows that LiteRT's kernel leaves unwritten: those behind the boxes of a detector."""
    results = dict(zip(made[4], results))
    if "number" in results:
        of_box = made[4]["best"][1] // flexbuffers.Loads(made[2])["max_detections"]
        rows = int(results["number"].item()) * of_box
        results |= {name: results[name][:, :rows] for name in ("boxes", "classes", "best")}
    return results


def models(random):
    yield "boxes", detector(random, 10, 1, 5, background=1)
    yield "boxes_many", detector(random, 64, 1, 3)
    yield "boxes_2", detector(random, 10, 2, 5)
    regular = {"use_regular_nms": True, "detections_per_class": 4}
    yield "boxes_regular", detector(random, 10, 1, 5, background=1, **regular)
    yield "boxes_all", detector(random, 64, 1, 3, **regular)
    for i, (size, window, stride, padding) in enumerate([
        ((4, 5), (2, 2), (2, 2), 1), ((4, 5), (3, 4), (2, 3), 1), ((5, 3), (3, 2), (1, 2), 2),
    ]):  # fmt: skip
        yield f"transposed_{i}", transposed(random, size, window, stride, padding)
    options, large, small = integers(1, 2, 2, 2, 2, 0, 0, 0, 0), (1, 6, 8, 5), (1, 3, 4, 5)
    yield "pool", (("MaxPoolingWithArgmax2D", 1, options, {"x": large}, {"y": small, "at": small}, []), pooled)
    yield "unpool", (("MaxUnpooling2D", 1, options, {"x": small, "at": small}, {"y": large}, []), unpooled)
    points, matrix = {"points": (1, 9, 3)}, {"matrix": (1, 4, 4)}
    options = flexbuffers.Dumps(LANDMARKS)
    yield "matrix", (("Landmarks2TransformMatrix", 2, options, points, matrix, []), matrix_of)
    for width in (2, 3):
        shape = (1, 9, width)
        yield f"points_{width}", (("TransformLandmarks", 2, b"", {"points": shape} | matrix, {"y": shape}, []), moved)
    options, shapes = flexbuffers.Dumps({"output_height": 5, "output_width": 6}), ({"x": (1, 7, 8, 3)} | matrix, {"y": (1, 5, 6, 3)})
    yield "image", (("TransformTensorBilinear", 2, options, *shapes, []), image_of)


def sample(inputs, random):
    def one(name, shape):
        if name == "at":
            return random.integers(0, 4, shape) + 0.1
        # Near the unit matrix, so that some pixels are inside the image and some are not.
        return random.standard_normal(shape) * (0.4 if name == "matrix" else 1) + (np.eye(4) if name == "matrix" else 0)
    return {name: one(name, shape).astype(np.float32) for name, shape in inputs.items()}


def main():
    folder, failed, random = Path(sys.argv[1]), [], np.random.default_rng(3)
    for name, (made, definition) in models(random):
        source = folder / f"{name}.tflite"
        source.write_bytes(model(*made))
        samples = [sample(made[3], random) for _ in range(4)]
        for target, suffix in TARGETS.items():
            artefact = folder / f"{name}_{target}{suffix}"
            command = [os.environ["QCC"], source, "--to", target, "-q", "-o", artefact]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                failed.append(f"{name} {target}: {done.stderr}")
                continue
            runtime, ratios = RUNTIMES[target](str(artefact)), []
            for feed in samples:
                wanted = definition(*feed.values()) if definition else LiteRt(source).run(feed)
                wanted = wanted if isinstance(wanted, (list, tuple)) else [wanted]
                found = dict(zip(runtime.names, runtime.run(feed)))
                found = [turned(found[name], list(made[4][name])) for name in made[4]]
                wanted, found = with_meaning(made, wanted), with_meaning(made, found)
                ratios += [sqnr(w, found[name]) if w.shape == found[name].shape else 0 for name, w in wanted.items()]
            print(f"{name:14} {target:8} {min(ratios):6.1f}", flush=True)
            failed += [f"{name} {target}: {min(ratios):.1f} dB"] if min(ratios) < LEAST else []
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()

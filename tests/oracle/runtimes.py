"""The runtimes of artefacts, for the scripts beside this one. Each runs samples: an array for each input by its name."""
import itertools, os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np, onnxruntime, openvino
from ai_edge_litert.interpreter import Interpreter

TARGETS = {"tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}


def orders(rank):
    """Permutations of axes, the usual ones first."""
    usual = {3: [(0, 1, 2), (0, 2, 1)], 4: [(0, 1, 2, 3), (0, 2, 3, 1), (0, 3, 1, 2)]}.get(rank, [tuple(range(rank))])
    return usual + [p for p in itertools.permutations(range(rank)) if p not in usual] if rank <= 5 else usual


def turned(array, shape):
    """The array with its axes in the order that the shape says; -1 stands for any extent."""
    for order in orders(array.ndim):
        found = [array.shape[axis] for axis in order]
        if len(found) == len(shape) and all(w in (-1, f) for w, f in zip(shape, found)):
            return array.transpose(order).copy()
    if array.size == np.prod(shape):
        return array.reshape(shape)
    raise ValueError(f"an array of {array.shape} where {shape} is expected")


def sqnr(wanted, found):
    """The ratio of signal to noise in dB: infinite where both are equal, least where a number is not finite."""
    wanted, found = wanted.astype(np.float64), found.astype(np.float64)
    noise = np.sum((wanted - found) ** 2)
    if not np.isfinite(noise):
        return -np.inf
    return 10 * np.log10(np.sum(wanted**2) / noise) if noise else np.inf


class Ort:
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = self.session.get_inputs()
        self.names = [o.name for o in self.session.get_outputs()]

    def run(self, sample):
        extents = lambda i: [d if isinstance(d, int) and d > 0 else -1 for d in i.shape]
        fed = {i.name: turned(sample[i.name], extents(i)) for i in self.inputs}
        return self.session.run(None, fed)


class LiteRt:
    def __init__(self, path):
        self.path = str(path)
        self.interpreter = Interpreter(model_path=self.path)
        self.interpreter.allocate_tensors()
        signed = {}
        if self.interpreter.get_signature_list():
            outputs = self.interpreter.get_signature_runner().get_output_details()
            signed = {detail["index"]: name for name, detail in outputs.items()}
        self.names = [signed.get(d["index"], d["name"]) for d in self.interpreter.get_output_details()]

    def run(self, sample):
        left, details = dict(sample), self.interpreter.get_input_details()
        arrays = []
        for detail in details:
            name = detail["name"] if detail["name"] in left else next(iter(left))
            arrays.append(turned(left.pop(name), [int(d) for d in detail["shape_signature"]]))
        if any(list(a.shape) != [int(n) for n in d["shape"]] for a, d in zip(arrays, details)):
            for array, detail in zip(arrays, details):
                self.interpreter.resize_tensor_input(detail["index"], array.shape)
            self.interpreter.allocate_tensors()
        for array, detail in zip(arrays, details):
            self.interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(d["index"]) for d in self.interpreter.get_output_details()]


class OpenVino:
    def __init__(self, path):
        core = openvino.Core()
        model = core.read_model(path)
        self.compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        # The compiled model's inputs and outputs have names of fused operations as well.
        self.inputs = [i.get_any_name() for i in model.inputs]
        self.names = [o.get_any_name() for o in model.outputs]

    def run(self, sample):
        fed = {}
        for name, port in zip(self.inputs, self.compiled.inputs):
            extents = [d.get_length() if d.is_static else -1 for d in port.get_partial_shape()]
            fed[name] = turned(sample[name], extents).astype(port.get_element_type().to_dtype())
        found = self.compiled(fed)
        return [found[port] for port in self.compiled.outputs]

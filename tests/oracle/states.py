"""Models that keep values from run to run, step by step in the runtimes.

Argument: a folder. The program is $QCC. Each model is compiled for every target whose runtime keeps values, with its states given
by `--state`, and run on a sequence, which the source gets step by step with its states as inputs and outputs. The artefacts are
then sources themselves: their states are inputs and outputs again. Prints a line for each artefact; fails where a result is not
that of the source."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, onnx, openvino
from onnx import TensorProto, helper, numpy_helper

from tflite_micro import runtime

from runtimes import TARGETS, LiteRt, Ort, sqnr, turned

STEPS = 6
LEAST = {"f32": 80, "f16": 40, "int8": 20}
OPTIONS = {"f32": [], "f16": ["--fp16"], "int8": ["--int8"]}


class Kept:
    """An artefact for OpenVINO: its states are those of one request."""

    def __init__(self, path):
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.request, self.names = compiled.create_infer_request(), [o.get_any_name() for o in compiled.outputs]

    def run(self, sample):
        found = self.request.infer(sample)
        return [found[o] for o in self.request.model_outputs]


class Micro:
    """An artefact for TensorFlow Lite for Microcontrollers."""

    def __init__(self, path):
        self.litert = LiteRt(path)
        self.names, self.micro = self.litert.names, runtime.Interpreter.from_file(str(path), arena_size=1 << 20)

    def run(self, sample):
        for i, detail in enumerate(self.litert.interpreter.get_input_details()):
            self.micro.set_input(turned(sample[detail["name"]], [int(n) for n in detail["shape"]]), i)
        self.micro.invoke()
        return [self.micro.get_output(i) for i in range(len(self.names))]


RUNTIMES = {"tflite": LiteRt, "tflm": Micro, "openvino": Kept}
# Microcontrollers compute no 16-bit floats.
LACKING = [("tflm", "f16")]


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def saved(path, nodes, inputs, outputs, constants):
    types = {"f": TensorProto.FLOAT}
    infos = lambda named: [helper.make_tensor_value_info(n, types[e], shape) for n, (e, shape) in named.items()]
    graph = helper.make_graph(nodes, path.stem, infos(inputs), infos(outputs), constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def recurrent(path, random):
    """A recurrent layer, one step for each run, with two states."""
    w = lambda *shape: (random.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
    constants = [constant("w", w(1, 64, 8)), constant("r", w(1, 64, 16)), constant("b", w(1, 128)), constant("v", w(16, 5))]
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["all", "h_next", "c_next"], hidden_size=16, name="lstm"),
             helper.make_node("MatMul", ["h_next", "v"], ["y"], name="out")]
    state = ("f", [1, 1, 16])
    saved(path, nodes, {"x": ("f", [1, 1, 8]), "h": state, "c": state},
          {"y": ("f", [1, 1, 5]), "h_next": state, "c_next": state}, constants)
    return {"h": "h_next", "c": "c_next"}, {"x": (1, 1, 8)}, {"h": (1, 1, 16), "c": (1, 1, 16)}


def window(path, random):
    """Convolutions over the last columns of a picture that grows, which are kept."""
    w = lambda *shape: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    constants = [constant("w", w(6, 3, 3, 3)), constant("b", w(6)), constant("v", w(4, 6, 1, 1)),
                 constant("from", np.array([2])), constant("to", np.array([1 << 30])), constant("axis", np.array([3]))]
    nodes = [helper.make_node("Concat", ["seen", "x"], ["all"], axis=3, name="all"),
             helper.make_node("Conv", ["all", "w", "b"], ["a"], pads=[1, 0, 1, 0], name="conv"),
             helper.make_node("Relu", ["a"], ["r"], name="relu"), helper.make_node("Conv", ["r", "v"], ["y"], name="out"),
             helper.make_node("Slice", ["all", "from", "to", "axis"], ["seen_next"], name="last")]
    seen = ("f", [1, 3, 8, 2])
    saved(path, nodes, {"x": ("f", [1, 3, 8, 2]), "seen": seen}, {"y": ("f", [1, 4, 8, 2]), "seen_next": seen}, constants)
    return {"seen": "seen_next"}, {"x": (1, 3, 8, 2)}, {"seen": (1, 3, 8, 2)}


def delay(path, random):
    """The input of the run before, seen as another shape, and that of the run before that."""
    nodes = [helper.make_node("Reshape", ["x", "flat"], ["last_next"], name="flat"),
             helper.make_node("Identity", ["last"], ["older_next"], name="older"),
             helper.make_node("Add", ["last_next", "last"], ["s"], name="sum"),
             helper.make_node("Mul", ["s", "older"], ["y"], name="product")]
    state = ("f", [1, 8])
    saved(path, nodes, {"x": ("f", [1, 2, 4]), "last": state, "older": state},
          {"y": state, "last_next": state, "older_next": state}, [constant("flat", np.array([1, 8]))])
    return {"last": "last_next", "older": "older_next"}, {"x": (1, 2, 4)}, {"last": (1, 8), "older": (1, 8)}


def attention(path, random):
    """Attention over all rows so far, of a batch of any size: the state grows from no row."""
    w = lambda *shape: (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
    constants = [constant(n, w(8, 8)) for n in "qkv"]
    nodes = [helper.make_node("MatMul", ["x", n], [f"x{n}"], name=n) for n in "qkv"]
    nodes += [helper.make_node("Concat", [f"past_{n}", f"x{n}"], [f"now_{n}"], axis=1, name=f"now_{n}") for n in "kv"]
    nodes += [helper.make_node("Transpose", ["now_k"], ["t"], perm=[0, 2, 1], name="turned"),
              helper.make_node("MatMul", ["xq", "t"], ["s"], name="scores"), helper.make_node("Softmax", ["s"], ["p"], name="p"),
              helper.make_node("MatMul", ["p", "now_v"], ["y"], name="out")]
    past = {f"past_{n}": ("f", ["b", "past", 8]) for n in "kv"}
    now = {f"now_{n}": ("f", ["b", "now", 8]) for n in "kv"}
    saved(path, nodes, {"x": ("f", ["b", 1, 8])} | past, {"y": ("f", ["b", 1, 8])} | now, constants)
    return {"past_k": "now_k", "past_v": "now_v"}, {"x": (2, 1, 8)}, {"past_k": (2, 0, 8), "past_v": (2, 0, 8)}


# An open extent of a state is not for TFLite.
MODELS = {recurrent: ["tflite", "tflm", "openvino"], window: ["tflite", "tflm", "openvino"], delay: ["tflite", "tflm", "openvino"],
          attention: ["openvino"]}


def stepped(runtime, states, steps, first):
    """The results of a model whose states are inputs and outputs, without those, and the samples that it got."""
    values, found, samples = dict(first), [], []
    for step in steps:
        sample = step | values
        samples.append(sample)
        named = dict(zip(runtime.names, runtime.run(sample)))
        values = {i: named.pop(o) for i, o in states.items()}
        found.append(named)
    return found, samples


def least(wanted, found):
    return min(sqnr(np.stack([w[n] for w in wanted]), np.stack([f[n] for f in found])) for n in wanted[0])


def compile(model, target, options, artefact):
    to = ["tflite", "--device", "tflm"] if target == "tflm" else [target]
    subprocess.run([os.environ["QCC"], model, "--to", *to, "-q", *options, "-o", artefact], check=True)


def main():
    folder, random, failed = Path(sys.argv[1]), np.random.default_rng(7), []
    for make, targets in MODELS.items():
        source = folder / f"{make.__name__}.onnx"
        states, inputs, first = make(source, random)
        steps = [{n: random.standard_normal(s).astype(np.float32) for n, s in inputs.items()} for _ in range(STEPS)]
        zeros = {n: np.zeros(s, np.float32) for n, s in first.items()}
        wanted, samples = stepped(Ort(source), states, steps, zeros)
        data = folder / make.__name__
        data.mkdir()
        for i, sample in enumerate(samples[1:]):
            np.savez(data / f"{i}.npz", **sample)
        for target in targets:
            for precision, options in OPTIONS.items():
                if (target, precision) in LACKING:
                    continue
                artefact = folder / f"{make.__name__}.{target}.{precision}{TARGETS.get(target, '.tflite')}"
                given = [w for i, o in states.items() for w in ("--state", f"{i}={o}")]
                compile(source, target, options + given + (["--data", data] if precision == "int8" else []), artefact)
                kept = RUNTIMES[target](artefact)
                found = [dict(zip(kept.names, kept.run(step))) for step in steps]
                found = [{n: turned(f[n], w[n].shape) for n in w} for f, w in zip(found, wanted)]
                ratio = least(wanted, found)
                again = folder / f"{artefact.stem}.again.onnx"
                compile(artefact, "onnx", [], again)
                back = Ort(again)
                names = {i.name for i in back.inputs}
                rest = sorted(set(back.names) - set(wanted[0]))
                print(f"{make.__name__:10} {target:9} {precision:5} {ratio:6.1f} dB; as a source: {sorted(names)} {rest}", flush=True)
                if ratio < LEAST[precision] or names != {*inputs, *states} or len(rest) != len(states):
                    failed.append(artefact.name)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()

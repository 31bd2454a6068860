"""Models with random results, whose samples are inputs of the artefacts, in the runtimes.

Argument: a folder. The program is $QCC. Prints a line for each artefact; fails where a result is not that of the samples."""
import os, subprocess, sys
from pathlib import Path

import numpy as np, onnx
from onnx import TensorProto, helper

from runtimes import TARGETS, LiteRt, OpenVino, Ort

RUNTIMES = {"tflite": LiteRt, "onnx": Ort, "openvino": OpenVino}


def categories(x, u):
    share = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    return (np.cumsum(share, 1)[:, None] <= u[:, :, None]).sum(2).clip(0, x.shape[1] - 1)


# For each model: the operator, its attributes, whether x is its operand, the shape of the samples, and the result.
MODELS = {
    "multinomial": ("Multinomial", {"sample_size": 200, "dtype": TensorProto.INT64}, True, (3, 200), categories),
    "bernoulli": ("Bernoulli", {}, True, (3, 5), lambda x, u: u < x),
    "uniform": ("RandomUniformLike", {"low": -1.0, "high": 3.0}, True, (3, 5), lambda x, u: 4 * u - 1),
    "normal": ("RandomNormal", {"shape": [3, 5], "mean": 1.0, "scale": 2.0}, False, (3, 5), lambda x, u: 2 * u + 1),
}


def main():
    folder, random = Path(sys.argv[1]), np.random.default_rng(3)
    for name, (kind, attributes, reads, shape, result) in MODELS.items():
        node = helper.make_node(kind, ["x"] if reads else [], ["y"], name="node", **attributes)
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])
        graph = helper.make_graph([node], name, [x] if reads else [], [helper.make_empty_tensor_value_info("y")])
        source = folder / f"{name}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), source)
        samples = "node_normal" if kind == "RandomNormal" else "node_uniform"
        for target, runtime in RUNTIMES.items():
            artefact = folder / f"{name}_{target}{TARGETS[target]}"
            command = [os.environ["QCC"], source, "--to", target, "-q", "--random", "input", "-o", artefact]
            subprocess.run(command, check=True)
            x, u = random.random((3, 5)).astype(np.float32), random.random(shape).astype(np.float32)
            found = runtime(artefact).run({"x": x, samples: u} if reads else {samples: u})[0]
            np.testing.assert_allclose(found.astype(np.float32), result(x, u).astype(np.float32), atol=1e-5)
            print(f"{name:12} {target}")


main()

"""Element types of inputs and outputs in the runtimes. Argument: a folder with float.tflite, and int8.tflite, int8.onnx and
int8.xml with their types in int8.json (inputs a and b, outputs y and z).

Prints for each int8 file the types that its runtime has, and whether the outputs are near those of the float model."""
import json, re, sys
from pathlib import Path

import numpy as np

from runtimes import LiteRt, OpenVino, Ort

KINDS = [("int8.tflite", LiteRt), ("int8.onnx", Ort), ("int8.xml", OpenVino)]
DTYPES = {"u8": np.uint8, "i8": np.int8}

folder = Path(sys.argv[1])
a, b = (np.random.default_rng(seed).random((1, 4, 4, 2), np.float32) for seed in (0, 1))
float_model = LiteRt(folder / "float.tflite")
truth = dict(zip(float_model.names, float_model.run({"a": a, "b": b})))
report = json.loads((folder / "int8.json").read_text())
for (name, runtime), artefact in zip(KINDS, report["artefacts"]):
    ports = {port["name"]: port["type"] for port in artefact["inputs"] + artefact["outputs"]}
    quantized = {port: re.match(r"(u8|i8)<([^:]+):([^>]+)>", kind) for port, kind in ports.items()}
    model = runtime(folder / name)

    def stored(port, array):
        found = quantized[port]
        if not found:
            return array
        low, high = (np.iinfo(DTYPES[found[1]]).min, np.iinfo(DTYPES[found[1]]).max)
        return np.clip(np.round(array / float(found[2])) + int(found[3]), low, high).astype(DTYPES[found[1]])

    def real(port, array):
        found = quantized[port]
        return (array.astype(np.float32) - int(found[3])) * float(found[2]) if found else array

    sample = {"a": stored("a", a), "b": stored("b", b)}
    outputs = dict(zip(model.names, model.run(sample)))
    near = all(np.abs(real(n, o) - truth[n]).max() < 0.05 * np.ptp(truth[n]) for n, o in outputs.items())
    types = {n: v.dtype for n, v in {**sample, **outputs}.items()}
    print(name, " ".join(f"{n}:{types[n]}" for n in ["a", "b", "y", "z"]), near)

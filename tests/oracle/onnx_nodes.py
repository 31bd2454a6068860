"""Writes the node tests of the ONNX standard where the Rust tests read them: python onnx_nodes.py FOLDER

onnx_nodes.bin  models and tensors, one after the other (tensors little-endian, row-major)
onnx_nodes.json for each test its name, tolerances, model and sets of inputs and outputs; [offset, length] in the .bin
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
from onnx.backend.test.loader import load_model_tests

ELEMENTS = {
    "bool": "bool", "int8": "i8", "uint8": "u8", "int16": "i16", "int32": "i32", "int64": "i64",
    "float16": "f16", "float32": "f32",
}
# Elements that qcc has no type for are written as a wider one that it has.
WIDER = {
    "int2": "int8", "uint2": "uint8", "int4": "int8", "uint4": "uint8", "uint16": "int32", "uint32": "int64",
    "uint64": "int64", "float64": "float32", "bfloat16": "float32",
}
# Rounding steps of the narrow floats: a result may differ by two of them where intermediate values are kept wider.
STEPS = {"float16": 2**-10, "bfloat16": 2**-7}


def array(value):
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


class Store:
    def __init__(self, file):
        self.file = file

    def put(self, data):
        offset = self.file.tell()
        self.file.write(data)
        return [offset, len(data)]

    def tensor(self, value):
        """A tensor, or None for what qcc cannot hold (strings, sequences, missing optionals)."""
        value = array(value)
        if not isinstance(value, (np.ndarray, np.generic)):
            return None
        value = np.asarray(value)
        value = value.astype(WIDER.get(value.dtype.name, value.dtype))
        if value.dtype.name not in ELEMENTS:
            return None
        data = np.ascontiguousarray(value).tobytes()
        return {"elem": ELEMENTS[value.dtype.name], "dims": list(value.shape), "at": self.put(data)}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    tests = []
    with open(folder / "onnx_nodes.bin", "wb") as file:
        store = Store(file)
        for case in sorted(load_model_tests(kind="node"), key=lambda case: case.name):
            sets = [[[store.tensor(v) for v in values] for values in data] for data in case.data_sets]
            outputs = [array(value) for _, outputs in case.data_sets for value in outputs]
            steps = [2 * STEPS.get(getattr(value, "dtype", np.dtype(bool)).name, 0) for value in outputs]
            model = store.put(case.model.SerializeToString())
            tolerances = {"rtol": max(case.rtol, *steps), "atol": case.atol}
            tests.append({"name": case.name, **tolerances, "model": model, "sets": sets})
    # Written last: where it stands, the folder is complete.
    with open(folder / "onnx_nodes.json", "w") as file:
        json.dump(tests, file)


main(pathlib.Path(sys.argv[1]))

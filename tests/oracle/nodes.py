"""What scripts share that write models with inputs and expected outputs where the Rust tests read them.

NAME.bin  models and tensors, one after the other (tensors little-endian, row-major)
NAME.json for each test its name, tolerances, model and sets of inputs and outputs; [offset, length] in the .bin
"""

import json

import numpy as np
import onnx

ELEMENTS = {
    "bool": "bool", "int8": "i8", "uint8": "u8", "int16": "i16", "int32": "i32", "int64": "i64",
    "float16": "f16", "float32": "f32",
}
# Elements that qcc has no type for are written as a wider one that it has.
WIDER = {
    "int2": "int8", "uint2": "uint8", "int4": "int8", "uint4": "uint8", "uint16": "int32", "uint32": "int64",
    "uint64": "int64", "float64": "float32", "bfloat16": "float32",
}


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


def write(folder, name, cases):
    """`cases(store)` yields for each test its name, model, sets of stored inputs and outputs, and tolerances."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.bin", "wb") as file:
        store = Store(file)
        tests = [
            {"name": test, **tolerances, "model": store.put(model.SerializeToString()), "sets": sets}
            for test, model, sets, tolerances in cases(store)
        ]
    # Written last: where it stands, the folder is complete.
    with open(folder / f"{name}.json", "w") as file:
        json.dump(tests, file)

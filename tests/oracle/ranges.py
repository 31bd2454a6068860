"""ONNX Runtime's quantizer with the ranges of qcc (`qcc.json`), and a cache of its own ranges (`ort.json`), for `m.onnx`
and the samples `x.npy` of the current folder."""

import json

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static


class Reader(CalibrationDataReader):
    def __init__(self):
        self.samples = iter([{"x": x[None]} for x in np.load("x.npy")])

    def get_next(self):
        return next(self.samples, None)


def quantize(output, reader, cache):
    quantize_static(
        "m.onnx",
        output,
        reader,
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        calibration_cache_path=cache,
    )


def scales(path):
    """The scale of each quantized activation, by name."""
    graph = onnx.load(path).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    quantizes = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    return {node.input[0]: constants[node.input[1]] for node in quantizes if node.input[0] not in constants}


quantize("of_qcc.onnx", None, "qcc.json")
given = json.load(open("qcc.json"))["data"]
found = scales("of_qcc.onnx")
same = 0
for name, scale in found.items():
    # It renames outputs.
    name = name.removesuffix("_QuantizeLinear_Input")
    lowest, highest = (np.float32(given[name][end]["data"][0]) for end in ("lowest", "highest"))
    wanted = (max(highest, 0) - min(lowest, 0)) / np.float32(255)
    same += bool(np.isclose(scale, wanted, rtol=1e-5))
print(f"scales of qcc.json: {same} of {len(found)}")

quantize("of_ort.onnx", Reader(), "ort.json")
own = json.load(open("ort.json"))["data"]["x"]
ends = [np.float32(np.ravel(own[end]["data"])[0]) for end in ("lowest", "highest")]
zero = np.float32(0)
scale = (max(ends[1], zero) - min(ends[0], zero)) / np.float32(255)
print(f"scale of x: {np.format_float_positional(np.float32(scale), unique=True)}")

"""Models quantized by ONNX Runtime, and what qcc makes of them. Argument: a folder.

Where it holds no artefacts yet, writes there what ONNX Runtime's quantizer makes of the bundled classifier: FORMAT_TYPE.onnx.
Weights have 7 bits, so that ONNX Runtime's sums are right on processors without instructions for 8-bit products too.
Else writes truth.json: for each artefact FORMAT_TYPE.tflite the share of scores in LiteRT within one step of those of the
model in ONNX Runtime."""
import json, sys
from pathlib import Path

import numpy as np, onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from bundled import MODELS, images, litert, ort

FORMATS = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
TYPES = {"u8": QuantType.QUInt8, "i8": QuantType.QInt8}


class Reader(CalibrationDataReader):
    def __init__(self, images):
        self.rest = iter(images)

    def get_next(self):
        image = next(self.rest, None)
        return None if image is None else {"image": image}


def write(folder, images):
    for form, quant_format in FORMATS.items():
        for name, activation in TYPES.items():
            quantize_static(
                MODELS / "mnist_lenet.onnx", folder / f"{form}_{name}.onnx", Reader(images), quant_format=quant_format,
                activation_type=activation, weight_type=QuantType.QInt8, per_channel=name == "u8", reduce_range=True)


def step(model):
    """The scale of the model's last DequantizeLinear."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    last = [n for n in model.graph.node if n.output[0] == model.graph.output[0].name][0]
    return float(constants[last.input[1]])


def compare(folder, images):
    result = {}
    for artefact in sorted(folder.glob("*.tflite")):
        path = artefact.with_suffix(".onnx")
        truth = np.concatenate(list(ort(path, images)))
        off = np.abs(truth - np.concatenate(list(litert(artefact, images)))) / step(onnx.load(path))
        result[artefact.stem] = float(np.mean(off <= 1.001))
    (folder / "truth.json").write_text(json.dumps(result))


folder = Path(sys.argv[1])
compare(folder, images()) if list(folder.glob("*.tflite")) else write(folder, images())

"""Runs ONNX models in ONNX Runtime: python ort.py FOLDER (see cases.py)"""

import numpy as np
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

import cases

ELEMENTS = {
    "tensor(bool)": np.bool_, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(int16)": np.int16,
    "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float16)": np.float16, "tensor(float)": np.float32,
}
LEVELS = onnxruntime.GraphOptimizationLevel
FAILURES = tuple(getattr(errors, name) for name in ["Fail", "InvalidArgument", "InvalidGraph", "NotImplemented",
                                                    "RuntimeException", "InvalidProtobuf"])


def run(model, inputs, optimized):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = LEVELS.ORT_ENABLE_ALL if optimized else LEVELS.ORT_DISABLE_ALL
    try:
        message = onnx.load_from_string(model)
        onnx.checker.check_model(message, full_check=not contrib(message))
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feeds = {
            given.name: np.frombuffer(data, ELEMENTS[given.type]).reshape(given.shape)
            for given, data in zip(session.get_inputs(), inputs, strict=True)
        }
        return [np.asarray(value) for value in session.run(None, feeds)]
    except (*FAILURES, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RuntimeError(error) from error


def contrib(message):
    """True where the standard's checker does not know all operators."""
    return any(set.domain for set in message.opset_import)


cases.main(run)

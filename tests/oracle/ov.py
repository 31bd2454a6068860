"""Runs OpenVINO IR in OpenVINO: python ov.py FOLDER (see cases.py)

A model is its XML file, a zero byte, and its file of constants.
"""

import numpy as np
import openvino

import cases

CORE = openvino.Core()


def run(model, inputs, optimized):
    xml, _, constants = model.partition(b"\0")
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 1,
        "LP_TRANSFORMS_MODE": "ON" if optimized else "OFF",
    }
    compiled = CORE.compile_model(CORE.read_model(xml, constants), "CPU", config)
    # What is open is a batch, of which there is one.
    shape = lambda port: [1 if d.is_dynamic else d.get_length() for d in port.partial_shape]
    feeds = {
        port: np.frombuffer(data, port.element_type.to_dtype()).reshape(shape(port)).copy()
        for port, data in zip(compiled.inputs, inputs, strict=True)
    }
    results = compiled(feeds)
    return [results[port] for port in compiled.outputs]


cases.main(run)

"""Runs models in TensorFlow Lite for Microcontrollers, or, optimized, with LiteRT's reference kernels, which it follows:
python micro.py FOLDER (see cases.py)"""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_micro import runtime

import cases

# More than any model of the tests needs.
ARENA = 1 << 21


def run(model, inputs, optimized):
    litert = Interpreter(
        model_content=model, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    litert.allocate_tensors()
    details = litert.get_input_details()
    values = [np.frombuffer(data, d["dtype"]).reshape(d["shape"]) for d, data in zip(details, inputs, strict=True)]
    if optimized:
        for detail, value in zip(details, values):
            litert.set_tensor(detail["index"], value)
        litert.invoke()
        return [litert.get_tensor(d["index"]) for d in litert.get_output_details()]
    micro = runtime.Interpreter.from_bytes(model, arena_size=ARENA)
    # The second run shows whether results depend on what the first one left behind.
    for _ in range(2):
        for i, value in enumerate(values):
            micro.set_input(value, i)
        micro.invoke()
    return [micro.get_output(i) for i in range(len(litert.get_output_details()))]


cases.main(run)

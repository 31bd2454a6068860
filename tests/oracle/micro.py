"""Runs models in TensorFlow Lite for Microcontrollers, or, not optimized, with LiteRT's reference kernels, which it
follows: python micro.py FOLDER (see cases.py)"""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tflite_micro import runtime

import cases

# More than any model of the tests needs.
ARENA = 1 << 22


def reference(model, resolver):
    litert = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=resolver)
    litert.allocate_tensors()
    return litert


def run(model, inputs, optimized):
    if optimized:
        micro = runtime.Interpreter.from_bytes(model, arena_size=ARENA)
        # The second run shows whether results depend on what the first one left behind.
        for _ in range(2):
            for i, data in enumerate(inputs):
                detail = micro.get_input_details(i)
                micro.set_input(np.frombuffer(data, detail["dtype"]).reshape(detail["shape"]), i)
            micro.invoke()
        return [micro.get_output(i) for i in range(outputs_of(model))]
    try:
        litert = reference(model, OpResolverType.BUILTIN_REF)
    except (RuntimeError, ValueError):
        # Some operators have no reference kernel.
        litert = reference(model, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    for detail, data in zip(litert.get_input_details(), inputs, strict=True):
        litert.set_tensor(detail["index"], np.frombuffer(data, detail["dtype"]).reshape(detail["shape"]))
    litert.invoke()
    return [litert.get_tensor(d["index"]) for d in litert.get_output_details()]


def outputs_of(model):
    return len(Interpreter(model_content=model).get_output_details())


if __name__ == "__main__":
    cases.main(run)

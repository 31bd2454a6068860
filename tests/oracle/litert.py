"""Runs TensorFlow Lite models in LiteRT: python litert.py FOLDER (see cases.py)"""

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import cases


def run(model, inputs, optimized, runs=2):
    """The results of the last of several runs on the same inputs: no run may depend on what another one left behind."""
    kernels = OpResolverType.AUTO if optimized else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    litert = Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=kernels)
    litert.allocate_tensors()
    for _ in range(runs):
        for detail, data in zip(litert.get_input_details(), inputs, strict=True):
            value = np.frombuffer(data, detail["dtype"]).reshape(detail["shape"])
            litert.set_tensor(detail["index"], value)
        litert.invoke()
    return [litert.get_tensor(detail["index"]) for detail in litert.get_output_details()]


if __name__ == "__main__":
    cases.main(run)

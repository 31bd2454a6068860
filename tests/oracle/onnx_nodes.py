"""Writes the node tests of the ONNX standard where the Rust tests read them (see nodes.py): python onnx_nodes.py FOLDER"""

import pathlib
import sys
import warnings

import numpy as np
from onnx.backend.test.loader import load_model_tests

from nodes import array, write

# Rounding steps of the narrow floats: a result may differ by two of them where intermediate values are kept wider.
STEPS = {"float16": 2**-10, "bfloat16": 2**-7}


def cases(store):
    for case in sorted(load_model_tests(kind="node"), key=lambda case: case.name):
        sets = [[[store.tensor(v) for v in values] for values in data] for data in case.data_sets]
        outputs = [array(value) for _, outputs in case.data_sets for value in outputs]
        steps = [2 * STEPS.get(getattr(value, "dtype", np.dtype(bool)).name, 0) for value in outputs]
        yield case.name, case.model, sets, {"rtol": max(case.rtol, *steps), "atol": case.atol}


warnings.simplefilter("ignore")
write(pathlib.Path(sys.argv[1]), "onnx_nodes", cases)

"""Bytes of the values of a model at the peak: python arena.py FILE. Three numbers: as TensorFlow Lite for Microcontrollers
plans them, as LiteRT does for its reference kernels, and the bytes of the inputs, which LiteRT keeps until the end."""

import re
import subprocess
import sys

from ai_edge_litert.interpreter import Interpreter, OpResolverType

CODE = """
import sys
from tflite_micro import runtime
runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 26).print_allocations()
"""


def bytes_of(file, part):
    # It prints past Python.
    done = subprocess.run([sys.executable, "-c", CODE, file], capture_output=True, text=True, check=True)
    return re.search(rf"{part} (\d+) bytes", done.stdout + done.stderr)[1]


def addresses(model):
    """The first byte and the number of bytes of each tensor that has memory, by index."""
    found = {}
    for detail in model.get_tensor_details():
        try:
            array = model.tensor(detail["index"])()
        except ValueError:
            continue
        if array.nbytes:
            found[detail["index"]] = (array.__array_interface__["data"][0], array.nbytes)
    return found


def arena(file):
    """The extent of LiteRT's arena and the bytes of the inputs. Constants are the tensors that have memory before it is allocated."""
    model = Interpreter(model_path=file, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    constants = addresses(model).keys()
    model.allocate_tensors()
    places = {index: place for index, place in addresses(model).items() if index not in constants}
    extent = max(at + size for at, size in places.values()) - min(at for at, _ in places.values())
    return extent, sum(places[i["index"]][1] for i in model.get_input_details())


if __name__ == "__main__":
    print(bytes_of(sys.argv[1], "head"), *arena(sys.argv[1]))

"""Bytes of the values of a model at the peak: python arena.py FILE. Three numbers: as TensorFlow Lite for Microcontrollers
plans them (0 if it does not run the model), the extent of tensors in LiteRT's arena with reference kernels, without
temporaries, and the growth of the heap while LiteRT allocates its arenas, with all else that it allocates then (0 if the C
library does not tell)."""

import ctypes
import re
import subprocess
import sys

from ai_edge_litert.interpreter import Interpreter, OpResolverType

CODE = """
import sys
from tflite_micro import runtime
runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 26).print_allocations()
"""


class Heap(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]


def heap():
    tell = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if tell is None:
        return None
    tell.restype = Heap
    info = tell()
    return info.hblkhd + info.uordblks


def bytes_of(file, part):
    # It prints past Python.
    done = subprocess.run([sys.executable, "-c", CODE, file], capture_output=True, text=True)
    found = re.search(rf"{part} (\d+) bytes", done.stdout + done.stderr)
    return int(found[1]) if found else 0


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
    """Constants are the tensors that have memory before it is allocated."""
    model = Interpreter(model_path=file, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1)
    constants = addresses(model).keys()
    before = heap()
    model.allocate_tensors()
    grown = 0 if before is None else heap() - before
    places = [place for index, place in addresses(model).items() if index not in constants]
    return max(at + size for at, size in places) - min(at for at, _ in places), grown


if __name__ == "__main__":
    print(bytes_of(sys.argv[1], "head"), *arena(sys.argv[1]))

"""Bytes of the values of a model at the peak, as TensorFlow Lite for Microcontrollers plans them: python arena.py FILE"""

import re
import subprocess
import sys

CODE = """
import sys
from tflite_micro import runtime
runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 26).print_allocations()
"""


def bytes_of(file, part):
    # It prints past Python.
    done = subprocess.run([sys.executable, "-c", CODE, file], capture_output=True, text=True, check=True)
    return re.search(rf"{part} (\d+) bytes", done.stdout + done.stderr)[1]


if __name__ == "__main__":
    print(bytes_of(sys.argv[1], "head"))

"""Bytes of the values of a model at the peak, as TensorFlow Lite for Microcontrollers plans them: python arena.py FILE"""

import re
import subprocess
import sys

CODE = """
import sys
from tflite_micro import runtime
runtime.Interpreter.from_file(sys.argv[1], arena_size=1 << 24).print_allocations()
"""

# It prints past Python.
done = subprocess.run([sys.executable, "-c", CODE, sys.argv[1]], capture_output=True, text=True, check=True)
print(re.search(r"head (\d+) bytes", done.stdout + done.stderr)[1])

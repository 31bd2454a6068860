"""Runs the model of C++ sources in TensorFlow Lite for Microcontrollers, with the arena that their header states:
python sources.py FOLDER (with m.cc and m.h); prints the bytes stated and the bytes used"""

import pathlib
import re
import sys

import numpy as np
from tflite_micro import runtime

import arena

folder = pathlib.Path(sys.argv[1])
header, source = ((folder / name).read_text() for name in ["m.h", "m.cc"])
size = int(re.search(r"kArenaSize = (\d+);", header)[1])
model = bytes(int(byte, 16) for byte in re.findall(r"0x(..),", source))
(folder / "m.tflite").write_bytes(model)
micro = runtime.Interpreter.from_bytes(model, arena_size=size)
for i in range(int(re.search(r"kInputCount = (\d+);", header)[1])):
    detail = micro.get_input_details(i)
    micro.set_input(np.zeros(detail["shape"], detail["dtype"]), i)
micro.invoke()
print(size, arena.bytes_of(folder / "m.tflite", "total"))

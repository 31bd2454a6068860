"""Prints the operators that LiteRT runs in its own kernels, not in XNNPACK: python xnnpack.py FOLDER, which has files
NAME.tflite; prints lines `NAME OPERATOR RESULT`"""

import pathlib
import sys

from ai_edge_litert.interpreter import Interpreter


def left(file):
    litert = Interpreter(model_path=str(file), num_threads=1)
    litert.allocate_tensors()
    operators = litert._get_ops_details()
    names = {t["index"]: t["name"] for t in litert.get_tensor_details()}
    plain = [op for op in operators if op["op_name"] != "DELEGATE"]
    producers = {int(i): op["index"] for op in plain for i in op["outputs"]}
    inputs = {op["index"]: [int(i) for i in op["inputs"]] for op in plain}
    taken = set()
    for part in operators:
        if part["op_name"] == "DELEGATE":
            given = {int(i) for i in part["inputs"]}
            wanted = [int(i) for i in part["outputs"]]
            while wanted:
                i = wanted.pop()
                op = producers.get(i)
                if i not in given and op is not None and op not in taken:
                    taken.add(op)
                    wanted += inputs[op]
    return [f"{file.stem} {op['op_name']} {names[int(op['outputs'][0])]}" for op in plain if op["index"] not in taken]


for file in sorted(pathlib.Path(sys.argv[1]).glob("*.tflite")):
    for line in left(file):
        print(line)

"""Runs the models that the Rust tests give a runtime: main(run)

cases.bin     models and inputs, one after the other (tensors little-endian, as they lie in memory)
cases.json    for each case its model, its inputs and whether the runtime optimizes; [offset, length] in the .bin
results.bin   outputs, one after the other
results.jsonl for each case a line: its outputs with element, extents and [offset, length], or why the runtime fails

run(model, inputs, optimized) gets bytes and gives arrays, or raises RuntimeError or ValueError.
"""

import json
import os
import pathlib
import sys

import numpy as np

ELEMENTS = {
    "bool": "bool", "int8": "i8", "uint8": "u8", "int16": "i16", "int32": "i32", "int64": "i64",
    "float16": "f16", "float32": "f32",
}


def result(run, case, read, store):
    try:
        outputs = run(read(case["model"]), [read(at) for at in case["inputs"]], case["optimized"])
    except (RuntimeError, ValueError) as error:
        return {"error": " ".join(str(error).split())}
    return {"outputs": [
        {"elem": ELEMENTS[v.dtype.name], "dims": list(v.shape), "at": store(np.ascontiguousarray(v).tobytes())}
        for v in outputs
    ]}


def run_from(run, first, cases, folder):
    """Appends the results of cases[first:]."""
    data = (folder / "cases.bin").read_bytes()
    with open(folder / "results.bin", "ab") as binary, open(folder / "results.jsonl", "a") as lines:

        def read(at):
            return data[at[0]:at[0] + at[1]]

        def store(value):
            offset = binary.tell()
            binary.write(value)
            return [offset, len(value)]

        for case in cases[first:]:
            line = result(run, case, read, store)
            binary.flush()
            print(json.dumps(line), file=lines, flush=True)


def main(run):
    folder = pathlib.Path(sys.argv[1])
    cases = json.loads((folder / "cases.json").read_text())
    results = folder / "results.jsonl"
    for name in ["results.bin", "results.jsonl"]:
        (folder / name).write_bytes(b"")
    done = 0
    # In a process of its own, so that a model that ends it is found and the others still run.
    while done < len(cases):
        child = os.fork()
        if child == 0:
            run_from(run, done, cases, folder)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        done = len(results.read_text().splitlines())
        if status != 0:
            with open(results, "a") as lines:
                print(json.dumps({"error": f"the runtime ends with status {status}"}), file=lines)
            done += 1

"""Peak memory and time of compiling models whose weights are large.

    .venv/bin/python benches/large.py FOLDER [--products 10] [--width 4096] [--qcc target/release/qcc]

Makes a chain of matrix products with external data in FOLDER, once, and compiles it in each precision for each target.
Prints the peak of anonymous memory (pages of mapped files are not counted), wall and processor time, and the size of
the artefact, next to the limit of anonymous memory: 300 MB and three times the largest weight. Linux only.
"""

import argparse
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

PRECISIONS = {"float32": [], "fp16": ["--fp16"], "w8a32": ["--w8a32"], "w4a32": ["--quantize", "w4a32"]}
TARGETS = ["onnx", "openvino", "tflite"]


def model(folder: Path, products: int, width: int) -> Path:
    """A chain of products and Relus; each weight is written as soon as it is made."""
    path = folder / f"products_{products}x{width}.onnx"
    if path.exists():
        return path
    data, size = path.with_suffix(".onnx.data"), 4 * width * width
    random = np.random.default_rng(0)
    initializers, nodes, before = [], [], "x"
    with open(data, "wb") as file:
        for i in range(products):
            weight = random.standard_normal((width, width), dtype=np.float32)
            weight *= np.float32((2 / width) ** 0.5)
            weight.tofile(file)
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[width, width])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in [("location", data.name), ("offset", i * size), ("length", size)]:
                tensor.external_data.add(key=key, value=str(value))
            initializers.append(tensor)
            after = "y" if i + 1 == products else f"r{i}"
            nodes.append(helper.make_node("MatMul", [before, f"w{i}"], [f"p{i}"], name=f"product{i}"))
            nodes.append(helper.make_node("Relu", [f"p{i}"], [after], name=f"relu{i}"))
            before = after
    shape = [1, width]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "xy")
    graph = helper.make_graph(nodes, "products", [x], [y], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def anonymous(pid: int) -> int:
    """Anonymous memory of a process in kB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def measure(command: list[str]) -> tuple[float, float, float]:
    """Peak of anonymous memory in MB, wall and processor time in seconds. Fails if the command does."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process, peak = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE), 0
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.002)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr.read().decode()}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return peak * 1024 / 1e6, wall, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--products", type=int, default=10)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--qcc", default="target/release/qcc")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    source = model(options.folder, options.products, options.width)
    largest = 4 * options.width**2 / 1e6
    print(f"{options.products} products of {options.width}x{options.width}, {options.products * largest:.0f} MB")
    print(f"limit of anonymous memory: {300 + 3 * largest:.0f} MB")
    print("| precision | target | anonymous MB | wall s | CPU s | artefact MB |\n|---|---|---|---|---|---|")
    for precision, flags in PRECISIONS.items():
        # TFLite has no blockwise 4-bit weights.
        for target in TARGETS[: 2 if precision == "w4a32" else 3]:
            out = options.folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            command = [options.qcc, str(source), "--to", target, *flags, "-o", f"{out}{os.sep}"]
            peak, wall, processor = measure(command)
            size = sum(os.path.getsize(out / name) for name in os.listdir(out)) / 1e6
            print(f"| {precision} | {target} | {peak:.0f} | {wall:.1f} | {processor:.1f} | {size:.0f} |", flush=True)
    shutil.rmtree(options.folder / "out", ignore_errors=True)


if __name__ == "__main__":
    main()

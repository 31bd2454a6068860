"""Peak memory and time of compiling models whose weights are large.

    .venv/bin/python benches/large.py FOLDER [--products 10] [--width 4096]

Makes a chain of matrix products with external data in FOLDER, once, and compiles it in each precision for each target.
Prints the peak of anonymous memory (pages of mapped files are not counted), wall and processor time, and the size of
the artefact, next to the limit of anonymous memory: 300 MB and three times the largest weight. QCC names the binary,
target/release/qcc otherwise. Linux only.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from process import Run

PRECISIONS = {"float32": [], "fp16": ["--fp16"], "w8a32": ["--w8a32"], "w4a32": ["--quantize", "w4a32"]}
# These need samples.
CALIBRATED = {"int8": ["--int8"], "w4a32 with data": ["--quantize", "w4a32"]}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--products", type=int, default=10)
    parser.add_argument("--width", type=int, default=4096)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    source = model(options.folder, options.products, options.width)
    largest = 4 * options.width**2 / 1e6
    print(f"{options.products} products of {options.width}x{options.width}, {options.products * largest:.0f} MB")
    print(f"limit of anonymous memory: {300 + 3 * largest:.0f} MB")
    print("| precision | target | anonymous MB | wall s | CPU s | artefact MB |\n|---|---|---|---|---|---|")
    samples = options.folder / f"samples_{options.width}.npz"
    random = np.random.default_rng(1)
    np.savez(samples, x=random.standard_normal((24, 1, options.width), dtype=np.float32))
    with_samples = {precision: [*flags, "--data", samples] for precision, flags in CALIBRATED.items()}
    for precision, flags in [*PRECISIONS.items(), *with_samples.items()]:
        for target in TARGETS:
            run = Run(1, source, target, *flags, scratch=options.folder)
            figures = f"{run.memory:.0f} | {run.seconds:.1f} | {run.cpu:.1f} | {run.written:.0f}"
            print(f"| {precision} | {target} | {figures} |", flush=True)


if __name__ == "__main__":
    main()

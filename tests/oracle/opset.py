"""ONNX's checker on all models of a folder: prints those that it refuses, and the reason."""
import sys
from pathlib import Path

import onnx

for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    model = onnx.load(path)
    # Operators of ONNX Runtime's own domain are unknown there.
    strict = all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    try:
        onnx.checker.check_model(model, full_check=strict)
    except Exception as error:
        print(path.name, str(error).splitlines()[0][:300])

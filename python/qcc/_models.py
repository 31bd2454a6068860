"""Models in memory as files that the compiler reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ._errors import UsageError

MOST_PROTOBUF = 2**31 - 2**20
"""Bytes that surely fit into one protobuf message."""


class Source(NamedTuple):
    """Where a model is."""

    path: str
    name: str | None = None
    """What messages call it, if it was in memory."""
    simpler: Callable[[], str] | None = None
    """Writes the model with composite operators decomposed, and returns its path."""


def located(
    model: Any,
    folder: Path,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
) -> Source:
    """The model as a file: that of a path, or one in the folder."""
    torch = sys.modules.get("torch")
    is_module = torch is not None and isinstance(model, torch.nn.Module)
    is_yolo = is_ultralytics(model)
    if (args, dynamic_shapes) != (None, None) and (is_yolo or not is_module) or kwargs is not None and not is_module:
        raise UsageError.because("args, kwargs and dynamic_shapes are inputs of a torch.nn.Module", "leave them out")
    if isinstance(model, (str, os.PathLike)):
        return Source(os.fspath(model))
    folder.mkdir(parents=True)
    if isinstance(model, (bytes, bytearray, memoryview)):
        return _written(folder, "model", bytes(model))
    if is_yolo:
        from ._ultralytics import exported

        program, metadata, name = exported(model, kwargs or {})
        return _program(program, folder, name, metadata)
    if is_module:
        return _program(_exported(model, args, kwargs, dynamic_shapes), folder, type(model).__name__, {})
    if torch is not None and isinstance(model, torch.export.ExportedProgram):
        return _program(model, folder, "model", {})
    if hasattr(model, "SerializeToString") and hasattr(model, "opset_import"):
        return _proto(model, folder)
    help = "give a path, bytes, an onnx.ModelProto, a torch.nn.Module with args, an ExportedProgram or a YOLO"
    raise UsageError.because(f"{type(model).__module__}.{type(model).__qualname__} is no model", help)


def is_ultralytics(model: Any) -> bool:
    """True for an ``ultralytics.YOLO`` and its like, which wrap the module."""
    ultralytics = sys.modules.get("ultralytics.engine.model")
    return ultralytics is not None and isinstance(model, ultralytics.Model)


def _written(folder: Path, name: str, content: bytes) -> Source:
    path = folder / name
    path.write_bytes(content)
    return Source(str(path), f"<{name}>")


def _proto(model: Any, folder: Path) -> Source:
    if model.ByteSize() < MOST_PROTOBUF:
        return _written(folder, "model.onnx", model.SerializeToString())
    import onnx

    path = folder / "model.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location="model.onnx.data")
    return Source(str(path), "<model.onnx>")


def _exported(model: Any, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None, dynamic_shapes: Any) -> Any:
    import torch

    if args is None and kwargs is None:
        help = "args=(tensor, ..): what the module is called with; the values do not matter"
        raise UsageError.because("a torch.nn.Module is exported with examples of its inputs", help)
    args = args if isinstance(args, (tuple, list)) else () if args is None else (args,)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            return torch.export.export(model, tuple(args), kwargs, dynamic_shapes=dynamic_shapes)
    finally:
        for module, training in modes:
            module.training = training


def _program(program: Any, folder: Path, name: str, metadata: dict[str, str]) -> Source:
    import torch

    def saved(program: Any, path: Path) -> str:
        torch.export.save(program, path, extra_files=dict(metadata))
        return str(path)

    def simpler() -> str:
        (folder / "simpler").mkdir()
        return saved(program.run_decompositions(), folder / "simpler" / f"{name}.pt2")

    return Source(saved(program, folder / f"{name}.pt2"), f"<{name}.pt2>", simpler)

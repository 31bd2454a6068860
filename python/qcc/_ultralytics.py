"""Models and datasets of Ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class _Prepared(Exception):
    """The exporter has prepared the model."""


def exported(model: Any, arguments: dict[str, Any]) -> tuple[Any, dict[str, str], str]:
    """The program of a model, its metadata, and its name.

    Ultralytics' own exporter prepares the model as for ONNX: it fuses layers, and sets what the head returns.
    """
    import torch
    from ultralytics.engine.exporter import Exporter

    class Preparation(Exporter):  # type: ignore[misc]
        def export_onnx(self, *_: Any, **__: Any) -> None:
            raise _Prepared

    module = model.model
    trained = getattr(module, "args", {})
    size = trained.get("imgsz", 640) if isinstance(trained, dict) else getattr(trained, "imgsz", 640)
    own = {"imgsz": size, "batch": 1, "data": None, "device": "cpu", "verbose": False}
    overrides = {**model.overrides, **own, **arguments, "mode": "export", "format": "onnx"}
    preparation = Preparation(overrides=overrides, _callbacks=model.callbacks)
    try:
        preparation(model=module)
    except _Prepared:
        pass
    with torch.no_grad():
        program = torch.export.export(preparation.model, (preparation.im,))
    # The same model gives the same bytes.
    metadata = {name: str(value) for name, value in preparation.metadata.items() if name != "date"}
    return program, metadata, Path(preparation.file).stem or "model"


def dataset(model: Any, name: str) -> str:
    """The pictures of a dataset that Ultralytics knows by name, such as ``coco8.yaml``; it may download them."""
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    found = check_cls_dataset(name) if model.task == "classify" else check_det_dataset(name)
    pictures = found.get("val") or found["train"]
    return str(pictures[0] if isinstance(pictures, list) else pictures)

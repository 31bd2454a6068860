"""Settings of the tests with PyTorch and Ultralytics."""

import os
import pathlib

import pytest

# Nothing is installed or downloaded by the tests.
os.environ.update(YOLO_AUTOINSTALL="False", YOLO_OFFLINE="True")


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The current folder, in which artefacts are written by default."""
    monkeypatch.chdir(tmp_path)
    return tmp_path

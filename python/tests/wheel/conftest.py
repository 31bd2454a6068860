"""What the tests share: the bundled models, and the command line to compare with."""

import os
import pathlib
import subprocess

import numpy as np
import pytest

MODELS = pathlib.Path(__file__).resolve().parents[3] / "tests" / "models"
LENET = MODELS / "mnist_lenet.onnx"
DIGITS = MODELS / "digits"


class Folder:
    """A folder in which the binary runs."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def run(self, *args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([os.environ["QCC"], *map(str, args)], cwd=self.path, capture_output=True, text=True)

    def compiled(self, *args: object) -> bytes:
        """The only file that a compilation writes."""
        output = self.path / "binary.out"
        done = self.run(*args, "-q", "-o", output)
        assert done.returncode == 0, done.stderr
        return output.read_bytes()


@pytest.fixture
def binary(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("binary"))


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The current folder, in which artefacts are written by default."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def images() -> np.ndarray:
    """Twelve samples for the digit classifier."""
    return np.random.default_rng(0).random((12, 1, 28, 28), dtype=np.float32)

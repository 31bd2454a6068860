"""Data in memory as files that the compiler reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ._errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SAMPLES = 512
"""Samples that are taken of an iterable, unless ``samples`` is given."""


class Stored(NamedTuple):
    """Where data are."""

    path: str
    """The path for the command line."""
    arrays: list[tuple[str, str]] | None = None
    """Names and files of arrays, if the data were in memory."""
    warning: str | None = None


def stored(data: Any, model: str, folder: Path, most: int | None) -> Stored:
    """Data as a path, or as .npy files in the folder. Of an iterable at most so many samples are taken."""
    if isinstance(data, (str, os.PathLike)):
        return Stored(os.fspath(data))
    folder.mkdir(parents=True)
    if isinstance(data, Mapping):
        return Stored("random", [_saved(folder, i, name, _array(a)) for i, (name, a) in enumerate(data.items())])
    if _is_array(data):
        return Stored("random", [_saved(folder, 0, "", _array(data))])
    if not isinstance(data, Iterable):
        help = "give a path, an array, a dictionary of arrays, or an iterable of samples"
        raise UsageError.because(f"{type(data).__name__} is no data", help)
    samples = iter(data)
    first = next(samples, None)
    if first is None:
        raise UsageError.because("there are no samples in the data")
    return _iterated(first, samples, model, folder, most)


def _iterated(first: Any, rest: Iterator[Any], model: str, folder: Path, most: int | None) -> Stored:
    from itertools import chain

    samples = chain([first], rest)
    if isinstance(first, (str, os.PathLike)):
        return _listed(samples, folder, most)
    from . import _qcc

    inputs = _qcc.inputs(model)
    ranks = {name: None if shape is None else len(shape) for name, shape in inputs}
    files: dict[str, ArrayFile] = {}
    taken, warning = 0, None
    try:
        for number, sample in enumerate(samples):
            if taken >= (most or MOST_SAMPLES):
                if most is None:
                    warning = f"the first {taken} samples of the data are used; samples=N takes another number"
                break
            parts = _parts(sample, [name for name, _ in inputs], number)
            if not files:
                files = {name: ArrayFile(folder / f"{i}.npy") for i, name in enumerate(parts)}
            if parts.keys() != files.keys():
                raise UsageError.because(f"sample {number} has {_names(parts)}, the samples before it {_names(files)}")
            counts = [files[name].append(_batch(array, ranks.get(name)), name, number) for name, array in parts.items()]
            taken += counts[0]
    finally:
        for file in files.values():
            file.close()
    return Stored("random", [(name, str(file.path)) for name, file in files.items()], warning)


def _listed(samples: Iterator[Any], folder: Path, most: int | None) -> Stored:
    """A list of pictures."""
    from itertools import islice

    paths = [os.path.abspath(path) for path in islice(samples, most)]
    listing = folder / "pictures.txt"
    listing.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return Stored(str(listing))


def _parts(sample: Any, inputs: list[str], number: int) -> dict[str, NDArray[Any]]:
    """The arrays of a sample by input. What comes after the inputs (labels) is left out."""
    if isinstance(sample, Mapping):
        return {str(name): _array(part) for name, part in sample.items() if name in inputs or len(sample) == 1}
    if isinstance(sample, (tuple, list)) and not all(isinstance(part, (int, float)) for part in sample):
        if len(sample) < len(inputs):
            raise UsageError.because(f"sample {number} has {len(sample)} parts; the model has {len(inputs)} inputs")
        return {name: _array(part) for name, part in zip(inputs, sample)}
    return {inputs[0]: _array(sample)}


def _batch(array: NDArray[Any], rank: int | None) -> NDArray[Any]:
    """The array with an axis of samples."""
    return array[None] if rank is not None and array.ndim == rank - 1 else array


def _names(parts: Iterable[str]) -> str:
    return ", ".join(parts) or "no array of an input"


def _is_array(data: Any) -> bool:
    return hasattr(data, "__array__") and hasattr(data, "shape")


def _array(data: Any) -> NDArray[Any]:
    """An array of a NumPy array, a tensor of any framework, a picture, or numbers."""
    import numpy as np

    array = np.ascontiguousarray(data.detach().cpu() if hasattr(data, "detach") else data)
    if array.dtype == object:
        raise UsageError.because(f"{type(data).__name__} is no array of numbers")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _saved(folder: Path, number: int, name: object, array: NDArray[Any]) -> tuple[str, str]:
    import numpy as np

    path = folder / f"{number}.npy"
    np.save(path, array, allow_pickle=False)
    return str(name), str(path)


class ArrayFile:
    """A .npy file that grows along its first axis."""

    HEADER = 256
    """Bytes of the header, which is written at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("wb")
        self._file.write(b" " * self.HEADER)
        self._dtype: np.dtype[Any] | None = None
        self._shape: tuple[int, ...] = ()
        self._length = 0

    def append(self, array: NDArray[Any], name: str, number: int) -> int:
        """Appends the samples of an array, and returns their number."""
        if self._dtype is None:
            self._dtype, self._shape = array.dtype, array.shape[1:]
        if (array.dtype, array.shape[1:]) != (self._dtype, self._shape):
            was = f"{self._dtype} of shape {self._shape}"
            message = f"sample {number} of input {name} is {array.dtype} of shape {array.shape[1:]}, not {was}"
            raise UsageError.because(message, "samples must have one shape: resize or pad them")
        self._file.write(array.data)
        self._length += len(array)
        return len(array)

    def close(self) -> None:
        """Writes the header."""
        if self._dtype is not None:
            shape = (self._length, *self._shape)
            text = repr({"descr": self._dtype.str, "fortran_order": False, "shape": shape}).encode()
            length = self.HEADER - 10
            self._file.seek(0)
            self._file.write(b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n")
        self._file.close()


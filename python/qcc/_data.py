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

    from ._models import Source

MOST_SAMPLES = 512
"""Samples that are taken of an iterable, unless ``samples`` is given."""


class Stored(NamedTuple):
    """Where data are."""

    path: str
    """The path for the command line."""
    arrays: list[tuple[str, str]] | None = None
    """Names and files of arrays, if the data were in memory."""
    cut: int | None = None
    """The number of samples that were taken, if there are more and none was asked for."""


def stored(data: Any, model: Source, folder: Path, most: int | None) -> Stored:
    """Data as a path, or as .npy files in the folder. Of an iterable at most so many samples are taken."""
    if isinstance(data, (str, os.PathLike)):
        return Stored(os.fspath(data))
    folder.mkdir(parents=True)
    if isinstance(data, Mapping):
        return Stored("random", [_saved(folder, i, name, _array(a)) for i, (name, a) in enumerate(data.items())])
    if _is_array(data):
        return Stored("random", [_saved(folder, 0, "", _array(data))])
    try:
        samples = iter(data)
    except TypeError:
        help = "give a path, an array, a dictionary of arrays, or an iterable of samples"
        raise UsageError.because(f"{type(data).__name__} is no data", help) from None
    first = next(samples, None)
    if first is None:
        raise UsageError.because("there are no samples in the data")
    return _iterated(first, samples, model, folder, most)


def _iterated(first: Any, rest: Iterator[Any], model: Source, folder: Path, most: int | None) -> Stored:
    from itertools import chain

    samples = chain([first], rest)
    if isinstance(first, (str, os.PathLike)):
        return _listed(samples, folder, most)
    from . import _qcc

    inputs = _qcc.inputs(model.path, model.name or model.path)
    if not inputs:
        raise UsageError.because("the model has no inputs", "leave the data out")
    ranks = {name: None if shape is None else len(shape) for name, shape in inputs}
    files: dict[str, ArrayFile] = {}
    taken, cut = 0, None
    try:
        for number, sample in enumerate(samples):
            parts = _parts(sample, [name for name, _ in inputs], number)
            if not files:
                files = {name: ArrayFile(folder / f"{i}.npy") for i, name in enumerate(parts)}
            if parts.keys() != files.keys():
                message = f"sample {number} has {', '.join(parts)}, the samples before it {', '.join(files)}"
                raise UsageError.because(message)
            for name, array in parts.items():
                files[name].append(_batch(array, ranks.get(name)), name, number)
            taken = max(file.length for file in files.values())
            if taken >= (most or MOST_SAMPLES):
                cut = taken if most is None and next(samples, None) is not None else None
                break
    finally:
        for file in files.values():
            file.close()
    return Stored("random", [(name, str(file.path)) for name, file in files.items()], cut)


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
        parts = {str(name): part for name, part in sample.items() if name in inputs or len(sample) == 1}
        if not parts:
            names = f"sample {number} has {', '.join(map(str, sample))}"
            raise UsageError.because(f"{names}; the inputs of the model are {', '.join(inputs)}")
        return {name: _array(part) for name, part in parts.items()}
    # Lists of numbers, also nested ones, are arrays.
    if isinstance(sample, (tuple, list)) and sample and _is_tensor(sample[0]):
        if len(sample) < len(inputs):
            raise UsageError.because(f"sample {number} has {len(sample)} parts; the model has {len(inputs)} inputs")
        return {name: _array(part) for name, part in zip(inputs, sample)}
    return {inputs[0]: _array(sample)}


def _batch(array: NDArray[Any], rank: int | None) -> NDArray[Any]:
    """The array with an axis of samples."""
    return array[None] if rank is not None and array.ndim == rank - 1 else array


def _is_array(data: Any) -> bool:
    return _is_tensor(data) and hasattr(data, "shape")


def _is_tensor(data: Any) -> bool:
    """True for arrays, tensors of any framework, and pictures."""
    return hasattr(data, "__array__") or hasattr(data, "__array_interface__")


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
        self.length = 0

    def append(self, array: NDArray[Any], name: str, number: int) -> None:
        """Appends the samples of an array."""
        if self._dtype is None:
            self._dtype, self._shape = array.dtype, array.shape[1:]
        if (array.dtype, array.shape[1:]) != (self._dtype, self._shape):
            was = f"{self._dtype} of shape {self._shape}"
            message = f"sample {number} of input {name} is {array.dtype} of shape {array.shape[1:]}, not {was}"
            raise UsageError.because(message, "samples must have one shape: resize or pad them")
        self._file.write(array.data)
        self.length += len(array)

    def close(self) -> None:
        """Writes the header."""
        if self._dtype is not None:
            shape = (self.length, *self._shape)
            text = repr({"descr": self._dtype.str, "fortran_order": False, "shape": shape}).encode()
            length = self.HEADER - 10
            self._file.seek(0)
            self._file.write(b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n")
        self._file.close()


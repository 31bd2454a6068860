"""The functions of the package."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _qcc
from ._data import Stored, stored
from ._errors import CompileWarning, Diagnostic, Error, UsageError
from ._models import Source, is_ultralytics, located
from ._options import Option, arguments, known
from ._progress import ProgressFunction, Silent, observer
from ._report import Record, Report

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    Path_ = str | os.PathLike[str]
    Data = Path_ | ArrayLike | Mapping[str, ArrayLike] | Iterable[Any]
    Progress = bool | ProgressFunction | None


class Contents(Record):
    """The contents of a model (docs/inspect.md). ``print(contents)`` prints them as the command line does."""

    def __init__(self, json: str, text: str) -> None:
        from json import loads

        super().__init__(loads(json))
        self._json, self._text = json, text

    def json(self) -> str:
        """The contents as JSON."""
        return self._json

    def __str__(self) -> str:
        return self._text


class Difference(Contents):
    """The differences of two files (docs/inspect.md). It is true if there are any."""

    def __init__(self, json: str, text: str, equal: bool) -> None:
        super().__init__(json, text)
        self._equal = equal

    @property
    def equal(self) -> bool:
        """Whether there are no differences."""
        return self._equal

    def __bool__(self) -> bool:
        return not self._equal


class Comparison(Contents):
    """How far the outputs of two models are apart. ``print(comparison)`` prints a table."""

    def __init__(self, json: str, text: str, messages: list[Diagnostic]) -> None:
        super().__init__(json, text)
        self._messages = messages

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Warnings and notes."""
        return self._messages

    @property
    def worst_sqnr(self) -> float | None:
        """The lowest signal-to-noise ratio of any output in dB; ``None`` if all outputs are equal."""
        return min((o["sqnr"] for o in self._fields["outputs"] if o["sqnr"] is not None), default=None)


def compile(
    model: Any,
    to: str | Iterable[str] | None = None,
    *,
    data: Data | None = None,
    validate: Data | None = None,
    args: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    dynamic_shapes: Any = None,
    progress: Progress = None,
    **options: Any,
) -> Report:
    """Compiles a model, writes the artefacts, and returns a report.

    :param model: a path (ONNX, PyTorch ``.pt2``, TFLite, OpenVINO ``.xml``), the bytes of such a file, an
        ``onnx.ModelProto``, a ``torch.nn.Module`` with ``args``, a ``torch.export.ExportedProgram``, or an
        ``ultralytics.YOLO``.
    :param to: the target or targets: ``tflite``, ``onnx``, ``openvino``.
    :param data: calibration data: a path (dataset .yaml or .ndjson, folder or .zip of pictures, .txt list, .npy,
        .npz), an array whose first axis are samples, a dictionary of such arrays by input, or any iterable of samples
        (such as a ``DataLoader``), each an array, a tensor, a dictionary or a tuple in the order of the inputs; labels
        behind them are left out. Of an iterable 512 samples are taken, or ``samples=N``.
    :param validate: data on which the result is compared with the float model, in the same forms.
    :param args: positional arguments with which a ``torch.nn.Module`` is called.
    :param kwargs: keyword arguments with which it is called; for an ``ultralytics.YOLO`` arguments of its export, such
        as ``dict(imgsz=320, nms=False)``.
    :param dynamic_shapes: its open extents, as ``torch.export.export`` takes them.
    :param progress: whether progress is shown (by default on a terminal and in notebooks), or a function
        ``progress(stage, done, all)``, which cancels the compilation if it raises an exception.
    :param options: the options of the command line, with ``_`` for ``-``: ``int8=True``, ``output="folder/"``,
        ``shape={"images": (1, 3, 640, 640)}``, ``exclude=["*head*"]``. :func:`options` lists them.
    :raises UsageError: if options are unknown, wrong, missing, or contradict each other.
    :raises GateError: if the quality is below ``min_sqnr``, ``min_agreement`` or ``max_drop``.
    :raises Error: if the model or the data are refused, or an artefact cannot be written.

    >>> report = qcc.compile("model.onnx", to="tflite", int8=True, data=samples)
    >>> report.output, report.worst_sqnr
    """
    given = {"to": to, **options}
    arguments(None, given)
    with _folder() as folder, _shown(progress, bool(options.get("quiet"))) as observer:
        used = located(model, folder / "model", args, kwargs, dynamic_shapes)
        most = _count(options)
        calibration = None if data is None else stored(_dataset(model, data), used, folder / "data", most)
        validation = None if validate is None else stored(_dataset(model, validate), used, folder / "other", None)
        outcome = _compiled(used, given, calibration, validation, observer)
    report = Report(outcome)
    _warn(report.diagnostics, bool(options.get("quiet")))
    _warn_of_cut("data", calibration, "; samples=N takes another number")
    _warn_of_cut("validate", validation)
    if options.get("explain"):
        print(report.explain("*" if options["explain"] is True else options["explain"]), end="")
    if options.get("verbose"):
        print(report.summary(verbose=True), end="")
    return report


def _compiled(
    used: Source,
    given: Mapping[str, Any],
    data: Stored | None,
    validate: Stored | None,
    observer: Silent,
) -> _qcc.Outcome:
    options = arguments(None, {**given, "data": data and data.path, "validate": validate and validate.path})
    stored = [data and data.arrays, validate and validate.arrays]
    in_memory = used.name is not None or any(stored)

    def run(path: str) -> _qcc.Outcome:
        words = [*options, "--", path]
        command = None if in_memory else _command(words)
        return _qcc.compile(["qcc", *words], used.name, stored[0], stored[1], command, observer)

    try:
        return run(used.path)
    except Error as error:
        if used.simpler is None or error.code != "unsupported-op":
            raise
        try:
            return run(used.simpler())
        except Error as second:
            raise (second if second.code != "unsupported-op" else error) from None


def inspect(model: Any, *, args: tuple[Any, ...] | None = None, **options: Any) -> Contents:
    """The contents of a model: operators, types, quantization parameters, digests of weights (docs/inspect.md).

    :param model: as that of :func:`compile`.
    :param args: positional arguments with which a ``torch.nn.Module`` is called.
    :param options: those of ``qcc inspect``: ``graph=True``, ``shape={NAME: SHAPE}``.
    """
    words = arguments("inspect", options)
    with _folder() as folder:
        used = located(model, folder / "model", args)
        return Contents(*_qcc.inspect(["qcc", "inspect", *words, "--", used.path], used.name or used.path))


def diff(before: Any, after: Any, **options: Any) -> Difference:
    """The differences of the contents of two models of one format. It is true if there are any.

    :param before: the old file or model.
    :param after: the new file or model.
    """
    words = arguments("diff", options)
    with _folder() as folder:
        old, new = located(before, folder / "before"), located(after, folder / "after")
        return Difference(*_qcc.diff(["qcc", "diff", *words, "--", old.path, new.path], old.name or old.path))


def compare(truth: Any, other: Any, data: Data, *, progress: Progress = None, **options: Any) -> Comparison:
    """Compares the outputs of two models on the same data.

    :param truth: the reference model.
    :param other: the model that is compared with it.
    :param data: as that of :func:`compile`.
    :param options: those of ``qcc compare``: ``samples=32``, ``min_sqnr=30``.
    :raises GateError: if the outputs are further apart than ``min_sqnr`` or ``min_agreement`` allow.
    """
    arguments("compare", options)
    with _folder() as folder, _shown(progress, False) as observer:
        one, two = located(truth, folder / "truth"), located(other, folder / "other")
        used = stored(data, one, folder / "data", _count(options))
        _warn_of_cut("data", used, "; samples=N takes another number")
        words = arguments("compare", {**options, "data": used.path})
        line = ["qcc", "compare", *words, "--", one.path, two.path]
        names: list[Path_] = [model.name or model.path for model in (one, two)]
        json, text, messages, unmet = _qcc.compare(line, names, used.arrays, observer)
    comparison = Comparison(json, text, [Diagnostic(*message) for message in messages])
    _warn(comparison.diagnostics, False)
    if unmet is not None:
        raise unmet
    return comparison


def report(artefact: Any, source: Any = None, data: Data | None = None, **options: Any) -> Report:
    """Reports on an artefact of qcc or of another tool; with the float model that it was made from, and data, also on
    how far its outputs and layers are from that model.

    :param artefact: the artefact (.tflite, .onnx, OpenVINO .xml).
    :param source: the float model that it was made from.
    :param data: as that of :func:`compile`.
    :param options: those of ``qcc report``: ``report="x.html"``.
    """
    arguments("report", options)
    with _folder() as folder:
        models = [located(artefact, folder / "artefact")]
        models += [] if source is None else [located(source, folder / "source")]
        used = None if data is None else stored(data, models[-1], folder / "data", _count(options))
        words = arguments("report", {**options, "data": used and used.path})
        line = ["qcc", "report", *words, "--", *(model.path for model in models)]
        in_memory = any(model.name for model in models) or (used is not None and used.arrays is not None)
        command = None if in_memory else _command(line[1:])
        done = Report(_qcc.report(line, used and used.arrays, command))
    _warn(done.diagnostics, False)
    return done


def options(command: str | None = None) -> list[Option]:
    """The options of a function as the command line has them: those of :func:`compile`, or of ``inspect``, ``diff``,
    ``compare`` or ``report``."""
    return list({option.name: option for option in known(command).values()}.values())


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for models and data that are in memory, removed at the end."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="qcc-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _shown(progress: Progress, quiet: bool) -> Iterator[Silent]:
    shown = observer(progress, quiet)
    try:
        yield shown
    finally:
        shown.close()


def _dataset(model: Any, data: Any) -> Any:
    """The data; for an Ultralytics model, the pictures of one of its datasets by name."""
    if isinstance(data, (str, os.PathLike)) and is_ultralytics(model) and not os.path.exists(data):
        from ._ultralytics import dataset

        return dataset(model, os.fspath(data))
    return data


def _count(options: Mapping[str, Any]) -> int | None:
    """The number of samples that is asked for. What is no number, the command line refuses."""
    try:
        return int(options["samples"])
    except (KeyError, TypeError, ValueError):
        return None


def _warn_of_cut(name: str, data: Stored | None, help: str = "") -> None:
    if data is not None and data.cut is not None:
        message = f"the first {data.cut} samples of {name} are used{help}"
        warnings.warn(message, CompileWarning, stacklevel=3)


def _command(words: Iterable[str]) -> str:
    import shlex

    return shlex.join(["qcc", *words])


def _warn(diagnostics: Iterable[Diagnostic], quiet: bool) -> None:
    for diagnostic in diagnostics:
        if diagnostic.severity == "warning" and (not quiet or diagnostic.code == "synthetic-data"):
            warnings.warn(str(diagnostic), CompileWarning, stacklevel=3)

"""Reports of compilations."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._errors import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from . import _qcc


class Record:
    """A part of a report: its fields are attributes, as in the JSON (docs/report.md)."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._fields:
            return _wrapped(self._fields[name])
        raise AttributeError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(self._fields)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._fields]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __getitem__(self, name: str) -> Any:
        return _wrapped(self._fields[name])

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Record) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def dict(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return self._fields

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={_short(value)}" for name, value in self._fields.items())
        return f"{type(self).__name__}({fields})"


def _wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return Record(value)
    return [_wrapped(item) for item in value] if isinstance(value, list) else value


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)) and len(value) > 3:
        return f"<{len(value)} {'fields' if isinstance(value, dict) else 'items'}>"
    return repr(_wrapped(value))


class Artefact(Record):
    """What was written for one target. All fields of the JSON are attributes (docs/report.md)."""

    @property
    def target(self) -> str:
        """The target: ``tflite``, ``onnx`` or ``openvino``."""
        return str(self._fields["target"])

    @property
    def output(self) -> Path:
        """The main file."""
        return Path(self._fields["output"])

    @property
    def output_bytes(self) -> int:
        """The length of all files of the artefact."""
        return int(self._fields["output_bytes"])

    @property
    def worst_sqnr(self) -> float | None:
        """The lowest signal-to-quantization-noise ratio of any output in dB; ``None`` without data."""
        return min((o["sqnr"] for o in self._measured() if o["sqnr"] is not None), default=None)

    @property
    def worst_agreement(self) -> float | None:
        """The lowest agreement of any output of known kind (boxes, classes ..) with the float model in percent."""
        return min((o["agreement"]["percent"] for o in self._measured() if o["agreement"]), default=None)

    def _measured(self) -> list[dict[str, Any]]:
        quality = self._fields["quality"]
        return quality["outputs"] if quality else []


class Report(Record):
    """What was compiled and written. All fields of the JSON are attributes (docs/report.md).

    ``print(report)`` prints the summary of the command line; notebooks show a table.
    """

    def __init__(self, outcome: _qcc.Outcome) -> None:
        import json

        self._outcome = outcome
        super().__init__(json.loads(outcome.json()))

    @property
    def artefacts(self) -> list[Artefact]:
        """What was written, one for each target, in the order of the targets."""
        return [Artefact(fields) for fields in self._fields["artefacts"]]

    @property
    def output(self) -> Path:
        """The main file of the first target."""
        return self.artefacts[0].output

    @property
    def model_bytes(self) -> int:
        """The length of the model file."""
        return int(self._fields["model_bytes"])

    @property
    def precision(self) -> str:
        """The precision of weights and activations."""
        return str(self._fields["precision"])

    @property
    def worst_sqnr(self) -> float | None:
        """The lowest signal-to-quantization-noise ratio of any output of any target in dB; ``None`` without data."""
        return min((s for a in self.artefacts if (s := a.worst_sqnr) is not None), default=None)

    @property
    def worst_agreement(self) -> float | None:
        """The lowest agreement of any output of any target with the float model in percent, where it is known."""
        return min((s for a in self.artefacts if (s := a.worst_agreement) is not None), default=None)

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Warnings and notes."""
        return [Diagnostic(*message) for message in self._outcome.diagnostics()]

    def json(self) -> str:
        """The report as JSON, as ``--report x.json`` writes it."""
        return self._outcome.json()

    def html(self) -> str:
        """The report as a page, as ``--report x.html`` writes it."""
        return self._outcome.file("x.html").decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report: ``x.html`` to read, ``x.json`` with all numbers, ``x.overlay.json`` for Model Explorer."""
        Path(path).write_bytes(self._outcome.file(path))

    def summary(self, verbose: bool = False) -> str:
        """The summary that the command line prints."""
        return self._outcome.summary(verbose)

    def explain(self, pattern: str = "*") -> str:
        """How each node is computed (integer, dynamic, weights only or float) and why; ``*`` matches any characters."""
        return self._outcome.explanation(pattern) or ""

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        parts = [f"{a.target} {self.precision} {_size(a.output_bytes)}: {a.output}" for a in self.artefacts]
        sqnr = "" if self.worst_sqnr is None else f", SQNR {self.worst_sqnr:.1f} dB"
        return f"<qcc.Report {'; '.join(parts)}{sqnr}>"

    def _repr_html_(self) -> str:
        from html import escape

        rows = [[escape(cell) for cell in row] for artefact in self.artefacts for row in self._rows(artefact)]
        head = ["target", "file", "size", "output", "SQNR", "agreement", "largest error"]
        titles = "".join(f"<th>{title}</th>" for title in head)
        table = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        warnings = "".join(f"<p>{escape(str(d))}</p>" for d in self.diagnostics if d.severity == "warning")
        return (
            f"<table><thead><tr>{titles}</tr></thead><tbody>{table}</tbody></table>"
            f"{warnings}<details><summary>summary</summary><pre>{escape(self.summary())}</pre></details>"
        )

    def _rows(self, artefact: Artefact) -> Iterator[list[str]]:
        size = _size(artefact.output_bytes)
        if self.model_bytes and artefact.output_bytes:
            size += f" ({self.model_bytes / artefact.output_bytes:.1f}x smaller)"
        first = [f"{artefact.target} {self.precision}", str(artefact.output), size]
        measured = {output["name"]: output for output in artefact._measured()}
        for port in artefact.outputs:
            found = measured.get(port.name)
            cells = [f"{port.name}: {port.type}", "", "", ""]
            if found:
                agreement = found["agreement"]
                cells[1:] = [
                    "" if found["sqnr"] is None else f"{found['sqnr']:.1f} dB",
                    f"{agreement['measure']} {agreement['percent']:.2f} %" if agreement else "",
                    "" if found["max_error"] is None else f"{found['max_error']:.3g}",
                ]
            yield first + cells
            first = ["", "", ""]


def _size(n: int) -> str:
    for unit, of in (("MB", 1e6), ("kB", 1e3)):
        if n >= of:
            return f"{n / of:.2f} {unit}"
    return f"{n} B"

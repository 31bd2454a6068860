"""Exceptions and warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self

    from . import _qcc
    from ._report import Report


class Diagnostic(NamedTuple):
    """One message: what is wrong, where, and what to do."""

    severity: str
    """``error``, ``warning`` or ``note``."""
    code: str
    """A short stable word for the kind of message, such as ``unsupported-op``."""
    message: str
    """What is wrong."""
    where: str | None
    """The node of the model that it is about."""
    notes: list[str]
    """Details."""
    help: str | None
    """What to do."""

    def __str__(self) -> str:
        where = f" (at {self.where})" if self.where else ""
        help = f"; {self.help}" if self.help else ""
        return f"{self.severity}[{self.code}]: {self.message}{where}{help}"


class Error(Exception):
    """The model or the data are refused, or the artefact cannot be written. Nothing was written.

    The text is that of the command line. There may be several errors: :attr:`diagnostics` has all, the other
    attributes are those of the first.
    """

    diagnostics: list[Diagnostic]
    """All errors."""

    def __init__(self, text: str, diagnostics: list[Diagnostic]) -> None:
        super().__init__(text.rstrip("\n"))
        self.diagnostics = diagnostics

    @property
    def code(self) -> str:
        """A short stable word for the kind of error, such as ``unsupported-op``."""
        return self.diagnostics[0].code

    @property
    def where(self) -> str | None:
        """The node of the model that the error is about."""
        return self.diagnostics[0].where

    @property
    def help(self) -> str | None:
        """What to do."""
        return self.diagnostics[0].help

    @classmethod
    def _of(cls, text: str, messages: list[_qcc._Message], outcome: _qcc.Outcome | None) -> Self:
        return cls(text, [Diagnostic(*message) for message in messages])


class UsageError(Error, TypeError, ValueError):
    """Options are unknown, wrong, missing, or contradict each other."""

    @classmethod
    def because(cls, message: str, help: str | None = None) -> Self:
        """The error with this message."""
        text = f"error[usage]: {message}" + (f"\n  = help: {help}" if help else "")
        return cls(text, [Diagnostic("error", "usage", message, None, [], help)])


class GateError(Error):
    """The quality is below ``min_sqnr``, ``min_agreement`` or ``max_drop``. No artefact was written."""

    report: Report | None = None
    """The report of the compilation."""

    @classmethod
    def _of(cls, text: str, messages: list[_qcc._Message], outcome: _qcc.Outcome | None) -> Self:
        from ._report import Report

        error = super()._of(text, messages, outcome)
        error.report = None if outcome is None else Report(outcome)
        return error


class CompileWarning(UserWarning):
    """The result may not be what is expected: for example, calibration on built-in pictures."""

"""What the package takes from the compiler."""

from os import PathLike
from typing import Any, Protocol, final

__all__ = [
    "Outcome",
    "__version__",
    "compare",
    "compile",
    "diff",
    "inputs",
    "inspect",
    "main",
    "options",
    "report",
]

__version__: str

_Path = str | PathLike[str]
_Arrays = list[tuple[str, str]]
_Message = tuple[str, str, str, str | None, list[str], str | None]

class _Observer(Protocol):
    def stage(self, name: str, /) -> object: ...
    def samples(self, done: int, all: int, /) -> object: ...
    def graph(self, text: str, /) -> object: ...

@final
class Outcome:
    def json(self, /) -> str: ...
    def file(self, /, name: _Path) -> bytes: ...
    def summary(self, /, verbose: bool) -> str: ...
    def explanation(self, /, pattern: str) -> str | None: ...
    def diagnostics(self, /) -> list[_Message]: ...

def main(line: list[str]) -> int: ...
def options(command: str | None) -> list[tuple[str, list[str], str | None, bool, str]]: ...
def inputs(model: _Path, name: _Path) -> list[tuple[str, list[str] | None]]: ...
def compile(
    line: list[str],
    name: _Path | None,
    data: _Arrays | None,
    validate: _Arrays | None,
    command: str | None,
    observer: _Observer | None,
) -> Outcome: ...
def compare(
    line: list[str], names: list[_Path], data: _Arrays | None, observer: _Observer | None
) -> tuple[str, str, list[_Message], Any]: ...
def report(line: list[str], data: _Arrays | None, command: str | None) -> Outcome: ...
def inspect(line: list[str], model: _Path) -> tuple[str, str]: ...
def diff(line: list[str], before: _Path) -> tuple[str, str, bool]: ...

"""Progress on a terminal, in a notebook, or by a function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

ProgressFunction = Callable[[str, int, int], object]

WIDTH = 30


class Silent:
    """Shows no progress, and prints the graphs that are asked for."""

    def stage(self, name: str) -> None:
        """A stage begins."""

    def samples(self, done: int, all: int) -> None:
        """Of all samples of the stage, some are done."""

    def graph(self, text: str) -> None:
        """A graph to print."""
        print(text, end="")

    def close(self) -> None:
        """The work is done."""


class Function(Silent):
    """Calls a function with the stage, the samples that are done, and all samples (0 if it has none)."""

    def __init__(self, function: ProgressFunction) -> None:
        self._function = function
        self._stage = ""

    def stage(self, name: str) -> None:
        self._stage = name
        self._function(name, 0, 0)

    def samples(self, done: int, all: int) -> None:
        self._function(self._stage, done, all)


class Terminal(Silent):
    """A line on stderr, removed at the end."""

    def __init__(self) -> None:
        self._stage = ""

    def _line(self, text: str) -> None:
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()

    def stage(self, name: str) -> None:
        self._stage = name
        self._line(name)

    def samples(self, done: int, all: int) -> None:
        full = WIDTH * done // max(all, 1)
        self._line(f"{self._stage:<12} {'█' * full}{'░' * (WIDTH - full)} {done}/{all} samples")

    def graph(self, text: str) -> None:
        self.close()
        super().graph(text)

    def close(self) -> None:
        self._line("")


class Notebook(Silent):
    """A bar in the output of the cell."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._stage = ""
        self._handle = display.display(self._bar(0, 0), display_id=True)

    def _bar(self, done: int, all: int) -> Any:
        value = f"value='{done}' max='{all}'" if all else ""
        count = f"{done}/{all} samples" if all else ""
        return self._display.HTML(f"<progress {value}></progress> {self._stage} {count}")

    def stage(self, name: str) -> None:
        self._stage = name
        self._handle.update(self._bar(0, 0))

    def samples(self, done: int, all: int) -> None:
        self._handle.update(self._bar(done, all))

    def close(self) -> None:
        self._handle.update(self._display.HTML(""))


def observer(progress: bool | ProgressFunction | None, quiet: bool) -> Silent:
    """What shows the progress: by default a notebook or a terminal, if there is one."""
    if callable(progress):
        return Function(progress)
    if progress is False or (quiet and progress is None):
        return Silent()
    if _in_notebook():
        import IPython.display

        return Notebook(IPython.display)
    return Terminal() if progress or sys.stderr.isatty() else Silent()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")

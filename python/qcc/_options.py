"""Keyword arguments as options of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from . import _qcc
from ._errors import UsageError


class Option(NamedTuple):
    """An option of a command, and the keyword argument of that name."""

    name: str
    """The name of the keyword argument."""
    aliases: list[str]
    """Other names that mean the same."""
    value: str | None
    """What its value is; ``None`` if it is a switch."""
    repeats: bool
    """Whether it takes several values (a list), or values by name (a dictionary)."""
    help: str
    """What it does."""


@cache
def known(command: str | None) -> dict[str, Option]:
    """The options of a command by name and alias."""
    options: dict[str, Option] = {}
    for name, aliases, value, repeats, help in _qcc.options(command):
        option = Option(_keyword(name), [_keyword(alias) for alias in aliases], value, repeats, help)
        options.update({spelling: option for spelling in (option.name, *option.aliases)})
    return options


def arguments(command: str | None, given: Mapping[str, Any]) -> list[str]:
    """The arguments for keyword arguments of these names."""
    options = known(command)
    line: list[str] = []
    for name, value in given.items():
        option = options.get(name)
        if option is None:
            raise _unknown(command, name, options)
        if value is None or value is False:
            continue
        spelled = "--" + option.name.replace("_", "-")
        if value is True:
            line.append(spelled)
        else:
            line.extend(f"{spelled}={text}" for text in _values(option, value))
    return line


def _keyword(name: str) -> str:
    return name.replace("-", "_")


def _values(option: Option, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{name}={_text(values)}" for name, values in value.items()]
    if option.repeats and isinstance(value, Iterable) and not isinstance(value, (str, os.PathLike)):
        return [_text(item) for item in value]
    return [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if isinstance(value, Iterable):
        return ",".join(_text(item) for item in value)
    return str(value)


def _unknown(command: str | None, name: str, options: Mapping[str, Option]) -> UsageError:
    from difflib import get_close_matches

    close = get_close_matches(name, options, n=1)
    function = command or "compile"
    listed = f"qcc.options({command!r})" if command else "qcc.options()"
    help = f"did you mean {close[0]!r}?" if close else f"{listed} lists the options"
    return UsageError.because(f"qcc.{function} has no option {name!r}", help)

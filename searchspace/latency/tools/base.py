"""What is asked of a tool that times a model on a device, and the tools there are."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

from ...errors import InvalidInputError
from ...plugins import load_entry_points
from ...registry import Registry

__all__ = [
    "NUMBER",
    "Reading",
    "Timing",
    "Tool",
    "create_tool",
    "in_ms",
    "list_tools",
    "register_tool",
    "tool_of",
]

_MODULES = ("onnxruntime_perf_test", "benchmark_model", "benchmark_app", "trtexec")

#: A number as C++ streams and Python print it, in a regular expression.
NUMBER = r"(-?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf))"

#: ms in one of a unit.
_MS = {"s": 1e3, "sec": 1e3, "ms": 1.0, "us": 1e-3, "µs": 1e-3, "ns": 1e-6}


@dataclass(frozen=True, slots=True)
class Timing:
    """A file to be timed on an input of one shape.

    Attributes:
        name: of its result, without ending, e.g. ``"b003-56x56"``.
        file: in the pack, e.g. ``"blocks/b003.onnx"``.
        shape: of the input ``x``, batch first.
        free: whether height and width are open in the file.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    free: bool = False

    @property
    def side(self) -> tuple[int, int] | None:
        """Height and width of a map, else none."""
        return (self.shape[2], self.shape[3]) if len(self.shape) == 4 else None


@dataclass(frozen=True, slots=True)
class Reading:
    """What a tool says of one timing; ``None`` where it does not.

    Attributes:
        median: over its runs, in ms.
        mean: over its runs, in ms.
    """

    median: float | None = None
    mean: float | None = None


class Tool(abc.ABC):
    """A program that times one model and prints, or writes, how long it took."""

    #: Name by which it was registered; what a table calls its runtime.
    name: ClassVar[str] = ""
    #: The program and what it is always given; a user may set another in its script.
    program: ClassVar[str] = ""
    #: Endings of the files it writes, the one that its script makes first.
    endings: ClassVar[tuple[str, ...]] = (".txt",)
    #: What a user has to know before running it.
    remark: ClassVar[str] = ""

    @abc.abstractmethod
    def arguments(self, timing: Timing) -> str:
        """Words behind the program that time one file, as a shell takes them."""

    def conversion(self, timing: Timing) -> str:  # noqa: ARG002
        """A command that makes its own file of the ONNX one, where it cannot read that."""
        return ""

    @abc.abstractmethod
    def knows(self, text: str) -> bool:
        """Whether a text is of this tool."""

    @abc.abstractmethod
    def read(self, text: str) -> Reading:
        """The times in a text.

        Raises:
            InvalidInputError: if a time has no unit, or one that nobody knows.
        """


def in_ms(number: str, unit: str) -> float:
    """A printed time in ms.

    Raises:
        InvalidInputError: if it is no number, or the unit none of s, ms, us, ns.
    """
    if unit not in _MS:
        raise InvalidInputError(
            f"a time of {number} in {unit or 'no unit'}; need one of {', '.join(_MS)}"
        )
    try:
        return float(number) * _MS[unit]
    except ValueError as error:
        raise InvalidInputError(f"a time of {number!r} {unit}; need a number") from error


_TOOLS: Registry[type[Tool]] = Registry("latency tool")


def register_tool(name: str) -> Callable[[type[Tool]], type[Tool]]:
    """Register a tool's class under ``name``."""

    def register(tool: type[Tool]) -> type[Tool]:
        tool.name = name
        return _TOOLS.add(name, tool)

    return register


def _load() -> None:
    for module in _MODULES:
        import_module(f".{module}", __package__)
    load_entry_points()


def create_tool(name: str) -> Tool:
    """Make a registered tool; raises ``UnknownNameError`` for an unknown one."""
    _load()
    return _TOOLS[name]()


def list_tools(pattern: str = "*") -> list[str]:
    """Names of the registered tools that match a shell pattern."""
    _load()
    return _TOOLS.names(pattern)


def tool_of(text: str, source: str) -> Tool:
    """The tool that a text is of.

    Raises:
        InvalidInputError: if it is of none, or might be of two.
    """
    known = [name for name in list_tools() if create_tool(name).knows(text)]
    if len(known) != 1:
        what = f"might be of {' or '.join(known)}: say which" if known else "is of no tool known"
        raise InvalidInputError(
            f"{source} {what}; tools are {', '.join(list_tools())}, and a CSV file with columns"
            " file, height, width and ms is read as well"
        )
    return create_tool(known[0])

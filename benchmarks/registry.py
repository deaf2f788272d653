"""What a benchmark is, and the table of all of them.

A new benchmark is one file: a function that reads a folder's table under
:func:`register_benchmark`, and its module's name in ``_MODULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ..searchspace.plugins import load_entry_points
from ..searchspace.registry import Registry
from .tables import TruthTable

__all__ = ["Benchmark", "get_benchmark", "list_benchmarks", "register_benchmark"]

Reader = Callable[[Path], TruthTable]

#: Images that candidates are scored on, in the benchmark's folder, and the teacher made for them.
IMAGES = "cifar10_5k.npz"
TEACHER = "resnet56-cifar10"
WEIGHTS = "teachers/resnet56-*.th"

_MODULES = (
    "nasbench101",
    "nasbench201",
    "nasbench_macro",
    "resnet_cifar_s0",
    "vitbench",
)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Trained accuracies of a space's architectures, and how these are scored.

    Candidates are scored on the classes of the images at hand, but their sizes are quoted as
    they were trained: for that there are two spaces of the same genes.

    Attributes:
        name: registered name.
        space: registered name of the space.
        read: from a folder to the table; raises :class:`InvalidInputError`.
        truth: name of the default column of accuracies.
        about: one line of words.
        published: options of the space as its networks were trained; sizes are quoted of it.
        scored: options of the space that is scored, beside the images' classes and channels;
            its resolution, where given, is what images are resized to.
    """

    name: str
    space: str
    read: Reader
    truth: str
    about: str
    published: Mapping[str, Any] = field(default_factory=dict)
    scored: Mapping[str, Any] = field(default_factory=dict)


_BENCHMARKS: Registry[Benchmark] = Registry("benchmark")


def register_benchmark(
    name: str,
    *,
    space: str,
    truth: str,
    published: Mapping[str, Any] | None = None,
    scored: Mapping[str, Any] | None = None,
) -> Callable[[Reader], Reader]:
    """Register ``f(folder) -> TruthTable``; its docstring's first line is told in lists.

    Args:
        name: not taken yet.
        space: see :attr:`Benchmark.space`, likewise the others.
        truth: see there.
        published: see there.
        scored: see there.

    Raises:
        InvalidInputError: if the name is taken.
    """

    def register(read: Reader) -> Reader:
        about = (read.__doc__ or "").strip().split("\n")[0]
        _BENCHMARKS.add(
            name, Benchmark(name, space, read, truth, about, published or {}, scored or {})
        )
        return read

    return register


def _load() -> None:
    for module in _MODULES:
        import_module(f".{module}", __package__)
    load_entry_points()


def get_benchmark(name: str) -> Benchmark:
    """The registered benchmark.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    _load()
    return _BENCHMARKS[name]


def list_benchmarks(pattern: str = "*") -> list[str]:
    """Names of the registered benchmarks that match a shell pattern."""
    _load()
    return _BENCHMARKS.names(pattern)

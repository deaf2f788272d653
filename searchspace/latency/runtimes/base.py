"""What the bench asks of a runtime, and the runtimes there are."""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ...errors import InvalidInputError
from ...memory import keep_freed_memory
from ...plugins import load_entry_points
from ...registry import Registry
from ..cut import Chunk

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    "Loaded",
    "Runtime",
    "Setting",
    "create_runtime",
    "list_runtimes",
    "register_runtime",
    "runtime_class",
    "undisturbed",
]

_MODULES = ("torch_eager", "torch_compile", "onnx_runtime")

T = TypeVar("T")
Milliseconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """How networks are run.

    Attributes:
        threads: of one call.
        batch: images in a call.
        dtype: ``"float32"`` or ``"bfloat16"``.
        accelerator: ``"cpu"`` or ``"cuda"``.

    Raises:
        InvalidInputError: if a number is below 1, there are fewer cores than threads, or a word
            is unknown.
    """

    threads: int = 1
    batch: int = 1
    dtype: str = "float32"
    accelerator: str = "cpu"

    def __post_init__(self) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if not 1 <= self.threads <= (cores or 1):
            raise InvalidInputError(
                f"{self.threads} threads; this machine has cores for 1 to {cores}"
            )
        if self.batch < 1:
            raise InvalidInputError(f"batch {self.batch}; need at least 1 image")
        if self.dtype not in ("float32", "bfloat16"):
            raise InvalidInputError(f"dtype {self.dtype!r}; choose float32 or bfloat16")
        if self.accelerator not in ("cpu", "cuda"):
            raise InvalidInputError(f"accelerator {self.accelerator!r}; choose cpu or cuda")


class Loaded(abc.ABC):
    """A network that is ready to run."""

    @abc.abstractmethod
    def whole(self, repeats: int) -> Milliseconds:
        """Time of the whole network, ``[≥ 1]``, in ms, after a call that is not counted."""

    @abc.abstractmethod
    def parts(self, repeats: int) -> Milliseconds:
        """Time of each block inside the running network, ``[≥ 1, blocks]``, in ms.

        Both make ``repeats`` calls that :func:`undisturbed` lets count.
        """


class Runtime(abc.ABC):
    """Runs networks under one setting.

    Blocks are timed *inside* running networks, where caches, memory and fusion are as they are
    in use: timed alone, over and over, a block finds its input and weights in the cache.
    """

    #: Name by which it was registered.
    name: ClassVar[str] = ""

    #: Whether timing blocks takes long to begin, so that many calls have to be timed at once.
    parts_at_once: ClassVar[bool] = False

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.check()

    @abc.abstractmethod
    def check(self) -> None:
        """Refuse a setting or a machine that it cannot serve, in one line."""

    @abc.abstractmethod
    def versions(self) -> dict[str, str]:
        """Packages that decide on its speed."""

    @abc.abstractmethod
    def load(self, network: nn.Module, chunks: list[Chunk], image: tuple[int, int, int]) -> Loaded:
        """Make a network ready.

        Args:
            network: with weights, in evaluation mode.
            chunks: its blocks, in order.
            image: channels, height and width.
        """

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Keep this process on as many cores as it has threads, as long as the bench runs.

        Memory that is freed is kept from here on, as deployments' allocators do: by default glibc
        gives large maps back and lets every call fault them in anew, or does not, depending on
        what ran before.
        """
        keep_freed_memory()
        threads = torch.get_num_threads()
        # More threads than cores would wait for each other.
        torch.set_num_threads(self.setting.threads)
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
        if cores:
            os.sched_setaffinity(0, sorted(cores)[-self.setting.threads :])
        try:
            yield
        finally:
            if cores:
                os.sched_setaffinity(0, cores)
            torch.set_num_threads(threads)


def undisturbed(call: Callable[[], T], repeats: int) -> list[T]:
    """What ``repeats`` calls gave, of those in which the scheduler left this process alone.

    A call that is interrupted by another process takes the longer, the longer it is: a whole
    network nearly always, one of its blocks hardly ever. Such calls are made again, up to three
    times as many in all; on a machine so busy that a quarter cannot be had, all of them count.
    """
    kept: list[T] = []
    every: list[T] = []
    for _ in range(3 * repeats):
        before = _interruptions()
        every.append(call())
        if _interruptions() == before:
            kept.append(every[-1])
        if len(kept) == repeats:
            break
    return kept if 4 * len(kept) >= repeats else every


def _interruptions() -> int:
    """How often the scheduler took a core from this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource is not None else 0


_RUNTIMES: Registry[type[Runtime]] = Registry("runtime")


def register_runtime(name: str) -> Callable[[type[Runtime]], type[Runtime]]:
    """Register a runtime's class under ``name``."""

    def register(runtime: type[Runtime]) -> type[Runtime]:
        runtime.name = name
        return _RUNTIMES.add(name, runtime)

    return register


def _load() -> None:
    for module in _MODULES:
        import_module(f".{module}", __package__)
    load_entry_points()


def runtime_class(name: str) -> type[Runtime]:
    """What is registered under a name; raises ``UnknownNameError`` for an unknown one."""
    _load()
    return _RUNTIMES[name]


def create_runtime(name: str, setting: Setting | None = None, **options: Any) -> Runtime:
    """Make a registered runtime.

    Raises:
        UnknownNameError: if no runtime has that name.
        InvalidInputError: if it cannot serve the setting here.
    """
    return runtime_class(name)(setting or Setting(**options))


def list_runtimes(pattern: str = "*") -> list[str]:
    """Names of the registered runtimes that match a shell pattern."""
    _load()
    return _RUNTIMES.names(pattern)

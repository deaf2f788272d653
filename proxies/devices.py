"""Where candidates are scored: a CPU, or a GPU with kernels that repeat."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from ..searchspace.errors import InvalidInputError

__all__ = ["exact_kernels", "find_device", "free", "one_thread"]


def find_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    Raises:
        InvalidInputError: if there is none such here; the message says what there is.
    """
    if name == "cpu":
        return torch.device("cpu")
    if (found := re.fullmatch(r"cuda(?::(\d{1,3}))?", name)) is None:
        raise InvalidInputError(f"unknown device {name!r}; known: cpu, cuda, cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        built = "this torch is built without CUDA" if torch.version.cuda is None else "none is seen"
        raise InvalidInputError(f"device {name!r}: no GPU here ({built}); take cpu")
    index = int(found[1] or 0)
    if index >= count:
        raise InvalidInputError(
            f"device {name!r}: there {'is' if count == 1 else 'are'} {count} here, counted from"
            f" cuda:0; take one of these, or cpu"
        )
    return torch.device("cuda", index)


@contextlib.contextmanager
def exact_kernels() -> Iterator[None]:
    """Take cuDNN's kernels that repeat, and float32 as float32, not as TF32."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        matmul.allow_tf32 = before


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: sums split over more round differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def free(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory after a pass that did not fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()

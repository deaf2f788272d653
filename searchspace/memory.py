"""Keeping freed memory, so that large tensors need not fault in page by page again."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["keep_freed_memory"]

#: Of ``mallopt``, in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let glibc's malloc neither map nor trim, for this process's life; elsewhere nothing.

    By default every tensor above 32 MB is mapped anew and given back when it is freed: passes
    over many images spend up to half of their time on page faults.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            libc.mallopt(parameter, 1 << 30)

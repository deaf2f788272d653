"""Ctrl-C and SIGTERM as a wish that is asked for between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stoppable"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

#: Seconds after which a second Ctrl-C is meant: a terminal and torchrun both pass on the first.
_INSISTS = 1.0


@contextmanager
def stoppable(wanted: bool = True) -> Iterator[Callable[[], bool]]:
    """While the block runs, whether the user has asked to stop.

    A second Ctrl-C, a second later or more, interrupts at once. Outside the main thread,
    where no signal arrives, nobody ever asks.

    Args:
        wanted: ``False`` leaves signals as they are.
    """
    asked: list[float] = []

    def note(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if asked and number == signal.SIGINT and now - asked[0] > _INSISTS:
            raise KeyboardInterrupt
        asked.append(now)

    if not wanted or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

"""What a training run's evaluations found, as a table in a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..searchspace.errors import InvalidInputError

__all__ = ["HISTORY", "history_csv", "read_history"]

HISTORY = "history.csv"


def history_csv(lines: Sequence[dict[str, float | str]]) -> str:
    """One row an evaluation, six digits."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines
    )
    return text.getvalue()


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The history of a run, numbers as floats.

    Raises:
        InvalidInputError: if there is none.
    """
    try:
        text = (folder / HISTORY).read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"no training run in {folder}: {error.strerror}") from error
    return [
        {k: v if k == "phase" else float(v or "nan") for k, v in line.items()}
        for line in csv.DictReader(io.StringIO(text))
    ]

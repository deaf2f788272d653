"""``calibration.json``: the settings and the numbers of a calibrated search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...searchspace.files import write_atomic
from ..two_searches import admit_told, read_told

__all__ = ["CALIBRATION", "admit", "read_calibration", "write_calibration"]

CALIBRATION = "calibration.json"
_WHAT = "calibrated search"


def write_calibration(folder: Path, told: Mapping[str, Any]) -> None:
    """Write ``calibration.json``.

    Raises:
        StoreError: if the disk is full.
    """
    text = json.dumps(dict(told), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / CALIBRATION, text + "\n")


def admit(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the folder holds this very run, to be gone on with; refuses any other."""
    return bool(admit_told(folder, CALIBRATION, _WHAT, asked))


def read_calibration(folder: Path) -> dict[str, Any]:
    """``calibration.json`` of a finished calibrated search.

    Raises:
        InvalidInputError: if it is missing, damaged or of an unfinished one.
    """
    return read_told(folder, CALIBRATION, _WHAT)

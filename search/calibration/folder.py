"""``calibration.json``: the settings and the numbers of a calibrated search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...searchspace.errors import InvalidInputError
from ...searchspace.files import refuse_strangers, write_atomic

__all__ = ["CALIBRATION", "admit", "read_calibration", "write_calibration"]

CALIBRATION = "calibration.json"


def write_calibration(folder: Path, told: Mapping[str, Any]) -> None:
    """Write ``calibration.json``.

    Raises:
        StoreError: if the disk is full.
    """
    text = json.dumps(dict(told), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / CALIBRATION, text + "\n")


def admit(folder: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the folder holds this very run, to be gone on with; refuses any other."""
    if not folder.is_dir():
        return False
    path = folder / CALIBRATION
    if not path.exists():
        refuse_strangers(folder, "calibrated search")
        return False
    try:
        there = json.loads(path.read_text(encoding="utf-8"))["settings"]
        names = [*dict.fromkeys([*there, *asked])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{path} is damaged ({error}); move the folder away and run again"
        ) from error
    here = json.loads(json.dumps(asked))
    if wrong := [name for name in names if there.get(name) != here.get(name)]:
        said = "; ".join(f"{n}: {there.get(n)} there, {here.get(n)} here" for n in wrong)
        raise InvalidInputError(
            f"{folder} holds a calibrated search with other settings ({said}); choose another --out"
        )
    return True


def read_calibration(folder: Path) -> dict[str, Any]:
    """``calibration.json`` of a finished calibrated search.

    Raises:
        InvalidInputError: if it is missing, damaged or of an unfinished one.
    """
    path = folder / CALIBRATION
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        finished = told["finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"no calibrated search in {folder}: {error}") from error
    if not finished:
        raise InvalidInputError(
            f"the calibrated search in {folder} is not finished; run the same command to go on"
        )
    return dict(told)

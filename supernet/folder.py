"""A training run's folder: what lies in it beside checkpoints, and who may go on in it.

``train.json`` repeats the run, ``last.safetensors`` goes on, ``supernet.safetensors`` is what
is used, ``history.csv`` and ``curves.svg`` tell how it went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..searchspace.errors import InvalidInputError
from ..searchspace.files import refuse_strangers, write_atomic
from .session import BEST, LAST

__all__ = ["CURVES", "TRAIN", "admit", "read_train", "write_train"]

TRAIN = "train.json"
CURVES = "curves.svg"

#: What has to be equal for a run to go on; ``settings`` entry by entry.
_SAME = ("space", "data", "teacher", "world", "settings")


def read_train(folder: Path) -> dict[str, Any]:
    """``train.json`` as data.

    Raises:
        InvalidInputError: if it is missing or damaged.
    """
    path = folder / TRAIN
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if missing := [name for name in _SAME if name not in data]:
            raise ValueError(f"{', '.join(missing)} missing")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInputError(f"no training run in {folder}: {TRAIN} is missing") from error
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is damaged ({error}); move the folder away and train again"
        ) from error
    return dict(data)


def write_train(folder: Path, data: Mapping[str, Any]) -> None:
    """Write ``train.json``.

    Raises:
        StoreError: if the disk is full; what was there before stays.
    """
    write_atomic(folder / TRAIN, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def admit(folder: Path, asked: Mapping[str, Any], *, resume: bool) -> dict[str, Any]:
    """What is told of the run that goes on in a folder; empty where a new one begins.

    A folder in which nothing was trained yet is as good as new.

    Args:
        folder: may be missing.
        asked: what would be written as ``train.json``.
        resume: whether an unfinished run may go on.

    Raises:
        InvalidInputError: if something else lies there, a run of other settings, an
            unfinished one that was not asked for, or one that a resume would only repeat.
    """
    if not folder.is_dir():
        return {}
    if not (folder / TRAIN).exists():
        refuse_strangers(folder, "training run")
        return {}
    before = read_train(folder)
    if not (folder / LAST).exists():
        return {}
    if differences := _differences(before, json.loads(json.dumps(asked))):
        raise InvalidInputError(
            f"{folder} holds a training run with other settings ({'; '.join(differences)});"
            " choose another --out"
        )
    if before.get("finished"):
        return before
    if said := before.get("diverged"):
        usable = f"; {folder / BEST}, the best before, can be used" if _has(folder, BEST) else ""
        raise InvalidInputError(
            f"{folder} holds a run that diverged, and --resume would only repeat it ({said});"
            f" choose another --out and a smaller --lr{usable}"
        )
    if not resume:
        raise InvalidInputError(
            f"{folder} holds an unfinished run of the same settings; add --resume to go on, or"
            " choose another --out"
        )
    return before


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _differences(before: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """What is not the same, in words."""
    found = []
    for part in _SAME:
        theirs, ours = before[part], asked[part]
        if isinstance(theirs, dict) and isinstance(ours, dict):
            pairs = [(name, theirs.get(name), ours.get(name)) for name in {**theirs, **ours}]
            named = {"name": part, "fingerprint": f"{part}'s content"}
            found += [
                f"{named.get(name, name)} is {a!r} there and {b!r} here"
                for name, a, b in pairs
                if a != b
            ]
        elif theirs != ours:
            found.append(f"{part} is {_short(theirs)} there and {_short(ours)} here")
    return found


def _short(value: Any) -> str:
    return repr(value["name"] if isinstance(value, dict) else value)

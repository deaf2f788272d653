"""A training run's folder: what lies in it beside checkpoints, and who may go on in it.

``train.json`` repeats the run, ``last.safetensors`` goes on, ``supernet.safetensors`` is what
is used, ``history.csv`` and ``curves.svg`` tell how it went. A distillation's folder has
``distil.json`` and ``best.safetensors`` in their places.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..searchspace.errors import InvalidInputError
from ..searchspace.files import refuse_strangers, write_atomic
from .session import BEST, LAST

__all__ = ["CURVES", "TRAIN", "TRAINING", "Kind", "admit", "read_train", "write_train"]

TRAIN = "train.json"
CURVES = "curves.svg"


class Kind(NamedTuple):
    """What is trained in a folder.

    Attributes:
        name: for messages, e.g. ``"training run"``.
        record: file that repeats the run.
        best: file of the network to be used.
        same: what of the record has to be equal for a run to go on; tables entry by entry.
        begun: files or folders of which one is there as soon as there is something to go on with.
    """

    name: str
    record: str
    best: str
    same: tuple[str, ...]
    begun: tuple[str, ...] = (LAST,)


TRAINING = Kind("training run", TRAIN, BEST, ("space", "data", "teacher", "world", "settings"))


def read_train(folder: Path, kind: Kind = TRAINING) -> dict[str, Any]:
    """``train.json`` as data.

    Raises:
        InvalidInputError: if it is missing or damaged.
    """
    path = folder / kind.record
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if missing := [name for name in kind.same if name not in data]:
            raise ValueError(f"{', '.join(missing)} missing")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInputError(f"no {kind.name} in {folder}: {kind.record} is missing") from error
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is damaged ({error}); move the folder away and train again"
        ) from error
    return dict(data)


def write_train(folder: Path, data: Mapping[str, Any], kind: Kind = TRAINING) -> None:
    """Write ``train.json``.

    Raises:
        StoreError: if the disk is full; what was there before stays.
    """
    write_atomic(folder / kind.record, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def admit(
    folder: Path, asked: Mapping[str, Any], *, resume: bool, kind: Kind = TRAINING
) -> dict[str, Any]:
    """What is told of the run that goes on in a folder; empty where a new one begins.

    A folder in which nothing was trained yet is as good as new.

    Args:
        folder: may be missing.
        asked: what would be written as ``train.json``.
        resume: whether an unfinished run may go on.
        kind: of the run.

    Raises:
        InvalidInputError: if something else lies there, a run of other settings, an
            unfinished one that was not asked for, or one that a resume would only repeat.
    """
    if not folder.is_dir():
        return {}
    if not (folder / kind.record).exists():
        refuse_strangers(folder, kind.name)
        return {}
    before = read_train(folder, kind)
    if not any((folder / name).exists() for name in kind.begun):
        return {}
    if differences := _differences(before, json.loads(json.dumps(asked)), kind.same):
        raise InvalidInputError(
            f"{folder} holds a {kind.name} with other settings ({'; '.join(differences)});"
            " choose another --out"
        )
    if before.get("finished"):
        return before
    if said := before.get("diverged"):
        best = folder / kind.best
        usable = f"; {best}, the best before, can be used" if best.is_file() else ""
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


def _differences(
    before: Mapping[str, Any], asked: Mapping[str, Any], same: tuple[str, ...]
) -> list[str]:
    """What is not the same, in words."""
    found = []
    for part in same:
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

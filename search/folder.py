"""A run's folder: what lies in it, who may write to it, how it is read back.

``run.json`` repeats the run, ``candidates.sqlite`` holds every score, ``pareto.csv`` the
front, ``report.html`` the report, ``student/`` the pick's network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..searchspace.errors import InvalidInputError
from ..searchspace.space import SearchSpace, create_space
from .files import make_folder, write_atomic
from .result import SearchResult
from .run import collect
from .settings import RunSettings
from .store import RunStore, StoreError

__all__ = ["load_result", "open_folder", "save_result", "write_outputs"]

RUN, STORE, PARETO, REPORT, STUDENT = (
    "run.json",
    "candidates.sqlite",
    "pareto.csv",
    "report.html",
    "student",
)
_LOCK = ".lock"


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` as data.

    Raises:
        InvalidInputError: if it is missing or damaged.
    """
    path = folder / RUN
    try:
        data = json.loads(path.read_text())
        if not isinstance(data, dict) or not {"settings", "evaluations"} <= data.keys():
            raise ValueError("fields are missing")
    except FileNotFoundError as error:
        raise InvalidInputError(f"no run in {folder}: {RUN} is missing") from error
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is damaged ({error}); move the folder away and run again"
        ) from error
    return data


def write_run(folder: Path, settings: RunSettings, *, finished: bool, **info: Any) -> None:
    """Write ``run.json``: the settings, ``evaluations`` and whatever else repeats the run."""
    data = {"settings": settings.to_json(), "finished": finished, **info}
    write_atomic(folder / RUN, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def open_folder(folder: Path, settings: RunSettings, evaluations: int) -> Iterator[RunStore]:
    """A run's store, ready to write, held against other processes until the block ends.

    Raises:
        InvalidInputError: if the folder holds something else, a run of other settings, or
            more evaluations than asked for.
        StoreError: if another run holds it or it cannot be written.
    """
    make_folder(folder)
    try:
        lock = FileLock(folder / _LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"another run is writing to {folder}; wait for it, or choose another --out"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        _admit(folder, settings, evaluations)
        store = RunStore(folder / STORE)
        try:
            yield store
        finally:
            store.close()
    finally:
        lock.release()


def _admit(folder: Path, settings: RunSettings, evaluations: int) -> None:
    if not (folder / RUN).exists():
        strangers = [item.name for item in folder.iterdir() if not item.name.startswith(".")]
        if strangers:
            raise InvalidInputError(
                f"{folder} is not empty ({', '.join(sorted(strangers)[:3])}) and holds no run;"
                " choose another --out"
            )
        return
    before = read_run(folder)
    differences = RunSettings.from_json(before["settings"]).differences(settings)
    if differences:
        raise InvalidInputError(
            f"{folder} holds a run with other settings ({'; '.join(differences)});"
            " choose another --out"
        )
    if int(before["evaluations"]) > evaluations:
        raise InvalidInputError(
            f"{folder} holds a run of {before['evaluations']} evaluations, {evaluations} are"
            " fewer; ask for as many or more, or choose another --out"
        )


def write_outputs(result: SearchResult, folder: Path) -> None:
    """Write the front, the report, the student and the finished ``run.json``."""
    write_atomic(folder / PARETO, result.pareto_csv())
    if result.pick is not None:
        result.best.save_pretrained(folder / STUDENT)
    write_atomic(folder / REPORT, result.report())
    write_run(folder, result.settings, finished=True, notes=result.notes, **result.info)


def save_result(result: SearchResult, folder: str | Path) -> None:
    """See :meth:`SearchResult.save`."""
    folder = Path(folder)
    make_folder(folder)
    if any(folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty; choose another folder to save to")
    write_atomic(folder / STORE, result.database)
    write_outputs(result, folder)


def load_result(folder: str | Path) -> SearchResult:
    """See :meth:`SearchResult.load`."""
    folder = Path(folder)
    data = read_run(folder)
    settings = RunSettings.from_json(data["settings"])
    space = create_space(**settings.space)
    store = RunStore(folder / STORE, readonly=True)
    try:
        return assemble(store, space, settings, data, str(folder))
    finally:
        store.close()


def assemble(
    store: RunStore,
    space: SearchSpace,
    settings: RunSettings,
    info: Mapping[str, Any],
    out: str | None,
) -> SearchResult:
    """A result from what a store holds and what ``run.json`` says of it."""
    apart = ("settings", "notes", "finished")
    return SearchResult(
        space=space,
        settings=settings,
        candidates=collect(store, settings),
        objectives=tuple(settings.score["objectives"]),
        info={name: value for name, value in info.items() if name not in apart},
        notes=list(info.get("notes", [])),
        out=out,
        database=store.serialize(),
    )

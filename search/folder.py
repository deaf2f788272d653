"""A run's folder: what lies in it, who may write to it, how it is read back.

``run.json`` repeats the run, ``candidates.sqlite`` holds every score, ``pareto.csv`` the
front, ``report.html`` the report, ``student/`` the pick's network, and after a search on a
trained supernet ``front.safetensors`` what makes the front's networks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ..searchspace.errors import InvalidInputError, ScholarchError
from ..searchspace.factory import create_space
from ..searchspace.files import held, make_folder, refuse_strangers, write_atomic
from ..searchspace.space import SearchSpace
from .outcome import SearchOutcome
from .run import collect
from .settings import RunSettings
from .store import RunStore
from .weights import FrontWeights

__all__ = ["load_outcome", "open_folder", "save_outcome", "write_outputs"]

RUN, STORE, PARETO, REPORT, STUDENT, FRONT = (
    "run.json",
    "candidates.sqlite",
    "pareto.csv",
    "report.html",
    "student",
    "front.safetensors",
)

Outcome = TypeVar("Outcome", bound=SearchOutcome)
#: What has to be in ``run.json``; the rest is told, not needed.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "settings": dict,
    "evaluations": int,
    "notes": list,
    "teacher": dict,
    "host": dict,
    "versions": dict,
    "seconds": (int, float),
}


def read_run(folder: Path) -> dict[str, Any]:
    """``run.json`` as data.

    Raises:
        InvalidInputError: if it is missing or damaged.
    """
    path = folder / RUN
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInputError(f"no run in {folder}: {RUN} is missing") from error
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _damaged(folder, error) from error
    try:
        data = json.loads(text)
        for name, kind in _FIELDS.items():
            if not isinstance(data[name], kind) or isinstance(data[name], bool):
                raise TypeError(f"{name} is {data[name]!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error
    return dict(data)


def _settings(folder: Path, data: Mapping[str, Any]) -> RunSettings:
    try:
        return RunSettings.from_json(data["settings"])
    except InvalidInputError as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> InvalidInputError:
    return InvalidInputError(
        f"{folder / RUN} is damaged ({type(error).__name__}: {error}); move the folder away and"
        " run again"
    )


def write_run(folder: Path, settings: RunSettings, *, finished: bool, **info: Any) -> None:
    """Write ``run.json``: the settings, ``evaluations`` and whatever else repeats the run."""
    data = {"settings": settings.to_json(), "finished": finished, **info}
    write_atomic(folder / RUN, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def open_folder(folder: Path, settings: RunSettings, info: dict[str, Any]) -> Iterator[RunStore]:
    """A run's store, ready to write, held against other processes until the block ends.

    ``run.json`` is there before anything is scored, so that a killed run knows its settings.

    Args:
        folder: made if it is not there.
        settings: of the run.
        info: the rest of ``run.json``, ``evaluations`` among it. Of a run that goes on,
            ``started`` and the ``seconds`` spent so far are taken over.

    Raises:
        InvalidInputError: if the folder holds something else, a run of other settings, or
            more evaluations than asked for.
        StoreError: if another run holds it or it cannot be written.
    """
    with held(folder):
        before = _admit(folder, settings, info["evaluations"])
        info |= {name: before[name] for name in ("started", "seconds") if name in before}
        if not before:
            # First of all: a store alone, left by a run killed here, would be a stranger's.
            write_run(folder, settings, finished=False, **info)
        store = RunStore(folder / STORE)
        try:
            if before:
                # Last: a store that is locked or damaged leaves the earlier run as it was.
                write_run(folder, settings, finished=False, **info)
            yield store
        finally:
            store.close()


def _admit(folder: Path, settings: RunSettings, evaluations: int) -> dict[str, Any]:
    """``run.json`` of the run that goes on here; empty where the folder is new."""
    if not (folder / RUN).exists():
        refuse_strangers(folder, "run")
        return {}
    before = read_run(folder)
    differences = _settings(folder, before).differences(settings)
    if differences:
        raise InvalidInputError(
            f"{folder} holds a run with other settings ({'; '.join(differences)});"
            " choose another --out"
        )
    if before["evaluations"] > evaluations:
        raise InvalidInputError(
            f"{folder} holds a run of {before['evaluations']} evaluations, {evaluations} are"
            " fewer; ask for as many or more, or choose another --out"
        )
    return before


def write_outputs(result: SearchOutcome, folder: Path) -> None:
    """Write the front, the report, the student and the finished ``run.json``."""
    from .summary import report_html  # matplotlib, once it is needed

    write_atomic(folder / PARETO, result.pareto_csv())
    if result.weights is not None:
        result.weights.write(folder / FRONT)
    if result.pick is not None:
        result.best.save_pretrained(folder / STUDENT)
    write_atomic(folder / REPORT, report_html(result))
    write_run(folder, result.settings, finished=True, notes=result.notes, **result.info)


def save_outcome(result: SearchOutcome, folder: str | Path) -> None:
    """See ``SearchResult.save``."""
    folder = Path(folder)
    make_folder(folder)
    if any(folder.iterdir()):
        raise InvalidInputError(f"{folder} is not empty; choose another folder to save to")
    write_atomic(folder / STORE, result.database)
    write_outputs(result, folder)


def load_outcome(folder: str | Path, kind: type[Outcome]) -> Outcome:
    """See ``SearchResult.load``."""
    folder = Path(folder)
    data = read_run(folder)
    settings = _settings(folder, data)
    store = RunStore(folder / STORE, readonly=True)
    try:
        space = create_space(**settings.space)
        result = assemble(kind, store, space, settings, data, str(folder))
        if settings.supernet is not None:
            result.weights = FrontWeights.read(folder / FRONT, data["supernet"])
        return result
    except ScholarchError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(folder, error) from error
    finally:
        store.close()


def assemble(
    kind: type[Outcome],
    store: RunStore,
    space: SearchSpace,
    settings: RunSettings,
    info: Mapping[str, Any],
    out: str | None,
) -> Outcome:
    """A result from what a store holds and what ``run.json`` says of it."""
    apart = ("settings", "notes", "finished")
    return kind(
        space=space,
        settings=settings,
        candidates=collect(store, settings),
        objectives=tuple(settings.score["objectives"]),
        info={name: value for name, value in info.items() if name not in apart},
        notes=list(info.get("notes", [])),
        out=out,
        database=store.serialize(),
    )

"""The part of a report that tells of a distillation, and the page of its own folder."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..searchspace.errors import InvalidInputError
from ..searchspace.modality import ITEMS
from ..supernet.distil.settings import NO_DISTILLER
from ..supernet.folder import CURVES, read_train
from ..supernet.score import ACCURACY
from .distilled import BASELINE, DISTILLATION
from .report import environment
from .units import cost_value, number

__all__ = ["DISTIL", "distil_html", "distil_view", "notes_beside", "picture"]

DISTIL = "distil"
"""Where a distillation lies in the folder of its run, unless another is named."""

_DASH = "\N{EN DASH}"
_GAP = "\N{NO-BREAK SPACE}"
_STARTS = {
    "scratch": "from scratch",
    "trained": "from the weights it had",
    "teacher": "from weights selected from the teacher’s",
}


def distil_html(folder: Path) -> str:
    """The report of a finished distillation as one self-contained page.

    Raises:
        InvalidInputError: if there is none in the folder.
    """
    told = read_train(folder, DISTILLATION)
    if not told.get("finished"):
        raise InvalidInputError(
            f"the distillation in {folder} is not finished; run the same command with --resume"
        )
    html = environment().get_template("distil_page.html.j2").render(distil=_view(folder, told))
    return html.encode(errors="backslashreplace").decode()


def distil_view(folder: Path, pick: str) -> dict[str, Any]:
    """What a report shows of a distillation; empty where there is no finished one.

    Args:
        folder: of the distillation.
        pick: notation of the run's pick, which may be another by now.
    """
    if not (folder / DISTILLATION.record).is_file():
        return {}
    try:
        told = read_train(folder, DISTILLATION)
    except InvalidInputError:
        return {}  # the run's own report does not fail for it; distil tells what is wrong
    if not told.get("finished"):
        return {}
    view = _view(folder, told)
    if pick != told["arch"]:
        view["other"] = (
            f"What was distilled is {told['arch']}, the pick when it was: the search went on and"
            " picks another now."
        )
    return view


def notes_beside(notes: Sequence[str], view: Mapping[str, Any]) -> list[str]:
    """A search's notes; of two sets of weights, which are meant.

    Args:
        notes: of the search.
        view: what :func:`distil_view` shows beside them.
    """
    if not view:
        return list(notes)
    both = (
        "The weights in the folder student are freshly initialised; the distilled ones are in"
        f" {DISTIL}/student."
    )
    return [both if "freshly initialised" in note else note for note in notes]


def _view(folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    parts, score = told["parts"], told.get("score", ACCURACY)
    rows = [_row("student", told["student"]["arch"], told["student"], parts, score)]
    if told.get("baseline"):
        rows.append(_row("hand-made", told["baseline"]["arch"], told["baseline"], parts, score))
    measured = told.get("measured") or {}
    rows += [_row("teacher", name, one, parts, score) for name, one in measured.items()]
    pictures = [
        {"title": title, "src": source}
        for title, place in (("The student", folder), ("The hand-made network", folder / BASELINE))
        if (source := picture(place / CURVES))
    ]
    return {
        "title": f"{told['arch']}, distilled" if len(told["arch"]) < 40 else "A distilled student",
        "other": "",
        "lead": _lead(told),
        "headline": next(
            (
                f"{part} {score} {_measured(told['student'][key], score)}"
                for part, key in (("test", "test"), ("validation", "val"))
                if told["student"][key] is not None
            ),
            "",
        ),
        "rows": rows,
        "tested": bool(parts["test"]),
        "caption": _caption(told),
        "choice": _choice(told.get("choice") or {}),
        "pictures": pictures if told.get("baseline") else pictures[:1],
        "pairs": _pairs(told),
        "command": str(told.get("command", "")),
    }


def _items(told: Mapping[str, Any]) -> str:
    return ITEMS[told["data"].get("modality", "image")]


def _lead(told: Mapping[str, Any]) -> str:
    """How the student was trained, in two sentences."""
    teachers = ", ".join(told["teachers"])
    by = (
        "by labels alone"
        if told["distiller"] == NO_DISTILLER
        else f"by {told['distiller']} from {teachers}"
    )
    parts = told["parts"]
    chosen = "; its weights are those that were best on the validation part" if parts["val"] else ""
    read = (
        f" The test part’s {parts['test']:,} {_items(told)} were read once, at the end, and"
        " nothing was chosen by them."
        if parts["test"]
        else ""
    )
    return f"The student was trained {_STARTS[told['start']['init']]} {by}{chosen}.{read}"


def _row(
    what: str, network: str, one: Mapping[str, Any], parts: Mapping[str, int], score: str
) -> dict[str, str]:
    return {
        "what": what,
        "network": network,
        "params": cost_value("params", one["params"]),
        "macs": _DASH if one["macs"] is None else cost_value("macs", one["macs"]),
        **{part: _share(one[part], parts[part], score) for part in ("val", "test")},
    }


def _measured(value: float, score: str) -> str:
    """A score to two digits of a percentage, or four of a correlation."""
    return f"{100 * value:.2f}{_GAP}%" if score == ACCURACY else f"{value:.4f}"


def _share(value: float | None, images: int, score: str) -> str:
    """An accuracy and its binomial standard error, in percent; an agreement as it is.

    Not to be 0 where all are right, it counts one image more on either side (Laplace).
    """
    if value is None:
        return _DASH
    if score != ACCURACY:
        return _measured(value, score)
    share = (value * images + 1) / (images + 2)
    error = math.sqrt(share * (1 - share) / images) if images else math.nan
    return f"{100 * value:.2f} ± {100 * error:.2f}{_GAP}%"


def _caption(told: Mapping[str, Any]) -> str:
    words = ["±: binomial standard error, one image added on either side."]
    if told.get("score", ACCURACY) != ACCURACY:
        words = [
            "Agreement: correlation of the cosine similarities of all pairs with those of the"
            " teacher’s answers, −1 to 1."
        ]
    if told.get("baseline"):
        words.append(
            "Hand-made: the uniform network of the space (one depth, one width, one kernel for all"
            " stages) nearest to the student’s MACs and not above them, trained by the same recipe"
            " and seed."
        )
    words += told.get("notes") or []
    words.append("MACs: multiply–accumulates for one image.")
    return " ".join(words)


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    if not choice:
        return {}
    tries: Sequence[Mapping[str, Any]] = choice["tries"]
    rungs = sorted({one["rung"] for one in tries})
    steps = [max(one["steps"] for one in tries if one["rung"] == rung) for rung in rungs]
    rows = []
    for name in dict.fromkeys(one["distiller"] for one in tries):
        found = {one["rung"]: one for one in tries if one["distiller"] == name}
        cells = [_reached(found[rung]) if rung in found else "" for rung in rungs]
        rows.append({"name": name, "cells": cells, "picked": name == choice["distiller"]})
    failed = [f"{one['distiller']}: {one['failure']}" for one in tries if one["failure"]]
    cost = math.fsum(one["macs"] for one in tries)
    return {
        "picked": choice["distiller"],
        "why": f"{choice['why']}.",
        "heads": [f"{count:,} steps" for count in steps],
        "rows": rows,
        "caption": "Successive halving: validation accuracy at the end of each try, whose learning"
        " rate decays within its own steps. The tries together passed"
        f" {number(cost)} multiply–accumulates."
        + (f" Failed: {'; '.join(failed)}." if failed else ""),
    }


def _reached(tried: Mapping[str, Any]) -> str:
    return "failed" if tried["accuracy"] is None else f"{100 * tried['accuracy']:.2f}{_GAP}%"


def _pairs(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    settings = told["settings"]
    options = ", ".join(f"{name} = {value}" for name, value in settings["options"].items())
    epochs = settings["epochs"]
    length = "" if not epochs else f"{epochs:g} epoch{'' if epochs == 1 else 's'}, "
    rows = {
        "distiller": told["distiller"] + (f" ({options})" if options else ""),
        "labels’ weight": "the distiller’s" if settings["labels"] is None else settings["labels"],
        "length": f"{length}{told['steps_done']:,} steps",
        "batch size": settings["batch_size"],
        "learning rate": f"{settings['lr']:.3g}, cosine",
        "augmentation": settings["augment"],
        "precision": settings["precision"],
        "seed": settings["seed"],
        "MACs passed": number(told["macs_passed"]),
        "seconds of training": f"{told['seconds']:.0f}",
        "threads": told.get("threads", _DASH),
        "host": ", ".join(str(value) for value in told.get("host", {}).values()),
        "data": f"{told['data']['name']}, {told['data']['train']:,} training {_items(told)}",
    }
    return [(label, str(value)) for label, value in rows.items()]


def picture(path: Path) -> str:
    """An SVG file as a data URI; empty where there is none."""
    try:
        return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return ""

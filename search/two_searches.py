"""What runs of two searches share: their file of numbers, and each search in their report.

A refined search trains a supernet between the two, a calibrated one distils a few candidates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..searchspace.errors import InvalidInputError
from ..searchspace.files import refuse_strangers
from .figures import figure_svg, front_figure, tooltips
from .report_data import ReportData
from .report_numbers import front_costs
from .result import SearchResult
from .units import cost_label

__all__ = ["admit_told", "read_told", "search_view"]


def admit_told(folder: Path, name: str, what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run of the same command left; empty where the folder is new.

    Args:
        folder: of the run; may be missing.
        name: of the file of numbers in it.
        what: the run is, e.g. ``"refined search"``.
        asked: its settings.

    Raises:
        InvalidInputError: if something else lies there, or a run of other settings.
    """
    if not folder.is_dir():
        return {}
    path = folder / name
    if not path.exists():
        refuse_strangers(folder, what)
        return {}
    try:
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        there = before["settings"]
        names = [*dict.fromkeys([*there, *asked])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{path} is damaged ({error}); move the folder away and run again"
        ) from error
    here = json.loads(json.dumps(asked))
    if wrong := [name for name in names if there.get(name) != here.get(name)]:
        said = "; ".join(f"{n}: {there.get(n)} there, {here.get(n)} here" for n in wrong)
        raise InvalidInputError(
            f"{folder} holds a {what} with other settings ({said}); choose another --out"
        )
    return before


def read_told(folder: Path, name: str, what: str) -> dict[str, Any]:
    """The numbers of a finished run; arguments as above.

    Raises:
        InvalidInputError: if they are missing, damaged or of an unfinished one.
    """
    try:
        told = json.loads((folder / name).read_text(encoding="utf-8"))
        finished = told["finished"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"no {what} in {folder}: {error}") from error
    if not finished:
        raise InvalidInputError(
            f"the {what} in {folder} is not finished; run the same command to go on"
        )
    return dict(told)


def search_view(result: SearchResult, data: ReportData, name: str) -> dict[str, Any]:
    """Pictures and numbers of one of the two searches; ``name`` tells their pictures apart."""
    pictures = []
    for i, cost in enumerate(front_costs(data)):
        label = f"Score against {cost_label(cost)}"
        svg = figure_svg(front_figure(data, cost), f"{name}{i}", label, tooltips(data, cost))
        pictures.append({"cost": cost, "svg": Markup(svg)})  # noqa: S704 (escaped by its writer)
    return {
        "pictures": pictures,
        "score": data.score_name,
        "evaluated": f"{len(result.candidates):,}",
        "front": f"{len(result.front):,}",
        "pick": result.pick.arch.text if result.pick else "",
    }

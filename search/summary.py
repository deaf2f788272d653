"""A search result as the plain data of its report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..searchspace.errors import ScholarchError
from ..searchspace.modality import ITEMS
from ..supernet.score import ACCURACY
from .distil_report import DISTIL, distil_view, notes_beside
from .outcome import Candidate, SearchOutcome
from .predicted import PREDICTED
from .report import render_report
from .report_data import ReportCandidate, ReportData
from .units import cost_text, cost_value, decimal, percent

__all__ = ["report_data", "report_html"]


def report_data(result: SearchOutcome) -> ReportData:
    """What :func:`~scholarch.search.report.render_report` shows of a result."""
    settings = result.settings
    on_front = {candidate.order for candidate in result.front}
    pick = result.pick
    distilled: dict[str, Any] = {}
    if result.out is not None:
        distilled = distil_view(Path(result.out) / DISTIL, pick.arch.text if pick else "")
    budget = " and ".join(cost_text(name, bound) for name, bound in settings.budget.items())
    title = f"{settings.space['name']}" + (f" under {budget}" if budget else "")
    return ReportData(
        title=title,
        score_name=str(settings.score["name"]),
        budget=settings.budget,
        candidates=[_candidate(c, c.order in on_front) for c in result.candidates],
        pick=pick.order if pick else None,
        stages=result.space.stages(pick.arch) if pick else [],
        teacher=dict(result.info.get("teacher", {})),
        run=_run(result),
        command=str(result.info.get("command", "")),
        notes=notes_beside(result.notes, distilled),
        failures=result.failures,
        measured=_measured(result),
        distilled=distilled,
        calibrated=_calibrated(result.info.get("calibration") or {}),
        items=_items(result),
        **_trained(result),
    )


def _calibrated(told: Mapping[str, Any]) -> dict[str, Any]:
    """By what the score of a calibrated search was corrected."""
    if not told:
        return {}
    return {
        "teacher": told["teacher"],
        "students": sum(row["accuracy"] is not None for row in told["labels"]),
        "epochs": told["cost"]["epochs"],
    }


def _trained(result: SearchOutcome) -> dict[str, Any]:
    """What is shown of a search on a trained supernet alone."""
    settings, info = result.settings, result.info
    if settings.supernet is None:
        return {}
    told, tested = info.get("supernet", {}), result.tested
    about = {
        "file": told.get("path") or "in memory",
        "weights": settings.supernet["fingerprint"],
        "schedule": told.get("schedule") or "\N{EN DASH}",
        "steps": f"{told['steps']:,}" if told.get("steps") is not None else "\N{EN DASH}",
        "calibration": f"{settings.supernet['calibration']:,} training {_items(result)}",
    }
    score = str(told.get("score", ACCURACY))
    rows = [
        {
            "text": candidate.arch.text,
            "long": len(candidate.arch.text) > 28,
            "picked": candidate is result.pick,
            "costs": [(n, cost_value(n, candidate.costs[n])) for n in result.objectives],
            "predicted": percent(candidate.scores.get(PREDICTED, math.nan)),
            "val": _shown(result.validated(candidate), score),
            "test": _shown(tested.get(candidate.arch.key, math.nan), score),
        }
        for candidate in result.front
    ]
    return {
        "supernet": about,
        "by_accuracy": settings.measured,
        "accuracies": rows,
        "measure": score,
        "test_images": int(info.get("test", {}).get("images", 0)),
        "predictor": _predictor(info.get("predictor") or {}),
    }


def _items(result: SearchOutcome) -> str:
    return ITEMS[result.space.modality]


def _shown(value: float, score: str) -> str:
    return percent(value) if score == ACCURACY else decimal(value, 3)


def _predictor(told: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "rows": f"{one['rows']:,}",
            "kind": one["kind"],
            "spearman": decimal(one["spearman"], 3),
            "mae": _points(one["mae"]),
            "front": f"{one['front']:,}",
            "front_mae": _points(one["front_mae"]),
            "front_bias": _points(one["front_bias"], signed=True),
            "front_spearman": decimal(
                math.nan if one["front_spearman"] is None else one["front_spearman"], 3
            ),
        }
        for one in told.get("rounds", ())
    ]
    return {**told, "rounds": rows} if rows else {}


def _points(value: float | None, *, signed: bool = False) -> str:
    """A difference of accuracies in percentage points."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{100 * value:{'+' if signed else ''}.2f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _measured(result: SearchOutcome) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for one in result.measured:
        cost = f"latency:{one.device}"
        error = (one.predicted - one.measured) / one.measured
        rows.append(
            {
                "text": one.arch,
                "long": len(one.arch) > 28,
                "device": one.device,
                "predicted": cost_value(cost, one.predicted),
                "measured": cost_value(cost, one.measured),
                "error": f"{100 * error:+.1f} %".replace("-", "\N{MINUS SIGN}"),
                "over": one.measured > result.settings.budget.get(cost, math.inf),
                "picked": result.pick is not None and one.key == result.pick.arch.key,
            }
        )
    return rows


def report_html(result: SearchOutcome) -> str:
    """The report of a result.

    Raises:
        ScholarchError: if the result holds no candidate at all.
    """
    if not result.candidates:
        raise ScholarchError("this run has evaluated nothing yet; run the same search to go on")
    return render_report(report_data(result))


def _candidate(candidate: Candidate, on_front: bool) -> ReportCandidate:
    failure = "; ".join(f"{name}: {reason}" for name, reason in candidate.failures.items())
    return ReportCandidate(
        order=candidate.order,
        text=candidate.arch.text,
        key=candidate.arch.key,
        score=candidate.score,
        costs=dict(candidate.costs),
        scores=dict(candidate.scores),
        on_front=on_front,
        failure=failure if math.isnan(candidate.score) else None,
    )


def _run(result: SearchOutcome) -> dict[str, str]:
    settings, info = result.settings, result.info
    parts = settings.score["parts"]
    score = str(settings.score["name"])
    if len(parts) > 1:
        weights = settings.score.get("weights") or [1.0] * len(parts)
        terms = [
            part if w == 1 else f"{w:g} × {part}" for part, w in zip(parts, weights, strict=True)
        ]
        score += f" = Σ log-rank of {', '.join(terms)}"
    rows = {
        "space": f"{settings.space['name']} ({result.space.size:,} architectures)",
        "data": f"{settings.data['name']}, {settings.data['size']:,}"
        f" {'validation' if settings.measured else 'training'} {_items(result)}",
        "score": score,
        "searcher": settings.searcher,
        "evaluations": f"{len(result.candidates):,}",
        "reference sample": f"{settings.reference_size} architectures inside the budget",
        "seed": str(settings.seed),
        "seconds": str(info.get("seconds", "–")),
        "threads": str(info.get("threads", 1)),
    }
    if settings.measured:
        del rows["reference sample"]
    rows |= {name: str(value) for name, value in info.get("versions", {}).items()}
    rows |= {f"host {name}": str(value) for name, value in info.get("host", {}).items()}
    return rows

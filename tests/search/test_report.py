"""The report: what it shows, that it stands alone, and that no run breaks it."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from scholarch.search.figures import figure_svg, front_figure, growth_figure, save_png
from scholarch.search.report import render_report, write_report
from scholarch.search.report_data import ReportCandidate, ReportData
from scholarch.search.report_numbers import growth, staircase
from scholarch.search.store import StoreError
from scholarch.search.units import cost_text, decimal, number
from scholarch.searchspace.architecture import Stage

# ------------------------------------------------------------------ a made-up run

_WIDTHS = ((16, 20, 24, 32), (24, 32, 40, 48, 64), (32, 48, 64, 80, 96))


def _stages(widths: tuple[int, ...], depths: tuple[int, ...]) -> list[Stage]:
    stages = [Stage("stem", 1, 16, 32, 464, 442_368, "3×3 convolution")]
    before, size = 16, 32
    for i, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        size = 32 >> (i - 1)
        weights = 9 * width * (before + width) + 18 * width * width * (depth - 1)
        detail = f"basic blocks of two 3×3, stride {1 if i == 1 else 2}"
        macs = weights * size * size
        stages.append(Stage(f"stage {i}", depth, width, size, weights, macs, detail))
        before = width
    last = Stage("classifier", 1, 10, 1, 10 * before + 10, 10 * before, "average pool, linear")
    return [*stages, last]


def _front(points: list[list[float]]) -> list[bool]:
    matrix = np.array(points)
    return [
        not ((matrix <= row).all(axis=1) & (matrix < row).any(axis=1)).any()
        for row in matrix  # all columns: lower is better
    ]


def fake_run(
    count: int = 300,
    *,
    budget: dict[str, float] | None = None,
    failures: int = 6,
    teacher: bool = True,
    seed: int = 0,
) -> ReportData:
    """A run of ``count`` candidates, of which ``failures`` have no score.

    Args:
        count: evaluated candidates.
        budget: default 60 M MACs.
        failures: how many of them failed.
        teacher: whether there was one.
        seed: of the candidates.
    """
    rng = np.random.default_rng(seed)
    budget = {"macs": 60e6} if budget is None else budget
    failed = set(rng.permutation(count)[:failures].tolist())
    rows: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, float]]] = []
    while len(rows) < count:
        widths = tuple(int(rng.choice(choices)) for choices in _WIDTHS)
        depths = tuple(int(d) for d in rng.integers(1, 9, size=3))
        stages = _stages(widths, depths)
        params, macs = (float(sum(getattr(s, what) for s in stages)) for what in ("params", "macs"))
        costs = {"params": params, "macs": macs, "flops": 2 * macs}
        costs["depth"] = float(2 + 2 * sum(depths))
        costs |= {c: 0.4 + macs / 2.5e7 for c in budget if c.startswith("latency")}
        # Later candidates are better, as a searcher's are.
        if any(costs[c] > bound for c, bound in budget.items()) or (
            rng.random() > 0.3 + 0.7 * len(rows) / count and costs["macs"] < 25e6
        ):
            continue
        rows.append((widths, depths, costs))
    scores = [
        math.log(c["macs"] / 1e8) + 0.6 * math.log(c["params"] / 1e6) + rng.normal(0, 0.45)
        for _, _, c in rows
    ]
    good = [i for i in range(count) if i not in failed]
    objectives = [[-scores[i], *(rows[i][2][c] for c in budget or ("macs",))] for i in good]
    on_front = dict(zip(good, _front(objectives), strict=True)) if good else {}
    candidates = []
    for i, (widths, depths, costs) in enumerate(rows):
        score = math.nan if i in failed else scores[i]
        text = "-".join(["16", *(f"{w}x{d}" for w, d in zip(widths, depths, strict=True))])
        proxies = {"expr": 0.3 * score + 8, "naswot": 400 + 90 * score, "synflow": score**2 * 1e9}
        if teacher:
            proxies["diswot-semantic"] = -1.2 + 0.1 * score
            proxies["diswot-relation"] = -0.4 + 0.03 * score
        reason = ("the score overflowed", "out of memory")[i % 2] if i in failed else None
        front = on_front.get(i, False)
        key = f"{i:016x}"
        candidates.append(ReportCandidate(i, text, key, score, costs, proxies, front, reason))
    pick = max(good, key=lambda i: scores[i], default=None)
    reasons = [c.failure for c in candidates if c.failure]
    return ReportData(
        title="resnet-cifar under 60 M MACs",
        score_name="ensemble",
        budget=budget,
        candidates=candidates,
        pick=pick,
        stages=[] if pick is None else _stages(*rows[pick][:2]),
        teacher={"name": "digits-resnet20", "params": "0.23 M", "accuracy": "98.9 % (digits test)"}
        if teacher
        else {},
        run={
            "space": "resnet-cifar, 12,500,000 architectures",
            "data": "digits, batch of 64 (train split)",
            "searcher": "nsga2",
            "evaluations": f"{count}",
            "seconds": "41.3",
            "seed": "0",
            "versions": "scholarch 0.1.0, torch 2.13.0, Python 3.11.9",
            "host": "x86_64, 2 cores, one thread a worker",
        },
        command="scholarch search --space resnet-cifar --data digits --searcher nsga2"
        f" --evaluations {count} --max-macs 60M --seed 0 --out runs/demo",
        notes=["The teacher has 10 classes, as the students have."] if teacher else [],
        failures={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
    )


# ------------------------------------------------------------------ reading the page

_VOID = {"meta", "link", "br", "input", "img", "hr"}


class _Page(HTMLParser):
    """Tags with their attributes, text, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _with(data: ReportData, **changes: object) -> ReportData:
    """The same run with every candidate's fields changed."""
    return dataclasses.replace(
        data,
        candidates=[dataclasses.replace(c, **changes) for c in data.candidates],  # type: ignore[arg-type]
    )


# ------------------------------------------------------------------ the page


def test_it_stands_alone() -> None:
    html = render_report(fake_run(700))
    page = _Page(html)
    assert page.open == []
    links = [a[k] for _, a in page.tags for k in ("src", "href", "action", "data") if k in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert any(link.startswith("data:image/png") for link in links)  # many dots: a bitmap
    assert "url(http" not in html
    assert "@import" not in html
    assert not page.all("link")
    assert "default-src 'none'" in page.all("meta")[3]["content"]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_it_says_what_matters() -> None:
    data = fake_run(budget={"macs": 60e6, "latency:cpu": 3.0})
    page = _Page(render_report(data).replace("\N{NO-BREAK SPACE}", " "))
    pick = data.candidates[data.pick or 0]
    assert (
        f"{cost_text('macs', pick.costs['macs'])} of 60 M allowed".replace("\xa0", " ") in page.text
    )
    assert "of 3 ms allowed" in page.text
    assert "No candidate was trained." in page.text
    assert "multiply–accumulates" in page.text
    assert "FLOPs = 2 × MACs" in page.text
    assert data.notes[0] in page.text
    assert "out of memory" in page.text
    for value in [*data.teacher.values(), *data.run.values()]:
        assert value in page.text
    assert (
        next(a for a in page.all("button") if a.get("id") == "copy")["data-command"] == data.command
    )
    assert len(page.all("figure")) == 3  # a front for each bound, and the growth


def test_the_table_is_sorted_and_can_be_sorted() -> None:
    data = fake_run()
    html = render_report(data)
    table = html[html.index('<table id="table">') :]
    table = table[: table.index("</table>")]
    page = _Page(table)
    heads = page.all("th")
    assert [head.get("aria-sort") for head in heads].count("descending") == 1
    assert heads[0]["aria-sort"] == "descending"
    assert len(page.all("button")) == len(heads)
    assert all(head["data-first"] in {"ascending", "descending"} for head in heads)
    rows = [a["class"] for a in page.all("tr") if "class" in a]
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), reverse=True)
    assert rows[0] == "f picked"
    front = sorted((c for c in data.candidates if c.on_front), key=lambda c: -c.score)
    places = [table.index(f">{candidate.text}<") for candidate in front]
    assert places == sorted(places)
    assert table.rindex("failed:") > table.rindex(">−0.5")  # failures come last
    assert "diswot-semantic" in table
    assert "diswot-relation" in table


def test_what_users_wrote_is_text() -> None:
    evil = "</script><script>alert(1)</script><b onx='\"'>&$x_{1}$ \x07 \udc80"
    data = fake_run(30)
    clean = _Page(render_report(data))
    data = dataclasses.replace(
        _with(data, text=evil, key=evil),
        title=evil,
        score_name=evil,
        budget={evil: 5.0, **data.budget},
        stages=[dataclasses.replace(stage, name=evil, detail=evil) for stage in data.stages],
        teacher={evil: evil},
        run={evil: evil},
        command=evil,
        notes=[evil],
        failures={evil: 2},
    )
    data = _with(data, costs={evil: 3.0, "macs": 5e6}, scores={evil: 1.0})
    for short in (evil, "$x$"):  # a short notation is written into the picture as well
        page = _Page(render_report(_with(data, text=short)))
        assert len(page.all("script")) == len(clean.all("script"))
        assert not any("onx" in attributes for _, attributes in page.tags)
        assert "alert(1)" in page.text
        assert "\\udc80" in page.text


def test_equal_data_gives_equal_bytes() -> None:
    first = render_report(fake_run(700))
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "svg.fonttype": "path"}):
        assert render_report(fake_run(700)) == first
        assert matplotlib.rcParams["lines.linewidth"] == 9


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_report(fake_run(20), path)
    before = path.read_bytes()
    assert before.startswith(b"<!DOCTYPE html>")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_report(fake_run(30), path)
    assert path.read_bytes() == before


_ODD: dict[str, ReportData] = {
    "nothing evaluated": dataclasses.replace(
        fake_run(1), candidates=[], pick=None, stages=[], failures={}, run={}, command=""
    ),
    "all failed": fake_run(8, failures=8),
    "one": fake_run(1, failures=0),
    "two": fake_run(2, failures=0),
    "no budget": fake_run(40, budget={}, failures=0),
    "no teacher": fake_run(40, teacher=False),
    "three budgets": fake_run(40, budget={"params": 1e6, "macs": 60e6, "latency:cpu": 3.0}),
    "all on the front": _with(fake_run(400, failures=0), on_front=True),
    "equal candidates": _with(fake_run(12), score=1.0, failure=None, costs={"macs": 5e6}),
    "no cost known": _with(fake_run(12), costs={}),
    "a cost is NaN": _with(fake_run(12), costs={"macs": math.nan, "params": 3.0}),
    "zero costs and budget": _with(
        dataclasses.replace(fake_run(12), budget={"macs": 0.0}), costs={"macs": 0.0}
    ),
    "infinite scores": _with(fake_run(12), score=math.inf),
    "all over budget": dataclasses.replace(fake_run(12), budget={"macs": 1.0}),
    "no pick": dataclasses.replace(fake_run(12), pick=None, stages=[]),
    "failures without a reason": _with(fake_run(12, failures=12), failure=None),
    "tiny scores": _with(fake_run(12), score=1e-30, scores={"synflow": 1e30}),
    "empty stages": dataclasses.replace(fake_run(12), stages=[Stage("none", 0, 0, 0, 0, 0)]),
    "one wreck": dataclasses.replace(
        (run := fake_run(60, failures=0)),
        candidates=[dataclasses.replace(run.candidates[0], score=-1e4), *run.candidates[1:]],
    ),
}


@pytest.mark.parametrize("name", _ODD)
def test_no_run_breaks_it(name: str) -> None:
    data = _ODD[name]
    page = _Page(render_report(data))
    assert page.open == []
    assert "nan" not in page.text.split()
    if not any(math.isfinite(c.score) and c.failure is None for c in data.candidates):
        assert not page.all("svg")
        assert data.pick is not None or "no candidate could be scored" in page.text


def test_a_large_run_stays_light() -> None:
    data = fake_run(5000)
    start = time.process_time()
    html = render_report(data)
    assert time.process_time() - start < 3
    assert len(html.encode()) < 3_000_000
    assert html.count("<tr class=") >= 2000
    assert "first 2,000 of 5,000" in html


def test_it_needs_no_torch() -> None:
    check = "import sys, scholarch.search.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# ------------------------------------------------------------------ its numbers


def test_growth_against_a_plain_count() -> None:
    data = fake_run(80, failures=5)
    curve = growth(data)
    assert curve is not None
    assert curve.evaluations == list(range(1, 81))
    assert curve.share[-1] == 1
    assert curve.share == sorted(curve.share)
    assert curve == growth(dataclasses.replace(data, candidates=data.candidates[::-1]))
    good = [c for c in data.candidates if c.failure is None]
    best, low = max(c.score for c in good), curve.reference["score"]
    assert low <= min(c.score for c in good if c.on_front)
    cheapest = min(c.costs["macs"] for c in good)
    area, height = 0.0, 0.0
    for c in sorted(good, key=lambda c: c.costs["macs"]):
        gain = max(0.0, (c.score - low) / (best - low) - height)
        area += gain * (60e6 - c.costs["macs"]) / (60e6 - cheapest)
        height += gain
    assert curve.final == pytest.approx(area)
    assert curve.reference["macs"] == 60e6


def test_staircase_against_all_pairs() -> None:
    rng = np.random.default_rng(3)
    costs, scores = rng.integers(0, 12, (2, 60)).astype(float)
    kept = set(staircase(costs, scores).tolist())
    points = list(zip(costs, scores, strict=True))
    for i, (cost, score) in enumerate(points):
        beaten = any(
            c <= cost and s >= score and ((c, s) != (cost, score) or j < i)
            for j, (c, s) in enumerate(points)
        )
        assert (i in kept) != beaten


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(9_830_000), "9.83 M"),
        (number(15e6), "15 M"),
        (number(999_960), "1 M"),
        (number(0), "0"),
        (number(0.25), "0.25"),
        (number(-1500), "−1.5 k"),
        (number(math.nan), "–"),
        (cost_text("depth", 1), "1 layer"),
        (cost_text("latency:cpu", 2.345), "2.35 ms on cpu"),
        (cost_text("params", 154_790), "155 k parameters"),
        (decimal(-0.123456), "−0.1235"),
        (decimal(10_000), "10000"),
        (decimal(1e-9), "1.000e−09"),
    ],
)
def test_numbers_as_people_read_them(text: str, expected: str) -> None:
    assert text.replace("\N{NO-BREAK SPACE}", " ") == expected


def test_figures_can_be_saved(tmp_path: Path) -> None:
    data = fake_run(60)
    for name, figure in (("a", front_figure(data, "macs")), ("b", growth_figure(data))):
        save_png(figure, tmp_path / name)
        first = (tmp_path / name).read_bytes()
        assert first.startswith(b"\x89PNG")
        save_png(figure, tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
        assert 'aria-label="what"' in figure_svg(figure, name, "what")

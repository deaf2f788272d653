"""The Python front door: names in, results out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from .calibrating import Calibration, find_calibrated
from .choosing import choose_teacher, find_among
from .data import DataSet, labelled, load_data
from .deriving import space_for
from .proxies.batch import Batch
from .proxies.registry import get_proxy
from .proxies.teacher import Teacher
from .search.budget import Budget
from .search.by_proxies import check_asked, needs_teacher, search_by_proxies
from .search.calibration.request import SearchRequest
from .search.command import command_line, line_of
from .search.inherited import search_supernet
from .search.result import SearchResult
from .search.run import Progress
from .search.searchers.base import list_searchers
from .search.settings import ScoreRule
from .searchspace.errors import InvalidInputError
from .searchspace.latency import load_table
from .searchspace.space import SearchSpace
from .supernet.pretrained import Supernet, load_supernet
from .supernet.targets import answered
from .supernet.task import task_of
from .supernet.vocabulary import check_vocabulary
from .teacher import load_teacher
from .teachers.bundled import BUNDLED

TeacherSpec = Teacher | nn.Module | str | Path

__all__ = ["find_student", "list_searchers"]


def find_student(
    *,
    space: SearchSpace | str | None = None,
    data: Any,
    teacher: TeacherSpec | Sequence[TeacherSpec] | None = None,
    supernet: Supernet | str | Path | None = None,
    predictor: str | int = "auto",
    calibration: int = 2000,
    tables: Sequence[str | Path] = (),
    budget: Mapping[str, float] | None = None,
    proxies: Sequence[str] | None = None,
    searcher: str = "nsga2",
    evaluations: int = 500,
    seed: int = 0,
    batch_size: int = 64,
    out: str | Path | None = None,
    workers: int = 1,
    device: str = "cpu",
    precision: str = "float32",
    calibrate: int | None = None,
    calibrate_epochs: int | None = None,
    space_options: Mapping[str, Any] | None = None,
    command: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
) -> SearchResult:
    """The best students of a teacher under a budget, without training a single one.

    With ``supernet`` the search is on a trained supernet: a candidate's score is its accuracy on
    the validation part with the weights that it inherits, and so are the students'. With
    ``proxies`` besides, it is what these make of the inherited weights.

    Args:
        space: a space or its registered name, made for the data's classes and resolution;
            default the one derived from the teacher, a convolutional network.
        data: ``"digits"``, a ``.npz`` file, an image folder, tensors, sentences, sound, a data set
            or a batch, see :func:`~scholarch.data.load_data`.
        teacher: a teacher, a module, a file or a registered or timm name; for ``"digits"``
            the bundled one by default, otherwise needed unless every proxy is teacher-free.
            Of several, a list, one is chosen: by its own validation accuracy, or with
            ``calibrate`` by the students it teaches; ``result.info["teachers"]`` compares them.
        supernet: the folder of a training run, its ``supernet.safetensors`` or what
            ``load_supernet`` gave. It brings its space, and stands in place of ``space`` and, but
            for proxies that ask for one, of ``teacher``; data that nobody labelled need the
            teacher whose answers candidates are measured by.
        predictor: of a search on a supernet: ``"off"`` evaluates every candidate; a number
            evaluates as many and lets the searcher ask a predictor of them, whose front is then
            evaluated; ``"auto"`` takes 200 where more than 800 evaluations are asked.
        calibration: training images from which a supernet's candidates get their batch norm's
            statistics.
        tables: latency tables, of blocks (``scholarch latency build``), fitted, imported or
            CSV files with a line an architecture; the device is called as the file is.
        budget: upper bounds by cost name, e.g. ``{"macs": 50e6, "latency:pixel3": 5.0}``;
            latencies in ms.
        proxies: what to maximise: one proxy, several (Σ log-rank), or the default ensemble.
        searcher: registered name, see :func:`list_searchers`.
        evaluations: distinct architectures to evaluate.
        seed: of everything random; equal seeds give equal results.
        batch_size: training images to score on.
        out: folder of the run, which can be stopped and resumed; default in memory.
        workers: processes that score, of one thread each; the result is the same for any.
        device: where candidates are scored: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        precision: of convolutions and linear layers in scoring, ``"float32"`` or
            ``"bfloat16"``.
        calibrate: so many candidates, one from each quantile of the score, are distilled from
            the teacher; their validation accuracies correct the rank, and the search goes on
            with it. Needs ``out``; see :func:`~scholarch.calibrating.find_calibrated`.
        calibrate_epochs: of each distillation.
        space_options: what the space's factory takes beside classes and resolution, e.g.
            ``{"patch_size": 4}``; where ``space`` is a name, or derived.
        command: the shell line that repeats the run, for the report.
        progress: called as candidates finish.
        announce: told what the distillations will cost, before the first.

    Returns:
        ``result.best`` and ``result.pareto`` are students, ``result.report()`` a page of HTML.

    Raises:
        ScholarchError: with one plain line for whatever input will not do.

    Example:
        >>> import scholarch
        >>> result = scholarch.find_student(
        ...     space="resnet-cifar-s0", data="digits", budget={"params": 2e5}, evaluations=4,
        ...     batch_size=8,
        ... )
        >>> result.best.costs["params"] <= 2e5
        True
    """
    proxies = (proxies,) if isinstance(proxies, str) else proxies
    bounds = Budget(budget or {})
    options = {"device": (device, "cpu"), "precision": (precision, "float32")}
    if supernet is not None:
        if calibrate is not None:
            raise InvalidInputError(
                "--supernet and --calibrate exclude each other: candidates of a supernet are"
                " measured, no training-free rank is left to correct"
            )
        if isinstance(data, Batch):
            raise InvalidInputError(
                "a batch has no validation part to choose on; give the data set for --supernet"
            )
        measured = load_data(data)
        several = teacher if isinstance(teacher, list | tuple) else [teacher]
        asked: list[Any] = [one for one in several if one is not None]
        check_asked(space, asked, measured.unlabelled, proxies, predictor, workers, precision)
        teachers = [load_teacher(one, classes=measured) for one in asked]
        if measured.unlabelled:
            measured = labelled(measured, teachers)
        trained = supernet if isinstance(supernet, Supernet) else load_supernet(supernet)
        for path in tables:
            trained.space.attach(load_table(path, trained.space))
        words = ["--supernet", str(trained.path or "SUPERNET"), "--data", _name_of(data)]
        words += [word for one in teachers for word in ("--teacher", one.name)]
        words += [word for name in proxies or () for word in ("--proxy", name)]
        numbers = {
            "predictor": (str(predictor), "auto"),
            "calibration": (str(calibration), "2000"),
            "searcher": (searcher, ""),
            "evaluations": (str(evaluations), ""),
            "seed": (str(seed), ""),
            **({"batch-size": (str(batch_size), "64")} if proxies else {}),
            **options,
        }
        common: dict[str, Any] = {
            "budget": bounds,
            "searcher": searcher,
            "evaluations": evaluations,
            "seed": seed,
            "calibration": calibration,
            "out": Path(out) if out is not None else None,
            "device": device,
            "command": command or line_of(words, bounds, tables, numbers, out),
            "progress": progress,
        }
        if not proxies:
            return search_supernet(trained, measured, predictor=predictor, **common)
        if not teachers and measured.name == "digits" and needs_teacher(proxies):
            teachers = [load_teacher(BUNDLED)]
        only = teachers[0] if teachers else None
        return search_by_proxies(
            trained, measured, only, proxies=proxies, batch_size=batch_size, **common
        )
    if predictor != "auto" or calibration != 2000:
        raise InvalidInputError(
            "--predictor and --calibration are for a search on a trained supernet; give --supernet"
        )
    rule = ScoreRule.of(proxies)
    dataset: DataSet | None = None
    if isinstance(data, Batch):
        batch = data
    else:
        dataset = load_data(data)
        batch = dataset.batch(batch_size, seed)
    choice = None
    if isinstance(teacher, str | Path | nn.Module | Teacher):
        guide: Teacher | None = load_teacher(teacher, classes=dataset)
    elif teacher is None:
        guide = _default_teacher(batch, proxies, rule)
    else:
        named = [load_teacher(one, classes=dataset) for one in teacher]
        choice = choose_teacher(named, dataset) if len(named) != 1 else None
        guide = choice.teachers[0] if choice else named[0]
    if guide is not None:
        batch = answered(batch, guide)
    task_of(batch.labels, batch.name)
    labels = None
    if calibrate is not None:
        labels = Calibration(calibrate, calibrate_epochs, announce=announce)
    elif calibrate_epochs is not None:
        raise InvalidInputError("--calibrate-epochs without --calibrate; add --calibrate N")
    if not isinstance(space, SearchSpace):
        space = space_for(space, batch, guide, space_options)
    elif space_options:
        raise InvalidInputError(
            f"space_options = {dict(space_options)} with a space that is made already; give its"
            " name, or make it with them"
        )
    if dataset is not None:
        check_vocabulary(dataset, space.vocabulary, f"space {space.name!r}")
    for path in tables:
        space.attach(load_table(path, space))
    options["calibrate"] = (str(calibrate), "None")
    options["calibrate-epochs"] = (str(calibrate_epochs), "None")
    request = SearchRequest(
        space,
        batch,
        bounds,
        proxies,
        searcher,
        evaluations,
        seed,
        workers,
        device,
        precision,
        command
        or command_line(
            space,
            replace(batch, name=str(data)) if isinstance(data, str | Path) else batch,
            guide,
            bounds,
            proxies,
            searcher,
            evaluations,
            seed,
            out,
            tables,
            options,
        ),
        progress,
    )
    folder = Path(out) if out is not None else None
    if labels is not None:
        return find_calibrated(request, labels, dataset, choice, guide, folder)
    return find_among(request, choice, folder) if choice else request.run(guide, folder)


def _name_of(data: Any) -> str:
    return str(data) if isinstance(data, str | Path) else getattr(data, "name", "tensors")


def _default_teacher(
    batch: Batch, proxies: Sequence[str] | None, rule: ScoreRule
) -> Teacher | None:
    if batch.name == "digits":
        return load_teacher(BUNDLED)
    if proxies and not any("teacher" in get_proxy(name).needs for name in rule.parts):
        return None
    raise InvalidInputError(
        f"no teacher for {batch.name!r}: give --teacher (see: scholarch list teachers; a timm"
        " name, or a file with --weights), or score without one by --proxy, e.g. --proxy macs"
        " --proxy expr"
    )

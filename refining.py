"""Search without training, narrow the space to what survives, train its supernet, search again."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .api import find_student
from .data import DataSet, labelled, load_data
from .proxies.batch import Batch
from .proxies.devices import one_thread
from .proxies.teacher import Teacher
from .search.budget import Budget
from .search.inherited import search_supernet
from .search.refine_report import REFINE, REPORT, refined_html, write_refine
from .search.result import SearchResult
from .search.run import Progress
from .search.student import Student, TrainedWeights
from .search.survivors import Survivor, survivors
from .search.two_searches import admit_told
from .searchspace.errors import InvalidInputError, ScholarchError
from .searchspace.files import held, make_folder, write_atomic
from .searchspace.latency import load_table
from .searchspace.narrow import narrow
from .searchspace.space import SearchSpace
from .supernet.evaluate import accuracy, part_batches
from .supernet.finetune import Finetuned, FinetuneSettings, finetune
from .supernet.session import Progress as TrainProgress
from .supernet.trained import TrainedSupernet
from .teacher import load_teacher
from .training import train_supernet

__all__ = ["Refined", "refine_student"]

#: Peak of fine-tuning, as a share of the supernet's; both in proportion to the batch.
_FINETUNE_LR = 0.1


@dataclass(frozen=True, eq=False)
class Refined:
    """What a refined search found.

    Attributes:
        best: the pick of the second search, its weights fine-tuned where that helped.
        first: the search without training.
        genes: what of the space was left.
        second: the search on the trained supernet.
        told: all numbers, as ``refine.json`` has them.
        out: the folder.
    """

    best: Student
    first: SearchResult
    genes: Sequence[Survivor]
    second: SearchResult
    told: Mapping[str, Any]
    out: Path

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "best": self.best.to_json(),
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "genes": self.told["genes"],
            "training": self.told["training"],
            "finetune": self.told["finetune"],
            "out": str(self.out),
        }


def refine_student(
    *,
    data: Any,
    out: str | Path,
    space: SearchSpace | str | None = None,
    teacher: Teacher | nn.Module | str | Path | None = None,
    tables: Sequence[str | Path] = (),
    budget: Mapping[str, float] | None = None,
    proxies: Sequence[str] | None = None,
    searcher: str = "nsga2",
    evaluations: int = 500,
    seed: int = 0,
    batch_size: int = 64,
    workers: int = 1,
    device: str = "cpu",
    precision: str = "float32",
    predictor: str | int = "auto",
    calibration: int = 2000,
    refine_epochs: float = 50.0,
    finetune_epochs: int = 10,
    train_settings: Mapping[str, Any] | None = None,
    command: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Refined:
    """Find students without training, then train the supernet of what survives and choose there.

    1. :func:`~scholarch.api.find_student`, whole, in ``out/first``.
    2. The space is narrowed to what its best candidates have
       (:func:`~scholarch.search.survivors.survivors`).
    3. The supernet of the narrowed space is trained by delayed shrinking, in ``out/supernet``.
    4. The narrowed space is searched by validation accuracy with inherited weights, in
       ``out/second``.
    5. The pick is trained on by itself; validation decides whether that is kept. The test part
       is read once, for what is kept. ``out/student`` holds it, ``out/student.onnx`` too where
       the extra is installed, ``out/report.html`` shows all stages.

    Every stage goes on where it was stopped.

    Args:
        data: a name, a path or a data set with validation images.
        out: the folder.
        space: see :func:`~scholarch.api.find_student`, as for all that is not named here.
        teacher: of the first search.
        tables: latency tables, for both searches.
        budget: of both searches.
        proxies: of the first search.
        searcher: of both searches.
        evaluations: of each search.
        seed: of everything.
        batch_size: images that the first search scores on.
        workers: of the first search.
        device: of all stages.
        precision: of the first search.
        predictor: of the second search.
        calibration: training images from which batch norm's statistics are computed.
        refine_epochs: of the supernet's training.
        finetune_epochs: of the pick's; 0: none.
        train_settings: further ones of the supernet's, e.g. ``{"batch_size": 128}``; see
            :class:`~scholarch.supernet.settings.TrainSettings`.
        command: the shell line that repeats it.
        progress: called as candidates and steps finish.

    Raises:
        ScholarchError: with one plain line for whatever input will not do.
    """
    if isinstance(data, Batch):
        raise InvalidInputError("a batch has no validation part to choose on; give the data set")
    dataset = load_data(data)
    if dataset.unlabelled:
        dataset = labelled(dataset, [] if teacher is None else [load_teacher(teacher)])
    if not len(dataset.val.labels):
        raise InvalidInputError(
            f"data {dataset.name!r} has no validation images to choose on; give a validation part,"
            " or data from which one can be split off"
        )
    tell = progress or (lambda _: None)
    bounds = Budget(budget or {})
    extra = dict(train_settings or {})
    tuning = FinetuneSettings(
        epochs=finetune_epochs,
        batch_size=int(extra.get("batch_size", 64)),
        lr=_FINETUNE_LR * float(extra.get("lr") or 2.6 / 2048 * int(extra.get("batch_size", 64))),
        seed=seed,
    )
    folder = Path(out).expanduser()
    asked = {
        "refine_epochs": refine_epochs,
        "finetune": asdict(tuning),
        "train_settings": extra,
        "calibration": calibration,
    }
    admit_told(folder, REFINE, "refined search", asked)
    make_folder(folder)
    with held(folder):
        before = admit_told(folder, REFINE, "refined search", asked)
        told: dict[str, Any] = {"settings": asked, "finished": False}
        if not before:
            write_refine(folder, told)
        first = find_student(
            space=space,
            data=dataset,
            teacher=teacher,
            tables=tables,
            budget=bounds.bounds,
            proxies=proxies,
            searcher=searcher,
            evaluations=evaluations,
            seed=seed,
            batch_size=batch_size,
            out=folder / "first",
            workers=workers,
            device=device,
            precision=precision,
            command=command,
            progress=tell,
        )
        if first.pick is None:
            first.best  # noqa: B018  (raises, with the reasons)
        genes = survivors(first)
        left = narrow(first.space, {one.gene: one.kept for one in genes})
        command = command or _line(first, out, refine_epochs, finetune_epochs)
        trained = train_supernet(
            space=left,
            data=dataset,
            out=folder / "supernet",
            resume=True,
            seed=seed,
            epochs=refine_epochs,
            device=device,
            calibration=calibration,
            command=command,
            progress=_as_search(tell),
            **extra,
        )
        for path in tables:
            trained.space.attach(load_table(path, trained.space))
        second = search_supernet(
            trained,
            dataset,
            budget=bounds,
            searcher=searcher,
            evaluations=evaluations,
            seed=seed,
            predictor=predictor,
            calibration=calibration,
            test=False,
            out=folder / "second",
            device=device,
            command=command,
            progress=lambda step: tell(_named(step, "again")),
        )
        best, tuned = _finetuned(second, first.space, dataset, tuning, folder, device, tell)
        told |= {
            "command": command,
            "genes": [asdict(one) for one in genes],
            "sizes": [first.space.size, left.size],
            "training": _training(trained),
            "finetune": tuned,
            "seconds": round(first.info["seconds"] + trained.seconds + second.info["seconds"], 1),
            "finished": True,
        }
        best.save_pretrained(folder / "student")
        told["onnx"] = _exported(best, folder / "student.onnx")
        write_refine(folder, told)
        write_atomic(folder / REPORT, refined_html(first, second, told, folder / "supernet"))
    return Refined(best, first, genes, second, told, folder)


def _as_search(tell: Callable[[Progress], None]) -> Callable[[TrainProgress], None]:
    return lambda step: tell(Progress("supernet", step.step, step.steps))


def _named(step: Progress, name: str) -> Progress:
    """A step of the second search, by a name of its own."""
    phase = name if step.phase == "search" else step.phase
    return Progress(phase, step.done, step.total, step.best, step.text)


def _finetuned(
    second: SearchResult,
    space: SearchSpace,
    data: DataSet,
    settings: FinetuneSettings,
    folder: Path,
    device: str,
    tell: Callable[[Progress], None],
) -> tuple[Student, dict[str, Any]]:
    """The pick, trained on, and its accuracies."""
    pick = second.best
    with one_thread():
        tuned = finetune(
            pick.module(),
            data,
            settings,
            checkpoint=folder / f"finetune-{pick.arch.key}.safetensors",
            device=device,
            progress=lambda done, total: tell(Progress("finetune", done, total)),
        )
        test = _tested(tuned, data)
    found = {"val": max(tuned.before, tuned.after) if settings.epochs else tuned.before}
    found |= {} if test is None else {"test": test}
    about = dict(pick.trained.about) if pick.trained is not None else {}
    if tuned.kept == "after":
        about["by"] = f"{about['by']}; then trained for {settings.epochs} epochs by itself"
    student = Student(
        pick.arch,
        space,
        pick.costs,
        pick.score,
        pick.scores,
        pick.seed,
        TrainedWeights(lambda: copy.deepcopy(tuned.network), found, about),
    )
    return student, {
        "arch": pick.arch.text,
        "epochs": settings.epochs,
        "before": tuned.before,
        "after": tuned.after if settings.epochs else None,
        "kept": tuned.kept,
        "test": test,
        "test_images": len(data.test.labels),
    }


def _tested(tuned: Finetuned, data: DataSet) -> float | None:
    """The one look at the test part: of the network that is handed over."""
    if not len(data.test.labels):
        return None
    return accuracy(tuned.network, part_batches(data, "test"))


def _training(trained: TrainedSupernet) -> dict[str, Any]:
    return {name: value for name, value in trained.to_json().items() if name != "paths"}


def _exported(student: Student, path: Path) -> str | None:
    """Name of the ONNX file; ``None`` where it cannot be made, say without the extra."""
    try:
        student.export(path)
    except ScholarchError:
        return None  # after hours of training the student is there; export says what is missing
    return path.name


def _line(first: SearchResult, out: str | Path, epochs: float, tuning: int) -> str:
    """The shell line of a refined search that was started from Python."""
    words = shlex.split(str(first.info["command"]))
    words[words.index("--out") + 1] = str(out)
    words += ["--refine", "supernet", "--refine-epochs", f"{epochs:g}"]
    return shlex.join([*words, "--finetune-epochs", str(tuning)])

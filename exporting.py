"""A student as a file that runs elsewhere: ONNX, torch.export, int8, or a folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .data import DataSpec, load_data
from .proxies.devices import one_thread
from .search.shipping.int8 import CALIBRATION, LOSS_WORTH_A_WORD, Normalised, write_int8
from .search.shipping.onnx_file import write_onnx
from .search.shipping.program import write_program
from .search.shipping.read import read_student, student_folder
from .search.shipping.timing import latencies
from .search.student import Student, TrainedWeights
from .searchspace.errors import InvalidInputError, UnknownNameError
from .searchspace.files import make_folder, refuse_strangers
from .searchspace.transformers.encoder import Encoder
from .supernet.alone import is_run_folder, largest_network
from .teachers.library import save_library

__all__ = ["FORMATS", "Exported", "export_student"]

FORMATS = {
    "onnx": "one ONNX file with a dynamic batch",
    "torch-export": "one .pt2 file of torch.export, likewise",
    "onnx-int8": "one ONNX file in int8, calibrated on training images",
    "folder": "model.safetensors, config.json, model.py that needs torch alone, a model card",
    "library": "of a Transformer: a folder that timm or transformers loads, where its shape allows",
}


@dataclass(frozen=True, eq=False)
class Exported:
    """What was written.

    Attributes:
        kind: one of :data:`FORMATS`.
        path: of the file or folder.
        student: what it is of.
        bytes: size of the file; of a folder, its weights'.
        parity: size of batch → max|Δ| / max|y| against torch, where outputs are to be equal.
        latency: runtime → ms of one image on one thread here, normalised to logits.
        accuracy: part of the data → ``{"float": …, "int8": …}``, in [0, 1]; of int8 alone.
        notes: what the user has to know.
    """

    kind: str
    path: Path
    student: Student
    bytes: int
    parity: Mapping[int, float] = field(default_factory=dict)
    latency: Mapping[str, float] = field(default_factory=dict)
    accuracy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": self.kind,
            "out": str(self.path),
            "arch": self.student.arch.text,
            "space": self.student.space.name,
            "bytes": self.bytes,
            "parity": {str(size): error for size, error in self.parity.items()},
            "latency_ms": dict(self.latency),
            "accuracy": {part: dict(found) for part, found in self.accuracy.items()},
            "notes": list(self.notes),
        }


def export_student(
    student: Student | str | Path,
    out: str | Path,
    *,
    kind: str = "onnx",
    data: DataSpec | None = None,
    calibration: int = CALIBRATION,
    seed: int = 0,
) -> Exported:
    """Write a student as a file that runs elsewhere, and say how it compares.

    Files take normalised images ``[B, C, H, W]``, token ids ``[B, L]`` or waveforms ``[B, T]``,
    of any batch, and give logits ``[B, K]`` (or vectors). A file whose outputs are others than
    the network's, by more than 1e-4 of the largest, is not written. One in int8 gives others by
    design: its accuracy is measured beside that in float32, on the validation part and, once, on
    the test part.

    Args:
        student: or the folder of a run (what was distilled comes before what was not; of a training
            run the largest network), or one that :meth:`Student.save_pretrained` wrote.
        out: the file, or for ``folder`` and ``library`` the folder.
        kind: one of :data:`FORMATS`; ``onnx`` and ``onnx-int8`` need ``scholarch[onnx]``.
        data: what int8 is calibrated and measured on, as :func:`~scholarch.data.load_data`
            takes it; other formats need none.
        calibration: training images that decide the scales of int8's activations.
        seed: of their choice.

    Raises:
        UnknownNameError: if there is no such format.
        InvalidInputError: if there is no student, or the data do not fit it.
        ScholarchError: if the network cannot be exported, or an extra is missing.
        StoreError: if the file cannot be written.
    """
    if kind not in FORMATS:
        raise UnknownNameError("format", kind, FORMATS)
    if kind == "onnx-int8" and data is None:
        raise InvalidInputError(
            "format onnx-int8 needs data: training images decide the scales of the activations;"
            " name what the student was trained on, e.g. --data digits"
        )
    if not isinstance(student, Student):
        given = Path(student).expanduser()
        is_run = is_run_folder(given)
        student = _largest_of(given) if is_run else read_student(student_folder(given))
    out = Path(out).expanduser()
    with one_thread():
        if kind in ("folder", "library"):
            if out.is_file():
                raise InvalidInputError(
                    f"{out} is a file; format {kind} wants the name of a folder"
                )
            if out.is_dir() and not (out / "config.json").is_file():
                refuse_strangers(out, "student")
            return _folder(student, out) if kind == "folder" else _library(student, out)
        if out.is_dir():
            raise InvalidInputError(f"{out} is a folder; name the file to write")
        make_folder(out.parent)
        if kind == "onnx-int8" and data is not None:
            return _int8(student, out, data, calibration, seed)
        return _float(student, out, kind)


def _largest_of(folder: Path) -> Student:
    """A training run's largest network as a student, which nobody searched."""
    network, arch, supernet = largest_network(folder)
    space, data = supernet.space, supernet.about.get("data", {})
    about: dict[str, Any] = {"by": "a training run", "data": data.get("name")}
    if space.modality == "image" and "mean" in data:
        about["input"] = {"mean": data["mean"], "std": data["std"]}
    costs = {name: float(column[0]) for name, column in space.cost([arch]).items()}
    weights = TrainedWeights(lambda: network, {}, about)
    return Student(arch, space, costs, math.nan, trained=weights)


def _folder(student: Student, out: Path) -> Exported:
    student.save_pretrained(out)
    lacks = () if (out / "model.py").is_file() else ("There is no model.py; README.md says why.",)
    size = (out / "model.safetensors").stat().st_size
    return Exported("folder", out, student, size, notes=(*_state(student), *lacks))


def _library(student: Student, out: Path) -> Exported:
    network = student.module().eval()
    if not isinstance(network, Encoder):
        raise InvalidInputError(
            f"format library is for Transformers, and {student.space.name} has none that timm or"
            " transformers knows; take folder, whose model.py needs torch alone"
        )
    written = save_library(network, out)
    size = (out / "model.safetensors").stat().st_size
    return Exported("library", out, student, size, notes=(*_state(student), written))


def _float(student: Student, out: Path, kind: str) -> Exported:
    network = student.module().eval()
    write, runtime = {
        "onnx": (write_onnx, "onnxruntime"),
        "torch-export": (write_program, "torch.export"),
    }[kind]
    written = write(network, out, student.image)
    times = latencies({"torch": network, runtime: written.run}, student.image)
    size = out.stat().st_size
    return Exported(kind, out, student, size, written.errors, times, notes=_state(student))


def _int8(student: Student, out: Path, data: DataSpec, calibration: int, seed: int) -> Exported:
    image = student.image
    if not isinstance(image, tuple):
        raise InvalidInputError(
            f"format onnx-int8 is for students of images, this one takes {image.modality}; export"
            " it in float32 with --format onnx"
        )
    dataset = load_data(data)
    channels, side, _ = image
    wrong = [
        f"{what} {has}, data {dataset.name!r} {given}"
        for what, has, given in (
            ("classes:", student.space.num_classes, dataset.num_classes),
            ("pixels a side:", side, dataset.resolution),
            ("channels:", channels, len(dataset.mean)),
        )
        if has != given
    ]
    if wrong:
        raise InvalidInputError(
            f"the student does not fit the data: {'; '.join(wrong)}; give what it was made for"
        )
    notes = list(_state(student))
    inputs = (student.trained.about.get("input") if student.trained else None) or {}
    mean, std = inputs.get("mean"), inputs.get("std")
    if mean is None or std is None:
        mean, std = dataset.mean, dataset.std
        if student.trained:
            notes.append(
                "The student does not say how its images were normalised; the data's own mean and"
                " standard deviation were taken."
            )
    network = student.module().eval()
    images = Normalised(dataset, tuple(mean), tuple(std))
    small = write_int8(network, out, student.image, images, calibration=calibration, seed=seed)
    runs: dict[str, Callable[[Tensor], object]] = {
        "torch": network,
        "onnxruntime": small.sessions["float"],
        "onnxruntime int8": small.sessions["int8"],
    }
    times = latencies(runs, student.image)
    if student.trained and small.loss > LOSS_WORTH_A_WORD:
        notes.append(
            f"int8 costs {100 * small.loss:.1f} points of accuracy. What can be done: calibrate on"
            f" more training images than {calibration}, keep float32 (--format onnx), or train"
            " with int8 in the loop (scholarch distil --int8)."
        )
    if times["onnxruntime int8"] > times["onnxruntime"]:
        notes.append(
            f"int8 is not faster than float32 here; its file is"
            f" {small.sizes['float'] / small.sizes['int8']:.1f} times smaller."
        )
    size = small.sizes["int8"]
    return Exported("onnx-int8", out, student, size, {}, times, small.accuracy, notes=tuple(notes))


def _state(student: Student) -> tuple[str, ...]:
    if student.trained is not None:
        return ()
    return (
        "The student's weights are not trained: the file computes what a random network does."
        " Train it first, e.g. by scholarch distil.",
    )

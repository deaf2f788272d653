"""A teacher's answers as the labels of data that nobody labelled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ..proxies.batch import Batch
from ..proxies.teacher import FORWARD_ERRORS, Teacher, first_line
from ..proxies.vocabulary import vocabulary_of
from ..searchspace.errors import InvalidInputError
from ..searchspace.files import make_folder, write_atomic
from ..searchspace.inputs import PADDING, packed, token_ids
from .loader import LabelledImages
from .vocabulary import check_vocabulary

__all__ = ["PARTS", "Relabelled", "answered", "answers", "combined", "with_targets"]

PARTS = ("train", "val", "test")

_FORMAT = "scholarch-targets"
_BATCH = 64

#: Answers to fewer inputs are computed again rather than kept on disk.
_KEPT = 2000


class Relabelled(LabelledImages, Protocol):
    """Data that can be given other labels; ``scholarch.DataSet`` can."""

    def relabelled(self, labels: Mapping[str, npt.NDArray[Any]]) -> Self:
        """The same with other labels, by part."""


Data = TypeVar("Data", bound=Relabelled)


def with_targets(
    data: Data,
    teachers: Teacher | Sequence[Teacher],
    *,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Data:
    """Data with a teacher's answers as labels, float32 ``[N, D]``.

    Args:
        data: whose labels are of no matter; all parts are answered, since what is learned is
            measured by the same teacher.
        teachers: one or several: its outputs ``[B, D]``, or, without a head, its pooled features;
            of several the mean of their directions.
        folder: where answers to 2,000 inputs and more are kept, and read back for the same
            teachers and inputs.
        progress: called with the inputs that are answered, and how many there are.

    Raises:
        InvalidInputError: if the teacher takes other inputs, or its answers are not finite.
        StoreError: if the answers cannot be kept.
    """
    asked = (teachers,) if isinstance(teachers, Teacher) else tuple(teachers)
    for one in asked:
        if one.modality == data.modality:
            check_vocabulary(data, vocabulary_of(one.module), f"teacher {one.name!r}")
    file = None
    about = json.dumps({"format": _FORMAT, "of": _fingerprint(data, asked)})
    total = sum(len(getattr(data, part).labels) for part in PARTS)
    if folder is not None and total >= _KEPT:
        name = hashlib.sha256(about.encode()).hexdigest()[:16]
        file = folder / f"targets-{name}.safetensors"
        if (kept := _read(file, about)) is not None:
            return data.relabelled(kept)
    found, done = {}, 0
    for part in PARTS:
        rows = []
        images = getattr(data, part).images
        for chosen, answered in _answered(data, images, asked):
            rows.append((chosen, answered))
            done += len(chosen)
            if progress is not None:
                progress(done, total)
        found[part] = _in_order(rows)
    width = found["train"].shape[1]
    found = {part: rows if len(rows) else rows.reshape(0, width) for part, rows in found.items()}
    if not all(np.isfinite(rows).all() for rows in found.values()):
        raise InvalidInputError(
            f"teacher {', '.join(one.name for one in asked)} gives answers that are not finite on"
            f" {data.name!r}; check its weights"
        )
    if file is not None:
        from safetensors.numpy import save

        make_folder(file.parent)
        write_atomic(file, save(found, metadata={"about": about}))
    return data.relabelled(found)


def answered(batch: Batch, teacher: Teacher) -> Batch:
    """A batch with the teacher's answers for labels; one that has labels as it is.

    Raises:
        InvalidInputError: if the teacher does not run on such inputs.
    """
    if batch.num_classes:
        return batch
    found = answers(teacher, batch)
    return dataclasses.replace(batch, labels=found, num_classes=int(found.shape[1]))


def answers(teacher: Teacher, batch: Batch) -> Tensor:
    """A teacher's outputs, or, where it has no head, its pooled features, float ``[B, D]``.

    Raises:
        InvalidInputError: if the teacher does not run on such inputs.
    """
    if teacher.trained:
        prepared = teacher.prepare(batch)
        try:
            with torch.no_grad():
                found = teacher.module(prepared)
        except FORWARD_ERRORS as error:
            shape = list(prepared.shape[1:])
            raise InvalidInputError(
                f"teacher {teacher.name!r} does not run on inputs {shape} of {batch.name!r}:"
                f" {first_line(error)}"
            ) from error
        if isinstance(found, Tensor) and found.dim() == 2:
            return found.float()
    taps = teacher.observe(batch)
    return (taps.pooled if taps.logits is None else taps.logits).float()


def combined(several: Sequence[Tensor]) -> Tensor:
    """The direction between several teachers' answers, ``[B, D]``: the mean of unit vectors.

    Raises:
        InvalidInputError: if they are not of one length.
    """
    if len({int(one.shape[1]) for one in several}) > 1:
        raise InvalidInputError(
            f"the teachers answer in {', '.join(str(one.shape[1]) for one in several)} numbers;"
            " need teachers of as many"
        )
    return torch.stack([functional.normalize(one, dim=1) for one in several]).mean(dim=0)


def _answered(
    data: LabelledImages, images: npt.NDArray[np.uint8], teachers: Sequence[Teacher]
) -> Iterator[tuple[npt.NDArray[np.int64], Tensor]]:
    """Answers to a part, with the rows that they are to.

    Sentences are answered in the order of their lengths, without the padding that none of a
    batch needs: several times faster.
    """
    order, lengths = np.arange(len(images)), None
    if data.modality == "text" and len(images):
        lengths = (token_ids(packed(torch.from_numpy(images))) != PADDING).sum(dim=1).numpy()
        order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        longest = images.shape[2] if lengths is None else max(int(lengths[chosen].max()), 1)
        yield chosen, _of_batch(data, images[chosen][:, :, :longest], teachers)


def _of_batch(
    data: LabelledImages, images: npt.NDArray[np.uint8], teachers: Sequence[Teacher]
) -> Tensor:
    count = len(images)
    if count == 1:  # a batch has two at least
        images = np.repeat(images, 2, axis=0)
    inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255.0
    nothing = torch.zeros(len(inputs), 0)
    batch = Batch(inputs, nothing, 0, data.mean, data.std, data.name, data.modality)
    several = [answers(teacher, batch) for teacher in teachers]
    return (several[0] if len(several) == 1 else combined(several))[:count].cpu()


def _in_order(
    rows: Sequence[tuple[npt.NDArray[np.int64], Tensor]],
) -> npt.NDArray[np.float32]:
    if not rows:
        return np.zeros((0, 0), dtype=np.float32)
    order = np.concatenate([chosen for chosen, _ in rows])
    found = torch.cat([answered for _, answered in rows]).numpy()
    return np.ascontiguousarray(found[np.argsort(order, kind="stable")], dtype=np.float32)


def _fingerprint(data: LabelledImages, teachers: Sequence[Teacher]) -> str:
    """Of the teachers and of the inputs; labels that are replaced do not matter."""
    digest = hashlib.sha256("|".join(one.fingerprint for one in teachers).encode())
    for part in PARTS:
        images = getattr(data, part).images
        digest.update(repr(images.shape).encode())
        digest.update(images.tobytes())
    return digest.hexdigest()[:16]


def _read(file: Path, about: str) -> dict[str, npt.NDArray[Any]] | None:
    """Answers kept before; ``None`` where they are others', damaged or not there."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="np") as opened:
            if (opened.metadata() or {}).get("about") != about:
                return None
            return {part: opened.get_tensor(part) for part in PARTS}
    except (OSError, SafetensorError):
        return None

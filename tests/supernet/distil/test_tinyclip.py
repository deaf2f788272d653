"""Affinities between a student's inputs and the texts of their labels, against the formula."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import Distiller, Pair, Shapes, Sides
from scholarch.supernet.distil.factory import create_distiller

INPUTS, CLASSES, EMBED = 5, 3, 6
LABELS = torch.tensor([2, 0, 1, 2, 2])  # some of them twice, as in any batch


def taps(width: int, seed: int, *, directions: bool = False) -> Taps:
    rng = np.random.default_rng(seed)

    def drawn(*size: int) -> Tensor:
        return torch.tensor(rng.normal(size=size), dtype=torch.float32)

    pooled, final = drawn(INPUTS, width), drawn(INPUTS, width, 2, 2)
    if directions:
        pooled = torch.nn.functional.normalize(pooled, dim=1) * math.sqrt(width)
    return Taps((final,), final, pooled, drawn(INPUTS, CLASSES), 100 * drawn(CLASSES, width))


def both(width: int = 4, **options: object) -> tuple[Distiller, Pair]:
    student, teacher = taps(width, 1), taps(EMBED, 2, directions=True)
    sides = Sides(Shapes.of(student), Shapes.of(teacher), INPUTS, 0)
    made = create_distiller("tinyclip", sides, **{"towers": "texts", **options})
    return made, Pair(student, teacher, LABELS, torch.arange(INPUTS), 0.5)


def softmax(row: np.ndarray) -> np.ndarray:
    e = np.exp(row - row.max())
    return e / e.sum()


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def test_both_affinities_with_the_texts_of_the_labels() -> None:
    made, pair = both(temperature=0.5, weight=2.0)
    weight, bias = (p.detach().double().numpy() for p in (made.map.weight, made.map.bias))  # type: ignore[union-attr]
    own = [unit(weight @ row + bias) for row in pair.student.pooled.double().numpy()]
    given = [unit(row) for row in pair.teacher.pooled.double().numpy()]
    texts = [unit(pair.teacher.classifier[label].double().numpy()) for label in LABELS]  # type: ignore[index]
    total = 0.0
    for i in range(INPUTS):
        for s, t in (
            ([own[i] @ text for text in texts], [given[i] @ text for text in texts]),
            ([x @ texts[i] for x in own], [x @ texts[i] for x in given]),
        ):
            q, p = softmax(np.array(s) / 0.5), softmax(np.array(t) / 0.5)
            total += 0.5 * float(np.sum(p * np.log(p / q))) / INPUTS
    found = made(pair)
    assert float(found.detach()) == pytest.approx(2.0 * total, rel=1e-4)
    found.backward()
    assert made.map.weight.grad.abs().max() > 0  # type: ignore[union-attr]
    assert pair.teacher.classifier.grad is None  # type: ignore[union-attr]


def test_the_temperature_is_the_teachers_own() -> None:
    made, pair = both()
    rows = 7.0 * torch.nn.functional.normalize(pair.teacher.classifier, dim=1)  # type: ignore[arg-type]
    told = replace(pair.teacher, classifier=rows, logits=pair.teacher.pooled @ rows.T)
    found = made(replace(pair, teacher=told))
    given, _ = both(temperature=1.0 / (7.0 * math.sqrt(EMBED)))
    assert float(found.detach()) == pytest.approx(float(given(pair).detach()), rel=1e-4)
    # Which makes the teacher's affinities its logits.
    cosines = torch.nn.functional.cosine_similarity(
        told.pooled[:, None], rows[None].expand(INPUTS, -1, -1), dim=2
    )
    torch.testing.assert_close(7.0 * math.sqrt(EMBED) * cosines, told.logits)


def test_texts_without_labels_are_refused() -> None:
    made, pair = both()
    targets = Pair(pair.student, pair.teacher, torch.ones(INPUTS, 4), pair.indices, 0.5)
    with pytest.raises(InvalidInputError, match="texts are those of labels, and there are none"):
        made(targets)
    wordless = Shapes.of(taps(EMBED, 2))._replace(classes=0)
    with pytest.raises(InvalidInputError, match=r"teacher tells no classes apart.*\?classes="):
        create_distiller("tinyclip", Sides(Shapes.of(taps(4, 1)), wordless, 5, 0), towers="texts")
    with pytest.raises(InvalidInputError, match="towers = 'three'"):
        both(towers="three")

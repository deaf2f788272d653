"""LELP against its formula, written out image by image; and the directions it finds."""

import math

import numpy as np
import pytest
import torch

from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import Pair, Shapes, Sides
from scholarch.supernet.distil.factory import create_distiller


def shapes(width, classes=3):
    return Shapes((), (width, 2, 2), width, classes)


def split_features(count=60, width=6, classes=2):
    """Features whose class is told by the first columns, with one wide and one narrow spread."""
    rng = np.random.default_rng(3)
    labels = np.arange(count) % classes
    features = 0.01 * rng.normal(size=(count, width))
    features[np.arange(count), labels] += 5.0 + rng.normal(size=count)
    features[:, 2] += 3.0 * rng.normal(size=count)
    features[:, 3] += rng.normal(size=count) + 7.0
    weight = np.zeros((classes, width))
    weight[np.arange(classes), np.arange(classes)] = 2.0
    return features, labels, weight


def lelp(**options):
    features, labels, weight = split_features()
    sides = Sides(shapes(3, 2), shapes(6, 2), len(labels), 0)
    made = create_distiller("lelp", sides, subclasses=2, **options)
    x, y, w = (
        torch.tensor(features, dtype=torch.float32),
        torch.tensor(labels),
        torch.tensor(weight, dtype=torch.float32),
    )

    def batches():
        for part in torch.arange(len(y)).split(16):
            yield (
                Taps((), torch.zeros(len(part), 6, 1, 1), x[part], x[part] @ w.T, w),
                y[part],
                part,
            )

    made.prepare(batches)
    return made, features, labels, weight


def test_lelp_finds_what_the_logits_do_not_tell():
    made, features, labels, _ = lelp()
    for k in (0, 1):
        directions = made.directions[k].double().numpy()
        # In the null space of the weight, which is all but the first two columns.
        assert abs(directions[:2]).max() < 1e-6
        own = features[labels == k]
        plane = np.zeros((6, 2))
        plane[[2, 3], [0, 1]] = 1.0
        # Both wide columns, turned by one rotation and scaled by one number.
        turned = plane.T @ directions
        scale = math.sqrt((turned**2).sum() / 2)
        np.testing.assert_allclose(turned @ turned.T / scale**2, np.eye(2), atol=0.05)
        variances = np.linalg.eigvalsh(np.cov(own[:, 2:].T, bias=True))[-2:]
        assert scale == pytest.approx(1 / math.sqrt(variances.mean()), rel=1e-4)
        coordinates = own @ directions - made.centres[k].numpy()
        np.testing.assert_allclose(coordinates.mean(axis=0), 0.0, atol=1e-5)
        assert (coordinates**2).mean() == pytest.approx(1.0, rel=1e-3)


def test_lelp():
    made, features, labels, weight = lelp(temperature=2.0, subclass_temperature=0.5, weight=3.0)
    rows = range(4)
    rng = np.random.default_rng(5)
    pooled, logits = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    student, teacher = (
        Taps((), torch.zeros(4, 1, 1, 1), *(torch.tensor(x).float() for x in given))
        for given in ((pooled, logits), (features[rows], features[rows] @ weight.T))
    )
    pair = Pair(student, teacher, torch.tensor(labels[:4]), torch.arange(4), 0.5)
    head = pooled @ made.head.weight.detach().numpy().T + made.head.bias.detach().numpy()

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    losses = []
    for i in rows:
        p, q = softmax(features[i] @ weight.T / 2), softmax(logits[i] / 2)
        total = 0.0
        for k in range(2):
            at = features[i] @ made.directions[k].numpy() - made.centres[k].numpy()
            inside_p, inside_q = softmax(at / 0.5), softmax(head[i, 2 * k : 2 * k + 2])
            for a, b in zip(p[k] * inside_p, q[k] * inside_q, strict=True):
                total += a * math.log(a / b)
        losses.append(total)
    assert float(made(pair).detach()) == pytest.approx(3 * 4 * np.mean(losses), rel=1e-4)


def test_lelp_says_what_it_cannot_split():
    sides = Sides(shapes(3), shapes(5), 4, 0)
    with pytest.raises(InvalidInputError, match="subclasses = 6 .*; the teacher has 5 features"):
        create_distiller("lelp", sides, subclasses=6)
    many = shapes(2048, 1000)
    with pytest.raises(InvalidInputError, match="lelp is made for few classes; with 1000"):
        create_distiller("lelp", Sides(shapes(3, 1000), many, 4, 0))
    with pytest.raises(InvalidInputError, match="lelp needs images"):
        create_distiller("lelp", sides).prepare(list)

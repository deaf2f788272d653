"""Distillers of logits against their papers' formulas, written out image by image."""

import math

import numpy as np
import pytest
import torch

from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import Pair, Shapes, Sides
from scholarch.supernet.distil.factory import create_distiller
from scholarch.supernet.losses import alpha_divergence

IMAGES, CLASSES = 4, 5
LABELS = [3, 0, 4, 3]
RNG = np.random.default_rng(0)
STUDENT = RNG.normal(0, 2, (IMAGES, CLASSES))
TEACHER = RNG.normal(0, 2, (IMAGES, CLASSES))


def taps(logits):
    empty = torch.zeros(IMAGES, 0, 0, 0)
    return Taps((), empty, torch.zeros(IMAGES, 0), torch.tensor(logits, dtype=torch.float32))


def loss(name, progress=1.0, **options):
    shapes = Shapes((), (0, 0, 0), 0, CLASSES)
    made = create_distiller(name, Sides(shapes, shapes, IMAGES, 0), **options)
    indices = torch.arange(IMAGES)
    pair = Pair(taps(STUDENT), taps(TEACHER), torch.tensor(LABELS), indices, progress)
    return float(made(pair))


def softmax(logits, temperature=1.0):
    powers = [math.exp(x / temperature) for x in logits]
    return [x / sum(powers) for x in powers]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def mean(values):
    return sum(values) / len(values)


def rows():
    return zip(STUDENT, TEACHER, LABELS, strict=True)


def test_kd():
    expected = 0.9 * mean([16 * kl(softmax(t, 4), softmax(s, 4)) for s, t, _ in rows()])
    assert loss("kd") == pytest.approx(expected, rel=1e-5)


def dkd(alpha, beta, temperature):
    losses = []
    for s, t, label in rows():
        p, q = softmax(t, temperature), softmax(s, temperature)
        target = kl((p[label], 1 - p[label]), (q[label], 1 - q[label]))
        others = [k for k in range(CLASSES) if k != label]
        p_hat, q_hat = ([x[k] / (1 - x[label]) for k in others] for x in (p, q))
        losses.append(temperature**2 * (alpha * target + beta * kl(p_hat, q_hat)))
    return mean(losses)


def test_dkd():
    assert loss("dkd") == pytest.approx(dkd(1, 8, 4), rel=1e-5)
    given = {"alpha": 2.0, "beta": 0.5, "temperature": 1.5}
    assert loss("dkd", **given) == pytest.approx(dkd(2, 0.5, 1.5), rel=1e-5)


def test_dkd_takes_kd_apart():
    # §3.1, eq. 6: KD = target + (1 − p_y) · others, image by image.
    losses = []
    for s, t, label in rows():
        p, q = softmax(t), softmax(s)
        binary = kl((p[label], 1 - p[label]), (q[label], 1 - q[label]))
        losses.append(kl(p, q) - binary)
    others = [x / (1 - softmax(t)[k]) for x, (_, t, k) in zip(losses, rows(), strict=True)]
    given = {"alpha": 0.0, "beta": 1.0, "temperature": 1.0}
    assert loss("dkd", **given) == pytest.approx(mean(others), rel=1e-5)


@pytest.mark.parametrize("progress", [0.0, 10 / 240, 20 / 240, 0.9])
def test_dkd_warms_up(progress):
    expected = min(1.0, progress * 240 / 20) * dkd(1, 8, 4)
    assert loss("dkd", progress) == pytest.approx(expected, rel=1e-5)
    assert loss("dkd", progress, warmup=0.0) == pytest.approx(dkd(1, 8, 4), rel=1e-5)


def test_dist():
    p, q = ([softmax(row, 4) for row in logits] for logits in (TEACHER, STUDENT))
    inter = mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    columns = zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)
    intra = mean([1 - np.corrcoef(a, b)[0, 1] for a, b in columns])
    assert loss("dist") == pytest.approx(16 * (2 * inter + 2 * intra), rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_pld(temperature):
    losses = []
    for s, t, label in rows():
        others = sorted((k for k in range(CLASSES) if k != label), key=lambda k: -t[k])
        ranking = [label, *others]
        weights = softmax(t, temperature)
        total = 0.0
        for k, chosen in enumerate(ranking):
            left = sum(math.exp(s[i]) for i in ranking[k:])
            total -= weights[chosen] * math.log(math.exp(s[chosen]) / left)
        losses.append(total)
    assert loss("pld", temperature=temperature) == pytest.approx(mean(losses), rel=1e-5)


def test_pld_under_a_sure_teacher_is_the_cross_entropy():
    shapes = Shapes((), (0, 0, 0), 0, CLASSES)
    made = create_distiller("pld", Sides(shapes, shapes, IMAGES, 0))
    sure = taps(100.0 * np.eye(CLASSES)[LABELS])
    pair = Pair(taps(STUDENT), sure, torch.tensor(LABELS), torch.arange(IMAGES), 0.5)
    expected = mean([-math.log(softmax(s)[k]) for s, _, k in rows()])
    assert float(made(pair)) == pytest.approx(expected, rel=1e-5)
    assert made.labels == 0.0


def test_soft_labels_of_both_kinds():
    p, q = ([softmax(row) for row in logits] for logits in (TEACHER, STUDENT))
    assert loss("soft") == pytest.approx(mean([kl(a, b) for a, b in zip(p, q, strict=True)]))
    losses = []
    for a, b in zip(p, q, strict=True):
        middle = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
        losses.append((kl(a, middle) + kl(b, middle)) / 2)
    assert loss("soft", divergence="js") == pytest.approx(mean(losses), rel=1e-5)
    with pytest.raises(InvalidInputError, match="divergence = 'rkl' .*; need one of kl, js"):
        loss("soft", divergence="rkl")


def test_alpha_is_the_supernets_divergence():
    both = (torch.tensor(x, dtype=torch.float32) for x in (STUDENT, TEACHER))
    expected = float(alpha_divergence(*both, 2.0, alpha_min=-0.5, alpha_max=0.5, clip=3.0))
    given = {"temperature": 2.0, "alpha_min": -0.5, "alpha_max": 0.5, "clip": 3.0, "weight": 2.0}
    assert loss("alpha", **given) == pytest.approx(2 * expected)
    with pytest.raises(InvalidInputError, match="alpha_min = 2 of the distiller is above"):
        loss("alpha", alpha_min=2)


def test_a_network_without_classifier_is_refused():
    whole, none = (Shapes((), (0, 0, 0), 0, k) for k in (CLASSES, 0))
    for name in ("kd", "dkd", "dist", "pld", "soft", "alpha"):
        with pytest.raises(InvalidInputError, match="one of the networks has no classifier"):
            create_distiller(name, Sides(whole, none, IMAGES, 0))

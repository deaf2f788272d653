"""Distillers of features against their papers' formulas, written out in loops."""

import itertools
import math

import numpy as np
import pytest
import torch

from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import Pair, Shapes, Sides
from scholarch.supernet.distil.factory import create_distiller
from scholarch.supernet.distil.relations import triplet_cosines, unit_rows

IMAGES, CLASSES = 4, 3
RNG = np.random.default_rng(0)


def shapes(width, classes=CLASSES):
    return Shapes((), (width, 2, 2), width, classes)


def taps(width, seed):
    rng = np.random.default_rng(seed)
    sizes = ((IMAGES, width, 2, 2), (IMAGES, width), (IMAGES, CLASSES), (CLASSES, width))
    maps, pooled, logits, weight = (
        torch.tensor(rng.normal(size=s), dtype=torch.float32) for s in sizes
    )
    return Taps((), maps, pooled, logits, weight)


def both(name, images=IMAGES, **options):
    """The distiller and an example of 3 and 5 channels."""
    made = create_distiller(name, Sides(shapes(3), shapes(5), images, 0), **options)
    labels = torch.tensor([2, 0, 2, 1])
    return made, Pair(taps(3, 1), taps(5, 2), labels, torch.tensor([1, 0, 3, 2]), 0.5)


def value(made, pair):
    return float(made(pair).detach())


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def norm(x):
    return math.sqrt(float((x * x).sum()))


# ---------------------------------------------------------------------- RKD


def distances(f):
    d = np.array([[norm(a - b) for b in f] for a in f])
    return d / np.mean([d[i, j] for i, j in itertools.permutations(range(len(f)), 2)])


def angle(f, i, j, k):
    if j in (i, k):
        return 0.0
    a, b = f[i] - f[j], f[k] - f[j]
    return float((a * b).sum()) / norm(a) / norm(b)


def test_rkd():
    made, pair = both("rkd")
    s, t = (x.pooled.double().numpy() for x in (pair.student, pair.teacher))
    pairs = np.mean([huber(x) for x in (distances(s) - distances(t)).ravel()])
    triplets = itertools.product(range(IMAGES), repeat=3)
    angles = np.mean([huber(angle(s, *ijk) - angle(t, *ijk)) for ijk in triplets])
    assert value(made, pair) == pytest.approx(25 * pairs + 50 * angles, rel=1e-5)
    made, pair = both("rkd", distance=0, angle=1)
    assert value(made, pair) == pytest.approx(angles, rel=1e-5)


def test_triplets_of_coinciding_images_have_finite_gradients():
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]], requires_grad=True)
    cosines = triplet_cosines(x)
    cosines.square().sum().backward()
    cosines = cosines.detach()
    assert cosines[0, 1, 2] == cosines[1, 0, 2] == 0
    assert float(cosines[2, 0, 1]) == pytest.approx(1.0)
    assert x.grad.isfinite().all()


def test_short_rows_are_no_direction():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-7, 0.0]], requires_grad=True)
    given = unit_rows(x)
    assert torch.equal(given, torch.tensor([[0.6, 0.8], [0, 0], [0, 0]]))
    given[:, 0].sum().backward()
    assert torch.allclose(x.grad, torch.tensor([[0.64 / 5, -0.48 / 5], [0, 0], [0, 0]]))


# ---------------------------------------------------------------------- PKT


def neighbours(f, i):
    """p(j | i) of the other images."""
    near = {j: (f[i] @ f[j] / norm(f[i]) / norm(f[j]) + 1) / 2 for j in range(len(f)) if j != i}
    return {j: x / sum(near.values()) for j, x in near.items()}


def test_pkt():
    made, pair = both("pkt")
    s, t = (x.pooled.double().numpy() for x in (pair.student, pair.teacher))
    total = 0.0
    for i in range(IMAGES):
        p, q = neighbours(t, i), neighbours(s, i)
        total += sum(p[j] * math.log(p[j] / q[j]) for j in p)
    assert value(made, pair) == pytest.approx(30000 * total / IMAGES**2, rel=1e-4)


# ---------------------------------------------------------------------- SRRL


def test_srrl():
    made, pair = both("srrl", alpha=2.0, beta=3.0)
    maps, weight = pair.student.final_map.numpy(), made.connector[0].weight.detach().numpy()
    raw = np.einsum("oi,bihw->bohw", weight[:, :, 0, 0], maps)
    mean, std = raw.mean(axis=(0, 2, 3)), np.sqrt(raw.var(axis=(0, 2, 3)) + 1e-5)
    given = ((raw - mean[:, None, None]) / std[:, None, None]).mean(axis=(2, 3))
    target, classifier = pair.teacher.pooled.numpy(), pair.teacher.classifier.numpy()
    bias = RNG.normal(size=CLASSES)
    logits = [f @ classifier.T + bias for f in (given, target)]
    expected = 2 * ((given - target) ** 2).mean() + 3 * ((logits[0] - logits[1]) ** 2).mean()
    assert value(made, pair) == pytest.approx(expected, rel=1e-4)


# ---------------------------------------------------------------------- DisWOT


def kl(t, s, temperature):
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum() for x in (t, s))
    return temperature**2 * float((p * np.log(p / q)).sum())


def unit_gram(rows):
    g = np.array([[float((a * b).sum()) for b in rows] for a in rows])
    return g / norm(g)


def class_maps(x):
    """Gₙ = Σ_c w_{n,c} A_c of every class, over all images."""
    maps, weight = x.final_map.numpy(), x.classifier.numpy()
    return [sum(w[c] * maps[:, c] for c in range(len(w))) for w in weight]


def test_diswot():
    made, pair = both("diswot")
    s, t = pair.student, pair.teacher
    logits = zip(t.logits.numpy(), s.logits.numpy(), strict=True)
    divergence = np.mean([kl(a, b, 4.0) for a, b in logits])
    semantic = norm(unit_gram(class_maps(s)) - unit_gram(class_maps(t)))
    relation = norm(unit_gram(s.final_map.numpy()) - unit_gram(t.final_map.numpy()))
    expected = divergence + semantic / CLASSES**2 + relation / IMAGES**2
    assert value(made, pair) == pytest.approx(expected, rel=1e-5)
    assert max(semantic, relation) < math.sqrt(2)
    made, pair = both("diswot", weight=0, semantic=9.0, relation=0)
    assert value(made, pair) == pytest.approx(semantic, rel=1e-5)
    made, pair = both("diswot", weight=0, semantic=0, relation=16.0)
    assert value(made, pair) == pytest.approx(relation, rel=1e-5)


def test_diswot_needs_a_classifier_of_the_final_map():
    other = shapes(5)._replace(pooled=7)
    with pytest.raises(InvalidInputError, match="teacher's map has 5, its classifier reads 7"):
        create_distiller("diswot", Sides(shapes(3), other, IMAGES, 0))

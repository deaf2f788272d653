"""CRD against its formula, written out image by image; and its memory."""

import math

import numpy as np
import pytest
import torch

from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import Pair, Shapes, Sides
from scholarch.supernet.distil.distillers.crd import CRD


def shapes(width):
    return Shapes((), (width, 2, 2), width, 3)


def taps(width, seed):
    pooled = np.random.default_rng(seed).normal(size=(4, width))
    return Taps((), torch.zeros(4, 1, 1, 1), torch.tensor(pooled, dtype=torch.float32))


def both(images, **options):
    """The distiller and a batch of 3 and 5 features."""
    made = CRD(Sides(shapes(3), shapes(5), images, 0), **options)
    labels = torch.tensor([2, 0, 2, 1])
    return made, Pair(taps(3, 1), taps(5, 2), labels, torch.tensor([1, 0, 3, 2]), 0.5)


def value(made, pair):
    return float(made(pair).detach())


def norm(x):
    return math.sqrt(float((x * x).sum()))


def unit(x):
    return x / norm(x)


def embedded(made, pair):
    """Unit vectors of both sides."""
    layers = (made.embed_student, made.embed_teacher)
    features = (pair.student.pooled, pair.teacher.pooled)
    out = []
    for layer, x in zip(layers, features, strict=True):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        out.append([unit(weight @ row + bias) for row in x.numpy()])
    return out


def contrast(units, memory, indices, images, normaliser):
    """The loss of one side, all other images negatives; and Z."""
    h = np.array([[math.exp(float(u @ m) / 0.07) for m in memory] for u in units])
    z = normaliser or h.mean() * images
    h = h / z
    noise = (images - 1) / images
    total = 0.0
    for row, own in zip(h, indices, strict=True):
        total -= math.log(row[own] / (row[own] + noise))
        total -= sum(math.log(noise / (row[j] + noise)) for j in range(images) if j != own)
    return total / len(units), z


def test_crd():
    images = 7
    made, pair = both(images, dimensions=6)
    indices = pair.indices.tolist()
    memory = made.memory.clone().numpy()
    assert abs(memory).max() <= math.sqrt(3 / 6)
    units = embedded(made, pair)
    first = [contrast(units[k], memory[1 - k], indices, images, None) for k in (0, 1)]
    assert value(made, pair) == pytest.approx(0.8 * (first[0][0] + first[1][0]), rel=1e-4)
    assert made.normaliser.tolist() == pytest.approx([first[0][1], first[1][1]], rel=1e-4)
    for side in (0, 1):
        for row, index in enumerate(indices):
            memory[side, index] = unit(0.5 * memory[side, index] + 0.5 * units[side][row])
    np.testing.assert_allclose(made.memory, memory, rtol=1e-4, atol=1e-6)
    # The second batch meets the memory of the first, and its Z.
    second = [contrast(units[k], memory[1 - k], indices, images, first[k][1]) for k in (0, 1)]
    assert value(made, pair) == pytest.approx(0.8 * (second[0][0] + second[1][0]), rel=1e-4)


def test_crd_draws_negatives_by_seed_images_and_progress():
    images = 50
    made, pair = both(images, negatives=10)
    drawn = made._draw(pair)
    assert len(drawn) == len(set(drawn.tolist())) == 10
    again, _ = both(images, negatives=10)
    assert torch.equal(again._draw(pair), drawn)
    later = Pair(pair.student, pair.teacher, pair.labels, pair.indices, 0.75)
    others = Pair(pair.student, pair.teacher, pair.labels, pair.indices + 1, 0.5)
    other_seed = CRD(Sides(shapes(3), shapes(5), images, 1), negatives=10)
    for different in (made._draw(later), made._draw(others), other_seed._draw(pair)):
        assert not torch.equal(different, drawn)


def test_crd_keeps_its_memory_outside_of_training():
    made, pair = both(7)
    before = {key: tensor.clone() for key, tensor in made.state_dict().items()}
    made.eval()(pair)
    assert all(torch.equal(tensor, before[key]) for key, tensor in made.state_dict().items())


def test_crd_needs_other_images():
    with pytest.raises(InvalidInputError, match="the training part has 1, need 2"):
        both(1)

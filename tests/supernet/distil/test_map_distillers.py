"""Distillers of feature maps against their papers' formulas, written out in loops."""

import math

import numpy as np
import pytest
import torch

from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.distil.distiller import Pair, Shapes, Sides
from scholarch.supernet.distil.distillers.reviewkd import (
    AttentionFusion,
    hierarchical_context_loss,
)
from scholarch.supernet.distil.factory import create_distiller
from scholarch.supernet.distil.layers import generator_of
from scholarch.supernet.distil.matching import same_grid

IMAGES, CLASSES = 4, 3
STUDENT = ((3, 4, 4), (5, 2, 2))
TEACHER = ((2, 4, 4), (4, 2, 2))


def shapes(stages):
    return Shapes(stages, stages[-1], stages[-1][0], CLASSES)


def taps(stages, seed):
    rng = np.random.default_rng(seed)
    maps = [torch.tensor(rng.normal(size=(IMAGES, *s)), dtype=torch.float32) for s in stages]
    pooled = torch.tensor(rng.normal(size=(IMAGES, stages[-1][0])), dtype=torch.float32)
    return Taps(tuple(maps), maps[-1], pooled, torch.zeros(IMAGES, CLASSES))


def both(name, student=STUDENT, teacher=TEACHER, progress=1.0, **options):
    """The distiller and an example."""
    made = create_distiller(name, Sides(shapes(student), shapes(teacher), IMAGES, 0), **options)
    labels = torch.arange(IMAGES) % CLASSES
    pair = Pair(taps(student, 1), taps(teacher, 2), labels, torch.arange(IMAGES), progress)
    return made, pair


def value(made, pair):
    return float(made(pair).detach())


def stages(pair):
    """Matched maps of student and teacher as arrays."""
    return [
        (s.numpy(), t.numpy())
        for s, t in zip(pair.student.stages, pair.teacher.stages, strict=True)
    ]


def unit(x):
    return x / math.sqrt(sum(v * v for v in x.ravel()))


def identity(layer):
    """Make a convolution pass the first of its channels on unchanged."""
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(min(layer.weight.shape[:2])):
            layer.weight[k, k, layer.weight.shape[2] // 2, layer.weight.shape[3] // 2] = 1.0


def normalised(x):
    """Batch norm of ``[B, C, H, W]`` by its definition, with PyTorch's ε."""
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        out[:, c] = (x[:, c] - x[:, c].mean()) / math.sqrt(x[:, c].var() + 1e-5)
    return out


def test_at():
    made, pair = both("at")
    expected = 0.0
    for s, t in stages(pair):
        squares = []
        for i in range(IMAGES):
            q_s, q_t = (unit((x[i] ** 2).sum(axis=0)) for x in (s, t))
            squares += [float(v) ** 2 for v in (q_s - q_t).ravel()]
        expected += 1000 * sum(squares) / len(squares)
    assert value(made, pair) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("channels", [(3, 2), (20, 2)])
def test_nst(channels):
    # 16 positions: less than 20 channels, more than 3.
    made, pair = both("nst", ((channels[0], 4, 4),), ((channels[1], 4, 4),))
    (s, t) = stages(pair)[0]
    losses = []
    for i in range(IMAGES):
        x, y = ([unit(c) for c in m[i]] for m in (s, t))

        def kernel(a, b):
            return sum(float((u * v).sum()) ** 2 for u in a for v in b) / (len(a) * len(b))

        losses.append(kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))
    assert value(made, pair) == pytest.approx(50 * np.mean(losses), rel=1e-4)


def test_sp():
    made, pair = both("sp")
    gram = []
    for taken in (pair.student, pair.teacher):
        f = taken.final_map.numpy().reshape(IMAGES, -1)
        g = np.array([[float((a * b).sum()) for b in f] for a in f])
        gram.append(np.array([unit(row) for row in g]))
    expected = 3000 * ((gram[0] - gram[1]) ** 2).sum() / IMAGES**2
    assert value(made, pair) == pytest.approx(expected, rel=1e-4)


def correlations(f):
    """Inner products of an image's channels, rows of length 1."""
    g = np.array([[float((a * b).sum()) for b in f] for a in f])
    return np.array([unit(row) for row in g])


def test_ickd():
    made, pair = both("ickd")
    identity(made.embed[0])
    student = normalised(pair.student.final_map.numpy())[:, :4]
    losses = []
    for s, t in zip(student, pair.teacher.final_map.numpy(), strict=True):
        losses.append(((correlations(s) - correlations(t)) ** 2).sum() / 4)
    assert value(made, pair) == pytest.approx(2.5 * np.mean(losses), rel=1e-4)


def test_ickd_compares_any_two_resolutions():
    made, pair = both("ickd", ((3, 4, 4),), ((2, 7, 7),))
    assert made(pair).isfinite()


def test_fitnets():
    made, pair = both("fitnets")
    identity(made.regressor[0])
    # Of two stages the second is the middle one.
    s, t = stages(pair)[1]
    expected = 100 * ((normalised(s)[:, :4] - t) ** 2).mean()
    assert value(made, pair) == pytest.approx(expected, rel=1e-4)
    deep = tuple((3, 2, 2) for _ in range(5))
    assert [both("fitnets", deep[:n], deep[:n])[0].stage for n in (1, 2, 3, 4, 5)] == [
        0,
        1,
        1,
        2,
        2,
    ]


def test_vid():
    made, pair = both("vid")
    for mean in made.means:
        for layer in mean[::2]:
            identity(layer)
    with torch.no_grad():
        for scale in made.scales:
            scale += torch.linspace(-1, 1, len(scale))
    expected = 0.0
    for (s, t), scale in zip(stages(pair), made.scales.state_dict().values(), strict=True):
        terms = []
        for c in range(t.shape[1]):
            # Three identities with two ReLUs between them.
            mean = np.maximum(s[:, c], 0)
            variance = math.log1p(math.exp(scale[c])) + 1e-5
            terms += [
                0.5 * ((x - m) ** 2 / variance + math.log(variance))
                for x, m in zip(t[:, c].ravel(), mean.ravel(), strict=True)
            ]
        expected += sum(terms) / len(terms)
    assert value(made, pair) == pytest.approx(expected, rel=1e-4)


def test_vid_starts_at_a_variance_of_five():
    made, _ = both("vid")
    for scale in made.scales:
        assert torch.nn.functional.softplus(scale).detach() + 1e-5 == pytest.approx(5.0, rel=1e-5)


def means(x, side):
    """Maps ``[B, C, H, W]`` averaged on a grid of ``side`` cells that divides them."""
    count, channels, height, width = x.shape
    h, w = height // side, width // side
    out = np.empty((count, channels, side, side))
    for row in range(side):
        for column in range(side):
            cell = x[:, :, row * h : (row + 1) * h, column * w : (column + 1) * w]
            out[:, :, row, column] = cell.mean(axis=(2, 3))
    return out


@pytest.mark.parametrize(("side", "grids"), [(8, (4, 2, 1)), (4, (2, 1)), (2, (1,)), (1, ())])
def test_hierarchical_context(side, grids):
    rng = np.random.default_rng(side)
    a, b = (rng.normal(size=(2, 3, side, side)) for _ in range(2))
    weights = [0.5 ** (k + 1) for k in range(len(grids))]
    terms = [((means(a, g) - means(b, g)) ** 2).mean() for g in grids]
    total = ((a - b) ** 2).mean() + sum(w * x for w, x in zip(weights, terms, strict=True))
    expected = total / (1 + sum(weights))
    given = hierarchical_context_loss(torch.from_numpy(a), torch.from_numpy(b))
    assert float(given) == pytest.approx(expected)


def test_attention_fusion():
    fusion = AttentionFusion(3, 3, 3, generator_of(0), fuse=True)
    for layer in (fusion.narrow[0], fusion.widen[0]):
        identity(layer)
    rng = np.random.default_rng(0)
    x, deeper = rng.normal(size=(4, 3, 4, 4)), rng.normal(size=(4, 3, 2, 2))
    tensors = (torch.tensor(t, dtype=torch.float32) for t in (x, deeper))
    given, passed = (t.detach().numpy() for t in fusion(*tensors, (8, 8)))
    weight = fusion.attention.weight.detach().numpy()[:, :, 0, 0]
    bias = fusion.attention.bias.detach().numpy()
    x = normalised(x)
    fused = np.empty((4, 3, 8, 8))
    for row in range(8):
        for column in range(8):
            here, below = x[:, :, row // 2, column // 2], deeper[:, :, row // 4, column // 4]
            both_maps = np.concatenate([here, below], axis=1)
            share = 1 / (1 + np.exp(-(both_maps @ weight.T + bias)))
            fused[:, :, row, column] = here * share[:, :1] + below * share[:, 1:]
    np.testing.assert_allclose(passed, fused, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(given, normalised(fused), rtol=1e-4, atol=1e-5)


def test_reviewkd_of_one_stage():
    made, pair = both("reviewkd", ((3, 2, 2),), ((3, 2, 2),), progress=5 / 240)
    deepest, shallow = made.fusions[1], made.fusions[0]
    for fusion in (deepest, shallow):
        identity(fusion.narrow[0])
        identity(fusion.widen[0])
    with torch.no_grad():
        # Shares of 1 and 0: the deeper level is not listened to.
        shallow.attention.weight.zero_()
        shallow.attention.bias.copy_(torch.tensor([50.0, -50.0]))
    expected = 0.0
    for s, t in (
        (pair.student.final_map, pair.teacher.final_map),
        (pair.student.pooled[:, :, None, None], pair.teacher.pooled[:, :, None, None]),
    ):
        # Batch norm of what is normalised changes nothing but for its ε.
        given = torch.tensor(normalised(normalised(s.numpy())))
        expected += float(hierarchical_context_loss(given, t))
    # A quarter of the warm-up of 20 epochs in 240.
    assert value(made, pair) == pytest.approx(expected / 4, rel=1e-4)


def test_maps_are_pooled_to_the_smaller_grid():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 2)), rng.normal(size=(2, 5, 2, 2))
    pooled, same = same_grid(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(pooled, (a[:, :, ::2] + a[:, :, 1::2]) / 2)
    np.testing.assert_array_equal(same, b)


@pytest.mark.parametrize("name", ["at", "nst", "fitnets", "vid", "reviewkd"])
def test_networks_without_stages_are_refused(name):
    none = Shapes((), (4, 2, 2), 4, CLASSES)
    with pytest.raises(InvalidInputError, match="feature maps .* the student has none"):
        create_distiller(name, Sides(none, shapes(TEACHER), IMAGES, 0))
    with pytest.raises(InvalidInputError, match="feature maps .* the teacher has none"):
        create_distiller(name, Sides(shapes(STUDENT), none, IMAGES, 0))

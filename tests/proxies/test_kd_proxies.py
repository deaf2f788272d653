"""Distillers' losses against slow versions of their formulas, their invariances and their edges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scholarch.proxies import kd_maps, kd_relations
from scholarch.proxies.controls import constant, labels_only, permuted_channels, shuffled_images
from scholarch.proxies.kd_matching import as_grid, stage_pairs
from scholarch.proxies.registry import get_proxy, list_proxies
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.errors import InvalidInputError
from scholarch.testing.proxy_suite import BATCH, ELASTIC, SPACE, TRANSFORMER, make_batch, make_taps

SEED = 7
KD = list_proxies("kd-*")
LOGITS = ("kd-logits", "kd-dist")
TEXTS = ("131", "333")
B = len(BATCH)

Array = npt.NDArray[np.float64]


def student_taps(text: str) -> Taps:
    """A plain network's taps, with its classifier at He scale."""
    network = SPACE.supernet(seed=SEED, init="normal").train().extract(SPACE.parse(text))
    assert isinstance(network, CifarResNet)
    with torch.no_grad():
        x = functional.relu(network.bn1(network.conv1(BATCH.normalised)))
        stages = []
        for layer in (network.layer1, network.layer2, network.layer3):
            x = layer(x)
            stages.append(x)
        pooled = x.mean(dim=(2, 3))
        weight = network.fc.weight / math.sqrt(pooled.shape[1])
        return Taps(tuple(stages), x, pooled, pooled @ weight.T, weight)


def teacher_taps(seed: int = 2) -> Taps:
    """Two stages of other sizes and widths, ReLU's sparsity, structure in every image."""
    generator = torch.Generator().manual_seed(seed)
    early = torch.randn(B, 12, 10, 10, generator=generator).relu()
    late = (torch.randn(B, 24, 5, 5, generator=generator) + 0.3).relu()
    pooled = late.mean(dim=(2, 3))
    classifier = torch.randn(4, 24, generator=generator)
    return Taps((early, late), late, pooled, 3.0 * pooled @ classifier.T, classifier)


TEACHER = teacher_taps()


def loss(name: str, text: str, teacher: Taps = TEACHER, seed: int = SEED) -> float:
    """The unoriented value."""
    table = Scorer(SPACE, [name], batch=BATCH, teacher=teacher, seed=seed).table(
        [SPACE.parse(text)]
    )
    assert not table.failures
    return -float(table[name][0])


# ---------------------------------------------------------------------- the formulas, slowly


def rows(x: Tensor) -> Array:
    return np.asarray(x.flatten(1).double().numpy())


def unit(x: Array) -> Array:
    return np.asarray(x / np.linalg.norm(x))


def stages(s: Taps, t: Taps) -> list[tuple[Tensor, Tensor]]:
    """Three stages against two: the second with the first, the third with the second."""
    return [(s.stages[1], t.stages[0]), (s.stages[2], t.stages[1])]


def pooled_stages(s: Taps, t: Taps) -> list[tuple[Tensor, Tensor]]:
    out = []
    for a, b in stages(s, t):
        side = min(a.shape[2], b.shape[2])
        out.append(tuple(functional.adaptive_avg_pool2d(x, side) for x in (a, b)))
    return out  # type: ignore[return-value]


def sp(s: Taps, t: Taps) -> float:
    total = 0.0
    for a, b in stages(s, t):
        grams = []
        for x in (rows(a), rows(b)):
            gram = np.array([[p @ q for q in x] for p in x])
            grams.append(np.array([unit(row) for row in gram]))
        total += ((grams[0] - grams[1]) ** 2).sum() / B**2
    return float(total)


def huber(x: float) -> float:
    return 0.5 * x**2 if abs(x) <= 1 else abs(x) - 0.5


def rkd_distance(s: Taps, t: Taps) -> float:
    psi = []
    pairs = list(itertools.permutations(range(B), 2))
    for x in (rows(s.pooled), rows(t.pooled)):
        d = np.array([np.linalg.norm(x[i] - x[j]) for i, j in pairs])
        psi.append(d / d.mean())
    return float(np.mean([huber(a - b) for a, b in zip(*psi, strict=True)]))


def rkd_angle(s: Taps, t: Taps) -> float:
    values = []
    x, y = rows(s.pooled), rows(t.pooled)
    for i, j, k in itertools.permutations(range(B), 3):
        cosines = [unit(z[i] - z[j]) @ unit(z[k] - z[j]) for z in (x, y)]
        values.append(huber(float(cosines[0] - cosines[1])))
    return float(np.mean(values))


def cc(s: Taps, t: Taps) -> float:
    gamma = 0.4
    kernels = []
    for x in (rows(s.pooled), rows(t.pooled)):
        cosine = np.array([[unit(p) @ unit(q) for q in x] for p in x])
        series = 1 + 2 * gamma * cosine + (2 * gamma * cosine) ** 2 / 2
        kernels.append(math.exp(-2 * gamma) * series)
    return float(((kernels[0] - kernels[1]) ** 2).mean())


def pkt(s: Taps, t: Taps) -> float:
    total = 0.0
    x, y = rows(s.pooled), rows(t.pooled)
    for i in range(B):
        others = [j for j in range(B) if j != i]
        p, q = (np.array([(1 + unit(z[i]) @ unit(z[j])) / 2 for j in others]) for z in (y, x))
        p, q = p / p.sum(), q / q.sum()
        total += float((p * np.log(p / q)).sum())
    return total / B


def u_centred(x: Array) -> Array:
    """Székely & Rizzo's U-centring: inner products of such matrices are unbiased HSICs."""
    n, k = len(x), x @ x.T
    np.fill_diagonal(k, 0.0)
    a = k - k.sum(0) / (n - 2) - k.sum(1)[:, None] / (n - 2) + k.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(a, 0.0)
    return np.asarray(a)


def cka(s: Taps, t: Taps) -> float:
    a, b = u_centred(rows(s.pooled)), u_centred(rows(t.pooled))
    return 1.0 - float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def at(s: Taps, t: Taps) -> float:
    total = 0.0
    for a, b in pooled_stages(s, t):
        for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True):
            total += float(np.linalg.norm(unit((x**2).sum(0)) - unit((y**2).sum(0)))) / 2 / B
    return total


def nst(s: Taps, t: Taps) -> float:
    total = 0.0
    for a, b in pooled_stages(s, t):
        for x, y in zip(a.flatten(2).double().numpy(), b.flatten(2).double().numpy(), strict=True):
            kernel = [
                np.mean([[float(unit(p) @ unit(q)) ** 2 for q in v] for p in u])
                for u, v in ((x, x), (y, y), (x, y))
            ]
            total += float(kernel[0] + kernel[1] - 2 * kernel[2]) / B
    return total


def ickd(s: Taps, t: Taps) -> float:
    total = 0.0
    for a, b in zip(s.final_map, t.final_map, strict=True):
        spectra = []
        for f in (rows(a), rows(b)):
            values = np.sort(np.linalg.eigvalsh(f @ f.T))[::-1]
            spectra.append(np.pad(values, (0, 64 - len(values))) / values.sum())
        total += float(((spectra[0] - spectra[1]) ** 2).sum()) / B
    return total


def soft(logits: Tensor | None) -> Array:
    assert logits is not None
    z = np.exp(logits.double().numpy() / 4)
    return np.asarray(z / z.sum(1, keepdims=True))


def kl(s: Taps, t: Taps) -> float:
    p, q = soft(t.logits), soft(s.logits)
    return float((p * np.log(p / q)).sum() / B * 16)


def dist(s: Taps, t: Taps) -> float:
    p, q = soft(t.logits), soft(s.logits)
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    return float(16 * (2 * inter + 2 * intra))


FORMULAS: dict[str, Callable[[Taps, Taps], float]] = {
    "kd-sp": sp,
    "kd-rkd-distance": rkd_distance,
    "kd-rkd-angle": rkd_angle,
    "kd-rkd": lambda s, t: 25 * rkd_distance(s, t) + 50 * rkd_angle(s, t),
    "kd-cc": cc,
    "kd-pkt": pkt,
    "kd-cka": cka,
    "kd-at": at,
    "kd-nst": nst,
    "kd-ickd": ickd,
    "kd-logits": kl,
    "kd-dist": dist,
}


def test_every_distiller_has_its_formula_here() -> None:
    assert sorted(FORMULAS) == sorted(KD)
    for name in KD:
        assert get_proxy(name).direction == -1
        assert {"forward", "teacher"} <= get_proxy(name).needs


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", KD)
def test_formulas(name: str, text: str) -> None:
    expected = FORMULAS[name](student_taps(text), TEACHER)
    assert expected > 1e-5
    assert loss(name, text) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "131",
            {
                "kd-at": 0.192661,
                "kd-cc": 0.00389845,
                "kd-cka": 1.28601,
                "kd-dist": 58.2532,
                "kd-ickd": 0.1657,
                "kd-logits": 2.96015,
                "kd-nst": 0.210701,
                "kd-pkt": 5.15134e-05,
                "kd-rkd": 0.920636,
                "kd-rkd-angle": 0.0137508,
                "kd-rkd-distance": 0.00932384,
                "kd-sp": 0.012296,
            },
        ),
        (
            "333",
            {
                "kd-at": 0.147348,
                "kd-cc": 0.000700832,
                "kd-cka": 0.646501,
                "kd-dist": 35.335,
                "kd-ickd": 0.0912757,
                "kd-logits": 2.56652,
                "kd-nst": 0.11018,
                "kd-pkt": 1.99427e-05,
                "kd-rkd": 1.25806,
                "kd-rkd-angle": 0.0173849,
                "kd-rkd-distance": 0.0155528,
                "kd-sp": 0.0027806,
            },
        ),
    ],
)
def test_golden_values(text: str, expected: dict[str, float]) -> None:
    teacher = make_taps()
    assert {name: loss(name, text, teacher, seed=0) for name in KD} == pytest.approx(
        expected, rel=1e-3
    )


# ---------------------------------------------------------------------- invariances


@pytest.mark.parametrize("name", KD)
def test_a_student_that_is_its_own_teacher_loses_nothing(name: str) -> None:
    itself = student_taps("131")
    assert loss(name, "131", itself) == pytest.approx(0.0, abs=1e-5)
    assert loss(name, "131", itself, seed=SEED + 1) > 5e-5


@pytest.mark.parametrize("name", KD)
def test_how_channels_are_numbered_is_of_no_matter(name: str) -> None:
    plain = loss(name, "131")
    assert loss(name, "131", permuted_channels(TEACHER, seed=3)) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("name", KD)
def test_which_image_the_teacher_saw_matters(name: str) -> None:
    itself = student_taps("131")
    shuffled = loss(name, "131", shuffled_images(itself, seed=1))
    assert shuffled > loss(name, "131", itself) + 5e-5
    other = loss(name, "131", shuffled_images(TEACHER, seed=1))
    assert other != pytest.approx(loss(name, "131"), rel=1e-6)


@pytest.mark.parametrize("name", KD)
def test_every_control_is_finite(name: str) -> None:
    """Also those that say the same of every image, or the same at every position."""
    for teacher in (constant(TEACHER), labels_only(TEACHER, BATCH.labels, 4)):
        assert math.isfinite(loss(name, "131", teacher))
    for space in (ELASTIC, TRANSFORMER):
        table = Scorer(space, [name], batch=BATCH, teacher=TEACHER).table(space.sample(3, seed=0))
        assert not table.failures
        assert len(set(table[name].tolist())) == 3


def test_a_constant_teacher_has_no_relations() -> None:
    same = constant(TEACHER)
    assert loss("kd-cka", "131", same) == 1.0
    assert not kd_relations.triplet_angles(same.pooled).any()
    assert not kd_relations.relative_distances(same.pooled).any()


def test_rkd_weighs_angles_twice() -> None:
    parts = [loss(f"kd-rkd-{part}", "333") for part in ("distance", "angle")]
    assert loss("kd-rkd", "333") == pytest.approx(25 * parts[0] + 50 * parts[1])


def test_sp_of_one_stage_is_diswots_relation() -> None:
    one = Taps((TEACHER.final_map,), TEACHER.final_map, TEACHER.pooled)
    assert loss("kd-sp", "131", one) == pytest.approx(loss("diswot-relation", "131", one))


def test_debiased_cka_of_strangers_is_nought_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(200):
        a, b = (torch.randn(8, 64, generator=generator) for _ in range(2))
        values.append(kd_relations.debiased_cka(a, b + 100.0))
    assert abs(np.mean(values)) < 0.1  # the biased one is about .9
    assert kd_relations.debiased_cka(a, 3.0 * a - 7.0) == pytest.approx(1.0)


def test_both_ways_to_selectivity_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    for channels in ((3, 5), (40, 3)):  # more positions than channels, and fewer
        a, b = (torch.randn(4, c, 4, 4, generator=generator) for c in channels)
        x, y = (functional.normalize(z.flatten(2), dim=2) for z in (a, b))
        kernels = [(u @ v.transpose(1, 2)).square() for u, v in ((x, x), (y, y), (x, y))]
        terms = [float(k.mean()) for k in kernels]
        expected = terms[0] + terms[1] - 2 * terms[2]
        assert kd_maps.selectivity_distance(a, b) == pytest.approx(expected, rel=1e-4)
    assert kd_maps.selectivity_distance(a, a.clone()) == 0.0


def test_spectra_see_neither_scale_nor_rotation_of_channels() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 4, 4, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    turned = torch.einsum("oi,bihw->bohw", turn, x) * 5.0
    torch.testing.assert_close(
        kd_maps.channel_spectrum(turned), kd_maps.channel_spectrum(x), atol=1e-6, rtol=1e-5
    )
    wide = torch.cat([x, torch.zeros(2, 20, 4, 4)], dim=1)
    torch.testing.assert_close(
        kd_maps.channel_spectrum(wide)[:, :6], kd_maps.channel_spectrum(x), atol=1e-6, rtol=1e-5
    )
    assert not kd_maps.channel_spectrum(torch.zeros(2, 3, 4, 4)).any()


# ---------------------------------------------------------------------- matching


@pytest.mark.parametrize(
    ("students", "teachers", "pairs"),
    [
        (3, 3, [(0, 0), (1, 1), (2, 2)]),
        (3, 2, [(1, 0), (2, 1)]),
        (3, 4, [(0, 1), (1, 2), (2, 3)]),
        (5, 2, [(2, 0), (4, 1)]),
        (1, 4, [(0, 3)]),
        (4, 1, [(3, 0)]),
    ],
)
def test_stages_are_matched_by_depth(
    students: int, teachers: int, pairs: list[tuple[int, int]]
) -> None:
    assert stage_pairs(students, teachers) == pairs


def test_tokens_lie_on_their_grid() -> None:
    tokens = torch.arange(2 * 3 * 17.0).view(2, 3, 1, 17)
    grid = as_grid(tokens, (32, 32))
    assert grid.shape == (2, 3, 4, 4)
    assert torch.equal(grid.flatten(2), tokens[:, :, 0, 1:])  # the class token is dropped
    image = torch.zeros(2, 3, 8, 8)
    assert as_grid(image, (32, 32)) is image


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", LOGITS)
def test_other_classes_are_refused_before_any_scoring(name: str) -> None:
    with pytest.raises(InvalidInputError, match="tells 9 classes apart, the students 4"):
        Scorer(SPACE, [name], batch=BATCH, teacher=make_taps(classes=9))
    headless = Taps(TEACHER.stages, TEACHER.final_map, TEACHER.pooled)
    with pytest.raises(InvalidInputError, match="the teacher has no classifier"):
        Scorer(SPACE, [name], batch=BATCH, teacher=headless)


@pytest.mark.parametrize("name", [name for name in KD if name not in LOGITS])
def test_relations_need_no_classifier(name: str) -> None:
    headless = Taps(TEACHER.stages, TEACHER.final_map, TEACHER.pooled)
    assert loss(name, "131", headless) == loss(name, "131")


@pytest.mark.parametrize(("name", "images"), [("kd-rkd-angle", 2), ("kd-rkd", 2), ("kd-cka", 3)])
def test_few_images_are_refused_before_any_scoring(name: str, images: int) -> None:
    batch, teacher = make_batch(images=images), make_taps(images=images)
    with pytest.raises(
        InvalidInputError, match=f"at least {images + 1} images, the batch has {images}"
    ):
        Scorer(SPACE, [name], batch=batch, teacher=teacher)
    enough, teacher = make_batch(images=images + 1), make_taps(images=images + 1)
    table = Scorer(SPACE, [name], batch=enough, teacher=teacher).table([SPACE.parse("111")])
    assert math.isfinite(table[name][0])

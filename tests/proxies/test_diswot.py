"""DisWOT's scores against the formulas, spelt out with autograd and outer products."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scholarch.proxies.batch import Batch
from scholarch.proxies.controls import permuted_channels
from scholarch.proxies.scoring import Scorer, ScoreTable
from scholarch.proxies.taps import Taps
from scholarch.searchspace.architecture import Architecture
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

SEED = 7
S0 = ("111", "353", "717")
ELASTIC = ("16-16x1-32x2-64x1", "8-12x2-24x1-64x3", "32-32x1-16x3-64x2")
RELEASED = ("diswot-released-semantic", "diswot-relation", "diswot-released")
PAPER = ("diswot-paper-semantic", "diswot-paper-relation", "diswot-paper")
OURS = ("diswot-semantic", "diswot-relation", "diswot")


def make_batch(classes: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(11)
    images = torch.rand(16, 3, 16, 16, generator=generator)
    return Batch(images, torch.arange(16) % min(classes, 8), classes, (0.5,) * 3, (0.3,) * 3)


def make_space(name: str, classes: int = 4) -> SearchSpace:
    return create_space(name, num_classes=classes, resolution=16)


def network_of(space: SearchSpace, arch: Architecture, seed: int = SEED) -> CifarResNet:
    """The nested weights as a plain network in training mode, in the scorer's layout."""
    network = space.supernet(seed=seed, init="normal").train().extract(arch)
    return network.to(memory_format=torch.channels_last)


def final_map(network: CifarResNet, batch: Batch) -> Tensor:
    x = batch.normalised.contiguous(memory_format=torch.channels_last)
    x = functional.relu(network.bn1(network.conv1(x)))
    return network.layer3(network.layer2(network.layer1(x)))


def taps_of(network: CifarResNet, batch: Batch) -> Taps:
    with torch.no_grad():
        final = final_map(network, batch)
        pooled = final.mean(dim=(2, 3))
        weight = network.fc.weight.detach()
        return Taps((final,), final, pooled, network.fc(pooled), weight)


def make_teacher(batch: Batch, classes: int = 4, depths: tuple[int, ...] = (2, 2, 2)) -> Taps:
    return taps_of(CifarResNet(depths, num_classes=classes, seed=5).train(), batch)


def score(space: SearchSpace, text: str, teacher: Taps, batch: Batch, *names: str) -> ScoreTable:
    scorer = Scorer(space, names, batch=batch, teacher=teacher, seed=SEED)
    return scorer.table([space.parse(text)])


# ---------------------------------------------------------------------- the formulas, literally


def gradient_by_autograd(network: CifarResNet, batch: Batch) -> tuple[Tensor, Tensor]:
    features = final_map(network, batch)
    logits = network.fc(features.mean(dim=(2, 3)))
    functional.cross_entropy(logits, batch.labels).backward()
    assert network.fc.weight.grad is not None
    return network.fc.weight.grad, features.detach()


def gradient_of_taps(taps: Taps, batch: Batch) -> Tensor:
    assert taps.classifier is not None
    assert taps.logits is not None
    weight = taps.classifier.clone().requires_grad_()
    bias = taps.logits - taps.pooled @ taps.classifier.T
    loss = functional.cross_entropy(taps.pooled @ weight.T + bias, batch.labels)
    return torch.autograd.grad(loss, [weight])[0]


def released_semantic(g_s: Tensor, g_t: Tensor) -> float:
    total = 0.0
    for student, teacher in zip(g_s, g_t, strict=True):
        e_s = functional.normalize(torch.outer(student, student), dim=1)
        e_t = functional.normalize(torch.outer(teacher, teacher), dim=1)
        total += float(((e_s - e_t) ** 2).sum())
    return -total / g_s.numel()


def released_relation(f_s: Tensor, f_t: Tensor) -> float:
    a_s, a_t = (functional.normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (f_s, f_t))
    return -float(((a_s - a_t) ** 2).sum()) / len(f_s) ** 2


@pytest.mark.parametrize(
    ("name", "text"),
    [("resnet-cifar-s0", text) for text in S0] + [("resnet-cifar", text) for text in ELASTIC],
)
def test_released_scores(name: str, text: str) -> None:
    space, batch = make_space(name), make_batch()
    teacher = make_teacher(batch)
    network = network_of(space, space.parse(text))
    gradient, features = gradient_by_autograd(network, batch)
    semantic = released_semantic(gradient, gradient_of_taps(teacher, batch))
    relation = released_relation(features, teacher.final_map)
    table = score(space, text, teacher, batch, *RELEASED)
    assert table["diswot-released-semantic"][0] == pytest.approx(semantic, rel=1e-5)
    assert table["diswot-relation"][0] == pytest.approx(relation, rel=1e-5)
    assert table["diswot-released"][0] == pytest.approx(semantic + relation, rel=1e-5)


@pytest.mark.parametrize("text", S0)
def test_released_semantic_where_most_classes_have_no_image(text: str) -> None:
    # Their gradients are so small that the eps of `normalize` rules: 100 classes are S0's own.
    space, batch = make_space("resnet-cifar-s0", 100), make_batch(100)
    teacher = make_teacher(batch, 100)
    gradient, _ = gradient_by_autograd(network_of(space, space.parse(text)), batch)
    assert float(gradient.norm(dim=1).min()) < 1e-6
    expected = released_semantic(gradient, gradient_of_taps(teacher, batch))
    table = score(space, text, teacher, batch, "diswot-released-semantic")
    assert table["diswot-released-semantic"][0] == pytest.approx(expected, rel=1e-5)


def test_the_closed_form_of_the_published_score() -> None:
    # facts: −(2 − 2·mean_class[mean_i(sign g_s · sign g_t) · cos(g_s, g_t)])
    generator = torch.Generator().manual_seed(0)
    g_s, g_t = (torch.randn(4, 32, generator=generator) for _ in range(2))
    signs = (g_s.sign() * g_t.sign()).mean(dim=1)
    closed = -(2.0 - 2.0 * (signs * functional.cosine_similarity(g_s, g_t, dim=1)).mean())
    assert released_semantic(g_s, g_t) == pytest.approx(float(closed), rel=1e-5)


@pytest.mark.parametrize("text", S0)
def test_our_class_relation(text: str) -> None:
    space, batch = make_space("resnet-cifar-s0"), make_batch()
    teacher = make_teacher(batch)
    gradient, _ = gradient_by_autograd(network_of(space, space.parse(text)), batch)
    relations = []
    for g in (gradient, gradient_of_taps(teacher, batch)):
        gram = torch.stack([torch.stack([a @ b for b in g]) for a in g])
        relations.append(gram / gram.norm(dim=1, keepdim=True))
    expected = -float((relations[0] - relations[1]).square().sum()) / 4**2
    table = score(space, text, teacher, batch, "diswot-semantic")
    assert table["diswot-semantic"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("text", S0)
def test_paper_scores(text: str) -> None:
    space, batch = make_space("resnet-cifar-s0"), make_batch()
    teacher = make_teacher(batch)
    student = taps_of(network_of(space, space.parse(text)), batch)
    unit = {}
    for name, taps in (("s", student), ("t", teacher)):
        assert taps.classifier is not None
        maps = [sum(w * taps.final_map[:, c] for c, w in enumerate(row)) for row in taps.classifier]
        g = torch.stack([m.flatten() for m in maps if isinstance(m, Tensor)])
        a = taps.final_map.flatten(1)
        unit[name] = [x @ x.T / (x @ x.T).norm() for x in (g, a)]
    semantic, relation = (-float((t - s).norm()) for s, t in zip(*unit.values(), strict=True))
    table = score(space, text, teacher, batch, *PAPER)
    assert table["diswot-paper-semantic"][0] == pytest.approx(semantic, rel=1e-4)
    assert table["diswot-paper-relation"][0] == pytest.approx(relation, rel=1e-4)
    assert table["diswot-paper"][0] == pytest.approx(semantic + relation, rel=1e-4)


# ---------------------------------------------------------------------- properties


@pytest.mark.parametrize("text", S0)
def test_a_student_that_is_its_own_teacher_scores_nought(text: str) -> None:
    space, batch = make_space("resnet-cifar-s0"), make_batch()
    itself = taps_of(network_of(space, space.parse(text)), batch)
    table = score(space, text, itself, batch, *OURS, *RELEASED, *PAPER)
    assert {name: column[0] for name, column in table.items()} == pytest.approx(
        dict.fromkeys(table, 0.0), abs=2e-6
    )
    other = network_of(space, space.parse(text), seed=SEED + 1)
    table = score(space, text, taps_of(other, batch), batch, *OURS, *RELEASED, *PAPER)
    assert all(column[0] < -1e-5 for column in table.values())


def test_unequal_channels_are_a_recorded_failure_of_the_released_semantic_score() -> None:
    space, batch = make_space("resnet-cifar"), make_batch()
    table = score(space, "16-16x1-32x1-48x1", make_teacher(batch), batch, *RELEASED, *OURS)
    for name in ("diswot-released-semantic", "diswot-released"):
        assert math.isnan(table[name][0])
        assert table.failures[0, name].endswith(
            "the student has 48 final channels, the teacher 64; the released semantic score"
            " needs equally many; use diswot-semantic"
        )
    assert all(math.isfinite(table[name][0]) for name in OURS)
    assert set(table.failures) == {(0, "diswot-released-semantic"), (0, "diswot-released")}


@pytest.mark.parametrize("name", [n for n in OURS + RELEASED + PAPER if "relation" not in n])
def test_other_classes_are_refused_before_any_scoring(name: str) -> None:
    space, batch = make_space("resnet-cifar-s0"), make_batch()
    teacher = make_teacher(batch, classes=9)
    with pytest.raises(InvalidInputError, match="tells 9 classes apart, the students 4"):
        Scorer(space, [name], batch=batch, teacher=teacher)
    headless = dataclasses.replace(teacher, logits=None, classifier=None)
    with pytest.raises(InvalidInputError, match="the teacher has no classifier"):
        Scorer(space, [name], batch=batch, teacher=headless)


@pytest.mark.parametrize("name", [*OURS, *PAPER, "diswot-released-semantic"])
def test_only_the_released_semantic_score_depends_on_how_channels_are_numbered(name: str) -> None:
    space, batch = make_space("resnet-cifar-s0"), make_batch()
    teacher = make_teacher(batch)
    plain, permuted = (
        score(space, "353", taps, batch, name)[name][0]
        for taps in (teacher, permuted_channels(teacher, seed=2))
    )
    if name == "diswot-released-semantic":
        assert permuted != pytest.approx(plain, rel=1e-2)
    else:
        assert permuted == pytest.approx(plain, rel=1e-5)

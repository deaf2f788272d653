"""Adversarial passes: what they minimise, what they leave alone, and what they cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.factory import create_schedule
from scholarch.supernet.losses import soft_cross_entropy
from scholarch.supernet.objective import OBJECTIVES, View
from scholarch.supernet.robust import training
from scholarch.supernet.robust.attack import pgd
from scholarch.supernet.robust.losses import rslad, trades
from scholarch.supernet.schedule import Pass
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer

STEPS = 5
OPTIONS = {"epsilon": 0.1, "step": 0.03, "attack_steps": STEPS}


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(96) % 4
    images[np.arange(96), labels, labels] = 255
    return load_data((images, labels), val_fraction=0.2)


@pytest.fixture(scope="module")
def space() -> CifarResNetSpace:
    widths = [(4,), (2, 4), (2, 4), (2, 4)]
    return CifarResNetSpace("tiny", (1, 2), widths, num_classes=4, resolution=8)


def trainer(
    space: CifarResNetSpace, data: DataSet, schedule: str = "robust", **settings: object
) -> Trainer:
    given = {"epochs": 3, "batch_size": 8, "lr": 0.02, "augment": "none", **settings}
    if schedule.startswith("robust"):
        given = {"options": OPTIONS, **given}
    return Trainer(space, data, TrainSettings(schedule=schedule, **given))  # type: ignore[arg-type]


def statistics(runner: Trainer) -> dict[str, torch.Tensor]:
    found = runner.network.state_dict()
    return {k: v.clone() for k, v in found.items() if "running" in k}


# ---------------------------------------------------------------------- a pass


def test_only_natural_images_move_the_running_statistics(
    space: CifarResNetSpace, data: DataSet
) -> None:
    attacked, clean = trainer(space, data), trainer(space, data, "largest")
    before = statistics(attacked)
    attacked.step()
    clean.step()
    after, expected = statistics(attacked), statistics(clean)
    assert any(not torch.equal(after[k], before[k]) for k in after)
    for name, value in after.items():  # as if there had been no attack
        assert torch.equal(value, expected[name]), name


def gradient_by_hand(
    space: CifarResNetSpace, data: DataSet, objective: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The flat gradient of a pass of the largest by its objective, and by the formula."""
    runner = trainer(space, data)
    network, arch = runner.network, runner.drawer.largest
    network.track_statistics(track=False)
    images, labels = runner.loader.batch(0, 0, 1)
    teacher = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(1))

    def forward(x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = network(runner.normalised(x), arch)
        return logits

    view = View(
        forward=forward,
        images=images,
        labels=labels,
        soft=teacher,
        spec=Pass("largest", labels=0.0, soft=0.5, source="frozen", options=OPTIONS),
        smoothing=0.1,
        divergence=soft_cross_entropy,
        generator=torch.Generator().manual_seed(7),
        quiet=forward,
        indices=torch.arange(len(labels)),
    )
    if objective == "trades":
        view = replace(view, spec=Pass("largest", labels=0.5, options=OPTIONS), soft=None)
    outcome = OBJECTIVES[objective](view)
    outcome.loss.backward()
    found = runner.flat.gradients.clone()
    runner.flat.gradients.zero_()

    natural = forward(images)
    target = natural.detach() if objective == "trades" else teacher
    generator = torch.Generator().manual_seed(7)
    adversarial = pgd(
        forward, images, target, epsilon=0.1, step=0.03, steps=STEPS, loss="kl", generator=generator
    )
    assert (adversarial - images).abs().max() <= 0.1 + 1e-6
    assert (adversarial - images).abs().max() > 0.09
    answered = forward(adversarial)
    loss = (
        trades(natural, answered, labels, beta=6.0, smoothing=0.1)
        if objective == "trades"
        else rslad(natural, answered, teacher, share=5 / 6)
    )
    (0.5 * loss).backward()
    return found, runner.flat.gradients


@pytest.mark.parametrize("objective", ["trades", "rslad"])
def test_the_gradient_is_of_the_loss_and_nothing_of_the_attack_is_in_it(
    objective: str, space: CifarResNetSpace, data: DataSet
) -> None:
    found, expected = gradient_by_hand(space, data, objective)
    assert expected.abs().max() > 0
    assert torch.equal(found, expected)


def test_rslad_needs_a_teacher(space: CifarResNetSpace, data: DataSet) -> None:
    runner = trainer(space, data)
    first = runner.plan.schedule.phases[0]
    passes = (Pass("largest", labels=1.0, objective="rslad"),)
    phases = (replace(first, passes=passes), *runner.plan.schedule.phases[1:])
    runner.plan.schedule = replace(runner.plan.schedule, phases=phases)
    with pytest.raises(InvalidInputError, match="soft above 0"):
        runner.step()


# ---------------------------------------------------------------------- what it costs


def test_every_pass_of_the_attack_is_counted(
    space: CifarResNetSpace, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = trainer(space, data)
    calls = 0
    inside = runner.network.forward

    def counted(*args: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return inside(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(runner.network, "forward", counted)
    log = runner.step()
    largest = float(runner.drawer.macs(space.encode([runner.drawer.largest]))[0])
    assert log.phase == "warm-up"
    assert log.forwards == calls == 2 + STEPS
    assert log.backwards == 2 + STEPS
    # Two passes with their gradients; the attack's gradients are of the images alone.
    assert runner.macs_passed == 8 * largest * (2 * 3 + 2 * STEPS)
    while runner.next_step < runner.plan.starts[2]:
        runner.step()
    before, calls = runner.macs_passed, 0
    log = runner.step()
    assert log.phase == "shrink"
    assert calls == 4 * (2 + STEPS)
    assert log.forwards == calls + 1  # the frozen teacher's
    assert log.backwards == 4 * (2 + STEPS)
    assert runner.macs_passed > before


def test_a_budget_becomes_steps_by_the_attack(space: CifarResNetSpace, data: DataSet) -> None:
    weak, strong = (
        trainer(space, data, epochs=None, macs=3e10, options={"attack_steps": n}) for n in (1, 10)
    )
    assert weak.plan.steps / strong.plan.steps == pytest.approx(26 / 8, rel=0.1)


def test_default_strength_is_trades_own() -> None:
    spec = create_schedule("robust").phases[0].passes[0]
    assert spec.options == {"beta": 6.0, "epsilon": 0.031, "step": 0.0078, "attack_steps": 10}
    assert training.STEPS == 10


# ---------------------------------------------------------------------- the schedules


def test_first_a_robust_teacher_then_all_learn_from_it(
    space: CifarResNetSpace, data: DataSet
) -> None:
    runner = trainer(space, data)
    assert [phase.name for phase in runner.schedule.phases] == ["warm-up", "ramp", "shrink"]
    while runner.next_step < runner.plan.starts[1]:
        runner.step()
    assert runner.frozen is None
    kept = {
        k: v.clone() for k, v in runner.network.extract(runner.drawer.largest).state_dict().items()
    }
    while not runner.done:
        runner.step()
    assert runner.frozen is not None
    frozen = runner.frozen.state_dict()
    assert all(torch.equal(frozen[k], kept[k]) for k in kept)
    for phase in runner.schedule.phases[1:]:
        assert [p.draw for p in phase.passes] == ["largest", "smallest", "random"]
        assert {(p.objective, p.source, p.labels, p.soft) for p in phase.passes} == {
            ("rslad", "frozen", 0.0, 1.0)
        }


def test_the_progressive_one_has_the_phases_of_once_for_all() -> None:
    robust, clean = (create_schedule(n) for n in ("robust-progressive", "progressive"))
    assert [(p.name, p.share, p.free, p.lr, p.freeze) for p in robust.phases] == [
        (p.name, p.share, p.free, p.lr, p.freeze) for p in clean.phases
    ]
    objectives = [{spec.objective for spec in phase.passes} for phase in robust.phases]
    assert objectives == [{"trades"}] + 5 * [{"rslad"}]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("epsilon", 0.0, "epsilon = 0"),
        ("epsilon", 8.0, "epsilon = 8"),
        ("step", -1.0, "step = -1"),
        ("attack_steps", 0, "attack_steps = 0"),
        ("attack_steps", 2.5, "attack_steps = 2.5"),
        ("beta", -1.0, "beta = -1"),
        ("share", 1.5, "share = 1.5"),
    ],
)
@pytest.mark.parametrize("name", ["robust", "robust-progressive"])
def test_a_strength_out_of_range_is_refused(
    name: str, option: str, value: float, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        create_schedule(name, **{option: value})

"""Natural and robust accuracy: the network that is attacked is the one that is measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scholarch.data import load_data
from scholarch.datasets.dataset import DataSet
from scholarch.searchspace.convnets.resnet_cifar import CifarResNetSpace
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.evaluate import Evaluator, accuracy
from scholarch.supernet.robust.attack import pgd
from scholarch.supernet.robust.evaluate import RobustEvaluator, Robustness, robustness
from scholarch.supernet.robust.strength import Attack
from scholarch.supernet.settings import TrainSettings
from scholarch.supernet.trainer import Trainer

ATTACK = Attack(epsilon=0.1, step=0.025, steps=8)


@pytest.fixture(scope="module")
def data() -> DataSet:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    images = rng.integers(60, 130, (300, 8, 8, 3), dtype=np.uint8)
    images[np.arange(300), 2 * labels, 2 * labels] += 60
    arrays = {"x_train": images[:240], "x_val": images[240:], "x_test": images[240:]}
    split = {"y_train": labels[:240], "y_val": labels[240:], "y_test": labels[240:]}
    return load_data({**arrays, **split})


@pytest.fixture(scope="module")
def trained(data: DataSet) -> Trainer:
    widths = [(8,), (4, 8), (8, 16), (8, 16)]
    space = CifarResNetSpace("tiny", (1,), widths, num_classes=4, resolution=8)
    settings = TrainSettings(schedule="sandwich", epochs=6, batch_size=32, lr=0.1, augment="none")
    runner = Trainer(space, data, settings)
    while not runner.done:
        runner.step()
    return runner


def evaluator(trained: Trainer, data: DataSet, **options: object) -> RobustEvaluator:
    given = {"attack": ATTACK, **options}
    return RobustEvaluator(trained.network, data, **given)  # type: ignore[arg-type]


def test_natural_accuracy_is_the_plain_evaluators(trained: Trainer, data: DataSet) -> None:
    robust, plain = evaluator(trained, data), Evaluator(trained.network, data)
    for arch in (trained.drawer.smallest, trained.drawer.largest):
        found = robust.robustness(arch)
        assert found.natural == plain.accuracy(arch) == robust.accuracy(arch)
        assert found.natural > 0.9
        assert found.robust < found.natural - 0.1
        assert found.images == 60
        assert found.attack == ATTACK


def test_evaluating_changes_nothing(trained: Trainer, data: DataSet) -> None:
    before = {k: v.clone() for k, v in trained.network.state_dict().items()}
    gradients = trained.flat.gradients.clone()
    first = evaluator(trained, data).robustness(trained.drawer.largest)
    assert all(torch.equal(v, before[k]) for k, v in trained.network.state_dict().items())
    assert torch.equal(trained.flat.gradients, gradients)
    assert evaluator(trained, data).robustness(trained.drawer.largest) == first


def test_an_image_has_to_withstand_every_loss(trained: Trainer, data: DataSet) -> None:
    arch = trained.drawer.largest
    alone = {}
    for loss in ("margin", "ce"):
        attack = Attack(epsilon=0.1, step=0.025, steps=8, losses=(loss,))
        alone[loss] = evaluator(trained, data, attack=attack).robustness(arch).robust
    both = evaluator(trained, data).robustness(arch).robust
    assert both <= min(alone.values()) + 0.02


def test_what_is_counted_is_what_withstands(trained: Trainer, data: DataSet) -> None:
    """One loss by hand, on the calibrated network in eval mode."""
    robust = evaluator(trained, data, attack=Attack(0.1, 0.025, 8, losses=("ce",)))
    arch = trained.drawer.smallest
    forward = robust.forward(arch)
    images, labels = robust.images("val")[0]
    right = forward(images).argmax(1) == labels
    start = int(np.random.default_rng((0, 0, 0)).integers(2**62))
    adversarial = pgd(
        forward,
        images[right],
        labels[right],
        epsilon=0.1,
        step=0.025,
        steps=8,
        generator=torch.Generator().manual_seed(start),
    )
    still = accuracy(  # through the standalone network, as whoever is handed it would
        robust.extract(arch), [(robust._normalised(adversarial), labels[right])]
    )
    found = robust.robustness(arch)
    assert found.robust == pytest.approx(still * int(right.sum()) / len(labels))


def test_stronger_attacks_leave_less(trained: Trainer, data: DataSet) -> None:
    arch = trained.drawer.largest
    found = [
        evaluator(trained, data, attack=Attack(epsilon, epsilon / 4, 8)).robustness(arch).robust
        for epsilon in (0.02, 0.06, 0.15)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1] + 0.1


def test_every_result_says_how_strong_the_attack_was() -> None:
    assert str(Robustness(0.9, 0.5, 1000, Attack(restarts=2, losses=("ce",)))) == (
        "90.0% natural, 50.0% robust (PGD-20, ε 0.031, step 0.0078, 2 restarts, ce; 1,000 images)"
    )
    assert Robustness(0.9, 0.5, 10, Attack()).to_json()["attack"] == {
        "epsilon": 0.031,
        "step": 0.0078,
        "steps": 20,
        "restarts": 1,
        "losses": ("margin", "ce"),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon = 0"),
        ({"epsilon": 8.0}, "8/255 is 0.031"),
        ({"step": 0.0}, "step = 0"),
        ({"steps": 0}, "steps = 0"),
        ({"restarts": 0}, "restarts = 0"),
        ({"losses": ()}, "ce and margin"),
        ({"losses": ("kl",)}, "ce and margin"),
    ],
)
def test_a_strength_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Attack(**options)  # type: ignore[arg-type]


def test_parts_are_checked(trained: Trainer, data: DataSet) -> None:
    with pytest.raises(InvalidInputError, match="one of val, test, train"):
        evaluator(trained, data).robustness(trained.drawer.largest, "vla")
    with pytest.raises(InvalidInputError, match="at least one batch"):
        robustness(lambda x: x, [])

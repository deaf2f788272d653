"""PGD on a small trained classifier of digits: the ball, its strength, and no side effects."""

import pytest
import torch
from torch import nn

from scholarch.data import load_data
from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.supernet.robust.attack import LOSSES, accuracy, fgsm, pgd
from scholarch.supernet.robust.checks import _under_noise, check_attack

EPSILON = 0.1


def train(seed, images, labels):
    rng = torch.Generator().manual_seed(seed)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)
    )
    for parameter in network.parameters():
        if parameter.dim() == 2:
            nn.init.kaiming_normal_(parameter, generator=rng)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return network.eval()


@pytest.fixture(scope="module")
def digits():
    part = load_data("digits").train
    small = torch.from_numpy(part.images[:, ::4, ::4, 0].copy())[:, None].float() / 255
    return small, torch.from_numpy(part.labels)


@pytest.fixture(scope="module")
def networks(digits):
    # The parameters are drawn from the global generator before they are drawn again.
    with torch.random.fork_rng():
        return train(0, *digits), train(1, *digits)


@pytest.fixture(scope="module")
def some(digits):
    return digits[0][:200], digits[1][:200]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def attack(network, images, targets, **options):
    given = {"epsilon": EPSILON, "step": EPSILON / 4, "generator": rng(), **options}
    return pgd(network, images, targets, **given)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_images_stay_in_the_ball_and_in_range(networks, some, loss):
    images, labels = some
    targets = networks[0](images).detach() if loss == "kl" else labels
    out = attack(networks[0], images, targets, loss=loss, restarts=2)
    assert out.shape == images.shape
    assert not out.requires_grad
    assert out.min() >= 0
    assert out.max() <= 1
    change = (out - images).abs()
    assert change.max() <= EPSILON + 1e-6
    assert (change > 0.9 * EPSILON).float().mean() > 0.2
    assert accuracy(networks[0], out, labels) < accuracy(networks[0], images, labels) - 0.2


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_loss_rises_with_steps_and_epsilon(networks, some, loss):
    images, labels = some
    network = networks[0]
    targets = network(images).detach() if loss == "kl" else labels

    def reached(**options):
        out = attack(network, images, targets, loss=loss, random_start=False, **options)
        return LOSSES[loss](network(out), targets).mean().item()

    before = LOSSES[loss](network(images), targets).mean().item()
    by_steps = [before, *(reached(steps=steps) for steps in (1, 3, 10))]
    assert by_steps == sorted(by_steps)
    assert by_steps[-1] > by_steps[1] + 0.05
    by_epsilon = [reached(epsilon=e, step=e / 4) for e in (0.01, 0.05, 0.1, 0.2)]
    assert by_epsilon == sorted(by_epsilon)


def test_restarts_keep_the_worst_of_each_image(networks, some):
    images, labels = some

    def losses(out):
        return LOSSES["ce"](networks[0](out), labels).detach()

    shared = rng()
    single = [
        losses(attack(networks[0], images, labels, steps=2, generator=shared)) for _ in range(3)
    ]
    best = losses(attack(networks[0], images, labels, steps=2, restarts=3))
    torch.testing.assert_close(best, torch.stack(single).amax(0))
    assert (best > single[0] + 1e-4).any()


def test_epsilon_zero_returns_the_images(networks, some):
    images, labels = some
    out = attack(networks[0], images, labels, epsilon=0.0)
    assert torch.equal(out, images)
    assert out is not images


def test_the_generator_alone_decides(networks, some):
    first, again, other = (attack(networks[0], *some, steps=1, generator=rng(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fgsm_is_one_whole_step(networks, some):
    images, labels = some
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES["ce"](networks[0](leaf), labels).sum(), leaf)
    expected = (images + EPSILON * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(fgsm(networks[0], images, labels, epsilon=EPSILON), expected)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_nothing_of_the_network_changes_and_it_works_without_gradients(networks, some, without):
    network = networks[0]
    marks = []
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
        marks.append(parameter.grad)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    expected = attack(network, *some, restarts=2)
    with without():
        images = some[0] * 1.0  # an inference tensor under inference_mode
        assert torch.equal(attack(network, images, some[1], restarts=2), expected)
    for parameter, mark in zip(network.parameters(), marks, strict=True):
        assert parameter.grad is mark
        assert (mark == 3.0).all()
        assert parameter.requires_grad
        parameter.grad = None
    assert not network.training
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_wrong_arguments_are_refused(networks, some):
    images, labels = some
    for options, message in [
        ({"epsilon": 8.0}, "8/255 is 0.031"),
        ({"epsilon": -0.1}, "epsilon = -0.1"),
        ({"step": -1.0}, "step = -1.0"),
        ({"steps": 0}, "steps = 0"),
        ({"restarts": 0}, "restarts = 0"),
        ({"generator": None}, "need a generator"),
        ({"restarts": 2, "random_start": False}, "random_start=True"),
        ({"loss": "kl"}, "needs logits"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            attack(networks[0], images, labels, **options)
    with pytest.raises(InvalidInputError, match="int64 labels"):
        attack(networks[0], images, networks[0](images), loss="margin")
    with pytest.raises(UnknownNameError, match="hinge"):
        attack(networks[0], images, labels, loss="hinge")


def test_a_working_attack_passes_every_check(networks, some):
    report = check_attack(networks[0], *some, epsilons=(0.05, 0.1, 0.2), substitute=networks[1])
    assert [check.name for check in report.checks if not check.passed] == []
    assert report.passed
    assert len(report.checks) == 6
    found = report.to_json()
    assert found["images"] == 200
    numbers = {check["name"]: check["accuracies"] for check in found["checks"]}
    assert numbers["larger_epsilon"]["clean"] > 0.9
    assert numbers["larger_epsilon"]["epsilon 0.2"] < 0.3
    assert numbers["random_noise"]["noise"] > numbers["random_noise"]["pgd-10"] + 0.2
    assert numbers["transfer"]["transfer"] > numbers["transfer"]["pgd-10"]


def test_hidden_gradients_are_found_out(networks, some):
    def stepped(images):  # its gradient is zero everywhere
        return networks[0]((images * 5).round() / 5)

    report = check_attack(stepped, *some, epsilons=(0.05, 0.1, 0.2), substitute=networks[1])
    failed = {check.name for check in report.checks if not check.passed}
    assert {"unbounded", "transfer"} <= failed
    assert not report.passed


def test_noise_counts_the_worst_draw_of_each_image(networks, some):
    def withstood(draws):
        return _under_noise(networks[0], *some, 0.4, draws, rng())

    assert withstood(30) < withstood(1) - 0.05


def test_epsilons_have_to_ascend(networks, some):
    for epsilons in [(0.1,), (0.1, 0.05), (0.0, 0.1), (0.5, 2.0)]:
        with pytest.raises(InvalidInputError, match="ascending"):
            check_attack(networks[0], *some, epsilons=epsilons)

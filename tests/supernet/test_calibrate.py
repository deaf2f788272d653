"""Measuring batch statistics again: formulas by hand, and what it is good for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import scholarch
from scholarch.searchspace.convnets.derived import TeacherShape, derive_space
from scholarch.searchspace.convnets.residual import materialise
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.supernet.calibrate import calibrate


def _network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        convs = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1)
        network = nn.Sequential(convs[0], nn.BatchNorm2d(4), nn.ReLU(), convs[1], nn.BatchNorm2d(5))
    materialise(network, seed=0)
    for tensor in network.parameters():
        tensor.data = torch.randn(tensor.shape, generator=generator)
    return network.eval()


def _images(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    # Batches of their own means and spreads, or pooling would not show.
    return [(i + 1) * torch.randn(n, 3, 5, 5, generator=generator) + i for i, n in enumerate(sizes)]


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def _statistics(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


# ---------------------------------------------------------------------- formulas


def test_of_one_batch_it_is_torchs_own_at_momentum_1() -> None:
    calibrated, reference = _network(), _network().train()
    (images,) = _images(6)
    calibrate(calibrated, [images])
    for norm in _norms(reference):
        norm.momentum = 1.0
    reference(images)
    for norm, own in zip(_norms(calibrated), _norms(reference), strict=True):
        assert torch.equal(norm.running_mean, own.running_mean)
        assert torch.equal(norm.running_var, own.running_var)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_however_split_the_first_layer_sees_the_same_images(sizes: list[int]) -> None:
    network, batches = _network(), _images(*sizes)
    calibrate(network, batches)
    with torch.no_grad():
        maps = network[0](torch.cat(batches)).double()
    norm = _norms(network)[0]
    mean, var = maps.mean(dim=(0, 2, 3)), maps.var(dim=(0, 2, 3))
    torch.testing.assert_close(norm.running_mean, mean.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.running_var, var.float(), rtol=1e-5, atol=1e-5)


def test_later_layers_pool_what_each_batch_by_itself_gives() -> None:
    network, batches = _network(), _images(4, 4, 2)
    calibrate(network, batches)
    parts = []
    with torch.no_grad():
        for images in batches:
            x = network[0](images)
            mean, var = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)
            norm = _norms(network)[0]
            x = functional.batch_norm(x, mean, var, norm.weight, norm.bias)
            parts.append(network[3](torch.relu(x)).double().transpose(0, 1).flatten(1))
    # E[var] + Var[mean], weighted by values, times n / (n - 1).
    n = torch.tensor([part.shape[1] for part in parts], dtype=torch.float64)
    means = torch.stack([part.mean(dim=1) for part in parts])
    variances = torch.stack([part.var(dim=1, unbiased=False) for part in parts])
    share = (n / n.sum())[:, None]
    mean = (share * means).sum(dim=0)
    var = (share * variances).sum(dim=0) + (share * (means - mean).square()).sum(dim=0)
    norm = _norms(network)[1]
    torch.testing.assert_close(norm.running_mean, mean.float(), rtol=1e-5, atol=1e-5)
    unbiased = var * n.sum() / (n.sum() - 1)
    torch.testing.assert_close(norm.running_var, unbiased.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("old", [0.0, 7.0, float("nan"), float("inf")])
def test_what_was_there_before_does_not_matter(old: float) -> None:
    fresh, stale = _network(), _network()
    for norm in _norms(stale):
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.fill_(old)
    calibrate(fresh, _images(3, 4))
    calibrate(stale, _images(3, 4))
    one, other = _statistics(fresh), _statistics(stale)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_layer_called_twice_pools_both_calls() -> None:
    norm = nn.BatchNorm2d(3)
    twice = nn.Sequential(norm, nn.ReLU(), norm).eval()
    (images,) = _images(4)
    calibrate(twice, [images])
    inner = torch.relu(functional.batch_norm(images, None, None, training=True))
    both = torch.cat([images, inner])
    torch.testing.assert_close(norm.running_mean, both.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(norm.running_var, both.var(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)


def test_under_bfloat16_statistics_stay_float32() -> None:
    exact, narrow = _network(), _network()
    calibrate(exact, _images(8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        calibrate(narrow, _images(8, 8))
    for norm, own in zip(_norms(narrow), _norms(exact), strict=True):
        assert norm.running_mean is not None
        assert norm.running_mean.dtype == torch.float32
        # Means of rounded maps, not rounded means: those would be whole multiples of 2⁻⁸.
        assert not torch.equal(norm.running_mean, norm.running_mean.bfloat16().float())
        torch.testing.assert_close(norm.running_mean, own.running_mean, rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(norm.running_var, own.running_var, rtol=2e-2, atol=2e-2)


# ---------------------------------------------------------------------- what it leaves alone


class _Mixed(nn.Module):
    """Dropout, a frozen layer in eval, one without a momentum, one that nothing passes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, momentum=None)
        self.dropout = nn.Dropout(0.5)
        self.later = nn.BatchNorm2d(3, momentum=0.3)
        self.unused = nn.BatchNorm2d(3)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.norm(x))
        self.seen.append(x)
        out: Tensor = self.later(x)
        return out


def _flags(network: nn.Module) -> list[bool]:
    return [module.training for module in network.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_everything_else_is_as_before(fails: bool) -> None:
    network = _Mixed().train()
    network.later.eval()
    network.norm.num_batches_tracked.fill_(5)
    flags, before = _flags(network), _statistics(network)

    def batches() -> Iterator[Tensor]:
        yield _images(4)[0]
        if fails:
            raise OSError("the disk is gone")

    state = torch.random.get_rng_state()
    if fails:
        with pytest.raises(OSError, match="gone"):
            calibrate(network, batches())
    else:
        calibrate(network, batches())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert _flags(network) == flags
    assert (network.norm.momentum, network.later.momentum) == (None, 0.3)
    assert not network.norm._forward_hooks
    assert not network.norm._forward_pre_hooks
    assert not network.seen[-1].requires_grad
    # Half of what dropout leaves would be zero.
    assert (network.seen[-1] == 0).float().mean() < 0.1
    after = _statistics(network)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    moved = {f"{n}.running_{what}" for n in ("norm", "later") for what in ("mean", "var")}
    assert changed == (set() if fails else moved)


def test_without_batch_norm_nothing_is_asked_for() -> None:
    def batches() -> Iterator[Tensor]:
        pytest.fail("a batch was asked for")
        yield torch.empty(0)

    calibrate(nn.Sequential(nn.GroupNorm(1, 3), nn.ReLU()), batches())


@pytest.mark.parametrize(
    ("make", "batches", "match"),
    [
        (_network, [], "no batch"),
        (_network, [torch.zeros(0, 3, 5, 5)], "at least 2 images"),
        (lambda: nn.Sequential(nn.BatchNorm2d(3)), [torch.zeros(1, 3, 1, 1)], "at least 2 images"),
        (lambda: scholarch.create_space("nasbench201").supernet(), [], "extract"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    make: Callable[[], nn.Module], batches: list[Tensor], match: str
) -> None:
    network = make()
    before = _statistics(network)
    with pytest.raises(InvalidInputError, match=match):
        calibrate(network, batches)
    assert all(torch.equal(before[n], buffer) for n, buffer in network.named_buffers())


# ---------------------------------------------------------------------- what it is good for


def _digits(part: scholarch.data.Part) -> tuple[Tensor, Tensor]:
    """Images as they were scanned, 8×8, and labels."""
    images = torch.as_tensor(part.images).permute(0, 3, 1, 2).float() / 255
    return (functional.avg_pool2d(images, 4) - 0.3) / 0.35, torch.as_tensor(part.labels).long()


def test_random_networks_of_a_trained_supernet_need_it() -> None:
    data = scholarch.load_data("digits")
    (images, labels), (unseen, truth) = _digits(data.train), _digits(data.val)
    shape = TeacherShape(1, ((16, 2, 1), (32, 2, 2), (32, 2, 2)))
    space = derive_space(shape, num_classes=10, resolution=8)
    network, full, steps = space.supernet(seed=0), largest(space), 100
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    generator = torch.Generator().manual_seed(0)
    for step, arch in enumerate(space.sample(steps, seed=1)):
        drawn = torch.randint(len(images), (64,), generator=generator)
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        for passed in (full, arch):
            network.track_statistics(passed is full)
            functional.cross_entropy(network(images[drawn], passed), labels[drawn]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()

    def accuracy(plain: nn.Module) -> float:
        with torch.no_grad():
            return float((plain(unseen).argmax(dim=1) == truth).float().mean())

    gains = []
    for arch in itertools.islice(space.sample(20, seed=7), 6):
        plain = network.extract(arch)
        before = accuracy(plain)
        calibrate(plain, images[:800].split(200))
        gains.append(accuracy(plain) - before)
    assert accuracy(network.extract(full)) > 0.85
    # 0.45 on average when written; networks that are almost the largest gain nothing.
    assert sum(gains) / len(gains) > 0.2
    assert min(gains) > -0.05

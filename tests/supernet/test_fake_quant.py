"""Fake quantisation: what is rounded, to what, and that gradients and the plain network remain."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.supernet.fake_quant import (
    fake_quantised,
    is_fake_quantised,
    plain_network,
    rounded_weight,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def student(seed: int = 0) -> nn.Module:
    space = create_space("resnet-cifar", num_classes=4, resolution=8)
    return space.build(space.parse("8-8x1-16x1-32x1"), seed=seed)


def range_of(network: nn.Module) -> list[Tensor]:
    return [b.clone() for n, b in network.named_buffers() if n.rpartition(".")[2][:6] == "input_"]


# ---------------------------------------------------------------------- weights


@given(st.integers(0, 2**31), st.floats(1e-6, 1e6), st.integers(1, 5))
@settings(max_examples=20)
def test_weights_are_the_nearest_of_255_levels_a_channel(
    seed: int, size: float, channels: int
) -> None:
    weight = normal(channels, 3, 3, 3, seed=seed) * size
    weight[0] = 0.0
    found = rounded_weight(weight)
    steps = weight.flatten(1).abs().amax(1).clamp_min(1e-30).view(-1, 1, 1, 1) / 127
    levels = found / steps
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    assert levels.abs().max() <= 127.001
    assert ((found - weight).abs() <= 0.501 * steps).all()
    assert (found[0] == 0).all()


@given(st.integers(0, 2**31))
@settings(max_examples=20)
def test_a_batch_norm_that_is_folded_in_rounds_alike(seed: int) -> None:
    weight = normal(6, 4, 3, 3, seed=seed)
    factor = torch.tensor([4.0, -0.5, 2.0, -1.0, 0.25, 8.0]).view(-1, 1, 1, 1)  # γ/σ
    torch.testing.assert_close(
        rounded_weight(weight * factor), rounded_weight(weight) * factor, rtol=1e-6, atol=0
    )


def test_gradients_pass_the_rounding_of_weights() -> None:
    weight = normal(5, 7, seed=1).requires_grad_()
    cotangent = normal(5, 7, seed=2)
    (rounded_weight(weight) * cotangent).sum().backward()
    assert torch.equal(weight.grad, cotangent)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- inputs


def layer(observe: int = 10, delay: int = 0) -> nn.Linear:
    empty = nn.Linear(4, 4, device="meta").to_empty(device="cpu")  # draws nothing
    network = fake_quantised(nn.Sequential(empty), observe=observe, delay=delay)
    inner = network[0]  # type: ignore[index]
    with torch.no_grad():
        inner.weight.copy_(torch.eye(4))
        inner.bias.zero_()
    return inner  # type: ignore[no-any-return]


def test_inputs_are_rounded_to_256_levels_of_their_range_and_clipped_to_it() -> None:
    one = layer().train()
    one(torch.tensor([[-1.0, 0.0, 0.3, 1.55]]))
    one.eval()
    step = 2.55 / 255
    x = torch.linspace(-3.0, 3.0, 4000).view(-1, 4)
    found = one(x)
    assert torch.equal(one(torch.zeros(1, 4)), torch.zeros(1, 4))  # 0 is exact
    inside = (x > -1.0) & (x < 1.55)
    assert ((found - x).abs()[inside] <= 0.501 * step).all()
    assert found.min() >= -1.0 - step
    assert found.max() <= 1.55 + step
    assert len(found.unique()) <= 256


def test_gradients_of_inputs_pass_within_the_range_and_stop_outside() -> None:
    one = layer().train()
    one(torch.tensor([[-1.0, 0.0, 0.3, 1.0]]))
    one.eval()
    x = torch.tensor([[-5.0, -0.5, 0.5, 5.0]], requires_grad=True)
    one(x).sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 1.0, 0.0]]  # type: ignore[union-attr]


def test_ranges_follow_for_the_steps_that_were_asked_for_and_in_training_alone() -> None:
    one = layer(observe=2).train()
    one(torch.full((1, 4), 1.0))
    assert range_of(one)[:2] == [torch.tensor(1.0)] * 2
    one.eval()
    one(torch.full((1, 4), 50.0))
    assert range_of(one)[1] == 1.0
    one.train()
    one(torch.full((1, 4), 3.0))
    torch.testing.assert_close(range_of(one)[1], torch.tensor(1.02))
    fixed = range_of(one)
    one(torch.full((1, 4), 50.0))
    assert all(torch.equal(a, b) for a, b in zip(fixed, range_of(one), strict=True))
    assert int(one.input_seen) == 2  # type: ignore[arg-type]


def test_inputs_are_not_rounded_before_the_delay_is_over_or_without_a_range() -> None:
    x = normal(3, 4)
    one = layer(observe=5, delay=2)
    assert torch.equal(one.eval()(x), x)
    one.train()
    assert torch.equal(one(x), x)
    assert torch.equal(one(x), x)
    assert not torch.equal(one(x), x)
    assert not torch.equal(one.eval()(x), x)


# ---------------------------------------------------------------------- networks


def test_the_plain_network_comes_back_bit_for_bit() -> None:
    plain = student().eval()
    before = copy.deepcopy(plain.state_dict())
    images = normal(4, 3, 8, 8)
    quantised = fake_quantised(plain, observe=3)
    assert is_fake_quantised(quantised)
    assert set(plain.state_dict()) < set(quantised.state_dict())
    quantised.train()(images)
    assert all(torch.equal(before[k], v) for k, v in plain.state_dict().items())  # a copy
    fresh = fake_quantised(plain, observe=3)
    back = plain_network(fresh)
    assert not is_fake_quantised(back)
    assert is_fake_quantised(fresh)
    assert list(back.state_dict()) == list(plain.state_dict())
    assert [type(m) for m in back.modules()] == [type(m) for m in plain.modules()]
    assert repr(back) == repr(plain)
    assert torch.equal(back.eval()(images), plain(images))
    student(seed=1).load_state_dict(plain_network(quantised).state_dict())


def test_outputs_differ_by_rounding_and_not_more() -> None:
    plain = student()
    quantised = fake_quantised(plain, observe=5).train()
    images = normal(64, 3, 8, 8)
    with torch.no_grad():
        reference, found = plain.train()(images), quantised(images)  # by the batch's statistics
    error = float((found - reference).abs().max() / reference.abs().max())
    assert 1e-4 < error < 0.1


def test_it_learns_and_a_checkpoint_goes_on_bit_for_bit() -> None:
    images, labels = normal(32, 3, 8, 8), torch.arange(32) % 4

    def steps(network: nn.Module, count: int) -> list[float]:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        losses = []
        for _ in range(count):
            loss = nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    quantised = fake_quantised(student(), observe=4).train()
    losses = steps(quantised, 12)
    assert losses[-1] < 0.7 * losses[0]
    resumed = fake_quantised(student(seed=5), observe=4).train()
    resumed.load_state_dict(quantised.state_dict())
    assert steps(resumed, 3) == steps(quantised, 3)


def test_every_family_of_networks_is_quantised() -> None:
    for name, options in (
        ("mobilenetv3-cifar", {"width_mult": 0.35}),
        ("vitbench-pit", {"resolution": 64}),
    ):
        space = create_space(name, num_classes=3, **options)
        plain = space.build(space.sample(1, seed=0)[0])
        quantised = fake_quantised(plain, observe=1).train()
        out = quantised(normal(2, 3, space.resolution, space.resolution))
        out.square().sum().backward()
        layers = [m for m in quantised.modules() if is_fake_quantised(m) and not list(m.children())]
        assert len(layers) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in plain.modules())
        assert all(p.grad is not None for p in quantised.parameters())


@pytest.mark.parametrize(
    ("network", "observe", "delay", "match"),
    [
        (nn.Linear(2, 2, device="meta"), 0, 0, "observe = 0"),
        (nn.Linear(2, 2, device="meta"), 5, -1, "delay = -1"),
        (nn.Linear(2, 2, device="meta"), 5, 5, "delay = 5"),
        (nn.Linear(2, 2, device="meta"), True, 0, "observe = True"),
        (nn.ReLU(), 5, 0, "ReLU has no"),
    ],
)
def test_what_will_not_do_is_refused(
    network: nn.Module, observe: int, delay: int, match: str
) -> None:
    with pytest.raises(InvalidInputError, match=match):
        fake_quantised(network, observe=observe, delay=delay)

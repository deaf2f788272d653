"""The parts of gradient proxies on known inputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scholarch.proxies import image_gradients, registry, te_nas, vkdnw, zico
from scholarch.proxies.batch import Batch
from scholarch.proxies.epe_nas import class_score
from scholarch.proxies.gradients import hessian_times_gradient
from scholarch.proxies.image_gradients import LayerTrace, recording
from scholarch.proxies.probe import Probe
from scholarch.proxies.registry import register_proxy
from scholarch.proxies.scoring import Scorer
from scholarch.searchspace.factory import create_space


def make_batch(images: int = 8, classes: int = 4, side: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(images, 3, side, side, generator=generator)
    labels = torch.arange(images) % classes
    return Batch(pixels, labels, classes, (0.5, 0.5, 0.5), (0.3, 0.3, 0.3))


def test_hessian_at_another_scale() -> None:
    """A function of direction alone, so the same at w and s·w: H there, written out."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    second = torch.randn(4, dtype=torch.float64, generator=generator)
    mixer = torch.randn(6, 4, dtype=torch.float64, generator=generator)

    def loss(flat: Tensor) -> Tensor:
        a, b = flat[:6], flat[6:]
        mixed = (a / a.norm()) @ mixer * (b / b.norm())
        return mixed.exp().sum() + mixed[0] * (a / a.norm())[1]

    scales = [0.3, 2.5]
    leaves = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    found = hessian_times_gradient(
        loss(torch.cat([leaf.flatten() for leaf in leaves])), leaves, scales
    )
    flat = torch.cat([first.flatten() * scales[0], second * scales[1]]).requires_grad_()
    (grad,) = torch.autograd.grad(loss(flat), flat)
    expected = torch.autograd.functional.hessian(loss, flat.detach()) @ grad
    torch.testing.assert_close(torch.cat([part.flatten() for part in found]), expected)


def test_correlation_of_a_class() -> None:
    generator = torch.Generator().manual_seed(0)
    row = torch.randn(1, 50, generator=generator)
    assert class_score(torch.cat([row, -3.0 * row])) == pytest.approx(4 * math.log(1 + 1e-5))
    apart = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    assert class_score(apart) == pytest.approx(2 * math.log(1e-5), rel=1e-4)


def test_steadiness_of_known_gradients() -> None:
    grads = torch.tensor([[1.0, 0.0, -3.0], [3.0, 0.0, 1.0]])
    assert zico.steadiness(grads) == pytest.approx(math.log(2.0 / 1.0 + 2.0 / 2.0))
    assert zico.steadiness(torch.ones(2, 5)) == 0.0
    assert zico.steadiness(torch.zeros(2, 5)) == 0.0
    assert math.isnan(zico.steadiness(torch.tensor([[1.0, math.nan], [2.0, 1.0]])))
    assert math.isnan(zico.steadiness(torch.tensor([[1.0, math.inf], [2.0, 1.0]])))


def test_deciles_of_known_spectra() -> None:
    assert vkdnw.decile_entropy(torch.full((30,), 2.5)) == pytest.approx(math.log(9))
    single = torch.cat([torch.zeros(20), torch.tensor([7.0])])
    with pytest.raises(RuntimeError, match="eigenvalues are 0"):
        vkdnw.decile_entropy(single)
    ramp = torch.arange(0.0, 11.0)  # deciles 1 to 9
    expected = -sum(k / 45 * math.log(k / 45) for k in range(1, 10))
    assert vkdnw.decile_entropy(ramp) == pytest.approx(expected)


def test_fisher_information_of_sure_and_few_predictions() -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(2, 3, 10, generator=generator)
    sure = torch.tensor([[200.0, 0.0, 0.0], [0.0, 200.0, 0.0]])
    assert float(vkdnw.fisher_spectrum(jacobian, sure).max()) < 1e-40
    spectrum = vkdnw.fisher_spectrum(jacobian, torch.zeros(2, 3))
    assert len(spectrum) == 10
    assert bool((spectrum.diff() >= 0).all())
    # Probabilities sum to 1: each image's three rows span two directions.
    assert int((spectrum > 1e-9).sum()) == 4


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Conv2d(4, 6, 3, padding=1, bias=False), (3, 4, 7, 7)),
        (lambda: nn.Conv2d(4, 6, 5, stride=2, padding=2, bias=False), (3, 4, 8, 7)),
        (lambda: nn.Conv2d(4, 6, 1, stride=2, bias=False), (3, 4, 7, 7)),
        (lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2), (3, 4, 7, 7)),
        (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (3, 4, 6, 6)),
        (lambda: nn.Conv2d(4, 6, 4, stride=4), (3, 4, 8, 8)),
        (lambda: nn.Linear(4, 6), (3, 4)),
        (lambda: nn.Linear(4, 6), (3, 5, 4)),
    ],
)
@pytest.mark.parametrize("patches", [image_gradients.PATCHES, 1])
def test_every_kind_of_layer(
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    patches: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_gradients, "PATCHES", patches)
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        module = make()
    module.to_empty(device="cpu")
    for parameter in module.parameters():
        parameter.data.normal_(generator=generator)
    x = torch.randn(shape, generator=generator)
    trace = LayerTrace()
    with recording(trace):
        weight = trace.weight(module.weight)
        if isinstance(module, nn.Conv2d):
            out = functional.conv2d(
                x,
                weight,
                module.bias,
                module.stride,
                module.padding,
                module.dilation,
                module.groups,
            )
        else:
            out = functional.linear(x, weight, module.bias)
    upstream = torch.randn(out.shape, generator=generator)
    (layer,) = trace.layers
    found = layer.gradients(upstream)
    scale = math.sqrt(2.0 / module.weight[0].numel())
    for n in range(3):
        (expected,) = torch.autograd.grad(module(x[n : n + 1]), module.weight, upstream[n : n + 1])
        torch.testing.assert_close(found[n], expected.flatten() / scale, rtol=1e-4, atol=1e-5)
        first = expected[0, 0]
        if first.dim() == 2:
            first = first[first.shape[0] // 2, first.shape[1] // 2]
        torch.testing.assert_close(
            layer.first_gradients(upstream)[n], first / scale, rtol=1e-4, atol=1e-5
        )


def test_images_of_a_transformer_add_up_to_the_batch() -> None:
    """Without batch norm, the mean over images is the batch's gradient."""
    space = create_space("vitbench-pit", num_classes=4, resolution=32, width_mult=0.25)
    batch = make_batch(side=32)
    probes: list[Probe] = []
    register_proxy("test-keep", source="a test", needs={"forward", "backward"})(
        lambda probe: float(probes.append(probe) or len(probe.gradients))
    )
    try:
        Scorer(space, ["test-keep"], batch=batch).score(space.sample(1, seed=0))
    finally:
        del registry._PROXIES._items["test-keep"]
    (probe,) = probes
    images = probe.image_pass
    wanted = functional.one_hot(batch.labels, 4)
    upstream = (images.logits.detach().softmax(dim=1) - wanted) / len(batch)
    found = list(images.gradients(upstream))
    assert len(found) == len(probe.gradients)
    for rows, pair in zip(found, probe.gradients, strict=True):
        torch.testing.assert_close(
            rows.sum(dim=0),
            pair.grad.flatten(),
            rtol=1e-3,
            atol=float(pair.grad.abs().max()) * 1e-4,
        )


def test_weights_that_no_layer_uses_are_told() -> None:
    trace = LayerTrace()
    used, lost = torch.ones(2, 3), torch.ones(5, 5)
    with recording(trace):
        functional.linear(torch.ones(1, 3), trace.weight(used))
    trace.weight(lost)
    with pytest.raises(RuntimeError, match="1 of 2 weights"):
        trace.check()


def test_a_line_has_one_region_more_than_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns counted one by one, where points are so dense that none holds two changes."""
    monkeypatch.setattr(te_nas, "LINES", 1)
    monkeypatch.setattr(te_nas, "POINTS", 20_000)
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(n, m, generator=generator).double() for n, m in ((6, 2), (6, 7), (6, 7))]
    t = torch.linspace(-3.0, 3.0, te_nas.POINTS, dtype=torch.float64).unsqueeze(1)
    relus, x = [], t
    for layer in layers:
        x = (torch.cat([x, torch.ones_like(t)], dim=1) @ layer.T).relu()
        relus.append(x)
    patterns = torch.cat([relu > 0 for relu in relus], dim=1)
    distinct = len(torch.unique(patterns, dim=0))
    assert distinct > 8
    assert 1 + sum(te_nas._changes(relu) for relu in relus) == distinct

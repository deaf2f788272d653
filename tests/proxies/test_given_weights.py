"""Scores on given weights: against slow formulas on what is cut out, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from scholarch.proxies.batch import Batch
from scholarch.proxies.decorrelation import least_eigenvalue
from scholarch.proxies.dss import nuclear_norm
from scholarch.proxies.expr import spectrum_entropy
from scholarch.proxies.jacov import correlation_score
from scholarch.proxies.registry import get_proxy, list_proxies
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps
from scholarch.proxies.token_reader import TokenReader
from scholarch.searchspace.elastic import EMBEDDING_STD
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.factory import create_space
from scholarch.testing.light import light_batch

CLASSES, LENGTH = 3, 9
TEXT = create_space(
    "bert-from-teacher",
    outline={"dim": 16, "depth": 2, "heads": 2, "head_dim": 8, "tenths": 20},
    num_classes=CLASSES,
    vocabulary=40,
    positions=LENGTH,
    resolution=LENGTH,
)
CONV = create_space("resnet-cifar", num_classes=CLASSES, resolution=16, width_mult=0.25)
CELLS = create_space("nasbench201", num_classes=CLASSES, resolution=16, width_mult=0.25)
IMAGES = light_batch(CONV)


def texts(count=6):
    inputs = TEXT.example(count, torch.Generator().manual_seed(1))
    zeros, ones = (0.0, 0.0), (1.0, 1.0)
    return Batch(inputs, torch.arange(count) % CLASSES, CLASSES, zeros, ones, modality="text")


def trained(space, seed=2):
    """A supernet none of whose tensors is what an initialisation makes it."""
    network = space.supernet(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    return network.eval()


def taps_of(network, batch):
    """What a plain encoder gives as a teacher."""
    reader = TokenReader(network, {"tokens", "qkv"}, "it")
    with torch.no_grad(), reader.recording():
        logits = network(batch.images)
    tokens = reader.read()
    stages = tuple(x.transpose(1, 2).unsqueeze(2) for x in tokens.layers[1:])
    pooled = stages[-1].mean(dim=(2, 3))
    return Taps(stages, stages[-1], pooled, logits, network.head.weight.detach(), tokens)


def scored(space, name, batch, network, arch, **options):
    table = Scorer(space, [name], batch=batch, network=network, **options).table([arch])
    assert not table.failures
    return float(table[name][0])


def weights_and_gradients(plain, batch):
    layers = [m for m in plain.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    loss = functional.cross_entropy(plain(batch.normalised), batch.labels)
    grads = torch.autograd.grad(loss, [m.weight for m in layers], create_graph=True)
    return [m.weight for m in layers], grads


SETTINGS = [(TEXT, texts()), (CONV, IMAGES)]


@pytest.mark.parametrize(("space", "batch"), SETTINGS, ids=["text", "convnet"])
def test_gradients_are_those_of_the_network_that_is_cut_out(space, batch):
    network, arch = trained(space), space.sample(3, seed=3)[1]
    plain = network.extract(arch).train()
    weights, grads = weights_and_gradients(plain, batch)
    squares = sum(g.square().sum() for g in grads) / 2.0
    products = torch.autograd.grad(squares, weights)
    weights, grads, products = ([x.detach() for x in of] for of in (weights, grads, products))
    expected = {
        "snip": sum(float((w * g).abs().sum()) for w, g in zip(weights, grads, strict=True)),
        "plain": sum(float((w * g).sum()) for w, g in zip(weights, grads, strict=True)),
        "grad_norm": sum(float(g.norm()) for g in grads),
        "grasp": -sum(float((w * p).sum()) for w, p in zip(weights, products, strict=True)),
        "l2_norm": sum(float(w.norm()) for w in weights),
    }
    table = Scorer(space, list(expected), batch=batch, network=network).table([arch])
    for name, value in expected.items():
        assert table[name][0] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_gradients_image_by_image_are_those_of_the_network_that_is_cut_out():
    batch, network, arch = texts(), trained(TEXT), TEXT.sample(3, seed=3)[1]
    plain = network.extract(arch)
    rows, signs = [], []
    for x, label in zip(batch.images.split(1), batch.labels.split(1), strict=True):
        weights = [m.weight for m in plain.modules() if isinstance(m, nn.Linear)]
        kernel = torch.autograd.grad(plain(x).sum(), weights)
        rows.append(torch.cat([g.flatten() for g in kernel]).double())
        loss = torch.autograd.grad(functional.cross_entropy(plain(x), label), weights)
        signs.append(torch.cat([g.flatten() for g in loss]).sign())
    eigenvalues = torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T)
    expected = -float(eigenvalues[-1] / eigenvalues[0])
    assert scored(TEXT, "te-nas-ntk", batch, network, arch) == pytest.approx(expected, rel=1e-2)
    agreed = float(torch.stack(signs).sum(dim=0).abs().sum())
    assert scored(TEXT, "gradsign", batch, network, arch) == pytest.approx(agreed, rel=1e-3)


def test_features_are_those_of_the_network_that_is_cut_out():
    batch, network, arch = texts(), trained(TEXT), TEXT.sample(3, seed=3)[1]
    plain, outputs = network.extract(arch), []
    for layer in plain.layers:
        layer.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    with torch.no_grad():
        plain(batch.images)
    real = plain.stem.mask(batch.images)
    assert not real.all()
    maps = [(x * real.unsqueeze(2)).transpose(1, 2).unsqueeze(2) for x in outputs]
    expected = sum(spectrum_entropy(x) for x in maps)
    assert scored(TEXT, "expr", batch, network, arch) == pytest.approx(expected, rel=1e-4)


def test_dss_takes_the_absolute_weights_as_they_are():
    network, arch = trained(TEXT), TEXT.sample(3, seed=3)[1]
    plain = network.extract(arch)
    linear = [(n, m) for n, m in plain.named_modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        for module in plain.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.abs_()
    plain(torch.ones(1, LENGTH, dtype=torch.int64)).sum().backward()
    expected = 0.0
    for name, module in linear:
        w, g = module.weight.detach(), module.weight.grad
        attends = name.endswith(("qkv", "proj"))
        expected += float(nuclear_norm(g) * nuclear_norm(w) if attends else (w * g).abs().sum())
    assert scored(TEXT, "dss", texts(), network, arch) == pytest.approx(expected, rel=1e-4)


def test_a_student_that_is_its_teacher_relates_tokens_and_inputs_as_it_does():
    batch, network, whole = texts(), trained(TEXT), largest(TEXT)
    taps = taps_of(network.extract(whole), batch)
    names = ["token-relations", "sample-relations", "kd-logits"]
    given = Scorer(TEXT, names, batch=batch, teacher=taps, network=network)
    table = given.table([whole, TEXT.sample(5, seed=3)[1]])
    assert table["token-relations"][0] == pytest.approx(0.0, abs=1e-6)
    assert table["sample-relations"][0] == pytest.approx(1.0, abs=1e-6)
    assert table["kd-logits"][0] == pytest.approx(0.0, abs=1e-6)
    assert all(table[name][0] > table[name][1] for name in names)
    random = Scorer(TEXT, names, batch=batch, teacher=taps).table([whole])
    assert all(table[name][0] > random[name][0] + 0.01 for name in names)


def test_input_gradients_and_correlations_under_batch_norms_scales():
    network, arch = trained(CONV), CONV.sample(3, seed=3)[1]
    plain, maps = network.extract(arch).train(), []
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, out: maps.append(out.detach()))
    x = IMAGES.normalised.requires_grad_()
    (grad,) = torch.autograd.grad(plain(x).sum(), [x])
    expected = correlation_score(grad.flatten(1))
    assert scored(CONV, "jacov", IMAGES, network, arch) == pytest.approx(expected, rel=1e-3)
    least = sum(m.shape[1] * least_eigenvalue(m) for m in maps)
    found = scored(CONV, "decorrelation", IMAGES, network, arch)
    assert found == pytest.approx(least, rel=1e-3)


def test_random_weights_given_are_random_weights():
    """Where batch norm follows every weight, their scale is of no matter."""
    archs, names = CONV.sample(3, seed=1), ["expr", "naswot", "meco", "az-trainability", "fisher"]
    network = CONV.supernet(seed=4, init="normal")
    given = Scorer(CONV, names[:-1], batch=IMAGES, seed=4, network=network).table(archs)
    drawn = Scorer(CONV, names[:-1], batch=IMAGES, seed=4).table(archs)
    for name in names[:-1]:
        assert np.array_equal(given[name], drawn[name]), name
    # The classifier has none behind it.
    assert scored(CONV, "fisher", IMAGES, network, archs[0]) != pytest.approx(
        float(Scorer(CONV, ["fisher"], batch=IMAGES, seed=4).table(archs[:1])["fisher"][0])
    )


def test_weights_given_at_the_scale_they_would_be_taken_at_score_the_same():
    """Of the largest network, whose slices are the tensors; every proxy that is defined."""
    network, whole, batch = TEXT.supernet(seed=4, init="normal"), largest(TEXT), texts(32)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if "classifier" in name:
                p *= 1.0 / math.sqrt(p.shape[-1])
            elif p.dim() == 2:
                p *= EMBEDDING_STD if "stem" in name else math.sqrt(2.0 / p[0].numel())
    taps = taps_of(trained(TEXT, 7).extract(whole), batch)
    lacks = {"bn", "relu"}
    names = [
        name
        for name in list_proxies()
        if get_proxy(name).unfit("text", False, True) is None
        and not get_proxy(name).needs & lacks
        # Scaled otherwise at random: all N(0, 0.02²), and linear layers N(0, 1/fan_in).
        and name not in {"dss", "l2_norm"}
    ]
    table = Scorer(TEXT, names, batch=batch, teacher=taps, seed=4, network=network).table([whole])
    drawn = Scorer(TEXT, names, batch=batch, teacher=taps, seed=4).table([whole])
    assert {"snip", "zico", "token-relations", "distinct-heads", "az-trainability"} <= set(names)
    apart = {"diswot", "diswot-semantic", "diswot-released", "diswot-released-semantic"}
    for name in sorted(set(names) - apart):
        assert table[name][0] == pytest.approx(drawn[name][0], rel=2e-3, nan_ok=True), name


def test_candidates_in_groups_score_as_alone():
    names = ["expr", "decorrelation", "gradient-stability", "signal-growth"]
    network, archs = trained(CELLS), CELLS.sample(5, seed=2)
    given = {"batch": light_batch(CELLS), "network": network}
    alone = Scorer(CELLS, names, **given).table(archs)
    together = Scorer(CELLS, names, **given, group=3).table(archs)
    for name in names:
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("space", [TEXT, CONV], ids=["text", "convnet"])
def test_the_given_network_comes_out_as_it_went_in(space):
    batch, network = texts() if space is TEXT else IMAGES, trained(space)
    for i, p in enumerate(network.parameters()):
        p.requires_grad_(i % 2 == 0)
        p.grad = torch.full_like(p, 0.5) if i % 2 == 0 else None
    before = {name: t.clone() for name, t in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    names = ["snip", "grasp", "zico", "te-nas-ntk", "decorrelation", "az-trainability", "l2_norm"]
    names += ["dss", "distinct-heads"] if space is TEXT else ["jacov", "naswot", "te-nas-regions"]
    Scorer(space, names, batch=batch, network=network).table(space.sample(2, seed=1))
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert [m.training for m in network.modules()] == modes
    for i, p in enumerate(network.parameters()):
        assert p.requires_grad == (i % 2 == 0)
        assert p.grad is None if i % 2 else bool((p.grad == 0.5).all())


@pytest.mark.parametrize("name", ["synflow", "zen"])
def test_a_proxy_of_random_weights_alone_is_refused(name):
    Scorer(CONV, [name], batch=IMAGES)
    with pytest.raises(InvalidInputError, match=f"'{name}' is not defined.*supernet.*leave it out"):
        Scorer(CONV, [name], batch=IMAGES, network=trained(CONV))


def test_what_does_not_fit_is_refused():
    network = trained(CONV)
    with pytest.raises(InvalidInputError, match="none of space 'nasbench201'"):
        Scorer(CELLS, ["expr"], batch=IMAGES, network=network)
    with pytest.raises(InvalidInputError, match="precision 'bfloat16'.*take float32"):
        Scorer(CONV, ["expr"], batch=IMAGES, network=network, precision="bfloat16")
    more = dataclasses.replace(IMAGES, num_classes=CLASSES + 1)
    with pytest.raises(InvalidInputError, match="4 classes.*3; give the data it was trained on"):
        Scorer(CONV, ["expr"], batch=more, network=network)

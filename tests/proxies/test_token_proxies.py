"""Scores from tokens' and inputs' relations, against loops; padding; teachers of all kinds."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from scholarch.proxies.batch import Batch
from scholarch.proxies.controls import constant, permuted_channels, shuffled_images
from scholarch.proxies.naswot_gelu import sign_kernel
from scholarch.proxies.scoring import Scorer
from scholarch.proxies.taps import Taps, TokenTaps
from scholarch.proxies.token_reader import TokenReader, tokens_for
from scholarch.proxies.tokens import common_heads, layer_map, on_one_grid, pooled_tokens
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.style import EncoderShape, LayerShape

TEXTS, LENGTH = 5, 9
OUTLINE = {"dim": 16, "depth": 2, "heads": 2, "head_dim": 8, "tenths": 20}
SPACE = create_space(
    "bert-from-teacher",
    outline=OUTLINE,
    num_classes=3,
    vocabulary=40,
    positions=LENGTH,
    resolution=LENGTH,
)


def texts():
    inputs = SPACE.example(TEXTS, torch.Generator().manual_seed(1))
    classes = torch.arange(TEXTS) % 3
    return Batch(inputs, classes, 3, (0.0, 0.0), (1.0, 1.0), modality="text")


def teacher_taps(batch, heads=(3, 2, 3)):
    shape = EncoderShape(24, tuple(LayerShape(a, 32, i) for i, a in enumerate(heads)))
    network = Encoder(SPACE.stem, SPACE.style, shape, num_classes=3, seed=5).eval()
    reader = TokenReader(network, {"tokens", "qkv"}, "it")
    with torch.no_grad(), reader.recording():
        logits = network(batch.images)
    tokens = reader.read()
    final = tokens.layers[-1].transpose(1, 2).unsqueeze(2)
    return Taps((final,), final, final.mean(dim=(2, 3)), logits, network.head.weight, tokens)


def scored(name, batch, taps, arch):
    return float(Scorer(SPACE, [name], batch=batch, teacher=taps).table([arch])[name][0])


def student(arch, batch):
    """The candidate as it is scored: He weights from the seed, what its layers give."""
    from scholarch.searchspace.elastic import Trace

    network = SPACE.supernet(seed=0, init="normal").train()
    trace = Trace(he=True, want_maps=True, mask=network.mask_of(batch.images))
    x, layers = batch.images, []
    with torch.no_grad():
        for step in network.steps(arch):
            before = len(trace.maps)
            x = network.run_step(step, x, trace)
            if step.kind == "layer":
                layers.append((x, trace.maps[before:]))
    return trace.mask, layers


def softmax(row):
    e = np.exp(row - row.max())
    return e / e.sum()


def test_token_relations_by_hand():
    batch, arch = texts(), SPACE.sample(5, seed=3)[1]
    taps = teacher_taps(batch)
    mask, layers = student(arch, batch)
    assert not mask.all()
    total = 0.0
    for (_, maps), j in zip(layers, layer_map(len(layers), 3), strict=True):
        own = maps[0].squeeze(2).transpose(1, 2).chunk(3, dim=2)
        heads = common_heads(own[0].shape[2], taps.tokens.qkv[j].shape[2] * 8, 48)
        means = []
        for which, x in enumerate(own):
            y = taps.tokens.qkv[j][:, which].transpose(1, 2).flatten(2)
            rows = []
            for text in range(TEXTS):
                n = int(mask[text].sum())
                for head in range(heads):
                    a, b = (
                        z[text, :n].unflatten(1, (heads, -1))[:, head].double().numpy()
                        for z in (x, y)
                    )
                    for i in range(n):
                        q, p = (softmax(z[i] @ z.T / math.sqrt(z.shape[1])) for z in (a, b))
                        rows.append((p * np.log(p / q)).sum())
            means.append(np.mean(rows))
        total += np.mean(means) / len(layers)
    assert scored("token-relations", batch, taps, arch) == pytest.approx(-total, rel=1e-3)


def test_sample_relations_of_the_same_tokens_are_1():
    batch, arch = texts(), SPACE.sample(5, seed=3)[1]
    mask, layers = student(arch, batch)
    streams = tuple(x.squeeze(2).transpose(1, 2) for x, _ in layers)
    taps = teacher_taps(batch)
    tokens = TokenTaps((streams[0], *streams), (), mask)
    itself = dataclasses.replace(taps, tokens=tokens)
    assert scored("sample-relations", batch, itself, arch) == pytest.approx(1.0, abs=1e-6)
    assert scored("sample-relations", batch, taps, arch) < 0.999


@pytest.mark.parametrize("name", ["token-relations", "sample-relations"])
def test_the_controls_reach_a_transformer_s_tokens(name):
    batch, arch = texts(), SPACE.sample(5, seed=3)[1]
    taps = teacher_taps(batch)
    value = scored(name, batch, taps, arch)
    assert scored(name, batch, shuffled_images(taps, 1), arch) != value
    if name == "token-relations":
        assert scored(name, batch, constant(taps), arch) != value
    permuted = permuted_channels(taps, 1)
    assert scored(name, batch, permuted, arch) == pytest.approx(value)


def test_padding_changes_neither():
    """Teacher's tokens behind a text's end may be anything."""
    batch, arch = texts(), SPACE.sample(5, seed=3)[1]
    taps = teacher_taps(batch)
    tokens, padded = taps.tokens, ~taps.tokens.mask
    noisy = dataclasses.replace(
        tokens,
        layers=tuple(x.masked_fill(padded.unsqueeze(-1), 9.0) for x in tokens.layers),
        qkv=tuple(x.masked_fill(padded[:, None, None, :, None], 9.0) for x in tokens.qkv),
    )
    for name in ("token-relations", "sample-relations"):
        given = scored(name, batch, taps, arch)
        assert scored(name, batch, dataclasses.replace(taps, tokens=noisy), arch) == given


def test_naswot_s_codes_leave_padding_out():
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(3, 2, 1, 4)), dtype=torch.float32)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    kernel = sign_kernel(x, mask)
    for a in range(3):
        for b in range(3):
            agree = 0.0
            for channel in range(2):
                for token in range(4):
                    real = bool(mask[a, token] and mask[b, token])
                    same = bool((x[a, channel, 0, token] > 0) == (x[b, channel, 0, token] > 0))
                    agree += (1.0 if same else 0.0) if real else 0.5
            assert float(kernel[a, b]) == agree


def test_grids_of_images_are_pooled_to_the_smaller():
    x = torch.arange(16.0).view(1, 16, 1)
    patches = torch.cat([torch.full((1, 1, 1), 99.0), x], dim=1)  # a class token in front
    small = torch.zeros(1, 4, 1)
    a, b = on_one_grid(patches, small, TokenTaps(grid=(4, 4)), TokenTaps(grid=(2, 2)))
    assert a.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert b.shape == (1, 4, 1)
    with pytest.raises(InvalidInputError, match="student has 17 tokens, the teacher 4; tokens"):
        on_one_grid(patches, small, TokenTaps(), TokenTaps(grid=(2, 2)))


def test_pooled_tokens_are_of_real_ones():
    x = torch.tensor([[[1.0], [3.0], [50.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert pooled_tokens(x, mask).flatten().tolist() == [2.0, 4.0]
    assert pooled_tokens(x, None).flatten().tolist() == [18.0, 4.0]


def test_teachers_are_read_where_they_are_transformers_and_somebody_asks():
    transformer = SPACE.build(SPACE.sample(1, seed=0)[0])
    convnet = create_space("resnet-cifar-s0").build(create_space("resnet-cifar-s0").sample(1)[0])
    assert tokens_for(["token-relations", "params"], transformer) == {"tokens", "qkv"}
    assert not tokens_for(["params", "kd-sp"], transformer)
    assert not tokens_for(["token-relations"], convnet)

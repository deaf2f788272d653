"""Convolved sound, against transformers' HuBERT and torch's grouped convolution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import nn

from scholarch.searchspace.elastic import initialise
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.trace import Trace
from scholarch.searchspace.transformers.interleaved import (
    ElasticInterleavedConv1d,
    InterleavedConv1d,
    reordered,
    stream_order,
)
from scholarch.searchspace.transformers.wave_stem import ElasticWaveStem, WaveStemSpec
from scholarch.teachers.timm_import import import_transformers

Module = TypeVar("Module", bound=nn.Module)

GROUPS = 4
POST = WaveStemSpec(channels=(16,) * 7, positional=6, groups=GROUPS)
PRE = WaveStemSpec(
    channels=(16,) * 7,
    bias=True,
    norm="layer",
    positional=5,
    groups=GROUPS,
    token_norm=False,
    normalise=True,
)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _elastic(spec: WaveStemSpec, dim: int) -> ElasticWaveStem:
    stem = spec.elastic(dim)
    initialise(stem, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in stem.parameters():
            if tensor.dim() == 1:
                tensor.add_(torch.rand(tensor.shape, generator=generator))
    return stem


def _filled(conv: nn.Module, seed: int) -> None:
    with torch.no_grad():
        for i, tensor in enumerate(conv.parameters()):
            tensor.copy_(_random(*tensor.shape, seed=seed + i))


def _made(make: Callable[[], Module]) -> Module:
    """A plain module without torch's own initial values, which draw from the global generator."""
    with torch.device("meta"):
        module = make()
    return module.to_empty(device="cpu")


# ------------------------------------------------------------------ positions


def test_stream_order_spreads_groups_over_the_stream() -> None:
    order = stream_order(12, GROUPS)
    for c, library in enumerate(order.tolist()):
        assert library // 3 == c % GROUPS
    assert order[order.argsort()].tolist() == list(range(12))
    assert order.tolist()[:5] == [0, 3, 6, 9, 1]


@pytest.mark.parametrize("kernel", [6, 5])
def test_interleaved_convolution_is_torchs_grouped_one(kernel: int) -> None:
    torchs = _made(lambda: nn.Conv1d(12, 12, kernel, padding=kernel // 2, groups=GROUPS))
    _filled(torchs, 0)
    ours = _made(lambda: InterleavedConv1d(12, kernel, GROUPS))
    order = stream_order(12, GROUPS)
    assert ours.bias is not None
    assert torchs.bias is not None
    with torch.no_grad():
        ours.weight.copy_(torchs.weight[order])
        ours.bias.copy_(torchs.bias[order])
        x = _random(2, 12, 9, seed=5)
        known = torchs(x)[..., :9]  # of an even kernel the last step is dropped
        torch.testing.assert_close(ours(x[:, order]), known[:, order])


def test_a_narrower_convolution_is_the_wide_one_without_the_dropped_channels() -> None:
    elastic = ElasticInterleavedConv1d(16, 6, GROUPS)
    _filled(elastic, 0)
    x = _random(2, 16, 9, seed=5)
    x[:, 8:] = 0.0  # what a narrow network does not have
    whole = _made(lambda: InterleavedConv1d(16, 6, GROUPS))
    elastic.copy_into(whole)
    with torch.no_grad():
        narrow = elastic(x[:, :8], Trace())
        torch.testing.assert_close(narrow, whole(x)[:, :8])
    # By hand: output c sums over the channels of its own group that are left.
    padded = torch.nn.functional.pad(x, (3, 2))
    for c in (0, 5, 7):
        total = elastic.bias[c].detach().expand(2, 9).clone()
        for i, source in enumerate(range(c % GROUPS, 8, GROUPS)):
            for k in range(6):
                total += elastic.weight[c, i, k].detach() * padded[:, source, k : k + 9]
        torch.testing.assert_close(narrow[:, c], total)


def test_reordered_weights_are_the_same_convolution() -> None:
    conv = _made(lambda: InterleavedConv1d(12, 6, GROUPS))
    _filled(conv, 0)
    # Another order in every group.
    order = torch.tensor([8, 5, 2, 7, 0, 1, 10, 3, 4, 9, 6, 11])
    assert (order % GROUPS == torch.arange(12) % GROUPS).all()
    other = _made(lambda: InterleavedConv1d(12, 6, GROUPS))
    assert conv.bias is not None
    assert other.bias is not None
    x = _random(2, 12, 9, seed=5)
    with torch.no_grad():
        other.weight.copy_(reordered(conv.weight, order, GROUPS))
        other.bias.copy_(conv.bias[order])
        torch.testing.assert_close(other(x[:, order]), conv(x)[:, order])


# ------------------------------------------------------------------ the stem


@pytest.mark.parametrize("spec", [POST, PRE], ids=["post", "pre"])
@pytest.mark.parametrize("samples", [400, 1999])
def test_a_slice_is_the_plain_stem(spec: WaveStemSpec, samples: int) -> None:
    stem, sound = _elastic(spec, 24), 0.1 * _random(2, samples)
    for dim in (8, 12, 24):
        plain = _made(lambda dim=dim: spec.plain(dim))
        stem.copy_into(plain)
        with torch.no_grad():
            tokens = stem(sound, dim, Trace())
            assert torch.equal(tokens, plain(sound))
        assert tokens.shape == (2, spec.tokens(samples), dim)
        assert torch.isfinite(tokens).all()


@pytest.mark.parametrize("spec", [POST, PRE], ids=["post", "pre"])
def test_reordered_stems_give_reordered_tokens(spec: WaveStemSpec) -> None:
    stem, sound = _elastic(spec, 12), 0.1 * _random(2, 1999)
    order = torch.tensor([8, 5, 2, 7, 0, 1, 10, 3, 4, 9, 6, 11])
    with torch.no_grad():
        before = stem(sound, 12, Trace())
        stem.reorder(order)
        after = stem(sound, 12, Trace())
    torch.testing.assert_close(after, before[..., order], atol=1e-5, rtol=1e-5)
    with pytest.raises(InvalidInputError, match="within their group"):
        stem.reorder(torch.arange(12).flip(0))


def test_loudness_and_offset_do_not_matter_where_clips_are_normalised() -> None:
    sound = 0.1 * _random(2, 1999)
    stem = _elastic(PRE, 12)
    with torch.no_grad():
        one, other = stem(sound, 12, Trace()), stem(3.0 * sound - 0.2, 12, Trace())
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("stable", [False, True], ids=["base-like", "large-like"])
def test_tokens_are_huberts(stable: bool) -> None:
    pytest.importorskip("transformers", reason="needs the extra text, which brings transformers")
    import_transformers()
    from transformers import HubertConfig, HubertModel

    norm = "layer" if stable else "group"
    config = HubertConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        conv_dim=(16,) * 7,
        conv_bias=stable,
        feat_extract_norm=norm,
        num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=GROUPS,
        do_stable_layer_norm=stable,
    )
    with torch.random.fork_rng():
        hubert: Any = HubertModel(config).eval()
    _filled(hubert, 0)
    order = stream_order(24, GROUPS)
    tensors: dict[str, torch.Tensor] = {}

    def take(name: str, module: Any, picks: torch.Tensor | None = None) -> None:
        for end in ("weight", "bias"):
            tensor = getattr(module, end, None)
            if tensor is not None:
                tensor = tensor.detach()
                tensors[f"{name}.{end}"] = tensor if picks is None else tensor[picks]

    for i, unit in enumerate(hubert.feature_extractor.conv_layers):
        take(f"convs.{i}.conv", unit.conv)
        take(f"convs.{i}.norm", getattr(unit, "layer_norm", None))
    take("projection_norm", hubert.feature_projection.layer_norm)
    take("projection", hubert.feature_projection.projection, order)
    take("positional", hubert.encoder.pos_conv_embed.conv, order)
    if not stable:
        take("norm", hubert.encoder.layer_norm, order)
    spec = WaveStemSpec(
        channels=(16,) * 7,
        bias=stable,
        norm=norm,
        positional=6,
        groups=GROUPS,
        token_norm=not stable,
    )
    stem = _made(lambda: spec.plain(24))
    stem.load_state_dict(tensors)
    sound = 0.1 * _random(2, 1999)
    with torch.no_grad():
        known = hubert.feature_extractor(sound).transpose(1, 2)
        known = hubert.feature_projection(known)
        known = known + hubert.encoder.pos_conv_embed(known)
        if not stable:
            known = hubert.encoder.layer_norm(known)
        found = stem(sound)
    assert (found - known[..., order]).abs().max() <= 1e-5 * known.abs().max()


def test_a_clip_shorter_than_the_receptive_field_is_one_line() -> None:
    assert POST.field == 400
    assert POST.tokens(400) == 1
    stem = _made(lambda: POST.plain(8))
    for call in (lambda: stem(torch.zeros(1, 399)), lambda: POST.tokens(399)):
        with pytest.raises(InvalidInputError, match=r"399 samples; .* see 400 at once") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernels": (10, 3)}, "7 channels, 2 kernels and 7 strides"),
        ({"channels": (16,) * 6 + (0,)}, "0 in a sound stem"),
        ({"channels": 16}, "channels = 16; need a list"),
        ({"norm": "batch"}, "norm = 'batch'; need one of group, layer"),
        ({"bias": "no"}, "bias = 'no'"),
        ({"positional": 0}, "0 in a sound stem"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        WaveStemSpec(**options)


def test_a_width_that_groups_do_not_divide_is_refused() -> None:
    for make in (POST.plain, POST.elastic):
        with pytest.raises(InvalidInputError, match="tokens of 10 channels; .* multiple of 4"):
            make(10)

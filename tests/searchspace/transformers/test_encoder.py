"""The encoder of every modality, against torch's own attention and formulas in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.extremes import largest
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.inputs import pack_tokens
from scholarch.searchspace.transformers.encoder import Encoder, pooled
from scholarch.searchspace.transformers.encoder_layer import attention
from scholarch.searchspace.transformers.relative import relative_scores, relative_values
from scholarch.searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from scholarch.searchspace.transformers.text_stem import TextStemSpec


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _texts(*lengths: int, longest: int) -> torch.Tensor:
    ids = torch.randint(1, 50, (len(lengths), longest), generator=torch.Generator().manual_seed(1))
    for i, length in enumerate(lengths):
        ids[i, length:] = 0
    return ids


def test_attention_is_torchs_own() -> None:
    b, n, heads, d = 2, 5, 3, 4
    qkv = _random(b, n, 3 * heads * d)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    q, k, v = qkv.view(b, n, 3, heads, d).permute(2, 0, 3, 1, 4)
    known = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
    found = attention(qkv, heads, mask)
    torch.testing.assert_close(found, known.transpose(1, 2).reshape(b, n, heads * d))
    assert not torch.allclose(found, attention(qkv, heads))


def test_relative_positions_are_a_vector_of_rows_and_one_of_columns() -> None:
    side, most, d = 3, 1, 2
    n = 1 + side * side
    rows, columns = _random(2 * most + 2, d), _random(2 * most + 2, d, seed=1)
    q, weights = _random(1, 1, n, d, seed=2), _random(1, 1, n, n, seed=3)
    between = torch.zeros(n, n, d)
    for i in range(n):
        for j in range(n):
            if i == 0 or j == 0:
                between[i, j] = rows[0] + columns[0]
                continue
            (r1, c1), (r2, c2) = divmod(i - 1, side), divmod(j - 1, side)
            down = max(-most, min(most, r2 - r1)) + most + 1
            across = max(-most, min(most, c2 - c1)) + most + 1
            between[i, j] = rows[down] + columns[across]
    scores = torch.einsum("bhnd,nmd->bhnm", q, between)
    torch.testing.assert_close(relative_scores(q, rows, columns), scores)
    values = torch.einsum("bhnm,nmd->bhnd", weights, between)
    torch.testing.assert_close(relative_values(weights, rows, columns), values)


@pytest.mark.parametrize("how", ["mean", "first", "patches"])
def test_pools_leave_padding_out(how: str) -> None:
    tokens = _random(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True] * 4]) if how == "mean" else None
    found = pooled(tokens, how, mask)
    first = {"mean": tokens[0, :2].mean(0), "first": tokens[0, 0], "patches": tokens[0, 1:].mean(0)}
    torch.testing.assert_close(found[0], first[how])


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("layer_scale", [False, True])
def test_padding_changes_nothing(norm: str, layer_scale: bool) -> None:
    style = EncoderStyle(norm=norm, head_dim=4, layer_scale=layer_scale)
    shape = EncoderShape(12, (LayerShape(2, 20, 0), LayerShape(3, 16, 1)))
    net = Encoder(TextStemSpec(50, 16), style, shape, num_classes=5).eval()
    ids = _texts(6, 4, longest=6)
    longer = functional.pad(ids, (0, 5))
    with torch.no_grad():
        torch.testing.assert_close(net(ids), net(longer))
        torch.testing.assert_close(net(ids[1:, :4]), net(ids)[1:])
        # Ids and their packed bytes are one input.
        packed = pack_tokens(ids).permute(0, 3, 1, 2).float() / 255.0
        assert torch.equal(net(packed), net(ids))


def test_post_norm_ends_every_branch_in_a_norm() -> None:
    style = EncoderStyle(norm="post", head_dim=4, final_norm=False)
    net = Encoder(TextStemSpec(50, 16), style, EncoderShape(12, (LayerShape(2, 20, 0),)))
    tokens = net.tokens(_texts(6, longest=6))
    assert float(tokens.detach().mean(-1).abs().max()) < 1e-5


def test_a_text_longer_than_its_positions_is_refused() -> None:
    space = create_space(
        "autodistil-tiny", width_mult=0.25, vocabulary=60, positions=16, resolution=8
    )
    net = space.build(space.sample(1)[0])
    with pytest.raises(InvalidInputError, match=r"17 tokens; there are 16 positions.*--length 16"):
        net(torch.ones(2, 17, dtype=torch.int64))
    with pytest.raises(InvalidInputError, match="16 positions"):
        create_space("autodistil-tiny", positions=16, resolution=17)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("autoformer-tiny", 1.06e9),
        ("autoformer-small", 7.7e13),
        ("autoformer-base", 1.0e13),
        ("autodistil-base", 256),
        ("autodistil-small", 256),
        ("autodistil-tiny", 256),
    ],
)
def test_sizes_are_the_published_ones(name: str, size: float) -> None:
    assert create_space(name).size == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("autodistil-base", 38.5, 79.3),
        ("autodistil-small", 12.3, 27.8),
        ("autodistil-tiny", 4.35, 10.6),
    ],
)
def test_published_parameters_follow_from_their_formula(
    name: str, least: float, most: float
) -> None:
    """AutoDistil counts attention as wide as heads / 12 of the tokens, and a pooler."""
    space = create_space(name)
    found = []
    for arch in space.decode(space.enumerate_matrix()):
        shape = space.shape_of(arch)  # type: ignore[attr-defined]
        dim, (heads, ffn, _) = shape.dim, shape.layers[0]
        width = dim * heads / 12
        layer = 4 * dim * width + 3 * width + 2 * dim * ffn + ffn + 6 * dim
        embeddings = dim * (30522 + 512 + 2) + 2 * dim
        found.append((embeddings + len(shape.layers) * layer + dim * dim + dim) / 1e6)
    assert min(found) == pytest.approx(least, rel=0.02)
    assert max(found) == pytest.approx(most, rel=0.02)


def test_parameters_are_those_that_are_built() -> None:
    """AutoDistil's tiny pick has 6.89 million by their formula, 9.14 as it is sliced."""
    space = create_space("autodistil-tiny", num_classes=2)
    arch = space.parse('{"embed_dim":160,"depth":7,"num_heads":10,"mlp_ratio":3.5}')
    pooler = 160 * 160 + 160
    assert (space.cost([arch])["params"][0] + pooler) / 1e6 == pytest.approx(9.14, abs=0.01)


def test_autoformers_own_dictionaries_are_read() -> None:
    space = create_space("autoformer-tiny")
    text = (
        "{'mlp_ratio': [3.5, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5, 4.0],"
        " 'num_heads': [3, 3, 3, 3, 3, 4, 4, 4, 4, 3, 3, 3],"
        " 'embed_dim': [216, 216, 216, 216, 216, 216, 216, 216, 216, 216, 216, 216], 'depth': 12}"
    )
    arch = space.parse(text)
    assert space.parse(str(arch)) == arch
    assert space.shape_of(arch).layers[5] == LayerShape(4, 864, 5)  # type: ignore[attr-defined]


def test_parts_share_no_width_and_leave_none_out() -> None:
    space = create_space("autodistil-base", width_mult=0.25, vocabulary=60)
    parts = space.partition(2)  # type: ignore[attr-defined]
    assert sum(part.size for part in parts) == space.size
    widths = [{*part.values(part.sample_matrix(200))[:, 0].tolist()} for part in parts]
    assert widths == [{136, 144}, {152, 160}]
    with pytest.raises(InvalidInputError, match="1 to 4"):
        space.partition(5)  # type: ignore[attr-defined]


def test_shallow_students_take_evenly_spaced_layers() -> None:
    space = create_space("autodistil-tiny", width_mult=0.25, vocabulary=60)
    arch = space.parse(str(largest(space)).replace('"depth":7', '"depth":4'))
    sources = [one.source for one in space.shape_of(arch).layers]  # type: ignore[attr-defined]
    assert sources == [0, 2, 4, 6]
    elastic = space.supernet(seed=1)
    plain = elastic.extract(arch)
    kept = elastic.state_dict()["layers.4.qkv.bias"]
    assert plain.state_dict()["layers.2.qkv.bias"].shape == kept.shape
    assert torch.equal(
        plain.state_dict()["layers.2.fc1.weight"], elastic.state_dict()["layers.4.fc1.weight"]
    )


def test_scores_scale_with_the_head_not_with_the_tokens() -> None:
    """Two networks that differ in the tokens' width alone attend alike to equal queries."""
    qkv = _random(1, 4, 3 * 2 * 8)
    q, k, v = qkv.view(1, 4, 3, 2, 8).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(8)).softmax(-1)
    torch.testing.assert_close(attention(qkv, 2), (weights @ v).transpose(1, 2).reshape(1, 4, 16))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vocabulary": 1}, "vocabulary = 1"),
        ({"padding": 30522}, "padding"),
        ({"in_channels": 3}, "in_channels = 3"),
        ({"outline": {"dim": 0}}, "outline|dim"),
        ({"outline": 3}, "outline = 3"),
    ],
)
def test_options_of_text_spaces_are_checked(options: dict[str, object], words: str) -> None:
    name = "bert-from-teacher" if "outline" in options else "autodistil-tiny"
    with pytest.raises(InvalidInputError, match=words):
        create_space(name, **options)

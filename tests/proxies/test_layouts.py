from __future__ import annotations

import torch

from scholarch.proxies.layouts import as_map, map_shape


def test_maps_of_tokens_and_of_channels_last() -> None:
    grid = torch.arange(2 * 5 * 4 * 4, dtype=torch.float32).reshape(2, 5, 4, 4)
    tokens = grid.flatten(2).transpose(1, 2)  # [B, 16, C]
    prefixed = torch.cat([tokens.new_zeros(2, 5, 5), tokens], dim=1)  # class token, 4 registers
    for output in (grid, tokens, prefixed, grid.permute(0, 2, 3, 1)):
        found = as_map(output, (32, 32))
        assert found is not None
        assert torch.equal(found, grid)


def test_maps_follow_the_aspect_of_the_image() -> None:
    assert map_shape((2, 8, 4, 8), (32, 64)) == (8, 4, 8)
    assert map_shape((2, 33, 8), (32, 64)) == (8, 4, 8)
    assert map_shape((2, 3, 49, 64), (224, 224)) is None  # heads × queries × channels
    assert map_shape((2, 10), (224, 224)) is None

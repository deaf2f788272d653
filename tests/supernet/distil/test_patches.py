"""A ViT that takes other images and sees the same in them."""

import pytest
import torch
from torch.nn import functional

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.transformers.encoder import Encoder
from scholarch.searchspace.transformers.patch_stem import PatchStemSpec
from scholarch.searchspace.transformers.style import EncoderShape, EncoderStyle, LayerShape
from scholarch.searchspace.transformers.text_stem import TextStemSpec
from scholarch.supernet.distil.patches import fit_patches

SHAPE = EncoderShape(16, (LayerShape(2, 32, 0),))
STYLE = EncoderStyle(head_dim=8, pool="first")


def vit():
    network = Encoder(PatchStemSpec(8, 4), STYLE, SHAPE, num_classes=3, seed=1).eval()
    with torch.no_grad():
        network.stem.conv.bias.add_(0.3)
    return network


def drawn(*size):
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def test_another_normalisation_is_taken_into_the_weights():
    given, wanted = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)), ((0.1, 0.6, 0.5), (0.5, 0.4, 0.3))
    images = drawn(2, 3, 32, 32).sigmoid()

    def normal(pair):
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in pair)
        return (images - mean) / std

    network = vit()
    fitted = fit_patches(network, network.spec, given=given, wanted=wanted)
    with torch.no_grad():
        assert torch.allclose(fitted(normal(wanted)), network(normal(given)), atol=1e-5)
        assert not torch.allclose(network(normal(wanted)), network(normal(given)), atol=1e-2)


@pytest.mark.parametrize("side", [1, 2, 3, 16])
def test_patches_of_another_size_are_seen_as_if_resized(side):
    """Patch by patch, as loops would: each brought to 8 pixels, then the ViT's own."""
    network = vit()
    spec = PatchStemSpec(side, 4)
    images = drawn(2, 3, 4 * side, 4 * side)
    large = torch.zeros(2, 3, 32, 32)
    for i in range(4):
        for j in range(4):
            patch = images[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side]
            bigger = functional.interpolate(patch, (8, 8), mode="bilinear", antialias=True)
            large[:, :, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8] = bigger
    fitted = fit_patches(network, spec)
    assert fitted.spec == spec
    with torch.no_grad():
        assert torch.allclose(fitted(images), network(large), atol=1e-5)


def test_positions_of_another_grid_are_interpolated_and_the_first_stays():
    network = vit()
    fitted = fit_patches(network, PatchStemSpec(8, 2))
    table, other = network.stem.positions.weight, fitted.stem.positions.weight
    assert other.shape == (5, 16)
    assert torch.equal(other[0], table[0])
    assert not torch.equal(other[1], table[1])
    assert fitted(drawn(1, 3, 16, 16)).shape == (1, 3)


def test_what_cannot_be_fitted_is_refused():
    text = Encoder(TextStemSpec(20, 8), STYLE, SHAPE, num_classes=3)
    with pytest.raises(InvalidInputError, match="this encoder's inputs are no images"):
        fit_patches(text, PatchStemSpec(8, 4))
    with pytest.raises(InvalidInputError, match="images of 3 channels, its students of 1"):
        fit_patches(vit(), PatchStemSpec(8, 4, in_channels=1))

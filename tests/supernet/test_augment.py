"""Each augmentation against a slow one of its own, and the choice by data set."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scholarch.searchspace.errors import InvalidInputError, UnknownNameError
from scholarch.supernet.augment import AUGMENTS, Augment, _span, augment_for, augment_generator
from scholarch.supernet.randaugment import OPERATIONS, _matrices, _pixelwise, _warp, rand_augment


def make_images(count=32, side=8, channels=3, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, channels, side, side))
    return torch.from_numpy(pixels).float() / 255


def generator(step=0, rank=0, seed=0):
    return augment_generator(seed, step, rank)


EVERYTHING = Augment(2, "reflect", True, randaugment=2, magnitude=20, jitter=0.4, erase=0.5)


@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_a_crop_is_a_window_of_the_padded_image(padding):
    images = make_images()
    mode = "constant" if padding == "zero" else "reflect"
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3), mode=mode)
    out = Augment(crop_padding=3, padding=padding)(images, generator())
    found = set()
    for image, wide in zip(out, padded, strict=True):
        windows = {
            (y, x): torch.equal(image, wide[:, y : y + 8, x : x + 8])
            for y in range(7)
            for x in range(7)
        }
        assert any(windows.values())
        found.add(next(place for place, same in windows.items() if same))
    assert len(found) > 16  # of 32 draws among 49 places


def test_offsets_reach_every_place_evenly():
    images = torch.zeros(4900, 1, 5, 5)
    images[:, :, 2, 2] = 1.0
    out = Augment(crop_padding=2)(images, generator())
    hits = out.sum(0)[0]
    assert hits.sum() == 4900
    assert (hits - 196).abs().max() < 5 * 14


def test_half_of_the_images_are_flipped():
    images = make_images(400)
    out = Augment(flip=True)(images, generator())
    kept = (out == images).flatten(1).all(1)
    flipped = (out == images.flip(3)).flatten(1).all(1)
    assert (kept ^ flipped).all()
    assert 150 < int(flipped.sum()) < 250


def test_erasing_fills_one_rectangle_of_the_stated_size():
    images = torch.full((300, 3, 32, 32), 0.5)  # no byte is 0.5
    out = Augment(erase=0.4)(images, generator())
    changed = out != 0.5
    hit = changed.flatten(1).any(1)
    assert 80 < int(hit.sum()) < 160
    for mask in changed[hit]:
        assert torch.equal(mask[0], mask[1])
        rows, columns = mask[0].any(1), mask[0].any(0)
        assert torch.equal(mask[0], rows[:, None] & columns[None])
        for side in (rows, columns):  # in a row
            places = side.nonzero()[:, 0]
            assert int(places[-1] - places[0]) + 1 == len(places)
    share = changed[hit][:, 0].float().mean((1, 2))
    assert 0.01 < float(share.min()) < 0.06
    assert 0.3 < float(share.max()) < 0.42
    assert out.min() >= 0
    assert out.max() <= 1


def test_erased_sides_have_their_length_and_lie_inside():
    drawn, length = torch.linspace(0, 0.999, 50), torch.arange(50) % 12 + 1.0
    spans = _span(drawn, length, 12)
    assert torch.equal(spans.sum(1), length.long())
    assert spans[0, 0]
    assert spans[-1, -1]


@pytest.mark.parametrize("field", ["crop_padding", "flip", "randaugment", "jitter", "erase"])
def test_no_augmentation_writes_into_the_images(field):
    images = make_images()
    before = images.clone()
    value = {"flip": True, "jitter": 0.5, "erase": 1.0}.get(field, 2)
    assert not torch.equal(Augment(**{field: value})(images, generator()), before)
    assert torch.equal(images, before)


def test_to_switch_one_thing_on_does_not_redraw_the_others():
    images = make_images()
    plain = Augment(crop_padding=2)(images, generator())
    erased = Augment(crop_padding=2, erase=1.0)(images, generator())
    same = (plain == erased).float().mean()
    assert 0.4 < same < 0.98


@pytest.mark.parametrize("channels", [1, 3])
def test_the_result_is_a_function_of_seed_step_and_rank(channels):
    images = make_images(channels=channels)
    before = images.clone()
    out = EVERYTHING(images, generator(3, 1, 2))
    assert torch.equal(images, before)
    assert torch.equal(out, EVERYTHING(images, generator(3, 1, 2)))
    for other in (generator(4, 1, 2), generator(3, 0, 2), generator(3, 1, 0), generator(1, 3, 2)):
        assert not torch.equal(out, EVERYTHING(images, other))
    assert out.shape == images.shape
    assert out.dtype == torch.float32
    assert out.min() >= 0
    assert out.max() <= 1


def test_nothing_to_do_returns_the_images_themselves():
    images = make_images()
    rng = generator()
    state = rng.get_state()
    assert Augment(padding="reflect", magnitude=3)(images, rng) is images
    assert torch.equal(rng.get_state(), state)


def test_json_gives_the_same_augmentation_again():
    assert Augment(**EVERYTHING.to_json()) == EVERYTHING


@pytest.mark.parametrize(
    "fields",
    [
        {"crop_padding": -1},
        {"padding": "wrap"},
        {"randaugment": -1},
        {"magnitude": 31},
        {"jitter": 1.0},
        {"erase": 1.5},
        {"erase": math.nan},
    ],
)
def test_values_out_of_range_are_refused(fields):
    with pytest.raises(InvalidInputError, match=next(iter(fields))):
        Augment(**fields)


def test_a_crop_by_the_whole_side_is_refused():
    with pytest.raises(InvalidInputError, match="8x8"):
        Augment(crop_padding=8)(make_images(), generator())


def test_brightness_contrast_and_colour_are_scaled_by_their_factors():
    images = make_images(2) * 0.5 + 0.25
    signed = torch.tensor([0.2, -0.2]).view(2, 1, 1, 1)
    factor = 1 + 0.9 * signed
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = grey.mean((1, 2, 3), keepdim=True)
    expected = {
        "brightness": images * factor,
        "contrast": mean + (images - mean) * factor,
        "colour": grey + (images - grey) * factor,
    }
    for name, value in expected.items():
        out = _pixelwise(name, images, 0.2, signed)
        torch.testing.assert_close(out, value.clamp(0, 1))


def test_posterize_keeps_the_upper_bits_and_solarize_inverts_the_bright():
    images = make_images(2)
    values = (images * 255).round().int()
    signed = torch.zeros(2, 1, 1, 1)
    out = _pixelwise("posterize", images, 0.5, signed)  # 6 bits
    assert torch.equal((out * 255).round().int(), values & 0b11111100)
    out = _pixelwise("posterize", images, 0.0, signed)
    assert torch.equal((out * 255).round().int(), values)
    out = _pixelwise("solarize", images, 0.4, signed)
    torch.testing.assert_close(out, torch.where(images >= 0.6, 1 - images, images))


def test_autocontrast_and_equalize_use_the_whole_range():
    images = make_images(2, side=16) * 0.3 + 0.2
    images[1, 1] = 0.25  # a channel of one value stays as it is
    for name in ("autocontrast", "equalize"):
        out = _pixelwise(name, images, 0.0, torch.zeros(2, 1, 1, 1))
        assert torch.equal(out[1, 1], images[1, 1])
        assert out[0].amin() == 0
        torch.testing.assert_close(out[0].amax((1, 2)), torch.ones(3))
        order = images[0, 0].flatten().argsort()
        assert (out[0, 0].flatten()[order].diff() >= -1e-6).all()
    values = (images[0, 0] * 255).round().numpy()
    below = (values[..., None, None] >= values).sum((2, 3))  # the cdf, pixel by pixel
    expected = (below - below.min()) / (values.size - below.min())
    out = _pixelwise("equalize", images, 0.0, torch.zeros(2, 1, 1, 1))
    assert np.allclose(out[0, 0], expected, atol=1e-6)


def test_sharpness_blends_with_a_mean_and_leaves_the_border():
    images = make_images(1)
    out = _pixelwise("sharpness", images, 1.0, torch.tensor(-1 / 0.9).view(1, 1, 1, 1))
    expected = images.clone()
    for y in range(1, 7):
        for x in range(1, 7):
            near = images[:, :, y - 1 : y + 2, x - 1 : x + 2].sum((2, 3))
            expected[:, :, y, x] = (near + 4 * images[:, :, y, x]) / 13
    torch.testing.assert_close(out, expected)


def test_geometric_operations_move_pixels_where_they_say():
    names = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
    image = make_images(1, side=20)

    def moved(name, signed):
        return _warp(image, _matrices(torch.tensor([names.index(name)]), torch.tensor([signed])))

    for name in names:
        torch.testing.assert_close(moved(name, 0.0), image, atol=1e-5, rtol=0)
    # 0.45 of 20 pixels are 9.
    torch.testing.assert_close(
        moved("translate_x", 1.0)[..., :11], image[..., 9:], atol=1e-5, rtol=0
    )
    assert moved("translate_x", 1.0)[..., 11:].abs().max() < 1e-5
    torch.testing.assert_close(
        moved("translate_y", -1.0)[..., 9:, :], image[..., :11, :], atol=1e-5, rtol=0
    )
    # Three times 30 degrees is a quarter turn.
    quarter = moved("rotate", 3.0)
    turns = [torch.rot90(image, k, (2, 3)) for k in (1, 3)]
    assert min(float((quarter - turn).abs().max()) for turn in turns) < 1e-4
    # A shear moves rows against each other; the two middle rows hardly.
    sheared = moved("shear_x", 1.0)
    assert not torch.allclose(sheared[:, :, 0], image[:, :, 0], atol=0.1)


def test_rand_augment_draws_every_operation():
    flat = torch.full((2000, 3, 6, 6), 0.25)
    flat[:, :, :3] = 0.8
    out = rand_augment(flat, 1, 15, generator())
    groups = torch.unique(out.mul(1000).round(), dim=0)
    # identity, and the others to one or two sides; sharpness and colour leave flat grey alone.
    assert len(groups) >= len(OPERATIONS)
    untouched = (out == flat).flatten(1).all(1).float().mean()
    assert 2 / 14 - 0.05 < untouched < 3 / 14 + 0.05


def test_magnitude_zero_changes_little_and_thirty_much():
    images = make_images(200, side=12)
    weak = (rand_augment(images, 1, 3, generator()) - images).abs().mean()
    strong = (rand_augment(images, 1, 30, generator()) - images).abs().mean()
    assert strong > 1.5 * weak > 0


@pytest.mark.parametrize(
    ("name", "flip"),
    [
        ("digits", False),
        ("MNIST", False),
        ("kmnist", False),
        ("emnist-letters", False),
        ("svhn_cropped", False),
        ("USPS", False),
        ("fashion-mnist", True),
        ("FashionMNIST", True),
        ("cifar-10-batches-py", True),
        ("cifar10_5k", True),
        ("flowers", True),
    ],
)
def test_only_what_stays_itself_in_a_mirror_is_flipped(name, flip):
    data = SimpleNamespace(name=name, resolution=32, modality="image")
    for policy in ("light", "auto", "strong"):
        assert augment_for(data, policy).flip is flip
    assert augment_for(data, "none") == Augment()


def test_policies_by_data_set():
    def chosen(name, policy="auto", resolution=32):
        return augment_for(
            SimpleNamespace(name=name, resolution=resolution, modality="image"), policy
        )

    assert chosen("cifar10") == Augment(crop_padding=4, flip=True)
    assert chosen("cifar10", "strong") == Augment(
        4, flip=True, randaugment=2, magnitude=9, erase=0.1
    )
    assert chosen("digits") == Augment(crop_padding=2)
    assert chosen("fashion", resolution=28) == Augment(3, flip=True, erase=0.25)
    assert chosen("fashion", "light", resolution=28) == Augment(3, flip=True)
    assert chosen("birds", resolution=64) == Augment(8, "reflect", flip=True)
    assert chosen("digits", resolution=8).crop_padding == 1
    with pytest.raises(UnknownNameError, match="stronger"):
        chosen("digits", "stronger")
    assert all(isinstance(chosen("digits", policy), Augment) for policy in AUGMENTS)

"""Batches are a function of the step; ranks share an epoch without overlap."""

import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch

from scholarch.data import load_data
from scholarch.searchspace.errors import InvalidInputError
from scholarch.supernet.augment import Augment
from scholarch.supernet.loader import LabelledImages, Loader, batches, normalise


class Part(NamedTuple):
    images: np.ndarray
    labels: np.ndarray


def make_part(count, side=4):
    """Image i is filled with the value i, its label is i."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, side, side, 3)
    )
    return Part(images, np.arange(count, dtype=np.int64))


def test_images_belong_to_their_labels():
    images, labels = Loader(make_part(23), batch_size=5, seed=0).batch(7)
    assert images.shape == (5, 3, 4, 4)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)


def test_channels_and_pixels_keep_their_places():
    rng = np.random.default_rng(0)
    part = Part(rng.integers(0, 256, (6, 5, 5, 3), dtype=np.uint8), np.arange(6))
    images, labels = Loader(part, batch_size=6, seed=3).batch(0)
    expected = part.images[labels.numpy()].transpose(0, 3, 1, 2) / np.float32(255)
    assert np.array_equal(images.numpy(), expected)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_shows_each_image_at_most_once_and_drops_the_rest(world_size):
    loader = Loader(make_part(23), batch_size=3, seed=1)
    steps = loader.steps_per_epoch(world_size)
    assert steps == 23 // (3 * world_size)
    seen = [
        label
        for step in range(steps)
        for rank in range(world_size)
        for label in loader.batch(step, rank, world_size)[1].tolist()
    ]
    assert len(seen) == len(set(seen)) == steps * 3 * world_size


def test_ranks_share_the_batch_that_one_process_would_take():
    loader = Loader(make_part(24), batch_size=2, seed=1)
    whole = Loader(make_part(24), batch_size=6, seed=1)
    for step in (0, 3, 5):
        shares = [loader.batch(step, rank, 3)[1] for rank in range(3)]
        assert torch.equal(torch.cat(shares), whole.batch(step)[1])


def test_epochs_and_seeds_differ_in_order():
    loader = Loader(make_part(24), batch_size=24, seed=0)
    orders = [loader.batch(step)[1].tolist() for step in range(4)]
    orders.append(Loader(make_part(24), batch_size=24, seed=1).batch(0)[1].tolist())
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5


def test_any_step_can_be_asked_for_in_any_order():
    augment = Augment(crop_padding=1, flip=True, randaugment=1, erase=0.5, jitter=0.2)
    rng = np.random.default_rng(0)
    part = Part(rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8), np.arange(20))
    forward = Loader(part, batch_size=6, seed=5, augment=augment)
    in_order = [forward.batch(step) for step in range(8)]
    fresh = Loader(part, batch_size=6, seed=5, augment=augment)
    for step in (7, 2, 5, 0):
        images, labels = fresh.batch(step)
        assert torch.equal(images, in_order[step][0])
        assert torch.equal(labels, in_order[step][1])


def test_steps_and_ranks_augment_differently():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    part = Part(np.repeat(image, 4, axis=0), np.zeros(4, dtype=np.int64))
    loader = Loader(part, batch_size=2, seed=0, augment=Augment(crop_padding=3, flip=True))
    shown = [loader.batch(step, rank, 2)[0] for step in (0, 1) for rank in (0, 1)]
    assert not any(torch.equal(a, b) for i, a in enumerate(shown) for b in shown[:i])


def test_augmenting_leaves_the_stored_images_alone():
    loader = Loader(make_part(4), batch_size=4, seed=0, augment=Augment(erase=1.0))
    loader.batch(0)
    loader.augment = None
    images, labels = loader.batch(0)
    assert torch.equal(
        (images * 255).round().long(), labels[:, None, None, None].expand(images.shape)
    )


@pytest.mark.parametrize("size", [0, 24, True, 2.0])
def test_a_batch_beyond_the_part_is_refused(size):
    with pytest.raises(InvalidInputError, match=r"23 images; need a whole number from 1 to 23"):
        Loader(make_part(23), batch_size=size, seed=0)


def test_a_global_batch_beyond_the_part_is_refused():
    loader = Loader(make_part(23), batch_size=8, seed=0)
    with pytest.raises(InvalidInputError, match="at most 7"):
        loader.batch(0, 0, 3)
    with pytest.raises(InvalidInputError, match="rank 2 of 2"):
        loader.batch(0, 2, 2)
    with pytest.raises(InvalidInputError, match="step -1"):
        loader.batch(-1)
    with pytest.raises(InvalidInputError, match="seed -1"):
        Loader(make_part(23), batch_size=8, seed=-1)


def test_read_only_images_are_taken_without_a_warning():
    part = make_part(6)
    part.images.flags.writeable = False
    part.labels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Loader(part, batch_size=2, seed=0).batch(0)
        list(batches(part, 4))


def test_batches_go_once_through_the_part_in_order():
    shown = list(batches(make_part(10), 4))
    assert [len(labels) for _, labels in shown] == [4, 4, 2]
    images, labels = (torch.cat(tensors) for tensors in zip(*shown, strict=True))
    assert labels.tolist() == list(range(10))
    assert torch.equal((images[:, 2, 3, 3] * 255).round().long(), labels)


def test_batches_of_a_random_subset_are_fixed_by_the_seed():
    def chosen(seed, limit=4):
        return [
            i
            for _, labels in batches(make_part(50), 3, limit=limit, seed=seed)
            for i in labels.tolist()
        ]

    assert chosen(0) == chosen(0)
    assert len(set(chosen(0))) == 4
    assert chosen(0) != chosen(1)
    assert chosen(0) != list(range(4))
    assert chosen(None) == list(range(4))
    assert sorted(chosen(0, limit=99)) == list(range(50))


def test_batches_refuse_an_empty_part_at_once():
    with pytest.raises(InvalidInputError, match="no images"):
        batches(make_part(0), 4)
    with pytest.raises(InvalidInputError, match="limit 0"):
        batches(make_part(5), 4, limit=0)
    with pytest.raises(InvalidInputError, match="batches of 0"):
        batches(make_part(5), 0)


def test_normalise_agrees_with_a_batch_of_the_data_set():
    data: LabelledImages = load_data("digits")
    batch = data.batch(8, seed=0)
    assert torch.equal(normalise(batch.images, data.mean, data.std), batch.normalised)
    with pytest.raises(InvalidInputError, match="1 means"):
        normalise(batch.images, (0.5,), (0.5,))

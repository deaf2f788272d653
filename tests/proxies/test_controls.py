"""Each control takes from the teacher what it says, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from scholarch.proxies.controls import (
    constant,
    labels_only,
    permuted_channels,
    shuffled_images,
)
from scholarch.proxies.taps import Taps
from scholarch.searchspace.errors import InvalidInputError

CONTROLS: dict[str, Callable[[Taps], Taps]] = {
    "permuted_channels": partial(permuted_channels, seed=3),
    "shuffled_images": partial(shuffled_images, seed=3),
    "constant": constant,
}


def make_taps(images: int = 6, *, classifier: bool = True) -> Taps:
    generator = torch.Generator().manual_seed(1)
    early = torch.rand(images, 8, 8, 8, generator=generator)
    final = torch.rand(images, 16, 4, 4, generator=generator)
    pooled = final.mean(dim=(2, 3))
    if not classifier:
        return Taps((early, final), final, pooled)
    weight = torch.randn(5, 16, generator=generator)
    return Taps((early, final), final, pooled, pooled @ weight.T, weight)


def tensors(taps: Taps) -> list[Tensor]:
    optional = [t for t in (taps.logits, taps.classifier) if t is not None]
    return [*taps.stages, taps.final_map, taps.pooled, *optional]


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("classifier", [True, False])
class TestEveryControl:
    def test_is_pure_and_keeps_shapes(self, name: str, classifier: bool) -> None:
        taps = make_taps(classifier=classifier)
        before = [t.clone() for t in tensors(taps)]
        changed = CONTROLS[name](taps)
        assert all(map(torch.equal, tensors(taps), before))
        assert [t.shape for t in tensors(changed)] == [t.shape for t in before]
        assert all(map(torch.equal, tensors(changed), tensors(CONTROLS[name](taps))))
        assert (changed.logits is None) == (not classifier)

    def test_stays_one_network(self, name: str, classifier: bool) -> None:
        changed = CONTROLS[name](make_taps(classifier=classifier))
        torch.testing.assert_close(changed.final_map.mean(dim=(2, 3)), changed.pooled)
        assert torch.equal(changed.stages[-1], changed.final_map)
        if changed.logits is not None and changed.classifier is not None:
            torch.testing.assert_close(changed.pooled @ changed.classifier.T, changed.logits)


def test_permuted_channels_are_the_same_channels() -> None:
    taps = make_taps()
    changed = permuted_channels(taps, seed=3)
    assert changed.logits is taps.logits
    assert not torch.equal(changed.final_map, taps.final_map)
    for before, after in zip(taps.stages, changed.stages, strict=True):
        assert torch.equal(before.sum(dim=(0, 2, 3)).sort()[0], after.sum(dim=(0, 2, 3)).sort()[0])


@pytest.mark.parametrize("images", [2, 3, 64])
@pytest.mark.parametrize("seed", range(5))
def test_no_image_keeps_its_teacher(images: int, seed: int) -> None:
    taps = make_taps(images)
    changed = shuffled_images(taps, seed)
    assert not (changed.pooled == taps.pooled).all(dim=1).any()
    order = [int((taps.pooled == row).all(dim=1).nonzero()) for row in changed.pooled]
    assert sorted(order) == list(range(images))
    for before, after in zip(tensors(taps)[:-1], tensors(changed)[:-1], strict=True):
        assert torch.equal(before[order], after)
    assert changed.classifier is taps.classifier


def test_seeds_shuffle_differently() -> None:
    taps = make_taps(64)
    for control in (shuffled_images, permuted_channels):
        a, b = control(taps, seed=0), control(taps, seed=1)
        assert not torch.equal(a.final_map, b.final_map)


def test_one_image_cannot_be_shuffled() -> None:
    with pytest.raises(InvalidInputError, match=r"at least 2 images; the teacher saw 1"):
        shuffled_images(make_taps(1))


def test_constant_says_the_same_of_every_image() -> None:
    taps = make_taps()
    for before, after in zip(tensors(taps)[:-1], tensors(constant(taps))[:-1], strict=True):
        assert (after == after[:1]).all()
        torch.testing.assert_close(after[0], before.mean(dim=0))


@pytest.mark.parametrize("num_classes", [3, 8, 20])
@pytest.mark.parametrize("classifier", [True, False])
def test_labels_only_knows_the_labels_only(num_classes: int, classifier: bool) -> None:
    """With fewer, as many and more classes than channels."""
    labels = torch.tensor([0, 2, 1, 2, 0, 2])
    taps = make_taps(classifier=classifier)
    known = labels_only(taps, labels, num_classes)
    one_hot = torch.nn.functional.one_hot(labels, num_classes).float()
    for before, after in zip(tensors(taps)[:-1], tensors(known)[:-1], strict=True):
        assert after.shape[2:] == before.shape[2:]
        assert after.shape[1] >= min(before.shape[1], num_classes)
        flat = after if after.dim() == 2 else after.mean(dim=(2, 3))
        assert torch.equal(flat[:, :num_classes], one_hot)
        assert not flat[:, num_classes:].any()
    assert known.final_map.shape[1] == max(16, num_classes)
    assert torch.equal(known.final_map.mean(dim=(2, 3)), known.pooled)
    assert torch.equal(known.stages[-1], known.final_map)
    if classifier:
        assert known.classifier is not None
        assert known.logits is not None
        assert torch.equal(known.logits, one_hot)
        assert torch.equal(known.pooled @ known.classifier.T, known.logits)
    else:
        assert known.logits is None
        assert known.classifier is None


def test_labels_only_of_other_images() -> None:
    with pytest.raises(InvalidInputError, match="5 labels for the 6 images"):
        labels_only(make_taps(), torch.zeros(5, dtype=torch.int64), 3)

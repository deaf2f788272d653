"""Once-for-all's ResNet-50-D against the network itself, and its dictionaries."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.searchspace.space import SearchSpace

SPACE = create_space("resnet50", num_classes=1000)


def text(
    d: Any = (2, 1, 2, 2, 1), e: Any = (0.25,) * 18, w: Any = (2, 2, 2, 2, 2, 2), **more: Any
) -> str:
    return json.dumps({"d": d, "e": e, "w": w} | more)


def costs(space: SearchSpace, arch: str) -> tuple[int, int, int]:
    columns = space.cost([space.parse(arch)])
    return tuple(int(columns[name][0]) for name in ("params", "macs", "depth"))  # type: ignore[return-value]


def test_size_counts_combinations() -> None:
    assert SPACE.size == 2 * 3**4 * 3**18 * 3**6
    assert SPACE.resolution == 224


def test_golden_costs() -> None:
    # timm's resnet50d has the same layers; its stem lacks the residual, which costs nothing.
    assert costs(SPACE, text()) == (25_576_264, 4_328_824_832, 52)
    largest = text([2] * 5, [0.35] * 18, [2] * 6)
    assert costs(SPACE, largest) == (48_105_992, 7_491_643_904, 58)
    smallest = text([0] * 5, [0.2] * 18, [0] * 6)
    assert costs(SPACE, smallest) == (6_539_280, 962_192_128, 33)


def test_resnet50d_costs_what_timms_does() -> None:
    from scholarch.teachers.timm_import import import_timm

    with torch.device("meta"):
        network = import_timm().create_model("resnet50d").eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    params = sum(parameter.numel() for parameter in network.parameters())
    assert costs(SPACE, text()) == (params, counter.get_total_flops() // 2, 52)


def test_absent_blocks_and_equal_widths_share_a_key() -> None:
    base = SPACE.parse(text([0] * 5))
    # Behind the two blocks of the first stage, two are absent.
    absent = SPACE.parse(text([0] * 5, [0.25] * 2 + [0.35] * 2 + [0.25] * 14))
    present = SPACE.parse(text([0] * 5, [0.25] + [0.35] + [0.25] * 16))
    assert base.key == absent.key != present.key
    # Half of 40 and half of 48 channels both round to 24.
    one, two = (SPACE.parse(text(w=[w, 1, 1, 1, 1, 1])) for w in (0, 1))
    assert one.key == two.key != SPACE.parse(text(w=[2, 1, 1, 1, 1, 1])).key
    assert SPACE.build(one).state_dict().keys() == SPACE.build(two).state_dict().keys()


def test_distinct_networks_of_a_stage() -> None:
    """2 to 4 blocks of three ratios each: 9 + 27 + 81."""
    grid = np.indices((3, 3, 3, 3, 3)).reshape(5, -1).T
    matrix = np.zeros((len(grid), len(SPACE.genes)), dtype=np.int64)
    matrix[:, 1] = grid[:, 0]
    matrix[:, 5:9] = grid[:, 1:]
    assert len(set(SPACE.keys(matrix))) == 117
    assert 117**3 * 1053 * 3**4 * (2 * 2 * 3) == 1_639_276_531_308


@pytest.mark.parametrize(
    ("arch", "complaint"),
    [
        ("[1, 2]", "exactly the keys d, e and w"),
        (text(r=224), "exactly the keys d, e and w"),
        (text(d=[2, 1]), "d of 'resnet50' needs a list of 5"),
        (text(d=[1, 1, 1, 1, 1]), "d0 = 1 is not one of 0, 2"),
        (text(e=[0.3] * 18), "e0 = 0.3 is not one of 0.2, 0.25, 0.35"),
        (text(w=["a"] * 6), "'a', which is no number"),
        (text(w=[3] * 6), "w0 = 3 is not one of 0, 1, 2"),
        (text(e=[float("nan")] * 18), "e0 = nan"),
        ("[" * 100_000, "exactly the keys"),
    ],
)
def test_foreign_dictionaries_are_refused_by_name(arch: str, complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        SPACE.parse(arch)


def test_width_mult_keeps_multiples_of_eight() -> None:
    half = create_space("resnet50", width_mult=0.5)
    network = half.build(half.parse(text()))
    channels = {m.out_channels for m in network.modules() if isinstance(m, torch.nn.Conv2d)}
    assert all(c % 8 == 0 for c in channels)
    assert max(channels) == 1024
    with pytest.raises(InvalidInputError, match="width_mult = 5"):
        create_space("resnet50", width_mult=5)

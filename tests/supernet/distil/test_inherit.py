"""Weights selected from a teacher."""

from __future__ import annotations

import pytest
import torch

from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space
from scholarch.supernet.distil.inherit import evenly_spaced, inherit_from


@pytest.fixture(scope="module")
def space():
    return create_space("resnet-cifar", num_classes=10, resolution=16)


def test_a_network_inherits_all_of_itself(space) -> None:
    arch = space.sample(1, seed=0)[0]
    student, teacher = space.build(arch, seed=0), space.build(arch, seed=1)
    found = inherit_from(student, teacher)
    assert found.share == 1.0
    assert found.kept == ()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(student.eval()(images), teacher.eval()(images))


def test_layers_that_share_channels_select_the_same(space) -> None:
    teacher = space.build(space.parse("16-16x3-32x3-64x3"), seed=1)
    student = space.build(space.parse("8-8x1-16x2-32x3"), seed=0)
    assert inherit_from(student, teacher).share == 1.0
    ours, theirs = student.state_dict(), teacher.state_dict()
    rows, columns = evenly_spaced(8, 16), evenly_spaced(8, 16)
    name = "layer1.0.conv1.weight"
    assert torch.equal(ours[name], theirs[name][rows][:, columns])
    assert torch.equal(ours["fc.weight"], theirs["fc.weight"][:, evenly_spaced(32, 64)])


def test_what_the_teacher_has_not_stays(space) -> None:
    teacher = space.build(space.parse("16-16x1-32x1-64x3"), seed=1)
    student = space.build(space.parse("16-16x2-32x1-64x3"), seed=0)
    before = student.layer1[1].conv1.weight.detach().clone()
    found = inherit_from(student, teacher)
    assert 0.5 < found.share < 1.0
    assert "layer1.1.conv1.weight" in found.kept
    assert torch.equal(student.layer1[1].conv1.weight, before)


def test_a_stranger_is_refused(space) -> None:
    stranger = create_space("nasbench-macro", num_classes=10, resolution=16)
    teacher = stranger.build(stranger.sample(1, seed=0)[0])
    with pytest.raises(InvalidInputError, match=r"0 % of the student's .* need 50 %"):
        inherit_from(space.build(space.sample(1, seed=0)[0]), teacher)


def test_evenly_spaced_is_increasing_and_inside() -> None:
    for many in range(1, 40):
        for few in range(1, many + 1):
            chosen = evenly_spaced(few, many)
            assert len(set(chosen.tolist())) == few
            assert int(chosen.min()) >= 0
            assert int(chosen.max()) < many

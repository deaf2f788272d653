"""Spaces derived from teachers, and how a teacher's shape is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scholarch.proxies.teacher_shape import find_teacher_shape
from scholarch.searchspace.convnets.derived import TeacherShape, derive_space
from scholarch.searchspace.convnets.resnet_cifar_net import CifarResNet
from scholarch.searchspace.errors import InvalidInputError
from scholarch.searchspace.factory import create_space

SHAPES = {
    "basic": TeacherShape(2, ((24, 2, 2), (24, 1, 1), (40, 9, 2)), "basic"),
    # Stem and first stage of equal widths: the shortcut is the identity there.
    "bottleneck": TeacherShape(4, ((8, 3, 1), (64, 2, 1), (128, 4, 4)), "bottleneck"),
    "mbconv": TeacherShape(1, ((16, 3, 1), (16, 2, 2), (40, 3, 2), (40, 1, 1)), "mbconv"),
}


@pytest.mark.parametrize("kind", SHAPES)
class TestEveryKind:
    """What the conformance suite does for ``basic`` blocks alone."""

    def test_costs_equal_the_built_networks_count(self, kind: str) -> None:
        space = derive_space(SHAPES[kind], num_classes=7, resolution=64, in_channels=1)
        archs = space.sample(8, seed=3)
        costs = space.cost(archs, resolution=61)
        for i, arch in enumerate(archs):
            network = space.build(arch).eval()
            assert costs["params"][i] == sum(p.numel() for p in network.parameters())
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(torch.zeros(1, 1, 61, 61))
            assert costs["flops"][i] == counter.get_total_flops()
            stages = space.stages(arch, resolution=61)
            assert sum(stage.macs for stage in stages) == costs["macs"][i]

    def test_extraction_is_bit_exact(self, kind: str) -> None:
        space = derive_space(SHAPES[kind], num_classes=7, resolution=64)
        supernet = space.supernet(seed=1).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in [*supernet.parameters(), *supernet.buffers()]:
                if tensor.dim() == 1:
                    tensor.add_(torch.rand(tensor.shape, generator=generator))
            x = torch.randn(3, 3, 33, 33, generator=generator)
            for arch in space.sample(8, seed=2):
                assert torch.equal(supernet(x, arch), supernet.extract(arch)(x))

    def test_spec_makes_an_equal_space(self, kind: str) -> None:
        space = derive_space(SHAPES[kind], num_classes=7, resolution=16, width_mult=0.5)
        again = create_space(**space.spec())
        assert again.spec() == space.spec()
        assert again.genes == space.genes
        arch = space.sample(1, seed=0)[0]
        assert np.array_equal(again.cost([arch])["macs"], space.cost([arch])["macs"])


def test_widths_and_depths_end_at_the_teachers() -> None:
    shape = TeacherShape(1, ((64, 3, 1), (24, 18, 2), (8, 1, 2)))
    space = derive_space(shape, num_classes=10, resolution=32)
    assert [gene.values for gene in space.genes] == [
        *((16, 24, 32, 40, 48, 56, 64), (1, 2, 3)),
        *((8, 16, 24), (1, 4, 8, 11, 15, 18)),
        *((8,), (1,)),
    ]
    assert space.size == 7 * 3 * 3 * 6
    assert space.parse("64x3-24x18-8x1").choices == (6, 2, 2, 5, 0, 0)
    with pytest.raises(InvalidInputError, match="depth2 = 2 is not one of 1, 4, 8"):
        space.parse("64x3-24x2-8x1")
    with pytest.raises(InvalidInputError, match="write it like 64x3-24x18-8x1"):
        space.parse("64x3-24x2")


def test_strides_that_leave_no_map_are_left_out() -> None:
    shape = TeacherShape(4, ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)))
    assert shape.fitted(224) == shape
    # CIFAR's ResNet-18.
    assert shape.fitted(32) == TeacherShape(1, shape.stages)
    assert [stage[2] for stage in shape.fitted(8).stages] == [1, 1, 1, 2]
    assert [stage[2] for stage in shape.fitted(2).stages] == [1, 1, 1, 1]
    assert derive_space(shape, num_classes=10, resolution=64).shape.stem_stride == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": "vit"}, "kind = 'vit'; need one of basic"),
        ({"stem_stride": 3}, "stem_stride = 3"),
        ({"stages": []}, "stages = "),
        ({"stages": "none"}, "stages = 'none'"),
        ({"stages": [[16, 2]]}, "need \\[width, depth, stride\\]"),
        ({"stages": [[16, 2, 1.0]]}, "need \\[width, depth, stride\\]"),
        ({"stages": [[16, 2, 3]]}, "stride 3 of stage"),
    ],
)
def test_a_shape_out_of_range_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInputError, match=complaint):
        create_space("derived", **options)


RESNET = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))
TIMM = {
    "resnet18": TeacherShape(4, RESNET),
    "resnet18d": TeacherShape(4, RESNET),
    "resnet34": TeacherShape(4, ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))),
    "resnet50": TeacherShape(
        4, ((256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2)), "bottleneck"
    ),
    "efficientnet_b0": TeacherShape(
        2, ((16, 1, 1), (24, 2, 2), (40, 2, 2), (112, 6, 2), (320, 5, 2)), "mbconv"
    ),
    "efficientnetv2_rw_t": TeacherShape(
        2, ((24, 2, 1), (40, 4, 2), (48, 4, 2), (128, 15, 2), (208, 14, 2)), "mbconv"
    ),
    "mobilenetv3_small_100": TeacherShape(
        4, ((16, 1, 1), (24, 2, 2), (48, 5, 2), (96, 3, 2)), "mbconv"
    ),
    "convnext_atto": TeacherShape(4, ((40, 2, 1), (80, 2, 2), (160, 6, 2), (320, 2, 2)), "mbconv"),
    "regnetx_002": TeacherShape(
        4, ((24, 1, 1), (56, 1, 2), (152, 4, 2), (368, 7, 2)), "bottleneck"
    ),
    "rexnet_100": TeacherShape(
        2, ((16, 1, 1), (38, 2, 2), (61, 2, 2), (128, 6, 2), (185, 5, 2)), "mbconv"
    ),
    "vgg11_bn": TeacherShape(2, ((128, 1, 1), (256, 1, 2), (512, 1, 2), (512, 1, 2))),
    "densenet121": TeacherShape(
        4, ((256, 6, 1), (512, 12, 2), (1024, 24, 2), (1024, 16, 2)), "bottleneck"
    ),
}


def timm_model(name: str) -> nn.Module:
    from scholarch.teachers.timm_import import import_timm

    # Shapes are all that is looked at.
    with torch.device("meta"):
        network: nn.Module = import_timm().create_model(name)
    return network.eval()


@pytest.mark.parametrize("name", TIMM)
def test_shapes_of_timms_convnets(name: str) -> None:
    images = torch.zeros(1, 3, 224, 224, device="meta")
    shape = find_teacher_shape(timm_model(name), images)
    assert shape == TIMM[name]
    space = derive_space(shape, num_classes=5, resolution=32)
    assert space.size > 100
    arch = space.sample(1, seed=0)[0]
    assert space.build(arch)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_transformers_are_refused_in_words(name: str) -> None:
    images = torch.zeros(1, 3, 224, 224, device="meta")
    with pytest.raises(InvalidInputError, match="one of transformers"):
        find_teacher_shape(timm_model(name), images)


def test_shapes_of_our_own_networks() -> None:
    teacher = CifarResNet((9, 9, 9)).eval()
    shape = find_teacher_shape(teacher, torch.zeros(1, 3, 32, 32))
    assert shape == TeacherShape(1, ((16, 9, 1), (32, 9, 2), (64, 9, 2)))
    for kind, given in SHAPES.items():
        space = derive_space(given, num_classes=7, resolution=64)
        arch = space.decode([[len(gene.values) - 1 for gene in space.genes]])[0]  # type: ignore[arg-type]
        found = find_teacher_shape(space.build(arch).eval(), torch.zeros(1, 3, 64, 64))
        assert found.kind == kind
        assert found.stages[-1][0] == given.stages[-1][0]


def test_a_network_that_does_not_run_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="does not run on images"):
        find_teacher_shape(CifarResNet((1, 1, 1)), torch.zeros(1, 4, 32, 32))
    # On the meta device torch's initialisers draw no random number.
    with torch.device("meta"):
        network, images = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.zeros(1, 3, 2, 2)
    with pytest.raises(InvalidInputError, match="no stages of convolutions"):
        find_teacher_shape(network, images)
